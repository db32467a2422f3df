"""Unsaved edits, without a window: asked about before they are lost, kept for a crash."""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ash_core.files.ply import write_ply
from ash_core.files.skeletool import write_motion
from ash_core.scene.open import load_drawable
from ash_core.scene.scene_file import SESSION_SUFFIX
from viewer import commands
from viewer.autosave import EVERY_S, Autosave, autosave_folder
from viewer.session import Session
from viewer.unsaved import Question, Unsaved, adds


@pytest.fixture(scope="module", autouse=True)
def avatars_are_read_once() -> Iterator[None]:
    read = functools.cache(load_drawable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ash_core.scene.scene.load_drawable", lambda name, up, _report: read(name, up)
        )
        yield


class Clock:
    """Time as a test wants it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(clock: Clock) -> Session:
    return Session("actor", device="cpu", preset="cpu", now=clock)


def edit(session: Session) -> None:
    commands.run(session, "pose.hold")


def answers(question: Question | None) -> dict[str, Callable[[], None]]:
    assert question is not None
    return {answer.label: answer.run for answer in question.answers}


# ---- what is unsaved ----


def test_what_a_person_made_is_unsaved_and_how_it_is_shown_is_not(
    session: Session, tmp_path: Path
) -> None:
    for name in ("look.skeleton", "look.background", "time.next_motion", "camera.right"):
        commands.run(session, name)
    assert not session.unsaved
    edit(session)
    assert session.unsaved
    commands.run(session, "edit.undo")
    assert not session.unsaved
    commands.run(session, "edit.redo")
    session.save(tmp_path / f"a{SESSION_SUFFIX}")
    assert not session.unsaved
    assert session.name == f"a{SESSION_SUFFIX}"
    commands.run(session, "edit.undo")
    assert session.unsaved  # the file has the edit
    commands.run(session, "edit.redo")
    commands.run(session, "camera.add_key")
    assert session.unsaved
    session.open(str(tmp_path / f"a{SESSION_SUFFIX}"))
    assert not session.unsaved
    commands.run(session, "pose.still")
    assert session.unsaved
    session.open("bundled")
    assert not session.unsaved
    assert (session.file, session.name) == (None, session.data.name)


def test_a_refused_file_leaves_it_unsaved(session: Session, tmp_path: Path) -> None:
    edit(session)
    (tmp_path / f"no{SESSION_SUFFIX}").write_text("{}")
    for name in (f"no{SESSION_SUFFIX}", "missing.safetensors"):
        session.open(str(tmp_path / name))
        assert session.messages[-1].severity == "error"
        assert session.unsaved


# ---- asking ----


def test_nothing_is_asked_without_edits(session: Session) -> None:
    unsaved = Unsaved(session)
    unsaved.open(("bundled",))
    assert session.avatar == "bundled"
    unsaved.quit()
    assert unsaved.ended
    assert unsaved.question is None


def test_what_comes_to_what_is_open_is_not_asked_about(session: Session, tmp_path: Path) -> None:
    unsaved = Unsaved(session)
    edit(session)
    write_motion(tmp_path / "Short One.MOTION", session.motion.dofs[:5])
    unsaved.open((str(tmp_path / "Short One.MOTION"),))
    assert unsaved.question is None
    assert "Short One" in session.motions


@pytest.mark.parametrize(
    ("name", "comes"),
    [
        ("a.motion", True),
        ("a.BVH", True),
        ("cameras.json", True),
        ("a.calibration", True),
        ("camera.yml", True),
        ("model", True),  # COLMAP's folder
        ("intri", False),
        ("a.ply", False),
        ("meta.json", False),  # an unpacked SOG file
        (f"a{SESSION_SUFFIX}", False),
    ],
)
def test_which_files_come_to_what_is_open(tmp_path: Path, name: str, comes: bool) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "cameras.bin").write_bytes(b"")
    (tmp_path / "model" / "images.bin").write_bytes(b"")
    assert adds(tmp_path / name) == comes


def test_an_up_axis_that_was_chosen_is_unsaved(session: Session, tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", session.renderer.gaussians(session.request_shown(4, 4).window))
    session.open(str(tmp_path / "a.ply"))
    assert not session.unsaved
    commands.run(session, "look.up_y_down")
    assert session.unsaved
    session.save(tmp_path / f"a{SESSION_SUFFIX}")
    session.open(str(tmp_path / f"a{SESSION_SUFFIX}"))
    assert not session.unsaved
    assert session.document.up == "y-down"


@pytest.mark.parametrize("label", ["Save", "Discard", "Cancel"])
def test_opening_an_avatar_asks_first(session: Session, tmp_path: Path, label: str) -> None:
    unsaved, file = Unsaved(session), tmp_path / f"a{SESSION_SUFFIX}"
    session.save(file)
    edit(session)
    values = session.document.edit.values
    unsaved.open(("bundled",))
    assert session.avatar == "actor"
    assert unsaved.question is not None
    answers(unsaved.question)  # all there
    unsaved.answer(next(a for a in unsaved.question.answers if a.label == label))
    assert unsaved.question is None
    assert session.avatar == ("actor" if label == "Cancel" else "bundled")
    assert session.unsaved == (label == "Cancel")
    saved = json.loads(file.read_text())["edit"]
    assert bool(saved["values"]) == (label == "Save" and bool(values))


def test_a_session_without_a_file_is_saved_where_the_person_says(
    session: Session, tmp_path: Path
) -> None:
    unsaved = Unsaved(session)
    edit(session)
    unsaved.quit()
    answers(unsaved.question)["Save"]()
    assert [request.kind for request in session.requests] == ["save_dialog"]
    assert not unsaved.ended
    (tmp_path / f"folder{SESSION_SUFFIX}").mkdir()
    unsaved.save(tmp_path / "folder")  # cannot be written: it stays
    assert session.messages[-1].severity == "error"
    assert not unsaved.ended
    answers(unsaved.question)["Save"]()
    unsaved.stay()  # the dialog is left
    unsaved.save(tmp_path / "later")
    assert not unsaved.ended
    edit(session)
    commands.run(session, "camera.add_key")
    unsaved.quit()
    answers(unsaved.question)["Save"]()
    assert unsaved.ended
    assert session.file == tmp_path / f"later{SESSION_SUFFIX}"


# ---- keeping ----


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SESSION_SUFFIX}"))


def test_edits_are_kept_every_minute_and_forgotten_once_saved(
    session: Session, clock: Clock, tmp_path: Path
) -> None:
    autosave = Autosave(session, tmp_path / "kept")
    for clock.now in (0.0, 2 * EVERY_S):
        autosave.follow()
    assert not (tmp_path / "kept").exists()
    edit(session)
    clock.now += EVERY_S - 1
    autosave.follow()
    (file,) = kept(tmp_path / "kept")
    before = file.stat().st_mtime_ns
    clock.now += EVERY_S
    autosave.follow()
    assert file.stat().st_mtime_ns == before  # nothing new
    commands.run(session, "camera.add_key")
    clock.now += EVERY_S / 2
    autosave.follow()
    assert json.loads(file.read_text())["path"] == []
    clock.now += EVERY_S / 2
    autosave.follow()
    assert len(json.loads(file.read_text())["path"]) == 1
    assert Autosave(session, tmp_path / "kept").left_behind() == []  # its window is open
    assert session.recent == ()
    session.save(tmp_path / "mine")
    autosave.follow()
    assert kept(tmp_path / "kept") == []
    autosave.close()
    assert list((tmp_path / "kept").iterdir()) == []


CRASH = """
import os, signal, sys
from pathlib import Path
from viewer import commands
from viewer.autosave import Autosave
from viewer.session import Session
session = Session("actor", device="cpu", preset="cpu")
session.save(sys.argv[2])
commands.run(session, "pose.hold")
commands.run(session, "pose.still")
Autosave(session, Path(sys.argv[1])).keep()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_is_offered_and_restored(session: Session, clock: Clock, tmp_path: Path) -> None:
    folder, mine = tmp_path / "kept", tmp_path / "mine.ash-session"
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(folder), str(mine)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL
    autosave, unsaved = Autosave(session, folder), Unsaved(session)
    autosave.offer(unsaved)
    assert unsaved.question is not None
    assert mine.name in unsaved.question.text
    answers(unsaved.question)["Later"]()
    assert len(kept(folder)) == 1
    answers(unsaved.question)["Restore"]()
    assert session.document.edit.values
    assert len(session.stills) == 1
    assert session.unsaved
    assert session.file == mine  # saving goes there
    assert [file.stem for file in kept(folder)] == [autosave.file.stem if autosave.file else ""]
    assert autosave.left_behind() == []
    session.save(mine)
    autosave.follow()
    assert kept(folder) == []


def test_what_was_kept_can_be_discarded_one_by_one(session: Session, tmp_path: Path) -> None:
    content = json.dumps(session.content())
    for number, name in enumerate(("old", "new")):
        file = tmp_path / f"{name}{SESSION_SUFFIX}"
        file.write_text(content)
        os.utime(file, (number, number))
    unsaved = Unsaved(session)
    Autosave(session, tmp_path).offer(unsaved)
    answers(unsaved.question)["Discard"]()
    assert [file.stem for file in kept(tmp_path)] == ["old"]
    answers(unsaved.question)["Discard"]()
    assert kept(tmp_path) == []


def test_kept_edits_of_an_avatar_that_is_gone_stay(session: Session, tmp_path: Path) -> None:
    content = session.content() | {"avatar": str(tmp_path / "gone.safetensors")}
    (tmp_path / f"a{SESSION_SUFFIX}").write_text(json.dumps(content))
    unsaved = Unsaved(session)
    Autosave(session, tmp_path).offer(unsaved)
    answers(unsaved.question)["Restore"]()
    assert "nothing was restored" in session.messages[-1].text
    assert session.avatar == "actor"
    assert len(kept(tmp_path)) == 1


def test_a_folder_that_is_closed_is_said_once(session: Session, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    autosave = Autosave(session, tmp_path / "file")
    edit(session)
    for _ in range(3):
        autosave.keep()
    assert [message.severity for message in session.messages] == ["error"]
    autosave.close()


def test_nothing_is_kept_without_a_folder(session: Session) -> None:
    autosave = Autosave(session, None)
    edit(session)
    autosave.keep()
    autosave.offer(Unsaved(session))
    autosave.close()
    assert session.messages == type(session.messages)()


def test_it_lies_in_the_folder_for_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert autosave_folder() == tmp_path / "ash-studio" / "autosave"
