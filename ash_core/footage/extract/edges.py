"""Rims of masks: their softness, and their excess beyond the person."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ash_core.footage.extract.masks import THRESHOLD, Box, box_of

MOST_ERODED: Final = 0.008
"""Upper bound on erosion, as a share of the person's height: 6 px of 760."""
NEAR_PX: Final = 6
"""Width of the rings that sample the colours on both sides of the rim."""
LEAST_CONTRAST: Final = 40.0
"""Smallest contrast of both colours, bytes, at which a pixel of the rim is measurable."""
LEAST_PIXELS: Final = 50
"""Smallest number of measurable pixels of the rim for an erosion."""
LEAST_SHARE: Final = 0.2
"""Share of the person in the colours of the rim below which its outermost pixel is backdrop. Exact
masks have 0.56 to 0.61, the second pixel of a mask one or two pixels too wide 0.25 to 0.42."""
SOFT_RIM_PX: Final = 0.5
"""Partly covered pixels per pixel of outline from which a mask is soft."""


@dataclass(frozen=True)
class Edge:
    """Softness and excess width of masks."""

    rim_px: float
    """Partly covered pixels per pixel of outline: 0 for hard masks, about 1 for exact soft ones."""
    erode_px: int
    """Distance that the masks reach beyond the person, px."""

    @property
    def is_soft(self) -> bool:
        """Return whether the masks' rims have partly covered pixels."""
        return self.rim_px >= SOFT_RIM_PX

    @property
    def side(self) -> int:
        """Return the side of the square that removes the excess width, px; 0: none."""
        return 2 * self.erode_px + 1 if self.erode_px else 0


def measure_edge(
    pictures: Iterable[tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]],
) -> Edge:
    """Measure the rims of some images and their masks (alpha)."""
    part_px, outline_px, height = 0, 0, 0
    rims: list[tuple[np.ndarray, np.ndarray]] = []
    for picture, alpha in pictures:
        core = alpha >= THRESHOLD
        box = box_of(core)
        if box is None:
            continue
        part_px += int(((alpha > 0) & (alpha < 255)).sum())
        outline_px += _outline(core)
        height = max(height, box.bottom - box.top)
        rims.append(_rim(picture, core, box))
    if not outline_px:
        return Edge(0.0, 0)
    depths, shares = (np.concatenate([rim[n] for rim in rims]) for n in range(2))
    most, erode = round(MOST_ERODED * height), 0
    while erode < most:
        rim_shares = shares[depths == erode]
        if len(rim_shares) < LEAST_PIXELS or np.median(rim_shares) >= LEAST_SHARE:
            break
        erode += 1
    return Edge(part_px / outline_px, erode)


def _outline(core: Bool[np.ndarray, "h w"]) -> int:
    """Count the pixels of a mask that touch its background."""
    inside = core.copy()
    inside[1:] &= core[:-1]
    inside[:-1] &= core[1:]
    inside[:, 1:] &= core[:, :-1]
    inside[:, :-1] &= core[:, 1:]
    return int(core.sum() - inside.sum())


def _rim(
    picture: UInt8[np.ndarray, "h w 3"], core: Bool[np.ndarray, "h w"], box: Box
) -> tuple[np.ndarray, Float[np.ndarray, "n"]]:
    """Return depth (0: outermost) and share of the person's colour of the rim's pixels.

    The colours on both sides are means over rings: deep inside, and beyond the rim.
    """
    from scipy import ndimage

    reach = max(round(MOST_ERODED * (box.bottom - box.top)), 1)
    margin = 3 * NEAR_PX
    rows = slice(max(box.top - margin, 0), box.bottom + margin)
    columns = slice(max(box.left - margin, 0), box.right + margin)
    core, colours = core[rows, columns], picture[rows, columns].astype(np.float32)

    # Distances in pixels; the outermost pixel of the mask has depth 0.
    depth = np.asarray(ndimage.distance_transform_edt(core))
    beyond = np.asarray(ndimage.distance_transform_edt(~core))
    rings = (
        (depth > reach + 1) & (depth <= reach + 1 + NEAR_PX),
        (beyond > 2) & (beyond <= 2 + NEAR_PX),
    )
    side = 2 * (reach + NEAR_PX) + 1
    person, backdrop = (_mean_near(colours, ring, side) for ring in rings)

    # The person's share of a pixel's colour, where the contrast is sufficient.
    apart = person - backdrop
    contrast = (apart**2).sum(-1)
    rim = core & (depth <= reach + 1) & (contrast > LEAST_CONTRAST**2)
    along = ((colours - backdrop) * apart).sum(-1)
    return np.ceil(depth[rim]).astype(int) - 1, along[rim] / contrast[rim]


def _mean_near(
    colours: Float[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"], side: int
) -> Float[np.ndarray, "h w 3"]:
    """Return the mean colour of the selected pixels near each pixel; NaN without any."""
    from scipy import ndimage

    weight = ndimage.uniform_filter(where.astype(np.float32), side)
    sums = np.stack(
        [ndimage.uniform_filter(c * where, side) for c in np.moveaxis(colours, -1, 0)], -1
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / weight[..., None]
    means[weight < 1 / side**2] = np.nan
    return means
