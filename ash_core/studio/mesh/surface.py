"""Small tools for triangle surfaces as NumPy arrays: edges, loops, normals, smoothing."""

import numpy as np
import scipy.sparse as sp


def edges_of(faces: np.ndarray) -> np.ndarray:
    """List undirected edges [E, 2], each once, sorted."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(pairs, 1), axis=0)


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """List vertex loops along edges of only one face, in that face's orientation.

    Loops that touch in a vertex are parted there.
    """
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = set(map(tuple, directed.tolist()))
    following: dict[int, list[int]] = {}
    for a, b in sorted(pairs):
        if (b, a) not in pairs:
            following.setdefault(a, []).append(b)
    loops = []
    while following:
        path = [min(following)]
        while path[-1] in following:
            ends = following[path[-1]]
            vertex = ends.pop()
            if not ends:
                del following[path[-1]]
            if vertex in path:
                start = path.index(vertex)
                loops.append(np.array(path[start:]))
                path = path[: start + 1]
            else:
                path.append(vertex)
    return loops


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return normals [F, 3] as long as twice the face's area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals [V, 3], weighted by area."""
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normals(vertices, faces))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def mean_matrix(faces: np.ndarray, n_vertices: int) -> sp.csr_matrix:
    """Return the matrix [V, V] of each vertex's mean over its neighbours."""
    edges = edges_of(faces)
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sp.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (n_vertices,) * 2)
    degree = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1)
    return sp.diags(1.0 / degree) @ adjacency


def smooth(values: np.ndarray, mean: sp.csr_matrix, share: np.ndarray, rounds: int) -> np.ndarray:
    """Move values towards the neighbours' mean by a share (0-1, per vertex), several times."""
    share = share.reshape(-1, *([1] * (values.ndim - 1)))
    for _ in range(rounds):
        values = values + share * (mean @ values - values)
    return values
