"""Entries of a published configuration: typed values, and the files that they name.

A wrong value is an `InputError` that names the configuration, the entry and its value.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

from ash_core.errors import InputError
from ash_core.files.conf import Value, read_conf
from ash_core.files.io import bad, is_kind, shorten

CONFS: Final = "confs"
"""Folder of the configurations; names in them are relative to its parent."""
PARENTS: Final = 3
"""Folders above the configuration that its relative names are resolved in."""
OUTPUT: Final = "output_dir"
"""Entry of the output folder, whose files are not looked up."""
MAX_FOLDERS: Final = 16
MAX_SHOWN: Final = 200
"""Characters of a value that an error shows."""
MAX_PARTS: Final = 12
"""Largest number of trailing parts of a foreign path that are tried."""


@dataclass(frozen=True)
class Entry:
    """Entry of a configuration."""

    key: str
    """Dotted key."""
    value: Value | list[Value]

    @property
    def name(self) -> str:
        """Return the last part of the key, in lower case."""
        return self.key.rsplit(".", 1)[-1].lower()

    def __str__(self) -> str:
        if isinstance(self.value, list):
            return f"{self.key}, a list of {len(self.value)}"
        return f"{self.key} = {quoted(self.value)}"


class Entries:
    """All entries of one configuration, and the folders that its names refer to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = read_conf(path)
        self.all = _grouped(self.settings)
        own = path.absolute().parent
        self.parents = list(own.parents)[:PARENTS]
        shelf = next((one for one in [own, *self.parents] if one.name == CONFS), None)
        self.root = own if shelf is None else shelf.parent
        """Folder that names are relative to."""
        self.notes: dict[str, str] = {}
        """Notes by entry's key: the place where a file from another machine was found."""
        self.near = self._near_folders(own)
        """Folders of the configuration and of the files that it names."""

    def _near_folders(self, own: Path) -> list[Path]:
        near = [own]
        for key, value in self.settings:
            if key.rsplit(".", 1)[-1] == OUTPUT:
                continue
            if isinstance(value, str) and value and len(near) < MAX_FOLDERS:
                tries = (folder / value for folder in [self.root, *near, *self.parents])
                folder = next((folder for folder in tries if is_kind(Path.is_dir, folder)), None)
                if folder is not None and folder not in near:
                    near.append(folder)
        return near

    def find(self, name: str) -> Entry | None:
        """Find the entry `section.name`, else the only entry of that name in the file."""
        if name in self.all:
            return self.all[name]
        last = name.rsplit(".", 1)[-1]
        same = [entry for entry in self.all.values() if entry.name == last]
        return same[0] if len(same) == 1 else None

    # ---- typed values ----

    def whole(self, name: str, low: int, high: int) -> int | None:
        """Read an integer in low..high; None without the entry."""
        entry = self.find(name)
        if entry is None:
            return None
        return self._whole(entry, entry.value, f"a whole number, {low} to {high}", low, high)

    def number(self, name: str, low: float, high: float) -> float | None:
        """Read a number in low..high."""
        entry = self.find(name)
        if entry is None:
            return None
        value = entry.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise self.wrong(entry, f"a number, {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str) -> bool | None:
        """Read True or False."""
        entry = self.find(name)
        if entry is None:
            return None
        if not isinstance(entry.value, bool):
            raise self.wrong(entry, "True or False")
        return entry.value

    def numbers(self, name: str, high: int) -> tuple[int, ...] | None:
        """Read a list of different integers in 0..high, in its order."""
        entry = self.find(name)
        if entry is None:
            return None
        if not isinstance(entry.value, list):
            raise self.wrong(entry, f"a list of whole numbers, 0 to {high}")
        expected = f"whole numbers, 0 to {high}"
        values = tuple(self._whole(entry, one, expected, 0, high) for one in entry.value)
        if len(set(values)) < len(values):
            twice = next(one for one in values if values.count(one) > 1)
            raise bad(self.path, None, f"{entry.key}: expected each number once, got {twice} twice")
        return values

    def text(self, name: str) -> str | None:
        """Read a text that is not empty."""
        entry = self.find(name)
        if entry is None:
            return None
        if not isinstance(entry.value, str) or not entry.value.strip():
            raise self.wrong(entry, "a text")
        return entry.value

    def _whole(self, entry: Entry, value: object, expected: str, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            actual = f"a list of {len(value)}" if isinstance(value, list) else quoted(value)
            raise bad(self.path, None, f"{entry.key}: expected {expected}, got {actual}")
        return value

    def wrong(self, entry: Entry, expected: str) -> InputError:
        """Make the error of an entry: expected value and actual value."""
        return bad(self.path, None, f"{entry}: expected {expected}")

    # ---- names of files and folders ----

    def file(self, name: str, what: str) -> Path | None:
        """Find the file that an entry names; it must exist."""
        value = self.text(name)
        if value is None:
            return None
        entry = self.find(name)
        assert entry is not None
        return self.named_file(entry, value, what)

    def named_file(self, entry: Entry, value: str, what: str) -> Path:
        """Find a file by its name in an entry. Raises: InputError."""
        path = self.locate(value)
        if path is None:
            folder = self.locate(value, Path.is_dir)
            actual = "nothing there" if folder is None else "a folder"
            raise bad(self.path, None, f"{entry}: expected {what}, found {actual}")
        if is_from_elsewhere(value):
            self.notes[entry.key] = f"{entry}: not there, {path} has its name and is taken"
        return path

    def folder(self, name: str) -> Path | None:
        """Return the folder of an entry, which need not exist yet."""
        value = self.text(name)
        if value is None:
            return None
        return self.locate(value, Path.is_dir) or self.root / value.replace("\\", "/")

    def locate(self, value: str, kind: Callable[[Path], bool] = Path.is_file) -> Path | None:
        """Resolve a name from the root or one of the other folders.

        Absolute names that do not exist come from another machine: their last parts are looked up
        in the configuration's own folder and the folders that it names.
        """
        name = value.replace("\\", "/")
        folders = dict.fromkeys([self.root, *self.near, *self.parents])
        tries = [folder / name for folder in folders]
        if is_from_elsewhere(name):
            parts = Path(name).parts
            starts = range(1, min(len(parts), MAX_PARTS))
            tries += [folder.joinpath(*parts[n:]) for n in starts for folder in self.near]
        return next((path for path in tries if is_kind(kind, path)), None)


def quoted(value: object) -> str:
    """Quote a value; a file's name stays whole, since the user must search for it."""
    return ascii(shorten(value, MAX_SHOWN)) if isinstance(value, str) else str(value)


def is_from_elsewhere(name: str) -> bool:
    """Return whether a name starts at a disk's root and does not exist here."""
    is_absolute = name.startswith("/") or PureWindowsPath(name).is_absolute()
    return is_absolute and not is_kind(Path.exists, Path(name))


def _grouped(settings: list[tuple[str, Value]]) -> Mapping[str, Entry]:
    """Collect the items of each list."""
    lists: dict[str, list[Value]] = {}
    entries: dict[str, Entry] = {}
    for key, value in settings:
        stem = re.sub(r"(\.\d+)+$", "", key)
        if stem == key and value != ():
            entries[key] = Entry(key, value)
        else:
            items = lists.setdefault(stem, [])
            items += [] if value == () else [value]
            entries[stem] = Entry(stem, items)
    return entries
