"""A motion from somebody else's skeleton on ours.

Each bone of ours shall turn as the source's does, seen from poses of both in which the bones point
the same way (T and A poses differ, so do their proportions); the pelvis and the feet shall stand
where the source's do, scaled by the length of the legs; nobody sinks into the floor, y = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ash_core.conventions import FPS
from ash_core.files.bvh import read_bvh, resample
from ash_core.importers.retarget.figures import (
    NEXT,
    Source,
    Target,
    bone_direction,
    pair_of,
    unit,
)
from ash_core.importers.retarget.ground import legs_on_the_ground, put_on_the_floor
from ash_core.importers.retarget.joint_mapping import Mapping, Pair, Tree, mapping_of
from ash_core.importers.retarget.joint_names import FINGERS, SIDES
from ash_core.importers.retarget.pose_solver import Turn, solve_poses
from ash_core.importers.retarget.quality import Quality, measure
from ash_core.importers.retarget.up_axis import UpAxis, find_up_axis
from ash_core.records import AvatarData, Motion, Skeleton

MIN_ACROSS = 0.3
"""Horizontal share of a foot's bone below which it does not say where the foot points."""
ACROSS_COSINE = 0.87
"""Cosine of 30 degrees: a pelvis turns its thighs' joints with it, nearer than this."""
MIN_WIDTH = 0.1
"""Leg lengths between thighs that say how a pelvis stands."""
_TRUNK = ("pelvis", "chest", "spine", "neck", "head", "clavicle")
_TWIST = {
    "upper_arm": 0.3,
    "forearm": 0.1,
    "hand": 0.6,
    "thigh": 0.3,
    "shin": 0.2,
    "foot": 0.6,
    "toe": 0.5,
}
_TWIST |= {f"{finger}{n}": 0.2 for finger in FINGERS for n in (1, 2, 3)}


_BEFORE = {following: part for part, following in NEXT.items()}
_BEFORE |= {f"{finger}1": "hand" for finger in FINGERS}


@dataclass(frozen=True)
class Retargeted:
    """A motion on our skeleton, and how well it follows its file."""

    motion: Motion
    mapping: Mapping
    up: UpAxis
    quality: Quality
    notes: tuple[str, ...]


def read_bvh_motion(
    path: Path | str,
    skeleton: Skeleton,
    *,
    mapping: Path | None = None,
    fps: float | None = FPS,
    avatar: AvatarData | None = None,
    tell: Callable[[float], None] = lambda _done: None,
) -> Retargeted:
    """A `.bvh` file on our skeleton.

    fps: rate of the result; None keeps the file's. avatar: its mesh says where its soles are.
    """
    # The file: poses, up axis, joint mapping.
    clip = read_bvh(path)
    if fps is not None:
        clip = resample(clip, fps)
    tree = Tree(clip.names, clip.parents)
    turns, places = clip.poses()
    up = find_up_axis(tree, clip.rest(), places)
    chosen = mapping_of(path, tree, skeleton, up.axis, mapping)
    if not chosen.up:
        known = {pair.part: pair.source for pair in chosen.pairs}
        up = find_up_axis(tree, clip.rest(), places, known)
        chosen = replace(chosen, up=up.axis)
    elif chosen.up != up.axis:
        up = UpAxis(chosen.up, f"{mapping} says so")
    # Goals of the bones, solved for the dofs.
    source = Source(clip, tree, turns, places, chosen, path)
    target = Target(skeleton, chosen)
    goals = _wanted_turns(source, target, _facing(source, target))
    hips, feet = legs_on_the_ground(source, target, goals)
    dofs = solve_poses(skeleton, list(goals.values()), hips, feet, tell)
    dofs = put_on_the_floor(dofs, target, avatar)
    # A rest pose at the start, which the motion leaves at once, is solved and left out.
    first, notes = clip.rest_frames, clip.notes
    if first:
        some = "the first frame shows" if first == 1 else f"the first {first} frames show"
        notes += (f"{some} a rest pose that the motion leaves at once: left out",)
        goals = {
            bone: replace(goal, R_body_joint=goal.R_body_joint[first:])
            for bone, goal in goals.items()
        }
        dofs = dofs[first:]
    # Deviations from the file, for the report.
    sources = {pair.bone: pair.source for pair in chosen.pairs}
    quality = measure(skeleton, dofs, goals, sources)
    motion = Motion(dofs, fps=source.fps, name=Path(path).stem)
    return Retargeted(motion, chosen, up, quality, (*notes, *source.notes))


def _facing(source: Source, target: Target) -> np.ndarray:
    """R that turns our rest figure about the vertical to face as the source's does."""

    def heading(places: Callable[[str], np.ndarray]) -> float:
        across = places("left thigh") - places("right thigh")
        return math.atan2(across[2], across[0])

    def of_source(part: str) -> np.ndarray:
        return source.rest_places[source.index[pair_of(source.mapping, part).source]]

    ours = heading(lambda part: target.place(pair_of(target.mapping, part)))
    return Rotation.from_euler("y", ours - heading(of_source)).as_matrix()


def _wanted_turns(source: Source, target: Target, facing: np.ndarray) -> dict[str, Turn]:
    """Goal of each pair's bone: the source's turn since the compared pose, on our rest."""
    goals: dict[str, Turn] = {}
    for pair in source.mapping.pairs:
        A = _alignment(source, target, facing, pair)
        own = Rotation.from_euler("xyz", pair.turn_degrees, degrees=True).as_matrix()
        joint = source.index[pair.source]
        moved = source.turns[:, joint] @ source.rest_turns[joint].T
        if pair.part == "pelvis":
            moved = _pelvis_turns(source, moved)
        direction = target.direction(pair)
        goals[pair.bone] = Turn(
            joint=target.joint(pair),
            R_body_joint=torch.from_numpy(moved @ A @ facing @ own),
            direction=None if direction is None else torch.from_numpy(direction),
            weight=0.3 if pair.part.split(" ")[0] in ("spine", "neck") else 1.0,
            twist=_TWIST.get(pair.part.rpartition(" ")[2], 1.0),
        )
    return goals


def _pelvis_turns(source: Source, moved: np.ndarray) -> np.ndarray:
    """Turns [F, 3, 3] of the pelvis since the compared pose; `moved` are those of its joint.

    Joints of no length below it may undo what it turns, as networks write them: then the places of
    thighs and head say how it stands.
    """
    left, right, top = (source.at(part) for part in ("left thigh", "right thigh", "head"))
    if left is None or right is None or top is None:
        return moved
    width = float(np.linalg.norm(source.rest_places[left] - source.rest_places[right]))
    if width < MIN_WIDTH * source.leg_length("left"):
        return moved

    def frames(places: np.ndarray) -> np.ndarray:
        across = unit(places[:, left] - places[:, right])
        up = places[:, top] - (places[:, left] + places[:, right]) / 2
        ahead = unit(np.cross(across, up))
        return np.stack([across, np.cross(ahead, across), ahead], 2)

    rest, posed = frames(source.rest_places[None]), frames(source.places)
    apart = ((moved @ rest)[:, :, 0] * posed[:, :, 0]).sum(1)
    if np.median(apart) > ACROSS_COSINE:
        return moved
    joint = pair_of(source.mapping, "pelvis").source
    source.notes.append(f"{joint} does not turn with the thighs: its turns are found from theirs")
    return posed @ rest.transpose(0, 2, 1)


def _alignment(source: Source, target: Target, facing: np.ndarray, pair: Pair) -> np.ndarray:
    """Turn that makes our bone at rest point where the source's does.

    A limb is turned from its root on, each bone from where the one before has taken it, so that no
    bone is twisted against its neighbours. Palms are turned alike where fingers say how they lie.
    """
    side, _, part = pair.part.rpartition(" ")
    if side not in SIDES or part in _TRUNK:
        return np.eye(3)
    if part in ("foot", "toe"):
        return _foot_alignment(source, target, facing, side)
    before = _BEFORE.get(part)
    above = source.mapping.of(f"{side} {before}") if before else None
    A = np.eye(3) if above is None else _alignment(source, target, facing, above)
    palms = (
        _palm(source.direction, source.places_at_rest, source.mapping, side),
        _palm(target.direction, target.place, target.mapping, side),
    )
    if part == "hand" and palms[0] is not None and palms[1] is not None:
        return palms[0] @ (facing @ palms[1]).T
    theirs, ours = source.direction(pair), target.direction(pair)
    # Fingertips go on as the bone before: where files end them is often nowhere.
    if theirs is None or ours is None or bone_direction(pair, source.mapping) is None:
        return A
    return _smallest_turn(A @ facing @ ours, theirs) @ A


def _foot_alignment(source: Source, target: Target, facing: np.ndarray, side: str) -> np.ndarray:
    """Turn about the vertical: flat feet are flat whatever the ankle's height."""
    foot, toe = source.mapping.of(f"{side} foot"), source.mapping.of(f"{side} toe")
    if foot is None:
        return np.eye(3)
    theirs, ours = source.direction(foot), target.direction(foot)
    if theirs is not None and np.linalg.norm(theirs[[0, 2]]) < MIN_ACROSS and toe is not None:
        theirs = source.direction(toe)
    if theirs is None or ours is None:
        return np.eye(3)
    theirs, ours = theirs * [1, 0, 1], ours * [1, 0, 1]
    if np.linalg.norm(theirs) < MIN_ACROSS or np.linalg.norm(ours) < MIN_ACROSS:
        return np.eye(3)
    return _smallest_turn(facing @ ours, theirs)


def _palm(
    direction: Callable[[Pair], np.ndarray | None],
    place: Callable[[Pair], np.ndarray],
    mapping: Mapping,
    side: str,
) -> np.ndarray | None:
    """R_body_palm at rest: along the hand, across it, and out of it."""
    hand = mapping.of(f"{side} hand")
    knuckles = [mapping.of(f"{side} {finger}1") for finger in ("index", "ring", "pinky")]
    first, last = knuckles[0], knuckles[2] or knuckles[1]
    along = None if hand is None else direction(hand)
    if along is None or first is None or last is None:
        return None
    across = place(last) - place(first)
    out = np.cross(along, across)
    if np.linalg.norm(out) < MIN_ACROSS * np.linalg.norm(across):
        return None
    out = unit(out)
    return np.stack([along, np.cross(out, along), out], 1)


def _smallest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """R with R a = b for directions a, b."""
    a, b = unit(a[None])[0], unit(b[None])[0]
    axis = np.cross(a, b)
    sine = float(np.linalg.norm(axis))
    angle = math.atan2(sine, float(a @ b))
    if sine < 1e-9:
        axis = np.cross(a, np.eye(3)[np.abs(a).argmin()])
    return Rotation.from_rotvec(unit(axis[None])[0] * angle).as_matrix()
