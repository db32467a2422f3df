"""The rasterizer for machines without a GPU: numba, forward and backward, no compiler at install.

One image is five passes, all but the sort parallel: depth keys; a radix sort; projection, written
in depth order; tile bins, in depth order, by counting; blending, by tiles. Meaning: reference.py.
Nothing depends on the number of threads: each tile, and each Gaussian, is summed by one thread in
one order.

The blend walks Gaussian, row, sixteen pixels. Along a row the exponent is completed to a square:

    log2 alpha = peak - across (x - centre)^2,    centre = mx + slope dy,    peak = top - down dy^2
    slope = cov_xy / cov_yy    across = conic_xx / 2 log2 e    down = 1 / (2 cov_yy) log2 e

so a row costs one square root (where alpha reaches 1/255, exactly), taken for all rows of a tile at
once, and a pixel two multiplications and a polynomial. The sum has no cancelling terms, so float32
is enough for the longest needle.

The backward pass replays the same walk front to back. The colour still to be added at a pixel is
the final one minus the sum so far, so the forward pass stores nothing but the image.

All kernels live in this one file because numba keys its cache by the file of the outermost one.
"""

import logging
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from jaxtyping import Float
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils, event
from numba.core import config as _numba_config
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from ash_core.conventions import (
    ALPHA_MAX,
    ALPHA_MIN,
    BLUR_PX2,
    NEAR_M,
    SH_C0,
    SH_C1,
    SH_C2,
    SH_C3,
    TRANSMITTANCE_MIN,
)
from ash_core.geometry.camera import frustum_limits
from ash_core.records import Camera, Gaussians, Image
from ash_core.resources import cache_folder

logger = logging.getLogger("ash_core")
config: Any = _numba_config  # its attributes are made at run time

COMPILE_SECONDS = 15
"""Approximate time of the first use on two cores; for the announcement alone."""

_TILE_W, _TILE_H = 64, 16
_LANES = 16
"""Pixels of one step along a row: one AVX-512 register, two of AVX, four of SSE. Most splats
of a body are no wider, so that the branch predictor expects one step a row."""
_PITCH = _TILE_W + _LANES
"""Floats of one channel of one tile row; the last step of a row may pass its end."""

# Columns of a projected Gaussian (float64, in depth order); see the module's text.
_MX, _MY, _SLOPE, _ACROSS, _DOWN, _TOP, _REACH_Y, _WIDEST_DY = range(8)
# Gradient slots of one (tile, Gaussian) pair: colour, depth, then moments of d loss / d log alpha.
_SLOTS = 10

_LOG2E = math.log2(math.e)
_LN2 = math.log(2.0)
_LOG2_ALPHA_MIN = math.log2(ALPHA_MIN)
_ROUND = np.float32(1.5 * 2**23)
"""Summand that rounds a small float32 to an integer, which is then in its low bits."""

# 2^f - 1 on [-1/2, 1/2], highest power first. Source: Cephes, exp2f.
_EXP2 = (
    np.float32(1.5353362e-4),
    np.float32(1.3398874e-3),
    np.float32(9.6184373e-3),
    np.float32(5.5503324e-2),
    np.float32(2.4022648e-1),
    np.float32(6.9314720e-1),
)
_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
_ALPHA_MAX32 = np.float32(ALPHA_MAX)
_T_MIN32 = np.float32(TRANSMITTANCE_MIN)
_LOG2_ALPHA_MIN32 = np.float32(_LOG2_ALPHA_MIN)
_SHIFT = types.int32(23)


def _can_cache() -> bool:
    """Keep compiled kernels beside the source, else in the user's cache folder, else not at all."""
    if config.CACHE_DIR or os.access(Path(__file__).parent, os.W_OK):
        return True
    folder = cache_folder() / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    config.CACHE_DIR = str(folder)
    return os.access(folder, os.W_OK)


# numba keeps compiled code under this file's time stamp: touch it after a change of conventions.py.
# "contract" lets products and sums fuse; nothing that would make a NaN or a comparison undefined.
KERNEL_OPTIONS: dict[str, Any] = {
    "cache": _can_cache(),
    "fastmath": {"contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
}
_intrinsic: Any = intrinsic
_serial = njit(**KERNEL_OPTIONS)
_parallel = njit(parallel=True, **KERNEL_OPTIONS)


@_intrinsic
def _float_bits(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@_intrinsic
def _bits_float(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@_intrinsic
def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Prefetch an element of an array, by its flat index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        integer, byte = ir.IntType(32), ir.IntType(8)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, integer, integer, integer])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep_near, data_cache = integer(0), integer(3), integer(1)
        builder.call(prefetch, [address, read, keep_near, data_cache])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@_intrinsic
def _take_number(typing_context: Any, counter: Any) -> Any:
    """Return counter[0] and increment it, atomically: each number goes to one thread."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", array.data, one, "monotonic")

    return types.int64(types.Array(types.int64, 1, "C")), generate


class _Splats(NamedTuple):
    """Gaussians, or the gradients of a loss by them, as float32 arrays."""

    means: NDArray[np.float32]
    quats: NDArray[np.float32]
    scales: NDArray[np.float32]
    opacities: NDArray[np.float32]
    sh: NDArray[np.float32]


# ---------------------------------------------------------------------------- sort


@_parallel
def _depth_keys(means, opacities, view):
    """Return the bits of the float32 view depth, which sort as depths do; 0 for culled ones."""
    keys = np.empty(means.shape[0], np.uint32)
    for i in prange(means.shape[0]):
        z = (
            view[2, 0] * np.float64(means[i, 0])
            + view[2, 1] * np.float64(means[i, 1])
            + view[2, 2] * np.float64(means[i, 2])
            + view[2, 3]
        )
        visible = z > NEAR_M and opacities[i] >= ALPHA_MIN
        keys[i] = np.uint32(_float_bits(np.float32(z))) if visible else np.uint32(0)
    return keys


@_serial
def _depth_ranks(keys):
    """Rank each key among the non-zero ones, -1 for a zero; return the ranks and their number.

    Ties by index. A radix sort of the bits in which keys differ.
    """
    # Range of the keys.
    low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
    count = 0
    for key in keys:
        if key != 0:
            low, high = min(low, key), max(high, key)
            count += 1
    # Indices of the non-zero keys.
    order, other = np.empty(count, np.int32), np.empty(count, np.int32)
    place = 0
    for i in range(keys.shape[0]):
        if keys[i] != 0:
            order[place] = i
            place += 1

    # Radix sort in passes of at most 12 bits.
    bits = 0
    while count > 1 and (np.int64(high) - np.int64(low)) >> bits:
        bits += 1
    passes = (bits + 11) // 12
    width = (bits + max(passes, 1) - 1) // max(passes, 1)
    starts = np.empty((1 << width) + 1, np.int32)
    mask = np.uint32((1 << width) - 1)
    for step in range(passes):
        shift = np.uint32(step * width)
        starts[:] = 0
        for i in order:
            starts[np.int64(((keys[i] - low) >> shift) & mask) + 1] += 1
        for digit in range(1 << width):
            starts[digit + 1] += starts[digit]
        for i in order:
            digit = np.int64(((keys[i] - low) >> shift) & mask)
            other[starts[digit]] = i
            starts[digit] += 1
        order, other = other, order

    # Ranks by index.
    ranks = np.full(keys.shape[0], -1, np.int32)
    for rank in range(count):
        ranks[order[rank]] = rank
    return ranks, count


# ---------------------------------------------------------------------------- projection


@_serial
def _rotation(quats, i, R):
    w, x, y, z = (
        np.float64(quats[i, 0]),
        np.float64(quats[i, 1]),
        np.float64(quats[i, 2]),
        np.float64(quats[i, 3]),
    )
    R[0, 0], R[0, 1], R[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    R[1, 0], R[1, 1], R[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    R[2, 0], R[2, 1], R[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)


@_serial
def _sh_basis(x, y, z, count, Y):
    """Evaluate the first `count` basis functions. Meaning: spherical_harmonics.sh_basis."""
    Y[0] = SH_C0
    if count > 1:
        Y[1], Y[2], Y[3] = -SH_C1 * y, SH_C1 * z, -SH_C1 * x
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        Y[4], Y[5] = SH_C2[0] * x * y, SH_C2[1] * y * z
        Y[6] = SH_C2[2] * (2 * zz - xx - yy)
        Y[7], Y[8] = SH_C2[3] * x * z, SH_C2[4] * (xx - yy)
        if count > 9:
            Y[9] = SH_C3[0] * y * (3 * xx - yy)
            Y[10] = SH_C3[1] * x * y * z
            Y[11] = SH_C3[2] * y * (4 * zz - xx - yy)
            Y[12] = SH_C3[3] * z * (2 * zz - 3 * xx - 3 * yy)
            Y[13] = SH_C3[4] * x * (4 * zz - xx - yy)
            Y[14] = SH_C3[5] * z * (xx - yy)
            Y[15] = SH_C3[6] * x * (xx - 3 * yy)


@_serial
def _sh_gradient(x, y, z, count, dY):
    """Evaluate the derivatives [K, 3] of the basis functions by x, y and z."""
    dY[:count] = 0.0
    if count > 1:
        dY[1, 1], dY[2, 2], dY[3, 0] = -SH_C1, SH_C1, -SH_C1
    if count > 4:
        a, b, c, d, e = SH_C2
        dY[4, 0], dY[4, 1] = a * y, a * x
        dY[5, 1], dY[5, 2] = b * z, b * y
        dY[6, 0], dY[6, 1], dY[6, 2] = -2 * c * x, -2 * c * y, 4 * c * z
        dY[7, 0], dY[7, 2] = d * z, d * x
        dY[8, 0], dY[8, 1] = 2 * e * x, -2 * e * y
        if count > 9:
            xx, yy, zz = x * x, y * y, z * z
            a, b, c, d, e, f, g = SH_C3
            dY[9, 0], dY[9, 1] = a * 6 * x * y, a * 3 * (xx - yy)
            dY[10, 0], dY[10, 1], dY[10, 2] = b * y * z, b * x * z, b * x * y
            dY[11, 0], dY[11, 2] = c * -2 * x * y, c * 8 * y * z
            dY[11, 1] = c * (4 * zz - xx - 3 * yy)
            dY[12, 0], dY[12, 1] = d * -6 * x * z, d * -6 * y * z
            dY[12, 2] = d * (6 * zz - 3 * xx - 3 * yy)
            dY[13, 0] = e * (4 * zz - 3 * xx - yy)
            dY[13, 1], dY[13, 2] = e * -2 * x * y, e * 8 * x * z
            dY[14, 0], dY[14, 1], dY[14, 2] = f * 2 * x * z, f * -2 * y * z, f * (xx - yy)
            dY[15, 0], dY[15, 1] = g * 3 * (xx - yy), g * -6 * x * y


@_serial
def _project_range(first, last, ranks, splats, view, lens, geo, paint):
    """Project the Gaussians first..last-1: columns and (r, g, b, depth), written at their ranks."""
    # Centre of the camera.
    means, quats, scales, opacities, sh = splats
    R = np.empty((3, 3))
    Y = np.empty(16)
    fx, fy, cx, cy, limit_u, limit_v = lens
    eye = (
        -(view[0, 0] * view[0, 3] + view[1, 0] * view[1, 3] + view[2, 0] * view[2, 3]),
        -(view[0, 1] * view[0, 3] + view[1, 1] * view[1, 3] + view[2, 1] * view[2, 3]),
        -(view[0, 2] * view[0, 3] + view[1, 2] * view[1, 3] + view[2, 2] * view[2, 3]),
    )
    count = sh.shape[1]
    # Centre of the Gaussian in view space, and the Jacobian there.
    for i in range(first, last):
        rank = ranks[i]
        if rank < 0:
            continue
        mx, my, mz = np.float64(means[i, 0]), np.float64(means[i, 1]), np.float64(means[i, 2])
        z = view[2, 0] * mx + view[2, 1] * my + view[2, 2] * mz + view[2, 3]
        u = (view[0, 0] * mx + view[0, 1] * my + view[0, 2] * mz + view[0, 3]) / z
        v = (view[1, 0] * mx + view[1, 1] * my + view[1, 2] * mz + view[1, 3]) / z
        ju, jv = fx / z, fy / z
        wu, wv = -ju * min(max(u, -limit_u), limit_u), -jv * min(max(v, -limit_v), limit_v)

        # Half axes of the ellipse in the image: columns of J R_view_world R S.
        _rotation(quats, i, R)
        p0, p1, p2 = (
            ju * view[0, 0] + wu * view[2, 0],
            ju * view[0, 1] + wu * view[2, 1],
            ju * view[0, 2] + wu * view[2, 2],
        )
        q0, q1, q2 = (
            jv * view[1, 0] + wv * view[2, 0],
            jv * view[1, 1] + wv * view[2, 1],
            jv * view[1, 2] + wv * view[2, 2],
        )
        s0, s1, s2 = np.float64(scales[i, 0]), np.float64(scales[i, 1]), np.float64(scales[i, 2])
        a0 = (p0 * R[0, 0] + p1 * R[1, 0] + p2 * R[2, 0]) * s0
        a1 = (p0 * R[0, 1] + p1 * R[1, 1] + p2 * R[2, 1]) * s1
        a2 = (p0 * R[0, 2] + p1 * R[1, 2] + p2 * R[2, 2]) * s2
        b0 = (q0 * R[0, 0] + q1 * R[1, 0] + q2 * R[2, 0]) * s0
        b1 = (q0 * R[0, 1] + q1 * R[1, 1] + q2 * R[2, 1]) * s1
        b2 = (q0 * R[0, 2] + q1 * R[1, 2] + q2 * R[2, 2]) * s2
        xx = a0 * a0 + a1 * a1 + a2 * a2 + BLUR_PX2
        yy = b0 * b0 + b1 * b1 + b2 * b2 + BLUR_PX2
        xy = a0 * b0 + a1 * b1 + a2 * b2
        c0, c1, c2 = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
        determinant = c0 * c0 + c1 * c1 + c2 * c2 + BLUR_PX2 * (xx + yy - BLUR_PX2)

        # Columns of the module's text.
        top = math.log2(np.float64(opacities[i]))
        margin = max(top - _LOG2_ALPHA_MIN, 0.0) * (2.0 / _LOG2E)
        geo[rank, _MX], geo[rank, _MY] = fx * u + cx, fy * v + cy
        geo[rank, _SLOPE] = xy / yy
        geo[rank, _ACROSS] = 0.5 * _LOG2E * yy / determinant
        geo[rank, _DOWN] = 0.5 * _LOG2E / yy
        geo[rank, _TOP] = top
        geo[rank, _REACH_Y] = math.sqrt(margin * yy)
        geo[rank, _WIDEST_DY] = xy * math.sqrt(margin / xx)

        # Colour from the view direction, and depth.
        dx, dy, dz = mx - eye[0], my - eye[1], mz - eye[2]
        near = 1.0 / max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
        _sh_basis(dx * near, dy * near, dz * near, count, Y)
        r, g, b = 0.5, 0.5, 0.5
        for k in range(count):
            r += Y[k] * np.float64(sh[i, k, 0])
            g += Y[k] * np.float64(sh[i, k, 1])
            b += Y[k] * np.float64(sh[i, k, 2])
        paint[rank, 0], paint[rank, 1], paint[rank, 2] = max(r, 0.0), max(g, 0.0), max(b, 0.0)
        paint[rank, 3] = z


@_parallel
def _project(ranks, drawn, splats, view, lens, workers):
    # In the order of the inputs: reads are sequential, and no one waits for the scattered writes.
    count = ranks.shape[0]
    geo = np.empty((drawn, 8))
    paint = np.empty((drawn, 4), np.float32)
    for w in prange(workers):
        first, last = w * count // workers, (w + 1) * count // workers
        _project_range(first, last, ranks, splats, view, lens, geo, paint)
    return geo, paint


# ---------------------------------------------------------------------------- tile bins


@_serial
def _tile_rows(geo, rank, tiles_y):
    """Return the range of tile rows that the support of a Gaussian can reach."""
    my, reach = geo[rank, _MY] - 0.5, geo[rank, _REACH_Y] + 1e-3
    first = min(max(my - reach, 0.0), tiles_y * _TILE_H * 1.0)
    last = min(max(my + reach, -1.0), tiles_y * _TILE_H - 1.0)
    return np.int64(first) // _TILE_H, np.int64(last + _TILE_H) // _TILE_H


@_serial
def _tile_columns(geo, rank, row, tiles_x):
    """Return the range of tiles that the support reaches in one row of tiles.

    The support's outline is widest at +-WIDEST_DY, and on one side of that only narrows.
    """
    lowest = row * _TILE_H + 0.5 - geo[rank, _MY]
    highest = lowest + (_TILE_H - 1)
    margin, down = geo[rank, _TOP] - _LOG2_ALPHA_MIN, geo[rank, _DOWN]
    narrow, widest = 1.0 / geo[rank, _ACROSS], geo[rank, _WIDEST_DY]
    slope, mx = geo[rank, _SLOPE], geo[rank, _MX] - 0.5

    dy = min(max(-widest, lowest), highest)
    left = mx + slope * dy - math.sqrt(max(margin - down * dy * dy, 0.0) * narrow) - 1e-3
    dy = min(max(widest, lowest), highest)
    right = mx + slope * dy + math.sqrt(max(margin - down * dy * dy, 0.0) * narrow) + 1e-3
    first = min(max(left, 0.0), tiles_x * _TILE_W * 1.0)
    last = min(max(right, -1.0), tiles_x * _TILE_W - 1.0)
    return np.int64(first) // _TILE_W, np.int64(last + _TILE_W) // _TILE_W


@_serial
def _count_range(first, last, geo, tiles_x, tiles_y, bands, spans, counts, pairs):
    """Store the columns that each Gaussian reaches in each of its tile rows, and count them."""
    for rank in range(first, last):
        pair_count = 0
        band = bands[rank]
        row, row_end = _tile_rows(geo, rank, tiles_y)
        while row < row_end:
            column, column_end = _tile_columns(geo, rank, row, tiles_x)
            spans[band, 0], spans[band, 1] = row * tiles_x + column, row * tiles_x + column_end
            for tile in range(row * tiles_x + column, row * tiles_x + column_end):
                counts[tile] += 1
            pair_count += max(column_end - column, 0)
            band += 1
            row += 1
        pairs[rank] = pair_count


@_serial
def _fill_range(first, last, bands, spans, starts, entries, places, next_place):
    """Append ranks to the bins of their tiles; store where in `places`, if it is not empty."""
    for rank in range(first, last):
        for band in range(bands[rank], bands[rank + 1]):
            for tile in range(spans[band, 0], spans[band, 1]):
                place = starts[tile]
                starts[tile] = place + 1
                entries[place] = rank
                if places.shape[0] > 0:
                    places[next_place] = place
                    next_place += 1


@_parallel
def _tile_bins(geo, tiles_x, tiles_y, with_places, workers):
    """Bin the ranks by tiles, in depth order.

    Returns: bounds [tiles + 1] of each tile's bin in entries; entries; and, for the backward pass,
    each Gaussian's bounds [V + 1] in places, its positions in entries.
    """
    # Tile rows of each Gaussian.
    count, tiles = geo.shape[0], tiles_x * tiles_y
    bands = np.empty(count + 1, np.int64)
    total = 0
    for rank in range(count):
        bands[rank] = total
        row, row_end = _tile_rows(geo, rank, tiles_y)
        total += max(row_end - row, 0)
    bands[count] = total

    # Number of entries of each tile, by worker.
    spans = np.empty((total, 2), np.int32)
    counts = np.zeros((workers, tiles), np.int64)
    place_bounds = np.zeros(count + 1, np.int64)
    for w in prange(workers):
        _count_range(
            w * count // workers, (w + 1) * count // workers,
            geo, tiles_x, tiles_y, bands, spans, counts[w], place_bounds[1:],
        )  # fmt: skip

    # Prefix sums: bounds of the bins, and where each worker begins in each.
    bounds = np.empty(tiles + 1, np.int64)
    total = 0
    for tile in range(tiles):
        bounds[tile] = total
        for w in range(workers):
            entry_count = counts[w, tile]
            counts[w, tile] = total
            total += entry_count
    bounds[tiles] = total
    if with_places:
        for rank in range(count):
            place_bounds[rank + 1] += place_bounds[rank]

    # Entries.
    entries = np.empty(total, np.int32)
    places = np.empty(total if with_places else 0, np.int64)
    for w in prange(workers):
        first, last = w * count // workers, (w + 1) * count // workers
        _fill_range(first, last, bands, spans, counts[w], entries, places, place_bounds[first])
    return bounds, entries, place_bounds, places


# ---------------------------------------------------------------------------- blending


@_serial
def _exp2(t):
    """Compute 2^t in float32 for t in [-126, 0], undefined below. Branch-free, so it vectorises."""
    rounded = t + _ROUND
    f = t - (rounded - _ROUND)
    p = _EXP2[0]
    p = p * f + _EXP2[1]
    p = p * f + _EXP2[2]
    p = p * f + _EXP2[3]
    p = p * f + _EXP2[4]
    p = p * f + _EXP2[5]
    p = p * f + _ONE
    exponent = types.int32(_float_bits(rounded) << _SHIFT)
    return _bits_float(types.int32(_float_bits(p) + exponent))


@_serial
def _row_spans(geo, rank, mx, my, first, steps, centres, peaks):
    """Find where alpha reaches 1/255 in each row of a tile: first pixel, and steps to the last one.

    mx, my: the Gaussian's centre relative to the centre of the tile's first pixel. Branch-free.
    """
    slope, down, top = geo[rank, _SLOPE], geo[rank, _DOWN], geo[rank, _TOP]
    narrow = 1.0 / geo[rank, _ACROSS]
    for y in range(_TILE_H):
        dy = y - my
        peak = top - down * dy * dy
        centre = mx + slope * dy
        half = math.sqrt(max(peak - _LOG2_ALPHA_MIN, 0.0) * narrow) + 1e-3
        x = np.int32(min(max(centre - half, 0.0), _TILE_W))
        x_end = np.int32(min(max(centre + half + 1.0, 0.0), _TILE_W))
        step_count = (x_end - x + _LANES - 1) // _LANES
        first[y] = x
        steps[y] = step_count if peak >= _LOG2_ALPHA_MIN else 0
        centres[y], peaks[y] = centre, peak


@_serial
def _blend_tile(state, live, entries, geo, paint, tile_x, tile_y, rows):
    """Blend the Gaussians of a tile, front to back.

    state [rows, 5, _PITCH]: transmittance, negative once a pixel has stopped; r, g, b, depth.
    """
    # Front to back, until no pixel is live.
    live[:rows] = True
    first, steps = np.empty(_TILE_H, np.int32), np.empty(_TILE_H, np.int32)
    centres, peaks = np.empty(_TILE_H, np.float32), np.empty(_TILE_H, np.float32)
    for number in range(entries.shape[0]):
        if number % 16 == 15 and not _any_live(state, live, rows, 5 * _PITCH):
            return
        rank = entries[number]
        ahead = np.int64(entries[min(number + 2, entries.shape[0] - 1)])
        _prefetch(geo, ahead * 8)
        _prefetch(paint, ahead * 4)
        # Extents of the Gaussian in the tile.
        my = geo[rank, _MY] - (tile_y + 0.5)
        mx = geo[rank, _MX] - (tile_x + 0.5)
        reach, across = geo[rank, _REACH_Y], np.float32(geo[rank, _ACROSS])
        r, g, b, depth = paint[rank, 0], paint[rank, 1], paint[rank, 2], paint[rank, 3]
        _row_spans(geo, rank, mx, my, first, steps, centres, peaks)
        # Rows, in steps of _LANES pixels.
        y = np.int64(max(my - reach, 0.0))
        y_end = np.int64(min(max(my + reach + 1.0, 0.0), rows * 1.0))
        while y < y_end:
            if live[y]:
                x, remaining, centre, peak = np.int64(first[y]), steps[y], centres[y], peaks[y]
                offset = y * (5 * _PITCH)
                while remaining > 0:
                    v = state[offset + x : offset + x + 4 * _PITCH + _LANES]
                    u0 = np.float32(x) - centre
                    for lane in range(_LANES):
                        u = u0 + np.float32(lane)
                        t = peak - across * u * u
                        alpha = min(_exp2(t), _ALPHA_MAX32)
                        before = v[lane]
                        weight = alpha * before
                        after = before - weight
                        hit = t >= _LOG2_ALPHA_MIN32
                        visible = hit & (after >= _T_MIN32)
                        weight = weight if visible else _ZERO
                        v[lane] = after if visible else (-abs(before) if hit else before)
                        v[lane + _PITCH] += weight * r
                        v[lane + 2 * _PITCH] += weight * g
                        v[lane + 3 * _PITCH] += weight * b
                        v[lane + 4 * _PITCH] += weight * depth
                    x += _LANES
                    remaining -= 1
            y += 1


@_serial
def _any_live(state, live, rows, pitch):
    """Update which rows have a pixel that has not stopped; return False if none has."""
    any_live = False
    for y in range(rows):
        if live[y]:
            row = state[y * pitch : y * pitch + _TILE_W]
            live_count = 0
            for x in range(_TILE_W):
                live_count += row[x] > _ZERO
            live[y] = live_count > 0
            any_live |= live_count > 0
    return any_live


@_serial
def _blend_worker(queue, bounds, entries, geo, paint, tiles_x, background, rgb, alpha, depth):
    """Take tiles off the queue until it is empty, and write them to the image."""
    height, width = alpha.shape
    state = np.empty(_TILE_H * 5 * _PITCH, np.float32)
    live = np.empty(_TILE_H, np.bool_)
    while True:
        tile = _take_number(queue)
        if tile >= bounds.shape[0] - 1:
            return
        if bounds[tile] == bounds[tile + 1]:
            continue
        tile_x, tile_y = (tile % tiles_x) * _TILE_W, (tile // tiles_x) * _TILE_H
        rows, columns = min(_TILE_H, height - tile_y), min(_TILE_W, width - tile_x)
        state[:] = _ZERO
        for y in range(rows):
            # Pixels outside the image have stopped, or their tiles would never be finished.
            state[y * 5 * _PITCH : y * 5 * _PITCH + columns] = _ONE
        tile_entries = entries[bounds[tile] : bounds[tile + 1]]
        _blend_tile(state, live, tile_entries, geo, paint, tile_x, tile_y, rows)
        for y in range(rows):
            row = state[y * 5 * _PITCH : (y + 1) * 5 * _PITCH]
            rgb_row, alpha_row = rgb[tile_y + y], alpha[tile_y + y]
            depth_row = depth[tile_y + y]
            for x in range(columns):
                transmittance = abs(row[x])
                rgb_row[tile_x + x, 0] = row[x + _PITCH] + transmittance * background[0]
                rgb_row[tile_x + x, 1] = row[x + 2 * _PITCH] + transmittance * background[1]
                rgb_row[tile_x + x, 2] = row[x + 3 * _PITCH] + transmittance * background[2]
                alpha_row[tile_x + x] = _ONE - transmittance
                depth_sum = row[x + 4 * _PITCH]
                depth_row[tile_x + x] = (
                    depth_sum / (_ONE - transmittance) if transmittance < _ONE else _ZERO
                )


@_parallel
def _blend(bounds, entries, geo, paint, tiles_x, background, rgb, alpha, depth, workers):
    queue = np.zeros(1, np.int64)
    for _ in prange(workers):
        _blend_worker(queue, bounds, entries, geo, paint, tiles_x, background, rgb, alpha, depth)


@_parallel
def _fill_background(rgb, background):
    for y in prange(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            rgb[y, x, 0] = background[0]
            rgb[y, x, 1] = background[1]
            rgb[y, x, 2] = background[2]


@_serial
def _forward(splats, view, lens, background, rgb, alpha, depth, with_places, workers):
    """Render one camera into rgb, alpha and depth; return the inputs of the backward pass."""
    if background[0] != 0 or background[1] != 0 or background[2] != 0:
        _fill_background(rgb, background)
    height, width = alpha.shape
    tiles_x, tiles_y = (width + _TILE_W - 1) // _TILE_W, (height + _TILE_H - 1) // _TILE_H
    ranks, drawn = _depth_ranks(_depth_keys(splats.means, splats.opacities, view))
    geo, paint = _project(ranks, drawn, splats, view, lens, workers)
    bounds, entries, place_bounds, places = _tile_bins(geo, tiles_x, tiles_y, with_places, workers)
    _blend(bounds, entries, geo, paint, tiles_x, background, rgb, alpha, depth, workers)
    return ranks, geo, paint, bounds, entries, place_bounds, places


# ---------------------------------------------------------------------------- backward


@_serial
def _backward_tile(state, live, sums, entries, slots, geo, paint, tile_x, tile_y, rows):
    """Replay _blend_tile and write the gradient sums of each Gaussian of the tile to its slots.

    state [rows, 6, _PITCH]: transmittance as in the forward pass; the gradient times the colour
    still to be added there; gradients by r, g, b and depth sum.
    slots: loss by r, g, b, depth; then with D = d loss / d log alpha the sums of D,
    D u, D u^2, D dy, D u dy, D dy^2, where u is the distance from the row's centre.
    """
    pitch = 6 * _PITCH
    # Front to back, until no pixel is live.
    live[:rows] = True
    first, steps = np.empty(_TILE_H, np.int32), np.empty(_TILE_H, np.int32)
    centres, peaks = np.empty(_TILE_H, np.float32), np.empty(_TILE_H, np.float32)
    for number in range(entries.shape[0]):
        if number % 16 == 15 and not _any_live(state, live, rows, pitch):
            return
        rank = entries[number]
        ahead = np.int64(entries[min(number + 2, entries.shape[0] - 1)])
        _prefetch(geo, ahead * 8)
        _prefetch(paint, ahead * 4)
        # Extents of the Gaussian in the tile.
        my = geo[rank, _MY] - (tile_y + 0.5)
        mx = geo[rank, _MX] - (tile_x + 0.5)
        reach, across = geo[rank, _REACH_Y], np.float32(geo[rank, _ACROSS])
        r, g, b, depth = paint[rank, 0], paint[rank, 1], paint[rank, 2], paint[rank, 3]
        _row_spans(geo, rank, mx, my, first, steps, centres, peaks)
        sums[:] = _ZERO
        # Rows, in steps of _LANES pixels.
        y = np.int64(max(my - reach, 0.0))
        y_end = np.int64(min(max(my + reach + 1.0, 0.0), rows * 1.0))
        while y < y_end:
            if live[y]:
                x, remaining, centre, peak = np.int64(first[y]), steps[y], centres[y], peaks[y]
                dy = np.float32(y - my)
                offset = y * pitch
                while remaining > 0:
                    v = state[offset + x : offset + x + 5 * _PITCH + _LANES]
                    u0 = np.float32(x) - centre
                    for lane in range(_LANES):
                        u = u0 + np.float32(lane)
                        t = peak - across * u * u
                        free = _exp2(t)
                        alpha = min(free, _ALPHA_MAX32)
                        before = v[lane]
                        weight = alpha * before
                        after = before - weight
                        hit = t >= _LOG2_ALPHA_MIN32
                        visible = hit & (after >= _T_MIN32)
                        weight = weight if visible else _ZERO
                        v[lane] = after if visible else (-abs(before) if hit else before)

                        # Gradients of the lane.
                        to_r, to_g = v[lane + 2 * _PITCH], v[lane + 3 * _PITCH]
                        to_b, to_depth = v[lane + 4 * _PITCH], v[lane + 5 * _PITCH]
                        worth = r * to_r + g * to_g + b * to_b + depth * to_depth
                        rest = v[lane + _PITCH] - weight * worth
                        v[lane + _PITCH] = rest
                        slope_alpha = before * worth - rest / (_ONE - alpha)
                        D = slope_alpha * alpha if visible & (free <= _ALPHA_MAX32) else _ZERO
                        sums[lane] += weight * to_r
                        sums[lane + _LANES] += weight * to_g
                        sums[lane + 2 * _LANES] += weight * to_b
                        sums[lane + 3 * _LANES] += weight * to_depth
                        sums[lane + 4 * _LANES] += D
                        sums[lane + 5 * _LANES] += D * u
                        sums[lane + 6 * _LANES] += D * u * u
                        sums[lane + 7 * _LANES] += D * dy
                        sums[lane + 8 * _LANES] += D * u * dy
                        sums[lane + 9 * _LANES] += D * dy * dy
                    x += _LANES
                    remaining -= 1
            y += 1
        # Sums over the lanes.
        for slot in range(_SLOTS):
            total = _ZERO
            for lane in range(_LANES):
                total += sums[slot * _LANES + lane]
            slots[number, slot] = total


@_serial
def _backward_worker(
    queue, bounds, entries, slots, geo, paint, tiles_x, background, image, gradients
):
    # Scratch of the worker.
    rgb, alpha, depth = image
    to_rgb, to_alpha, to_depth = gradients
    height, width = alpha.shape
    pitch = 6 * _PITCH
    state = np.empty(_TILE_H * pitch, np.float32)
    sums = np.empty(_SLOTS * _LANES, np.float32)
    live = np.empty(_TILE_H, np.bool_)
    while True:
        tile = _take_number(queue)
        if tile >= bounds.shape[0] - 1:
            return
        if bounds[tile] == bounds[tile + 1]:
            continue
        tile_x, tile_y = (tile % tiles_x) * _TILE_W, (tile // tiles_x) * _TILE_H
        rows, columns = min(_TILE_H, height - tile_y), min(_TILE_W, width - tile_x)
        # State of each pixel before its first Gaussian.
        state[:] = _ZERO
        for y in range(rows):
            row = state[y * pitch : (y + 1) * pitch]
            for x in range(columns):
                py, px = tile_y + y, tile_x + x
                r, g, b = to_rgb[py, px, 0], to_rgb[py, px, 1], to_rgb[py, px, 2]
                a, d = alpha[py, px], depth[py, px]
                transmittance = _ONE - a
                # Depth is depth sum / alpha, alpha is 1 - transmittance, and the background is
                # weighted by the transmittance.
                to_sum = to_depth[py, px] / a if a > _ZERO else _ZERO
                by_background = r * background[0] + g * background[1] + b * background[2]
                to_transmittance = by_background - to_alpha[py, px] + to_sum * d
                total = r * rgb[py, px, 0] + g * rgb[py, px, 1] + b * rgb[py, px, 2]
                total += to_sum * d * a - transmittance * by_background
                row[x] = _ONE
                row[x + _PITCH] = total + transmittance * to_transmittance
                row[x + 2 * _PITCH], row[x + 3 * _PITCH] = r, g
                row[x + 4 * _PITCH], row[x + 5 * _PITCH] = b, to_sum
        first, last = bounds[tile], bounds[tile + 1]
        _backward_tile(
            state,
            live,
            sums,
            entries[first:last],
            slots[first:last],
            geo,
            paint,
            tile_x,
            tile_y,
            rows,
        )


@_parallel
def _backward_blend(bounds, entries, geo, paint, tiles_x, background, image, gradients, workers):
    """Compute the gradient sums [entries, _SLOTS]."""
    slots = np.zeros((entries.shape[0], _SLOTS), np.float32)
    queue = np.zeros(1, np.int64)
    for _ in prange(workers):
        _backward_worker(
            queue,
            bounds,
            entries,
            slots,
            geo,
            paint,
            tiles_x,
            background,
            image,
            gradients,
        )
    return slots


@_serial
def _backward_project_range(
    first, last, ranks, splats, view, lens, geo, paint,
    place_bounds, places, slots, to_splats,
):  # fmt: skip
    """Sum the slots of the Gaussians first..last-1, and go back through _project_range.

    Each Gaussian belongs to one thread: additions to its row are safe and in a fixed order.
    """
    # Scratch, and the centre of the camera.
    means, quats, scales, opacities, sh = splats
    to_means, to_quats, to_scales, to_opacities, to_sh = to_splats
    R = np.empty((3, 3))
    Y, dY = np.empty(16), np.empty((16, 3))
    total = np.empty(_SLOTS)
    P, M = np.empty((2, 3)), np.empty((2, 3))
    to_M, to_P, to_R = np.empty((2, 3)), np.empty((2, 3)), np.empty((3, 3))
    fx, fy, _, _, limit_u, limit_v = lens
    eye = np.empty(3)
    for axis in range(3):
        eye[axis] = -(
            view[0, axis] * view[0, 3] + view[1, axis] * view[1, 3] + view[2, axis] * view[2, 3]
        )
    count = sh.shape[1]
    for i in range(first, last):
        rank = ranks[i]
        if rank < 0 or place_bounds[rank] == place_bounds[rank + 1]:
            continue
        # Sums over the tiles of the Gaussian.
        total[:] = 0.0
        for place in range(place_bounds[rank], place_bounds[rank + 1]):
            for slot in range(_SLOTS):
                total[slot] += slots[places[place], slot]

        # 1. log2 alpha = top - across u^2 - down dy^2, u = x - mx - slope dy, dy = y - my.
        slope, across, down = geo[rank, _SLOPE], geo[rank, _ACROSS], geo[rank, _DOWN]
        D, D_u, D_uu, D_dy, D_u_dy, D_dy_dy = (
            total[4] * _LN2,
            total[5] * _LN2,
            total[6] * _LN2,
            total[7] * _LN2,
            total[8] * _LN2,
            total[9] * _LN2,
        )
        to_opacities[i] += D / (_LN2 * opacities[i])
        to_mx = 2 * across * D_u
        to_my = 2 * down * D_dy - slope * to_mx
        to_slope = 2 * across * D_u_dy
        to_across, to_down = -D_uu, -D_dy_dy

        # 2. slope = xy / yy, across = log2 e / 2 / (xx - xy^2 / yy), down = log2 e / 2 / yy.
        yy = 0.5 * _LOG2E / down
        to_schur = -to_across * across * across / (0.5 * _LOG2E)
        to_xx = to_schur
        to_xy = to_slope / yy - 2 * slope * to_schur
        to_yy = slope * slope * to_schur - to_slope * slope / yy - to_down * down / yy

        # 3. The covariance is M M^T + blur, M = P R S, P = J R_view_world.
        x, y, z = np.float64(means[i, 0]), np.float64(means[i, 1]), np.float64(means[i, 2])
        vz = view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3]
        u = (view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3]) / vz
        v = (view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3]) / vz
        clamped_u, clamped_v = min(max(u, -limit_u), limit_u), min(max(v, -limit_v), limit_v)
        _rotation(quats, i, R)
        for axis in range(3):
            P[0, axis] = fx / vz * (view[0, axis] - clamped_u * view[2, axis])
            P[1, axis] = fy / vz * (view[1, axis] - clamped_v * view[2, axis])
        for axis in range(3):
            scale = np.float64(scales[i, axis])
            along_0 = P[0, 0] * R[0, axis] + P[0, 1] * R[1, axis] + P[0, 2] * R[2, axis]
            along_1 = P[1, 0] * R[0, axis] + P[1, 1] * R[1, axis] + P[1, 2] * R[2, axis]
            M[0, axis], M[1, axis] = along_0 * scale, along_1 * scale
            to_M[0, axis] = 2 * to_xx * M[0, axis] + to_xy * M[1, axis]
            to_M[1, axis] = to_xy * M[0, axis] + 2 * to_yy * M[1, axis]
            to_scales[i, axis] += to_M[0, axis] * along_0 + to_M[1, axis] * along_1
            for other in range(3):
                to_R[other, axis] = scale * (
                    P[0, other] * to_M[0, axis] + P[1, other] * to_M[1, axis]
                )
        for row in range(2):
            for axis in range(3):
                to_P[row, axis] = 0.0
                for k in range(3):
                    to_P[row, axis] += to_M[row, k] * R[axis, k] * scales[i, k]

        # 4. P's rows are f / vz (view row - clamped view depth row); the centre is f u + c.
        to_u, to_v, to_vz = fx * to_mx, fy * to_my, np.float64(total[3])
        for axis in range(3):
            to_vz -= (to_P[0, axis] * P[0, axis] + to_P[1, axis] * P[1, axis]) / vz
            if -limit_u <= u <= limit_u:
                to_u -= to_P[0, axis] * fx / vz * view[2, axis]
            if -limit_v <= v <= limit_v:
                to_v -= to_P[1, axis] * fy / vz * view[2, axis]
        to_vx, to_vy = to_u / vz, to_v / vz
        to_vz -= (to_u * u + to_v * v) / vz
        for axis in range(3):
            to_means[i, axis] += (
                view[0, axis] * to_vx + view[1, axis] * to_vy + view[2, axis] * to_vz
            )

        # 5. Rotation to quaternion.
        qw, qx, qy, qz = (
            np.float64(quats[i, 0]),
            np.float64(quats[i, 1]),
            np.float64(quats[i, 2]),
            np.float64(quats[i, 3]),
        )
        turn_x, turn_y, turn_z = (
            to_R[2, 1] - to_R[1, 2],
            to_R[0, 2] - to_R[2, 0],
            to_R[1, 0] - to_R[0, 1],
        )
        pair_xy, pair_xz, pair_yz = (
            to_R[0, 1] + to_R[1, 0],
            to_R[0, 2] + to_R[2, 0],
            to_R[1, 2] + to_R[2, 1],
        )
        to_quats[i, 0] += 2 * (qx * turn_x + qy * turn_y + qz * turn_z)
        to_quats[i, 1] += 2 * (
            qw * turn_x + qy * pair_xy + qz * pair_xz - 2 * qx * (to_R[1, 1] + to_R[2, 2])
        )
        to_quats[i, 2] += 2 * (
            qw * turn_y + qx * pair_xy + qz * pair_yz - 2 * qy * (to_R[0, 0] + to_R[2, 2])
        )
        to_quats[i, 3] += 2 * (
            qw * turn_z + qx * pair_xz + qy * pair_yz - 2 * qz * (to_R[0, 0] + to_R[1, 1])
        )

        # 6. Colour: to the coefficients, and through the direction to the mean.
        dx, dy, dz = x - eye[0], y - eye[1], z - eye[2]
        near = 1.0 / max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
        dx, dy, dz = dx * near, dy * near, dz * near
        _sh_basis(dx, dy, dz, count, Y)
        _sh_gradient(dx, dy, dz, count, dY)
        to_dx, to_dy, to_dz = 0.0, 0.0, 0.0
        for channel in range(3):
            if paint[rank, channel] > _ZERO:
                for k in range(count):
                    coefficient = np.float64(sh[i, k, channel])
                    to_sh[i, k, channel] += total[channel] * Y[k]
                    to_dx += total[channel] * coefficient * dY[k, 0]
                    to_dy += total[channel] * coefficient * dY[k, 1]
                    to_dz += total[channel] * coefficient * dY[k, 2]
        along = dx * to_dx + dy * to_dy + dz * to_dz
        to_means[i, 0] += (to_dx - along * dx) * near
        to_means[i, 1] += (to_dy - along * dy) * near
        to_means[i, 2] += (to_dz - along * dz) * near


@_parallel
def _backward_project(
    ranks, splats, view, lens, geo, paint, place_bounds, places, slots,
    to_splats, workers,
):  # fmt: skip
    count = ranks.shape[0]
    for w in prange(workers):
        first, last = w * count // workers, (w + 1) * count // workers
        _backward_project_range(
            first, last, ranks, splats, view, lens, geo, paint,
            place_bounds, places, slots, to_splats,
        )  # fmt: skip


@_serial
def _backward(splats, to_splats, view, lens, background, saved, image, gradients, workers):
    """Add the gradients of one camera's image to `to_splats`."""
    ranks, geo, paint, bounds, entries, place_bounds, places = saved
    tiles_x = (image[1].shape[1] + _TILE_W - 1) // _TILE_W
    slots = _backward_blend(
        bounds, entries, geo, paint, tiles_x, background, image, gradients, workers
    )
    _backward_project(
        ranks, splats, view, lens, geo, paint, place_bounds, places, slots, to_splats, workers
    )


# ---------------------------------------------------------------------------- from and to torch

_kernels_lock = threading.Lock()
"""Lock for one image at a time: numba's fallback threading layer kills the process on two callers,
and on the others two images at once would only share the same cores."""


class _Announcement(event.Listener):
    """Log once that kernels are being compiled; silent when they come from numba's cache."""

    is_logged = False

    def on_start(self, event: event.Event) -> None:
        if not _Announcement.is_logged:
            _Announcement.is_logged = True
            logger.info("compiling CPU kernels (first use, about %d s)", COMPILE_SECONDS)

    def on_end(self, event: event.Event) -> None:
        pass


def _workers() -> int:
    """Count numba's threads, which the first call starts.

    They may share one OpenMP with torch, which then takes over their number: torch would sum in
    another order from here on. A training resumed after a kill would then differ from one that
    was never killed.
    """
    threads = torch.get_num_threads()
    workers = numba.get_num_threads()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return workers


def call_kernel(kernel: Any, *arguments: Any) -> Any:
    with _kernels_lock, event.install_listener("numba:compile", _Announcement()):
        return kernel(*arguments, _workers())


def _as_array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


def _camera_arrays(camera: Camera) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Convert a camera to viewmat and (fx, fy, cx, cy, limits of x/z and y/z in the Jacobian)."""
    view = camera.viewmat.detach().to("cpu", torch.float64).contiguous().numpy()
    K = camera.K.detach().to("cpu", torch.float64)
    fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    return view, (fx, fy, cx, cy, *frustum_limits(camera))


def _background_array(background: Tensor | None) -> NDArray[np.float32]:
    return np.zeros(3, np.float32) if background is None else _as_array(background)


def _render_camera(
    splats: _Splats, camera: Camera, background: NDArray[np.float32], with_places: bool
) -> tuple[tuple[Tensor, Tensor, Tensor], Any]:
    """Render (rgb, alpha, depth) of one camera, with the inputs of _backward."""
    height, width = camera.height, camera.width
    # Zeros come from the system untouched: tiles that no Gaussian reaches are never written.
    rgb = np.zeros((height, width, 3), np.float32)
    alpha, depth = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    view, lens = _camera_arrays(camera)
    saved = call_kernel(_forward, splats, view, lens, background, rgb, alpha, depth, with_places)
    return (torch.from_numpy(rgb), torch.from_numpy(alpha), torch.from_numpy(depth)), saved


class _Rasterize(torch.autograd.Function):
    """Images of all cameras, with gradients by the five tensors of the Gaussians."""

    @staticmethod
    def forward(
        ctx: Any,
        cameras: Sequence[Camera],
        background: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        splats = _Splats(*map(_as_array, parameters))
        under = _background_array(background)
        images: list[Tensor] = []
        ctx.saved = []
        for camera in cameras:
            image, saved = _render_camera(splats, camera, under, True)
            images += image
            ctx.saved.append(saved)
        ctx.cameras, ctx.background = cameras, under
        ctx.save_for_backward(*parameters, *images)
        ctx.set_materialize_grads(False)
        return tuple(images)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        splats = _Splats(*map(_as_array, ctx.saved_tensors[:5]))
        images = [_as_array(tensor) for tensor in ctx.saved_tensors[5:]]
        to_splats = _Splats(*map(np.zeros_like, splats))
        upstream = [
            np.zeros_like(image) if gradient is None else _as_array(gradient)
            for image, gradient in zip(images, gradients, strict=True)
        ]
        for number, camera in enumerate(ctx.cameras):
            view, lens = _camera_arrays(camera)
            of_camera = slice(3 * number, 3 * number + 3)
            call_kernel(
                _backward,
                splats,
                to_splats,
                view,
                lens,
                ctx.background,
                ctx.saved[number],
                tuple(images[of_camera]),
                tuple(upstream[of_camera]),
            )
        return None, None, *map(torch.from_numpy, to_splats)


def render(
    gaussians: Gaussians, cameras: Sequence[Camera], background: Float[Tensor, "3"] | None
) -> list[Image]:
    """Render one float32 image a camera. `rasterize` has checked the arguments.

    Gradients reach means, quats, scales, opacities and sh, summed over the cameras; cameras and
    background are constants. Without gradients nothing is saved.
    """
    parameters = (
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
    )
    if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
        singles = (p.to(torch.float32) for p in parameters)
        flat = _Rasterize.apply(tuple(cameras), background, *singles)
        return [Image(*flat[first : first + 3]) for first in range(0, len(flat), 3)]
    splats = _Splats(*map(_as_array, parameters))
    under = _background_array(background)
    return [Image(*_render_camera(splats, camera, under, False)[0]) for camera in cameras]
