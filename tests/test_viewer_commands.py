"""Panels and window change the session through commands alone, read from their syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from viewer import commands

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ("app", "autosave", "shortcuts", "unsaved", "window")
"""Modules of the window that are no panel."""
FILES = [
    *sorted((ROOT / "viewer/panels").glob("*.py")),
    *(ROOT / f"viewer/{name}.py" for name in BESIDE),
]
STATE = {"session", "_session", "document", "clock", "history", "panels", "preferences"}
"""Attributes and variables that hold what commands alone may change."""
RECORDS = {"Session", "Document", "Clock", "History", "Panels", "PreferenceStore"}
CHANGES = {
    "add_motion",
    "apply",
    "change",
    "choose_motion",
    "choose_up",
    "edit",
    "frame_character",
    "go_to_first",
    "go_to_last",
    "grab_cloth",
    "home",
    "keep_still",
    "let_live",
    "load",
    "look_through",
    "open",
    "pause",
    "play",
    "pull_cloth",
    "redo",
    "release_cloth",
    "remember",
    "restore",
    "save",
    "seek",
    "set_motion",
    "settle",
    "settle_cloth",
    "show_dof",
    "step",
    "toggle",
    "undo",
}
"""Methods of the session, its document and its clock that change them."""


def changes(tree: ast.AST) -> Iterator[str]:
    """Find statements that change the session's state: assignments, setattr and its methods."""
    names = STATE | set(_aliases(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            if _holds_state(node.value, names):
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and _is_change(node, names):
            yield f"{node.lineno}: {ast.unparse(node)}"


def _is_change(call: ast.Call, names: set[str]) -> bool:
    function = call.func
    if isinstance(function, ast.Name) and function.id in ("setattr", "delattr"):
        return _holds_state(call.args[0], names)
    if isinstance(function, ast.Attribute) and function.attr in CHANGES:
        return _holds_state(function.value, names)
    return False


def _holds_state(node: ast.AST, names: set[str]) -> bool:
    """Check whether a chain such as `self.session.clock` ends in the session's state."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute):
        is_window = isinstance(node.value, ast.Name) and node.value.id == "self"
        return node.attr in (names - {"preferences"} if is_window else names)
    return False


def _aliases(tree: ast.AST) -> Iterator[str]:
    """Find variables that a file gives to the state, by assignment or as an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name):
            if node.annotation.id in RECORDS:
                yield node.arg
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _named(target, node.value)


def _named(target: ast.AST, value: ast.AST) -> Iterator[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, of in zip(target.elts, value.elts, strict=True):
            yield from _named(one, of)
    elif isinstance(target, ast.Name) and isinstance(value, ast.Attribute):
        yield from (target.id,) if _holds_state(value, STATE) else ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_panels_and_window_change_the_session_through_commands(path: Path) -> None:
    assert list(changes(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "code",
    [
        "session.view = view",
        "self._session.clock.speed *= 2",
        "low, session.panels.span = 0, None",
        "c = session.clock; c.first = 3",
        "def draw(s: Session): s.selected_joint = None",
        "setattr(session.panels, name, False)",
        "session.edit('look', look=look)",
        "store = self.session.preferences; store.change(theme='dark')",
    ],
)
def test_a_change_beside_the_commands_is_found(code: str) -> None:
    assert list(changes(ast.parse(code)))


def test_controls_have_names_of_their_own_and_no_shortcut() -> None:
    assert len(commands.BY_NAME) == len(commands.COMMANDS) + len(commands.CONTROLS)
    assert not [control.name for control in commands.CONTROLS if control.shortcut]
    assert {control.group for control in commands.CONTROLS} <= set(commands.GROUPS)
    assert not set(commands.CONTROLS) & set(commands.search(""))
