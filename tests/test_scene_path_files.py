"""A camera path comes back from its file as it was; wrong files change nothing."""

import json
from pathlib import Path

import pytest

from ash_core.errors import InputError
from ash_core.scene.path_files import FORMAT
from viewer import commands
from viewer.session import Session


@pytest.fixture(scope="module")
def session() -> Session:
    return Session("actor", device="cpu", preset="cpu")


def test_a_path_is_saved_loaded_and_undone(session: Session, tmp_path: Path) -> None:
    for frame, look in ((0, "camera.front"), (30, "camera.left"), (75, "camera.top")):
        session.clock.seek(frame)
        commands.run(session, look)
        commands.run(session, "camera.add_key")
    path = session.document.path
    session.save_path(tmp_path / "way.json")
    commands.run(session, "camera.remove_key")
    shorter = session.document.path
    session.load_path(tmp_path / "way.json")
    assert session.document.path == path
    commands.run(session, "edit.undo")
    assert session.document.path == shorter


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "expected JSON"),
        ([], "expected a camera path"),
        ({"format": "ash-studio session"}, "expected a camera path"),
        ({"version": 7}, "expected version 1, got '7'"),
        ({"keys": None}, "keys: expected a list of keys"),
        ({"keys": [{"frame": -1, "view": {}}]}, r"keys\[0\].frame: expected a whole number"),
    ],
)
def test_a_file_that_is_none_is_refused(
    session: Session, tmp_path: Path, content: object, said: str
) -> None:
    if isinstance(content, dict):
        content = {"format": FORMAT, "version": 1, "keys": []} | content
    file = tmp_path / "wrong.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    before = session.document
    with pytest.raises(InputError, match=said):
        session.load_path(file)
    assert session.document == before
