"""Paint the actor: a pixel's colour depends on its place on the body, so that seams match."""

import numpy as np

from ash_core.studio.actor.body import Body
from ash_core.studio.actor.brushes import Paper, bump, cloud, over
from ash_core.studio.actor.face_paint import paint_face, paint_inside
from ash_core.studio.actor.regions import along, fields, landmarks, shares, step
from ash_core.studio.mesh.surface import mean_matrix, smooth, vertex_normals
from ash_core.studio.mesh.texels import Texels, find_texels

PAINT_SIZE = 2048
CUFF_STITCH = 0.126
"""Height of the seam above the trouser legs' ends, m."""
CLOTH = np.array([0.955, 0.935, 0.885])
NAVY = np.array([0.115, 0.185, 0.300])
STRIPES = (np.array([0.905, 0.400, 0.300]), np.array([0.950, 0.705, 0.270]),
           np.array([0.165, 0.560, 0.570]))  # fmt: skip
DENIM = np.array([0.205, 0.300, 0.455])
THREAD = np.array([0.760, 0.560, 0.300])
RUBBER = np.array([0.940, 0.930, 0.910])
CANVAS = np.array([0.845, 0.330, 0.260])


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
    colour = paint_inside(colour, paper, body, eye)
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
