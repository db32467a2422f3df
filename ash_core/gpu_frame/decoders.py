"""Both variants' networks in half precision, as chains that a CUDA graph can capture.

Weights are converted once; statistics and sums stay float32. The published networks' convolutions
are cuDNN's, and all that stands between them is ours (kernels/decoders.cu), in as few launches as
the mathematics allows; our decoder is small enough for convolutions of our own, one launch each.
`warm_up` must have run on the thread that captures: cuDNN times its candidates there.
Maps are half [height, width, channels] inside. Meaning: networks/unet.py and networks/decoder.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Final

import torch
from torch import Tensor, nn

from ash_core.gpu.kernels import Program
from ash_core.gpu_frame.convolutions import KERNELS, PACK, Convolution
from ash_core.networks.decoder import Decoder
from ash_core.networks.unet import CODE, OUT_CHANNELS, UNet

INPUT_CHANNELS: Final = 24
"""The published networks' 18, padded to whole packs."""
SHOWN: Final = 3
"""Channels of the appearance network's 48 that are shown: the colour.
Source: docs/released_behaviour.md A16."""
ROOT_SCALE: Final = 1 / 1.2
"""The appearance network sees root / 1.2 - root translation.
Source: docs/released_behaviour.md A17."""
LEAKY: Final = 0.1
LEVELS: Final = 4
"""Halvings of the published U-Nets."""

SUM_THREADS, POINT_THREADS = 512, 256
"""Threads a block: of sums over a map, of one thread a pack."""
SLAB_CHANNELS = 4 * PACK
"""Channels that one block of `normalize_large` normalises."""
ONE_BLOCK_QUADS = 1024
"""Maps of up to this many 2x2 quads are normalised in one launch."""
SUM_BLOCKS, NORM_BLOCKS = 128, 256
"""Blocks for a large map: one, and two, for each multiprocessor of a large device."""


PROGRAM = Program(
    KERNELS / "packs.cu",
    KERNELS / "decoders.cu",
    defines={
        "SUM_THREADS": SUM_THREADS,
        "POINT_THREADS": POINT_THREADS,
        "SLAB": SLAB_CHANNELS // PACK,
        "ONE_BLOCK_QUADS": ONE_BLOCK_QUADS,
    },
)


def supports_side(side: int) -> bool:
    """Whether the published networks run here on a map of this side: the lowest level must have
    whole 2x2 quads.
    """
    return side > 0 and side % 2 ** (LEVELS + 1) == 0


class ReleasedNetworks:
    """The two published U-Nets, side by side on two streams.

    motion_map: half [1, 24, r, r], channels last: the caller writes 18 channels, 6 stay zero.
    root: float32 [3], the newest root dofs, m.
    """

    def __init__(
        self,
        geometry: UNet,
        appearance: UNet,
        root_translation: Tensor,
        device: torch.device | str,
        side: int = 256,
        two_streams: bool = True,
        root: Tensor | None = None,
    ) -> None:
        """root: a buffer of the caller's to read it from."""
        assert supports_side(side), side
        self.device = device = torch.device(device)
        self.root = torch.zeros(3, device=device) if root is None else root
        self._map = _empty(side, side, INPUT_CHANNELS, device).zero_()
        self.motion_map = _channels_last(self._map)
        code = _Code(appearance, self.root, root_translation, device)
        self._geometry = _FastUNet(geometry, side, device)
        self._appearance = _FastUNet(appearance, side, device, code)
        beside = two_streams and device.type == "cuda"
        self._beside = torch.cuda.Stream(device) if beside else None

    def warm_up(self) -> None:
        """Compile, let cuDNN choose, allocate. Not inside a capture."""
        PROGRAM.load(self.device)
        self.run()

    @torch.no_grad()
    def run(self) -> tuple[Tensor, Tensor]:
        """Geometry [1, 16, r, r] (11 used) and appearance [1, 8, r, r] (3 used), half, channels
        last: the same two buffers every time.
        """
        with _benchmarked_convolutions():
            if self._beside is None:
                geometry, appearance = (
                    self._geometry.run(self._map),
                    self._appearance.run(self._map),
                )
            else:
                here = torch.cuda.current_stream(self.device)
                self._beside.wait_stream(here)
                geometry = self._geometry.run(self._map)
                with torch.cuda.stream(self._beside):
                    appearance = self._appearance.run(self._map)
                here.wait_stream(self._beside)
        return _channels_last(geometry), _channels_last(appearance)


class NativeNetwork:
    """Our decoder between pixel_unshuffle and pixel_shuffle.

    motion_map: half [1, 72, r / 2, r / 2], channels last. Channel c of texel (v, u) stands in
    channel 4 c + 2 (v % 2) + u % 2 of (v / 2, u / 2); likewise in the output and in `base`, which
    is to be added to it.
    """

    def __init__(self, decoder: Decoder, device: torch.device | str, atlas: int) -> None:
        self.device = device = torch.device(device)
        side = atlas // 2
        self._map = _empty(side, side, _convolutions(decoder.stem)[0].in_channels, device).zero_()
        self.motion_map = _channels_last(self._map)
        self._down: list[list[Convolution]] = []
        for part in (decoder.stem, *decoder.down):
            stage = []
            for layer in _convolutions(part):
                stage.append(Convolution.of(layer, side, LEAKY, device))
                side //= layer.stride[0]
            self._down.append(stage)
        self._up: list[tuple[Convolution, Convolution]] = []
        for lift, join in zip(*map(_convolutions, (decoder.lift, decoder.join)), strict=True):
            lifted = Convolution.of(lift, side, LEAKY, device, lifted=True)
            side *= 2
            self._up.append((lifted, Convolution.of(join, side, LEAKY, device)))
        self._head = Convolution.of(decoder.head, side, 1.0, device)
        outputs = decoder.base.shape[1]
        self.base = _empty(side, side, self._head.out.shape[-1], device).zero_()
        self.base[..., :outputs] = decoder.base.detach()[0].permute(1, 2, 0)

    def warm_up(self) -> None:
        """Compile. Not inside a capture."""
        for layer in chain(*self._down, *self._up, [self._head]):
            layer.load()
        self.run()

    @torch.no_grad()
    def run(self) -> Tensor:
        """Raw residuals without `base`, before pixel_shuffle, half [1, 4 c, r / 2, r / 2] with 4 c
        rounded up to a multiple of 8, channels last: the same buffer every time.
        """
        x, skips = self._map, []
        for stage in self._down:
            for layer in stage:
                x = layer(x)
            skips.append(x)
        skips.pop()
        for lift, join in self._up:
            x = join(lift.add_lifted(x, skips.pop()))
        return _channels_last(self._head(x))


class _FastUNet:
    """One published U-Net with its buffers."""

    def __init__(
        self, net: UNet, side: int, device: torch.device, code: "_Code | None" = None
    ) -> None:
        self._code = code
        downs = (net.inc, net.down1, net.down2, net.down3, net.down4)
        ups = (net.up1, net.up2, net.up3, net.up4)
        self._down = [_normed_layers(down, device) for down in downs]
        self._up = [_normed_layers(up.conv, device) for up in ups]
        self._raise = [_Raise.of(net.up1.up, device, code)]
        self._raise += [_Raise.of(up.up, device) for up in ups[1:]]
        self._head = _Head.of(net.outc.conv, device)
        self._joined: list[Tensor] = []
        self._pooled: list[Tensor] = []
        for (_, second), up in zip(self._down, reversed(self._raise), strict=False):
            width = len(second.scale)
            self._joined.append(_empty(side, side, width + up.channels, device))
            side //= 2
            self._pooled.append(_empty(side, side, width, device))
        height, breadth, _ = self._joined[0].shape
        self._out = _empty(height, breadth, self._head.weight.shape[1], device)
        widest = max(len(second.scale) for _, second in self._down)
        self._partial = torch.empty((2 * SUM_BLOCKS + 1) * widest, device=device)

    def run(self, x: Tensor) -> Tensor:
        """[r, r, 24] -> [r, r, 16 or 8]."""
        if self._code:
            self._code.run()
        for level, (first, second) in enumerate(self._down):
            x = _conv(x, first.weight)
            x = _conv(self._normalized(x, first), second.weight)
            if level < LEVELS:
                joined, pooled = self._joined[level], self._pooled[level]
                self._normalize(x, second, joined, pooled)
                x = pooled
            else:
                x = self._normalized(x, second)
        for up, (first, second), joined in zip(
            self._raise, self._up, reversed(self._joined), strict=True
        ):
            up(x, joined)
            x = _conv(joined, first.weight)
            x = _conv(self._normalized(x, first), second.weight)
            if joined is not self._joined[0]:
                x = self._normalized(x, second)
        return self._finish(x, self._up[-1][1])

    def _normalized(self, x: Tensor, layer: "_Normed") -> Tensor:
        """x, normalised in place."""
        self._normalize(x, layer, x)
        return x

    def _normalize(
        self, x: Tensor, layer: "_Normed", out: Tensor, pooled: Tensor | None = None
    ) -> None:
        """The norm and ReLU of x into the first channels of `out`; 2x2 maxima into `pooled`."""
        side, _, channels = x.shape
        quads = (side // 2) ** 2
        norm = (layer.scale, layer.bias, layer.eps)
        result = (side, channels, out, out.shape[-1], pooled)
        if quads <= ONE_BLOCK_QUADS:
            threads = -(-quads // 32) * 32
            PROGRAM.launch("normalize_small", channels // PACK, threads, x, *norm, *result)
            return
        parts = self._sums(x)
        slabs = channels // SLAB_CHANNELS
        each = SUM_THREADS * PACK // SLAB_CHANNELS
        grid = (max(1, min(-(-quads // each), NORM_BLOCKS // slabs)), slabs)
        arguments = (x, self._partial, parts, *norm, *result)
        PROGRAM.launch("normalize_large", grid, SUM_THREADS, *arguments)

    def _sums(self, x: Tensor) -> int:
        """Partial sums of x for its statistics; how many."""
        positions, channels = x.shape[0] * x.shape[1], x.shape[2]
        rows = SUM_THREADS * PACK // channels
        parts = min(SUM_BLOCKS, -(-positions // rows))
        arguments = (x, positions, channels, self._partial)
        PROGRAM.launch("channel_sums", parts, SUM_THREADS, *arguments)
        return parts

    def _finish(self, x: Tensor, layer: "_Normed") -> Tensor:
        positions, head = x.shape[0] * x.shape[1], self._head
        norm = (layer.scale, layer.bias, layer.eps)
        arguments = (x, self._partial, self._sums(x), *norm, positions, head.weight, head.bias)
        grid = -(-positions // SUM_THREADS)
        PROGRAM.launch(head.kernel, grid, SUM_THREADS, *arguments, self._out)
        return self._out


@dataclass(frozen=True)
class _Normed:
    """A published convolution and the norm after it."""

    weight: Tensor
    scale: Tensor
    bias: Tensor
    eps: float

    @staticmethod
    def of(layer: nn.Conv2d, norm: nn.BatchNorm2d, device: torch.device) -> "_Normed":
        weight = layer.weight.detach()
        weight = nn.functional.pad(weight, (0, 0, 0, 0, 0, -weight.shape[1] % PACK))
        return _Normed(
            _half_weight(weight, device),
            _float(norm.weight, device),
            _float(norm.bias, device),
            norm.eps,
        )


@dataclass(frozen=True)
class _Raise:
    """A transposed convolution of 2x2 and stride 2: each position makes four, without overlap.

    So it is a 1x1 convolution to four times the channels, whose output is then laid out.
    """

    weight: Tensor
    bias: Tensor
    """[4 (2 row + column) channels]"""

    @staticmethod
    def of(
        layer: nn.ConvTranspose2d, device: torch.device, code: "_Code | None" = None
    ) -> "_Raise":
        """The layer; a code's constant channels, its last inputs, act through the bias."""
        assert layer.bias is not None
        weight = _corner_weights(layer)
        if code:
            weight, bias = weight[:-CODE], code.bias
        else:
            bias = _float(layer.bias.repeat(4), device)
        return _Raise(_half_weight(weight.T[:, :, None, None], device), bias)

    @property
    def channels(self) -> int:
        """Channels that it makes."""
        return len(self.bias) // 4

    def __call__(self, x: Tensor, joined: Tensor) -> None:
        """Lay the layer's output of x [h, w, c] into the last channels of `joined`."""
        corners = _conv(x, self.weight)
        width = joined.shape[-1]
        PROGRAM.launch(
            "lay_corners",
            _blocks(corners.numel() // PACK),
            POINT_THREADS,
            corners,
            self.bias,
            x.shape[0],
            self.channels,
            joined,
            width,
            width - self.channels,
        )


class _Code:
    """The root's place, embedded, through its small network, as a bias of the first raise."""

    def __init__(
        self, net: UNet, root: Tensor, root_translation: Tensor, device: torch.device
    ) -> None:
        up = net.up1.up
        assert up.bias is not None
        self._layers = [
            _float(values, device)
            for layer in _linears(net.mlp)
            for values in (layer.weight.T, layer.bias)
        ]
        self._weight = _float(_corner_weights(up)[-CODE:], device)
        self._base = _float(up.bias.repeat(4), device)
        self._root, self._translation = root, _float(root_translation, device)
        self.bias = torch.empty_like(self._base)

    def run(self) -> None:
        """Renew the bias from the root."""
        fixed = (*self._layers, self._weight, self._base, len(self.bias))
        arguments = (self._root, ROOT_SCALE, self._translation, *fixed)
        PROGRAM.launch("code_bias", _blocks(len(self.bias)), POINT_THREADS, *arguments, self.bias)


@dataclass(frozen=True)
class _Head:
    """The last layer of a published network: what is shown of it."""

    kernel: str
    weight: Tensor
    """[64, 16 or 8]"""
    bias: Tensor

    @staticmethod
    def of(layer: nn.Conv2d, device: torch.device) -> "_Head":
        geometry = layer.out_channels == OUT_CHANNELS["geometry"]
        used = layer.out_channels if geometry else SHOWN
        spare = -used % PACK
        assert layer.bias is not None
        weight = nn.functional.pad(layer.weight[:used, :, 0, 0].T, (0, spare))
        bias = nn.functional.pad(layer.bias[:used], (0, spare))
        kernel = "head_geometry" if geometry else "head_appearance"
        return _Head(kernel, _float(weight, device), _float(bias, device))


def _conv(x: Tensor, weight: Tensor) -> Tensor:
    """Convolution of [h, w, c] by [c_out, c, k, k], padded to keep the size; without bias.

    Without a GPU, in float32 between half-precision maps: what a GPU's sums are.
    """
    padding = weight.shape[-1] // 2
    if x.is_cuda:
        y = nn.functional.conv2d(_channels_last(x), weight, padding=padding)
    else:
        y = nn.functional.conv2d(_channels_last(x).float(), weight.float(), padding=padding).half()
    return y.permute(0, 2, 3, 1)[0].contiguous()


@contextmanager
def _benchmarked_convolutions() -> Iterator[None]:
    """cuDNN times its candidates at a shape's first use; the same flags later find the choice."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=True
    ):
        yield


def _channels_last(x: Tensor) -> Tensor:
    """[h, w, c] as [1, c, h, w], the same memory."""
    return x[None].permute(0, 3, 1, 2)


def _empty(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    return torch.empty(height, width, channels, dtype=torch.half, device=device)


def _half_weight(weight: Tensor, device: torch.device) -> Tensor:
    weight = weight.detach().to(device, torch.half)
    return weight.contiguous(memory_format=torch.channels_last)


def _float(values: Tensor, device: torch.device) -> Tensor:
    return values.detach().to(device, torch.float32, copy=True).contiguous()


def _blocks(packs: int) -> int:
    return -(-packs // POINT_THREADS)


def _corner_weights(layer: nn.ConvTranspose2d) -> Tensor:
    """[c_in, 4 (2 row + column) c_out]."""
    return layer.weight.detach().permute(0, 2, 3, 1).flatten(1)


def _normed_layers(part: nn.Module, device: torch.device) -> list[_Normed]:
    norms = [module for module in part.modules() if isinstance(module, nn.BatchNorm2d)]
    pairs = zip(_convolutions(part), norms, strict=True)
    return [_Normed.of(layer, norm, device) for layer, norm in pairs]


def _convolutions(part: nn.Module) -> list[nn.Conv2d]:
    return [module for module in part.modules() if isinstance(module, nn.Conv2d)]


def _linears(part: nn.Module) -> list[nn.Linear]:
    return [module for module in part.modules() if isinstance(module, nn.Linear)]
