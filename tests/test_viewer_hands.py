"""The window used by Dear ImGui's own test engine: it finds what a person sees by its label, and
clicks, drags and types. Each step asserts what the session is then.

One process for all of them, on a software OpenGL without a display.
"""

import json
import os
import subprocess
import sys

import pytest
from window_process import NO_EGL, has_egl

SCRIPT = """
import json, sys, time
from pathlib import Path
from viewer import commands, window
from viewer.session import Session
from imgui_bundle import hello_imgui, imgui, immapp

engine = imgui.test_engine
out = Path(sys.argv[1])
session = Session("actor", device="cpu", preset="cpu")
STEPS, said = [], {}


def step(function):
    STEPS.append(function)
    return function


def expect(true, text):
    if not true:
        raise AssertionError(text)


@step
def a_menu_is_clicked(ui):
    ui.set_ref("##MainMenuBar")
    ui.menu_click("Look/Skeleton")
    expect(session.document.overlays.skeleton, "no skeleton")
    ui.menu_click("Pose/Rest pose")
    expect(session.document.edit.values, "no rest pose")
    ui.menu_click("Edit/Undo")
    expect(not session.document.edit.values, "not undone")
    expect(session.document.overlays.skeleton, "a view toggle was undone")
    ui.menu_click("Look/Skeleton")


@step
def the_timeline_is_dragged(ui):
    ui.set_ref("Timeline")
    ui.mouse_move("track")
    ui.mouse_down(0)
    at = session.clock.frame
    middle = session.clock.frames / 2
    expect(abs(at - middle) < 0.02 * session.clock.frames, f"frame {at}, not in the middle")
    place = ui.item_info("track").rect_full
    quarter = place.min.x + 0.25 * (place.max.x - place.min.x)
    ui.mouse_move_to_pos((quarter, place.min.y + 8))
    at = session.clock.frame
    expect(abs(at - middle / 2) < 0.02 * session.clock.frames, f"frame {at}, not at a quarter")
    ui.mouse_up(0)
    expect(not session.clock.playing, "playing")


@step
def buttons_of_the_timeline_play_and_pause(ui):
    ui.set_ref("Timeline")
    ui.item_click("###play")
    expect(session.clock.playing, "not playing")
    ui.item_click("###play")
    expect(not session.clock.playing, "still playing")
    ui.item_input_value("##frame", 17)
    expect(session.clock.frame == 17, f"frame {session.clock.frame}")


@step
def a_joint_is_searched_and_its_slider_set(ui):
    ui.set_ref("Pose")
    ui.item_input("##joint")
    ui.key_chars_replace_enter("head")
    expect(app.pose.text == "head", app.pose.text)
    row = next(row for row in session.sliders if "head" in row.name)
    ui.item_input_value(f"**/{row.name}##{row.dof}", 5.0)
    value = float(session.dofs()[row.dof]) * row.shown_scale
    expect(abs(value - 5.0) < 0.1, f"{row.name} is {value}")
    ui.item_input("##joint")
    ui.key_chars_replace_enter("")
    ui.set_ref("Pose")
    ui.item_click("Reset")
    expect(not session.document.edit.values, "not reset")


@step
def the_palette_runs_a_command(ui):
    ui.key_press(int(imgui.Key.mod_ctrl) | int(imgui.Key.p))
    expect(session.panels.palette, "no palette")
    ui.yield_(2)
    ui.key_chars_append_enter("show depth")
    ui.yield_(2)
    expect(session.document.look.mode == "depth", session.document.look.mode)
    expect(not session.panels.palette, "palette still there")


@step
def panels_go_and_come(ui):
    ui.key_press(imgui.Key.tab)
    ui.yield_(3)
    expect(not session.panels.shown and not app.dock.visible, f"there: {app.dock.visible}")
    ui.key_press(imgui.Key.tab)
    ui.yield_(3)
    expect(session.panels.shown and len(app.dock.visible) == 6, f"back: {app.dock.visible}")


@step
def the_camera_is_dragged_in_the_view(ui):
    start = session.view
    ui.set_ref("View")
    ui.mouse_move("picture")
    ui.mouse_drag_with_delta((80, 0), 0)
    expect(session.view.yaw != start.yaw, "no turn")
    expect(session.view.target == start.target, "shifted")
    ui.key_press(imgui.Key.h)
    ui.yield_(2)
    expect(session.view == start, "not home")


@step
def preferences_are_changed(ui):
    ui.key_press(int(imgui.Key.mod_ctrl) | int(imgui.Key.comma))
    ui.yield_(2)
    ui.set_ref("Preferences")
    ui.combo_click("theme/light")
    ui.yield_(2)
    expect(session.preferences.value.theme == "light", session.preferences.value.theme)
    light = imgui.get_style().color_(imgui.Col_.window_bg)
    expect(light.x > 0.8, f"window still dark: {light.x}")
    size = imgui.get_font_size()
    for _ in range(3):  # factors do not gather
        ui.item_input_value("size of text", 1.5)
        ui.yield_(3)
        expect(abs(imgui.get_font_size() / size - 1.5) < 0.1, f"{imgui.get_font_size()}")
        ui.item_input_value("size of text", 1.0)
        ui.yield_(3)
    expect(imgui.get_font_size() == size, f"{imgui.get_font_size()}, not {size}")
    ui.combo_click("theme/dark")
    ui.window_close("")
    expect(not session.panels.preferences, "still open")


@step
def a_recording_is_begun_by_its_button(ui):
    session.clock.first, session.clock.last = 2, 3
    app.record.name, app.record.kind, app.record.size = str(out / "shots"), 3, [48, 32]
    ui.key_press(int(imgui.Key.mod_ctrl) | int(imgui.Key.e))
    ui.yield_(2)
    ui.set_ref("Record")
    ui.item_click("Record")
    for _ in range(2000):
        if not app.record.running:
            break
        ui.yield_(1)
        time.sleep(0.002)
    names = sorted(path.name for path in (out / "shots").iterdir())
    expect(names == ["frame_000002.png", "frame_000003.png"], names)


@step
def escape_closes_what_is_on_top(ui):
    panels = session.panels
    for name in ("preferences", "help", "messages"):
        setattr(panels, name, True)
        ui.yield_(3)
    commands.run(session, "window.palette")
    ui.yield_(3)
    ui.key_chars("dept")
    ui.mouse_move_to_pos((22, 12))
    ui.mouse_click(0)
    ui.yield_(3)
    popups = imgui.get_current_context().open_popup_stack
    expect(popups.size() == 1, f"{popups.size()} menus")
    gone = []
    for _ in range(5):
        ui.key_press(imgui.Key.escape)
        ui.yield_(3)
        names = ("palette", "messages", "help", "preferences")
        gone.append([name for name in names if not getattr(panels, name)])
    expect(popups.size() == 0, "menu still open")
    expect([len(names) for names in gone] == [0, 1, 2, 3, 4], str(gone))


@step
def escape_leaves_a_text_field_before_a_window(ui):
    session.panels.help = True
    ui.yield_(3)
    ui.set_ref("Pose")
    ui.item_click("##joint")
    ui.key_chars("head")
    expect(imgui.get_io().want_text_input and app.pose.text == "head", "not typing")
    ui.key_press(imgui.Key.escape)
    ui.yield_(2)
    expect(session.panels.help and app.pose.text == "", "help was closed, or nothing cleared")
    ui.key_press(imgui.Key.escape)
    ui.yield_(2)
    expect(session.panels.help and not imgui.get_io().want_text_input, "help was closed")
    ui.key_press(imgui.Key.escape)
    ui.yield_(2)
    expect(not session.panels.help, "help still there")


@step
def help_is_shown_and_closed(ui):
    ui.key_press(imgui.Key.f1)
    ui.yield_(2)
    expect(session.panels.help, "no help")
    ui.window_close("//Keys and help")
    expect(not session.panels.help, "help still there")


def tried(function):
    def test(ui):
        try:
            function(ui)
            said[function.__name__] = "fine"
        except AssertionError as error:
            said[function.__name__] = str(error)

    return test


def register():
    for function in STEPS:
        test = engine.register_test(hello_imgui.get_imgui_test_engine(), "hands", function.__name__)
        test.test_func = tried(function)
        KEPT.append(test)


def prepare(params):
    params.use_imgui_test_engine = True
    params.callbacks.register_tests = register


KEPT = []
app = window.open_without_display(session, prepare)
its = hello_imgui.get_imgui_test_engine()
engine.get_io(its).config_run_speed = engine.TestRunSpeed.fast
engine.get_io(its).config_log_to_tty = True
engine.get_io(its).config_verbose_level = engine.TestVerboseLevel.error
end = time.monotonic() + 240.0
while not app.settled and time.monotonic() < end:
    immapp.manual_render.render()
    time.sleep(0.005)
engine.queue_tests(its, engine.TestGroup.tests)
while not engine.is_test_queue_empty(its):
    immapp.manual_render.render()
for function, test in zip(STEPS, KEPT, strict=True):
    if test.output.status != engine.TestStatus.success:
        said[function.__name__] = f"{said.get(function.__name__)}: {test.output.status}"
window.close_without_display(app, out / "last.png")
(out / "said.json").write_text(json.dumps(said))
"""

pytestmark = pytest.mark.skipif(not has_egl(), reason=NO_EGL)
NAMES = [part[4:].partition("(")[0] for part in SCRIPT.split("\n@step\n")[1:]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run every step; return its result."""
    folder = tmp_path_factory.mktemp("hands")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads((folder / "said.json").read_text())
    for name, came in found.items():
        found[name] = came if came == "fine" else f"{came}\n{done.stdout[-4000:]}"
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_person(said: dict[str, str], name: str) -> None:
    assert said[name] == "fine"
