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
    """Selected videos of a data set."""

    folder: Path
    cameras: dict[Split, list[int]] = field(default_factory=dict)
    frames: dict[Split, int] = field(default_factory=dict)
    """Number of frames of the longest video."""
    variable: dict[Split, Path] = field(default_factory=dict)
    """Video with a variable frame rate, if any: its numbers exceed its number of frames."""
    optics: dict[int, Optics] = field(default_factory=dict)
    """Optics by camera; empty without a calibration."""
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Error lines of the cameras that are left out: their videos are unreadable or do not match."""

    def check_motion(self, split: Split, frames: tuple[int, ...]) -> None:
        """Refuse a frame without a pose; a split without a motion gets a note."""
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
    """Find the videos of a data set. Raises: InputError if no camera has both.

    A camera whose videos are missing, unreadable or do not match is one of `errors`. calibrated:
    whether the folder's cameras describe the videos; the published ones describe smaller images.
    """
    # Find the folder, its calibration and splits.
    footage = Footage(folder)
    if not is_kind(Path.is_dir, folder):
        raise bad(folder, None, "expected the folder of a data set, found none")
    if calibrated:
        footage.optics, footage.notes = read_optics(folder)
    filmed: list[Split] = [
        name for name in SPLITS if is_kind(Path.is_dir, folder / name / "videos")
    ]
    splits: list[Split] = [only] if only is not None else filmed
    for split in splits:
        # Select the cameras: those requested, the calibrated ones, or those with a video.
        numbers = _stream_numbers(folder, split)
        selected = cameras if cameras is not None else sorted(footage.optics) or numbers
        for number in selected:
            if footage.optics and number not in footage.optics:
                last = max(footage.optics)
                text = f"--cameras: expected numbers in 0..{last} of the calibration, got {number}"
                raise InputError(text)
        extra = [number for number in numbers if footage.optics and number not in footage.optics]
        if extra:
            path = video_path(folder, split, extra[0])
            text = f"expected a camera for it among {len(footage.optics)} calibrated ones, got none"
            raise bad(path, None, text)
        if not selected:
            raise bad(folder / split / "videos", None, "expected stream000.mp4, ..., found none")
        # Count the frames of each camera; shorter videos are reported.
        counts, variable, errors = _counts(folder, split, selected)
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
    # Require both videos of at least one camera.
    if footage.errors and not footage.cameras:
        raise InputError(footage.errors[0])
    if not footage.cameras:
        raise bad(folder, None, f"expected {' or '.join(SPLITS)} with videos in it, found none")
    return footage


def read_optics(folder: Path) -> tuple[dict[int, Optics], list[str]]:
    """Read sizes and lenses from the calibration, else sizes from cameras.json; return notes
    too."""
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
    """Return frame numbers by camera, a variable video, and the errors of the other cameras."""
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
    """Count a camera's two videos, which must exist and match.

    Returns the exclusive bound on frame numbers, and whether it exceeds the number of frames.
    """
    rgb, mask = video_path(folder, split, camera), mask_video_path(folder, split, camera)
    (frames, span), (masks, _) = declared_frames(rgb), declared_frames(mask)
    if frames != masks:
        counts = f"{rgb} has {frames}, {mask} {masks}"
        raise bad(mask.parent, None, f"expected as many masks as RGB frames, but {counts}")
    return span, span > frames
