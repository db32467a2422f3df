"""Skin weights carried from a body to any surface near it: a scan, a clothed template.

Where the surface lies close to the body and faces the same way, it takes the body's weights;
elsewhere they are inpainted smoothly over the surface.
Source: Abdrashitov et al. 2023, "Robust Skin Weights Transfer via Weight Inpainting".
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph
import scipy.sparse.linalg as spla
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from ash_core.errors import InputError
from ash_core.importers.template.closest import ClosestSurface
from ash_core.importers.template.linear_skinning import bone_moves, place_points, unplace_points
from ash_core.importers.template.volume import diffuse_weights
from ash_core.studio.mesh.surface import edges_of, vertex_normals

NEAR = 0.016
"""Largest distance to the body of a matched vertex, as a share of the body's diagonal."""
FACING = 0.82
"""Least cosine between the normals of a matched vertex and of the body."""
MOLLIFIER = 1e-4
"""Share of the mean edge length that is added to all edges, which bounds slivers' cotangents."""
PRIOR_REACH_M = 0.03
"""Length over which inpainted weights leave a prior."""
DIRECT_MAX = 60_000
"""Largest number of inpainted vertices that are solved directly; more are solved by steps."""
WELD = 1e-6
"""Share of the diagonal within which vertices count as one."""
FAR_SCAN_M = 0.10
"""Largest mean distance from the body to a scan of it."""


def transfer_weights(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    body_vertices: Float[ndarray, "B 3"],
    body_faces: Int[ndarray, "G 3"],
    body_weights: Float[ndarray, "B J"],
    prior: Float[ndarray, "V J"] | None = None,
) -> Float[ndarray, "V J"]:
    """Compute skin weights of a surface near a body; rows sum to 1. Both in one pose and unit.

    Vertices at one place (texture seams) get equal weights.
    prior: weights that inpainted vertices tend to; None: those of the space around the body, so
    that a skirt's hem belongs to both legs.
    Raises: InputError for a surface without faces or with numbers that are not finite.
    """
    # Weld vertices at one place.
    vertices, faces = np.asarray(vertices, float), np.asarray(faces, np.int64)
    if not len(faces) or not np.isfinite(vertices).all():
        raise InputError(f"template: expected a mesh of finite vertices, got {len(faces)} faces")
    size = float(np.linalg.norm(np.ptp(np.asarray(body_vertices), axis=0)))
    welded, owner = weld(vertices, WELD * size)
    corners = owner[faces]
    corners = corners[(np.diff(np.sort(corners, 1), axis=1) > 0).all(1)]
    # Match what lies close to the body and faces the same way.
    body = ClosestSurface(body_vertices, body_faces)
    closest = body.query(welded)
    normals = vertex_normals(welded, corners)
    facing = np.einsum("vd,vd->v", normals, closest.normals)
    matched = (closest.distances < NEAR * size) & (facing > FACING)
    weights = body.carry(closest, np.asarray(body_weights, float))
    # Components without a match keep the nearest weights.
    edges = edges_of(corners) if len(corners) else np.zeros((0, 2), np.int64)
    links = sp.coo_matrix((np.ones(len(edges)), edges.T), (len(welded),) * 2)
    _, piece = csgraph.connected_components(links, directed=False)
    matched |= ~np.isin(piece, np.unique(piece[matched]))
    # Inpaint the others.
    if not matched.all():
        if prior is None:
            around = diffuse_weights(welded, closest, body, body_weights, normals)
        else:
            first = np.full(len(welded), -1)
            first[owner[::-1]] = np.arange(len(vertices))[::-1]
            around = prior[first]
        weights = _inpaint(welded, corners, weights, matched, np.asarray(around, float))
    weights = np.maximum(weights, 0.0)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return weights[owner]


def weld(vertices: Float[ndarray, "V 3"], reach: float) -> tuple[ndarray, Int[ndarray, "V"]]:
    """Merge vertices that lie within `reach`; return their places [W, 3] and each one's owner."""
    pairs = KDTree(vertices).query_pairs(reach, output_type="ndarray")
    links = sp.coo_matrix((np.ones(len(pairs)), pairs.T), (len(vertices),) * 2)
    count, owner = csgraph.connected_components(links, directed=False)
    places = np.zeros((count, 3))
    places[owner[::-1]] = vertices[::-1]
    return places, owner


def cotangent_laplacian(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"]
) -> tuple[sp.csr_matrix, Float[ndarray, "V"]]:
    """Compute the positive cotangent Laplacian [V, V] and each vertex's area.

    Edge lengths are mollified, so that slivers stay harmless.
    Source: Sharp and Crane 2020, "A Laplacian for Nonmanifold Triangle Meshes", 3.5.
    """
    corners = vertices[faces]
    lengths = np.linalg.norm(np.roll(corners, -1, 1) - np.roll(corners, -2, 1), axis=2)
    a, b, c = lengths.T
    lack = np.maximum.reduce([a - b - c, b - c - a, c - a - b])
    mean = float(lengths.mean())
    lengths = lengths + max(0.0, MOLLIFIER * mean + float(lack.max()))
    a, b, c = lengths.T
    half = (a + b + c) / 2
    area = np.sqrt(np.maximum(half * (half - a) * (half - b) * (half - c), (1e-6 * mean) ** 4))
    squares = lengths**2
    cotangents = (squares.sum(1, keepdims=True) - 2 * squares) / (4 * area[:, None])
    # The angle at corner k weighs the edge between the other two.
    rows, columns = np.roll(faces, -1, 1).ravel(), np.roll(faces, -2, 1).ravel()
    values = np.clip(cotangents.ravel() / 2, -10.0, 1e3)
    n = len(vertices)
    half_matrix = sp.coo_matrix((values, (rows, columns)), (n, n)).tocsr()
    links = half_matrix + half_matrix.T
    # A negative sum on an edge would let weights overshoot.
    links.data = np.maximum(links.data, 1e-3)
    areas = np.bincount(faces.ravel(), np.repeat(area / 3, 3), minlength=n)
    laplacian = sp.diags(np.asarray(links.sum(1)).ravel()) - links
    return laplacian.tocsr(), np.maximum(areas, 1e-3 * float(areas.mean()) + 1e-30)


def _inpaint(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    weights: Float[ndarray, "V J"],
    matched: Bool[ndarray, "V"],
    prior: Float[ndarray, "V J"],
) -> Float[ndarray, "V J"]:
    """Solve for the weights of unmatched vertices: bilaplacian, harmonic for very large scans."""
    laplacian, areas = cotangent_laplacian(vertices, faces)
    free, fixed = np.flatnonzero(~matched), np.flatnonzero(matched)
    is_direct = len(free) <= DIRECT_MAX
    energy = laplacian
    if is_direct:
        energy = laplacian @ sp.diags(1.0 / areas) @ laplacian
    inner = energy[free][:, free].tocsc()
    right = -(energy[free][:, fixed] @ weights[fixed])
    # The pull is weak against the surface's scale: it counts far from what is matched.
    pull = areas[free] / PRIOR_REACH_M ** (4 if is_direct else 2)
    inner = inner + sp.diags(pull)
    right = right + pull[:, None] * prior[free]
    inpainted = weights.copy()
    if is_direct:
        inpainted[free] = spla.splu(inner.tocsc()).solve(right)
        return inpainted
    scale = sp.diags(1.0 / inner.diagonal())
    for column in np.flatnonzero(np.abs(right).max(0) > 0):
        start = weights[free, column]
        inpainted[free, column], _ = spla.cg(
            inner, right[:, column], x0=start, rtol=1e-4, maxiter=500, M=scale
        )
    return inpainted


@dataclass(frozen=True)
class UnposedScan:
    """Scan brought to the body's rest pose."""

    vertices: Float[ndarray, "V 3"]
    """Rest pose, m, in the scan's order."""
    weights: Float[ndarray, "V J"]
    frame: int | None
    """Index of the frame in whose pose the scan was; None: the rest pose."""
    distance_m: float
    """Mean distance from the body in that pose to the scan."""


def unpose_scan(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    body_vertices: Float[ndarray, "B 3"],
    body_faces: Int[ndarray, "G 3"],
    body_weights: Float[ndarray, "B J"],
    rest_joints: Float[ndarray, "J 3"],
    joint_frames: tuple[Float[ndarray, "F J 3 3"], Float[ndarray, "F J 3"]],
) -> UnposedScan:
    """Bring a scan in the pose of some frame, or in the rest pose, to the rest pose.

    vertices: m, in the axes of the frames' world, or of the body file for the rest pose.
    Vertices keep their order: faces and texture coordinates stay valid.
    Raises: InputError where no frame's body lies near the scan.
    """
    # Find the pose whose body is nearest, by some of its vertices.
    moves = bone_moves(joint_frames, rest_joints)
    every = max(1, len(body_vertices) // 400)
    some, some_weights = body_vertices[::every], body_weights[::every]
    if not len(faces) or not np.isfinite(vertices).all():
        raise InputError(f"template: expected a mesh of finite vertices, got {len(faces)} faces")
    tree = KDTree(np.asarray(vertices, float)[np.unique(faces)])
    poses = [some, *(place_points(some, some_weights, move) for move in moves)]
    distances = [float(tree.query(pose)[0].mean()) for pose in poses]
    best = int(np.argmin(distances))
    if distances[best] > FAR_SCAN_M:
        name = "the rest pose" if best == 0 else f"frame {best - 1}"
        raise InputError(
            f"template: expected a scan, m, in the pose of a frame or at rest, got a mesh "
            f"{distances[best] * 100:.0f} cm from the body of {name}, the nearest"
        )
    # Carry the weights in that pose, then undo it.
    if best == 0:
        posed = np.asarray(body_vertices, float)
    else:
        posed = place_points(body_vertices, body_weights, moves[best - 1])
    weights = transfer_weights(vertices, faces, posed, body_faces, body_weights)
    rest = np.asarray(vertices, float)
    if best > 0:
        rest = unplace_points(rest, weights, moves[best - 1])
    return UnposedScan(rest, weights, best - 1 if best else None, distances[best])
