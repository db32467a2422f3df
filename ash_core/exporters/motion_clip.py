"""A motion of a skeleton as one of bones that turn freely, as .bvh files hold it."""

import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.files.bvh import Bvh
from ash_core.geometry.kinematics import joint_transforms, posed_in_parts
from ash_core.importers.retarget.joint_mapping import bone_tree
from ash_core.importers.retarget.joint_names import group_name
from ash_core.records import Motion, Skeleton

TIP = 0.6
"""Length of a last bone, as a share of the one before: a skeleton does not say it."""


def clip_of_motion(skeleton: Skeleton, motion: Motion) -> Bvh:
    """Merge the joints of each bone to one that turns freely: m, Y up, all turns zero at rest.

    Places are those of each bone's last joint. A bone whose joints slide, or lie apart, moves in
    its parent's frame, too.
    """
    # Last joint of each bone, posed and at rest.
    tree = bone_tree(skeleton)
    groups = [group_name(name) for name in skeleton.joint_names]
    last = [len(groups) - 1 - groups[::-1].index(name) for name in tree.names]
    zero = torch.zeros(len(skeleton.dof_names), dtype=torch.float64)
    rest = joint_transforms(skeleton, zero)[last, :3, 3].numpy()
    T = posed_in_parts(skeleton, motion.dofs.double(), last).numpy()
    # Turns and places in the parent's frame.
    turns, places = T[..., :3, :3].copy(), T[..., :3, 3].copy()
    offsets = rest.copy()
    for bone, parent in enumerate(tree.parents):
        if parent >= 0:
            R = T[:, parent, :3, :3].transpose(0, 2, 1)
            turns[:, bone] = R @ T[:, bone, :3, :3]
            apart = T[:, bone, :3, 3] - T[:, parent, :3, 3]
            places[:, bone] = (R @ apart[..., None])[..., 0]
            offsets[bone] = rest[bone] - rest[parent]
    quaternions = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_quat()
    return Bvh(
        names=tree.names,
        parents=tree.parents,
        offsets=offsets,
        tips=_tips(tree.parents, offsets),
        rotations=quaternions.reshape(*turns.shape[:2], 4),
        translations=places,
        fps=motion.fps,
    )


def _tips(parents: tuple[int, ...], offsets: Float[ndarray, "J 3"]) -> dict[int, ndarray]:
    """Lengthen each last bone by a share of the one before."""
    return {bone: TIP * offsets[bone] for bone in range(len(parents)) if bone not in parents}
