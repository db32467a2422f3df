"""Atlas of any surface: labelled pieces, cut until each is a disc that lies flat without overlap.

`unwrap` flattens discs. Here surfaces may have holes, handles, closed parts and edges of more than
two faces, as body models and scans do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse.csgraph import connected_components, dijkstra

from ash_core.errors import InputError
from ash_core.studio.mesh.pack import pack
from ash_core.studio.mesh.surface import (
    boundary_loops,
    edges_of,
    face_normals,
    mean_matrix,
    vertex_normals,
)
from ash_core.studio.mesh.unwrap import Chart, flatten, tutte

MAX_CHARTS = 800
"""Most charts, so that all have a place with a gap around them."""
SMALL = 1e-3
"""Share of the surface below which a piece joins a neighbour."""
ROUNDS = 12
"""Most rounds of smoothing the labels' borders."""
TUBE_END = 0.25
"""Least length of a tube's second opening, relative to its longest."""
DETOUR = 4.0
"""Length that a cut through plain sight is worth, relative to one on the hidden side."""
SQUEEZED, SQUEEZED_SHARE = 0.2, 0.05
"""Scale below which a face is squeezed, and the share of a chart's surface that may be."""
LEAST_FACES = 40
"""Faces of a piece from which it is cut only because it is squeezed."""
UNTANGLING = 12
"""Most rounds of drawing in a border's teeth."""
LEAST_SLENDER = 0.02
"""Twice the area of a single triangle, relative to its longest side squared, that it keeps."""
JITTER = 1e-4
"""Move of vertices of a triangle without area, relative to the longest edge."""
_NO_AREA = 1e-6
"""Area of a triangle, relative to its longest edge squared, that counts as none."""


def lay_out(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    labels: Int[ndarray, "F"],
    density: Float[ndarray, "F"],
    hidden: Mapping[int, Float[ndarray, "3"]] = {},
) -> Float[ndarray, "F 3 2"]:
    """Lay out corner texture coordinates in [0, 1], v up, without overlap; every face has area.

    labels: the pieces to begin with; their borders are smoothed. density: texels per metre,
    relative. hidden: labels of tubes, which are opened lengthwise, and the side of the cut.
    Raises: InputError, for a surface of very many loose pieces.
    """
    # Pieces by label, each connected.
    neighbours = _neighbours(faces)
    areas = np.linalg.norm(face_normals(vertices, faces), axis=1) / 2
    pieces = _pieces(_smoothed(labels, neighbours), neighbours, areas)
    normals = vertex_normals(vertices, faces)

    # Flatten each piece, or cut it in two and go on.
    charts: list[Chart] = []
    waiting = [(piece, hidden.get(label)) for label, piece in pieces]
    while waiting:
        piece, side = waiting.pop()
        chart = _chart(vertices, normals, faces, piece, density[piece], side)
        if chart is not None:
            charts.append(chart)
            continue
        for half in _halves(vertices, faces[piece]):
            waiting += [(piece[half][part], None) for part in _connected(faces[piece[half]])]

    # Pack them.
    if len(charts) > MAX_CHARTS:
        text = f"expected a surface that falls into at most {MAX_CHARTS} pieces, got {len(charts)}"
        raise InputError(f"mesh: {text}; give it texture coordinates")
    charts.sort(key=lambda chart: int(chart.faces[0]))
    packed = pack([(chart.flat, chart.local) for chart in charts], quick=True)
    corner_uvs = np.zeros((len(faces), 3, 2))
    for chart, flat in zip(charts, packed, strict=True):
        corner_uvs[chart.faces] = flat[chart.local]
    return corner_uvs


# ---- pieces ----


def _twins(faces: np.ndarray) -> np.ndarray:
    """List pairs [E, 2] of corners, 3 f + k, at the starts of one edge in both its directions.

    Edges of more than two faces, or of two that run the same way, have no pair.
    """
    corners = np.arange(3 * len(faces))
    a, b = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    count = int(faces.max()) + 1
    key = a.astype(np.int64) * count + b
    other = b.astype(np.int64) * count + a
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    uses = np.searchsorted(ordered, key, "right") - np.searchsorted(ordered, key)
    place = np.searchsorted(ordered, other).clip(0, len(ordered) - 1)
    twin = order[place]
    fits = (ordered[place] == other) & (uses == 1) & (uses[twin] == 1) & (a != b)
    pairs = np.stack([corners, twin], 1)[fits]
    return pairs[(pairs[:, 0] < pairs[:, 1]) & (pairs[:, 0] // 3 != pairs[:, 1] // 3)]


def _neighbours(faces: np.ndarray) -> sp.csr_matrix:
    """Build the symmetric matrix [F, F] of faces that share an edge."""
    pairs = _twins(faces) // 3
    both = np.concatenate([pairs, pairs[:, ::-1]])
    shape = (len(faces),) * 2
    return sp.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape)


def _connected(faces: np.ndarray) -> list[np.ndarray]:
    """List the faces of each connected piece."""
    _, piece = connected_components(_neighbours(faces), directed=False)
    order = np.argsort(piece, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(piece[order])) + 1)


def _smoothed(labels: np.ndarray, neighbours: sp.csr_matrix) -> np.ndarray:
    """Give each face the label of two or more of its neighbours, until none changes."""
    names, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(-1).copy()
    rows = np.arange(len(labels))
    for turn in range(ROUNDS):
        counts = np.asarray(neighbours @ np.eye(len(names))[labels])
        best = counts.argmax(1)
        moves = (counts[rows, best] >= 2) & (best != labels)
        # Half of the faces a round: two that swap their labels would do so for ever.
        moves &= rows % 2 == turn % 2
        labels[moves] = best[moves]
        if turn and not moves.any():
            break
    return names[labels]


def _pieces(
    labels: np.ndarray, neighbours: sp.csr_matrix, areas: np.ndarray
) -> list[tuple[int, np.ndarray]]:
    """List connected pieces with their labels; small ones have joined a neighbour."""
    pairs = sp.coo_matrix(neighbours)
    count, piece = _joined(labels, pairs)
    for _ in range(ROUNDS):
        size = np.bincount(piece, areas, count)
        # The neighbour with the most common edges takes a small piece.
        across = (piece[pairs.row] != piece[pairs.col]) & (
            size[piece[pairs.row]] < np.minimum(SMALL * areas.sum(), size[piece[pairs.col]])
        )
        if not across.any():
            break
        ends = piece[pairs.row[across]], piece[pairs.col[across]]
        edges = sp.csr_matrix((np.ones(across.sum()), ends), (count, count))
        joined = np.flatnonzero(np.diff(edges.indptr))
        label_of = np.zeros(count, np.int64)
        label_of[piece] = labels
        label_of[joined] = label_of[np.asarray(edges[joined].argmax(1)).reshape(-1)]
        labels = label_of[piece]
        count, piece = _joined(labels, pairs)
    order = np.argsort(piece, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(piece[order])) + 1)
    return [(int(labels[part[0]]), part) for part in parts]


def _joined(labels: np.ndarray, pairs: sp.coo_matrix) -> tuple[int, np.ndarray]:
    """Number the connected pieces of one label: their count, and the piece of each face."""
    same = labels[pairs.row] == labels[pairs.col]
    shape = (len(labels),) * 2
    inner = sp.csr_matrix((np.ones(same.sum()), (pairs.row[same], pairs.col[same])), shape)
    return connected_components(inner, directed=False)


def _halves(vertices: np.ndarray, faces: np.ndarray) -> list[np.ndarray]:
    """Cut a piece across its longest direction: two sets of its faces."""
    middles = vertices[faces].mean(1)
    offset = middles - middles.mean(0)
    along = offset @ np.linalg.eigh(offset.T @ offset)[1][:, -1]
    order = np.argsort(along, kind="stable")
    return [np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])]


# ---- charts ----


@dataclass(frozen=True)
class _Piece:
    """Piece with vertices of its own: one for each fan of faces around a vertex."""

    local: np.ndarray
    vertices: np.ndarray
    loops: list[np.ndarray]

    @property
    def handles(self) -> int:
        """Number of handles; a sphere, disc or tube has none."""
        count = len(self.vertices) - len(edges_of(self.local)) + len(self.local)
        return (2 - len(self.loops) - count) // 2


def _piece(faces: np.ndarray, cut: np.ndarray | None = None) -> _Piece:
    """Number a piece's own vertices; cut: edges [n, 2] that are not joined."""
    pairs = _twins(faces)
    following = lambda corner: corner - corner % 3 + (corner % 3 + 1) % 3  # noqa: E731
    flat = faces.reshape(-1)
    if cut is not None:
        count = int(faces.max()) + 1
        ends = np.sort(np.stack([flat[pairs[:, 0]], flat[following(pairs[:, 0])]], 1), axis=1)
        ends_cut = np.sort(cut, 1)
        pairs = pairs[~np.isin(ends @ [count, 1], ends_cut @ [count, 1])]
    # A corner at the start of an edge is the same vertex as the end of the edge's other direction.
    joined = np.concatenate(
        [np.stack([pairs[:, 0], following(pairs[:, 1])], 1),
         np.stack([following(pairs[:, 0]), pairs[:, 1]], 1)]
    )  # fmt: skip
    size = (len(flat),) * 2
    graph = sp.csr_matrix((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), size)
    count, local = connected_components(graph, directed=False)
    vertices = np.zeros(count, np.int64)
    vertices[local] = flat
    local = local.astype(np.int64).reshape(-1, 3)
    return _Piece(local, vertices, boundary_loops(local))


def _chart(
    vertices: np.ndarray,
    normals: np.ndarray,
    faces: np.ndarray,
    ids: np.ndarray,
    density: np.ndarray,
    side: np.ndarray | None,
) -> Chart | None:
    """Flatten a piece; None: it is to be cut in two."""
    if len(ids) == 1:
        return _single(vertices, faces, int(ids[0]), float(density[0]))
    piece = _piece(faces[ids])
    if not piece.loops or piece.handles:
        return None
    # Open a tube along its hidden side.
    length = [_perimeter(vertices[piece.vertices], loop) for loop in piece.loops]
    order = np.argsort(length)[::-1]
    if side is not None and len(order) > 1 and length[order[1]] > TUBE_END * length[order[0]]:
        ends = piece.loops[order[0]], piece.loops[order[1]]
        path = _hidden_path(vertices, normals, piece, ends, side)
        opened = _piece(piece.local, np.stack([path[:-1], path[1:]], 1))
        piece = _Piece(opened.local, piece.vertices[opened.vertices], opened.loops)
        length = [_perimeter(vertices[piece.vertices], loop) for loop in piece.loops]
        order = np.argsort(length)[::-1]
    # First layout: holes are filled, the border lies on a circle.
    count = len(piece.vertices)
    filled = [piece.local]
    for n, hole in enumerate(order[1:]):
        loop = piece.loops[hole]
        middle = np.full(len(loop), count + n)
        filled.append(np.stack([np.roll(loop, -1), loop, middle], 1))
    flat = tutte(np.concatenate(filled), count + len(order) - 1)[:count]
    if _signed(flat, piece.local).min() <= 0.0:
        return None
    # Flatten, and check the result.
    points = _with_areas(vertices[piece.vertices], piece.local)
    chart = Chart(ids, piece.local, piece.vertices, flat)
    with np.errstate(all="ignore"):
        flat = flatten(points, chart, density)
    areas = _signed(flat, piece.local)
    goal = np.linalg.norm(face_normals(points, piece.local), axis=1) / 2 * density**2
    if not (np.isfinite(flat).all() and areas.min() > 0.0):
        return None
    squeezed = goal[areas < SQUEEZED**2 * goal].sum() / goal.sum()
    if len(ids) > LEAST_FACES and squeezed > SQUEEZED_SHARE:
        return None
    untangled = _untangled(flat, piece)
    return None if untangled is None else Chart(ids, piece.local, piece.vertices, untangled)


def _single(vertices: np.ndarray, faces: np.ndarray, face: int, density: float) -> Chart:
    """Lay out one triangle in its own shape; one without area, or nearly, gets a wider one."""
    a, b, c = vertices[faces[face]]
    length = max(float(np.linalg.norm(b - a)), float(np.linalg.norm(c - a)), 1e-4)
    along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-12)
    x, y = float((c - a) @ along), float(np.linalg.norm(np.cross(along, c - a)))
    flat = np.array([[0.0, 0.0], [np.linalg.norm(b - a), 0.0], [x, y]])
    if flat[1, 0] * y < LEAST_SLENDER * length**2:
        flat = length * np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    return Chart(np.array([face]), np.array([[0, 1, 2]]), faces[face], flat * density)


def _perimeter(points: np.ndarray, loop: np.ndarray) -> float:
    return float(np.linalg.norm(points[loop] - points[np.roll(loop, -1)], axis=1).sum())


def _hidden_path(
    vertices: np.ndarray,
    normals: np.ndarray,
    piece: _Piece,
    ends: tuple[np.ndarray, np.ndarray],
    side: np.ndarray,
) -> np.ndarray:
    """Find the path of own vertices from one loop to another, short and on the hidden side."""
    edges = edges_of(piece.local)
    a, b = (piece.vertices[edges[:, k]] for k in (0, 1))
    facing = (normals[a] + normals[b]) @ (side / np.linalg.norm(side)) / 2
    cost = np.linalg.norm(vertices[a] - vertices[b], axis=1) * (1.0 + DETOUR * (1.0 - facing))
    shape = (len(piece.vertices),) * 2
    graph = sp.csr_matrix((cost + 1e-9, (edges[:, 0], edges[:, 1])), shape)
    distance, before, _ = dijkstra(
        graph, directed=False, indices=ends[0], min_only=True, return_predecessors=True
    )
    path = [int(ends[1][np.argmin(distance[ends[1]])])]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    # The path may run along the second loop: it begins where it leaves it.
    last = max(n for n, vertex in enumerate(path) if vertex in set(ends[1].tolist()))
    return np.array(path[last:])


def _signed(flat: np.ndarray, local: np.ndarray) -> np.ndarray:
    a, b, c = (flat[local[:, k]] for k in range(3))
    e, f = b - a, c - a
    return (e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]) / 2


def _with_areas(points: np.ndarray, local: np.ndarray) -> np.ndarray:
    """Move vertices of triangles without area a little; others stay."""
    rng = np.random.default_rng(0)
    edge = np.linalg.norm(points[local] - points[np.roll(local, 1, axis=1)], axis=-1).max(1)
    area = np.linalg.norm(face_normals(points, local), axis=1) / 2
    flat = area <= _NO_AREA * np.maximum(edge, 1e-9) ** 2
    if not flat.any():
        return points
    moved = np.unique(local[flat])
    points = points.copy()
    size = JITTER * max(float(np.median(edge)), 1e-9)
    points[moved] += size * rng.normal(size=(len(moved), 3))
    return points


def _untangled(flat: np.ndarray, piece: _Piece) -> np.ndarray | None:
    """Draw in teeth of the border that cross; None: parts of the chart overlap by more than teeth.

    Without folds and crossings, no two faces share a place.
    """
    mean = mean_matrix(piece.local, len(flat))
    for _ in range(UNTANGLING):
        crossing = _crossing(flat, piece.loops)
        if not len(crossing):
            return flat
        drawn = flat.copy()
        drawn[crossing] += ((mean @ flat) - flat)[crossing] / 2
        # A vertex whose faces would fold stays.
        while len(folded := np.flatnonzero(_signed(drawn, piece.local) <= 0.0)):
            corners = np.unique(piece.local[folded])
            if np.array_equal(drawn[corners], flat[corners]):
                return None
            drawn[corners] = flat[corners]
        flat = drawn
    return None


def _crossing(flat: np.ndarray, loops: list[np.ndarray]) -> np.ndarray:
    """List the ends of border edges that cross another."""
    starts = np.concatenate(loops)
    ends = np.concatenate([np.roll(loop, -1) for loop in loops])
    a, b = flat[starts], flat[ends]

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        """Return on which side of each edge p q each point r lies: [n, m]."""
        u, v = (q - p)[:, None], r[None] - p[:, None]
        return np.sign(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])

    apart = (side(a, b, a) * side(a, b, b)) < 0
    edges = (apart & apart.T).any(1)
    return np.unique(np.concatenate([starts[edges], ends[edges]]))
