"""Hair of the wardrobe's actors: its line on the skin, its depth, and strands painted with relief.

Paint and shape use the same comb, so that strands run on from the scalp to what hangs from it.
Where hair grows out of skin the surface starts flat, and single strands cover the skin.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from ash_core.studio.actor.brushes import bump, cloud, over
from ash_core.studio.actor.regions import Landmarks, step

HAIRLINE = (
    (0, 0.061), (10, 0.063), (22, 0.066), (34, 0.061), (46, 0.044), (56, 0.030), (66, 0.016),
    (75, -0.008), (82, -0.010), (88, 0.006), (94, 0.012), (99, 0.000), (104, -0.030),
    (112, -0.048), (122, -0.058), (140, -0.065), (160, -0.070), (180, -0.066),
)  # fmt: skip
"""Height of the hairline over the eyes (m) by azimuth (degrees; 0 is the face, 180 the nape)."""
RISE = 0.024
"""Distance from the hairline at which hair has its full depth, m."""
PART = 0.026
"""Distance of a side parting from the middle of the head, to the left, m."""
PART_END = -0.03
"""End of the parting at the crown, behind the middle of the head, m."""
FAN, FAN_DEPTH = 0.35, 0.25
"""Radius at which the planes of parted strands are true metres apart, and depth of their line under
the middle of the head, m."""
TAIL_WAY = np.array([0.0, 0.50, -1.0]) / np.hypot(0.50, 1.0)
"""Direction from the middle of the head to the root of a pony tail."""
TIE = (0.016, 0.030)
"""Start and end of a pony tail's elastic band along it, m."""
RADIUS = 0.10
"""Radius at which a comb's metres across are true, m."""
CURL = 0.0036
"""Distance between curls, m."""
GLOSS = 0.16


@dataclass(frozen=True)
class Comb:
    """Direction of the strands at places on hair [N]."""

    across: np.ndarray
    """Metres across the strands, true where `narrow` is 1."""
    along: np.ndarray
    """Metres from the root."""
    narrow: np.ndarray
    """Share of a strand's room across: less than 1 where strands meet."""
    period: float
    """Metres across after which the comb closes; 0: it does not."""
    parting: np.ndarray
    """Distance from the parting, m."""


@dataclass(frozen=True)
class Coat:
    """Paint of hair at places [N]."""

    colour: np.ndarray
    gloss: np.ndarray
    relief: np.ndarray
    """Height of the strands, m."""
    cover: np.ndarray
    """Share of the skin that strands cover, 0 to 1."""


def hair_depth(
    points: np.ndarray, hair: np.ndarray, azimuth: np.ndarray, marks: Landmarks, kind: str
) -> np.ndarray:
    """Return the depth of hair [N], m, over bare places on the scalp [N, 3].

    hair: signed distance from the hairline, m. Hair that hangs on below its line keeps its depth.
    """
    up = step(points[:, 1] - marks.eyes[1], 0.03, 0.11)
    front = step(points[:, 2] - marks.head[2], 0.02, 0.09)
    rise = step(hair, -0.002, RISE)
    if kind == "tail":  # combed back, with some air over the crown
        crown = bump(np.linalg.norm(points - marks.head - [0.0, 0.10, -0.03], axis=1), 0.06)
        depth = 0.006 + 0.005 * up + 0.006 * crown
    elif kind == "bob":
        hangs = step(azimuth, 58, 74)
        rise = hangs + (1.0 - hangs) * rise
        groove = 1.0 - 0.55 * bump(points[:, 0] - PART, 0.010) * up * (
            1.0 - step(azimuth, 100, 150)
        )
        depth = (0.013 + 0.012 * up) * groove
    else:
        depth = 0.006 + 0.013 * up + 0.010 * up * front
    return rise * depth


def ears_alone(ear: np.ndarray, points: np.ndarray, marks: Landmarks) -> np.ndarray:
    """Return the share of ears [N] without the skin behind them, on which hair grows."""
    offset = points - marks.head
    return ear * (1.0 - step(np.degrees(np.arctan2(np.abs(offset[:, 0]), offset[:, 2])), 96, 101))


def comb_scalp(points: np.ndarray, marks: Landmarks, kind: str) -> Comb:
    """Comb the scalp, and hair that hangs from it: places [N, 3], m."""
    offset = points - marks.head
    if kind == "tail":
        ahead = offset @ TAIL_WAY
        right = np.array([1.0, 0.0, 0.0])
        x, y = offset @ right, offset @ np.cross(TAIL_WAY, right)
        away = np.hypot(x, y)
        far = np.linalg.norm(offset, axis=1)
        along = np.arccos(np.clip(-ahead / far, -1, 1)) * RADIUS
        return Comb(
            np.arctan2(x, y) * RADIUS, along, away / RADIUS, 2 * np.pi * RADIUS, np.ones(len(x))
        )
    # From a parting: sideways and down, around the crown behind its end.
    x, z = offset[:, 0] - PART, offset[:, 2]
    near = np.maximum(z, PART_END)
    ahead, away = z - near, np.hypot(x, z - near)
    # Strands lie in planes that meet under the head: on the forehead they run aside and down.
    across = FAN * np.arctan2(near, offset[:, 1] + FAN_DEPTH)
    across = across + np.arctan2(ahead, np.abs(x)) * RADIUS * 0.9
    across = np.where(x > 0, across, 1.0 - across)
    beside = np.abs(ahead) < 1e-9
    narrow = np.where(beside, 1.0, np.clip(away / (0.9 * RADIUS), 0.05, 1.2))
    along = away + np.maximum(0.10 - offset[:, 1], 0.0)
    parting = np.where(offset[:, 1] > 0.0, away, 1.0)
    return Comb(across, along, narrow, 0.0, parting)


def comb_tail(points: np.ndarray, rings: np.ndarray, ring_points: np.ndarray) -> Comb:
    """Comb a pony tail: places [N, 3], m.

    rings [V]: metres along of the tail's vertices at ring_points [V, 3], m.
    """
    keys, which = np.unique(np.round(rings, 6), return_inverse=True)
    count = np.bincount(which)[:, None]
    centres = np.stack([np.bincount(which, ring_points[:, d]) for d in range(3)], 1) / count
    sizes = np.bincount(which, np.linalg.norm(ring_points - centres[which], axis=1)) / count[:, 0]
    line = np.concatenate([a + np.linspace(0, 1, 32, endpoint=False)[:, None] * (b - a)
                           for a, b in itertools.pairwise(centres)])  # fmt: skip
    steps = np.linspace(0, len(keys) - 1, len(line))
    _, nearest = KDTree(line).query(points)
    ways = np.gradient(line, axis=0)
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    offset, way = points - line[nearest], ways[nearest]
    ahead = np.cross(way, [1.0, 0.0, 0.0])
    angle = np.arctan2(offset[:, 0], (offset * ahead).sum(1))
    radius = np.interp(steps[nearest], np.arange(len(keys)), sizes)
    along = np.interp(steps[nearest], np.arange(len(keys)), keys) + (offset * way).sum(1)
    radius = np.maximum(radius, 0.006)
    return Comb(angle * RADIUS, along, radius / RADIUS, 2 * np.pi * RADIUS, np.ones(len(points)))


def cover_of(comb: Comb, line: np.ndarray) -> np.ndarray:
    """Return the share [N] of skin that hair covers. line: signed distance inside the hairline, m.

    Strands start at different distances; between the first ones the skin shows.
    """
    single = strands(comb, 0.0009, 11) + 0.6 * strands(comb, 0.004, 12)
    first = step(line + 0.0040 * single, -0.003, 0.009)
    shade = 0.42 * step(line, -0.011, 0.005)  # short hairs, too thin to be told apart
    return np.maximum(first, shade)


def paint_strands(comb: Comb, base: np.ndarray, line: np.ndarray, points: np.ndarray) -> Coat:
    """Paint combed hair. base: colour; line [N]: see `cover_of`; points [N, 3]: bare places."""
    lock, tress, fine = strands(comb, 0.009, 1), strands(comb, 0.0028, 2), strands(comb, 0.0011, 3)
    depth = 0.5 * lock + 0.3 * tress + 0.2 * fine
    tone = 1.0 + 0.05 * lock + 0.08 * tress + 0.12 * fine + 0.05 * cloud(points, 0.05, 5)
    tone = tone * (0.88 + 0.12 * step(depth, -0.6, 0.1))
    parted = 1.0 - step(comb.parting, 0.0002, 0.0019 + 0.0009 * fine)
    colour = (
        base * tone[:, None] + (base * [0.5, 0.42, 0.34]) * (0.18 * np.maximum(tress, 0))[:, None]
    )
    rise = step(line, -0.004, 0.02)
    relief = rise * (0.00030 * lock + 0.00020 * tress + 0.00007 * fine) - 0.0006 * parted
    gloss = np.clip(GLOSS + 0.08 * tress + 0.05 * fine, 0.02, 1.0) * (0.4 + 0.6 * rise)
    return Coat(colour, gloss, relief, cover_of(comb, line) * (1.0 - 0.7 * parted))


def paint_curls(
    points: np.ndarray, base: np.ndarray, line: np.ndarray, seed: int = 7
) -> Coat:  # fmt: skip
    """Paint short, tight curls: domes around points that are spread over the scalp."""
    low, high = points.min(0), points.max(0)
    rng = np.random.default_rng(seed)
    cells = np.indices(np.ceil((high - low) / CURL).astype(int) + 1).reshape(3, -1).T
    seeds = low + CURL * (cells + rng.uniform(0, 1, (len(cells), 3)))
    near = KDTree(points[:: max(1, len(points) // 20000)]).query(seeds, distance_upper_bound=CURL)[
        0
    ]
    away, which = map(np.asarray, KDTree(seeds[np.isfinite(near)]).query(points, k=2))
    dome = step(1.0 - away[:, 0] / (0.62 * CURL), 0.0, 1.0)
    twist = np.sin(2 * np.pi * away[:, 0] / 0.0011 + 2.4 * which[:, 0])
    valley = step(away[:, 1] - away[:, 0], 0.0, 0.0012)
    loose = cloud(points, 0.010, 6) + 0.6 * cloud(points, 0.004, 8)
    tone = 0.72 + 0.28 * valley * dome + 0.16 * twist * dome + 0.07 * cloud(points, 0.03, 9)
    first = step(line + 0.0028 * loose + 0.0022 * (dome - 0.5), -0.003, 0.006)
    shade = 0.45 * step(line, -0.011, 0.003)
    rise = step(line, -0.004, 0.012)
    relief = rise * (0.0005 * dome * valley + 0.00008 * twist * dome)
    gloss = np.full(len(points), 0.02)
    return Coat(base * tone[:, None], gloss, relief, np.maximum(first, shade))


def tie_tail(coat: Coat, comb: Comb) -> Coat:
    """Wind an elastic band around the root of a tail."""
    band = step(comb.along, TIE[0] - 0.001, TIE[0]) * (1 - step(comb.along, TIE[1], TIE[1] + 0.001))
    turns = np.sin(2 * np.pi * comb.along / 0.0046)
    ribbon = np.array([0.10, 0.13, 0.24]) * (1.0 + 0.25 * turns)[:, None]
    relief = coat.relief * (1 - band) + band * (0.0011 + 0.0004 * turns)
    return Coat(
        over(coat.colour, ribbon, band), coat.gloss * (1 - 0.7 * band), relief,
        np.ones(len(band)),
    )  # fmt: skip


def strands(comb: Comb, width: float, seed: int) -> np.ndarray:
    """Return smooth noise [N], -1 to 1, that varies across strands of a width, m, and runs along.

    Where the comb is narrow, fewer strands go on.
    """
    level = np.clip(np.log2(1.0 / np.maximum(comb.narrow, 1e-3)), 0.0, 5.0)
    total = np.zeros(len(level))
    for octave in range(6):
        share = np.maximum(0.0, 1.0 - np.abs(level - octave))
        used = share > 0
        if not used.any():
            continue
        wide = width * 2.0**octave
        count = 4096
        if comb.period:
            count = max(3, round(comb.period / wide))
            wide = comb.period / count
        table = np.random.default_rng([seed, octave]).uniform(-1, 1, (count, 64))
        wander = 0.35 * np.sin(comb.along[used] / 0.021 + 0.7 * seed)
        total[used] += share[used] * _between(
            table, comb.across[used] / wide + wander, comb.along[used] / 0.035
        )
    return total


def _between(table: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Interpolate a periodic table smoothly at real rows and columns."""
    i, j = np.floor(row).astype(int), np.floor(column).astype(int)
    t, u = row - i, column - j
    t = t * t * (3 - 2 * t)
    u = u * u * (3 - 2 * u)
    n, m = table.shape
    value = lambda a, b: table[a % n, b % m]  # noqa: E731
    first = value(i, j) * (1 - u) + value(i, j + 1) * u
    second = value(i + 1, j) * (1 - u) + value(i + 1, j + 1) * u
    return first * (1 - t) + second * t
