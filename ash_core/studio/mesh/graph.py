"""The embedded graph: nodes on the template, spread by hops over its edges."""

from collections import deque

import numpy as np

from ash_core.geometry.embedded_graph import REACH
from ash_core.studio.mesh.surface import edges_of

MIN_NODES = 500


def make_graph(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose template vertices as nodes [G], and triangles [E, 3] between neighbouring nodes.

    Every template vertex has a node within `REACH` hops: what the published construction needs.
    Source: docs/released_behaviour.md A8.
    """
    neighbours: list[list[int]] = [[] for _ in vertices]
    for a, b in edges_of(faces).tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    nodes = [int(np.argmax(vertices[:, 1]))]
    hops = np.full(len(vertices), len(vertices))
    away = np.full(len(vertices), np.inf)
    _spread(hops, nodes[0], neighbours)
    while hops.max() > REACH or len(nodes) < min(MIN_NODES, len(vertices)):
        away = np.minimum(away, np.linalg.norm(vertices - vertices[nodes[-1]], axis=1))
        far = np.flatnonzero(hops == hops.max())
        nodes.append(int(far[np.argmax(away[far])]))
        _spread(hops, nodes[-1], neighbours)
    assert hops.max() <= REACH, hops.max()
    owner = _cells(vertices, np.array(nodes), neighbours)
    triangles = owner[faces]
    distinct = (np.diff(np.sort(triangles, 1), axis=1) > 0).all(1)
    triangles = triangles[distinct]
    _, first = np.unique(np.sort(triangles, 1), axis=0, return_index=True)
    triangles = triangles[np.sort(first)]
    return np.array(nodes), _with_lonely(triangles, owner, faces, vertices[nodes])


def _spread(hops: np.ndarray, node: int, neighbours: list[list[int]]) -> None:
    """Lower the hop counts around a new node, in place."""
    hops[node] = 0
    queue = deque([node])
    while queue:
        vertex = queue.popleft()
        for other in neighbours[vertex]:
            if hops[other] > hops[vertex] + 1:
                hops[other] = hops[vertex] + 1
                queue.append(other)


def _with_lonely(
    triangles: np.ndarray, owner: np.ndarray, faces: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Add a triangle for each node without one, with two nearby nodes.

    Near means along the mesh where it continues (narrow strips), else in space (buttons, eyes:
    pieces of one or two nodes).
    """
    from scipy.spatial import KDTree

    lonely = np.setdiff1d(np.arange(len(places)), triangles)
    if not len(lonely):
        return triangles
    assert len(places) >= 3, len(places)
    pairs = owner[edges_of(faces)]
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1), axis=0)
    near: list[list[int]] = [[] for _ in places]
    for a, b in pairs.tolist():
        near[a].append(b)
        near[b].append(a)
    _, in_space = KDTree(places).query(places[lonely], k=3)
    added = []
    for node, nearest in zip(lonely.tolist(), np.asarray(in_space).tolist(), strict=True):
        ring = [*near[node], *(n for other in near[node] for n in near[other]), *nearest]
        first, second = [n for n in dict.fromkeys(ring) if n != node][:2]
        added.append((node, first, second))
    return np.concatenate([triangles.reshape(-1, 3), np.array(added, np.int64)])


def _cells(vertices: np.ndarray, nodes: np.ndarray, neighbours: list[list[int]]) -> np.ndarray:
    """Assign each vertex [V] to its node: nearest along the edges, by length."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import dijkstra

    rows = np.repeat(np.arange(len(vertices)), [len(n) for n in neighbours])
    columns = np.concatenate([np.array(n) for n in neighbours])
    length = np.linalg.norm(vertices[rows] - vertices[columns], axis=1)
    graph = sp.csr_matrix((length, (rows, columns)), (len(vertices),) * 2)
    _, _, source = dijkstra(graph, indices=nodes, min_only=True, return_predecessors=True)
    index = np.full(len(vertices), -1)
    index[nodes] = np.arange(len(nodes))
    return index[source]
