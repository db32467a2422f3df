"""A camera path as a file of its own, to be used with other motions and avatars."""

import json
from pathlib import Path
from typing import Final

from ash_core.errors import InputError
from ash_core.files.io import bad, read_json, show, write_text
from ash_core.scene.view import CameraPath

FORMAT: Final = "ash-studio camera path"
VERSION: Final = 1
SUFFIX: Final = ".json"


def write_path(out: Path, path: CameraPath) -> None:
    """Write versioned JSON, whole or not at all. Raises: InputError."""
    content = {"format": FORMAT, "version": VERSION, "keys": path.as_json()}
    write_text(out, json.dumps(content, indent=1) + "\n")


def read_path(file: Path) -> CameraPath:
    """Read a camera path. Raises: InputError for a file that is none."""
    content = read_json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise bad(file, None, f"expected a camera path of ash-studio (format {FORMAT!r})")
    if content.get("version") != VERSION:
        version = show(str(content.get("version")))
        raise bad(file, None, f"expected version {VERSION}, got {version}")
    try:
        return CameraPath.from_json(content.get("keys"), "keys")
    except InputError as error:
        raise bad(file, None, str(error)) from error
