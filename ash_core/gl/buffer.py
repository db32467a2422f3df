"""Buffers of OpenGL."""

import numpy as np

from ash_core.gl.context import opengl


def fill_buffer(kind: int, buffer: int, values: np.ndarray, use: int) -> None:
    """Put values into a buffer, which stays bound."""
    gl = opengl()
    gl.glBindBuffer(kind, buffer)
    gl.glBufferData(kind, values.nbytes, np.ascontiguousarray(values), use)
