"""Static splats of any program: .ply, .compressed.ply, .spz, .sog."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import Up
from ash_core.files.ply import read_ply
from ash_core.files.sog import is_sog, read_sog
from ash_core.files.splat_file import SplatFile, screen
from ash_core.files.spz import read_spz
from ash_core.geometry.axes import UPS, turn_gaussians, world_rotation
from ash_core.records import Gaussians, SplatData

BOX_SHARE: Final = (0.01, 0.99)
"""Quantiles along each axis: the part of the splats that framing shows."""


def is_splats(path: Path) -> bool:
    """Return whether a path is a file of splats by its name."""
    return path.suffix.lower() in (".ply", ".spz") or is_sog(path)


def read_splats(path: Path | str) -> SplatFile:
    """Read visible splats in the file's own axes. Raises: InputError."""
    path = Path(path)
    if is_sog(path):
        return screen(path, read_sog(path))
    return screen(path, read_spz(path) if path.suffix.lower() == ".spz" else read_ply(path))


def load_splats(path: Path | str, up: Up | None = None) -> SplatData:
    """Load static splats, named after their file.

    up: the file's up axis; without one the axis that the file names, else Z. Raises: InputError.
    """
    file = read_splats(path)
    notes = file.notes
    if up is None and file.up is None:
        choices = ", ".join(UPS)
        notes = (*notes, f"{path} does not name its up axis: taken is z; --up chooses {choices}")
    up = up or file.up or "z"
    gaussians = turn_gaussians(file.gaussians, world_rotation(up)) if up != "z" else file.gaussians
    name = Path(path).parent.name if Path(path).name == "meta.json" else Path(path).stem
    name = name.removesuffix(".compressed")
    return SplatData(name, gaussians, box_about(gaussians), up, notes)


def turn_splats(data: SplatData, up: Up) -> SplatData:
    """Turn loaded splats to another up axis of their file."""
    gaussians = turn_gaussians(data.gaussians, world_rotation(up, before=data.up))
    return replace(data, gaussians=gaussians, box=box_about(gaussians), up=up, notes=())


def box_about(gaussians: Gaussians) -> Float[Tensor, "2 3"]:
    """Find the low and the high corner, m, of the box about nearly all splats, without strays."""
    corners = np.quantile(gaussians.means.numpy(), BOX_SHARE, axis=0)
    return torch.from_numpy(corners.astype(np.float32))
