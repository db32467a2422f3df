"""Poses of an SMPL-family body, as capture layouts and motion files hold them.

Source: the public loaders of AnimatableGaussians, EasyMocap, AMASS and AIST++.
"""

from dataclasses import dataclass
from typing import Final, Literal

from jaxtyping import Float
from numpy import ndarray

BodyKind = Literal["smpl", "smplh", "smplx"]
RootRule = Literal["pelvis", "origin"]

_BODY: Final = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2"),
    *("left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar"),
    *("right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist"),
)
_BODY_PARENTS: Final = (
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19),
)
_FINGERS: Final = ("index", "middle", "pinky", "ring", "thumb")
_LEFT_WRIST, _RIGHT_WRIST, _HEAD = 20, 21, 15


def _hands(first: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Name the joints of both hands, and their parents; the first one has this index."""
    names, parents = [], []
    for side, wrist in (("left", _LEFT_WRIST), ("right", _RIGHT_WRIST)):
        for finger in _FINGERS:
            for number in (1, 2, 3):
                parents.append(wrist if number == 1 else first + len(names) - 1)
                names.append(f"{side}_{finger}{number}")
    return tuple(names), tuple(parents)


BODY_JOINTS: Final[dict[BodyKind, tuple[str, ...]]] = {
    "smpl": (*_BODY, "left_hand", "right_hand"),
    "smplh": (*_BODY, *_hands(22)[0]),
    "smplx": (*_BODY, "jaw", "left_eye", "right_eye", *_hands(25)[0]),
}
"""Joints by kind of body, in the order of its files: 24, 52, 55."""
BODY_PARENTS: Final[dict[BodyKind, tuple[int, ...]]] = {
    "smpl": (*_BODY_PARENTS, _LEFT_WRIST, _RIGHT_WRIST),
    "smplh": (*_BODY_PARENTS, *_hands(22)[1]),
    "smplx": (*_BODY_PARENTS, _HEAD, _HEAD, _HEAD, *_hands(25)[1]),
}


@dataclass(frozen=True)
class BodyPoses:
    """A body's poses, one a frame. float64, metres and radians, axes of the capture's world."""

    kind: BodyKind
    rotations: Float[ndarray, "F J 3"]
    """Axis-angle of each joint relative to its parent; the root's relative to the world."""
    translations: Float[ndarray, "F 3"]
    """pelvis: added after the turn about the rest pelvis. origin: after the turn about the
    model's origin (Rh, Th of EasyMocap and ZJU-MoCap)."""
    root_rule: RootRule
    betas: Float[ndarray, "B"]
    """Shape coefficients; one set for all frames."""
    frames: tuple[int, ...]
    """Frame number in the capture of each pose, rising."""
    fps: float | None = None
    """Frames a second; None where the file has none."""
    expressions: Float[ndarray, "F E"] | None = None
    hand_pca: Float[ndarray, "F 2 C"] | None = None
    """Coefficients of the hands' principal components, left then right. The hands' rotations are
    zero until a body model expands them."""
    scale: float = 1.0
    """Factor of the whole body about the model's origin, before the root's turn."""
    gender: str = ""
    notes: tuple[str, ...] = ()
