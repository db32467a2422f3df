"""Released checkpoints: torch files, read without executing any code in them."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.checks import Shapes, check_shapes, check_state, is_counter
from ash_core.files.io import bad, show

MAX_CHECKPOINT_BYTES = 8 << 30


def read_checkpoint(
    path: Path | str, expected: Mapping[str, Shapes]
) -> dict[str, dict[str, Tensor]]:
    """Read state dictionaries from a torch checkpoint; its code is never executed.

    expected: for each top-level entry, the shape of each of its tensors. Other entries are ignored,
    as is the prefix `module.` of data-parallel training. Tensors become float32.
    """
    content = _load_checkpoint(Path(path))
    if not isinstance(content, Mapping):
        raise bad(path, None, f"expected a dictionary of networks, got {type(content).__name__}")
    missing = [name for name in expected if not isinstance(content.get(name), Mapping)]
    if missing:
        entries = ", ".join(show(str(name)) for name in list(content)[:8]) or "nothing"
        raise bad(
            path,
            None,
            f"expected {', '.join(expected)}; missing {', '.join(missing)}; got {entries}",
        )
    states: dict[str, dict[str, Tensor]] = {}
    for name, shapes in expected.items():
        state = {str(key).removeprefix("module."): value for key, value in content[name].items()}
        odd = [key for key, value in state.items() if not _is_dense(value)]
        if odd:
            raise bad(
                path, None, f"{name}: expected dense tensors, got something else in {show(odd[0])}"
            )
        check_shapes(path, name, state, shapes)  # before any memory is allocated for them
        states[name] = {
            # Copied, since the file is mapped only during this function.
            key: state[key].long().clone() if is_counter(key) else state[key].float().clone()
            for key in shapes
            if key in state
        }
        check_state(path, name, states[name], shapes)
    return states


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read the plain tensors of a torch file that is one state dictionary; no code is executed."""
    content = _load_checkpoint(Path(path))
    if not isinstance(content, Mapping) or not all(map(_is_dense, content.values())):
        raise bad(path, None, "expected a dictionary of dense tensors, got something else")
    return {str(name): tensor.clone() for name, tensor in content.items()}


def _is_dense(value: object) -> bool:
    """Return whether a tensor stores each of its numbers: an expanded one would grow when
    copied."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def _load_checkpoint(path: Path) -> object:
    _check_checkpoint_file(path)
    mapped = zipfile.is_zipfile(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a file before it raises
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise bad(path, None, f"expected a torch checkpoint: {_reason(error)}") from None
        text = f"expected plain tensors, got pickled code ({code[1]}): refused, not run"
        raise bad(path, None, text) from None
    except Exception as error:  # torch raises any exception, depending on the damage
        raise bad(path, None, f"expected a torch checkpoint: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return show(str(error).split("\n", 1)[0] or type(error).__name__)


def _check_checkpoint_file(path: Path) -> None:
    """Refuse anything but a regular file whose archive holds no more than its own bytes."""
    try:
        if not path.is_file():
            raise bad(path, None, "expected a checkpoint, found no file")
        size = path.stat().st_size
        if size > MAX_CHECKPOINT_BYTES:
            raise bad(path, None, f"expected a checkpoint of at most 8 GiB, got {size} bytes")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > size:
                raise bad(
                    path, None, "expected an archive as torch writes it, not a compressed one"
                )
    except InputError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise bad(path, None, f"expected a torch checkpoint: {_reason(error)}") from None
