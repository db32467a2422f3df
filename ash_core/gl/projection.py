"""Cameras as OpenGL's matrices, float64.

Row 0 of a framebuffer is the top of the image, so that gl_FragCoord counts pixels as `K` does: the
centre of the top-left one is (0.5, 0.5).
"""

from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float

from ash_core.records import Camera

LEAST_NEAR_M: Final = 1e-3
LEAST_RATIO: Final = 1e-4
"""Least ratio of near to far: 24 bits of depth then resolve 2 mm at 5 m."""


def clip_from_world(camera: Camera, near_m: float, far_m: float) -> Float[np.ndarray, "4 4"]:
    """Make the matrix from world, m, to OpenGL's clip space; any principal point and skew.

    Points nearer than near_m or farther than far_m are clipped.
    """
    K, view = camera.K.double().cpu().numpy(), camera.viewmat.double().cpu().numpy()
    projection = np.zeros((4, 4))
    projection[0, :3] = 2 * K[0] / camera.width - K[2]
    projection[1, :3] = 2 * K[1] / camera.height - K[2]
    projection[2, 2] = (far_m + near_m) / (far_m - near_m)
    projection[2, 3] = -2 * far_m * near_m / (far_m - near_m)
    projection[3, :3] = K[2]
    return projection @ view


def depth_range(camera: Camera, points: Float[np.ndarray, "n 3"]) -> tuple[float, float]:
    """Find the tightest (near, far), m, about all points before the camera.

    Depth has few bits, and an orthographic image is drawn from far away.
    """
    view = camera.viewmat.double().cpu().numpy()
    depths = points.astype(np.float64) @ view[2, :3] + view[2, 3]
    depths = depths[np.isfinite(depths) & (depths > 0)]
    if not len(depths):
        return LEAST_NEAR_M, 1.0
    margin = 1e-3 + 1e-5 * float(depths.max())
    far = float(depths.max()) + margin
    return max(float(depths.min()) - margin, LEAST_RATIO * far, LEAST_NEAR_M), far


def floor_from_pixel(camera: Camera) -> Float[np.ndarray, "3 3"] | None:
    """Make the matrix from a pixel (x, y, 1) to the point (x w, y w, w) of the floor, m.

    w > 0 before the camera. None for a camera in the floor.
    """
    K, view = camera.K.double().cpu().numpy(), camera.viewmat.double().cpu().numpy()
    pixel_from_floor = K @ view[:3, [0, 1, 3]]
    if abs(np.linalg.det(pixel_from_floor)) < 1e-9 * abs(np.linalg.det(K)):
        return None
    return np.linalg.inv(pixel_from_floor)


def stretched(camera: Camera, width: int, height: int) -> Camera:
    """Stretch the image of a camera to another size: each side scales on its own."""
    K = camera.K.double().clone()
    K[0] *= width / camera.width
    K[1] *= height / camera.height
    return replace(camera, K=K, width=width, height=height)
