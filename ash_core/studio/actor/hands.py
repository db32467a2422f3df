"""Paint of hands: nails, folds over the knuckles, creases and lines of the palm, tendons.

Every detail is drawn in the coordinates of its finger or palm on the bare body, so that it fits any
hand. It is colour, gloss and relief together: close up, paint without relief looks like a print.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import KDTree

from ash_core.studio.actor.body import Body, unit
from ash_core.studio.actor.brushes import Palette, Paper, bump, over
from ash_core.studio.actor.regions import step
from ash_core.studio.noise import smooth_noise

NAILS = ((0.0125, 0.0068), (0.0105, 0.0056), (0.0112, 0.0058), (0.0105, 0.0055), (0.0085, 0.0045))
"""Length and half width of the nails, thumb to little finger, m."""
NAIL_GLOSS, SKIN_GLOSS = 0.42, 0.10
LINE_M = 0.0005
"""Half width of a crease, m."""
PALM_LINES = (
    ((0.80, -1.02), (0.77, -0.5), (0.84, 0.05), (0.97, 0.42)),
    ((0.72, 0.98), (0.67, 0.45), (0.56, -0.15), (0.44, -0.62)),
    ((0.73, 0.96), (0.63, 0.58), (0.42, 0.30), (0.22, 0.24), (0.05, 0.30)),
)
"""Heart, head and life line: (share of the way from the wrist to the knuckles, share of half the
palm's width towards the thumb)."""
WRIST_LINES = (-0.035, -0.105)
"""Creases of the wrist, in the palm's lengths."""
DEEPEST = 0.0005


@dataclass(frozen=True)
class HandPaint:
    """Colour [N, 3], gloss [N] and relief [N], m, of skin with hands."""

    colour: np.ndarray
    gloss: np.ndarray
    relief: np.ndarray


@dataclass(frozen=True)
class _Finger:
    """Places on the nearest finger of one hand [N]."""

    number: np.ndarray
    """0 thumb to 4 little finger."""
    along: np.ndarray
    """Metres from the knuckle at the palm; negative on the palm."""
    joints: np.ndarray
    """Metres of the second and third joint and of the tip [N, 3]."""
    angle: np.ndarray
    """Angle about the finger: 0 at the nail's side, rad."""
    radius: np.ndarray
    """Distance from the finger's axis, m."""


def paint_hands(colour: np.ndarray, paper: Paper, body: Body) -> HandPaint:
    """Paint the hands over skin. colour [N, 3]: of the skin at the paper's places."""
    gloss, relief = np.full(len(colour), SKIN_GLOSS), np.zeros(len(colour))
    colour = colour.copy()
    for side, letter in (("left", "L"), ("right", "R")):
        inside = np.flatnonzero(paper.share[f"{side}_hand"] > 0.02)
        if not len(inside):
            continue
        painted = _paint_hand(
            colour[inside], paper.bare[inside], paper.normal[inside], body, letter, paper.palette
        )
        fade = step(paper.share[f"{side}_hand"][inside], 0.02, 0.3)
        colour[inside] = over(colour[inside], painted.colour, fade)
        gloss[inside] += fade * (painted.gloss - SKIN_GLOSS)
        relief[inside] = fade * painted.relief
    return HandPaint(colour, gloss, relief)


def _paint_hand(
    colour: np.ndarray, places: np.ndarray, normals: np.ndarray, body: Body, letter: str,
    palette: Palette,
) -> HandPaint:  # fmt: skip
    # Measure the places in the coordinates of finger and palm.
    heads = {name[:-2]: head for name, head in body.heads.items() if name.endswith(f".{letter}")}
    finger = _find_finger(places, heads, body, letter)
    palm, across_palm, facing = _palm_places(places, normals, heads)
    rng = np.random.default_rng(3)
    mottle = smooth_noise(places, 0.012, rng)
    waver = 0.0003 * smooth_noise(places, 0.006, rng)

    # Mottle the skin; knuckles and fingertips are redder.
    on_finger = step(finger.along, -0.002, 0.010)
    dorsal = step(np.cos(finger.angle), -0.15, 0.45)
    knuckles = sum(
        bump(finger.along - joint, 0.0065) for joint in (0.0 * finger.along, *finger.joints.T[:2])
    )
    tips = bump(finger.along - finger.joints[:, 2], 0.009)
    red = np.clip(0.30 * knuckles * dorsal + 0.30 * tips + 0.14 * (1 + mottle) * facing, 0, 1)
    colour = over(colour, palette.blush, 0.6 * red) * (1 + 0.018 * mottle)[:, None]
    pores = 0.000016 * smooth_noise(places, 0.0022, rng)

    # Knuckles: a few folds across the back of each joint.
    folds, fingers = np.zeros(len(places)), finger.number > 0
    for k, (joint, width) in enumerate(
        (
            (0.0 * finger.along, 0.35 * fingers),
            (finger.joints[:, 0], 0.9),
            (finger.joints[:, 1], 0.6),
        )
    ):
        for n, shift in enumerate((-0.0042, -0.0020, 0.0001, 0.0023, 0.0040)):
            bow = 0.0016 * (finger.angle / 1.2) ** 2 * np.sign(shift + 1e-9)
            line = bump(
                finger.along - joint - shift - bow - waver, LINE_M * (1.0 if n % 2 else 1.3)
            )
            folds = np.maximum(folds, line * width * (0.6 if abs(shift) > 0.003 else 1.0))
        swell = bump(finger.along - joint, 0.005) * dorsal * (0.5 if k else 0.9)
        pores = pores + 0.00025 * swell
    folds = folds * dorsal * (1 - step(np.abs(finger.angle), 0.9, 1.45))

    # Palm side: creases at the joints, lines of the palm and the wrist.
    inner = 1.0 - step(np.cos(finger.angle), -0.35, 0.1)
    creases = np.zeros(len(places))
    for joint, shifts in (
        (np.where(fingers, 0.006, 1.0), (0.0, 0.0024)),
        (finger.joints[:, 0], (-0.0011, 0.0013)),
        (finger.joints[:, 1], (0.0,)),
    ):
        for shift in shifts:
            creases = np.maximum(creases, bump(finger.along - joint - shift - waver, LINE_M))
    creases = creases * inner * on_finger * np.where(fingers, 1.0, 0.5)
    lines = _lines(palm, across_palm, heads) * step(facing, 0.1, 0.5) * (1 - on_finger)

    # Tendons to the knuckles lift the skin of the back.
    back = step(-facing, 0.1, 0.6) * step(palm, 0.15, 0.5) * (1 - step(palm, 0.96, 1.02))
    tendons = np.max([bump(across_palm - q, 0.10) for q in (0.78, 0.27, -0.22, -0.68)], axis=0)

    # Darken and sink the lines, then lay the nails on.
    marks = np.clip(np.maximum.reduce([0.75 * folds, 0.9 * creases, lines]), 0, 1)
    colour = over(colour, palette.skin * [0.66, 0.52, 0.47], 0.40 * marks)
    relief = pores - DEEPEST * marks * 0.6 + 0.0005 * back * tendons
    gloss = SKIN_GLOSS * (1 - 0.5 * marks)
    return _paint_nails(HandPaint(colour, gloss, relief), finger, palette)


def _paint_nails(paint: HandPaint, finger: _Finger, palette: Palette) -> HandPaint:
    """Paint a plate with its half moon, free edge and the folds of skin around it."""
    sizes = np.array(NAILS)[finger.number]
    from_tip = finger.joints[:, 2] - finger.along
    v = (from_tip - 0.0008) / sizes[:, 0] * 2 - 1  # -1 at the free edge, 1 at the root
    u = finger.radius * np.sin(finger.angle) / sizes[:, 1]
    outline = np.abs(u) ** 3.2 + np.abs(v) ** np.where(v > 0, 2.6, 3.6)
    edge = (1.0 - outline ** (1 / 3.0)) * sizes[:, 1]  # m inside the outline, about
    above = step(np.cos(finger.angle), 0.05, 0.30)
    plate = step(edge, -0.0001, 0.0003) * above
    groove = bump(edge + 0.0001, 0.00045) * above * (v > -0.9)
    wall = bump(edge + 0.0014, 0.0010) * above * step(v, -0.8, -0.2)
    # Colours: pink bed, paler half moon at the root, white where the plate is free.
    bed = palette.skin + 0.20 * (palette.blush - palette.skin)
    bed = bed * [1.03, 0.97, 0.97] + [0.035, 0.02, 0.02]
    pale = np.minimum(palette.skin * 1.10 + 0.05, 1.0)
    moon = step(v - 0.62 + 0.30 * u**2, -0.05, 0.05)
    free = step(-v - 0.80 - 0.10 * u**2, -0.03, 0.03)
    nail = over(np.broadcast_to(bed, paint.colour.shape), pale, 0.45 * moon)
    nail = over(nail, np.minimum(pale + 0.10, 1.0), 0.75 * free)
    colour = over(paint.colour, palette.blush * 0.80, 0.50 * groove * (1 - plate))
    colour = over(colour, nail * (1 - 0.10 * step(np.abs(u), 0.6, 1.0))[:, None], plate)
    relief = paint.relief + 0.00018 * wall - 0.00022 * groove
    relief = relief + plate * (0.00012 - paint.relief + 0.00012 * (1 - u**2))
    return HandPaint(colour, paint.gloss + plate * (NAIL_GLOSS - paint.gloss), relief)


def _find_finger(
    places: np.ndarray, heads: Mapping[str, np.ndarray], body: Body, letter: str
) -> _Finger:
    """Return the coordinates of places [N, 3] on the nearest finger."""
    # Compare each bone of each finger, and the palm's part before it, by distance.
    count = len(places)
    nearest = np.full(count, np.inf)
    number = np.zeros(count, np.int64)
    along, angle, radius = np.zeros((3, count))
    joints = np.zeros((count, 3))
    palm = _palm_way(heads)
    for k in range(5):
        chain = [heads[f"finger{k + 1}-{i}"] for i in (1, 2, 3)]
        way = unit(chain[2] - chain[1])
        on_tip = body.weights[:, body.bones.index(f"finger{k + 1}-3.{letter}")] > 0.5
        tip = chain[2] + way * float(((body.vertices[on_tip] - chain[2]) @ way).max())
        lengths = np.cumsum(
            [np.linalg.norm(b - a) for a, b in zip(chain, [*chain[1:], tip], strict=True)]
        )
        start = chain[0] - 0.03 * unit(chain[1] - chain[0])
        nails = -palm
        if k == 0:  # the thumb's nail faces away from the little finger too
            ahead = chain[1] - chain[0]
            nails = -_across(palm, ahead) - 0.9 * _across(heads["finger5-1"] - chain[0], ahead)
        for n, (a, b) in enumerate(
            zip([start, *chain], [chain[0], chain[1], chain[2], tip], strict=True)
        ):
            axis = unit(b - a)
            length = float(np.linalg.norm(b - a))
            t = (places - a) @ axis
            inside = np.clip(t, 0.0, length)
            offset = places - a - inside[:, None] * axis
            away = np.linalg.norm(offset, axis=1)
            up = _across(nails, axis)
            aside = np.cross(axis, up)
            is_near = away < nearest
            first = -0.03 if n == 0 else (0.0, lengths[0], lengths[1])[n - 1]
            nearest = np.where(is_near, away, nearest)
            number = np.where(is_near, k, number)
            reach = t if n == 3 else inside
            along = np.where(is_near, first + reach, along)
            flat = places - a - t[:, None] * axis
            radius = np.where(is_near, np.linalg.norm(flat, axis=1), radius)
            angle = np.where(is_near, np.arctan2(flat @ aside, flat @ up), angle)
            joints = np.where(is_near[:, None], lengths, joints)
    return _Finger(number, along, joints, angle, radius)


def _across(way: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the unit part of a way that is at right angles to an axis."""
    axis = unit(axis)
    return unit(way - axis * (way @ axis))


def _palm_way(heads: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the unit direction in which the palm faces."""
    ahead = heads["finger3-1"] - heads["wrist"]
    return _across(heads["finger3-3"] - heads["finger3-1"], ahead)


def _palm_places(
    places: np.ndarray, normals: np.ndarray, heads: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (share of the way to the knuckles, share of half the width, facing -1 to 1)."""
    ahead = heads["finger3-1"] - heads["wrist"]
    wide = heads["finger2-1"] - heads["finger5-1"]
    side = _across(wide, ahead)
    offset = places - heads["wrist"]
    along = offset @ ahead / (ahead @ ahead)
    middle = (heads["finger2-1"] + heads["finger5-1"]) / 2 - heads["wrist"]
    q = (offset @ side - along * (middle @ side)) / (0.62 * (wide @ side))
    return along, q, normals @ _palm_way(heads)


def _lines(along: np.ndarray, across: np.ndarray, heads: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the depth of the palm's lines [N], 0 to 1."""
    length = float(np.linalg.norm(heads["finger3-1"] - heads["wrist"]))
    half = 0.62 * float(np.linalg.norm(heads["finger2-1"] - heads["finger5-1"]))
    spots = np.stack([along * length, across * half], 1)
    depth = np.zeros(len(along))
    for line in PALM_LINES:
        t = np.linspace(0, 1, len(line))
        fine = np.linspace(0, 1, 160)
        curve = CubicSpline(t, np.array(line) * [length, half])(fine)
        away, which = KDTree(curve).query(spots)
        taper = step(np.array(fine[which]), 0.0, 0.12) * (1 - 0.7 * step(fine[which], 0.7, 1.0))
        depth = np.maximum(depth, bump(away, 1.3 * LINE_M) * (0.35 + 0.65 * taper))
    for place in WRIST_LINES:
        bent = along - place + 0.012 * across**2
        depth = np.maximum(depth, 0.6 * bump(bent * length, LINE_M) * (np.abs(across) < 1.2))
    return depth
