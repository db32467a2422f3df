"""A file during writing: under a temporary name, locked as long as its process lives.

A killed process leaves an unlocked file, which the next writer of the same target removes.
"""

import contextlib
import fcntl
import os
import re
import secrets
from pathlib import Path

NAME_CHARACTERS = 40
"""Number of characters kept of a name, so that the temporary name is not too long for the
system."""


class Partial:
    """Temporary file beside a target, renamed to it at the end. A link is followed."""

    def __init__(self, target: Path, first: bool = True) -> None:
        """Open the file. Raises: OSError.

        first: remove files that killed processes left of this target.
        """
        self.target = Path(os.path.realpath(target))
        start = f".{self.target.stem[:NAME_CHARACTERS]}{self.target.suffix}."
        if first:
            _remove_left(self.target.parent, start)
        while True:
            self.path = self.target.with_name(f"{start}{secrets.token_hex(4)}.partial")
            self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            lock(self._lock)
            # Another process may have taken it for a leftover between the two lines.
            if self.path.exists():
                return
            self._unlock()

    def settle(self, name: Path | None = None) -> None:
        """Rename the file to its target. Raises: OSError."""
        self.path.replace(self.target if name is None else name)
        self._unlock()

    def discard(self) -> None:
        """Remove the file. Never raises."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._unlock()

    def _unlock(self) -> None:
        """Release the lock once: afterwards the number may be another file's."""
        descriptor, self._lock = self._lock, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)


def lock(descriptor: int) -> None:
    """Lock a new file, so that no process takes it for a killed process'. Never raises."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_left(folder: Path, start: str) -> None:
    """Remove temporary files of one target that no process has locked."""
    name = re.compile(re.escape(start) + r"[0-9a-f]{8}\.partial")
    for path in folder.iterdir():
        if name.fullmatch(path.name):
            remove_unlocked(path)


def remove_unlocked(path: Path) -> None:
    """Remove a file unless a process has locked it, or locks are unsupported. Never raises."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
