"""Whole frames in kernels beside the plain path: on a GPU, and on the kernels' stand-in."""

import dataclasses
import functools
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from cuda_on_cpu import StandIn, needs_compiler
from published import seeded_weights
from toy import make_toy_character, toy_cameras

from ash_core.avatar import Avatar, NativeAvatar
from ash_core.errors import CudaError, InputError
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.geometry.camera import resize_camera
from ash_core.geometry.framing import front_camera
from ash_core.geometry.motion import pose_window
from ash_core.gpu_frame import character, convolutions, decoders, frame
from ash_core.gpu_frame.frame import Frames
from ash_core.records import AvatarData, Camera, Image, Motion, PoseWindow
from ash_core.render import Renderer, RenderRequest
from ash_core.splat import cuda
from ash_core.variants import RELEASED

NETWORKS = ("spatial_gcn", "delta_gcn", "unet_geometry", "unet_appearance")
DECODER = {"atlas": 32, "width": 8, "sh_degree": 1, "offset_mm": 80}
stand_in = functools.cache(StandIn)
Toy = tuple[AvatarData, Motion]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    files = make_toy_character(tmp_path_factory.mktemp("toy"))
    data, _ = import_ash(files.conf)
    return dataclasses.replace(data, decoder=DECODER), read_motion(files.motion, data.skeleton)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel on the CPU."""
    for module in (character, decoders, frame):
        monkeypatch.setattr(module, "PROGRAM", stand_in(module.PROGRAM))
    monkeypatch.setattr(cuda, "FORWARD", stand_in(cuda.FORWARD))
    for key, program in convolutions.PROGRAMS.items():
        monkeypatch.setitem(convolutions.PROGRAMS, key, stand_in(program))


def trained(data: AvatarData, device: str = "cpu") -> NativeAvatar:
    """A native avatar whose decoder says something."""
    torch.manual_seed(0)
    avatar = Avatar.from_data(data, device)
    assert isinstance(avatar, NativeAvatar)
    torch.nn.init.normal_(avatar.decoder.head.weight, std=0.05)
    torch.nn.init.normal_(avatar.decoder.base, std=0.05)
    return avatar.requires_grad_(False)  # type: ignore[return-value]


def small_camera(width: int = 64, height: int = 48) -> Camera:
    return resize_camera(toy_cameras()[0], width, height)


def decibels(got: torch.Tensor, want: torch.Tensor) -> float:
    error = (got.clamp(0, 1).double() - want.clamp(0, 1).double()).square().mean()
    return -10 * math.log10(max(float(error), 1e-20))


def launched(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that run from here on, in order."""
    stages: list[str] = []
    run = frames._run
    monkeypatch.setattr(
        frames, "_run", lambda which, *more: (stages.append(which), run(which, *more))
    )
    return stages


def plain_picture(avatar: Avatar, window: PoseWindow, camera: Camera, colour: Any) -> Image:
    return Renderer(avatar, "cpu").render(RenderRequest(window, camera, colour))


# ---- on the CPU ----


@needs_compiler
@pytest.mark.usefixtures("emulated")
@torch.no_grad()
def test_the_posed_mesh_of_a_frame_is_the_character_s(toy: Toy) -> None:
    data, motion = toy
    avatar = trained(data)
    frames = Frames(avatar, torch.device("cpu"))
    windows = [
        pose_window(motion, number, data.skeleton, data.history_offsets) for number in (9, 10, 4)
    ]
    assert frames.surface(windows[0]) is None
    for window in windows:
        frames.rgba8(window, small_camera(), None)
        found, want = frames.surface(window), avatar.character(window)
        assert found is not None
        torch.testing.assert_close(found[0], want.vertices[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(found[1], want.normals[0], atol=1e-3, rtol=0)
    gap = (
        avatar.character(windows[0]).vertices[0] - avatar.character(windows[2]).vertices[0]
    ).abs()
    assert gap.max() > 0.01  # poses differ, so that the right one was found


@needs_compiler
@pytest.mark.usefixtures("emulated")
@torch.no_grad()
def test_frames_are_the_plain_path_s(toy: Toy) -> None:
    data, motion = toy
    avatar, camera = trained(data), small_camera()
    frames = Frames(avatar, torch.device("cpu"))
    for number, colour in ((9, (0.2, 0.5, 0.9)), (10, None)):
        window = pose_window(motion, number, data.skeleton, data.history_offsets)
        want = plain_picture(avatar, window, camera, colour)
        got = frames.image(window, camera, colour)
        assert 0.02 < float(want.alpha.mean()) < 0.98
        for field in ("rgb", "alpha"):
            assert decibels(getattr(got, field), getattr(want, field)) > 60
        for rounding in (0.5, 0.0):
            pixels = frames.rgba8(window, camera, colour, rounding)
            bytes_of = (got.rgb.clamp(0, 1) * 255 + rounding).floor().to(torch.uint8)
            assert torch.equal(pixels[..., :3], bytes_of)
            assert torch.equal(pixels[..., 3], (got.alpha * 255 + 0.5).floor().to(torch.uint8))


@needs_compiler
@pytest.mark.usefixtures("emulated")
@torch.no_grad()
def test_only_what_is_new_is_computed(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    data, motion = toy
    frames = Frames(trained(data), torch.device("cpu"))
    stages = launched(frames, monkeypatch)

    def draw(number: int, camera: Camera) -> list[str]:
        stages.clear()
        frames.image(pose_window(motion, number, data.skeleton, data.history_offsets), camera, None)
        return list(stages)

    here, there = small_camera(), small_camera(40, 40)
    assert draw(19, here) == [*"PPPPP", "MD", "R"]  # 19, 15, 11, 3 and the first
    assert draw(0, here) == ["MD", "R"]  # the first pose is its own past
    for number in (1, 2):
        assert draw(number, here) == ["P", "MD", "R"]  # as it plays one pose is new
    assert draw(3, here) == ["MD", "R"]  # known from the first picture, as all its past
    for number in range(4, 9):
        assert draw(number, here) == ["P", "MD", "R"]
    assert draw(8, there) == ["R"]  # another camera, and another size
    assert draw(5, here) == ["MD", "R"]  # back again: the poses are still known


@needs_compiler
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("stage", ["P", "MD", "R"])
@torch.no_grad()
def test_a_frame_that_is_broken_off_spoils_nothing(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    data, motion = toy
    avatar, camera = trained(data), small_camera(32, 24)
    frames = Frames(avatar, torch.device("cpu"))
    run = frames._run

    def broken(stages: str, *more: Any) -> None:
        if stages == stage:
            raise KeyboardInterrupt
        run(stages, *more)

    window = pose_window(motion, 9, data.skeleton, data.history_offsets)
    frames.image(pose_window(motion, 3, data.skeleton, data.history_offsets), camera, None)
    monkeypatch.setattr(frames, "_run", broken)
    with pytest.raises(KeyboardInterrupt):
        frames.image(window, camera, None)
    monkeypatch.setattr(frames, "_run", run)
    got = frames.image(window, camera, None)
    assert decibels(got.rgb, plain_picture(avatar, window, camera, None).rgb) > 60


def test_a_decoder_that_the_kernels_do_not_take_is_refused(toy: Toy) -> None:
    data = dataclasses.replace(toy[0], decoder={**DECODER, "width": 12})
    with pytest.raises(CudaError, match="width 12 is not a multiple of 8"):
        Frames(Avatar.from_data(data), torch.device("cpu"))


@needs_compiler
@pytest.mark.usefixtures("emulated")
@torch.no_grad()
def test_the_oldest_poses_make_room(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    data, motion = toy
    monkeypatch.setattr(character.PoseStage, "SLOTS", 4)
    avatar, camera = trained(data), small_camera(32, 24)
    frames = Frames(avatar, torch.device("cpu"))
    for number in (3, 4, 5, 6, 3, 12, 4):
        window = pose_window(motion, number, data.skeleton, data.history_offsets)
        got = frames.image(window, camera, None)
        assert decibels(got.rgb, plain_picture(avatar, window, camera, None).rgb) > 60
    assert len(frames._slots) == 4


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `Renderer` asks of torch where no GPU is."""
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("error", [CudaError("too old"), torch.OutOfMemoryError("no memory\nmore")])
@torch.no_grad()
def test_a_gpu_that_fails_is_left(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    data, motion = toy

    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(frame, "Frames", refuse)
    avatar = trained(data)
    moved = avatar.to
    cpu = torch.device("cpu")
    monkeypatch.setattr(avatar, "to", lambda where: refuse() if where != cpu else moved(where))
    request = RenderRequest(
        pose_window(motion, 9, data.skeleton, data.history_offsets), small_camera()
    )
    strict = Renderer(avatar, device="cuda:0", may_leave_gpu=False)
    with pytest.raises(CudaError, match=str(error).split("\n")[0]):
        strict.render(request)
    renderer = Renderer(avatar, device="cuda:0")
    want = Renderer(avatar).render(request)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert torch.equal(renderer.render(request).rgb, want.rgb)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in said] == [
        "the plain path renders, and slower",
        "the CPU renders from here on",
    ]
    assert renderer.device.type == "cpu"


class BrokenFrames:
    """A fast path that fails in the middle of a session."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def image(self, *_: Any) -> Image:
        raise self.error

    rgba8 = image


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("call", ["render", "draw"])
@torch.no_grad()
def test_a_fast_path_that_fails_later_is_left(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    data, motion = toy
    broken = BrokenFrames(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    monkeypatch.setattr(frame, "Frames", lambda *_: broken)
    avatar = trained(data)
    moved = avatar.to

    def to(where: Any) -> Any:
        if str(where) != "cpu":
            raise broken.error
        return moved(where)

    monkeypatch.setattr(avatar, "to", to)
    request = RenderRequest(
        pose_window(motion, 9, data.skeleton, data.history_offsets), small_camera()
    )
    renderer = Renderer(avatar, device="cuda:0")
    with caplog.at_level(logging.WARNING):
        got = [getattr(renderer, call)(request) for _ in range(2)]
    want = getattr(Renderer(avatar), call)(request)
    for picture in got:
        picture, other = (getattr(image, "rgb", image) for image in (picture, want))
        assert torch.equal(picture, other)
    assert len(caplog.records) == 2
    assert "out of memory" in caplog.records[0].getMessage()


@torch.no_grad()
def test_a_camera_without_a_picture_is_refused_on_every_path(toy: Toy) -> None:
    data, motion = toy
    renderer = Renderer(trained(data))
    window = pose_window(motion, 9, data.skeleton, data.history_offsets)
    for K in (torch.zeros(3, 3), torch.full((3, 3), float("nan"))):
        request = RenderRequest(window, dataclasses.replace(small_camera(), K=K))
        for call in (renderer.render, renderer.draw):
            with pytest.raises(InputError, match=r"camera\.K"):
                call(request)


@torch.no_grad()
def test_threads_share_a_renderer(toy: Toy) -> None:
    data, motion = toy
    renderer = Renderer(trained(data))
    requests = [
        RenderRequest(
            pose_window(motion, number, data.skeleton, data.history_offsets), small_camera(), None
        )
        for number in range(3, 11)
    ]
    want = [renderer.render(request).rgb for request in requests]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(renderer.render, requests * 3))
    for number, image in enumerate(got):
        assert torch.equal(image.rgb, want[number % len(want)])


# ---- on a GPU ----


@pytest.fixture(scope="module")
def sample(reference) -> Toy:
    """The published character with the tests' weights."""
    data, _ = import_ash(reference / "ddc_sample")
    weights = {name: seeded_weights(name) for name in NETWORKS}
    data = dataclasses.replace(
        data,
        variant="released",
        history_offsets=RELEASED.history_offsets,
        networks=weights,
        atlas_resolution=256,
    )
    path = reference / "ddc_sample" / "skeletoolToGTPose" / "poseAngles.motion"
    return data, read_motion(path, data.skeleton)


def plain_on_a_gpu(avatar: Avatar) -> Renderer:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return Renderer(avatar, device="cuda", precision="float")


@pytest.mark.gpu
@torch.no_grad()
def test_released_in_half_is_near_its_float_self(sample: Toy) -> None:
    data, motion = sample
    avatar = Avatar.from_data(data)
    camera = front_camera(data, motion.dofs[:100], math.radians(40), 1285, 940)
    half, plain = Renderer(avatar, device="cuda"), plain_on_a_gpu(Avatar.from_data(data))
    assert half.is_fast
    for number in (1, 20, 50, 99):
        request = RenderRequest(
            pose_window(motion, number, data.skeleton, data.history_offsets), camera, (1, 1, 1)
        )
        got, want = half.render(request), plain.render(request)
        body = want.alpha > 0.05
        assert decibels(got.rgb, want.rgb) > 45
        assert decibels(got.rgb[body], want.rgb[body]) > 45


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["cpu", "light", "balanced", "quality"])
@torch.no_grad()
def test_native_in_half_is_near_its_float_self(toy: Toy, preset: str) -> None:
    data, motion = dataclasses.replace(toy[0], decoder={}), toy[1]
    avatar = Avatar.from_data(data, preset_name=preset)
    assert isinstance(avatar, NativeAvatar)
    torch.nn.init.normal_(avatar.decoder.head.weight, std=0.02)
    camera = small_camera(640, 480)
    half, plain = Renderer(avatar, device="cuda"), plain_on_a_gpu(avatar)
    for number in (9, 10):
        request = RenderRequest(
            pose_window(motion, number, data.skeleton, data.history_offsets), camera, None
        )
        assert decibels(half.render(request).rgb, plain.render(request).rgb) > 50


@pytest.mark.gpu
@torch.no_grad()
def test_drawn_bytes_are_the_picture_s(toy: Toy) -> None:
    data, motion = toy
    renderer = Renderer(trained(data), device="cuda")
    shown = []
    for number, size in ((9, (160, 120)), (10, (160, 120)), (10, (200, 90)), (11, (160, 120))):
        window = pose_window(motion, number, data.skeleton, data.history_offsets)
        request = RenderRequest(window, small_camera(*size), (0.1, 0.2, 0.3))
        image = renderer.render(request)
        pixels = renderer.draw(request)
        assert torch.equal(pixels[..., :3], image.rgb8())
        shown.append((pixels, pixels.clone()))
    pixels, then = shown[-2]
    assert torch.equal(pixels, then)  # valid until the next call but one


@pytest.mark.gpu
@torch.no_grad()
def test_changed_weights_are_seen(toy: Toy) -> None:
    data, motion = toy
    avatar = trained(data)
    renderer = Renderer(avatar, device="cuda")
    request = RenderRequest(
        pose_window(motion, 9, data.skeleton, data.history_offsets), small_camera(), None
    )
    before = renderer.render(request)
    avatar.decoder.head.bias.add_(0.3)  # type: ignore[union-attr]
    after = renderer.render(request)
    assert not torch.equal(before.rgb, after.rgb)
    want = Renderer(avatar, "cpu").render(request)
    assert decibels(after.rgb.cpu(), want.rgb) > 55


@pytest.mark.gpu
@torch.no_grad()
def test_without_capture_frames_are_the_same_and_it_is_said_once(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data, motion = toy
    avatar = trained(data)
    requests = [
        RenderRequest(
            pose_window(motion, number, data.skeleton, data.history_offsets), small_camera(), None
        )
        for number in (9, 10, 11)
    ]
    renderer = Renderer(avatar, device="cuda")
    want = [renderer.render(request) for request in requests]

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    renderer = Renderer(avatar, device="cuda")
    with caplog.at_level(logging.WARNING):
        for request, picture in zip(requests, want, strict=True):
            assert torch.equal(renderer.render(request).rgb, picture.rgb)
    assert len(caplog.records) == 1
    assert "not captured" in caplog.records[0].getMessage()


@pytest.mark.gpu
@torch.no_grad()
def test_nothing_waits_for_the_gpu(toy: Toy) -> None:
    data, motion = toy
    renderer = Renderer(trained(data), device="cuda")
    requests = [
        RenderRequest(
            pose_window(motion, number, data.skeleton, data.history_offsets), small_camera(), None
        )
        for number in range(3, 16)
    ]
    for request in requests[:6]:
        renderer.draw(request)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for request in requests:
            renderer.draw(request)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@torch.no_grad()
def test_memory_of_one_avatar(sample: Toy) -> None:
    """Under 1 GB, published networks included."""
    data, motion = sample
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    renderer = Renderer(Avatar.from_data(data), device="cuda")
    camera = front_camera(data, motion.dofs[:100], math.radians(40), 1285, 940)
    for number in range(30):
        window = pose_window(motion, number, data.skeleton, data.history_offsets)
        renderer.draw(RenderRequest(window, camera, (1, 1, 1)))
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before < 1e9
