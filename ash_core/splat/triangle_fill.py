"""Pixels that projected triangles cover, and their depths."""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def fill_triangles(pixels, faces, out):  # type: ignore[no-untyped-def]
    """Set the pixels of `out` whose centres lie in a triangle.

    pixels [V, 2]: projected vertices, px; faces [F, 3]; out [h, w] bool.
    """
    height, width = out.shape
    for face in faces:
        ax, ay = pixels[face[0]]
        bx, by = pixels[face[1]]
        cx, cy = pixels[face[2]]
        left = max(int(np.floor(min(ax, bx, cx) - 0.5)), 0)
        right = min(int(np.ceil(max(ax, bx, cx) + 0.5)), width)
        top = max(int(np.floor(min(ay, by, cy) - 0.5)), 0)
        bottom = min(int(np.ceil(max(ay, by, cy) + 0.5)), height)
        for row in range(top, bottom):
            y = row + 0.5
            for column in range(left, right):
                x = column + 0.5
                first = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
                second = (cx - bx) * (y - by) - (cy - by) * (x - bx)
                third = (ax - cx) * (y - cy) - (ay - cy) * (x - cx)
                if (first >= 0 and second >= 0 and third >= 0) or (
                    first <= 0 and second <= 0 and third <= 0
                ):
                    out[row, column] = True


@numba.njit(cache=True, nogil=True)
def fill_depths(pixels, depths, faces, out):  # type: ignore[no-untyped-def]
    """Lower `out` to the depth of the nearest triangle at each pixel's centre.

    pixels [V, 2]: projected vertices, px; depths [V], m, ahead of the camera; faces [F, 3];
    out [h, w]: depths, infinite where there is nothing yet.
    """
    height, width = out.shape
    for face in faces:
        ax, ay = pixels[face[0]]
        bx, by = pixels[face[1]]
        cx, cy = pixels[face[2]]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0:
            continue
        left = max(int(np.floor(min(ax, bx, cx) - 0.5)), 0)
        right = min(int(np.ceil(max(ax, bx, cx) + 0.5)), width)
        top = max(int(np.floor(min(ay, by, cy) - 0.5)), 0)
        bottom = min(int(np.ceil(max(ay, by, cy) + 0.5)), height)
        for row in range(top, bottom):
            y = row + 0.5
            for column in range(left, right):
                x = column + 0.5
                wb = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                wc = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                wa = 1.0 - wb - wc
                if wa >= 0.0 and wb >= 0.0 and wc >= 0.0:
                    # 1 / depth is linear in the image.
                    depth = 1.0 / (
                        wa / depths[face[0]] + wb / depths[face[1]] + wc / depths[face[2]]
                    )
                    out[row, column] = min(out[row, column], depth)
