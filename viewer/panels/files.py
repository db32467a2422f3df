"""The system's own dialogs for files: asked now, answered in some later frame."""

from collections.abc import Callable
from typing import Any, Final

from imgui_bundle import portable_file_dialogs

ALL_WE_READ: Final = (
    "All we read",
    "*.safetensors *.conf *.ply *.spz *.sog *.motion *.bvh *.json *.calibration *.ash-session",
)


class FileDialogs:
    """Those that are open, each with what follows from its answer."""

    def __init__(self) -> None:
        self._open: list[tuple[Any, Callable[[str], None]]] = []

    def open(self, title: str, kinds: tuple[str, str], then: Callable[[str], None]) -> None:
        """Ask for files that there are. kinds: their name and patterns."""
        self._open.append((portable_file_dialogs.open_file(title, "", list(kinds)), then))

    def save(self, title: str, name: str, then: Callable[[str], None]) -> None:
        """Ask where to write; `then` is not called if the person leaves it."""
        self._open.append((portable_file_dialogs.save_file(title, name), then))

    def collect(self) -> None:
        """Once a frame: go on with what was chosen since."""
        for entry in [entry for entry in self._open if entry[0].ready()]:
            self._open.remove(entry)
            dialog, then = entry
            result = dialog.result()
            for path in [result] if isinstance(result, str) else result:
                if path:
                    then(path)
