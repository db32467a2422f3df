"""Pose history as the character's networks see it: the last poses, relative to the newest.

The published data set carries a file of these (`poseAnglesRotationNormalized.motion`); here they
are computed, so that live and retargeted poses need no extra file.
"""

from collections.abc import Iterable

import torch
from isal import isal_zlib
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ash_core.conventions import HISTORY
from ash_core.errors import InputError
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.rotations import axis_angle_to_matrix
from ash_core.records import (
    Motion,
    PoseWindow,
    Skeleton,
    to_device,
)
from ash_core.variants import HistoryOffsets

HEADING_DOF = 3
"""Dof that turns the root about the vertical. Source: docs/released_behaviour.md A4."""

JUMP_M_PER_S = 5.0
JUMP_DEG_PER_S = 500.0
"""Bounds on a sudden move, of any joint and of the root: a step from one frame to the next that is
also more than JUMP_RATIO times as long as all others within BESIDE_S. Bodies move faster than this,
but never for a frame alone: the largest sudden move of 90 recorded motions (runs, kicks, dances; 25
to 120 frames a second) is 4.2 m/s and 283 degrees/s, the smallest step out of a T-pose 5.9 m/s."""
JUMP_RATIO = 2.0
BESIDE_S = 0.08
NO_POSES = PoseWindow(torch.zeros(0, 0).double(), torch.zeros(0, 3, 0).double())
"""Window of static splats: no pose, no dof."""
_FRAMES_AT_ONCE = 256
_cached_starts = WeakIdKeyDictionary()
"""(skeleton, frames a second, first frames) of a motion, by its dofs."""


def heading_joint(skeleton: Skeleton) -> int:
    """Find the joint that the heading dof turns."""
    return int(skeleton.dof_matrix[:, HEADING_DOF].abs().argmax())


def heading_matrix(dofs: Float[Tensor, "D"], skeleton: Skeleton) -> Float[Tensor, "3 3"]:
    """Compute R_body_heading: the turn about the vertical by a pose's root dof."""
    angle = skeleton.dof_matrix[:, HEADING_DOF].sum().to(dofs) * dofs[HEADING_DOF]
    none, one = torch.zeros_like(angle), torch.ones_like(angle)  # not copied there: for captures
    return axis_angle_to_matrix(torch.stack((none, one, none)), angle)


def normalise_poses(poses: Float[Tensor, "*b 3 D"], skeleton: Skeleton) -> Float[Tensor, "*b 3 D"]:
    """Normalise poses n-2, n-1, n by pose n: remove its position and heading. m and rad.

    Translations are differences to pose n, turned by minus its heading (the heading dof times the
    dof matrix's weight: 3 in the published character); the heading is a difference, not wrapped;
    every other dof is copied, the root's tilt too. Source: docs/released_behaviour.md A3, A4.
    """
    newest = poses[..., 2:3, :]
    weight = skeleton.dof_matrix[:, HEADING_DOF].sum().to(poses)
    angle = -weight * newest[..., HEADING_DOF]
    cos, sin = angle.cos(), angle.sin()
    moved = poses[..., :3] - newest[..., :3]
    x, y, z = moved.unbind(-1)
    turned = torch.stack((cos * x + sin * z, y, cos * z - sin * x), -1)
    heading = poses[..., HEADING_DOF : HEADING_DOF + 1] - newest[..., HEADING_DOF : HEADING_DOF + 1]
    return torch.cat((turned, heading, poses[..., HEADING_DOF + 1 :]), -1)


def normalise_motion(dofs: Float[Tensor, "F D"], skeleton: Skeleton) -> Float[Tensor, "F 3 D"]:
    """Normalise each frame to three rows, as the published `poseAnglesRotationNormalized.motion`.

    The first two frames are not normalised: their rows are that frame's raw pose. Source: A4.
    """
    windows = torch.stack((dofs[:-2], dofs[1:-1], dofs[2:]), 1)
    return torch.cat((dofs[:2, None].expand(-1, 3, -1), normalise_poses(windows, skeleton)))


def find_cuts(
    places: Float[Tensor, "F J 3"], root_turns: Float[Tensor, "F 3 3"], fps: float
) -> Bool[Tensor, "F"]:
    """Mark the frames that no body reaches from the frame before: after a T-pose, at a splice.

    places: joints, m. A single stray frame is a cut, and so is the frame after it. Two frames alone
    have none: there is no other step to compare with.
    """
    jumps = torch.zeros(len(places), dtype=torch.bool)
    if len(places) < 3:
        return jumps
    steps, strides = (torch.linalg.vector_norm(places[n:] - places[:-n], dim=-1) for n in (1, 2))
    turned, turned_twice = (
        _angle_degrees(root_turns[n:].transpose(-1, -2) @ root_turns[:-n])[:, None] for n in (1, 2)
    )
    jumps[1:] = _is_sudden(steps, strides, JUMP_M_PER_S, fps)
    jumps[1:] |= _is_sudden(turned, turned_twice, JUMP_DEG_PER_S, fps)
    return jumps


def _is_sudden(
    steps: Float[Tensor, "f n"], strides: Float[Tensor, "f-1 n"], speed: float, fps: float
) -> Bool[Tensor, "f"]:
    """Test each step between frames: fast, and alone or undone by the next one (its stride)."""
    # Windows of steps before each step, and after it: a frame shown twice hides no fast move.
    reach = max(1, round(BESIDE_S * fps))
    none = steps.new_zeros(reach, steps.shape[1])
    highest = torch.cat((none, steps, none)).unfold(0, reach, 1).amax(-1)
    beside = torch.maximum(highest[: len(steps)], highest[reach + 1 :])
    is_alone = steps > JUMP_RATIO * beside
    # A stray frame makes two steps, neither of them alone.
    is_undone = torch.minimum(steps[:-1], steps[1:]) > JUMP_RATIO * strides
    is_alone[:-1] |= is_undone
    is_alone[1:] |= is_undone
    return ((steps > speed / fps) & is_alone).any(1)


def _angle_degrees(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    trace = R.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(((trace - 1.0) / 2.0).clamp(-1.0, 1.0).arccos())


def first_frames(motion: Motion, skeleton: Skeleton) -> list[int]:
    """Find the first frame of the take of each frame of a motion: 0, or the last cut until then.

    Cached by the motion's dofs, which are never changed in place.
    """
    cached = _cached_starts.get(motion.dofs)
    if cached is None or cached[0] is not skeleton or cached[1] != motion.fps:
        cached = skeleton, motion.fps, _first_frames(motion, skeleton)
        _cached_starts[motion.dofs] = cached
    return cached[2]


def _first_frames(motion: Motion, skeleton: Skeleton) -> list[int]:
    skeleton = to_device(skeleton, "cpu")  # where motions are, whatever renders them
    # All turns of the root are applied at the first joint with a child at a distance.
    moved = skeleton.offsets.abs().amax(1) > 0
    root = int(skeleton.parents[moved & (skeleton.parents >= 0)][:1].sum())
    places, turns = [], []
    for part in motion.dofs.detach().cpu().double().split(_FRAMES_AT_ONCE):
        posed = joint_transforms(skeleton, part)
        places.append(posed[..., :3, 3].float())
        turns.append(posed[:, root, :3, :3])
    cuts = find_cuts(torch.cat(places), torch.cat(turns), motion.fps)
    frames = torch.where(cuts, torch.arange(len(cuts)), 0)
    return frames.cummax(0).values.tolist()


def pose_window(
    motion: Motion, frame: int, skeleton: Skeleton, offsets: HistoryOffsets
) -> PoseWindow:
    """Make the window at a frame: that pose and some earlier ones, each with its own three poses.

    offsets: the avatar's (`AvatarData.history_offsets`). Frames before the first are the first.
    Offsets with a frame rate are times, whatever the motion's rate, and reach back to the last cut.
    Offsets without one are published: the first two frames of a motion are not normalised, their
    three rows are that frame's raw pose. Source: docs/released_behaviour.md A4, A5.
    Raises: InputError for a frame that the motion does not have.
    """
    check_frame(frame, len(motion.dofs), motion.name or "motion")
    if offsets.fps is not None:
        return live_window(poses_until(motion, frame, skeleton, offsets), skeleton, offsets)
    frames = [max(frame - offset, 0) for offset in offsets.frames]
    if motion.normalised is not None:
        return PoseWindow(motion.dofs[frames], motion.normalised[frames])
    rows = _own_pasts(motion.dofs, frames, skeleton)
    for row, n in enumerate(frames):
        if n < 2:
            rows[row] = motion.dofs[n]
    return PoseWindow(motion.dofs[frames], rows)


def check_frame(frame: int, count: int, name: str) -> None:
    """Raise InputError for a frame that a motion of this name and length does not have."""
    if not 0 <= frame < count:
        raise InputError(f"{name}: expected a frame in 0..{count - 1}, got {frame}")


def pose_keys(window: PoseWindow) -> tuple[bytes, ...]:
    """Return a key for each pose of a window: equal for equal numbers.

    Of cloth it holds a checksum of 32 bits: 20 kB a pose would cost more than the rest of a frame.
    """
    # A row of numpy's costs a fifth of a row of torch's, and this is done for every frame.
    rows = zip(
        *(part.detach().cpu().numpy() for part in (window.dofs, window.normalised)), strict=True
    )
    keys = tuple(dofs.tobytes() + normalised.tobytes() for dofs, normalised in rows)
    if window.cloth is None:
        return keys
    sums = (isal_zlib.crc32(row) for row in window.cloth.detach().cpu().contiguous().numpy())
    return tuple(key + b"%08x" % one for key, one in zip(keys, sums, strict=True))


def poses_until(
    motion: Motion, frame: int, skeleton: Skeleton, offsets: HistoryOffsets
) -> Float[Tensor, "P D"]:
    """Collect what `live_window` takes, of a motion: the poses up to a frame, at the offsets' rate.

    Before the first frame is the first, and before a cut the frame after it: what a T-pose or
    another take did must not swing the cloth. Without a rate poses are a frame apart, and cuts do
    not count.
    """
    return motion.dofs[_frames_until(motion, frame, skeleton, offsets)]


def _frames_until(
    motion: Motion, frame: int, skeleton: Skeleton, offsets: HistoryOffsets
) -> list[int]:
    """List the frames of the poses that `poses_until` collects."""
    earlier = reversed(range(live_poses(offsets)))
    return _frames_before(motion, frame, skeleton, offsets, earlier)


def pose_frames(
    motion: Motion, frame: int, skeleton: Skeleton, offsets: HistoryOffsets
) -> list[int]:
    """List the frames of the poses of a window, newest first."""
    return _frames_before(motion, frame, skeleton, offsets, offsets.frames)


def _frames_before(
    motion: Motion,
    frame: int,
    skeleton: Skeleton,
    offsets: HistoryOffsets,
    counts: Iterable[int],
) -> list[int]:
    """List frames so many frames of the offsets' rate earlier, but not before the last cut."""
    rate, first = 1.0, 0
    if offsets.fps is not None:
        rate, first = motion.fps / offsets.fps, first_frames(motion, skeleton)[frame]
    return [max(frame - round(count * rate), first) for count in counts]


def window_frames(
    motion: Motion, frame: int, skeleton: Skeleton, offsets: HistoryOffsets
) -> Int[Tensor, "h 3"]:
    """List the frames whose poses a window holds: n-2, n-1 and n of each pose of its history.

    With them a window of changed dofs needs no second search for cuts. Raises: InputError.
    """
    check_frame(frame, len(motion.dofs), motion.name or "motion")
    until = torch.tensor(_frames_until(motion, frame, skeleton, offsets))
    return until[_threes([len(until) - 1 - offset for offset in offsets.frames])]


def live_poses(offsets: HistoryOffsets) -> int:
    """Count the poses that a live window is made of."""
    return offsets.frames[-1] + HISTORY


def live_window(
    poses: Float[Tensor, "P D"], skeleton: Skeleton, offsets: HistoryOffsets
) -> PoseWindow:
    """Make the window of live poses, oldest first: sliders, mocap, a blend of both.

    poses: `live_poses(offsets)` of them, the last one is the newest.
    """
    assert len(poses) == live_poses(offsets), len(poses)
    frames = [len(poses) - 1 - offset for offset in offsets.frames]
    return PoseWindow(poses[frames], _own_pasts(poses, frames, skeleton))


def _own_pasts(
    poses: Float[Tensor, "P D"], frames: list[int], skeleton: Skeleton
) -> Float[Tensor, "h 3 D"]:
    """Normalise each frame's last three poses. Poses before the first are the first."""
    return normalise_poses(poses[_threes(frames)], skeleton)


def _threes(frames: list[int]) -> Int[Tensor, "h 3"]:
    """List each frame after its two predecessors; those before the first are the first."""
    return torch.tensor([[max(n - 2, 0), max(n - 1, 0), n] for n in frames])
