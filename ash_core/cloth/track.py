"""State of the cloth in any frame of a motion, whatever was shown before.

A take is simulated from its first frame, where the cloth is settled. So that a jump into a long
take costs a bounded number of steps, every `KEY_FRAMES` another run takes over, which settled
`WARM_UP_FRAMES` earlier. By then it has forgotten its start but for folds that fell otherwise, so
both runs are blended over `FADE_FRAMES`.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from ash_core.cloth.dynamics import ClothInputs, ClothState, Surroundings, advance, settle
from ash_core.cloth.model import ClothModel

KEY_FRAMES = 1000
"""Frames of a take between runs."""
WARM_UP_FRAMES = 100
"""Frames that a run simulates before it takes over."""
FADE_FRAMES = 25
"""Frames over which one run takes over from the other."""
STORED_EVERY = 50
"""Frames between stored states, for jumps back and forth."""
RECENT = 128
"""Frames whose places are kept for the windows that share them."""

PoseInputs = Callable[[int, int], Sequence[ClothInputs]]
"""Makes the inputs of the frames from the first to before the second."""


class ClothTrack:
    """Cloth over a motion. Frames may be asked for in any order; forward is fast."""

    def __init__(
        self,
        model: ClothModel,
        poses: PoseInputs,
        first_frames: Sequence[int],
        fps: float,
        around: Surroundings | None = None,
    ) -> None:
        """first_frames: first frame of the take of each frame (geometry.motion.first_frames)."""
        self.model, self.fps, self.around = model, fps, around
        self._poses, self._first_frames = poses, first_frames
        self._runs: dict[int, _Run] = {}
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._chunk: tuple[int, Sequence[ClothInputs]] = (0, ())

    def __len__(self) -> int:
        return len(self._first_frames)

    def state(self, frame: int) -> ClothState:
        """Copy the state in a frame, e.g. to go on live from it."""
        assert 0 <= frame < len(self), frame
        take, (key, *earlier) = self._first_frames[frame], self._keys(frame)
        state = self._run(take, key).reach(frame).copy()
        for one in earlier:
            other, share = self._run(take, one).reach(frame), (frame - key + 1) / (FADE_FRAMES + 1)
            state.places = _blend(other.places, state.places, share)
            state.velocities = _blend(other.velocities, state.velocities, share)
        self._prepare(take, key + KEY_FRAMES, frame)
        return state

    def approach(self, frames: Sequence[int], steps: int) -> bool:
        """Simulate at most so many frames on the way to others; True once `places` has them all."""
        for frame in sorted({*frames} - self._recent.keys()):
            for key in self._keys(frame):
                run = self._run(self._first_frames[frame], key)
                way = frame - run.start(frame)
                run.reach(frame - max(way - steps, 0))
                if way > steps:
                    return False
                steps -= way
            self.places([frame])
        return True

    def places(self, frames: Sequence[int]) -> Float32[np.ndarray, "n P 3"]:
        """Collect the points of some frames, m."""
        for frame in sorted({*frames}):
            if frame not in self._recent:
                self._recent[frame] = self.state(frame).shown(self.model)
            self._recent.move_to_end(frame)
        chosen = np.stack([self._recent[frame] for frame in frames])
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return chosen

    def inputs(self, frame: int) -> ClothInputs:
        """Pose a frame; its neighbours are posed with it."""
        first, inputs = self._chunk
        if not first <= frame < first + len(inputs):
            first = frame - frame % STORED_EVERY
            inputs = self._poses(first, min(first + STORED_EVERY, len(self)))
            self._chunk = first, inputs
        return inputs[frame - first]

    def _keys(self, frame: int) -> tuple[int, ...]:
        """List the starts of the runs that show a frame: one, and the one that it fades in over."""
        take = self._first_frames[frame]
        key = frame - (frame - take) % KEY_FRAMES
        fades = key > take and frame - key < FADE_FRAMES
        return (key, key - KEY_FRAMES) if fades else (key,)

    def _run(self, take: int, key: int) -> "_Run":
        if key not in self._runs:
            self._runs[key] = _Run(self, key if key == take else key - WARM_UP_FRAMES)
        return self._runs[key]

    def _prepare(self, take: int, key: int, frame: int) -> None:
        """Let the next run keep pace while a motion plays, so that it takes over without a wait."""
        if key < len(self) and self._first_frames[key] == take and frame >= key - WARM_UP_FRAMES:
            run = self._run(take, key)
            if run.now == frame - 1:
                run.reach(frame)


class _Run:
    """Simulation from one start on."""

    def __init__(self, track: ClothTrack, first: int) -> None:
        self.now = first - 1
        self._track, self._first = track, first
        self._state: ClothState | None = None
        self._stored: dict[int, ClothState] = {}

    def reach(self, frame: int) -> ClothState:
        """Advance to a frame from the nearest earlier state; not to be changed."""
        track = self._track
        if self._state is None or self.now != self.start(frame):
            self.now = self.start(frame)
            if self.now not in self._stored:
                inputs = track.inputs(self.now)
                self._stored[self.now] = settle(track.model, inputs, track.around)
            self._state = self._stored[self.now].copy()
        while self.now < frame:
            self.now += 1
            inputs = track.inputs(self.now)
            advance(track.model, self._state, inputs, 1.0 / track.fps, track.around)
            if (self.now - self._first) % STORED_EVERY == 0:
                self._stored[self.now] = self._state.copy()
        return self._state

    def start(self, frame: int) -> int:
        """Find where the way to a frame starts: at the present one, or at one that is stored."""
        stored = self._latest(frame)
        return self.now if self._state is not None and stored <= self.now <= frame else stored

    def _latest(self, frame: int) -> int:
        """Find the last frame until one whose state is stored, or the first."""
        steps = (frame - self._first) // STORED_EVERY
        stored = (self._first + k * STORED_EVERY for k in range(steps, 0, -1))
        return next((k for k in stored if k in self._stored), self._first)


def _blend(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return one + np.float32(share) * (other - one)
