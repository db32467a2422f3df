"""A training's state in one file: weights, their mean, the optimiser's moments, the step.

What is drawn at random follows from seed and step (`dataset`), so that these two are its whole
random state.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.io import bad, show
from ash_core.files.tensors import read_tensors, write_tensors

KIND = "training checkpoint"
VERSION = 2
"""Version 1, which names none, is still read: it called the history offsets lags."""
KEPT = 2
"""Newest checkpoints that stay."""
_NAME = re.compile(r"step_(\d{9})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps."""

    step: int
    """Steps that were done."""
    seconds: float
    """Time that they took, validations included."""
    settings: dict[str, Any]
    """Settings that the next steps follow from besides the tensors: seed, sizes of a step."""
    tensors: dict[str, Tensor]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write it, then drop all but the newest."""
    path = folder / f"step_{checkpoint.step:09d}.safetensors"
    about = {name: getattr(checkpoint, name) for name in ("step", "seconds", "settings")}
    write_tensors(path, KIND, checkpoint.tensors, about | {"version": VERSION})
    for old in _there(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def drop_newest(folder: Path, step: int) -> None:
    """Drop what was written after this many steps or later, unless nothing else is there."""
    written = {path: int(path.stem.removeprefix("step_")) for path in _there(folder)}
    late = [path for path, done in written.items() if done >= step]
    for path in late if len(late) < len(written) else ():
        path.unlink(missing_ok=True)


def newest_checkpoint(folder: Path) -> tuple[Path, Checkpoint] | None:
    """Read the newest that is whole; damaged ones are passed over.

    Raises: InputError for a checkpoint of a later version.
    """
    for path in reversed(_there(folder)):
        try:
            tensors, about = read_tensors(path, KIND)
            version = about.pop("version", 1)
            checkpoint = Checkpoint(tensors=tensors, **about)
        except (InputError, AttributeError, TypeError):
            continue
        if version not in range(1, VERSION + 1):
            text = f"expected checkpoint version {VERSION} or older, got {show(str(version))}"
            raise bad(path, None, text)
        if version == 1:
            checkpoint.settings["history_offsets"] = checkpoint.settings.pop("lags", None)
        return path, checkpoint
    return None


def _there(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step_*") if _NAME.fullmatch(path.name))
