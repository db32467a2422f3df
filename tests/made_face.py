"""A head with holes for eyes and mouth, as anny's surface has them, and a rig for it. No anny."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import Skeleton, Skinning
from ash_core.studio.actor.body import (
    LEFT_EYE,
    LEFT_LINING,
    RIGHT_EYE,
    RIGHT_LINING,
    SKIN_FACE,
    Body,
)
from ash_core.studio.actor.face import close_face
from ash_core.studio.actor.rig import build_rig, build_skin

ROWS, COLUMNS = 44, 120
NARROW = 0.0125
"""Step of the rows at the eyes, rad: three of them are a lid's thickness."""
RADII = np.array([0.078, 0.115, 0.095])
HEAD = np.array([0.0, 1.55, 0.0])
EYE = (0.030, 0.010)
"""Place of an eye beside and over the head's middle, m."""
BALL = 0.0165
THIN = 0.0014
"""Thickness of a lid."""
SIDES = {"Left": (LEFT_EYE, LEFT_LINING), "Right": (RIGHT_EYE, RIGHT_LINING)}


@dataclass(frozen=True)
class Face:
    """Closed face with its rig."""

    body: Body
    skeleton: Skeleton
    skinning: Skinning

    def posed(self, **dofs: float) -> np.ndarray:
        """Return the vertices [V, 3] in a pose, blended linearly, m."""
        return pose(self.body.vertices, self.skeleton, self.skinning, **dofs)


def pose(vertices: np.ndarray, skeleton: Skeleton, skinning: Skinning, **dofs: float) -> np.ndarray:
    """Skin vertices [V, 3] linearly in a pose of named dofs."""
    row = torch.zeros(2, len(skeleton.dof_names), dtype=torch.float64)
    for name, value in dofs.items():
        row[1, skeleton.dof_names.index(name)] = value
    rest, posed = joint_transforms(skeleton, row)
    moves = (posed @ torch.linalg.inv(rest))[skinning.bone_joints].numpy()
    blend = np.einsum("vs,vsij->vij", skinning.weights.numpy(), moves[skinning.bones.numpy()])
    return np.einsum("vij,vj->vi", blend[:, :3, :3], vertices) + blend[:, :3, 3]


def vertices_of(face: Face, *labels: int) -> np.ndarray:
    return np.unique(face.body.faces[np.isin(face.body.eyes, labels)])


def rim_of(face: Face, *labels: int) -> np.ndarray:
    """Return the vertices that skin shares with faces of these labels."""
    return np.intersect1d(vertices_of(face, *labels), vertices_of(face, SKIN_FACE))


def height_of_opening(points: np.ndarray) -> np.ndarray:
    """Return how far the upper edge of a hole is over the lower one at places across it, m."""
    line = points[np.argmax(points[:, 0])] - points[np.argmin(points[:, 0])]
    start = points[np.argmin(points[:, 0])]
    level = start[1] + (points[:, 0] - start[0]) * line[1] / line[0]
    # At rest the corners part the rim into its halves; the order of the vertices is not known.
    return points[:, 1] - level


def halves(face: Face, labels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper and the lower half of a rim at rest, both from corner to corner."""
    rim = rim_of(face, *labels)
    points = face.body.vertices[rim]
    up = height_of_opening(points)
    order = np.argsort(points[:, 0])
    ends = np.isin(rim, rim[order[[0, -1]]])
    upper, lower = (rim[(side & ~ends) | ends] for side in (up > 0, up < 0))
    by_x = lambda ids: ids[np.argsort(face.body.vertices[ids, 0])]  # noqa: E731
    return by_x(upper), by_x(lower)


def gap(posed: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Return the height between two chains at places across them [50], m; below 0 they overlap."""
    low, high = posed[upper[[0, -1]], 0]
    places = np.linspace(low, high, 52)[1:-1]
    edges = []
    for chain in (upper, lower):
        order = np.argsort(posed[chain, 0])
        edges.append(np.interp(places, *posed[chain[order]][:, :2].T))
    return edges[0] - edges[1]


@cache
def made_face() -> Face:
    body = close_face(open_head())
    skeleton, owner = build_rig(body, 0.0)
    return Face(body, skeleton, build_skin(body.weights, body.bones, owner, skeleton))


def open_head() -> Body:
    """Make an ellipsoid with two eyes' holes and a slit between lips."""
    level = np.arcsin(EYE[1] / RADII[1])
    up = np.linspace(-np.pi / 2, np.pi / 2, ROWS + 1)[1:-1]
    narrow = level + NARROW * (np.arange(14) - 6.5)
    up = np.sort(np.concatenate([up[np.abs(up - level) > 0.10], narrow]))
    around = 2 * np.pi * np.arange(COLUMNS) / COLUMNS
    high, angle = np.meshgrid(up, around, indexing="ij")
    # Rows come together in the corners of the eyes.
    aside = np.abs(np.abs(RADII[0] * np.sin(angle)) - EYE[0]) / 0.0155
    pinch = 0.97 * np.minimum(aside, 1.0) ** 2 * np.exp(-(((high - level) / 0.06) ** 2))
    high = level + (high - level) * (1.0 - pinch)
    rays = np.stack([np.sin(angle) * np.cos(high), np.sin(high), np.cos(angle) * np.cos(high)], -1)
    grid = np.arange(high.size).reshape(high.shape)
    a, b = grid[:-1], np.roll(grid, -1, 1)[:-1]
    c, d = np.roll(grid, -1, 1)[1:], grid[1:]
    quads = np.stack([a, b, c, d], -1).reshape(-1, 4)
    poles = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
    vertices = np.concatenate([rays.reshape(-1, 3), poles]) * RADII
    # Cut the holes: a patch of quads for each eye, one row of them for the mouth.
    middle = vertices[quads].mean(1)
    front = middle[:, 2] > 0
    eyes = (np.abs(np.abs(middle[:, 0]) - EYE[0]) < 0.007) & (
        np.abs(middle[:, 1] - EYE[1]) < 0.0006
    )
    row = np.argmin(np.abs(RADII[1] * np.sin(up[:-1]) + 0.05))
    mouth = (np.arange(len(quads)) // COLUMNS == row) & (np.abs(middle[:, 0]) < 0.024)
    quads = quads[~(front & (eyes | mouth))]
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    south, north = high.size, high.size + 1
    first, last = grid[0], grid[-1]
    caps = [np.stack([np.full(COLUMNS, south), np.roll(first, -1), first], 1),
            np.stack([np.full(COLUMNS, north), last, np.roll(last, -1)], 1)]  # fmt: skip
    faces = np.concatenate([faces, *caps])
    heads = _heads()
    bones = (*heads,)
    weights = np.zeros((len(vertices), len(bones)))
    lower = (vertices[:, 1] < RADII[1] * np.sin(up[row]) + 1e-6) & (vertices[:, 2] > 0)
    weights[:, bones.index("jaw")] = lower
    weights[:, bones.index("head")] = ~lower
    eyeballs = {}
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        depth = RADII[2] * np.sqrt(1 - (EYE[0] / RADII[0]) ** 2 - (EYE[1] / RADII[1]) ** 2)
        place = HEAD + np.array([sign * EYE[0], EYE[1], depth - BALL - THIN])
        eyeballs[side] = (place, BALL)
        heads[f"eye.{side[0]}"] = place
    return Body(
        vertices + HEAD, faces, np.zeros((len(faces), 3, 2)), weights, bones, heads,
        np.zeros(len(faces), np.int64), eyeballs, np.zeros((0, 3)), np.zeros(len(faces), np.int64),
    )  # fmt: skip


def _heads() -> dict[str, np.ndarray]:
    """Place the bones that a rig needs; those of the limbs lie anywhere."""
    rng = np.random.default_rng(0)
    limbs = ["clavicle", "shoulder01", "upperarm01", "upperarm02", "lowerarm01", "lowerarm02",
             "wrist", "pelvis", "upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot",
             *(f"metacarpal{k}" for k in (1, 2, 3, 4)),
             *(f"{part}{k}-{i}" for part in ("finger", "toe") for k in range(1, 6)
               for i in (1, 2, 3)), "eye"]  # fmt: skip
    trunk = ["root", "spine05", "spine04", "spine03", "spine02", "spine01", "neck01", "neck02",
             "neck03"]  # fmt: skip
    names = [*trunk, *(f"{limb}.{letter}" for limb in limbs for letter in "LR")]
    heads = {name: rng.uniform(0.0, 1.0, 3) for name in names}
    return heads | {"head": HEAD - [0.0, 0.1, 0.0], "jaw": HEAD + np.array([0.0, -0.03, 0.015])}
