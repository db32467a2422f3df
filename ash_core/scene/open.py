"""Find an avatar, its motions and cameras by name, and make the renderer that draws it."""

import contextlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ash_core.conventions import Up
from ash_core.errors import InputError
from ash_core.resources import resource

if TYPE_CHECKING:
    from ash_core.avatar import Avatar
    from ash_core.files.release import Purpose, Release
    from ash_core.records import AvatarData, Camera, DrawableData, Motion
    from ash_core.render import Renderer

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["auto", "cuda", "cpu", "reference", "gsplat", "inria"]
Preset = Literal["cpu", "light", "balanced", "quality"]
Report = Callable[[str], None]
"""Receives one-line notes for the person: printed, shown in a window or logged."""

BUNDLED: Final = "bundled"
"""Built-in trained avatar, small enough for two CPU cores."""
BALANCED: Final = "bundled-balanced"
"""The same avatar with more Gaussians, for a GPU or for single images."""
ACTOR: Final = "actor"
"""The studio's plain actor, untrained: it shows its texture, in any preset."""
BUILT_IN: Final = {
    BUNDLED: "ida.safetensors",
    BALANCED: "ida_balanced.safetensors",
    ACTOR: "actor.safetensors",
    "ida": "ida.safetensors",
    "mira": "mira.safetensors",
}
"""File of each built-in avatar, by the names that open it."""
FITTED_SUFFIXES: Final = (".bvh", ".npz", ".pkl")
"""Names of motion files of other programs, which are fitted to the avatar."""
FIRST_MOTION: Final = "dance"
STILL_FRAMES: Final = 250
"""Frames of what does not move: ten seconds for a camera to go round it."""

_log = logging.getLogger(__name__)


def log_note(text: str) -> None:
    """Log a note where nobody has handed in a place to show it."""
    _log.info("%s", text)


def avatar_path(name: str) -> Path:
    """Return the path of an avatar file, or of a built-in avatar by its name."""
    return resource("assets", BUILT_IN[name]) if name in BUILT_IN else Path(name)


def is_published(name: str) -> bool:
    """Tell whether an avatar's name is that of a configuration, a `.character` or a folder."""
    from ash_core.files.io import is_kind

    path = Path(name)
    is_named = path.suffix.lower() in (".conf", ".character")
    return name not in BUILT_IN and (is_named or is_kind(Path.is_dir, path))


def find_release(name: str, purpose: "Purpose" = "train") -> "Release | None":
    """Read the configuration that an avatar's name leads to; None where there is none.

    purpose: which of a subject's configurations, where a folder is named.
    """
    if not is_published(name):
        return None
    from ash_core.files.release import find_conf, read_release

    conf = find_conf(Path(name), purpose)
    return None if conf is None else read_release(conf)


def load_drawable(name: str, up: Up | None = None, report: Report = log_note) -> "DrawableData":
    """Load static splats, or else an avatar as `load_avatar_data` does.

    up: axis of the splats' file that points up; without one what the file says, else Z.
    report: receives the notes about a published character or splats.
    """
    from ash_core.files.splats import is_splats, load_splats

    path = avatar_path(name)
    if not path.exists() or is_published(name) or not is_splats(path):
        return load_avatar_data(name, report)
    data = load_splats(path, up)
    for text in data.notes:
        report(text)
    return data


def load_avatar_data(name: str, report: Report = log_note) -> "AvatarData":
    """Load an avatar file, a published character, or a built-in avatar by name.

    report: receives the notes about a published character.
    """
    from ash_core.files.avatar_file import load_avatar
    from ash_core.files.splats import is_splats

    path = avatar_path(name)
    if not path.exists():
        if is_splats(path) or path.suffix.lower() in (".conf", ".character"):
            raise InputError(f"{path}: no such file")
        raise InputError(
            f"{path}: no such avatar file; 'ash-studio import ash CONF -o FILE' makes one, "
            f"'{BUNDLED}' names the one that comes with ash-studio"
        )
    if is_published(name):
        from ash_core.files.released import import_ash

        data, notes = import_ash(path)
        for text in notes:
            report(text)
        return data
    if is_splats(path):
        raise InputError(f"{path}: expected an avatar, got splats, which no motion moves")
    return load_avatar(path)


def load_motion(
    name: str | None,
    avatar: str,
    data: "DrawableData",
    release: "Release | None" = None,
    report: Report = log_note,
) -> "Motion":
    """Read a motion: a .motion file, a folder with the published one, or a bundled one by name.

    Motions of other programs (.bvh, .npz, .pkl) are fitted to the avatar, which takes seconds.
    Without a name it is the configuration's own or the avatar's own, else the rest pose.
    release: the avatar's configuration, whose motions have names too.
    report: receives which motion is played where none is named.
    """
    from ash_core.files.skeletool import read_motion
    from ash_core.records import SplatData

    # The default of each kind: splats stand still, a configuration and an avatar have their own.
    if isinstance(data, SplatData):
        if name is not None:
            raise InputError(f"--motion: {avatar} holds splats, which no motion moves")
        return still_motion(data, STILL_FRAMES)
    named = {} if release is None else dict(release.motions)
    if name is None and named:
        name = next(iter(named))
    if name is None and avatar not in BUILT_IN:
        return own_motion(avatar_path(avatar), data, report)
    bundled = bundled_motion_files(data)
    if name is None:
        name = FIRST_MOTION if FIRST_MOTION in bundled else next(iter(bundled), FIRST_MOTION)

    # A file, else the configuration's motion or a built-in one of this name.
    path = Path(name)
    if not path.exists():
        path = {**bundled, **named}.get(name, path)
    if not path.exists():
        source = (
            f"motions of {release.conf}" if release is not None and named else "bundled motions"
        )
        listed = ", ".join(named or bundled) or "none"
        raise InputError(f"{path}: no such motion file; {source}: {listed}")
    if path.suffix.lower() in FITTED_SUFFIXES:
        return fit_motion(path, data, report)
    path = motion_file(path)
    motion = read_motion(path, data.skeleton)
    own = next((folder for folder, file in named.items() if path.samefile(file)), None)
    return motion if own is None else replace(motion, name=own)


def fit_motion(path: Path | str, data: "AvatarData", report: Report = log_note) -> "Motion":
    """Fit a motion of another program (.bvh, poses of a body) to an avatar, at the file's rate.

    report: receives its place and the notes about it. Raises: InputError.
    """
    from ash_core.importers.motion_file import read_foreign_motion, usual_fps

    result = read_foreign_motion(path, data.skeleton, fps=usual_fps(data), avatar=data)
    for text in (*result.notes, f"place: {result.place}"):
        report(text)
    return result.motion


def motion_file(path: Path) -> Path:
    """Return the motion's file, or the published one in a folder."""
    from ash_core.files.io import is_kind
    from ash_core.files.skeletool import POSE_ANGLES

    if not is_kind(Path.is_dir, path):
        return path
    file = path / POSE_ANGLES
    if not is_kind(Path.is_file, file):
        raise InputError(f"--motion: {path}: expected a folder with {POSE_ANGLES}, found none")
    return file


def release_motions(release: "Release | None", data: "DrawableData") -> "dict[str, Motion]":
    """Read a configuration's motions, its own first, by the names of their folders."""
    names = () if release is None else release.motions
    return {name: load_motion(name, "", data, release) for name in names}


def bundled_motion_files(data: "AvatarData") -> dict[str, Path]:
    """List the files of the built-in motions by name: ida's for a face, else the plain actor's."""
    from ash_core.files.skeletool import has_face

    folder = resource("assets") / ("ida" if has_face(data.skeleton) else ACTOR) / "motions"
    return {path.stem: path for path in sorted(folder.glob("*.motion"))}


def bundled_motions(data: "AvatarData") -> "dict[str, Motion]":
    """Read the built-in motions, by name."""
    from ash_core.files.skeletool import read_motion

    files = bundled_motion_files(data).items()
    return {name: read_motion(path, data.skeleton) for name, path in files}


def own_motion(avatar: Path, data: "AvatarData", report: Report) -> "Motion":
    """Read the first motion in the avatar's folder that fits it, else let it stand; says which."""
    from ash_core.files.skeletool import read_motion

    for path in sorted((avatar.parent / "motions").glob("*.motion")):
        with contextlib.suppress(InputError):  # of another skeleton
            motion = read_motion(path, data.skeleton)
            report(f"no --motion: {path} is played")
            return motion
    report(f"no --motion, and none in {avatar.parent / 'motions'}: the rest pose stands still")
    return still_motion(data, STILL_FRAMES)


def still_motion(data: "DrawableData", frames: int) -> "Motion":
    """Repeat the rest pose for some frames; that of static splats has no dofs."""
    import torch

    from ash_core.records import Motion, SplatData

    rest = torch.zeros(0).double() if isinstance(data, SplatData) else data.rest_dofs
    return Motion(rest[None].repeat(frames, 1), name="still")


def is_still(motion: "Motion") -> bool:
    """Tell whether every frame of a motion is the same pose."""
    return bool((motion.dofs == motion.dofs[:1]).all())


def make_avatar(data: "AvatarData", device: str, preset: Preset | None) -> "Avatar":
    """Make an avatar on a device."""
    from ash_core.avatar import Avatar

    return Avatar.from_data(data, device=device, preset_name=preset)


def make_renderer(
    data: "DrawableData",
    device: Device,
    backend: str,
    preset: Preset | None,
    report: Report = log_note,
) -> "Renderer":
    """Make a renderer on its device; with "auto" a GPU that fails is left for the CPU.

    backend: any that `rasterize` knows, registered ones too.
    """
    from ash_core.drawable import StaticSplats
    from ash_core.records import SplatData
    from ash_core.render import Renderer
    from ash_core.splat.rasterize import check_backend

    check_backend(backend)
    is_static = isinstance(data, SplatData)
    drawable = StaticSplats(data) if is_static else make_avatar(data, "cpu", preset)
    chosen = choose_device(device, backend, report)
    return Renderer(drawable, backend, chosen, may_leave_gpu=device == "auto")


def choose_device(device: Device, backend: str = "auto", report: Report = log_note) -> str:
    """Choose the GPU for "auto" where it can do everything; report why where it cannot.

    Raises: InputError if "cuda" is asked for and cannot be had.
    """
    import torch

    from ash_core.gpu import kernels

    if device == "cpu":
        return device
    is_own_backend = backend in ("auto", "cuda")
    reason = kernels.missing() if is_own_backend or not torch.cuda.is_available() else None
    if reason is None:
        return "cuda"
    if device == "cuda":
        raise InputError(f"--device: cuda cannot be used: {reason} ('ash-studio doctor' says more)")
    if torch.cuda.is_available():
        report(f"the CPU renders: {reason}")
    return "cpu"


def find_camera(
    choice: str, data: "DrawableData", up: Up = "z", report: Report = log_note
) -> "tuple[Camera, Camera | None]":
    """Find `FILE:2`, `FILE:name` or `avatar:2`; a source with one camera needs no number.

    up: axis of a file's world. The second camera is the first one with the other axes, where the
    file's format alone says which they are.
    """
    from ash_core.files.cameras.files import is_camera_file, read_straight
    from ash_core.files.cameras.record import Reading
    from ash_core.files.io import is_kind

    source, _, which = choice.rpartition(":")
    if not source or is_kind(Path.exists, Path(choice)):
        source, which = choice, ""
    if source == "avatar":
        if not data.cameras:
            raise InputError(f"--camera: '{choice}': this avatar file stores no cameras")
        return _choose(data.cameras, source, which), None
    path = Path(source)
    if not is_camera_file(path):
        raise InputError(
            "--camera: expected front, orbit, avatar:N or FILE:N with cameras.json, "
            f"FILE.calibration, transforms.json, a COLMAP folder or FILE.yml, got '{choice}'"
        )
    file = read_straight(path, Reading(up=up))
    for text in file.notes:
        report(text)
    camera = _choose([camera for camera, _ in file.cameras], source, which)
    if not file.axes_assumed:
        return camera, None
    turned = camera.viewmat.clone()
    turned[1:3] *= -1
    return camera, replace(camera, viewmat=turned)


def _choose(cameras: "Sequence[Camera]", source: str, which: str) -> "Camera":
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


def fit_camera(
    camera: "Camera", size: tuple[int, int] | None, report: Report = log_note
) -> "Camera":
    """Resize a camera's image; report a change of its aspect."""
    from ash_core.geometry.camera import resize_camera

    if size is None or size == (camera.width, camera.height):
        return camera
    width, height = size
    if abs(width * camera.height / (height * camera.width) - 1.0) > 0.01:
        report(
            f"the camera's picture is {camera.width}x{camera.height}: "
            f"{width}x{height} has another shape and shows more or less of it"
        )
    return resize_camera(camera, width, height)
