"""Files and pictures made beside the window: it never waits, and is told how it ended."""

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
"""Display that a tool needs, and how it takes a picture: GLFW's clipboard holds text alone."""
COPY_S: Final = 20.0


class Saver:
    """Makes one thing after the other on a thread of its own."""

    def __init__(self, say: Callable[[str, Severity], None]) -> None:
        """say: told how each ended, by `collect` and on its thread."""
        self._say = say
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._jobs: list[Future[str]] = []

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def start(self, work: Callable[[], str]) -> None:
        """Do it soon; `work` gives the line that is said when it is done."""
        self._jobs.append(self._pool.submit(work))

    def collect(self) -> None:
        """Say what has ended since."""
        for job in [job for job in self._jobs if job.done()]:
            self._jobs.remove(job)
            error = job.exception()
            if error is None:
                self._say(job.result(), "info")
            else:
                self._say(str(error).split("\n")[0] or type(error).__name__, "error")

    def close(self) -> None:
        """Once all is written."""
        self._pool.shutdown(wait=True)
        self.collect()


def new_file(suffix: str, folder: str = "") -> Path:
    """A name after the moment, of no file that there is; by default where we were started."""
    moment = Path.cwd() / Path(folder).expanduser() / time.strftime("ash-studio-%Y%m%d-%H%M%S")
    names = (f"-{n}" if n else "" for n in itertools.count())
    outs = (moment.with_name(f"{moment.name}{name}.{suffix}") for name in names)
    return next(out for out in outs if not out.exists())


def picture_of(
    renderer: Renderer, request: RenderRequest, lock: AbstractContextManager[object]
) -> Pixels:
    """A picture as bytes, with alpha where the background is none. lock: held while the renderer
    is used, as by the engine and the recorder.
    """
    with lock:
        return renderer.render(request).to_numpy()


def save_picture(
    renderer: Renderer,
    request: RenderRequest,
    out: Path,
    lock: AbstractContextManager[object],
) -> str:
    """As PNG; what was done. Raises: InputError."""
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
    """The Gaussians of a frame as .ply, in the world; what was done. Raises: InputError."""
    with lock:
        gaussians = renderer.gaussians(request.window)
    write_ply(out, gaussians)
    return f"{out}: {len(gaussians.means):,} splats"


def save_pose(out: Path, dofs: Float[Tensor, "D"]) -> str:
    """As a .motion of one frame; what was done. Raises: InputError."""
    write_motion(out, dofs[None])
    return f"{out}: a pose"


def save_table(out: Path, table: str) -> str:
    """As text; what was done. Raises: InputError."""
    write_text(out, table)
    return f"{out}: {table.count(chr(10)) - 1} frames"


def copy_picture(
    renderer: Renderer, request: RenderRequest, lock: AbstractContextManager[object]
) -> str:
    """A picture to the clipboard; what was done. Raises: InputError where no tool can."""
    tool = clipboard_tool()  # before the picture: it may take long
    pixels = picture_of(renderer, request, lock)
    copy_png(tool, encode_png(torch.from_numpy(pixels)))
    height, width, _ = pixels.shape
    return f"picture copied: {width}x{height}"


def clipboard_tool() -> tuple[str, ...]:
    """How a picture gets into this desktop's clipboard. Raises: InputError."""
    for display, command in CLIPBOARDS:
        if os.environ.get(display) and shutil.which(command[0]):
            return command
    wanted = " or ".join(command[0] for _, command in CLIPBOARDS)
    raise InputError(f"no picture copied: install {wanted}, which give pictures to the clipboard")


def copy_png(command: tuple[str, ...], content: bytes) -> None:
    """Give a PNG to a tool, which stays behind and hands it on. Raises: InputError."""
    try:
        # No pipes for what it says: who stays behind would hold them open.
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
