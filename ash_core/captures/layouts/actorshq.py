"""Read ActorsHQ: a sequence's folder, or one of its sizes 1x, 2x, 4x.

calibration.csv holds camera-to-world axis-angles and camera centres, m; intrinsics are fractions of
the image size. Source: synthesiaresearch/humanrf, actorshq/dataset/camera_data.py.
"""

import csv
from pathlib import Path
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from ash_core.captures.capture import Capture, CaptureCamera
from ash_core.captures.layouts.assemble import (
    Extras,
    Shots,
    assemble,
    check_name,
    list_refs,
    read_chosen_poses,
)
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import capture_camera, list_folder
from ash_core.files.body_pose_files import read_body_poses
from ash_core.files.cameras.checks import rigid_matrix
from ash_core.files.io import MAX_NUMBER, bad, is_kind, parse_number, read_lines, show
from ash_core.geometry.lens import Lens

CALIBRATION: Final = "calibration.csv"
SMPL_PARAMS: Final = "smpl_params.npz"
SIZES: Final = ("1x", "2x", "4x")
"""Folders of a sequence, the largest images first."""
FPS: Final = 25.0
"""Source: the data set's page."""
_COLUMNS: Final = (*("w", "h", "rx", "ry", "rz", "tx", "ty", "tz", "fx", "fy", "px", "py"),)
_LENS_COLUMNS: Final = ("k1", "k2", "k3")


def is_actorshq(folder: Path) -> bool:
    """Return whether a folder is a sequence in the layout of ActorsHQ, or one of its sizes."""
    return bool(_size_folders(folder))


def read_actorshq(folder: Path, choice: Choice) -> Capture:
    """Read a sequence in the layout of ActorsHQ; of several sizes the largest. Raises: InputError.

    rgbs/CAMERA/CAMERA_rgb000012.jpg, masks/CAMERA/CAMERA_mask000012.png, calibration.csv; poses
    only where smpl_params.npz lies beside them or in the sequence's folder.
    """
    # Choose the size.
    sizes = _size_folders(folder)
    if not sizes:
        raise bad(folder, None, f"expected {CALIBRATION} with rgbs and masks, found none")
    home, notes = sizes[0], []
    if len(sizes) > 1:
        others = ", ".join(size.name for size in sizes[1:])
        notes.append(f"images of {home.name} are read; {others} are there, too")
    cameras = _cameras(home / CALIBRATION)

    # List images and masks of the calibrated cameras.
    shots = [
        Shots(
            camera, list_refs(home / "rgbs" / camera.name), list_refs(home / "masks" / camera.name)
        )
        for camera in cameras
    ]
    names = [camera.name for camera in cameras]
    strangers = [name for name in list_folder(home / "rgbs")[0] if name not in names]
    notes += [f"folder {show(name)}: not in the calibration, left out" for name in strangers[:3]]

    # Poses come from the authors of AnimatableGaussians, not with the data.
    own = [place / SMPL_PARAMS for place in (home, home.parent)]
    path = choice.poses or next((p for p in own if is_kind(Path.is_file, p)), None)
    poses = None
    if path is not None:
        poses = read_body_poses(path) if choice.poses is None else read_chosen_poses(path, shots)
    if poses is None:
        notes.append(f"no {SMPL_PARAMS}: --poses names a file of poses")
    else:
        notes += poses.notes
    extras = Extras(poses, path or folder, notes=tuple(notes))
    fps = FPS if poses is None or poses.fps is None else poses.fps
    return assemble("actorshq", folder, shots, choice, fps, extras)


def _size_folders(folder: Path) -> list[Path]:
    """List the folders with calibration and images: this one, or the sizes in it."""
    return [
        place
        for place in (folder, *(folder / size for size in SIZES))
        if is_kind(Path.is_file, place / CALIBRATION) and is_kind(Path.is_dir, place / "rgbs")
    ]


def _cameras(path: Path) -> list[CaptureCamera]:
    """Read the cameras of a calibration.csv, in its order. Raises: InputError."""
    reader = csv.reader(line.rstrip("\r") for line in read_lines(path))
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise bad(path, reader.line_num, f"expected a table: {show(str(error))}") from None
    header = rows[0][1] if rows else []
    missing = [name for name in ("name", *_COLUMNS) if name not in header]
    if missing:
        text = f"expected the columns name,{','.join(_COLUMNS)}; {missing[0]} is missing"
        raise bad(path, 1, text)
    cameras = []
    for line, row in rows[1:]:
        if any(row):
            if len(row) != len(header):
                raise bad(path, line, f"expected {len(header)} columns, got {len(row)}")
            cameras.append(_camera(path, line, dict(zip(header, row, strict=True))))
    return cameras


def _camera(path: Path, line: int, cells: dict[str, str]) -> CaptureCamera:
    """Make the camera of one row."""
    name, numbers = cells["name"], {}
    check_name(path, line, name)
    for column in (*_COLUMNS, *_LENS_COLUMNS):
        # The columns of the lens are optional.
        cell = cells.get(column, "") or ("0" if column in _LENS_COLUMNS else "")
        try:
            numbers[column] = parse_number(cell)
        except ValueError:
            numbers[column] = np.nan
        if not abs(numbers[column]) < MAX_NUMBER:  # also refuses NaN
            text = f"{column}: expected a finite number, got {show(cell)}"
            raise bad(path, line, f"camera {show(name)}: {text}")
    width, height = numbers["w"], numbers["h"]
    if width != int(width) or height != int(height):
        raise bad(path, line, f"camera {show(name)}: expected a size in px, got {width}, {height}")

    # The principal point is a fraction of the image, the same at 1x, 2x and 4x: it counts from the
    # image's corner, as ours, so half a pixel is not added. The authors' export_colmap.py also
    # writes it unchanged for COLMAP, where the first pixel's centre is (0.5, 0.5).
    K = np.diag([numbers["fx"] * width, numbers["fy"] * height, 1.0])
    K[:2, 2] = numbers["px"] * width, numbers["py"] * height

    # The file's pose is camera-to-world: R^T x - R^T c takes the world to the camera.
    R = Rotation.from_rotvec([numbers["rx"], numbers["ry"], numbers["rz"]]).as_matrix().T
    centre = np.array([numbers["tx"], numbers["ty"], numbers["tz"]])
    lens = Lens(k1=numbers["k1"], k2=numbers["k2"], k3=numbers["k3"])
    viewmat = rigid_matrix(R, -R @ centre)
    return capture_camera(path, name, K, viewmat, (int(width), int(height)), lens)
