"""Cloth that goes on from any state: sliders, drags, mocap, at any frame rate."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from ash_core.cloth.dynamics import Surroundings
from ash_core.cloth.solvers import Solver

LEAST_S = 1e-4
"""Time of a change that takes none: the cloth is carried along with the pose."""
PULL_M = 0.5
"""Greatest distance at which a grabbed point is pulled; a place farther off pulls no harder."""


class LiveCloth:
    """State of the cloth now, and its places over the last moments."""

    def __init__(self, solver: Solver, reach_s: float) -> None:
        """reach_s: time that the history spans, s."""
        self.solver, self.reach_s = solver, reach_s
        self.state: Any = None
        self._shown: deque[tuple[float, np.ndarray]] = deque()

    def begin(
        self, state: Any, times_s: Sequence[float], places: Float32[np.ndarray, "n W 3"]
    ) -> None:
        """Begin from the solver's state, e.g. of a track. times_s, places: until now."""
        self.state, self._shown = state, deque(zip(times_s, places, strict=True))

    def settle(self, inputs: Any, time_s: float, around: Surroundings | None = None) -> None:
        """Begin at rest in a pose, as if it had been held for ever."""
        state, places = self.solver.play(None, [inputs], LEAST_S, around)
        self.begin(state, [time_s], places())

    def push(self, inputs: Any, time_s: float, around: Surroundings | None = None) -> None:
        """Advance to a pose and its time. An earlier time than the last settles the cloth anew."""
        if self.state is None or time_s < self._shown[-1][0]:
            self.settle(inputs, time_s, around)
            return
        seconds = max(time_s - self._shown[-1][0], LEAST_S)
        around = self._within_reach(around)
        self.state, places = self.solver.play(self.state, [inputs], seconds, around)
        self._shown.append((time_s, places()[0]))
        # One sample before the oldest time stays: places are interpolated.
        while len(self._shown) > 2 and self._shown[1][0] <= time_s - self.reach_s:
            self._shown.popleft()

    def places(self, seconds_ago: Sequence[float]) -> Float32[np.ndarray, "n W 3"]:
        """Interpolate points and linings some time ago; before the first push they stood."""
        now = self._shown[-1][0]
        return np.stack([self._at(now - ago) for ago in seconds_ago])

    def _within_reach(self, around: Surroundings | None) -> Surroundings | None:
        """Bring the place to which a grabbed point is pulled within `PULL_M`."""
        if around is None or around.grab is None:
            return around
        point, place = around.grab
        now = self._shown[-1][1][point].astype(np.float64)
        way = np.array(place) - now
        near = now + way * min(1.0, PULL_M / max(float(np.linalg.norm(way)), 1e-9))
        x, y, z = near.tolist()
        return replace(around, grab=(point, (x, y, z)))

    def _at(self, time_s: float) -> np.ndarray:
        later_s, later = self._shown[-1]
        for earlier_s, earlier in reversed(self._shown):
            if earlier_s <= time_s:
                span = later_s - earlier_s
                share = np.float32((time_s - earlier_s) / span if span > 0.0 else 0.0)
                return earlier + share * (later - earlier)
            later_s, later = earlier_s, earlier
        return later
