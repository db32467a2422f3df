"""Parts of a body by its skinning weights, and the atlas in which each has its density."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ash_core.studio.mesh.patches import lay_out
from ash_core.studio.mesh.surface import mean_matrix, smooth, vertex_normals

TORSO, ARM, HAND, LEG, FOOT, HEAD, EYE = range(7)
PARTS: Final = {
    **dict.fromkeys(("pelvis", "spine1", "spine2", "spine3", "neck", "collar"), TORSO),
    **dict.fromkeys(("shoulder", "elbow"), ARM),
    **dict.fromkeys(("wrist", "hand", "index", "middle", "ring", "pinky", "thumb"), HAND),
    **dict.fromkeys(("hip", "knee"), LEG),
    **dict.fromkeys(("ankle", "foot"), FOOT),
    **dict.fromkeys(("head", "jaw"), HEAD),
    "eye": EYE,
}
"""Part of each joint, without its side and its number on a finger."""
DENSITY: Final = {TORSO: 1.0, ARM: 1.1, HAND: 2.8, LEG: 0.92, FOOT: 1.15, HEAD: 1.25, EYE: 2.5}
"""Texels per metre, relative. Source: atlas of the studio's actor."""
SOLE_DENSITY, BACK_OF_EYE_DENSITY = 0.7, 0.6
FACE_DENSITY: Final = 2.8
FACE_M: Final = (0.045, 0.125)
"""Distance from the nose up to which, and from which on, the face's density falls to the head's."""
FACE_SLOPE: Final = 0.1
"""Least cosine between the way ahead and a place in the chart of the face, from the middle of the
head."""
ROUNDS: Final = 10
"""Rounds of smoothing of the normals that divide front from back."""
HAND_SHARE: Final = 0.5
"""Share of a vertex's weight on the hand's joints from which it is in the hand mask."""


def part_of(joint: str) -> int:
    """Return the part that a joint moves."""
    side, _, rest = joint.partition("_")
    word = rest if side in ("left", "right") else joint
    return PARTS[word if word in PARTS else word.rstrip("0123456789")]


def side_of(joint: str) -> int:
    """Return 1 for left, 2 for right, 0 for neither."""
    return ("left", "right").index(joint.split("_")[0]) + 1 if "_" in joint else 0


def hand_mask(weights: Float[ndarray, "V J"], joints: Sequence[str]) -> ndarray:
    """Return which vertices [V] the joints of a hand move."""
    hands = [part_of(joint) == HAND for joint in joints]
    return weights[:, hands].sum(1) > HAND_SHARE * weights.sum(1)


def lay_out_body(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    weights: Float[ndarray, "V J"],
    joints: Sequence[str],
    places: Float[ndarray, "J 3"],
) -> Float[ndarray, "F 3 2"]:
    """Lay out corner texture coordinates in [0, 1], v up: dense in the face and on the hands.

    joints: names of BODY_JOINTS, with their places at rest, m, Y up.
    """
    # Part and side of each face.
    keys = [part_of(joint) * 3 + side_of(joint) for joint in joints]
    names, columns = np.unique(keys, return_inverse=True)
    shares = np.zeros((len(vertices), len(names)))
    np.add.at(shares.T, columns.reshape(-1), weights.T)
    labels = names[shares[faces].sum(1).argmax(1)]

    # Front and back: halves that lie flat.
    mean = mean_matrix(faces, len(vertices))
    normals = smooth(vertex_normals(vertices, faces), mean, np.full(len(vertices), 0.5), ROUNDS)
    facing, middles = normals[faces].mean(1), vertices[faces].mean(1)
    part, side = np.divmod(labels, 3)
    index = {name: n for n, name in enumerate(joints)}
    half = (part == TORSO) & (facing[:, 2] > 0)
    head = part == HEAD
    if head.any():
        box = middles[head]
        offset = middles - (box.min(0) + box.max(0)) / 2
        distance = np.linalg.norm(offset, axis=1)
        half |= head & (offset[:, 2] > FACE_SLOPE * distance)
    half |= (part == FOOT) & (facing[:, 1] < -0.5 * np.linalg.norm(facing, axis=1))
    half |= (part == EYE) & (facing[:, 2] > 0)
    for number, name in ((1, "left"), (2, "right")):
        palm = _palm(index, places, name)
        half |= (part == HAND) & (side == number) & (facing @ palm > 0)

    # Density of each part, and of the face around its foremost point.
    density = np.array([DENSITY[name] for name in range(len(DENSITY))])[part]
    density[(part == FOOT) & half] = SOLE_DENSITY
    density[(part == EYE) & ~half] = BACK_OF_EYE_DENSITY
    if head.any():
        above = head & (middles[:, 1] > places[index["head"], 1])
        front = np.flatnonzero(above if above.any() else head)
        nose = middles[front[middles[front, 2].argmax()]]
        away = np.linalg.norm((middles - nose) * [1.0, 0.8, 0.7], axis=1)
        near, far = FACE_M
        share = ((far - away) / (far - near)).clip(0.0, 1.0) * (head & half)
        density = density + share**2 * (3.0 - 2.0 * share) * (FACE_DENSITY - DENSITY[HEAD])

    # Arms and legs are opened on their hidden side.
    hidden = {}
    for number, sign in ((1, 1.0), (2, -1.0)):
        hidden[(ARM * 3 + number) * 2] = np.array([0.0, -1.0, -0.5])
        hidden[(LEG * 3 + number) * 2] = np.array([-sign, 0.0, -0.7])
    return lay_out(vertices, faces, labels * 2 + half, density, hidden)


def _palm(index: dict[str, int], places: np.ndarray, side: str) -> np.ndarray:
    """Return the direction [3] out of a palm; down, for a hand without fingers."""
    names = [f"{side}_{name}" for name in ("wrist", "index1", "pinky1")]
    if not all(name in index for name in names):
        return np.array([0.0, -1.0, 0.0])
    wrist, first, last = (places[index[name]] for name in names)
    out = np.cross(last - wrist, first - wrist) * (1.0 if side == "left" else -1.0)
    length = np.linalg.norm(out)
    return out / length if length > 1e-9 else np.array([0.0, -1.0, 0.0])
