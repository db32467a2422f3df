"""Forward kinematics: dofs to joint transforms."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ash_core.geometry.rotations import axis_angle_to_matrix
from ash_core.records import Skeleton

PART_FRAMES = 512
"""Frames of a motion that are posed at once: 10 MB of matrices for 100 joints."""
_cached_schedules = WeakIdKeyDictionary()
"""Rounds of pointer doubling, by a skeleton's parents, which are never changed in place."""


def local_transforms(skeleton: Skeleton, dofs: Float[Tensor, "*b D"]) -> Float[Tensor, "*b J 4 4"]:
    """Compute T_parent_joint of every joint: offset, then slide or turn. dtype of `dofs`."""
    axes, offsets = skeleton.axes.to(dofs), skeleton.offsets.to(dofs)
    values = dofs @ skeleton.dof_matrix.to(dofs).T
    slides = values.masked_fill(~skeleton.is_prismatic, 0.0)[..., None] * axes
    turns = values.masked_fill(skeleton.is_prismatic, 0.0)
    local = torch.zeros(*values.shape, 4, 4, dtype=dofs.dtype, device=dofs.device)
    local[..., :3, :3] = axis_angle_to_matrix(axes.expand(*turns.shape, 3), turns)
    local[..., :3, 3] = offsets + slides
    local[..., 3, 3].fill_(1.0)
    return local


def joint_transforms(skeleton: Skeleton, dofs: Float[Tensor, "*b D"]) -> Float[Tensor, "*b J 4 4"]:
    """Compute T_body_joint of every joint, m. dtype of `dofs`: float64 keeps published numbers.

    Every joint is multiplied with its ancestor 1, 2, 4, ... steps up, so that a chain of 39 joints
    costs six batched products instead of 39.
    """
    glob = local_transforms(skeleton, dofs)
    for ancestors, has_ancestor in doubling_schedule(skeleton.parents):
        up = glob[..., ancestors, :, :]
        glob = torch.where(has_ancestor[:, None, None], up @ glob, glob)
    return glob


def posed_in_parts(
    skeleton: Skeleton, dofs: Float[Tensor, "F D"], joints: Sequence[int]
) -> Float[Tensor, "F n 4 4"]:
    """Compute T_body_joint of some joints over a long motion, in chunks of frames."""
    chosen = list(joints)
    parts = [joint_transforms(skeleton, part)[:, chosen] for part in dofs.split(PART_FRAMES)]
    return torch.cat(parts)


def doubling_schedule(parents: Int[Tensor, "J"]) -> list[tuple[Tensor, Tensor]]:
    """List (ancestor, mask of joints with one) for each round of pointer doubling.

    Cached by the parents: its loop waits for a GPU, which captured work must not.
    """
    if parents not in _cached_schedules:
        _cached_schedules[parents] = _doubling_schedule(parents)
    return _cached_schedules[parents]


def _doubling_schedule(parents: Int[Tensor, "J"]) -> list[tuple[Tensor, Tensor]]:
    ancestors, rounds = parents, []
    while bool((ancestors >= 0).any()):
        exists = ancestors >= 0
        rounds.append((ancestors.clamp(min=0), exists))
        ancestors = torch.where(exists, ancestors[ancestors.clamp(min=0)], -1)
    return rounds
