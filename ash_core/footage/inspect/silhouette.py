"""Silhouette of a mesh in an image: the pixels that its triangles cover."""

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ash_core.conventions import NEAR_M
from ash_core.records import Camera


def silhouette(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera
) -> Bool[Tensor, "h w"]:
    """Return the pixels whose centre lies in a triangle of the mesh; world, m.

    Triangles with a corner nearer than the near plane are left out.
    """
    viewmat, K = camera.viewmat.double(), camera.K.double()
    local = vertices.double() @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = local[:, 2]
    pixels = (local[:, :2] / depth[:, None]) @ torch.diag(K.diagonal()[:2]) + K[:2, 2]
    ahead = (depth[faces] > NEAR_M).all(1)
    out = np.zeros((camera.height, camera.width), np.bool_)
    _fill(pixels.numpy(), faces[ahead].numpy(), out)
    return torch.from_numpy(out)


@numba.njit(cache=True, nogil=True)
def _fill(pixels, faces, out):  # type: ignore[no-untyped-def]
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
