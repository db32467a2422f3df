"""Choice of how loose cloth swings: on or off, stiffness, gravity, wind."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ash_core.cloth.dynamics import Surroundings
from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError

LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "stiffness": (0.0, 100.0),
    "gravity": (-20.0, 20.0),
    "wind": (0.0, 100.0),
    "wind_yaw": (-2 * math.pi, 2 * math.pi),
}
"""Least and greatest value of each number."""


@dataclass(frozen=True)
class Swing:
    """Swing of an avatar's loose cloth. The default is the cloth as it was fitted, in calm air.

    Raises: InputError for a number beyond `LIMITS`.

    >>> scene.edit("wind from the left", swing=ash.Swing(wind=6.0, wind_yaw=1.57))
    """

    is_on: bool = True
    """False: cloth moves with the body, as if it were skin."""
    stiffness: float = 1.0
    """Factor on the frequency with which cloth returns to its own shape."""
    gravity: float = 1.0
    """Share of the earth's gravity."""
    wind: float = 0.0
    """Speed of the air, m/s."""
    wind_yaw: float = 0.0
    """Direction that the wind comes from, rad, as a view's yaw: 0 is the front of a character at
    rest, a quarter turn its left."""

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"swing: {name}: expected {low:g} to {high:g}, got {value}")

    @property
    def around(self) -> Surroundings:
        """Make the forces on the cloth, body frame."""
        air = -self.wind * np.array([math.cos(self.wind_yaw), math.sin(self.wind_yaw), 0.0])
        x, y, z = (air @ np.array(R_WORLD_BODY)).tolist()
        return Surroundings(self.gravity, (x, y, z), self.stiffness)


AS_FITTED: Final = Swing()
