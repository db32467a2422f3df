"""Exceptions and exit codes."""

from typing import Final

USER_MISTAKE: Final = 2
"""Exit code after an `InputError`."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, SIGTERM or SIGHUP."""


class InputError(ValueError):
    """A user's mistake in a file or an option: the only exception for one.

    The text is one line that names the file, the place in it, what was expected and what it has,
    e.g. ``toy.motion:3: expected 12 dofs (from toy.skeleton), got 11``. The command line prints it
    and exits with 2; it never prints a traceback for it.
    """


class CudaError(RuntimeError):
    """A thing that CUDA cannot do here, with its cure: one sentence."""
