"""Playback of a motion: which frame is due now, by the wall clock and never by the frame rate."""

import math
from collections.abc import Callable
from typing import NamedTuple

from ash_core.scene.playback import SPEEDS, LoopMode


class Place(NamedTuple):
    """Place in a motion: its in and out points, and the frame that is due."""

    first: int
    last: int
    frame: int


class Clock:
    """The playhead of one motion.

    Every frame is due for one frame's time: frame k while the position is in [k, k + 1), on
    ping-pong's way back in (k - 1, k]. A playhead put outside the in and out points plays on from
    there: up to the in point, from behind the out point to the motion's end (ping-pong: back).
    """

    def __init__(self, fps: float, frames: int, changed: Callable[[], None] = lambda: None) -> None:
        """changed: called whenever another frame is due, by playing or by any method."""
        self._changed = changed
        self._announced: int | None = None
        self._speed = 1.0
        self._loop: LoopMode = "loop"
        self._playing = False
        self.set_motion(fps, frames)

    def set_motion(self, fps: float, frames: int, place: Place | None = None) -> None:
        """Another motion: from its first frame, all of it; playing, speed and loop mode stay.

        place: where it stood before, as far as the motion still has these frames.
        """
        assert 0 < fps < math.inf, fps
        assert frames > 0, frames
        self.fps = float(fps)
        self.frames = frames
        self.dropped = 0
        """Frames that were due but never shown, since the last `play`."""
        first, last, frame = place or Place(0, frames - 1, 0)
        self._first, self._last = min(first, frames - 1), min(last, frames - 1)
        self._position = float(min(frame, frames - 1))
        self._direction = 1
        self._backwards = False
        self._ticked_s: float | None = None
        """When the position was right; None: at the next tick, whenever that is."""
        self._shown = 0
        self._announce()

    @property
    def position(self) -> float:
        """Place in the motion, frames."""
        return self._position

    @property
    def frame(self) -> int:
        """The frame that is due."""
        grows = (self._direction > 0) != self._backwards
        place = math.floor(self._position) if grows else math.ceil(self._position)
        return min(max(place, 0), self.frames - 1)

    @property
    def place(self) -> Place:
        """Present place; given to `set_motion` it restores the playhead."""
        return Place(self._first, self._last, self.frame)

    @property
    def time_s(self) -> float:
        """When the frame is in the motion, s."""
        return self.frame / self.fps

    @property
    def playing(self) -> bool:
        return self._playing

    @property
    def speed(self) -> float:
        """Times the motion's own speed."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._speed = min(max(float(speed), SPEEDS[0]), SPEEDS[1])

    @property
    def loop(self) -> LoopMode:
        """Behaviour at the out point."""
        return self._loop

    @loop.setter
    def loop(self, loop: LoopMode) -> None:
        self._loop = loop
        if loop != "ping-pong":
            self._direction = 1
        self._announce()

    @property
    def first(self) -> int:
        """First frame that plays: the in point."""
        return self._first

    @first.setter
    def first(self, frame: int) -> None:
        self._first = min(max(int(frame), 0), self._last)

    @property
    def last(self) -> int:
        """Last frame that plays: the out point."""
        return self._last

    @last.setter
    def last(self, frame: int) -> None:
        self._last = min(max(int(frame), self._first), self.frames - 1)
        if self._playing and self.frame > self._last:
            self.seek(self._first if self._loop == "loop" else self._last)

    @property
    def backwards(self) -> bool:
        """True if it plays, or last played, from the out point to the in point."""
        return self._backwards

    def play(self, now_s: float | None = None, backwards: bool = False) -> None:
        """Start, or turn about; "once" that stands at its end starts at the other end again.

        now_s: None counts from the next tick on.
        """
        if self._playing and backwards == self._backwards:
            return
        if backwards != self._backwards:
            self._position = float(self.frame)
            self._backwards, self._direction = backwards, 1
        start, end, very_end = self._first, self._last, self.frames - 1
        if backwards:
            start, end, very_end = self._last, self._first, 0
        if self._loop == "once" and self.frame in (end, very_end):
            self._position = float(start)
        self._playing = True
        self._ticked_s = now_s
        self.dropped = 0
        self._announce()

    def pause(self) -> None:
        self._playing = False

    def toggle(self, now_s: float) -> None:
        if self._playing:
            self.pause()
        else:
            self.play(now_s)

    def tick(self, now_s: float) -> bool:
        """Bring the playhead to now; whether another frame is due than at the last tick."""
        if self._playing:
            since = now_s if self._ticked_s is None else self._ticked_s
            self._advance(max(0.0, now_s - since) * self.fps * self._speed)
        self._ticked_s = now_s
        changed = self.frame != self._shown
        self._shown = self.frame
        self._announce()
        return changed

    def seek(self, frame: int) -> None:
        """Put the playhead on a frame of the motion; if playing, it goes on from there."""
        self._position = float(min(max(int(frame), 0), self.frames - 1))
        self._ticked_s = None
        self._announce()

    def step(self, frames: int) -> None:
        """Pause, some frames further (or back, if negative)."""
        self.pause()
        self.seek(self.frame + frames)

    def go_to_first(self) -> None:
        """To the in point."""
        self.seek(self._first)

    def go_to_last(self) -> None:
        """To the out point."""
        self.seek(self._last)

    def _announce(self) -> None:
        """Report that another frame is due, where that is so."""
        if self.frame != self._announced:
            self._announced = self.frame
            self._changed()

    def _advance(self, distance: float) -> None:
        """Play on by a number of frames (time, not places: a way back counts as well)."""
        if not self._backwards:
            self._advance_forwards(distance)
            return
        self._mirror()  # backwards is forwards in a mirror
        self._advance_forwards(distance)
        is_inside = self._first <= self.frame <= self._last
        self._mirror()
        if is_inside and self.frame < self._first:  # rounded onto the frame beyond the in point
            self._position = math.nextafter(self._position, math.inf)

    def _mirror(self) -> None:
        end = self.frames - 1
        self._position = end - self._position
        self._first, self._last = end - self._last, end - self._first
        self._backwards = not self._backwards

    def _advance_forwards(self, distance: float) -> None:
        if self._loop == "once":
            end = self._last if self.frame <= self._last else self.frames - 1
            rest = max(0.0, end - self._position)
            if distance >= rest:
                distance = rest
                self._playing = False
        if self._loop == "ping-pong" and self._position > self._last:
            self._direction = -1
        elif self._position < self._first:
            self._direction = 1
        # Frames change where the playhead's way, measured forwards, passes whole numbers.
        way = self._direction * self._position
        self.dropped += max(0, math.floor(way + distance) - math.floor(way) - 1)
        if self._loop == "loop":
            self._wrap(distance)
        elif self._loop == "ping-pong":
            self._bounce(distance)
        else:
            self._position += distance

    def _wrap(self, distance: float) -> None:
        end = self._last + 1 if self._position < self._last + 1 else self.frames
        self._position += distance
        if self._position >= end:
            over = (self._position - end) % (self._last + 1 - self._first)
            self._position = min(self._first + over, math.nextafter(self._last + 1, 0))

    def _bounce(self, distance: float) -> None:
        outside = max(self._position - self._last, self._first - self._position, 0.0)
        if distance <= outside:
            self._position += self._direction * distance
            return
        span = self._last - self._first
        if span == 0:
            self._position, self._direction = float(self._first), 1
            return
        inside = min(max(self._position, self._first), self._last) - self._first
        phase = inside if self._direction > 0 else 2 * span - inside
        phase = (phase + distance - outside) % (2 * span)
        self._direction = 1 if phase < span else -1
        self._position = self._first + (phase if phase < span else 2 * span - phase)
