"""How far a picture is from the truth: L1, SSIM with its own gradient, coverage, bounds."""

import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ash_core.gpu.kernels import Program
from ash_core.training.config import LossWeights

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
"""Source: Wang et al. 2004, for values in [0, 1]; window and sigma as there and as published."""


SIDE = 16
"""Of a block of the kernels."""


def _taps() -> Float[Tensor, "11"]:
    at = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = (-(at**2) / (2 * SIGMA**2)).exp()
    return (weights / weights.sum()).float()


SSIM = Program(
    Path(__file__).parent / "kernels" / "ssim.cu",
    defines={
        "C1": C1,
        "C2": C2,
        **{f"TAP_{d}": float(_taps()[WINDOW // 2 + d]) for d in range(WINDOW // 2 + 1)},
    },
)


@functools.cache
def _band(size: int) -> Float[Tensor, "n n"]:
    """The window along one side, as a matrix."""
    at = torch.arange(size)
    tap = at[:, None] - at + WINDOW // 2
    inside = (tap >= 0) & (tap < WINDOW)
    return torch.where(inside, _taps()[tap.clamp(0, WINDOW - 1)], 0.0)


def blur(planes: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """The window's weighted mean about each pixel, zeros outside; its own transpose. On the CPU two
    products take a tenth of a convolution's time.
    """
    return _band(planes.shape[1]) @ planes @ _band(planes.shape[2])


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


class FusedSsim(torch.autograd.Function):
    """The same on a GPU, pictures as they lie: two kernels instead of sixty."""

    @staticmethod
    def forward(ctx: Any, ours: Tensor, truth: Tensor) -> Tensor:
        ours, truth = ours.float().contiguous(), truth.float().contiguous()
        outputs = [torch.empty_like(ours) for _ in range(4)]
        _launch("similarity", ours, truth, *outputs)
        value, *by = outputs
        ctx.save_for_backward(ours, truth, *by)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ours, *rest = ctx.saved_tensors
        gradient = torch.empty_like(ours)
        _launch("similarity_backward", ours, *rest, upstream.float().contiguous(), gradient)
        return gradient, None


def _launch(kernel: str, ours: Tensor, *others: Tensor) -> None:
    views, height, width, channels = ours.shape
    grid = (-(-width // SIDE), -(-height // SIDE), views * channels)
    SSIM.launch(kernel, grid, SIDE * SIDE, height, width, channels, ours, *others)


def ssim_map(
    ours: Float[Tensor, "v h w c"], truth: Float[Tensor, "v h w c"]
) -> Float[Tensor, "v h w c"]:
    """Structural similarity at each pixel and channel; differentiable in the first alone."""
    if ours.is_cuda:
        return FusedSsim.apply(ours, truth)  # type: ignore[return-value]
    n, height, width, c = ours.shape
    planes = (part.movedim(-1, 1).reshape(n * c, height, width) for part in (ours, truth))
    found: Tensor = _Ssim.apply(*(part.contiguous() for part in planes))  # type: ignore[assignment]
    return found.view(n, c, height, width).movedim(1, -1)


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
        parts["dssim"] = 1 - ssim_map(rgb, truth).mean((1, 2, 3))
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
