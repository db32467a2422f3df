"""Preferences: kept whole, read with care, in force at once."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ash_core.errors import InputError
from ash_core.scene import preferences
from ash_core.scene.preferences import (
    Preferences,
    PreferenceStore,
    preferences_file,
    read_preferences,
)
from viewer import commands
from viewer.session import Session

SOME = st.builds(
    Preferences,
    theme=st.sampled_from(preferences.THEMES),
    scale=st.floats(*preferences.SCALES),
    device=st.sampled_from(preferences.PLACES),
    preset=st.sampled_from((None, *preferences.PRESETS)),
    vsync=st.booleans(),
    idle_hz=st.floats(*preferences.IDLE_HZ),
    record_size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    record_format=st.sampled_from(preferences.FORMATS),
    file_dialog=st.sampled_from(preferences.DIALOGS),
    picture_size=st.sampled_from((*preferences.VIEW_SIZES, "1920x1080")),
    picture_folder=st.text(max_size=9),
    recent=st.lists(st.text(), max_size=3).map(tuple),
)


@given(wanted=SOME)
def test_what_was_chosen_is_there_at_the_next_start(
    tmp_path_factory: pytest.TempPathFactory, wanted: Preferences
) -> None:
    path = tmp_path_factory.mktemp("config") / "new" / "preferences.json"
    store = PreferenceStore(path)
    store.change(**vars(wanted))
    store.write()
    again = PreferenceStore(path)
    assert (again.value, again.problem) == (wanted, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "expected JSON"),
        ("[]", "expected preferences of ash-studio"),
        ({"format": "other"}, "expected preferences of ash-studio"),
        ({"version": 99}, "expected version 1, got '99'"),
        ({"version": None}, "expected version 1, got 'None'"),
        ('{"format": "ash-studio preferences"}', "expected version 1, got none"),
        ('{"format": "ash-studio preferences", "version": 1, "the', "expected JSON"),
        ("", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ({"theme": "plaid"}, "theme: expected dark or light, got 'plaid'"),
        ({"theme": []}, "theme: expected dark or light"),
        ({"scale": 1e9}, "scale: expected 0.6 to 3.0"),
        ({"scale": float("nan")}, "scale: expected 0.6 to 3.0"),
        ({"scale": True}, "scale: expected 0.6 to 3.0"),
        ({"record_size": [1280]}, "record_size: expected two sides"),
        ({"record_size": [1280, -1]}, "record_size: expected two sides"),
        ({"picture_size": "0x9"}, "picture_size: expected view, 2x view or WIDTHxHEIGHT"),
        ({"picture_size": 3}, "picture_size: expected view"),
        ({"picture_folder": None}, "picture_folder: expected a folder's name"),
        ({"picture_folder": "\ud800"}, "picture_folder: expected a folder's name"),
        ({"record_format": ".gif"}, "record_format: expected .mp4"),
        ({"recent": [1]}, "recent: expected names of files"),
        ({"preset": "huge"}, "preset: expected null, cpu"),
    ],
)
def test_a_damaged_file_is_told_and_the_defaults_hold(
    tmp_path: Path, content: str | dict[str, object], said: str
) -> None:
    path = tmp_path / "preferences.json"
    if isinstance(content, dict):
        whole = {"format": preferences.FORMAT, "version": 1, **asdict(Preferences()), **content}
        content = json.dumps(whole)
    path.write_text(content)
    store = PreferenceStore(path)
    assert store.value == Preferences()
    assert store.problem is not None
    assert said in store.problem
    assert "\n" not in store.problem
    with pytest.raises(InputError):
        read_preferences(path)


@pytest.mark.parametrize("name", preferences.HOLDS)
@pytest.mark.parametrize("value", [None, [], {}, "\0", -1, 1e400, 10**400, [None], [[]], True])
def test_no_type_of_any_field_stops_the_start(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "preferences.json"
    path.write_text(json.dumps({"format": preferences.FORMAT, "version": 1, name: value}))
    store = PreferenceStore(path)
    assert store.value == Preferences() or store.problem is None
    store.change(theme="light")
    store.write()
    assert read_preferences(path) == store.value


@pytest.mark.parametrize("kind", ["folder", "bytes", "link to nothing", "pipe"])
def test_what_is_no_text_file_is_reported_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "preferences.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "bytes":
        path.write_bytes(bytes(range(256)))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nothing")
    store = PreferenceStore(path)
    assert store.value == Preferences()
    assert store.problem is not None
    assert store.problem.endswith("the defaults hold")


def test_a_user_without_a_home_has_preferences(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert preferences_file().parts[-3:] == (".config", "ash-studio", "preferences.json")


def test_the_window_names_any_file(tmp_path: Path) -> None:
    """Bytes that are no text reach neither Dear ImGui nor a terminal."""
    session = Session("actor", device="cpu", preset="cpu")
    session.open(str(tmp_path / "m\udcff.motion"))
    session.messages[-1].text.encode()


def test_a_field_of_a_later_version_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "preferences.json"
    path.write_text(json.dumps({"format": preferences.FORMAT, "version": 1, "later": 1}))
    assert read_preferences(path) == Preferences()


def test_nothing_is_written_without_a_change_or_a_path(tmp_path: Path) -> None:
    store = PreferenceStore(tmp_path / "preferences.json")
    store.write()
    assert list(tmp_path.iterdir()) == []
    nowhere = PreferenceStore()
    nowhere.change(theme="light")
    nowhere.write()
    assert nowhere.value.theme == "light"


def test_where_it_cannot_be_written_it_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    store = PreferenceStore(tmp_path / "folder")
    store.problem = None
    store.change(theme="light")
    store.write()
    assert store.problem is not None
    assert "cannot be written" in store.problem
    store.problem = None
    store.write()
    assert store.problem is None


def test_the_file_is_in_the_configuration_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert preferences_file() == tmp_path / "ash-studio" / "preferences.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert preferences_file() == tmp_path / "home/.config/ash-studio/preferences.json"


def test_files_that_were_opened_are_there_at_the_next_start(tmp_path: Path) -> None:
    """The last one first, each once, a dozen at most; by whole names."""
    path = tmp_path / "preferences.json"
    session = Session("actor", device="cpu", preset="cpu", preferences=PreferenceStore(path))
    for n in (1, 2, 1):
        session.save(tmp_path / f"{n}.ash-session")
    for n in range(20):
        session.preferences.remember(f"/{n}")
    session.save(tmp_path / "1.ash-session")
    commands.run(session, "window.theme")
    session.preferences.write()
    again = PreferenceStore(path).value
    assert again.theme == "light"
    assert len(again.recent) == preferences.RECENT
    assert again.recent[:2] == (str(tmp_path / "1.ash-session"), "/19")


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("640x480", (640, 480)),
        (" 64 X 48 ", (64, 48)),
        ("0x480", None),
        ("640", None),
        ("-1x4", None),
        ("999999x4", None),
    ],
)
def test_a_picture_s_size_is_read_or_refused(text: str, sides: tuple[int, int] | None) -> None:
    assert preferences.picture_sides(text) == sides
