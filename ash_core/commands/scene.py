"""What `render`, `demo` and `bench` share: find the avatar and the motion, make the renderer."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ash_core.commands.terminal import note
from ash_core.errors import InputError
from ash_core.resources import resource

if TYPE_CHECKING:
    from ash_core.avatar import Avatar
    from ash_core.records import AvatarData, Motion
    from ash_core.render import Renderer

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["auto", "cuda", "cpu", "reference", "gsplat", "inria"]
Preset = Literal["cpu", "balanced", "quality"]

BUNDLED: Final = "bundled"
"""The trained avatar that comes with us, small enough for two CPU cores."""
BALANCED: Final = "bundled-balanced"
"""The same one with more Gaussians: for a GPU, or for pictures."""
ACTOR: Final = "actor"
"""The studio's plain actor, untrained: it shows its texture, in any preset."""
COMES_WITH_US: Final = {
    BUNDLED: "ida.safetensors",
    BALANCED: "ida_balanced.safetensors",
    ACTOR: "actor.safetensors",
}
FIRST_MOTION: Final = "dance"
STILL_FRAMES: Final = 250
"""Frames of what does not move: ten seconds for a camera to go round it."""


def avatar_path(name: str) -> Path:
    """A file's path, or that of what comes with us under a name."""
    return resource("assets", COMES_WITH_US[name]) if name in COMES_WITH_US else Path(name)


def load_avatar_data(name: str) -> "AvatarData":
    """An avatar file, splats (.ply), or what comes with us under a name."""
    from ash_core.files.avatar_file import load_avatar
    from ash_core.files.ply import load_splats

    path = avatar_path(name)
    if not path.exists():
        if path.suffix.lower() == ".ply":
            raise InputError(f"{path}: no such file")
        raise InputError(
            f"{path}: no such avatar file; 'ash-studio import ash CONF -o FILE' makes one, "
            f"'{BUNDLED}' names the one that comes with ash-studio"
        )
    return load_splats(path) if path.suffix.lower() == ".ply" else load_avatar(path)


def load_motion(name: str | None, avatar: str, data: "AvatarData") -> "Motion":
    """A .motion file or a bundled one by name; without a name its own, or none."""
    from ash_core.files.skeletool import read_motion
    from ash_core.records import SplatData

    if isinstance(data, SplatData):
        if name is not None:
            raise InputError(f"--motion: {avatar} holds splats, which no motion moves")
        return still_motion(data, STILL_FRAMES)
    if name is None and avatar not in COMES_WITH_US:
        return own_motion(avatar_path(avatar), data)
    found = sorted(resource("assets").rglob("motions/*.motion"))
    bundled = {path.stem: path for path in found}
    if name is None:
        name = FIRST_MOTION if FIRST_MOTION in bundled else next(iter(bundled), FIRST_MOTION)
    path = Path(name)
    if not path.exists() and name in bundled:
        path = bundled[name]
    if not path.exists():
        raise InputError(
            f"{path}: no such motion file; bundled motions: {', '.join(bundled) or 'none'}"
        )
    return read_motion(path, data.skeleton)


def own_motion(avatar: Path, data: "AvatarData") -> "Motion":
    """Read the first motion in the avatar's folder that fits it, else let it stand; says which."""
    from ash_core.files.skeletool import read_motion

    for path in sorted((avatar.parent / "motions").glob("*.motion")):
        with contextlib.suppress(InputError):  # of another skeleton
            motion = read_motion(path, data.skeleton)
            note(f"no --motion: {path} is played")
            return motion
    note(f"no --motion, and none in {avatar.parent / 'motions'}: the rest pose stands still")
    return still_motion(data, STILL_FRAMES)


def still_motion(data: "AvatarData", frames: int) -> "Motion":
    """The rest pose for some frames."""
    from ash_core.records import Motion

    return Motion(data.rest_dofs[None].repeat(frames, 1), name="still")


def is_still(motion: "Motion") -> bool:
    """Whether every frame of a motion is the same pose."""
    return bool((motion.dofs == motion.dofs[:1]).all())


def make_avatar(data: "AvatarData", device: str, preset: Preset | None) -> "Avatar":
    """An avatar on a device."""
    from ash_core.avatar import Avatar

    return Avatar.from_data(data, device=device, preset_name=preset)


def make_renderer(
    data: "AvatarData", device: Device, backend: Backend, preset: Preset | None
) -> "Renderer":
    """A renderer on its device; where that was left to us, a GPU that fails is left for the CPU."""
    from ash_core.render import Renderer
    from ash_core.splat.rasterize import check_backend

    check_backend(backend)
    avatar = make_avatar(data, "cpu", preset)
    return Renderer(avatar, backend, choose_device(device, backend), may_leave_gpu=device == "auto")


def choose_device(device: Device, backend: Backend = "auto") -> str:
    """auto means the GPU where it can do everything, and says why where one is there but cannot.

    Raises: InputError if "cuda" is asked for and cannot be had.
    """
    import torch

    from ash_core.gpu import kernels

    if device == "cpu":
        return device
    ours = backend in ("auto", "cuda")
    reason = kernels.missing() if ours or not torch.cuda.is_available() else None
    if reason is None:
        return "cuda"
    if device == "cuda":
        raise InputError(f"--device: cuda cannot be used: {reason} ('ash-studio doctor' says more)")
    if torch.cuda.is_available():
        note(f"the CPU renders: {reason}")
    return "cpu"
