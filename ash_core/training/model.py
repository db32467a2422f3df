"""The avatar that is trained: made, run with gradients, saved."""

import io
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ash_core.avatar import Avatar, NativeAvatar, ReleasedAvatar
from ash_core.conventions import ATLAS_RESOLUTIONS
from ash_core.errors import InputError
from ash_core.files.avatar_file import save_avatar
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.checks import ATLAS_STEP, network_shapes
from ash_core.files.io import write_atomic
from ash_core.geometry.spherical_harmonics import rgb_to_sh
from ash_core.networks.decoder import config_of
from ash_core.networks.unet import OUT_CHANNELS, UNet
from ash_core.records import AvatarData, Camera, Gaussians, PosedMesh, PoseWindow, to_device
from ash_core.training.config import TrainConfig
from ash_core.training.flat import Flat
from ash_core.training.pictures import Tell, in_order, threads
from ash_core.training.tuning import Tuning
from ash_core.training.warmup import (
    WARM_UP_OPACITY_LOGIT,
    WarmUpTarget,
    published_texel_colours,
    warm_up_target,
)

UNETS = ("unet_geometry", "unet_appearance")
RELEASED_CHANNELS = sum(OUT_CHANNELS.values())
PUBLISHED_WARM_UP = {
    "log_scales": 1.0,
    "quats": 1.0,
    "dc": 1.0,
    "rest": 1.0,
    "opacity": 0.1,
    "offset": 1.0,
}
"""Weights of the first phase's squared differences. Source: docs/released_behaviour.md D1."""


RISE_STEPS = 100
"""The learning rate rises over so many steps, or a twentieth of a shorter training."""


def first_avatar(config: TrainConfig, data: AvatarData) -> AvatarData:
    """What the training begins with, of DATA's character or another avatar with its weights."""
    graph = {name: net for name, net in data.networks.items() if name.endswith("_gcn")}
    if config.variant == "native":
        decoder = config_of(data.decoder, config.preset)
        if "decoder" in data.networks:
            graph["decoder"] = data.networks["decoder"]
            text = f"{config.avatar or config.data} carries a trained decoder, which is as it is"
            if config.preset is not None:
                raise InputError(f"--preset: expected none, got {config.preset}: {text}")
            if config.offset_mm not in (None, decoder.offset_mm):
                wanted = f"expected none or {decoder.offset_mm}, got {config.offset_mm}"
                raise InputError(f"--offset-mm: {wanted}: {text}")
        if config.offset_mm is not None:
            decoder = replace(decoder, offset_mm=config.offset_mm)
        return replace(data, variant="native", networks=graph, decoder=asdict(decoder))
    resolution = config.atlas or data.atlas_resolution
    least, most = 2 * ATLAS_STEP, ATLAS_RESOLUTIONS[1]  # one texel in the middle has no statistics
    if resolution % ATLAS_STEP or not least <= resolution <= most:
        text = f"expected {least} to {most} and a multiple of {ATLAS_STEP}, got {resolution}"
        raise InputError(f"--atlas: {text}")
    if config.gaussian_checkpoint is not None:
        shapes = network_shapes(len(data.template.vertices), len(data.graph.vertices))
        nets = read_checkpoint(config.gaussian_checkpoint, {name: shapes[name] for name in UNETS})
    elif data.variant == "released":
        nets = {name: dict(data.networks[name]) for name in UNETS}
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed or 0)
            nets = {f"unet_{kind}": UNet(kind).state_dict() for kind in ("geometry", "appearance")}
    return replace(
        data, variant="released", networks=graph | nets, atlas_resolution=resolution, decoder={}
    )


class Model:
    """An avatar whose decoder, and perhaps character, has gradients."""

    def __init__(self, config: TrainConfig, data: AvatarData, device: torch.device) -> None:
        self.avatar = Avatar.from_data(data, device)
        self.avatar.requires_grad_(False)
        if isinstance(self.avatar, NativeAvatar):
            self.avatar.decoder.dropout = config.dropout
        self.half = config.precision == "half" or (
            config.precision == "auto" and device.type == "cuda"
        )
        self.device = device
        self.flats = {"decoder": Flat(self._decoder_parameters())}
        self.tuning = Tuning(self.avatar) if config.tune_character else None
        if self.tuning is not None:
            self.flats["character"] = Flat(self.tuning.parameters())
        self._targets: dict[int, WarmUpTarget] = {}
        if config.warm_up_steps:
            template, atlas = self.avatar.data.template, self.avatar.atlas
            colours = published_texel_colours(template.texture, to_device(atlas, "cpu"))
            self._dc = rgb_to_sh(colours).to(device)

    def _decoder_parameters(self) -> list[tuple[str, nn.Parameter]]:
        avatar = self.avatar
        if isinstance(avatar, NativeAvatar):
            return list(avatar.decoder.named_parameters())
        assert isinstance(avatar, ReleasedAvatar)
        nets = {"unet_geometry": avatar.geometry, "unet_appearance": avatar.appearance}
        return [
            (f"{net}.{key}", p) for net, part in nets.items() for key, p in part.named_parameters()
        ]

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def raw(self, mesh: PosedMesh, window: PoseWindow) -> Float[Tensor, "N c"]:
        """The decoder's values at the texels."""
        motion_map = self.avatar.motion_map(mesh, window)
        with self._autocast():
            return self.avatar.decode(motion_map, mesh).float()

    def mesh(self, untuned: PosedMesh, window: PoseWindow) -> PosedMesh:
        """The mesh of a pose as the character is now."""
        return untuned if self.tuning is None else self.tuning.mesh(window)

    def gaussians(self, untuned: PosedMesh, window: PoseWindow) -> Gaussians:
        """Gaussians of a pose, with gradients where those are asked for."""
        mesh = self.mesh(untuned, window)
        return self.avatar.assemble(self.raw(mesh, window), mesh)

    def warm_up_loss(self, raw: Float[Tensor, "N c"], target: WarmUpTarget) -> Tensor:
        """Compute the losses that pull the published networks to the textured mesh.

        Source: docs/released_behaviour.md D1.
        """
        parts = {
            "log_scales": raw[:, 0:3] - target.log_scales[:, None],
            "quats": raw[:, 3:7] - target.quats,
            "opacity": raw[:, 7] - WARM_UP_OPACITY_LOGIT,
            "offset": raw[:, 8:11],
            "dc": raw[:, 11:14] - self._dc,
            "rest": raw[:, 14:],
        }
        weighted = [PUBLISHED_WARM_UP[name] * part.square().mean() for name, part in parts.items()]
        return torch.stack(weighted).sum()

    def warm_up_target(self, pose: int, mesh: PosedMesh) -> WarmUpTarget:
        """What the first phase aims at in a pose; computed at the first call, kept on the CPU."""
        if pose not in self._targets:
            self._targets[pose] = warm_up_target(*self._splats_of_mesh(mesh))
        return to_device(self._targets[pose], self.device)

    def prepare_warm_up(
        self, poses: Sequence[int], mesh: Callable[[int], PosedMesh], workers: int, tell: Tell
    ) -> None:
        """Compute the targets of these poses by several threads. mesh: makes that of a pose."""
        with ThreadPoolExecutor(threads(workers), "targets") as pool:
            clouds = (self._splats_of_mesh(mesh(pose)) for pose in poses)
            found = in_order(
                pool, lambda cloud: warm_up_target(*cloud), clouds, 2 * threads(workers)
            )
            for pose, target in zip(poses, found, strict=True):
                self._targets[pose] = target
                tell("first phase", len(self._targets), len(poses))

    def forget_targets(self) -> None:
        """The first phase is over."""
        self._targets.clear()

    @torch.no_grad()
    def _splats_of_mesh(self, mesh: PosedMesh) -> tuple[Tensor, Tensor]:
        """Places and normals of the texels, world, on the CPU."""
        avatar = self.avatar
        none = torch.zeros(avatar.count, RELEASED_CHANNELS, device=self.device)
        normals = avatar.at_texels(mesh.normals[:1]) @ avatar._world.T  # type: ignore[operator]
        return avatar.assemble(none, mesh).means.cpu(), normals.cpu()

    # ---- saving ----

    def avatar_data(self, vectors: dict[str, Tensor], cameras: tuple[Camera, ...]) -> AvatarData:
        """The avatar file's content with these weights."""
        data = self.avatar.data
        parts = {
            key: value.detach().clone(memory_format=torch.contiguous_format).cpu()
            for key, value in self.flats["decoder"].named_parts(vectors["decoder"]).items()
        }
        networks = {name: net for name, net in data.networks.items() if name.endswith("_gcn")}
        if self.tuning is not None:
            tuned = self.flats["character"].named_parts(vectors["character"])
            data, networks = self.tuning.into(data, networks, tuned)
        if isinstance(self.avatar, NativeAvatar):
            networks["decoder"] = parts
            decoder = asdict(self.avatar.config)
            return replace(data, networks=networks, decoder=decoder, cameras=cameras)
        for name in UNETS:
            own = {k.removeprefix(f"{name}."): v for k, v in parts.items() if k.startswith(name)}
            # Running statistics stand in the published layout and are used by nobody (A1).
            networks[name] = {**data.networks[name], **own}
        return replace(data, networks=networks, cameras=cameras)

    def save(
        self, folder: Path, vectors: dict[str, Tensor], cameras: tuple[Camera, ...], step: int
    ) -> Path:
        """Write avatar.safetensors, and for the published networks their own layout too."""
        data = self.avatar_data(vectors, cameras)
        path = folder / "avatar.safetensors"
        save_avatar(path, data)
        if data.variant == "released":
            buffer = io.BytesIO()
            nets = {name: dict(data.networks[name]) for name in UNETS}
            torch.save({**nets, "iter_step": step}, buffer)
            write_atomic(folder / "gaussian_checkpoints.tar", buffer.getvalue())
        return path


def learning_rate(config: TrainConfig, done: float, step: int) -> float:
    """The decoder's rate when a part of the training (0 to 1) is done: a short rise, a cosine."""
    assert config.learning_rate is not None
    assert config.final_rate is not None
    if config.final_rate == 1.0:
        return config.learning_rate
    rising = RISE_STEPS if config.steps is None else min(RISE_STEPS, 1 + config.steps // 20)
    rise = min(1.0, (step + 1) / rising)
    fall = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * rise * fall
