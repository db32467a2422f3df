"""Wavefront OBJ: triangles with texture coordinates and vertex colours. File units."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.io import (
    bad,
    finite_float32,
    is_kind,
    parse_number,
    read_lines,
    show,
    write_text,
)

MAX_COORDINATE = 1e7
"""Largest coordinate: ten kilometres in millimetres."""


@dataclass(frozen=True)
class ObjMesh:
    """Triangle mesh in its file's units."""

    vertices: Float[Tensor, "V 3"]
    """Vertices in the file's units: millimetres in the published characters."""
    faces: Int[Tensor, "F 3"]
    corner_uvs: Float[Tensor, "F 3 2"] | None = None
    """Texture coordinates of each face corner, float64, v up; None where a corner has none."""
    colours: Float[Tensor, "V 3"] | None = None
    texture: Path | None = None
    """Image of the mesh's material; it need not exist."""


def read_obj(path: Path | str, need_uvs: bool = True) -> ObjMesh:
    """Read an OBJ of triangles. Statements without geometry are skipped.

    need_uvs: refuse faces without texture coordinates.
    """
    path = Path(path)
    # Read the statements, line by line.
    vertices, uvs, faces = _Rows(path, "v", (3, 4, 6)), _Rows(path, "vt", (2, 3)), []
    library: str | None = None
    material: str | None = None
    for number, line in _statements(read_lines(path)):
        if line.startswith("vn "):  # a quarter of most files
            continue
        if triangle := _PLAIN_TRIANGLE.fullmatch(line):  # the form that most files use
            faces.append((number, *(int(word) - 1 for word in triangle.groups())))
            continue
        words = line.split()
        match words[0] if words else "":
            case "v":
                vertices.add(number, words)
            case "vt":
                uvs.add(number, words)
            case "f":
                faces.append(_face(path, number, words, len(vertices.lines), len(uvs.lines)))
            case "mtllib" if library is None:
                library = line.strip()[len("mtllib") :].strip()
            case "usemtl" if material is None:
                material = line.strip()[len("usemtl") :].strip()
    # Check the faces and their indices.
    if not faces or not vertices.lines:
        text = f"expected a mesh, got {len(vertices.lines)} 'v' and {len(faces)} 'f' lines"
        raise bad(path, None, text)
    corners = np.array([face for _, *face in faces], dtype=np.int64).reshape(-1, 3, 2)
    lines = [line for line, *_ in faces]
    _check_range(path, lines, corners[..., 0], len(vertices.lines), "vertices")
    without = (corners[..., 1] < 0).any(1)
    if need_uvs and without.any():
        line = lines[int(without.argmax())]
        raise bad(path, line, "expected texture coordinates ('f a/b/c'), got a corner without")
    # Build the arrays of the mesh.
    positions, colours = vertices.positions_and_colours()
    corner_uvs = None
    if not without.any():
        _check_range(path, lines, corners[..., 1], len(uvs.lines), "texture coordinates")
        corner_uvs = torch.from_numpy(uvs.array()[:, :2][corners[..., 1]])
        if need_uvs:
            _check_spread(path, uvs.lines[int(corners[0, 0, 1])], corner_uvs.numpy())
    return ObjMesh(
        vertices=torch.from_numpy(positions),
        faces=torch.from_numpy(corners[..., 0].copy()),
        corner_uvs=corner_uvs,
        colours=None if colours is None else torch.from_numpy(colours),
        texture=None if library is None else _texture(path.parent / library, material),
    )


_PLAIN_TRIANGLE = re.compile(
    "f" + r" +([1-9][0-9]{0,8})/([1-9][0-9]{0,8})(?:/[0-9]{1,9})?" * 3 + r"\s*"
)


def _statements(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    r"""Yield statements with the number of their first line: a `\` at its end continues a line.

    Comments end with their line: some end in a folder's name.
    """
    first, parts = 0, []
    for number, line in enumerate(lines, start=1):
        if not parts:
            first = number
        if line.endswith(("\\", "\\\r")) and not line.startswith("#"):
            parts.append(line.rstrip("\r")[:-1])
        elif parts:
            yield first, " ".join([*parts, line])
            parts = []
        else:
            yield number, line
    if parts:
        yield first, " ".join(parts)


class _Rows:
    """Numbers of one kind of line, with their line numbers."""

    def __init__(self, path: Path, keyword: str, widths: tuple[int, ...]) -> None:
        self.path, self.keyword, self.widths = path, keyword, widths
        self.lines: list[int] = []
        self.rows: list[list[float]] = []

    def add(self, line: int, words: list[str]) -> None:
        """Add one line's words."""
        if len(words) - 1 not in self.widths:
            counts = ", ".join(map(str, self.widths))
            text = f"expected '{self.keyword}' with {counts} numbers, got {len(words) - 1}"
            raise bad(self.path, line, text)
        try:
            self.rows.append([parse_number(word) for word in words[1:]])
        except ValueError as error:
            raise bad(self.path, line, f"expected numbers: {show(str(error))}") from None
        self.lines.append(line)

    def array(self) -> np.ndarray:
        """Return all rows, cut to the shortest; float64."""
        width = min(map(len, self.rows), default=0)
        values = np.array([row[:width] for row in self.rows], dtype=np.float64)
        finite = finite_float32(values)
        if not finite.all():
            line = self.lines[int(finite.argmin())]
            raise bad(self.path, line, f"expected finite numbers in '{self.keyword}'")
        return values

    def positions_and_colours(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return vertices [V, 3] and, if each has one, colours [V, 3]."""
        values = self.array().astype(np.float32)
        near = (np.abs(values[:, :3]) <= MAX_COORDINATE).all(1)
        if not near.all():
            row = int(near.argmin())
            text = f"expected coordinates up to {MAX_COORDINATE:g}, got {values[row, :3].tolist()}"
            raise bad(self.path, self.lines[row], text)
        colours = values[:, 3:6].copy() if values.shape[1] == 6 else None
        return np.ascontiguousarray(values[:, :3]), colours


def _face(path: Path, line: int, words: list[str], n_vertices: int, n_uvs: int) -> tuple[int, ...]:
    """Parse a face: (line, v, vt, v, vt, v, vt), 0-based; -1 for a missing texture coordinate."""
    if len(words) != 4:
        raise bad(path, line, f"expected triangles, got a face with {len(words) - 1} corners")
    row = [line]
    try:
        for word in words[1:]:
            parts = word.split("/")
            vertex = int(parts[0])
            uv = int(parts[1]) if len(parts) > 1 and parts[1] else None
            row.append(_index(vertex, n_vertices))
            row.append(-1 if uv is None else _index(uv, n_uvs))
    except ValueError:
        text = f"expected corners as 'vertex/texture/normal', got {show(' '.join(words[1:]))}"
        raise bad(path, line, text) from None
    return tuple(row)


_OUT_OF_RANGE = 1 << 62


def _index(number: int, count: int) -> int:
    """Parse an index to 0-based: OBJ counts from 1, and negative numbers back from the newest
    line."""
    index = number - 1 if number > 0 else count + number
    return index if number and 0 <= index < _OUT_OF_RANGE else _OUT_OF_RANGE


def _check_range(path: Path, lines: list[int], index: np.ndarray, count: int, what: str) -> None:
    outside = (index >= count).any(1)
    if outside.any():
        row = int(outside.argmax())
        worst = int(index[row].max())
        actual = f"{worst + 1}" if worst < _OUT_OF_RANGE else "one outside"
        raise bad(path, lines[row], f"expected {what} 1 to {count}, got {actual}")


def _check_spread(path: Path, line: int, corner_uvs: np.ndarray) -> None:
    """Refuse a layout without area, on which there is no texel."""
    a, b = corner_uvs[:, 1] - corner_uvs[:, 0], corner_uvs[:, 2] - corner_uvs[:, 0]
    if np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).max() > 0.0:
        return
    place = "one point" if np.ptp(corner_uvs.reshape(-1, 2), axis=0).max() == 0.0 else "lines"
    text = f"expected texture coordinates that cover an area, got all triangles in {place}"
    raise bad(path, line, f"{text}; unwrap the mesh and export it again")


def _texture(library: Path, material: str | None) -> Path | None:
    """Find the colour image of a library's material, else of the first material with one."""
    try:
        lines = read_lines(library) if is_kind(Path.is_file, library) else []
    except InputError:
        return None
    images: dict[str, Path] = {}
    current = ""
    for _, line in _statements(lines):
        keyword, _, value = line.strip().partition(" ")
        value = value.strip()
        if keyword == "newmtl":
            current = value
        elif keyword.lower() == "map_kd" and value:
            name = value.split()[-1] if value.startswith("-") else value  # options precede it
            images.setdefault(current, library.parent / name.replace("\\", "/"))
    return images.get(material or "", next(iter(images.values()), None))


def write_obj(path: Path | str, mesh: ObjMesh, texture_name: str | None = None) -> None:
    """Write an OBJ and, with a texture_name, the `.mtl` that names the image.

    The library is named as `./name`: the published reader drops its first two characters.
    """
    path = Path(path)
    lines = ["# triangles; texture coordinates with v up"]
    if texture_name is not None:
        library = path.with_name(path.name + ".mtl")
        write_text(library, f"newmtl material_0\nKd 1 1 1\nmap_Kd {texture_name}\n")
        lines += [f"mtllib ./{library.name}", "usemtl material_0"]
    rows = mesh.vertices if mesh.colours is None else torch.cat([mesh.vertices, mesh.colours], 1)
    lines += ["v " + " ".join(f"{value:.9g}" for value in row) for row in rows.tolist()]
    corners = (mesh.faces + 1).tolist()
    if mesh.corner_uvs is None:
        lines += [f"f {a} {b} {c}" for a, b, c in corners]
    else:
        unique, index = mesh.corner_uvs.reshape(-1, 2).unique(dim=0, return_inverse=True)
        lines += [f"vt {u} {v}" for u, v in unique.tolist()]
        uvs = (index.reshape(-1, 3) + 1).tolist()
        lines += [
            f"f {a}/{p} {b}/{q} {c}/{r}" for (a, b, c), (p, q, r) in zip(corners, uvs, strict=True)
        ]
    write_text(path, "\n".join(lines) + "\n")
