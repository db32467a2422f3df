"""Outfits of the wardrobe's three actors: bodies, cuts of their clothes, hair."""

from collections.abc import Mapping
from dataclasses import dataclass

from ash_core.studio.truth.dressing import (
    COTTON,
    HAIR,
    LEATHER,
    LINING,
    RUBBER,
    SKIN,
    WOOL,
)
from ash_core.studio.wardrobe.hang import Cut

BODY, TOP, BOTTOM, SCALP, TAIL, SKIRT, INSIDE, COLLAR, CUFF, LEG_END, LOCKS, BELT = range(12)
"""Parts: of the body, then the sewn ones."""


@dataclass(frozen=True)
class Outfit:
    """Outfit of one actor. Metres."""

    name: str
    phenotype: Mapping[str, float]
    height: float
    sleeve: float
    """End of the sleeves: 0 shoulder, 1 elbow, 2 wrist."""
    waist: float
    """Height of the cut above the hip joints; the top's tail hangs from it."""
    thick: float
    """Gap and cloth between the body and the top."""
    tail: Cut
    tail_loose: float
    """Looseness of the tail's hem, 0 to 1."""
    skirt: Cut | None
    """Skirt under the tail; None: trousers."""
    belt: bool
    collar: str
    """Kind: rib, stand or fall."""
    collar_raise: float
    cuff: Cut
    hair: str
    """Kind: tail, bob or short."""
    vertices: int
    """Number of the body's vertices, before clothes are cut."""
    materials: Mapping[int, int]
    """Materials by part."""
    shoes: int
    """Material of the shoes."""


_SHARED = {"proportions": 0.0, "cupsize": 0.35, "firmness": 0.8}
_INSIDE = {BODY: SKIN, SCALP: HAIR, INSIDE: LINING, LOCKS: HAIR}

IDA = Outfit(
    name="ida",
    phenotype={"gender": 0.95, "age": 0.58, "muscle": 0.48, "weight": 0.42, "height": 0.45}
    | _SHARED,
    height=1.66,
    sleeve=0.55,
    waist=0.030,
    thick=0.009,
    tail=Cut(0.075, 0.025, 0.006, 0.03, 7, 0.003),
    tail_loose=0.28,
    skirt=Cut(0.56, 0.030, 0.004, 0.24, 9, 0.030),
    belt=False,
    collar="rib",
    collar_raise=0.0,
    cuff=Cut(0.034, 0.017, 0.008, 0.05),
    hair="tail",
    vertices=5600,
    materials=_INSIDE | {TOP: COTTON, TAIL: COTTON, COLLAR: COTTON, CUFF: COTTON, SKIRT: WOOL,
                         BOTTOM: COTTON, LEG_END: COTTON, BELT: COTTON},
    shoes=RUBBER,
)  # fmt: skip

OTTO = Outfit(
    name="otto",
    phenotype={"gender": 0.05, "age": 0.72, "muscle": 0.55, "weight": 0.62, "height": 0.55}
    | _SHARED,
    height=1.83,
    sleeve=1.93,
    waist=0.105,
    thick=0.017,
    tail=Cut(0.53, 0.032, 0.020, 0.13, 6, 0.022),
    tail_loose=0.85,
    skirt=None,
    belt=True,
    collar="fall",
    collar_raise=0.004,
    cuff=Cut(0.045, 0.015, 0.012, 0.05),
    hair="short",
    vertices=5600,
    materials=_INSIDE | {TOP: WOOL, TAIL: WOOL, COLLAR: WOOL, CUFF: WOOL, BELT: LEATHER,
                         BOTTOM: COTTON, LEG_END: COTTON},
    shoes=LEATHER,
)  # fmt: skip

MIRA = Outfit(
    name="mira",
    phenotype={"gender": 0.80, "age": 0.62, "muscle": 0.62, "weight": 0.46, "height": 0.6}
    | _SHARED,
    height=1.75,
    sleeve=1.92,
    waist=0.075,
    thick=0.012,
    tail=Cut(0.050, 0.0125, 0.012, 0.02),
    tail_loose=0.10,
    skirt=None,
    belt=False,
    collar="stand",
    collar_raise=0.002,
    cuff=Cut(0.040, 0.0133, 0.009, 0.03),
    hair="bob",
    vertices=5900,
    materials=_INSIDE | {TOP: LEATHER, TAIL: LEATHER, COLLAR: LEATHER, CUFF: LEATHER,
                         BELT: LEATHER, BOTTOM: WOOL, LEG_END: WOOL},
    shoes=LEATHER,
)  # fmt: skip

OUTFITS = {outfit.name: outfit for outfit in (IDA, OTTO, MIRA)}
