"""The deformable character: a window of poses in, a deformed and posed mesh out."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ash_core.cloth.surface import Drape
from ash_core.conventions import HISTORY, MM_PER_M
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.embedded_graph import build_links
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.mesh import csr_to_torch, face_mean_matrix, sparse_product, vertex_normals
from ash_core.geometry.motion import pose_keys
from ash_core.geometry.rotations import (
    euler_to_matrix,
    length,
    matrix_to_euler,
    quat_to_matrix,
)
from ash_core.geometry.skinning import blend_bones
from ash_core.networks.graph_net import GraphNet, Kind, mesh_adjacency
from ash_core.networks.loading import weights_version, with_weights
from ash_core.records import AvatarData, PosedMesh, PoseWindow, to_device
from ash_core.variants import VARIANTS

_CACHED_POSES = 64


@dataclass(frozen=True)
class Deformation:
    """Additions of the graph networks to the template: metres and radians."""

    node_translations: Float[Tensor, "b G 3"]
    node_angles: Float[Tensor, "b G 3"]
    displacements: Float[Tensor, "b V 3"]


@dataclass(frozen=True)
class LinkedVertices:
    """Links between nodes and some vertices, flat: m of them."""

    nodes: Int[Tensor, "m"]
    references: Int[Tensor, "m"]
    """Node whose sign each link follows."""
    weights: Float[Tensor, "m 1"]
    gather: Tensor
    """Sparse [v, m]: sums link values at the vertices."""


@dataclass(frozen=True)
class _Pose:
    """One deformed and posed mesh of the history."""

    vertices: Float[Tensor, "V 3"]
    normals: Float[Tensor, "V 3"]
    canonical: Float[Tensor, "V 3"]
    real: Float[Tensor, "V 4"]
    dual: Float[Tensor, "V 4"]
    joints: Float[Tensor, "J 3"]


class Character(nn.Module):
    """Skeleton -> graph network -> vertex network -> canonical mesh -> posed mesh.

    Without the published checkpoint the networks are absent and the deformation is zero. Poses that
    a window shares with an earlier one are cached (at most 64), unless gradients are enabled.
    Kinematics run in float64, values of vertices are float32.
    Source: Habermann et al. 2021; docs/released_behaviour.md A5-A11.
    """

    template_vertices: Tensor

    def __init__(self, data: AvatarData) -> None:
        super().__init__()
        self.skeleton, self.skinning = data.skeleton, data.skinning
        self.faces: Int[Tensor, "F 3"] = data.template.faces
        self.links = build_links(data.template, data.graph)
        self.references: Int[Tensor, "V"] = self.links.first_nodes
        """Node whose sign the blend at each vertex follows."""
        if VARIANTS[data.variant].uses_published_references:  # weights were trained with this bug
            self.references = self.links.published_reference
        self._linked = self.linked_vertices(None)
        self._face_mean = face_mean_matrix(self.faces, len(data.template.vertices))
        rest = joint_transforms(self.skeleton, data.rest_dofs)[self.skinning.bone_joints]
        self.rest_inverse: Float[Tensor, "B 4 4"] = torch.linalg.inv(rest)
        self.register_buffer("template_vertices", data.template.vertices, persistent=False)
        self.drape = None if data.cloth is None else Drape(data.template, data.cloth)
        self.spatial_gcn = self.delta_gcn = None
        if "spatial_gcn" in data.networks:
            nodes, vertices = len(data.graph.vertices), len(data.template.vertices)
            self.spatial_gcn = _graph_net("spatial", data.graph.faces, nodes, data.networks)
            self.delta_gcn = _graph_net("delta", self.faces, vertices, data.networks)
        self._cache: OrderedDict[bytes, _Pose] = OrderedDict()

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Move the plain tensors and records too, without a change of their precision."""
        super()._apply(fn, recurse)
        device = fn(torch.empty(0)).device
        self.skeleton, self.skinning = (
            to_device(self.skeleton, device),
            to_device(self.skinning, device),
        )
        self.links = to_device(self.links, device)
        self.rest_inverse = self.rest_inverse.to(device)
        self.faces = self.faces.to(device)
        self.references = self.references.to(device)
        self._linked = to_device(self._linked, device)
        self._face_mean = self._face_mean.to(device)
        if self.drape is not None:
            self.drape.to(device)
        self.forget()
        return self

    def forget(self) -> None:
        """Drop the cached poses, after a change of device or before a timing."""
        self._cache.clear()

    def bone_transforms(self, dofs: Float[Tensor, "b D"]) -> tuple[Tensor, Tensor, Tensor]:
        """Compute joints [b, J, 4, 4], bones, bones from rest [b, B, 4, 4]; body frame, m."""
        joints = joint_transforms(self.skeleton, dofs)
        bones = joints[:, self.skinning.bone_joints]
        return joints, bones, bones @ self.rest_inverse

    def node_transforms(
        self, bones: Float[Tensor, "b B 4 4"]
    ) -> tuple[Float[Tensor, "b G 4"], Float[Tensor, "b G 4"]]:
        """Blend bone transforms at the graph's nodes: (real, dual), float32."""
        vertices = self.links.node_vertices
        real, dual = (part.float() for part in dq.from_matrix(bones))
        bones_at, weights = self.skinning.bones[vertices], self.skinning.weights[vertices]
        real, dual = blend_bones(real, dual, bones_at, weights)
        # The release keeps matrices here, so a blend's non-rigid part (real . dual) is dropped.
        return real, dq.from_translation(dq.translation(real, dual), real)

    def blend_nodes(
        self, matrices: Float[Tensor, "b G 3 4"], points: Float[Tensor, "*b V 3"]
    ) -> Float[Tensor, "b V 3"]:
        """Move points by the weighted mean of their nodes' affine transforms."""
        b, g = matrices.shape[:2]
        # Nodes first, and by components: products of small matrices are slow.
        flat = matrices.transpose(0, 1).reshape(g, b * 12)
        blended = sparse_product(self.links.blend, flat)
        columns = blended.reshape(-1, b, 3, 4).transpose(0, 1).unbind(-1)
        x, y, z = points[..., None].unbind(-2)
        return columns[0] * x + columns[1] * y + columns[2] * z + columns[3]

    def linked_vertices(self, vertices: Int[Tensor, "v"] | None) -> LinkedVertices:
        """Select the links of some vertices, for `blend_links`; None: of all."""
        links = self.links
        references = self.references[links.link_vertices]
        if vertices is None:
            weights = links.link_weights[:, None]
            return LinkedVertices(links.link_nodes, references, weights, links.gather)
        rows = torch.full((len(self.references),), -1)
        rows[vertices] = torch.arange(len(vertices))
        owners = rows[links.link_vertices]
        is_owned = owners >= 0
        nodes, owners = links.link_nodes[is_owned], owners[is_owned]
        count = len(owners)
        table = sp.coo_matrix(
            (np.ones(count, np.float32), (owners.numpy(), np.arange(count))), (len(vertices), count)
        )
        weights = links.link_weights[is_owned][:, None]
        return LinkedVertices(nodes, references[is_owned], weights, csr_to_torch(table.tocsr()))

    def blend_links(
        self,
        real: Float[Tensor, "b G 4"],
        dual: Float[Tensor, "b G 4"],
        linked: LinkedVertices | None = None,
    ) -> tuple[Float[Tensor, "b v 4"], Float[Tensor, "b v 4"]]:
        """Blend the nodes' dual quaternions at the vertices; linked: at some of them.

        Same as `dual_quaternion.blend` with padded lists, but over the flat list of links, which is
        half as long.
        """
        linked = linked or self._linked
        nodes = torch.cat((real, dual), -1).transpose(0, 1).contiguous()  # [G, b, 8]
        own = nodes.index_select(0, linked.nodes)
        reference = nodes.index_select(0, linked.references)
        w, x, y, z = (own[..., :4] * reference[..., :4]).unbind(-1)
        signed = torch.where(w + x + y + z > 0, linked.weights, -linked.weights)
        total = sparse_product(linked.gather, (own * signed[..., None]).flatten(1))
        real, dual = total.unflatten(-1, (-1, 8)).transpose(0, 1).split(4, -1)
        norm = length(real)
        return real / norm, dual / norm

    def network_inputs(
        self, poses: Float[Tensor, "p D"]
    ) -> tuple[Float[Tensor, "p V 3"], Float[Tensor, "p G 3"], Float[Tensor, "p G 3"]]:
        """Make the graph networks' input of each pose: posed template, node angles and positions.

        m and rad (Euler angles). The last two come from blending the bones' global transforms, not
        those relative to rest. Source: docs/released_behaviour.md A9, A10.
        """
        _, bones, relative = self.bone_transforms(poses)
        posed = self.blend_nodes(
            dq.to_matrix(*self.node_transforms(relative)), self.template_vertices
        )
        real, dual = self.node_transforms(bones)
        return posed, matrix_to_euler(quat_to_matrix(real)), dq.translation(real, dual)

    def deformation(self, normalised: Float[Tensor, "b 3 D"]) -> Deformation | None:
        """Run the graph networks on normalised poses n-2, n-1, n; None without a checkpoint."""
        if self.spatial_gcn is None or self.delta_gcn is None:
            return None
        b = len(normalised)
        posed, angles, places = self.network_inputs(normalised.flatten(0, 1))
        node_rows = torch.cat((places, angles), -1).unflatten(0, (b, HISTORY))
        nodes = self.spatial_gcn(node_rows.transpose(1, 2).flatten(2))
        rows = posed.unflatten(0, (b, HISTORY)).transpose(1, 2).flatten(2)
        return Deformation(nodes[..., :3], nodes[..., 3:], self.delta_gcn(rows * MM_PER_M))

    def canonical(self, deformation: Deformation) -> Float[Tensor, "b V 3"]:
        """Deform the template, without posing it; m.

        Each node turns about itself and moves, then the vertices' displacements are added.
        """
        turn = euler_to_matrix(deformation.node_angles)
        nodes = self.template_vertices[self.links.node_vertices][..., None]
        shift = nodes + deformation.node_translations[..., None] - turn @ nodes
        moved = self.blend_nodes(torch.cat((turn, shift), -1), self.template_vertices)
        return moved + deformation.displacements

    def pose(
        self, dofs: Float[Tensor, "b D"], canonical: Float[Tensor, "b V 3"]
    ) -> tuple[Float[Tensor, "b V 3"], Float[Tensor, "b V 4"], Float[Tensor, "b V 4"], Tensor]:
        """Pose the vertices: (vertices, real and dual part of each, joint positions), m."""
        joints, _, relative = self.bone_transforms(dofs)
        real, dual = self.blend_links(*self.node_transforms(relative))
        return dq.apply(real, dual, canonical), real, dual, joints[..., :3, 3].float()

    def skinned(
        self, dofs: Float[Tensor, "b D"], normalised: Float[Tensor, "b 3 D"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Deform and pose without cloth: (canonical, then all of `pose`), m."""
        deformation = self.deformation(normalised)
        if deformation is None:
            canonical = self.template_vertices.expand(len(dofs), -1, -1)
        else:
            canonical = self.canonical(deformation)
        return canonical, *self.pose(dofs, canonical)

    def _compute(
        self,
        dofs: Float[Tensor, "b D"],
        normalised: Float[Tensor, "b 3 D"],
        cloth: Float[Tensor, "b W 3"] | None,
    ) -> list[_Pose]:
        canonical, posed, real, dual, joints = self.skinned(dofs, normalised)
        if cloth is not None and self.drape is not None:
            posed, real, dual = self.drape.wear(posed, real, dual, canonical, cloth)
        normals = vertex_normals(posed, self.faces, self._face_mean)
        return [
            _Pose(*parts)
            for parts in zip(posed, normals, canonical, real, dual, joints, strict=True)
        ]

    def forward(self, window: PoseWindow) -> PosedMesh:
        """Deform and pose the character at a window of poses (float64, on the module's device).

        With gradients nothing is looked up: it is the same work for every window.
        """
        if torch.is_grad_enabled():
            history = self._compute(window.dofs, window.normalised, window.cloth)
        else:
            history = self._looked_up(window)
        now = history[0]
        return PosedMesh(
            vertices=torch.stack([p.vertices for p in history]),
            normals=torch.stack([p.normals for p in history]),
            canonical=now.canonical,
            real=now.real,
            dual=now.dual,
            joints=now.joints,
            root=window.dofs[0, :3].float(),
        )

    def _looked_up(self, window: PoseWindow) -> list[_Pose]:
        """Take the poses of a window from the cache, and compute those that it lacks."""
        version = weights_version(self).to_bytes(8, "little")
        keys = [version + key for key in pose_keys(window)]
        poses = {k: self._cache[k] for k in keys if k in self._cache}
        new = [i for i, k in enumerate(keys) if k not in poses and k not in keys[:i]]
        if new:
            cloth = None if window.cloth is None else window.cloth[new]
            fresh = self._compute(window.dofs[new], window.normalised[new], cloth)
            poses |= {keys[i]: pose for i, pose in zip(new, fresh, strict=True)}
        self._cache |= {k: poses[k] for k in keys}
        for k in keys:
            self._cache.move_to_end(k)
        while len(self._cache) > _CACHED_POSES:
            self._cache.popitem(last=False)
        return [poses[k] for k in keys]


def _graph_net(
    kind: Kind,
    faces: Int[Tensor, "F 3"],
    n_nodes: int,
    networks: Mapping[str, Mapping[str, Tensor]],
) -> GraphNet:
    adjacency = mesh_adjacency(kind, faces, n_nodes)
    return with_weights(lambda: GraphNet(kind, n_nodes, adjacency), networks[f"{kind}_gcn"])
