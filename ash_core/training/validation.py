"""Pictures that were never trained on, while training: held-out cameras, held-out motion."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.dataset import SplitData, read_masked
from ash_core.files.image import encode_png
from ash_core.files.io import write_atomic
from ash_core.records import PosedMesh, PoseWindow
from ash_core.splat.rasterize import rasterize
from ash_core.training.dataset import Poses, View, cameras_of, views_of
from ash_core.training.lpips import Lpips
from ash_core.training.metrics import Scores, mean_scores, scores
from ash_core.training.model import Model
from ash_core.training.pictures import Progress

ERROR_GAIN = 4.0
"""The picture of errors shows them this much stronger."""


@dataclass(frozen=True)
class Shot:
    """One photograph to compare with, and the pose that it shows."""

    kind: str
    view: View
    mesh: PosedMesh
    window: PoseWindow


def read_truth(path: Path) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """A photograph over white, and its mask."""
    rgb, alpha = (torch.from_numpy(part).float() / 255 for part in read_masked(path))
    return rgb * alpha[..., None] + 1 - alpha[..., None], alpha


def comparison(
    render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"]
) -> UInt8[Tensor, "h w3 3"]:
    """Put side by side the render, the ground truth, and where they differ, dark on white."""
    render = render.clamp(0, 1)
    error = 1 - (ERROR_GAIN * (render - truth).abs().mean(-1, keepdim=True)).clamp(0, 1)
    row = torch.cat((render, truth, error.expand_as(render)), 1)
    return (row * 255 + 0.5).to(torch.uint8)


def evenly(count: int, limit: int) -> list[int]:
    """Choose at most `limit` of `count` numbers, spread evenly."""
    limit = min(count, limit)
    return [(2 * n + 1) * count // (2 * limit) for n in range(limit)]


class Validation:
    """A few views that stay the same, so that their pictures can be leafed through."""

    def __init__(self, model: Model, lpips: Lpips | None, folder: Path) -> None:
        self.model, self.lpips, self.folder = model, lpips, folder
        self.shots: list[tuple[Shot, SplitData]] = []
        self.problem: str | None = None
        """Why the last run could not read or write some image; the training goes on."""

    def add(
        self,
        kind: str,
        split: SplitData,
        cameras: Sequence[int],
        count: int,
        cache: Path,
        progress: Progress,
        frames: Sequence[int] | None = None,
    ) -> None:
        """Add a number of photographs of a split by some cameras, spread over frames.

        frames: those to choose from; None: all.
        """
        cameras = cameras or cameras_of(split)
        every = range(len(split.motion.dofs)) if frames is None else frames
        views = views_of(split, every, cameras)
        # Beside each other in the list are the cameras of one frame: take them in turn.
        chosen = [views[n] for n in evenly(len(views), count)]
        if not chosen:
            return
        shown = sorted({view.frame for view in chosen})
        poses = Poses(self.model.avatar, split, shown, cache, progress)
        numbers = {frame: number for number, frame in enumerate(shown)}
        for view in chosen:
            number = numbers[view.frame]
            shot = Shot(kind, view, poses.mesh(number), poses.windows[number])
            self.shots.append((shot, split))

    def read(self, shot: Shot) -> tuple[Tensor, Tensor]:
        """Read a shot's ground truth, over white, and its mask. Raises: InputError."""
        truth, mask = read_truth(shot.view.path)
        return truth.to(self.model.device), mask.to(self.model.device)

    def measure(
        self, shot: Shot, split: SplitData, truth: Tensor, mask: Tensor
    ) -> tuple[Tensor, Scores]:
        """Draw a shot over white, and compare it with the ground truth."""
        place = self.model.place(split.name, shot.view.frame)
        window = self.model.window(shot.window, place)
        gaussians = self.model.gaussians(shot.mesh, window)
        render = rasterize(gaussians, split.cameras[shot.view.camera], torch.ones(3)).rgb
        return render, scores(render, truth, mask, self.lpips)

    @torch.no_grad()
    def run(self, step: int) -> dict[str, Scores]:
        """Mean scores by kind; pictures go to the folder, named by kind, view and step."""
        self.problem = None
        scores_by_kind: dict[str, list[Scores]] = {}
        self.model.avatar.character.forget()
        for shot, split in list(self.shots):
            try:
                truth, mask = self.read(shot)
            except InputError as error:  # torn: named once, then left out
                self.problem = self.problem or str(error)
                self.shots = [other for other in self.shots if other[0] is not shot]
                continue
            render, its_scores = self.measure(shot, split, truth, mask)
            scores_by_kind.setdefault(shot.kind, []).append(its_scores)
            name = f"{shot.kind.replace(' ', '_')}_c{shot.view.camera:03d}_f{shot.view.frame:06d}"
            picture = encode_png(comparison(render, truth).cpu())
            try:
                write_atomic(self.folder / f"{name}_step_{step:09d}.png", picture)
            except InputError as error:  # a full disk, say; the scores are what counts
                self.problem = self.problem or str(error)
        return {kind: mean_scores(every) for kind, every in scores_by_kind.items()}
