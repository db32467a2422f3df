"""Poses just shown, so that manual posing looks like motion played."""

import math
from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.conventions import FPS
from ash_core.geometry.motion import live_poses
from ash_core.variants import HistoryOffsets


class PoseHistory:
    """The last poses that were shown, so that a drag looks like motion played.

    While a drag moves the character every frame's pose is pushed; between two pushes a pose is
    taken to have moved evenly.
    """

    def __init__(self, offsets: HistoryOffsets) -> None:
        """offsets: of the avatar; without a frame rate they count frames of `FPS`."""
        self.offsets, self.fps = offsets, offsets.fps or FPS
        self._shown: deque[tuple[float, Float[Tensor, "D"]]] = deque()

    @property
    def reach_s(self) -> float:
        """For so long a pose counts."""
        return live_poses(self.offsets) / self.fps

    def push(self, dofs: Float[Tensor, "D"], time_s: float) -> None:
        """A pose and when it was shown. An earlier time than the last begins anew; the same time
        replaces the last.
        """
        assert math.isfinite(time_s), time_s
        if self._shown and time_s < self._shown[-1][0]:
            self._shown.clear()
        if self._shown and time_s == self._shown[-1][0]:
            self._shown.pop()
        self._shown.append((time_s, dofs.detach().to("cpu", torch.float64, copy=True)))
        # One pose before the oldest sample stays: the samples lie between two.
        oldest = time_s - self.reach_s
        while len(self._shown) > 1 and self._shown[1][0] <= oldest:
            self._shown.popleft()

    def begin(self, dofs: Float[Tensor, "P D"], time_s: float) -> None:
        """Begin as if these poses had been shown until now, oldest first, at the motions' rate."""
        self.reset(dofs[0])
        for back, pose in zip(reversed(range(len(dofs) - 1)), dofs[1:], strict=True):
            self.push(pose, time_s - back / self.fps)

    def reset(self, dofs: Float[Tensor, "D"]) -> None:
        """Begin as if this pose had been shown for ever: nothing moves."""
        self._shown.clear()
        self._shown.append((-math.inf, dofs.detach().to("cpu", torch.float64, copy=True)))

    def poses(self, time_s: float | None = None) -> Float[Tensor, "P D"]:
        """The poses at the last frames' times, the newest last: what `live_window` takes.

        time_s: what now is; by default the last push. After the last push its pose stays, before
        the first that one stood.
        """
        assert self._shown, "no pose was pushed"
        now = self._shown[-1][0] if time_s is None else time_s
        back = reversed(range(live_poses(self.offsets)))
        return torch.stack([self._at(now - frames / self.fps) for frames in back])

    def poses_with(self, dofs: Float[Tensor, "D"], time_s: float) -> Float[Tensor, "P D"]:
        """List the poses at the last frames' times as if one more were pushed; push none."""
        pushed = PoseHistory(self.offsets)
        pushed._shown = self._shown.copy()
        pushed.push(dofs, time_s)
        return pushed.poses()

    def _at(self, time_s: float) -> Float[Tensor, "D"]:
        later_s, later = self._shown[-1]
        if time_s >= later_s:
            return later
        for earlier_s, earlier in reversed(self._shown):
            if earlier_s <= time_s:
                if math.isinf(earlier_s):
                    return earlier
                share = (time_s - earlier_s) / (later_s - earlier_s)
                return earlier + share * (later - earlier)
            later_s, later = earlier_s, earlier
        return later
