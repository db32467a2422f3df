"""One camera's RGB and mask videos to masked images: the published steps, frame by frame.

Published: threshold the mask, erode 6x6, dilate 3x3, resize (docs/released_behaviour.md D5).
Differs: masks keep their soft edges, and only what their rims show to be backdrop is eroded. Work
is done in the box around the person alone, since decoding takes most of the time already. No torch
is imported here: one process a camera starts in a moment.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from ash_core.errors import InputError
from ash_core.files.dataset import (
    CLEAR,
    Split,
    mask_video_path,
    video_path,
)
from ash_core.files.footage import (
    VideoIndex,
    decode_frames,
    fingerprint,
    fits_camera,
    index_video,
)
from ash_core.files.io import bad
from ash_core.files.masked_image import Place, write_masked, write_published
from ash_core.files.release_images import PublishedFolders
from ash_core.footage.extract.cutter import Cut, Cutter, ExtractSettings, Optics
from ash_core.footage.extract.edges import Edge, measure_edge
from ash_core.footage.extract.journal import Journal, image_files_of

SAMPLES: Final = 3
"""Number of a camera's frames whose rims are measured."""
MOST_LOOKS: Final = 16
"""Upper bound on the frames that are decoded for it: some may be empty."""
GOLDEN: Final = 0.618034
"""Golden ratio: the fractional parts of its multiples spread evenly over a video."""
MUCH_LOST: Final = 0.2
"""Share of the mask that erosion may take without a warning."""


@dataclass(frozen=True)
class CameraJob:
    """Inputs of one process that extracts one camera."""

    folder: Path
    split: Split
    camera: int
    frames: tuple[int, ...]
    settings: ExtractSettings
    optics: Optics | None
    fps: float | None
    """Frames a second of the frame numbers; None: the video's own."""
    published: PublishedFolders | None = None
    """Folders of images and masks in the published layout; None: our layout, in the folder."""


@dataclass
class CameraReport:
    """Result of one camera."""

    camera: int
    split: Split
    new_images: int = 0
    old_images: int = 0
    empty: list[int] = field(default_factory=list)
    """Frames without foreground."""
    notes: list[str] = field(default_factory=list)
    changed: str = ""
    """Settings that differ from those of the existing images, which are made again."""
    stopped: bool = False


def extract_camera(
    job: CameraJob, progress: Callable[[int], None], stopped: Callable[[], bool]
) -> CameraReport:
    """Make the missing images of a camera. `progress` takes numbers of finished frames.

    Raises: InputError. Images made until then stay, and each image is whole.
    """
    report = CameraReport(job.camera, job.split)
    # Index both videos.
    rgb = index_video(video_path(job.folder, job.split, job.camera), job.fps)
    mask = index_video(mask_video_path(job.folder, job.split, job.camera), job.fps)
    width, height = check_pair(rgb, mask, job.optics)
    report.notes += [text for index in (rgb, mask) for text in _tell_of(index)]
    frames = [n for n in job.frames if n in rgb.times and n in mask.times]
    # List the frames without images.
    place_of = (job.folder, job.split, job.camera)
    with Journal(*place_of, job.settings.kind, _header(job), job.published) as journal:
        report.changed = "; ".join(journal.changes)
        todo = [number for number in frames if not journal.has(number)]
        report.old_images = len(frames) - len(todo)
        progress(len(job.frames) - len(todo))
        # Fit the masks' threshold and erosion to their rims.
        cutter = Cutter(job.settings, job.optics, width, height)
        if todo and cutter.needs_edge:
            edge = measure_rim(cutter, rgb, mask)
            cutter.adapt(edge)
            if cutter.erode and job.settings.erode is None:
                text = f"masks reach {edge.erode_px} px beyond the person: eroded by that"
                report.notes.append(f"{mask.path}: {text}")
        # Cut, write and record one image after the other.
        for number, (pixels, place) in _cuts(cutter, rgb, mask, todo):
            is_empty = not pixels[..., 3].any()
            sizes = _write(job, number, pixels, place)
            journal.add(number, sizes, is_empty)
            report.new_images += 1
            progress(1)
            if stopped():
                report.stopped = True
                break
        # Refuse footage without a person.
        report.empty = [number for number in frames if journal.is_empty(number)]
        if frames and len(report.empty) == len(frames):
            journal.forget(frames)
            text = f"expected a person in it, found no foreground in any of {len(frames)} frames"
            reason = f"darker than grey level {job.settings.threshold or CLEAR}"
            if cutter.foreground_px:
                reason = f"--erode {cutter.erode} takes all of the mask: choose a smaller one"
            raise bad(mask.path, None, f"{text} ({reason})")
        report.notes += _tell_of_loss(cutter, mask.path)
    return report


def _write(
    job: CameraJob, number: int, pixels: UInt8[np.ndarray, "h w 4"], place: Place
) -> list[int]:
    """Write the image of a frame; return its files' sizes."""
    kind, quality = job.settings.kind, job.settings.quality
    files = image_files_of(job.folder, job.split, job.camera, number, kind, job.published)
    if job.published is not None:
        return write_published(files[0], files[1], pixels, place, quality)
    return write_masked(files[0], pixels, place, not job.settings.crop, quality)


def _tell_of_loss(cutter: Cutter, path: Path) -> Iterator[str]:
    """Warn if the erosion takes much of a small person."""
    lost = 1.0 - cutter.kept_px / max(cutter.foreground_px, 1)
    if cutter.foreground_px and lost > MUCH_LOST:
        text = f"--erode {cutter.erode} and --dilate {cutter.dilate} take {lost:.0%} of the mask"
        yield f"{path}: {text}; smaller ones fit so small a person"


def measure_rim(cutter: Cutter, rgb: VideoIndex, mask: VideoIndex) -> Edge:
    """Measure the masks' rims in some frames of a camera with the person in view."""
    return measure_edge(itertools.islice(_looks(cutter, rgb, mask), SAMPLES))


def _looks(
    cutter: Cutter, rgb: VideoIndex, mask: VideoIndex
) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]]:
    """Yield images and masks all over the videos, except empty and damaged ones."""
    both = [number for number in rgb.times if number in mask.times]
    # Key frames decode alone.
    keys = [number for number in both if mask.times[number] in mask.keys] or both
    places = (np.arange(MOST_LOOKS) * GOLDEN + 0.5) % 1.0
    for number in dict.fromkeys(keys[int(place * len(keys))] for place in places):
        with contextlib.suppress(InputError):  # reported when its image is made
            ((_, foreground),) = decode_frames(mask, [number])
            alpha = cutter.foreground(foreground)
            if alpha.any():
                ((_, picture),) = decode_frames(rgb, [number])
                yield cutter.colours(picture), alpha


def check_pair(rgb: VideoIndex, mask: VideoIndex, optics: Optics | None) -> tuple[int, int]:
    """Check that RGB and mask match each other and the camera; return the image size."""
    if (rgb.width, rgb.height) != (mask.width, mask.height):
        difference = f"{rgb.path} is {_size(rgb)}, {mask.path} {_size(mask)}"
        raise bad(mask.path.parent, None, f"expected RGB and mask of one size, but {difference}")
    if rgb.declared != mask.declared:
        difference = f"{rgb.path} has {rgb.declared}, {mask.path} {mask.declared}"
        raise bad(mask.path.parent, None, f"expected as many masks as RGB frames, but {difference}")
    both = min(rgb.count, mask.count)
    unpaired = sorted(n for n in rgb.times.keys() ^ mask.times.keys() if n < both)
    if unpaired:
        lacks = mask.path if unpaired[0] in rgb.times else rgb.path
        has = rgb.path if unpaired[0] in rgb.times else mask.path
        text = f"expected a frame {unpaired[0]}, which {has} has, got none at that time"
        raise bad(lacks, None, text)
    if optics is None:
        return rgb.width, rgb.height
    if not fits_camera((rgb.width, rgb.height), (optics.width, optics.height)):
        size = f"expected {optics.width}x{optics.height}, its camera's size"
        raise bad(rgb.path, None, f"{size}, got {_size(rgb)}")
    return optics.width, optics.height


def _size(index: VideoIndex) -> str:
    """Describe the size of a video's frames, and a difference to the displayed size."""
    size = f"{index.width}x{index.height}"
    if index.quarters:
        size += f" (turned by {90 * index.quarters} degrees, as its display matrix says)"
    if index.pixel_aspect != 1:
        size += f" (pixels {index.pixel_aspect.numerator}:{index.pixel_aspect.denominator} wide)"
    return size


def describe_frames(index: VideoIndex) -> Iterator[str]:
    """Describe frames that are displayed other than stored."""
    if index.quarters:
        text = f"turned counter-clockwise by {90 * index.quarters} degrees"
        yield f"{index.path}: {text}, as its display matrix says"
    if index.pixel_aspect != 1:
        aspect = f"{index.pixel_aspect.numerator}:{index.pixel_aspect.denominator}"
        text = f"its pixels are {aspect} wide; images keep the stored {index.width}x{index.height}"
        yield f"{index.path}: {text}, which the calibration must describe"


def _tell_of(index: VideoIndex) -> Iterator[str]:
    yield from describe_frames(index)
    if index.cut_off > 0 and not index.is_variable:
        frames = "frame is" if index.cut_off == 1 else f"{index.cut_off} frames are"
        yield f"{index.path}: cut off, the last {frames} left out, {len(index.times)} are whole"
    if index.is_variable:
        gaps = index.gaps
        some = ", ".join(map(str, gaps[:8])) + (" ..." if len(gaps) > 8 else "")
        note = f"; no frame at {some}" if gaps else ""
        yield f"{index.path}: variable frame rate, frames numbered by time{note}"


def _header(job: CameraJob) -> dict[str, Any]:
    """Return the settings that determine the images. JSON turns tuples into lists: so does this."""
    videos = {}
    for name, path in (
        ("video", video_path(job.folder, job.split, job.camera)),
        ("mask video", mask_video_path(job.folder, job.split, job.camera)),
    ):
        videos[name] = fingerprint(path)
    settings = asdict(job.settings)
    settings["threshold"] = job.settings.threshold or "by the rim"
    settings["erode"] = "by the rim" if job.settings.erode is None else job.settings.erode
    settings["size"] = list(job.settings.size) if job.settings.size else None
    if job.settings.kind == "png":
        del settings["quality"]
    optics = job.optics
    lens = None if optics is None or optics.lens.is_straight else list(astuple(optics.lens))
    camera = {
        "picture size": None if optics is None else [optics.width, optics.height],
        "lens": lens,
        "pinhole": None if optics is None or lens is None else list(optics.pinhole),
        "fps": job.fps,
    }
    return {"settings": settings, "camera": camera, **videos}


def _cuts(
    cutter: Cutter, rgb: VideoIndex, mask: VideoIndex, todo: list[int]
) -> Iterator[tuple[int, Cut]]:
    """Yield the person cut out of each frame."""
    pairs = zip(decode_frames(rgb, todo), decode_frames(mask, todo), strict=True)
    for (number, picture), (_, foreground) in pairs:
        yield number, cutter.cut(picture, foreground)
