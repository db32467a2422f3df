"""What the character's networks see of a motion: the last poses, relative to the newest.

The published data set carries a file of these (`poseAnglesRotationNormalized.motion`); here they
are computed, so that live and retargeted poses need no extra file.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import FPS, HISTORY, PUBLISHED_LAGS
from ash_core.errors import InputError
from ash_core.geometry.rotations import axis_angle_to_matrix
from ash_core.records import Lags, Motion, PoseWindow, Skeleton

HEADING_DOF = 3
"""The dof that turns the root about the vertical. Source: ODDITIES A4."""


def heading_joint(skeleton: Skeleton) -> int:
    """The joint that the heading dof turns."""
    return int(skeleton.dof_matrix[:, HEADING_DOF].abs().argmax())


def heading_matrix(dofs: Float[Tensor, "D"], skeleton: Skeleton) -> Float[Tensor, "3 3"]:
    """R_body_heading: the turn about the vertical that a pose's root dof gives."""
    angle = skeleton.dof_matrix[:, HEADING_DOF].sum().to(dofs) * dofs[HEADING_DOF]
    none, one = torch.zeros_like(angle), torch.ones_like(angle)  # not copied there: for captures
    return axis_angle_to_matrix(torch.stack((none, one, none)), angle)


def normalise_poses(poses: Float[Tensor, "*b 3 D"], skeleton: Skeleton) -> Float[Tensor, "*b 3 D"]:
    """Poses n-2, n-1, n seen from pose n: its place and heading taken out. m and rad.

    Translations are differences to pose n, turned by minus its heading (the heading dof times the
    dof matrix's weight: 3 in the published character); the heading is a difference, not wrapped;
    every other dof is copied, the root's tilt too. Source: ODDITIES A3, A4.
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
    """Three rows a frame, as the published `poseAnglesRotationNormalized.motion` has them.

    The first two frames are not normalised: their rows are that frame's raw pose. Source: A4.
    """
    windows = torch.stack((dofs[:-2], dofs[1:-1], dofs[2:]), 1)
    return torch.cat((dofs[:2, None].expand(-1, 3, -1), normalise_poses(windows, skeleton)))


def pose_window(motion: Motion, frame: int, skeleton: Skeleton, lags: Lags) -> PoseWindow:
    """The window at a frame: that pose and some earlier ones, each with its own three poses.

    lags: of the avatar that it is for (`AvatarData.lags`). Frames before the first are the first.
    Published: the first two frames of a motion are not normalised, their three rows are that
    frame's raw pose. Source: ODDITIES A4, A5. Otherwise lags are of FPS frames a second, whatever
    the motion has.
    """
    count = len(motion.dofs)
    if not 0 <= frame < count:
        raise InputError(
            f"{motion.name or 'motion'}: expected a frame in 0..{count - 1}, got {frame}"
        )
    if lags != PUBLISHED_LAGS:
        return live_window(poses_until(motion, frame, lags), skeleton, lags)
    frames = [max(frame - lag, 0) for lag in lags]
    if motion.normalised is not None:
        return PoseWindow(motion.dofs[frames], motion.normalised[frames])
    rows = _own_pasts(motion.dofs, frames, skeleton)
    for row, n in enumerate(frames):
        if n < 2:
            rows[row] = motion.dofs[n]
    return PoseWindow(motion.dofs[frames], rows)


def pose_keys(window: PoseWindow) -> tuple[bytes, ...]:
    """A name for each pose of a window: the same for the same numbers."""
    # A row of numpy's costs a fifth of a row of torch's, and this is done for every frame.
    poses, pasts = window.dofs.cpu().numpy(), window.normalised.cpu().numpy()
    return tuple(pose.tobytes() + past.tobytes() for pose, past in zip(poses, pasts, strict=True))


def poses_until(motion: Motion, frame: int, lags: Lags) -> Float[Tensor, "P D"]:
    """What `live_window` takes, of a motion: the poses up to a frame, 1 / FPS s apart; for
    published avatars, a frame. Before the first frame is the first.
    """
    rate = 1.0 if lags == PUBLISHED_LAGS else motion.fps / FPS
    back = reversed(range(live_poses(lags)))
    return motion.dofs[[max(frame - round(n * rate), 0) for n in back]]


def live_poses(lags: Lags) -> int:
    """Poses that a live window is made of."""
    return lags[-1] + HISTORY


def live_window(poses: Float[Tensor, "P D"], skeleton: Skeleton, lags: Lags) -> PoseWindow:
    """The window of live poses, oldest first: sliders, mocap, a blend of both.

    poses: `live_poses(lags)` of them, the last one is the newest.
    """
    assert len(poses) == live_poses(lags), len(poses)
    frames = [len(poses) - 1 - lag for lag in lags]
    return PoseWindow(poses[frames], _own_pasts(poses, frames, skeleton))


def _own_pasts(
    poses: Float[Tensor, "P D"], frames: list[int], skeleton: Skeleton
) -> Float[Tensor, "h 3 D"]:
    """Of each frame its last three poses, normalised. Poses before the first are the first."""
    threes = torch.tensor([[max(n - 2, 0), max(n - 1, 0), n] for n in frames])
    return normalise_poses(poses[threes], skeleton)
