"""Events of the window that Dear ImGui misreads or ignores: key chords, dropped files.

Both bypass the package glfw, which hides callbacks that were not set from Python, and raises for
names that are not UTF-8. It is passed in, since its first importer chooses its library.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from imgui_bundle import imgui


class ChordKeeper:
    """Modifiers of keys that are pressed and released within one frame.

    Dear ImGui reads all keys since the last frame at once, and then the modifiers. Where frames
    are slow, a quick Ctrl+Shift+M is released by then, and read as M. It stops at a key that
    changes twice. So an unused key goes down and up before a modifier changes behind another key,
    and later events wait for the next frame.
    """

    STOP: Final = imgui.Key.f24
    stuck: int = 0
    """Modifiers that GLFW reports as down and the last press does not.

    A window manager that acts on Alt+F4 also gets the release of Alt.
    """

    def __init__(self, glfw: Any, window: Any) -> None:
        """Install the callbacks. window: with Dear ImGui's callbacks in place."""
        modifiers = range(glfw.KEY_LEFT_SHIFT, glfw.KEY_RIGHT_SUPER + 1)
        self._known = (
            (imgui.Key.mod_ctrl, glfw.MOD_CONTROL, (glfw.KEY_LEFT_CONTROL, glfw.KEY_RIGHT_CONTROL)),
            (imgui.Key.mod_shift, glfw.MOD_SHIFT, (glfw.KEY_LEFT_SHIFT, glfw.KEY_RIGHT_SHIFT)),
            (imgui.Key.mod_alt, glfw.MOD_ALT, (glfw.KEY_LEFT_ALT, glfw.KEY_RIGHT_ALT)),
            (imgui.Key.mod_super, glfw.MOD_SUPER, (glfw.KEY_LEFT_SUPER, glfw.KEY_RIGHT_SUPER)),
        )
        pressed = False

        def find_stuck(mods: int) -> None:
            self.stuck = 0
            for modifier, bit, keys in self._known:
                if not mods & bit and any(glfw.get_key(window, key) for key in keys):
                    self.stuck |= int(modifier)

        def key_changed(window: Any, key: int, scancode: int, action: int, mods: int) -> None:
            nonlocal pressed
            if key in modifiers and pressed:
                for down in (True, False):
                    imgui.get_io().add_key_event(self.STOP, down)
                pressed = False
            elif key not in modifiers and action == glfw.PRESS:
                pressed = True
                find_stuck(mods)
            if self._next_key:
                self._next_key(window, key, scancode, action, mods)

        def button_changed(window: Any, button: int, action: int, mods: int) -> None:
            if action == glfw.PRESS:
                find_stuck(mods)
            if self._next_button:
                self._next_button(window, button, action, mods)

        # Not glfw.set_key_callback: it hands back callbacks that were set from Python alone.
        self._callbacks = glfw._GLFWkeyfun(key_changed), glfw._GLFWmousebuttonfun(button_changed)
        self._next_key = glfw._glfw.glfwSetKeyCallback(window, self._callbacks[0])
        self._next_button = glfw._glfw.glfwSetMouseButtonCallback(window, self._callbacks[1])

    def release_stuck(self) -> None:
        """Release stuck modifiers in this frame, before drawing: with Alt no field takes Enter."""
        io = imgui.get_io()
        for modifier, _, _ in self._known:
            if self.stuck & int(modifier):
                imgui.internal.get_key_data(modifier).down = False
        io.key_mods = int(io.key_mods) & ~self.stuck
        io.key_alt = bool(io.key_mods & int(imgui.Key.mod_alt))
        io.key_ctrl = bool(io.key_mods & int(imgui.Key.mod_ctrl))
        io.key_shift = bool(io.key_mods & int(imgui.Key.mod_shift))


class DropTarget:
    """Receiver of files that are dropped on the window."""

    def __init__(self, glfw: Any, window: Any, take: Callable[[list[str]], None]) -> None:
        def dropped(window: Any, count: int, paths: Any) -> None:
            take([os.fsdecode(paths[number]) for number in range(count)])

        self._callback = glfw._GLFWdropfun(dropped)
        glfw._glfw.glfwSetDropCallback(window, self._callback)
