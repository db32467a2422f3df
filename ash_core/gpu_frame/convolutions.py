"""A convolution with all that follows it in one launch, on tensor cores (kernels/convolve.cu).

For maps small enough that launches cost more than arithmetic: our decoder's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from ash_core.gpu.kernels import Program

KERNELS = Path(__file__).parent / "kernels"

PACK: Final = 8
"""Channels that a thread reads at once."""
CHUNK: Final = 16
"""Input channels of one step."""
THREADS: Final = 128
TILE_WIDTH: Final = 8
TILES: Final = {
    (3, 1): {
        (128, 64): 2,
        (128, 48): 2,
        (128, 32): 3,
        (64, 64): 2,
        (64, 48): 2,
        (64, 32): 3,
        (64, 16): 4,
    },
    (3, 2): {(64, 48): 2, (64, 32): 2, (64, 16): 3},
    (1, 1): {(128, 48): 4, (128, 32): 4},
}
"""(taps a side, stride): the (positions, outputs) that a block can make, and the chunks that then
have room in its shared memory.
"""
MULTIPROCESSORS: Final = 132
"""Of a large device."""

PROGRAMS = {
    (taps, stride, *tile): Program(
        KERNELS / "packs.cu",
        KERNELS / "convolve.cu",
        defines={
            "THREADS": THREADS,
            "TILE_WIDTH": TILE_WIDTH,
            "CHUNK": CHUNK,
            "KERNEL": taps,
            "STRIDE": stride,
            "POSITIONS": tile[0],
            "N": tile[1],
            "STAGES": stages,
        },
    )
    for (taps, stride), tiles in TILES.items()
    for tile, stages in tiles.items()
}
"""Compiled at first use, each for itself: a decoder needs four or five of them."""


@dataclass(frozen=True)
class Convolution:
    """Convolution, bias and leaky ReLU of one square map, into a buffer of its own."""

    program: tuple[int, int, int, int]
    """Its key in PROGRAMS."""
    grid: tuple[int, int]
    weight: Tensor
    """half [tiles of outputs, chunks, taps, N, 16]"""
    bias: Tensor
    side: int
    """Of the input."""
    channels: int
    slope: float
    out: Tensor
    """half [side / stride, side / stride, outputs]"""

    @staticmethod
    def of(
        layer: nn.Conv2d, side: int, slope: float, device: torch.device, lifted: bool = False
    ) -> "Convolution":
        """The layer on maps of a side; its outputs rounded up to whole packs, zero there.

        slope: of the leaky ReLU, 1 for none. lifted: no buffer, see `add_lifted`.
        """
        taps, stride = layer.kernel_size[0], layer.stride[0]
        outputs = -(-layer.out_channels // PACK) * PACK
        assert layer.in_channels % PACK == 0, layer
        assert layer.bias is not None
        bias = nn.functional.pad(layer.bias.detach(), (0, outputs - layer.out_channels))
        out_side = side // stride
        positions, width = _best_tile(taps, stride, out_side, outputs)
        tiles = _tiles(out_side, positions)
        out = (0, 0) if lifted else (out_side, out_side)
        return Convolution(
            program=(taps, stride, positions, width),
            grid=(-(-outputs // width), tiles),
            weight=pack_weight(layer.weight.detach(), width).to(device),
            bias=bias.to(device, torch.float32).clone(),
            side=side,
            channels=layer.in_channels,
            slope=slope,
            out=torch.empty(*out, outputs, dtype=torch.half, device=device),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """[h, w, c] -> [h', w', outputs], the same buffer every time."""
        self._launch(x, False, self.out)
        return self.out

    def add_lifted(self, x: Tensor, skip: Tensor) -> Tensor:
        """Add each value of the result to its 2x2 values of `skip`, in place."""
        self._launch(x, True, skip)
        return skip

    def load(self) -> None:
        """Compile: launches may then be captured."""
        PROGRAMS[self.program].load(self.bias.device)

    def _launch(self, x: Tensor, lifted: bool, out: Tensor) -> None:
        sizes = (self.side, self.channels, out.shape[-1], self.slope, int(lifted))
        arguments = (x, self.weight, self.bias, *sizes, out)
        PROGRAMS[self.program].launch("convolve", self.grid, THREADS, *arguments)


def pack_weight(weight: Tensor, width: int) -> Tensor:
    """[c_out, c_in, k, k] -> half [tiles of `width` outputs, chunks, taps, width, 16].

    The two halves of a row of 16 are swapped where bit 2 of the row's number within the chunk's
    taps is set: as the kernel wants them in shared memory.
    """
    c_out, c_in = weight.shape[:2]
    weight = nn.functional.pad(weight, (0, 0, 0, 0, 0, -c_in % CHUNK, 0, -c_out % width))
    weight = weight.unflatten(1, (-1, 2, PACK)).unflatten(0, (-1, width)).flatten(-2)
    packed = weight.permute(0, 2, 5, 1, 3, 4).contiguous()  # [tiles, chunks, taps, width, 2, 8]
    swapped = torch.arange(width) // 4 % 2 == 1
    packed[:, :, :, swapped] = packed[:, :, :, swapped].flip(-2)
    return packed.flatten(-2).half()


def _tiles(side: int, positions: int) -> int:
    height = positions // TILE_WIDTH
    return -(-side // height) * -(-side // TILE_WIDTH)


def _best_tile(taps: int, stride: int, side: int, outputs: int) -> tuple[int, int]:
    """The tile with which the busiest multiprocessor has the least to do.

    A step of 16 channels takes a warp one load for each 16 positions and each 16 outputs, and a
    product of twice a load's time for each pair of them; alone, a block waits half as long again.
    """

    def time(tile: tuple[int, int]) -> float:
        rows, columns = tile[0] // 64, tile[1] / 16
        blocks = _tiles(side, tile[0]) * -(-outputs // tile[1])
        step = max(rows + columns, 1.2 * rows * columns)
        return step * max(1.5, -(-blocks // MULTIPROCESSORS))

    return min(TILES[taps, stride], key=time)
