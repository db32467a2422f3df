"""Protocol of what a `Renderer` draws: anything that gives Gaussians for a window of poses.

There are two kinds: an avatar (`ash_core.avatar.Avatar`), which decodes them from the poses, and
static splats, which have them from a file. A look is put on afterwards, for it needs the camera.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.records import Gaussians, PoseWindow, SplatData, to_device

Stage = Callable[[str], AbstractContextManager[object]]
"""Context of the part of a frame that its argument names: deform, maps, decode or assemble. A
renderer times it, a training lowers its precision."""


def no_stage(name: str) -> AbstractContextManager[None]:
    """Do nothing around a stage."""
    return nullcontext()


@dataclass(frozen=True)
class Decoded:
    """Gaussians of a window of poses, by the plain path."""

    gaussians: Gaussians
    raw: Float[Tensor, "N c"] | None = None
    """The networks' own numbers at each texel, which `Avatar.raw_channels` names; None of splats
    that no network makes."""


class Drawable(Protocol):
    """Gaussians for a window of poses: all that a `Renderer` needs to draw pictures."""

    @property
    def count(self) -> int:
        """Gaussians of a frame."""
        ...

    @property
    def device(self) -> torch.device:
        """Device on which the Gaussians are made."""
        ...

    @property
    def version(self) -> int:
        """Grows whenever the same window may give other Gaussians: cached ones are stale then."""
        ...

    @property
    def truncates_bytes(self) -> bool:
        """True if colours are cut off to bytes instead of rounded."""
        ...

    def to(self, device: torch.device, /) -> object:
        """Move in place to a device."""
        ...

    def decode_window(self, window: PoseWindow, stage: Stage = no_stage, /) -> Decoded:
        """Make the Gaussians of a window of poses, which is on the device; world frame."""
        ...


class StaticSplats:
    """Splats of a file: the same Gaussians for every window, for no pose moves them."""

    version = 0
    truncates_bytes = False

    def __init__(self, data: SplatData) -> None:
        self._decoded = Decoded(data.gaussians)

    @property
    def count(self) -> int:
        return len(self._decoded.gaussians.means)

    @property
    def device(self) -> torch.device:
        return self._decoded.gaussians.means.device

    def to(self, device: torch.device, /) -> None:
        self._decoded = Decoded(to_device(self._decoded.gaussians, device))

    def decode_window(self, window: PoseWindow, stage: Stage = no_stage, /) -> Decoded:
        return self._decoded
