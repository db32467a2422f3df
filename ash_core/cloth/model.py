"""Model of the loose parts of a template: points, links, colliders and constants.

`build_model` makes it of an avatar's template, skinning and skeleton and of a looseness per vertex.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float32, Int32, Int64
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree

from ash_core.cloth.colliders import Colliders, distances, fit_colliders
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import AvatarData, Cloth, ClothConstants, Skinning

HELD = 0.02
"""Least looseness of a point that moves by itself."""
HARD_HZ, SOFT_HZ = 60.0, 1.0
"""Angular frequencies of the pull to the skinned place, rad/s: at looseness 0 and 1."""
LAYER_M = 0.012
"""Greatest distance of a lining from the outer layer that it follows."""
ANCHOR_EDGES = 3
"""Edges from a point towards the border to the point that shows how it hangs."""
OPPOSED = -0.5
"""Greatest cosine between the normals of a lining and of the outer layer."""


@dataclass(frozen=True)
class ClothModel:
    """Loose parts of a template. Rest pose, body frame, m."""

    vertices: Int64[np.ndarray, "P"]
    """Template vertex of each point."""
    looseness: Float32[np.ndarray, "P"]
    """0: held by the skinning; 1: pulled at SOFT_HZ."""
    places: Float32[np.ndarray, "P 3"]
    carriers: Int64[np.ndarray, "P"]
    """Joint from which each point's piece hangs."""
    carried_down: Float32[np.ndarray, "P 3"]
    """Direction that is down at rest, in the carrier's frame; unit."""
    anchors: Int32[np.ndarray, "P"]
    """Point some edges nearer to the held border, which shows how a point hangs; or itself."""
    links: Int32[np.ndarray, "L 2"]
    """Pairs of points, sorted by colour: links of one colour share no point."""
    colours: Int32[np.ndarray, "K+1"]
    """First link of each colour, and the number of links."""
    lengths: Float32[np.ndarray, "L"]
    is_bend: Bool[np.ndarray, "L"]
    """True: a pair across an edge; False: an edge."""
    followers: Int64[np.ndarray, "Q"]
    """Template vertices of linings, which keep their place on a triangle of points."""
    follower_corners: Int32[np.ndarray, "Q 3"]
    follower_weights: Float32[np.ndarray, "Q 3"]
    follower_heights: Float32[np.ndarray, "Q"]
    """Signed distance along the triangle's normal."""
    colliders: Colliders
    room: Float32[np.ndarray, "P C"]
    """Distance of each point at rest from each capsule's surface."""
    floor_m: float
    """Height of the floor; -inf: none."""
    constants: ClothConstants
    passes: int
    """Passes over the links in a tick."""


def pull_frequencies(looseness: np.ndarray) -> np.ndarray:
    """Compute the angular frequency of each point's pull, rad/s."""
    return HARD_HZ * (SOFT_HZ / HARD_HZ) ** looseness


def build_model(
    data: AvatarData,
    looseness: Float32[np.ndarray, "V"],
    constants: ClothConstants | None = None,
    floor_m: float = -np.inf,
    passes: int = 1,
) -> ClothModel:
    """Build the model of vertices whose looseness is at least `HELD`, and of their neighbours."""
    vertices = data.template.vertices.numpy().astype(np.float64)
    faces = data.template.faces.numpy()
    moves = looseness >= HELD
    rest = joint_transforms(data.skeleton, data.rest_dofs.double()).numpy()
    colliders, centres = fit_colliders(data.skinning, rest, vertices, ~moves)

    # Linings follow the outer layer; the rest are points.
    linings = find_linings(vertices, faces, moves, colliders, centres)
    near = faces[moves[faces].any(1)]
    layer = near[~linings[near].any(1)]
    points = np.unique(layer)
    local = np.searchsorted(points, layer)
    links, lengths, is_bend, colours = weave(vertices[points], local, moves[points])
    followers = np.flatnonzero(linings)
    corners, weights, heights = attach(vertices[followers], vertices[points], local)
    room = distances(vertices[points], colliders, centres)
    carriers = find_carriers(data.skinning, points, moves[points], links)
    return ClothModel(
        vertices=points,
        looseness=np.where(moves[points], looseness[points], 0.0).astype(np.float32),
        places=vertices[points].astype(np.float32),
        carriers=carriers,
        carried_down=-rest[carriers, 1, :3].astype(np.float32),
        anchors=find_anchors(moves[points], links[~is_bend], lengths[~is_bend]),
        links=links,
        colours=colours,
        lengths=lengths,
        is_bend=is_bend,
        followers=followers,
        follower_corners=corners,
        follower_weights=weights,
        follower_heights=heights,
        colliders=colliders,
        room=room.astype(np.float32),
        floor_m=floor_m,
        constants=constants or ClothConstants(),
        passes=passes,
    )


def with_looseness(model: ClothModel, looseness: Float32[np.ndarray, "P"]) -> ClothModel:
    """Change the looseness of the points that move; held ones stay held."""
    moving = np.clip(looseness, HELD, 1.0)
    return replace(model, looseness=np.where(model.looseness > 0, moving, 0.0).astype(np.float32))


def find_linings(
    vertices: np.ndarray,
    faces: np.ndarray,
    moves: np.ndarray,
    colliders: Colliders,
    centres: np.ndarray,
) -> Bool[np.ndarray, "V"]:
    """Mark moving vertices of an inner layer: a moving surface lies close outside, back to back."""
    normals = vertex_normals(vertices, faces)
    moving = np.flatnonzero(moves)
    linings = np.zeros(len(vertices), bool)
    if len(moving) < 2:
        return linings
    tree = KDTree(vertices[moving])
    count = min(24, len(moving))
    near = tree.query(vertices[moving], k=count, distance_upper_bound=2 * LAYER_M)[1]
    for row, v in zip(np.reshape(near, (-1, count)), moving, strict=True):
        others = moving[row[row < len(moving)]]
        away = vertices[others] - vertices[v]
        across = away @ normals[v]
        sideways = np.linalg.norm(away - across[:, None] * normals[v], axis=1)
        backs = (normals[others] @ normals[v] < OPPOSED) & (np.abs(across) < LAYER_M)
        # The other layer is behind this one, or at the same place.
        linings[v] = bool((backs & (across < 1e-4) & (sideways < 2 * LAYER_M)).any())
    if not linings.any():
        return linings
    # Both layers are back to back: the one whose normal faces the body is the lining.
    inward = facing_body(vertices[moving], normals[moving], colliders, centres)
    linings[moving] &= inward
    return linings


def find_carriers(
    skinning: Skinning, points: np.ndarray, moves: np.ndarray, links: np.ndarray
) -> Int64[np.ndarray, "P"]:
    """Choose the joint from which each piece hangs: that of the bone that moves most of its border.

    A piece are points that links join; its border are its held points.
    """
    count = len(points)
    ones = np.ones(len(links))
    graph = sp.coo_matrix((ones, (links[:, 0], links[:, 1])), (count, count))
    pieces = connected_components(graph, directed=False)[1]
    shares = np.zeros((count, len(skinning.bone_names)))
    rows = np.arange(count)[:, None]
    np.add.at(shares, (rows, skinning.bones.numpy()[points]), skinning.weights.numpy()[points])
    totals = np.zeros((int(pieces.max(initial=-1)) + 1, shares.shape[1]))
    # A piece without a border hangs from the bone that moves most of it.
    np.add.at(totals, pieces, np.where(moves, 1e-6, 1.0)[:, None] * shares)
    bones = totals.argmax(1) if totals.size else np.zeros(0, np.int64)
    return skinning.bone_joints.numpy()[bones[pieces]]


def find_anchors(
    moves: np.ndarray, edges: np.ndarray, lengths: np.ndarray
) -> Int32[np.ndarray, "P"]:
    """Find the point `ANCHOR_EDGES` along each point's shortest way to the held border."""
    count = len(moves)
    ends = edges[:, 0], edges[:, 1]
    graph = sp.coo_matrix((np.maximum(lengths, 1e-6), ends), (count, count)).tocsr()
    anchors = np.arange(count)
    border = np.flatnonzero(~moves)
    if len(border):
        before = dijkstra(
            graph, directed=False, indices=border, min_only=True, return_predecessors=True
        )[1]
        before = np.where(before < 0, np.arange(count), before)
        for _ in range(ANCHOR_EDGES):
            anchors = before[anchors]
    return anchors.astype(np.int32)


def facing_body(
    points: np.ndarray, normals: np.ndarray, colliders: Colliders, centres: np.ndarray
) -> Bool[np.ndarray, "n"]:
    """Mark points whose normal points at the nearest collider's axis."""
    step = 1e-3
    outside, inside = (
        distances(points + side * step * normals, colliders, centres).min(1) for side in (1, -1)
    )
    return outside < inside


def weave(
    places: np.ndarray, faces: np.ndarray, moves: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Link points along edges and across them: (links, lengths, is_bend, colours)."""
    edges, across = edges_and_pairs(faces)
    links = np.concatenate([edges, across])
    is_bend = np.arange(len(links)) >= len(edges)
    swings = moves[links].any(1)
    links, is_bend = links[swings], is_bend[swings]
    colour = colour_links(links)
    order = np.argsort(colour, kind="stable")
    links, is_bend = links[order], is_bend[order]
    count = int(colour.max()) + 1 if len(colour) else 0
    starts = np.searchsorted(colour[order], np.arange(count + 1))
    lengths = np.linalg.norm(places[links[:, 0]] - places[links[:, 1]], axis=1)
    return (
        links.astype(np.int32),
        lengths.astype(np.float32),
        is_bend,
        starts.astype(np.int32),
    )


def edges_and_pairs(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List a mesh's edges [E, 2], and the pairs of vertices that face each other over one."""
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    tips = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    order = np.lexsort((sides[:, 1], sides[:, 0]))
    sides, tips = sides[order], tips[order]
    same = (sides[1:] == sides[:-1]).all(1)
    pairs = np.sort(np.stack([tips[:-1][same], tips[1:][same]], 1), 1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).reshape(-1, 2)
    return np.unique(sides, axis=0).reshape(-1, 2), pairs


def colour_links(links: np.ndarray) -> Int64[np.ndarray, "L"]:
    """Colour links so that those of one colour share no point; each takes the first free colour."""
    taken: dict[int, int] = {}
    colours = np.zeros(len(links), np.int64)
    for k, (i, j) in enumerate(links.tolist()):
        free = ~(taken.get(i, 0) | taken.get(j, 0))
        bit = free & -free
        colours[k] = bit.bit_length() - 1
        taken[i] = taken.get(i, 0) | bit
        taken[j] = taken.get(j, 0) | bit
    return colours


def attach(
    points: np.ndarray, layer: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attach points to the nearest triangle of a layer: (corners, weights, heights)."""
    if not len(points) or not len(faces):
        none = np.zeros((len(points), 3))
        return none.astype(np.int32), none.astype(np.float32), none[:, 0].astype(np.float32)
    corners = layer[faces]
    tree = KDTree(corners.mean(1))
    near = tree.query(points, k=min(16, len(faces)))[1].reshape(len(points), -1)
    a, b, c = np.moveaxis(corners[near], 2, 0)
    weights = barycentrics(points[:, None], a, b, c)
    feet = weights[..., :1] * a + weights[..., 1:2] * b + weights[..., 2:] * c
    best = np.linalg.norm(feet - points[:, None], axis=2).argmin(1)
    rows = np.arange(len(points))
    chosen = near[rows, best]
    a, b, c = corners[chosen].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    heights = ((points - feet[rows, best]) * normals).sum(1)
    return (
        faces[chosen].astype(np.int32),
        weights[rows, best].astype(np.float32),
        heights.astype(np.float32),
    )


def barycentrics(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Compute barycentric coordinates [..., 3] of the feet of points, kept inside the triangles."""
    u, v, w = b - a, c - a, p - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    area = np.maximum(uu * vv - uv * uv, 1e-18)
    second, third = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    weights = np.maximum(np.stack([1 - second - third, second, third], -1), 0.0)
    return weights / weights.sum(-1, keepdims=True)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute unit normals [V, 3], weighted by area."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces, np.cross(b - a, c - a)[:, None])
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-20)


# ---- the stored form ----


def store_model(model: ClothModel) -> Cloth:
    """Convert a model to the record of the avatar file."""
    colliders = model.colliders

    def integers(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.int64))

    def floats(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    return Cloth(
        points=integers(model.vertices),
        looseness=floats(model.looseness),
        places=floats(model.places),
        carriers=integers(model.carriers),
        carried_down=floats(model.carried_down),
        anchors=integers(model.anchors),
        links=integers(model.links),
        colours=integers(model.colours),
        lengths=floats(model.lengths),
        is_bend=torch.from_numpy(model.is_bend.astype(bool)),
        followers=integers(model.followers),
        follower_corners=integers(model.follower_corners),
        follower_weights=floats(model.follower_weights),
        follower_heights=floats(model.follower_heights),
        sphere_joints=integers(colliders.joints),
        sphere_centres=floats(colliders.centres),
        sphere_radii=floats(colliders.radii),
        capsules=integers(colliders.capsules),
        room=floats(model.room),
        constants=model.constants,
        passes=model.passes,
        floor=None if np.isinf(model.floor_m) else float(model.floor_m),
    )


def restore_model(cloth: Cloth) -> ClothModel:
    """Convert the record of an avatar file, on the CPU, to a model."""

    def integers(values: torch.Tensor) -> np.ndarray:
        return values.numpy().astype(np.int32)

    return ClothModel(
        vertices=cloth.points.numpy(),
        looseness=cloth.looseness.numpy(),
        places=cloth.places.numpy(),
        carriers=cloth.carriers.numpy(),
        carried_down=cloth.carried_down.numpy(),
        anchors=integers(cloth.anchors),
        links=integers(cloth.links),
        colours=integers(cloth.colours),
        lengths=cloth.lengths.numpy(),
        is_bend=cloth.is_bend.numpy(),
        followers=cloth.followers.numpy(),
        follower_corners=integers(cloth.follower_corners),
        follower_weights=cloth.follower_weights.numpy(),
        follower_heights=cloth.follower_heights.numpy(),
        colliders=Colliders(
            joints=cloth.sphere_joints.numpy(),
            centres=cloth.sphere_centres.numpy(),
            radii=cloth.sphere_radii.numpy(),
            capsules=integers(cloth.capsules),
        ),
        room=cloth.room.numpy(),
        floor_m=-np.inf if cloth.floor is None else cloth.floor,
        constants=cloth.constants,
        passes=cloth.passes,
    )
