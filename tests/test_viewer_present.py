"""Pictures come out of OpenGL's texture as they went in, by either way, whatever fails.

What needs a context runs in one process of its own: PyOpenGL's platform is chosen once for a
process, and other tests open windows. There, CUDA is played by a stand-in that really copies.
"""

import contextlib
import ctypes
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from gl_process import end_gl_process, the_context, with_gl
from torch import Tensor

from ash_core.gl.context import GlError, describe_gl, offscreen_context, opengl
from ash_core.gl.state import raw
from ash_core.gl.texture import read_texture
from viewer import present
from viewer.present import (
    FallbackPresenter,
    HostPresenter,
    InteropError,
    InteropPresenter,
    Presenter,
    make_presenter,
    why_no_interop,
)

pytest.importorskip("OpenGL", reason="PyOpenGL is not installed")

ROOT = Path(__file__).resolve().parent.parent
GPU = torch.device("cuda", 0)
NVIDIA = "NVIDIA Corporation, NVIDIA H200/PCIe/SSE2, OpenGL 4.6.0 NVIDIA 580.95"
LLVMPIPE = "Mesa/X.org, llvmpipe (LLVM 15.0.6, 256 bits), OpenGL 4.5 Mesa 22.3.6"
INTEL = "Intel, Mesa Intel(R) Iris(R) Xe Graphics, OpenGL 4.6 Mesa 24.0"


@pytest.fixture(scope="module", autouse=True)
def _gl_process_ends() -> Iterator[None]:
    yield
    end_gl_process()


def picture(width: int, height: int, seed: int = 0, device: str = "cpu") -> Tensor:
    generator = torch.Generator(device).manual_seed(1000 * width + height + seed)
    shape = (height, width, 4)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8, device=device)


def texels(texture: int) -> bytes:
    """All of a texture's bytes, without our own code."""
    gl = opengl()
    gl.glBindTexture(gl.GL_TEXTURE_2D, texture)
    return gl.glGetTexImage(gl.GL_TEXTURE_2D, 0, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE)


def assert_shown(presenter: Presenter, pixels: Tensor) -> None:
    assert presenter.size == (pixels.shape[1], pixels.shape[0])
    assert texels(presenter.texture) == pixels.cpu().contiguous().numpy().tobytes()
    assert torch.equal(read_texture(presenter.texture, presenter.size), pixels.cpu())


def live_textures() -> int:
    gl = opengl()
    return sum(bool(gl.glIsTexture(texture)) for texture in range(1, 2000))


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class FakeCuda:
    """Stands in for cuda.bindings.runtime: notes calls, checks their order, fails on demand.

    Its arrays are textures and its copies are uploads, so pictures arrive as they would.
    """

    def __init__(self) -> None:
        self.cudaGraphicsRegisterFlags = SimpleNamespace(cudaGraphicsRegisterFlagsWriteDiscard=2)
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyDeviceToDevice=3, cudaMemcpyHostToDevice=1)
        self.cudaGLDeviceList = SimpleNamespace(cudaGLDeviceListAll=1)
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}
        """Call: the error that it answers with."""
        self.error = 0
        self.null_handles = False
        self.textures: dict[int, int] = {}
        self.mapped: set[int] = set()

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*args: Any) -> tuple[Any, ...]:
            if name == "cudaGetLastError":
                error, self.error = self.error, 0
                return (fake_error(error),)
            self.calls.append(name)
            if name in self.failing:
                self.error = self.failing[name]
                return (fake_error(self.error), *[None] * RESULTS.get(name, 0))
            answer = getattr(self, "_" + name, lambda *_: ())(*args)
            return (fake_error(0), *answer)

        return call

    def count(self, name: str) -> int:
        return self.calls.count(name)

    def _cudaGraphicsGLRegisterImage(self, texture: int, target: int, flags: int) -> tuple[int]:  # noqa: N802
        assert (target, flags) == (0x0DE1, 2)
        assert opengl().glIsTexture(texture)
        assert texture not in self.textures.values(), "registered twice"
        handle = 0 if self.null_handles else 1000 + len(self.calls)
        self.textures[handle] = texture
        return (handle,)

    def _cudaGraphicsUnregisterResource(self, handle: int) -> tuple[()]:  # noqa: N802
        assert opengl().glIsTexture(self.textures.pop(handle)), "deleted before unregistered"
        return ()

    def _cudaGraphicsMapResources(self, count: int, handle: int, stream: int) -> tuple[()]:  # noqa: N802
        assert count == 1
        assert stream == 7
        assert handle in self.textures
        assert handle not in self.mapped
        self.mapped.add(handle)
        return ()

    def _cudaGraphicsUnmapResources(self, count: int, handle: int, stream: int) -> tuple[()]:  # noqa: N802
        assert (count, stream) == (1, 7)
        self.mapped.remove(handle)
        return ()

    def _cudaGraphicsSubResourceGetMappedArray(  # noqa: N802
        self, handle: int, index: int, level: int
    ) -> tuple[int]:
        assert handle in self.mapped
        assert (index, level) == (0, 0)
        return (handle,)

    def _cudaMemcpy2DToArrayAsync(  # noqa: N802
        self,
        array: int,
        x: int,
        y: int,
        source: int,
        pitch: int,
        width: int,
        height: int,
        kind: int,
        stream: int,
    ) -> tuple[()]:
        assert array in self.mapped
        assert (x, y, kind, stream) == (0, 0, 1, 7)
        gl = opengl()
        gl.glBindTexture(gl.GL_TEXTURE_2D, self.textures[array])
        for row in range(height):
            content = ctypes.string_at(source + row * pitch, width)
            area = (0, row, width // 4, 1)
            gl.glTexSubImage2D(gl.GL_TEXTURE_2D, 0, *area, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, content)
        return ()

    def _cudaGLGetDevices(self, most: int, kind: int) -> tuple[int, list[int]]:  # noqa: N802
        return 1, [0]


RESULTS = {
    "cudaGraphicsGLRegisterImage": 1,
    "cudaGraphicsSubResourceGetMappedArray": 1,
    "cudaGLGetDevices": 2,
}


class fake_error(int):  # noqa: N801
    name = "cudaErrorFake"


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeCuda]:
    """The stand-in, with the OpenGL calls that matter for the order noted among its own."""
    fake = FakeCuda()

    def noting(module: Any, name: str) -> Any:
        real = getattr(module, name)

        def call(*args: Any) -> Any:
            fake.calls.append(name)
            return real(*args)

        return mock.patch.object(module, name, call)

    with (
        mock.patch.object(present, "_current_stream", return_value=contextlib.nullcontext(7)),
        noting(opengl(), "glDeleteTextures"),
        noting(raw(), "glTexImage2D"),
    ):
        yield fake


ONE_PICTURE = [
    "cudaSetDevice",
    "cudaGraphicsMapResources",
    "cudaGraphicsSubResourceGetMappedArray",
    "cudaMemcpy2DToArrayAsync",
    "cudaGraphicsUnmapResources",
    "cudaStreamSynchronize",
]
FIRST_PICTURE = ["cudaSetDevice", "glTexImage2D", "cudaGraphicsGLRegisterImage", *ONE_PICTURE[1:]]


# Uploads from the host


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (5, 3), (3, 5), (1, 7), (7, 1), (640, 480), (1285, 940)]
)
@with_gl
def test_host_copy_keeps_every_byte(width: int, height: int) -> None:
    presenter = HostPresenter()
    assert (presenter.texture, presenter.size) == (0, (0, 0))
    for seed in range(2):
        pixels = picture(width, height, seed)
        presenter.show(pixels)
        assert_shown(presenter, pixels)
    presenter.close()
    presenter.close()


@with_gl
def test_top_row_is_where_texture_coordinates_are_zero() -> None:
    gl = opengl()
    pixels = torch.zeros(4, 6, 4, dtype=torch.uint8)
    pixels[0, 0] = torch.tensor([255, 1, 2, 3])
    presenter = HostPresenter()
    presenter.show(pixels)
    framebuffer = gl.glGenFramebuffers(1)
    gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, framebuffer)
    colour = gl.GL_COLOR_ATTACHMENT0
    gl.glFramebufferTexture2D(gl.GL_FRAMEBUFFER, colour, gl.GL_TEXTURE_2D, presenter.texture, 0)
    corner = gl.glReadPixels(0, 0, 1, 1, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE)
    gl.glDeleteFramebuffers(1, [framebuffer])
    presenter.close()
    assert bytes(corner) == bytes([255, 1, 2, 3])


@with_gl
def test_host_copy_of_any_strides() -> None:
    whole = picture(40, 30)
    planes = whole.permute(2, 0, 1).contiguous()
    presenter = HostPresenter()
    for pixels in (
        whole[3:20, 5:32],
        whole[3:4, 5:32],
        whole[3:20, 5:6],
        whole[::2, ::3],
        whole.transpose(0, 1),
        whole.flip(0),
        planes.permute(1, 2, 0),
        whole[:1].expand(9, 40, 4),
        picture(9, 12).view(-1)[: 11 * 37].view(11, 37)[:, 1:33].unflatten(1, (8, 4)),
    ):
        presenter.show(pixels)
        assert_shown(presenter, pixels)
    presenter.close()


@with_gl
def test_crops_are_uploaded_without_a_copy() -> None:
    crop = picture(40, 30)[3:20, 5:32]
    rows, pitch = present._in_rows(crop, unit=4)
    assert (rows.data_ptr(), pitch) == (crop.data_ptr(), 160)


@with_gl
def test_host_copy_follows_the_size_both_ways() -> None:
    presenter = HostPresenter()
    before = live_textures()
    for width, height in [(5, 3), (300, 200), (301, 200), (300, 200), (2, 9), (1285, 940), (5, 3)]:
        presenter.show(picture(width, height))
        assert_shown(presenter, picture(width, height))
        assert live_textures() == before + 1
    presenter.close()
    assert live_textures() == before


@with_gl
def test_storage_is_made_once_for_a_size() -> None:
    presenter = HostPresenter()
    with mock.patch.object(raw(), "glTexImage2D", wraps=raw().glTexImage2D) as allocate:
        for seed in range(5):
            presenter.show(picture(33, 21, seed))
        assert allocate.call_count == 1
        presenter.show(picture(21, 33))
        assert allocate.call_count == 2
    presenter.close()


@with_gl
def test_minimised_window_keeps_the_last_picture() -> None:
    presenter = HostPresenter()
    presenter.show(torch.empty(0, 0, 4, dtype=torch.uint8))
    assert presenter.texture == 0
    pixels = picture(6, 4)
    presenter.show(pixels)
    for shape in [(0, 0, 4), (0, 6, 4), (4, 0, 4)]:
        presenter.show(torch.empty(shape, dtype=torch.uint8))
        assert_shown(presenter, pixels)
    presenter.close()


@with_gl
def test_uploads_leave_the_state_as_it_was() -> None:
    gl = opengl()
    other = gl.glGenTextures(1)
    gl.glBindTexture(gl.GL_TEXTURE_2D, other)
    buffer = gl.glGenBuffers(1)
    state = {}
    for direction in ("UNPACK", "PACK"):
        target = getattr(gl, f"GL_PIXEL_{direction}_BUFFER")
        gl.glBindBuffer(target, buffer)
        gl.glBufferData(target, 64, None, gl.GL_STREAM_DRAW)
        state[getattr(gl, f"GL_PIXEL_{direction}_BUFFER_BINDING")] = buffer
        for what, value in [("ALIGNMENT", 8), ("ROW_LENGTH", 17), ("SKIP_ROWS", 3)]:
            name = getattr(gl, f"GL_{direction}_{what}")
            gl.glPixelStorei(name, value)
            state[name] = value
    state[gl.GL_TEXTURE_BINDING_2D] = other
    presenter = HostPresenter()
    pixels = picture(5, 3)
    try:
        presenter.show(pixels)
        read = read_texture(presenter.texture, presenter.size)
        got = {name: int(gl.glGetIntegerv(name)) for name in state}
    finally:
        for direction in ("UNPACK", "PACK"):
            gl.glBindBuffer(getattr(gl, f"GL_PIXEL_{direction}_BUFFER"), 0)
            for what, value in [("ALIGNMENT", 4), ("ROW_LENGTH", 0), ("SKIP_ROWS", 0)]:
                gl.glPixelStorei(getattr(gl, f"GL_{direction}_{what}"), value)
    assert got == state
    assert torch.equal(read, pixels)
    presenter.close()
    gl.glDeleteTextures(1, [other])


@pytest.mark.parametrize("magnify", ["linear", "nearest"])
@with_gl
def test_texture_is_sampled_as_asked(magnify: Any) -> None:
    gl = opengl()
    presenter = HostPresenter(magnify)
    presenter.show(picture(4, 4))
    gl.glBindTexture(gl.GL_TEXTURE_2D, presenter.texture)
    want = {
        gl.GL_TEXTURE_MIN_FILTER: gl.GL_LINEAR,
        gl.GL_TEXTURE_MAG_FILTER: gl.GL_LINEAR if magnify == "linear" else gl.GL_NEAREST,
        gl.GL_TEXTURE_WRAP_S: gl.GL_CLAMP_TO_EDGE,
        gl.GL_TEXTURE_WRAP_T: gl.GL_CLAMP_TO_EDGE,
    }
    got = {name: int(gl.glGetTexParameteriv(gl.GL_TEXTURE_2D, name)) for name in want}
    presenter.close()
    assert got == want


@with_gl
def test_picture_larger_than_opengl_takes_is_a_sentence() -> None:
    presenter = FallbackPresenter(HostPresenter(), HostPresenter, str)
    with pytest.raises(GlError, match="picture of 200000x1: expected at most"):
        presenter.show(torch.zeros(1, 200000, 4, dtype=torch.uint8))
    assert presenter.reason is None


@with_gl
def test_hundreds_of_sizes_take_no_memory() -> None:
    presenter = HostPresenter()
    before, start = live_textures(), 0.0
    canvas = picture(900, 700)
    for step in range(500):
        if step == 50:
            start = resident_megabytes()
        presenter.show(canvas[: 300 + step * 37 % 400, : 400 + step * 53 % 500])
        assert presenter.texture < 2000
    assert live_textures() == before + 1
    assert resident_megabytes() - start < 60  # all of them together have 600
    presenter.close()
    assert live_textures() == before


# Interop


@with_gl
def test_interop_registers_once_and_copies_each_picture() -> None:
    with fake_cuda() as cuda:
        presenter = InteropPresenter(GPU, runtime=cuda)
        presenter.show(picture(5, 3))
        assert cuda.calls == FIRST_PICTURE
        cuda.calls.clear()
        for seed in range(3):
            presenter.show(picture(5, 3, seed))
            assert_shown(presenter, picture(5, 3, seed))
        assert cuda.calls == ONE_PICTURE * 3
        presenter.close()


@with_gl
def test_interop_unregisters_before_the_texture_changes() -> None:
    with fake_cuda() as cuda:
        presenter = InteropPresenter(GPU, runtime=cuda)
        before = live_textures()
        presenter.show(picture(5, 3))
        cuda.calls.clear()
        for width, height in [(50, 40), (4, 4)]:
            presenter.show(picture(width, height))
            assert_shown(presenter, picture(width, height))
            assert live_textures() == before + 1
        first, *rest = FIRST_PICTURE
        assert cuda.calls == [first, "cudaGraphicsUnregisterResource", *rest] * 2
        cuda.calls.clear()
        presenter.close()
        presenter.close()
        assert cuda.calls == ["cudaGraphicsUnregisterResource", "glDeleteTextures"]
        assert (live_textures(), presenter.texture, cuda.textures) == (before, 0, {})


@with_gl
def test_interop_takes_strides_and_ignores_no_pixels() -> None:
    whole = picture(40, 30)
    with fake_cuda() as cuda:
        presenter = InteropPresenter(GPU, runtime=cuda)
        presenter.show(torch.empty(0, 0, 4, dtype=torch.uint8))
        assert cuda.calls == []
        for pixels in (whole[3:20, 5:32], whole[::2, ::3], whole.transpose(0, 1)):
            presenter.show(pixels)
            assert_shown(presenter, pixels)
            presenter.show(torch.empty(0, 9, 4, dtype=torch.uint8))
            assert_shown(presenter, pixels)
        presenter.close()


@pytest.mark.parametrize(
    "call", ["cudaMemcpy2DToArrayAsync", "cudaGraphicsSubResourceGetMappedArray"]
)
@with_gl
def test_interop_unmaps_what_it_mapped_when_the_copy_fails(call: str) -> None:
    with fake_cuda() as cuda:
        presenter = InteropPresenter(GPU, runtime=cuda)
        cuda.failing = {call: 1}
        with pytest.raises(InteropError, match=call):
            presenter.show(picture(5, 3))
        assert not cuda.mapped
        assert cuda.error == 0
        cuda.failing = {}
        presenter.show(picture(5, 3))
        assert_shown(presenter, picture(5, 3))
        presenter.close()


@with_gl
def test_interop_registers_again_after_a_failed_registration() -> None:
    with fake_cuda() as cuda:
        presenter = InteropPresenter(GPU, runtime=cuda)
        cuda.failing = {"cudaGraphicsGLRegisterImage": 304}
        with pytest.raises(InteropError, match="304"):
            presenter.show(picture(5, 3))
        assert cuda.error == 0
        assert cuda.count("cudaGraphicsMapResources") == 0
        cuda.failing = {}
        presenter.show(picture(5, 3))
        assert_shown(presenter, picture(5, 3))
        presenter.close()
        assert cuda.textures == {}


@with_gl
def test_interop_closes_though_it_cannot_unregister() -> None:
    with fake_cuda() as cuda:
        before = live_textures()
        presenter = InteropPresenter(GPU, runtime=cuda)
        presenter.show(picture(5, 3))
        cuda.failing = {"cudaGraphicsUnregisterResource": 1}
        presenter.close()
        presenter.close()
        assert cuda.count("cudaGraphicsUnregisterResource") == 1
        assert (cuda.error, live_textures()) == (0, before)


@with_gl
def test_success_without_a_handle_is_a_failure() -> None:
    with fake_cuda() as cuda:
        cuda.null_handles = True
        with pytest.raises(InteropError, match="no handle"):
            InteropPresenter(GPU, runtime=cuda).show(picture(5, 3))
        assert cuda.count("cudaGraphicsMapResources") == 0


# Choosing, and falling back


@with_gl
def test_interop_is_chosen_where_a_trial_works() -> None:
    with fake_cuda() as cuda:
        presenter, reason = make_presenter(GPU, runtime=cuda)
        assert (presenter.name, reason) == ("CUDA interop", None)
        presenter.show(picture(50, 40))
        assert_shown(presenter, picture(50, 40))
        presenter.close()
        assert cuda.textures == {}


@pytest.mark.parametrize(
    "call", ["cudaSetDevice", "cudaGraphicsGLRegisterImage", "cudaGraphicsMapResources"]
)
@with_gl
def test_failing_trial_gives_the_host_copy_and_a_cure(call: str) -> None:
    with fake_cuda() as cuda:
        before = live_textures()
        cuda.failing = {call: 304}
        with mock.patch.object(present, "describe_gl", return_value=INTEL):
            presenter, reason = make_presenter(GPU, runtime=cuda)
        assert presenter.name == "host copy"
        assert reason is not None
        assert "Iris" in reason
        assert "__NV_PRIME_RENDER_OFFLOAD=1 __GLX_VENDOR_LIBRARY_NAME=nvidia" in reason
        assert (cuda.error, cuda.textures, live_textures()) == (0, {}, before)
        presenter.show(picture(5, 3))
        assert_shown(presenter, picture(5, 3))
        presenter.close()


@with_gl
def test_trial_that_loses_the_picture_gives_the_host_copy() -> None:
    with fake_cuda() as cuda:
        cuda._cudaMemcpy2DToArrayAsync = lambda *_: ()  # type: ignore[method-assign]
        with mock.patch.object(present, "describe_gl", return_value=NVIDIA):
            presenter, reason = make_presenter(GPU, runtime=cuda)
        assert presenter.name == "host copy"
        assert reason is not None
        assert "came back changed" in reason


@pytest.mark.parametrize("module", ["cuda.bindings.runtime", "cuda"])
@with_gl
def test_missing_bindings_give_the_host_copy_and_the_package(module: str) -> None:
    hidden = {
        name: None for name in [*sys.modules, module] if (name + ".").startswith(module + ".")
    }
    with mock.patch.dict(sys.modules, hidden):
        presenter, reason = make_presenter(GPU)
    assert presenter.name == "host copy"
    assert reason is not None
    assert "pip install 'ash-studio[cuda]'" in reason


@pytest.mark.parametrize(
    "call",
    [
        "cudaGraphicsMapResources",
        "cudaGraphicsSubResourceGetMappedArray",
        "cudaMemcpy2DToArrayAsync",
        "cudaGraphicsUnmapResources",
        "cudaGraphicsUnregisterResource",
        "cudaGraphicsGLRegisterImage",
    ],
)
@with_gl
def test_failure_in_a_session_shows_the_same_picture_by_the_host(call: str) -> None:
    with fake_cuda() as cuda:
        before = live_textures()
        presenter, _ = make_presenter(GPU, runtime=cuda)
        assert isinstance(presenter, FallbackPresenter)
        presenter.show(picture(5, 3))
        cuda.failing = {call: 999}
        logged: list[str] = []
        with (
            mock.patch.object(
                present._log, "warning", lambda form, *args: logged.append(form % args)
            ),
            mock.patch.object(present, "describe_gl", return_value=INTEL),
        ):
            for seed in range(3):
                pixels = picture(11, 9, seed)
                presenter.show(pixels)
                assert_shown(presenter, pixels)
        assert presenter.name == "host copy"
        assert logged == [presenter.reason]
        assert present.PRIME in logged[0]
        assert (cuda.error, live_textures()) == (0, before + 1)
        calls = len(cuda.calls)
        presenter.show(picture(5, 3))
        assert "cuda" not in "".join(cuda.calls[calls:])
        presenter.close()
        presenter.close()
        assert live_textures() == before


@with_gl
def test_real_bindings_without_a_driver_give_the_host_copy() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    with mock.patch.object(present, "_current_stream", return_value=contextlib.nullcontext(0)):
        presenter, reason = make_presenter(GPU)
    assert presenter.name == "host copy"
    assert reason is not None
    assert "OpenGL runs on" in reason


class Recorded:
    """A presenter without OpenGL."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name, self.error = name, error
        self.texture, self.size = 1, (0, 0)
        self.shown: list[Tensor] = []
        self.closed = 0

    def show(self, pixels: Tensor) -> None:
        if self.error is not None:
            raise self.error
        self.shown.append(pixels)

    def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


def test_fallback_happens_once_and_survives_a_failing_close(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = Recorded("first", RuntimeError("lost")), Recorded("second")
    presenter = FallbackPresenter(first, lambda: second, lambda error: f"because {error}")
    pixels = picture(2, 2)
    with caplog.at_level(logging.WARNING):
        presenter.show(pixels)
        presenter.show(pixels)
    assert second.shown == [pixels, pixels]
    assert (first.closed, presenter.name, presenter.reason) == (1, "second", "because lost")
    assert caplog.messages == ["because lost"]
    second.error = RuntimeError("lost too")
    with pytest.raises(RuntimeError, match="lost too"):
        presenter.show(pixels)


def test_our_own_mistake_is_no_reason_to_fall_back() -> None:
    presenter = FallbackPresenter(Recorded("first"), lambda: Recorded("second"), str)
    with pytest.raises(AssertionError, match=r"uint8 \[h, w, 4\]"):
        presenter.show(torch.zeros(3, 2, 3, dtype=torch.uint8))
    assert (presenter.name, presenter.reason) == ("first", None)


@pytest.mark.parametrize(("device", "interop"), [("cpu", True), ("cpu", False), ("cuda", False)])
def test_host_copy_needs_no_reason_where_nothing_is_amiss(device: str, interop: bool) -> None:
    presenter, reason = make_presenter(torch.device(device), interop)
    assert (presenter.name, reason) == ("host copy", None)


@pytest.mark.parametrize(
    ("gl_name", "gl_devices", "environ", "kernel", "says", "cure"),
    [
        (INTEL, (), {"DISPLAY": ":0"}, "6.8", "another GPU (Intel", f"`{present.PRIME}`"),
        (LLVMPIPE, (), {"DISPLAY": ":1"}, "6.8", "on the CPU (Mesa", "`vglrun`"),
        (LLVMPIPE, (), {}, "6.8", "on the CPU (Mesa", f"`{present.PRIME}`"),
        (LLVMPIPE, (), {"DISPLAY": "localhost:10.0"}, "6.8", "another machine's display", "vglrun"),
        (INTEL, (), {"DISPLAY": "host:0"}, "6.8", "another machine's display (host:0", "vglrun"),
        (INTEL, (), {"WAYLAND_DISPLAY": "wayland-0"}, "6.8", "another GPU", "Xorg session"),
        (INTEL, (), {"XDG_SESSION_TYPE": "wayland"}, "6.8", "another GPU", f"`{present.PRIME}`"),
        (NVIDIA, (), {}, "5.15-microsoft-standard-WSL2", "WSL", "Linux itself"),
        (NVIDIA, (1,), {}, "6.8", "OpenGL runs on GPU 1", "`CUDA_VISIBLE_DEVICES=1`"),
        (NVIDIA, (0,), {}, "6.8", "cannot share a texture", "update the NVIDIA driver"),
        (NVIDIA, (), {}, "6.8", "register: 304", "update the NVIDIA driver"),
        (
            LLVMPIPE,
            (),
            {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
            "6.8",
            "on the CPU",
            "`-e NVIDIA_DRIVER_CAPABILITIES=all`",
        ),
    ],
)
def test_reason_names_the_hindrance_and_the_cure(
    gl_name: str,
    gl_devices: tuple[int, ...],
    environ: dict[str, str],
    kernel: str,
    says: str,
    cure: str,
) -> None:
    error = InteropError("register: 304")
    sentence = why_no_interop(error, gl_name, gl_devices, 0, environ, kernel)
    assert says in sentence
    assert cure in sentence
    assert "\n" not in sentence


# Contexts without a window


@with_gl
def test_contexts_nest_and_are_given_back() -> None:
    gl = opengl()
    try:
        with offscreen_context(33, 17) as context:
            gl.glClearColor(1.0, 0.0, 0.0, 1.0)
            gl.glClear(gl.GL_COLOR_BUFFER_BIT)
            corner = gl.glReadPixels(32, 16, 1, 1, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE)
            assert bytes(corner) == bytes([255, 0, 0, 255])
            assert "OpenGL" in describe_gl()
        context.close()
        with pytest.raises(GlError, match="no OpenGL context is current"):
            describe_gl()
    finally:
        the_context().make_current()
    other = offscreen_context(0, 0)
    the_context().make_current()
    other.close()
    assert "OpenGL" in describe_gl()


def fresh_python(script: str, **environ: str) -> str:
    """What a script prints in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_importing_leaves_the_choice_of_platform_open() -> None:
    script = "import sys, viewer.present; print([n for n in sys.modules if n.startswith('OpenGL')])"
    assert fresh_python(script).strip() == "[]"


def test_another_platform_in_use_is_a_sentence() -> None:
    script = """if True:
        import OpenGL.platform
        from ash_core.gl.context import GlError, offscreen_context
        try:
            offscreen_context(8, 8)
        except GlError as error:
            print(error)
    """
    said = fresh_python(script, PYOPENGL_PLATFORM="glx")
    assert "GLXPlatform" in said
    assert "PYOPENGL_PLATFORM=egl before" in said


@pytest.mark.parametrize("missing", ["libEGL", "libGL libOpenGL"])
def test_missing_libraries_are_a_sentence(missing: str) -> None:
    script = f"""if True:
        import ctypes
        real = ctypes.cdll._dlltype
        def load(name, *args, **kwargs):
            if str(name).startswith(tuple({missing!r}.split())):
                raise OSError(name)
            return real(name, *args, **kwargs)
        ctypes.cdll._dlltype = load
        from ash_core.gl.context import GlError, offscreen_context
        try:
            offscreen_context(8, 8)
        except GlError as error:
            print(error)
    """
    said = fresh_python(script)
    assert "not found: apt install libegl1" in said
    assert said.count("\n") == 1


def test_no_device_is_a_sentence() -> None:
    script = """if True:
        from ash_core.gl import context as gl_context
        gl_context._candidates = lambda: [("device 0", gl_context.PLATFORM_DEVICE, None)]
        try:
            gl_context.offscreen_context(8, 8)
            print("opened")
        except gl_context.GlError as error:
            print(error)
    """
    said = fresh_python(script)
    assert said.strip() == "opened" or "apt install libegl1" in said
    assert said.count("\n") == 1


# With a GPU


def need_nvidia_gl() -> None:
    if not describe_gl().startswith("NVIDIA"):
        pytest.skip(f"OpenGL runs elsewhere: {describe_gl()}")


@pytest.mark.gpu
@with_gl
def test_gpu_interop_keeps_every_byte() -> None:
    need_nvidia_gl()
    presenter, reason = make_presenter(GPU)
    assert (presenter.name, reason) == ("CUDA interop", None)
    for width, height in [(1, 1), (5, 3), (1285, 940), (1920, 1080), (3840, 2160), (7, 5)]:
        for seed in range(2):
            pixels = picture(width, height, seed, "cuda")
            presenter.show(pixels)
            assert_shown(presenter, pixels)
    whole = picture(400, 300, 0, "cuda")
    for pixels in (whole[3:200, 5:320], whole[::2, ::3], whole.transpose(0, 1), whole.cpu()):
        presenter.show(pixels)
        assert_shown(presenter, pixels)
    presenter.show(torch.empty(0, 0, 4, dtype=torch.uint8, device="cuda"))
    assert_shown(presenter, whole)
    presenter.close()
    presenter.close()


@pytest.mark.gpu
@with_gl
def test_gpu_interop_follows_torch_s_stream() -> None:
    """The picture is still being made when it is shown, and its memory is used again after."""
    need_nvidia_gl()
    presenter = InteropPresenter(GPU)
    stream = torch.cuda.Stream(GPU)
    want = picture(1285, 940, 0, "cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(10):
            pixels = torch.zeros_like(want)
            torch.cuda._sleep(20_000_000)
            pixels.copy_(want)
            presenter.show(pixels)
            pixels.zero_()
            assert torch.equal(read_texture(presenter.texture, presenter.size), want.cpu())
    presenter.close()


@pytest.mark.gpu
@with_gl
def test_gpu_interop_takes_no_memory_for_hundreds_of_sizes() -> None:
    need_nvidia_gl()
    presenter = InteropPresenter(GPU)
    canvas = picture(900, 700, 0, "cuda")
    before = live_textures()
    free, allocated = 0, 0
    for step in range(500):
        if step == 50:
            torch.cuda.synchronize()
            opengl().glFinish()
            free, allocated = torch.cuda.mem_get_info()[0], torch.cuda.memory_allocated()
        pixels = canvas[: 300 + step * 37 % 400, : 400 + step * 53 % 500]
        presenter.show(pixels)
        if step % 50 == 0:
            assert torch.equal(read_texture(presenter.texture, presenter.size), pixels.cpu())
    torch.cuda.synchronize()
    opengl().glFinish()
    assert live_textures() == before + 1
    assert torch.cuda.memory_allocated() == allocated
    assert free - torch.cuda.mem_get_info()[0] < 128 * 2**20  # together they have 600 MB
    presenter.close()


class BadCopies:
    """The real runtime, whose copies CUDA refuses once `bad` is set."""

    def __init__(self, runtime: Any) -> None:
        self._runtime, self.bad = runtime, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def cudaMemcpy2DToArrayAsync(self, *args: Any) -> Any:  # noqa: N802
        array, x, y, source, pitch, width, *rest = args
        if self.bad:
            width = pitch + 4
        return self._runtime.cudaMemcpy2DToArrayAsync(array, x, y, source, pitch, width, *rest)


@pytest.mark.gpu
@with_gl
def test_gpu_falls_back_to_the_host_with_the_same_picture() -> None:
    need_nvidia_gl()
    real = importlib.import_module("cuda.bindings.runtime")
    runtime = BadCopies(real)
    presenter, reason = make_presenter(GPU, runtime=runtime)
    assert (presenter.name, reason) == ("CUDA interop", None)
    assert isinstance(presenter, FallbackPresenter)
    presenter.show(picture(64, 48, 0, "cuda"))
    runtime.bad = True
    for seed in range(2):
        pixels = picture(64, 48, seed, "cuda")
        presenter.show(pixels)
        assert_shown(presenter, pixels)
    assert presenter.name == "host copy"
    assert presenter.reason is not None
    assert "cudaMemcpy2DToArrayAsync" in presenter.reason
    assert int(real.cudaGetLastError()[0]) == 0
    torch.cuda.synchronize()
    presenter.close()


@pytest.mark.gpu
@with_gl
def test_gpu_pictures_go_through_the_host_too() -> None:
    presenter = HostPresenter()
    whole = picture(400, 300, 0, "cuda")
    for pixels in (whole, whole[3:200, 5:320], whole[::2, ::3], whole.transpose(0, 1), whole):
        presenter.show(pixels)
        assert_shown(presenter, pixels)
    presenter.close()
