"""Read and write COLMAP's sparse models: cameras and images, text or binary.

Camera-from-world, OpenCV axes, the first pixel's centre at (0.5, 0.5).
Source: COLMAP's documentation, "Output Format".

Own reader: two tables do not need pycolmap, whose wheel has 38 MB.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ash_core.errors import InputError
from ash_core.files.cameras.checks import MAX_CAMERAS, check_rigid, make_camera, rigid_matrix
from ash_core.files.cameras.record import CameraFile, Reading, StageCamera
from ash_core.files.io import bad, is_kind, parse_number, read_bytes, read_lines, show, write_text
from ash_core.geometry.lens import Lens

MOST_BYTES: Final = 2 << 30
_FOCAL1, _FOCAL2 = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
MODELS: Final[dict[str, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": _FOCAL1,
    "PINHOLE": _FOCAL2,
    "SIMPLE_RADIAL": (*_FOCAL1, "k1"),
    "RADIAL": (*_FOCAL1, "k1", "k2"),
    "OPENCV": (*_FOCAL2, "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": (*_FOCAL2, "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}
"""Parameters of the supported models, in the file's order."""
BINARY_MODELS: Final = (
    *(("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8)),
    *(("OPENCV_FISHEYE", 8), ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4)),
    *(("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12)),
)
"""Names and numbers of parameters, by the model's number."""


class _Intrinsics(NamedTuple):
    model: str
    width: int
    height: int
    numbers: tuple[float, ...]


class ImagePose(NamedTuple):
    """Pose of one image of a model, as stored."""

    quat: tuple[float, ...]
    """Rotation from world to camera, wxyz."""
    translation: tuple[float, ...]
    camera: int
    name: str


class ColmapModel(NamedTuple):
    """Tables of a sparse model, without its points."""

    path: Path
    """File of the images."""
    intrinsics: Mapping[int, _Intrinsics]
    poses: Sequence[ImagePose]

    def camera_of(self, pose: ImagePose) -> StageCamera:
        """Make the camera of an image. Raises: InputError."""
        return _stage_camera(self.path, pose, self.intrinsics)


def model_folder(path: Path) -> Path | None:
    """Find the folder of a sparse model: the path, one of its files' folder, or sparse/0 in it."""
    if path.name in {f"{kind}.{end}" for kind in ("cameras", "images") for end in ("txt", "bin")}:
        path = path.parent
    for folder in (path, path / "sparse" / "0", path / "sparse"):
        if any(is_kind(Path.is_file, folder / f"images.{end}") for end in ("bin", "txt")):
            return folder
    return None


def read_colmap(path: Path, reading: Reading) -> CameraFile:
    """Read the cameras of a sparse model. Raises: InputError."""
    model = read_model(path)
    if len(model.poses) > MAX_CAMERAS:
        text = f"expected 1 to {MAX_CAMERAS} images, got {len(model.poses)} of them"
        raise bad(model.path, None, text)
    stage = [model.camera_of(pose) for pose in model.poses]
    return CameraFile("colmap", tuple(sorted(stage, key=lambda entry: entry.camera.name)))


def read_model(path: Path) -> ColmapModel:
    """Read the tables of a sparse model; the binary ones if both are present.

    Raises: InputError.
    """
    folder = model_folder(path)
    if folder is None:
        raise bad(path, None, "expected a COLMAP model: cameras and images, .bin or .txt")
    is_text = path.suffix == ".txt" or not is_kind(Path.is_file, folder / "images.bin")
    end = "txt" if is_text else "bin"
    cameras_path, images_path = folder / f"cameras.{end}", folder / f"images.{end}"
    try:
        read_intrinsics = _cameras_text if is_text else _cameras_binary
        intrinsics = read_intrinsics(cameras_path)
    except (struct.error, ValueError, IndexError) as error:
        raise _whole(cameras_path, error) from error
    try:
        poses = (_images_text if is_text else _images_binary)(images_path)
    except (struct.error, ValueError, IndexError) as error:
        raise _whole(images_path, error) from error
    if not poses:
        raise bad(images_path, None, "expected images with their poses, got 0 of them")
    return ColmapModel(images_path, intrinsics, poses)


def _whole(path: Path, error: Exception) -> Exception:
    if isinstance(error, InputError):
        return error
    return bad(path, None, f"expected a whole COLMAP file: {show(str(error))}")


def _stage_camera(
    path: Path, pose: ImagePose, intrinsics: Mapping[int, _Intrinsics]
) -> StageCamera:
    place = f"image {show(pose.name)}"
    if pose.camera not in intrinsics:
        raise bad(path, None, f"{place}: expected a camera of cameras, got number {pose.camera}")
    model, width, height, numbers = intrinsics[pose.camera]
    if model not in MODELS:
        text = f"{place}: expected a perspective camera, got {show(model)}"
        raise bad(path, None, f"{text}; colmap image_undistorter makes one")
    if len(numbers) != len(MODELS[model]):
        text = f"{place}: expected {len(MODELS[model])} parameters of {model}, got {len(numbers)}"
        raise bad(path, None, text)
    if not np.isfinite([*numbers, *pose.quat, *pose.translation]).all():
        raise bad(path, None, f"{place}: expected finite numbers")
    values = dict(zip(MODELS[model], numbers, strict=True))
    w, x, y, z = pose.quat
    length = float(np.linalg.norm(pose.quat))
    if not 1e-6 < length < 1e6:
        raise bad(path, None, f"{place}: expected a quaternion, got length {length:g}")
    R = Rotation.from_quat([x, y, z, w]).as_matrix()
    viewmat = rigid_matrix(R, np.array(pose.translation))
    check_rigid(path, place, viewmat)
    camera = make_camera(
        path,
        place,
        viewmat=viewmat,
        focal=(values.get("fx", values.get("f", 0.0)), values.get("fy", values.get("f", 0.0))),
        centre=(values["cx"], values["cy"]),
        size=(width, height),
        name=pose.name,
    )
    return StageCamera(camera, Lens(**{k: v for k, v in values.items() if k[0] in "kp"}))


# ---- text ----


def _rows(path: Path) -> list[tuple[int, str]]:
    lines = enumerate(read_lines(path), start=1)
    return [(number, line.strip()) for number, line in lines if not line.lstrip().startswith("#")]


def _cameras_text(path: Path) -> dict[int, _Intrinsics]:
    cameras = {}
    for number, line in _rows(path):
        if not line:
            continue
        words = line.split()
        if len(words) < 5:
            raise bad(path, number, f"expected a camera's number, model and size, got {show(line)}")
        key, model, width, height, *numbers = words
        try:
            parameters = tuple(map(parse_number, numbers))
            cameras[int(key)] = _Intrinsics(model, int(width), int(height), parameters)
        except ValueError as error:
            raise bad(path, number, f"expected numbers of a camera: {show(str(error))}") from error
    return cameras


def _images_text(path: Path) -> list[ImagePose]:
    poses, rows, place = [], _rows(path), 0
    while place < len(rows):
        number, line = rows[place]
        if not line:
            place += 1
            continue
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise bad(path, number, f"expected an image: 10 values, got {len(words)}")
        try:
            quat, translation = (
                tuple(map(parse_number, words[1:5])),
                tuple(map(parse_number, words[5:8])),
            )
            poses.append(ImagePose(quat, translation, int(words[8]), words[9]))
        except ValueError as error:
            raise bad(path, number, f"expected numbers of an image: {show(str(error))}") from error
        place += 2  # the image's points, which may be empty
    return poses


def write_colmap(folder: Path, cameras: Sequence[StageCamera]) -> tuple[str, ...]:
    """Write a model as text, without points: a camera for each image; notes on changed names."""
    lines = ["# Camera list with one line of data per camera:"]
    lines.append("#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]")
    images = ["# Image list with two lines of data per image:"]
    images.append("#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME")
    images.append("#   POINTS2D[] as (X, Y, POINT3D_ID)")
    renamed = False
    for number, (camera, lens) in enumerate(cameras, start=1):
        K = camera.K.double().cpu().numpy()
        values = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], **vars(lens)}
        model = "FULL_OPENCV" if lens.k3 or lens.k4 or lens.k5 or lens.k6 else "OPENCV"
        model = "PINHOLE" if lens.is_straight else model
        numbers = " ".join(f"{float(values[key]):.17g}" for key in MODELS[model])
        lines.append(f"{number} {model} {camera.width} {camera.height} {numbers}")
        viewmat = camera.viewmat.double().cpu().numpy()
        x, y, z, w = Rotation.from_matrix(viewmat[:3, :3]).as_quat()
        pose = " ".join(f"{float(value):.17g}" for value in (w, x, y, z, *viewmat[:3, 3]))
        name = "_".join((camera.name or f"{number - 1:06d}").split())  # names end at a space
        renamed = renamed or name != camera.name
        images += [f"{number} {pose} {number} {name}", ""]
    write_text(folder / "cameras.txt", "\n".join(lines) + "\n")
    write_text(folder / "images.txt", "\n".join(images) + "\n")
    write_text(folder / "points3D.txt", "# 3D point list\n")
    return (f"{folder}: spaces in names of cameras became _",) if renamed else ()


# ---- binary ----


def _cameras_binary(path: Path) -> dict[int, _Intrinsics]:
    data = read_bytes(path, MOST_BYTES)
    (count,), place = struct.unpack_from("<Q", data), 8
    cameras = {}
    for _ in range(count):
        key, model, width, height = struct.unpack_from("<iiQQ", data, place)
        if not 0 <= model < len(BINARY_MODELS):
            raise bad(path, None, f"expected one of COLMAP's camera models, got number {model}")
        name, parameters = BINARY_MODELS[model]
        numbers = struct.unpack_from(f"<{parameters}d", data, place + 24)
        cameras[key] = _Intrinsics(name, width, height, numbers)
        place += 24 + 8 * parameters
    return cameras


def _images_binary(path: Path) -> list[ImagePose]:
    data = read_bytes(path, MOST_BYTES)
    (count,), place = struct.unpack_from("<Q", data), 8
    poses = []
    for _ in range(count):
        _, *numbers, camera = struct.unpack_from("<I7dI", data, place)
        end = data.index(b"\0", place + 64)
        name = data[place + 64 : end].decode("utf-8", "replace")
        poses.append(ImagePose(tuple(numbers[:4]), tuple(numbers[4:]), camera, name))
        (points,) = struct.unpack_from("<Q", data, end + 1)
        place = end + 9 + 24 * points
        if place > len(data):
            raise bad(path, None, f"expected {place} bytes, got {len(data)}")
    return poses
