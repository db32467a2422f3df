"""A camera path as a file of its own, to be used with other motions and avatars."""

import json
from pathlib import Path
from typing import Final

from ash_core.errors import InputError
from ash_core.files.io import bad, read_json, show, write_text
from viewer.camera_controls import CameraPath
from viewer.session import Session

FORMAT: Final = "ash-studio camera path"
VERSION: Final = 1
SUFFIX: Final = ".json"


def save_path(session: Session, out: Path) -> None:
    """Versioned JSON, whole or not there. Raises: InputError."""
    keys = session.document.path.as_json()
    content = {"format": FORMAT, "version": VERSION, "keys": keys}
    write_text(out, json.dumps(content, indent=1) + "\n")
    session.say(f"{out}: {len(keys)} camera keys")


def load_path(session: Session, file: Path) -> None:
    """In the place of the present one, undoably. Raises: InputError."""
    path = read_path(file)
    session.edit("load the camera path", path=path)
    beyond = sum(key.frame >= session.clock.frames for key in path.keys)
    told = f", {beyond} behind the motion's end" if beyond else ""
    session.say(f"{file}: {len(path.keys)} camera keys{told}")


def read_path(file: Path) -> CameraPath:
    """Raises: InputError for a file that is none."""
    content = read_json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise bad(file, None, f"expected a camera path of ash-studio (format {FORMAT!r})")
    if content.get("version") != VERSION:
        found = show(str(content.get("version")))
        raise bad(file, None, f"expected version {VERSION}, got {found}")
    try:
        return CameraPath.from_json(content.get("keys"), "keys")
    except InputError as error:
        raise bad(file, None, str(error)) from error
