"""LPIPS from weights that the user has: a learned distance of pictures. Nothing is downloaded.

Two files: the backbone's weights as torchvision names them (`features.0.weight`, AlexNet or VGG16)
and the heads' as the authors of LPIPS do (`lin0.model.1.weight`). Source: Zhang et al. 2018.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ash_core.errors import InputError
from ash_core.files.checkpoint import read_state

MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
"""Statistics of ImageNet's colours, which the backbones were trained on; LPIPS uses the same."""
SMALLEST: Final = 32
"""Sides below this vanish in the backbone."""


@dataclass(frozen=True)
class _Backbone:
    """Layers by torchvision's numbers: convolutions (channels, kernel, stride, padding), pools."""

    name: str
    convolutions: Mapping[int, tuple[int, int, int, int, int]]
    pools: Mapping[int, tuple[int, int]]
    taps: Sequence[int]
    """Convolutions whose rectified output is compared."""


_VGG_PLAN: Final = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


def _vgg16() -> _Backbone:
    convolutions, pools, taps, layer, channels, last = {}, {}, [], 0, 3, 0
    for width in _VGG_PLAN:
        if width == 0:
            pools[layer] = (2, 2)
            taps.append(last)
            layer += 1
        else:
            convolutions[layer] = (channels, width, 3, 1, 1)
            channels, last, layer = width, layer, layer + 2
    return _Backbone("vgg16", convolutions, pools, [*taps, last])


_ALEXNET = _Backbone(
    "alexnet",
    {
        0: (3, 64, 11, 4, 2),
        3: (64, 192, 5, 1, 2),
        6: (192, 384, 3, 1, 1),
        8: (384, 256, 3, 1, 1),
        10: (256, 256, 3, 1, 1),
    },
    {2: (3, 2), 5: (3, 2)},
    (0, 3, 6, 8, 10),
)


class Lpips(nn.Module):
    """Distance of two pictures; smaller is closer."""

    def __init__(self, files: Sequence[Path]) -> None:
        """files: the backbone's weights and the heads', in any order, or one file with both."""
        super().__init__()
        weights: dict[str, Tensor] = {}
        for path in files:
            weights |= read_state(path)
        where = ", ".join(map(str, files))
        self.plan = next((p for p in (_ALEXNET, _vgg16()) if _fits(p, weights)), None) or _refuse(
            where
        )
        self.name = self.plan.name
        for number in self.plan.convolutions:
            for kind in ("weight", "bias"):
                self.register_buffer(
                    f"{kind}_{number}", weights[f"features.{number}.{kind}"].float()
                )
        for index, tap in enumerate(self.plan.taps):
            head = weights.get(f"lin{index}.model.1.weight")
            head_shape = (1, self.plan.convolutions[tap][1], 1, 1)
            if head is None or tuple(head.shape) != head_shape:
                actual_shape = "none" if head is None else list(head.shape)
                text = f"expected lin{index}.model.1.weight {list(head_shape)}, got {actual_shape}"
                raise InputError(f"{where}: {text}")
            self.register_buffer(f"head_{index}", head.float())
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1))

    def features(self, pictures: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The compared layers' outputs, each pixel's of length one."""
        x = (pictures - self.mean) / self.deviation  # type: ignore[operator]
        outputs = []
        for number in sorted([*self.plan.convolutions, *self.plan.pools]):
            if number in self.plan.pools:
                x = nn.functional.max_pool2d(x, *self.plan.pools[number])
                continue
            *_, stride, padding = self.plan.convolutions[number]
            weight, bias = getattr(self, f"weight_{number}"), getattr(self, f"bias_{number}")
            x = nn.functional.conv2d(x, weight, bias, stride, padding).relu()
            if number in self.plan.taps:
                outputs.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return outputs

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
        f"features.{number}.weight" in weights
        and tuple(weights[f"features.{number}.weight"].shape) == (c_out, c_in, kernel, kernel)
        and tuple(weights.get(f"features.{number}.bias", torch.empty(0)).shape) == (c_out,)
        for number, (c_in, c_out, kernel, _, _) in plan.convolutions.items()
    )


def _refuse(where: str) -> _Backbone:
    raise InputError(
        f"{where}: expected the weights of torchvision's alexnet or vgg16 (features.0.weight ...) "
        "and LPIPS' heads (lin0.model.1.weight ...)"
    )
