"""Decoded boxes of images in a file without a name, for images that are slow to decode.

Of a JPEG with a mask beside it the whole is decoded for the box around the person. That box comes
out of its PNG in a quarter of the time. The file belongs to one training alone and is gone with it,
even if it is killed: nothing is found again by another one, nor left behind.
"""

import logging
import os
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import UInt8

from ash_core.files.dataset import image_files
from ash_core.files.io import size_text, writing
from ash_core.files.masked_image import Place, encode_png_box
from ash_core.files.png import decode_png

MOST_DISK: Final = 64e9
"""Bytes of the disk that boxes take, all processes of a machine together."""

_log = logging.getLogger(__name__)
Version = tuple[tuple[int, int], ...]
"""Size and time of change, ns, of an image's files."""


@dataclass(frozen=True)
class Box:
    """The part of a photograph that is kept."""

    pixels: UInt8[np.ndarray, "h w 4"]
    left: int
    top: int


class _Entry(NamedTuple):
    """Place of a box in the file and in its image."""

    start: int
    size: int
    left: int
    top: int
    version: Version


class BoxFile:
    """Boxes of images by number, for several threads.

    The first are kept until there is no room: all are drawn equally often.
    """

    def __init__(self, folder: Path, most: int) -> None:
        """folder: on the disk that is used. most: bytes of the file."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        # Closed with the last reference: a thread may still read.
        weakref.finalize(self, self._file.close)
        self._most = most
        self.size = 0
        """Bytes of the file."""
        self._entries: dict[int, _Entry] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, number: int, image: Path, decode: Callable[[], Box]) -> Box:
        """Read an image's box. `decode` makes it at first, and again where its files change.

        An image that is one file with its mask is always decoded. Raises: what `decode` raises.
        """
        # Before decoding: what is written meanwhile is a change.
        version = _version(image)
        entry = self._entries.get(number)
        if entry is not None and entry.version == version:
            box = self._load(entry)
            if box is not None:
                return box
        box = decode()
        if version is not None:
            self._store(number, box, version)
        return box

    def _load(self, entry: _Entry) -> Box | None:
        """Read a box; None if the disk has lost it."""
        try:
            data = os.pread(self._file.fileno(), entry.size, entry.start)
        except OSError:
            return None
        pixels = decode_png(data)
        return None if pixels is None else Box(pixels, entry.left, entry.top)

    def _store(self, number: int, box: Box, version: Version) -> None:
        """Write a box while there is room."""
        if not self._most:
            return
        height, width = box.pixels.shape[:2]
        data = encode_png_box(box.pixels, Place(0, 0, width, height))
        start = self._reserve(len(data))
        if start is None:
            return
        try:
            count = os.pwrite(self._file.fileno(), data, start)
        except OSError:  # such as a quota
            count = 0
        if count == len(data):
            self._entries[number] = _Entry(start, len(data), box.left, box.top, version)
        else:
            self._stop()

    def _reserve(self, size: int) -> int | None:
        """Reserve room; None if there is none. As much as the file takes always stays free."""
        with self._lock:
            disk = os.fstatvfs(self._file.fileno())
            start, end = self.size, self.size + size
            if end <= min(self._most, disk.f_bavail * disk.f_frsize - size):
                self.size = end
                return start
        self._stop()
        return None

    def _stop(self) -> None:
        """Write no more."""
        if not self._most:
            return
        self._most = 0
        text = "%d images wait on the disk, %s, the others are decoded each time"
        _log.info(text, len(self._entries), size_text(self.size))


def _version(image: Path) -> Version | None:
    """Return what changes with an image; None without files of its own for image and mask."""
    files = image_files(image)
    if len(files) == 1:
        return None
    try:
        return tuple((status.st_size, status.st_mtime_ns) for status in map(os.stat, files))
    except (OSError, ValueError):  # gone by now: its reader says so
        return None
