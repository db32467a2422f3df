"""Colour and gloss of a dressed actor, texel by texel."""

from dataclasses import dataclass, replace

import numpy as np

from ash_core.studio.actor.regions import step
from ash_core.studio.actor.texture import (
    Paper,
    bump,
    cloud,
    over,
    paint_eyes,
    paint_face,
    paint_shoes,
    paint_skin,
    paper_of,
)
from ash_core.studio.mesh.subdivide import subdivide
from ash_core.studio.mesh.texels import Texels, find_texels
from ash_core.studio.truth.dressing import HAIR, LEATHER, LINING, RUBBER, SKIN
from ash_core.studio.wardrobe.cloths import CLOTHS, PALETTES, Brush
from ash_core.studio.wardrobe.fit import Fitted, bodily, garment_fields
from ash_core.studio.wardrobe.outfits import BODY, INSIDE, LOCKS, SCALP, Outfit

SIZE = 2048
GLOSS = {SKIN: 0.10, HAIR: 0.22, LEATHER: 0.55, RUBBER: 0.15, LINING: 0.0}
EYE_GLOSS = 0.9


@dataclass(frozen=True)
class Painted:
    texture: np.ndarray
    """[SIZE, SIZE, 3] uint8"""
    gloss: np.ndarray
    """[SIZE / 2, SIZE / 2] uint8"""


def paint(fitted: Fitted, corner_uvs: np.ndarray, outfit: Outfit) -> Painted:
    """Paint part by part."""
    sheet = fitted.sheet
    body = bodily(sheet, fitted.body)
    texels = find_texels(corner_uvs, SIZE)
    colours, gloss = np.zeros((len(texels.rows), 3)), np.zeros(len(texels.rows))
    # Stripes stay level on the smooth filmed surface, so its places count.
    smooth = subdivide(sheet.faces, corner_uvs, len(sheet.points)).matrix[: len(sheet.points)]
    dressed = smooth @ sheet.points - [0.0, fitted.lift, 0.0]
    palette = PALETTES[outfit.name]
    part_of = sheet.parts[texels.faces]
    for part in np.unique(sheet.parts):
        indices = np.flatnonzero(part_of == part)
        if not len(indices):
            continue
        some = _some(texels, indices)
        paper = replace(paper_of(body, dressed, some), palette=palette)
        field = garment_fields(paper.bare, paper.share, paper.marks, outfit)
        paper = replace(paper, field=field)
        eye = body.eyes[some.faces]
        if part == BODY:
            colour, shine = _body(paper, body, eye, outfit)
        elif part in (SCALP, LOCKS):
            colour, shine = _locks(paper, some.carry(sheet.along, sheet.faces), part == LOCKS)
        else:
            brush = Brush(paper, some.carry(sheet.along, sheet.faces), int(part))
            colour, shine = CLOTHS[outfit.name](brush)
            if part == INSIDE:
                of_hair = (paper.share["head"] + paper.share["neck"] > 0.5) & (
                    paper.bare[:, 1] > paper.marks.eyes[1] - 0.13
                )
                colour = np.where(of_hair[:, None], palette.hair, colour) * 0.55
                shine = np.zeros(len(indices))
        light = 0.93 + 0.07 * paper.normal[:, 1] - 0.22 * paper.hollow * (eye == 0)
        colours[indices], gloss[indices] = colour * light[:, None], shine
    shiny = texels.image(np.repeat(gloss[:, None], 3, 1))[..., 0]
    return Painted(texels.image(colours), shiny.reshape(SIZE // 2, 2, SIZE // 2, 2).max((1, 3)))


def _some(texels: Texels, indices: np.ndarray) -> Texels:
    return Texels(
        texels.size, texels.rows[indices], texels.columns[indices], texels.faces[indices],
        texels.barycentrics[indices],
    )  # fmt: skip


def _body(paper: Paper, body, eye: np.ndarray, outfit: Outfit) -> tuple[np.ndarray, np.ndarray]:
    """Paint skin, face, eyes; socks or shorts of the outfit; shoes."""
    share, field = paper.share, paper.field
    colour = paint_face(paint_skin(paper), paper, body)
    shine = GLOSS[SKIN] + 0.08 * share["head"]
    is_leg = np.maximum(share["left_leg"], share["right_leg"]) > 0.5
    if outfit.skirt is not None:
        trunk = np.maximum(share["left_arm"], share["right_arm"]) < 0.3
        drop = paper.marks.hip[1] - paper.bare[:, 1]
        shorts = step(0.16 - drop, -0.002, 0.002) * trunk * (share["head"] + share["neck"] < 0.1)
        shorts = shorts * (paper.bare[:, 1] < paper.marks.hip[1] + 0.3)
        colour = over(colour, np.array([0.16, 0.17, 0.22]), shorts)
        high = paper.bare[:, 1]
        sock = step(0.185 - high, -0.001, 0.001) * is_leg
        rib = 0.96 + 0.04 * np.sin(2 * np.pi * paper.bare[:, 0] / 0.004)
        cotton = np.array([0.93, 0.92, 0.89]) * rib[:, None]
        for level in (0.166, 0.152):
            cotton = over(cotton, np.array([0.70, 0.20, 0.22]), bump(high - level, 0.0035))
        colour = over(colour, cotton, sock)
        shine = shine * (1 - np.maximum(sock, shorts))
    is_foot = (share["left_foot"] + share["right_foot"]) > 0.02
    shoe = step(field["shoe"], -0.0008, 0.0008) * is_foot
    if outfit.shoes == LEATHER:
        upper, glossy = _boots(paper, outfit)
    else:
        upper, glossy = paint_shoes(paper), np.full(len(eye), GLOSS[RUBBER])
    colour, shine = over(colour, upper, shoe), shine + shoe * (glossy - shine)
    colour = paint_eyes(colour, paper, body, eye)
    return colour, np.where(eye > 0, EYE_GLOSS, shine)


def _boots(paper: Paper, outfit: Outfit) -> tuple[np.ndarray, np.ndarray]:
    """Paint leather shoes with a welt, laces and a dark sole."""
    place = paper.dressed
    side = np.where(place[:, 0] > 0, 0, 1)
    ahead = place[:, 2] - paper.marks.ankles[side][:, 2]
    tone = np.array([0.33, 0.19, 0.11]) if outfit.name == "otto" else np.array([0.10, 0.09, 0.10])
    colour = tone * (1 + 0.10 * cloud(place, 0.02, 21) + 0.05 * cloud(place, 0.004, 22))[:, None]
    aside = place[:, 0] - paper.marks.ankles[side][:, 0]
    aside = aside - np.where(side == 0, 1, -1) * 0.10 * np.maximum(ahead, 0)
    tongue = step(0.020 - np.abs(aside), -0.001, 0.001) * step(ahead, 0.045, 0.055)
    tongue = tongue * (1 - step(ahead, 0.115, 0.122)) * step(paper.normal[:, 1], 0.15, 0.4)
    laces = step(np.sin(2 * np.pi * ahead / 0.016), 0.2, 0.5) * tongue
    colour = over(colour, tone * 1.7, 0.9 * laces)
    cap = bump(ahead - 0.150 + 0.25 * np.abs(aside), 0.0016)
    colour = colour * (1 - 0.45 * cap)[:, None]
    sole = 1.0 - step(place[:, 1], 0.006, 0.008)
    welt = bump(place[:, 1] - 0.009, 0.0012) * step(np.sin(2 * np.pi * ahead / 0.006), -0.3, 0.3)
    colour = over(colour, np.array([0.70, 0.56, 0.36]), 0.8 * welt)
    return over(colour, np.array([0.09, 0.075, 0.07]), sole), 0.6 * (1 - 0.7 * sole)


def _locks(paper: Paper, along_ring: np.ndarray, hanging: bool) -> tuple[np.ndarray, np.ndarray]:
    """Paint strands: over the skull from the crown, on hanging hair along its length."""
    base = paper.palette.hair
    if hanging:
        place = paper.bare
        around = np.arctan2(place[:, 0] - paper.marks.head[0], place[:, 2] - paper.marks.head[2])
        swirl, down = around * 1.0 + 3.0 * place[:, 0], along_ring[:, 1]
    else:
        place = paper.bare - paper.marks.head
        crown = np.array([0.012, 0.11, -0.045])
        around = np.arctan2(place[:, 0] - crown[0], place[:, 2] - crown[2])
        down = np.linalg.norm(place - crown, axis=1)
        swirl = around + 1.2 * down
    wave = swirl + 0.012 * np.sin(55 * down + 4 * around)
    strands = 0.45 * np.sin(97 * wave) + 0.30 * np.sin(211 * wave + 2) + 0.25 * np.sin(431 * wave)
    patches = cloud(paper.bare, 0.030, 5)
    shine = bump(down - 0.075, 0.026) * (0.6 + 0.4 * strands)
    tone = 1.0 + 0.26 * strands + 0.10 * patches + 0.35 * shine
    return base * tone[:, None], np.clip(GLOSS[HAIR] + 0.10 * strands, 0, 1)
