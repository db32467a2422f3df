"""Dialog of a recording: file, format, size, frames and progress."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from imgui_bundle import imgui

from ash_core.errors import InputError
from ash_core.scene.preferences import FORMATS, Format, Preferences
from ash_core.scene.record import FPS_RANGE, Recorder
from viewer import commands
from viewer.panels.files import FileDialogs
from viewer.session import Session

NAMES: Final = ("mp4 (H.264)", "webm (VP9, alpha)", "mov (ProRes 4444, alpha)", "folder of PNGs")
"""Names of the formats, in their order."""


class RecordDialog:
    """Dialog of one recording at a time."""

    def __init__(self, preferences: Preferences) -> None:
        self.name = str(Path.cwd() / "recording")
        self.kind = FORMATS.index(preferences.record_format)
        self.size: list[int] | None = None
        """Width and height as typed; None: the session's."""
        self.step = 1
        self._recorder: Recorder | None = None
        self._said = True

    @property
    def out(self) -> Path:
        """File to write: the name with the format's suffix, once."""
        return Path(_split(self.name)[0] + FORMATS[self.kind])

    def take_name(self, name: str) -> None:
        """Take a name from the file dialog; a known suffix chooses the format."""
        self.name, suffix = _split(name)
        if suffix:
            self.kind = FORMATS.index(suffix)

    @property
    def running(self) -> bool:
        return self._recorder is not None and not self._said

    def close(self) -> None:
        """Cancel a running recording; its frames stay playable."""
        if self._recorder is not None and self.running:
            self._recorder.cancel()
            self._recorder.wait()

    def draw(self, session: Session, lock: threading.Lock, files: FileDialogs) -> None:
        """Draw the dialog while it is open or a recording runs."""
        self._finish(session)
        if not (session.panels.record_dialog or self.running):
            return
        centre = imgui.get_main_viewport().get_center()
        imgui.set_next_window_pos(centre, imgui.Cond_.appearing, (0.5, 0.5))
        imgui.set_next_window_size((imgui.get_font_size() * 28, 0), imgui.Cond_.appearing)
        _, stays = imgui.begin("Record", True, int(imgui.WindowFlags_.no_docking))
        commands.run(session, "window.show", name="record_dialog", shown=bool(stays))
        if self.running:
            self._draw_progress()
        else:
            self._draw_settings(session, lock, files)
        imgui.end()

    def _draw_settings(self, session: Session, lock: threading.Lock, files: FileDialogs) -> None:
        clock = session.clock
        _, self.name = imgui.input_text("to", self.name)
        imgui.same_line(imgui.get_content_region_avail().x - imgui.get_font_size() * 2)
        if imgui.button("..."):
            files.save("Record to", str(self.out), self.take_name)
        imgui.set_item_tooltip("Choose a file; its suffix chooses the format.")
        _, self.kind = imgui.combo("format", self.kind, list(NAMES))
        changed, size = imgui.input_int2("width, height", self._size(session))
        if changed:
            self.size = size
        _, self.step = imgui.input_int("every n-th frame", self.step)
        self.step = max(self.step, 1)
        frames = range(clock.first, clock.last + 1, self.step)
        along = "the camera path" if session.document.path.keys else "the present camera"
        fps = fps_of(clock.fps, self.step)
        imgui.text_disabled(
            f"{len(frames)} frames, {len(frames) / fps:.2f} s at {fps:g} fps, {along}"
        )
        imgui.text_disabled(str(self.out))
        if imgui.button("Record"):
            self._begin(session, lock)

    def _size(self, session: Session) -> list[int]:
        return self.size or [*session.recording_size()]

    def _begin(self, session: Session, lock: threading.Lock) -> None:
        out, (width, height) = self.out, self._size(session)
        try:
            settings, shots = session.recording(out, width, height, self.step)
            settings = replace(settings, fps=fps_of(settings.fps, self.step))
            count = len(settings.frames)
            self._recorder = Recorder(session.renderer, shots, count, settings, lock=lock)
            self._recorder.start()
            self._said = False
        except (InputError, OSError) as error:
            session.say(str(error), "error")

    def _draw_progress(self) -> None:
        assert self._recorder is not None
        progress = self._recorder.progress
        share = progress.done / max(progress.total, 1)
        imgui.progress_bar(share, (-1, 0), f"{progress.done} of {progress.total}")
        if imgui.button("Cancel"):
            self._recorder.cancel()

    def _finish(self, session: Session) -> None:
        recorder = self._recorder
        if recorder is None or self._said or not recorder.finished:
            return
        self._said = True
        if recorder.error is not None:
            session.say(recorder.error, "error")
        elif recorder.cancelled:
            progress, out = recorder.progress, recorder.settings.out
            session.say(f"{out}: cancelled: {progress.done} of {progress.total} frames kept")
        else:
            session.say(f"{recorder.settings.out}: {recorder.progress.done} frames")
            commands.run(session, "window.show", name="record_dialog", shown=False)


def _split(name: str) -> tuple[str, Format]:
    """Split the suffix of a format off a name."""
    for suffix in FORMATS:
        if suffix and name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def fps_of(fps: float, step: int) -> float:
    """Compute the rate of every step-th frame, which keeps the speed of the motion."""
    return max(fps / step, FPS_RANGE[0])
