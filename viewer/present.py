"""Presenters: images to an OpenGL texture that Dear ImGui draws by its id.

An image is a uint8 tensor [h, w, 4], row 0 at the top, premultiplied colours, on any device. Either
CUDA writes the texture (interop: nothing leaves the GPU), or the host uploads it. All code runs in
the thread whose OpenGL context is current. Within a frame, show the image first and ask for
`texture` after: a presenter that falls back has another one.
"""

import importlib
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from ash_core.errors import CudaError
from ash_core.gl.context import GlError, describe_gl, opengl
from ash_core.gl.texture import Magnify, Texture, read_texture
from ash_core.install import install_command

PRIME: Final = "__NV_PRIME_RENDER_OFFLOAD=1 __GLX_VENDOR_LIBRARY_NAME=nvidia"
"""Makes OpenGL run on the NVIDIA GPU of a machine with two. Never set by us: it can freeze windows.

Source: MrNeRF/LichtFeld-Studio, issues 406 and 407."""
SOFTWARE: Final = ("llvmpipe", "softpipe", "swrast", "software rasterizer")

_log = logging.getLogger(__name__)


class Presenter(Protocol):
    """Owner of one texture that shows images."""

    @property
    def name(self) -> str:
        """Name of the presenter's way, for the status bar."""
        ...

    @property
    def texture(self) -> int:
        """OpenGL's id of the texture; 0 before the first image."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image in the texture; (0, 0) before the first."""
        ...

    def show(self, pixels: Tensor) -> None:
        """Copy an image to the texture. One without pixels (a minimised window) changes nothing.

        An image on a GPU is read in the order of torch's current stream there.
        """
        ...

    def close(self) -> None:
        """Release the texture, while the context exists; a second time does nothing."""
        ...


class InteropError(CudaError):
    """A call that CUDA-OpenGL interop needs has failed."""


class HostPresenter:
    """Upload of images from host memory: works wherever OpenGL does."""

    name = "host copy"

    def __init__(self, magnify: Magnify = "linear") -> None:
        self._texture = Texture(magnify)
        self._staging: Tensor | None = None
        """Pinned buffer, as large as the largest image of a GPU so far."""

    @property
    def texture(self) -> int:
        return self._texture.id

    @property
    def size(self) -> tuple[int, int]:
        return self._texture.size

    def show(self, pixels: Tensor) -> None:
        check_picture(pixels)
        if pixels.numel() == 0:
            return
        if pixels.is_cuda:
            pixels = self._fetch(pixels)
        pixels, pitch = _in_rows(pixels, unit=4)
        self._texture.put(pixels, pitch // 4)

    def close(self) -> None:
        self._texture.delete()
        self._staging = None

    def _fetch(self, pixels: Tensor) -> Tensor:
        """Copy an image to the staging buffer and wait for it."""
        if self._staging is None or self._staging.numel() < pixels.numel():
            self._staging = None  # given back before the larger one is taken
            self._staging = _host_buffer(pixels.numel())
        fetched = self._staging[: pixels.numel()].view(pixels.shape)
        return fetched.copy_(pixels)


class InteropPresenter:
    """Copy of images to the texture by CUDA: nothing leaves the GPU. Raises InteropError.

    device: the images' GPU; OpenGL must run on the same one.
    runtime: cuda.bindings.runtime, or its substitute in tests.
    """

    name = "CUDA interop"

    def __init__(
        self, device: torch.device, magnify: Magnify = "linear", runtime: Any = None
    ) -> None:
        self._device = device
        self._cuda = _Cuda(runtime)
        self._texture = Texture(magnify)
        self._resource: Any = None
        """CUDA's handle of the texture; None while it is not registered."""

    @property
    def texture(self) -> int:
        return self._texture.id

    @property
    def size(self) -> tuple[int, int]:
        return self._texture.size

    def show(self, pixels: Tensor) -> None:
        check_picture(pixels)
        if pixels.numel() == 0:
            return
        with _current_stream(self._device) as stream:
            self._cuda("cudaSetDevice", _index(self._device))
            if pixels.is_cuda:
                pixels = pixels.to(self._device)
            pixels, pitch = _in_rows(pixels)
            height, width, _ = pixels.shape
            if self._resource is None or (width, height) != self.size:
                self._unregister()
                self._texture.allocate(width, height)
                self._register()
            self._copy(pixels, pitch, stream)

    def close(self) -> None:
        try:
            self._unregister()
        except InteropError as error:
            _log.debug("closing: %s", error)
        self._texture.delete()

    def _register(self) -> None:
        flags = self._cuda.runtime.cudaGraphicsRegisterFlags
        self._resource = self._cuda(
            "cudaGraphicsGLRegisterImage",
            self._texture.id,
            int(opengl().GL_TEXTURE_2D),
            int(flags.cudaGraphicsRegisterFlagsWriteDiscard),
        )
        if not int(self._resource):  # cuda-bindings 12.9.3 succeeds so: NVIDIA/cuda-python#1122
            self._resource = None
            raise InteropError("cudaGraphicsGLRegisterImage: no handle (update cuda-bindings)")

    def _unregister(self) -> None:
        resource, self._resource = self._resource, None
        if resource is not None:
            self._cuda("cudaGraphicsUnregisterResource", resource)

    def _copy(self, pixels: Tensor, pitch: int, stream: int) -> None:
        height, width, _ = pixels.shape
        kinds = self._cuda.runtime.cudaMemcpyKind
        kind = kinds.cudaMemcpyDeviceToDevice if pixels.is_cuda else kinds.cudaMemcpyHostToDevice
        self._cuda("cudaGraphicsMapResources", 1, self._resource, stream)
        try:
            array = self._cuda("cudaGraphicsSubResourceGetMappedArray", self._resource, 0, 0)
            source = pixels.data_ptr()
            self._cuda(
                "cudaMemcpy2DToArrayAsync",
                *(array, 0, 0, source, pitch, 4 * width, height, kind, stream),
            )
        finally:
            self._cuda("cudaGraphicsUnmapResources", 1, self._resource, stream)
        if pixels.is_cuda:
            pixels.record_stream(torch.cuda.current_stream(pixels.device))
        else:
            self._cuda("cudaStreamSynchronize", stream)


class FallbackPresenter:
    """One presenter until it fails, then another with the same image: never a black window.

    explain: makes the sentence for a failure, which is logged once and stored in `reason`.
    """

    def __init__(
        self,
        first: Presenter,
        second: Callable[[], Presenter],
        explain: Callable[[Exception], str],
    ) -> None:
        self._now, self._second, self._explain = first, second, explain
        self.reason: str | None = None
        """Reason of the fallback; None while the first works."""

    @property
    def name(self) -> str:
        return self._now.name

    @property
    def texture(self) -> int:
        return self._now.texture

    @property
    def size(self) -> tuple[int, int]:
        return self._now.size

    def show(self, pixels: Tensor) -> None:
        check_picture(pixels)
        try:
            self._now.show(pixels)
            return
        except GlError:
            raise
        except Exception as error:  # CUDA, torch and the bindings each have their own kinds
            if self.reason is not None:
                raise
            self.reason = self._explain(error)
            _log.warning("%s", self.reason)
        failed, self._now = self._now, self._second()
        try:
            failed.close()
        except Exception as error:  # as above; the failed one may stay open
            _log.debug("closing after a failure: %s", error)
        self._now.show(pixels)

    def close(self) -> None:
        self._now.close()


def make_presenter(
    device: torch.device,
    interop: bool = True,
    magnify: Magnify = "linear",
    runtime: Any = None,
) -> tuple[Presenter, str | None]:
    """Make the best presenter for images on a device. Returns it, and why it is not interop.

    The reason is None where interop works, the device is the CPU, or `interop` is False. A small
    image is shown and read back as a trial, in the context that is current.
    """
    if device.type != "cuda" or not interop:
        return HostPresenter(magnify), None

    def explain(error: Exception) -> str:
        return diagnose(error, device, runtime)

    try:
        presenter = InteropPresenter(device, magnify, runtime)
    except Exception as error:  # the bindings may be missing, or their libraries
        return HostPresenter(magnify), explain(error)
    try:
        _try_out(presenter)
    except Exception as error:  # as above
        presenter.close()
        return HostPresenter(magnify), explain(error)
    return FallbackPresenter(presenter, lambda: HostPresenter(magnify), explain), None


def diagnose(error: Exception, device: torch.device, runtime: Any = None) -> str:
    """Explain why interop failed here, by OpenGL's and CUDA's devices. Leaves no CUDA error."""
    try:
        gl_devices = _Cuda(runtime).gl_devices()
    except CudaError:
        gl_devices = ()
    try:
        gl_name = describe_gl()
    except GlError as missing:
        return f"pictures go through host memory: {missing}"
    return why_no_interop(
        error, gl_name, gl_devices, _index(device), os.environ, platform.release()
    )


def why_no_interop(
    error: Exception,
    gl_name: str,
    gl_devices: Sequence[int],
    device: int,
    environ: Mapping[str, str],
    kernel: str,
) -> str:
    """Describe the obstacle to interop and its remedy, in one sentence.

    gl_name: of describe_gl.  gl_devices: GPUs of the OpenGL context, as CUDA counts them.
    device: the GPU that renders.  kernel: the operating system's release.
    """
    return "pictures go through host memory, " + ": ".join(
        _hindrance(error, gl_name, gl_devices, device, environ, kernel)
    )


def check_picture(pixels: Tensor) -> None:
    """Check that an image is uint8 [h, w, 4]."""
    good = pixels.dtype == torch.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4
    assert good, f"expected uint8 [h, w, 4], got {pixels.dtype} {list(pixels.shape)}"


class _Cuda:
    """The CUDA runtime: a failed call raises InteropError and leaves no error state behind."""

    def __init__(self, runtime: Any = None) -> None:
        if runtime is None:
            try:
                runtime = importlib.import_module("cuda.bindings.runtime")
            except ImportError as error:
                raise _BindingsMissingError("the package cuda-bindings is not installed") from error
        self.runtime = runtime

    def __call__(self, name: str, *args: Any) -> Any:
        try:
            error, *values = getattr(self.runtime, name)(*args)
        except Exception as problem:  # the bindings' own kinds: a library is missing
            raise InteropError(f"{name}: {problem}") from problem
        if int(error) != 0:
            self.runtime.cudaGetLastError()
            raise InteropError(f"{name}: {error.name} ({int(error)})")
        return values[0] if len(values) == 1 else tuple(values)

    def gl_devices(self) -> tuple[int, ...]:
        """List the GPUs of the current OpenGL context by CUDA's numbers."""
        every = self.runtime.cudaGLDeviceList.cudaGLDeviceListAll
        count, devices = self("cudaGLGetDevices", 16, every)
        return tuple(devices[:count])


class _BindingsMissingError(InteropError):
    """CUDA's Python bindings cannot be imported."""


def _hindrance(
    error: Exception,
    gl_name: str,
    gl_devices: Sequence[int],
    device: int,
    environ: Mapping[str, str],
    kernel: str,
) -> tuple[str, str]:
    """Find the obstacle to interop, and its remedy."""
    # Software that has no interop at all.
    if isinstance(error, _BindingsMissingError):
        return str(error), install_command("cuda")
    if "microsoft" in kernel.lower():
        return "WSL has no CUDA-OpenGL interop", "run on Linux itself for more speed"
    # OpenGL on an NVIDIA GPU: another one than renders, or a driver that refuses.
    if gl_name.startswith("NVIDIA"):
        if gl_devices and device not in gl_devices:
            other = gl_devices[0]
            return (
                f"OpenGL runs on GPU {other} and pictures are rendered on GPU {device}",
                f"start with `CUDA_VISIBLE_DEVICES={other}`",
            )
        return (
            f"CUDA cannot share a texture with OpenGL ({error}; OpenGL is {gl_name})",
            "update the NVIDIA driver, and restart after an update",
        )
    # OpenGL elsewhere: another machine's, a container's, or the machine's second one.
    display_host = environ.get("DISPLAY", "").rpartition(":")[0]
    if display_host not in ("", "unix") and not display_host.startswith("/"):
        return (
            f"the window is on another machine's display ({environ['DISPLAY']}, {gl_name})",
            "start on the display of the machine with the GPU, or through VirtualGL's `vglrun`",
        )
    software = any(name in gl_name.lower() for name in SOFTWARE)
    where = f"OpenGL runs {'on the CPU' if software else 'on another GPU'} ({gl_name})"
    capabilities = environ.get("NVIDIA_DRIVER_CAPABILITIES", "all").split(",")
    if not {"all", "graphics"} & set(capabilities):
        return where, "start the container with `-e NVIDIA_DRIVER_CAPABILITIES=all`"
    cure = f"start with `{PRIME}`"
    if "WAYLAND_DISPLAY" in environ or environ.get("XDG_SESSION_TYPE") == "wayland":
        cure += ", or in an Xorg session instead of Wayland"
    elif software:
        cure += ", or on VNC and Xvfb through VirtualGL's `vglrun`"
    return where, cure


def _try_out(presenter: Presenter) -> None:
    picture = torch.arange(3 * 5 * 4, dtype=torch.uint8).view(3, 5, 4)
    presenter.show(picture)
    if not torch.equal(read_texture(presenter.texture, presenter.size), picture):
        raise InteropError("a trial picture came back changed")


def _in_rows(pixels: Tensor, unit: int = 1) -> tuple[Tensor, int]:
    """Return an image with contiguous rows, and the bytes from row to row.

    That distance is a multiple of `unit`. The image is copied only where it must be.
    """
    height, width, _ = pixels.shape
    pitch, step, byte = pixels.stride()
    if height == 1:
        pitch = 4 * width
    if byte == 1 and (step == 4 or width == 1) and pitch >= 4 * width and pitch % unit == 0:
        return pixels, pitch
    return pixels.clone(memory_format=torch.contiguous_format), 4 * width


def _host_buffer(count: int) -> Tensor:
    """Allocate host memory, pinned where the system allows it."""
    try:
        return torch.empty(count, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        _log.debug("no pinned memory: %s", error)
        return torch.empty(count, dtype=torch.uint8)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@contextmanager
def _current_stream(device: torch.device) -> Iterator[int]:
    """Make a GPU the current one; yields torch's current stream there."""
    with torch.cuda.device(device):
        yield torch.cuda.current_stream(device).cuda_stream
