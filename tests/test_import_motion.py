"""Poses of SMPL bodies on any avatar: retargeted, or taken over where the body is the avatar's."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from made_body_poses import (
    Z_UP,
    poses_of_sticks,
    random_poses,
    rest_of_sticks,
    write_aist,
    write_easymocap,
)
from made_motions import about, eased, walk, write_sticks
from scipy.spatial.transform import Rotation

from ash_core import cli
from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_pose_files import write_body_poses
from ash_core.files.body_poses import BODY_JOINTS, BodyKind, BodyPoses
from ash_core.files.skeletool import read_motion, read_skeleton, write_skeleton
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.body.body_character import make_skeleton
from ash_core.importers.body.body_clip import UP_AXES, USUAL_UP, clip_of_poses, find_body_up
from ash_core.importers.body.body_motion import bone_name
from ash_core.importers.body.plain_figure import plain_rest
from ash_core.importers.body.posing import joint_frames
from ash_core.importers.motion_file import (
    NO_EXPRESSIONS,
    ForeignMotion,
    read_foreign_motion,
    usual_fps,
)
from ash_core.importers.retarget.ground import SOLE_M
from ash_core.importers.retarget.retarget import Retargeted, read_bvh_motion
from ash_core.records import Motion, Skeleton
from ash_core.resources import resource
from ash_core.scene.open import ACTOR, load_avatar_data, load_motion
from ash_core.variants import RELEASED

WALK = walk(60.0, 1.1, 1.5, 50.0)
FPS = 50.0


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return read_skeleton(resource("assets", "actor/actor.skeleton"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("motions")


def walking(R_file_body: np.ndarray | None = None, kind: BodyKind = "smplx") -> BodyPoses:
    root, turns, _ = WALK
    return poses_of_sticks(root, turns, FPS, R_file_body, kind)


def stick_body(kind: BodyKind = "smplx") -> BodyModel:
    """Body of the sticks' proportions: a vertex at each joint."""
    rest = rest_of_sticks(kind)
    count = len(rest)
    return BodyModel(
        path=Path("body.npz"),
        kind=kind,
        template=rest,
        faces=np.zeros((0, 3), int),
        shape_dirs=np.zeros((count, 3, 10)),
        joint_regressor=sp.csr_matrix(np.eye(count)),
        weights=np.eye(count),
        hand_components=np.zeros((2, 6, 45)),
    )


@pytest.fixture(scope="module")
def amass(folder: Path) -> Path:
    write_body_poses(folder / "walk.npz", walking(Z_UP), "amass")
    return folder / "walk.npz"


@pytest.fixture(scope="module")
def as_bvh(folder: Path, skeleton: Skeleton) -> Retargeted:
    root, turns, _ = WALK
    return read_bvh_motion(write_sticks(folder / "w.bvh", root, turns, FPS), skeleton)


@pytest.fixture(scope="module")
def found(amass: Path, skeleton: Skeleton) -> ForeignMotion:
    return read_foreign_motion(amass, skeleton, body=stick_body(), fps=25.0)


def places(motion: Motion, skeleton: Skeleton) -> np.ndarray:
    """[F, J, 3] m of all joints."""
    return joint_transforms(skeleton, motion.dofs)[..., :3, 3].numpy()


# ---- retargeting ----


def test_a_walk_of_amass_goes_as_the_same_walk_in_a_bvh(
    found: ForeignMotion, as_bvh: Retargeted, skeleton: Skeleton
) -> None:
    assert found.up.axis == "z"
    assert found.retargeted is not None
    bones = {worst.bone: worst.degrees for worst in as_bvh.quality.errors}
    for worst in found.retargeted.quality.errors:
        if worst.bone in bones:
            assert worst.degrees < bones[worst.bone] + 1.0, worst
    assert found.retargeted.quality.turns[0].degrees < as_bvh.quality.turns[0].degrees + 0.5
    apart = np.linalg.norm(places(found.motion, skeleton) - places(as_bvh.motion, skeleton), axis=2)
    shared = [n for n, name in enumerate(skeleton.joint_names) if name[-1] not in "123"]
    limbs = [n for n in shared if not any(f in skeleton.joint_names[n] for f in ("1_", "Hand"))]
    assert apart[:, limbs].max() < 0.01


@pytest.mark.parametrize("up", ["y", "y-down"])
def test_the_up_axis_of_the_file_does_not_matter(
    folder: Path, found: ForeignMotion, skeleton: Skeleton, up: str
) -> None:
    path = folder / f"{up}.npz"
    write_body_poses(path, walking(UP_AXES[up].T), "smplx")
    other = read_foreign_motion(path, skeleton, body=stick_body(), fps=25.0)
    assert other.up.axis == up
    torch.testing.assert_close(other.motion.dofs, found.motion.dofs, atol=1e-5, rtol=0.0)


def test_frames_are_those_of_the_rate_that_is_asked_for(
    folder: Path, found: ForeignMotion, skeleton: Skeleton
) -> None:
    root, turns, _ = walk(60.0, 1.1, 1.5, 125.0)
    write_body_poses(folder / "fast.npz", poses_of_sticks(root, turns, 125.0, Z_UP), "amass")
    fast = read_foreign_motion(folder / "fast.npz", skeleton, body=stick_body(), fps=25.0)
    assert fast.motion.fps == 25.0
    assert abs(len(fast.motion.dofs) - len(found.motion.dofs)) <= 1
    count = min(len(fast.motion.dofs), len(found.motion.dofs)) - 5
    apart = places(fast.motion, skeleton)[:count] - places(found.motion, skeleton)[:count]
    assert np.abs(apart).max() < 0.02


def test_without_its_body_a_file_moves_a_figure_of_usual_proportions(
    amass: Path, found: ForeignMotion, skeleton: Skeleton
) -> None:
    plain = read_foreign_motion(amass, skeleton, fps=25.0)
    assert "no --body" in plain.notes[0]
    assert plain.retargeted is not None
    assert plain.retargeted.quality.errors[0].degrees < 15.0
    leg = [n for n, name in enumerate(skeleton.joint_names) if name.startswith("LeftLeg")]
    step = [np.ptp(places(m.motion, skeleton)[:, leg, 2]) for m in (plain, found)]
    assert abs(step[0] - step[1]) < 0.1


def test_a_rate_that_no_file_states_is_assumed(
    folder: Path, skeleton: Skeleton, found: ForeignMotion
) -> None:
    poses = replace(walking(), fps=None)
    write_body_poses(folder / "rex.npz", poses, "smplx")
    other = read_foreign_motion(folder / "rex.npz", skeleton, body=stick_body())
    assert "30 frames a second are assumed" in other.notes[0]
    assert other.motion.fps == 30.0
    assert len(other.motion.dofs) == len(poses.rotations)
    stated = read_foreign_motion(
        folder / "rex.npz", skeleton, body=stick_body(), file_fps=FPS, fps=25.0
    )
    torch.testing.assert_close(stated.motion.dofs, found.motion.dofs, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("kind", ["smpl", "smplx"])
def test_folders_of_frames_are_read_too(folder: Path, skeleton: Skeleton, kind: BodyKind) -> None:
    poses = walking(kind=kind)
    path = write_easymocap(folder / f"mocap_{kind}", poses, rest_of_sticks(kind))
    result = read_foreign_motion(path, skeleton, body=stick_body(kind), file_fps=FPS, fps=25.0)
    assert result.retargeted is not None
    assert result.retargeted.quality.errors[0].degrees < 15.0
    assert not any("hands" in note for note in result.notes)


def test_up_is_where_somebody_stands_else_what_stays_level() -> None:
    lie = np.tile(about("y", 90.0) @ about("x", -90.0), (20, 1, 1))
    root = np.tile([0.0, 12.0, 0.0], (20, 1))
    limbs = {
        "Hips": lie,
        "LeftArm": about("z", eased([0, 40], 20)),
        "RightArm": about("z", eased([0, -40], 20)),
    }
    for R, axis in ((None, "y"), (Z_UP, "z")):
        poses = poses_of_sticks(root, limbs, 25.0, R)
        assert find_body_up(clip_of_poses(poses, rest_of_sticks())).axis == axis
    for axis in USUAL_UP:
        clip = clip_of_poses(walking(UP_AXES[axis].T), rest_of_sticks())
        assert find_body_up(clip).axis == axis


def test_the_plain_figure_stands_with_its_arms_out() -> None:
    for kind, names in BODY_JOINTS.items():
        rest = dict(zip(names, plain_rest(kind), strict=True))
        assert rest["left_wrist"][1] == pytest.approx(rest["left_shoulder"][1])
        assert rest["left_hip"][0] > 0.0 > rest["right_hip"][0]
        assert rest["left_foot"][2] > rest["left_ankle"][2] + 0.05
        assert 1.3 < rest["head"][1] - rest["left_foot"][1] < 1.8
        if kind != "smpl":
            assert rest["left_index1"][2] > rest["left_pinky1"][2]


# ---- the avatar's own body ----


OWN_REST = rest_of_sticks() + np.array([0.0, 0.2, 0.0])


@pytest.fixture(scope="module")
def body_skeleton() -> Skeleton:
    return make_skeleton("smplx", OWN_REST, walking(), np.eye(3))


def body_places(motion: Motion, skeleton: Skeleton, kind: BodyKind) -> np.ndarray:
    """[F, J, 3] m of the body's joints, in the order of its files."""
    bones = [name.split("_")[0] for name in skeleton.joint_names]
    last = {bone: joint for joint, bone in enumerate(bones)}
    return places(motion, skeleton)[:, [last[bone_name(joint)] for joint in BODY_JOINTS[kind]]]


def test_the_avatars_own_body_takes_the_angles_as_they_are(
    folder: Path, body_skeleton: Skeleton
) -> None:
    poses = replace(random_poses("smplx", 6), rotations=walking().rotations[:6] + 0.01)
    turn = Rotation.from_matrix(Z_UP)
    file = poses.rotations.copy()
    file[:, 0] = (turn * Rotation.from_rotvec(poses.rotations[:, 0])).as_rotvec()
    translations = turn.apply(poses.translations + OWN_REST[0]) - OWN_REST[0]
    write_body_poses(
        folder / "own.npz", replace(poses, rotations=file, translations=translations), "amass"
    )
    result = read_foreign_motion(folder / "own.npz", body_skeleton, up="z", place="file")
    assert result.retargeted is None
    want = joint_frames(poses, OWN_REST)[1]
    got = body_places(result.motion, body_skeleton, "smplx")
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("height", [-0.88, 0.9])
def test_motions_stand_on_the_floor_wherever_their_file_has_it(
    folder: Path, body_skeleton: Skeleton, height: float
) -> None:
    poses = walking()
    moved = replace(poses, translations=poses.translations + np.array([0.0, height, 0.0]))
    write_body_poses(folder / "level.npz", poses, "smplx")
    write_body_poses(folder / "moved.npz", moved, "smplx")
    level = read_foreign_motion(folder / "level.npz", body_skeleton, place="floor")
    found = read_foreign_motion(folder / "moved.npz", body_skeleton)
    torch.testing.assert_close(found.motion.dofs, level.motion.dofs, atol=1e-5, rtol=0.0)
    lowest = body_places(found.motion, body_skeleton, "smplx")[:, [10, 11], 1]
    assert np.quantile(lowest, 0.02) == pytest.approx(SOLE_M, abs=1e-4)
    kept = read_foreign_motion(folder / "moved.npz", body_skeleton, place="file")
    assert kept.place == "as in the file"
    shift = (kept.motion.dofs - found.motion.dofs)[:, 1]
    assert float(shift.std()) < 1e-5
    above = float(shift.mean())
    way = f"{'lowered' if height > 0 else 'lifted'} by {abs(above):.2f} m, so that its feet stand"
    assert found.place.startswith(way)
    assert found.place.endswith("--place file keeps the file's")


def test_soles_are_those_of_the_avatars_mesh(folder: Path, body_skeleton: Skeleton) -> None:
    poses = walking()
    write_body_poses(folder / "m.npz", poses, "smplx")
    data = load_avatar_data(ACTOR)
    vertices = data.template.vertices.clone()
    vertices[:, 1] += float(OWN_REST[[10, 11], 1].min()) - 0.07 - float(vertices[:, 1].min())
    shod = replace(data, template=replace(data.template, vertices=vertices))
    found = read_foreign_motion(folder / "m.npz", body_skeleton, avatar=shod, place="floor")
    lowest = body_places(found.motion, body_skeleton, "smplx")[:, [10, 11], 1]
    assert np.quantile(lowest, 0.02) == pytest.approx(0.07, abs=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a data set of 'import capture', found no capture.json"),
        ("[1]", "expected T_world_capture"),
        ('{"T_world_capture": [[1, 0], [0]]}', "expected T_world_capture"),
        ('{"T_world_capture": [[2,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}', "got another matrix"),
    ],
)
def test_places_of_no_capture_are_refused(
    tmp_path: Path, amass: Path, body_skeleton: Skeleton, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "capture.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        read_foreign_motion(amass, body_skeleton, place=str(tmp_path))
    with pytest.raises(InputError, match="leave it out beside --place"):
        read_foreign_motion(amass, body_skeleton, place=str(tmp_path), up="z")
    with pytest.raises(InputError, match="--place: expected floor, file or a data set of"):
        read_foreign_motion(amass, body_skeleton, place="flor")


def test_expressions_are_said_to_be_left_out(folder: Path, body_skeleton: Skeleton) -> None:
    poses = replace(walking(), expressions=np.zeros((75, 10)))
    write_body_poses(folder / "e.npz", poses, "smplx")
    assert NO_EXPRESSIONS not in read_foreign_motion(folder / "e.npz", body_skeleton).notes
    smile = replace(poses, expressions=np.full((75, 10), 0.5))
    write_body_poses(folder / "e.npz", smile, "smplx")
    assert NO_EXPRESSIONS in read_foreign_motion(folder / "e.npz", body_skeleton).notes


def test_a_file_of_another_body_keeps_its_pelvis_in_place(
    folder: Path, body_skeleton: Skeleton
) -> None:
    write_body_poses(folder / "y.npz", walking(), "smplx")
    result = read_foreign_motion(folder / "y.npz", body_skeleton, body=stick_body(), place="file")
    pelvis = body_places(result.motion, body_skeleton, "smplx")[:, 0]
    np.testing.assert_allclose(pelvis, WALK[0] / 100.0, atol=1e-5)


def test_a_smaller_body_moves_the_joints_that_both_have(
    folder: Path, body_skeleton: Skeleton
) -> None:
    path = write_aist(folder / "aist.pkl", walking(kind="smpl"))
    result = read_foreign_motion(path, body_skeleton)
    assert result.motion.fps == 60.0
    got = body_places(result.motion, body_skeleton, "smplx")
    pelvis = got[:, 0] - OWN_REST[0]
    want = joint_frames(replace(walking(), translations=pelvis), OWN_REST)[1]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_hands_of_coefficients_stay_at_rest_without_their_body(
    folder: Path, body_skeleton: Skeleton
) -> None:
    path = write_easymocap(folder / "mocap_own", walking(), rest_of_sticks())
    result = read_foreign_motion(path, body_skeleton, file_fps=FPS)
    assert "the hands stay at rest" in result.notes[0]


def test_resampling_lies_between_the_frames(folder: Path, body_skeleton: Skeleton) -> None:
    write_body_poses(folder / "r.npz", walking(), "smplx")
    own = read_foreign_motion(folder / "r.npz", body_skeleton)
    half = read_foreign_motion(folder / "r.npz", body_skeleton, fps=25.0)
    assert (own.motion.fps, half.motion.fps) == (50.0, 25.0)
    torch.testing.assert_close(half.motion.dofs, own.motion.dofs[::2], atol=1e-9, rtol=0.0)


def test_exceeded_limits_are_reported_and_stay(folder: Path, body_skeleton: Skeleton) -> None:
    poses = walking()
    poses.rotations[:, BODY_JOINTS["smplx"].index("left_wrist"), 1] = np.linspace(0.0, 2.0, 75)
    write_body_poses(folder / "wide.npz", poses, "smplx")
    result = read_foreign_motion(folder / "wide.npz", body_skeleton)
    assert "joint limits are exceeded" in result.notes[-1]
    assert "LeftWrist_ry by 25 degrees (frame 74)" in result.notes[-1]


def test_a_rest_pose_first_is_left_out(folder: Path, body_skeleton: Skeleton) -> None:
    poses = walking()
    poses.rotations[1:, BODY_JOINTS["smplx"].index("left_shoulder"), 2] = -1.3
    poses.rotations[0, 1:] = 0.0
    write_body_poses(folder / "t.npz", poses, "smplx")
    result = read_foreign_motion(folder / "t.npz", body_skeleton)
    assert len(result.motion.dofs) == len(poses.rotations) - 1
    assert "the first frame shows a rest pose" in result.notes[0]


# ---- by name ----


def test_a_body_of_another_kind_is_refused(amass: Path, skeleton: Skeleton) -> None:
    with pytest.raises(InputError, match=r"kind SMPLX as in the poses, got SMPL$"):
        read_foreign_motion(amass, skeleton, body=stick_body("smpl"))


def test_an_avatars_motion_may_be_such_a_file(amass: Path) -> None:
    notes: list[str] = []
    motion = load_motion(str(amass), ACTOR, load_avatar_data(ACTOR), report=notes.append)
    assert motion.name == "walk"
    assert motion.fps == FPS
    assert "no --body" in notes[0]
    assert "stand on the floor" in notes[-1]


def test_networks_that_count_frames_get_25_a_second() -> None:
    data = load_avatar_data(ACTOR)
    assert usual_fps(None) is None
    assert usual_fps(data) is None
    assert usual_fps(replace(data, history_offsets=RELEASED.history_offsets)) == 25.0


def test_command_writes_motion_and_mapping(
    amass: Path, tmp_path: Path, skeleton: Skeleton, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.motion"
    actor = str(resource("assets", "actor/actor.skeleton"))
    command = ["import", "motion", str(amass), "--avatar", actor, "-o", str(out)]
    assert cli.main(command) == 0
    printed = capsys.readouterr()
    assert "75 frames at 50 a second, 52 joints matched; up is z (the body st" in printed.out
    assert "place: its lowest parts stand on the floor, y = 0" in printed.out
    assert "largest error: " in printed.out
    motion = read_motion(out, skeleton)
    assert (len(motion.dofs), motion.fps) == (75, FPS)
    assert (tmp_path / "out.mapping.json").is_file()
    assert cli.main([*command, "--fps", "0.5"]) == 2
    assert cli.main([*command, "--up", "up"]) == 2
    assert cli.main([*command[:2], str(tmp_path / "none.npz"), *command[3:]]) == 2
    assert capsys.readouterr().err.count("error: ") == 3


def test_command_keeps_the_angles_of_the_avatars_own_body(
    amass: Path, tmp_path: Path, body_skeleton: Skeleton, capsys: pytest.CaptureFixture[str]
) -> None:
    write_skeleton(tmp_path / "body.skeleton", body_skeleton)
    command = ["import", "motion", str(amass), "--avatar", str(tmp_path / "body.skeleton")]
    assert cli.main([*command, "-o", str(tmp_path / "own.motion")]) == 0
    said = capsys.readouterr().out
    assert "75 frames at 50 a second, joint angles as in the file" in said
    assert "place: as in the file, whose feet are within 2 cm of the floor" in said
    assert not (tmp_path / "own.mapping.json").exists()
