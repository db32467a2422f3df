"""Splats of any program in an avatar's place: .ply, .compressed.ply, .spz, .sog."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ash_core.conventions import R_WORLD_BODY, Up
from ash_core.files.ply import read_ply
from ash_core.files.sog import is_sog, read_sog
from ash_core.files.splat_file import SplatFile, screen
from ash_core.files.spz import read_spz
from ash_core.geometry.axes import UPS, turn_gaussians, world_rotation
from ash_core.records import Gaussians, GraphMesh, Skeleton, Skinning, SplatData, Template
from ash_core.variants import NATIVE

BOX_SHARE: Final = (0.01, 0.99)
"""Quantiles along each axis: what is shown of splats when they are framed."""
STILL_DOFS: Final = 4
"""Dofs of splats: as many as the poses' normalisation asks for; they move nothing."""


def is_splats(path: Path) -> bool:
    """Tell whether a path is a file of splats by its name."""
    return path.suffix.lower() in (".ply", ".spz") or is_sog(path)


def read_splats(path: Path | str) -> SplatFile:
    """Read splats in the file's own axes; what cannot be drawn is left out. Raises: InputError."""
    path = Path(path)
    if is_sog(path):
        return screen(path, read_sog(path))
    return screen(path, read_spz(path) if path.suffix.lower() == ".spz" else read_ply(path))


def load_splats(path: Path | str, up: Up | None = None) -> SplatData:
    """Load splats as an avatar that no pose moves, named after the file.

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
    return make_splat_data(gaussians, name.removesuffix(".compressed"), up, notes)


def turn_splats(data: SplatData, up: Up) -> SplatData:
    """Turn loaded splats to another up axis of their file."""
    gaussians = turn_gaussians(data.splats, world_rotation(up, before=data.up))
    return replace(make_splat_data(gaussians, data.name, up), cameras=data.cameras)


def make_splat_data(
    gaussians: Gaussians, name: str, up: Up, notes: tuple[str, ...] = ()
) -> SplatData:
    """Put Gaussians, world frame, into an avatar's place: its skeleton is the box about them."""
    # Skeleton: the box's corners, whose dofs move nothing.
    corners = _box_in_body(gaussians)
    joints = ("box", *(f"box {n}" for n in range(1, 8)))
    parents = torch.tensor([-1, 0, 0, 1, 0, 1, 2, 3])
    offsets = torch.cat((corners[:1], corners[1:] - corners[parents[1:]]))
    skeleton = Skeleton(
        joint_names=joints,
        parents=parents,
        is_prismatic=torch.zeros(8, dtype=torch.bool),
        axes=torch.tensor([[0.0, 1.0, 0.0]]).repeat(8, 1),
        offsets=offsets,
        dof_names=tuple(f"still {n}" for n in range(STILL_DOFS)),
        dof_limits=torch.zeros(STILL_DOFS, 2),
        dof_matrix=torch.zeros(8, STILL_DOFS),
    )
    # Template: one small triangle, for the parts that need a mesh.
    speck = corners[0] + torch.tensor([[0.0, 0, 0], [1e-3, 0, 0], [0, 1e-3, 0]])
    face = torch.tensor([[0, 1, 2]])
    uvs = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    return SplatData(
        name=name,
        variant=NATIVE.name,
        history_offsets=NATIVE.history_offsets,
        skeleton=skeleton,
        skinning=Skinning(
            ("box",),
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(3, 1, dtype=torch.int64),
            torch.ones(3, 1),
        ),
        template=Template(speck, face, uvs, torch.zeros(1, 1, 3, dtype=torch.uint8)),
        graph=GraphMesh(speck, face),
        rest_dofs=torch.zeros(STILL_DOFS, dtype=torch.float64),
        root_translation=torch.zeros(3),
        atlas_resolution=32,
        splats=gaussians,
        up=up,
        notes=notes,
    )


def _box_in_body(gaussians: Gaussians) -> Tensor:
    """Corners [8, 3], m, body frame, of a box about nearly all splats; strays are left out."""
    means = gaussians.means.numpy()
    low, high = np.quantile(means, BOX_SHARE, axis=0).astype(np.float32)
    bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
    corners = torch.from_numpy(np.where(bits == 1, high, low))
    return corners @ torch.tensor(R_WORLD_BODY)
