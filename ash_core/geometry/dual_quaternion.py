"""Unit dual quaternions: rigid transforms as (real, dual), both [..., 4] wxyz, translation in m.

Source: Kavan et al. 2007, "Skinning with Dual Quaternions".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.geometry.rotations import (
    length,
    matrix_to_quat,
    quat_conjugate,
    quat_multiply,
    quat_rotate,
    quat_to_matrix,
)


def from_matrix(
    transform: Float[Tensor, "*b 4 4"],
) -> tuple[Float[Tensor, "*b 4"], Float[Tensor, "*b 4"]]:
    """Dual quaternion of a rigid transform; the sign of the pair is free."""
    real = matrix_to_quat(transform[..., :3, :3])
    return real, from_translation(transform[..., :3, 3], real)


def from_translation(
    place: Float[Tensor, "*b 3"], real: Float[Tensor, "*b 4"]
) -> Float[Tensor, "*b 4"]:
    """Dual part of the transform that turns by `real` (unit), then moves by `place` (m)."""
    pure = torch.cat((torch.zeros_like(place[..., :1]), place), -1)
    return 0.5 * quat_multiply(pure, real)


def translation(real: Float[Tensor, "*b 4"], dual: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3"]:
    """Translation of (real, dual), real unit, m."""
    return 2 * quat_multiply(dual, quat_conjugate(real))[..., 1:]


def to_matrix(real: Float[Tensor, "*b 4"], dual: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 4"]:
    """The rigid transform [R | t] of (real, dual), real unit."""
    return torch.cat((quat_to_matrix(real), translation(real, dual)[..., None]), -1)


def apply(
    real: Float[Tensor, "*b 4"], dual: Float[Tensor, "*b 4"], points: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3"]:
    """Move points (m) by (real, dual), real unit."""
    return quat_rotate(real, points) + translation(real, dual)


def blend(
    real: Float[Tensor, "*b k 4"],
    dual: Float[Tensor, "*b k 4"],
    weights: Float[Tensor, "*w k"],
    reference: Float[Tensor, "*b 4"],
) -> tuple[Float[Tensor, "*b 4"], Float[Tensor, "*b 4"]]:
    """Blend k unit dual quaternions per point; weights broadcast over the leading axes.

    Those whose real part is not on the reference's side are flipped first, or q and -q would
    cancel; a dot product of exactly zero counts as the other side. Both parts are divided by the
    real part's length. Source: docs/released_behaviour.md A11.
    """
    w, x, y, z = (real * reference[..., None, :]).split(1, -1)
    same_side = w + x + y + z > 0
    signed = torch.where(same_side, weights[..., None], -weights[..., None])
    real, dual = (signed * real).sum(-2), (signed * dual).sum(-2)
    norm = length(real)
    return real / norm, dual / norm
