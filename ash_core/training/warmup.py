"""The Gaussians that the release's warm-up phase trains its networks towards."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from scipy.spatial import KDTree
from torch import Tensor

from ash_core.records import Atlas

OPACITY = 0.1
NEIGHBOURS = 3
MIN_SQUARE = 1e-7
TINY = 1e-9
WARM_UP_OPACITY_LOGIT = math.log(OPACITY / (1 - OPACITY))
"""Opacity of every Gaussian, as a logit. Source: docs/released_behaviour.md D1."""


@dataclass(frozen=True)
class WarmUpTarget:
    """Part of the target that differs by pose. Colours are the texture's, offsets none."""

    log_scales: Float[Tensor, "N"]
    """The same along all axes, m."""
    quats: Float[Tensor, "N 4"]


def direction_to_quat(direction: Float[Tensor, "N 3"]) -> Float[Tensor, "N 4"]:
    """wxyz, not unit: the shortest turn that takes +x to a direction; nearly zero for -x.

    Source: docs/released_behaviour.md C10 (its small constants keep degenerate directions finite).
    """
    unit = direction / (direction.norm(dim=-1, keepdim=True) + TINY)
    x, y, z = unit.unbind(-1)
    cross = torch.stack((torch.zeros_like(x), -z, y), -1)  # +x times the direction
    axis = cross / (cross.norm(dim=-1, keepdim=True) + TINY)
    cos_half, sin_half = (((1 + side * x) / 2).clamp(min=0).sqrt() for side in (1, -1))
    return torch.cat((cos_half[:, None], axis * sin_half[:, None]), -1)


def published_texel_colours(texture: UInt8[Tensor, "h w 3"], atlas: Atlas) -> Float[Tensor, "N 3"]:
    """Colours of the texture shrunk without antialiasing, then read with v flipped.

    Source: docs/released_behaviour.md A13, D2.
    """
    r = atlas.resolution
    planes = texture.permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(planes, (r, r), mode="bilinear", align_corners=False)
    picture = small[0].permute(1, 2, 0) / 255
    return picture[r - 1 - atlas.texels[:, 1], atlas.texels[:, 0]]


def mean_neighbour_square(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Mean squared distance to the three nearest other points, m^2."""
    cloud = points.double().numpy()
    distance, _ = KDTree(cloud).query(cloud, k=NEIGHBOURS + 1)
    return torch.from_numpy((distance[:, 1:] ** 2).mean(1)).float()


def warm_up_target(means: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]) -> WarmUpTarget:
    """The target of a pose whose texels lie at these places. World, m.

    Source: docs/released_behaviour.md D1, D6, C10.
    """
    return WarmUpTarget(
        log_scales=mean_neighbour_square(means).clamp(min=MIN_SQUARE).sqrt().log(),
        quats=torch.nn.functional.normalize(direction_to_quat(normals), dim=-1),
    )
