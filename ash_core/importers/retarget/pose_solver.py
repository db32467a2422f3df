"""Solver of dofs for goal places and turns of joints: each frame by itself, then smooth in time.

The skeleton is cut into chains: rows of joints between places where goals branch. Chains are solved
from the root outwards, each from its parent's solved pose: a child makes up for limits of its
parent. Closed forms give every frame of a chain several ways to meet the goals; the smoothest path
through all of them is taken (`chain_kernels`). No frame starts from another one's result, so that
none inherits a mistake.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ash_core.importers.retarget import chain_kernels as kernels
from ash_core.importers.retarget import slow_turns
from ash_core.importers.retarget.chain_kernels import Chain
from ash_core.records import Skeleton

ROUNDS = 8
"""Most steps of a candidate to its optimum."""
RELAX_ROUNDS = 2
UNLIMITED_RAD = 4 * math.pi
"""Range of limits from which a dof counts as unlimited: the angle may go round and round."""
PARALLEL = 0.95
"""Cosine above which an axis runs along a bone, or along another axis."""
LOOSE_TWIST = 0.25
"""Share of turns about a bone up to which they are left to the next bone's goal."""
SECOND_WAY_RAD = 0.9 * math.pi
"""Range below which a dof has no second closed-form solution, which is half a turn away."""
RELAX_STEPS = 3
PART = 256
"""Fewest frames that are worth a thread."""
THREADS = max(os.cpu_count() or 1, 1)


@dataclass(frozen=True)
class Turn:
    """Goal orientation of a joint."""

    joint: int
    R_body_joint: Float[Tensor, "F 3 3"]
    direction: Float[Tensor, "3"] | None = None
    """Direction of the bone in the joint's frame; turns about it count by `twist`."""
    weight: float = 1.0
    twist: float = 1.0


@dataclass(frozen=True)
class Place:
    """Goal place of a joint, m."""

    joint: int
    place: Float[Tensor, "F 3"]
    weight: Float[Tensor, "F"]
    """rad per m."""


def free_dofs(skeleton: Skeleton) -> Bool[Tensor, "D"]:
    """Mark the dofs [D] that poses use: all but those that lengthen bones."""
    stretches = (skeleton.dof_matrix[skeleton.is_prismatic] != 0).any(0)
    stretches[:3] = False
    return ~stretches & (skeleton.dof_matrix != 0).any(0)


def solve_poses(
    skeleton: Skeleton,
    turns: Sequence[Turn],
    hips: Sequence[Place],
    feet: Sequence[Place],
    progress: Callable[[float], None] = lambda _done: None,
) -> Float[Tensor, "F D"]:
    """Solve for the dofs, within the skeleton's limits, that come nearest to all goals.

    hips: joints whose mean place the root's slides meet exactly. feet: places that the chains of
    their joints meet as far as their weight beside the turns says. Dofs that move none of the
    goals' joints stay zero.
    """
    solver = _Solver(skeleton, turns, feet)
    order = solver.in_order()
    # Feet need the hips in place, and these need the chains above them.
    standing = [segment for segment in order if segment.places]
    above = {joint for segment in standing for joint in solver.line(segment.base)}
    first = [s for s in order if not s.places and above & set(s.goal_joints)]
    last = [s for s in order if not s.places and s not in first]
    done = 0
    for group in (first, standing, last):
        if group is standing:
            solver.place_root(hips)
        for segment in group:
            solver.solve(segment)
            done += 1
            progress(done / len(order))
    return torch.from_numpy(solver.dofs)


@dataclass(eq=False)
class _Segment:
    """A row of goals, each the only one below the one before."""

    base: int
    """Joint solved before; -1: the body's frame."""
    goals: list[Turn]
    joints: list[int]
    """Joints from below the base to the last goal."""
    places: list[Place]

    @property
    def goal_joints(self) -> list[int]:
        return [goal.joint for goal in self.goals]


class _Solver:
    """The skeleton's chains, and their solved poses."""

    def __init__(self, skeleton: Skeleton, turns: Sequence[Turn], feet: Sequence[Place]) -> None:
        self.skeleton = skeleton
        self.parents = skeleton.parents.tolist()
        turning = ~skeleton.is_prismatic[:, None]
        self.slides = skeleton.dof_matrix.double().numpy()
        self.matrix = (skeleton.dof_matrix * turning).double().numpy()
        self.limits = skeleton.dof_limits.double().numpy()
        self.frames = len(turns[0].R_body_joint)
        self.dofs = np.zeros((self.frames, len(skeleton.dof_names)))
        self.free = free_dofs(skeleton).numpy()
        self.poses: dict[int, tuple[np.ndarray, np.ndarray]] = {
            -1: (np.tile(np.eye(3), (self.frames, 1, 1)), np.zeros((self.frames, 3)))
        }
        """Orientation [F, 3, 3] and place [F, 3] of goals' joints that are solved."""
        self.segments = self._cut(turns, feet)
        self.owners = self._owners()

    def line(self, joint: int) -> list[int]:
        """List the joint and everything above it, upwards."""
        line = []
        while joint >= 0:
            line.append(joint)
            joint = self.parents[joint]
        return line

    def _cut(self, turns: Sequence[Turn], feet: Sequence[Place]) -> list[_Segment]:
        """Cut the skeleton into segments, parents first."""
        goals = {turn.joint: turn for turn in turns}
        lines = {joint: self.line(joint) for joint in goals}
        above = {joint: next((a for a in lines[joint][1:] if a in goals), -1) for joint in goals}
        below = {joint: [b for b in goals if above[b] == joint] for joint in goals}
        segments = []
        for joint in sorted(goals, key=lambda joint: len(lines[joint])):
            base = above[joint]
            if base >= 0 and len(below[base]) == 1:
                continue  # belongs to the row above
            row = [joint]
            while len(below[row[-1]]) == 1:
                row += below[row[-1]]
            joints = lines[row[-1]]
            joints = joints[: joints.index(base)] if base >= 0 else joints
            spots = [place for place in feet if place.joint in joints]
            segments.append(_Segment(base, [goals[j] for j in row], joints[::-1], spots))
        return segments

    def _owners(self) -> dict[int, _Segment]:
        """Assign each dof to the segment in which it turns most."""
        owners: dict[int, _Segment] = {}
        most: dict[int, float] = {}
        for segment in self.segments:
            share = np.abs(self.matrix[segment.joints]).sum(0) * self.free
            for dof in np.flatnonzero(share).tolist():
                if share[dof] > most.get(dof, 0.0):
                    owners[dof], most[dof] = segment, float(share[dof])
        return owners

    def in_order(self) -> list[_Segment]:
        """Sort segments after those whose joints or dofs they build on."""
        waiting, order = list(self.segments), []
        while waiting:
            ready = [s for s in waiting if not any(self._needs(s, other) for other in waiting)]
            order.append((ready or waiting)[0])
            waiting.remove(order[-1])
        return order

    def _needs(self, segment: _Segment, other: _Segment) -> bool:
        if segment is other:
            return False
        used = np.flatnonzero(np.abs(self.matrix[segment.joints]).sum(0)).tolist()
        return segment.base in other.goal_joints or any(
            self.owners.get(dof) is other for dof in used
        )

    def place_root(self, hips: Sequence[Place]) -> None:
        """Slide the root so that the hips' mean meets its goal."""
        places = []
        for hip in hips:
            line = self.line(hip.joint)
            solved = next(joint for joint in line if joint in self.poses)
            turn, origin = self.poses[solved]
            arm = self.skeleton.offsets[line[: line.index(solved)]].double().numpy().sum(0)
            places.append(hip.place.numpy() - origin - turn @ arm)
        miss = np.mean(places, axis=0)
        for dof in range(3):
            joint = int(np.abs(self.slides[:, dof]).argmax())
            axis = self.skeleton.axes[joint].double().numpy()
            self.dofs[:, dof] += miss @ axis / self.slides[joint, dof]
        for joint in self.poses:
            if joint >= 0:
                self.poses[joint] = (self.poses[joint][0], self.poses[joint][1] + miss)

    def solve(self, segment: _Segment) -> None:
        """Write the dofs of a segment, and store the poses of its goals' joints."""
        own = [dof for dof, owner in self.owners.items() if owner is segment]
        angles = self.dofs @ self.matrix[segment.joints].T  # its own dofs are still zero
        bases = np.concatenate(
            [self.poses[segment.base][0], self.poses[segment.base][1][..., None]], 2
        )
        goals = np.stack([goal.R_body_joint.double().numpy() for goal in segment.goals], 1)
        spots = np.zeros((self.frames, len(segment.places), 4))
        for n, place in enumerate(segment.places):
            spots[:, n, :3], spots[:, n, 3] = place.place.numpy(), place.weight.numpy()
        work = _Work(self._chain(segment, own), angles, bases, goals, spots)
        path = work.solve() if own else np.zeros((self.frames, 0))
        self.dofs[:, own] = path
        turns, origins = work.pose(path)
        for joint in segment.goal_joints:
            n = segment.joints.index(joint) + 1
            self.poses[joint] = (turns[:, n], origins[:, n])

    def _chain(self, segment: _Segment, own: Sequence[int]) -> Chain:
        """Pack a segment's constants for the kernels."""
        joints = segment.joints
        axes = self.skeleton.axes[joints].double().numpy()
        offsets = self.skeleton.offsets[joints].double().numpy()
        matrix = self.matrix[joints][:, own]
        limits = self.limits[own].reshape(-1, 2)
        sizes = np.linalg.norm(matrix, axis=0)
        dofs = np.column_stack([limits, np.zeros(len(own)), np.where(sizes > 0, sizes, 1.0)])
        room = limits[:, 1] - limits[:, 0]
        goals = np.zeros((len(segment.goals), kernels.ANGLES + 15))
        for goal, row, turn in zip(
            goals, _closed_rows(segment, matrix, axes), segment.goals, strict=True
        ):
            goal[kernels.JOINT] = joints.index(turn.joint) + 1
            goal[kernels.WEIGHT], goal[kernels.TWIST] = turn.weight, 1.0
            if turn.direction is not None:
                goal[kernels.DIRECTION : kernels.DIRECTION + 3] = turn.direction.numpy()
                goal[kernels.TWIST] = turn.twist
            goal[kernels.COUNT] = len(row)
            for n, (axis, dof, scale) in enumerate(row):
                first = kernels.ANGLES + 5 * n
                goal[first : first + 5] = [*axis, dof, scale]
                if room[dof] >= UNLIMITED_RAD:
                    dofs[dof, kernels.PERIOD] = 2 * math.pi / abs(scale)
            wide = [room[dof] * abs(scale) >= SECOND_WAY_RAD for _, dof, scale in row]
            goal[kernels.BRANCHES] = len(row) > 1 and wide[0] and (len(row) == 2 or wide[2])
        places = np.array([joints.index(p.joint) + 1 for p in segment.places], float)
        return Chain(np.hstack([offsets, axes, matrix]), dofs, goals, places)


class _Work:
    """One chain's frames, solved on all processors."""

    def __init__(
        self,
        chain: Chain,
        angles: np.ndarray,
        bases: np.ndarray,
        goals: np.ndarray,
        spots: np.ndarray,
    ) -> None:
        self.chain, self.frames = chain, len(bases)
        self.angles, self.bases = np.ascontiguousarray(angles), np.ascontiguousarray(bases)
        self.goals, self.spots = np.ascontiguousarray(goals), spots

    def solve(self) -> np.ndarray:
        """Solve for the dofs [F, D] of all frames."""
        chain, count, many = self.chain, len(self.chain.dofs), len(self.chain.goals)
        ways = np.zeros((self.frames, kernels.WAYS, count))
        costs = np.full((self.frames, kernels.WAYS), np.inf)
        results = np.zeros((self.frames, kernels.WAYS, many, 3, 3))

        inputs = (self.angles, self.bases, self.goals, self.spots)

        def search(part: slice) -> None:
            angles, bases, goals, spots = (array[part] for array in inputs)
            output = (ways[part], costs[part], results[part])
            room = kernels.make_room(chain)
            kernels.candidates(chain, room, angles, bases, goals, spots, ROUNDS, *output)

        self._spread_work(search)

        def borrow(part: slice) -> None:
            room, output = kernels.make_room(chain), (ways, costs, results)
            kernels.borrow(chain, room, *inputs, ROUNDS, part.start, part.stop, *output)

        self._spread_work(borrow)
        path = kernels.choose(chain, self.goals, ways, costs, results)
        for n in range(2 * RELAX_ROUNDS):

            def relax(part: slice, odd: int = n % 2) -> None:
                room = kernels.make_room(chain)
                kernels.relax(chain, room, *inputs, path, part.start + odd, part.stop, RELAX_STEPS)

            self._spread_work(relax)
        # Turns that limits make too fast.
        frames = slow_turns.Frames(*inputs, np.ones(self.frames))
        windows = slow_turns.fast_windows(chain, frames, path)
        _run(lambda window: slow_turns.slow_down(chain, frames, path, window), windows)
        return path

    def pose(self, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute orientations [F, J + 1, 3, 3] and places [F, J + 1, 3]; joint 0 is the base."""
        joints = len(self.chain.joints) + 1
        turns, places = np.empty((self.frames, joints, 3, 3)), np.empty((self.frames, joints, 3))
        room = kernels.make_room(self.chain)
        kernels.pose(self.chain, room, self.angles, self.bases, path, turns, places)
        return turns, places

    def _spread_work(self, work: Callable[[slice], None]) -> None:
        """Run on stretches of an even number of frames, several at once."""
        size = max(PART, -(-self.frames // THREADS) // 2 * 2)
        parts = [slice(n, min(n + size, self.frames)) for n in range(0, self.frames, size)]
        _run(work, parts)


def _run(work: Callable[[slice], None], parts: Sequence[slice]) -> None:
    """Run on all parts, several at once."""
    if len(parts) == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, parts))


_Row = list[tuple[np.ndarray, int, float]]
"""Axis, own dof and rad per unit of turns, the first outermost."""


def _closed_rows(segment: _Segment, matrix: np.ndarray, axes: np.ndarray) -> list[_Row]:
    """List the turns of each goal that closed forms solve: at most its last three, one dof each.

    A bone's last turns about itself are left to the next goal, which feels them more.
    """
    rows: list[_Row] = []
    start = 0
    carried: _Row = []
    for g, goal in enumerate(segment.goals):
        joint = segment.joints.index(goal.joint)
        row = [*carried, *_turns_between(matrix, axes, start, joint)]
        start, carried = joint + 1, []
        row = _merged(row)
        is_last = g == len(segment.goals) - 1
        if goal.direction is not None and goal.twist <= LOOSE_TWIST and not is_last:
            direction = goal.direction.double().numpy()
            while row and abs(row[-1][0] @ direction) > PARALLEL:
                carried.insert(0, row.pop())
        closed: _Row = []
        for entry in reversed(row):
            dof = entry[1]
            if len(closed) == 3 or dof < 0 or dof in [turn[1] for turn in closed]:
                break
            closed.insert(0, entry)
        rows.append(closed)
    # A dof that turns in several rows, or apart from its row, has no closed form.
    for row in rows:
        for entry in list(row):
            total = np.abs(matrix[:, entry[1]]).sum()
            if not math.isclose(total, abs(entry[2]), rel_tol=1e-6):
                row.clear()
                break
    return rows


def _turns_between(matrix: np.ndarray, axes: np.ndarray, first: int, last: int) -> _Row:
    """List the turns of joints first to last; dof -1 where several own dofs turn one joint."""
    row: _Row = []
    for joint in range(first, last + 1):
        dofs = np.flatnonzero(matrix[joint])
        if len(dofs):
            dof = int(dofs[0]) if len(dofs) == 1 else -1
            row.append((axes[joint], dof, float(matrix[joint, dof])))
    return row


def _merged(row: _Row) -> _Row:
    """Merge neighbouring turns of one dof about one axis."""
    merged: _Row = []
    for axis, dof, scale in row:
        if merged and merged[-1][1] == dof and merged[-1][0] @ axis > 1 - 1e-6:
            merged[-1] = (axis, dof, merged[-1][2] + scale)
        else:
            merged.append((axis, dof, scale))
    return merged
