"""Skinning: bones to vertex transforms, linear and by dual quaternions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ash_core.geometry import dual_quaternion as dq


def lbs_matrices(
    transforms: Float[Tensor, "*b B 4 4"],
    bones: Int[Tensor, "V S"],
    weights: Float[Tensor, "V S"],
) -> Float[Tensor, "*b V 4 4"]:
    """Blend linearly: each vertex's weighted mean of its bones' transforms."""
    return torch.einsum("vs,...vsij->...vij", weights.to(transforms), transforms[..., bones, :, :])


def blend_bones(
    real: Float[Tensor, "*b B 4"],
    dual: Float[Tensor, "*b B 4"],
    bones: Int[Tensor, "V S"],
    weights: Float[Tensor, "V S"],
) -> tuple[Float[Tensor, "*b V 4"], Float[Tensor, "*b V 4"]]:
    """Blend rigid bone transforms (real, dual; m) at each row of `bones` by dual quaternions.

    `Character` calls it for the nodes of the embedded graph.

    The first bone that the skin file lists for a vertex is its sign reference.
    Source: docs/released_behaviour.md A11.
    """
    real, dual = real[..., bones, :], dual[..., bones, :]
    return dq.blend(real, dual, weights.to(real), real[..., 0, :])
