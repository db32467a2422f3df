"""Body model files of the user: SMPL, SMPL-H, SMPL-X as .npz or .pkl. Never shipped."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from numpy import ndarray

from ash_core.errors import InputError
from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS, BodyKind
from ash_core.files.io import bad, show
from ash_core.files.npz import Npz
from ash_core.files.restricted_pickle import read_pickle

MAX_VERTICES: Final = 500_000
MAX_FACES: Final = 1_000_000
MAX_SHAPES: Final = 1000
"""Bounds on what a file may say of its size."""
SHAPES_OF_SMPLX: Final = 300
"""Shape directions of SMPL-X before those of expressions, in a file of both."""
SMALL_SMPLX: Final = (20, 10)
"""Directions of the small files of SMPL-X, and the shapes before the expressions in them."""
_NO_PARENT: Final = 4294967295
_WEIGHT_TOLERANCE: Final = 1e-2
_UV_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class BodyModel:
    """Content of a body model file. float64, m, Y up; vertices in the file's order."""

    path: Path
    kind: BodyKind
    template: Float[ndarray, "V 3"]
    faces: Int[ndarray, "F 3"]
    shape_dirs: Float[ndarray, "V 3 B"]
    """Displacement of the vertices for each shape coefficient."""
    joint_regressor: sp.csr_matrix
    """[J, V]: joints of the rest pose = regressor @ vertices."""
    weights: Float[ndarray, "V J"]
    """Skinning weights; rows sum to 1."""
    hand_components: Float[ndarray, "2 C 45"] | None = None
    """Principal components of left and right hand."""
    hand_means: Float[ndarray, "2 45"] | None = None
    corner_uvs: Float[ndarray, "F 3 2"] | None = None
    """Texture coordinates of each face corner, v up, in 0 to 1; None where the file has none."""

    def shaped(self, betas: Float[ndarray, "B"]) -> Float[ndarray, "V 3"]:
        """Return the vertices of a shape in the rest pose; missing coefficients are 0."""
        count = min(len(betas), self.shape_dirs.shape[-1])
        return self.template + self.shape_dirs[..., :count] @ np.asarray(betas)[:count]

    def joints(self, vertices: Float[ndarray, "V 3"]) -> Float[ndarray, "J 3"]:
        """Return the joints' places in the rest pose of shaped vertices."""
        return self.joint_regressor @ vertices


def read_body_model(path: Path | str, gender: str = "", kind: BodyKind | None = None) -> BodyModel:
    """Read a body model file, or the one that a folder holds; `path` of the result names it.

    gender, kind: those of the poses, as `find_body_model` takes them; of a file they are not
    checked. Pose-dependent shapes and expressions are not read. Raises: InputError.

    >>> from ash_core.files.body_poses import BODY_JOINTS
    >>> [len(joints) for joints in BODY_JOINTS.values()]
    [24, 52, 55]
    """
    # Joints first: they decide the kind.
    file = find_body_model(Path(path), gender, kind)
    source = _Source(file)
    own_kind = _kind(source)
    joints = len(BODY_JOINTS[own_kind])

    # Surface.
    template = source.numbers("v_template", ("V", 3))
    count = len(template)
    if not 3 <= count <= MAX_VERTICES:
        raise source.bad("v_template", f"3 to {MAX_VERTICES} vertices", str(count))
    faces = _indices(source, "f", count)

    # Shapes, joints, skin.
    shape_dirs = source.numbers("shapedirs", (count, 3, "B"))
    if not 1 <= shape_dirs.shape[-1] <= MAX_SHAPES:
        raise source.bad("shapedirs", f"1 to {MAX_SHAPES} directions", str(shape_dirs.shape[-1]))
    if own_kind == "smplx":
        small, shapes = SMALL_SMPLX
        shapes = shapes if shape_dirs.shape[-1] == small else SHAPES_OF_SMPLX
        shape_dirs = np.ascontiguousarray(shape_dirs[..., :shapes])
    regressor = _regressor(source, joints, count)
    weights = source.numbers("weights", (count, joints))
    total = weights.sum(1, keepdims=True)
    if weights.min() < -_WEIGHT_TOLERANCE or np.abs(total - 1.0).max() > _WEIGHT_TOLERANCE:
        worst = float(total[np.abs(total - 1.0).argmax(), 0])
        raise source.bad("weights", "weights of 0 or more that sum to 1", f"a sum of {worst:.4g}")
    weights = np.maximum(weights, 0.0)

    # Hands and texture coordinates, where the file has them.
    hands = _hands(source) if own_kind != "smpl" else (None, None)
    return BodyModel(
        path=file,
        kind=own_kind,
        template=template,
        faces=faces,
        shape_dirs=shape_dirs,
        joint_regressor=regressor,
        weights=weights / weights.sum(1, keepdims=True),
        hand_components=hands[0],
        hand_means=hands[1],
        corner_uvs=_corner_uvs(source, len(faces)),
    )


_NAMES: Final = re.compile(r"(smplx|smplh|smpl|basicmodel|model)[^/]*\.(npz|pkl)", re.IGNORECASE)


_KINDS: Final[tuple[BodyKind, ...]] = ("smplx", "smplh", "smpl")
"""Kinds of bodies, the fullest first: a name that holds one holds the last as well."""


def find_body_model(path: Path, gender: str = "", kind: BodyKind | None = None) -> Path:
    """Return the file itself, or the one of a folder or its subfolders that fits best.

    SMPL-X before SMPL-H before SMPL; then the gender, then neutral; then .npz. With a kind, its
    files of exactly the gender count, neutral for none: shapes fit no other. Raises: InputError.
    """
    if not path.is_dir():
        if not path.is_file():
            raise bad(path, None, "expected a body model, .npz or .pkl, found nothing there")
        if path.suffix.lower() not in (".npz", ".pkl"):
            text = f"expected a body model, .npz or .pkl, got {show(path.suffix)}"
            raise bad(path, None, text)
        return path
    files = [*path.glob("*"), *path.glob("*/*")]
    files = [file for file in files if _NAMES.fullmatch(file.name) and file.is_file()]
    gender = gender.lower() or ("neutral" if kind else "")

    def rank(file: Path) -> tuple[int, bool, bool, bool, str]:
        name = "/".join(file.relative_to(path).parts).lower()
        place = next((n for n, own in enumerate(_KINDS) if own in name), len(_KINDS))
        fits = bool(gender and re.search(rf"(?<![a-z]){gender}", name))
        is_other = not fits and "neutral" not in name
        return place, not fits, is_other, file.suffix.lower() != ".npz", name

    if kind is not None:
        files = [file for file in files if rank(file)[:2] == (_KINDS.index(kind), False)]
    if not files:
        name = f"{kind or 'smplx'}_{gender or 'neutral'}".upper()
        text = f"expected a body model, such as {name}.npz, in the folder, found none"
        raise bad(path, None, text)
    return min(files, key=rank)


class _Source:
    """Entries of a file of either kind, checked as they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._npz: Npz | None = None
        self._entries: Mapping[str, object] = {}
        if path.suffix.lower() == ".npz":
            self._npz = Npz(path)
        else:
            content = read_pickle(path)
            if not isinstance(content, dict):
                text = f"expected a dictionary of a body model, got {type(content).__name__}"
                raise bad(path, None, text)
            self._entries = {str(key): value for key, value in content.items()}

    def __contains__(self, name: str) -> bool:
        return name in (self._entries if self._npz is None else self._npz)

    def bad(self, name: str, expected: str, actual: str) -> InputError:
        """Make the error of an entry."""
        return bad(self.path, None, f"{name}: expected {expected}, got {actual}")

    def raw(self, name: str, shape: tuple[int | str, ...]) -> object:
        """Return an entry; an array of an .npz is not read if its shape does not fit."""
        if name not in self:
            keys = self._npz.names if self._npz is not None else tuple(self._entries)
            listed = ", ".join(show(key) for key in keys[:12]) or "none"
            raise bad(self.path, None, f"expected {name} of a body model, got the keys {listed}")
        if self._npz is None:
            return self._entries[name]
        if not _fits(self._npz.shape(name), shape):
            raise self.bad(name, _text(shape), _text(self._npz.shape(name)))
        return self._npz.read(name)

    def numbers(self, name: str, shape: tuple[int | str, ...]) -> np.ndarray:
        """Return an entry as finite float64; letters stand for any length."""
        value = self.raw(name, shape)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
            raise self.bad(name, "an array of numbers", _named(value))
        if not _fits(value.shape, shape):
            raise self.bad(name, _text(shape), _text(value.shape))
        numbers = np.array(value, np.float64)
        if not np.isfinite(numbers).all():
            raise self.bad(name, "finite numbers", "NaN or infinity")
        if value.dtype.kind == "f" and np.abs(numbers).max(initial=0.0) > 1e6:
            raise self.bad(name, "numbers below 1e6", f"{np.abs(numbers).max():.4g}")
        return numbers


def _named(value: object) -> str:
    is_array = isinstance(value, np.ndarray)
    return f"an array of {value.dtype}" if is_array else f"a {type(value).__name__}"


def _fits(actual: tuple[int, ...], expected: tuple[int | str, ...]) -> bool:
    return len(actual) == len(expected) and all(
        isinstance(e, str) or a == e for a, e in zip(actual, expected, strict=True)
    )


def _text(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _kind(source: _Source) -> BodyKind:
    """Read the tree of joints, which must be one of those known."""
    table = source.numbers("kintree_table", (2, "J"))
    count = table.shape[1]
    kinds = [kind for kind in get_args(BodyKind) if len(BODY_JOINTS[kind]) == count]
    if not kinds:
        expected = "24, 52 or 55 joints (SMPL, SMPL-H, SMPL-X)"
        raise source.bad("kintree_table", expected, str(count))
    kind: BodyKind = kinds[0]
    parents = np.where(table[0] == _NO_PARENT, -1, table[0])
    wrong = np.flatnonzero(parents != np.array(BODY_PARENTS[kind]))
    if len(wrong) or not np.array_equal(table[1], np.arange(count)):
        joint = int(wrong[0]) if len(wrong) else int((table[1] != np.arange(count)).argmax())
        expected = f"parents of {kind}, {BODY_PARENTS[kind][joint]} for joint {joint}"
        raise source.bad("kintree_table", expected, f"{parents[joint]:g}")
    return kind


def _indices(source: _Source, name: str, count: int) -> np.ndarray:
    """Read triangles [F, 3] as int64 indices below `count`."""
    numbers = source.numbers(name, ("F", 3))
    if not 1 <= len(numbers) <= MAX_FACES:
        raise source.bad(name, f"1 to {MAX_FACES} triangles", str(len(numbers)))
    indices = numbers.astype(np.int64)
    if (indices != numbers).any() or indices.min() < 0 or indices.max() >= count:
        actual = f"{numbers.min():g} to {numbers.max():g}"
        raise source.bad(name, f"indices 0 to {count - 1}", actual)
    return indices


def _regressor(source: _Source, joints: int, vertices: int) -> sp.csr_matrix:
    """Read the regressor [J, V], dense or sparse."""
    value = source.raw("J_regressor", (joints, vertices))
    if isinstance(value, sp.csr_matrix):
        matrix = sp.csr_matrix(value, dtype=np.float64)
        shape = tuple(matrix.shape or ())
        if shape != (joints, vertices):
            raise source.bad("J_regressor", _text((joints, vertices)), _text(shape))
        if not np.isfinite(matrix.data).all():
            raise source.bad("J_regressor", "finite numbers", "NaN or infinity")
        return matrix
    return sp.csr_matrix(source.numbers("J_regressor", (joints, vertices)))


def _hands(source: _Source) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read components [2, C, 45] and means [2, 45] of the hands; None where there are none."""

    def pair(name: str, shape: tuple[int | str, ...]) -> np.ndarray | None:
        if f"{name}l" not in source and f"{name}r" not in source:
            return None
        left, right = (source.numbers(f"{name}{letter}", shape) for letter in "lr")
        if left.shape != right.shape:
            raise source.bad(f"{name}r", _text(left.shape), _text(right.shape))
        return np.stack([left, right])

    return pair("hands_components", ("C", 45)), pair("hands_mean", (45,))


def _corner_uvs(source: _Source, n_faces: int) -> np.ndarray | None:
    """Read the texture coordinates [F, 3, 2] of the corners; None where there are none."""
    if "vt" not in source or "ft" not in source:
        return None
    uvs = source.numbers("vt", ("T", 2))
    corners = _indices(source, "ft", len(uvs))
    if len(corners) != n_faces:
        raise source.bad("ft", f"{n_faces} triangles, as in f", str(len(corners)))
    if len(uvs) and not (uvs.min() >= -_UV_TOLERANCE and uvs.max() <= 1.0 + _UV_TOLERANCE):
        raise source.bad("vt", "coordinates in 0 to 1", f"{uvs.min():.4g} to {uvs.max():.4g}")
    return uvs.clip(0.0, 1.0)[corners]
