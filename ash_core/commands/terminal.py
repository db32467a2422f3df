"""What the user sees: results on stdout; progress, notes and errors on stderr."""

import logging
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def say(text: str) -> None:
    """One line of result."""
    from rich.console import Console

    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Something the user should know beside the result."""
    _on_stderr(f"note: {text}", "yellow")


def complain(text: str) -> None:
    """The one red line of an error."""
    _on_stderr(f"error: {' '.join(text.split())}", "bold red")


def _on_stderr(text: str, style: str) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def show_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table beside the result; cells are text, not markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(stderr=True).print(table)


@contextmanager
def progress_bar(counts: bool = True, speed: str = "") -> "Iterator[Progress]":
    """A bar with counts (or per cent) and times; log lines appear above it, not through it.

    speed: what is counted, to show how many of it are done in a second.
    """
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)

    class Speed(bars.ProgressColumn):
        def render(self, task: bars.Task) -> Text:
            rate = task.finished_speed or task.speed
            return Text(f"{rate:.1f} {speed}/s" if rate else "")

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn() if counts else bars.TaskProgressColumn(),
        *([Speed()] if speed else []),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console) as progress, logging_to(console):
        yield progress


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner, on a terminal only, for work that cannot say how far it is."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(text), logging_to(console):
        yield


@contextmanager
def logging_to(console: "Console") -> Iterator[None]:
    """Show our own log messages (level INFO) as plain lines on a console."""
    from rich.logging import RichHandler

    handler = RichHandler(
        console=console, show_time=False, show_level=False, show_path=False, markup=False
    )
    logger = logging.getLogger("ash_core")
    before, level = list(logger.handlers), logger.level
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers = before
        logger.setLevel(level)


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a frame is never cut in half.

    A Ctrl-C after it interrupts at once (KeyboardInterrupt). Another SIGTERM is the same request:
    Slurm sends it to every process of a job, and torchrun once more to those that it started.
    Signals reach the main thread only: elsewhere the flag stays down.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.number: int | None = None
        """Of the signal."""

    def __enter__(self) -> "StopRequest":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.is_set, self.number = True, number
