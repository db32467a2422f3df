"""Read EasyMocap's own captures: intri.yml, extri.yml, images or videos, masks, fits, keypoints.

World-to-camera, metres; Rh and Th move the body about the model's origin. Source: EasyMocap,
easymocap/mytools/camera_utils.py, doc/02_output.md.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ash_core.captures.capture import Capture, ImageRef, Keypoints
from ash_core.captures.images import image_size
from ash_core.captures.layouts.assemble import (
    Extras,
    Shots,
    assemble,
    check_name,
    json_numbers,
    list_refs,
    read_chosen_poses,
)
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import (
    VIDEO_ENDINGS,
    capture_camera,
    list_folder,
    numbered_files,
)
from ash_core.conventions import FPS
from ash_core.files.body_pose_files import read_body_poses
from ash_core.files.cameras.checks import as_object
from ash_core.files.cameras.opencv_yaml import INTRINSICS, is_easymocap, read_opencv
from ash_core.files.cameras.record import Reading
from ash_core.files.footage import index_video
from ash_core.files.io import bad, is_kind, read_json, show

POSE_FOLDERS: Final = ("smpl", "smplx", "output/smpl", "output/smplx")
KEYPOINT_FOLDERS: Final = ("keypoints3d", "output/keypoints3d")
BODY25: Final = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder"),
    *("left_elbow", "left_wrist", "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip"),
    *("left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear"),
    *("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe"),
    "right_heel",
)
"""Keypoints in the order of OpenPose's BODY_25. Source: OpenPose, doc/02_output.md."""
MAX_KEYPOINTS: Final = 1024
_NO_SIZE: Final = (1, 1)
"""Size of cameras whose file has none; that of the images counts."""


def is_easymocap_capture(folder: Path) -> bool:
    """Return whether a folder is a capture in the layout of EasyMocap."""
    has_images = any(is_kind(Path.is_dir, folder / name) for name in ("images", "videos"))
    return has_images and is_easymocap(folder)


def read_easymocap_capture(folder: Path, choice: Choice) -> Capture:
    """Read a capture in the layout of EasyMocap. Raises: InputError.

    images/CAMERA/000012.jpg or videos/CAMERA.mp4, mask*/CAMERA/000012.png, smpl/000012.json,
    keypoints3d/000012.json. Hands of SMPL-H and SMPL-X stay coefficients (`hand_pca`).
    """
    # List images and masks by camera.
    notes: list[str] = []
    calibrated = read_opencv(folder / INTRINSICS, Reading(size=_NO_SIZE)).cameras
    names = [stage.camera.name for stage in calibrated]
    for name in names:
        check_name(folder / INTRINSICS, None, name)
    images, fps = _images(folder, names)
    masks = _masks(folder, names, notes)

    # Take each camera's size from its file, else from its first image.
    shots = []
    for (camera, lens), name in zip(calibrated, names, strict=True):
        size = (camera.width, camera.height)
        if size == _NO_SIZE and images[name]:
            size = image_size(images[name][min(images[name])])
        K, viewmat = camera.K.double().numpy(), camera.viewmat.double().numpy()
        calibrated_camera = capture_camera(folder / INTRINSICS, name, K, viewmat, size, lens)
        shots.append(Shots(calibrated_camera, images[name], masks[name]))

    # Read the fits and the keypoints.
    own = [folder / name for name in POSE_FOLDERS if numbered_files(folder / name, (".json",))]
    path = choice.poses or (own[0] if own else None)
    poses = None
    if path is not None:
        poses = read_body_poses(path) if choice.poses is None else read_chosen_poses(path, shots)
    if poses is None:
        notes.append("no fits in smpl: --poses names a file of poses")
    else:
        notes += poses.notes
    keypoints, numbers = read_keypoints(folder, notes)
    if fps is None:
        fps = FPS if poses is None or poses.fps is None else poses.fps
        notes.append(f"no frame rate in this layout: {fps:g} a second")
    extras = Extras(poses, path or folder, keypoints, numbers, notes=tuple(notes))
    return assemble("easymocap", folder, shots, choice, fps, extras)


def _images(
    folder: Path, names: list[str]
) -> tuple[dict[str, Mapping[int, ImageRef]], float | None]:
    """List the images of each camera, or the frames of its video, with their rate."""
    images: dict[str, Mapping[int, ImageRef]] = {
        name: list_refs(folder / "images" / name) for name in names
    }
    rate = None
    if any(images.values()):
        return images, rate
    files = list_folder(folder / "videos")[1]
    for name in names:
        own = [file for file in files if file.lower() in {name.lower() + e for e in VIDEO_ENDINGS}]
        if own:
            index = index_video(folder / "videos" / own[0])
            images[name] = {n: ImageRef(index.path, frame=n) for n in index.times}
            rate = index.fps
    return images, rate


def _masks(folder: Path, names: list[str], notes: list[str]) -> dict[str, dict[int, ImageRef]]:
    """List the masks of each camera in the first folder `mask...` that has any."""
    homes = [name for name in list_folder(folder)[0] if name.startswith("mask")]
    for home in homes:
        masks = {name: list_refs(folder / home / name) for name in names}
        if any(masks.values()):
            others = [other for other in homes if other != home]
            if others:
                notes.append(f"masks of {show(home)} are read, not of {show(others[0])}")
            return masks
    return {name: {} for name in names}


def read_keypoints(folder: Path, notes: list[str]) -> tuple[Keypoints | None, tuple[int, ...]]:
    """Read the triangulated keypoints of the person in most frames, and the frames' numbers.

    folder: of keypoints3d/000012.json. Raises: InputError.
    """
    for home in (folder / name for name in KEYPOINT_FOLDERS):
        files = numbered_files(home, (".json",))
        if files:
            break
    else:
        return None, ()
    frames = {number: _persons(home / name) for number, name in files.items()}
    counts = Counter(person for persons in frames.values() for person in persons)
    if not counts:
        return None, ()
    person = counts.most_common(1)[0][0]
    if len(counts) > 1:
        notes.append(f"keypoints of {len(counts)} persons: {show(str(person))} is taken")
    rows = {number: persons[person] for number, persons in frames.items() if person in persons}
    stack = np.stack(list(rows.values()))
    confidences = np.maximum(stack[..., 3], 0.0)
    return Keypoints(BODY25, stack[..., :3], confidences), tuple(rows)


def _persons(path: Path) -> dict[object, np.ndarray]:
    """Read the body's keypoints [25, 4] of each person in one frame. Raises: InputError."""
    content = read_json(path)
    entries = content if isinstance(content, list) else [content]
    persons: dict[object, np.ndarray] = {}
    for order, value in enumerate(entries):
        entry = as_object(path, f"person {order}", value)
        rows = entry.get("keypoints3d")
        if not isinstance(rows, list) or not len(BODY25) <= len(rows) <= MAX_KEYPOINTS:
            text = f"expected keypoints3d of {len(BODY25)} joints or more"
            raise bad(path, None, f"person {order}: {text}")
        # Hands and face follow the body.
        numbers = json_numbers(path, f"person {order}", rows[: len(BODY25)], 4 * len(BODY25))
        own = entry.get("id")
        persons[own if isinstance(own, int | str) else order] = numbers.reshape(-1, 4)
    return persons
