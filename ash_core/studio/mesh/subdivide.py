"""Loop's subdivision as one sparse matrix: a smooth fine surface from the vertices of a coarse one.

Source: Loop 1987, "Smooth Subdivision Surfaces Based on Triangles".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ash_core.studio.mesh.surface import edges_of


@dataclass(frozen=True)
class Fine:
    """Surface with each triangle in four. Coarse vertices come first, then one vertex per edge."""

    faces: np.ndarray
    """Faces [4 F, 3]; the four of a coarse face f are 4 f to 4 f + 3."""
    corner_uvs: np.ndarray
    """[4 F, 3, 2]"""
    matrix: Any
    """Sparse matrix [V', V] of smooth positions, and of any other value of the vertices."""


def subdivide(faces: np.ndarray, corner_uvs: np.ndarray, n_vertices: int) -> Fine:
    """Subdivide once. On borders (edges with one face) only the border's curve counts."""
    edges = edges_of(faces)
    code = edges[:, 0] * n_vertices + edges[:, 1]
    turned = np.stack([faces, np.roll(faces, -1, 1)], 2)  # edge k runs from corner k to k + 1
    low, high = turned.min(2), turned.max(2)
    of_face = np.searchsorted(code, low * n_vertices + high)
    middle = n_vertices + of_face
    a, b, c = faces.T
    ab, bc, ca = middle.T
    fine = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], 1).reshape(-1, 3)
    half = (corner_uvs + np.roll(corner_uvs, -1, 1)) / 2
    (ua, ub, uc), (uab, ubc, uca) = np.moveaxis(corner_uvs, 1, 0), np.moveaxis(half, 1, 0)
    uvs = np.stack([ua, uab, uca, uab, ub, ubc, uca, ubc, uc, uab, ubc, uca], 1).reshape(-1, 3, 2)
    matrix = sp.vstack(
        [_old_points(edges, of_face, n_vertices), _edge_points(faces, edges, of_face, n_vertices)]
    )
    return Fine(fine, uvs, matrix.tocsr())


def _edge_points(faces: np.ndarray, edges: np.ndarray, of_face: np.ndarray, n: int) -> Any:
    uses = np.bincount(of_face.ravel(), minlength=len(edges))
    inner = uses == 2
    ends = np.where(inner, 3 / 8, 1 / 2)
    rows = [np.arange(len(edges))] * 2 + [of_face.ravel()]
    columns = [edges[:, 0], edges[:, 1], np.roll(faces, 1, 1).ravel()]  # the opposite corner
    across = np.where(inner, 1 / 8, 0.0)[of_face.ravel()]
    values = np.concatenate([ends, ends, across])
    return sp.csr_matrix((values, (np.concatenate(rows), np.concatenate(columns))), (len(edges), n))


def _old_points(edges: np.ndarray, of_face: np.ndarray, n: int) -> Any:
    uses = np.bincount(of_face.ravel(), minlength=len(edges))
    on_border = np.zeros(n, bool)
    on_border[edges[uses == 1]] = True
    both = np.concatenate([edges, edges[:, ::-1]])
    border_edge = np.tile(uses == 1, 2)
    keep = ~on_border[both[:, 0]] | border_edge
    both = both[keep]
    degree = np.maximum(np.bincount(both[:, 0], minlength=n), 1)
    share = np.where(degree == 3, 3 / 16, 3 / (8 * degree))
    share = np.where(on_border, 1 / 8, share)
    ring = sp.csr_matrix((share[both[:, 0]], (both[:, 0], both[:, 1])), (n, n))
    return ring + sp.diags(1.0 - np.asarray(ring.sum(1)).ravel())
