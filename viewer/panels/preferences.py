"""Window of the preferences; changes take effect at once and are saved."""

from typing import Final

from imgui_bundle import imgui

from ash_core.conventions import MAX_SIDE_PX
from ash_core.scene.preferences import (
    DIALOGS,
    FORMATS,
    IDLE_HZ,
    PLACES,
    PRESETS,
    SCALES,
    THEMES,
    VIEW_SIZES,
    picture_sides,
)
from viewer.commands import run
from viewer.panels.record import NAMES
from viewer.panels.widgets import combo
from viewer.session import Session

DIALOG_NAMES: Final = ("in this window", "in the desktop's dialog")
"""Labels of `DIALOGS`, in their order."""
WIDTH_EM: Final = 27.0
LABEL_EM: Final = 10.0
OTHER: Final = "width x height"
"""Choice of a picture size with sides of its own."""
OWN: Final = "as the file says"


class PreferencesWindow:
    """Window with the values that are being dragged or typed, which take effect afterwards."""

    def __init__(self) -> None:
        self._scale: float | None = None
        self._sides: str | None = None

    def draw(self, session: Session) -> None:
        """Draw the window while it is open."""
        if not session.panels.preferences:
            return
        centre = imgui.get_main_viewport().get_center()
        imgui.set_next_window_pos(centre, imgui.Cond_.appearing, (0.5, 0.5))
        imgui.set_next_window_size((imgui.get_font_size() * WIDTH_EM, 0))
        flags = imgui.WindowFlags_.no_docking | imgui.WindowFlags_.no_resize
        _, stays = imgui.begin("Preferences", True, int(flags))
        if not stays:
            run(session, "window.show", name="preferences", shown=False)
        imgui.push_item_width(-imgui.get_font_size() * LABEL_EM)
        self._window(session)
        _start(session)
        self._pictures(session)
        _recording(session)
        imgui.pop_item_width()
        imgui.end()

    def _window(self, session: Session) -> None:
        store = session.preferences
        imgui.separator_text("Window")
        theme = combo("theme", store.value.theme, THEMES)
        if theme is not None:
            run(session, "window.prefer", theme=theme)
        shown = store.value.scale if self._scale is None else self._scale
        changed, scale = imgui.slider_float("size of text", shown, *SCALES, "%.2fx")
        if changed:
            self._scale = min(max(scale, SCALES[0]), SCALES[1])
        if self._scale is not None and not imgui.is_item_active():
            run(session, "window.prefer", scale=self._scale)
            self._scale = None
        changed, vsync = imgui.checkbox("wait for the screen (vsync)", store.value.vsync)
        if changed:
            run(session, "window.prefer", vsync=vsync)
        changed, number = imgui.combo(
            "choose files", DIALOGS.index(store.value.file_dialog), list(DIALOG_NAMES)
        )
        if changed:
            run(session, "window.prefer", file_dialog=DIALOGS[number])
        imgui.set_item_tooltip("the desktop's dialog needs zenity or kdialog on Linux")
        changed, hz = imgui.slider_float(
            "frames while idle", store.value.idle_hz, *IDLE_HZ, "%.1f Hz"
        )
        if changed:
            run(session, "window.prefer", idle_hz=min(max(hz, IDLE_HZ[0]), IDLE_HZ[1]))

    def _pictures(self, session: Session) -> None:
        store = session.preferences
        imgui.separator_text("Screenshots")
        size = store.value.picture_size
        is_custom = size not in VIEW_SIZES
        chosen = combo("picture size", OTHER if is_custom else size, (*VIEW_SIZES, OTHER))
        if chosen is not None:
            width, height = store.value.record_size
            size = f"{width}x{height}" if chosen == OTHER else chosen
            run(session, "window.prefer", picture_size=size)
        if is_custom:
            changed, text = imgui.input_text("width x height", self._sides or size)
            self._sides = text if changed else self._sides
            if self._sides is not None and not imgui.is_item_active():
                sides, self._sides = picture_sides(self._sides), None
                if sides is not None:
                    run(session, "window.prefer", picture_size=f"{sides[0]}x{sides[1]}")
        changed, folder = imgui.input_text_with_hint(
            "folder", "where the program was started", store.value.picture_folder
        )
        if changed:
            run(session, "window.prefer", picture_folder=folder)


def _start(session: Session) -> None:
    store = session.preferences
    imgui.separator_text("From the next start on")
    device = combo("device", store.value.device, PLACES)
    if device is not None:
        run(session, "window.prefer", device=device)
    preset = combo("decoder", store.value.preset or OWN, (OWN, *PRESETS))
    if preset is not None:
        run(session, "window.prefer", preset=None if preset == OWN else preset)


def _recording(session: Session) -> None:
    store = session.preferences
    imgui.separator_text("Recordings begin with")
    changed, size = imgui.input_int2("width, height", list(store.value.record_size))
    if changed:
        width, height = (min(max(side, 1), MAX_SIDE_PX) for side in size)
        run(session, "window.prefer", record_size=(width, height))
    place = FORMATS.index(store.value.record_format)
    changed, place = imgui.combo("format", place, list(NAMES))
    if changed:
        run(session, "window.prefer", record_format=FORMATS[place])
