"""Image files of every usual kind: decode to RGB, encode as PNG."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as PillowImage
from torch import Tensor

from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import InputError
from ash_core.files.io import bad, read_bytes, show

MAX_IMAGE_BYTES = 512 << 20


def read_image(path: Path | str) -> UInt8[Tensor, "h w 3"]:
    """Decode a PNG, JPEG, BMP, TIFF or WebP file to RGB; alpha is dropped."""
    return decode_image(read_bytes(path, MAX_IMAGE_BYTES), str(path))


def decode_image(data: bytes, place: str, alpha: bool = False) -> UInt8[Tensor, "h w c"]:
    """Decode an image file's bytes to RGB, or RGBA. Sizes are checked before decoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            formats = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
            with PillowImage.open(io.BytesIO(data), formats=formats) as image:
                width, height = image.size
                if not 0 < max(width, height) <= MAX_SIDE_PX:
                    actual = f"{width} x {height}"
                    raise bad(place, None, f"expected sides up to {MAX_SIDE_PX} px, got {actual}")
                if image.mode.startswith(("I", "F")):
                    raise bad(place, None, f"expected 8 bits a channel, got mode {image.mode}")
                rgb = np.array(image.convert("RGBA" if alpha else "RGB"))
    except InputError:
        raise
    except Exception as error:  # decoders raise any exception, depending on the damage
        reason = show(str(error) or type(error).__name__)
        raise bad(place, None, f"expected an image, could not decode it: {reason}") from error
    return torch.from_numpy(rgb)


def encode_png(rgb: UInt8[Tensor, "h w c"]) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    PillowImage.fromarray(rgb.cpu().numpy()).save(buffer, "PNG")
    return buffer.getvalue()
