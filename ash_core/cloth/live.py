"""Cloth that goes on from any state: sliders, drags, mocap, at any frame rate."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from ash_core.cloth.dynamics import ClothInputs, ClothState, Surroundings, advance, settle
from ash_core.cloth.model import ClothModel


class LiveCloth:
    """State of the cloth now, and its places over the last moments."""

    def __init__(self, model: ClothModel, reach_s: float) -> None:
        """reach_s: time that the history spans, s."""
        self.model, self.reach_s = model, reach_s
        self.state: ClothState | None = None
        self._shown: deque[tuple[float, np.ndarray]] = deque()

    def begin(
        self,
        state: ClothState,
        time_s: float,
        earlier: Sequence[tuple[float, Float32[np.ndarray, "P 3"]]] = (),
    ) -> None:
        """Begin from a state, e.g. of a track. earlier: times and places before, oldest first."""
        self.state = state.copy()
        self._shown = deque(earlier)
        self._shown.append((time_s, self.state.shown(self.model)))

    def settle(
        self, inputs: ClothInputs, time_s: float, around: Surroundings | None = None
    ) -> None:
        """Begin at rest in a pose, as if it had been held for ever."""
        self.begin(settle(self.model, inputs, around), time_s)

    def push(self, inputs: ClothInputs, time_s: float, around: Surroundings | None = None) -> None:
        """Advance to a pose and its time. An earlier time than the last settles the cloth anew."""
        if self.state is None or time_s < self._shown[-1][0]:
            self.settle(inputs, time_s, around)
            return
        advance(self.model, self.state, inputs, time_s - self._shown[-1][0], around)
        self._shown.append((time_s, self.state.shown(self.model)))
        # One sample before the oldest time stays: places are interpolated.
        while len(self._shown) > 2 and self._shown[1][0] <= time_s - self.reach_s:
            self._shown.popleft()

    def places(self, seconds_ago: Sequence[float]) -> Float32[np.ndarray, "n P 3"]:
        """Interpolate the places at some times before the last push; before the first it stood."""
        now = self._shown[-1][0]
        return np.stack([self._at(now - ago) for ago in seconds_ago])

    def _at(self, time_s: float) -> np.ndarray:
        later_s, later = self._shown[-1]
        for earlier_s, earlier in reversed(self._shown):
            if earlier_s <= time_s:
                span = later_s - earlier_s
                share = np.float32((time_s - earlier_s) / span if span > 0.0 else 0.0)
                return earlier + share * (later - earlier)
            later_s, later = earlier_s, earlier
        return later
