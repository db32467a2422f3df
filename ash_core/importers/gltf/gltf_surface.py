"""All parts of a glTF character as one welded surface, in its bind pose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ash_core.files.gltf import Gltf, Node
from ash_core.files.io import show
from ash_core.importers.gltf.gltf_mesh import MAX_BONES, Part, skin_joints
from ash_core.importers.gltf.gltf_paint import Material, Soup, opaque_share
from ash_core.importers.gltf.gltf_rig import Rig, ancestors, inverse_binds

WELD = 1e-5
"""Share of the size within which vertices are welded."""
LIGHTEST = 1e-3
"""Smallest weight that is kept."""
TRANSPARENT = 0.5
"""Visible share of a triangle from which it is kept."""


@dataclass(frozen=True)
class Mesh:
    """All parts as one mesh: welded vertices, in file units."""

    vertices: np.ndarray
    faces: np.ndarray
    soup: Soup
    owners: np.ndarray
    """Joints [V, 8]."""
    weights: np.ndarray

    def only(self, faces: np.ndarray) -> "Mesh":
        """Select some of its faces by a mask, and the vertices that they use."""
        used, local = np.unique(self.faces[faces], return_inverse=True)
        soup = self.soup
        return Mesh(
            vertices=self.vertices[used],
            faces=local.reshape(-1, 3),
            soup=Soup(
                soup.positions[faces],
                soup.uvs[faces],
                soup.materials[faces],
                None if soup.colours is None else soup.colours[faces],
            ),
            owners=self.owners[used],
            weights=self.weights[used],
        )


def weld_parts(
    gltf: Gltf,
    nodes: Sequence[Node],
    parts: Sequence[Part],
    rig: Rig,
    T_rest: np.ndarray,
    bound: dict[int, np.ndarray] | None,
) -> Mesh:
    """Weld the parts' vertices; triangles without a size are dropped."""
    # Concatenate vertices and triangles of all parts.
    places, owners, shares, faces, uvs, colours, materials = [], [], [], [], [], [], []
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
        tint = np.ones((len(place), 4)) if part.colours is None else part.colours
        colours.append(tint[triangles])
        materials.append(np.full(len(triangles), part.material))
        count += len(place)
    # Weld vertices of one place and one skinning.
    position = np.concatenate(places)
    owner, share = np.concatenate(owners), np.concatenate(shares)
    size = float(np.ptp(position, axis=0).max()) + 1e-30
    key = np.concatenate([np.round(position / (WELD * size)), owner, np.round(share, 3)], axis=1)
    _, first, weld = np.unique(key, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # keep the file's order
    first, weld = np.sort(first), rank[weld.reshape(-1)]
    # Build the welded mesh; paint stays with the triangles' corners.
    triangles = weld[np.concatenate(faces)]
    has_colours = any(part.colours is not None for part in parts)
    soup = Soup(
        positions=position[first][triangles],
        uvs=np.concatenate(uvs),
        materials=np.concatenate(materials),
        colours=np.concatenate(colours) if has_colours else None,
    )
    mesh = Mesh(position[first], triangles, soup, owner[first], share[first])
    return mesh.only(np.asarray((np.diff(np.sort(triangles, 1), axis=1) > 0).all(1)))


def without_transparent(mesh: Mesh, materials: Sequence[Material]) -> tuple[Mesh, list[str]]:
    """Drop the triangles that are mostly transparent, since Gaussians are opaque; return notes
    too."""
    soup = mesh.soup
    normals = np.cross(
        soup.positions[:, 1] - soup.positions[:, 0], soup.positions[:, 2] - soup.positions[:, 0]
    )
    area = np.linalg.norm(normals, axis=1)
    dropped = opaque_share(soup, list(materials)) < TRANSPARENT
    notes = []
    for m in np.unique(soup.materials).tolist():
        mode, own = materials[m].alpha_mode, soup.materials == m
        if mode == "OPAQUE":
            continue
        name, removed = show(materials[m].name), dropped & own
        kind = "masked" if mode == "MASK" else "blended"
        if mode == "BLEND" and area[removed].sum() > 0.5 * area.sum():
            dropped &= ~own
            notes.append(
                f"{name} is {kind} and most of the character transparent: drawn opaque here"
            )
            continue
        notes.append(
            f"{name} is {kind} (alpha): {removed.sum()} of {own.sum()} triangles are mostly "
            "transparent and left out, the others opaque"
        )
    return (mesh.only(~dropped) if dropped.any() else mesh), notes


def _placed(
    gltf: Gltf,
    nodes: Sequence[Node],
    part: Part,
    rig: Rig,
    T_rest: np.ndarray,
    bound: dict[int, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Return vertices in the reference pose, joints [V, 8], weights [V, 8], whether inside is
    out."""
    index = {n: j for j, n in enumerate(rig.nodes)}
    if part.skin is None or part.joints is None or part.weights is None:
        joint = next((index[n] for n in ancestors(nodes, part.node) if n in index), None)
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
    """Return joints (of the rig) and weights [V, 8], descending, summing to one, each joint
    once."""
    width = joints.shape[1]
    numbers = np.zeros(max(index) + 1, np.int64)
    for node, j in index.items():
        if node >= 0:
            numbers[node] = j
    joints = numbers[joints]
    weights = weights.copy()
    for k in range(width - 1, 0, -1):  # a repeated joint counts once, with its sum
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
