"""Poses of a body file as dofs of the character made of it, and back.

A character of a body has the bones of BODY_JOINTS, in CamelCase. Three slides move its pelvis;
each bone has three turns about the axes x, y and z, in an order of its own, which the skeleton
holds. With all dofs zero it stands as the body file does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel
from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS, BodyKind, BodyPoses
from ash_core.importers.body.euler import euler_angles, turns_of_angles
from ash_core.importers.body.posing import to_pelvis_rule
from ash_core.importers.retarget.joint_mapping import bone_tree
from ash_core.records import Skeleton

SLIDES: Final = ("tx", "ty", "tz")
_AXIS_TOLERANCE: Final = 1e-4
_FINGER_NUMBERS: Final = 45


def bone_name(joint: str) -> str:
    """Return the bone of a body's joint: LeftHip for left_hip."""
    return "".join(word[:1].upper() + word[1:] for word in joint.split("_"))


def body_kind_of(skeleton: Skeleton) -> BodyKind | None:
    """Find the kind of body that a skeleton was made of; None for any other skeleton."""
    rig = _rig(skeleton)
    return None if rig is None else rig.kind


def rest_joints_of(skeleton: Skeleton) -> Float[ndarray, "J 3"]:
    """Return the joints at rest, m, body frame, in the order of the body's files.

    Raises: InputError, for a skeleton that was not made of a body.
    """
    rig = _rig_of(skeleton)
    places = np.zeros((len(skeleton.joint_names), 3))
    for joint, parent in enumerate(skeleton.parents.tolist()):
        places[joint] = skeleton.offsets[joint].double().numpy()
        if parent >= 0:
            places[joint] += places[parent]
    return places[[joints[0] for joints in rig.joints]]


def dofs_of_poses(
    skeleton: Skeleton,
    poses: BodyPoses,
    rest_joints: Float[ndarray, "J 3"] | None = None,
    T_body_capture: Float[ndarray, "4 4"] | None = None,
) -> Float[ndarray, "F D"]:
    """Convert poses to dofs, m and rad, float64. Angles do not jump; limits are not applied.

    rest_joints: places of the body file's joints at rest, of which the pelvis counts; None: those
    of the skeleton. T_body_capture: rigid transform to the body frame. Poses of another kind of
    body move the joints that both have. Raises: InputError, for a skeleton of no body.
    """
    # Turns of the skeleton's own bones.
    rig = _rig_of(skeleton)
    T = np.eye(4) if T_body_capture is None else np.asarray(T_body_capture, np.float64)
    rest = rest_joints_of(skeleton)
    names, frames = BODY_JOINTS[poses.kind], len(poses.rotations)
    turns = np.tile(np.eye(3), (frames, len(rest), 1, 1))
    for bone, name in enumerate(BODY_JOINTS[rig.kind]):
        if name in names:
            rotations = poses.rotations[:, names.index(name)]
            turns[:, bone] = Rotation.from_rotvec(rotations).as_matrix()
    turns[:, 0] = T[:3, :3] @ turns[:, 0]

    # Place of the pelvis.
    own_rest = rest[:1] / poses.scale if rest_joints is None else rest_joints[:1]
    poses = to_pelvis_rule(poses, own_rest)
    places = own_rest[0] * poses.scale + poses.translations
    dofs = np.zeros((frames, len(skeleton.dof_names)))
    dofs[:, rig.slides] = places @ T[:3, :3].T + T[:3, 3] - rest[0]

    # Angles, all bones of an order at once.
    for order in sorted(set(rig.orders)):
        bones = [bone for bone, own in enumerate(rig.orders) if own == order]
        angles = euler_angles(turns[:, bones], order)
        for n, bone in enumerate(bones):
            dofs[:, rig.dofs[bone]] = angles[:, n]
    return dofs


def poses_of_dofs(
    skeleton: Skeleton,
    dofs: Float[ndarray, "F D"],
    T_body_capture: Float[ndarray, "4 4"] | None = None,
    *,
    betas: Sequence[float] = (),
    frames: Sequence[int] | None = None,
    fps: float | None = None,
    scale: float = 1.0,
) -> BodyPoses:
    """Convert dofs, m and rad, to poses of the rule "pelvis": the inverse of `dofs_of_poses`.

    T_body_capture: rigid transform; None: the poses are in the body frame. betas, scale: of the
    body that the character was made of; they change nothing. frames: numbers; None: from 0.
    Raises: InputError, for a skeleton that was not made of a body.
    """
    rig = _rig_of(skeleton)
    T = np.eye(4) if T_body_capture is None else np.asarray(T_body_capture, np.float64)
    rest = rest_joints_of(skeleton)
    dofs = np.asarray(dofs, np.float64)
    bones = zip(rig.dofs, rig.orders, strict=True)
    turns = np.stack([turns_of_angles(dofs[:, own], order) for own, order in bones], axis=1)
    turns[:, 0] = T[:3, :3].T @ turns[:, 0]
    rotations = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_rotvec()
    places = (dofs[:, rig.slides] + rest[0] - T[:3, 3]) @ T[:3, :3]
    return BodyPoses(
        kind=rig.kind,
        rotations=rotations.reshape(len(dofs), -1, 3),
        translations=places - rest[0],
        root_rule="pelvis",
        betas=np.asarray(betas, np.float64),
        frames=tuple(range(len(dofs)) if frames is None else frames),
        fps=fps,
        scale=scale,
    )


def expand_hands(poses: BodyPoses, model: BodyModel) -> BodyPoses:
    """Return the same poses with the hands' turns of their principal components.

    The mean hand is flat: the file's own mean is not added. Poses without components stay as they
    are. Raises: InputError, for a body file without components.

    Source: loaders of EasyMocap.
    """
    if poses.hand_pca is None:
        return poses
    count = poses.hand_pca.shape[-1]
    components = model.hand_components
    if components is None or components.shape[1] < count or poses.kind == "smpl":
        actual = "none" if components is None else str(components.shape[1])
        text = f"expected {count} components of each hand, which the poses have, got {actual}"
        raise InputError(f"{model.path}: {text}; give the file of SMPL-X or SMPL-H")
    names, rotations = BODY_JOINTS[poses.kind], poses.rotations.copy()
    for side, name in enumerate(("left_index1", "right_index1")):
        first = names.index(name)
        turns = poses.hand_pca[:, side] @ components[side, :count]
        joints = _FINGER_NUMBERS // 3
        rotations[:, first : first + joints] = turns.reshape(len(turns), joints, 3)
    return replace(poses, rotations=rotations, hand_pca=None)


@dataclass(frozen=True)
class _Rig:
    """Joints and dofs of a body's character, by bone."""

    kind: BodyKind
    joints: tuple[tuple[int, ...], ...]
    orders: tuple[str, ...]
    dofs: tuple[tuple[int, ...], ...]
    """The three dofs of a bone's turns, in the order of its axes."""
    slides: tuple[int, ...]
    """The root's dofs along x, y, z."""


def _rig_of(skeleton: Skeleton) -> _Rig:
    rig = _rig(skeleton)
    if rig is None:
        kinds = ", ".join(BODY_JOINTS)
        text = f"expected a skeleton made of a body file ({kinds})"
        raise InputError(f"skeleton: {text}, got one with {len(skeleton.joint_names)} joints")
    return rig


def _rig(skeleton: Skeleton) -> _Rig | None:
    """Read the bones of a body's skeleton; None for any other."""
    # Bones: names and tree.
    tree = bone_tree(skeleton)
    bones: dict[BodyKind, tuple[str, ...]] = {
        kind: tuple(map(bone_name, names)) for kind, names in BODY_JOINTS.items()
    }
    kinds: list[BodyKind] = [k for k in bones if set(bones[k]) == set(tree.names)]
    if not kinds:
        return None
    kind = kinds[0]
    above = [tree.names[parent] if parent >= 0 else "" for parent in tree.parents]
    parents = dict(zip(tree.names, above, strict=True))
    for name, parent in zip(bones[kind], BODY_PARENTS[kind], strict=True):
        if parents[name] != (bones[kind][parent] if parent >= 0 else ""):
            return None

    # Joints: one dof each, about or along one axis.
    groups = [name.split("_")[0] for name in skeleton.joint_names]
    joints = tuple(tuple(j for j, g in enumerate(groups) if g == name) for name in bones[kind])
    matrix = skeleton.dof_matrix.double().numpy()
    dofs = np.abs(matrix).argmax(1)
    unit = np.zeros_like(matrix)
    unit[np.arange(len(dofs)), dofs] = 1.0
    axes = skeleton.axes.double().numpy()
    axis = axes.argmax(1)
    if np.abs(matrix - unit).max() > _AXIS_TOLERANCE or len(set(dofs.tolist())) < len(dofs):
        return None
    if np.abs(axes - np.eye(3)[axis]).max() > _AXIS_TOLERANCE:
        return None

    # Slides of the root, three turns of each bone.
    slides = tuple(j for j in joints[0] if skeleton.is_prismatic[j])
    if [int(axis[j]) for j in slides] != [0, 1, 2] or slides != joints[0][:3]:
        return None
    turning = [own[3:] if bone == 0 else own for bone, own in enumerate(joints)]
    orders = tuple("".join("XYZ"[axis[j]] for j in own) for own in turning)
    if any(len(own) != 3 or sorted(order) != ["X", "Y", "Z"]
           for own, order in zip(turning, orders, strict=True)):  # fmt: skip
        return None
    if any(bool(skeleton.is_prismatic[j]) for own in turning for j in own):
        return None
    return _Rig(
        kind=kind,
        joints=joints,
        orders=orders,
        dofs=tuple(tuple(int(dofs[j]) for j in own) for own in turning),
        slides=tuple(int(dofs[j]) for j in slides),
    )
