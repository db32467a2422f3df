"""Decode plain PNGs, 8 bits a channel, several times as fast as Pillow.

A published image of 1285x940 takes Pillow 15 ms: 7 to inflate, 5.5 to copy. Here igzip inflates it
in 1.2 ms, and rows are unfiltered in place.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Final

import numba
import numpy as np
from isal import isal_zlib
from jaxtyping import UInt8

START: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 6: 4}
"""Channels by PNG's colour type: grey, RGB, RGBA. Source: PNG specification, 11.2.2."""


def decode_png(data: bytes) -> UInt8[np.ndarray, "h w *c"] | None:
    """Decode a grey, RGB or RGBA image; None for other kinds and for damaged files.

    Grey images have two dimensions.
    """
    if len(data) < 33 or not data.startswith(START):
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    channels = _CHANNELS.get(colour)
    if channels is None or depth != 8 or interlaced:
        return None
    row = 1 + width * channels
    try:
        rows = np.frombuffer(_inflate(_image_data(data), height * row), np.uint8)
    except (ValueError, struct.error):
        return None
    if rows.size != height * row or rows[::row].max() > 4:
        return None
    pixels = np.empty((height, width * channels), np.uint8)
    _unfilter(rows.reshape(height, row), pixels, channels)
    return pixels if channels == 1 else pixels.reshape(height, width, channels)


def _image_data(data: bytes) -> bytes:
    """Return the compressed rows. Raises: ValueError, struct.error."""
    parts, place = [], len(START)
    while True:
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if kind == b"IDAT":
            (check,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(data[place + 4 : end]) != check:
                raise ValueError("damaged")
            parts.append(data[place + 8 : end])
        elif kind == b"IEND":
            return b"".join(parts)
        place = end + 4


def _inflate(data: bytes, size: int) -> bytes:
    """Decompress to exactly that many bytes. Raises: ValueError."""
    stream = isal_zlib.decompressobj()
    try:
        rows = stream.decompress(data, size + 1)  # bounded, whatever the file claims
    except Exception as error:  # isal's own exception, which its stubs do not type
        raise ValueError("damaged") from error
    if len(rows) != size or not stream.eof:
        raise ValueError("damaged")
    return rows


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile the filter; cache the result where a folder for it is writable."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no writable folder
        return numba.njit(nogil=True)(function)


@_compiled
def _unfilter(rows: np.ndarray, pixels: np.ndarray, channels: int) -> None:
    """Undo each row's filter, given by its first byte. Source: PNG specification, 9.2."""
    height, width = pixels.shape
    zeros = np.zeros(width, np.uint8)
    for y in range(height):
        kind, coded, out = rows[y, 0], rows[y, 1:], pixels[y]
        above = pixels[y - 1] if y else zeros
        if kind == 0:
            out[:] = coded
        elif kind == 1:
            out[:channels] = coded[:channels]
            for x in range(channels, width):
                out[x] = coded[x] + out[x - channels]
        elif kind == 2:
            for x in range(width):
                out[x] = coded[x] + above[x]
        elif kind == 3:
            for x in range(width):
                previous = np.int32(out[x - channels]) if x >= channels else np.int32(0)
                out[x] = coded[x] + np.uint8((previous + np.int32(above[x])) >> 1)
        else:
            for x in range(width):
                previous = np.int32(out[x - channels]) if x >= channels else np.int32(0)
                corner = np.int32(above[x - channels]) if x >= channels else np.int32(0)
                up = np.int32(above[x])
                by_left, by_up = abs(up - corner), abs(previous - corner)
                by_corner = abs(previous + up - 2 * corner)
                if by_left <= by_up and by_left <= by_corner:
                    nearest = previous
                elif by_up <= by_corner:
                    nearest = up
                else:
                    nearest = corner
                out[x] = coded[x] + np.uint8(nearest)
