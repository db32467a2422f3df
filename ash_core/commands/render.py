"""`ash-studio render`: an avatar and a motion to a video or pictures."""

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import tyro

from ash_core.commands.options import (
    check_range,
    parse_background,
    parse_frames,
    parse_point,
    parse_size,
)
from ash_core.commands.scene import (
    Backend,
    Device,
    Preset,
    is_still,
    load_avatar_data,
    load_motion,
    make_renderer,
)
from ash_core.commands.terminal import StopRequest, note, progress_bar, say
from ash_core.errors import INTERRUPTED, InputError

if TYPE_CHECKING:
    from ash_core.files.video import FrameWriter, Pixels
    from ash_core.records import AvatarData, Camera, Image, Motion
    from ash_core.render import Renderer, RenderRequest

DEFAULT_SIZE = (1280, 960)
SESSIONS = "ash_studio.sessions"
"""Entry point of a package above this one, the viewer: `record` renders a session file."""
IN_A_SESSION = ("avatar", "motion", "frames", "camera", "eye", "target", "fov", "background")
"""What a session file says itself."""


@dataclass(frozen=True)
class Render:
    """Render an avatar's motion, without a window, to a video or to pictures."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="X")]
    """.mp4 (H.264), .webm (VP9, alpha), .mov (ProRes 4444, alpha), .png (one frame), or a folder.
    An existing file is replaced when the new one is complete."""
    avatar: Annotated[
        tyro.conf.Positional[str | None], tyro.conf.arg(metavar="AVATAR", help_behavior_hint="")
    ] = None
    """Avatar file (.safetensors), splats (.ply), 'bundled' or 'bundled-balanced' (trained), or
    'actor' (not). Not beside --session."""
    session: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.ash-session", help_behavior_hint="")
    ] = None
    """Session saved by the viewer instead: its avatar, motion, range, poses, camera and look."""
    motion: Annotated[str | None, tyro.conf.arg(metavar="FILE.motion", help_behavior_hint="")] = (
        None
    )
    """Motion file, or the name of a bundled motion. Default: the bundled avatars dance; others play
    the first file of motions/ beside them that fits, or stand in their rest pose."""
    frames: Annotated[str, tyro.conf.arg(metavar="START:STOP:STEP")] = ":"
    """Frames of the motion: one number, or a slice as in Python (STOP is not rendered)."""
    camera: Annotated[str, tyro.conf.arg(metavar="front|orbit|FILE:N|avatar:N")] = "front"
    """front: stands still and sees the whole motion.
    orbit: goes once round the character and follows it.
    cameras.json:2 or FILE.calibration:2: a camera by index or name.
    avatar:2: one stored in the avatar file."""
    eye: Annotated[str | None, tyro.conf.arg(metavar="X,Y,Z", help_behavior_hint="")] = None
    """Look-at camera instead: its place, m, world (Z up)."""
    target: Annotated[str | None, tyro.conf.arg(metavar="X,Y,Z", help_behavior_hint="")] = None
    """What the look-at camera looks at, m, world. Default: the middle of the character."""
    fov: float = 40.0
    """Vertical field of view of front, orbit and look-at cameras, degrees."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH", help_behavior_hint="")] = None
    """Picture size, pixels. Default: the file camera's own, else 1280x960. Of a session: that of
    the capture camera it looks through, else that of recordings in the viewer's preferences.
    Odd sizes grow to even ones in .mp4 and .webm: the last row or column is repeated."""
    background: Annotated[str, tyro.conf.arg(metavar="COLOUR")] = "white"
    """white, black, transparent or #rrggbb."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS", help_behavior_hint="")] = None
    """Frames a second of the video. Default: the motion's own (25)."""
    device: Device = "auto"
    """Where the avatar lives; auto takes a usable GPU."""
    backend: Backend = "auto"
    """Rasterizer: cpu is fast, reference is plain torch."""
    preset: Annotated[Preset | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Decoder of a native avatar. Default: the file's own, or the session's."""

    def run(self) -> int:
        background = parse_background(self.background)
        size = parse_size(self.size) if self.size else None
        fov = math.radians(checked(self.fov, "--fov", 1.0, 170.0, "degrees"))
        if self.fps is not None:
            checked(self.fps, "--fps", 1.0, 1000.0, "frames a second")
        if self.session is not None:
            return self._record_session(self.session, size)
        if self.avatar is None:
            raise InputError("AVATAR: expected an avatar, or --session with a session file")
        from ash_core.files.video import (
            check_output,
            check_space,
            is_single_picture,
            open_writer,
        )

        check_output(self.out, alpha=background is None)
        data = load_avatar_data(self.avatar)
        motion = load_motion(self.motion, self.avatar, data)
        frames = parse_frames(self.frames, len(motion.dofs))
        if is_single_picture(self.out) and is_still(motion):
            frames = frames[:1]
        if is_single_picture(self.out) and len(frames) > 1:
            raise InputError(
                f"{self.out}: a .png holds one frame, {len(frames)} are selected: "
                "choose one with --frames N, or name a folder"
            )
        cameras = self._choose_cameras(data, motion, frames, size, fov)
        check_space(self.out, cameras[0].width, cameras[0].height, len(frames))
        renderer = make_renderer(data, self.device, self.backend, self.preset)
        shots = make_shots(data, motion, frames, cameras, background)
        first, fps, transparent = cameras[0], self.fps or motion.fps, background is None
        writer = open_writer(self.out, first.width, first.height, fps, alpha=transparent)
        return render_to_file(renderer, shots, len(frames), writer)

    def _record_session(self, session: Path, size: tuple[int, int] | None) -> int:
        for field in fields(self):
            if field.name in IN_A_SESSION and getattr(self, field.name) != field.default:
                flag = "AVATAR" if field.name == "avatar" else f"--{field.name}"
                raise InputError(f"{flag}: expected none beside --session, which has its own")
        found = entry_points(group=SESSIONS, name="record")
        if not found:
            raise InputError("--session: this installation has no viewer: install ash-studio again")
        record = next(iter(found)).load()
        return record(session, self.out, size, self.fps, self.device, self.backend, self.preset)

    def _choose_cameras(
        self,
        data: "AvatarData",
        motion: "Motion",
        frames: list[int],
        size: tuple[int, int] | None,
        fov_y_rad: float,
    ) -> "list[Camera]":
        """One camera for each frame."""
        from ash_core.geometry.framing import front_camera, orbit_cameras

        dofs = motion.dofs[frames]
        width, height = size or DEFAULT_SIZE
        if self.eye is not None or self.target is not None:
            if self.camera != "front":
                raise InputError(f"--camera: expected none beside --eye, got '{self.camera}'")
            camera = self._look_at(data, motion, frames, (width, height), fov_y_rad)
            return [camera] * len(frames)
        if self.camera == "front":
            camera = front_camera(data.skeleton, dofs, fov_y_rad, width, height)
            return [camera] * len(frames)
        if self.camera == "orbit":
            step = abs(frames[1] - frames[0]) if len(frames) > 1 else 1
            smoothing = motion.fps / step
            return orbit_cameras(data.skeleton, dofs, fov_y_rad, width, height, smoothing)
        return [fit_camera(find_camera(self.camera, data), size)] * len(frames)

    def _look_at(
        self,
        data: "AvatarData",
        motion: "Motion",
        frames: list[int],
        size: tuple[int, int],
        fov_y_rad: float,
    ) -> "Camera":
        import torch

        from ash_core.geometry.camera import camera_from_fov, look_at
        from ash_core.geometry.framing import joint_positions

        if self.eye is None:
            raise InputError("--target: expected --eye with it")
        eye = torch.tensor(parse_point(self.eye, "--eye"))
        if self.target is not None:
            target = torch.tensor(parse_point(self.target, "--target"))
        else:
            points = joint_positions(data.skeleton, motion.dofs[frames]).reshape(-1, 3).float()
            target = (points.amin(0) + points.amax(0)) / 2
        if torch.linalg.vector_norm(eye - target) < 1e-6:
            raise InputError(f"--eye: expected a place other than the target, got '{self.eye}'")
        return camera_from_fov(look_at(eye, target), fov_y_rad, *size)


class Shot(NamedTuple):
    """One frame to render."""

    number: int
    """Frame of the motion: names the files of a folder."""
    request: "RenderRequest"


def checked(value: float, flag: str, low: float, high: float, unit: str) -> float:
    """The value itself, or `InputError`."""
    check_range(flag, value, low, high, unit)
    return value


def find_camera(choice: str, data: "AvatarData") -> "Camera":
    """`FILE:2`, `FILE:name`, `avatar:2`; a source with one camera needs no number."""
    from ash_core.files.capture import read_calibration, read_cameras
    from ash_core.files.text import is_kind

    source, _, which = choice.rpartition(":")
    if not source or is_kind(Path.exists, Path(choice)):
        source, which = choice, ""
    if source == "avatar":
        cameras = data.cameras
        if not cameras:
            raise InputError(f"--camera: '{choice}': this avatar file stores no cameras")
    elif Path(source).suffix in (".json", ".calibration"):
        read = read_cameras if Path(source).suffix == ".json" else read_calibration
        cameras = read(Path(source))
    else:
        raise InputError(
            "--camera: expected front, orbit, cameras.json:N, FILE.calibration:N or avatar:N, "
            f"got '{choice}'"
        )
    named = [camera for camera in cameras if which and camera.name == which]
    if named:
        return named[0]
    # Not isdigit: it takes superscripts too, which int() refuses, as it does 5000 digits.
    if re.fullmatch(r"[0-9]{1,9}", which) and int(which) < len(cameras):
        return cameras[int(which)]
    if not which and len(cameras) == 1:
        return cameras[0]
    raise InputError(
        f"--camera: {source}: expected a camera name or an index in 0..{len(cameras) - 1}, "
        f"got '{which}'"
    )


def fit_camera(camera: "Camera", size: tuple[int, int] | None) -> "Camera":
    """The camera at another picture size; says so where the shape of the picture changes."""
    from ash_core.geometry.camera import resize_camera

    if size is None or size == (camera.width, camera.height):
        return camera
    width, height = size
    if abs(width * camera.height / (height * camera.width) - 1.0) > 0.01:
        note(
            f"the camera's picture is {camera.width}x{camera.height}: "
            f"{width}x{height} has another shape and shows more or less of it"
        )
    return resize_camera(camera, width, height)


def make_shots(
    data: "AvatarData",
    motion: "Motion",
    frames: Sequence[int],
    cameras: "list[Camera]",
    background: tuple[float, float, float] | None,
) -> Iterable[Shot]:
    """Requests in the order of the frames, each made when it is asked for."""
    from ash_core.geometry.motion import pose_window
    from ash_core.render import RenderRequest

    for frame, camera in zip(frames, cameras, strict=True):
        window = pose_window(motion, frame, data.skeleton, data.lags)
        yield Shot(frame, RenderRequest(window, camera, background))


def as_bytes(renderer: "Renderer", image: "Image", transparent: bool) -> "Pixels":
    """RGB, or straight RGBA, as the renderer's variant makes bytes of colours."""
    import torch

    from ash_core.files.video import straight_colour

    if not transparent:
        return renderer.to_uint8(image).cpu().numpy()
    rgb = renderer.to_uint8(replace(image, rgb=straight_colour(image)))
    alpha = (image.alpha.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    return torch.cat([rgb, alpha[..., None]], dim=-1).cpu().numpy()


def render_to_file(
    renderer: "Renderer",
    shots: Iterable[Shot],
    count: int,
    writer: "FrameWriter",
    after: "Callable[[Shot, Pixels], None] | None" = None,
) -> int:
    """Render the shots into an open writer and complete it; returns the exit code.

    Ctrl-C, SIGTERM and SIGHUP end it after the frame at hand: what was done is completed and
    playable. `after` is told of every frame.
    """
    with StopRequest() as stop, writer, progress_bar() as progress:
        task = progress.add_task("rendering", total=count)
        started = time.perf_counter()
        for shot in shots:
            image = renderer.render(shot.request)
            pixels = as_bytes(renderer, image, transparent=shot.request.background is None)
            writer.write(pixels, shot.number)
            if after is not None:
                after(shot, pixels)
            progress.advance(task)
            if stop.is_set:
                break
    seconds = time.perf_counter() - started
    speed = f"{writer.frames / seconds:.1f} frames/s"
    if stop.is_set:
        note(f"stopped: {writer.out} holds {writer.frames} of {count} frames")
        return INTERRUPTED
    frames = "1 frame" if writer.frames == 1 else f"{writer.frames} frames"
    say(f"{writer.out}: {frames}, {seconds:.1f} s, {speed}")
    return 0
