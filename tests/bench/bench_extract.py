"""`extract` beside a bare decode loop of the same videos: 24 cameras of 100 frames, 1285x940.

    python tests/bench/bench_extract.py [FOLDER]

The actor is filmed twice over a textured, noisy backdrop, as x264 at crf 18 stores it; the other
cameras are copies. The bare loop decodes both videos of a camera, one thread each and as many
processes as there are cores, and does nothing with the frames.
"""

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

import av
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).parents[2])]

CAMERAS, FRAMES, FILMED = 24, 100, 2
WIDTH, HEIGHT = 1285, 940
RUNS = int(os.environ.get("RUNS", "3"))


def make_dataset(folder: Path) -> None:
    """Two filmed cameras, copied to all."""
    import torch
    from small_dataset import ring

    from ash_core.avatar import Avatar
    from ash_core.files.dataset import POSES, mask_video_path, video_path
    from ash_core.files.released import import_ash
    from ash_core.files.skeletool import read_motion, write_motion
    from ash_core.files.video import open_writer
    from ash_core.geometry.camera import resize_camera
    from ash_core.geometry.motion import pose_window
    from ash_core.render import Renderer, RenderRequest
    from ash_core.resources import resource as bundled

    actor = bundled("assets", "actor")
    data, _ = import_ash(actor / "actor.conf")
    motion = read_motion(actor / "motions" / "dance.motion", data.skeleton)
    motion = replace(motion, dofs=motion.dofs[:FRAMES])
    write_motion(folder / "training" / POSES, motion.dofs)
    renderer = Renderer(Avatar.from_data(data, preset_name="cpu"))
    noise = np.random.default_rng(0)
    cloth = np.repeat(np.repeat(noise.integers(60, 120, (118, 161, 3)), 8, 0), 8, 1)
    cloth = cloth[:HEIGHT, :WIDTH].astype(np.float32)
    for number, camera in enumerate(ring(data, motion.dofs, FILMED)):
        camera = resize_camera(camera, WIDTH, HEIGHT)
        rgb_path = video_path(folder, "training", number)
        mask_path = mask_video_path(folder, "training", number)
        with (
            open_writer(rgb_path, WIDTH, HEIGHT) as rgb,
            open_writer(mask_path, WIDTH, HEIGHT) as masks,
        ):
            for frame in range(FRAMES):
                window = pose_window(motion, frame, data.skeleton, data.history_offsets)
                image = renderer.render(RenderRequest(window, camera, None))
                picture = image.rgb.numpy() * 255 + (1 - image.alpha.numpy()[..., None]) * cloth
                picture += noise.normal(0, 3, picture.shape)
                rgb.write((picture.clip(0, 255) + 0.5).astype(np.uint8))
                mask = (image.alpha > 0.5).to(torch.uint8)[..., None] * 255
                masks.write(mask.expand(-1, -1, 3).contiguous().numpy())
    for number in range(FILMED, CAMERAS):
        for path in (video_path, mask_video_path):
            shutil.copy(path(folder, "training", number % FILMED), path(folder, "training", number))


def decode(paths: tuple[Path, Path], as_rgb: bool) -> int:
    """The bare loop over a camera's two videos."""
    count = 0
    for path in paths:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for frame in container.decode(video=0):
                count += 1
                if as_rgb and path == paths[0]:
                    frame.to_ndarray(format="rgb24")
    return count


def decode_all(folder: Path, as_rgb: bool = False) -> None:
    from ash_core.files.dataset import mask_video_path, video_path

    pairs = [
        (video_path(folder, "training", n), mask_video_path(folder, "training", n))
        for n in range(CAMERAS)
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        counts = pool.map(decode, pairs, [as_rgb] * CAMERAS)
        assert sum(counts) == 2 * CAMERAS * FRAMES


def extract(folder: Path, *options: str) -> None:
    from ash_core.cli import main

    shutil.rmtree(folder / "training" / "images", ignore_errors=True)
    assert main(["extract", str(folder), *options]) == 0


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """(seconds on the clock, seconds of processors); the second holds on a busy machine too."""
    start, used = time.perf_counter(), _processor_seconds()
    work()
    return time.perf_counter() - start, _processor_seconds() - used


def _processor_seconds() -> float:
    ours, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def bench(folder: Path) -> None:
    works: dict[str, Callable[[], None]] = {
        "bare decode loop": lambda: decode_all(folder),
        "bare decode loop, RGB to arrays": lambda: decode_all(folder, True),
        "extract png": lambda: extract(folder),
        "extract png --crop": lambda: extract(folder, "--crop"),
        "extract jpg": lambda: extract(folder, "--kind", "jpg"),
        "extract jpg --crop": lambda: extract(folder, "--kind", "jpg", "--crop"),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(RUNS):  # in turn, so that a slow minute hits all
        for name, work in works.items():
            times[name].append(timed(work))
    bare = [median(kind) for kind in zip(*times["bare decode loop"], strict=True)]
    for name, runs in times.items():
        clock, used = (median(kind) for kind in zip(*runs, strict=True))
        spread = f"{min(runs)[0]:.1f} to {max(runs)[0]:.1f}"
        print(
            f"{name:34s} {clock:6.2f} s ({spread}), {clock / bare[0]:.2f} of the bare loop; "
            f"processors {used:6.2f} s, {used / bare[1]:.2f}"
        )
    size = (folder / "training" / "videos" / "stream000.mp4").stat().st_size
    print(f"RGB video: {size * 8 * 25 / FRAMES / 1e6:.1f} Mbit/s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place = Path(sys.argv[1])
        if not (place / "training").exists():
            make_dataset(place)
        bench(place)
    else:
        with tempfile.TemporaryDirectory() as made:
            make_dataset(Path(made))
            bench(Path(made))
