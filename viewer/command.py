"""`ash-studio view`: the desktop viewer. Found by the command line through an entry point."""

import logging
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import tyro

from ash_core.conventions import Up
from ash_core.errors import InputError
from ash_core.install import install_command
from ash_core.scene.open import ACTOR, BUNDLED, Backend, Device, Preset

if TYPE_CHECKING:
    from ash_core.scene.preferences import Preferences

NEEDED: Final = ("imgui_bundle", "glfw", "OpenGL")


@dataclass(frozen=True)
class ViewCommand:
    """Open a window: play and scrub motions, pose, look from anywhere, record."""

    avatar: Annotated[
        tyro.conf.Positional[str | None], tyro.conf.arg(metavar="AVATAR", help_behavior_hint="")
    ] = None
    """Avatar file (.safetensors), splats (.ply, .spz, .sog), 'bundled', the default,
    'bundled-balanced', finer, for a GPU, 'mira', or 'actor', an untrained one. A published .conf,
    or its subject's folder, opens with its motions and cameras, and plays."""
    motion: Annotated[str | None, tyro.conf.arg(metavar="FILE.motion", help_behavior_hint="")] = (
        None
    )
    """Motion file, a folder with a poseAngles.motion, or the name of a bundled motion. Without one:
    the bundled motions, those of a configuration, else rest."""
    session: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Session file to reopen instead: it has its own avatar and motions. It may stand in the place
    of AVATAR, too."""
    up: Annotated[Up | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Up axis of splats; y-down: trained on COLMAP's cameras. Default: the one that their file
    names, else z. The menu Look changes it."""
    device: Device = "auto"
    """Device that makes the frames."""
    backend: Backend = "auto"
    """Rasterizer."""
    preset: Annotated[Preset | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Decoder of a native avatar. Default: the session's, else the preferred one, else the file's
    own; 'cpu' for 'actor' where there is no GPU."""
    interop: bool = True
    """Hand frames from CUDA to OpenGL on the GPU; --no-interop copies them through the host."""
    headless_check: Annotated[
        Path | None, tyro.conf.arg(metavar="OUT.png", help_behavior_hint="")
    ] = None
    """Draw the window without a display, write it to this picture and leave: for bug reports."""

    def run(self) -> int:
        from ash_core.files.io import shorten
        from ash_core.gl.context import INSTALL
        from ash_core.scene.preferences import PreferenceStore, preferences_file
        from ash_core.scene.scene_file import SESSION_SUFFIX
        from viewer.session import Session

        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        if self.avatar is not None and self.avatar.endswith(SESSION_SUFFIX):
            return replace(self, avatar=None, session=self.session or Path(self.avatar)).run()
        self._check()
        for name in NEEDED:
            if find_spec(name) is None:
                raise InputError(
                    f"view: the package {name} is not installed: {install_command('gui')}"
                )
        # A picture for a bug report shows what everybody has.
        store = PreferenceStore(None if self.headless_check else preferences_file())
        session = Session(
            self.avatar or BUNDLED,
            self.motion,
            store.value.device if self.device == "auto" else self.device,
            self.backend,
            self.preset,
            file=self.session,
            preferences=store,
            usual_preset=self._usual_preset(store.value),
            up=self.up,
        )
        try:
            from viewer import window
        except (ImportError, OSError) as error:  # libGL or another library of the system
            raise InputError(f"view: {shorten(str(error), 120)}: {INSTALL}") from error
        if self.headless_check is not None:
            return window.headless_check(session, self.headless_check)
        return window.run(session, self.interop)

    def _check(self) -> None:
        """Check what needs no file to be read."""
        from ash_core.files.io import is_kind
        from ash_core.files.video import check_output

        out = self.headless_check
        if out is not None:
            if out.suffix.lower() != ".png":
                raise InputError(f"--headless-check: expected a name in .png, got '{out}'")
            check_output(out, alpha=False)
            if not is_kind(Path.is_dir, out.absolute().parent):
                raise InputError(f"--headless-check: {out.parent}: no such folder")
        flags = (("AVATAR", self.avatar), ("--motion", self.motion), ("--up", self.up))
        for flag, value in flags:
            if self.session is not None and value is not None:
                raise InputError(f"{flag}: expected none beside --session, which has its own")

    def _usual_preset(self, preferences: "Preferences") -> Preset | None:
        """The preferred one, else the smallest for the plain actor where the CPU draws."""
        import torch

        actor = self.avatar in (None, ACTOR)  # a session may have it
        if preferences.preset is None and actor and not torch.cuda.is_available():
            return "cpu"
        return preferences.preset
