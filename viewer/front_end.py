"""Requests of a session to its front end: panels, files that are wanted, messages."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "error"]


@dataclass(frozen=True)
class Message:
    """One line for the person."""

    text: str
    severity: Severity
    time_s: float


@dataclass
class Panels:
    """Parts of a front end that are shown, and files that are wanted."""

    shown: bool = True
    help: bool = False
    palette: bool = False
    preferences: bool = False
    messages: bool = False
    opening: tuple[str, ...] = ()
    """Files that a person wants opened; edits that they would replace are asked about."""
    open_dialog: bool = False
    save_dialog: bool = False
    record_dialog: bool = False
    screenshot: bool = False
    """A picture is wanted; the front end knows how large."""
    screenshot_as: bool = False
    """One is wanted where the person says."""
    copy_picture: bool = False
    """The same, for the clipboard."""
    save_pose: bool = False
    """A file of the pose is wanted."""
    splats: bool = False
    """A file of them is wanted."""
    times: bool = False
    """A table of the profiler's is wanted."""
    save_path: bool = False
    load_path: bool = False
    """A file of the camera path is wanted."""
    along_path: bool = False
    """The view is the camera path's."""
    span: tuple[float, float] | None = None
    """Frames of the timeline that are seen, first and last; None: all."""
    seconds: bool = False
    """The timeline is labelled in seconds, not in frames."""
    close: bool = False
    """The topmost menu, dialog or window is to be closed."""
    quit: bool = False
    """The person wants to leave."""


class Clipboard:
    """Text of this program alone; a front end puts the system's in its place."""

    def __init__(self) -> None:
        self._text = ""

    def read(self) -> str:
        return self._text

    def write(self, text: str) -> None:
        self._text = text
