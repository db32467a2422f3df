"""Every layout that `import capture` reads: its writer, and the made-up clip as it can hold it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from made_body import write_body_model
from made_capture import (
    MadeClip,
    Rows,
    as_smpl,
    long_clip,
    marker_clip,
    with_hand_pca,
    with_shape,
    write_actorshq,
    write_avatarrex,
    write_easymocap,
    write_thuman4,
    write_zju,
)
from made_capture_more import (
    with_one_lens,
    write_colmap,
    write_dna,
    write_mvhumannet,
    write_nerfstudio,
    write_uma,
)

from ash_core.captures.capture import Layout
from ash_core.files.body_model import BodyModel, read_body_model

SHAPE = 0.1
"""Size of the shape coefficients: the body's joints stay inside the actor's silhouettes."""


@dataclass(frozen=True)
class MadeLayout:
    """One layout."""

    write: Callable[..., Any]
    """Takes folder, clip and faults; returns the folder of the capture if it is an inner one."""
    prepare: Callable[[MadeClip], MadeClip] = lambda clip: clip
    """Returns the clip as the layout can hold it."""
    has_lenses: bool = True
    units_a_metre: float = 1.0
    """Unit of the translations, as the layout's loaders take it."""
    names: Callable[[int], str] | None = None
    """Name of a camera by its number, where the layout has its own."""
    frame: Callable[[int], int] = lambda row: row
    """Number of a frame by its row."""
    is_lossless: bool = True
    """False: images and masks are in videos."""


LAYOUTS: dict[Layout, MadeLayout] = {
    "avatarrex": MadeLayout(write_avatarrex),
    "thuman4": MadeLayout(write_thuman4, has_lenses=False),
    "actorshq": MadeLayout(write_actorshq, has_lenses=False),
    "zju": MadeLayout(write_zju, as_smpl, units_a_metre=1000.0),
    "easymocap": MadeLayout(write_easymocap, with_hand_pca),
    "mvhumannet": MadeLayout(
        write_mvhumannet,
        lambda clip: with_hand_pca(with_one_lens(clip)),
        units_a_metre=1000.0,
        frame=lambda row: 5 * row + 5,
    ),
    "dna": MadeLayout(write_dna, names=lambda number: f"{number:02d}"),
    "nerfstudio": MadeLayout(write_nerfstudio),
    "colmap": MadeLayout(write_colmap),
    "uma": MadeLayout(write_uma, lambda clip: one_colour(clip), units_a_metre=1000.0,
                      is_lossless=False),
}  # fmt: skip


class RunsCode:
    """Object whose pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def one_colour(clip: MadeClip) -> MadeClip:
    """Show one marker in all channels: videos halve the resolution of colours."""
    return replace(clip, markers=clip.markers[1:2] * 3)


def made_layout(
    layout: Layout, home: Path, cameras: int, frames: int, **faults: Any
) -> tuple[MadeClip, Path, BodyModel]:
    """Write a body file and the long clip in a layout, below a folder.

    Returns the clip, whose rest joints are the body's with its shape, the capture and the body.
    """
    kind = LAYOUTS[layout]
    clip = long_clip("own" if kind.has_lenses else "none", cameras, frames)
    clip = kind.prepare(with_shape(clip, size=SHAPE))
    path = home / f"{clip.poses.kind.upper()}_NEUTRAL.npz"
    if not path.exists():
        write_body_model(path, clip.poses.kind, clip.rest_joints, vertices=1700)
    body = read_body_model(path)
    rest_joints = np.asarray(body.joints(body.shaped(clip.poses.betas)))
    clip = marker_clip(replace(clip, rest_joints=rest_joints))
    folder = home / "capture"
    return clip, kind.write(folder, clip, **faults) or folder, body


def spoilt_masks(clip: MadeClip, empty: Callable[[int, int], bool]) -> MadeClip:
    """Empty the masks of some frames and cameras."""
    masks = clip.masks

    def draw(frame: int) -> tuple[np.ndarray, ...]:
        row = enumerate(masks[frame])
        return tuple(np.zeros_like(mask) if empty(frame, c) else mask for c, mask in row)

    return replace(clip, masks=Rows(draw, range(len(masks))))
