"""What mouse and keys promise of the camera, and its path through keys."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from toy import figure

from ash_core.conventions import NEAR_M
from ash_core.errors import InputError
from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.geometry.rotations import quat_to_matrix, unit
from ash_core.records import Camera, Skeleton
from ash_core.scene.view import (
    AXIS_VIEWS,
    DISTANCES_M,
    PITCH_LIMIT_RAD,
    CameraKey,
    CameraPath,
    View,
)

WIDTH, HEIGHT = 640, 480
HOME = View((0.1, -0.2, 1.0), 0.3, 0.2, 0.0, 3.0, math.radians(40.0))


def views(
    pitch: float = PITCH_LIMIT_RAD, orthographic: st.SearchStrategy[bool] | None = None
) -> st.SearchStrategy[View]:
    place = st.floats(-5.0, 5.0)
    angle = st.floats(-math.pi, math.pi)
    return st.builds(
        View,
        target=st.tuples(place, place, place),
        yaw=angle,
        pitch=st.floats(-pitch, pitch),
        roll=angle,
        distance=st.floats(0.5, 20.0),
        fov_y=st.floats(0.1, 2.0),
        orthographic=st.booleans() if orthographic is None else orthographic,
    )


perspective = views(orthographic=st.just(False))
few = settings(max_examples=60, deadline=None)


def axes(view: View) -> ndarray:
    """Rows: right, down, forward."""
    return view.viewmat[:3, :3].double().numpy()


def project(camera: Camera, point: ndarray) -> ndarray:
    in_camera = camera.viewmat.double().numpy() @ np.append(point, 1.0)
    assert in_camera[2] > 0
    return (camera.K.double().numpy() @ in_camera[:3])[:2] / in_camera[2]


def at_target_depth(view: View, x_px: float, y_px: float) -> ndarray:
    """The world's point under a pixel, in the plane of the target."""
    pixel_m = 2 * view.distance * math.tan(view.fov_y / 2) / HEIGHT
    right, down, _ = axes(view)
    return (
        np.array(view.target)
        + (x_px - WIDTH / 2) * pixel_m * right
        + (y_px - HEIGHT / 2) * pixel_m * down
    )


def assert_same_place(a: tuple[float, ...], b: tuple[float, ...], atol: float = 1e-9) -> None:
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)


# The view


@few
@given(views())
def test_target_is_in_the_middle_at_its_distance(view: View) -> None:
    pixel = project(view.camera(WIDTH, HEIGHT), np.array(view.target))
    np.testing.assert_allclose(pixel, (WIDTH / 2, HEIGHT / 2), atol=0.02)
    assert math.dist(view.eye, view.target) == pytest.approx(view.distance)
    rotation = axes(view)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert torch.equal(view.camera(WIDTH, HEIGHT).viewmat, view.viewmat)


def test_level_view_is_that_of_look_at() -> None:
    want = look_at(torch.tensor(HOME.eye), torch.tensor(HOME.target))
    torch.testing.assert_close(HOME.viewmat, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "towards_eye", "right"),
    [
        ("front", (1, 0, 0), (0, 1, 0)),
        ("back", (-1, 0, 0), (0, -1, 0)),
        ("left", (0, 1, 0), (-1, 0, 0)),
        ("right", (0, -1, 0), (1, 0, 0)),
        ("top", (0, 0, 1), (0, 1, 0)),
        ("bottom", (0, 0, -1), (0, 1, 0)),
    ],
)
def test_axis_views_stand_on_their_axes(
    name: str, towards_eye: tuple[int, ...], right: tuple[int, ...]
) -> None:
    yaw, pitch = AXIS_VIEWS[name]
    rotation = axes(replace(HOME, yaw=yaw, pitch=pitch))
    np.testing.assert_allclose(-rotation[2], towards_eye, atol=1e-6)
    np.testing.assert_allclose(rotation[0], right, atol=1e-6)


@few
@given(
    quat=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: math.hypot(*q) > 0.1),
    place=st.lists(st.floats(-8, 8), min_size=3, max_size=3),
    fov=st.floats(0.1, 2.5),
    distance=st.floats(0.1, 20.0),
)
def test_view_of_a_camera_is_the_camera(
    quat: list[float], place: list[float], fov: float, distance: float
) -> None:
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = quat_to_matrix(unit(torch.tensor(quat, dtype=torch.float64)))
    viewmat[:3, 3] = torch.tensor(place)
    camera = camera_from_fov(viewmat.float(), fov, WIDTH, HEIGHT)
    view = View.of_camera(camera, distance)
    again = view.camera(WIDTH, HEIGHT)
    torch.testing.assert_close(again.viewmat, camera.viewmat, atol=1e-4, rtol=0)
    torch.testing.assert_close(again.K, camera.K, atol=0, rtol=1e-5)
    assert view.distance == distance
    assert abs(view.pitch) <= math.pi / 2


@pytest.mark.parametrize("pitch", [-math.pi / 2, math.pi / 2])
@pytest.mark.parametrize("turn", [0.0, 1.0, -2.5])
def test_view_of_a_camera_that_looks_straight_down_or_up(pitch: float, turn: float) -> None:
    camera = replace(HOME, pitch=pitch, yaw=turn, roll=-2 * turn).camera(WIDTH, HEIGHT)
    again = View.of_camera(camera, 3.0).camera(WIDTH, HEIGHT)
    torch.testing.assert_close(again.viewmat, camera.viewmat, atol=1e-5, rtol=0)


def test_orthographic_pictures_have_hardly_any_perspective() -> None:
    view = replace(HOME, orthographic=True)
    camera = view.camera(WIDTH, HEIGHT)
    right, down, forward = axes(view)
    offset = 0.5 * right + 0.4 * down
    at = [project(camera, np.array(view.target) + offset + z * forward) for z in (-0.5, 0, 0.5)]
    with_depth = [
        project(HOME.camera(WIDTH, HEIGHT), np.array(view.target) + offset + z * forward)
        for z in (-0.5, 0.5)
    ]
    assert np.linalg.norm(at[0] - at[2]) < 1.0
    assert np.linalg.norm(with_depth[0] - with_depth[1]) > 30
    # At the target nothing changes its size.
    same = project(HOME.camera(WIDTH, HEIGHT), np.array(view.target) + offset)
    np.testing.assert_allclose(at[1], same, atol=0.02)


# The mouse and the keys


@few
@given(views(), st.floats(-7, 7), st.floats(-7, 7))
def test_orbit_keeps_target_distance_and_limits(view: View, dx: float, dy: float) -> None:
    turned = view.orbit(dx, dy)
    assert turned.target == view.target
    assert math.dist(turned.eye, turned.target) == pytest.approx(view.distance)
    assert abs(turned.pitch) <= PITCH_LIMIT_RAD
    assert turned.roll == view.roll


@few
@given(perspective.filter(lambda view: abs(view.pitch) < 1.2), st.floats(-math.pi, math.pi))
def test_what_is_before_the_target_follows_an_orbit(view: View, way: float) -> None:
    before = np.array(view.target) - 0.1 * axes(view)[2]
    moved = view.orbit(0.01 * math.cos(way), 0.01 * math.sin(way))
    step = project(moved.camera(WIDTH, HEIGHT), before) - (WIDTH / 2, HEIGHT / 2)
    # Near the poles a turn about the vertical moves less, so the way is not quite the mouse's.
    assert step @ (math.cos(way), math.sin(way)) > 0


def test_view_from_above_turns_but_goes_no_higher() -> None:
    top = replace(HOME, pitch=math.pi / 2)
    assert top.orbit(0.5, 0.0).pitch == top.pitch
    assert top.orbit(0.0, 0.1).pitch == top.pitch
    assert top.orbit(0.0, -0.1).pitch == pytest.approx(top.pitch - 0.1)


@few
@given(views(), *[st.floats(-200, 200)] * 4)
def test_pan_moves_the_world_with_the_mouse(
    view: View, dx: float, dy: float, x: float, y: float
) -> None:
    point = at_target_depth(view, WIDTH / 2 + x, HEIGHT / 2 + y)
    panned = view.pan(dx, dy, HEIGHT)
    got = project(panned.camera(WIDTH, HEIGHT), point)
    want = (WIDTH / 2 + x + dx, HEIGHT / 2 + y + dy)
    np.testing.assert_allclose(got, want, atol=0.05)
    assert (panned.yaw, panned.pitch, panned.distance) == (view.yaw, view.pitch, view.distance)


@few
@given(views(), st.floats(0.001, 100), st.floats(0, WIDTH), st.floats(0, HEIGHT))
def test_zoom_keeps_what_is_under_the_cursor(view: View, factor: float, x: float, y: float) -> None:
    point = at_target_depth(view, x, y)
    zoomed = view.zoom_at(factor, x, y, WIDTH, HEIGHT)
    assert_same_place(tuple(at_target_depth(zoomed, x, y)), tuple(point), atol=1e-4)
    assert zoomed.distance == view.dolly(factor).distance


@few
@given(views(), st.floats(0, 1e6))
def test_dolly_stays_within_limits(view: View, factor: float) -> None:
    moved = view.dolly(factor)
    assert DISTANCES_M[0] <= moved.distance <= DISTANCES_M[1]
    assert moved.target == view.target


@few
@given(views(), st.floats(-3, 3), st.floats(-3, 3))
def test_looking_around_keeps_the_eye(view: View, dx: float, dy: float) -> None:
    turned = view.look_around(dx, dy)
    assert_same_place(turned.eye, view.eye)
    assert turned.distance == view.distance


def test_looking_around_turns_to_the_mouse() -> None:
    for rolled in (HOME, HOME.roll_by(math.pi / 2)):
        to_the_right = np.array(rolled.target) + 0.3 * axes(rolled)[0]
        turned = rolled.look_around(0.1, 0.0)
        pixel = project(turned.camera(WIDTH, HEIGHT), to_the_right)
        np.testing.assert_allclose(pixel, (WIDTH / 2, HEIGHT / 2), atol=5.0)


@few
@given(views(), st.floats(-20, 20))
def test_roll_turns_the_picture_about_its_middle(view: View, angle: float) -> None:
    point = at_target_depth(view, WIDTH / 2 + 100, HEIGHT / 2)
    rolled = view.roll_by(angle)
    got = project(rolled.camera(WIDTH, HEIGHT), point) - (WIDTH / 2, HEIGHT / 2)
    np.testing.assert_allclose(got, (100 * math.cos(angle), -100 * math.sin(angle)), atol=0.05)
    assert_same_place(rolled.eye, view.eye)


@few
@given(views(), *[st.floats(-1, 1)] * 3)
def test_flying_does_not_depend_on_the_frame_rate(
    view: View, right: float, up: float, forward: float
) -> None:
    at_once = view.fly(right, up, forward, 1.0, 2.0)
    step = view
    for _ in range(10):
        step = step.fly(right, up, forward, 0.1, 2.0)
    assert_same_place(step.target, at_once.target)
    assert_same_place(step.eye, at_once.eye)
    np.testing.assert_array_equal(axes(step), axes(view))


def test_flying_goes_where_it_says() -> None:
    right, _, forward = axes(HOME)
    target = np.array(HOME.target)
    assert_same_place(HOME.fly(0, 0, 1, 1, 2).target, tuple(target + 2 * forward), 1e-6)
    assert_same_place(HOME.fly(1, 0, 0, 1, 2).target, tuple(target + 2 * right), 1e-6)
    assert_same_place(HOME.fly(0, 1, 0, 1, 2).target, tuple(target + np.array((0, 0, 2))))
    assert math.dist(HOME.fly(1, 0, 1, 1, 2).target, HOME.target) == pytest.approx(2)


@few
@given(views(), st.floats(0, 4))
def test_field_of_view_keeps_the_size_at_the_target(view: View, fov: float) -> None:
    point = at_target_depth(view, WIDTH / 2 + 50, HEIGHT / 2 - 30)
    got = project(view.with_fov(fov).camera(WIDTH, HEIGHT), point)
    np.testing.assert_allclose(got, (WIDTH / 2 + 50, HEIGHT / 2 - 30), atol=0.05)


def test_field_of_view_is_the_one_asked_for() -> None:
    assert HOME.with_fov(0.3).fov_y == 0.3
    assert HOME.with_fov(0.3).distance > HOME.distance


@few
@given(views(), st.integers(0, 2**31), st.integers(400, 2500))
def test_framed_points_are_seen_with_a_margin_and_no_more(
    view: View, seed: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(20, 3)) * rng.uniform(0.3, 2, 3) + rng.normal(size=3)
    framed = view.frame_points(torch.from_numpy(points), width / 1000)
    assert_same_place(framed.target, tuple((points.min(0) + points.max(0)) / 2))
    np.testing.assert_array_equal(axes(framed), axes(view))
    camera = framed.camera(width, 1000)
    pixels = np.array([project(camera, point) for point in points])
    size = np.array((camera.width, camera.height))
    reach = np.abs(pixels / size - 0.5).max() * 2
    assert reach <= 1 / 1.1 + 1e-3
    nearest = (camera.viewmat.double().numpy() @ np.c_[points, np.ones(20)].T)[2].min()
    assert reach >= 1 / 1.1 - 1e-3 or nearest < NEAR_M + 1e-4


def test_framing_overlooks_points_that_are_not_finite() -> None:
    points = np.array([[0, 0, 0], [1, 1, 1.0]])
    with_nan = np.concatenate((points, [[math.nan, 0, 0], [0, math.inf, 0]]))
    assert HOME.frame_points(with_nan, 1.5) == HOME.frame_points(points, 1.5)
    assert HOME.frame_points(with_nan[2:], 1.5) == HOME
    assert HOME.frame_points(points[:1], 1.5).distance > 0


def test_front_view_sees_every_pose() -> None:
    skeleton = Skeleton(
        joint_names=("x", "LeftArm", "RightArm", "Head"),
        parents=torch.tensor([-1, 0, 0, 0]),
        is_prismatic=torch.tensor([True, False, False, False]),
        axes=torch.eye(3)[[0, 0, 0, 0]],
        offsets=torch.tensor([[0.0, 0, 0], [0.6, 1.4, 0], [-0.6, 1.4, 0], [0, 1.7, 0]]),
        dof_names=("x",),
        dof_limits=torch.tensor([[-math.inf, math.inf]]),
        dof_matrix=torch.eye(4, 1),
    )
    dofs = torch.linspace(0, 2, 700, dtype=torch.float64)[:, None]
    data = figure(skeleton)
    view = View.front_of(data, dofs, 1.5, 0.7)
    assert view.fov_y == pytest.approx(0.7)
    assert view.yaw == pytest.approx(0.0, abs=1e-6)
    # The body's x is the world's y, its y the world's z.
    assert_same_place(view.target, (0.0, 1.0, 0.85), 1e-3)
    for x in (0.0, 2.0):
        for joint in skeleton.offsets.double().numpy():
            pixel = project(view.camera(1500, 1000), np.array((joint[2], x + joint[0], joint[1])))
            assert (pixel > 0).all()
            assert (pixel < (1500, 1000)).all()
    one = View.front_of(data, dofs[0], 1.5, 0.7)
    assert_same_place(one.target, (0.0, 0.0, 0.85), 1e-3)


# The path


def path_of(*keys: tuple[int, View]) -> CameraPath:
    return CameraPath(tuple(CameraKey(frame, view) for frame, view in keys))


def seen(path: CameraPath, frame: float) -> ndarray:
    """All that must move smoothly: eye, target, orientation, log of the field of view."""
    view = path.at(frame)
    assert view is not None
    return np.concatenate(
        (view.eye, view.target, axes_exactly(view).ravel(), [math.log(view.fov_y)])
    )


def axes_exactly(view: View) -> ndarray:
    """As `axes`, in float64: from the way ahead and a pan to the side."""
    forward = (np.array(view.target) - view.eye) / view.distance
    moved = np.array(view.target) - view.pan(1.0, 0.0, 2.0).target
    right = moved / np.linalg.norm(moved)
    return np.stack((right, np.cross(forward, right), forward))


paths = st.lists(
    st.tuples(st.integers(0, 400), views(math.pi / 2, st.just(False))),
    min_size=1,
    max_size=6,
    unique_by=lambda key: key[0],
).map(lambda keys: path_of(*keys))


def test_path_without_keys_has_no_view() -> None:
    assert CameraPath().at(3.0) is None


@few
@given(paths)
def test_path_passes_through_its_keys_and_rests_outside(path: CameraPath) -> None:
    assert [key.frame for key in path.keys] == sorted(key.frame for key in path.keys)
    for key in path.keys:
        assert path.at(key.frame) == key.view
        for near in (key.frame - 1e-7, key.frame + 1e-7):
            np.testing.assert_allclose(seen(path, near), seen(path, key.frame), atol=1e-4)
    assert path.at(path.keys[0].frame - 9.5) == path.keys[0].view
    assert path.at(path.keys[-1].frame + 9.5) == path.keys[-1].view


@few
@given(paths.filter(lambda path: len(path.keys) > 2))
def test_path_has_no_kinks(path: CameraPath) -> None:
    path = path_of(*((10 * key.frame, key.view) for key in path.keys))
    step = 1e-3
    for key in path.keys[1:-1]:
        here = seen(path, key.frame)
        slope_before, slope_after = (
            (4 * seen(path, key.frame + side * step) - seen(path, key.frame + 2 * side * step))
            / (2 * side * step)
            - 3 * here / (2 * side * step)
            for side in (-1, 1)
        )
        tolerance = 1e-4 * (1 + np.abs(slope_before).max())
        np.testing.assert_allclose(slope_before, slope_after, atol=tolerance, rtol=0)


def travelled(path: CameraPath) -> tuple[float, float]:
    """How far the view turns from the first key to the last in all, rad; least eye distance, m."""
    frames = np.linspace(path.keys[0].frame, path.keys[-1].frame, 200)
    seen_views = [view for frame in frames if (view := path.at(frame)) is not None]
    rotations = [axes_exactly(view) for view in seen_views]
    turned = 0.0
    for a, b in pairwise(rotations):
        turned += math.acos(min(1.0, max(-1.0, (np.trace(a @ b.T) - 1) / 2)))
    return turned, min(math.dist(view.eye, HOME.target) for view in seen_views)


@pytest.mark.parametrize("turn", [0.0, math.pi / 2, math.pi, -3.0])
@pytest.mark.parametrize("name", ["yaw", "roll"])
def test_path_never_takes_the_long_way_round(turn: float, name: str) -> None:
    level = replace(HOME, pitch=0.0)
    a = replace(level, **{name: math.remainder(turn - 0.2, math.tau)})
    b = replace(level, **{name: math.remainder(turn + 0.3, math.tau)})
    c = replace(level, **{name: math.remainder(turn + 0.5, math.tau)})
    turned, _ = travelled(path_of((0, a), (10, b), (30, c)))
    assert turned == pytest.approx(0.7, abs=0.05)


def test_path_goes_over_the_pole_not_round_it() -> None:
    rising = replace(HOME, yaw=0.0, pitch=1.5)
    beyond = replace(HOME, yaw=math.pi, pitch=1.5, roll=math.pi)
    turned, _ = travelled(path_of((0, rising), (10, beyond)))
    assert turned == pytest.approx(math.pi - 3.0, abs=0.01)
    middle = path_of((0, rising), (10, beyond)).at(5.0)
    assert middle is not None
    assert abs(middle.pitch) <= math.pi / 2


@pytest.mark.parametrize("angle", [0.5, 1.5, 3.0])
def test_two_keys_about_one_target_make_an_arc(angle: float) -> None:
    turned, nearest = travelled(path_of((0, HOME), (10, HOME.orbit(angle, 0.0))))
    assert nearest == pytest.approx(HOME.distance)
    assert turned == pytest.approx(angle, abs=0.01)


def test_two_keys_of_one_eye_turn_the_head() -> None:
    path = path_of((0, HOME), (10, HOME.look_around(1.2, 0.2)))
    for frame in np.linspace(0, 10, 21):
        view = path.at(float(frame))
        assert view is not None
        assert_same_place(view.eye, HOME.eye)


def test_straight_flight_has_constant_speed_whatever_the_spacing() -> None:
    path = path_of(*((n, HOME.fly(0, 0, 1, n, 0.1)) for n in (0, 3, 20, 24, 60)))
    for frame in np.linspace(0, 60, 101):
        view = path.at(float(frame))
        assert view is not None
        assert_same_place(view.target, HOME.fly(0, 0, 1, float(frame), 0.1).target)


def test_path_stays_near_its_keys_whatever_the_spacing() -> None:
    """A fast move before a slow one must not throw the camera far out."""
    keys = [HOME, HOME.fly(0, 0, 1, 1, 1), HOME.fly(0, 0, 1, 1, 2).dolly(0.2), HOME.orbit(1, 0)]
    path = path_of(*zip((0, 1, 2, 80), keys, strict=True))
    for frame in np.linspace(0, 80, 161):
        view = path.at(float(frame))
        assert view is not None
        assert min(math.dist(view.target, key.target) for key in keys) < 1.0
        assert 0.3 < view.distance < 4.0


def test_path_rests_between_two_equal_keys() -> None:
    start, end = HOME.fly(1, 0, 0, 1, 1), HOME.look_around(0.4, 0.1).dolly(2)
    path = path_of((0, start), (10, HOME), (20, HOME), (30, end))
    for frame in np.linspace(10, 20, 11):
        np.testing.assert_allclose(seen(path, float(frame)), seen(path, 10), atol=1e-9)


def test_dolly_zoom_keeps_the_size_at_the_target() -> None:
    path = path_of((0, HOME), (10, HOME.with_fov(1.5)), (15, HOME.with_fov(0.1)))
    for frame in np.linspace(0, 15, 31):
        view = path.at(float(frame))
        assert view is not None
        size = view.distance * math.tan(view.fov_y / 2)
        assert size == pytest.approx(HOME.distance * math.tan(HOME.fov_y / 2))
        assert_same_place(view.target, HOME.target)


def test_keys_are_put_moved_and_taken() -> None:
    other = HOME.orbit(1.0, 0.0)
    path = CameraPath().with_key(CameraKey(10, HOME)).with_key(CameraKey(5, other))
    assert [key.frame for key in path.keys] == [5, 10]
    assert path.with_key(CameraKey(5, HOME)).at(5) == HOME
    assert path.moved(5, 20) == path_of((10, HOME), (20, other))
    assert path.moved(5, 10) == path_of((10, other))
    assert path.moved(5, 5) == path
    assert path.moved(7, 8) == path
    assert path.without(5) == path_of((10, HOME))
    assert path.without(6) == path


# Files


@few
@given(paths, st.booleans())
def test_json_gives_the_same_back(path: CameraPath, orthographic: bool) -> None:
    path = CameraPath(
        tuple(replace(k, view=replace(k.view, orthographic=orthographic)) for k in path.keys)
    )
    assert CameraPath.from_json(json.loads(json.dumps(path.as_json()))) == path
    for key in path.keys:
        assert View.from_json(json.loads(json.dumps(key.view.as_json()))) == key.view


@few
@given(paths, st.floats(0, 400))
def test_every_view_of_a_path_can_be_kept(path: CameraPath, frame: float) -> None:
    view = path.at(frame)
    assert view is not None
    assert View.from_json(view.as_json()) == view


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("yaw", "1"),
        ("yaw", math.nan),
        ("yaw", True),
        ("roll", None),
        ("roll", math.inf),
        ("roll", 10**400),
        ("pitch", 1.6),
        ("distance", 0.0),
        ("distance", -3),
        ("distance", 1e9),
        ("fov_y", 3.2),
        ("fov_y", [0.5]),
        ("orthographic", 1),
        ("target", 3.0),
        ("target", [0, 0]),
        ("target", [0, 0, "x"]),
        ("target", [0, math.nan, 0]),
    ],
)
def test_wrong_json_names_its_field(name: str, value: object) -> None:
    entries = HOME.as_json() | {name: value}
    with pytest.raises(InputError, match=rf"^view\.{name}"):
        View.from_json(entries)
    with pytest.raises(InputError, match=rf"^keys\[0\]\.view\.{name}"):
        CameraPath.from_json([{"frame": 0, "view": entries}], "keys")
    del entries[name]
    with pytest.raises(InputError, match=rf"^view\.{name}"):
        View.from_json(entries)


@pytest.mark.parametrize("frame", [-1, 1.5, "2", True, None, 2**40])
def test_wrong_frame_is_named(frame: object) -> None:
    with pytest.raises(InputError, match=r"^camera_path\[0\]\.frame"):
        CameraPath.from_json([{"frame": frame, "view": HOME.as_json()}])


@pytest.mark.parametrize("value", [None, 3, "x", {"frame": 0}, [3], [{"frame": 0}]])
def test_wrong_path_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"^camera_path"):
        CameraPath.from_json(value)


def test_two_keys_at_one_frame_are_refused() -> None:
    key = {"frame": 3, "view": HOME.as_json()}
    with pytest.raises(InputError, match=r"^camera_path\[1\]\.frame"):
        CameraPath.from_json([key, key])
