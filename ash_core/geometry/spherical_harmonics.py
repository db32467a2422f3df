"""Real spherical harmonics of degree 0 to 3: colours of Gaussians, and how they turn."""

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import SH_C0, SH_C1, SH_C2, SH_C3


def sh_basis(directions: Float[Tensor, "*batch 3"], count: int) -> Float[Tensor, "*batch K"]:
    """The first `count` (1, 4, 9 or 16) basis functions at unit directions.

    Source: order and signs of 3D Gaussian Splatting (Kerbl et al. 2023).
    """
    assert count in (1, 4, 9, 16), count
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, SH_C0)]
    if count > 1:
        basis += [-SH_C1 * y, SH_C1 * z, -SH_C1 * x]
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            SH_C2[0] * x * y,
            SH_C2[1] * y * z,
            SH_C2[2] * (2 * zz - xx - yy),
            SH_C2[3] * x * z,
            SH_C2[4] * (xx - yy),
        ]
        if count > 9:
            basis += [
                SH_C3[0] * y * (3 * xx - yy),
                SH_C3[1] * x * y * z,
                SH_C3[2] * y * (4 * zz - xx - yy),
                SH_C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
                SH_C3[4] * x * (4 * zz - xx - yy),
                SH_C3[5] * z * (xx - yy),
                SH_C3[6] * x * (xx - 3 * yy),
            ]
    return torch.stack(basis, -1)


def sh_to_rgb(sh: Float[Tensor, "N K 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """max(0, 0.5 + basis(direction) @ sh); directions are unit, from the camera to the Gaussian."""
    colour = torch.einsum("nk,nkc->nc", sh_basis(directions, sh.shape[1]), sh)
    return (colour + 0.5).clamp_min(0.0)


def rgb_to_sh(rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Convert a constant colour, RGB in [0, 1], to coefficients of degree 0.

    >>> ash.rgb_to_sh(torch.tensor([[0.5, 0.5, 0.5]]))[:, None].shape  # one Gaussian's sh
    torch.Size([1, 1, 3])
    """
    return (rgb - 0.5) / SH_C0


def rotate_sh(
    sh: Float[Tensor, "N K 3"], rotation: Float[Tensor, "N 3 3"]
) -> Float[Tensor, "N K 3"]:
    """Coefficients (degree 0-2) of the same colours after the frame was turned by `rotation`.

    Degree 1 is a vector and degree 2 a traceless symmetric matrix M with colour d^T M d, so that
    they turn as R v and R M R^T.
    """
    bases = sh.shape[1]
    assert bases in (1, 4, 9), bases
    parts = [sh[:, :1]]
    if bases >= 4:
        minus_y, z, minus_x = sh[:, 1:4].unbind(1)
        vector = torch.stack((-minus_x, -minus_y, z), 1)
        columns = (rotation[:, :, i, None] * vector[:, None, i] for i in range(3))
        x, y, z = sum(columns, start=sh.new_zeros(())).unbind(1)
        parts.append(torch.stack((-y, z, -x), 1))
    if bases == 9:
        c = torch.stack([torch.full_like(sh[0, 0, 0], value) for value in SH_C2])
        xy, yz, zz, xz, xx_yy = (sh[:, 4:] * c[:, None]).unbind(1)
        # c2 (2zz - xx - yy), c4 (xx - yy); off-diagonal terms are shared by two entries.
        xx, yy = -zz + xx_yy, -zz - xx_yy
        rows = (xx, xy / 2, xz / 2, xy / 2, yy, yz / 2, xz / 2, yz / 2, 2 * zz)
        m = torch.stack(rows, -1).reshape(-1, 3, 3, 3)  # [N, colour, 3, 3]
        m = rotation[:, None] @ m @ rotation[:, None].transpose(-1, -2)
        zz = m[..., 2, 2] / 2
        turned = torch.stack(
            (2 * m[..., 0, 1], 2 * m[..., 1, 2], zz, 2 * m[..., 0, 2], m[..., 0, 0] + zz), 1
        )
        parts.append(turned / c[:, None])
    return torch.cat(parts, 1)


def turn_sh(sh: Float[Tensor, "N K 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "N K 3"]:
    """Coefficients (degree 0-3) of the same colours after everything was turned by one rotation.

    The basis at many directions gives the linear map between old and new coefficients.
    """
    count = sh.shape[1]
    steps = torch.arange(64, dtype=torch.float64)
    z, angle = 1 - (2 * steps + 1) / 64, 2.399963229728653 * steps  # a spiral over the sphere
    radius = (1 - z * z).sqrt()
    directions = torch.stack((radius * angle.cos(), radius * angle.sin(), z), -1)
    before = sh_basis(directions @ rotation.double().cpu(), count)
    turn = torch.linalg.lstsq(sh_basis(directions, count), before).solution
    return torch.einsum("jk,nkc->njc", turn.to(sh), sh)
