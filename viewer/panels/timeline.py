"""The timeline: play, scrub, range, speed, loop, camera keys, frame and seconds."""

from typing import Final

from imgui_bundle import imgui

from viewer import commands
from viewer.clock import SPEEDS
from viewer.panels.theme import colours
from viewer.panels.widgets import button
from viewer.session import Session

HEIGHTS_EM: Final = (1.5, 3.5)
"""Of the track: it takes the room that there is."""
KEY: Final = (0.98, 0.72, 0.24, 1.0)


def draw(session: Session) -> None:
    """Both rows."""
    _transport(session)
    _track(session)


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
        clock.speed = speed
    if imgui.is_item_hovered() and imgui.is_mouse_double_clicked(0):
        commands.run(session, "time.normal_speed")
    imgui.same_line()
    button(session, f"{clock.loop}###loop", "time.loop")
    imgui.set_next_item_width(imgui.get_font_size() * 6)
    changed, frame = imgui.input_int("##frame", clock.frame, 1, 10)
    if changed:
        clock.seek(frame)
    imgui.same_line()
    dropped = f"   {clock.dropped} dropped" if clock.dropped else ""
    still = "   nothing moves but the camera" if session.is_still else ""
    imgui.text(f"of {clock.frames - 1}   {clock.time_s:.2f} s{dropped}{still}")


def _track(session: Session) -> None:
    clock, draw_list = session.clock, imgui.get_window_draw_list()
    origin, width = imgui.get_cursor_screen_pos(), max(imgui.get_content_region_avail().x, 40.0)
    least, most = (imgui.get_font_size() * em for em in HEIGHTS_EM)
    height = min(max(imgui.get_content_region_avail().y, least), most)
    imgui.invisible_button("track", (width, height))
    end = max(clock.frames - 1, 1)

    def place(frame: float) -> float:
        return origin.x + 4 + (width - 8) * frame / end

    if imgui.is_item_active():
        share = (imgui.get_mouse_pos().x - origin.x - 4) / (width - 8)
        clock.seek(round(min(max(share, 0.0), 1.0) * end))
    top, bottom = origin.y + 4, origin.y + height - 4
    colour, dress = imgui.get_color_u32, colours()
    draw_list.add_rect_filled((place(0), top), (place(end), bottom), colour(dress.track), 4.0)
    draw_list.add_rect_filled(
        (place(clock.first), top), (place(clock.last), bottom), colour(dress.range), 4.0
    )
    second = clock.fps
    while width * second / end < 40:
        second *= 5
    for n in range(int(end / second) + 1):
        x = place(n * second)
        draw_list.add_line((x, bottom - 5), (x, bottom), colour(dress.tick))
    for key in session.document.path.keys:
        x, y = place(key.frame), (top + bottom) / 2
        draw_list.add_quad_filled((x - 5, y), (x, y - 5), (x + 5, y), (x, y + 5), colour(KEY))
    x = place(clock.frame)
    draw_list.add_line((x, origin.y), (x, origin.y + height), colour(dress.head), 2.0)
    draw_list.add_triangle_filled(
        (x - 6, origin.y), (x + 6, origin.y), (x, origin.y + 8), colour(dress.head)
    )
