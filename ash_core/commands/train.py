"""`ash-studio train`: footage to an avatar."""

import os
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from ash_core.commands.scene import avatar_path
from ash_core.commands.terminal import StopRequest, note, progress_bar, say
from ash_core.training.config import TrainConfig

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ash_core.training.session import Stop


class Train(TrainConfig):
    __doc__ = TrainConfig.__doc__

    def run(self) -> int:
        self.resolved()  # mistakes are told before torch is imported
        from ash_core.training.train import train

        avatar = None if self.avatar is None else avatar_path(str(self.avatar))
        config: TrainConfig = replace(self, avatar=avatar)
        speaks = os.environ.get("RANK", "0") == "0"  # one of those that train together
        with StopRequest() as stop, progress_bar() as progress:
            code = train(config, _Terminal(progress if speaks else None, stop))
        if code == 0 and speaks and not stop.is_set:
            say(f"{self.out / 'avatar.safetensors'}: trained")
            for line in next_commands(self):
                say(f"  {line}")
        return code


def next_commands(config: TrainConfig) -> list[str]:
    """Name the commands that show a trained avatar and measure it."""
    avatar = shlex.quote(str(config.out / "avatar.safetensors"))
    data, report = shlex.quote(str(config.data)), shlex.quote(str(config.out / "report"))
    cameras = "" if config.test_cameras == "auto" else f" --test-cameras {config.test_cameras}"
    return [
        f"ash-studio view {avatar}",
        f"ash-studio eval {avatar} {data} -o {report}{cameras}",
    ]


class _Terminal:
    """Progress as bars, notes as lines."""

    def __init__(self, progress: "Progress | None", request: StopRequest) -> None:
        self.progress, self.request = progress, request
        self.tasks: dict[str, TaskID] = {}

    def note(self, text: str) -> None:
        """A line above the bars."""
        if self.progress is not None:
            note(text)

    def preparing(self, what: str, done: int, count: int) -> None:
        """A bar for each kind of work."""
        self._bar(what, what, done, count)

    def training(self, done: int, whole: int, text: str) -> None:
        """The bar of the steps, or of the seconds."""
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
