"""Decode images and masks of a capture: image files, frames of videos, members of .smc files."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from ash_core.captures.capture import ImageRef
from ash_core.files.footage import VideoIndex, decode_frames, index_video
from ash_core.files.image import (
    MAX_IMAGE_BYTES,
    decode_pixels,
    image_file_size,
)
from ash_core.files.io import bad, read_bytes
from ash_core.files.smc import open_smc
from ash_core.footage.extract.cutter import Cutter, ExtractSettings

if TYPE_CHECKING:
    import av

LABELS: Final = 64
"""Exclusive upper bound on the values of an image of labels: 0 background, others parts of the
person. Masks of grey levels reach beyond it."""
LOSSLESS: Final = (b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
"""First bytes of image files that keep labels exactly: PNG, BMP, TIFF."""

_Source = tuple[bytes, str, tuple[Cutter, "av.VideoFrame"] | None]
"""Bytes of an encoded image and their place in errors; or a video's frame with its converter."""


def read_image(ref: ImageRef) -> UInt8[ndarray, "h w 3"]:
    """Decode one image to RGB; alpha is dropped. Raises: InputError."""
    return next(read_images((ref,)))


def read_mask(ref: ImageRef) -> UInt8[ndarray, "h w"]:
    """Decode one mask to alpha, 255 the person. Raises: InputError.

    Coloured masks count by their brightest channel, masks with alpha by their alpha where it is
    not all 255. Lossless images of labels below 64 become 0 and 255.
    """
    return next(read_masks((ref,)))


def read_alpha(ref: ImageRef) -> UInt8[ndarray, "h w"]:
    """Decode the alpha of one image, for captures without masks. Raises: InputError."""
    data, place = _file_bytes(ref)
    pixels = decode_pixels(data, place)
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        raise bad(place, None, "expected an image with alpha, as it has no mask, got none")
    return pixels[..., 3]


def read_images(refs: Iterable[ImageRef]) -> Iterator[UInt8[ndarray, "h w 3"]]:
    """Decode images in order, RGB. Raises: InputError.

    Neighbours in the same video with rising frames are decoded in one pass, and neighbours in the
    same .smc file share one opening: order by camera first.
    """
    for data, place, frame in _sources(refs):
        if frame is not None:
            cutter, picture = frame
            yield cutter.colours(picture)
            continue
        pixels = decode_pixels(data, place)
        yield np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels[..., :3]


def read_masks(refs: Iterable[ImageRef]) -> Iterator[UInt8[ndarray, "h w"]]:
    """Decode masks in order, as `read_mask`, with the passes of `read_images`."""
    for data, place, frame in _sources(refs):
        if frame is not None:
            cutter, picture = frame
            yield cutter.foreground(picture)
        else:
            yield _alpha_of(data, place)


def read_alphas(
    shots: Iterable[tuple[ImageRef, ImageRef | None]],
) -> Iterator[UInt8[ndarray, "h w"]]:
    """Decode the masks of (image, mask) in order; without a mask the image's alpha.

    Raises: InputError.
    """
    for has_mask, group in groupby(shots, lambda shot: shot[1] is not None):
        if has_mask:
            yield from read_masks(mask for _, mask in group if mask is not None)
        else:
            yield from (read_alpha(image) for image, _ in group)


def image_size(ref: ImageRef) -> tuple[int, int]:
    """Read (width, height) of an image or mask, px; of files, only the header is read."""
    if ref.frame is not None:
        index = video_index(ref.path)
        return index.width, index.height
    if ref.member is not None:
        data, place = _file_bytes(ref)
        return image_file_size(data, place)
    return image_file_size(ref.path, str(ref.path))


def _alpha_of(data: bytes, place: str) -> UInt8[ndarray, "h w"]:
    """Decode a mask's file."""
    pixels = decode_pixels(data, place)
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        return pixels[..., 3]
    alpha = pixels if pixels.ndim == 2 else pixels[..., :3].max(-1)
    if data.startswith(LOSSLESS) and 0 < alpha.max() < LABELS:
        return (alpha > 0) * np.uint8(255)
    return alpha


def _sources(refs: Iterable[ImageRef]) -> Iterator[_Source]:
    """Read each image, undecoded."""
    for (path, is_video, is_member), group in groupby(refs, key=_shelf):
        if is_video:
            yield from ((b"", str(path), frame) for frame in _frames(path, group))
        elif is_member:
            with open_smc(path) as file:
                for ref in group:
                    member = ref.member or ""
                    yield file.image(member), ref.place, None
        else:
            for _ in group:
                yield read_bytes(path, MAX_IMAGE_BYTES), str(path), None


def _shelf(ref: ImageRef) -> tuple[Path, bool, bool]:
    return ref.path, ref.frame is not None, ref.member is not None


def _file_bytes(ref: ImageRef) -> tuple[bytes, str]:
    """Read the encoded image of a file or member; videos have none."""
    if ref.frame is not None:
        raise bad(ref.path, None, "expected masks of the capture's videos, found none")
    data, place, _ = next(_sources((ref,)))
    return data, place


def _frames(path: Path, refs: Iterable[ImageRef]) -> Iterator[tuple[Cutter, "av.VideoFrame"]]:
    """Decode frames of a video, one pass for each run of rising numbers."""
    index = video_index(path)
    cutter = Cutter(ExtractSettings(), None, index.width, index.height)
    for numbers in _rising(ref.frame or 0 for ref in refs):
        if lost := [number for number in numbers if number not in index.times]:
            text = f"expected frame {lost[0]}, got a video of {index.count} frames"
            raise bad(path, None, text)
        yield from ((cutter, picture) for _, picture in decode_frames(index, numbers))


def _rising(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Split numbers into runs that rise."""
    run: list[int] = []
    for number in numbers:
        if run and number <= run[-1]:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def video_index(path: Path) -> VideoIndex:
    """Index a video, once for each version of the file. Raises: InputError."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        raise bad(path, None, "expected a video, found nothing there") from None
    return _cached_index(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _cached_index(path: Path, changed_ns: int, size: int) -> VideoIndex:
    return index_video(path)
