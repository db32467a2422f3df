"""Footage of a camera on disk: short segments, joined to videos at the end without encoding again.

A segment has its final name only when it is whole.
"""

import contextlib
import itertools
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit

from ash_core.files.dataset import TRUTH
from ash_core.files.io import drop_leftovers, writing
from ash_core.files.libav import plane_of, read_container, write_container
from ash_core.files.video import BT709
from ash_core.records import Camera
from ash_core.studio.film.film_pass import Shot
from ash_core.studio.film.studio_light import BACKDROP

PARTIAL: Final = ".partial"
_OPTIONS: Final = {
    "preset": "veryfast",
    "g": "25",
    "bf": "0",
    # An encoder for each camera is open at once: their queued frames would fill the memory.
    "x264-params": "rc-lookahead=0:sync-lookahead=0:scenecut=0:mbtree=0",
}
RGB_CRF: Final = "12"
MASK_CRF: Final = "4"
LIMITED: Final = 1
"""PyAV's code for 16-235, which every player and reader assumes."""
AGAIN: Final = "; run it again to go on"


class Segment:
    """Segment of one camera's frames during encoding: RGB and masks. One thread at a time."""

    def __init__(self, rgb: Path, mask: Path, size: tuple[int, int], fps: float) -> None:
        self._size = size
        self._encoders = (_Encoder(rgb, size, fps, RGB_CRF), _Encoder(mask, size, fps, MASK_CRF))

    def add(self, shot: Shot) -> None:
        """Add the next frame."""
        import av

        # Chroma is stored at half size: an odd side grows by one row or column of backdrop.
        width, height = (side + side % 2 for side in self._size)
        rgb, mask = (av.VideoFrame(width, height, "yuv420p") for _ in range(2))
        planes = [
            plane_of(frame, n)[: frame.planes[n].height, : frame.planes[n].width]
            for frame in (rgb, mask)
            for n in range(3)
        ]
        for plane, value in zip(planes, (*_BACKDROP_YUV, 16, 128, 128), strict=True):
            plane[:] = value
        y, u, v, grey = planes[:4]
        _paint(shot.rgba, shot.left, shot.top, y, u, v, grey, _BACKDROP)
        for encoder, frame in zip(self._encoders, (rgb, mask), strict=True):
            encoder.add(frame)

    def finish(self) -> None:
        """Rename the files to their targets."""
        for encoder in self._encoders:
            encoder.finish()

    def discard(self) -> None:
        """Remove the temporary files. Never raises."""
        for encoder in self._encoders:
            encoder.discard()


class _Encoder:
    """Encoder of one H.264 video under a temporary name."""

    def __init__(self, out: Path, size: tuple[int, int], fps: float, crf: str) -> None:

        self.out, self._frames = out, 0
        self._partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}{PARTIAL}")
        rate = Fraction(fps).limit_denominator(1001)
        with writing(out, AGAIN):
            self._container = write_container(self._partial, "mp4")
            self._stream: Any = self._container.add_stream("libx264", rate=rate)
            self._stream.width, self._stream.height = (side + side % 2 for side in size)
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {**_OPTIONS, "crf": crf}
            codec = self._stream.codec_context
            codec.time_base = 1 / rate
            codec.thread_count = 1  # as many cameras as cores are encoded at a time
            for tag in ("colorspace", "color_primaries", "color_trc"):
                setattr(codec, tag, BT709)
            codec.color_range = LIMITED

    def add(self, frame: Any) -> None:
        frame.pts, frame.time_base = self._frames, self._stream.codec_context.time_base
        self._frames += 1
        with writing(self.out, AGAIN):
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        with writing(self.out, AGAIN):
            self._container.mux(self._stream.encode(None))
            self._container.close()
            _settle(self._partial, self.out)

    def discard(self) -> None:
        # Closing writes the trailer, which fails again on a full disk.
        with contextlib.suppress(Exception):
            self._container.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()


class CuttingRoom:
    """Encoders at work: a camera's images in order, cameras in parallel."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._reels: dict[int, Segment] = {}
        self._waiting: dict[int, Future[None]] = {}

    def open(self, number: int, paths: tuple[Path, Path], camera: Camera, fps: float) -> Segment:
        """Open a new segment of a camera."""
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        self._reels[number] = Segment(*paths, (camera.width, camera.height), fps)
        return self._reels[number]

    def put(self, camera: int, work: Callable[..., None], *arguments: Any) -> None:
        """Queue a camera's image."""
        if (before := self._waiting.pop(camera, None)) is not None:
            before.result()
        self._waiting[camera] = self._pool.submit(work, *arguments)

    def finish(self) -> None:
        """Finish all segments under their final names."""
        for camera, reel in self._reels.items():
            self.put(camera, reel.finish)
        self._settle()
        self._reels.clear()

    def close(self) -> None:
        """Discard unfinished segments."""
        with contextlib.suppress(Exception):
            self._settle()
        for work in self._waiting.values():
            with contextlib.suppress(Exception):
                work.result()
        for reel in self._reels.values():
            reel.discard()

    def _settle(self) -> None:
        for camera in list(self._waiting):
            self._waiting.pop(camera).result()


def join(segments: Sequence[Path], out: Path, fps: float) -> None:
    """Join segments to one video in order, without encoding again. Raises InputError."""
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}{PARTIAL}")
    with writing(out, AGAIN):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with write_container(partial, "mp4") as joined:
                stream: Any = None
                number = 0
                for path in segments:
                    with read_container(path) as part:
                        source = part.streams.video[0]
                        if stream is None:
                            stream = joined.add_stream_from_template(source)
                        for packet in part.demux(source):
                            if packet.size:
                                step = 1 / (
                                    Fraction(fps).limit_denominator(1001) * packet.time_base
                                )
                                packet.pts = packet.dts = round(number * step)
                                packet.stream = stream
                                joined.mux(packet)
                                number += 1
            _settle(partial, out)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def remove_partials(folder: Path) -> None:
    """Remove the files of a killed run. No other process may film there."""
    for path in folder.rglob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()
    for shelf in (folder, *(path for path in (folder / TRUTH).rglob("*") if path.is_dir())):
        drop_leftovers(shelf)


def _settle(partial: Path, out: Path) -> None:
    """Sync a file to the disk, then rename it."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(out)


# ---- pixels ----


def _yuv_matrix() -> np.ndarray:
    """Return the matrix [3, 3] of RGB to Y, Cb, Cr bytes without offsets. Source: ITU-R BT.709."""
    red, blue = 0.2126, 0.0722
    luma = np.array([red, 1 - red - blue, blue])
    to_blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    to_red = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    return np.stack((luma * 219, to_blue * 224, to_red * 224)) / 255


_YUV: Final = _yuv_matrix()
_BACKDROP: Final = np.array(BACKDROP, np.float64)
_BACKDROP_YUV: Final = tuple(
    int(value + offset + 0.5)
    for value, offset in zip(_YUV @ _BACKDROP, (16, 128, 128), strict=True)
)


@njit(cache=True, nogil=True)
def _paint(
    rgba: np.ndarray,
    left: int,
    top: int,
    y_plane: np.ndarray,
    u_plane: np.ndarray,
    v_plane: np.ndarray,
    mask_plane: np.ndarray,
    backdrop: np.ndarray,
) -> None:
    """Paint the person's box into the planes of the image and the mask."""
    height, width = rgba.shape[:2]
    y0, y1, y2 = _YUV[0]
    for row in range(height):
        for column in range(width):
            pixel = rgba[row, column]
            luma = 16.5 + y0 * pixel[0] + y1 * pixel[1] + y2 * pixel[2]
            y_plane[top + row, left + column] = int(luma)
            mask_plane[top + row, left + column] = int(16.5 + 219.0 / 255.0 * pixel[3])
    for half_row in range(top // 2, (top + height + 1) // 2):
        for half_column in range(left // 2, (left + width + 1) // 2):
            red = green = blue = 0.0
            for n in range(4):
                row, column = 2 * half_row + n // 2 - top, 2 * half_column + n % 2 - left
                if 0 <= row < height and 0 <= column < width:
                    red += rgba[row, column, 0]
                    green += rgba[row, column, 1]
                    blue += rgba[row, column, 2]
                else:
                    red += backdrop[0]
                    green += backdrop[1]
                    blue += backdrop[2]
            red, green, blue = red / 4, green / 4, blue / 4
            u = _YUV[1, 0] * red + _YUV[1, 1] * green + _YUV[1, 2] * blue
            v = _YUV[2, 0] * red + _YUV[2, 1] * green + _YUV[2, 2] * blue
            u_plane[half_row, half_column] = int(128.5 + u)
            v_plane[half_row, half_column] = int(128.5 + v)


def chunks(frames: range, length: int) -> list[range]:
    """Split frames into consecutive chunks of `length`."""
    starts = itertools.islice(frames, 0, None, length)
    return [range(start, min(start + length, frames.stop)) for start in starts]
