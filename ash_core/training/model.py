"""The avatar that is trained: made, run with gradients, saved."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.avatar import Avatar
from ash_core.conventions import ATLAS_RESOLUTIONS
from ash_core.errors import InputError
from ash_core.files.avatar_file import save_avatar
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.checks import network_shapes
from ash_core.files.io import write_atomic
from ash_core.files.skeletool import write_motion
from ash_core.geometry.spherical_harmonics import rgb_to_sh
from ash_core.networks.decoder import config_of
from ash_core.networks.unet import OUT_CHANNELS, UNet
from ash_core.records import (
    AvatarData,
    Camera,
    Gaussians,
    PosedMesh,
    PosePlace,
    PoseWindow,
    to_device,
)
from ash_core.training.config import TrainConfig
from ash_core.training.flat import Flat
from ash_core.training.pictures import Progress, in_order, threads
from ash_core.training.pose_tuning import CORRECTIONS, REFINED, PoseTuning
from ash_core.training.tuning import Tuning
from ash_core.training.warmup import (
    WARM_UP_OPACITY_LOGIT,
    WarmUpTarget,
    published_texel_colours,
    warm_up_target,
)
from ash_core.variants import RELEASED, VARIANTS, VariantName

UNETS = RELEASED.required_networks
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
    """Make what the training begins with, of DATA's character or another avatar with its weights.

    Raises: InputError for a flag that does not fit the avatar.
    """
    if data.variant != config.variant:
        offsets = VARIANTS[config.variant].history_offsets
        data = replace(data, variant=config.variant, history_offsets=offsets)
    return _FIRST[config.variant](config, data)


def _first_native(config: TrainConfig, data: AvatarData) -> AvatarData:
    """Keep a trained decoder, or choose one by preset and flags."""
    networks = _graph_networks(data.networks)
    decoder = config_of(data.decoder, config.preset)
    if "decoder" in data.networks:
        networks["decoder"] = data.networks["decoder"]
        text = f"{config.avatar or config.data} carries a trained decoder, which is as it is"
        if config.preset is not None:
            raise InputError(f"--preset: expected none, got {config.preset}: {text}")
        if config.offset_mm not in (None, decoder.offset_mm):
            mismatch = f"expected none or {decoder.offset_mm}, got {config.offset_mm}"
            raise InputError(f"--offset-mm: {mismatch}: {text}")
    if config.offset_mm is not None:
        decoder = replace(decoder, offset_mm=config.offset_mm)
    return replace(data, networks=networks, decoder=asdict(decoder))


def _first_released(config: TrainConfig, data: AvatarData) -> AvatarData:
    """Take the U-Nets of a checkpoint or of the avatar, or make new ones by the seed."""
    # Atlas.
    resolution, step = config.atlas or data.atlas_resolution, RELEASED.atlas_step
    least, most = 2 * step, ATLAS_RESOLUTIONS[1]  # one texel in the middle has no statistics
    if resolution % step or not least <= resolution <= most:
        text = f"expected {least} to {most} and a multiple of {step}, got {resolution}"
        raise InputError(f"--atlas: {text}")
    # Networks.
    if config.gaussian_checkpoint is not None:
        shapes = network_shapes(len(data.template.vertices), len(data.graph.vertices))
        nets = read_checkpoint(config.gaussian_checkpoint, {name: shapes[name] for name in UNETS})
    elif {*UNETS} <= {*data.networks}:
        nets = {name: dict(data.networks[name]) for name in UNETS}
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed or 0)
            nets = {f"unet_{kind}": UNet(kind).state_dict() for kind in ("geometry", "appearance")}
    networks = _graph_networks(data.networks) | nets
    return replace(data, networks=networks, atlas_resolution=resolution, decoder={})


_FIRST: Final[Mapping[VariantName, Callable[[TrainConfig, AvatarData], AvatarData]]] = {
    "native": _first_native,
    "released": _first_released,
}


def _graph_networks(
    networks: Mapping[str, Mapping[str, Tensor]],
) -> dict[str, Mapping[str, Tensor]]:
    """Select the character's networks."""
    return {name: net for name, net in networks.items() if name.endswith("_gcn")}


class Model:
    """An avatar whose decoder, and perhaps character and poses, has gradients."""

    def __init__(
        self,
        config: TrainConfig,
        data: AvatarData,
        device: torch.device,
        poses: PoseTuning | None = None,
    ) -> None:
        self.avatar = Avatar.from_data(data, device)
        self.avatar.requires_grad_(False)
        self.avatar.set_dropout(config.dropout)
        self.half = config.precision == "half" or (
            config.precision == "auto" and device.type == "cuda"
        )
        self.device = device
        self.flats = {"decoder": Flat(self.avatar.network_parameters())}
        self.tuning = Tuning(self.avatar) if config.tune_character else None
        if self.tuning is not None:
            self.flats["character"] = Flat(self.tuning.parameters())
        self.poses = poses
        if poses is not None:
            self.flats["poses"] = Flat(poses.parameters())
        self._targets: dict[int, WarmUpTarget] = {}
        if config.warm_up_steps:
            template, atlas = self.avatar.data.template, self.avatar.atlas
            colours = published_texel_colours(template.texture, to_device(atlas, "cpu"))
            self._dc = rgb_to_sh(colours).to(device)

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Lower the precision of the decoder alone."""
        if name == "decode" and self.half:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def place(self, split: str, frame: int) -> PosePlace | None:
        """Find a frame of a split among the refined poses; None where none are refined."""
        return self.poses.place(frame) if self.poses is not None and split == "training" else None

    def window(self, window: PoseWindow, place: PosePlace | None) -> PoseWindow:
        """Return the window at a place, with its poses as they are now."""
        return window if self.poses is None or place is None else self.poses.window(place)

    def mesh(self, untuned: PosedMesh, window: PoseWindow) -> PosedMesh:
        """Return the mesh of a pose as character and pose are now."""
        if self.tuning is not None:
            return self.tuning.mesh(window)
        return untuned if self.poses is None else self.avatar.character(window)

    def gaussians(self, untuned: PosedMesh, window: PoseWindow) -> Gaussians:
        """Make the Gaussians of a pose, with gradients where those are asked for."""
        mesh = self.mesh(untuned, window)
        return self.avatar.decode_window(window, self.stage, mesh=mesh).gaussians

    def warm_up_loss(self, raw: Float[Tensor, "N c"], target: WarmUpTarget) -> Tensor:
        """Compare the networks with the textured mesh. Source: docs/released_behaviour.md D1."""
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
        """Return the first phase's target in a pose; computed once, kept on the CPU."""
        if pose not in self._targets:
            self._targets[pose] = warm_up_target(*self._splats_of_mesh(mesh))
        return to_device(self._targets[pose], self.device)

    def prepare_warm_up(
        self,
        poses: Sequence[int],
        mesh: Callable[[int], PosedMesh],
        workers: int,
        progress: Progress,
    ) -> None:
        """Compute the targets of these poses by several threads. mesh: makes that of a pose."""
        with ThreadPoolExecutor(threads(workers), "targets") as pool:
            clouds = (self._splats_of_mesh(mesh(pose)) for pose in poses)
            targets = in_order(
                pool, lambda cloud: warm_up_target(*cloud), clouds, 2 * threads(workers)
            )
            for pose, target in zip(poses, targets, strict=True):
                self._targets[pose] = target
                progress("first phase", len(self._targets), len(poses))

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
        networks = _graph_networks(data.networks)
        if self.tuning is not None:
            tuned = self.flats["character"].named_parts(vectors["character"])
            data, networks = self.tuning.into(data, networks, tuned)
        networks |= self.avatar.stored_networks(parts)
        return replace(data, networks=networks, cameras=cameras)

    def save(
        self, folder: Path, vectors: dict[str, Tensor], cameras: tuple[Camera, ...], step: int
    ) -> Path:
        """Write avatar.safetensors, and for the published networks their own layout too.

        Refined poses are written beside it; those of an earlier training there are removed.
        """
        data = self.avatar_data(vectors, cameras)
        path = folder / "avatar.safetensors"
        save_avatar(path, data)
        if self.poses is None:
            (folder / REFINED).unlink(missing_ok=True)
        else:
            corrections = self.flats["poses"].named_parts(vectors["poses"])[CORRECTIONS]
            refined = self.poses.refined(corrections)
            write_motion(folder / REFINED, refined.dofs, refined.fps)
        nets = {name: dict(data.networks[name]) for name in UNETS if name in data.networks}
        if nets:
            buffer = io.BytesIO()
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
