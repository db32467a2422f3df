"""Space around a body: skin weights of every place, and the grids that hold them."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32
from numpy import ndarray
from scipy.spatial import KDTree

from ash_core.importers.template.closest import ClosestPoints, ClosestSurface
from ash_core.studio.mesh.surface import face_normals

SAMPLE_M = 0.04
"""Distance between the surface samples that are blended."""
NEIGHBOURS = 160
"""Number of samples that a place blends."""
CHUNK = 1 << 14
"""Number of places that are blended at once."""
CLOSE_M = 0.03
"""Distance from the body from which a place blends samples; on it, it has the closest weights."""
SHARP_M, NARROW, WIDE = 0.006, 0.6, 1.6
"""Width of the blend on the body, and its gains with the distance up to CLOSE_M and beyond."""
LEAST_FACING = 0.05
"""Least factor on a part of the body by the direction that it faces."""


@dataclass(frozen=True)
class Lattice:
    """Regular grid of nodes in the rest pose."""

    origin: Float[ndarray, "3"]
    """Place of the first node, m."""
    cell: float
    shape: tuple[int, int, int]

    def nodes(self) -> Float[ndarray, "N 3"]:
        """List the places of all nodes, m."""
        index = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), -1)
        return self.origin + self.cell * index.reshape(-1, 3)

    def places(self, index: ndarray) -> Float[ndarray, "N 3"]:
        """Return the places of nodes by their flat index, m."""
        return self.origin + self.cell * np.stack(np.unravel_index(index, self.shape), -1)

    def blend(self, points: Float[ndarray, "N 3"]) -> sp.csr_matrix:
        """Return the matrix [N, nodes] of trilinear blending; places outside take the border."""
        place = (points - self.origin) / self.cell
        limit = np.array(self.shape) - 1
        place = np.clip(place, 0, limit)
        low = np.minimum(place.astype(np.int64), np.maximum(limit - 1, 0))
        share = place - low
        columns, values = [], []
        for corner in np.ndindex(2, 2, 2):
            step = np.array(corner)
            index = np.minimum(low + step, limit)
            columns.append(np.ravel_multi_index(tuple(index.T), self.shape))
            values.append(np.where(step, share, 1 - share).prod(1))
        count = len(points)
        rows = np.arange(0, 8 * count + 1, 8)
        return sp.csr_matrix(
            (np.stack(values, 1).ravel().astype(np.float32), np.stack(columns, 1).ravel(), rows),
            (count, int(np.prod(self.shape))),
        )


def lattice_around(low: Float[ndarray, "3"], high: Float[ndarray, "3"], cell: float) -> Lattice:
    """Make the grid that spans a box."""
    count = np.ceil((high - low) / cell).astype(int) + 1
    return Lattice(np.asarray(low, float), cell, (int(count[0]), int(count[1]), int(count[2])))


def diffuse_weights(
    points: Float[ndarray, "N 3"],
    closest: ClosestPoints,
    body: ClosestSurface,
    body_weights: Float[ndarray, "B J"],
    normals: Float[ndarray, "N 3"] | None = None,
) -> Float32[ndarray, "N J"]:
    """Blend the body's weights at places around it, over a width that grows with the distance.

    So the space between two legs belongs to both. closest: the body's closest places.
    normals: of a surface at the places; parts of the body that face the other way count little.
    """
    samples = _sample(body, body_weights)
    tree = KDTree(samples.places)
    weights = body.carry(closest, body_weights).astype(np.float32)
    far = np.clip(closest.distances / CLOSE_M, 0.0, 1.0)
    away = np.flatnonzero(far > 0.05)
    for start in range(0, len(away), CHUNK):
        ids = away[start : start + CHUNK]
        distances = closest.distances[ids]
        width = SHARP_M + NARROW * np.minimum(distances, CLOSE_M)
        width = width + WIDE * np.maximum(distances - CLOSE_M, 0.0)
        facing = None if normals is None else normals[ids]
        blend = _blend(points[ids], width, samples, tree, facing) @ samples.weights
        weights[ids] += far[ids, None].astype(np.float32) * (blend - weights[ids])
    return weights


@dataclass(frozen=True)
class _Samples:
    """Places spread over the body."""

    places: Float[ndarray, "S 3"]
    weights: Float32[ndarray, "S J"]
    normals: Float[ndarray, "S 3"]


def _blend(
    points: Float[ndarray, "N 3"],
    width: Float[ndarray, "N"],
    samples: _Samples,
    tree: KDTree,
    normals: Float[ndarray, "N 3"] | None,
) -> sp.csr_matrix:
    """Return the matrix [N, S] of the samples' shares at places."""
    count = min(NEIGHBOURS, len(samples.places))
    reach, near = tree.query(points, k=count)
    reach, near = np.reshape(reach, (-1, count)), np.reshape(near, (-1, count))
    blend = np.exp(-(reach**2 - reach[:, :1] ** 2) / (2 * width[:, None] ** 2))
    if normals is not None:
        cosines = np.einsum("nd,nkd->nk", normals, samples.normals[near])
        blend *= np.clip(cosines, LEAST_FACING, 1.0)
    blend /= blend.sum(1, keepdims=True)
    rows = np.arange(0, count * len(points) + 1, count)
    return sp.csr_matrix(
        (blend.astype(np.float32).ravel(), near.ravel(), rows), (len(points), len(samples.places))
    )


def _sample(body: ClosestSurface, body_weights: Float[ndarray, "B J"]) -> _Samples:
    """Choose places on the body about `SAMPLE_M` apart, with their weights and normals."""
    corners = body.vertices[body.faces]
    normals = face_normals(body.vertices, body.faces)
    areas = np.linalg.norm(normals, axis=1) / 2
    normals = normals / np.maximum(2 * areas, 1e-30)[:, None]
    # A few random places for each cell, of which the first one stays.
    random = np.random.default_rng(0)
    count = int(np.ceil(12 * areas.sum() / SAMPLE_M**2))
    faces = random.choice(len(areas), count, p=areas / areas.sum())
    u = random.random((count, 2))
    u = np.where(u.sum(1, keepdims=True) > 1, 1 - u, u)
    blend = np.concatenate([1 - u.sum(1, keepdims=True), u], 1)
    places = np.einsum("sk,skd->sd", blend, corners[faces])
    _, first = np.unique(np.floor(places / SAMPLE_M).astype(np.int64), axis=0, return_index=True)
    shares = np.einsum("sk,skj->sj", blend[first], body_weights[body.faces[faces[first]]])
    return _Samples(places[first], shares.astype(np.float32), normals[faces[first]])
