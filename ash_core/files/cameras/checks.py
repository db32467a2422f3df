"""Checks that all readers of camera files share: a valid camera, or an error that names the
fault."""

from pathlib import Path
from typing import Final

import numpy as np
import torch

from ash_core.conventions import MAX_SIDE_PX
from ash_core.files.io import bad, show
from ash_core.records import Camera

MAX_CAMERAS: Final = 4096
RIGID_TOLERANCE: Final = 1e-3
"""Largest error of R @ R.T against the identity. Published calibrations are within 1e-6."""


def make_camera(
    path: Path | str,
    place: str,
    viewmat: np.ndarray,
    focal: tuple[float, float],
    centre: tuple[float, float],
    size: tuple[float, float],
    name: str,
) -> Camera:
    """Make a camera from numbers of a file; `place` names it in errors. Raises: InputError."""
    if not all(1.0 <= side <= MAX_SIDE_PX and side == int(side) for side in size):
        actual = f"{size[0]:g} x {size[1]:g}"
        raise bad(path, None, f"{place}: expected an image of 1 to {MAX_SIDE_PX} px, got {actual}")
    if not all(1e-3 < length < 1e6 for length in focal):
        actual = f"{focal[0]:g}, {focal[1]:g}"
        raise bad(path, None, f"{place}: expected focal lengths in px, got {actual}")
    if not all(abs(value) < 1e6 for value in centre):
        raise bad(path, None, f"{place}: expected a principal point in px, got {centre}")
    K = [[focal[0], 0.0, centre[0]], [0.0, focal[1], centre[1]], [0.0, 0.0, 1.0]]
    return Camera(
        viewmat=torch.from_numpy(viewmat).float(),
        K=torch.tensor(K, dtype=torch.float32),
        width=int(size[0]),
        height=int(size[1]),
        name=name,
    )


def rigid_matrix(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Put a rotation and a translation into a 4x4 matrix."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, t
    return matrix


def check_rigid(path: Path | str, place: str, matrix: np.ndarray) -> None:
    """Refuse a 4x4 matrix that is not a rotation and translation. Raises: InputError."""
    R = matrix[:3, :3]
    error = float(np.abs(R @ R.T - np.eye(3)).max())
    if not error <= RIGID_TOLERANCE or np.linalg.det(R) < 0.0:
        raise bad(path, None, f"{place}: expected a rotation, got a matrix off by {error:.3g}")
    if np.abs(matrix[3] - [0.0, 0.0, 0.0, 1.0]).max() > 1e-6:
        raise bad(path, None, f"{place}: expected the last row 0 0 0 1 of a 4x4 matrix")
    if np.abs(matrix[:3, 3]).max() > 1e7:
        raise bad(path, None, f"{place}: expected a camera within 10 km")


def as_object(path: Path | str, place: str, value: object) -> dict[str, object]:
    """Return a value of JSON if it is an object. Raises: InputError."""
    if not isinstance(value, dict):
        raise bad(path, None, f"{place}: expected a JSON object, got {show(repr(value)[:60])}")
    return value


def as_number(path: Path | str, place: str, value: object) -> float:
    """Return a value of JSON if it is a finite number. Raises: InputError."""
    # Beyond 1e30 (JSON integers are unbounded) sums in float32 overflow; this also refuses NaN.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        actual = "nothing" if value is None else show(repr(value)[:60])
        raise bad(path, None, f"{place}: expected a finite number, got {actual}")
    return float(value)


def as_numbers(path: Path | str, place: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return a value of JSON if it is an array of finite numbers. Raises: InputError."""
    count = " x ".join(map(str, shape))
    rows = value if isinstance(value, list) else []
    if len(shape) == 2 and len(rows) == shape[0]:
        parts = [as_numbers(path, f"{place}[{n}]", row, shape[1:]) for n, row in enumerate(rows)]
        return np.array(parts)
    if len(shape) != 1 or len(rows) != shape[0]:
        raise bad(path, None, f"{place}: expected {count} numbers, got {show(repr(value)[:60])}")
    return np.array([as_number(path, place, number) for number in rows])
