"""Smooth noise in space, for colours of cloth and skin and for folds."""

import numpy as np
from numba import njit

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


@njit(cache=True)
def _random(i: int, j: int, k: int, seed: int) -> float:
    """Hash a place of the lattice to -1 to 1."""
    h = np.uint64(seed * 0x9E3779B1 + 0x7F4A7C15)
    for v in (i, j, k):
        h = (h ^ np.uint64(v & 0xFFFFFFFF)) * np.uint64(0x9E3779B97F4A7C15)
        h = h ^ (h >> np.uint64(29))
    return float(h >> np.uint64(11)) / 4503599627370496.0 - 1.0


@njit(cache=True)
def _oblique(point: np.ndarray, cell: float) -> tuple[float, float, float]:
    """Turn a point (2, 3 and 6 sevenths are cosines) and divide it by the cell's side."""
    x, y, z = point[0] / (7.0 * cell), point[1] / (7.0 * cell), point[2] / (7.0 * cell)
    return 2 * x + 3 * y + 6 * z, 3 * x - 6 * y + 2 * z, 6 * x + 2 * y - 3 * z


@njit(cache=True)
def lattice_noise(points: np.ndarray, cell: float, seed: int) -> np.ndarray:
    """Return noise [N] in -1 to 1 at points [N, 3], blended between random values on a lattice.

    Unlike `smooth_noise` it has no direction and no period, at any number of cells. cell: side of
    the lattice's cells, in the points' unit. The lattice is oblique to the axes.
    """
    out = np.empty(len(points))
    for n in range(len(points)):
        x, y, z = _oblique(points[n], cell)
        i, j, k = np.floor(x), np.floor(y), np.floor(z)
        fx, fy, fz = x - i, y - j, z - k
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        total = 0.0
        for a in range(2):
            for b in range(2):
                for c in range(2):
                    share = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                    total += share * _random(int(i) + a, int(j) + b, int(k) + c, seed)
        out[n] = total
    return out


@njit(cache=True)
def spot_distance(points: np.ndarray, cell: float, seed: int) -> np.ndarray:
    """Return the distance [N] to the nearest of random places, one a cell, in cells."""
    out = np.empty(len(points))
    for n in range(len(points)):
        x, y, z = _oblique(points[n], cell)
        i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        nearest = 9.0
        for a in range(i - 1, i + 2):
            for b in range(j - 1, j + 2):
                for c in range(k - 1, k + 2):
                    u = a + 0.5 + 0.5 * _random(a, b, c, seed) - x
                    v = b + 0.5 + 0.5 * _random(a, b, c, seed + 1) - y
                    w = c + 0.5 + 0.5 * _random(a, b, c, seed + 2) - z
                    nearest = min(nearest, u * u + v * v + w * w)
        out[n] = np.sqrt(nearest)
    return out
