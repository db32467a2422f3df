"""Training at the size of the published release: 91 cameras x 2,490 poses = 226,590 images.

    python tests/bench/bench_release_size.py [--cameras 91] [--poses 2490] [--folder FOLDER]

Images are small (160x120), numbers and counts are the published ones: cameras with holes in their
numbers, frames 110 to 25000 every tenth, a motion of 25,001 rows. A few hundred different images
are hard-linked under all names. Each row of the table is a process of its own, so that its peak of
memory is its own:

    first     nothing cached: boxes and posed meshes are computed
    second    the same command again
    files     images decoded from their files whenever they are drawn
    memory    images kept in memory; batches twice, the second time all of theirs are there

Times on the wall count what else the machine does; times of the processor do not.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

WIDTH, HEIGHT = 160, 120
DIFFERENT = 256
CALIBRATED = 115
FIRST, STEP = 110, 10
DRAWS = 200
TRAINED = 10


@dataclass(frozen=True)
class Arguments:
    """Counts of the set, and where it lies."""

    cameras: int = 91
    poses: int = 2490
    folder: Path | None = None
    """Folder of the set, which is kept; default: a temporary folder, deleted at the end."""
    worker: tuple[str, str, str] | None = None
    """(DATA, OUT, KEEP): measure one start, print it as JSON."""


def camera_numbers(count: int) -> list[int]:
    """Numbers with holes, spread over the calibrated cameras."""
    return sorted({number * CALIBRATED // count for number in range(count)})


def make_image(rng: np.random.Generator) -> bytes:
    """A blob with some detail on an empty mask, as a PNG."""
    from ash_core.files.masked_image import Place, encode_png_box

    height, width = int(rng.integers(70, 100)), int(rng.integers(24, 60))
    coarse = rng.integers(40, 220, (height // 8 + 1, width // 8 + 1, 3))
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., :3] = np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:height, :width]
    pixels[..., :3] += rng.integers(0, 8, pixels[..., :3].shape, np.uint8)
    pixels[..., 3] = 255
    left, top = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
    return encode_png_box(pixels, Place(left, top, WIDTH, HEIGHT))


def build(folder: Path, cameras: int, poses: int) -> None:
    """The data set, with the studio's actor as its character."""
    import torch
    from small_dataset import ring

    from ash_core.files.cameras.published import write_cameras
    from ash_core.files.dataset import CAMERAS, POSES, image_path
    from ash_core.files.released import import_ash
    from ash_core.files.skeletool import read_motion, write_motion
    from ash_core.geometry.camera import resize_camera
    from ash_core.resources import resource as bundled

    actor = bundled("assets", "actor")
    shutil.copytree(actor, folder, dirs_exist_ok=True)
    data, _ = import_ash(actor / "actor.conf")
    dance = read_motion(actor / "motions" / "dance.motion", data.skeleton).dofs
    rows = FIRST + poses * STEP + 1
    write_motion(folder / "training" / POSES, dance.repeat(rows // len(dance) + 1, 1)[:rows])
    around = [resize_camera(c, WIDTH, HEIGHT) for c in ring(data, dance[:100], CALIBRATED)]
    write_cameras(folder / CAMERAS, around)
    rng = np.random.default_rng(0)
    shelf = folder / "different"
    shelf.mkdir()
    for number in range(DIFFERENT):
        (shelf / f"{number}.png").write_bytes(make_image(rng))
    numbers = camera_numbers(cameras)
    for pose in range(poses):
        frame = FIRST + pose * STEP
        for camera in numbers:
            path = image_path(folder, "training", camera, frame)
            if camera == numbers[0]:
                path.parent.mkdir(parents=True)
            os.link(shelf / f"{rng.integers(DIFFERENT)}.png", path)
    torch.set_num_threads(1)


def work(data: str, out: str, keep: Any) -> None:
    """One start of a training, a few steps, and batches without training."""
    started = time.perf_counter()
    import torch
    from test_training_parts import Silent

    from ash_core.training.config import TrainConfig
    from ash_core.training.setup import TrainingSetup

    config = TrainConfig(
        data=Path(data), out=Path(out), preset="cpu", keep=keep, device="cpu",
        test_cameras="none", validate_every=0,
    )  # type: ignore[arg-type]  # fmt: skip
    setup = TrainingSetup(config.resolved(), torch.device("cpu"), Silent())  # type: ignore[arg-type]
    prepared, prepared_cpu = time.perf_counter() - started, time.process_time()
    batches = setup.batches(0)
    setup.trainer.run_step([next(batches)])
    first_step = time.perf_counter() - started
    began = time.perf_counter()
    for _ in range(TRAINED):
        setup.trainer.run_step([next(batches)])
    trained = time.perf_counter() - began
    batches.close()  # type: ignore[attr-defined]
    speeds, per_cpu = [], []
    for _ in range(2):  # the second time, images that are kept lie in memory
        drawn = setup.batches(TRAINED + 1)
        began, began_cpu = time.perf_counter(), time.process_time()
        views = sum(len(next(drawn)[1].cameras) for _ in range(DRAWS))
        speeds.append(views / (time.perf_counter() - began))
        per_cpu.append(views / (time.process_time() - began_cpu))
        drawn.close()  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result = {
        "pictures": len(setup.footage.views),
        "place": setup.footage.pictures.place,
        "prepared_s": prepared,
        "prepared_cpu_s": prepared_cpu,
        "first_step_s": first_step,
        "trained_views_s": TRAINED * 8 / trained,
        "batches_views_s": speeds,
        "batches_views_cpu_s": per_cpu,
        "peak_gb": peak,
    }
    setup.close()
    print(json.dumps(result), flush=True)


def measure(label: str, data: Path, out: Path, keep: str) -> None:
    """Run a worker and print its row."""
    words = [sys.executable, __file__, "--worker", str(data), str(out), keep]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    row = json.loads(done.stdout.splitlines()[-1])
    speeds, per_cpu = (
        " / ".join(f"{speed:,.0f}" for speed in row[name])
        for name in ("batches_views_s", "batches_views_cpu_s")
    )
    print(
        f"{label:8} {row['pictures']:,} images in {row['place']}: prepared after "
        f"{row['prepared_s']:.1f} s ({row['prepared_cpu_s']:.1f} s of processor), first step after "
        f"{row['first_step_s']:.1f} s, peak {row['peak_gb']:.2f} GB, batches {speeds} views/s "
        f"({per_cpu} a second of processor), training {row['trained_views_s']:.1f} views/s",
        flush=True,
    )


def main(arguments: Arguments) -> None:
    """Build the set, then measure."""
    if arguments.worker is not None:
        work(*arguments.worker)
        return
    home = arguments.folder or Path(tempfile.mkdtemp(prefix="release-size-"))
    data, out = home / "data", home / "out"
    try:
        if not data.exists():
            began = time.perf_counter()
            build(data, arguments.cameras, arguments.poses)
            print(f"built in {time.perf_counter() - began:.1f} s: {data}", flush=True)
        shutil.rmtree(out, ignore_errors=True)
        measure("first", data, out, "auto")
        measure("second", data, out, "auto")
        measure("files", data, out, "files")
        measure("memory", data, out, "memory")
    finally:
        if arguments.folder is None:
            shutil.rmtree(home)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
