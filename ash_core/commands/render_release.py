"""Defaults of `render` from a published configuration, for flags that are not given."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ash_core.errors import InputError
from ash_core.frame_choice import parse_frames

if TYPE_CHECKING:
    from ash_core.files.release import Release
    from ash_core.records import Camera, DrawableData

RENDERS: Final = "renders"
"""Folder in a configuration's output_dir: beside it lies what its training made."""
_NUMBERS: Final = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")


def default_out(release: "Release") -> Path | None:
    """Return the folder of renders where no flag gives one; None without an output_dir."""
    return None if release.output_dir is None else release.output_dir / RENDERS


def default_background(release: "Release") -> str:
    """The colour's name, as --background takes it."""
    return "white" if release.is_white_background in (True, None) else "black"


def validation_frames(release: "Release", count: int) -> list[int]:
    """Frames of the validation that the configuration's own motion has; all where it says none."""
    from ash_core.files.release import clip_frames

    if release.val_frames is None:
        return parse_frames(":", count)
    frames = list(clip_frames(release.val_frames, count))
    if not frames:
        start = release.val_frames.start
        text = f"expected a frame of its motion, 0 to {count - 1}, got {start}"
        raise InputError(f"{release.conf}: val_frame_start: {text}")
    return frames


def numbered_cameras(
    choice: str | None, release: "Release", data: "DrawableData"
) -> "dict[int, Camera] | None":
    """The cameras that --camera or the configuration names by number, of the configuration's size.

    None where others are asked for, or the configuration names none.
    """
    from ash_core.files.dataset import stretch_camera

    if choice is None:
        numbers, source = release.val_cameras or (), f"{release.conf}: val_camera"
    elif _NUMBERS.fullmatch(choice):
        numbers, source = tuple(map(int, choice.split(","))), "--camera"
    else:
        return None
    count = len(data.cameras)
    for number in numbers:
        if number >= count:
            text = f"expected numbers of cameras in 0..{count - 1}" if count else "found no cameras"
            raise InputError(f"{source}: {text}, got {number}")
    cameras = {number: data.cameras[number] for number in numbers}
    if release.size is not None:
        cameras = {n: stretch_camera(camera, *release.size) for n, camera in cameras.items()}
    return cameras or None


def image_names(cameras: Sequence[int], frames: Sequence[int]) -> list[str]:
    """Paths below the output, frame by frame, numbered as the published extraction numbers."""
    return [f"{c}/image_c_{c}_f_{frame}.png" for frame in frames for c in cameras]
