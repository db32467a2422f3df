"""The user's own command on an X server: a real window with the avatar in it, Ctrl-C ends it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageGrab

pytestmark = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no Xvfb: apt install xvfb")
PATIENCE_S = 120.0


@pytest.fixture
def display() -> Iterator[str]:
    """Of a server of this test's own; it chooses the number."""
    ours, its = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(its), "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
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


def test_the_window_shows_the_avatar_and_ends_by_ctrl_c(display: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DISPLAY": display, "HOME": str(tmp_path)}
    environment.pop("WAYLAND_DISPLAY", None)
    viewer = subprocess.Popen(
        [sys.executable, "-m", "ash_core.cli", "view", "--device", "cpu"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        seen, end = 0, time.monotonic() + PATIENCE_S
        while seen < 500 and time.monotonic() < end and viewer.poll() is None:
            time.sleep(0.2)
            seen = skin(np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB")).astype(int))
        assert viewer.poll() is None, viewer.communicate()[1]
        assert seen >= 500  # somebody is there
        viewer.send_signal(signal.SIGINT)
        _, errors = viewer.communicate(timeout=PATIENCE_S)
    finally:
        viewer.kill()
    assert viewer.returncode == 130
    assert "Traceback" not in errors


def test_without_a_server_there_is_one_line_and_what_to_do(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "ash_core.cli", "view", "--device", "cpu"],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search("display", done.stderr, re.IGNORECASE), done.stderr


def skin(picture: np.ndarray) -> int:
    """Pixels of its colour in the middle, where the avatar stands."""
    view = picture[60:640, 300:980]
    return int(((view[..., 0] > view[..., 2] + 40) & (view[..., 0] > 150)).sum())
