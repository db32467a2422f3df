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


@contextmanager
def drawing_state() -> Iterator[None]:
    """Programs, arrays, textures of two units, tests and masks are as before afterwards.

    Dear ImGui sets what it needs and puts the rest back as it was found: so do we.
    """
    gl = opengl()
    switches = (
        gl.GL_BLEND,
        gl.GL_CULL_FACE,
        gl.GL_DEPTH_TEST,
        gl.GL_SCISSOR_TEST,
        gl.GL_STENCIL_TEST,
    )
    before = [(switch, bool(gl.glIsEnabled(switch))) for switch in switches]
    program = int(gl.glGetIntegerv(gl.GL_CURRENT_PROGRAM))
    array = int(gl.glGetIntegerv(gl.GL_VERTEX_ARRAY_BINDING))
    buffer = int(gl.glGetIntegerv(gl.GL_ARRAY_BUFFER_BINDING))
    compare = int(gl.glGetIntegerv(gl.GL_DEPTH_FUNC))
    writes = bool(gl.glGetBooleanv(gl.GL_DEPTH_WRITEMASK))
    active = int(gl.glGetIntegerv(gl.GL_ACTIVE_TEXTURE))
    units = []
    for unit in (gl.GL_TEXTURE0, gl.GL_TEXTURE1):
        gl.glActiveTexture(unit)
        units.append((unit, int(gl.glGetIntegerv(gl.GL_TEXTURE_BINDING_2D))))
    gl.glActiveTexture(active)
    try:
        yield
    finally:
        for unit, texture in units:
            gl.glActiveTexture(unit)
            gl.glBindTexture(gl.GL_TEXTURE_2D, texture)
        gl.glActiveTexture(active)
        gl.glUseProgram(program)
        gl.glBindVertexArray(array)
        gl.glBindBuffer(gl.GL_ARRAY_BUFFER, buffer)
        gl.glDepthFunc(compare)
        gl.glDepthMask(writes)
        for switch, on in before:
            (gl.glEnable if on else gl.glDisable)(switch)
