"""Images and masks as the published extraction writes them: a folder a camera, masks apart.

    IMAGE_DIR/C/image_c_C_f_F.png (or .jpg)      the person on black
    MASK_DIR/C/image_c_C_f_F.png (or .jpg)       0 or 255

Numbers have no leading zeros. A subject has hundreds of thousands of images: folders are listed
once, files are not opened, and paths are made on demand.
"""

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Final

from ash_core.files.io import bad, is_kind

ENDINGS: Final = (".png", ".jpg")
"""Endings of images; the first one wins if both exist."""


class PublishedImage(PosixPath):
    """Path of an image whose mask is in another folder."""

    __slots__ = ("mask_folder",)
    mask_folder: Path

    @property
    def mask(self) -> Path:
        """Return the path of the mask: a .png, else a .jpg."""
        tries = [self.mask_folder / f"{self.stem}{ending}" for ending in ENDINGS]
        return next((path for path in tries if path.is_file()), tries[0])


def published_image(folder: Path, camera: int, frame: int, ending: str = ".png") -> Path:
    """Name the image, or the mask, of a camera and a frame in its folder."""
    return folder / str(camera) / f"image_c_{camera}_f_{frame}{ending}"


@dataclass(frozen=True)
class PublishedFolders:
    """Folders of the published extraction for images and masks."""

    images: Path
    masks: Path

    def files(self, camera: int, frame: int, ending: str) -> tuple[Path, Path]:
        """Name image and mask; masks are .png always."""
        image = published_image(self.images, camera, frame, ending)
        return image, published_image(self.masks, camera, frame)

    def journal(self, camera: int) -> Path:
        """Name the record of the extraction: beside the folder, where nobody reads images."""
        return self.images.parent / f"extract_c_{camera:03d}.jsonl"


class PublishedImages(Mapping[tuple[int, int], Path]):
    """Images by (frame, camera), as they existed when the folders were listed."""

    def __init__(self, image_dir: Path, mask_dir: Path, endings: Mapping[int, Mapping[int, str]]):
        """Store the list. endings: camera -> frame -> ending of its file."""
        self._start = str(image_dir)
        self._mask_folders = {camera: mask_dir / str(camera) for camera in endings}
        self._endings = endings

    def __getitem__(self, key: tuple[int, int]) -> Path:
        frame, camera = key
        ending = self._endings.get(camera, {})[frame]
        # One string: joining paths takes several times as long.
        image = PublishedImage(f"{self._start}/{camera}/image_c_{camera}_f_{frame}{ending}")
        image.mask_folder = self._mask_folders[camera]
        return image

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple):
            return False
        frame, camera = key
        return frame in self._endings.get(camera, ())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((frame, camera) for camera, frames in self._endings.items() for frame in frames)

    def __len__(self) -> int:
        return sum(map(len, self._endings.values()))


def list_published(
    image_dir: Path, mask_dir: Path, cameras: Sequence[int] | None, frames: Container[int]
) -> PublishedImages:
    """List the published images of some cameras (None: all that have a folder) and frames."""
    if cameras is None:
        cameras = _numbered_folders(image_dir)
    listed = {camera: _endings(image_dir / str(camera), camera, frames) for camera in cameras}
    return PublishedImages(
        image_dir, mask_dir, {c: endings for c, endings in listed.items() if endings}
    )


def _numbered_folders(folder: Path) -> list[int]:
    if not is_kind(Path.is_dir, folder):
        return []
    names = [path.name for path in folder.iterdir()]
    return sorted(int(name) for name in names if _is_number(name))


def _endings(folder: Path, camera: int, frames: Container[int]) -> dict[int, str]:
    """List frame -> ending of its image, in order. A missing folder gives none."""
    start, endings = f"image_c_{camera}_f_", {}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise bad(folder, None, f"cannot be listed: {error.strerror or error}") from error
    for ending in reversed(ENDINGS):
        length = len(ending)
        for name in names:
            number = name[len(start) : -length]
            if name.startswith(start) and name.endswith(ending) and _is_number(number):
                frame = int(number)
                if frame in frames:
                    endings[frame] = ending
    return dict(sorted(endings.items()))


def _is_number(name: str) -> bool:
    """Return whether a name is a number as the published extraction writes it."""
    return name.isascii() and name.isdigit() and len(name) < 10 and str(int(name)) == name
