"""Inspection of splats: their texels, the decoder's output there, and the bones that move them."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ash_core.avatar import Avatar
from ash_core.conventions import NEAR_M, SH_C0
from ash_core.geometry.rotations import quat_to_matrix
from ash_core.look import viridis
from ash_core.records import AvatarData, Camera, Gaussians, to_device

Channel = Literal["colour", "opacity", "size", "normal"]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)
PICK_SIGMAS: Final = 2.0
"""Number of a splat's deviations in the view within which it is hit."""
LEAST_PX: Final = 1.5
MOST_BONES: Final = 4
POSITIVE: Final = (1.0, 0.62, 0.18)
NEGATIVE: Final = (0.22, 0.55, 1.0)
NOTHING: Final = (0.36, 0.37, 0.38)


@dataclass(frozen=True)
class Splat:
    """One Gaussian and its origin."""

    index: int
    texel: tuple[int, int]
    """(iu, iv) in the atlas."""
    face: int
    vertices: tuple[int, int, int]
    barycentrics: tuple[float, float, float]
    bones: tuple[tuple[str, float], ...]
    """Heaviest bones, with their weights at the texel."""
    mean: tuple[float, float, float]
    """m, world."""
    scales_mm: tuple[float, float, float]
    opacity: float
    colour: tuple[float, float, float]
    """Colour of degree 0, RGB in [0, 1]."""


def describe(avatar: Avatar, gaussians: Gaussians, index: int) -> Splat:
    """Describe a Gaussian."""
    atlas, data = to_device(avatar.atlas, "cpu"), avatar.data
    corners, weights = atlas.corners[index], atlas.barycentrics[index]
    colour = (0.5 + SH_C0 * gaussians.sh[index, 0]).clamp(0, 1)
    u, v = atlas.texels[index].tolist()
    return Splat(
        index=index,
        texel=(u, v),
        face=int(atlas.faces[index]),
        vertices=tuple(corners.tolist()),
        barycentrics=tuple(weights.tolist()),
        bones=_bones(data, corners, weights),
        mean=tuple(gaussians.means[index].tolist()),
        scales_mm=tuple((1000 * gaussians.scales[index]).tolist()),
        opacity=float(gaussians.opacities[index]),
        colour=tuple(colour.tolist()),
    )


def _bones(data: AvatarData, corners: Tensor, weights: Tensor) -> tuple[tuple[str, float], ...]:
    total = torch.zeros(len(data.skinning.bone_names))
    shares = weights[:, None] * data.skinning.weights[corners]
    total.index_add_(0, data.skinning.bones[corners].flatten(), shares.flatten())
    order = total.argsort(descending=True)[:MOST_BONES].tolist()
    return tuple((data.skinning.bone_names[n], float(total[n])) for n in order if total[n] > 1e-3)


def pick(gaussians: Gaussians, camera: Camera, x: float, y: float) -> int | None:
    """Find the nearest Gaussian to the eye that covers a pixel; None where there is none."""
    g = to_device(gaussians, "cpu")
    view, K = camera.viewmat.float(), camera.K.float()
    in_camera = g.means @ view[:3, :3].T + view[:3, 3]
    z = in_camera[:, 2].clamp_min(1e-6)
    across = (K[0, 0] * in_camera[:, 0] / z + K[0, 2] - x) ** 2
    distances = (across + (K[1, 1] * in_camera[:, 1] / z + K[1, 2] - y) ** 2).sqrt()
    reach = (PICK_SIGMAS * K[0, 0] * g.scales.amax(1) / z).clamp_min(LEAST_PX)
    hit = (distances < reach) & (in_camera[:, 2] > NEAR_M) & (g.opacities > 0.1)
    if not bool(hit.any()):
        return None
    return int(torch.where(hit, in_camera[:, 2], torch.inf).argmin())


def texel_at(avatar: Avatar, u: int, v: int) -> int | None:
    """Look up the Gaussian of a texel; None off the mesh."""
    matches = (avatar.atlas.texels == avatar.atlas.texels.new_tensor([u, v])).all(1).nonzero()
    return int(matches[0, 0]) if len(matches) else None


def atlas_picture(avatar: Avatar, gaussians: Gaussians, channel: Channel) -> UInt8[Tensor, "r r 4"]:
    """Draw a channel of all texels, transparent off the mesh; row 0 is v = 1, the top."""
    return _picture(avatar, _values(to_device(gaussians, "cpu"), channel))


def raw_picture(avatar: Avatar, raw: Float[Tensor, "N c"], name: str) -> "RawPicture":
    """Draw a channel of the decoder's raw output, by its name among `Avatar.raw_channels`.

    Zero, where the template stays unchanged, is grey; the range is the same on both sides of it.
    """
    values = raw[:, avatar.raw_channels.index(name)].float().cpu()
    reach = float(np.quantile(values.abs().numpy(), 0.99))
    share = (values / reach if reach > 0 else torch.zeros_like(values)).clamp(-1, 1)[:, None]
    ends = torch.tensor(POSITIVE), torch.tensor(NEGATIVE)
    middle = torch.tensor(NOTHING)
    colours = torch.where(share > 0, ends[0], ends[1])
    rgb = middle + share.abs() * (colours - middle)
    return RawPicture(_picture(avatar, rgb), reach, float(values.min()), float(values.max()))


@dataclass(frozen=True)
class RawPicture:
    """One channel of the decoder, orange above zero and blue below."""

    pixels: UInt8[Tensor, "r r 4"]
    reach: float
    """Value of full colour, positive or negative: 99 % of the texels lie within."""
    least: float
    greatest: float


def _picture(avatar: Avatar, values: Float[Tensor, "N 3"]) -> UInt8[Tensor, "r r 4"]:
    side, texels = avatar.atlas.resolution, avatar.atlas.texels.cpu()
    values = values.clamp(0, 1)
    picture = torch.zeros(side, side, 4, dtype=torch.uint8)
    rows, columns = side - 1 - texels[:, 1], texels[:, 0]
    picture[rows, columns, :3] = (values * 255 + 0.5).to(torch.uint8)
    picture[rows, columns, 3] = 255
    return picture


def _values(g: Gaussians, channel: Channel) -> Float[Tensor, "N 3"]:
    if channel == "colour":
        return 0.5 + SH_C0 * g.sh[:, 0]
    if channel == "opacity":
        return g.opacities[:, None].expand(-1, 3)
    if channel == "size":
        sizes = g.scales.amax(1).log()
        low, high = np.quantile(sizes.numpy(), (0.02, 0.98))
        return viridis((sizes - float(low)) / max(float(high - low), 1e-6))
    shortest = g.scales.argmin(1)[:, None, None].expand(-1, 3, 1)
    return 0.5 + 0.5 * quat_to_matrix(g.quats).gather(-1, shortest)[..., 0]
