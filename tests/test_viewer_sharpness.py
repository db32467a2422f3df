"""Pictures while something is dragged: small where full ones are slow, and they stay small."""

from hypothesis import given
from hypothesis import strategies as st

from viewer.sharpness import LEAST_SCALE, QUICK_MS, Sharpness

FULL = 640 * 480


@given(slow_ms=st.floats(60.0, 400.0), frames=st.integers(1, 40))
def test_small_pictures_do_not_make_the_next_ones_large(slow_ms: float, frames: int) -> None:
    sharpness = Sharpness()
    sharpness.learn(FULL, FULL, slow_ms)
    first = sharpness.scale(FULL)
    for _ in range(frames):
        scale = sharpness.scale(FULL)
        sharpness.learn(round(scale**2 * FULL), FULL, scale**2 * slow_ms)
    assert sharpness.scale(FULL) == first < 1.0


@given(ms=st.floats(1.0, 400.0), larger=st.floats(1.0, 4.0))
def test_a_picture_takes_the_time_it_is_to_take(ms: float, larger: float) -> None:
    sharpness = Sharpness()
    sharpness.learn(FULL, FULL, ms)
    full = round(larger * FULL)
    scale = sharpness.scale(full)
    assert LEAST_SCALE <= scale <= 1.0
    if LEAST_SCALE < scale < 1.0:
        assert abs(scale**2 * full * ms / FULL - QUICK_MS) < 1e-6


def test_another_avatar_begins_in_full() -> None:
    sharpness = Sharpness()
    sharpness.learn(FULL, FULL, 1000.0)
    assert sharpness.scale(FULL) < 1.0
    sharpness.forget()
    assert sharpness.scale(FULL) == 1.0
