"""Retargeting at its worst: generated motions, then every .bvh file or folder that is named.

    python tests/bench/bench_retarget.py [--seeds 40] [--hard 10] [--long 15000] [--walks] [PATH]

Prints for each its largest error and its largest turn beyond the source's, with bone and frame, and
what is beyond bounds; then how long a motion takes, in seconds of the clock and of the processor.
--hard: motions whose arms turn to where the limits of ours do not let them. --walks: how far ankles
and toes drift, and how high or deep soles stand, while the feet of generated walks are planted.
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
    walk,
    write_actor_bvh,
    write_sticks,
)

from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.skeletool import read_skeleton
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.retarget.quality import ERROR_BOUND_DEGREES, TURN_BOUND_DEGREES, Quality
from ash_core.importers.retarget.retarget import read_bvh_motion
from ash_core.records import AvatarData
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


WALKS = ((60.0, 1.2), (80.0, 1.0), (100.0, 0.8))
"""Way of a foot in one step, cm, and duration of two steps, s."""
EDGE_S = 0.1
"""Ends of a stance that do not count: the foot blends into its step there."""


def print_walks(folder: Path, avatar: AvatarData) -> None:
    """Print the drift of planted feet: largest distance from their mean place in one stance."""
    print("walk, drift of planted ankles and toes, cm: median, largest; ankles' height, cm")
    for stride, cycle in WALKS:
        for fps in (25.0, 60.0, 120.0):
            root, turns, stances = walk(stride, cycle, 8.0, fps)
            path = write_sticks(folder / "walk.bvh", root, turns, fps)
            result = read_bvh_motion(path, avatar.skeleton, fps=None, avatar=avatar)
            T = joint_transforms(avatar.skeleton, result.motion.dofs.double()).numpy()
            drifts, heights = [], []
            for side, stance in stances.items():
                for joint in (f"{side}Foot_rx", f"{side}Toe"):
                    places = T[:, avatar.skeleton.joint_names.index(joint), :3, 3]
                    for n in range(1, int(stance.max())):
                        frames = np.flatnonzero(stance == n)
                        edge = round(EDGE_S * fps)
                        foot = places[frames[edge : len(frames) - edge]]
                        drifts.append(100 * np.linalg.norm(foot - foot.mean(0), axis=1).max())
                        if "Foot" in joint:
                            heights.append(100 * foot[:, 1].mean())
            speed = stride / cycle / 100.0
            print(
                f"{speed:.2f} m/s, {fps:g} fps: {np.median(drifts):.2f}, {max(drifts):.2f}; "
                f"{min(heights):.1f} to {max(heights):.1f} ({len(drifts)} stances)",
                line("", len(T), result.quality).strip(),
                flush=True,
            )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--hard", type=int, default=10)
    parser.add_argument("--long", type=int, default=15000)
    parser.add_argument("--walks", action="store_true")
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
    if asked.walks:
        print_walks(folder, avatar)
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
