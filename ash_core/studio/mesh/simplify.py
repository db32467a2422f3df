"""Simplify a surface by half-edge collapses: vertices are removed, the others do not move.

So every attribute of a vertex or corner (weights, texture coordinates) stays without blending.
"""

import heapq

import numpy as np

from ash_core.studio.mesh.surface import face_normals

NORMAL_TURN = 0.25
"""Smallest cosine between a face's normals before and after a collapse."""
FLATNESS = 0.10
"""Weight of edge length against the distance from the old surface: it evens out the spacing."""


def collapse(
    vertices: np.ndarray,
    faces: np.ndarray,
    corner_uvs: np.ndarray,
    importance: np.ndarray,
    locked: np.ndarray,
    keep_layout: np.ndarray,
    target: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Collapse the cheapest edges until `target` vertices are left.

    importance [V]: factor on a vertex's cost; locked [V]: may not vanish;
    keep_layout [F]: faces that may not turn over in the texture.
    Returns faces [F', 3] in the old numbering, their corner_uvs, and the ids of the faces kept.
    """
    # Working state: faces by vertex, error quadrics, and a version that outdates heap entries.
    faces, uvs = faces.copy(), corner_uvs.copy()
    alive = np.ones(len(faces), bool)
    fans: list[set[int]] = [set() for _ in vertices]
    for f, face in enumerate(faces.tolist()):
        for v in face:
            fans[v].add(f)
    quadrics = _quadrics(vertices, faces)
    version = np.zeros(len(vertices), np.int64)
    heap: list[tuple[float, int, int, int, int]] = []

    def neighbours(v: int) -> set[int]:
        return {int(w) for f in fans[v] for w in faces[f]} - {v}

    def push(a: int) -> None:
        """Queue the cheapest collapses of a."""
        if locked[a]:
            return
        for b in neighbours(a):
            point = np.append(vertices[b], 1.0)
            off = abs(float(point @ quadrics[a] @ point))
            length = float(((vertices[a] - vertices[b]) ** 2).sum())
            cost = importance[a] * (np.sqrt(off * length) + FLATNESS * length)
            heapq.heappush(heap, (cost, a, b, int(version[a]), int(version[b])))

    # Queue all collapses.
    for v in range(len(vertices)):
        if fans[v]:
            push(v)
    # Take the cheapest one that is current and keeps topology and shape.
    remaining = sum(1 for fan in fans if fan)
    while remaining > target and heap:
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if version[a] != version_a or version[b] != version_b or not fans[a] or not fans[b]:
            continue
        shared = fans[a] & fans[b]
        if len(shared) != 2 or len(neighbours(a) & neighbours(b)) != 2:
            continue
        moved = [f for f in fans[a] if f not in shared]
        if not _keeps_shape(vertices, faces, uvs, keep_layout, moved, shared, a, b):
            continue
        uv_b = next(uvs[f, list(faces[f]).index(b)] for f in shared)
        # Remove the faces on the edge; move the others from a to b.
        for f in shared:
            alive[f] = False
            for v in faces[f]:
                fans[v].discard(f)
        for f in moved:
            k = list(faces[f]).index(a)
            faces[f, k], uvs[f, k] = b, uv_b
            fans[b].add(f)
        fans[a].clear()
        # Update costs around b.
        quadrics[b] = quadrics[b] + quadrics[a]
        remaining -= 1
        version[a] += 1
        version[b] += 1
        push(b)
        for v in neighbours(b):
            version[v] += 1
            push(v)
    ids = np.flatnonzero(alive)
    return faces[ids], uvs[ids], ids


def _quadrics(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return mean squared distances to the planes around each vertex, weighted by area: [V, 4,
    4]."""
    normals = face_normals(vertices, faces)
    area = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.maximum(area, 1e-16)
    planes = np.concatenate(
        [normals, -(normals * vertices[faces[:, 0]]).sum(1, keepdims=True)], axis=1
    )
    outer = planes[:, :, None] * planes[:, None, :]
    quadrics = np.zeros((len(vertices), 4, 4))
    for k in range(3):
        np.add.at(quadrics, faces[:, k], outer / 6.0)
    return quadrics


def _keeps_shape(vertices, faces, uvs, keep_layout, moved, shared, a: int, b: int) -> bool:
    """Check that no face turns over, on the surface or in the texture, and none becomes a
    sliver."""
    uv_b = next(uvs[f, list(faces[f]).index(b)] for f in shared)
    for f in moved:
        face = list(faces[f])
        k = face.index(a)
        old, new = vertices[face], vertices[face].copy()
        new[k] = vertices[b]
        n_old = np.cross(old[1] - old[0], old[2] - old[0])
        n_new = np.cross(new[1] - new[0], new[2] - new[0])
        size = np.linalg.norm(n_new)
        if n_old @ n_new <= NORMAL_TURN * np.linalg.norm(n_old) * size:
            return False
        longest = max(((new[i] - new[i - 1]) ** 2).sum() for i in range(3))
        if size < 0.12 * longest:
            return False
        uv_old, uv_new = uvs[f], uvs[f].copy()
        uv_new[k] = uv_b
        if keep_layout[f] and _cross2(uv_old) * _cross2(uv_new) <= 0:
            return False
    return True


def _cross2(uv: np.ndarray) -> float:
    e, g = uv[1] - uv[0], uv[2] - uv[0]
    return float(e[0] * g[1] - e[1] * g[0])
