"""Images of a capture as a data set's: linked where they are, else straightened and cut out."""

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PillowImage

from ash_core.captures.capture import Capture, CaptureCamera, ImageRef
from ash_core.captures.images import LABELS, image_size, read_alphas, read_images
from ash_core.errors import InputError
from ash_core.files.dataset import Split, image_path, mask_path
from ash_core.files.image import FORMATS, decode_pixels
from ash_core.files.io import bad, read_bytes, writing
from ash_core.files.masked_image import write_masked
from ash_core.footage.extract.cutter import Cutter, ExtractSettings, Optics
from ash_core.footage.extract.extract_jobs import do_in_processes

QUALITY: Final = 95
LOOKS: Final = 5
"""Masks of a camera that are decoded to learn how they are stored: the first may be empty."""
PROGRESS_EACH: Final = 256
LINK_MODES: Final = ("L", "1", "RGB")
"""Kinds of pixels, as Pillow names them, that the data set's reader takes as a mask."""

Progress = Callable[[int], None]
Stopped = Callable[[], bool]
Way = Literal["linked", "hard links", "copied", "written"]


@dataclass(frozen=True)
class Shot:
    """One picture: where it is, and where it goes."""

    split: Split
    frame: int
    """Number of the frame in the split."""
    image: ImageRef
    mask: ImageRef | None
    """None: the image's alpha."""


@dataclass(frozen=True)
class ImageJob:
    """Pictures of one camera."""

    out: Path
    """Folder of the data set while it is made."""
    index: int
    camera: CaptureCamera
    """Camera of the stored images."""
    shots: tuple[Shot, ...]
    size: tuple[int, int] | None
    """Size of the images; None: as stored."""
    kind: Literal["png", "jpg"] = "jpg"


@dataclass
class Written:
    """Result of writing the images."""

    ways: dict[Way, int] = field(default_factory=dict)
    """Number of images by the way in which they came there."""
    stopped: bool = False

    def add(self, way: Way, count: int = 1) -> None:
        """Count images."""
        self.ways[way] = self.ways.get(way, 0) + count


# ---- the whole ----


def write_images(
    jobs: Sequence[ImageJob],
    home: Path,
    workers: int,
    progress: Progress,
    stopped: Stopped,
) -> Written:
    """Link or write the images of all cameras. Raises: InputError for the first that cannot be.

    home: folder of the data set when it is done, for links that are relative.
    """
    written = Written()
    are_linked = [is_linked(job) for job in jobs]
    linked = list(itertools.compress(jobs, are_linked))
    cut = [job for job, is_link in zip(jobs, are_linked, strict=True) if not is_link]
    linker = _Linker(home)
    for job in linked:
        for count in linker.link(job, written):
            progress(count)
            if stopped():
                written.stopped = True
                return written
    if workers == 1 or not cut:
        for job in cut:
            written.add("written", cut_out(job, progress, stopped))
    else:
        _cut_in_processes(cut, workers, written, progress, stopped)
    written.stopped = stopped()
    return written


def _cut_in_processes(
    jobs: Sequence[ImageJob],
    workers: int,
    written: Written,
    progress: Progress,
    stopped: Stopped,
) -> None:
    """Make the images of cameras, one a process at a time. Raises: InputError."""
    errors: list[str] = []

    def is_over() -> bool:
        return bool(errors) or stopped()

    for job, future in do_in_processes(cut_out, jobs, workers, progress, is_over):
        try:
            written.add("written", future.result())
        except InputError as error:
            errors.append(str(error))
        except BrokenProcessPool:
            errors.append(f"camera {job.camera.name}: its process was killed (out of memory?)")
    if errors:
        raise InputError(errors[0])


def jobs_of(
    capture: Capture,
    cameras: Sequence[CaptureCamera],
    splits: Mapping[Split, Sequence[int]],
    out: Path,
    size: tuple[int, int] | None,
) -> list[ImageJob]:
    """Make a job for each camera. splits: frame numbers of the capture, by split."""
    places: dict[int, tuple[Split, int]] = {
        frame: (split, number)
        for split, frames in splits.items()
        for number, frame in enumerate(frames)
    }
    shots: dict[int, list[Shot]] = {index: [] for index in range(len(cameras))}
    for key in sorted(capture.images):
        if key[0] in places:
            shot = Shot(*places[key[0]], capture.images[key], capture.masks.get(key))
            shots[key[1]].append(shot)
    return [
        ImageJob(out, index, camera, tuple(shots[index]), size, _kind(shots[index]))
        for index, camera in enumerate(cameras)
        if shots[index]
    ]


def _kind(shots: Sequence[Shot]) -> Literal["png", "jpg"]:
    """Choose files that lose nothing, except where the images are JPEG already."""
    ref = shots[0].image if shots else None
    is_jpeg = ref is not None and ref.path.suffix.lower() in (".jpg", ".jpeg", ".smc")
    return "jpg" if is_jpeg else "png"


# ---- links ----


def is_linked(job: ImageJob) -> bool:
    """Return whether a camera's images can be used as they are. Raises: InputError."""
    camera, shots = job.camera, job.shots
    if not camera.lens.is_straight or job.size not in (None, (camera.width, camera.height)):
        return False
    if any(_is_inside(ref) for shot in shots for ref in (shot.image, shot.mask) if ref):
        return False
    for shot in shots[:LOOKS]:
        kind, mode = _header(shot.image.path)
        if shot.mask is None:
            return kind == "PNG" and mode == "RGBA"
        if kind not in ("PNG", "JPEG") or mode not in ("RGB", "RGBA"):
            return False
        if (fits := _fits(shot.mask.path)) is not None:
            return fits and image_size(shot.mask) == (camera.width, camera.height)
    return False


def _is_inside(ref: ImageRef) -> bool:
    """Return whether an image is a part of a video or .smc file."""
    return ref.frame is not None or ref.member is not None


def _fits(mask: Path) -> bool | None:
    """Return whether a mask can be read as it is; None for an empty one."""
    kind, mode = _header(mask)
    if kind not in ("PNG", "JPEG") or mode not in LINK_MODES:
        return False
    if kind == "JPEG":
        return True
    most = int(decode_pixels(read_bytes(mask), str(mask)).max())
    return most >= LABELS if most else None


def _header(path: Path) -> tuple[str, str]:
    """Read the kind of an image file and of its pixels, as Pillow names them."""
    try:
        with PillowImage.open(path, formats=FORMATS) as image:
            return str(image.format), image.mode
    except FileNotFoundError:
        raise bad(path, None, "expected an image, found nothing there") from None
    except Exception as error:  # decoders raise any exception, depending on the damage
        raise bad(path, None, "expected an image, could not read it") from error


class _Linker:
    """Puts links to images into a data set, hard links or copies where links are refused."""

    def __init__(self, home: Path) -> None:
        self.home = Path(os.path.realpath(home))
        self._folders: set[Path] = set()
        self._ways: list[Way] = ["linked", "hard links", "copied"]
        self._prefixes: dict[Path, str] = {}

    def link(self, job: ImageJob, written: Written) -> Iterator[int]:
        """Link the images of a camera; yield numbers of finished ones."""
        done = 0
        for shot in job.shots:
            # An image with its own alpha is a .png, all others have their mask beside them.
            kind: Literal["png", "jpg"] = "png" if shot.mask is None else "jpg"
            target = image_path(job.out, shot.split, job.index, shot.frame, kind)
            if target.parent not in self._folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(target.parent)
            self._check(job, shot)
            if shot.mask is not None:
                self._put(shot.mask.path, mask_path(target))
            written.add(self._put(shot.image.path, target))
            done += 1
            if done == PROGRESS_EACH:
                yield done
                done = 0
        yield done

    def _check(self, job: ImageJob, shot: Shot) -> None:
        """Refuse an image or mask of another size than its camera's."""
        for ref in (shot.image, shot.mask):
            if ref is None:
                continue
            if (size := image_size(ref)) != (
                job.camera.width,
                job.camera.height,
            ):
                expected = f"{job.camera.width} x {job.camera.height} px as its camera's others"
                raise bad(ref.place, None, f"expected {expected}, got {size[0]} x {size[1]}")

    def _put(self, source: Path, target: Path) -> Way:
        """Put a link, or what the file system takes instead."""
        while True:
            way = self._ways[0]
            try:
                if way == "linked":
                    target.symlink_to(self._text(source, target))
                elif way == "hard links":
                    os.link(os.path.realpath(source), target)
                else:
                    with writing(target):
                        shutil.copyfile(source, target)
                return way
            except OSError as error:
                refused = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EACCES)
                if len(self._ways) == 1 or error.errno not in refused:
                    raise bad(target, None, f"cannot be written: {error.strerror}") from error
                self._ways.pop(0)

    def _text(self, source: Path, target: Path) -> str:
        """Return the path in a link: relative in one tree, so that both may be moved together."""
        folder = source.parent
        if folder not in self._prefixes:
            real = Path(os.path.realpath(folder))
            self._prefixes[folder] = str(real)
            if real.is_relative_to(self.home.parent):
                # Every image lies in SPLIT/images/FFFFFF of the data set.
                inside = self.home.joinpath(*target.parts[-4:-1])
                self._prefixes[folder] = os.path.relpath(real, inside)
        return os.path.join(self._prefixes[folder], source.name)


# ---- images that are made ----


def cut_out(job: ImageJob, progress: Progress, stopped: Stopped) -> int:
    """Straighten, resize and cut out the images of a camera; return their number.

    Raises: InputError.
    """
    from av import VideoFrame

    camera = job.camera
    K = camera.K
    pinhole = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
    optics = Optics(camera.width, camera.height, pinhole, camera.lens)
    settings = ExtractSettings(erode=0, size=job.size, kind=job.kind, quality=QUALITY)
    cutter = Cutter(settings, optics, camera.width, camera.height)
    alphas = read_alphas((shot.image, shot.mask) for shot in job.shots)
    pairs = zip(read_images(shot.image for shot in job.shots), alphas, strict=True)
    count = 0
    for shot, (rgb, alpha) in zip(job.shots, pairs, strict=True):
        if stopped():
            break
        alpha = _fitted(job, shot, rgb, alpha)
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        mask = VideoFrame.from_ndarray(np.ascontiguousarray(alpha), format="gray")
        pixels, place = cutter.cut(frame, mask)
        target = image_path(job.out, shot.split, job.index, shot.frame, job.kind)
        write_masked(target, pixels, place, whole=False, quality=QUALITY)
        count += 1
        progress(1)
    return count


def _fitted(
    job: ImageJob,
    shot: Shot,
    rgb: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "n m"],
) -> UInt8[np.ndarray, "h w"]:
    """Resize a mask to its image, if it shows the same at another size. Raises: InputError."""
    width, height = job.camera.width, job.camera.height
    for ref, pixels in ((shot.image, rgb), (shot.mask or shot.image, alpha)):
        rows, columns = pixels.shape[:2]
        is_scaled = pixels is alpha and abs(columns * height - rows * width) <= max(width, height)
        if (rows, columns) != (height, width) and not is_scaled:
            text = f"expected {width} x {height} px as its camera's others"
            raise bad(ref.place, None, f"{text}, got {columns} x {rows}")
    if alpha.shape == (height, width):
        return alpha
    image = PillowImage.fromarray(alpha)
    return np.asarray(image.resize((width, height), PillowImage.Resampling.BILINEAR))


def remove_tree(folder: Path) -> None:
    """Remove a folder that this program made; links in it, never what they lead to."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
