"""Command palette, help and menus, all drawn from the table of commands."""

from typing import Final

from imgui_bundle import imgui

from viewer.commands import COMMANDS, GROUPS, Command, run, search
from viewer.session import Session

ROWS: Final = 14
MOUSE: Final = (
    ("drag", "turn about the character"),
    ("Shift + drag, middle drag", "shift"),
    ("wheel", "come nearer to what is under the cursor"),
    ("right drag", "look around; with W A S D Q E fly, Shift is faster"),
    ("click", "a joint where the skeleton is shown, else the splat in the atlas"),
    ("drag a joint's ring or arrow", "turn or slide it"),
    ("Ctrl + drag on loose cloth", "pull it; let go and it swings back"),
    ("double click on a slider", "its default"),
)


class Palette:
    """Find a command by a few letters and run it."""

    def __init__(self) -> None:
        self.text = ""
        self.row = 0

    def draw(self, session: Session) -> None:
        """Draw the palette while it is open."""
        if not session.panels.palette:
            self.text, self.row = "", 0
            return
        # Window.
        centre = imgui.get_main_viewport().get_center()
        imgui.set_next_window_pos((centre.x, centre.y * 0.45), pivot=(0.5, 0.0))
        imgui.set_next_window_size((imgui.get_font_size() * 30, 0))
        flags = (
            imgui.WindowFlags_.no_title_bar
            | imgui.WindowFlags_.no_resize
            | imgui.WindowFlags_.no_saved_settings
            | imgui.WindowFlags_.no_docking
        )
        imgui.begin("Find a command", flags=int(flags))
        if imgui.is_window_appearing():
            imgui.set_keyboard_focus_here()
        # Text and matching commands.
        imgui.set_next_item_width(-1)
        entered, self.text = imgui.input_text_with_hint(
            "##text", "find a command", self.text, int(imgui.InputTextFlags_.enter_returns_true)
        )
        matches = search(self.text)[:ROWS]
        self._move(len(matches))
        chosen = matches[self.row] if entered and matches else None
        for number, command in enumerate(matches):
            if _row(command, number == self.row):
                chosen = command
        imgui.end()
        # Run the chosen one.
        if chosen is not None:
            run(session, "window.show", name="palette", shown=False)
            run(session, chosen.name)

    def _move(self, count: int) -> None:
        down = imgui.is_key_pressed(imgui.Key.down_arrow)
        up = imgui.is_key_pressed(imgui.Key.up_arrow)
        self.row = min(max(self.row + down - up, 0), max(count - 1, 0))


def _row(command: Command, selected: bool) -> bool:
    clicked, _ = imgui.selectable(f"{command.group}: {command.title}##{command.name}", selected)
    if keys := command.keys:
        imgui.same_line(imgui.get_content_region_avail().x - imgui.calc_text_size(keys).x)
        imgui.text_disabled(keys)
    return clicked


def draw_help(session: Session) -> None:
    """Draw every key, from the table of commands."""
    if not session.panels.help:
        return
    em, viewport = imgui.get_font_size(), imgui.get_main_viewport()
    room = viewport.size.x * 0.9, viewport.size.y * 0.86
    imgui.set_next_window_size(
        (min(46 * em, room[0]), min(58 * em, room[1])), imgui.Cond_.appearing
    )
    centre = viewport.get_center()
    imgui.set_next_window_pos(centre, imgui.Cond_.appearing, (0.5, 0.5))
    _, stays = imgui.begin("Keys and help", True, int(imgui.WindowFlags_.no_docking))
    if not stays:
        run(session, "window.show", name="help", shown=False)
    if imgui.begin_table("keys", 2):
        for group in GROUPS:
            commands = [command for command in COMMANDS if command.group == group]
            imgui.table_next_column()
            imgui.separator_text(group)
            for command in commands:
                imgui.text(command.title)
                if keys := command.keys:
                    imgui.same_line(imgui.get_column_width() - imgui.calc_text_size(keys).x - 12)
                    imgui.text_disabled(keys)
        imgui.table_next_column()
        imgui.separator_text("Mouse in the view")
        for gesture, effect in MOUSE:
            imgui.text(gesture)
            imgui.text_disabled(f"    {effect}")
        imgui.end_table()
    imgui.end()


def draw_menus(session: Session) -> None:
    """Draw one menu for each group of commands."""
    for group in GROUPS:
        if imgui.begin_menu(group):
            for command in COMMANDS:
                if command.group == group:
                    clicked, _ = imgui.menu_item(command.title, command.keys, False)
                    if clicked:
                        run(session, command.name)
            imgui.end_menu()
