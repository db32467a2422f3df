"""Readings of a capture's numbers: direction, axes and unit of its cameras, and the root's rule.

Each layout has one of its own; flags decide parts of it, `detect` tries the rest.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from ash_core.captures.capture import Layout
from ash_core.conventions import CameraAxes
from ash_core.files.body_poses import RootRule

Extrinsics = Literal["world-to-camera", "camera-to-world"]
Unit = Literal["m", "cm", "mm"]
METRES: Final[Mapping[str, float]] = {"m": 1.0, "cm": 0.01, "mm": 0.001}


@dataclass(frozen=True)
class Reading:
    """Meaning of a capture's numbers."""

    extrinsics: Extrinsics = "world-to-camera"
    axes: CameraAxes = "opencv"
    units: Unit = "m"
    """Unit of the cameras' translations in the file."""
    intrinsics: float = 1.0
    """Size of the images that K describes, of the stored images' size."""
    root: RootRule = "pelvis"


OWN: Final[dict[Layout, Reading]] = {
    "avatarrex": Reading(),
    "thuman4": Reading(),
    "actorshq": Reading("camera-to-world"),
    "zju": Reading(units="mm", root="origin"),
    "easymocap": Reading(root="origin"),
    "mvhumannet": Reading(units="mm", root="origin"),
    "dna": Reading("camera-to-world"),
    "nerfstudio": Reading("camera-to-world", "opengl"),
    "colmap": Reading(),
    "uma": Reading(units="mm"),
}
"""Convention of each layout, as its reader applies it. Source: the layouts' public loaders."""
FREE_SCALE: Final = ("nerfstudio", "colmap")
"""Layouts whose cameras have no unit."""
FLAGS: Final = {
    "extrinsics": "--extrinsics",
    "axes": "--camera-axes",
    "units": "--units",
    "intrinsics": "--intrinsics",
    "root": "--root",
}
"""Flag that decides each part of a reading."""


@dataclass(frozen=True)
class Overrides:
    """Parts of the reading that the user decides; None: by the masks."""

    extrinsics: Extrinsics | None = None
    axes: CameraAxes | None = None
    units: Unit | None = None
    intrinsics: float | None = None
    root: RootRule | None = None
    scale: float | None = None
    """Metres in a unit of cameras that have none."""


def with_overrides(reading: Reading, overrides: Overrides) -> Reading:
    """Replace the parts of a reading that the user decides."""
    values = {name: getattr(overrides, name) for name in FLAGS}
    return replace(reading, **{name: value for name, value in values.items() if value is not None})


def list_readings(
    own: Reading, overrides: Overrides, is_free: bool, roots: Sequence[RootRule]
) -> list[Reading]:
    """List the readings to try, the layout's own first."""
    choices: dict[str, Sequence[object]] = {
        "extrinsics": ("world-to-camera", "camera-to-world"),
        "axes": ("opencv", "opengl"),
        "units": (own.units,) if is_free else tuple(METRES),
        "intrinsics": (1.0, 0.5, 2.0),
        "root": roots if own.root in roots else (own.root,),
    }
    for name in FLAGS:
        if getattr(overrides, name) is not None:
            choices[name] = (getattr(overrides, name),)
    readings = [
        Reading(**dict(zip(choices, values, strict=True)))  # type: ignore[arg-type]
        for values in itertools.product(*choices.values())
    ]
    return sorted(readings, key=lambda reading: count_differences(reading, own))


def count_differences(one: Reading, other: Reading) -> int:
    """Count the parts in which two readings differ."""
    return sum(getattr(one, f.name) != getattr(other, f.name) for f in fields(Reading))


def describe_part(reading: Reading, name: str) -> str:
    """Write the name and value of one part."""
    return f"{name} {getattr(reading, name)}"


def describe(reading: Reading) -> str:
    """Write all parts of a reading."""
    return ", ".join(describe_part(reading, f.name) for f in fields(Reading))


def describe_changes(reading: Reading, own: Reading) -> str:
    """Write the parts in which a reading differs from another, such as units mm, not m."""
    pairs = ((f.name, getattr(reading, f.name), getattr(own, f.name)) for f in fields(Reading))
    return ", ".join(f"{name} {value}, not {old}" for name, value, old in pairs if value != old)
