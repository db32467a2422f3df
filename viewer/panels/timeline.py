"""Timeline: play, scrub, range, zoom, speed, loop, camera keys, frame and seconds."""

from typing import Final, Literal

from imgui_bundle import imgui

from ash_core.scene.playback import SPEEDS
from viewer import commands
from viewer.panels.theme import colours
from viewer.panels.view import Rectangle
from viewer.panels.widgets import button
from viewer.session import Session

HEIGHTS_EM: Final = (1.5, 3.5)
"""Least and largest height of the track."""
KEY: Final = (0.98, 0.72, 0.24, 1.0)
WHEEL_FACTOR: Final = 0.8
PAN: Final = 0.1
"""Share of the visible frames for a notch of the wheel."""
LEAST_FRAMES: Final = 8.0
"""Fewest visible frames."""
MARGIN_PX: Final = 8.0
REACH_PX: Final = 7.0
"""Distance within which the in and the out point are grabbed."""
LABEL_EM: Final = 4.0
"""Least distance between labels."""
STEPS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
TRACK: Final = (
    "Wheel: zoom.  Shift + wheel: along.\n"
    "Lower half of the in and the out point: drag them.\n"
    "J, K, L: back, pause, on."
)

Part = Literal["head", "in", "out"]
DRAGGED: Final[dict[Part, str]] = {
    "head": "time.seek",
    "in": "time.set_in",
    "out": "time.set_out",
}
"""Command of a part that is dragged."""


class Timeline:
    """Timeline with the part that is being dragged."""

    def __init__(self) -> None:
        self.track = Rectangle(0, 0, 1, 1)
        self._held: Part = "head"
        self._frames = 0

    def draw(self, session: Session) -> None:
        """Draw both rows."""
        _transport(session)
        self._draw_track(session)

    def place(self, session: Session, frame: float) -> float:
        """Convert a frame to x, in the window's units."""
        low, high = self.span(session)
        return self.track.x + MARGIN_PX + self._width * (frame - low) / (high - low)

    def frame_at(self, session: Session, x: float) -> float:
        """Convert x to a frame: the inverse of `place`."""
        low, high = self.span(session)
        return low + (high - low) * (x - self.track.x - MARGIN_PX) / self._width

    def span(self, session: Session) -> tuple[float, float]:
        """Return the first and the last visible frame."""
        return session.panels.span or (0.0, _end(session))

    @property
    def _width(self) -> float:
        return max(self.track.width - 2 * MARGIN_PX, 1.0)

    def _draw_track(self, session: Session) -> None:
        if self._frames != session.clock.frames:  # another motion
            self._frames = session.clock.frames
            commands.run(session, "time.see", span=None)
        origin, width = imgui.get_cursor_screen_pos(), max(imgui.get_content_region_avail().x, 40.0)
        least, most = (imgui.get_font_size() * em for em in HEIGHTS_EM)
        height = min(max(imgui.get_content_region_avail().y, least), most)
        self.track = Rectangle(origin.x, origin.y, width, height)
        imgui.invisible_button("track", (width, height))
        self._use(session)
        self._turn_page(session)
        draw_list, corner = imgui.get_window_draw_list(), (origin.x + width, origin.y + height)
        draw_list.push_clip_rect((origin.x, origin.y), corner, True)
        self._draw_range(session)
        self._draw_ticks(session)
        self._draw_head(session)
        draw_list.pop_clip_rect()

    # ---- mouse ----

    def _use(self, session: Session) -> None:
        io = imgui.get_io()
        if imgui.is_item_hovered():
            under = self._part_at(session, io.mouse_pos.x, io.mouse_pos.y)
            if under != "head":
                imgui.set_mouse_cursor(imgui.MouseCursor_.resize_ew)
            imgui.set_item_tooltip(TRACK)
            self._wheel(session, io.mouse_wheel, io.mouse_wheel_h)
            if imgui.is_item_activated():
                self._held = under
        if imgui.is_item_active():
            frame = round(self.frame_at(session, io.mouse_pos.x))
            commands.run(session, DRAGGED[self._held], frame=frame)

    def _part_at(self, session: Session, x: float, y: float) -> Part:
        """Find the part under the mouse: a range's end at its lower half, else the playhead."""
        if y < self.track.y + self.track.height / 2:
            return "head"
        first, last = session.clock.first, session.clock.last
        to_in, to_out = (abs(self.place(session, frame) - x) for frame in (first, last))
        if min(to_in, to_out) >= REACH_PX:
            return "head"
        return "in" if to_in < to_out else "out"

    def _wheel(self, session: Session, notches: float, sideways: float) -> None:
        low, high = self.span(session)
        if imgui.get_io().key_shift:
            notches, sideways = 0.0, sideways or notches
        if notches:
            centre = min(max(self.frame_at(session, imgui.get_mouse_pos().x), low), high)
            factor = WHEEL_FACTOR**notches
            self._see(session, centre - (centre - low) * factor, centre + (high - centre) * factor)
        elif sideways:
            shift = -sideways * PAN * (high - low)
            self._see(session, low + shift, high + shift)

    def _see(self, session: Session, low: float, high: float) -> None:
        """Show these frames, as far as the motion has them."""
        end = _end(session)
        width = min(max(high - low, LEAST_FRAMES), end)
        low = min(max(low, 0.0), end - width)
        span = None if width >= end else (low, low + width)
        commands.run(session, "time.see", span=span)

    def _turn_page(self, session: Session) -> None:
        """Keep the playhead visible during playback."""
        low, high = self.span(session)
        frame = session.clock.frame
        if session.clock.playing and not low <= frame <= high:
            self._see(session, frame, frame + high - low)

    # ---- drawing ----

    def _draw_range(self, session: Session) -> None:
        clock, draw_list, dress = session.clock, imgui.get_window_draw_list(), colours()
        colour, top, bottom = imgui.get_color_u32, self.track.y + 4, self._bottom
        start, end = (self.place(session, frame) for frame in (0, _end(session)))
        draw_list.add_rect_filled((start, top), (end, bottom), colour(dress.track), 4.0)
        first, last = self.place(session, clock.first), self.place(session, clock.last)
        draw_list.add_rect_filled((first, top), (last, bottom), colour(dress.range), 4.0)
        middle = (top + bottom) / 2
        for x, inwards in ((first, 1), (last, -1)):  # brackets, to be grabbed
            for ends in (
                ((x, middle), (x, bottom)),
                ((x, middle), (x + 4 * inwards, middle)),
                ((x, bottom), (x + 4 * inwards, bottom)),
            ):
                draw_list.add_line(*ends, colour(dress.head), 2.0)
        for key in session.document.path.keys:
            x = self.place(session, key.frame)
            diamond = (x - 5, middle), (x, middle - 5), (x + 5, middle), (x, middle + 5)
            draw_list.add_quad_filled(*diamond, colour(KEY))

    def _draw_ticks(self, session: Session) -> None:
        draw_list, dress, size = imgui.get_window_draw_list(), colours(), imgui.get_font_size()
        low, high = self.span(session)
        unit = session.clock.fps if session.panels.seconds else 1.0
        step = unit * label_step((high - low) / unit, self._width / (LABEL_EM * size))
        tick, ink = imgui.get_color_u32(dress.tick), imgui.get_color_u32(dress.label)
        for n in range(int(low // step), int(high // step) + 1):
            x = self.place(session, n * step)
            if n * step < low:
                continue
            draw_list.add_line((x, self._bottom - 5), (x, self._bottom), tick)
            text = f"{n * step / unit:g}{' s' if session.panels.seconds else ''}"
            place = (x + 6, self._bottom - 0.8 * size - 2)
            draw_list.add_text(imgui.get_font(), 0.8 * size, place, ink, text)

    def _draw_head(self, session: Session) -> None:
        draw_list, y = imgui.get_window_draw_list(), self.track.y
        x, colour = self.place(session, session.clock.frame), imgui.get_color_u32(colours().head)
        draw_list.add_line((x, y), (x, y + self.track.height), colour, 2.0)
        draw_list.add_triangle_filled((x - 6, y), (x + 6, y), (x, y + 8), colour)

    @property
    def _bottom(self) -> float:
        return self.track.y + self.track.height - 4


def label_step(length: float, most: float) -> float:
    """Choose a round distance between labels, with at most `most` of them in a length."""
    for step in STEPS:
        if length / step <= most:
            return float(step)
    return float(STEPS[-1] * max(1, -(-length // (STEPS[-1] * max(most, 1.0)))))


def _end(session: Session) -> float:
    return float(max(session.clock.frames - 1, 1))


def _transport(session: Session) -> None:
    clock = session.clock
    button(session, "|<##first", "time.first")
    button(session, "<##back", "time.previous_frame")
    button(session, "Pause###play" if clock.playing else "Play###play", "time.play")
    button(session, ">##on", "time.next_frame")
    button(session, ">|##last", "time.last")
    imgui.set_next_item_width(imgui.get_font_size() * 7)
    changed, speed = imgui.slider_float("##speed", clock.speed, *SPEEDS, "%.2fx speed")
    if changed:
        commands.run(session, "time.speed", speed=speed)
    if imgui.is_item_hovered() and imgui.is_mouse_double_clicked(0):
        commands.run(session, "time.normal_speed")
    imgui.same_line()
    button(session, f"{clock.loop}###loop", "time.loop")
    button(session, "fit###fit", "time.fit")
    button(session, f"{'seconds' if session.panels.seconds else 'frames'}###unit", "time.unit")
    imgui.set_next_item_width(imgui.get_font_size() * 6)
    changed, frame = imgui.input_int("##frame", clock.frame, 1, 10)
    if changed:
        commands.run(session, "time.seek", frame=frame)
    imgui.same_line()
    dropped = f"   {clock.dropped} dropped" if clock.dropped else ""
    still = "   nothing moves but the camera" if session.is_static else ""
    imgui.text(f"of {clock.frames - 1}   {clock.time_s:.2f} s{dropped}{still}")
