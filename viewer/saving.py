"""Saving of files and images on a thread of its own: the window never waits."""

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.image import encode_png
from ash_core.files.io import write_text
from ash_core.files.ply import write_ply
from ash_core.files.skeletool import write_motion
from ash_core.files.video import Pixels, open_writer
from ash_core.render import Renderer, RenderRequest
from viewer.front_end import Severity

CLIPBOARDS: Final = (
    ("WAYLAND_DISPLAY", ("wl-copy", "--type", "image/png")),
    ("DISPLAY", ("xclip", "-selection", "clipboard", "-t", "image/png", "-i")),
)
"""Display that a tool needs, and its command for an image: GLFW's clipboard holds text alone."""
COPY_S: Final = 20.0


class Saver:
    """Queue of saving jobs on a thread of its own."""

    def __init__(self, report: Callable[[str, Severity], None]) -> None:
        """Start the thread. report: called by `collect`, on its thread, with each job's result."""
        self._report = report
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._jobs: list[Future[str]] = []

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def start(self, work: Callable[[], str]) -> None:
        """Queue a job; `work` returns the line to report when it is done."""
        self._jobs.append(self._pool.submit(work))

    def collect(self) -> None:
        """Report the jobs that have ended since."""
        for job in [job for job in self._jobs if job.done()]:
            self._jobs.remove(job)
            error = job.exception()
            if error is None:
                self._report(job.result(), "info")
            else:
                self._report(str(error).split("\n")[0] or type(error).__name__, "error")

    def close(self) -> None:
        """Finish all jobs and end the thread."""
        self._pool.shutdown(wait=True)
        self.collect()


def new_file(suffix: str, folder: str = "") -> Path:
    """Choose an unused file name by the present time; by default in the working folder."""
    moment = Path.cwd() / Path(folder).expanduser() / time.strftime("ash-studio-%Y%m%d-%H%M%S")
    names = (f"-{n}" if n else "" for n in itertools.count())
    outs = (moment.with_name(f"{moment.name}{name}.{suffix}") for name in names)
    return next(out for out in outs if not out.exists())


def picture_of(
    renderer: Renderer, request: RenderRequest, lock: AbstractContextManager[object]
) -> Pixels:
    """Render an image to bytes, with alpha where there is no background.

    lock: held while the renderer is used, as by the engine and the recorder.
    """
    with lock:
        return renderer.render(request).to_numpy()


def save_picture(
    renderer: Renderer,
    request: RenderRequest,
    out: Path,
    lock: AbstractContextManager[object],
) -> str:
    """Save an image as PNG. Returns the line to report. Raises: InputError."""
    pixels = picture_of(renderer, request, lock)
    height, width, channels = pixels.shape
    with open_writer(out, width, height, alpha=channels == 4) as writer:
        writer.write(pixels)
    return f"{out}: {width}x{height}{', with alpha' if channels == 4 else ''}"


def save_splats(
    renderer: Renderer,
    request: RenderRequest,
    out: Path,
    lock: AbstractContextManager[object],
) -> str:
    """Save a frame's Gaussians as .ply, in the world. Returns the report. Raises: InputError."""
    with lock:
        gaussians = renderer.gaussians(request.window)
    write_ply(out, gaussians)
    return f"{out}: {len(gaussians.means):,} splats"


def save_pose(out: Path, dofs: Float[Tensor, "D"]) -> str:
    """Save a pose as a .motion of one frame. Returns the report. Raises: InputError."""
    write_motion(out, dofs[None])
    return f"{out}: a pose"


def save_table(out: Path, table: str) -> str:
    """Save a table as text. Returns the line to report. Raises: InputError."""
    write_text(out, table)
    return f"{out}: {table.count(chr(10)) - 1} frames"


def copy_picture(
    renderer: Renderer, request: RenderRequest, lock: AbstractContextManager[object]
) -> str:
    """Copy an image to the clipboard. Returns the report. Raises: InputError without a tool."""
    tool = clipboard_tool()  # before the picture: it may take long
    pixels = picture_of(renderer, request, lock)
    copy_png(tool, encode_png(torch.from_numpy(pixels)))
    height, width, _ = pixels.shape
    return f"picture copied: {width}x{height}"


def clipboard_tool() -> tuple[str, ...]:
    """Find the command that puts an image into the clipboard. Raises: InputError."""
    for display, command in CLIPBOARDS:
        if os.environ.get(display) and shutil.which(command[0]):
            return command
    tools = " or ".join(command[0] for _, command in CLIPBOARDS)
    raise InputError(f"no picture copied: install {tools}, which give pictures to the clipboard")


def copy_png(command: tuple[str, ...], content: bytes) -> None:
    """Pass a PNG to a tool, which stays in the background and serves it. Raises: InputError."""
    try:
        # No pipes for its output: the background process would hold them open.
        subprocess.run(
            command,
            input=content,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=COPY_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"no picture copied: {command[0]} failed ({error})") from error
