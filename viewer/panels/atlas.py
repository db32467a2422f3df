"""Panel of the UV atlas: the decoder's output by texel, linked both ways with the view."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Final, Literal

from imgui_bundle import imgui

from ash_core.cloth.swing import Swing
from ash_core.drawable import Decoded
from ash_core.records import Camera, Gaussians, Motion
from ash_core.render import Renderer, RenderRequest
from ash_core.scene.pose_edit import PoseEdit
from viewer.inspect import (
    CHANNELS,
    Channel,
    Splat,
    atlas_picture,
    describe,
    pick,
    raw_picture,
    texel_at,
)
from viewer.panels.view import PICKED_COLOUR, Rectangle
from viewer.panels.widgets import combo
from viewer.present import HostPresenter
from viewer.session import Session

CHOICE_EM: Final = 6.0
"""Width of a channel's name."""
PICKED_PX: Final = 7.0
HOVERED_PX: Final = 4.5
"""Radii of the rings about a splat in the view."""
REST_S: Final = 0.25
"""Time that a pose rests before it is decoded for the panel; until then the view goes first."""


@dataclass(frozen=True, eq=False)
class _Moment:
    """Input of decoded Gaussians; references are held, so that no id is used twice."""

    renderer: Renderer
    motion: Motion
    edit: PoseEdit
    swing: Swing
    frame: int
    revision: int | None
    """Revision of what is live; None where the motion's own is shown."""

    @classmethod
    def of(cls, session: Session) -> "_Moment":
        document, revision = session.document, session.revision if session.is_live else None
        edit, swing, frame = document.edit, document.swing, session.clock.frame
        return cls(session.renderer, session.motion, edit, swing, frame, revision)

    def same(self, other: "_Moment | None") -> bool:
        return (
            other is not None
            and self.renderer is other.renderer
            and self.motion is other.motion
            and self.edit == other.edit
            and self.swing == other.swing
            and self.frame == other.frame
            and self.revision == other.revision
        )


class AtlasPanel:
    """Image of the atlas, and the values of one splat.

    Gaussians are decoded on a thread of their own: the window waits for none.
    """

    def __init__(self) -> None:
        self.splat: Splat | None = None
        self._channel: Channel | Literal["decoder"] = "colour"
        self._raw_channel = ""
        """Channel of the decoder's output; another avatar may lack it."""
        self._range = ""
        self._presenter: HostPresenter | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="atlas")
        self._job: tuple[_Moment, Future[Decoded]] | None = None
        self._known: tuple[_Moment, Decoded] | None = None
        self._failed: _Moment | None = None
        self._choice: Callable[[Gaussians], int | None] | None = None
        self._drawn: tuple[_Moment, tuple[str, str]] | None = None
        self._last: _Moment | None = None
        self._since_s = 0.0
        self._visible = False
        self.hovered: Splat | None = None
        """Splat of the texel under the cursor, in the last frame."""
        self._under: Splat | None = None
        self.picture = Rectangle(0, 0, 1, 1)
        self._described: tuple[_Moment, tuple[int, int], Splat | None] | None = None

    @property
    def busy(self) -> bool:
        """True while Gaussians are being decoded or a choice is open."""
        waits = self._job is not None or self._choice is not None
        return waits or self._under is not self.hovered

    def close(self) -> None:
        """Release the texture and the thread, while the OpenGL context exists."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._presenter is not None:
            self._presenter.close()

    def pick(self, session: Session, camera: Camera, x: float, y: float) -> None:
        """Choose the splat under a click in the picture, once its Gaussians are there."""
        if session.is_static:
            return
        self._choice = lambda gaussians: pick(gaussians, camera, x, y)

    def marked(self, session: Session) -> list[tuple[tuple[float, float, float], float]]:
        """List places, m, and ring radii, px, of the chosen splat and of that under the cursor.

        Empty until the Gaussians of the shown pose are decoded.
        """
        if self._known is None or not self._known[0].same(_Moment.of(session)):
            return []
        rings = ((self.splat, PICKED_PX), (self.hovered, HOVERED_PX))
        return [(splat.mean, radius) for splat, radius in rings if splat is not None]

    def follow(self, session: Session, lock: Lock) -> None:
        """Collect decoded Gaussians and start decoding; once a frame, before all drawing."""
        self.hovered, self._under = self._under, None
        if session.is_static:
            self.splat = None
            return
        # Moment of this frame, and Gaussians that were decoded since.
        now, moment = session.now(), _Moment.of(session)
        if not moment.same(self._last):
            if self._last is not None and self._last.renderer is not moment.renderer:
                self.splat, self._choice, self._known = None, None, None
            self._last, self._since_s = moment, now
        self._collect(session)
        is_decoded = self._known is not None and self._known[0].same(moment)
        if is_decoded:
            self._choose()
        if moment.same(self._failed):
            self._choice = None
        # Decode where the pose rests, or for a click.
        moves = session.clock.playing or session.is_live
        rests = not moves and now - self._since_s > REST_S
        needed = (rests and (self._visible or self.splat is not None)) or self._choice is not None
        self._visible = False
        if needed and not is_decoded and self._job is None and not moment.same(self._failed):
            request = session.request_shown(4, 4)
            self._job = moment, self._pool.submit(_decode, moment.renderer, request, lock)

    def _collect(self, session: Session) -> None:
        if self._job is None or not self._job[1].done():
            return
        (moment, job), self._job = self._job, None
        if moment.renderer is not session.renderer:
            return
        error = job.exception()
        if error is not None:
            self._failed, self._choice = moment, None
            session.say(f"no atlas: {str(error).splitlines()[0]}", "error")
            return
        self._known = moment, job.result()
        self._choose()
        if self.splat is not None:
            self.splat = describe(
                moment.renderer.avatar, self._known[1].gaussians, self.splat.index
            )

    def _choose(self) -> None:
        if self._choice is None or self._known is None:
            return
        (moment, decoded), choice = self._known, self._choice
        gaussians = decoded.gaussians
        index, self._choice = choice(gaussians), None
        avatar = moment.renderer.avatar
        self.splat = None if index is None else describe(avatar, gaussians, index)

    def draw(self, session: Session) -> None:
        """Draw channel, image and values."""
        if session.is_static:
            imgui.text_wrapped("These are splats of a file: they have no atlas.")
            return
        # Channel.
        self._visible = True
        room = imgui.get_content_region_avail().x
        imgui.set_next_item_width(imgui.get_font_size() * CHOICE_EM)
        self._channel = combo("channel", self._channel, (*CHANNELS, "decoder")) or self._channel
        imgui.same_line()
        if self._channel == "decoder":
            names = session.renderer.avatar.raw_channels
            if self._raw_channel not in names:
                self._raw_channel = names[0]
            imgui.set_next_item_width(imgui.get_font_size() * CHOICE_EM)
            self._raw_channel = combo("##raw", self._raw_channel, names) or self._raw_channel
            imgui.set_item_tooltip(
                "The decoder's raw output.\n"
                "Orange above zero, blue below; grey is the template as it is."
            )
        else:
            imgui.text_disabled(f"{session.renderer.avatar.atlas.resolution} texels a side")
        # Image.
        self._renew()
        if self._presenter is None:
            imgui.text_disabled("The atlas is drawn when the motion rests.")
            return
        if self._channel == "decoder":
            imgui.text_disabled(self._range)
        side = max(min(room, imgui.get_font_size() * 20), 32.0)
        place = imgui.get_cursor_screen_pos()
        self.picture = Rectangle(place.x, place.y, side, side)
        imgui.image(imgui.ImTextureRef(self._presenter.texture), (side, side))
        if imgui.is_item_hovered():
            self._point(session, place, side)
        # Chosen splat.
        self._mark(session, place, side)
        if self.splat is not None:
            _draw_splat(self.splat)

    def _renew(self) -> None:
        if self._known is None:
            return
        moment, decoded = self._known
        avatar, channel = moment.renderer.avatar, self._channel
        shown = channel, self._raw_channel if channel == "decoder" else ""
        if self._drawn is not None and self._drawn[0] is moment and self._drawn[1] == shown:
            return
        if self._presenter is None:
            self._presenter = HostPresenter("nearest")
        if channel == "decoder":
            if decoded.raw is None or self._raw_channel not in avatar.raw_channels:
                return
            raw = raw_picture(avatar, decoded.raw, self._raw_channel)
            self._range = f"{raw.least:.3g} to {raw.greatest:.3g}, colours to {raw.reach:.3g}"
            self._presenter.show(raw.pixels)
        else:
            self._presenter.show(atlas_picture(avatar, decoded.gaussians, channel))
        self._drawn = moment, shown

    def _point(self, session: Session, place: imgui.ImVec2, side: float) -> None:
        """Show the texel under the cursor, mark its splat in the view; a click chooses it."""
        avatar, mouse = session.renderer.avatar, imgui.get_mouse_pos()
        resolution = avatar.atlas.resolution
        u = int((mouse.x - place.x) / side * resolution)
        v = resolution - 1 - int((mouse.y - place.y) / side * resolution)
        splat = self._splat_at(u, v)
        if splat is None:
            imgui.set_tooltip(f"texel {u}, {v}: off the mesh")
            return
        self._under = splat
        imgui.set_tooltip("\n".join((*_lines_of(splat)[:1], *_lines_of(splat)[3:])))
        if imgui.is_mouse_clicked(0):
            self._choice = lambda _: splat.index

    def _splat_at(self, u: int, v: int) -> Splat | None:
        """Describe the splat of a texel in the decoded pose; looked up once."""
        if self._known is None:
            return None
        moment, decoded = self._known
        cache = self._described
        if cache is None or cache[0] is not moment or cache[1] != (u, v):
            avatar = moment.renderer.avatar
            index = texel_at(avatar, u, v)
            splat = None if index is None else describe(avatar, decoded.gaussians, index)
            self._described = cache = moment, (u, v), splat
        return cache[2]

    def _mark(self, session: Session, place: imgui.ImVec2, side: float) -> None:
        if self.splat is None:
            return
        resolution = session.renderer.avatar.atlas.resolution
        u, v = self.splat.texel
        x = place.x + (u + 0.5) / resolution * side
        y = place.y + (resolution - v - 0.5) / resolution * side
        imgui.get_window_draw_list().add_circle(
            (x, y), 6.0, imgui.get_color_u32(PICKED_COLOUR), 0, 2.0
        )


def _decode(renderer: Renderer, request: RenderRequest, lock: Lock) -> Decoded:
    with lock:
        return renderer.decoded(request.window)


def _lines_of(splat: Splat) -> tuple[str, ...]:
    r, g, b = (round(255 * part) for part in splat.colour)
    sx, sy, sz = splat.scales_mm
    x, y, z = splat.mean
    return (
        f"splat {splat.index}, texel {splat.texel[0]}, {splat.texel[1]}",
        f"triangle {splat.face}: vertices {' '.join(map(str, splat.vertices))}",
        f"at {x:.3f} {y:.3f} {z:.3f} m",
        f"size {sx:.1f} {sy:.1f} {sz:.1f} mm, opacity {splat.opacity:.2f}, colour {r} {g} {b}",
        ", ".join(f"{name} {weight:.2f}" for name, weight in splat.bones),
    )


def _draw_splat(splat: Splat) -> None:
    for line in _lines_of(splat):
        imgui.text_wrapped(line)
