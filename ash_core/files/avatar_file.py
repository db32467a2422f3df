"""One avatar in one file: safetensors with JSON metadata, no pickle.

Tensors carry the records' own dotted names (`skeleton.parents`, `networks.delta_gcn.<key>`).
Numbers and strings are in the metadata; images are stored as PNG. The records' shape annotations
are the schema: a tensor is loaded only if its declared type and shape match.
"""

import dataclasses
import json
import os
import struct
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ash_core.files.cameras.published import MAX_CAMERAS
from ash_core.files.checks import check_avatar
from ash_core.files.image import MAX_IMAGE_BYTES, decode_image, encode_png
from ash_core.files.io import bad, show, write_atomic
from ash_core.files.tensors import STORED, serialise
from ash_core.records import AvatarData, Camera
from ash_core.variants import VARIANTS, VariantName

FORMAT = "ash-studio avatar"
VERSION = 4
"""Earlier ones are still read, see `_Loader.upgrade`. Version 1 stores no history offsets; until
version 2 no avatar has cloth; the cloth of version 3 has one pass over its links."""
MAX_FILE_BYTES = 8 << 30
MAX_HEADER_BYTES = 4 << 20
"""Upper bound on names, shapes and metadata. A published character's take 60 kB."""

_FLOAT64 = ("rest_dofs", "corner_uvs")
_NETWORK_TYPES = ("F32", "I64")


def save_avatar(path: Path | str, data: AvatarData) -> None:
    """Write an avatar, whole or not at all."""
    check_avatar(data, path)
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    _pack(data, "", tensors, values)
    for network, state in data.networks.items():
        for key, tensor in state.items():
            tensors[f"networks.{network}.{key}"] = tensor.detach().cpu().contiguous()
    metadata = {"format": FORMAT, "version": str(VERSION), "avatar": json.dumps(values)}
    write_atomic(path, serialise(tensors, metadata))


def _pack(record: Any, prefix: str, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Sort a record's fields into tensors and JSON values, under dotted names."""
    for field in dataclasses.fields(record):
        value, name = getattr(record, field.name), prefix + field.name
        if value is None or field.name == "networks":
            continue
        if isinstance(value, Tensor):
            dtype, _ = _schema(field)
            tensor = value.detach().to("cpu", dtype)
            if _is_image(field):
                png = torch.frombuffer(bytearray(encode_png(tensor)), dtype=torch.uint8)
                tensors[f"{name}.png"] = png
            else:
                tensors[name] = tensor.contiguous()
        elif dataclasses.is_dataclass(value):
            _pack(value, f"{name}.", tensors, values)
        elif field.name == "cameras":
            values[name] = len(value)
            for number, camera in enumerate(value):
                _pack(camera, f"{name}.{number}.", tensors, values)
        else:
            values[name] = dict(value) if isinstance(value, Mapping) else value


def load_avatar(path: Path | str) -> AvatarData:
    """Read an avatar file of this version or an earlier one. Raises: InputError.

    Whatever is in it, nothing larger than the file is allocated for it. The texture's PNG alone may
    unpack to more, up to the limits of `files.image`.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            data = _Loader(path, file).avatar()
    except (SafetensorError, OSError) as error:
        raise bad(path, None, f"expected an avatar file: {show(str(error)[:200])}") from error
    check_avatar(data, path)
    return data


def _check_header(path: Path | str) -> None:
    """Check the file's size and its header's declared length against each other and the limits."""
    try:
        if not Path(path).is_file():
            raise bad(path, None, "expected an avatar file, found no file")
        size = os.path.getsize(path)
        with Path(path).open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise bad(path, None, f"cannot be read: {error.strerror or error}") from error
    if not 8 < size <= MAX_FILE_BYTES:
        raise bad(path, None, f"expected an avatar file of at most 8 GiB, got {size} bytes")
    (header,) = struct.unpack("<Q", start)
    if not 2 <= header <= min(MAX_HEADER_BYTES, size - 8):
        text = "expected an avatar file (.safetensors), got another kind of file or half of one"
        raise bad(path, None, text)


class _Loader:
    """Reader of records from an open file, guided by their annotations."""

    def __init__(self, path: Path | str, file: Any) -> None:
        self.path, self.file = path, file
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            actual = show(metadata.get("format", "none"))
            raise bad(path, None, f"expected the format '{FORMAT}', got {actual}")
        version = metadata.get("version", "none")
        if version not in map(str, range(1, VERSION + 1)):
            text = f"expected avatar version {VERSION} or older, got {show(version)}"
            raise bad(path, None, text)
        try:
            self.values = json.loads(metadata.get("avatar", ""))
        except (ValueError, RecursionError) as error:
            text = f"expected JSON metadata 'avatar': {show(str(error))}"
            raise bad(path, None, text) from None
        if not isinstance(self.values, dict):
            raise bad(path, None, "expected the metadata 'avatar' to be a JSON object")
        self.left = set(file.keys())
        self.sizes: dict[str, tuple[int, str]] = {}
        self.upgrade(version)

    def upgrade(self, version: str) -> None:
        """Turn the values of a file of an earlier version into today's.

        Version 1 stores no history offsets. Its native decoders state how far back they see; those
        that see less are of no version.
        """
        if version == "3":
            self.values.setdefault("cloth.passes", 1)
        if version != "1":
            return
        variant, decoder = self.values.get("variant"), self.values.get("decoder")
        if variant not in get_args(VariantName):
            return  # named as wrong when the field is read
        offsets = VARIANTS[variant].history_offsets
        self.values |= {
            "history_offsets.frames": list(offsets.frames),
            "history_offsets.fps": offsets.fps,
        }
        reach = decoder.pop("history", None) if isinstance(decoder, dict) else None
        is_trained = any(name.startswith("networks.decoder.") for name in self.left)
        if is_trained and reach != offsets.frames[-1]:
            text = f"expected one that sees {offsets.frames[-1]} frames back, got one of an earlier"
            raise bad(self.path, None, f"decoder: {text} version; train it again")

    def avatar(self) -> AvatarData:
        """Read the whole avatar; tensors that no field claims are an error."""
        data = self.record(AvatarData, "")
        if self.left:
            first = ", ".join(show(name) for name in sorted(self.left)[:4])
            raise bad(self.path, None, f"expected no other tensors, got {len(self.left)}: {first}")
        return data

    def record(self, kind: type, prefix: str) -> Any:
        """Read one record, its tensors under a prefix."""
        content = {
            field.name: self.field(field, prefix + field.name) for field in dataclasses.fields(kind)
        }
        return kind(**content)

    def field(self, field: dataclasses.Field, name: str) -> Any:
        """Read one field's value, checked against its annotation."""
        kind, optional = _unwrap(field.type)
        if field.name == "networks":
            return self.networks()
        if kind == tuple[Camera, ...]:
            count = self.value(name, int, 0)
            if not 0 <= count <= MAX_CAMERAS:
                raise bad(self.path, None, f"{name}: expected up to {MAX_CAMERAS}, got {count}")
            return tuple(self.record(Camera, f"{name}.{number}.") for number in range(count))
        if dataclasses.is_dataclass(kind):
            if optional and not any(key.startswith(f"{name}.") for key in self.left):
                return None
            return self.record(kind, f"{name}.")  # type: ignore[arg-type]
        if hasattr(kind, "dim_str"):
            if optional and name not in self.left:
                return None
            return self.tensor(field, name)
        if kind in (tuple[str, ...], tuple[int, ...]):
            items, item_kind = self.value(name, list), get_args(kind)[0]
            if not all(type(item) is item_kind for item in items):
                what = "names" if item_kind is str else "integers"
                raise bad(self.path, None, f"{name}: expected a list of {what}")
            return tuple(items)
        if get_origin(kind) is Literal:
            value = self.value(name, str)
            if value not in get_args(kind):
                expected = " or ".join(get_args(kind))
                raise bad(self.path, None, f"{name}: expected {expected}, got {show(value)}")
            return value
        if get_origin(kind) is Mapping:
            settings = self.value(name, dict, {})
            if not all(type(value) is int for value in settings.values()):
                raise bad(self.path, None, f"{name}: expected settings that are integers")
            return settings
        assert isinstance(kind, type), kind
        if optional and self.values.get(name) is None:
            return None
        return self.value(name, kind)

    def value(self, name: str, kind: type, default: Any = None) -> Any:
        """Read one JSON value of exactly a type."""
        value = self.values.get(name, default)
        if type(value) is not kind:
            actual = "nothing" if value is None else show(repr(value)[:60])
            raise bad(self.path, None, f"{name}: expected {kind.__name__}, got {actual}")
        return value

    def tensor(self, field: dataclasses.Field, name: str) -> Tensor:
        """Read one tensor, after a check of its declared type and shape against the
        annotation."""
        dtype, dims = _schema(field)
        if _is_image(field):
            self.declared(f"{name}.png", (STORED[torch.uint8],), 1)
            if self.shape(f"{name}.png")[0] > MAX_IMAGE_BYTES:
                raise bad(self.path, None, f"{name}: expected an image of at most 512 MiB")
            data = self.take(f"{name}.png").numpy().tobytes()
            return decode_image(data, f"{self.path}: {name}")
        self.declared(name, (STORED[dtype],), len(dims))
        shape = self.shape(name)
        for dim, size in zip(dims, shape, strict=True):
            expected, source = (
                (int(dim), "") if dim.isdigit() else self.sizes.get(dim, (size, name))
            )
            if size != expected:
                reason = f" ({dim} as in {source})" if source else ""
                text = f"{name}: expected [{', '.join(dims)}] with {expected}{reason}, got {shape}"
                raise bad(self.path, None, text)
            self.sizes.setdefault(dim, (size, name))
        tensor = self.take(name)
        # A stored byte may be other than 0 and 1, which torch's own bool must never be.
        return tensor.view(torch.uint8).ne(0) if dtype == torch.bool else tensor

    def networks(self) -> dict[str, dict[str, Tensor]]:
        """Read the state dictionaries."""
        states: dict[str, dict[str, Tensor]] = {}
        for name in sorted(name for name in self.left if name.startswith("networks.")):
            _, network, *key = name.split(".", 2)
            if not key:
                raise bad(self.path, None, f"expected networks.<network>.<key>, got {show(name)}")
            self.declared(name, _NETWORK_TYPES, None)
            states.setdefault(network, {})[key[0]] = self.take(name)
        return states

    def declared(self, name: str, stored: tuple[str, ...], n_dims: int | None) -> None:
        """Check a tensor's declared type and number of dimensions."""
        if name not in self.left:
            raise bad(self.path, None, f"expected a tensor {name}, found none")
        dtype, shape = self.file.get_slice(name).get_dtype(), self.shape(name)
        if dtype not in stored or n_dims not in (None, len(shape)):
            expected = " or ".join(stored) + ("" if n_dims is None else f" of {n_dims} dimensions")
            text = f"{show(name)}: expected {expected}, got {dtype} {show(str(shape))}"
            raise bad(self.path, None, text)

    def shape(self, name: str) -> list[int]:
        """Return a tensor's declared shape."""
        return self.file.get_slice(name).get_shape()

    def take(self, name: str) -> Tensor:
        """Read a tensor, copied: a view of the file would become invalid with it."""
        self.left.discard(name)
        return self.file.get_tensor(name).clone()


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """Return a field's type without its `| None`, and whether it had one."""
    if isinstance(kind, types.UnionType):
        return next(arg for arg in get_args(kind) if arg is not types.NoneType), True
    return kind, False


def _schema(field: dataclasses.Field) -> tuple[torch.dtype, list[str]]:
    """Parse the type and dimensions of a tensor field's annotation."""
    annotation, _ = _unwrap(field.type)
    if "float32" in annotation.dtypes:
        dtype = torch.float64 if field.name in _FLOAT64 else torch.float32
    elif "int64" in annotation.dtypes:
        dtype = torch.int64
    else:
        dtype = torch.uint8 if "uint8" in annotation.dtypes else torch.bool
    return dtype, annotation.dim_str.split()


def _is_image(field: dataclasses.Field) -> bool:
    dtype, dims = _schema(field)
    return dtype == torch.uint8 and dims == ["h", "w", "3"]
