"""Released checkpoints: torch files, read without running anything that is in them."""

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


def read_checkpoint(path: Path | str, wanted: Mapping[str, Shapes]) -> dict[str, dict[str, Tensor]]:
    """State dictionaries out of a torch checkpoint; no code in it is ever run.

    wanted: for each top-level entry, the shape of each of its tensors. Other entries are ignored,
    and so is the `module.` that data-parallel training puts before names. Tensors become float32.
    """
    content = _load_checkpoint(Path(path))
    if not isinstance(content, Mapping):
        raise bad(path, None, f"expected a dictionary of networks, got {type(content).__name__}")
    missing = [name for name in wanted if not isinstance(content.get(name), Mapping)]
    if missing:
        there = ", ".join(show(str(name)) for name in list(content)[:8]) or "nothing"
        raise bad(
            path, None, f"expected {', '.join(wanted)}; missing {', '.join(missing)}; got {there}"
        )
    states: dict[str, dict[str, Tensor]] = {}
    for name, shapes in wanted.items():
        state = {str(key).removeprefix("module."): value for key, value in content[name].items()}
        odd = [key for key, value in state.items() if not _is_dense(value)]
        if odd:
            raise bad(
                path, None, f"{name}: expected dense tensors, got something else in {show(odd[0])}"
            )
        check_shapes(path, name, state, shapes)  # before anything is allocated for them
        states[name] = {
            # Copied: the file stays mapped only as long as this function.
            key: state[key].long().clone() if is_counter(key) else state[key].float().clone()
            for key in shapes
            if key in state
        }
        check_state(path, name, states[name], shapes)
    return states


def read_state(path: Path | str) -> dict[str, Tensor]:
    """The plain tensors of a torch file that is one state dictionary; no code in it is ever run."""
    content = _load_checkpoint(Path(path))
    if not isinstance(content, Mapping) or not all(map(_is_dense, content.values())):
        raise bad(path, None, "expected a dictionary of dense tensors, got something else")
    return {str(name): tensor.clone() for name, tensor in content.items()}


def _is_dense(value: object) -> bool:
    """A plain tensor that stores each of its numbers: an expanded one would grow when copied."""
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
            warnings.simplefilter("ignore")  # it warns of a file's oddities, then raises for them
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise bad(path, None, f"expected a torch checkpoint: {_reason(error)}") from None
        text = f"expected plain tensors, got pickled code ({code[1]}): refused, not run"
        raise bad(path, None, text) from None
    except Exception as error:  # torch's readers raise whatever the damage leads to
        raise bad(path, None, f"expected a torch checkpoint: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return show(str(error).split("\n", 1)[0] or type(error).__name__)


def _check_checkpoint_file(path: Path) -> None:
    """A regular file whose archive holds no more than its own bytes."""
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
