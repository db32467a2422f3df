"""Damaged files: whatever is in them, a reader returns or raises InputError, and soon.

`make fuzz` goes on where this ends: the same targets, for as long as it is told.
"""

from pathlib import Path

import fuzz
import pytest

COUNTS = {".mp4": 40, ".webm": 40, "session": 60, "import ash": 60, "glb": 25}
COUNTS |= {"gltf": 80, "avatar gltf": 20}
"""Files read of the slower targets; of the others DEFAULT_COUNT."""
DEFAULT_COUNT = 120


@pytest.mark.slow
@pytest.mark.parametrize("group", fuzz.GROUPS)
def test_readers_answer_damaged_files(group: str, tmp_path: Path) -> None:
    for name, target in fuzz.make_targets(group, tmp_path).items():
        _, finding = fuzz.run_target(name, target, seed=0, count=COUNTS.get(name, DEFAULT_COUNT))
        assert finding is None, f"{name}: {finding.fault}"


def test_a_reader_that_fails_is_found(tmp_path: Path) -> None:
    """The fuzzer itself: other exceptions, long messages and nameless ones are findings."""

    def fault(error: Exception) -> str | None:
        def read(path: Path) -> None:
            raise error

        return fuzz.fault_of(fuzz.Target(tmp_path / "a.txt", b"", read), b"x")

    assert fault(fuzz.InputError("a.txt: expected something")) is None
    assert "KeyError" in str(fault(KeyError("version")))
    assert "name the file" in str(fault(fuzz.InputError("expected something")))
    assert "5005 characters" in str(fault(fuzz.InputError("a.txt" + "x" * 5000)))
    assert "control characters" in str(fault(fuzz.InputError("a.txt: \x1b[2J")))
