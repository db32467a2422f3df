"""Messages of the program: the status bar, and a window with the last ones."""

from typing import Final

from imgui_bundle import imgui

from viewer import commands
from viewer.front_end import Message
from viewer.panels.theme import colours
from viewer.panels.widgets import fitting
from viewer.session import Session

MESSAGE_S: Final = 6.0
ERROR_S: Final = 20.0
"""Time that an error stays: longer, since it names the remedy."""
SIZE_EM: Final = (44.0, 20.0)


def draw_status(session: Session, parts: list[tuple[str, str]]) -> None:
    """Draw the status bar: (text, tooltip) parts, edits, the newest message."""
    for number, (text, tooltip) in enumerate(parts):
        if number:
            imgui.text_disabled("·")
            imgui.same_line()
        imgui.text(text)
        if tooltip:
            imgui.set_item_tooltip(tooltip)
        imgui.same_line()
    history = session.history
    imgui.text_disabled(f"  edits {history.position} / {len(history.labels)}")
    if not session.messages:
        return
    message = session.messages[-1]
    if session.now() - message.time_s >= (ERROR_S if message.severity == "error" else MESSAGE_S):
        return
    imgui.same_line(0, imgui.get_font_size())
    room = imgui.get_content_region_avail().x
    imgui.text_colored(_colour(message), fitting(message.text, room))
    imgui.set_item_tooltip(f"{message.text}\n(click: all messages)")
    if imgui.is_item_clicked():
        commands.run(session, "window.show", name="messages", shown=True)


def draw_messages(session: Session) -> None:
    """Draw the window of messages while it is open, the newest first."""
    if not session.panels.messages:
        return
    em = imgui.get_font_size()
    centre = imgui.get_main_viewport().get_center()
    imgui.set_next_window_pos(centre, imgui.Cond_.appearing, (0.5, 0.5))
    imgui.set_next_window_size((SIZE_EM[0] * em, SIZE_EM[1] * em), imgui.Cond_.appearing)
    _, stays = imgui.begin("Messages", True, int(imgui.WindowFlags_.no_docking))
    if not stays:
        commands.run(session, "window.show", name="messages", shown=False)
    if not session.messages:
        imgui.text_disabled("no messages yet")
    elif imgui.button("Copy all"):
        session.clipboard.write("\n".join(message.text for message in session.messages))
    for message in reversed(session.messages):
        imgui.text_disabled(ago(session.now() - message.time_s))
        imgui.same_line(em * 5)
        imgui.push_style_color(imgui.Col_.text, _colour(message))
        imgui.text_wrapped(message.text)
        imgui.pop_style_color()
    imgui.end()


def ago(seconds: float) -> str:
    """Format the time since a message."""
    return f"{seconds:.0f} s ago" if seconds < 90 else f"{seconds / 60:.0f} min ago"


def _colour(message: Message) -> tuple[float, float, float, float]:
    return colours().error if message.severity == "error" else colours().good
