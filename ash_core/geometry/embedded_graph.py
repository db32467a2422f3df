"""The embedded graph: coarse nodes on the template that carry the large, smooth deformation."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from ash_core.errors import InputError
from ash_core.geometry.mesh import csr_to_torch, hop_distances, vertex_adjacency
from ash_core.records import GraphMesh, Template

REACH = 3
"""Hops within which a node moves a vertex; doubled for vertices that have none."""


@dataclass(frozen=True)
class GraphLinks:
    """Which nodes move which vertices: a flat list of M links, by vertex, then node."""

    node_vertices: Int[Tensor, "G"]
    """Template vertex that each node sits on."""
    link_vertices: Int[Tensor, "M"]
    link_nodes: Int[Tensor, "M"]
    link_weights: Float[Tensor, "M"]
    """exp(-0.5 (hops / 3)^2), normalised to sum one at each vertex."""
    gather: Tensor
    """Sparse [V, M]: sums link values at the vertices."""
    blend: Tensor
    """Sparse [V, G]: the weighted mean of node values at the vertices."""
    first_nodes: Int[Tensor, "V"]
    """Each vertex's first node: its sign reference."""
    published_reference: Int[Tensor, "V"]
    """The node that the release takes for it instead (see `build_links`)."""
    fallback_vertices: Int[Tensor, "U"]
    """Vertices that found no node within `REACH` hops."""


def nearest_vertices(
    nodes: Float[np.ndarray, "G 3"], vertices: Float[np.ndarray, "V 3"]
) -> np.ndarray:
    """Template vertex of each node: the nearest one that no earlier node took."""
    tree = KDTree(vertices)
    taken = np.zeros(len(vertices), bool)
    chosen = np.empty(len(nodes), np.int64)
    for i, node in enumerate(nodes):
        for k in (1, 8, 64, len(vertices)):
            near = np.atleast_1d(tree.query(node, k=min(k, len(vertices)))[1])
            free = near[~taken[near]]
            if len(free):
                break
        else:
            raise InputError(f"graph: expected at most {len(vertices)} nodes, got {len(nodes)}")
        chosen[i] = free[0]
        taken[free[0]] = True
    return chosen


def build_links(template: Template, graph: GraphMesh) -> GraphLinks:
    """Links from hop distances over the template's edges.

    A vertex is moved by every node within 3 hops, else within 6. Differs from the release, which
    stops with an IndexError beyond: there the nearest node in space takes it.
    Source: docs/released_behaviour.md A8.

    The release means a vertex's own first node as sign reference for blending, but looks up that
    node's id in the list of links: it gets the node of an unrelated link. `published_reference`
    keeps that for published weights. Source: docs/released_behaviour.md A7.
    """
    vertices = template.vertices.numpy()
    n_vertices, n_nodes = len(vertices), len(graph.vertices)
    node_vertices = nearest_vertices(graph.vertices.numpy(), vertices)
    adjacency = vertex_adjacency(template.faces, n_vertices)

    hops = hop_distances(adjacency, node_vertices, REACH).T.tocsr()  # [V, G], hops + 1
    missing = np.flatnonzero(np.diff(hops.indptr) == 0)
    wide = hop_distances(adjacency, missing, 2 * REACH).tocsc()[:, node_vertices].tocsr()
    nearest = np.asarray(KDTree(graph.vertices.numpy()).query(vertices[missing])[1])
    rows = {}
    for i, vertex in enumerate(missing):
        span = slice(wide.indptr[i], wide.indptr[i + 1])
        alone = span.stop == span.start
        rows[vertex] = (
            (nearest[[i]], np.ones(1)) if alone else (wide.indices[span], wide.data[span])
        )

    hops.sort_indices()
    lists = [
        rows.get(v) or (hops.indices[a:b], hops.data[a:b])
        for v, (a, b) in enumerate(zip(hops.indptr[:-1], hops.indptr[1:], strict=True))
    ]
    counts = np.array([len(nodes) for nodes, _ in lists])
    starts = np.concatenate(([0], np.cumsum(counts)))
    link_vertices = np.repeat(np.arange(n_vertices), counts)
    link_nodes = np.concatenate([nodes for nodes, _ in lists]).astype(np.int64)
    distance = np.concatenate([hop1 for _, hop1 in lists]).astype(np.float64) - 1
    weights = np.exp(-0.5 * (distance / REACH) ** 2)
    weights /= np.bincount(link_vertices, weights)[link_vertices]
    first = link_nodes[starts[:-1]]

    links = np.arange(len(link_nodes))
    gather = sp.coo_matrix((np.ones(len(links)), (link_vertices, links)), (n_vertices, len(links)))
    blend = sp.coo_matrix((weights, (link_vertices, link_nodes)), (n_vertices, n_nodes))
    return GraphLinks(
        node_vertices=torch.from_numpy(node_vertices),
        link_vertices=torch.from_numpy(link_vertices),
        link_nodes=torch.from_numpy(link_nodes),
        link_weights=torch.from_numpy(weights).float(),
        gather=csr_to_torch(gather.tocsr()),
        blend=csr_to_torch(blend.tocsr()),
        first_nodes=torch.from_numpy(first),
        published_reference=torch.from_numpy(link_nodes[first % len(link_nodes)]),
        fallback_vertices=torch.from_numpy(missing.astype(np.int64)),
    )
