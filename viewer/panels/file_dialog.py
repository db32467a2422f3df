"""Window of the file dialog: places, the folder's table, the typed name."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imgui_bundle import imgui

from ash_core.files.io import legible
from viewer.file_dialog import Column, Entry, FileDialog, places
from viewer.panels.theme import colours
from viewer.panels.widgets import fitting, label

SIZE_EM: Final = (62.0, 38.0)
LEAST_EM: Final = (34.0, 18.0)
PLACES_EM: Final = 12.0
REFRESH_S: Final = 1.0
COLUMNS: Final[tuple[Column, ...]] = ("name", "size", "changed")
MOST_CANDIDATES: Final = 8


class FileDialogWindow:
    """Window of one dialog, drawn until it has a result or is cancelled."""

    def __init__(self, dialog: FileDialog, recent: Sequence[str]) -> None:
        """Begin with a dialog. recent: files that were opened, the last one first."""
        self.dialog = dialog
        self._places = places(recent)
        self._recent = [] if dialog.saves else [path for path in recent if dialog.kind.holds(path)]
        self._id = f"{dialog.title}###file dialog"
        self._is_open = False
        self._focus = True
        self._field = dialog.text
        """Text of the field after its last frame; it keeps its own copy during typing."""
        self._reveal = False
        self._refreshed_s = 0.0

    def draw(self) -> bool:
        """Draw a frame. Returns True while the dialog goes on."""
        if not self._is_open:
            imgui.open_popup(self._id)
            self._is_open = self._focus = True
        em, viewport = imgui.get_font_size(), imgui.get_main_viewport()
        room = viewport.size.x * 0.94, viewport.size.y * 0.88
        size = min(SIZE_EM[0] * em, room[0]), min(SIZE_EM[1] * em, room[1])
        imgui.set_next_window_pos(viewport.get_center(), imgui.Cond_.appearing, (0.5, 0.5))
        imgui.set_next_window_size(size, imgui.Cond_.appearing)
        least = min(LEAST_EM[0] * em, room[0]), min(LEAST_EM[1] * em, room[1])
        imgui.set_next_window_size_constraints(least, room)
        flags = imgui.WindowFlags_.no_saved_settings | imgui.WindowFlags_.no_collapse
        visible, stays = imgui.begin_popup_modal(self._id, True, int(flags))
        if not visible:
            return self._close()
        goes_on = self._draw_content() and bool(stays) and self.dialog.result is None
        if not goes_on:
            imgui.close_current_popup()
        imgui.end_popup()
        return goes_on

    def _close(self) -> bool:
        """Close at Esc: the question about an existing file first, then the dialog."""
        self._is_open = False
        had_question, self.dialog.replaced = self.dialog.replaced is not None, None
        return had_question

    def _draw_content(self) -> bool:
        """Draw the whole content. Returns False at Cancel."""
        dialog, em = self.dialog, imgui.get_font_size()
        now = time.monotonic()
        if now - self._refreshed_s > REFRESH_S:
            self._refreshed_s = now
            dialog.refresh()
        self._follow_keys()
        self._draw_way()
        below = imgui.get_frame_height_with_spacing() * 3 + imgui.get_style().item_spacing.y
        imgui.begin_child("places", (PLACES_EM * em, -below), int(imgui.ChildFlags_.borders))
        self._draw_places()
        imgui.end_child()
        imgui.same_line()
        imgui.begin_child("folder", (0, -below), int(imgui.ChildFlags_.borders))
        self._draw_entries()
        imgui.end_child()
        self._draw_state()
        if dialog.replaced is not None:
            self._draw_question()
            return True
        return self._draw_name()

    def _follow_keys(self) -> None:
        """Follow keys: arrows move the mark, Backspace in an empty field goes up."""
        dialog = self.dialog
        step = imgui.is_key_pressed(imgui.Key.down_arrow) - imgui.is_key_pressed(imgui.Key.up_arrow)
        if step:
            dialog.move(step)
            self._reveal = True
        if not dialog.text and imgui.is_key_pressed(imgui.Key.backspace):
            dialog.up()
            self._reveal = True

    # ---- where it stands ----

    def _draw_way(self) -> None:
        """Draw the folders down to this one; the lowest ones where room is short."""
        dialog, style = self.dialog, imgui.get_style()
        if imgui.button("up"):
            dialog.up()
            self._reveal = self._focus = True
        imgui.set_item_tooltip("The folder above (Backspace)")
        hidden_width = imgui.calc_text_size("hidden files").x + imgui.get_frame_height() * 2
        room = imgui.get_content_region_avail().x - hidden_width
        imgui.same_line()
        room -= imgui.get_cursor_pos_x()
        shown = []
        for crumb in reversed(dialog.crumbs):
            width = imgui.calc_text_size(crumb.title).x + 2 * style.frame_padding.x
            room -= width + style.item_spacing.x
            if shown and room < 0:
                break
            shown.append(crumb)
        for crumb in reversed(shown):
            if imgui.button(label(crumb.title, str(crumb.folder))):
                self._go(crumb.folder)
            imgui.same_line()
        end = imgui.get_window_width()
        imgui.same_line(end - hidden_width)
        _, dialog.hidden = imgui.checkbox("hidden files", dialog.hidden)

    def _draw_places(self) -> None:
        """Draw shortcuts to folders, and recent files."""
        for place in self._places:
            is_here = place.folder == self.dialog.folder
            if imgui.selectable(label(place.title, str(place.folder)), is_here)[0]:
                self._go(place.folder)
            imgui.set_item_tooltip(legible(str(place.folder)))
        if self._recent:
            imgui.separator_text("Recent")
        for path in self._recent:
            if imgui.selectable(label(Path(path).name, path), False)[0]:
                self.dialog.take(Path(path))
                self.dialog.accept()
            imgui.set_item_tooltip(legible(path))

    def _go(self, folder: Path) -> None:
        self.dialog.go(folder)
        self._focus = self._reveal = True

    # ---- the table ----

    def _draw_entries(self) -> None:
        # Columns and headers.
        dialog, em = self.dialog, imgui.get_font_size()
        flags = (
            imgui.TableFlags_.sortable
            | imgui.TableFlags_.scroll_y
            | imgui.TableFlags_.row_bg
            | imgui.TableFlags_.resizable
            | imgui.TableFlags_.no_saved_settings
        )
        if not imgui.begin_table("entries", 3, int(flags)):
            return
        fixed = int(imgui.TableColumnFlags_.width_fixed)
        imgui.table_setup_scroll_freeze(0, 1)
        imgui.table_setup_column("Name", int(imgui.TableColumnFlags_.width_stretch))
        imgui.table_setup_column("Size", fixed, em * 6)
        imgui.table_setup_column("Changed", fixed, em * 10)
        imgui.table_headers_row()
        self._follow_order()
        # Rows that are in view.
        listed, chosen = dialog.entries, dialog.chosen
        clipper = imgui.ListClipper()
        clipper.begin(len(listed))
        if self._reveal and chosen is not None:
            clipper.include_item_by_index(listed.index(chosen))
        picked: tuple[Entry, bool] | None = None
        while clipper.step():
            for number in range(clipper.display_start, clipper.display_end):
                entry = listed[number]
                action = _draw_row(number, entry, entry is chosen)
                picked = (entry, action == "open") if action else picked
                if self._reveal and entry is chosen:
                    imgui.set_scroll_here_y(0.5)
        # A new folder without a choice begins at its top.
        if self._reveal and chosen is None:
            imgui.set_scroll_y(0.0)
        self._reveal = False
        imgui.end_table()
        # Follow a click, once the table is closed.
        if picked is not None:
            entry, opens = picked
            dialog.choose(entry)
            self._focus = True
            if opens:
                dialog.accept()
                self._reveal = True

    def _follow_order(self) -> None:
        specs = imgui.table_get_sort_specs()
        if specs is not None and specs.specs_dirty and specs.specs_count:
            first = specs.get_specs(0)
            self.dialog.column = COLUMNS[first.column_index]
            descending = imgui.SortDirection.descending
            self.dialog.descending = first.get_sort_direction() == descending
            specs.specs_dirty = False

    # ---- below it ----

    def _draw_state(self) -> None:
        """Draw the problem, else completions of the text, else the number of entries."""
        dialog, room = self.dialog, imgui.get_content_region_avail().x
        candidates = dialog.candidates
        if dialog.problem is not None:
            imgui.text_colored(colours().error, fitting(dialog.problem, room, end=True))
            imgui.set_item_tooltip(dialog.problem)
        elif candidates:
            names = [Path(name).name for name in candidates[:MOST_CANDIDATES]]
            more = len(candidates) - len(names)
            ending = f"   and {more} more" if more else ""
            imgui.text_disabled(fitting("Tab: " + "   ".join(names) + ending, room))
        else:
            count, out = len(dialog.entries), dialog.left_out
            other = f", {out} more are hidden or of another kind" if out else ""
            imgui.text_disabled(f"{count:,} listed{other}")

    def _draw_name(self) -> bool:
        """Draw the field, the kinds and the buttons. Returns False at Cancel."""
        dialog, em = self.dialog, imgui.get_font_size()
        if self._focus:
            imgui.set_keyboard_focus_here()
            self._focus = False
        imgui.set_next_item_width(-em * 15 if len(dialog.kinds) > 1 else -1)
        flags = (
            imgui.InputTextFlags_.enter_returns_true
            | imgui.InputTextFlags_.callback_completion
            | imgui.InputTextFlags_.callback_always
        )
        entered, text = imgui.input_text_with_hint(
            "##name", "name or path; Tab completes it", dialog.text, int(flags), self._edit
        )
        if text != dialog.text:
            dialog.type(text)
        self._field = dialog.text
        if len(dialog.kinds) > 1:
            imgui.same_line()
            imgui.set_next_item_width(-1)
            titles = [kind.title for kind in dialog.kinds]
            changed, number = imgui.combo("##kind", dialog.kinds.index(dialog.kind), titles)
            if changed:
                dialog.kind = dialog.kinds[number]
        if entered:
            dialog.accept()
            self._focus = self._reveal = True
        return self._draw_buttons()

    def _edit(self, data: imgui.InputTextCallbackData) -> int:
        """Complete the text at Tab; copy a choice from the table into the field."""
        text = str(data.buf)
        if data.event_flag == imgui.InputTextFlags_.callback_completion:
            self.dialog.type(text)
            replacement = self.dialog.complete()
        else:
            replacement = self.dialog.text if self.dialog.text != self._field else text
        if replacement != text:
            data.delete_chars(0, data.buf_text_len)
            data.insert_chars(0, replacement)
        return 0

    def _draw_buttons(self) -> bool:
        dialog, em = self.dialog, imgui.get_font_size()
        width = em * 7
        imgui.set_cursor_pos_x(
            imgui.get_window_width() - 2 * width - 2 * imgui.get_style().item_spacing.x
        )
        if imgui.button("Save" if dialog.saves else "Open", (width, 0)):
            dialog.accept()
            self._focus = self._reveal = True
        imgui.same_line()
        return not imgui.button("Cancel", (width, 0))

    def _draw_question(self) -> None:
        """Ask whether to replace an existing file."""
        dialog = self.dialog
        assert dialog.replaced is not None
        imgui.text_colored(colours().edited, f"{legible(dialog.replaced.name)} is there already.")
        if imgui.button("Replace it", (imgui.get_font_size() * 9, 0)):
            dialog.replace()
        imgui.same_line()
        if imgui.button("Keep it", (imgui.get_font_size() * 9, 0)):
            dialog.replaced, self._focus = None, True


def _draw_row(number: int, entry: Entry, chosen: bool) -> str:
    """Draw a line of the table; "choose" or "open" where it was clicked."""
    imgui.table_next_row()
    imgui.table_next_column()
    flags = (
        imgui.SelectableFlags_.span_all_columns
        | imgui.SelectableFlags_.allow_double_click
        | imgui.SelectableFlags_.no_auto_close_popups
    )
    name = f"{entry.name}/" if entry.is_folder else entry.name
    room = imgui.get_content_region_avail().x
    clicked, _ = imgui.selectable(label(name, str(number)), chosen, int(flags))
    if imgui.calc_text_size(name).x > room:
        imgui.set_item_tooltip(name)
    imgui.table_next_column()
    if not entry.is_folder:
        imgui.text_disabled(size_text(entry.size_bytes))
    imgui.table_next_column()
    imgui.text_disabled(time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.changed_s)))
    if not clicked:
        return ""
    return "open" if imgui.is_mouse_double_clicked(0) else "choose"


def size_text(size_bytes: int) -> str:
    """Write a file's size with its unit."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
    raise AssertionError(size_bytes)
