"""`ash-studio train`: footage to an avatar."""

import os
import shlex
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from ash_core.commands.terminal import StopRequest, note, progress_bar, say, show_table
from ash_core.errors import INTERRUPTED
from ash_core.scene.open import avatar_path
from ash_core.training.config import TrainConfig
from ash_core.variants import VARIANTS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ash_core.files.release import Release
    from ash_core.training.setup import Stop


class Train(TrainConfig):
    __doc__ = TrainConfig.__doc__

    def run(self) -> int:
        from ash_core.training.release_config import take_release

        avatar = None if self.avatar is None else avatar_path(str(self.avatar))
        own: TrainConfig = replace(self, avatar=avatar)
        config, release = take_release(own)
        resolved = config.resolved()  # mistakes are reported before torch is imported
        speaks = os.environ.get("RANK", "0") == "0"  # the first process alone prints
        if release is not None and speaks:
            _show_taken(own, resolved, release)
        from ash_core.training.train import train

        with StopRequest() as stop, progress_bar() as progress:
            trained = train(config, _Terminal(progress if speaks else None, stop))
        if stop.number is not None and not stop.is_interrupt:
            # Slurm and torchrun signal again: a saved training must not end as killed.
            signal.signal(stop.number, signal.SIG_IGN)
        if speaks and not stop.is_set:
            say(f"{trained.avatar}: trained")
            for line in next_commands(resolved):
                say(f"  {line}")
        return INTERRUPTED if trained.stop == "interrupt" else 0


def next_commands(config: TrainConfig) -> list[str]:
    """Name the commands that show a trained avatar and measure it."""
    avatar = shlex.quote(str(config.folder / "avatar.safetensors"))
    data, report = shlex.quote(str(config.data)), shlex.quote(str(config.folder / "report"))
    cameras = "" if config.test_cameras == "auto" else f" --test-cameras {config.test_cameras}"
    return [
        f"ash-studio view {avatar}",
        f"ash-studio eval {avatar} {data} -o {report}{cameras}",
    ]


def _show_taken(config: TrainConfig, resolved: TrainConfig, release: "Release") -> None:
    """Print the values that come from a published configuration, and their entries."""
    from ash_core.training.release_config import taken

    rows = [(row.item, row.value, row.source) for row in taken(config, resolved, release)]
    show_table(str(release.conf), ("item", "value", "from"), rows)
    follows = VARIANTS[config.variant].follows_configuration
    if not follows and config.steps is None and release.schedule.steps is not None:
        defaults = replace(config, out=resolved.out).resolved()
        text = f"its schedule is for the published networks ({release.schedule.steps:,} steps)"
        flags = f"--steps {defaults.steps} --learning-rate {defaults.learning_rate}"
        note(f"{release.conf}: {text}; a native avatar does with {flags}")


class _Terminal:
    """Progress as bars, notes as lines."""

    def __init__(self, progress: "Progress | None", request: StopRequest) -> None:
        self.progress, self.request = progress, request
        self.tasks: dict[str, TaskID] = {}

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        if self.progress is not None:
            note(text)

    def preparing(self, what: str, done: int, count: int) -> None:
        """Advance the bar of one kind of preparation."""
        self._bar(what, what, done, count)

    def training(self, done: int, whole: int, text: str) -> None:
        """Advance the bar of the steps, or of the seconds."""
        self._bar("training", text, done, whole)

    def _bar(self, key: str, text: str, done: int, count: int) -> None:
        if self.progress is None:
            return
        if key not in self.tasks:
            self.tasks[key] = self.progress.add_task(text)
        self.progress.update(self.tasks[key], description=text, completed=done, total=count)

    def stop(self) -> "Stop":
        """Report a Ctrl-C, a SIGTERM or a SIGHUP."""
        if not self.request.is_set:
            return "no"
        return "interrupt" if self.request.is_interrupt else "terminate"
