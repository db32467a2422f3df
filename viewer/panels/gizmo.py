"""Handles of the selected joint in the view: drawn, grabbed and dragged."""

from dataclasses import replace
from typing import Final

import numpy as np
from imgui_bundle import imgui

from ash_core.geometry.projected_lines import project
from ash_core.records import Camera, DrawableData
from ash_core.scene.joint_tree import node_of
from viewer import commands
from viewer.gizmo import Grip, Handle, drag, handles, under
from viewer.panels.view import Rectangle
from viewer.session import Session

COLOURS: Final = ((0.93, 0.33, 0.33), (0.42, 0.80, 0.40), (0.38, 0.58, 0.98))
HELD: Final = (1.0, 0.86, 0.30, 1.0)
FAR_ALPHA: Final = 0.25
"""Alpha of the half of a ring behind its joint."""


class Gizmo:
    """Gizmo of one window."""

    def __init__(self) -> None:
        self._held: Grip | None = None
        self._of: DrawableData | None = None

    def draw(self, session: Session, camera: Camera, area: Rectangle) -> bool:
        """Draw right after the view's own button. Returns True while the gizmo uses the mouse."""
        if self._of is not session.data:
            self._of, self._held = session.data, None
        node = node_of(session.tree, session.selected_joint) if session.selected_joint else None
        if node is None or not node.dofs:
            self._held = None
            return False
        drawn = handles(session.character.skeleton, session.dofs(), node, camera)
        was_held = self._held is not None
        hot = self._follow(session, camera, area, {handle.dof: handle for handle in drawn})
        for number, handle in enumerate(drawn):
            _draw(camera, area, handle, COLOURS[number % 3], handle.dof == hot)
        if hot is not None:
            self._tell(session, hot)
        return was_held or self._held is not None

    def _follow(
        self, session: Session, camera: Camera, area: Rectangle, by_dof: dict[int, Handle]
    ) -> int | None:
        """Grab, drag and release. Returns the dof that is dragged or under the mouse."""
        io = imgui.get_io()
        if self._held is not None and not (
            imgui.is_mouse_down(imgui.MouseButton_.left) and self._held.dof in by_dof
        ):
            self._held = None
        if self._held is not None:
            dof, delta = self._held.dof, io.mouse_delta
            if delta.x or delta.y:
                self._held = drag(self._held, by_dof[dof], camera, delta.x, delta.y)
                # The skeleton's own limits: a slider's may be narrower than a motion that turns.
                lower, upper = session.character.skeleton.dof_limits[dof].tolist()
                value = min(max(self._held.value, lower), upper)
                commands.run(session, "pose.show_dof", dof=dof, value=value)
            return dof
        if not imgui.is_item_hovered():
            return None
        pixel = io.mouse_pos.x - area.x, io.mouse_pos.y - area.y
        grip = under(tuple(by_dof.values()), camera, pixel)
        if grip is None:
            return None
        if imgui.is_item_activated() and imgui.is_mouse_down(imgui.MouseButton_.left):
            self._held = replace(grip, value=float(session.dofs()[grip.dof]))
        return grip.dof

    def _tell(self, session: Session, dof: int) -> None:
        row = session.sliders[dof]
        value = float(session.dofs()[dof]) * row.shown_scale
        digits = f"{value:.{1 if row.unit == 'rad' else 2}f}"
        imgui.set_tooltip(f"{row.name} {row.shown(digits)}")


def _draw(
    camera: Camera, area: Rectangle, handle: Handle, rgb: tuple[float, float, float], hot: bool
) -> None:
    pixels, in_front = project(camera, handle.points)
    view = camera.viewmat.double().numpy()
    behind = (handle.points - handle.centre) @ view[2, :3] > 1e-6
    near, far = (imgui.get_color_u32(HELD if hot else (*rgb, alpha)) for alpha in (1.0, FAR_ALPHA))
    draw = imgui.get_window_draw_list()
    draw.push_clip_rect((area.x, area.y), (area.x + area.width, area.y + area.height), True)
    places = (pixels + np.array((area.x, area.y))).tolist()
    for n in range(len(places) - 1):
        if in_front[n] and in_front[n + 1]:
            colour = far if behind[n] and not handle.slides else near
            draw.add_line(places[n], places[n + 1], colour, 3.0 if hot else 2.0)
    if handle.slides and in_front[-1]:
        draw.add_circle_filled(places[-1], 5.0, near)
    draw.pop_clip_rect()
