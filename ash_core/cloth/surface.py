"""Simulated points in the place of skinned vertices: places, and turns of the surface there."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.cloth import model
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.mesh import csr_to_torch, sparse_apply, vertex_normals
from ash_core.geometry.rotations import length, matrix_to_quat, quat_multiply, quat_rotate, unit
from ash_core.records import Cloth, Template

LEAST_TANGENT_M = 1e-5
"""Tangents shorter than this say nothing about a turn."""


def place_followers(cloth: Cloth, places: Float[Tensor, "*b P 3"]) -> Float[Tensor, "*b W 3"]:
    """Add the linings' vertices to the simulated points; m."""
    if not len(cloth.followers):
        return places
    a, b, c = (places[..., cloth.follower_corners[:, k], :] for k in range(3))
    weights = cloth.follower_weights
    feet = weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c
    normals = unit(torch.linalg.cross(b - a, c - a))
    return torch.cat((places, feet + cloth.follower_heights[:, None] * normals), -2)


@dataclass(frozen=True)
class SurfaceTable:
    """Faces at each of the cloth's vertices, by vertex, and what each adds to its tangent."""

    rows: np.ndarray
    """Row [I] of the vertex among the cloth's; ascending."""
    corners: np.ndarray
    """Vertices [I, 3] of the face, in its order, beginning with that vertex."""
    weights: np.ndarray
    """[I, 2]: a tangent is the sum of (second - first) and (third - first), so weighted."""


def surface_table(template: Template, cloth: Cloth) -> SurfaceTable:
    """List the faces at the cloth's vertices.

    At rest a tangent lies along the surface; a neighbour counts by how far it lies in that
    direction.
    """
    vertices, faces = template.vertices.double().numpy(), template.faces.numpy()
    worn = cloth.vertices.numpy()
    normals = model.vertex_normals(vertices, faces)[worn]
    # A direction along the surface: the axis that the normal is farthest from, made perpendicular.
    axes = np.eye(3)[np.abs(normals).argmin(1)]
    tangents = axes - (axes * normals).sum(1, keepdims=True) * normals
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    # Faces by vertex.
    row_of = np.full(len(vertices), -1)
    row_of[worn] = np.arange(len(worn))
    turned = np.concatenate([np.roll(faces, -k, axis=1) for k in range(3)])
    turned = turned[row_of[turned[:, 0]] >= 0]
    turned = turned[np.argsort(row_of[turned[:, 0]], kind="stable")]
    rows = row_of[turned[:, 0]]
    places = vertices[turned]
    edges = places[:, 1:] - places[:, :1]
    along = np.einsum("ikd,id->ik", edges, tangents[rows])
    return SurfaceTable(rows, turned, along / np.maximum((edges**2).sum(-1), 1e-12))


class Drape:
    """Surface of a character with its cloth where the simulation has it."""

    def __init__(self, template: Template, cloth: Cloth) -> None:
        """template, cloth: on the CPU."""
        table = surface_table(template, cloth)
        self.vertices = cloth.vertices
        shape = len(self.vertices), len(template.vertices)
        rows, corners, weights = table.rows, table.corners, table.weights
        columns = np.concatenate([corners[:, 0], corners[:, 1], corners[:, 2]])
        values = np.concatenate([-weights.sum(1), weights[:, 0], weights[:, 1]])
        tangents = sp.coo_matrix((values, (np.tile(rows, 3), columns)), shape)
        self._tangents = csr_to_torch(tangents.tocsr())
        # A face counts once for each of its corners.
        self.faces = torch.from_numpy(corners)
        counts = np.maximum(np.bincount(rows, minlength=shape[0]), 1)
        columns = np.arange(len(rows))
        mean = sp.coo_matrix((1.0 / counts[rows], (rows, columns)), (shape[0], len(rows)))
        self._face_mean = csr_to_torch(mean.tocsr())

    def to(self, device: torch.device) -> "Drape":
        """Move all tensors in place."""
        self.vertices, self.faces = self.vertices.to(device), self.faces.to(device)
        self._tangents, self._face_mean = self._tangents.to(device), self._face_mean.to(device)
        return self

    def wear(
        self,
        vertices: Float[Tensor, "b V 3"],
        real: Float[Tensor, "b V 4"],
        dual: Float[Tensor, "b V 4"],
        canonical: Float[Tensor, "b V 3"],
        places: Float[Tensor, "b W 3"],
    ) -> tuple[Float[Tensor, "b V 3"], Float[Tensor, "b V 4"], Float[Tensor, "b V 4"]]:
        """Move the cloth's vertices to their simulated places: (vertices, real, dual), m.

        Dual quaternions turn with the surface, and still take canonical to posed.
        """
        moved = vertices.index_copy(1, self.vertices, places)
        turn, is_known = self._turns(vertices, moved)
        own = real[:, self.vertices]
        own_real = torch.where(is_known, unit(quat_multiply(turn, own)), own)
        shift = places - quat_rotate(own_real, canonical[:, self.vertices])
        own_dual = dq.from_translation(shift, own_real)
        return (
            moved,
            real.index_copy(1, self.vertices, own_real),
            dual.index_copy(1, self.vertices, own_dual),
        )

    def _turns(
        self, before: Float[Tensor, "b V 3"], after: Float[Tensor, "b V 3"]
    ) -> tuple[Float[Tensor, "b W 4"], Tensor]:
        """Compute the turn of the surface at each of the vertices, and where it is known."""
        (first, first_known), (second, second_known) = map(self._frames, (before, after))
        turn = matrix_to_quat(second @ first.transpose(-1, -2))
        # Of both signs that with which skinned and turned quaternions blend.
        return torch.where(turn[..., :1] < 0, -turn, turn), first_known & second_known

    def _frames(self, vertices: Float[Tensor, "b V 3"]) -> tuple[Float[Tensor, "b W 3 3"], Tensor]:
        """Compute an orthonormal frame of the surface: normal, tangent, their cross product."""
        normals = vertex_normals(vertices, self.faces, self._face_mean)
        tangents = sparse_apply(self._tangents, vertices)
        along = tangents - (tangents * normals).sum(-1, keepdim=True) * normals
        is_known = (length(along) > LEAST_TANGENT_M) & (length(normals) > 0.5)
        along = unit(along)
        frames = torch.stack((normals, along, torch.linalg.cross(normals, along)), -1)
        identity = torch.eye(3).to(frames)
        return torch.where(is_known[..., None], frames, identity), is_known
