"""A rigged glTF character as one of ours: template, skeleton of one-degree joints, skin, motions.

A glTF joint becomes a bone of three turns (about y, z, x; the root's with three slides before
them, others' only where an animation slides them). At rest, all dofs zero, ours stand as the skin
was bound: every joint's turn is counted from there.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ash_core.capture.actor.actor import Actor, write_actor
from ash_core.capture.gltf.gltf_atlas import Soup, make_atlas
from ash_core.capture.gltf.gltf_mesh import (
    MAX_BONES,
    MAX_VERTICES,
    Part,
    read_materials,
    read_parts,
    skin_joints,
)
from ash_core.capture.gltf.gltf_motion import Animation, read_animations, world
from ash_core.capture.mesh.graph import make_graph
from ash_core.conventions import FPS
from ash_core.files.gltf import Gltf, Node, open_gltf
from ash_core.files.skeletool import MAX_JOINTS
from ash_core.records import Skeleton, Skinning

SAME = 1e-3
"""Share of the character's size within which two places are the same pose."""
STILL = 1e-4
"""Share of the size that a joint may slide and still count as turning only."""
WELD = 1e-5
"""Share of the size within which vertices are one."""
LIGHTEST = 1e-3
"""Weights below are dropped."""
USUAL_HEIGHT_M = (0.3, 3.0)
_BODY = -1
"""In place of a node: what moves with no joint."""


@dataclass(frozen=True)
class Imported:
    """The character, and what could not be carried over."""

    actor: Actor
    notes: tuple[str, ...]


@dataclass
class _Rig:
    """The joints, by node, parents first; None stands for a root that no joint is."""

    nodes: list[int]
    parents: list[int]
    """Index into `nodes`."""
    reference: np.ndarray
    """[J, 4, 4] T_world_joint in which the template stands."""
    rest: np.ndarray
    """[J, 4, 4] at the scene's rest."""
    slides: list[bool] = field(default_factory=list)


def import_gltf(path: Path | str, out: Path, scale: float = 1.0, fps: float = FPS) -> Imported:
    """Read a `.glb` or `.gltf` and write the published formats to a folder."""
    imported = read_gltf_character(path, scale, fps)
    (out / "motions").mkdir(parents=True, exist_ok=True)
    write_actor(out, imported.actor, "character")
    return imported


def read_gltf_character(path: Path | str, scale: float = 1.0, fps: float = FPS) -> Imported:
    """All the work, nothing on disk. scale: metres per unit of the file."""
    gltf = open_gltf(path)
    try:
        return _read(gltf, scale, fps)
    except np.linalg.LinAlgError:
        raise gltf.bad("nodes", "expected transforms with an inverse, got a flat one") from None


def _read(gltf: Gltf, scale: float, fps: float) -> Imported:
    nodes, order = gltf.nodes()
    parts, notes = read_parts(gltf, nodes, order)
    animations = read_animations(gltf, nodes, fps)
    if any(animation.has_morphs for animation in animations):
        notes.append("animated morph targets are not carried over")
    T_rest = _world(gltf, nodes, order)[0]
    grow = np.diag([scale, scale, scale, 1.0])
    rig, bound = _rig(gltf, nodes, order, parts, T_rest, animations)
    vertices, faces, soup, owners, weights = _mesh(gltf, nodes, parts, rig, T_rest, bound)
    soup = Soup(soup.positions * scale, soup.uvs, soup.materials)
    vertices = vertices * scale
    if len(vertices) > MAX_VERTICES:
        raise gltf.bad("meshes", f"expected at most {MAX_VERTICES} vertices, got {len(vertices)}")
    if len(vertices) < 3:
        raise gltf.bad("meshes", f"expected three vertices that differ, got {len(vertices)}")
    size = float(np.ptp(vertices, axis=0).max())
    if not 1e-6 < size < 1e6:
        raise gltf.bad("meshes", f"expected a character with a size in m, got {size:g}")
    posed = {}
    for animation in animations:
        T = _world(gltf, nodes, order, animation)
        still = np.broadcast_to(np.eye(4), (len(T), 1, 4, 4))  # what a root that no joint is takes
        posed[animation.name] = np.concatenate([T, still], 1)[:, rig.nodes]
    posed_all = [grow @ T for T in posed.values()]
    rig.reference = grow @ rig.reference
    rig.rest = grow @ rig.rest
    rig.slides = _sliding(rig, [rig.rest[None], *posed_all], STILL * size)
    names = _names([nodes[n].name if n >= 0 else "Root" for n in rig.nodes])
    skeleton = _skeleton(gltf, rig, names)
    motions = {}
    stretch = 0.0
    for name, T in zip(posed, posed_all, strict=True):
        dofs, change = _dofs(rig, T)
        stretch = max(stretch, change)
        motions[_file_name(name, motions)] = dofs
    if not motions:
        motions["rest"], stretch = _dofs(rig, rig.rest[None])
    if stretch > 0.02:
        notes.append(f"joints that change their size (by up to {stretch:.0%}) keep it here")
    materials = read_materials(gltf)
    corner_uvs, texture = make_atlas(soup, materials)
    if any(m.image is None for m in materials[:-1]) and not any(
        m.image is not None for m in materials
    ):
        notes.append("no image in the file: surfaces have their materials' plain colours")
    height = float(np.ptp(vertices[:, 1]))
    low, high = USUAL_HEIGHT_M
    if not low <= height <= high:
        notes.append(
            f"the character is {height:.3g} m high; if that is not meant, give --scale, "
            f"e.g. {scale * 1.7 / max(height, 1e-9):.3g} for 1.7 m"
        )
    graph_nodes, graph_faces = make_graph(vertices, faces)
    actor = Actor(
        vertices=vertices,
        faces=faces,
        corner_uvs=corner_uvs,
        texture=texture,
        skeleton=skeleton,
        skinning=_skinning(owners, weights, names, skeleton),
        graph_nodes=graph_nodes,
        graph_faces=graph_faces,
        hands=np.zeros(len(vertices), bool),
        motions=motions,
    )
    return Imported(actor, tuple(notes))


def _world(
    gltf: Gltf, nodes: Sequence[Node], order: Sequence[int], animation: Animation | None = None
) -> np.ndarray:
    T = world(nodes, order, animation)
    if not (np.abs(T) < 1e12).all():
        raise gltf.bad("nodes", "expected places and sizes below 1e12")
    return T


# ---- joints ----


def _rig(
    gltf: Gltf,
    nodes: Sequence[Node],
    order: Sequence[int],
    parts: Sequence[Part],
    T_rest: np.ndarray,
    animations: Sequence,
) -> tuple[_Rig, dict[int, np.ndarray] | None]:
    """The joints, and for each skin T_world_mesh of its bind pose (None: rest, node by node)."""
    skins = sorted({part.skin for part in parts if part.skin is not None})
    bones = {node for skin in skins for node in skin_joints(gltf, skin)}
    moved = {node for animation in animations for node, _ in animation.tracks}
    for part in parts:
        if part.skin is None:
            line = _line(nodes, part.node)
            if not bones & set(line) and moved & set(line):
                bones.add(part.node)
    unreached = bones - set(order)
    if unreached:
        raise gltf.bad("skins", f"expected joints in the scene, got node {min(unreached)} outside")
    joints = [n for n in order if n in bones]
    above = [next((a for a in _line(nodes, n)[1:] if a in bones), _BODY) for n in joints]
    if above.count(_BODY) != 1:
        joints, above = [_BODY, *joints], [_BODY - 1, *above]
    index = {n: i for i, n in enumerate(joints)}
    rest = np.stack([T_rest[n] if n >= 0 else np.eye(4) for n in joints])
    found = _bind_pose(gltf, skins, joints, T_rest)
    reference = rest.copy()
    if found is not None:
        for i, n in enumerate(joints):
            parent = index.get(above[i])
            if n in found[0]:
                reference[i] = found[0][n]
            elif parent is not None:  # held by its parent, as at rest
                reference[i] = reference[parent] @ np.linalg.inv(rest[parent]) @ rest[i]
    parents = [index.get(a, -1) for a in above]
    flat = np.abs(np.linalg.det(reference[:, :3, :3])) < 1e-18
    if flat.any() or not np.isfinite(reference).all() or not np.isfinite(rest).all():
        raise gltf.bad("skins", "expected joints with a size, got a scale of zero or no number")
    return _Rig(joints, parents, reference, rest), None if found is None else found[1]


def _line(nodes: Sequence[Node], node: int) -> list[int]:
    line = []
    while node >= 0:
        line.append(node)
        node = nodes[node].parent
    return line


def _bind_pose(
    gltf: Gltf, skins: Sequence[int], joints: Sequence[int], T_rest: np.ndarray
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]] | None:
    """T_world_joint of the joints, and T_world_mesh of the skins, where the skins were bound.

    The uppermost joint is taken to stand as at rest. None where skins do not agree.
    """
    where: dict[int, np.ndarray] = {}
    bound: dict[int, np.ndarray] = {}
    size = max(float(np.abs(T_rest[:, :3, 3]).max()), 1e-6)
    for skin in skins:
        listed = skin_joints(gltf, skin)
        inverse = inverse_binds(gltf, skin, len(listed))
        if inverse is None or (np.abs(np.linalg.det(inverse[:, :3, :3])) < 1e-18).any():
            return None
        first = min(range(len(listed)), key=lambda i: joints.index(listed[i]))
        bound[skin] = T_rest[listed[first]] @ inverse[first]
        for i, node in enumerate(listed):
            T = bound[skin] @ np.linalg.inv(inverse[i])
            if node in where and np.abs(where[node] - T)[:3, 3].max() > SAME * size:
                return None
            where.setdefault(node, T)
    return (where, bound) if skins else None


def inverse_binds(gltf: Gltf, skin: int, count: int) -> np.ndarray | None:
    """[J, 4, 4] T_joint_mesh of a skin; None where the file leaves them out."""
    entry = gltf.entries("skins")[skin]
    if "inverseBindMatrices" not in entry:
        return None
    place = f"skins[{skin}]: inverseBindMatrices"
    values = gltf.accessor(entry["inverseBindMatrices"], place, ("MAT4",))
    if len(values) < count:
        raise gltf.bad(place, f"expected {count} matrices, got {len(values)}")
    return values[:count].reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float64)


def _sliding(rig: _Rig, poses: Sequence[np.ndarray], still: float) -> list[bool]:
    """Whether each joint leaves its place in its parent's bone in any pose."""
    slides = [False] * len(rig.nodes)
    for T in poses:
        turns, places = _turns(rig, T)[0], _places(rig, T)
        for j, parent in enumerate(rig.parents):
            if parent >= 0:
                local = _local(turns, places, j, parent)
                offset = rig.reference[j, :3, 3] - rig.reference[parent, :3, 3]
                slides[j] |= bool(np.abs(local - offset).max() > still)
    return slides


def _places(rig: _Rig, T: np.ndarray) -> np.ndarray:
    """[F, J, 3]"""
    return T[:, :, :3, 3]


def _turns(rig: _Rig, T: np.ndarray) -> tuple[np.ndarray, float]:
    """R_body_bone [F, J, 3, 3] counted from the reference, and the largest change of size."""
    relative = T[:, :, :3, :3] @ np.linalg.inv(rig.reference[:, :3, :3])
    u, s, vt = np.linalg.svd(relative)
    sign = np.sign(np.linalg.det(u @ vt))
    u[..., 2] *= sign[..., None]
    return u @ vt, float(np.abs(s - 1.0).max())


def _local(turns: np.ndarray, places: np.ndarray, j: int, parent: int) -> np.ndarray:
    """[F, 3] a joint's place in its parent's bone."""
    return np.einsum("fba,fb->fa", turns[:, parent], places[:, j] - places[:, parent])


def _dofs(rig: _Rig, T: np.ndarray) -> tuple[np.ndarray, float]:
    """[F, D] dofs of a pose T_world_joint [F, J, 4, 4], and the largest change of size."""
    turns, stretch = _turns(rig, T)
    places = _places(rig, T)
    columns = []
    for j, parent in enumerate(rig.parents):
        if parent < 0:
            columns.append(places[:, j] - rig.reference[j, :3, 3])
            own = turns[:, j]
        else:
            if rig.slides[j]:
                offset = rig.reference[j, :3, 3] - rig.reference[parent, :3, 3]
                columns.append(_local(turns, places, j, parent) - offset)
            own = turns[:, parent].transpose(0, 2, 1) @ turns[:, j]
        columns.append(_angles(own))
    return np.concatenate(columns, 1), stretch


def _angles(turns: np.ndarray) -> np.ndarray:
    """[F, 3] angles about y, z, x; of the two ways to say each the one near the frame before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")  # any of the ways is as good there
        found = Rotation.from_matrix(turns).as_euler("YZX")
    other = np.stack([found[:, 0] + np.pi, np.pi - found[:, 1], found[:, 2] + np.pi], 1)
    angles = found.copy()
    for f in range(1, len(angles)):
        tries = np.stack([found[f], other[f]])
        tries += 2 * np.pi * np.round((angles[f - 1] - tries) / (2 * np.pi))
        angles[f] = tries[np.abs(tries - angles[f - 1]).sum(1).argmin()]
    return angles


# ---- records ----


def _names(wanted: Sequence[str]) -> list[str]:
    """Names for bones: no blank, no `_` (our joints' own mark), each once."""
    names: list[str] = []
    for name in wanted:
        base = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:48] or "bone"
        base = f"bone-{base}" if base.lower() == "none" else base
        new, n = base, 2
        while new in names:
            new, n = f"{base}-{n}", n + 1
        names.append(new)
    return names


def _file_name(name: str, taken: dict) -> str:
    base = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:64] or "motion"
    new, n = base, 2
    while new in taken:
        new, n = f"{base}_{n}", n + 1
    return new


def _skeleton(gltf: Gltf, rig: _Rig, names: Sequence[str]) -> Skeleton:
    joints: list[tuple[str, int, int, bool]] = []  # name, parent, axis, slides
    offsets: list[np.ndarray] = []
    last: list[int] = []
    dof_names: list[str] = []
    for j, name in enumerate(names):
        parent = rig.parents[j]
        is_root = parent < 0
        above = -1 if is_root else last[parent]
        offset = rig.reference[j, :3, 3] - (0.0 if is_root else rig.reference[parent, :3, 3])
        kinds = [(f"t{letter}", n, True) for n, letter in enumerate("xyz")]
        kinds = kinds if is_root or rig.slides[j] else []
        kinds += [("ry", 1, False), ("rz", 2, False), ("rx", 0, False)]
        for kind, axis, slides in kinds:
            joints.append((f"{name}_{kind}", above, axis, slides))
            offsets.append(offset)
            offset, above = np.zeros(3), len(joints) - 1
            root_name = f"{'translate' if slides else 'rotate'}_{kind[1]}"
            dof_names.append(root_name if is_root else f"{name}_{kind}")
        last.append(above)
    if len(joints) > MAX_JOINTS:
        raise gltf.bad("skins", f"expected at most {MAX_JOINTS // 3} joints, got {len(names)}")
    return Skeleton(
        joint_names=tuple(name for name, *_ in joints),
        parents=torch.tensor([parent for _, parent, *_ in joints]),
        is_prismatic=torch.tensor([slides for *_, slides in joints]),
        axes=torch.eye(3)[[axis for *_, axis, _ in joints]],
        offsets=torch.from_numpy(np.round(np.stack(offsets), 6)).float(),
        dof_names=tuple(dof_names),
        dof_limits=torch.tensor([-torch.inf, torch.inf]).expand(len(joints), 2).clone(),
        dof_matrix=torch.eye(len(joints)),
    )


def _skinning(
    owners: np.ndarray, weights: np.ndarray, names: Sequence[str], skeleton: Skeleton
) -> Skinning:
    last = {name.rpartition("_")[0]: j for j, name in enumerate(skeleton.joint_names)}
    return Skinning(
        bone_names=tuple(names),
        bone_joints=torch.tensor([last[name] for name in names]),
        bones=torch.from_numpy(owners),
        weights=torch.from_numpy(weights).float(),
    )


# ---- the mesh ----


def _mesh(
    gltf: Gltf,
    nodes: Sequence[Node],
    parts: Sequence[Part],
    rig: _Rig,
    T_rest: np.ndarray,
    bound: dict[int, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray, Soup, np.ndarray, np.ndarray]:
    """Welded vertices, faces, their paint, and each vertex's joints and weights, in file units."""
    places, owners, shares, faces, uvs, materials = [], [], [], [], [], []
    count = 0
    for part in parts:
        place, owner, share, is_mirrored = _placed(gltf, nodes, part, rig, T_rest, bound)
        places.append(place)
        owners.append(owner)
        shares.append(share)
        triangles = part.faces[:, [0, 2, 1]] if is_mirrored else part.faces
        faces.append(triangles + count)
        own = np.full((len(place), 2), np.nan) if part.uvs is None else part.uvs
        uvs.append(own[triangles])
        materials.append(np.full(len(triangles), part.material))
        count += len(place)
    position = np.concatenate(places)
    owner, share = np.concatenate(owners), np.concatenate(shares)
    size = float(np.ptp(position, axis=0).max()) + 1e-30
    key = np.concatenate([np.round(position / (WELD * size)), owner, np.round(share, 3)], axis=1)
    _, first, weld = np.unique(key, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # keep the file's order
    first, weld = np.sort(first), rank[weld.reshape(-1)]
    triangles = weld[np.concatenate(faces)]
    real = (np.diff(np.sort(triangles, 1), axis=1) > 0).all(1)
    triangles = triangles[real]
    used, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    first = first[used]
    soup = Soup(
        positions=position[first][triangles],
        uvs=np.concatenate(uvs)[real],
        materials=np.concatenate(materials)[real],
    )
    return position[first], triangles, soup, owner[first], share[first]


def _placed(
    gltf: Gltf,
    nodes: Sequence[Node],
    part: Part,
    rig: _Rig,
    T_rest: np.ndarray,
    bound: dict[int, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Vertices in the reference pose, joints [V, 8], weights [V, 8], whether inside is out."""
    index = {n: j for j, n in enumerate(rig.nodes)}
    if part.skin is None or part.joints is None or part.weights is None:
        joint = next((index[n] for n in _line(nodes, part.node) if n in index), None)
        T = T_rest[part.node]
        if joint is not None:
            T = rig.reference[joint] @ np.linalg.inv(rig.rest[joint]) @ T
        owner = np.full((len(part.positions), MAX_BONES), joint or 0)
        share = np.zeros(owner.shape)
        share[:, 0] = 1.0
        return _moved(part.positions, T), owner, share, bool(np.linalg.det(T[:3, :3]) < 0)
    owner, share = _heaviest(part.joints, part.weights, index)
    if bound is not None:
        T = bound[part.skin]
        return _moved(part.positions, T), owner, share, bool(np.linalg.det(T[:3, :3]) < 0)
    listed = skin_joints(gltf, part.skin)
    inverse = inverse_binds(gltf, part.skin, len(listed))
    by_joint = np.tile(np.eye(4), (len(rig.nodes), 1, 1))
    for i, node in enumerate(listed):
        by_joint[index[node]] = T_rest[node] @ (np.eye(4) if inverse is None else inverse[i])
    place = np.zeros(part.positions.shape)
    for k in range(MAX_BONES):
        T = by_joint[owner[:, k]]
        place += share[:, k, None] * (
            (T[:, :3, :3] @ part.positions[:, :, None])[..., 0] + T[:, :3, 3]
        )
    mirrored = np.linalg.det(by_joint[owner[:, 0], :3, :3]) < 0
    return place, owner, share, bool(mirrored.mean() > 0.5)


def _moved(points: np.ndarray, T: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]


def _heaviest(
    joints: np.ndarray, weights: np.ndarray, index: dict[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (of the rig) and weights [V, 8] by falling weight, summing to one, each joint once."""
    width = joints.shape[1]
    numbers = np.zeros(max(index) + 1, np.int64)
    for node, j in index.items():
        if node >= 0:
            numbers[node] = j
    joints = numbers[joints]
    weights = weights.copy()
    for k in range(width - 1, 0, -1):  # a joint named twice counts with its sum, once
        for other in range(k):
            same = (joints[:, k] == joints[:, other]) & (weights[:, k] > 0)
            weights[same, other] += weights[same, k]
            weights[same, k] = 0.0
    if width < MAX_BONES:
        joints = np.pad(joints, ((0, 0), (0, MAX_BONES - width)))
        weights = np.pad(weights, ((0, 0), (0, MAX_BONES - width)))
    order = np.argsort(-weights, axis=1, kind="stable")[:, :MAX_BONES]
    joints = np.take_along_axis(joints, order, 1)
    weights = np.take_along_axis(weights, order, 1)
    total = weights.sum(1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1.0), np.eye(MAX_BONES)[0])
    weights = np.where(weights < LIGHTEST, 0.0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    return np.where(weights > 0, joints, joints[:, :1]), weights
