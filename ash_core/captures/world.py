"""Turn of a capture's world into ours: which way is up, and where the floor lies."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.conventions import R_WORLD_BODY
from ash_core.geometry.axes import world_rotation
from ash_core.importers.body.posing import floor_height

UpAxis = Literal["z", "y", "x", "z-down", "y-down", "x-down"]
UP_AXES: Final[tuple[UpAxis, ...]] = get_args(UpAxis)
SNAP_DEGREES: Final = 20.0
"""Largest angle between a body's mean upright and the axis that is taken for it: people lean."""
_HALF_TURN_X: Final = np.diag([1.0, -1.0, -1.0])
_Z_FROM_X: Final = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class WorldTurn:
    """Turn and shift of a capture's world into ours: Z up, the floor at 0."""

    up: str
    """Axis, or 'x, y, z' of a direction that is none."""
    T_world_capture: Float[ndarray, "4 4"]
    T_body_capture: Float[ndarray, "4 4"]
    """Into the frame of skeletons and meshes, Y up."""
    tilt_degrees: float
    """Angle between the axis and the body's mean upright."""


def axis_vector(up: UpAxis) -> Float[ndarray, "3"]:
    """Return the unit vector of an up axis."""
    return np.eye(3)["xyz".index(up[0])] * (-1.0 if up.endswith("-down") else 1.0)


def up_rotation(up: UpAxis) -> Float[ndarray, "3 3"]:
    """Compute the rotation of a capture's world with this up axis into ours."""
    if up in ("z", "y", "y-down"):
        return world_rotation(up).numpy()
    if up == "z-down":
        return _HALF_TURN_X.copy()
    return _Z_FROM_X if up == "x" else _HALF_TURN_X @ _Z_FROM_X


def turn_of(
    uprights: Float[ndarray, "F 3"],
    feet: Float[ndarray, "n 3"],
    sole_m: float,
    up: UpAxis | None,
) -> WorldTurn:
    """Find the up axis by a body, and its floor by the lowest feet.

    uprights: from the pelvis to the head in some frames. feet: places of the feet's joints, m.
    sole_m: height of these joints over the floor where the feet stand flat. up: axis, if known.
    """
    # The median of directions: a person may lie down for a while.
    units = uprights / np.linalg.norm(uprights, axis=-1, keepdims=True)
    mean = np.median(units, axis=0)
    mean /= max(float(np.linalg.norm(mean)), 1e-9)
    cosines: dict[UpAxis, float] = {axis: float(axis_vector(axis) @ mean) for axis in UP_AXES}
    axis = up or max(cosines, key=lambda name: cosines[name])
    tilt = float(np.degrees(np.arccos(np.clip(cosines[axis], -1.0, 1.0))))
    # A world that was never levelled, as a camera's own, has no such axis: turn the body upright.
    R, name = up_rotation(axis), str(axis)
    if up is None and tilt > SNAP_DEGREES:
        R, name = _level(R @ mean) @ R, ", ".join(f"{value:.2f}" for value in mean)
    T = np.eye(4)
    T[:3, :3] = R
    T[2, 3] = -floor_height(feet @ R[2], sole_m)
    T_body_world = np.eye(4)
    T_body_world[:3, :3] = np.array(R_WORLD_BODY).T
    return WorldTurn(name, T, T_body_world @ T, tilt)


def _level(up: Float[ndarray, "3"]) -> Float[ndarray, "3 3"]:
    """Compute the smallest rotation that takes a direction to +Z."""
    x, y, z = up
    K = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])
    return np.eye(3) + K + K @ K / (1.0 + z)
