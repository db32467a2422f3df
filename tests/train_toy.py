"""A tiny data set to train on: the toy character, filmed with another texture than its own."""

from dataclasses import replace
from pathlib import Path

import torch
from toy import FRAMES, make_toy_character, toy_dofs

from ash_core.avatar import Avatar
from ash_core.files.avatar_file import save_avatar
from ash_core.files.cameras.published import write_cameras
from ash_core.files.dataset import CAMERAS, POSES, Split, image_path
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion, write_motion
from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.geometry.motion import pose_window
from ash_core.records import Camera
from ash_core.render import Renderer, RenderRequest

WIDTH, HEIGHT = 96, 72
COUNT = 6


def toy_footage(folder: Path, cameras: int = 3, frames: int = COUNT) -> Path:
    """A data set of both splits. The character that comes with it has other colours than the one
    that was filmed, so that there is something to learn.

    `small.safetensors` in it is that character with the settings of a small decoder.
    """
    toy = make_toy_character(folder)
    data, _ = import_ash(toy.conf)
    truth = replace(data, template=replace(data.template, texture=painted(data.template.texture)))
    renderer = Renderer(Avatar.from_data(truth, preset_name="cpu"))
    ring = around(cameras)
    write_cameras(folder / CAMERAS, ring)
    dofs = toy_dofs()
    for split, rows in (
        ("training", range(0, 2 * frames, 2)),
        ("testing", range(FRAMES - 3, FRAMES)),
    ):
        film(folder, split, renderer, ring, dofs[list(rows)])  # type: ignore[arg-type]
    small = {"atlas": 48, "width": 8, "sh_degree": 1}
    save_avatar(folder / "small.safetensors", replace(data, decoder=small))
    return folder


def film(
    folder: Path, split: Split, renderer: Renderer, ring: list[Camera], dofs: torch.Tensor
) -> None:
    write_motion(folder / split / POSES, dofs)
    data = renderer.avatar.data
    motion = read_motion(folder / split / POSES, data.skeleton)
    for frame in range(len(dofs)):
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        for number, camera in enumerate(ring):
            image = renderer.render(RenderRequest(window, camera, None))
            image.save(image_path(folder, split, number, frame))


def around(count: int) -> list[Camera]:
    """Cameras around the toy, all in front of it."""
    found = []
    for number in range(count):
        angle = torch.tensor(0.5 * (number - (count - 1) / 2))
        eye = torch.stack((2.6 * angle.cos(), 2.6 * angle.sin(), torch.tensor(0.8)))
        view = look_at(eye, torch.tensor([0.0, 0.0, 0.6]))
        found.append(camera_from_fov(view, 0.7, WIDTH, HEIGHT, str(number)))
    return found


def painted(texture: torch.Tensor) -> torch.Tensor:
    """Stripes of other colours."""
    rows = torch.arange(texture.shape[0])[:, None, None]
    stripes = torch.tensor([220, 60, 40]) * (rows // 6 % 2) + torch.tensor([30, 90, 160]) * (
        rows // 6 % 2 == 0
    )
    return stripes.expand_as(texture).to(torch.uint8).contiguous()
