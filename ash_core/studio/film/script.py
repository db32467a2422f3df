"""Script of a virtual stage: an actor's motions, one after the other, as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64

from ash_core.files.dataset import Split
from ash_core.files.io import bad, is_kind
from ash_core.files.skeletool import read_motion
from ash_core.geometry.motion import HEADING_DOF
from ash_core.records import Skeleton

LEAST_BRIDGE: Final = 12
"""Frames from the last pose of a motion to the first one of the next."""
GLIDE_M: Final = 0.05
TURN_RAD: Final = 0.12
"""How far the actor may move and turn from frame to frame meanwhile, on average."""
TRAINING_PREFIX: Final = "training_"
TESTING_PREFIXES: Final = ("unseen_", "retarget_")
"""How the names of motions begin that are made for one split."""


@dataclass(frozen=True)
class Take:
    """Where a motion lies in a script."""

    name: str
    start: int
    frames: int


@dataclass(frozen=True)
class Script:
    """Motions joined: the pose goes over smoothly, since cloth would not survive a jump."""

    dofs: Float64[np.ndarray, "F D"]
    takes: tuple[Take, ...]


def find_motions(folder: Path) -> dict[Split, dict[str, Path]]:
    """An actor's motions by split and name.

    Names say which split they are for; where none says it is for testing, the last one by name is.
    """
    found = {path.stem: path for path in sorted((folder / "motions").glob("*.motion"))}
    if not found:
        raise bad(folder / "motions", None, "expected an actor's .motion files in it, found none")
    testing = [name for name in found if name.startswith(TESTING_PREFIXES)]
    if not testing and len(found) > 1:
        others = [name for name in found if not name.startswith(TRAINING_PREFIX)]
        testing = others[-1:]
    return {
        "training": {name: path for name, path in found.items() if name not in testing},
        "testing": {name: found[name] for name in testing},
    }


def read_script(paths: Sequence[Path], skeleton: Skeleton) -> Script:
    """Motion files, one after the other. Raises: InputError."""
    return join_motions(
        [(path.stem, read_motion(path, skeleton).dofs.numpy()) for path in paths], skeleton
    )


def join_motions(
    motions: Sequence[tuple[str, Float64[np.ndarray, "_ D"]]], skeleton: Skeleton
) -> Script:
    """One after the other; of the heading's full turns the nearest is taken."""
    weight = float(skeleton.dof_matrix[:, HEADING_DOF].sum()) or 1.0
    turn = math.tau / abs(weight)
    parts: list[np.ndarray] = []
    takes: list[Take] = []
    count = 0
    for name, dofs in motions:
        dofs = dofs.copy()
        if parts:
            last = parts[-1][-1]
            dofs[:, HEADING_DOF] += turn * round((last[HEADING_DOF] - dofs[0, HEADING_DOF]) / turn)
            bridge = _bridge(last, dofs[0], weight)
            parts.append(bridge)
            count += len(bridge)
        takes.append(Take(name, count, len(dofs)))
        parts.append(dofs)
        count += len(dofs)
    return Script(np.concatenate(parts), tuple(takes))


def _bridge(
    first: Float64[np.ndarray, "D"], last: Float64[np.ndarray, "D"], weight: float
) -> Float64[np.ndarray, "_ D"]:
    """Poses between two, which are not among them: slow at both ends."""
    way = float(np.linalg.norm(last[:3] - first[:3]))
    turn = abs(weight * (last[HEADING_DOF] - first[HEADING_DOF]))
    count = max(LEAST_BRIDGE, math.ceil(way / GLIDE_M), math.ceil(turn / TURN_RAD))
    share = np.arange(1, count + 1) / (count + 1)
    share = share * share * (3 - 2 * share)
    return first + share[:, None] * (last - first)


def motion_file(folder: Path, name: str) -> Path:
    """A motion by its name in an actor's folder, or a file of its own. Raises: InputError."""
    found = {name: path for part in find_motions(folder).values() for name, path in part.items()}
    if name in found:
        return found[name]
    if is_kind(Path.is_file, Path(name)):
        return Path(name)
    names = ", ".join(found)
    raise bad(name, None, f"expected a .motion file or one of the actor's motions: {names}")
