"""Dialogs for files: in the window, or the desktop's own; asked now, answered in a later frame."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from imgui_bundle import portable_file_dialogs

from ash_core.scene.path_files import SUFFIX
from ash_core.scene.scene_file import SESSION_SUFFIX
from viewer.file_dialog import EVERY, FileDialog, Kind, resolve
from viewer.panels.file_dialog import FileDialogWindow
from viewer.session import Session

AVATARS: Final = (".safetensors", ".conf", ".character")
SPLATS: Final = (".ply", ".spz", ".sog")
MOTIONS: Final = (".motion", ".bvh")
CAMERAS: Final = (".json", ".calibration", ".yml", ".yaml")
OPENED: Final = (
    Kind("All we read", (*AVATARS, *SPLATS, *MOTIONS, *CAMERAS, SESSION_SUFFIX)),
    Kind("Avatars", AVATARS),
    Kind("Splats", SPLATS),
    Kind("Motions", MOTIONS),
    Kind("Cameras", CAMERAS),
    Kind("Sessions", (SESSION_SUFFIX,)),
    EVERY,
)
PATHS: Final = (Kind("Camera paths", (SUFFIX,)), EVERY)
DESKTOP_TOOLS: Final = ("zenity", "kdialog", "matedialog", "qarma")
"""Any of them draws the desktop's dialogs on Linux."""
NO_DESKTOP: Final = "the desktop's file dialog needs zenity or kdialog: this window has its own"

Then = Callable[[str], None]


class FileDialogs:
    """Those that are open, each with what follows from its answer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._window: FileDialogWindow | None = None
        self._then: Then = lambda path: None
        self._left: Callable[[], None] = lambda: None
        self._native: list[tuple[Any, Then, Callable[[], None]]] = []
        self._folders: dict[str, Path] = {}
        """Folder of the last file, by the dialog's title."""
        self._last: Path | None = None
        """Folder of the last file of any dialog."""

    @property
    def dialog(self) -> FileDialog | None:
        """The one that is open in the window."""
        return None if self._window is None else self._window.dialog

    def open(self, title: str, kinds: Sequence[Kind], then: Then) -> None:
        """Ask for a file that there is."""
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
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask where to write. endings: see FileDialog. left: called if the person cancels."""
        path = resolve(name, self._folder(title))
        if self._uses_desktop():
            self._native.append((portable_file_dialogs.save_file(title, str(path)), then, left))
        else:
            kinds = (Kind(" ".join(endings), tuple(endings)), EVERY) if endings else (EVERY,)
            dialog = FileDialog(title, path.parent, kinds, True, path.name, endings)
            self._begin(dialog, then, left)

    def draw(self) -> None:
        """Draw what is open, once a frame; go on with what was chosen since."""
        self._collect()
        window = self._window
        if window is None or window.draw():
            return
        self._window = None
        if window.dialog.result is None:
            self._left()
        else:
            self._last = self._folders[window.dialog.title] = window.dialog.result.parent
            self._then(str(window.dialog.result))

    def _begin(
        self, dialog: FileDialog, then: Then, left: Callable[[], None] = lambda: None
    ) -> None:
        if self._window is not None:
            self._left()
        recent = self._session.recent
        self._window, self._then, self._left = FileDialogWindow(dialog, recent), then, left

    def _collect(self) -> None:
        for entry in [entry for entry in self._native if entry[0].ready()]:
            self._native.remove(entry)
            dialog, then, left = entry
            result = dialog.result()
            paths = [path for path in ([result] if isinstance(result, str) else result) if path]
            for path in paths:
                then(path)
            if not paths:
                left()

    def _folder(self, title: str) -> Path:
        """Choose where a dialog begins: where its last file was, else any dialog's last one."""
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
