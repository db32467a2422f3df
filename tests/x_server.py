"""An X server of a test's own, and what a person has on it: a window manager, keys, a mouse."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

DESKTOP_TOOLS = ("Xvfb", "openbox", "xdotool")


def lacks(*tools: str) -> str:
    """Name what is not installed, for a test's skip; nothing if all is there."""
    return ", ".join(tool for tool in tools if shutil.which(tool) is None)


@contextmanager
def x_server(screen: str = "1280x800") -> Iterator[str]:
    """Start a server that chooses its own number; its display."""
    ours, its = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(its), "-screen", "0", f"{screen}x24", "-nolisten", "tcp"],
        pass_fds=[its],
        stderr=subprocess.DEVNULL,
    )
    os.close(its)
    try:
        number = os.read(ours, 16).decode().strip()
        if not number:
            pytest.skip("Xvfb does not start here")
        yield f":{number}"
    finally:
        os.close(ours)
        server.terminate()
        server.wait(30)


@contextmanager
def window_manager(display: str) -> Iterator[None]:
    """Run openbox, which gives a window the focus and its close button."""
    manager = subprocess.Popen(
        ["openbox"], env={**os.environ, "DISPLAY": display}, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        manager.terminate()
        manager.wait(30)
