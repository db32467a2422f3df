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

from ash_core.conventions import FPS, R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_pose_files import POSE_SUFFIXES, read_body_poses
from ash_core.files.body_poses import BodyPoses
from ash_core.files.bvh import Bvh, read_bvh, resample, with_takes
from ash_core.files.dataset import read_capture_turn
from ash_core.files.io import is_kind
from ash_core.importers.body.body_clip import (
    UP_AXES,
    clip_of_poses,
    find_body_up,
    poses_of_clip,
    to_kind,
    turn_world,
)
from ash_core.importers.body.body_motion import (
    body_kind_of,
    dofs_of_poses,
    expand_hands,
    rest_joints_of,
)
from ash_core.importers.body.plain_figure import PLAIN_NOTE, plain_rest
from ash_core.importers.body.posing import FEET, floor_height, to_pelvis_rule
from ash_core.importers.own_bvh import Deviation, dofs_of_own, metres_of_own
from ash_core.importers.retarget.ground import SOLE_M
from ash_core.importers.retarget.retarget import Retargeted, rest_note, retarget_clip
from ash_core.importers.retarget.up_axis import UpAxis
from ash_core.records import AvatarData, Motion, Skeleton

UNKNOWN_FPS: Final = 30.0
"""Rate of pose files that state none: that of AvatarReX and of most cameras."""
AS_ASKED: Final = "as asked for"
Y_UP: Final = UpAxis("y", "the motion is turned so")
PLACES: Final = ("floor", "file")
"""Places of a motion, beside that of a capture's data set."""
KEPT_M: Final = 0.02
"""Height of the feet over y = 0 up to which a motion is taken to stand on the floor already."""
ON_FLOOR: Final = "its lowest parts stand on the floor, y = 0"
NO_EXPRESSIONS: Final = "the file's expressions are left out: motions hold none"
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
    place: str
    """Words on where the motion stands."""
    notes: tuple[str, ...]
    retargeted: Retargeted | None = None
    """Deviations of a retargeted motion; None: the file's body is the avatar's, angles are kept."""
    deviations: tuple[Deviation, Deviation] | None = None
    """Largest deviations of whole rotations and of places, of a .bvh of the avatar's skeleton."""


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
    place: str | None = None,
    body: BodyModel | None = None,
    mapping: Path | None = None,
    avatar: AvatarData | None = None,
    progress: Callable[[float], None] = lambda _done: None,
) -> ForeignMotion:
    """Read a .bvh, or poses of a body (.npz, .pkl, a folder), for a skeleton.

    fps: rate of the result; None keeps the file's. file_fps: the file's own, 1/s; None: what it
    states. up: the file's vertical axis, a key of `body_clip.UP_AXES`; None finds it. place: one of
    PLACES or a data set of `import capture`; None: the floor, unless the file's is the avatar's.
    body: model of the file's body; None: a figure of usual proportions. mapping, avatar, progress:
    as for `read_bvh_motion`. Raises: InputError.
    """
    if not is_body_poses(path):
        clip = _bvh_clip(path, file_fps, up, fps)
        metres = metres_of_own(clip, skeleton) if mapping is None and up != "z" else None
        if metres is not None:
            _check_place(place, "file", "a .bvh of the avatar's own skeleton keeps its place")
            return _take_over(path, skeleton, clip, metres)
        _check_place(place, "floor", "a motion that is retargeted stands on the floor")
        axis = None if up is None else UpAxis(up, AS_ASKED)
        result = retarget_clip(
            clip, skeleton, path, mapping=mapping, avatar=avatar, up=axis, progress=progress
        )
        return ForeignMotion(result.motion, result.up, ON_FLOOR, result.notes, result)
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
    if poses.expressions is not None and poses.expressions.any():
        notes.append(NO_EXPRESSIONS)
    # The avatar's own body keeps the angles; any other skeleton follows the figure.
    if mapping is None and body_kind_of(skeleton) is not None:
        converted = _convert(path, skeleton, poses, rest, up, fps, place, avatar)
        return replace(converted, notes=(*notes, *converted.notes))
    _check_place(place, "floor", "a motion that is retargeted stands on the floor")
    if rest is None:
        notes.append(PLAIN_NOTE)
        rest = plain_rest(poses.kind)
    clip, axis = _upright(clip_of_poses(poses, rest), up)
    if fps is not None:
        clip = resample(clip, fps)
    result = retarget_clip(
        clip, skeleton, path, mapping=mapping, avatar=avatar, up=Y_UP, progress=progress
    )
    return ForeignMotion(result.motion, axis, ON_FLOOR, (*notes, *result.notes), result)


def _check_place(place: str | None, only: str, reason: str) -> None:
    """Refuse any place but the only one that a motion can have. Raises: InputError."""
    if place not in (None, only):
        raise InputError(f"--place: expected {only}, since {reason}; got {place}")


def _take_over(path: Path | str, skeleton: Skeleton, clip: Bvh, metres: float) -> ForeignMotion:
    """Take the turns of a .bvh of the skeleton itself, frame by frame, where they stand."""
    dofs, rotation, place = dofs_of_own(clip, skeleton, metres)
    motion = Motion(torch.from_numpy(dofs), fps=clip.fps, name=Path(path).stem)
    notes = (*clip.notes, *_beyond_limits(skeleton, motion.dofs))
    up = UpAxis("y", "the file is of the avatar's own skeleton")
    return ForeignMotion(motion, up, "as in the file", notes, deviations=(rotation, place))


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
    T = np.eye(4)
    T[:3, :3] = UP_AXES[axis.axis]
    return turn_world(clip, T), axis


def _convert(
    path: Path | str,
    skeleton: Skeleton,
    poses: BodyPoses,
    file_rest: Float[ndarray, "J 3"] | None,
    up: str | None,
    fps: float | None,
    place: str | None,
    avatar: AvatarData | None,
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
    # Y up, as the capture's data set has it or as the body stands.
    clip = clip_of_poses(poses, rest)
    if place is None or place in PLACES:
        clip, axis = _upright(clip, up)
        clip, stands = _place(clip, rest, place, avatar)
    elif not is_kind(Path.is_dir, Path(place)):
        text = f"expected {', '.join(PLACES)} or a data set of 'import capture'"
        raise InputError(f"--place: {text}, got {place}")
    elif up is not None:
        raise InputError(f"--up: {place} says which axis is up: leave it out beside --place")
    else:
        T_body_world = np.eye(4)
        T_body_world[:3, :3] = np.array(R_WORLD_BODY).T
        T = read_capture_turn(Path(place))
        clip = turn_world(clip, T_body_world @ T)
        most = int(np.abs(T[2, :3]).argmax())
        axis = UpAxis("xyz"[most] + "-down" * bool(T[2, most] < 0), f"as in {place}")
        stands = f"that of its capture's poses in {place}"
    # At the rate that is asked for, each take by itself.
    if fps is not None:
        clip = resample(clip, fps)
    converted = poses_of_clip(clip, kind)
    dofs = torch.from_numpy(dofs_of_poses(skeleton, converted))[clip.rest_frames :]
    notes = list(clip.notes)
    if clip.rest_frames:
        notes.append(rest_note(clip.rest_frames))
    notes += _beyond_limits(skeleton, dofs)
    motion = Motion(dofs, fps=clip.fps, name=Path(path).stem)
    return ForeignMotion(motion, axis, stands, tuple(notes))


def _place(
    clip: Bvh, rest: Float[ndarray, "J 3"], place: str | None, avatar: AvatarData | None
) -> tuple[Bvh, str]:
    """Put a body's motion, Y up, onto the floor if it is to stand there; returns words on it.

    As in `import capture`, the floor is under the lowest feet.
    """
    if place == "file":
        return clip, "as in the file"
    soles = rest[list(FEET), 1].min() - SOLE_M
    if avatar is not None:
        soles = float(avatar.template.vertices[:, 1].min())
    feet = clip.poses()[1][:, list(FEET), 1]
    height = floor_height(feet, float(rest[list(FEET), 1].min() - soles))
    if place is None and abs(height) <= KEPT_M:
        text = f"whose feet are within {100 * KEPT_M:g} cm of the floor, y = 0"
        return clip, f"as in the file, {text}"
    T = np.eye(4)
    T[1, 3] = -height
    way = f"{'lowered' if height > 0 else 'lifted'} by {abs(height):.2f} m"
    text = f"{way}, so that its feet stand on the floor, y = 0"
    return turn_world(clip, T), text if place else f"{text}; --place file keeps the file's"


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
