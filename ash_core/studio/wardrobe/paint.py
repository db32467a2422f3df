"""Colour and gloss of a dressed actor, texel by texel."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ash_core.studio.actor.body import SKIN_FACE, Body
from ash_core.studio.actor.brushes import Paper, bump, cloud, over
from ash_core.studio.actor.face_paint import (
    face_gloss,
    face_relief,
    paint_face,
    paint_inside,
)
from ash_core.studio.actor.hands import SKIN_GLOSS, paint_hands
from ash_core.studio.actor.regions import Landmarks, shares, step
from ash_core.studio.actor.texture import find_hollows, paint_shoes, paint_skin
from ash_core.studio.mesh.subdivide import subdivide
from ash_core.studio.mesh.surface import edges_of, vertex_normals
from ash_core.studio.mesh.texels import Texels, find_texels
from ash_core.studio.truth.dressing import FLAT, LEATHER, LINING, RELIEF_M, RUBBER
from ash_core.studio.wardrobe.cloths import CLOTHS, PALETTES, Brush
from ash_core.studio.wardrobe.fit import Fitted, bodily, garment_fields
from ash_core.studio.wardrobe.hair import (
    Coat,
    comb_scalp,
    comb_tail,
    paint_curls,
    paint_strands,
    tie_tail,
)
from ash_core.studio.wardrobe.lie import Panels, lay_panels
from ash_core.studio.wardrobe.outfits import BODY, INSIDE, LOCKS, SCALP, TOP, Outfit
from ash_core.studio.wardrobe.sheet import Sheet

SIZE = 2048
GLOSS = {LEATHER: 0.55, RUBBER: 0.15, LINING: 0.0}


@dataclass(frozen=True)
class Painted:
    texture: np.ndarray
    """[SIZE, SIZE, 3] uint8"""
    gloss: np.ndarray
    """[SIZE / 2, SIZE / 2] uint8"""
    relief: np.ndarray
    """[SIZE, SIZE] uint8, as in a dressing"""


@dataclass(frozen=True)
class Canvas:
    """Filmed surface, which is finer than the template, with all that decides on its paint.

    Lines that are drawn by places on a coarse surface bend at its edges once it is filmed.
    """

    body: Body
    """Bare body, finer: places are those on the coarse one's flat faces."""
    smooth: np.ndarray
    """Bare places on the smooth surface [V, 3], m."""
    dressed: np.ndarray
    normals: np.ndarray
    hollow: np.ndarray
    share: dict[str, np.ndarray]
    along: np.ndarray
    panels: Panels
    parts: np.ndarray
    texels: Texels

    def paper(self, indices: np.ndarray, part: int, outfit: Outfit, marks: Landmarks) -> Paper:
        """Return the inputs of the brushes at some texels."""
        carry = partial(self.some(indices).carry, faces=self.body.faces)
        normal = carry(self.normals)
        share = {name: carry(values) for name, values in self.share.items()}
        bare = carry(self.smooth)
        return Paper(
            bare,
            carry(self.dressed),
            normal / np.linalg.norm(normal, axis=1, keepdims=True),
            carry(self.hollow),
            share,
            garment_fields(bare, share, marks, outfit),
            marks,
            PALETTES[outfit.name],
        )

    def some(self, indices: np.ndarray) -> Texels:
        texels = self.texels
        return Texels(
            texels.size, texels.rows[indices], texels.columns[indices], texels.faces[indices],
            texels.barycentrics[indices],
        )  # fmt: skip


def stretch_canvas(fitted: Fitted, corner_uvs: np.ndarray, outfit: Outfit) -> Canvas:
    """Prepare the filmed surface for painting."""
    sheet = fitted.sheet
    coarse = bodily(sheet, fitted.body)
    fine = subdivide(sheet.faces, corner_uvs, len(sheet.points))
    edges = edges_of(sheet.faces)
    halves = lambda values: np.concatenate([values, values[edges].mean(1)])  # noqa: E731
    body = replace(
        coarse,
        vertices=halves(coarse.vertices),
        faces=fine.faces,
        corner_uvs=subdivide(sheet.faces, coarse.corner_uvs, len(sheet.points)).corner_uvs,
        weights=halves(coarse.weights),
        eyes=np.repeat(coarse.eyes, 4),
        islands=np.repeat(coarse.islands, 4),
    )
    dressed = fine.matrix @ sheet.points - [0.0, fitted.lift, 0.0]
    places = dressed[: len(sheet.points)]
    share = shares(coarse)
    waist = fitted.marks.hip[1] + outfit.waist + 0.01
    laid = lay_panels(places, sheet.faces[sheet.parts == TOP], share, fitted.marks, waist)
    return Canvas(
        body,
        fine.matrix @ sheet.bare,
        dressed,
        vertex_normals(dressed, fine.faces),
        fine.matrix @ find_hollows(places, sheet.faces),
        {name: halves(values) for name, values in share.items()},
        halves(sheet.along),
        Panels(dressed[:, 1] + halves(laid.trunk - places[:, 1]), halves(laid.sleeve)),
        np.repeat(sheet.parts, 4),
        find_texels(fine.corner_uvs, SIZE),
    )


def paint(fitted: Fitted, corner_uvs: np.ndarray, outfit: Outfit) -> Painted:
    """Paint part by part."""
    sheet = fitted.sheet
    canvas = stretch_canvas(fitted, corner_uvs, outfit)
    body, texels = canvas.body, canvas.texels
    colours = np.zeros((len(texels.rows), 3))
    gloss, relief = np.zeros((2, len(texels.rows)))
    part_of = canvas.parts[texels.faces]
    for part in np.unique(sheet.parts):
        indices = np.flatnonzero(part_of == part)
        if not len(indices):
            continue
        paper = canvas.paper(indices, int(part), outfit, fitted.marks)
        eye = body.eyes[texels.faces[indices]]
        height = np.zeros(len(indices))
        if part == BODY:
            colour, shine, height = _body(paper, body, eye, outfit)
        elif part in (SCALP, LOCKS):
            coat = _hair(paper, sheet, outfit, bool(part == LOCKS))
            # Under the first strands the skin is that of the face beyond the line.
            skin = paint_face(paint_skin(paper), paper, body)
            skin_shine = face_gloss(np.full(len(indices), SKIN_GLOSS), paper, body, eye)
            colour, height = over(skin, coat.colour, coat.cover), coat.relief
            shine = skin_shine + coat.cover * (coat.gloss - skin_shine)
        else:
            some = canvas.some(indices)
            laid = canvas.panels
            along, up, out = (
                some.carry(values, body.faces) for values in (canvas.along, laid.trunk, laid.sleeve)
            )
            brush = Brush(paper, along, int(part), Panels(up, out))
            colour, shine = CLOTHS[outfit.name](brush)
            if part == INSIDE:
                of_hair = (paper.share["head"] + paper.share["neck"] > 0.5) & (
                    paper.bare[:, 1] > paper.marks.eyes[1] - 0.13
                )
                colour = np.where(of_hair[:, None], paper.palette.hair, colour) * 0.55
                face = of_hair * (1.0 - step(paper.field["azimuth"], 50, 60))
                colour = over(colour, paint_skin(paper), face)
                shine = np.zeros(len(indices))
        hollow = paper.hollow * (eye == SKIN_FACE) * (1.0 - bump(paper.field["hair"], 0.008))
        hollow = hollow * (1.0 - 0.5 * paper.share["head"])  # the face has shade of its own
        light = 0.93 + 0.07 * paper.normal[:, 1] - 0.22 * hollow
        colours[indices] = colour * light[:, None]
        gloss[indices], relief[indices] = shine, height
    # Spread gloss and relief over the gaps between charts as one image.
    steps = (FLAT + relief / RELIEF_M) / 255
    finish = texels.image(np.stack([gloss, steps, steps], 1))
    shiny = finish[..., 0].reshape(SIZE // 2, 2, SIZE // 2, 2).max((1, 3))
    return Painted(texels.image(colours), shiny, np.ascontiguousarray(finish[..., 1]))


def _hair(paper: Paper, sheet: Sheet | None, outfit: Outfit, hanging: bool) -> Coat:
    """Paint hair on the head, or what hangs from it."""
    base, line, marks = paper.palette.hair, paper.field["hair"], paper.marks
    if outfit.hair == "short":
        return paint_curls(paper.bare, base, line)
    if hanging and outfit.hair == "tail":
        assert sheet is not None
        tail = np.unique(sheet.faces[sheet.parts == LOCKS])
        tail = tail[sheet.added[tail]]
        comb = comb_tail(paper.bare, sheet.along[tail, 1], sheet.bare[tail])
        return tie_tail(paint_strands(comb, base, np.ones(len(line)), paper.bare), comb)
    comb = comb_scalp(paper.bare, marks, outfit.hair)
    if outfit.hair == "bob":  # the sides hang over their line
        side = step(paper.field["azimuth"], *((50, 60) if hanging else (58, 74)))
        line = line + side * np.maximum(0.05 - line, 0.0)
    return paint_strands(comb, base, line, paper.bare)


def _body(
    paper: Paper, body: Body, eye: np.ndarray, outfit: Outfit
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paint skin, face, eyes, the first strands of hair; socks or shorts of the outfit; shoes.

    Returns colour [N, 3], gloss [N] and relief [N], m.
    """
    # Skin first, then what covers it.
    share, field = paper.share, paper.field
    hands = paint_hands(paint_skin(paper), paper, body)
    colour, relief = paint_face(hands.colour, paper, body), hands.relief
    shine = hands.gloss
    near = np.flatnonzero((field["hair"] > -0.03) & (eye == SKIN_FACE))
    some = replace(paper, bare=paper.bare[near], field={k: v[near] for k, v in field.items()})
    coat = _hair(some, None, outfit, hanging=False)
    colour[near] = over(colour[near], coat.colour, coat.cover)
    shine[near] *= 1.0 - 0.5 * coat.cover
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
    colour, shine = paint_inside(colour, paper, body, eye), face_gloss(shine, paper, body, eye)
    return colour, shine, relief + face_relief(paper, body, eye)


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
