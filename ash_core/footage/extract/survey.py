"""Survey of a data set's videos before any is decoded: cameras, numbers of frames, sizes."""

from dataclasses import dataclass, field
from pathlib import Path

from ash_core.errors import InputError
from ash_core.files.dataset import (
    CALIBRATION,
    CAMERAS,
    POSES,
    SPLITS,
    Split,
    mask_video_path,
    video_path,
)
from ash_core.files.footage import declared_frames
from ash_core.files.io import bad, is_kind, read_lines
from ash_core.footage.extract.cutter import Optics


@dataclass
class Footage:
    """The videos of a data set that are asked for."""

    folder: Path
    cameras: dict[Split, list[int]] = field(default_factory=dict)
    frames: dict[Split, int] = field(default_factory=dict)
    """Of the longest video."""
    variable: dict[Split, Path] = field(default_factory=dict)
    """A video whose frame rate varies, where there is one: its numbers go beyond its frames."""
    optics: dict[int, Optics] = field(default_factory=dict)
    """By camera; empty without a calibration."""
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """A line for each camera that is left out: its videos cannot be read or do not agree."""

    def check_motion(self, split: Split, frames: tuple[int, ...]) -> None:
        """Raise where a frame has no pose; a split without a motion is fine, and told."""
        path = self.folder / split / POSES
        if not is_kind(Path.is_file, path):
            self.notes.append(f"{path}: not there, so frames cannot be checked against poses")
            return
        poses = sum(1 for line in read_lines(path) if line.strip()) - 1
        if frames[-1] >= poses:
            videos = self.folder / split / "videos"
            text = f"expected a pose for each of {self.frames[split]} frames of {videos}, got"
            if split in self.variable:
                text = f"variable frame rate: its last frame is number {frames[-1]}, but {path} has"
                raise bad(self.variable[split], None, f"{text} {poses} poses; --fps sets the rate")
            raise bad(path, None, f"{text} {poses}; --frames :{poses} extracts those that have one")


def survey(
    folder: Path, only: Split | None, cameras: list[int] | None, calibrated: bool = True
) -> Footage:
    """Look which videos are there. Raises: InputError where no camera has both.

    A camera whose videos are missing, cannot be read or do not agree is one of `errors`.
    calibrated: whether the folder's cameras describe the videos; the published ones describe
    smaller images.
    """
    # Folder, calibration and splits.
    footage = Footage(folder)
    if not is_kind(Path.is_dir, folder):
        raise bad(folder, None, "expected the folder of a data set, found none")
    if calibrated:
        footage.optics, footage.notes = read_optics(folder)
    found: list[Split] = [name for name in SPLITS if is_kind(Path.is_dir, folder / name / "videos")]
    splits: list[Split] = [only] if only is not None else found
    for split in splits:
        # Cameras of the split: those asked for, the calibrated ones, or those with a video.
        numbers = _stream_numbers(folder, split)
        wanted = cameras if cameras is not None else sorted(footage.optics) or numbers
        for number in wanted:
            if footage.optics and number not in footage.optics:
                last = max(footage.optics)
                text = f"--cameras: expected numbers in 0..{last} of the calibration, got {number}"
                raise InputError(text)
        extra = [number for number in numbers if footage.optics and number not in footage.optics]
        if extra:
            path = video_path(folder, split, extra[0])
            text = f"expected a camera for it among {len(footage.optics)} calibrated ones, got none"
            raise bad(path, None, text)
        if not wanted:
            raise bad(folder / split / "videos", None, "expected stream000.mp4, ..., found none")
        # Frames of each camera; shorter videos are reported.
        counts, variable, errors = _counts(folder, split, wanted)
        if variable:
            footage.variable[split] = variable[0]
        footage.errors += map(str, errors)
        if not counts:
            continue
        footage.cameras[split], footage.frames[split] = list(counts), max(counts.values())
        short = {n: count for n, count in counts.items() if count < footage.frames[split]}
        for number, count in short.items():
            path = video_path(folder, split, number)
            footage.notes.append(f"{path}: {count} frames, others have {footage.frames[split]}")
    # At least one camera must have both videos.
    if footage.errors and not footage.cameras:
        raise InputError(footage.errors[0])
    if not footage.cameras:
        raise bad(folder, None, f"expected {' or '.join(SPLITS)} with videos in it, found none")
    return footage


def read_optics(folder: Path) -> tuple[dict[int, Optics], list[str]]:
    """Sizes and lenses from the calibration, else sizes from cameras.json; and what to say."""
    from ash_core.files.cameras.published import read_cameras, read_lenses

    if is_kind(Path.is_file, folder / CALIBRATION):
        cameras, lenses = read_lenses(folder / CALIBRATION)
    elif is_kind(Path.is_file, folder / CAMERAS):
        cameras, lenses = read_cameras(folder / CAMERAS), None
    else:
        text = f"{folder}: no {CALIBRATION}, no {CAMERAS}: picture sizes cannot be checked"
        return {}, [f"{text}, lens distortion stays"]
    optics = {}
    for number, camera in enumerate(cameras):
        K = camera.K.tolist()
        pinhole = (K[0][0], K[1][1], K[0][2], K[1][2])
        size = (camera.width, camera.height)
        optics[number] = (
            Optics(*size, pinhole, lenses[number]) if lenses else Optics(*size, pinhole)
        )
    bent = sum(not camera.lens.is_straight for camera in optics.values())
    text = f"{folder / CALIBRATION}: {bent} cameras have lens distortion: images are straightened"
    return optics, [text] if bent else []


def _stream_numbers(folder: Path, split: Split) -> list[int]:
    names = [path.stem.removeprefix("stream") for path in (folder / split / "videos").glob("*.mp4")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _counts(
    folder: Path, split: Split, cameras: list[int]
) -> tuple[dict[int, int], list[Path], list[InputError]]:
    """Return frame numbers by camera, videos of variable frame rate, and what is wrong with the
    cameras that are not among them.
    """
    counts, variable, errors = {}, [], []
    for camera in cameras:
        try:
            counts[camera], varies = _count(folder, split, camera)
        except InputError as error:
            errors.append(error)
            continue
        if varies:
            variable.append(video_path(folder, split, camera))
    return counts, variable, errors


def _count(folder: Path, split: Split, camera: int) -> tuple[int, bool]:
    """Return frame numbers of a camera's two videos, which must both be there and agree; and
    whether they go beyond its frames.
    """
    rgb, mask = video_path(folder, split, camera), mask_video_path(folder, split, camera)
    (frames, span), (masks, _) = declared_frames(rgb), declared_frames(mask)
    if frames != masks:
        found = f"{rgb} has {frames}, {mask} {masks}"
        raise bad(mask.parent, None, f"expected as many masks as RGB frames, but {found}")
    return span, span > frames
