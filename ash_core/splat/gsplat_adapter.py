"""The gsplat backend: nerfstudio's rasterizer, where the user has installed it (1.5 or newer).

Near `reference.py`, not equal to it: alpha goes to 0.999 there.
"""

import importlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import BLUR_PX2, NEAR_M
from ash_core.records import Camera, Gaussians, Image


def render(
    gaussians: Gaussians, cameras: Sequence[Camera], background: Float[Tensor, "3"] | None
) -> list[Image]:
    """Render one image a camera. `rasterize` has checked the arguments."""
    return [_render_one(gaussians, camera, background) for camera in cameras]


def empty_image(
    camera: Camera, background: Float[Tensor, "3"] | None, like: Float[Tensor, "..."]
) -> Image:
    """Make the image of no Gaussians, for packages that need at least one."""
    nothing = like.new_zeros((camera.height, camera.width))
    colour = like.new_zeros(3) if background is None else background.detach().to(like)
    return Image(colour.expand(*nothing.shape, 3).clone(), nothing, nothing.clone())


def arguments(
    gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"] | None
) -> dict[str, Any]:
    """Prepare the arguments of `gsplat.rasterization`, all but the kind of image."""
    device = gaussians.means.device
    viewmat = camera.viewmat.detach().to(device, torch.float32)
    K = camera.K.detach().to(device, torch.float32)
    under = torch.zeros(3) if background is None else background.detach()
    return {
        "means": gaussians.means.float(),
        "quats": gaussians.quats.float(),
        "scales": gaussians.scales.float(),
        "opacities": gaussians.opacities.float(),
        "colors": gaussians.sh.float(),
        "viewmats": viewmat[None],
        "Ks": K[None],
        "width": camera.width,
        "height": camera.height,
        "near_plane": NEAR_M,
        "radius_clip": 0.0,
        "eps2d": BLUR_PX2,
        "sh_degree": math.isqrt(gaussians.sh.shape[1]) - 1,
        "packed": False,
        "backgrounds": under.to(device, torch.float32)[None],
        "rasterize_mode": "classic",
    }


def _render_one(
    gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"] | None
) -> Image:
    means = gaussians.means
    if len(means) == 0 or camera.width * camera.height == 0:
        return empty_image(camera, background, means)
    package = importlib.import_module("gsplat")
    images, alphas, _ = package.rasterization(
        **arguments(gaussians, camera, background), render_mode="RGB+ED"
    )
    image = images[0].to(means.dtype)
    return Image(image[..., :3], alphas[0, ..., 0].to(means.dtype), image[..., 3])
