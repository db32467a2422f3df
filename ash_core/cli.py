"""`ash-studio`: the command line. Exit codes: 0 success, 2 the user's mistake, 130 interrupted.

Slow imports are in `main`, where a Ctrl-C is expected.
"""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Final

from ash_core import __version__
from ash_core.errors import INTERRUPTED, USER_MISTAKE, CudaError, InputError

SPINS: Final = "2000"
"""Rounds that an idle thread spins (GNU OpenMP, read when torch is loaded). Its own default, for
ever, costs frames of 200 ms where other programs use the CPU too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. `--help` leaves through SystemExit(0)."""
    # Leave at once on Ctrl-C until the command runs.
    is_program = arguments is None
    if is_program:
        _on_interrupt(signal.default_int_handler, _leave)
    arguments = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    from ash_core.commands.terminal import complain, memory_is_short, prepare_terminal, say

    # Parse and run the command; errors end as one line and an exit code.
    try:
        prepare_terminal()
        if list(arguments) == ["--version"]:
            say(f"ash-studio {__version__}")
            return 0
        check_surroundings()
        from ash_core.commands.usage import parse_command

        command = parse_command(arguments)
        if is_program:
            _on_interrupt(_leave, signal.default_int_handler)
        return command.run()
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left (`| head`): Python's own flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if memory_is_short(error):
            complain("memory is short: close other programs, raise the limit (ulimit -v), or ask "
                     "for less: a smaller --size, fewer --workers, --preset cpu")  # fmt: skip
        elif isinstance(error, InputError | CudaError):
            complain(str(error))
        elif isinstance(error, OSError):
            # What the system refuses (a name too long, a folder closed to us) is not a bug of ours.
            place = "" if error.filename is None else f"{error.filename}: "
            complain(f"{place}{error.strerror or error}")
        elif isinstance(error, ModuleNotFoundError) and _is_foreign(error.name):
            from ash_core.install import install_command

            complain(f"the package {error.name} is not installed: {install_command()}")
        else:
            raise
        return USER_MISTAKE


def _is_foreign(module: str | None) -> bool:
    """Check whether a missing module is another package's, not ours."""
    return module is not None and module.split(".")[0] not in ("ash_core", "viewer")


def check_surroundings() -> None:
    """Raise an error of our own where libraries would fail with theirs when they are loaded."""
    try:
        os.getcwd()
    except OSError:
        raise InputError("the working folder is gone: change to another one (cd)") from None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESSES:
        raise MemoryError


LEAST_ADDRESSES: Final = 1_200_000_000
"""Address space, bytes, below which torch hangs while it is loaded; above it raises errors.
Measured with torch 2.13 for CPUs."""


def _on_interrupt(before: object, after: "signal._HANDLER") -> None:
    """Exchange one handler of Ctrl-C for another; an ignored Ctrl-C stays ignored."""
    if signal.getsignal(signal.SIGINT) is before:
        signal.signal(signal.SIGINT, after)


def _leave(number: int, frame: FrameType | None) -> None:
    """Exit at once: no work has begun, and an exception may be lost in a module being loaded."""
    os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
