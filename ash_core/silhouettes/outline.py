"""Outline of a posed surface in an image, and how far that of the mask lies from it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from numba import njit
from numpy import ndarray
from scipy.ndimage import distance_transform_edt

from ash_core.conventions import NEAR_M
from ash_core.silhouettes.distances import Silhouettes, sample
from ash_core.splat.triangle_fill import fill_triangles

RIM_PX = 2.5
"""Largest distance of a vertex from the surface's own outline, px of the small image."""
ASIDE = 0.45
"""Largest cosine between its normal and the direction to the camera."""


@dataclass(frozen=True)
class Rim:
    """Vertices of a surface on its own outline in an image."""

    vertices: Int[ndarray, "n"]
    own: Float32[ndarray, "n"]
    """Distance outside the surface's own outline, px of the mask."""
    gaps: Float32[ndarray, "n"]
    """Distance of the mask's outline outside the surface's own, m; NaN outside of the image."""


def find_rim(
    posed: Float[ndarray, "V 3"],
    normals: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    silhouettes: Silhouettes,
    f: int,
    c: int,
) -> Rim:
    """Find the rim of a surface in one image, and measure its gaps. posed: world of the views, m.

    A surface with a vertex behind the camera has none.
    """
    none = Rim(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
    # Project the surface, and draw it at the small image's size.
    V, K = silhouettes.views[c], silhouettes.Ks[c]
    table, scale = silhouettes.tables[f, c], float(silhouettes.scales[f, c])
    local = posed @ V[:3, :3].T + V[:3, 3]
    depth = local[:, 2]
    if not (depth > NEAR_M).all():
        return none
    pixels = (local / depth[:, None]) @ K.T
    left, top, width, height = table[1:5].tolist()
    small = pixels[:, :2] * scale - [left, top]
    drawn = np.zeros((height, width), np.bool_)
    fill_triangles(small, faces, drawn)
    if drawn.all() or not drawn.any():
        return none
    # Choose the vertices on its outline: seen from the side, near the edge, within the image.
    eye = -V[:3, :3].T @ V[:3, 3]
    towards = eye - posed
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    aside = np.abs(np.einsum("vd,vd->v", towards, normals)) < ASIDE
    near = aside & ((small > 2) & (small < [width - 2, height - 2])).all(1)
    away = np.asarray(distance_transform_edt(~drawn), np.float32)
    deep = np.asarray(distance_transform_edt(drawn), np.float32)
    own = np.where(drawn, 0.5 - deep, away - 0.5).astype(np.float32)
    ids = np.flatnonzero(near)
    own_gap, mask_gap = _sample_both(
        pixels[ids, :2], own.ravel(), silhouettes.pixels, table, np.array([0, *table[1:]]), scale
    )
    on_rim = np.abs(own_gap) < RIM_PX
    ids, own_gap, mask_gap = ids[on_rim], own_gap[on_rim] / scale, mask_gap[on_rim]
    gaps = (own_gap - mask_gap) * depth[ids] / (0.5 * (K[0, 0] + K[1, 1]))
    return Rim(ids, own_gap.astype(np.float32), gaps.astype(np.float32))


def measure_gaps(
    silhouettes: Silhouettes,
    frames: Int[ndarray, "n"],
    cameras: Int[ndarray, "n"],
    places: Float32[ndarray, "n 3"],
    own: Float32[ndarray, "n"],
) -> Float32[ndarray, "n"]:
    """Measure the gaps of rim vertices that have moved a little since their rim was found, m.

    frames, cameras, own: image of each vertex, and its `Rim.own`. NaN outside of the image.
    """
    return _gaps_of_places(
        places, own, frames, cameras, silhouettes.pixels, silhouettes.tables, silhouettes.scales,
        silhouettes.views, silhouettes.Ks,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _sample_both(places, own, masks, table, own_table, scale):  # type: ignore[no-untyped-def]
    """Read the surface's distance image (small px) and the mask's (px) at places of the mask."""
    first = np.empty(len(places))
    second = np.empty(len(places))
    for i in range(len(places)):
        u, v = places[i]
        first[i] = sample(own, own_table, scale, u, v)
        second[i] = sample(masks, table, scale, u, v)
    return first, second


@njit(cache=True, nogil=True)
def _gaps_of_places(places, own, frames, cameras, pixels, tables, scales, views, Ks):  # type: ignore[no-untyped-def]
    out = np.empty(len(places), np.float32)
    for i in range(len(places)):
        f, c = frames[i], cameras[i]
        V, K = views[c], Ks[c]
        x, y, z = places[i, 0], places[i, 1], places[i, 2]
        depth = V[2, 0] * x + V[2, 1] * y + V[2, 2] * z + V[2, 3]
        if depth <= NEAR_M:
            out[i] = np.nan
            continue
        right = (V[0, 0] * x + V[0, 1] * y + V[0, 2] * z + V[0, 3]) / depth
        down = (V[1, 0] * x + V[1, 1] * y + V[1, 2] * z + V[1, 3]) / depth
        u = K[0, 0] * right + K[0, 1] * down + K[0, 2]
        v = K[1, 1] * down + K[1, 2]
        away = own[i] - sample(pixels, tables[f, c], scales[f, c], u, v)
        out[i] = away * depth / (0.5 * (K[0, 0] + K[1, 1]))
    return out
