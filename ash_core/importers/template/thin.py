"""Thin a dense closed surface by many independent half-edge collapses at once.

`studio.mesh.simplify.collapse` takes the best collapse of all at each step, which is better and
slow; this one brings a dense surface to a size at which that is affordable.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ash_core.studio.mesh.surface import edges_of, face_normals, vertex_normals

ROUNDS = 80
FLATNESS = 0.1
"""Weight of edge length against the distance from the surface."""
TURN = 0.5
"""Least cosine between a face's normals before and after a collapse."""
SLIVER = 0.15
"""Least ratio of a face's doubled area to its longest edge squared."""
PENALTY = 4.0
"""Factor on the cost of a vertex whose collapse failed."""


def thin(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    importance: Float[ndarray, "V"],
    target: int,
) -> Int[ndarray, "G 3"]:
    """Collapse edges until about `target` vertices are used; returns faces in the old numbering.

    importance: factor on a vertex's cost. Topology stays as it is.
    """
    importance = importance.copy()
    for _ in range(ROUNDS):
        used = np.unique(faces)
        excess = len(used) - target
        if excess <= 0:
            break
        anchors, removed = _independent(vertices, faces, importance)
        if not len(removed):
            break
        anchors, removed = anchors[:excess], removed[:excess]
        fine = _keeps_shape(vertices, faces, anchors, removed)
        importance[removed[~fine]] *= PENALTY
        moved = np.arange(len(vertices))
        moved[removed[fine]] = anchors[fine]
        faces = moved[faces]
        faces = faces[(np.diff(np.sort(faces, 1), axis=1) > 0).all(1)]
    return faces


def _independent(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"], importance: Float[ndarray, "V"]
) -> tuple[Int[ndarray, "n"], Int[ndarray, "n"]]:
    """Choose collapses that do not touch, the cheapest first: vertices that stay and that vanish.

    An edge is chosen where it is the cheapest around both of its ends.
    """
    # Only edges whose ends share just the two opposite vertices keep the topology.
    count = len(vertices)
    edges = edges_of(faces)
    both = np.concatenate([edges, edges[:, ::-1]])
    links = sp.csr_matrix((np.ones(len(both), np.int32), both.T), (count, count))
    shared = np.asarray((links @ links)[edges[:, 0], edges[:, 1]]).ravel()
    both = both[np.tile(shared == 2, 2)]
    # The second of a pair vanishes; its cost is its distance from the plane around the first.
    normals = vertex_normals(vertices, faces)
    offset = vertices[both[:, 0]] - vertices[both[:, 1]]
    length = np.linalg.norm(offset, axis=1)
    off = np.abs(np.einsum("ed,ed->e", offset, normals[both[:, 1]]))
    off += np.abs(np.einsum("ed,ed->e", offset, normals[both[:, 0]]))
    cost = importance[both[:, 1]] * (off * length + FLATNESS * length**2)
    cost *= 1 + 1e-6 * np.modf(np.arange(len(cost)) * 0.618)[0]  # no ties
    # Spread the least cost over two rings.
    least = np.full(count, np.inf)
    for k in (0, 1):
        np.minimum.at(least, both[:, k], cost)
    for _ in range(2):
        wide = least.copy()
        for a, b in ((0, 1), (1, 0)):
            np.minimum.at(wide, edges[:, a], least[edges[:, b]])
        least = wide
    best = (cost <= least[both[:, 0]]) & (cost <= least[both[:, 1]])
    chosen = np.flatnonzero(best)
    chosen = chosen[np.argsort(cost[chosen])]
    return both[chosen, 0], both[chosen, 1]


def _keeps_shape(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    anchors: Int[ndarray, "n"],
    removed: Int[ndarray, "n"],
) -> Bool[ndarray, "n"]:
    """Check that no face of a removed vertex turns over or becomes a sliver."""
    number = np.full(len(vertices), -1)
    number[removed] = np.arange(len(removed))
    moved = np.arange(len(vertices))
    moved[removed] = anchors
    owner = number[faces].max(1)
    touched = owner >= 0
    old, new, owner = faces[touched], moved[faces[touched]], owner[touched]
    whole = (np.diff(np.sort(new, 1), axis=1) > 0).all(1)
    old, new, owner = old[whole], new[whole], owner[whole]
    before, after = face_normals(vertices, old), face_normals(vertices, new)
    sizes = np.linalg.norm(after, axis=1)
    dots = np.einsum("fd,fd->f", before, after)
    corners = vertices[new]
    longest = ((corners - np.roll(corners, 1, 1)) ** 2).sum(2).max(1)
    poor = dots < TURN * np.linalg.norm(before, axis=1) * sizes
    poor |= sizes < SLIVER * longest
    fine = np.ones(len(removed), bool)
    fine[owner[poor]] = False
    return fine
