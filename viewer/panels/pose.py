"""Posing by hand: a searchable tree of joints, a slider for each degree of freedom."""

from dataclasses import replace

from imgui_bundle import imgui

from viewer.panels.theme import colours
from viewer.panels.widgets import button
from viewer.pose import JointNode, Slider, search
from viewer.session import NOTHING_TO_MOVE, Session


class PosePanel:
    """Remembers what is searched for."""

    def __init__(self) -> None:
        self.text = ""

    def draw(self, session: Session) -> None:
        """Buttons, blend, search, tree."""
        if session.is_still:
            imgui.text_wrapped(
                f"{NOTHING_TO_MOVE.capitalize()}. The camera can move: Camera, Add key."
            )
            return
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
            session.edit("blend", merge="blend", edit=replace(edit, blend=blend))
        imgui.set_next_item_width(-1)
        _, self.text = imgui.input_text_with_hint("##joint", "search joints", self.text)
        shown = search(session.tree, self.text) if self.text else session.tree
        present = session.pose().tolist()
        by_name = {node.name: node for node in shown}
        for node in shown:
            if node.parent not in by_name:
                self._draw_node(session, node, by_name, present)

    def _draw_node(
        self,
        session: Session,
        node: JointNode,
        shown: dict[str, JointNode],
        present: list[float],
    ) -> None:
        picked = session.selected_joint in (node.name, *node.joint_names)
        flags = imgui.TreeNodeFlags_.open_on_arrow | imgui.TreeNodeFlags_.span_avail_width
        if picked:
            flags |= imgui.TreeNodeFlags_.selected
        if self.text or node.depth < 2:
            flags |= imgui.TreeNodeFlags_.default_open
        edited = any(dof in session.document.edit.values for dof in node.dofs)
        if edited:
            imgui.push_style_color(imgui.Col_.text, colours().edited)
        is_open = imgui.tree_node_ex(node.name, int(flags))
        if edited:
            imgui.pop_style_color()
        if imgui.is_item_clicked():
            session.selected_joint = node.joint_names[0]
        if not is_open:
            return
        for dof in node.dofs:
            _draw_slider(session, session.sliders[dof], present[dof])
        for child in node.children:
            if child in shown:
                self._draw_node(session, shown[child], shown, present)
        imgui.tree_pop()


def _draw_slider(session: Session, row: Slider, value: float) -> None:
    scale, edit = row.shown_scale, session.document.edit
    imgui.set_next_item_width(imgui.get_content_region_avail().x * 0.5)
    low, high = row.lower * scale, row.upper * scale
    changed, new = imgui.slider_float(
        f"{row.name}##{row.dof}",
        row.place(value) * scale,
        low,
        high,
        row.shown(f"%.{_digits(row)}f"),
    )
    if imgui.is_item_hovered() and imgui.is_mouse_double_clicked(0):
        session.edit(f"reset {row.name}", edit=edit.without_dof(row.dof))
    elif changed:
        session.show_dof(row.dof, row.moved(value, new / scale))


def _digits(row: Slider) -> int:
    return 1 if row.unit == "rad" else 2
