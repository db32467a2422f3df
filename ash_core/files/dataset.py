"""Layout of a data set, after DynaCap: a folder a subject, in it a folder a split.

    SUBJECT/
      NAME.character .skeleton .skin .motion .obj .png ...    the character
      cameras.calibration, cameras.json                       one camera a stream, in order
      capture.json                                            source of an imported capture
      training/, testing/
        videos/streamCCC.mp4                                  RGB
        foregroundSegmentation/streamCCC.mp4                  masks
        skeletoolToGTPose/poseAngles.motion                   one row a video frame
        skeletoolToGTPose/poseAnglesRotationNormalized.motion
        images/FFFFFF/image_c_CCC_f_FFFFFF.png (or .jpg)      what `ash-studio extract` makes, or
                                                              links of `ash-studio import capture`
        truth/                                                ground truth beyond a real stage

Cameras and frames count from 0. A .png has straight colours and the mask as alpha; a .jpg has its
mask beside it, mask_c_CCC_f_FFFFFF.png, and shows the person on black or the whole scene. Either
may hold only the box around the person: then a text in it says where the box lay, and `read_masked`
puts it back. Names alone tell the two kinds apart: links may lead to files of any other ending, and
an image or mask of the kind .jpg is a JPEG or a PNG by its content.

A configuration of the published tree is a data set too (`release_dataset`). Its images are in a
folder a camera, with their masks apart (`release_images`).

Nothing heavy is imported before it is needed: the processes that extract images use this too.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image as PillowImage

from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import InputError
from ash_core.files.io import bad, is_kind, read_json, shorten, show
from ash_core.files.release_images import PublishedImage, PublishedImages, published_image

if TYPE_CHECKING:
    from ash_core.files.release import Purpose, Release
    from ash_core.records import AvatarData, Camera, Motion

Split = Literal["training", "testing"]
SPLITS: Final[tuple[Split, ...]] = ("training", "testing")
CALIBRATION: Final = "cameras.calibration"
CAMERAS: Final = "cameras.json"
CAPTURE: Final = "capture.json"
"""Record of `ash-studio import capture`: the poses were fitted to images."""
POSES: Final = "skeletoolToGTPose/poseAngles.motion"
NORMALISED_POSES: Final = "skeletoolToGTPose/poseAnglesRotationNormalized.motion"
TRUTH: Final = "truth"
SAME_JOINT_M: Final = 0.002
"""Largest distance between joints of the same body."""
BOX_KEY: Final = "ash-studio-box"
"""Key of the text "LEFT TOP WIDTH HEIGHT" in a cropped image: place of the box in an image of that
size. In a .png a tEXt entry of this name, in a .jpg a comment that begins with it."""
CLEAR: Final = 32
SOLID: Final = 223
"""Grey levels of a compressed mask: darker ones are background, brighter ones the person; between
them they are its share of the pixel. Compression blurs exact masks by less."""
ROOM_PX: Final = 8
"""Pixels around the mask of a .jpg that are read too; training keeps some of them."""
MAX_FAST_BYTES: Final = 64 << 20
"""Size of the largest PNG that is read whole before decoding."""
_IMAGE: Final = re.compile(r"image_c_(\d+)_f_(\d+)\.(png|jpg)")


def video_path(folder: Path, split: Split, camera: int) -> Path:
    """Return the path of a camera's RGB video."""
    return folder / split / "videos" / f"stream{camera:03d}.mp4"


def mask_video_path(folder: Path, split: Split, camera: int) -> Path:
    """Return the path of a camera's foreground video."""
    return folder / split / "foregroundSegmentation" / f"stream{camera:03d}.mp4"


def image_path(
    folder: Path, split: Split, camera: int, frame: int, kind: Literal["png", "jpg"] = "png"
) -> Path:
    """Return the path of a masked image."""
    name = f"image_c_{camera:03d}_f_{frame:06d}.{kind}"
    return folder / split / "images" / f"{frame:06d}" / name


def mask_path(image: Path) -> Path:
    """Return the mask's path of an image without alpha: beside a .jpg, or in a folder of masks."""
    if isinstance(image, PublishedImage):
        return image.mask
    return image.with_name("mask" + image.name.removeprefix("image")).with_suffix(".png")


def image_files(image: Path) -> tuple[Path, ...]:
    """List the files of an image and its mask."""
    return (image,) if _has_alpha(image) else (image, mask_path(image))


def _has_alpha(image: Path) -> bool:
    """Return whether an image's mask is its own alpha."""
    return image.suffix == ".png" and not isinstance(image, PublishedImage)


def images_of(folder: Path, split: Split) -> Iterator[tuple[int, int, Path]]:
    """Yield (frame, camera, path) of every image of a split, in order."""
    for shelf in sorted((folder / split / "images").glob("*")):
        for path in sorted(shelf.glob("image_c_*_f_*.*")):
            if (match := _IMAGE.fullmatch(path.name)) is not None:
                yield int(match[2]), int(match[1]), path


def read_picture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read a whole image's colours as stored, with the background where it was kept.

    Outside the box of a cropped image they are 0. Raises: InputError.
    """
    pixels, (left, top, width, height) = _read_pixels(path)[:2]
    pixels = pixels[..., :3] if pixels.ndim == 3 else pixels[..., None].repeat(3, -1)
    if pixels.shape[:2] == (height, width):
        return pixels
    whole = np.zeros((height, width, 3), np.uint8)
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole


# ---- images ----


@dataclass(frozen=True)
class MaskedCrop:
    """Masked image as stored: the full image, or a box of it."""

    rgb: UInt8[np.ndarray, "h w 3"]
    """Straight colours; black where alpha is 0."""
    alpha: UInt8[np.ndarray, "h w"]
    left: int
    top: int
    width: int
    """Width of the full image, px."""
    height: int
    pixels: UInt8[np.ndarray, "h w 4"] | None = None
    """Colours and alpha in one array, where they were decoded so."""


def read_masked(
    path: Path,
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Read colours and mask of a whole image; outside the box of a cropped one both are 0.

    Bytes, 255 is 1. Differs: the published loader divides by 256 (docs/released_behaviour.md A20).
    """
    crop = read_masked_crop(path)
    if crop.alpha.shape == (crop.height, crop.width):
        return crop.rgb, crop.alpha
    rows = slice(crop.top, crop.top + crop.rgb.shape[0])
    columns = slice(crop.left, crop.left + crop.rgb.shape[1])
    rgb = np.zeros((crop.height, crop.width, 3), np.uint8)
    alpha = np.zeros((crop.height, crop.width), np.uint8)
    rgb[rows, columns], alpha[rows, columns] = crop.rgb, crop.alpha
    return rgb, alpha


def read_masked_crop(path: Path) -> MaskedCrop:
    """Read an image as stored. A .jpg has its mask beside it, a .png in its alpha.

    Of a .jpg only the box around the mask is returned: the rest may be the backdrop. Images of the
    published layout have masks in another folder, whatever their ending.
    """
    if _has_alpha(path):
        stored = _read_pixels(path)
        pixels = stored.pixels
        if pixels.ndim != 3 or pixels.shape[2] != 4:
            raise bad(path, None, "expected RGB with alpha, got no alpha")
        return MaskedCrop(pixels[..., :3], pixels[..., 3], *stored.place, pixels)
    if not isinstance(path, PublishedImage):
        return _read_person(path)
    pixels = _read_pixels(path).pixels
    if pixels.ndim != 3:
        raise bad(path, None, "expected RGB, got a grey image")
    size = (pixels.shape[1], pixels.shape[0])
    alpha, _ = _read_mask(path, size, None)
    return MaskedCrop(pixels[..., :3], alpha, 0, 0, *size)


def read_mask_crop(path: Path) -> MaskedCrop:
    """Read an image's mask and box; colours only if both are one file, else black."""
    if _has_alpha(path):
        return read_masked_crop(path)
    with _open_image(path) as image:
        place, size = _stored_box(path, image), image.size
    part = None if isinstance(path, PublishedImage) else _person_part
    alpha, (left, top, *_) = _read_mask(path, size, part)
    rgb = np.zeros((*alpha.shape, 3), np.uint8)
    return MaskedCrop(rgb, alpha, place[0] + left, place[1] + top, *place[2:])


def _read_person(path: Path) -> MaskedCrop:
    """Read the box around the mask of a .jpg, black where alpha is 0."""
    with _open_image(path) as image:
        place, size = _stored_box(path, image), image.size
        alpha, part = _read_mask(path, size, _person_part)
        pixels = _decode_rgba(path, image, part)
    # All four bytes of a pixel at once.
    pixels.view(np.uint32)[..., 0] *= alpha > 0
    pixels[..., 3] = alpha
    left, top = place[0] + part[0], place[1] + part[1]
    return MaskedCrop(pixels[..., :3], pixels[..., 3], left, top, *place[2:], pixels)


def _decode_rgba(path: Path, image: PillowImage.Image, part: "Part") -> UInt8[np.ndarray, "h w 4"]:
    """Decode a part of an opened image. Its alpha is any number."""
    if image.mode in ("RGB", "RGBA") and image.format == "JPEG":
        # Copying the whole image out of Pillow would take as long as a third of decoding it.
        with _decoding(path):
            return np.array(image.crop(part).convert("RGBA"))
    left, top, right, bottom = part
    pixels = _read_pixels(path).pixels[top:bottom, left:right]
    if pixels.ndim != 3:
        raise bad(path, None, "expected RGB, got a grey image")
    whole = np.empty((*pixels.shape[:2], 4), np.uint8)
    whole[..., :3] = pixels[..., :3]
    return whole


Part = tuple[int, int, int, int]
"""Left, top, right, bottom of a part of an image, px."""


def _person_part(grey: UInt8[np.ndarray, "h w"]) -> Part:
    """Find the box around a mask, with some room; one pixel if it is empty."""
    rows = np.flatnonzero(grey.max(1, initial=0))
    if not len(rows):
        return 0, 0, 1, 1
    height, width = grey.shape
    columns = np.flatnonzero(grey[rows[0] : rows[-1] + 1].max(0, initial=0))
    left, top = max(int(columns[0]) - ROOM_PX, 0), max(int(rows[0]) - ROOM_PX, 0)
    right, bottom = int(columns[-1]) + 1 + ROOM_PX, int(rows[-1]) + 1 + ROOM_PX
    return left, top, min(right, width), min(bottom, height)


def _read_mask(
    path: Path, size: tuple[int, int], part_of: Callable[[np.ndarray], Part] | None
) -> tuple[UInt8[np.ndarray, "h w"], Part]:
    """Read a part of a mask of its own file. Of a coloured mask, white counts.

    size: width and height of the image's pixels. part_of: chooses the part; None: all of it. Of a
    JPEG the noise of compression, 1 to 20 levels at rims, is cleared on both sides.
    """
    beside = mask_path(path)
    stored = _read_pixels(beside)
    grey = stored.pixels if stored.pixels.ndim == 2 else stored.pixels[..., 0]
    if grey.shape != size[::-1]:
        actual = f"{grey.shape} beside {path.name} of {size[0]} x {size[1]} px"
        raise bad(beside, None, f"expected a mask of the image's size, got {actual}")
    is_noisy = stored.is_jpeg and not isinstance(path, PublishedImage)
    if part_of is None:
        part = (0, 0, *size)
    else:
        # Noise lies within the room around the box.
        part = part_of(grey)
        grey = grey[part[1] : part[3], part[0] : part[2]]
    if is_noisy:
        flat = grey.tobytes().translate(_JPEG_LEVELS)
        grey = np.frombuffer(flat, np.uint8).reshape(grey.shape)
    return grey, part


def soft_levels(grey: UInt8[np.ndarray, "256"] | np.ndarray) -> UInt8[np.ndarray, "256"]:
    """Compute the alpha of each grey level of a compressed mask whose edges are soft."""
    alpha = np.where(grey < CLEAR, 0, np.where(grey > SOLID, 255, grey))
    return (alpha + 0.5).astype(np.uint8)


_JPEG_LEVELS: Final = soft_levels(np.arange(256)).tobytes()


def stored_box(path: Path) -> tuple[int, int, int, int, int, int] | None:
    """Read (left, top, width, height) of a cropped image, and the full image's (width, height).

    Only the file's first bytes are read. None if the file holds the full image.
    """
    with _open_image(path) as image:
        left, top, width, height = _stored_box(path, image)
        is_whole = (width, height) == image.size
        return None if is_whole else (left, top, *image.size, width, height)


def picture_size(path: Path) -> tuple[int, int]:
    """Read the (width, height) of the full image from the file's first bytes."""
    with _open_image(path) as image:
        return _stored_box(path, image)[2:]


class _Stored(NamedTuple):
    """Decoded file."""

    pixels: UInt8[np.ndarray, "h w *c"]
    place: tuple[int, int, int, int]
    """Left and top of the file's box, width and height of the full image."""
    is_jpeg: bool


def _read_pixels(path: Path) -> _Stored:
    """Decode an image as stored: grey, RGB or RGBA."""
    with _decoding(path), _open_image(path) as image:
        place, is_jpeg = _stored_box(path, image), image.format == "JPEG"
        mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
        if mode not in ("L", "RGB", "RGBA"):
            raise bad(path, None, f"expected 8 bits a channel, got mode {image.mode}")
        pixels = _decode_fast(path) if image.format == "PNG" else None
        pixels = np.array(image.convert(mode)) if pixels is None else pixels
        return _Stored(pixels, place, is_jpeg)


@contextlib.contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Name the file in errors of decoders."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders raise any exception, depending on the damage
        reason = show(str(error) or type(error).__name__)
        raise bad(path, None, f"expected an image, could not decode it: {reason}") from error


def _decode_fast(path: Path) -> UInt8[np.ndarray, "h w *c"] | None:
    """Decode a PNG without Pillow; None for other kinds and damaged files."""
    from ash_core.files.png import decode_png

    return decode_png(path.read_bytes()) if path.stat().st_size < MAX_FAST_BYTES else None


def _open_image(path: Path) -> PillowImage.Image:
    try:
        if not path.is_file():
            raise bad(path, None, "expected an image, found nothing there")
        image = PillowImage.open(path, formats=("PNG", "JPEG"))
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # the system, not the decoder
            raise bad(path, None, f"cannot be read: {error.strerror}") from error
        raise bad(path, None, f"expected a .png or .jpg image: {show(str(error))}") from error
    if max(image.size) > MAX_SIDE_PX:
        raise bad(path, None, f"expected sides up to {MAX_SIDE_PX} px, got {image.size}")
    return image


def _stored_box(path: Path, image: PillowImage.Image) -> tuple[int, int, int, int]:
    """Parse (left, top, width and height of the full image)."""
    text = image.info.get(BOX_KEY)
    comment = image.info.get("comment", b"")
    if text is None and isinstance(comment, bytes) and comment.startswith(BOX_KEY.encode()):
        text = comment.decode("ascii", "replace").removeprefix(BOX_KEY)
    if text is None:
        return (0, 0, *image.size)
    words = str(text).split()
    if len(words) == 4 and all(re.fullmatch(r"[0-9]{1,6}", word) for word in words):
        left, top, width, height = map(int, words)
        fits = left + image.width <= width and top + image.height <= height
        if fits and max(width, height) <= MAX_SIDE_PX:
            return left, top, width, height
    raise bad(path, None, f"expected a box inside its picture, got {BOX_KEY} {show(str(text))}")


# ---- the whole ----


@dataclass(frozen=True)
class SplitData:
    """Split of a data set: poses, cameras, images."""

    name: Split
    motion: "Motion"
    """Motion with one pose a video frame; float64 dofs, with the published normalised dofs where
    they are beside it."""
    cameras: tuple["Camera", ...]
    """Cameras by number, sized as this split's images."""
    images: Mapping[tuple[int, int], Path]
    """Images by (frame, camera). Every frame has a pose, every camera its place in `cameras`. May
    be empty before extraction."""

    def image_name(self, frame: int, camera: int) -> str:
        """Return the path of an image, whether it exists or not."""
        if isinstance(self.images, PublishedImages):
            return published_image(Path(), camera, frame).name
        return image_path(Path(), self.name, camera, frame).name


@dataclass(frozen=True)
class Plan:
    """Cameras and frames as divided by a configuration."""

    train_cameras: tuple[int, ...]
    val_cameras: tuple[int, ...]
    """Cameras of validations; trained on only if they are training cameras too."""
    train_frames: range
    val_frames: range


@dataclass(frozen=True)
class Dataset:
    """Subject: its character, cameras as calibrated, and its splits."""

    folder: Path
    character: "AvatarData"
    cameras: tuple["Camera", ...]
    splits: Mapping[Split, SplitData]
    """Splits whose folder exists; at least one."""
    notes: tuple[str, ...]
    """Notes of the character's importer on missing parts."""
    release: "Release | None" = None
    """Published configuration that opened the data set."""
    plan: Plan | None = None
    """Cameras and frames that this configuration trains and validates on."""


def data_release(path: Path, purpose: "Purpose" = "train") -> "Release | None":
    """Read the published configuration that opens a data set; None for our layout.

    path: a configuration or a folder of the published tree; of several configurations, the one for
    the purpose. Raises: InputError.
    """
    from ash_core.files.release import find_conf, read_release

    if not is_kind(Path.is_dir, path) and path.suffix.lower() != ".conf":
        actual = "a file" if path.exists() else "none"
        text = f"expected the folder of a data set or a .conf, found {actual}"
        raise bad(path, None, text)
    is_ours = any(any(path.glob(kind)) for kind in ("*.conf", "*.character")) and _splits(path)
    conf = None if is_ours else find_conf(path, purpose)
    release = None if conf is None else read_release(conf)
    # Otherwise it is a character's own configuration, in the folder of its data.
    return release if release is not None and release.is_training_data else None


def open_dataset(path: Path | str, purpose: "Purpose" = "train") -> Dataset:
    """Read a data set's character, cameras and poses, and list its images.

    path: a folder of our layout, or one of the published tree (`data_release`). cameras.json comes
    before cameras.calibration. Of the images, only one header a camera is read. Raises: InputError.
    """
    path = Path(path)
    release = data_release(path, purpose)
    if release is not None:
        from ash_core.files.release_dataset import open_release

        is_found = release.conf != path
        return open_release(release, (f"{path}: its configuration is {release.conf}",) * is_found)
    return _open_folder(path if is_kind(Path.is_dir, path) else path.absolute().parent, path)


def _open_folder(folder: Path, entry: Path) -> Dataset:
    """Open a folder of our layout. entry: source of its character."""
    from ash_core.files.released import import_ash

    character, notes = import_ash(entry)
    cameras = read_dataset_cameras(folder)
    names = _splits(folder)
    if not names:
        raise bad(folder, None, f"expected a folder {' or '.join(SPLITS)} in it, found none")
    splits: dict[Split, SplitData] = {
        name: _open_split(folder, name, character, cameras) for name in names
    }
    return Dataset(folder, character, cameras, splits, tuple(notes))


def _splits(folder: Path) -> list[Split]:
    return [name for name in SPLITS if is_kind(Path.is_dir, folder / name)]


def check_fits(avatar: "AvatarData", path: Path | str, dataset: Dataset) -> str | None:
    """Compare the joints of an avatar and a data set; a note if they are different bodies.

    Raises: InputError for another skeleton.
    """
    skeleton, other = avatar.skeleton, dataset.character.skeleton
    if skeleton.dof_names != other.dof_names or skeleton.joint_names != other.joint_names:
        raise InputError(f"{path}: expected the skeleton of {dataset.folder}, got another")
    apart = float((skeleton.offsets - other.offsets).norm(dim=-1).max())
    if apart <= SAME_JOINT_M:
        return None
    return f"{path}: joints lie up to {1000 * apart:.0f} mm from {dataset.folder}'s: another body?"


def read_dataset_cameras(folder: Path) -> tuple["Camera", ...]:
    """Read the cameras of a data set: cameras.json, else cameras.calibration."""
    from ash_core.files.cameras.published import read_calibration, read_cameras

    if is_kind(Path.is_file, folder / CAMERAS):
        return read_cameras(folder / CAMERAS)
    if is_kind(Path.is_file, folder / CALIBRATION):
        return read_calibration(folder / CALIBRATION)
    raise bad(folder, None, f"expected {CAMERAS} or {CALIBRATION} in it, found neither")


def read_capture_turn(folder: Path) -> Float[ndarray, "4 4"]:
    """Read T_world_capture of a data set of `import capture`: rigid, m. Raises: InputError."""
    path = folder / CAPTURE
    if not is_kind(Path.is_file, path):
        text = f"expected a data set of 'import capture', found no {CAPTURE} in it"
        raise bad(folder, None, text)
    content = read_json(path)
    rows = content.get("T_world_capture") if isinstance(content, dict) else None
    try:
        T = np.array(rows, np.float64)
    except (TypeError, ValueError):
        T = np.zeros(0)
    expected = "expected T_world_capture, a rotation and a shift as 4 x 4 numbers"
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise bad(path, None, f"{expected}, got {show(shorten(repr(rows), 60))}")
    R = T[:3, :3]
    is_rotation = np.abs(R @ R.T - np.eye(3)).max() < 1e-3 and np.linalg.det(R) > 0
    if not is_rotation or tuple(T[3]) != (0, 0, 0, 1):
        raise bad(path, None, f"{expected}, got another matrix")
    return T


def _open_split(
    folder: Path, split: Split, character: "AvatarData", cameras: tuple["Camera", ...]
) -> SplitData:
    from ash_core.files.skeletool import read_motion

    motion = read_motion(folder / split / POSES, character.skeleton)
    images = images_with_poses(folder, split, len(cameras), len(motion.dofs))
    return SplitData(split, motion, sized_as_images(cameras, images), images)


def images_with_poses(
    folder: Path, split: Split, cameras: int, poses: int
) -> dict[tuple[int, int], Path]:
    """List the images of our layout. Raises: InputError for one without a camera or pose."""
    images: dict[tuple[int, int], Path] = {}
    for frame, camera, path in images_of(folder, split):
        if camera >= cameras:
            raise bad(path, None, f"expected a camera of {cameras}, got number {camera}")
        if frame >= poses:
            text = f"expected a pose for it, but {folder / split / POSES} has {poses}"
            raise bad(path, None, text)
        if (frame, camera) in images:
            other = images[frame, camera].name
            raise bad(path, None, f"expected one image of camera and frame, got {other} too")
        images[frame, camera] = path
    return images


def sized_as_images(
    cameras: tuple["Camera", ...], images: Mapping[tuple[int, int], Path]
) -> tuple["Camera", ...]:
    """Resize each camera to its first image."""
    first: dict[int, tuple[int, int]] = {}
    for frame, camera in images:
        first.setdefault(camera, (frame, camera))
    sized = list(cameras)
    for camera, key in first.items():
        sized[camera] = stretch_camera(cameras[camera], *picture_size(images[key]))
    return tuple(sized)


def stretch_camera(camera: "Camera", width: int, height: int) -> "Camera":
    """Scale a camera to another image size, each side by its own factor."""
    if (width, height) == (camera.width, camera.height):
        return camera
    K = camera.K.clone()
    K[0] *= width / camera.width
    K[1] *= height / camera.height
    return replace(camera, K=K, width=width, height=height)
