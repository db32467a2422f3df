"""Frames as `--frames` of render, train, extract and capture chooses them."""

import pytest

from ash_core.errors import InputError
from ash_core.frame_choice import frame_step, parse_frames


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("3", [3]),
        ("-1", [9]),
        (":", list(range(10))),
        ("2:5", [2, 3, 4]),
        ("0:500:5", [0, 5]),
        ("::-4", [9, 5, 1]),
    ],
)
def test_frames_read_as_python_slices(text: str, want: list[int]) -> None:
    assert parse_frames(text, 10) == want


@pytest.mark.parametrize("text", ["10", "-11", "", "1:2:3:4", "1.5", "5:5"])
def test_bad_frames(text: str) -> None:
    with pytest.raises(InputError, match="--frames: expected"):
        parse_frames(text, 10)


@pytest.mark.parametrize(("text", "want"), [("3", 1), (":", 1), ("2:5", 1), ("::", 1), ("::-4", 4)])
def test_frames_of_a_choice_are_a_step_apart(text: str, want: int) -> None:
    assert frame_step(text) == want
