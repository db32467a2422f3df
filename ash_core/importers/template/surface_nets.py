"""Closed triangle surface around a set of grid cells: surface nets on a repaired grid.

Source: Gibson 1998, "Constrained Elastic Surface Nets"; Latecki 1997, "3D Well-Composed Pictures".
"""

import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import ndimage

REPAIRS = 20
"""Upper bound on rounds of repairing."""
INSIDE = -1e-3
"""Value of a grid node that a repair adds to the inside, as a share of the cell."""


def solid(inside: Bool[ndarray, "X Y Z"]) -> Bool[ndarray, "X Y Z"]:
    """Keep the largest piece of a set of grid nodes, without cavities, and make it well-composed.

    Then its surface is a manifold: no two of its cells touch by an edge or a corner alone.
    """
    labels, count = ndimage.label(inside)  # pyright: ignore[reportGeneralTypeIssues]
    if count > 1:
        inside = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    outside, count = ndimage.label(~inside)  # pyright: ignore[reportGeneralTypeIssues]
    if count > 1:
        inside = outside != np.bincount(outside.ravel())[1:].argmax() + 1
    for _ in range(REPAIRS):
        added = _edge_repairs(inside) | _corner_repairs(inside)
        if not added.any():
            break
        inside = inside | added
    return inside


def _edge_repairs(inside: Bool[ndarray, "X Y Z"]) -> Bool[ndarray, "X Y Z"]:
    """Find outside nodes of squares whose diagonals are inside and outside."""
    added = np.zeros_like(inside)
    for axes in ((0, 1), (0, 2), (1, 2)):
        corners = [_part(inside, dict(zip(axes, shift, strict=True)), axes)
                   for shift in itertools.product((0, 1), repeat=2)]  # fmt: skip
        first = corners[0] & corners[3] & ~corners[1] & ~corners[2]
        second = ~corners[0] & ~corners[3] & corners[1] & corners[2]
        _part(added, {axes[0]: 0, axes[1]: 1}, axes)[first] = True
        _part(added, {axes[0]: 0, axes[1]: 0}, axes)[second] = True
    return added


def _corner_repairs(inside: Bool[ndarray, "X Y Z"]) -> Bool[ndarray, "X Y Z"]:
    """Find outside nodes of cubes of which only two opposite corners are inside, or outside."""
    added = np.zeros_like(inside)
    shifts: list[tuple[int, ...]] = list(itertools.product((0, 1), repeat=3))
    parts = {shift: _part(inside, dict(enumerate(shift)), (0, 1, 2)) for shift in shifts}
    total = sum(part.astype(np.int8) for part in parts.values())
    for shift in shifts[:4]:
        opposite = (1 - shift[0], 1 - shift[1], 1 - shift[2])
        same = parts[shift] == parts[opposite]
        two_inside = same & parts[shift] & (total == 2)
        two_outside = same & ~parts[shift] & (total == 6)
        _part(added, dict(enumerate(shift)), (0, 1, 2))[two_outside] = True
        beside = (1 - shift[0], shift[1], shift[2])
        _part(added, dict(enumerate(beside)), (0, 1, 2))[two_inside] = True
    return added & ~inside


def _part(grid: ndarray, shift: Mapping[int, int], axes: tuple[int, ...]) -> ndarray:
    """Slice a grid to the nodes at one corner of its squares or cubes."""
    cut = [slice(None)] * 3
    for axis in axes:
        cut[axis] = slice(shift[axis], grid.shape[axis] - 1 + shift[axis])
    return grid[tuple(cut)]


def surface_nets(
    values: Float[ndarray, "X Y Z"], origin: Float[ndarray, "3"], cell: float
) -> tuple[Float[ndarray, "V 3"], Int[ndarray, "F 3"]]:
    """Extract the surface where values change sign (negative: inside), as one closed manifold.

    One vertex per cube that the surface crosses, in the mean of its edges' crossings.
    values: signed distances at the nodes, m. The border of the grid counts as outside.
    """
    # Make the inside one solid and let the values agree with it.
    grid = np.pad(np.asarray(values, np.float32), 1, constant_values=cell)
    inside = solid(grid < 0)
    grid = np.where(inside, np.minimum(grid, INSIDE * cell), np.maximum(grid, -INSIDE * cell))
    # Sum the crossings of the twelve edges of each cube.
    shape = tuple(n - 1 for n in grid.shape)
    total = np.zeros((*shape, 3), np.float32)
    count = np.zeros(shape, np.int8)
    for axis in range(3):
        low, high = _edge_ends(grid, axis)
        crossing = (low < 0) != (high < 0)
        share = np.where(crossing, low / np.where(crossing, low - high, 1.0), 0.0)
        others = [other for other in range(3) if other != axis]
        for shift in itertools.product((0, 1), repeat=2):
            offsets = dict(zip(others, shift, strict=True))
            part = _part(crossing, offsets, tuple(others))
            count += part
            total[..., axis] += _part(share, offsets, tuple(others))
            for other, step in offsets.items():
                total[..., other] += step * part
    cubes = np.argwhere(count > 0)
    number = np.full(shape, -1, np.int64)
    number[tuple(cubes.T)] = np.arange(len(cubes))
    within = total[tuple(cubes.T)] / count[tuple(cubes.T)][:, None]
    vertices = origin + (cubes - 1 + within) * cell
    # Each crossing inner edge has a quad of the four cubes around it.
    quads = []
    for axis in range(3):
        low, high = _edge_ends(grid, axis)
        edges = np.argwhere((low < 0) != (high < 0))
        one, two = np.eye(3, dtype=int)[(axis + 1) % 3], np.eye(3, dtype=int)[(axis + 2) % 3]
        around = [edges - one - two, edges - two, edges, edges - one]
        quad = np.stack([number[tuple(place.T)] for place in around], 1)
        leaves = low[tuple(edges.T)] < 0
        quads.append(np.where(leaves[:, None], quad, quad[:, ::-1]))
    return vertices, _triangles(np.concatenate(quads), vertices)


def _edge_ends(grid: ndarray, axis: int) -> tuple[ndarray, ndarray]:
    """Return the values at both ends of all edges along an axis."""
    low = [slice(None)] * 3
    high = [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return grid[tuple(low)], grid[tuple(high)]


def _triangles(quads: Int[ndarray, "Q 4"], vertices: Float[ndarray, "V 3"]) -> ndarray:
    """Split quads along their shorter diagonals."""
    places = vertices[quads]
    one = np.linalg.norm(places[:, 0] - places[:, 2], axis=1)
    other = np.linalg.norm(places[:, 1] - places[:, 3], axis=1)
    quads = np.where((one <= other)[:, None], quads, np.roll(quads, -1, 1))
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
