"""Faces that a texture's pixels show, and vertex values carried to pixels."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import distance_transform_edt


@dataclass(frozen=True)
class Texels:
    """Pixels that lie on the surface."""

    size: int
    rows: np.ndarray
    columns: np.ndarray
    faces: np.ndarray
    barycentrics: np.ndarray
    """[N, 3]"""

    def carry(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Blend vertex values [V, ...] at the pixels: [N, ...]."""
        corners = values[faces[self.faces]]
        weights = self.barycentrics.reshape(*self.barycentrics.shape, *([1] * (values.ndim - 1)))
        return (corners * weights).sum(1)

    def image(self, colours: np.ndarray) -> np.ndarray:
        """Make an image [size, size, 3] uint8 of the pixels' colours, spread over the gaps between
        charts."""
        picture = np.zeros((self.size, self.size, 3), np.uint8)
        empty = np.ones((self.size, self.size), bool)
        picture[self.rows, self.columns] = (np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8)
        empty[self.rows, self.columns] = False
        near = np.asarray(
            distance_transform_edt(empty, return_distances=False, return_indices=True)
        )
        return picture[near[0], near[1]]


def find_texels(corner_uvs: np.ndarray, size: int) -> Texels:
    """Find the pixels of a square texture whose centres lie in a face (row 0 is v = 1)."""
    owner, weights = _rasterise(corner_uvs.astype(np.float64), size)
    rows, columns = np.nonzero(owner >= 0)
    return Texels(size, rows, columns, owner[rows, columns], weights[rows, columns])


@njit(cache=True)
def _rasterise(uvs: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    owner = np.full((size, size), -1, np.int64)
    weights = np.zeros((size, size, 3))
    for f in range(len(uvs)):
        ax, ay = uvs[f, 0, 0] * size, (1 - uvs[f, 0, 1]) * size
        bx, by = uvs[f, 1, 0] * size, (1 - uvs[f, 1, 1]) * size
        cx, cy = uvs[f, 2, 0] * size, (1 - uvs[f, 2, 1]) * size
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0:
            continue
        low_x, high_x = int(min(ax, bx, cx)), int(max(ax, bx, cx)) + 1
        low_y, high_y = int(min(ay, by, cy)), int(max(ay, by, cy)) + 1
        for row in range(max(low_y, 0), min(high_y, size)):
            for column in range(max(low_x, 0), min(high_x, size)):
                x, y = column + 0.5, row + 0.5
                wb = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                wc = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                wa = 1.0 - wb - wc
                if wa >= -1e-9 and wb >= -1e-9 and wc >= -1e-9:
                    owner[row, column] = f
                    weights[row, column, 0] = wa
                    weights[row, column, 1] = wb
                    weights[row, column, 2] = wc
    return owner, weights
