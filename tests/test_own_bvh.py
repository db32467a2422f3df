"""Motions as .bvh and back to the same skeleton: whole rotations, not directions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_body_poses import random_poses, rest_of_sticks
from made_motions import random_swings, walk, write_sticks
from scipy.spatial.transform import Rotation
from toy import toy_skeleton

from ash_core import cli
from ash_core.errors import InputError
from ash_core.exporters.motion_export import export_bvh
from ash_core.files.bvh import read_bvh
from ash_core.files.bvh_writer import write_bvh
from ash_core.files.skeletool import read_motion, read_skeleton, write_motion
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.body.body_character import make_skeleton
from ash_core.importers.body.body_motion import dofs_of_poses
from ash_core.importers.motion_file import read_foreign_motion
from ash_core.importers.own_bvh import dofs_of_own, metres_of_own, split_turns
from ash_core.importers.retarget.retarget import read_bvh_motion
from ash_core.records import Motion, Skeleton
from ash_core.resources import resource
from ash_core.scene.open import load_avatar_data

ACTOR = "assets", "actor/actor.skeleton"
EXACT_DEGREES, EXACT_M = 0.001, 1e-5


@pytest.fixture(scope="module")
def actor() -> Skeleton:
    return read_skeleton(resource(*ACTOR))


def swings(skeleton: Skeleton, frames: int = 40) -> torch.Tensor:
    """Random poses within the limits, after a rest pose that they leave at once."""
    dofs = random_swings(skeleton, np.random.default_rng(2), frames)
    dofs[0] = 0.0
    dofs[:, skeleton.dof_names.index("rotate_y")] = torch.linspace(0.0, 9.0, frames)
    return dofs


def assert_same_poses(skeleton: Skeleton, got: torch.Tensor, want: torch.Tensor) -> None:
    """Compare orientation and place of every joint in every frame."""
    T, T_want = (joint_transforms(skeleton, dofs.double()).numpy() for dofs in (got, want))
    apart = T[..., :3, :3].swapaxes(-1, -2) @ T_want[..., :3, :3]
    degrees = np.degrees(Rotation.from_matrix(apart.reshape(-1, 3, 3)).magnitude())
    assert degrees.max() < EXACT_DEGREES
    assert np.abs(T[..., :3, 3] - T_want[..., :3, 3]).max() < EXACT_M


@pytest.mark.parametrize("avatar", ["actor", "ida"])
def test_actors_come_back_with_the_dofs_that_they_had(tmp_path: Path, avatar: str) -> None:
    skeleton = load_avatar_data(avatar).skeleton
    dofs = swings(skeleton)
    export_bvh(tmp_path / "a.bvh", skeleton, Motion(dofs, fps=30.0))
    found = read_foreign_motion(tmp_path / "a.bvh", skeleton)
    assert found.motion.fps == pytest.approx(30.0)
    assert_same_poses(skeleton, found.motion.dofs, dofs)
    torch.testing.assert_close(found.motion.dofs, dofs, atol=1e-5, rtol=0.0)
    assert found.deviations is not None
    rotation, place = found.deviations
    assert rotation.amount < EXACT_DEGREES
    assert place.amount < EXACT_M


def test_bodies_come_back_beyond_their_limits(tmp_path: Path) -> None:
    poses = random_poses("smplx", 6)
    skeleton = make_skeleton("smplx", rest_of_sticks(), poses, np.eye(3))
    dofs = torch.from_numpy(dofs_of_poses(skeleton, poses))
    dofs[:, skeleton.dof_names.index("LeftWrist_ry")] = torch.linspace(0.0, 2.5, 6)
    export_bvh(tmp_path / "a.bvh", skeleton, Motion(dofs))
    found = read_foreign_motion(tmp_path / "a.bvh", skeleton)
    assert_same_poses(skeleton, found.motion.dofs, dofs)
    assert "joint limits are exceeded" in found.notes[-1]


def test_weighted_and_shared_dofs_come_back(tmp_path: Path) -> None:
    toy = toy_skeleton()
    matrix, slides = toy.dof_matrix.clone(), toy.is_prismatic.clone()
    matrix[:, 3] *= 3.0  # as in the published character
    slides[-1] = True
    other = replace(toy, dof_matrix=matrix, is_prismatic=slides)
    dofs = 0.3 * torch.randn(7, len(toy.dof_names), generator=torch.manual_seed(0)).double()
    for skeleton in (toy, other):
        export_bvh(tmp_path / "a.bvh", skeleton, Motion(dofs))
        found = read_foreign_motion(tmp_path / "a.bvh", skeleton)
        assert_same_poses(skeleton, found.motion.dofs, dofs)


def test_the_published_character_comes_back(tmp_path: Path, reference: Path) -> None:
    sample = reference / "ddc_sample"
    skeleton = read_skeleton(sample / "ddc.skeleton")
    dofs = read_motion(sample / "skeletoolToGTPose" / "poseAngles.motion", skeleton).dofs[:40]
    export_bvh(tmp_path / "a.bvh", skeleton, Motion(dofs))
    assert_same_poses(skeleton, read_foreign_motion(tmp_path / "a.bvh", skeleton).motion.dofs, dofs)


def test_a_turn_that_no_joint_can_make_is_measured(tmp_path: Path, actor: Skeleton) -> None:
    dofs = swings(actor, 8)
    export_bvh(tmp_path / "a.bvh", actor, Motion(dofs))
    clip = read_bvh(tmp_path / "a.bvh")
    knee, rotations = clip.names.index("RightLeg"), clip.rotations.copy()
    twist = Rotation.from_euler("y", 20.0, degrees=True)
    rotations[5, knee] = (Rotation.from_quat(rotations[5, knee]) * twist).as_quat()
    got, rotation, place = dofs_of_own(replace(clip, rotations=rotations), actor, 0.01)
    assert (rotation.bone[:5], rotation.frame) == ("Right", 5)
    assert 15.0 < rotation.amount < 25.0
    assert place.amount > 0.005
    others = [frame for frame in range(8) if frame != 5]
    assert_same_poses(actor, torch.from_numpy(got[others]), dofs[others])


def test_only_files_of_the_same_rest_pose_are_the_skeletons(
    tmp_path: Path, actor: Skeleton
) -> None:
    export_bvh(tmp_path / "a.bvh", actor, Motion(swings(actor, 4)))
    clip = read_bvh(tmp_path / "a.bvh")
    assert metres_of_own(clip, actor) == pytest.approx(0.01, rel=1e-6)
    assert metres_of_own(replace(clip, offsets=clip.offsets / 2.54), actor) == pytest.approx(0.0254)
    longer, turned = clip.offsets.copy(), clip.offsets[:, [2, 1, 0]]
    longer[clip.names.index("LeftLeg")] *= 1.01
    for offsets in (longer, turned, 0.0 * longer):
        assert metres_of_own(replace(clip, offsets=offsets), actor) is None
    names = tuple(name.replace("Roll", "Twist") for name in clip.names)
    assert metres_of_own(replace(clip, names=names), actor) is None
    parents = list(clip.parents)
    parents[clip.names.index("Head")] = clip.names.index("Chest")
    assert metres_of_own(replace(clip, parents=tuple(parents)), actor) is None


def test_other_figures_are_retargeted_as_before(tmp_path: Path, actor: Skeleton) -> None:
    root, turns, _ = walk(60.0, 1.1, 0.4, 25.0)
    path = write_sticks(tmp_path / "sticks.bvh", root, turns, 25.0)
    found = read_foreign_motion(path, actor)
    assert found.retargeted is not None
    torch.testing.assert_close(found.motion.dofs, read_bvh_motion(path, actor).motion.dofs)
    assert "stand on the floor" in found.place
    with pytest.raises(InputError, match="--place: expected floor, since a motion that is ret"):
        read_foreign_motion(path, actor, place="file")


def test_joints_may_be_listed_in_another_order(tmp_path: Path, actor: Skeleton) -> None:
    dofs = swings(actor, 6)
    export_bvh(tmp_path / "a.bvh", actor, Motion(dofs))
    clip = read_bvh(tmp_path / "a.bvh")
    depth = [0] * len(clip.names)
    for joint, parent in enumerate(clip.parents):
        depth[joint] = depth[parent] + 1 if parent >= 0 else 0
    order = sorted(range(len(depth)), key=lambda joint: (depth[joint], clip.names[joint]))
    other = replace(
        clip,
        names=tuple(clip.names[joint] for joint in order),
        parents=tuple(order.index(clip.parents[j]) if clip.parents[j] >= 0 else -1 for j in order),
        offsets=0.01 * clip.offsets[order],
        tips={},
        rotations=clip.rotations[:, order],
        translations=0.01 * clip.translations[:, order],
    )
    write_bvh(tmp_path / "b.bvh", other)
    assert_same_poses(actor, read_foreign_motion(tmp_path / "b.bvh", actor).motion.dofs, dofs)


def test_turns_are_split_about_any_axes() -> None:
    rng = np.random.default_rng(4)
    for count in (1, 2, 3):
        axes = rng.normal(size=(count, 3))
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        angles = rng.uniform(-3.0, 3.0, (50, count))
        turns = compose(axes, angles)
        ways = split_turns(turns, axes)
        for way in ways:
            np.testing.assert_allclose(compose(axes, way), turns, atol=1e-7)
        near = np.abs(np.exp(1j * ways) - np.exp(1j * angles)).max(-1).min(0)
        assert near.max() < 1e-6
    parallel = np.tile(np.eye(3)[0], (3, 1))
    assert not split_turns(compose(parallel, np.ones((2, 3))), parallel).any()


def compose(axes: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turns [F, 3, 3] by angles [F, k] about axes in a row, the first outermost."""
    total = Rotation.identity(len(angles))
    for axis, values in zip(axes, angles.T, strict=True):
        total = total * Rotation.from_rotvec(values[:, None] * axis)
    return total.as_matrix()


def test_command_says_how_exact_it_is(
    tmp_path: Path, actor: Skeleton, capsys: pytest.CaptureFixture[str]
) -> None:
    write_motion(tmp_path / "a.motion", swings(actor, 6), 30.0)
    before, bvh, after = (str(tmp_path / name) for name in ("a.motion", "a.bvh", "b.motion"))
    path = str(resource(*ACTOR))
    assert cli.main(["export", "motion", before, "--avatar", path, "-o", bvh]) == 0
    words = ["import", "motion", bvh, "--avatar", path, "-o", after]
    assert cli.main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 frames at 30 a second, joint angles as in the file" in said
    assert "place: as in the file" in said
    assert "largest error: 0.0 degrees of the whole rotation" in said
    assert not (tmp_path / "b.mapping.json").exists()
    motions = [read_motion(name, actor) for name in (before, after)]
    assert [motion.fps for motion in motions] == [30.0, 30.0]
    torch.testing.assert_close(motions[1].dofs, motions[0].dofs, atol=1e-5, rtol=0.0)
    assert cli.main([*words, "--place", "floor"]) == 2
    assert "--place: expected file" in " ".join(capsys.readouterr().err.split())
