"""Frames of a motion as a flag chooses them."""

from ash_core.errors import InputError


def parse_frames(text: str, count: int) -> list[int]:
    """Parse `--frames`, `12` or START:STOP:STEP as in Python, to frames of a motion of `count`.

    -1 is the last frame; a STOP beyond the end means the end. Raises: InputError if none is left.
    """
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or numbers == [None] or numbers[2:] == [0]:
        raise InputError(f"--frames: expected N or START:STOP:STEP such as 0:500:5, got '{text}'")
    everything = range(count)
    if len(numbers) == 1:
        only = numbers[0]
        assert only is not None, numbers
        frames = [everything[only]] if -count <= only < count else []
    else:
        frames = list(everything[slice(*numbers)])
    if not frames:
        raise InputError(f"--frames: expected frames in 0..{count - 1}, '{text}' selects none")
    return frames


def frame_step(text: str) -> int:
    """Return how many frames apart a choice's are: STEP of START:STOP:STEP that was parsed."""
    parts = text.split(":")
    return abs(int(parts[2])) if len(parts) == 3 and parts[2].strip() else 1
