"""Refinement of a fitted surface: its outlines are pulled to those of the masks.

In each image, the vertices on the surface's own outline tell how far the mask's lies from it. The
median over all frames and cameras is where cloth that swings lies most often.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray

from ash_core.importers.template.linear_skinning import place_points
from ash_core.silhouettes.distances import Silhouettes
from ash_core.silhouettes.outline import find_rim
from ash_core.studio.mesh.surface import mean_matrix, smooth, vertex_normals

FURTHEST_M = 0.06
"""Larger distances are another limb's outline, and do not count."""
STEP_M = 0.03
"""Largest move in one round."""
ENOUGH = 6
"""Number of images from which a vertex's median counts in full."""
STIFFNESS, LOOSE_STIFFNESS = 3.0, 60.0
"""Weight of smoothness against a full median: close to the body, and for loose cloth."""


def refine(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    weights: Float[ndarray, "V J"],
    silhouettes: Silhouettes,
    moves: Float[ndarray, "F J 3 4"],
    fixed: Bool[ndarray, "V"],
    loose: Float[ndarray, "V"],
    rounds: int = 3,
    progress: Callable[[float], None] = lambda _done: None,
) -> tuple[Float[ndarray, "V 3"], list[float]]:
    """Move vertices of the rest pose along their normals until the outlines agree.

    fixed: vertices that stay. loose: 0 to 1, how freely the cloth hangs.
    Returns the vertices, and the median distance between the outlines before each round
    and after the last one, m.
    """
    mean = mean_matrix(faces, len(vertices))
    errors = []
    stiffness = STIFFNESS * (LOOSE_STIFFNESS / STIFFNESS) ** loose
    for number in range(rounds):
        # Take the median over the images, and spread it over the surface.
        gaps = outline_gaps(vertices, faces, weights, silhouettes, moves)
        errors.append(_median(gaps))
        counts = np.isfinite(gaps).sum(0)
        median = np.zeros(len(vertices))
        some = counts > 0
        median[some] = np.nanmedian(gaps[:, some], axis=0)
        share = np.minimum(counts / ENOUGH, 1.0)
        share, median = np.where(fixed, 1e3, share), np.where(fixed, 0.0, median)
        step = _spread(mean, stiffness, share, np.clip(median, -STEP_M, STEP_M))
        step = np.clip(step, -STEP_M, STEP_M)
        # Move along smooth normals.
        normals = smooth(vertex_normals(vertices, faces), mean, np.ones(len(vertices)), 2)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        vertices = vertices + np.where(fixed, 0.0, step)[:, None] * normals
        vertices = _relax(vertices, faces, mean, ~fixed)
        progress((number + 1) / rounds)
    if rounds:
        errors.append(_median(outline_gaps(vertices, faces, weights, silhouettes, moves)))
    return vertices, errors


def _median(gaps: Float32[ndarray, "I V"]) -> float:
    """Return the median distance between outlines; NaN without any."""
    return float(np.nanmedian(np.abs(gaps))) if np.isfinite(gaps).any() else math.nan


def _spread(
    mean: sp.csr_matrix,
    stiffness: Float[ndarray, "V"],
    share: Float[ndarray, "V"],
    values: Float[ndarray, "V"],
) -> Float[ndarray, "V"]:
    """Fill in and smooth values over the surface, by how much each one counts."""
    rough = sp.eye(len(values)) - mean
    energy = rough.T @ sp.diags(stiffness) @ rough + sp.diags(share + 1e-3)
    return spla.splu(energy.tocsc()).solve(share * values)


def _relax(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    mean: sp.csr_matrix,
    movable: Bool[ndarray, "V"],
) -> Float[ndarray, "V 3"]:
    """Even out the triangles: move vertices within the surface towards their neighbours' mean."""
    normals = vertex_normals(vertices, faces)
    away = mean @ vertices - vertices
    within = away - np.einsum("vd,vd->v", away, normals)[:, None] * normals
    return vertices + np.where(movable, 0.3, 0.0)[:, None] * within


def outline_gaps(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    weights: Float[ndarray, "V J"],
    silhouettes: Silhouettes,
    moves: Float[ndarray, "F J 3 4"],
) -> Float32[ndarray, "I V"]:
    """Measure in each image how far the mask's outline lies outside the surface's own, m.

    NaN where a vertex does not lie on the outline of the image.
    """
    gaps = []
    for f, move in enumerate(moves):
        posed = place_points(vertices, weights, move)
        normals = vertex_normals(posed, faces)
        for c in np.flatnonzero(silhouettes.is_seen[f]).tolist():
            rim = find_rim(posed, normals, faces, silhouettes, f, c)
            of_image = np.full(len(posed), np.nan, np.float32)
            of_image[rim.vertices] = np.where(np.abs(rim.gaps) > FURTHEST_M, np.nan, rim.gaps)
            gaps.append(of_image)
    return np.stack(gaps) if gaps else np.zeros((0, len(vertices)), np.float32)
