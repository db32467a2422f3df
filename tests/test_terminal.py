"""The command line in whatever surroundings it is started: terminals, signals, memory, folders."""

import fcntl
import io
import logging
import os
import resource as limits
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ash_core import cli
from ash_core.commands.terminal import (
    StopRequest,
    complain,
    logging_to,
    memory_is_short,
    note,
    say,
)
from ash_core.commands.usage import one_line
from ash_core.errors import InputError
from ash_core.files.io import size_text

MAIN = "import sys\nfrom ash_core.cli import main\nsys.exit(main())"


def start(*words: str, before: str = "", **more) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process, after some lines of Python."""
    command = [sys.executable, "-c", f"{before}\n{MAIN}", *words]
    environment = {**os.environ, **more.pop("env", {})}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, **more
    )


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a run that failed."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


# ---- terminals ----


@pytest.mark.parametrize("words", [("--help",), ("render", "--help")])
def test_help_ends_in_the_narrowest_terminal(words: tuple[str, ...]) -> None:
    done = start(*words, env={"COLUMNS": "5"})
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout


def latin_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Make the terminal one of Latin-1; returns what was printed."""
    files = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, file in files.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(file, "latin-1", write_through=True))
    return lambda: "".join(file.getvalue().decode("latin-1") for file in files.values())


def test_doctor_speaks_latin(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = latin_terminal(monkeypatch)
    assert cli.main(["doctor"]) in (0, 1)
    assert "torch" in printed()


def test_names_of_any_script_are_printed_or_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = latin_terminal(monkeypatch)
    assert cli.main(["render", "踊り-é-\udcff.safetensors", "--out", "x.mp4"]) == 2
    say("踊り-é.mp4: 1 frame")
    assert "??-é-?.safetensors: no such avatar file" in printed()
    assert "??-é.mp4: 1 frame" in printed()


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for speak in (say, note, complain):
        speak("ida\x1b]0;owned\x07\x9b31m é")
    with logging_to(Console(stderr=True)):
        logging.getLogger("ash_core.files").info("%s", "ida\x1b]0;owned\x07\x9b31m é")
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert not set(text) & set(map(chr, (*range(10), *range(11, 32), *range(127, 160))))
    assert text.count("ida?]0;owned??31m é") == 4


def test_long_errors_keep_their_start_and_their_end(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a.conf:3: expected " + "x" * 10_000 + "; give --mapping")
    line = capsys.readouterr().err
    assert len(line) < 1100
    assert line.startswith("error: a.conf:3: expected xxx")
    assert line.endswith("xxx; give --mapping\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("rendr bundled", "got 'rendr'; did you mean render?"),
        ("", "expected one of {view, render"),
        ("import bvf a", "subcommands: ash, bvh, motion"),
        ("render a --out b.mp4 --device gpu", "'gpu' for argument '--device'. Expected one of"),
        ("render a --out b.mp4 --fovv 3", "unrecognized options: --fovv, 3; did you mean --fov?"),
        ("capture a -o b --cloht x", "options: --cloht, x; did you mean --cloth? (ash"),
        ("render a --out b.mp4 --fov wide", "--fov: expected a number, got 'wide'"),
        ("train a --steps x", "--steps: expected a whole number, got 'x'"),
        ("extract a --erode 1.5", "--erode: expected a whole number, got '1.5'"),
        ("extract a --workers 0", "--workers: expected 1 to 1,000,000, got 0"),
        ("capture a", "missing from ash-studio capture: -o DIR, --out DIR"),
        ("render a", "error: --out: expected a file in .mp4, say, or a folder, got none"),
    ],
)
def test_wrong_words_get_one_line(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == 2
    stderr = capsys.readouterr().err
    assert says in stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert "│" not in stderr


def test_a_box_of_another_form_is_left_as_it_is() -> None:
    assert one_line("") is None
    assert one_line("something\nelse") is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (47_300_000, "47 MB"), (2.5e12, "2.5 TB")],
)
def test_sizes_have_a_unit_that_fits(size: float, text: str) -> None:
    assert size_text(size) == text


# ---- signals ----

INTERRUPTED_IMPORT = """
import os, signal, sys

# A shell's background jobs, such as a test run, ignore it from their start.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize("module", ["ash_core.commands.terminal", "tyro", "tyro.extras"])
def test_ctrl_c_while_it_starts_is_no_traceback(module: str) -> None:
    done = start("--help", before=INTERRUPTED_IMPORT.format(module=module))
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "error: interrupted\n"


def test_what_loads_before_the_handler_of_ctrl_c_is_short() -> None:
    """Nothing but Python's own parts: a Ctrl-C there is Python's to answer."""
    script = "import sys\nimport ash_core.cli\nprint(*{n.split('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert not loaded & {"tyro", "rich", "numpy", "torch"}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_signals_are_requests(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        signal.raise_signal(number)
        assert (stop.is_set, stop.number) == (True, number)
        assert stop.is_interrupt == (number == signal.SIGINT)
    assert signal.getsignal(number) == before


def test_nohup_stays_in_force() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


CLOSED_TERMINAL = """
import sys
from pathlib import Path
from ash_core.commands.terminal import StopRequest, note, progress_bar

with StopRequest() as stop, progress_bar() as progress:
    task = progress.add_task("working", total=None)
    Path(sys.argv[1]).touch()
    while not stop.is_set:
        progress.advance(task)
note("saved")
Path(sys.argv[2]).touch()
"""


def test_work_is_saved_after_its_terminal_was_closed(tmp_path: Path) -> None:
    """Writing to a terminal that is gone fails, and would end the work instead."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSED_TERMINAL, str(tmp_path / "on"), str(tmp_path / "saved")],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        while not (tmp_path / "on").exists():
            assert process.poll() is None
            os.read(master, 4096)
        os.close(master)
        assert process.wait(timeout=120) == 0
        assert (tmp_path / "saved").exists()
    finally:
        process.kill()
        process.wait()


# ---- memory and folders ----


def test_too_little_memory_is_said_as_that() -> None:
    def limit() -> None:
        limits.setrlimit(limits.RLIMIT_AS, (1 << 30, 1 << 30))

    done = start("doctor", preexec_fn=limit)
    assert "memory is short" in only_line(done)


def test_errors_for_want_of_memory_are_recognised() -> None:
    short = (
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
        ),
        ImportError("libavcodec.so.61: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    )
    for error in short:
        assert memory_is_short(error), error
        wrapped = InputError("a.mp4: expected a video, found no picture stream that can be read")
        wrapped.__cause__ = error
        assert memory_is_short(wrapped), error
    for error in (InputError("no"), ModuleNotFoundError("No module named 'av'"), OSError(2, "no")):
        assert not memory_is_short(error), error


def test_memory_that_runs_out_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 B")

    monkeypatch.setattr("ash_core.commands.render.load_drawable", no_memory)
    assert cli.main(["render", "actor", "--out", str(tmp_path / "a.mp4")]) == 2
    stderr = capsys.readouterr().err
    assert "memory is short" in stderr
    assert stderr.count("\n") == 1


def test_a_working_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    before = f"import os\nos.chdir({str(gone)!r})\nos.rmdir({str(gone)!r})"
    done = start("doctor", before=before)
    assert "the working folder is gone" in only_line(done)
