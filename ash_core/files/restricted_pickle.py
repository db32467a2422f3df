"""Read pickled data without running anything: arrays, sparse matrices, tensors, plain values.

Body models and captures are published as pickles, which can name any function to call. Only the
names below are known here. Each stands for a function or a class of ours that collects data, so
that no code of the pickle's choice sees its bytes, numpy's own unpickling included.
"""

import io
import math
import pickle
import re
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from ash_core.errors import InputError
from ash_core.files.io import bad, read_bytes, show
from ash_core.files.npz import read_npy_header

MAX_BYTES: Final = 2 << 30
"""Size of the largest pickle: a body model is 250 MB."""
MAX_DEPTH: Final = 20
"""Most levels of lists and dictionaries in each other."""
MAX_SPARSE_SIDE: Final = 10_000_000
"""Most rows or columns of a sparse matrix, which may say more than it holds."""
_NUMBERS = re.compile(r"[<>=|]?([biufc][1248]|c16|[SU][0-9]{1,6}|\?)")
"""Types of numbers and texts; others have fields, or hold pointers."""
_OBJECTS = re.compile(r"[<>=|]?O[48]?")


class _Parts:
    """Object of a known class, of which only the state is kept."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Chumpy(_Parts):
    """Array of the package chumpy, as in the first SMPL files: its numbers are its entry 'x'."""


class _Sparse(_Parts):
    """Sparse matrix of scipy, by columns or rows."""


class _Columns(_Sparse):
    pass


class _Rows(_Sparse):
    pass


class _Type(_Parts):
    """Type of an array's numbers: its code, and its byte order from the state."""

    def __init__(self, code: object = "", *_: object) -> None:
        super().__init__()
        self.code = code

    def dtype(self) -> np.dtype:
        """Build the type. Raises: ValueError, for what is neither numbers, texts nor objects."""
        state = self.state
        is_plain = state is None or (isinstance(state, tuple) and not any(state[2:5]))
        code = self.code if isinstance(self.code, str) and is_plain else ""
        if _OBJECTS.fullmatch(code):
            return np.dtype(object)
        if not _NUMBERS.fullmatch(code):
            raise ValueError(f"an array of the type {str(self.code)[:20]!r}")
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
        return np.dtype(code).newbyteorder(order if order in ("<", ">") else "=")


class _Array(_Parts):
    """Array of numpy: shape, type, order and bytes."""


class _Call:
    """Function of ours that a pickle may call and cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, _state: object) -> None:
        raise pickle.UnpicklingError("it would change a function")


def _new_array(*_: object) -> _Array:
    return _Array()


def _array_of_buffer(raw: object, kind: object, shape: object, order: object) -> _Array:
    """Make an array of protocol 5."""
    array = _Array()
    array.state = (1, shape, kind, order == "F", raw)
    return array


def _scalar(kind: object, raw: object = b"") -> object:
    """Read a number of numpy."""
    array = _Array()
    array.state = (1, (), kind, False, raw)
    return _array(array, lambda value: value)[()]


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Return the bytes that protocols up to 2 write as a text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a text in an unknown encoding")
    return text.encode("latin1")


def _empty_bytes(*content: object) -> bytes:
    """Return no bytes: older protocols call `bytes` for nothing else."""
    if content:
        raise pickle.UnpicklingError("it would call bytes with a size")
    return b""


def _reconstruct(kind: object, *_: object) -> object:
    """Make an object of a class of Python 2."""
    if not (isinstance(kind, type) and issubclass(kind, _Parts)):
        raise pickle.UnpicklingError("it would make an object of an unknown class")
    return kind()


def _load_storage(data: bytes) -> object:
    """Read the storage of a torch tensor, which torch writes as a file of its own."""
    import torch

    return torch.load(io.BytesIO(data), weights_only=True)


def _rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: object) -> object:
    """Build the array of a tensor."""
    import torch

    if not isinstance(storage, torch.storage.TypedStorage):
        raise ValueError("a tensor without a storage of its type")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # by torch's own pickles
        data, dtype = storage.untyped(), storage.dtype
    count = data.nbytes() // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    is_empty = 0 in size
    if min((*size, *stride, offset), default=0) < 0 or (not is_empty and last >= count):
        raise ValueError("a tensor reaches beyond its storage")
    # A stride of 0 repeats numbers: more of them than the storage has is a trap.
    if math.prod(size) > count:
        raise ValueError("a tensor larger than its storage")
    tensor = torch.empty(0, dtype=dtype).set_(data, offset, size, stride).clone()
    return (tensor.float() if dtype == torch.bfloat16 else tensor).numpy()


def _parameter(data: object, *_: object) -> object:
    return data


_KNOWN: Final[dict[str, object]] = {
    **{
        f"numpy.{core}.{name}": _Call(function)
        for core in ("core", "_core")
        for name, function in {
            "multiarray._reconstruct": _new_array,
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _array_of_buffer,
        }.items()
    },
    "numpy.ndarray": _Array,
    "numpy.dtype": _Type,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "_codecs.encode": _Call(_encode),
    **{
        f"{python}.{name}": kind
        for python in ("builtins", "__builtin__")
        for name, kind in {
            **{"list": list, "dict": dict, "set": set, "tuple": tuple, "int": int},
            **{"float": float, "str": str, "bytes": _Call(_empty_bytes), "object": object},
        }.items()
    },
    "copy_reg._reconstructor": _Call(_reconstruct),
    "copyreg._reconstructor": _Call(_reconstruct),
    **{f"chumpy.{name}": _Chumpy for name in ("Ch", "ch.Ch")},
    **{f"scipy.sparse.{home}csc_matrix": _Columns for home in ("", "csc.", "_csc.")},
    **{f"scipy.sparse.{home}csr_matrix": _Rows for home in ("", "csr.", "_csr.")},
    "torch._utils._rebuild_tensor_v2": _Call(_rebuild_tensor),
    "torch._utils._rebuild_parameter": _Call(_parameter),
    "torch.storage._load_from_bytes": _Call(_load_storage),
}


class _Reader(pickle._Unpickler):  # type: ignore[name-defined]
    """Unpickler that knows no name but those above.

    Python's own, not C's: that one takes memory for as many entries as a pickle numbers.
    """

    def find_class(self, module: str, name: str) -> Any:
        meaning = _KNOWN.get(f"{module}.{name}")
        if meaning is None:
            raise pickle.UnpicklingError(f"it would run {module}.{name}")
        return meaning

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError("it refers to another file")


def read_pickle(path: Path | str) -> object:
    """Read a pickle of plain values, numpy arrays, scipy matrices and torch tensors.

    Tensors and chumpy arrays become numpy arrays, sparse matrices csr matrices. Texts of Python 2
    are latin1. Raises: InputError, for a pickle that names any other class or function too.
    """
    return _load(path, read_bytes(path, MAX_BYTES))


def read_object_array(path: Path | str) -> object:
    """Read the one object that an .npy file of numpy.save holds, a dictionary for instance.

    Raises: InputError, as `read_pickle`, and for an array of numbers or of several objects.
    """
    data = read_bytes(path, MAX_BYTES)
    file = io.BytesIO(data)
    try:
        shape, dtype = read_npy_header(file) or ((), np.dtype(np.void))
    except Exception as error:  # numpy parses the header as Python and raises what that raises
        text = f"expected an .npy file, could not read it: {show(str(error))}"
        raise bad(path, None, text) from None
    if not dtype.hasobject or shape not in ((), (1,)):
        raise bad(path, None, f"expected one object, got an array of {dtype}, {list(shape)}")
    array = _load(path, data[file.tell() :])
    if not isinstance(array, np.ndarray) or array.dtype != object or array.size != 1:
        raise bad(path, None, f"expected one object, got {type(array).__name__}")
    return array.item()


def _load(path: Path | str, data: bytes) -> object:
    """Load a pickle's bytes; path: named in errors."""
    try:
        return _Plain().of(_Reader(io.BytesIO(data), encoding="latin1").load())
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises any exception
        is_damaged = isinstance(error, KeyError | IndexError)  # their texts are numbers
        reason = "damaged" if is_damaged else _reason(str(error) or type(error).__name__)
        text = f"expected a pickle of arrays and plain values, could not read it: {reason}"
        raise bad(path, None, text) from error


def _reason(text: str) -> str:
    """Shorten an error's text, which may quote the file, to one printable line."""
    return text if text.isascii() and text.isprintable() and len(text) < 120 else show(text)


class _Plain:
    """Replacement of collected parts by arrays, in nested lists and dictionaries too.

    Each object is replaced once: a pickle may refer to one many times.
    """

    def __init__(self) -> None:
        self._results: dict[int, object] = {}
        self._open: list[object] = []

    def of(self, value: object) -> object:
        """Return the plain value. Raises: ValueError, for one that holds itself or is too deep."""
        if not isinstance(value, _Parts | dict | list | tuple):
            return value
        if id(value) in self._results:
            return self._results[id(value)]
        if len(self._open) >= MAX_DEPTH or any(value is outer for outer in self._open):
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        self._open.append(value)
        self._results[id(value)] = result = self._replaced(value)
        self._open.pop()
        return result

    def _replaced(self, value: object) -> object:
        if isinstance(value, _Array):
            return _array(value, self.of)
        if isinstance(value, _Chumpy):
            state = value.state
            numbers = self.of(state.get("x")) if isinstance(state, dict) else None
            if not isinstance(numbers, np.ndarray):
                raise ValueError("a chumpy expression instead of an array")
            return numbers
        if isinstance(value, _Sparse):
            return _matrix(value, self.of(value.state))
        if isinstance(value, _Type):
            return value.dtype()
        if isinstance(value, dict):
            return {self.of(key): self.of(item) for key, item in value.items()}
        assert isinstance(value, list | tuple), value
        items = [self.of(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items


def _array(parts: _Array, plain: Callable[[object], object]) -> np.ndarray:
    """Build an array of its state; objects in it are plain values."""
    state = parts.state
    if not isinstance(state, tuple) or len(state) != 5:
        raise ValueError("an array without its state")
    _, shape, kind, is_fortran, raw = state
    if not isinstance(kind, _Type) or not isinstance(shape, tuple):
        raise ValueError("an array without its type or shape")
    if not all(isinstance(n, int) and 0 <= n < 1 << 40 for n in shape) or len(shape) > 16:
        raise ValueError("an array with an impossible shape")
    dtype, size = kind.dtype(), math.prod(shape)
    order = "F" if is_fortran else "C"
    if dtype.hasobject:
        if not isinstance(raw, list) or len(raw) != size:
            raise ValueError("an array of another size than its shape")
        array = np.empty(size, object)
        for n, item in enumerate(raw):
            array[n] = plain(item)
        return array.reshape(shape, order=order)
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes | bytearray) or len(raw) != size * dtype.itemsize:
        raise ValueError("an array of another size than its shape")
    flat = np.ndarray(size, dtype, bytes(raw)) if size else np.empty(0, dtype)
    return flat.astype(dtype.newbyteorder("=")).reshape(shape, order=order)


def _matrix(parts: _Sparse, state: object) -> object:
    """Build the matrix of a sparse matrix's state."""
    import scipy.sparse as sp

    if not isinstance(state, dict):
        raise ValueError("a sparse matrix without its state")
    shape = state.get("_shape", state.get("shape"))
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError("a sparse matrix without its shape")
    if not all(0 <= n <= MAX_SPARSE_SIDE for n in shape):
        raise ValueError(f"a sparse matrix of more than {MAX_SPARSE_SIDE} rows or columns")
    kind = sp.csc_matrix if isinstance(parts, _Columns) else sp.csr_matrix
    matrix = kind((state["data"], state["indices"], state["indptr"]), shape=shape)
    matrix.check_format(full_check=True)
    return matrix.tocsr()
