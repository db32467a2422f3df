"""Images a second of the virtual stage, by what takes the time.

    python tests/bench/bench_film.py [ACTOR] [--poses 10] [--size 1285x940] [--cameras 24]

Seconds of the clock and of the processors (all threads): where others use the machine too, the
second number is the one to compare.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ash_core.commands.capture import find_actor
from ash_core.commands.options import parse_size
from ash_core.conventions import FPS
from ash_core.gl.context import describe_gl, offscreen_context
from ash_core.resources import usable_cores
from ash_core.studio.film.film import Film, FilmJob
from ash_core.studio.film.film_pass import FilmPass
from ash_core.studio.film.film_stage import build_stage, read_actor, write_stage
from ash_core.studio.film.reel import Segment
from ash_core.studio.film.script import find_motions, read_script


class Clock:
    """Adds up what steps take."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        made = work()
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu
        return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("actor", nargs="?", default="actor")
    parser.add_argument("--poses", type=int, default=10)
    parser.add_argument("--size", default="1285x940")
    parser.add_argument("--cameras", type=int, default=24)
    options = parser.parse_args()
    folder, size = find_actor(options.actor), parse_size(options.size)
    actor = read_actor(folder, 0)
    script = read_script(list(find_motions(folder)["training"].values()), actor.data.skeleton)
    stage = build_stage(folder, actor, [script.dofs], options.cameras, size, 0)
    images = options.poses * len(stage.cameras)
    with tempfile.TemporaryDirectory() as name, offscreen_context(64, 64):
        print(f"{describe_gl()}; {usable_cores()} cores; {images} images of {options.size}")
        steps(stage, script, size, options.poses, Path(name))
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        job = FilmJob(out, "training", stage, script, range(options.poses), False, usable_cores())
        write_stage(out, folder, stage.cameras)
        film = Film(job)
        film.prepare()
        clock = Clock()
        clock("all", lambda: film.run(lambda images: None, lambda: False))
        size_mb = sum(path.stat().st_size for path in out.rglob("stream*.mp4")) / 1e6
        print(
            f"together   {images / clock.wall['all']:7.1f} images/s on the clock, "
            f"{images * usable_cores() / clock.cpu['all']:7.1f} if all cores were ours; "
            f"{1e3 * size_mb / images:.1f} kB an image"
        )


def steps(stage, script, size: tuple[int, int], poses: int, folder: Path) -> None:
    """One thing after the other, in one thread."""
    clock = Clock()
    film_pass = FilmPass(stage.actor.surface, *size, stage.reach_m)
    motion = stage.actor.play(script.dofs)
    film_pass.update(motion.frame(0))
    film_pass.shoot(stage.cameras[0])
    reels = [
        Segment(folder / f"{n}r.mp4", folder / f"{n}m.mp4", size, FPS)
        for n in range(len(stage.cameras))
    ]
    for pose in range(1, poses + 1):
        true = clock("simulate", lambda pose=pose: motion.frame(pose))
        clock("light", lambda true=true: film_pass.update(true))
        for camera, reel in zip(stage.cameras, reels, strict=True):
            shot = clock("draw, read", lambda camera=camera: film_pass.shoot(camera))
            clock("encode", lambda reel=reel, shot=shot: reel.add(shot))
    for reel in reels:
        clock("encode", reel.finish)
    images = poses * len(stage.cameras)
    for name, wall in clock.wall.items():
        cpu = clock.cpu[name]
        print(
            f"{name:<10} {1e3 * wall / images:7.2f} ms an image, {1e3 * cpu / images:7.2f} of cpu"
        )
    total = np.array(list(clock.cpu.values())).sum()
    print(f"{'sum':<10} {1e3 * total / images:7.2f} ms of cpu an image")


if __name__ == "__main__":
    main()
