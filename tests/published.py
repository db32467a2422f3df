"""The published numbers as tests see them: arrays that know which of them were compared."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Four times the float32 noise that README.md of the reference lists (max |f32 - f64|), mm and rad.
JOINTS_MM = 4 * 0.0011
DQS_MM = 4 * 0.0014
LBS_MM = 4 * 0.00056
POSED_TEMPLATE_MM = 4 * 0.0015
PICKED_MM = 4 * 0.0014
PICKED_RAD = 4 * 4.7e-5
SPATIAL = 4 * 6.8e-7
DELTA = 4 * 1.7e-8
POSED_MM = 4 * 0.0017
CANONICAL_MM = 4 * 0.00037
DUAL_MM = 4 * 0.0007
REAL = 4 * 3.1e-7
TRANSFORM_MM = 4 * 0.0013
CONDITION_MM = 4 * 0.0013
CANONICAL_MAP_MM = 4 * 0.00029
NORMALS = 4 * 0.00027
UNET = 4 * 1.3e-5


def reference_folder() -> Path:
    """Where the published numbers are, or would be: ASH_REFERENCE, else beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "reference"
    return Path(os.environ.get("ASH_REFERENCE", beside))


class Arrays:
    """An .npz whose arrays must all be read."""

    def __init__(self, path: Path) -> None:
        self._npz = np.load(path)
        self.unread = set(self._npz.files)

    def __getitem__(self, key: str) -> np.ndarray:
        self.unread.discard(key)
        return self._npz[key]


@contextmanager
def arrays(path: Path) -> Iterator[Arrays]:
    """Open an .npz; at the end every array must have been read."""
    opened = Arrays(path)
    yield opened
    assert not opened.unread, f"{path.name}: not compared: {sorted(opened.unread)}"


def close(got: Tensor | np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Compare with an absolute tolerance; says the largest difference."""
    got = got.detach().numpy() if isinstance(got, Tensor) else got
    assert got.shape == want.shape, (got.shape, want.shape)
    worst = float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0.0))
    assert worst <= tolerance, f"largest difference {worst:.3g} > {tolerance:.3g}"


def in_mm(transform: Tensor) -> np.ndarray:
    """A transform in m as the published one in mm."""
    result = transform.detach().numpy().copy()
    result[..., :3, 3] *= 1000
    return result


@cache
def _seeded() -> ModuleType:
    path = Path(__file__).parent / "golden" / "seeded_weights.py"
    spec = importlib.util.spec_from_file_location("seeded_weights", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)  # a U-Net's are 124 MB
def seeded_weights(name: str) -> dict[str, Tensor]:
    """Load the random weights of a published network, `spatial_gcn`, `unet_geometry`, ..."""
    weights: dict[str, Any] = _seeded().load(name)
    return {key: torch.from_numpy(np.asarray(value)) for key, value in weights.items()}
