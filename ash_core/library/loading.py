"""Load and save by path or name: avatars, motions, Gaussians; the window of a pose."""

from pathlib import Path
from typing import Literal

from ash_core.avatar import Avatar
from ash_core.cloth.swing import AS_FITTED, Swing
from ash_core.conventions import Up
from ash_core.errors import InputError
from ash_core.files.ply import write_ply
from ash_core.files.splats import read_splats
from ash_core.geometry.axes import turn_gaussians, world_rotation
from ash_core.pose_windows import window_at
from ash_core.records import Gaussians, Motion, Numbers, PoseWindow
from ash_core.scene import open as opening


def load_avatar(
    name: Path | str,
    device: str = "cpu",
    preset: Literal["cpu", "light", "balanced", "quality"] | None = None,
) -> Avatar:
    """Load an avatar: a torch module that takes a window of poses to Gaussians.

    name: .safetensors, .conf, .character or its folder, or a built-in avatar: "ida", "mira",
    "bundled" (ida), "bundled-balanced", "actor". preset: decoder of an avatar without a trained
    one. Raises: InputError.

    >>> avatar = ash.load_avatar("ida")
    >>> avatar.data.skeleton.dof_names[:3]
    ('translate_x', 'translate_y', 'translate_z')
    """
    return opening.make_avatar(opening.load_avatar_data(str(name)), device, preset)


def load_motion(name: Path | str, avatar: Avatar) -> Motion:
    """Read a .motion file, or a built-in motion by its name, for an avatar's skeleton.

    A .bvh, or poses of an SMPL body (.npz, .pkl), is fitted to it, which takes seconds.
    Raises: InputError, e.g. for a .motion of another skeleton.

    >>> motion = ash.load_motion("dance", avatar)
    >>> motion.dofs.shape[1] == len(avatar.data.skeleton.dof_names), motion.fps
    (True, 25.0)
    """
    return opening.load_motion(str(name), "", avatar.data)


def pose_window(
    motion: Motion | Numbers, frame: int, avatar: Avatar, swing: Swing = AS_FITTED
) -> PoseWindow:
    """Collect the poses that an avatar sees at a frame: that one and earlier ones.

    motion: a motion, or dofs [F, D] (a motion at 25 frames a second); m and rad.
    frame: 0 to F - 1, or negative from the end. swing: of loose cloth, where the avatar has some.
    Raises: InputError.

    >>> rest = avatar.data.rest_dofs.numpy()
    >>> window = ash.pose_window(rest[None], 0, avatar)
    >>> avatar(window).means.shape == (avatar.count, 3)
    True
    """
    if not isinstance(motion, Motion):
        motion = Motion.from_arrays(motion)
    dofs, count = motion.dofs, len(avatar.data.skeleton.dof_names)
    if dofs.ndim != 2 or dofs.shape[1] != count or len(dofs) == 0:
        raise InputError(f"motion: expected dofs [F, {count}], got {list(dofs.shape)}")
    if not -len(dofs) <= frame < len(dofs):
        raise InputError(f"frame: expected 0 to {len(dofs) - 1}, got {frame}")
    return window_at(avatar.data, motion, frame % len(dofs), swing, avatar.flat.device)


def load_splats(path: Path | str, up: Up | None = None) -> Gaussians:
    """Read Gaussians of a .ply, .compressed.ply, .spz or .sog, turned to Z up.

    up: the file's up axis, "z", "y" or "y-down"; by default the one that the file names, else "z".
    Splats that cannot be drawn are left out. Raises: InputError.

    >>> ash.save_splats(folder / "one.ply", gaussians)
    >>> ash.load_splats(folder / "one.ply").means.shape
    torch.Size([1, 3])
    """
    file = read_splats(path)
    axis = up or file.up or "z"
    return file.gaussians if axis == "z" else turn_gaussians(file.gaussians, world_rotation(axis))


def save_splats(path: Path | str, gaussians: Gaussians) -> None:
    """Write Gaussians as a .ply that other viewers of splats read. Raises: InputError.

    >>> ash.save_splats(folder / "avatar.ply", gaussians)
    """
    write_ply(path, gaussians)
