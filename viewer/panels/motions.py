"""Panel of open motions and recent files."""

from pathlib import Path

from imgui_bundle import imgui

from ash_core.files.io import legible
from viewer import commands
from viewer.panels.widgets import label
from viewer.session import Session


def draw(session: Session) -> None:
    """Draw a list of each."""
    for name, motion in session.motions.items():
        seconds = len(motion.dofs) / motion.fps
        chosen, _ = imgui.selectable(
            label(name, "motion"), name == session.document.motion, size=(0, 0)
        )
        imgui.same_line(imgui.get_content_region_avail().x - imgui.get_font_size() * 3)
        imgui.text_disabled(f"{seconds:.1f} s")
        if chosen:
            commands.run(session, "time.choose_motion", name=name)
    if session.recent:
        imgui.separator_text("Recent")
        for path in session.recent:
            chosen, _ = imgui.selectable(label(Path(path).name, path), False)
            if imgui.is_item_hovered():
                imgui.set_tooltip(legible(path))
            if chosen:
                session.requests.put("open", (path,))
