"""A finished image: bytes as every front end writes them, a file, a picture in a notebook."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.image import encode_png
from ash_core.files.io import write_atomic
from ash_core.records import Image


@dataclass(frozen=True)
class RenderedImage(Image):
    """Result of rendering: `rgb` [h, w, 3], `alpha` [h, w], `depth` [h, w] in m, on their device.

    `rgb` and `alpha` are in [0, 1] but not clamped, float32, and carry gradients where
    `ash.rasterize` made them. A notebook shows it, `save` writes it, `numpy.asarray` gives its
    bytes.

    >>> image = ash.rasterize(gaussians, camera, background=(1, 1, 1))
    >>> image.rgb.shape, image.to_numpy().dtype
    (torch.Size([48, 64, 3]), dtype('uint8'))
    """

    is_transparent: bool = False
    """No background lies under it: `rgb` is premultiplied by `alpha`."""
    rounding: float = 0.5
    """Added to a colour, in bytes, before it is cut off. 0 for released avatars.
    Source: docs/released_behaviour.md A19."""

    @property
    def width(self) -> int:
        """Pixels of a row."""
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.rgb.shape[0]

    def rgb8(self) -> UInt8[Tensor, "h w 3"]:
        """Colours as bytes on the image's device; premultiplied where it is transparent."""
        return (self.rgb.detach().clamp(0, 1) * 255 + self.rounding).to(torch.uint8)

    def alpha8(self) -> UInt8[Tensor, "h w"]:
        """Coverage as bytes on the image's device."""
        return (self.alpha.detach().clamp(0, 1) * 255 + 0.5).to(torch.uint8)

    def to_numpy(self) -> UInt8[np.ndarray, "h w c"]:
        """Pixels as a file holds them: RGB, or RGBA with straight colours if it is transparent.

        >>> ash.rasterize(gaussians, camera).to_numpy().shape
        (48, 64, 4)
        """
        if not self.is_transparent:
            return self.rgb8().cpu().numpy()
        straight = RenderedImage(straight_colour(self), self.alpha, self.depth, True, self.rounding)
        return torch.cat((straight.rgb8(), self.alpha8()[..., None]), -1).cpu().numpy()

    def save(self, path: Path | str) -> None:
        """Write a .png, whole or not at all. Raises: InputError for another suffix or a full disk.

        >>> ash.rasterize(gaussians, camera).save(folder / "one.png")
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise InputError(f"{path}: expected a name in .png")
        write_atomic(path, self._repr_png_())

    def _repr_png_(self) -> bytes:
        """PNG that IPython shows."""
        return encode_png(torch.from_numpy(self.to_numpy()))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Give `numpy.asarray`, and so matplotlib, the pixels of `to_numpy`."""
        return self.to_numpy() if dtype is None else self.to_numpy().astype(dtype)


def straight_colour(image: Image) -> Float[Tensor, "h w 3"]:
    """Divide the colours of a transparent image by alpha; black where it is unseen.

    Source: PNG, VP9 and ProRes all store straight alpha.
    """
    alpha = image.alpha[..., None]
    # Under half a step of alpha there is no colour to recover, only noise to amplify.
    least = 0.5 / 255
    return (image.rgb / alpha.clamp(min=least)).clamp(0.0, 1.0) * (alpha >= least)
