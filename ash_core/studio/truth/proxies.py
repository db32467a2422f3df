"""Round proxies of the body: colliders of cloth, and casters of soft shade."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from ash_core.records import Skeleton, Skinning

STATIONS = 5
"""Number of places along a bone at which its thickness is measured."""
_SEGMENTS = (
    # bones whose vertices count, joint that carries the stations, from joint, to joint
    (("{s}UpLeg", "{s}UpLegRoll"), "{s}UpLegRoll", "{s}UpLeg_rx", "{s}Leg"),
    (("{s}Leg",), "{s}Leg", "{s}Leg", "{s}Foot_rx"),
    (("{s}Arm", "{s}ArmRoll"), "{s}ArmRoll", "{s}Arm_rx", "{s}ForeArm"),
    (("{s}ForeArm", "{s}ForeArmRoll"), "{s}ForeArmRoll", "{s}ForeArm", "{s}Hand_twist"),
)
_TRUNK = (
    (("Root", "Spine1"), "Root_rx", "Root_rx", "Spine2_rx"),
    (("Spine2", "Spine3", "Chest"), "Chest_rx", "Spine3_rx", "Neck1_rx"),
    (("Head", "Jaw"), "Head_rx", "Head_rx", "Head_rx"),
)


@dataclass(frozen=True)
class Proxies:
    """Spheres on joints; two neighbours of one bone span a tapered capsule."""

    joints: np.ndarray
    """Joint that carries each sphere [S]."""
    centres: np.ndarray
    """[S, 3] at rest, m."""
    radii: np.ndarray
    """[S]"""
    capsules: np.ndarray
    """Pairs of spheres [C, 2], for collisions: legs and arms, then trunk and head."""
    limbs: int
    """Number of capsules of legs and arms: the trunk's are too round for cloth that lies on it."""

    def posed(self, moves: np.ndarray) -> np.ndarray:
        """Return posed centres [..., S, 3], m. moves [..., J, 4, 4]: posed times the inverse of
        rest."""
        move = moves[..., self.joints, :, :]
        return np.einsum("...ij,...j->...i", move[..., :3, :3], self.centres) + move[..., :3, 3]


def fit_proxies(
    skeleton: Skeleton,
    skinning: Skinning,
    rest: np.ndarray,
    vertices: np.ndarray,
    solid: np.ndarray,
) -> Proxies:
    """Fit proxies to the body. rest [J, 4, 4], m; solid [V]: vertices of the body, not of cloth."""
    # Measure each limb, then trunk and head.
    names = skeleton.joint_names
    owner = skinning.bones[:, 0].numpy()
    joints, centres, radii, capsules, trunk = [], [], [], [], []
    limbs = [
        (tuple(b.format(s=side) for b in bones), *(j.format(s=side) for j in where))
        for side in ("Left", "Right")
        for bones, *where in _SEGMENTS
    ]
    for bones, carrier, start, end in [*limbs, *_TRUNK]:
        on_bones = solid & np.isin(
            owner, [n for n, bone in enumerate(skinning.bone_names) if bone in bones]
        )
        a, b = (rest[names.index(j), :3, 3] for j in (start, end))
        stations = _stations(vertices[on_bones], a, b)
        first = len(radii)
        for centre, radius in stations:
            joints.append(names.index(carrier))
            centres.append(centre)
            radii.append(radius)
        if (bones, carrier, start, end) in limbs:
            if "UpLeg" in carrier:  # the hip's own slice is half pelvis, too wide for a leg
                radii[first] = radii[first + 1]
            capsules += [(k, k + 1) for k in range(first, len(radii) - 1)]
        else:  # the head is one sphere
            trunk += [
                (k, min(k + 1, len(radii) - 1))
                for k in range(first, max(first + 1, len(radii) - 1))
            ]
    return Proxies(
        np.array(joints),
        np.array(centres),
        np.array(radii),
        np.array(capsules + trunk, np.int64).reshape(-1, 2),
        len(capsules),
    )


def _stations(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Measure (centre, radius) at places along a bone; one sphere for a bone without length."""
    length = np.linalg.norm(b - a)
    if length < 1e-3:
        centre = (points.max(0) + points.min(0)) / 2
        return [(centre, float(np.median(np.linalg.norm(points - centre, axis=1))))]
    axis = (b - a) / length
    along = (points - a) @ axis
    stations = []
    for t in np.linspace(0.0, 1.0, STATIONS):
        slab = points[np.abs(along - t * length) < 0.5 * length / (STATIONS - 1)]
        station = a + t * length * axis
        if len(slab) < 6:
            continue
        out = slab - station
        out = out - np.outer(out @ axis, axis)
        middle = (out.max(0) + out.min(0)) / 2
        radius = np.quantile(np.linalg.norm(out - middle, axis=1), 0.9)
        stations.append((station + middle, float(radius)))
    return stations


@njit(cache=True, fastmath=True)
def shade(
    points: np.ndarray, normals: np.ndarray, centres: np.ndarray, radii: np.ndarray
) -> np.ndarray:
    """Sum the shares [V] of the sky over each point that the spheres cover (they may overlap).

    Source: Quilez, analytic sphere occlusion: cosine times the sphere's solid angle over pi.
    """
    shares = np.zeros(len(points), np.float32)
    for v in range(len(points)):
        total = 0.0
        for s in range(len(radii)):
            x = centres[s, 0] - points[v, 0]
            y = centres[s, 1] - points[v, 1]
            z = centres[s, 2] - points[v, 2]
            square = x * x + y * y + z * z
            r2 = radii[s] * radii[s]
            if square > 25.0 * r2:
                continue
            d = np.sqrt(square) + 1e-9
            cosine = (x * normals[v, 0] + y * normals[v, 1] + z * normals[v, 2]) / d
            if cosine > -0.2:
                total += max(0.0, 0.2 + cosine) / 1.2 * r2 / max(square, r2)
        shares[v] = total
    return shares
