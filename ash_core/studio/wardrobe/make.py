"""Make an actor of the wardrobe: body, clothes, atlas, paint, skeleton, motions."""

from dataclasses import dataclass

import numpy as np

from ash_core.records import Skeleton, Skinning
from ash_core.studio.actor.actor import HAND, Actor, Progress, importance_of
from ash_core.studio.actor.body import LEFT_EYE, RIGHT_EYE, Body, load_body, repose
from ash_core.studio.actor.face import close_face
from ash_core.studio.actor.regions import shares, step
from ash_core.studio.actor.rig import build_rig, build_skin
from ash_core.studio.actor.trim import cap_toes, thin
from ash_core.studio.mesh.graph import make_graph
from ash_core.studio.truth.dressing import EYE, Dressing
from ash_core.studio.wardrobe.borrow import retarget
from ash_core.studio.wardrobe.fit import Fitted, bodily, fit, garment_fields
from ash_core.studio.wardrobe.layout import layout
from ash_core.studio.wardrobe.outfits import (
    BODY,
    INSIDE,
    OUTFITS,
    SKIRT,
    TAIL,
    Outfit,
)
from ash_core.studio.wardrobe.paint import Painted, paint
from ash_core.studio.wardrobe.routines import make_routines
from ash_core.studio.wardrobe.sheet import Sheet

IN_THE_DARK = 0.45
"""Share of light that reaches linings, and legs under a skirt."""


@dataclass(frozen=True)
class Rigged:
    """Dressed body with a skeleton."""

    fitted: Fitted
    skeleton: Skeleton
    skinning: Skinning


def rigged(outfit: Outfit) -> Rigged:
    """Make body, clothes and skeleton, without an atlas."""
    body = cap_toes(close_face(repose(load_body(outfit.phenotype, outfit.height))))
    return _rig(fit(thin(body, importance_of(body), outfit.vertices), outfit))


def _rig(fitted: Fitted) -> Rigged:
    skeleton, owner = build_rig(fitted.body, fitted.lift)
    sheet = fitted.sheet
    return Rigged(fitted, skeleton, build_skin(sheet.weights, fitted.body.bones, owner, skeleton))


def build_dressed(outfit: Outfit, progress: Progress) -> Actor:
    """Make the actor without writing files."""
    progress("loading the body model (the first time takes a minute or two)", 0.0)
    base = rigged(outfit)
    sheet = base.fitted.sheet
    progress("laying out the atlas", 0.15)
    corner_uvs = layout(base.fitted)
    progress("painting the texture", 0.55)
    painted = paint(base.fitted, corner_uvs, outfit)
    progress("building the graph", 0.75)
    nodes, graph_faces = make_graph(sheet.points, sheet.faces)
    share = shares(bodily(sheet, base.fitted.body))
    hands = (np.maximum(share["left_hand"], share["right_hand"]) > HAND) & ~sheet.added
    progress("choreographing the motions", 0.80)
    routines = make_routines(base.skeleton, base.skinning, sheet.points)
    motions = {f"{kind}_{name}": dofs for kind, group in routines.items()
               for name, dofs in group.items()}  # fmt: skip
    progress("borrowing another actor's dance", 0.92)
    motions |= _borrowed(outfit, base)
    progress("done", 1.0)
    return Actor(
        sheet.points, sheet.faces, corner_uvs, painted.texture, base.skeleton, base.skinning,
        nodes, graph_faces, hands, motions, name=outfit.name,
        dressing=dressing_of(base.fitted, outfit, painted),
    )  # fmt: skip


def _borrowed(outfit: Outfit, base: Rigged) -> dict[str, np.ndarray]:
    """Retarget the next actor's dance to this one's legs."""
    names = list(OUTFITS)
    other = OUTFITS[names[(names.index(outfit.name) + 1) % len(names)]]
    source = rigged(other)
    dance = make_routines(source.skeleton, source.skinning, source.fitted.sheet.points, ("dance",))
    dofs = retarget(
        dance["training"]["dance"], source.skeleton, base.skeleton, base.skinning,
        base.fitted.sheet.points,
    )  # fmt: skip
    return {f"retarget_{other.name}_dance": dofs}


def dressing_of(fitted: Fitted, outfit: Outfit, painted: Painted) -> Dressing:
    """Derive the dressing: looseness, gloss, light."""
    sheet = fitted.sheet
    materials = np.array([outfit.materials[int(part)] for part in sheet.parts])
    body: Body = bodily(sheet, fitted.body)
    share = shares(body)
    field = garment_fields(sheet.bare, share, fitted.marks, outfit)
    on_foot = (share["left_foot"] + share["right_foot"] > 0.02) & (field["shoe"] > 0)
    of_body = sheet.parts == BODY
    materials = np.where(of_body & (on_foot[sheet.faces].mean(1) > 0.5), outfit.shoes, materials)
    materials = np.where(np.isin(sheet.eyes, (LEFT_EYE, RIGHT_EYE)), EYE, materials)
    return Dressing(
        loose=sheet.loose.astype(np.float32),
        partner=sheet.partner,
        inset=sheet.inset.astype(np.float32),
        solid=~sheet.added,
        open=_open(sheet, outfit),
        materials=materials.astype(np.int32),
        gloss=painted.gloss,
        relief=painted.relief,
    )


def _open(sheet: Sheet, outfit: Outfit) -> np.ndarray:
    """Return the light from all sides at rest [V]: less inside clothes and between covered legs."""
    light = np.ones(len(sheet.points))
    inside = np.zeros(len(sheet.points), bool)
    inside[sheet.faces[sheet.parts == INSIDE]] = True
    outside = np.zeros(len(sheet.points), bool)
    outside[sheet.faces[sheet.parts != INSIDE]] = True
    light[inside & ~outside] = IN_THE_DARK
    hung = np.isin(sheet.parts, (SKIRT,) if outfit.skirt else (TAIL,))
    hem = sheet.points[sheet.faces[hung]][..., 1].min()
    top = sheet.points[sheet.faces[hung]][..., 1].max()
    below = ~sheet.added & (np.abs(sheet.points[:, 0]) < 0.22) & (sheet.points[:, 1] < top)
    deep = step(sheet.points[:, 1], hem - 0.05, hem + 0.10)
    return np.where(below, 1.0 - (1 - IN_THE_DARK) * deep, light).astype(np.float32)
