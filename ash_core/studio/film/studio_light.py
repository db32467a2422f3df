"""Light of the virtual stage: even, from lamps all around, two with soft shadows; materials.

Light that arrives at a vertex is the same for all cameras and is computed once a pose; light that
leaves towards an eye is computed in `shaders/film.frag`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float32, Int
from numba import njit

from ash_core.gl.program import Value
from ash_core.studio.truth.dressing import MATERIALS

BACKDROP: Final = (92, 128, 100)
"""Colour of the screen behind the actor, RGB bytes: a muted green, as on real stages."""
SHADOW_SIZE: Final = 1024
SHADOW_BLUR_M: Final = 0.018
"""Width of a shadow's edge: lamps are as large as doors."""
LIFT_M: Final = 0.006
SLACK: Final = 0.0008
"""Offsets against self-shadowing: along the normal, and of the shadow's depth."""


@dataclass(frozen=True)
class Lamp:
    """Lamp so far away that its light comes from one direction."""

    azimuth: float
    """Degrees from the actor's initial heading (world X), anticlockwise from above."""
    elevation: float
    """Degrees over the floor."""
    light: tuple[float, float, float]
    """Linear RGB that a white surface facing it reflects."""

    @property
    def way(self) -> Float[np.ndarray, "3"]:
        """Return the unit direction towards the lamp, world."""
        a, e = np.radians((self.azimuth, self.elevation))
        return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


LAMPS: Final = (
    Lamp(38.0, 52.0, (0.42, 0.41, 0.395)),
    Lamp(215.0, 58.0, (0.30, 0.305, 0.315)),
    Lamp(-50.0, 22.0, (0.13, 0.13, 0.13)),
    Lamp(70.0, 12.0, (0.10, 0.10, 0.10)),
    Lamp(145.0, 18.0, (0.12, 0.12, 0.12)),
    Lamp(-130.0, 20.0, (0.12, 0.12, 0.12)),
)
"""Lamps; the first two cast shadows."""
SKY: Final = (0.47, 0.475, 0.48)
GROUND: Final = (0.26, 0.25, 0.24)

CREEP: Final = (1.0, 0.55, 0.4)
"""Distance of subsurface scattering by colour: red light goes furthest under the skin."""

_ANSWERS: Final = {
    # roughness, reflectance head-on, subsurface scattering, fuzz of fibres on the outline
    "skin": (0.46, 0.028, 0.25, 0.10),
    "hair": (0.54, 0.046, 0.30, 0.05),
    "eye": (0.16, 0.04, 0.10, 0.0),
    "cotton": (0.80, 0.025, 0.10, 0.30),
    "wool": (0.90, 0.02, 0.20, 0.60),
    "denim": (0.72, 0.03, 0.05, 0.20),
    "leather": (0.36, 0.05, 0.0, 0.0),
    "rubber": (0.50, 0.04, 0.0, 0.0),
    "lining": (0.85, 0.02, 0.10, 0.10),
}


def light_uniforms() -> dict[str, Value]:
    """Return the shader's uniforms of lamps and materials."""
    values: dict[str, Value] = {"sky": SKY, "ground": GROUND}
    for n, lamp in enumerate(LAMPS):
        values[f"lamp_ways[{n}]"] = tuple(lamp.way.tolist())
        values[f"lamp_lights[{n}]"] = lamp.light
    for n, name in enumerate(MATERIALS):
        values[f"materials[{n}]"] = _ANSWERS[name]
    return values


def shadow_from_world(
    lamp: Lamp, middle: Float[np.ndarray, "3"], reach_m: float
) -> Float[np.ndarray, "4 4"]:
    """Return the matrix from world, m, to a lamp's image of a ball: x, y and depth, each 0 to 1.

    The image moves in whole texels only: a shivering edge would look like moving cloth.
    """
    way = lamp.way
    across = np.cross([0.0, 0.0, 1.0], way)
    across /= np.linalg.norm(across)
    rotation = np.stack((across, np.cross(way, across), -way))
    texel = 2 * reach_m / SHADOW_SIZE
    centre = np.round(rotation @ middle / texel) * texel
    matrix = np.eye(4)
    matrix[:3, :3] = rotation / (2 * reach_m)
    matrix[:3, 3] = 0.5 - centre / (2 * reach_m)
    return matrix


def arriving_light(
    normals: Float32[np.ndarray, "V 3"],
    open_: Float32[np.ndarray, "V"],
    reached: Float32[np.ndarray, "V 2"],
    kinds: Int[np.ndarray, "V"],
) -> Float32[np.ndarray, "V 3"]:
    """Compute the linear RGB that a white matt surface reflects.

    open_: unoccluded share of the light from all sides.  reached: share of each shadow-casting
    lamp's light.  kinds: indices of MATERIALS.
    """
    share = (0.5 + 0.5 * normals[:, 2:]) * open_[:, None]
    sky, ground = np.array(SKY, np.float32), np.array(GROUND, np.float32)
    light = share * sky + (open_[:, None] - share) * ground
    soft = np.array([_ANSWERS[name][2] for name in MATERIALS], np.float32)[kinds, None]
    soft = soft * np.array(CREEP, np.float32)
    for n, lamp in enumerate(LAMPS):
        # Occlusion keeps lamps without a shadow of their own out of hollows.
        free = reached[:, n] if n < reached.shape[1] else open_
        facing = np.maximum((normals @ lamp.way.astype(np.float32))[:, None] + soft, 0.0)
        light += free[:, None] * facing / (1.0 + soft) ** 2 * np.array(lamp.light, np.float32)
    return light


def _disc(count: int) -> Float32[np.ndarray, "n 2"]:
    turn = np.arange(count) * np.pi * (3.0 - np.sqrt(5.0))
    away = np.sqrt((np.arange(count) + 0.5) / count)
    return np.stack((away * np.cos(turn), away * np.sin(turn)), 1).astype(np.float32)


DISC: Final = _disc(24)
"""Points of a disc, evenly spread."""


@njit(cache=True)
def reached_by(
    points: np.ndarray, shadow: np.ndarray, matrix: np.ndarray, blur: float, disc: np.ndarray
) -> np.ndarray:
    """Return the share of a lamp's light that arrives at points [V, 3]: [V].

    shadow [S, S]: depth of the nearest surface.  matrix: shadow from world.  blur: share of its
    side.
    """
    size = shadow.shape[0]
    shares = np.empty(len(points), np.float32)
    for v in range(len(points)):
        p = points[v]
        x = (matrix[0, 0] * p[0] + matrix[0, 1] * p[1] + matrix[0, 2] * p[2] + matrix[0, 3]) * size
        y = (matrix[1, 0] * p[0] + matrix[1, 1] * p[1] + matrix[1, 2] * p[2] + matrix[1, 3]) * size
        z = matrix[2, 0] * p[0] + matrix[2, 1] * p[1] + matrix[2, 2] * p[2] + matrix[2, 3]
        total = 0.0
        for n in range(len(disc)):
            u = x + blur * size * disc[n, 0] - 0.5
            w = y + blur * size * disc[n, 1] - 0.5
            column, row = int(np.floor(u)), int(np.floor(w))
            if column < 0 or row < 0 or column >= size - 1 or row >= size - 1:
                total += 1.0
                continue
            right, down = u - column, w - row
            total += (1 - down) * (
                (1 - right) * (z <= shadow[row, column]) + right * (z <= shadow[row, column + 1])
            ) + down * (
                (1 - right) * (z <= shadow[row + 1, column])
                + right * (z <= shadow[row + 1, column + 1])
            )
        shares[v] = total / len(disc)
    return shares
