"""Read and write JSON of cameras: nerfstudio's transforms.json and graphdeco's cameras.json.

transforms.json, also of instant-ngp: world-from-camera matrices, OpenGL axes, the first pixel's
centre at (0.5, 0.5). cameras.json of 3D Gaussian Splatting: a list; world-from-camera rotation and
place, OpenCV axes, principal point in the middle.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from ash_core.conventions import CameraFormat
from ash_core.files.cameras.checks import (
    MAX_CAMERAS,
    as_number,
    as_numbers,
    as_object,
    check_rigid,
    make_camera,
    rigid_matrix,
)
from ash_core.files.cameras.record import CameraFile, Reading, StageCamera
from ash_core.files.io import bad, show, write_text
from ash_core.geometry.lens import Lens

OPENGL: Final = np.diag([1.0, -1.0, -1.0, 1.0])
"""Matrix that turns a camera with OpenGL axes into one with OpenCV axes, and back."""
NERFSTUDIO_KEYS: Final = {
    *("camera_model", "applied_transform", "applied_scale", "orientation_override"),
    *("ply_file_path", "train_filenames", "val_filenames", "test_filenames", "is_fisheye"),
}
NERFSTUDIO_FRAME_KEYS: Final = {
    *("mask_path", "depth_file_path", "sharpness", "colmap_im_id", "timestep_index"),
    *("camera_index", "camera_model"),
}
"""Keys that occur in no published cameras.json."""
STRAIGHT_MODELS: Final = (
    *("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"),
    "FULL_OPENCV",
)
_PARAMS: Final = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Order of nerfstudio's distortion_params."""
_LENS_KEYS: Final = ("k1", "k2", "p1", "p2", "k3")


def json_format(path: Path, content: object) -> CameraFormat:
    """Detect the format of a JSON file by its keys, else by its name. Raises: InputError."""
    if isinstance(content, list):
        return "graphdeco"
    shared = as_object(path, "the file", content)
    listed = shared.get("frames")
    frames = [f for f in listed if isinstance(f, dict)] if isinstance(listed, list) else []
    if shared.keys() & NERFSTUDIO_KEYS or any(f.keys() & NERFSTUDIO_FRAME_KEYS for f in frames):
        return "nerfstudio"
    # The release has intrinsics in each frame; instant-ngp and Blender's scripts share them.
    named = path.name.lower().startswith("transforms")
    shares = bool(shared.keys() & {"fl_x", "camera_angle_x"})
    if named and shares:
        return "nerfstudio"
    if not named and (not shares or path.name.lower().startswith("cameras")):
        return "published"
    raise bad(
        path,
        None,
        "cannot be told from its content: a published cameras.json (OpenCV axes), or a "
        "transforms.json of nerfstudio or instant-ngp (OpenGL axes)? 'ash-studio cameras "
        f"{path.name} -o cameras.json --format published' or '--format nerfstudio' reads it",
    )


def read_transforms(path: Path, content: object, reading: Reading) -> CameraFile:
    """Read a transforms.json. Raises: InputError."""
    shared = as_object(path, "the file", content)
    frames = _first_moments(shared.get("frames"))
    if not isinstance(frames, list) or not 0 < len(frames) <= MAX_CAMERAS:
        raise bad(path, None, f"expected 'frames', a list of 1 to {MAX_CAMERAS} cameras")
    undo, notes = _applied(path, shared, reading)
    cameras = []
    for number, frame in enumerate(frames):
        place = f"frames[{number}]"
        values = {**shared, **as_object(path, place, frame)}
        rows = values.get("transform_matrix")
        count = 3 if isinstance(rows, list) and len(rows) == 3 else 4
        T_world_camera = np.eye(4)
        T_world_camera[:count] = as_numbers(path, f"{place}: transform_matrix", rows, (count, 4))
        check_rigid(path, place, T_world_camera)
        T_world_camera = undo(T_world_camera)
        if reading.axes != "opencv":
            T_world_camera = T_world_camera @ OPENGL
        name = values.get("file_path", f"{number:06d}")
        cameras.append(_frame(path, place, values, T_world_camera, str(name), reading))
    return CameraFile("nerfstudio", tuple(cameras), notes, axes_assumed=reading.axes is None)


def _first_moments(frames: object) -> object:
    """Keep the first frame of each camera if cameras and moments are numbered, as in VHAP."""
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        return frames
    if not all("timestep_index" in frame and "camera_index" in frame for frame in frames):
        return frames
    first: dict[str, object] = {}
    for frame in frames:
        first.setdefault(str(frame["camera_index"]), frame)
    return list(first.values())


def _applied(path: Path, shared: dict[str, object], reading: Reading):  # type: ignore[no-untyped-def]
    """Make the function that undoes `applied_transform`, if requested; else a note on it."""
    transform = np.eye(4)
    if shared.get("applied_transform") is not None:
        rows = shared["applied_transform"]
        count = 4 if isinstance(rows, list) and len(rows) == 4 else 3
        transform[:count] = as_numbers(path, "applied_transform", rows, (count, 4))
        check_rigid(path, "applied_transform", transform)
    scale = 1.0
    if shared.get("applied_scale") is not None:
        scale = as_number(path, "applied_scale", shared["applied_scale"])
        if not 1e-6 < scale < 1e6:
            raise bad(path, None, f"applied_scale: expected a positive number, got {scale:g}")
    if reading.source_world:

        def undo(matrix: np.ndarray) -> np.ndarray:
            matrix = matrix.copy()
            matrix[:3, 3] /= scale
            return np.linalg.inv(transform) @ matrix

        return undo, ()
    moved = bool(np.abs(transform - np.eye(4)).max() > 1e-9) or scale != 1.0
    text = f"{path}: the world is that after its applied_transform; --source-world undoes it"
    return (lambda matrix: matrix), ((text,) if moved else ())


def _frame(
    path: Path,
    place: str,
    values: dict[str, object],
    T_world_camera: np.ndarray,
    name: str,
    reading: Reading,
) -> StageCamera:
    def number(key: str, default: float | None = None) -> float:
        value = values.get(key)
        if value is None and default is not None:
            return default
        return as_number(path, f"{place}: {key}", value)

    # Refuse cameras that are not perspective.
    model = str(values.get("camera_model", "OPENCV")).upper()
    if model not in STRAIGHT_MODELS or values.get("is_fisheye"):
        kind = "fisheye" if values.get("is_fisheye") else show(model)
        text = f"{place}: expected a perspective camera, got {kind}"
        raise bad(path, None, f"{text}; undistort the images with the program that made it")

    # Read sizes and focal lengths, global or of the frame; angles of view may replace the latter.
    size = reading.size or (0, 0)
    if values.get("w") is None and reading.size is None:
        raise bad(path, None, f"{place}: expected the image size w and h; --size gives it")
    width, height = number("w", float(size[0])), number("h", float(size[1]))
    focal_x = values.get("fl_x")
    if focal_x is None:
        angle = number("camera_angle_x")
        if not 0.0 < angle < math.pi:
            raise bad(path, None, f"{place}: camera_angle_x: expected 0 to pi rad, got {angle:g}")
        focal_x = width / (2.0 * math.tan(angle / 2.0))
    fl_x = as_number(path, f"{place}: fl_x", focal_x)

    # Read the distortion, a list or single entries: k1, k2, k3, p1, p2.
    if values.get("distortion_params") is not None:
        place_of = f"{place}: distortion_params"
        params = as_numbers(path, place_of, values["distortion_params"], (6,)).tolist()
        values = {**values, **dict(zip(_PARAMS, params, strict=True))}
    for key in ("k4", "k5", "k6"):
        if number(key, 0.0) != 0.0:
            text = f"{place}: expected distortion by k1, k2, k3, p1, p2, got {key}"
            raise bad(path, None, f"{text} = {number(key):g}")
    camera = make_camera(
        path,
        place,
        viewmat=np.linalg.inv(T_world_camera),
        focal=(fl_x, number("fl_y", fl_x)),
        centre=(number("cx", width / 2), number("cy", height / 2)),
        size=(width, height),
        name=name,
    )
    return StageCamera(camera, Lens(**{key: number(key, 0.0) for key in _LENS_KEYS}))


def write_transforms(path: Path, cameras: Sequence[StageCamera]) -> None:
    """Write a transforms.json with nerfstudio's camera model OPENCV and intrinsics in every
    frame."""
    frames = []
    for number, (camera, lens) in enumerate(cameras):
        K = camera.K.double()
        frame: dict[str, object] = {
            "file_path": camera.name or f"{number:06d}",
            "fl_x": K[0, 0].item(),
            "fl_y": K[1, 1].item(),
            "cx": K[0, 2].item(),
            "cy": K[1, 2].item(),
            "w": camera.width,
            "h": camera.height,
        }
        frame |= {key: getattr(lens, key) for key in _LENS_KEYS}
        T_world_camera = torch.linalg.inv(camera.viewmat.double()).cpu().numpy() @ OPENGL
        frame["transform_matrix"] = T_world_camera.tolist()
        frames.append(frame)
    content = {"camera_model": "OPENCV", "frames": frames}
    write_text(path, json.dumps(content, indent=4) + "\n")


# ---- graphdeco ----


def read_graphdeco(path: Path, content: object, reading: Reading) -> CameraFile:
    """Read a cameras.json of 3D Gaussian Splatting. Raises: InputError."""
    entries = content if isinstance(content, list) else []
    if not 0 < len(entries) <= MAX_CAMERAS:
        raise bad(path, None, f"expected a list of 1 to {MAX_CAMERAS} cameras")
    cameras = []
    for number, value in enumerate(entries):
        place = f"[{number}]"
        entry = as_object(path, place, value)
        R = as_numbers(path, f"{place}: rotation", entry.get("rotation"), (3, 3))
        position = as_numbers(path, f"{place}: position", entry.get("position"), (3,))
        T_world_camera = rigid_matrix(R, position)
        check_rigid(path, place, T_world_camera)
        if reading.axes == "opengl":
            T_world_camera = T_world_camera @ OPENGL
        width, height, fx, fy = (
            as_number(path, f"{place}: {key}", entry.get(key))
            for key in ("width", "height", "fx", "fy")
        )
        cx, cy = (
            as_number(path, f"{place}: {key}", entry.get(key, side / 2))
            for key, side in (("cx", width), ("cy", height))
        )
        camera = make_camera(
            path,
            place,
            viewmat=np.linalg.inv(T_world_camera),
            focal=(fx, fy),
            centre=(cx, cy),
            size=(width, height),
            name=str(entry.get("img_name", entry.get("id", number))),
        )
        cameras.append(StageCamera(camera))
    return CameraFile("graphdeco", tuple(cameras))


def write_graphdeco(path: Path, cameras: Sequence[StageCamera]) -> tuple[str, ...]:
    """Write a cameras.json of 3D Gaussian Splatting; return notes on what other readers ignore."""
    entries, uncentred = [], False
    for number, (camera, _) in enumerate(cameras):
        K = camera.K.double()
        T_world_camera = torch.linalg.inv(camera.viewmat.double())
        entry: dict[str, object] = {
            "id": number,
            "img_name": camera.name or f"{number:06d}",
            "width": camera.width,
            "height": camera.height,
            "position": T_world_camera[:3, 3].tolist(),
            "rotation": T_world_camera[:3, :3].tolist(),
            "fy": K[1, 1].item(),
            "fx": K[0, 0].item(),
        }
        centre = K[0, 2].item(), K[1, 2].item()
        if centre != (camera.width / 2, camera.height / 2):
            uncentred = True
            entry |= {"cx": centre[0], "cy": centre[1]}
        entries.append(entry)
    write_text(path, json.dumps(entries) + "\n")
    text = f"{path}: cx and cy are ours: other programs take the middle of the image for them"
    return (text,) if uncentred else ()
