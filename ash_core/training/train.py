"""The loop: footage in, an avatar out, in one process or in several under torchrun."""

import json
import math
import os
import runpy
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import torch
import torch.distributed as dist

from ash_core.errors import InputError
from ash_core.files.dataset import SplitData, image_path, open_dataset
from ash_core.files.text import drop_leftovers, write_text
from ash_core.training.checkpoints import newest_checkpoint, write_checkpoint
from ash_core.training.config import TrainConfig
from ash_core.training.dataset import (
    Batch,
    Footage,
    Poses,
    cameras_of,
    frames_with,
    test_cameras,
)
from ash_core.training.lpips import Lpips
from ash_core.training.model import Model, first_avatar, learning_rate
from ash_core.training.pictures import in_order
from ash_core.training.record import Record
from ash_core.training.trainer import Trainer, World
from ash_core.training.validation import Validation

AHEAD = 3
"""Poses that are prepared while another is trained on."""
PICTURES = "validations_fine"
NAMED = 5
"""Pictures that a note names."""
LOOK_CPU, LOOK_GPU = 1, 20
"""Steps between two looks at whether to stop and whether numbers are finite."""

Stop = Literal["no", "terminate", "interrupt"]


class Reporter(Protocol):
    """Who is told how it goes."""

    def note(self, text: str) -> None:
        """Something to know."""

    def preparing(self, what: str, done: int, count: int) -> None:
        """Work before the first step."""

    def training(self, step: int, steps: int, text: str) -> None:
        """How far the training is."""

    def stop(self) -> Stop:
        """Whether to save and end."""
        ...


class Session:
    """Everything that a training needs, made from its configuration."""

    def __init__(self, config: TrainConfig, device: torch.device, reporter: Reporter) -> None:
        world = World.from_environment()
        self.config = config = _shared(config, world)
        self.world, self.reporter, self.device = world, reporter, device
        self.dataset = open_dataset(config.data)
        for text in self.dataset.notes:
            reporter.note(text)
        split = self._training_split()
        there = cameras_of(split)
        self.test_cameras = test_cameras(config.test_cameras, there)
        cameras = [camera for camera in there if camera not in self.test_cameras]
        frames = list(frames_with(split, parse_frames(config.frames, split), cameras))
        if not frames:
            raise InputError(f"--frames: {config.frames}: expected frames with images, got none")
        self._tell_missing(split, frames, cameras)
        data = first_avatar(config, self.dataset.character)
        self.lpips = Lpips(config.lpips_weights).to(device) if config.lpips_weights else None
        self.model = Model(config, data, device)
        cache = config.out / "cache"
        self.poses = Poses(self.model.avatar, split, frames, cache, reporter.preparing)
        self.footage = Footage(config, split, frames, cameras, device, reporter.preparing)
        if empty := [path.name for path in self.footage.pictures.empty]:
            text = f"{len(empty)} pictures show nobody, their masks are empty"
            reporter.note(f"{split.name}/images: {text}: {_some(empty)}")
        self.trainer = Trainer(config, self.model, world, self.lpips)
        self.validation = Validation(self.model, self.lpips, config.out / PICTURES)
        if world.rank == 0 and config.validate_every:
            self._choose_validation(split, cache)

    def _training_split(self) -> SplitData:
        split = self.dataset.splits.get("training")
        if split is None or not split.images:
            text = "expected images in training/images, found none"
            raise InputError(f"{self.config.data}: {text}: 'ash-studio extract' makes them")
        return split

    def _tell_missing(
        self, split: SplitData, frames: Sequence[int], cameras: Sequence[int]
    ) -> None:
        """Pictures that other cameras have of a pose."""
        wanted = [(frame, camera) for frame in frames for camera in cameras]
        missing = [
            image_path(self.config.data, split.name, camera, frame).name
            for frame, camera in wanted
            if (frame, camera) not in split.images
        ]
        if missing:
            text = f"{len(missing)} of {len(wanted)} pictures are missing"
            self.reporter.note(f"{split.name}/images: {text}: {_some(missing)}")

    def _choose_validation(self, split: SplitData, cache: Path) -> None:
        count, tell = self.config.validation_views, self.reporter.preparing
        if self.test_cameras:
            self.validation.add("novel view", split, self.test_cameras, count, cache, tell)
        testing = self.dataset.splits.get("testing")
        if testing is not None and testing.images:
            self.validation.add("novel pose", testing, self.test_cameras, count, cache, tell)

    def prepare_warm_up(self) -> None:
        """What the published first phase aims at, for all poses."""
        meshes = [self.poses.mesh(index) for index in range(len(self.poses))]
        tell = self.reporter.preparing
        self.model.prepare_warm_up(meshes, self.config.workers, tell)

    def close(self) -> None:
        """End the threads."""
        self.footage.pictures.close()

    # ---- batches ----

    def plan(self, first: int) -> Iterator[tuple[int, int]]:
        """(draw, pose) of this process, from a step on, without end."""
        step, poses = first, self.config.poses_per_step or 1
        while True:
            yield from self.world.share(self.footage.poses_of(step, poses))
            step += 1

    def batches(self, first: int) -> Iterator[tuple[int, Batch]]:
        """(pose, its views), prepared ahead by a thread unless the pictures are on the GPU."""

        def make(draw_and_pose: tuple[int, int]) -> tuple[int, Batch]:
            draw, pose = draw_and_pose
            return pose, self.footage.batch(draw, pose, self.poses)

        if self.footage.pictures.place == "gpu":
            yield from map(make, self.plan(first))
            return
        with ThreadPoolExecutor(1, "batches") as pool:
            yield from in_order(pool, make, self.plan(first), AHEAD)


def train(config: TrainConfig, reporter: Reporter) -> int:
    """Train as configured; returns the exit code: 0 done or told to end, 130 interrupted."""
    config = config.resolved()
    world = World.from_environment()
    device = _device(config, world)
    if world.size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        session = Session(config, device, reporter)
        try:
            loop = _Loop(session)
            try:
                return loop.run()
            finally:
                loop.close()
        finally:
            session.close()
    finally:
        if world.size > 1:
            dist.destroy_process_group()


class _Loop:
    """The steps of a session, with everything that happens between them."""

    def __init__(self, session: Session) -> None:
        self.session, self.config = session, session.config
        self.trainer, self.reporter = session.trainer, session.reporter
        self.is_first = session.world.rank == 0
        self.before = 0.0
        """Seconds of earlier runs."""
        self._resume()
        self.record = None
        if self.is_first:
            self.record = Record(self.config.out, self.trainer.step, self.reporter.note)
        self.look_every = LOOK_CPU if session.device.type == "cpu" else LOOK_GPU
        self._line = self._validated = ""

    def _resume(self) -> None:
        folder = self.config.out / "checkpoints"
        found = newest_checkpoint(folder)
        if not self.config.resume:
            if found is not None:
                text = "--resume goes on from it; or name another folder"
                raise InputError(f"{self.config.out}: holds a training, {found[0].name}: {text}")
        elif found is None:
            self.reporter.note(f"{folder}: no whole checkpoint, beginning anew")
        else:
            self.trainer.load(found[1], str(found[0]))
            self.before = found[1].seconds
            if self.is_first:
                for place in (folder, self.config.out, self.config.out / PICTURES):
                    drop_leftovers(place)
            self.reporter.note(f"going on after step {found[1].step}")

    @property
    def seconds(self) -> float:
        """Of all runs."""
        return self.before + time.perf_counter() - self._started

    @property
    def done(self) -> float:
        """The part of the training that is done, 0 to 1."""
        assert self.config.steps is not None
        part = self.trainer.step / self.config.steps
        if self.config.minutes is not None:
            part = max(part, self.seconds / (60 * self.config.minutes))
        return part

    def run(self) -> int:
        """All steps that are left. An error or a signal leaves what was done in a checkpoint."""
        self._started = self._looked = time.perf_counter()
        config, trainer = self.config, self.trainer
        self._describe()
        if trainer.is_warming_up:
            self.session.prepare_warm_up()
        batches = self.session.batches(trainer.step)
        poses = range(trainer.local_poses)
        stop: Stop = "no"
        try:
            while self._go_on() and stop == "no":
                trainer.rate = learning_rate(config, self.done, trainer.step)
                trainer.run_step(next(batches) for _ in poses)
                if trainer.step % self.look_every == 0:
                    trainer.check()
                    stop = self._agreed_stop()
                if trainer.step % config.log_every == 0:
                    self._log()
                if trainer.step % config.checkpoint_every == 0:
                    trainer.refresh_frames()
                    self._save()
                if config.validate_every and trainer.step % config.validate_every == 0:
                    self._validate()
            trainer.check()
        except Exception:
            self._save()
            raise
        finally:
            batches.close()  # type: ignore[attr-defined]
        self._save(must=True)
        if stop == "no":
            if config.validate_every and trainer.step % config.validate_every:
                self._validate()
        elif self.is_first:
            self.reporter.note(f"stopped after step {trainer.step}; --resume goes on from there")
        return 130 if stop == "interrupt" else 0

    def _go_on(self) -> bool:
        """Whether there is another step; with --minutes the first process decides for all."""
        if self.config.minutes is None or self.session.world.size == 1:
            return self.done < 1
        left = torch.tensor([float(self.done < 1)], device=self.session.device)
        self.session.world.broadcast(left)
        return bool(left)

    def _agreed_stop(self) -> Stop:
        """What any process was told."""
        names: tuple[Stop, ...] = ("no", "terminate", "interrupt")
        if self.session.world.size == 1:
            return self.reporter.stop()
        level = torch.tensor([names.index(self.reporter.stop())], device=self.session.device)
        self.session.world.all_reduce(level, dist.ReduceOp.MAX)
        return names[int(level)]

    # ---- between steps ----

    def _describe(self) -> None:
        if not self.is_first:
            return
        config, footage = self.config, self.session.footage
        write_text(config.out / "config.json", json.dumps(config.as_json(), indent=2) + "\n")
        pictures = footage.pictures
        texels = len(self.session.model.avatar.atlas.faces)
        held = ",".join(map(str, self.session.test_cameras)) or "none"
        self.reporter.note(
            f"{len(footage.frames)} poses, {len(footage.views)} pictures in {pictures.place}, "
            f"windows of {footage.size[0]}x{footage.size[1]}, test cameras {held}, "
            f"{texels} Gaussians on {self.session.device}"
        )

    def _log(self) -> None:
        means = self.trainer.look()
        now = time.perf_counter()
        views = means.pop("views") / (now - self._looked)
        self._looked = now
        if self.record is None:
            return
        if "mse" in means:
            means["psnr"] = -10 * math.log10(max(means.pop("mse"), 1e-10))
        step, seconds = self.trainer.step, self.seconds
        self.record.log(
            step, {**means, "views_per_second": views, "rate": self.trainer.rate}, seconds
        )
        left = seconds * (1 - self.done) / max(self.done, 1e-9)
        loss = means.get("loss", means.get("warm_up", 0.0))
        quality = f" · {means['psnr']:.2f} dB" if "psnr" in means else " · warm-up"
        self._line = f"loss {loss:.4f}{quality} · {views:,.0f} views/s · {_span(left)} left"
        assert self.config.steps is not None
        self.reporter.training(step, self.config.steps, self._line + self._validated)

    def _save(self, must: bool = False) -> None:
        """A checkpoint and the avatar; the first process writes.

        On a full disk the training goes on and tries again later; at its end it must be saved.
        """
        if not self.is_first:
            return
        out, trainer = self.config.out, self.trainer
        try:
            write_checkpoint(out / "checkpoints", trainer.state(self.seconds))
            cameras = self.session.footage.cameras
            self.session.model.save(out, trainer.ema, cameras, trainer.step)
            if self.record is not None:
                self.record.disk_has_room()
        except InputError as error:
            if must:
                raise
            self.reporter.note(f"not saved at step {trainer.step}, training goes on: {error}")

    def _validate(self) -> None:
        """Measure the averaged weights on what is never trained on."""
        if self.record is None or not self.session.validation.shots:
            return
        trainer = self.trainer
        kept = {name: flat.values.clone() for name, flat in trainer.flats.items()}
        for name, flat in trainer.flats.items():
            flat.values.copy_(trainer.ema[name])
        found = self.session.validation.run(trainer.step)
        for name, flat in trainer.flats.items():
            flat.values.copy_(kept[name])
        if self.session.validation.unwritten is not None:
            self.reporter.note(f"training goes on: {self.session.validation.unwritten}")
        self.record.validation(trainer.step, found, self.seconds)
        self.record.pictures(trainer.step, self.config.out / PICTURES)
        self.record.weights(trainer.step, trainer.flats)
        self._validated = "".join(f" · {kind} {one.psnr:.2f} dB" for kind, one in found.items())
        self._looked = time.perf_counter()

    def close(self) -> None:
        """Write what waits."""
        if self.record is not None:
            self.record.close()


def parse_frames(choice: str, split: SplitData) -> list[int]:
    """START:STOP:STEP as Python reads it."""
    try:
        parts = [int(word) if word.strip() else None for word in choice.split(":")]
        if len(parts) == 1:
            parts = [parts[0], (parts[0] or 0) + 1]
        return list(range(len(split.motion.dofs))[slice(*parts)])
    except (ValueError, TypeError):
        text = "expected N or START:STOP:STEP such as 0:500:5"
        raise InputError(f"--frames: {text}, got '{choice}'") from None


def _some(names: Sequence[str]) -> str:
    """The first few of a list."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _shared(config: TrainConfig, world: World) -> TrainConfig:
    """The poses of a step fit the processes."""
    poses = config.poses_per_step or world.size
    if poses % world.size:
        text = f"expected a multiple of the {world.size} processes, got {poses}"
        raise InputError(f"--poses-per-step: {text}")
    return replace(config, poses_per_step=poses)


def _device(config: TrainConfig, world: World) -> torch.device:
    from ash_core.gpu import kernels

    reason = kernels.missing()
    if config.device == "cpu" or (config.device == "auto" and reason is not None):
        return torch.device("cpu")
    if reason is not None:
        raise InputError(f"--device: cuda cannot be used: {reason}")
    index = int(os.environ.get("LOCAL_RANK", "0")) if world.size > 1 else 0
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


if __name__ == "__main__":  # torchrun -m wants a module: this is `ash-studio train`, from below it
    sys.argv.insert(1, "train")
    runpy.run_module("ash_core.cli", run_name="__main__")
