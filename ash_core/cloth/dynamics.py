"""Dynamics of cloth on the CPU: position-based, in ticks of 5 ms, few passes over links in each.

Skinned places are goals; every point is pulled to its own by a spring. Links keep lengths, capsules
push out. All springs are implicit (compliant constraints), so no stiffness is unstable. Links are
processed colour by colour: those of one colour share no point, so their order does not matter and a
GPU's threads (gpu.py) get the same numbers. Collisions and springs concern one point each.
Source: Macklin et al. 2016, "XPBD"; Macklin et al. 2019, "Small Steps in Physics Simulation".
"""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32
from numba import njit

from ash_core.cloth.model import ClothModel, pull_frequencies

TICK_S = 0.005
"""Length of a substep, s, whatever the frame rate: a cloth's stiffness depends on it."""
LONGEST_S = 0.2
"""Bound on a frame's length, s; a longer one is simulated in slow motion."""
MAX_SPEED = 10.0
"""Upper bound on a point's speed relative to its goal, m/s."""
GRAVITY = 9.81
"""m/s^2"""
SLACK_M = 0.001
"""Least gap between cloth and a collider that it is closer to at rest than the margin."""
NEAR_M = 0.03
"""Distance at which a capsule becomes a candidate for a block of ticks; adds to the moves."""
BLOCK = 8
"""Ticks of a block, for which each point keeps its candidates."""
UPRIGHT, TURNED = 0.5, -0.5
"""Cosines of the turn of cloth against the skinned surface: until the first it carries its weight
as at rest, from the second not at all, so that a hem that is turned up falls down again."""
CANDIDATES = 16
"""Bound on a point's candidates; further ones, in the order of the capsules, are ignored."""
MAX_HZ = 1e4
"""Upper bound on angular frequencies, whatever the slider says, rad/s."""
GRAB = 40.0
"""Angular frequency of the pull to a grabbed point's place, rad/s."""
MAX_ACCELERATION = 80.0
"""Bound on the goals' common acceleration, m/s^2: beyond it the cloth is carried along, so that a
teleport or a jerk of a slider does not throw it. A landing after a jump has half of it."""
JUMP_M, JUMP_M_PER_S = 0.3, 12.0
"""Mean move of the goals within a frame, common acceleration apart, beyond both of which the cloth
is settled anew: a turn about."""
SETTLE_TICKS, SETTLE_BLOCK = 800, 80
SETTLED_M = 0.001
"""Bound on the ticks in which cloth settles. It stops after a block in which no point moves more
than `SETTLED_M`."""
SETTLE_DAMPING = 0.9
"""Share of its velocity that a point keeps in each tick while it settles."""


@dataclass(frozen=True)
class ClothInputs:
    """Pose of what the cloth hangs on, in one frame. Body frame (Y up), m, float32."""

    goals: Float32[np.ndarray, "P 3"]
    """Skinned places of the points."""
    rest_down: Float32[np.ndarray, "P 3"]
    """Direction that was down at rest, turned with each point's carrier; unit."""
    spheres: Float32[np.ndarray, "S 3"]
    """Posed centres of the capsules' ends."""


@dataclass(frozen=True)
class Surroundings:
    """Forces from outside, which a user may change at any time."""

    gravity: float = 1.0
    """Share of the earth's gravity."""
    wind: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Velocity of the air, m/s, body frame."""
    stiffness: float = 1.0
    """Factor on the frequency of the pull to the skinned place."""
    grab: tuple[int, tuple[float, float, float]] | None = None
    """Point that is pulled to a place, m, body frame; a held one does not follow."""


@dataclass
class ClothState:
    """Moving state of the cloth at its last tick, and the frame's inputs."""

    places: Float32[np.ndarray, "P 3"]
    velocities: Float32[np.ndarray, "P 3"]
    inputs: ClothInputs
    drift: Float32[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3, np.float32))
    """Common velocity of the goals, m/s."""
    since_tick_s: float = 0.0
    """Time from the last tick to the frame, s; 0 at 25 frames a second."""

    def copy(self) -> "ClothState":
        """Copy what the simulation changes."""
        return replace(self, places=self.places.copy(), velocities=self.velocities.copy())

    def shown(self, model: ClothModel) -> Float32[np.ndarray, "P 3"]:
        """Extrapolate the places to the frame, m; held points are where the skinning has them."""
        if self.since_tick_s == 0.0:
            return self.places.copy()
        places = self.places + np.float32(self.since_tick_s) * self.velocities
        held = model.looseness == 0
        places[held] = self.inputs.goals[held]
        return places


def place_inputs(
    model: ClothModel, goals: Float32[np.ndarray, "P 3"], joints: np.ndarray
) -> ClothInputs:
    """Make the inputs of one frame. goals: skinned points; joints: transforms [J, 4, 4]; m."""
    frames = joints[model.carriers, :3, :3]
    return ClothInputs(
        goals=np.ascontiguousarray(goals, np.float32),
        rest_down=np.einsum("pij,pj->pi", frames, model.carried_down).astype(np.float32),
        spheres=model.colliders.posed(joints),
    )


def settle(
    model: ClothModel, inputs: ClothInputs, around: Surroundings | None = None
) -> ClothState:
    """Start at rest in a pose."""
    state = ClothState(inputs.goals.copy(), np.zeros_like(inputs.goals), inputs)
    for _ in range(SETTLE_TICKS // SETTLE_BLOCK):
        before = state.places.copy()
        calm(model, state, around)
        if np.abs(state.places - before).max(initial=0.0) < SETTLED_M:
            break
    state.velocities[:] = 0.0
    return state


def calm(model: ClothModel, state: ClothState, around: Surroundings | None = None) -> None:
    """Run a block of ticks in which a state settles in its pose, in place."""
    _simulate(model, state, state.inputs, around, SETTLING, SETTLE_DAMPING)


def advance(
    model: ClothModel,
    state: ClothState,
    inputs: ClothInputs,
    seconds: float,
    around: Surroundings | None = None,
) -> None:
    """Advance a state to the next frame's pose, in place. A jump of the pose settles it anew."""
    if seconds <= 0.0 or not len(model.vertices):
        return
    goals = inputs.goals - state.inputs.goals
    step = plan_step(state, goals.mean(0), seconds)
    state.places += step.shift
    if is_jump(float(np.linalg.norm(goals - step.shift, axis=1).mean()), seconds):
        fresh = settle(model, inputs, around)
        state.places, state.velocities, state.since_tick_s = fresh.places, fresh.velocities, 0.0
    else:
        _simulate(model, state, inputs, around, step, 1.0)
    state.inputs = inputs


class Step(NamedTuple):
    """Ticks from one pose to the next."""

    ticks: int
    first_share: float
    """Share of the way between the poses at the first tick."""
    tick_share: float
    """Share of the way of a tick."""
    seconds: float
    shift: Float32[np.ndarray, "3"]
    """Move of the earlier pose, and of the cloth with it, before the ticks, m."""


SETTLING = Step(
    SETTLE_BLOCK, 1 / SETTLE_BLOCK, 1 / SETTLE_BLOCK, SETTLE_BLOCK * TICK_S, np.zeros(3, np.float32)
)
"""Block of ticks in a pose that stays."""


class Clock(Protocol):
    """Part of a state that its next step depends on besides poses."""

    drift: Float32[np.ndarray, "3"]
    since_tick_s: float


def plan_step(state: Clock, move: Float32[np.ndarray, "3"], seconds: float) -> Step:
    """Plan the ticks until the next frame, and let the state's clock and drift go on to it.

    move: mean of the goals', m. What it has beyond the bound on their common acceleration carries
    the cloth along.
    """
    sudden = move - np.float32(seconds) * state.drift
    length = float(np.linalg.norm(sudden))
    surplus = max(0.0, length - MAX_ACCELERATION * seconds**2)
    shift = (surplus / max(length, 1e-12) * sudden).astype(np.float32)
    state.drift = (move - shift) / np.float32(seconds)
    # Ticks have a clock of their own, which goes on through the frames.
    seconds = min(seconds, LONGEST_S)
    ahead = state.since_tick_s + seconds
    ticks = math.floor(ahead / TICK_S + 1e-4)
    first_share = (TICK_S - state.since_tick_s) / seconds
    since_s = max(0.0, ahead - ticks * TICK_S)
    state.since_tick_s = 0.0 if since_s < 1e-4 * TICK_S else since_s
    return Step(ticks, first_share, TICK_S / seconds, seconds, shift)


def is_jump(move_m: float, seconds: float) -> bool:
    """Tell whether the cloth is settled anew. move_m: mean of the goals' own moves."""
    return move_m > JUMP_M and move_m > JUMP_M_PER_S * seconds


def tick_factors(
    model: ClothModel, around: Surroundings | None
) -> tuple[Float32[np.ndarray, "P 2"], Float32[np.ndarray, "13"]]:
    """Compute what a tick multiplies with: (of each point, of all).

    Of a point: share of the way to its goal, share of its velocity that it keeps. Of all: air,
    gravity, hang, margin, girth, friction, floor, wind, softness of links that are stretched,
    compressed, across an edge.
    """
    around, constants = around or Surroundings(), model.constants
    omega = np.clip(pull_frequencies(model.looseness) * around.stiffness, 0.0, MAX_HZ)
    if around.grab is not None:
        omega[around.grab[0]] = max(GRAB, omega[around.grab[0]])
    square = (omega * TICK_S) ** 2
    shares = np.where(model.looseness > 0, square / (1.0 + square), 1.0)
    keeps = np.exp(-(constants.follow + 2.0 * constants.ratio * omega) * TICK_S)
    links = (constants.stretch, constants.compress, constants.bend)
    factors = [
        math.exp(-constants.air * TICK_S), GRAVITY * around.gravity, constants.hang,
        constants.margin, constants.girth, constants.friction, max(model.floor_m, -1e9),
        *around.wind, *(1.0 / (frequency * TICK_S) ** 2 for frequency in links),
    ]  # fmt: skip
    return np.stack((shares, keeps), 1).astype(np.float32), np.array(factors, np.float32)


def grabbed_point(model: ClothModel, around: Surroundings | None) -> int | None:
    """Return the point that is pulled to a place of its own; None where none is."""
    if around is None or around.grab is None or model.looseness[around.grab[0]] <= 0:
        return None
    return around.grab[0]


def _simulate(
    model: ClothModel, state: ClothState, inputs: ClothInputs, around: Surroundings | None,
    step: Step, damping: float,
) -> None:  # fmt: skip
    """Run the ticks of a step."""
    if not len(model.vertices):
        return
    start, end = state.inputs.goals + step.shift, inputs.goals
    point = grabbed_point(model, around)
    if point is not None:
        assert around is not None
        assert around.grab is not None
        end = end.copy()
        start[point] = end[point] = around.grab[1]
    pulls, factors = tick_factors(model, around)
    way = np.array([step.first_share, step.tick_share, step.seconds, damping], np.float32)
    _run(
        state.places, state.velocities, model.looseness > 0, model.anchors, pulls, model.links,
        model.lengths, model.is_bend, model.room, model.colliders.radii, model.colliders.capsules,
        start, end, state.inputs.rest_down, inputs.rest_down,
        state.inputs.spheres + step.shift, inputs.spheres, factors, way, step.ticks, model.passes,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _run(
    x, v, free, anchors, pulls, links, lengths, is_bend, room, radii, capsules,
    goals0, goals1, downs0, downs1, spheres0, spheres1, factors, way, ticks, passes,
):  # fmt: skip
    """Run ticks: places x and velocities v [P, 3], in place."""
    air, gravity, hang = factors[0], factors[1], factors[2]
    wind, softness = factors[7:10], factors[10:13]
    first_share, share_of_tick, seconds, damping = way[0], way[1], way[2], way[3]
    h, inverse = np.float32(TICK_S), np.float32(1.0 / TICK_S)
    limit = np.float32(MAX_SPEED)
    before = np.empty_like(x)
    t = first_share - share_of_tick
    spheres = spheres0 + t * (spheres1 - spheres0)
    earlier = spheres.copy()
    counts = np.zeros(len(x), np.int32)
    candidates = np.zeros((len(x), CANDIDATES), np.int32)
    carried = np.empty(len(x), np.float32)
    for tick in range(ticks):
        t = first_share + np.float32(tick) * share_of_tick
        if tick % BLOCK == 0:
            span = np.float32(min(BLOCK, ticks - tick)) * h
            _find_candidates(
                x, v, free, radii, capsules, spheres, spheres1 - spheres0, span, seconds,
                counts, candidates,
            )  # fmt: skip
            _weigh(x, goals1, anchors, hang, carried)
        earlier[:] = spheres
        for s in range(len(spheres)):
            for d in range(3):
                spheres[s, d] = spheres0[s, d] + t * (spheres1[s, d] - spheres0[s, d])

        # Predict: damped velocity, weight, pull to the skinned place.
        for i in range(len(x)):
            for d in range(3):
                before[i, d] = x[i, d]
                goal = goals0[i, d] + t * (goals1[i, d] - goals0[i, d])
                if not free[i]:
                    x[i, d] = goal
                    continue
                own = (goals1[i, d] - goals0[i, d]) / seconds
                weight = -gravity * carried[i] * (downs0[i, d] + t * (downs1[i, d] - downs0[i, d]))
                if d == 1:
                    weight -= gravity
                speed = own + pulls[i, 1] * (v[i, d] - own)
                speed = wind[d] + air * (speed - wind[d]) + h * weight
                y = x[i, d] + h * speed
                x[i, d] = y + pulls[i, 0] * (goal - y)

        # Links, then colliders.
        for _ in range(passes):
            _restore_lengths(x, free, links, lengths, is_bend, softness)
        _push_out(
            x, before, free, room, radii, capsules, spheres, earlier, counts, candidates, factors
        )

        # Derive velocities from the moves, bounded relative to the goals'.
        for i in range(len(x)):
            square = np.float32(0.0)
            for d in range(3):
                own = (goals1[i, d] - goals0[i, d]) / seconds
                v[i, d] = (x[i, d] - before[i, d]) * inverse * damping
                square += (v[i, d] - own) ** 2
            if square > limit * limit:
                share = limit / np.sqrt(square)
                for d in range(3):
                    own = (goals1[i, d] - goals0[i, d]) / seconds
                    v[i, d] = own + share * (v[i, d] - own)


@njit(cache=True, nogil=True)
def _restore_lengths(x, free, links, lengths, is_bend, softness):
    """Restore the links' lengths, colour by colour. Cloth resists a pull and folds under a push."""
    zero, one, tiny = np.float32(0.0), np.float32(1.0), np.float32(1e-9)
    for k in range(len(links)):
        i, j = links[k, 0], links[k, 1]
        wi, wj = one if free[i] else zero, one if free[j] else zero
        dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz) + tiny
        excess = length - lengths[k]
        soft = softness[2] if is_bend[k] else softness[0] if excess > zero else softness[1]
        push = excess / (length * (wi + wj + soft))
        x[i, 0] += wi * push * dx
        x[i, 1] += wi * push * dy
        x[i, 2] += wi * push * dz
        x[j, 0] -= wj * push * dx
        x[j, 1] -= wj * push * dy
        x[j, 2] -= wj * push * dz


@njit(cache=True, nogil=True)
def _weigh(x, goals, anchors, hang, carried):
    """Compute the share of its weight that each point carries in its own shape, for a block."""
    low, range_ = np.float32(TURNED), np.float32(UPRIGHT - TURNED)
    zero, one, tiny = np.float32(0.0), np.float32(1.0), np.float32(1e-12)
    for i in range(len(x)):
        a = anchors[i]
        dot, now, rest = zero, tiny, tiny
        for d in range(3):
            p, q = x[i, d] - x[a, d], goals[i, d] - goals[a, d]
            dot += p * q
            now += p * p
            rest += q * q
        cosine = dot / np.sqrt(now * rest)
        carried[i] = hang * min(one, max(zero, (cosine - low) / range_)) if a != i else hang


@njit(cache=True, nogil=True)
def _find_candidates(
    x, v, free, radii, capsules, spheres, moves, span, seconds, counts, candidates
):  # fmt: skip
    """List for each point the capsules that it may touch within a block of ticks."""
    half, near = np.float32(0.5), np.float32(NEAR_M)
    count = len(capsules)
    bounds = np.empty((count, 4), np.float32)
    for c in range(count):
        a, b = capsules[c, 0], capsules[c, 1]
        length, far = np.float32(0.0), np.float32(0.0)
        for d in range(3):
            bounds[c, d] = half * (spheres[a, d] + spheres[b, d])
            length += (spheres[b, d] - spheres[a, d]) ** 2
            far += max(moves[a, d] ** 2, moves[b, d] ** 2)
        bounds[c, 3] = (
            half * np.sqrt(length) + max(radii[a], radii[b]) + near + np.sqrt(far) * span / seconds
        )
    for i in range(len(x)):
        counts[i] = 0
        if not free[i]:
            continue
        way = np.sqrt(v[i, 0] ** 2 + v[i, 1] ** 2 + v[i, 2] ** 2) * span
        for c in range(count):
            dx, dy, dz = x[i, 0] - bounds[c, 0], x[i, 1] - bounds[c, 1], x[i, 2] - bounds[c, 2]
            reach = bounds[c, 3] + way
            if dx * dx + dy * dy + dz * dz < reach * reach and counts[i] < CANDIDATES:
                candidates[i, counts[i]] = c
                counts[i] += 1


@njit(cache=True, nogil=True)
def _push_out(
    x, before, free, room, radii, capsules, spheres, earlier, counts, candidates, factors
):  # fmt: skip
    """Push points out of the capsules, with friction, and off the floor."""
    margin, girth, friction, floor = factors[3], factors[4], factors[5], factors[6]
    zero, one, tiny = np.float32(0.0), np.float32(1.0), np.float32(1e-9)
    slack = np.float32(SLACK_M)
    for i in range(len(x)):
        if not free[i]:
            continue
        for n in range(counts[i]):
            c = candidates[i, n]
            a, b = capsules[c, 0], capsules[c, 1]
            ex, ey, ez = (
                spheres[b, 0] - spheres[a, 0],
                spheres[b, 1] - spheres[a, 1],
                spheres[b, 2] - spheres[a, 2],
            )
            px, py, pz = x[i, 0] - spheres[a, 0], x[i, 1] - spheres[a, 1], x[i, 2] - spheres[a, 2]
            t = (px * ex + py * ey + pz * ez) / (ex * ex + ey * ey + ez * ez + tiny)
            t = min(one, max(zero, t))
            dx, dy, dz = px - t * ex, py - t * ey, pz - t * ez
            radius = radii[a] + t * (radii[b] - radii[a])
            # Never nearer than the margin, but where the template is nearer: as near as that.
            clearance = min(radius + room[i, c] - slack, girth * radius + margin)
            square = dx * dx + dy * dy + dz * dz
            if clearance <= zero or square >= clearance * clearance:
                continue
            away = np.sqrt(square) + tiny
            nx, ny, nz = dx / away, dy / away, dz / away
            depth = clearance - away
            # Move relative to the collider's surface, along it.
            ux = x[i, 0] - before[i, 0] - _carried(spheres, earlier, a, b, t, 0)
            uy = x[i, 1] - before[i, 1] - _carried(spheres, earlier, a, b, t, 1)
            uz = x[i, 2] - before[i, 2] - _carried(spheres, earlier, a, b, t, 2)
            normal = ux * nx + uy * ny + uz * nz
            ux, uy, uz = ux - normal * nx, uy - normal * ny, uz - normal * nz
            slide = np.sqrt(ux * ux + uy * uy + uz * uz) + tiny
            stop = min(one, friction * depth / slide)
            x[i, 0] += depth * nx - stop * ux
            x[i, 1] += depth * ny - stop * uy
            x[i, 2] += depth * nz - stop * uz
        x[i, 1] = max(x[i, 1], floor)


@njit(cache=True, nogil=True, inline="always")
def _carried(spheres, earlier, a, b, t, d):
    """Compute the move of a place on a capsule's axis in this tick, along one axis."""
    first, second = spheres[a, d] - earlier[a, d], spheres[b, d] - earlier[b, d]
    return first + t * (second - first)
