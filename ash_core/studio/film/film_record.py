"""Record of a filmed split, SPLIT/film.json: its settings, and whether it is finished."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ash_core.files.dataset import TRUTH, Split, mask_video_path, video_path
from ash_core.files.io import bad, read_json, shorten, write_text
from ash_core.studio.truth.cloth import SPRINGS

RECORD: Final = "film.json"
SEGMENTS: Final = ".film"
CLOTH: Final = "cloth"
"""Setting: identity of the cloth's solver. Records of older films lack it."""


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of a split's folder, if it exists: `settings` and `finished`."""
    path = folder / RECORD
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise bad(path, None, "expected the record of a film, got something else: remove it")
    content["settings"].setdefault(CLOTH, SPRINGS)
    return content


def write_record(folder: Path, settings: dict[str, Any], finished: bool, previous: int = 0) -> None:
    """Write the settings into a split's folder. previous: frames of a shorter film at the start."""
    content = {"settings": settings, "finished": finished, "kept": previous}
    write_text(folder / RECORD, json.dumps(content, indent=1) + "\n")


def footage(out: Path, split: Split) -> list[Path]:
    """List the existing footage of a filmed split."""
    videos = [
        path
        for kind in (video_path, mask_video_path)
        for path in kind(out, split, 0).parent.glob("stream*.mp4")
    ]
    rest = [out / split / SEGMENTS, out / split / TRUTH]
    return videos + [path for path in rest if path.is_dir()]


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describe the changed settings in words."""
    keys = [key for key in now if before.get(key) != now[key]]
    values = {key: (json.dumps(before.get(key)), json.dumps(now[key])) for key in keys}
    return [f"{key}: {shorten(a, 32)} -> {shorten(b, 32)}" for key, (a, b) in values.items()]


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Lock the folder against other processes; create it. Raises: InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise bad(folder, None, f"cannot be written: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = "expected to be the only one, another process films into it"
            raise bad(folder.parent, None, text) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(lock)
