"""Read .smc files of DNA-Rendering: HDF5 with encoded images and arrays.

Only what lies in the file itself is read: links to other files, and data kept in them, are
refused. Needs the package h5py, an extra.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ash_core.errors import InputError
from ash_core.files.io import bad, is_kind, show
from ash_core.install import install_command

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_IMAGE_BYTES: Final = 64 << 20
"""Size of the largest encoded image: those of 12 MP are 10 MB."""
MAX_NUMBERS_BYTES: Final = 128 << 20
"""Size of the largest array as float64: 100,000 poses of 55 joints."""
MAX_ATTRIBUTE_BYTES: Final = 4096
MAX_DEPTH: Final = 8
"""Longest path of a member."""


class SmcFile:
    """Open .smc file. Every fault of its content is an InputError that names the member."""

    def __init__(self, path: Path, root: Any) -> None:
        self.path = path
        self._root = root

    def names(self, group: str) -> list[str]:
        """List the members of a group in the file's order; empty for a missing group."""
        import h5py

        item = self._find(group)
        return list(map(str, item.keys())) if isinstance(item, h5py.Group) else []

    def has(self, member: str) -> bool:
        """Return whether a group or dataset is in the file."""
        return self._find(member) is not None

    def attributes(self, group: str = "") -> "Mapping[str, object]":
        """Read the attributes of a group: numbers, and texts of fixed length.

        HDF5 takes memory for a text of variable length before it checks the length.
        """
        import h5py

        item: Any = self._find(group)
        values: dict[str, object] = {}
        if item is None:
            return values
        for name in list(item.attrs)[:64]:
            attribute = item.attrs.get_id(name)
            kind = attribute.get_type()
            is_fixed = isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID)
            is_fixed |= isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
            if not is_fixed or attribute.get_storage_size() > MAX_ATTRIBUTE_BYTES:
                continue
            value = item.attrs[name]
            is_text = isinstance(value, bytes)
            values[str(name)] = value.decode("utf-8", "replace") if is_text else value
        return values

    def image(self, member: str) -> bytes:
        """Read an encoded image: a row of bytes."""
        data = self._dataset(member, "an encoded image", MAX_IMAGE_BYTES)
        if data.dtype != np.uint8 or data.ndim != 1:
            raise self.bad(member, f"expected a row of bytes, got {data.dtype} {list(data.shape)}")
        return bytes(memoryview(data[()]))

    def numbers(self, member: str, shape: Sequence[int | None]) -> Float[ndarray, "..."]:
        """Read finite numbers as float64. shape: sizes of the axes, None for any."""
        data = self._dataset(member, "numbers", MAX_NUMBERS_BYTES)
        fits = data.ndim == len(shape) and all(
            size is None or size == side for size, side in zip(shape, data.shape, strict=True)
        )
        sizes = " x ".join("any" if size is None else str(size) for size in shape)
        if data.dtype.kind not in "fiu" or not fits:
            got = f"{data.dtype} {list(data.shape)}"
            raise self.bad(member, f"expected {sizes or 'one'} numbers, got {got}")
        values = np.asarray(data[()], np.float64)
        if not np.isfinite(values).all():
            raise self.bad(member, "expected finite numbers, got NaN or infinity")
        return values

    def shape(self, member: str) -> tuple[int, ...]:
        """Return the sizes of a dataset's axes; empty for a missing one."""
        item = self._find(member)
        return () if item is None else tuple(getattr(item, "shape", None) or ())

    def bad(self, member: str, text: str) -> InputError:
        """Make the error for a member."""
        return bad(self.path, None, f"{_place(member)}: {text}")

    def _dataset(self, member: str, kind: str, limit: int) -> Any:
        import h5py

        item = self._find(member)
        if not isinstance(item, h5py.Dataset):
            raise self.bad(member, f"expected {kind}, found nothing there")
        if item.external or item.is_virtual:
            raise self.bad(member, "expected data in the file itself, got a link to another one")
        width = max(item.dtype.itemsize, 8 if kind == "numbers" else 1)
        if item.shape is None or (item.size or 0) * width > limit:
            raise self.bad(member, f"expected {kind} of at most {limit >> 20} MiB")
        return item

    def _find(self, member: str) -> Any:
        """Return a group or dataset; None if it is missing. Links are not followed."""
        import h5py

        item, parts = self._root, [part for part in member.split("/") if part]
        for part in parts[:MAX_DEPTH]:
            if not isinstance(item, h5py.Group):
                return None
            if (link := item.get(part, getlink=True)) is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise self.bad(member, "expected data in the file itself, got a link")
            item = item[part]
        return item


def _place(member: str) -> str:
    """Name a member in an error: short, printable."""
    return show(member)[1:-1] or "the file"


@contextmanager
def open_smc(path: Path) -> Iterator[SmcFile]:
    """Open an .smc file for a while. Raises: InputError, also for damage met while it is open."""
    try:
        import h5py
    except ImportError as error:
        text = f"{path}: .smc files need the package h5py: {install_command('capture')}"
        raise InputError(text) from error
    if not is_kind(Path.is_file, path):
        raise bad(path, None, "expected an .smc file, found nothing there")
    try:
        with h5py.File(path, "r", locking="best-effort") as root:
            yield SmcFile(path, root)
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        # h5py raises any of them, depending on the damage.
        reason = show(str(error) or type(error).__name__)
        text = f"expected an .smc file (HDF5), could not read it: {reason}"
        raise bad(path, None, text) from error
