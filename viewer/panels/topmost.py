"""Topmost window or menu, which Esc closes."""

from typing import Final

from imgui_bundle import imgui

from viewer.commands import run
from viewer.session import Session

FLOATING: Final = {
    "Find a command": "palette",
    "Keys and help": "help",
    "Preferences": "preferences",
    "Messages": "messages",
    "Record": "record_dialog",
}
"""Title of a window, and the field of `Panels` that shows it."""


def close_topmost(session: Session) -> None:
    """Close the menu, list or dialog that was opened last, else the topmost window.

    A text field of a docked panel goes before the windows: Esc leaves that field.
    """
    context = imgui.get_current_context()
    popups = context.open_popup_stack.size()
    if popups:
        imgui.internal.close_popup_to_level(popups - 1, True)
        return
    focused = context.nav_window
    if imgui.get_io().want_text_input and focused and focused.root_window.name not in FLOATING:
        return
    for window in reversed(list(context.windows)):
        if window.was_active and window.name in FLOATING:
            run(session, "window.show", name=FLOATING[window.name], shown=False)
            return
