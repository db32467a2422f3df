"""Everything that a training needs, made from its configuration, and its batches in order."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import torch
import torch.distributed as dist

from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.dataset import Plan, SplitData, check_fits, open_dataset
from ash_core.files.io import check_folder
from ash_core.files.released import notes_worth_showing
from ash_core.frame_choice import parse_frames
from ash_core.records import AvatarData
from ash_core.training.cloth_learning import learn_cloth
from ash_core.training.config import TrainConfig
from ash_core.training.dataset import (
    Batch,
    Footage,
    Poses,
    cameras_of,
    frames_with,
    test_cameras,
)
from ash_core.training.lpips import open_lpips
from ash_core.training.model import Model, first_avatar
from ash_core.training.patches import PartPatches
from ash_core.training.pictures import in_order
from ash_core.training.pose_tuning import REFINED, PoseTuning
from ash_core.training.trainer import Trainer
from ash_core.training.validation import Validation
from ash_core.training.world import World

CLOTH = "cloth.safetensors"
"""Avatar before its training, with the cloth that was learned; in OUT."""
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
        """Show progress, in steps or, where the training has a time, in seconds."""

    def stop(self) -> Stop:
        """Tell whether to save and end."""
        ...


class TrainingSetup:
    """Everything that a training needs, made from its configuration."""

    def __init__(self, config: TrainConfig, device: torch.device, reporter: Reporter) -> None:
        # Data, cameras and frames.
        world = World.from_environment()
        self.config = config = _shared(config, world)
        self.world, self.reporter, self.device = world, reporter, device
        self.dataset = open_dataset(config.data)
        split = self._training_split()
        split_cameras = cameras_of(split)
        self.test_cameras = test_cameras(config.test_cameras, split_cameras, self.dataset.plan)
        cameras = [camera for camera in split_cameras if camera not in self.test_cameras]
        frames = list(
            frames_with(split, _choose_frames(config.frames, split, self.dataset.plan), cameras)
        )
        if not frames:
            raise InputError(f"--frames: {config.frames}: expected frames with images, got none")
        self._report_missing(split, frames, cameras)
        # The avatar that it begins with.
        data = first_avatar(config, self._character())
        # The folder is made only for data that can be read, but before slow work.
        check_folder(config.folder)
        if config.cloth:
            data = self._with_cloth(data, split, frames, cameras)
        if data.cloth is not None and (config.tune_character or config.tune_poses):
            flag = "character" if config.tune_character else "poses"
            text = f"expected an avatar without cloth, got {config.avatar or config.data}"
            raise InputError(f"--tune-{flag}: {text}")
        lpips = open_lpips(config.lpips_weights)
        self.lpips = None if lpips is None else lpips.to(device)
        patches = PartPatches(data, device) if config.weights.patch_lpips else None
        tuned_poses = None
        if config.tune_poses:
            text = f"the poses of {len(frames)} frames are refined too, see {REFINED} at the end"
            reporter.note(f"{text} (--tune-poses False: they are not)")
            tuned_poses = PoseTuning(
                split.motion, frames, data.skeleton, data.history_offsets, device
            )
        self.model = Model(config, data, device, tuned_poses)
        # Meshes, images, and the parts that work with them.
        cache = config.folder / "cache"
        self.poses = Poses(self.model.avatar, split, frames, cache, reporter.preparing)
        self.footage = Footage(
            config, split, frames, cameras, device, cache, reporter.preparing, patches
        )
        if empty := [path.name for path in self.footage.pictures.empty]:
            text = f"{len(empty)} pictures show nobody, their masks are empty"
            reporter.note(f"{split.name}/images: {text}: {_some(empty)}")
        self._unusable_named = 0
        self.name_unusable()
        self.trainer = Trainer(config, self.model, world, self.lpips)
        self.validation = Validation(self.model, self.lpips, config.folder / PICTURES)
        if world.rank == 0 and config.validate_every:
            self._choose_validation(split, cache)

    def _character(self) -> AvatarData:
        """DATA's, or the avatar that was given instead."""
        avatar_path = self.config.avatar
        if avatar_path is None:
            for text in notes_worth_showing(self.config.variant, self.dataset.notes):
                self.reporter.note(text)
            return self.dataset.character
        data = load_avatar(avatar_path)
        if text := check_fits(data, avatar_path, self.dataset):
            self.reporter.note(text)
        return data

    def _with_cloth(
        self, data: AvatarData, split: SplitData, frames: Sequence[int], cameras: Sequence[int]
    ) -> AvatarData:
        """Add the cloth that the first process learns, or that an earlier run has learned."""
        if data.cloth is not None:
            text = "has cloth already, which is trained on as it is"
            raise InputError(f"--cloth: {self.config.avatar or self.config.data}: {text}")
        path = self.config.folder / CLOTH
        if self.world.rank == 0 and not (self.config.resume and path.exists()):
            threads = self.config.workers or min(os.cpu_count() or 1, 16)
            progress, device = self.reporter.preparing, self.device
            data, text = learn_cloth(data, split, frames, cameras, threads, progress, device)
            save_avatar(path, data)
            self.reporter.note(text)
        if self.world.size > 1:
            dist.barrier()
        return replace(data, cloth=load_avatar(path).cloth)

    def _training_split(self) -> SplitData:
        release, data = self.dataset.release, self.config.data
        split = self.dataset.splits.get("training")
        if split is not None and split.images:
            return split
        where = "training/images" if release is None else f"dataset.image_dir = {release.image_dir}"
        how = f"'ash-studio extract {data}' makes them"
        if release is not None and release.is_test_motion:
            how = f"{release.motion} is a motion that training never sees: name the other .conf"
        raise InputError(f"{data}: {where}: expected images for training, found none; {how}")

    def _report_missing(
        self, split: SplitData, frames: Sequence[int], cameras: Sequence[int]
    ) -> None:
        """Pictures that other cameras have of a pose."""
        missing = [
            split.image_name(frame, camera)
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
        count, progress = self.config.validation_views, self.reporter.preparing
        plan = self.dataset.plan if self.config.test_cameras == "auto" else None
        cameras = self.test_cameras if plan is None else plan.val_cameras
        if cameras:
            # Published configurations may validate on cameras that they train on.
            kind = "novel view" if {*cameras} <= {*self.test_cameras} else "validation"
            frames = None if plan is None else plan.val_frames
            self.validation.add(kind, split, cameras, count, cache, progress, frames)
        testing = self.dataset.splits.get("testing")
        if testing is not None and testing.images:
            self.validation.add("novel pose", testing, self.test_cameras, count, cache, progress)

    def prepare_warm_up(self) -> None:
        """Compute the published first phase's targets, for the poses that it still has here."""
        remaining_steps = max((self.config.warm_up_steps or 0) - self.trainer.step, 0)
        plan = islice(self.plan(self.trainer.step), remaining_steps * self.trainer.local_poses)
        poses = sorted({pose for _, pose in plan})
        workers, progress = self.config.workers, self.reporter.preparing
        self.model.prepare_warm_up(poses, self.poses.mesh, workers, progress)

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


def _choose_frames(choice: str, split: SplitData, plan: Plan | None) -> list[int]:
    """Choose frames of training; a configuration decides for `:`. Raises: InputError."""
    if choice == ":" and plan is not None:
        return list(plan.train_frames)
    return parse_frames(choice, len(split.motion.dofs))


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
