"""Image files of every usual kind: decode to RGB, encode as PNG."""

import io
import warnings
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as PillowImage
from torch import Tensor

from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import InputError
from ash_core.files.io import bad, is_kind, read_bytes, show

MAX_IMAGE_BYTES = 512 << 20
FORMATS: Final = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


def read_image(path: Path | str) -> UInt8[Tensor, "h w 3"]:
    """Decode a PNG, JPEG, BMP, TIFF or WebP file to RGB; alpha is dropped."""
    return decode_image(read_bytes(path, MAX_IMAGE_BYTES), str(path))


def decode_image(data: bytes, place: str, alpha: bool = False) -> UInt8[Tensor, "h w c"]:
    """Decode an image file's bytes to RGB, or RGBA. Sizes are checked before decoding."""
    return torch.from_numpy(decode_pixels(data, place, "RGBA" if alpha else "RGB"))


def decode_pixels(
    data: bytes, place: str, mode: Literal["RGB", "RGBA"] | None = None
) -> UInt8[np.ndarray, "h w *c"]:
    """Decode an image file's bytes. Sizes are checked before decoding.

    mode: channels of the result; None: grey [h, w], RGB or RGBA, as stored. place: name in errors.
    """
    try:
        with _opened(data, place) as image:
            stored = mode or _stored_mode(image)
            is_plain = mode is None and image.format == "PNG" and stored == image.mode
            pixels = _decode_fast(data) if is_plain else None
            return np.array(image.convert(stored)) if pixels is None else pixels
    except InputError:
        raise
    except Exception as error:  # decoders raise any exception, depending on the damage
        raise _undecodable(place, error) from error


def image_file_size(source: bytes | Path, place: str) -> tuple[int, int]:
    """Read (width, height), px, from the first bytes of an image file. Raises: InputError."""
    if isinstance(source, Path) and not is_kind(Path.is_file, source):
        raise bad(place, None, "expected an image, found nothing there")
    try:
        with _opened(source, place) as image:
            return image.size
    except InputError:
        raise
    except Exception as error:
        raise _undecodable(place, error) from error


def _decode_fast(data: bytes) -> UInt8[np.ndarray, "h w *c"] | None:
    """Decode a plain PNG in a tenth of Pillow's time; None for other kinds and damaged files."""
    # Compiled code loads slowly: only where it is needed.
    from ash_core.files.png import decode_png

    return decode_png(data)


def _undecodable(place: str, error: Exception) -> InputError:
    reason = show(str(error) or type(error).__name__)
    return bad(place, None, f"expected an image, could not decode it: {reason}")


def _opened(source: bytes | Path, place: str) -> PillowImage.Image:
    """Open an image's header and check its size and depth."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        image = PillowImage.open(file, formats=FORMATS)
    width, height = image.size
    if not 0 < max(width, height) <= MAX_SIDE_PX:
        text = f"expected sides up to {MAX_SIDE_PX} px, got {width} x {height}"
        raise bad(place, None, text)
    if image.mode.startswith(("I", "F")):
        raise bad(place, None, f"expected 8 bits a channel, got mode {image.mode}")
    return image


def _stored_mode(image: PillowImage.Image) -> str:
    """Choose Pillow's name of the channels that keep what an image stores."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return "RGBA"
    return "L" if image.mode in ("1", "L") else "RGB"


def encode_png(rgb: UInt8[Tensor, "h w c"]) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    PillowImage.fromarray(rgb.cpu().numpy()).save(buffer, "PNG")
    return buffer.getvalue()
