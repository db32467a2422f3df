"""State of the cloth in any frame of a motion, whatever was shown before.

A take is simulated from its first frame, where the cloth is settled. So that a jump into a long
take costs a bounded number of steps, every `KEY_FRAMES` another run takes over, which settled
`WARM_UP_FRAMES` earlier. By then it has forgotten its start but for folds that fell otherwise, so
both runs are blended over `FADE_FRAMES`.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from ash_core.cloth.dynamics import Surroundings
from ash_core.cloth.solvers import Places, Solver

KEY_FRAMES = 1000
"""Frames of a take between runs."""
WARM_UP_FRAMES = 100
"""Frames that a run simulates before it takes over."""
FADE_FRAMES = 25
"""Frames over which one run takes over from the other."""
STORED_EVERY = 50
"""Frames between stored states, for jumps back and forth; a multiple of any solver's `ahead`."""
RECENT = 128
"""Frames whose places are kept for the windows that share them."""
CHUNKS = 3
"""Parts of a motion whose poses are kept, `STORED_EVERY` frames each."""

PoseInputs = Callable[[int, int], Sequence[Any]]
"""Makes the solver's inputs of the frames from the first to before the second."""


class ClothTrack:
    """Cloth over a motion. Frames may be asked for in any order; forward is fast."""

    def __init__(
        self,
        solver: Solver,
        poses: PoseInputs,
        first_frames: Sequence[int],
        fps: float,
        around: Surroundings | None = None,
    ) -> None:
        """first_frames: first frame of the take of each frame (geometry.motion.first_frames)."""
        self.solver, self.fps, self.around = solver, fps, around
        self._poses, self._first_frames = poses, first_frames
        self._runs: dict[int, _Run] = {}
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._chunks: OrderedDict[int, Sequence[Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._first_frames)

    def state(self, frame: int) -> Any:
        """Return the solver's state in a frame, e.g. to go on live from it."""
        assert 0 <= frame < len(self), frame
        take, (key, *earlier) = self._first_frames[frame], self._keys(frame)
        state = self._run(take, key).state(frame)
        for one in earlier:
            other, share = self._run(take, one).state(frame), _faded(frame, key)
            state = replace(
                state,
                places=_blend(other.places, state.places, share),
                velocities=_blend(other.velocities, state.velocities, share),
            )
        return state

    def approach(self, frames: Sequence[int], steps: int) -> bool:
        """Take so many steps, or a few more, on the way to frames; True once `places` has them all.

        A step is what a solver plays at once: a frame on the CPU.
        """
        for frame in sorted({*frames} - self._recent.keys()):
            for key in self._keys(frame):
                run = self._run(self._first_frames[frame], key)
                while not run.has(frame):
                    if steps <= 0:
                        return False
                    run.play_towards(frame)
                    steps -= 1
            self.places([frame])
        return True

    def places(self, frames: Sequence[int]) -> Places:
        """Collect points and linings in some frames, m."""
        for frame in sorted({*frames}):
            if frame not in self._recent:
                self._recent[frame] = self._shown(frame)
            self._recent.move_to_end(frame)
        chosen = np.stack([self._recent[frame] for frame in frames])
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return chosen

    def inputs(self, first: int, last: int) -> list[Any]:
        """Pose frames from the first to the last; their neighbours are posed with them."""
        return [self._posed(frame) for frame in range(first, last + 1)]

    def last_frame(self, frame: int) -> int:
        """Find the last frame of a frame's take."""
        take = self._first_frames[frame]
        while frame + 1 < len(self) and self._first_frames[frame + 1] == take:
            frame += 1
        return frame

    def _posed(self, frame: int) -> Any:
        first = frame - frame % STORED_EVERY
        if first not in self._chunks:
            self._chunks[first] = self._poses(first, min(first + STORED_EVERY, len(self)))
            while len(self._chunks) > CHUNKS:
                self._chunks.popitem(last=False)
        self._chunks.move_to_end(first)
        return self._chunks[first][frame - first]

    def _shown(self, frame: int) -> Float32[np.ndarray, "W 3"]:
        assert 0 <= frame < len(self), frame
        take, (key, *earlier) = self._first_frames[frame], self._keys(frame)
        places = self._run(take, key).shown(frame)
        for one in earlier:
            places = _blend(self._run(take, one).shown(frame), places, _faded(frame, key))
        self._prepare(take, key + KEY_FRAMES, frame)
        return places

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
            if frame - self.solver.ahead <= run.now < frame:
                run.play_towards(frame)


class _Run:
    """Simulation from one start on, in parts that end where states are stored or in between."""

    def __init__(self, track: ClothTrack, first: int) -> None:
        self.now = first - 1
        """Last frame that was played, most lately."""
        self._track, self._first, self._last = track, first, track.last_frame(first)
        self._state: Any = None
        self._stored: dict[int, Any] = {}
        self._shown: OrderedDict[int, np.ndarray] = OrderedDict()
        self._coming: dict[int, Callable[[], Places]] = {}
        """Functions that wait for the places of parts not yet collected, by their first frames."""

    def has(self, frame: int) -> bool:
        """Tell whether a frame is played, or will be without further steps."""
        return frame in self._shown or self._part_of(frame) in self._coming

    def shown(self, frame: int) -> Float32[np.ndarray, "W 3"]:
        """Return the places in a frame."""
        while frame not in self._shown:
            part = self._part_of(frame)
            if part not in self._coming:
                self.play_towards(frame)
                continue
            for number, places in enumerate(self._coming.pop(part)()):
                self._shown[part + number] = places
            while len(self._shown) > RECENT + self._track.solver.ahead:
                self._shown.popitem(last=False)
            # A solver that plays many frames at once goes on with the next while these are shown.
            ahead = self._track.solver.ahead
            if ahead > 1 and self.now < self._last and self.now < part + 2 * ahead:
                self._play()
        return self._shown[frame]

    def state(self, frame: int) -> Any:
        """Return the state in a frame."""
        start = self._latest(frame)
        state = self._state if start == self.now and start >= self._first else None
        state = self._stored.get(start, state)
        if start == frame and state is not None:
            return state
        track = self._track
        poses = track.inputs(self._first if state is None else start + 1, frame)
        return track.solver.play(state, poses, 1.0 / track.fps, track.around)[0]

    def play_towards(self, frame: int) -> None:
        """Play the next part on the way to a frame, from the nearest state before it."""
        start = self._latest(self._part_of(frame) - 1)
        if start != self.now:
            self.now, self._state = start, self._stored.get(start)
        self._play()

    def _play(self) -> None:
        track, first = self._track, self.now + 1
        self.now = min(first + track.solver.ahead - 1, self._last)
        if self._state is None:  # the first frame is settled in, and counts for itself
            self.now = first = self._first
        poses = track.inputs(first, self.now)
        self._state, places = track.solver.play(self._state, poses, 1.0 / track.fps, track.around)
        self._coming[first] = places
        if len(self._coming) > RECENT:  # parts that were only passed on the way to a frame
            del self._coming[next(iter(self._coming))]
        if (self.now - self._first) % STORED_EVERY == 0:
            self._stored[self.now] = self._state

    def _part_of(self, frame: int) -> int:
        """Find the first frame of a frame's part."""
        ahead = self._track.solver.ahead
        away = frame - self._first
        return frame if away == 0 else self._first + (away - 1) // ahead * ahead + 1

    def _latest(self, frame: int) -> int:
        """Find the last frame until one whose state is known, or the one before the first."""
        frames = [k for k in self._stored if k <= frame]
        if self._state is not None and self.now <= frame:
            frames.append(self.now)
        return max(frames, default=self._first - 1)


def _faded(frame: int, key: int) -> float:
    """Compute the share of a new run in what is shown."""
    return (frame - key + 1) / (FADE_FRAMES + 1)


def _blend(one: Any, other: Any, share: float) -> Any:
    return one + share * (other - one)
