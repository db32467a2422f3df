"""One frame: the only way from a pose and a camera to a picture, for every front end."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from ash_core.avatar import Avatar, ReleasedAvatar
from ash_core.errors import CudaError
from ash_core.look import PLAIN, Look, colourise, dress
from ash_core.networks.loading import weights_version
from ash_core.records import Camera, Gaussians, Image, PoseWindow, to_device
from ash_core.splat.rasterize import rasterize

if TYPE_CHECKING:
    from ash_core.fast.frame import Frames

Colour = tuple[float, float, float]
Precision = Literal["half", "float"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderRequest:
    """Everything that a frame depends on, besides the avatar."""

    window: PoseWindow
    camera: Camera
    background: Colour | None = None
    """RGB in [0, 1]; None leaves the picture transparent (colours premultiplied)."""
    look: Look = PLAIN


class Renderer:
    """Renders requests for one avatar, without gradients.

    Two levels of caching: a window of poses gives Gaussians, a camera gives a picture. Turning the
    camera about a still avatar costs one rasterization.

    On an NVIDIA GPU frames are CUDA graphs of our kernels, with the networks in half precision
    (`ash_core.fast`). Otherwise, with precision "float", or with another rasterizer than ours, the
    avatar's own modules run: the plain path.
    """

    def __init__(
        self,
        avatar: Avatar,
        backend: str = "auto",
        device: torch.device | str | None = None,
        precision: Precision = "half",
        may_leave_gpu: bool = True,
    ) -> None:
        """device: where frames are made, by default where the avatar lives. An avatar on the CPU
        may stay there: the fast path has its own copy of the weights, half as large.
        may_leave_gpu: on a GPU that fails, go on by the CPU and say so once; else raise CudaError.
        """
        self.avatar, self.backend = avatar, backend
        self.device = _with_index(torch.device(device or avatar.flat.device))
        self.may_leave_gpu = may_leave_gpu
        self.profile = False
        """Fill `timings` also on the fast path, which then waits after every stage."""
        self.timings: dict[str, float] = {}
        """Milliseconds of each stage of the last request; cached stages are absent."""
        self._kept: tuple[PoseWindow, tuple[torch.device, int], Gaussians] | None = None
        ours = backend in ("auto", "cuda") and precision == "half"
        self._may_be_fast = ours and self.device.type == "cuda"
        self._frames: tuple[int, "Frames"] | None = None

    @property
    def is_fast(self) -> bool:
        """Whether frames come from the fast path."""
        return self._fast() is not None

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.timings[name] = 1e3 * (time.perf_counter() - start)

    def _fast(self) -> "Frames | None":
        """The fast path for the avatar's weights as they are; None where there is none."""
        if not self._may_be_fast:
            return None
        version = weights_version(self.avatar)
        if self._frames is None or self._frames[0] != version:
            self._frames = None
            try:
                from ash_core.fast.frame import Frames

                with torch.cuda.device(self.device):
                    self._frames = version, Frames(self.avatar, self.device)
            except (CudaError, torch.OutOfMemoryError) as error:
                self._may_be_fast = False
                _log.warning("the plain path renders, and slower: %s", error)
                return None
        return self._frames[1]

    @torch.no_grad()
    def gaussians(self, window: PoseWindow) -> Gaussians:
        """Gaussians of a window of poses, float32, by the plain path; kept while window and weights
        stay.
        """
        if self.avatar.flat.device != self.device:
            self.avatar.to(self.device)
        device = self.avatar.flat.device
        state = device, weights_version(self.avatar)
        if self._kept is not None and self._kept[1] == state and _same(window, self._kept[0]):
            return self._kept[2]
        window = to_device(window, device)
        with self._stage("deform"):
            mesh = self.avatar.character(window)
        with self._stage("maps"):
            motion_map = self.avatar.motion_map(mesh, window)
        with self._stage("decode"):
            raw = self.avatar.decode(motion_map, mesh)
        with self._stage("assemble"):
            gaussians = self.avatar.assemble(raw, mesh)
        self._kept = window, state, gaussians
        return gaussians

    @torch.no_grad()
    def render(self, request: RenderRequest) -> Image:
        """The picture of a request, on the renderer's device."""
        self.timings = {}
        fast = self._fast() if request.look.keeps_gaussians else None
        if fast is None:
            return self._render_plainly(request)
        with torch.cuda.device(self.device):
            timings = self.timings if self.profile else None
            window = to_device(request.window, "cpu")
            image = fast.image(window, request.camera, request.background, timings)
            return colourise(image, request.look, _colour(request))

    def _render_plainly(self, request: RenderRequest) -> Image:
        if self.device.type != "cuda":
            return self._render_by_modules(request)
        try:
            return self._render_by_modules(request)
        except (CudaError, torch.OutOfMemoryError) as error:
            said = str(error).split("\n")[0]
            if not self.may_leave_gpu or self.backend not in ("auto", "cpu", "reference"):
                raise CudaError(f"{self.device}: {said}") from error
        _log.warning("the CPU renders from here on: %s", said)
        self.device, self._kept = torch.device("cpu"), None
        self.avatar.to("cpu")
        torch.cuda.empty_cache()
        return self._render_by_modules(request)

    def _render_by_modules(self, request: RenderRequest) -> Image:
        gaussians = self.gaussians(request.window)
        with self._stage("raster"):
            background, look = _colour(request), request.look
            gaussians = dress(gaussians, look, request.camera)
            image = rasterize(gaussians, request.camera, background, backend=self.backend)
            assert isinstance(image, Image)
            image = colourise(image, look, background)
        return image

    @torch.no_grad()
    def draw(self, request: RenderRequest) -> UInt8[Tensor, "h w 4"]:
        """The picture as bytes on the renderer's device: colours premultiplied, coverage as alpha.

        Valid until the next call but one. On the fast path nothing waits for the GPU.
        """
        self.timings = {}
        fast = self._fast() if request.look == PLAIN else None
        if fast is None:
            image = self.render(request)
            alpha = (image.alpha[..., None] * 255).round().to(torch.uint8)
            return torch.cat((self.to_uint8(image), alpha), -1)
        with torch.cuda.device(self.device):
            timings = self.timings if self.profile else None
            window = to_device(request.window, "cpu")
            rounding = 0.0 if self._cuts_off else 0.5
            return fast.rgba8(window, request.camera, request.background, rounding, timings)

    @property
    def _cuts_off(self) -> bool:
        """Bytes of a released avatar are cut off, as published. Source: ODDITIES A19."""
        return isinstance(self.avatar, ReleasedAvatar)

    def to_uint8(self, image: Image) -> UInt8[Tensor, "h w 3"]:
        """The picture's colours as bytes: rounded, but cut off for a released avatar."""
        scaled = image.rgb.clamp(0, 1) * 255
        return (scaled if self._cuts_off else scaled + 0.5).to(torch.uint8)


def _with_index(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _colour(request: RenderRequest) -> Tensor | None:
    colour = request.background
    return None if colour is None else torch.tensor(colour, dtype=torch.float32)


def _same(a: PoseWindow, b: PoseWindow) -> bool:
    return torch.equal(a.dofs, b.dofs.to(a.dofs.device)) and torch.equal(
        a.normalised, b.normalised.to(a.normalised.device)
    )
