"""How far a picture is from the truth: L1, SSIM with its own gradient, coverage, bounds."""

import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ash_core.training.config import LossWeights

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
"""Source: Wang et al. 2004, for values in [0, 1]; window and sigma as there and as published."""


@functools.cache
def _taps(device: torch.device) -> Float[Tensor, "11"]:
    at = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = (-(at**2) / (2 * SIGMA**2)).exp()
    return (weights / weights.sum()).float().to(device)


@functools.cache
def _band(size: int) -> Float[Tensor, "n n"]:
    """The window along one side, as a matrix."""
    at = torch.arange(size)
    tap = at[:, None] - at + WINDOW // 2
    inside = (tap >= 0) & (tap < WINDOW)
    return torch.where(inside, _taps(torch.device("cpu"))[tap.clamp(0, WINDOW - 1)], 0.0)


def blur(planes: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """The window's weighted mean about each pixel, zeros outside; its own transpose."""
    if planes.device.type == "cpu":  # a tenth of a convolution's time there
        return _band(planes.shape[1]) @ planes @ _band(planes.shape[2])
    taps, half = _taps(planes.device), WINDOW // 2
    stack = planes[:, None]
    stack = torch.nn.functional.conv2d(stack, taps.view(1, 1, -1, 1), padding=(half, 0))
    stack = torch.nn.functional.conv2d(stack, taps.view(1, 1, 1, -1), padding=(0, half))
    return stack[:, 0]


class _Ssim(torch.autograd.Function):
    """SSIM of every pixel; the gradient by the first picture is three blurs, not autograd's ten."""

    @staticmethod
    def forward(ctx: Any, ours: Tensor, truth: Tensor) -> Tensor:
        n = len(ours)
        planes = torch.cat((ours, truth, ours * ours, truth * truth, ours * truth))
        mean_o, mean_t, square_o, square_t, both = blur(planes).split(n)
        a1, b1 = 2 * mean_o * mean_t + C1, mean_o**2 + mean_t**2 + C1
        a2 = 2 * (both - mean_o * mean_t) + C2
        b2 = (square_o - mean_o**2) + (square_t - mean_t**2) + C2
        value = a1 * a2 / (b1 * b2)
        # By the blurred planes: mean, square and product.
        by_both = 2 * a1 / (b1 * b2)
        by_square = -value / b2
        by_mean = 2 * mean_t * (a2 - a1) / (b1 * b2) - 2 * mean_o * value * (1 / b1 - 1 / b2)
        ctx.save_for_backward(ours, truth, by_mean, by_square, by_both)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ours, truth, *by = ctx.saved_tensors
        n = len(ours)
        mean, square, both = blur(torch.cat([part * upstream for part in by])).split(n)
        return mean + 2 * ours * square + truth * both, None


def ssim_map(
    ours: Float[Tensor, "*b h w"], truth: Float[Tensor, "*b h w"]
) -> Float[Tensor, "*b h w"]:
    """Structural similarity at each pixel of each plane; differentiable in the first alone."""
    shape = ours.shape
    planes = (part.reshape(-1, *shape[-2:]).contiguous() for part in (ours, truth))
    return _Ssim.apply(*planes).view(shape)  # type: ignore[union-attr]


def picture_losses(
    rgb: Float[Tensor, "v h w 3"],
    alpha: Float[Tensor, "v h w"],
    truth: Float[Tensor, "v h w 3"],
    mask: Float[Tensor, "v h w"],
    weights: LossWeights,
) -> dict[str, Float[Tensor, "v"]]:
    """Each part of each view's loss, not yet weighted. Parts without weight are left out."""
    parts = {"l1": (rgb - truth).abs().mean((1, 2, 3))}
    if weights.dssim:
        planes = ssim_map(rgb.movedim(-1, 1), truth.movedim(-1, 1))
        parts["dssim"] = 1 - planes.mean((1, 2, 3))
    if weights.mask:
        parts["mask"] = (alpha - mask).abs().mean((1, 2))
    return parts


def bounds_losses(raw: Float[Tensor, "N c"]) -> dict[str, Float[Tensor, ""]]:
    """How much of what a native Gaussian may move and grow is used, squared."""
    return {
        "offset": raw[:, 0:3].tanh().square().mean(),
        "scale": raw[:, 6:9].tanh().square().mean(),
    }


def total(parts: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum of all parts; means over views."""
    return torch.stack([getattr(weights, name) * part.mean() for name, part in parts.items()]).sum()
