"""`ash-studio bench`: how fast this machine renders."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_args

import tyro

from ash_core.commands.measure import (
    Spread,
    as_table,
    machine,
    repeat,
    save_json,
    spread,
    time_stages,
)
from ash_core.commands.options import check_range
from ash_core.commands.render import Shot, make_shots
from ash_core.commands.scene import (
    BUNDLED,
    Backend,
    Device,
    Preset,
    load_avatar_data,
    load_motion,
    make_avatar,
)
from ash_core.commands.terminal import progress_bar, say

if TYPE_CHECKING:
    from ash_core.avatar import Avatar
    from ash_core.records import AvatarData, Camera, Gaussians, Motion

FOV_RAD: Final = math.radians(40.0)
RASTER_SIZES: Final = ((1285, 940), (640, 480))
FRAME_SIZE: Final = (640, 480)
BACKGROUND: Final = (1.0, 1.0, 1.0)
MOST_POSES: Final = 250

Lines = dict[str, Spread]
"""What was timed, by name."""


@dataclass(frozen=True)
class Bench:
    """Time the rasterizer and every preset of the bundled avatar: medians and quartiles, ms."""

    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Also write the numbers, with hardware and versions, to this file."""
    seconds: float = 2.0
    """Time for each line, s (at least three runs, however long they take)."""
    device: Device = "cpu"
    """Where the avatar lives."""
    backend: Backend = "auto"
    """Rasterizer."""

    def run(self) -> int:
        check_range("--seconds", self.seconds, 0.0, 600.0, "seconds")
        data = load_avatar_data(BUNDLED)
        motion = load_motion(None, BUNDLED, data)
        presets: tuple[Preset, ...] = get_args(Preset)
        raster: dict[str, Lines] = {}
        frames: dict[str, Lines] = {}
        with progress_bar() as progress:
            task = progress.add_task("timing", total=2 * len(presets))
            for preset in presets:
                avatar = make_avatar(data, self.device, preset)
                name = f"{preset}, {len(avatar.atlas.texels):,} Gaussians"
                raster[name] = self._time_rasterizer(avatar, data, motion)
                progress.advance(task)
                frames[name] = self._time_frames(avatar, data, motion)
                progress.advance(task)
        width, height = FRAME_SIZE
        print_table("rasterizer, ms: median (quartiles)", raster)
        print_table(f"one frame at {width}x{height}, ms: median (quartiles)", frames)
        if self.json is not None:
            numbers = {
                "rasterizer": {name: as_table(lines) for name, lines in raster.items()},
                f"frame {width}x{height}": {
                    name: as_table(lines) for name, lines in frames.items()
                },
            }
            save_json(self.json, {**machine(), "milliseconds": numbers})
            say(f"{self.json}: the same numbers, hardware and versions")
        return 0

    def _time_rasterizer(
        self, avatar: "Avatar", data: "AvatarData", motion: "Motion"
    ) -> dict[str, Spread]:
        import torch

        from ash_core.geometry.framing import front_camera
        from ash_core.geometry.motion import pose_window
        from ash_core.records import to_device

        middle = len(motion.dofs) // 2
        window = to_device(pose_window(motion, middle, data.skeleton), avatar.flat.device)
        with torch.no_grad():
            gaussians = avatar(window)
        lines = {}
        for width, height in RASTER_SIZES:
            pose = motion.dofs[middle : middle + 1]
            camera = front_camera(data.skeleton, pose, FOV_RAD, width, height)
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
        background = torch.tensor(BACKGROUND, device=leaves.means.device)

        def work() -> None:
            image = rasterize(leaves, camera, background, backend=self.backend)
            if backward:
                torch.autograd.grad(image.rgb.sum(), list(vars(leaves).values()))
            if leaves.means.is_cuda:
                torch.cuda.synchronize()

        return spread(repeat(work, self.seconds))

    def _time_frames(
        self, avatar: "Avatar", data: "AvatarData", motion: "Motion"
    ) -> dict[str, Spread]:
        from ash_core.geometry.framing import front_camera
        from ash_core.render import Renderer

        camera = front_camera(data.skeleton, motion.dofs, FOV_RAD, *FRAME_SIZE)
        poses = list(range(min(len(motion.dofs), MOST_POSES)))
        shots = list(make_shots(data, motion, poses, [camera] * len(poses), BACKGROUND))
        renderer = Renderer(avatar, backend=self.backend)
        return time_stages(renderer, for_seconds(shots, self.seconds))


def for_seconds(shots: list[Shot], seconds: float, least: int = 4) -> Iterator[Shot]:
    """The shots over and over until the time is up, but at least a few."""
    end = time.perf_counter() + seconds
    given = 0
    while given < least or time.perf_counter() < end:
        yield shots[given % len(shots)]
        given += 1


def print_table(title: str, columns: Mapping[str, Lines]) -> None:
    """One column for each preset, one row for each thing timed."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", title=title)
    for name in columns:
        table.add_column(name, justify="right")
    rows = list(dict.fromkeys(row for lines in columns.values() for row in lines))
    for row in rows:
        cells = [str(lines[row]) if row in lines else "-" for lines in columns.values()]
        table.add_row(row, *cells)
    Console().print(table)
