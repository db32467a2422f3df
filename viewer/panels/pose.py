"""Manual posing: a searchable tree of joints, a slider for each degree of freedom."""

from typing import Final

from imgui_bundle import imgui

from ash_core.scene.joint_tree import JointNode, Slider, search, way_to
from ash_core.scene.scene import NOTHING_TO_MOVE
from viewer import commands
from viewer.panels.theme import colours
from viewer.panels.widgets import button
from viewer.session import Session

REVEAL_FRAMES: Final = 3
INDENT_EM: Final = 0.5
LEAST_EM: Final = 3.6
"""Least width of a slider: its value stays readable."""


class PosePanel:
    """Panel of the pose, with its search text and the joint selected last."""

    def __init__(self) -> None:
        self.text = ""
        self._selected: str | None = None
        self._revealed: tuple[str, ...] = ()
        """Lines down to a joint that was selected elsewhere, to open and scroll to."""
        self._reveals = 0
        """Remaining frames of that: the list has its new height only in the second."""

    def draw(self, session: Session) -> None:
        """Draw buttons, blend, search and tree."""
        if session.is_static:
            imgui.text_wrapped(
                f"{NOTHING_TO_MOVE.capitalize()}. The camera can move: Camera, Add key."
            )
            return
        # Buttons and blend.
        edit = session.document.edit
        for title, command in (
            ("Reset", "pose.reset"),
            ("Mirror", "pose.mirror"),
            ("Rest", "pose.rest"),
            ("Hold", "pose.hold"),
        ):
            button(session, title, command)
        imgui.new_line()
        imgui.set_next_item_width(-imgui.get_font_size() * 3.5)
        changed, blend = imgui.slider_float("blend", edit.blend, 0.0, 1.0, "%.2f")
        if imgui.is_item_hovered():
            imgui.set_tooltip("0: the motion alone, 1: the edit alone")
        if changed:
            commands.run(session, "pose.blend", blend=blend)
        # Search.
        imgui.set_next_item_width(-1)
        clears = int(imgui.InputTextFlags_.escape_clears_all)
        _, self.text = imgui.input_text_with_hint("##joint", "search joints", self.text, clears)
        self._follow_selection(session)
        present = session.dofs().tolist()
        if self.text.strip():
            self._draw_matches(session, present)
            return
        # Tree.
        by_name = {node.name: node for node in session.tree}
        # Fingers are twelve lines deep: their names are still to be read.
        imgui.push_style_var(imgui.StyleVar_.indent_spacing, imgui.get_font_size() * INDENT_EM)
        for node in session.tree:
            if node.parent is None:
                self._draw_node(session, node, by_name, present)
        imgui.pop_style_var()

    def _follow_selection(self, session: Session) -> None:
        """Show the joint that was clicked in the view; it replaces the search."""
        self._reveals -= 1
        if self._reveals <= 0:
            self._revealed = ()
        if session.selected_joint == self._selected:
            return
        self._selected = session.selected_joint
        if self._selected is not None:
            self._revealed, self._reveals = way_to(session.tree, self._selected), REVEAL_FRAMES
            self.text = ""

    def _draw_matches(self, session: Session, present: list[float]) -> None:
        """Draw the matching lines, without their parents and children."""
        matches = search(session.tree, self.text)
        if not matches:
            imgui.text_disabled("no joint and no dof has this name")
        for match in matches:
            if self._draw_line(session, match.node, True):
                for dof in match.dofs:
                    _draw_slider(session, session.sliders[dof], present[dof])
                imgui.tree_pop()

    def _draw_node(
        self,
        session: Session,
        node: JointNode,
        by_name: dict[str, JointNode],
        present: list[float],
    ) -> None:
        if node.name in self._revealed:
            imgui.set_next_item_open(True)
        is_open = self._draw_line(session, node, node.depth < 2)
        if self._revealed and node.name == self._revealed[-1]:
            imgui.set_scroll_here_y(0.3)
        if not is_open:
            return
        for dof in node.dofs:
            _draw_slider(session, session.sliders[dof], present[dof])
        for child in node.children:
            self._draw_node(session, by_name[child], by_name, present)
        imgui.tree_pop()

    def _draw_line(self, session: Session, node: JointNode, begins_open: bool) -> bool:
        """Draw a joint's name, lit if it is selected. Returns True where its line is open."""
        flags = imgui.TreeNodeFlags_.open_on_arrow | imgui.TreeNodeFlags_.span_avail_width
        if session.selected_joint in (node.name, *node.joint_names):
            flags |= imgui.TreeNodeFlags_.selected
        if begins_open:
            flags |= imgui.TreeNodeFlags_.default_open
        edited = any(dof in session.document.edit.values for dof in node.dofs)
        imgui.push_style_color(imgui.Col_.header, colours().range)
        if edited:
            imgui.push_style_color(imgui.Col_.text, colours().edited)
        is_open = imgui.tree_node_ex(f"{node.name}##{bool(self.text)}", int(flags))
        imgui.pop_style_color(1 + edited)
        if imgui.is_item_clicked():
            self._selected = node.joint_names[0]
            commands.run(session, "pose.select", joint=self._selected)
        return is_open


def _draw_slider(session: Session, row: Slider, value: float) -> None:
    scale = row.shown_scale
    room, name_width = imgui.get_content_region_avail().x, imgui.calc_text_size(row.name).x
    beside = room - name_width - imgui.get_style().item_inner_spacing.x
    imgui.set_next_item_width(max(min(room * 0.5, beside), imgui.get_font_size() * LEAST_EM))
    low, high = row.lower * scale, row.upper * scale
    changed, new = imgui.slider_float(
        f"{row.name}##{row.dof}",
        row.place(value) * scale,
        low,
        high,
        row.shown(f"%.{_digits(row)}f"),
    )
    if imgui.is_item_hovered() and imgui.is_mouse_double_clicked(0):
        commands.run(session, "pose.reset_dof", dof=row.dof)
    elif changed:
        new_value = row.moved(value, new / scale)
        commands.run(session, "pose.show_dof", dof=row.dof, value=new_value)


def _digits(row: Slider) -> int:
    return 1 if row.unit == "rad" else 2
