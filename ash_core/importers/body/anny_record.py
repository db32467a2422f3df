"""Result of a fit of anny's body, and the parts that fits to joints and to masks share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.files.body_model import BodyModel
from ash_core.files.body_poses import BodyPoses
from ash_core.importers.body.anny_body import JOINTS
from ash_core.importers.body.posing import joint_frames


@dataclass(frozen=True)
class AnnyFit:
    """anny's body in a capture."""

    model: BodyModel
    poses: BodyPoses
    """Poses of the model's 55 joints, rule "pelvis", scale 1."""
    phenotypes: Mapping[str, float]
    scale: float
    proportions_loss_m: float | None
    """Median distance of the joints by anny's proportions alone, before limbs are stretched; None
    without joints."""
    overlap: float | None
    """Mean IoU of the silhouettes; None without views."""
    notes: tuple[str, ...]
    """Texts on the fit and on losses, in centimetres."""


def root_turns(poses: BodyPoses, turns: Float[ndarray, "F 55 3 3"]) -> Float[ndarray, "F 3 3"]:
    """Return what turns the rest pelvis in the world: the root's rotation by the rule "origin"."""
    return turns[:, 0] if poses.root_rule == "origin" else np.tile(np.eye(3), (len(turns), 1, 1))


def joint_turns(poses: BodyPoses) -> Float[ndarray, "F 55 3 3"]:
    """Return R_world_joint."""
    return joint_frames(replace(poses, root_rule="pelvis"), np.zeros((len(JOINTS), 3)))[0]


def shape_text(phenotypes: Mapping[str, float]) -> str:
    """Write the names and values of phenotypes."""
    return ", ".join(f"{name} {value:.2f}" for name, value in phenotypes.items())


def retarget(poses: BodyPoses, pelvis: Float[ndarray, "3"], model: BodyModel) -> BodyPoses:
    """Return the poses of the model. pelvis: the rest pelvis of the capture's own body, m."""
    root = root_turns(poses, joint_turns(poses))
    own = model.joints(model.template)[0]
    return replace(
        poses,
        translations=poses.translations + root @ pelvis - own,
        root_rule="pelvis",
        betas=np.zeros(0),
        scale=1.0,
        expressions=None,
    )
