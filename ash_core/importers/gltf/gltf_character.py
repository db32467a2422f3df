"""A rigged glTF character as one of ours: template, skeleton of one-degree joints, skin, motions.

A glTF joint becomes a bone of three turns (about y, z, x). Three slides come before them at the
root, and at other joints only if an animation moves them. With all dofs zero the character stands
as its skin was bound: every joint's turn is relative to that pose.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ash_core.conventions import FPS
from ash_core.files.gltf import Gltf, Node, open_gltf
from ash_core.files.skeletool import MAX_JOINTS
from ash_core.importers.body.euler import euler_angles
from ash_core.importers.gltf.gltf_atlas import make_atlas
from ash_core.importers.gltf.gltf_mesh import MAX_VERTICES, read_materials, read_parts
from ash_core.importers.gltf.gltf_motion import Animation, read_animations, world
from ash_core.importers.gltf.gltf_rig import Rig, check_binds, find_rig
from ash_core.importers.gltf.gltf_surface import weld_parts, without_transparent
from ash_core.importers.gltf.gltf_traits import atlas_fact, paint_notes, rest_fact
from ash_core.importers.gltf.gltf_vrm import vrm_notes
from ash_core.records import Skeleton, Skinning
from ash_core.studio.actor.actor import Actor, write_actor
from ash_core.studio.mesh.graph import make_graph

STILL = 1e-4
"""Share of the size that a joint may slide and still count as turning only."""
USUAL_HEIGHT_M = (0.3, 3.0)


@dataclass(frozen=True)
class Imported:
    """Character, facts about it, and notes on losses."""

    actor: Actor
    facts: tuple[str, ...]
    notes: tuple[str, ...]


def import_gltf(path: Path | str, out: Path, scale: float = 1.0, fps: float = FPS) -> Imported:
    """Read a `.glb` or `.gltf` and write the published formats to a folder."""
    imported = read_gltf_character(path, scale, fps)
    (out / "motions").mkdir(parents=True, exist_ok=True)
    write_actor(out, imported.actor, "character")
    return imported


def read_gltf_character(path: Path | str, scale: float = 1.0, fps: float = FPS) -> Imported:
    """Convert a glTF character without writing files. scale: metres per unit of the file."""
    gltf = open_gltf(path)
    try:
        return _read(gltf, scale, fps)
    except np.linalg.LinAlgError:
        raise gltf.bad("nodes", "expected transforms with an inverse, got a flat one") from None


def _read(gltf: Gltf, scale: float, fps: float) -> Imported:
    # Read the parts, skins and materials.
    nodes, order = gltf.nodes()
    parts, notes = read_parts(gltf, nodes, order)
    animations = read_animations(gltf, nodes, fps)
    notes += vrm_notes(gltf)
    if any(animation.has_morphs for animation in animations):
        notes.append("animated morph targets are not carried over")
    materials = read_materials(gltf, sorted({part.material for part in parts}))
    T_rest = _world(gltf, nodes, order)[0]
    notes += check_binds(gltf, nodes, parts)
    rig, bound = find_rig(gltf, nodes, order, parts, T_rest, animations)
    if all(part.skin is None for part in parts):
        notes.append("no skin: each mesh moves stiffly with its node")

    # Weld the surface, m, without transparent triangles.
    mesh = weld_parts(gltf, nodes, parts, rig, T_rest, bound)
    mesh, left_out = without_transparent(mesh, materials)
    notes += left_out
    soup = replace(mesh.soup, positions=mesh.soup.positions * scale)
    vertices, faces = mesh.vertices * scale, mesh.faces
    size = _check_size(gltf, vertices)

    # Build the joints, and the animations in their dofs.
    posed = {}
    for animation in animations:
        T = _world(gltf, nodes, order, animation)
        still = np.broadcast_to(np.eye(4), (len(T), 1, 4, 4))  # a root that is no joint
        posed[animation.name] = np.concatenate([T, still], 1)[:, rig.nodes]
    grow = np.diag([scale, scale, scale, 1.0])
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

    # Paint the atlas.
    atlas = make_atlas(soup, materials)
    notes += paint_notes(soup, materials, atlas)
    # Measure the height: unusual ones are reported.
    height = float(np.ptp(vertices[:, 1]))
    low, high = USUAL_HEIGHT_M
    if not low <= height <= high:
        notes.append(
            f"the character is {height:.3g} m high; if that is not meant, give --scale, "
            f"e.g. {scale * 1.7 / max(height, 1e-9):.3g} for 1.7 m"
        )
    # Assemble the character.
    graph_nodes, graph_faces = make_graph(vertices, faces)
    actor = Actor(
        vertices=vertices,
        faces=faces,
        corner_uvs=atlas.corner_uvs,
        texture=atlas.texture,
        skeleton=skeleton,
        skinning=_skinning(mesh.owners, mesh.weights, names, skeleton),
        graph_nodes=graph_nodes,
        graph_faces=graph_faces,
        hands=np.zeros(len(vertices), bool),
        motions=motions,
    )
    return Imported(actor, (rest_fact(gltf, nodes, rig), atlas_fact(atlas)), tuple(notes))


def _check_size(gltf: Gltf, vertices: np.ndarray) -> float:
    """Measure the character's size, m; refuse an impossible one."""
    if len(vertices) > MAX_VERTICES:
        raise gltf.bad("meshes", f"expected at most {MAX_VERTICES} vertices, got {len(vertices)}")
    if len(vertices) < 3:
        raise gltf.bad("meshes", f"expected three vertices that differ, got {len(vertices)}")
    size = float(np.ptp(vertices, axis=0).max())
    if not 1e-6 < size < 1e6:
        raise gltf.bad("meshes", f"expected a character with a size in m, got {size:g}")
    return size


def _world(
    gltf: Gltf, nodes: Sequence[Node], order: Sequence[int], animation: Animation | None = None
) -> np.ndarray:
    T = world(nodes, order, animation)
    if not (np.abs(T) < 1e12).all():
        raise gltf.bad("nodes", "expected places and sizes below 1e12")
    return T


# ---- joints ----


def _sliding(rig: Rig, poses: Sequence[np.ndarray], still: float) -> list[bool]:
    """Return whether each joint moves within its parent's bone in any pose."""
    slides = [False] * len(rig.nodes)
    for T in poses:
        turns, places = _turns(rig, T)[0], _places(rig, T)
        for j, parent in enumerate(rig.parents):
            if parent >= 0:
                local = _local(turns, places, j, parent)
                offset = rig.reference[j, :3, 3] - rig.reference[parent, :3, 3]
                slides[j] |= bool(np.abs(local - offset).max() > still)
    return slides


def _places(rig: Rig, T: np.ndarray) -> np.ndarray:
    """Return the joints' places [F, J, 3]."""
    return T[:, :, :3, 3]


def _turns(rig: Rig, T: np.ndarray) -> tuple[np.ndarray, float]:
    """Return R_body_bone [F, J, 3, 3] relative to the reference, and the largest change of size."""
    relative = T[:, :, :3, :3] @ np.linalg.inv(rig.reference[:, :3, :3])
    u, s, vt = np.linalg.svd(relative)
    sign = np.sign(np.linalg.det(u @ vt))
    u[..., 2] *= sign[..., None]
    return u @ vt, float(np.abs(s - 1.0).max())


def _local(turns: np.ndarray, places: np.ndarray, j: int, parent: int) -> np.ndarray:
    """Return a joint's place [F, 3] in its parent's bone."""
    return np.einsum("fba,fb->fa", turns[:, parent], places[:, j] - places[:, parent])


def _dofs(rig: Rig, T: np.ndarray) -> tuple[np.ndarray, float]:
    """Solve the dofs [F, D] of a pose T_world_joint [F, J, 4, 4], and the largest change of
    size."""
    turns, stretch = _turns(rig, T)
    places = _places(rig, T)
    own = turns.copy()
    for j, parent in enumerate(rig.parents):
        if parent >= 0:
            own[:, j] = turns[:, parent].transpose(0, 2, 1) @ turns[:, j]
    angles = euler_angles(own, "YZX")
    columns = []
    for j, parent in enumerate(rig.parents):
        if parent < 0:
            columns.append(places[:, j] - rig.reference[j, :3, 3])
        elif rig.slides[j]:
            offset = rig.reference[j, :3, 3] - rig.reference[parent, :3, 3]
            columns.append(_local(turns, places, j, parent) - offset)
        columns.append(angles[:, j])
    return np.concatenate(columns, 1), stretch


# ---- records ----


def _names(labels: Sequence[str]) -> list[str]:
    """Make names for bones: no blank, no `_` (our joints' own mark), each once."""
    names: list[str] = []
    for name in labels:
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


def _skeleton(gltf: Gltf, rig: Rig, names: Sequence[str]) -> Skeleton:
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
