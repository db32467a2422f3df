"""Pieces that several panels are made of."""

from collections.abc import Sequence
from typing import TypeVar

from imgui_bundle import imgui

from viewer import commands
from viewer.session import Session

Choice = TypeVar("Choice", bound=str)


def button(session: Session, label: str, command: str) -> None:
    """A button that runs a command and tells its title; the next thing stands beside it."""
    if imgui.button(label):
        commands.run(session, command)
    if imgui.is_item_hovered():
        imgui.set_tooltip(commands.BY_NAME[command].title)
    imgui.same_line()


def combo(name: str, value: Choice, choices: Sequence[Choice]) -> Choice | None:
    """Another choice than the present one; None without one."""
    chosen = None
    if imgui.begin_combo(name, value):
        for choice in choices:
            picked, _ = imgui.selectable(choice, choice == value)
            if picked and choice != value:
                chosen = choice
        imgui.end_combo()
    return chosen
