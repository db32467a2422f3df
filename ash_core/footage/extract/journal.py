"""Journal of one camera's extracted images: a line an image; a kill loses one line at most.

The first line has the settings and what tells the videos' content; others of either and everything
is made again. Journals lie beside the images, images/extract_c_CCC.jsonl, and move with them: file
times count for nothing.
"""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from ash_core.files.dataset import Split, image_files, image_path
from ash_core.files.io import bad, read_lines, shorten, writing
from ash_core.files.masked_image import is_whole
from ash_core.files.release_images import PublishedFolders

_PART: Final = re.compile(r"\.(?:image|mask)_c_(\d+)_f_\d+\.(?:png|jpg)\.part")
NAMES: Final = {"published": "published masks"}
"""Names of settings in messages, if a journal's key is too short."""
CONTENTS: Final = ("video", "mask video")
"""Entries of fingerprints, which are not readable."""
LOCK_SECONDS: Final = 10.0
"""Time to wait for another process: workers outlive a killed run by one frame."""


def journal_path(
    folder: Path, split: Split, camera: int, published: PublishedFolders | None = None
) -> Path:
    """Return the journal's path of a camera. published: folder of the images instead of our
    layout."""
    if published is not None:
        return published.journal(camera)
    return folder / split / "images" / f"extract_c_{camera:03d}.jsonl"


def image_files_of(
    folder: Path,
    split: Split,
    camera: int,
    frame: int,
    kind: Literal["png", "jpg"],
    published: PublishedFolders | None,
) -> tuple[Path, ...]:
    """List the files of an image: the image, and its mask if it is apart."""
    if published is not None:
        return published.files(camera, frame, f".{kind}")
    return image_files(image_path(folder, split, camera, frame, kind))


class Journal:
    """Journal of a camera under extraction, locked against other processes."""

    def __init__(
        self,
        folder: Path,
        split: Split,
        camera: int,
        kind: Literal["png", "jpg"],
        header: dict[str, Any],
        published: PublishedFolders | None = None,
    ) -> None:
        self._of = (folder, split, camera)
        self._published = published
        self._kind: Literal["png", "jpg"] = kind
        self._header = header
        self.path = journal_path(*self._of, published)
        self.changes: list[str] = []
        """Differences to the settings of the existing images."""
        self._sizes: dict[int, list[int]] = {}
        self._empty: set[int] = set()

    def __enter__(self) -> Self:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = self.path.open("a+b", buffering=0)
            except OSError:
                if not self.path.is_file():
                    raise
                # Read-only: acceptable as long as no image is missing.
                self._file = self.path.open("rb", buffering=0)
        try:
            self._lock()
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def has(self, frame: int) -> bool:
        """Return whether a frame's image is as it was written."""
        files = image_files_of(*self._of, frame, self._kind, self._published)
        sizes = self._sizes.get(frame, [])
        return len(sizes) == len(files) and all(map(is_whole, files, sizes))

    def add(self, frame: int, sizes: Sequence[int], is_empty: bool = False) -> None:
        """Record a frame's files.  is_empty: nobody is in it."""
        self._sizes[frame] = list(sizes)
        if is_empty:
            self._empty.add(frame)
            self._write({"empty": frame})  # first: an image without its line is made again
        self._write([frame, *sizes])

    def is_empty(self, frame: int) -> bool:
        """Return whether a frame was recorded without a person, in this run or an earlier one."""
        return frame in self._empty and self.has(frame)

    def forget(self, frames: Sequence[int]) -> None:
        """Remove images and their lines, as if they had not been made."""
        self._remove_old(frames)
        for frame in frames:
            self._sizes.pop(frame, None)

    def _write(self, line: object) -> None:
        with writing(self.path):
            if not self._file.writable():
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            data = json.dumps(line).encode() + b"\n"
            if self._file.write(data) != len(data):
                raise OSError("the disk is full")

    def _lock(self) -> None:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    text = "expected to be the only one, another process extracts this camera"
                    raise bad(self.path, None, text) from None
                time.sleep(0.1)
            except OSError:
                return  # a file system without locks

    def _load(self) -> None:
        header, lines, empty = _parse(read_lines(self.path))
        if header == self._header:
            for frame, *sizes in lines:
                self._sizes[frame] = sizes
            self._empty = empty
            # A line that a kill cut off must not join the next line.
            if read_lines(self.path)[-1] != "" and self._file.writable():
                with writing(self.path):
                    self._file.write(b"\n")
            return
        if not self._file.writable():
            changes = "; ".join(_changes(header or {}, self._header))
            text = f"cannot be written, and the images were made with other settings ({changes})"
            raise bad(self.path, None, shorten(text, 400))
        if header is not None:
            self.changes = list(_changes(header, self._header))
            self._remove_old([frame for frame, *_ in lines])
        with writing(self.path):
            self._file.truncate(0)
        self._write(self._header)

    def _remove_old(self, frames: Sequence[int]) -> None:
        """Remove images of other settings, which would mix with ours."""
        for frame in frames:
            for kind in ("png", "jpg"):
                for path in image_files_of(*self._of, frame, kind, self._published):
                    with contextlib.suppress(OSError):
                        os.unlink(path)


def remove_partials(folder: Path, split: Split, published: PublishedFolders | None = None) -> None:
    """Remove half-written images of killed runs, except for cameras that another process
    extracts."""
    homes = [folder / split / "images"]
    if published is not None:
        homes = [published.images, published.masks]
    partials: dict[int, list[Path]] = {}
    for path in itertools.chain.from_iterable(home.glob("*/.*_c_*_f_*.part") for home in homes):
        if (match := _PART.fullmatch(path.name)) is not None:
            partials.setdefault(int(match[1]), []).append(path)
    for camera, paths in partials.items():
        journal = journal_path(folder, split, camera, published)
        with contextlib.suppress(OSError), journal.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in paths:
                path.unlink(missing_ok=True)


def frames_done(
    folder: Path, split: Split, camera: int, published: PublishedFolders | None = None
) -> int:
    """Count the images in a camera's journal."""
    path = journal_path(folder, split, camera, published)
    return len({frame for frame, *_ in _parse(read_lines(path))[1]}) if path.is_file() else 0


def _parse(lines: list[str]) -> tuple[dict[str, Any] | None, list[list[int]], set[int]]:
    """Parse settings, entries and frames without a person; skip lines damaged by a kill or a
    disk."""
    parsed: list[Any] = []
    for line in lines:
        with contextlib.suppress(ValueError):
            parsed.append(json.loads(line))
    header = parsed[0] if parsed and isinstance(parsed[0], dict) else None
    entries = [
        entry
        for entry in parsed[1:]
        if isinstance(entry, list) and entry and all(type(value) is int for value in entry)
    ]
    if header is None:
        return None, [], set()
    marks = [entry.get("empty") for entry in parsed[1:] if isinstance(entry, dict)]
    return header, entries, {frame for frame in marks if type(frame) is int}


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            if key in CONTENTS and before.get(key):
                yield f"{key}: its content is another"
            elif isinstance(now.get(key), dict):
                yield from _changes(before.get(key) or {}, now[key])
            else:
                old, new = (shorten(json.dumps(d.get(key)), 40) for d in (before, now))
                yield f"{NAMES.get(key, key)}: {old} -> {new}"
