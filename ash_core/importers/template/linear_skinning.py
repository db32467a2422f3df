"""Linear blend skinning on NumPy arrays: rest pose to a frame, and back."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

SINGULAR = 0.15
"""Least singular value of a blended matrix that is inverted as it is."""


def bone_moves(
    joint_frames: tuple[Float[ndarray, "F J 3 3"], Float[ndarray, "F J 3"]],
    rest_joints: Float[ndarray, "J 3"],
) -> Float[ndarray, "F J 3 4"]:
    """Compute the matrices that take the rest pose to each frame's, one a joint."""
    turns, places = joint_frames
    shifts = places - np.einsum("fjab,jb->fja", turns, rest_joints)
    return np.concatenate([turns, shifts[..., None]], axis=-1)


def blend_moves(
    weights: Float[ndarray, "V J"], moves: Float[ndarray, "J 3 4"]
) -> Float[ndarray, "V 3 4"]:
    """Blend the joints' matrices of one frame at each vertex, in the weights' precision."""
    flat = moves.reshape(len(moves), 12).astype(weights.dtype)
    return (weights @ flat).reshape(-1, 3, 4)


def place_points(
    points: Float[ndarray, "V 3"],
    weights: Float[ndarray, "V J"],
    moves: Float[ndarray, "J 3 4"],
) -> Float[ndarray, "V 3"]:
    """Pose points of the rest pose as in one frame."""
    blended = blend_moves(weights, moves)
    return np.einsum("vab,vb->va", blended[..., :3], points) + blended[..., 3]


def unplace_points(
    points: Float[ndarray, "V 3"],
    weights: Float[ndarray, "V J"],
    moves: Float[ndarray, "J 3 4"],
) -> Float[ndarray, "V 3"]:
    """Bring posed points back to the rest pose.

    Where a blended matrix is nearly flat (strong bends), its singular values are raised.
    """
    blended = blend_moves(weights, moves)
    left, values, right = np.linalg.svd(blended[..., :3])
    inverse = np.einsum("vba,vb,vcb->vac", right, 1.0 / np.maximum(values, SINGULAR), left)
    return np.einsum("vab,vb->va", inverse, points - blended[..., 3])
