"""How the character is shown, and the camera."""

import math
from dataclasses import replace
from typing import Final

from imgui_bundle import imgui

from ash_core.look import Look
from ash_core.scene.document import BACKGROUNDS, MESH_PLACES, MESH_STYLES
from viewer import commands
from viewer.panels.widgets import combo
from viewer.session import Session

LABEL_EM: Final = 6.5
"""Room for the labels beside sliders."""
SWITCH_EM: Final = 8.0
"""Where the second of two switches in a row begins."""


def draw(session: Session) -> None:
    """Mode, overlays, background, camera."""
    look = session.document.look
    imgui.push_item_width(-imgui.get_font_size() * LABEL_EM)
    imgui.separator_text("Look")
    mode = combo("mode", look.mode, commands.MODES)
    if mode is not None:
        commands.run(session, f"look.{mode}")
    scale = _slider("size", look.splat_scale, 0.05, 2.0, 1.0, "%.2fx")
    opacity = _slider("opacity", look.opacity, 0.0, 1.0, 1.0, "%.2f")
    degree = 3 if look.sh_degree is None else look.sh_degree
    changed, degree = imgui.slider_int("SH degree", degree, 0, 3)
    wanted = replace(
        look,
        splat_scale=look.splat_scale if scale is None else scale,
        opacity=look.opacity if opacity is None else opacity,
        sh_degree=(None if degree == 3 else degree) if changed else look.sh_degree,
    )
    if wanted != look and wanted.mode == session.document.look.mode:
        session.edit(_what_changed(look, wanted), merge="look", look=wanted)
    background = combo("background", session.document.background, tuple(BACKGROUNDS))
    if background is not None:
        session.edit(f"background {background}", background=background)
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
    opacity = _slider("mesh opacity", overlays.mesh_opacity, 0.0, 1.0, 1.0, "%.2f")
    if opacity is not None:
        changed_overlays = replace(overlays, mesh_opacity=opacity)
        session.edit(f"mesh opacity {opacity:.2f}", merge="mesh opacity", overlays=changed_overlays)
    imgui.end_disabled()


def _what_changed(before: Look, after: Look) -> str:
    names = {"splat_scale": "splat size", "opacity": "opacity", "sh_degree": "SH degree"}
    return ", ".join(
        title for name, title in names.items() if getattr(before, name) != getattr(after, name)
    )


def _camera(session: Session) -> None:
    imgui.separator_text("Camera")
    names = ("free", *session.cameras)
    chosen = combo("camera", session.locked_camera or "free", names)
    if chosen is not None:
        session.look_through(None if chosen == "free" else chosen)
    view = session.view
    fov = _slider("field of view", math.degrees(view.fov_y), 5.0, 100.0, 40.0, "%.0f deg")
    if fov is not None:
        session.view = view.with_fov(math.radians(fov))
    changed, _ = imgui.checkbox("orthographic", view.orthographic)
    if changed:
        commands.run(session, "camera.orthographic")
    changed, _ = imgui.checkbox("follow the character", session.follows_root)
    if changed:
        commands.run(session, "camera.follow")
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


def _slider(
    name: str, value: float, low: float, high: float, default: float, form: str
) -> float | None:
    """A new value, None without one; a double click brings the default."""
    changed, new = imgui.slider_float(name, value, low, high, form)
    if imgui.is_item_hovered() and imgui.is_mouse_double_clicked(0):
        return default
    return new if changed else None
