"""The window's own file dialog, without a window: what is listed, typed, completed and refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from viewer import file_dialog
from viewer.file_dialog import EVERY, FileDialog, Kind, places, resolve, suggest, with_ending

MOTIONS = Kind("Motions", (".motion", ".bvh"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what folders have: spaces, accents, hidden files, links, bytes, numbers."""
    for name in ("take 10.motion", "take 9.motion", "Übung é.BVH", "notes.txt", ".hidden.motion"):
        (tmp_path / name).write_text(name)
    for name in ("walks", "Wide shots", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / "walks" / "slow walk.motion").write_text("")
    (tmp_path / "broken.motion").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(tmp_path / "walks")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.motion"))).write_text("")
    return tmp_path


def names(dialog: FileDialog) -> list[str]:
    return [entry.name for entry in dialog.entries]


def test_folders_first_then_files_of_the_kind_as_people_count(folder: Path) -> None:
    dialog = FileDialog("Open", folder, (MOTIONS, EVERY))
    assert names(dialog) == [
        *("link", "walks", "Wide shots"),
        *("b?.motion", "broken.motion", "take 9.motion", "take 10.motion", "Übung é.BVH"),
    ]
    assert dialog.left_out == 3
    dialog.hidden, dialog.kind = True, EVERY
    assert {".git", ".hidden.motion", "notes.txt"} <= set(names(dialog))
    assert dialog.left_out == 0


@pytest.mark.parametrize("column", ["name", "size", "changed"])
def test_columns_sort_both_ways_and_keep_folders_first(folder: Path, column: str) -> None:
    dialog = FileDialog("Open", folder)
    dialog.column = column  # type: ignore[assignment]
    files = [entry for entry in dialog.entries if not entry.is_folder]
    dialog.descending = True
    turned = [entry for entry in dialog.entries if not entry.is_folder]
    assert dialog.entries[0].is_folder
    key = {"name": file_dialog._name_key, "size": lambda e: e.size_bytes}.get(
        column, lambda e: e.changed_s
    )
    assert [key(e) for e in files] == sorted(key(e) for e in files)
    assert [key(e) for e in turned] == [key(e) for e in files][::-1]


def test_what_is_typed_filters_and_a_chosen_name_does_not(folder: Path) -> None:
    dialog = FileDialog("Open", folder, (MOTIONS,))
    dialog.type("TAKE")
    assert names(dialog) == ["take 9.motion", "take 10.motion"]
    dialog.move(1)
    assert dialog.text == "take 9.motion"
    assert len(names(dialog)) == 8
    dialog.move(1)
    dialog.accept()
    assert dialog.result == folder / "take 10.motion"


def test_a_name_that_is_no_text_is_opened(folder: Path) -> None:
    dialog = FileDialog("Open", folder, (MOTIONS,))
    odd = next(entry for entry in dialog.entries if entry.name == "b?.motion")
    dialog.choose(odd)
    dialog.accept()
    assert os.fsencode(dialog.result or "").endswith(b"b\xff.motion")


def test_the_way_down_and_up(folder: Path) -> None:
    dialog = FileDialog("Open", folder, (MOTIONS,))
    dialog.choose(next(entry for entry in dialog.entries if entry.name == "walks"))
    dialog.accept()
    assert (dialog.folder, names(dialog)) == (folder / "walks", ["slow walk.motion"])
    assert [crumb.folder for crumb in dialog.crumbs][-2:] == [folder, folder / "walks"]
    dialog.up()
    assert dialog.folder == folder
    assert dialog.chosen is not None
    assert dialog.chosen.name == "walks"
    for _ in range(99):
        dialog.up()
    assert dialog.folder == Path("/")


def test_a_typed_path_is_completed_as_in_a_shell(folder: Path) -> None:
    assert suggest("no", folder).text == "notes.txt"
    assert suggest("take", folder) == file_dialog.Suggestion(
        "take ", ("take 9.motion", "take 10.motion")
    )
    assert suggest("wi", folder).text == "Wide shots/"  # in any case where nothing else fits
    assert suggest("walks/", folder).text == "walks/slow walk.motion"
    assert suggest(f"{folder}/Ü", folder).text == f"{folder}/Übung é.BVH"
    assert suggest("no", folder, MOTIONS).candidates == ()
    assert suggest(".", folder).candidates == (".git/", ".hidden.motion")
    assert "link/" in suggest("", folder).candidates
    assert not any("?" in name for name in suggest("", folder).candidates)
    assert suggest("nowhere/x", folder) == file_dialog.Suggestion("nowhere/x", ())
    assert suggest("\0/", folder).candidates == ()


def test_candidates_are_there_for_a_path_alone(folder: Path) -> None:
    dialog = FileDialog("Open", folder)
    dialog.type("tak")
    assert dialog.candidates == ()
    dialog.type("./tak")
    assert dialog.candidates == ("./take 9.motion", "./take 10.motion")
    assert dialog.complete() == "./take "


def test_home_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/a", Path("/x")) == tmp_path / "a"
    assert resolve("~no-such-user/a", Path("/x")) == Path("/x/~no-such-user/a")
    assert resolve("../a", Path("/x/y")) == Path("/x/a")
    (tmp_path / "inside").mkdir()
    assert suggest("~/in", Path("/")).text == "~/inside/"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "type a name"),
        ("missing.motion", "no such file"),
        ("missing/a.motion", "no such file"),
        ("broken.motion", "no such file"),
        ("\0", "no such file"),
        ("n" * 5000, "no such file"),
    ],
)
def test_what_cannot_be_opened_is_said_and_nothing_is_lost(
    folder: Path, text: str, problem: str
) -> None:
    dialog = FileDialog("Open", folder)
    dialog.type(text)
    dialog.accept()
    assert dialog.result is None
    assert dialog.problem is not None
    assert problem in dialog.problem
    assert (dialog.text, dialog.folder) == (text, folder)


def test_a_folder_that_cannot_be_read_is_said_and_not_entered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = FileDialog("Open", folder)

    def refuse(path: Path) -> list[file_dialog.Entry]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file_dialog, "list_folder", refuse)
    dialog.type("walks")
    dialog.accept()
    assert dialog.folder == folder
    assert dialog.problem == f"{folder}/walks: cannot be opened: Permission denied"
    assert dialog.text == "walks"


def test_it_begins_in_the_nearest_folder_that_is_there(folder: Path) -> None:
    assert FileDialog("Open", folder / "gone" / "deeper").folder == folder


def test_a_new_file_gets_its_ending_and_an_old_one_is_asked_about(folder: Path) -> None:
    dialog = FileDialog("Save", folder, saves=True, name="a session", endings=(".ash-session",))
    dialog.go(folder / "walks")
    assert dialog.text == "a session"  # a walk through folders keeps the name
    dialog.go(folder)
    dialog.accept()
    assert dialog.result == folder / "a session.ash-session"
    dialog = FileDialog("Save", folder, saves=True, name="notes", endings=(".txt",))
    dialog.accept()
    assert (dialog.result, dialog.replaced) == (None, folder / "notes.txt")
    dialog.type("notes2")
    assert dialog.replaced is None
    dialog.type("notes.TXT")
    dialog.accept()
    assert dialog.result == folder / "notes.TXT"
    dialog = FileDialog("Save", folder, saves=True, name="broken.motion")
    dialog.accept()
    dialog.replace()
    assert dialog.result == folder / "broken.motion"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "type a name"), ("gone/a.txt", "no such folder"), ("deep", "is a folder")],
)
def test_where_nothing_can_be_saved(folder: Path, text: str, problem: str) -> None:
    (folder / "deep.txt").mkdir()
    dialog = FileDialog("Save", folder, saves=True, endings=(".txt",))
    dialog.type(text)
    dialog.accept()
    assert dialog.result is None
    assert problem in (dialog.problem or "")


def test_a_closed_folder_is_said_before_anything_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    dialog = FileDialog("Save", folder, saves=True, name="a")
    dialog.accept()
    assert dialog.problem == f"{folder}: cannot be written to"


def test_endings() -> None:
    assert with_ending(Path("a.MP4"), (".mp4", ".webm")) == Path("a.MP4")
    assert with_ending(Path("a.b"), (".mp4", ".webm")) == Path("a.b.mp4")
    assert with_ending(Path("a"), ()) == Path("a")


def test_what_is_dropped_is_shown(folder: Path) -> None:
    dialog = FileDialog("Open", folder / "walks", (MOTIONS, EVERY))
    dialog.take(folder / "notes.txt")
    assert (dialog.folder, dialog.text, dialog.kind) == (folder, "notes.txt", EVERY)
    dialog.take(folder / "walks")
    assert dialog.folder == folder / "walks"


def test_what_comes_and_goes_is_seen(folder: Path) -> None:
    dialog = FileDialog("Open", folder / "walks")
    (folder / "walks" / "new.motion").write_text("")
    os.utime(folder / "walks", ns=(1, 1))  # whatever the clock of the file system counts
    dialog.refresh()
    assert names(dialog) == ["new.motion", "slow walk.motion"]


def test_ten_thousand_files_are_listed_in_a_second(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"frame {number}.png").touch()
    start = time.process_time()
    dialog = FileDialog("Open", tmp_path)
    assert len(dialog.entries) == 10_000
    assert time.process_time() - start < 3.0
    start = time.process_time()
    for _ in range(1000):  # a frame asks again and again
        assert len(dialog.entries) == 10_000
    assert time.process_time() - start < 0.5
    assert dialog.entries[9_999].name == "frame 9999.png"


def test_places_are_home_the_start_and_recent_folders(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder / "Wide shots"))
    monkeypatch.chdir(folder)
    recent = [str(folder / "walks" / "a.motion"), str(folder / "b.motion"), "/gone/c.motion"]
    listed = [(place.title, place.folder) for place in places(recent)]
    assert listed == [
        ("Home", folder / "Wide shots"),
        ("Started in", folder),
        ("walks", folder / "walks"),
    ]


NATIVE = """
import json, os, sys, time
from pathlib import Path
from viewer.panels import files
from viewer.session import Session
session = Session("actor", device="cpu", preset="cpu")
session.preferences.change(file_dialog="system")
dialogs, got = files.FileDialogs(session), []
dialogs.open("Open", files.OPENED, got.append)
said = {"in the window": dialogs.dialog is not None, "told": len(session.messages)}
end = time.monotonic() + 60
while not got and dialogs.dialog is None and time.monotonic() < end:
    dialogs._collect()
    time.sleep(0.02)
print(json.dumps(said | {"got": got}))
"""


@pytest.mark.parametrize("installed", [True, False])
def test_the_desktop_s_dialog_where_it_works_and_is_wanted(tmp_path: Path, installed: bool) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "which", "env", "cat"):
        (tools / name).symlink_to(shutil.which(name) or name)
    if installed:
        (tools / "zenity").write_text(f"#!{tools}/sh\necho '/chosen by hand.motion'\n")
        (tools / "zenity").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", NATIVE],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tools), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    want = {"in the window": not installed, "told": int(not installed)}
    got = ["/chosen by hand.motion"] if installed else []
    assert json.loads(done.stdout.splitlines()[-1]) == {**want, "got": got}
