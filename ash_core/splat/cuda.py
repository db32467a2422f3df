"""The NVIDIA backend: our kernels (kernels/*.cu), forward and backward, never waiting for the GPU.

One frame is two launches: `project_gaussians` lays Gaussians into the lists of 8x8-pixel tiles,
`blend` sorts each list and blends it. Lists have a fixed capacity in memory. A longer one is never
cut: its tile searches all Gaussians instead, slower, and the next call finds the lists grown.
Values that are not finite are not looked for, since that would wait; such Gaussians are not drawn.
Source: ideas of FlashGS, Faster-GS, HiGS and Taming 3DGS, put together in docs/performance.md.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ash_core import conventions
from ash_core.gpu.kernels import Program
from ash_core.records import Camera, Gaussians, Image

TILE: Final = 8
GROUP: Final = 32
"""Gaussians of a block of `project_gaussians`."""
FEW: Final = 65_536
"""Up to this many Gaussians more threads share the tiles of one."""
TILE_THREADS: Final = TILE * TILE
RECORD_FLOATS: Final = 12
SUMS: Final = 12
SUM_SCALE: Final = 2.0**32
"""Fixed point of the deterministic backward pass: 2^-32 to 2^31."""
CAPACITY: Final = 512
"""Entries of a tile's list to begin with."""
LIST_BYTES: Final = 1 << 30
"""All lists of a call stay under this; what does not fit is searched for."""

KERNELS = Path(__file__).parent / "kernels"


def _constants() -> dict[str, int | float]:
    c = conventions
    numbers = {
        "BLUR_PX2": c.BLUR_PX2,
        "ALPHA_MIN": c.ALPHA_MIN,
        "ALPHA_MAX": c.ALPHA_MAX,
        "LOG2_ALPHA_MIN": math.log2(c.ALPHA_MIN),
        "TRANSMITTANCE_MIN": c.TRANSMITTANCE_MIN,
        "NEAR_M": c.NEAR_M,
        "SH_C0": c.SH_C0,
        "SH_C1": c.SH_C1,
    }
    numbers |= {f"SH_C2_{i}": value for i, value in enumerate(c.SH_C2)}
    numbers |= {f"SH_C3_{i}": value for i, value in enumerate(c.SH_C3)}
    return {"GROUP": GROUP, **numbers}


def _program(*names: str, **defines: int | float) -> Program:
    sources = (KERNELS / f"{name}.cu" for name in names)
    return Program(*sources, defines=_constants() | defines)


FORWARD = _program("records", "bin", "project", "tile_list", "blend")
_BACKWARD = ("records", "tile_list", "blend_backward", "project_backward")
BACKWARD = _program(*_BACKWARD)
DETERMINISTIC_BACKWARD = _program(*_BACKWARD, DETERMINISTIC=1, SUM_SCALE=SUM_SCALE)


@dataclass(frozen=True)
class Views:
    """Cameras as the kernels want them: pictures and tiles of all lie one after the other."""

    packed: Tensor
    """int32 [C, 24]; struct Camera of records.cu."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each."""
    pixels: int
    tiles: int
    most_tiles: int
    """Of one camera."""

    def __len__(self) -> int:
        return len(self.sizes)


def pack_cameras(cameras: Sequence[Camera], device: torch.device | str) -> Views:
    """Cameras (tensors on the CPU, or a copy that waits) to the kernels' layout on a device."""
    rows = np.zeros((len(cameras), 24), np.int32)
    floats = rows.view(np.float32)
    pixels = tiles = most_tiles = 0
    for i, camera in enumerate(cameras):
        K = camera.K.detach().cpu().double()
        fx, fy = float(K[0, 0]), float(K[1, 1])
        across, down = -(-camera.width // TILE), -(-camera.height // TILE)
        floats[i, :12] = camera.viewmat.detach().cpu()[:3].reshape(-1).numpy()
        floats[i, 12:16] = fx, fy, float(K[0, 2]), float(K[1, 2])
        floats[i, 16] = conventions.FRUSTUM_CLAMP * camera.width / (2 * fx)
        floats[i, 17] = conventions.FRUSTUM_CLAMP * camera.height / (2 * fy)
        rows[i, 18:] = camera.width, camera.height, across, down, tiles, pixels
        pixels += camera.width * camera.height
        tiles += across * down
        most_tiles = max(most_tiles, across * down)
    packed = torch.from_numpy(rows).to(device, non_blocking=True)
    sizes = tuple((camera.height, camera.width) for camera in cameras)
    return Views(packed, sizes, pixels, tiles, most_tiles)


class Lists:
    """The tiles' lists of one call, or of one call after the other on one stream."""

    def __init__(self, views: Views, count: int, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.key = len(views), views.tiles, count
        self.records = torch.empty((len(views), count, RECORD_FLOATS), device=device)
        self.counts = torch.zeros(views.tiles, dtype=torch.int32, device=device)
        self.entries = torch.empty((views.tiles, capacity, 2), dtype=torch.int32, device=device)


class Capacity:
    """How long lists are made on one device, and how long they should have been.

    The kernels write the latter where the host can read it without waiting.
    """

    def __init__(self, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.needed = torch.zeros(1, dtype=torch.int32, pin_memory=pinned)
        self.value = CAPACITY

    def for_tiles(self, tiles: int) -> int:
        """Entries for each list: what earlier calls needed, as far as memory should go."""
        wanted = int(self.needed[0])
        if wanted > self.value:
            self.value = 1 << (wanted - 1).bit_length()
        most = LIST_BYTES // (8 * max(tiles, 1))
        return max(min(self.value, most), 1)


@functools.cache
def capacity_of(device: torch.device) -> Capacity:
    """The one record of a device."""
    return Capacity(device)


@dataclass(frozen=True)
class Pictures:
    """The pictures of all views, one after the other."""

    rgb: Float[Tensor, "P 3"]
    alpha: Float[Tensor, "P"]
    depth: Float[Tensor, "P"]


Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""means, quats, scales, opacities, sh: float32, contiguous."""


def bin_threads(count: int) -> int:
    """Threads of a block that lays Gaussians into lists."""
    return 256 if count <= FEW else 128


def project(parts: Parts, views: Views, lists: Lists) -> None:
    """Fill the lists."""
    means, sh = parts[0], parts[4]
    FORWARD.launch(
        "project_gaussians", (-(-len(means) // GROUP), len(views)), bin_threads(len(means)),
        len(means), sh.shape[1], *parts, views.packed, lists.capacity, lists.records,
        lists.counts, lists.entries,
    )  # fmt: skip


def blend(
    views: Views,
    lists: Lists,
    background: Tensor | None,
    pictures: Pictures | None = None,
    rgba8: Tensor | None = None,
    last: Tensor | None = None,
    rounding: float = 0.5,
) -> None:
    """The lists to pictures, as floats or as bytes; with `last` the lists are kept, in order."""
    floats = (None, None, None)
    if pictures is not None:
        floats = (pictures.rgb, pictures.alpha, pictures.depth)
    needed = capacity_of(lists.records.device).needed
    FORWARD.launch(
        "blend", (views.most_tiles, len(views)), TILE_THREADS,
        lists.records.shape[1], views.packed, lists.records, lists.capacity, lists.counts,
        lists.entries, background, rounding, rgba8, *floats, last, needed,
    )  # fmt: skip


class Splatter:
    """Draws without gradients, in memory that stays: for one stream of frames.

    Nothing waits for the GPU, and a frame of the size of the last one allocates only its picture.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = _with_index(torch.device(device))
        self._lists: Lists | None = None

    def lists(self, views: Views, count: int) -> Lists:
        """The lists for a frame: the last frame's if they fit."""
        capacity = capacity_of(self.device).for_tiles(views.tiles)
        kept = self._lists
        if kept is None or kept.key != (len(views), views.tiles, count) or kept.capacity < capacity:
            self._lists = kept = None  # before the next are made
            kept = self._lists = Lists(views, count, capacity, self.device)
        return kept

    @torch.no_grad()
    def draw(
        self,
        gaussians: Gaussians,
        cameras: Sequence[Camera],
        background: Float[Tensor, "3"] | None = None,
        output: Literal["float", "rgba8"] = "float",
        rounding: float = 0.5,
    ) -> list[Image] | list[Tensor]:
        """Pictures, or uint8 [h, w, 4] each: premultiplied colours (value x 255 + rounding, cut
        off), coverage as alpha.
        """
        with _on(self.device):
            views = pack_cameras(cameras, self.device)
            parts = _parts(gaussians, self.device)
            lists = self.lists(views, len(parts[0]))
            background = _background(background, self.device)
            if views.pixels == 0:
                return split_pictures(empty_pictures(views, self.device), views)
            project(parts, views, lists)
            if output == "float":
                pictures = empty_pictures(views, self.device)
                blend(views, lists, background, pictures)
                return split_pictures(pictures, views)
            rgba8 = torch.empty((views.pixels, 4), dtype=torch.uint8, device=self.device)
            blend(views, lists, background, rgba8=rgba8, rounding=rounding)
            return [
                part.view(*size, 4)
                for part, size in zip(_split_pixels(rgba8, views), views.sizes, strict=True)
            ]


@functools.cache
def _splatter(device: torch.device, stream: int) -> Splatter:
    return Splatter(device)


class _Rasterize(torch.autograd.Function):
    """Forward and backward for all views at once."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh: Tensor,
        views: Views,
        background: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = means.device
        parts = _parts(Gaussians(means, quats, scales, opacities, sh), device)
        lists = Lists(views, len(means), capacity_of(device).for_tiles(views.tiles), device)
        pictures = empty_pictures(views, device)
        last = torch.empty(views.pixels, dtype=torch.int32, device=device)
        project(parts, views, lists)
        blend(views, lists, background, pictures, last=last)
        ctx.views, ctx.lists = views, lists
        ctx.types = [part.dtype for part in (means, quats, scales, opacities, sh)]
        ctx.save_for_backward(*parts, pictures.rgb, pictures.alpha, pictures.depth, last)
        ctx.set_materialize_grads(False)
        return pictures.rgb, pictures.alpha, pictures.depth

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        *parts, rgb, alpha, depth, last = ctx.saved_tensors
        views, lists, count = ctx.views, ctx.lists, len(parts[0])
        exact = torch.are_deterministic_algorithms_enabled()
        program = DETERMINISTIC_BACKWARD if exact else BACKWARD
        kind = torch.int64 if exact else torch.float32
        with _on(rgb.device):
            sums = torch.zeros((len(views), count, SUMS), dtype=kind, device=rgb.device)
            given = [None if g is None else g.float().contiguous() for g in gradients]
            program.launch(
                "blend_backward", (views.most_tiles, len(views)), TILE_THREADS,
                count, views.packed, lists.records, lists.capacity, lists.counts, lists.entries,
                rgb, alpha, depth, last, *given, sums,
            )  # fmt: skip
            out = [torch.empty_like(part) for part in parts]
            program.launch(
                "project_backward", -(-count // 128), 128,
                count, len(views), parts[4].shape[1], *parts, views.packed, lists.records, sums,
                *out,
            )  # fmt: skip
        typed = (part.to(kind) for part, kind in zip(out, ctx.types, strict=True))
        return (*typed, None, None)


def render(
    gaussians: Gaussians, cameras: Sequence[Camera], background: Float[Tensor, "3"] | None
) -> list[Image]:
    """The backend: one picture per camera. `rasterize` has checked the arguments."""
    device = gaussians.means.device
    parts = (
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh
    )  # fmt: skip
    with _on(device):
        if not (torch.is_grad_enabled() and any(part.requires_grad for part in parts)):
            stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
            images = _splatter(device, stream).draw(gaussians, cameras, background)
            return images  # type: ignore[return-value]
        views = pack_cameras(cameras, device)
        pictures = Pictures(*_Rasterize.apply(*parts, views, _background(background, device)))  # type: ignore[misc]
        return split_pictures(pictures, views)


def _parts(gaussians: Gaussians, device: torch.device) -> Parts:
    means, quats, scales, opacities, sh = (
        part.detach().to(device, torch.float32).contiguous()
        for part in (
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh
        )
    )  # fmt: skip
    if quats.data_ptr() % 16:  # read four at a time
        quats = quats.clone()
    return means, quats, scales, opacities, sh


def _background(background: Tensor | None, device: torch.device) -> Tensor | None:
    return (
        None if background is None else background.detach().to(device, torch.float32).contiguous()
    )


def empty_pictures(views: Views, device: torch.device) -> Pictures:
    return Pictures(
        torch.empty((views.pixels, 3), device=device),
        torch.empty(views.pixels, device=device),
        torch.empty(views.pixels, device=device),
    )


def _split_pixels(values: Tensor, views: Views) -> tuple[Tensor, ...]:
    return values.split([height * width for height, width in views.sizes])


def split_pictures(pictures: Pictures, views: Views) -> list[Image]:
    parts = (_split_pixels(part, views) for part in (pictures.rgb, pictures.alpha, pictures.depth))
    return [
        Image(rgb.view(*size, 3), alpha.view(size), depth.view(size))
        for size, rgb, alpha, depth in zip(views.sizes, *parts, strict=True)
    ]


def _with_index(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _on(device: torch.device) -> Any:
    """That device is current; nothing to do for tensors on the CPU (kernels run there in tests)."""
    return torch.cuda.device(device if device.type == "cuda" else -1)
