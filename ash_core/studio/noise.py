"""Smooth noise in space, for colours of cloth and skin and for folds."""

import numpy as np

WAVES = 6


def smooth_noise(points: np.ndarray, wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise [N] in about -1 to 1 at points [N, 3]: plane waves in random directions.

    wavelength: in the points' unit, m as a rule.
    """
    total = np.zeros(len(points))
    for _ in range(WAVES):
        wave = rng.normal(size=3)
        wave *= 2 * np.pi / (np.linalg.norm(wave) * wavelength * rng.uniform(0.7, 1.4))
        total += np.sin(points @ wave + rng.uniform(0, 2 * np.pi))
    return total / 3.0
