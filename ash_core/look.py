"""Looks of a frame besides colours: Gaussians changed before splatting, images after."""

from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.geometry.camera import camera_position
from ash_core.geometry.rotations import quat_to_matrix
from ash_core.geometry.spherical_harmonics import rgb_to_sh
from ash_core.records import Camera, Gaussians, Image

Mode = Literal["colour", "depth", "alpha", "normals", "ellipsoids", "centres"]

CENTRE_PX: Final = 0.8
"""Standard deviation of a centre's dot."""
ELLIPSOID_SCALE: Final = 0.6
"""Of a Gaussian's own deviations: so that neighbours stand apart."""
SOLID: Final = 0.99
_VIRIDIS: Final = (
    (0.2777, 0.1051, -0.3309, -4.6342, 6.2283, 4.7764, -5.4355),
    (0.0054, 1.4046, 0.2148, -5.7991, 14.1799, -13.7451, 4.6459),
    (0.3341, 1.3846, 0.0951, -19.3324, 56.6906, -65.3530, 26.3124),
)
"""A polynomial of degree 6 for each channel, from dark blue (0) to yellow (1)."""


@dataclass(frozen=True)
class Look:
    """Appearance of Gaussians in an image. The default is the avatar as it is.

    >>> window = ash.pose_window(motion, 120, avatar)
    >>> request = ash.RenderRequest(window, camera, look=ash.Look(mode="depth"))
    """

    mode: Mode = "colour"
    splat_scale: float = 1.0
    """Factor of every Gaussian's size."""
    opacity: float = 1.0
    """Factor of every Gaussian's opacity."""
    sh_degree: int | None = None
    """Highest degree of the colour that is shown; None for all."""

    @property
    def keeps_gaussians(self) -> bool:
        """Whether the avatar's own Gaussians are splatted, unchanged."""
        unchanged = self.splat_scale == 1.0 and self.opacity == 1.0 and self.sh_degree is None
        return unchanged and self.mode in ("colour", "depth", "alpha")


PLAIN: Final = Look()


def dress(gaussians: Gaussians, look: Look, camera: Camera) -> Gaussians:
    """The Gaussians that a look splats."""
    if look.keeps_gaussians:
        return gaussians
    g = replace(
        gaussians,
        scales=gaussians.scales * look.splat_scale,
        opacities=(gaussians.opacities * look.opacity).clamp(0.0, 1.0),
    )
    if look.sh_degree is not None:
        kept = min((look.sh_degree + 1) ** 2, g.sh.shape[1])
        g = replace(g, sh=g.sh[:, :kept])
    if look.mode == "normals":
        return replace(g, sh=rgb_to_sh(0.5 + 0.5 * _normals(g, camera))[:, None])
    if look.mode == "ellipsoids":
        eye = camera_position(camera.viewmat).to(g.means)
        towards = torch.nn.functional.normalize(eye - g.means, dim=-1)
        shade = 0.35 + 0.65 * (_normals(g, camera) * towards).sum(-1, keepdim=True).abs()
        return replace(
            g,
            scales=g.scales * ELLIPSOID_SCALE,
            opacities=torch.full_like(g.opacities, SOLID),
            sh=rgb_to_sh(shade * _tints(len(g.means), g.means.device))[:, None],
        )
    if look.mode == "centres":
        row, focal = camera.viewmat[2].to(g.means), float(camera.K[0, 0])
        depths = (g.means @ row[:3] + row[3]).clamp_min(0.0)
        dots = (CENTRE_PX * look.splat_scale / focal * depths)[:, None].expand(-1, 3)
        return replace(g, scales=dots, opacities=torch.full_like(g.opacities, SOLID))
    return g


def colourise(image: Image, look: Look, background: Float[Tensor, "3"] | None) -> Image:
    """The picture with the colours that a mode shows instead of its own."""
    if look.mode not in ("depth", "alpha"):
        return image
    alpha = image.alpha[..., None]
    if look.mode == "alpha":
        return replace(image, rgb=alpha.expand_as(image.rgb))
    hit = image.depth > 0
    near = torch.where(hit, image.depth, torch.inf).amin()
    far = torch.where(hit, image.depth, -torch.inf).amax()
    nearness = (far - image.depth) / (far - near).clamp_min(1e-6)
    rgb = viridis(torch.where(hit, nearness, 0.0)) * alpha
    if background is not None:
        rgb = rgb + (1 - alpha) * background.to(rgb)
    return replace(image, rgb=rgb)


def viridis(values: Float[Tensor, "*s"]) -> Float[Tensor, "*s 3"]:
    """Values in [0, 1] to colours of growing lightness."""
    x = values.clamp(0, 1)
    channels = []
    for coefficients in _VIRIDIS:
        total = torch.zeros_like(x)
        for coefficient in reversed(coefficients):
            total = total * x + coefficient
        channels.append(total)
    return torch.stack(channels, -1).clamp(0, 1)


def _normals(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "N 3"]:
    """Each Gaussian's shortest axis, towards the camera; world, unit."""
    axes = quat_to_matrix(gaussians.quats)
    shortest = gaussians.scales.argmin(-1)[:, None, None].expand(-1, 3, 1)
    normals = axes.gather(-1, shortest)[..., 0]
    eye = camera_position(camera.viewmat).to(normals)
    away = (normals * (eye - gaussians.means)).sum(-1, keepdim=True) < 0
    return torch.where(away, -normals, normals)


def _tints(count: int, device: torch.device) -> Float[Tensor, "n 3"]:
    """Colours that tell neighbours apart, the same for the same index."""
    turns = torch.arange(count, device=device)[:, None] * torch.tensor(
        [0.6180340, 0.7548777, 0.5698403], device=device
    )
    return 0.45 + 0.55 * (turns % 1.0)
