"""Gaussians as a .ply file, in the layout that viewers and editors of splats have in common.

Layout after Kerbl et al., 3D Gaussian Splatting (2023): means in m, logits of opacities, logarithms
of scales, rotations as wxyz, harmonics with all of red before green before blue.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import R_WORLD_BODY
from ash_core.files.text import bad, is_kind, show, write_atomic
from ash_core.records import (
    Gaussians,
    GraphMesh,
    Skeleton,
    Skinning,
    SplatData,
    Template,
    to_device,
)

OPACITY_RANGE = 1e-6, 1 - 1e-6
"""A logit needs an end."""
MOST_SPLATS: Final = 100_000_000
MOST_HEADER_BYTES: Final = 64 << 10
MOST_LOG_SCALE: Final = 20.0
FARTHEST_M: Final = 1e6
"""Beyond these float32 arithmetic of a picture overflows or sees nothing."""
BOX_SHARE: Final = (0.01, 0.99)
"""Quantiles along each axis: what is shown of splats when they are framed."""
STILL_DOFS: Final = 4
"""Of splats: as many as the poses' normalisation asks for; they move nothing."""
NEEDED: Final = (
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
RESTS: Final = tuple(3 * (k - 1) for k in (1, 4, 9, 16))
KINDS: Final = {
    **dict.fromkeys(("float", "float32"), "<f4"),
    **dict.fromkeys(("double", "float64"), "<f8"),
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "<i2"),
    **dict.fromkeys(("ushort", "uint16"), "<u2"),
    **dict.fromkeys(("int", "int32"), "<i4"),
    **dict.fromkeys(("uint", "uint32"), "<u4"),
}


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


# ---- reading ----


def read_ply(path: Path | str) -> Gaussians:
    """Splats of any program that keeps to the common layout, in whatever order it writes them.

    ASCII or binary little endian; harmonics of degree 0 to 3; other properties and elements are
    passed over. Quaternions are made unit. Raises: InputError.
    """
    with _reading(path) as file:
        header = _read_header(path, file)
        names = _columns_of(path, header)
        read = _read_binary if header.binary else _read_ascii
        table = read(path, file, header, names)
    for column, name in enumerate(names):
        if not (fine := np.isfinite(table[:, column])).all():
            row = int((~fine).argmax())
            found = table[row, column]
            raise bad(path, None, f"splat {row}: {name}: expected a finite number, got {found}")
    return _activate(path, torch.from_numpy(table))


def load_splats(path: Path | str) -> SplatData:
    """A .ply as an avatar that no pose moves; named after the file."""
    gaussians, name = read_ply(path), Path(path).stem
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
    speck = corners[0] + torch.tensor([[0.0, 0, 0], [1e-3, 0, 0], [0, 1e-3, 0]])
    face = torch.tensor([[0, 1, 2]])
    uvs = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    return SplatData(
        name=name,
        variant="native",
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
    )


def _box_in_body(gaussians: Gaussians) -> Tensor:
    """[8, 3] m, body frame: a box about nearly all of the splats; strays are left out of it."""
    means = gaussians.means.numpy()
    low, high = np.quantile(means, BOX_SHARE, axis=0).astype(np.float32)
    bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
    corners = torch.from_numpy(np.where(bits == 1, high, low))
    return corners @ torch.tensor(R_WORLD_BODY)


@dataclass(frozen=True)
class _Element:
    """A table of the file."""

    name: str
    count: int
    properties: tuple[tuple[str, str], ...]
    """Name and numpy type; the type of a list is "list"."""

    @property
    def row(self) -> np.dtype:
        return np.dtype([(name, kind) for name, kind in self.properties])


@dataclass(frozen=True)
class _Header:
    binary: bool
    before: tuple[_Element, ...]
    """Elements that stand before the splats."""
    splats: _Element
    bytes: int
    """Length of the header."""


@contextmanager
def _reading(path: Path | str) -> Iterator[BinaryIO]:
    if not is_kind(Path.is_file, Path(path)):
        found = "a folder" if is_kind(Path.is_dir, Path(path)) else "nothing there"
        raise bad(path, None, f"expected a .ply file, found {found}")
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise bad(path, None, f"cannot be read: {error.strerror or error}") from error


def _read_header(path: Path | str, file: BinaryIO) -> _Header:
    begin = file.read(MOST_HEADER_BYTES)
    head, end, _ = begin.partition(b"end_header")
    if not begin.startswith(b"ply") or not end:
        raise bad(path, None, "expected a .ply file, whose header ends with end_header")
    length = begin.find(b"\n", len(head)) + 1
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    elements: list[_Element] = []
    kind = ""
    for number, words in enumerate(lines, 1):
        match words:
            case ["format", kind, _] if kind in ("ascii", "binary_little_endian"):
                pass
            case ["element", name, count] if count.isascii() and count.isdigit():
                if len(count) > 10 or int(count) > MOST_SPLATS:
                    raise bad(path, number, f"expected at most {MOST_SPLATS} of {show(name)}")
                elements.append(_Element(name, int(count), ()))
            case ["property", *kinds, name] if elements and _kind(kinds) is not None:
                last = elements[-1]
                if name in dict(last.properties):
                    raise bad(path, number, f"expected one property {show(name)}, got another")
                properties = (*last.properties, (name, str(_kind(kinds))))
                elements[-1] = replace(last, properties=properties)
            case ["ply"] | ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise bad(
                    path,
                    number,
                    "expected format ascii or binary_little_endian, an element or a property, "
                    f"got {show(' '.join(words))}",
                )
    place = next((n for n, element in enumerate(elements) if element.name == "vertex"), None)
    if place is None or not kind or length == 0:
        raise bad(path, None, "expected a .ply with a format and an element vertex")
    before = tuple(elements[:place])
    return _Header(kind != "ascii", before, elements[place], length)


def _kind(words: list[str]) -> str | None:
    """A property's numpy type; None for a type that there is not."""
    if len(words) == 3 and words[0] == "list" and {*words[1:]} <= KINDS.keys():
        return "list"
    return KINDS.get(words[0]) if len(words) == 1 else None


def _columns_of(path: Path | str, header: _Header) -> list[str]:
    """What is read, in our order: means, colours, opacity, scales, rotation, higher colours."""
    there = dict(header.splats.properties)
    missing = [name for name in NEEDED if name not in there]
    if missing:
        compressed = any(element.name == "chunk" for element in header.before)
        why = " (a compressed .ply: save it uncompressed)" if compressed else ""
        found = show(", ".join(there) or "none")
        raise bad(
            path, None, f"expected splats, missing: {', '.join(missing[:4])}{why}; got {found}"
        )
    rest = [f"f_rest_{n}" for n in range(sum(name.startswith("f_rest_") for name in there))]
    if len(rest) not in RESTS or any(name not in there for name in rest):
        raise bad(
            path, None, f"expected f_rest_0 to _8, _23 or _44, or none; got {len(rest)} of them"
        )
    if header.splats.count == 0:
        raise bad(path, None, "expected splats, got none")
    if "list" in there.values():
        raise bad(path, None, "expected splats of numbers, got lists")
    return [*NEEDED, *rest]


def _read_binary(
    path: Path | str, file: BinaryIO, header: _Header, names: list[str]
) -> Float[np.ndarray, "N c"]:
    start, count = header.bytes, header.splats.count
    for element in header.before:
        if "list" in dict(element.properties).values():
            raise bad(path, None, f"element {show(element.name)}: expected no lists before splats")
    start += sum(element.count * element.row.itemsize for element in header.before)
    row = header.splats.row
    # Before any memory is taken: a header may claim what the file does not hold.
    size, needed = os.fstat(file.fileno()).st_size, start + count * row.itemsize
    if size < needed:
        raise bad(path, None, f"expected {needed} bytes for {count} splats, got {size}")
    rows = np.memmap(file, row, "r", start, (count,))
    table = np.empty((count, len(names)), np.float32)
    with np.errstate(over="ignore"):
        for column, name in enumerate(names):
            table[:, column] = rows[name]
    return table


def _read_ascii(
    path: Path | str, file: BinaryIO, header: _Header, names: list[str]
) -> Float[np.ndarray, "N c"]:
    count, places = header.splats.count, [name for name, _ in header.splats.properties]
    skipped = sum(element.count for element in header.before)
    size = os.fstat(file.fileno()).st_size - header.bytes
    if size < 2 * len(places) * count:  # a digit and a space each
        raise bad(path, None, f"expected {count} lines of {len(places)} numbers, got {size} bytes")
    file.seek(header.bytes)
    wanted = [places.index(name) for name in names]
    try:
        with warnings.catch_warnings(action="ignore"):  # of lines that are not there: told below
            table = np.loadtxt(
                io.TextIOWrapper(file, "ascii", "replace"),
                np.float32,
                comments=None,
                skiprows=skipped,
                usecols=wanted,
                max_rows=count,
                ndmin=2,
            )
    except (ValueError, IndexError) as error:
        raise bad(path, None, f"expected {len(places)} numbers a line: {error}") from error
    if len(table) != count:
        raise bad(path, None, f"expected {count} splats, got {len(table)}")
    return table


def _activate(path: Path | str, table: Float[Tensor, "N c"]) -> Gaussians:
    means, dc, logits, logs, quats, rest = table.split((3, 3, 1, 3, 4, table.shape[1] - 14), 1)
    lengths = quats.norm(dim=1, keepdim=True)
    for what, wrong in (
        ("rotation: expected a quaternion, got zeros", lengths[:, 0] < 1e-12),
        (
            f"scale: expected logarithms of at most {MOST_LOG_SCALE:g}",
            logs.amax(1) > MOST_LOG_SCALE,
        ),
        (f"place: expected at most {FARTHEST_M:g} m", means.abs().amax(1) > FARTHEST_M),
    ):
        if bool(wrong.any()):
            raise bad(path, None, f"splat {int(wrong.int().argmax())}: {what}")
    higher = rest.reshape(len(table), 3, -1).transpose(1, 2)
    return Gaussians(
        means=means.contiguous(),
        quats=quats / lengths,
        scales=logs.exp(),
        opacities=logits[:, 0].sigmoid(),
        sh=torch.cat((dc[:, None], higher), 1).contiguous(),
    )
