"""File dialogs, in the window or the desktop's own; the answer comes in a later frame."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from imgui_bundle import portable_file_dialogs

from ash_core.scene.path_files import SUFFIX
from ash_core.scene.scene import MOTION_SUFFIXES
from ash_core.scene.scene_file import SESSION_SUFFIX
from viewer.file_dialog import EVERY, FileDialog, Kind, resolve
from viewer.panels.file_dialog import FileDialogWindow
from viewer.session import Session

AVATARS: Final = (".safetensors", ".conf", ".character")
SPLATS: Final = (".ply", ".spz", ".sog")
CAMERAS: Final = (".json", ".calibration", ".yml", ".yaml")
OPENED: Final = (
    Kind("All we read", (*AVATARS, *SPLATS, *MOTION_SUFFIXES, *CAMERAS, SESSION_SUFFIX)),
    Kind("Avatars", AVATARS),
    Kind("Splats", SPLATS),
    Kind("Motions", MOTION_SUFFIXES),
    Kind("Cameras", CAMERAS),
    Kind("Sessions", (SESSION_SUFFIX,)),
    EVERY,
)
PATHS: Final = (Kind("Camera paths", (SUFFIX,)), EVERY)
DESKTOP_TOOLS: Final = ("zenity", "kdialog", "matedialog", "qarma")
"""Programs that draw the desktop's dialogs on Linux; any of them will do."""
NO_DESKTOP: Final = "the desktop's file dialog needs zenity or kdialog: this window has its own"

Then = Callable[[str], None]


class FileDialogs:
    """Open dialogs, each with the work that follows from its answer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._window: FileDialogWindow | None = None
        self._then: Then = lambda path: None
        self._on_cancel: Callable[[], None] = lambda: None
        self._native: list[tuple[Any, Then, Callable[[], None]]] = []
        self._folders: dict[str, Path] = {}
        """Folder of the last file, by the dialog's title."""
        self._last: Path | None = None
        """Folder of the last file of any dialog."""

    @property
    def dialog(self) -> FileDialog | None:
        """Dialog that is open in the window."""
        return None if self._window is None else self._window.dialog

    def open(self, title: str, kinds: Sequence[Kind], then: Then) -> None:
        """Ask for an existing file."""
        folder = self._folder(title)
        if self._uses_desktop():
            filters = [part for kind in kinds for part in (kind.title, _patterns(kind))]
            self._native.append(
                (portable_file_dialogs.open_file(title, str(folder), filters), then, lambda: None)
            )
        else:
            self._begin(FileDialog(title, folder, kinds), then)

    def save(
        self,
        title: str,
        name: str,
        then: Then,
        endings: Sequence[str] = (),
        on_cancel: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask where to write. endings: see FileDialog. on_cancel: called if the user cancels."""
        path = resolve(name, self._folder(title))
        if self._uses_desktop():
            self._native.append(
                (portable_file_dialogs.save_file(title, str(path)), then, on_cancel)
            )
        else:
            kinds = (Kind(" ".join(endings), tuple(endings)), EVERY) if endings else (EVERY,)
            dialog = FileDialog(title, path.parent, kinds, True, path.name, endings)
            self._begin(dialog, then, on_cancel)

    def draw(self) -> None:
        """Draw the open dialog, once a frame; go on with files chosen since."""
        self._collect()
        window = self._window
        if window is None or window.draw():
            return
        self._window = None
        if window.dialog.result is None:
            self._on_cancel()
        else:
            self._last = self._folders[window.dialog.title] = window.dialog.result.parent
            self._then(str(window.dialog.result))

    def _begin(
        self, dialog: FileDialog, then: Then, on_cancel: Callable[[], None] = lambda: None
    ) -> None:
        if self._window is not None:
            self._on_cancel()
        recent = self._session.recent
        self._window, self._then, self._on_cancel = (
            FileDialogWindow(dialog, recent),
            then,
            on_cancel,
        )

    def _collect(self) -> None:
        for entry in [entry for entry in self._native if entry[0].ready()]:
            self._native.remove(entry)
            dialog, then, on_cancel = entry
            result = dialog.result()
            paths = [path for path in ([result] if isinstance(result, str) else result) if path]
            for path in paths:
                then(path)
            if not paths:
                on_cancel()

    def _folder(self, title: str) -> Path:
        """Choose the first folder of a dialog: of its last file, else of any dialog's last one."""
        recent = self._session.recent
        usual = Path(recent[0]).parent if recent else Path.cwd()
        return self._folders.get(title, self._last or usual)

    def _uses_desktop(self) -> bool:
        if self._session.preferences.value.file_dialog != "system":
            return False
        if sys.platform in ("win32", "darwin") or any(map(shutil.which, DESKTOP_TOOLS)):
            return True
        self._session.say(NO_DESKTOP)
        return False


def _patterns(kind: Kind) -> str:
    return " ".join(f"*{suffix}" for suffix in kind.suffixes) or "*"
