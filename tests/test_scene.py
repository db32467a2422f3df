"""A scene without a window: opened by name, edited, undone, rendered, recorded, saved, reopened."""

import ast
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from toy import make_toy_character

from ash_core.errors import InputError
from ash_core.files.png import decode_png
from ash_core.geometry.camera import resize_camera
from ash_core.look import Look
from ash_core.scene.document import BACKGROUNDS
from ash_core.scene.scene import Scene, open_scene

SIZE = (64, 48)


@pytest.fixture(scope="module")
def opened() -> Scene:
    return Scene("ida", device="cpu")


@pytest.fixture
def scene(opened: Scene, tmp_path: Path) -> Scene:
    """A scene of its own for every test: one avatar is opened once."""
    again = Scene.__new__(Scene)
    vars(again).update(vars(opened))
    again.history = type(opened.history)(opened.document)
    return again


def test_scene_and_its_test_import_no_window() -> None:
    for node in ast.walk(ast.parse(Path(__file__).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("viewer")


def test_a_scene_knows_its_motions_and_their_time(scene: Scene) -> None:
    assert "dance" in scene.motions
    assert scene.document.motion == "dance"
    assert (scene.frame_count, scene.fps) == (len(scene.motion.dofs), 25.0)
    scene.motion = other = next(name for name in scene.motions if name != "dance")
    assert scene.document.motion == other
    assert scene.playback.last == scene.frame_count - 1
    with pytest.raises(InputError, match="expected one of dance"):
        scene.choose_motion("nobody")


def test_wrong_fields_frames_and_names_are_named(scene: Scene) -> None:
    before = scene.document
    with pytest.raises(InputError, match=r"edit: expected fields among background, .* got colour"):
        scene.edit("colour", colour="red")
    with pytest.raises(InputError, match=r"background: expected one of dark, .* got .purple"):
        scene.edit("background", background="purple")
    with pytest.raises(InputError, match=r"look\.mode: expected one of colour, .* got .rgb"):
        scene.edit("look", look=Look(mode="rgb"))  # type: ignore[arg-type]
    for frame in (-1, scene.frame_count):
        with pytest.raises(InputError, match=rf"dance: expected a frame in 0\.\.\d+, got {frame}"):
            scene.dofs(frame)
    assert scene.document == before


def test_requests_are_pure(scene: Scene) -> None:
    before, revision = dict(vars(scene)), scene.revision
    one, two = (scene.request(12, *SIZE) for _ in range(2))
    assert torch.equal(one.window.dofs, two.window.dofs)
    assert torch.equal(one.camera.viewmat, two.camera.viewmat)
    assert vars(scene) == before
    assert scene.revision == revision
    assert one.background == BACKGROUNDS["dark"]
    with pytest.raises(InputError, match="expected a frame in"):
        scene.request(scene.frame_count)


def test_a_camera_is_a_name_a_record_or_a_view(scene: Scene) -> None:
    name, camera = next(iter(scene.cameras.items()))
    want = resize_camera(camera, *SIZE)
    for choice in (name, camera):
        assert torch.equal(scene.request(3, *SIZE, choice).camera.K, want.K)
    turned = scene.view.orbit(1.0, 0.0)
    assert torch.equal(scene.request(3, *SIZE, turned).camera.viewmat, turned.viewmat)
    scene.look_through(name)
    assert torch.equal(scene.request(3, *SIZE).camera.viewmat, camera.viewmat)
    with pytest.raises(InputError, match="camera: expected one of"):
        scene.request(3, *SIZE, "nobody")


def test_poses_are_edited_by_name_and_undone(scene: Scene) -> None:
    plain = scene.dofs(30)
    scene.pose({"left_elbow": 1.2, "LeftArm": {"left_shoulder_x": 0.3}})
    names, posed = scene.data.skeleton.dof_names, scene.dofs(30)
    changed = {names[n]: float(posed[n]) for n in (posed != plain).nonzero()[:, 0]}
    assert changed == {"left_elbow": 1.2, "left_shoulder_x": 0.3}
    assert scene.unsaved
    assert scene.undo() == "pose"
    assert torch.equal(scene.dofs(30), plain)
    assert scene.redo() == "pose"
    assert scene.redo() is None
    with pytest.raises(InputError, match=r"such as 'left_elbow', .*got 'left_elbo'"):
        scene.pose({"left_elbo": 1.0})
    with pytest.raises(InputError, match="LeftArm: expected a dof such as"):
        scene.pose({"LeftArm": {"left_knee": 1.0}})


def test_every_change_is_counted(scene: Scene) -> None:
    seen = {scene.revision}

    def is_counted() -> bool:
        is_new = scene.revision not in seen
        seen.add(scene.revision)
        return is_new

    scene.edit("white", background="white")
    assert is_counted()
    scene.pose({"left_knee": 0.4})
    assert is_counted()
    scene.undo()
    assert is_counted()
    scene.view = scene.view.orbit(0.1, 0.0)
    assert is_counted()
    scene.view = scene.view.orbit(0.0, 0.0)
    assert not is_counted()
    scene.look_through(next(iter(scene.cameras)))
    assert is_counted()
    scene.follows_root = True
    assert is_counted()
    scene.keep_still()
    assert is_counted()


def test_what_is_saved_is_reopened(scene: Scene, tmp_path: Path) -> None:
    scene.pose({"right_elbow": 0.9})
    scene.edit("white", background="white")
    scene.view = scene.view.orbit(0.4, 0.1)
    scene.save(tmp_path / "a.ash-session")
    assert not scene.unsaved
    again = open_scene(tmp_path / "a.ash-session", device="cpu")
    assert again.document == scene.document
    assert again.content() == scene.content()
    one, two = (s.request(40, *SIZE) for s in (scene, again))
    assert torch.equal(one.window.dofs, two.window.dofs)
    assert torch.equal(one.camera.viewmat, two.camera.viewmat)
    with pytest.raises(InputError, match="a session has its own"):
        open_scene(tmp_path / "a.ash-session", motion="dance")


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_older_sessions_are_read(scene: Scene, tmp_path: Path, version: int) -> None:
    scene.pose({"left_elbow": 0.7})
    content = scene.content() | {"version": version}
    if version < 4:
        del content["swing"]
    if version < 3:
        del content["up"]
    if version < 2:
        content["motions"] = content.pop("files")
        del content["preset"], content["stills"]
    (tmp_path / "old.ash-session").write_text(json.dumps(content))
    again = Scene.load(tmp_path / "old.ash-session", device="cpu")
    assert again.document == scene.document


def test_a_refused_file_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    before = dict(vars(scene))
    (tmp_path / "a.ash-session").write_text("{}")
    for name in ("a.ash-session", "none.motion", "none.safetensors", "what.txt"):
        with pytest.raises(InputError):
            scene.open(str(tmp_path / name))
    assert vars(scene) == before


def test_motions_and_notes_come_from_files(tmp_path: Path) -> None:
    toy = make_toy_character(tmp_path)
    notes: list[str] = []
    scene = open_scene(toy.conf, device="cpu", report=notes.append)
    name = scene.add_motion(str(toy.motion))
    assert scene.document.motion == name
    assert name in scene.motions
    assert any("frames" in note for note in notes)
    assert scene.add_cameras(str(toy.cameras))
    assert scene.files == [str(toy.motion.resolve()), str(toy.cameras.resolve())]


def test_recordings_are_the_rendered_frames(scene: Scene, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    result = scene.record(
        tmp_path / "frames", range(4, 9, 2), *SIZE, progress=lambda *so_far: done.append(so_far)
    )
    assert (result.frames, result.empty) == (3, 0)
    assert done == [(1, 3), (2, 3), (3, 3)]
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == [f"frame_{n:06d}.png" for n in (4, 6, 8)]
    picture = scene.render(6, *SIZE)
    assert (picture.width, picture.height) == SIZE
    assert np.array_equal(decode_png(files[1].read_bytes()), picture.to_numpy())
    scene.record(tmp_path / "a.mp4", range(3), *SIZE, fps=50.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 50
    with pytest.raises(InputError, match="holds one frame"):
        scene.record(tmp_path / "a.png", range(2), *SIZE)
    with pytest.raises(InputError, match="expected at least one"):
        scene.record(tmp_path / "a.png", [], *SIZE)


def test_a_transparent_background_is_rendered_with_alpha(scene: Scene) -> None:
    scene.edit("transparent", background="transparent")
    pixels = scene.render(6, *SIZE).to_numpy()
    assert pixels.shape == (48, 64, 4)
    assert 0 < (pixels[..., 3] > 0).mean() < 1
