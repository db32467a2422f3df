"""Dressing of an actor, beyond the published formats: loose, glossy and cloth parts.

One file beside the character's others, `dressing.safetensors`. An actor without it plays too:
nothing swings, everything but hands and head is cloth, nothing is glossy.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ash_core.errors import InputError
from ash_core.files.io import write_atomic
from ash_core.records import AvatarData

FILE = "dressing.safetensors"
MATERIALS = ("skin", "hair", "eye", "cotton", "wool", "denim", "leather", "rubber", "lining")
SKIN, HAIR, EYE, COTTON, WOOL, DENIM, LEATHER, RUBBER, LINING = range(len(MATERIALS))
RELIEF_M = 2e-5
"""Step of a relief, m: 128 is the surface, 255 is 2.5 mm above it."""
FLAT = 128
FOLDING = np.array([0.0, 0.0, 0.0, 1.0, 0.75, 0.85, 0.8, 0.0, 0.0])
"""Tendency of each material to fold."""
_TYPES = {
    "loose": np.float32, "partner": np.int64, "inset": np.float32, "solid": np.bool_,
    "open": np.float32, "materials": np.int32, "gloss": np.uint8,
    "relief": np.uint8,
}  # fmt: skip
_LATER = ("relief",)
"""Tensors that files of earlier versions lack."""


def _flat() -> np.ndarray:
    return np.full((1, 1), FLAT, np.uint8)


@dataclass(frozen=True)
class Dressing:
    loose: np.ndarray
    """Looseness [V]: 0 moves as skinned, 1 swings freely."""
    partner: np.ndarray
    """Outer vertex [V] that a lining's vertex follows; -1 elsewhere."""
    inset: np.ndarray
    """Depth under its partner [V], m."""
    solid: np.ndarray
    """Mask [V] of the body itself and its close fit, with which cloth collides."""
    open: np.ndarray
    """Light from all sides in the rest pose [V], 0 to 1."""
    materials: np.ndarray
    """[F] index into MATERIALS."""
    gloss: np.ndarray
    """[h, w]"""
    relief: np.ndarray = field(default_factory=_flat)
    """Height of the paint [h, w], in steps of RELIEF_M from FLAT: strands, nails, weave."""

    @property
    def swings(self) -> np.ndarray:
        """Return the mask [V] of the simulated layer: everything but linings."""
        return self.partner < 0

    @property
    def folding(self) -> np.ndarray:
        """Return the tendency to fold [F]."""
        return FOLDING[self.materials]


def plain_dressing(data: AvatarData) -> Dressing:
    """Make the dressing of a character without one."""
    count, faces = len(data.template.vertices), data.template.faces.numpy()
    names = data.skinning.bone_names
    bare = ("Head", "Neck", "Eye", "Lid", "Jaw", "LeftHand", "RightHand", "Thumb", "Index",
            "Middle", "Ring", "Pinky", "LeftFoot", "RightFoot", "LeftToe", "RightToe")  # fmt: skip
    is_bare = np.array([any(part in name for part in bare) for name in names])
    share = (is_bare[data.skinning.bones.numpy()] * data.skinning.weights.numpy()).sum(1)
    return Dressing(
        loose=np.zeros(count, np.float32),
        partner=np.full(count, -1, np.int64),
        inset=np.zeros(count, np.float32),
        solid=np.ones(count, bool),
        open=np.ones(count, np.float32),
        materials=np.where(share[faces].mean(1) > 0.3, SKIN, COTTON).astype(np.int32),
        gloss=np.zeros((1, 1), np.uint8),
    )


def save_dressing(path: Path, dressing: Dressing) -> None:
    """Write a dressing, whole or not at all."""
    values = {f.name: np.ascontiguousarray(getattr(dressing, f.name), _TYPES[f.name])
              for f in fields(dressing)}  # fmt: skip
    write_atomic(path, save(values))


def load_dressing(path: Path, data: AvatarData) -> Dressing | None:
    """Read the dressing of a character; None without the file."""
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: expected a safetensors file, {error}") from error
    count, n_faces = len(data.template.vertices), len(data.template.faces)
    tensors = {**{name: _flat() for name in _LATER}, **tensors}
    for name, kind in _TYPES.items():
        if name not in tensors or tensors[name].dtype != kind:
            raise InputError(f"{path}: expected {name} of type {np.dtype(kind)}")
        length = {"materials": n_faces, "gloss": None, "relief": None}.get(name, count)
        if length is not None and tensors[name].shape != (length,):
            raise InputError(
                f"{path}: expected {name} of length {length}, found {tensors[name].shape}"
            )
    for name in ("loose", "inset", "open"):
        if not np.isfinite(tensors[name]).all():
            raise InputError(f"{path}: expected finite numbers in {name}")
    partner, materials = tensors["partner"], tensors["materials"]
    if partner.min() < -1 or partner.max() >= count:
        raise InputError(f"{path}: expected partner within the {count} vertices")
    if materials.min() < 0 or materials.max() >= len(MATERIALS):
        raise InputError(f"{path}: expected materials from 0 to {len(MATERIALS) - 1}")
    for name in ("gloss", "relief"):
        if tensors[name].ndim != 2 or not tensors[name].size:
            raise InputError(f"{path}: expected {name} [h, w], found {tensors[name].shape}")
    return Dressing(**{name: tensors[name] for name in _TYPES})
