"""Playback of the chosen motion: kept in a session file, followed by a clock."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from ash_core.errors import InputError
from ash_core.files.io import show
from ash_core.scene.scene_file import check_choice
from ash_core.scene.view import checked_frame, checked_number

LoopMode = Literal["loop", "once", "ping-pong"]

LOOPS: Final[tuple[LoopMode, ...]] = get_args(LoopMode)
SPEEDS: Final = (0.1, 4.0)
"""Slowest and fastest playback, times the motion's own speed."""


@dataclass(frozen=True)
class Playback:
    """Playhead, in and out points, speed and loop mode of the chosen motion."""

    frame: int = 0
    first: int = 0
    """First frame that plays and is recorded, the in point."""
    last: int = 0
    """Last frame that plays and is recorded, the out point."""
    speed: float = 1.0
    """Times the motion's own speed."""
    loop: LoopMode = "loop"

    def within(self, frames: int) -> "Playback":
        """Clamp frame, in and out points to a motion of some frames."""
        first = min(max(self.first, 0), frames - 1)
        last = min(max(self.last, first), frames - 1)
        return replace(self, frame=min(max(self.frame, 0), frames - 1), first=first, last=last)

    def as_json(self) -> dict[str, Any]:
        """Convert to the fields of a session file."""
        return {
            "frame": self.frame,
            "range": [self.first, self.last],
            "speed": self.speed,
            "loop": self.loop,
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Playback":
        """Read the fields of a session file. Raises: InputError."""
        if len(content["range"]) != 2:
            raise InputError(
                f"range: expected a first and a last frame, got {show(str(content['range']))}"
            )
        first, last = (checked_frame(frame, "range") for frame in content["range"])
        check_choice("loop", content["loop"], LOOPS)
        speed = checked_number(content["speed"], "speed", SPEEDS)
        frame = checked_frame(content["frame"], "frame")
        return Playback(frame, first, last, speed, content["loop"])
