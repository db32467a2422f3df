"""Widgets that several panels share."""

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from imgui_bundle import imgui

from ash_core.files.io import legible
from viewer import commands
from viewer.session import Session

Choice = TypeVar("Choice", bound=str)
LEFT_OUT: Final = "..."
SWITCH_EM: Final = 8.0
"""Offset of the second of two switches in a row."""


def label(name: str, identity: str) -> str:
    """Label an item with any name: Dear ImGui shows nothing behind ##, which a file may hold."""
    return f"{re.sub('#(?=#)', '# ', legible(name))}##{legible(identity)}"


def fitting(text: str, room: float, end: bool = False) -> str:
    """Cut a text to a width; its beginning stays, or its end."""
    if imgui.calc_text_size(text).x <= room:
        return text

    def cut(length: int) -> str:
        return LEFT_OUT + text[len(text) - length :] if end else text[:length] + LEFT_OUT

    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = imgui.calc_text_size(cut(middle)).x <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return cut(low)


def button(session: Session, label: str, command: str) -> None:
    """Draw a button that runs a command, with its title as tooltip; the next item is beside it."""
    if imgui.button(label):
        commands.run(session, command)
    if imgui.is_item_hovered():
        imgui.set_tooltip(commands.BY_NAME[command].title)
    imgui.same_line()


def combo(name: str, value: Choice, choices: Sequence[Choice]) -> Choice | None:
    """Draw a list of choices. Returns a new choice, or None."""
    chosen = None
    if imgui.begin_combo(name, value):
        for choice in choices:
            clicked, _ = imgui.selectable(choice, choice == value)
            if clicked and choice != value:
                chosen = choice
        imgui.end_combo()
    return chosen


def slider(
    name: str,
    value: float,
    low: float,
    high: float,
    default: float,
    form: str,
    tooltip: str = "",
) -> float | None:
    """Draw a slider. Returns a new value, or None; a double click restores the default."""
    changed, new = imgui.slider_float(name, value, low, high, form)
    if tooltip:
        imgui.set_item_tooltip(tooltip)
    if imgui.is_item_hovered() and imgui.is_mouse_double_clicked(0):
        return default
    return new if changed else None
