"""A rendered frame as bytes."""

from dataclasses import dataclass

from ash_core.files.video import Pixels


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame, as `ash-studio render` writes it."""

    pixels: Pixels
    """[h, w, 3] RGB, or [h, w, 4] straight RGBA where the background is transparent; uint8."""

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]
