"""Boxes of a training's images, kept in a file: a second start opens no image.

A row is found by the image's name and the bytes of its files, so that it survives a copy or a move
of the data set. An image that is written anew with as many bytes as before keeps its old box: then
windows lie a little off, but pixels always come from the image itself.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.dataset import image_files
from ash_core.files.tensors import read_tensors, write_tensors

KIND: Final = "image index"
VERSION: Final = 1
CHUNK: Final = 1024
"""Images whose files one thread looks at in a row."""


class ImageIndex:
    """Boxes of images by name and bytes, in one file."""

    def __init__(self, path: Path, images: Sequence[Path], pool: ThreadPoolExecutor) -> None:
        self.path = path
        chunks = [images[n : n + CHUNK] for n in range(0, len(images), CHUNK)]
        keys = [key for part in pool.map(_keys, chunks) for key in part]
        self._keys: Int[np.ndarray, "n"] = np.array(keys, np.int64)

    def read(self) -> tuple[Bool[np.ndarray, "n"], Int[np.ndarray, "n 7"]]:
        """Return a mask of the images that are known, and their rows; zeros for the others."""
        count = len(self._keys)
        nothing = np.zeros(count, bool), np.zeros((count, 7), np.int32)
        try:
            stored, about = read_tensors(self.path, KIND)
        except InputError:  # missing, or of a training that was killed by a full disk
            return nothing
        if about != {"version": VERSION} or not _is_table(stored):
            return nothing
        keys, rows = stored["keys"].numpy(), stored["rows"].numpy()
        if not len(keys):
            return nothing
        places = np.searchsorted(keys, self._keys).clip(max=len(keys) - 1)
        is_known = keys[places] == self._keys
        return is_known, np.where(is_known[:, None], rows[places], 0)

    def write(self, is_known: Bool[np.ndarray, "n"], rows: Int[np.ndarray, "n 7"]) -> None:
        """Store rows of the images that are known, in place of the file's others."""
        keys, first = np.unique(self._keys[is_known], return_index=True)
        tensors = {
            "keys": torch.from_numpy(keys),
            "rows": torch.from_numpy(np.ascontiguousarray(rows[is_known][first], np.int32)),
        }
        write_tensors(self.path, KIND, tensors, {"version": VERSION})


def _keys(images: Sequence[Path]) -> list[int]:
    """A digest of each image's name and its files' bytes."""
    keys = []
    for image in images:
        sizes = []
        for file in image_files(image):
            try:
                sizes.append(file.stat().st_size)
            except (OSError, ValueError):  # gone by now: its reader says so
                sizes.append(-1)
        digest = hashlib.blake2b(f"{image.name} {sizes}".encode(), digest_size=8).digest()
        keys.append(int.from_bytes(digest, "little", signed=True))
    return keys


def _is_table(stored: dict[str, Tensor]) -> bool:
    """Tell whether these are sorted keys with a row each."""
    if set(stored) != {"keys", "rows"}:
        return False
    keys, rows = stored["keys"], stored["rows"]
    shaped = keys.ndim == 1 and rows.shape == (len(keys), 7)
    typed = keys.dtype == torch.int64 and rows.dtype == torch.int32
    return shaped and typed and bool((keys[1:] > keys[:-1]).all())
