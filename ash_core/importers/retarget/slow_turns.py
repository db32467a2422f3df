"""Bound on how much farther than its goals a chain's bones turn from one frame to the next.

Where a goal passes behind what a joint's limits let it reach, the nearest pose jumps from one limit
to another. Then the frames around are solved together, and give up accuracy for a slower turn:

    minimise    sum over frames  cost(x[f]) + SMOOTH^2 |x[f] - x[f - 1]|^2
    subject to  turn of each goal's bone from f - 1 to f <= the goal's own turn + BOUND_RAD
                limits of the dofs

by the method of multipliers. Each step is Levenberg's for all frames at once: only neighbours meet
in a term, so that its matrix is block tridiagonal. Where it misses the bound or moves a bone far
off, other starts are tried: the way may lead past the other side of what is out of reach.

Source: Nocedal and Wright 2006, "Numerical Optimization", section 17.3.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit

from ash_core.importers.retarget.chain_kernels import (
    DIRECTION,
    HIGH,
    JOINT,
    LOW,
    MATRIX,
    SIZE,
    SMOOTH,
    WEIGHT,
    Chain,
    fill_system,
    make_room,
    measure_change,
    measure_cost,
    pose_frame,
)

BOUND_RAD = math.radians(13.5)
"""Most that a bone turns between two frames beyond what its goal does."""
EASY_RAD = math.radians(9.0)
"""Bound in windows in which no frame is over BOUND_RAD: turns are easily slowed."""
SLACK_RAD = math.radians(0.5)
"""Excess over the bound at which a window is solved."""
SOFT_WEIGHT = 0.5
"""Weight below which a goal's turns are not bounded: joints inside a spine serve others."""
REACH = 16
"""Frames on both sides of a fast turn that are solved with it."""
LONGEST = 256
"""Most frames that are solved together."""
ROUNDS, STEPS = 20, 15
"""Most updates of the multipliers, and Levenberg's steps for each."""
GROWTH = 1.6
"""Factor on the penalty from round to round, from 1 rad^2 for each rad^2."""
WORSE_RAD = math.radians(8.0)
"""Growth of an error from which other starts are tried."""
START_REACHES = (2, 4, 8, 14)
"""Frames on each side of a fast turn that other starts change."""
NEAR_RAD, NEAR_SHARE = math.radians(10.0), 2.0
"""Largest error of a frame by itself, and the factor on its cost: limits alone cause errors."""
FAR_RAD = math.radians(25.0)
"""Largest error of such a frame that is free where results are compared."""
FAST_COST, FAR_COST = 1000.0, 100.0
"""Costs of 1 rad of such errors, and of turns beyond the bound."""
FAR_STARTS = 24
"""Most starts by way of poses anywhere within the limits."""
MAX_STEP_RAD = 0.3
DONE_RAD, DONE_GAIN = 2e-3, 1e-6


class Frames(NamedTuple):
    """Frames of a chain and their goals. float64."""

    angles: np.ndarray
    """[F, J] of the joints without the own dofs, rad"""
    bases: np.ndarray
    """[F, 3, 4] orientation and place of the base"""
    goals: np.ndarray
    """[F, G, 3, 3]"""
    spots: np.ndarray
    """[F, P, 4] wanted places and their weights"""
    shares: np.ndarray
    """[F] factors on the cost of the goals"""

    def cut(self, part: slice) -> "Frames":
        """Return views of some frames."""
        return Frames(*(array[part] for array in self))


class Posed(NamedTuple):
    """Frames of a chain, posed."""

    turns: np.ndarray
    """[F, J + 1, 3, 3]"""
    places: np.ndarray
    """[F, J + 1, 3]"""
    axes: np.ndarray
    """[F, J + 1, 3]"""
    beyond: np.ndarray
    """[F, G] rad of turns over the bound; negative within it"""


class Blocks(NamedTuple):
    """A block tridiagonal system."""

    diagonal: np.ndarray
    """[F, D, D], lower halves"""
    lower: np.ndarray
    """[F, D, D] coupling of a frame to the one before"""
    vector: np.ndarray
    """[F, D]"""


# ---- turns ----


@njit(cache=True, nogil=True)
def _angle(goal, a, b):
    """Measure the angle between two orientations of a goal's joint, or of its bone's direction."""
    straight, full = measure_change(goal, a, b)
    has_direction = False
    for k in range(3):
        has_direction = has_direction or goal[DIRECTION + k] != 0.0
    square = straight if has_direction else 0.5 * full
    return 2.0 * math.asin(min(0.5 * math.sqrt(square), 1.0))


@njit(cache=True, nogil=True)
def allowed_turns(chain, goals, bound):
    """Return the turns [F, G] that are allowed from the frame before, rad; inf: unbounded."""
    allowed = np.full((len(goals), len(chain.goals)), np.inf)
    for f in range(1, len(goals)):
        for g in range(len(chain.goals)):
            if chain.goals[g, WEIGHT] >= SOFT_WEIGHT:
                allowed[f, g] = _angle(chain.goals[g], goals[f, g], goals[f - 1, g]) + bound
    return allowed


@njit(cache=True, nogil=True)
def _measure_excess(chain, turns, allowed, beyond):
    """Fill [F, G] rad that bones turn farther than allowed; negative within it."""
    for f in range(len(turns)):
        for g in range(len(chain.goals)):
            beyond[f, g] = -np.inf
            if allowed[f, g] < np.inf:
                joint = int(chain.goals[g, JOINT])
                turn = _angle(chain.goals[g], turns[f, joint], turns[f - 1, joint])
                beyond[f, g] = turn - allowed[f, g]


@njit(cache=True, nogil=True)
def _turn_axis(goal, a, b):
    """Return the unit axis of a goal's bone turning from orientation a to b; zero at rest."""
    x, y, z, length = 0.0, 0.0, 0.0, 0.0
    au, av, aw, bu, bv, bw = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(3):
        share = goal[DIRECTION + k]
        au, av, aw = au + share * a[0, k], av + share * a[1, k], aw + share * a[2, k]
        bu, bv, bw = bu + share * b[0, k], bv + share * b[1, k], bw + share * b[2, k]
        x += a[1, k] * b[2, k] - a[2, k] * b[1, k]
        y += a[2, k] * b[0, k] - a[0, k] * b[2, k]
        z += a[0, k] * b[1, k] - a[1, k] * b[0, k]
        length += share * share
    if length > 0.0:
        x, y, z = av * bw - aw * bv, aw * bu - au * bw, au * bv - av * bu
    size = math.sqrt(x * x + y * y + z * z)
    if size < 1e-9:
        return 0.0, 0.0, 0.0
    return x / size, y / size, z / size


# ---- one step for all frames ----


@njit(cache=True, nogil=True)
def _pose_frames(chain, frames, allowed, path, posed):
    """Fill the poses of a path and their excess turns."""
    for f in range(len(path)):
        pose_frame(
            chain.joints,
            frames.angles[f],
            frames.bases[f],
            path[f],
            posed.turns[f],
            posed.places[f],
            posed.axes[f],
        )
    _measure_excess(chain, posed.turns, allowed, posed.beyond)


@njit(cache=True, nogil=True)
def _sum_costs(chain, frames, path, posed, factors, penalty):
    """Sum the augmented Lagrangian of posed frames."""
    total = 0.0
    for f in range(len(path)):
        total += frames.shares[f] * measure_cost(
            chain, frames.goals[f], frames.spots[f], path[f], posed.turns[f], posed.places[f]
        )
        if f > 0:
            for d in range(len(chain.dofs)):
                total += (SMOOTH * chain.dofs[d, SIZE] * (path[f, d] - path[f - 1, d])) ** 2
        for g in range(len(chain.goals)):
            excess = posed.beyond[f, g] + factors[f, g] / penalty
            if excess > 0.0:
                total += penalty * excess * excess
    return total


@njit(cache=True, nogil=True)
def _assemble(chain, room, frames, path, posed, factors, penalty, blocks):
    """Fill the normal equations of the augmented Lagrangian; the vector is its gradient."""
    count = len(chain.dofs)
    before, now = room.rows[1], room.rows[2]
    blocks.lower[:] = 0.0
    for f in range(len(path)):
        fill_system(
            chain,
            frames.goals[f],
            frames.spots[f],
            path[f],
            posed.turns[f],
            posed.places[f],
            posed.axes[f],
            room.omega,
            blocks.diagonal[f],
            blocks.vector[f],
        )
        for d in range(count):
            blocks.vector[f, d] *= frames.shares[f]
            for e in range(d + 1):
                blocks.diagonal[f, d, e] *= frames.shares[f]
        if f == 0:
            continue
        # Changes of dofs.
        for d in range(count):
            square = (SMOOTH * chain.dofs[d, SIZE]) ** 2
            pull = square * (path[f, d] - path[f - 1, d])
            blocks.diagonal[f, d, d] += square
            blocks.diagonal[f - 1, d, d] += square
            blocks.lower[f, d, d] -= square
            blocks.vector[f, d] += pull
            blocks.vector[f - 1, d] -= pull
        # Turns that are too fast: both frames turn the bone about the same axis.
        for g in range(len(chain.goals)):
            excess = posed.beyond[f, g] + factors[f, g] / penalty
            if excess <= 0.0:
                continue
            joint = int(chain.goals[g, JOINT])
            x, y, z = _turn_axis(chain.goals[g], posed.turns[f - 1, joint], posed.turns[f, joint])
            before[:] = 0.0
            now[:] = 0.0
            for j in range(joint):
                a, b = posed.axes[f - 1, j + 1], posed.axes[f, j + 1]
                for d in range(count):
                    share = chain.joints[j, MATRIX + d]
                    before[d] -= share * (x * a[0] + y * a[1] + z * a[2])
                    now[d] += share * (x * b[0] + y * b[1] + z * b[2])
            for d in range(count):
                blocks.vector[f - 1, d] += penalty * excess * before[d]
                blocks.vector[f, d] += penalty * excess * now[d]
                for e in range(count):
                    blocks.lower[f, d, e] += penalty * now[d] * before[e]
                    if e <= d:
                        blocks.diagonal[f - 1, d, e] += penalty * before[d] * before[e]
                        blocks.diagonal[f, d, e] += penalty * now[d] * now[e]


@njit(cache=True, nogil=True)
def _hold(chain, path, is_free, blocks):
    """Take dofs that press on their limits, and frames that are not free, out of a system."""
    frames, count = path.shape
    for f in range(frames):
        for d in range(count):
            slope = blocks.vector[f, d]
            pressed = path[f, d] <= chain.dofs[d, LOW] and slope > 0.0
            pressed = pressed or (path[f, d] >= chain.dofs[d, HIGH] and slope < 0.0)
            if is_free[f] and not pressed:
                continue
            for e in range(count):
                blocks.diagonal[f, max(d, e), min(d, e)] = 0.0
                blocks.lower[f, d, e] = 0.0
                if f + 1 < frames:
                    blocks.lower[f + 1, e, d] = 0.0
            blocks.diagonal[f, d, d] = 1.0
            blocks.vector[f, d] = 0.0


@njit(cache=True, nogil=True)
def _solve_blocks(blocks):
    """Solve by block Cholesky: the vector is replaced by the solution, the matrix overwritten."""
    diagonal, lower, x = blocks.diagonal, blocks.lower, blocks.vector
    frames, count = x.shape
    for f in range(frames):
        # Rows of the frame without what they share with the one before.
        if f > 0:
            for r in range(count):
                for c in range(count):
                    value = lower[f, r, c]
                    for k in range(c):
                        value -= lower[f, r, k] * diagonal[f - 1, c, k]
                    lower[f, r, c] = value / diagonal[f - 1, c, c]
                for k in range(count):
                    x[f, r] -= lower[f, r, k] * x[f - 1, k]
                for c in range(r + 1):
                    for k in range(count):
                        diagonal[f, r, c] -= lower[f, r, k] * lower[f, c, k]
        # Cholesky of the remainder.
        for r in range(count):
            for c in range(r + 1):
                value = diagonal[f, r, c]
                for k in range(c):
                    value -= diagonal[f, r, k] * diagonal[f, c, k]
                root = math.sqrt(max(value, 1e-12)) if r == c else 0.0
                diagonal[f, r, c] = root if r == c else value / diagonal[f, c, c]
            for k in range(r):
                x[f, r] -= diagonal[f, r, k] * x[f, k]
            x[f, r] /= diagonal[f, r, r]
    for f in range(frames - 1, -1, -1):
        for r in range(count - 1, -1, -1):
            value = x[f, r]
            if f + 1 < frames:
                for k in range(count):
                    value -= lower[f + 1, k, r] * x[f + 1, k]
            for k in range(r + 1, count):
                value -= diagonal[f, k, r] * x[f, k]
            x[f, r] = value / diagonal[f, r, r]


@njit(cache=True, nogil=True)
def _try_step(chain, system, damping, path, blocks, trial):
    """Fill a damped step's path within the limits. Returns the largest change in rad."""
    blocks.diagonal[:] = system.diagonal
    blocks.lower[:] = system.lower
    for f in range(len(path)):
        for d in range(len(chain.dofs)):
            size = chain.dofs[d, SIZE]
            blocks.diagonal[f, d, d] *= 1.0 + damping
            blocks.diagonal[f, d, d] += 0.1 * damping * size * size + 1e-9
            blocks.vector[f, d] = -system.vector[f, d]
    _solve_blocks(blocks)
    largest_change = 0.0
    for f in range(len(path)):
        largest = 1e-12
        for d in range(len(chain.dofs)):
            largest = max(largest, abs(blocks.vector[f, d]) * chain.dofs[d, SIZE])
        short = min(1.0, MAX_STEP_RAD / largest)
        for d in range(len(chain.dofs)):
            moved = path[f, d] + short * blocks.vector[f, d]
            trial[f, d] = min(max(moved, chain.dofs[d, LOW]), chain.dofs[d, HIGH])
            change = abs(trial[f, d] - path[f, d]) * chain.dofs[d, SIZE]
            largest_change = max(largest_change, change)
    return largest_change


# ---- a window of frames ----


@njit(cache=True, nogil=True)
def _make_posed(chain, frames):
    """Allocate posed frames."""
    joints = len(chain.joints) + 1
    return Posed(
        np.zeros((frames, joints, 3, 3)),
        np.zeros((frames, joints, 3)),
        np.zeros((frames, joints, 3)),
        np.zeros((frames, len(chain.goals))),
    )


@njit(cache=True, nogil=True)
def _make_blocks(frames, count):
    """Allocate a system."""
    return Blocks(
        np.zeros((frames, count, count)),
        np.zeros((frames, count, count)),
        np.zeros((frames, count)),
    )


@njit(cache=True, nogil=True)
def measure_path(chain, frames, allowed, path):
    """Measure turns over the bound [F] and errors [F] of the worst bone of each frame, rad."""
    posed = _make_posed(chain, len(path))
    _pose_frames(chain, frames, allowed, path, posed)
    excess, errors = np.full(len(path), -np.inf), np.zeros(len(path))
    for f in range(len(path)):
        for g in range(len(chain.goals)):
            goal, turn = chain.goals[g], posed.turns[f, int(chain.goals[g, JOINT])]
            excess[f] = max(excess[f], posed.beyond[f, g])
            errors[f] = max(errors[f], _angle(goal, turn, frames.goals[f, g]))
    return excess, errors


@njit(cache=True, nogil=True)
def solve_window(chain, room, frames, allowed, is_free, path):
    """Move the free frames of a path until no turn is too fast, in place. Returns its cost.

    allowed: as of `allowed_turns`. is_free: [F].
    """
    count = len(chain.dofs)
    posed, tried = _make_posed(chain, len(path)), _make_posed(chain, len(path))
    system, blocks = _make_blocks(len(path), count), _make_blocks(len(path), count)
    factors, trial, penalty = np.zeros((len(path), len(chain.goals))), path.copy(), 1.0
    _pose_frames(chain, frames, allowed, path, posed)
    for _ in range(ROUNDS):
        cost = _sum_costs(chain, frames, path, posed, factors, penalty)
        damping = 1e-3
        for _ in range(STEPS):
            _assemble(chain, room, frames, path, posed, factors, penalty, system)
            _hold(chain, path, is_free, system)
            # Raise the damping until a step lowers the cost.
            accepted, new, change = False, cost, 0.0
            for _ in range(7):
                change = _try_step(chain, system, damping, path, blocks, trial)
                _pose_frames(chain, frames, allowed, trial, tried)
                new = _sum_costs(chain, frames, trial, tried, factors, penalty)
                if new <= cost:
                    accepted = True
                    break
                damping = max(6.0 * damping, 1e-3)
            if not accepted:
                break
            # Take the step; end where it gains nothing.
            gain, cost = cost - new, new
            path[:] = trial
            posed, tried = tried, posed
            damping *= 0.3
            if change < DONE_RAD or gain < DONE_GAIN * max(cost, 1e-3):
                break
        # Multipliers of the turns that are still too fast grow.
        fastest = -np.inf
        for f in range(len(path)):
            for g in range(len(chain.goals)):
                fastest = max(fastest, posed.beyond[f, g])
                factors[f, g] = max(0.0, factors[f, g] + penalty * posed.beyond[f, g])
        if fastest < SLACK_RAD:
            break
        penalty *= GROWTH
    factors[:] = 0.0
    return _sum_costs(chain, frames, path, posed, factors, 1e-9)


# ---- a path ----


def runs(marked: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the runs of marked frames: [F] run of each frame (-1: none), and their count."""
    starts = marked & ~np.concatenate([[False], marked[:-1]])
    return np.where(marked, np.cumsum(starts) - 1, -1), int(starts.sum())


def fast_windows(chain: Chain, frames: Frames, path: np.ndarray) -> list[slice]:
    """List separate windows that hold all turns over the bound, and frames around them."""
    allowed = allowed_turns(chain, frames.goals, EASY_RAD)
    return cut_windows(measure_path(chain, frames, allowed, path)[0])


def cut_windows(excess: np.ndarray) -> list[slice]:
    """Cut windows around frames with a positive excess [F], of LONGEST frames at most."""
    numbers, count = runs(np.convolve(excess > 0.0, np.ones(2 * REACH + 1))[REACH:-REACH] > 0.5)
    windows = []
    for n in range(count):
        inside = np.flatnonzero(numbers == n)
        start, stop = int(inside[0]), int(inside[-1]) + 1
        # Long windows are cut where they are slowest; the frame of the cut stays.
        while stop - start > LONGEST:
            half = start + LONGEST // 2
            cut = half + int(excess[half : start + LONGEST].argmin())
            windows.append(slice(start, cut))
            start = cut + 1
        windows.append(slice(start, stop))
    return windows


def slow_down(chain: Chain, frames: Frames, path: np.ndarray, window: slice) -> None:
    """Bound the turns in a window, in place; frames outside it stay."""
    work = _Window(chain, frames, path, window)
    path = path[work.part]
    work.solve(path, 0, len(path))
    # Try other starts where that failed or moves a bone far off, the fastest turns first.
    jumps = np.flatnonzero(work.excess > 0.0)
    for f in jumps[np.argsort(-work.excess[jumps])].tolist():
        start, stop = max(f - REACH // 2, 0), f + REACH // 2
        excess, errors = work.measure(path)
        worse = (errors - work.errors)[start:stop].max()
        if excess[start:stop].max() > SLACK_RAD or worse > WORSE_RAD:
            start, stop = max(f - 2 * REACH, 0), min(f + 2 * REACH, len(path))
            paths = [path, *_plain_starts(work.first, path, f)]
            results = [work.solve(other[start:stop], start, stop) for other in paths]
            if all(is_over for _, is_over in results):
                paths += _far_starts(chain, path, f)
                results += [work.solve(p[start:stop], start, stop) for p in paths[len(results) :]]
            costs = [cost for cost, _ in results]
            path[start:stop] = paths[int(np.argmin(costs))][start:stop]


def _plain_starts(first: np.ndarray, path: np.ndarray, f: int) -> Iterator[np.ndarray]:
    """Yield paths [F, D] across the jump from f - 1 to f of the path `first`, unlike `path`."""
    for reach in START_REACHES:
        a, b = max(f - reach, 0), min(f + reach, len(path) - 1)
        share = np.linspace(0.0, 1.0, b - a + 1)[:, None]
        straight = first[a] * (1.0 - share) + first[b] * share
        for start, stop, poses in (
            (a, b + 1, straight),
            (a, b + 1, 0.0),  # by way of the rest pose
            (f, b + 1, first[f - 1]),  # later
            (a, f, first[f]),  # sooner
        ):
            other = path.copy()
            other[start:stop] = poses
            yield other


def _far_starts(chain: Chain, path: np.ndarray, f: int) -> Iterator[np.ndarray]:
    """Yield paths [F, D] across a jump from f - 1 to f by way of poses all over the limits."""
    low, high = chain.dofs[:, LOW], chain.dofs[:, HIGH]
    low, high = np.maximum(low, -math.pi), np.minimum(high, math.pi)
    numbers = np.random.default_rng(0)
    for n in range(FAR_STARTS):
        reach = START_REACHES[n % 3]
        other = path.copy()
        other[max(f - reach, 0) : f + reach] = numbers.uniform(low, high)
        yield other


class _Window:
    """Frames that are solved together."""

    def __init__(self, chain: Chain, frames: Frames, path: np.ndarray, window: slice) -> None:
        count = len(frames.angles)
        self.part = slice(max(window.start - 1, 0), min(window.stop + 1, count))
        """Window with the frames beside it, which are fixed."""
        self.chain, self.frames, self.room = chain, frames.cut(self.part), make_room(chain)
        self.allowed = allowed_turns(chain, self.frames.goals, EASY_RAD)
        numbers = np.arange(count)[self.part]
        self.is_free = (numbers >= window.start) & (numbers < window.stop)
        # Frames that limits do not keep from their goals.
        self.first = path[self.part].copy()
        self.excess, self.errors = self.measure(self.first)
        if self.excess.max() > BOUND_RAD - EASY_RAD:
            self.allowed += BOUND_RAD - EASY_RAD
            self.excess -= BOUND_RAD - EASY_RAD
        self.is_near = self.errors < NEAR_RAD
        shares = np.where(self.is_near, NEAR_SHARE, 1.0)
        self.frames = self.frames._replace(shares=shares)

    def measure(self, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Measure turns over the bound [F] and errors [F] of the worst bone, rad."""
        return measure_path(self.chain, self.frames, self.allowed, path)

    def solve(self, path: np.ndarray, start: int, stop: int) -> tuple[float, bool]:
        """Solve the frames start to stop, `path`, in place.

        Returns their cost, and True where a turn or an error is over its bound.
        """
        # Frames with a neighbour that is not solved with them stay fixed.
        is_free = self.is_free[start:stop].copy()
        is_free[0] &= start == 0
        is_free[-1] &= stop == len(self.is_free)
        np.clip(path, self.chain.dofs[:, LOW], self.chain.dofs[:, HIGH], out=path)
        allowed = self.allowed[start:stop].copy()
        allowed[0] = np.inf
        frames = self.frames.cut(slice(start, stop))
        cost = solve_window(self.chain, self.room, frames, allowed, is_free, path)
        # Turns and errors over their bounds cost more.
        excess, errors = measure_path(self.chain, frames, allowed, path)
        fast = np.maximum(excess - SLACK_RAD, 0.0).sum()
        far = np.maximum(errors[self.is_near[start:stop]] - FAR_RAD, 0.0).sum()
        return cost + FAST_COST * float(fast) + FAR_COST * float(far), bool(fast + far > 0.0)
