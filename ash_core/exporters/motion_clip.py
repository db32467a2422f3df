"""A motion of a skeleton as one of bones that turn freely, as .bvh files hold it."""

from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from ash_core.files.bvh import Bvh
from ash_core.geometry.kinematics import posed_in_parts
from ash_core.importers.own_bvh import bone_offsets
from ash_core.importers.retarget.joint_mapping import bone_tree
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
    offsets, last = bone_offsets(skeleton)
    T = posed_in_parts(skeleton, motion.dofs.double(), last).numpy()
    # Turns and places in the parent's frame.
    turns, places = T[..., :3, :3].copy(), T[..., :3, 3].copy()
    for bone, parent in enumerate(tree.parents):
        if parent >= 0:
            R = T[:, parent, :3, :3].transpose(0, 2, 1)
            turns[:, bone] = R @ T[:, bone, :3, :3]
            apart = T[:, bone, :3, 3] - T[:, parent, :3, 3]
            places[:, bone] = (R @ apart[..., None])[..., 0]
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
