"""Writers of images: videos (with and without alpha), PNG files, folders of PNGs.

A writer takes uint8 frames and encodes them on its own thread behind a short queue. It writes under
a temporary name, renamed at the end: a kill leaves the old file or the new one.
"""

import contextlib
import queue
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np
from jaxtyping import UInt8

from ash_core.errors import InputError
from ash_core.files.io import is_kind, size_text, writing
from ash_core.files.libav import write_container
from ash_core.files.partial import Partial

Pixels = UInt8[np.ndarray, "h w c"]

QUEUE_FRAMES: Final = 4
"""Upper bound on frames in the encoder's queue; more would only cost memory."""

BT709: Final = 1
"""Code of BT.709 for matrix, primaries and transfer alike. Source: ITU-T H.273."""


@dataclass(frozen=True)
class VideoFormat:
    """Encoding of one file extension."""

    encoder: str
    pixel_format: str
    container: str
    has_alpha: bool
    even_size: bool
    """True if chroma is stored at half size: an odd width or height grows by one repeated pixel."""
    bytes_per_pixel: float
    """Lower bound for a quiet image, so that only a disk that is surely too full is refused."""
    options: dict[str, str] = field(default_factory=dict)


VIDEO_FORMATS: Final[dict[str, VideoFormat]] = {
    ".mp4": VideoFormat(
        "libx264", "yuv420p", "mp4", has_alpha=False, even_size=True, bytes_per_pixel=0.004,
        options={"crf": "18", "preset": "medium"},
    ),
    ".webm": VideoFormat(
        "libvpx-vp9", "yuva420p", "webm", has_alpha=True, even_size=True, bytes_per_pixel=0.004,
        # Alternate reference frames exclude alpha.
        options={"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1",
                 "auto-alt-ref": "0"},
    ),
    ".mov": VideoFormat(
        "prores_ks", "yuva444p10le", "mov", has_alpha=True, even_size=False, bytes_per_pixel=0.2,
        options={"profile": "4444", "alpha_bits": "16"},
    ),
}  # fmt: skip
ALPHA_FORMATS: Final = ".webm, .mov, .png or a folder of PNGs"
KNOWN_FORMATS: Final = ".mp4, .webm, .mov, .png or a folder"


class Encoder(ABC):
    """Encoder of one kind of output on the writer's thread, frame by frame."""

    @abstractmethod
    def encode(self, frame: Pixels, number: int) -> None: ...

    @abstractmethod
    def finish(self) -> None:
        """Complete the output and rename it to its target."""

    @abstractmethod
    def discard(self) -> None:
        """Remove the temporary file. Never raises."""


class VideoEncoder(Encoder):
    """Encoder of one video file, through PyAV."""

    def __init__(self, out: Path, width: int, height: int, fps: float, alpha: bool) -> None:
        video = VIDEO_FORMATS[out.suffix.lower()]
        # Readers see the padding: an image's last row or column, repeated.
        self.padding = (height % 2, width % 2) if video.even_size else (0, 0)
        self.partial = Partial(out)
        try:
            self.container = write_container(self.partial.path, video.container)
            rate = Fraction(fps).limit_denominator(1001)
            self.stream: Any = self.container.add_stream(video.encoder, rate=rate)
            self.stream.width = width + self.padding[1]
            self.stream.height = height + self.padding[0]
            self.stream.pix_fmt = video.pixel_format
            if not alpha and video.has_alpha:
                self.stream.pix_fmt = video.pixel_format.replace("yuva", "yuv")
            self.stream.options = dict(video.options)
            self.stream.codec_context.thread_type = "AUTO"
            for tag in ("colorspace", "color_primaries", "color_trc"):
                setattr(self.stream.codec_context, tag, BT709)
            self.stream.codec_context.color_range = 1  # 16-235: the range that every player assumes
            self.container.start_encoding()
        except BaseException:
            self.discard()
            raise

    def encode(self, frame: Pixels, number: int) -> None:
        import av
        from av.video.reformatter import Colorspace

        rows, columns = self.padding
        if rows or columns:
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(frame), format="rgba" if frame.shape[2] == 4 else "rgb24"
        )
        picture = picture.reformat(format=self.stream.pix_fmt, dst_colorspace=Colorspace.ITU709)
        self.container.mux(self.stream.encode(picture))

    def finish(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()
        self.partial.settle()

    def discard(self) -> None:
        # Closing writes the trailer, which fails again on a full disk.
        with contextlib.suppress(Exception):
            self.container.close()
        self.partial.discard()


class PngEncoder(Encoder):
    """Encoder of one PNG file."""

    def __init__(self, out: Path) -> None:
        self.partial = Partial(out)

    def encode(self, frame: Pixels, number: int) -> None:
        _save_png(self.partial.path, frame)

    def finish(self) -> None:
        self.partial.settle()

    def discard(self) -> None:
        self.partial.discard()


class FolderEncoder(Encoder):
    """Encoder of a folder of `frame_000123.png`, by frame number; each is whole or absent.

    names: other paths below the folder, by number.
    """

    def __init__(self, out: Path, names: Sequence[str] | None = None) -> None:
        self.out, self.names = out, names
        self.partial = Partial(out / "frame.png")  # checks at once whether it is writable

    def encode(self, frame: Pixels, number: int) -> None:
        _save_png(self.partial.path, frame)
        name = f"frame_{number:06d}.png" if self.names is None else self.names[number]
        place = self.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        self.partial.settle(place)
        self.partial = Partial(self.out / "frame.png", first=False)

    def finish(self) -> None:
        self.discard()

    def discard(self) -> None:
        self.partial.discard()


class _Job(NamedTuple):
    frame: Pixels
    number: int


class FrameWriter:
    """Writer of frames of one size, encoded on its own thread.

    A context manager: a clean end and a Ctrl-C (KeyboardInterrupt) complete the file, any other
    exception discards it. Errors of the encoder (a full disk) are raised by `write` or `close` as
    `InputError`.
    """

    def __init__(self, out: Path, encoder: Encoder, width: int, height: int, alpha: bool) -> None:
        self.out = out
        self.frames = 0
        self._shape = (height, width, 4 if alpha else 3)
        self._encoder = encoder
        self._error: Exception | None = None
        self._closed = False
        self._dropped = False
        self._queue: queue.Queue[_Job | None] = queue.Queue(QUEUE_FRAMES)
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def write(self, frame: Pixels, number: int | None = None) -> None:
        """Queue one frame: RGB, or straight (not premultiplied) RGBA; row 0 at the top.

        The caller must not change the array afterwards. `number` names the files of a folder; by
        default frames count from zero.
        """
        assert frame.shape == self._shape, (frame.shape, self._shape)
        assert frame.dtype == np.uint8, frame.dtype
        self._raise_error()
        self._queue.put(_Job(frame, self.frames if number is None else number))
        self.frames += 1

    def close(self) -> None:
        """Complete the output. Without any frame there is no file."""
        if self._closed:
            return
        try:
            self._join()
            self._raise_error()
            if self.frames == 0:
                self._encoder.discard()
                return
            with writing(self.out):
                self._encoder.finish()
        except BaseException:
            self._drop()
            raise

    def discard(self) -> None:
        """Discard the output; an older file of this name stays."""
        if not self._closed:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.discard()

    def _join(self) -> None:
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _drop(self) -> None:
        self._dropped = True
        # The thread ends after the current frame: closing a file under an encoder would crash.
        self._join()
        self._encoder.discard()

    def _raise_error(self) -> None:
        if self._error is not None:
            with writing(self.out):
                raise self._error

    def _work(self) -> None:
        # After a failure the queue is still emptied, or the renderer would wait forever.
        while (job := self._queue.get()) is not None:
            if self._error is None and not self._dropped:
                try:
                    self._encoder.encode(*job)
                except Exception as error:
                    self._error = error


def open_writer(
    out: Path,
    width: int,
    height: int,
    fps: float = 25.0,
    alpha: bool = False,
    names: Sequence[str] | None = None,
) -> FrameWriter:
    """Open a writer for `out` by its extension: .mp4, .webm, .mov, .png, or a folder of PNGs.

    With `alpha` frames are straight RGBA, else RGB. names: files of a folder, by the number of
    `write`. Missing folders are created. Raises `InputError` for an unknown extension, alpha in
    .mp4, or a place that is not writable.
    """
    check_output(out, alpha)
    assert min(width, height) > 0, (width, height)
    with writing(out):
        (out if is_folder(out) else out.parent).mkdir(parents=True, exist_ok=True)
        encoder = _make_encoder(out, width, height, fps, alpha, names)
    return FrameWriter(out, encoder, width, height, alpha)


def check_output(out: Path, alpha: bool) -> None:
    """Raise `InputError` if `open_writer` must fail for this name."""
    with writing(out):
        out.exists()  # a name too long or a closed folder: fail before the work
    suffix = out.suffix.lower()
    if is_folder(out):
        if out.exists() and not out.is_dir():
            raise InputError(f"{out}: expected a folder or a name that ends in {KNOWN_FORMATS}")
        return
    if suffix not in VIDEO_FORMATS and suffix != ".png":
        raise InputError(f"{out}: unknown extension '{suffix}', expected {KNOWN_FORMATS}")
    if out.is_dir():
        raise InputError(f"{out}: is a folder, expected the name of a {suffix} file")
    if alpha and suffix in VIDEO_FORMATS and not VIDEO_FORMATS[suffix].has_alpha:
        raise InputError(f"{out}: {suffix} has no transparency, choose {ALPHA_FORMATS}")


def is_single_picture(out: Path) -> bool:
    """Return whether `out` holds exactly one frame."""
    return not is_folder(out) and out.suffix.lower() == ".png"


def check_space(out: Path, width: int, height: int, frames: int) -> None:
    """Raise `InputError` if the disk is surely too small for the output."""
    video = VIDEO_FORMATS.get(out.suffix.lower())
    need = int(width * height * frames * (video.bytes_per_pixel if video else 0.01))
    place = out.absolute()
    while not is_kind(Path.exists, place):
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < need:
        raise InputError(
            f"{out}: the disk is too full: {frames} frames of {width}x{height} need at least "
            f"{size_text(need)}, {size_text(free)} are free"
        )


def _make_encoder(
    out: Path, width: int, height: int, fps: float, alpha: bool, names: Sequence[str] | None
) -> Encoder:
    if is_folder(out):
        return FolderEncoder(out, names)
    if is_single_picture(out):
        return PngEncoder(out)
    return VideoEncoder(out, width, height, fps, alpha)


def is_folder(out: Path) -> bool:
    """Return whether `out` is a folder with a PNG for each frame."""
    return not out.suffix or (
        is_kind(Path.is_dir, out) and out.suffix.lower() not in (*VIDEO_FORMATS, ".png")
    )


def _save_png(path: Path, frame: Pixels) -> None:
    from PIL import Image as PillowImage

    # Level 3 is three times faster than Pillow's default and a few per cent larger.
    with path.open("wb") as file:
        PillowImage.fromarray(frame).save(file, format="png", compress_level=3)
