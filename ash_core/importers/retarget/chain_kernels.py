"""Numba kernels of the pose solver: one serial chain of joints, every frame by itself.

A chain is a row of joints from a known base, each turning about its own axis by a sum of dofs. Its
goals are orientations and places of some of these joints. `candidates` gives each frame several
ways to meet them, in closed form and within the limits; `choose` takes the smoothest row of ways
through all frames; `relax` lets each frame give way to its neighbours.

    angle[j] = fixed[j] + sum_d matrix[j, d] dofs[d]        d: the chain's own dofs
    cost = sum over goals  w^2 (1 - t^2) |R d - G d|^2 + w^2 t^2 |R - G|^2 / 2
         + sum over places u^2 huber(|p - P|) + REST^2 |dofs|^2

with G the goal orientation, d the bone's direction, t the share of turns about the bone: for
small errors the squares of angles. Unlike rotation vectors these terms have no edge at 180 degrees.

Kernels index scalars and take few arrays: slices and long argument lists made them compile for a
minute and run at a third of the speed.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

REST = 0.02
"""Weight of an angle itself: dofs without a goal stay at rest."""
SMOOTH = 0.05
"""Weight of an angle's change from frame to frame, beside 1 for a bone's error in rad."""
TURN = 2.0
"""Weight of a bone's turn from frame to frame beyond the source's."""
MAX_STEP_RAD = 0.5
DONE_RAD = 1e-3
DONE_COST = 1e-8
POOR = 0.03
"""Cost (10 degrees squared) above which starts all over the limits are tried too."""
WAYS, OWN_WAYS = 8, 6
"""Most candidates of a frame: four by branches and two from other starts; two from neighbours."""
NEAR_M = 0.003
"""Miss of a place beyond which it counts by its length, not its square: a place may not bend a limb
far away from its goals."""
FAR_RAD = 1.0
"""Distance beyond which neighbours are on different branches and do not attract."""

OFFSET, AXIS, MATRIX = 0, 3, 6
"""Columns of `Chain.joints`: offset [3] m, axis [3], rad per unit of each own dof [D]."""
LOW, HIGH, PERIOD, SIZE = 0, 1, 2, 3
"""Columns of `Chain.dofs`: limits; a whole turn of a dof without limits, else 0; rad per unit."""
JOINT, DIRECTION, WEIGHT, TWIST, BRANCHES, COUNT, ANGLES = 0, 1, 4, 5, 6, 7, 8
"""Columns of `Chain.goals`: joint (0: the base); the bone's direction [3] in its frame, zero if it
has none; weight; share of turns about the bone; whether a second closed-form solution is worth a
try; how many turns are solved in closed form; and for each of at most three its axis [3], own dof
and rad per unit."""


class Chain(NamedTuple):
    """Constants of a chain of J joints with D own dofs, G goals and P places. float64."""

    joints: np.ndarray
    """[J, 6 + D]"""
    dofs: np.ndarray
    """[D, 4]"""
    goals: np.ndarray
    """[G, 23]"""
    places: np.ndarray
    """[P] joints (0: the base)"""


@njit(cache=True, nogil=True)
def pose_frame(joints, angles, base, dofs, turns, places, axes):
    """Fill R [J + 1, 3, 3], p [J + 1, 3] (0: the base) and the turning axes [J + 1, 3]."""
    for row in range(3):
        places[0, row] = base[row, 3]
        for k in range(3):
            turns[0, row, k] = base[row, k]
    for j in range(len(joints)):
        angle = angles[j]
        for d in range(len(dofs)):
            angle += joints[j, MATRIX + d] * dofs[d]
        x, y, z = joints[j, AXIS], joints[j, AXIS + 1], joints[j, AXIS + 2]
        a, b, c = joints[j, OFFSET], joints[j, OFFSET + 1], joints[j, OFFSET + 2]
        cosine, sine = math.cos(angle), math.sin(angle)
        rest = 1.0 - cosine
        xy, yz, zx = rest * x * y, rest * y * z, rest * z * x
        for row in range(3):
            u, v, w = turns[j, row, 0], turns[j, row, 1], turns[j, row, 2]
            places[j + 1, row] = places[j, row] + u * a + v * b + w * c
            axes[j + 1, row] = u * x + v * y + w * z
            turns[j + 1, row, 0] = (
                u * (cosine + rest * x * x) + v * (xy + sine * z) + w * (zx - sine * y)
            )
            turns[j + 1, row, 1] = (
                u * (xy - sine * z) + v * (cosine + rest * y * y) + w * (yz + sine * x)
            )
            turns[j + 1, row, 2] = (
                u * (zx + sine * y) + v * (yz - sine * x) + w * (cosine + rest * z * z)
            )


@njit(cache=True, nogil=True)
def measure_cost(chain, goals, spots, dofs, turns, places):
    """Sum the cost of a posed chain."""
    total = 0.0
    for g in range(len(chain.goals)):
        joint = int(chain.goals[g, JOINT])
        weight, twist = chain.goals[g, WEIGHT] ** 2, chain.goals[g, TWIST] ** 2
        x, y, z = (
            chain.goals[g, DIRECTION],
            chain.goals[g, DIRECTION + 1],
            chain.goals[g, DIRECTION + 2],
        )
        trace, along = 0.0, 0.0
        for row in range(3):
            a, b, c = turns[joint, row, 0], turns[joint, row, 1], turns[joint, row, 2]
            u, v, w = goals[g, row, 0], goals[g, row, 1], goals[g, row, 2]
            trace += a * u + b * v + c * w
            along += (a * x + b * y + c * z) * (u * x + v * y + w * z)
        total += weight * (twist * (3.0 - trace) + (1.0 - twist) * (2.0 - 2.0 * along))
    for n in range(len(chain.places)):
        joint = int(chain.places[n])
        square = 0.0
        for k in range(3):
            square += (places[joint, k] - spots[n, k]) ** 2
        miss = math.sqrt(square)
        if miss > NEAR_M:
            square = NEAR_M * (2.0 * miss - NEAR_M)
        total += spots[n, 3] ** 2 * square
    for d in range(len(dofs)):
        if chain.dofs[d, PERIOD] == 0.0:
            total += (REST * chain.dofs[d, SIZE] * dofs[d]) ** 2
    return total


@njit(cache=True, nogil=True)
def _add(omega, x, y, z, both, along, hessian):
    """Add both w.w' - along (w.v)(w'.v), v = (x, y, z), to the lower half of the Hessian."""
    for d in range(len(omega)):
        a, b, c = omega[d, 0], omega[d, 1], omega[d, 2]
        v = along * (a * x + b * y + c * z)
        a, b, c = both * a - v * x, both * b - v * y, both * c - v * z
        for e in range(d + 1):
            hessian[d, e] += a * omega[e, 0] + b * omega[e, 1] + c * omega[e, 2]


@njit(cache=True, nogil=True)
def fill_system(chain, goals, spots, dofs, turns, places, axes, omega, hessian, gradient):
    """Fill J^T J (its lower half) and J^T r of the cost."""
    count = len(dofs)
    hessian[:] = 0.0
    gradient[:] = 0.0
    # Goals of orientation: omega is the rotation axis of each dof.
    for g in range(len(chain.goals)):
        joint = int(chain.goals[g, JOINT])
        omega[:] = 0.0
        for j in range(joint):
            for d in range(count):
                share = chain.joints[j, MATRIX + d]
                if share != 0.0:
                    for k in range(3):
                        omega[d, k] += share * axes[j + 1, k]
        # Residual of the orientation, by the weight of its twist.
        full = (chain.goals[g, WEIGHT] * chain.goals[g, TWIST]) ** 2
        straight = chain.goals[g, WEIGHT] ** 2 - full
        x, y, z = 0.0, 0.0, 0.0
        for k in range(3):
            a, b, c = turns[joint, 0, k], turns[joint, 1, k], turns[joint, 2, k]
            u, v, w = goals[g, 0, k], goals[g, 1, k], goals[g, 2, k]
            x += b * w - c * v
            y += c * u - a * w
            z += a * v - b * u
        x, y, z = 0.5 * full * x, 0.5 * full * y, 0.5 * full * z
        # Residual of the direction alone, by the rest of the weight.
        a, b, c, u, v, w = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(3):
            share = chain.goals[g, DIRECTION + k]
            a, b, c = (
                a + share * turns[joint, 0, k],
                b + share * turns[joint, 1, k],
                c + share * turns[joint, 2, k],
            )
            u, v, w = (
                u + share * goals[g, 0, k],
                v + share * goals[g, 1, k],
                w + share * goals[g, 2, k],
            )
        x += straight * (b * w - c * v)
        y += straight * (c * u - a * w)
        z += straight * (a * v - b * u)
        for d in range(count):
            gradient[d] -= omega[d, 0] * x + omega[d, 1] * y + omega[d, 2] * z
        # Without a direction `straight` is zero, and so are a, b, c.
        _add(omega, a, b, c, full + straight, straight, hessian)
    # Goals of place: omega is the velocity of the joint by each dof.
    for n in range(len(chain.places)):
        joint = int(chain.places[n])
        omega[:] = 0.0
        for j in range(joint):
            u = places[joint, 0] - places[j + 1, 0]
            v = places[joint, 1] - places[j + 1, 1]
            w = places[joint, 2] - places[j + 1, 2]
            a, b, c = axes[j + 1, 0], axes[j + 1, 1], axes[j + 1, 2]
            for d in range(count):
                share = chain.joints[j, MATRIX + d]
                if share != 0.0:
                    omega[d, 0] += share * (b * w - c * v)
                    omega[d, 1] += share * (c * u - a * w)
                    omega[d, 2] += share * (a * v - b * u)
        # Distant places pull no harder than those at NEAR_M.
        miss = 0.0
        for k in range(3):
            miss += (places[joint, k] - spots[n, k]) ** 2
        square = spots[n, 3] ** 2 * min(1.0, NEAR_M / max(math.sqrt(miss), 1e-9))
        for d in range(count):
            for k in range(3):
                gradient[d] += square * omega[d, k] * (places[joint, k] - spots[n, k])
        _add(omega, 0.0, 0.0, 0.0, square, 0.0, hessian)
    # Pull of the rest pose, for dofs that do not go round.
    for d in range(count):
        if chain.dofs[d, PERIOD] == 0.0:
            square = (REST * chain.dofs[d, SIZE]) ** 2
            hessian[d, d] += square
            gradient[d] += square * dofs[d]


@njit(cache=True, nogil=True)
def _solve(A, x):
    """Solve A x = b by Cholesky, b and then x in the same place; A's lower half is overwritten."""
    n = len(x)
    for i in range(n):
        for j in range(i + 1):
            value = A[i, j]
            for k in range(j):
                value -= A[i, k] * A[j, k]
            A[i, j] = math.sqrt(max(value, 1e-12)) if i == j else value / A[j, j]
    for i in range(n):
        value = x[i]
        for k in range(i):
            value -= A[i, k] * x[k]
        x[i] = value / A[i, i]
    for i in range(n - 1, -1, -1):
        value = x[i]
        for k in range(i + 1, n):
            value -= A[k, i] * x[k]
        x[i] = value / A[i, i]


class Room(NamedTuple):
    """Working memory of one thread."""

    turns: np.ndarray
    """[J + 1, 3, 3]"""
    vectors: np.ndarray
    """[2, J + 1, 3] places and axes"""
    omega: np.ndarray
    """[D, 3]"""
    matrices: np.ndarray
    """[2, D, D] Hessian, damped Hessian"""
    rows: np.ndarray
    """[5, D] gradient, step, trial; centre and pull of neighbours"""


def make_room(chain: Chain) -> Room:
    """Allocate one thread's working memory for a chain."""
    joints, count = len(chain.joints) + 1, len(chain.dofs)
    return Room(
        np.zeros((joints, 3, 3)),
        np.zeros((2, joints, 3)),
        np.zeros((count, 3)),
        np.zeros((2, count, count)),
        np.zeros((5, count)),
    )


@njit(cache=True, nogil=True)
def _total(chain, room, angles, base, goals, spots, dofs):
    """Pose the chain. Returns its cost, the distance from its neighbours included."""
    pose_frame(chain.joints, angles, base, dofs, room.turns, room.vectors[0], room.vectors[1])
    total = measure_cost(chain, goals, spots, dofs, room.turns, room.vectors[0])
    for d in range(len(dofs)):
        if room.rows[4, d] > 0.0:
            change = chain.dofs[d, SIZE] * (dofs[d] - room.rows[3, d])
            total += room.rows[4, d] * change * change
    return total


@njit(cache=True, nogil=True)
def _polish(chain, room, angles, base, goals, spots, dofs, rounds):
    """Refine `dofs` in place by Levenberg's steps within the limits. Returns the cost."""
    # Cost at the start.
    count = len(dofs)
    hessian, damped = room.matrices[0], room.matrices[1]
    gradient, step, trial = room.rows[0], room.rows[1], room.rows[2]
    cost = _total(chain, room, angles, base, goals, spots, dofs)
    damping, new, change = 1e-6, cost, 0.0
    for _ in range(rounds):
        # Normal equations, with the pull to dofs of other frames.
        fill_system(
            chain,
            goals,
            spots,
            dofs,
            room.turns,
            room.vectors[0],
            room.vectors[1],
            room.omega,
            hessian,
            gradient,
        )
        for d in range(count):
            square = room.rows[4, d] * chain.dofs[d, SIZE] ** 2
            hessian[d, d] += square
            gradient[d] += square * (dofs[d] - room.rows[3, d])
            # A dof that presses on its limit is held there.
            pressed_low = dofs[d] <= chain.dofs[d, LOW] and gradient[d] > 0
            if pressed_low or (dofs[d] >= chain.dofs[d, HIGH] and gradient[d] < 0):
                for e in range(count):
                    hessian[max(d, e), min(d, e)] = 0.0
                hessian[d, d] = 1.0
                gradient[d] = 0.0
        # Raise the damping until a step lowers the cost.
        accepted = False
        for _ in range(6):
            for d in range(count):
                for e in range(d):
                    damped[d, e] = hessian[d, e]
                damped[d, d] = hessian[d, d] * (1.0 + damping) + 1e-9
                step[d] = -gradient[d]
            _solve(damped, step)
            largest = 1e-12
            for d in range(count):
                largest = max(largest, abs(step[d]) * chain.dofs[d, SIZE])
            short = min(1.0, MAX_STEP_RAD / largest)
            change = 0.0
            for d in range(count):
                moved = dofs[d] + short * step[d]
                trial[d] = min(max(moved, chain.dofs[d, LOW]), chain.dofs[d, HIGH])
                change = max(change, abs(trial[d] - dofs[d]) * chain.dofs[d, SIZE])
            new = _total(chain, room, angles, base, goals, spots, trial)
            if new <= cost:
                accepted = True
                break
            damping = max(damping * 10.0, 1e-3)
        # Take the step; end where it gains nothing.
        if not accepted:
            break
        gain = cost - new
        cost = new
        for d in range(count):
            dofs[d] = trial[d]
        damping *= 0.2
        if change < DONE_RAD or gain < DONE_COST:
            break
    return cost


# ---- closed form ----


@njit(cache=True, nogil=True)
def _turned(a, angle, v):
    """Turn a vector about a unit axis."""
    cosine, sine = math.cos(angle), math.sin(angle)
    share = (1.0 - cosine) * (a[0] * v[0] + a[1] * v[1] + a[2] * v[2])
    return (
        cosine * v[0] + sine * (a[1] * v[2] - a[2] * v[1]) + share * a[0],
        cosine * v[1] + sine * (a[2] * v[0] - a[0] * v[2]) + share * a[1],
        cosine * v[2] + sine * (a[0] * v[1] - a[1] * v[0]) + share * a[2],
    )


@njit(cache=True, nogil=True)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True, nogil=True)
def _triple(a, b, c):
    """Compute a . (b x c)."""
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        + a[1] * (b[2] * c[0] - b[0] * c[2])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


@njit(cache=True, nogil=True)
def _times(L, v):
    """Compute L v."""
    return (
        L[0, 0] * v[0] + L[0, 1] * v[1] + L[0, 2] * v[2],
        L[1, 0] * v[0] + L[1, 1] * v[1] + L[1, 2] * v[2],
        L[2, 0] * v[0] + L[2, 1] * v[1] + L[2, 2] * v[2],
    )


@njit(cache=True, nogil=True)
def _angle_about(axis, a, b):
    """Turn about an axis that brings a as near to b as it can."""
    return math.atan2(_triple(axis, a, b), _dot(a, b) - _dot(axis, a) * _dot(axis, b))


@njit(cache=True, nogil=True)
def _middle(first, second, third, target, branch):
    """Solve for the angle about `second` that sets the cosine of `first` and the turned `third`."""
    constant = _dot(first, second) * _dot(second, third)
    cosine = _dot(first, third) - constant
    sine = _triple(first, second, third)
    reach = math.hypot(cosine, sine)
    if reach < 1e-9:
        return 0.0
    half = math.acos(min(max((target - constant) / reach, -1.0), 1.0))
    return math.atan2(sine, cosine) + (half if branch == 0 else -half)


@njit(cache=True, nogil=True)
def _closed_form(goal, L, branch):
    """Solve for the angles of a goal's last turns for a local orientation L.

    Three turns meet L exactly, about any three axes; two bring the bone to its direction; one comes
    nearest. Out of reach the nearest is taken. Source: Paden and Kahan's subproblems.
    """
    count = int(goal[COUNT])
    d = (goal[DIRECTION], goal[DIRECTION + 1], goal[DIRECTION + 2])
    a = (goal[ANGLES], goal[ANGLES + 1], goal[ANGLES + 2])
    b = (goal[ANGLES + 5], goal[ANGLES + 6], goal[ANGLES + 7])
    c = (goal[ANGLES + 10], goal[ANGLES + 11], goal[ANGLES + 12])
    if count == 3:
        target = _times(L, c)
        middle = _middle(a, b, c, _dot(a, target), branch)
        back = _turned(b, -middle, a)
        if abs(_dot(a, _turned(b, middle, c))) > 0.99999:
            # First and third axis in line: only the sum of their turns counts. All to the third.
            return 0.0, middle, _angle_about(c, b, _turned(b, -middle, _times(L, b)))
        first = _angle_about(a, _turned(b, middle, c), target)
        return first, middle, _angle_about(c, _times(L.T, a), back)
    target = _times(L, d)
    if count == 2:
        middle = _middle(a, b, d, _dot(a, target), branch)
        return _angle_about(a, _turned(b, middle, d), target), middle, 0.0
    twist = goal[TWIST] ** 2
    across = (L[2, 1] - L[1, 2], L[0, 2] - L[2, 0], L[1, 0] - L[0, 1])
    flat = L[0, 0] + L[1, 1] + L[2, 2] - _dot(a, _times(L, a))
    sine = twist * _dot(a, across) + 2.0 * (1.0 - twist) * _triple(a, d, target)
    cosine = twist * flat + 2.0 * (1.0 - twist) * (_dot(d, target) - _dot(a, d) * _dot(a, target))
    return math.atan2(sine, cosine), 0.0, 0.0


@njit(cache=True, nogil=True)
def _within(value, period, low, high):
    """Choose the turn of an angle that is nearest to its limits, and clamp it."""
    best, least = value, np.inf
    for k in range(-2, 3):
        moved = value + k * period
        beyond = max(low - moved, moved - high, 0.0) + 1e-9 * abs(moved)
        if beyond < least:
            best, least = moved, beyond
    return min(max(best, low), high)


@njit(cache=True, nogil=True)
def _start(chain, room, local, angles, base, goals, branches, fixed, dofs):
    """Fill closed-form dofs of all goals in turn, each from the solved poses of the ones before.

    branches: bit g is goal g's. fixed: goal whose dofs stay, or -1.
    """
    for g in range(len(chain.goals)):
        count = int(chain.goals[g, COUNT])
        if g == fixed or count == 0:
            continue
        for n in range(count):
            dofs[int(chain.goals[g, ANGLES + 5 * n + 3])] = 0.0
        pose_frame(chain.joints, angles, base, dofs, room.turns, room.vectors[0], room.vectors[1])
        joint = int(chain.goals[g, JOINT])
        for row in range(3):
            for k in range(3):
                local[row, k] = (
                    room.turns[joint, 0, row] * goals[g, 0, k]
                    + room.turns[joint, 1, row] * goals[g, 1, k]
                    + room.turns[joint, 2, row] * goals[g, 2, k]
                )
        solved = _closed_form(chain.goals[g], local, (branches >> g) & 1)
        for n in range(count):
            d, scale = int(chain.goals[g, ANGLES + 5 * n + 3]), chain.goals[g, ANGLES + 5 * n + 4]
            value = solved[0] if n == 0 else (solved[1] if n == 1 else solved[2])
            period = 2.0 * math.pi / abs(scale)
            dofs[d] = _within(value / scale, period, chain.dofs[d, LOW], chain.dofs[d, HIGH])


@njit(cache=True, nogil=True)
def candidates(chain, room, angles, bases, goals, spots, rounds, ways, costs, results):
    """Collect the ways of every frame to meet its goals.

    Fills dofs [F, WAYS, D], costs [F, WAYS] (inf: none) and goal orientations [F, WAYS, G, 3, 3].
    """
    count, many = len(chain.dofs), len(chain.goals)
    local = np.zeros((3, 3))
    grid, grid_costs = np.zeros((27, count)), np.zeros(27)
    room.rows[4, :] = 0.0
    # Goals that the closed form meets in two ways, and the one with the most angles.
    forks, forked, wide, turns = 0, np.zeros(2, np.int64), -1, 0
    for g in range(many):
        if chain.goals[g, BRANCHES] > 0 and forks < 2:
            forked[forks] = g
            forks += 1
        if chain.goals[g, COUNT] >= 2 and (wide < 0 or chain.goals[g, COUNT] > turns):
            wide, turns = g, int(chain.goals[g, COUNT])
    # Every combination of these ways, then up to two starts from the grid.
    for f in range(len(bases)):
        best, tries = np.inf, 1 << forks
        costs[f, :] = np.inf
        for used in range(tries + 2):
            if used == tries:
                if best <= POOR or wide < 0:
                    break
                # No candidate comes near: look for other starts all over the limits.
                grid_costs[:] = np.inf
                for m in range(3**turns):
                    grid[m, :] = 0.0
                    rest = m
                    for k in range(turns):
                        d = int(chain.goals[wide, ANGLES + 5 * k + 3])
                        half = math.pi / abs(chain.goals[wide, ANGLES + 5 * k + 4])
                        low = max(chain.dofs[d, LOW], -half)
                        high = min(chain.dofs[d, HIGH], half)
                        grid[m, d] = low + (high - low) * (rest % 3 + 0.5) / 3.0
                        rest //= 3
                    _start(chain, room, local, angles[f], bases[f], goals[f], 0, wide, grid[m])
                    grid_costs[m] = _total(
                        chain, room, angles[f], bases[f], goals[f], spots[f], grid[m]
                    )
            # Start from the closed form or from the best place of the grid.
            if used < tries:
                branches = 0
                for k in range(forks):
                    branches |= ((used >> k) & 1) << forked[k]
                ways[f, used, :] = 0.0
                _start(
                    chain, room, local, angles[f], bases[f], goals[f], branches, -1, ways[f, used]
                )
            else:
                m = int(np.argmin(grid_costs))
                ways[f, used, :] = grid[m]
                grid_costs[m] = np.inf
            # Refine it; keep its cost and orientations.
            costs[f, used] = _polish(
                chain, room, angles[f], bases[f], goals[f], spots[f], ways[f, used], rounds
            )
            _total(chain, room, angles[f], bases[f], goals[f], spots[f], ways[f, used])
            for g in range(many):
                results[f, used, g] = room.turns[int(chain.goals[g, JOINT])]
            best = min(best, costs[f, used])


@njit(cache=True, nogil=True)
def borrow(chain, room, angles, bases, goals, spots, rounds, first, last, ways, costs, results):
    """Start frames without a good candidate also from their neighbours' best ones."""
    room.rows[4, :] = 0.0
    for f in range(first, last):
        if costs[f, :OWN_WAYS].min() <= POOR:
            continue
        for n in range(2):
            other = f - 1 + 2 * n
            if not 0 <= other < len(bases):
                continue
            dofs = ways[f, OWN_WAYS + n]
            dofs[:] = ways[other, np.argmin(costs[other, :OWN_WAYS])]
            costs[f, OWN_WAYS + n] = _polish(
                chain, room, angles[f], bases[f], goals[f], spots[f], dofs, rounds
            )
            _total(chain, room, angles[f], bases[f], goals[f], spots[f], dofs)
            for g in range(len(chain.goals)):
                results[f, OWN_WAYS + n, g] = room.turns[int(chain.goals[g, JOINT])]


# ---- a path through all frames ----


@njit(cache=True, nogil=True)
def measure_change(goal, a, b):
    """Measure the squared change of a goal's direction, and of the whole orientation."""
    straight, full = 0.0, 0.0
    for row in range(3):
        along = 0.0
        for k in range(3):
            change = a[row, k] - b[row, k]
            along += change * goal[DIRECTION + k]
            full += change * change
        straight += along * along
    return straight, full


@njit(cache=True, nogil=True)
def _chord(goal, a, b):
    """Measure the chord between two orientations: direction, and the whole by its twist."""
    straight, full = measure_change(goal, a, b)
    twist = goal[TWIST] ** 2
    return math.sqrt((1.0 - twist) * straight + 0.5 * twist * full)


@njit(cache=True, nogil=True)
def choose(chain, goals, ways, costs, results):
    """Choose the cheapest path [F, D] by errors, changes of dofs, and turns beyond the source's."""
    # Viterbi: cheapest way to reach each candidate of a frame.
    frames, count, many = len(ways), len(chain.dofs), len(chain.goals)
    total, fresh = costs[0].copy(), np.empty(WAYS)
    before = np.zeros((frames, WAYS), np.int64)
    own = np.empty(many)
    for f in range(1, frames):
        for g in range(many):
            own[g] = _chord(chain.goals[g], goals[f, g], goals[f - 1, g])
        for n in range(WAYS):
            fresh[n] = np.inf
            if costs[f, n] == np.inf:
                continue
            for m in range(WAYS):
                if total[m] == np.inf:
                    continue
                move = total[m]
                for d in range(count):
                    change = ways[f, n, d] - ways[f - 1, m, d]
                    if chain.dofs[d, PERIOD] > 0.0:
                        period = chain.dofs[d, PERIOD]
                        change -= period * math.floor(change / period + 0.5)
                    move += (SMOOTH * chain.dofs[d, SIZE] * change) ** 2
                for g in range(many):
                    chord = _chord(chain.goals[g], results[f, n, g], results[f - 1, m, g])
                    move += (TURN * max(chord - own[g], 0.0)) ** 2
                if move < fresh[n]:
                    fresh[n] = move
                    before[f, n] = m
            fresh[n] += costs[f, n]
        total[:] = fresh
    # Walk back from the cheapest last candidate.
    path = np.empty((frames, count))
    n = int(np.argmin(total))
    for f in range(frames - 1, -1, -1):
        path[f] = ways[f, n]
        n = before[f, n]
    # Unwrap the dofs that go round.
    for d in range(count):
        period = chain.dofs[d, PERIOD]
        if period > 0.0:
            for f in range(1, frames):
                change = path[f, d] - path[f - 1, d]
                path[f, d] -= period * math.floor(change / period + 0.5)
    return path


@njit(cache=True, nogil=True)
def relax(chain, room, angles, bases, goals, spots, path, first, last, rounds):
    """Let every second frame of first to last give way to both its neighbours; in place."""
    frames = len(path)
    for f in range(first, last, 2):
        for d in range(len(chain.dofs)):
            centre, pull = 0.0, 0.0
            for other in (f - 1, f + 1):
                if 0 <= other < frames:
                    change = abs(path[other, d] - path[f, d])
                    if change * chain.dofs[d, SIZE] < FAR_RAD:
                        centre += path[other, d]
                        pull += 1.0
            room.rows[3, d] = centre / max(pull, 1.0)
            room.rows[4, d] = pull * SMOOTH * SMOOTH
        _polish(chain, room, angles[f], bases[f], goals[f], spots[f], path[f], rounds)


@njit(cache=True, nogil=True)
def pose(chain, room, angles, bases, path, turns, places):
    """Fill orientations [F, J + 1, 3, 3] and places [F, J + 1, 3] of a chain's joints."""
    for f in range(len(path)):
        pose_frame(chain.joints, angles[f], bases[f], path[f], turns[f], places[f], room.vectors[1])
