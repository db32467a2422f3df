"""Poses of a body as a motion of a figure, which any skeleton can follow; its up axis."""

from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS, BodyKind, BodyPoses
from ash_core.files.bvh import Bvh, with_takes
from ash_core.importers.body.posing import to_pelvis_rule
from ash_core.importers.retarget.joint_mapping import Tree
from ash_core.importers.retarget.joint_names import body_parts
from ash_core.importers.retarget.up_axis import (
    SOMETIMES,
    UPRIGHT,
    UpAxis,
    height_range,
    standing_bones,
    uprightness,
)

UP_AXES: Final[dict[str, Float[ndarray, "3 3"]]] = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "y-down": np.diag([1.0, -1, -1]),
    "z-down": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "x-down": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
"""Turns of a world to Y up, by its up axis."""
USUAL_UP: Final = ("y", "z", "y-down")
"""Up axes that are looked for: along the others somebody lies rather than stands."""
_SAMPLES: Final = 2_000
"""Frames that are enough to find the up axis."""


def clip_of_poses(poses: BodyPoses, rest_joints: Float[ndarray, "J 3"]) -> Bvh:
    """Return poses, which have a rate, as a motion of the body's joints, m, in the file's world.

    rest_joints: places at rest, m, where every orientation is the identity.
    """
    fps, parents = poses.fps, BODY_PARENTS[poses.kind]
    assert fps is not None
    poses = to_pelvis_rule(poses, rest_joints)
    rest = rest_joints * poses.scale
    offsets = rest - np.where(np.array(parents)[:, None] < 0, 0.0, rest[list(parents)])
    frames, joints = poses.rotations.shape[:2]
    translations = np.broadcast_to(offsets, (frames, joints, 3)).copy()
    translations[:, 0] += poses.translations
    quaternions = Rotation.from_rotvec(poses.rotations.reshape(-1, 3)).as_quat()
    return Bvh(
        names=BODY_JOINTS[poses.kind],
        parents=parents,
        offsets=offsets,
        tips={},
        rotations=quaternions.reshape(frames, joints, 4),
        translations=translations,
        fps=fps,
        notes=poses.notes,
    )


def poses_of_clip(clip: Bvh, kind: BodyKind) -> BodyPoses:
    """Return the poses of a motion of a body's joints, by the rule of the pelvis."""
    frames, joints = clip.rotations.shape[:2]
    rotations = Rotation.from_quat(clip.rotations.reshape(-1, 4)).as_rotvec()
    return BodyPoses(
        kind=kind,
        rotations=rotations.reshape(frames, joints, 3),
        translations=clip.translations[:, 0] - clip.offsets[0],
        root_rule="pelvis",
        betas=np.zeros(0),
        frames=tuple(range(frames)),
        fps=clip.fps,
    )


def turn_world(clip: Bvh, T: Float[ndarray, "4 4"]) -> Bvh:
    """Move a body's motion to a world with Y up by a rigid transform, and find its takes."""
    R = Rotation.from_matrix(T[:3, :3])
    rotations, translations = clip.rotations.copy(), clip.translations.copy()
    rotations[:, 0] = (R * Rotation.from_quat(rotations[:, 0])).as_quat()
    translations[:, 0] = R.apply(translations[:, 0]) + T[:3, 3]
    return with_takes(replace(clip, rotations=rotations, translations=translations))


def find_body_up(clip: Bvh) -> UpAxis:
    """Find the up axis of the world in which a body moves.

    The axis along which it stands most often; who never stands keeps the lowest joint's height.
    """
    step = max(len(clip.rotations) // _SAMPLES, 1)
    part = replace(clip, rotations=clip.rotations[::step], translations=clip.translations[::step])
    places = part.poses()[1]
    _, spans = standing_bones(Tree(clip.names, clip.parents), body_parts(clip.names))
    shares = {
        name: float((uprightness(places @ UP_AXES[name].T, spans, 1) > UPRIGHT).mean())
        for name in USUAL_UP
    }
    best = max(shares, key=shares.__getitem__)
    if shares[best] > SOMETIMES:
        return UpAxis(best, f"the body stands along it in {shares[best]:.0%} of the frames")
    level = min(("y", "z"), key=lambda name: height_range(places, "xyz".index(name)))
    return UpAxis(level, "the lowest joint keeps its height along it")


def to_kind(poses: BodyPoses, kind: BodyKind) -> BodyPoses:
    """Return poses for another kind of body; joints that only one of them has are left at rest."""
    if poses.kind == kind:
        return poses
    names = BODY_JOINTS[poses.kind]
    rotations = np.zeros((len(poses.rotations), len(BODY_JOINTS[kind]), 3))
    for joint, name in enumerate(BODY_JOINTS[kind]):
        if name in names:
            rotations[:, joint] = poses.rotations[:, names.index(name)]
    is_turned = np.abs(poses.rotations).max((0, 2)) > 0
    lost = [name for n, name in enumerate(names) if is_turned[n] and name not in BODY_JOINTS[kind]]
    notes = (f"joints of the file that the body lacks: {', '.join(lost)}",) if lost else ()
    return replace(poses, kind=kind, rotations=rotations, notes=(*poses.notes, *notes))
