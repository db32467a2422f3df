"""Read MVHumanNet and MVHumanNet++: one outfit's folder.

    images/CAMERA/0005_img.jpg             or images_lr/; half the calibrated size
    fmask/CAMERA/0005_img_fmask.png        or fmask_lr/
    camera_intrinsics.json                 one K for all cameras, of the full size
    camera_extrinsics.json                 "1_CAMERA.png": rotation, translation, and others
    camera_scale.pkl                       metres = translation / 1000 * scale
    smplx/smpl/000000.json                 SMPL-X as EasyMocap writes it; else smpl_param/*.pkl
    smplx/keypoints3d/000000.json

An image's number is five times its pose's, and begins with 5. Source: MVHumanNet's README and
visual_smpl; the public loaders divide the number by 5 and subtract 1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from ash_core.captures.capture import Capture, CaptureCamera
from ash_core.captures.layouts.assemble import Extras, Shots, assemble, json_numbers, list_refs
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.easymocap import read_keypoints
from ash_core.captures.layouts.parts import capture_camera, lens_of, list_folder
from ash_core.conventions import MM_PER_M
from ash_core.files.body_pose_files import read_body_poses
from ash_core.files.cameras.checks import as_object, rigid_matrix
from ash_core.files.cameras.opencv_yaml import HALF_PIXEL
from ash_core.files.io import bad, is_kind, read_json, show
from ash_core.files.restricted_pickle import read_pickle

INTRINSICS, EXTRINSICS = "camera_intrinsics.json", "camera_extrinsics.json"
SCALE: Final = "camera_scale.pkl"
IMAGES: Final = ("images", "images_lr")
MASKS: Final = ("fmask", "fmask_lr")
STEP: Final = 5
"""Step of the images' numbers from one pose to the next."""
FPS: Final = 25.0 / STEP
"""Frames a second of the published images. Source: the paper, 25 before every fifth is taken."""
LARGE_SCALE: Final = 120 / 65
"""Scale of the captures of 4096 x 3000 px. Source: visual_smpl; all others have 2448 x 2048."""
SIZES: Final = ((4096, 3000), (2448, 2048))
SAME_SCALE: Final = 1e-3


def is_mvhumannet(folder: Path) -> bool:
    """Return whether a folder is an outfit of MVHumanNet."""
    return all(is_kind(Path.is_file, folder / name) for name in (INTRINSICS, EXTRINSICS))


def read_mvhumannet(folder: Path, choice: Choice) -> Capture:
    """Read the folder of one outfit. Raises: InputError."""
    images, masks = _first_folder(folder, IMAGES), _first_folder(folder, MASKS)
    shots = [
        Shots(camera, list_refs(images / camera.name), list_refs(masks / camera.name))
        for camera in _cameras(folder)
    ]
    numbers = {number for shot in shots for number in shot.images}
    poses, path = None, choice.poses or _poses_path(folder)
    if path is not None:
        poses = read_body_poses(path)
        poses = replace(poses, frames=_image_numbers(poses.frames, numbers))
    # Folders of images without a calibration are left out.
    names = {shot.camera.name for shot in shots}
    strangers = [name for name in list_folder(images)[0] if name not in names]
    notes = [f"folder {show(name)}: not in {EXTRINSICS}, left out" for name in strangers[:3]]
    notes += () if poses is None else poses.notes
    keypoints, own = read_keypoints(folder / "smplx", notes)
    extras = Extras(
        poses=poses,
        poses_path=path or folder,
        keypoints=keypoints,
        keypoint_frames=_image_numbers(own, numbers),
        notes=tuple(notes),
    )
    return assemble("mvhumannet", folder, shots, choice, FPS, extras)


def _first_folder(folder: Path, names: Iterable[str]) -> Path:
    """Return the first folder of these names that is there, else the first."""
    paths = [folder / name for name in names]
    return next((path for path in paths if is_kind(Path.is_dir, path)), paths[0])


def _poses_path(folder: Path) -> Path | None:
    """Return the folder of the poses; None without any."""
    for path, ending in ((folder / "smplx" / "smpl", ".json"), (folder / "smpl_param", ".pkl")):
        if any(name.endswith(ending) for name in list_folder(path)[1]):
            return path
    return None


def _image_numbers(own: Sequence[int], images: Iterable[int]) -> tuple[int, ...]:
    """Return the numbers of the images of poses; where the layout's rule does not fit, by order.

    own: numbers of the poses.
    """
    frames = set(images)
    by_rule = tuple(STEP * (number + 1) for number in own)
    if frames <= set(own):
        return tuple(own)
    if not frames & set(by_rule) and len(frames) == len(own):
        return tuple(sorted(frames))
    return by_rule


# ---- cameras ----


def _cameras(folder: Path) -> list[CaptureCamera]:
    """Read the cameras, in the calibration's order: K is that of the full size."""
    scale = _scale(folder / SCALE)
    size = SIZES[0] if abs(scale - LARGE_SCALE) < SAME_SCALE else SIZES[1]
    # One K for all.
    path = folder / INTRINSICS
    shared = as_object(path, "the file", read_json(path))
    K = json_numbers(path, "intrinsics", shared.get("intrinsics"), 9).reshape(3, 3)
    K[:2, 2] += HALF_PIXEL
    bends = json_numbers(path, "dist", shared.get("dist") or [], None)
    lens = lens_of(path, "of all", bends)
    # A pose for each; its name is the last part of the key.
    path = folder / EXTRINSICS
    cameras = []
    for key, value in as_object(path, "the file", read_json(path)).items():
        name = key.rpartition(".")[0].rpartition("_")[2] or key
        if "/" in name or "\\" in name or name in (".", ".."):
            raise bad(path, None, f"expected cameras named as their folders, got {show(name)}")
        place = f"camera {show(name)}"
        entry = as_object(path, place, value)
        R = json_numbers(path, f"{place}: rotation", entry.get("rotation"), 9).reshape(3, 3)
        t = json_numbers(path, f"{place}: translation", entry.get("translation"), 3)
        viewmat = rigid_matrix(R, t / MM_PER_M * scale)
        cameras.append(capture_camera(path, name, K, viewmat, size, lens))
    return cameras


def _scale(path: Path) -> float:
    """Read the scale of a capture: one number in a pickle. Raises: InputError."""
    value = read_pickle(path)
    numbers = np.asarray(value) if isinstance(value, int | float | np.number | np.ndarray) else None
    is_one = numbers is not None and numbers.size == 1 and numbers.dtype.kind in "fiu"
    number = float(numbers.flat[0]) if numbers is not None and is_one else float("nan")
    if not 1e-3 < number < 1e3:
        raise bad(path, None, f"expected one positive number, got {show(repr(value)[:60])}")
    return number
