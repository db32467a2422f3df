"""Read DNA-Rendering: an .smc file of images, and another of calibration, masks and poses.

    ID.smc            Camera_5mp/C/color/F and Camera_12mp/C/color/F, encoded images
    ID_annots.smc     Camera_Parameter/CC/{K, D, RT}, Mask/C/mask/F, SMPLx/*, Keypoints_3D

The folder holds both files, or the first in a folder NAME_main and the second in NAME_annotations
beside it. RT is world-from-camera. Source: the public loaders of SeqAvatar and DNA-Rendering.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ash_core.captures.capture import Capture, CaptureCamera, ImageRef, Keypoints
from ash_core.captures.layouts.assemble import Extras, Shots, assemble
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import (
    capture_camera,
    lens_of,
    list_folder,
    numbered_as,
)
from ash_core.errors import InputError
from ash_core.files.body_pose_files import poses_of_arrays, read_body_poses
from ash_core.files.body_poses import BodyPoses
from ash_core.files.cameras.checks import check_rigid
from ash_core.files.cameras.opencv_yaml import HALF_PIXEL
from ash_core.files.image import image_file_size
from ash_core.files.io import bad, is_kind
from ash_core.files.smc import SmcFile, open_smc

FPS: Final = 15.0
"""Frames a second. Source: the paper of DNA-Rendering, section 3."""
GROUPS: Final = ("Camera_5mp", "Camera_12mp")
ANNOTATIONS: Final = "_annots.smc"
WHOLE_BODY: Final = 133
"""Number of key points in the order of COCO-WholeBody."""
SAME_SCALE: Final = 1e-3
CENTRE_TOLERANCE: Final = 0.25
"""Largest distance of the principal point from the middle, in sides of the image."""
_BODY_NAMES: Final = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip"),
    *("right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_big_toe"),
    *("left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"),
)
WHOLE_BODY_NAMES: Final = (
    *_BODY_NAMES,
    *(f"face{number}" for number in range(68)),
    *(f"{side}_hand{number}" for side in ("left", "right") for number in range(21)),
)
"""Names of the key points. Source: COCO-WholeBody."""


class _Pair(NamedTuple):
    main: Path
    annotations: Path


class _Stored(NamedTuple):
    """Images of one camera."""

    number: int
    folder: str
    """Group of its images."""
    frames: dict[int, str]
    """Name of each frame's image."""


def is_dna(folder: Path) -> bool:
    """Return whether a path is an .smc file or a folder with some."""
    if folder.suffix.lower() == ".smc":
        return is_kind(Path.is_file, folder)
    return any(_mains(place) for place in (folder, *_main_folders(folder)))


def read_dna(folder: Path, choice: Choice) -> Capture:
    """Read a pair of .smc files. folder: theirs, or the .smc file of the images.

    Images stay in the file. Raises: InputError.
    """
    pair = _find_pair(folder)
    # Images by camera and frame.
    with open_smc(pair.main) as file:
        stored = list(_stored_images(file))
        sizes = [_image_size(file, camera) for camera in stored]
        gender = _gender(str(file.attributes().get("gender", "")))
    numbers = {frame for camera in stored for frame in camera.frames}
    # Calibration, masks, poses and key points.
    with open_smc(pair.annotations) as file:
        shots = [
            Shots(_camera(file, camera, size), _images(pair.main, camera), _masks(file, camera))
            for camera, size in zip(stored, sizes, strict=True)
        ]
        poses, path = None, choice.poses or pair.annotations
        if choice.poses is not None:
            poses = read_body_poses(path)
        elif file.has("SMPLx"):
            poses = replace(_poses(file), gender=gender)
        keypoints = _keypoints(file)
    extras = Extras(
        poses=poses and numbered_as(poses, numbers),
        poses_path=path,
        keypoints=keypoints,
        keypoint_frames=() if keypoints is None else tuple(range(len(keypoints.places))),
        notes=() if poses is None else poses.notes,
    )
    return assemble("dna", folder, shots, choice, FPS, extras)


# ---- files ----


def _main_folders(folder: Path) -> list[Path]:
    """List the folders in a folder that hold the files of images, as published."""
    names = [n for n in list_folder(folder)[0] if n.endswith("_main") or n == "main"]
    return [folder / name for name in names]


def _mains(folder: Path) -> list[Path]:
    """List the .smc files of images in a folder."""
    names = list_folder(folder)[1]
    ends = (ANNOTATIONS, "_kinect.smc")
    return [
        folder / name
        for name in names
        if name.lower().endswith(".smc") and not name.lower().endswith(ends)
    ]


def _find_pair(folder: Path) -> _Pair:
    """Find the one file of images, and its annotations beside it. Raises: InputError."""
    if folder.suffix.lower() == ".smc" and is_kind(Path.is_file, folder):
        mains = [folder]
    else:
        mains = _mains(folder) or [
            path for place in _main_folders(folder) for path in _mains(place)
        ]
    if len(mains) != 1:
        names = ", ".join(path.name for path in mains[:4]) or "none"
        text = f"expected one .smc file of images, got {len(mains)}: {names}"
        raise bad(folder, None, text + ("; name the file itself" if mains else ""))
    main = mains[0]
    name = f"{main.stem}{ANNOTATIONS}"
    other = main.parent.name.replace("main", "annotations")
    places = [main.parent / name, main.parent.parent / other / name]
    places.append(main.parent.parent / "annotations" / name)
    for path in places:
        if is_kind(Path.is_file, path):
            return _Pair(main, path)
    raise bad(main, None, f"expected {name} beside it, found none")


# ---- content ----


def _stored_images(file: SmcFile) -> Iterator[_Stored]:
    """Yield the images of each camera, by the cameras' numbers."""
    listed = []
    for group in GROUPS:
        for name in file.names(group):
            folder = f"{group}/{name}/color"
            frames = {int(frame): frame for frame in file.names(folder) if _is_number(frame)}
            if _is_number(name) and frames:
                listed.append(_Stored(int(name), folder, frames))
    if not listed:
        raise file.bad(GROUPS[0], "expected images of cameras in CAMERA/color, found none")
    yield from sorted(listed)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 10


def _image_size(file: SmcFile, camera: _Stored) -> tuple[int, int]:
    member = f"{camera.folder}/{camera.frames[min(camera.frames)]}"
    return image_file_size(file.image(member), f"{file.path}: {member}")


def _camera(file: SmcFile, camera: _Stored, size: tuple[int, int]) -> CaptureCamera:
    """Read a camera's calibration: the intrinsics are those of the stored images."""
    name = f"{camera.number:02d}"
    group = next(
        (name for name in (name, str(camera.number)) if file.has(f"Camera_Parameter/{name}")), name
    )
    place = f"Camera_Parameter/{group}"
    K = file.numbers(f"{place}/K", (3, 3))
    T_world_camera = file.numbers(f"{place}/RT", (4, 4))
    check_rigid(file.path, f"{place}/RT", T_world_camera)
    member = f"{place}/D"
    bends = file.numbers(member, [None] * len(file.shape(member))) if file.has(member) else ()
    width, height = size
    off = abs(K[0, 2] / width - 0.5), abs(K[1, 2] / height - 0.5)
    if not max(off) < CENTRE_TOLERANCE:
        text = f"expected an image around the principal point {K[0, 2]:.0f}, {K[1, 2]:.0f}"
        raise file.bad(place, f"{text}, got {width} x {height} px in {camera.folder}")
    K = K.copy()
    K[:2, 2] += HALF_PIXEL
    lens = lens_of(file.path, name, np.asarray(bends, np.float64))
    return capture_camera(file.path, name, K, np.linalg.inv(T_world_camera), size, lens)


def _images(main: Path, camera: _Stored) -> dict[int, ImageRef]:
    return {
        frame: ImageRef(main, member=f"{camera.folder}/{name}")
        for frame, name in camera.frames.items()
    }


def _masks(file: SmcFile, camera: _Stored) -> dict[int, ImageRef]:
    """List the masks of a camera by frame."""
    names = (str(camera.number), f"{camera.number:02d}")
    folders = [f"Mask/{name}/mask" for name in names if file.has(f"Mask/{name}/mask")]
    return {
        int(name): ImageRef(file.path, member=f"{folder}/{name}")
        for folder in folders[:1]
        for name in file.names(folder)
        if _is_number(name)
    }


def _poses(file: SmcFile) -> BodyPoses:
    """Read the fitted bodies; frames count from 0."""
    rotations = file.numbers("SMPLx/fullpose", (None, 55, 3))
    count, notes = len(rotations), []
    if not count:
        raise file.bad("SMPLx/fullpose", "expected poses of a frame or more, got none")
    arrays = {
        "fullpose": rotations.reshape(count, -1),
        "transl": file.numbers("SMPLx/transl", (None, 3)),
        "betas": file.numbers("SMPLx/betas", (None, None)),
    }
    # The published betas may have other rows than the poses, all alike.
    if len(arrays["betas"]) not in (1, count) and len(arrays["betas"]):
        arrays["betas"] = arrays["betas"].mean(0, keepdims=True)
    if file.has("SMPLx/expression"):
        expressions = file.numbers("SMPLx/expression", (None, None))
        if len(expressions) in (1, count):
            arrays["expression"] = expressions
    if file.has("SMPLx/scale"):
        scale = file.numbers("SMPLx/scale", [None] * len(file.shape("SMPLx/scale")))
        if scale.size and np.abs(scale - 1).max() > SAME_SCALE:
            notes.append(f"SMPLx/scale is {scale.flat[0]:g}: not applied, as in public loaders")
    poses = poses_of_arrays(file.path, arrays)
    return replace(poses, notes=(*poses.notes, *notes))


def _gender(text: str) -> str:
    """Return the gender that an attribute names; empty for other texts."""
    text = text.strip().lower()
    return text if text in ("female", "male", "neutral") else ""


def _keypoints(file: SmcFile) -> Keypoints | None:
    """Read the triangulated key points of all frames; None where the file has none."""
    member = "Keypoints_3D/keypoints3d"
    shape = file.shape(member)
    if len(shape) != 3 or shape[2] not in (3, 4) or not shape[1]:
        return None
    try:
        values = file.numbers(member, (None, None, None))
    except InputError:  # NaN where nothing was seen; the poses do not need them
        return None
    confidences = values[..., 3] if shape[2] == 4 else np.ones(values.shape[:2])
    names = (
        WHOLE_BODY_NAMES
        if shape[1] == WHOLE_BODY
        else tuple(f"keypoint{number}" for number in range(shape[1]))
    )
    return Keypoints(names, values[..., :3], confidences)
