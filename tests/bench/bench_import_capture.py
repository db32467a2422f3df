"""Time and memory of `import capture` where images are linked: 2,000 frames of 24 cameras.

    python tests/bench/bench_import_capture.py [--frames N] [--cameras N]

The source is one rendered frame a camera, hard-linked for all frames.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from made_body import write_body_model
from made_capture import MadeClip, cut, made_clip, write_smplx_npz, write_thuman4


def repeated(clip: MadeClip, frames: int) -> MadeClip:
    """Repeat the pose of the first frame, with a little noise so that no two are equal."""
    poses = clip.poses
    noise = np.random.default_rng(0).normal(0, 1e-3, (frames, *poses.rotations.shape[1:]))
    assert poses.expressions is not None
    repeated_poses = replace(
        poses,
        rotations=poses.rotations[:1] + noise,
        translations=np.repeat(poses.translations[:1], frames, 0),
        expressions=np.repeat(poses.expressions[:1], frames, 0),
        frames=tuple(range(frames)),
    )
    return replace(clip, poses=repeated_poses)


def make_source(folder: Path, cameras: int, frames: int) -> None:
    """Write the capture and a body file of the size of SMPL-X."""
    clip = cut(made_clip(cameras, 1, lenses=False), 1)
    write_thuman4(folder / "source", clip)
    for path in sorted((folder / "source").glob("*/*/00000000.jpg")):
        for frame in range(1, frames):
            os.link(path, path.with_name(f"{frame:08d}.jpg"))
    write_smplx_npz(folder / "source" / "smpl_params.npz", repeated(clip, frames).poses)
    write_body_model(folder / "SMPLX_NEUTRAL.npz", "smplx", clip.rest_joints)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--cameras", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_source(folder, options.cameras, options.frames)
        words = ["import", "capture", str(folder / "source"), "-o", str(folder / "data")]
        words += ["--body", str(folder / "SMPLX_NEUTRAL.npz")]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ash_core.cli", *words], check=True)
        seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{options.frames} frames x {options.cameras} cameras: {seconds:.0f} s, "
        f"{usage.ru_utime + usage.ru_stime:.0f} s of processor time, "
        f"{usage.ru_maxrss / 1024:.0f} MB at most"
    )


if __name__ == "__main__":
    main()
