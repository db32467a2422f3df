"""LPIPS: a learned distance of images, by weights that the user has. Nothing is downloaded.

Two kinds of weights. Files of the user: the backbone's as torchvision names them
(`features.0.weight`, AlexNet or VGG16) and the heads' as the authors of LPIPS do
(`lin0.model.1.weight`). Or the package stlpips_pytorch (BSD-2), which carries those of the
shift-tolerant LPIPS: an AlexNet whose every halving is a blur, so that a shift by a pixel counts
less. Sources: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric"; Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ash_core.errors import InputError
from ash_core.files.checkpoint import read_state
from ash_core.install import install_command

MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
"""Statistics of ImageNet's colours, which the backbones were trained on; LPIPS uses the same."""
SMALLEST: Final = 32
"""Sides below this vanish in the backbone."""
PACKAGE: Final = "stlpips_pytorch"
PACKAGED: Final = Path("weights", "vST0.0", "alex_shift_tolerant.pth")
"""Package with weights, and their place in it."""

Layer = (
    tuple[Literal["convolve"], str, int, tuple[int, int, int, int, int]]
    | tuple[Literal["pool"], int, int]
    | tuple[Literal["rectify", "compare", "blur"]]
)
"""Step of a backbone. convolve: name of the weights, number of the buffer, (channels in and out,
kernel, stride, padding). pool: kernel, stride. blur: halve by a filter of three taps."""


@dataclass(frozen=True)
class _Backbone:
    name: str
    layers: Sequence[Layer]

    def convolutions(self) -> Iterator[tuple[str, int, tuple[int, int, int, int, int]]]:
        """List (name of the weights, number of the buffer, shape)."""
        return ((part[1], part[2], part[3]) for part in self.layers if part[0] == "convolve")

    @property
    def widths(self) -> list[int]:
        """Channels of the compared outputs."""
        widths, channels = [], 3
        for layer in self.layers:
            if layer[0] == "convolve":
                channels = layer[3][1]
            elif layer[0] == "compare":
                widths.append(channels)
        return widths


_VGG_PLAN: Final = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


def _vgg16() -> _Backbone:
    layers: list[Layer] = []
    channels, number = 3, 0
    for width in _VGG_PLAN:
        if width == 0:
            layers.append(("compare",))
            layers.append(("pool", 2, 2))
            number += 1
        else:
            shape = (channels, width, 3, 1, 1)
            layers.append(("convolve", f"features.{number}", number, shape))
            layers.append(("rectify",))
            channels, number = width, number + 2
    return _Backbone("vgg16", [*layers, ("compare",)])


_ALEX_SHAPES: Final = (
    (3, 64, 11, 4, 2),
    (64, 192, 5, 1, 2),
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
)


def _alexnet() -> _Backbone:
    layers: list[Layer] = []
    for number, shape, pools in zip((0, 3, 6, 8, 10), _ALEX_SHAPES, (0, 1, 1, 0, 0), strict=True):
        if pools:
            layers.append(("pool", 3, 2))
        layers.append(("convolve", f"features.{number}", number, shape))
        layers.extend([("rectify",), ("compare",)])
    return _Backbone("alexnet", layers)


def _shift_tolerant() -> _Backbone:
    names = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
    layers: list[Layer] = []
    for number, (name, shape) in enumerate(zip(names, _ALEX_SHAPES, strict=True)):
        if number in (1, 2):
            layers.append(("pool", 3, 1))
            layers.append(("blur",))
        # The first convolution's stride of four becomes two blurs, its own and the pool's.
        layers.append(("convolve", f"net.{name}", number, (*shape[:3], 1, shape[4])))
        if number == 0:
            layers.append(("blur",))
        layers.extend([("rectify",), ("compare",)])
    return _Backbone("ST-LPIPS", layers)


_BACKBONES: Final = (_alexnet, _vgg16, _shift_tolerant)


def packaged_weights() -> tuple[Path, ...]:
    """Find the weights that an installed package carries; its code is never run."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return ()
    path = Path(spec.submodule_search_locations[0]) / PACKAGED
    return (path,) if path.is_file() else ()


def open_lpips(files: Sequence[Path]) -> "Lpips | None":
    """Read the distance of some files, or else the package's; None without either."""
    files = tuple(files) or packaged_weights()
    return Lpips(files) if files else None


def how_to_measure() -> str:
    """Tell what gives a perceptual number where there is none."""
    return f"LPIPS is missing: {install_command('perceptual')} brings weights; or --lpips-weights"


class Lpips(nn.Module):
    """Distance of two images; smaller is closer."""

    def __init__(self, files: Sequence[Path]) -> None:
        """files: the backbone's weights and the heads', in any order, or one file with both."""
        super().__init__()
        weights: dict[str, Tensor] = {}
        for path in files:
            weights |= read_state(path)
        where = ", ".join(map(str, files))
        plans = (make() for make in _BACKBONES)
        self.plan = next((p for p in plans if _fits(p, weights)), None) or _refuse(where)
        self.name = self.plan.name
        for key, number, _ in self.plan.convolutions():
            for kind in ("weight", "bias"):
                self.register_buffer(f"{kind}_{number}", weights[f"{key}.{kind}"].float())
        for index, width in enumerate(self.plan.widths):
            head = weights.get(f"lin{index}.model.1.weight")
            head_shape = (1, width, 1, 1)
            if head is None or tuple(head.shape) != head_shape:
                actual_shape = "none" if head is None else list(head.shape)
                text = f"expected lin{index}.model.1.weight {list(head_shape)}, got {actual_shape}"
                raise InputError(f"{where}: {text}")
            self.register_buffer(f"head_{index}", head.float())
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1))
        taps = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("taps", taps[:, None] * taps)

    def features(self, pictures: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The compared layers' outputs, each pixel's of length one."""
        x = (pictures - self.mean) / self.deviation  # type: ignore[operator]
        outputs = []
        for layer in self.plan.layers:
            if layer[0] == "convolve":
                _, _, number, (*_, stride, padding) = layer
                weight, bias = getattr(self, f"weight_{number}"), getattr(self, f"bias_{number}")
                x = nn.functional.conv2d(x, weight, bias, stride, padding)
            elif layer[0] == "pool":
                x = nn.functional.max_pool2d(x, layer[1], layer[2])
            elif layer[0] == "rectify":
                x = x.relu()
            elif layer[0] == "blur":
                x = self._halved(x)
            else:
                outputs.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return outputs

    def _halved(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Blur and halve; two reflected pixels on each side, as these weights were trained."""
        taps = self.taps.expand(x.shape[1], 1, 3, 3)  # type: ignore[operator]
        padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
        return nn.functional.conv2d(padded, taps, stride=2, groups=x.shape[1])

    def distances(
        self, render: Float[Tensor, "b h w 3"], truth: Float[Tensor, "b h w 3"]
    ) -> Float[Tensor, "b"]:
        """Compare several images with colours in [0, 1]; differentiable in both."""
        a, b = (self.features(_large(part.movedim(-1, 1))) for part in (render, truth))
        parts = [
            nn.functional.conv2d((x - y).square(), getattr(self, f"head_{index}")).mean((1, 2, 3))
            for index, (x, y) in enumerate(zip(a, b, strict=True))
        ]
        return torch.stack(parts).sum(0)

    def forward(
        self, render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"]
    ) -> Float[Tensor, ""]:
        """Compare one pair of images."""
        return self.distances(render[None], truth[None])[0]


def _large(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Small pictures stand on white: the backbone needs some pixels."""
    down, right = (max(SMALLEST - side, 0) for side in pictures.shape[-2:])
    return nn.functional.pad(pictures, (0, right, 0, down), value=1.0)


def _fits(plan: _Backbone, weights: Mapping[str, Tensor]) -> bool:
    return all(
        f"{key}.weight" in weights
        and tuple(weights[f"{key}.weight"].shape) == (c_out, c_in, kernel, kernel)
        and tuple(weights.get(f"{key}.bias", torch.empty(0)).shape) == (c_out,)
        for key, _, (c_in, c_out, kernel, _, _) in plan.convolutions()
    )


def _refuse(where: str) -> _Backbone:
    raise InputError(
        f"{where}: expected the weights of torchvision's alexnet or vgg16 (features.0.weight ...) "
        "and LPIPS' heads (lin0.model.1.weight ...)"
    )
