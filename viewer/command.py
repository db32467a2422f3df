"""`ash-studio view`: the desktop viewer. Found by the command line through an entry point."""

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import tyro

from ash_core.commands.scene import BUNDLED, Backend, Device, Preset
from ash_core.errors import InputError

NEEDED: Final = ("imgui_bundle", "glfw", "OpenGL")
INSTALL: Final = "pip install 'ash-studio[gui]'"


@dataclass(frozen=True)
class ViewCommand:
    """Open a window: play and scrub motions, pose by hand, look from anywhere, record."""

    avatar: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="AVATAR")] = BUNDLED
    """Avatar file (.safetensors), published .conf, or 'bundled'."""
    motion: Annotated[str | None, tyro.conf.arg(metavar="FILE.motion", help_behavior_hint="")] = (
        None
    )
    """Motion file, or the name of a bundled motion. Without one: the bundled motions, else rest."""
    session: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Session file to reopen instead."""
    device: Device = "auto"
    """Where frames are made."""
    backend: Backend = "auto"
    """Rasterizer."""
    preset: Annotated[Preset | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Decoder of a native avatar. Default: the file's own; 'cpu' where there is no GPU."""
    interop: bool = True
    """Hand frames from CUDA to OpenGL on the GPU; --no-interop copies them through the host."""
    headless_check: Annotated[
        Path | None, tyro.conf.arg(metavar="OUT.png", help_behavior_hint="")
    ] = None
    """Draw the window without a display, write it to this picture and leave: for bug reports."""

    def run(self) -> int:
        for name in NEEDED:
            if find_spec(name) is None:
                raise InputError(f"view: the package {name} is not installed: {INSTALL}")
        from viewer.session import Session

        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        session = Session(
            self.avatar, self.motion, self.device, self.backend, self._chosen_preset()
        )
        if self.session is not None:
            session.load(self.session)
        from viewer import app

        if self.headless_check is not None:
            return app.headless_check(session, self.headless_check)
        return app.run(session, self.interop)

    def _chosen_preset(self) -> Preset | None:
        """The smallest decoder for the bundled avatar where the CPU draws it."""
        import torch

        if self.preset is None and self.avatar == BUNDLED and not torch.cuda.is_available():
            return "cpu"
        return self.preset
