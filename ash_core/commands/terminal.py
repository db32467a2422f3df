"""Output of the command line: results on stdout; progress, warnings and errors on stderr."""

import errno
import io
import logging
import os
import re
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


NARROWEST = 40
"""Least number of columns: with fewer, help takes for ever to lay out."""
LONGEST = 1000
"""Most characters of an error that are printed: files may hold names of any length."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SHORT_OF_MEMORY = (
    "cannot allocate memory",
    "can't allocate memory",
    "failed to map segment",
    "not enough memory",
    "can't start new thread",
    "bad_alloc",
)


def prepare_terminal() -> None:
    """Make output possible in terminals of any width and character set."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey: names come out of files."""
    return _CONTROL.sub("?", text)


def say(text: str) -> None:
    """Print one line of result on stdout."""
    from rich.console import Console

    Console().print(printable(text), markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a note beside the result on stderr."""
    _on_stderr(f"note: {text}", "yellow")


def complain(text: str) -> None:
    """Print the one red line of an error; of a long one its start and its end, with the advice."""
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST * 3 // 4]} ... {line[-LONGEST // 4 :]}"
    _on_stderr(f"error: {line}", "bold red")


def memory_is_short(error: BaseException) -> bool:
    """Check whether an error, or one of its causes, is a lack of memory."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (
            isinstance(one, ImportError | RuntimeError | SystemError | OSError)
            and any(words in str(one).lower() for words in _SHORT_OF_MEMORY)
        )
        for one in chain
    )


def _on_stderr(text: str, style: str) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


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
    """Show a bar with counts (or per cent) and times; log lines appear above it.

    speed: unit of the count, to show a rate beside the bar.
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
    """Show a spinner, on a terminal only, for work without a measure of progress."""
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
    handler.addFilter(_make_printable)
    logger = logging.getLogger("ash_core")
    before, level = list(logger.handlers), logger.level
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers = before
        logger.setLevel(level)


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


class StopRequest:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a flag, so that a frame is never cut in half.

    A Ctrl-C after it interrupts at once (KeyboardInterrupt). Another SIGTERM is the same request:
    Slurm sends it to every process of a job, and torchrun once more to those that it started.
    SIGHUP, of a terminal that was closed, counts unless it is ignored already (nohup).
    Signals reach the main thread only: elsewhere the flag stays down.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.number: int | None = None
        """Number of the signal."""

    @property
    def is_interrupt(self) -> bool:
        """Check whether the request came from the keyboard and not from the system."""
        return self.number == signal.SIGINT

    def __enter__(self) -> "StopRequest":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_closed_terminal()
        if self.is_set:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.is_set, self.number = True, number


def _leave_closed_terminal() -> None:
    """Discard output whose terminal is gone: writing would fail and end the work."""
    for number in (1, 2):
        if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), number)
