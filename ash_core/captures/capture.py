"""A multi-view capture as its folder holds it: the record that every layout's reader returns.

A reader applies the conventions of its layout's public loaders (units, direction, pixel centre,
root rule). `detect` then checks them against the masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

from jaxtyping import Float
from numpy import ndarray

from ash_core.conventions import CaptureLayout
from ash_core.files.body_poses import BodyPoses
from ash_core.files.io import show
from ash_core.geometry.lens import Lens

Layout = CaptureLayout
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)


@dataclass(frozen=True)
class CaptureCamera:
    """Camera as calibrated. float64."""

    name: str
    """Name in the capture, unique."""
    K: Float[ndarray, "3 3"]
    """Intrinsics in pixels of the stored images; the centre of the first pixel is (0.5, 0.5)."""
    viewmat: Float[ndarray, "4 4"]
    """Camera from the capture's world, m, OpenCV axes."""
    width: int
    height: int
    """Size of the stored images, px."""
    lens: Lens = field(default_factory=Lens)


@dataclass(frozen=True)
class ImageRef:
    """Place of one stored image or mask."""

    path: Path
    """Image file, video or .smc file."""
    frame: int | None = None
    """Frame number in a video; None: the file is an image."""
    member: str | None = None
    """Dataset in an .smc (HDF5) file that holds an encoded image."""

    @property
    def place(self) -> str:
        """Name the image in errors: its file, and its member or frame."""
        if self.member is not None:
            return f"{self.path}: {show(self.member)[1:-1]}"
        return f"{self.path}: frame {self.frame}" if self.frame is not None else str(self.path)


@dataclass(frozen=True)
class Keypoints:
    """Triangulated joints that come with a capture, m, capture's world."""

    names: tuple[str, ...]
    places: Float[ndarray, "F n 3"]
    confidences: Float[ndarray, "F n"]
    """0: not seen."""


@dataclass(frozen=True)
class Capture:
    """Cameras, images, masks and poses of one person. Keys of images: (frame, camera index)."""

    layout: Layout
    folder: Path
    cameras: tuple[CaptureCamera, ...]
    frames: tuple[int, ...]
    """Frame numbers in the capture's own counting, rising."""
    images: Mapping[tuple[int, int], ImageRef]
    masks: Mapping[tuple[int, int], ImageRef]
    """Masks of the same keys; a key without a mask has the image's alpha."""
    poses: BodyPoses | None
    """One pose for each of `frames`; None where the capture has none (--poses names a file)."""
    fps: float
    keypoints: Keypoints | None = None
    missing: tuple[str, ...] = ()
    """Images that the capture itself lists as missing, relative paths."""
    notes: tuple[str, ...] = ()
    character: Path | None = None
    """Skeletool character that comes with the capture and replaces a body; its axes are the
    capture's world, Y up."""
    motion: Path | None = None
    """Skeletool motion of that character, one row a frame of the videos."""
