"""`ash-studio render`: an avatar and a motion to a video or pictures."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.options import (
    check_range,
    parse_background,
    parse_point,
    parse_size,
    parse_wind,
)
from ash_core.commands.render_release import (
    default_background,
    default_out,
    image_names,
    numbered_cameras,
    validation_frames,
)
from ash_core.commands.terminal import StopRequest, note, progress_bar, say
from ash_core.conventions import Up
from ash_core.errors import INTERRUPTED, InputError
from ash_core.frame_choice import parse_frames
from ash_core.scene.open import (
    Backend,
    Device,
    Preset,
    find_camera,
    find_release,
    fit_camera,
    is_still,
    load_drawable,
    load_motion,
    make_renderer,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ash_core.cloth.swing import Swing
    from ash_core.files.video import FrameWriter, Pixels
    from ash_core.records import Camera, DrawableData, Motion
    from ash_core.render import Renderer
    from ash_core.scene.record import Shot

CLOTH = ("swing", "stiffness", "gravity", "wind")
"""Fields that say how loose cloth moves."""
IN_A_SESSION = (
    *("avatar", "motion", "frames", "camera", "eye", "target", "fov", "background", "up"),
    *CLOTH,
)
"""Fields that a session file has itself."""
SOME_POSES = 50
"""Poses by which a camera is checked."""


@dataclass(frozen=True)
class Render:
    """Render an avatar's motion to a video or to images, without a window."""

    out: Annotated[
        Path | None, tyro.conf.arg(aliases=["-o"], metavar="X", help_behavior_hint="")
    ] = None
    """.mp4 (H.264), .webm (VP9, alpha), .mov (ProRes 4444, alpha), .png (one frame), or a folder.
    An existing file is replaced when the new one is complete. Default: the output_dir of a
    configuration; there is none for other avatars."""
    avatar: Annotated[
        tyro.conf.Positional[str | None], tyro.conf.arg(metavar="AVATAR", help_behavior_hint="")
    ] = None
    """Avatar file (.safetensors), splats (.ply, .spz, .sog), 'bundled', 'bundled-balanced' or
    'mira' (trained), or 'actor' (not). A published .conf, or its subject's folder: draws what the
    published inference does, the validation's cameras, frames, size and background, as
    C/image_c_C_f_F.png of camera and frame. Not beside --session."""
    session: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.ash-session", help_behavior_hint="")
    ] = None
    """Session saved by the viewer instead: its avatar, motion, range, poses, camera and look."""
    motion: Annotated[str | None, tyro.conf.arg(metavar="FILE.motion", help_behavior_hint="")] = (
        None
    )
    """Motion file (.motion; .bvh, .npz and .pkl are fitted to the avatar), a folder with a
    poseAngles.motion, or the name of a bundled motion. Default: a configuration's own; the bundled
    avatars dance; others play the first file of motions/ beside them that fits, or stand in their
    rest pose."""
    frames: Annotated[
        str | None, tyro.conf.arg(metavar="START:STOP:STEP", help_behavior_hint="")
    ] = None
    """Frames of the motion: one number, or a slice as in Python (STOP is not rendered). Default:
    all; those of the validation where a configuration's own motion is rendered."""
    camera: Annotated[
        str | None, tyro.conf.arg(metavar="front|orbit|FILE:N|avatar:N|N,N", help_behavior_hint="")
    ] = None
    """front: stands still and sees the whole motion.
    orbit: goes once round the character and follows it.
    FILE:2: a camera by index or name of cameras.json, FILE.calibration, transforms.json, a COLMAP
    model's folder, FILE.yml of OpenCV or EasyMocap; ash-studio cameras converts what needs flags.
    avatar:2: one stored in the avatar file. 7,18: cameras of a configuration by number.
    Default: front; the validation's cameras of a configuration."""
    eye: Annotated[str | None, tyro.conf.arg(metavar="X,Y,Z", help_behavior_hint="")] = None
    """Look-at camera instead: its place, m, world (Z up)."""
    target: Annotated[str | None, tyro.conf.arg(metavar="X,Y,Z", help_behavior_hint="")] = None
    """Point that the look-at camera looks at, m, world. Default: the middle of the character."""
    fov: float = 40.0
    """Vertical field of view of front, orbit and look-at cameras, degrees."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH", help_behavior_hint="")] = None
    """Picture size, pixels. Default: the configuration's, the file camera's own, else 1280x960. Of
    a session: that of the capture camera it looks through, else that of recordings in the viewer's
    preferences. Odd sizes grow to even ones in .mp4 and .webm: the last row or column is
    repeated."""
    up: Annotated[Up | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Up axis of splats; y-down: trained on COLMAP's cameras. Default: the one that their file
    names, else z. Cameras of a file turn with the splats."""
    background: Annotated[str | None, tyro.conf.arg(metavar="COLOUR", help_behavior_hint="")] = None
    """white, black, transparent or #rrggbb. Default: the configuration's, else white."""
    swing: bool = True
    """Simulate the loose cloth of an avatar that has some. Without, it moves as skin does."""
    stiffness: float = 1.0
    """Factor on the stiffness of loose cloth, 0 to 100."""
    gravity: float = 1.0
    """Gravity on loose cloth, in shares of the earth's, -20 to 20."""
    wind: Annotated[str, tyro.conf.arg(metavar="M/S,DEGREES", help_behavior_hint="")] = "0"
    """Wind on loose cloth: its speed, m/s, and where it comes from: 0 degrees is the front of a
    character at rest, 90 its left. A speed alone comes from the front. Default: calm."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS", help_behavior_hint="")] = None
    """Frames a second of the video. Default: the motion's own."""
    device: Device = "auto"
    """Device that holds and renders the avatar; auto takes a usable GPU."""
    backend: Backend = "auto"
    """Rasterizer: cpu is fast, reference is plain torch."""
    preset: Annotated[Preset | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Decoder of a native avatar. Default: the file's own, or the session's."""

    def run(self) -> int:
        # Check the flags; a session has its own avatar.
        parse_background(self.background or "white")
        size = parse_size(self.size) if self.size else None
        fov = math.radians(checked(self.fov, "--fov", 1.0, 170.0, "degrees"))
        if self.fps is not None:
            checked(self.fps, "--fps", 1.0, 1000.0, "frames a second")
        swing = self._swing()
        if self.session is not None:
            return self._record_session(self.session, size)
        if self.avatar is None:
            raise InputError("AVATAR: expected an avatar, or --session with a session file")
        from ash_core.files.video import (
            check_output,
            check_space,
            is_folder,
            is_single_picture,
            open_writer,
        )
        from ash_core.scene.record import make_shots

        # What no flag says is a configuration's, or usual.
        release = find_release(self.avatar, "val")
        out = self.out or (default_out(release) if release is not None else None)
        if out is None:
            raise no_output()
        colour = default_background(release) if release is not None else "white"
        background = parse_background(self.background or colour)
        check_output(out, alpha=background is None)
        data = load_drawable(self.avatar if release is None else str(release.conf), self.up, note)
        self._check_up(data)
        self._check_cloth(data)
        motion = load_motion(self.motion, self.avatar, data, release, note)
        if release is None or self.frames is not None or self.motion is not None:
            frames = parse_frames(":" if self.frames is None else self.frames, len(motion.dofs))
        else:
            frames = validation_frames(release, len(motion.dofs))
        if is_single_picture(out) and is_still(motion):
            frames = frames[:1]

        # One camera for each frame, or several that stand still.
        numbered = None
        if release is not None and self.eye is None and self.target is None:
            numbered = numbered_cameras(self.camera, release, data)
        if numbered is not None:
            views = [[fit_camera(camera, size, note)] * len(frames) for camera in numbered.values()]
        else:
            usual = size or (release.size if release is not None else None)
            views = [self._choose_cameras(data, motion, frames, usual, fov)]
        count = len(views) * len(frames)
        if is_single_picture(out) and count > 1:
            raise InputError(
                f"{out}: a .png holds one frame, {count} are selected: "
                "choose one with --frames N (and --camera N), or name a folder"
            )
        if len(views) > 1 and not is_folder(out):
            text = f"a video shows one camera, {len(views)} are selected"
            raise InputError(f"{out}: {text}: choose one with --camera N, or name a folder")

        # Every camera has the same picture size, and the disk has room for all frames.
        first, transparent = views[0][0], background is None
        if any((c.width, c.height) != (first.width, first.height) for view in views for c in view):
            raise InputError("--size: expected one beside cameras of several sizes, got none")
        check_space(out, first.width, first.height, count)
        renderer = make_renderer(data, self.device, self.backend, self.preset, note)

        # Frame by frame: a pose is decoded once for all cameras.
        each_frame = [frame for frame in frames for _ in views]
        each_camera = [view[n] for n in range(len(frames)) for view in views]
        shots = make_shots(
            data, motion, each_frame, each_camera, background, swing, renderer.device
        )
        names = None
        if numbered is not None and is_folder(out):
            names = image_names(list(numbered), frames)
            shots = (shot._replace(number=n) for n, shot in enumerate(shots))
        fps = self.fps or motion.fps
        writer = open_writer(out, first.width, first.height, fps, transparent, names)
        return render_to_file(renderer, shots, count, writer)

    def _check_up(self, data: "DrawableData") -> None:
        from ash_core.records import SplatData

        named = self.camera is not None and ":" in self.camera
        turns = isinstance(data, SplatData) or (named and self.eye is None)
        if self.up is not None and not turns:
            raise InputError("--up: expected splats, or --camera with a file: an avatar is Z up")

    def _swing(self) -> "Swing":
        from ash_core.cloth.swing import LIMITS, Swing

        for name, unit in (("stiffness", ""), ("gravity", "of the earth's")):
            checked(getattr(self, name), f"--{name}", *LIMITS[name], unit)
        return Swing(self.swing, self.stiffness, self.gravity, *parse_wind(self.wind))

    def _check_cloth(self, data: "DrawableData") -> None:
        from ash_core.records import AvatarData

        if isinstance(data, AvatarData) and data.cloth is not None:
            return
        for field in fields(self):
            if field.name in CLOTH[1:] and getattr(self, field.name) != field.default:
                text = "expected an avatar with loose cloth"
                raise InputError(f"--{field.name}: {text}: {self.avatar} has none")

    def _record_session(self, session: Path, size: tuple[int, int] | None) -> int:
        for field in fields(self):
            if field.name in IN_A_SESSION and getattr(self, field.name) != field.default:
                flag = "AVATAR" if field.name == "avatar" else f"--{field.name}"
                raise InputError(f"{flag}: expected none beside --session, which has its own")
        if self.out is None:
            raise no_output()
        from ash_core.scene.preferences import PreferenceStore, preferences_file
        from ash_core.scene.scene import Scene

        # Preferences are read alone: a command changes none.
        preferences = PreferenceStore(preferences_file())
        if preferences.problem is not None:
            note(preferences.problem)
        scene = Scene.load(session, self.device, self.backend, self.preset, note)
        size = size or scene.recording_size(preferences.value.record_size)
        settings, shots = scene.recording(self.out, *size)
        settings = replace(settings, fps=self.fps or settings.fps)
        return render_to_file(scene.renderer, shots, len(shots), settings.open())

    def _choose_cameras(
        self,
        data: "DrawableData",
        motion: "Motion",
        frames: list[int],
        size: tuple[int, int] | None,
        fov_y_rad: float,
    ) -> "list[Camera]":
        """One camera for each frame."""
        from ash_core.geometry.framing import front_camera, orbit_cameras
        from ash_core.scene.record import DEFAULT_SIZE

        dofs = motion.dofs[frames]
        width, height = size or DEFAULT_SIZE
        if self.eye is not None or self.target is not None:
            if self.camera not in (None, "front"):
                raise InputError(f"--camera: expected none beside --eye, got '{self.camera}'")
            camera = self._look_at(data, motion, frames, (width, height), fov_y_rad)
            return [camera] * len(frames)
        if self.camera in (None, "front"):
            camera = front_camera(data, dofs, fov_y_rad, width, height)
            return [camera] * len(frames)
        if self.camera == "orbit":
            step = abs(frames[1] - frames[0]) if len(frames) > 1 else 1
            smoothing = motion.fps / step
            return orbit_cameras(data, dofs, fov_y_rad, width, height, smoothing)
        camera = self._file_camera(self.camera, data, dofs)
        return [fit_camera(camera, size, note)] * len(frames)

    def _file_camera(self, choice: str, data: "DrawableData", dofs: "Tensor") -> "Camera":
        """Find the camera of a file; its axes, where nothing names them, are those that see us."""
        from ash_core.geometry.framing import is_in_picture, make_outline
        from ash_core.records import SplatData

        # Cameras of a scene of splats stand in one world with them.
        up = data.up if isinstance(data, SplatData) else self.up or "z"
        camera, other = find_camera(choice, data, up, note)
        if other is not None:
            points = make_outline(data).surface(dofs[:: max(1, len(dofs) // SOME_POSES)])
            points = points.flatten(0, 1)
            if not is_in_picture(camera, points) and is_in_picture(other, points):
                note(
                    f"{choice}: with OpenGL axes, as its kind has, the camera looks away: "
                    "read with OpenCV axes (ash-studio cameras --axes says which)"
                )
                return other
        return camera

    def _look_at(
        self,
        data: "DrawableData",
        motion: "Motion",
        frames: list[int],
        size: tuple[int, int],
        fov_y_rad: float,
    ) -> "Camera":
        import torch

        from ash_core.geometry.camera import camera_from_fov, look_at
        from ash_core.geometry.framing import motion_middle

        if self.eye is None:
            raise InputError("--target: expected --eye with it")
        eye = torch.tensor(parse_point(self.eye, "--eye"))
        if self.target is not None:
            target = torch.tensor(parse_point(self.target, "--target"))
        else:
            target = motion_middle(data, motion.dofs[frames]).float()
        if torch.linalg.vector_norm(eye - target) < 1e-6:
            raise InputError(f"--eye: expected a place other than the target, got '{self.eye}'")
        return camera_from_fov(look_at(eye, target), fov_y_rad, *size)


def no_output() -> InputError:
    """The error where nobody says where the result goes."""
    return InputError("--out: expected a file in .mp4, say, or a folder, got none")


def checked(value: float, flag: str, low: float, high: float, unit: str) -> float:
    """The value itself, or `InputError`."""
    check_range(flag, value, low, high, unit)
    return value


def render_to_file(
    renderer: "Renderer",
    shots: "Iterable[Shot]",
    count: int,
    writer: "FrameWriter",
    after: "Callable[[Shot, Pixels], None] | None" = None,
) -> int:
    """Record the shots with a progress bar and report the result; returns the exit code.

    Ctrl-C, SIGTERM and SIGHUP end it after the frame at hand: what was done is completed and
    playable. `after` is called with every frame.
    """
    from ash_core.scene.record import record

    started = time.perf_counter()
    with StopRequest() as stop, progress_bar() as progress:
        task = progress.add_task("rendering", total=count)

        def advance(shot: "Shot", pixels: "Pixels") -> None:
            if after is not None:
                after(shot, pixels)
            progress.advance(task)

        done = record(renderer, shots, writer, is_stopped=lambda: stop.is_set, after=advance)
    if done.empty:
        place = "the picture" if count == 1 else f"{done.empty} of {done.frames} frames"
        note(f"nothing of the avatar is in {place}: the camera looks past it")
    seconds = time.perf_counter() - started
    speed = f"{done.frames / seconds:.1f} frames/s"
    if stop.is_set and done.frames == 0:
        note(f"stopped before the first frame: {writer.out} is not written")
        return INTERRUPTED
    if stop.is_set:
        note(f"stopped: {writer.out} holds {done.frames} of {count} frames")
        return INTERRUPTED
    frames = "1 frame" if done.frames == 1 else f"{done.frames} frames"
    say(f"{writer.out}: {frames}, {seconds:.1f} s, {speed}")
    return 0
