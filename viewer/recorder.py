"""Recording: the pictures of given frame numbers to a file, on a thread of its own, by no clock."""

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from ash_core.conventions import MAX_SIDE_PX
from ash_core.errors import CudaError, InputError
from ash_core.files.video import (
    FrameWriter,
    check_output,
    check_space,
    is_single_picture,
    open_writer,
)
from ash_core.render import Colour, Renderer, RenderRequest

FPS_RANGE: Final = (1.0, 1000.0)

_TURN_S: Final = 0.0005
"""Locks are not fair: who waits for the renderer gets it only if we stay away for a moment."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordSettings:
    """What is recorded, and where to."""

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


@dataclass(frozen=True)
class Progress:
    """How far a recording is."""

    done: int
    total: int
    seconds_left: float | None
    """At the speed so far; None until the first frame is done."""


class Recorder:
    """Records the pictures of requests, in their order, on a thread of its own.

    `lock` is held while the renderer is used, and free between two frames; whoever else uses that
    renderer holds it too. Pixels are those of `ash-studio render`. The requests are drawn from
    their iterable on the recorder's thread, each when its turn comes.
    """

    def __init__(
        self,
        renderer: Renderer,
        requests: Iterable[tuple[int, RenderRequest]],
        count: int,
        settings: RecordSettings,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """requests: frame numbers (they name the files of a folder) and pictures, `count` of them,
        of the settings' size, and transparent where the settings are.
        """
        self.settings = settings
        self.error: str | None = None
        """One sentence, once it has failed."""
        self.result: Path | None = None
        """What was written, once it is whole; also what a cancelled recording left."""
        self._renderer, self._requests, self._count = renderer, requests, count
        self._lock = threading.Lock() if lock is None else lock
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._done = 0
        self._began_s = self._last_s = 0.0

    def start(self) -> None:
        """Begin. Raises: InputError where the settings, the place or the disk cannot do."""
        assert self._thread is None, "a recorder records once"
        self.settings.check(self._count)
        s = self.settings
        writer = open_writer(s.out, s.width, s.height, s.fps, alpha=s.background is None)
        self._began_s = self._last_s = time.monotonic()
        self._thread = threading.Thread(
            target=self._work, args=(writer,), name="recorder", daemon=True
        )
        self._thread.start()

    @property
    def progress(self) -> Progress:
        """Frames done: those that the file holds, or will hold when the encoder is through."""
        done, last_s = self._done, self._last_s
        if self.finished:
            return Progress(done, self._count, 0.0)
        if done == 0:
            return Progress(0, self._count, None)
        each = (last_s - self._began_s) / done
        return Progress(done, self._count, each * (self._count - done))

    @property
    def finished(self) -> bool:
        """Whether it has ended, well or not."""
        return self._thread is not None and not self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` ended it before its last frame."""
        return self.finished and self.error is None and self._done < self._count

    def cancel(self) -> None:
        """End after the frame at hand; what was done becomes a playable file, of fewer frames.

        Before the first frame there is none, and an older file stays.
        """
        self._cancel.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until it has ended and the file is whole; whether it has."""
        assert self._thread is not None, "not started"
        self._thread.join(timeout_s)
        return self.finished

    def _work(self, writer: FrameWriter) -> None:
        out = self.settings.out
        try:
            with writer:
                self._record(writer)
            if self._done > 0:
                self.result = out
        except (InputError, CudaError) as error:
            self.error = _first_line(error)
        except torch.OutOfMemoryError as error:
            self.error = f"{out}: not recorded, no memory is left: {_first_line(error)}"
        except Exception as error:  # on a thread nobody else would hear of it
            _log.exception("recording failed")
            self.error = f"{out}: not recorded: {type(error).__name__}: {_first_line(error)}"

    def _record(self, writer: FrameWriter) -> None:
        settings = self.settings
        transparent = settings.background is None
        for number, request in islice(self._requests, self._count):
            if self._cancel.is_set():
                return
            assert (request.background is None) == transparent, request.background
            size = request.camera.width, request.camera.height
            assert size == (settings.width, settings.height), size
            with self._lock:
                image = self._renderer.render(request)
                pixels = image.to_numpy()
            writer.write(pixels, number)
            self._done, self._last_s = self._done + 1, time.monotonic()
            time.sleep(_TURN_S)
        assert self._done == self._count, (self._done, self._count)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
