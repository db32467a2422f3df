"""Document that a person edits, and its undo history.

`Document` is one frozen value, and every edit puts a new one into the `History`. How it is shown
(look, overlays, background) is part of it and of its file, but no edit: undo leaves it as it is.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from ash_core.cloth.swing import AS_FITTED, Swing
from ash_core.conventions import Up
from ash_core.look import PLAIN, Look
from ash_core.render import Colour
from ash_core.scene.pose_edit import PoseEdit
from ash_core.scene.scene_file import Holds, check_fields, is_number
from ash_core.scene.view import CameraPath

MOST_EDITS: Final = 1000
"""Edits that can be undone; older ones stay done."""
BACKGROUNDS: Final[dict[str, Colour | None]] = {
    "dark": (0.11, 0.12, 0.13),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "transparent": None,
}
"""None is shown over a checkerboard and recorded with alpha."""

MeshStyle = Literal["none", "wire", "shaded", "textured"]
MeshPlace = Literal["under", "over"]
MESH_STYLES: Final[tuple[MeshStyle, ...]] = get_args(MeshStyle)
MESH_PLACES: Final[tuple[MeshPlace, ...]] = get_args(MeshPlace)


@dataclass(frozen=True)
class Overlays:
    """Aids drawn over and under the splats."""

    skeleton: bool = False
    joint_names: bool = False
    grid: bool = True
    cameras: bool = False
    camera_path: bool = True
    mesh: MeshStyle = "none"
    """The posed template."""
    mesh_place: MeshPlace = "over"
    """Draw the mesh over or under the splats; "under" shows where they do not cover it."""
    mesh_opacity: float = 1.0

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Overlays":
        """Read the overlays of a session file; older ones know no mesh. Raises: InputError."""
        check_fields(content, OVERLAY_HOLDS, "overlays")
        return Overlays(**content)


_SWITCH: Final = ("true or false", lambda v: isinstance(v, bool))
OVERLAY_HOLDS: Final[Holds] = {
    "skeleton": _SWITCH,
    "joint_names": _SWITCH,
    "grid": _SWITCH,
    "cameras": _SWITCH,
    "camera_path": _SWITCH,
    "mesh": (f"one of {', '.join(MESH_STYLES)}", lambda v: v in MESH_STYLES),
    "mesh_place": (f"one of {', '.join(MESH_PLACES)}", lambda v: v in MESH_PLACES),
    "mesh_opacity": ("a number from 0 to 1", lambda v: is_number(v, 0.0, 1.0)),
}


@dataclass(frozen=True)
class Document:
    """Edits of one scene, and how it is shown."""

    motion: str
    edit: PoseEdit = field(default_factory=PoseEdit)
    path: CameraPath = field(default_factory=CameraPath)
    swing: Swing = AS_FITTED
    look: Look = PLAIN
    overlays: Overlays = Overlays()
    background: str = "dark"
    up: Up | None = None
    """Up axis of the splats' file; None where no splats are open."""

    @property
    def lies_under(self) -> bool:
        """Check for something to be seen through the splats besides a colour."""
        mesh = self.overlays.mesh != "none" and self.overlays.mesh_place == "under"
        return self.overlays.grid or mesh or BACKGROUNDS[self.background] is None

    @property
    def drawn(self) -> tuple[object, ...]:
        """List what a frame is drawn of; the rest lies about it, or is drawn over it."""
        has_mesh = self.overlays.mesh != "none"
        shown = self.look, self.background, has_mesh, self.lies_under
        return self.motion, self.edit, self.swing, *shown


SHOWN: Final = ("look", "overlays", "background")
"""Fields of a document that undo and redo leave as they are."""


def _shown_as(document: Document, other: Document) -> Document:
    """Show one document as another is shown."""
    return replace(document, **{name: getattr(other, name) for name in SHOWN})


class History:
    """Documents, the newest last, and where undo stands."""

    def __init__(self, document: Document) -> None:
        self._entries: list[tuple[str, Document]] = [("open", document)]
        self._position = 0
        self._merge: str | None = None

    @property
    def document(self) -> Document:
        return self._entries[self._position][1]

    @property
    def position(self) -> int:
        """Number of edits in force."""
        return self._position

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all edits, undone ones too."""
        return tuple(label for label, _ in self._entries[1:])

    def apply(self, label: str, document: Document, merge: str | None = None) -> None:
        """Put an edit in force; what was undone is forgotten.

        merge: edits in a row of the same name are one to undo (a slider that is being dragged).
        A change of how the document is shown is no edit: what was undone can still be redone.
        """
        if _shown_as(self.document, document) == document:
            self._show(document)
            return
        if merge is not None and merge == self._merge and self._position > 0:
            self._entries[self._position] = label, document
        else:
            self._entries[self._position + 1 :] = [(label, document)]
            self._position += 1
            spare = max(len(self._entries) - 1 - MOST_EDITS, 0)
            del self._entries[:spare]
            self._position -= spare
        self._merge = merge

    def _show(self, document: Document) -> None:
        """Put a document in the place of the one in force."""
        self._entries[self._position] = self._entries[self._position][0], document

    def settle(self) -> None:
        """Let the next edit be one of its own, whatever its name."""
        self._merge = None

    def undo(self) -> str | None:
        """Go back by one edit; returns its label, None if there is none."""
        self._merge = None
        if self._position == 0:
            return None
        self._move(-1)
        return self._entries[self._position + 1][0]

    def redo(self) -> str | None:
        """Go forward by one edit; returns its label, None if there is none."""
        self._merge = None
        if self._position + 1 == len(self._entries):
            return None
        self._move(1)
        return self._entries[self._position][0]

    def _move(self, step: int) -> None:
        """Put another document in force, shown as the present one is."""
        before = self.document
        self._position += step
        self._show(_shown_as(self.document, before))
