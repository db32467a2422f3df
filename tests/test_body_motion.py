"""Poses of a body as dofs of its character: exact in both directions, far from singular poses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_body import made_joints, write_body_model
from made_motions import write_actor_bvh
from scipy.spatial.transform import Rotation

from ash_core.errors import InputError
from ash_core.files.body_model import read_body_model
from ash_core.files.body_poses import BODY_JOINTS, BodyKind, BodyPoses, RootRule
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_skeleton, write_skeleton
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.body.body_character import make_skeleton
from ash_core.importers.body.body_motion import (
    body_kind_of,
    bone_name,
    dofs_of_poses,
    expand_hands,
    poses_of_dofs,
    rest_joints_of,
)
from ash_core.importers.body.euler import (
    HEADING_ORDERS,
    ORDERS,
    choose_order,
    euler_angles,
    turns_of_angles,
)
from ash_core.importers.body.posing import joint_frames
from ash_core.importers.retarget.joint_names import body_parts
from ash_core.importers.retarget.retarget import read_bvh_motion
from ash_core.records import Skeleton
from ash_core.resources import resource

KINDS: tuple[BodyKind, ...] = ("smpl", "smplh", "smplx")
FRAMES = 40


def random_poses(
    kind: BodyKind, rule: RootRule = "pelvis", seed: int = 0, scale: float = 1.0
) -> BodyPoses:
    rng = np.random.default_rng(seed)
    rotations = rng.normal(size=(FRAMES, len(BODY_JOINTS[kind]), 3))
    places = rng.normal(size=(FRAMES, 3))
    return BodyPoses(
        kind, rotations, places, rule, rng.normal(size=10), tuple(range(FRAMES)), scale=scale
    )


def random_transform(seed: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    T[:3, 3] = np.random.default_rng(seed).normal(size=3)
    return T


def frames_of(skeleton: Skeleton, dofs: np.ndarray, kind: BodyKind) -> np.ndarray:
    """T_body_joint [F, J, 4, 4] of the bones, in the order of the body."""
    groups = [name.split("_")[0] for name in skeleton.joint_names]
    last = {group: joint for joint, group in enumerate(groups)}
    T = joint_transforms(skeleton, torch.from_numpy(dofs)).numpy()
    return T[:, [last[bone_name(joint)] for joint in BODY_JOINTS[kind]]]


def written(skeleton: Skeleton, folder: Path) -> Skeleton:
    write_skeleton(folder / "a.skeleton", skeleton)
    return read_skeleton(folder / "a.skeleton")


# ---- poses and dofs ----


@pytest.mark.parametrize("rule", ["pelvis", "origin"])
@pytest.mark.parametrize("kind", KINDS)
def test_joints_stand_where_the_body_file_puts_them(
    kind: BodyKind, rule: RootRule, tmp_path: Path
) -> None:
    poses, T = random_poses(kind, rule, scale=1.1), random_transform(1)
    rest = made_joints(kind)
    made = make_skeleton(kind, rest * poses.scale, poses, T[:3, :3])
    turns, places = joint_frames(poses, rest)
    for skeleton in (made, written(made, tmp_path)):
        dofs = dofs_of_poses(skeleton, poses, rest, T)
        frames = frames_of(skeleton, dofs, kind)
        np.testing.assert_allclose(frames[..., :3, 3], places @ T[:3, :3].T + T[:3, 3], atol=1e-6)
        np.testing.assert_allclose(frames[..., :3, :3], T[:3, :3] @ turns, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_dofs_become_the_same_poses_again(kind: BodyKind, tmp_path: Path) -> None:
    poses, T = random_poses(kind), random_transform(2)
    rest = made_joints(kind)
    skeleton = written(make_skeleton(kind, rest, poses, T[:3, :3]), tmp_path)
    back = poses_of_dofs(skeleton, dofs_of_poses(skeleton, poses, rest, T), T, fps=30.0)
    turned = Rotation.from_rotvec(back.rotations.reshape(-1, 3)).inv() * Rotation.from_rotvec(
        poses.rotations.reshape(-1, 3)
    )
    assert turned.magnitude().max() < 1e-9
    np.testing.assert_allclose(back.translations, poses.translations, atol=1e-6)
    assert (back.kind, back.root_rule, back.fps) == (kind, "pelvis", 30.0)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_dofs_are_the_rest_pose(kind: BodyKind, tmp_path: Path) -> None:
    rest = made_joints(kind)
    made = make_skeleton(kind, rest, random_poses(kind), np.eye(3))
    for skeleton in (made, written(made, tmp_path)):
        frames = frames_of(skeleton, np.zeros((1, len(skeleton.dof_names))), kind)[0]
        np.testing.assert_allclose(frames[:, :3, 3], rest, atol=1e-6)
        np.testing.assert_allclose(frames[:, :3, :3], np.eye(3)[None].repeat(len(rest), 0))
        np.testing.assert_allclose(rest_joints_of(skeleton), rest, atol=1e-6)
        assert body_kind_of(skeleton) == kind


def test_poses_of_another_kind_move_the_joints_that_both_have() -> None:
    poses = random_poses("smplh")
    skeleton = make_skeleton("smplx", made_joints("smplx"), random_poses("smplx"), np.eye(3))
    back = poses_of_dofs(skeleton, dofs_of_poses(skeleton, poses))
    for number, name in enumerate(BODY_JOINTS["smplx"]):
        expected = np.zeros((FRAMES, 3))
        if name in BODY_JOINTS["smplh"]:
            expected = poses.rotations[:, BODY_JOINTS["smplh"].index(name)]
        difference = Rotation.from_rotvec(back.rotations[:, number]).inv() * Rotation.from_rotvec(
            expected
        )
        assert difference.magnitude().max() < 1e-9


def test_an_angle_beyond_a_limit_stays() -> None:
    skeleton = make_skeleton("smpl", made_joints("smpl"), still("smpl"), np.eye(3))
    far = still("smpl")
    far.rotations[:, BODY_JOINTS["smpl"].index("spine1")] = [2.5, 0.0, 0.0]
    dofs = dofs_of_poses(skeleton, far)
    assert np.isclose(np.abs(dofs).max(), 2.5)
    assert (dofs[0] > skeleton.dof_limits[:, 1].numpy()).any()


def still(kind: BodyKind) -> BodyPoses:
    rotations = np.zeros((FRAMES, len(BODY_JOINTS[kind]), 3))
    return BodyPoses(
        kind, rotations, np.zeros((FRAMES, 3)), "pelvis", np.zeros(10), (*range(FRAMES),)
    )


def test_other_skeletons_are_of_no_body() -> None:
    data, _ = import_ash(resource("assets", "actor") / "actor.conf")
    assert body_kind_of(data.skeleton) is None
    with pytest.raises(InputError, match="body file"):
        dofs_of_poses(data.skeleton, random_poses("smpl"))


def test_the_first_turn_of_the_root_is_its_heading() -> None:
    for seed in range(4):
        poses = random_poses("smpl", seed=seed)
        skeleton = make_skeleton("smpl", made_joints("smpl"), poses, np.eye(3))
        assert skeleton.dof_names[:4] == ("translate_x", "translate_y", "translate_z", "rotate_y")


# ---- hands ----


@pytest.mark.parametrize("kind", ["smplh", "smplx"])
def test_components_of_hands_are_added_to_a_flat_hand(kind: BodyKind, tmp_path: Path) -> None:
    model = read_body_model(write_body_model(tmp_path / "a.npz", kind, vertices=2000))
    assert model.hand_components is not None
    pca = np.random.default_rng(0).normal(size=(FRAMES, 2, 6))
    poses = random_poses(kind)
    flat = replace(poses, hand_pca=pca)
    expanded = expand_hands(flat, model)
    assert expanded.hand_pca is None
    for side, name in enumerate(("left_index1", "right_index1")):
        first = BODY_JOINTS[kind].index(name)
        expected = (pca[:, side] @ model.hand_components[side, :6]).reshape(FRAMES, 15, 3)
        np.testing.assert_allclose(expanded.rotations[:, first : first + 15], expected)
    np.testing.assert_array_equal(expanded.rotations[:, :22], poses.rotations[:, :22])


def test_components_need_a_body_file_with_hands(tmp_path: Path) -> None:
    model = read_body_model(write_body_model(tmp_path / "a.npz", "smpl", vertices=2000))
    poses = replace(random_poses("smplx"), hand_pca=np.zeros((FRAMES, 2, 6)))
    with pytest.raises(InputError, match="6 components"):
        expand_hands(poses, model)


# ---- angles ----


@pytest.mark.parametrize("order", ORDERS)
def test_angles_give_the_turns_they_came_from(order: str) -> None:
    turns = Rotation.random(600, rng=np.random.default_rng(0)).as_matrix().reshape(200, 3, 3, 3)
    angles = euler_angles(turns, order)
    np.testing.assert_allclose(turns_of_angles(angles, order), turns, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_angles_follow_the_nearer_of_two_solutions(order: str) -> None:
    """A loop over the frames finds the same angles."""
    rng = np.random.default_rng(1)
    steps = Rotation.from_rotvec(rng.normal(size=(300, 3)))
    turns = [Rotation.identity()]
    for step in steps:
        turns.append(turns[-1] * step)
    matrices = np.stack([turn.as_matrix() for turn in turns])[:, None]
    principal = Rotation.from_matrix(matrices[:, 0]).as_euler(order)
    expected = [principal[0]]
    for a, b, c in principal[1:]:
        ways = np.array([[a, b, c], [a + np.pi, np.pi - b, c + np.pi]])
        ways += 2 * np.pi * np.round((expected[-1] - ways) / (2 * np.pi))
        expected.append(ways[np.abs(ways - expected[-1]).sum(1).argmin()])
    np.testing.assert_allclose(euler_angles(matrices, order)[:, 0], np.array(expected), atol=1e-9)


@pytest.mark.parametrize("axis", [*np.eye(3), [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
def test_a_hip_that_swings_about_any_axis_stays_far_from_singular(axis: list[float]) -> None:
    angle = np.radians(np.linspace(-85.0, 85.0, 51))
    direction = np.asarray(axis) / np.linalg.norm(axis)
    noise = np.random.default_rng(0).normal(0, 0.03, (51, 3))
    turns = Rotation.from_rotvec(angle[:, None] * direction + noise).as_matrix()
    middle = {order: np.abs(euler_angles(turns[:, None], order)[:, 0, 1]).max() for order in ORDERS}
    chosen = middle[choose_order(turns)]
    assert chosen < np.radians(65.0)
    assert chosen <= max(min(middle.values()), np.radians(30.0)) + np.radians(5.1)


def test_the_best_order_depends_on_the_motion() -> None:
    chosen = set()
    for axis in np.eye(3):
        swing = np.linspace(-1.4, 1.4, 30)[:, None] * axis
        order = choose_order(Rotation.from_rotvec(swing).as_matrix())
        assert np.eye(3)["XYZ".index(order[1])] @ axis == 0.0
        chosen.add(order)
    assert len(chosen) > 1
    assert choose_order(np.zeros((0, 3, 3)), HEADING_ORDERS) == HEADING_ORDERS[0]


def test_a_whole_turn_goes_on_counting() -> None:
    heading = np.linspace(0.0, 6 * np.pi, 200)
    turns = Rotation.from_rotvec(heading[:, None] * [0, 1, 0]).as_matrix()
    angles = euler_angles(turns[:, None], "YZX")[:, 0]
    np.testing.assert_allclose(angles[:, 0], heading, atol=1e-9)


# ---- retargeting ----


@pytest.mark.parametrize("kind", KINDS)
def test_retargeting_recognises_the_bones(kind: BodyKind) -> None:
    parts = body_parts([bone_name(joint) for joint in BODY_JOINTS[kind]])
    expected = {"neck": "Neck", "head": "Head"}
    words = {
        **{"clavicle": "Collar", "upper_arm": "Shoulder", "forearm": "Elbow", "hand": "Wrist"},
        **{"thigh": "Hip", "shin": "Knee", "foot": "Ankle", "toe": "Foot"},
    }
    if kind != "smpl":
        fingers = [f"{finger}{n}" for finger in ("index", "middle", "pinky", "ring", "thumb")
                   for n in (1, 2, 3)]  # fmt: skip
        words |= {finger: finger.title() for finger in fingers}
    for side in ("left", "right"):
        expected |= {f"{side} {part}": side.title() + bone for part, bone in words.items()}
    assert parts == expected


def test_a_motion_file_moves_the_body_as_it_moves_the_actor(tmp_path: Path) -> None:
    """Arms point the same way; legs nearly, since feet stand as far apart on longer legs."""
    data, _ = import_ash(resource("assets", "actor") / "actor.conf")
    dofs = torch.zeros(12, len(data.skeleton.dof_names), dtype=torch.float64)
    swing = torch.from_numpy(np.sin(np.linspace(0, 3, 12)))
    for name in ("left_hip_x", "right_knee", "left_elbow", "right_shoulder_x"):
        dofs[:, data.skeleton.dof_names.index(name)] = 0.8 * swing
    path = write_actor_bvh(tmp_path / "a.bvh", data.skeleton, dofs)
    skeleton = make_skeleton("smplx", made_joints("smplx"), still("smplx"), np.eye(3))
    motion = read_bvh_motion(path, skeleton, fps=None).motion
    back = poses_of_dofs(skeleton, motion.dofs.numpy())
    _, places = joint_frames(back, rest_joints_of(skeleton))
    index = {name: number for number, name in enumerate(BODY_JOINTS["smplx"])}
    actor = joint_transforms(data.skeleton, dofs).numpy()[:, :, :3, 3]
    groups = [name.split("_")[0] for name in data.skeleton.joint_names]
    limbs = {
        **{("hip", "knee"): ("UpLeg", "Leg"), ("knee", "ankle"): ("Leg", "Foot")},
        **{("shoulder", "elbow"): ("Arm", "ForeArm"), ("elbow", "wrist"): ("ForeArm", "Hand")},
    }
    for side in ("left", "right"):
        for own, others in limbs.items():
            a, b = (places[:, index[f"{side}_{word}"]] for word in own)
            c, d = (actor[:, groups.index(side.title() + word)] for word in others)
            cosine = ((b - a) * (d - c)).sum(1) / np.linalg.norm(b - a, axis=1)
            cosine /= np.linalg.norm(d - c, axis=1)
            most = 3.0 if own[0] in ("shoulder", "elbow") else 25.0
            assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < most, (side, own)
