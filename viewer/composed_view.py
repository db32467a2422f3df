"""Composed view: frames with background, floor and mesh, composed anew only after a change.

Frames are shown plainly where the compositor fails.
"""

import logging
from dataclasses import dataclass, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from ash_core.gl.projection import stretched
from ash_core.render import RenderRequest
from ash_core.scene.document import BACKGROUNDS, Document
from viewer.compositor import Compositor, Layers
from viewer.engine import Frame
from viewer.present import Presenter
from viewer.session import Session

_log = logging.getLogger(__name__)
ALPHA_BACKGROUND = (0.0, 0.0, 0.0)
"""Under a picture of alpha: it shows nothing as black, as recordings do."""


@dataclass(frozen=True)
class _Drawn:
    """Inputs of the last composition."""

    frame: int
    layers: Layers
    size: tuple[int, int]


class ComposedView:
    """Picture that the window shows: frames between their layers.

    After a failure of the compositor frames are shown plainly for good: never a black window.
    """

    def __init__(self, session: Session, presenter: Presenter) -> None:
        self._session, self._presenter = session, presenter
        self._compositor: Compositor | None = None
        self._drawn: _Drawn | None = None
        self._shown = 0
        try:
            self._compositor = Compositor()
        except Exception as error:  # PyOpenGL's own kinds besides ours
            self._give_up(error)

    @property
    def texture(self) -> int:
        """OpenGL's id of the picture; 0 before the first."""
        composed = self._compositor.texture if self._compositor is not None else 0
        return composed or self._presenter.texture

    @property
    def shows_mesh(self) -> bool:
        """True if frames have to come with the posed template."""
        shown = self._session.document.overlays.mesh != "none" and not self._session.is_static
        return self._compositor is not None and shown

    @property
    def lies_under(self) -> bool:
        """True if a layer is seen through the splats: frames are then transparent."""
        return self._compositor is not None and self._session.document.lies_under

    def adapt(self, request: RenderRequest) -> RenderRequest:
        """Return the request without its background where a layer is seen through the splats."""
        return replace(request, background=None) if self.lies_under else request

    def show(self, frame: Frame, size: tuple[int, int]) -> bool:
        """Bring the picture up to date with a frame and the session; returns True for a new frame.

        size: (width, height) in pixels.
        """
        new = frame.number != self._shown
        if self._compositor is not None:
            drawn = _Drawn(frame.number, layers_of(self._session.document), size)
            if drawn == self._drawn:
                return False
            if new:
                self._presenter.show(frame.pixels)
            try:
                self._compose(frame, drawn)
                self._shown, self._drawn = frame.number, drawn
                return new
            except Exception as error:  # PyOpenGL's own kinds besides ours
                self._give_up(error)
                new = True
        if new:
            self._presenter.show(opaque(frame.pixels))
            self._shown = frame.number
        return new

    def _compose(self, frame: Frame, drawn: _Drawn) -> None:
        assert self._compositor is not None
        camera = stretched(frame.request.camera, *drawn.size)
        covers = frame.request.background is not None
        self._compositor.draw(drawn.layers, self._presenter.texture, camera, frame.mesh, covers)

    def _give_up(self, error: Exception) -> None:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        self._session.say(f"no floor and no mesh about the avatar: {reason}", "error")
        _log.warning("the picture is shown plainly: %s", reason)
        failed, self._compositor = self._compositor, None
        self._session.touch()  # frames are to bring their background, and no mesh
        try:
            if failed is not None:
                failed.close()
        except Exception as problem:  # as above; what could not be given back is left
            _log.debug("closing after a failure: %s", problem)

    def close(self) -> None:
        """Release the compositor, while the context exists."""
        if self._compositor is not None:
            self._compositor.close()


def layers_of(document: Document) -> Layers:
    """Choose the layers that a document shows."""
    overlays, background = document.overlays, BACKGROUNDS[document.background]
    if background is not None and document.look.mode == "alpha":
        background = ALPHA_BACKGROUND
    return Layers(
        background=background,
        has_floor=overlays.grid,
        mesh=None if overlays.mesh == "none" else overlays.mesh,
        mesh_over=overlays.mesh_place == "over",
        mesh_opacity=overlays.mesh_opacity,
    )


def opaque(pixels: UInt8[Tensor, "h w 4"]) -> UInt8[Tensor, "h w 4"]:
    """Make pixels opaque: Dear ImGui then blends them with nothing."""
    return torch.cat((pixels[..., :3], torch.full_like(pixels[..., 3:], 255)), -1)
