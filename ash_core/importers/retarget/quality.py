"""Deviations of a retargeted motion from its file: the worst frame of every bone, not a mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ash_core.geometry.kinematics import posed_in_parts
from ash_core.importers.retarget.pose_solver import Turn
from ash_core.importers.retarget.slow_turns import SOFT_WEIGHT, runs
from ash_core.records import Skeleton

ERROR_BOUND_DEGREES = 30.0
"""Most that a bone may miss the file's direction."""
TURN_BOUND_DEGREES = 15.0
"""Most that a bone may turn between two frames beyond what the file's does."""
AT_LIMIT_RAD = 0.05
MISS_DEGREES = 5.0
"""Frames in a row that miss by more than this are one miss."""
PROBE_RAD, PROBE_GAIN = 0.05, 0.03
"""A pose is nearest if no dof, turned so far, takes this share off its cost."""


@dataclass(frozen=True)
class Worst:
    """One bone's largest deviation."""

    bone: str
    source: str
    """Joint of the file."""
    frame: int
    """Frame of the result, from 0; of two frames the later."""
    degrees: float
    at_limit: bool
    """True where the limb's joints cause it: by a limit, or by an axis that they lack."""


@dataclass(frozen=True)
class Quality:
    """Largest deviations of every bone, the worst first."""

    errors: tuple[Worst, ...]
    """Angles between bones and their goal directions; hands and head: whole orientations."""
    rotations: tuple[Worst, ...]
    """Angles between whole orientations and their goals, turns about the bones included: joints of
    the avatar may lack these."""
    turns: tuple[Worst, ...]
    """Turns between two frames beyond the source's."""

    @property
    def is_good(self) -> bool:
        """Check that all is within bounds, save what joint limits forbid."""
        beyond = [e for e in self.errors if e.degrees > ERROR_BOUND_DEGREES and not e.at_limit]
        return not beyond and self.turns[0].degrees <= TURN_BOUND_DEGREES


def measure(
    skeleton: Skeleton,
    dofs: Float[Tensor, "F D"],
    goals: Mapping[str, Turn],
    sources: Mapping[str, str],
) -> Quality:
    """Compare a motion with its goals, by bone. sources: the file's joint of each bone."""
    # Goals that count, and the frames in which a dof is at its limit.
    hard = {bone: goal for bone, goal in goals.items() if goal.weight >= SOFT_WEIGHT}
    orientations, directions = _compared(skeleton, dofs, list(hard.values()))
    limbs = _limbs(skeleton, [goal.joint for goal in goals.values()])
    own = _own_dofs(skeleton, limbs)
    low, high = skeleton.dof_limits.to(dofs).unbind(-1)
    pressed = (dofs <= low + AT_LIMIT_RAD) | (dofs >= high - AT_LIMIT_RAD)
    # Largest error and largest excess turn of each bone.
    errors, rotations, turns = [], [], []
    pairs = zip(orientations, directions, strict=True)
    for (bone, goal), (whole, (result, target)) in zip(hard.items(), pairs, strict=True):
        misses = _angles(result, target)
        excess = torch.zeros_like(misses)
        excess[1:] = _angles(result[1:], result[:-1]) - _angles(target[1:], target[:-1])
        limb = limbs[goal.joint]
        limited = _whole_misses(pressed[:, own[limb]].any(1), misses)
        measured = ((misses, errors), (_angles(*whole), rotations), (excess, turns))
        for values, worst in measured:
            frame = int(values.argmax())
            degrees = max(float(values[frame]), 0.0)
            at_limit = bool(limited[frame])
            if not at_limit and values is misses and degrees > ERROR_BOUND_DEGREES:
                row = [other for other in hard.values() if limbs[other.joint] == limb]
                at_limit = _is_nearest(skeleton, dofs[frame], own[limb], row, frame)
            worst.append(Worst(bone, sources[bone], frame, degrees, at_limit))
    by_size = lambda worst: -worst.degrees  # noqa: E731
    return Quality(*(tuple(sorted(row, key=by_size)) for row in (errors, rotations, turns)))


_Pairs = list[tuple[Tensor, Tensor]]


def _compared(
    skeleton: Skeleton, dofs: Float[Tensor, "F D"], goals: Sequence[Turn]
) -> tuple[_Pairs, _Pairs]:
    """Return orientations [F, 3, 3] of each goal's bone and of its goal; and directions [F, 3].

    A bone without a direction has its orientation there, too.
    """
    posed = posed_in_parts(skeleton, dofs, [goal.joint for goal in goals])[..., :3, :3]
    orientations = [(posed[:, n], goal.R_body_joint.to(posed)) for n, goal in enumerate(goals)]
    directions = []
    for (result, target), goal in zip(orientations, goals, strict=True):
        if goal.direction is not None:
            result, target = result @ goal.direction.to(posed), target @ goal.direction.to(posed)
        directions.append((result, target))
    return orientations, directions


def _whole_misses(pressed: Bool[Tensor, "F"], misses: Float[Tensor, "F"]) -> Bool[Tensor, "F"]:
    """Extend frames at a limit to the misses that they are part of.

    Where limits force a jump, the solver spreads it over the frames around.
    """
    numbers, count = runs((misses > MISS_DEGREES).numpy())
    numbers_from_1 = torch.from_numpy(numbers) + 1
    has_limit = torch.zeros(count + 1, dtype=torch.bool)
    has_limit[numbers_from_1[pressed]] = True
    has_limit[0] = False
    return pressed | has_limit[numbers_from_1]


def _is_nearest(
    skeleton: Skeleton,
    dofs: Float[Tensor, "D"],
    own: Bool[Tensor, "D"],
    goals: Sequence[Turn],
    frame: int,
) -> bool:
    """Check that no own dof brings a limb nearer to its goals, which its joints cannot meet.

    Hinges, as a thumb's, turn about one axis alone, whatever their limits are.
    """
    low, high = skeleton.dof_limits.to(dofs).unbind(-1)
    steps = PROBE_RAD * torch.eye(len(dofs)).to(dofs)[own]
    tries = torch.cat((dofs[None], dofs + steps, dofs - steps)).clamp(low, high)
    posed = posed_in_parts(skeleton, tries, [goal.joint for goal in goals])[..., :3, :3]
    squares = torch.zeros(len(tries)).to(posed)
    for n, goal in enumerate(goals):  # as the solver counts them, see `chain_kernels`
        change = posed[:, n] - goal.R_body_joint[frame].to(posed)
        along = torch.zeros(3) if goal.direction is None else goal.direction
        twist = 1.0 if goal.direction is None else goal.twist
        straight = ((change @ along.to(posed)) ** 2).sum(1)
        full = (change**2).sum((1, 2)) / 2
        squares += goal.weight**2 * ((1.0 - twist**2) * straight + twist**2 * full)
    return bool(squares.min() > (1.0 - PROBE_GAIN) * squares[0])


def _limbs(skeleton: Skeleton, joints: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Group goal joints by limb: a row, each the only one below the one before.

    A limb shares what one of its joints cannot do: a knee's limit turns the thigh, too.
    """
    above: dict[int, int] = {}
    for joint in joints:
        parent = int(skeleton.parents[joint])
        while parent >= 0 and parent not in joints:
            parent = int(skeleton.parents[parent])
        above[joint] = parent
    rows: dict[int, list[int]] = {}
    for joint in sorted(joints):
        is_only = above[joint] >= 0 and list(above.values()).count(above[joint]) == 1
        rows[joint] = rows[above[joint]] if is_only else []
        rows[joint].append(joint)
    return {joint: tuple(row) for joint, row in rows.items()}


def _own_dofs(
    skeleton: Skeleton, limbs: Mapping[int, tuple[int, ...]]
) -> dict[tuple[int, ...], Bool[Tensor, "D"]]:
    """Find the dofs that turn each limb's joints, from below the next goal above."""
    own = {}
    for limb in set(limbs.values()):
        line = list(limb)
        for joint in limb:
            parent = int(skeleton.parents[joint])
            while parent >= 0 and parent not in limbs:
                line.append(parent)
                parent = int(skeleton.parents[parent])
        own[limb] = (skeleton.dof_matrix[line] != 0).any(0)
        own[limb][:6] = False
    return own


def _angles(a: Tensor, b: Tensor) -> Tensor:
    """Measure angles [F] between directions [F, 3] or orientations [F, 3, 3], degrees."""
    square = ((a - b) ** 2).flatten(1).sum(1) / (1.0 if a.ndim == 2 else 2.0)
    return 2.0 * torch.rad2deg(torch.asin((0.5 * square.sqrt()).clamp(max=1.0)))
