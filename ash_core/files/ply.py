"""Gaussians as a .ply file, in the common layout of viewers and editors of splats.

Layout after Kerbl et al., 3D Gaussian Splatting (2023): means in m, logits of opacities, logarithms
of scales, rotations as wxyz. Harmonics: all of red, then green, then blue.
"""

import io
import math
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

from ash_core.conventions import Up
from ash_core.files.io import bad, is_kind, show, write_atomic
from ash_core.files.packed_ply import CHUNK, PACKED, unpack
from ash_core.files.splat_file import SplatFile
from ash_core.records import Gaussians, to_device

OPACITY_RANGE = 1e-6, 1 - 1e-6
"""Range of opacities: a logit must be finite."""
MOST_SPLATS: Final = 100_000_000
MOST_HEADER_BYTES: Final = 64 << 10
MOST_LOG_SCALE: Final = 80.0
"""Upper bound on log scales, beyond which float32 overflows."""
THIN_LOG_SCALE: Final = math.log(1e-6)
"""Third scale of a 2D Gaussian, which has no thickness. Source: advice of 2D Gaussian Splatting's
authors for viewers of 3D Gaussians (their issue 94)."""
UP_COMMENTS: Final[dict[str, Up]] = {"z": "z", "y": "y"}
"""Values of nerfstudio's comment "Vertical Axis", which we write too."""
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
    header = ["ply", "format binary_little_endian 1.0", "comment Vertical Axis: z"]
    header += [f"element vertex {count}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    table = np.concatenate([values.detach().float().numpy() for values in columns.values()], 1)
    write_atomic(path, ["\n".join(header).encode(), table.astype("<f4").tobytes()])


# ---- reading ----


def read_ply(path: Path | str) -> SplatFile:
    """Read the splats of any program in the common layout, with any order of columns.

    ASCII or binary little endian; harmonics of degree 0 to 3; 2D Gaussians (no scale_2); the packed
    layout of PlayCanvas (.compressed.ply). Other properties and elements are skipped.
    Raises: InputError.
    """
    with _reading(path) as file:
        header = _read_header(path, file)
        if header.is_packed:
            return SplatFile(_read_packed(path, file, header), up=header.up)
        names = _columns_of(path, header)
        read = _read_binary if header.binary else _read_ascii
        table = read(path, file, header, names)
    if "scale_2" not in names:
        place = names.index("scale_1") + 1
        table = np.insert(table, place, np.float32(THIN_LOG_SCALE), axis=1)
    not_finite = int((~np.isfinite(table)).any(1).sum())
    return SplatFile(_activate(torch.from_numpy(table)), up=header.up, not_finite=not_finite)


@dataclass(frozen=True)
class _Element:
    """Table of the file."""

    name: str
    count: int
    properties: tuple[tuple[str, str], ...]
    """Pairs of name and numpy type; the type of a list is "list"."""

    @property
    def row(self) -> np.dtype:
        return np.dtype([(name, kind) for name, kind in self.properties])

    @property
    def has_lists(self) -> bool:
        return "list" in dict(self.properties).values()


@dataclass(frozen=True)
class _Header:
    binary: bool
    elements: tuple[_Element, ...]
    bytes: int
    """Length of the header."""
    up: Up | None
    """Up axis of a comment, if any."""

    @property
    def place(self) -> int:
        """Return the index of the splats among the elements."""
        return [element.name for element in self.elements].index("vertex")

    @property
    def splats(self) -> _Element:
        return self.elements[self.place]

    @property
    def before(self) -> tuple[_Element, ...]:
        """Return the elements before the splats."""
        return self.elements[: self.place]

    @property
    def is_packed(self) -> bool:
        """Return whether the splats are packed in chunks, PlayCanvas' layout."""
        names = [name for name, _ in self.splats.properties]
        chunked = any(element.name == "chunk" for element in self.elements)
        return self.binary and chunked and set(PACKED) <= set(names)


@contextmanager
def _reading(path: Path | str) -> Iterator[BinaryIO]:
    if not is_kind(Path.is_file, Path(path)):
        actual = "a folder" if is_kind(Path.is_dir, Path(path)) else "nothing there"
        raise bad(path, None, f"expected a .ply file, found {actual}")
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise bad(path, None, f"cannot be read: {error.strerror or error}") from error


def _read_header(path: Path | str, file: BinaryIO) -> _Header:
    # Split the header into lines.
    begin = file.read(MOST_HEADER_BYTES)
    head, end, _ = begin.partition(b"end_header")
    if not begin.startswith(b"ply") or not end:
        raise bad(path, None, "expected a .ply file, whose header ends with end_header")
    length = begin.find(b"\n", len(head)) + 1
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    # Parse the format, elements with their properties, and the up axis of a comment.
    elements: list[_Element] = []
    kind = ""
    up: Up | None = None
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
            case ["comment", *text] if [word.lower() for word in text[:2]] == ["vertical", "axis:"]:
                axis = "".join(text[2:]).lower()
                if axis in UP_COMMENTS:
                    up = UP_COMMENTS[axis]
            case ["ply"] | ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise bad(
                    path,
                    number,
                    "expected format ascii or binary_little_endian, an element or a property, "
                    f"got {show(' '.join(words))}",
                )
    if "vertex" not in [element.name for element in elements] or not kind or length == 0:
        raise bad(path, None, "expected a .ply with a format and an element vertex")
    return _Header(kind != "ascii", tuple(elements), length, up)


def _kind(words: list[str]) -> str | None:
    """Return a property's numpy type; None for an unknown one."""
    if len(words) == 3 and words[0] == "list" and {*words[1:]} <= KINDS.keys():
        return "list"
    return KINDS.get(words[0]) if len(words) == 1 else None


def _columns_of(path: Path | str, header: _Header) -> list[str]:
    """List the columns to read, in our order: means, colours, opacity, scales, rotation, harmonics.

    2D Gaussians have no scale_2.
    """
    properties = dict(header.splats.properties)
    missing = [name for name in NEEDED if name not in properties]
    needed = NEEDED
    if missing == ["scale_2"]:
        needed, missing = tuple(name for name in NEEDED if name != "scale_2"), []
    if missing:
        actual = show(", ".join(properties) or "none")
        raise bad(path, None, f"expected splats, missing: {', '.join(missing[:4])}; got {actual}")
    rest = [f"f_rest_{n}" for n in range(sum(name.startswith("f_rest_") for name in properties))]
    if len(rest) not in RESTS or any(name not in properties for name in rest):
        raise bad(
            path, None, f"expected f_rest_0 to _8, _23 or _44, or none; got {len(rest)} of them"
        )
    if header.splats.count == 0:
        raise bad(path, None, "expected splats, got none")
    if "list" in properties.values():
        raise bad(path, None, "expected splats of numbers, got lists")
    return [*needed, *rest]


def _map_rows(path: Path | str, file: BinaryIO, header: _Header, place: int) -> np.ndarray:
    """Map the rows of one element of a binary file."""
    element, before = header.elements[place], header.elements[:place]
    for other in before:
        if other.has_lists:
            raise bad(path, None, f"element {show(other.name)}: expected no lists before splats")
    start = header.bytes + sum(other.count * other.row.itemsize for other in before)
    # Before any memory is taken: a header may claim more than the file holds.
    size, needed = os.fstat(file.fileno()).st_size, start + element.count * element.row.itemsize
    if size < needed:
        kind = "splats" if element.name == "vertex" else f"of {show(element.name)}"
        raise bad(path, None, f"expected {needed} bytes for {element.count} {kind}, got {size}")
    if element.row.itemsize * element.count == 0:
        return np.empty(0, element.row)
    return np.memmap(file, element.row, "r", start, (element.count,))


def _read_packed(path: Path | str, file: BinaryIO, header: _Header) -> Gaussians:
    names = [element.name for element in header.elements]
    tables: dict[str, np.ndarray] = {}
    for name in ("chunk", "vertex", "sh"):
        if name not in names:
            continue
        element = header.elements[names.index(name)]
        if element.has_lists:
            raise bad(path, None, f"element {name}: expected numbers, got lists")
        tables[name] = _map_rows(path, file, header, names.index(name))
    count = header.splats.count
    if count == 0:
        raise bad(path, None, "expected splats, got none")
    if len(tables["chunk"]) < -(-count // CHUNK):
        needed, actual = -(-count // CHUNK), len(tables["chunk"])
        raise bad(path, None, f"expected {needed} chunks for {count} splats, got {actual}")
    for table in ("vertex", "chunk"):
        row = tables[table].dtype
        kinds = {row[name].kind for name in row.names or ()}
        if kinds != ({"u"} if table == "vertex" else {"f"}):
            raise bad(path, None, f"element {table}: expected the types of a packed .ply")
    colours = tables.get("sh")
    if colours is not None:
        rest = [name for name in colours.dtype.names or () if name.startswith("f_rest_")]
        wrong = len(rest) not in RESTS or {*rest} != {f"f_rest_{n}" for n in range(len(rest))}
        bytes_alone = all(colours.dtype[name] == np.uint8 for name in rest)
        if wrong or not bytes_alone or len(colours) != count:
            text = f"expected {count} of f_rest_0 to _8, _23 or _44, one byte each"
            raise bad(path, None, f"element sh: {text}")
    try:
        return unpack(tables["chunk"], tables["vertex"], colours)
    except (KeyError, ValueError) as error:
        text = f"element chunk: expected the bounds of a packed .ply ({show(str(error))})"
        raise bad(path, None, text) from error


def _read_binary(
    path: Path | str, file: BinaryIO, header: _Header, names: list[str]
) -> Float[np.ndarray, "N c"]:
    rows = _map_rows(path, file, header, header.place)
    table = np.empty((len(rows), len(names)), np.float32)
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
    columns = [places.index(name) for name in names]
    try:
        with warnings.catch_warnings(action="ignore"):  # of missing lines: reported below
            table = np.loadtxt(
                io.TextIOWrapper(file, "ascii", "replace"),
                np.float32,
                comments=None,
                skiprows=skipped,
                usecols=columns,
                max_rows=count,
                ndmin=2,
            )
    except (ValueError, IndexError) as error:
        raise bad(path, None, f"expected {len(places)} numbers a line: {error}") from error
    if len(table) != count:
        raise bad(path, None, f"expected {count} splats, got {len(table)}")
    return table


def _activate(table: Float[Tensor, "N c"]) -> Gaussians:
    """Activate a file's numbers; quaternions keep their lengths.

    A logarithm of -inf is a flat splat, a logit of +-inf an opaque or invisible one.
    """
    means, dc, logits, logs, quats, rest = table.split((3, 3, 1, 3, 4, table.shape[1] - 14), 1)
    higher = rest.reshape(len(table), 3, -1).transpose(1, 2)
    return Gaussians(
        means=means.contiguous(),
        quats=quats.contiguous(),
        # A finite logarithm stays finite: the splat is too large, but finite.
        scales=torch.where(logs.isfinite(), logs.clamp(max=MOST_LOG_SCALE), logs).exp(),
        opacities=logits[:, 0].sigmoid(),
        sh=torch.cat((dc[:, None], higher), 1).contiguous(),
    )
