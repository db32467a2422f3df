"""Named tensors in one file, safetensors: our own writer, and the reader of our own files."""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.io import bad, show, write_atomic

STORED = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.bool: "BOOL",
    torch.uint8: "U8",
}


def serialise(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Return the parts of a safetensors file. Its own writer would copy all of it in memory."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))  # aligned
    for name, tensor in ordered.items():
        start, end = end, end + tensor.nbytes
        stored, shape = STORED[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text))
    yield text
    for tensor in ordered.values():
        if tensor.numel():  # an empty one of NumPy's has strides that no view takes
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().data


def write_tensors(path: Path, kind: str, tensors: Mapping[str, Tensor], about: object) -> None:
    """Write tensors and a JSON value under a kind's name; whole or not at all."""
    metadata = {"format": f"ash-studio {kind}", "about": json.dumps(about)}
    write_atomic(path, serialise(tensors, metadata))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], Any]:
    """Read tensors and value of `write_tensors`. Raises: InputError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != f"ash-studio {kind}":
                actual = show(metadata.get("format", "none"))
                raise bad(path, None, f"expected a {kind}, got the format {actual}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(metadata["about"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise bad(path, None, f"expected a {kind}: {show(str(error)[:200])}") from error
