"""Charts: cut a surface into discs and flatten each with little stretch and no fold.

Source: Rabinovich et al. 2017, "Scalable Locally Injective Mappings" (symmetric Dirichlet energy).
"""

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph
import scipy.sparse.linalg as spla

from ash_core.studio.mesh.surface import boundary_loops, edges_of

ITERATIONS = 25
LOOSE = 0.01
"""Weight of the faces across a chart's holes against its own."""
SLIVER = 1e-4
"""Smallest face across a hole, as a share of a chart's mean face; below it the hole is shut."""


@dataclass(frozen=True)
class Chart:
    """Disc-shaped piece of the surface."""

    faces: np.ndarray
    """Faces of the surface [T]."""
    local: np.ndarray
    """Corners of the faces [T, 3] as the chart's own vertices."""
    vertices: np.ndarray
    """Vertices of the surface [n] by the chart's own."""
    flat: np.ndarray
    """[n, 2]"""


def cut_charts(
    faces: np.ndarray, corner_uvs: np.ndarray, labels: np.ndarray, free: set[int]
) -> list[Chart]:
    """Cut one chart per label, also along the seams of `corner_uvs`, except for labels in `free`.

    A tube of a free label is opened along the shortest path between its ends; its first layout is a
    circle. The others start from their corner_uvs.
    """
    charts = []
    for label in np.unique(labels):
        ids = np.flatnonzero(labels == label)
        if label in free:
            local, vertices = _open_tube(faces[ids])
            flat = tutte(local, len(vertices))
        else:
            keys = np.concatenate(
                [faces[ids].reshape(-1, 1), np.round(corner_uvs[ids].reshape(-1, 2) * 1e6)], axis=1
            )
            unique, first, local = np.unique(
                keys.astype(np.int64), axis=0, return_index=True, return_inverse=True
            )
            local, vertices = local.reshape(-1, 3), unique[:, 0]
            flat = corner_uvs[ids].reshape(-1, 2)[first]
        charts.append(Chart(ids, local, vertices, flat))
    return charts


def clean_labels(faces: np.ndarray, labels: np.ndarray, rounds: int = 6) -> np.ndarray:
    """Remove teeth and islands of the borders: each label one piece, each face with its
    majority."""
    labels = labels.copy()
    neighbours = _face_neighbours(faces)
    names = np.unique(labels)
    for _ in range(rounds):
        for f, near in enumerate(neighbours):
            labels_near = labels[near]
            for name in np.unique(labels_near):
                if name != labels[f] and (labels_near == name).sum() >= 2:
                    labels[f] = name
        for name in names:
            inside = np.flatnonzero(labels == name)
            position = {int(f): i for i, f in enumerate(inside)}
            pairs = [
                (position[int(f)], position[g])
                for f in inside
                for g in neighbours[f]
                if g in position
            ]
            graph = sp.coo_matrix(
                (np.ones(len(pairs)), np.array(pairs).T), (len(inside), len(inside))
            )
            _, piece = csgraph.connected_components(graph, directed=False)
            keep = np.bincount(piece).argmax()
            for f in inside[piece != keep]:
                others = [labels[g] for g in neighbours[f] if labels[g] != name]
                if others:
                    labels[f] = others[0]
    return labels


def _face_neighbours(faces: np.ndarray) -> list[list[int]]:
    across: dict[tuple[int, int], list[int]] = {}
    for f, (a, b, c) in enumerate(faces.tolist()):
        for edge in ((a, b), (b, c), (c, a)):
            across.setdefault((min(edge), max(edge)), []).append(f)
    neighbours: list[list[int]] = [[] for _ in faces]
    for pair in across.values():
        for f in pair:
            neighbours[f] += [g for g in pair if g != f]
    return neighbours


def _open_tube(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number a tube's own vertices, with a cut along edges between its ends (none for a disc)."""
    vertices, local = np.unique(faces, return_inverse=True)
    local = local.reshape(-1, 3)
    loops = boundary_loops(local)
    assert len(loops) in (1, 2), len(loops)
    if len(loops) == 1:
        return local, vertices
    edges = edges_of(local)
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), (len(vertices),) * 2).tocsr()
    start = int(loops[0].min())
    distance, before = csgraph.dijkstra(graph, False, start, return_predecessors=True)
    path = [int(loops[1][np.argmin(distance[loops[1]])])]
    while path[-1] not in loops[0]:
        path.append(int(before[path[-1]]))
    return _split_along(local, path), np.concatenate([vertices, vertices[path]])


def _split_along(local: np.ndarray, path: list[int]) -> np.ndarray:
    """Give the faces on one side of a path their own copies of its vertices."""
    corner_of = {tuple(edge): f for f, face in enumerate(local.tolist())
                 for edge in zip(face, face[1:] + face[:1], strict=True)}  # fmt: skip
    cut = {(a, b) for a, b in itertools.pairwise(path)}
    cut |= {(b, a) for a, b in cut}
    count = int(local.max()) + 1
    split = local.copy()
    for i, vertex in enumerate(path):
        # Walk around the vertex from the path's left side to a border or the path again.
        ahead = path[i + 1] if i + 1 < len(path) else path[i - 1]
        seed = corner_of[(vertex, ahead)] if i + 1 < len(path) else corner_of[(ahead, vertex)]
        for f in _fan(local, corner_of, vertex, seed, cut):
            split[f, list(local[f]).index(vertex)] = count + i
    return split


def _fan(local, corner_of, vertex: int, seed: int, cut: set) -> list[int]:
    """List the faces at a vertex that are reachable from one of them without crossing a cut."""
    fan, todo = [], [seed]
    while todo:
        f = todo.pop()
        if f in fan:
            continue
        fan.append(f)
        face = list(local[f])
        k = face.index(vertex)
        for a, b in ((vertex, face[(k + 1) % 3]), (face[k - 1], vertex)):
            if (a, b) not in cut and (b, a) in corner_of:
                todo.append(corner_of[(b, a)])
    return fan


def tutte(local: np.ndarray, n: int) -> np.ndarray:
    """Put the border on a circle, every other vertex at its neighbours' mean: no face folds
    over."""
    (loop,) = boundary_loops(local)
    angle = 2 * np.pi * np.arange(len(loop)) / len(loop)
    edges = edges_of(local)
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sp.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (n, n))
    laplacian = sp.csr_matrix(sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency)
    inner = np.setdiff1d(np.arange(n), loop)
    flat = np.zeros((n, 2))
    flat[loop] = np.stack([np.cos(angle), np.sin(angle)], 1)
    right = -laplacian[inner][:, loop] @ flat[loop]
    flat[inner] = np.asarray(spla.spsolve(laplacian[inner][:, inner].tocsc(), right)).reshape(-1, 2)
    return flat


def flatten(points: np.ndarray, chart: Chart, density: np.ndarray) -> np.ndarray:
    """Flatten to a layout [n, 2] (m times density) as close to isometric as the shape allows.

    points [n, 3]: the chart's vertices, m; density [T]: target length in the layout per length.
    """
    local = chart.local
    gradients, area = _gradients(points, local, density)
    flat = chart.flat.copy()
    flat *= np.sqrt(area.sum() / np.abs(_areas(flat, local)).sum())
    if _areas(flat, local).min() <= 0:  # an opened tube has no initial layout
        flat = tutte(local, len(flat)) * np.sqrt(area.sum() / np.pi)
    # Loose faces across the holes keep their borders from crossing.
    if len(loose := _fill_holes(local, flat)):
        places = np.concatenate([flat, np.zeros((len(flat), 1))], 1)
        more, size = _gradients(places, loose, np.ones(len(loose)))
        local, gradients = np.concatenate([local, loose]), np.concatenate([gradients, more])
        area = np.concatenate([area, LOOSE * size])
    energy = _energy(flat, local, gradients, area)
    for _ in range(ITERATIONS):
        step = _slim_target(flat, local, gradients, area) - flat
        size = min(1.0, 0.9 * _largest_step(flat, step, local))
        while size > 1e-6:
            trial = _energy(flat + size * step, local, gradients, area)
            if trial < energy:
                break
            size *= 0.5
        else:
            break
        flat = flat + size * step
        gained, energy = energy - trial, trial
        if gained < 1e-4 * energy:
            break
    return flat


def _fill_holes(local: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """List faces [n, 3] that fill a layout's holes: clip the polygons' ears."""
    faces: list[tuple[int, int, int]] = []
    for loop in boundary_loops(local):
        ring = loop[::-1].tolist()
        x, y = flat[ring].T
        if (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() <= 0:  # the outer border
            continue
        filled = _clip_ears(ring, flat)
        smallest = SLIVER * _areas(flat, local).mean()
        if filled and _areas(flat, np.array(filled)).min() > smallest:
            faces += filled
    return np.array(faces, np.int64).reshape(-1, 3)


def _clip_ears(ring: list[int], flat: np.ndarray) -> list[tuple[int, int, int]]:
    """Triangulate a simple anticlockwise polygon; no faces if it crosses itself."""
    ring, faces = list(ring), []
    while len(ring) > 3:
        best = None
        for k in range(len(ring)):
            ear = np.array([ring[k - 1], ring[k], ring[(k + 1) % len(ring)]])
            size = _areas(flat, ear[None])[0]
            if size <= 0:
                continue
            others = [v for v in ring if v not in ear]
            sides = [
                _areas(flat, np.array([[ear[i], ear[i - 2], v] for v in others])) for i in range(3)
            ]
            if (np.min(sides, axis=0) >= 0).any():
                continue
            # The roundest ear first, against slivers.
            edges = flat[ear] - flat[np.roll(ear, 1)]
            shape = size / (edges**2).sum()
            if best is None or shape > best[0]:
                best = (shape, k, ear)
        if best is None:
            return []
        faces.append(tuple(best[2].tolist()))
        del ring[best[1]]
    return [*faces, (ring[0], ring[1], ring[2])]


def _gradients(
    points: np.ndarray, local: np.ndarray, density: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return derivatives [T, (x, y), corner] in each face's own frame, and its target area [T]."""
    a, b, c = (points[local[:, k]] for k in range(3))
    length = np.linalg.norm(b - a, axis=1)
    ex = (b - a) / length[:, None]
    normal = np.cross(b - a, c - a)
    doubled = np.linalg.norm(normal, axis=1)
    ey = np.cross(normal / doubled[:, None], ex)
    xb, xc, yc = length * density, ((c - a) * ex).sum(1) * density, ((c - a) * ey).sum(1) * density
    twice = xb * yc
    ddx = np.stack([-yc, yc, np.zeros_like(yc)], 1) / twice[:, None]
    ddy = np.stack([xc - xb, -xc, xb], 1) / twice[:, None]
    return np.stack([ddx, ddy], 1), twice / 2


def _jacobians(flat: np.ndarray, local: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return flat[local].transpose(0, 2, 1) @ gradients.transpose(0, 2, 1)  # [T, (u, v), (x, y)]


def _energy(flat: np.ndarray, local: np.ndarray, gradients: np.ndarray, area: np.ndarray) -> float:
    jac = _jacobians(flat, local, gradients)
    det = np.linalg.det(jac)
    if det.min() <= 0:
        return np.inf
    return float(area @ ((jac**2).sum((1, 2)) * (1.0 + 1.0 / det**2)))


def _slim_target(
    flat: np.ndarray, local: np.ndarray, gradients: np.ndarray, area: np.ndarray
) -> np.ndarray:
    """Solve the weighted least-squares problem that replaces the energy around `flat`."""
    # Nearest rotation of each face, and the weights [T, 2, 2] of its differences from it.
    u, sigma, vt = np.linalg.svd(_jacobians(flat, local, gradients))
    flip = np.linalg.det(u @ vt) < 0
    u[flip, :, 1] *= -1
    sigma[flip, 1] *= -1
    rotation = u @ vt
    sigma = np.where(np.abs(sigma - 1) < 1e-4, 1 + 1e-4, sigma)
    push = np.sqrt(np.maximum((sigma - sigma**-3) / (sigma - 1), 1e-8))
    weight = u @ (push[:, :, None] * u.transpose(0, 2, 1))
    # Normal equations, face by face: [T, (u, v), corner] in both directions.
    square = weight.transpose(0, 2, 1) @ weight * area[:, None, None]
    among = gradients.transpose(0, 2, 1) @ gradients
    blocks = square[:, :, None, :, None] * among[:, None, :, None, :]
    right = (square @ rotation @ gradients).reshape(-1)
    # Unknowns: u of all vertices, then v.
    n = len(flat)
    places = (local[:, None, :] + n * np.arange(2)[:, None]).reshape(-1, 6)
    rows, columns = np.repeat(places, 6, axis=1).ravel(), np.tile(places, (1, 6)).ravel()
    keep = 1e-4 * area.sum() / n
    normal = sp.csc_matrix((blocks.ravel(), (rows, columns)), (2 * n, 2 * n))
    normal += keep * sp.identity(2 * n, format="csc")
    goal = np.bincount(places.ravel(), right, 2 * n) + keep * flat.T.ravel()
    solved = spla.spsolve(normal, goal, permc_spec="MMD_AT_PLUS_A")
    return solved.reshape(2, n).T


def _areas(flat: np.ndarray, local: np.ndarray) -> np.ndarray:
    a, b, c = (flat[local[:, k]] for k in range(3))
    e, f = b - a, c - a
    return (e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]) / 2


def _largest_step(flat: np.ndarray, step: np.ndarray, local: np.ndarray) -> float:
    """Return the step at which the first face loses its area."""
    cross = lambda e, f: e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]  # noqa: E731
    e0, f0 = flat[local[:, 1]] - flat[local[:, 0]], flat[local[:, 2]] - flat[local[:, 0]]
    e1, f1 = step[local[:, 1]] - step[local[:, 0]], step[local[:, 2]] - step[local[:, 0]]
    a, b, c = cross(e1, f1), cross(e0, f1) + cross(e1, f0), cross(e0, f0)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
        q = -0.5 * (b + np.where(b >= 0, root, -root))
        first, second = q / a, c / q
    real = b * b - 4 * a * c >= 0
    candidates = np.concatenate([first[real], second[real]])
    candidates = candidates[np.isfinite(candidates) & (candidates > 0)]
    return float(candidates.min()) if len(candidates) else 1.0
