"""Videos of a capture, read frame by frame without loss.

A frame's number is its time: variable frame rates keep their gaps. Damage is an `InputError` with
its place; a cut-off end is left out and reported. Each reader has one thread: extraction of many
videos runs one process a camera. Frames are rotated by the video's display matrix; pixels that are
not square stay as stored.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ash_core.errors import InputError
from ash_core.files.io import bad, is_kind, show
from ash_core.files.libav import display_turn, read_container, turned

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

GRID_TOLERANCE: Final = 0.25
"""Largest distance, in frames, of a frame from its grid place at a constant frame rate."""

SQUARE: Final = Fraction(1)
MATRICES: Final = {1: "BT.709", 5: "BT.601", 6: "BT.601", 9: "BT.2020", 10: "BT.2020"}
RANGES: Final = {1: "limited range", 2: "full range"}
"""Names of codes. Source: ITU-T H.273; libavutil/pixfmt.h."""
NO_MATRIX: Final = "no colour matrix, read as BT.601"

PIECES: Final = 16
PIECE_BYTES: Final = 256 << 10
"""Number and size of the pieces of a video in its digest."""

LARGE_BYTES: Final = 256 << 20
"""Size up to which a whole file is read to count its frames."""


@dataclass(frozen=True)
class VideoIndex:
    """Result of a pass over a video's packets, without decoding."""

    path: Path
    width: int
    height: int
    """Height of the displayed frames, px."""
    times: dict[int, int]
    """Time stamps by frame number, in order; whole frames only."""
    keys: tuple[int, ...]
    """Time stamps at which decoding can start."""
    declared: int
    """Number of frames by the header; without one, of the frames found."""
    fps: float
    is_variable: bool
    quarters: int = 0
    """Quarter turns, counter-clockwise, from stored to displayed frames."""
    pixel_aspect: Fraction = SQUARE
    """Ratio of a stored pixel's width to its height."""
    colours: str = ""
    """Matrix, range and depth of the colours."""

    @property
    def cut_off(self) -> int:
        """Return the number of announced frames that are missing at the end."""
        return self.declared - len(self.times)

    @property
    def count(self) -> int:
        """Return the exclusive upper bound on frame numbers, gaps included."""
        return max(self.times, default=-1) + 1

    @property
    def gaps(self) -> list[int]:
        """List the numbers without a frame, at a variable frame rate."""
        return [number for number in range(self.count) if number not in self.times]


def index_video(path: Path, fps: float | None = None) -> VideoIndex:
    """Read the time stamps of a video.

    fps: frames a second of the numbers. Default: one step of the video's own time stamps, the
    one that most of its frames keep.
    """
    with _opened(path) as (container, stream):
        # Collect the time stamps of all whole packets.
        stamps: list[tuple[int, bool]] = []
        is_cut, first = False, None
        for packet in container.demux(stream):
            if packet.is_corrupt:
                is_cut = True  # later frames may depend on it
                break
            first = first or _first_picture(stream, packet)
            time = packet.pts if packet.pts is not None else packet.dts
            if packet.size and time is not None:
                stamps.append((time, packet.is_keyframe))
        times = sorted({time for time, _ in stamps})
        if not times:
            raise bad(path, None, "expected a video with frames in it, found none that is whole")
        # Find the step between frames, and number the frames by it.
        second = 1.0 / float(stream.time_base or 1)
        steps = sorted(after - before for before, after in itertools.pairwise(times))
        own = steps[len(steps) // 2] if steps else second / float(stream.average_rate or 25)
        step = own if fps is None else second / fps
        places = [(time - times[0]) / step for time in times]
        off = [abs(place - number) for number, place in enumerate(places)]
        is_variable = max(off) > GRID_TOLERANCE
        quarters = _quarters(path, first)
        return VideoIndex(
            path,
            *_shown_size(stream, quarters),
            _numbered(times, places),
            tuple(sorted(time for time, is_key in stamps if is_key)),
            stream.frames or len(times) + is_cut,
            second / step,
            is_variable,
            quarters,
            stream.sample_aspect_ratio or SQUARE,
            "" if first is None else _colours_of(first),
        )


def _first_picture(stream: "VideoStream", packet: "av.Packet") -> "av.VideoFrame | None":
    """Decode packets until the first frame; damage is reported when its frame is needed."""
    from av.error import FFmpegError

    try:
        return next(iter(stream.codec_context.decode(packet if packet.size else None)), None)
    except FFmpegError:
        return None


def _quarters(path: Path, first: "av.VideoFrame | None") -> int:
    """Return the rotation of a video's first frame."""
    quarters = 0 if first is None else display_turn(first)
    if quarters is None:
        text = "expected a video that is shown as stored or turned by quarters of a circle"
        raise bad(path, None, f"{text}, its display matrix says something else")
    return quarters


def _shown_size(stream: "VideoStream", quarters: int) -> tuple[int, int]:
    return (stream.height, stream.width) if quarters % 2 else (stream.width, stream.height)


def _colours_of(picture: "av.VideoFrame") -> str:
    """Describe the matrix, range and depth of a frame's colours."""
    matrix = MATRICES.get(picture.colorspace, NO_MATRIX)
    spread = RANGES.get(picture.color_range, "limited range")
    return f"{matrix}, {spread}, {picture.format.components[0].bits} bits"


def _numbered(times: list[int], places: list[float]) -> dict[int, int]:
    """Number the frames: the nearest number to each time; of two frames at one number the
    nearer."""
    best: dict[int, tuple[float, int]] = {}
    for time, place in zip(times, places, strict=True):
        number = round(place)
        mark = (abs(place - number), time)
        best[number] = min(best.get(number, mark), mark)
    return {number: time for number, (_, time) in best.items()}


def declared_frames(path: Path) -> tuple[int, int]:
    """Return (number of frames by the header, number after the last frame).

    The two differ if the frame rate varies. Large files are not read for it: for these, the
    header's duration counts, one frame too few at worst.
    """
    with _opened(path) as (_, stream):
        declared, base = stream.frames, stream.base_rate
        if declared and path.stat().st_size > LARGE_BYTES:
            places = declared
            if stream.duration and stream.time_base and base:
                # Find the grid of all time stamps; an irregular one gives no number.
                places = round(float(stream.duration * stream.time_base * base))
            return declared, places if declared < places <= 4 * declared else declared
    index = index_video(path)
    return index.declared, max(index.declared, index.count)


def video_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of a displayed video, px."""
    with _opened(path) as (container, stream):
        pictures = (_first_picture(stream, packet) for packet in container.demux(stream))
        first = next((picture for picture in pictures if picture is not None), None)
        return _shown_size(stream, _quarters(path, first))


def fingerprint(path: Path) -> str:
    """Return a fingerprint of a video: its size and a digest of pieces all over it.

    A container's index, at one of its ends, holds the size of every frame.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            mark = hashlib.sha256(str(size).encode())
            for number in range(PIECES):
                file.seek(max(size - PIECE_BYTES, 0) * number // (PIECES - 1))
                mark.update(file.read(PIECE_BYTES))
    except OSError as error:
        raise bad(path, None, f"cannot be read: {error.strerror or error}") from error
    return f"{size} bytes, {mark.hexdigest()[:16]}"


def fits_camera(video: tuple[int, int], camera: tuple[int, int]) -> bool:
    """Return whether a video of that size shows a camera's image.

    Encoders pad odd sides to even ones: such a video has one row or column more.
    """
    padded = (camera[0] + camera[0] % 2, camera[1] + camera[1] % 2)
    return video in (camera, padded)


def decode_frames(
    index: VideoIndex, numbers: Iterable[int], thread_count: int = 1
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Decode frames by their numbers, which rise and are all in `index.times`.

    Decoding continues from frame to frame, and seeks to a key frame where that saves work.
    Raises: InputError for damage.
    """
    with _opened(index.path) as (container, stream):
        codec = stream.codec_context
        # Without it a decoder conceals damage.
        codec.options = {"err_detect": "explode"}
        codec.thread_count = thread_count
        position, pictures = index.times[0] - 1, iter(())
        for number in numbers:
            target = index.times[number]
            key = max((key for key in index.keys if key <= target), default=index.times[0])
            with _naming(index, number):
                if key > position + 1 and key > index.times[0]:
                    container.seek(key, stream=stream)
                    pictures = _pictures(container, stream)
                elif position < index.times[0]:
                    pictures = _pictures(container, stream)
                picture = next((p for p in pictures if (p.pts or 0) >= target), None)
            if picture is None or picture.pts != target or picture.is_corrupt:
                raise _damaged(index, number, "no whole picture")
            position = target
            yield number, turned(picture, index.quarters)


def _pictures(container: "InputContainer", stream: "VideoStream") -> Iterator["av.VideoFrame"]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            break
        yield from stream.codec_context.decode(packet if packet.size else None)
        if not packet.size:
            return
    yield from stream.codec_context.decode(None)


@contextmanager
def _naming(index: VideoIndex, number: int) -> Iterator[None]:
    """Name the frame of a decoder's error."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("av."):
            raise
        raise _damaged(index, number, _reason(error)) from error


def _damaged(index: VideoIndex, number: int, reason: str) -> InputError:
    place = f"frame {number} ({number / index.fps:.2f} s)"
    return bad(index.path, None, f"{place} is damaged, expected one that decodes: {show(reason)}")


@contextmanager
def _opened(path: Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """Open a video file's first video stream; every failure is an InputError."""
    from av.error import FFmpegError

    if not is_kind(Path.is_file, path):
        raise bad(path, None, "expected a video, found nothing there")
    try:
        container = read_container(path)
    except (OSError, ValueError, FFmpegError) as error:
        raise _unreadable(path, error) from error
    with container:
        streams = container.streams.video
        if not streams or streams[0].codec_context is None or not streams[0].width:
            raise bad(path, None, "expected a video, found no picture stream that can be read")
        streams[0].codec_context.thread_count = 1
        try:
            yield container, streams[0]
        except Exception as error:
            if not type(error).__module__.startswith("av."):
                raise
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = show(_reason(error))
    if not type(error).__module__.startswith("av."):
        return bad(path, None, f"expected a video, cannot read it: {reason}")
    text = "expected a video, found a file that is damaged, cut off or of another kind"
    return bad(path, None, f"{text} ({reason})")


def _reason(error: Exception) -> str:
    """Return an error's text without its number."""
    return getattr(error, "strerror", None) or str(error)
