"""Laws of the simulated cloth: a skirt sewn around the bundled character's hips."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_true_surface import COLUMNS, plain, poses, skirted, walk

from ash_core.cloth import dynamics, track
from ash_core.cloth.dynamics import (
    ClothInputs,
    ClothState,
    Surroundings,
    advance,
    place_inputs,
    settle,
)
from ash_core.cloth.fit import STARTS, Clip, begin, find_gaps, find_swinging, fit_cloth
from ash_core.cloth.live import LiveCloth
from ash_core.cloth.model import (
    ClothModel,
    build_model,
    restore_model,
    store_model,
    vertex_normals,
    with_looseness,
)
from ash_core.cloth.solvers import CpuSolver
from ash_core.cloth.surface import place_followers
from ash_core.cloth.track import ClothTrack
from ash_core.conventions import FPS, R_WORLD_BODY
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.skinning import blend_bones
from ash_core.records import Camera, ClothConstants
from ash_core.silhouettes.distances import BodyCamera, read_silhouettes
from ash_core.silhouettes.outline import measure_gaps

MASK_SIZE = (240, 240)


@cache
def skirt() -> ClothModel:
    """Model of a skirt that is looser towards its hem."""
    dressing = skirted().dressing
    loose = np.where(dressing.partner >= 0, dressing.loose[dressing.partner], dressing.loose)
    return build_model(skirted().data, (0.75 * loose).astype(np.float32), floor_m=0.0)


@cache
def rest() -> torch.Tensor:
    return joint_transforms(plain().skeleton, plain().rest_dofs.double())


def drape(model: ClothModel, places: torch.Tensor, vertices: torch.Tensor) -> torch.Tensor:
    """Replace skinned vertices by simulated points, and by the linings that follow them; m."""
    cloth, surface = store_model(model), vertices.clone()
    surface[..., cloth.vertices, :] = place_followers(cloth, places)
    return surface


def skin(
    dofs: np.ndarray, chosen: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose chosen vertices: (places [F, v, 3], turns [F, v, 4], joints [F, J, 4, 4])."""
    data = skirted().data
    rows = torch.arange(len(data.template.vertices)) if chosen is None else torch.from_numpy(chosen)
    joints = joint_transforms(data.skeleton, torch.from_numpy(dofs))
    bones = data.skinning.bone_joints
    real, dual = dq.from_matrix(joints[:, bones] @ torch.linalg.inv(rest())[bones])
    real, dual = blend_bones(real, dual, data.skinning.bones[rows], data.skinning.weights[rows])
    vertices = dq.apply(real, dual, data.template.vertices[rows].double().expand(len(real), -1, -1))
    return vertices.float().numpy(), real.float().numpy(), joints.float().numpy()


def inputs(model: ClothModel, dofs: np.ndarray) -> list[ClothInputs]:
    goals, _, joints = skin(dofs, model.vertices)
    return [place_inputs(model, *pose) for pose in zip(goals, joints, strict=True)]


@cache
def walking() -> list[ClothInputs]:
    return inputs(skirt(), walk()[:130])


def play(
    model: ClothModel, frames: Sequence[ClothInputs], fps: float = FPS
) -> tuple[ClothState, np.ndarray]:
    """Simulate frames from rest: (last state, places [F, P, 3])."""
    state = settle(model, frames[0])
    places = [state.places.copy()]
    for pose in frames[1:]:
        advance(model, state, pose, 1.0 / fps)
        places.append(state.shown(model))
    return state, np.stack(places)


def farthest(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other, axis=-1).max())


def track_of(model: ClothModel, frames: Sequence[ClothInputs]) -> ClothTrack:
    return ClothTrack(
        CpuSolver(model), lambda first, last: frames[first:last], [0] * len(frames), FPS
    )


def points(places: np.ndarray) -> np.ndarray:
    """Leave out the linings."""
    return places[..., : len(skirt().vertices), :]


# ---- the model ----


def test_links_of_one_colour_share_no_point() -> None:
    model = skirt()
    for first, last in zip(model.colours[:-1], model.colours[1:], strict=True):
        ends = model.links[first:last].ravel()
        assert len(np.unique(ends)) == len(ends)
    assert model.colours[-1] == len(model.links)
    assert len(model.colours) - 1 <= 24, "more colours than neighbours call for"


def test_linings_are_those_that_were_sewn_in() -> None:
    dressing = skirted().dressing
    sewn = np.flatnonzero((dressing.partner >= 0) & (dressing.loose[dressing.partner] > 0.05))
    assert np.isin(sewn, skirt().followers).mean() > 0.95
    assert (dressing.partner[skirt().followers] >= 0).mean() > 0.95


def test_linings_follow_the_outer_layer() -> None:
    model, template = skirt(), skirted().data.template.vertices
    same = drape(model, torch.from_numpy(model.places), template)
    assert farthest(same.numpy(), template.numpy()) < 2e-3
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 1, 0], [-1, 0, 2], [0, -2, 0]]))
    moved = drape(model, torch.from_numpy(model.places) @ turn, template @ turn)
    assert farthest(moved.numpy(), (same @ turn).numpy()) < 1e-5


def test_the_skirt_hangs_from_the_hips() -> None:
    name = plain().skeleton.joint_names[int(skirt().carriers[0])]
    assert name.startswith("Root")
    assert len(np.unique(skirt().carriers)) == 1


def test_cloth_that_hangs_by_its_weight_keeps_its_lengths_and_folds() -> None:
    pose = inputs(skirt(), poses(1))[0]
    falling = begin(skirt(), STARTS[1])
    errors = []
    for passes in (1, falling.passes):
        places = settle(replace(falling, passes=passes), pose).places
        edges = falling.links[~falling.is_bend]
        lengths = np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1)
        errors.append(np.abs(lengths / falling.lengths[~falling.is_bend] - 1.0).mean())
    assert errors[1] < 0.02, errors
    assert errors[1] < 0.5 * errors[0], errors
    # It lies nearer to the legs than the template, which is flared.
    hem = falling.places[:, 1] < np.quantile(falling.places[:, 1], 0.2)
    spread = [np.ptp(p[hem], axis=0)[[0, 2]].prod() for p in (places, pose.goals)]
    assert spread[0] < 0.9 * spread[1], spread


def test_nothing_loose_is_nothing_to_simulate() -> None:
    empty = build_model(skirted().data, np.zeros(len(skirted().dressing.loose), np.float32))
    state, places = play(empty, inputs(empty, walk()[:2]))
    assert places.shape == (2, 0, 3)
    vertices = skirted().data.template.vertices
    assert torch.equal(drape(empty, torch.from_numpy(state.places), vertices), vertices)


def test_a_model_is_read_as_written() -> None:
    again = restore_model(store_model(skirt()))
    one, other = (play(model, walking()[:10])[1] for model in (skirt(), again))
    assert np.array_equal(one, other)
    for field in fields(store_model(skirt())):
        first, second = (getattr(store_model(model), field.name) for model in (skirt(), again))
        same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
        assert same, field.name


# ---- what it does ----


def test_at_rest_it_keeps_the_template() -> None:
    model = replace(skirt(), constants=replace(ClothConstants(), hang=1.0))
    pose = inputs(model, poses(1))[0]
    assert farthest(settle(model, pose).places, pose.goals) < 2e-3


def test_held_points_stay_skinned() -> None:
    _, places = play(skirt(), walking()[:20])
    held = skirt().looseness == 0
    assert held.any()
    assert np.array_equal(places[-1][held], walking()[19].goals[held])


def test_the_hem_lags_swings_on_and_comes_to_rest() -> None:
    slide = np.minimum(np.arange(150), 15) * 0.04
    _, places = play(skirt(), inputs(skirt(), poses(150, translate_x=slide)))
    hem = np.isin(skirt().vertices, skirted().outer[-COLUMNS:])
    ahead = places[:, hem, 0].mean(1) - slide - places[0, hem, 0].mean()
    assert ahead[15] < -0.02, ahead[15]
    assert ahead[16:30].max() > 0.005, ahead[16:30].max()
    assert abs(ahead[-1]) < 0.002, ahead[-1]


def test_the_looser_the_more_it_swings() -> None:
    swings = []
    for loose in (0.2, 0.5, 0.8):
        model = with_looseness(skirt(), np.full(len(skirt().vertices), loose, np.float32))
        _, places = play(model, walking()[:40])
        away = places - np.stack([pose.goals for pose in walking()[:40]])
        swings.append(float(np.linalg.norm(away - away.mean(0), axis=-1).mean()))
    assert swings[0] < 0.5 * swings[1] < 0.5 * swings[2], swings


def test_legs_stay_inside() -> None:
    """Clear the capsules as far as the template does, up to the links' pull."""
    model = skirt()
    _, places = play(model, walking()[:60])
    capsules, radii, moving = model.colliders.capsules, model.colliders.radii, model.looseness > 0
    for frame in range(5, 60, 5):
        ends = walking()[frame].spheres[capsules]
        axis = ends[:, 1] - ends[:, 0]
        from_first = places[frame][:, None] - ends[:, 0]
        square = np.maximum((axis**2).sum(-1), 1e-9)
        t = np.clip((from_first * axis).sum(-1) / square, 0.0, 1.0)
        away = np.linalg.norm(from_first - t[..., None] * axis, axis=-1)
        radius = radii[capsules[:, 0]] + t * (radii[capsules[:, 1]] - radii[capsules[:, 0]])
        depth = radius + np.minimum(model.room, 0.0) - away
        assert depth[moving].max() < 0.004, (frame, depth[moving].max())


def test_wind_and_a_grab_move_it() -> None:
    model, pose = skirt(), inputs(skirt(), poses(1))[0]
    calm = settle(model, pose).places
    windy = settle(model, pose, Surroundings(wind=(8.0, 0.0, 0.0))).places
    moving = model.looseness > 0.5
    assert (windy - calm)[moving, 0].mean() > 0.02
    point = int(model.looseness.argmax())
    place = calm[point] + np.array([0.0, 0.0, 0.1], np.float32)
    held = settle(model, pose, Surroundings(grab=(point, tuple(place.tolist())))).places
    assert farthest(held[point], place) < 0.7 * farthest(calm[point], place)
    stiff = settle(model, pose, Surroundings(wind=(8.0, 0.0, 0.0), stiffness=8.0)).places
    assert farthest(stiff, calm) < 0.5 * farthest(windy, calm)


# ---- stability ----


def test_a_teleport_carries_it_along() -> None:
    model = skirt()
    frames = inputs(model, poses(60, translate_x=np.r_[0.0, np.full(59, 7.0)]))
    _, places = play(model, frames)
    away = np.linalg.norm(places - np.stack([pose.goals for pose in frames]), axis=-1)
    assert away.max() < 0.35, away.max()
    # Friction and folds keep a little of what was.
    errors = np.linalg.norm(places[-1] - settle(model, frames[-1]).places, axis=1)
    assert errors.mean() < 0.005
    assert errors.max() < 0.04


def test_a_turn_about_settles_it_anew() -> None:
    frames = inputs(skirt(), poses(2, rotate_y=np.array([0.0, np.pi])))
    state = settle(skirt(), frames[0])
    advance(skirt(), state, frames[1], 1 / FPS)
    assert np.array_equal(state.places, settle(skirt(), frames[1]).places)


def test_a_hem_turned_up_falls_down() -> None:
    model, pose = skirt(), inputs(skirt(), poses(1))[0]
    state = settle(model, pose)
    calm = state.places.copy()
    waist = state.places[model.looseness == 0, 1].min()
    state.places[:, 1] = np.maximum(state.places[:, 1], 2 * waist - state.places[:, 1])
    for _ in range(100):
        advance(model, state, pose, 1 / FPS)
    assert np.linalg.norm(state.places - calm, axis=1).mean() < 0.02


@pytest.mark.parametrize(
    ("fps", "mean_m", "worst_m"), [(10, 4e-3, 30e-3), (30, 1e-3, 4e-3), (120, 1.5e-3, 12e-3)]
)
def test_frame_rates_agree(fps: int, mean_m: float, worst_m: float) -> None:
    """Sway for two seconds: 0.1 m, 0.5 Hz, which 10 frames a second still show.

    Goals move straight between frames: that is what differs, and which fold a push makes.
    """
    sways = {}
    for rate in (25, fps):
        time = np.arange(2 * rate + 1) / rate
        sway = 0.1 * np.sin(np.pi * time) ** 2
        frames = inputs(skirt(), poses(len(time), translate_x=sway, rotate_y=2 * sway))
        sways[rate] = play(skirt(), frames, rate)[1]
    swing = farthest(sways[25][25], sways[25][0] + [0.1, 0.0, 0.0])
    assert swing > 0.03, swing
    for second in (1, 2):
        errors = np.linalg.norm(sways[25][25 * second] - sways[fps][fps * second], axis=1)
        assert errors[skirt().looseness > 0].mean() < mean_m
        assert errors.max() < worst_m


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    gravity=st.floats(-20, 20),
    wind=st.tuples(*[st.floats(-100, 100)] * 3),
    stiffness=st.floats(0, 1e6),
)
def test_any_sliders_give_numbers(
    seed: int, gravity: float, wind: tuple[float, float, float], stiffness: float
) -> None:
    generator = np.random.default_rng(seed)
    around = Surroundings(gravity, wind, stiffness, (5, (1.0, 2.0, 3.0)))
    dofs = generator.uniform(-4.0, 4.0, (6, poses(1).shape[1]))
    frames = inputs(skirt(), dofs)
    state = settle(skirt(), frames[0], around)
    for pose in frames:
        advance(skirt(), state, pose, float(generator.choice([0.0, 1e-4, 0.008, 0.1, 5.0])), around)
        assert np.isfinite(state.places).all()
        assert np.isfinite(state.velocities).all()
        # A second at the highest speed, however long the frame.
        assert farthest(state.places, pose.goals) < 100.0


def test_degenerate_cloth_gives_numbers() -> None:
    """Edges without length, points without links, colliders without any size or at a point."""
    model = skirt()
    collapsed = replace(model, lengths=np.zeros_like(model.lengths))
    none = replace(model, links=model.links[:0], lengths=model.lengths[:0],
                   is_bend=model.is_bend[:0], colours=model.colours[:1])  # fmt: skip
    flat = replace(
        model, colliders=replace(model.colliders, radii=np.zeros_like(model.colliders.radii))
    )
    piled = [replace(p, goals=np.zeros_like(p.goals), spheres=np.zeros_like(p.spheres))
             for p in walking()[:4]]  # fmt: skip
    for variant in (collapsed, none, flat):
        for frames in (walking()[:4], piled):
            state, places = play(variant, frames)
            assert np.isfinite(places).all()
            assert np.isfinite(state.velocities).all()


def test_without_gravity_nothing_falls() -> None:
    model = replace(skirt(), constants=replace(ClothConstants(), hang=0.0))
    pose = inputs(model, poses(1))[0]
    floating = settle(model, pose, Surroundings(gravity=0.0)).places
    assert farthest(floating, pose.goals) < 2e-3
    assert farthest(settle(model, pose).places, pose.goals) > 4e-3


# ---- determinism ----


def test_the_order_within_a_colour_does_not_matter() -> None:
    """Simulate as a GPU does: links of one colour in any order, to the last bit."""
    model, generator = skirt(), np.random.default_rng(0)
    order = np.concatenate([
        generator.permutation(np.arange(first, last))
        for first, last in zip(model.colours[:-1], model.colours[1:], strict=True)
    ])  # fmt: skip
    assert (order != np.arange(len(order))).any()
    shuffled = replace(model, links=model.links[order], lengths=model.lengths[order],
                       is_bend=model.is_bend[order])  # fmt: skip
    one, other = (play(variant, walking()[:25])[1] for variant in (model, shuffled))
    assert np.array_equal(one, other)


def test_seeking_equals_playing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, frames in (("KEY_FRAMES", 40), ("WARM_UP_FRAMES", 20), ("FADE_FRAMES", 8)):
        monkeypatch.setattr(track, name, frames)
    straight, jumping = track_of(skirt(), walking()), track_of(skirt(), walking())
    played = np.concatenate([straight.places([k]) for k in range(len(walking()))])
    order = [129, 3, 81, 79, 80, 83, 118, 88, 119, 0, 121, 58, 41, 129]
    for frame in order:
        assert np.array_equal(jumping.places([frame])[0], played[frame]), frame
        state = jumping.state(frame)
        assert np.array_equal(state.places, points(played[frame])), frame
    window = [100, 96, 92, 84, 68]
    assert np.array_equal(jumping.places(window), played[window])


def test_small_parts_lead_to_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, frames in (("KEY_FRAMES", 40), ("WARM_UP_FRAMES", 20), ("FADE_FRAMES", 8)):
        monkeypatch.setattr(track, name, frames)
    window = [125, 121, 117, 109, 93]
    at_once, in_parts = track_of(skirt(), walking()), track_of(skirt(), walking())
    expected, calls = at_once.places(window), 0
    while not in_parts.approach(window, steps=5):
        calls += 1
        assert calls < 40
    assert calls > 8
    assert np.array_equal(in_parts.places(window), expected)
    assert in_parts.approach(window, steps=0)


def test_runs_take_over_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blend runs so that no frame moves farther against its goals than the motion's own swing."""
    monkeypatch.setattr(track, "KEY_FRAMES", 100)
    monkeypatch.setattr(track, "WARM_UP_FRAMES", 80)
    monkeypatch.setattr(track, "FADE_FRAMES", 20)
    places = track_of(skirt(), walking()).places(range(130))
    away = points(places) - np.stack([pose.goals for pose in walking()])
    steps = np.linalg.norm(np.diff(away, axis=0), axis=-1)
    assert steps[98:121].max() < 1.2 * steps[20:98].max()
    straight = play(skirt(), walking())[1]
    assert np.array_equal(points(places)[:100], straight[:100])
    assert np.linalg.norm(points(places)[120:] - straight[120:], axis=-1).mean() < 3e-3


def test_a_cut_settles_the_cloth() -> None:
    frames = walking()[:30]
    cut = ClothTrack(CpuSolver(skirt()), lambda a, b: frames[a:b], [0] * 20 + [20] * 10, FPS)
    assert np.array_equal(points(cut.places([20])[0]), settle(skirt(), frames[20]).places)
    fresh = track_of(skirt(), frames[20:]).places([9])
    assert np.array_equal(cut.places([29]), fresh)


def test_live_cloth_goes_on_from_a_track() -> None:
    motion, live = track_of(skirt(), walking()), LiveCloth(CpuSolver(skirt()), reach_s=1.5)
    live.begin(motion.state(40), [0.0], motion.places([40]))
    for k in range(1, 11):
        live.push(walking()[40 + k], k / FPS)
    assert live.state is not None
    # Times are sums of floats: not the same to the last bit.
    assert farthest(live.state.places, points(motion.places([50])[0])) < 1e-4
    history = live.places([0.0, 4 / FPS, 9 / FPS, 60.0])
    for row, frame in zip(history, [50, 46, 41, 40], strict=True):
        assert farthest(row, motion.places([frame])[0]) < 1e-4
    live.push(walking()[3], -1.0)
    assert np.array_equal(points(live.places([0.0])[0]), settle(skirt(), walking()[3]).places)


def test_live_cloth_goes_along_with_a_pose_that_changes_in_no_time() -> None:
    frames, live = (
        inputs(skirt(), poses(2, translate_x=np.array([0.0, 30.0]))),
        LiveCloth(CpuSolver(skirt()), 1.5),
    )
    live.push(frames[0], 0.0)
    before = live.places([0.0])[0]
    live.push(frames[1], 0.0)
    assert farthest(live.places([0.0])[0], before + np.array([30.0, 0, 0], np.float32)) < 1e-2


def test_a_pull_from_afar_is_no_harder_than_one_within_reach() -> None:
    pose = inputs(skirt(), poses(1))[0]
    point = int(skirt().looseness.argmax())
    away = []
    for distance in (1.0, 1e6):
        live = LiveCloth(CpuSolver(skirt()), 1.5)
        live.settle(pose, 0.0)
        start = live.places([0.0])[0, point].astype(float)
        x, y, z = (start + np.array([0.0, 0.0, distance])).tolist()
        for step in range(1, 26):
            live.push(pose, step / FPS, Surroundings(grab=(point, (x, y, z))))
        away.append(live.places([0.0])[0])
    assert farthest(away[0], away[1]) < 0.05
    links, lengths = skirt().links[~skirt().is_bend], skirt().lengths[~skirt().is_bend]
    stretched = np.linalg.norm(away[1][links[:, 0]] - away[1][links[:, 1]], axis=1) / lengths
    assert np.quantile(stretched, 0.99) < 1.5


# ---- fit ----


def cameras(count: int) -> list[Camera]:
    """Place cameras around the actor, in the world."""
    centre = torch.tensor([0.0, 0.0, 0.8])
    ring = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        eye = centre + 3.0 * torch.tensor([np.cos(angle), np.sin(angle), 0.1])
        view = look_at(eye.double(), centre.double())
        ring.append(camera_from_fov(view, 0.9, *MASK_SIZE, name=str(number)))
    return ring


def sway(frames: int, slide_hz: float, turn_hz: float) -> np.ndarray:
    """Make poses that slide and turn to and fro; frequencies are angular."""
    time = np.arange(frames) / FPS
    slide, turn = (np.sin(hz * time / 2) ** 2 for hz in (slide_hz, turn_hz))
    return poses(frames, translate_x=0.3 * slide, rotate_y=0.8 * turn)


def filmed(truth: ClothModel | None, count: int = 4) -> list[Clip]:
    """Draw masks of the skirt as a model moves it in swaying clips; None: as it is skinned."""
    ring, faces, clips = cameras(8), skirted().data.template.faces, []
    for number in range(count):
        vertices, _, joints = skin(sway(22, 9.0 - number, 4.0 + 2.0 * number))
        true = torch.from_numpy(vertices)
        if truth is not None:
            frames = [place_inputs(truth, v[truth.vertices], j)
                      for v, j in zip(vertices, joints, strict=True)]  # fmt: skip
            true = drape(truth, torch.from_numpy(play(truth, frames)[1]), true)
        world, rows = true @ torch.tensor(R_WORLD_BODY).T, np.arange(4, 22, 3)

        def mask(
            row: int, camera: int, world: torch.Tensor = world, rows: np.ndarray = rows
        ) -> np.ndarray:
            return 255 * silhouette(world[rows[row]], faces, ring[camera]).byte().numpy()

        eyes = [BodyCamera.of(camera) for camera in ring]
        clips.append(
            Clip(vertices, joints, rows, read_silhouettes(eyes, range(len(rows)), mask), FPS)
        )
    return clips


@pytest.mark.slow
def test_a_fit_to_masks_explains_what_it_never_saw() -> None:
    constants = replace(ClothConstants(), air=1.6, follow=5.0, margin=0.012)
    truth = replace(skirt(), constants=constants)
    fit = fit_cloth(skirted().data, filmed(truth), 0.0, rounds=3)
    assert fit.model is not None
    assert fit.share > 0.5
    assert max(gain for _, gain in fit.pieces) > 0.5, fit.pieces
    # It finds the skirt, and little else.
    outer = skirted().outer
    loose = fit.model.vertices[fit.model.looseness > 0]
    assert np.isin(outer[-2 * COLUMNS :], loose).mean() > 0.9
    others = ~np.isin(loose, outer)
    assert others.sum() < 0.1 * len(loose), (others.sum(), len(loose))

    # Another motion: a walk, which no clip resembles.
    vertices, _, joints = skin(walk()[:50])
    surfaces = [torch.from_numpy(vertices)]
    for model in (truth, fit.model):
        frames = [place_inputs(model, v[model.vertices], j)
                  for v, j in zip(vertices, joints, strict=True)]  # fmt: skip
        surfaces.append(drape(model, torch.from_numpy(play(model, frames)[1]), surfaces[0]))
    residuals = [s - surfaces[1] for s in (surfaces[0], surfaces[2])]
    none, after = (float(((r - r.mean(0)) ** 2).sum()) for r in residuals)
    assert after < 0.4 * none, after / none


def test_tight_clothes_are_left_alone() -> None:
    clips = filmed(None, count=2)
    faces, count = skirted().data.template.faces.numpy(), len(skirted().data.template.vertices)
    gaps = find_gaps(clips, [clip.skinned[clip.frames] for clip in clips], faces)
    swings, noise_m = find_swinging(gaps, faces, count)
    assert len(gaps.gaps) > 1000
    assert not swings.any()
    assert noise_m < 0.004
    assert fit_cloth(skirted().data, clips).model is None


def test_gaps_say_how_far_the_mask_is_outside() -> None:
    """Measure a surface that is fatter in the masks than it is."""
    vertices, _, joints = skin(poses(1))
    data, ring = skirted().data, cameras(6)
    faces = data.template.faces
    normals = vertex_normals(vertices[0].astype(float), faces.numpy())
    fat = torch.from_numpy(vertices[0] + 0.02 * normals).float() @ torch.tensor(R_WORLD_BODY).T
    eyes = [BodyCamera.of(camera) for camera in ring]
    masks = read_silhouettes(
        eyes, [0], lambda _, c: 255 * silhouette(fat, faces, ring[c]).byte().numpy()
    )
    clip = Clip(vertices, joints, np.array([0]), masks, FPS)
    gaps = find_gaps([clip], [vertices], faces.numpy())
    assert len(gaps.gaps) > 300
    assert np.median(gaps.gaps) == pytest.approx(0.02, abs=0.004)
    again = measure_gaps(masks, gaps.rows, gaps.cameras, vertices[0][gaps.vertices], gaps.own)
    assert np.abs(again - gaps.gaps).max() < 1e-3
    out = vertices[0][gaps.vertices] + 0.02 * normals[gaps.vertices]
    moved = measure_gaps(masks, gaps.rows, gaps.cameras, out.astype(np.float32), gaps.own)
    assert abs(np.median(moved)) < 0.005


def test_constants_are_stated() -> None:
    """Keep what the docstrings promise: ticks of 5 ms, and none in no time."""
    state = settle(skirt(), walking()[0])
    before = state.places.copy()
    advance(skirt(), state, walking()[1], 0.0)
    assert np.array_equal(state.places, before)
    assert dynamics.TICK_S == 0.005
