"""World axes of other programs: turn their splats and cameras into ours (Z up)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import R_WORLD_BODY, Up
from ash_core.geometry.rotations import matrix_to_quat, quat_multiply, unit
from ash_core.geometry.spherical_harmonics import turn_sh
from ash_core.records import Camera, Gaussians

UPS: Final[tuple[Up, ...]] = get_args(Up)

_R_WORLD_UP: Final[Mapping[Up, tuple[tuple[float, ...], ...]]] = {
    "z": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "y": R_WORLD_BODY,
    # Half a turn about X first: +Z of such a file points away from who stands before it.
    "y-down": ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
}


def world_rotation(up: Up, before: Up = "z") -> Float[Tensor, "3 3"]:
    """Compute the rotation of a file's axes into the world; `before`: up axis of an earlier turn.

    float64.
    """
    old, new = (torch.tensor(_R_WORLD_UP[axis], dtype=torch.float64) for axis in (before, up))
    return new @ old.T


def turn_gaussians(gaussians: Gaussians, rotation: Float[Tensor, "3 3"]) -> Gaussians:
    """Turn Gaussians about the world's origin, colours included."""
    quat = matrix_to_quat(rotation).to(gaussians.quats)
    return replace(
        gaussians,
        means=gaussians.means @ rotation.to(gaussians.means).T,
        quats=unit(quat_multiply(quat.expand_as(gaussians.quats), gaussians.quats)),
        sh=turn_sh(gaussians.sh, rotation),
    )


def turn_camera(camera: Camera, rotation: Float[Tensor, "3 3"]) -> Camera:
    """Turn a camera about the world's origin."""
    viewmat = camera.viewmat.clone()
    viewmat[:3, :3] = (viewmat[:3, :3].double() @ rotation.T).to(viewmat)
    return replace(camera, viewmat=viewmat)
