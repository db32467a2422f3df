"""libav for local files alone: a name with a colon is a file here, never a protocol."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    import av


def read_container(path: Path) -> Any:
    """Open a video to read; files that it refers to are local too, or not read at all."""
    import av

    return av.open(_local(path), options={"protocol_whitelist": "file"})


def write_container(path: Path, container: str) -> Any:
    """Open a video to write, in a container by libav's name."""
    import av

    return av.open(_local(path), "w", format=container)


def _local(path: Path) -> str:
    return f"file:{os.path.abspath(path)}"


def plane_of(frame: "av.VideoFrame", number: int) -> UInt8[np.ndarray, "h w"]:
    """Return the bytes of a plane, with the padding at its lines' ends; not a copy."""
    plane = frame.planes[number]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)


def turned(frame: "av.VideoFrame", quarters: int) -> "av.VideoFrame":
    """Rotate a frame counter-clockwise by quarter turns; its colour properties stay."""
    import av

    if quarters % 4 == 0:
        return frame
    width, height = (frame.height, frame.width) if quarters % 2 else (frame.width, frame.height)
    if frame.format.name in ("yuv420p", "yuvj420p", "gray"):
        upright = av.VideoFrame(width, height, frame.format.name)
        for number, plane in enumerate(frame.planes):
            pixels = np.rot90(plane_of(frame, number)[: plane.height, : plane.width], quarters)
            plane_of(upright, number)[: pixels.shape[0], : pixels.shape[1]] = pixels
        upright.colorspace, upright.color_range = frame.colorspace, frame.color_range
    else:
        pixels: Any = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))
        upright = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    upright.pts = frame.pts
    return upright


def display_turn(frame: "av.VideoFrame") -> int | None:
    """Return a frame's display rotation, quarter turns counter-clockwise.

    None: another transform, such as a mirror.
    """
    from av.sidedata.sidedata import Type

    # By its key: iteration yields the data in PyAV 18, their types in PyAV 19.
    side_data: Any = frame.side_data
    matrix = side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return 0
    # Source: libavutil/display.h: three rows (a, b, u), (c, d, v), (x, y, w); a to d in 16.16.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5] / 65536
    size = np.hypot(a, b)
    if size == 0 or abs(a - d) > 0.01 * size or abs(b + c) > 0.01 * size:
        return None
    quarters = np.arctan2(-b, a) / (np.pi / 2)
    return round(quarters) % 4 if abs(quarters - round(quarters)) < 0.01 else None
