"""Loose cloth and hair over time: points of the template that swing behind the skinned surface.

`ClothSolver` is what a simulation must do; `Springs` is ours. Position-based dynamics over the
template's own edges. Every point is pulled to its skinned place, the looser the more softly.
Gravity is relative to the rest pose, in which the template already hangs: it turns with what
carries a point, the head or the hips. Legs and arms push cloth out, head and trunk push hair out.
Source: Macklin et al. 2016, "XPBD".
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numba import njit
from scipy.spatial import KDTree

from ash_core.studio.mesh.surface import edges_of
from ash_core.studio.truth.dressing import HAIR
from ash_core.studio.truth.proxies import Proxies
from ash_core.studio.truth.skinned import normals_of

ClothName = Literal["springs", "newton"]
SPRINGS: Final = "springs"
SUBSTEPS = 8
SETTLE_S = 2.5
"""Duration for which frame 0 is held before the motion starts, s."""
NEAR, SHARE, ROOM = 0.006, 0.4, 0.03
"""Clearance of cloth from the legs: `NEAR`, m, and a share of that at rest, up to `ROOM`. So layers
of cloth keep their order."""
GRAVITY = 9.81
PULL_SOFT, PULL_HARD = 3.5, 55.0
"""Angular frequency of the pull to the skinned place: loosest and tightest points."""
AIR, INNER = 0.9, 3.2
"""Damping against the air and against the skinned surface's own velocity, 1/s."""
FASTEST = 9.0
"""Upper bound on speed, m/s."""
STRETCH = 0.9
BEND = 0.16
BRACE = 0.5
"""Share of a link's error that one pass removes: edges, pairs across an edge, and through hair."""
THICK = 0.12
"""Largest thickness of a lock of hair, m."""


@dataclass(frozen=True)
class Fabric:
    """Points that swing, and the links between them."""

    points: np.ndarray
    """Vertices of the template [P]."""
    faces: np.ndarray
    """Triangles [F, 3] as indices into points."""
    materials: np.ndarray
    """[F] index into `dressing.MATERIALS`."""
    loose: np.ndarray
    """Looseness [P], 0 (held) to 1."""
    links: np.ndarray
    """Links [L, 2] as indices into points."""
    lengths: np.ndarray
    stiffness: np.ndarray
    """[L]"""
    margins: np.ndarray
    """Clearance [P, C] of each point from each capsule, m; below zero: it is inside at rest."""
    colliders: np.ndarray
    """Number of capsules [P] that push each point: the limbs' only, or all of them for hair."""


@dataclass
class Swing:
    """State of the simulation: places and velocities of the points."""

    places: np.ndarray
    velocities: np.ndarray

    def copy(self) -> "Swing":
        return Swing(self.places.copy(), self.velocities.copy())


@dataclass(frozen=True)
class ClothPose:
    """Pose of everything that moves the cloth. Body frame (Y up), m."""

    skinned: np.ndarray
    """Skinned vertices of the template [V, 3]."""
    spheres: np.ndarray
    """Centres of the proxies [S, 3]."""
    pull: np.ndarray
    """Gravity on each point relative to the rest pose [P, 3], m/s^2."""


class ClothSolver(Protocol):
    """Simulation of a fabric. Its result depends on its arguments only, never on earlier calls."""

    @property
    def identity(self) -> str:
        """Name and version in the record of a film."""
        ...

    def settle(self, pose: ClothPose, fps: float) -> Swing:
        """Start at rest in a pose."""
        ...

    def advance(self, swing: Swing, before: ClothPose, after: ClothPose, seconds: float) -> None:
        """Simulate one frame, in place. before, after: poses at its start and end."""
        ...


def weave(
    vertices: np.ndarray,
    faces: np.ndarray,
    materials: np.ndarray,
    loose: np.ndarray,
    proxies: Proxies,
) -> Fabric:
    """Select points with loose > 0 and their held neighbours. loose [V]; its cloth is `faces`."""
    swings = (loose[faces] > 0).any(1)
    faces, materials = faces[swings], materials[swings]
    points = np.unique(faces)
    local = np.searchsorted(points, faces)
    pairs = edges_of(local) if len(faces) else np.zeros((0, 2), np.int64)
    across = _across(local) if len(faces) else pairs
    through = _through(vertices[points], local[materials == HAIR])
    links = np.concatenate([pairs, across, through])
    shares = (STRETCH, BEND, BRACE)
    stiffness = np.repeat(shares, [len(pairs), len(across), len(through)])
    moving = (loose[points][links] > 0).any(1)
    links, stiffness = links[moving], stiffness[moving]
    places = vertices[points]
    lengths = np.linalg.norm(places[links[:, 0]] - places[links[:, 1]], axis=1)
    is_hair = np.zeros(len(points), bool)
    is_hair[local[materials == HAIR]] = True
    colliders = np.where(is_hair, len(proxies.capsules), proxies.limbs)
    free = _room(places, proxies.centres, proxies.radii, proxies.capsules)
    near = free
    if proxies.limbs:  # cloth keeps the smallest distance from any limb
        nearest = free[:, : proxies.limbs].min(1, keepdims=True)
        near = np.where(is_hair[:, None], free, nearest)
    margins = np.minimum(near - 0.001, NEAR + SHARE * np.clip(near, 0.0, ROOM))
    return Fabric(
        points, local, materials, loose[points].astype(np.float64), links, lengths, stiffness,
        margins, colliders,
    )  # fmt: skip


def _room(
    points: np.ndarray, spheres: np.ndarray, radii: np.ndarray, capsules: np.ndarray
) -> np.ndarray:
    """Return the distances [P, C] from the capsules' surfaces."""
    distances = np.zeros((len(points), len(capsules)))
    for c, (a, b) in enumerate(capsules):
        axis = spheres[b] - spheres[a]
        t = np.clip((points - spheres[a]) @ axis / max(axis @ axis, 1e-12), 0.0, 1.0)
        away = np.linalg.norm(points - spheres[a] - t[:, None] * axis, axis=1)
        distances[:, c] = away - radii[a] - t * (radii[b] - radii[a])
    return distances


def _across(faces: np.ndarray) -> np.ndarray:
    """List pairs of vertices that face each other over an edge."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    tips = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    order = np.lexsort(edges.T)
    edges, tips = edges[order], tips[order]
    same = (edges[1:] == edges[:-1]).all(1)
    return np.stack([tips[:-1][same], tips[1:][same]], 1)


def _through(places: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Pair the points of hair with those on its other side: a lock stays round, it is no sheet."""
    if not len(faces):
        return np.zeros((0, 2), np.int64)
    points = np.unique(faces)
    spots, normals = places[points], normals_of(places, faces)[points]
    links = []
    for i, near in enumerate(KDTree(spots).query_ball_point(spots, THICK)):
        others = np.array(near)
        others = others[normals[others] @ normals[i] < -0.3]
        if not len(others):
            continue
        ways = spots[others] - spots[i]
        inward = -(ways @ normals[i]) / np.linalg.norm(ways, axis=1)
        if inward.max() > 0.7:
            links.append((i, others[inward.argmax()]))
    return np.unique(np.sort(points[np.array(links, np.int64).reshape(-1, 2)], 1), axis=0)


class Springs:
    """Our own solver: masses, springs and a soft pull to the skinned places."""

    identity = SPRINGS

    def __init__(self, fabric: Fabric, proxies: Proxies) -> None:
        self.fabric, self.proxies = fabric, proxies

    def settle(self, pose: ClothPose, fps: float) -> Swing:
        goal = pose.skinned[self.fabric.points]
        swing = Swing(goal.copy(), np.zeros_like(goal))
        for _ in range(round(SETTLE_S * fps)):
            self.advance(swing, pose, pose, 1.0 / fps)
            swing.velocities *= 0.8
        swing.velocities[:] = 0.0
        return swing

    def advance(self, swing: Swing, before: ClothPose, after: ClothPose, seconds: float) -> None:
        fabric, points = self.fabric, self.fabric.points
        if len(points):
            _advance(
                swing.places, swing.velocities, fabric.loose, fabric.links, fabric.lengths,
                fabric.stiffness, fabric.margins, fabric.colliders, before.skinned[points],
                after.skinned[points], before.spheres, after.spheres, self.proxies.radii,
                self.proxies.capsules, after.pull, seconds,
            )  # fmt: skip


@njit(cache=True)
def _advance(
    x,
    v,
    loose,
    links,
    lengths,
    stiffness,
    margins,
    colliders,
    goal0,
    goal1,
    s0,
    s1,
    radii,
    capsules,
    pull,
    seconds,
):
    dt = seconds / SUBSTEPS
    n = len(x)
    before = np.empty_like(x)
    air, inner = np.exp(-AIR * dt), np.exp(-INNER * dt)
    for sub in range(SUBSTEPS):
        t = (sub + 1.0) / SUBSTEPS
        goal = goal0 + t * (goal1 - goal0)
        spheres = s0 + t * (s1 - s0)
        # Move every point: damped velocity, gravity, pull to its skinned place.
        for i in range(n):
            omega = PULL_SOFT * (PULL_HARD / PULL_SOFT) ** ((1.0 - loose[i]) ** 1.5)
            share = (omega * dt) ** 2 / (1.0 + (omega * dt) ** 2)
            for d in range(3):
                before[i, d] = x[i, d]
                if loose[i] <= 0.0:
                    x[i, d] = goal[i, d]
                    continue
                own = (goal1[i, d] - goal0[i, d]) / seconds
                speed = air * (own + inner * (v[i, d] - own)) + dt * pull[i, d]
                x[i, d] += dt * speed
                x[i, d] += share * (goal[i, d] - x[i, d])
        # Restore the lengths, then resolve collisions.
        for _ in range(2):
            _project(x, loose, links, lengths, stiffness)
        _push_out(x, loose, margins, colliders, spheres, radii, capsules)
        # Derive velocities from the positions, bounded.
        for i in range(n):
            square = 0.0
            for d in range(3):
                v[i, d] = (x[i, d] - before[i, d]) / dt
                square += v[i, d] ** 2
            if square > FASTEST**2:
                for d in range(3):
                    v[i, d] *= FASTEST / np.sqrt(square)


@njit(cache=True)
def _project(x, loose, links, lengths, stiffness):
    """Restore the links' lengths. Cloth is stiff when pulled and yields when pushed."""
    for k in range(len(links)):
        i, j = links[k, 0], links[k, 1]
        wi, wj = 1.0 * (loose[i] > 0), 1.0 * (loose[j] > 0)
        if wi + wj == 0.0:
            continue
        dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-12
        gain = stiffness[k] if length > lengths[k] else 0.35 * stiffness[k]
        push = gain * (length - lengths[k]) / (length * (wi + wj))
        x[i, 0] += wi * push * dx
        x[i, 1] += wi * push * dy
        x[i, 2] += wi * push * dz
        x[j, 0] -= wj * push * dx
        x[j, 1] -= wj * push * dy
        x[j, 2] -= wj * push * dz


@njit(cache=True)
def _push_out(x, loose, margins, colliders, spheres, radii, capsules):
    """Push points out of the tapered capsules, and off the floor."""
    for i in range(len(x)):
        if loose[i] <= 0.0:
            continue
        for c in range(colliders[i]):
            a, b = capsules[c, 0], capsules[c, 1]
            ex, ey, ez = (
                spheres[b, 0] - spheres[a, 0],
                spheres[b, 1] - spheres[a, 1],
                spheres[b, 2] - spheres[a, 2],
            )
            px, py, pz = x[i, 0] - spheres[a, 0], x[i, 1] - spheres[a, 1], x[i, 2] - spheres[a, 2]
            t = (px * ex + py * ey + pz * ez) / (ex * ex + ey * ey + ez * ez + 1e-12)
            t = min(1.0, max(0.0, t))
            dx, dy, dz = px - t * ex, py - t * ey, pz - t * ez
            away = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            clearance = radii[a] + t * (radii[b] - radii[a]) + margins[i, c]
            if away < clearance:
                out = (clearance - away) / away
                x[i, 0] += out * dx
                x[i, 1] += out * dy
                x[i, 2] += out * dz
        x[i, 1] = max(x[i, 1], 0.012)
