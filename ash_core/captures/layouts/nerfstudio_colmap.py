"""Read multi-view videos with cameras of COLMAP or nerfstudio, masks, and a file of body poses.

    transforms.json                      nerfstudio's cameras; or transforms_train.json, _val, _test
    sparse/0/{cameras,images}.{bin,txt}  COLMAP's; also sparse/, colmap/sparse/0/ or the folder
    images/CAMERA/FRAME.jpg              or images/FRAME/CAMERA.jpg; images/CAMERA.jpg of one frame
    videos/CAMERA.mp4                    instead of images
    masks/                               with the images' names, .png or .jpg, or COLMAP's
                                         NAME.jpg.png; masks/CAMERA.mp4. Without any: alpha
    smpl_params.npz                      or --poses

The cameras stand still. Their images in the model are named CAMERA.jpg, CAMERA/FRAME.jpg or
FRAME/CAMERA.jpg; of two parts the one with a single pose is the camera. Frames in a transforms.json
may carry timestep_index and camera_index instead, as VHAP writes them. If it lists several frames
of a camera, its list counts, with mask_path; otherwise the folder's content does.

The unit and the axes of these worlds are arbitrary: the numbers stay as in the file.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.captures.capture import Capture, CaptureCamera, ImageRef, Layout
from ash_core.captures.images import image_size, video_index
from ash_core.captures.layouts.assemble import Extras, Shots, assemble
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import (
    IMAGE_ENDINGS,
    VIDEO_ENDINGS,
    list_folder,
    natural_order,
    number_of,
    numbered_as,
    numbered_files,
    resize_camera,
)
from ash_core.conventions import FPS
from ash_core.files.body_pose_files import read_body_poses
from ash_core.files.cameras.checks import MAX_CAMERAS, as_number, as_object
from ash_core.files.cameras.colmap import model_folder, read_model
from ash_core.files.cameras.record import Reading, StageCamera
from ash_core.files.cameras.transforms import read_transforms
from ash_core.files.io import bad, is_kind, read_json, show

TRANSFORMS: Final = "transforms.json"
SPLITS: Final = tuple(f"transforms_{split}.json" for split in ("train", "val", "test"))
POSES: Final = "smpl_params.npz"
MASK_FOLDERS: Final = ("masks", "mask", "fg_masks")
MASK_KEYS: Final = ("mask_path", "fg_mask_path")
"""Keys of a mask's path: nerfstudio's, VHAP's."""
SAME_PLACE: Final = 0.01
"""Largest way of a camera that stands still, in distances between the cameras."""
MAX_ENTRIES: Final = 2_000_000
"""Upper bound on the frames of a transforms.json: 20,000 moments of 100 cameras."""


@dataclass(frozen=True)
class _Entry:
    """Image that a file of cameras lists."""

    name: str
    """Its path, as listed."""
    row: tuple[float, ...]
    """Numbers of its pose, the same for a camera that stands still."""
    source: Any
    """The file's own record of it."""


@dataclass(frozen=True)
class _Moment:
    """Image of a camera in a frame, by the parts of its name."""

    camera: str
    frame: str
    entry: _Entry


Refs = dict[int, ImageRef]
"""Images or masks of a camera by frame."""


def is_nerfstudio(folder: Path) -> bool:
    """Return whether a folder holds a transforms.json."""
    return any(is_kind(Path.is_file, folder / name) for name in (TRANSFORMS, *SPLITS))


def is_colmap(folder: Path) -> bool:
    """Return whether a folder holds a sparse model of COLMAP."""
    return _model_folder(folder) is not None


def read_nerfstudio(folder: Path, choice: Choice) -> Capture:
    """Read a capture with a transforms.json. Raises: InputError."""
    # List the frames of all files.
    names = [TRANSFORMS] if is_kind(Path.is_file, folder / TRANSFORMS) else list(SPLITS)
    paths = [folder / name for name in names if is_kind(Path.is_file, folder / name)]
    if not paths:
        raise bad(folder, None, f"expected {TRANSFORMS} in it, found none")
    entries = [entry for path in paths for entry in _transforms_entries(path)]
    moments = _numbered_moments(paths[0], entries) or _moments(paths[0], entries)
    firsts = _first_of_cameras(paths[0], moments)
    # Images: those of the list, if it has several frames of a camera.
    if len(moments) > len(firsts):
        images, masks = _listed_images(folder, moments)
        fps = None
    else:
        images, masks, fps = _folder_images(folder, list(firsts))
    # Cameras: the first frame of each; sizes that the file lacks are those of the images.
    cameras = []
    for name, moment in firsts.items():
        path, shared, frame = moment.entry.source
        size = image_size(images[name][min(images[name])]) if images[name] else None
        content = {**shared, "frames": [frame]}
        file = read_transforms(path, content, Reading(size=size))
        cameras.append(_capture_camera(name, file.cameras[0]))
    return _capture("nerfstudio", folder, choice, cameras, images, masks, fps)


def read_colmap(folder: Path, choice: Choice) -> Capture:
    """Read a capture with a sparse model. Raises: InputError."""
    model_path = _model_folder(folder)
    if model_path is None:
        raise bad(folder, None, "expected a COLMAP model: cameras and images, .bin or .txt")
    model = read_model(model_path)
    entries = []
    for pose in model.poses:
        # A quaternion and its negative are the same rotation.
        sign = -1.0 if pose.quat[0] < 0 else 1.0
        row = (*(sign * value for value in pose.quat), *pose.translation)
        entries.append(_Entry(pose.name, row, pose))
    firsts = _first_of_cameras(model.path, _moments(model.path, entries))
    images, masks, fps = _folder_images(folder, list(firsts))
    cameras = [
        _capture_camera(name, model.camera_of(moment.entry.source))
        for name, moment in firsts.items()
    ]
    return _capture("colmap", folder, choice, cameras, images, masks, fps)


def _capture(
    layout: Layout,
    folder: Path,
    choice: Choice,
    cameras: Sequence[CaptureCamera],
    images: Mapping[str, Refs],
    masks: Mapping[str, Refs],
    fps: float | None,
) -> Capture:
    """Put the parts together. images, masks: by camera."""
    # Images may be smaller than those that the cameras were calibrated on.
    fitted, notes = [], []
    for camera in cameras:
        refs = images[camera.name]
        if refs:
            first = refs[min(refs)]
            size = image_size(first)
            if size != (camera.width, camera.height):
                camera = resize_camera(camera, first.path, size)
                text = f"images of {size[0]} x {size[1]} px: K is scaled to them"
                notes += [text] if text not in notes else []
        fitted.append(camera)
    # Poses of the flag, or beside the images.
    numbers = {number for refs in images.values() for number in refs}
    path = choice.poses or folder / POSES
    poses = None
    if choice.poses is not None or is_kind(Path.is_file, path):
        poses = numbered_as(read_body_poses(path), numbers)
        notes += poses.notes
    folders = list_folder(folder / "images")[0]
    is_by_camera = any(name in folders for name in images)
    strangers = [name for name in folders if is_by_camera and name not in images]
    notes += [f"folder {show(name)}: of no camera, left out" for name in strangers[:3]]
    notes.append("the world's unit and axes are those of the file of cameras, which are arbitrary")
    rate = fps or (None if poses is None else poses.fps)
    if rate is None:
        notes.append(f"no frame rate in the files: {FPS:g} frames a second")
    shots = [Shots(camera, images[camera.name], masks[camera.name]) for camera in fitted]
    extras = Extras(poses=poses, poses_path=path, notes=tuple(notes))
    return assemble(layout, folder, shots, choice, rate or FPS, extras)


def _capture_camera(name: str, stage: StageCamera) -> CaptureCamera:
    """Convert a camera of a file of cameras, which is checked already."""
    camera, lens = stage
    K, viewmat = camera.K.double().numpy(), camera.viewmat.double().numpy()
    return CaptureCamera(name, K, viewmat, camera.width, camera.height, lens)


# ---- listed images ----


def _model_folder(folder: Path) -> Path | None:
    return model_folder(folder) or model_folder(folder / "colmap")


def _transforms_entries(path: Path) -> list[_Entry]:
    """List the frames of a transforms.json: (path, shared values, frame) each."""
    shared = dict(as_object(path, "the file", read_json(path)))
    frames = shared.pop("frames", None)
    if not isinstance(frames, list) or not 0 < len(frames) <= MAX_ENTRIES:
        raise bad(path, None, f"expected 'frames', a list of 1 to {MAX_ENTRIES} images")
    entries = []
    for number, frame in enumerate(frames):
        values = as_object(path, f"frames[{number}]", frame)
        row = _pose_row(values.get("transform_matrix"))
        name = str(values.get("file_path", f"{number:06d}"))
        entries.append(_Entry(name, row, (path, shared, values)))
    return entries


def _pose_row(rows: object) -> tuple[float, ...]:
    """Return the first 12 numbers of a pose's matrix; zeros for what is none."""
    flat: list[object] = []
    for row in rows if isinstance(rows, list) else []:
        flat += row if isinstance(row, list) else []
    numbers = [float(v) for v in flat[:12] if isinstance(v, int | float) and abs(v) < 1e30]
    return tuple(numbers) if len(numbers) == 12 else (0.0,) * 12


def _numbered_moments(path: Path, entries: Sequence[_Entry]) -> list[_Moment]:
    """Return the images by timestep_index and camera_index; none if any lacks them."""
    moments = []
    for entry in entries:
        values = entry.source[2]
        if "timestep_index" not in values or "camera_index" not in values:
            return []
        numbers = [
            as_number(path, f"frame {show(entry.name)}: {key}", values[key])
            for key in ("timestep_index", "camera_index")
        ]
        if not all(0 <= number < 1e9 and number == int(number) for number in numbers):
            text = f"frame {show(entry.name)}: expected indices of moment and camera"
            raise bad(path, None, f"{text}, got {numbers[0]:g} and {numbers[1]:g}")
        name = values.get("camera_id")
        camera = name if isinstance(name, str) and name else f"{int(numbers[1]):02d}"
        moments.append(_Moment(camera, str(int(numbers[0])), entry))
    return moments


def _moments(path: Path, entries: Sequence[_Entry]) -> list[_Moment]:
    """Divide the names of images into camera and frame: the camera is what has one pose."""
    parts = []
    for entry in entries:
        *shelves, name = PurePosixPath(entry.name.replace("\\", "/")).parts or ("",)
        parts.append((shelves[-1] if shelves else "", _stem(name)))
    stems = {stem for _, stem in parts}
    by_shelf = len({shelf for shelf, _ in parts}) > 1
    if by_shelf and len(stems) > 1:
        by_shelf = _spread(entries, [p[0] for p in parts]) <= _spread(
            entries, [p[1] for p in parts]
        )
    pairs = parts if by_shelf else [(stem, shelf) for shelf, stem in parts]
    return [
        _Moment(camera, frame, entry) for (camera, frame), entry in zip(pairs, entries, strict=True)
    ]


def _stem(name: str) -> str:
    """Return a name without the ending of an image or a video."""
    lower = name.lower()
    ends = [end for end in (*IMAGE_ENDINGS, *VIDEO_ENDINGS) if lower.endswith(end)]
    return name[: -len(ends[0])] if ends else name


def _rows(entries: Sequence[_Entry]) -> Float[ndarray, "n k"]:
    """Return the poses' numbers, without infinite ones."""
    return np.nan_to_num(np.array([entry.row for entry in entries], np.float64))


def _spread(entries: Sequence[_Entry], groups: Sequence[str]) -> float:
    """Return the largest difference of two poses in the same group."""
    rows, members = _rows(entries), defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    return max(float(np.ptp(rows[indices], axis=0).max()) for indices in members.values())


def _first_of_cameras(path: Path, moments: Sequence[_Moment]) -> dict[str, _Moment]:
    """Return the first image of each camera, in order of their names; cameras stand still."""
    firsts: dict[str, _Moment] = {}
    for moment in moments:
        firsts.setdefault(moment.camera, moment)
    if len(firsts) > MAX_CAMERAS:
        text = f"expected at most {MAX_CAMERAS} cameras by the names of images, got {len(firsts)}"
        raise bad(path, None, text)
    odd = [name for name in firsts if name in ("", ".", "..") or "/" in name or len(name) > 255]
    if odd:
        raise bad(path, None, f"expected cameras named as folders or files, got {show(odd[0])}")
    if len(firsts) < len(moments):
        entries = [moment.entry for moment in moments]
        way = _spread(entries, [moment.camera for moment in moments])
        room = float(np.ptp(_rows([first.entry for first in firsts.values()]), axis=0).max())
        if way > SAME_PLACE * room:
            text = "expected cameras that stand still, each image named CAMERA/FRAME"
            raise bad(path, None, f"{text}; the poses of one differ by {way:.3g}")
    names = sorted(firsts, key=natural_order)
    return {name: firsts[name] for name in names}


def _listed_images(
    folder: Path, moments: Sequence[_Moment]
) -> tuple[dict[str, Refs], dict[str, Refs]]:
    """Collect the listed images and masks that are there, by camera and frame."""
    # Frames are numbered by their names, or in order where a name has no number or shares it.
    frames = sorted({moment.frame for moment in moments}, key=natural_order)
    by_name = [number_of(f"{frame}.") for frame in frames]
    is_numbered = None not in by_name and len(set(by_name)) == len(frames)
    numbers = {
        frame: number if is_numbered and number is not None else order
        for order, (frame, number) in enumerate(zip(frames, by_name, strict=True))
    }
    listing = _Listing(folder)
    images: dict[str, Refs] = {moment.camera: {} for moment in moments}
    masks: dict[str, Refs] = {moment.camera: {} for moment in moments}
    for moment in moments:
        values, number = moment.entry.source[2], numbers[moment.frame]
        image = listing.find(moment.entry.name, IMAGE_ENDINGS)
        if image is None:
            continue
        images[moment.camera][number] = ImageRef(image)
        named = next((values[key] for key in MASK_KEYS if isinstance(values.get(key), str)), None)
        mask = listing.find(named, ()) if named else listing.mask_of(moment.entry.name)
        if mask is not None:
            masks[moment.camera][number] = ImageRef(mask)
    return images, masks


class _Listing:
    """Files below a folder; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, set[str]] = {}

    def find(self, name: str, endings: Sequence[str]) -> Path | None:
        """Return the path of a file, whose ending may be missing; None if it is not there."""
        folder, _, own = name.replace("\\", "/").rpartition("/")
        if folder not in self._names:
            self._names[folder] = set(list_folder(self._root / folder)[1])
        names = self._names[folder]
        tries = (own, *(f"{own}{ending}" for ending in endings))
        return next((self._root / folder / name for name in tries if name in names), None)

    def mask_of(self, name: str) -> Path | None:
        """Return the mask of an image by its name: masks/ in the place of images/."""
        parts = list(PurePosixPath(name.replace("\\", "/")).parts)
        if "images" not in parts:
            return None
        place = parts.index("images")
        for folder in MASK_FOLDERS:
            other = "/".join([*parts[:place], folder, *parts[place + 1 :]])
            for base in (_stem(other), other):
                if (mask := self.find(base, IMAGE_ENDINGS)) is not None:
                    return mask
        return None


# ---- images of a folder ----


def _folder_images(
    folder: Path, cameras: Sequence[str]
) -> tuple[dict[str, Refs], dict[str, Refs], float | None]:
    """List images and masks of the cameras below images/ or videos/; frames a second of videos."""
    root = folder / "images"
    folders, files = list_folder(root)
    if any(name in folders for name in cameras):
        images = {
            name: _refs(root / name, numbered_files(root / name, IMAGE_ENDINGS)) for name in cameras
        }
        masks = {name: _masks_of_camera(folder, name) for name in cameras}
        return images, masks, None
    if folders:
        return (*_images_by_frame(folder, cameras), None)
    if files:
        images = {name: _only(root, files, name) for name in cameras}
        masks = {name: {} for name in cameras}
        for mask_root in (folder / name for name in MASK_FOLDERS):
            mask_files = list_folder(mask_root)[1]
            masks = {name: masks[name] or _only(mask_root, mask_files, name) for name in cameras}
        return images, masks, None
    return _videos(folder, cameras)


def _refs(folder: Path, names: Mapping[int, str]) -> Refs:
    start = str(folder)
    return {number: ImageRef(Path(f"{start}/{name}")) for number, name in names.items()}


def _masks_of_camera(folder: Path, camera: str) -> Refs:
    """List masks/CAMERA/FRAME.png; of FRAME.jpg.png the number is that of FRAME."""
    for name in MASK_FOLDERS:
        place = folder / name / camera
        names: dict[int, str] = {}
        for file in list_folder(place)[1]:
            stem = _stem(_stem(file))
            number = number_of(f"{stem}.") if stem != file else None
            if number is not None:
                names.setdefault(number, file)
        if names:
            return _refs(place, names)
    return {}


def _images_by_frame(
    folder: Path, cameras: Sequence[str]
) -> tuple[dict[str, Refs], dict[str, Refs]]:
    """List images/FRAME/CAMERA.jpg and their masks."""
    images: dict[str, Refs] = {name: {} for name in cameras}
    masks: dict[str, Refs] = {name: {} for name in cameras}
    for target, roots in ((images, ("images",)), (masks, MASK_FOLDERS)):
        for root in roots:
            for shelf in list_folder(folder / root)[0]:
                number = number_of(f"{shelf}.")
                if number is None:
                    continue
                for file in list_folder(folder / root / shelf)[1]:
                    name = _stem(_stem(file)) if target is masks else _stem(file)
                    if name in target:
                        target[name].setdefault(number, ImageRef(folder / root / shelf / file))
    return images, masks


def _only(folder: Path, files: Sequence[str], camera: str) -> Refs:
    """Return the one image of a camera, as frame 0."""
    names = [file for file in files if camera in (_stem(file), _stem(_stem(file)))]
    return {0: ImageRef(folder / names[0])} if names else {}


def _videos(
    folder: Path, cameras: Sequence[str]
) -> tuple[dict[str, Refs], dict[str, Refs], float | None]:
    """List the frames of videos/CAMERA.mp4 and of the masks' videos."""
    images, rates = {}, []
    for name in cameras:
        images[name], rate = _video(folder / "videos", name)
        rates += [rate] if rate else []
    masks = {name: {} for name in cameras}
    for name in cameras:
        for root in MASK_FOLDERS:
            masks[name] = masks[name] or _video(folder / root, name)[0]
            masks[name] = masks[name] or _masks_of_camera(folder, name)
    if not any(images.values()):
        text = "expected images of the cameras in images/ or videos/, named as the cameras"
        some = ", ".join(map(show, cameras[:4]))
        raise bad(folder, None, f"{text} ({some}), found none")
    return images, masks, rates[0] if rates else None


def _video(folder: Path, camera: str) -> tuple[Refs, float | None]:
    """List the frames of one video; none if it is missing."""
    names = [name for name in list_folder(folder)[1] if name.lower().endswith(VIDEO_ENDINGS)]
    path = next((folder / name for name in names if _stem(name) == camera), None)
    if path is None:
        return {}, None
    index = video_index(path)
    return {number: ImageRef(path, frame=number) for number in index.times}, index.fps
