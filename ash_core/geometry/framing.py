"""Cameras that keep a moving character in the picture: from the front, or going round it."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import NEAR_M, R_WORLD_BODY
from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import Camera, Skeleton

FLESH_M: Final = 0.25
"""What a body reaches beyond its joints, m: the top of the head, a skirt, shoes."""

ELEVATION_RAD: Final = math.radians(6.0)
"""The eye stands a little above the middle of the body."""

SIDE_NAMES: Final = (("Left", "Right"), ("left", "right"), ("_L", "_R"), (".L", ".R"), ("L_", "R_"))

MOST_POSES: Final = 250
"""Longer sequences are framed by this many of their poses, evenly spaced."""


def joint_positions(skeleton: Skeleton, dofs: Float[Tensor, "*b D"]) -> Float[Tensor, "*b J 3"]:
    """Joint origins in the world, m."""
    in_body = joint_transforms(skeleton, dofs)[..., :3, 3]
    return in_body @ torch.tensor(R_WORLD_BODY).to(in_body).T


def facing(skeleton: Skeleton, positions: Float[Tensor, "J 3"]) -> Float[Tensor, "3"]:
    """Unit horizontal direction in which the character looks, world.

    Seen from where its limbs begin: up crossed with left-to-right points ahead. A skeleton whose
    names have no sides looks along the body's +Z.
    """
    across = torch.zeros(3, dtype=positions.dtype)
    for left, right in _limb_starts(skeleton):
        across = across + positions[right] - positions[left]
    ahead = torch.stack((-across[1], across[0], torch.zeros_like(across[0])))
    length = ahead.norm()
    if length < 1e-3:
        return torch.tensor(R_WORLD_BODY)[:, 2].to(positions)
    return ahead / length


def front_camera(
    skeleton: Skeleton,
    dofs: Float[Tensor, "F D"],
    fov_y_rad: float,
    width: int,
    height: int,
) -> Camera:
    """A still camera before the character that sees it whole in every pose."""
    poses = joint_positions(skeleton, _thinned(dofs))
    ahead = facing(skeleton, poses[0])
    points = poses.reshape(-1, 3)
    target = (points.amin(0) + points.amax(0)) / 2
    towards_eye = _raised(ahead)
    distance = _distance(points - target, towards_eye, fov_y_rad, width / height)
    viewmat = look_at(target + distance * towards_eye, target).float()
    return camera_from_fov(viewmat, fov_y_rad, width, height)


def orbit_cameras(
    skeleton: Skeleton,
    dofs: Float[Tensor, "F D"],
    fov_y_rad: float,
    width: int,
    height: int,
    smoothing_frames: float = 25.0,
) -> list[Camera]:
    """One camera a frame: a full turn about the character, beginning at its front, following it.

    The height stays; the place follows the body's, averaged over `smoothing_frames`.
    """
    count = len(dofs)
    poses = joint_positions(skeleton, dofs)
    middle = (poses.amin(1) + poses.amax(1)) / 2
    target = _smoothed(middle, smoothing_frames)
    target[:, 2] = (poses[..., 2].amin() + poses[..., 2].amax()) / 2
    ahead = facing(skeleton, poses[0])
    towards_eye = [_raised(_turned(ahead, math.tau * n / count)) for n in range(count)]
    distance = max(
        _distance(poses[n] - target[n], towards_eye[n], fov_y_rad, width / height)
        for n in range(count)
    )
    viewmats = [
        look_at(target[n] + distance * towards_eye[n], target[n]).float() for n in range(count)
    ]
    return [camera_from_fov(viewmat, fov_y_rad, width, height) for viewmat in viewmats]


def _limb_starts(skeleton: Skeleton) -> list[tuple[int, int]]:
    """(left, right) joints of the same name and parent: shoulders and hips."""
    names = {name: joint for joint, name in enumerate(skeleton.joint_names)}
    pairs = {
        (joint, names[other])
        for name, joint in names.items()
        for left, right in SIDE_NAMES
        if (other := name.replace(left, right)) in names and other != name
    }
    parents: Sequence[int] = skeleton.parents.tolist()
    return sorted((left, right) for left, right in pairs if parents[left] == parents[right])


def _distance(
    points: Float[Tensor, "P 3"],
    towards_eye: Float[Tensor, "3"],
    fov_y_rad: float,
    aspect: float,
) -> float:
    """Least distance of the eye from the origin that shows the points and their flesh, m."""
    viewmat = look_at(towards_eye, torch.zeros_like(towards_eye)).to(points)
    x, y, z = (points @ viewmat[:3, :3].T).unbind(-1)
    tangent = math.tan(fov_y_rad / 2)
    across = (x.abs() + FLESH_M) / (tangent * aspect) - z
    upright = (y.abs() + FLESH_M) / tangent - z
    return max(float(torch.maximum(across, upright).max()), 2 * NEAR_M)


def _thinned(dofs: Float[Tensor, "F D"]) -> Float[Tensor, "f D"]:
    return dofs[:: max(1, math.ceil(len(dofs) / MOST_POSES))]


def _raised(ahead: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    up = torch.tensor([0.0, 0.0, 1.0]).to(ahead)
    return math.cos(ELEVATION_RAD) * ahead + math.sin(ELEVATION_RAD) * up


def _turned(ahead: Float[Tensor, "3"], angle_rad: float) -> Float[Tensor, "3"]:
    """About the world's vertical, anticlockwise seen from above."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return torch.stack((cos * ahead[0] - sin * ahead[1], sin * ahead[0] + cos * ahead[1], ahead[2]))


def _smoothed(track: Float[Tensor, "F 3"], width: float) -> Float[Tensor, "F 3"]:
    """Average over a Gaussian window of the frames that exist."""
    reach = min(math.ceil(3 * width), len(track))
    offsets = torch.arange(-reach, reach + 1).to(track)
    kernel = torch.exp(-0.5 * (offsets / width) ** 2)[None, None]
    rows = torch.cat((track, torch.ones_like(track[:, :1])), 1).T[:, None]
    sums = torch.nn.functional.conv1d(rows, kernel, padding=reach)[:, 0].T
    return sums[:, :3] / sums[:, 3:]
