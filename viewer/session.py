"""A scene in a window: its clock, panels, messages and preferences.

No toolkit here. Every change goes through `viewer.commands`; the window draws frames from
`Session.request_shown`, a recording from `Scene.request`.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import torch

from ash_core.conventions import Up
from ash_core.errors import CudaError, InputError
from ash_core.files.io import legible
from ash_core.geometry.framing import is_in_picture
from ash_core.records import AvatarData, Camera, Motion
from ash_core.render import RenderRequest
from ash_core.scene.joint_tree import sliders
from ash_core.scene.open import (
    BUILT_IN,
    BUNDLED,
    FITTED_SUFFIXES,
    Backend,
    Device,
    Preset,
    fit_motion,
)
from ash_core.scene.playback import Playback
from ash_core.scene.preferences import PreferenceStore
from ash_core.scene.view import View
from viewer.clock import Clock, Place
from viewer.front_end import Clipboard, Message, Panels, RequestQueue, Severity
from viewer.live_scene import LiveScene

_log = logging.getLogger(__name__)

MESSAGES: Final = 200


class Session(LiveScene):
    """Scene of one window, seen by one person.

    Raises: InputError for an avatar or a motion that cannot be opened at the start; later ones
    become messages, and what was open stays open.
    """

    along_path: bool
    """The view is that of the camera path, until somebody moves the camera by other means."""
    _timed: str
    """Motion that the clock is set to."""
    _places: dict[str, Place]
    """Places of the clock in the other motions."""
    _home: tuple[str, View, float]
    """(motion, view, aspect) of the last `home()`."""

    def __init__(
        self,
        avatar: str = BUNDLED,
        motion: str | None = None,
        device: Device = "auto",
        backend: Backend = "auto",
        preset: Preset | None = None,
        now: Callable[[], float] = time.monotonic,
        file: Path | None = None,
        preferences: PreferenceStore | None = None,
        usual_preset: Preset | None = None,
        up: Up | None = None,
    ) -> None:
        """Open as `Scene` does. now: clock of the window, s."""
        self.now = now
        self.messages: deque[Message] = deque(maxlen=MESSAGES)
        self.preferences = PreferenceStore() if preferences is None else preferences
        self.panels = Panels()
        self.requests = RequestQueue()
        self.clipboard = Clipboard()
        self.selected_joint: str | None = None
        self.along_path = False
        self._keyed: View | None = None
        self._fitting: list[tuple[str, AvatarData, Future[tuple[Motion, list[str]]]]] = []
        super().__init__(
            avatar,
            motion,
            device,
            backend,
            preset,
            file=file,
            usual_preset=usual_preset,
            up=up,
            report=self.say,
        )

    # ---- what is open ----

    def _begin(self, plays: bool) -> None:
        data = self.data
        is_posed = isinstance(data, AvatarData)
        self.sliders = sliders(data.skeleton, data.rest_dofs) if is_posed else ()
        self.clock = Clock(self.fps, self.frame_count, self.touch)
        if plays:
            self.clock.play()
        self._timed, self._places = self.document.motion, {}
        self._forget_live()
        self.selected_joint = None

    def open(self, path: str) -> None:
        """Open an avatar, a motion, cameras or a session. Whatever goes wrong becomes a message,
        and everything stays as it was.
        """
        try:
            super().open(path)
        except Exception as error:  # a window must outlive any file
            reason = str(error).split("\n")[0] or type(error).__name__
            if not isinstance(error, (InputError, OSError, CudaError, torch.OutOfMemoryError)):
                _log.warning("%s: cannot be opened: %s", path, reason, exc_info=error)
            is_expected = isinstance(error, (InputError, OSError))
            self.say(reason if is_expected else f"{path}: cannot be opened: {reason}", "error")

    def _open_motion(self, path: str) -> None:
        if Path(path).suffix.lower() in FITTED_SUFFIXES:
            self._fit(path)
        else:
            self.add_motion(path)

    def _fit(self, path: str) -> None:
        """Retarget a motion on a thread, for it takes seconds; `collect` takes the result."""
        self._check_moves(path)
        data, coming = self.character, Future[tuple[Motion, list[str]]]()
        self.say(f"{path}: being fitted to {data.name}")

        def work() -> None:
            try:
                notes: list[str] = []
                coming.set_result((fit_motion(path, data, notes.append), notes))
            except Exception as error:  # reported by collect
                coming.set_exception(error)

        threading.Thread(target=work, name="retarget", daemon=True).start()
        self._fitting.append((path, data, coming))

    @property
    def fits(self) -> bool:
        """True while motions are being retargeted."""
        return bool(self._fitting)

    def collect(self) -> None:
        """Take the motions that have been retargeted since."""
        for entry in [entry for entry in self._fitting if entry[2].done()]:
            self._fitting.remove(entry)
            path, data, coming = entry
            error = coming.exception()
            if error is not None:
                self.say(str(error), "error")
            elif data is self.data:  # else another avatar was opened meanwhile
                motion, notes = coming.result()
                for text in notes:
                    self.report(text)
                self._take_motion(path, motion)

    @property
    def recent(self) -> tuple[str, ...]:
        """Files that were opened, the last one first."""
        return self.preferences.value.recent

    def _remember(self, path: str) -> None:
        if path not in BUILT_IN:
            self.preferences.remember(path)

    # ---- edits ----

    def choose_up(self, up: Up) -> None:
        """Turn splats so that an axis of their file is up; say so where there are none."""
        if self.is_static:
            super().choose_up(up)
        else:
            self.say("only splats have an up axis to choose: an avatar stands upright")

    def undo(self) -> str | None:
        """Take back the last edit, and say which."""
        label = super().undo()
        self.say("nothing to undo" if label is None else f"undone: {label}")
        return label

    def redo(self) -> str | None:
        """Redo what was taken back, and say what."""
        label = super().redo()
        self.say("nothing to redo" if label is None else f"redone: {label}")
        return label

    # ---- time ----

    @property
    def playback(self) -> Playback:
        """Playhead, in and out points of the clock."""
        clock = self.clock
        return Playback(clock.frame, clock.first, clock.last, clock.speed, clock.loop)

    @playback.setter
    def playback(self, playback: Playback) -> None:
        clock = self.clock
        clock.pause()
        clock.last, clock.first = playback.last, playback.first
        clock.speed, clock.loop = playback.speed, playback.loop
        clock.seek(playback.frame)

    def _follow_motion(self) -> None:
        """Let the clock go on with the motion that is chosen, from where that one stood last."""
        name, timing = self.document.motion, (self.fps, self.frame_count)
        if name != self._timed:
            self._places = {**self._places, self._timed: self.clock.place}
            self._timed = name
            self.clock.set_motion(*timing, self._places.get(name))
        elif timing != (self.clock.fps, self.clock.frames):  # read again from a file
            self.clock.set_motion(*timing)

    def tick(self) -> None:
        """Bring up to now, once a frame, what changes by time: clock, camera path, a drag."""
        self.clock.tick(self.now())
        self.collect()
        self._follow_path()
        self._tick_live()

    def _follow_path(self) -> None:
        """Look along the camera path, until somebody moves the camera by other means."""
        keyed = self.document.path.at(self.frame) if self.along_path else None
        moved = self._keyed is not None and self.view != self._keyed
        if keyed is None or moved or self.locked_camera is not None:
            self.along_path, self._keyed = False, None
        else:
            self.view = self._keyed = keyed

    # ---- what is seen ----

    def home(self) -> None:
        """Look from the front, and note so for `show_in`."""
        super().home()
        self._home = self.document.motion, self.view, self.aspect

    def show_in(self, width: float, height: float) -> None:
        """Follow the shape of the picture's place, every frame.

        A view that nobody has moved since `home` is framed anew as soon as the shape stays, for
        that takes a fraction of a second.
        """
        stays, self.aspect = width / height == self.aspect, width / height
        motion, view, aspect = self._home
        untouched = (self.document.motion, self.view) == (motion, view)
        if stays and untouched and aspect != self.aspect and self.locked_camera is None:
            self.home()

    def look_through(self, name: str | None) -> None:
        """Look through a capture camera, or by the free view; warn of an empty picture."""
        super().look_through(name)
        if name is not None and not is_in_picture(self.cameras[name], self.surface()):
            self.say(f"camera {name}: nothing of the avatar is in its picture", "error")

    def camera(self, width: int, height: int) -> Camera:
        """Make the camera of the picture that is shown; it follows no camera path by itself."""
        return self._seen_by(self.frame, width, height)

    def request_shown(self, width: int, height: int) -> RenderRequest:
        """Make the request of the frame that is shown now. It has no side effect.

        During manual posing, and while cloth is live, poses and cloth are those that were shown.
        Otherwise, and in recordings always, they are the motion's: the same at any time. What is
        left as it is comes back to them softly.
        """
        return self._request_of(self._shown_window(), self.camera(width, height))

    def recording_size(self, preferred: tuple[int, int] | None = None) -> tuple[int, int]:
        """Choose a recording's size; the preferred one is by default that of the preferences."""
        return super().recording_size(preferred or self.preferences.value.record_size)

    # ---- messages ----

    def say(self, text: str, severity: Severity = "info") -> None:
        """Show a line to the person."""
        self.messages.append(Message(legible(text), severity, self.now()))
