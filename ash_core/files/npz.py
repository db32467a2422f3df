"""Arrays of an .npz file, read one by one. Types and sizes are checked before memory is taken."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np

from ash_core.errors import InputError
from ash_core.files.io import bad, show

MAX_ARRAY_BYTES: Final = 2 << 30
"""Size of the largest array: shape directions of a body are 100 MB."""
_ENDING = ".npy"


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype] | None:
    """Parse the header of an .npy file: shape and type; None for a version with named fields.

    Raises whatever numpy raises for a damaged one.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        return None
    parse = np.lib.format.read_array_header_1_0
    shape, _, dtype = (parse if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    return shape, dtype


class Npz:
    """Arrays by name. Nothing pickled is read."""

    def __init__(self, path: Path | str) -> None:
        """Read the list of arrays. Raises: InputError, for what is no .npz file."""
        self.path = Path(path)
        with self._opened() as archive:
            names = [name for name in archive.namelist() if name.endswith(_ENDING)]
        self.names = tuple(name.removesuffix(_ENDING) for name in names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Read the shape of an array without its numbers. Raises: InputError."""
        with self._member(name) as member:
            return self._head(name, member)[0]

    def read(self, name: str, limit: int = MAX_ARRAY_BYTES) -> np.ndarray:
        """Read an array of at most `limit` bytes. Raises: InputError, for pickled objects too."""
        with self._member(name) as member:
            shape, dtype = self._head(name, member)
            if dtype.hasobject:
                raise self._bad(name, "an array of numbers", "pickled objects")
            size = math.prod(shape) * dtype.itemsize
            if size > limit:
                raise self._bad(name, f"at most {limit >> 20} MiB", f"{size >> 20} MiB")
        with self._member(name) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def _head(self, name: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
        """Parse the header of an array: shape and type of its numbers."""
        header = read_npy_header(member)
        if header is None:
            raise self._bad(name, "an array of numbers", "fields with names")
        return header

    def _bad(self, name: str, expected: str, actual: str) -> InputError:
        return bad(self.path, None, f"{show(name)}: expected {expected}, got {actual}")

    @contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        if name not in self.names:
            listed = ", ".join(map(show, self.names[:12])) or "none"
            raise bad(self.path, None, f"expected an array {show(name)}, got the arrays {listed}")
        with self._opened(name) as archive, archive.open(name + _ENDING) as member:
            yield member

    @contextmanager
    def _opened(self, name: str = "") -> Iterator[zipfile.ZipFile]:
        try:
            if not self.path.is_file():
                actual = "a folder" if self.path.is_dir() else "nothing there"
                raise bad(self.path, None, f"expected a file, found {actual}")
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except InputError:
            raise
        except OSError as error:
            raise bad(self.path, None, f"cannot be read: {error.strerror or error}") from error
        except Exception as error:  # a damaged archive raises any exception
            what = f"array {show(name)}: " if name else ""
            text = f"{what}expected a whole .npz file: {show(str(error) or type(error).__name__)}"
            raise bad(self.path, None, text) from error
