"""The deformable character's two graph networks, with the published parameters' names and shapes.

Both are residual networks on a mesh whose every node has its own kernels. `spatial` runs on the
embedded graph (18 -> 6: motion of each node), `delta` on the template's vertices (9 -> 3: fine
displacement) with one dense layer over all vertices in the middle.
Source: Habermann et al. 2021, "Real-time Deep Dynamic Characters"; docs/released_behaviour.md A22.
"""

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ash_core.geometry.mesh import (
    Csr,
    csr_to_torch,
    hop_distances,
    sparse_product,
    vertex_adjacency,
)

Kind = Literal["spatial", "delta"]
FEATURES = 16
BLOCKS = 8
CHANNELS: dict[Kind, tuple[int, int]] = {"spatial": (18, 6), "delta": (9, 3)}
RINGS: dict[Kind, int] = {"spatial": 2, "delta": 3}
"""Ring of each network: an edge's weight is ring - hops for hops < ring."""
DENSE_AFTER = 3
"""Block of the delta network that its dense layer follows."""


def ring_adjacency(faces: Int[Tensor, "F 3"], n_nodes: int, ring: int) -> Csr:
    """Build the row-normalised [n, n] matrix: ring - hops for nodes within `ring` hops."""
    near = hop_distances(vertex_adjacency(faces, n_nodes), np.arange(n_nodes), ring - 1)
    weights = near.astype(np.float64)
    weights.data = ring + 1 - weights.data
    return sp.diags(1 / np.asarray(weights.sum(1)).ravel()) @ weights


def mesh_adjacency(kind: Kind, faces: Int[Tensor, "F 3"], n_nodes: int) -> Tensor:
    """Build the sparse [n, n] matrix by which a network of this kind averages."""
    return csr_to_torch(ring_adjacency(faces, n_nodes, RINGS[kind]))


def expected_shapes(kind: Kind, n_nodes: int) -> dict[str, tuple[int, ...]]:
    """List names and shapes of the published state dictionary."""
    with torch.device("meta"):
        net = GraphNet(kind, n_nodes, torch.empty(0))
    return {k: tuple(v.shape) for k, v in net.state_dict().items()}


class _NodeConv(nn.Module):
    """Graph convolution: a linear map of each node's own, weighted mean over neighbours, bias."""

    def __init__(self, n_nodes: int, c_in: int, c_out: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(n_nodes, c_in, c_out))
        self.bias = nn.Parameter(torch.zeros(n_nodes, c_out))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        if x.shape[1] == 1:  # one row a node: a batched product costs twice this
            mapped = (x.transpose(1, 2) * self.kernel).sum(1, keepdim=True)
        else:
            mapped = torch.bmm(x, self.kernel)  # [n, b, c]
        n, b, c = mapped.shape
        mean = sparse_product(adjacency, mapped.reshape(n, b * c))
        return mean.reshape(n, b, c) + self.bias[:, None]


class _NodeDense(nn.Module):
    """Dense layer over all nodes, the same for every feature."""

    def __init__(self, n_nodes: int, channels: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(n_nodes, n_nodes))
        self.bias = nn.Parameter(torch.zeros(n_nodes, channels))

    def forward(self, x: Tensor) -> Tensor:
        n, b, c = x.shape
        return (self.kernel @ x.reshape(n, b * c)).reshape(n, b, c) + self.bias[:, None]


class GraphNet(nn.Module):
    """A published graph network: [b, n, c_in] -> [b, n, c_out].

    kind "spatial": node positions (m) and Euler angles of three poses -> translation (m) and
    rotation (rad) of each node; normalised by running statistics. kind "delta": posed vertices of
    three poses in MILLIMETRES -> displacement in m. Source: docs/released_behaviour.md A6.
    """

    adjacency: Tensor

    def __init__(self, kind: Kind, n_nodes: int, adjacency: Tensor) -> None:
        super().__init__()
        c_in, c_out = CHANNELS[kind]
        self.register_buffer("adjacency", adjacency, persistent=False)
        self.dense = kind == "delta"
        self.gcnn_0 = _NodeConv(n_nodes, c_in, FEATURES)
        for block in range(BLOCKS):
            for half in range(2):
                if kind == "spatial":
                    self.add_module(f"bn_{block}_{half}", nn.BatchNorm1d(n_nodes * FEATURES))
                self.add_module(f"gcnn_{block}_{half}", _NodeConv(n_nodes, FEATURES, FEATURES))
            if self.dense and block == DENSE_AFTER:
                self.dense_0_gcnn = _NodeDense(n_nodes, FEATURES)
        self.final_gcnn = _NodeConv(n_nodes, FEATURES, c_out)
        self.eval()

    def _norm(self, x: Tensor, name: str) -> Tensor:
        if self.dense:  # the delta network has no normalisation
            return x
        norm: nn.BatchNorm1d = getattr(self, name)
        n, _, c = x.shape
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        return x * scale.view(n, 1, c) + shift.view(n, 1, c)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n o"]:
        x = self.gcnn_0(x.transpose(0, 1).contiguous(), self.adjacency)
        for block in range(BLOCKS):
            y = nn.functional.elu(self._norm(x, f"bn_{block}_0"))
            y = getattr(self, f"gcnn_{block}_0")(y, self.adjacency)
            y = self._norm(y, f"bn_{block}_1")
            y = getattr(self, f"gcnn_{block}_1")(y, self.adjacency)
            x = x + y
            if self.dense and block == DENSE_AFTER:
                x = x + self.dense_0_gcnn(nn.functional.elu(x))
        x = self.final_gcnn(nn.functional.elu(x), self.adjacency)
        return x.transpose(0, 1)
