"""Everything that a training needs, made from its configuration, and its batches in order."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import torch

from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.dataset import SplitData, check_fits, image_path, open_dataset
from ash_core.records import AvatarData
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
from ash_core.training.model import Model, first_avatar
from ash_core.training.pictures import in_order
from ash_core.training.trainer import Trainer
from ash_core.training.validation import Validation
from ash_core.training.world import World

AHEAD = 3
"""Poses that are prepared while another is trained on."""
PICTURES = "validations_fine"
NAMED = 5
"""Pictures that a note names."""

Stop = Literal["no", "terminate", "interrupt"]


class Reporter(Protocol):
    """Who is told how it goes."""

    def note(self, text: str) -> None:
        """Something to know."""

    def preparing(self, what: str, done: int, count: int) -> None:
        """Work before the first step."""

    def training(self, done: int, whole: int, text: str) -> None:
        """How far the training is, in steps or, where it has a time, in seconds."""

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
        split = self._training_split()
        there = cameras_of(split)
        self.test_cameras = test_cameras(config.test_cameras, there)
        cameras = [camera for camera in there if camera not in self.test_cameras]
        frames = list(frames_with(split, parse_frames(config.frames, split), cameras))
        if not frames:
            raise InputError(f"--frames: {config.frames}: expected frames with images, got none")
        self._tell_missing(split, frames, cameras)
        data = first_avatar(config, self._character())
        self.lpips = Lpips(config.lpips_weights).to(device) if config.lpips_weights else None
        self.model = Model(config, data, device)
        cache = config.out / "cache"
        self.poses = Poses(self.model.avatar, split, frames, cache, reporter.preparing)
        self.footage = Footage(config, split, frames, cameras, device, cache, reporter.preparing)
        if empty := [path.name for path in self.footage.pictures.empty]:
            text = f"{len(empty)} pictures show nobody, their masks are empty"
            reporter.note(f"{split.name}/images: {text}: {_some(empty)}")
        self._unusable_named = 0
        self.name_unusable()
        self.trainer = Trainer(config, self.model, world, self.lpips)
        self.validation = Validation(self.model, self.lpips, config.out / PICTURES)
        if world.rank == 0 and config.validate_every:
            self._choose_validation(split, cache)

    def _character(self) -> AvatarData:
        """DATA's, or the avatar that was given instead."""
        given = self.config.avatar
        if given is None:
            for text in self.dataset.notes:
                self.reporter.note(text)
            return self.dataset.character
        data = load_avatar(given)
        if text := check_fits(data, given, self.dataset):
            self.reporter.note(text)
        return data

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
        missing = [
            image_path(self.config.data, split.name, camera, frame).name
            for frame in frames
            for camera in cameras
            if (frame, camera) not in split.images
        ]
        if missing:
            text = f"{len(missing)} of {len(frames) * len(cameras)} pictures are missing"
            self.reporter.note(f"{split.name}/images: {text}: {_some(missing)}")

    def name_unusable(self) -> None:
        """Say which photographs were left out since the last call."""
        pictures = self.footage.pictures
        every = list(pictures.unusable)  # a thread may be adding to it
        if new := every[self._unusable_named :]:
            self._unusable_named = len(every)
            text = f"{len(every)} of {len(pictures.paths)} pictures cannot be used and are left out"
            self.reporter.note(f"{text}: {_some(new, '; ')}")

    def _choose_validation(self, split: SplitData, cache: Path) -> None:
        count, tell = self.config.validation_views, self.reporter.preparing
        if self.test_cameras:
            self.validation.add("novel view", split, self.test_cameras, count, cache, tell)
        testing = self.dataset.splits.get("testing")
        if testing is not None and testing.images:
            self.validation.add("novel pose", testing, self.test_cameras, count, cache, tell)

    def prepare_warm_up(self) -> None:
        """What the published first phase aims at, for the poses that it still has here."""
        left = max((self.config.warm_up_steps or 0) - self.trainer.step, 0)
        plan = islice(self.plan(self.trainer.step), left * self.trainer.local_poses)
        poses = sorted({pose for _, pose in plan})
        workers, tell = self.config.workers, self.reporter.preparing
        self.model.prepare_warm_up(poses, self.poses.mesh, workers, tell)

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
        """(pose, its views), prepared ahead by a thread until all pictures are on the GPU."""

        def make(draw_and_pose: tuple[int, int]) -> tuple[int, Batch]:
            return self.footage.batch(*draw_and_pose, self.poses)

        plan, pictures = self.plan(first), self.footage.pictures
        with ThreadPoolExecutor(1, "batches") as pool:
            # The predicate's own item must not be lost: it is asked before one is taken.
            waiting = (next(plan) for _ in iter(lambda: pictures.is_resident, True))
            yield from in_order(pool, make, waiting, AHEAD)
        yield from map(make, plan)


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


def _some(names: Sequence[str], between: str = ", ") -> str:
    """The first few of a list."""
    return between.join(names[:NAMED]) + (f"{between}..." if len(names) > NAMED else "")


def _shared(config: TrainConfig, world: World) -> TrainConfig:
    """The poses of a step fit the processes."""
    poses = config.poses_per_step or world.size
    if poses % world.size:
        text = f"expected a multiple of the {world.size} processes, got {poses}"
        raise InputError(f"--poses-per-step: {text}")
    return replace(config, poses_per_step=poses)
