"""Paint of the face: skin, brows, lips; eyeballs, lids with lashes, the inside of the mouth.

Places are on the bare body, m. Widths of edges are about a texel of the face, against stairs.
"""

import numpy as np
from scipy.spatial import KDTree

from ash_core.studio.actor.body import (
    INNER_MOUTH,
    LEFT_EYE,
    LEFT_LINING,
    RIGHT_EYE,
    RIGHT_LINING,
    SKIN_FACE,
    Body,
)
from ash_core.studio.actor.brushes import Paper, bump, over
from ash_core.studio.actor.face import IRIS, LASHES, lip_line
from ash_core.studio.actor.regions import step
from ash_core.studio.noise import lattice_noise, spot_distance

LASH = np.array([0.085, 0.060, 0.050])
SCLERA = np.array([0.875, 0.850, 0.830])
WET_PINK = np.array([0.80, 0.53, 0.49])
GUM = np.array([0.62, 0.30, 0.29])
ENAMEL = np.array([0.93, 0.90, 0.84])
PUPIL = 0.34
"""Radius of the pupil, as a share of the iris'."""
LIMBUS = (0.84, 1.06)
"""Inner and outer end of the dark ring around the iris, as shares of its radius."""
LASH_ARC_M = 0.015
"""Distance of the lashes from the middle of an eye, m."""
HAIRS = 320
"""Number of hairs of a brow."""
BROW = (0.0115, 0.0560)
"""Distances of a brow's ends from the middle of the face, m."""
EYE_GLOSS, WET_GLOSS, LIP_GLOSS, NOSE_GLOSS = 0.95, 0.25, 0.42, 0.20
"""Gloss of eyeballs, of lids' edges and the mouth's inside, of lips, of nose and forehead."""
PORE_M, LIP_FOLD_M = 4e-5, 8e-5
"""Heights of pores and of the folds of lips, m."""
_EYES = (("Left", LEFT_EYE, LEFT_LINING), ("Right", RIGHT_EYE, RIGHT_LINING))


def paint_face(colour: np.ndarray, paper: Paper, body: Body) -> np.ndarray:
    """Paint skin, brows, lips and nostrils over the skin's colour [N, 3]."""
    offset = paper.bare - paper.marks.eyes
    front = paper.share["head"] * step(offset[:, 2], -0.060, -0.015)
    near = np.flatnonzero(front > 0)
    some = colour[near]
    some = _complexion(some, paper, near, offset[near], front[near])
    some = _brows(some, paper, offset[near], front[near])
    some = _lips(some, paper, body, paper.bare[near], front[near])
    some = _lash_line(some, paper, body, paper.bare[near])
    colour = colour.copy()
    colour[near] = some
    return colour


def _complexion(
    colour: np.ndarray, paper: Paper, near: np.ndarray, offset: np.ndarray, front: np.ndarray
) -> np.ndarray:
    """Paint blood, pores, freckles, shaved hair, and the shade of sockets and nostrils."""
    place, palette = paper.bare[near], paper.palette
    x, y = np.abs(offset[:, 0]), offset[:, 1]
    # Blood shows at cheeks, nose, chin and lids, in soft patches.
    patches = 0.75 + 0.35 * lattice_noise(place, 0.011, 1) + 0.20 * lattice_noise(place, 0.0045, 2)
    cheeks = bump(np.hypot(x - 0.043, (y + 0.043) * 1.15), 0.028)
    nose = bump(np.hypot(x * 1.1, y + 0.048), 0.019)
    chin = bump(np.hypot(x, y + 0.115), 0.017)
    lids = bump(np.hypot((x - 0.036) * 0.75, (y - 0.008) * 1.3), 0.013)
    red = 0.30 * cheeks + 0.30 * nose + 0.14 * chin + 0.16 * lids
    colour = over(colour, palette.blush, front * np.clip(red * patches, 0, 1))
    forehead = step(y, 0.02, 0.05) * front
    colour = over(colour, palette.skin * [1.02, 1.0, 0.93], 0.30 * forehead)
    # Pores: finer than a texel on average, so that no pattern of them is seen from afar.
    pores = 0.55 * lattice_noise(place, 0.0016, 3) + 0.45 * lattice_noise(place, 0.0008, 4)
    blotch = lattice_noise(place, 0.006, 5)
    colour = colour * (1.0 + front * (0.026 * pores + 0.018 * blotch))[:, None]
    # Freckles and stubble.
    dots = 1.0 - step(spot_distance(place, 0.0042, 60), 0.10, 0.26 + 0.10 * blotch)
    dots = dots * (cheeks + nose + 0.25 * lids)
    colour = over(colour, palette.skin * [0.72, 0.58, 0.50], 0.38 * palette.freckles * dots * front)
    jaw = step(-y, 0.052, 0.070) * (1.0 - step(-y, 0.135, 0.165)) + 0.8 * step(x, 0.058, 0.070) * (
        step(-y, 0.015, 0.05)
    )
    grain = 0.6 + 0.4 * lattice_noise(place, 0.0011, 7)
    beard = palette.stubble * np.clip(jaw, 0, 1) * grain
    colour = over(colour, palette.hair, 0.55 * front * beard)
    # Shade that lamps as large as doors leave in sockets, in nostrils and beside the nose.
    socket = bump(np.hypot((x - 0.020) * 0.9, y - 0.006), 0.012)
    colour = over(colour, palette.skin * [0.80, 0.70, 0.68], 0.30 * front * socket)
    return _nostrils(colour, paper, near, place, front)


def _nostrils(
    colour: np.ndarray, paper: Paper, near: np.ndarray, place: np.ndarray, front: np.ndarray
) -> np.ndarray:
    """Darken the nostrils, which lie under the nose's tip."""
    offset = place - paper.marks.eyes
    x, y = np.abs(offset[:, 0]), offset[:, 1]
    on_nose = (x < 0.004) & (y < -0.02) & (y > -0.075)
    if not on_nose.any():
        return colour
    tip = place[on_nose][np.argmax(place[on_nose][:, 2])]
    low, back = place[:, 1] - tip[1], tip[2] - place[:, 2]
    hole = bump(np.hypot((x - 0.0082) * 1.1, (back - 0.0125) * 0.9), 0.0052)
    hole = (
        hole
        * step(-low, 0.003, 0.007)
        * (1.0 - step(-low, 0.014, 0.018))
        * step(-paper.normal[near][:, 1], -0.1, 0.35)
    )
    return over(colour, paper.palette.skin * [0.26, 0.16, 0.15], 0.9 * front * np.clip(hole, 0, 1))


def _brow_hairs() -> np.ndarray:
    """Return points [n, 2] along the hairs of a brow: (from the middle, over the eyes), m."""
    rng = np.random.default_rng(17)
    t = np.sort(rng.uniform(0.0, 1.0, HAIRS) ** 0.9)
    across = rng.uniform(-1.0, 1.0, HAIRS)
    x = BROW[0] + (BROW[1] - BROW[0]) * t
    y = _brow_arch(t) + across * _brow_width(t)
    # Inner hairs stand, outer ones lie along the brow; upper ones bend down, lower ones up.
    slope = 0.28 - 0.62 * t
    lean = np.radians(50.0) * (1.0 - step(t, 0.0, 0.35)) - 0.35 * across + slope
    lean = lean + rng.normal(0.0, 0.12, HAIRS)
    length = (0.0072 - 0.0022 * t) * rng.uniform(0.75, 1.15, HAIRS)
    s = np.linspace(0.0, 1.0, 12)
    bent = lean[:, None] - 0.35 * np.sign(lean)[:, None] * s
    step_length = (length / len(s))[:, None]
    hairs = np.stack(
        [x[:, None] + np.cumsum(step_length * np.cos(bent), 1),
         y[:, None] + np.cumsum(step_length * np.sin(bent), 1)], -1,
    )  # fmt: skip
    return hairs.reshape(-1, 2)


def _brow_arch(t: np.ndarray) -> np.ndarray:
    """Return the height of the brow's middle over the eyes, m. t: 0 inner end, 1 outer end."""
    return 0.0235 + 0.0068 * np.sin(np.pi * np.clip(0.86 * t + 0.02, 0, 1)) - 0.0035 * t


def _brow_width(t: np.ndarray) -> np.ndarray:
    return 0.0042 * (1.0 - 0.68 * np.clip(t, 0, 1) ** 2)


def _brows(colour: np.ndarray, paper: Paper, offset: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Paint brows hair by hair over a soft ground."""
    x, y = np.abs(offset[:, 0]), offset[:, 1]
    t = (x - BROW[0]) / (BROW[1] - BROW[0])
    away = np.abs(y - _brow_arch(np.clip(t, 0, 1))) - _brow_width(t)
    ground = (1.0 - step(away, -0.0030, 0.0022)) * step(t, -0.03, 0.10)
    ground = ground * (1.0 - step(t, 0.92, 1.06)) * front
    tone = paper.palette.hair * 0.82
    colour = over(colour, tone, 0.34 * ground)
    close = np.flatnonzero((away < 0.007) & (t > -0.1) & (t < 1.25))
    distance, _ = KDTree(_brow_hairs()).query(np.stack([x, y], 1)[close], k=12)
    # Two hairs darken more than one: distances to every fourth point are of different hairs.
    cover = sum(0.42 * (1.0 - step(distance[:, k], 0.00012, 0.00050)) for k in (0, 5, 11))
    strokes = np.zeros(len(x))
    strokes[close] = np.clip(np.asarray(cover), 0, 0.88)
    return over(colour, tone, strokes * front)


def _lips(
    colour: np.ndarray, paper: Paper, body: Body, place: np.ndarray, front: np.ndarray
) -> np.ndarray:
    """Paint lips with a soft border, fine upright folds and a dark line between them."""
    u, height, ahead = lip_line(body.mouth, place[:, 0])
    above = place[:, 1] - height
    taper = np.sqrt(np.clip(1.0 - np.clip(np.abs(u), 0, 1) ** 2.2, 0, 1))
    bow = 1.0 - 0.20 * bump(u, 0.14) + 0.08 * bump(np.abs(u) - 0.24, 0.15)
    top, bottom = 0.0076 * taper * bow, 0.0100 * taper * (1.0 - 0.10 * np.abs(u))
    border = 0.0004 * lattice_noise(place, 0.0035, 11)
    inside = np.where(above > 0, top - above, bottom + above) + border
    lip = step(inside, -0.0020, 0.0018) * (1.0 - step(np.abs(u), 0.97, 1.04)) * front
    folds = lattice_noise(place * [1.0, 0.16, 0.16], 0.0010, 12)
    shade = paper.palette.lip * (1.0 - 0.07 * step(above, -0.001, 0.004))[:, None]
    shade = shade * (1.0 + 0.06 * folds)[:, None]
    colour = over(colour, shade, 0.80 * lip)
    # Shade where the lips meet, and in their corners.
    meet = bump(above, 0.0014) * (1.0 - step(np.abs(u), 0.90, 1.06))
    meet = meet * (1.0 - step(place[:, 2] - ahead, 0.0008, 0.0030))
    corner = bump(np.hypot((np.abs(u) - 1.0) * 0.027, above * 1.2), 0.0032)
    dark = paper.palette.lip * [0.42, 0.33, 0.34]
    return over(colour, dark, np.clip(0.65 * meet + 0.45 * corner, 0, 0.9) * front)


def _rim(body: Body, labels: tuple[int, ...]) -> np.ndarray:
    """Return points [n, 3] along the edge of skin around an eye, and so the lids' edge."""
    inside = np.unique(body.faces[np.isin(body.eyes, labels)])
    rim = np.intersect1d(inside, np.unique(body.faces[body.eyes == SKIN_FACE]))
    points = body.vertices[rim]
    if not len(points):
        return points
    middle = points.mean(0)
    ring = points[np.argsort(np.arctan2(points[:, 1] - middle[1], points[:, 0] - middle[0]))]
    return np.concatenate([ring + t * (np.roll(ring, -1, 0) - ring) for t in np.arange(8) / 8])


def _lash_line(colour: np.ndarray, paper: Paper, body: Body, place: np.ndarray) -> np.ndarray:
    """Darken the skin at the roots of the lashes, and the crease over the upper lid."""
    colour = colour.copy()
    for _, ball, lining in _EYES:
        rim = _rim(body, (ball, lining))
        if not len(rim):
            continue
        middle = rim.mean(0)
        close = np.flatnonzero(np.linalg.norm(place - middle, axis=1) < 0.030)
        distance, nearest = KDTree(rim).query(place[close])
        upper = step(rim[nearest, 1] - middle[1], -0.0012, 0.0020)
        root = 1.0 - step(distance, 0.0002, 0.0007 + 0.0009 * upper)
        colour[close] = over(colour[close], LASH, root * (0.20 + 0.62 * upper))
        lid = (1.0 - step(distance, 0.002, 0.009)) * upper
        colour[close] = over(colour[close], paper.palette.skin * [0.80, 0.66, 0.64], 0.22 * lid)
        crease = bump(distance - 0.0075, 0.0014) * upper * (place[close, 1] > middle[1])
        colour[close] = colour[close] * (1.0 - 0.10 * crease)[:, None]
    return colour


def paint_inside(colour: np.ndarray, paper: Paper, body: Body, label: np.ndarray) -> np.ndarray:
    """Paint what is not skin: eyeballs, lids' edges with lashes, the mouth. label [N]: of faces."""
    colour = colour.copy()
    for side, ball, lining in _EYES:
        mask = np.flatnonzero(label == ball)
        colour[mask] = _eyeball(paper, body, side, mask)
        mask = np.flatnonzero(label == lining)
        if len(mask):
            colour[mask] = _lining(body, side, paper.bare[mask], (ball, lining), paper.palette.skin)
    mask = np.flatnonzero(label == INNER_MOUTH)
    if len(mask):
        colour[mask] = _inner_mouth(body, paper.bare[mask])
    return colour


def _eyeball(paper: Paper, body: Body, side: str, mask: np.ndarray) -> np.ndarray:
    """Paint an eyeball by the angle from the gaze: pupil, iris, dark ring, white with veins."""
    centre, _ = body.eyeballs[side]
    ray = paper.bare[mask] - centre
    ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    polar = np.arccos(np.clip(ray[:, 2], -1, 1))
    turn = np.arctan2(ray[:, 1], ray[:, 0])
    off = polar / IRIS
    around = np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    # White: warmer and redder away from the iris, with fine veins.
    white = SCLERA * (1.0 - 0.05 * step(off, 1.2, 2.6))[:, None]
    white = over(white, np.array([0.90, 0.70, 0.64]), 0.32 * step(off, 1.7, 2.9))
    winding = lattice_noise(ray, 0.16, 21) + 0.5 * lattice_noise(ray, 0.07, 22)
    veins = bump(winding, 0.055) * step(off, 1.25, 2.2)
    white = over(white, np.array([0.78, 0.33, 0.30]), 0.30 * veins)
    # Iris: fibres towards the pupil, lighter in the middle and below, where light gathers.
    fibres = 0.6 * lattice_noise(around * 9 + [0, 0, 1] * (3 * off)[:, None], 1.0, 23)
    fibres = fibres + 0.4 * lattice_noise(around * 22 + [0, 0, 1] * (2 * off)[:, None], 1.0, 24)
    glow = 0.72 + 0.55 * step(-ray[:, 1] / np.sin(IRIS), -0.6, 0.9)
    iris = paper.palette.iris * (glow * (1.0 + 0.30 * fibres))[:, None]
    collar = bump(off - 0.50 - 0.05 * fibres, 0.13)
    iris = over(iris, paper.palette.iris * [1.45, 1.25, 0.95] + [0.10, 0.06, 0.0], 0.50 * collar)
    ring = step(off, LIMBUS[0] - 0.12, 1.0)
    iris = over(iris, paper.palette.iris * 0.22, 0.85 * ring)
    ball = over(white, iris, 1.0 - step(off, 0.94, LIMBUS[1]))
    ball = over(ball, np.array([0.014, 0.012, 0.014]), 1.0 - step(off, PUPIL - 0.04, PUPIL + 0.05))
    # Shade of the upper lid and its lashes.
    return (
        ball
        * (1.0 - 0.42 * step(ray[:, 1], 0.10, 0.42) - 0.10 * step(-ray[:, 1], 0.2, 0.4))[:, None]
    )


def _lining(
    body: Body, side: str, place: np.ndarray, labels: tuple[int, ...], skin: np.ndarray
) -> np.ndarray:
    """Paint lashes, the lids' moist edge and their inner side."""
    centre, radius = body.eyeballs[side]
    rim = _rim(body, labels)
    away = np.linalg.norm(place - centre, axis=1)
    distance, nearest = KDTree(rim).query(place)
    beyond = away - np.linalg.norm(rim[nearest] - centre, axis=1)
    lash = step(beyond, -0.0001, 0.0003) * step(distance, 0.0001, 0.0005)
    lash = lash * _parted(place - centre, distance, rim[nearest, 1] > rim[:, 1].mean())
    moist = np.broadcast_to(WET_PINK, place.shape)
    deep = 1.0 - step(away - radius, 0.0002, 0.0012)
    moist = over(moist, WET_PINK * [0.80, 0.62, 0.60], deep)
    # The upper lid's edge is in the shade of its lashes.
    upper = step(rim[nearest, 1] - rim[:, 1].mean(), -0.0010, 0.0030)
    moist = moist * (1.0 - 0.50 * upper)[:, None]
    moist = over(moist, skin, step(beyond, 0.0001, 0.0006))
    return over(moist, LASH, lash)


def _parted(ray: np.ndarray, distance: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return the share [N] that lashes cover: all of it at the root, single hairs at the tips.

    ray [N, 3]: places from the eye's centre; distance [N]: from the root, m.
    """
    turn = np.arctan2(ray[:, 1], ray[:, 0])
    around = LASH_ARC_M * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    hairs = lattice_noise(around, 0.0007, 41) + 0.5 * lattice_noise(around, 0.0016, 42)
    long = np.where(upper, LASHES["upper"][0], LASHES["lower"][0])
    return 1.0 - step(distance / long + 0.45 * hairs, 0.15, 0.75)


def _inner_mouth(body: Body, place: np.ndarray) -> np.ndarray:
    """Paint lips' inner side, gums and teeth; darker with depth, where no light comes."""
    u, height, ahead = lip_line(body.mouth, place[:, 0])
    up, back = place[:, 1] - height, ahead - place[:, 2]
    colour = over(
        np.broadcast_to(GUM, place.shape), GUM * [0.75, 0.60, 0.62], step(back, 0.0, 0.003)
    )
    upper = step(back, 0.0050, 0.0057) * (1.0 - step(up, 0.0040, 0.0052))
    lower = step(back, 0.0088, 0.0094) * step(up, -0.0068, -0.0058) * (up < 0.0005)
    teeth = np.maximum(upper * (back < 0.0102), lower * (back < 0.0142))
    x = np.abs(place[:, 0] - body.mouth[:, 0].mean())
    gaps = sum(bump(x - gap, 0.00028) for gap in (0.0, 0.0085, 0.0150, 0.0220))
    enamel = ENAMEL * (1.0 - 0.28 * np.clip(np.asarray(gaps), 0, 1))[:, None]
    colour = over(colour, enamel, teeth)
    # The cheeks shade the mouth's corners.
    light = 1.0 - 0.8 * step(np.abs(u), 0.45, 0.88)
    return colour * (light * np.exp(-np.maximum(back - 0.010, 0.0) / 0.010))[:, None]


def face_gloss(shine: np.ndarray, paper: Paper, body: Body, label: np.ndarray) -> np.ndarray:
    """Add the gloss of the face to the skin's [N]: moist eyes, lids' edges, lips, nose."""
    offset = paper.bare - paper.marks.eyes
    front = paper.share["head"] * step(offset[:, 2], -0.060, -0.015)
    x, y = np.abs(offset[:, 0]), offset[:, 1]
    oily = np.maximum(bump(x, 0.012) * (1.0 - step(-y, 0.055, 0.065)), 0.6 * step(y, 0.02, 0.05))
    pores = 1.0 + 0.5 * lattice_noise(paper.bare, 0.0012, 31)
    shine = shine + front * (NOSE_GLOSS - shine) * np.clip(oily * pores, 0, 1)
    if len(body.mouth):
        u, height, _ = lip_line(body.mouth, paper.bare[:, 0])
        lips = bump((paper.bare[:, 1] - height + 0.001) / 0.0075, 1.0) * (np.abs(u) < 1)
        shine = np.maximum(shine, LIP_GLOSS * lips * front)
    shine = np.where(np.isin(label, (LEFT_EYE, RIGHT_EYE)), EYE_GLOSS, shine)
    return np.where(np.isin(label, (LEFT_LINING, RIGHT_LINING, INNER_MOUTH)), WET_GLOSS, shine)


def face_relief(paper: Paper, body: Body, label: np.ndarray) -> np.ndarray:
    """Return the height of pores, brows and the lips' folds over the skin [N], m."""
    offset = paper.bare - paper.marks.eyes
    front = paper.share["head"] * step(offset[:, 2], -0.060, -0.015) * (label == SKIN_FACE)
    height = np.zeros(len(front))
    near = np.flatnonzero(front > 0)
    place = paper.bare[near]
    pores = lattice_noise(place, 0.0016, 3) + 0.7 * lattice_noise(place, 0.0032, 8)
    height[near] = PORE_M * pores
    if len(body.mouth):
        u, line, _ = lip_line(body.mouth, place[:, 0])
        lips = bump((place[:, 1] - line + 0.001) / 0.0075, 1.0) * (np.abs(u) < 1)
        height[near] += LIP_FOLD_M * lips * lattice_noise(place * [1.0, 0.16, 0.16], 0.0010, 12)
    return height * front
