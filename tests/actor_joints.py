"""The studio actors' skeleton in the joints of SMPL-X: rest joints, and poses of a motion.

An actor has more bones than SMPL-X: several map to one joint. The first of them places the joint,
the last one turns it. At rest every orientation is the identity, in the actor's own rest pose.
"""

from typing import Final

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS, BodyPoses
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import Skeleton

NAMES: Final = BODY_JOINTS["smplx"]
PARENTS: Final = BODY_PARENTS["smplx"]


def _map() -> dict[str, str]:
    """Map the actor's bones to SMPL-X joints, from the root outwards."""
    out = {
        "Root": "pelvis", "Spine1": "spine1", "Spine2": "spine2", "Spine3": "spine2",
        "Chest": "spine3", "Neck1": "neck", "Neck2": "neck", "Head": "head", "Jaw": "jaw",
    }  # fmt: skip
    for side, low in (("Left", "left"), ("Right", "right")):
        bones = {
            "Shoulder": "collar", "Arm": "shoulder", "ArmRoll": "shoulder", "ForeArm": "elbow",
            "ForeArmRoll": "elbow", "Hand": "wrist", "UpLeg": "hip", "UpLegRoll": "hip",
            "Leg": "knee", "Foot": "ankle", "Toe": "foot", "Eye": "eye",
        }  # fmt: skip
        for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky"):
            bones |= {f"{finger}{i}": f"{finger.lower()}{i}" for i in (1, 2, 3)}
        out |= {f"{side}{bone}": f"{low}_{joint}" for bone, joint in bones.items()}
    return out


SMPLX_OF_ACTOR: Final = _map()
"""SMPL-X joint by bone of the actor; the lids have none, and belong to the head."""
ON_HEAD: Final = {
    "jaw": (0.0, 0.005, 0.020),
    "left_eye": (0.032, 0.065, 0.080),
    "right_eye": (-0.032, 0.065, 0.080),
}
"""Places from the head's joint, m, on an actor without such bones. They turn with the head."""


def actor_frames(skeleton: Skeleton, dofs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the orientation [F, 55, 3, 3] and the place [F, 55, 3] of each joint, body frame, m.

    Places are the actor's own: bones that share a joint may bend between it and its child.
    """
    stems = [name.split("_")[0] for name in skeleton.joint_names]
    T = joint_transforms(skeleton, torch.as_tensor(dofs, dtype=torch.float64)).numpy()
    turns = np.tile(np.eye(3), (len(T), len(NAMES), 1, 1))
    places = np.zeros((len(T), len(NAMES), 3))
    present = {bone: name for bone, name in SMPLX_OF_ACTOR.items() if bone in stems}
    for bone, name in reversed(present.items()):
        joint = NAMES.index(name)
        last = max(i for i, stem in enumerate(stems) if stem == bone)
        places[:, joint] = T[:, last, :3, 3]
    for bone, name in present.items():
        last = max(i for i, stem in enumerate(stems) if stem == bone)
        turns[:, NAMES.index(name)] = T[:, last, :3, :3]
    head = NAMES.index("head")
    for name, offset in ON_HEAD.items():
        if name in present.values():
            continue
        turns[:, NAMES.index(name)] = turns[:, head]
        places[:, NAMES.index(name)] = places[:, head] + turns[:, head] @ np.array(offset)
    return turns, places


def actor_rest_joints(skeleton: Skeleton) -> np.ndarray:
    """Return the joints [55, 3] of the actor's rest pose, body frame, m."""
    return actor_frames(skeleton, np.zeros((1, len(skeleton.dof_names))))[1][0]


def poses_of_actor(
    skeleton: Skeleton, dofs: np.ndarray, rest_joints: np.ndarray | None = None, fps: float = 25.0
) -> BodyPoses:
    """Return a motion of the actor as SMPL-X poses; world axes of the body frame, pelvis rule.

    A joint of two bones is swung so that its child lies where the actor has it. rest_joints
    [55, 3]: those of the body that is posed; None: the actor's own.
    """
    own = actor_rest_joints(skeleton)
    rest = own if rest_joints is None else rest_joints
    turns, places = actor_frames(skeleton, dofs)
    bones = list(SMPLX_OF_ACTOR.values())
    here = np.empty_like(places)
    for joint, parent in enumerate(PARENTS):
        # Place the joint by the turns before it, as a reader of the poses will.
        if parent < 0:
            here[:, joint] = places[:, joint]
        else:
            here[:, joint] = here[:, parent] + turns[:, parent] @ (own[joint] - own[parent])
        if bones.count(NAMES[joint]) < 2:
            continue
        # Swing it from where its child would be to where the child is.
        child = PARENTS.index(joint)
        guess = _unit(turns[:, joint] @ (own[child] - own[joint]))
        aim = _unit(places[:, child] - here[:, joint])
        axis = np.cross(guess, aim)
        sine = np.linalg.norm(axis, axis=1, keepdims=True)
        angle = np.arctan2(sine, (guess * aim).sum(1, keepdims=True))
        swing = Rotation.from_rotvec(axis * (angle / np.maximum(sine, 1e-12)))
        turns[:, joint] = swing.as_matrix() @ turns[:, joint]
    local = turns.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            local[:, joint] = np.swapaxes(turns[:, parent], 1, 2) @ turns[:, joint]
    count = len(turns)
    vectors = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec()
    return BodyPoses(
        kind="smplx",
        rotations=vectors.reshape(count, len(NAMES), 3),
        translations=places[:, 0] - rest[0],
        root_rule="pelvis",
        betas=np.zeros(10),
        frames=tuple(range(count)),
        fps=fps,
    )


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
