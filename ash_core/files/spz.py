"""Read .spz, Niantic's compressed splats, versions 1 to 4.

Layout: bytes of all positions, then of opacities, colours, scales, rotations and harmonics; gzipped
in one (1 to 3) or each by zstd (4). Source: the format's README (nianticlabs/spz).
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from ash_core.conventions import Up
from ash_core.errors import InputError
from ash_core.files.io import bad, read_bytes
from ash_core.files.packed_ply import largest_last
from ash_core.files.splat_file import SplatFile
from ash_core.install import install_command
from ash_core.records import Gaussians

MOST_BYTES: Final = 4 << 30
_MAGIC: Final = b"NGSP"
_COLOUR_SCALE: Final = 0.15
_BASES: Final = (0, 3, 8, 15, 24)
"""Number of harmonics above degree 0, by degree."""
_EXTENSIONS_FLAG: Final = 2
_AXES_EXTENSION: Final = 0xADBE0003
_RUB, _RDF = 4, 6
"""Axes by the extension's numbers: right, up, back (the default) and right, down, front."""


@dataclass(frozen=True)
class _Header:
    version: int
    count: int
    degree: int
    fraction_bits: int
    flags: int

    @property
    def sizes(self) -> list[int]:
        """Return the bytes of each part."""
        position = 6 if self.version == 1 else 9
        rotation = 3 if self.version < 3 else 4
        parts = (position, 1, 3, 3, rotation, 3 * _BASES[self.degree])
        return [part * self.count for part in parts]


def read_spz(path: Path | str) -> SplatFile:
    """Read a .spz: Y up, unless an extension names other axes. Raises: InputError."""
    data = read_bytes(path, MOST_BYTES)
    try:
        header, parts, extensions = (_read_zstd if data[:4] == _MAGIC else _read_gzip)(path, data)
    except (struct.error, zlib.error, EOFError) as error:
        raise bad(path, None, f"expected a whole .spz file: {error}") from error
    notes = ()
    if header.degree > 3:
        notes = (f"harmonics of degree {header.degree} are cut to degree 3",)
    up = _up_of(path, extensions)
    return SplatFile(_activate(header, parts), up=up, notes=notes)


def _check_header(path: Path | str, header: _Header) -> None:
    if header.degree >= len(_BASES) or not 0 < header.fraction_bits <= 24:
        numbers = f"{header.degree} and {header.fraction_bits}"
        text = f"expected harmonics of degree 0 to 4 and 1 to 24 bits, got {numbers}"
        raise bad(path, None, text)
    if header.count == 0:
        raise bad(path, None, "expected splats, got none")


def _read_gzip(path: Path | str, data: bytes) -> tuple[_Header, list[bytes], bytes]:
    """Unpack versions 1 to 3. No more is decompressed than the header announces."""
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    if data[:2] != b"\x1f\x8b":
        raise bad(path, None, "expected a .spz file (gzip or NGSP)")
    start = unzip.decompress(data, 16)
    magic, version, count, *rest = struct.unpack("<4sIIBBBx", start)
    if magic != _MAGIC or version not in (1, 2, 3):
        raise bad(path, None, f"expected .spz of version 1 to 4, got version {version}")
    header = _Header(version, count, *rest)
    _check_header(path, header)
    needed, limit = sum(header.sizes), 1032 * len(data)  # largest ratio of deflate
    body = unzip.decompress(unzip.unconsumed_tail, needed) if needed <= limit else b""
    if len(body) < needed:
        raise bad(path, None, f"expected {needed} bytes for {count} splats, got {len(body)}")
    parts, place = [], 0
    for size in header.sizes:
        parts.append(body[place : place + size])
        place += size
    extensions = b""
    if header.flags & _EXTENSIONS_FLAG:
        extensions = unzip.decompress(unzip.unconsumed_tail, 1 << 20)
    return header, parts, extensions


def _read_zstd(path: Path | str, data: bytes) -> tuple[_Header, list[bytes], bytes]:
    """Unpack version 4: a table of streams after the header and the extensions."""
    try:
        import zstandard
    except ImportError as error:
        text = f"{path}: .spz of version 4 needs the package zstandard: {install_command('splats')}"
        raise InputError(text) from error
    _, version, count, *rest, streams, table = struct.unpack("<4sIIBBBBI", data[:20])
    if version != 4:
        raise bad(path, None, f"expected .spz of version 1 to 4, got version {version}")
    header = _Header(version, count, *rest)
    _check_header(path, header)
    needed = [size for size in header.sizes if size > 0]
    if streams < len(needed):
        raise bad(path, None, f"expected {len(needed)} streams, got {streams}")
    rows = struct.iter_unpack("<QQ", data[table : table + 16 * streams])
    sizes = [row for row in rows if row[1] > 0]
    if [length for _, length in sizes[: len(needed)]] != needed:
        raise bad(path, None, f"expected streams of {needed} bytes for {count} splats")
    parts, place = [], table + 16 * streams
    for packed, length in sizes[: len(needed)]:
        try:
            part = zstandard.ZstdDecompressor().decompress(
                data[place : place + packed], max_output_size=length
            )
        except zstandard.ZstdError as error:
            raise bad(path, None, f"expected a whole .spz file: {error}") from error
        if len(part) != length:
            raise bad(path, None, f"expected a stream of {length} bytes, got {len(part)}")
        parts.append(part)
        place += packed
    has_extensions = header.flags & _EXTENSIONS_FLAG
    return header, [*parts, b""][:6], data[32:table] if has_extensions else b""


def _up_of(path: Path | str, extensions: bytes) -> Up:
    """Read the axes that an extension names; records are type, length, content."""
    place = 0
    while place + 12 <= len(extensions):
        kind, length, axes = struct.unpack_from("<III", extensions, place)
        if kind == _AXES_EXTENSION:
            if axes not in (0, _RUB, _RDF):
                text = f"expected axes right-up-back or right-down-front, got number {axes}"
                raise bad(path, None, f"{text} of SPZ_ADOBE_coordinate_system")
            return "y-down" if axes == _RDF else "y"
        place += 8 + length
    return "y"


def _activate(header: _Header, parts: list[bytes]) -> Gaussians:
    positions, alphas, colours, scales, rotations, rest = (
        np.frombuffer(part, np.uint8) for part in parts
    )
    count = header.count
    if header.version == 1:
        means = positions.view("<f2").astype(np.float32)
    else:
        words = positions.reshape(-1, 3).astype(np.int32)
        fixed = words[:, 0] | words[:, 1] << 8 | words[:, 2] << 16
        means = (fixed - (fixed >> 23 << 24)) / (1 << header.fraction_bits)
    bases = _BASES[header.degree]
    harmonics = (rest.reshape(count, bases, 3).astype(np.float32) - 128) / 128
    dc = (colours.reshape(count, 1, 3) / 255 - 0.5) / _COLOUR_SCALE
    return Gaussians(
        means=_tensor(means.reshape(count, 3)),
        quats=_tensor(_rotations(header.version, rotations)),
        scales=_tensor(np.exp(scales.reshape(count, 3) / 16 - 10)),
        opacities=_tensor(alphas / 255),
        sh=_tensor(np.concatenate((dc, harmonics[:, : _BASES[3]]), 1)),
    )


def _rotations(version: int, stored: np.ndarray) -> Float[np.ndarray, "N 4"]:
    """Rebuild quaternions, stored as x, y, z (to version 2) or as their three smallest parts."""
    if version < 3:
        vector = stored.reshape(-1, 3) / 127.5 - 1
        real = np.sqrt(np.maximum(0.0, 1 - (vector**2).sum(1, keepdims=True)))
        return np.concatenate((real, vector), 1)
    words = stored.view("<u4")
    # Ten bits each, the last one lowest: a sign and nine bits of size.
    parts = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], 1)
    small = np.sqrt(0.5) * (parts & 511) / 511 * np.where(parts >> 9, -1, 1)
    return np.roll(largest_last(small, words >> 30), 1, axis=1)  # stored as xyzw


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
