"""The NVIDIA backend: our kernels (kernels/*.cu), forward and backward, never waiting for the GPU.

One frame is three launches. `project_gaussians` projects Gaussians and appends them to the bins of
8x8-pixel tiles. `sort_overflow` sorts the tiles with more Gaussians than the capacity of a bin, in
an overflow buffer: no Gaussian is dropped, but this is slower. `blend` sorts each bin up to the
depth where its pixels are opaque, and blends it. The capacity policy enlarges bins and buffer for
the next call. Values are not checked, since that would wait: those not finite are not drawn.
Source: ideas of FlashGS, Faster-GS, HiGS and Taming 3DGS, put together in docs/performance.md.
"""

import functools
import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ash_core import conventions
from ash_core.geometry.camera import frustum_limits
from ash_core.gpu.kernels import Program, with_index
from ash_core.records import Camera, Gaussians, Image

TILE: Final = 8
SMALL_COUNT: Final = 65_536
"""Greatest number of Gaussians for which more threads share the tiles of each."""
TILE_THREADS: Final = TILE * TILE
SORT_THREADS: Final = 512
"""Threads of a block that sorts one overflow tile."""
RESIDENT: Final = 10
"""Blocks of `blend` that a multiprocessor runs at once."""
HEADER_WORDS, TILE_WORDS = 8, 8
"""Words of the tile state: of its header, and of each tile."""
BIN_THREADS, MAX_GROUP = 256, 64
"""Threads and Gaussians of a block that fills the tile bins, at most."""
BACKWARD_THREADS: Final = 64
PROJECTED_FLOATS: Final = 12
"""Floats of a projected Gaussian: three float4."""
SUMS: Final = 12
"""Sums over pixels from which the gradient of a Gaussian is computed."""
SUM_SCALE: Final = 2.0**32
"""Fixed point of the deterministic backward pass: 2^-32 to 2^31."""
INITIAL_CAPACITY: Final = 512
"""Entries of a tile bin before the policy enlarges it."""
MAX_CAPACITY: Final = 2048
"""Greatest number of entries of a bin; tiles with more are sorted in the overflow buffer."""
MAX_BIN_BYTES: Final = 1 << 30
"""Upper bound on all bins of a call."""
ENTRY_BYTES: Final = 8
"""Depth bits and index of one Gaussian in one tile."""
OVERFLOW_UNIT: Final = 64
"""Entries of one unit of the overflow buffer."""
MIN_OVERFLOW_UNITS: Final = 1 << 14
"""Least number of units of the overflow buffer."""
OVERFLOW_PER_GAUSSIAN: Final = 8
"""Least number of entries of the overflow buffer per Gaussian: three tiles with all of them."""
MAX_OVERFLOW_BYTES: Final = 1 << 30
"""Upper bound on the overflow buffer; tiles beyond it search all Gaussians, much slower."""

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
    sizes = {
        "TILE": TILE,
        "TILE_THREADS": TILE_THREADS,
        "HEADER_WORDS": HEADER_WORDS,
        "VECTORS": PROJECTED_FLOATS // 4,
        "BIN_THREADS": BIN_THREADS,
        "MAX_GROUP": MAX_GROUP,
        "SORT_THREADS": SORT_THREADS,
        "RESIDENT": RESIDENT,
        "OVERFLOW_UNIT": OVERFLOW_UNIT,
        "SUMS": SUMS,
        "BACKWARD_THREADS": BACKWARD_THREADS,
    }
    return sizes | numbers


def _program(*names: str, **defines: int | float) -> Program:
    sources = (KERNELS / f"{name}.cu" for name in names)
    return Program(*sources, defines=_constants() | defines)


FORWARD = _program("projected", "bin", "project", "tile_window", "sort_overflow", "blend")
_BACKWARD = ("projected", "tile_window", "blend_backward", "project_backward")
BACKWARD = _program(*_BACKWARD)
DETERMINISTIC_BACKWARD = _program(*_BACKWARD, DETERMINISTIC=1, SUM_SCALE=SUM_SCALE)


@dataclass(frozen=True)
class Views:
    """Cameras in the layout of the kernels; their images and tiles are concatenated."""

    packed: Tensor
    """int32 [C, 24]; struct Camera of projected.cu."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each camera."""
    pixels: int
    tiles: int

    def __len__(self) -> int:
        return len(self.sizes)


CAMERA: Final = struct.Struct("=18f6i")
"""struct Camera of projected.cu."""


def camera_words(cameras: Sequence[Camera]) -> tuple[bytes, int, int]:
    """Pack cameras in the layout of the kernels, and count their pixels and tiles.

    Their tensors should be on the CPU: others are waited for.
    """
    rows, pixels, tiles = [], 0, 0
    for camera in cameras:
        (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
        across, down = -(-camera.width // TILE), -(-camera.height // TILE)
        rows.append(
            CAMERA.pack(
                *chain.from_iterable(camera.viewmat.tolist()[:3]),
                *(fx, fy, cx, cy),
                *frustum_limits(camera),
                *(camera.width, camera.height, across, down, tiles, pixels),
            )
        )
        pixels += camera.width * camera.height
        tiles += across * down
    return b"".join(rows), pixels, tiles


def pack_cameras(cameras: Sequence[Camera], device: torch.device | str) -> Views:
    """Pack cameras on a device. Equal cameras share a cached tensor: a CUDA graph can be captured
    around them.
    """
    words, pixels, tiles = camera_words(cameras)
    sizes = tuple((camera.height, camera.width) for camera in cameras)
    return Views(_upload(words, torch.device(device)), sizes, pixels, tiles)


def _upload(words: bytes, device: torch.device) -> Tensor:
    """Copy packed cameras to a device, through a cache; only the stream waits for a copy."""
    key = words, device
    cached = _CAMERA_CACHE.pop(key, None)
    if cached is None:
        host = torch.frombuffer(bytearray(words), dtype=torch.int32) if words else torch.zeros(0)
        # From pageable memory: read before the call returns.
        packed = host.to(torch.int32).to(device, non_blocking=True).view(-1, CAMERA.size // 4)
        event = torch.cuda.current_stream(device).record_event() if packed.is_cuda else None
        cached = packed, event
        if len(_CAMERA_CACHE) >= _MAX_CACHED_CAMERAS:
            _CAMERA_CACHE.popitem(last=False)
    _CAMERA_CACHE[key] = cached
    packed, event = cached
    if event is not None and torch.cuda.is_current_stream_capturing():
        _PINNED.append(packed)  # the graph holds its address alone
    elif event is not None:
        event.wait(torch.cuda.current_stream(device))  # another stream may have copied it
    return packed


_MAX_CACHED_CAMERAS: Final = 512
_CAMERA_CACHE: Final[OrderedDict[tuple[bytes, torch.device], tuple[Tensor, Any]]] = OrderedDict()
_PINNED: Final[list[Tensor]] = []
"""Small tensors that are never freed, since kernels may use them after their last reference."""


class Capacity(NamedTuple):
    """Sizes of the tile bins and of the overflow buffer."""

    bin_entries: int
    """Entries of each tile bin."""
    overflow_units: int
    """Units of the overflow buffer."""

    def covers(self, other: "Capacity") -> bool:
        """Test that neither size is below the other's."""
        return self.bin_entries >= other.bin_entries and self.overflow_units >= other.overflow_units


class CapacityPolicy:
    """Capacity for one stream of calls, by the demand of earlier ones.

    The kernels write the demand to host memory, which is read without waiting.
    """

    def __init__(self, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.demand = torch.zeros(2, dtype=torch.int32, pin_memory=pinned)
        """Maxima over frames: entries of a bin that overflowed, units that did not fit."""
        _PINNED.append(self.demand)
        self._demand = self.demand.numpy()
        self.capacity = Capacity(INITIAL_CAPACITY, MIN_OVERFLOW_UNITS)

    def capacity_for(self, tiles: int, gaussians: int, entry_bytes: int = ENTRY_BYTES) -> Capacity:
        """Choose the capacity of a call, within the bounds on memory."""
        entries, units = self._demand.tolist()
        capacity = self.capacity
        if entries > capacity.bin_entries or units > capacity.overflow_units:
            self.capacity = Capacity(
                min(max(capacity.bin_entries, _power_of_two(entries)), MAX_CAPACITY),
                max(capacity.overflow_units, _power_of_two(units)),
            )
        max_entries = MAX_BIN_BYTES // (entry_bytes * max(tiles, 1))
        max_units = MAX_OVERFLOW_BYTES // (ENTRY_BYTES * OVERFLOW_UNIT)
        min_units = OVERFLOW_PER_GAUSSIAN * gaussians // OVERFLOW_UNIT
        return Capacity(
            max(min(self.capacity.bin_entries, max_entries), 1),
            min(max(self.capacity.overflow_units, min_units), max_units),
        )


def _power_of_two(count: int) -> int:
    """Round up to a power of two."""
    return 1 << max(count - 1, 0).bit_length()


@functools.cache
def shared_policy(device: torch.device) -> CapacityPolicy:
    """Return the policy of a device's calls with gradients."""
    return CapacityPolicy(device)


class TileBins:
    """Tile bins, overflow buffer and projected Gaussians of a call; reused by later ones.

    for_backward: with the sorted indices that the backward pass reads.
    """

    def __init__(
        self,
        views: Views,
        count: int,
        policy: CapacityPolicy,
        device: torch.device,
        for_backward: bool = False,
    ) -> None:
        entry_bytes = ENTRY_BYTES + 4 * for_backward
        self.capacity = policy.capacity_for(views.tiles, len(views) * count, entry_bytes)
        self.demand = policy.demand
        self.key = len(views), views.tiles, count
        self.projected = torch.empty((len(views), count, PROJECTED_FLOATS), device=device)
        words = HEADER_WORDS + TILE_WORDS * views.tiles
        self.state = torch.zeros(words, dtype=torch.int32, device=device)
        shape = (views.tiles, self.capacity.bin_entries)
        self.entries = torch.empty((*shape, 2), dtype=torch.int32, device=device)
        overflow_shape = (self.capacity.overflow_units, OVERFLOW_UNIT, 2)
        self.overflow = torch.empty(overflow_shape, dtype=torch.int32, device=device)
        self.sorted_ids: Tensor | None = None
        if for_backward:
            self.sorted_ids = torch.empty(shape, dtype=torch.int32, device=device)


@dataclass(frozen=True)
class ImageBatch:
    """Images of all views, one after the other; those of a single view in its shape."""

    rgb: Float[Tensor, "*P 3"]
    alpha: Float[Tensor, "*P"]
    depth: Float[Tensor, "*P"]


Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""means, quats, scales, opacities, sh: float32, contiguous."""


def binning_grid(count: int) -> tuple[int, int, int]:
    """Choose the launch of the binning: blocks, threads a block, Gaussians a block."""
    threads, group = (BIN_THREADS, 32) if count <= SMALL_COUNT else (BIN_THREADS // 2, MAX_GROUP)
    return -(-count // group), threads, group


@functools.cache
def resident_blocks(device: torch.device) -> int:
    """Count the blocks of `blend` that run at once on a device."""
    if device.type != "cuda":
        return 2
    return RESIDENT * torch.cuda.get_device_properties(device).multi_processor_count


def project(parts: Parts, views: Views, bins: TileBins) -> None:
    """Project the Gaussians and fill the bins."""
    means, sh = parts[0], parts[4]
    blocks, threads, group = binning_grid(len(means))
    FORWARD.launch(
        "project_gaussians", (blocks, len(views)), threads,
        len(means), group, sh.shape[1], *parts, views.packed, bins.capacity.bin_entries,
        bins.projected, views.tiles, bins.state, bins.entries,
    )  # fmt: skip


def blend(
    views: Views,
    bins: TileBins,
    background: Tensor | None,
    batch: ImageBatch | None = None,
    rgba8: Tensor | None = None,
    last: Tensor | None = None,
    rounding: float = 0.5,
) -> None:
    """Blend the bins to images, as floats or bytes; `last` keeps them for a backward pass."""
    floats = (None, None, None)
    if batch is not None:
        floats = (batch.rgb, batch.alpha, batch.depth)
    count = bins.projected.shape[1]
    blocks = min(resident_blocks(bins.projected.device), views.tiles)
    FORWARD.launch(
        "sort_overflow", -(-blocks // RESIDENT), SORT_THREADS,
        count, views.packed, bins.projected, views.tiles, bins.state, bins.overflow,
        bins.capacity.overflow_units, bins.demand,
    )  # fmt: skip
    FORWARD.launch(
        "blend", blocks, TILE_THREADS,
        count, len(views), views.packed, bins.projected, bins.capacity.bin_entries,
        views.tiles, bins.state, bins.entries, bins.overflow, bins.sorted_ids, background, rounding,
        rgba8, *floats, last,
    )  # fmt: skip


class Splatter:
    """Rasterizer without gradients for one stream of frames, in memory that is reused.

    Nothing waits for the GPU. A frame of the last one's size allocates only its images.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = with_index(torch.device(device))
        self._turn = threading.Lock()
        self._policy = CapacityPolicy(self.device)
        self._bins: TileBins | None = None

    def reserve_bins(self, views: Views, count: int) -> TileBins:
        """Return the bins for a frame: the last frame's if they fit."""
        key = len(views), views.tiles, count
        capacity = self._policy.capacity_for(views.tiles, len(views) * count)
        bins = self._bins
        if bins is None or bins.key != key or not bins.capacity.covers(capacity):
            self._bins = bins = None  # freed before the next allocation
            bins = self._bins = TileBins(views, count, self._policy, self.device)
        return bins

    @torch.no_grad()
    def draw(
        self,
        gaussians: Gaussians,
        cameras: Sequence[Camera],
        background: Float[Tensor, "3"] | None = None,
        output: Literal["float", "rgba8"] = "float",
        rounding: float = 0.5,
    ) -> list[Image] | list[Tensor]:
        """Render one image a camera, as `Image` or as uint8 [h, w, 4].

        Bytes are premultiplied colours (value x 255 + rounding, truncated) and coverage as alpha.
        """
        with self._turn, _on(self.device):  # frames of several threads in turn
            views = pack_cameras(cameras, self.device)
            parts = _parts(gaussians, self.device)
            background = _background(background, self.device)
            if output == "float" or views.pixels == 0:
                batch = empty_batch(views, self.device)
                if views.pixels > 0:
                    self._launch(parts, views, background, batch)
                return split_batch(batch, views)
            rgba8 = torch.empty((views.pixels, 4), dtype=torch.uint8, device=self.device)
            self._launch(parts, views, background, None, rgba8, rounding)
            return [
                part.view(*size, 4)
                for part, size in zip(_split_pixels(rgba8, views), views.sizes, strict=True)
            ]

    def _launch(
        self,
        parts: Parts,
        views: Views,
        background: Tensor | None,
        batch: ImageBatch | None,
        rgba8: Tensor | None = None,
        rounding: float = 0.5,
    ) -> None:
        bins = self.reserve_bins(views, len(parts[0]))
        self._bins = None  # their state is undefined after an exception
        project(parts, views, bins)
        blend(views, bins, background, batch, rgba8, rounding=rounding)
        self._bins = bins


@functools.cache
def _splatter(device: torch.device, stream: int) -> Splatter:
    return Splatter(device)


class _Rasterize(torch.autograd.Function):
    """Differentiable rasterization of all views at once: rgb, alpha and depth of each in turn."""

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
    ) -> tuple[Tensor, ...]:
        device = means.device
        parts = _parts(Gaussians(means, quats, scales, opacities, sh), device)
        bins = TileBins(views, len(means), shared_policy(device), device, for_backward=True)
        batch = empty_batch(views, device)
        last = torch.empty(views.pixels, dtype=torch.int32, device=device)
        project(parts, views, bins)
        blend(views, bins, background, batch, last=last)
        bins.entries = bins.entries[:0]  # the backward pass reads the sorted indices
        ctx.views, ctx.bins = views, bins
        ctx.types = [part.dtype for part in (means, quats, scales, opacities, sh)]
        ctx.save_for_backward(*parts, batch.rgb, batch.alpha, batch.depth, last)
        ctx.set_materialize_grads(False)
        images = split_batch(batch, views)
        return tuple(part for image in images for part in (image.rgb, image.alpha, image.depth))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *parts, rgb, alpha, depth, last = ctx.saved_tensors
        views, bins, count = ctx.views, ctx.bins, len(parts[0])
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        program = DETERMINISTIC_BACKWARD if is_deterministic else BACKWARD
        kind = torch.int64 if is_deterministic else torch.float32
        upstream = [_joined(gradients[part::3], views) for part in range(3)]
        unit = None
        present = [part for part in upstream if part is not None]
        if is_deterministic and present:
            # Fixed point needs numbers of about one.
            maxima = torch.stack([part.abs().amax() for part in present])
            unit = maxima.amax().clamp_min(torch.finfo(torch.float32).tiny)
            upstream = [None if part is None else part / unit for part in upstream]
        with _on(rgb.device):
            sums = torch.zeros((len(views), count, SUMS), dtype=kind, device=rgb.device)
            program.launch(
                "blend_backward", min(resident_blocks(rgb.device), views.tiles), TILE_THREADS,
                count, views.packed, bins.projected, bins.capacity.bin_entries, views.tiles,
                bins.state, bins.sorted_ids, bins.overflow, rgb, alpha, depth, last, *upstream,
                sums,
            )  # fmt: skip
            out = [torch.empty_like(part) for part in parts]
            program.launch(
                f"project_backward_{parts[4].shape[1]}", -(-count // BACKWARD_THREADS),
                BACKWARD_THREADS, count, len(views), *parts, views.packed, bins.projected, sums,
                *out,
            )  # fmt: skip
        if unit is not None:
            out = [part * unit for part in out]
        typed = (part.to(kind) for part, kind in zip(out, ctx.types, strict=True))
        return (*typed, None, None)


def _joined(gradients: Sequence[Tensor | None], views: Views) -> Tensor | None:
    """Concatenate the gradients of rgb, alpha or depth of all views; None where all are zero."""
    example = next((gradient for gradient in gradients if gradient is not None), None)
    if example is None or len(gradients) == 1:
        return None if example is None else example.float().contiguous()
    channels = example.shape[2:]
    parts = [
        example.new_zeros((height * width, *channels))
        if gradient is None
        else gradient.reshape(-1, *channels)
        for gradient, (height, width) in zip(gradients, views.sizes, strict=True)
    ]
    return torch.cat(parts).float()


def render(
    gaussians: Gaussians, cameras: Sequence[Camera], background: Float[Tensor, "3"] | None
) -> list[Image]:
    """Render one image a camera. `rasterize` has checked the arguments."""
    device = gaussians.means.device
    parts = (
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh
    )  # fmt: skip
    with _on(device):
        if not (torch.is_grad_enabled() and any(part.requires_grad for part in parts)):
            splatter = _splatter(device, 0)
            if device.type == "cuda":
                # A captured graph gets bins of its own, in its own memory.
                capturing = torch.cuda.is_current_stream_capturing()
                stream = torch.cuda.current_stream(device).cuda_stream
                splatter = Splatter(device) if capturing else _splatter(device, stream)
            return splatter.draw(gaussians, cameras, background)  # type: ignore[return-value]
        return render_views(gaussians, pack_cameras(cameras, device), background)


def render_views(
    gaussians: Gaussians, views: Views, background: Float[Tensor, "3"] | None = None
) -> list[Image]:
    """Render with gradients, by cameras on the device: a graph reads what is written there."""
    background = _background(background, gaussians.means.device)
    outputs: Any = _Rasterize.apply(*vars(gaussians).values(), views, background)
    return [Image(*outputs[first : first + 3]) for first in range(0, len(outputs), 3)]


def capacity_with_gradients(views: Views, count: int, device: torch.device) -> Capacity:
    """Return the capacity of the next call with gradients."""
    return shared_policy(device).capacity_for(views.tiles, len(views) * count, ENTRY_BYTES + 4)


def _parts(gaussians: Gaussians, device: torch.device) -> Parts:
    means, quats, scales, opacities, sh = (
        part.detach().to(device, torch.float32).contiguous()
        for part in (
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh
        )
    )  # fmt: skip
    if quats.data_ptr() % 16:  # the kernels read float4
        quats = quats.clone()
    return means, quats, scales, opacities, sh


def _background(background: Tensor | None, device: torch.device) -> Tensor | None:
    return (
        None
        if background is None
        else background.detach().float().to(device, non_blocking=True).contiguous()
    )


def empty_batch(views: Views, device: torch.device) -> ImageBatch:
    shape = views.sizes[0] if len(views) == 1 else (views.pixels,)
    return ImageBatch(
        torch.empty((*shape, 3), device=device),
        torch.empty(shape, device=device),
        torch.empty(shape, device=device),
    )


def _split_pixels(values: Tensor, views: Views) -> tuple[Tensor, ...]:
    return values.split([height * width for height, width in views.sizes])


def split_batch(batch: ImageBatch, views: Views) -> list[Image]:
    if len(views) == 1:
        return [Image(batch.rgb, batch.alpha, batch.depth)]
    parts = (_split_pixels(part, views) for part in (batch.rgb, batch.alpha, batch.depth))
    return [
        Image(rgb.view(*size, 3), alpha.view(size), depth.view(size))
        for size, rgb, alpha, depth in zip(views.sizes, *parts, strict=True)
    ]


def _on(device: torch.device) -> Any:
    """Make a device current; nothing for the CPU, where kernels run in tests."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)
