"""The two variants of an avatar, side by side: every constant in which they differ.

`native` is our own decoder; `released` is the published networks with the published code's
behaviours. What differs in code rather than in a constant is a method of `avatar.NativeAvatar` and
`avatar.ReleasedAvatar`; the defaults of a training are a table in `training.config`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ash_core.conventions import FPS

VariantName = Literal["native", "released"]


@dataclass(frozen=True)
class HistoryOffsets:
    """The pose history that a decoder sees: how many frames earlier each of its poses is."""

    frames: tuple[int, ...]
    """Newest first: 0, then increasing."""
    fps: float | None = FPS
    """Frame rate of the offsets, Hz: the history spans the same time in a motion of any rate, and
    ends at a cut. None counts the motion's own frames, blind to rate and cuts, and does not
    normalise a motion's first two poses. Source for None: docs/released_behaviour.md A4, A5."""


@dataclass(frozen=True)
class Variant:
    """Constants of one variant."""

    name: VariantName
    history_offsets: HistoryOffsets
    """Pose history of a new avatar, and of files that do not store theirs."""
    required_networks: tuple[str, ...]
    """State dictionaries without which an avatar file is incomplete."""
    atlas_step: int
    """The texels along an atlas' side are a multiple of this."""
    has_presets: bool
    """Atlas and decoder are a preset's until a decoder is trained."""
    uses_published_atlas: bool
    """Texels are corner points, not centres. Source: docs/released_behaviour.md A13."""
    uses_published_references: bool
    """Signs of blended links follow an unrelated node. Source: docs/released_behaviour.md A7."""
    truncates_bytes: bool
    """Colours are truncated to bytes, not rounded. Source: docs/released_behaviour.md A19."""
    white: float
    """Byte of a photograph that stands for 1. Source: docs/released_behaviour.md A20."""
    adam_betas: tuple[float, float]
    follows_configuration: bool
    """A published .conf decides on a training's background and atlas, and its schedule fits."""


NATIVE: Final = Variant(
    name="native",
    history_offsets=HistoryOffsets((0, 4, 8, 16, 32)),  # cloth may swing for a second
    required_networks=(),
    atlas_step=1,
    has_presets=True,
    uses_published_atlas=False,
    uses_published_references=False,
    truncates_bytes=False,
    white=255.0,
    adam_betas=(0.9, 0.99),
    follows_configuration=False,
)
RELEASED: Final = Variant(
    name="released",
    history_offsets=HistoryOffsets((0, 1, 2), fps=None),
    required_networks=("unet_geometry", "unet_appearance"),
    atlas_step=16,  # the U-Nets halve it four times
    has_presets=False,
    uses_published_atlas=True,
    uses_published_references=True,
    truncates_bytes=True,
    white=256.0,
    adam_betas=(0.9, 0.999),
    follows_configuration=True,
)
VARIANTS: Final[Mapping[VariantName, Variant]] = {kind.name: kind for kind in (NATIVE, RELEASED)}
MAX_HISTORY_FRAMES: Final = 1000
"""Greatest history offset, frames."""
MAX_HISTORY_FPS: Final = 1000.0
"""Greatest frame rate of history offsets, Hz."""


def variant_of(networks: Collection[str]) -> Variant:
    """Choose the variant of an imported character by the networks that came with it."""
    return RELEASED if {*RELEASED.required_networks} <= {*networks} else NATIVE
