"""Figure of usual proportions in a T-pose, for poses whose body is not at hand.

Its numbers are our own: bones of the plain actor, laid out straight.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from ash_core.files.body_poses import BODY_JOINTS, BodyKind
from ash_core.files.skeletool import read_skeleton
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.retarget.figures import unit
from ash_core.importers.retarget.joint_names import FINGERS, group_name
from ash_core.resources import resource

PLAIN_NOTE = (
    "no --body: the plain actor's bones in a T-pose stand for the file's body, so that places of "
    "the pelvis may be off by some centimetres"
)
_CENTRE = {
    "pelvis": "Root",
    "spine1": "Spine1",
    "spine2": "Spine3",
    "spine3": "Chest",
    "neck": "Neck1",
    "head": "Head",
}
"""Joints of a body and the actor's bones that begin there."""
_FACE_M = {"jaw": (0.0, -0.01, 0.03), "left_eye": (0.03, 0.07, 0.08)}
"""Places from the head's joint; no bone of the actor is there."""


@cache
def plain_rest(kind: BodyKind) -> Float[ndarray, "J 3"]:
    """Return the joints of a body of usual proportions at rest, m: Y up, facing +Z, pelvis at 0."""
    actor = _actor_places()
    x, y = np.eye(3)[0], np.eye(3)[1]

    def length(first: str, last: str) -> float:
        return float(np.linalg.norm(actor[last] - actor[first]))

    # Trunk and head as they are, legs straight down, arms straight to the side.
    places = {joint: actor[bone] for joint, bone in _CENTRE.items()}
    places["left_hip"] = actor["LeftUpLeg"]
    places["left_knee"] = places["left_hip"] - y * length("LeftUpLeg", "LeftLeg")
    places["left_ankle"] = places["left_knee"] - y * length("LeftLeg", "LeftFoot")
    places["left_foot"] = places["left_ankle"] + actor["LeftToe"] - actor["LeftFoot"]
    places["left_collar"], places["left_shoulder"] = actor["LeftShoulder"], actor["LeftArm"]
    places["left_elbow"] = places["left_shoulder"] + x * length("LeftArm", "LeftForeArm")
    places["left_wrist"] = places["left_elbow"] + x * length("LeftForeArm", "LeftHand")
    places["left_hand"] = places["left_wrist"] + x * length("LeftHand", "LeftMiddle1")
    places |= {joint: places["head"] + offset for joint, offset in _FACE_M.items()}
    # The hand's bones with the palm down; fingers straight, the thumb along its first bone.
    R_flat_hand = _flat_hand(actor)
    for finger in FINGERS:
        bones = [f"Left{finger.capitalize()}{n}" for n in (1, 2, 3)]
        base = places["left_wrist"] + R_flat_hand @ (actor[bones[0]] - actor["LeftHand"])
        thumb = unit(R_flat_hand @ (actor["LeftThumb2"] - actor["LeftThumb1"]))
        along = thumb if finger == "thumb" else x
        reach = [0.0, length(bones[0], bones[1])]
        reach.append(reach[1] + length(bones[1], bones[2]))
        places |= {f"left_{finger}{n + 1}": base + reach[n] * along for n in range(3)}
    # The right side mirrors the left one.
    for joint in [joint for joint in places if joint.startswith("left_")]:
        places[joint.replace("left", "right", 1)] = places[joint] * [-1, 1, 1]
    return np.stack([places[joint] for joint in BODY_JOINTS[kind]])


def _actor_places() -> dict[str, Float[ndarray, "3"]]:
    """Return the places of the plain actor's bones at rest, m, from its root."""
    skeleton = read_skeleton(resource("assets", "actor/actor.skeleton"))
    zero = torch.zeros(len(skeleton.dof_names), dtype=torch.float64)
    rest = joint_transforms(skeleton, zero)[:, :3, 3].numpy()
    places: dict[str, Float[ndarray, "3"]] = {}
    for joint, name in enumerate(skeleton.joint_names):
        places.setdefault(group_name(name), rest[joint] - rest[0])
    return places


def _flat_hand(actor: dict[str, Float[ndarray, "3"]]) -> Float[ndarray, "3 3"]:
    """Return the turn of the actor's left hand to fingers along +X, thumb along +Z."""
    knuckles = [actor[f"Left{finger}1"] for finger in ("Index", "Middle", "Ring", "Pinky")]
    along = unit(np.mean(knuckles, axis=0) - actor["LeftHand"])
    across = knuckles[0] - knuckles[3]
    across = unit(across - along * (along @ across))
    R_hand = np.stack([along, across, np.cross(along, across)], 1)
    R_flat = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return R_flat @ R_hand.T
