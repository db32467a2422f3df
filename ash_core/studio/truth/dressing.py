"""Dressing of an actor, beyond the published formats: loose, glossy and cloth parts.

One file beside the character's others, `dressing.safetensors`. An actor without it plays too:
nothing swings, everything but hands and head is cloth, nothing is glossy.
"""

from dataclasses import dataclass, fields
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
FOLDING = np.array([0.0, 0.0, 0.0, 1.0, 0.75, 0.85, 0.8, 0.0, 0.0])
"""How readily each material folds."""
_TYPES = {
    "loose": np.float32, "partner": np.int64, "inset": np.float32, "solid": np.bool_,
    "open": np.float32, "materials": np.int32, "gloss": np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class Dressing:
    loose: np.ndarray
    """[V] 0: moves as skinning says, to 1: swings freely."""
    partner: np.ndarray
    """[V] of a lining's vertex: the outer one that it follows; -1 elsewhere."""
    inset: np.ndarray
    """[V] how far under its partner, m."""
    solid: np.ndarray
    """[V] the body itself and what fits it closely: what cloth collides with."""
    open: np.ndarray
    """[V] light from all sides in the rest pose, 0 to 1."""
    materials: np.ndarray
    """[F] index into MATERIALS."""
    gloss: np.ndarray
    """[h, w]"""

    @property
    def swings(self) -> np.ndarray:
        """[V] part of the simulated layer: everything but linings."""
        return self.partner < 0

    @property
    def folding(self) -> np.ndarray:
        """[F]"""
        return FOLDING[self.materials]


def plain_dressing(data: AvatarData) -> Dressing:
    """For a character that comes with none."""
    count, faces = len(data.template.vertices), data.template.faces.numpy()
    names = data.skinning.bone_names
    bare = ("Head", "Neck", "LeftHand", "RightHand", "Thumb", "Index", "Middle", "Ring", "Pinky",
            "LeftFoot", "RightFoot", "LeftToe", "RightToe")  # fmt: skip
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
    """Write it; whole or not there."""
    values = {f.name: np.ascontiguousarray(getattr(dressing, f.name), _TYPES[f.name])
              for f in fields(dressing)}  # fmt: skip
    write_atomic(path, save(values))


def load_dressing(path: Path, data: AvatarData) -> Dressing | None:
    """The dressing of a character, or None where there is no such file."""
    if not path.is_file():
        return None
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: expected a safetensors file, {error}") from error
    count, n_faces = len(data.template.vertices), len(data.template.faces)
    for name, kind in _TYPES.items():
        if name not in found or found[name].dtype != kind:
            raise InputError(f"{path}: expected {name} of type {np.dtype(kind)}")
        length = {"materials": n_faces, "gloss": None}.get(name, count)
        if length is not None and found[name].shape != (length,):
            raise InputError(
                f"{path}: expected {name} of length {length}, found {found[name].shape}"
            )
    for name in ("loose", "inset", "open"):
        if not np.isfinite(found[name]).all():
            raise InputError(f"{path}: expected finite numbers in {name}")
    partner, materials = found["partner"], found["materials"]
    if partner.min() < -1 or partner.max() >= count:
        raise InputError(f"{path}: expected partner within the {count} vertices")
    if materials.min() < 0 or materials.max() >= len(MATERIALS):
        raise InputError(f"{path}: expected materials from 0 to {len(MATERIALS) - 1}")
    if found["gloss"].ndim != 2:
        raise InputError(f"{path}: expected gloss [h, w], found {found['gloss'].shape}")
    return Dressing(**{name: found[name] for name in _TYPES})
