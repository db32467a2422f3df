"""Read ZJU-MoCap and captures in its layout: annots.npy, images by camera, SMPL fits by frame.

World-to-camera with T in millimetres; Rh and Th move the body about the model's origin. Source:
zju3dv/neuralbody, lib/datasets/light_stage/multi_view_dataset.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.captures.capture import Capture, CaptureCamera, ImageRef
from ash_core.captures.images import image_size
from ash_core.captures.layouts.assemble import Extras, Shots, assemble, read_chosen_poses
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import (
    capture_camera,
    lens_of,
    list_folder,
    number_of,
    numbered_files,
)
from ash_core.conventions import FPS, MM_PER_M
from ash_core.files.body_pose_files import poses_of_arrays
from ash_core.files.body_poses import BodyPoses
from ash_core.files.cameras.checks import MAX_CAMERAS, rigid_matrix
from ash_core.files.cameras.opencv_yaml import HALF_PIXEL
from ash_core.files.io import bad, is_kind, show
from ash_core.files.restricted_pickle import read_object_array

ANNOTATIONS: Final = "annots.npy"
MASK_FOLDERS: Final = ("mask_cihp", "mask")
PARAM_FOLDERS: Final = ("new_params", "params")
MAX_FRAMES: Final = 1_000_000
_LONG_NAME: Final = "_Camera_("
"""Part of the image names of the sequences 313 and 315."""
_POSE_KEYS: Final = ("poses", "Rh", "Th", "shapes")


def is_zju(folder: Path) -> bool:
    """Return whether a folder is a capture in the layout of ZJU-MoCap."""
    return is_kind(Path.is_file, folder / ANNOTATIONS)


def read_zju(folder: Path, choice: Choice) -> Capture:
    """Read a capture in the layout of ZJU-MoCap. Raises: InputError.

    annots.npy with cameras and the images' paths; mask_cihp/PATH.png; new_params/12.npy.
    """
    # Read the annotations: a pickle, of which nothing is run.
    path = folder / ANNOTATIONS
    annotations = _dictionary(path, read_object_array(path))
    paths = _image_paths(path, annotations)
    listed = [_listed(folder, column) for column in paths]
    images = [refs for _, refs, _ in listed]
    masks = [masks for _, _, masks in listed]
    names = [name for name, _, _ in listed]

    # The calibration has no image size: that of the images counts.
    cams = _dictionary(path, annotations.get("cams"))
    shots = []
    for index, name in enumerate(names):
        size = image_size(images[index][min(images[index])]) if images[index] else (1, 1)
        camera = _camera(path, name, cams, index, size)
        shots.append(Shots(camera, images[index], masks[index]))

    # Read a fit for each frame.
    notes = [f"no frame rate in this layout: {FPS:g} a second"]
    poses, poses_path = _poses(folder, choice, shots)
    if poses is None:
        notes.append("no fits in new_params or params: --poses names a file of poses")
    else:
        notes += poses.notes
    missing = tuple(
        str(name)
        for column, refs in zip(paths, images, strict=True)
        for number, name in column.items()
        if number not in refs
    )
    extras = Extras(poses, poses_path, missing=missing, notes=tuple(notes))
    return assemble("zju", folder, shots, choice, FPS, extras)


def frame_of(name: str) -> int | None:
    """Return the frame of an image's name: its number, or the fifth part of 313's and 315's.

    Source: neuralbody names the file of the fit by the same number.
    """
    if _LONG_NAME in name:
        part = name.split("_")[4:5]
        return int(part[0]) if part and part[0].isascii() and part[0].isdigit() else None
    return number_of(name)


def _dictionary(path: Path, value: object) -> dict[Any, Any]:
    if not isinstance(value, dict):
        text = f"expected dictionaries as in annots.npy, got {type(value).__name__}"
        raise bad(path, None, text)
    return value


def _items(value: object) -> list[Any]:
    """Return the items of a list or array; anything else has none."""
    if isinstance(value, ndarray):
        return list(value.ravel())
    return list(value) if isinstance(value, list | tuple) else []


def _image_paths(path: Path, annotations: Mapping[Any, Any]) -> list[dict[int, PurePosixPath]]:
    """Return the image paths of each camera by frame: `ims` lists frames, each a path a camera."""
    frames = _items(annotations.get("ims"))
    if not 0 < len(frames) <= MAX_FRAMES:
        raise bad(path, None, f"ims: expected 1 to {MAX_FRAMES} frames, got {len(frames)}")
    columns: list[dict[int, PurePosixPath]] = []
    for order, entry in enumerate(frames):
        names = [str(name) for name in _items(_dictionary(path, entry).get("ims"))]
        if not columns:
            columns = [{} for _ in names]
        if not 0 < len(names) <= MAX_CAMERAS or len(names) != len(columns):
            text = f"expected {len(columns) or 'some'} images, one a camera, got {len(names)}"
            raise bad(path, None, f"ims[{order}]: {text}")
        for column, name in zip(columns, names, strict=True):
            place = PurePosixPath(name.replace("\\", "/"))
            number = frame_of(place.name)
            if place.is_absolute() or ".." in place.parts or number is None:
                text = f"expected paths such as Camera_B1/000000.jpg, got {show(name)}"
                raise bad(path, None, f"ims[{order}]: {text}")
            column[number] = place
    return columns


def _listed(
    folder: Path, paths: Mapping[int, PurePosixPath]
) -> tuple[str, dict[int, ImageRef], dict[int, ImageRef]]:
    """Return a camera's name, and the images and masks that are there; each folder is listed once.

    A camera is named as its images' folder.
    """
    files: dict[PurePosixPath, set[str]] = {}

    def is_there(place: PurePosixPath) -> bool:
        if place.parent not in files:
            files[place.parent] = set(list_folder(folder / place.parent)[1])
        return place.name in files[place.parent]

    images = {n: ImageRef(folder / place) for n, place in paths.items() if is_there(place)}
    masks = {}
    for number, place in paths.items():
        for home in MASK_FOLDERS:
            mask = (home / place).with_suffix(".png")
            if is_there(mask):
                masks[number] = ImageRef(folder / mask)
                break
    first = next(iter(paths.values()))
    return first.parent.name or first.stem, images, masks


def _camera(
    path: Path, name: str, cams: Mapping[Any, Any], index: int, size: tuple[int, int]
) -> CaptureCamera:
    """Make one camera of the lists K, D, R, T. Raises: InputError."""

    def numbers(key: str, counts: Sequence[int]) -> Float[ndarray, "n"]:
        """Return the camera's entry of a list, flat."""
        values = cams.get(key, ())
        try:
            array = np.asarray(values[index], np.float64).ravel()
        except (IndexError, TypeError, ValueError, KeyError, OverflowError):
            text = f"camera {show(name)}: expected numbers in cams/{key}[{index}]"
            raise bad(path, None, text) from None
        if len(array) not in counts or not np.isfinite(array).all():
            text = f"expected {counts[0]} finite numbers, got {show(str(array[:4]))}"
            raise bad(path, None, f"camera {show(name)}: {key}: {text}")
        return array

    # OpenCV counts pixels from the first one's centre, we from its corner.
    K = numbers("K", (9,)).reshape(3, 3)
    K[:2, 2] += HALF_PIXEL
    R = numbers("R", (9,)).reshape(3, 3)
    t = numbers("T", (3,)) / MM_PER_M
    # Captures of straight images in this layout leave D out.
    bends = np.zeros(0) if cams.get("D") is None else numbers("D", (5, 4, 8, 0))
    lens = lens_of(path, name, bends)
    return capture_camera(path, name, K, rigid_matrix(R, t), size, lens)


def _poses(folder: Path, choice: Choice, shots: Sequence[Shots]) -> tuple[BodyPoses | None, Path]:
    """Read the chosen poses, or the fits of the capture."""
    if choice.poses is not None and not numbered_files(choice.poses, (".npy",)):
        return read_chosen_poses(choice.poses, shots), choice.poses
    homes = [folder / name for name in PARAM_FOLDERS]
    for home in homes if choice.poses is None else [choice.poses]:
        files = numbered_files(home, (".npy",))
        if files:
            return _read_fits(home, files), home
    return None, folder


def _read_fits(home: Path, files: Mapping[int, str]) -> BodyPoses:
    """Read a fit of each frame: Rh, Th, poses and shapes in a dictionary. Raises: InputError."""
    rows: dict[str, list[ndarray]] = {key: [] for key in _POSE_KEYS}
    for name in files.values():
        fit = _dictionary(home / name, read_object_array(home / name))
        for key in _POSE_KEYS:
            try:
                row = np.asarray(fit[key], np.float64).ravel()
            except (KeyError, TypeError, ValueError, OverflowError):
                raise bad(home / name, None, f"{key}: expected numbers") from None
            if rows[key] and len(row) != len(rows[key][0]):
                text = f"expected {len(rows[key][0])} numbers as in the first file, got {len(row)}"
                raise bad(home / name, None, f"{key}: {text}")
            rows[key].append(row)
    arrays = {key: np.stack(column) for key, column in rows.items()}
    return poses_of_arrays(home, arrays, tuple(files))
