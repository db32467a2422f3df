"""Three angles for a joint's turn: order of the axes, and angles that do not jump.

A turn is R = R_a(first) R_b(second) R_c(third) with the axes a, b, c in the order's letters. At a
second angle of 90 degrees the first and the third turn about the same axis: the order is chosen so
that no pose comes near.
"""

import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

ORDERS: Final = ("YZX", "YXZ", "XYZ", "XZY", "ZXY", "ZYX")
HEADING_ORDERS: Final = ("YZX", "YXZ")
"""Orders of a root, whose first angle is its heading."""
CLOSE_DEGREES: Final = 5.0
"""Orders count as equally far from 90 degrees within this."""
SAFE_DEGREES: Final = 30.0
"""Second angle up to which all orders are equally good."""
_WHOLE: Final = 2 * np.pi


def choose_order(turns: Float[ndarray, "F 3 3"], preferred: Sequence[str] = ORDERS) -> str:
    """Choose the order whose second angle stays farthest from 90 degrees over all poses.

    preferred: orders to choose from; the first one wins among those that are about as far.
    """
    if not len(turns):
        return preferred[0]
    largest = {}
    for order in preferred:
        first, third = "XYZ".index(order[0]), "XYZ".index(order[2])
        sine = np.abs(turns[:, first, third]).max()
        largest[order] = float(np.degrees(np.arcsin(min(sine, 1.0))))
    enough = max(min(largest.values()), SAFE_DEGREES) + CLOSE_DEGREES
    return next(order for order in preferred if largest[order] <= enough)


def euler_angles(turns: Float[ndarray, "F n 3 3"], order: str) -> Float[ndarray, "F n 3"]:
    """Compute angles, rad, in the order's sequence; they do not jump from frame to frame.

    Of the two solutions of each turn, the one nearer to the frame before is taken, whole turns
    included. The first frame has its second angle within 90 degrees.
    """
    frames, count = turns.shape[:2]
    if not frames * count:
        return np.zeros((frames, count, 3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")  # both solutions are equally good there
        principal = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_euler(order)
    principal = principal.reshape(frames, count, 3)
    a, b, c = np.moveaxis(principal, -1, 0)
    ways = np.stack([principal, np.stack([a + np.pi, np.pi - b, c + np.pi], -1)])
    return smoothest(ways)


def smoothest(ways: Float[ndarray, "2 F n k"]) -> Float[ndarray, "F n k"]:
    """Take, of two ways to make each turn, the one nearer to the frame before.

    Angles, rad, do not jump by whole turns either. The first frame has way 0.
    """
    # For each way of a frame: the way of the next frame that is nearer.
    steps = ways[None, :, 1:] - ways[:, None, :-1]
    steps -= _WHOLE * np.round(steps / _WHOLE)
    taken = _follow(np.abs(steps).sum(-1).argmin(1))
    angles = np.where(taken[..., None] == 0, ways[0], ways[1])
    # Whole turns, summed over the frames.
    turned = np.round((angles[:-1] - angles[1:]) / _WHOLE)
    angles[1:] += _WHOLE * np.cumsum(turned, 0)
    return angles


def turns_of_angles(angles: Float[ndarray, "*b 3"], order: str) -> Float[ndarray, "*b 3 3"]:
    """Compute the turns of angles, rad: the inverse of `euler_angles`."""
    turns = Rotation.from_euler(order, angles.reshape(-1, 3)).as_matrix()
    return turns.reshape(*angles.shape, 3)


def _follow(following: np.ndarray) -> np.ndarray:
    """Follow ways [F, n], 0 or 1, from way 0 on; following [2, F - 1, n]: the next of each way.

    A step either leads to one way from both, or keeps or swaps them. So a frame's way is that of
    the last step of the first kind, swapped as often as steps since then do.
    """
    zero, one = following
    parity = np.cumsum((zero == 1) & (one == 0), 0) % 2
    number = np.arange(1, len(zero) + 1)[:, None]
    last = np.maximum.accumulate(np.where(zero == one, number, 0), 0)
    before = np.zeros((1, following.shape[2]), np.int64)
    parity, values = np.concatenate([before, parity]), np.concatenate([before, zero])
    start = np.take_along_axis(values, last, 0) ^ np.take_along_axis(parity, last, 0)
    return np.concatenate([before, start ^ parity[1:]])
