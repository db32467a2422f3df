"""The session's revision: raised by every change that alters a frame, and by no other."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
from toy import make_toy_character

from ash_core.files.avatar_file import save_avatar
from ash_core.files.released import import_ash
from ash_core.scene.revision import Drawn
from viewer import commands
from viewer.clock import Clock
from viewer.session import Session

DECODER = {"atlas": 32, "width": 8, "sh_degree": 1}


class Files(NamedTuple):
    avatar: str
    motion: str
    cameras: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("toy")
    toy = make_toy_character(folder)
    data, _ = import_ash(toy.conf)
    save_avatar(folder / "toy.safetensors", replace(data, decoder=DECODER))
    return Files(str(folder / "toy.safetensors"), str(toy.motion), str(toy.cameras))


@pytest.fixture
def session(files: Files) -> Session:
    session = Session(files.avatar, files.motion, "cpu", now=lambda: 100.0)
    session.open(files.cameras)
    assert session.cameras, session.messages
    session.tick()
    return session


def steps(session: Session, change: Callable[[], object]) -> int:
    before = session.revision
    change()
    session.tick()
    return session.revision - before


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("time.seek", {"frame": 3}),
        ("time.next_frame", {}),
        ("time.last", {}),
        ("camera.orbit", {"dx_rad": 0.1, "dy_rad": 0.0}),
        ("camera.fov", {"fov_y": 0.3}),
        ("camera.orthographic", {}),
        ("camera.next", {}),
        ("camera.follow", {}),
        ("look.depth", {}),
        ("look.change", {"opacity": 0.5}),
        ("look.show_background", {"name": "transparent"}),
        ("look.mesh_wire", {}),
        ("look.grid", {}),
        ("pose.rest", {}),
        ("pose.still", {}),
    ],
)
def test_what_alters_a_frame_raises_the_revision(
    session: Session, name: str, arguments: dict[str, object]
) -> None:
    assert steps(session, lambda: commands.run(session, name, **arguments)) > 0
    assert steps(session, lambda: None) == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("time.seek", {"frame": 0}),
        ("time.speed", {"speed": 2.0}),
        ("time.set_out", {"frame": 3}),
        ("time.fit", {}),
        ("camera.orbit", {"dx_rad": 0.0, "dy_rad": 0.0}),
        ("camera.look_through", {"name": None}),
        ("camera.add_key", {}),
        ("look.skeleton", {}),
        ("look.mesh_opacity", {"opacity": 0.4}),
        ("look.plain", {}),
        ("pose.select", {"joint": None}),
        ("pose.reset", {}),
        ("edit.undo", {}),
        ("window.help", {}),
        ("file.screenshot", {}),
    ],
)
def test_what_leaves_the_frame_as_it_is_does_not(
    session: Session, name: str, arguments: dict[str, object]
) -> None:
    assert steps(session, lambda: commands.run(session, name, **arguments)) == 0


def test_undo_and_redo_raise_it(session: Session) -> None:
    commands.run(session, "pose.rest")
    assert steps(session, lambda: commands.run(session, "edit.undo")) > 0
    assert steps(session, lambda: commands.run(session, "edit.redo")) > 0


def test_files_raise_it_and_refused_ones_do_not(session: Session, files: Files) -> None:
    assert steps(session, lambda: session.open(files.motion)) > 0
    assert steps(session, lambda: session.open("actor")) > 0
    assert steps(session, lambda: session.open(files.motion + "x.motion")) == 0


def test_a_playing_clock_raises_it_once_a_frame() -> None:
    frames = []
    clock = Clock(25.0, 10, lambda: frames.append(clock.frame) if frames else None)
    frames.append(clock.frame)
    clock.play(0.0)
    for now in range(0, 200, 5):
        clock.tick(0.001 * now)
    assert frames == [0, 1, 2, 3, 4]


def test_a_drag_raises_it_until_its_poses_are_the_motions(files: Files) -> None:
    now = 100.0
    session = Session(files.avatar, files.motion, "cpu", now=lambda: now)
    dof = next(slider.dof for slider in session.sliders if slider.unit == "rad")
    commands.run(session, "pose.show_dof", dof=dof, value=0.2)
    while session.is_live:
        assert steps(session, lambda: None) > 0
        now += 0.05
    assert steps(session, lambda: None) == 1
    assert steps(session, lambda: None) == 0


def test_the_camera_path_is_followed_until_the_camera_is_moved(session: Session) -> None:
    commands.run(session, "camera.add_key")
    commands.run(session, "camera.orbit", dx_rad=0.3, dy_rad=0.0)
    commands.run(session, "time.seek", frame=4)
    commands.run(session, "camera.add_key")
    commands.run(session, "camera.along_path")
    session.tick()
    assert steps(session, lambda: None) == 0
    commands.run(session, "time.seek", frame=2)
    session.tick()
    assert session.view == session.document.path.at(2)
    commands.run(session, "camera.orbit", dx_rad=0.1, dy_rad=0.0)
    session.tick()
    assert not session.along_path


def test_drawn_fields_are_compared_as_they_say() -> None:
    class Owner:
        by_identity = Drawn[list[int]]()
        by_value = Drawn[list[int]](by_value=True)
        revision = 0

        def touch(self) -> None:
            self.revision += 1

    owner = Owner()
    with pytest.raises(AttributeError, match="by_value"):
        _ = owner.by_value
    owner.by_identity = values = [1]
    owner.by_value = [1]
    assert owner.revision == 2
    owner.by_identity, owner.by_value = values, [1]
    assert owner.revision == 2
    owner.by_identity = [1]
    assert (owner.revision, owner.by_identity) == (3, [1])
