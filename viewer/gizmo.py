"""The handles of a joint: a ring for each dof that turns it, an arrow for each that slides it.

A handle moves its own dof and no other: what is dragged is what the skeleton has, so that no
rotation must be split into dofs afterwards, and limits hold while dragging.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import R_WORLD_BODY
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import Camera, Skeleton
from ash_core.scene.joint_tree import JointNode
from viewer.overlay import project

RADIUS_PX: Final = 60.0
REACH_PX: Final = 7.0
POINTS: Final = 64
LEAST_PX_PER_RAD: Final = 12.0
"""A ring seen from its edge turns no faster than this allows."""


@dataclass(frozen=True)
class Handle:
    """Of one dof, where its joint stands now. m, world."""

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
    """A handle that is held."""

    dof: int
    value: float
    """What the dof would be without limits, m or rad."""
    at: np.ndarray
    """[3] m from the centre to the point of the handle that was taken; it turns with the ring."""


def handles(
    skeleton: Skeleton, dofs: Float[Tensor, "D"], node: JointNode, camera: Camera
) -> tuple[Handle, ...]:
    """Handles of a line of the tree, of one size in every picture."""
    transforms = joint_transforms(skeleton, dofs.double()).numpy()
    to_world = np.array(R_WORLD_BODY)
    view = camera.viewmat.double().numpy()
    made: list[Handle] = []
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
        made.append(Handle(dof, slides, centre, axis, abs(gain), points))
    return tuple(made)


def under(found: tuple[Handle, ...], camera: Camera, at: tuple[float, float]) -> Grip | None:
    """A grip with value 0 on the nearest handle within reach of a pixel; None away from all."""
    best, grip = REACH_PX, None
    for handle in found:
        pixels, seen = project(camera, handle.points)
        away = np.where(seen, np.linalg.norm(pixels - np.array(at), axis=1), np.inf)
        nearest = int(away.argmin())
        if away[nearest] < best:
            best = float(away[nearest])
            grip = Grip(handle.dof, 0.0, handle.points[nearest] - handle.centre)
    return grip


def drag(grip: Grip, handle: Handle, camera: Camera, dx_px: float, dy_px: float) -> Grip:
    """The grip after the mouse moved: the taken point goes along with it as its dof allows."""
    along = handle.axis if handle.slides else np.cross(handle.axis, grip.at)
    step = 1e-4
    ends = handle.centre + grip.at + np.stack((-along, along)) * step
    (before, after), _ = project(camera, ends)
    per_unit = (after - before) / (2 * step)
    speed = max(float(np.linalg.norm(per_unit)), LEAST_PX_PER_RAD)
    moved = float(per_unit @ (dx_px, dy_px)) / speed**2
    turned = grip.at if handle.slides else _turned(grip.at, handle.axis, moved)
    return replace(grip, value=grip.value + moved / handle.gain, at=turned)


def _circle(axis: np.ndarray) -> np.ndarray:
    """[n, 3]: the unit circle about an axis, closed."""
    aside = np.eye(3)[np.abs(axis).argmin()]
    u = np.cross(axis, aside)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    angle = np.linspace(0.0, 2 * np.pi, POINTS)[:, None]
    return np.cos(angle) * u + np.sin(angle) * v


def _turned(at: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """About a unit axis, right-handed (Rodrigues)."""
    c, s = np.cos(angle), np.sin(angle)
    return c * at + s * np.cross(axis, at) + (1 - c) * (axis @ at) * axis
