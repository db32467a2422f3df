"""Cuts the person out of a frame: mask, colours, size.

Work is done in the box around the person alone, since decoding takes most of the time already.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image as PillowImage

from ash_core.capture.extract.masks import (
    DILATE_PX,
    ERODE_PX,
    THRESHOLD,
    Box,
    clean_mask,
    luma_threshold,
)
from ash_core.files.masked_image import Place
from ash_core.geometry.lens import Lens, Pinhole, straight_map

if TYPE_CHECKING:
    import av

JPEG: Final = 2
"""PyAV's code for full-range video, 0 to 255."""
PLANAR: Final = ("yuv420p", "yuvj420p")
STEP_PX: Final = 16
SOFT_EDGE_PX: Final = 2
"""Around a resized person: how far its edge may spread."""


@dataclass(frozen=True)
class ExtractSettings:
    """How images are made; with others they are made again."""

    threshold: int = THRESHOLD
    erode: int = ERODE_PX
    dilate: int = DILATE_PX
    largest: bool = False
    crop: bool = False
    size: tuple[int, int] | None = None
    kind: Literal["png", "jpg"] = "png"
    quality: int = 95


@dataclass(frozen=True)
class Optics:
    """What is known of a camera; sizes in px."""

    width: int
    height: int
    pinhole: Pinhole
    lens: Lens = field(default_factory=Lens)


class Cut(NamedTuple):
    """A person cut out of a frame."""

    pixels: UInt8[np.ndarray, "h w 4"]
    """Straight colours, the mask as alpha, black where it is 0."""
    place: Place


class Cutter:
    """Cuts persons out of one camera's frames; keeps what is the same for all of them."""

    def __init__(
        self, settings: ExtractSettings, optics: Optics | None, width: int, height: int
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self.settings, self.width, self.height = settings, width, height
        self._reformatter = VideoReformatter()
        self.foreground_px = self.kept_px = 0
        """Pixels of all masks so far, and those that erosion and dilation left."""
        self._places = None
        if optics is not None and not optics.lens.is_straight:
            # Compiled code, which takes a while to load: only where it is needed.
            from ash_core.capture.extract.remap import remap

            self._straighten = remap
            self._places = straight_map(optics.lens, optics.pinhole, width, height)

    def cut(self, picture: "av.VideoFrame", foreground: "av.VideoFrame") -> Cut:
        """The person of one frame."""
        settings = self.settings
        mask = self.foreground(foreground)
        if settings.largest:
            mask, _ = clean_mask(mask, 0, 0, largest=True)
        self.foreground_px += int(np.count_nonzero(mask))
        mask, box = clean_mask(mask, settings.erode, settings.dilate, largest=False)
        self.kept_px += int(np.count_nonzero(mask))
        if box is None:
            return self._nobody()
        if settings.size is None or settings.size == (self.width, self.height):
            pixels = self._colours(picture, box)
            inside = mask[box.top : box.bottom, box.left : box.right]
            # All four bytes of a pixel at once; the decoder's alpha is 255.
            pixels.view(np.uint32)[..., 0] *= inside
            return Cut(pixels, Place(box.left, box.top, self.width, self.height))
        return self._resized(picture, mask, box, settings.size)

    def foreground(self, frame: "av.VideoFrame") -> Bool[np.ndarray, "h w"]:
        """What lies over the threshold in a frame of the mask video."""
        if frame.format.name.startswith(("yuv", "gray")) and frame.format.components[0].bits == 8:
            full = frame.color_range == JPEG or frame.format.name.startswith(("yuvj", "gray"))
            grey = plane_of(frame, 0)[:, : frame.width]
            least = luma_threshold(self.settings.threshold, full)
        else:
            grey = frame.to_ndarray(format="rgb24").max(-1)
            least = self.settings.threshold
        grey = grey[: self.height, : self.width]
        if self._places is not None:
            grey = self._straighten(grey[..., None], self._places)[..., 0]
        return grey >= least

    def colours(self, frame: "av.VideoFrame", box: Box | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """The picture of a frame, or of a box of it."""
        return self._colours(frame, box or Box(0, 0, self.width, self.height))[..., :3]

    def _nobody(self) -> Cut:
        width, height = self.settings.size or (self.width, self.height)
        return Cut(np.zeros((1, 1, 4), np.uint8), Place(0, 0, width, height))

    def _colours(self, frame: "av.VideoFrame", box: Box) -> UInt8[np.ndarray, "h w 4"]:
        """The RGBA of a box of a frame; only that is converted, where the format allows it."""
        if self._places is not None:
            whole = _rgba(frame)[: self.height, : self.width]
            return self._straighten(whole, self._places[box.top : box.bottom, box.left : box.right])
        if frame.format.name not in PLANAR:
            return _rgba(frame)[box.top : box.bottom, box.left : box.right].copy()
        # Chroma has half the size, and libswscale leaves the last pixels of widths that are no
        # multiple of 16 unwritten: the box grows for the conversion.
        left, top = box.left // STEP_PX * STEP_PX, box.top & ~1
        right, bottom = -(-box.right // STEP_PX) * STEP_PX, (box.bottom + 1) & ~1
        part = _part_of(frame, Box(left, top, right, min(bottom, frame.height)))
        rgba = self._reformatter.reformat(part, format="rgba").to_ndarray()
        h, w = box.bottom - box.top, box.right - box.left
        return rgba[box.top - top :, box.left - left :][:h, :w].copy()

    def _resized(
        self,
        picture: "av.VideoFrame",
        mask: Bool[np.ndarray, "h w"],
        box: Box,
        size: tuple[int, int],
    ) -> Cut:
        """Colour and mask in another size: averaged over the pixels they cover, edges soft."""
        scale = (self.width / size[0], self.height / size[1])
        target = Box(
            max(int(box.left / scale[0]) - SOFT_EDGE_PX, 0),
            max(int(box.top / scale[1]) - SOFT_EDGE_PX, 0),
            min(int(box.right / scale[0]) + 1 + SOFT_EDGE_PX, size[0]),
            min(int(box.bottom / scale[1]) + 1 + SOFT_EDGE_PX, size[1]),
        )
        premultiplied = np.zeros((self.height, self.width, 3), np.uint8)
        inside = (slice(box.top, box.bottom), slice(box.left, box.right))
        premultiplied[inside] = self._colours(picture, box)[..., :3] * mask[inside][..., None]
        source = (
            target.left * scale[0],
            target.top * scale[1],
            target.right * scale[0],
            target.bottom * scale[1],
        )
        shape = (target.right - target.left, target.bottom - target.top)

        def resize(pixels: UInt8[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "n m *c"]:
            image = PillowImage.fromarray(pixels)
            return np.asarray(image.resize(shape, PillowImage.Resampling.BILINEAR, box=source))

        alpha = resize(mask.astype(np.uint8) * np.uint8(255))
        rgb = resize(premultiplied).astype(np.float32)
        straight = rgb * (255.0 / np.maximum(alpha, 1))[..., None]
        colours = (straight.clip(0, 255) + 0.5).astype(np.uint8) * (alpha > 0)[..., None]
        pixels = np.concatenate((colours, alpha[..., None]), -1)
        return Cut(pixels, Place(target.left, target.top, *size))


def _part_of(frame: "av.VideoFrame", box: Box) -> "av.VideoFrame":
    """A box with even borders of a yuv420p frame, with the same colours.

    Columns beyond the frame's are whatever the memory holds.
    """
    import av

    width, height = box.right - box.left, box.bottom - box.top
    part = av.VideoFrame(width, height, frame.format.name)
    for number in range(len(frame.planes)):
        halved = int(number > 0)
        rows = slice(box.top >> halved, box.bottom >> halved)
        columns = slice(box.left >> halved, box.right >> halved)
        source = plane_of(frame, number)[rows, columns]
        plane_of(part, number)[: source.shape[0], : source.shape[1]] = source
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    return part


def plane_of(frame: "av.VideoFrame", number: int) -> UInt8[np.ndarray, "h w"]:
    """The bytes of a plane, with the padding at its lines' ends; not a copy."""
    plane = frame.planes[number]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)


def _rgba(frame: "av.VideoFrame") -> UInt8[np.ndarray, "h w 4"]:
    """A whole frame, of any format."""
    rgb = frame.to_ndarray(format="rgb24")
    return np.concatenate((rgb, np.full((*rgb.shape[:2], 1), 255, np.uint8)), -1)
