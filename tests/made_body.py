"""Made-up body model files in the layout of SMPL, SMPL-H and SMPL-X.

Names and parents of the joints are the files' own; places, surface, weights and shapes are invented
here: a tube around every bone, or a surface that is given.
"""

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.spatial import KDTree

from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS, BodyKind
from ash_core.studio.mesh.surface import face_normals

VERTICES = {"smpl": 6890, "smplh": 6890, "smplx": 10475}
SHAPES = {"smpl": 10, "smplh": 16, "smplx": 20}
NO_PARENT = 4294967295
SEGMENTS = 8
"""Vertices around a tube."""
NEAR = 12
"""Vertices from which a joint's place is made."""
_SIDES = {"left": 1.0, "right": -1.0}
_CENTRE = {
    "pelvis": (0.0, 0.95, 0.0), "spine1": (0.0, 1.07, -0.02), "spine2": (0.0, 1.21, -0.02),
    "spine3": (0.0, 1.27, 0.01), "neck": (0.0, 1.48, -0.03), "head": (0.0, 1.57, 0.02),
    "jaw": (0.0, 1.56, 0.03),
}  # fmt: skip
_LIMBS = {
    "hip": (0.07, 0.86, 0.0), "knee": (0.11, 0.48, 0.01), "ankle": (0.10, 0.09, -0.03),
    "foot": (0.13, 0.03, 0.09), "collar": (0.08, 1.39, -0.02), "shoulder": (0.18, 1.42, -0.03),
    "elbow": (0.44, 1.41, -0.05), "wrist": (0.69, 1.42, -0.05), "hand": (0.77, 1.41, -0.05),
    "eye": (0.03, 1.63, 0.08),
}  # fmt: skip
_FINGERS = {"index": 0.025, "middle": 0.003, "ring": -0.019, "pinky": -0.040}
"""Places across the palm, m."""


def made_joints(kind: BodyKind) -> np.ndarray:
    """Invent rest joints [J, 3], m: a T-pose, Y up, facing +Z, left at +X."""
    places = []
    for name in BODY_JOINTS[kind]:
        side, _, part = name.partition("_")
        if side not in _SIDES:
            places.append(_CENTRE[name])
            continue
        if part in _LIMBS:
            x, y, z = _LIMBS[part]
        else:
            finger, number = part[:-1], int(part[-1]) - 1
            x, y, z = _LIMBS["wrist"]
            if finger == "thumb":
                x, y, z = x + 0.03 + 0.03 * number, y - 0.01, z + 0.03 + 0.02 * number
            else:
                x, z = x + 0.10 + 0.03 * number, z + _FINGERS[finger]
        places.append((_SIDES[side] * x, y, z))
    return np.array(places)


def write_body_model(
    path: Path,
    kind: BodyKind = "smplx",
    rest_joints: np.ndarray | None = None,
    vertices: int | None = None,
    seed: int = 0,
    pickled: bool = False,
    *,
    surface: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    shapes: int | None = None,
    with_uvs: bool = False,
    pose_shapes: bool = False,
    **entries: object,
) -> Path:
    """Write a random but consistent body model file; returns its path.

    rest_joints [J, 3]: the regressor gives exactly these for a shape of zeros. vertices: at least
    30 a joint. surface: (vertices [V, 3], faces [F, 3], weights [V, J]) instead of tubes. shapes:
    directions, those of expressions included. pickled: as the first files, with a chumpy array and
    a scipy matrix. entries: replacements of keys; None leaves a key out.
    """
    rng = np.random.default_rng(seed)
    joints = made_joints(kind) if rest_joints is None else np.asarray(rest_joints, np.float64)
    if surface is None:
        surface = made_surface(kind, joints, vertices or VERTICES[kind])
    places, faces, weights = surface
    count = shapes or SHAPES[kind]
    parents = np.array(BODY_PARENTS[kind], np.int64)
    table = np.stack([np.where(parents < 0, NO_PARENT, parents), np.arange(len(parents))])
    content: dict[str, object] = {
        "v_template": places,
        "shapedirs": _shapes(places, count, rng),
        "J_regressor": _regressor(places, joints),
        "weights": weights,
        "kintree_table": table.astype(np.uint32),
        "f": faces.astype(np.uint32),
        "bs_style": np.array("lbs"),
    }
    if pose_shapes:
        content["posedirs"] = np.zeros((len(places), 3, 9 * (len(parents) - 1)), np.float32)
    if kind != "smpl":
        for letter in "lr":
            content[f"hands_components{letter}"] = np.linalg.qr(rng.normal(size=(45, 45)))[0]
            content[f"hands_mean{letter}"] = 0.1 * rng.normal(size=45)
    if with_uvs:
        content["vt"], content["ft"] = _grid_uvs(len(faces))
    content = {key: value for key, value in (content | entries).items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    if not pickled:
        np.savez(path, **content)  # type: ignore[arg-type]
        return path
    with chumpy() as made:
        content["J_regressor"] = sp.csc_matrix(content["J_regressor"])
        content["shapedirs"] = made(content["shapedirs"])
        path.write_bytes(pickle.dumps(content, protocol=2))
    return path


@contextmanager
def chumpy() -> Iterator[type]:
    """Stand in for the package chumpy while a file is written: yields its array."""
    module = types.ModuleType("chumpy.ch")
    parent = types.ModuleType("chumpy")

    class Ch:
        def __init__(self, x: object) -> None:
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = parent.Ch = Ch  # type: ignore[attr-defined]
    parent.ch = module  # type: ignore[attr-defined]
    names = {"chumpy": parent, "chumpy.ch": module}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules |= names
    try:
        yield Ch
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def made_surface(
    kind: BodyKind, joints: np.ndarray, vertices: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a closed tube around every bone: vertices [V, 3], triangles, weights [V, J]."""
    parents = BODY_PARENTS[kind]
    leaves = [j for j in range(len(parents)) if j not in parents]
    bones = [(parents[j], j, joints[parents[j]], joints[j]) for j in range(1, len(parents))]
    for leaf in leaves:
        along = joints[leaf] - joints[parents[leaf]]
        length = max(0.35 * np.linalg.norm(along), 0.02)
        bones.append((leaf, -1, joints[leaf], joints[leaf] + along * length / 0.2))
    rings = max((vertices // len(bones) - 2) // SEGMENTS, 2)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    start = 0
    for owner, end, a, b in bones:
        places, faces, along = tube(a, b, rings)
        weights = np.zeros((len(places), len(parents)))
        weights[:, owner] = 1.0
        for other, share in ((parents[owner], 0.5 - 2 * along), (end, 2 * along - 1.5)):
            if other >= 0:
                share = share.clip(0.0, 0.5)
                weights[:, owner] -= share
                weights[:, other] += share
        parts.append((places, faces + start, weights))
        start += len(places)
    places, faces, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert len(places) <= vertices, f"expected {len(places)} vertices or more, got {vertices}"
    # The rest of the vertices in the middles of the largest triangles.
    chosen = np.argsort(-np.linalg.norm(face_normals(places, faces), axis=1))[
        : vertices - len(places)
    ]
    a, b, c = faces[chosen].T
    new = len(places) + np.arange(len(chosen))
    places = np.concatenate([places, places[faces[chosen]].mean(1)])
    weights = np.concatenate([weights, weights[faces[chosen]].mean(1)])
    split = [np.stack(corners, 1) for corners in ((a, b, new), (b, c, new), (c, a, new))]
    faces = np.concatenate([np.delete(faces, chosen, 0), *split])
    assert len(places) == vertices, f"{len(places)} of {vertices}"
    return places, faces, weights


def tube(a: np.ndarray, b: np.ndarray, rings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a closed tube from a to b: places, outward triangles, share of the way of each place."""
    along = b - a
    length = max(float(np.linalg.norm(along)), 1e-3)
    along = along / length
    across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    across /= np.linalg.norm(across)
    other = np.cross(along, across)
    radius = np.clip(0.3 * length, 0.004, 0.09)
    share = (np.arange(rings) + 0.5) / rings
    angle = 2 * np.pi * np.arange(SEGMENTS) / SEGMENTS
    circle = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * other
    wide = radius * np.sqrt(1.0 - (2 * share - 1.0) ** 4)
    places = a + share[:, None, None] * length * along + wide[:, None, None] * circle
    places = np.concatenate([places.reshape(-1, 3), [a, b]])
    tail, tip = rings * SEGMENTS, rings * SEGMENTS + 1
    faces = []
    for k in range(SEGMENTS):
        n = (k + 1) % SEGMENTS
        faces.append((tail, n, k))
        top = (rings - 1) * SEGMENTS
        faces.append((tip, top + k, top + n))
        for r in range(rings - 1):
            low, high = r * SEGMENTS, (r + 1) * SEGMENTS
            faces += [(low + k, low + n, high + n), (low + k, high + n, high + k)]
    return places, np.array(faces), np.concatenate([np.repeat(share, SEGMENTS), [0.0, 1.0]])


def _shapes(places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Make smooth directions [V, 3, B]: stretches, and a wave along the height."""
    stretch = 0.01 * rng.normal(size=(3, 3, count))
    wave = 0.003 * rng.normal(size=(3, count))
    rise = np.sin(4.0 * places[:, 1])[:, None, None]
    return np.einsum("vi,ikb->vkb", places, stretch) + rise * wave


def _regressor(places: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Make rows [J, V] that sum to 1 and give the joints."""
    _, near = KDTree(places).query(joints, k=NEAR)
    rows = np.zeros((len(joints), len(places)))
    for row, joint, ids in zip(rows, joints, np.asarray(near), strict=True):
        equations = np.concatenate([places[ids].T, np.ones((1, NEAR))])
        row[ids] = np.linalg.lstsq(equations, np.append(joint, 1.0), rcond=None)[0]
    assert np.abs(rows @ places - joints).max() < 1e-9
    return rows


def _grid_uvs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay out triangles one by one in a grid: coordinates [3 F, 2] and corners [F, 3]."""
    side = int(np.ceil(np.sqrt(count)))
    cells = np.stack(np.divmod(np.arange(count), side), -1)[:, None]
    corners = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])
    return ((cells + corners) / side).reshape(-1, 2), np.arange(3 * count).reshape(-1, 3)


_ACTOR_BONES = {
    **{"pelvis": "Root", "spine1": "Spine1", "spine2": "Spine3", "spine3": "Chest"},
    **{"neck": "Neck1", "head": "Head", "hip": "UpLeg", "knee": "Leg", "ankle": "Foot"},
    **{"foot": "Toe", "collar": "Shoulder", "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand"},
}
_ACTOR_OWNERS = {"Spine2": "Spine1", "Neck2": "Neck1"}
"""Bones that no joint of a body is: their weights go to another."""
_ACTOR_FACE_M = {"jaw": (0, 0.01, 0.02), "left_eye": (0.03, 0.07, 0.07),
                 "right_eye": (-0.03, 0.07, 0.07)}  # fmt: skip


def actor_body() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return the bundled actor as a body of SMPL-X: its surface with weights, its rest joints."""
    import torch

    from ash_core.files.released import import_ash
    from ash_core.geometry.kinematics import joint_transforms
    from ash_core.resources import resource

    data, _ = import_ash(resource("assets", "actor") / "actor.conf")
    skeleton, names = data.skeleton, BODY_JOINTS["smplx"]
    places = joint_transforms(skeleton, torch.zeros(len(skeleton.dof_names)).double())[:, :3, 3]
    groups = [name.split("_")[0] for name in skeleton.joint_names]
    joints, joint_of = np.empty((len(names), 3)), {}
    for number, name in enumerate(names):
        side, _, part = name.partition("_")
        bone = _ACTOR_BONES.get(name) or side.title() + _ACTOR_BONES.get(part, part.title())
        if name in _ACTOR_FACE_M:
            joints[number] = joints[names.index("head")] + _ACTOR_FACE_M[name]
        else:
            joints[number] = places[groups.index(bone)].numpy()
            joint_of[bone] = number
    weights = np.zeros((len(data.template.vertices), len(names)))
    rows = np.arange(len(weights))
    for slot in range(data.skinning.bones.shape[1]):
        bones = [data.skinning.bone_names[b] for b in data.skinning.bones[:, slot].tolist()]
        owners = [_ACTOR_OWNERS.get(b, b.removesuffix("Roll")) for b in bones]
        columns = np.array([joint_of[owner] for owner in owners])
        np.add.at(weights, (rows, columns), data.skinning.weights[:, slot].numpy())
    surface = data.template.vertices.double().numpy(), data.template.faces.numpy(), weights
    return surface, joints
