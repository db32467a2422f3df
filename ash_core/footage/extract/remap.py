"""Resample images at other places: one bilinear look-up a pixel."""

import numba
import numpy as np
from jaxtyping import Float32, UInt8


@numba.njit(cache=True, nogil=True)
def _remap(picture, places, out):  # type: ignore[no-untyped-def]
    height, width, channels = picture.shape
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            x, y = places[row, column]
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                continue
            x = min(max(x, 0.0), width - 1.0)
            y = min(max(y, 0.0), height - 1.0)
            left, top = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            ax, ay = x - left, y - top
            for c in range(channels):
                upper = picture[top, left, c] * (1 - ax) + picture[top, right, c] * ax
                lower = picture[bottom, left, c] * (1 - ax) + picture[bottom, right, c] * ax
                out[row, column, c] = np.uint8(upper * (1 - ay) + lower * ay + 0.5)


def remap(
    picture: UInt8[np.ndarray, "h w c"], places: Float32[np.ndarray, "n m 2"]
) -> UInt8[np.ndarray, "n m c"]:
    """Sample an image at places (x, y), bilinear; 0 outside."""
    out = np.zeros((*places.shape[:2], picture.shape[2]), np.uint8)
    _remap(np.ascontiguousarray(picture), places, out)
    return out
