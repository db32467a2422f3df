"""`ash-studio eval`: quality of an avatar on a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.terminal import note, progress_bar, say
from ash_core.errors import InputError
from ash_core.scene.open import Backend, Device, Preset, load_avatar_data, make_renderer

if TYPE_CHECKING:
    from rich.progress import TaskID


@dataclass(frozen=True)
class Eval:
    """Measure an avatar against photographs: PSNR, SSIM, LPIPS and flicker.

    Scores are of train poses (training/, cameras trained on), novel views (training/, test
    cameras) and novel poses (testing/). They are measured on the published window, 600x496 pixels
    around the person with all else painted white, and on whole images.
    """

    avatar: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="AVATAR")]
    """Avatar file (.safetensors), or a built-in one: 'bundled', 'bundled-balanced', 'mira'
    (trained), 'actor' (untrained)."""
    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """Data set of `ash-studio import capture` or `extract`, or a published configuration."""
    out: Annotated[
        Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR", help_behavior_hint="")
    ] = None
    """Folder for report.json, report.txt and pictures.png (render, ground truth, error)."""
    test_cameras: Annotated[str, tyro.conf.arg(metavar="auto|none|N,N,...")] = "auto"
    """Cameras held out of the training; auto takes a configuration's val_camera."""
    views: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Number of images to measure of each kind, evenly chosen; at least one a camera. Default:
    all."""
    lpips_weights: Annotated[
        tuple[Path, ...], tyro.conf.arg(metavar="FILE", help_behavior_hint="")
    ] = ()
    """Files with LPIPS' weights: the backbone's (torchvision's alexnet or vgg16) and the heads'.
    Default: those of the package stlpips_pytorch, if it is installed."""
    device: Device = "auto"
    """Device that holds and renders the avatar; auto takes a usable GPU."""
    backend: Backend = "auto"
    """Rasterizer."""
    preset: Annotated[Preset | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Decoder preset of a native avatar without a trained decoder."""

    def run(self) -> int:
        # Check the flags.
        if self.views is not None and self.views < 1:
            raise InputError(f"--views: expected 1 or more, got {self.views}")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder")
        from ash_core.files.dataset import open_dataset
        from ash_core.training.evaluation import evaluate
        from ash_core.training.lpips import how_to_measure

        # Data set and avatar; the avatar has networks of its own.
        dataset = open_dataset(self.data)
        data = load_avatar_data(self.avatar, report=note)
        # Render and measure each kind of view.
        renderer = make_renderer(data, self.device, self.backend, self.preset, note)
        with progress_bar() as progress:
            tasks: dict[str, TaskID] = {}

            def advance(name: str, done: int, count: int) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name)
                progress.update(tasks[name], completed=done, total=count)

            result = evaluate(
                renderer,
                self.avatar,
                dataset,
                self.out,
                test_cameras=self.test_cameras,
                views=self.views,
                lpips_weights=self.lpips_weights,
                progress=advance,
                note=note,
            )
        # Report.
        say(str(result))
        if all(report.lpips is None for report in result):
            note(how_to_measure())
        return 0
