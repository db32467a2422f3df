"""Places and orientations of a body's joints, by the rules of its files."""

from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.files.body_poses import BODY_PARENTS, BodyPoses

FEET: Final = (10, 11)
"""Joints of the feet, at the toes' base, of all kinds of bodies."""
LOWEST: Final = 0.02
"""Share of the feet's places that may lie under the floor: fits are noisy."""


def floor_height(feet: Float[ndarray, "*n"], sole_m: float) -> float:
    """Return the height of the floor under the lowest feet, m.

    feet: heights of their joints. sole_m: height of these over the floor where the feet stand flat.
    """
    return float(np.quantile(feet, LOWEST)) - sole_m


def to_pelvis_rule(poses: BodyPoses, rest_joints: Float[ndarray, "J 3"]) -> BodyPoses:
    """Return the same poses with translations of the rule "pelvis".

    Source: docs of EasyMocap; transl = Th + R(Rh) J0 - J0, J0 the rest pelvis.
    """
    if poses.root_rule == "pelvis":
        return poses
    pelvis = rest_joints[0] * poses.scale
    turned = Rotation.from_rotvec(poses.rotations[:, 0]).apply(pelvis)
    return replace(poses, translations=poses.translations + turned - pelvis, root_rule="pelvis")


def joint_frames(
    poses: BodyPoses, rest_joints: Float[ndarray, "J 3"]
) -> tuple[Float[ndarray, "F J 3 3"], Float[ndarray, "F J 3"]]:
    """Compute R_world_joint and the places of all joints, m, in the capture's world.

    rest_joints: places in the rest pose, where every orientation is the identity.
    """
    poses = to_pelvis_rule(poses, rest_joints)
    rest = rest_joints * poses.scale
    frames, joints = poses.rotations.shape[:2]
    own = Rotation.from_rotvec(poses.rotations.reshape(-1, 3)).as_matrix()
    own = own.reshape(frames, joints, 3, 3)
    turns, places = np.empty_like(own), np.empty((frames, joints, 3))
    for joint, parent in enumerate(BODY_PARENTS[poses.kind]):
        if parent < 0:
            turns[:, joint] = own[:, joint]
            places[:, joint] = rest[joint] + poses.translations
        else:
            turns[:, joint] = turns[:, parent] @ own[:, joint]
            arm = turns[:, parent] @ (rest[joint] - rest[parent])
            places[:, joint] = places[:, parent] + arm
    return turns, places
