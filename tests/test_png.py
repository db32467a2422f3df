"""Our PNG decoder beside Pillow's: every filter, every kind, nothing damaged accepted."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from ash_core.files.png import START, decode_png


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def coded(rows: np.ndarray, width: int, colour: int, parts: int = 1) -> bytes:
    """Encode a PNG of filtered rows."""
    header = struct.pack(">IIBBBBB", width, len(rows), 8, colour, 0, 0, 0)
    data = zlib.compress(rows.tobytes())
    size = -(-len(data) // parts)
    split = [chunk(b"IDAT", data[n : n + size]) for n in range(0, len(data), size)]
    return b"".join([START, chunk(b"IHDR", header), *split, chunk(b"IEND", b"")])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([(0, 1), (2, 3), (6, 4)]), st.integers(0)
)
def test_any_rows_decode_as_pillow_decodes_them(
    width: int, height: int, kind: tuple[int, int], seed: int
) -> None:
    colour, channels = kind
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (height, 1 + width * channels), np.uint8)
    rows[:, 0] = rng.integers(0, 5, height)
    data = coded(rows, width, colour, parts=int(rng.integers(1, 4)))
    pixels = decode_png(data)
    assert pixels is not None
    assert np.array_equal(pixels, np.array(PillowImage.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "LA"])
def test_other_kinds_are_left_to_pillow(mode: str) -> None:
    buffer = io.BytesIO()
    grey = PillowImage.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    (grey.convert("I").convert(mode) if mode == "I;16" else grey.convert(mode)).save(buffer, "PNG")
    assert decode_png(buffer.getvalue()) is None


def test_what_is_damaged_is_none() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (20, 1 + 20 * 3), np.uint8)
    rows[:, 0] = 1
    good = coded(rows, 20, 2)
    assert decode_png(good) is not None
    for cut in range(0, len(good) - 12, 7):  # without its last chunk nothing is whole
        assert decode_png(good[:cut]) is None
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    assert decode_png(bytes(flipped)) is None
    header = good[: good.index(b"IDAT") - 4]
    assert decode_png(header + chunk(b"IDAT", b"\x78\x9c no deflate") + good[-12:]) is None
    rows[3, 0] = 5  # no such filter
    assert decode_png(coded(rows, 20, 2)) is None
    assert decode_png(coded(rows[:-1], 21, 2)) is None  # rows of another width
    bomb = np.zeros((200_000, 101), np.uint8)  # more rows than its header says
    assert decode_png(coded(bomb, 100, 0).replace(*heights(200_000, 20))) is None


def heights(before: int, after: int) -> tuple[bytes, bytes]:
    return tuple(  # type: ignore[return-value]
        chunk(b"IHDR", struct.pack(">IIBBBBB", 100, height, 8, 0, 0, 0, 0))
        for height in (before, after)
    )
