"""One frame: the only way from a pose and a camera to a picture, for every front end."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from ash_core.avatar import Avatar
from ash_core.conventions import R_WORLD_BODY
from ash_core.drawable import Decoded, Drawable
from ash_core.errors import CudaError
from ash_core.gpu.kernels import with_index
from ash_core.look import PLAIN, Look, colourise, dress
from ash_core.records import Camera, Gaussians, Image, PoseWindow, Surface, to_device
from ash_core.rendered_image import RenderedImage
from ash_core.splat.rasterize import check_camera, rasterize

if TYPE_CHECKING:
    from ash_core.gpu_frame.frame import Frames

Colour = tuple[float, float, float]
Precision = Literal["half", "float"]

_log = logging.getLogger(__name__)
_GPU_FAILURES = (CudaError, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", CudaError))
Result = TypeVar("Result")


@dataclass(frozen=True)
class RenderRequest:
    """Everything that a frame depends on, besides what is drawn.

    >>> window = ash.pose_window(motion, 120, avatar)
    >>> request = ash.RenderRequest(window, camera, background=(1.0, 1.0, 1.0))
    >>> request.look.mode
    'colour'
    """

    window: PoseWindow
    camera: Camera
    background: Colour | None = None
    """RGB in [0, 1]; None leaves the picture transparent (colours premultiplied)."""
    look: Look = PLAIN


class Renderer:
    """Renders requests for one drawable (an avatar or static splats), without gradients.

    Threads may share it: one frame is made after the other. The last window's Gaussians
    are kept: turning the camera about a paused avatar costs one rasterization.

    On an NVIDIA GPU frames are CUDA graphs of our kernels, with the networks in half precision
    (`ash_core.gpu_frame`). Otherwise, with precision "float", with another rasterizer than ours, or
    for another drawable than an avatar, its own modules run: the plain path.

    >>> renderer = ash.Renderer(avatar)
    >>> request = ash.RenderRequest(ash.pose_window(motion, 120, avatar), camera)
    >>> renderer.render(request).rgb.shape
    torch.Size([48, 64, 3])
    """

    def __init__(
        self,
        drawable: Drawable,
        backend: str = "auto",
        device: torch.device | str | None = None,
        precision: Precision = "half",
        may_leave_gpu: bool = True,
    ) -> None:
        """device: where frames are made, by default where the drawable is. An avatar on the CPU
        may stay there: the fast path has its own copy of the weights, half as large.
        may_leave_gpu: on a GPU that fails, go on by the CPU and warn once; else raise CudaError.
        """
        self.drawable, self.backend = drawable, backend
        self.device = with_index(torch.device(device or drawable.device))
        self.may_leave_gpu = may_leave_gpu
        self._turn = threading.RLock()
        self.profile = False
        """Fill `timings` also on the fast path, which then waits after every stage."""
        self.timings: dict[str, float] = {}
        """Milliseconds of each stage of the last request; cached stages are absent."""
        self._kept: tuple[PoseWindow, tuple[torch.device, int], Decoded] | None = None
        is_own = backend in ("auto", "cuda") and precision == "half"
        is_own = is_own and isinstance(drawable, Avatar)  # else there is nothing to pose or decode
        self._may_be_fast = is_own and self.device.type == "cuda"
        self._frames: tuple[int, "Frames"] | None = None

    @property
    def avatar(self) -> Avatar:
        """The drawable, which must be an avatar: with a posed surface, texels and raw values."""
        assert isinstance(self.drawable, Avatar), type(self.drawable)
        return self.drawable

    @property
    def is_fast(self) -> bool:
        """True if frames come from the fast path."""
        return self._fast() is not None

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.timings[name] = 1e3 * (time.perf_counter() - start)

    def _fast(self) -> "Frames | None":
        """Return the GPU frames of the avatar's weights as they are; None where there are none."""
        if not self._may_be_fast:
            return None
        version = self.drawable.version
        if self._frames is None or self._frames[0] != version:
            self._frames = None
            try:
                from ash_core.gpu_frame.frame import Frames

                with torch.cuda.device(self.device):
                    self._frames = version, Frames(self.avatar, self.device)
            except _GPU_FAILURES as error:
                self._leave_fast(error)
                return None
        return self._frames[1]

    def gaussians(self, window: PoseWindow) -> Gaussians:
        """Make the Gaussians of a window of poses, float32, by the plain path."""
        return self.decoded(window).gaussians

    @torch.no_grad()
    def decoded(self, window: PoseWindow) -> Decoded:
        """Make raw values and Gaussians by the plain path; kept while window and weights stay."""
        if self.drawable.device != self.device:
            self.drawable.to(self.device)
        state = self.drawable.device, self.drawable.version
        if self._kept is not None and self._kept[1] == state and _same(window, self._kept[0]):
            return self._kept[2]
        window = to_device(window, self.drawable.device)
        self._kept = window, state, self.drawable.decode_window(window, self._stage)
        return self._kept[2]

    @torch.no_grad()
    def surface(self, window: PoseWindow) -> Surface:
        """Return the posed template, on the CPU: that of the frame just drawn of this window, else
        deformed now.
        """
        with self._turn:

            def fast(frames: "Frames", window: PoseWindow) -> tuple[Tensor, Tensor] | None:
                posed = frames.surface(window)
                return None if posed is None else (posed[0].cpu(), posed[1].cpu())

            posed = self._by_frames(window, True, fast)
            if posed is None:
                mesh = self.avatar.character(to_device(window, self.avatar.device))
                posed = mesh.vertices[0].cpu(), mesh.normals[0].cpu()
            world = torch.tensor(R_WORLD_BODY)
            return Surface(posed[0] @ world.T, posed[1] @ world.T)

    @torch.no_grad()
    def render(self, request: RenderRequest) -> RenderedImage:
        """Render a request to an image on the renderer's device. Raises: CudaError, InputError."""
        check_camera(request.camera)
        with self._turn:
            self.timings = {}

            def fast(frames: "Frames", window: PoseWindow) -> Image:
                timings = self.timings if self.profile else None
                image = frames.image(window, request.camera, request.background, timings)
                return colourise(image, request.look, _colour(request))

            image = self._by_frames(request.window, request.look.keeps_gaussians, fast)
            while image is None:
                try:
                    image = self._rasterize(self.decoded(request.window).gaussians, request)
                    break
                except _GPU_FAILURES as error:
                    if not self._may_leave(error):
                        raise
                self._move_to_cpu()  # out of the handler, whose error still holds GPU memory
            parts = image.rgb, image.alpha, image.depth
            return RenderedImage(*parts, request.background is None, self.rounding)

    def _by_frames(
        self,
        window: PoseWindow,
        is_supported: bool,
        draw: "Callable[[Frames, PoseWindow], Result]",
    ) -> "Result | None":
        """Draw by the fast path; None where it cannot, which is warned of once."""
        frames = self._fast() if is_supported else None
        if frames is None:
            return None
        try:
            with torch.cuda.device(self.device):
                return draw(frames, to_device(window, "cpu"))
        except _GPU_FAILURES as error:
            self._leave_fast(error)
            return None

    def _leave_fast(self, error: Exception) -> None:
        self._may_be_fast, self._frames = False, None
        _log.warning("the plain path renders, and slower: %s", _first_line(error))

    def _rasterize(self, gaussians: Gaussians, request: RenderRequest) -> Image:
        with self._stage("raster"):
            background, look = _colour(request), request.look
            gaussians = dress(gaussians, look, request.camera)
            image = rasterize(gaussians, request.camera, background, backend=self.backend)
            return colourise(image, look, background)

    def _may_leave(self, error: Exception) -> bool:
        """Tell whether the CPU may take over from a device that failed."""
        if self.device.type != "cuda":
            return False
        if not self.may_leave_gpu or self.backend not in ("auto", "cpu", "reference"):
            raise CudaError(f"{self.device}: {_first_line(error)}") from error
        _log.warning("the CPU renders from here on: %s", _first_line(error))
        return True

    def _move_to_cpu(self) -> None:
        self._may_be_fast, self._frames, self._kept = False, None, None
        self.device = torch.device("cpu")
        self.drawable.to(self.device)
        torch.cuda.empty_cache()

    @torch.no_grad()
    def draw(self, request: RenderRequest) -> UInt8[Tensor, "h w 4"]:
        """Render to bytes on the renderer's device: colours premultiplied, coverage as alpha.

        Valid until the next call but one. On the fast path nothing waits for the GPU.
        """
        check_camera(request.camera)
        with self._turn:
            self.timings = {}

            def fast(frames: "Frames", window: PoseWindow) -> Tensor:
                timings = self.timings if self.profile else None
                background, rounding = request.background, self.rounding
                return frames.rgba8(window, request.camera, background, rounding, timings)

            pixels = self._by_frames(request.window, request.look == PLAIN, fast)
            if pixels is not None:
                return pixels
            image = self.render(request)
            return torch.cat((image.rgb8(), image.alpha8()[..., None]), -1)

    @property
    def rounding(self) -> float:
        """Addend of colours before they are cut to bytes: 0 for released avatars, as published.
        Source: docs/released_behaviour.md A19."""
        return 0.0 if self.drawable.truncates_bytes else 0.5


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _colour(request: RenderRequest) -> Tensor | None:
    colour = request.background
    return None if colour is None else torch.tensor(colour, dtype=torch.float32)


def _same(a: PoseWindow, b: PoseWindow) -> bool:
    pairs = ((a.dofs, b.dofs), (a.normalised, b.normalised), (a.cloth, b.cloth))
    return all(
        one is other or (one is not None and other is not None and torch.equal(one, other.to(one)))
        for one, other in pairs
    )
