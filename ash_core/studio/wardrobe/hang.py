"""Hanging cloth: rings around an axis that clear the surface beneath them."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

SLAB = 0.018
"""Half the height of the slice of body that a ring must clear, m."""
BINS = 96


@dataclass(frozen=True)
class Axis:
    """Line around which cloth hangs, and the direction in which it continues."""

    start: np.ndarray
    down: np.ndarray
    """Unit direction."""
    right: np.ndarray
    ahead: np.ndarray

    def seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Convert points to (angle, metres down, radius)."""
        offset = points - self.start
        x, z = offset @ self.right, offset @ self.ahead
        return np.arctan2(x, z), offset @ self.down, np.hypot(x, z)

    def place(self, angle: np.ndarray, down: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Convert (angle, metres down, radius) to points [n, 3]."""
        out = np.sin(angle)[:, None] * self.right + np.cos(angle)[:, None] * self.ahead
        return self.start + down[:, None] * self.down + radius[:, None] * out


def axis_of(start: np.ndarray, down: np.ndarray) -> Axis:
    """Make an axis. Angle 0 is ahead (+Z) for a hanging one."""
    down = down / np.linalg.norm(down)
    helper = np.array([0.0, 0.0, 1.0])
    ahead = helper - (helper @ down) * down
    ahead /= np.linalg.norm(ahead)
    return Axis(start, down, np.cross(ahead, down), ahead)


@dataclass(frozen=True)
class Cut:
    """Measures of a piece of hanging cloth."""

    length: float
    step: float
    """Distance from ring to ring, m."""
    ease: float
    """Gap between the cloth and the surface beneath, m."""
    flare: float = 0.0
    """Radius gained per metre."""
    folds: int = 0
    depth: float = 0.0
    """Number of standing folds at the hem, and their height, m."""
    level: bool = True
    """True if the rings become level with the axis; else they keep the cut's slant."""


def hang(points: np.ndarray, axis: Axis, cut: Cut, under: np.ndarray) -> np.ndarray:
    """Compute places [rings, n, 3] below a loop of points [n, 3]. under: points that must be
    inside."""
    angle, low, radius = axis.seen(points)
    turn = np.sign(np.angle(np.exp(1j * np.diff(angle))).sum())
    n = len(points)
    phase = np.angle(np.exp(1j * (angle - turn * 2 * np.pi * np.arange(n) / n)).mean())
    even = phase + turn * 2 * np.pi * np.arange(n) / n
    count = max(1, round(cut.length / cut.step))
    rings = []
    profile = _profile(angle, radius)
    for k in range(1, count + 1):
        t = k / count
        angles = angle + min(1.0, 2 * t) * 0.8 * np.angle(np.exp(1j * (even - angle)))
        base = low.mean() + (low - low.mean()) * (1 - min(1.0, 2 * t)) if cut.level else low
        down = base + cut.length * t
        girth = _girth(axis, under, float(down.mean()))
        profile = np.maximum(profile + cut.flare * cut.length / count, girth + cut.ease)
        profile = np.maximum(profile, gaussian_filter1d(profile, 3.0, mode="wrap"))
        size = _read(profile, angles)
        size = radius + (size - radius) * min(1.0, 0.4 + cut.length * t / 0.06)
        wave = 0.5 + 0.5 * np.cos(cut.folds * angles + 0.8 * np.sin(2 * angles))
        size = size + cut.depth * t**1.3 * (wave if cut.folds else 0.0)
        rings.append(axis.place(angles, down, size))
    return np.array(rings)


def _profile(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Resample the radius over evenly spaced angles [BINS]."""
    order = np.argsort(angle)
    grid = np.linspace(-np.pi, np.pi, BINS, endpoint=False)
    return np.interp(grid, angle[order], radius[order], period=2 * np.pi)


def _read(profile: np.ndarray, angle: np.ndarray) -> np.ndarray:
    grid = np.linspace(-np.pi, np.pi, BINS, endpoint=False)
    return np.interp(angle, grid, profile, period=2 * np.pi)


def _girth(axis: Axis, under: np.ndarray, down: float) -> np.ndarray:
    """Return the reach of the points beneath, in each direction, at a height: [BINS]."""
    angle, low, radius = axis.seen(under)
    near = np.abs(low - down) < SLAB
    reach = np.zeros(BINS)
    bins = np.floor((angle[near] + np.pi) / (2 * np.pi) * BINS).astype(int) % BINS
    np.maximum.at(reach, bins, radius[near])
    wide = np.maximum.reduce([np.roll(reach, k) for k in range(-4, 5)])
    return gaussian_filter1d(wide, 2.0, mode="wrap")
