"""Join the nude body's hands to a fitted surface: fingers are finer than its grid."""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ash_core.studio.mesh.surface import boundary_loops, edges_of, mean_matrix, smooth

HAND = 0.5
"""Share of the hand's joints from which a vertex of the body belongs to the hand."""
GAP_M = 0.008
"""Distance from the hand's edge within which the fitted surface is cut away."""
CLEANINGS = 10
SHORTEST_LOOP = 6
RINGS = 3
"""Number of rings around the seam that are smoothed."""

Mesh = tuple[Float[ndarray, "V 3"], Int[ndarray, "F 3"]]


def join_hand(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    shares: Float[ndarray, "V"],
    body_vertices: Float[ndarray, "B 3"],
    body_faces: Int[ndarray, "G 3"],
    body_shares: Float[ndarray, "B"],
) -> Mesh | None:
    """Replace a hand of a surface by the body's; None where the two have no single edge each.

    shares, body_shares: weight of the hand's joints at each vertex.
    """
    # Cut the hand off the body: one piece with one edge.
    own = _tidy(body_faces[(body_shares[body_faces] > HAND).all(1)])
    if not len(own):
        return None
    own = _tidy(own[_largest_piece(own, len(body_vertices))])
    loops = boundary_loops(own)
    if len(loops) != 1 or len(loops[0]) < SHORTEST_LOOP:
        return None
    edge = loops[0]
    # Cut the hand off the surface, a gap before that edge.
    centre = body_vertices[edge].mean(0)
    tip = body_vertices[np.unique(own)].mean(0)
    axis = (tip - centre) / max(float(np.linalg.norm(tip - centre)), 1e-9)
    radius = float(np.linalg.norm(body_vertices[edge] - centre, axis=1).max())
    ahead = (vertices - centre) @ axis
    start = float(((body_vertices[edge] - centre) @ axis).min()) - GAP_M
    beside = np.linalg.norm(vertices - centre - ahead[:, None] * axis, axis=1)
    cut = (shares > HAND) | ((ahead > start) & (ahead < GAP_M) & (beside < 2 * radius))
    rest = _tidy(faces[~cut[faces].any(1)])
    if not len(rest):
        return None
    rest = _tidy(rest[_largest_piece(rest, len(vertices))])
    loops = [loop for loop in boundary_loops(rest) if len(loop) >= SHORTEST_LOOP]
    # Other hands may have left edges already: the nearest one is this hand's.
    loops = [loop for loop in loops if np.linalg.norm(vertices[loop].mean(0) - centre) < 3 * radius]
    if len(loops) != 1:
        return None
    # Sew the two edges together, and even out the seam.
    count = len(vertices)
    places = np.concatenate([vertices, body_vertices])
    strip = zip_loops(loops[0], edge[::-1] + count, places)
    joined = np.concatenate([rest, own + count, strip])
    places = _even_seam(places, joined, np.concatenate([loops[0], edge + count]), rest)
    used, local = np.unique(joined, return_inverse=True)
    return places[used], local.reshape(-1, 3)


def _tidy(faces: Int[ndarray, "F 3"]) -> Int[ndarray, "G 3"]:
    """Drop faces until each vertex on an edge lies on it once: loops never touch themselves."""
    for _ in range(CLEANINGS):
        directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        size = int(faces.max()) + 1 if len(faces) else 1
        codes = directed[:, 0] * size + directed[:, 1]
        open_edges = directed[~np.isin(codes, directed[:, 1] * size + directed[:, 0])]
        starts, counts = np.unique(open_edges[:, 0], return_counts=True)
        pinched = starts[counts > 1]
        # A face with two open edges is a tooth: without it the edge is smoother.
        teeth = np.bincount(
            np.flatnonzero(~np.isin(codes, directed[:, 1] * size + directed[:, 0])) % len(faces),
            minlength=len(faces),
        ) >= 2  # fmt: skip
        dropped = np.isin(faces, pinched).any(1) | teeth
        if not dropped.any():
            break
        faces = faces[~dropped]
        if not len(faces):
            break
    return faces


def _largest_piece(faces: Int[ndarray, "F 3"], count: int) -> Bool[ndarray, "F"]:
    """Select the faces of the largest connected piece."""
    edges = edges_of(faces)
    links = sp.coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    _, piece = csgraph.connected_components(links, directed=False)
    of_face = piece[faces[:, 0]]
    return of_face == np.bincount(of_face).argmax()


def zip_loops(
    first: Int[ndarray, "n"], second: Int[ndarray, "m"], places: Float[ndarray, "V 3"]
) -> Int[ndarray, "S 3"]:
    """Sew two loops that run the same way by the strip of least total edge length.

    The first runs as in its faces, the second against its own: the strip faces the same way.
    """
    # Start at the closest pair.
    apart = np.linalg.norm(places[first][:, None] - places[second][None], axis=2)
    i, j = np.unravel_index(apart.argmin(), apart.shape)
    a, b = np.roll(first, -int(i)), np.roll(second, -int(j))
    a, b = np.append(a, a[0]), np.append(b, b[0])
    cost = np.linalg.norm(places[a][:, None] - places[b][None], axis=2)
    # Shortest path over the grid of pairs: each step advances on one of the loops.
    total = np.full(cost.shape, np.inf)
    total[0, 0] = 0.0
    step = np.zeros(cost.shape, bool)
    for i in range(len(a)):
        for j in range(len(b)):
            above = total[i - 1, j] if i else np.inf
            beside = total[i, j - 1] if j else np.inf
            if i or j:
                step[i, j] = above <= beside
                total[i, j] = min(above, beside) + cost[i, j]
    # Walk back along it.
    i, j, strip = len(a) - 1, len(b) - 1, []
    while i or j:
        if step[i, j]:
            strip.append((a[i], a[i - 1], b[j]))
            i -= 1
        else:
            strip.append((a[i], b[j - 1], b[j]))
            j -= 1
    return np.array(strip, np.int64)


def _even_seam(
    places: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    seam: Int[ndarray, "n"],
    rest: Int[ndarray, "R 3"],
) -> Float[ndarray, "V 3"]:
    """Smooth the fitted surface in some rings around a seam; the hand stays as it is."""
    mean = mean_matrix(faces, len(places))
    near = np.zeros(len(places))
    near[seam] = 1.0
    for _ in range(RINGS):
        near = np.maximum(near, 0.75 * (mean @ near > 0))
    movable = np.zeros(len(places))
    movable[np.unique(rest)] = near[np.unique(rest)]
    return smooth(places, mean, 0.5 * movable, 6)
