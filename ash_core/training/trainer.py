"""One step of a training and its state: gradients, clipping, the mean of weights, checkpoints."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ash_core.errors import InputError
from ash_core.records import Image
from ash_core.splat.cuda import render_views
from ash_core.splat.rasterize import rasterize
from ash_core.training.adam import AdamSettings, FlatAdam
from ash_core.training.captured import Captured, CapturedPose
from ash_core.training.checkpoints import Checkpoint
from ash_core.training.config import TrainConfig
from ash_core.training.dataset import Batch
from ash_core.training.losses import bounds_losses, picture_losses, total
from ash_core.training.lpips import Lpips
from ash_core.training.model import Model
from ash_core.training.patches import cut_patches
from ash_core.training.pose_tuning import BETAS
from ash_core.training.pose_tuning import EPSILON as POSE_EPSILON
from ash_core.training.world import World
from ash_core.variants import VARIANTS

EPSILON = 1e-15
"""Adam's epsilon. Source: the published configuration."""
TINY = 1e-12
ANY = 1 << 16
"""Exclusive upper bound on views per pose."""
LATER_FLAGS = ("tune_poses", "cloth")
"""Flags that earlier checkpoints do not name: they were off."""


class Trainer:
    """Weights, their mean, the optimiser. Everything on the device has a fixed place and shape, and
    nothing in a step waits for the device.
    """

    def __init__(
        self, config: TrainConfig, model: Model, world: World, lpips: Lpips | None = None
    ) -> None:
        # Weights, and their mean.
        self.config, self.model, self.world, self.lpips = config, model, world, lpips
        self.variant = VARIANTS[config.variant]
        self.step = 0
        self.flats = model.flats
        self.ema = {
            name: flat.values.clone() if config.ema else flat.values
            for name, flat in self.flats.items()
        }
        """The mean of weights; the weights themselves where none is kept."""
        if "character" in self.flats:
            self.framed = self.flats["character"].values.clone()
            """The tuned character that the Gaussians' directions and sizes were last taken from."""
        # Optimiser of each vector.
        device = model.device
        self.rate = config.learning_rate or 0.0
        self._failed = torch.zeros((), device=device)
        usual = AdamSettings(self.variant.adam_betas, EPSILON)
        own = {"poses": AdamSettings(BETAS, POSE_EPSILON)}
        self.optimisers = {
            name: FlatAdam(flat, own.get(name, usual), self._failed)
            for name, flat in self.flats.items()
        }
        self._new_share = torch.zeros((), device=device)
        """Share of the present weights in their running mean."""
        # Captured work, and sums since the last look.
        self._pose: CapturedPose | None = None
        self._pose_warms_up = False
        self._end = Captured(self._end_step, device) if device.type == "cuda" else None
        self._sums: dict[str, Tensor] = {}
        self._phases: set[bool] = set()
        """Kinds of steps since the last look: True for the first phase, False for others."""
        self._counts = {"views": 0, "poses": 0, "warm_up_poses": 0, "steps": 0}
        self._seen: list[tuple[int, int, tuple[int, ...]]] = []
        """(step, frame, cameras) of every pose since the last look."""
        self._place = torch.full((), -1, dtype=torch.int64, device=device)
        """Place of the last pose in `_seen`."""
        self._blame = torch.full((), -1, dtype=torch.int64, device=device)
        """First numbers since the last look that are not finite: place in `_seen` times
        `ANY`, plus the view's place, or minus one where only the gradient shows them."""

    # ---- a step ----

    def run_step(self, batches: Iterable[tuple[int, Batch]]) -> None:
        """Gradients of this process' poses, then one step by the mean over all processes.

        batches: (pose, its views). When numbers are not finite the weights stay as they were, and
        `check` says whose they are.
        """
        for flat in self.flats.values():
            flat.grad.zero_()
        if self.config.dropout:  # what is drawn follows from seed and step
            chance = np.random.default_rng((self.config.seed or 0, 2, self.world.rank, self.step))
            torch.manual_seed(int(chance.integers(2**63)))
        for pose, batch in batches:
            self._seen.append((self.step, batch.frame, batch.numbers))
            self._phases.add(self.is_warming_up)
            if not self.is_warming_up:
                self.model.forget_targets()
            else:
                batch = replace(batch, target=self.model.warm_up_target(pose, batch.mesh))
            batch = replace(batch, place=self.model.place("training", batch.frame))
            if self._end is None:
                self._work_on(batch)
            else:
                self._captured_pose(batch).run(batch)
            if self.is_warming_up:
                self._counts["warm_up_poses"] += 1
            else:
                self._counts["poses"] += 1
                self._counts["views"] += len(batch.cameras)
        self._reduce_gradients()
        self._set_rates()
        if self._end is None:
            self._end_step()
        else:
            self._end.run()
        self.step += 1
        self._counts["steps"] += 1

    def _work_on(self, batch: Batch) -> None:
        """A pose's gradients, and the means to report of it."""
        loss, parts = self.pose_loss(batch)
        loss.backward()
        self._note(parts)

    def _captured_pose(self, batch: Batch) -> CapturedPose:
        if self._pose is None or self._pose_warms_up != self.is_warming_up:
            self._pose = CapturedPose(self._work_on, batch, self.model.avatar.count)
            self._pose_warms_up = self.is_warming_up
        return self._pose

    def _end_step(self) -> None:
        self._clip()
        self._update()

    def pose_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a pose, divided by this process' poses of a step; its parts."""
        model, weights = self.model, self.config.weights
        window = model.window(batch.window, batch.place)
        mesh = model.mesh(batch.mesh, window)
        # First phase: the decoder's values alone.
        if batch.target is not None:
            raw = model.avatar.raw_values(mesh, window, model.stage)
            warm = model.warm_up_loss(raw, batch.target)
            return warm / self.local_poses, {"warm_up": warm.detach()}
        # Forward, to images.
        decoded = model.avatar.decode_window(window, model.stage, mesh=mesh)
        try:
            if batch.views is not None:
                images = render_views(decoded.gaussians, batch.views)
            else:
                images = rasterize(decoded.gaussians, batch.cameras)
        except InputError as error:
            cameras = _listed(batch.numbers)
            raise DivergedError(self.step, batch.frame, cameras, str(error)) from None
        rgb, alpha, truth, mask = composed(
            images, batch.pixels, batch.backgrounds, self.variant.white
        )
        # Parts of the loss.
        parts = picture_losses(rgb, alpha, truth, mask, weights)
        if weights.lpips and self.lpips is not None:
            parts["lpips"] = self.lpips.distances(rgb, truth)
        if batch.corners is not None and self.lpips is not None:
            patches = (cut_patches(part, batch.corners) for part in (rgb, truth))
            parts["patch_lpips"] = self.lpips.distances(*patches)
        if model.avatar.offset_limit_m is not None:
            assert decoded.raw is not None
            parts |= bounds_losses(decoded.raw, model.avatar.offset_limit_m)
        if model.tuning is not None:
            parts["smooth"] = model.tuning.roughness(mesh, batch.mesh)
        if model.poses is not None and batch.place is not None:
            parts |= model.poses.penalties(batch.place)
        loss = total(parts, weights)
        with torch.no_grad():
            parts["mse"] = (rgb - truth).square().mean((1, 2, 3))
            parts["loss"] = loss.detach()
        return loss / self.local_poses, parts

    @property
    def is_warming_up(self) -> bool:
        """The published first phase: no pictures yet."""
        return self.step < (self.config.warm_up_steps or 0)

    @property
    def local_poses(self) -> int:
        """Poses of a step in this process."""
        return (self.config.poses_per_step or self.world.size) // self.world.size

    def _note(self, parts: dict[str, Tensor]) -> None:
        """Add to the sums since the last look; remember views whose numbers are not finite."""
        self._place += 1
        for name, part in parts.items():
            self._add(name, part.detach().mean())
        bad = ~torch.isfinite(parts["warm_up" if "warm_up" in parts else "mse"].reshape(-1))
        self._accuse(bad.any(), bad.float().argmax())

    def _add(self, name: str, value: Tensor) -> None:
        if name not in self._sums:
            self._sums[name] = torch.zeros_like(value)
        self._sums[name] += value

    def _accuse(self, bad: Tensor, view: Tensor | int) -> None:
        fresh = self._place * ANY + view
        self._blame.copy_(torch.where(bad & (self._blame < 0), fresh, self._blame))

    def _reduce_gradients(self) -> None:
        if self.world.size > 1:
            for flat in self.flats.values():
                self.world.all_reduce(flat.grad)
                flat.grad /= self.world.size

    def _clip(self) -> None:
        """Shorten long gradients; remember whether one is not finite.

        Corrections of poses count by themselves: their gradients must not slow the decoder's.
        """
        norms = {name: flat.grad.norm() for name, flat in self.flats.items()}
        poses = norms.pop("poses", None)
        norm = torch.stack(list(norms.values())).norm()
        failed = ~torch.isfinite(norm if poses is None else norm + poses)
        self._failed.copy_(failed)
        self._accuse(failed, ANY - 1)
        self._add("gradient", norm)
        assert self.config.clip is not None
        if math.isfinite(self.config.clip):
            for name, flat in self.flats.items():
                own = poses if name == "poses" and poses is not None else norm
                flat.grad.mul_((self.config.clip / (own + TINY)).clamp(max=1.0))

    def _set_rates(self) -> None:
        parts = {"character": self.config.character_rate, "poses": self.config.pose_rate}
        for name, optimiser in self.optimisers.items():
            optimiser.set_rate(self.rate * parts.get(name, 1.0))
        decay = min(self.config.ema or 0.0, (1 + self.step) / (10 + self.step))
        self._new_share.fill_(1 - decay)

    def _update(self) -> None:
        """Adam, which leaves the weights alone when numbers are not finite; then their mean."""
        for optimiser in self.optimisers.values():
            optimiser.update()
        if self.config.ema:
            for name, flat in self.flats.items():
                self.ema[name].lerp_(flat.values, self._new_share)

    # ---- between steps ----

    def check(self) -> None:
        """Raise InputError, with frame and camera, if numbers were not finite. Waits."""
        code = int(self._blame)
        if code >= 0:
            step, frame, numbers = self._seen[code // ANY]
            view = code % ANY
            camera = str(numbers[view]) if view < len(numbers) else _listed(numbers)
            what = "the loss" if view < len(numbers) else "the gradient"
            raise DivergedError(step, frame, camera, f"{what} is not finite")

    def look(self) -> dict[str, float]:
        """Means since the last look, over all processes, and the number of views. Checks too."""
        self.check()
        if self._pose is not None:
            self._pose.follow_capacity()
        # Captured work runs no Python that could say which sums grew.
        names = sorted(n for n in self._sums if n == "gradient" or (n == "warm_up") in self._phases)
        counts = torch.tensor(list(self._counts.values()), dtype=torch.float64)
        sums = torch.stack([self._sums[name].double() for name in names]).cpu()
        values = torch.cat((counts, sums)).to(self.model.device)
        if self.world.size > 1:
            self.world.all_reduce(values)
        views, poses, warm_up_poses, steps, *totals = values.tolist()
        divisors = {"gradient": steps, "warm_up": warm_up_poses}
        means = {
            name: value / divisors.get(name, poses)
            for name, value in zip(names, totals, strict=True)
        }
        for total_so_far in self._sums.values():
            total_so_far.zero_()
        self._place.fill_(-1)
        self._seen, self._phases = [], set()
        self._counts = dict.fromkeys(self._counts, 0)
        return means | {"views": views}

    def state(self, seconds: float) -> Checkpoint:
        """Everything that the next step follows from."""
        tensors: dict[str, Tensor] = {}
        for name, flat in self.flats.items():
            tensors[f"{name}.step"] = self.optimisers[name].step.cpu().clone()
            for key, vector in (self._vectors(name) | self._moments(name)).items():
                parts = flat.named_parts(vector)
                tensors |= {
                    f"{name}.{key}.{n}": part.detach().cpu().contiguous()
                    for n, part in parts.items()
                }
        return Checkpoint(self.step, seconds, self._settings(), tensors)

    def _vectors(self, name: str) -> dict[str, Tensor]:
        """List what is kept of a vector besides the optimiser's moments."""
        vectors = {"values": self.flats[name].values}
        if self.config.ema:
            vectors["ema"] = self.ema[name]
        if name == "character" and self.model.tuning is not None:
            vectors["framed"] = self.framed
        return vectors

    def _moments(self, name: str) -> dict[str, Tensor]:
        optimiser = self.optimisers[name]
        return {"exp_avg": optimiser.exp_avg, "exp_avg_sq": optimiser.exp_avg_sq}

    def refresh_frames(self) -> None:
        """Let the Gaussians' directions and sizes follow the tuned template."""
        if self.model.tuning is not None:
            self.framed.copy_(self.flats["character"].values)
            self._apply_framed()

    def _apply_framed(self) -> None:
        tuning = self.model.tuning
        if tuning is not None:
            tuning.refresh_frames(self.flats["character"].named_parts(self.framed))

    def _settings(self) -> dict[str, object]:
        c = self.config
        names = (
            *("seed", "views_per_pose", "poses_per_step", "frames", "test_cameras"),
            *("crop", "tune_character", "tune_poses", "dropout", "cloth"),
        )
        data = self.model.avatar.data
        settings = {"variant": c.variant, "history_offsets": list(data.history_offsets.frames)}
        settings |= {name: getattr(c, name) for name in names}
        offset_mm = data.decoder.get("offset_mm")
        return settings | {"offset_mm": offset_mm, "ema": "on" if c.ema else "off"}

    def load(self, checkpoint: Checkpoint, place: str) -> None:
        """Go on where a checkpoint ends."""
        for name, value in self._settings().items():
            saved_value = checkpoint.settings.get(name, False if name in LATER_FLAGS else None)
            if saved_value != value and name == "history_offsets":
                text = f"expected a training with the history offsets {value}, got {saved_value}"
                raise InputError(f"{place}: {text}")
            if saved_value != value:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag}: expected {saved_value} as in {place}, got {value}")
        for name, flat in self.flats.items():
            vectors = self._vectors(name)
            if f"{name}.step" in checkpoint.tensors:  # older ones of step 0 have none
                self.optimisers[name].step.copy_(checkpoint.tensors[f"{name}.step"])
                vectors |= self._moments(name)
            for key, vector in vectors.items():
                prefix = f"{name}.{key}."
                parts = {
                    n.removeprefix(prefix): t
                    for n, t in checkpoint.tensors.items()
                    if n.startswith(prefix)
                }
                expected_shapes = {n: tuple(p.shape) for n, p in flat.named}
                if {n: tuple(t.shape) for n, t in parts.items()} != expected_shapes:
                    text = "expected the weights of this avatar (--preset, --atlas, --avatar)"
                    if name == "poses":
                        text = f"expected poses of {len(flat.named[0][1])} training frames"
                    raise InputError(f"{place}: {text}, got others")
                flat.fill(vector, parts)
        self._apply_framed()
        self.step = checkpoint.step


class DivergedError(InputError):
    """Numbers are not finite: what the weights became in the steps before is of no use."""

    def __init__(self, step: int, frame: int, camera: str, reason: str) -> None:
        super().__init__(
            f"step {step}, frame {frame}, camera {camera}: expected finite numbers: {reason}"
        )
        self.step = step


def _listed(cameras: Sequence[int]) -> str:
    """A view may be drawn twice."""
    return ",".join(map(str, sorted(set(cameras))))


def composed(
    images: Sequence[Image],
    pixels: UInt8[Tensor, "v h w 4"],
    backgrounds: Float[Tensor, "v 3"],
    white: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ours and the truth over each view's background: rgb, alpha, rgb, mask."""
    rgb, alpha = (
        torch.stack([getattr(image, name) for image in images]) for name in ("rgb", "alpha")
    )
    under = backgrounds[:, None, None]
    photograph = pixels.float() / white
    mask = photograph[..., 3:] * (white / 255)
    truth = photograph[..., :3] * mask + under * (1 - mask)
    return rgb + under * (1 - alpha[..., None]), alpha, truth, mask[..., 0]
