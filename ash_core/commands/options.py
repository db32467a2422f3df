"""Parsers of flags that are more than a word or a number: text to values, else `InputError`."""

import math
import re

from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import InputError

Colour = tuple[float, float, float]

NAMED_COLOURS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


def parse_size(text: str) -> tuple[int, int]:
    """Parse `1285x940` to (width, height), pixels."""
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text.strip().lower())
    if match is None:
        raise InputError(f"--size: expected WIDTHxHEIGHT such as 1285x940, got '{text}'")
    width, height = int(match[1]), int(match[2])
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise InputError(f"--size: expected sides of 1 to {MAX_SIDE_PX} pixels, got '{text}'")
    return width, height


def parse_background(text: str) -> Colour | None:
    """Parse `white`, `black` or `#rrggbb` to RGB in [0, 1], `transparent` to None."""
    if text == "transparent":
        return None
    if text in NAMED_COLOURS:
        return NAMED_COLOURS[text]
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text) is None:
        raise InputError(
            f"--background: expected white, black, transparent or #rrggbb, got '{text}'"
        )
    red, green, blue = (int(text[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def parse_point(text: str, flag: str) -> tuple[float, float, float]:
    """Parse `x,y,z`, m."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{flag}: expected x,y,z in metres such as 3,0,1.2, got '{text}'"
        ) from None
    if not all(map(math.isfinite, (x, y, z))):
        raise InputError(f"{flag}: expected finite numbers, got '{text}'")
    return x, y, z


def parse_wind(text: str) -> tuple[float, float]:
    """Parse `speed` or `speed,direction` (m/s, degrees) to m/s and rad."""
    try:
        speed, angle, *rest = (*(float(part) for part in text.split(",")), 0.0)
    except ValueError:
        speed, angle, rest = math.nan, math.nan, []
    if len(rest) > 1 or not (math.isfinite(speed) and math.isfinite(angle)):
        raise InputError(f"--wind: expected m/s, or m/s,degrees such as 6,90, got '{text}'")
    check_range("--wind", speed, 0.0, 100.0, "m/s")
    check_range("--wind", angle, -360.0, 360.0, "degrees")
    return speed, math.radians(angle)


def check_range(flag: str, value: float, low: float, high: float, unit: str) -> None:
    """Raise `InputError` unless low <= value <= high."""
    if not low <= value <= high:
        ends = " to ".join(
            f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (low, high)
        )
        raise InputError(f"{flag}: expected {f'{ends} {unit}'.rstrip()}, got {value:g}")
