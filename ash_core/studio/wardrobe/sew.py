"""Parts that hang from the cuts: sleeves' ends, collars, tails, skirts, trouser ends, locks."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from ash_core.studio.actor.body import Body
from ash_core.studio.actor.regions import Landmarks, step
from ash_core.studio.mesh.surface import boundary_loops
from ash_core.studio.wardrobe.hang import Axis, Cut, axis_of, hang
from ash_core.studio.wardrobe.outfits import (
    BELT,
    BODY,
    BOTTOM,
    COLLAR,
    CUFF,
    INSIDE,
    LEG_END,
    LOCKS,
    SCALP,
    SKIRT,
    TAIL,
    TOP,
    Outfit,
)
from ash_core.studio.wardrobe.sheet import Ring, Sheet, join, seams, weld

CLOTH = 0.004
"""Distance from cloth to lining, m."""
THINNEST = 0.0006
"""Length and thickness of hair that has none to show, m: faces keep an area."""
BEHIND = 0.55
"""Share of the legs' motion that hanging cloth takes at the back."""
CREASE = 0.20
"""Drop from the hip joints below which cloth follows the legs, m: above it hangs from the
waist and bulges where they bend."""
OVER = 0.10
"""The same of a tail over a skirt: it moves out of the skirt's way."""
UNDER = 6
"""Number of the body's vertices that say how cloth over them moves."""
TROUSER_END = Cut(0.036, 0.012, 0.003, 0.0)


def sew(sheet: Sheet, body: Body, marks: Landmarks, outfit: Outfit) -> None:
    """Join all parts, in place."""
    lower = BODY if outfit.skirt else BOTTOM
    for loop, twin in seams(sheet, TOP, lower) if lower != BODY else []:
        _waist(sheet, body, marks, outfit, loop, twin)
    for loop, twin in seams(sheet, TOP, BODY):
        middle = sheet.bare[loop].mean(0)
        if abs(middle[0]) > 0.10:
            _sleeve(sheet, marks, outfit, loop, twin)
        elif middle[1] > marks.shoulders[0, 1] - 0.05:
            _collar(sheet, marks, outfit, loop, twin)
        else:
            _waist(sheet, body, marks, outfit, loop, twin)
    for loop, twin in seams(sheet, BOTTOM, BODY) if lower == BOTTOM else []:
        side = 0 if sheet.bare[loop].mean(0)[0] > 0 else 1
        axis = axis_of(sheet.points[loop].mean(0), np.array([0.0, -1.0, 0.0]))
        on_leg = (np.sign(sheet.bare[:, 0]) == (1, -1)[side]) & (sheet.bare[:, 1] < 0.2)
        under = sheet.points[on_leg & of_parts(sheet, BODY)]
        _tube(sheet, axis, TROUSER_END, under, loop, twin, LEG_END)
    _hair(sheet, marks, outfit)


def of_parts(sheet: Sheet, *parts: int) -> np.ndarray:
    """Return which vertices [V] belong to a face of these parts."""
    mask = np.zeros(len(sheet.points), bool)
    mask[sheet.faces[np.isin(sheet.parts, parts)]] = True
    return mask


def _tube(sheet: Sheet, axis: Axis, cut: Cut, under, loop, twin, part: int) -> None:
    """Make a plain end that moves with its base, and its lining."""
    outer = hang(sheet.points[loop], axis, cut, under)
    weights = sheet.weights[loop]
    rings = [Ring(p, weights, part, down=_metres(axis, p, sheet.points[loop])) for p in outer]
    rings += _lining(rings, axis, 1)
    join(sheet, loop, rings, twin, INSIDE)


def _lining(outer: list[Ring], axis: Axis, every: int, top: int = 0) -> list[Ring]:
    """Make rings back up inside; `top`: their end."""
    rings = []
    for k in range(len(outer) - 1, top - 1, -every):
        angle, down, radius = axis.seen(outer[k].points)
        points = axis.place(angle, down, np.maximum(radius - CLOTH, 0.004))
        rings.append(
            Ring(points, outer[k].weights, INSIDE, outer[k].loose, k, CLOTH, outer[k].down)
        )
    return rings


def _metres(axis: Axis, points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return [n, 2]: (arc around the axis as a share of a turn, metres down from the cut)."""
    angle, down, _ = axis.seen(points)
    return np.stack([angle / (2 * np.pi), down - axis.seen(start)[1]], 1)


def _sleeve(sheet: Sheet, marks: Landmarks, outfit: Outfit, loop, twin) -> None:
    side = 0 if sheet.bare[loop].mean(0)[0] > 0 else 1
    end = marks.wrists[side] if outfit.sleeve > 1 else marks.elbows[side]
    start = marks.elbows[side] if outfit.sleeve > 1 else marks.shoulders[side]
    axis = axis_of(sheet.points[loop].mean(0), end - start)
    near = np.linalg.norm(sheet.points - axis.start, axis=1) < 0.12
    under = sheet.points[near & of_parts(sheet, BODY)]
    _tube(sheet, axis, outfit.cuff, under, loop, twin, CUFF)


def _collar(sheet: Sheet, marks: Landmarks, outfit: Outfit, loop, twin) -> None:
    """Make a collar. rib: a raised edge; stand: a tube up the neck; fall: a stand that folds
    outwards."""
    up = np.array([0.0, 1.0, -0.18])
    axis = axis_of(sheet.points[loop].mean(0), up)
    base, weights = sheet.points[loop], sheet.weights[loop]
    angle, high, radius = axis.seen(base)
    front = step(np.cos(angle), 0.2, 1.0)

    def ring(rise, out, part=COLLAR) -> Ring:
        return Ring(axis.place(angle, high + rise, radius + out), weights, part)

    if outfit.collar == "rib":
        rings = [ring(0.004, 0.001), ring(0.008, -0.002), ring(0.007, -0.005, INSIDE)]
    elif outfit.collar == "stand":
        tall = 0.036 - 0.004 * front
        rings = [ring(tall * t, 0.004 - 0.001 * t) for t in (0.0, 0.33, 0.67, 0.95)]
        rings += [ring(tall, 0.001), ring(tall * 0.95, -0.002, INSIDE)]
        rings += [ring(tall * 0.45, -0.003, INSIDE)]
    else:
        tall, long = 0.034 - 0.012 * front, 0.052 + 0.022 * front
        rings = [ring(tall * t, 0.002) for t in (0.5, 0.85)]  # under the fall
        fall = [(0.15, 0.40), (0.6, 0.75), (1.0, 1.0)]
        rings += [ring(tall - long * t, 0.007 + 0.026 * s) for t, s in fall]
        rings += [ring(tall - long * t, 0.012 + 0.026 * s) for t, s in reversed(fall)]
        rings += [ring(tall + 0.004, 0.003), ring(tall * 0.9, -0.003, INSIDE)]
        rings += [ring(tall * 0.4, -0.003, INSIDE)]
    join(sheet, loop, rings, twin, INSIDE)


def _waist(sheet: Sheet, body: Body, marks: Landmarks, outfit: Outfit, loop, twin) -> None:
    """Make the top's tail and, under it, a skirt if the outfit has one."""
    middle = np.array([0.0, sheet.points[loop, 1].mean(), sheet.points[loop, 2].mean()])
    axis = axis_of(middle, np.array([0.0, -1.0, 0.0]))
    arms = ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
    hands = sheet.weights[:, [bone.startswith(arms) for bone in body.bones]].sum(1) > 0.3
    lower = of_parts(sheet, BODY, BOTTOM) & (sheet.bare[:, 1] < middle[1] + 0.02)
    under = sheet.points[~hands & lower]
    rings: list[Ring] = []
    start = sheet.points[loop]
    if outfit.skirt is not None:
        skirt = hang(sheet.points[twin], axis, outfit.skirt, under)
        tail = hang(start, axis, outfit.tail, np.concatenate([under, skirt[:6].reshape(-1, 3)]))
    else:
        skirt = None
        if outfit.belt:
            rings = _belt(axis, start, sheet.weights[loop])
            start = rings[-1].points
        tail = hang(start, axis, outfit.tail, under)
    first = len(rings)
    top = sheet.points[loop]
    legs = _legs(sheet, body, ~hands & lower)
    crease = CREASE if outfit.skirt is None else OVER
    rings += [_swinging(body, marks, legs, axis, p, top, sheet.weights[loop], outfit.tail.length,
                        outfit.tail_loose, crease, TAIL) for p in tail]  # fmt: skip
    rings += _lining(rings, axis, 1 if skirt is not None else 2, first)
    if skirt is not None and outfit.skirt is not None:
        base = len(rings)
        top = sheet.points[twin]
        rings += [_swinging(body, marks, legs, axis, p, top, sheet.weights[twin],
                            outfit.skirt.length, 1.0, CREASE, SKIRT) for p in skirt]  # fmt: skip
        rings += _lining(rings, axis, 2, base)
    join(sheet, loop, rings, twin, INSIDE)


def _belt(axis: Axis, start: np.ndarray, weights: np.ndarray) -> list[Ring]:
    angle, down, radius = axis.seen(start)
    steps = ((0.001, 0.006), (0.020, 0.007), (0.039, 0.006))
    rings = [Ring(axis.place(angle, down + d, radius + out), weights, BELT) for d, out in steps]
    return [*rings, Ring(axis.place(angle, down + 0.041, radius + 0.001), weights, BELT)]


@dataclass(frozen=True)
class _Legs:
    """Surface under a skirt or coat, and its share of the legs."""

    tree: KDTree
    share: np.ndarray
    """[n]"""

    def share_near(self, points: np.ndarray) -> np.ndarray:
        """Return the legs' share of the surface nearest to points."""
        _, near = self.tree.query(points, k=UNDER)
        return self.share[near].mean(1)


def _legs(sheet: Sheet, body: Body, under: np.ndarray) -> _Legs:
    names = ("upperleg", "lowerleg", "foot", "toe")
    share = sheet.weights[:, [bone.startswith(names) for bone in body.bones]].sum(1)
    return _Legs(KDTree(sheet.points[under]), share[under])


def _swinging(
    body: Body, marks: Landmarks, legs: _Legs, axis: Axis, points: np.ndarray, start: np.ndarray,
    weights: np.ndarray, length: float, loose: float, crease: float, part: int,
) -> Ring:  # fmt: skip
    """Make a ring of a tail or a skirt.

    It moves as the legs under it do, or they would come through it; less at the back, where legs
    leave the cloth behind.
    """
    down = _metres(axis, points, start)
    side = step(points[:, 0], -0.08, 0.08)
    facing = np.cos(axis.seen(points)[0])
    thigh = legs.share_near(points) * (BEHIND + (1.0 - BEHIND) * step(facing, -0.75, -0.15))
    drop = marks.hip[1] - points[:, 1]
    thigh = thigh * step(drop, -0.03, crease)
    # A ring bends softly where neighbours lie over different parts of the body.
    for _ in range(4):
        thigh = (np.roll(thigh, 1) + 2 * thigh + np.roll(thigh, -1)) / 4
    mixed = np.zeros_like(weights)
    mixed[:, body.bones.index("root")] = 1.0
    on_legs = np.zeros_like(weights)
    on_legs[:, body.bones.index("upperleg01.L")] = side
    on_legs[:, body.bones.index("upperleg01.R")] = 1.0 - side
    mixed = (1 - thigh)[:, None] * mixed + thigh[:, None] * on_legs
    blend = step(down[:, 1], 0.0, 0.10)[:, None]
    free = loose * step(down[:, 1], 0.02, max(0.12, 0.75 * length))
    return Ring(points, (1 - blend) * weights + blend * mixed, part, free, down=down)


def _hair(sheet: Sheet, marks: Landmarks, outfit: Outfit) -> None:
    loops = seams(sheet, SCALP, BODY)
    for loop, twin in loops:
        flat = np.ones(len(loop), bool)
        if outfit.hair == "bob" and len(loop) == max(len(other) for other, _ in loops):
            first = len(sheet.points)
            rings, flat = _bob(sheet, marks, loop)
            join(sheet, loop, rings, twin, INSIDE)
            for k in range(len(rings)):
                weld(sheet, first + k * len(loop) + np.flatnonzero(flat), twin[flat])
        # Where hair grows out of skin the surface goes on without a step.
        weld(sheet, loop[flat], twin[flat])
    if outfit.hair == "tail":
        loops = boundary_loops(sheet.faces[sheet.parts == SCALP])
        used = boundary_loops(sheet.faces)
        (loop,) = [one for one in loops if any(set(one) == set(other) for other in used)]
        join(sheet, loop, _pony_tail(sheet, marks, loop), None, LOCKS)


def _pony_tail(sheet: Sheet, marks: Landmarks, loop: np.ndarray) -> list[Ring]:
    """Make a tail out from the head, over, and down between the shoulder blades."""
    base = sheet.points[loop]
    middle = base.mean(0)
    offset = base - middle
    out = middle - marks.head
    out /= np.linalg.norm(out)
    keys = np.array([(0.0, 0.0), (0.030, 0.010), (0.058, 0.004), (0.078, -0.030),
                     (0.086, -0.080), (0.083, -0.135), (0.076, -0.190), (0.070, -0.235),
                     (0.068, -0.270)])  # fmt: skip
    sizes = (0.0, 0.58, 0.95, 1.25, 1.32, 1.20, 0.92, 0.60, 0.25)
    back = np.array([0.0, 0.0, -1.0])
    places = middle + keys[:, :1] * back + keys[:, 1:] * [0.0, 1.0, 0.0]
    along = np.gradient(places, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    rings, frame, last = [], offset / np.linalg.norm(offset, axis=1).mean() * 0.022, out
    lengths = np.cumsum(np.linalg.norm(np.diff(places, axis=0, prepend=places[:1]), axis=1))
    angle = np.arctan2(offset @ [1.0, 0.0, 0.0], offset @ np.cross(out, [1.0, 0.0, 0.0]))
    for k in range(1, len(keys)):
        frame = frame @ _turn(last, along[k]).T
        last = along[k]
        frame = frame - np.outer(frame @ along[k], along[k])
        free = float(step(np.array(lengths[k]), 0.02, 0.20))
        down = np.stack([angle / (2 * np.pi), np.full(len(loop), lengths[k])], 1)
        rings.append(
            Ring(places[k] + sizes[k] * frame, sheet.weights[loop], LOCKS,
                 np.full(len(loop), free), down=down)
        )  # fmt: skip
    return rings


def _turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the smallest rotation that takes unit a to unit b."""
    v, c = np.cross(a, b), float(a @ b)
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + c)


def _bob(sheet: Sheet, marks: Landmarks, loop: np.ndarray) -> tuple[list[Ring], np.ndarray]:
    """Make hair that hangs to the jaw; also return where it does not hang: over the face."""
    axis = axis_of(np.array([0.0, marks.head[1], marks.head[2] + 0.005]), np.array([0, -1.0, 0]))
    points, weights = sheet.points[loop], sheet.weights[loop]
    angle, low, radius = axis.seen(points)
    azimuth = np.degrees(np.abs(angle))
    end = marks.head[1] - marks.eyes[1] + 0.105 + 0.012 * step(azimuth, 90, 180)
    side = step(azimuth, 52, 70)
    long = np.where(azimuth > 58, np.maximum(end - low, 0.012), 0.0)
    long = THINNEST + long * side
    wide = 0.098 + 0.012 * np.abs(np.cos(angle))
    count, rings = 7, []
    for k in range(1, count + 1):
        t = k / count
        bulge = 0.006 * np.sin(np.pi * min(1.0, 1.2 * t))
        size = radius + step(np.array(2.2 * t), 0.0, 1.0) * side * np.maximum(wide - radius, 0.0)
        size = size + bulge * step(azimuth, 60, 90)
        size = size - 0.016 * step(np.array(t), 0.6, 1.0) * step(azimuth, 60, 90)
        down = np.stack([angle / (2 * np.pi), low + long * t], 1)
        free = 0.55 * step(long * t, 0.02, 0.13)
        rings.append(Ring(axis.place(angle, low + long * t, size), weights, LOCKS, free, down=down))
    inner = []
    for k in (count - 1, 3):
        a, d, r = axis.seen(rings[k].points)
        inset = THINNEST + 0.008 * side
        points = axis.place(a, d, r - inset)
        inner.append(Ring(points, weights, INSIDE, rings[k].loose, k, inset, rings[k].down))
    flat = side == 0
    return rings + inner, flat & (np.roll(flat, 1) | np.roll(flat, -1))  # an arc, no lone points
