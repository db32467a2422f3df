"""Parts that several readers of layouts share: listed folders, choices, checked cameras, poses."""

import errno
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.captures.capture import CaptureCamera
from ash_core.captures.layouts.choice import Choice
from ash_core.errors import InputError
from ash_core.files.body_poses import BodyPoses
from ash_core.files.cameras.checks import check_rigid, make_camera
from ash_core.files.io import bad, show
from ash_core.frame_choice import parse_frames
from ash_core.geometry.lens import Lens

IMAGE_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_ENDINGS: Final = (".mp4", ".mov", ".mkv", ".avi", ".webm")
MAX_SKEW: Final = 1e-6
SHAPE_TOLERANCE_PX: Final = 1.0
"""Largest error of a stored image's height at the scale of its width: sizes are rounded."""
_DIGITS: Final = re.compile(r"[0-9]+")


# ---- folders ----


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """List (folders, files) of a folder by name, numbers in order; no file is opened.

    Hidden names are left out; a missing folder is empty. Raises: InputError.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte
        return [], []
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # nothing can be there
            return [], []
        raise bad(folder, None, f"cannot be listed: {error.strerror or error}") from error
    return sorted(folders, key=natural_order), sorted(files, key=natural_order)


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return the key that sorts names with numbers: cam2 before cam10."""
    words = re.split(r"([0-9]{1,18})", name)
    return tuple((int(word), "") if word.isdigit() else (-1, word) for word in words)


def number_of(name: str) -> int | None:
    """Return the last number in a file's name without its ending; None without one."""
    numbers = _DIGITS.findall(name.rpartition(".")[0] or name)
    return int(numbers[-1][-9:]) if numbers else None


def numbered_files(folder: Path, endings: Sequence[str]) -> dict[int, str]:
    """List the files of a folder with one of the endings by the last number in their names.

    Raises: InputError, for two files of one number.
    """
    numbered: dict[int, str] = {}
    for name in list_folder(folder)[1]:
        if not name.lower().endswith(tuple(endings)) or (number := number_of(name)) is None:
            continue
        if number in numbered:
            text = f"expected one file of frame {number}, got {show(numbered[number])} too"
            raise bad(folder / name, None, text)
        numbered[number] = name
    return dict(sorted(numbered.items()))


# ---- choices ----


def choose_cameras(folder: Path, names: Sequence[str], choice: Choice) -> list[int]:
    """Return the indices of the chosen cameras, in the capture's order. Raises: InputError."""
    if not names:
        raise bad(folder, None, "expected cameras with images, found none")
    if choice.cameras is None:
        return list(range(len(names)))
    chosen: set[int] = set()
    for word in choice.cameras.split(","):
        text = word.strip()
        if text in names:
            chosen.add(names.index(text))
        elif text.isascii() and text.isdigit() and len(text) < 9 and int(text) < len(names):
            chosen.add(int(text))
        else:
            some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            text = f"expected names of cameras or 0 to {len(names) - 1}, got {show(text)}"
            raise InputError(f"--cameras: {text}; the cameras of {folder} are {some}")
    return sorted(chosen)


def choose_numbers(folder: Path, numbers: Iterable[int], choice: Choice) -> list[int]:
    """Return the chosen frames of a capture, rising. Raises: InputError for none."""
    rising = sorted(set(numbers))
    if not rising:
        raise bad(folder, None, "expected images of at least one frame, found none")
    return sorted(rising[place] for place in set(parse_frames(choice.frames, len(rising))))


# ---- poses ----


def numbered_as(poses: BodyPoses, numbers: Iterable[int]) -> BodyPoses:
    """Number poses as the frames of a capture where only the counts agree.

    So a file that counts from 0 fits frames 1 to N. numbers: all frames with images.
    """
    frames = tuple(sorted(set(numbers)))
    if len(frames) == len(poses.frames) and not set(frames) <= set(poses.frames):
        return replace(poses, frames=frames)
    return poses


# ---- cameras ----


def capture_camera(
    path: Path,
    name: str,
    K: Float[ndarray, "3 3"],
    viewmat: Float[ndarray, "4 4"],
    size: tuple[int, int],
    lens: Lens,
) -> CaptureCamera:
    """Make a camera of checked numbers; path: the calibration. Raises: InputError."""
    place = f"camera {show(name)}"
    coefficients = list(vars(lens).values())
    if not (
        np.isfinite(K).all() and np.isfinite(viewmat).all() and np.isfinite(coefficients).all()
    ):
        raise bad(path, None, f"{place}: expected finite numbers, got NaN or infinity")
    if abs(K[0, 1]) > MAX_SKEW or np.abs(K[[1, 2, 2], [0, 0, 1]]).max() > MAX_SKEW or K[2, 2] != 1:
        raise bad(path, None, f"{place}: expected K = fx 0 cx, 0 fy cy, 0 0 1")
    check_rigid(path, place, viewmat)
    # The same bounds as for every other file of cameras.
    centre = float(K[0, 2]), float(K[1, 2])
    make_camera(path, place, viewmat, (float(K[0, 0]), float(K[1, 1])), centre, size, name)
    return CaptureCamera(name, K, viewmat, *size, lens)


def lens_of(path: Path, name: str, numbers: Float[ndarray, "..."]) -> Lens:
    """Make a lens of OpenCV's coefficients: none, 4, 5 or 8 of them. Raises: InputError."""
    values = np.asarray(numbers, np.float64).ravel()
    if len(values) not in (0, 4, 5, 8):
        text = f"expected 0, 4, 5 or 8 distortion coefficients, got {len(values)}"
        raise bad(path, None, f"camera {show(name)}: {text}")
    return Lens(*map(float, values))


def resize_camera(camera: CaptureCamera, image: Path | str, size: tuple[int, int]) -> CaptureCamera:
    """Scale a camera to the size of its stored images. Raises: InputError for another shape.

    image: named in errors.
    """
    width, height = size
    factors = width / camera.width, height / camera.height
    if abs(camera.height * factors[0] - height) > SHAPE_TOLERANCE_PX:
        expected = f"{camera.width} x {camera.height} px of camera {show(camera.name)}"
        text = f"expected {expected}, or a smaller image of this shape, got {width} x {height}"
        raise bad(image, None, text)
    K = np.diag([*factors, 1.0]) @ camera.K
    return replace(camera, K=K, width=width, height=height)
