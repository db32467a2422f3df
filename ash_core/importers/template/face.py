"""Finer triangles for the face of a fitted surface, laid onto the nude body's face."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ash_core.importers.template.closest import ClosestSurface
from ash_core.studio.mesh.surface import edges_of, mean_matrix, smooth, vertex_normals

FACE = 0.3
"""Share of the face from which triangles are split."""
FAR_M = 0.015
"""Largest distance from the nude face that is drawn back to it."""
FACING = 0.4
"""Least cosine between the normals: the inside of a mouth is no target."""


def draw_back_face(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    body: ClosestSurface,
    body_face: Float[ndarray, "B"],
) -> tuple[Float[ndarray, "W 3"], Int[ndarray, "G 3"]]:
    """Split the triangles of the face in four, and lay them onto the nude body's.

    body_face: share of the face at the body's vertices.
    """
    share = body.carry(body.query(vertices), body_face[:, None])[:, 0]
    vertices, faces = split_faces(vertices, faces, share[faces].min(1) > FACE)
    mean = mean_matrix(faces, len(vertices))
    for _ in range(2):
        closest = body.query(vertices)
        share = body.carry(closest, body_face[:, None])[:, 0]
        facing = np.einsum("vd,vd->v", vertex_normals(vertices, faces), closest.normals)
        # Where there is no target, the neighbours' move is taken.
        trust = np.clip((FAR_M - closest.distances) / (0.5 * FAR_M), 0.0, 1.0)
        trust = trust * np.clip((facing - FACING) / 0.2, 0.0, 1.0)
        move = smooth(trust[:, None] * (closest.places - vertices), mean, 1 - trust, 4)
        vertices = vertices + np.clip(share / 0.5, 0.0, 1.0)[:, None] * move
    return vertices, faces


def split_faces(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"], chosen: Bool[ndarray, "F"]
) -> tuple[Float[ndarray, "W 3"], Int[ndarray, "G 3"]]:
    """Split some triangles in four at their edges' middles; their neighbours follow."""
    if not chosen.any():
        return vertices, faces
    edges = edges_of(faces[chosen])
    count = len(vertices)
    codes = edges[:, 0] * count + edges[:, 1]
    ends = np.stack([faces, np.roll(faces, -1, 1)], 2)
    keys = ends.min(2) * count + ends.max(2)
    place = np.minimum(np.searchsorted(codes, keys), len(codes) - 1)
    middle = np.where(codes[place] == keys, count + place, -1)
    places = np.concatenate([vertices, vertices[edges].mean(1)])
    # Turn each triangle so that its split edges come first.
    number = (middle >= 0).sum(1)
    start = np.zeros(len(faces), np.int64)
    start[number == 1] = (middle[number == 1] >= 0).argmax(1)
    start[number == 2] = ((middle[number == 2] < 0).argmax(1) + 1) % 3
    order = (start[:, None] + np.arange(3)) % 3
    (a, b, c), (ab, bc, ca) = (np.take_along_axis(x, order, 1).T for x in (faces, middle))
    parts = [np.stack([a, b, c], 1)[number == 0]]
    for split, triangles in (
        (1, ((a, ab, c), (ab, b, c))),
        (2, ((a, ab, c), (ab, bc, c), (ab, b, bc))),
        (3, ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))),
    ):
        parts += [np.stack(triangle, 1)[number == split] for triangle in triangles]
    return places, np.concatenate(parts)
