"""The viewer without a window: what is open, edits and their history, every command, frames."""

import dataclasses
import json
import math
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from toy import make_toy_character

from ash_core import cli
from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import CudaError, InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.cameras.files import write_camera_file
from ash_core.files.cameras.record import StageCamera
from ash_core.files.ply import write_ply
from ash_core.files.released import import_ash
from ash_core.geometry.camera import look_at
from ash_core.geometry.motion import pose_window
from ash_core.geometry.projected_lines import project
from ash_core.look import Look
from ash_core.networks.decoder import Decoder, DecoderConfig
from ash_core.records import Camera
from ash_core.render import Renderer, RenderRequest
from ash_core.scene.document import BACKGROUNDS, MOST_EDITS, Document, History, Overlays
from ash_core.scene.open import Preset
from ash_core.scene.pose_edit import PoseEdit, window_of
from ash_core.scene.preferences import Preferences, PreferenceStore, preferences_file
from ash_core.scene.record import Recorder
from ash_core.scene.scene_file import SESSION_SUFFIX
from ash_core.scene.view import CameraKey
from viewer import commands
from viewer.command import ViewCommand
from viewer.engine import Engine
from viewer.session import Session

DECODER = {"atlas": 32, "width": 8, "sh_degree": 1}
SIZE = (40, 30)


class Hand:
    """A clock that stands until it is moved, s."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass(frozen=True)
class Files:
    folder: Path
    avatar: Path
    motion: Path
    cameras: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("toy")
    toy = make_toy_character(folder)
    data, _ = import_ash(toy.conf)
    save_avatar(folder / "toy.safetensors", dataclasses.replace(data, decoder=DECODER))
    return Files(folder, folder / "toy.safetensors", toy.motion, toy.cameras)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def session(files: Files, hand: Hand) -> Session:
    return Session(str(files.avatar), str(files.motion), "cpu", now=hand)


def state(session: Session) -> tuple[object, ...]:
    return session.avatar, id(session.data), session.document, session.view, session.clock.frame


# ---- what is open ----


@pytest.mark.parametrize("avatar", ["bundled", "actor"])
def test_what_comes_with_us_opens_with_its_motions(avatar: str) -> None:
    session = Session(avatar, device="cpu")
    assert len(session.motions) >= 3
    assert session.document.motion == "dance"
    assert session.clock.frames == len(session.motion.dofs)


def test_an_avatar_without_a_motion_stands(files: Files) -> None:
    session = Session(str(files.avatar), device="cpu")
    assert session.document.motion == "rest"
    assert torch.equal(session.dofs(), session.data.rest_dofs)


def test_what_cannot_be_opened_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such avatar file"):
        Session(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.safetensors", b"not one", "a.safetensors"),
        ("a.motion", b"nonsense", "a.motion"),
        ("a.json", b"[1, 2", "a.json"),
        ("a.ash-session", b"{}", "expected an ash-studio session"),
        ("a.ash-session", b"\xff\xfe", "expected JSON"),
        ("a.txt", b"", "expected an avatar (.safetensors, .conf), splats (.ply, .spz, .sog)"),
        ("a.ply", b"ply\n", "header ends with end_header"),
        ("none.motion", None, "none.motion"),
    ],
)
def test_wrong_files_become_messages_and_change_nothing(
    session: Session, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    before = state(session)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    session.open(str(tmp_path / name))
    assert session.messages[-1].severity == "error"
    assert said in session.messages[-1].text
    assert state(session) == before


def test_files_are_opened_by_their_kind(session: Session, files: Files) -> None:
    session.open(str(files.cameras))
    assert set(session.cameras) >= {"front", "side"} or len(session.cameras) >= 2
    session.open(str(files.motion))
    assert session.recent[0] == str(files.motion)
    assert session.messages[-1].severity == "info"


def test_splats_are_opened_framed_and_kept_still(session: Session, files: Files) -> None:
    """Those of a frame of the avatar: from the same place the same picture, at every frame."""
    commands.run(session, "time.next_ten")
    camera, want = session.camera(*SIZE), session.renderer.render(session.request_shown(*SIZE))
    gaussians = session.renderer.gaussians(session.request_shown(*SIZE).window)
    write_ply(files.folder / "pose.ply", gaussians)
    session.open(str(files.folder / "pose.ply"))
    assert session.messages[-1].severity == "info", session.messages[-1]
    assert f"{len(gaussians.means):,} splats" in session.messages[-1].text
    for frame in (0, session.clock.frames - 1):
        session.clock.seek(frame)
        request = dataclasses.replace(session.request_shown(*SIZE), camera=camera)
        image = session.renderer.render(request)
        background = torch.tensor(session.request_shown(*SIZE).background)
        assert (image.rgb - background).abs().max() > 0.1
        assert torch.allclose(image.rgb, want.rgb, atol=0.02)
    seen = project(session.camera(*SIZE), gaussians.means.numpy())[0]
    assert ((seen > 0) & (seen < SIZE)).mean() > 0.95  # framed
    assert (session.tree, session.sliders, session.dofs().tolist()) == ((), (), [])
    before = session.document
    for name in ("pose.rest", "pose.hold", "pose.mirror", "pose.still", "pose.copy"):
        commands.run(session, name)
        assert "no pose moves them" in session.messages[-1].text
    session.open(str(files.motion))
    assert "which no motion moves" in session.messages[-1].text
    assert session.document == before
    session.open(str(files.avatar))
    assert not session.is_static


def test_notes_on_splats_are_said_once() -> None:
    path = Path(__file__).parent / "data" / "splats" / "splats.sog"
    session = Session(str(path), device="cpu")
    assert [m.text.split(":")[0] for m in session.messages] == [f"{path} does not name its up axis"]


def test_a_decoder_s_preset_is_no_hindrance_to_other_avatars(files: Files, tmp_path: Path) -> None:
    """The choice is for avatars that have none; others come with their own."""
    session = Session("actor", device="cpu", preset="cpu")
    config = DecoderConfig(**DECODER)
    data = dataclasses.replace(
        load_avatar(files.avatar),
        networks={"decoder": dict(Decoder(config).state_dict())},
        decoder=dataclasses.asdict(config),
    )
    save_avatar(tmp_path / "trained.safetensors", data)
    session.open(str(tmp_path / "trained.safetensors"))
    assert session.messages[-1].severity == "info", session.messages[-1]


# ---- edits ----


def test_history_goes_back_and_forth() -> None:
    documents = [Document(str(n)) for n in range(5)]
    history = History(documents[0])
    for document in documents[1:]:
        history.apply(f"to {document.motion}", document)
    assert history.labels == ("to 1", "to 2", "to 3", "to 4")
    for document in documents[-2::-1]:
        history.undo()
        assert history.document == document
    assert history.undo() is None
    assert history.redo() == "to 1"
    assert history.document == documents[1]
    history.apply("other", Document("other"))
    assert history.redo() is None
    assert history.labels == ("to 1", "other")


def test_a_dragged_slider_is_one_edit() -> None:
    history = History(Document("m"))
    for blend in (0.1, 0.2, 0.8):
        history.apply("blend", Document("m", PoseEdit(blend=blend)), "s")
    history.settle()
    history.apply("blend", Document("m", PoseEdit(blend=0.5)), "s")
    assert len(history.labels) == 2
    history.undo()
    assert history.document.edit.blend == 0.8
    history.undo()
    assert history.document == Document("m")


def test_how_it_is_shown_is_no_edit() -> None:
    """Neither undone, nor an end of what can be redone, nor lost by undo and redo."""
    history = History(Document("m"))
    history.apply("pose", Document("m", PoseEdit({3: 1.0})))
    history.undo()
    white = dataclasses.replace(history.document, background="white", look=Look(splat_scale=2.0))
    history.apply("background", white)
    assert history.labels == ("pose",)
    assert history.redo() == "pose"
    assert history.document == dataclasses.replace(white, edit=PoseEdit({3: 1.0}))
    history.undo()
    assert history.document == white
    assert history.undo() is None


def test_the_oldest_edits_are_forgotten() -> None:
    history = History(Document("0"))
    for n in range(1, MOST_EDITS + 8):
        history.apply(f"to {n}", Document(str(n)))
    assert history.position == len(history.labels) == MOST_EDITS
    while history.undo() is not None:
        pass
    assert history.document == Document("7")
    assert history.redo() == "to 8"


def test_an_edit_without_a_change_is_none() -> None:
    history = History(Document("m"))
    history.apply("nothing", Document("m"))
    assert history.labels == ()


# ---- commands ----


def test_names_and_shortcuts_are_unique() -> None:
    names = [command.name for command in commands.COMMANDS]
    keys = [command.shortcut for command in commands.COMMANDS if command.shortcut]
    assert len(set(names)) == len(names)
    assert len(set(keys)) == len(keys)
    assert {command.group for command in commands.COMMANDS} <= set(commands.GROUPS)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("undo", "edit.undo"),
        ("set in", "time.set_in"),
        ("show depth", "look.depth"),
        ("cam home", "camera.home"),
        ("play", "time.play"),
    ],
)
def test_the_palette_finds(text: str, first: str) -> None:
    assert commands.search(text)[0].name == first


def test_the_palette_finds_nothing_for_nonsense_and_all_for_nothing() -> None:
    assert commands.search("zzzzqq") == ()
    assert commands.search("") == commands.COMMANDS


def test_time_commands(session: Session, hand: Hand) -> None:
    clock = session.clock
    commands.run(session, "time.next_frame")
    assert clock.frame == 1
    commands.run(session, "time.set_in")
    commands.run(session, "time.next_ten")
    commands.run(session, "time.set_out")
    assert (clock.first, clock.last) == (1, 11)
    commands.run(session, "time.first")
    commands.run(session, "time.play")
    hand.now += 4.5 / clock.fps
    clock.tick(hand.now)
    assert (clock.playing, clock.frame) == (True, 5)
    commands.run(session, "time.play")
    assert not clock.playing
    commands.run(session, "time.faster")
    assert clock.speed == commands.SPEED_STEP
    commands.run(session, "time.loop")
    assert clock.loop == "once"
    commands.run(session, "time.whole")
    assert (clock.first, clock.last) == (0, clock.frames - 1)


def test_a_motion_keeps_its_range_and_frame_while_another_is_shown() -> None:
    session = Session("actor", device="cpu", preset="cpu")
    clock, first = session.clock, session.document.motion
    clock.first, clock.last = 10, 100
    clock.seek(60)
    commands.run(session, "time.next_motion")
    assert (clock.first, clock.last, clock.frame) == (0, len(session.motion.dofs) - 1, 0)
    clock.seek(7)
    session.undo()
    assert session.document.motion == first
    assert (clock.first, clock.last, clock.frame) == (10, 100, 60)
    session.redo()
    assert (clock.first, clock.frame) == (0, 7)


def test_look_commands_are_none_to_undo(session: Session) -> None:
    commands.run(session, "look.depth")
    commands.run(session, "look.skeleton")
    commands.run(session, "look.background")
    assert session.document.look.mode == "depth"
    assert session.document.overlays.skeleton
    assert session.document.background == "white"
    shown = session.document
    commands.run(session, "edit.undo")
    assert session.document == shown
    assert session.messages[-1].text == "nothing to undo"


def test_mesh_commands(session: Session) -> None:
    shown = []
    for _ in range(4):
        commands.run(session, "look.mesh_next")
        shown.append(session.document.overlays.mesh)
    assert shown == ["wire", "shaded", "textured", "none"]
    commands.run(session, "look.mesh_shaded")
    commands.run(session, "look.mesh_place")
    assert session.document.overlays.mesh_place == "under"
    for _ in range(12):
        commands.run(session, "look.mesh_less")
    assert session.document.overlays.mesh_opacity == 0
    commands.run(session, "look.mesh_more")
    assert session.document.overlays.mesh_opacity == pytest.approx(0.1)
    assert session.history.labels == ()


def test_a_mesh_is_kept_in_a_session_and_older_sessions_have_none(
    session: Session, files: Files, tmp_path: Path
) -> None:
    session.open(str(files.motion))
    path = tmp_path / f"a{SESSION_SUFFIX}"
    for name in ("look.mesh_wire", "look.mesh_under", "look.mesh_less"):
        commands.run(session, name)
    overlays = session.document.overlays
    session.save(path)
    commands.run(session, "look.mesh_none")
    session.open(str(path))
    assert session.document.overlays == overlays
    content = json.loads(path.read_text())
    content["version"] = 1
    content["overlays"] = {k: v for k, v in content["overlays"].items() if "mesh" not in k}
    path.write_text(json.dumps(content))
    session.open(str(path))
    assert session.messages[-1].severity == "info"
    assert session.document.overlays == Overlays()


def test_a_recorded_frame_has_its_background_whatever_lies_about_it(session: Session) -> None:
    commands.run(session, "look.mesh_shaded")
    commands.run(session, "look.mesh_under")
    assert session.document.overlays.grid
    assert session.request_shown(*SIZE).background == BACKGROUNDS["dark"]
    assert session.request(0, *SIZE).background == BACKGROUNDS["dark"]


def test_every_edit_is_undone(session: Session) -> None:
    for command in commands.COMMANDS:
        if command.group in ("Edit", "File", "Window", "Look"):
            continue
        before = session.document
        command.run(session)
        if session.document != before:
            commands.run(session, "edit.undo")
            assert session.document == before, command.name


def test_a_pose_is_copied_and_pasted(session: Session) -> None:
    session.clock.seek(9)
    posed = session.dofs()
    commands.run(session, "pose.copy")
    session.clock.seek(2)
    commands.run(session, "pose.paste")
    assert torch.equal(session.dofs(), posed)
    session.clipboard.write("not a pose")
    before = session.document
    commands.run(session, "pose.paste")
    assert session.messages[-1].severity == "error"
    assert session.document == before


def test_capture_cameras_give_their_exact_view(session: Session, files: Files) -> None:
    session.open(str(files.cameras))
    commands.run(session, "camera.next")
    assert session.locked_camera is not None
    theirs = session.cameras[session.locked_camera]
    ours = session.camera(theirs.width, theirs.height)
    assert torch.equal(ours.K, theirs.K)
    assert torch.equal(ours.viewmat, theirs.viewmat)
    commands.run(session, "camera.free")
    assert session.locked_camera is None


def test_the_up_axis_of_splats_is_chosen_undone_and_kept(session: Session, files: Files) -> None:
    """Cameras of their scene turn with them; a session keeps the axis, older ones name none."""
    path = files.folder / "pose.ply"
    write_ply(path, session.renderer.gaussians(session.request_shown(*SIZE).window))
    commands.run(session, "look.up_y")
    assert "only splats" in session.messages[-1].text
    session.open(str(path))
    session.open(str(files.cameras))
    session.choose_up("z")
    means, camera = session.data.gaussians.means, next(iter(session.cameras.values()))
    commands.run(session, "look.up_y_down")
    turned = session.data.gaussians.means
    torch.testing.assert_close(turned[:, 2], -means[:, 1])
    seen = project(next(iter(session.cameras.values())), turned.numpy())[0]
    assert np.abs(seen - project(camera, means.numpy())[0]).max() < 1e-2
    commands.run(session, "edit.undo")
    torch.testing.assert_close(session.data.gaussians.means, means)
    commands.run(session, "edit.redo")
    session.save(files.folder / "a.ash-session")
    content = json.loads((files.folder / "a.ash-session").read_text())
    again = Session(file=files.folder / "a.ash-session", device="cpu")
    assert content["up"] == again.document.up == "y-down"
    torch.testing.assert_close(again.data.gaussians.means, turned)
    camera, want = next(iter(again.cameras.values())), next(iter(session.cameras.values()))
    torch.testing.assert_close(camera.viewmat, want.viewmat)
    content = {k: v for k, v in content.items() if k != "up"} | {"version": 2}
    (files.folder / "a.ash-session").write_text(json.dumps(content))
    assert Session(file=files.folder / "a.ash-session", device="cpu").document.up == "z"


def test_a_camera_that_looks_away_is_warned_of(session: Session, tmp_path: Path) -> None:
    """Capture cameras of other programs open, too; an empty picture is no surprise."""
    towards = look_at(torch.tensor([3.0, 0, 0.6]), torch.tensor([0.0, 0, 0.6]))
    away = look_at(torch.tensor([3.0, 0, 0.6]), torch.tensor([6.0, 0, 0.6]))
    K = torch.tensor([[30.0, 0, 20], [0, 30.0, 15], [0, 0, 1]])
    stage = [
        StageCamera(Camera(viewmat, K, *SIZE, name))
        for viewmat, name in ((towards, "towards"), (away, "away"))
    ]
    write_camera_file(tmp_path / "transforms.json", "nerfstudio", stage)
    session.open(str(tmp_path / "transforms.json"))
    assert session.messages[-1].severity == "info"
    session.look_through("towards")
    assert session.messages[-1].severity == "info"
    session.look_through("away")
    assert session.messages[-1].severity == "error"
    assert "nothing of the avatar is in its picture" in session.messages[-1].text


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("avatar", 10_000), ("splats", 1_000)])
def test_ten_thousand_random_commands(
    session: Session, hand: Hand, files: Files, kind: str, count: int
) -> None:
    """Two hours of use: no exception, bounded memory of what was done, frames all the while."""
    if kind == "splats":
        write_ply(
            files.folder / "any.ply", session.renderer.gaussians(session.request_shown(4, 4).window)
        )
        session.open(str(files.folder / "any.ply"))
    chosen = random.Random(0)
    usual = [
        c for c in commands.COMMANDS if c.name not in ("file.quit", "pose.still", "pose.paste")
    ]
    motions = len(session.motions)
    for n in range(count):
        chosen.choice(usual).run(session)
        hand.now += chosen.random()
        session.clock.tick(hand.now)
        assert 0 <= session.clock.frame < session.clock.frames
        if n % 500 == 0:
            request = session.request_shown(*SIZE)
            assert bool(request.camera.viewmat.isfinite().all())
            assert bool(session.renderer.render(request).rgb.isfinite().all())
    assert len(session.messages) <= 200
    assert len(session.history.labels) <= MOST_EDITS
    assert len(session.motions) == (1 if kind == "splats" else motions)


# ---- frames ----


def test_a_request_is_the_motion_s_window(session: Session) -> None:
    session.clock.seek(7)
    request = session.request_shown(*SIZE)
    want = pose_window(session.motion, 7, session.data.skeleton, session.data.history_offsets)
    assert torch.equal(request.window.dofs, want.dofs)
    assert torch.equal(request.window.normalised, want.normalised)
    assert (request.camera.width, request.camera.height) == SIZE


def test_what_is_recorded_is_what_is_seen(session: Session) -> None:
    """Without a camera path: the same request, frame by frame; with one: the path's camera."""
    commands.run(session, "look.ellipsoids")
    for frame in (0, 3, 9):
        session.clock.seek(frame)
        seen, recorded = session.request_shown(*SIZE), session.request(frame, *SIZE)
        renderer = session.renderer
        assert torch.equal(renderer.render(seen).rgb, renderer.render(recorded).rgb)
    start = session.view
    session.edit("path", path=session.document.path.with_key(CameraKey(0, start)))
    session.view = session.view.orbit(1.0, 0.2)
    session.edit("path", path=session.document.path.with_key(CameraKey(9, session.view)))
    there = session.request(9, *SIZE).camera.viewmat
    assert torch.allclose(there, session.view.camera(*SIZE).viewmat, atol=1e-5)
    assert torch.allclose(session.request(0, *SIZE).camera.viewmat, start.camera(*SIZE).viewmat)


def test_what_a_hand_moves_has_the_poses_before_it_that_were_shown(
    session: Session, hand: Hand
) -> None:
    """Dragged for a while: the window is the hand's own motion; at rest the motion's again."""
    skeleton, dof, rate = session.data.skeleton, 6, 1.5
    session.clock.seek(7)
    stood = session.dofs()
    begun = hand.now
    for step in range(1, 91):  # at 60 Hz
        hand.now = begun + step / 60
        session.show_dof(dof, float(stood[dof]) + rate * (hand.now - begun))
        session.advance()
        window = session.request_shown(*SIZE).window
        assert torch.equal(window.dofs[0], session.dofs())
    steps = window.dofs[:-1, dof] - window.dofs[1:, dof]
    gaps = torch.tensor(session.data.history_offsets.frames).diff().double()
    torch.testing.assert_close(steps, gaps * rate / 25, rtol=1e-6, atol=1e-9)
    others = [n for n in range(len(stood)) if n != dof]
    assert torch.equal(
        window.dofs[1:, others], stood[others].expand(len(gaps), -1)
    )  # nothing else moves
    recorded = session.request(7, *SIZE).window
    want = window_of(
        session.motion, 7, session.document.edit, skeleton, session.data.history_offsets
    )
    assert torch.equal(recorded.dofs, want.dofs)
    # Left alone: all stands still, then the motion's past comes back without a jump.
    hand.now += 1.39
    still = session.request_shown(*SIZE).window.dofs
    assert torch.equal(still, session.dofs().expand_as(still))
    seen, way = [still], want.dofs - still
    assert way.abs().max() > 0.1
    for _ in range(31):
        hand.now += 1 / 60
        session.advance()
        seen.append(session.request_shown(*SIZE).window.dofs)
        assert torch.equal(seen[-1][0], session.dofs())
    steps = torch.stack(seen).diff(dim=0)
    assert (steps.abs() <= 0.06 * way.abs() + 1e-12).all()  # 30 even steps: 0.033 each
    assert not session.is_live
    assert torch.equal(seen[-1], want.dofs)


@pytest.mark.parametrize("what", ["seek", "motion", "undo", "edit", "play"])
def test_a_hand_s_past_ends_with_what_it_moved(session: Session, hand: Hand, what: str) -> None:
    """Nothing that a hand did elsewhere is seen as the motion's past."""
    session.clock.seek(15)
    session.show_dof(6, float(session.dofs()[6]) + 0.3)
    session.request_shown(*SIZE)
    hand.now += 0.2
    assert session.is_live
    if what == "seek":
        session.clock.seek(3)
    elif what == "motion":
        session.keep_still()
    elif what == "undo":
        session.undo()
    elif what == "edit":
        commands.run(session, "pose.mirror")
    else:
        commands.run(session, "time.play")
        for now in (hand.now, hand.now + 0.2):
            session.clock.tick(now)
        commands.run(session, "time.play")
        assert session.clock.frame != 15
    assert not session.is_live
    got, data = session.request_shown(*SIZE).window, session.data
    edit, frame = session.document.edit, session.clock.frame
    want = window_of(session.motion, frame, edit, data.skeleton, data.history_offsets)
    assert torch.equal(got.dofs, want.dofs)
    assert torch.equal(got.normalised, want.normalised)


def test_a_hand_that_comes_back_takes_over_what_is_shown(session: Session, hand: Hand) -> None:
    session.clock.seek(15)
    value = float(session.dofs()[6])
    session.show_dof(6, value + 0.3)
    for _ in range(101):  # to the middle of the way back
        hand.now += 0.0165
        session.advance()
        before = session.request_shown(*SIZE).window
    assert session.is_live
    session.show_dof(6, value + 0.31)
    session.advance()
    after = session.request_shown(*SIZE).window
    torch.testing.assert_close(after.dofs[1:], before.dofs[1:])
    hand.now += 0.04
    session.show_dof(6, value + 0.32)
    assert torch.equal(session.request_shown(*SIZE).window.dofs[0], session.dofs())


def test_the_first_move_of_a_hand_takes_over_from_the_motion(session: Session, hand: Hand) -> None:
    session.clock.seek(7)
    stood, before = session.dofs(), session.request_shown(*SIZE).window
    session.show_dof(6, float(stood[6]) + 0.1)
    window = session.request_shown(*SIZE).window
    torch.testing.assert_close(window.dofs[1:], before.dofs[1:])
    assert float(window.dofs[0, 6]) == pytest.approx(float(stood[6]) + 0.1)
    hand.now += 0.01
    commands.run(session, "time.play")
    moving = session.request_shown(*SIZE).window
    data = session.data
    want = window_of(session.motion, 7, session.document.edit, data.skeleton, data.history_offsets)
    assert torch.equal(moving.dofs, want.dofs)  # a motion that plays has poses of its own


def test_a_request_changes_nothing(session: Session, hand: Hand) -> None:
    """Asked twice, or by a screenshot between two pictures, it is the same while a hand moves."""
    session.show_dof(6, float(session.dofs()[6]) + 0.3)
    session.advance()
    hand.now += 0.02
    session.show_dof(6, float(session.dofs()[6]) + 0.1)
    shown = list(session._posed._shown)
    windows = [session.request_shown(*SIZE).window for _ in range(2)]
    assert torch.equal(windows[0].dofs, windows[1].dofs)
    assert torch.equal(windows[0].dofs[0], session.dofs())
    assert list(session._posed._shown) == shown
    session.advance()
    assert torch.equal(session.request_shown(*SIZE).window.dofs, windows[0].dofs)


def test_following_keeps_the_character_in_place(session: Session) -> None:
    commands.run(session, "camera.follow")
    places = []
    for frame in (0, 5, 10):
        session.clock.seek(frame)
        camera = session.camera(*SIZE)
        point = camera.viewmat[:3, :3].double() @ session.joints()[0] + camera.viewmat[:3, 3]
        places.append(point[[0, 2]])
    assert torch.allclose(places[0], places[1], atol=0.15)
    assert torch.allclose(places[0], places[2], atol=0.15)


@pytest.mark.parametrize("size", [(300, 900), (900, 300), (400, 300)])
def test_home_and_frame_fill_the_view_s_own_shape(session: Session, size: tuple[int, int]) -> None:
    session.show_in(*size)
    for name in ("camera.home", "camera.frame"):
        commands.run(session, name)
        seen = project(session.camera(*size), session.surface().numpy())[0] / size
        assert seen.min() >= 0
        assert seen.max() <= 1
    assert (seen.max(0) - seen.min(0)).max() > 0.8  # of its tighter side


def test_a_view_that_nobody_moved_follows_the_window_s_shape(session: Session) -> None:
    before = session.view
    session.show_in(300, 900)
    assert session.view == before  # it may still be changing
    session.show_in(300, 900)
    tall = session.view
    assert tall.distance > before.distance
    commands.run(session, "camera.home")
    assert session.view == tall
    session.view = moved = tall.orbit(0.2, 0.1)
    for _ in range(2):
        session.show_in(900, 300)
    assert session.view == moved


# ---- session files ----


def test_a_session_is_saved_and_reopened(session: Session, files: Files, tmp_path: Path) -> None:
    session.open(str(files.motion))
    for name in ("look.normals", "look.grid", "camera.add_key", "time.loop", "pose.hold"):
        commands.run(session, name)
    session.clock.seek(4)
    path = tmp_path / f"a{SESSION_SUFFIX}"
    session.save(path)
    other = Session(str(files.avatar), device="cpu")
    other.open(str(path))
    assert other.messages[-1].severity == "info", other.messages[-1]
    assert other.document == session.document
    assert other.view == session.view
    assert (other.clock.frame, other.clock.loop) == (4, session.clock.loop)


def test_a_session_is_rendered_by_the_command(
    session: Session, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte what the viewer's recorder writes, and what `render` draws of those frames."""
    session.open(str(files.motion))
    session.edit("background", background="white")
    session.clock.first, session.clock.last = 2, 4
    camera = session.camera(64, 48)
    session.save(tmp_path / f"a{SESSION_SUFFIX}")
    settings, shots = session.recording(tmp_path / "window", 64, 48)
    recorder = Recorder(session.renderer, shots, 3, settings)
    recorder.start()
    assert recorder.wait(60)
    monkeypatch.chdir("/")  # a session is found again from anywhere
    flags = ["--session", str(tmp_path / f"a{SESSION_SUFFIX}"), "--device", "cpu"]
    out = tmp_path / "command"
    assert cli.main(["render", *flags, "-o", str(out), "--size", "64x48"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [f"frame_{n:06d}.png" for n in (2, 3, 4)]
    for number in (2, 3, 4):
        window = pose_window(
            session.motion, number, session.data.skeleton, session.data.history_offsets
        )
        request = RenderRequest(window, camera, (1.0, 1.0, 1.0))
        want = session.renderer.render(request).to_numpy()
        for folder in (out, tmp_path / "window"):
            with PillowImage.open(folder / f"frame_{number:06d}.png") as picture:
                assert np.array_equal(np.asarray(picture), want)


def test_a_recording_is_as_large_in_the_window_as_by_the_command(
    session: Session, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera's own size, else the preferred one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    store = PreferenceStore(preferences_file())
    store.change(record_size=(48, 32))
    store.write()
    session.preferences, file = store, tmp_path / f"a{SESSION_SUFFIX}"
    session.clock.last = 0
    for name, size in (("camera.free", (48, 32)), ("camera.next", (160, 120))):
        session.open(str(files.cameras))
        commands.run(session, name)
        session.save(file)
        out = tmp_path / f"{name}.png"
        flags = ["--session", str(file), "--device", "cpu", "-o", str(out)]
        assert cli.main(["render", *flags]) == 0
        with PillowImage.open(out) as picture:
            assert picture.size == session.recording_size() == size


@pytest.mark.parametrize("flags", [["bundled"], ["--camera", "orbit"], ["--frames", "3"]])
def test_what_a_session_says_itself_is_not_said_again(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    session.save(tmp_path / f"a{SESSION_SUFFIX}")
    out = str(tmp_path / "a.png")
    file = ["--session", str(tmp_path / f"a{SESSION_SUFFIX}")]
    assert cli.main(["render", *flags, *file, "-o", out]) == 2
    assert "expected none beside --session" in " ".join(capsys.readouterr().err.split())


def test_a_session_comes_back_from_another_folder_with_all_that_was_opened(
    session: Session, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By relative names; the motion of the start, cameras, and a pose kept as a motion too."""
    monkeypatch.chdir(files.folder)
    first = Session(files.avatar.name, str(files.motion.relative_to(files.folder)), "cpu")
    first.open(files.cameras.name)
    commands.run(first, "camera.next")
    first.clock.seek(3)
    commands.run(first, "pose.still")
    first.save(tmp_path / f"a{SESSION_SUFFIX}")
    monkeypatch.chdir(tmp_path)
    again = Session(device="cpu", file=tmp_path / f"a{SESSION_SUFFIX}")
    assert set(again.motions) >= set(first.motions)
    assert again.locked_camera == first.locked_camera is not None
    assert again.recording_size() == (160, 120)
    assert torch.equal(again.dofs(), first.dofs())


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 99},
        {"motion": "nobody"},
        {"background": "plaid"},
        {"look": {"mode": "colour", "colour": 1}},
        {"view": {}},
        {"range": 3},
        {"overlays": {"mesh": "knitted"}},
        {"overlays": {"mesh": []}},
        {"overlays": {"mesh_place": "beside"}},
        {"overlays": {"mesh_opacity": 2}},
        {"overlays": {"mesh_opacity": "1"}},
        {"overlays": {"grid": "yes"}},
        {"overlays": {"lawn": True}},
        {"look": {"mode": "nope"}},
        {"look": {"mode": []}},
        {"look": {"splat_scale": "a"}},
        {"look": {"splat_scale": math.nan}},
        {"look": {"opacity": -1}},
        {"look": {"sh_degree": 4}},
        {"look": {"sh_degree": True}},
        {"look": []},
        {"frame": math.inf},
        {"frame": -1},
        {"range": [0, math.inf]},
        {"range": [0, "1"]},
        {"speed": math.nan},
        {"speed": 10**400},
        {"loop": []},
        {"camera": ["front"]},
        {"follows root": "no"},
        {"files": "missing.motion"},
        {"avatar": "a" * 5000 + ".safetensors"},
        {"avatar": "\0.safetensors"},
        {"edit": {"values": {"0": math.inf}, "blend": 1}},
        {"stills": {"mine": {"a": 1}}},
        {"stills": {"mine": [[1.0]] * 10}},
        {"stills": {"mine": [math.inf] * 10}},
        {"version": "1"},
        {"avatar": "missing.safetensors"},
        {"preset": "huge"},
        {"files": ["missing.motion"]},
        {"stills": {"mine": [1.0]}},
    ],
)
def test_a_damaged_session_changes_nothing(
    session: Session, files: Files, tmp_path: Path, damage: dict[str, object]
) -> None:
    session.open(str(files.motion))
    path = tmp_path / f"a{SESSION_SUFFIX}"
    session.save(path)
    session.open(str(path))
    assert session.messages[-1].severity == "info"  # undamaged it opens
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    before, held = state(session), dict(vars(session))
    session.open(str(path))
    assert session.messages[-1].severity == "error"
    assert session.messages[-1].text.startswith(f"{path}: ")
    assert state(session) == before
    assert all(value is held[name] for name, value in vars(session).items())
    with pytest.raises(InputError, match=SESSION_SUFFIX):
        session.reopen(path)


def test_a_session_names_every_field_that_it_lacks(session: Session, tmp_path: Path) -> None:
    path = tmp_path / f"a{SESSION_SUFFIX}"
    session.save(path)
    whole = json.loads(path.read_text())
    for name in set(whole) - {"format", "version"}:
        path.write_text(json.dumps({k: v for k, v in whole.items() if k != name}))
        with pytest.raises(InputError, match=f"{name}: expected .*, got nothing"):
            session.reopen(path)


def test_a_session_nested_too_deep_is_a_message(session: Session, tmp_path: Path) -> None:
    path, before = tmp_path / f"a{SESSION_SUFFIX}", state(session)
    path.write_text("[" * 100_000)
    session.open(str(path))
    assert "expected JSON" in session.messages[-1].text
    assert state(session) == before


@pytest.mark.parametrize(
    "failure",
    [CudaError("no kernels"), torch.OutOfMemoryError("too large\nof 2 GB"), RuntimeError("no")],
)
def test_a_renderer_that_cannot_be_made_leaves_what_was_open(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """What a GPU raises cannot be had on a machine without one, so it is raised for it."""
    path = tmp_path / f"a{SESSION_SUFFIX}"
    session.save(path)

    def fail(*_: object) -> Renderer:
        raise failure

    monkeypatch.setattr("ash_core.scene.scene.make_renderer", fail)
    held = dict(vars(session))
    for name in (str(path), session.avatar):
        session.open(name)
        said = str(failure).split("\n")[0]
        assert session.messages[-1].text == f"{name}: cannot be opened: {said}"
        assert all(value is held[name] for name, value in vars(session).items())


def reopened(session: Session, path: Path, preset: str | None) -> str | None:
    """The preset in force after opening a session that was saved with one."""
    session.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preset": preset}))
    session.open(str(path))
    assert session.messages[-1].severity == "info", session.messages[-1]
    return session.preset


@pytest.mark.slow
def test_every_session_has_its_own_preset(tmp_path: Path) -> None:
    """Not that of the session before it, nor what is usual on this machine; saved as it is."""
    session, path = (
        Session("actor", device="cpu", usual_preset="cpu"),
        tmp_path / f"a{SESSION_SUFFIX}",
    )
    splats = session.renderer.drawable.count
    for preset in ("balanced", "cpu", "balanced", None):
        assert reopened(session, path, preset) == preset
        assert (session.renderer.drawable.count > splats) == (preset != "cpu")
        session.save(path)
        assert json.loads(path.read_text())["preset"] == preset
    session.open("actor")
    assert (session.preset, session.renderer.drawable.count) == ("cpu", splats)


def test_a_preset_that_is_asked_for_goes_before_every_other(tmp_path: Path) -> None:
    session = Session("actor", device="cpu", preset="cpu", usual_preset="balanced")
    assert session.preset == "cpu"
    assert reopened(session, tmp_path / f"a{SESSION_SUFFIX}", "balanced") == "cpu"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--headless-check", "a.jpg2"], "--headless-check: expected a name in .png, got 'a.jpg2'"),
        (["--headless-check", "a"], "--headless-check: expected a name in .png, got 'a'"),
        (["--headless-check", "none/a.png"], "--headless-check: none: no such folder"),
        (["bundled", "--session", "S"], "AVATAR: expected none beside --session"),
        (["--session", "S", "--motion", "dance"], "--motion: expected none beside --session"),
    ],
)
def test_view_refuses_what_cannot_be_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("viewer.session.Session.__init__", lambda *_, **__: pytest.fail("work"))
    assert cli.main(["view", *flags]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("command", "preferred", "want"),
    [
        (ViewCommand(), None, "cpu"),
        (ViewCommand(session=Path("S")), None, "cpu"),
        (ViewCommand("actor"), None, "cpu"),
        (ViewCommand("actor"), "quality", "quality"),
        (ViewCommand("mine.safetensors"), None, None),
        (ViewCommand("mine.safetensors"), "quality", "quality"),
    ],
)
def test_the_smallest_preset_is_usual_where_no_gpu_is(
    monkeypatch: pytest.MonkeyPatch,
    command: ViewCommand,
    preferred: Preset | None,
    want: str | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command._usual_preset(Preferences(preset=preferred)) == want


def test_a_session_may_stand_in_the_avatar_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / f"gone{SESSION_SUFFIX}"
    with pytest.raises(InputError, match=r"gone.*expected a file, found nothing there"):
        ViewCommand(str(file)).run()
    with pytest.raises(InputError, match="--motion: expected none beside --session"):
        ViewCommand(str(file), motion="walk").run()


# ---- the engine ----


class Slow:
    """A renderer that waits until it may go on."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.gate = threading.Semaphore(0)
        self.timings: dict[str, float] = {}

    def draw(self, request: RenderRequest) -> torch.Tensor:
        self.gate.acquire()
        self.drawn.append(request.camera.width)
        if request.camera.width == 13:
            raise InputError("unlucky")
        return torch.zeros(1, request.camera.width, 4, dtype=torch.uint8)


def request(session: Session, width: int) -> RenderRequest:
    return session.request_shown(width, 10)


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_the_newest_request_wins(session: Session) -> None:
    slow = Slow()
    engine = Engine(slow)  # type: ignore[arg-type]
    engine.submit(request(session, 1))
    until(lambda: not engine._wanted)
    for width in (2, 3, 4):
        engine.submit(request(session, width))
    slow.gate.release(2)
    frame = engine.wait()
    assert slow.drawn == [1, 4]
    assert frame is not None
    assert frame.pixels.shape[1] == 4
    engine.close()


def test_no_frame_is_begun_before_the_last_was_taken(session: Session) -> None:
    slow = Slow()
    engine = Engine(slow)  # type: ignore[arg-type]
    slow.gate.release(9)
    engine.submit(request(session, 1))
    until(lambda: len(slow.drawn) == 1 and not engine._busy)
    engine.submit(request(session, 2))
    time.sleep(0.05)
    assert slow.drawn == [1]
    engine.take()
    until(lambda: len(slow.drawn) == 2)
    engine.close()


def test_a_failed_frame_is_said_and_the_next_is_drawn(session: Session) -> None:
    slow = Slow()
    engine = Engine(slow)  # type: ignore[arg-type]
    slow.gate.release(9)
    engine.submit(request(session, 13))
    engine.wait()
    assert engine.error == "unlucky"
    engine.submit(request(session, 5))
    frame = engine.wait()
    assert frame is not None
    assert engine.error is None
    engine.close()


def test_a_failure_that_nobody_knows_is_logged_whole_and_the_next_is_drawn(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    engine, good = Engine(session.renderer), session.request_shown(*SIZE)
    window = dataclasses.replace(
        good.window,
        dofs=good.window.dofs.repeat(1, 2),
        normalised=good.window.normalised.repeat(1, 1, 2),
    )
    engine.submit(dataclasses.replace(good, window=window))  # of another skeleton
    assert engine.wait() is None
    assert engine.error
    assert any(record.exc_info for record in caplog.records)
    engine.submit(good)
    assert engine.wait() is not None
    assert engine.error is None
    engine.close()


def test_the_engine_draws_what_the_renderer_draws(session: Session) -> None:
    engine = Engine(session.renderer)
    wanted = session.request_shown(*SIZE)
    engine.submit(wanted)
    frame = engine.wait()
    assert frame is not None
    assert torch.equal(frame.pixels, Renderer(session.renderer.avatar).draw(wanted))
    engine.close()
    engine.close()


def test_a_frame_brings_the_mesh_that_was_asked_for(session: Session) -> None:
    engine = Engine(session.renderer)
    for number in (3, 7):
        session.clock.seek(number)
        engine.submit(session.request_shown(*SIZE), mesh=True)
        frame = engine.wait()
        assert frame is not None
        assert frame.mesh is not None
        assert frame.mesh.template is session.data.template
        mesh = session.renderer.avatar.character(frame.request.window)
        world = torch.tensor(R_WORLD_BODY)
        torch.testing.assert_close(frame.mesh.surface.vertices, mesh.vertices[0] @ world.T)
        torch.testing.assert_close(frame.mesh.surface.normals, mesh.normals[0] @ world.T)
        assert frame.stages["mesh"] >= 0
    engine.submit(session.request_shown(*SIZE))
    plain = engine.wait()
    assert plain is not None
    assert plain.mesh is None
    engine.close()


STRETCH = Path(__file__).parent / "data" / "stretch.bvh"


def fitted(session: Session) -> None:
    """Wait until the motion is there; numba may compile the solver before, on a busy machine."""
    end = time.monotonic() + 540
    while session.fits and time.monotonic() < end:
        time.sleep(0.02)
        session.collect()


@pytest.mark.slow
def test_another_skeleton_s_motion_is_fitted_beside_the_window(tmp_path: Path) -> None:
    session = Session("actor", device="cpu", preset="cpu")
    before = session.document.motion
    session.open(str(STRETCH))
    assert session.document.motion == before  # the window goes on meanwhile
    fitted(session)
    assert session.document.motion == "stretch"
    assert float(session.motion.dofs.std(0).max()) > 0.05
    moved = session.motion.dofs
    session.save(tmp_path / f"a{SESSION_SUFFIX}")
    again = Session("actor", device="cpu", preset="cpu")
    again.reopen(tmp_path / f"a{SESSION_SUFFIX}")
    assert again.document.motion == "stretch"
    torch.testing.assert_close(again.motion.dofs, moved, atol=1e-6, rtol=0)


def test_a_motion_that_does_not_fit_is_a_message(tmp_path: Path) -> None:
    session, bad = Session("actor", device="cpu", preset="cpu"), tmp_path / "bad.bvh"
    bad.write_text("HIERARCHY\nROOT")
    session.open(str(bad))
    fitted(session)
    assert session.messages[-1].severity == "error"
    assert "bad.bvh" in session.messages[-1].text


def test_a_preset_for_a_trained_avatar_is_refused() -> None:
    with pytest.raises(InputError, match="--preset: expected none, got quality: bundled has"):
        Session(device="cpu", preset="quality")
