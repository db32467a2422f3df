"""Session files, checked value by value before a frame is drawn of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from ash_core.cloth.swing import AS_FITTED, LIMITS, Swing
from ash_core.errors import InputError
from ash_core.files.io import bad, read_json, show
from ash_core.look import Look, Mode

SESSION_FORMAT: Final = "ash-studio session"
SESSION_VERSION: Final = 4
"""Versions 1 to 3 are still read."""
SESSION_SUFFIX: Final = ".ash-session"
DAMAGE: Final = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    OSError,
)
"""Exceptions that a damaged session may raise where no check of ours finds the damage first."""
FIELDS: Final[dict[str, type | tuple[type, ...]]] = {
    "avatar": str,
    "preset": (str, type(None)),
    "files": list,
    "stills": dict,
    "motion": str,
    "frame": int,
    "range": list,
    "speed": (int, float),
    "loop": str,
    "view": dict,
    "camera": (str, type(None)),
    "follows root": bool,
    "edit": dict,
    "path": list,
    "swing": dict,
    "look": dict,
    "overlays": dict,
    "background": str,
    "up": (str, type(None)),
}
"""Fields of the newest version, and the kind of value that JSON gives for each."""
KINDS: Final = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}

Holds = Mapping[str, tuple[str, Callable[[Any], bool]]]
"""Field: what it may be, in words and as a test."""


def show_version(content: dict[str, Any]) -> str:
    """Show a file's version as an error quotes it."""
    return show(str(content["version"])) if "version" in content else "none"


def read_session(path: Path) -> dict[str, Any]:
    """Read a session file's fields, all there and each of its kind. Raises: InputError."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != SESSION_FORMAT:
        raise bad(path, None, f"expected an {SESSION_FORMAT}")
    if content.get("version") not in range(1, SESSION_VERSION + 1):
        value = show_version(content)
        raise bad(path, None, f"expected version {SESSION_VERSION} or older, got {value}")
    version = content["version"]
    if version == 1:
        content = {"preset": None, "files": content.get("motions", []), "stills": {}} | content
    if version < 3:
        content = {"up": None} | content
    if version < 4:
        content = {"swing": vars(AS_FITTED)} | content
    for name, kind in FIELDS.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        value = content.get(name, ...)
        if type(value) not in kinds:
            expected = " or ".join(KINDS[one] for one in kinds)
            got = "nothing" if value is ... else show(str(value))
            raise bad(path, None, f"{name}: expected {expected}, got {got}")
    return content


def is_number(value: Any, low: float, high: float) -> bool:
    """Tell whether a JSON value is a number between limits; true and not-a-number are none."""
    return type(value) in (int, float) and low <= value <= high


def check_fields(content: dict[str, Any], holds: Holds, where: str) -> None:
    """Check that every value is what its field may be; fields may be absent. Raises: InputError."""
    for name, value in content.items():
        if name not in holds:
            raise InputError(f"{where}: expected {', '.join(holds)}, got {show(name)}")
        expected, is_fine = holds[name]
        if not is_fine(value):
            raise InputError(f"{where}.{name}: expected {expected}, got {show(str(value))}")


MOST_SCALE: Final = 1000.0
"""A slider takes what is typed into it, too."""
LOOK_HOLDS: Final[Holds] = {
    "mode": (f"one of {', '.join(get_args(Mode))}", lambda v: v in get_args(Mode)),
    "splat_scale": (f"0 to {MOST_SCALE:g}", lambda v: is_number(v, 0.0, MOST_SCALE)),
    "opacity": (f"0 to {MOST_SCALE:g}", lambda v: is_number(v, 0.0, MOST_SCALE)),
    "sh_degree": ("null or 0 to 3", lambda v: v is None or (type(v) is int and 0 <= v <= 3)),
}


def look_from_json(content: dict[str, Any]) -> Look:
    """Read the look of a session file. Raises: InputError."""
    check_fields(content, LOOK_HOLDS, "look")
    return Look(**content)


SWING_HOLDS: Final[Holds] = {
    "is_on": ("true or false", lambda v: isinstance(v, bool)),
    **{
        name: (f"{low:g} to {high:g}", lambda v, low=low, high=high: is_number(v, low, high))
        for name, (low, high) in LIMITS.items()
    },
}


def swing_from_json(content: dict[str, Any]) -> Swing:
    """Read the swing of cloth of a session file. Raises: InputError."""
    check_fields(content, SWING_HOLDS, "swing")
    return Swing(**content)


def check_choice(where: str, value: object, choices: tuple[object, ...]) -> None:
    """Check that a value is one of a few. Raises: InputError."""
    if value not in choices:
        listed = ", ".join("null" if choice is None else str(choice) for choice in choices)
        raise InputError(f"{where}: expected one of {listed}, got {show(str(value))}")
