"""Gaussians as a .ply file, in the layout that viewers and editors of splats have in common.

Layout after Kerbl et al., 3D Gaussian Splatting (2023): means in m, logits of opacities, logarithms
of scales, rotations as wxyz, harmonics with all of red before green before blue.
"""

from pathlib import Path

import numpy as np

from ash_core.files.text import write_atomic
from ash_core.records import Gaussians, to_device

OPACITY_RANGE = 1e-6, 1 - 1e-6
"""A logit needs an end."""


def write_ply(path: Path | str, gaussians: Gaussians) -> None:
    """Write a frame of an avatar, world frame (z up), whole or not at all.

    Raises: InputError.
    """
    g = to_device(gaussians, "cpu")
    count, colours, _ = g.sh.shape
    rest = [f"f_rest_{n}" for n in range(3 * (colours - 1))]
    columns = {
        ("x", "y", "z"): g.means,
        ("nx", "ny", "nz"): g.means.new_zeros(count, 3),
        ("f_dc_0", "f_dc_1", "f_dc_2"): g.sh[:, 0],
        tuple(rest): g.sh[:, 1:].transpose(1, 2).reshape(count, len(rest)),
        ("opacity",): g.opacities.clamp(*OPACITY_RANGE).logit()[:, None],
        ("scale_0", "scale_1", "scale_2"): g.scales.clamp_min(1e-12).log(),
        ("rot_0", "rot_1", "rot_2", "rot_3"): g.quats,
    }
    names = [name for group in columns for name in group]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    table = np.concatenate([values.detach().float().numpy() for values in columns.values()], 1)
    write_atomic(path, ["\n".join(header).encode(), table.astype("<f4").tobytes()])
