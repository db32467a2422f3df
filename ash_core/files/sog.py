"""Read SOG, PlayCanvas' compressed splats: meta.json and lossless WebP images, zipped or not.

Each pixel is a splat. Version 1 places values between bounds, version 2 by codebooks of 256.
Source: the format's documentation (developer.playcanvas.com) and files of splat-transform.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import InputError
from ash_core.files.io import bad, is_kind, read_bytes, show
from ash_core.files.packed_ply import largest_last
from ash_core.files.splat_file import SplatFile
from ash_core.records import Gaussians

META: Final = "meta.json"
MOST_META_BYTES: Final = 16 << 20
MOST_IMAGE_BYTES: Final = 1 << 30
_BASES: Final = (0, 3, 8, 15)
_PALETTE_WIDTH: Final = 64
"""Number of entries in a row of the harmonics' palette image."""

_Images = Callable[[str], "UInt8[np.ndarray, 'n 4']"]


def read_sog(path: Path | str) -> SplatFile:
    """Read a .sog archive, a folder with a meta.json, or that file. Raises: InputError."""
    try:
        read = _open(Path(path))
        meta = json.loads(read(META, MOST_META_BYTES))
        count = _count(path, meta)
        return SplatFile(_activate(meta, count, lambda name: _pixels(path, name, read)))
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        text = f"expected a SOG file of version 1 or 2 ({show(f'{type(error).__name__}: {error}')})"
        raise bad(path, None, text) from error


def is_sog(path: Path) -> bool:
    """Return whether a path is a SOG file by its name: .sog, meta.json, or a folder with one."""
    named = path.suffix.lower() == ".sog" or path.name == META
    return named or is_kind(Path.is_file, path / META)


def _open(path: Path) -> Callable[[str, int], bytes]:
    """Make a reader of the files inside, by name and maximum size."""
    if path.suffix.lower() == ".sog":
        data = read_bytes(path, MOST_IMAGE_BYTES)
        try:
            archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise bad(path, None, f"expected a .sog archive: {error}") from error
        names = {Path(name).name: name for name in archive.namelist()}

        def unzip(name: str, limit: int) -> bytes:
            if name not in names:
                raise bad(path, None, f"expected {show(name)} inside, found none")
            if archive.getinfo(names[name]).file_size > limit:
                raise bad(path, None, f"{show(name)}: expected at most {limit >> 20} MiB")
            try:
                return archive.read(names[name])
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
                raise bad(path, None, f"{show(name)}: cannot be unpacked: {error}") from error

        return unzip
    folder = path.parent if path.name == META else path
    return lambda name, limit: read_bytes(folder / Path(name).name, limit)


def _count(path: Path | str, meta: Any) -> int:
    count = meta["count"] if "count" in meta else meta["means"]["shape"][0]
    if type(count) is not int or not 0 < count <= MAX_SIDE_PX**2:
        raise bad(path, None, f"expected a count of splats, got {show(str(count))}")
    return count


def _pixels(
    path: Path | str, name: str, read: Callable[[str, int], bytes]
) -> UInt8[np.ndarray, "h w 4"]:
    """Decode one image, RGBA."""
    data = read(str(name), MOST_IMAGE_BYTES)
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "PNG")) as image:
            if max(image.size) > MAX_SIDE_PX:
                raise bad(path, None, f"{show(name)}: expected sides up to {MAX_SIDE_PX} px")
            return np.array(image.convert("RGBA"))
    except InputError:
        raise
    except Exception as error:  # decoders raise any exception, depending on the damage
        reason = show(str(error) or type(error).__name__)
        raise bad(path, None, f"{show(name)}: expected a WebP image: {reason}") from error


def _activate(meta: Any, count: int, images: Callable[[str], np.ndarray]) -> Gaussians:
    def splats(part: str, number: int = 0) -> np.ndarray:
        rows = images(meta[part]["files"][number]).reshape(-1, 4)
        if len(rows) < count:
            raise ValueError(f"{part}: {len(rows)} pixels for {count} splats")
        return rows[:count]

    low, high = (np.array(meta["means"][end], float)[:3] for end in ("mins", "maxs"))
    words = splats("means")[:, :3] | splats("means", 1)[:, :3].astype(np.uint16) << 8
    spread = np.where(high > low, high - low, 1.0)
    logs = low + spread * (words / 65535)
    scales, colours = splats("scales")[:, :3], splats("sh0")
    quats = splats("quats")
    largest = np.clip(quats[:, 3].astype(int) - 252, 0, 3)

    if "codebook" in meta["sh0"]:  # version 2
        log_scales = np.array(meta["scales"]["codebook"], float)[scales]
        dc = np.array(meta["sh0"]["codebook"], float)[colours[:, :3]]
        opacities = colours[:, 3] / 255
    else:
        log_scales = _between(meta["scales"], scales)
        shown = _between(meta["sh0"], colours)
        dc, opacities = shown[:, :3], torch.from_numpy(shown[:, 3]).sigmoid().numpy()
    return Gaussians(
        means=_tensor(np.sign(logs) * np.expm1(np.abs(logs))),
        quats=_tensor(largest_last((quats[:, :3] / 127.5 - 1) * np.sqrt(0.5), largest)),
        scales=_tensor(np.exp(log_scales)),
        opacities=_tensor(opacities),
        sh=_tensor(np.concatenate((dc[:, None], _harmonics(meta, count, images)), 1)),
    )


def _between(part: Any, values: np.ndarray) -> np.ndarray:
    low, high = (np.array(part[end], float) for end in ("mins", "maxs"))
    return low + values / 255 * (high - low)


def _harmonics(
    meta: Any, count: int, images: Callable[[str], np.ndarray]
) -> Float[np.ndarray, "N K 3"]:
    """Look up harmonics above degree 0: an entry of a palette for each splat."""
    part = meta.get("shN")
    if part is None:
        return np.zeros((count, 0, 3))
    centroids, labels = (images(name) for name in part["files"][:2])
    bases = centroids.shape[1] // _PALETTE_WIDTH
    if bases not in _BASES or bases * _PALETTE_WIDTH != centroids.shape[1]:
        raise ValueError(f"shN: palette of {centroids.shape[1]} px width")
    rows = labels.reshape(-1, 4)[:count].astype(int)
    entry = rows[:, 0] | rows[:, 1] << 8
    if len(entry) < count or entry.max() >= centroids.shape[0] * _PALETTE_WIDTH:
        raise ValueError("shN: labels that name no entry of the palette")
    values = centroids[..., :3].reshape(-1, bases, 3)[entry]
    if "codebook" in part:
        return np.array(part["codebook"], float)[values]
    return _between(part, values)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
