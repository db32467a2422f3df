"""Cameras of a file, of a place, or around a person in motion."""

import math
from pathlib import Path

from ash_core.avatar import Avatar
from ash_core.conventions import Up
from ash_core.errors import InputError
from ash_core.files.cameras.files import read_straight
from ash_core.files.cameras.record import Reading
from ash_core.geometry import camera as pinhole
from ash_core.geometry import framing
from ash_core.records import Camera, Motion, Numbers, as_tensor

FOV_DEG = 40.0


def look_at(
    eye: Numbers,
    target: Numbers,
    width: int = 640,
    height: int = 480,
    fov_deg: float = FOV_DEG,
    up: Numbers = (0.0, 0.0, 1.0),
) -> Camera:
    """Place a camera at `eye` that looks at `target`; world, m, Z up. Raises: InputError.

    width, height: of the image, pixels. fov_deg: vertical field of view.

    >>> ash.look_at(eye=(3, 0, 1.2), target=(0, 0, 1), width=64, height=48).width
    64
    """
    vectors = {"eye": eye, "target": target, "up": up}
    points = {name: as_tensor(name, vector) for name, vector in vectors.items()}
    for name, point in points.items():
        if point.shape != (3,):
            raise InputError(f"{name}: expected x, y, z, got an array {list(point.shape)}")
    _check(width, height, fov_deg)
    viewmat = pinhole.look_at(*points.values())
    return pinhole.camera_from_fov(viewmat, math.radians(fov_deg), width, height)


def front_camera(
    avatar: Avatar,
    motion: Motion,
    width: int = 640,
    height: int = 480,
    fov_deg: float = FOV_DEG,
) -> Camera:
    """Place a still camera before the person that sees all of it in every pose of a motion.

    fov_deg: vertical field of view. Raises: InputError.

    >>> ash.front_camera(avatar, motion, width=64, height=48).K.shape
    torch.Size([3, 3])
    """
    _check(width, height, fov_deg)
    fov = math.radians(fov_deg)
    return framing.front_camera(avatar.data, motion.dofs, fov, width, height)


def orbit_cameras(
    avatar: Avatar,
    motion: Motion,
    width: int = 640,
    height: int = 480,
    fov_deg: float = FOV_DEG,
) -> list[Camera]:
    """Place one camera a frame: a full turn round the person, following it.

    fov_deg: vertical field of view. Raises: InputError.

    >>> len(ash.orbit_cameras(avatar, ash.Motion(motion.dofs[:8]), width=64, height=48))
    8
    """
    _check(width, height, fov_deg)
    fov, smoothing = math.radians(fov_deg), motion.fps
    return framing.orbit_cameras(avatar.data, motion.dofs, fov, width, height, smoothing)


def load_cameras(path: Path | str, up: Up = "z") -> dict[str, Camera]:
    """Read the cameras of any known file by name, or by number where they have none.

    path: cameras.json, .calibration, transforms.json, a COLMAP model's folder, OpenCV or EasyMocap
    .yml. up: up axis of the file's world. Raises: InputError, also for a lens with distortion.

    >>> list(ash.load_cameras(folder / "cameras.json"))
    ['front', 'side']
    """
    file = read_straight(path, Reading(up=up))
    return pinhole.cameras_by_name(camera for camera, _ in file.cameras)


def _check(width: int, height: int, fov_deg: float) -> None:
    if width < 1 or height < 1:
        raise InputError(f"size: expected at least 1 x 1 pixels, got {width} x {height}")
    if not 1.0 <= fov_deg <= 170.0:
        raise InputError(f"fov_deg: expected 1 to 170 degrees, got {fov_deg:g}")
