"""Regions of garments on the bare body, smooth fields: one definition for shape and paint.

Every field is a signed distance in metres, positive inside, at bare (undressed) positions; so the
cut of a sleeve is the same curve in the mesh that is pushed out and in the texture.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from ash_core.studio.actor.body import Body, is_on_head

SLEEVE_END = 0.60
"""End of the sleeve along the upper arm, 0 shoulder to 1 elbow."""
NECK_TILT = np.radians(34.0)
HEM_ABOVE_HIP = 0.005
TROUSER_END = 0.088
SHOE_TOP = 0.098
"""Heights above the bare sole, m."""

# Height of the hairline over the eyes (m) by azimuth (degrees; 0 is the face, 180 the nape).
HAIRLINE = (
    (0, 0.066), (20, 0.067), (34, 0.060), (46, 0.048), (56, 0.026), (66, 0.012), (78, -0.004),
    (90, 0.010), (100, 0.020), (112, 0.010),
    (124, -0.030), (140, -0.058), (160, -0.070), (180, -0.072),
)  # fmt: skip

_LIMBS = {
    "arm": ("upperarm", "lowerarm", "wrist", "finger", "metacarpal"),
    "hand": ("wrist", "finger", "metacarpal"),
    "leg": ("upperleg", "lowerleg", "foot", "toe"),
    "foot": ("foot", "toe"),
    "toes": ("toe",),
}
EAR_UVS = ((0.847, 0.624), (0.847, 0.344))
EAR_RADIUS = 0.034
"""Radius of the ears' area in MakeHuman's layout."""


@dataclass(frozen=True)
class Landmarks:
    """Places on the bare body, m."""

    hip: np.ndarray
    neck: np.ndarray
    eyes: np.ndarray
    """Midpoint between the eyeballs."""
    head: np.ndarray
    """Centre of the skull."""
    shoulders: np.ndarray
    elbows: np.ndarray
    wrists: np.ndarray
    hips: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray
    """[2, 3] each: left, right."""


def landmarks(body: Body) -> Landmarks:
    """Locate the landmarks by the body's bones."""
    heads = body.heads
    pair = lambda name: np.stack([heads[f"{name}.L"], heads[f"{name}.R"]])  # noqa: E731
    eyes = np.mean([centre for centre, _ in body.eyeballs.values()], axis=0)
    return Landmarks(
        hip=heads["upperleg01.L"] * [0, 1, 1],
        neck=heads["neck01"],
        eyes=eyes,
        head=eyes + np.array([0.0, 0.02, -0.095]),
        shoulders=pair("upperarm01"),
        elbows=pair("lowerarm01"),
        wrists=pair("wrist"),
        hips=pair("upperleg01"),
        knees=pair("lowerleg01"),
        ankles=pair("foot"),
    )


def shares(body: Body) -> dict[str, np.ndarray]:
    """Return each vertex's share (0-1) of every kind of limb, by side; of head, ears and eyes."""
    values = {}
    for limb, prefixes in _LIMBS.items():
        for side, letter in (("left", "L"), ("right", "R")):
            columns = [
                i
                for i, bone in enumerate(body.bones)
                if bone.startswith(prefixes) and bone.endswith(f".{letter}")
            ]
            values[f"{side}_{limb}"] = body.weights[:, columns].sum(1)
    values["head"] = body.weights[:, [is_on_head(name) for name in body.bones]].sum(1)
    neck = [body.bones.index(name) for name in ("neck01", "neck02", "neck03")]
    values["neck"] = body.weights[:, neck].sum(1)
    ear = np.zeros(len(body.vertices))
    for centre in EAR_UVS:
        inside = np.linalg.norm(body.corner_uvs - centre, axis=2) < EAR_RADIUS
        ear[np.unique(body.faces[inside])] = 1.0
    values["ear"] = ear
    eye = np.zeros(len(body.vertices))
    eye[np.unique(body.faces[body.eyes > 0])] = 1.0
    values["eye"] = eye
    return values


def along(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the fraction of the way from start to end."""
    bone = end - start
    return (points - start) @ bone / (bone @ bone)


def fields(
    points: np.ndarray,
    share: dict[str, np.ndarray],
    marks: Landmarks,
    hairline: tuple[tuple[float, float], ...] = HAIRLINE,
) -> dict[str, np.ndarray]:
    """Compute signed distances (m, positive inside) of shirt, trousers, shoes, hair and their hems.

    points [N, 3]: bare positions; share: `shares` at these points; hairline: as `HAIRLINE`.
    """
    # Shares of the limbs on the side of each point.
    is_left = points[:, 0] > 0
    arm = np.where(is_left, share["left_arm"], share["right_arm"])
    leg = np.where(is_left, share["left_leg"], share["right_leg"])
    foot = np.where(is_left, share["left_foot"], share["right_foot"])

    # Sleeve, by the fraction of the upper arm.
    t = np.where(
        is_left,
        along(points, marks.shoulders[0], marks.elbows[0]),
        along(points, marks.shoulders[1], marks.elbows[1]),
    )
    upper_arm = np.linalg.norm(marks.elbows[0] - marks.shoulders[0])
    # Away from the arm the fraction is meaningless: the share decides there.
    sleeve = (SLEEVE_END - t) * upper_arm
    sleeve = np.where(arm > 0.5, sleeve, np.maximum(sleeve, 0.10))

    # Collar: a tilted plane through the neck.
    normal = np.array([0.0, np.cos(NECK_TILT), np.sin(NECK_TILT)])
    collar_point = marks.neck + np.array([0.0, 0.012, 0.035])
    collar = -(points - collar_point) @ normal
    # The plane cuts the neck only: shoulders and arms are excluded by distance from the axis.
    depth = points[:, 2] - marks.neck[2] + 0.01
    aside = np.hypot(points[:, 0] / 0.078, depth / np.where(depth > 0, 0.125, 0.085))
    collar = np.maximum(collar, (aside - 1.0) * 0.075)
    collar = np.where((share["head"] > 0.3) | (points[:, 1] > marks.neck[1] + 0.07), -0.05, collar)

    # Shirt, bounded by sleeve, collar and hem.
    hem = points[:, 1] - (marks.hip[1] + HEM_ABOVE_HIP)
    shirt = np.minimum(np.minimum(sleeve, collar), np.where(arm > 0.5, 0.2, hem))

    # Trousers, from the cuff to above the hip.
    cuff = points[:, 1] - TROUSER_END
    low = marks.hip[1] + 0.10 - points[:, 1]
    trousers = np.minimum(np.minimum(cuff, low), np.where(arm > 0.35, -0.05, 0.5))

    # Shoe: everything low.
    shoe = np.where((foot > 0.02) | (points[:, 1] < 0.2), SHOE_TOP - points[:, 1], -0.05)

    # Hair, above the hairline around the head, not on the ears.
    offset = points - marks.head
    azimuth = np.degrees(np.arctan2(np.abs(points[:, 0]), offset[:, 2]))
    line = PchipInterpolator(*np.array(hairline).T)(np.clip(azimuth, 0, 180))
    hair = points[:, 1] - marks.eyes[1] - line
    hair = np.where((share["head"] + share["neck"] > 0.5), hair, -0.05)
    hair = np.minimum(hair, 0.02 - 0.04 * share["ear"])
    hair = np.where(points[:, 1] > marks.eyes[1] + 0.05, np.maximum(hair, -0.02), hair)
    return {
        "shirt": shirt,
        "sleeve": np.where(arm > 0.5, sleeve, 0.2),
        "collar": collar,
        "hem": hem,
        "trousers": trousers,
        "cuff": cuff,
        "shoe": shoe,
        "hair": hair,
        "azimuth": azimuth,
        "leg": leg,
    }


def step(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Interpolate smoothly from 0 below low to 1 above high."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
