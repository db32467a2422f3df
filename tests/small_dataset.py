"""A small data set in the DynaCap layout: the bundled actor, filmed by our own renderer.

For tests of whatever makes, checks or reads a data set. It is made once a session and copied.
"""

import functools
import math
import shutil
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import UInt8

from ash_core.conventions import MM_PER_M, R_WORLD_BODY
from ash_core.files.cameras.published import write_cameras
from ash_core.files.dataset import (
    CALIBRATION,
    CAMERAS,
    POSES,
    Split,
    mask_video_path,
    video_path,
)
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion, write_motion
from ash_core.geometry.camera import camera_from_fov, look_at, resize_camera
from ash_core.geometry.motion import pose_window
from ash_core.records import AvatarData, Camera
from ash_core.resources import resource

WIDTH, HEIGHT = 64, 48
CAMERAS_COUNT = 3
FRAMES = 8
STEP = 5
"""Frames of the bundled motion from one of ours to the next: the actor should move."""
FINER = 4
BACKDROP = (0.25, 0.45, 0.3)


def small_dataset(folder: Path, splits: Sequence[Split] = ("training",)) -> Path:
    """Copy the data set, for tests that damage it."""
    shutil.copytree(_made(), folder, dirs_exist_ok=True)
    for split in splits:
        if split != "training":
            shutil.copytree(folder / "training", folder / split)
    return folder


@functools.cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="small_dataset_"))
    actor = resource("assets", "actor")
    for path in actor.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)
    data, _ = import_ash(folder)
    motion = read_motion(actor / "motions" / "dance.motion", data.skeleton)
    dofs = motion.dofs[100 : 100 + FRAMES * STEP : STEP]
    write_motion(folder / "training" / POSES, dofs)
    cameras = ring(data, dofs)
    write_cameras(folder / CAMERAS, cameras)
    (folder / CALIBRATION).write_text(calibration_text(cameras))
    for number, (pictures, masks) in enumerate(film(data, folder, cameras)):
        write_video(video_path(folder, "training", number), pictures)
        write_video(mask_video_path(folder, "training", number), masks)
    return folder


def ring(data: AvatarData, dofs: torch.Tensor, count: int = CAMERAS_COUNT) -> list[Camera]:
    """Place cameras around the actor, each with its own field of view."""
    from ash_core.geometry.framing import joint_positions

    joints = joint_positions(data.skeleton, dofs).reshape(-1, 3).float()
    centre = (joints.amin(0) + joints.amax(0)) / 2
    cameras = []
    for number in range(count):
        angle = 2 * math.pi * number / count
        eye = centre + 3.2 * torch.tensor([math.cos(angle), math.sin(angle), 0.2])
        fov = math.radians(42.0 + number)
        view = look_at(eye, centre)
        cameras.append(camera_from_fov(view, fov, WIDTH, HEIGHT, name=str(number)))
    return cameras


def film(
    data: AvatarData, folder: Path, cameras: Sequence[Camera]
) -> list[tuple[UInt8[np.ndarray, "F h w 3"], UInt8[np.ndarray, "F h w 3"]]]:
    """Render images over an even backdrop, and masks, by camera."""
    from ash_core.avatar import Avatar
    from ash_core.render import Renderer, RenderRequest

    motion = read_motion(folder / "training" / POSES, data.skeleton)
    renderer = Renderer(Avatar.from_data(data, preset_name="cpu"))
    pictures: list[list[np.ndarray]] = [[] for _ in cameras]
    masks: list[list[np.ndarray]] = [[] for _ in cameras]
    for frame in range(len(motion.dofs)):
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        for number, camera in enumerate(cameras):
            # Splats blur by half a pixel: filmed larger and averaged, or the person would be fat.
            large = resize_camera(camera, FINER * camera.width, FINER * camera.height)
            image = renderer.render(RenderRequest(window, large, BACKDROP))
            both = torch.cat((image.rgb.clamp(0, 1), image.alpha[..., None]), -1)
            both = both.unflatten(0, (-1, FINER)).unflatten(2, (-1, FINER)).mean((1, 3))
            pictures[number].append((both[..., :3] * 255 + 0.5).byte().numpy())
            mask = (both[..., 3:] > 0.5).byte() * 255
            masks[number].append(mask.expand(-1, -1, 3).numpy())
    return [(np.stack(p), np.stack(m)) for p, m in zip(pictures, masks, strict=True)]


def write_video(
    path: Path,
    frames: UInt8[np.ndarray, "F h w 3"],
    ticks: Sequence[int] | None = None,
    container_options: dict[str, str] | None = None,
    fps: int = 25,
    crf: int = 12,
) -> None:
    """Write an H.264 video of some frames a second, or a frame at each of `ticks` (1/fps s)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast", "g": "4"}
        stream.codec_context.time_base = Fraction(1, fps)
        for tick, frame in zip(ticks or range(len(frames)), frames, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def calibration_text(cameras: Sequence[Camera], extra: str = "  radial      0\n") -> str:
    """Format a Skeletool calibration: camera from body, mm."""
    T_world_body = np.eye(4)
    T_world_body[:3, :3] = R_WORLD_BODY
    text = "Skeletool Camera Calibration File V1.0\n"
    for camera in cameras:
        K = np.eye(4)
        K[:3, :3] = camera.K.numpy()
        T = camera.viewmat.double().numpy() @ T_world_body
        T[:3, 3] *= MM_PER_M
        text += f"name          {camera.name}\n  sensor      10 7.3\n"
        text += f"  size        {camera.width} {camera.height}\n  animated    0\n"
        for name, matrix in (("intrinsic", K), ("extrinsic", T)):
            text += f"  {name}   " + " ".join(f"{v:.9g}" for v in matrix.flatten()) + "\n"
        text += extra
    return text
