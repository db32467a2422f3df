"""Autosave: the session is saved every minute and offered at the next start after a crash."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ash_core.errors import InputError
from ash_core.files.io import read_json, write_text
from ash_core.scene.preferences import user_folder
from ash_core.scene.scene_file import SESSION_SUFFIX
from viewer import commands
from viewer.session import Session
from viewer.unsaved import Answer, Question, Unsaved

EVERY_S: Final = 60.0
KEPT_OF: Final = "kept of"
"""Field of an autosaved session: the file that its edits belong to; null without one."""


def autosave_folder() -> Path:
    """Locate the autosaves in the user's folder for states (XDG_STATE_HOME or ~/.local/state)."""
    return user_folder("XDG_STATE_HOME", ".local/state") / "autosave"


class Autosave:
    """Unsaved edits of one session, and those of sessions that crashed.

    A lock that ends with its process marks the edits of windows that are still open.
    """

    def __init__(self, session: Session, folder: Path | None) -> None:
        """Follow a session. folder: None saves nothing."""
        self._session, self._folder = session, folder
        self._name = secrets.token_hex(6)
        self._lock: int | None = None
        self._kept: object = None
        self._kept_s = session.now()
        self._problem: str | None = None

    @property
    def file(self) -> Path | None:
        """File of this session's autosave."""
        return None if self._folder is None else self._folder / f"{self._name}{SESSION_SUFFIX}"

    def follow(self) -> None:
        """Save changes, at most once a minute; remove the autosave once all is saved."""
        if not self._session.unsaved:
            self._forget()
        elif self._session.now() - self._kept_s >= EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Save unsaved edits now. A closed folder is reported once."""
        session, file = self._session, self.file
        self._kept_s = session.now()
        if file is None or not session.unsaved or self._kept == session.work:
            return
        content = session.content() | {KEPT_OF: None if session.file is None else str(session.file)}
        try:
            self._hold()
            write_text(file, json.dumps(content) + "\n")
            self._kept = session.work
        except (InputError, OSError) as error:
            if str(error) != self._problem:
                self._problem = str(error)
                session.say(f"edits are not kept for a crash: {error}", "error")

    def close(self) -> None:
        """Remove the autosave at a regular end."""
        self._forget()
        if self._lock is not None and self._folder is not None:
            os.close(self._lock)
            self._lock = None
            (self._folder / f"{self._name}.lock").unlink(missing_ok=True)

    def offer(self, unsaved: Unsaved) -> None:
        """Offer to restore the newest edits of a crash; others at the next start."""
        file = next(iter(self.left_behind()), None)
        if file is None:
            return
        moment = time.strftime("%d %B %H:%M", time.localtime(file.stat().st_mtime))

        def discard() -> None:
            _remove(file)
            self.offer(unsaved)

        unsaved.question = Question(
            "Restore",
            f"The viewer did not end in order. Unsaved edits of {moment} were kept:\n"
            f"{_described(file)}",
            (
                Answer("Restore", lambda: self._restore(file)),
                Answer("Discard", discard),
                Answer("Later", lambda: None),
            ),
        )

    def left_behind(self) -> list[Path]:
        """List autosaves whose windows are gone, the newest first."""
        if self._folder is None or not self._folder.is_dir():
            return []
        files = self._folder.glob(f"*{SESSION_SUFFIX}")
        orphans = [file for file in files if _is_free(file.with_suffix(".lock"))]
        return sorted(orphans, key=lambda file: file.stat().st_mtime, reverse=True)

    def _restore(self, file: Path) -> None:
        try:
            content = read_json(file)
            of = content.get(KEPT_OF) if isinstance(content, dict) else None
            own = Path(of) if isinstance(of, str) else None
            commands.run(self._session, "file.restore", path=file, file=own)
        except InputError as error:
            self._session.say(f"{error}: nothing was restored, the edits are kept", "error")
            return
        self._session.say("restored: not yet saved")
        self.keep()
        _remove(file)

    def _forget(self) -> None:
        if self._kept is not None and self.file is not None:
            self.file.unlink(missing_ok=True)
        self._kept = None

    def _hold(self) -> None:
        """Lock this session's name until the process ends in any way."""
        if self._lock is None and self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / f"{self._name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock = lock


def _described(file: Path) -> str:
    """Name the file or avatar of an autosave."""
    with contextlib.suppress(InputError):
        content = read_json(file)
        if isinstance(content, dict):
            return Path(str(content.get(KEPT_OF) or content.get("avatar"))).name
    return file.name


def _is_free(lock: Path) -> bool:
    """Check that no process holds a lock."""
    with _opened(lock) as descriptor:
        if descriptor is None:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(file: Path) -> None:
    """Remove an autosave and its lock."""
    file.unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)
