"""Silhouette of a mesh in an image: the pixels that its triangles cover."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ash_core.conventions import NEAR_M
from ash_core.records import Camera
from ash_core.splat.triangle_fill import fill_triangles


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
    fill_triangles(pixels.numpy(), faces[ahead].numpy(), out)
    return torch.from_numpy(out)
