"""Points and lines of the world in a camera's image, and the lines of a skeleton."""

import numpy as np
from jaxtyping import Float

from ash_core.conventions import NEAR_M
from ash_core.records import Camera, Skeleton

SHORTEST_M = 1e-4
"""Length below which two joints are at one place."""


def project(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points [n, 3] to pixels [n, 2]; mark those [n] in front of the camera."""
    in_camera = _in_camera(camera, points)
    return _pixels(camera, in_camera), in_camera[:, 2] > NEAR_M


def segments(camera: Camera, lines: np.ndarray) -> np.ndarray:
    """Project world segments [n, 2, 3] to pixels [m, 2, 2], cut at the near plane."""
    ends = _in_camera(camera, lines)
    first, second = ends[:, 0], ends[:, 1]
    in_front = (first[:, 2] > NEAR_M) | (second[:, 2] > NEAR_M)
    first, second = first[in_front], second[in_front]
    span = second[:, 2] - first[:, 2]
    cut = (NEAR_M - first[:, 2]) / np.where(span == 0, 1.0, span)
    at_plane = first + cut[:, None] * (second - first)
    first = np.where((first[:, 2] < NEAR_M)[:, None], at_plane, first)
    second = np.where((second[:, 2] < NEAR_M)[:, None], at_plane, second)
    return _pixels(camera, np.stack((first, second), 1))


def joint_lines(joints: Float[np.ndarray, "J 3"], skeleton: Skeleton) -> Float[np.ndarray, "n 2 3"]:
    """Return the lines from joints to their parents, without those of no length.

    What a joint slides is no bone: a root that stands far from the origin has none.
    """
    parents = skeleton.parents.numpy()
    lines = np.stack((joints, joints[np.maximum(parents, 0)]), 1)
    lengths = np.linalg.norm(lines[:, 0] - lines[:, 1], axis=1)
    is_bone = (parents >= 0) & ~skeleton.is_prismatic.numpy()
    return lines[is_bone & (lengths > SHORTEST_M)]


def _in_camera(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Transform points [..., 3] from world to camera, m."""
    view = camera.viewmat.double().numpy()
    return points.astype(np.float64) @ view[:3, :3].T + view[:3, 3]


def _pixels(camera: Camera, in_camera: np.ndarray) -> np.ndarray:
    """Project points [..., 3] of the camera to pixels [..., 2]; those behind it go far away."""
    K, z = camera.K.double().numpy(), np.maximum(in_camera[..., 2], 1e-6)
    return np.stack(
        (K[0, 0] * in_camera[..., 0] / z + K[0, 2], K[1, 1] * in_camera[..., 1] / z + K[1, 2]),
        axis=-1,
    )
