"""Ground truth beyond a real stage: true surface and depth of every frame.

truth/surface.npz                   faces, corner_uvs, materials; depth_unit_m
truth/meshes/FFFFFF.npz             vertices, normals: body frame, m
truth/depth/FFFFFF/depth_c_CCC_f_FFFFFF.png   view depth at pixels' centres, in depth_unit_m
"""

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as PillowImage

from ash_core.files.dataset import TRUTH
from ash_core.files.io import write_atomic
from ash_core.studio.truth.true_surface import TrueFrame, TrueSurface

DEPTH_UNIT_M: Final = 1e-4
"""Step of a 16-bit depth image, which reaches 6.5 m; ten times this for larger stages."""


def truth_mesh(folder: Path, frame: int) -> Path:
    """Return the path of a frame's true surface: vertices and normals, body frame, m."""
    return folder / TRUTH / "meshes" / f"{frame:06d}.npz"


def truth_depth(folder: Path, camera: int, frame: int) -> Path:
    """Return the path of the true surface's view depth at pixels' centres, 16 bits."""
    name = f"depth_c_{camera:03d}_f_{frame:06d}.png"
    return folder / TRUTH / "depth" / f"{frame:06d}" / name


def depth_unit(furthest_m: float) -> float:
    """Choose the step of depth images for the farthest distance, m."""
    return DEPTH_UNIT_M if furthest_m < 65000 * DEPTH_UNIT_M else 10 * DEPTH_UNIT_M


def write_surface(folder: Path, surface: TrueSurface, unit_m: float) -> None:
    """Write the constants of all frames."""
    write_npz(
        folder / TRUTH / "surface.npz",
        faces=surface.faces,
        corner_uvs=surface.corner_uvs,
        materials=surface.materials,
        depth_unit_m=np.array(unit_m),
    )


def write_truth(folder: Path, frame: int, true: TrueFrame) -> None:
    """Write the mesh of a frame."""
    write_npz(truth_mesh(folder, frame), vertices=true.vertices, normals=true.normals)


def write_depth(path: Path, depth: np.ndarray, unit_m: float) -> None:
    """Write a depth image, 0 outside the person."""
    steps = np.minimum(depth / unit_m + 0.5, 65535).astype(np.uint16)
    buffer = io.BytesIO()
    PillowImage.fromarray(steps).save(buffer, "PNG", compress_level=1)
    write_atomic(path, buffer.getvalue())


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays by name, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())
