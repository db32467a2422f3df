"""Put a layout's cameras, images, masks and poses together, by the same rules for every layout.

Cameras without images, images without a mask and masks without an image are left out; notes count
them. A camera that the user names must have images.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.captures.capture import Capture, CaptureCamera, ImageRef, Keypoints, Layout
from ash_core.captures.images import image_size, read_alpha
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import (
    choose_cameras,
    choose_numbers,
    number_of,
    numbered_as,
    numbered_files,
    resize_camera,
)
from ash_core.files.body_pose_files import choose_frames, read_body_poses
from ash_core.files.body_poses import BodyPoses
from ash_core.files.cameras.checks import MAX_CAMERAS, as_number
from ash_core.files.io import bad, is_kind, read_lines, show

ENDINGS: Final = (".png", ".jpg", ".jpeg")
SCALES: Final = (1.0, 0.5, 0.25)
"""Sizes of stored images, as factors of the calibration's, that are known to be published."""


@dataclass(frozen=True)
class Shots:
    """Camera as calibrated, with its images and masks by frame."""

    camera: CaptureCamera
    images: Mapping[int, ImageRef]
    masks: Mapping[int, ImageRef]


@dataclass(frozen=True)
class Extras:
    """Parts of a capture that only some layouts have."""

    poses: BodyPoses | None = None
    poses_path: Path = Path()
    """File or folder of the poses, to name in errors."""
    keypoints: Keypoints | None = None
    """Keypoints of each of `keypoint_frames`."""
    keypoint_frames: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def assemble(
    layout: Layout,
    folder: Path,
    shots: Sequence[Shots],
    choice: Choice,
    fps: float,
    extras: Extras,
) -> Capture:
    """Make the capture of chosen cameras and frames.

    shots: one for each camera of the calibration, in its order. Raises: InputError.
    """
    # Choose the cameras; those without images are left out.
    notes = list(extras.notes)
    chosen = _chosen(folder, shots, choice, notes)

    # Keep images with a mask. Without any masks the images must have an alpha channel.
    has_masks = any(shot.masks for shot in chosen)
    if has_masks:
        chosen = [_masked(folder, shot) for shot in chosen]
        _count(notes, "images without a mask", (s.unmasked for s in chosen))
        _count(notes, "masks without an image", (s.unseen for s in chosen))
    cameras = tuple(_fit_camera(folder, shot, has_masks, notes) for shot in chosen)

    # Keep frames with a pose.
    numbers = {number for shot in chosen for number in shot.images}
    poses = extras.poses
    if poses is not None:
        posed = numbers.intersection(poses.frames)
        if numbers and not posed:
            text = f"expected poses of frames {min(numbers)} to {max(numbers)}"
            actual = f"{poses.frames[0]} to {poses.frames[-1]}"
            raise bad(extras.poses_path, None, f"{text}, got frames {actual}")
        _count(notes, "frames without a pose", [numbers - posed])
        numbers = posed
    frames = choose_numbers(folder, numbers, choice)

    # Collect what is there of them.
    images = {
        (frame, camera): chosen[camera].images[frame]
        for camera in range(len(chosen))
        for frame in frames
        if frame in chosen[camera].images
    }
    masks = {(f, c): chosen[c].masks[f] for f, c in images} if has_masks else {}
    lost = len(frames) * len(cameras) - len(images)
    if lost:
        pairs = ((f, c) for f in frames for c in range(len(cameras)))
        frame, camera = next(pair for pair in pairs if pair not in images)
        place = f"first camera {show(cameras[camera].name)}, frame {frame}"
        count = len(frames) * len(cameras)
        notes.append(f"{lost} of {count} images are missing, or their masks: left out ({place})")
    return Capture(
        layout=layout,
        folder=folder,
        cameras=cameras,
        frames=tuple(frames),
        images=images,
        masks=masks,
        poses=None if poses is None else choose_frames(poses, frames, extras.poses_path),
        fps=fps,
        keypoints=_cut_keypoints(extras, frames),
        missing=extras.missing,
        notes=tuple(notes),
    )


def _chosen(
    folder: Path, shots: Sequence[Shots], choice: Choice, notes: list[str]
) -> list["_Masked"]:
    """Return the chosen cameras that have images."""
    names = [shot.camera.name for shot in shots]
    if len(names) > MAX_CAMERAS:
        raise bad(folder, None, f"expected at most {MAX_CAMERAS} cameras, got {len(names)}")
    doubles = [name for index, name in enumerate(names) if name in names[:index]]
    if doubles:
        raise bad(folder, None, f"expected one camera {show(doubles[0])}, got several of this name")
    chosen = [shots[index] for index in choose_cameras(folder, names, choice)]
    empty = [shot.camera.name for shot in chosen if not shot.images]
    if empty and (choice.cameras is not None or len(empty) == len(chosen)):
        raise bad(folder, None, f"expected images of camera {show(empty[0])}, found none")
    if empty:
        listed = ", ".join(map(show, empty[:3])) + (", ..." if len(empty) > 3 else "")
        notes.append(f"cameras without images: {len(empty)} ({listed}): left out")
    return [_Masked(shot.camera, shot.images, shot.masks) for shot in chosen if shot.images]


@dataclass(frozen=True)
class _Masked(Shots):
    """Images and masks of a camera that belong together, and those that do not."""

    unmasked: Collection[int] = ()
    unseen: Collection[int] = ()


def _masked(folder: Path, shot: Shots) -> _Masked:
    """Keep images and masks of the same frames."""
    both = shot.images.keys() & shot.masks.keys()
    if not both:
        text = f"camera {show(shot.camera.name)}: expected masks of its images, found none"
        raise bad(folder, None, text)
    return _Masked(
        shot.camera,
        {number: image for number, image in shot.images.items() if number in both},
        {number: mask for number, mask in shot.masks.items() if number in both},
        shot.images.keys() - both,
        shot.masks.keys() - both,
    )


def _fit_camera(folder: Path, shot: Shots, has_masks: bool, notes: list[str]) -> CaptureCamera:
    """Fit a camera to its first image: half and quarter size scale K, others are errors."""
    camera, frame = shot.camera, min(shot.images)
    image, place = shot.images[frame], f"camera {show(shot.camera.name)}"
    size, calibrated = image_size(image), (camera.width, camera.height)
    if has_masks:
        mask = shot.masks[frame]
        if (mask_size := image_size(mask)) != size:
            text = f"{place}: expected a mask of {_px(size)} as its image, got {_px(mask_size)}"
            raise bad(mask.place, None, text)
    else:
        read_alpha(image)
    fitting = [scale for scale in SCALES if size == tuple(int(side * scale) for side in calibrated)]
    if not fitting:
        text = f"expected {_px(calibrated)} as calibrated, half or a quarter of it"
        raise bad(image.place, None, f"{place}: {text}; got {_px(size)}")
    if fitting[0] == 1.0:
        return camera
    note = f"images of {fitting[0]:g} times the calibrated size: K is scaled"
    notes += [note] if note not in notes else []
    # Counted from the image's corner, the principal point scales as the image does.
    return resize_camera(camera, image.path, size)


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _cut_keypoints(extras: Extras, frames: Sequence[int]) -> Keypoints | None:
    """Return the keypoints of some frames; in a frame without any, none is seen."""
    keypoints = extras.keypoints
    if keypoints is None:
        return None
    rows = {number: row for row, number in enumerate(extras.keypoint_frames)}
    places = np.zeros((len(frames), len(keypoints.names), 3))
    confidences = np.zeros((len(frames), len(keypoints.names)))
    for place, frame in enumerate(frames):
        if frame in rows:
            places[place] = keypoints.places[rows[frame]]
            confidences[place] = keypoints.confidences[rows[frame]]
    return Keypoints(keypoints.names, places, confidences)


def _count(notes: list[str], what: str, parts: Iterable[Collection[int]]) -> None:
    """Add a note that counts what is left out, if anything is."""
    total = sum(map(len, parts))
    if total:
        notes.append(f"{what}: {total}: left out")


def read_chosen_poses(path: Path, shots: Sequence[Shots]) -> BodyPoses:
    """Read the poses of `--poses`; of as many poses as frames the first is the first frame's.

    Raises: InputError.
    """
    numbers = {number for shot in shots for number in shot.images}
    return numbered_as(read_body_poses(path), numbers)


# ---- folders ----


def check_name(path: Path, line: int | None, name: str) -> None:
    """Check that a camera's name can be the name of its folder. Raises: InputError."""
    if not name or name in (".", "..") or not {"/", "\\", "\0"}.isdisjoint(name):
        raise bad(path, line, f"expected a camera named as its folder, got {show(name)}")


def list_refs(folder: Path) -> dict[int, ImageRef]:
    """List the images of a folder by the last number in their names. Raises: InputError."""
    # One string: joining paths takes several times as long.
    start = str(folder)
    files = numbered_files(folder, ENDINGS)
    return {number: ImageRef(Path(f"{start}/{name}")) for number, name in files.items()}


def read_missing(path: Path) -> tuple[str, ...]:
    """Read a list of missing files, one relative path a line; none without a list.

    Both / and \\ separate folders. Raises: InputError.
    """
    if not is_kind(Path.is_file, path):
        return ()
    lines = (line.strip().replace("\\", "/") for line in read_lines(path))
    return tuple(line for line in lines if line)


def without_missing(
    images: Mapping[int, ImageRef], folder: str, missing: Sequence[str]
) -> Mapping[int, ImageRef]:
    """Leave out the images that a list names by their folder and number.

    Source: AnimatableGaussians takes the last folder and the file's number of each line.
    """
    pairs = (line.split("/") for line in missing)
    numbers = {number_of(parts[-1]) for parts in pairs if parts[-2:-1] == [folder]}
    return {number: image for number, image in images.items() if number not in numbers}


def json_numbers(path: Path, place: str, value: object, count: int | None) -> Float[ndarray, "n"]:
    """Read numbers of JSON, a list or rows of them. count: None for any. Raises: InputError."""
    rows = value if isinstance(value, list) else [value]
    flat = [number for row in rows for number in (row if isinstance(row, list) else [row])]
    if value is None or (count is not None and len(flat) != count):
        actual = "nothing" if value is None else str(len(flat))
        raise bad(path, None, f"{place}: expected {count or 'some'} numbers, got {actual}")
    return np.array([as_number(path, place, number) for number in flat])
