"""Motions of other programs on any avatar: .bvh files and poses of SMPL bodies."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ash_core.conventions import FPS
from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_pose_files import POSE_SUFFIXES, read_body_poses
from ash_core.files.body_poses import BodyPoses
from ash_core.files.bvh import Bvh, read_bvh, resample, with_takes
from ash_core.files.io import is_kind
from ash_core.importers.body.body_clip import (
    clip_of_poses,
    find_body_up,
    poses_of_clip,
    stand_up,
    to_kind,
)
from ash_core.importers.body.body_motion import (
    body_kind_of,
    dofs_of_poses,
    expand_hands,
    rest_joints_of,
)
from ash_core.importers.body.plain_figure import PLAIN_NOTE, plain_rest
from ash_core.importers.body.posing import to_pelvis_rule
from ash_core.importers.retarget.retarget import Retargeted, rest_note, retarget_clip
from ash_core.importers.retarget.up_axis import UpAxis
from ash_core.records import AvatarData, Motion, Skeleton

UNKNOWN_FPS: Final = 30.0
"""Rate of pose files that state none: that of AvatarReX and of most cameras."""
AS_ASKED: Final = "as asked for"
Y_UP: Final = UpAxis("y", "the motion is turned so")
NO_HANDS: Final = "the hands stay at rest: their coefficients need --body, the model's file"
BEYOND_DEGREES: Final = 1.0
"""Excess over a joint's limit that is reported."""
MOST_LISTED: Final = 3


@dataclass(frozen=True)
class ForeignMotion:
    """Motion of another program on an avatar's skeleton."""

    motion: Motion
    up: UpAxis
    """Vertical axis of the file's world."""
    notes: tuple[str, ...]
    retargeted: Retargeted | None
    """Deviations of a retargeted motion; None: the file's body is the avatar's, angles are kept."""


def usual_fps(avatar: AvatarData | None) -> float | None:
    """Return the rate to which motions come, 1/s; None: they keep their own.

    Networks of the published kind count frames, which were 25 a second in their training.
    """
    return FPS if avatar is not None and avatar.history_offsets.fps is None else None


def is_body_poses(path: Path | str) -> bool:
    """Check that a file or folder would hold poses of a body, not a .bvh."""
    suffix = Path(path).suffix.lower()
    return suffix in (*POSE_SUFFIXES, ".json") or is_kind(Path.is_dir, Path(path))


def read_foreign_motion(
    path: Path | str,
    skeleton: Skeleton,
    *,
    fps: float | None = None,
    file_fps: float | None = None,
    up: str | None = None,
    body: BodyModel | None = None,
    mapping: Path | None = None,
    avatar: AvatarData | None = None,
    progress: Callable[[float], None] = lambda _done: None,
) -> ForeignMotion:
    """Read a .bvh, or poses of a body (.npz, .pkl, a folder), for a skeleton.

    fps: rate of the result; None keeps the file's. file_fps: the file's own, 1/s; None: what it
    states. up: the file's vertical axis, a key of `body_clip.UP_AXES`; None finds it. body: model
    of the file's body; None: a figure of usual proportions. mapping, avatar, progress: as for
    `read_bvh_motion`. Raises: InputError.
    """
    if not is_body_poses(path):
        clip = _bvh_clip(path, file_fps, up, fps)
        axis = None if up is None else UpAxis(up, AS_ASKED)
        result = retarget_clip(
            clip, skeleton, path, mapping=mapping, avatar=avatar, up=axis, progress=progress
        )
        return ForeignMotion(result.motion, result.up, result.notes, result)
    # Poses of a body; its model file gives proportions, and turns of the hands.
    poses, notes = read_body_poses(path), []
    if body is not None:
        if body.kind != poses.kind:
            text = f"expected a body of the kind {poses.kind.upper()} as in the poses"
            raise InputError(f"--body: {body.path}: {text}, got {body.kind.upper()}")
        poses = expand_hands(poses, body)
    rest = None if body is None else body.joints(body.shaped(poses.betas))
    if poses.fps is None and file_fps is None:
        notes.append(f"the file states no rate: {UNKNOWN_FPS:g} frames a second are assumed")
    poses = replace(poses, fps=file_fps or poses.fps or UNKNOWN_FPS)
    if poses.hand_pca is not None:
        notes.append(NO_HANDS)
    # The avatar's own body keeps the angles; any other skeleton follows the figure.
    if mapping is None and body_kind_of(skeleton) is not None:
        converted = _convert(path, skeleton, poses, rest, up, fps)
        return replace(converted, notes=(*notes, *converted.notes))
    if rest is None:
        notes.append(PLAIN_NOTE)
        rest = plain_rest(poses.kind)
    clip, axis = _upright(clip_of_poses(poses, rest), up)
    if fps is not None:
        clip = resample(clip, fps)
    result = retarget_clip(
        clip, skeleton, path, mapping=mapping, avatar=avatar, up=Y_UP, progress=progress
    )
    return ForeignMotion(result.motion, axis, (*notes, *result.notes), result)


def _bvh_clip(path: Path | str, file_fps: float | None, up: str | None, fps: float | None) -> Bvh:
    """Read a .bvh at the rate that is asked for."""
    if up not in (None, "y", "z"):
        raise InputError(f"--up: expected y or z for a .bvh, got {up}")
    clip = read_bvh(path)
    if file_fps is not None:
        clip = with_takes(replace(clip, fps=file_fps, takes=(0,), rest_frames=0))
    return clip if fps is None else resample(clip, fps)


def _upright(clip: Bvh, up: str | None) -> tuple[Bvh, UpAxis]:
    """Turn a body's motion to Y up; returns the axis that was up, too."""
    axis = find_body_up(clip) if up is None else UpAxis(up, AS_ASKED)
    return stand_up(clip, axis.axis), axis


def _convert(
    path: Path | str,
    skeleton: Skeleton,
    poses: BodyPoses,
    file_rest: Float[ndarray, "J 3"] | None,
    up: str | None,
    fps: float | None,
) -> ForeignMotion:
    """Take a body's angles over to the skeleton of such a body.

    file_rest: joints at rest of the file's body; None: those of the skeleton.
    """
    # The pelvis stands where the file's does; joints that one side lacks stay at rest.
    kind = body_kind_of(skeleton)
    assert kind is not None
    rest = rest_joints_of(skeleton)
    poses = replace(poses, scale=1.0) if file_rest is None else poses
    if file_rest is not None:
        poses = to_pelvis_rule(poses, file_rest)
        shift = poses.scale * file_rest[0] - rest[0]
        poses = replace(poses, translations=poses.translations + shift, scale=1.0)
    poses = to_kind(poses, kind)
    # Y up, at the rate that is asked for, each take by itself.
    clip, axis = _upright(clip_of_poses(poses, rest), up)
    if fps is not None:
        clip = resample(clip, fps)
    converted = poses_of_clip(clip, kind)
    dofs = torch.from_numpy(dofs_of_poses(skeleton, converted))[clip.rest_frames :]
    notes = list(clip.notes)
    if clip.rest_frames:
        notes.append(rest_note(clip.rest_frames))
    notes += _beyond_limits(skeleton, dofs)
    motion = Motion(dofs, fps=clip.fps, name=Path(path).stem)
    return ForeignMotion(motion, axis, tuple(notes), None)


def _beyond_limits(skeleton: Skeleton, dofs: Float[Tensor, "F D"]) -> list[str]:
    """Report the dofs that go farthest beyond their limits, which are kept as they are."""
    low, high = skeleton.dof_limits.to(dofs).unbind(-1)
    excess = torch.maximum(low - dofs, dofs - high)
    worst, frames = excess.max(0)
    order = worst.argsort(descending=True)
    beyond = [int(dof) for dof in order if worst[dof] > np.radians(BEYOND_DEGREES)]
    listed = ", ".join(
        f"{skeleton.dof_names[dof]} by {np.degrees(float(worst[dof])):.0f} degrees "
        f"(frame {int(frames[dof])})"
        for dof in beyond[:MOST_LISTED]
    )
    if not beyond:
        return []
    return [f"{len(beyond)} joint limits are exceeded, which stays as it is: {listed}"]
