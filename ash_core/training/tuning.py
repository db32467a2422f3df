"""The deformable character, fitted to photographs through the rasterizer.

With a checkpoint its graph networks learn on; without one the template's vertices move, the same in
every pose. What keeps the surface whole is that neighbours move alike.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ash_core.avatar import Avatar
from ash_core.geometry.mesh import csr_to_torch, sparse_product, vertex_adjacency
from ash_core.records import AvatarData, PosedMesh, PoseWindow

Networks = dict[str, Mapping[str, Tensor]]
OFFSET = "template_offset"


class Tuning:
    """The part of an avatar's character that is learned."""

    def __init__(self, avatar: Avatar) -> None:
        self.avatar, self.character = avatar, avatar.character
        template = avatar.data.template
        self._rest = self.character.template_vertices.clone()
        self.offset: nn.Parameter | None = None
        if self.character.spatial_gcn is None:
            self.offset = nn.Parameter(torch.zeros_like(self._rest))
        near = vertex_adjacency(template.faces.cpu(), len(template.vertices)).astype("float64")
        counts = near.sum(1)
        near = near.multiply(1.0 / counts.clip(min=1.0).reshape(-1, 1)).tocsr()
        self._mean = csr_to_torch(near).to(self._rest.device)

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """List the learned parameters by name."""
        if self.offset is not None:
            return [(OFFSET, self.offset)]
        nets = {"spatial_gcn": self.character.spatial_gcn, "delta_gcn": self.character.delta_gcn}
        return [
            (f"{name}.{key}", parameter)
            for name, net in nets.items()
            if net is not None
            for key, parameter in net.named_parameters()
        ]

    def mesh(self, window: PoseWindow) -> PosedMesh:
        """The mesh of a pose, with gradients by what is learned."""
        if self.offset is not None:
            self.character.template_vertices = self._rest + self.offset
        return self.character(window)

    def roughness(self, mesh: PosedMesh, untuned: PosedMesh) -> Float[Tensor, ""]:
        """Mean square of how much more each vertex was moved than the mean of its neighbours, m^2,
        in the pose without skinning.
        """
        moved = mesh.canonical - untuned.canonical
        return (moved - sparse_product(self._mean, moved)).square().sum(-1).mean()

    def refresh_frames(self, tuned: Mapping[str, Tensor]) -> None:
        """Take the Gaussians' directions and sizes from the tuned template, as a file's reader
        will.
        """
        if self.offset is not None:
            vertices = (self._rest + tuned[OFFSET]).detach().cpu()
            self.avatar.refresh_frames(replace(self.avatar.data.template, vertices=vertices))

    def into(
        self, data: AvatarData, networks: Networks, tuned: Mapping[str, Tensor]
    ) -> tuple[AvatarData, Networks]:
        """An avatar file's content with the tuned character in it."""
        tuned = {name: part.detach().cpu().contiguous().clone() for name, part in tuned.items()}
        if self.offset is not None:
            vertices = data.template.vertices + tuned[OFFSET]
            return replace(data, template=replace(data.template, vertices=vertices)), networks
        for name in ("spatial_gcn", "delta_gcn"):
            own = {k.removeprefix(f"{name}."): v for k, v in tuned.items() if k.startswith(name)}
            networks[name] = {**data.networks[name], **own}
        return data, networks
