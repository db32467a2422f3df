"""Shortcuts of the commands, as Dear ImGui's keys."""

from typing import Final

from imgui_bundle import imgui

from viewer.commands import CLOSE, COMMANDS, run
from viewer.session import Session

_MODIFIERS: Final = {
    "Ctrl": imgui.Key.mod_ctrl,
    "Shift": imgui.Key.mod_shift,
    "Alt": imgui.Key.mod_alt,
}
_EVERY_MODIFIER: Final = int(imgui.Key.mod_mask_)
_NAMES: Final = {
    "RightArrow": "right_arrow",
    "LeftArrow": "left_arrow",
    "UpArrow": "up_arrow",
    "DownArrow": "down_arrow",
    "PageUp": "page_up",
    "PageDown": "page_down",
    "RightBracket": "right_bracket",
    "LeftBracket": "left_bracket",
}


def chord(shortcut: str) -> int:
    """Pack key and modifiers of a shortcut in one number."""
    *modifiers, key = shortcut.split("+")
    name = _NAMES.get(key, f"_{key}" if key.isdigit() else key.lower())
    total = int(getattr(imgui.Key, name))
    for modifier in modifiers:
        total |= int(_MODIFIERS[modifier])
    return total


def run_pressed(session: Session) -> None:
    """Run the commands whose keys were pressed.

    Text fields, flying and modal dialogs take the keys; Esc alone is always a command.
    """
    typing = imgui.get_io().want_text_input or imgui.is_mouse_down(1)
    if not typing:
        # Otherwise Dear ImGui goes to the next text field, and keeps all keys from then on.
        imgui.internal.set_key_owner(imgui.Key.tab, imgui.get_id("shortcuts"))
    held = int(imgui.get_io().key_mods)
    is_modal = imgui.internal.get_top_most_popup_modal() is not None
    for command in COMMANDS:
        if (typing or is_modal) and command.name != CLOSE:
            continue
        if command.shortcut and _is_pressed(chord(command.shortcut), held):
            run(session, command.name)


def _is_pressed(combination: int, held: int) -> bool:
    """Check for a key that went down, with these modifiers and no other."""
    key = imgui.Key(combination & ~_EVERY_MODIFIER)
    return held == combination & _EVERY_MODIFIER and imgui.is_key_pressed(key, False)
