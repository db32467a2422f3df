"""Cloth on a GPU: the kernel does what the CPU does, in CUDA's stand-in and on a GPU."""

import numpy as np
import pytest
import torch
from cuda_on_cpu import StandIn, needs_compiler
from test_cloth import farthest, inputs, skin, skirt
from test_true_surface import poses, walk

from ash_core.cloth import gpu
from ash_core.cloth.dynamics import Surroundings
from ash_core.cloth.fit import STARTS, Start, begin
from ash_core.cloth.gpu import GpuInputs, GpuSolver
from ash_core.cloth.model import ClothModel, with_looseness
from ash_core.cloth.solvers import ClipInputs, CpuSolver
from ash_core.cloth.track import ClothTrack
from ash_core.conventions import FPS

PLACES = [
    pytest.param("cpu", marks=needs_compiler),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


@pytest.fixture(params=PLACES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The stand-in, which is slower by far, or a GPU."""
    if request.param == "cpu":
        for name in ("PROGRAM", "LARGE"):
            monkeypatch.setattr(gpu, name, StandIn(getattr(gpu, name)))
    return request.param


def solver_of(model: ClothModel, device: str) -> GpuSolver:
    return GpuSolver(model, torch.device(device))


def pose_inputs(solver: GpuSolver, dofs: np.ndarray) -> list[GpuInputs]:
    goals, _, joints = skin(dofs, solver.model.vertices)
    return solver.inputs(torch.from_numpy(goals), torch.from_numpy(joints))


def both(
    model: ClothModel,
    dofs: np.ndarray,
    device: str,
    around: Surroundings | None = None,
    fps: float = FPS,
) -> tuple[np.ndarray, np.ndarray]:
    """Play poses from rest on the CPU and by the kernel: places of both."""
    solver = solver_of(model, device)
    _, mine = CpuSolver(model).play(None, inputs(model, dofs), 1 / fps, around)
    _, theirs = solver.play(None, pose_inputs(solver, dofs), 1 / fps, around)
    return mine(), theirs()


@pytest.mark.parametrize("start", STARTS, ids=["shape", "weight"])
def test_the_kernel_plays_as_the_cpu(device: str, start: Start) -> None:
    mine, theirs = both(begin(skirt(), start), walk()[20:26], device)
    assert mine.shape == theirs.shape
    assert farthest(mine, mine[:1]) > 0.05
    assert farthest(mine, theirs) < 2e-3


def test_frames_between_ticks_wind_and_a_pull(device: str) -> None:
    point = int(skirt().looseness.argmax())
    x, y, z = (skirt().places[point] + np.array([0.1, 0.2, 0.3])).tolist()
    around = Surroundings(0.5, (3.0, 0.0, 1.0), 2.0, grab=(point, (x, y, z)))
    mine, theirs = both(skirt(), walk()[20:24], device, around, fps=120.0)
    calm = both(skirt(), walk()[20:24], device, fps=120.0)[0]
    assert farthest(mine, calm) > 0.05
    assert farthest(mine, theirs) < 2e-3


def test_jerks_and_jumps(device: str) -> None:
    """Carry the cloth along with a jerk, and settle it anew after a turn about."""
    away = np.array([0.0, 0.4, 0.4, 0.4])
    dofs = poses(4, translate_x=away, translate_z=0.3 * away)
    dofs[3] = poses(1, rotate_y=np.array([np.pi]))[0]
    mine, theirs = both(skirt(), dofs, device)
    assert farthest(mine, theirs) < 2e-3


def test_states_go_on_and_come_back_to_the_cpu(device: str) -> None:
    model = skirt()
    solver = solver_of(model, device)
    frames = pose_inputs(solver, walk()[20:26])
    _, whole = solver.play(None, frames, 1 / FPS)
    state, first = solver.play(None, frames[:3], 1 / FPS)
    before = solver.on_cpu(state)
    end, second = solver.play(state, frames[3:], 1 / FPS)
    assert np.array_equal(np.concatenate([first(), second()]), whole())
    assert np.array_equal(solver.on_cpu(state).places, before.places), "a state was changed"
    assert np.array_equal(solver.on_cpu(end).shown(model), second()[-1][: len(model.vertices)])


def test_many_models_play_many_clips_at_once(device: str) -> None:
    """Play each model through each clip as one alone; from given starts, as the CPU does."""
    models = [with_looseness(skirt(), share * skirt().looseness) for share in (1.0, 0.8)]
    cpu, solver = CpuSolver(skirt()), solver_of(skirt(), device)
    cuts = [(walk()[20:24], [1, 3]), (walk()[40:43], [0, 2])]
    on_cpu = [ClipInputs(inputs(skirt(), dofs), frames, FPS) for dofs, frames in cuts]
    on_gpu = [ClipInputs(pose_inputs(solver, dofs), frames, FPS) for dofs, frames in cuts]
    mine, theirs = (list(one.play_clips(models, clips)) for one, clips in
                    ((cpu, on_cpu), (solver, on_gpu)))  # fmt: skip
    for (own, _), (other, _) in zip(mine, theirs, strict=True):
        for one, two in zip(own, other, strict=True):
            assert one.shape == two.shape
            assert farthest(one, two) < 2e-3
    assert farthest(mine[0][0][0], mine[1][0][0]) > 2e-3
    again = [next(one.play_clips(models[1:], clips, ends[0][1])) for one, clips, ends in
             ((cpu, on_cpu, mine), (solver, on_gpu, theirs))]  # fmt: skip
    for one, two in zip(again[0][0], again[1][0], strict=True):
        assert farthest(one, two) < 2e-3


def test_more_points_than_shared_memory_holds(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = both(skirt(), walk()[20:22], device)[1]
    monkeypatch.setattr(gpu, "MAX_POINTS", 64)
    assert np.array_equal(both(skirt(), walk()[20:22], device)[1], wanted)


def test_a_track_plays_ahead_and_seeks(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are the same in any order, as those of parts that were played ahead."""
    monkeypatch.setattr(GpuSolver, "ahead", 5)
    monkeypatch.setattr("ash_core.cloth.track.STORED_EVERY", 10)
    solver = solver_of(skirt(), device)
    frames = pose_inputs(solver, walk()[20:43])

    def track() -> ClothTrack:
        return ClothTrack(solver, lambda a, b: frames[a:b], [0] * len(frames), FPS)

    straight, jumping = track(), track()
    played = np.concatenate([straight.places([k]) for k in range(len(frames))])
    cpu = CpuSolver(skirt()).play(None, inputs(skirt(), walk()[20:43]), 1 / FPS)[1]()
    assert np.linalg.norm(played - cpu, axis=2).mean() < 1e-3
    for frame in (17, 3, 22, 0, 11):
        assert np.array_equal(jumping.places([frame])[0], played[frame]), frame
        shown = solver.on_cpu(jumping.state(frame)).shown(skirt())
        assert np.array_equal(shown, played[frame][: len(shown)]), frame
    near = track()
    assert not near.approach([22], 2)
    assert near.approach([22], 9)
    assert np.array_equal(near.places([22])[0], played[22])
