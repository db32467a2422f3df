"""Dofs whose joints stand and turn as wanted: least squares over all frames of a motion at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.rotations import matrix_to_quat
from ash_core.records import Skeleton

SMOOTH = 0.05
"""Weight of an angle's change from frame to frame, beside 1 for a bone's error in rad."""
REST = 0.02
"""Weight of an angle itself: dofs that nothing asks for stay at rest."""
MAX_STEP_RAD = 0.5
ITERATIONS = 30
POLISH = 4
"""Iterations over long stretches at the end, which see both neighbours of every frame."""
TOLERANCE_RAD = 2e-3
CHUNK, LONG_CHUNK = 8, 256
"""Frames solved at once, first and when polishing. The next ones start from the last of these:
from far away an arm would take the other of two ways to the same pose, and flip in between."""


@dataclass(frozen=True)
class Turn:
    """A joint's wanted orientation."""

    joint: int
    R_body_joint: Float[Tensor, "F 3 3"]
    along: Float[Tensor, "F 3"] | None = None
    """Direction of the bone; turns about it count by `twist`."""
    weight: float = 1.0
    twist: float = 1.0


@dataclass(frozen=True)
class Place:
    """A joint's wanted place, m."""

    joint: int
    place: Float[Tensor, "F 3"]
    weight: Float[Tensor, "F"]
    """rad per m."""


def free_dofs(skeleton: Skeleton) -> Bool[Tensor, "D"]:
    """Dofs that poses use: not those that lengthen bones."""
    stretches = (skeleton.dof_matrix[skeleton.is_prismatic] != 0).any(0)
    stretches[:3] = False
    return ~stretches & (skeleton.dof_matrix != 0).any(0)


def solve_poses(
    skeleton: Skeleton,
    turns: Sequence[Turn],
    places: Sequence[Place],
    start: Float[Tensor, "F D"],
    tell: Callable[[float], None] = lambda _done: None,
) -> Float[Tensor, "F D"]:
    """The dofs, within the skeleton's limits, that come nearest to all goals; smooth in time.

    Dofs that move none of the goals' joints stay as they are at the start.
    """
    small, joints, used = _reduced(skeleton, [goal.joint for goal in (*turns, *places)])
    number = {joint: n for n, joint in enumerate(joints.tolist())}
    turns = [replace(turn, joint=number[turn.joint]) for turn in turns]
    places = [replace(place, joint=number[place.joint]) for place in places]
    dofs = start.double().clone()
    for chunk, iterations in ((CHUNK, ITERATIONS), (LONG_CHUNK, POLISH)):
        before: Tensor | None = None
        for first in range(0, len(dofs), chunk):
            part = slice(first, min(first + chunk, len(dofs)))
            own = dofs[part][:, used]
            if before is not None and chunk == CHUNK:
                # The root's place and heading are known; everything else starts where it was.
                own[:, 6:] = before[6:]
            goals = [_cut_turn(turn, part) for turn in turns]
            spots = [_cut_place(place, part) for place in places]
            own = _Chunk(small, goals, spots, before).solve(own, iterations)
            dofs[part, used] = own
            before = own[-1]
            if chunk == CHUNK:
                tell(0.9 * part.stop / len(dofs))
    tell(1.0)
    return dofs


def _cut_turn(turn: Turn, part: slice) -> Turn:
    along = None if turn.along is None else turn.along[part]
    return replace(turn, R_body_joint=turn.R_body_joint[part], along=along)


def _cut_place(place: Place, part: slice) -> Place:
    return replace(place, place=place.place[part], weight=place.weight[part])


def _reduced(skeleton: Skeleton, goals: Sequence[int]) -> tuple[Skeleton, Tensor, Tensor]:
    """The skeleton without joints and dofs that no goal feels; their numbers in the whole one."""
    joints = _ancestry(skeleton)[list(goals)].any(0).nonzero()[:, 0]
    number = torch.full((len(skeleton.parents) + 1,), -1)
    number[joints] = torch.arange(len(joints))
    feels = (skeleton.dof_matrix[joints] != 0).any(0) & free_dofs(skeleton)
    feels[:6] = True
    dofs = feels.nonzero()[:, 0]
    small = Skeleton(
        joint_names=tuple(skeleton.joint_names[joint] for joint in joints.tolist()),
        parents=number[skeleton.parents[joints]],
        is_prismatic=skeleton.is_prismatic[joints],
        axes=skeleton.axes[joints],
        offsets=skeleton.offsets[joints],
        dof_names=tuple(skeleton.dof_names[dof] for dof in dofs.tolist()),
        dof_limits=skeleton.dof_limits[dofs],
        dof_matrix=skeleton.dof_matrix[joints][:, dofs],
    )
    return small, joints, dofs


class _Chunk:
    """One stretch of frames and what is wanted of them."""

    def __init__(
        self,
        skeleton: Skeleton,
        turns: Sequence[Turn],
        places: Sequence[Place],
        before: Float[Tensor, "D"] | None,
    ) -> None:
        self.skeleton, self.turns, self.places, self.before = skeleton, turns, places, before
        self.matrix = skeleton.dof_matrix.double()
        self.axes = skeleton.axes.double()
        self.above = _ancestry(skeleton)
        size = self.matrix.norm(dim=0)
        self.size = torch.where(size > 0, size, 1.0)
        low, high = skeleton.dof_limits.double().unbind(-1)
        self.low, self.high = low, high

    def solve(self, dofs: Float[Tensor, "F D"], iterations: int) -> Float[Tensor, "F D"]:
        """Gauss-Newton with the dofs that press on a limit held there."""
        dofs = self._clamp(dofs)
        for _ in range(iterations):
            step = self._step(dofs)
            moved = self._clamp(dofs + step)
            change = ((moved - dofs).abs() * self.size).max()
            dofs = moved
            if change < TOLERANCE_RAD:
                break
        return dofs

    def _clamp(self, dofs: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(dofs, self.low), self.high)

    def _step(self, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "F D"]:
        hessian, gradient = self._goals(dofs)
        # Keep near rest and near the neighbours, in joint units.
        rest, smooth = (REST * self.size) ** 2, (SMOOTH * self.size) ** 2
        rest[:6] = 0.0
        neighbours = torch.full((len(dofs), 1), 2.0, dtype=dofs.dtype)
        neighbours[-1] = 1.0
        if self.before is None:
            neighbours[0] -= 1.0
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        diagonal += rest + smooth * neighbours + 1e-9
        gradient += rest * dofs
        differences = dofs[1:] - dofs[:-1]
        gradient[1:] += smooth * differences
        gradient[:-1] -= smooth * differences
        if self.before is not None:
            gradient[0] += smooth * (dofs[0] - self.before)
        held = ((dofs <= self.low) & (gradient > 0)) | ((dofs >= self.high) & (gradient < 0))
        hessian = torch.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
        hessian.diagonal(dim1=-2, dim2=-1)[held] = 1.0
        gradient = torch.where(held, 0.0, gradient)
        # The neighbours' pull is in the gradient; that they move too is left to the next step.
        step = -torch.linalg.solve(hessian, gradient)
        largest = (step[:, 3:].abs() * self.size[3:]).amax(1, keepdim=True)
        return step * (MAX_STEP_RAD / largest.clamp(min=MAX_STEP_RAD))

    def _goals(self, dofs: Float[Tensor, "F D"]) -> tuple[Tensor, Tensor]:
        """J^T J [F, D, D] and J^T r [F, D] of all goals."""
        frames = len(dofs)
        posed = joint_transforms(self.skeleton, dofs)
        axes = (posed[..., :3, :3] @ self.axes[..., None])[..., 0]  # [F, J, 3]
        origins = posed[..., :3, 3]
        slides = self.skeleton.is_prismatic[:, None]
        moves, errors = [], []
        for turn in self.turns:
            above = self.above[turn.joint][:, None]
            error = _rotation_vector(
                posed[:, turn.joint, :3, :3] @ turn.R_body_joint.transpose(-1, -2)
            )
            scale = turn.weight * torch.eye(3, dtype=dofs.dtype).expand(frames, 3, 3)
            if turn.along is not None:
                outer = turn.along[:, :, None] * turn.along[:, None, :]
                scale = scale - turn.weight * (1.0 - turn.twist) * outer
            moves.append(torch.where(above & ~slides, axes, 0.0) @ scale)
            errors.append((scale @ error[..., None])[..., 0])
        for goal in self.places:
            above = self.above[goal.joint][:, None]
            arms = origins[:, goal.joint, None] - origins
            by_joint = torch.where(slides, axes, torch.linalg.cross(axes, arms))
            moves.append(torch.where(above, by_joint, 0.0) * goal.weight[:, None, None])
            errors.append(goal.weight[:, None] * (origins[:, goal.joint] - goal.place))
        jacobian = torch.cat(moves, -1).transpose(1, 2) @ self.matrix  # [F, 3 goals, D]
        error = torch.cat(errors, 1)
        hessian = jacobian.transpose(1, 2) @ jacobian
        return hessian, (jacobian.transpose(1, 2) @ error[..., None])[..., 0]


def _ancestry(skeleton: Skeleton) -> Bool[Tensor, "J J"]:
    """[b, a]: a is b or above it."""
    parents = skeleton.parents.tolist()
    above = torch.eye(len(parents), dtype=torch.bool)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            above[joint] |= above[parent]
    return above


def _rotation_vector(R: Float[Tensor, "F 3 3"]) -> Float[Tensor, "F 3"]:
    """Axis times angle, at most pi."""
    q = matrix_to_quat(R)
    q = torch.where(q[:, :1] < 0, -q, q)
    sine = q[:, 1:].norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, q[:, :1])
    return q[:, 1:] * torch.where(sine > 1e-9, angle / sine.clamp(min=1e-9), 2.0)
