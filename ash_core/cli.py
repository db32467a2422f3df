"""`ash-studio`: the command line. Exit codes: 0 success, 2 the user's mistake, 130 interrupted."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, Final

import tyro

from ash_core import __version__
from ash_core.commands.actor import Actor
from ash_core.commands.bench import Bench
from ash_core.commands.cameras import Cameras
from ash_core.commands.capture import Capture
from ash_core.commands.demo import Demo
from ash_core.commands.doctor import Doctor
from ash_core.commands.eval import Eval
from ash_core.commands.extract import Extract
from ash_core.commands.import_ import Import
from ash_core.commands.inspect_ import Inspect
from ash_core.commands.render import INTERRUPTED, Render
from ash_core.commands.terminal import complain, say
from ash_core.commands.train import Train
from ash_core.commands.train_demo import TrainDemo
from ash_core.errors import CudaError, InputError

COMMANDS: Final[dict[str, Any]] = {
    "render": Render,
    "import": Import,
    "train": Train,
    "eval": Eval,
    "actor": Actor,
    "extract": Extract,
    "cameras": Cameras,
    "inspect": Inspect,
    "capture": Capture,
    "demo": Demo,
    "train-demo": TrainDemo,
    "doctor": Doctor,
    "bench": Bench,
}
USER_MISTAKE: Final = 2
SPINS: Final = "2000"
"""Rounds that a thread without work waits awake (GNU OpenMP, read when torch is loaded). Its own
default, for ever, costs frames of 200 ms where other programs want the processor too."""
GROUP: Final = "ash_studio.commands"
"""Entry points: commands of packages above this one, the viewer's."""


def all_commands() -> dict[str, Any]:
    """Ours, and those that other packages bring."""
    return {**{entry.name: entry.load() for entry in entry_points(group=GROUP)}, **COMMANDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Usage errors leave through SystemExit(2)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        say(f"ash-studio {__version__}")
        return 0
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            all_commands(),
            prog="ash-studio",
            description="Animatable Gaussian avatars. --version prints the version.",
            args=list(arguments),
        )
        return command.run()
    except (InputError, CudaError) as error:
        complain(str(error))
        return USER_MISTAKE
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left (`| head`): Python's own flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # What the system refuses (a name too long, a folder closed to us) is not a bug of ours.
        place = "" if error.filename is None else f"{error.filename}: "
        complain(f"{place}{error.strerror or error}")
        return USER_MISTAKE


if __name__ == "__main__":
    sys.exit(main())
