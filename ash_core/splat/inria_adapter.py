"""The inria backend: diff-gaussian-rasterization, where the user has installed it.

The released look: a Gaussian ends at the square of tiles about three standard deviations.
Written from the package's README alone.
"""

import importlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import NEAR_M
from ash_core.geometry.camera import camera_position
from ash_core.records import Camera, Gaussians, Image
from ash_core.splat.gsplat_adapter import empty_image

_FAR_M = 100.0
"""Far plane: it enters the third row of the projection alone, on which no image depends."""


def render(
    gaussians: Gaussians, cameras: Sequence[Camera], background: Float[Tensor, "3"] | None
) -> list[Image]:
    """Render one image a camera. `rasterize` has checked the arguments."""
    return [_render_one(gaussians, camera, background) for camera in cameras]


def projection(camera: Camera) -> Float[Tensor, "4 4"]:
    """Make the matrix clip from camera: x and y in -1..1 between the outer edges of the image."""
    K = camera.K.detach().double().cpu()
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[0, 0], matrix[0, 2] = 2 * K[0, 0] / camera.width, 2 * K[0, 2] / camera.width - 1
    matrix[1, 1], matrix[1, 2] = 2 * K[1, 1] / camera.height, 2 * K[1, 2] / camera.height - 1
    matrix[2, 2], matrix[2, 3] = _FAR_M / (_FAR_M - NEAR_M), -_FAR_M * NEAR_M / (_FAR_M - NEAR_M)
    matrix[3, 2] = 1.0
    return matrix


def make_rasterizer(camera: Camera, background: Float[Tensor, "3"], bases: int) -> Any:
    """Make the package's rasterizer of one camera, on the background's device.

    Matrices are transposed there (row vectors). bases: of the spherical harmonics, 1, 4, 9 or 16.
    """
    package = importlib.import_module("diff_gaussian_rasterization")
    kind = package.GaussianRasterizationSettings
    viewmat = camera.viewmat.detach().double().cpu()
    newer = {"antialiasing": False} if "antialiasing" in kind._fields else {}

    def there(tensor: Tensor) -> Tensor:
        return tensor.to(background).contiguous()

    settings = kind(
        image_height=camera.height,
        image_width=camera.width,
        tanfovx=camera.width / (2 * float(camera.K[0, 0])),
        tanfovy=camera.height / (2 * float(camera.K[1, 1])),
        bg=background,
        scale_modifier=1.0,
        viewmatrix=there(viewmat.T),
        projmatrix=there((projection(camera) @ viewmat).T),
        sh_degree=math.isqrt(bases) - 1,
        campos=there(camera_position(viewmat)),
        prefiltered=False,
        debug=False,
        **newer,
    )
    return package.GaussianRasterizer(raster_settings=settings)


def draw(rasterizer: Any, gaussians: Gaussians, **colours: Tensor) -> Float[Tensor, "3 h w"]:
    """Call the package. Versions return the image and one or two further values."""
    means = gaussians.means.float().contiguous()
    return rasterizer(
        means3D=means,
        means2D=torch.zeros_like(means),  # only there to collect gradients
        opacities=gaussians.opacities.float()[:, None].contiguous(),
        scales=gaussians.scales.float().contiguous(),
        rotations=gaussians.quats.float().contiguous(),
        **colours,
    )[0]


def _render_one(
    gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"] | None
) -> Image:
    means = gaussians.means
    if len(means) == 0 or camera.width * camera.height == 0:
        return empty_image(camera, background, means)
    black = torch.zeros(3, device=means.device)
    under = black if background is None else background.detach().to(black)
    bases = gaussians.sh.shape[1]
    rgb = draw(
        make_rasterizer(camera, under, bases), gaussians, shs=gaussians.sh.float().contiguous()
    )

    # The package draws colours only: alpha and depth are the colours of a second image.
    row = camera.viewmat.detach()[2].to(black)
    depths = means.float() @ row[:3] + row[3]
    colours = torch.stack([torch.ones_like(depths), depths, torch.zeros_like(depths)], -1)
    rasterizer = make_rasterizer(camera, black, bases)
    alpha, depth, _ = draw(rasterizer, gaussians, colors_precomp=colours)
    hit = alpha > 0
    depth = torch.where(hit, depth / torch.where(hit, alpha, 1.0), 0.0)
    rgb, alpha, depth = (part.to(means.dtype) for part in (rgb.permute(1, 2, 0), alpha, depth))
    return Image(rgb, alpha, depth)
