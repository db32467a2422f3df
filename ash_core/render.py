"""One frame: the only way from a pose and a camera to a picture, for every front end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from ash_core.avatar import Avatar, ReleasedAvatar
from ash_core.networks.loading import weights_version
from ash_core.records import Camera, Gaussians, Image, PoseWindow, to_device
from ash_core.splat.rasterize import rasterize

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class RenderRequest:
    """Everything that a frame depends on, besides the avatar."""

    window: PoseWindow
    camera: Camera
    background: Colour | None = None
    """RGB in [0, 1]; None leaves the picture transparent (colours premultiplied)."""


class Renderer:
    """Renders requests for one avatar, without gradients.

    Two levels of caching: a window of poses gives Gaussians, a camera gives a picture. Turning the
    camera about a still avatar costs one rasterization.
    """

    def __init__(self, avatar: Avatar, backend: str = "auto") -> None:
        self.avatar, self.backend = avatar, backend
        self.timings: dict[str, float] = {}
        """Milliseconds of each stage of the last request; cached stages are absent."""
        self._kept: tuple[PoseWindow, tuple[torch.device, int], Gaussians] | None = None

    @property
    def device(self) -> torch.device:
        """Where the avatar lives."""
        return next(self.avatar.buffers()).device

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.timings[name] = 1e3 * (time.perf_counter() - start)

    @torch.no_grad()
    def gaussians(self, window: PoseWindow) -> Gaussians:
        """Gaussians of a window of poses; kept while window and weights stay."""
        state = self.device, weights_version(self.avatar)
        if self._kept is not None and self._kept[1] == state and _same(window, self._kept[0]):
            return self._kept[2]
        window = to_device(window, self.device)
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
        """The picture of a request."""
        self.timings = {}
        gaussians = self.gaussians(request.window)
        with self._stage("raster"):
            colour = request.background
            background = None if colour is None else torch.tensor(colour, dtype=torch.float32)
            image = rasterize(gaussians, request.camera, background, backend=self.backend)
        assert isinstance(image, Image)
        return image

    def to_uint8(self, image: Image) -> UInt8[Tensor, "h w 3"]:
        """The picture's colours as bytes: rounded, but cut off for a released avatar, as published.

        Source: ODDITIES A19.
        """
        scaled = image.rgb.clamp(0, 1) * 255
        if not isinstance(self.avatar, ReleasedAvatar):
            scaled = scaled.round()
        return scaled.to(torch.uint8)


def _same(a: PoseWindow, b: PoseWindow) -> bool:
    return torch.equal(a.dofs, b.dofs.to(a.dofs.device)) and torch.equal(
        a.normalised, b.normalised.to(a.normalised.device)
    )
