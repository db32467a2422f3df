"""Deviations of a retargeted motion from its file: the worst frame of every bone, not a mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.capture.retarget.pose_solver import Turn
from ash_core.geometry.kinematics import posed_in_parts
from ash_core.records import Skeleton

ERROR_BOUND_DEGREES = 30.0
"""Most that a bone may miss the file's direction."""
TURN_BOUND_DEGREES = 15.0
"""Most that a bone may turn between two frames beyond what the file's does."""
SOFT_WEIGHT = 0.5
"""Goals below this weight are means to others, as the joints inside a spine are."""
AT_LIMIT_RAD = 0.05


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
    """True where the bone, or a neighbour in its limb, is at a joint limit in this frame."""


@dataclass(frozen=True)
class Quality:
    """Largest deviations of every bone, the worst first."""

    errors: tuple[Worst, ...]
    """Angles between where bones point and where they should; of hands and head: turn."""
    turns: tuple[Worst, ...]
    """Turns between two frames beyond the source's."""

    @property
    def is_good(self) -> bool:
        """Tell whether all is within bounds, save what joint limits forbid."""
        beyond = [e for e in self.errors if e.degrees > ERROR_BOUND_DEGREES and not e.at_limit]
        return not beyond and self.turns[0].degrees <= TURN_BOUND_DEGREES


def measure(
    skeleton: Skeleton,
    dofs: Float[Tensor, "F D"],
    goals: Mapping[str, Turn],
    sources: Mapping[str, str],
) -> Quality:
    """Compare a motion with its goals, by bone. sources: the file's joint of each bone."""
    hard = {bone: goal for bone, goal in goals.items() if goal.weight >= SOFT_WEIGHT}
    posed = posed_in_parts(skeleton, dofs, [goal.joint for goal in hard.values()])[..., :3, :3]
    pressed = _pressed(skeleton, dofs, [goal.joint for goal in goals.values()])
    errors, turns = [], []
    for n, (bone, goal) in enumerate(hard.items()):
        ours, theirs = posed[:, n], goal.R_body_joint.to(posed)
        if goal.direction is not None:
            ours = ours @ goal.direction.to(posed)
            theirs = theirs @ goal.direction.to(posed)
        off = _angles(ours, theirs)
        excess = torch.zeros_like(off)
        excess[1:] = _angles(ours[1:], ours[:-1]) - _angles(theirs[1:], theirs[:-1])
        for values, worst in ((off, errors), (excess, turns)):
            frame = int(values.argmax())
            degrees = max(float(values[frame]), 0.0)
            at_limit = bool(pressed[goal.joint][frame])
            worst.append(Worst(bone, sources[bone], frame, degrees, at_limit))
    by_size = lambda worst: -worst.degrees  # noqa: E731
    return Quality(tuple(sorted(errors, key=by_size)), tuple(sorted(turns, key=by_size)))


def _pressed(
    skeleton: Skeleton, dofs: Float[Tensor, "F D"], joints: Sequence[int]
) -> dict[int, Tensor]:
    """[F] by goal joint: whether a dof of its bone, or of a neighbour in its limb, is at a limit.

    A limb shares what one of its joints cannot do: a knee's limit turns the thigh, too.
    """
    low, high = skeleton.dof_limits.to(dofs).unbind(-1)
    at_limit = (dofs <= low + AT_LIMIT_RAD) | (dofs >= high - AT_LIMIT_RAD)
    own: dict[int, Tensor] = {}
    above: dict[int, int] = {}
    for joint in joints:
        line, parent = [joint], int(skeleton.parents[joint])
        while parent >= 0 and parent not in joints:
            line.append(parent)
            parent = int(skeleton.parents[parent])
        moved = (skeleton.dof_matrix[line] != 0).any(0)
        moved[:6] = False
        own[joint], above[joint] = at_limit[:, moved].any(1), parent
    pressed = dict(own)
    for joint, parent in above.items():
        if parent >= 0 and list(above.values()).count(parent) == 1:
            pressed[joint] = pressed[joint] | own[parent]
            pressed[parent] = pressed[parent] | own[joint]
    return pressed


def _angles(a: Tensor, b: Tensor) -> Tensor:
    """[F] degrees between directions [F, 3] or orientations [F, 3, 3], by their chord."""
    square = ((a - b) ** 2).flatten(1).sum(1) / (1.0 if a.ndim == 2 else 2.0)
    return 2.0 * torch.rad2deg(torch.asin((0.5 * square.sqrt()).clamp(max=1.0)))
