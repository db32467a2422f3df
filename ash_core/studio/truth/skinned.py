"""Skinning and normals on the CPU: one pass, no temporaries."""

import numpy as np
from numba import njit


@njit(cache=True)
def blend_bones(
    points: np.ndarray, bones: np.ndarray, weights: np.ndarray, real: np.ndarray, dual: np.ndarray
) -> np.ndarray:
    """Skin points [V, 3] by dual quaternions; a vertex's first bone is its sign reference.

    points [V, 3] m; bones, weights [V, S]; real, dual [B, 4] wxyz. As `geometry.skinning` has it.
    """
    out = np.empty_like(points)
    for v in range(len(points)):
        q, e = np.zeros(4), np.zeros(4)
        first = real[bones[v, 0]]
        for s in range(bones.shape[1]):
            w, bone = weights[v, s], bones[v, s]
            side = 0.0
            for d in range(4):
                side += first[d] * real[bone, d]
            if side <= 0.0:
                w = -w
            for d in range(4):
                q[d] += w * real[bone, d]
                e[d] += w * dual[bone, d]
        norm = np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + q[3] ** 2)
        q /= norm
        e /= norm
        a, b, c = points[v, 0], points[v, 1], points[v, 2]
        # v + 2 r x (r x v + w v), then the translation 2 (w e_v - e_w r + r x e_v).
        tx = q[2] * c - q[3] * b + q[0] * a
        ty = q[3] * a - q[1] * c + q[0] * b
        tz = q[1] * b - q[2] * a + q[0] * c
        ux = q[0] * e[1] - e[0] * q[1] + q[2] * e[3] - q[3] * e[2]
        uy = q[0] * e[2] - e[0] * q[2] + q[3] * e[1] - q[1] * e[3]
        uz = q[0] * e[3] - e[0] * q[3] + q[1] * e[2] - q[2] * e[1]
        out[v, 0] = a + 2.0 * (q[2] * tz - q[3] * ty + ux)
        out[v, 1] = b + 2.0 * (q[3] * tx - q[1] * tz + uy)
        out[v, 2] = c + 2.0 * (q[1] * ty - q[2] * tx + uz)
    return out


@njit(cache=True)
def blend_matrices(
    points: np.ndarray, bones: np.ndarray, weights: np.ndarray, moves: np.ndarray
) -> np.ndarray:
    """Skin points [V, 3] by linear blending. moves [B, 4, 4]."""
    out = np.zeros_like(points)
    for v in range(len(points)):
        for s in range(bones.shape[1]):
            w, m = weights[v, s], moves[bones[v, s]]
            for d in range(3):
                out[v, d] += w * (
                    m[d, 0] * points[v, 0]
                    + m[d, 1] * points[v, 1]
                    + m[d, 2] * points[v, 2]
                    + m[d, 3]
                )
    return out


@njit(cache=True)
def normals_of(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals [V, 3], weighted by area, in the points' precision."""
    out = np.zeros_like(points)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = (
            points[j, 0] - points[i, 0],
            points[j, 1] - points[i, 1],
            points[j, 2] - points[i, 2],
        )
        bx, by, bz = (
            points[k, 0] - points[i, 0],
            points[k, 1] - points[i, 1],
            points[k, 2] - points[i, 2],
        )
        x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            out[v, 0] += x
            out[v, 1] += y
            out[v, 2] += z
    for v in range(len(out)):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2)
        if length > 1e-20:
            out[v] /= length
    return out
