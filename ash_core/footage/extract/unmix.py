"""Recovery of the person's own colours at partly covered pixels, which a video mixes with the
backdrop's."""

from typing import Final

import numba
import numpy as np
from jaxtyping import UInt8

REACH_PX: Final = 4
"""Radius of the neighbours that sample a mixed pixel's two colours; even, as chroma is halved."""
RED, BLUE = np.float32(0.2126), np.float32(0.0722)
"""Shares of luma. Source: ITU-R BT.709. Any would do: a mixture stays one in all of them."""


@numba.njit(cache=True, nogil=True)
def _unmix(observed, shares, out):  # type: ignore[no-untyped-def]
    """Recover the person's colours in place of `out`.

    observed: [h, w, 3] luma, blue and red less luma.  shares: [h, w, 2] the person's in luma and in
    chroma.
    """
    height, width = observed.shape[:2]
    one = np.float32(1)
    person, backdrop, colour = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3)
    inner, outer = np.zeros(2, np.float32), np.zeros(2, np.float32)
    for row in range(height):
        for column in range(width):
            # Skip pixels that are entirely the person or the backdrop.
            own = shares[row, column]
            if own[0] == 0 or (own[0] == 1 and own[1] == 1):
                continue
            # Estimate the two colours nearby, as means that nearly leave out mixed pixels.
            person[:], backdrop[:], inner[:], outer[:] = 0, 0, 0, 0
            for y in range(max(row - REACH_PX, 0), min(row + REACH_PX + 1, height)):
                for x in range(max(column - REACH_PX, 0), min(column + REACH_PX + 1, width)):
                    for n in range(2):
                        a = shares[y, x, n]
                        inner[n] += (a * a) * (a * a)
                        outer[n] += ((one - a) * (one - a)) * ((one - a) * (one - a))
                    for c in range(3):
                        a = shares[y, x, min(c, 1)]
                        person[c] += (a * a) * (a * a) * observed[y, x, c]
                        backdrop[c] += (
                            ((one - a) * (one - a)) * ((one - a) * (one - a)) * observed[y, x, c]
                        )
            # Attribute the difference to their mixture to the person, by its share.
            for c in range(3):
                n = min(c, 1)
                a, least = own[n], np.float32(1e-12)
                mean, under = person[c] / max(inner[n], least), backdrop[c] / max(outer[n], least)
                colour[c] = mean + a * (observed[row, column, c] - a * mean - (one - a) * under)
            # Convert back to RGB bytes.
            red, blue = colour[0] + colour[2], colour[0] + colour[1]
            green = (colour[0] - RED * red - BLUE * blue) / (one - RED - BLUE)
            out[row, column, 0] = np.uint8(min(max(red, 0), 255) + 0.5)
            out[row, column, 1] = np.uint8(min(max(green, 0), 255) + 0.5)
            out[row, column, 2] = np.uint8(min(max(blue, 0), 255) + 0.5)


def unmix(
    rgba: UInt8[np.ndarray, "h w 4"], alpha: UInt8[np.ndarray, "h w"], halved: bool
) -> UInt8[np.ndarray, "h w 4"]:
    """Return the image with the person's own colours at partly covered pixels.

    halved: four pixels share one chroma, as in most videos, and the image begins at such four: then
    wholly covered pixels show the backdrop's chroma too. Source: Forte 2021, "Approximate Fast
    Foreground Colour Estimation". Differs: weights are fourth powers, which leaves mixed pixels out
    of the means.
    """
    rgb = rgba[..., :3].astype(np.float32)
    luma = RED * rgb[..., 0] + (1 - RED - BLUE) * rgb[..., 1] + BLUE * rgb[..., 2]
    observed = np.stack((luma, rgb[..., 2] - luma, rgb[..., 0] - luma), -1)
    share = alpha.astype(np.float32) / 255
    coarse = share
    if halved:
        height, width = alpha.shape
        padded = np.pad(share, ((0, height % 2), (0, width % 2)), mode="edge")
        fours = padded.reshape(padded.shape[0] // 2, 2, -1, 2).mean((1, 3))
        coarse = fours.repeat(2, 0).repeat(2, 1)[:height, :width]
    out = rgba.copy()
    _unmix(observed, np.stack((share, coarse), -1), out)
    return out
