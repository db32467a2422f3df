"""Shaders of `shaders/` as programs; errors name file and line."""

import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from ash_core.gl.context import GlError, opengl
from ash_core.resources import resource

Value = bool | int | float | tuple[float, ...] | np.ndarray
_STAGES: Final = {
    ".vert": "GL_VERTEX_SHADER",
    ".geom": "GL_GEOMETRY_SHADER",
    ".frag": "GL_FRAGMENT_SHADER",
}
_PLACE: Final = re.compile(r"^\s*(?:ERROR:\s*)?\d+[:(](\d+)\)?(?:\(\d+\))?\s*:\s*(.*)")
"""Line and text: `0:12(5): error: ...` (Mesa), `0(12) : error ...` (NVIDIA), `ERROR: 0:12: ...`.
"""


class Program:
    """Shaders compiled and linked, in the current context. Raises GlError."""

    def __init__(self, *names: str, folder: Path | None = None) -> None:
        """names: files of `shaders/`, or of another folder, one for each stage."""
        paths = [(folder or resource("shaders")) / name for name in names]
        gl = opengl()
        shaders: list[int] = []
        self.id = int(gl.glCreateProgram())
        try:
            for path in paths:
                shaders.append(_compile(path))
                gl.glAttachShader(self.id, shaders[-1])
            gl.glLinkProgram(self.id)
            if not gl.glGetProgramiv(self.id, gl.GL_LINK_STATUS):
                log = _text(gl.glGetProgramInfoLog(self.id)).strip() or "no reason is given"
                raise GlError(f"{', '.join(map(str, paths))}: cannot be linked: {_first(log)}")
        except Exception:
            gl.glDeleteProgram(self.id)
            raise
        finally:
            for shader in shaders:
                gl.glDeleteShader(shader)
        self._places: dict[str, int] = {}
        self._values: dict[str, Value] = {}
        """Values of its uniforms, which a program keeps."""

    def use(self, **uniforms: Value) -> None:
        """Make it current, with these values of uniforms; matrices by rows."""
        opengl().glUseProgram(self.id)
        for name, value in uniforms.items():
            if not _same(self._values.get(name), value):
                self._set(name, value)
                self._values[name] = value

    def delete(self) -> None:
        """Free it, while the context exists; a second call does nothing."""
        if self.id:
            opengl().glDeleteProgram(self.id)
        self.id = 0

    def _set(self, name: str, value: Value) -> None:
        gl = opengl()
        if name not in self._places:
            self._places[name] = int(gl.glGetUniformLocation(self.id, name))
        place = self._places[name]
        assert place >= 0, f"no uniform {name!r} in use"
        if isinstance(value, bool | int):
            gl.glUniform1i(place, int(value))
        elif isinstance(value, float):
            gl.glUniform1f(place, value)
        elif isinstance(value, np.ndarray):
            rows = np.ascontiguousarray(value, dtype=np.float32)
            put = {(3, 3): gl.glUniformMatrix3fv, (4, 4): gl.glUniformMatrix4fv}[rows.shape]
            put(place, 1, gl.GL_TRUE, rows)
        else:
            {2: gl.glUniform2f, 3: gl.glUniform3f, 4: gl.glUniform4f}[len(value)](place, *value)


def _same(one: Value | None, other: Value) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is other
    return type(one) is type(other) and one == other


def _compile(path: Path) -> int:
    gl = opengl()
    try:
        source = path.read_text()
    except OSError as error:
        raise GlError(f"{path}: expected a shader ({error.strerror}): reinstall") from error
    shader = int(gl.glCreateShader(getattr(gl, _STAGES[path.suffix])))
    gl.glShaderSource(shader, source)
    gl.glCompileShader(shader)
    if gl.glGetShaderiv(shader, gl.GL_COMPILE_STATUS):
        return shader
    log = _text(gl.glGetShaderInfoLog(shader))
    gl.glDeleteShader(shader)
    raise GlError(compile_error(path, log))


def compile_error(path: Path, log: str) -> str:
    """Convert a driver's log of a shader to `file:line: reason`."""
    for line in log.splitlines():
        if match := _PLACE.match(line):
            return f"{path}:{match[1]}: {match[2].strip()}"
    return f"{path}: {_first(log.strip() or 'does not compile, no reason is given')}"


def _first(text: str) -> str:
    return text.splitlines()[0]


def _text(log: Any) -> str:
    return log.decode(errors="replace") if isinstance(log, bytes) else str(log)
