"""Export of motions: .bvh of any skeleton, poses of the body that a skeleton was made of."""

from pathlib import Path
from typing import Literal

import numpy as np

from ash_core.errors import InputError
from ash_core.exporters.motion_clip import clip_of_motion
from ash_core.files.body_pose_files import write_body_poses
from ash_core.files.bvh_writer import write_bvh
from ash_core.importers.body.body_clip import UP_AXES
from ash_core.importers.body.body_motion import body_kind_of, poses_of_dofs
from ash_core.records import Motion, Skeleton


def export_bvh(path: Path | str, skeleton: Skeleton, motion: Motion) -> None:
    """Write a motion of any skeleton as .bvh: centimetres, Y up. Raises: InputError."""
    write_bvh(path, clip_of_motion(skeleton, motion))


def export_poses(
    path: Path | str,
    skeleton: Skeleton,
    motion: Motion,
    layout: Literal["amass", "smplx"],
    avatar: str,
) -> tuple[str, ...]:
    """Write a motion of a body's skeleton as its poses; returns notes on what it does not hold.

    layout: amass, Z up; smplx, Y up as the avatar. avatar: named in errors. Raises: InputError.
    """
    kind = body_kind_of(skeleton)
    if kind is None:
        text = "expected an avatar made of an SMPL, SMPL-H or SMPL-X body, got another skeleton"
        raise InputError(f"{avatar}: {text}; a .bvh takes any")
    T_body_file = np.eye(4)
    if layout == "amass":
        T_body_file[:3, :3] = UP_AXES["z"]
    poses = poses_of_dofs(skeleton, motion.dofs.double().numpy(), T_body_file, fps=motion.fps)
    write_body_poses(path, poses, layout)
    text = "an avatar does not hold its body's betas: zeros are written"
    notes = [f"{text}, and places are those of its own pelvis"]
    if layout == "smplx" and kind == "smplx":
        notes.append("a motion holds no expressions: zeros are written")
    return tuple(notes)
