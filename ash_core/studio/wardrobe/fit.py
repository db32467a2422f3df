"""Dressed surface of a bare body and an outfit: cut, pulled apart, pushed out, joined."""

from dataclasses import dataclass, replace

import numpy as np

from ash_core.studio.actor.body import Body
from ash_core.studio.actor.dress import shoes, smooth_anatomy, straight_legs
from ash_core.studio.actor.regions import Landmarks, along, fields, landmarks, shares, step
from ash_core.studio.mesh.surface import mean_matrix, smooth, vertex_normals
from ash_core.studio.wardrobe.cut import cut
from ash_core.studio.wardrobe.hair import HAIRLINE, TAIL_WAY, ears_alone, hair_depth
from ash_core.studio.wardrobe.outfits import BODY, BOTTOM, SCALP, TOP, Outfit
from ash_core.studio.wardrobe.sew import sew
from ash_core.studio.wardrobe.sheet import Sheet, keep_faces, split

TROUSERS_UP = 0.045
"""Height of the trousers' cut above that in `regions`; lower parts are sewn on, m."""
CALM = 14
"""Rounds of smoothing that remove the last of anatomy from a top."""
PONY = 0.024
"""Radius of the patch of scalp from which a pony tail grows, m."""


@dataclass(frozen=True)
class Fitted:
    """Dressed body: the sewn surface, and its bare body."""

    sheet: Sheet
    body: Body
    """Whole bare body, with the cuts' edges."""
    marks: Landmarks
    lift: float
    """Height that the body gained by its soles, m."""


def fit(body: Body, outfit: Outfit) -> Fitted:
    """Cut and sew an outfit."""
    marks = landmarks(body)
    body, lines = _cut_all(body, outfit, marks)
    share = shares(body)
    field = garment_fields(body.vertices, share, marks, outfit)
    parts = _parts(body.faces, lines, field["below"], outfit)
    placed = _place(body, outfit, field, share, marks)
    sheet = split(body, np.where(parts < 0, BODY, parts), placed)
    if (parts < 0).any():  # the patch under the pony tail is removed
        keep_faces(sheet, parts >= 0)
    sew(sheet, body, marks, outfit)
    used = np.unique(sheet.faces)
    if len(used) < len(sheet.points):
        renumber = np.full(len(sheet.points) + 1, -1)
        renumber[used] = np.arange(len(used))
        for name in ("bare", "points", "weights", "loose", "partner", "inset", "along", "added"):
            setattr(sheet, name, getattr(sheet, name)[used])
        sheet.faces, sheet.partner = renumber[sheet.faces], renumber[sheet.partner]
    lift = -float(sheet.points[:, 1].min())
    sheet.points = sheet.points + np.array([0.0, lift, 0.0])
    return Fitted(sheet, body, marks, lift)


def garment_fields(
    points: np.ndarray, share: dict, marks: Landmarks, outfit: Outfit
) -> dict[str, np.ndarray]:
    """Compute signed distances at bare places [N, 3], m, positive inside.

    As in `regions.fields`, but with this outfit's sleeves and waist.
    """
    share = {**share, "ear": ears_alone(share["ear"], points, marks)}
    field = dict(fields(points, share, marks, HAIRLINE))
    arm = np.where(points[:, 0] > 0, share["left_arm"], share["right_arm"])
    first, second = (marks.shoulders, marks.elbows) if outfit.sleeve <= 1 else (
        marks.elbows, marks.wrists)  # fmt: skip
    length = float(np.linalg.norm(second[0] - first[0]))
    t = np.where(
        points[:, 0] > 0, along(points, first[0], second[0]), along(points, first[1], second[1])
    )
    sleeve = (outfit.sleeve - (outfit.sleeve > 1) - t) * length
    field["sleeve"] = np.where(arm > 0.5, sleeve, np.maximum(sleeve, 0.10))
    field["hem"] = np.where(arm > 0.5, 0.2, points[:, 1] - (marks.hip[1] + outfit.waist))
    field["collar"] = field["collar"] + outfit.collar_raise
    field["top"] = np.minimum.reduce([field["sleeve"], field["collar"], field["hem"]])
    field["shirt"] = field["top"]
    field["cuff"] = field["cuff"] - TROUSERS_UP
    if outfit.hair == "bob":  # cut above the ears; lower hair is sewn on
        high = points[:, 1] - marks.eyes[1] - 0.012
        field["hair"] = np.where(
            field["azimuth"] > 75, np.minimum(field["hair"], high), field["hair"]
        )
    field["below"] = np.where(arm > 0.35, -0.05, marks.hip[1] + outfit.waist - points[:, 1])
    field["legs"] = np.minimum(field["below"], field["cuff"])
    field["trousers"] = np.full(len(points), -0.05) if outfit.skirt else field["legs"]
    return field


def _cut_all(body: Body, outfit: Outfit, marks: Landmarks) -> tuple[Body, list[np.ndarray]]:
    """Cut along the edges of the top, the trousers' ends, the hairline, the pony tail."""
    lines: list[np.ndarray] = []
    names = ["top", *([] if outfit.skirt else ["cuff"]), "hair", *(["pony"] * _pony(outfit))]
    for name in names:
        field = garment_fields(body.vertices, shares(body), marks, outfit)
        field["pony"] = PONY - np.linalg.norm(body.vertices - pony_root(body, marks), axis=1)
        body, lines = cut(body, field[name], lines)
    return body, lines


def _pony(outfit: Outfit) -> bool:
    return outfit.hair == "tail"


def pony_root(body: Body, marks: Landmarks) -> np.ndarray:
    """Return the centre of the patch from which a pony tail grows: high on the back of the head."""
    offset = body.vertices - marks.head
    beside = np.linalg.norm(offset - np.outer(offset @ TAIL_WAY, TAIL_WAY), axis=1)
    near = (beside < 0.02) & (offset @ TAIL_WAY > 0)
    return marks.head + TAIL_WAY * float((offset @ TAIL_WAY)[near].max())


def _parts(
    faces: np.ndarray, lines: list[np.ndarray], below: np.ndarray, outfit: Outfit
) -> np.ndarray:
    """Return the part [F] of each face; -1: removed."""
    inside = [line[faces].sum(1) > 0 for line in lines]
    top, hair = inside[0], inside[1 if outfit.skirt else 2]
    parts = np.where(hair, SCALP, BODY)
    if outfit.skirt is None:
        legs = inside[1] & (below[faces].mean(1) > 0)
        parts = np.where(legs & ~top & ~hair, BOTTOM, parts)
    parts = np.where(top, TOP, parts)
    return np.where(inside[-1], -1, parts) if _pony(outfit) else parts


def _place(
    body: Body, outfit: Outfit, field: dict, share: dict, marks: Landmarks
) -> dict[int, np.ndarray]:
    """Compute dressed places [V, 3] of each part, as if it covered the whole body."""
    mean = mean_matrix(body.faces, len(body.vertices))
    ones = np.ones(len(body.vertices))
    bottom = np.minimum(field["below"] + 0.08, field["cuff"] + 0.06)
    flat = smooth_anatomy(body, share, {**field, "trousers": bottom}, mean)
    flat = smooth(flat, mean, 0.6 * step(field["top"], 0.02, 0.06), CALM)
    legs = straight_legs(flat, {**field, "trousers": bottom}, marks, share)
    normals = vertex_normals(smooth(flat, mean, ones, 3), body.faces)
    normals = smooth(normals, mean, ones, 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # The waist's cut stays level: near it no vertex moves up or down.
    level = np.exp(-((field["hem"] / 0.04) ** 2)) * (field["sleeve"] > 0.09)
    flat[:, 1] += level * (body.vertices[:, 1] - flat[:, 1])
    legs[:, 1] += level * (body.vertices[:, 1] - legs[:, 1])
    normals[:, 1] *= 1.0 - level
    collar = 1.0 - 0.6 * np.exp(-np.maximum(field["collar"], 0) / 0.03)
    sleeve = np.exp(-np.maximum(field["sleeve"], 0) / 0.06)
    blouse = np.exp(-np.maximum(field["hem"], 0) / 0.05) * (field["sleeve"] > 0.09)
    thick = outfit.thick * collar * (1.0 + 0.5 * sleeve + 0.35 * blouse)
    top = flat + thick[:, None] * normals
    skin = shoes(body.vertices, body, share, field, heel=True)
    depth = hair_depth(body.vertices, field["hair"], field["azimuth"], marks, outfit.hair)
    hair = body.vertices + depth[:, None] * (
        vertex_normals(smooth(body.vertices, mean, ones, 4), body.faces)
    )
    soft = step(field["hair"], 0.004, 0.02)
    hair = smooth(hair, mean, 0.45 * soft, 4)
    trousers = legs + 0.007 * normals
    return {BODY: skin, TOP: top, BOTTOM: trousers, SCALP: hair}


def bodily(sheet: Sheet, body: Body) -> Body:
    """Convert the sheet to a body's record, for tools that need one."""
    return replace(
        body, vertices=sheet.bare, faces=sheet.faces, corner_uvs=sheet.corner_uvs,
        weights=sheet.weights, eyes=sheet.eyes, islands=sheet.islands,
    )  # fmt: skip
