"""Quality of images: PSNR, SSIM, LPIPS on the published window and on the whole; flicker."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.training.losses import WINDOW, ssim_map
from ash_core.training.lpips import Lpips

PUBLISHED_WINDOW = (600, 496)
"""Height and width of the window around the person that is measured. Source: the published
evaluation, which also erodes the mask by 3x3 and paints everything outside it white."""
SSIM_SIDE = WINDOW
"""A picture with a shorter side has no SSIM."""


@dataclass(frozen=True)
class Scores:
    """Scores of one image, or means of several. PSNR in dB; LPIPS where its weights were given."""

    psnr: float
    ssim: float
    lpips: float | None
    """On the published window: the person on white, the rest painted over."""
    psnr_full: float
    ssim_full: float
    lpips_full: float | None
    """On the whole picture over white, nothing painted over."""


def psnr(render: Float[Tensor, "*s 3"], truth: Float[Tensor, "*s 3"]) -> float:
    """Peak signal-to-noise ratio of colours in [0, 1], dB; 100 for equal pictures."""
    error = float((render - truth).square().mean())
    return min(-10 * math.log10(error), 100.0) if error > 0 else 100.0


def ssim(render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"]) -> float:
    """Mean structural similarity where the window lies inside the picture."""
    values = ssim_map(render[None], truth[None])[0]
    edge = WINDOW // 2
    return float(values[edge:-edge, edge:-edge].mean())


def eroded(mask: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """1 where a pixel and its eight neighbours belong to the person."""
    outside = (mask <= 0.5).float()[None, None]
    return 1 - torch.nn.functional.max_pool2d(outside, 3, 1, 1)[0, 0]


def published_window(mask: Float[Tensor, "h w"]) -> tuple[slice, slice]:
    """The window around the middle of the mask's box, inside the picture."""
    rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
    window = []
    for side, size, indices in zip(mask.shape, PUBLISHED_WINDOW, (rows, columns), strict=True):
        middle = (int(indices.min()) + int(indices.max()) + 1) // 2 if len(indices) else side // 2
        start = min(max(middle - size // 2, 0), max(side - size, 0))
        window.append(slice(start, start + min(size, side)))
    return window[0], window[1]


@torch.no_grad()
def scores(
    render: Float[Tensor, "h w 3"],
    truth: Float[Tensor, "h w 3"],
    mask: Float[Tensor, "h w"],
    lpips: Lpips | None = None,
) -> Scores:
    """Score a render against the ground truth, both over white."""
    render = render.clamp(0, 1)
    inside = eroded(mask)[..., None]
    window = published_window(mask)
    pairs = [
        [(part * inside + 1 - inside)[window] for part in (render, truth)],
        [render, truth],
    ]
    values = [
        value
        for a, b in pairs
        for value in (psnr(a, b), ssim(a, b), None if lpips is None else float(lpips(a, b)))
    ]
    return Scores(*values)  # type: ignore[arg-type]


def mean_scores(all_scores: Sequence[Scores]) -> Scores:
    """Means of each number over pictures."""
    means = {}
    for field in fields(Scores):
        values = [getattr(one, field.name) for one in all_scores]
        present_values = [value for value in values if value is not None]
        means[field.name] = sum(present_values) / len(present_values) if present_values else None
    return Scores(**means)


def flicker(
    before: tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]],
    after: tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]],
    mask: Float[Tensor, "h w"],
) -> float:
    """Compare how much the render and the ground truth change from one frame to the next.

    Returns the mean absolute difference of both changes where the person is, in steps of 1/255.
    Pairs are (render, truth).
    """
    change = (after[0] - before[0]) - (after[1] - before[1])
    where = mask > 0.5
    return float(change[where].abs().mean()) * 255 if bool(where.any()) else 0.0
