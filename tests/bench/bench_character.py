"""Time the published character on its sample: import, start-up, one frame's maps, both networks.

    python tests/bench/bench_character.py [--frames 15] [--save sample.safetensors]

--save writes the sample with its weights as an avatar and times nothing: what
`ash-studio bench --device cuda --body sample.safetensors` takes.
Needs the reference folder (ASH_REFERENCE) and uses the seeded weights. The published code's times
on 2 shared cores: 9 s to start, 460 ms for the character and maps at atlas 256.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from published import reference_folder, seeded_weights  # noqa: E402

from ash_core.avatar import Avatar  # noqa: E402
from ash_core.files.avatar_file import save_avatar  # noqa: E402
from ash_core.files.released import import_ash  # noqa: E402
from ash_core.files.skeletool import read_motion  # noqa: E402
from ash_core.geometry.motion import pose_window  # noqa: E402
from ash_core.records import AvatarData  # noqa: E402
from ash_core.variants import RELEASED  # noqa: E402

NETWORKS = ("spatial_gcn", "delta_gcn", "unet_geometry", "unet_appearance")


def line(name: str, times: list[float]) -> None:
    """One row: median and quartiles in ms."""
    low, middle, high = statistics.quantiles(times, n=4)
    print(f"{name:44s} {middle:9.1f} ms   ({low:.1f}-{high:.1f}, {len(times)} runs)")


def timed(runs: int, work: Callable[[int], object]) -> list[float]:
    """Milliseconds of each run, the first two left out."""
    times = []
    for n in range(runs + 2):
        start = time.perf_counter()
        work(n)
        times.append(1e3 * (time.perf_counter() - start))
    return times[2:]


def with_networks(data: AvatarData) -> AvatarData:
    """The sample as a published avatar."""
    networks = {name: seeded_weights(name) for name in NETWORKS}
    return dataclasses.replace(
        data,
        variant="released",
        history_offsets=RELEASED.history_offsets,
        networks=networks,
        atlas_resolution=256,
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=15)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    frames, sample = arguments.frames, reference_folder() / "ddc_sample"
    if arguments.save is not None:
        save_avatar(arguments.save, with_networks(import_ash(sample)[0]))
        return
    line("import of the sample", timed(4, lambda _: import_ash(sample)))
    data, _ = import_ash(sample)
    released = with_networks(data)
    line("start: avatar, graph, atlas, networks", timed(3, lambda _: Avatar.from_data(released)))
    avatar = Avatar.from_data(released)
    motion = read_motion(sample / "skeletoolToGTPose" / "poseAngles.motion", data.skeleton)

    def maps(frame: int) -> None:
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        avatar.motion_map(avatar.character(window), window)

    def from_scratch(n: int) -> None:
        avatar.character.forget()
        maps(300 + n)

    line("character + maps, a window from scratch", timed(frames, from_scratch))
    line("character + maps, next frame of a motion", timed(frames, lambda n: maps(600 + n)))
    window = pose_window(motion, 600, data.skeleton, data.history_offsets)
    mesh = avatar.character(window)
    picture = avatar.motion_map(mesh, window)
    line("both U-Nets, float32", timed(4, lambda _: avatar.decode(picture, mesh)))


if __name__ == "__main__":
    main()
