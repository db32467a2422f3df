"""Motions that are made up: any dofs of the plain actor, and figures of sticks, as .bvh files."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.retarget.joint_mapping import bone_tree
from ash_core.importers.retarget.joint_names import group_name
from ash_core.records import Skeleton

ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
CM = 100.0
LIMB_DEGREES = 57.0
"""Largest of the root's random turns; those of other dofs are their limits'."""


def write_bvh(
    path: Path,
    names: Sequence[str],
    parents: Sequence[int],
    offsets: np.ndarray,
    root: np.ndarray,
    turns: np.ndarray,
    order: str = "ZXY",
    fps: float = 25.0,
    tips: Mapping[str, np.ndarray] = {},
) -> Path:
    """Write joints [J] with offsets [J, 3], root places [F, 3] and local turns [F, J, 3, 3]."""
    lines = ["HIERARCHY"]
    channels = " ".join(f"{letter}rotation" for letter in order)
    children = [[c for c, p in enumerate(parents) if p == j] for j in range(len(names))]
    listed: list[int] = []

    def joint(j: int, indent: str) -> None:
        listed.append(j)
        lines.append(f"{indent}{'JOINT' if parents[j] >= 0 else 'ROOT'} {names[j]}")
        x, y, z = offsets[j]
        lines.append(f"{indent}{{\n{indent} OFFSET {x:.6f} {y:.6f} {z:.6f}")
        slides = "" if parents[j] >= 0 else "Xposition Yposition Zposition "
        lines.append(f"{indent} CHANNELS {3 if parents[j] >= 0 else 6} {slides}{channels}")
        for child in children[j]:
            joint(child, indent + " ")
        if names[j] in tips or not children[j]:
            x, y, z = tips.get(names[j], np.zeros(3))
            lines.append(
                f"{indent} End Site\n{indent} {{\n{indent}  OFFSET {x} {y} {z}\n{indent} }}"
            )
        lines.append(f"{indent}}}")

    joint(0, "")
    lines.append(f"MOTION\nFrames: {len(turns)}\nFrame Time: {1.0 / fps:.8f}")
    flat = Rotation.from_matrix(turns[:, listed].reshape(-1, 3, 3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")  # any of the ways says the same
        flat = flat.as_euler(order, degrees=True)
    values = np.hstack([root, flat.reshape(len(turns), -1)])
    lines += [" ".join(f"{value:.5f}" for value in row) for row in values]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_actor_bvh(
    path: Path,
    skeleton: Skeleton,
    dofs: torch.Tensor,
    order: str = "ZXY",
    fps: float = 25.0,
    scales: np.ndarray | float = 1.0,
    R_file_body: np.ndarray | None = None,
) -> Path:
    """Write a motion of the plain actor with bones `scales` times as long, axes turned if given."""
    tree = bone_tree(skeleton)
    groups = [group_name(name) for name in skeleton.joint_names]
    bones = [name for name in tree.names if not name.endswith("Roll")]
    first = {bone: groups.index(bone) for bone in bones}
    last = {bone: len(groups) - 1 - groups[::-1].index(bone) for bone in bones}
    last |= {bone: groups.index(f"{bone}Roll") for bone in bones if f"{bone}Roll" in groups}
    parents = []
    for bone in bones:
        above = tree.parents[tree.names.index(bone)]
        name = tree.names[above].removesuffix("Roll") if above >= 0 else ""
        parents.append(bones.index(name) if above >= 0 else -1)
    rest = joint_transforms(skeleton, torch.zeros(len(skeleton.dof_names)).double())[:, :3, 3]
    places = CM * rest[[first[bone] for bone in bones]].numpy()
    offsets = np.array(
        [
            places[j] - places[parents[j]] if parents[j] >= 0 else np.zeros(3)
            for j in range(len(bones))
        ]
    )
    T = joint_transforms(skeleton, dofs.double())
    world = T[:, [last[bone] for bone in bones], :3, :3].numpy()
    root = (
        CM * T[:, first[bones[0]], :3, 3].numpy() + CM * (T[:, 2, :3, 3] - T[:, 0, :3, 3]).numpy()
    )
    R = np.eye(3) if R_file_body is None else R_file_body
    local = np.stack(
        [
            world[:, j] if parents[j] < 0 else world[:, parents[j]].transpose(0, 2, 1) @ world[:, j]
            for j in range(len(bones))
        ],
        axis=1,
    )
    offsets = offsets * (scales[:, None] if isinstance(scales, np.ndarray) else scales)
    return write_bvh(path, bones, parents, offsets @ R.T, root @ R.T, R @ local @ R.T, order, fps)


def random_swings(
    skeleton: Skeleton, rng: np.random.Generator, frames: int, longest: int = 12
) -> torch.Tensor:
    """[F, D] dofs from one random pose within the limits to the next in 1 to `longest` frames."""
    low, high = skeleton.dof_limits.double().numpy().T
    room = np.radians(LIMB_DEGREES)
    low, high = np.maximum(low, -room - (low > -9) * 9), np.minimum(high, room + (high < 9) * 9)
    dofs = np.zeros((frames, len(low)))
    frame, pose = 0, np.zeros(len(low))
    while frame < frames:
        target = low + (high - low) * rng.uniform(0.03, 0.97, len(low))
        target[:3] = rng.uniform(-0.2, 0.2, 3)
        length = int(rng.integers(1, longest + 1))
        share = (np.arange(length) + 1)[:, None] / length
        part = (pose + (target - pose) * share)[: frames - frame]
        dofs[frame : frame + len(part)] = part
        frame, pose = frame + len(part), target
    return torch.from_numpy(dofs)


# ---- a figure of sticks, T-pose at zero, cm, Y up, facing +Z ----

STICKS: Mapping[str, tuple[str, tuple[float, float, float]]] = {
    "Hips": ("", (0, 0, 0)),
    "Spine": ("Hips", (0, 12, 0)),
    "Chest": ("Spine", (0, 18, 0)),
    "Neck": ("Chest", (0, 22, 0)),
    "Head": ("Neck", (0, 10, 0)),
} | {
    f"{side}{name}": (parent.replace("*", side), (sign * x, y, z))
    for side, sign in (("Left", 1), ("Right", -1))
    for name, parent, (x, y, z) in (
        ("Shoulder", "Chest", (4, 18, 0)),
        ("Arm", "*Shoulder", (14, 0, 0)),
        ("ForeArm", "*Arm", (28, 0, 0)),
        ("Hand", "*ForeArm", (25, 0, 0)),
        ("UpLeg", "Hips", (9, -4, 0)),
        ("Leg", "*UpLeg", (0, -42, 0)),
        ("Foot", "*Leg", (0, -41, 0)),
        ("ToeBase", "*Foot", (0, -6, 13)),
    )
}
HIP_CM = 93.0
"""Height of the sticks' root when they stand on y = 0."""
STICK_TIPS = {"Head": np.array([0.0, 18.0, 0.0])} | {
    f"{side}ToeBase": np.array([0.0, 0.0, 7.0]) for side in ("Left", "Right")
}


def write_sticks(
    path: Path,
    root: np.ndarray,
    turns: Mapping[str, np.ndarray],
    fps: float = 25.0,
    order: str = "ZXY",
    R_file_body: np.ndarray | None = None,
    rest: Mapping[str, np.ndarray] = {},
) -> Path:
    """Write root places [F, 3] cm and local turns [F, 3, 3] of some joints; the others stay.

    rest: turns [3, 3] of joints, under which the file's zero pose differs from the T-pose; the
    motion is the same.
    """
    names = list(STICKS)
    parents = [names.index(parent) if parent else -1 for parent, _ in STICKS.values()]
    frames = len(root)
    world = np.zeros((frames, len(names), 3, 3))
    bend = np.tile(np.eye(3), (len(names), 1, 1))
    for j, name in enumerate(names):
        own = np.broadcast_to(turns.get(name, np.eye(3)), (frames, 3, 3))
        world[:, j] = own if parents[j] < 0 else world[:, parents[j]] @ own
        above = np.eye(3) if parents[j] < 0 else bend[parents[j]]
        bend[j] = above @ rest.get(name, np.eye(3))
    # The file's joints turn on from its own zero pose: R_file = R_world bend^T.
    world = world @ bend.transpose(0, 2, 1)
    local = world.copy()
    offsets = np.array([offset for _, offset in STICKS.values()], float)
    for j, parent in enumerate(parents):
        if parent >= 0:
            local[:, j] = world[:, parent].transpose(0, 2, 1) @ world[:, j]
            offsets[j] = bend[parent] @ offsets[j]
    R = np.eye(3) if R_file_body is None else R_file_body
    tips = {name: R @ bend[names.index(name)] @ tip for name, tip in STICK_TIPS.items()}
    return write_bvh(
        path, names, parents, offsets @ R.T, root @ R.T, R @ local @ R.T, order, fps, tips
    )


def eased(points: Sequence[float], frames: int) -> np.ndarray:
    """[F] values that go smoothly through evenly spaced points."""
    at = np.linspace(0.0, len(points) - 1.0, frames)
    low = np.minimum(at.astype(int), len(points) - 2)
    share = at - low
    share = share * share * (3.0 - 2.0 * share)
    values = np.asarray(points, float)
    return values[low] * (1.0 - share) + values[low + 1] * share


def about(axis: str, degrees: np.ndarray | float) -> np.ndarray:
    """[F, 3, 3] or [3, 3] turns about an axis."""
    unit = np.eye(3)["xyz".index(axis)]
    return Rotation.from_rotvec(np.radians(degrees)[..., None] * unit).as_matrix()


STANCE = 0.6
"""Share of a cycle of two steps in which a walker's foot is planted."""
ANKLE_CM, LIFT_CM, BOB_CM = 6.0, 10.0, 6.0
"""Height of a planted ankle, its rise in a step, and the drop of the hips from straight legs."""


def walk(
    stride_cm: float, cycle_s: float, seconds: float, fps: float
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Make a walk of the sticks along +Z whose feet are planted flat, exactly, between steps.

    stride_cm: way of a foot in one step, at most 100: legs reach no farther. The body goes as far
    in a cycle of two steps.
    Returns root places [F, 3] cm, turns [F, 3, 3] by joint, and the stance [F] of each side: number
    of the stretch in which its foot is planted, -1 in a step.
    """
    frames = int(seconds * fps)
    cycles = np.arange(frames) / (fps * cycle_s)
    root = np.zeros((frames, 3))
    root[:, 1], root[:, 2] = HIP_CM - BOB_CM, stride_cm * cycles
    thigh_cm, shin_cm = -STICKS["LeftLeg"][1][1], -STICKS["LeftFoot"][1][1]
    turns, stances = {}, {}
    for side, phase in (("Left", 0.0), ("Right", 0.5)):
        # Ankle: planted under the hips in mid-stance, then carried on to the next place.
        count = np.floor(cycles + phase)
        share = cycles + phase - count
        step = np.clip((share - STANCE) / (1.0 - STANCE), 0.0, 1.0)
        ahead = (count - phase + STANCE / 2 + step**2 * (3.0 - 2.0 * step)) * stride_cm
        height = ANKLE_CM + LIFT_CM * np.sin(np.pi * step) ** 2
        # Leg: angles of thigh and shin, forward from straight down, that reach the ankle.
        dz, dy = ahead - root[:, 2], root[:, 1] + STICKS["LeftUpLeg"][1][1] - height
        length, angle = np.hypot(dz, dy), np.arctan2(dz, dy)
        cosine = (thigh_cm**2 + length**2 - shin_cm**2) / (2.0 * thigh_cm * length)
        thigh = angle + np.arccos(np.clip(cosine, -1.0, 1.0))
        knee = np.stack([thigh_cm * np.sin(thigh), thigh_cm * np.cos(thigh)], 1)
        shin = np.arctan2(dz - knee[:, 0], dy - knee[:, 1])
        thigh, shin = np.degrees(thigh), np.degrees(shin)
        turns[f"{side}UpLeg"], turns[f"{side}Leg"] = about("x", -thigh), about("x", thigh - shin)
        turns[f"{side}Foot"] = about("x", shin)
        stances[side] = np.where(share < STANCE, count, -1.0)
    return root, turns, stances


MOST_DEGREES: Mapping[str, float] = {
    "Hips": 180, "Spine": 20, "Chest": 20, "Neck": 25, "Head": 25, "Shoulder": 15, "Arm": 150,
    "Hand": 50, "UpLeg": 60, "Foot": 25,
}  # fmt: skip
"""Largest turn of each joint about any axis: arms go where no shoulder does."""


def random_stick_turns(
    rng: np.random.Generator, frames: int, longest: int
) -> dict[str, np.ndarray]:
    """Make turns [F, 3, 3] of the sticks' joints from one random pose to the next, past limits."""
    keys = [0]
    while keys[-1] < frames:
        keys.append(keys[-1] + int(rng.integers(1, longest + 1)))
    count, turns = len(keys), {}
    for name in STICKS:
        part, sign = name.replace("Left", "").replace("Right", ""), 1 - 2 * name.startswith("Left")
        if part == "ForeArm":
            rotations = Rotation.from_euler("y", sign * rng.uniform(0, 140, (count, 1)), True)
        elif part == "Leg":
            rotations = Rotation.from_euler("x", rng.uniform(0, 130, (count, 1)), True)
        elif part in MOST_DEGREES:
            axes = rng.normal(size=(count, 3))
            axes /= np.linalg.norm(axes, axis=1, keepdims=True)
            degrees = MOST_DEGREES[part] * rng.uniform(0, 1, (count, 1)) ** 0.5
            rotations = Rotation.from_rotvec(np.radians(degrees) * axes)
        else:
            continue
        turns[name] = Slerp(keys, rotations)(np.arange(frames)).as_matrix()
    return turns
