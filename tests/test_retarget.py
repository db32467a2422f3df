"""Retargeting, frame by frame: fast turns, which way is up, feet on the floor."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from made_motions import (
    HIP_CM,
    ORDERS,
    STICK_TIPS,
    STICKS,
    about,
    eased,
    random_stick_turns,
    random_swings,
    write_actor_bvh,
    write_bvh,
    write_sticks,
)
from scipy.spatial.transform import Rotation

from ash_core.errors import InputError
from ash_core.files.bvh import read_bvh
from ash_core.files.skeletool import read_skeleton
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.retarget.joint_mapping import Tree
from ash_core.importers.retarget.pose_solver import Turn
from ash_core.importers.retarget.quality import Quality, Worst, measure
from ash_core.importers.retarget.retarget import Retargeted, read_bvh_motion
from ash_core.importers.retarget.slow_turns import LONGEST, REACH, cut_windows
from ash_core.importers.retarget.up_axis import find_up_axis
from ash_core.records import Skeleton
from ash_core.resources import resource

Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""R_file_body of files whose vertical is z."""


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return read_skeleton(resource("assets", "actor/actor.skeleton"))


def places(found: Retargeted, skeleton: Skeleton, joint: str) -> np.ndarray:
    """[F, 3] m of a joint of the result."""
    index = skeleton.joint_names.index(joint)
    return joint_transforms(skeleton, found.motion.dofs)[:, index, :3, 3].numpy()


def standing(frames: int) -> np.ndarray:
    return np.tile([0.0, HIP_CM, 0.0], (frames, 1))


# ---- every frame by itself ----


@pytest.mark.parametrize("seed", range(6))
def test_random_swings_within_limits_are_followed(
    tmp_path: Path, skeleton: Skeleton, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dofs = random_swings(skeleton, rng, 60, longest=(1, 2, 4, 6, 9, 12)[seed])
    fps = (24.0, 25.0, 30.0, 50.0, 60.0, 120.0)[seed]
    path = write_actor_bvh(tmp_path / "a.bvh", skeleton, dofs, ORDERS[seed], fps)
    for rate in (None, 25.0):
        found = read_bvh_motion(path, skeleton, fps=rate)
        assert found.quality.errors[0].degrees < 15.0
        assert found.quality.turns[0].degrees < 10.0


@pytest.mark.parametrize("seed", [3, 8, 9])
def test_turns_are_bounded_where_limits_make_poses_jump(
    tmp_path: Path, skeleton: Skeleton, seed: int
) -> None:
    """Frames solved each by itself jump by 42 to 51 degrees beyond the source in these motions."""
    rng = np.random.default_rng(seed)
    turns = random_stick_turns(rng, 60, int(rng.integers(1, 13)))
    path = write_sticks(tmp_path / "a.bvh", standing(60), turns, order=ORDERS[seed % 6])
    quality = read_bvh_motion(path, skeleton, fps=None).quality
    assert quality.turns[0].degrees <= 15.0
    assert quality.is_good


def test_windows_of_fast_turns_are_short_and_apart() -> None:
    excess = np.full(3 * LONGEST, -1.0)
    excess[0], excess[100:-50:9] = 0.1, 0.1
    windows = cut_windows(excess)
    assert windows[0] == slice(0, REACH + 1)
    assert windows[-1].stop == 712 + REACH + 1
    assert all(0 < window.stop - window.start <= LONGEST for window in windows)
    assert all(a.stop < b.start for a, b in pairwise(windows))
    inside = np.concatenate([np.arange(len(excess))[window] for window in windows])
    assert set(np.flatnonzero(excess > 0.0)) <= set(inside)
    assert cut_windows(np.full(9, -1.0)) == []


@pytest.mark.parametrize("swing", [3, 6, 25])
def test_a_fast_arm_ends_where_a_slow_one_does(
    tmp_path: Path, skeleton: Skeleton, swing: int
) -> None:
    """The arm goes from hanging to far across and back: solved from a frame before it got stuck."""
    share = eased([0.0, 0.0, 1.0, 1.0], 3 * swing)
    arm = about("z", 75.0 - 60.0 * share) @ about("y", 115.0 * share) @ about("x", 70.0 * share)
    bend = about("y", 95.0 * share)
    path = write_sticks(
        tmp_path / "a.bvh", standing(3 * swing), {"RightArm": arm, "RightForeArm": bend}
    )
    found = read_bvh_motion(path, skeleton)
    assert found.quality.errors[0].degrees < 20.0
    assert found.quality.turns[0].degrees < 10.0
    slow = read_bvh_motion(
        write_sticks(
            tmp_path / "b.bvh", standing(1), {"RightArm": arm[-1:], "RightForeArm": bend[-1:]}
        ),
        skeleton,
    )
    torch.testing.assert_close(
        found.motion.dofs[-1, 6:], slow.motion.dofs[-1, 6:], atol=0.15, rtol=0.0
    )


def test_no_frame_depends_on_an_earlier_glitch(tmp_path: Path, skeleton: Skeleton) -> None:
    turns = np.tile(about("z", 60.0), (40, 1, 1))
    clean = write_sticks(tmp_path / "a.bvh", standing(40), {"RightArm": turns})
    glitch = turns.copy()
    glitch[10] = about("y", 170.0) @ about("x", 120.0)
    torn = write_sticks(tmp_path / "b.bvh", standing(40), {"RightArm": glitch})
    a, b = (read_bvh_motion(path, skeleton).motion.dofs for path in (clean, torn))
    torch.testing.assert_close(a[30:], b[30:], atol=1e-3, rtol=0.0)


def test_worst_frames_are_named(tmp_path: Path, skeleton: Skeleton) -> None:
    """A knee that bends forward by 80 degrees in frame 12 is out of reach."""
    knee = np.where(np.arange(25) == 12, -80.0, 0.0)
    path = write_sticks(tmp_path / "a.bvh", standing(25), {"LeftLeg": about("x", knee)})
    worst = read_bvh_motion(path, skeleton).quality.errors[0]
    assert worst.source in ("LeftUpLeg", "LeftLeg")
    assert (worst.frame, worst.at_limit) == (12, True)
    assert 20.0 < worst.degrees < 80.0


@pytest.mark.parametrize(("across", "at_limit"), [(0.0, False), (1.0, True)])
def test_a_hinge_that_cannot_turn_elsewhere_is_the_reason(
    skeleton: Skeleton, across: float, at_limit: bool
) -> None:
    """A thumb's joint has one axis: goals beside it are out of reach within its limits, too."""
    joint = skeleton.joint_names.index("LeftThumb2")
    hinge = skeleton.axes[joint].double().numpy()
    bone = skeleton.offsets[joint + 1].double().numpy()
    bone = bone - (bone @ hinge) * hinge
    bone /= np.linalg.norm(bone)
    axis = across * np.cross(hinge, bone) + (1.0 - across) * hinge
    turn = Rotation.from_rotvec(np.radians(40.0) * axis).as_matrix()
    dofs = torch.zeros(3, len(skeleton.dof_names), dtype=torch.float64)
    rest = joint_transforms(skeleton, dofs)[:, :, :3, :3]
    wanted = rest[:, joint] @ torch.from_numpy(turn)
    above = joint - 1
    goals = {
        "LeftThumb1": Turn(above, rest[:, above], weight=10.0),
        "LeftThumb2": Turn(joint, wanted, torch.from_numpy(bone), twist=0.2),
    }
    worst = measure(skeleton, dofs, goals, dict.fromkeys(goals, "thumb")).errors[0]
    assert worst.degrees == pytest.approx(40.0, abs=0.1)
    assert worst.at_limit is at_limit


def test_a_miss_that_a_limit_causes_is_whole(skeleton: Skeleton) -> None:
    """A jump at a knee's limit is spread over frames in which it is off the limit."""
    joint = skeleton.joint_names.index("LeftLeg")
    knee = int(skeleton.dof_matrix[joint].abs().argmax())
    dofs = torch.zeros(9, len(skeleton.dof_names), dtype=torch.float64)
    dofs[:, knee] = 0.6
    dofs[4, knee] = skeleton.dof_limits[knee, 0]
    wanted = joint_transforms(skeleton, torch.zeros_like(dofs))[:, joint, :3, :3]
    bone = skeleton.offsets[joint + 1].double()
    goal = Turn(joint, wanted, bone / bone.norm())
    for frames, at_limit in ((slice(0, 9), True), (slice(0, 4), False)):
        goals = {"LeftLeg": replace(goal, R_body_joint=wanted[frames])}
        worst = measure(skeleton, dofs[frames], goals, {"LeftLeg": "knee"}).errors[0]
        assert worst.degrees > 30.0
        assert worst.at_limit is at_limit


def test_good_means_within_bounds_but_for_limits() -> None:
    def quality(error: float, at_limit: bool, turn: float) -> Quality:
        error_of_arm, turn_of_leg = (
            Worst("Arm", "arm", 3, error, at_limit),
            Worst("Leg", "leg", 4, turn, False),
        )
        twist = Worst("Arm", "arm", 3, 90.0, False)  # joints may lack it: it does not count
        return Quality((error_of_arm,), (twist,), (turn_of_leg,))

    assert quality(29.0, False, 14.0).is_good
    assert quality(80.0, True, 14.0).is_good
    assert not quality(31.0, False, 14.0).is_good
    assert not quality(1.0, False, 16.0).is_good


def test_a_pelvis_that_other_joints_undo_stands_as_its_thighs_do(
    tmp_path: Path, skeleton: Skeleton
) -> None:
    """Networks write turns of Hips that joints without a length take back."""
    lean = about("z", 10.0 * np.sin(np.arange(12) / 4))
    plain = read_bvh_motion(
        write_sticks(tmp_path / "a.bvh", standing(12), {"Hips": lean}), skeleton
    )
    names, parents = list(STICKS), [parent for parent, _ in STICKS.values()]
    offsets = [offset for _, offset in STICKS.values()]
    turn = about("y", 80.0) @ about("x", 50.0)
    local = {name: np.tile(np.eye(3), (12, 1, 1)) for name in names}
    local["Hips"] = lean @ turn
    for child in ("Spine", "LeftUpLeg", "RightUpLeg"):
        at = names.index(child)
        names.insert(at, f"{child}Null")
        parents.insert(at, "Hips")
        offsets.insert(at, (0, 0, 0))
        parents[at + 1] = f"{child}Null"
        local[f"{child}Null"] = np.tile(turn.T, (12, 1, 1))
    path = write_bvh(
        tmp_path / "b.bvh",
        names,
        [names.index(parent) if parent else -1 for parent in parents],
        np.array(offsets, float),
        standing(12),
        np.stack([local[name] for name in names], 1),
        tips=STICK_TIPS,
    )
    found = read_bvh_motion(path, skeleton)
    assert "Hips does not turn with the thighs: its turns are found from theirs" in found.notes
    for joint in ("LeftLeg", "RightHand_twist", "Head_ry"):
        np.testing.assert_allclose(
            places(found, skeleton, joint), places(plain, skeleton, joint), atol=0.03
        )


# ---- which way is up ----


def crawl(forward: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Hands and knees, along a direction in degrees about the vertical from +Z."""
    travel = np.linspace(0.0, 70.0, 30)
    angle = np.radians(forward)
    root = np.stack([travel * np.sin(angle), np.full(30, 45.0), travel * np.cos(angle)], 1)
    step = eased([-20, 20, -20, 20], 30)
    limbs = {
        "Hips": np.tile(about("y", forward) @ about("x", 85.0), (30, 1, 1)),
        "LeftArm": about("y", -85.0 + step),
        "RightArm": about("y", 85.0 + step),
    }
    for side, sign in (("Left", 1), ("Right", -1)):
        limbs[f"{side}UpLeg"] = about("x", -85.0 + sign * step)
        limbs[f"{side}Leg"] = np.tile(about("x", 90.0), (30, 1, 1))
    return root, limbs


def lying(tilt: float, heading: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    root = np.tile([0.0, 12.0, 0.0], (20, 1))
    hips = about("y", heading) @ about("x", tilt)
    return root, {"Hips": np.tile(hips, (20, 1, 1)), "LeftArm": about("z", eased([0, 40], 20))}


def push_ups(heading: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    dip = eased([0, 1, 0, 1, 0], 40)
    root = np.tile([0.0, 40.0, 0.0], (40, 1)) - np.outer(dip, [0.0, 25.0, 0.0])
    hips = about("y", heading) @ about("x", 78.0 + 10.0 * dip)
    return root, {"Hips": hips, "LeftArm": about("y", -85.0 + 60.0 * dip)}


def handstand() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    root = np.tile([0.0, 130.0, 0.0], (20, 1))
    sway = eased([-4, 4, -4], 20)
    limbs = {"LeftArm": about("z", 80.0 + sway), "RightArm": about("z", -80.0 + sway)}
    return root, {"Hips": about("x", 180.0 + sway), **limbs}


def sitting() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    root = np.tile([0.0, 45.0, 0.0], (20, 1))
    limbs = {f"{side}UpLeg": np.tile(about("x", -85.0), (20, 1, 1)) for side in ("Left", "Right")}
    limbs |= {f"{side}Leg": np.tile(about("x", 85.0), (20, 1, 1)) for side in ("Left", "Right")}
    return root, limbs


def cartwheel(heading: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    turn = np.linspace(0.0, 360.0, 40)
    angle = np.radians(heading)
    travel = np.linspace(0.0, 250.0, 40)
    root = np.stack([travel * np.cos(angle), np.full(40, 95.0), -travel * np.sin(angle)], 1)
    return root, {"Hips": about("y", heading) @ about("z", -turn)}


HEADINGS = (0.0, 90.0, 180.0, 270.0)
POSES = {f"crawl {h:g}": crawl(h) for h in HEADINGS}
POSES |= {f"back {h:g}": lying(-90.0, h) for h in HEADINGS}
POSES |= {f"front {h:g}": lying(90.0, h) for h in HEADINGS}
POSES |= {f"push-ups {h:g}": push_ups(h) for h in HEADINGS}
POSES |= {f"cartwheel {h:g}": cartwheel(h) for h in HEADINGS}
POSES |= {"handstand": handstand(), "sitting": sitting()}


@pytest.mark.parametrize("name", POSES)
def test_up_is_what_the_zero_pose_says(tmp_path: Path, name: str) -> None:
    root, limbs = POSES[name]
    for axis, R in (("y", None), ("z", Z_UP)):
        clip = read_bvh(write_sticks(tmp_path / f"{axis}.bvh", root, limbs, R_file_body=R))
        up = find_up_axis(Tree(clip.names, clip.parents), clip.rest(), clip.poses()[1])
        assert (up.axis, up.reason) == (axis, "the zero pose stands along it")


def test_up_is_where_a_person_stands_all_the_time(tmp_path: Path) -> None:
    """Offsets along y, but the root turned by 90 degrees in all frames, on a floor at z = 0."""
    root = np.tile([0.0, 0.0, HIP_CM], (20, 1))
    path = write_sticks(tmp_path / "a.bvh", root, {"Hips": np.tile(about("x", 90.0), (20, 1, 1))})
    clip = read_bvh(path)
    assert find_up_axis(Tree(clip.names, clip.parents), clip.rest(), clip.poses()[1]).axis == "z"


def test_up_of_unknown_names_is_found_by_their_mapping(tmp_path: Path, skeleton: Skeleton) -> None:
    """Names that say nothing leave it open until a mapping says which joints are legs."""
    path = write_sticks(tmp_path / "a.bvh", standing(3), {}, R_file_body=Z_UP)
    known = read_bvh_motion(path, skeleton)
    assert known.mapping.up == "z"
    joints = {f"X{pair.source}Q": pair.bone for pair in known.mapping.pairs}
    for pair in known.mapping.pairs:
        text = path.read_text()
        path.write_text(re.sub(rf"(ROOT|JOINT) {pair.source}\n", rf"\1 X{pair.source}Q\n", text))
    mapping = tmp_path / "m.json"
    mapping.write_text(json.dumps({"joints": joints}))
    found = read_bvh_motion(path, skeleton, mapping=mapping)
    assert found.mapping.up == "z"
    torch.testing.assert_close(found.motion.dofs, known.motion.dofs)
    joints.pop("XLeftLegQ")
    mapping.write_text(json.dumps({"joints": joints}))
    with pytest.raises(InputError, match=r"expected a joint for LeftLeg \(left shin\), got none"):
        read_bvh_motion(path, skeleton, mapping=mapping)


def test_who_crawls_lies_flat_and_travels(tmp_path: Path, skeleton: Skeleton) -> None:
    found = read_bvh_motion(write_sticks(tmp_path / "a.bvh", *crawl(0.0)), skeleton)
    head, foot = (places(found, skeleton, joint) for joint in ("Head_ry", "LeftFoot_rx"))
    assert np.abs(head - foot)[:, 1].max() < 0.6
    travel = head[-1] - head[0]
    assert abs(travel[2] - 0.7 * 0.75 / 0.83) < 0.12
    assert abs(travel[1]) < 0.05


def test_hands_carry_a_handstand(tmp_path: Path, skeleton: Skeleton) -> None:
    found = read_bvh_motion(write_sticks(tmp_path / "a.bvh", *handstand()), skeleton)
    hand, foot = (places(found, skeleton, joint)[:, 1] for joint in ("LeftHand_rx", "LeftFoot_rx"))
    assert -0.02 < hand.min() < 0.15
    assert foot.min() > 1.2


# ---- feet ----


def squats(frames: int = 50) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Knees bend over planted feet of 42 and 41 cm legs."""
    thigh = np.radians(eased([5, 45, 10, 40, 5], frames))
    shin = np.arcsin(42.0 / 41.0 * np.sin(thigh))
    height = 4.0 + 42.0 * np.cos(thigh) + 41.0 * np.cos(shin) + 6.0
    root = np.stack([np.zeros(frames), height, np.zeros(frames)], 1)
    thigh, shin = np.degrees(thigh), np.degrees(shin)
    limbs = {}
    for side in ("Left", "Right"):
        limbs[f"{side}UpLeg"] = about("x", -thigh)
        limbs[f"{side}Leg"] = about("x", thigh + shin)
        limbs[f"{side}Foot"] = about("x", -shin)
    return root, limbs


def test_planted_feet_stay(tmp_path: Path, skeleton: Skeleton) -> None:
    found = read_bvh_motion(write_sticks(tmp_path / "a.bvh", *squats()), skeleton)
    for side in ("Left", "Right"):
        for joint in (f"{side}Foot_rx", f"{side}Toe"):
            foot = places(found, skeleton, joint)
            assert np.linalg.norm(foot - foot.mean(0), axis=1).max() < 0.01
    assert found.quality.errors[0].degrees < 20.0


def test_a_foot_stays_while_the_other_steps(tmp_path: Path, skeleton: Skeleton) -> None:
    lift = eased([0, 0, 60, 0, 0, 50, 0], 60)
    limbs = {"RightUpLeg": about("x", -lift), "RightLeg": about("x", 1.2 * lift)}
    limbs["Spine"] = about("z", 0.2 * lift)
    found = read_bvh_motion(write_sticks(tmp_path / "a.bvh", standing(60), limbs), skeleton)
    foot = places(found, skeleton, "LeftFoot_rx")
    assert np.linalg.norm(foot - foot.mean(0), axis=1).max() < 0.01
    assert np.ptp(places(found, skeleton, "RightFoot_rx")[:, 1]) > 0.2


def test_height_follows_the_legs_length(tmp_path: Path, skeleton: Skeleton) -> None:
    found = read_bvh_motion(write_sticks(tmp_path / "a.bvh", *squats()), skeleton)
    root, _ = squats()
    hips = places(found, skeleton, "LeftUpLeg_rx")[:, 1]
    leg = np.linalg.norm(skeleton.offsets[58:66].sum(0)[1:].numpy())
    assert abs(np.ptp(hips) - np.ptp(root[:, 1]) * leg / 83.0) < 0.02


@pytest.mark.parametrize(
    "rest",
    [
        {"LeftFoot": about("y", 35.0), "RightFoot": about("y", -35.0)},
        {"LeftFoot": about("x", 35.0), "RightFoot": about("x", 35.0)},
        {"LeftFoot": about("x", -30.0), "RightFoot": about("x", -30.0)},
        {"LeftFoot": about("x", 40.0)},
    ],
    ids=["outward", "down", "up", "one down"],
)
def test_feet_of_other_rest_poses_stand_flat(
    tmp_path: Path, skeleton: Skeleton, rest: dict[str, np.ndarray]
) -> None:
    """The same motion from zero poses whose feet point elsewhere."""
    motion = squats(20)
    plain = read_bvh_motion(write_sticks(tmp_path / "a.bvh", *motion), skeleton)
    other = read_bvh_motion(write_sticks(tmp_path / "b.bvh", *motion, rest=rest), skeleton)
    for side in ("Left", "Right"):
        toes = [
            places(found, skeleton, f"{side}Toe") - places(found, skeleton, f"{side}Foot_rx")
            for found in (plain, other)
        ]
        a, b = (toe / np.linalg.norm(toe, axis=1, keepdims=True) for toe in toes)
        assert np.degrees(np.arccos((a * b).sum(1).clip(-1, 1))).max() < 8.0
