"""The UV atlas: what the decoder made of each texel, linked both ways with the picture."""

from threading import Lock

from imgui_bundle import imgui

from ash_core.records import Gaussians
from viewer.inspect import CHANNELS, Channel, Splat, atlas_picture, describe, pick, texel_at
from viewer.present import HostPresenter
from viewer.session import Session

MARK = (0.35, 0.75, 1.0, 1.0)


class AtlasPanel:
    """A picture of the atlas and what is known of one splat. Drawn anew where it is asked for."""

    def __init__(self) -> None:
        self.splat: Splat | None = None
        self._channel: Channel = "colour"
        self._presenter: HostPresenter | None = None
        self._shown: tuple[object, ...] = ()
        self._wanted = False

    def close(self) -> None:
        """While the window's OpenGL is still there."""
        if self._presenter is not None:
            self._presenter.close()

    def gaussians(self, session: Session, lock: Lock) -> Gaussians:
        """Of the pose that is shown."""
        request = session.request(4, 4)
        with lock:
            return session.renderer.gaussians(request.window)

    def pick(self, session: Session, lock: Lock, x: float, y: float, size: tuple[int, int]) -> None:
        """The splat under a click in the picture."""
        gaussians = self.gaussians(session, lock)
        index = pick(gaussians, session.camera(*size), x, y)
        avatar = session.renderer.avatar
        self.splat = None if index is None else describe(avatar, gaussians, index)

    def draw(self, session: Session, lock: Lock) -> None:
        """Channel, picture, values."""
        imgui.set_next_item_width(imgui.get_font_size() * 7)
        if imgui.begin_combo("channel", self._channel):
            for channel in CHANNELS:
                chosen, _ = imgui.selectable(channel, channel == self._channel)
                if chosen:
                    self._channel = channel
            imgui.end_combo()
        imgui.same_line()
        state = (id(session.renderer), session.document.edit, session.document.motion)
        if not session.clock.playing:
            self._renew(session, lock, (*state, session.clock.frame, self._channel))
        if self._presenter is None:
            return
        room = imgui.get_content_region_avail().x
        side = max(min(room, imgui.get_font_size() * 20), 32.0)
        imgui.text_disabled(f"{session.renderer.avatar.atlas.resolution} texels a side")
        place = imgui.get_cursor_screen_pos()
        imgui.image(imgui.ImTextureRef(self._presenter.texture), (side, side))
        self._hover(session, lock, place, side)
        self._mark(session, place, side)
        if self.splat is not None:
            _draw_splat(self.splat)

    def _renew(self, session: Session, lock: Lock, state: tuple[object, ...]) -> None:
        if state == self._shown:
            return
        self._shown = state
        if self._presenter is None:
            self._presenter = HostPresenter("nearest")
        avatar, gaussians = session.renderer.avatar, self.gaussians(session, lock)
        self._presenter.show(atlas_picture(avatar, gaussians, self._channel))
        if self.splat is not None and self.splat.index < len(gaussians.means):
            self.splat = describe(avatar, gaussians, self.splat.index)

    def _hover(self, session: Session, lock: Lock, place: imgui.ImVec2, side: float) -> None:
        if not (imgui.is_item_hovered() and imgui.is_mouse_clicked(0)):
            return
        avatar, mouse = session.renderer.avatar, imgui.get_mouse_pos()
        resolution = avatar.atlas.resolution
        u = int((mouse.x - place.x) / side * resolution)
        v = resolution - 1 - int((mouse.y - place.y) / side * resolution)
        index = texel_at(avatar, u, v)
        if index is not None:
            self.splat = describe(avatar, self.gaussians(session, lock), index)

    def _mark(self, session: Session, place: imgui.ImVec2, side: float) -> None:
        if self.splat is None:
            return
        resolution = session.renderer.avatar.atlas.resolution
        u, v = self.splat.texel
        x = place.x + (u + 0.5) / resolution * side
        y = place.y + (resolution - v - 0.5) / resolution * side
        imgui.get_window_draw_list().add_circle((x, y), 6.0, imgui.get_color_u32(MARK), 0, 2.0)


def _draw_splat(splat: Splat) -> None:
    r, g, b = (round(255 * part) for part in splat.colour)
    sx, sy, sz = splat.scales_mm
    x, y, z = splat.mean
    lines = (
        f"splat {splat.index}, texel {splat.texel[0]}, {splat.texel[1]}",
        f"triangle {splat.face}: vertices {' '.join(map(str, splat.vertices))}",
        f"at {x:.3f} {y:.3f} {z:.3f} m",
        f"size {sx:.1f} {sy:.1f} {sz:.1f} mm, opacity {splat.opacity:.2f}, colour {r} {g} {b}",
        ", ".join(f"{name} {weight:.2f}" for name, weight in splat.bones),
    )
    for line in lines:
        imgui.text_wrapped(line)
