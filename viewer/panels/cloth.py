"""Section of loose cloth: how it swings, and what is done with it now."""

import math
from typing import Final

from imgui_bundle import imgui

from viewer import commands
from viewer.panels.widgets import SWITCH_EM, button, slider
from viewer.session import Session

MOST: Final = {"stiffness": 4.0, "gravity": 2.0, "wind": 15.0}
"""Ends of the sliders; Ctrl + click takes any number within the limits."""
STIFFNESS: Final = "Stiffness: factor on the frequency with which cloth returns to its own shape."
GRAVITY: Final = "Gravity on the cloth, in g: 1 is the earth's."
WIND: Final = "Speed of the wind, m/s."
WIND_FROM: Final = (
    "Where the wind comes from, degrees: 0 is the front of a character at rest,\n"
    "90 its left, 180 its back."
)
LIVE: Final = (
    "Move the cloth in real time, also while the motion rests. Otherwise each frame\n"
    "shows the cloth that the motion brings there; recordings always do."
)


def draw(session: Session) -> None:
    """Draw switches, sliders and commands; one greyed line where no cloth swings."""
    imgui.separator_text("Cloth")
    if session.no_cloth is not None:
        imgui.text_disabled(session.no_cloth)
        return
    # Switches.
    swing = session.document.swing
    changed, _ = imgui.checkbox("swing", swing.is_on)
    imgui.set_item_tooltip("Simulate the cloth. Without, it moves as skin does.")
    if changed:
        commands.run(session, "cloth.swing")
    imgui.same_line(imgui.get_font_size() * SWITCH_EM)
    imgui.begin_disabled(not swing.is_on)
    changed, _ = imgui.checkbox("live", session.live_cloth)
    imgui.set_item_tooltip(LIVE)
    if changed:
        commands.run(session, "cloth.live")
    # Sliders.
    degrees = math.degrees(swing.wind_yaw)
    stiffness = slider(
        "stiffness", swing.stiffness, 0.0, MOST["stiffness"], 1.0, "%.2fx", STIFFNESS
    )
    gravity = slider("gravity", swing.gravity, 0.0, MOST["gravity"], 1.0, "%.2f g", GRAVITY)
    wind = slider("wind", swing.wind, 0.0, MOST["wind"], 0.0, "%.1f m/s", WIND)
    angle = slider("wind from", degrees, -180.0, 180.0, 0.0, "%.0f deg", WIND_FROM)
    yaw = None if angle is None else math.radians(angle)
    values = {"stiffness": stiffness, "gravity": gravity, "wind": wind, "wind_yaw": yaw}
    changes = {name: value for name, value in values.items() if value is not None}
    if changes:
        commands.run(session, "cloth.change", **changes)
    # Commands.
    button(session, "Settle", "cloth.settle")
    button(session, "As fitted", "cloth.reset")
    imgui.text_disabled("Ctrl + drag pulls it")
    imgui.end_disabled()
