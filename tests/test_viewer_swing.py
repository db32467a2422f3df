"""Loose cloth in a session: sliders, live, settled, pulled; the toy with a loose front."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_swing import Files, make_files
from torch import Tensor
from torch.testing import assert_close
from window_process import NO_EGL, end_window_process, has_egl, use

from ash_core.cloth.swing import AS_FITTED, Swing
from ash_core.conventions import R_WORLD_BODY
from ash_core.geometry.projected_lines import project
from ash_core.pose_windows import worn_by
from viewer import commands
from viewer.live_scene import EASE_S
from viewer.session import Session

SIZE = (160, 120)
HZ = 30
FRAME = 30


class Hand:
    """A clock that stands until it is moved, s."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    end_window_process()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("swing"))


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def session(files: Files, hand: Hand) -> Session:
    session = Session(str(files.avatar), str(files.motion), "cpu", now=hand)
    session.clock.seek(FRAME)
    session.tick()
    return session


def cloth_of(session: Session) -> Tensor:
    cloth = session.request_shown(*SIZE).window.cloth
    assert cloth is not None
    return cloth


def own_cloth(session: Session) -> Tensor:
    cloth = session.request(session.frame, *SIZE).window.cloth
    assert cloth is not None
    return cloth


def watch(session: Session, hand: Hand, seconds: float) -> Tensor:
    """Let the window's loop run; the newest row of the cloth in each of its frames."""
    rows = []
    for _ in range(round(seconds * HZ)):
        hand.now += 1 / HZ
        session.tick()
        session.advance()
        rows.append(cloth_of(session)[0])
    return torch.stack(rows)


def returns_s(session: Session) -> float:
    """Time after which what was live has become the motion's own."""
    return session._posed.reach_s + EASE_S + 0.2


# ---- sliders ----


def test_a_slider_leads_from_what_was_shown_to_the_motion_s_own(
    session: Session, hand: Hand
) -> None:
    before = cloth_of(session)
    for wind in (2.0, 5.0, 9.0):
        commands.run(session, "cloth.change", wind=wind)
        assert session.is_live
    assert_close(cloth_of(session)[0], before[0], atol=1e-5, rtol=0)
    rows = watch(session, hand, returns_s(session))
    assert not session.is_live
    expected = own_cloth(session)
    assert torch.equal(cloth_of(session), expected)
    assert (expected[0] - before[0]).norm(dim=-1).max() > 0.004
    # It went there by itself: no frame jumps.
    steps = torch.cat((before[:1], rows)).diff(dim=0).norm(dim=-1).max(1).values
    assert steps.max() < 0.03, steps.max()
    # One edit, which is undone the same way.
    assert session.history.labels == ("wind",)
    commands.run(session, "edit.undo")
    assert session.document.swing == AS_FITTED
    assert session.is_live
    watch(session, hand, returns_s(session))
    assert torch.equal(cloth_of(session), before)


def test_cloth_stays_live_until_the_motion_s_own_is_simulated(
    session: Session, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viewer.live_scene.prepare_cloth", lambda *_: False)
    commands.run(session, "cloth.change", gravity=0.2)
    watch(session, hand, 2 * returns_s(session))
    assert session.is_live
    monkeypatch.undo()
    watch(session, hand, EASE_S + 0.2)
    assert not session.is_live


def test_swing_is_switched_and_numbers_are_kept_within_limits(session: Session) -> None:
    commands.run(session, "cloth.swing")
    assert session.request_shown(*SIZE).window.cloth is None
    assert not session.is_live
    commands.run(session, "cloth.settle")
    assert session.messages[-1].text == commands.OFF
    commands.run(session, "cloth.swing")
    assert torch.equal(cloth_of(session), own_cloth(session))
    commands.run(session, "cloth.change", wind=1e9, gravity=-1e9, stiffness=math.nan)
    assert session.document.swing == Swing(wind=100.0, gravity=-20.0)
    commands.run(session, "cloth.reset")
    assert session.document.swing == AS_FITTED


def test_where_no_cloth_is_a_message_says_so(files: Files, hand: Hand) -> None:
    session = Session(str(files.plain), str(files.motion), "cpu", now=hand)
    before = session.document
    assert session.no_cloth == "this avatar has no loose cloth"
    for name in ("cloth.swing", "cloth.live", "cloth.settle", "cloth.reset"):
        commands.run(session, name)
        assert session.messages[-1].text == session.no_cloth
    commands.run(session, "cloth.change", wind=3.0)
    camera = session.camera(*SIZE)
    commands.run(session, "cloth.grab", camera=camera, x_px=80.0, y_px=60.0)
    assert (session.document, session.is_live, session.pulled) == (before, False, None)


# ---- live and settled ----


def test_live_cloth_comes_to_rest_and_goes_on_where_the_playhead_is_put(
    session: Session, hand: Hand
) -> None:
    before = session.document
    moving = cloth_of(session)
    commands.run(session, "cloth.live")
    watch(session, hand, 4.0)
    resting = cloth_of(session)
    assert (resting - resting[:1]).abs().max() < 2e-3
    assert (moving - moving[:1]).abs().max() > 0.01
    session.clock.seek(10)
    session.advance()
    assert_close(cloth_of(session)[0], own_cloth(session)[0], atol=1e-4, rtol=0)
    commands.run(session, "cloth.live")
    assert session.is_live  # on its way back
    watch(session, hand, returns_s(session))
    assert torch.equal(cloth_of(session), own_cloth(session))
    assert session.document == before


def test_live_cloth_follows_a_motion_that_plays_as_the_motion_s_own_does(
    session: Session, hand: Hand
) -> None:
    commands.run(session, "time.play")
    commands.run(session, "cloth.live")
    errors = []
    for _ in range(20):  # at the motion's own rate
        hand.now += 1 / 25
        session.tick()
        session.advance()
        errors.append(float((cloth_of(session)[0] - own_cloth(session)[0]).norm(dim=-1).max()))
    assert session.frame >= FRAME + 18
    assert max(errors) < 0.01, errors


def test_settled_cloth_rests_under_the_pose_and_stays(session: Session, hand: Hand) -> None:
    before, revision = session.document, session.revision
    commands.run(session, "cloth.settle")
    assert session.revision > revision
    settled = cloth_of(session)
    assert torch.equal(settled, settled[:1].expand_as(settled))
    assert (settled - own_cloth(session)).abs().max() > 0.005
    rows = watch(session, hand, 2 * returns_s(session))
    assert (rows - settled[0]).abs().max() < 5e-3
    assert session.document == before
    assert not session.unsaved


# ---- pulled ----


def grab(session: Session) -> tuple[float, float]:
    """Grab the loosest point that the camera sees; its pixel."""
    worn, camera = worn_by(session.character), session.camera(*SIZE)
    assert worn is not None
    places = cloth_of(session)[0].numpy() @ np.array(R_WORLD_BODY).T
    pixels, _ = project(camera, places)
    for point in np.argsort(-worn.model.looseness):
        x, y = pixels[point].tolist()
        commands.run(session, "cloth.grab", camera=camera, x_px=x, y_px=y)
        if session.pulled is not None:
            return x, y
    raise AssertionError("no point is seen")


@pytest.mark.parametrize("plays", [False, True])
def test_pulled_cloth_follows_the_mouse_and_swings_back(
    session: Session, hand: Hand, plays: bool
) -> None:
    before, revision = session.document, session.revision
    recorded = own_cloth(session)
    if plays:
        commands.run(session, "time.play")
    x, y = grab(session)
    assert session.pulled is not None
    start, _ = session.pulled
    camera = session.camera(*SIZE)
    for step in range(30):
        commands.run(session, "cloth.pull", camera=camera, x_px=x + step, y_px=y - step)
        watch(session, hand, 1 / HZ)
    assert session.revision > revision
    (place, target) = (np.array(end) for end in session.pulled)
    moved = place - np.array(start)
    assert moved @ (target - np.array(start)) > 0
    if not plays:
        assert np.linalg.norm(moved) > 0.015
        assert torch.equal(own_cloth(session), recorded)  # no recording shows it
    commands.run(session, "cloth.release")
    assert session.pulled is None
    assert session.is_live
    watch(session, hand, returns_s(session))
    assert not session.is_live
    assert torch.equal(cloth_of(session), own_cloth(session))
    assert session.document == before
    assert not session.unsaved


def test_nothing_is_grabbed_beside_the_cloth(session: Session) -> None:
    camera = session.camera(*SIZE)
    commands.run(session, "cloth.grab", camera=camera, x_px=-50.0, y_px=10.0)
    assert session.pulled is None
    assert not session.is_live
    commands.run(session, "cloth.pull", camera=camera, x_px=10.0, y_px=10.0)
    commands.run(session, "cloth.release")
    assert not session.is_live


number = st.floats(-1e6, 1e6)
action = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1e-4, 1 / 120, 0.1, 5.0])),
    st.tuples(st.just("change"), st.sampled_from(["wind", "gravity", "stiffness"]), number),
    st.tuples(st.just("pull"), number, number),
    st.tuples(st.just("seek"), st.integers(0, 59)),
    st.tuples(st.just("pose"), st.integers(0, 9), st.floats(-50.0, 50.0)),
    st.sampled_from([("cloth.live",), ("cloth.settle",), ("cloth.swing",), ("time.play",)]),
    st.sampled_from([("cloth.release",), ("edit.undo",), ("grab",), ("pose.mirror",)]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(action, min_size=4, max_size=14))
def test_nothing_that_a_person_does_breaks_the_cloth(files: Files, actions: list[tuple]) -> None:
    """Sliders at any end, teleports, frames of any length, pulls to anywhere."""
    hand = Hand()
    session = Session(str(files.avatar), str(files.motion), "cpu", now=hand)
    worn, camera = worn_by(session.character), session.camera(*SIZE)
    assert worn is not None
    assert session.character.cloth is not None
    vertices = session.character.cloth.vertices
    x, y = grab(session)
    for name, *values in (*actions, ("wait", 1 / HZ)):
        if name == "wait":
            hand.now += values[0]
        elif name == "change":
            commands.run(session, "cloth.change", **{values[0]: values[1]})
        elif name == "pull":
            commands.run(session, "cloth.pull", camera=camera, x_px=values[0], y_px=values[1])
        elif name == "seek":
            session.clock.seek(values[0])
        elif name == "pose":
            session.show_dof(*values)
        elif name == "grab":
            commands.run(session, "cloth.grab", camera=camera, x_px=x, y_px=y)
        else:
            commands.run(session, name)
        session.tick()
        session.advance()
        window = session.request_shown(*SIZE).window
        if window.cloth is None:
            assert not session.document.swing.is_on
            continue
        assert window.cloth.isfinite().all()
        # No farther than poses are from each other, and what 10 m/s make of the longest frames.
        skinned = worn.character(replace(window, cloth=None)).vertices[:, vertices]
        spread = (skinned[0] - skinned[-1]).norm(dim=-1).max()
        assert (window.cloth[0] - skinned[0]).norm(dim=-1).max() < 15.0 + spread


# ---- the window ----


@pytest.mark.skipif(not has_egl(), reason=NO_EGL)
def test_the_mouse_pulls_cloth_and_sliders_change_it(files: Files, tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        f"""
        plain = session.no_cloth
        session.open({str(files.avatar)!r}); session.open({str(files.motion)!r})
        session.clock.seek(30)
        settle()
        import numpy as np
        from ash_core.conventions import R_WORLD_BODY
        from ash_core.geometry.projected_lines import project
        camera = session.camera(round(app.area.width), round(app.area.height))
        cloth = session.request_shown(4, 4).window.cloth[0].numpy() @ np.array(R_WORLD_BODY).T
        pixels = project(camera, cloth)[0] + (app.area.x, app.area.y)
        x, y = next(
            pixel for pixel in pixels.tolist()
            if (commands.run(session, "cloth.grab", camera=camera, x_px=pixel[0] - app.area.x,
                             y_px=pixel[1] - app.area.y) or session.pulled)
        )
        commands.run(session, "cloth.release")
        view, edits = session.view, session.history.labels
        io = imgui.get_io()
        mouse(x, y)
        io.add_key_event(imgui.Key.mod_ctrl, True); draw(2)
        mouse(x, y, 0)
        said["grabbed"] = session.pulled is not None
        for step in range(1, 9):
            mouse(x + 6 * step, y - 4 * step, 0)
        place, target = session.pulled
        said["apart"] = float(np.linalg.norm(np.subtract(place, target)))
        mouse(x + 48, y - 32)
        io.add_key_event(imgui.Key.mod_ctrl, False); draw(2)
        said["let go"] = session.pulled is None
        said["same view"] = session.view == view and session.history.labels == edits
        said["no splat was chosen"] = app.atlas.splat is None and app.atlas._choice is None
        commands.run(session, "cloth.change", wind=7.0)
        said["wind"] = session.document.swing.wind
        session.open("actor")
        draw(4)
        said["reasons"] = [plain, session.no_cloth]
        """,
    )
    reasons = ["this avatar has no loose cloth"] * 2
    assert 0.0 < said.pop("apart") < 2.0
    assert said.pop("wind") == 7.0
    assert said.pop("reasons") == reasons
    assert all(said.values()), said
