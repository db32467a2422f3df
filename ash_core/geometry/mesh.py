"""Triangle meshes: normals, neighbours, incidence."""

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakIdKeyDictionary

from ash_core.geometry.rotations import unit

Csr = Any
"""Type of scipy.sparse.csr_matrix, whose published annotations do not fit its use."""
_cached_transposes = WeakIdKeyDictionary()
"""Transpose of a sparse matrix, by that matrix, which is never changed in place."""


def csr_to_torch(matrix: Csr, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert a scipy CSR matrix to a torch one, for products with dense tensors."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.data).to(dtype),
        size=matrix.shape,
        check_invariants=True,
    )


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, values: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix @ values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, _transposed(ctx.matrix) @ gradient


def sparse_product(
    matrix: Float[Tensor, "m n"], values: Float[Tensor, "n c"]
) -> Float[Tensor, "m c"]:
    """Multiply a constant sparse matrix by dense values, with gradients by the values.

    torch's own gradient sorts the matrix anew in each step, which a CUDA graph cannot capture.
    """
    return _SparseProduct.apply(matrix, values)  # type: ignore[return-value]


def _transposed(matrix: Tensor) -> Tensor:
    if matrix not in _cached_transposes:
        starts, columns, values = (
            part.cpu().numpy()
            for part in (matrix.crow_indices(), matrix.col_indices(), matrix.values())
        )
        rows: Csr = sp.csr_matrix((values, columns, starts), tuple(matrix.shape))
        _cached_transposes[matrix] = csr_to_torch(rows.T, matrix.dtype).to(matrix.device)
    return _cached_transposes[matrix]


def vertex_adjacency(faces: Int[Tensor, "F 3"], n_vertices: int) -> Csr:
    """Build the symmetric 0/1 matrix [V, V] of the mesh's edges, with zero diagonal."""
    f = faces.numpy()
    edges = np.concatenate((f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]))
    ones = np.ones(len(edges), np.int32)
    half: Csr = sp.coo_matrix(
        (ones, (edges[:, 0], edges[:, 1])), shape=(n_vertices, n_vertices)
    ).tocsr()
    both = half + half.T
    both.setdiag(0)
    both.eliminate_zeros()
    both.data[:] = 1
    return both.tocsr()


def hop_distances(adjacency: Csr, sources: np.ndarray, reach: int) -> Csr:
    """Count the edges from each source to each vertex: [S, V] of hops + 1; 0 beyond `reach`."""
    n = adjacency.shape[0]
    rows = np.arange(len(sources))
    reached: Csr = sp.csr_matrix(
        (np.ones(len(sources), np.int32), (rows, sources)), (len(sources), n)
    )
    step: Csr = (adjacency + sp.eye(n, format="csr")).astype(np.int32)
    total = reached.copy()
    for _ in range(reach):
        reached = reached @ step
        reached.data[:] = 1
        total = total + reached
    # A vertex at h hops is counted in reach + 1 - h of the rounds.
    total.data = reach + 2 - total.data
    return total.tocsr()


def face_normals(
    vertices: Float[Tensor, "*b V 3"], faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "*b F 3"]:
    """Compute unit face normals, zero for a degenerate face."""
    v0, v1, v2 = (vertices.index_select(-2, faces[:, i]) for i in range(3))
    return unit(torch.linalg.cross(v2 - v1, v0 - v1))


def face_mean_matrix(faces: Int[Tensor, "F 3"], n_vertices: int) -> Tensor:
    """Build the sparse [V, F] matrix of the unweighted mean over each vertex's faces."""
    f = faces.numpy()
    rows, cols = f.reshape(-1), np.repeat(np.arange(len(f)), 3)
    incidence = sp.coo_matrix((np.ones(len(rows)), (rows, cols)), (n_vertices, len(f))).tocsr()
    counts = np.maximum(np.asarray(incidence.sum(1)).ravel(), 1)
    return csr_to_torch(sp.diags(1 / counts) @ incidence)


def sparse_apply(matrix: Tensor, values: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
    """Multiply a matrix [m, n] by a batch of values, in one sparse product."""
    b, n, c = values.shape
    flat = values.transpose(0, 1).reshape(n, b * c)
    return sparse_product(matrix, flat).reshape(-1, b, c).transpose(0, 1)


def vertex_normals(
    vertices: Float[Tensor, "b V 3"], faces: Int[Tensor, "F 3"], face_mean: Tensor
) -> Float[Tensor, "b n 3"]:
    """Compute unit vertex normals: the unweighted mean of the unit normals of a vertex's faces.

    Source: docs/released_behaviour.md A14.
    """
    mean = sparse_apply(face_mean, face_normals(vertices, faces))
    return unit(mean)
