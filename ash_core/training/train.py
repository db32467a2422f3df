"""Footage in, an avatar out, in one process or in several under torchrun."""

import os
import sys

import torch
import torch.distributed as dist

from ash_core.errors import InputError
from ash_core.files.io import check_folder
from ash_core.training.config import TrainConfig
from ash_core.training.loop import Loop
from ash_core.training.release_config import take_release
from ash_core.training.setup import Reporter, Session
from ash_core.training.world import World


def train(config: TrainConfig, reporter: Reporter) -> int:
    """Train as configured; returns the exit code: 0 done or told to end, 130 interrupted."""
    config = take_release(config)[0].resolved()
    world = World.from_environment()
    device = _device(config, world)
    if world.size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        check_folder(config.folder)
        session = Session(config, device, reporter)
        try:
            loop = Loop(session)
            try:
                return loop.run()
            finally:
                loop.close()
        finally:
            session.close()
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
