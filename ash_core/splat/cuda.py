"""The NVIDIA backend: our kernels (kernels/*.cu), forward and backward, never waiting for the GPU.

One frame is three launches: `project_gaussians` lays Gaussians into the lists of 8x8-pixel tiles,
`blend` sorts each list, as far as its pixels see, and blends it. Lists have a fixed capacity in
memory. A longer one is never cut: `sort_crowded`, in between, collects its Gaussians anew and sorts
them in an arena, slower, and the next call finds lists and arena grown.
Values that are not finite are not looked for, since that would wait; such Gaussians are not drawn.
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
FEW: Final = 65_536
"""Up to this many Gaussians more threads share the tiles of one."""
TILE_THREADS: Final = TILE * TILE
SORT_THREADS: Final = 512
"""Of a block that sorts one crowded tile."""
RESIDENT: Final = 10
"""Blocks of `blend` that a multiprocessor runs at once."""
CONTROL_WORDS, TILE_WORDS = 8, 8
"""Words of the tile state: its header, and one tile's entries."""
BIN_THREADS, MAX_GROUP = 256, 64
"""Threads and Gaussians of a block that fills the tile bins, at most."""
BACKWARD_THREADS: Final = 64
RECORD_FLOATS: Final = 12
"""Floats of a projected Gaussian: three float4."""
SUMS: Final = 12
"""Sums over pixels that a Gaussian's gradient is made of."""
SUM_SCALE: Final = 2.0**32
"""Fixed point of the deterministic backward pass: 2^-32 to 2^31."""
CAPACITY: Final = 512
"""Entries of a tile's list to begin with."""
LONGEST: Final = 2048
"""Entries that a list grows to; tiles with more are sorted in the arena."""
LIST_BYTES: Final = 1 << 30
"""All lists of a call stay under this."""
ENTRY_BYTES: Final = 8
ARENA_UNIT: Final = 64
"""Entries."""
ARENA: Final = 1 << 14
"""Units of the arena, at least."""
ARENA_EACH: Final = 8
"""Entries of the arena for each Gaussian, at least: three tiles may hold them all."""
ARENA_BYTES: Final = 1 << 30
"""The arena stays under this; tiles that it has no room for search all Gaussians, much slower."""

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
        "CONTROL_WORDS": CONTROL_WORDS,
        "RECORD": RECORD_FLOATS // 4,
        "BIN_THREADS": BIN_THREADS,
        "MAX_GROUP": MAX_GROUP,
        "SORT_THREADS": SORT_THREADS,
        "RESIDENT": RESIDENT,
        "ARENA_UNIT": ARENA_UNIT,
        "SUMS": SUMS,
        "BACKWARD_THREADS": BACKWARD_THREADS,
    }
    return sizes | numbers


def _program(*names: str, **defines: int | float) -> Program:
    sources = (KERNELS / f"{name}.cu" for name in names)
    return Program(*sources, defines=_constants() | defines)


FORWARD = _program("records", "bin", "project", "tile_list", "sort_crowded", "blend")
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

    def __len__(self) -> int:
        return len(self.sizes)


CAMERA: Final = struct.Struct("=18f6i")
"""struct Camera of records.cu."""


def camera_words(cameras: Sequence[Camera]) -> tuple[bytes, int, int]:
    """Cameras as the kernels want them, and how many pixels and tiles all have together.

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
    """Cameras on a device. Seen before, they are still there: a CUDA graph can be captured around
    them.
    """
    words, pixels, tiles = camera_words(cameras)
    sizes = tuple((camera.height, camera.width) for camera in cameras)
    return Views(_uploaded(words, torch.device(device)), sizes, pixels, tiles)


def _uploaded(words: bytes, device: torch.device) -> Tensor:
    """Cameras of before are found again; nothing waits for a new one but the stream."""
    key = words, device
    known = _UPLOADED.pop(key, None)
    if known is None:
        here = torch.frombuffer(bytearray(words), dtype=torch.int32) if words else torch.zeros(0)
        # From pageable memory: taken before the call returns.
        there = here.to(torch.int32).to(device, non_blocking=True).view(-1, CAMERA.size // 4)
        copied = torch.cuda.current_stream(device).record_event() if there.is_cuda else None
        known = there, copied
        if len(_UPLOADED) >= _MOST_UPLOADED:
            _UPLOADED.popitem(last=False)
    _UPLOADED[key] = known
    there, copied = known
    if copied is not None and torch.cuda.is_current_stream_capturing():
        _KEPT.append(there)  # the graph knows its address alone
    elif copied is not None:
        copied.wait(torch.cuda.current_stream(device))  # it may have been another stream's
    return there


_MOST_UPLOADED: Final = 512
_UPLOADED: Final[OrderedDict[tuple[bytes, torch.device], tuple[Tensor, Any]]] = OrderedDict()
_KEPT: Final[list[Tensor]] = []
"""Small tensors that kernels may still use when Python has forgotten them."""


class Room(NamedTuple):
    """How much memory lists have."""

    capacity: int
    """Entries of each list."""
    arena: int
    """Units of the arena."""

    def holds(self, other: "Room") -> bool:
        return self.capacity >= other.capacity and self.arena >= other.arena


class Growth:
    """How much memory one stream of calls gives its lists, by what earlier ones needed.

    The kernels write that where the host can read it without waiting.
    """

    def __init__(self, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.needed = torch.zeros(2, dtype=torch.int32, pin_memory=pinned)
        _KEPT.append(self.needed)
        """The longest list that did not fit, the units of the arena that a frame asked for."""
        self._needed = self.needed.numpy()
        self.room = Room(CAPACITY, ARENA)

    def room_for(self, tiles: int, gaussians: int, entry_bytes: int = ENTRY_BYTES) -> Room:
        """Room for a call, as far as memory should go."""
        longest, asked = self._needed.tolist()
        capacity, arena = self.room
        if longest > capacity or asked > arena:
            self.room = Room(
                min(max(capacity, _power_of_two(longest)), LONGEST),
                max(arena, _power_of_two(asked)),
            )
        most = LIST_BYTES // (entry_bytes * max(tiles, 1))
        arena = max(self.room.arena, ARENA_EACH * gaussians // ARENA_UNIT)
        arena = min(arena, ARENA_BYTES // (ENTRY_BYTES * ARENA_UNIT))
        return Room(max(min(self.room.capacity, most), 1), arena)


def _power_of_two(count: int) -> int:
    """The least that is not below."""
    return 1 << max(count - 1, 0).bit_length()


@functools.cache
def growth_of(device: torch.device) -> Growth:
    """The calls with gradients of a device."""
    return Growth(device)


class Lists:
    """The tiles' lists of one call, or of one call after the other on one stream.

    for_backward: with room for what the backward pass needs of them.
    """

    def __init__(
        self,
        views: Views,
        count: int,
        growth: Growth,
        device: torch.device,
        for_backward: bool = False,
    ) -> None:
        bytes_of_entry = ENTRY_BYTES + 4 * for_backward
        self.room = growth.room_for(views.tiles, len(views) * count, bytes_of_entry)
        self.needed = growth.needed
        self.key = len(views), views.tiles, count
        self.records = torch.empty((len(views), count, RECORD_FLOATS), device=device)
        words = CONTROL_WORDS + TILE_WORDS * views.tiles
        self.state = torch.zeros(words, dtype=torch.int32, device=device)
        shape = (views.tiles, self.room.capacity)
        self.entries = torch.empty((*shape, 2), dtype=torch.int32, device=device)
        shared = (self.room.arena, ARENA_UNIT, 2)
        self.arena = torch.empty(shared, dtype=torch.int32, device=device)
        self.ordered: Tensor | None = None
        if for_backward:
            self.ordered = torch.empty(shape, dtype=torch.int32, device=device)


@dataclass(frozen=True)
class Pictures:
    """The pictures of all views, one after the other; those of one view in its shape."""

    rgb: Float[Tensor, "*P 3"]
    alpha: Float[Tensor, "*P"]
    depth: Float[Tensor, "*P"]


Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""means, quats, scales, opacities, sh: float32, contiguous."""


def binning(count: int) -> tuple[int, int, int]:
    """How Gaussians are laid into lists: blocks, threads of one, Gaussians of one."""
    threads, group = (BIN_THREADS, 32) if count <= FEW else (BIN_THREADS // 2, MAX_GROUP)
    return -(-count // group), threads, group


@functools.cache
def resident_blocks(device: torch.device) -> int:
    """Blocks of `blend` that a device runs at once."""
    if device.type != "cuda":
        return 2
    return RESIDENT * torch.cuda.get_device_properties(device).multi_processor_count


def project(parts: Parts, views: Views, lists: Lists) -> None:
    """Fill the lists."""
    means, sh = parts[0], parts[4]
    blocks, threads, group = binning(len(means))
    FORWARD.launch(
        "project_gaussians", (blocks, len(views)), threads,
        len(means), group, sh.shape[1], *parts, views.packed, lists.room.capacity, lists.records,
        views.tiles, lists.state, lists.entries,
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
    """The lists to pictures, as floats or as bytes; with `last` they stay for a backward pass."""
    floats = (None, None, None)
    if pictures is not None:
        floats = (pictures.rgb, pictures.alpha, pictures.depth)
    count, blocks = lists.records.shape[1], min(resident_blocks(lists.records.device), views.tiles)
    FORWARD.launch(
        "sort_crowded", -(-blocks // RESIDENT), SORT_THREADS,
        count, views.packed, lists.records, views.tiles, lists.state, lists.arena,
        lists.room.arena, lists.needed,
    )  # fmt: skip
    FORWARD.launch(
        "blend", blocks, TILE_THREADS,
        count, len(views), views.packed, lists.records, lists.room.capacity,
        views.tiles, lists.state, lists.entries, lists.arena, lists.ordered, background, rounding,
        rgba8, *floats, last,
    )  # fmt: skip


class Splatter:
    """Draws without gradients, in memory that stays: for one stream of frames.

    Nothing waits for the GPU, and a frame of the size of the last one allocates only its picture.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = with_index(torch.device(device))
        self._turn = threading.Lock()
        self._growth = Growth(self.device)
        self._lists: Lists | None = None

    def lists(self, views: Views, count: int) -> Lists:
        """The lists for a frame: the last frame's if they fit."""
        key = len(views), views.tiles, count
        room = self._growth.room_for(views.tiles, len(views) * count)
        kept = self._lists
        if kept is None or kept.key != key or not kept.room.holds(room):
            self._lists = kept = None  # before the next are made
            kept = self._lists = Lists(views, count, self._growth, self.device)
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
        with self._turn, _on(self.device):  # one frame's launches after the other's
            views = pack_cameras(cameras, self.device)
            parts = _parts(gaussians, self.device)
            background = _background(background, self.device)
            if output == "float" or views.pixels == 0:
                pictures = empty_pictures(views, self.device)
                if views.pixels > 0:
                    self._launch(parts, views, background, pictures)
                return split_pictures(pictures, views)
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
        pictures: Pictures | None,
        rgba8: Tensor | None = None,
        rounding: float = 0.5,
    ) -> None:
        lists = self.lists(views, len(parts[0]))
        self._lists = None  # if this is broken off, they are of no use
        project(parts, views, lists)
        blend(views, lists, background, pictures, rgba8, rounding=rounding)
        self._lists = lists


@functools.cache
def _splatter(device: torch.device, stream: int) -> Splatter:
    return Splatter(device)


class _Rasterize(torch.autograd.Function):
    """Forward and backward for all views at once: rgb, alpha and depth of each, one after the
    other.
    """

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
        lists = Lists(views, len(means), growth_of(device), device, for_backward=True)
        pictures = empty_pictures(views, device)
        last = torch.empty(views.pixels, dtype=torch.int32, device=device)
        project(parts, views, lists)
        blend(views, lists, background, pictures, last=last)
        lists.entries = lists.entries[:0]  # the backward pass has them in order
        ctx.views, ctx.lists = views, lists
        ctx.types = [part.dtype for part in (means, quats, scales, opacities, sh)]
        ctx.save_for_backward(*parts, pictures.rgb, pictures.alpha, pictures.depth, last)
        ctx.set_materialize_grads(False)
        images = split_pictures(pictures, views)
        return tuple(part for image in images for part in (image.rgb, image.alpha, image.depth))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *parts, rgb, alpha, depth, last = ctx.saved_tensors
        views, lists, count = ctx.views, ctx.lists, len(parts[0])
        exact = torch.are_deterministic_algorithms_enabled()
        program = DETERMINISTIC_BACKWARD if exact else BACKWARD
        kind = torch.int64 if exact else torch.float32
        given = [_joined(gradients[part::3], views) for part in range(3)]
        unit = None
        if exact and (present := [part.abs().amax() for part in given if part is not None]):
            # Fixed point wants numbers of about one.
            unit = torch.stack(present).amax().clamp_min(torch.finfo(torch.float32).tiny)
            given = [None if part is None else part / unit for part in given]
        with _on(rgb.device):
            sums = torch.zeros((len(views), count, SUMS), dtype=kind, device=rgb.device)
            program.launch(
                "blend_backward", min(resident_blocks(rgb.device), views.tiles), TILE_THREADS,
                count, views.packed, lists.records, lists.room.capacity, views.tiles, lists.state,
                lists.ordered, lists.arena, rgb, alpha, depth, last, *given, sums,
            )  # fmt: skip
            out = [torch.empty_like(part) for part in parts]
            program.launch(
                f"project_backward_{parts[4].shape[1]}", -(-count // BACKWARD_THREADS),
                BACKWARD_THREADS, count, len(views), *parts, views.packed, lists.records, sums,
                *out,
            )  # fmt: skip
        if unit is not None:
            out = [part * unit for part in out]
        typed = (part.to(kind) for part, kind in zip(out, ctx.types, strict=True))
        return (*typed, None, None)


def _joined(gradients: Sequence[Tensor | None], views: Views) -> Tensor | None:
    """One of rgb, alpha and depth, of all views one after the other; None where all are zero."""
    some = next((gradient for gradient in gradients if gradient is not None), None)
    if some is None or len(gradients) == 1:
        return None if some is None else some.float().contiguous()
    rest = some.shape[2:]
    parts = [
        some.new_zeros((height * width, *rest)) if gradient is None else gradient.reshape(-1, *rest)
        for gradient, (height, width) in zip(gradients, views.sizes, strict=True)
    ]
    return torch.cat(parts).float()


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
            splatter = _splatter(device, 0)
            if device.type == "cuda":
                # A captured graph gets lists of its own, in its own memory.
                capturing = torch.cuda.is_current_stream_capturing()
                stream = torch.cuda.current_stream(device).cuda_stream
                splatter = Splatter(device) if capturing else _splatter(device, stream)
            return splatter.draw(gaussians, cameras, background)  # type: ignore[return-value]
        return render_views(gaussians, pack_cameras(cameras, device), background)


def render_views(
    gaussians: Gaussians, views: Views, background: Float[Tensor, "3"] | None = None
) -> list[Image]:
    """With gradients, of cameras that are on the device: a graph follows what is written there."""
    given = _background(background, gaussians.means.device)
    outputs: Any = _Rasterize.apply(*vars(gaussians).values(), views, given)
    return [Image(*outputs[first : first + 3]) for first in range(0, len(outputs), 3)]


def room_with_gradients(views: Views, count: int, device: torch.device) -> Room:
    """What a call with gradients would have now."""
    return growth_of(device).room_for(views.tiles, len(views) * count, ENTRY_BYTES + 4)


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
        None
        if background is None
        else background.detach().float().to(device, non_blocking=True).contiguous()
    )


def empty_pictures(views: Views, device: torch.device) -> Pictures:
    shape = views.sizes[0] if len(views) == 1 else (views.pixels,)
    return Pictures(
        torch.empty((*shape, 3), device=device),
        torch.empty(shape, device=device),
        torch.empty(shape, device=device),
    )


def _split_pixels(values: Tensor, views: Views) -> tuple[Tensor, ...]:
    return values.split([height * width for height, width in views.sizes])


def split_pictures(pictures: Pictures, views: Views) -> list[Image]:
    if len(views) == 1:
        return [Image(pictures.rgb, pictures.alpha, pictures.depth)]
    parts = (_split_pixels(part, views) for part in (pictures.rgb, pictures.alpha, pictures.depth))
    return [
        Image(rgb.view(*size, 3), alpha.view(size), depth.view(size))
        for size, rgb, alpha, depth in zip(views.sizes, *parts, strict=True)
    ]


def _on(device: torch.device) -> Any:
    """That device is current; nothing to do for tensors on the CPU (kernels run there in tests)."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)
