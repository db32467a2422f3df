"""Rendering on a thread of its own: the window never waits for a frame. The newest request wins."""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ash_core.errors import CudaError, InputError
from ash_core.records import Surface, Template
from ash_core.render import Renderer, RenderRequest

_log = logging.getLogger(__name__)
_JOIN_S: Final = 30.0


@dataclass(frozen=True)
class Frame:
    """A finished frame."""

    request: RenderRequest
    pixels: Tensor
    """uint8 [h, w, 4], premultiplied; the renderer's own buffer until the next frame but one."""
    number: int
    milliseconds: float
    """Duration from the start of the request to the image, GPU included."""
    stages: dict[str, float]
    mesh: "Posed | None" = None
    """None where it was not requested."""


@dataclass(frozen=True, eq=False)
class Posed:
    """Template of the frame's avatar, and its posed surface."""

    template: Template
    surface: Surface


class Engine:
    """Thread that draws the newest request; `lock` is held while it uses the renderer.

    Other users of the renderer (a recording) take the lock for each of their frames.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.lock = threading.Lock()
        self.error: str | None = None
        """Message of the last request's failure; None after a success."""
        self._renderer = renderer
        self._wake = threading.Condition()
        self._wanted: tuple[RenderRequest, bool] | None = None
        self._latest: Frame | None = None
        self._closed = False
        self._busy = False
        self._number = self._taken = 0
        self._thread = threading.Thread(target=self._work, name="renderer", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while a request is being drawn or waits."""
        with self._wake:
            return self._busy or self._wanted is not None

    def take(self) -> Frame | None:
        """Take the newest frame, which stays valid until the next `take`.

        No other frame begins before this one is taken: the renderer writes two buffers in turn.
        """
        with self._wake:
            self._taken = self._number
            self._wake.notify_all()
            return self._latest

    def submit(self, request: RenderRequest, mesh: bool = False) -> None:
        """Submit a request; an earlier one that has not begun is dropped.

        mesh: with the posed template.
        """
        with self._wake:
            self._wanted = request, mesh
            self._wake.notify_all()

    def use(self, renderer: Renderer) -> None:
        """Draw with another renderer from now on."""
        with self.lock, self._wake:
            self._renderer, self._wanted, self._latest = renderer, None, None

    def wait(self, timeout_s: float = 60.0) -> Frame | None:
        """Wait until no request is left; returns the newest frame. For tests and checks."""
        end = time.monotonic() + timeout_s
        while self.busy and time.monotonic() < end:
            self.take()
            with self._wake:
                self._wake.wait(0.02)
        return self.take()

    def close(self) -> None:
        """End the thread, after the frame that it draws."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join(_JOIN_S)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                while not self._closed and (self._wanted is None or self._taken < self._number):
                    self._wake.wait()
                if self._closed:
                    return
                request, self._wanted, self._busy = self._wanted, None, True
            assert request is not None
            self._draw(*request)

    def _draw(self, request: RenderRequest, with_mesh: bool) -> None:
        try:
            with self.lock:
                renderer = self._renderer
                start = time.perf_counter()
                pixels = renderer.draw(request)
                if pixels.is_cuda:
                    torch.cuda.current_stream(pixels.device).synchronize()
                duration_ms = 1e3 * (time.perf_counter() - start)
                stages = dict(renderer.timings)
                mesh = None
                if with_mesh:
                    start = time.perf_counter()
                    surface = renderer.surface(request.window)
                    mesh = Posed(renderer.avatar.data.template, surface)
                    stages["mesh"] = 1e3 * (time.perf_counter() - start)
        except Exception as error:  # of any kind: the next request may succeed
            message = str(error).split("\n")[0] or type(error).__name__
            if message != self.error:
                is_expected = isinstance(error, (InputError, CudaError, torch.OutOfMemoryError))
                _log.warning("no picture: %s", message, exc_info=None if is_expected else error)
            self.error = message
            return
        self.error = None
        with self._wake:
            if renderer is self._renderer:
                self._number += 1
                self._latest = Frame(request, pixels, self._number, duration_ms, stages, mesh)
