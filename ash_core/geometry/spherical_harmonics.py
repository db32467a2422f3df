"""Turn spherical-harmonic colours together with the surface they sit on."""

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import SH_C0, SH_C2


def rgb_to_sh(rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Degree-0 coefficients of a constant colour."""
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
