"""Cut the person out of a frame: mask, colours, size.

Only the box around the person is processed, since decoding takes most of the time already.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PillowImage

from ash_core.files.libav import plane_of
from ash_core.files.masked_image import Place
from ash_core.footage.extract.masks import (
    THRESHOLD,
    Box,
    box_of,
    clean_mask,
    mask_levels,
    published_sides,
)
from ash_core.geometry.lens import Lens, Pinhole, straight_map

if TYPE_CHECKING:
    import av

    from ash_core.footage.extract.edges import Edge

JPEG: Final = 2
"""PyAV's code for full-range video, 0 to 255."""
PLANAR: Final = ("yuv420p", "yuvj420p")
STEP_PX: Final = 16
SOFT_EDGE_PX: Final = 2
"""Room around a resized person for its soft edge."""


@dataclass(frozen=True)
class ExtractSettings:
    """Settings of the images; other settings make them again."""

    threshold: int | None = None
    """Grey level from which a pixel is entirely the person; None: soft masks stay soft."""
    erode: int | None = None
    """Side of the square, px; None: as measured at the masks' rims."""
    dilate: int = 0
    published: bool = False
    """True for the published steps: hard masks, eroded and dilated as in footage of 4K."""
    largest: bool = False
    crop: bool = False
    size: tuple[int, int] | None = None
    kind: Literal["png", "jpg"] = "png"
    quality: int = 95


@dataclass(frozen=True)
class Optics:
    """Known properties of a camera; sizes in px."""

    width: int
    height: int
    pinhole: Pinhole
    lens: Lens = field(default_factory=Lens)


class Cut(NamedTuple):
    """Image of a person cut out of a frame."""

    pixels: UInt8[np.ndarray, "h w 4"]
    """Straight colours, the mask as alpha, black where it is 0."""
    place: Place


class Cutter:
    """Cutter of one camera's frames, with the state that they share."""

    def __init__(
        self, settings: ExtractSettings, optics: Optics | None, width: int, height: int
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self.settings, self.width, self.height = settings, width, height
        self._threshold = THRESHOLD if settings.published else settings.threshold
        self.erode, self.dilate = settings.erode or 0, settings.dilate
        """Sides of the squares, px."""
        if settings.published:
            self.erode, self.dilate = published_sides(width)
        self._reformatter = VideoReformatter()
        self.foreground_px = self.kept_px = 0
        """Pixels of all masks so far, and those left by erosion and dilation."""
        self._places = None
        if optics is not None and not optics.lens.is_straight:
            # Compiled code loads slowly: only where it is needed.
            from ash_core.footage.extract.remap import remap

            self._straighten = remap
            self._places = straight_map(optics.lens, optics.pinhole, width, height)

    @property
    def needs_edge(self) -> bool:
        """Return whether the threshold or the erosion depends on the masks' rims."""
        settings = self.settings
        return not settings.published and None in (settings.threshold, settings.erode)

    def adapt(self, edge: "Edge") -> None:
        """Set the threshold and erosion by the masks' rims, unless the settings do."""
        if self.settings.threshold is None and not edge.is_soft:
            self._threshold = THRESHOLD
        if self.settings.erode is None:
            self.erode = edge.side

    def cut(self, picture: "av.VideoFrame", foreground: "av.VideoFrame") -> Cut:
        """Cut the person out of one frame."""
        settings = self.settings
        mask = self.foreground(foreground)
        if settings.largest:
            mask, _ = clean_mask(mask, 0, 0, largest=True)
        self.foreground_px += int(np.count_nonzero(mask))
        mask, box = clean_mask(mask, self.erode, self.dilate, largest=False)
        self.kept_px += int(np.count_nonzero(mask))
        if box is None:
            return self._nobody()
        if settings.size is None or settings.size == (self.width, self.height):
            pixels = self._person(picture, mask, box)
            return Cut(pixels, Place(box.left, box.top, self.width, self.height))
        return self._resized(picture, mask, box, settings.size)

    def _person(
        self, picture: "av.VideoFrame", mask: UInt8[np.ndarray, "h w"], box: Box
    ) -> UInt8[np.ndarray, "h w 4"]:
        """Return the box of a frame with its mask: straight colours, no backdrop at soft edges."""
        inside = mask[box.top : box.bottom, box.left : box.right]
        if not _is_soft(inside):
            pixels = self._colours(picture, box)
            # Invert all four bytes of a pixel at once; the decoder's alpha is 255.
            pixels.view(np.uint32)[..., 0] *= inside != 0
            return pixels
        # Compiled code loads slowly: only where it is needed.
        from ash_core.footage.extract.unmix import REACH_PX, unmix

        # At half-size chroma, its pixels begin at even places.
        left, top = max(box.left - REACH_PX, 0) & ~1, max(box.top - REACH_PX, 0) & ~1
        right = min(box.right + REACH_PX, self.width)
        bottom = min(box.bottom + REACH_PX, self.height)
        alpha = mask[top:bottom, left:right]
        halved = picture.format.name in PLANAR and self._places is None
        pixels = unmix(self._colours(picture, Box(left, top, right, bottom)), alpha, halved)
        pixels.view(np.uint32)[..., 0] *= alpha != 0
        pixels[..., 3] = alpha
        h, w = inside.shape
        return pixels[box.top - top :, box.left - left :][:h, :w]

    def foreground(self, frame: "av.VideoFrame") -> UInt8[np.ndarray, "h w"]:
        """Compute alpha from a frame of the mask video."""
        if frame.format.name.startswith(("yuv", "gray")) and frame.format.components[0].bits == 8:
            full = frame.color_range == JPEG or frame.format.name.startswith(("yuvj", "gray"))
            grey = plane_of(frame, 0)[:, : frame.width]
        else:
            grey, full = frame.to_ndarray(format="rgb24").max(-1), True
        grey = grey[: self.height, : self.width]
        if self._places is not None:
            grey = self._straighten(grey[..., None], self._places)[..., 0]
        levels = mask_levels(full, self._threshold)
        alpha = np.zeros((self.height, self.width), np.uint8)
        box = box_of(grey >= np.flatnonzero(levels)[0])
        if box is not None:
            inside = slice(box.top, box.bottom), slice(box.left, box.right)
            alpha[inside] = levels[grey[inside]]
        return alpha

    def colours(self, frame: "av.VideoFrame", box: Box | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """Return the colours of a frame, or of a box of it."""
        return self._colours(frame, box or Box(0, 0, self.width, self.height))[..., :3]

    def _nobody(self) -> Cut:
        width, height = self.settings.size or (self.width, self.height)
        return Cut(np.zeros((1, 1, 4), np.uint8), Place(0, 0, width, height))

    def _colours(self, frame: "av.VideoFrame", box: Box) -> UInt8[np.ndarray, "h w 4"]:
        """Convert a box of a frame to RGBA; only that box, if the format allows it."""
        if self._places is not None:
            whole = _rgba(frame)[: self.height, : self.width]
            return self._straighten(whole, self._places[box.top : box.bottom, box.left : box.right])
        if frame.format.name not in PLANAR:
            return _rgba(frame)[box.top : box.bottom, box.left : box.right].copy()
        # Chroma has half the size, and libswscale does not write the last pixels of widths that are
        # no multiple of 16: the box grows for the conversion.
        left, top = box.left // STEP_PX * STEP_PX, box.top & ~1
        right, bottom = -(-box.right // STEP_PX) * STEP_PX, (box.bottom + 1) & ~1
        part = _part_of(frame, Box(left, top, right, min(bottom, frame.height)))
        rgba = self._reformatter.reformat(part, format="rgba").to_ndarray()
        h, w = box.bottom - box.top, box.right - box.left
        return rgba[box.top - top :, box.left - left :][:h, :w].copy()

    def _resized(
        self,
        picture: "av.VideoFrame",
        mask: UInt8[np.ndarray, "h w"],
        box: Box,
        size: tuple[int, int],
    ) -> Cut:
        """Resize colour and mask: averaged over the pixels that they cover, edges soft."""
        # Scale the box, with room for a soft edge.
        scale = (self.width / size[0], self.height / size[1])
        target = Box(
            max(int(box.left / scale[0]) - SOFT_EDGE_PX, 0),
            max(int(box.top / scale[1]) - SOFT_EDGE_PX, 0),
            min(int(box.right / scale[0]) + 1 + SOFT_EDGE_PX, size[0]),
            min(int(box.bottom / scale[1]) + 1 + SOFT_EDGE_PX, size[1]),
        )
        # Multiply colours by coverage, or the backdrop would bleed in.
        premultiplied = np.zeros((self.height, self.width, 3), np.uint8)
        inside = (slice(box.top, box.bottom), slice(box.left, box.right))
        person = self._person(picture, mask, box)
        if _is_soft(person[..., 3]):
            coverage = person[..., 3:].astype(np.float32) / 255
            premultiplied[inside] = (person[..., :3] * coverage + 0.5).astype(np.uint8)
        else:
            premultiplied[inside] = person[..., :3]
        # Resize the mask and the colours alike, then divide by coverage.
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

        alpha = resize(mask)
        rgb = resize(premultiplied).astype(np.float32)
        straight = rgb * (255.0 / np.maximum(alpha, 1))[..., None]
        colours = (straight.clip(0, 255) + 0.5).astype(np.uint8) * (alpha > 0)[..., None]
        pixels = np.concatenate((colours, alpha[..., None]), -1)
        return Cut(pixels, Place(target.left, target.top, *size))


def _is_soft(mask: UInt8[np.ndarray, "h w"]) -> bool:
    """Return whether a pixel is partly covered."""
    # Adding 1 to bytes 1 to 254 gives 2 to 255.
    return bool(((mask + np.uint8(1)) > 1).any())


def _part_of(frame: "av.VideoFrame", box: Box) -> "av.VideoFrame":
    """Crop a yuv420p frame to a box with even borders, with the same colours.

    Columns beyond the frame are undefined memory.
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


def _rgba(frame: "av.VideoFrame") -> UInt8[np.ndarray, "h w 4"]:
    """Convert a whole frame of any format."""
    rgb = frame.to_ndarray(format="rgb24")
    return np.concatenate((rgb, np.full((*rgb.shape[:2], 1), 255, np.uint8)), -1)
