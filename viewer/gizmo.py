"""Handles of a joint: a ring for each dof that turns it, an arrow for each that slides it.

A handle moves its own dof and no other: no rotation must be split into dofs afterwards, and limits
hold while dragging.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import R_WORLD_BODY
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.projected_lines import project
from ash_core.records import Camera, Skeleton
from ash_core.scene.joint_tree import JointNode

RADIUS_PX: Final = 60.0
REACH_PX: Final = 7.0
POINTS: Final = 64
LEAST_PX_PER_RAD: Final = 12.0
"""Least sensitivity of a ring seen from its edge."""


@dataclass(frozen=True)
class Handle:
    """Handle of one dof at its joint's present place. m, world."""

    dof: int
    slides: bool
    centre: np.ndarray
    """[3]"""
    axis: np.ndarray
    """[3], unit: the dof grows along it, or right-handed about it."""
    gain: float
    """m or rad of the joint for one of the dof."""
    points: np.ndarray
    """[n, 3]: the ring, closed, or the arrow."""


@dataclass(frozen=True)
class Grip:
    """Handle that is being dragged."""

    dof: int
    value: float
    """Value of the dof without limits, m or rad."""
    offset: np.ndarray
    """[3] m from the centre to the grabbed point of the handle; it turns with the ring."""


def handles(
    skeleton: Skeleton, dofs: Float[Tensor, "D"], node: JointNode, camera: Camera
) -> tuple[Handle, ...]:
    """Make the handles of a line of the tree, of one size in every view."""
    transforms = joint_transforms(skeleton, dofs.double()).numpy()
    to_world = np.array(R_WORLD_BODY)
    view = camera.viewmat.double().numpy()
    result: list[Handle] = []
    for dof in node.dofs:
        column = skeleton.dof_matrix[:, dof].double()
        joint = int(column.abs().argmax())
        gain = float(column[joint])
        centre = to_world @ transforms[joint, :3, 3]
        axis = to_world @ transforms[joint, :3, :3] @ skeleton.axes[joint].double().numpy()
        axis *= np.sign(gain)
        depth = max(float(view[2, :3] @ centre + view[2, 3]), 1e-3)
        radius = RADIUS_PX * depth / float(camera.K[1, 1])
        slides = bool(skeleton.is_prismatic[joint])
        if slides:
            points = centre + np.linspace(0.0, 1.5 * radius, POINTS)[:, None] * axis
        else:
            points = centre + radius * _circle(axis)
        result.append(Handle(dof, slides, centre, axis, abs(gain), points))
    return tuple(result)


def under(shown: tuple[Handle, ...], camera: Camera, pixel: tuple[float, float]) -> Grip | None:
    """Grab, with value 0, the nearest handle within reach of a pixel; None away from all."""
    best, grip = REACH_PX, None
    for handle in shown:
        pixels, in_front = project(camera, handle.points)
        distances = np.where(in_front, np.linalg.norm(pixels - np.array(pixel), axis=1), np.inf)
        nearest = int(distances.argmin())
        if distances[nearest] < best:
            best = float(distances[nearest])
            grip = Grip(handle.dof, 0.0, handle.points[nearest] - handle.centre)
    return grip


def drag(grip: Grip, handle: Handle, camera: Camera, dx_px: float, dy_px: float) -> Grip:
    """Move the grip with the mouse, as far as its dof allows."""
    along = handle.axis if handle.slides else np.cross(handle.axis, grip.offset)
    step = 1e-4
    ends = handle.centre + grip.offset + np.stack((-along, along)) * step
    (before, after), _ = project(camera, ends)
    per_unit = (after - before) / (2 * step)
    speed = max(float(np.linalg.norm(per_unit)), LEAST_PX_PER_RAD)
    change = float(per_unit @ (dx_px, dy_px)) / speed**2
    offset = grip.offset if handle.slides else _turned(grip.offset, handle.axis, change)
    return replace(grip, value=grip.value + change / handle.gain, offset=offset)


def _circle(axis: np.ndarray) -> np.ndarray:
    """Make the unit circle [n, 3] about an axis, closed."""
    other = np.eye(3)[np.abs(axis).argmin()]
    u = np.cross(axis, other)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    angle = np.linspace(0.0, 2 * np.pi, POINTS)[:, None]
    return np.cos(angle) * u + np.sin(angle) * v


def _turned(vector: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """Turn a vector about a unit axis, right-handed (Rodrigues)."""
    c, s = np.cos(angle), np.sin(angle)
    return c * vector + s * np.cross(axis, vector) + (1 - c) * (axis @ vector) * axis
