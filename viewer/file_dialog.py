"""State of a file dialog in the window: folders, filters, typed text, files. No toolkit."""

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ash_core.files.io import is_kind, legible

Column = Literal["name", "size", "changed"]


@dataclass(frozen=True)
class Kind:
    """Files that are listed together."""

    title: str
    suffixes: tuple[str, ...] = ()
    """Lower-case suffixes with their dots; none: every file."""

    def holds(self, name: str) -> bool:
        """Check a file's name."""
        return not self.suffixes or name.lower().endswith(self.suffixes)


EVERY: Final = Kind("All files")


@dataclass(frozen=True)
class Entry:
    """One line of a folder."""

    path: Path
    is_folder: bool
    size_bytes: int
    changed_s: float
    """Time of the last change, s since 1970."""

    @property
    def name(self) -> str:
        """Return the name as it is shown and typed: bytes that are no text are replaced."""
        return legible(self.path.name)


@dataclass(frozen=True)
class Place:
    """Shortcut to a folder."""

    title: str
    folder: Path


@dataclass(frozen=True)
class Suggestion:
    """Continuations of a typed text."""

    text: str
    """Text with the common start of its candidates; a single one as a whole."""
    candidates: tuple[str, ...]


def list_folder(folder: Path) -> list[Entry]:
    """List everything in a folder, in no order. Raises: OSError."""
    with os.scandir(folder) as items:
        return [entry for item in items if (entry := _entry(item)) is not None]


def _entry(item: os.DirEntry[str]) -> Entry | None:
    """Describe an entry: a link's target, a broken link itself; None if it is gone by now."""
    try:
        try:
            status = item.stat()
        except OSError:
            status = item.stat(follow_symlinks=False)
        return Entry(Path(item.path), item.is_dir(), status.st_size, status.st_mtime)
    except OSError:
        return None


def sort_entries(entries: Sequence[Entry], column: Column, descending: bool) -> list[Entry]:
    """Sort folders and then files by one column; names as people count (a2 before a10)."""
    by_name = sorted(entries, key=_name_key, reverse=descending and column == "name")
    if column == "size":
        by_name.sort(key=lambda entry: entry.size_bytes, reverse=descending)
    elif column == "changed":
        by_name.sort(key=lambda entry: entry.changed_s, reverse=descending)
    return sorted(by_name, key=lambda entry: not entry.is_folder)


def _name_key(entry: Entry) -> list[tuple[bool, int, str]]:
    parts = re.findall(r"\d+|\D+", entry.name.casefold())
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def resolve(text: str, folder: Path) -> Path:
    """Resolve a typed path: absolute, from home (~), or within a folder."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # ~nobody
        path = Path(text)
    return Path(os.path.normpath(folder / path))


def suggest(text: str, folder: Path, kind: Kind = EVERY) -> Suggestion:
    """Complete a typed path as a shell does. Hidden names follow a typed dot alone."""
    head, slash, tail = text.rpartition(os.sep)
    base = resolve(head + slash, folder) if slash else folder
    try:
        entries = list_folder(base)
    except (OSError, ValueError):
        return Suggestion(text, ())
    fitting = [
        entry
        for entry in sort_entries(entries, "name", False)
        if (entry.is_folder or kind.holds(entry.name))
        and entry.name == entry.path.name
        and (tail.startswith(".") or not entry.name.startswith("."))
        and entry.name.casefold().startswith(tail.casefold())
    ]
    exact = [entry for entry in fitting if entry.name.startswith(tail)]
    names = [e.name + os.sep * e.is_folder for e in exact or fitting]
    shared = _shared_start(names)
    longer = shared if len(shared) >= len(tail) else tail
    return Suggestion(head + slash + longer, tuple(head + slash + name for name in names))


def _shared_start(names: Sequence[str]) -> str:
    """Find the longest text that all names begin with."""
    first, last = min(names, default=""), max(names, default="")
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in same)


def with_ending(path: Path, endings: Sequence[str]) -> Path:
    """Add the first ending to a file's name that has none of them."""
    if not endings or path.name.lower().endswith(tuple(endings)):
        return path
    return path.with_name(path.name + endings[0])


def places(recent: Sequence[str], most: int = 6) -> list[Place]:
    """List home, where the program was started, and folders of files that were opened."""
    opened = (Path(path).parent for path in recent)
    listed: dict[Path, Place] = {_home(): Place("Home", _home())}
    listed.setdefault(_here(), Place("Started in", _here()))
    for folder in opened:
        if len(listed) < most and is_kind(Path.is_dir, folder):
            listed.setdefault(folder, Place(legible(folder.name) or str(folder), folder))
    return [*listed.values()]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return _home()


class FileDialog:
    """One dialog: its folder, its text, and its result once there is one.

    endings: of a file that is saved; the first is added to a name with none of them.
    """

    def __init__(
        self,
        title: str,
        folder: Path,
        kinds: Sequence[Kind] = (EVERY,),
        saves: bool = False,
        name: str = "",
        endings: Sequence[str] = (),
    ) -> None:
        self.title, self.saves = title, saves
        self.kinds, self.kind = tuple(kinds), kinds[0]
        self.endings = tuple(endings)
        self.text = name
        self.typed = False
        """True where the text came from the keyboard: it then filters the entries."""
        self.hidden = False
        self.column: Column = "name"
        self.descending = False
        self.problem: str | None = None
        self.replaced: Path | None = None
        """Existing file that the user has to confirm for replacement."""
        self.result: Path | None = None
        self.folder = folder
        self._chosen: Entry | None = None
        self._entries: list[Entry] = []
        self._changed_ns = -1
        self._listed: tuple[object, list[Entry]] | None = None
        self._suggested: tuple[object, tuple[str, ...]] | None = None
        self._start(folder)

    def _start(self, folder: Path) -> None:
        """Go to the nearest folder that can be read."""
        for nearest in (folder, *folder.parents, _home(), Path("/")):
            if self.go(nearest):
                self.problem = None
                return

    # ---- folder ----

    def go(self, folder: Path) -> bool:
        """Show another folder; one that cannot be read is a problem, and nothing changes."""
        try:
            entries, changed_ns = list_folder(folder), folder.stat().st_mtime_ns
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.problem = legible(f"{folder}: cannot be opened: {reason}")
            return False
        self.folder, self._entries, self._changed_ns = folder, entries, changed_ns
        self._listed = self._chosen = self.problem = self.replaced = None
        if not self.saves:
            self.text, self.typed = "", False
        return True

    def up(self) -> None:
        """Show the folder above, with the one that was left marked."""
        folder = self.folder
        if folder.parent != folder and self.go(folder.parent):
            self._chosen = next((entry for entry in self._entries if entry.path == folder), None)

    def refresh(self) -> None:
        """List the folder again if something came or went."""
        try:
            changed_ns = self.folder.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._entries, self._changed_ns = list_folder(self.folder), changed_ns
                self._listed = None
        except OSError as error:
            self.problem = legible(f"{self.folder}: {error.strerror or error}")

    @property
    def crumbs(self) -> list[Place]:
        """Folders from the root down to this one."""
        way = [*reversed(self.folder.parents), self.folder]
        return [Place(legible(folder.name) or str(folder), folder) for folder in way]

    @property
    def entries(self) -> list[Entry]:
        """List folders, and files of the kind, in the order asked for.

        What is typed to open a file filters too, unless it is a path.
        """
        word = "" if self.saves or not self.typed or os.sep in self.text else self.text.casefold()
        filters = self.kind, self.hidden, self.column, self.descending, word
        if self._listed is None or self._listed[0] != filters:
            fitting = [entry for entry in self._entries if self._lists(entry, word)]
            self._listed = filters, sort_entries(fitting, self.column, self.descending)
        return self._listed[1]

    def _lists(self, entry: Entry, word: str) -> bool:
        hides = entry.name.startswith(".") and not (self.hidden or word.startswith("."))
        is_of_kind = entry.is_folder or self.kind.holds(entry.name)
        return is_of_kind and not hides and word in entry.name.casefold()

    @property
    def left_out(self) -> int:
        """Files in the folder that are of another kind or hidden."""
        return sum(not self._lists(entry, "") for entry in self._entries)

    # ---- choice ----

    @property
    def chosen(self) -> Entry | None:
        """The marked line, while it is listed."""
        return self._chosen if self._chosen in self.entries else None

    def type(self, text: str) -> None:
        """Take a text from the keyboard."""
        self.text, self.typed = text, True
        self._chosen = self.problem = self.replaced = None

    def complete(self) -> str:
        """Complete the typed text; returns it."""
        self.type(suggest(self.text, self.folder, self.kind).text)
        return self.text

    @property
    def candidates(self) -> tuple[str, ...]:
        """Completions of the typed text, where it is a path and not a name."""
        if not (self.typed and os.sep in self.text):
            return ()
        query = self.text, self.folder, self.kind
        if self._suggested is None or self._suggested[0] != query:
            self._suggested = query, suggest(*query).candidates
        return self._suggested[1]

    def choose(self, entry: Entry) -> None:
        """Mark a line; a file's name becomes the text."""
        self._chosen, self.problem, self.replaced = entry, None, None
        if not entry.is_folder:
            self.text, self.typed = entry.name, False
        elif not self.saves:
            self.text, self.typed = "", False

    def move(self, step: int) -> None:
        """Mark the next line or the one before."""
        listed = self.entries
        if listed:
            index = listed.index(self._chosen) if self._chosen in listed else min(-step, 0)
            self.choose(listed[min(max(index + step, 0), len(listed) - 1)])

    def take(self, path: Path) -> None:
        """Show a file or a folder that was dropped on the window."""
        if is_kind(Path.is_dir, path):
            self.go(path)
        elif self.go(path.parent):
            dropped = next((entry for entry in self._entries if entry.path == path), None)
            if dropped is not None:
                self.kind = self.kind if self.kind.holds(dropped.name) else EVERY
                self.choose(dropped)

    def accept(self) -> None:
        """Accept the chosen or typed path: go into a folder, or set the result."""
        entry = self.chosen
        if entry is not None and entry.is_folder:
            self.go(entry.path)
        elif entry is not None and self.text == entry.name:
            self._accept(entry.path)
        elif not self.text.strip():
            self.problem = "type a name or choose a file"
        else:
            self._accept(resolve(self.text, self.folder))

    def _accept(self, path: Path) -> None:
        if is_kind(Path.is_dir, path):
            if self.go(path):
                self.text, self.typed = "", False
        elif self.saves:
            self._accept_new(with_ending(path, self.endings))
        elif is_kind(Path.is_file, path):
            self.result = path
        else:
            self.problem = legible(f"{path}: no such file")

    def _accept_new(self, path: Path) -> None:
        folder = path.parent
        if not is_kind(Path.is_dir, folder):
            self.problem = legible(f"{folder}: no such folder")
        elif is_kind(Path.is_dir, path):
            self.problem = legible(f"{path}: is a folder")
        elif not os.access(folder, os.W_OK):
            self.problem = legible(f"{folder}: cannot be written to")
        elif is_kind(os.path.lexists, path):
            self.replaced = path
        else:
            self.result = path

    def replace(self) -> None:
        """Confirm that the existing file is replaced."""
        self.result, self.replaced = self.replaced, None
