"""Closest points of a triangle mesh, and its signed distance."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numba import njit
from numpy import ndarray
from scipy.spatial import KDTree

from ash_core.studio.mesh.surface import vertex_normals

CANDIDATES = 6
"""Number of nearby samples whose faces are tried."""
SAMPLES = 2
"""Number of samples across a face of the median size."""
LARGEST = 64
"""Upper bound on the samples along one edge of a face."""


@dataclass(frozen=True)
class ClosestPoints:
    """Places on a mesh that are closest to N points."""

    faces: Int[ndarray, "N"]
    shares: Float[ndarray, "N 3"]
    """Barycentric coordinates in the face."""
    places: Float[ndarray, "N 3"]
    distances: Float[ndarray, "N"]
    normals: Float[ndarray, "N 3"]
    """Unit normals, blended from the vertices'."""
    signed: Float[ndarray, "N"]
    """Distances, negative inside."""


class ClosestSurface:
    """Index of a mesh for closest points.

    Candidates come from samples spread over the faces; among their faces the result is exact.
    """

    def __init__(self, vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"]) -> None:
        self.vertices = np.ascontiguousarray(vertices, np.float64)
        self.faces = np.ascontiguousarray(faces, np.int64)
        self.normals = vertex_normals(self.vertices, self.faces)
        corners = self.vertices[self.faces]
        longest = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1)
        spacing = max(float(np.median(longest)) / SAMPLES, 1e-9)
        places, self._owners = _spread(corners, longest, spacing)
        self._tree = KDTree(places)

    def query(self, points: Float[ndarray, "N 3"]) -> ClosestPoints:
        """Find the closest place on the mesh for each point."""
        points = np.ascontiguousarray(points, np.float64)
        count = min(CANDIDATES, len(self._owners))
        _, near = self._tree.query(points, k=count)
        candidates = self._owners[np.asarray(near).reshape(len(points), count)]
        faces, shares, places = _closest(points, self.vertices, self.faces, candidates)
        normals = np.einsum("nk,nkd->nd", shares, self.normals[self.faces[faces]])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        offset = points - places
        distances = np.linalg.norm(offset, axis=1)
        inside = np.einsum("nd,nd->n", offset, normals) < 0
        signed = np.where(inside, -distances, distances)
        return ClosestPoints(faces, shares, places, distances, normals, signed)

    def carry(self, closest: ClosestPoints, values: Float[ndarray, "V C"]) -> ndarray:
        """Blend vertex values at closest points: [N, C]."""
        corners = self.faces[closest.faces]
        blend = closest.shares[:, :1] * values[corners[:, 0]]
        for k in (1, 2):
            blend += closest.shares[:, k : k + 1] * values[corners[:, k]]
        return blend


def _spread(
    corners: Float[ndarray, "F 3 3"], longest: Float[ndarray, "F"], spacing: float
) -> tuple[ndarray, ndarray]:
    """Place samples on all faces, about `spacing` apart; return places and their faces."""
    steps = np.clip(np.ceil(longest / spacing), 1, LARGEST).astype(int)
    places, owners = [], []
    for count in np.unique(steps):
        ids = np.flatnonzero(steps == count)
        # Centres of the count^2 small triangles.
        rows, columns = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
        lower = (rows + columns) < count
        upper = (rows + columns) < count - 1
        u = np.concatenate([rows[lower] + 1 / 3, rows[upper] + 2 / 3]) / count
        v = np.concatenate([columns[lower] + 1 / 3, columns[upper] + 2 / 3]) / count
        blend = np.stack([1 - u - v, u, v], 1)
        places.append(np.einsum("sk,fkd->fsd", blend, corners[ids]).reshape(-1, 3))
        owners.append(np.repeat(ids, len(blend)))
    return np.concatenate(places), np.concatenate(owners)


@njit(cache=True)
def _closest(points, vertices, faces, candidates):  # type: ignore[no-untyped-def]
    """Choose the closest of the candidate faces. Source: Ericson, "Real-Time Collision
    Detection", 5.1.5."""
    count = len(points)
    owner = np.zeros(count, np.int64)
    shares = np.zeros((count, 3))
    places = np.zeros((count, 3))
    for i in range(count):
        best = np.inf
        p = points[i]
        last = -1
        for f in candidates[i]:
            if f == last:
                continue
            last = f
            a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
            ab, ac, ap = b - a, c - a, p - a
            d1 = ab[0] * ap[0] + ab[1] * ap[1] + ab[2] * ap[2]
            d2 = ac[0] * ap[0] + ac[1] * ap[1] + ac[2] * ap[2]
            aa = ab[0] * ab[0] + ab[1] * ab[1] + ab[2] * ab[2]
            bb = ab[0] * ac[0] + ab[1] * ac[1] + ab[2] * ac[2]
            cc = ac[0] * ac[0] + ac[1] * ac[1] + ac[2] * ac[2]
            # Dot products with b - p and c - p follow from those with a - p.
            d3, d4, d5, d6 = d1 - aa, d2 - bb, d1 - bb, d2 - cc
            vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
            if d1 <= 0 and d2 <= 0:
                v, w = 0.0, 0.0
            elif d3 >= 0 and d4 <= d3:
                v, w = 1.0, 0.0
            elif d6 >= 0 and d5 <= d6:
                v, w = 0.0, 1.0
            elif vc <= 0 and d1 >= 0 and d3 <= 0:
                v, w = d1 / max(d1 - d3, 1e-30), 0.0
            elif vb <= 0 and d2 >= 0 and d6 <= 0:
                v, w = 0.0, d2 / max(d2 - d6, 1e-30)
            elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
                w = (d4 - d3) / max((d4 - d3) + (d5 - d6), 1e-30)
                v = 1.0 - w
            else:
                total = max(va + vb + vc, 1e-30)
                v, w = vb / total, vc / total
            place = a + v * ab + w * ac
            away = p - place
            distance = away[0] ** 2 + away[1] ** 2 + away[2] ** 2
            if distance < best:
                best = distance
                owner[i] = f
                shares[i, 0], shares[i, 1], shares[i, 2] = 1.0 - v - w, v, w
                places[i] = place
    return owner, shares, places
