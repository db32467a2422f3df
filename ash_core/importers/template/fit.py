"""Fit a clothed surface to the masks of a person whose nude body and poses are known.

A visual hull of several frames, in the body's rest pose: each place around the body moves with it,
and stays where it lies inside the silhouettes of nearly all frames. The hull is joined with the
nude body, extracted as one closed surface, thinned, and pulled to the outlines.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from numba import njit
from numpy import ndarray
from scipy.ndimage import distance_transform_edt

from ash_core.errors import InputError
from ash_core.importers.template.closest import ClosestPoints, ClosestSurface
from ash_core.importers.template.face import draw_back_face
from ash_core.importers.template.join_hands import HAND, join_hand
from ash_core.importers.template.linear_skinning import bone_moves, place_points
from ash_core.importers.template.parts import PARTS, BodyParts, face_share, share_of
from ash_core.importers.template.refine import refine
from ash_core.importers.template.surface_nets import surface_nets
from ash_core.importers.template.thin import thin
from ash_core.importers.template.transfer import transfer_weights
from ash_core.importers.template.volume import Lattice, diffuse_weights, lattice_around
from ash_core.silhouettes.distances import (
    MaskCamera,
    Masks,
    Silhouettes,
    hull_distances,
    read_silhouettes,
)
from ash_core.studio.mesh.simplify import collapse
from ash_core.studio.mesh.surface import mean_matrix, smooth

FRAMES = 20
"""Number of frames that are fitted."""
VERTICES = 7000
COARSE_M, FINE_M = 0.025, 0.008
"""Cells of the two grids."""
REACH_M = 0.32
"""Largest distance of clothes from the nude body."""
RIGID, LOOSE = 0.88, 0.78
"""Share of the frames that must not see a place outside: near the body, and from LOOSE_M."""
MANY, STRICT = 8, 0.96
"""Number of cameras from which these shares hold; with 4, this one."""
RIGID_M, LOOSE_M = 0.02, 0.08
HAND_ALLOWANCE_M, FACE_ALLOWANCE_M = 0.002, 0.003
"""Largest distance of the surface from the nude body at hands and face."""
FREE_M = 1.0
"""Allowance elsewhere: none."""
CHUNK = 1 << 17
"""Number of places that are posed at once."""
SMOOTHINGS, LOOSE_SMOOTHINGS = 6, 30
"""Rounds of smoothing of the extracted surface, and of its loose cloth."""
ROUGHLY = 1.3
"""Number of vertices after the fast thinning, in targets."""
HAND_IMPORTANCE, FACE_IMPORTANCE = 3.0, 3.0

Progress = Callable[[str, float], None]
"""Callback that takes the current step's name and the fraction that is complete."""


@dataclass(frozen=True)
class FittedTemplate:
    """Clothed surface in the body's rest pose: closed, one piece."""

    vertices: Float[ndarray, "V 3"]
    """Rest pose, m."""
    faces: Int[ndarray, "F 3"]
    weights: Float[ndarray, "V J"]
    """Skin weights; rows sum to 1."""
    facts: Mapping[str, float]
    """Numbers of the fit: frames, cameras, images, cell_mm; gap_mm and refined_gap_mm, median
    distances between the outlines of surface and masks."""
    joined_hands: tuple[bool, ...] = ()
    """For each hand of the body's parts, whether it was joined to the surface."""


@dataclass(frozen=True)
class _Nude:
    """Nude body, and what is constant in the space around it."""

    surface: ClosestSurface
    weights: Float[ndarray, "B J"]
    hands: tuple[Float[ndarray, "B"], ...]
    """Share of each hand."""
    face: Float[ndarray, "B"]
    allowance: Float[ndarray, "B"]
    """Largest distance of the surface outside the body, m."""


@dataclass(frozen=True)
class _Space:
    """Coarse grid around the body."""

    lattice: Lattice
    weights: Float32[ndarray, "N J"]
    values: Float32[ndarray, "N"]
    """Signed distance to hull and body together, m."""


def fit_clothed_template(
    body_vertices: Float[ndarray, "B 3"],
    body_faces: Int[ndarray, "G 3"],
    body_weights: Float[ndarray, "B J"],
    joint_frames: tuple[Float[ndarray, "F J 3 3"], Float[ndarray, "F J 3"]],
    rest_joints: Float[ndarray, "J 3"],
    cameras: Sequence[MaskCamera],
    masks: Masks,
    progress: Progress | None = None,
    *,
    parts: BodyParts | None = None,
    frames: int = FRAMES,
    target: int = VERTICES,
    cell_m: float = FINE_M,
    rounds: int = 3,
) -> FittedTemplate:
    """Fit a clothed surface to masks. Rest pose: m, Y up, facing +Z; cameras in the frames' world.

    joint_frames: R_world_joint and places of all frames, of which well-spread ones are fitted.
    masks: (index of the frame, index of the camera) to uint8 [h, w]; empty where there is none.
    parts: hands and head; None: by the number of joints, of the SMPL family.
    target: number of vertices, about.

    Raises: InputError for fewer than two cameras, masks without a person or of a wrong size.
    """
    report = progress or (lambda _what, _done: None)
    if len(cameras) < 2:
        raise InputError(
            f"template: expected masks of at least 2 cameras, got {len(cameras)}: one camera shows "
            "no shape"
        )
    # Read the masks of well-spread frames.
    report("reading masks", 0.0)
    chosen = choose_frames(joint_frames[0], frames)
    silhouettes = read_silhouettes(
        cameras, chosen, masks, lambda done: report("reading masks", 0.25 * done)
    )
    if not (silhouettes.is_seen.sum(1) >= 2).any():
        raise InputError(
            "template: expected masks with a person in at least 2 cameras of a frame, got "
            f"{int(silhouettes.is_seen.sum())} masks with one in {len(chosen)} frames"
        )
    turns, places = joint_frames
    moves = bone_moves((turns[chosen], places[chosen]), rest_joints)
    # Carve the hull, coarse to fine, and extract the surface.
    nude = _nude(body_vertices, body_faces, body_weights, parts)
    report("carving", 0.25)
    space = _coarse(nude, silhouettes, moves)
    report("carving", 0.35)
    lattice, values = _fine(nude, space, silhouettes, moves, cell_m,
                            lambda done: report("carving", 0.35 + 0.3 * done))  # fmt: skip
    report("extracting the surface", 0.65)
    vertices, faces = surface_nets(values, lattice.origin, lattice.cell)
    vertices, faces, hands = _finish(vertices, faces, nude)
    # Thin it, then pull its outlines to the masks'.
    report("thinning the surface", 0.70)
    vertices, faces = _thin(vertices, faces, nude, target)
    report("refining", 0.85)
    weights = _weights(vertices, faces, nude, space)
    fixed = _protected(vertices, nude)
    vertices, errors = refine(
        vertices, faces, weights, silhouettes, moves, fixed, _looseness(vertices, nude), rounds,
        lambda done: report("refining", 0.85 + 0.13 * done),
    )  # fmt: skip
    weights = _weights(vertices, faces, nude, space)
    report("done", 1.0)
    facts: dict[str, float] = {
        "frames": len(chosen),
        "cameras": len(cameras),
        "images": int(silhouettes.is_seen.sum()),
        "cell_mm": 1000 * cell_m,
    }
    if errors:
        facts |= {"gap_mm": 1000 * errors[0], "refined_gap_mm": 1000 * errors[-1]}
    return FittedTemplate(vertices, faces, weights, facts, hands)


def choose_frames(turns: Float[ndarray, "F J 3 3"], count: int) -> list[int]:
    """Choose frames of different poses, in order: farthest first by the joints' own turns.

    turns: R_world_joint. The root's turn counts too: the cameras see another side.
    """
    features = turns.reshape(len(turns), -1)
    # A turn of the root turns every joint: their mean keeps it from drowning the pose.
    relative = np.einsum("fba,fjbc->fjac", turns[:, 0], turns).reshape(len(turns), -1)
    features = np.concatenate([relative, 0.5 * features], 1)
    middle = features.mean(0)
    chosen = [int(np.linalg.norm(features - middle, axis=1).argmin())]
    apart = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < min(count, len(turns)):
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return sorted(set(chosen))


def _nude(
    vertices: Float[ndarray, "B 3"],
    faces: Int[ndarray, "G 3"],
    weights: Float[ndarray, "B J"],
    parts: BodyParts | None,
) -> _Nude:
    """Prepare the nude body: shares of its parts, and how far clothes may lie outside."""
    vertices, weights = np.asarray(vertices, float), np.asarray(weights, float)
    parts = parts or PARTS.get(weights.shape[1], BodyParts())
    hands = tuple(share_of(weights, hand) for hand in parts.hands)
    face = face_share(vertices, faces, weights, parts)
    allowance = np.full(len(vertices), FREE_M)
    for share in hands:
        allowance = np.minimum(allowance, _allow(share, 0.05, 0.35, HAND_ALLOWANCE_M))
    allowance = np.minimum(allowance, _allow(face, 0.1, 0.7, FACE_ALLOWANCE_M))
    return _Nude(ClosestSurface(vertices, faces), weights, hands, face, allowance)


def _allow(share: ndarray, low: float, high: float, least: float) -> ndarray:
    """Return the allowance of a part: free below one share, the least above another."""
    slope = np.clip((high - share) / (high - low), 0.0, 1.0)
    return np.where(slope >= 1.0, FREE_M, least + 0.04 * slope)


def _coarse(nude: _Nude, silhouettes: Silhouettes, moves: Float[ndarray, "F J 3 4"]) -> _Space:
    """Evaluate weights and hull on the coarse grid, within reach of the body."""
    body = nude.surface.vertices
    lattice = lattice_around(body.min(0) - REACH_M, body.max(0) + REACH_M, COARSE_M)
    # Nodes within reach, by a distance transform from the vertices' cells.
    empty = np.ones(lattice.shape, bool)
    cells = np.rint((body - lattice.origin) / lattice.cell).astype(int)
    empty[tuple(cells.T)] = False
    nearby = np.asarray(distance_transform_edt(empty)) * lattice.cell < REACH_M
    ids = np.flatnonzero(nearby)
    points = lattice.places(ids)
    closest = nude.surface.query(points)
    weights = np.zeros((nearby.size, nude.weights.shape[1]), np.float32)
    weights[ids] = diffuse_weights(points, closest, nude.surface, nude.weights)
    values = np.full(nearby.size, REACH_M, np.float32)
    values[ids] = _joined_distances(nude, points, closest, weights[ids], silhouettes, moves)
    # Nodes out of reach take the weights of the nearest one within, for blending at the border.
    near = np.asarray(
        distance_transform_edt(~nearby, return_distances=False, return_indices=True)
    ).reshape(3, -1)
    border = np.flatnonzero(~nearby.ravel())
    weights[border] = weights[np.ravel_multi_index(tuple(near[:, border]), lattice.shape)]
    return _Space(lattice, weights, values)


def _fine(
    nude: _Nude,
    space: _Space,
    silhouettes: Silhouettes,
    moves: Float[ndarray, "F J 3 4"],
    cell_m: float,
    progress: Callable[[float], None],
) -> tuple[Lattice, Float32[ndarray, "X Y Z"]]:
    """Evaluate hull and body together on the fine grid, near the coarse surface."""
    # Span the inside of the coarse grid.
    coarse = space.values.reshape(space.lattice.shape)
    inner = np.argwhere(coarse < space.lattice.cell)
    low = space.lattice.origin + (inner.min(0) - 1) * space.lattice.cell
    high = space.lattice.origin + (inner.max(0) + 1) * space.lattice.cell
    lattice = lattice_around(low, high, cell_m)
    values = np.empty(math.prod(lattice.shape), np.float32)
    band = 1.3 * space.lattice.cell
    # Chunk by chunk: blend the coarse values, then evaluate the nodes near the surface.
    starts = range(0, len(values), 4 * CHUNK)
    for number, start in enumerate(starts):
        ids = np.arange(start, min(start + 4 * CHUNK, len(values)))
        points = lattice.places(ids)
        blended = _trilinear(coarse, (points - space.lattice.origin) / space.lattice.cell)
        values[ids] = blended
        near = np.flatnonzero(np.abs(blended) < band)
        for part in np.array_split(near, max(1, math.ceil(len(near) / CHUNK))):
            if not len(part):
                continue
            places = points[part]
            closest = nude.surface.query(places)
            weights = space.lattice.blend(places) @ space.weights
            values[ids[part]] = _joined_distances(
                nude, places, closest, weights, silhouettes, moves
            )
        progress((number + 1) / len(starts))
    return lattice, values.reshape(lattice.shape)


def _joined_distances(
    nude: _Nude,
    points: Float[ndarray, "N 3"],
    closest: ClosestPoints,
    weights: Float32[ndarray, "N J"],
    silhouettes: Silhouettes,
    moves: Float[ndarray, "F J 3 4"],
) -> Float[ndarray, "N"]:
    """Compute the signed distances of places to hull and body together, m."""
    hull = _robust_hull(points, weights, closest.signed, silhouettes, moves)
    allowance = nude.surface.carry(closest, nude.allowance[:, None])[:, 0]
    return np.minimum(closest.signed, np.maximum(hull, closest.signed - allowance))


def _robust_hull(
    points: Float[ndarray, "N 3"],
    weights: Float32[ndarray, "N J"],
    distances: Float[ndarray, "N"],
    silhouettes: Silhouettes,
    moves: Float[ndarray, "F J 3 4"],
) -> Float32[ndarray, "N"]:
    """Compute how far places of the rest pose lie outside the hulls of nearly all frames, m."""
    hulls = np.empty((len(moves), len(points)), np.float32)
    for f, move in enumerate(moves):
        hulls[f] = hull_distances(silhouettes, f, place_points(points, weights, move))
    # Few cameras carve little in each frame: then more frames must agree.
    few = min(max((MANY - int(silhouettes.is_seen.any(0).sum())) / (MANY - 4), 0.0), 1.0)
    shares = RIGID + (LOOSE - RIGID) * _ramp(distances)
    return _quantiles(hulls, shares + few * (STRICT - shares))


def _ramp(distances: Float[ndarray, "N"]) -> Float[ndarray, "N"]:
    """Return how loosely cloth hangs at a distance from the body, 0 to 1."""
    return np.clip((distances - RIGID_M) / (LOOSE_M - RIGID_M), 0.0, 1.0)


def _looseness(vertices: Float[ndarray, "V 3"], nude: _Nude) -> Float[ndarray, "V"]:
    """Return how loosely cloth hangs at vertices, 0 to 1."""
    return _ramp(nude.surface.query(vertices).distances)


@njit(cache=True, nogil=True)
def _quantiles(values, shares):  # type: ignore[no-untyped-def]
    """Return a quantile of each column without its NaNs; a metre where all are."""
    out = np.empty(values.shape[1], np.float32)
    column = np.empty(values.shape[0], np.float32)
    for i in range(values.shape[1]):
        n = 0
        for f in range(values.shape[0]):
            value = values[f, i]
            if not np.isnan(value):
                # Insertion sort: there are few frames.
                k = n
                while k > 0 and column[k - 1] > value:
                    column[k] = column[k - 1]
                    k -= 1
                column[k] = value
                n += 1
        if n == 0:
            out[i] = 1.0
            continue
        place = shares[i] * (n - 1)
        low = int(place)
        high = min(low + 1, n - 1)
        out[i] = column[low] + (place - low) * (column[high] - column[low])
    return out


@njit(cache=True, nogil=True)
def _trilinear(grid, places):  # type: ignore[no-untyped-def]
    """Blend a grid at places in units of its cells; outside, the border's values."""
    out = np.empty(len(places), np.float32)
    nx, ny, nz = grid.shape
    for i in range(len(places)):
        x = min(max(places[i, 0], 0.0), nx - 1.0)
        y = min(max(places[i, 1], 0.0), ny - 1.0)
        z = min(max(places[i, 2], 0.0), nz - 1.0)
        a, b, c = min(int(x), nx - 2), min(int(y), ny - 2), min(int(z), nz - 2)
        u, v, w = x - a, y - b, z - c
        total = 0.0
        for p in range(2):
            for q in range(2):
                for r in range(2):
                    share = (u if p else 1 - u) * (v if q else 1 - v) * (w if r else 1 - w)
                    total += share * grid[a + p, b + q, c + r]
        out[i] = total
    return out


def _finish(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"], nude: _Nude
) -> tuple[Float[ndarray, "W 3"], Int[ndarray, "G 3"], tuple[bool, ...]]:
    """Smooth the extracted surface, draw the face back, join the hands; return which could be."""
    mean = mean_matrix(faces, len(vertices))
    loose = _looseness(vertices, nude)
    for number in range(LOOSE_SMOOTHINGS):  # Taubin's pair: it keeps the volume
        share = loose if number >= SMOOTHINGS else np.ones(len(vertices))
        vertices = smooth(vertices, mean, 0.5 * share, 1)
        vertices = smooth(vertices, mean, -0.52 * share, 1)
    vertices, faces = draw_back_face(vertices, faces, nude.surface, nude.face)
    joined = []
    for share in nude.hands:
        closest = nude.surface.query(vertices)
        shares = nude.surface.carry(closest, share[:, None])[:, 0]
        result = join_hand(
            vertices, faces, shares, nude.surface.vertices, nude.surface.faces, share
        )
        if result is not None:
            vertices, faces = result
        joined.append(result is not None)
    return vertices, faces, tuple(joined)


def _thin(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"], nude: _Nude, target: int
) -> tuple[Float[ndarray, "W 3"], Int[ndarray, "G 3"]]:
    """Simplify to about `target` vertices; hands and face stay finer."""
    closest = nude.surface.query(vertices)
    importance = np.ones(len(vertices))
    for share in nude.hands:
        hand = nude.surface.carry(closest, share[:, None])[:, 0]
        importance = np.maximum(importance, np.where(hand > HAND, HAND_IMPORTANCE, 1.0))
    face = nude.surface.carry(closest, nude.face[:, None])[:, 0]
    importance = np.maximum(importance, 1.0 + (FACE_IMPORTANCE - 1.0) * face)
    faces = thin(vertices, faces, importance, int(ROUGHLY * target))
    nothing = np.zeros((len(faces), 3, 2))
    locked, layout = np.zeros(len(vertices), bool), np.zeros(len(faces), bool)
    faces, _, _ = collapse(vertices, faces, nothing, importance, locked, layout, target)
    used, local = np.unique(faces, return_inverse=True)
    return vertices[used], local.reshape(-1, 3)


def _weights(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"], nude: _Nude, space: _Space
) -> Float[ndarray, "V J"]:
    """Carry the body's weights; far from it, those of the space around it."""
    prior = np.asarray(space.lattice.blend(vertices) @ space.weights, float)
    prior /= np.maximum(prior.sum(1, keepdims=True), 1e-12)
    surface = nude.surface
    return transfer_weights(
        vertices, faces, surface.vertices, surface.faces, nude.weights, prior=prior
    )


def _protected(vertices: Float[ndarray, "V 3"], nude: _Nude) -> ndarray:
    """Select the vertices of hands and face, which no outline moves."""
    closest = nude.surface.query(vertices)
    protected = nude.surface.carry(closest, nude.face[:, None])[:, 0] > 0.5
    for share in nude.hands:
        protected |= nude.surface.carry(closest, share[:, None])[:, 0] > 0.45
    return protected
