"""Retargeting at its worst: generated motions, then every .bvh file or folder that is named.

    python tests/bench/bench_retarget.py [--seeds 40] [--hard 10] [--long 15000] [PATH ...]

Prints for each its largest error and its largest turn beyond the source's, with bone and frame, and
what is beyond bounds; then how long a motion takes, in seconds of the clock and of the processor.
--hard: motions whose arms turn to where the limits of ours do not let them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_motions import (
    HIP_CM,
    ORDERS,
    random_stick_turns,
    random_swings,
    write_actor_bvh,
    write_sticks,
)

from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.skeletool import read_skeleton
from ash_core.importers.retarget.quality import ERROR_BOUND_DEGREES, TURN_BOUND_DEGREES, Quality
from ash_core.importers.retarget.retarget import read_bvh_motion
from ash_core.resources import resource

FRAMES_PER_SECOND = (24.0, 25.0, 30.0, 50.0, 60.0, 90.0, 120.0)
SHORT = 200


def line(name: str, frames: int, quality: Quality) -> str:
    """One line of the table."""
    error, turn = quality.errors[0], quality.turns[0]
    beyond = sum(e.degrees > ERROR_BOUND_DEGREES and not e.at_limit for e in quality.errors)
    beyond += sum(t.degrees > TURN_BOUND_DEGREES for t in quality.turns)
    kind = " (limit)" if error.at_limit else ""
    return (
        f"{name[-44:]:44} {frames:6}  {error.degrees:5.1f} {error.bone}@{error.frame}{kind}  "
        f"{turn.degrees:5.1f} {turn.bone}@{turn.frame}" + (f"  BEYOND {beyond}" if beyond else "")
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--hard", type=int, default=10)
    parser.add_argument("--long", type=int, default=15000)
    asked = parser.parse_args()
    skeleton = read_skeleton(resource("assets", "actor/actor.skeleton"))
    avatar = load_avatar(resource("assets", "actor.safetensors"))
    folder = Path(tempfile.mkdtemp(prefix="bench_retarget"))
    bones = len({name.split("_")[0] for name in skeleton.joint_names if "Roll" not in name})
    for seed in range(asked.seeds):
        rng = np.random.default_rng(seed)
        dofs = random_swings(skeleton, rng, SHORT, int(rng.integers(1, 13)))
        fps = float(rng.choice(FRAMES_PER_SECOND))
        scales = rng.uniform(0.8, 1.25, bones)
        path = write_actor_bvh(folder / "a.bvh", skeleton, dofs, ORDERS[seed % 6], fps, scales)
        for rate in (None, 25.0):
            found = read_bvh_motion(path, skeleton, fps=rate)
            name = f"seed {seed}, {ORDERS[seed % 6]}, {fps:g} fps to {rate or fps:g}"
            print(line(name, len(found.motion.dofs), found.quality), flush=True)
    for seed in range(asked.hard):
        rng = np.random.default_rng(seed)
        longest = int(rng.integers(1, 13))
        turns = random_stick_turns(rng, SHORT, longest)
        root, fps = np.tile([0.0, HIP_CM, 0.0], (SHORT, 1)), float(rng.choice(FRAMES_PER_SECOND))
        path = write_sticks(folder / "h.bvh", root, turns, fps, ORDERS[seed % 6])
        found = read_bvh_motion(path, skeleton, fps=None)
        print(line(f"hard {seed}, {longest} frames a swing", SHORT, found.quality), flush=True)
    paths = [p for f in asked.files for p in (sorted(f.rglob("*.bvh")) if f.is_dir() else [f])]
    for path in paths:
        try:
            found = read_bvh_motion(path, avatar.skeleton, avatar=avatar)
        except InputError as error:
            print(f"{path.name[-44:]:44} refused: {str(error)[-100:]}")
            continue
        print(line(path.stem, len(found.motion.dofs), found.quality), flush=True)
    if asked.long:
        dofs = random_swings(skeleton, np.random.default_rng(0), asked.long)
        path = write_actor_bvh(folder / "long.bvh", skeleton, dofs)
        clock, processor = time.perf_counter(), time.process_time()
        read_bvh_motion(path, avatar.skeleton, avatar=avatar)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        print(f"{asked.long} frames: {clock:.1f} s, {processor:.1f} s of processor time")


if __name__ == "__main__":
    main()
