"""Pickles that would run code are refused; arrays, matrices and tensors are read as they are."""

import builtins
import os
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from made_body import chumpy

from ash_core.errors import InputError
from ash_core.files.restricted_pickle import read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
MARK = "a_file_that_code_would_make"


class Call:
    """Object whose pickle calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple:
        return self.parts


def written(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def refused(path: Path) -> str:
    """The error's text; it is one line."""
    with pytest.raises(InputError) as caught:
        read_pickle(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)
    return str(caught.value)


def in_objects(value: object) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = value
    return array


HOSTILE: dict[str, Callable[[], Any]] = {
    "system": lambda: Call(os.system, f"touch {MARK}"),
    "eval": lambda: Call(builtins.eval, f"open('{MARK}', 'w')"),
    "open": lambda: Call(open, MARK, "w"),
    "getattr": lambda: Call(getattr, Call(__import__, "os"), "system"),
    "import": lambda: Call(__import__, "os"),
    "numpy load": lambda: Call(np.load, MARK),
    "numpy method": lambda: Call(np.ndarray.tofile, np.zeros(1), MARK),
    "torch load": lambda: Call(torch.load, MARK),
    "instance": lambda: SimpleNamespace(x=1),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_pickle_that_would_run_code_is_refused(
    kind: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for wrap in (lambda x: x, lambda x: {"a": [x]}, in_objects):
        text = refused(written(tmp_path / "a.pkl", wrap(HOSTILE[kind]()), protocol))
        assert "it would run" in text
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cos\nsystem\n(S'touch x'\ntR.",
        b"cnumpy\nndarray.tofile\n.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"cbuiltins\nlist.__subclasses__\n.",
        b"cash_core.files.restricted_pickle\n_Reader\n.",
        b"Pan id of another file\n.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
        b"(i__main__\nx\n.",
        b"(S'a'\nios\nsystem\n.",
        # A function that is known may not be changed: BUILD with attributes, and with slots.
        b"c_codecs\nencode\n(S'__code__'\nI1\ndb.",
        b"c_codecs\nencode\n(N(S'__defaults__'\nNdtb.",
        # Memory that a size alone would take.
        b"cbuiltins\nbytes\n(I100000000000\ntR.",
    ],
)
def test_hand_written_opcodes_reach_nothing(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(text)
    refused(path)


def test_a_type_with_pointers_is_refused(tmp_path: Path) -> None:
    """Bytes of the file would count as objects in memory."""
    real = pickle.dumps(np.zeros(1, np.dtype([("a", "f8")])), 2)
    path = tmp_path / "a.pkl"
    path.write_bytes(real)
    assert "type" in refused(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_plain_values_come_back(protocol: int, tmp_path: Path) -> None:
    value = {
        "floats": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">f4"),
        "empty": np.zeros((0, 3)),
        "none": np.array(2.5),
        "number": np.float64(1.5),
        "count": np.uint32(7),
        "flags": np.array([True, False]),
        "texts": np.array(["a", "bc"]),
        "bytes": b"\x00\xff",
        "text": "\u00e9",
        "plain": [1, (2.0, None), True, 1 << 70],
    }
    found = read_pickle(written(tmp_path / "a.pkl", value, protocol))
    assert isinstance(found, dict)
    assert list(found) == list(value)
    for key, expected in value.items():
        if isinstance(expected, np.ndarray | np.generic):
            assert found[key].dtype == np.asarray(expected).dtype.newbyteorder("=")
            np.testing.assert_array_equal(found[key], expected)
        else:
            assert found[key] == expected


def test_dictionaries_of_other_kinds_become_plain(tmp_path: Path) -> None:
    counts: defaultdict = defaultdict(list, a=[1])
    found = read_pickle(written(tmp_path / "a.pkl", [OrderedDict(b=2), counts, {3}]))
    assert found == [{"b": 2}, {"a": [1]}, {3}]
    assert [type(value) for value in found] == [dict, dict, set]  # type: ignore[union-attr]


def test_objects_in_arrays_are_plain(tmp_path: Path) -> None:
    nested = in_objects({"K": [np.eye(3)]})
    found = read_pickle(written(tmp_path / "a.pkl", nested))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found[0]["K"][0], np.eye(3))


@pytest.mark.parametrize("old", [False, True], ids=["numpy 2", "numpy 1"])
def test_both_names_of_numpy_are_known(old: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "a.pkl", np.arange(4.0), 2)
    data = path.read_bytes()
    assert b"numpy._core.multiarray\n" in data
    path.write_bytes(data.replace(b"numpy._core.", b"numpy.core.") if old else data)
    np.testing.assert_array_equal(read_pickle(path), np.arange(4.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("home", ["", "csc.", "_csc."])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sparse_matrices_come_back(home: str, protocol: int, tmp_path: Path) -> None:
    dense = np.diag([1.0, 0.0, 3.0])[:2]
    path = written(tmp_path / "a.pkl", sp.csc_matrix(dense), min(protocol, 3))
    new = f"scipy.sparse.{home}".rstrip(".").encode()
    path.write_bytes(path.read_bytes().replace(b"scipy.sparse._csc", new))
    found = read_pickle(path)
    assert sp.issparse(found)
    assert found.format == "csr"  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found.toarray(), dense)  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", ["indices", "indptr", "shape"])
def test_a_damaged_sparse_matrix_is_refused(fault: str, tmp_path: Path) -> None:
    matrix = sp.csc_matrix(np.eye(3))
    if fault == "indices":
        matrix.indices[0] = 1000
    elif fault == "indptr":
        matrix.indptr[:] = matrix.indptr[::-1].copy()
    else:
        matrix._shape = (1 << 40, 1 << 40)
    refused(written(tmp_path / "a.pkl", matrix))


def test_chumpy_arrays_are_their_numbers(tmp_path: Path) -> None:
    with chumpy() as made:
        path = written(tmp_path / "a.pkl", {"shapedirs": made(np.arange(3.0))}, 2)
        broken = written(tmp_path / "b.pkl", {"shapedirs": made("x + y")}, 2)
    found = read_pickle(path)
    np.testing.assert_array_equal(found["shapedirs"], np.arange(3.0))  # type: ignore[index]
    assert "chumpy" in refused(broken)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bfloat16])
def test_tensors_become_arrays(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.arange(6).to(dtype).reshape(2, 3).T
    path = written(tmp_path / "a.pkl", [tensor, torch.nn.Parameter(torch.ones(2))])
    found, parameter = read_pickle(path)  # type: ignore[misc]
    np.testing.assert_array_equal(found, tensor.float().numpy())
    np.testing.assert_array_equal(parameter, np.ones(2))


def test_texts_of_python_2_are_latin1(tmp_path: Path) -> None:
    """Keys and bytes are the same kind of text there."""
    raw = np.array([1.0, -2.0]).tobytes()
    text = b"}U\x01xcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
    text += b"(I1\n(I2\ntcnumpy\ndtype\n(U\x02f8I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\n"
    text += b"U" + bytes([len(raw)]) + raw + b"tbs."
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02" + text)
    found = read_pickle(path)
    np.testing.assert_array_equal(found["x"], [1.0, -2.0])  # type: ignore[index]


def test_a_value_in_itself_is_refused(tmp_path: Path) -> None:
    own: list = []
    own.append(own)
    refused(written(tmp_path / "a.pkl", own))


def test_many_references_to_one_value_take_no_time(tmp_path: Path) -> None:
    """Ten lists of ten, ten deep: ten billion values if each reference were its own."""
    value: list = [np.zeros(2)]
    for _ in range(10):
        value = [value] * 10
    found = read_pickle(written(tmp_path / "a.pkl", value))
    assert found[0] is found[9]  # type: ignore[index]


def test_a_cut_pickle_is_refused_at_every_length(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.pkl", {"a": np.arange(3.0), "b": [1, "x"]}, 2).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a.pkl").write_bytes(whole[:length])
        refused(tmp_path / "a.pkl")
