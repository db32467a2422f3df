"""Simulated points in the place of skinned vertices."""

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.cloth.model import ClothModel
from ash_core.geometry.rotations import unit


def drape(
    model: ClothModel, places: Float[Tensor, "*b P 3"], vertices: Float[Tensor, "*b V 3"]
) -> Float[Tensor, "*b V 3"]:
    """Replace skinned vertices by simulated points, and by the linings that follow them; m."""
    device = vertices.device
    result = vertices.clone()
    result[..., torch.from_numpy(model.vertices).to(device), :] = places
    if len(model.followers):
        corners = torch.from_numpy(model.follower_corners).long().to(device)
        weights = torch.from_numpy(model.follower_weights).to(device)
        heights = torch.from_numpy(model.follower_heights).to(device)
        a, b, c = (places[..., corners[:, k], :] for k in range(3))
        feet = weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c
        normals = unit(torch.linalg.cross(b - a, c - a))
        result[..., torch.from_numpy(model.followers).to(device), :] = (
            feet + heights[:, None] * normals
        )
    return result
