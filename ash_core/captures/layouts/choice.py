"""Part of a capture that the flags of `import capture` choose."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Choice:
    """Frames, cameras and files that a reader takes instead of all that the folder holds."""

    frames: str = ":"
    """`--frames`: N or START:STOP:STEP over the capture's frames, counted from 0."""
    cameras: str | None = None
    """`--cameras`: names or indices with commas between; None: all."""
    poses: Path | None = None
    """`--poses`: pose file instead of the capture's own."""
