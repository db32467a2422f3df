"""A small data set to try a training on: the built-in actor, filmed in other colours."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from ash_core.avatar import Avatar
from ash_core.errors import InputError
from ash_core.files.cameras.published import write_cameras
from ash_core.files.dataset import CAMERAS, POSES, Split, image_path
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion, write_motion
from ash_core.geometry.camera import camera_from_fov, camera_position, look_at
from ash_core.geometry.framing import front_camera, motion_middle
from ash_core.pose_windows import window_at
from ash_core.records import Motion
from ash_core.render import Renderer, RenderRequest
from ash_core.resources import resource

FOV_RAD = 0.6
STEP = 4
"""Frames of the dance from one of the toy's to the next."""


def make_toy(
    folder: Path | str, cameras: int = 4, frames: int = 6, width: int = 96, height: int = 128
) -> Path:
    """Make a small data set for `ash.train`, in seconds on a CPU; returns its folder.

    The built-in actor dances in other colours than its character's texture, which there is to
    learn. cameras: in a circle, 3 or more; the test camera among them is `ash.train`'s choice.
    frames: of training/; testing/ has half of them, later ones. width, height: px.
    Raises: InputError, also for a folder that holds something.

    >>> sorted(path.name for path in ash.make_toy(folder / "data").iterdir() if path.is_dir())
    ['testing', 'training']
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: expected a new folder, or an empty one")
    if cameras < 3 or frames < 2 or min(width, height) < 32:
        raise InputError(
            "make_toy: expected 3 cameras, 2 frames and sides of 32 px or more, "
            f"got {cameras}, {frames} and {width} x {height}"
        )
    # The character's files, and its avatar in other colours.
    actor = resource("assets", "actor")
    shutil.copytree(actor, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("motions"))
    data, _ = import_ash(folder)
    template = replace(data.template, texture=255 - data.template.texture.flip(-1))
    renderer = Renderer(Avatar.from_data(replace(data, template=template), preset_name="cpu"))

    # A ring of cameras that see the whole figure in every pose.
    dance = read_motion(actor / "motions" / "dance.motion", data.skeleton)
    dofs = dance.dofs[100::STEP][: 2 * frames + 4]
    front = front_camera(data, dofs, FOV_RAD, width, height)
    middle = motion_middle(data, dofs).float()
    reach = float((camera_position(front.viewmat) - middle).norm())
    ring = []
    for number in range(cameras):
        angle = 2 * math.pi * number / cameras
        eye = middle + reach * torch.tensor([math.cos(angle), math.sin(angle), 0.1])
        ring.append(camera_from_fov(look_at(eye, middle), FOV_RAD, width, height, str(number)))
    write_cameras(folder / CAMERAS, ring)

    # Images with alpha of both splits.
    splits: list[tuple[Split, torch.Tensor]] = [
        ("training", dofs[:frames]),
        ("testing", dofs[frames + 4 :][: (frames + 1) // 2]),
    ]
    for split, rows in splits:
        write_motion(folder / split / POSES, rows)
        motion = Motion(rows)
        for frame in range(len(rows)):
            window = window_at(data, motion, frame, device=renderer.device)
            for number, camera in enumerate(ring):
                image = renderer.render(RenderRequest(window, camera))
                image.save(image_path(folder, split, number, frame))
    return folder
