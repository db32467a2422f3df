"""Base of all readers and writers: bounded reads, whole-or-nothing writes, errors with places."""

import contextlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ash_core.errors import InputError
from ash_core.files.partial import lock, remove_unlocked

MAX_TEXT_BYTES = 256 << 20
"""Size of the largest text file: a day of motion, or a mesh of two million vertices."""

MAX_NUMBER = 1e30
"""Upper bound on numbers in text files, beyond which float32 arithmetic overflows."""
HEADER_VERSIONS = ("1", "1.0")
"""Supported versions of skeletool's layouts. Source: the published characters."""

_PART = re.compile(r"\.[0-9a-f]{12}\.part")
_CONTROL = dict.fromkeys((*range(32), 127), "?")


def bad(path: Path | str, line: int | None, text: str) -> InputError:
    """Make the error for one place of a file: always one line, whatever the file contains."""
    place = f"{path}:{line}" if line is not None else f"{path}"
    return InputError(f"{place}: {text}".translate(_CONTROL))


def show(token: str) -> str:
    """Quote a piece of a file for an error: short, printable."""
    return ascii(token if len(token) <= 40 else token[:37] + "...")


def parse_number(token: str) -> float:
    """Parse a number as other programs do: ASCII, no digit groups as in Python's 1_000.

    Raises: ValueError.
    """
    if "_" in token or not token.isascii():
        raise ValueError(f"could not convert string to float: {token!r}")
    return float(token)


def parse_count(token: str, limit: int) -> int:
    """Parse a count, 0 to `limit`. Raises: ValueError."""
    if not (token.isascii() and token.isdigit() and len(token) <= 9 and int(token) <= limit):
        raise ValueError(f"no count: {token!r}")
    return int(token)


def check_header(path: Path | str, line: int, text: str, start: str) -> None:
    """Check the first line of a skeletool file: its kind, and version 1.0 where it names one."""
    kind, version = start.lower(), text.lower().rsplit(" v", 1)[1:]
    if not text.lower().startswith(kind):
        raise bad(path, line, f"expected the header '{start} ...', got {show(text)}")
    if version and version[0].strip() not in HEADER_VERSIONS:
        raise bad(path, line, f"expected version 1.0 of '{start} ...', got {show(text)}")


def legible(text: str) -> str:
    """Replace characters that no font, terminal or UTF-8 file takes: file names may be any
    bytes."""
    return text.encode("utf-8", "replace").decode()


def shorten(text: str, most: int) -> str:
    """Shorten a text to at most so many characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def size_text(size: float) -> str:
    """Format a number of bytes in a fitting unit: 820 B, 3.2 KB, 47 MB."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@contextlib.contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Name the file in errors of the system or the video encoder; append the advice."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        text = f"cannot be written: {error.strerror or error}"
        raise bad(path, None, text + advice) from error
    except Exception as error:
        if not type(error).__module__.startswith("av."):
            raise
        raise bad(path, None, f"the encoder refused: {error}" + advice) from error


def is_kind(kind: Callable[[Path], bool], path: Path) -> bool:
    """Apply Path.is_file or Path.is_dir to a name in a file, which the system may refuse."""
    try:
        return kind(path)
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def read_bytes(path: Path | str, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes."""
    try:
        # More than existence: a named pipe or a device would block or never end.
        if not Path(path).is_file():
            actual = "a folder" if Path(path).is_dir() else "nothing there"
            raise bad(path, None, f"expected a file, found {actual}")
        size = os.path.getsize(path)
        if size > limit:
            raise bad(path, None, f"expected at most {limit >> 20} MiB, got {size >> 20} MiB")
        return Path(path).read_bytes()
    except OSError as error:
        raise bad(path, None, f"cannot be read: {error.strerror or error}") from error


def read_lines(path: Path | str) -> list[str]:
    """Return the lines of a text file, without their ends; line n is at index n - 1."""
    return read_bytes(path).decode("utf-8-sig", errors="replace").split("\n")


def check_folder(folder: Path) -> None:
    """Check that results can be written to a folder; create it if missing. Raises: InputError."""
    with writing(folder):
        try_folder(folder)


def try_folder(folder: Path) -> None:
    """Create a folder if missing, and write to it without leaving a file. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def write_atomic(path: Path | str, parts: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file so that a kill or a full disk leaves the old file or the new one, never half.

    A missing folder is created. A link is followed, so that it stays a link.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(6)}.part")
    try:
        if target.exists() and not target.is_file():
            raise bad(path, None, "cannot be written: a folder or a device")
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                lock(descriptor)
                for part in [parts] if isinstance(parts, bytes) else parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        raise bad(path, None, f"cannot be written: {reason or error}") from error


def drop_leftovers(folder: Path) -> None:
    """Remove temporary files that killed processes left of `write_atomic` in a folder."""
    for path in folder.glob(".*.part"):
        if _PART.fullmatch(path.name):
            remove_unlocked(path)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file whole or not at all."""
    write_atomic(path, text.encode())


def finite_float32(values: np.ndarray) -> np.ndarray:
    """Return the rows [n] whose numbers are all finite, in float32 too."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return np.asarray(np.isfinite(narrow).reshape(len(values), -1).all(1))


class LineReader:
    """Reader of a text file's non-empty lines, whose errors name the line."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        lines = enumerate(read_lines(path), start=1)
        self._lines = [(number, text) for number, raw in lines if (text := raw.strip())]
        self._at = -1

    @property
    def line(self) -> int:
        """Number of the line last returned by `next`."""
        return self._lines[self._at][0] if self._at >= 0 else 1

    def bad(self, text: str) -> InputError:
        """Make the error at the current line."""
        return bad(self.path, self.line, text)

    def next(self, expected: str) -> str:
        """Return the next line; the file must not end before it."""
        if self.peek() is None:
            raise self.bad(f"expected {expected} after this line, found the end of the file")
        self._at += 1
        return self._lines[self._at][1]

    def peek(self) -> str | None:
        """Return the next line without moving on; None at the end."""
        return self._lines[self._at + 1][1] if self._at + 1 < len(self._lines) else None

    def header(self, start: str) -> None:
        """Check the kind and version in the file's first line."""
        text = self.next(f"the header '{start} ...'")
        check_header(self.path, self.line, text, start)

    def rest(self) -> list[tuple[int, str]]:
        """Return all remaining lines, with their numbers."""
        rest = self._lines[self._at + 1 :]
        self._at = len(self._lines) - 1
        return rest

    def number(self, token: str, what: str) -> float:
        """Parse a finite number of the current line."""
        try:
            value = parse_number(token)
        except ValueError:
            raise self.bad(f"expected a number for {what}, got {show(token)}") from None
        if not abs(value) < MAX_NUMBER:  # also refuses NaN
            raise self.bad(f"expected a finite number for {what}, got {show(token)}")
        return value

    def count(self, token: str, what: str, limit: int) -> int:
        """Parse a count of the current line, before any memory is allocated for it."""
        try:
            return parse_count(token, limit)
        except ValueError:
            text = f"expected the number of {what}, 0 to {limit}, got {show(token)}"
            raise self.bad(text) from None


def read_json(path: Path | str) -> object:
    """Parse a JSON file."""
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise bad(path, error.lineno, f"expected JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise bad(path, None, f"expected JSON: {show(str(error))}") from None
