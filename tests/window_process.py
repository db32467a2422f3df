"""Scripts of tests inside a real window, on a software OpenGL without a display.

One process for each file of tests: OpenGL's platform is chosen once a process, and other tests
open windows. Each script gets a window and a session of its own.
"""

import functools
import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

PATIENCE_S = 900.0
NO_EGL = "no EGL: apt install libegl1 libegl-mesa0"

PROLOGUE = """
import json, os, sys, time
from pathlib import Path
from viewer import window
from viewer import commands
from viewer.session import Session
from imgui_bundle import hello_imgui, imgui, immapp
session = Session("actor", device="cpu", preset="cpu")
app = window.open_without_display(session)
imgui.get_io().key_repeat_delay = 1e6  # keys are held for two frames, however slow these are

def draw(frames=1):
    for _ in range(frames):
        immapp.manual_render.render()

def until(true, patience_s=240.0):
    end = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
        draw()
    return True

def settle():
    quiet = 0

    def is_quiet():
        nonlocal quiet
        quiet = quiet + 1 if app.settled else 0
        return quiet > 4

    draw()
    assert until(is_quiet), "no picture came"

def mouse(x, y, *buttons):
    import glfw
    glfw.set_cursor_pos(glfw.get_current_context(), x, y)
    draw(2)
    for button in (0, 1, 2):
        imgui.get_io().add_mouse_button_event(button, button in buttons)
    draw(2)

def key(name):
    io = imgui.get_io()
    for down in (True, False):
        io.add_key_event(getattr(imgui.Key, name), down)
        draw(2)

def middle():
    return app.area.x + app.area.width / 2, app.area.y + app.area.height / 2

settle()
"""
EPILOGUE = """
window.close_without_display(app, out)
"""


@functools.cache
def has_egl() -> bool:
    """Try OpenGL without a display in a process of its own."""
    script = "from ash_core.doctor import open_egl; open_egl()"
    return subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


@functools.cache
def window_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def end_window_process() -> None:
    if window_process.cache_info().currsize:
        window_process().shutdown()
        window_process.cache_clear()


def use(folder: Path, script: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Run a script in a new window; return its last image, and what the script put into `said`."""
    out = folder / "window.png"
    text = PROLOGUE + textwrap.dedent(script) + EPILOGUE
    try:
        said = window_process().submit(run, text, out).result(timeout=PATIENCE_S)
    except BaseException:
        end_window_process()  # what the script left open would meet the next one
        raise
    return np.asarray(PillowImage.open(out).convert("RGB")), json.loads(said)


def run(text: str, out: Path) -> str:
    """Run a script in the folder of its test; called in that process."""
    os.environ["HOME"] = str(out.parent)
    os.chdir(out.parent)
    names: dict[str, Any] = {"__name__": "script", "out": out, "said": {}}
    exec(compile(text, "script", "exec"), names)
    return json.dumps(names["said"])
