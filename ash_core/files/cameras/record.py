"""Calibrated cameras with their lenses, and the choices that a camera file leaves open."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

from ash_core.conventions import CameraAxes, CameraFormat, Up
from ash_core.geometry.axes import turn_camera, world_rotation
from ash_core.geometry.lens import Lens
from ash_core.records import Camera


class StageCamera(NamedTuple):
    """Calibrated camera with its lens."""

    camera: Camera
    """Camera of the undistorted images; of the original images if the lens has no distortion."""
    lens: Lens = Lens()


@dataclass(frozen=True)
class Reading:
    """Choices of the user where a file leaves them open."""

    format: CameraFormat | None = None
    axes: CameraAxes | None = None
    """Axes of a camera, if other than the format's own."""
    up: Up = "z"
    """Up axis of the file's world."""
    scale: float = 1.0
    """Metres in a unit of the file."""
    size: tuple[int, int] | None = None
    """Width and height, px, if the file has none."""
    source_world: bool = False
    """True to undo the `applied_transform` of a transforms.json."""


@dataclass(frozen=True)
class CameraFile:
    """Content of one camera file: world Z up, metres."""

    format: CameraFormat
    cameras: tuple[StageCamera, ...]
    notes: tuple[str, ...] = ()
    axes_assumed: bool = False
    """True if the axes follow from the format alone, and could be others."""


def place_in_world(file: CameraFile, reading: Reading) -> CameraFile:
    """Rotate and scale the cameras of a file into our world."""
    rotation = world_rotation("z" if file.format == "skeletool" else reading.up)
    placed = []
    for camera, lens in file.cameras:
        viewmat = turn_camera(camera, rotation).viewmat.clone()
        viewmat[:3, 3] *= reading.scale
        placed.append(StageCamera(replace(camera, viewmat=viewmat), lens))
    return replace(file, cameras=tuple(placed))


def with_own_names(file: CameraFile) -> CameraFile:
    """Number the names that several cameras share, such as images of several folders."""
    counts = Counter(camera.name for camera, _ in file.cameras)
    cameras = [
        StageCamera(replace(camera, name=f"{camera.name}#{number}"), lens)
        if counts[camera.name] > 1
        else StageCamera(camera, lens)
        for number, (camera, lens) in enumerate(file.cameras)
    ]
    return replace(file, cameras=tuple(cameras))
