"""Pull of loose cloth by the mouse in the view: Ctrl and left drag."""

from typing import Final

import numpy as np
from imgui_bundle import imgui

from ash_core.geometry.projected_lines import project
from ash_core.records import Camera
from viewer import commands
from viewer.panels.view import PICKED_COLOUR, Rectangle
from viewer.session import Session

RING_PX: Final = 6.0
DOT_PX: Final = 3.0


def draw(session: Session, camera: Camera, area: Rectangle) -> bool:
    """Draw right after the view's own button. Returns True while the pull uses the mouse."""
    io, was_held = imgui.get_io(), session.pulled is not None
    pixel = {"x_px": io.mouse_pos.x - area.x, "y_px": io.mouse_pos.y - area.y}
    is_down = imgui.is_mouse_down(imgui.MouseButton_.left)
    if was_held and is_down:
        commands.run(session, "cloth.pull", camera=camera, **pixel)
    elif was_held:
        commands.run(session, "cloth.release")
    elif is_down and io.key_ctrl and imgui.is_item_activated() and session.no_cloth is None:
        commands.run(session, "cloth.grab", camera=camera, **pixel)
    pulled = session.pulled
    if pulled is not None:
        _draw_line(camera, area, np.array(pulled))
    return was_held or pulled is not None


def _draw_line(camera: Camera, area: Rectangle, places: np.ndarray) -> None:
    """Draw a line from the cloth to where it is pulled."""
    pixels, in_front = project(camera, places)
    if not in_front.all():
        return
    cloth, hand = (pixels + np.array((area.x, area.y))).tolist()
    colour = imgui.get_color_u32(PICKED_COLOUR)
    draw = imgui.get_window_draw_list()
    draw.push_clip_rect((area.x, area.y), (area.x + area.width, area.y + area.height), True)
    draw.add_line(cloth, hand, colour, 1.5)
    draw.add_circle(cloth, RING_PX, colour, 0, 2.0)
    draw.add_circle_filled(hand, DOT_PX, colour)
    draw.pop_clip_rect()
