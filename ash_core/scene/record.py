"""Recording: requests become the frames of a video, an image or a folder of PNGs.

`record` is the only loop; `Recorder` runs it on a thread for a window that stays alive meanwhile.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import torch

from ash_core.cloth.swing import AS_FITTED, Swing
from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import CudaError, InputError
from ash_core.files.video import (
    FrameWriter,
    Pixels,
    check_output,
    check_space,
    is_single_picture,
    open_writer,
)
from ash_core.pose_windows import CPU, window_at
from ash_core.records import Camera, DrawableData, Motion
from ash_core.render import Colour, Renderer, RenderRequest

FPS_RANGE: Final = (1.0, 1000.0)
DEFAULT_SIZE: Final = (1280, 960)
"""(width, height) of recordings where nobody chooses one, pixels."""

_TURN_S: Final = 0.0005
"""Locks are not fair: who waits for the renderer gets it only if we stay away for a moment."""

_log = logging.getLogger(__name__)


class Shot(NamedTuple):
    """One frame to render."""

    number: int
    """Frame of the motion, or place among the names that a writer has: names files of a folder."""
    request: RenderRequest


class Recorded(NamedTuple):
    """Result of a recording."""

    frames: int
    """Frames that the file holds; fewer than asked for where it was stopped."""
    empty: int
    """Frames in which nothing of the avatar is seen."""


def make_shots(
    data: DrawableData,
    motion: Motion,
    frames: Sequence[int],
    cameras: Sequence[Camera],
    background: Colour | None,
    swing: Swing = AS_FITTED,
    device: torch.device = CPU,
) -> Iterable[Shot]:
    """Make requests in the order of the frames, each when it is asked for.

    device: where cloth is simulated.
    """
    shown, window = None, None
    for frame, camera in zip(frames, cameras, strict=True):
        if window is None or frame != shown:
            shown, window = frame, window_at(data, motion, frame, swing, device)
        yield Shot(frame, RenderRequest(window, camera, background))


def record(
    renderer: Renderer,
    shots: Iterable[Shot],
    writer: FrameWriter,
    lock: AbstractContextManager[object] | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    after: Callable[[Shot, Pixels], None] | None = None,
) -> Recorded:
    """Render the shots into a writer and complete its file.

    lock: held while the renderer is used, free between two frames.
    is_stopped: asked before each frame; what was done until then becomes a playable file. Before
    the first frame there is none, and an older file stays.
    after: called with every frame once the writer has it.
    """
    frames = empty = 0
    with writer:
        for shot in shots:
            if is_stopped():
                break
            with lock or nullcontext():
                image = renderer.render(shot.request)
                is_empty = not bool((image.alpha > 0).any())
                pixels = image.to_numpy()
            writer.write(pixels, shot.number)
            frames, empty = frames + 1, empty + is_empty
            if after is not None:
                after(shot, pixels)
            if lock is not None:
                time.sleep(_TURN_S)
    return Recorded(frames, empty)


@dataclass(frozen=True)
class RecordSettings:
    """Range, size and place of a recording."""

    out: Path
    """.mp4, .webm, .mov, .png (one frame), or a folder of PNGs, as in `ash-studio render`."""
    first: int
    last: int
    """Frames of the motion, both included."""
    width: int
    """Pixels."""
    height: int
    step: int = 1
    fps: float = 25.0
    """Frames a second of the video."""
    background: Colour | None = None
    """RGB in [0, 1]; None records transparency."""

    @property
    def frames(self) -> range:
        return range(self.first, self.last + 1, self.step)

    def check(self, count: int | None = None) -> None:
        """Raise InputError for what cannot be recorded. count: of frames, by default all."""
        if count is None:
            count = len(self.frames) if self.step >= 1 else 0
        low, high = FPS_RANGE
        holds = {
            f"a first frame of 0 or more, got {self.first}": self.first >= 0,
            f"a step of 1 or more, got {self.step}": self.step >= 1,
            f"at least one frame, got {self.first} to {self.last}": (
                self.first <= self.last and count > 0
            ),
            f"sides of 1 to {MAX_SIDE_PX} pixels, got {self.width}x{self.height}": (
                0 < self.width <= MAX_SIDE_PX and 0 < self.height <= MAX_SIDE_PX
            ),
            f"{low:g} to {high:g} frames a second, got {self.fps:g}": low <= self.fps <= high,
        }
        for text, ok in holds.items():
            if not ok:
                raise InputError(f"recording: expected {text}")
        if is_single_picture(self.out) and count > 1:
            raise InputError(
                f"{self.out}: a .png holds one frame, {count} are to be recorded: "
                "choose one, or name a folder"
            )
        check_output(self.out, alpha=self.background is None)
        check_space(self.out, self.width, self.height, count)

    def open(self, count: int | None = None) -> FrameWriter:
        """Check the settings and open the writer. Raises: InputError."""
        self.check(count)
        is_transparent = self.background is None
        return open_writer(self.out, self.width, self.height, self.fps, alpha=is_transparent)


@dataclass(frozen=True)
class Progress:
    """Progress of a recording, frames."""

    done: int
    total: int
    seconds_left: float | None
    """At the speed so far; None until the first frame is done."""


class Recorder:
    """Records requests, in their order, on a thread of its own.

    `lock` is held while the renderer is used, and free between two frames; whoever else uses that
    renderer holds it too. The requests are drawn from their iterable on the recorder's thread, each
    when its turn comes.
    """

    def __init__(
        self,
        renderer: Renderer,
        shots: Iterable[Shot],
        count: int,
        settings: RecordSettings,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """shots: frame numbers (they name the files of a folder) and requests, `count` of them,
        of the settings' size, and transparent where the settings are.
        """
        self.settings = settings
        self.error: str | None = None
        """One sentence, once it has failed."""
        self.result: Path | None = None
        """File that was written, once it is whole; a cancelled recording leaves one, too."""
        self._renderer, self._shots, self._count = renderer, shots, count
        self._lock = threading.Lock() if lock is None else lock
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._done = 0
        self._began_s = self._last_s = 0.0

    def start(self) -> None:
        """Begin. Raises: InputError where the settings, the place or the disk cannot do."""
        assert self._thread is None, "a recorder records once"
        writer = self.settings.open(self._count)
        self._began_s = self._last_s = time.monotonic()
        self._thread = threading.Thread(
            target=self._work, args=(writer,), name="recorder", daemon=True
        )
        self._thread.start()

    @property
    def progress(self) -> Progress:
        """Count the frames that the file holds, or will hold when the encoder is through."""
        done, last_s = self._done, self._last_s
        if self.finished:
            return Progress(done, self._count, 0.0)
        if done == 0:
            return Progress(0, self._count, None)
        each = (last_s - self._began_s) / done
        return Progress(done, self._count, each * (self._count - done))

    @property
    def finished(self) -> bool:
        """Tell whether it has ended, well or not."""
        return self._thread is not None and not self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        """Tell whether `cancel` ended it before its last frame."""
        return self.finished and self.error is None and self._done < self._count

    def cancel(self) -> None:
        """End after the frame at hand; what was done becomes a playable file, of fewer frames.

        Before the first frame there is none, and an older file stays.
        """
        self._cancel.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended and the file is whole; returns whether it has."""
        assert self._thread is not None, "not started"
        self._thread.join(timeout_s)
        return self.finished

    def _work(self, writer: FrameWriter) -> None:
        out = self.settings.out
        try:
            record(
                self._renderer,
                self._checked_shots(),
                writer,
                self._lock,
                self._cancel.is_set,
                self._count_frame,
            )
            if self._done > 0:
                self.result = out
        except (InputError, CudaError) as error:
            self.error = _first_line(error)
        except torch.OutOfMemoryError as error:
            self.error = f"{out}: not recorded, no memory is left: {_first_line(error)}"
        except Exception as error:  # on a thread nobody else would hear of it
            _log.exception("recording failed")
            self.error = f"{out}: not recorded: {type(error).__name__}: {_first_line(error)}"

    def _checked_shots(self) -> Iterable[Shot]:
        """Yield the shots as long as they are the settings' own, `count` of them in all."""
        settings, drawn = self.settings, 0
        for shot in islice(self._shots, self._count):
            request, drawn = shot.request, drawn + 1
            assert (request.background is None) == (settings.background is None), request.background
            size = request.camera.width, request.camera.height
            assert size == (settings.width, settings.height), size
            yield shot
        assert drawn == self._count, (drawn, self._count)

    def _count_frame(self, shot: Shot, pixels: Pixels) -> None:
        self._done, self._last_s = self._done + 1, time.monotonic()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
