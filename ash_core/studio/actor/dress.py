"""Push the body's surface out to where clothes, shoes and hair lie, and smooth anatomy away."""

import numpy as np
from scipy.interpolate import PchipInterpolator

from ash_core.studio.actor.body import Body
from ash_core.studio.actor.regions import Landmarks, along, fields, landmarks, shares, step
from ash_core.studio.mesh.surface import mean_matrix, smooth, vertex_normals

SOLE = 0.018
"""Thickness of the shoe's sole, m."""
CROTCH = 0.075
"""Distance from the hip joints down to the crotch, m."""


def dress(body: Body) -> tuple[np.ndarray, float]:
    """Offset the body's surface to the clothes, soles on y = 0.

    `body` stays bare. Returns vertices [V, 3] and the height that the body gained by the soles, m.
    """
    marks, share = landmarks(body), shares(body)
    field = fields(body.vertices, share, marks)
    mean = mean_matrix(body.faces, len(body.vertices))
    points = smooth_anatomy(body, share, field, mean)
    points = straight_legs(points, field, marks, share)
    normals = vertex_normals(smooth(points, mean, np.ones(len(points)), 3), body.faces)
    normals = smooth(normals, mean, np.ones(len(points)), 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # Hems stay level: near them no vertex moves up or down.
    level = np.exp(-((field["hem"] / 0.04) ** 2)) * (field["sleeve"] > 0.19)
    level = np.maximum(level, np.exp(-((field["cuff"] / 0.02) ** 2)))
    points[:, 1] += level * (body.vertices[:, 1] - points[:, 1])
    normals[:, 1] *= 1.0 - level
    reach = _thickness(body.vertices, field, marks)
    points = points + reach[:, None] * normals
    points = shoes(points, body, share, field)
    garment = np.maximum.reduce([step(field[k], -0.004, 0.01) for k in ("shirt", "trousers")])
    garment = garment * (1.0 - step(field["shoe"], -0.01, 0.02))
    flat = smooth(points, mean, 0.35 * garment, 3)
    points = flat + (level * (points - flat)[:, 1])[:, None] * [0.0, 1.0, 0.0]
    hair = step(field["hair"], 0.004, 0.03)
    points = smooth(points, mean, 0.4 * hair, 3)
    lift = -float(points[:, 1].min())
    return points + np.array([0.0, lift, 0.0]), lift


def smooth_anatomy(body: Body, share: dict, field: dict, mean) -> np.ndarray:
    """Smooth strongly inside garments, since cloth spans hollows."""
    shirt = step(field["shirt"], 0.0, 0.03)
    trousers = step(field["trousers"], 0.0, 0.03)
    before = body.vertices
    points = smooth(before, mean, 0.55 * np.maximum(shirt, trousers), 26)
    # Undo part of the shrinking: Laplacian smoothing makes tubes thinner.
    normals = vertex_normals(points, body.faces)
    lost = np.einsum("vk,vk->v", before - points, normals)
    lost = smooth(lost, mean, np.ones(len(lost)), 12)
    points = points + np.maximum(lost, 0.0)[:, None] * normals
    crotch = (
        np.exp(
            -((before[:, 0] / 0.07) ** 2)
            - ((before[:, 1] - body.heads["upperleg01.L"][1] + CROTCH) / 0.07) ** 2
        )
        * (before[:, 2] > 0)
        * step(-field["hem"], 0.015, 0.04)
    )
    return smooth(points, mean, 0.6 * crotch, 40)


def straight_legs(points: np.ndarray, field: dict, marks: Landmarks, share: dict) -> np.ndarray:
    """Straighten trouser legs: below the thigh they do not narrow to the ankle."""
    inside = step(field["trousers"], -0.004, 0.006)
    moved = points.copy()
    for side, name in enumerate(("left_leg", "right_leg")):
        knee, ankle, hip = marks.knees[side], marks.ankles[side], marks.hips[side]
        down = along(points, knee, ankle)
        shin = knee + np.clip(down, 0, 1.2)[:, None] * (ankle - knee)
        thigh = hip + np.clip(along(points, hip, knee), 0, 1)[:, None] * (knee - hip)
        # The calf is behind the bone: move the trouser's axis with it.
        axis = np.where((down > 0)[:, None], shin + np.array([0, 0, -0.012]), thigh)
        out = (points - axis) * [1.0, 0.0, 1.0]
        radius = np.linalg.norm(out, axis=1, keepdims=True)
        fraction = np.clip(down, 0.0, 1.0)
        width = 0.066 + 0.004 * fraction + 0.008 * step(fraction, 0.7, 1.0)
        grow = np.maximum(width - radius[:, 0], 0.0) * step(down, -0.25, 0.25)
        grow = grow * inside * step(share[name], 0.4, 0.8)
        moved += grow[:, None] * out / np.maximum(radius, 1e-6)
    return moved


def _thickness(points: np.ndarray, field: dict, marks: Landmarks) -> np.ndarray:
    """Return each vertex's offset along its normal, m."""
    shirt = step(field["shirt"], -0.006, 0.006)
    flare = np.exp(-np.maximum(field["hem"], 0) / 0.05) * (field["sleeve"] > 0.19)
    sleeve = np.exp(-np.maximum(field["sleeve"], 0) / 0.05)
    collar = 1.0 - 0.55 * np.exp(-np.maximum(field["collar"], 0) / 0.03)
    reach = shirt * collar * (0.0085 + 0.007 * flare + 0.009 * sleeve)
    trousers = step(field["trousers"], -0.006, 0.006) * (1.0 - shirt)
    reach = reach + trousers * 0.006
    hair = field["hair"]
    top = step(points[:, 1] - marks.eyes[1], 0.03, 0.11)
    front = step(points[:, 2] - marks.head[2], 0.02, 0.09)
    waves = np.sin(5.0 * np.radians(field["azimuth"]) + 60.0 * points[:, 1])
    thick = 0.010 + 0.012 * top + 0.006 * top * front + 0.0015 * waves
    return reach + step(hair, -0.002, 0.022) * thick


def shoes(
    points: np.ndarray, body: Body, share: dict, field: dict, heel: bool = False
) -> np.ndarray:
    """Shape sneakers: a larger foot, its front half moved onto a drawn shoe, and a flat sole.

    heel: the lower half of the shoe's back is drawn too.
    """
    foot = np.maximum(share["left_foot"], share["right_foot"])
    inside = step(field["shoe"], -0.004, 0.008)
    mean = mean_matrix(body.faces, len(points))
    grown = smooth(points, mean, 0.6 * inside * step(foot, 0.3, 0.6), 6)
    normals = smooth(vertex_normals(grown, body.faces), mean, np.ones(len(points)), 4)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    grown = grown + (0.010 * inside)[:, None] * normals * [1.0, 0.5, 1.0]
    for name in ("left_foot", "right_foot"):
        is_foot = share[name] > 0.3
        drawn, front = _drawn_shoe(grown, points, is_foot & (body.vertices[:, 1] < 0.06))
        if heel:
            front = np.maximum(front, 1.0 - step(points[:, 1], 0.022, 0.05))
        front = (front * inside * is_foot)[:, None]
        grown = grown + front * (drawn - grown)
        grown = smooth(grown, mean, 0.5 * front[:, 0], 2)
    # Flatten everything near the ground, and the arch, onto the sole's plane.
    low = inside * (1.0 - step(grown[:, 1], 0.004, 0.016))
    grown[:, 1] += low * (-SOLE - grown[:, 1])
    return grown


# Profile from heel 0 to tip 1: half width, height of the upper over the bare sole (m).
_SHOE = np.array([
    (0.00, 0.020, 0.075), (0.15, 0.036, 0.085), (0.35, 0.038, 0.088), (0.50, 0.042, 0.080),
    (0.65, 0.048, 0.062), (0.78, 0.051, 0.049), (0.88, 0.047, 0.042), (0.95, 0.035, 0.036),
    (0.99, 0.016, 0.024), (1.00, 0.004, 0.010),
])  # fmt: skip
_SHOE_SQUARENESS = 2.6


def _drawn_shoe(
    points: np.ndarray, bare: np.ndarray, of_foot: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Project each vertex onto the drawn shoe, by its angle about the axis; return its share
    too."""
    foot = bare[of_foot]
    slope, middle = np.polyfit(foot[:, 2], foot[:, 0], 1)
    heel, tip = foot[:, 2].min() - 0.006, foot[:, 2].max() + 0.014
    along_z = np.clip((points[:, 2] - heel) / (points[of_foot, 2].max() - heel), 0.0, 1.0)
    width, top = (PchipInterpolator(_SHOE[:, 0], _SHOE[:, k])(along_z) for k in (1, 2))
    bottom = -SOLE
    centre_x = middle + slope * points[:, 2]
    centre_y, half = (top + bottom) / 2, (top - bottom) / 2
    angle = np.arctan2((points[:, 1] - centre_y) / half, (points[:, 0] - centre_x) / width)
    p = _SHOE_SQUARENESS
    size = (np.abs(np.cos(angle)) ** p + np.abs(np.sin(angle)) ** p) ** (-1 / p)
    drawn = np.stack(
        [
            centre_x + width * size * np.cos(angle),
            centre_y + half * size * np.sin(angle),
            heel + along_z * (tip - heel),
        ],
        axis=1,
    )
    return drawn, step(along_z, 0.40, 0.62)
