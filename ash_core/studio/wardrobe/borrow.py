"""Retargeting of another actor's motion to our own body."""

import numpy as np

from ash_core.records import Skeleton, Skinning
from ash_core.studio.choreography.posing import Score, soft
from ash_core.studio.choreography.stage import Stage


def retarget(
    dofs: np.ndarray, source: Skeleton, target: Skeleton, skinning: Skinning, vertices: np.ndarray
) -> np.ndarray:
    """Retarget a motion: the same angles, the path scaled to our legs, feet on the floor."""
    assert source.dof_names == target.dof_names
    scale = _leg(target) / _leg(source)
    moved = dofs.copy()
    moved[:, :3] *= scale
    stage = Stage(target, skinning, vertices)
    score = Score(target, len(moved))
    score.dofs = moved
    low = np.min(stage.lowest(score), axis=0)
    moved[:, 1] -= soft(low, 1.5)
    limits = target.dof_limits.numpy().astype(float)
    return np.clip(moved, limits[:, 0], limits[:, 1])


def _leg(skeleton: Skeleton) -> float:
    """Return the length of thigh and shin, m."""
    names = skeleton.joint_names
    return sum(
        float(skeleton.offsets[names.index(name)].norm()) for name in ("LeftLeg", "LeftFoot_rx")
    )
