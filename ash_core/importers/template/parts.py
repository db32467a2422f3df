"""Parts of a body that a fitted template takes from the nude body: hands and face."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ash_core.files.body_poses import BODY_JOINTS
from ash_core.studio.mesh.surface import mean_matrix, smooth, vertex_normals

FACE_TOP = 0.62
"""Height of the brow, as a share of the head's height from its lowest vertex."""
HANDS: Final = ("left", "right")


@dataclass(frozen=True)
class BodyParts:
    """Joints of the parts that clothes leave free."""

    hands: tuple[tuple[int, ...], ...] = ()
    """Wrist and fingers of each hand, in the order of `HANDS`."""
    head: tuple[int, ...] = ()


def _parts_of(names: Sequence[str]) -> BodyParts:
    """Find the hands and the head among joints by the names of the SMPL family."""
    fingers = ("wrist", "hand", "index", "middle", "pinky", "ring", "thumb")
    hands = tuple(
        tuple(j for j, name in enumerate(names)
              if name.startswith(side) and name.split("_")[1].rstrip("123") in fingers)
        for side in HANDS
    )  # fmt: skip
    head = ("head", "jaw", "left_eye", "right_eye")
    return BodyParts(hands, tuple(j for j, name in enumerate(names) if name in head))


PARTS: Final = {len(names): _parts_of(names) for names in BODY_JOINTS.values()}
"""Parts by the number of joints."""


def share_of(weights: Float[ndarray, "V J"], joints: Sequence[int]) -> Float[ndarray, "V"]:
    """Sum the weights of some joints."""
    return weights[:, list(joints)].sum(1)


def face_share(
    vertices: Float[ndarray, "V 3"],
    faces: Int[ndarray, "F 3"],
    weights: Float[ndarray, "V J"],
    parts: BodyParts,
) -> Float[ndarray, "V"]:
    """Compute how much each vertex of the body belongs to the face, 0 to 1. Y up, facing +Z."""
    head = share_of(weights, parts.head)
    of_head = head > 0.5
    if not of_head.any():
        return np.zeros(len(vertices))
    mean = mean_matrix(faces, len(vertices))
    ones = np.ones(len(vertices))
    front = smooth(vertex_normals(vertices, faces)[:, 2], mean, ones, 6)
    low, high = np.percentile(vertices[of_head, 1], [2, 100])
    height = (vertices[:, 1] - low) / max(high - low, 1e-9)
    middle = np.median(vertices[of_head, 2])
    ahead = np.clip((vertices[:, 2] - middle) / 0.03, 0.0, 1.0)
    face = np.clip(front / 0.35, 0, 1) * np.clip((FACE_TOP - height) / 0.08, 0, 1) * ahead
    face = face * np.clip((height + 0.05) / 0.1, 0, 1) * np.clip((head - 0.5) / 0.3, 0, 1)
    return np.clip(smooth(face, mean, ones, 4), 0.0, 1.0)
