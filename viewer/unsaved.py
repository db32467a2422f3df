"""Asking before unsaved edits are lost; no toolkit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ash_core.errors import InputError
from ash_core.files.cameras.files import is_camera_file
from ash_core.files.splats import is_splats
from ash_core.scene.scene import MOTION_SUFFIXES
from ash_core.scene.scene_file import SESSION_SUFFIX
from viewer import commands
from viewer.session import Session


@dataclass(frozen=True)
class Answer:
    """A button."""

    label: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Question:
    """Question that a person has to answer before anything else; Esc gives the last answer."""

    title: str
    text: str
    answers: tuple[Answer, ...]


def adds(path: Path) -> bool:
    """Tell whether a file comes to what is open (motions, cameras); others take its place."""
    if path.suffix.lower() in MOTION_SUFFIXES:
        return True
    return is_camera_file(path) and not is_splats(path)


class Unsaved:
    """Stands before what would lose edits: another avatar or session, and the end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._then: Callable[[], None] | None = None
        self.question: Question | None = None
        self.ended = False
        """True once the window may close."""

    def open(self, paths: Sequence[str]) -> None:
        """Open files, after the question where they take the place of unsaved edits."""

        def go_on() -> None:
            for path in paths:
                commands.run(self._session, "file.read", path=path)

        if all(adds(Path(path)) for path in paths):
            go_on()
        else:
            self._ask_before(go_on)

    def quit(self) -> None:
        """End, after the question where edits are unsaved."""

        def go_on() -> None:
            self.ended = True

        self._ask_before(go_on)

    def answer(self, answer: Answer) -> None:
        """Do what a person decided."""
        self.question = None
        answer.run()

    def save(self, path: str | Path) -> None:
        """Save the session, with its ending; then go on with what waits for it."""
        out = str(path)
        try:
            out = out if out.endswith(SESSION_SUFFIX) else out + SESSION_SUFFIX
            commands.run(self._session, "file.write", path=out)
        except InputError as error:
            self.stay()
            self._session.say(str(error), "error")
        then, self._then = self._then, None
        if then is not None:
            then()

    def stay(self) -> None:
        """Forget what waits for the session to be saved."""
        self._then = None

    def _ask_before(self, go_on: Callable[[], None]) -> None:
        if not self._session.unsaved:
            go_on()
            return

        def save_first() -> None:
            self._then = go_on
            if self._session.file is None:
                self._session.requests.put("save_dialog")
            else:
                self.save(self._session.file)

        self.question = Question(
            "Unsaved edits",
            f"The edits of {self._session.name} are not saved.",
            (Answer("Save", save_first), Answer("Discard", go_on), Answer("Cancel", self.stay)),
        )
