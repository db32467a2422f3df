"""Dofs of a .bvh of the avatar's own skeleton, as `export motion` writes it: no retargeting.

Each bone of such a file is one joint that turns freely; the skeleton turns it by joints of one axis
each, driven by dofs that bones may share (`skeleton.dof_matrix`). Three turns are split in closed
form, shared dofs follow by least squares, and Gauss-Newton steps make both exact, or nearest where
somebody has turned a bone about an axis that its joints lack. Limits are not applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.files.bvh import Bvh
from ash_core.geometry.kinematics import joint_transforms, posed_in_parts
from ash_core.importers.body.euler import smoothest
from ash_core.importers.retarget.joint_mapping import bone_tree
from ash_core.importers.retarget.joint_names import group_name
from ash_core.records import Skeleton

SAME_M: Final = 1e-3
"""Largest difference of a bone at rest between a file and the skeleton that it is of."""
ROUNDS: Final = 12
"""Most steps to the nearest dofs."""
DONE: Final = 1e-9
"""Step, rad or m, below which dofs are exact."""
LEAST: Final = 1e-10
"""Least damping of a step: dofs that move nothing stay."""
FIRST: Final = 1e-3
"""Damping after a first step that missed."""
FLAT: Final = 1e-6
"""Size below which axes count as parallel."""


@dataclass(frozen=True)
class Deviation:
    """Largest deviation of one kind of a motion from its file."""

    bone: str
    frame: int
    amount: float
    """Whole rotation, degrees; or place, m."""


@dataclass(frozen=True)
class _Bone:
    """Joints of one bone: a row, from below the bone before to its own last joint."""

    joints: tuple[int, ...]
    turns: tuple[int, ...]
    """Joints of these that turn."""
    moves: bool
    """True where its place in the frame of the bone before can change."""


def bone_offsets(skeleton: Skeleton) -> tuple[Float[ndarray, "B 3"], list[int]]:
    """Return each bone's last joint at rest, m, from that of the bone before; and these joints."""
    tree, groups = bone_tree(skeleton), [group_name(name) for name in skeleton.joint_names]
    last = [len(groups) - 1 - groups[::-1].index(name) for name in tree.names]
    zero = torch.zeros(len(skeleton.dof_names), dtype=torch.float64)
    rest = joint_transforms(skeleton, zero)[last, :3, 3].numpy()
    above = np.array(tree.parents)
    return rest - np.where(above[:, None] < 0, 0.0, rest[above]), last


def metres_of_own(clip: Bvh, skeleton: Skeleton) -> float | None:
    """Return the metres in a file's unit if it is of this very skeleton, at rest in the same pose.

    Names, tree and offsets must agree; where the root stands at rest does not count. None: a file
    of another figure, or a skeleton whose bones are no rows of joints.
    """
    # Names and tree, in any order.
    tree = bone_tree(skeleton)
    if len(clip.names) < 2 or sorted(clip.names) != sorted(tree.names) or _bones(skeleton) is None:
        return None
    order = [clip.names.index(name) for name in tree.names]
    above = [clip.parents[joint] for joint in order]
    names = [clip.names[parent] if parent >= 0 else "" for parent in above]
    if names != [tree.names[parent] if parent >= 0 else "" for parent in tree.parents]:
        return None
    # Offsets, but for one factor.
    own, _ = bone_offsets(skeleton)
    is_root = np.array(tree.parents) < 0
    own, offsets = own[~is_root], clip.offsets[order][~is_root]
    square = float((offsets**2).sum())
    scale = float((own * offsets).sum()) / square if square > 0 else 0.0
    return scale if scale > 0 and np.abs(scale * offsets - own).max() < SAME_M else None


def dofs_of_own(
    clip: Bvh, skeleton: Skeleton, metres: float
) -> tuple[Float[ndarray, "F D"], Deviation, Deviation]:
    """Solve for the dofs, m and rad, of a file for which `metres_of_own` gave its unit.

    Returns the largest deviations of whole rotations and of places, too.
    """
    # Turns and places of each bone in the frame of the one before.
    names, bones = bone_tree(skeleton).names, _bones(skeleton)
    assert bones is not None
    order = [clip.names.index(name) for name in names]
    frames = len(clip.rotations)
    quaternions = clip.rotations[:, order].reshape(-1, 4)
    turns = Rotation.from_quat(quaternions).as_matrix().reshape(frames, len(names), 3, 3)
    places = metres * clip.translations[:, order]
    # Dofs, by groups of bones that share some.
    solver = _Solver(skeleton)
    dofs = np.zeros((frames, len(skeleton.dof_names)))
    for group in _groups(skeleton, bones):
        chosen = [bones[n] for n in group]
        own, values = solver.solve(chosen, turns[:, group], places[:, group])
        dofs[:, own] = values
    _unwrap(dofs, skeleton)
    # Deviations in the avatar's world.
    last = [bone.joints[-1] for bone in bones]
    T = posed_in_parts(skeleton, torch.from_numpy(dofs), last).numpy()
    want_turns, want_places = clip.poses()
    apart = T[..., :3, :3].swapaxes(-1, -2) @ want_turns[:, order]
    angles = Rotation.from_matrix(apart.reshape(-1, 3, 3)).magnitude().reshape(frames, -1)
    misses = np.linalg.norm(T[..., :3, 3] - metres * want_places[:, order], axis=-1)
    return dofs, _largest(names, np.degrees(angles)), _largest(names, misses)


def _unwrap(dofs: Float[ndarray, "F D"], skeleton: Skeleton) -> None:
    """Add whole turns to dofs of one joint: no jumps, and near the middle of their limits."""
    matrix, limits = skeleton.dof_matrix.double().numpy(), skeleton.dof_limits.double().numpy()
    for dof in np.flatnonzero((matrix != 0).sum(0) == 1):
        joint = int(matrix[:, dof].nonzero()[0][0])
        if skeleton.is_prismatic[joint]:
            continue
        period = 2 * np.pi / abs(matrix[joint, dof])
        values = np.unwrap(dofs[:, dof], period=period)
        if np.isfinite(limits[dof]).all():
            values += period * np.round((limits[dof].mean() - values.mean()) / period)
        dofs[:, dof] = values


def _largest(names: Sequence[str], amounts: Float[ndarray, "F B"]) -> Deviation:
    frame, bone = divmod(int(amounts.argmax()), len(names))
    return Deviation(names[bone], frame, float(amounts[frame, bone]))


def _bones(skeleton: Skeleton) -> list[_Bone] | None:
    """Collect the joints of each bone; None unless they are rows, one below the other."""
    tree, bones = bone_tree(skeleton), []
    groups = [group_name(name) for name in skeleton.joint_names]
    parents = skeleton.parents.tolist()
    for bone, name in enumerate(tree.names):
        joints = tuple(joint for joint, group in enumerate(groups) if group == name)
        above = tree.parents[bone]
        start = bones[above].joints[-1] if above >= 0 else -1
        if [parents[joint] for joint in joints] != [start, *joints[:-1]]:
            return None
        slides = skeleton.is_prismatic[list(joints)]
        lies_apart = bool((skeleton.offsets[list(joints[1:])] != 0).any())
        turns = tuple(joint for joint in joints if not skeleton.is_prismatic[joint])
        bones.append(_Bone(joints, turns, bool(slides.any()) or lies_apart))
    return bones


def _groups(skeleton: Skeleton, bones: Sequence[_Bone]) -> list[list[int]]:
    """Group the bones that share dofs, directly or through other bones."""
    groups: list[tuple[set[int], list[int]]] = []
    for number, bone in enumerate(bones):
        moves = (skeleton.dof_matrix[list(bone.joints)] != 0).any(0)
        dofs, members = set(moves.nonzero().flatten().tolist()), [number]
        apart = []
        for group in groups:
            if group[0] & dofs:
                dofs, members = dofs | group[0], group[1] + members
            else:
                apart.append(group)
        groups = [*apart, (dofs, members)]
    return [sorted(members) for dofs, members in groups if dofs]


class _Solver:
    """Dofs of groups of bones."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.matrix = skeleton.dof_matrix.double().numpy()
        self.axes = skeleton.axes.double().numpy()
        self.offsets = skeleton.offsets.double().numpy()
        self.slides = skeleton.is_prismatic.numpy()

    def solve(
        self,
        bones: Sequence[_Bone],
        turns: Float[ndarray, "F B 3 3"],
        places: Float[ndarray, "F B 3"],
    ) -> tuple[ndarray, Float[ndarray, "F d"]]:
        """Solve for the dofs of bones: their numbers [d] and values."""
        joints = [joint for bone in bones for joint in bone.joints]
        own = np.flatnonzero((self.matrix[joints] != 0).any(0))
        # Both ways to split the turns of three axes; dofs nearest to all joints' angles.
        ways = [split_turns(turns[:, n], self.axes[list(b.turns)]) for n, b in enumerate(bones)]
        angles = np.concatenate(ways, axis=-1)
        if len(bones) == 1:
            angles = smoothest(angles[:, :, None])[None, :, 0]
        turning = [joint for bone in bones for joint in bone.turns]
        starts = angles @ np.linalg.pinv(self.matrix[turning][:, own]).T
        # The nearer one, made exact.
        results = [self._refine(bones, own, start, turns, places) for start in starts]
        values, costs = results[0]
        for others, other_costs in results[1:]:
            is_nearer = other_costs < costs - DONE
            values = np.where(is_nearer[:, None], others, values)
            costs = np.where(is_nearer, other_costs, costs)
        return own, values

    def _refine(
        self,
        bones: Sequence[_Bone],
        own: ndarray,
        values: Float[ndarray, "F d"],
        turns: Float[ndarray, "F B 3 3"],
        places: Float[ndarray, "F B 3"],
    ) -> tuple[Float[ndarray, "F d"], Float[ndarray, "F"]]:
        """Step to the nearest dofs by Levenberg's steps; returns them and the squares left over."""
        damping = np.full(len(values), LEAST)
        misses, slopes = self._misses(bones, own, values, turns, places)
        costs = (misses**2).sum(1)
        for _ in range(ROUNDS):
            square = slopes.swapaxes(1, 2) @ slopes + damping[:, None, None] * np.eye(len(own))
            step = np.linalg.solve(square, slopes.swapaxes(1, 2) @ misses[..., None])[..., 0]
            if np.abs(step).max(initial=0.0) < DONE:
                break
            trial = values + step
            other, other_slopes = self._misses(bones, own, trial, turns, places)
            other_costs = (other**2).sum(1)
            is_nearer = other_costs <= costs
            damping = np.where(is_nearer, LEAST, np.maximum(100 * damping, FIRST))
            values = np.where(is_nearer[:, None], trial, values)
            misses = np.where(is_nearer[:, None], other, misses)
            slopes = np.where(is_nearer[:, None, None], other_slopes, slopes)
            costs = np.where(is_nearer, other_costs, costs)
        return values, costs

    def _misses(
        self,
        bones: Sequence[_Bone],
        own: ndarray,
        values: Float[ndarray, "F d"],
        turns: Float[ndarray, "F B 3 3"],
        places: Float[ndarray, "F B 3"],
    ) -> tuple[Float[ndarray, "F n"], Float[ndarray, "F n d"]]:
        """Compute what is missing to the goals, rad and m, and its slopes by the dofs."""
        parts, slopes = [], []
        for number, bone in enumerate(bones):
            matrix = self.matrix[list(bone.joints)][:, own]
            R, place, axes, arms = self._pose(bone, values @ matrix.T)
            # Rotation that is missing, in the frame of the bone before.
            missing = turns[:, number] @ R.swapaxes(1, 2)
            parts.append(Rotation.from_matrix(missing).as_rotvec())
            is_turn = ~self.slides[list(bone.joints)]
            slopes.append(np.einsum("fjk,jd->fkd", axes * is_turn[:, None], matrix))
            if bone.moves:
                parts.append(places[:, number] - place)
                speeds = np.where(is_turn[:, None], np.cross(axes, place[:, None] - arms), axes)
                slopes.append(np.einsum("fjk,jd->fkd", speeds, matrix))
        return np.concatenate(parts, 1), np.concatenate(slopes, 1)

    def _pose(
        self, bone: _Bone, values: Float[ndarray, "F j"]
    ) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """Pose a bone's joints by their values, in the frame of the bone before.

        Returns turn [F, 3, 3] and place [F, 3] of the last joint, and axes [F, j, 3] and places
        [F, j, 3] of all.
        """
        frames = len(values)
        R, place = np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3))
        axes, arms = np.zeros((2, frames, len(bone.joints), 3))
        for n, joint in enumerate(bone.joints):
            place = place + R @ self.offsets[joint]
            axes[:, n], arms[:, n] = R @ self.axes[joint], place
            if self.slides[joint]:
                place = place + axes[:, n] * values[:, n, None]
            else:
                R = R @ _about(self.axes[joint], values[:, n])
        return R, place, axes, arms


# ---- turns about given axes ----


def split_turns(
    turns: Float[ndarray, "F 3 3"], axes: Float[ndarray, "k 3"]
) -> Float[ndarray, "2 F k"]:
    """Split turns into angles, rad, about axes in a row, the first outermost: two ways.

    One or two axes have one way, given twice, which is nearest where they cannot make the turn.
    Way 0 of three axes has the smaller second angle. More than three, and neighbours that are
    parallel, are left at zero.
    """
    count = len(axes)
    angles = np.zeros((2, len(turns), count))
    if count == 1:
        angles[:] = _angle_about(axes[0], turns)[:, None]
    elif count == 2 and np.linalg.norm(np.cross(*axes)) > FLAT:
        angles[:, :, 0] = _angle_between(axes[0], axes[1], turns @ axes[1])
        rest = _about(axes[0], -angles[0, :, 0]) @ turns
        angles[:, :, 1] = _angle_about(axes[1], rest)
    elif count == 3:
        first, middle, last = axes
        # first . R last is a cosine and a sine of the second angle (Paden, Kahan).
        along = float((first @ middle) * (middle @ last))
        cosine, sine = float(first @ last) - along, float(first @ np.cross(middle, last))
        size = float(np.hypot(cosine, sine))
        if size < FLAT:
            return angles
        wide = np.arccos(np.clip((turns @ last @ first - along) / size, -1.0, 1.0))
        seconds = np.arctan2(sine, cosine) + np.stack([-wide, wide])
        seconds = np.remainder(seconds + np.pi, 2 * np.pi) - np.pi
        seconds = np.take_along_axis(seconds, np.abs(seconds).argsort(0), 0)
        for way, second in enumerate(seconds):
            turned = _about(middle, second)
            outer = _angle_between(first, turned @ last, turns @ last)
            rest = turned.swapaxes(1, 2) @ _about(first, -outer) @ turns
            angles[way] = np.stack([outer, second, _angle_about(last, rest)], 1)
    return angles


def _about(axis: Float[ndarray, "3"], angles: Float[ndarray, "F"]) -> Float[ndarray, "F 3 3"]:
    return Rotation.from_rotvec(angles[:, None] * axis).as_matrix()


def _angle_about(axis: Float[ndarray, "3"], turns: Float[ndarray, "F 3 3"]) -> Float[ndarray, "F"]:
    """Return the angles about an axis whose turns are nearest to these."""
    odd = np.stack([turns[:, i, j] - turns[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], 1)
    return np.arctan2(odd @ axis, np.trace(turns, axis1=1, axis2=2) - turns @ axis @ axis)


def _angle_between(
    axis: Float[ndarray, "3"], start: Float[ndarray, "*F 3"], end: Float[ndarray, "F 3"]
) -> Float[ndarray, "F"]:
    """Return the angles about an axis from one direction to another."""
    start = start - (start @ axis)[..., None] * axis
    end = end - (end @ axis)[:, None] * axis
    return np.arctan2(np.cross(start, end) @ axis, (start * end).sum(-1))
