"""Losses between images and ground truth: L1, SSIM with its own gradient, coverage, bounds."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ash_core.avatar import OFFSET_STEP_M
from ash_core.gpu.kernels import Program
from ash_core.training.config import LossWeights
from ash_core.training.ssim_cpu import similarity, similarity_gradient

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
"""Source: Wang et al. 2004, for values in [0, 1]; window and sigma as there and as published."""


SIDE = 16
"""Pixels along a block's side."""


def _taps() -> Float[Tensor, "11"]:
    offset = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = (-(offset**2) / (2 * SIGMA**2)).exp()
    return (weights / weights.sum()).float()


SSIM = Program(
    Path(__file__).parent / "kernels" / "ssim.cu",
    defines={
        "SIDE": SIDE,
        "HALF": WINDOW // 2,
        "C1": C1,
        "C2": C2,
        **{f"TAP_{d}": float(_taps()[WINDOW // 2 + d]) for d in range(WINDOW // 2 + 1)},
    },
)


class Ssim(torch.autograd.Function):
    """SSIM of every pixel; the gradient is three windows, not the ten of autograd."""

    @staticmethod
    def forward(ctx: Any, render: Tensor, truth: Tensor) -> Tensor:
        render, truth = render.float().contiguous(), truth.float().contiguous()
        value, by = similarity(render, truth, _taps(), C1, C2)
        ctx.save_for_backward(render, truth, by)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        render, truth, by = ctx.saved_tensors
        return similarity_gradient(render, truth, _taps(), by, upstream.float()), None


class FusedSsim(torch.autograd.Function):
    """The same on a GPU: two kernels instead of sixty."""

    @staticmethod
    def forward(ctx: Any, render: Tensor, truth: Tensor) -> Tensor:
        render, truth = render.float().contiguous(), truth.float().contiguous()
        outputs = [torch.empty_like(render) for _ in range(4)]
        _launch("similarity", render, truth, *outputs)
        value, *by = outputs
        ctx.save_for_backward(render, truth, *by)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        render, *rest = ctx.saved_tensors
        gradient = torch.empty_like(render)
        _launch("similarity_backward", render, *rest, upstream.float().contiguous(), gradient)
        return gradient, None


def _launch(kernel: str, render: Tensor, *others: Tensor) -> None:
    views, height, width, channels = render.shape
    grid = (-(-width // SIDE), -(-height // SIDE), views * channels)
    SSIM.launch(kernel, grid, SIDE * SIDE, height, width, channels, render, *others)


def ssim_map(
    render: Float[Tensor, "v h w c"], truth: Float[Tensor, "v h w c"]
) -> Float[Tensor, "v h w c"]:
    """Structural similarity at each pixel and channel; differentiable in the first alone."""
    kind = FusedSsim if render.is_cuda else Ssim
    return kind.apply(render, truth)  # type: ignore[return-value]


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


def bounds_losses(raw: Float[Tensor, "N c"], offset_limit_m: float) -> dict[str, Float[Tensor, ""]]:
    """Penalise moves of a bounded Gaussian, in units of 5 cm, and the share of its growth that is
    used, squared.
    """
    most = offset_limit_m / OFFSET_STEP_M
    return {
        "offset": (most * (raw[:, 0:3] / most).tanh()).square().mean(),
        "scale": raw[:, 6:9].tanh().square().mean(),
    }


def total(parts: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum of all parts; means over views."""
    return torch.stack([getattr(weights, name) * part.mean() for name, part in parts.items()]).sum()
