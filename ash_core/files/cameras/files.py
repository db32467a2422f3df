"""Read and write camera files of every supported kind; detect the kind, or ask for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ash_core.conventions import CameraFormat
from ash_core.errors import InputError
from ash_core.files.cameras.colmap import model_folder, read_colmap, write_colmap
from ash_core.files.cameras.opencv_yaml import (
    is_easymocap,
    read_opencv,
    write_easymocap,
    write_opencv,
)
from ash_core.files.cameras.published import (
    read_cameras,
    read_lenses,
    write_calibration,
    write_cameras,
)
from ash_core.files.cameras.record import (
    CameraFile,
    Reading,
    StageCamera,
    place_in_world,
    with_own_names,
)
from ash_core.files.cameras.transforms import (
    json_format,
    read_graphdeco,
    read_transforms,
    write_graphdeco,
    write_transforms,
)
from ash_core.files.io import bad, read_json, show
from ash_core.geometry.lens import Lens

KINDS: Final = (
    "cameras.json (published, or of 3D Gaussian Splatting), .calibration (Skeletool), "
    "transforms.json (nerfstudio, instant-ngp), a COLMAP model, .yml (OpenCV, EasyMocap)"
)
"""Names of camera files in messages."""
AS_IT_IS: Final = Reading()
"""Default reading: no choice is given."""
ARBITRARY: Final[frozenset[CameraFormat]] = frozenset(
    (
        "nerfstudio",
        "colmap",
        "graphdeco",
        "opencv",
        "easymocap",
    )
)
"""Formats that name neither the unit nor the up axis of their world."""


def is_camera_file(path: Path) -> bool:
    """Return whether a path is a camera file, or a folder of some, by its name."""
    if path.suffix.lower() in (".json", ".calibration", ".yml", ".yaml"):
        return True
    return model_folder(path) is not None or is_easymocap(path)


def read_camera_file(path: Path | str, reading: Reading = AS_IT_IS) -> CameraFile:
    """Read a file of cameras with their lenses, into our world. Raises: InputError.

    Where the file leaves a choice open, the message asks for it.
    """
    path = Path(path)
    content: object = None
    kind = reading.format
    if path.suffix.lower() == ".json" or kind in ("nerfstudio", "graphdeco"):
        content = read_json(path)
        kind = kind or json_format(path, content)
    kind = kind or _format_by_name(path)
    match kind:
        case "nerfstudio":
            file = read_transforms(path, content, reading)
        case "graphdeco":
            file = read_graphdeco(path, content, reading)
        case "colmap":
            file = read_colmap(path, reading)
        case "opencv" | "easymocap":
            file = read_opencv(path, reading)
        case "skeletool":
            stage = map(StageCamera, *read_lenses(path))
            file = CameraFile("skeletool", tuple(stage))
        case "published":
            file = CameraFile(
                "published", tuple(map(StageCamera, read_cameras(path, is_certain=True)))
            )
    if reading.axes is not None and kind in ("skeletool", "published", "colmap"):
        raise bad(path, None, f"--axes: expected none, a {kind} file always has OpenCV axes")
    return place_in_world(with_own_names(file), reading)


def _format_by_name(path: Path) -> CameraFormat:
    suffix = path.suffix.lower()
    if suffix == ".calibration":
        return "skeletool"
    if model_folder(path) is not None:
        return "colmap"
    if suffix in (".yml", ".yaml") or is_easymocap(path):
        return "easymocap" if is_easymocap(path) else "opencv"
    raise bad(path, None, f"expected cameras: {KINDS}")


def read_straight(path: Path | str, reading: Reading = AS_IT_IS) -> CameraFile:
    """Read cameras for rendering, without distortion. Raises: InputError for a lens that bends."""
    file = read_camera_file(path, reading)
    for camera, lens in file.cameras:
        if not lens.is_straight:
            text = f"camera {show(camera.name)}: expected no lens distortion, got {_words(lens)}"
            more = "ash-studio cameras --undistort makes cameras of straightened images"
            raise bad(path, None, f"{text}; {more}")
    return file


def output_format(path: Path) -> CameraFormat:
    """Choose the format to write by a name. Raises: InputError where the name gives none."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        return "nerfstudio" if path.name.lower().startswith("transforms") else "published"
    if suffix == ".calibration":
        return "skeletool"
    if suffix in (".yml", ".yaml"):
        return "opencv"
    raise InputError(
        f"{path}: expected a name in .json, .calibration or .yml, or --to colmap or "
        "--to easymocap for a folder"
    )


def write_camera_file(
    path: Path, kind: CameraFormat, cameras: Sequence[StageCamera]
) -> tuple[str, ...]:
    """Write cameras in a format; return notes on losses. Raises: InputError."""
    straight = [camera for camera, _ in cameras]
    lenses = [lens for _, lens in cameras]
    _check_lenses(kind, cameras)
    match kind:
        case "nerfstudio":
            write_transforms(path, cameras)
        case "graphdeco":
            return write_graphdeco(path, cameras)
        case "colmap":
            return write_colmap(path, cameras)
        case "opencv":
            write_opencv(path, cameras)
        case "easymocap":
            write_easymocap(path, cameras)
        case "skeletool":
            write_calibration(path, straight, lenses)
        case "published":
            write_cameras(path, straight)
    return ()


def _check_lenses(kind: CameraFormat, cameras: Sequence[StageCamera]) -> None:
    for camera, lens in cameras:
        writable = {"published": Lens(), "graphdeco": Lens()}.get(kind, lens)
        if kind == "nerfstudio":
            writable = Lens(lens.k1, lens.k2, lens.p1, lens.p2, lens.k3)
        if writable != lens:
            text = f"camera {show(camera.name)}: {kind} has no place for its lens distortion"
            text += f" ({_words(lens)})"
            raise InputError(f"{text}; --undistort writes cameras of straightened images")


def _words(lens: Lens) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in vars(lens).items() if value)
