"""Retargeting of a motion file to an avatar's skeleton.

Each bone turns as the source's does, relative to poses of both in which the bones point the same
way: T and A poses differ, and so do proportions. Pelvis and feet stand where the source's do,
scaled by the length of the legs. The body stays above the floor, y = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ash_core.conventions import FPS
from ash_core.files.bvh import Bvh, read_bvh, resample
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
"""Horizontal share of a foot's bone below which its direction is not used."""
ACROSS_COSINE = 0.87
"""Cosine of 30 degrees: a pelvis turns its thighs' joints with it, nearer than this."""
MIN_WIDTH = 0.1
"""Least distance between the thighs that orients a pelvis, leg lengths."""
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
    """A motion on an avatar's skeleton, and its deviations from the file."""

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
    progress: Callable[[float], None] = lambda _done: None,
) -> Retargeted:
    """Retarget a `.bvh` file to a skeleton.

    fps: rate of the result; None keeps the file's. mapping: file of joint pairs; None guesses.
    avatar: mesh whose soles stand on the floor; None: the skeleton's feet. progress: called with
    the share that is done. Raises: InputError.
    """
    clip = read_bvh(path)
    if fps is not None:
        clip = resample(clip, fps)
    return retarget_clip(clip, skeleton, path, mapping=mapping, avatar=avatar, progress=progress)


def retarget_clip(
    clip: Bvh,
    skeleton: Skeleton,
    path: Path | str,
    *,
    mapping: Path | None = None,
    avatar: AvatarData | None = None,
    up: UpAxis | None = None,
    progress: Callable[[float], None] = lambda _done: None,
) -> Retargeted:
    """Retarget a motion of any figure to a skeleton, at the motion's own rate.

    path: the motion's file, for errors and its name. up: vertical axis, y or z; None finds it.
    The rest as for `read_bvh_motion`. Raises: InputError.
    """
    # The figure: poses, up axis, joint mapping.
    tree = Tree(clip.names, clip.parents)
    turns, places = clip.poses()
    axis = find_up_axis(tree, clip.rest(), places) if up is None else up
    chosen = mapping_of(path, tree, skeleton, axis.axis, mapping)
    if up is not None:
        chosen = replace(chosen, up=up.axis)
    elif not chosen.up:
        joints = {pair.part: pair.source for pair in chosen.pairs}
        axis = find_up_axis(tree, clip.rest(), places, joints)
        chosen = replace(chosen, up=axis.axis)
    elif chosen.up != axis.axis:
        axis = UpAxis(chosen.up, f"{mapping} says so")
    # Goals of the bones, solved for the dofs.
    source = Source(clip, tree, turns, places, chosen, path)
    target = Target(skeleton, chosen)
    goals = _goal_turns(source, target, _facing(source, target))
    hips, feet = legs_on_the_ground(source, target, goals)
    dofs = solve_poses(skeleton, list(goals.values()), hips, feet, progress)
    dofs = put_on_the_floor(dofs, target, avatar)
    # A rest pose at the start, which the motion leaves at once, is solved and left out.
    first, notes = clip.rest_frames, clip.notes
    if first:
        notes += (rest_note(first),)
        goals = {
            bone: replace(goal, R_body_joint=goal.R_body_joint[first:])
            for bone, goal in goals.items()
        }
        dofs = dofs[first:]
    # Deviations from the file, for the report.
    sources = {pair.bone: pair.source for pair in chosen.pairs}
    quality = measure(skeleton, dofs, goals, sources)
    motion = Motion(dofs, fps=source.fps, name=Path(path).stem)
    return Retargeted(motion, chosen, axis, quality, (*notes, *source.notes))


def rest_note(frames: int) -> str:
    """Report frames at the start that only show a rest pose."""
    subject = "the first frame shows" if frames == 1 else f"the first {frames} frames show"
    return f"{subject} a rest pose that the motion leaves at once: left out"


def _facing(source: Source, target: Target) -> np.ndarray:
    """Return R that turns the target at rest about the vertical to face as the source does."""

    def heading(places: Callable[[str], np.ndarray]) -> float:
        across = places("left thigh") - places("right thigh")
        return math.atan2(across[2], across[0])

    def of_source(part: str) -> np.ndarray:
        return source.rest_places[source.index[pair_of(source.mapping, part).source]]

    own_heading = heading(lambda part: target.place(pair_of(target.mapping, part)))
    return Rotation.from_euler("y", own_heading - heading(of_source)).as_matrix()


def _goal_turns(source: Source, target: Target, facing: np.ndarray) -> dict[str, Turn]:
    """Compute each bone's goal: the source's turn since the compared pose, on our rest."""
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
    """Correct turns [F, 3, 3] of the pelvis since the compared pose; `moved` are its joint's.

    Joints of no length below it may undo its turns, as in files written by networks. Then the
    places of thighs and head orient it.
    """
    hip_l, hip_r, top = (source.at(part) for part in ("left thigh", "right thigh", "head"))
    if hip_l is None or hip_r is None or top is None:
        return moved
    width = float(np.linalg.norm(source.rest_places[hip_l] - source.rest_places[hip_r]))
    if width < MIN_WIDTH * source.leg_length("left"):
        return moved

    def frames(places: np.ndarray) -> np.ndarray:
        across = unit(places[:, hip_l] - places[:, hip_r])
        up = places[:, top] - (places[:, hip_l] + places[:, hip_r]) / 2
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
    """Compute the turn that aligns the target's bone at rest with the source's.

    A limb is turned from its root on, each bone after the one before: so no bone is twisted against
    its neighbours. Palms are aligned by their fingers where both sides have them.
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
    source_bone, target_bone = source.direction(pair), target.direction(pair)
    # Fingertips follow the bone before: files often end them anywhere.
    if source_bone is None or target_bone is None or bone_direction(pair, source.mapping) is None:
        return A
    return _smallest_turn(A @ facing @ target_bone, source_bone) @ A


def _foot_alignment(source: Source, target: Target, facing: np.ndarray, side: str) -> np.ndarray:
    """Compute a turn about the vertical: flat feet are flat whatever the ankle's height."""
    foot, toe = source.mapping.of(f"{side} foot"), source.mapping.of(f"{side} toe")
    if foot is None:
        return np.eye(3)
    source_bone, target_bone = source.direction(foot), target.direction(foot)
    if (
        source_bone is not None
        and np.linalg.norm(source_bone[[0, 2]]) < MIN_ACROSS
        and toe is not None
    ):
        source_bone = source.direction(toe)
    if source_bone is None or target_bone is None:
        return np.eye(3)
    source_bone, target_bone = source_bone * [1, 0, 1], target_bone * [1, 0, 1]
    if np.linalg.norm(source_bone) < MIN_ACROSS or np.linalg.norm(target_bone) < MIN_ACROSS:
        return np.eye(3)
    return _smallest_turn(facing @ target_bone, source_bone)


def _palm(
    direction: Callable[[Pair], np.ndarray | None],
    place: Callable[[Pair], np.ndarray],
    mapping: Mapping,
    side: str,
) -> np.ndarray | None:
    """Return R_body_palm at rest: along the hand, across it, and out of it."""
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
    """Return the smallest rotation R with R a = b for directions a, b."""
    a, b = unit(a[None])[0], unit(b[None])[0]
    axis = np.cross(a, b)
    sine = float(np.linalg.norm(axis))
    angle = math.atan2(sine, float(a @ b))
    if sine < 1e-9:
        axis = np.cross(a, np.eye(3)[np.abs(a).argmin()])
    return Rotation.from_rotvec(unit(axis[None])[0] * angle).as_matrix()
