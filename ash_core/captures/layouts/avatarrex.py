"""Read AvatarReX and THuman4.0: the layouts that users of AnimatableGaussians write.

World-to-camera, metres, OpenCV axes; poses are SMPL-X with flat hands and eyes at rest. Source:
AnimatableGaussians, AVATARREX_DATASET.md and gen_data/GEN_DATA.md; mmlphuman's loaders.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ash_core.captures.capture import Capture, CaptureCamera, Layout
from ash_core.captures.layouts.assemble import (
    Extras,
    Shots,
    assemble,
    check_name,
    json_numbers,
    list_refs,
    read_chosen_poses,
    read_missing,
    without_missing,
)
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import capture_camera, lens_of, list_folder
from ash_core.files.body_pose_files import read_body_poses
from ash_core.files.cameras.checks import as_object, rigid_matrix
from ash_core.files.cameras.opencv_yaml import HALF_PIXEL
from ash_core.files.io import bad, is_kind, read_json, show

AVATARREX_CALIBRATION: Final = "calibration_full.json"
THUMAN4_CALIBRATION: Final = "calibration.json"
SMPL_PARAMS: Final = "smpl_params.npz"
MISSING_IMAGES: Final = "missing_img_files.txt"
MISSING_MASKS: Final = "missing_msk_files.txt"
FPS: Final = 30.0
"""Source: the pages of AvatarReX and THuman4.0."""


def is_avatarrex(folder: Path) -> bool:
    """Return whether a folder is a capture in the layout of AvatarReX."""
    return is_kind(Path.is_file, folder / AVATARREX_CALIBRATION)


def is_thuman4(folder: Path) -> bool:
    """Return whether a folder is a capture in the layout of THuman4.0."""
    has_images = is_kind(Path.is_dir, folder / "images")
    return has_images and is_kind(Path.is_file, folder / THUMAN4_CALIBRATION)


def read_avatarrex(folder: Path, choice: Choice) -> Capture:
    """Read a capture in the layout of AvatarReX. Raises: InputError.

    CAMERA/00000012.jpg, CAMERA/mask/pha/00000012.jpg, calibration_full.json, smpl_params.npz.
    """
    cameras = _cameras(folder / AVATARREX_CALIBRATION)
    places = [(folder / name, folder / name / "mask" / "pha") for name in _names(cameras)]
    others = [name for name in list_folder(folder)[0] if name not in _names(cameras)]
    strangers = [name for name in others if list_refs(folder / name)]
    return _read("avatarrex", folder, choice, cameras, places, strangers)


def read_thuman4(folder: Path, choice: Choice) -> Capture:
    """Read a capture in the layout of THuman4.0. Raises: InputError.

    images/CAMERA/00000012.jpg, masks/CAMERA/00000012.jpg, calibration.json, smpl_params.npz.
    """
    cameras = _cameras(folder / THUMAN4_CALIBRATION)
    places = [(folder / "images" / name, folder / "masks" / name) for name in _names(cameras)]
    folders = list_folder(folder / "images")[0]
    strangers = [name for name in folders if name not in _names(cameras)]
    return _read("thuman4", folder, choice, cameras, places, strangers)


def _names(cameras: Sequence[CaptureCamera]) -> list[str]:
    return [camera.name for camera in cameras]


def _read(
    layout: Layout,
    folder: Path,
    choice: Choice,
    cameras: Sequence[CaptureCamera],
    places: Sequence[tuple[Path, Path]],
    strangers: Sequence[str],
) -> Capture:
    """Read what both layouts share.

    places: folders of each camera's images and masks. strangers: folders of other cameras.
    """
    # Files that the capture lists as missing do not count, even where a broken one is there.
    missing = read_missing(folder / MISSING_IMAGES) + read_missing(folder / MISSING_MASKS)
    shots = [
        Shots(camera, without_missing(list_refs(images), camera.name, missing), list_refs(masks))
        for camera, (images, masks) in zip(cameras, places, strict=True)
    ]
    notes = [f"folder {show(name)}: not in the calibration, left out" for name in strangers[:3]]
    path = choice.poses or folder / SMPL_PARAMS
    poses = read_body_poses(path) if choice.poses is None else read_chosen_poses(path, shots)
    extras = Extras(poses, path, missing=missing, notes=(*notes, *poses.notes))
    return assemble(layout, folder, shots, choice, poses.fps or FPS, extras)


def _cameras(path: Path) -> list[CaptureCamera]:
    """Read the cameras of a calibration, in its order. Raises: InputError."""
    cameras = []
    entries = as_object(path, "file", read_json(path))
    for name, value in entries.items():
        place = f"camera {show(name)}"
        entry = as_object(path, place, value)
        check_name(path, None, name)

        # OpenCV counts pixels from the first one's centre, we from its corner.
        K = json_numbers(path, f"{place}: K", entry.get("K"), 9).reshape(3, 3)
        K[:2, 2] += HALF_PIXEL
        R = json_numbers(path, f"{place}: R", entry.get("R"), 9).reshape(3, 3)
        t = json_numbers(path, f"{place}: T", entry.get("T"), 3)
        width, height = json_numbers(path, f"{place}: imgSize", entry.get("imgSize"), 2)
        bends = json_numbers(path, f"{place}: distCoeff", entry.get("distCoeff", []), None)
        if width != int(width) or height != int(height):
            raise bad(path, None, f"{place}: expected an image size in px, got {width}, {height}")
        size, lens = (int(width), int(height)), lens_of(path, name, bends)
        cameras.append(capture_camera(path, name, K, rigid_matrix(R, t), size, lens))
    return cameras
