"""Poses of the training frames, corrected a little through the rasterizer.

Poses that were fitted to images are off by degrees and centimetres: hands, feet, a global drift.
Each training frame has a correction of its dofs, zero at first. It is bounded, penalised for its
size and for its change from frame to frame, and learned with the avatar.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ash_core.files.dataset import SplitData
from ash_core.files.skeletool import read_motion
from ash_core.geometry.motion import first_frames, normalise_poses, window_frames
from ash_core.records import Motion, PosePlace, PoseWindow, Skeleton, to_device
from ash_core.variants import HistoryOffsets

REFINED: Final = "refined_poses.motion"
"""File beside the trained avatar: all poses of training/, with the corrections."""
CORRECTIONS: Final = "corrections"
"""Name of the learned parameter."""
MOST_RAD: Final = math.radians(10.0)
"""Bound on the correction of a joint's angle."""
LEVER_M: Final = 0.3
"""Translation that counts as much as 1 rad, so that a slide's bound is 52 mm: an arm's length."""
BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-5
"""Adam's epsilon for corrections. It is no mere guard against zero: each frame is seen rarely, and
Adam would move a dof that no image shows as fast as any other."""
ROUNDING: Final = 1e-6
"""Rounding of a `.motion` file, m and rad."""


class PoseTuning:
    """Learned corrections of a motion's poses."""

    def __init__(
        self,
        motion: Motion,
        frames: Sequence[int],
        skeleton: Skeleton,
        offsets: HistoryOffsets,
        device: torch.device,
    ) -> None:
        """frames: those that are trained on; frames between two of them take from both."""
        self.motion, self._offsets, self._cpu_skeleton = motion, offsets, skeleton
        self.frames = sorted(set(frames))
        self._takes = first_frames(motion, skeleton)
        self._skeleton = to_device(skeleton, device)
        self._dofs: Float[Tensor, "F D"] = motion.dofs.to(device)
        self._scales = dof_scales(skeleton).to(device)
        # Two rows for each frame of the motion, and the share of the second.
        places = np.interp(np.arange(len(motion.dofs)), self.frames, np.arange(len(self.frames)))
        lower = np.floor(places).astype(np.int64)
        self._lower = torch.from_numpy(lower).to(device)
        self._upper = torch.from_numpy(np.minimum(lower + 1, len(self.frames) - 1)).to(device)
        self._shares = torch.from_numpy(places - lower).float().to(device)
        self._places: dict[int, PosePlace] = {}
        shape = len(self.frames), motion.dofs.shape[1]
        self.corrections = nn.Parameter(torch.zeros(shape, device=device))
        """Before the bound, rad; `LEVER_M` counts as 1 rad."""

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """List the learned parameters by name."""
        return [(CORRECTIONS, self.corrections)]

    def place(self, frame: int) -> PosePlace:
        """Find a frame's place; it stays on the device."""
        if frame not in self._places:
            last = len(self.frames) - 1
            row = min(bisect_left(self.frames, frame), last)
            rows = [max(row - 1, 0), row, min(row + 1, last)]
            takes = {self._takes[self.frames[one]] for one in rows}
            place = PosePlace(
                window_frames(self.motion, frame, self._cpu_skeleton, self._offsets),
                torch.tensor(rows),
                torch.tensor(float(0 < row < last and len(takes) == 1)),
            )
            self._places[frame] = to_device(place, self._dofs.device)
        return self._places[frame]

    def window(self, place: PosePlace) -> PoseWindow:
        """Make the window of corrected poses at a place.

        The pose itself has gradients, its history has none: the decoder would learn to read what
        the history's poses were bent to say.
        """
        frames = place.frames
        with torch.no_grad():
            history = self._dofs[frames] + self._correction(self.corrections, frames)
        frame = frames[0, 2:]  # no scalar: an index of that waits for the GPU
        own = self._dofs[frame] + self._correction(self.corrections, frame)
        poses = torch.where((frames == frame)[..., None], own, history)
        return PoseWindow(poses[:, 2], normalise_poses(poses, self._skeleton))

    def _correction(
        self, corrections: Float[Tensor, "K D"], frames: Int[Tensor, "*b"]
    ) -> Float[Tensor, "*b D"]:
        """Compute what is added to the dofs of some frames. float64, m and rad."""
        shares = self._shares[frames][..., None]
        between = corrections[self._lower[frames]] * (1 - shares)
        between = between + corrections[self._upper[frames]] * shares
        return self._scales * bounded(between).double()

    def penalties(self, place: PosePlace) -> dict[str, Float[Tensor, ""]]:
        """Compute a training frame's parts of the loss, degrees^2, where 5 mm count as a degree.

        pose: sum of squares of the correction. pose_change: that of its second difference to the
        training frames before and after it, in the same take.
        """
        degrees = torch.rad2deg(bounded(self.corrections[place.rows]))
        bend = place.has_bend * (degrees[0] - 2 * degrees[1] + degrees[2])
        return {"pose": degrees[1].square().sum(), "pose_change": bend.square().sum()}

    @torch.no_grad()
    def refined(self, corrections: Float[Tensor, "K D"]) -> Motion:
        """Return the motion with all its poses corrected, on the CPU."""
        every = torch.arange(len(self._dofs), device=self._dofs.device)
        dofs = (self._dofs + self._correction(corrections, every)).cpu()
        return replace(self.motion, dofs=dofs, normalised=None)


def bounded(corrections: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
    """Keep corrections within `MOST_RAD`, without an edge."""
    return MOST_RAD * (corrections / MOST_RAD).tanh()


def dof_scales(skeleton: Skeleton) -> Float[Tensor, "D"]:
    """Compute each dof's step for a correction of 1 rad: by its joints' weights, m for slides."""
    weights = skeleton.dof_matrix.double().abs()
    slides = (weights * skeleton.is_prismatic[:, None]).amax(0) > 0
    steps = torch.where(slides, LEVER_M, 1.0).double()
    return steps / weights.amax(0).clamp(min=1e-3)


def with_refined_poses(folder: Path, split: SplitData, skeleton: Skeleton) -> SplitData | None:
    """Replace a split's poses by those that a training into this folder refined.

    None without such a file, and where it is of other poses. Raises: InputError for a damaged file.
    """
    path, motion = folder / REFINED, split.motion
    if not path.is_file():
        return None
    refined = read_motion(path, skeleton).dofs
    if refined.shape != motion.dofs.shape:
        return None
    most = MOST_RAD * dof_scales(skeleton) + ROUNDING * (1 + motion.dofs.abs())
    if bool(((refined - motion.dofs).abs() > most).any()):
        return None
    return replace(split, motion=replace(motion, dofs=refined, normalised=None))
