"""Laws of the swing that a person chooses: on or off, stiffness, gravity, wind."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from test_pose_windows import FRONT, dressed, swing
from toy import make_toy_character

from ash_core import cli
from ash_core.cloth.swing import AS_FITTED, LIMITS, Swing
from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.files.avatar_file import save_avatar
from ash_core.files.released import import_ash
from ash_core.files.skeletool import write_motion
from ash_core.pose_windows import TRACKS, window_at, worn_by
from ash_core.records import AvatarData, Motion
from ash_core.scene.record import Recorder
from ash_core.scene.scene import Scene
from viewer.session import Session

SIZE = (48, 40)
WINDY = Swing(wind=9.0, wind_yaw=0.5 * math.pi)


@dataclass(frozen=True, repr=False)
class Files:
    data: AvatarData
    avatar: Path
    plain: Path
    motion: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("swing"))


def make_files(folder: Path) -> Files:
    """Make the toy with a loose front, the same without cloth, and a motion."""
    toy, _ = import_ash(make_toy_character(folder).conf)
    small = replace(toy, decoder={"atlas": 32, "width": 8, "sh_degree": 1})
    data = dressed(small, FRONT)
    save_avatar(folder / "clothed.safetensors", data)
    save_avatar(folder / "plain.safetensors", small)
    write_motion(folder / "sway.motion", swing(toy).dofs)
    return Files(
        data, folder / "clothed.safetensors", folder / "plain.safetensors", folder / "sway.motion"
    )


@pytest.fixture
def scene(files: Files) -> Scene:
    return Scene(str(files.avatar), str(files.motion), "cpu")


def cloth_at(data: AvatarData, motion: Motion, frame: int, chosen: Swing) -> torch.Tensor:
    cloth = window_at(data, motion, frame, chosen).cloth
    assert cloth is not None
    return cloth


# ---- the choice ----


@pytest.mark.parametrize("name", LIMITS)
def test_numbers_beyond_their_limits_are_named(name: str) -> None:
    low, high = LIMITS[name]
    for value in (low - 1, high + 1, math.nan, math.inf):
        with pytest.raises(InputError, match=f"swing: {name}: expected .* to {high:g}, got"):
            replace(AS_FITTED, **{name: value})
    assert getattr(replace(AS_FITTED, **{name: high}), name) == high


@pytest.mark.parametrize("yaw", [0.0, 0.5 * math.pi, 2.5])
def test_wind_blows_from_where_it_is_said_to_come(files: Files, yaw: float) -> None:
    still = Motion(files.data.rest_dofs.repeat(40, 1))
    moved = cloth_at(files.data, still, 39, Swing(wind=8.0, wind_yaw=yaw))
    away = (moved - cloth_at(files.data, still, 39, AS_FITTED))[0].mean(0)
    world = torch.tensor(R_WORLD_BODY) @ away
    direction = -torch.tensor([math.cos(yaw), math.sin(yaw), 0.0])
    # Links turn some of the push aside.
    assert world @ direction > 0.5 * world.norm()
    assert world.norm() > 5e-4
    wind = torch.tensor(R_WORLD_BODY) @ torch.tensor(Swing(wind=8.0, wind_yaw=yaw).around.wind)
    torch.testing.assert_close(wind, 8.0 * direction)


def test_stiff_cloth_swings_less_and_cloth_that_is_off_not_at_all(files: Files) -> None:
    motion = swing(files.data)
    assert window_at(files.data, motion, 30, Swing(is_on=False)).cloth is None
    worn = worn_by(files.data)
    assert worn is not None
    goals = torch.from_numpy(worn.track(motion).inputs(30, 30)[0].goals)
    swings = [
        float((cloth_at(files.data, motion, 30, Swing(stiffness=factor))[0] - goals).norm())
        for factor in (0.5, 1.0, 8.0)
    ]
    assert swings[0] > swings[1] > 2 * swings[2], swings


def test_a_frame_is_the_same_whatever_was_chosen_before(files: Files) -> None:
    motion = swing(files.data)
    choices = [AS_FITTED, WINDY, Swing(gravity=0.0), Swing(stiffness=0.3)]
    assert len(choices) > TRACKS
    first = [cloth_at(files.data, motion, 40, chosen) for chosen in choices]
    assert not any(torch.equal(first[0], other) for other in first[1:])
    for chosen, expected in zip(choices, first, strict=True):
        assert torch.equal(cloth_at(files.data, motion, 40, chosen), expected)
        fresh = Motion(motion.dofs.clone())
        assert torch.equal(cloth_at(files.data, fresh, 40, chosen), expected)


numbers = {name: st.floats(*limits) for name, limits in LIMITS.items()}


@settings(max_examples=25, deadline=None)
@given(
    chosen=st.builds(Swing, st.just(True), **numbers),
    seed=st.integers(0, 2**31),
    fps=st.sampled_from([10.0, 25.0, 120.0]),
)
def test_no_choice_breaks_a_motion(files: Files, chosen: Swing, seed: int, fps: float) -> None:
    """Poses of any kind, teleports among them, at any frame rate."""
    generator = torch.Generator().manual_seed(seed)
    dofs = 6.0 * torch.rand(8, len(files.data.rest_dofs), generator=generator).double() - 3.0
    dofs[4:, 0] += 50.0
    motion = Motion(dofs, fps=fps)
    worn = worn_by(files.data)
    assert worn is not None
    for frame in (7, 4, 0):
        cloth = cloth_at(files.data, motion, frame, chosen)
        assert cloth.isfinite().all()
        goals = torch.from_numpy(worn.track(motion, chosen).inputs(frame, frame)[0].goals)
        # Points move at 10 m/s at most: through settling, and for these frames.
        assert (cloth[0] - goals).norm(dim=-1).max() < 15.0


# ---- in a scene, its file, the window and the command ----


def test_the_swing_is_edited_undone_and_kept(scene: Scene, tmp_path: Path) -> None:
    revision, before = scene.revision, scene.request(30, *SIZE).window.cloth
    scene.edit("wind", swing=WINDY)
    assert scene.revision > revision
    assert scene.unsaved
    windy = scene.request(30, *SIZE).window.cloth
    assert before is not None
    assert windy is not None
    assert not torch.equal(before, windy)
    assert scene.undo() == "wind"
    again = scene.request(30, *SIZE).window.cloth
    assert again is not None
    assert torch.equal(again, before)
    scene.redo()
    scene.save(tmp_path / "a.ash-session")
    opened = Scene.load(tmp_path / "a.ash-session", "cpu")
    assert opened.document.swing == WINDY
    read = opened.request(30, *SIZE).window.cloth
    assert read is not None
    assert torch.equal(read, windy)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("wind", -1, "swing.wind: expected 0 to 100"),
        ("wind", True, "swing.wind: expected 0 to 100"),
        ("is_on", 1, "swing.is_on: expected true or false"),
        ("gusts", 1, "swing: expected is_on, stiffness, gravity, wind, wind_yaw"),
    ],
)
def test_a_damaged_swing_is_named(
    scene: Scene, tmp_path: Path, field: str, value: object, text: str
) -> None:
    content = scene.content()
    content["swing"] = {**content["swing"], field: value}
    (tmp_path / "a.ash-session").write_text(json.dumps(content))
    with pytest.raises(InputError, match=text):
        Scene.load(tmp_path / "a.ash-session", "cpu")


def pixels(path: Path) -> np.ndarray:
    with PillowImage.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("chosen", [WINDY, Swing(is_on=False)])
def test_window_command_and_library_make_the_same_frames(
    files: Files, tmp_path: Path, chosen: Swing
) -> None:
    # The window records.
    session = Session(str(files.avatar), str(files.motion), "cpu")
    session.edit("swing", swing=chosen)
    session.edit("white", background="white")
    session.clock.first, session.clock.last = 30, 31
    session.save(tmp_path / "a.ash-session")
    settings_, shots = session.recording(tmp_path / "window", *SIZE)
    recorder = Recorder(session.renderer, shots, 2, settings_)
    recorder.start()
    assert recorder.wait(60)
    assert recorder.error is None
    # The command draws the session, then the avatar with flags of its own.
    place = ["--size", "48x40", "--device", "cpu", "-o"]
    command = ["render", "--session", str(tmp_path / "a.ash-session"), *place]
    assert cli.main([*command, str(tmp_path / "command")]) == 0
    flags = ["--wind", "9,90"] if chosen.is_on else ["--no-swing"]
    eye, target = (",".join(map(str, p)) for p in (session.view.eye, session.view.target))
    camera = ["--eye", eye, "--target", target, "--fov", str(math.degrees(session.view.fov_y))]
    what = ["render", str(files.avatar), "--motion", str(files.motion), "--frames", "30:32"]
    assert cli.main([*what, *flags, *camera, *place, str(tmp_path / "flags")]) == 0
    # The library renders.
    scene = Scene.load(tmp_path / "a.ash-session", "cpu")
    for frame in (30, 31):
        expected = scene.render(frame, *SIZE).to_numpy()
        name = f"frame_{frame:06d}.png"
        assert np.array_equal(pixels(tmp_path / "window" / name), expected)
        assert np.array_equal(pixels(tmp_path / "command" / name), expected)
        difference = pixels(tmp_path / "flags" / name).astype(int) - expected
        assert np.abs(difference).max() <= 1  # a camera of rounded numbers
        session.clock.seek(frame)
        seen = session.renderer.render(session.request_shown(*SIZE)).to_numpy()
        assert np.array_equal(seen, expected)
    scene.edit("as fitted", swing=AS_FITTED)
    assert not np.array_equal(scene.render(31, *SIZE).to_numpy(), expected)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--wind", "strong"], "--wind: expected m/s, or m/s,degrees such as 6,90, got 'strong'"),
        (["--wind", "1,2,3"], "--wind: expected m/s, or m/s,degrees such as 6,90, got '1,2,3'"),
        (["--wind", "-3"], "--wind: expected 0 to 100 m/s, got -3"),
        (["--gravity", "99"], "--gravity: expected -20 to 20 of the earth's, got 99"),
        (["--stiffness", "-1"], "--stiffness: expected 0 to 100, got -1"),
        (["--wind", "3"], "--wind: expected an avatar with loose cloth: "),
    ],
)
def test_flags_that_cannot_be_are_one_line(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], text: str
) -> None:
    command = ["render", str(files.plain), "-o", str(tmp_path / "a.png"), "--device", "cpu"]
    assert cli.main([*command, *flags]) == 2
    assert text in capsys.readouterr().err.replace("\n", " ")


def test_a_session_has_its_own_swing(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.save(tmp_path / "a.ash-session")
    command = ["render", "--session", str(tmp_path / "a.ash-session"), "-o", "a.png"]
    for flag in ("--no-swing", "--wind=3"):
        assert cli.main([*command, flag]) == 2
        assert "expected none beside --session" in capsys.readouterr().err
