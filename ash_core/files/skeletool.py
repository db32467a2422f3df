"""Skeletool's text files: .skeleton, .skin, .motion and .character. Millimetres there, metres here.

Source: the layout of the DynaCap / DeepCharacters data; nothing else documents it.
"""

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import FPS, MM_PER_M
from ash_core.files.io import (
    LineReader,
    bad,
    check_header,
    finite_float32,
    parse_number,
    read_lines,
    show,
    write_text,
)
from ash_core.records import Motion, Skeleton, Skinning

MAX_JOINTS = 4096
"""Upper bound on joints and on dofs: the dof matrix is dense."""
MAX_BONES_PER_VERTEX = 64
WEIGHT_TOLERANCE = 1e-2
"""Largest error of a vertex's skinning weights, which sum to one. Published files are within
5e-4."""

MOTION_HEADER: Final = "Skeletool Motion File"
MOTION_FPS: Final = (0.1, 10_000.0)
"""Range of a motion's frame rate, 1/s."""
POSE_ANGLES = "poseAngles.motion"
NORMALISED_ANGLES = "poseAnglesRotationNormalized.motion"


@dataclass(frozen=True)
class CharacterFiles:
    """Paths of the files that one `.character` file names."""

    skeleton: Path
    mesh: Path
    skin: Path
    pose: Path
    """Path of the rest pose: the first frame of a motion."""


# ---- .skeleton ----


def read_skeleton(path: Path | str) -> Skeleton:
    """Read a `.skeleton`. Parents must come before their children; markers are skipped."""
    reader = LineReader(path)
    reader.header("Skeletool Skeleton")
    joints: list[_Joint] | None = None
    dofs: list[_Dof] | None = None
    while (line := reader.peek()) is not None:
        section, colon, count = (part.strip() for part in line.partition(":"))
        if not colon:  # entries of unused sections: markers, scaling joints, textures
            reader.next("a section")
            if joints is None:
                raise reader.bad(f"expected 'joints: <count>', got {show(line)}")
        elif section.lower() == "joints":
            reader.next("joints")
            if joints is not None:
                raise reader.bad("expected one section 'joints', got a second one")
            joints = _read_joints(reader, reader.count(count, "joints", MAX_JOINTS))
            _expect_section(reader, f"{len(joints)} joints")
        elif section.lower() == "dofs":
            reader.next("dofs")
            if joints is None or dofs is not None:
                raise reader.bad("expected one section 'dofs', after the joints")
            names = {joint.name: index for index, joint in enumerate(joints)}
            dofs = _read_dofs(reader, reader.count(count, "dofs", MAX_JOINTS), names)
            _expect_section(reader, f"{len(dofs)} dofs")
        else:
            reader.next("a section")
    if not joints:
        raise reader.bad("expected a section 'joints' with at least one joint, found none")
    if not dofs:
        raise reader.bad("expected a section 'dofs' with at least one dof, found none")
    return _skeleton(joints, dofs)


def _expect_section(reader: LineReader, entries: str) -> None:
    """Raise InputError if a section continues after the entries that it announced."""
    if (following := reader.peek()) is not None and ":" not in following:
        reader.next("a section")
        raise reader.bad(f"expected a section after the {entries}, got {show(following)}")


@dataclass(frozen=True)
class _Joint:
    name: str
    parent: int
    is_prismatic: bool
    axis: np.ndarray
    offset_mm: np.ndarray


@dataclass(frozen=True)
class _Dof:
    name: str
    limits: tuple[float, float]
    weights: list[tuple[int, float]]


def _read_joints(reader: LineReader, count: int) -> list[_Joint]:
    joints: list[_Joint] = []
    index: dict[str, int] = {}
    for number in range(count):
        tokens = reader.next(f"joint {number + 1} of {count}").split()
        if len(tokens) != 10:
            raise reader.bad(
                f"expected joint {number + 1} of {count} as 'name type parent', three offsets, "
                f"three axis components and a scale, got {len(tokens)} words"
            )
        name, kind, parent = tokens[:3]
        if name in index:
            raise reader.bad(f"expected a new joint name, got {show(name)} again")
        if kind.lower() not in ("revolute", "prismatic"):
            raise reader.bad(f"expected a joint type revolute or prismatic, got {show(kind)}")
        if number == 0 and parent.lower() != "none":
            raise reader.bad(f"expected the parent 'none' for the first joint, got {show(parent)}")
        if number > 0 and parent not in index:
            raise reader.bad(f"expected a parent listed above {show(name)}, got {show(parent)}")
        values = np.array([reader.number(token, "a joint") for token in tokens[3:]])
        length = float(np.linalg.norm(values[3:6]))
        if not 1e-6 < length < 1e6:
            raise reader.bad(f"expected an axis with a direction, got length {length:g}")
        index[name] = number
        joints.append(
            _Joint(
                name=name,
                parent=index[parent] if number else -1,
                is_prismatic=kind.lower() == "prismatic",
                axis=values[3:6] / length,
                offset_mm=values[:3] * values[6],
            )
        )
    return joints


def _read_dofs(reader: LineReader, count: int, joints: dict[str, int]) -> list[_Dof]:
    dofs: list[_Dof] = []
    dof_names: set[str] = set()
    for number in range(count):
        head = reader.next(f"dof {number + 1} of {count}").split()
        if len(head) != 2:
            raise reader.bad(
                f"expected dof {number + 1} of {count} as 'name count', got {len(head)} words"
            )
        if head[0] in dof_names:
            raise reader.bad(f"expected a new dof name, got {show(head[0])} again")
        dof_names.add(head[0])
        links = reader.count(head[1], "joints of the dof", MAX_JOINTS)
        limits = _read_limits(reader)
        weights: list[tuple[int, float]] = []
        for _ in range(links):
            tokens = reader.next(f"a joint of dof {show(head[0])}").split()
            if len(tokens) != 2:
                raise reader.bad(f"expected 'joint weight', got {len(tokens)} words")
            if tokens[0] not in joints:
                raise reader.bad(f"expected a joint of this skeleton, got {show(tokens[0])}")
            weights.append((joints[tokens[0]], reader.number(tokens[1], "a dof weight")))
        dofs.append(_Dof(head[0], limits, weights))
    return dofs


def _read_limits(reader: LineReader) -> tuple[float, float]:
    tokens = reader.next("'limits low high' or 'nolimits'").split()
    if tokens[0].lower() == "nolimits" and len(tokens) == 1:
        return -math.inf, math.inf
    if tokens[0].lower() != "limits" or len(tokens) != 3:
        raise reader.bad(f"expected 'limits low high' or 'nolimits', got {show(' '.join(tokens))}")
    low, high = (reader.number(token, "a dof limit") for token in tokens[1:])
    if low > high:
        raise reader.bad(f"expected limits low <= high, got {low:g} and {high:g}")
    return low, high


def _skeleton(joints: list[_Joint], dofs: list[_Dof]) -> Skeleton:
    is_prismatic = np.array([joint.is_prismatic for joint in joints])
    matrix = np.zeros((len(joints), len(dofs)))
    for column, dof in enumerate(dofs):
        for joint, weight in dof.weights:
            matrix[joint, column] += weight
    matrix[is_prismatic] /= MM_PER_M
    offsets = np.stack([joint.offset_mm for joint in joints]) / MM_PER_M
    return Skeleton(
        joint_names=tuple(joint.name for joint in joints),
        parents=torch.tensor([joint.parent for joint in joints]),
        is_prismatic=torch.from_numpy(is_prismatic),
        axes=torch.from_numpy(np.stack([joint.axis for joint in joints])).float(),
        offsets=torch.from_numpy(offsets).float(),
        dof_names=tuple(dof.name for dof in dofs),
        dof_limits=torch.tensor([dof.limits for dof in dofs]),
        dof_matrix=torch.from_numpy(matrix).float(),
    )


def write_skeleton(path: Path | str, skeleton: Skeleton) -> None:
    """Write a `.skeleton`; scales are 1 (offsets already include them)."""
    names = skeleton.joint_names
    lines = ["Skeletool Skeleton Definition V1.0", f"joints: {len(names)}"]
    for joint, parent in enumerate(skeleton.parents.tolist()):
        kind = "prismatic" if skeleton.is_prismatic[joint] else "revolute"
        values = [*(skeleton.offsets[joint] * MM_PER_M).tolist(), *skeleton.axes[joint].tolist()]
        columns = " ".join(f"{value:>15.9g}" for value in values)
        above = names[parent] if parent >= 0 else "none"
        lines.append(f"  {names[joint]:<24} {kind:<9} {above:<24} {columns}  1.0")
    lines += ["markers: 0", "scaling joints: 0", f"dofs: {len(skeleton.dof_names)}"]
    units = torch.where(skeleton.is_prismatic, MM_PER_M, 1.0)[:, None]
    matrix = skeleton.dof_matrix * units
    for dof, name in enumerate(skeleton.dof_names):
        low, high = skeleton.dof_limits[dof].tolist()
        used = matrix[:, dof].nonzero()[:, 0].tolist()
        lines.append(f"  {name:<24} {len(used)}")
        bounded = math.isfinite(low) and math.isfinite(high)
        lines.append(f"      limits {low:.9g} {high:.9g}" if bounded else "      nolimits")
        lines += [f"      {names[joint]:<24} {matrix[joint, dof].item():.9g}" for joint in used]
    write_text(path, "\n".join(lines) + "\n")


# ---- .skin ----


def read_skin(path: Path | str, skeleton: Skeleton, n_vertices: int | None = None) -> Skinning:
    """Read a `.skin`: the bones and weights of every vertex, each exactly once.

    n_vertices: vertices of the mesh; None: as many as the file lists.
    """
    reader = LineReader(path)
    reader.header("Skeletool character skinning")
    _keyword(reader, "bones:")
    names = tuple(reader.next("the names of the bones").split())
    repeated = next((name for n, name in enumerate(names) if name in names[:n]), None)
    if repeated is not None:
        raise reader.bad(f"expected each bone once, got {show(repeated)} twice")
    joints = bone_joints(names, skeleton)
    unknown = [name for name, joint in zip(names, joints, strict=True) if joint is None]
    if unknown:
        raise reader.bad(
            f"expected bones that are joints of the skeleton, got {show(unknown[0])}"
            + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else "")
        )
    _keyword(reader, "vertex weights:")
    rows = [_skin_row(path, number, text, len(names)) for number, text in reader.rest()]
    expected = len(rows) if n_vertices is None else n_vertices
    order = _vertex_order(path, rows, expected)
    width = max((len(row.bones) for row in rows), default=1)
    if width > MAX_BONES_PER_VERTEX:
        raise bad(path, None, f"expected up to {MAX_BONES_PER_VERTEX} bones a vertex, got {width}")
    bones = np.zeros((len(rows), width), np.int64)
    weights = np.zeros((len(rows), width), np.float32)
    for vertex, row in enumerate(order):
        bones[vertex] = row.bones[0]
        bones[vertex, : len(row.bones)] = row.bones
        weights[vertex, : len(row.bones)] = row.weights
    return Skinning(
        bone_names=names,
        bone_joints=torch.tensor([joint for joint in joints if joint is not None]),
        bones=torch.from_numpy(bones),
        weights=torch.from_numpy(weights),
    )


def bone_joints(bone_names: tuple[str, ...], skeleton: Skeleton) -> list[int | None]:
    """Find the joint that carries each bone: the last one whose name before `_` is the bone's.

    The published search goes down to joint 1 and never looks at joint 0.
    Source: docs/released_behaviour.md A12.
    """
    names = enumerate(skeleton.joint_names)
    carriers = {name.split("_")[0]: joint for joint, name in names if joint > 0}
    return [carriers.get(name) for name in bone_names]


@dataclass(frozen=True)
class _SkinRow:
    line: int
    vertex: int
    bones: list[int]
    weights: list[float]


def _keyword(reader: LineReader, keyword: str) -> None:
    if (line := reader.next(f"'{keyword}'")).lower() != keyword:
        raise reader.bad(f"expected '{keyword}', got {show(line)}")


def _skin_row(path: Path | str, line: int, text: str, n_bones: int) -> _SkinRow:
    tokens = text.split()
    try:
        if "_" in text:
            raise ValueError
        vertex, bones = int(tokens[0]), [int(token) for token in tokens[1::2]]
        weights = [float(token) for token in tokens[2::2]]
    except ValueError:
        raise bad(path, line, f"expected 'vertex bone weight ...', got {show(text)}") from None
    if len(weights) != len(bones) or not bones:
        raise bad(path, line, f"expected pairs 'bone weight', got {len(tokens) - 1} numbers")
    if not all(0 <= bone < n_bones for bone in bones):
        worst = next(bone for bone in bones if not 0 <= bone < n_bones)
        actual = show(str(worst))
        raise bad(path, line, f"expected bones 0 to {n_bones - 1}, got {actual}")
    if len(set(bones)) < len(bones):
        raise bad(path, line, f"expected each bone of vertex {vertex} once, got one twice")
    if not all(map(math.isfinite, weights)):
        raise bad(path, line, "expected finite weights, got NaN or infinity")
    total = sum(weights)
    if not abs(total - 1.0) <= WEIGHT_TOLERANCE:
        raise bad(path, line, f"expected weights of vertex {vertex} that sum to 1, got {total:.6g}")
    if min(weights) < -WEIGHT_TOLERANCE:
        raise bad(path, line, f"expected weights of 0 or more, got {min(weights):.6g}")
    return _SkinRow(line, vertex, bones, weights)


def _vertex_order(path: Path | str, rows: list[_SkinRow], n_vertices: int) -> list[_SkinRow]:
    by_vertex: dict[int, _SkinRow] = {}
    for row in rows:
        if not 0 <= row.vertex < n_vertices:
            actual = show(str(row.vertex)[:40])
            raise bad(path, row.line, f"expected vertices 0 to {n_vertices - 1}, got {actual}")
        if row.vertex in by_vertex:
            first = by_vertex[row.vertex].line
            raise bad(path, row.line, f"expected a new vertex, got {row.vertex} of line {first}")
        by_vertex[row.vertex] = row
    if not rows or len(by_vertex) != n_vertices:
        missing = next((v for v in range(n_vertices) if v not in by_vertex), 0)
        raise bad(
            path,
            rows[-1].line if rows else None,
            f"expected {n_vertices} vertices, got {len(rows)}; the first missing one is {missing}",
        )
    return [by_vertex[vertex] for vertex in range(n_vertices)]


def write_skin(path: Path | str, skinning: Skinning) -> None:
    """Write a `.skin` without the padding (the first bone again, at weight 0)."""
    lines = ["Skeletool character skinning file V1.0", "bones:"]
    lines += ["  " + " ".join(skinning.bone_names), "vertex weights:"]
    rows = zip(skinning.bones.tolist(), skinning.weights.tolist(), strict=True)
    for vertex, (bones, weights) in enumerate(rows):
        used = len(bones)
        while used > 1 and weights[used - 1] == 0.0 and bones[used - 1] == bones[0]:
            used -= 1
        pairs = zip(bones[:used], weights[:used], strict=True)
        lines.append(f"{vertex} " + " ".join(f"{bone} {weight:.9g}" for bone, weight in pairs))
    write_text(path, "\n".join(lines) + "\n")


# ---- .motion ----

FACE_DOFS: Final = (
    *("left_eye_yaw", "left_eye_pitch", "left_blink"),
    *("right_eye_yaw", "right_eye_pitch", "right_blink", "jaw_open"),
)
"""Last dofs of the studio's actors, which actors of before lacked."""


def has_face(skeleton: Skeleton) -> bool:
    """Tell whether a skeleton ends in the dofs of eyes, lids and jaw."""
    return skeleton.dof_names[-len(FACE_DOFS) :] == FACE_DOFS


def read_motion(
    path: Path | str, skeleton: Skeleton, normalised_path: Path | None = None
) -> Motion:
    """Read a `.motion`: one pose a line, after a column with the frame's number.

    The header states a rate other than 25 frames a second; published files state none.
    normalised_path: the published normalised poses, three rows a frame. Beside a
    `poseAngles.motion`, `poseAnglesRotationNormalized.motion` is read if it exists. Motions of
    actors that had no `FACE_DOFS` leave these at 0.
    """
    path = Path(path)
    dofs, fps = _read_rows(path, skeleton)
    normalised, beside = None, normalised_path
    if beside is None and path.name == POSE_ANGLES:
        beside = path.with_name(NORMALISED_ANGLES)
    if beside is not None and (normalised_path is not None or beside.is_file()):
        rows, _ = _read_rows(beside, skeleton)
        if len(rows) != 3 * len(dofs):
            raise bad(
                beside,
                None,
                f"expected {3 * len(dofs)} rows (3 for each frame of {path.name}), got {len(rows)}",
            )
        normalised = torch.from_numpy(rows.reshape(len(dofs), 3, -1))
    return Motion(torch.from_numpy(dofs), normalised=normalised, fps=fps, name=path.stem)


def _read_rows(path: Path, skeleton: Skeleton) -> tuple[np.ndarray, float]:
    """Read the numbers [F, D] float64 of a motion file, without its first column, and its rate."""
    lines = read_lines(path)
    header = next((n for n, line in enumerate(lines) if line.strip()), 0)
    fps = _read_rate(path, header + 1, lines[header].strip())
    body = [(n, line) for n, line in enumerate(lines[header + 1 :], header + 2) if line.strip()]
    if not body:
        raise bad(path, header + 1, "expected at least one frame after the header, found none")
    n_dofs, n_face = len(skeleton.dof_names), len(FACE_DOFS)
    if has_face(skeleton) and len(body[0][1].split()) == n_dofs - n_face + 1:
        return np.pad(_parse_rows(path, body, n_dofs - n_face), ((0, 0), (0, n_face))), fps
    return _parse_rows(path, body, n_dofs), fps


def _parse_rows(path: Path, body: list[tuple[int, str]], n_dofs: int) -> np.ndarray:
    """Parse lines with their numbers: dofs [F, D] float64."""
    if len(body[0][1].split()) == n_dofs + 1:  # before a parser allocates for the file's width
        try:
            rows = np.loadtxt([line for _, line in body], comments=None, ndmin=2)
            if rows.shape[1] == n_dofs + 1 and finite_float32(rows).all():
                return np.ascontiguousarray(rows[:, 1:])
        except ValueError:
            pass  # The fast parser gives no line: the slow one below finds it.
    return np.array([_motion_row(path, number, text, n_dofs) for number, text in body])


_RATE: Final = re.compile(r"\s(\S+) fps(\s|$)")


def _read_rate(path: Path, line: int, header: str) -> float:
    """Read the frame rate in a motion's header, 1/s; 25 where there is none. Raises: InputError."""
    check_header(path, line, header, MOTION_HEADER)
    rate = _RATE.search(header.lower())
    if rate is None:
        return FPS
    low, high = MOTION_FPS
    try:
        fps = parse_number(rate[1])
    except ValueError:
        fps = 0.0
    if not low <= fps <= high:
        text = f"expected {low:g} to {high:g} frames a second in the header"
        raise bad(path, line, f"{text}, got {show(rate[1])}")
    return fps


def _motion_row(path: Path, line: int, text: str, n_dofs: int) -> list[float]:
    """Parse one pose; the frame number before it is dropped."""
    tokens = text.split()
    if len(tokens) != n_dofs + 1:
        raise bad(
            path,
            line,
            f"expected {n_dofs} dofs (the skeleton's) after the frame, got {len(tokens) - 1}",
        )
    try:
        values = [parse_number(token) for token in tokens]
    except ValueError as error:
        raise bad(path, line, f"expected numbers: {show(str(error))}") from None
    if not finite_float32(np.array([values])).all():
        column = next(n for n, value in enumerate(values) if not abs(value) < 3e38)
        place = f"dof {column - 1}" if column else "the frame number"
        raise bad(path, line, f"expected finite numbers, got {show(tokens[column])} in {place}")
    return values[1:]


def write_motion(path: Path | str, dofs: Float[Tensor, "F D"], fps: float = FPS) -> None:
    """Write a `.motion` of poses [F, D]. fps: their rate, 1/s.

    A rate other than 25 stands in the header, before the version: earlier readers pass over it.
    """
    rate = f"{fps:.6g}"
    words = [MOTION_HEADER, *([] if float(rate) == FPS else [f"{rate} fps"]), "V1.0"]
    lines = [" ".join(words)]
    for frame, row in enumerate(dofs.tolist()):
        lines.append(f"{frame:>6} " + " ".join(f"{value:.9g}" for value in row))
    write_text(path, "\n".join(lines) + "\n")


# ---- .character ----


def read_character(path: Path | str) -> CharacterFiles:
    """Read a `.character`; its names are relative to its folder. The files are not opened."""
    reader = LineReader(path)
    reader.header("Skeletool character file")
    keys = [field.name for field in fields(CharacterFiles)]
    paths: dict[str, Path] = {}
    while reader.peek() is not None:
        key = reader.next("a key").lower()
        if key not in keys:
            continue
        value = reader.next(f"the {key} file")
        if value.lower() in keys:
            raise reader.bad(f"expected the name of the {key} file, got the key {show(value)}")
        if key in paths:
            raise reader.bad(f"expected one {key} file, got a second one: {show(value)}")
        paths[key] = Path(path).parent / value.replace("\\", "/")
    missing = [key for key in keys if key not in paths]
    if missing:
        raise reader.bad(f"expected files for {', '.join(keys)}; missing: {', '.join(missing)}")
    return CharacterFiles(**paths)


def write_character(path: Path | str, files: CharacterFiles) -> None:
    """Write a `.character`; its files are named relative to its folder and must be under it."""
    lines = ["skeletool character file v1.0"]
    for key in fields(CharacterFiles):
        file = Path(getattr(files, key.name))
        try:
            name = file.resolve().relative_to(Path(path).resolve().parent)
        except ValueError:
            text = f"expected the {key.name} file in its folder, got {file}"
            raise bad(path, None, text) from None
        lines += [key.name, f"  {name.as_posix()}"]
    write_text(path, "\n".join(lines) + "\n")
