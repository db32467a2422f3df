"""`ash-studio export`: our motions in the files of other programs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ash_core.commands.options import check_range
from ash_core.commands.terminal import note, say
from ash_core.errors import InputError


@dataclass(frozen=True)
class ExportMotion:
    """Write an avatar's motion as .bvh, or as poses of the SMPL body that the avatar was made of.

    .bvh: the avatar's own skeleton in centimetres, Y up, each bone one joint that turns freely.
    .npz: poses of the body, of any avatar that 'import capture' or a body's file made.
    """

    motion: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.motion")]
    """Motion file, or the name of a bundled motion."""
    avatar: Annotated[str, tyro.conf.arg(metavar="AVATAR")]
    """Avatar that the motion moves: an avatar file, 'bundled', or a bare .skeleton."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.bvh|OUT.npz")]
    """File to write; its name says what. An existing one is replaced."""
    format: Annotated[Literal["amass", "smplx"] | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Keys of an .npz. amass: poses and trans, Z up. smplx: global_orient, body_pose, ... as in
    AvatarReX, Y up. Default: amass."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS", help_behavior_hint="")] = None
    """Frame rate to state, 1/s; the frames stay. Default: the motion's own."""

    def run(self) -> int:
        suffix = self.out.suffix.lower()
        if suffix not in (".bvh", ".npz"):
            raise InputError(f"{self.out}: expected a name that ends in .bvh or .npz")
        if suffix == ".bvh" and self.format is not None:
            text = f"--format {self.format} is for an .npz: leave it out, or name the file .npz"
            raise InputError(f"{self.out}: {text}")
        if self.fps is not None:
            check_range("--fps", self.fps, 1.0, 1000.0, "frames a second")
        from ash_core.commands.import_motion import load_skeleton
        from ash_core.exporters.motion_export import export_bvh, export_poses
        from ash_core.files.skeletool import read_motion
        from ash_core.scene.open import load_motion

        data, skeleton = load_skeleton(self.avatar)
        if data is None:
            motion = read_motion(self.motion, skeleton)
        else:
            motion = load_motion(self.motion, self.avatar, data, report=note)
        motion = replace(motion, fps=self.fps or motion.fps)
        notes: tuple[str, ...] = ()
        if suffix == ".bvh":
            export_bvh(self.out, skeleton, motion)
        else:
            layout = self.format or "amass"
            notes = export_poses(self.out, skeleton, motion, layout, self.avatar)
        say(f"{self.out}: {len(motion.dofs)} frames at {motion.fps:g} a second")
        for text in notes:
            note(text)
        return 0


@dataclass(frozen=True)
class Export:
    """Write motions in the files of other programs."""

    what: Annotated[
        Annotated[ExportMotion, tyro.conf.subcommand(name="motion")]
        | Annotated[None, tyro.conf.Suppress],  # a union of one would not be a subcommand
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        assert self.what is not None
        return self.what.run()
