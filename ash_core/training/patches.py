"""Patches on the parts of a person that are looked at most: face, hands, loose cloth."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.geometry.motion import heading_matrix
from ash_core.importers.retarget.joint_names import SIDES, body_parts
from ash_core.records import AvatarData, Camera, PosedMesh, Skeleton

PATCH: Final = 64
"""Side of a patch, pixels; less where a window is smaller."""
NEAREST_M: Final = 1e-3
"""Least depth of a vertex that is projected."""


def part_masks(data: AvatarData) -> dict[str, Bool[Tensor, "V"]]:
    """Find the template vertices of face, hands and cloth; parts without vertices are left out.

    The face is the front half of what the head's bones move. Cloth is what `--cloth` has found.
    """
    # Head and hands by the names of bones.
    skinning, vertices = data.skinning, data.template.vertices
    names = body_parts(skinning.bone_names)
    owners = skinning.bones.gather(1, skinning.weights.argmax(1, keepdim=True))[:, 0]

    def moved_by(*parts: str) -> Bool[Tensor, "V"]:
        """Select the vertices that the bones of these parts, or bones below, move most."""
        first_bones = [skinning.bone_names.index(names[part]) for part in parts if part in names]
        below = _joints_below(data.skeleton, skinning.bone_joints[first_bones].tolist())
        return below[skinning.bone_joints][owners]

    # The face is in front, seen from the heading at rest.
    head = moved_by("head")
    ahead = vertices @ heading_matrix(data.rest_dofs, data.skeleton)[:, 2].to(vertices)
    if head.any():
        head = head & (ahead >= ahead[head].median())
    cloth = torch.zeros_like(head)
    if data.cloth is not None:
        cloth[data.cloth.points[data.cloth.looseness > 0]] = True
    masks = {"face": head, "hands": moved_by(*(f"{side} hand" for side in SIDES)), "cloth": cloth}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _joints_below(skeleton: Skeleton, roots: Sequence[int]) -> Bool[Tensor, "J"]:
    """Select some joints and all that hang from them."""
    below = torch.zeros(len(skeleton.parents), dtype=torch.bool)
    for joint, parent in enumerate(skeleton.parents.tolist()):
        below[joint] = joint in roots or (parent >= 0 and bool(below[parent]))
    return below


class PartPatches:
    """Places of a pose's patches in its views: one for each part of the avatar."""

    def __init__(self, data: AvatarData, device: torch.device) -> None:
        """Raises: InputError for an avatar that has none of the parts."""
        masks = part_masks(data)
        if not masks:
            bones = ", ".join(data.skinning.bone_names[:5])
            text = f"expected an avatar with a head, hands or cloth, got the bones {bones} ..."
            raise InputError(f"--weights.patch-lpips: {text}")
        self.names = tuple(masks)
        members = torch.stack(list(masks.values()))
        of_parts = members.any(0)
        self._vertices = of_parts.nonzero()[:, 0].to(device)
        self._members = members[:, of_parts].to(device)

    def corners(
        self, mesh: PosedMesh, cameras: Sequence[Camera], chances: Float[Tensor, "v k"]
    ) -> Int[Tensor, "v k 2"]:
        """Draw left and top of each view's patches, px: around a vertex of each part.

        cameras: of one size, on the CPU. chances: uniform in [0, 1), one for each part. Only
        vertices that face the camera are drawn, though another part may hide them. A part that
        does not show leaves its patch to the others. Nothing waits for the device.
        """
        # Project the vertices of all parts; the window is the unit square.
        matrices, centres = _projections(cameras, self._vertices.device)
        places, normals = mesh.vertices[0, self._vertices], mesh.normals[0, self._vertices]
        projected = places @ matrices[..., :3].mT + matrices[:, None, :, 3]
        depths = projected[..., 2:]
        points = projected[..., :2] / depths.clamp(min=NEAREST_M)
        # Draw among those of each part that face the camera and lie in the window.
        inside = ((points >= 0) & (points < 1) & (depths > NEAREST_M)).all(-1)
        visible = inside & (((centres[:, None] - places) * normals).sum(-1) > 0)
        shown = visible[:, None] & self._members
        counts = torch.where(shown.any(-1, keepdim=True), shown, visible[:, None]).cumsum(-1)
        ranks = (chances * counts[..., -1]).floor()
        picks = (counts <= ranks[..., None]).sum(-1).clamp(max=len(places) - 1)
        drawn = points.gather(1, picks[..., None].expand(-1, -1, 2))
        # The patch around it, within the window.
        sizes = cameras[0].width, cameras[0].height
        lefts_and_tops = [
            (drawn[..., axis] * size - min(PATCH, size) / 2).clamp(0, size - min(PATCH, size))
            for axis, size in enumerate(sizes)
        ]
        return torch.stack(lefts_and_tops, -1).round().long()


def _projections(
    cameras: Sequence[Camera], device: torch.device
) -> tuple[Float[Tensor, "v 3 4"], Float[Tensor, "v 3"]]:
    """Make matrices from the body frame to (x depth, y depth, depth), and the cameras' places.

    x and y are 0 to 1 in the image; places are in the body frame, m.
    """
    body = torch.eye(4)
    body[:3, :3] = torch.tensor(R_WORLD_BODY)
    views = torch.stack([camera.viewmat for camera in cameras]) @ body
    sizes = torch.tensor([[camera.width, camera.height, 1] for camera in cameras])
    matrices = torch.stack([camera.K for camera in cameras]) / sizes[..., None] @ views[:, :3]
    centres = -views[:, :3, :3].mT @ views[:, :3, 3:]
    packed = torch.cat((matrices, centres), 2).to(device, non_blocking=True)
    return packed[..., :4], packed[..., 4]


def cut_patches(
    images: Float[Tensor, "v h w 3"], corners: Int[Tensor, "v k 2"]
) -> Float[Tensor, "p a b 3"]:
    """Cut patches out of images, those of a view side by side. p: v k."""
    height, width = images.shape[1:3]
    device = images.device
    columns = corners[..., 0, None, None] + torch.arange(min(PATCH, width), device=device)
    rows = corners[..., 1, None, None] + torch.arange(min(PATCH, height), device=device)[:, None]
    pixels = rows * width + columns
    # By gather: its gradient's sum has one order on a CPU, that of indexing has not.
    flat = pixels.flatten(1)[..., None].expand(-1, -1, 3)
    return images.flatten(1, 2).gather(1, flat).view(-1, *pixels.shape[2:], 3)
