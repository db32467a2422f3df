"""Unpack the splats of a .compressed.ply, the layout of PlayCanvas and SuperSplat.

Chunks of 256 splats share bounds; a splat is four 32-bit words and its harmonics bytes.
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from ash_core.conventions import SH_C0
from ash_core.records import Gaussians

CHUNK: Final = 256
"""Number of splats in a chunk."""
PACKED: Final = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_SH_RANGE: Final = 8.0
"""Width of the interval, centred at zero, of a harmonic's byte."""


def unpack(chunks: np.ndarray, splats: np.ndarray, colours: np.ndarray | None) -> Gaussians:
    """Activate packed splats: rows of chunks, of splats and, if present, of harmonics.

    Raises: KeyError or ValueError for missing bounds.
    """
    count = len(splats)
    chunk = np.arange(count) // CHUNK
    position, rotation, scale, colour = (splats[name].astype(np.uint32) for name in PACKED)

    def between(values: np.ndarray, names: str, kind: str = "") -> np.ndarray:
        """Map fractions [N, 3] into the bounds of their chunks."""
        low, high = (
            np.stack([chunks[f"{end}_{kind}{name}"][chunk] for name in names], 1)
            for end in ("min", "max")
        )
        return low * (1 - values) + high * values

    rgb = np.stack([(colour >> shift & 255) / 255 for shift in (24, 16, 8)], 1)
    has_colour_bounds = "min_r" in (chunks.dtype.names or ())
    shown = between(rgb, "rgb") if has_colour_bounds else rgb
    dc = torch.from_numpy(((shown - 0.5) / SH_C0).astype(np.float32))
    sh = dc[:, None]
    if colours is not None and colours.dtype.names:
        levels = np.stack([colours[f"f_rest_{n}"] for n in range(len(colours.dtype.names))], 1)
        share = np.where(levels == 0, 0.0, np.where(levels == 255, 1.0, (levels + 0.5) / 256))
        rest = torch.from_numpy(((share - 0.5) * _SH_RANGE).astype(np.float32))
        sh = torch.cat((sh, rest.reshape(count, 3, -1).transpose(1, 2)), 1)
    return Gaussians(
        means=_tensor(between(_three(position), "xyz")),
        quats=_tensor(_rotations(rotation)),
        scales=_tensor(np.exp(between(_three(scale), "xyz", "scale_"))),
        opacities=_tensor((colour & 255) / 255),
        sh=sh.contiguous(),
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _three(words: np.ndarray) -> Float[np.ndarray, "N 3"]:
    """Split words into fractions of 11, 10 and 11 bits."""
    return np.stack([(words >> 21) / 2047, (words >> 11 & 1023) / 1023, (words & 2047) / 2047], 1)


def _rotations(words: np.ndarray) -> Float[np.ndarray, "N 4"]:
    """Rebuild unit quaternions from the index of their largest part and the three others."""
    small = np.stack([(words >> shift & 1023) / 1023 - 0.5 for shift in (20, 10, 0)], 1) * np.sqrt(
        2
    )
    return largest_last(small, words >> 30)


def largest_last(small: Float[np.ndarray, "N 3"], largest: np.ndarray) -> Float[np.ndarray, "N 4"]:
    """Insert the largest part of a unit quaternion, left out of its four, at its index."""
    quats = np.empty((len(small), 4))
    rows, other = np.arange(len(small))[:, None], np.arange(3)[None]
    quats[rows, other + (other >= largest[:, None])] = small
    quats[rows[:, 0], largest] = np.sqrt(np.maximum(0.0, 1.0 - (small**2).sum(1)))
    return quats
