"""Pack flattened charts into the unit square by trying places on a bitmap."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

GRID = 256
GAP = 2
"""Number of free texels between charts and to the border, at GRID."""
OVERSAMPLE = 4
ANGLES = 24
TURNS = 8
QUICK_TURNS = 4
MANY = 40
"""Number of charts from which one order of placing has to do."""
BISECTIONS = 6
RETRIES = 20
"""Smaller scales that are tried for charts that leave much of their boxes empty."""
ORDERS = 2
TIGHTNESS = (0.0, 1.0)
"""Weight of the used square's size against a place's distance from the corner."""


def pack(charts: list[tuple[np.ndarray, np.ndarray]], quick: bool = False) -> list[np.ndarray]:
    """Pack charts, given as (flat [n, 2], local faces [T, 3]), into [0, 1]^2 at one scale.

    The scale is the largest of a bisection, over a few orders of placing. quick: fewer orders and
    turns.
    """
    upright = [(_upright(flat), faces) for flat, faces in charts]
    areas = np.array([_area(flat, faces) for flat, faces in upright])
    spans = np.array([np.ptp(flat, axis=0).max() for flat, _ in upright])
    orders = [np.argsort(-key) for key in (areas, spans, areas * spans)]
    rng = np.random.default_rng(0)
    orders += [np.argsort(-areas * rng.uniform(0.6, 1.6, len(areas))) for _ in range(ORDERS)]
    low, high = np.sqrt(0.45 / areas.sum()), np.sqrt(0.75 / areas.sum())
    turns, tightness = (QUICK_TURNS if quick else TURNS), TIGHTNESS
    if quick:
        orders = orders[:3]
    if len(charts) > MANY:
        orders, tightness = orders[:1], TIGHTNESS[1:]
    best = None
    for number in range(BISECTIONS + RETRIES):
        if number >= BISECTIONS and best is not None:
            break
        if number >= BISECTIONS:
            low *= 0.8  # hollow charts, or very many
        scale = (low + high) / 2 if number < BISECTIONS else low
        turned = _turned_charts(upright, scale, turns)
        tries = (_try(turned, order, t, turns) for order in orders for t in tightness)
        placed = next((p for p in tries if p is not None), None)
        if placed is None:
            high = scale
        else:
            low, best = scale, placed
    assert best is not None, len(charts)
    return best


def _turned_charts(
    charts: list, scale: float, turns: int
) -> Callable[[int, int], tuple[np.ndarray, np.ndarray] | None]:
    """Return a function from (chart, turn) to the turned layout and its bitmap.

    It is None where the layout is too large. All orders of placing share a bitmap.
    """

    @cache
    def turned_chart(index: int, turn: int) -> tuple[np.ndarray, np.ndarray] | None:
        flat, faces = charts[index]
        angle = 2 * np.pi * turn / turns
        c, s = np.cos(angle), np.sin(angle)
        turned = flat @ np.array([[c, s], [-s, c]]) * scale
        turned = turned - turned.min(0)
        if turned.max() > 1.0 - (2 * GAP + 2) / GRID:
            return None
        return turned, _bitmap(turned, faces)

    return turned_chart


def _try(
    turned_chart: Callable[[int, int], tuple[np.ndarray, np.ndarray] | None],
    order: np.ndarray,
    tightness: float,
    turns: int,
) -> list[np.ndarray] | None:
    """Place the charts in order, keeping the used square small; None if one has no place."""
    taken = np.zeros((GRID, GRID), bool)  # the widened chart stays inside: the gap to the border
    placed: list = [None] * len(order)
    for index in order.tolist():
        spectrum = np.fft.rfft2(taken.astype(np.float32))
        best = None
        for turn in range(turns):
            # Turn the layout, and widen its cells by the gap.
            layout = turned_chart(index, turn)
            if layout is None:
                continue
            turned, mask = layout
            h, w = mask.shape
            wide = np.zeros((GRID, GRID), np.float32)
            wide[: h + 2 * GAP, : w + 2 * GAP] = binary_dilation(
                np.pad(mask, GAP), np.ones((3, 3)), iterations=GAP
            )[:GRID, :GRID]
            # Correlation: number of used cells that the widened chart would touch, at each place.
            hits = np.fft.irfft2(spectrum * np.fft.rfft2(wide).conj(), s=(GRID, GRID))
            free = hits[: GRID - h - 2 * GAP + 1, : GRID - w - 2 * GAP + 1] < 0.5
            rows, columns = np.nonzero(free)
            if not len(rows):
                continue
            # Keep the cheapest place of all turns.
            cost = np.maximum(rows + h, columns + w) * tightness + rows + columns + h + w
            place = int(np.argmin(cost))
            if best is None or cost[place] < best[0]:
                best = (cost[place], turned, mask, rows[place] + GAP, columns[place] + GAP)
        if best is None:
            return None
        # Mark its cells as used.
        _, turned, mask, row, column = best
        taken[row : row + mask.shape[0], column : column + mask.shape[1]] |= mask
        placed[index] = turned + np.array([column, row]) / GRID
    return placed


def _bitmap(flat: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Rasterize a layout into cells of the grid; rows are v, columns u."""
    fine = flat * GRID * OVERSAMPLE
    width, height = (np.ceil(flat.max(0) * GRID).astype(int) + 1).tolist()
    image = Image.new("1", (width * OVERSAMPLE, height * OVERSAMPLE))
    draw = ImageDraw.Draw(image)
    for corners in fine[faces]:
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=1, outline=1)
    bits = np.asarray(image).reshape(height, OVERSAMPLE, width, OVERSAMPLE)
    return np.asarray(bits.any((1, 3)))


def _upright(flat: np.ndarray) -> np.ndarray:
    """Rotate a layout to its smallest bounding box."""
    best = None
    for angle in np.arange(ANGLES) * (np.pi / 2 / ANGLES):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turned = flat @ turn
        size = np.ptp(turned, axis=0)
        if best is None or size.prod() < best[0]:
            best = (size.prod(), turned)
    assert best is not None
    return best[1] - best[1].min(0)


def _area(flat: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (flat[faces[:, k]] for k in range(3))
    e, f = b - a, c - a
    return float((e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]).sum() / 2)
