"""A file while it is written: under a temporary name, locked as long as its process lives.

What a killed process left is not locked: whoever writes to the same place next removes it.
"""

import contextlib
import fcntl
import os
import re
import secrets
from pathlib import Path

NAME_CHARACTERS = 40
"""Kept of a name: a longer one, which the system accepts, would give one that it does not."""


class Partial:
    """A temporary file beside a target, which takes its name at the end. A link is followed."""

    def __init__(self, target: Path, first: bool = True) -> None:
        """first: remove what killed processes left of this target. Raises: OSError."""
        self.target = Path(os.path.realpath(target))
        start = f".{self.target.stem[:NAME_CHARACTERS]}{self.target.suffix}."
        if first:
            _remove_left(self.target.parent, start)
        while True:
            self.path = self.target.with_name(f"{start}{secrets.token_hex(4)}.partial")
            self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            lock(self._lock)
            # Whoever cleared up between the two lines took it for a killed process' file.
            if self.path.exists():
                return
            self._unlock()

    def settle(self, name: Path | None = None) -> None:
        """Give the file its name. Raises: OSError."""
        self.path.replace(self.target if name is None else name)
        self._unlock()

    def discard(self) -> None:
        """Remove the file. Never raises."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._unlock()

    def _unlock(self) -> None:
        """Let go of the file; once, since its number may be another file's afterwards."""
        descriptor, self._lock = self._lock, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)


def lock(descriptor: int) -> None:
    """Lock a new file, so that nobody takes it for a killed process'. Never raises."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_left(folder: Path, start: str) -> None:
    """Remove temporary files of one target that no process holds."""
    name = re.compile(re.escape(start) + r"[0-9a-f]{8}\.partial")
    for path in folder.iterdir():
        if name.fullmatch(path.name):
            remove_unlocked(path)


def remove_unlocked(path: Path) -> None:
    """Remove a file unless a process holds its lock, or nobody can tell. Never raises."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
