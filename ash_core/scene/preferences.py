"""Preferences of the user: a small file in the configuration folder, with the recent files."""

import json
import logging
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import InputError
from ash_core.files.io import bad, legible, read_json, show, write_text
from ash_core.scene.open import Preset
from ash_core.scene.record import DEFAULT_SIZE
from ash_core.scene.scene_file import show_version

Theme = Literal["dark", "light"]
Place = Literal["auto", "cpu"]
Format = Literal[".mp4", ".webm", ".mov", ""]
"""Suffix of a recording; empty for a folder of PNGs."""
Dialog = Literal["window", "system"]
"""Dialog that chooses files: in the window itself, or the desktop's own."""

THEMES: Final[tuple[Theme, ...]] = get_args(Theme)
PLACES: Final[tuple[Place, ...]] = get_args(Place)
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
DIALOGS: Final[tuple[Dialog, ...]] = get_args(Dialog)
PRESETS: Final[tuple[Preset, ...]] = get_args(Preset)
VIEW_SIZES: Final[dict[str, float]] = {"view": 1.0, "2x view": 2.0}
"""Sizes of screenshots, in sides of the view."""
SCALES: Final = (0.6, 3.0)
IDLE_HZ: Final = (0.5, 60.0)
FORMAT: Final = "ash-studio preferences"
VERSION: Final = 1
RECENT: Final = 12

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preferences:
    """Preferences; the defaults are our suggestions."""

    theme: Theme = "dark"
    scale: float = 1.0
    """Factor on the size of text and buttons, beside the screen's own."""
    device: Place = "auto"
    """Device that renders, from the next start on."""
    preset: Preset | None = None
    """Decoder of avatars that have none, from the next start on; None: the file's."""
    vsync: bool = True
    idle_hz: float = 1.0
    """Frames a second while nothing changes."""
    picture_size: str = "2x view"
    """Size of a screenshot: view, 2x view, or WIDTHxHEIGHT."""
    picture_folder: str = ""
    """Folder of screenshots; empty: where the program was started."""
    record_size: tuple[int, int] = DEFAULT_SIZE
    record_format: Format = ".mp4"
    file_dialog: Dialog = "window"
    """"system" needs zenity or kdialog on Linux."""
    recent: tuple[str, ...] = ()
    """Files, the last opened first."""


def picture_sides(text: str) -> tuple[int, int] | None:
    """Parse WIDTHxHEIGHT; None for other texts and sizes."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX]\s*(\d{1,6})\s*", text)
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    return (width, height) if 0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX else None


HOLDS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "theme": ("dark or light", lambda v: v in THEMES),
    "scale": (f"{SCALES[0]} to {SCALES[1]}", lambda v: _between(v, SCALES)),
    "device": ("auto or cpu", lambda v: v in PLACES),
    "preset": ("null, cpu, light, balanced or quality", lambda v: v is None or v in PRESETS),
    "vsync": ("true or false", lambda v: isinstance(v, bool)),
    "idle_hz": (f"{IDLE_HZ[0]} to {IDLE_HZ[1]}", lambda v: _between(v, IDLE_HZ)),
    "picture_size": (
        f"view, 2x view or WIDTHxHEIGHT, sides of 1 to {MAX_SIDE_PX}",
        lambda v: isinstance(v, str) and (v in VIEW_SIZES or picture_sides(v) is not None),
    ),
    "picture_folder": ("a folder's name", lambda v: isinstance(v, str) and legible(v) == v),
    "record_size": (
        f"two sides of 1 to {MAX_SIDE_PX}",
        lambda v: _is_list(v, int) and len(v) == 2 and all(0 < n <= MAX_SIDE_PX for n in v),
    ),
    "record_format": (".mp4, .webm, .mov or nothing", lambda v: v in FORMATS),
    "file_dialog": ("window or system", lambda v: v in DIALOGS),
    "recent": ("names of files", lambda v: _is_list(v, str)),
}
"""Valid values of each field, in words and as a test."""


def _between(value: object, limits: tuple[float, float]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return limits[0] <= value <= limits[1]


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def preferences_file() -> Path:
    """Locate the file in the user's configuration folder (XDG_CONFIG_HOME or ~/.config)."""
    return user_folder("XDG_CONFIG_HOME", ".config") / "preferences.json"


def user_folder(variable: str, usual: str) -> Path:
    """Locate our folder in one of the user's: the variable's, else the usual one at home.

    A user without a home, as in some containers, has it where temporary files lie.
    """
    base = os.environ.get(variable)
    if base:
        return Path(base) / "ash-studio"
    try:
        return Path.home() / usual / "ash-studio"
    except RuntimeError:  # neither HOME nor an entry in the user database
        return Path(tempfile.gettempdir()) / f"user-{os.getuid()}" / usual / "ash-studio"


def read_preferences(path: Path) -> Preferences:
    """Read a file; missing fields take their defaults. Raises: InputError for other files."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise bad(path, None, "expected preferences of ash-studio")
    if content.get("version") != VERSION:
        raise bad(path, None, f"expected version {VERSION}, got {show_version(content)}")
    values = {f.name: content[f.name] for f in fields(Preferences) if f.name in content}
    for name, value in values.items():
        expected, holds = HOLDS[name]
        if not holds(value):
            raise bad(path, None, f"{name}: expected {expected}, got {show(str(value))}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return replace(Preferences(), **values)


class PreferenceStore:
    """The preferences in force, and their file; without a path they are forgotten."""

    def __init__(self, path: Path | None = None) -> None:
        self.value = Preferences()
        self.problem: str | None = None
        """Reason why the file was not read or not written: one line, once."""
        self._path = path
        try:
            if path is not None and os.path.lexists(path):
                self.value = read_preferences(path)
        except InputError as error:
            self.problem = f"{error}: the defaults hold"
        self._written = self.value

    def change(self, **changes: Any) -> None:
        """Change values at once; `write` saves them."""
        self.value = replace(self.value, **changes)

    def take_problem(self) -> str | None:
        """Return the problem that was not yet reported, once."""
        problem, self.problem = self.problem, None
        return problem

    def remember(self, file: str) -> None:
        """Put a file first among the recent ones."""
        others = (other for other in self.value.recent if other != file)
        self.change(recent=(file, *others)[:RECENT])

    def write(self) -> None:
        """Write changes, whole or not at all. A closed folder is reported once."""
        if self._path is None or self.value == self._written:
            return
        self._written = self.value
        content = {"format": FORMAT, "version": VERSION, **asdict(self.value)}
        try:
            write_text(self._path, json.dumps(content, indent=1) + "\n")
        except InputError as error:
            self.problem = str(error)
