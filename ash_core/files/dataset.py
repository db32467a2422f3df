"""Where things lie in a data set, after DynaCap: a folder a subject, in it a folder a split.

    SUBJECT/
      NAME.character .skeleton .skin .motion .obj .png ...    the character
      cameras.calibration, cameras.json                       one camera a stream, in order
      training/, testing/
        videos/streamCCC.mp4                                  RGB
        foregroundSegmentation/streamCCC.mp4                  masks
        skeletoolToGTPose/poseAngles.motion                   one row a video frame
        skeletoolToGTPose/poseAnglesRotationNormalized.motion
        images/FFFFFF/image_c_CCC_f_FFFFFF.png (or .jpg)      what `ash-studio extract` makes
        truth/                                                what no real stage gives

Cameras and frames count from 0. A .png has straight colours and the mask as alpha; a .jpg shows the
person on black and has its mask beside it, mask_c_CCC_f_FFFFFF.png.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

Split = Literal["training", "testing"]
SPLITS: Final[tuple[Split, ...]] = ("training", "testing")
CALIBRATION: Final = "cameras.calibration"
CAMERAS: Final = "cameras.json"
POSES: Final = "skeletoolToGTPose/poseAngles.motion"
NORMALISED_POSES: Final = "skeletoolToGTPose/poseAnglesRotationNormalized.motion"
TRUTH: Final = "truth"
_IMAGE: Final = re.compile(r"image_c_(\d+)_f_(\d+)\.(png|jpg)")


def video_path(folder: Path, split: Split, camera: int) -> Path:
    """The RGB video of a camera."""
    return folder / split / "videos" / f"stream{camera:03d}.mp4"


def mask_video_path(folder: Path, split: Split, camera: int) -> Path:
    """The foreground video of a camera."""
    return folder / split / "foregroundSegmentation" / f"stream{camera:03d}.mp4"


def image_path(
    folder: Path, split: Split, camera: int, frame: int, kind: Literal["png", "jpg"] = "png"
) -> Path:
    """A masked image."""
    name = f"image_c_{camera:03d}_f_{frame:06d}.{kind}"
    return folder / split / "images" / f"{frame:06d}" / name


def mask_path(image: Path) -> Path:
    """The mask beside a .jpg."""
    return image.with_name("mask" + image.name.removeprefix("image")).with_suffix(".png")


def images_of(folder: Path, split: Split) -> Iterator[tuple[int, int, Path]]:
    """(frame, camera, path) of every image of a split, in order."""
    for shelf in sorted((folder / split / "images").glob("*")):
        for path in sorted(shelf.glob("image_c_*_f_*.*")):
            if (found := _IMAGE.fullmatch(path.name)) is not None:
                yield int(found[2]), int(found[1]), path
