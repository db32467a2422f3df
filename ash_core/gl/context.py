"""OpenGL without a window: for tests, and for pictures on machines that have no display.

PyOpenGL chooses its platform (GLX, EGL, ...) once, when it is first imported. So nothing here or in
`viewer.present` imports it before it is needed: whoever makes the first context chooses.
"""

import functools
import importlib
import os
import sys
from typing import Any, Final, Self

from ash_core.install import install_command

INSTALL: Final = "apt install libegl1 libgl1 libegl-mesa0 libgl1-mesa-dri"
USE_SOFTWARE: Final = "update the graphics driver, or set LIBGL_ALWAYS_SOFTWARE=1"
"""Cure for an OpenGL that is too old: Mesa on the CPU has 4.5."""
PLATFORM_SURFACELESS: Final = 0x31DD
"""EGL_PLATFORM_SURFACELESS_MESA; PyOpenGL has no name for it."""
PLATFORM_DEVICE: Final = 0x313F
"""EGL_PLATFORM_DEVICE_EXT."""
OLDEST: Final = (3, 3)
"""OpenGL's version, core profile: what Dear ImGui and the presenters need."""


class GlError(RuntimeError):
    """Something that OpenGL cannot do here, and what to do about it: one sentence."""


@functools.cache
def opengl() -> Any:
    """OpenGL.GL, imported late (see above)."""
    return importlib.import_module("OpenGL.GL")


class OffscreenContext:
    """An OpenGL context without a window, current from the start; made by `offscreen_context`."""

    def __init__(self, egl: Any, display: Any, surface: Any, context: Any) -> None:
        self._egl, self._display = egl, display
        self._surface, self._context = surface, context

    def make_current(self) -> None:
        """For this thread; a context is current in one thread at a time."""
        assert self._context is not None, "closed"
        self._egl.eglMakeCurrent(self._display, self._surface, self._surface, self._context)

    def close(self) -> None:
        """Give everything back; the display stays, others in the process may share it."""
        if self._context is None:
            return
        egl = self._egl
        current = egl.eglGetCurrentContext()
        if current and _address(current) == _address(self._context):
            nothing = egl.EGL_NO_SURFACE
            egl.eglMakeCurrent(self._display, nothing, nothing, egl.EGL_NO_CONTEXT)
        egl.eglDestroySurface(self._display, self._surface)
        egl.eglDestroyContext(self._display, self._context)
        self._context = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def offscreen_context(width: int, height: int) -> OffscreenContext:
    """A current OpenGL core context with a default framebuffer of this size, no window, no display.

    An NVIDIA GPU is preferred, then Mesa without a device, then whatever else EGL finds.
    Raises GlError.
    """
    egl = _load_egl()
    failures: list[str] = []
    for name, platform, device in _candidates():
        try:
            return _open(egl, platform, device, max(width, 1), max(height, 1))
        except Exception as error:  # PyOpenGL's own kinds, and what drivers make of a missing GPU
            failures.append(f"{name}: {_in_short(error)}")
    raise GlError(
        f"EGL gives no OpenGL {OLDEST[0]}.{OLDEST[1]} context ({'; '.join(failures)}): {INSTALL}"
    )


def describe_gl() -> str:
    """Who draws: vendor, renderer and version of the current context."""
    gl = opengl()
    names = (gl.GL_VENDOR, gl.GL_RENDERER, gl.GL_VERSION)
    try:
        vendor, renderer, version = (gl.glGetString(name).decode() for name in names)
    except Exception as error:  # PyOpenGL's own kinds, or None for an answer
        raise GlError("no OpenGL context is current in this thread: make one current") from error
    return f"{vendor}, {renderer}, OpenGL {version}"


def _load_egl() -> Any:
    """OpenGL.EGL, with PyOpenGL on its EGL platform."""
    if "OpenGL.platform" not in sys.modules:
        os.environ["PYOPENGL_PLATFORM"] = "egl"
    try:
        loaded = type(importlib.import_module("OpenGL.platform").PLATFORM).__name__
        if loaded != "EGLPlatform":
            raise GlError(
                f"PyOpenGL already uses its {loaded} in this process, a context without a window "
                "needs EGL: set PYOPENGL_PLATFORM=egl before OpenGL is first imported"
            )
        egl = importlib.import_module("OpenGL.EGL")
        opengl()
    except (ImportError, AttributeError, OSError) as error:
        if isinstance(error, ModuleNotFoundError):
            raise GlError(f"{error.name} is not installed: {install_command('gui')}") from error
        raise GlError(f"the libraries of EGL and OpenGL are not found: {INSTALL}") from error
    return egl


def _candidates() -> list[tuple[str, int, Any]]:
    """(name, EGL platform, native display) of what can be opened, the best first."""
    nvidia, others = [], []
    for index, (device, extensions) in enumerate(_devices()):
        found = nvidia if "EGL_NV_device_cuda" in extensions else others
        found.append((f"device {index}", PLATFORM_DEVICE, device))
    return [*nvidia, ("surfaceless", PLATFORM_SURFACELESS, None), *others]


def _devices() -> list[tuple[Any, str]]:
    """(device, its extensions) of the devices that EGL can enumerate; few old libraries cannot."""
    query = importlib.import_module("OpenGL.EGL.EXT.device_query")
    enumeration = importlib.import_module("OpenGL.EGL.EXT.device_enumeration")
    types = importlib.import_module("OpenGL.raw.EGL._types")
    egl = importlib.import_module("OpenGL.EGL")
    devices, count = (types.EGLDeviceEXT * 16)(), types.EGLint()
    try:
        if not enumeration.eglQueryDevicesEXT(len(devices), devices, count):
            return []
        return [
            (device, (query.eglQueryDeviceStringEXT(device, egl.EGL_EXTENSIONS) or b"").decode())
            for device in devices[: count.value]
        ]
    except Exception:  # PyOpenGL's own kinds: the extension is missing
        return []


def _open(egl: Any, platform: int, device: Any, width: int, height: int) -> OffscreenContext:
    # Display of the platform.
    display = _platform_display(egl, platform, device)
    if not display:
        raise GlError("no display")
    major, minor = egl.EGLint(), egl.EGLint()
    if not egl.eglInitialize(display, major, minor):
        raise GlError("cannot be initialized")
    if not egl.eglBindAPI(egl.EGL_OPENGL_API):
        raise GlError("no desktop OpenGL")
    # Format of the framebuffer: RGBA8 with depth.
    wanted = _attributes(
        egl,
        {
            egl.EGL_SURFACE_TYPE: egl.EGL_PBUFFER_BIT,
            egl.EGL_RENDERABLE_TYPE: egl.EGL_OPENGL_BIT,
            egl.EGL_RED_SIZE: 8,
            egl.EGL_GREEN_SIZE: 8,
            egl.EGL_BLUE_SIZE: 8,
            egl.EGL_ALPHA_SIZE: 8,
            egl.EGL_DEPTH_SIZE: 24,
        },
    )
    configs, found = (egl.EGLConfig * 1)(), egl.EGLint()
    if not egl.eglChooseConfig(display, wanted, configs, 1, found) or not found.value:
        raise GlError("no RGBA8 format")
    # Core context, and a surface to draw on.
    core = _attributes(
        egl,
        {
            egl.EGL_CONTEXT_MAJOR_VERSION: OLDEST[0],
            egl.EGL_CONTEXT_MINOR_VERSION: OLDEST[1],
            egl.EGL_CONTEXT_OPENGL_PROFILE_MASK: egl.EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT,
        },
    )
    context = egl.eglCreateContext(display, configs[0], egl.EGL_NO_CONTEXT, core)
    if not context:
        raise GlError("no core context")
    size = _attributes(egl, {egl.EGL_WIDTH: width, egl.EGL_HEIGHT: height})
    try:
        surface = egl.eglCreatePbufferSurface(display, configs[0], size)
        if not surface:
            raise GlError(f"no framebuffer of {width}x{height}")
    except Exception:
        egl.eglDestroyContext(display, context)
        raise
    # A context that cannot be made current is closed again.
    made = OffscreenContext(egl, display, surface, context)
    try:
        made.make_current()
        describe_gl()
    except Exception:
        made.close()
        raise
    return made


def _platform_display(egl: Any, platform: int, device: Any) -> Any:
    """By EGL 1.5's call, or by the extension that came before it."""
    try:
        return egl.eglGetPlatformDisplay(platform, device, None)
    except Exception:  # PyOpenGL's own kinds: the function is missing, or the platform is
        base = importlib.import_module("OpenGL.EGL.EXT.platform_base")
        return base.eglGetPlatformDisplayEXT(platform, device, None)


def _attributes(egl: Any, values: dict[Any, int]) -> Any:
    flat = [int(number) for pair in values.items() for number in pair]
    return (egl.EGLint * (len(flat) + 1))(*flat, egl.EGL_NONE)


def _address(handle: Any) -> int | None:
    return getattr(handle, "address", None) or getattr(handle, "value", None) or int(handle)


def _in_short(error: Exception) -> str:
    """PyOpenGL's errors list their arguments over many lines."""
    code = getattr(error, "err", None)
    return str(code if code is not None else error).splitlines()[0]
