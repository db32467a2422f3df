"""Window of the viewer: opened on a display or without one, run until it is closed."""

import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from imgui_bundle import hello_imgui, immapp

from ash_core.errors import InputError
from ash_core.files.io import try_folder, write_atomic
from ash_core.gl.context import INSTALL, OLDEST, USE_SOFTWARE
from viewer import commands
from viewer.app import App
from viewer.autosave import autosave_folder
from viewer.session import Session

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end the window; unsaved edits are saved for the next start."""
NO_GL: Final = f"gives no OpenGL {OLDEST[0]}.{OLDEST[1]}"


def run(session: Session, interop: bool = True) -> int:
    """Open the window and run it until it is closed; returns the exit code. Raises: InputError."""
    import glfw

    with warnings.catch_warnings(action="ignore"):  # reported below, in one line
        if not glfw.init():
            raise _no_window(_text(glfw.get_error()[1]))
    # The window, and edits of an earlier crash.
    app = App(session, interop, autosave_folder())
    params = app.params()
    keep_layout_if_possible(session, params)
    if not _set_up(app, params):
        raise _no_window(f"this display {NO_GL}: {USE_SOFTWARE}")
    app.autosave.offer(app.unsaved)
    interrupted = False

    # Signals that end it.
    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before[0])  # a second one need not wait for the frame

    # Frames until the window is closed or a signal comes.
    before = [signal.signal(number, interrupt) for number in ENDING]
    try:  # a signal ends between two frames: within one, Dear ImGui cannot be torn down
        while not (interrupted or hello_imgui.get_runner_params().app_shall_exit):
            immapp.manual_render.render()
    except BaseException:
        interrupted = True
        raise
    finally:
        for number, handler in zip(ENDING, before, strict=True):
            signal.signal(number, handler)
        if interrupted:
            app.autosave.keep()
        else:
            app.autosave.close()
        immapp.manual_render.tear_down()
    if interrupted:
        raise KeyboardInterrupt
    return 0


def keep_layout_if_possible(session: Session, params: hello_imgui.RunnerParams) -> None:
    """Disable the layout's file where its folder is closed, or the window would end."""
    base = Path(hello_imgui.ini_folder_location(params.ini_folder_type))
    folder = (base / params.ini_filename).parent
    try:
        try_folder(folder)
    except OSError as error:
        params.ini_disable = True
        reason = error.strerror or error
        session.say(f"{folder}: the places of the panels are not kept: {reason}", "error")


def _text(message: Any) -> str:
    """Decode GLFW's message: bytes, whatever its annotations say, or nothing."""
    return message.decode() if isinstance(message, bytes) else str(message or "no OpenGL")


def _no_window(reason: str) -> InputError:
    return InputError(
        f"view: no window can be opened here: {reason}. "
        "Without a display, 'render' and 'render --session S' make pictures; "
        "'doctor' tells what OpenGL there is"
    )


def open_without_display(
    session: Session, prepare: Callable[[hello_imgui.RunnerParams], None] | None = None
) -> App:
    """Open an invisible window, drawn by EGL without X or Wayland. Raises: InputError.

    prepare: called last on the parameters, such as for Dear ImGui's test engine.
    """
    os.environ["PYOPENGL_PLATFORM"] = "egl"
    import glfw

    glfw.init_hint(glfw.PLATFORM, glfw.PLATFORM_NULL)
    if not glfw.init():
        raise InputError(f"view: no OpenGL without a display here: {INSTALL}")
    glfw.window_hint(glfw.CONTEXT_CREATION_API, glfw.EGL_CONTEXT_API)
    app = App(session, interop=False)
    params = app.params()
    params.ini_disable = True
    params.app_window_params.restore_previous_geometry = False
    if prepare is not None:
        prepare(params)
    if not _set_up(app, params):
        raise InputError(f"view: EGL {NO_GL}: {USE_SOFTWARE}; 'doctor' tells what there is")
    return app


def _set_up(app: App, params: hello_imgui.RunnerParams) -> bool:
    """Make the window and its context. Returns True on success."""
    with _without_glfw_errors():
        try:
            immapp.manual_render.setup_from_runner_params(params, immapp.AddOnsParams())
        except RuntimeError:
            app.engine.close()
            return False
    return True


@contextmanager
def _without_glfw_errors() -> Iterator[None]:
    """Hide GLFW's output about a context that it cannot make: the caller reports one line."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as errors:
        os.dup2(errors.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            errors.seek(0)
            lines = [line for line in errors if not line.startswith(b"Glfw Error")]
            os.write(2, b"".join(lines))


def close_without_display(app: App, out: Path) -> None:
    """Close the window and write its last image as PNG."""
    from PIL import Image as PillowImage

    hello_imgui.get_runner_params().app_shall_exit = True
    immapp.manual_render.tear_down()
    png = BytesIO()
    PillowImage.fromarray(hello_imgui.final_app_window_screenshot()).save(png, "PNG")
    write_atomic(out, png.getvalue())


def headless_check(session: Session, out: Path, patience_s: float = 120.0) -> int:
    """Draw the window without a display until its image is complete, and write it as PNG."""
    commands.run(session, "time.pause")  # a playing motion never settles
    app = open_without_display(session)
    settled, end = 0, time.monotonic() + patience_s
    while time.monotonic() < end and app.engine.error is None:
        immapp.manual_render.render()
        settled = settled + 1 if app.settled else 0
        if settled > 8:
            break
        time.sleep(0.01)
    close_without_display(app, out)
    if settled == 0:
        reason = f": {app.engine.error}" if app.engine.error else ""
        raise InputError(f"{out}: the window was drawn, but no picture of the avatar came{reason}")
    return 0
