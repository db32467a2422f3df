"""Paint the actor: a pixel's colour depends on its place on the body, so that seams match."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from ash_core.studio.actor.body import Body
from ash_core.studio.actor.regions import Landmarks, along, fields, landmarks, shares, step
from ash_core.studio.mesh.surface import mean_matrix, smooth, vertex_normals
from ash_core.studio.mesh.texels import Texels, find_texels
from ash_core.studio.noise import smooth_noise

PAINT_SIZE = 2048
CUFF_STITCH = 0.126
"""Height of the seam above the trouser legs' ends, m."""
SKIN = np.array([0.890, 0.690, 0.575])
BLUSH = np.array([0.86, 0.50, 0.44])
HAIR = np.array([0.270, 0.165, 0.105])
IRIS = np.array([0.25, 0.46, 0.50])
LIP = np.array([0.755, 0.430, 0.395])
CLOTH = np.array([0.955, 0.935, 0.885])
NAVY = np.array([0.115, 0.185, 0.300])
STRIPES = (np.array([0.905, 0.400, 0.300]), np.array([0.950, 0.705, 0.270]),
           np.array([0.165, 0.560, 0.570]))  # fmt: skip
DENIM = np.array([0.205, 0.300, 0.455])
THREAD = np.array([0.760, 0.560, 0.300])
RUBBER = np.array([0.940, 0.930, 0.910])
CANVAS = np.array([0.845, 0.330, 0.260])


@dataclass(frozen=True)
class Palette:
    """Colours of a person."""

    skin: np.ndarray = dataclasses.field(default_factory=lambda: SKIN)
    blush: np.ndarray = dataclasses.field(default_factory=lambda: BLUSH)
    hair: np.ndarray = dataclasses.field(default_factory=lambda: HAIR)
    iris: np.ndarray = dataclasses.field(default_factory=lambda: IRIS)
    lip: np.ndarray = dataclasses.field(default_factory=lambda: LIP)


@dataclass(frozen=True)
class Paper:
    """Per-pixel inputs of the brushes."""

    bare: np.ndarray
    """Place on the undressed body [N, 3], m."""
    dressed: np.ndarray
    normal: np.ndarray
    hollow: np.ndarray
    """Depth in a hollow [N], 0 to 1."""
    share: dict[str, np.ndarray]
    field: dict[str, np.ndarray]
    marks: Landmarks
    palette: Palette = dataclasses.field(default_factory=Palette)


def paint(body: Body, dressed: np.ndarray, corner_uvs: np.ndarray) -> np.ndarray:
    """Paint the texture [PAINT_SIZE

    2, PAINT_SIZE

    2, 3] uint8, row 0 at the top.
    """
    texels = find_texels(corner_uvs, PAINT_SIZE)
    paper = paper_of(body, dressed, texels)
    colour = paint_skin(paper)
    colour = paint_face(colour, paper, body)
    field, share = paper.field, paper.share
    eye = body.eyes[texels.faces]
    colour = over(colour, _trousers(paper), step(field["trousers"], -0.0008, 0.0008))
    shirt = step(field["shirt"], -0.0008, 0.0008)
    # The shirt's hem casts a soft shadow on the trousers, the trousers' on the shoes.
    under = np.exp(-np.maximum(-field["hem"], 0) / 0.012) * (field["hem"] < 0)
    under = under * (1.0 - np.maximum(share["left_hand"], share["right_hand"]))
    colour = colour * (1 - 0.45 * under * (field["trousers"] > 0))[:, None]
    colour = over(colour, _shirt(paper), shirt)
    is_foot = (share["left_foot"] + share["right_foot"]) > 0.02
    shoe = step(field["shoe"], -0.0008, 0.0008) * (1.0 - step(field["trousers"], -0.0008, 0.0008))
    colour = over(colour, paint_shoes(paper), shoe * is_foot)
    colour = paint_hair(colour, paper)
    colour = paint_eyes(colour, paper, body, eye)
    light = 0.90 + 0.10 * paper.normal[:, 1] - 0.30 * paper.hollow * (eye == 0)
    half = PAINT_SIZE // 2
    blocks = texels.image(colour * light[:, None]).reshape(half, 2, half, 2, 3).astype(np.float64)
    return (blocks.mean((1, 3)) + 0.5).astype(np.uint8)


def paper_of(body: Body, dressed: np.ndarray, texels: Texels) -> Paper:
    normals = vertex_normals(dressed, body.faces)
    hollow = find_hollows(dressed, body.faces)
    carry = lambda values: texels.carry(values, body.faces)  # noqa: E731
    normal = carry(normals)
    share = {name: carry(values) for name, values in shares(body).items()}
    bare = carry(body.vertices)
    marks = landmarks(body)
    return Paper(
        bare,
        carry(dressed),
        normal / np.linalg.norm(normal, axis=1, keepdims=True),
        carry(hollow),
        share,
        fields(bare, share, marks),
        marks,
    )


def find_hollows(dressed: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the depth of each vertex in a hollow of the surface [V], 0 to 1."""
    mean = mean_matrix(faces, len(dressed))
    normals = vertex_normals(dressed, faces)
    hollow = np.zeros(len(dressed))
    for rounds, depth in ((3, 0.0035), (14, 0.012)):
        sunk = ((smooth(dressed, mean, np.ones(len(dressed)), rounds) - dressed) * normals).sum(1)
        hollow = np.maximum(hollow, np.clip(sunk / depth, 0.0, 1.0))
    return smooth(hollow, mean, np.full(len(hollow), 0.5), 2)


def over(under: np.ndarray, top: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return under + alpha[:, None] * (top - under)


def cloud(points: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """Return smooth noise in about -1 to 1, the same for a seed."""
    return smooth_noise(points, wavelength, np.random.default_rng(seed))


def bump(x: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((x / width) ** 2))


def paint_skin(paper: Paper) -> np.ndarray:
    tone = 0.018 * cloud(paper.bare, 0.09, 1) + 0.010 * cloud(paper.bare, 0.02, 2)
    colour = paper.palette.skin * (1.0 + tone)[:, None]
    marks, share = paper.marks, paper.share
    ends = np.maximum(share["left_hand"], share["right_hand"])
    ends = ends * (0.25 + 0.2 * step(_finger_reach(paper), 0.09, 0.16))
    elbows = sum(
        bump(np.linalg.norm(paper.bare - e - [0, 0, -0.03], axis=1), 0.04) for e in marks.elbows
    )
    red = np.clip(0.55 * ends + 0.35 * elbows + 0.30 * share["ear"], 0, 1)
    return over(colour, paper.palette.blush, 0.55 * red)


def _finger_reach(paper: Paper) -> np.ndarray:
    """Return the distance from the wrist, m."""
    wrists = paper.marks.wrists
    return np.min([np.linalg.norm(paper.bare - w, axis=1) for w in wrists], axis=0)


def paint_face(colour: np.ndarray, paper: Paper, body: Body) -> np.ndarray:
    """Paint blush, lips, nose, brows and lashes, by distance from the eyes' midpoint."""
    offset = paper.bare - paper.marks.eyes
    x, y = np.abs(offset[:, 0]), offset[:, 1]
    front = paper.share["head"] * step(offset[:, 2], -0.045, -0.01)
    cheeks = bump(np.hypot(x - 0.042, (y + 0.040) * 1.2), 0.021)
    nose = bump(np.hypot(x, y + 0.043), 0.014) * step(offset[:, 2], 0.0, 0.02)
    colour = over(colour, paper.palette.blush, front * np.clip(0.34 * cheeks + 0.26 * nose, 0, 1))
    sockets = bump(np.hypot((x - 0.031) * 0.8, y - 0.008), 0.014)
    colour = over(colour, paper.palette.skin * [0.84, 0.78, 0.76], 0.40 * front * sockets)
    colour = _lips(colour, paper, body, front)
    # Brows: a tapering stroke from the nose outwards.
    t = np.clip((x - 0.013) / 0.042, 0.0, 1.0)
    arch = 0.0245 + 0.0075 * np.sin(np.pi * np.clip(t * 0.86 + 0.05, 0, 1)) - 0.004 * t
    thick = 0.0044 * (1.0 - 0.62 * t) * step(x, 0.010, 0.016)
    hairs = 0.0006 * np.sin(2600 * (x * 0.8 + y * 0.6))
    brow = step(thick - np.abs(y - arch) + hairs, -0.0012, 0.0012)
    brow = brow * step(x, 0.0125, 0.0165) * (1.0 - step(x, 0.052, 0.057)) * front
    colour = over(colour, paper.palette.hair * 1.05, 0.86 * brow)
    nostrils = bump(np.hypot(x - 0.0085, (y + 0.0545) * 1.3), 0.0042)
    nostrils = nostrils * step(-paper.normal[:, 1], 0.25, 0.7) * front
    return over(colour, np.array([0.34, 0.18, 0.15]), 0.75 * np.clip(nostrils, 0, 1))


def _lips(colour: np.ndarray, paper: Paper, body: Body, front: np.ndarray) -> np.ndarray:
    line = body.mouth
    middle, half = line[:, 0].mean(), np.ptp(line[:, 0]) / 2
    u = (paper.bare[:, 0] - middle) / half
    curve = np.polynomial.Polynomial.fit(np.abs((line[:, 0] - middle) / half), line[:, 1], 3)
    above = paper.bare[:, 1] - curve(np.clip(np.abs(u), 0, 1.0))
    taper = np.sqrt(np.clip(1.0 - np.clip(np.abs(u), 0, 1) ** 2.2, 0, 1))
    bow = 1.0 - 0.22 * bump(u, 0.13) + 0.06 * bump(np.abs(u) - 0.24, 0.14)
    top, bottom = 0.0078 * taper * bow, 0.0105 * taper * (1.0 - 0.12 * np.abs(u))
    inside = np.where(above > 0, top - above, bottom + above)
    lip = step(inside, -0.0016, 0.0014) * (np.abs(u) < 1.02) * front
    shade = paper.palette.lip * (1.0 - 0.10 * step(above, -0.001, 0.004))[:, None]
    shine = 0.10 * bump(above + 0.0055, 0.0022) * bump(u, 0.45)
    colour = over(colour, shade + shine[:, None], 0.85 * lip)
    parting = bump(above, 0.0011) * (1.0 - step(np.abs(u), 0.93, 1.03)) * front
    return over(colour, np.array([0.40, 0.17, 0.16]), 0.80 * parting)


def paint_eyes(colour: np.ndarray, paper: Paper, body: Body, eye: np.ndarray) -> np.ndarray:
    """Paint the eyeballs, and lashes on the lids around them."""
    for number, side in ((1, "Left"), (2, "Right")):
        centre, _radius = body.eyeballs[side]
        mask = eye == number
        ray = paper.bare - centre
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        gaze = np.array([0.0, -0.03, 1.0])
        x, y = ray[:, 0], ray[:, 1] - gaze[1]
        off = np.hypot(x, y)
        white = np.array([0.94, 0.93, 0.915]) * (1.0 - 0.10 * off)[:, None]
        angle = np.arctan2(y, x)
        fibres = 1.0 + 0.14 * np.sin(23 * angle) * np.sin(9 * angle + 1)
        glow = 0.80 + 0.5 * step(-y, -0.25, 0.4)
        iris = paper.palette.iris * (fibres * glow)[:, None]
        iris = over(iris, paper.palette.iris * 0.35, step(off, 0.34, 0.42))
        ball = over(white, iris, 1.0 - step(off, 0.40, 0.46))
        ball = over(ball, np.array([0.03, 0.03, 0.04]), 1.0 - step(off, 0.16, 0.20))
        rim = paper.bare[mask]
        lid_top = rim[:, 1].max()
        below = lid_top - paper.bare[:, 1]
        ball = ball * (1.0 - 0.38 * np.exp(-np.maximum(below, 0) / 0.0022))[:, None]
        glint = np.hypot(x + 0.15, y - 0.17)
        ball = over(ball, np.ones(3), 1.0 - step(glint, 0.06, 0.10))
        colour = np.where(mask[:, None], ball, colour)
        colour = _lashes(colour, paper, body, number, eye)
    return colour


def _lashes(
    colour: np.ndarray, paper: Paper, body: Body, number: int, eye: np.ndarray
) -> np.ndarray:
    inside = np.unique(body.faces[body.eyes == number])
    rim = np.intersect1d(inside, np.unique(body.faces[body.eyes == 0]))
    points = body.vertices[rim]
    middle = points.mean(0)
    order = np.argsort(np.arctan2(points[:, 1] - middle[1], points[:, 0] - middle[0]))
    ring = points[order]
    dense = np.concatenate([ring + t * (np.roll(ring, -1, 0) - ring) for t in np.arange(8) / 8])
    close = np.linalg.norm(paper.bare - middle, axis=1) < 0.03
    distance, nearest = KDTree(dense).query(paper.bare[close])
    upper = step(dense[nearest, 1] - middle[1], -0.0012, 0.0012)
    wide = 0.0006 + 0.0014 * upper
    skin_side = eye[close] == 0
    lash = (1.0 - step(distance, wide, wide * 1.9)) * (0.35 + 0.60 * upper)
    lash = lash * np.where(skin_side, 1.0, 0.75)
    colour = colour.copy()
    colour[close] = over(colour[close], np.array([0.13, 0.08, 0.065]), lash)
    return colour


def paint_hair(colour: np.ndarray, paper: Paper) -> np.ndarray:
    """Paint short strands that run from the crown; a ragged line at their ends."""
    offset = paper.bare - paper.marks.head
    crown = np.array([0.012, 0.11, -0.045])
    around = np.arctan2(offset[:, 0] - crown[0], offset[:, 2] - crown[2])
    down = np.linalg.norm(offset - crown, axis=1)
    ends = 0.0016 * np.sin(61 * around + 40 * down) + 0.0012 * np.sin(143 * around)
    alpha = step(paper.field["hair"] + ends, -0.0015, 0.0035)
    swirl = around + 2.0 * down
    strands = 0.5 * np.sin(90 * swirl) + 0.3 * np.sin(173 * swirl + 2) + 0.2 * np.sin(311 * swirl)
    patches = cloud(paper.bare, 0.035, 5)
    shine = bump(down - 0.075, 0.022) * (0.6 + 0.4 * strands)
    tone = 1.0 + 0.20 * strands + 0.10 * patches + 0.45 * shine
    return over(colour, paper.palette.hair * tone[:, None], alpha)


def _shirt(paper: Paper) -> np.ndarray:
    field = paper.field
    colour = (
        np.broadcast_to(CLOTH, paper.bare.shape)
        * (1 + 0.012 * cloud(paper.bare, 0.012, 7))[:, None]
    )
    height = paper.dressed[:, 1] - paper.marks.hip[1]
    on_arm = field["sleeve"] < 0.19
    for k, stripe in enumerate(STRIPES):
        level = 0.335 - 0.048 * k
        band = step(0.018 - np.abs(height - level), -0.0008, 0.0008) * ~on_arm
        colour = over(colour, stripe, band)
    sleeve = field["sleeve"]
    edge = step(0.026 - sleeve, -0.0008, 0.0008) * on_arm
    colour = over(colour, NAVY, edge)
    colour = over(
        colour, STRIPES[1], step(0.0035 - np.abs(sleeve - 0.034), -0.0006, 0.0006) * on_arm
    )
    collar = field["collar"]
    rib = step(0.016 - collar, -0.0008, 0.0008)
    colour = over(colour, NAVY, rib)
    hem = field["hem"]
    stitch = bump(hem - 0.018, 0.0012) * ~on_arm
    colour = colour * (1.0 - 0.16 * stitch)[:, None]
    folds = cloud(paper.bare * [1.0, 0.55, 1.0], 0.075, 9) * cloud(paper.bare, 0.2, 10)
    near_waist = step(-height, -0.16, -0.02) + 0.7 * on_arm
    return colour * (1.0 + 0.045 * folds * near_waist)[:, None]


def _trousers(paper: Paper) -> np.ndarray:
    bare, marks, _field = paper.bare, paper.marks, paper.field
    weave = 0.028 * np.sin(900 * (bare[:, 0] + bare[:, 1])) + 0.03 * cloud(bare, 0.016, 12)
    fade = sum(
        bump((bare[:, 1] - 0.72) / 0.16, 1.0) * bump((bare[:, 0] - s * 0.11) / 0.06, 1.0)
        for s in (-1, 1)
    ) * step(paper.normal[:, 2], 0.0, 0.8)
    colour = DENIM * (1.0 + weave + 0.30 * fade + 0.04 * cloud(bare, 0.07, 13))[:, None]
    side = bare[:, 0] > 0
    axis = np.where(
        side[:, None],
        marks.hips[0]
        + along(bare, marks.hips[0], marks.ankles[0])[:, None] * (marks.ankles[0] - marks.hips[0]),
        marks.hips[1]
        + along(bare, marks.hips[1], marks.ankles[1])[:, None] * (marks.ankles[1] - marks.hips[1]),
    )
    out = bare - axis
    outer = np.where(side, 1, -1) * out[:, 0] > 0.02
    seam = np.abs(out[:, 2] + 0.005) * np.where(outer, 1.0, 50.0)
    colour = colour * (1.0 - 0.32 * bump(seam, 0.0022))[:, None]
    front = step(paper.normal[:, 2], 0.1, 0.4)
    x, drop = np.abs(bare[:, 0]), marks.hip[1] + 0.02 - bare[:, 1]
    pocket = (
        np.abs(np.hypot(x - 0.165, drop + 0.005) - 0.085) + 10 * (drop < -0.01) + 10 * (x > 0.16)
    )
    back = step(-paper.normal[:, 2], 0.1, 0.4)
    box = np.maximum(np.abs(x - 0.082) - 0.052, np.abs(drop - 0.085) - 0.058)
    fly = np.abs(bare[:, 0] - 0.018) + 10 * (drop > 0.10)
    hem = np.abs(paper.dressed[:, 1] - CUFF_STITCH)
    for distance, mask in (
        (pocket, front),
        (np.abs(box), back),
        (fly, front),
        (hem, np.ones(len(x))),
    ):
        line = (1.0 - step(distance, 0.0010, 0.0022)) * mask
        colour = over(colour, THREAD, 0.75 * line)
    inseam = bump(bare[:, 0], 0.02) * step(0.02 + drop, 0.06, 0.14)
    return colour * (1.0 - 0.25 * inseam)[:, None]


def paint_shoes(paper: Paper) -> np.ndarray:
    place, normal = paper.dressed, paper.normal
    side = np.where(place[:, 0] > 0, 0, 1)
    ankle = paper.marks.ankles[side]
    ahead = place[:, 2] - ankle[:, 2]
    colour = np.broadcast_to(CANVAS, place.shape) * (1 + 0.03 * cloud(place, 0.01, 15))[:, None]
    tip = step(ahead, 0.142, 0.146)
    colour = over(colour, RUBBER, tip)
    aside = place[:, 0] - ankle[:, 0] - np.where(side == 0, 1, -1) * 0.10 * np.maximum(ahead, 0)
    tongue = (
        step(0.022 - np.abs(aside), -0.001, 0.001)
        * step(ahead, 0.045, 0.055)
        * (1 - step(ahead, 0.128, 0.135))
    )
    upward = step(normal[:, 1], 0.15, 0.4)
    colour = over(colour, CANVAS * 0.72, tongue * upward)
    laces = step(np.sin(2 * np.pi * ahead / 0.019), 0.1, 0.35) * tongue * upward
    colour = over(colour, RUBBER, laces)
    heel = step(-ahead, 0.062, 0.064) * step(place[:, 1], 0.05, 0.052)
    colour = over(colour, NAVY, heel)
    sole = 1.0 - step(place[:, 1], 0.0275, 0.0290)
    rubber = np.broadcast_to(RUBBER, place.shape)
    rubber = over(rubber, NAVY, bump(place[:, 1] - 0.019, 0.0022))
    rubber = over(rubber, RUBBER * 0.62, step(-normal[:, 1], 0.6, 0.8))
    return over(colour, rubber, sole)
