"""Pose files of the SMPL family: AvatarReX, THuman4, AMASS, AIST++, EasyMocap, MVHumanNet.

Source: the public loaders of these data; the keys say which file it is, not its name.
"""

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.errors import InputError
from ash_core.files.body_poses import BODY_JOINTS, BodyKind, BodyPoses
from ash_core.files.io import (
    bad,
    finite_float32,
    is_kind,
    read_json,
    show,
    write_atomic,
)
from ash_core.files.npz import Npz
from ash_core.files.restricted_pickle import read_pickle

POSE_SUFFIXES: Final = (".npz", ".pkl")
"""Names of single files of poses; a folder holds a .json or .pkl a frame."""
MAX_FRAMES: Final = 300_000
MAX_NUMBERS: Final = 60_000_000
"""Upper bounds on frames, and on the numbers of an array."""
MAX_FILES: Final = 100_000
"""Upper bound on the files of a folder."""
FPS_RANGE: Final = (0.1, 10_000.0)
AIST_FPS: Final = 60.0
"""Rate of AIST++, which its files do not state. Source: its paper and API."""
SAME_BETAS: Final = 1e-4

_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "poses": ("poses", "smpl_poses", "fullpose", "pose"),
    "root": ("global_orient", "root_orient"),
    "body": ("body_pose", "pose_body"),
    "jaw": ("jaw_pose", "pose_jaw"),
    "eyes": ("pose_eye",),
    "left eye": ("leye_pose",),
    "right eye": ("reye_pose",),
    "hands": ("pose_hand",),
    "left hand": ("left_hand_pose",),
    "right hand": ("right_hand_pose",),
    "translation": ("transl", "trans", "smpl_trans"),
    "Rh": ("Rh",),
    "Th": ("Th",),
    "betas": ("betas", "shapes"),
    "expression": ("expression", "expressions"),
    "scaling": ("smpl_scaling",),
    "scale": ("scale",),
    "fps": ("mocap_frame_rate", "mocap_framerate", "frame_rate", "framerate", "fps"),
    "gender": ("gender",),
    "model": ("surface_model_type",),
}
"""Keys of the files by what they hold; the first one that is there counts."""
_TEXTS: Final = ("gender", "model")
_OF_WIDTH: Final[dict[int, BodyKind]] = {72: "smpl", 156: "smplh", 165: "smplx", 66: "smplh"}
"""Kind of body by the numbers a frame; 66 are the body without hands."""
_OF_EASYMOCAP: Final[dict[int, BodyKind]] = {72: "smpl", 78: "smplh", 87: "smplx"}
"""The same beside Rh and Th, with hands as 6 coefficients each. Source: EasyMocap's docs."""
_EASYMOCAP_PCA: Final = 6
_HAND: Final = 45
_BODY: Final = 66


def read_body_poses(path: Path | str) -> BodyPoses:
    """Read a file of body poses (.npz, .pkl, .json), or a folder with one a frame.

    Frames of a file count from 0, those of a folder are numbered by their names. Radians, metres,
    axes as in the file. Raises: InputError.
    """
    path = Path(path)
    if is_kind(Path.is_dir, path):
        return _read_folder(path)
    if path.suffix.lower() == ".json":
        return _of_frames(path, [(0, path)])
    return poses_of_arrays(path, _read_arrays(path))


def choose_frames(poses: BodyPoses, numbers: Sequence[int], path: Path | str) -> BodyPoses:
    """Return the poses of some frames of a capture, in this order.

    path: file to name in errors. Raises: InputError, for a frame without a pose.
    """
    places = {number: row for row, number in enumerate(poses.frames)}
    missing = [number for number in numbers if number not in places]
    if missing:
        held = f"{len(places)} poses, frames {poses.frames[0]} to {poses.frames[-1]}"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise bad(path, None, f"expected a pose of frame {missing[0]}{more}, got {held}")
    rows = [places[number] for number in numbers]
    return take_rows(poses, rows)


def take_rows(poses: BodyPoses, rows: Sequence[int]) -> BodyPoses:
    """Return the poses of some rows, counted from 0."""
    chosen = list(rows)
    return replace(
        poses,
        rotations=poses.rotations[chosen],
        translations=poses.translations[chosen],
        frames=tuple(poses.frames[row] for row in chosen),
        expressions=None if poses.expressions is None else poses.expressions[chosen],
        hand_pca=None if poses.hand_pca is None else poses.hand_pca[chosen],
    )


# ---- from arrays ----


def poses_of_arrays(
    path: Path | str, arrays: Mapping[str, Any], frames: Sequence[int] | None = None
) -> BodyPoses:
    """Make poses of the arrays of any of the known files, by their keys.

    path: named in errors. frames: numbers of the frames; None: from 0. Raises: InputError.
    """
    parts = _Parts(path, arrays)
    # Whole poses first: newer AMASS files hold both, the same numbers.
    if parts.has("poses"):
        kind, rotations, pca = parts.whole_poses()
    elif parts.has("root") and parts.has("body"):
        kind, rotations, pca = parts.separate_poses()
    else:
        keys = ", ".join(show(str(key)) for key in list(arrays)[:12]) or "none"
        text = "expected body poses: poses; global_orient and body_pose; root_orient and pose_body"
        raise bad(path, None, f"{text}; or smpl_poses; got the keys {keys}")
    # Where the body stands.
    notes: list[str] = []
    translations, root_rule = parts.places(notes)
    if root_rule == "origin":
        rotations = parts.with_root(rotations)
    # Shape, rate and the rest.
    scale = 1.0 if parts.has("scaling") else parts.number("scale", 1.0, (1e-6, 1e6))
    fps = parts.number("fps", AIST_FPS if parts.has("scaling") else None, FPS_RANGE)
    numbers = tuple(range(parts.frames)) if frames is None else tuple(frames)
    assert len(numbers) == parts.frames, (len(numbers), parts.frames)
    return BodyPoses(
        kind=kind,
        rotations=rotations,
        translations=translations,
        root_rule=root_rule,
        betas=parts.betas(notes),
        frames=numbers,
        fps=fps,
        expressions=parts.rows("expression", None, optional=True),
        hand_pca=pca,
        scale=1.0 if scale is None else scale,
        gender=parts.text("gender"),
        notes=tuple(notes),
    )


class _Parts:
    """Arrays of a file under our names, checked as they are taken."""

    def __init__(self, path: Path | str, arrays: Mapping[str, Any]) -> None:
        self.path = path
        self.keys = {
            name: next(key for key in keys if arrays.get(key) is not None)
            for name, keys in _KEYS.items()
            if any(arrays.get(key) is not None for key in keys)
        }
        self.values = {name: arrays[key] for name, key in self.keys.items()}
        self.frames = 0
        """Number of frames, once poses were taken."""

    def has(self, name: str) -> bool:
        return name in self.values

    def bad(self, name: str, text: str) -> InputError:
        """Make the error for an array."""
        return bad(self.path, None, f"{self.keys[name]}: {text}")

    def array(self, name: str) -> Float[ndarray, "..."]:
        """Return an array as float64; its numbers are finite."""
        try:
            values = np.asarray(self.values[name])
        except ValueError:  # rows of different lengths
            raise self.bad(name, "expected an array, got rows of different lengths") from None
        if values.dtype.kind not in "fiu":
            raise self.bad(name, f"expected numbers, got {_kind_text(values.dtype)}")
        if values.size > MAX_NUMBERS:
            raise self.bad(name, f"expected at most {MAX_NUMBERS} numbers, got {values.size}")
        values = values.astype(np.float64)
        if not values.size:
            return values
        rows = values.reshape(len(values) if values.ndim > 1 else 1, -1)
        if not (fine := finite_float32(rows)).all():
            raise self.bad(name, f"expected finite numbers, got others in row {int(fine.argmin())}")
        return values

    def first_rows(self, name: str) -> Float[ndarray, "F n"]:
        """Return the array that says how many frames there are."""
        values = self.array(name)
        values = values[None] if values.ndim == 1 and values.size else values
        self.frames = len(values) if values.ndim and values.size else 0
        if not 1 <= self.frames <= MAX_FRAMES:
            raise self.bad(name, f"expected 1 to {MAX_FRAMES} frames, got {list(values.shape)}")
        return values.reshape(self.frames, -1)

    def rows(
        self, name: str, width: int | None, optional: bool = False
    ) -> Float[ndarray, "F n"] | None:
        """Return an array [F, width]; a single row counts for every frame.

        width: None allows any; an optional array may be missing or empty.
        """
        if not self.has(name):
            if optional:
                return None
            labels = " or ".join(_KEYS[name])
            raise bad(self.path, None, f"expected {labels} beside the other poses, got none")
        values = self.array(name)
        if optional and not values.size:
            return None
        count = 1 if values.ndim < 2 else len(values)
        size = values.size // max(count, 1)
        if count not in (1, self.frames):
            raise self.bad(name, f"expected {self.frames} frames as in the poses, got {count}")
        if not size or (width is not None and size != width):
            numbers = "numbers" if width is None else f"{width} numbers"
            raise self.bad(name, f"expected {numbers} a frame, got shape {list(values.shape)}")
        return np.broadcast_to(values.reshape(count, size), (self.frames, size)).copy()

    def whole_poses(self) -> tuple[BodyKind, ndarray, ndarray | None]:
        """Return kind, rotations [F, J, 3] and coefficients of the hands of one array of poses."""
        values = self.first_rows("poses")
        width = values.shape[1]
        kinds = _OF_EASYMOCAP if self.has("Rh") else _OF_WIDTH
        if width not in kinds:
            listed = ", ".join(f"{size} ({kind.upper()})" for size, kind in sorted(kinds.items()))
            raise self.bad("poses", f"expected a frame of {listed} numbers, got {width}")
        kind, pca = kinds[width], None
        rotations = np.zeros((self.frames, 3 * len(BODY_JOINTS[kind])))
        if self.has("Rh") and kind != "smpl":
            end = _BODY + 2 * _EASYMOCAP_PCA
            rotations[:, :_BODY] = values[:, :_BODY]
            rotations[:, _BODY : _BODY + width - end] = values[:, end:]
            pca = values[:, _BODY:end].reshape(self.frames, 2, _EASYMOCAP_PCA)
        else:
            rotations[:, :width] = values
        return kind, rotations.reshape(self.frames, -1, 3), pca

    def separate_poses(self) -> tuple[BodyKind, ndarray, ndarray | None]:
        """Return the same of one array for each part of the body."""
        root = self.first_rows("root")
        if root.shape[1] != 3:
            raise self.bad("root", f"expected 3 numbers a frame, got {root.shape[1]}")
        body = self.rows("body", None)
        assert body is not None
        if body.shape[1] not in (63, 69):
            text = f"expected 63 (SMPL-X, SMPL-H) or 69 (SMPL) numbers a frame, got {body.shape[1]}"
            raise self.bad("body", text)
        if body.shape[1] == 69:
            return "smpl", np.hstack([root, body]).reshape(self.frames, -1, 3), None
        # Face.
        has_face = any(map(self.has, ("jaw", "eyes", "left eye", "right eye", "expression")))
        has_hands = self.has("hands") or self.has("left hand")
        is_smplx = has_face or not has_hands or "smplx" in self.text("model")
        kind: BodyKind = "smplx" if is_smplx else "smplh"
        eyes = self.rows("eyes", 6, optional=True)
        if eyes is None:
            eyes = np.hstack([self.optional(f"{side} eye", 3) for side in ("left", "right")])
        face = [self.optional("jaw", 3), eyes] if is_smplx else []
        # Hands.
        hands = self.rows("hands", 2 * _HAND, optional=True)
        pca = None
        if hands is None:
            sides = [self.rows(f"{side} hand", None, optional=True) for side in ("left", "right")]
            widths = {side.shape[1] for side in sides if side is not None}
            width = widths.pop() if widths else _HAND
            if widths or width > _HAND:
                name = "left hand" if self.has("left hand") else "right hand"
                text = f"expected {_HAND} numbers a frame in both hands, or coefficients"
                raise self.bad(name, f"{text}, got {sorted({width, *widths})}")
            full = [np.zeros((self.frames, width)) if side is None else side for side in sides]
            if width == _HAND:
                hands = np.hstack(full)
            else:
                hands, pca = np.zeros((self.frames, 2 * _HAND)), np.stack(full, 1)
        rotations = np.hstack([root, body, *face, hands])
        return kind, rotations.reshape(self.frames, -1, 3), pca

    def optional(self, name: str, width: int) -> Float[ndarray, "F n"]:
        """Return an array [F, width], zero where it is missing."""
        values = self.rows(name, width, optional=True)
        return np.zeros((self.frames, width)) if values is None else values

    def places(self, notes: list[str]) -> tuple[Float[ndarray, "F 3"], Any]:
        """Return translations, m, and their rule."""
        if self.has("Rh"):
            places = self.rows("Th", 3)
            assert places is not None
            return places, "origin"
        places = self.rows("translation", 3, optional=True)
        if places is None:
            notes.append("no translation in the file: the pelvis stays where it is")
            return np.zeros((self.frames, 3)), "pelvis"
        # Source: AIST++ API and EDGE; the camera's units over the body's scale are metres.
        scaling = self.number("scaling", 1.0, (1e-6, 1e6))
        assert scaling is not None
        return places / scaling, "pelvis"

    def with_root(self, rotations: Float[ndarray, "F J 3"]) -> Float[ndarray, "F J 3"]:
        """Put Rh in the root's place, which is zero beside it."""
        if np.abs(rotations[:, 0]).max() > 1e-6:
            raise self.bad("poses", "expected three zeros first beside Rh, got a turn of the root")
        turns = self.rows("Rh", 3)
        assert turns is not None
        return np.concatenate([turns[:, None], rotations[:, 1:]], 1)

    def betas(self, notes: list[str]) -> Float[ndarray, "B"]:
        """Return one set of shape coefficients; the mean where they change."""
        if not self.has("betas"):
            return np.zeros(0)
        values = self.rows("betas", None, optional=True)
        if values is None:
            return np.zeros(0)
        spread = float(np.ptp(values, axis=0).max())
        if spread > SAME_BETAS:
            notes.append(f"{self.keys['betas']} differ by up to {spread:.2g}: their mean is taken")
        return values.mean(0) if spread > SAME_BETAS else values[0]

    def number(self, name: str, default: float | None, bounds: tuple[float, float]) -> float | None:
        """Return a single number within bounds."""
        if not self.has(name):
            return default
        values = self.array(name)
        low, high = bounds
        value = float(values.flat[0]) if values.size else math.nan
        if not low <= value <= high or np.ptp(values) > 1e-6 * abs(value):
            text = f"expected one number, {low:g} to {high:g}, got {show(str(values.ravel()[:3]))}"
            raise self.bad(name, text)
        return value

    def text(self, name: str) -> str:
        """Return a short text; empty where it is none."""
        value = self.values.get(name, "")
        if isinstance(value, np.ndarray):
            value = value.flat[0] if value.size == 1 else ""
        value = value.decode("latin1") if isinstance(value, bytes) else str(value)
        value = value.strip().lower()
        return value if value.isascii() and value.isprintable() and len(value) < 40 else ""


def _kind_text(dtype: np.dtype) -> str:
    """Describe a type that holds no numbers."""
    return {"O": "objects", "b": "true and false", "U": "text", "S": "text"}.get(
        dtype.kind, show(str(dtype))
    )


# ---- files ----


def _read_arrays(path: Path) -> Mapping[str, Any]:
    """Read the arrays of one file by its first bytes."""
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    if path.suffix.lower() in (".pkl", ".pickle"):
        content = read_pickle(path)
        if not isinstance(content, dict):
            raise bad(path, None, f"expected a dictionary of arrays, got {type(content).__name__}")
        return {str(key): value for key, value in content.items()}
    raise bad(path, None, "expected body poses as .npz, .pkl, .json, or a folder of .json or .pkl")


def _read_npz(path: Path) -> dict[str, ndarray]:
    """Read the arrays of known keys; without any, empty ones of the other keys."""
    archive = Npz(path)
    arrays: dict[str, ndarray] = {}
    for name, keys in _KEYS.items():
        for key in keys:
            if key in archive:
                with suppress(InputError) if name in _TEXTS else nullcontext():
                    arrays[key] = archive.read(key, 8 * MAX_NUMBERS)
    return arrays or {name: np.zeros(0) for name in archive.names}


def _read_folder(folder: Path) -> BodyPoses:
    """Read a folder with a .json or .pkl for each frame, whose names end with its number."""
    for inner in (folder, folder / "smpl", folder / "smplx" / "smpl"):
        for suffix in (".json", ".pkl"):
            files = sorted(inner.glob(f"*{suffix}")) if is_kind(Path.is_dir, inner) else []
            if not files:
                continue
            if len(files) > MAX_FILES:
                raise bad(inner, None, f"expected at most {MAX_FILES} files, got {len(files)}")
            numbered = []
            for order, file in enumerate(files):
                digits = "".join(c if c.isascii() and c.isdigit() else " " for c in file.stem)
                last = digits.split()[-1:] or [str(order)]
                numbered.append((int(last[0][-9:]), file))
            if len({number for number, _ in numbered}) < len(numbered):
                numbered = list(enumerate(files))
            return _of_frames(folder, sorted(numbered))
    raise bad(folder, None, "expected a folder with a .json or .pkl of poses for each frame")


def _of_frames(path: Path, files: Sequence[tuple[int, Path]]) -> BodyPoses:
    """Join the poses of single frames: [(number, file)].

    Of several persons the one in the most frames is taken.
    """
    # The entries of each file, by person.
    entries = [(number, file, _entries(file)) for number, file in files]
    counts = Counter(person for _, _, persons in entries for person in persons)
    if not counts:
        raise bad(path, None, f"expected body poses in {len(files)} files, got none")
    person, held = counts.most_common(1)[0]
    chosen = [
        (number, file, persons[person]) for number, file, persons in entries if person in persons
    ]
    # Every file has the same keys and widths.
    columns: dict[str, list] = {}
    for _, file, entry in chosen:
        names = [name for keys in _KEYS.values() for name in keys if entry.get(name) is not None]
        if columns and set(names) != set(columns):
            odd = ", ".join(sorted(set(names) ^ set(columns)))
            raise bad(file, None, f"expected the keys of the first frame, differs in: {odd}")
        for name in names:
            value = _row(file, name, entry[name])
            column = columns.setdefault(name, [])
            if column and np.shape(column[0]) != np.shape(value):
                text = f"expected {np.size(column[0])} numbers, got {np.size(value)}"
                raise bad(file, None, f"{name}: {text}")
            column.append(value)
    # One array a key.
    arrays: dict[str, Any] = {
        name: column[0] if isinstance(column[0], str) else np.stack(column)
        for name, column in columns.items()
    }
    poses = poses_of_arrays(path, arrays, [number for number, _, _ in chosen])
    notes = list(poses.notes)
    if held < len(files):
        notes.append(f"{len(files) - held} of {len(files)} frames have no pose of this person")
    if len(counts) > 1:
        notes.append(
            f"{len(counts)} persons: {show(str(person))} is taken, who is in {held} frames"
        )
    return replace(poses, notes=tuple(notes))


def _entries(file: Path) -> dict[object, Mapping[str, Any]]:
    """Read the persons of one frame."""
    if file.suffix.lower() == ".pkl":
        return {0: _read_arrays(file)}
    content = read_json(file)
    listed = content.get("annots", [content]) if isinstance(content, dict) else content
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise bad(file, None, "expected a list of persons with Rh, Th, poses and shapes")
    return {
        entry["id"] if isinstance(entry.get("id"), int | str) else order: entry
        for order, entry in enumerate(listed)
    }


def _row(file: Path, name: str, value: object) -> Any:
    """Return the numbers of one frame's array as one row; texts as they are."""
    if name in _TEXTS or isinstance(value, str):
        return str(value)
    try:
        row = np.asarray(value, np.float64).ravel()
    except (ValueError, TypeError, OverflowError):
        raise bad(file, None, f"{name}: expected numbers") from None
    if not np.isfinite(row).all():
        raise bad(file, None, f"{name}: expected finite numbers")
    return row


# ---- writing ----


def write_body_poses(path: Path | str, poses: BodyPoses, layout: Literal["amass", "smplx"]) -> None:
    """Write poses of the rule "pelvis" as an .npz, in the axes that they have.

    layout: amass, poses and trans; smplx, an array for each part of the body, as in AvatarReX.
    Raises: InputError.
    """
    assert poses.root_rule == "pelvis", poses.root_rule
    assert poses.hand_pca is None
    frames = len(poses.rotations)
    flat = poses.rotations.reshape(frames, -1)
    arrays: dict[str, ndarray] = {"betas": np.asarray(poses.betas, np.float64)}
    parts = _parts_of(poses.kind, flat)
    if layout == "amass":
        arrays |= {"poses": flat, "trans": poses.translations}
        arrays |= {"gender": np.array(poses.gender or "neutral")}
        arrays |= {"surface_model_type": np.array(poses.kind)}
        if poses.fps is not None:
            arrays |= {key: np.array(poses.fps) for key in ("mocap_frame_rate", "mocap_framerate")}
        if poses.kind == "smplx":
            hands = np.hstack([parts["left_hand_pose"], parts["right_hand_pose"]])
            eyes = np.hstack([parts["leye_pose"], parts["reye_pose"]])
            arrays |= {"root_orient": parts["global_orient"], "pose_body": parts["body_pose"]}
            arrays |= {"pose_jaw": parts["jaw_pose"], "pose_eye": eyes, "pose_hand": hands}
    else:
        arrays["betas"] = arrays["betas"][None] if len(poses.betas) else np.zeros((1, 10))
        expressions = np.zeros((frames, 10)) if poses.expressions is None else poses.expressions
        arrays |= {**parts, "transl": poses.translations}
        arrays |= {"expression": expressions} if poses.kind == "smplx" else {}
        arrays |= {} if poses.fps is None else {"fps": np.array(poses.fps)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def _parts_of(kind: BodyKind, flat: Float[ndarray, "F n"]) -> dict[str, ndarray]:
    """Split whole poses into the arrays of each part of the body."""
    if kind == "smpl":
        return {"global_orient": flat[:, :3], "body_pose": flat[:, 3:]}
    parts = {"global_orient": flat[:, :3], "body_pose": flat[:, 3:_BODY]}
    if kind == "smplx":
        for n, key in enumerate(("jaw_pose", "leye_pose", "reye_pose")):
            parts[key] = flat[:, _BODY + 3 * n : _BODY + 3 * n + 3]
    parts["left_hand_pose"] = flat[:, -2 * _HAND : -_HAND]
    parts["right_hand_pose"] = flat[:, -_HAND:]
    return parts
