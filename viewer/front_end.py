"""Requests of a session to its front end: dialogs and files, panels that are shown, messages."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "error"]
RequestKind = Literal[
    "open",
    "open_dialog",
    "save_dialog",
    "screenshot",
    "screenshot_as",
    "copy_picture",
    "save_pose",
    "save_splats",
    "save_times",
    "save_path",
    "load_path",
    "close",
    "quit",
]
"""Work for the front end: `close` closes the topmost menu, dialog or window; `quit` ends."""


@dataclass(frozen=True)
class Message:
    """One line for the person."""

    text: str
    severity: Severity
    time_s: float


@dataclass(frozen=True)
class Request:
    """Work that a command or a panel leaves to the front end."""

    kind: RequestKind
    paths: tuple[str, ...] = ()
    """Files to open, of the kind `open`; edits that they would replace are asked about."""


class RequestQueue:
    """Requests that wait for the front end, which takes them in their order."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def __iter__(self) -> Iterator[Request]:
        return iter(tuple(self._waiting))

    def put(self, kind: RequestKind, paths: tuple[str, ...] = ()) -> None:
        """Append a request."""
        self._waiting.append(Request(kind, paths))

    def take(self) -> Iterator[Request]:
        """Hand out requests, the oldest first, until none waits."""
        while self._waiting:
            yield self._waiting.popleft()


@dataclass
class Panels:
    """Parts of a front end that are shown, and how the timeline is."""

    shown: bool = True
    """The docked panels, all of them."""
    help: bool = False
    palette: bool = False
    preferences: bool = False
    messages: bool = False
    record_dialog: bool = False
    span: tuple[float, float] | None = None
    """Frames of the timeline that are seen, first and last; None: all."""
    seconds: bool = False
    """The timeline is labelled in seconds, not in frames."""


class Clipboard:
    """Text of this program alone, until it is connected to the system's."""

    def __init__(self) -> None:
        self._text = ""
        self._system: tuple[Callable[[], str], Callable[[str], None]] | None = None

    def connect(self, read: Callable[[], str], write: Callable[[str], None]) -> None:
        """Use a clipboard of the system from now on."""
        self._system = read, write

    def read(self) -> str:
        """Return the text that was copied last."""
        return self._text if self._system is None else self._system[0]()

    def write(self, text: str) -> None:
        """Copy a text."""
        self._text = text
        if self._system is not None:
            self._system[1](text)
