"""Scale of images during a drag, where full ones are slow."""

import math
from collections import deque
from typing import Final

import numpy as np

QUICK_MS: Final = 33.0
"""Time in which an image should be drawn during a drag."""
LEAST_SCALE: Final = 0.25
KEPT: Final = 9


class Sharpness:
    """Cost of full images: small ones are quick, and would ask for full ones."""

    def __init__(self) -> None:
        self._ms_a_pixel: deque[float] = deque(maxlen=KEPT)

    def forget(self) -> None:
        """Forget the timings: another avatar takes another time."""
        self._ms_a_pixel.clear()

    def learn(self, pixels: int, full: int, milliseconds: float) -> None:
        """Learn from an image with so many pixels, where a full one has `full`."""
        if pixels >= full:
            self._ms_a_pixel.append(milliseconds / pixels)

    def scale(self, full: int) -> float:
        """Choose a factor on the sides of a quick image; 1 until a full one was timed."""
        if not self._ms_a_pixel:
            return 1.0
        expected_ms = max(float(np.median(self._ms_a_pixel)) * full, 1e-3)
        return min(max(math.sqrt(QUICK_MS / expected_ms), LEAST_SCALE), 1.0)
