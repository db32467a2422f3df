"""A motion from somebody else's skeleton on ours.

Each bone of ours shall turn as the source's does, seen from poses of both in which the bones point
the same way (T and A poses differ, so do their proportions); the pelvis and the feet shall stand
where the source's do, scaled by the length of the legs; nobody sinks into the floor, y = 0.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.spatial.transform import Rotation

from ash_core.capture.retarget.joint_mapping import (
    Mapping,
    Pair,
    Tree,
    bone_tree,
    mapping_of,
    vertical,
)
from ash_core.capture.retarget.joint_names import FINGERS, SIDES, group_name
from ash_core.capture.retarget.pose_solver import Place, Turn, solve_poses
from ash_core.conventions import FPS
from ash_core.files.bvh import Bvh, read_bvh, resample
from ash_core.files.text import bad
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import AvatarData, Motion, Skeleton

SOLE_M = 0.02
"""How far the sole lies under the lowest foot joint, where no mesh says."""
UPRIGHT = 0.7
"""Cosine: a figure stands if its trunk and its legs are this near to the vertical."""
PELVIS_WEIGHT = 15.0
FOOT_WEIGHT = (4.0, 25.0)
"""Of a foot in the air and of one on the floor, rad per m."""
CONTACT_M, CONTACT_M_PER_S = 0.06, 0.4
MIN_LEG = 1e-6
_NEXT = {
    "clavicle": "upper_arm",
    "upper_arm": "forearm",
    "forearm": "hand",
    "hand": "middle1",
    "thigh": "shin",
    "shin": "foot",
    "foot": "toe",
} | {f"{finger}{n}": f"{finger}{n + 1}" for finger in FINGERS for n in (1, 2)}
_TRUNK = ("pelvis", "chest", "spine", "neck", "head", "clavicle")
_TWIST = {"upper_arm": 0.3, "forearm": 0.1, "thigh": 0.3, "shin": 0.2, "foot": 0.6, "toe": 0.5}


@dataclass(frozen=True)
class Retargeted:
    """What came of it."""

    motion: Motion
    mapping: Mapping
    notes: tuple[str, ...]
    turn_error_degrees: float
    """Mean over bones and frames of how far a bone points from where it should."""


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
    clip = read_bvh(path)
    if fps is not None:
        clip = resample(clip, fps)
    tree = Tree(clip.names, clip.parents)
    turns, places = clip.poses()
    chosen = mapping_of(path, tree, skeleton, vertical(tree, places), mapping)
    source = _Source(clip, tree, turns, places, chosen, path)
    found = _retarget(source, skeleton, avatar, Path(path).stem, tell)
    return _without_rest_pose(found, clip)


def _without_rest_pose(found: Retargeted, clip: Bvh) -> Retargeted:
    """Leave out a rest pose at the start, from which the motion jumps, and add the file's notes."""
    notes, frames = clip.notes, clip.rest_frames
    if frames:
        some = "the first frame shows" if frames == 1 else f"the first {frames} frames show"
        notes += (f"{some} a rest pose that the motion leaves at once: left out",)
        found = replace(found, motion=replace(found.motion, dofs=found.motion.dofs[frames:]))
    return replace(found, notes=(*notes, *found.notes))


def bone_direction(pair: Pair, mapping: Mapping) -> Pair | None:
    """The pair at the far end of a pair's bone."""
    side, _, part = pair.part.rpartition(" ")
    following = _NEXT.get(part)
    return mapping.of(f"{side} {following}") if side in SIDES and following else None


class _Source:
    """The file's figure, Y up, with a pose to compare with."""

    def __init__(
        self,
        clip: Bvh,
        tree: Tree,
        turns: np.ndarray,
        places: np.ndarray,
        mapping: Mapping,
        path: Path | str,
    ) -> None:
        R = np.eye(3) if mapping.up == "y" else np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
        self.fps, self.mapping, self.path = clip.fps, mapping, path
        self.index = {name: n for n, name in enumerate(tree.names)}
        self.turns, self.places = R @ turns @ R.T, places @ R.T
        self.tips = {n: R @ tip for n, tip in clip.tips.items()}
        self.notes: list[str] = []
        self.rest_places = clip.rest() @ R.T
        self.rest_turns = np.tile(np.eye(3), (len(tree.names), 1, 1))
        if self._uprightness(self.rest_places[None])[0] < UPRIGHT:
            scores = self._uprightness(self.places)
            frame = int(scores.argmax())
            self.rest_places, self.rest_turns = self.places[frame], self.turns[frame]
            self.notes.append(
                "the file's zero pose is no standing figure: bones are compared at its most "
                f"upright frame, {frame}"
            )

    def at(self, part: str) -> int | None:
        """Joint of a part."""
        pair = self.mapping.of(part)
        return None if pair is None else self.index[pair.source]

    def _uprightness(self, places: np.ndarray) -> np.ndarray:
        """[F] smallest cosine between the vertical and trunk, thighs and shins."""
        ends = [(f"{side} {low}", f"{side} {high}") for side in SIDES
                for low, high in (("shin", "thigh"), ("foot", "shin"))]  # fmt: skip
        top = next((p for p in ("head", "neck", "chest") if self.at(p) is not None), None)
        if top is not None:
            ends.append(("pelvis", top))
        cosines = [np.ones(len(places))]
        for low, high in ends:
            a, b = self.at(low), self.at(high)
            assert a is not None, low
            assert b is not None, high
            cosines.append(_unit(places[:, b] - places[:, a])[:, 1])
        return np.min(cosines, axis=0)

    def direction(self, pair: Pair) -> np.ndarray | None:
        """[3] where a bone points in the compared pose."""
        joint = self.index[pair.source]
        end = bone_direction(pair, self.mapping)
        if end is not None:
            along = self.rest_places[self.index[end.source]] - self.rest_places[joint]
        elif joint in self.tips:
            along = self.rest_turns[joint] @ self.tips[joint]
        else:
            return None
        length = float(np.linalg.norm(along))
        return along / length if length > MIN_LEG else None


class _Target:
    """Our skeleton at rest, by part."""

    def __init__(self, skeleton: Skeleton, mapping: Mapping) -> None:
        self.skeleton, self.mapping = skeleton, mapping
        zero = torch.zeros(len(skeleton.dof_names), dtype=torch.float64)
        self.rest = joint_transforms(skeleton, zero)[:, :3, 3].numpy()
        groups = [group_name(name) for name in skeleton.joint_names]
        self.first = {name: groups.index(name) for name in bone_tree(skeleton).names}
        self.last = {name: len(groups) - 1 - groups[::-1].index(name) for name in self.first}

    def place(self, pair: Pair) -> np.ndarray:
        return self.rest[self.first[pair.bone]]

    def joint(self, pair: Pair) -> int:
        """The joint that has all of the bone's turns: rolls on the way to the next bone too."""
        end = bone_direction(pair, self.mapping)
        last = self.last[pair.bone]
        if end is None:
            return last
        above = int(self.skeleton.parents[self.first[end.bone]])
        at = above
        while at >= 0 and at != last:
            at = int(self.skeleton.parents[at])
        return above if at == last else last

    def direction(self, pair: Pair) -> np.ndarray | None:
        end = bone_direction(pair, self.mapping)
        if end is None:
            return None
        along = self.place(end) - self.place(pair)
        length = float(np.linalg.norm(along))
        return along / length if length > MIN_LEG else None


def _retarget(
    source: _Source,
    skeleton: Skeleton,
    avatar: AvatarData | None,
    name: str,
    tell: Callable[[float], None],
) -> Retargeted:
    target = _Target(skeleton, source.mapping)
    facing = _facing(source, target)
    turns = _wanted_turns(source, target, facing)
    places = _wanted_places(source, target, turns)
    start = _start(source, target, turns, places)
    goals = [turn for turn, _ in turns.values()]
    dofs = solve_poses(skeleton, goals, places, start, tell)
    dofs = _on_the_floor(dofs, target, avatar)
    error = _pointing_error(skeleton, dofs, goals)
    motion = Motion(dofs, fps=source.fps, name=name)
    return Retargeted(motion, source.mapping, tuple(source.notes), error)


def _facing(source: _Source, target: _Target) -> np.ndarray:
    """R that turns our rest figure about the vertical to face as the source's does."""

    def heading(places: Callable[[str], np.ndarray]) -> float:
        across = places("left thigh") - places("right thigh")
        return math.atan2(across[2], across[0])

    def of_source(part: str) -> np.ndarray:
        return source.rest_places[source.index[_pair(source.mapping, part).source]]

    ours = heading(lambda part: target.place(_pair(target.mapping, part)))
    return Rotation.from_euler("y", ours - heading(of_source)).as_matrix()


def _pair(mapping: Mapping, part: str) -> Pair:
    pair = mapping.of(part)
    assert pair is not None, part
    return pair


def _wanted_turns(
    source: _Source, target: _Target, facing: np.ndarray
) -> dict[str, tuple[Turn, np.ndarray]]:
    """Goal of each pair's bone, and the turn [3, 3] of our rest that makes it like the source's."""
    aligned: dict[str, np.ndarray] = {}
    turns: dict[str, tuple[Turn, np.ndarray]] = {}
    for pair in source.mapping.pairs:
        A = aligned[pair.bone] = _alignment(source, target, facing, pair)
        own = Rotation.from_euler("xyz", pair.turn_degrees, degrees=True).as_matrix()
        joint = source.index[pair.source]
        moved = source.turns[:, joint] @ source.rest_turns[joint].T
        wanted = torch.from_numpy(moved @ A @ facing @ own)
        direction = target.direction(pair)
        along = None if direction is None else wanted @ torch.from_numpy(direction)
        part = pair.part.rpartition(" ")[2]
        weight = 0.3 if pair.part.split(" ")[0] in ("spine", "neck") else 1.0
        twist = _TWIST.get(part, 1.0)
        turns[pair.bone] = (Turn(target.joint(pair), wanted, along, weight, twist), A)
    return turns


def _alignment(source: _Source, target: _Target, facing: np.ndarray, pair: Pair) -> np.ndarray:
    """The smallest turn that makes our bone at rest point where the source's does."""
    side, _, part = pair.part.rpartition(" ")
    if side not in SIDES or part in _TRUNK:
        return np.eye(3)
    theirs, ours = source.direction(pair), target.direction(pair)
    if part in ("foot", "toe"):
        # Flat feet are flat whatever the ankle's height: only where they point counts.
        foot = source.mapping.of(f"{side} foot")
        if foot is None:
            return np.eye(3)
        theirs, ours = source.direction(foot), target.direction(foot)
        if theirs is None or ours is None:
            return np.eye(3)
        theirs, ours = theirs * [1, 0, 1], ours * [1, 0, 1]
    if theirs is None or ours is None:
        before = {v: k for k, v in _NEXT.items()}.get(part)
        above = source.mapping.of(f"{side} {before}") if before else None
        return np.eye(3) if above is None else _alignment(source, target, facing, above)
    return _smallest_turn(facing @ ours, theirs)


def _smallest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """R with R a = b for directions a, b."""
    a, b = _unit(a[None])[0], _unit(b[None])[0]
    axis = np.cross(a, b)
    sine = float(np.linalg.norm(axis))
    angle = math.atan2(sine, float(a @ b))
    if sine < 1e-9:
        axis = np.cross(a, np.eye(3)[np.abs(a).argmin()])
    return Rotation.from_rotvec(_unit(axis[None])[0] * angle).as_matrix()


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


# ---- places ----


def _wanted_places(
    source: _Source, target: _Target, turns: dict[str, tuple[Turn, np.ndarray]]
) -> list[Place]:
    """Both hips and both feet, m, as if the lowest foot joint were the sole."""
    mapping = source.mapping
    at = {part: _pair(mapping, part) for side in SIDES for part in _leg(side)}
    theirs = {part: source.index[pair.source] for part, pair in at.items()}
    leg_theirs = np.mean([_leg_length(source.rest_places, theirs, s) for s in SIDES])
    ours = {part: target.place(pair) for part, pair in at.items()}
    leg_ours = np.mean([_leg_length(target.rest, {p: target.first[at[p].bone] for p in at}, s)
                        for s in SIDES])  # fmt: skip
    if not leg_theirs > MIN_LEG or not leg_ours > MIN_LEG:
        raise bad(source.path, None, "expected legs with a length, got none")
    scale = float(leg_ours / leg_theirs)
    feet = [n for p in ("foot", "toe") for s in SIDES if (n := source.at(f"{s} {p}")) is not None]
    floor = np.percentile(source.places[:, feet, 1].min(1), 2)
    low_theirs = source.rest_places[feet, 1].min()
    low_ours = _lowest_foot(target)
    ankle_theirs = np.mean([source.rest_places[theirs[f"{s} foot"], 1] for s in SIDES]) - low_theirs
    ankle_ours = np.mean([ours[f"{s} foot"][1] for s in SIDES]) - low_ours
    lift = np.array([0.0, ankle_ours - scale * ankle_theirs - scale * floor, 0.0])

    moved = lambda joint: scale * source.places[:, joint] + lift  # noqa: E731
    middle_theirs = np.mean([moved(theirs[f"{s} thigh"]) for s in SIDES], axis=0)
    middle_ours = np.mean([ours[f"{s} thigh"] for s in SIDES], axis=0)
    pelvis = turns[_pair(mapping, "pelvis").bone][0].R_body_joint.numpy()
    contact = _contacts(source, scale)
    goals = []
    for side in SIDES:
        hip = middle_theirs + pelvis @ (ours[f"{side} thigh"] - middle_ours)
        joint = target.first[at[f"{side} thigh"].bone]
        weight = np.full(len(hip), PELVIS_WEIGHT)
        goals.append(Place(joint, torch.from_numpy(hip), torch.from_numpy(weight)))
        foot = moved(theirs[f"{side} foot"])
        low, high = FOOT_WEIGHT
        weight = low + (high - low) * contact[side]
        joint = target.first[at[f"{side} foot"].bone]
        goals.append(Place(joint, torch.from_numpy(foot), torch.from_numpy(weight)))
    return goals


def _leg(side: str) -> tuple[str, str, str]:
    return f"{side} thigh", f"{side} shin", f"{side} foot"


def _leg_length(places: np.ndarray, joints: dict[str, int], side: str) -> float:
    hip, knee, foot = (places[joints[part]] for part in _leg(side))
    return float(np.linalg.norm(knee - hip) + np.linalg.norm(foot - knee))


def _lowest_foot(target: _Target) -> float:
    """Height of our lowest foot joint at rest."""
    pairs = [target.mapping.of(f"{side} {part}") for side in SIDES for part in ("foot", "toe")]
    return min(float(target.place(pair)[1]) for pair in pairs if pair is not None)


def _contacts(source: _Source, scale: float) -> dict[str, np.ndarray]:
    """[F] 0-1 of each foot: low and slow is on the floor."""
    contacts = {}
    for side in SIDES:
        joints = [n for p in ("foot", "toe") if (n := source.at(f"{side} {p}")) is not None]
        places = scale * source.places[:, joints]
        if len(places) == 1:
            contacts[side] = np.ones(1)
            continue
        speed = np.linalg.norm(np.gradient(places, axis=0), axis=-1).max(1) * source.fps
        height = places[:, 0, 1] - np.percentile(places[:, 0, 1], 2)
        on = (speed < CONTACT_M_PER_S) & (height < CONTACT_M)
        contacts[side] = gaussian_filter1d(on.astype(float), 0.06 * source.fps, mode="nearest")
    return contacts


def _start(
    source: _Source,
    target: _Target,
    turns: dict[str, tuple[Turn, np.ndarray]],
    places: list[Place],
) -> torch.Tensor:
    """Dofs [F, D] with the root where it belongs and turned right, the rest zero.

    The root's three turns are read off in closed form, so that a figure that spins round and round
    never meets the half turn at which an iteration would not know which way to go.
    """
    skeleton = target.skeleton
    frames = len(source.places)
    dofs = torch.zeros(frames, len(skeleton.dof_names), dtype=torch.float64)
    chain = [int(skeleton.dof_matrix[:, d].abs().argmax()) for d in (3, 4, 5)]
    axes = skeleton.axes[chain].double().numpy()
    letters = "".join("XYZ"[int(np.abs(axis).argmax())] for axis in axes)
    if len(set(letters)) == 3 and np.abs(axes).max(1).min() > 0.999:
        pelvis = source.mapping.of("pelvis")
        chest = source.mapping.of("chest")
        near = min(
            (pair for pair in (pelvis, chest) if pair is not None),
            key=lambda pair: _depth(skeleton, target.joint(pair)),
        )
        wanted = turns[near.bone][0].R_body_joint.numpy()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Gimbal lock")  # any of the ways is a good start
            angles = np.unwrap(Rotation.from_matrix(wanted).as_euler(letters), axis=0)
        signs = np.array([axis[np.abs(axis).argmax()] for axis in axes])
        weights = skeleton.dof_matrix[chain, [3, 4, 5]].double().numpy()
        dofs[:, 3:6] = torch.from_numpy(angles / (signs * weights))
    posed = joint_transforms(skeleton, dofs)
    hips = places[::2]
    miss = torch.stack([hip.place - posed[:, hip.joint, :3, 3] for hip in hips]).mean(0)
    for d in range(3):
        joint = int(skeleton.dof_matrix[:, d].abs().argmax())
        axis, weight = skeleton.axes[joint].double(), skeleton.dof_matrix[joint, d].double()
        dofs[:, d] += miss @ axis / weight
    return dofs


def _depth(skeleton: Skeleton, joint: int) -> int:
    depth = 0
    while joint >= 0:
        joint, depth = int(skeleton.parents[joint]), depth + 1
    return depth


# ---- the floor ----


def _on_the_floor(dofs: torch.Tensor, target: _Target, avatar: AvatarData | None) -> torch.Tensor:
    """Shift the whole motion onto y = 0; then lift, smoothly, the frames that still sink."""
    low = _lowest_point(dofs, target, avatar)
    low = low - np.percentile(low, 5)
    shift = _lowest_point(dofs, target, avatar) - low
    sinks = np.maximum(-low, 0.0)
    wide = maximum_filter1d(sinks, 9, mode="nearest")
    lift = np.maximum(gaussian_filter1d(wide, 2.0, mode="nearest"), sinks) - shift
    skeleton = target.skeleton
    joint = int(skeleton.dof_matrix[:, 1].abs().argmax())
    rise = skeleton.axes[joint, 1].double() * skeleton.dof_matrix[joint, 1].double()
    dofs = dofs.clone()
    dofs[:, 1] += torch.from_numpy(lift) / rise
    return dofs


def _lowest_point(dofs: torch.Tensor, target: _Target, avatar: AvatarData | None) -> np.ndarray:
    """[F] height of the soles over y = 0."""
    posed = joint_transforms(target.skeleton, dofs).numpy()
    lows = []
    for side in SIDES:
        for part in ("foot", "toe"):
            pair = target.mapping.of(f"{side} {part}")
            if pair is None:
                continue
            joint = target.joint(pair)
            T = posed[:, joint]
            points = _sole(target, avatar, pair.bone, joint)
            lows.append((T[:, None, 1, :3] * points).sum(-1).min(1) + T[:, 1, 3])
    return np.min(lows, axis=0)


def _sole(target: _Target, avatar: AvatarData | None, bone: str, joint: int) -> np.ndarray:
    """[n, 3] points under a foot's bone, in the joint's frame."""
    if avatar is not None and bone in avatar.skinning.bone_names:
        skin = avatar.skinning
        index = skin.bone_names.index(bone)
        share = torch.where(skin.bones == index, skin.weights, 0.0).sum(1)
        held = avatar.template.vertices[share > 0.5].double()
        if len(held):
            rest = joint_transforms(avatar.skeleton, avatar.rest_dofs.double())[joint]
            own = (held - rest[:3, 3]) @ rest[:3, :3]
            return own.numpy()
    drop = target.rest[joint, 1] - _lowest_foot(target) + SOLE_M
    return np.array([[0.0, -drop, 0.0]])


def _pointing_error(skeleton: Skeleton, dofs: torch.Tensor, goals: list[Turn]) -> float:
    posed = joint_transforms(skeleton, dofs)
    angles = []
    for goal in goals:
        if goal.along is not None:
            at_rest = goal.R_body_joint.transpose(-1, -2) @ goal.along[..., None]
            now = (posed[:, goal.joint, :3, :3] @ at_rest)[..., 0]
            cosine = (now * goal.along).sum(-1).clamp(-1.0, 1.0)
            angles.append(torch.rad2deg(cosine.arccos()).mean())
    return float(torch.stack(angles).mean())
