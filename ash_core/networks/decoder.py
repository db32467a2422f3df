"""Our decoder: one U-Net from a motion map to bounded residuals around the textured template.

Space-to-depth in, PixelShuffle out: the network works at half the atlas' resolution, at a seventh
of the cost of the two published U-Nets together. No normalisation layer, so that training and run
time are the same function. Each texel has a base of its own, to which the network adds, so that
convolutions need not learn what no pose changes. Both start at zero: an untrained avatar is its
texture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ash_core.errors import InputError

IN_CHANNELS = 18
GEOMETRY_CHANNELS = 10
"""Channels of offset 3, rotation 3, scale 3, opacity 1; then follow 3 K colour coefficients."""
DEPTH = 3
"""Halvings below the first level."""


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of a native avatar's decoder."""

    atlas: int
    """Texels along the atlas' side; a multiple of 16."""
    width: int
    """Channels of the first level; they double on the way down."""
    sh_degree: int
    """Degree of the colour: 0, 1 or 2."""
    offset_mm: int = 150
    """Farthest that a Gaussian lies from its texel along each axis, mm: a skirt's swing."""

    @property
    def out_channels(self) -> int:
        """Number of values predicted for each texel."""
        return GEOMETRY_CHANNELS + 3 * (self.sh_degree + 1) ** 2


PRESETS: dict[str, DecoderConfig] = {
    "cpu": DecoderConfig(atlas=128, width=16, sh_degree=1),
    "light": DecoderConfig(atlas=192, width=24, sh_degree=1),
    "balanced": DecoderConfig(atlas=256, width=32, sh_degree=1),
    "quality": DecoderConfig(atlas=512, width=48, sh_degree=2),
}


DEFAULT_PRESET: Final = "balanced"


def preset(name: str) -> DecoderConfig:
    """Look up a preset by its name."""
    if name not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def config_of(stored: Mapping[str, int], preset_name: str | None = None) -> DecoderConfig:
    """Choose the decoder of a native avatar: the named preset, else its stored settings.

    Without both it is the default preset.
    """
    if preset_name is not None or not stored:
        return preset(preset_name or DEFAULT_PRESET)
    return DecoderConfig(**stored)


def _conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.LeakyReLU(0.1, inplace=True))


class Decoder(nn.Module):
    """U-Net from a motion map [b, 18, r, r] to raw residuals [b, 10 + 3 K, r, r]."""

    base: Float[Tensor, "1 c4 h h"]
    """Residuals of all poses, before the PixelShuffle: h = r / 2."""
    dropout = 0.0
    """Share of each map's channels that is dropped at random, while gradients are computed."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        half, outputs = config.atlas // 2, 4 * config.out_channels
        self.base = nn.Parameter(torch.zeros(1, outputs, half, half))
        widths = [config.width * 2**level for level in range(DEPTH + 1)]
        self.stem = nn.Sequential(_conv(4 * IN_CHANNELS, widths[0]), _conv(widths[0], widths[0]))
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Sequential(_conv(a, b, 2), _conv(b, b)) for a, b in pairs)
        self.lift = nn.ModuleList(_conv(b, a) for a, b in reversed(pairs))
        self.join = nn.ModuleList(_conv(a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(widths[0], outputs, 1)
        if self.base.is_meta:  # shapes alone: normal_ there imports torch's compiler, for a second
            return
        generator = torch.Generator().manual_seed(0)  # an untrained avatar is the same everywhere
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5, generator=generator)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.head.weight)

    def forward(self, motion_map: Float[Tensor, "b 18 r r"]) -> Float[Tensor, "b c r r"]:
        skips = [self._drop(self.stem(nn.functional.pixel_unshuffle(motion_map, 2)))]
        for down in self.down:
            skips.append(self._drop(down(skips[-1])))
        x = skips.pop()
        for lift, join in zip(self.lift, self.join, strict=True):
            x = nn.functional.interpolate(lift(x), scale_factor=2.0, mode="nearest")
            x = join(x + skips.pop())
        return nn.functional.pixel_shuffle(self.head(x) + self.base, 2)

    def _drop(self, x: Tensor) -> Tensor:
        if self.dropout and torch.is_grad_enabled():
            return nn.functional.dropout2d(x, self.dropout)
        return x
