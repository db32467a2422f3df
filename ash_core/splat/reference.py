"""Definition of a splatted image, in plain torch: slow, differentiable, float32 or float64.

Every other backend is tested against this one. Two steps: `project` takes each Gaussian to the
image, `blend` composites them front to back, pixel by pixel. Gradients reach all parameters of
Gaussians; cameras and background are constants here, as in every backend.
Source: Zwicker et al. 2001, "EWA Volume Splatting"; Kerbl et al. 2023, "3D Gaussian Splatting".
Differs: from the latter by exact support (alpha >= 1/255 everywhere, no 3-sigma square of tiles).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ash_core.conventions import (
    ALPHA_MAX,
    ALPHA_MIN,
    BLUR_PX2,
    NEAR_M,
    TRANSMITTANCE_MIN,
)
from ash_core.geometry.camera import frustum_limits
from ash_core.geometry.rotations import quat_to_matrix
from ash_core.geometry.spherical_harmonics import sh_to_rgb
from ash_core.records import Camera, Gaussians, Image

_CHUNK_ELEMENTS = 1 << 22
"""Pixels x Gaussians of one chunk; bounds the memory of `blend`."""


@dataclass(frozen=True)
class Projected:
    """Gaussians projected into one image; rows of culled ones are undefined."""

    means2d: Float[Tensor, "N 2"]
    """Pixels; the centre of the top-left pixel is (0.5, 0.5)."""
    cov2d: Float[Tensor, "N 3"]
    """xx, xy, yy in px^2, blur included."""
    conics: Float[Tensor, "N 3"]
    """Inverse of cov2d: xx, xy, yy in 1/px^2."""
    depths: Float[Tensor, "N"]
    """View-space z, m."""
    rgb: Float[Tensor, "N 3"]
    visible: Bool[Tensor, "N"]
    """Mask of those in front of the near plane."""


def project(gaussians: Gaussians, camera: Camera) -> Projected:
    """Compute each Gaussian's centre, covariance, depth and colour in the image of a camera.

    The Jacobian of the projection is taken at the centre, clamped to FRUSTUM_CLAMP half-fields of
    view from the optical axis, where a linearisation is still valid. In the Gaussians' precision.
    """
    viewmat, K = (part.detach().to(gaussians.means) for part in (camera.viewmat, camera.K))
    R_view_world, translation = viewmat[:3, :3], viewmat[:3, 3]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]

    # 1. View space. Culled Gaussians get z = 1: finite, and not drawn.
    means = gaussians.means @ R_view_world.T + translation
    visible = means[:, 2] > NEAR_M
    z = torch.where(visible, means[:, 2], 1.0)
    u, v = means[:, 0] / z, means[:, 1] / z
    means2d = torch.stack([fx * u + cx, fy * v + cy], -1)

    # 2. Covariance: the blurred ellipse of J R_view_world R S.
    limit_u, limit_v = frustum_limits(camera)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * u.clamp(-limit_u, limit_u) / z], -1),
            torch.stack([zero, fy / z, -fy * v.clamp(-limit_v, limit_v) / z], -1),
        ],
        -2,
    )
    axes = jacobian @ R_view_world @ quat_to_matrix(gaussians.quats)
    axes = axes * gaussians.scales[:, None, :]
    first, second = axes[:, 0], axes[:, 1]
    xx, yy = (first * first).sum(-1) + BLUR_PX2, (second * second).sum(-1) + BLUR_PX2
    xy = (first * second).sum(-1)

    # 3. Its inverse. |a x b|^2 + blur (|a|^2 + |b|^2) + blur^2 = xx yy - xy^2, nothing cancels.
    across = torch.linalg.cross(first, second)
    determinant = (across * across).sum(-1) + BLUR_PX2 * (xx + yy - BLUR_PX2)
    conics = torch.stack([yy, -xy, xx], -1) / determinant[:, None]

    # 4. Colour from the view direction.
    centre = -R_view_world.T @ translation
    directions = torch.nn.functional.normalize(gaussians.means - centre, dim=-1)
    rgb = sh_to_rgb(gaussians.sh, directions)
    return Projected(means2d, torch.stack([xx, xy, yy], -1), conics, z, rgb, visible)


def blend(
    projected: Projected,
    opacities: Float[Tensor, "N"],
    pixels: Float[Tensor, "P 2"],
) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P"], Float[Tensor, "P"]]:
    """Composite colour over black, final transmittance, and accumulated depth at pixel centres.

    `projected` and `opacities` are in front-to-back order, without culled ones.
    """
    offset = pixels[:, None, :] - projected.means2d[None]
    dx, dy = offset.unbind(-1)
    a, b, c = projected.conics.unbind(-1)
    falloff = torch.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
    alpha = (opacities * falloff).clamp_max(ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0.0)

    after = torch.cumprod(1 - alpha, -1)
    stopped = (after < TRANSMITTANCE_MIN).cumsum(-1) > 0
    alpha = torch.where(stopped, 0.0, alpha)
    after = torch.cumprod(1 - alpha, -1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], -1)
    weights = alpha * before
    return weights @ projected.rgb, after[:, -1], weights @ projected.depths


def _sorted_visible(
    projected: Projected, opacities: Float[Tensor, "N"]
) -> tuple[Projected, Float[Tensor, "N"]]:
    """Sort front to back by float32 depth, ties by index, without those that never reach 1/255."""
    order = torch.nonzero(projected.visible & (opacities >= ALPHA_MIN))[:, 0]
    order = order[projected.depths.detach()[order].float().argsort(stable=True)]
    return (
        Projected(
            projected.means2d[order],
            projected.cov2d[order],
            projected.conics[order],
            projected.depths[order],
            projected.rgb[order],
            projected.visible[order],
        ),
        opacities[order],
    )


def render(
    gaussians: Gaussians, cameras: Sequence[Camera], background: Float[Tensor, "3"] | None
) -> list[Image]:
    """Render one image a camera. `rasterize` has checked the arguments."""
    return [_render_one(gaussians, camera, background) for camera in cameras]


def _render_one(
    gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"] | None
) -> Image:
    means = gaussians.means
    height, width = camera.height, camera.width
    ys = torch.arange(height, dtype=means.dtype, device=means.device) + 0.5
    xs = torch.arange(width, dtype=means.dtype, device=means.device) + 0.5
    pixels = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2)
    projected, opacities = _sorted_visible(project(gaussians, camera), gaussians.opacities)

    if len(opacities) == 0 or len(pixels) == 0:
        black = pixels.new_zeros((len(pixels), 3))
        colour, transmittance, depth = black, 1 - black[:, 0], black[:, 0]
    else:
        # Checkpointed: the [P, N] arrays of a chunk are recomputed in its backward pass.
        chunks = pixels.split(max(1, _CHUNK_ELEMENTS // len(opacities)))
        parts = [checkpoint(blend, projected, opacities, c, use_reentrant=False) for c in chunks]
        colour, transmittance, depth = (torch.cat(part) for part in zip(*parts, strict=True))

    alpha = 1 - transmittance
    if background is not None:
        colour = colour + transmittance[:, None] * background.detach().to(colour)
    hit = alpha > 0
    depth = torch.where(hit, depth / torch.where(hit, alpha, 1.0), 0.0)
    return Image(
        colour.reshape(height, width, 3),
        alpha.reshape(height, width),
        depth.reshape(height, width),
    )
