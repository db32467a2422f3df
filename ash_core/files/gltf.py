"""glTF 2.0 (`.glb`, `.gltf`): the container, its numbers and its images, every size checked.

A reader of our own: common libraries return the JSON unchecked, and a hostile file's counts and
offsets must be checked one by one. Nothing is fetched from a network.
"""

import base64
import binascii
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ash_core.errors import InputError
from ash_core.files.io import bad, read_bytes, show

MAX_BYTES = 512 << 20
MAX_VALUES = 64_000_000
"""Upper bound on the numbers of one accessor."""
MAX_NODES = 16384

COMPONENTS: dict[int, np.dtype] = {
    5120: np.dtype("<i1"),
    5121: np.dtype("<u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
COMPRESSED = {
    "KHR_draco_mesh_compression": "Draco",
    "EXT_meshopt_compression": "meshopt",
    "KHR_texture_basisu": "Basis Universal",
}
UNDERSTOOD = ("KHR_mesh_quantization", "KHR_texture_transform", "EXT_texture_webp", "KHR_materials")
"""Supported required extensions, and ones that only change reflections (prefixes)."""


@dataclass(frozen=True)
class Node:
    """Node of the scene's tree."""

    name: str
    parent: int
    translation: np.ndarray
    rotation: np.ndarray
    """Rotation xyzw."""
    scale: np.ndarray
    matrix: np.ndarray | None
    """Matrix that replaces the three, if the file has one."""
    mesh: int | None
    skin: int | None


class Gltf:
    """Open glTF file."""

    def __init__(self, path: Path, content: dict[str, Any], binary: bytes | None) -> None:
        self.path, self.content, self._binary = path, content, binary
        self._buffers: dict[int, bytes] = {}
        self._checked: dict[str, list[dict[str, Any]]] = {}
        """Top-level lists that have been checked: files have thousands of entries."""
        version = content.get("asset", {}) if isinstance(content.get("asset"), dict) else {}
        if not str(version.get("version", "")).startswith("2."):
            raise self.bad("asset", f"expected version 2.x, got {show(str(version)[:60])}")
        required = content.get("extensionsRequired", [])
        for name in required if isinstance(required, list) else []:
            if name in COMPRESSED:
                text = f"expected plain data, got {COMPRESSED[name]} compression ({name})"
                raise self.bad("extensionsRequired", f"{text}; export it again without compression")
            if not str(name).startswith(UNDERSTOOD):
                text = f"expected extensions that are known here, got {show(str(name))}"
                raise self.bad("extensionsRequired", text)

    def bad(self, place: str, text: str) -> InputError:
        """Make the error for one place of the file."""
        return bad(self.path, None, f"{place}: {text}")

    # ---- JSON values, checked ----

    def entries(self, key: str) -> list[dict[str, Any]]:
        """Return a list of objects at the top level; empty if the file has none."""
        items = self._checked.get(key)
        if items is None or items is not self.content.get(key):
            items = self._checked[key] = self.objects(self.content, key, "")
        return items

    def objects(self, owner: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
        """Return a list of objects in an object."""
        items = owner.get(key, [])
        if not isinstance(items, list) or not all(isinstance(entry, dict) for entry in items):
            raise self.bad(f"{place}{key}", "expected a list of objects")
        return items

    def child(self, owner: dict[str, Any], key: str, place: str) -> dict[str, Any]:
        """Return an object in an object; empty without one."""
        item = owner.get(key, {})
        if not isinstance(item, dict):
            raise self.bad(f"{place}{key}", "expected an object")
        return item

    def entry(self, key: str, index: object, place: str) -> dict[str, Any]:
        """Return one object of a top-level list, by an index in the file."""
        entries = self.entries(key)
        return entries[self.index(index, len(entries), f"{place}: {key}")]

    def index(self, value: object, count: int, place: str) -> int:
        """Read an index into a list of `count` entries."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
            text = (
                f"expected an index 0 to {count - 1}" if count else "expected none, as it is empty"
            )
            raise self.bad(place, f"{text}, got {show(repr(value)[:40])}")
        return value

    def size(self, owner: dict[str, Any], key: str, place: str, default: int | None = None) -> int:
        """Read a count or an offset in bytes."""
        value = owner.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1 << 40:
            text = f"expected {key}, 0 or more, got {show(repr(value)[:40])}"
            raise self.bad(place, text)
        return value

    def numbers(
        self, owner: dict[str, Any], key: str, place: str, default: list[float]
    ) -> np.ndarray:
        """Read a list of finite numbers, as long as the default."""
        value = owner.get(key, default)
        fine = isinstance(value, list) and len(value) == len(default)
        if not fine or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e12 for v in value
        ):
            raise self.bad(place, f"expected {key}, {len(default)} finite numbers")
        return np.array(value, dtype=np.float64)

    # ---- bytes ----

    def resource(self, owner: dict[str, Any], place: str) -> bytes:
        """Read the resource of a `uri`: data in the file itself, or a file beside it."""
        uri = owner.get("uri")
        if not isinstance(uri, str):
            raise self.bad(place, "expected a uri, got none")
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except (binascii.Error, ValueError) as error:
                raise self.bad(place, f"expected base64 data: {show(str(error))}") from None
        name = unquote(uri)
        parts = Path(name).parts
        if "://" in uri or Path(name).is_absolute() or ".." in parts or "\0" in name:
            raise self.bad(place, f"expected a file beside this one, got {show(uri)}")
        try:
            return read_bytes(self.path.parent / name, MAX_BYTES)
        except InputError as error:
            raise self.bad(place, f"names a file: {error}") from None

    def buffer(self, index: int) -> bytes:
        """Return a whole buffer."""
        if index not in self._buffers:
            place = f"buffers[{index}]"
            entry = self.entry("buffers", index, place)
            if "uri" not in entry and index == 0 and self._binary is not None:
                data = self._binary
            else:
                data = self.resource(entry, place)
            length = self.size(entry, "byteLength", place)
            if len(data) < length:
                raise self.bad(place, f"expected {length} bytes, got {len(data)}")
            self._buffers[index] = data[:length]
        return self._buffers[index]

    def view(self, index: object, place: str) -> tuple[bytes, int]:
        """Return the bytes of a buffer view, and its stride (0: tight)."""
        entry = self.entry("bufferViews", index, place)
        place = f"bufferViews[{index}]"
        extensions = self.child(entry, "extensions", f"{place}: ")
        if "EXT_meshopt_compression" in extensions:
            raise self.bad(place, "expected plain data, got meshopt compression; export it without")
        buffer = self.buffer(
            self.index(entry.get("buffer"), len(self.entries("buffers")), f"{place}: buffer")
        )
        start = self.size(entry, "byteOffset", place, 0)
        length = self.size(entry, "byteLength", place)
        if start + length > len(buffer):
            text = f"expected {start + length} bytes in its buffer, got {len(buffer)}"
            raise self.bad(place, text)
        return buffer[start : start + length], self.size(entry, "byteStride", place, 0)

    def accessor(self, index: object, place: str, kinds: tuple[str, ...]) -> np.ndarray:
        """Read an accessor [count, width]: float64 (also normalised integers) or int64."""
        entry = self.entry("accessors", index, place)
        place = f"accessors[{index}]"
        kind = entry.get("type")
        if kind not in kinds:
            raise self.bad(place, f"expected {' or '.join(kinds)}, got {show(repr(kind)[:40])}")
        dtype = self._dtype(entry, place)
        count, width = self.size(entry, "count", place), WIDTHS[str(kind)]
        if count * width > MAX_VALUES:
            raise self.bad(place, f"expected at most {MAX_VALUES} numbers, got {count * width}")
        if "bufferView" in entry:
            offset = self.size(entry, "byteOffset", place, 0)
            values = self._strided(entry["bufferView"], offset, count, width, dtype, place).copy()
        elif "sparse" in entry:
            values = np.zeros((count, width), dtype)
        else:
            raise self.bad(place, "expected a bufferView, got none (is it compressed?)")
        if "sparse" in entry:
            self._overwrite(self.child(entry, "sparse", f"{place}: "), values, f"{place}: sparse")
        if dtype.kind == "f" and not np.isfinite(values).all():
            raise self.bad(place, "expected finite numbers, got NaN or infinity")
        if entry.get("normalized") is True and dtype.kind in "iu":
            return np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values.astype(np.float64 if dtype.kind == "f" else np.int64)

    def _dtype(self, entry: dict[str, Any], place: str) -> np.dtype:
        component = entry.get("componentType")
        if not isinstance(component, int) or component not in COMPONENTS:
            actual = show(repr(component)[:40])
            raise self.bad(place, f"expected componentType 5120 to 5126, got {actual}")
        return COMPONENTS[component]

    def _strided(
        self, view: object, offset: int, count: int, width: int, dtype: np.dtype, place: str
    ) -> np.ndarray:
        data, stride = self.view(view, place)
        row = width * dtype.itemsize
        stride = stride or row
        if stride < row:
            raise self.bad(place, f"expected a stride of at least {row} bytes, got {stride}")
        needed = offset + stride * (count - 1) + row if count else offset
        if needed > len(data):
            raise self.bad(place, f"expected {needed} bytes in its view, got {len(data)}")
        return np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))

    def _overwrite(self, sparse: dict[str, Any], values: np.ndarray, place: str) -> None:
        count = self.size(sparse, "count", place)
        if count > len(values):
            raise self.bad(place, f"expected at most {len(values)} values, got {count}")
        where = self.child(sparse, "indices", f"{place}: ")
        what = self.child(sparse, "values", f"{place}: ")
        dtype = self._dtype(where, f"{place}: indices")
        if dtype.kind != "u":
            raise self.bad(f"{place}: indices", "expected unsigned integers")
        start = self.size(where, "byteOffset", place, 0)
        rows = self._strided(where.get("bufferView"), start, count, 1, dtype, place)[:, 0]
        if count and int(rows.max()) >= len(values):
            text = f"expected indices 0 to {len(values) - 1}, got {int(rows.max())}"
            raise self.bad(place, text)
        start = self.size(what, "byteOffset", place, 0)
        width = values.shape[1]
        values[rows.astype(np.int64)] = self._strided(
            what.get("bufferView"), start, count, width, values.dtype, place
        )

    def image(self, index: object, place: str) -> tuple[bytes, str]:
        """Return an image file's bytes, and its place for errors."""
        entry = self.entry("images", index, place)
        place = f"images[{index}]"
        if "bufferView" in entry:
            return self.view(entry["bufferView"], place)[0], f"{self.path}: {place}"
        return self.resource(entry, place), f"{self.path}: {place}"

    # ---- the tree ----

    def nodes(self) -> tuple[list[Node], list[int]]:
        """Return all nodes, and the order of the scene's nodes: parents before their children."""
        entries = self.entries("nodes")
        if len(entries) > MAX_NODES:
            raise self.bad("nodes", f"expected at most {MAX_NODES}, got {len(entries)}")
        parents = [-1] * len(entries)
        children: list[list[int]] = []
        for n, entry in enumerate(entries):
            listed = entry.get("children", [])
            if not isinstance(listed, list):
                raise self.bad(f"nodes[{n}]: children", "expected a list")
            children.append([self.index(c, len(entries), f"nodes[{n}]: children") for c in listed])
            for child in children[-1]:
                if parents[child] >= 0 or child == n:
                    raise self.bad(f"nodes[{child}]", "expected one parent, got two")
                parents[child] = n
        order = self._roots(parents)
        for n in order:  # grows during the walk; each node has one parent, so the walk ends
            order += children[n]
        return [self._node(n, entry, parents[n]) for n, entry in enumerate(entries)], order

    def _roots(self, parents: list[int]) -> list[int]:
        scenes = self.entries("scenes")
        if not scenes:
            return [n for n, parent in enumerate(parents) if parent < 0]
        scene = scenes[self.index(self.content.get("scene", 0), len(scenes), "scene")]
        listed = scene.get("nodes", [])
        if not isinstance(listed, list):
            raise self.bad("scenes", "expected nodes, a list")
        roots = list(dict.fromkeys(self.index(n, len(parents), "scenes: nodes") for n in listed))
        for n in roots:
            if parents[n] >= 0:
                raise self.bad("scenes: nodes", f"expected roots, got node {n} with a parent")
        return roots

    def _node(self, n: int, entry: dict[str, Any], parent: int) -> Node:
        place = f"nodes[{n}]"
        name = entry.get("name")
        matrix = None
        if "matrix" in entry:
            columns = self.numbers(entry, "matrix", place, [0.0] * 16)
            matrix = columns.reshape(4, 4).T
        rotation = self.numbers(entry, "rotation", place, [0.0, 0.0, 0.0, 1.0])
        length = math.sqrt(float(rotation @ rotation))
        if not length > 1e-6:
            raise self.bad(place, "expected a rotation with a length, got zero")
        meshes, skins = len(self.entries("meshes")), len(self.entries("skins"))
        return Node(
            name=name if isinstance(name, str) and name else f"node{n}",
            parent=parent,
            translation=self.numbers(entry, "translation", place, [0.0, 0.0, 0.0]),
            rotation=rotation / length,
            scale=self.numbers(entry, "scale", place, [1.0, 1.0, 1.0]),
            matrix=matrix,
            mesh=self.index(entry["mesh"], meshes, f"{place}: mesh") if "mesh" in entry else None,
            skin=self.index(entry["skin"], skins, f"{place}: skin") if "skin" in entry else None,
        )


def open_gltf(path: Path | str) -> Gltf:
    """Open a `.glb` or `.gltf`; buffers are read on demand."""
    path = Path(path)
    data = read_bytes(path, MAX_BYTES)
    binary = None
    if data[:4] == b"glTF":
        data, binary = _chunks(path, data)
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise bad(path, None, f"expected glTF, a GLB or JSON: {show(str(error))}") from None
    if not isinstance(content, dict):
        raise bad(path, None, "expected glTF, a JSON object")
    return Gltf(path, content, binary)


def _chunks(path: Path, data: bytes) -> tuple[bytes, bytes | None]:
    """Return the JSON and the binary chunk of a GLB."""
    if len(data) < 20:
        raise bad(path, None, f"expected a GLB of at least 20 bytes, got {len(data)}")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2 or length > len(data):
        actual = f"version {version}, {length} bytes of which {len(data)} are there"
        raise bad(path, None, f"expected a whole GLB of version 2, got {actual}")
    chunks: dict[int, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<II", data, offset)
        if offset + 8 + size > length:
            raise bad(
                path, None, f"expected a chunk of {size} bytes at {offset}, the file ends before"
            )
        chunks.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    if 0x4E4F534A not in chunks:
        raise bad(path, None, "expected a JSON chunk in the GLB, found none")
    return chunks[0x4E4F534A], chunks.get(0x004E4942)
