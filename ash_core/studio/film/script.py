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
"""Frames between the last pose of a motion and the first pose of the next."""
GLIDE_M: Final = 0.05
TURN_RAD: Final = 0.12
"""Largest mean distance and turn of the actor between frames of a bridge."""
TRAINING_PREFIX: Final = "training_"
TESTING_PREFIXES: Final = ("unseen_", "retarget_")
"""Prefixes of motions that are made for testing."""


@dataclass(frozen=True)
class Take:
    """Place of a motion in a script."""

    name: str
    start: int
    frames: int


@dataclass(frozen=True)
class Script:
    """Motions joined by smooth transitions, since the cloth's simulation fails at a jump."""

    dofs: Float64[np.ndarray, "F D"]
    takes: tuple[Take, ...]


def find_motions(folder: Path) -> dict[Split, dict[str, Path]]:
    """List an actor's motions by split and name.

    Names give their split; if none names testing, the last one by name is for testing.
    """
    motions = {path.stem: path for path in sorted((folder / "motions").glob("*.motion"))}
    if not motions:
        raise bad(folder / "motions", None, "expected an actor's .motion files in it, found none")
    testing = [name for name in motions if name.startswith(TESTING_PREFIXES)]
    if not testing and len(motions) > 1:
        others = [name for name in motions if not name.startswith(TRAINING_PREFIX)]
        testing = others[-1:]
    return {
        "training": {name: path for name, path in motions.items() if name not in testing},
        "testing": {name: motions[name] for name in testing},
    }


def read_script(paths: Sequence[Path], skeleton: Skeleton) -> Script:
    """Read motion files, one after the other. Raises: InputError."""
    return join_motions(
        [(path.stem, read_motion(path, skeleton).dofs.numpy()) for path in paths], skeleton
    )


def join_motions(
    motions: Sequence[tuple[str, Float64[np.ndarray, "_ D"]]], skeleton: Skeleton
) -> Script:
    """Join motions in order; of the heading's full turns the nearest is taken."""
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
    """Interpolate the poses between two, exclusive: slow at both ends."""
    way = float(np.linalg.norm(last[:3] - first[:3]))
    turn = abs(weight * (last[HEADING_DOF] - first[HEADING_DOF]))
    count = max(LEAST_BRIDGE, math.ceil(way / GLIDE_M), math.ceil(turn / TURN_RAD))
    share = np.arange(1, count + 1) / (count + 1)
    share = share * share * (3 - 2 * share)
    return first + share[:, None] * (last - first)


def motion_file(folder: Path, name: str) -> Path:
    """Find a motion by its name in an actor's folder, or a file of its own. Raises: InputError."""
    motions = {name: path for part in find_motions(folder).values() for name, path in part.items()}
    if name in motions:
        return motions[name]
    if is_kind(Path.is_file, Path(name)):
        return Path(name)
    names = ", ".join(motions)
    raise bad(name, None, f"expected a .motion file or one of the actor's motions: {names}")
