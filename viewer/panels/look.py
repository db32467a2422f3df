"""Panel of the look, the cloth, the overlays and the camera."""

import math
from typing import Final

from imgui_bundle import imgui

from ash_core.scene.document import BACKGROUNDS, MESH_PLACES, MESH_STYLES
from viewer import commands
from viewer.panels import cloth
from viewer.panels.widgets import SWITCH_EM, combo, slider
from viewer.session import Session

LABEL_EM: Final = 6.5
"""Room for the labels beside sliders."""


def draw(session: Session) -> None:
    """Draw the mode, its values, background, cloth, overlays and camera."""
    # Mode of the splats.
    look = session.document.look
    imgui.push_item_width(-imgui.get_font_size() * LABEL_EM)
    imgui.separator_text("Look")
    mode = combo("mode", look.mode, commands.MODES)
    if mode is not None:
        commands.run(session, f"look.{mode}")
    # Values of the look.
    scale = slider("size", look.splat_scale, 0.05, 2.0, 1.0, "%.2fx")
    opacity = slider("opacity", look.opacity, 0.0, 1.0, 1.0, "%.2f")
    degree = 3 if look.sh_degree is None else look.sh_degree
    changed, degree = imgui.slider_int("SH degree", degree, 0, 3)
    values = {
        "splat_scale": scale,
        "opacity": opacity,
        "sh_degree": (None if degree == 3 else degree) if changed else look.sh_degree,
    }
    changes = {
        name: value
        for name, value in values.items()
        if value != getattr(look, name) and (value is not None or name == "sh_degree")
    }
    if changes:
        commands.run(session, "look.change", **changes)
    # Background, cloth, overlays and camera.
    background = combo("background", session.document.background, tuple(BACKGROUNDS))
    if background is not None:
        commands.run(session, "look.show_background", name=background)
    cloth.draw(session)
    _overlays(session)
    _camera(session)
    imgui.pop_item_width()


def _overlays(session: Session) -> None:
    overlays = session.document.overlays
    imgui.separator_text("Overlays")
    imgui.set_item_tooltip(
        "Overlays are of this window alone: recordings and screenshots show the avatar\n"
        "and its background without floor, mesh, skeleton or cameras."
    )
    switches = [(name, shown) for name, shown in vars(overlays).items() if isinstance(shown, bool)]
    for number, (name, shown) in enumerate(switches):
        if number % 2:
            imgui.same_line(imgui.get_font_size() * SWITCH_EM)
        changed, _ = imgui.checkbox(name.replace("_", " "), shown)
        if changed:
            commands.run(session, f"look.{name}")
    mesh = combo("mesh", overlays.mesh, MESH_STYLES)
    imgui.set_item_tooltip("The template as it is posed; a wire hides what lies behind it.")
    if mesh is not None:
        commands.run(session, f"look.mesh_{mesh}")
    imgui.begin_disabled(overlays.mesh == "none")
    place = combo("place", overlays.mesh_place, MESH_PLACES)
    imgui.set_item_tooltip("Over the splats, or under: then it shows where they do not cover it.")
    if place is not None:
        commands.run(session, f"look.mesh_{place}")
    opacity = slider("mesh opacity", overlays.mesh_opacity, 0.0, 1.0, 1.0, "%.2f")
    if opacity is not None:
        commands.run(session, "look.mesh_opacity", opacity=opacity)
    imgui.end_disabled()


def _camera(session: Session) -> None:
    imgui.separator_text("Camera")
    # Camera to look through.
    names = ("free", *session.cameras)
    chosen = combo("camera", session.locked_camera or "free", names)
    if chosen is not None:
        name = None if chosen == "free" else chosen
        commands.run(session, "camera.look_through", name=name)
    # Lens.
    view = session.view
    fov = slider("field of view", math.degrees(view.fov_y), 5.0, 100.0, 40.0, "%.0f deg")
    if fov is not None:
        commands.run(session, "camera.fov", fov_y=math.radians(fov))
    changed, _ = imgui.checkbox("orthographic", view.orthographic)
    if changed:
        commands.run(session, "camera.orthographic")
    changed, _ = imgui.checkbox("follow the character", session.follows_root)
    if changed:
        commands.run(session, "camera.follow")
    # Place, and commands.
    x, y, z = view.eye
    imgui.text_disabled(f"eye {x:.2f} {y:.2f} {z:.2f} m, {view.distance:.2f} m away")
    for title, command in (
        ("Home", "camera.home"),
        ("Frame", "camera.frame"),
        ("Add key", "camera.add_key"),
    ):
        if imgui.button(title):
            commands.run(session, command)
        imgui.same_line()
    imgui.new_line()
