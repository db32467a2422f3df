"""The two published U-Nets, with their parameters' names and shapes: motion map -> texel values.

`geometry`: 18 -> 11 channels (log-scales 3, quaternion 4, opacity logit 1, canonical offset 3).
`appearance`: 18 -> 48 (SH coefficients) with the root's position mixed in at the bottleneck.
Source: docs/released_behaviour.md A1, A16, A17, A21; Ronneberger et al. 2015.
"""

import functools
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Kind = Literal["geometry", "appearance"]
IN_CHANNELS = 18
OUT_CHANNELS: dict[Kind, int] = {"geometry": 11, "appearance": 48}
FREQUENCIES = 6
CODE = 16


class _FrameNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the frame itself, empty texels included.

    The release never leaves training mode, so its images come from these and not from the running
    statistics of the checkpoint. `running` uses the latter, for comparison.
    Source: docs/released_behaviour.md A1.
    """

    running = False

    def forward(self, input: Tensor) -> Tensor:
        batch = False
        if self.running:
            mean, var = self.running_mean, self.running_var
        elif input.is_cuda or input.requires_grad:  # given statistics have no gradient
            mean, var, batch = None, None, True
        else:
            mean, var = _frame_statistics(input)
        return nn.functional.batch_norm(
            input, mean, var, self.weight, self.bias, batch, 0.0, self.eps
        )


def _frame_statistics(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Compute mean and variance per channel, whatever the memory layout.

    Rows are summed in the input's precision and combined in float64. Torch's own sums over a
    channels-last map of 256 x 256 put the output off by 1e-3, over one in NCHW by 2e-5.
    """
    row_var, row_mean = torch.var_mean(x, 3, correction=0)
    between_rows, mean = torch.var_mean(row_mean.double(), (0, 2), correction=0)
    var = row_var.double().mean((0, 2)) + between_rows
    return mean.to(x.dtype), var.to(x.dtype)


class _DoubleConv(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
            _FrameNorm(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            _FrameNorm(c_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class _Down(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _DoubleConv(c_in, c_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class _Up(nn.Module):
    """Up block: upsample, concatenate the skip connection in front, convolve."""

    def __init__(self, c_below: int, c_skip: int, c_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c_below, c_below // 2, 2, stride=2)
        self.conv = _DoubleConv(c_skip + c_below // 2, c_out)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat((skip, self.up(below)), 1))


class _Out(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Mlp(nn.Module):
    """Network from the embedded root position to the 16-channel code."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3 * (1 + 2 * FREQUENCIES), 64, 32, CODE)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def embed(x: Float[Tensor, "b 3"]) -> Float[Tensor, "b 39"]:
    """Embed x as [x, sin x, cos x, sin 2x, cos 2x, ... sin 32x, cos 32x].

    Source: docs/released_behaviour.md A21.
    """
    parts = [x]
    for k in range(FREQUENCIES):
        parts += [torch.sin(2.0**k * x), torch.cos(2.0**k * x)]
    return torch.cat(parts, -1)


class UNet(nn.Module):
    """A published U-Net on a square map whose side is a multiple of 16."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        code = CODE if kind == "appearance" else 0
        if code:
            self.mlp = _Mlp()
        self.inc = _DoubleConv(IN_CHANNELS, 64)
        self.down1, self.down2 = _Down(64, 128), _Down(128, 256)
        self.down3, self.down4 = _Down(256, 512), _Down(512, 1024)
        self.up1 = _Up(1024 + code, 512, 512)
        self.up2, self.up3, self.up4 = _Up(512, 256, 256), _Up(256, 128, 128), _Up(128, 64, 64)
        self.outc = _Out(64, OUT_CHANNELS[kind])

    def use_running_statistics(self, on: bool) -> None:
        """Normalise by the checkpoint's running statistics instead of the frame's own."""
        for module in self.modules():
            if isinstance(module, _FrameNorm):
                module.running = on

    def forward(
        self, motion_map: Float[Tensor, "b 18 r r"], root: Float[Tensor, "b 3"] | None = None
    ) -> Float[Tensor, "b c r r"]:
        """Compute raw texel values from a motion map (m, unit normals) and a root position, m."""
        x1 = self.inc(motion_map)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x5 = self.down4(x4)
        if root is not None:
            code = self.mlp(embed(root))
            x5 = torch.cat((x5, code[..., None, None].expand(-1, -1, *x5.shape[-2:])), 1)
        y = self.up1(x5, x4)
        return self.outc(self.up4(self.up3(self.up2(y, x3), x2), x1))


@functools.cache
def expected_shapes(kind: Kind) -> Mapping[str, tuple[int, ...]]:
    """List names and shapes of the published state dictionary."""
    with torch.device("meta"):
        state = UNet(kind).state_dict()
    return MappingProxyType({key: tuple(tensor.shape) for key, tensor in state.items()})
