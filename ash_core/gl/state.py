"""OpenGL's state is everybody's: what is changed here is put back."""

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ash_core.gl.context import opengl


@functools.cache
def raw() -> Any:
    """OpenGL's functions as they are: PyOpenGL's others take arrays, and set pixel storage."""
    return importlib.import_module("OpenGL.raw.GL.VERSION.GL_1_1")


@contextmanager
def bound_texture(texture: int) -> Iterator[None]:
    gl = opengl()
    before = int(gl.glGetIntegerv(gl.GL_TEXTURE_BINDING_2D))
    gl.glBindTexture(gl.GL_TEXTURE_2D, texture)
    try:
        yield
    finally:
        gl.glBindTexture(gl.GL_TEXTURE_2D, before)


@contextmanager
def pixel_store(direction: Literal["PACK", "UNPACK"], row_length: int) -> Iterator[None]:
    """Pictures lie in plain memory, `row_length` pixels from row to row; then all is as before."""
    gl = opengl()
    names = [
        getattr(gl, f"GL_{direction}_{what}")
        for what in ("ALIGNMENT", "ROW_LENGTH", "SKIP_ROWS", "SKIP_PIXELS")
    ]
    buffer = getattr(gl, f"GL_PIXEL_{direction}_BUFFER")
    before = [int(gl.glGetIntegerv(name)) for name in names]
    bound = int(gl.glGetIntegerv(getattr(gl, f"GL_PIXEL_{direction}_BUFFER_BINDING")))
    try:
        gl.glBindBuffer(buffer, 0)
        for name, value in zip(names, (1, row_length, 0, 0), strict=True):
            gl.glPixelStorei(name, value)
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            gl.glPixelStorei(name, value)
        gl.glBindBuffer(buffer, bound)
