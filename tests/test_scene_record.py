"""Recordings of the toy, end to end: the same bytes as `ash-studio render`, and every frame."""

import dataclasses
import errno
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest
import torch
from toy import make_toy_character

from ash_core.avatar import Avatar, NativeAvatar
from ash_core.commands import render
from ash_core.errors import CudaError, InputError
from ash_core.files import video
from ash_core.files.avatar_file import save_avatar
from ash_core.files.cameras.published import read_cameras
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.geometry.camera import resize_camera
from ash_core.geometry.motion import pose_window
from ash_core.records import AvatarData, Camera, Image, Motion
from ash_core.render import Colour, Renderer, RenderRequest
from ash_core.scene.record import Progress, Recorder, RecordSettings, Shot

DECODER = {"atlas": 32, "width": 8, "sh_degree": 1}
WIDTH, HEIGHT = 48, 36
WHITE = (1.0, 1.0, 1.0)
LONG_S = 60.0


class Scene(NamedTuple):
    avatar: Path
    motion_file: Path
    cameras_file: Path
    data: AvatarData
    motion: Motion
    camera: Camera
    renderer: Renderer


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    files = make_toy_character(tmp_path_factory.mktemp("toy"))
    data = dataclasses.replace(import_ash(files.conf)[0], decoder=DECODER)
    torch.manual_seed(0)
    avatar = Avatar.from_data(data)
    assert isinstance(avatar, NativeAvatar)
    torch.nn.init.normal_(avatar.decoder.head.weight, std=0.05)
    networks = {**data.networks, "decoder": avatar.decoder.state_dict()}
    data = dataclasses.replace(data, networks=networks)
    save_avatar(files.folder / "toy.safetensors", data)
    return Scene(
        files.folder / "toy.safetensors",
        files.motion,
        files.cameras,
        data,
        read_motion(files.motion, data.skeleton),
        resize_camera(read_cameras(files.cameras)[0], WIDTH, HEIGHT),
        Renderer(Avatar.from_data(data), "cpu"),
    )


def settings_for(out: Path, **changes: Any) -> RecordSettings:
    plain = {"first": 2, "last": 14, "step": 3, "background": WHITE}
    return RecordSettings(out=out, width=WIDTH, height=HEIGHT, **{**plain, **changes})


def shots(
    scene: Scene, settings: RecordSettings, background: Colour | None = WHITE
) -> Iterator[Shot]:
    for frame in settings.frames:
        window = pose_window(scene.motion, frame, scene.data.skeleton, scene.data.history_offsets)
        yield Shot(frame, RenderRequest(window, scene.camera, background))


def recorder_of(scene: Scene, settings: RecordSettings, **more: Any) -> Recorder:
    made = shots(scene, settings, settings.background)
    return Recorder(scene.renderer, made, len(settings.frames), settings, **more)


def recorded(recorder: Recorder) -> Recorder:
    recorder.start()
    assert recorder.wait(LONG_S)
    return recorder


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(container.streams.video[0]))


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ---- what is written ----


@pytest.mark.parametrize(("name", "background"), [("white", WHITE), ("transparent", None)])
def test_pictures_are_those_of_the_command_byte_for_byte(
    scene: Scene, tmp_path: Path, name: str, background: Colour | None
) -> None:
    command = render.Render(
        avatar=str(scene.avatar),
        out=tmp_path / "want",
        motion=str(scene.motion_file),
        frames="2:15:3",
        camera=f"{scene.cameras_file}:0",
        size=f"{WIDTH}x{HEIGHT}",
        background=name,
        device="cpu",
        backend="cpu",
    )
    assert command.run() == 0
    settings = settings_for(tmp_path / "got", background=background)
    recorder = recorded(recorder_of(scene, settings))
    assert recorder.error is None
    assert recorder.result == tmp_path / "got"
    got = bytes_in(tmp_path / "got")
    assert list(got) == [f"frame_{frame:06d}.png" for frame in (2, 5, 8, 11, 14)]
    assert got == bytes_in(tmp_path / "want")
    assert len(set(got.values())) == 5


@pytest.mark.parametrize(
    ("suffix", "background"), [(".mp4", WHITE), (".webm", None), (".mov", None)]
)
def test_a_video_has_exactly_the_frames(
    scene: Scene, tmp_path: Path, suffix: str, background: Colour | None
) -> None:
    out = tmp_path / "new" / f"a{suffix}"
    settings = settings_for(out, first=0, last=19, step=1, fps=50.0, background=background)
    recorder = recorded(recorder_of(scene, settings))
    assert recorder.error is None
    assert recorder.result == out
    assert recorder.progress == Progress(20, 20, 0.0)
    assert not recorder.cancelled
    assert frames_in(out) == 20
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == 50
    assert list(out.parent.iterdir()) == [out]


def test_two_recordings_are_the_same(scene: Scene, tmp_path: Path) -> None:
    """Whatever the clock does, and whoever else draws in between."""
    busy = threading.Event()
    lock = threading.Lock()

    def draw() -> None:
        request = next(shots(scene, settings_for(tmp_path / "x", first=17, last=19)))[1]
        while not busy.is_set():
            with lock:
                scene.renderer.render(request)
            time.sleep(0.001)

    recorded(recorder_of(scene, settings_for(tmp_path / "alone")))
    other = threading.Thread(target=draw)
    other.start()
    recorder = recorded(recorder_of(scene, settings_for(tmp_path / "together"), lock=lock))
    busy.set()
    other.join()
    assert recorder.error is None
    assert bytes_in(tmp_path / "alone") == bytes_in(tmp_path / "together")


def test_a_single_picture(scene: Scene, tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "a.png", first=7, last=7)
    assert recorded(recorder_of(scene, settings)).result == tmp_path / "a.png"
    recorded(recorder_of(scene, dataclasses.replace(settings, out=tmp_path / "folder")))
    assert bytes_in(tmp_path / "folder") == {"frame_000007.png": (tmp_path / "a.png").read_bytes()}


# ---- on its way ----


class Gate:
    """A renderer that waits to be let through, frame by frame."""

    def __init__(self, renderer: Renderer, lock: threading.Lock) -> None:
        self._renderer, self._lock = renderer, lock
        self.passes = threading.Semaphore(0)
        self.asked = 0
        self.held: list[bool] = []

    def render(self, request: RenderRequest) -> Image:
        self.asked += 1
        assert self.passes.acquire(timeout=LONG_S)
        self.held.append(self._lock.locked())
        return self._renderer.render(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)


def gated(scene: Scene, settings: RecordSettings) -> tuple[Recorder, Gate]:
    lock = threading.Lock()
    gate = Gate(scene.renderer, lock)
    made = shots(scene, settings, settings.background)
    count = len(settings.frames)
    return Recorder(gate, made, count, settings, lock=lock), gate  # type: ignore[arg-type]


def let_through(recorder: Recorder, gate: Gate, frames: int) -> None:
    """Until they are done, and the next one is asked for."""
    end, wanted = time.monotonic() + LONG_S, recorder.progress.done + frames
    gate.passes.release(frames)
    while recorder.progress.done < wanted or (gate.asked == wanted and not recorder.finished):
        assert time.monotonic() < end
        time.sleep(0.002)


def test_cancelling_leaves_a_playable_file_of_what_was_done(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    out.write_bytes(b"old")
    recorder, gate = gated(scene, settings_for(out, first=0, last=19, step=1))
    recorder.start()
    let_through(recorder, gate, 6)
    assert recorder.progress.done == 6
    assert out.read_bytes() == b"old"
    recorder.cancel()
    gate.passes.release(1)  # the frame at hand is finished
    assert recorder.wait(LONG_S)
    assert recorder.error is None
    assert recorder.cancelled
    assert recorder.result == out
    assert recorder.progress == Progress(7, 20, 0.0)
    assert frames_in(out) == 7
    assert list(tmp_path.iterdir()) == [out]


def test_cancelled_before_the_first_frame_leaves_the_old_file(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    out.write_bytes(b"old")
    recorder = recorder_of(scene, settings_for(out))
    recorder.cancel()
    recorded(recorder)
    assert (recorder.error, recorder.result, recorder.cancelled) == (None, None, True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_progress_counts_and_estimates(scene: Scene, tmp_path: Path) -> None:
    recorder, gate = gated(scene, settings_for(tmp_path / "a", first=0, last=7, step=1))
    assert not recorder.finished
    recorder.start()
    assert recorder.progress == Progress(0, 8, None)
    assert not recorder.wait(0.0)
    time.sleep(0.05)
    seen = []
    for _ in range(7):
        let_through(recorder, gate, 1)
        seen.append(recorder.progress)
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert seen[0].seconds_left is not None
    assert seen[0].seconds_left >= 7 * 0.05  # the first frame took as long as that
    assert not recorder.finished
    let_through(recorder, gate, 1)
    assert recorder.wait(LONG_S)
    assert recorder.finished
    assert recorder.progress == Progress(8, 8, 0.0)
    assert gate.held == [True] * 8


def test_others_get_the_renderer_between_frames(scene: Scene, tmp_path: Path) -> None:
    lock, turns = threading.Lock(), 0
    settings = settings_for(tmp_path / "a", first=0, last=19, step=1)
    recorder = recorder_of(scene, settings, lock=lock)
    with lock:
        recorder.start()
        time.sleep(0.05)
        assert recorder.progress.done == 0
    while not recorder.finished:
        with lock:
            turns += 1
        time.sleep(0.001)
    assert recorder.error is None
    assert turns >= 5


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": 0}, "expected a step of 1 or more, got 0"),
        ({"first": -1}, "expected a first frame of 0 or more, got -1"),
        ({"first": 9, "last": 8}, "expected at least one frame, got 9 to 8"),
        ({"width": 0}, "expected sides of 1 to 16384 pixels, got 0x36"),
        ({"height": 10**6}, "pixels, got 48x1000000"),
        ({"fps": float("nan")}, "expected 1 to 1000 frames a second, got nan"),
        ({"out": Path("a.avi")}, "unknown extension '.avi'"),
        ({"out": Path("a.png")}, "a .png holds one frame, 5 are to be recorded"),
        ({"out": Path("a.mp4"), "background": None}, ".mp4 has no transparency"),
    ],
)
def test_what_cannot_be_recorded_is_said_at_once(
    scene: Scene, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    if "out" in changes:
        changes = {**changes, "out": tmp_path / changes["out"]}
    settings = dataclasses.replace(settings_for(tmp_path / "a"), **changes)
    recorder = Recorder(scene.renderer, [], 5, settings)
    with pytest.raises(InputError) as raised:
        recorder.start()
    assert said in str(raised.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError):
        settings.check()


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "pictures"])
def test_an_unwritable_place_is_said_at_once(scene: Scene, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    settings = settings_for(tmp_path / "file" / name, first=2, last=2)
    with pytest.raises(InputError, match=r"cannot be written: (Not a directory|File exists)"):
        recorder_of(scene, settings).start()


def test_a_full_disk_is_said_at_once(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(InputError, match="too full: 5 frames of 48x36 need at least"):
        recorder_of(scene, settings_for(tmp_path / "a.mov")).start()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_is_one_sentence(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = video.VideoEncoder.encode

    def fill_up(self: video.VideoEncoder, frame: video.Pixels, number: int) -> None:
        if number == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        encode(self, frame, number)

    monkeypatch.setattr(video.VideoEncoder, "encode", fill_up)
    out = tmp_path / "a.mp4"
    out.write_bytes(b"old")
    recorder = recorded(recorder_of(scene, settings_for(out)))
    assert recorder.error == f"{out}: cannot be written: No space left on device"
    assert recorder.result is None
    assert not recorder.cancelled
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CudaError("cuda:0: gone\nmore"), "cuda:0: gone"),
        (InputError("bad frame"), "bad frame"),
        (torch.OutOfMemoryError("4 GB\nmore"), "a.mp4: not recorded, no memory is left: 4 GB"),
        (ZeroDivisionError("by 0"), "a.mp4: not recorded: ZeroDivisionError: by 0"),
    ],
)
def test_a_renderer_that_fails_is_one_sentence(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    said: str,
) -> None:
    def refuse(_: RenderRequest) -> Image:
        raise error

    monkeypatch.setattr(scene.renderer, "render", refuse)
    with caplog.at_level(logging.ERROR):
        recorder = recorded(recorder_of(scene, settings_for(tmp_path / "a.mp4")))
    assert recorder.error is not None
    assert recorder.error.endswith(said)
    assert recorder.result is None
    assert not list(tmp_path.iterdir())
    assert len(caplog.records) == isinstance(error, ZeroDivisionError)


def test_requests_that_do_not_fit_are_our_mistake(scene: Scene, tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "a.mp4")
    few = list(shots(scene, settings))[:3]
    clear = [Shot(n, dataclasses.replace(request, background=None)) for n, request in few]
    for made, count in ((few, 4), (clear, 3)):
        recorder = recorded(Recorder(scene.renderer, made, count, settings))
        assert recorder.error is not None
        assert "AssertionError" in recorder.error
    assert not list(tmp_path.iterdir())
