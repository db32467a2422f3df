"""Wrinkles: cloth that is squeezed along a direction folds across that direction.

Four families of folds, by the direction in which their height varies: along the limb, the two
diagonals, around the limb. Each has a fixed pattern on the surface; its height follows from the
squeeze of the posed surface, so that every joint makes its own wrinkles.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import njit

from ash_core.records import Skeleton, Skinning
from ash_core.studio.mesh.surface import face_normals, mean_matrix
from ash_core.studio.noise import smooth_noise

FAMILIES = 4
WAVELENGTH = {"arm": 0.034, "leg": 0.042, "trunk": 0.050}
"""Distance between folds, m."""
SLACK = 0.02
"""Squeeze that cloth takes without a fold."""
FULL = 0.35
"""Squeeze at which a fold has its full height."""
DEPTH = 0.0075
"""Height of a full fold over the mean surface, m."""
_LIMBS = (
    ("LeftArm", "arm", "LeftArm_rx", "LeftHand_twist", ("Arm", "ForeArm", "Hand")),
    ("RightArm", "arm", "RightArm_rx", "RightHand_twist", ("Arm", "ForeArm", "Hand")),
    ("LeftLeg", "leg", "LeftUpLeg_rx", "LeftFoot_rx", ("UpLeg", "Leg", "Foot", "Toe")),
    ("RightLeg", "leg", "RightUpLeg_rx", "RightFoot_rx", ("UpLeg", "Leg", "Foot", "Toe")),
)


@dataclass(frozen=True)
class Limbs:
    """Axes of arms, legs and trunk at rest, and each vertex's share of them."""

    kinds: tuple[str, ...]
    starts: np.ndarray
    """[5, 3] m"""
    axes: np.ndarray
    """[5, 3] unit, away from the trunk; the trunk's points up."""
    shares: np.ndarray
    """[V, 5]"""


def find_limbs(skeleton: Skeleton, skinning: Skinning, rest: np.ndarray) -> Limbs:
    """Locate the limbs. rest [J, 4, 4]: joints at rest."""
    names, bones = skeleton.joint_names, skinning.bone_names
    place = lambda joint: rest[names.index(joint), :3, 3]  # noqa: E731
    starts, axes, kinds = [], [], []
    on_limb = np.zeros((len(bones), len(_LIMBS) + 1))
    for k, (name, kind, start, end, parts) in enumerate(_LIMBS):
        side = name[: -len("Arm")] if kind == "arm" else name[: -len("Leg")]
        fingers = ("Thumb", "Index", "Middle", "Ring", "Pinky") if kind == "arm" else ()
        prefixes = tuple(side + part for part in (*parts, *fingers))
        on_limb[:, k] = [bone.startswith(prefixes) for bone in bones]
        starts.append(place(start))
        axes.append(place(end) - place(start))
        kinds.append(kind)
    on_limb[:, -1] = 1.0 - on_limb[:, :-1].sum(1)
    starts.append(place("Root_rx"))
    axes.append(np.array([0.0, 1.0, 0.0]))
    weights = skinning.weights.numpy()[..., None]
    shares = (on_limb[skinning.bones.numpy()] * weights).sum(1)
    axes = np.array(axes)
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    return Limbs((*kinds, "trunk"), np.array(starts), axes, shares)


def patterns(points: np.ndarray, shares: np.ndarray, limbs: Limbs, seed: int) -> np.ndarray:
    """Evaluate each family's height [N, 4], about -1 to 1, at rest places [N, 3], m."""
    rng = np.random.default_rng(seed)
    total = np.zeros((len(points), FAMILIES))
    warp = 0.35 * smooth_noise(points, 0.16, rng) + 0.10 * smooth_noise(points, 0.06, rng)
    for k, kind in enumerate(limbs.kinds):
        along, angle, radius = _around(points, limbs.starts[k], limbs.axes[k])
        on_limb = shares[:, k] > 0.01
        length = WAVELENGTH[kind]
        girth = 2 * np.pi * float(np.median(radius[on_limb])) if on_limb.any() else 0.4
        phase = 2 * np.pi * along / length
        n_around, n_slant = round(girth / length), round(0.7 * girth / length)
        for family, p in enumerate(
            (phase, 0.7 * phase + n_slant * angle, 0.7 * phase - n_slant * angle, n_around * angle)
        ):
            p = p + 2 * np.pi * warp + rng.uniform(0, 2 * np.pi)
            total[:, family] += shares[:, k] * (0.8 * np.sin(p) + 0.2 * np.sin(2 * p + 0.6))
    # Folds end: each family is high in some places and absent in others.
    for family in range(FAMILIES):
        total[:, family] *= np.clip(0.75 + 0.55 * smooth_noise(points, 0.14, rng), 0.15, 1.0)
    return total


def _around(points: np.ndarray, start: np.ndarray, axis: np.ndarray):
    """Return (metres along the axis, angle around it, distance from it)."""
    helper = np.array([0.0, 0.0, 1.0])
    right = np.cross(helper, axis)
    right /= np.linalg.norm(right)
    ahead = np.cross(axis, right)
    offset = points - start
    x, z = offset @ right, offset @ ahead
    return offset @ axis, np.arctan2(x, z), np.hypot(x, z)


@dataclass(frozen=True)
class Squeeze:
    """Measure of the posed surface's squeeze along each family's direction."""

    faces: np.ndarray
    directions: np.ndarray
    """Unit step of each family at rest, in a face's two edges: [F, 4, 2]."""
    to_vertices: Any
    """Sparse matrix [V, F] from faces to vertices."""

    def creases(self, vertices: np.ndarray) -> np.ndarray:
        """Return the height of each family's folds [V, 4], 0 to 1."""
        squeezed = self.to_vertices @ _squeezed(vertices, self.faces, self.directions)
        return np.sqrt(np.clip((squeezed - SLACK) / (FULL - SLACK), 0.0, 1.0))


def measure_squeeze(
    vertices: np.ndarray, faces: np.ndarray, limbs: Limbs, cloth: np.ndarray
) -> Squeeze:
    """Prepare the measure at rest. cloth [F]: 1 where folds may stand, less on skin, 0 on shoes."""
    normals = face_normals(vertices, faces)
    double = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    normals = normals / double
    axis = limbs.shares[faces].mean(1) @ limbs.axes
    ahead = axis - (axis * normals).sum(1, keepdims=True) * normals
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    aside = np.cross(ahead, normals)
    slant = np.sqrt(0.5)
    steps = np.stack([ahead, slant * (ahead + aside), slant * (ahead - aside), aside], 1)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    edges = np.stack([b - a, c - a], 2)  # [F, 3, 2]
    directions = np.einsum("fek,fnk->fne", np.linalg.pinv(edges), steps)
    n = len(vertices)
    rows = faces.ravel()
    columns = np.repeat(np.arange(len(faces)), 3)
    incidence: Any = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), (n, len(faces)))
    incidence = sp.diags(1.0 / np.maximum(np.asarray(incidence.sum(1)).ravel(), 1)) @ incidence
    blur: Any = 0.5 * (sp.identity(n) + mean_matrix(faces, n))
    spread: Any = (blur @ blur @ incidence @ sp.diags(cloth)).tocsr().astype(np.float32)
    return Squeeze(faces, directions.astype(np.float32), spread)


@njit(cache=True, fastmath=True)
def _squeezed(vertices: np.ndarray, faces: np.ndarray, directions: np.ndarray) -> np.ndarray:
    squeezes = np.zeros((len(faces), 4), np.float32)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        for n in range(4):
            alpha, beta = directions[f, n, 0], directions[f, n, 1]
            square = 0.0
            for d in range(3):
                step = alpha * (vertices[j, d] - vertices[i, d]) + beta * (
                    vertices[k, d] - vertices[i, d]
                )
                square += step * step
            squeezes[f, n] = max(0.0, 1.0 - np.sqrt(square))
    return squeezes
