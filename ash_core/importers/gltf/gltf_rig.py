"""Nodes of a glTF scene that move its meshes, and the pose in which the skins were bound."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ash_core.files.gltf import Gltf, Node
from ash_core.files.io import show
from ash_core.importers.gltf.gltf_mesh import Part, skin_joints
from ash_core.importers.gltf.gltf_vrm import human_bones

SAME = 1e-3
"""Share of the character's size within which two poses are the same."""
SINGULAR = 1e-9
"""Ratio of a matrix's determinant to the product of its axes' lengths, below which it is flat."""
_BODY = -1
"""Placeholder of a node: the body, which no joint moves."""


@dataclass
class Rig:
    """Joints by node, parents first; None stands for a root that is not a joint."""

    nodes: list[int]
    parents: list[int]
    """Indices into `nodes`."""
    reference: np.ndarray
    """Pose of the template: T_world_joint [J, 4, 4]."""
    rest: np.ndarray
    """Pose of the scene at rest [J, 4, 4]."""
    slides: list[bool] = field(default_factory=list)


def find_rig(
    gltf: Gltf,
    nodes: Sequence[Node],
    order: Sequence[int],
    parts: Sequence[Part],
    T_rest: np.ndarray,
    animations: Sequence,
) -> tuple[Rig, dict[int, np.ndarray] | None]:
    """Find the joints, and T_world_mesh of each skin's bind pose (None: rest, node by node)."""
    # Collect joints of the skins, and animated nodes of meshes without a joint.
    skins = sorted({part.skin for part in parts if part.skin is not None})
    bones = {node for skin in skins for node in skin_joints(gltf, skin)}
    moved = {node for animation in animations for node, _ in animation.tracks}
    for part in parts:
        if part.skin is None:
            line = ancestors(nodes, part.node)
            if not bones & set(line) and moved & set(line):
                bones.add(part.node)
    if not bones:  # some VRM avatars have rigid parts
        bones = set(human_bones(gltf).values()) & set(order)
    if not bones:
        text = "expected a rigged character, got meshes that no skin and no animation moves"
        raise gltf.bad("skins", f"{text}; bind them to a skeleton and export again")
    unreached = bones - set(order)
    if unreached:
        raise gltf.bad("skins", f"expected joints in the scene, got node {min(unreached)} outside")

    # Build one tree, parents first.
    joints = [n for n in order if n in bones]
    above = [next((a for a in ancestors(nodes, n)[1:] if a in bones), _BODY) for n in joints]
    if above.count(_BODY) != 1:
        joints, above = [_BODY, *joints], [_BODY - 1, *above]
    index = {n: i for i, n in enumerate(joints)}

    # Find the pose in which the skins were bound; joints without a skin stand as at rest.
    rest = np.stack([T_rest[n] if n >= 0 else np.eye(4) for n in joints])
    bind_pose = _bind_pose(gltf, skins, joints, T_rest)
    reference = rest.copy()
    if bind_pose is not None:
        for i, n in enumerate(joints):
            parent = index.get(above[i])
            if n in bind_pose[0]:
                reference[i] = bind_pose[0][n]
            elif parent is not None:  # held by its parent, as at rest
                reference[i] = reference[parent] @ np.linalg.inv(rest[parent]) @ rest[i]
    parents = [index.get(a, -1) for a in above]
    flat = np.abs(np.linalg.det(reference[:, :3, :3])) < 1e-18
    if flat.any() or not np.isfinite(reference).all() or not np.isfinite(rest).all():
        raise gltf.bad("skins", "expected joints with a size, got a scale of zero or no number")
    return Rig(joints, parents, reference, rest), None if bind_pose is None else bind_pose[1]


def ancestors(nodes: Sequence[Node], node: int) -> list[int]:
    """List a node, its parent, and so on up to the root."""
    line = []
    while node >= 0:
        line.append(node)
        node = nodes[node].parent
    return line


def _bind_pose(
    gltf: Gltf, skins: Sequence[int], joints: Sequence[int], T_rest: np.ndarray
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]] | None:
    """Return T_world_joint of the joints, and T_world_mesh of the skins, in the bind pose.

    The uppermost joint is taken to stand as at rest. None if the skins disagree.
    """
    where: dict[int, np.ndarray] = {}
    bound: dict[int, np.ndarray] = {}
    size = max(float(np.abs(T_rest[:, :3, 3]).max()), 1e-6)
    for skin in skins:
        listed = skin_joints(gltf, skin)
        inverse = inverse_binds(gltf, skin, len(listed))
        if inverse is None:
            return None
        usable = np.flatnonzero(~is_flat(inverse)).tolist()
        first = min(usable, key=lambda i: joints.index(listed[i]))
        bound[skin] = T_rest[listed[first]] @ inverse[first]
        for i in usable:
            node = listed[i]
            T = bound[skin] @ np.linalg.inv(inverse[i])
            if node in where and np.abs(where[node] - T)[:3, 3].max() > SAME * size:
                return None
            where.setdefault(node, T)
    return (where, bound) if skins else None


def check_binds(gltf: Gltf, nodes: Sequence[Node], parts: Sequence[Part]) -> list[str]:
    """Refuse inverse bind matrices that vertices use and have no inverse; else return a note."""
    notes = []
    for skin in sorted({part.skin for part in parts if part.skin is not None}):
        listed = skin_joints(gltf, skin)
        inverse = inverse_binds(gltf, skin, len(listed))
        if inverse is None:
            continue
        flat = set(np.array(listed)[is_flat(inverse)].tolist())
        used = {
            int(node)
            for part in parts
            if part.skin == skin and part.joints is not None and part.weights is not None
            for node in np.unique(part.joints[part.weights > 0])
        }
        place = f"skins[{skin}]: inverseBindMatrices"
        for node in listed:
            if node in flat & used or flat.issuperset(listed):
                text = "expected matrices with an inverse, got a flat one for the joint"
                raise gltf.bad(place, f"{text} {show(nodes[node].name)}")
        if flat:
            notes.append(
                f"{len(flat)} joints that move no vertex have a flat inverse bind matrix: "
                "they stand as at rest"
            )
    return notes


def is_flat(matrices: np.ndarray) -> np.ndarray:
    """Return which transforms [J, 4, 4] have no inverse: [J]."""
    axes = np.linalg.norm(matrices[:, :3, :3], axis=1).prod(1)
    return ~(np.abs(np.linalg.det(matrices[:, :3, :3])) > SINGULAR * axes)


def inverse_binds(gltf: Gltf, skin: int, count: int) -> np.ndarray | None:
    """Return T_joint_mesh [J, 4, 4] of a skin; None if the file leaves them out."""
    entry = gltf.entries("skins")[skin]
    if "inverseBindMatrices" not in entry:
        return None
    place = f"skins[{skin}]: inverseBindMatrices"
    values = gltf.accessor(entry["inverseBindMatrices"], place, ("MAT4",))
    if len(values) < count:
        raise gltf.bad(place, f"expected {count} matrices, got {len(values)}")
    return values[:count].reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float64)
