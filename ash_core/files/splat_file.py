"""Splats of a file, and the selection of those that can be drawn."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import torch

from ash_core.conventions import Up
from ash_core.files.io import bad
from ash_core.records import Gaussians

LARGEST_SCALE_M: Final = 4.85e8
FARTHEST_M: Final = 1e6
"""Largest distance and scale, beyond which float32 arithmetic overflows or nothing is visible."""


@dataclass(frozen=True)
class SplatFile:
    """Content of one file of splats."""

    gaussians: Gaussians
    """Gaussians, activated, in the file's axes; unchecked, with any quaternions before `screen`."""
    up: Up | None = None
    """Up axis, if the file or its format names it."""
    not_finite: int = 0
    """Number of splats with a number that is not finite, in the file."""
    notes: tuple[str, ...] = ()


def screen(path: Path | str, file: SplatFile) -> SplatFile:
    """Leave out splats that cannot be drawn, with a note; make quaternions unit.

    Raises: InputError if none is left.
    """
    g = file.gaussians
    lengths = g.quats.norm(dim=1)
    finite = torch.ones_like(lengths, dtype=torch.bool)
    for field in fields(g):
        finite &= getattr(g, field.name).isfinite().reshape(len(lengths), -1).all(1)
    near = (g.means.abs().amax(1) <= FARTHEST_M) & (g.scales.amax(1) <= LARGEST_SCALE_M)
    turned = lengths > 1e-12
    visible = finite & near & turned

    # Note splats that are not finite, and finite ones that cannot be drawn.
    notes = list(file.notes)
    lost, shown = int((~finite).sum()), file.not_finite - int((~finite).sum())
    if file.not_finite:
        parts = [f"{lost} left out"] if lost else []
        if shown > 0:
            parts.append(f"{shown} shown as their writers mean them (flat, opaque or invisible)")
        notes.append(f"{_count(file.not_finite)} not finite: {', '.join(parts)}")
    for what, mask in (
        (f"further away than {FARTHEST_M:g} m, or larger than any scene", finite & ~near),
        ("without a rotation (a quaternion of zeros)", finite & near & ~turned),
    ):
        if bool(mask.any()):
            notes.append(f"{_count(int(mask.sum()))} {what}: left out")
    if not bool(visible.any()):
        text = "; ".join(notes[len(file.notes) :])
        raise bad(path, None, f"expected splats that can be drawn, got none: {text}")
    if not bool(visible.all()):
        g = Gaussians(**{f.name: getattr(g, f.name)[visible] for f in fields(g)})
        lengths = lengths[visible]
    g = replace(g, quats=g.quats / lengths[:, None])
    return replace(file, gaussians=g, notes=tuple(notes))


def _count(count: int) -> str:
    return "1 splat is" if count == 1 else f"{count:,} splats are"
