"""The one exception that a user's mistake may raise, and exit codes."""

from typing import Final

USER_MISTAKE: Final = 2
"""Exit code after an `InputError`."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, SIGTERM or SIGHUP."""


class InputError(ValueError):
    """A file or an option the user gave us is not what we need: where, what we need, what is there.

    The text is one line that names the file, the place in it, what was expected and what was found,
    e.g. ``toy.motion:3: expected 12 dofs (from toy.skeleton), got 11``. The command line prints it
    and exits with 2; it never prints a traceback for it.
    """


class CudaError(RuntimeError):
    """Something that CUDA cannot do here, and what to do about it: one sentence."""
