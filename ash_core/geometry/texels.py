"""The UV atlas: which texels lie on which triangle, and vertex values carried to texels."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ash_core.errors import InputError
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.mesh import csr_to_torch
from ash_core.records import Atlas, Template

PUBLISHED_BOX = 2
"""Texels beyond a face's box that the release also tests.
Source: docs/released_behaviour.md A13."""
MAX_CANDIDATES = 16_000_000
"""(face, texel) pairs that are looked at, 2.5 GB of work: a bound on hostile files."""
MARGIN = 0.75
"""A native texel belongs to a chart if its centre is this near (texels), so that seams close."""


def build_atlas(template: Template, resolution: int, *, published: bool) -> Atlas:
    """Texels of a square atlas that lie on the mesh, u-major.

    published: a texel is the corner point (iu, iv) / resolution and belongs to the first face that
    holds it, edges included. Otherwise it is the centre of its cell and belongs to the nearest face
    within `MARGIN`; those just outside a chart take the nearest point on its edge.
    Source: docs/released_behaviour.md A13.
    """
    uv = template.corner_uvs.double().numpy() * resolution - (0.0 if published else 0.5)
    box = PUBLISHED_BOX if published else 1
    low = np.floor(uv.min(1)).astype(np.int64) - box
    high = np.ceil(uv.max(1)).astype(np.int64) + box
    low, high = low.clip(0, resolution - 1), high.clip(0, resolution - 1)

    # One row per (face, texel of its box).
    width, height = (high - low + 1).T
    counts = width * height
    if counts.sum() > MAX_CANDIDATES:
        raise InputError(
            f"template: expected triangles that cover the atlas about once, "
            f"got {counts.sum() / resolution**2:.0f} times its texels"
        )
    face = np.repeat(np.arange(len(uv)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    iu = low[face, 0] + within // height[face]
    iv = low[face, 1] + within % height[face]

    points = np.stack((iu, iv), -1).astype(np.float64)
    weights = _barycentrics(points, uv, face)
    inside = (weights >= 0).all(-1)
    distance = np.where(inside, 0.0, np.inf)
    if not published:
        outside = np.flatnonzero(~inside)
        near, gap = _nearest_on_edges(points[outside], uv[face[outside]])
        weights[outside], distance[outside] = near, gap
    kept = np.flatnonzero(distance <= (0.0 if published else MARGIN))

    # The nearest face wins each texel, the lowest id among equals.
    texel = iu[kept] * resolution + iv[kept]
    order = kept[np.lexsort((face[kept], distance[kept], texel))]
    texel = iu[order] * resolution + iv[order]
    order = order[np.unique(texel, return_index=True)[1]]

    faces = torch.from_numpy(face[order])
    return Atlas(
        resolution=resolution,
        texels=torch.from_numpy(np.stack((iu[order], iv[order]), -1)),
        faces=faces,
        barycentrics=torch.from_numpy(weights[order]).float(),
        corners=template.faces[faces],
    )


def _barycentrics(points: np.ndarray, uv: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Weights [n, 3] of 2D points in their faces' triangles; NaN-free: -1 for degenerate faces."""
    a, b, c = uv[:, 0], uv[:, 1], uv[:, 2]
    area = _cross(b - a, c - a)
    sign = np.where(area == 0, 0.0, 1.0)
    inverse = (sign / np.where(area == 0, 1.0, area))[face]
    w0 = _cross(b[face] - points, c[face] - points) * inverse
    w1 = _cross(c[face] - points, a[face] - points) * inverse
    w2 = _cross(a[face] - points, b[face] - points) * inverse
    weights = np.stack((w0, w1, w2), -1)
    weights[inverse == 0] = -1.0
    return weights


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _nearest_on_edges(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point on each triangle's outline: barycentric weights [n, 3] and distance [n]."""
    best = np.full(len(points), np.inf)
    weights = np.zeros((len(points), 3))
    for i in range(3):
        j = (i + 1) % 3
        a, edge = triangles[:, i], triangles[:, j] - triangles[:, i]
        length2 = np.maximum((edge**2).sum(-1), 1e-30)
        t = (((points - a) * edge).sum(-1) / length2).clip(0, 1)
        gap = np.linalg.norm(points - a - t[:, None] * edge, axis=-1)
        nearer = gap < best
        best = np.where(nearer, gap, best)
        weights[nearer] = 0.0
        weights[nearer, i], weights[nearer, j] = 1 - t[nearer], t[nearer]
    return weights, best


def interpolation_matrix(atlas: Atlas, n_vertices: int) -> Tensor:
    """Sparse [N, V]: barycentric interpolation of vertex values at the texels."""
    rows = np.repeat(np.arange(len(atlas.faces)), 3)
    data = atlas.barycentrics.numpy().ravel()
    shape = (len(atlas.faces), n_vertices)
    return csr_to_torch(sp.coo_matrix((data, (rows, atlas.corners.numpy().ravel())), shape).tocsr())


def texel_transforms(
    atlas: Atlas, real: Float[Tensor, "V 4"], dual: Float[Tensor, "V 4"]
) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "N 4"]]:
    """Blend the corners' dual quaternions at each texel; the heaviest corner gives the sign.

    Source: docs/released_behaviour.md A15.
    """
    heaviest = atlas.barycentrics.argmax(-1)
    reals, duals = real[atlas.corners], dual[atlas.corners]
    reference = reals[torch.arange(len(heaviest), device=real.device), heaviest]
    return dq.blend(reals, duals, atlas.barycentrics, reference)


def to_map(
    atlas: Atlas, values: Float[Tensor, "N c"], flat_index: Int[Tensor, "N"]
) -> Float[Tensor, "1 c r r"]:
    """Texel values as a picture for the networks: rows are u, columns v; zero off the mesh.

    Channels last in memory, as they are at the texels.
    """
    r = atlas.resolution
    flat = values.new_zeros(r * r, values.shape[1])
    flat = flat.index_copy(0, flat_index, values)
    return flat.reshape(1, r, r, -1).permute(0, 3, 1, 2)


def flat_index(atlas: Atlas) -> Int[Tensor, "N"]:
    """Position of each texel in a flattened [u, v] map."""
    return atlas.texels[:, 0] * atlas.resolution + atlas.texels[:, 1]
