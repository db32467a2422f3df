"""Up axis of a motion file: from its zero pose, else from the motion itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ash_core.importers.retarget.joint_mapping import Tree
from ash_core.importers.retarget.joint_names import SIDES, body_parts

UPRIGHT = 0.7
"""Least cosine between the vertical and trunk and legs of a standing figure."""
ALWAYS, SOMETIMES, NEVER = 0.9, 0.2, 0.05
"""Shares of the frames."""
ON_FLOOR = 0.15
"""Leg lengths between zero height and the lowest joint of a standing person on a floor."""
LYING = (-0.08, 0.3)
"""Leg lengths from zero height to the lowest joint of a lying one."""
_AXES = {"y": 1, "z": 2}


@dataclass(frozen=True)
class UpAxis:
    """A file's vertical axis, and the evidence for it."""

    axis: str
    reason: str


def find_up_axis(
    tree: Tree, rest: np.ndarray, places: np.ndarray, parts: Mapping[str, str] | None = None
) -> UpAxis:
    """Find the vertical axis of a file with a zero pose [J, 3] and posed joints [F, J, 3].

    An upright zero pose decides, whatever the person does later: crawls, lies, stands on hands. One
    case overrules it: the file was turned after its skeleton was made. Then the person stands along
    the other axis all the time, on a floor at zero height.

    parts: joint of each body part; None: from their names.
    """
    # Bones that are upright in a standing person.
    legs, spans = standing_bones(tree, body_parts(tree.names) if parts is None else parts)
    bones = legs + spans
    if not bones:
        return UpAxis("y", "no legs are known")
    # The zero pose, unless the file was turned after it.
    resting = {axis: uprightness(rest[None], bones, n)[0] for axis, n in _AXES.items()}
    upright = {
        axis: float((uprightness(places, bones, n) > UPRIGHT).mean()) for axis, n in _AXES.items()
    }
    floors = {axis: _floor(places, rest, legs or spans, n) for axis, n in _AXES.items()}
    for axis, other in (("y", "z"), ("z", "y")):
        if resting[axis] > UPRIGHT:
            is_turned = upright[other] > ALWAYS and upright[axis] < NEVER
            lies = LYING[0] <= floors[axis] <= LYING[1]
            if is_turned and abs(floors[other]) < ON_FLOOR and not lies:
                return UpAxis(other, "the person stands along it in all frames")
            return UpAxis(axis, "the zero pose stands along it")
    # The axis along which the person stands most often.
    risen = {
        axis: float((uprightness(places, spans or legs, n) > UPRIGHT).mean())
        for axis, n in _AXES.items()
    }
    best = max(risen, key=risen.__getitem__)
    if risen[best] > SOMETIMES:
        return UpAxis(best, f"the person stands along it in {risen[best]:.0%} of the frames")
    # Nobody stands: over a floor the lowest joint keeps its height, along it it travels.
    spread = {axis: height_range(places, n) for axis, n in _AXES.items()}
    level = min(spread, key=spread.__getitem__)
    return UpAxis(level, "the lowest joint keeps its height along it")


def standing_bones(
    tree: Tree, parts: Mapping[str, str]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """List bones (lower, upper) upright in a standing person: the legs', and foot to head."""
    joints = {part: tree.names.index(name) for part, name in parts.items()}
    top = next((joints[part] for part in ("head", "neck") if part in joints), None)
    legs, spans = [], []
    for side in SIDES:
        names = [f"{side} {part}" for part in ("foot", "shin", "thigh")]
        leg = [joints[name] for name in names if name in joints]
        legs += pairwise(leg)
        if top is not None and leg:
            spans.append((leg[0], top))
    return legs, spans


def uprightness(places: np.ndarray, bones: Sequence[tuple[int, int]], axis: int) -> np.ndarray:
    """Return the smallest cosine [F] between an axis and the bones, each (lower, upper) joints."""
    low, high = np.array(bones).T
    along = places[:, high] - places[:, low]
    length = np.maximum(np.linalg.norm(along, axis=-1), 1e-12)
    return (along[..., axis] / length).min(1)


def _floor(places: np.ndarray, rest: np.ndarray, bones: list[tuple[int, int]], axis: int) -> float:
    """Return the median height of the lowest joint, in lengths of the first bone's limb."""
    (low, _), (_, high) = bones[0], bones[min(1, len(bones) - 1)]
    leg = max(float(np.linalg.norm(rest[high] - rest[low])), 1e-12)
    return float(np.median(places[:, :, axis].min(1))) / leg


def height_range(places: np.ndarray, axis: int) -> float:
    """Return the range of the lowest joint's height, without outliers."""
    low = places[:, :, axis].min(1)
    return float(np.percentile(low, 95) - np.percentile(low, 5))
