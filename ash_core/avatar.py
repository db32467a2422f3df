"""An avatar: a character, its atlas and its decoder. A window of poses in, Gaussians out."""

import functools
import math
from collections.abc import Mapping
from dataclasses import fields
from itertools import chain
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ash_core.character import Character
from ash_core.conventions import R_WORLD_BODY
from ash_core.drawable import Decoded, Stage, no_stage
from ash_core.errors import InputError
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.mesh import sparse_product
from ash_core.geometry.motion import heading_joint, heading_matrix
from ash_core.geometry.rotations import matrix_to_quat, quat_multiply, quat_to_matrix, unit
from ash_core.geometry.spherical_harmonics import rgb_to_sh, rotate_sh
from ash_core.geometry.texel_frames import posed_stretch, texel_colours, texel_frames
from ash_core.geometry.texels import (
    build_atlas,
    flat_index,
    interpolation_matrix,
    texel_transforms,
    to_map,
)
from ash_core.networks.decoder import Decoder, config_of
from ash_core.networks.loading import weights_version, with_weights
from ash_core.networks.unet import UNet
from ash_core.records import AvatarData, Gaussians, PosedMesh, PoseWindow, Template, to_device
from ash_core.variants import VARIANTS, VariantName

RELEASED_ROOT_SCALE = 1.2
"""The appearance network sees root / 1.2 - root translation.
Source: docs/released_behaviour.md A17."""
OFFSET_STEP_M = 0.05
"""A native Gaussian's offset grows by this for each unit of its raw value, until near its limit."""
LOG_SCALE_LIMIT = 1.5
"""A native Gaussian's size stays within exp(+-this) of its texel's."""
MOVE_GAIN = 10.0
"""A native decoder sees moves of 0.1 m a frame as 1."""
OPACITY = 0.98
"""Opacity of an untrained native Gaussian."""
OPACITY_LOGIT = math.log(OPACITY / (1 - OPACITY))


class Avatar(nn.Module):
    """Base class of both variants: the character, the atlas and the motion map.

    A torch module: a window of poses in, Gaussians in the world frame out, with gradients.

    >>> gaussians = avatar(ash.pose_window(motion, 120, avatar))
    >>> gaussians.means.shape == (avatar.count, 3), gaussians.sh.shape[1:]
    (True, torch.Size([4, 3]))
    """

    flat: Tensor
    """Place of each texel's Gaussian in a flattened map."""

    def __init__(self, data: AvatarData, resolution: int) -> None:
        super().__init__()
        self.data = data
        self.character = Character(data)
        published = VARIANTS[data.variant].uses_published_atlas
        self.atlas = build_atlas(data.template, resolution, published=published)
        if len(self.atlas.faces) == 0:
            raise InputError(
                f"{data.name}: expected texture coordinates that cover texels, got none"
            )
        self._interpolate = interpolation_matrix(self.atlas, len(data.template.vertices))
        self.register_buffer("flat", flat_index(self.atlas), persistent=False)
        world = torch.tensor(R_WORLD_BODY)
        self.register_buffer("_world", world, persistent=False)
        self.register_buffer("_world_quat", matrix_to_quat(world), persistent=False)

    @staticmethod
    def from_data(
        data: AvatarData, device: torch.device | str = "cpu", preset_name: str | None = None
    ) -> "Avatar":
        """Make the avatar that a file describes, ready to run.

        preset_name: atlas and decoder of a native avatar that carries no trained decoder.
        """
        return AVATAR_KINDS[data.variant](data, preset_name).eval().to(device)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        moved = fn(torch.empty(0))
        if moved.dtype != torch.float32:
            raise TypeError(
                f"an avatar stays in float32, move it by .to(device): got {moved.dtype}"
            )
        super()._apply(fn, recurse)
        device = moved.device
        self.atlas, self._interpolate = to_device(self.atlas, device), self._interpolate.to(device)
        return self

    @property
    def count(self) -> int:
        """Gaussians of a frame."""
        return len(self.flat)

    @property
    def truncates_bytes(self) -> bool:
        """True if colours are cut off to bytes instead of rounded, as published."""
        return VARIANTS[self.data.variant].truncates_bytes

    @property
    def move_gains(self) -> Float[Tensor, "m 1 1"] | None:
        """Gains of the moves that the networks see of the history; None: they see positions."""
        return None

    @property
    def offset_limit_m(self) -> float | None:
        """Farthest that a Gaussian lies from its texel along each axis; None: no bound."""
        return None

    @property
    def device(self) -> torch.device:
        """Device on which it runs."""
        return self.flat.device

    @property
    def version(self) -> int:
        """Grows with every change of the networks' weights in place."""
        return weights_version(self)

    def forward(self, window: PoseWindow) -> Gaussians:
        """Make the Gaussians of a window of poses, in the world frame."""
        return self.decode_window(window).gaussians

    def decode_window(
        self, window: PoseWindow, stage: Stage = no_stage, /, mesh: PosedMesh | None = None
    ) -> Decoded:
        """Make the raw values and the Gaussians, in the world frame, of a window of poses.

        The one forward chain, of renders and trainings. stage: the context of each part, see
        `drawable.Stage`. mesh: of the window, if it is known or tuned already.
        """
        with stage("deform"):
            posed = self.character(window) if mesh is None else mesh
        raw = self.raw_values(posed, window, stage)
        with stage("assemble"):
            return Decoded(self.assemble(raw, posed), raw)

    def raw_values(
        self, mesh: PosedMesh, window: PoseWindow, stage: Stage = no_stage, /
    ) -> Float[Tensor, "N c"]:
        """Run the decoder: float32 values of each texel, as `raw_channels` names them."""
        with stage("maps"):
            motion_map = self.motion_map(mesh, window)
        with stage("decode"):
            return self.decode(motion_map, mesh).float()

    def at_texels(self, values: Float[Tensor, "h V 3"]) -> Float[Tensor, "N c"]:
        """Interpolate vertex values at the texels, the history side by side."""
        columns = values.permute(1, 0, 2).reshape(values.shape[1], -1)
        return sparse_product(self._interpolate, columns)

    def motion_map(self, mesh: PosedMesh, window: PoseWindow) -> Float[Tensor, "1 18 r r"]:
        """Make the networks' input: six vectors of each texel.

        Released: positions about the root (m) and normals of three frames. Native: the position,
        the last four moves and the normal, from the character's heading. Normals are interpolated
        and not made unit again. Source: docs/released_behaviour.md A5, A6, A14.
        """
        places, normals = self._network_inputs(mesh, window)
        texels = self.at_texels(torch.cat((places, normals)))
        return to_map(self.atlas, texels, self.flat)

    def _network_inputs(self, mesh: PosedMesh, window: PoseWindow) -> tuple[Tensor, Tensor]:
        return mesh.vertices - mesh.root, mesh.normals

    def decode(
        self, motion_map: Float[Tensor, "1 18 r r"], mesh: PosedMesh
    ) -> Float[Tensor, "N c"]:
        """Raw values of each texel."""
        raise NotImplementedError

    @property
    def raw_channels(self) -> tuple[str, ...]:
        """Names of the columns of the raw values."""
        raise NotImplementedError

    def assemble(self, raw: Float[Tensor, "N c"], mesh: PosedMesh) -> Gaussians:
        """Raw values to Gaussians in the world frame."""
        raise NotImplementedError

    # ---- what a training needs ----

    def network_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """List the decoder's parameters by the names that checkpoints give them."""
        raise NotImplementedError

    def stored_networks(self, parts: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Make the state dictionaries of the avatar file from parameters named as above."""
        raise NotImplementedError

    def set_dropout(self, share: float) -> None:
        """Leave out a share of the decoder's channels at random, where the decoder can."""

    def refresh_frames(self, template: Template) -> None:
        """Take what the decoder's values are relative to from a changed template."""

    def _texels_of(self, picture: Float[Tensor, "1 c r r"]) -> Float[Tensor, "N c"]:
        return picture[0].permute(1, 2, 0).flatten(0, 1)[self.flat]


class ReleasedAvatar(Avatar):
    """Published networks and assembly, to float32 rounding. Source: docs/released_behaviour.md A.

    The networks learned from photographs divided by 256, so that their colours are 255/256 of the
    scene's; that stays, as in the published pictures (A20).
    """

    def __init__(self, data: AvatarData, preset_name: str | None = None) -> None:
        if preset_name is not None:
            raise InputError(f"preset: {data.name} is a released avatar, its networks are fixed")
        super().__init__(data, data.atlas_resolution)
        self.geometry = with_weights(lambda: UNet("geometry"), data.networks["unet_geometry"])
        self.appearance = with_weights(lambda: UNet("appearance"), data.networks["unet_appearance"])
        self.geometry.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.appearance.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("_root_translation", data.root_translation, persistent=False)

    def decode(
        self, motion_map: Float[Tensor, "1 18 r r"], mesh: PosedMesh
    ) -> Float[Tensor, "N c"]:
        """[N, 11 + 48]: geometry and appearance channels as the networks give them."""
        root = mesh.root / RELEASED_ROOT_SCALE - self._root_translation  # type: ignore[operator]
        motion_map = motion_map.contiguous(memory_format=torch.channels_last)
        pictures = self._both_networks(motion_map, root[None])
        return torch.cat([self._texels_of(picture) for picture in pictures], -1)

    def _both_networks(
        self, motion_map: Float[Tensor, "1 18 r r"], root: Float[Tensor, "1 3"]
    ) -> tuple[Tensor, Tensor]:
        """Geometry and appearance; on a GPU side by side, backwards too: neither fills it."""
        if not motion_map.is_cuda:
            return self.geometry(motion_map), self.appearance(motion_map, root)
        main, side = torch.cuda.current_stream(motion_map.device), _stream(motion_map.device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            appearance = self.appearance(motion_map, root)
        geometry = self.geometry(motion_map)
        main.wait_stream(side)
        return geometry, appearance

    @property
    def raw_channels(self) -> tuple[str, ...]:
        """Geometry, then colour."""
        geometry = (*_named("log scale", "xyz"), *_named("rotation", "wxyz"), "opacity")
        return (*geometry, *_named("offset", "xyz"), *_colours(16))

    def assemble(self, raw: Float[Tensor, "N c"], mesh: PosedMesh) -> Gaussians:
        """Only positions are turned to world; rotations and scales live there already, and only the
        degree-0 colour is shown. Source: docs/released_behaviour.md A2, A16.
        """
        real, dual = texel_transforms(self.atlas, mesh.real, mesh.dual)
        canonical = self.at_texels(mesh.canonical[None])
        means = dq.apply(real, dual, canonical + raw[:, 8:11]) @ self._world.T  # type: ignore[operator]
        return Gaussians(
            means=means,
            quats=unit(raw[:, 3:7]),
            scales=raw[:, 0:3].exp(),
            opacities=raw[:, 7].sigmoid(),
            sh=raw[:, 11:14].reshape(-1, 1, 3),
        )

    def network_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """List both U-Nets' parameters: unet_geometry.<key>, unet_appearance.<key>."""
        nets = {"unet_geometry": self.geometry, "unet_appearance": self.appearance}
        return [
            (f"{name}.{key}", parameter)
            for name, net in nets.items()
            for key, parameter in net.named_parameters()
        ]

    def stored_networks(self, parts: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Make both state dictionaries.

        Running statistics stand in the published layout and are used by nobody (A1).
        """
        return {
            name: {**self.data.networks[name], **_under(name, parts)}
            for name in ("unet_geometry", "unet_appearance")
        }


class NativeAvatar(Avatar):
    """Bounded residuals around the textured template; rotations and colours turn with the skinning.

    The decoder sees the character and its moves in the frame of its heading, independent of global
    position.
    """

    base_sh: Tensor
    _gains: Tensor

    def __init__(self, data: AvatarData, preset_name: str | None = None) -> None:
        trained = data.networks.get("decoder")
        if trained is not None and preset_name is not None:
            raise InputError(f"preset: {data.name} carries a trained decoder, its preset is fixed")
        config = config_of(data.decoder, preset_name)
        super().__init__(data, config.atlas)
        self.config = config
        self.decoder = Decoder(config)
        if trained is not None:
            self.decoder.load_state_dict(dict(trained))
        self.decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frames = texel_frames(data.template, self.atlas)
        self._heading_joint = heading_joint(data.skeleton)
        colours = texel_colours(data.template.texture, self.atlas)
        self.register_buffer("base_sh", rgb_to_sh(colours), persistent=False)
        gains = MOVE_GAIN / torch.tensor(data.history_offsets.frames).diff()
        self.register_buffer("_gains", gains[:, None, None], persistent=False)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        super()._apply(fn, recurse)
        self.frames = to_device(self.frames, fn(torch.empty(0)).device)
        return self

    def _network_inputs(self, mesh: PosedMesh, window: PoseWindow) -> tuple[Tensor, Tensor]:
        skeleton = self.character.skeleton
        turn = heading_matrix(window.dofs[0], skeleton).to(mesh.vertices)
        # About the joint that turns, not the root dofs: it may stand off them.
        places = mesh.vertices[:1] - mesh.joints[self._heading_joint]
        moves = self._gains * (mesh.vertices[:-1] - mesh.vertices[1:])
        return torch.cat((places, moves)) @ turn, mesh.normals[:1] @ turn

    @property
    def move_gains(self) -> Float[Tensor, "m 1 1"]:
        """Gains of the moves: the longer the step back, the smaller."""
        return self._gains

    @property
    def offset_limit_m(self) -> float:
        """Farthest that a Gaussian lies from its texel along each axis."""
        return self.config.offset_mm / 1000

    def decode(
        self, motion_map: Float[Tensor, "1 18 r r"], mesh: PosedMesh
    ) -> Float[Tensor, "N c"]:
        """[N, 10 + 3 K] raw residuals."""
        return self._texels_of(
            self.decoder(motion_map.contiguous(memory_format=torch.channels_last))
        )

    @property
    def raw_channels(self) -> tuple[str, ...]:
        """Residuals of the geometry, then of the colour."""
        names = (_named(name, "xyz") for name in ("offset", "rotation", "log scale"))
        return (*chain(*names), "opacity", *_colours((self.config.sh_degree + 1) ** 2))

    def assemble(self, raw: Float[Tensor, "N c"], mesh: PosedMesh) -> Gaussians:
        """Texel + residual, posed by the texel's dual quaternion, turned to world."""
        offset, turn, grow, opacity = raw[:, :10].split((3, 3, 3, 1), -1)
        real, dual = texel_transforms(self.atlas, mesh.real, mesh.dual)
        limit_m = self.offset_limit_m
        offset = limit_m * (offset * (OFFSET_STEP_M / limit_m)).tanh()
        place = self.at_texels(mesh.canonical[None]) + offset
        means = dq.apply(real, dual, place) @ self._world.T  # type: ignore[operator]

        turned = quat_multiply(self._world_quat.expand_as(real), real)  # type: ignore[operator]
        local = torch.cat((torch.ones_like(turn[:, :1]), turn), -1)
        quats = quat_multiply(turned, quat_multiply(self.frames.quats, local))
        stretch = posed_stretch(self.frames, mesh.vertices[0], self.character.faces, self.atlas)
        scales = self.frames.scales * stretch * (LOG_SCALE_LIMIT * grow.tanh()).exp()

        sh = raw[:, 10:].unflatten(-1, (-1, 3))
        sh = torch.cat((sh[:, :1] + self.base_sh[:, None], sh[:, 1:]), 1)
        return Gaussians(
            means=means,
            quats=unit(quats),
            scales=scales,
            opacities=(opacity[:, 0] + OPACITY_LOGIT).sigmoid(),
            sh=rotate_sh(sh, quat_to_matrix(turned)),
        )

    def network_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """List the decoder's parameters."""
        return list(self.decoder.named_parameters())

    def stored_networks(self, parts: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Make the decoder's state dictionary, which is its parameters."""
        return {"decoder": dict(parts)}

    def set_dropout(self, share: float) -> None:
        """Leave out a share of the decoder's channels at random, while gradients are computed."""
        self.decoder.dropout = share

    def refresh_frames(self, template: Template) -> None:
        """Take the Gaussians' directions and sizes from a template on the CPU."""
        frames = texel_frames(template, to_device(self.atlas, "cpu"))
        for field in fields(frames):  # in place: captured steps read them there
            getattr(self.frames, field.name).copy_(getattr(frames, field.name))


AVATAR_KINDS: Final[Mapping[VariantName, type[ReleasedAvatar | NativeAvatar]]] = {
    "released": ReleasedAvatar,
    "native": NativeAvatar,
}


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One beside the current one."""
    return torch.cuda.Stream(device)


def _under(name: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the parts whose names begin with a network's, without it."""
    start = f"{name}."
    return {key.removeprefix(start): part for key, part in parts.items() if key.startswith(start)}


def _named(name: str, axes: str) -> tuple[str, ...]:
    return tuple(f"{name} {axis}" for axis in axes)


def _colours(bases: int) -> tuple[str, ...]:
    """Name red, green and blue of each spherical harmonic."""
    return tuple(chain(*(_named(f"SH {base}", "rgb") for base in range(bases))))
