"""Pinhole cameras: place them, set their field of view, change the size of their image."""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import FRUSTUM_CLAMP
from ash_core.errors import InputError
from ash_core.records import Camera, Crop


def look_at(
    eye: Float[Tensor, "3"], target: Float[Tensor, "3"], up: Float[Tensor, "3"] | None = None
) -> Float[Tensor, "4 4"]:
    """Make the viewmat of a camera at `eye` that looks at `target` (world, m); `up`: world Z."""
    eye, target = eye.double(), target.double()
    up = torch.tensor([0.0, 0.0, 1.0]).double() if up is None else up.double()
    forward = target - eye
    if not forward.norm() > 1e-9:
        raise InputError(f"camera: expected eye and target apart, got both at {eye.tolist()}")
    forward = forward / forward.norm()
    right = torch.linalg.cross(forward, up)
    if right.norm() < 1e-6:  # straight up or down: any horizontal direction is right
        right = torch.linalg.cross(forward, up.roll(1))
    right = right / right.norm()
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack((right, down, forward))
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ eye
    return viewmat.float()


def camera_from_fov(
    viewmat: Float[Tensor, "4 4"], fov_y: float, width: int, height: int, name: str = ""
) -> Camera:
    """Make a camera with square pixels and a centred principal point; fov_y vertical, rad."""
    focal = 0.5 * height / math.tan(0.5 * fov_y)
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Camera(viewmat, K, width, height, name)


def resize_camera(camera: Camera, width: int, height: int) -> Camera:
    """Change the image size of a camera: the old image fits inside, centred.

    With the same aspect ratio the view is the same. Otherwise it grows at the sides, or at the top
    and bottom.
    """
    scale = min(width / camera.width, height / camera.height)
    K = camera.K.clone()
    K[:2] *= scale
    K[0, 2] += 0.5 * (width - scale * camera.width)
    K[1, 2] += 0.5 * (height - scale * camera.height)
    return replace(camera, K=K, width=width, height=height)


def camera_position(viewmat: Float[Tensor, "4 4"]) -> Float[Tensor, "3"]:
    """Compute the position of a camera in the world, m."""
    return -viewmat[:3, :3].T @ viewmat[:3, 3]


def crop_camera(camera: Camera, left: int, top: int, width: int, height: int) -> Crop:
    """Make the camera of a crop of the image; the crop may extend over its edges."""
    K = camera.K.clone()
    K[0, 2] -= left
    K[1, 2] -= top
    whole = camera.width, camera.height
    return Crop(camera.viewmat, K, width, height, camera.name, *whole)


def frustum_limits(camera: Camera) -> tuple[float, float]:
    """Compute the bounds of |x/z| and |y/z| at which the projection is linearised.

    They are those of the whole image, so that a crop equals that part of the whole.
    """
    width, height = camera.width, camera.height
    if isinstance(camera, Crop):
        width, height = camera.whole_width, camera.whole_height
    fx, fy = float(camera.K[0, 0]), float(camera.K[1, 1])
    return FRUSTUM_CLAMP * width / (2 * fx), FRUSTUM_CLAMP * height / (2 * fy)


def cameras_by_name(cameras: Iterable[Camera]) -> dict[str, Camera]:
    """Map names to cameras; one without a name has its number."""
    return {camera.name or str(number): camera for number, camera in enumerate(cameras)}
