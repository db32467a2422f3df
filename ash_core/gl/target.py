"""Targets of rendering without a window: a framebuffer whose colour is a texture."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ash_core.gl.context import GlError, opengl
from ash_core.gl.state import drawing_state, pixel_store
from ash_core.gl.texture import Texture, read_texture

_REASONS: Final = (
    "GL_FRAMEBUFFER_UNSUPPORTED",
    "GL_FRAMEBUFFER_INCOMPLETE_ATTACHMENT",
    "GL_FRAMEBUFFER_INCOMPLETE_MULTISAMPLE",
)


class Target:
    """An RGBA8 picture with depth that OpenGL draws into. Raises GlError.

    samples: for each pixel, so that edges are smooth; 0 or 1 for none, at most what is there.
    depth: keep distances, so that what is near hides what is behind it.
    Row 0 of the framebuffer is the picture's top: draw with `gl.projection`'s matrices, and
    nothing is turned over on the way to a texture or a tensor.
    """

    def __init__(self, width: int, height: int, samples: int = 0, depth: bool = True) -> None:
        gl = opengl()
        self.samples = min(samples, int(gl.glGetIntegerv(gl.GL_MAX_SAMPLES)))
        self.samples = self.samples if self.samples > 1 else 0
        self._has_depth = depth
        self._colour = Texture()
        self._plain: int = int(gl.glGenFramebuffers(1))
        self._smooth: int = int(gl.glGenFramebuffers(1)) if self.samples else 0
        self._buffers: list[int] = []
        try:
            self.resize(width, height)
        except Exception:
            self.delete()
            raise

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), pixels."""
        return self._colour.size

    @property
    def texture(self) -> int:
        """OpenGL's id of the picture; it stays when the size changes."""
        return self._colour.id

    def resize(self, width: int, height: int) -> None:
        """Another size, with nothing in it yet; the same size changes nothing."""
        if (width, height) == self.size:
            return
        gl = opengl()
        self._delete_buffers()
        self._colour.allocate(width, height)
        with _framebuffers():
            self._bind(self._plain)
            gl.glFramebufferTexture2D(
                gl.GL_FRAMEBUFFER, gl.GL_COLOR_ATTACHMENT0, gl.GL_TEXTURE_2D, self._colour.id, 0
            )
            if self._has_depth:
                self._attach(gl.GL_DEPTH_ATTACHMENT, gl.GL_DEPTH_COMPONENT24, 0)
            self._check()
            if self.samples:
                self._bind(self._smooth)
                self._attach(gl.GL_COLOR_ATTACHMENT0, gl.GL_RGBA8, self.samples)
                if self._has_depth:
                    self._attach(gl.GL_DEPTH_ATTACHMENT, gl.GL_DEPTH_COMPONENT24, self.samples)
                self._check()

    @contextmanager
    def drawing(self, clear: tuple[float, float, float, float] | None = None) -> Iterator[None]:
        """Everything is drawn into it meanwhile; afterwards its texture is up to date.

        clear: RGBA that it holds at the start, at the greatest depth; None keeps what is there.
        """
        gl = opengl()
        with _framebuffers(), drawing_state():
            self._bind(self._smooth or self._plain)
            gl.glViewport(0, 0, *self.size)
            gl.glDisable(gl.GL_SCISSOR_TEST)
            if clear is not None:
                gl.glClearBufferfv(gl.GL_COLOR, 0, clear)
                if self._has_depth:
                    gl.glDepthMask(True)
                    gl.glClearBufferfv(gl.GL_DEPTH, 0, (1.0,))
            yield
            if self.samples:
                self._resolve(gl.GL_COLOR_BUFFER_BIT)

    def read(self) -> UInt8[Tensor, "h w 4"]:
        """The picture, row 0 at the top, on the CPU."""
        return read_texture(self.texture, self.size)

    def read_depth(self, near_m: float, far_m: float) -> Float[Tensor, "h w"]:
        """View depth, m, on the CPU; 0 where nothing was drawn. near, far: the projection's."""
        assert self._has_depth
        gl = opengl()
        width, height = self.size
        with _framebuffers(), pixel_store("PACK", width):
            if self.samples:
                self._resolve(gl.GL_DEPTH_BUFFER_BIT)
            self._bind(self._plain)
            found: Any = gl.glReadPixels(0, 0, width, height, gl.GL_DEPTH_COMPONENT, gl.GL_FLOAT)
        stored = np.asarray(found, dtype=np.float64).reshape(height, width)
        depth = near_m * far_m / (far_m - stored * (far_m - near_m))
        return torch.from_numpy(np.where(stored < 1.0, depth, 0.0)).float()

    def delete(self) -> None:
        """Give everything back, while the context is there; a second time does nothing."""
        self._delete_buffers()
        names = [name for name in (self._plain, self._smooth) if name]
        if names:
            opengl().glDeleteFramebuffers(len(names), names)
        self._plain = self._smooth = 0
        self._colour.delete()

    def _delete_buffers(self) -> None:
        if self._buffers:
            opengl().glDeleteRenderbuffers(len(self._buffers), self._buffers)
        self._buffers = []

    def _attach(self, place: int, kind: int, samples: int) -> None:
        gl = opengl()
        before = int(gl.glGetIntegerv(gl.GL_RENDERBUFFER_BINDING))
        buffer = int(gl.glGenRenderbuffers(1))
        self._buffers.append(buffer)
        gl.glBindRenderbuffer(gl.GL_RENDERBUFFER, buffer)
        gl.glRenderbufferStorageMultisample(gl.GL_RENDERBUFFER, samples, kind, *self.size)
        gl.glFramebufferRenderbuffer(gl.GL_FRAMEBUFFER, place, gl.GL_RENDERBUFFER, buffer)
        gl.glBindRenderbuffer(gl.GL_RENDERBUFFER, before)

    def _bind(self, framebuffer: int) -> None:
        gl = opengl()
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, framebuffer)

    def _check(self) -> None:
        gl = opengl()
        status = gl.glCheckFramebufferStatus(gl.GL_FRAMEBUFFER)
        if status != gl.GL_FRAMEBUFFER_COMPLETE:
            names = {int(getattr(gl, name)): name for name in _REASONS}
            width, height = self.size
            raise GlError(
                f"no framebuffer of {width}x{height} with {self.samples} samples "
                f"({names.get(int(status), hex(int(status)))}): update the graphics driver"
            )

    def _resolve(self, what: int) -> None:
        """Samples to pixels."""
        gl = opengl()
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, self._smooth)
        gl.glBindFramebuffer(gl.GL_DRAW_FRAMEBUFFER, self._plain)
        whole = 0, 0, *self.size
        gl.glBlitFramebuffer(*whole, *whole, what, gl.GL_NEAREST)


@contextmanager
def _framebuffers() -> Iterator[None]:
    """What is drawn into and read from, and the viewport, are as before afterwards."""
    gl = opengl()
    drawn = int(gl.glGetIntegerv(gl.GL_DRAW_FRAMEBUFFER_BINDING))
    read = int(gl.glGetIntegerv(gl.GL_READ_FRAMEBUFFER_BINDING))
    viewport = [int(number) for number in gl.glGetIntegerv(gl.GL_VIEWPORT)]
    try:
        yield
    finally:
        gl.glBindFramebuffer(gl.GL_DRAW_FRAMEBUFFER, drawn)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, read)
        gl.glViewport(*viewport)
