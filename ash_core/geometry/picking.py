"""Surface of a mesh under a pixel."""

import numpy as np
from jaxtyping import Float, Int

from ash_core.conventions import NEAR_M
from ash_core.records import Camera

EDGE = 1e-6
"""Share of a triangle's side by which a pixel may lie outside it: there are no gaps between two."""


def hit_mesh(
    camera: Camera,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    x_px: float,
    y_px: float,
) -> Float[np.ndarray, "3"] | None:
    """Find the nearest place of a mesh that a pixel shows, m, world; None beside the mesh."""
    # Frame of the camera, turned so that the pixel's ray is its axis.
    view, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
    ray = np.array([(x_px - K[0, 2]) / K[0, 0], (y_px - K[1, 2]) / K[1, 1]])
    points = vertices.astype(np.float64) @ view[:3, :3].T + view[:3, 3]
    beside = points[:, :2] - points[:, 2:] * ray

    # Triangles about the axis, and their depths there.
    a, b, c = beside[faces].transpose(1, 0, 2)
    areas = np.stack([_area(b, c), _area(c, a), _area(a, b)], 1)
    whole = areas.sum(1)
    shares = areas / np.where(whole == 0.0, np.inf, whole)[:, None]
    depths = (shares * points[faces, 2]).sum(1)
    is_hit = (shares >= -EDGE).all(1) & (whole != 0.0) & (depths > NEAR_M)
    if not is_hit.any():
        return None
    depth = float(depths[is_hit].min())
    return (np.array([*(depth * ray), depth]) - view[:3, 3]) @ view[:3, :3]


def _area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute twice the signed area of triangles with a corner in the origin."""
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def place_beside(
    camera: Camera, place: tuple[float, float, float], x_px: float, y_px: float
) -> tuple[float, float, float]:
    """Find the place that a pixel shows at the depth of another place; m, world."""
    view, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
    depth = max(float(view[2, :3] @ np.array(place) + view[2, 3]), NEAR_M)
    ray = np.array([(x_px - K[0, 2]) / K[0, 0], (y_px - K[1, 2]) / K[1, 1], 1.0])
    x, y, z = ((depth * ray - view[:3, 3]) @ view[:3, :3]).tolist()
    return x, y, z
