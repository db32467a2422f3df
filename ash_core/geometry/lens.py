"""Lens distortion by OpenCV's model.

Source: OpenCV's documentation of camera calibration ("Detailed description").
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32


@dataclass(frozen=True)
class Lens:
    """Radial (k1 to k3 above the fraction, k4 to k6 below it) and tangential (p1, p2)."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0

    @property
    def is_straight(self) -> bool:
        """True if it distorts nothing."""
        values = (self.k1, self.k2, self.p1, self.p2, self.k3, self.k4, self.k5, self.k6)
        return not any(values)  # astuple copies deeply: 43 us


Pinhole = tuple[float, float, float, float]
"""fx, fy, cx, cy, px; the centre of the first pixel is (0.5, 0.5)."""


def distort(lens: Lens, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Distort points x/z, y/z by a lens."""
    x, y = points[..., 0], points[..., 1]
    r2 = x * x + y * y
    above = 1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))
    below = 1 + r2 * (lens.k4 + r2 * (lens.k5 + r2 * lens.k6))
    radial = above / below
    return np.stack(
        (
            x * radial + 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x * x),
            y * radial + lens.p1 * (r2 + 2 * y * y) + 2 * lens.p2 * x * y,
        ),
        -1,
    )


def straight_map(
    lens: Lens, pinhole: Pinhole, width: int, height: int
) -> Float32[np.ndarray, "h w 2"]:
    """Map each pixel of the undistorted image to its position (x, y) in the distorted one.

    Pixels are counted from the centre of the first one.
    """
    fx, fy, cx, cy = pinhole
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    distorted = distort(lens, np.stack(((u - cx) / fx, (v - cy) / fy), -1))
    return (distorted * (fx, fy) + (cx - 0.5, cy - 0.5)).astype(np.float32)
