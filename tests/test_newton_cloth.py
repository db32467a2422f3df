"""Laws of the cloth by Newton, on a strip beside a ball. Most need the extra `newton`."""

import itertools
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from test_true_surface import actor, plain, poses, same, skirted, walk

from ash_core.cli import main
from ash_core.studio.truth.cloth import ClothPose, ClothSolver, Fabric, Swing, weave
from ash_core.studio.truth.dressing import COTTON
from ash_core.studio.truth.newton_cloth import NEAR_M, NewtonCloth, import_newton
from ash_core.studio.truth.proxies import Proxies
from ash_core.studio.truth.skinned import normals_of
from ash_core.studio.truth.true_surface import KEEP, TrueActor

ROWS, COLUMNS, STEP_M = 9, 4, 0.04
RADIUS_M = 0.12
GAP_M = 0.008
FRAME_S = 0.04


def strip() -> tuple[np.ndarray, np.ndarray]:
    """Hang a strip down from y = 1: places [ROWS * COLUMNS, 3], row by row, and faces."""
    row, column = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    places = np.stack([STEP_M * column, 1.0 - STEP_M * row, 0.0 * row], 1)
    corner = np.flatnonzero((row < ROWS - 1) & (column < COLUMNS - 1))[:, None]
    below = corner + COLUMNS
    return places, np.concatenate(
        [np.hstack([corner, below, corner + 1]), np.hstack([corner + 1, below, below + 1])]
    )


def ball() -> tuple[np.ndarray, np.ndarray]:
    """Make a sphere behind the lower half of the strip: vertices, outward faces."""
    k = np.arange(300) + 0.5
    height, angle = 1 - k / 150, np.pi * (1 + 5**0.5) * k
    around = np.sqrt(1 - height**2)
    points = np.stack([around * np.cos(angle), height, around * np.sin(angle)], 1)
    faces = ConvexHull(points).simplices.astype(np.int64)
    a, b, c = points[faces].transpose(1, 0, 2)
    inward = ((a + b + c) * np.cross(b - a, c - a)).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points * RADIUS_M + [1.5 * STEP_M, 0.75, -RADIUS_M - 0.03], faces


def sheets(layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Hang strips one before the other: places, faces."""
    places, faces = strip()
    return (
        np.concatenate([places + np.array([0.0, 0.0, k * GAP_M]) for k in range(layers)]),
        np.concatenate([faces + k * len(places) for k in range(layers)]),
    )


@cache
def solver(layers: int = 1) -> NewtonCloth:
    """Make strips, each held by its first row, and a ball behind them."""
    pytest.importorskip("newton")
    body, sides = ball()
    places, faces = sheets(layers)
    loose = np.tile(np.repeat(np.minimum(np.arange(ROWS), 1.0), COLUMNS), layers)
    no_proxies = Proxies(
        np.zeros(0, int), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 2), np.int64)
    )
    fabric = weave(places, faces, np.full(len(faces), COTTON), loose, no_proxies)
    return NewtonCloth(fabric, np.concatenate([places, body]), sides + len(places))


def posed(cloth_m: float = 0.0, body_m: float = 0.0, layers: int = 1) -> ClothPose:
    """Move the held rows and the ball along Z."""
    places, body = sheets(layers)[0] + [0.0, 0.0, cloth_m], ball()[0] + [0.0, 0.0, body_m]
    return ClothPose(np.concatenate([places, body]), np.zeros((0, 3)), np.zeros(3))


def stretch(fabric: Fabric, swing: Swing) -> float:
    """Return the largest relative error of an edge's length."""
    edges = fabric.stiffness == fabric.stiffness.max()
    one, other = swing.places[fabric.links[edges]].transpose(1, 0, 2)
    return np.abs(np.linalg.norm(one - other, axis=1) / fabric.lengths[edges] - 1).max()


def test_a_strip_that_hangs_stays() -> None:
    swing = solver().settle(posed(), 1 / FRAME_S)
    assert np.abs(swing.places - strip()[0]).max() < 0.003
    assert (swing.velocities == 0).all()


def test_a_strip_falls_to_its_hanging_place_and_keeps_its_lengths() -> None:
    places, fabric = strip()[0], solver().fabric
    level = places.copy()
    level[:, 1:] = np.stack([0.0 * places[:, 1] + 1.0, 1.0 - places[:, 1]], 1)
    swing = Swing(level, np.zeros_like(level))
    lowest, worst = [], []
    for _ in range(50):
        solver().advance(swing, posed(body_m=-1.0), posed(body_m=-1.0), FRAME_S)
        lowest.append(swing.places[-1, 1])
        worst.append(stretch(fabric, swing))
    assert 0.9 < (1.0 - lowest[0]) / (0.5 * 9.81 * FRAME_S**2) < 1.2, "it starts in free fall"
    assert min(lowest) < 1.02 - STEP_M * (ROWS - 1)
    assert max(worst) < 0.05
    np.testing.assert_allclose(swing.places[:COLUMNS], places[:COLUMNS], atol=1e-6)


def test_the_body_pushes_cloth_ahead_of_it() -> None:
    swing = solver().settle(posed(), 1 / FRAME_S)
    nearest = []
    for before, after in itertools.pairwise(np.linspace(0.0, 0.12, 9)):
        solver().advance(swing, posed(body_m=before), posed(body_m=after), FRAME_S)
        away = swing.places - ball()[0].mean(0) - [0.0, 0.0, after]
        nearest.append(np.linalg.norm(away, axis=1).min())
    assert min(nearest) > RADIUS_M, "a point is inside the ball"
    assert nearest[-1] < RADIUS_M + 2 * NEAR_M
    assert swing.places[-COLUMNS:, 2].min() > 0.02


def test_a_layer_stays_on_the_one_beneath() -> None:
    """Layers are near enough to the body for the solver to know which one is beneath."""
    worn = solver(2)
    over, under = worn._over, worn._under
    assert len(over)
    assert (over - ROWS * COLUMNS == under).all()
    swing = worn.settle(posed(layers=2), 1 / FRAME_S)
    for before, after in itertools.pairwise(np.linspace(0.0, 0.12, 9)):
        worn.advance(swing, posed(0.0, before, 2), posed(0.0, after, 2), FRAME_S)
        normals = normals_of(swing.places, worn.fabric.faces)[under]
        height = ((swing.places[over] - swing.places[under]) * normals).sum(1)
        assert height.min() > 0.002, height.min()


def test_a_held_row_leads_and_the_hem_lags() -> None:
    swing = solver().settle(posed(body_m=-1.0), 1 / FRAME_S)
    for k in range(4):
        before, after = (posed(0.04 * t, -1.0) for t in (k, k + 1))
        solver().advance(swing, before, after, FRAME_S)
    moved = swing.places[:, 2]
    np.testing.assert_allclose(moved[:COLUMNS], 0.16, atol=1e-6)
    assert moved[-1] < 0.12


def test_the_same_state_goes_on_the_same_way() -> None:
    """Nothing stays in the solver between calls."""
    path = [posed(0.02 * k, 0.005 * k) for k in range(8)]
    swing = solver().settle(path[0], 1 / FRAME_S)
    states = [swing.copy()]
    for before, after in itertools.pairwise(path):
        solver().advance(swing, before, after, FRAME_S)
        states.append(swing.copy())
    again = states[3].copy()
    for k in (3, 4):
        solver().advance(again, path[k], path[k + 1], FRAME_S)
    np.testing.assert_array_equal(again.places, states[5].places)
    np.testing.assert_array_equal(again.velocities, states[5].velocities)


@pytest.mark.slow
def test_an_actor_wears_it() -> None:
    pytest.importorskip("newton")
    worn = TrueActor(skirted().data, skirted().dressing, cloth="newton")
    motion = worn.play(walk()[:6])
    late = motion.frame(5)
    assert same(late, worn.play(walk()[:6]).frame(5))
    ours = actor().play(walk()[:6]).frame(5)
    away = np.linalg.norm(late.vertices - ours.vertices, axis=1)
    assert np.isfinite(late.vertices).all()
    assert away[skirted().outer].mean() > 0.005, "the other solver's skirt is the same"
    assert away[: len(plain().template.vertices)].max() < 0.005, "the body is not the same"


def test_an_actor_without_loose_cloth_needs_no_simulation() -> None:
    pytest.importorskip("newton")
    bare = TrueActor(plain(), cloth="newton")
    assert same(bare.play(walk()[:2]).frame(1), TrueActor(plain()).play(walk()[:2]).frame(1))


# ---- without newton ----


class Counter:
    """Solver whose cloth is one metre ahead, plus one for each frame since the start."""

    identity = "counter"

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        self.calls: list[tuple[ClothPose, ClothPose]] = []

    def settle(self, pose: ClothPose, fps: float) -> Swing:
        return Swing(pose.skinned[self.points] + [0.0, 0.0, 1.0], np.zeros((len(self.points), 3)))

    def advance(self, swing: Swing, before: ClothPose, after: ClothPose, seconds: float) -> None:
        assert seconds == 1 / 25
        self.calls.append((before, after))
        swing.places += after.skinned[self.points] - before.skinned[self.points] + [0.0, 0.0, 1.0]


def test_a_motion_uses_the_solver_of_its_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    worn = TrueActor(skirted().data, skirted().dressing)
    counter: ClothSolver = Counter(worn.fabric.points)
    monkeypatch.setattr(worn, "solver", counter)
    count = KEEP + 3
    motion = worn.play(poses(count, translate_x=0.01 * np.arange(count)))
    hem = skirted().outer[-1]

    def ahead(frame: int) -> float:
        return float(motion.frame(frame).vertices[hem, 2] - worn.template[hem, 2])

    assert ahead(0) == pytest.approx(1.0, abs=0.01)
    assert ahead(2) == pytest.approx(3.0, abs=0.01)
    assert [len(counter.calls), len({id(pose) for pose, _ in counter.calls})] == [2, 2]
    assert counter.calls[0][1] is counter.calls[1][0]
    assert ahead(KEEP + 1) == pytest.approx(KEEP + 2.0, abs=0.01)
    made = len(counter.calls)
    assert ahead(KEEP) == pytest.approx(KEEP + 1.0, abs=0.01)
    assert len(counter.calls) == made, "a stored state was simulated again"


def test_without_newton_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "newton", None)
    monkeypatch.setitem(sys.modules, "warp", None)
    code = main(["capture", "actor", "--cloth", "newton", "-o", str(tmp_path / "out")])
    error = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert "--cloth newton: expected the package newton (" in error
    assert "ash-studio[newton]" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="expected the package newton"):
        import_newton()
