"""Paper and brushes of the actor's painters: inputs of each pixel, palettes, blending, bumps."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from ash_core.studio.actor.regions import Landmarks
from ash_core.studio.noise import smooth_noise

SKIN = np.array([0.890, 0.690, 0.575])
BLUSH = np.array([0.86, 0.50, 0.44])
HAIR = np.array([0.270, 0.165, 0.105])
IRIS = np.array([0.25, 0.46, 0.50])
LIP = np.array([0.755, 0.430, 0.395])


@dataclass(frozen=True)
class Palette:
    """Colours of a person."""

    skin: np.ndarray = dataclasses.field(default_factory=lambda: SKIN)
    blush: np.ndarray = dataclasses.field(default_factory=lambda: BLUSH)
    hair: np.ndarray = dataclasses.field(default_factory=lambda: HAIR)
    iris: np.ndarray = dataclasses.field(default_factory=lambda: IRIS)
    lip: np.ndarray = dataclasses.field(default_factory=lambda: LIP)
    freckles: float = 0.0
    stubble: float = 0.0
    """Strength of freckles, and of shaved hair around the mouth, 0 to 1."""


@dataclass(frozen=True)
class Paper:
    """Per-pixel inputs of the brushes."""

    bare: np.ndarray
    """Place on the undressed body [N, 3], m."""
    dressed: np.ndarray
    normal: np.ndarray
    hollow: np.ndarray
    """Depth in a hollow [N], 0 to 1."""
    share: dict[str, np.ndarray]
    field: dict[str, np.ndarray]
    marks: Landmarks
    palette: Palette = dataclasses.field(default_factory=Palette)


def over(under: np.ndarray, top: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return under + alpha[:, None] * (top - under)


def cloud(points: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """Return smooth noise in about -1 to 1, the same for a seed."""
    return smooth_noise(points, wavelength, np.random.default_rng(seed))


def bump(x: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((x / width) ** 2))
