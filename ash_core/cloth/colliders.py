"""Colliders of cloth: tapered capsules about the bones, measured on the template."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from ash_core.records import Skinning

MAX_CAPSULES = 64
"""Bound on capsules: a point keeps those near it as bits of one word."""
LEAST_VERTICES = 16
"""Vertices that a bone needs for a collider of its own: fingers have none."""
LEAST_RADIUS_M = 0.02
STATIONS = 4
"""Spheres along an elongated bone."""
QUANTILE = 0.75
"""Quantile of the body's distances from a bone's axis that is a sphere's radius."""


@dataclass(frozen=True)
class Colliders:
    """Spheres carried by joints; pairs of them span tapered capsules, a single one is a pair."""

    joints: Int64[np.ndarray, "S"]
    """Joint that carries each sphere."""
    centres: Float32[np.ndarray, "S 3"]
    """Centres in the frames of their joints, m."""
    radii: Float32[np.ndarray, "S"]
    capsules: Int32[np.ndarray, "C 2"]

    def posed(self, joints: np.ndarray) -> Float32[np.ndarray, "*b S 3"]:
        """Pose the centres, body frame, m. joints [..., J, 4, 4]: joint transforms."""
        carriers = joints[..., self.joints, :, :]
        turned = np.einsum("...ij,...j->...i", carriers[..., :3, :3], self.centres)
        return (turned + carriers[..., :3, 3]).astype(np.float32)


def fit_colliders(
    skinning: Skinning, rest: np.ndarray, vertices: np.ndarray, is_body: np.ndarray
) -> tuple[Colliders, Float32[np.ndarray, "S 3"]]:
    """Fit capsules to each bone's vertices, and return the spheres' centres at rest, m.

    rest [J, 4, 4]: joints at rest; is_body [V]: not cloth.

    A bone's axis is the longest of its vertices' spread. A bone that cloth covers is as thick as
    the nearest tenth of the cloth's vertices.
    """
    # Spheres along each bone, the largest first.
    owners = skinning.bones[:, 0].numpy()
    spheres: list[tuple[int, np.ndarray, float]] = []
    capsules: list[tuple[int, int]] = []
    sizes = np.bincount(owners[is_body], minlength=len(skinning.bone_names))
    for bone in np.argsort(-sizes, kind="stable"):
        own = owners == bone
        body = own & is_body
        quantile = QUANTILE
        if body.sum() < LEAST_VERTICES:
            body, quantile = own, 0.1
        stations = measure_bone(vertices[body], quantile) if body.sum() >= LEAST_VERTICES else []
        first = len(spheres)
        if len(capsules) + max(1, len(stations) - 1) > MAX_CAPSULES:
            continue
        joint = int(skinning.bone_joints[bone])
        spheres += [(joint, centre, radius) for centre, radius in stations]
        capsules += [(k, k + 1) for k in range(first, len(spheres) - 1)]
        if len(stations) == 1:
            capsules.append((first, first))
    # The same in the frames of their joints.
    joints = np.array([joint for joint, _, _ in spheres], np.int64)
    centres = np.array([centre for _, centre, _ in spheres]).reshape(-1, 3)
    frames = rest[joints]
    local = np.einsum("sji,sj->si", frames[:, :3, :3], centres - frames[:, :3, 3])
    colliders = Colliders(
        joints=joints,
        centres=local.astype(np.float32),
        radii=np.array([radius for _, _, radius in spheres], np.float32),
        capsules=np.array(capsules, np.int32).reshape(-1, 2),
    )
    return colliders, centres.astype(np.float32)


def measure_bone(points: np.ndarray, quantile: float) -> list[tuple[np.ndarray, float]]:
    """Measure (centre, radius) at stations along the points' longest axis."""
    middle = (points.max(0) + points.min(0)) / 2
    axis = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    along = (points - middle) @ axis
    low, high = np.quantile(along, [0.05, 0.95])
    across = points - middle - np.outer(along, axis)
    thickness = float(np.quantile(np.linalg.norm(across, axis=1), quantile))
    if high - low < 2.5 * thickness:
        radius = float(np.quantile(np.linalg.norm(points - middle, axis=1), 0.5))
        return [(middle, max(radius, LEAST_RADIUS_M))]
    stations = []
    half = 0.75 * (high - low) / (STATIONS - 1)
    for t in np.linspace(low, high, STATIONS):
        slab = across[np.abs(along - t) <= half]
        if len(slab) < LEAST_VERTICES // 2:
            continue
        centre = (slab.max(0) + slab.min(0)) / 2
        radius = float(np.quantile(np.linalg.norm(slab - centre, axis=1), quantile))
        stations.append((middle + t * axis + centre, max(radius, LEAST_RADIUS_M)))
    return stations


def distances(points: np.ndarray, colliders: Colliders, centres: np.ndarray) -> np.ndarray:
    """Compute signed distances [n, C] of points from each capsule's surface, m.

    centres [S, 3]: the spheres', where the points are.
    """
    result = np.empty((len(points), len(colliders.capsules)))
    for k, (i, j) in enumerate(colliders.capsules):
        a, b = centres[i].astype(float), centres[j].astype(float)
        axis = b - a
        t = np.clip((points - a) @ axis / (axis @ axis + 1e-12), 0.0, 1.0)
        radius = colliders.radii[i] + t * (colliders.radii[j] - colliders.radii[i])
        result[:, k] = np.linalg.norm(points - a - t[:, None] * axis, axis=1) - radius
    return result
