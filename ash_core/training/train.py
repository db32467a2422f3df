"""Footage in, an avatar out, in one process or in several under torchrun."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from ash_core.errors import InputError
from ash_core.training.config import TrainConfig
from ash_core.training.loop import Loop
from ash_core.training.metrics import Scores
from ash_core.training.release_config import take_release
from ash_core.training.setup import Reporter, Stop, TrainingSetup
from ash_core.training.world import World


@dataclass(frozen=True)
class Trained:
    """Result of a training."""

    avatar: Path
    """Avatar file, for `ash.open` and every command."""
    steps: int
    seconds: float
    """Time of all runs in its folder."""
    scores: Mapping[str, Scores]
    """Means of the last validation, e.g. `scores["novel view"].psnr` in dB."""
    stop: Stop
    """Who stopped it before its end; "no" where nobody did. `resume` goes on from there."""


def train(config: TrainConfig, reporter: Reporter) -> Trained:
    """Train as configured. Raises: InputError."""
    config = take_release(config)[0].resolved()
    world = World.from_environment()
    device = _device(config, world)
    if world.size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        setup = TrainingSetup(config, device, reporter)
        try:
            loop = Loop(setup)
            try:
                stop = loop.run()
                path, step = config.folder / "avatar.safetensors", loop.trainer.step
                return Trained(path, step, loop.seconds, loop.scores, stop)
            finally:
                loop.close()
        finally:
            setup.close()
    finally:
        if world.size > 1:
            dist.destroy_process_group()


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


if __name__ == "__main__":  # torchrun -m wants a module: as a program this is `ash-studio train`
    from ash_core.cli import main

    sys.argv.insert(1, "train")
    sys.exit(main())
