"""Cover at rest: skin under cloth, linings, the inside of a mouth.

Skinning moves cloth and what is under it by different bones, so that in motion a thigh comes
through its skirt. Layers keep the order that they have at rest if what is covered there counts as
lying a little farther from the eye.
"""

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from ash_core.geometry.camera import look_at
from ash_core.geometry.mesh import face_mean_matrix, vertex_normals
from ash_core.gl.buffer import fill_buffer
from ash_core.gl.context import opengl
from ash_core.gl.program import Program
from ash_core.gl.projection import clip_from_world, depth_range
from ash_core.gl.state import drawing_state
from ash_core.gl.target import Target
from ash_core.records import Camera, Template

DIRECTIONS: Final = 24
SIDE_PX: Final = 384
FAR: Final = 40.0
"""Distance of the cameras, in sizes of the template."""
SLACK: Final = 0.003
"""Share of the template's size within which a vertex lies on the surface in its pixel."""
COVERED: Final = 0.06
OPEN: Final = 0.22
"""Bounds on the share of directions that see a vertex: below it is covered, above it is open."""
TURNED: Final = 0.1
"""Mean surplus of directions that see a piece from behind, from which its faces are turned."""


@dataclass(frozen=True)
class Cover:
    """Order of a template's parts at rest."""

    vertices: Float[np.ndarray, "V"]
    """0: seen from many sides; 1: covered."""
    faces: Int[np.ndarray, "F 3"]
    """Faces of the template, anticlockwise from the side that more directions see."""


def find_cover(template: Template) -> Cover:
    """Find the covered vertices of the resting template, from views all around.

    The OpenGL context must be current.
    """
    faces = template.faces.cpu().numpy()
    points = template.vertices.double().cpu().numpy()
    if not len(faces):
        return Cover(np.zeros(len(points)), faces)
    normals = _normals(template)
    middle = (points.min(0) + points.max(0)) / 2
    size = float(np.linalg.norm(points - middle, axis=1).max()) + 1e-9

    # Each vertex is looked at from both of its sides: files do not always say which is outside.
    visible, facing = np.zeros((2, len(points))), np.zeros((2, len(points)))
    for direction, camera, depths in _depth_maps(points, faces, middle, size):
        for side, sign in enumerate((1.0, -1.0)):
            weight = np.maximum(sign * normals @ direction, 0.0)
            raised = points + sign * SLACK * size * normals
            visible[side] += weight * _is_visible(raised, camera, depths, SLACK * size)
            facing[side] += weight
    share = visible / np.maximum(facing, 1e-9)
    t = np.clip((OPEN - share.max(0)) / (OPEN - COVERED), 0.0, 1.0)

    # Turn the faces of a piece that more directions see from behind than from the front.
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), (len(points), len(points)))
    piece = connected_components(graph, directed=False)[1]
    balance = np.bincount(piece, share[0] - share[1])
    balance /= np.bincount(piece)
    is_turned = balance[piece[faces[:, 0]]] < -TURNED
    return Cover(t * t * (3 - 2 * t), np.where(is_turned[:, None], faces[:, [0, 2, 1]], faces))


def _normals(template: Template) -> np.ndarray:
    vertices, faces = template.vertices.cpu(), template.faces.cpu()
    return vertex_normals(vertices[None], faces, face_mean_matrix(faces, len(vertices)))[0].numpy()


def _depth_maps(
    points: np.ndarray, faces: np.ndarray, middle: np.ndarray, size: float
) -> Iterator[tuple[np.ndarray, Camera, np.ndarray]]:
    """Render view depths, m, 0 for none: (direction towards the camera, camera, depth [h, w])."""
    gl = opengl()
    target, program = Target(SIDE_PX, SIDE_PX), Program("film_depth.vert", "film_depth.frag")
    array, buffers = int(gl.glGenVertexArrays(1)), [int(name) for name in gl.glGenBuffers(2)]
    try:
        use = gl.GL_STATIC_DRAW
        with drawing_state():
            gl.glBindVertexArray(array)
            fill_buffer(gl.GL_ARRAY_BUFFER, buffers[0], points.astype(np.float32), use)
            gl.glEnableVertexAttribArray(0)
            gl.glVertexAttribPointer(0, 3, gl.GL_FLOAT, False, 12, ctypes.c_void_p(0))
            fill_buffer(gl.GL_ELEMENT_ARRAY_BUFFER, buffers[1], faces.astype(np.uint32), use)
        for direction in _directions(DIRECTIONS):
            camera = _distant_camera(direction, middle, size)
            near, far = depth_range(camera, points)
            with target.drawing((0.0, 0.0, 0.0, 0.0)):
                gl.glDisable(gl.GL_CULL_FACE)
                gl.glEnable(gl.GL_DEPTH_TEST)
                program.use(clip_from_world=clip_from_world(camera, near, far))
                gl.glBindVertexArray(array)
                gl.glDrawElements(
                    gl.GL_TRIANGLES, faces.size, gl.GL_UNSIGNED_INT, ctypes.c_void_p(0)
                )
            yield direction, camera, target.read_depth(near, far).numpy()
    finally:
        gl.glDeleteBuffers(len(buffers), buffers)
        gl.glDeleteVertexArrays(1, [array])
        target.delete()
        program.delete()


def _directions(count: int) -> np.ndarray:
    """Spread unit directions [count, 3] evenly over the sphere: a Fibonacci lattice."""
    n = np.arange(count) + 0.5
    z, turn = 1 - 2 * n / count, np.pi * (1 + math.sqrt(5)) * n
    across = np.sqrt(1 - z * z)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], 1)


def _distant_camera(direction: np.ndarray, middle: np.ndarray, size: float) -> Camera:
    """Place a camera far away: its rays are nearly parallel, the template fills its image."""
    target = torch.from_numpy(middle)
    viewmat = look_at(target + FAR * size * torch.from_numpy(direction), target)
    focal = 0.49 * SIDE_PX * (FAR - 1)
    K = torch.tensor([[focal, 0.0, SIDE_PX / 2], [0.0, focal, SIDE_PX / 2], [0.0, 0.0, 1.0]])
    return Camera(viewmat, K, SIDE_PX, SIDE_PX)


def _is_visible(
    points: np.ndarray, camera: Camera, depths: np.ndarray, slack_m: float
) -> np.ndarray:
    """Test points [V] for visibility. depths: of the camera's pixels."""
    view, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
    x, y, z = view[:3, :3] @ points.T + view[:3, 3:]
    column = np.clip(K[0, 0] * x / z + K[0, 2], 0, SIDE_PX - 1).astype(int)
    row = np.clip(K[1, 1] * y / z + K[1, 2], 0, SIDE_PX - 1).astype(int)
    first = depths[row, column]
    return (first == 0) | (z < first + slack_m)
