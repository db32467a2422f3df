"""SSIM of pictures and its gradient without a GPU: numba, a row of pixels at a time.

A row's window is summed down its eleven rows, then along it, all in the processor's nearest cache;
band matrices do ten times the arithmetic. Meaning: losses.py. Like the rasterizer's, these kernels
keep to one file, do not depend on the number of threads, and run one at a time.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from ash_core.splat.cpu import KERNEL_OPTIONS, call_kernel

_serial = njit(**KERNEL_OPTIONS)
_parallel = njit(parallel=True, **KERNEL_OPTIONS)


@_serial
def _add_product(total, tap, one, other):
    """total += tap * one * other."""
    for x in range(len(one)):
        total[x] += tap * (one[x] * other[x])


@_serial
def _add(total, tap, one):
    """total += tap * one."""
    for x in range(len(one)):
        total[x] += tap * one[x]


@_serial
def _along(down, taps, channels, out):
    """The window along a row; `down` has half a window of zeros at both ends."""
    out[:] = 0
    for d in range(len(taps)):
        _add(out, taps[d], down[d * channels : d * channels + len(out)])


@_serial
def _compare(means, c1, c2, value, by_mean, by_square, by_both):
    """SSIM of a row's pixels, and its derivatives by three of the means."""
    two, one = np.float32(2), np.float32(1)
    for x in range(len(value)):
        r, t = means[0, x], means[1, x]
        a1, b1 = two * r * t + c1, r * r + t * t + c1
        a2 = two * (means[4, x] - r * t) + c2
        b2 = (means[2, x] - r * r) + (means[3, x] - t * t) + c2
        inverse = one / (b1 * b2)
        ssim = a1 * a2 * inverse
        value[x] = ssim
        by_both[x] = two * a1 * inverse
        by_square[x] = -ssim / b2
        by_mean[x] = two * t * (a2 - a1) * inverse - two * r * ssim * (one / b1 - one / b2)


@_parallel
def _similarity(render, truth, taps, c1, c2, channels, value, by, workers):
    """render, truth: [v, h, w c].  Writes SSIM and its derivatives by mean, square and product."""
    views, height, line = render.shape
    reach = len(taps) // 2
    edge = reach * channels
    for worker in prange(workers):
        down = np.zeros((5, line + 2 * edge), np.float32)
        means = np.zeros((5, line), np.float32)
        for row in range(worker, views * height, workers):
            view, y = row // height, row % height
            down[:] = 0
            for d in range(max(0, reach - y), min(len(taps), height + reach - y)):
                r, t = render[view, y + d - reach], truth[view, y + d - reach]
                _add(down[0, edge : edge + line], taps[d], r)
                _add(down[1, edge : edge + line], taps[d], t)
                _add_product(down[2, edge : edge + line], taps[d], r, r)
                _add_product(down[3, edge : edge + line], taps[d], t, t)
                _add_product(down[4, edge : edge + line], taps[d], r, t)
            for part in range(5):
                _along(down[part], taps, channels, means[part])
            _compare(means, c1, c2, value[view, y], by[0, view, y], by[1, view, y], by[2, view, y])


@_parallel
def _gradient(render, truth, taps, channels, by, upstream, gradient, workers):
    """The gradient by `render`, of what `_similarity` wrote: the window is its own transpose."""
    views, height, line = render.shape
    reach = len(taps) // 2
    edge = reach * channels
    for worker in prange(workers):
        down = np.zeros((3, line + 2 * edge), np.float32)
        means = np.zeros((3, line), np.float32)
        for row in range(worker, views * height, workers):
            view, y = row // height, row % height
            down[:] = 0
            for d in range(max(0, reach - y), min(len(taps), height + reach - y)):
                source_y = y + d - reach
                for part in range(3):
                    _add_product(
                        down[part, edge : edge + line],
                        taps[d],
                        by[part, view, source_y],
                        upstream[view, source_y],
                    )
            for part in range(3):
                _along(down[part], taps, channels, means[part])
            r, t, out = render[view, y], truth[view, y], gradient[view, y]
            for x in range(line):
                out[x] = means[0, x] + np.float32(2) * r[x] * means[1, x] + t[x] * means[2, x]


def _rows(pictures: Tensor) -> Any:
    """[v, h, w, c] as rows of numbers."""
    return pictures.detach().contiguous().flatten(2).numpy()


def similarity(
    render: Float[Tensor, "v h w c"],
    truth: Float[Tensor, "v h w c"],
    taps: Float[Tensor, "t"],
    c1: float,
    c2: float,
) -> tuple[Float[Tensor, "v h w c"], Float[Tensor, "3 v h w c"]]:
    """SSIM of each pixel and channel, and its derivatives by the window's mean, square, product."""
    value, by = torch.empty_like(truth), truth.new_empty((3, *truth.shape))
    call_kernel(
        _similarity, _rows(render), _rows(truth), taps.numpy(), np.float32(c1), np.float32(c2),
        truth.shape[3], value.flatten(2).numpy(), by.flatten(3).numpy(),
    )  # fmt: skip
    return value, by


def similarity_gradient(
    render: Float[Tensor, "v h w c"],
    truth: Float[Tensor, "v h w c"],
    taps: Float[Tensor, "t"],
    by: Float[Tensor, "3 v h w c"],
    upstream: Float[Tensor, "v h w c"],
) -> Float[Tensor, "v h w c"]:
    """Derivative by `render`."""
    gradient = torch.empty_like(truth)
    call_kernel(
        _gradient, _rows(render), _rows(truth), taps.numpy(), truth.shape[3],
        by.flatten(3).numpy(), _rows(upstream), gradient.flatten(2).numpy(),
    )  # fmt: skip
    return gradient
