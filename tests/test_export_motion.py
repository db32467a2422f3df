"""Motions in the files of other programs, read back."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from made_body_poses import poses_of_sticks, random_poses, rest_of_sticks
from made_motions import random_swings, walk
from toy import toy_skeleton

from ash_core import cli
from ash_core.errors import InputError
from ash_core.exporters.motion_clip import clip_of_motion
from ash_core.exporters.motion_export import export_bvh, export_poses
from ash_core.files.body_pose_files import read_body_poses
from ash_core.files.bvh import read_bvh
from ash_core.files.bvh_writer import CM_PER_M, ORDER, write_bvh
from ash_core.files.skeletool import read_skeleton, write_motion, write_skeleton
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.body.body_character import make_skeleton
from ash_core.importers.body.body_motion import dofs_of_poses
from ash_core.importers.motion_file import read_foreign_motion
from ash_core.importers.retarget.joint_mapping import bone_tree
from ash_core.importers.retarget.joint_names import group_name
from ash_core.records import Motion, Skeleton
from ash_core.resources import resource

TENTH_MM = 1e-4


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return read_skeleton(resource("assets", "actor/actor.skeleton"))


@pytest.fixture(scope="module")
def body_skeleton() -> Skeleton:
    poses = random_poses("smplx", 6)
    return make_skeleton("smplx", rest_of_sticks(), poses, np.eye(3))


def swings(skeleton: Skeleton) -> Motion:
    return Motion(random_swings(skeleton, np.random.default_rng(0), 12), fps=25.0)


# ---- .bvh ----


def assert_same_places(path: Path, skeleton: Skeleton, motion: Motion) -> None:
    """Compare the last joint of each bone with the joints of a .bvh, m."""
    clip = read_bvh(path)
    last = {group_name(name): n for n, name in enumerate(skeleton.joint_names)}
    want = joint_transforms(skeleton, motion.dofs)[:, [last[name] for name in clip.names]]
    turns, places = clip.poses()
    np.testing.assert_allclose(places / CM_PER_M, want[..., :3, 3], atol=TENTH_MM)
    np.testing.assert_allclose(turns, want[..., :3, :3], atol=1e-6)
    assert clip.fps == pytest.approx(motion.fps)


def test_an_actors_motion_comes_back_from_its_bvh(tmp_path: Path, skeleton: Skeleton) -> None:
    motion = swings(skeleton)
    export_bvh(tmp_path / "a.bvh", skeleton, motion)
    assert_same_places(tmp_path / "a.bvh", skeleton, motion)
    clip = read_bvh(tmp_path / "a.bvh")
    assert set(clip.names) == set(bone_tree(skeleton).names)
    # Joints that only turn have no places in the file.
    assert (tmp_path / "a.bvh").read_text().count("CHANNELS 6") == 1


def test_bones_whose_joints_slide_or_lie_apart_have_places(
    tmp_path: Path, skeleton: Skeleton
) -> None:
    offsets, slides = skeleton.offsets.clone(), skeleton.is_prismatic.clone()
    forearm = skeleton.joint_names.index("LeftHand_ry")
    offsets[forearm] += torch.tensor([0.1, 0.0, 0.02])
    slides[skeleton.joint_names.index("RightForeArm")] = True
    other = replace(skeleton, offsets=offsets, is_prismatic=slides)
    export_bvh(tmp_path / "a.bvh", other, swings(skeleton))
    assert_same_places(tmp_path / "a.bvh", other, swings(skeleton))
    assert (tmp_path / "a.bvh").read_text().count("CHANNELS 6") == 3


def test_any_skeleton_can_be_exported(tmp_path: Path, body_skeleton: Skeleton) -> None:
    toy = toy_skeleton()
    for skeleton in (toy, body_skeleton):
        dofs = 0.3 * torch.randn(5, len(skeleton.dof_names), dtype=torch.float64)
        motion = Motion(dofs, fps=30.0)
        export_bvh(tmp_path / "a.bvh", skeleton, motion)
        assert_same_places(tmp_path / "a.bvh", skeleton, motion)


def test_the_rest_pose_is_the_files_zero_pose(tmp_path: Path, skeleton: Skeleton) -> None:
    rest = Motion(torch.zeros(2, len(skeleton.dof_names), dtype=torch.float64))
    export_bvh(tmp_path / "a.bvh", skeleton, rest)
    clip = read_bvh(tmp_path / "a.bvh")
    np.testing.assert_allclose(clip.rotations[..., 3], 1.0, atol=1e-9)
    np.testing.assert_allclose(clip.rest(), clip.poses()[1][0] - clip.poses()[1][0, 0], atol=1e-6)


def test_angles_do_not_jump_by_whole_turns(tmp_path: Path, skeleton: Skeleton) -> None:
    dofs = torch.zeros(50, len(skeleton.dof_names), dtype=torch.float64)
    dofs[:, skeleton.dof_names.index("rotate_y")] = torch.linspace(0.0, 12.0, 50)
    write_bvh(tmp_path / "a.bvh", clip_of_motion(skeleton, Motion(dofs)))
    rows = (tmp_path / "a.bvh").read_text().splitlines()[-50:]
    turns = np.array([row.split() for row in rows], float)[:, 3 : 3 + len(ORDER)]
    assert np.abs(np.diff(turns, axis=0)).max() < 20.0
    assert turns[-1, ORDER.index("Y")] > 600.0


# ---- poses of a body ----


@pytest.mark.parametrize("layout", ["amass", "smplx"])
def test_a_bodys_motion_comes_back_from_its_poses(
    tmp_path: Path, body_skeleton: Skeleton, layout: Any
) -> None:
    poses = random_poses("smplx", 6)
    dofs = torch.from_numpy(dofs_of_poses(body_skeleton, poses))
    notes = export_poses(tmp_path / "a.npz", body_skeleton, Motion(dofs), layout, "a")
    assert "betas" in notes[0]
    assert any("expressions" in note for note in notes) == (layout == "smplx")
    file = read_body_poses(tmp_path / "a.npz")
    np.testing.assert_allclose(file.rotations[:, 1:], poses.rotations[:, 1:], atol=1e-5)
    up = "z" if layout == "amass" else "y"
    again = read_foreign_motion(tmp_path / "a.npz", body_skeleton, up=up, place="file")
    torch.testing.assert_close(again.motion.dofs, dofs, atol=1e-5, rtol=0.0)
    assert again.motion.fps == 25.0


def test_amass_files_are_z_up(tmp_path: Path, body_skeleton: Skeleton) -> None:
    root, turns, _ = walk(60.0, 1.1, 0.5, 25.0)
    dofs = dofs_of_poses(body_skeleton, poses_of_sticks(root, turns, 25.0))
    motion = Motion(torch.from_numpy(dofs))
    layouts: dict[Literal["amass", "smplx"], str] = {"amass": "z", "smplx": "y"}
    for layout, axis in layouts.items():
        export_poses(tmp_path / "a.npz", body_skeleton, motion, layout, "a")
        assert read_foreign_motion(tmp_path / "a.npz", body_skeleton).up.axis == axis


def test_other_skeletons_have_no_poses_of_a_body(tmp_path: Path, skeleton: Skeleton) -> None:
    with pytest.raises(InputError, match=r"^actor: expected an avatar made of an SMPL"):
        export_poses(tmp_path / "a.npz", skeleton, swings(skeleton), "amass", "actor")
    assert not (tmp_path / "a.npz").exists()


# ---- command ----


def test_command_writes_either(
    tmp_path: Path, body_skeleton: Skeleton, capsys: pytest.CaptureFixture[str]
) -> None:
    write_skeleton(tmp_path / "body.skeleton", body_skeleton)
    write_motion(tmp_path / "m.motion", torch.zeros(3, len(body_skeleton.dof_names)))
    command = ["export", "motion", str(tmp_path / "m.motion")]
    command += ["--avatar", str(tmp_path / "body.skeleton"), "-o"]
    assert cli.main([*command, str(tmp_path / "m.bvh")]) == 0
    assert cli.main([*command, str(tmp_path / "m.npz"), "--format", "smplx"]) == 0
    assert capsys.readouterr().out.count("3 frames at 25 a second") == 2
    assert len(read_bvh(tmp_path / "m.bvh").rotations) == 3
    assert len(read_body_poses(tmp_path / "m.npz").rotations) == 3
    capsys.readouterr()
    assert cli.main([*command, str(tmp_path / "m.fbx")]) == 2
    assert cli.main(["export", "motion", "dance", "--avatar", "actor", "-o", "a.npz"]) == 2
    assert cli.main([*command, str(tmp_path / "n.bvh"), "--format", "smplx"]) == 2
    assert cli.main([*command, str(tmp_path / "n.bvh"), "--fps", "0"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    assert "expected a name that ends in .bvh or .npz" in errors[0]
    assert "--format smplx is for an .npz" in errors[2]
    assert not (tmp_path / "n.bvh").exists()


def test_files_state_the_motions_rate_or_the_one_asked_for(
    tmp_path: Path, body_skeleton: Skeleton
) -> None:
    write_skeleton(tmp_path / "body.skeleton", body_skeleton)
    write_motion(tmp_path / "m.motion", torch.zeros(3, len(body_skeleton.dof_names)), 30.0)
    command = ["export", "motion", str(tmp_path / "m.motion")]
    command += ["--avatar", str(tmp_path / "body.skeleton"), "-o"]
    for words, fps in (((), 30.0), (("--fps", "50"), 50.0)):
        for name in ("m.bvh", "m.npz"):
            assert cli.main([*command, str(tmp_path / name), *words]) == 0
        assert read_bvh(tmp_path / "m.bvh").fps == pytest.approx(fps)
        assert read_body_poses(tmp_path / "m.npz").fps == fps
