"""The clock follows the time on the wall, however seldom or often it is looked at."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ash_core.scene.playback import LoopMode
from viewer.clock import Clock

FPS = 25.0
MODES: tuple[LoopMode, ...] = ("loop", "once", "ping-pong")


def clock_of(
    frames: int, loop: LoopMode = "loop", first: int = 0, last: int | None = None
) -> Clock:
    clock = Clock(FPS, frames)
    clock.last = frames - 1 if last is None else last
    clock.first, clock.loop = first, loop
    clock.seek(first)
    return clock


def due(loop: LoopMode, first: int, last: int, passed: int) -> int:
    """The frame after so many whole frames of playing from the in point."""
    span = last - first
    if loop == "loop":
        return first + passed % (span + 1)
    if loop == "once":
        return min(first + passed, last)
    return first + (span - abs(passed % (2 * span) - span) if span else 0)


@pytest.mark.parametrize("loop", MODES)
@pytest.mark.parametrize(("first", "last"), [(0, 9), (3, 7), (4, 5), (6, 6)])
@pytest.mark.parametrize("rate_hz", [7.3, 60.0, 241.0])
def test_each_frame_is_due_for_its_time(
    loop: LoopMode, first: int, last: int, rate_hz: float
) -> None:
    clock = clock_of(10, loop, first, last)
    clock.play(100.0)
    for n in range(1, int(2 * rate_hz)):
        passed = n / rate_hz * FPS + 1e-6  # not on the border of two frames
        clock.tick(100.0 + passed / FPS)
        assert clock.frame == due(loop, first, last, math.floor(passed)), n
        assert first <= clock.position < last + 1


@settings(max_examples=200, deadline=None)
@given(
    loop=st.sampled_from(MODES),
    ends=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    speed=st.floats(0.1, 4.0),
    ticks=st.lists(st.floats(0.001, 12.0), min_size=1, max_size=12),
)
def test_seldom_looks_and_many_end_at_the_same_place(
    loop: LoopMode, ends: tuple[int, int], speed: float, ticks: list[float]
) -> None:
    often = clock_of(41, loop, min(ends), max(ends))
    once = clock_of(41, loop, min(ends), max(ends))
    now = 50.0
    for clock in (often, once):
        clock.speed = speed
        clock.play(now)
    for wait in ticks:
        now += wait
        often.tick(now)
    once.tick(now)
    span = max(ends) + 1 - min(ends)
    apart = abs(often.position - once.position)
    assert min(apart, abs(apart - span)) < 1e-6  # the loop's ends are one place
    assert min(ends) <= often.frame <= max(ends)
    assert often.playing == once.playing


def test_hiccup_is_made_good_and_counted() -> None:
    clock = clock_of(1000)
    clock.play(5.0)
    assert clock.tick(5.05)
    assert (clock.frame, clock.dropped) == (1, 0)
    assert clock.tick(15.05)
    assert (clock.frame, clock.dropped) == (251, 249)


@pytest.mark.parametrize("loop", MODES)
def test_hiccup_drops_what_was_due(loop: LoopMode) -> None:
    clock = clock_of(10, loop)
    clock.play(0.0)
    clock.tick(10.01)
    assert clock.frame == due(loop, 0, 9, 250)
    assert clock.dropped == (8 if loop == "once" else 249)


@pytest.mark.parametrize("loop", MODES)
def test_nothing_is_dropped_by_frequent_looks(loop: LoopMode) -> None:
    clock = clock_of(10, loop, 2, 7)
    clock.tick(0.0)
    clock.play(0.0)
    changes = sum(clock.tick(n / 97.0) for n in range(970))
    assert clock.dropped == 0
    assert changes == (5 if loop == "once" else pytest.approx(250, abs=1))


def test_tick_says_when_another_frame_is_due() -> None:
    clock = clock_of(10)
    assert not clock.tick(0.0)
    clock.play(0.0)
    assert not clock.tick(0.03)
    assert clock.tick(0.05)
    assert not clock.tick(0.06)
    clock.pause()
    assert not clock.tick(9.0)
    clock.seek(7)
    assert clock.tick(9.1)


def test_pause_costs_no_time() -> None:
    clock = clock_of(1000)
    clock.toggle(0.0)
    clock.tick(1.01)
    clock.toggle(1.01)
    assert not clock.playing
    clock.tick(100.0)
    assert clock.frame == 25
    clock.toggle(100.0)
    clock.tick(101.0)
    assert clock.position == pytest.approx(25.25 + 25)


@pytest.mark.parametrize("before", MODES)
@pytest.mark.parametrize("after", MODES)
@pytest.mark.parametrize("at_s", [0.11, 0.39, 0.59])
def test_speed_and_loop_mode_change_without_a_jump(
    before: LoopMode, after: LoopMode, at_s: float
) -> None:
    clock = clock_of(10, before)
    clock.play(0.0)
    clock.tick(at_s)
    place, frame = clock.position, clock.frame
    clock.speed = 4.0
    assert (clock.position, clock.frame) == (place, frame)
    clock.loop = after
    assert clock.position == place
    clock.tick(at_s + 1e-6)
    assert clock.position == pytest.approx(place, abs=1e-3)
    assert abs(clock.frame - frame) <= 1


def test_speed_scales_time_and_has_limits() -> None:
    clock = clock_of(1000)
    clock.speed = 0.5
    clock.play(0.0)
    clock.tick(2.0)
    assert clock.position == pytest.approx(25)
    clock.speed = 99.0
    assert clock.speed == 4.0
    clock.speed = 0.0
    assert clock.speed == 0.1


def test_once_stops_at_the_out_point_and_starts_again() -> None:
    clock = clock_of(100, "once", 10, 20)
    clock.play(0.0)
    clock.tick(3.0)
    assert (clock.frame, clock.playing) == (20, False)
    clock.play(4.0)
    assert (clock.frame, clock.playing) == (10, True)
    clock.tick(4.1)
    assert clock.position == pytest.approx(12.5)


@pytest.mark.parametrize("loop", MODES)
def test_scrubbed_playback_goes_on_from_there(loop: LoopMode) -> None:
    clock = clock_of(100, loop)
    clock.play(0.0)
    clock.tick(0.5)
    clock.seek(40)
    clock.tick(0.6)
    assert clock.frame == 40  # the handle is where the hand is
    clock.tick(0.701)
    assert (clock.frame, clock.playing) == (42, True)
    clock.seek(1000)
    assert clock.frame == 99
    clock.seek(-5)
    assert clock.frame == 0


def test_playback_from_outside_the_in_and_out_points() -> None:
    clock = clock_of(100, "loop", 20, 30)
    clock.seek(80)
    clock.play(0.0)
    clock.tick(10.01 / FPS)
    assert clock.frame == 90
    clock.tick(20.01 / FPS)
    assert clock.frame == 20
    clock.seek(5)
    clock.tick(0.0)
    clock.tick(14.01 / FPS)
    assert clock.frame == 19
    clock.tick(26.01 / FPS)
    assert clock.frame == 20

    clock = clock_of(100, "ping-pong", 20, 30)
    clock.seek(40)
    clock.play(0.0)
    for passed, frame in ((4, 36), (12, 28), (20, 20), (25, 25), (30, 30), (31, 29)):
        clock.tick((passed + 0.01) / FPS)
        assert clock.frame == frame, passed

    clock = clock_of(100, "once", 20, 30)
    clock.seek(80)
    clock.play(0.0)
    clock.tick(9.0)
    assert (clock.frame, clock.playing) == (99, False)


def test_out_point_moved_before_the_playhead_takes_it_along() -> None:
    clock = clock_of(100)
    clock.first = 10
    clock.seek(80)
    clock.last = 50
    assert clock.frame == 80  # standing still
    clock.play(0.0)
    clock.last = 40
    assert clock.frame == 10


def test_step_pauses_and_stays_in_the_motion() -> None:
    clock = clock_of(10, "ping-pong")
    clock.play(0.0)
    clock.tick(10.5 / FPS)  # on the way back, between 8 and 7
    assert clock.frame == 8
    clock.step(-1)
    assert (clock.frame, clock.playing) == (7, False)
    clock.step(100)
    assert clock.frame == 9
    clock.step(-100)
    assert clock.frame == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(-20, 40)), max_size=8))
def test_in_and_out_points_keep_their_order(moves: list[tuple[bool, int]]) -> None:
    clock = Clock(FPS, 20)
    for is_first, frame in moves:
        if is_first:
            clock.first = frame
        else:
            clock.last = frame
        assert 0 <= clock.first <= clock.last < 20
    clock.go_to_last()
    assert clock.frame == clock.last
    clock.go_to_first()
    assert clock.frame == clock.first


def test_another_motion_starts_at_its_beginning() -> None:
    clock = clock_of(100, "ping-pong", 20, 30)
    clock.play(0.0)
    clock.tick(0.7)
    clock.set_motion(50.0, 10)
    assert (clock.frame, clock.first, clock.last, clock.playing) == (0, 0, 9, True)
    clock.tick(60.0)  # loading took a minute
    assert (clock.frame, clock.dropped) == (0, 0)
    clock.tick(60.05)
    assert clock.position == pytest.approx(2.5)
    assert clock.time_s == pytest.approx(2 / 50)


@pytest.mark.parametrize("loop", MODES)
def test_one_frame_plays(loop: LoopMode) -> None:
    clock = clock_of(1, loop)
    clock.play(0.0)
    clock.tick(3.3)
    assert clock.frame == 0


def test_time_that_runs_back_stands_still() -> None:
    clock = clock_of(10)
    clock.play(10.0)
    clock.tick(10.1)
    clock.tick(9.0)
    assert clock.frame == 2


def test_a_motion_goes_on_from_where_it_stood() -> None:
    clock = Clock(25.0, 360)
    clock.first, clock.last = 10, 100
    clock.seek(60)
    stood = clock.place
    clock.set_motion(30.0, 20)
    assert (clock.first, clock.last, clock.frame) == (0, 19, 0)
    clock.set_motion(25.0, 360, stood)
    assert (clock.first, clock.last, clock.frame) == (10, 100, 60)
    clock.set_motion(25.0, 50, stood)  # shorter now
    assert (clock.first, clock.last, clock.frame) == (10, 49, 49)


@pytest.mark.parametrize("loop", ["loop", "once", "ping-pong"])
@given(first=st.integers(0, 20), length=st.integers(0, 30), steps=st.lists(st.floats(0, 0.3)))
@example(first=0, length=0, steps=[0.29999999999999993, 0.29999999999999993, 0.25])
def test_backwards_is_forwards_in_a_mirror(
    loop: LoopMode, first: int, length: int, steps: list[float]
) -> None:
    """Of the motion, with the in and the out point in each other's place."""
    frames, last = 60, first + length
    there, back = Clock(25.0, frames), Clock(25.0, frames)
    for clock, low, high in ((there, first, last), (back, 59 - last, 59 - first)):
        clock.loop, clock.first, clock.last = loop, low, high
    there.seek(first), back.seek(59 - first)
    there.play(0.0)
    back.play(0.0, backwards=True)
    now = 0.0
    for step in steps:
        now += step
        there.tick(now), back.tick(now)
        if abs(there.position - round(there.position)) > 1e-6:  # else rounding decides
            assert back.frame == 59 - there.frame
        assert back.playing == there.playing
    assert (back.first, back.last) == (59 - last, 59 - first)


def test_turning_about_stays_on_the_frame() -> None:
    clock = Clock(25.0, 100)
    clock.play(0.0)
    clock.tick(1.01)
    assert clock.frame == 25
    clock.play(1.01, backwards=True)
    assert (clock.frame, clock.playing, clock.backwards) == (25, True, True)
    clock.tick(1.04)
    assert clock.frame == 25
    clock.tick(1.41 + 1e-6)
    assert clock.frame in (15, 16)
    clock.play(1.41)
    clock.tick(2.41)
    assert clock.frame > 30
