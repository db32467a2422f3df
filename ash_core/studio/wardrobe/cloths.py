"""Cloth of each outfit: colours, weaves, prints, buttons, zips."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ash_core.studio.actor.brushes import Palette, Paper, bump, cloud, over
from ash_core.studio.actor.regions import along, step
from ash_core.studio.wardrobe.lie import SLEEVE, Panels
from ash_core.studio.wardrobe.outfits import (
    BELT,
    BOTTOM,
    COLLAR,
    CUFF,
    LEG_END,
    SKIRT,
    TAIL,
    TOP,
)
from ash_core.studio.wardrobe.prints import (
    band,
    every,
    herringbone,
    houndstooth,
    letters,
    tartan,
    twill,
)

TAU = 2 * np.pi
_rgb = lambda *values: np.array(values)  # noqa: E731
PALETTES = {
    "ida": Palette(
        skin=_rgb(0.900, 0.715, 0.610),
        blush=_rgb(0.87, 0.50, 0.46),
        hair=_rgb(0.42, 0.205, 0.085),
        iris=_rgb(0.28, 0.44, 0.30),
        lip=_rgb(0.78, 0.38, 0.37),
        freckles=0.6,
    ),
    "otto": Palette(
        skin=_rgb(0.54, 0.36, 0.265),
        blush=_rgb(0.52, 0.28, 0.22),
        hair=_rgb(0.085, 0.070, 0.065),
        iris=_rgb(0.23, 0.13, 0.07),
        lip=_rgb(0.47, 0.26, 0.235),
        stubble=0.4,
    ),
    "mira": Palette(
        skin=_rgb(0.800, 0.600, 0.470),
        blush=_rgb(0.78, 0.44, 0.37),
        hair=_rgb(0.115, 0.085, 0.090),
        iris=_rgb(0.22, 0.14, 0.09),
        lip=_rgb(0.66, 0.26, 0.28),
    ),
}


@dataclass(frozen=True)
class Brush:
    """Per-texel inputs of a cloth's painter."""

    paper: Paper
    along: np.ndarray
    """Metres on sewn pieces [N, 2]; the second column is down from the cut."""
    part: int
    panels: Panels
    """Metres up the trunk and along the sleeves [N]."""

    @property
    def arm(self) -> np.ndarray:
        share = self.paper.share
        return np.maximum(share["left_arm"], share["right_arm"])

    @property
    def on_arm(self) -> np.ndarray:
        return self.arm > SLEEVE

    def trunk(self, repeats: int, girth: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (metres around, metres up) on the trunk and its hanging parts; closes after a
        turn."""
        place = self.paper.dressed
        angle = np.arctan2(place[:, 0], place[:, 2] - self.paper.marks.hip[2])
        return angle / TAU * repeats * girth / repeats, self.panels.trunk

    def limb(self, first: str, last: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (metres around, metres along) of the nearer arm or leg."""
        place, marks = self.paper.dressed, self.paper.marks
        starts, ends = getattr(marks, first), getattr(marks, last)
        is_left = place[:, 0] > 0
        axis = np.where(is_left[:, None], ends[0] - starts[0], ends[1] - starts[1])
        start = np.where(is_left[:, None], starts[0], starts[1])
        t = np.where(is_left, along(place, starts[0], ends[0]), along(place, starts[1], ends[1]))
        length = np.linalg.norm(axis, axis=1)
        out = place - start - t[:, None] * axis
        unit = axis / length[:, None]
        ahead = np.array([0.0, 0.0, 1.0]) - unit[:, 2:] * unit
        aside = np.cross(unit, ahead)
        angle = np.arctan2((out * aside).sum(1), (out * ahead).sum(1))
        return angle, t * length

    def cloth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (around, along) in metres, by arm, leg or trunk."""
        a, b = self.trunk(1, 1.04)
        if self.part in (BOTTOM, LEG_END):
            angle, t = self.limb("hips", "ankles")
            return angle / TAU * 0.52, t
        angle, t = self.limb("shoulders", "wrists")
        t = self.panels.sleeve if self.part == TOP else t
        arm = self.on_arm
        return np.where(arm, angle / TAU * 0.416, a), np.where(arm, t, b)


Painter = Callable[[Brush], tuple[np.ndarray, np.ndarray]]


def _plain(brush: Brush, colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour, brush.paper.bare.shape)


def _ida(brush: Brush) -> tuple[np.ndarray, np.ndarray]:
    """Paint a striped T-shirt with a print, and a tartan skirt."""
    paper = brush.paper
    place, hip = paper.dressed, paper.marks.hip[1]
    if brush.part == SKIRT:
        angle = np.arctan2(place[:, 0], place[:, 2] - paper.marks.hip[2])
        a, b = angle / TAU * 14 * 0.085, brush.along[:, 1]
        red, green, cream = _rgb(0.60, 0.11, 0.13), _rgb(0.07, 0.20, 0.17), _rgb(0.90, 0.84, 0.66)
        bands = (
            (0.0, 0.23, green), (0.0, 0.055, _rgb(0.06, 0.09, 0.20)), (0.5, 0.022, cream),
            (0.36, 0.012, _rgb(0.86, 0.62, 0.18)), (0.64, 0.012, _rgb(0.86, 0.62, 0.18)),
        )  # fmt: skip
        colour = tartan(a, b, 0.085, bands, red)
        hem = bump(b - 0.535, 0.0012)
        return colour * (1.0 - 0.35 * hem)[:, None], np.zeros(len(place))
    cream, navy = _rgb(0.935, 0.915, 0.865), _rgb(0.105, 0.155, 0.315)
    knit = 1.0 + 0.03 * np.sin(TAU * place[:, 0] / 0.003) + 0.012 * cloud(paper.bare, 0.012, 7)
    a, b = brush.cloth()
    stripe = band(every(b - hip, 0.026), 0.0046)
    front = step(paper.normal[:, 2], 0.15, 0.35) * ~brush.on_arm
    chest = paper.marks.shoulders[0, 1] - 0.155
    x, y = place[:, 0], place[:, 1] - chest
    panel = step(0.118 - np.abs(x), -0.001, 0.001) * step(0.062 - np.abs(y), -0.001, 0.001) * front
    colour = over(_plain(brush, cream), navy, stripe * (1 - panel))
    colour = over(colour, _rgb(0.80, 0.22, 0.20), front * letters("STUDIO", x, y - 0.016, 0.048))
    colour = over(colour, navy, front * letters("24 cameras, 1 body", x, y + 0.032, 0.020))
    if brush.part == COLLAR:
        colour = _plain(brush, navy)
    seam = bump(brush.arm - SLEEVE, 0.035) * (brush.part == TOP)
    colour = colour * (1.0 - 0.22 * seam)[:, None]
    edge = brush.along[:, 1] * (brush.part in (TAIL, CUFF))
    last = {TAIL: 0.060, CUFF: 0.022}.get(brush.part, 9.0)
    colour = over(colour, navy, band(edge - last - 0.010, 0.0035) * (brush.part == CUFF))
    colour = colour * (1.0 - 0.25 * bump(edge - last, 0.0010))[:, None]
    return colour * knit[:, None], np.zeros(len(place))


def _otto(brush: Brush) -> tuple[np.ndarray, np.ndarray]:
    """Paint a belted herringbone coat with buttons, and pinstriped trousers."""
    paper = brush.paper
    place, hip = paper.dressed, paper.marks.hip[1]
    a, b = brush.cloth()
    none = np.zeros(len(place))
    if brush.part in (BOTTOM, LEG_END):
        # Trousers: twill with pinstripes and a crease.
        ground = _rgb(0.145, 0.155, 0.185) * (1.0 + 0.05 * twill(a, b))[:, None]
        stripe = band(every(a, 0.026), 0.0008) * (0.6 + 0.4 * np.sign(np.sin(TAU * b / 0.004)))
        crease = bump(a, 0.0015) * step(paper.normal[:, 2], 0.2, 0.6)
        return over(ground, _rgb(0.55, 0.57, 0.62), 0.8 * stripe) * (1 + 0.3 * crease)[
            :, None
        ], none
    front = step(paper.normal[:, 2], 0.1, 0.4) * ~brush.on_arm
    if brush.part == BELT:
        # Belt: leather and a brass buckle.
        leather = _rgb(0.36, 0.20, 0.11) * (1 + 0.08 * cloud(place, 0.006, 31))[:, None]
        edge = bump(every(brush.paper.dressed[:, 1], 0.036), 0.001)
        leather = leather * (1 - 0.2 * edge)[:, None]
        x = np.abs(place[:, 0])
        middle = place[:, 1] - place[front > 0.5, 1].mean() if (front > 0.5).any() else place[:, 1]
        frame = np.maximum(x - 0.026, np.abs(middle) - 0.019)
        buckle = band(frame + 0.003, 0.0035) * front
        return over(leather, _rgb(0.83, 0.68, 0.34), buckle), 0.5 + 0.4 * buckle
    # Coat: herringbone in two tones with flecks.
    bone = herringbone(a, b)
    fleck = cloud(place, 0.0045, 32) * (np.abs(cloud(place, 0.02, 33)) > 0.8)
    light, dark = _rgb(0.735, 0.585, 0.395), _rgb(0.475, 0.350, 0.225)
    colour = dark + (0.5 + 0.5 * bone)[:, None] * (light - dark)
    colour = colour * (1 + 0.06 * fleck + 0.02 * cloud(place, 0.1, 34))[:, None]
    # The front: one edge over the other, two rows of buttons, flaps of pockets.
    seam = bump(place[:, 0] + 0.075, 0.0018) * front
    colour = colour * (1 - 0.55 * seam)[:, None]
    gloss = none
    for x in (-0.052, 0.052):
        y = every(place[:, 1] - hip - 0.045, 0.115)
        away = np.hypot(place[:, 0] - x, y)
        button = (1 - step(away, 0.0120, 0.0130)) * front * (brush.part in (TOP, TAIL))
        button = (
            button * (place[:, 1] < paper.marks.shoulders[0, 1] - 0.04) * (place[:, 1] > hip - 0.33)
        )
        holes = 1 - step(
            np.hypot(np.abs(place[:, 0] - x) - 0.0032, np.abs(y) - 0.0032), 0.001, 0.0018
        )
        rim = bump(away - 0.0095, 0.0014)
        disc = _rgb(0.19, 0.115, 0.075) * (1 + 0.5 * rim - 0.7 * holes)[:, None]
        colour, gloss = over(colour, disc, button), np.maximum(gloss, 0.6 * button)
    box = np.maximum(
        np.abs(np.abs(place[:, 0]) - 0.125) - 0.060, np.abs(place[:, 1] - hip + 0.075) - 0.022
    )
    flap = (band(box, 0.0012) + 0.4 * band(box + 0.006, 0.0006)) * front * (brush.part == TAIL)
    colour = colour * (1 - 0.5 * np.clip(flap, 0, 1))[:, None]
    # Seam of the back, and stitches at the edges.
    back = step(-paper.normal[:, 2], 0.3, 0.6) * ~brush.on_arm
    colour = colour * (1 - 0.4 * bump(place[:, 0], 0.0016) * back)[:, None]
    last = {TAIL: 0.505, CUFF: 0.022}.get(brush.part, 9.0)
    return colour * (1 - 0.3 * bump(brush.along[:, 1] - last, 0.0012))[:, None], gloss


def _mira(brush: Brush) -> tuple[np.ndarray, np.ndarray]:
    """Paint a leather jacket with a zip, quilted shoulders and a print; houndstooth trousers."""
    paper = brush.paper
    place, hip = paper.dressed, paper.marks.hip[1]
    a, b = brush.cloth()
    if brush.part in (BOTTOM, LEG_END):
        # Trousers: houndstooth.
        tooth = houndstooth(a, b, 0.026)
        colour = over(_plain(brush, _rgb(0.865, 0.845, 0.800)), _rgb(0.115, 0.115, 0.130), tooth)
        seam = bump(every(a - 0.13, 0.52), 0.0015)
        return colour * (1 - 0.4 * seam)[:, None], np.zeros(len(place))
    # Jacket: grained leather.
    grain = 0.05 * cloud(place, 0.0035, 41) + 0.06 * cloud(place, 0.03, 42)
    colour = _rgb(0.105, 0.330, 0.330) * (1 + grain)[:, None]
    gloss = 0.52 + 0.10 * cloud(place, 0.02, 43) + 0.06 * cloud(place, 0.004, 44)
    front = step(paper.normal[:, 2], 0.1, 0.4) * ~brush.on_arm
    back = step(-paper.normal[:, 2], 0.2, 0.5) * ~brush.on_arm
    shoulder = paper.marks.shoulders[0, 1]
    # Quilting on the shoulders and the elbows' outer side.
    arm_t = np.where(brush.on_arm, b, 9.0)
    quilt = np.where(brush.on_arm, arm_t < 0.16, place[:, 1] > shoulder - 0.015) * 1.0
    ribs = np.where(brush.on_arm, arm_t, place[:, 1])
    groove = bump(every(ribs, 0.016), 0.0016) * quilt
    colour, gloss = colour * (1 - 0.45 * groove)[:, None], gloss * (1 - 0.5 * groove)
    seams = bump(place[:, 1] - shoulder + 0.020, 0.0014) * (front + back)
    seams += (
        bump(np.abs(place[:, 0]) - 0.095, 0.0014) * (front + back) * (place[:, 1] < shoulder - 0.02)
    )
    seams += bump(arm_t - 0.17, 0.0014)
    stitch = 0.5 + 0.5 * np.sign(np.sin(TAU * (place[:, 1] + place[:, 0]) / 0.005))
    colour = over(colour, _rgb(0.82, 0.72, 0.50), 0.7 * np.clip(seams, 0, 1) * stitch)
    # The zip, its tape and its teeth, from collar to hem; two slanted pockets.
    x = place[:, 0] - 0.012
    tape = band(x, 0.0095) * front * (brush.part in (TOP, TAIL, COLLAR))
    teeth = band(x, 0.0038) * front * (brush.part in (TOP, TAIL, COLLAR))
    metal = 0.55 + 0.35 * np.sign(np.sin(TAU * place[:, 1] / 0.0055 + np.pi * (x > 0)))
    colour = over(colour, _rgb(0.06, 0.06, 0.07), tape)
    colour = over(colour, _rgb(0.93, 0.88, 0.74) * metal[:, None], teeth)
    slant = (place[:, 1] - hip - 0.12) * 0.9 - (np.abs(place[:, 0]) - 0.085) * -1.1
    pocket = (
        band(slant, 0.004)
        * (np.abs(place[:, 1] - hip - 0.125) < 0.05)
        * front
        * (brush.part == TOP)
    )
    colour, gloss = over(colour, _rgb(0.80, 0.75, 0.62), pocket), np.maximum(gloss, 0.9 * teeth)
    # Print on the back.
    word = back * letters("ASH 24", -place[:, 0], place[:, 1] - shoulder + 0.105, 0.056)
    small = back * letters("SPLAT CLUB", -place[:, 0], place[:, 1] - shoulder + 0.165, 0.024)
    ink = np.clip(word + small, 0, 1) * (brush.part == TOP)
    colour, gloss = over(colour, _rgb(0.94, 0.80, 0.36), ink), gloss * (1 - 0.6 * ink)
    if brush.part in (TAIL, CUFF):  # ribbed knit
        turn = brush.along[:, 1]
        ribbed = 1 + 0.22 * np.sin(TAU * a / 0.0065)
        colour = over(_rgb(0.055, 0.12, 0.135) * ribbed[:, None], _rgb(0.94, 0.80, 0.36),
                      0.9 * band(turn - 0.020, 0.0028))  # fmt: skip
        colour = over(colour, _rgb(0.93, 0.88, 0.74) * metal[:, None], teeth)
        gloss = 0.05 + 0.8 * teeth
    return colour, np.clip(gloss, 0, 1)


CLOTHS: Mapping[str, Painter] = {"ida": _ida, "otto": _otto, "mira": _mira}
