"""Dynamics of cloth on a GPU: one block of threads a simulation, many frames in one launch.

The same work in the same order as on the CPU (dynamics.py): results differ by rounding, which
folding cloth amplifies over seconds. Many simulations run at once: clips of a fit, and values that
are tried.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ash_core.cloth import dynamics
from ash_core.cloth.colliders import MAX_CAPSULES
from ash_core.cloth.dynamics import (
    ClothInputs,
    ClothState,
    Surroundings,
    grabbed_point,
    is_jump,
    plan_step,
    tick_factors,
)
from ash_core.cloth.model import ClothModel
from ash_core.cloth.solvers import ClipInputs, CpuSolver, Places, Solver
from ash_core.geometry.rotations import SHORTEST
from ash_core.gpu.kernels import Program, missing

T = TypeVar("T")

THREADS: Final = 768
MAX_POINTS: Final = 2560
"""Points that fit shared memory, 16 bytes each; more are kept in global memory."""
MAX_COLOURS: Final = 64
"""Colours of links: as many as the most links of a point, and a few more."""
FACTORS: Final = 13
"""Numbers of all points that `tick_factors` returns."""
DEFINES: Final = {
    "THREADS": THREADS,
    "MAX_POINTS": MAX_POINTS,
    "MAX_SPHERES": 2 * MAX_CAPSULES,
    "MAX_CAPSULES": MAX_CAPSULES,
    "MAX_COLOURS": MAX_COLOURS,
    "FACTORS": FACTORS,
    "LEAST_NORMAL": SHORTEST,
    **{
        name: getattr(dynamics, name)
        for name in (
            *("TICK_S", "MAX_SPEED", "SLACK_M", "NEAR_M", "BLOCK", "UPRIGHT", "TURNED"),
            *("CANDIDATES", "SETTLE_TICKS", "SETTLE_BLOCK", "SETTLED_M", "SETTLE_DAMPING"),
        )
    },
}
SOURCE: Final = Path(__file__).with_name("cloth.cu")
PROGRAM: Final = Program(SOURCE, defines={**DEFINES, "IS_LARGE": 0})
LARGE: Final = Program(SOURCE, defines={**DEFINES, "IS_LARGE": 1})
"""For more than `MAX_POINTS`."""
MOST_RUNS: Final = 2048
"""Bound on the simulations of a launch: 40 MB for a skirt of 1,500 points."""
STEP, SETTLE = 0.0, 1.0
"""Modes of a step."""


class GpuInputs(NamedTuple):
    """Pose of what the cloth hangs on, as `ClothInputs`, on the GPU; of one frame or of many."""

    goals: Float32[Tensor, "*n P 3"]
    rest_down: Float32[Tensor, "*n P 3"]
    spheres: Float32[Tensor, "*n S 3"]


@dataclass
class GpuState:
    """Moving state of the cloth, as `ClothState`, on the GPU."""

    places: Float32[Tensor, "P 3"]
    velocities: Float32[Tensor, "P 3"]
    inputs: GpuInputs
    drift: Float32[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3, np.float32))
    since_tick_s: float = 0.0


class Steps(NamedTuple):
    """Steps of simulations in the kernel's layout."""

    rows: list[tuple[int, int, int, int]]
    """Earlier pose, pose, ticks, row of the output or -1."""
    times: list[tuple[float, float, float, float]]
    """Share of the way at the first tick, share of a tick, seconds, time from the last tick."""
    shifts: list[tuple[float, float, float, float]]
    """Shift, m, and mode."""


class GpuSolver:
    """Simulation on a GPU; see `solvers.Solver`."""

    ahead: ClassVar[int] = 25

    def __init__(self, model: ClothModel, device: torch.device) -> None:
        """Raises: CudaError where the GPU cannot run the kernel."""
        self._program = PROGRAM if len(model.vertices) <= MAX_POINTS else LARGE
        self._program.load(device)
        self.model, self.device = model, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        colliders, kinds = model.colliders, model.is_bend.astype(np.float32)
        weights = np.concatenate([model.follower_weights, model.follower_heights[:, None]], 1)
        self._carriers, self._down = self._put(model.carriers), self._put(model.carried_down)
        self._sphere_joints = self._put(colliders.joints)
        self._sphere_centres = self._put(colliders.centres)
        self._tables = (
            len(model.vertices), len(model.colours) - 1, len(colliders.capsules),
            len(colliders.radii), len(model.followers),
            *map(self._put, (
                model.links.astype(np.int32), np.stack((model.lengths, kinds), 1),
                model.colours.astype(np.int32), model.anchors.astype(np.int32),
                (model.looseness > 0).astype(np.float32), model.room, colliders.radii,
                colliders.capsules.astype(np.int32), model.follower_corners.astype(np.int32),
                weights.astype(np.float32),
            )),
        )  # fmt: skip

    @torch.no_grad()
    def inputs(
        self, goals: Float[Tensor, "n P 3"], joints: Float[Tensor, "n J 4 4"]
    ) -> list[GpuInputs]:
        """Make the inputs of frames from skinned points and joint transforms, m."""
        joints = joints.to(self.device, torch.float32)
        downs = (joints[:, self._carriers, :3, :3] @ self._down[:, :, None])[..., 0]
        carriers = joints[:, self._sphere_joints]
        turned = (carriers[..., :3, :3] @ self._sphere_centres[:, :, None])[..., 0]
        goals = goals.to(self.device, torch.float32)
        rows = zip(goals, downs, turned + carriers[..., :3, 3], strict=True)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
        return [GpuInputs(*row) for row in rows]

    @torch.no_grad()
    def play(
        self,
        state: GpuState | None,
        inputs: Sequence[GpuInputs],
        seconds: float,
        around: Surroundings | None = None,
    ) -> tuple[GpuState, Callable[[], Places]]:
        """Play a state through poses; see `Solver`."""
        with torch.cuda.stream(self._stream):
            poses = stack_inputs([*inputs] if state is None else [state.inputs, *inputs])
            goals = poses.goals
            new = GpuState(
                (goals[0] if state is None else state.places).clone(),
                torch.zeros_like(goals[0]) if state is None else state.velocities.clone(),
                inputs[-1],
            )
            if state is not None:
                new.drift, new.since_tick_s = state.drift, state.since_tick_s
            shown = range(state is not None, len(goals))
            steps = plan_steps(goals, seconds, shown, new, state is None)
            point = grabbed_point(self.model, around)
            if point is not None:
                assert around is not None
                assert around.grab is not None
                goals[:, point] = goals.new_tensor(around.grab[1])
            out = self._launch(
                [self.model], around, poses, steps, [(0, len(steps.rows), 0, 0)],
                new.places, new.velocities, torch.empty_like(new.places), len(inputs),
            )  # fmt: skip
            return new, self._fetch(out)

    @torch.no_grad()
    def play_clips(
        self, models: Sequence[ClothModel], clips: Sequence[ClipInputs], starts: Any = None
    ) -> Iterator[tuple[list[Places], Tensor]]:
        """Play models through clips, all at once; see `solvers.Solver`."""
        # Steps of all clips, one after the other.
        steps, ranges, counts, poses, row = Steps([], [], []), [], [], [], 0
        for inputs, frames, fps in clips:
            clip = stack_inputs(inputs[: frames[-1] + 1])
            clock = GpuState(clip.goals[0], clip.goals[0], inputs[0])
            own = plan_steps(clip.goals, 1.0 / fps, frames, clock, True)
            ranges.append((len(steps.rows), len(own.rows)))
            steps.rows.extend((a + row, b + row, ticks, out) for a, b, ticks, out in own.rows)
            steps.times.extend(own.times)
            steps.shifts.extend(own.shifts)
            counts.append(len(frames))
            poses.append(clip)
            row += len(clip.goals)
        together = GpuInputs(*(torch.cat(parts) for parts in zip(*poses, strict=True)))

        # Runs of all models, as many at a time as memory is meant for.
        for part in _parts(models, MOST_RUNS // len(clips)):
            runs, total = [], 0
            for _ in part:
                for (first, length), count in zip(ranges, counts, strict=True):
                    runs.append((first, length, total, int(starts is not None)))
                    total += count
            shape = len(part), len(clips), len(self.model.vertices), 3
            places = torch.zeros(shape, device=self.device)
            if starts is not None:
                places[:] = starts
            settled = torch.empty_like(places)
            buffers = places, torch.zeros_like(places), settled
            out = self._launch(part, None, together, steps, runs, *buffers, total).cpu()
            of_runs = [rows.numpy() for rows in out.split(counts * len(part))]
            for k in range(len(part)):
                yield of_runs[k * len(clips) : (k + 1) * len(clips)], settled[k]

    def on_cpu(self, state: GpuState) -> ClothState:
        """Copy a state to the CPU."""
        with torch.cuda.stream(self._stream):
            inputs = ClothInputs(*(part.cpu().numpy() for part in state.inputs))
            places, velocities = (v.cpu().numpy() for v in (state.places, state.velocities))
        return ClothState(places, velocities, inputs, state.drift, state.since_tick_s)

    def _launch(
        self,
        models: Sequence[ClothModel],
        around: Surroundings | None,
        poses: GpuInputs,
        steps: Steps,
        runs: list[tuple[int, int, int, int]],
        places: Tensor,
        velocities: Tensor,
        settled: Tensor,
        count: int,
    ) -> Float32[Tensor, "n W 3"]:
        """Run the kernel; runs go through the models, and for each through its clips."""
        n_points, n_runs = self._tables[0], len(runs)
        each = n_runs // len(models)
        factors = [tick_factors(model, around) for model in models]
        pulls = torch.from_numpy(np.stack([pull for pull, _ in factors]))
        scalars = torch.from_numpy(np.stack([factor for _, factor in factors]))
        words = (
            torch.tensor(runs, dtype=torch.int32), scalars.repeat_interleave(each, 0),
            pulls.repeat_interleave(each, 0), torch.tensor(steps.rows, dtype=torch.int32),
            torch.tensor(steps.times), torch.tensor(steps.shifts),
        )  # fmt: skip
        size = n_runs, n_points

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=self.device)

        out = empty(count, n_points + len(self.model.followers), 3)
        large = empty(*size, 4) if n_points > MAX_POINTS else None
        self._program.launch(
            "simulate_cloth", n_runs, THREADS, *self._tables[:5], models[0].passes,
            *self._tables[5:],
            *(word.to(self.device) for word in words), *poses, places, velocities, settled,
            empty(*size, 3), empty(*size), empty(*size, 2, dtype=torch.int32), large, out,
        )  # fmt: skip
        return out

    def _fetch(self, out: Float32[Tensor, "n W 3"]) -> Callable[[], Places]:
        """Copy to the CPU while other work goes on; what is returned waits for it."""
        if self._stream is None:
            return out.numpy
        host = torch.empty(out.shape, pin_memory=True)
        host.copy_(out, non_blocking=True)
        done = torch.cuda.Event()
        done.record(self._stream)

        def wait() -> Places:
            done.synchronize()
            return host.numpy()

        return wait

    def _put(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def solver_on(device: torch.device, model: ClothModel, threads: int = 1) -> Solver:
    """Choose the solver for a device; the CPU's where a GPU cannot run the kernel."""
    colliders = model.colliders
    fits = len(colliders.capsules) <= MAX_CAPSULES and len(colliders.radii) <= 2 * MAX_CAPSULES
    fits = fits and len(model.colours) <= MAX_COLOURS + 1
    if device.type == "cuda" and missing() is None and fits and len(model.vertices):
        return GpuSolver(model, device)
    return CpuSolver(model, threads)


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(values), max(1, size)):
        yield values[first : first + max(1, size)]


def stack_inputs(inputs: Sequence[GpuInputs]) -> GpuInputs:
    """Stack the inputs of frames."""
    return GpuInputs(*(torch.stack(parts) for parts in zip(*inputs, strict=True)))


def plan_steps(
    goals: Float32[Tensor, "n P 3"],
    seconds: float,
    shown: Sequence[int],
    clock: GpuState,
    settles: bool,
) -> Steps:
    """Plan the steps to the poses: those after the first, or all where the first is settled in.

    shown: poses that are put out, in this order. clock: goes on to the last pose.
    """
    rows_of = {pose: row for row, pose in enumerate(shown)}
    steps = Steps([], [], [])
    if settles:
        steps.rows.append((0, 0, 0, rows_of.get(0, -1)))
        steps.times.append((0.0, 0.0, 0.0, 0.0))
        steps.shifts.append((0.0, 0.0, 0.0, SETTLE))
    moves = goals[1:] - goals[:-1]
    lengths = moves.norm(dim=2).mean(1, keepdim=True)
    means = torch.cat((moves.mean(1), lengths), 1).cpu().numpy()
    for k, (*move, length) in enumerate(means):
        step = plan_step(clock, np.array(move, np.float32), seconds)
        own, (x, y, z) = float(length), step.shift.tolist()
        if is_jump(own + float(np.linalg.norm(step.shift)), seconds):
            own = float((moves[k] - moves.new_tensor((x, y, z))).norm(dim=1).mean())
        jumps = is_jump(own, seconds)
        clock.since_tick_s *= not jumps
        steps.rows.append((k, k + 1, step.ticks, rows_of.get(k + 1, -1)))
        times = step.first_share, step.tick_share, step.seconds, clock.since_tick_s
        steps.times.append(times)
        steps.shifts.append((0.0, 0.0, 0.0, SETTLE) if jumps else (x, y, z, STEP))
    return steps
