"""OpenGL's shared state: changes are undone, or set to the defaults."""

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ash_core.gl.context import opengl


@functools.cache
def raw() -> Any:
    """Import the plain functions of OpenGL: PyOpenGL's others take arrays and set pixel storage."""
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
    """Set pixel storage to plain memory, `row_length` pixels a row, and restore it afterwards."""
    gl = opengl()
    names = [
        getattr(gl, f"GL_{direction}_{part}")
        for part in ("ALIGNMENT", "ROW_LENGTH", "SKIP_ROWS", "SKIP_PIXELS")
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


@contextmanager
def drawing_state() -> Iterator[None]:
    """Reset programs, arrays, textures of two units, tests and masks to the defaults afterwards.

    No state is queried, which would cost more than the drawing: Dear ImGui sets what it needs.
    """
    gl = opengl()
    try:
        yield
    finally:
        for unit in (gl.GL_TEXTURE1, gl.GL_TEXTURE0):
            gl.glActiveTexture(unit)
            gl.glBindTexture(gl.GL_TEXTURE_2D, 0)
        gl.glUseProgram(0)
        gl.glBindVertexArray(0)
        gl.glBindBuffer(gl.GL_ARRAY_BUFFER, 0)
        gl.glDisable(gl.GL_DEPTH_TEST)
        gl.glDepthMask(True)
