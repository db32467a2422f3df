"""Real spherical harmonics of degree 0 to 3: the colour of a Gaussian seen from a direction."""

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
