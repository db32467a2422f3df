"""`ash-studio bench`: how fast this machine renders."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_args

import tyro

from ash_core.commands.measure import (
    Spread,
    as_table,
    for_seconds,
    machine,
    print_table,
    repeat,
    save_json,
    spread,
    time_stages,
)
from ash_core.commands.options import check_range
from ash_core.commands.terminal import note, progress_bar, say
from ash_core.errors import InputError
from ash_core.scene.open import (
    ACTOR,
    Backend,
    Device,
    Preset,
    choose_device,
    load_avatar_data,
    load_motion,
    make_avatar,
)

if TYPE_CHECKING:
    from ash_core.avatar import Avatar
    from ash_core.records import AvatarData, Camera, Gaussians, Motion

FOV_RAD: Final = math.radians(40.0)
RASTER_SIZES: Final = ((1285, 940), (640, 480))
FRAME_SIZE: Final = (640, 480)
BACKGROUND: Final = (1.0, 1.0, 1.0)
MOST_POSES: Final = 250

Lines = dict[str, Spread]
"""Timings by name."""


@dataclass(frozen=True)
class Bench:
    """Time the rasterizer and every preset of the built-in actor: medians and quartiles, ms.

    On a GPU, gsplat, Faster-GS and diff-gaussian-rasterization are timed too where installed.
    """

    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Also write the numbers, with hardware and versions, to this file."""
    seconds: float = 2.0
    """Time for each line, s; at least three runs, however long they take."""
    device: Device = "cpu"
    """Device that holds and renders the avatar."""
    backend: Backend = "auto"
    """Rasterizer."""
    body: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Avatar file, with --device cuda: its mesh is rasterized instead of the actor's, and its own
    frames are timed too."""

    def run(self) -> int:
        check_range("--seconds", self.seconds, 0.0, 600.0, "seconds")
        if choose_device(self.device, report=note) == "cuda":
            from ash_core.commands.bench_cuda import run_on_gpu

            numbers = run_on_gpu(self.body, self.backend, self.seconds)
        elif self.body is not None:
            raise InputError("--body: expected --device cuda with it")
        else:
            numbers = self._run_on_cpu()
        if self.json is not None:
            save_json(self.json, {**machine(), **numbers})
            say(f"{self.json}: the same numbers, hardware and versions")
        return 0

    def _run_on_cpu(self) -> dict[str, object]:
        data = load_avatar_data(ACTOR)
        motion = load_motion(None, ACTOR, data, report=note)
        presets: tuple[Preset, ...] = get_args(Preset)
        raster: dict[str, Lines] = {}
        frames: dict[str, Lines] = {}
        with progress_bar() as progress:
            task = progress.add_task("timing", total=2 * len(presets))
            for preset in presets:
                avatar = make_avatar(data, "cpu", preset)
                name = f"{preset}, {len(avatar.atlas.texels):,} Gaussians"
                raster[name] = self._time_rasterizer(avatar, data, motion)
                progress.advance(task)
                frames[name] = self._time_frames(avatar, data, motion)
                progress.advance(task)
        width, height = FRAME_SIZE
        print_table("rasterizer, ms: median (quartiles)", raster)
        print_table(f"one frame at {width}x{height}, ms: median (quartiles)", frames)
        return {
            "milliseconds": {
                "rasterizer": {name: as_table(lines) for name, lines in raster.items()},
                f"frame {width}x{height}": {
                    name: as_table(lines) for name, lines in frames.items()
                },
            }
        }

    def _time_rasterizer(
        self, avatar: "Avatar", data: "AvatarData", motion: "Motion"
    ) -> dict[str, Spread]:
        import torch

        from ash_core.geometry.framing import front_camera
        from ash_core.pose_windows import window_at

        middle = len(motion.dofs) // 2
        window = window_at(data, motion, middle)
        with torch.no_grad():
            gaussians = avatar(window)
        lines = {}
        for width, height in RASTER_SIZES:
            pose = motion.dofs[middle : middle + 1]
            camera = front_camera(data, pose, FOV_RAD, width, height)
            for backward in (False, True):
                name = f"{width}x{height} {'forward + backward' if backward else 'forward'}"
                lines[name] = self._time_raster(gaussians, camera, backward)
        return lines

    def _time_raster(self, gaussians: "Gaussians", camera: "Camera", backward: bool) -> Spread:
        import torch

        from ash_core.records import Gaussians
        from ash_core.splat.rasterize import rasterize

        values = {name: value.detach().clone() for name, value in vars(gaussians).items()}
        leaves = Gaussians(**{k: v.requires_grad_(backward) for k, v in values.items()})
        background = torch.tensor(BACKGROUND)

        def work() -> None:
            image = rasterize(leaves, camera, background, backend=self.backend)
            if backward:
                torch.autograd.grad(image.rgb.sum(), list(vars(leaves).values()))

        return spread(repeat(work, self.seconds))

    def _time_frames(
        self, avatar: "Avatar", data: "AvatarData", motion: "Motion"
    ) -> dict[str, Spread]:
        from ash_core.geometry.framing import front_camera
        from ash_core.render import Renderer
        from ash_core.scene.record import make_shots

        camera = front_camera(data, motion.dofs, FOV_RAD, *FRAME_SIZE)
        poses = list(range(min(len(motion.dofs), MOST_POSES)))
        shots = list(make_shots(data, motion, poses, [camera] * len(poses), BACKGROUND))
        renderer = Renderer(avatar, backend=self.backend)
        return time_stages(renderer, for_seconds(shots, self.seconds))
