"""How small pictures are made while something is being dragged, where full ones are slow."""

import math
from collections import deque
from typing import Final

import numpy as np

QUICK_MS: Final = 33.0
"""While something is dragged, pictures are made small enough to be drawn in this time."""
LEAST_SCALE: Final = 0.25
KEPT: Final = 9


class Sharpness:
    """Learns from full pictures alone: small ones are quick, and would call for full ones."""

    def __init__(self) -> None:
        self._ms_a_pixel: deque[float] = deque(maxlen=KEPT)

    def forget(self) -> None:
        """Another avatar's pictures take another time."""
        self._ms_a_pixel.clear()

    def learn(self, pixels: int, full: int, milliseconds: float) -> None:
        """A picture was drawn, of so many pixels where a full one has `full`."""
        if pixels >= full:
            self._ms_a_pixel.append(milliseconds / pixels)

    def scale(self, full: int) -> float:
        """Of the sides of a picture that is to be quick; 1 until a full one was seen."""
        if not self._ms_a_pixel:
            return 1.0
        expected_ms = max(float(np.median(self._ms_a_pixel)) * full, 1e-3)
        return min(max(math.sqrt(QUICK_MS / expected_ms), LEAST_SCALE), 1.0)
