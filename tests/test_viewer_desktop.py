"""The real window on a desktop, used as a person does: keys, mouse, the window's own buttons.

One process for all steps. xdotool's events go the way of a keyboard's, through X and GLFW, which
Dear ImGui's own test engine does not know. A step waits for states, however slow the machine.
"""

import json
import os
import subprocess
import sys

import pytest
from x_server import DESKTOP_TOOLS, lacks, window_manager, x_server

SCRIPT = """
import json, os, subprocess, sys, time
from pathlib import Path
from imgui_bundle import hello_imgui, imgui, immapp
from PIL import ImageGrab
from viewer import commands
from viewer.app import App
from ash_core.geometry.projected_lines import project
from viewer.session import Session
from ash_core.files.skeletool import write_motion

PATIENCE_S = 100.0
out = Path(sys.argv[1])
session = Session("actor", device="cpu", preset="cpu")
session.preferences.change(idle_hz=60.0)
app = App(session, kept_in=out / "kept")
immapp.manual_render.setup_from_runner_params(app.params(), immapp.AddOnsParams())
STEPS, said = [], {}


def step(function):
    STEPS.append(function)
    return function


def expect(true, text):
    if not true:
        ImageGrab.grab(xdisplay=os.environ["DISPLAY"]).save(out / "failed.png")
        raise AssertionError(text)


def draw(frames=3):
    for _ in range(frames):
        immapp.manual_render.render()


def until(true, text):
    end = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < end:
        draw(1)
    expect(true(), text)
    draw()


def xdotool(*words):
    subprocess.run(["xdotool", *map(str, words)], check=True)


def keys(*chords):
    for chord in chords:
        xdotool("key", chord)
        draw(4)


def type_text(text):
    xdotool("type", "--delay", "1", text)


def click(x, y):
    xdotool("mousemove", x, y)
    draw()
    xdotool("click", 1)
    draw()


def pixel(x, y):
    left, top = glfw.get_window_pos(handle)
    return round(left + x), round(top + y)


def menus():
    return imgui.get_current_context().open_popup_stack.size()


@step
def tab_hides_the_panels_and_brings_them_back():
    before, width = app.dock.visible, app.area.width
    xdotool("key", "Tab")
    until(lambda: not app.dock.visible, f"still there: {app.dock.visible}")
    until(lambda: app.area.width > 1.5 * width, f"{app.area.width} wide, {width} before")
    xdotool("key", "Tab")
    until(lambda: app.dock.visible == before, f"back: {app.dock.visible}")
    until(lambda: app.area.width == width, f"{app.area.width} wide, {width} before")


@step
def a_panel_that_was_closed_stays_closed():
    docking = hello_imgui.get_runner_params().docking_params
    docking.dockable_window_of_name("Motions").is_visible = False
    draw()
    rest = app.dock.visible
    xdotool("key", "Tab")
    until(lambda: not app.dock.visible, "still there")
    xdotool("key", "Tab")
    until(lambda: app.dock.visible == rest, f"back: {app.dock.visible}")
    docking.dockable_window_of_name("Motions").is_visible = True
    draw()


@step
def a_chord_that_is_over_before_the_frame_keeps_its_modifiers():
    for _ in range(3):  # M alone mirrors the pose
        session.panels.messages = False
        xdotool("keydown", "ctrl", "keydown", "shift")
        draw()
        # All of it before the next frame.
        xdotool("keydown", "m", "keyup", "shift", "keyup", "ctrl", "keyup", "m")
        time.sleep(0.1)
        until(lambda: session.panels.messages, "no messages")
        expect(not session.history.labels, f"read as M: {session.history.labels}")
    session.panels.messages = False
    xdotool("key", "--delay", "0", "s", "ctrl+shift+m")
    xdotool("key", "s")  # by itself: GLFW drops a press of the same key in the same millisecond
    until(lambda: session.panels.messages, "no messages")
    until(lambda: not session.document.overlays.skeleton, "s and s are not twice s")
    session.panels.messages = False


@step
def escape_closes_menu_and_help():
    session.panels.help = True
    draw()
    click(*pixel(22, 12))
    until(lambda: menus() == 1, "no menu")
    xdotool("key", "Escape")
    until(lambda: menus() == 0, "menu still open")
    expect(session.panels.help, "help went with the menu")
    xdotool("key", "Escape")
    until(lambda: not session.panels.help, "help still open")


@step
def a_file_is_opened_by_a_typed_path():
    (out / "My takes").mkdir()
    write_motion(out / "My takes" / "slow walk.motion", session.motion.dofs[:9])
    xdotool("key", "ctrl+o")
    until(lambda: app.files.dialog is not None, "no dialog")
    until(lambda: imgui.get_io().want_text_input, "no field to type in")
    type_text(f"{out}/my")
    until(lambda: app.files.dialog.text.endswith("/my"), "not typed")
    xdotool("key", "Tab")
    until(lambda: app.files.dialog.text == f"{out}/My takes/", app.files.dialog.text)
    xdotool("key", "Return")
    until(lambda: app.files.dialog.folder.name == "My takes", app.files.dialog.problem)
    xdotool("key", "Down")
    until(lambda: app.files.dialog.text == "slow walk.motion", "not chosen")
    xdotool("key", "Return")
    until(lambda: session.document.motion == "slow walk", "not opened")
    expect(app.files.dialog is None, "dialog still open")


@step
def a_session_is_saved_with_its_ending_and_an_old_one_asks():
    file = out / "My takes" / "one.ash-session"
    for round in (1, 2):
        xdotool("key", "ctrl+s")
        until(lambda: app.files.dialog is not None, "no dialog")
        until(lambda: imgui.get_io().want_text_input, "no field to type in")
        keys("ctrl+a")
        type_text("one")
        until(lambda: app.files.dialog.text == "one", "not typed")
        xdotool("key", "Return")
        if round == 1:
            until(file.exists, f"not saved: {app.files.dialog and app.files.dialog.problem}")
    until(lambda: app.files.dialog.replaced == file, "not asked")
    xdotool("key", "Escape")
    until(lambda: app.files.dialog.replaced is None, "question still there")
    expect(app.files.dialog is not None, "the dialog went with its question")
    draw()
    xdotool("key", "Escape")
    until(lambda: app.files.dialog is None, "dialog still there")


@step
def a_camera_path_is_looked_for_where_the_last_one_went():
    commands.run(session, "camera.add_key")
    commands.run(session, "camera.save_path")
    until(lambda: imgui.get_io().want_text_input, "no field to type in")
    keys("ctrl+a")
    (out / "paths").mkdir()
    type_text(f"{out}/paths/way")
    until(lambda: app.files.dialog.text.endswith("/way"), "not typed")
    xdotool("key", "Return")
    until((out / "paths" / "way.json").exists, "not saved")
    commands.run(session, "edit.undo")
    until(lambda: app.files.dialog is None, "dialog still there")
    commands.run(session, "camera.load_path")
    until(lambda: app.files.dialog is not None, "no dialog")
    expect(app.files.dialog.folder.name == "paths", f"{app.files.dialog.folder}")
    expect(app.files._window._recent == [], "files that hold no path are listed")
    draw()
    xdotool("key", "Down")
    until(lambda: app.files.dialog.text == "way.json", app.files.dialog.text)
    xdotool("key", "Return")
    until(lambda: len(session.document.path.keys) == 1, "not loaded")
    commands.run(session, "edit.undo")


@step
def a_dropped_file_goes_into_the_dialog_or_is_opened():
    write_motion(out / "My takes" / "jump.motion", session.motion.dofs[:9])
    xdotool("key", "ctrl+o")
    until(lambda: app.files.dialog is not None, "no dialog")
    app.drop([str(out / "My takes" / "jump.motion")])
    draw()
    expect(app.files.dialog.text == "jump.motion", app.files.dialog.text)
    xdotool("key", "Escape")
    until(lambda: app.files.dialog is None, "dialog still there")
    app.drop([str(out / "My takes" / "jump.motion")])
    until(lambda: session.document.motion == "jump", "not opened")


@step
def a_joint_that_is_clicked_is_shown_in_its_panel():
    session.document.overlays.skeleton or commands.run(session, "look.skeleton")
    app.pose.text = "elbow"
    draw()
    hand = next(node for node in session.tree if node.name == "RightHand")
    camera = session.camera(round(app.area.width), round(app.area.height))
    place = project(camera, session.joints().numpy())[0][hand.joints[0]]
    click(*pixel(app.area.x + place[0], app.area.y + place[1]))
    until(lambda: session.selected_joint in hand.joint_names, f"{session.selected_joint}")
    expect(app.pose.text == "", "hidden by the search")
    scrolled = imgui.internal.find_window_by_name("Pose").scroll.y
    expect(scrolled > 100, f"scrolled to {scrolled}")
    commands.run(session, "look.skeleton")


@step
def the_close_button_asks_about_unsaved_edits():
    commands.run(session, "pose.rest")
    draw()
    until(lambda: "*" in subprocess.check_output(
        ["xdotool", "getactivewindow", "getwindowname"], text=True
    ), "no star in the title")
    xdotool("key", "alt+F4")
    until(lambda: app.unsaved.question is not None, "not asked")
    draw()
    xdotool("key", "Escape")  # Alt is held as GLFW has it: the window manager took its release
    until(lambda: app.unsaved.question is None, "still asking")
    expect(not hello_imgui.get_runner_params().app_shall_exit, "ended")
    # Alt is held no longer in a text field either: neither Ctrl+A nor Enter would do anything.
    xdotool("key", "ctrl+o")
    until(lambda: app.files.dialog is not None, "no dialog")
    until(lambda: imgui.get_io().want_text_input, "no field to type in")
    type_text("nothing")
    until(lambda: app.files.dialog.text == "nothing", "not typed")
    keys("ctrl+a")
    type_text("gone")
    until(lambda: app.files.dialog.text == "gone", app.files.dialog.text)
    xdotool("key", "Return")
    until(lambda: app.files.dialog.problem is not None, "Enter did nothing")
    xdotool("key", "Escape")
    until(lambda: app.files.dialog is None, "dialog still there")
    xdotool("key", "alt+F4")
    until(lambda: app.unsaved.question is not None, "not asked again")
    draw()
    xdotool("key", "Return")  # Save: to its own file
    until(lambda: not session.unsaved, "not saved")
    until(lambda: hello_imgui.get_runner_params().app_shall_exit, "not ended")


import glfw

handle = glfw.get_current_context()
until(lambda: glfw.get_window_attrib(handle, glfw.FOCUSED), "the window manager gives no focus")
until(lambda: len(app.dock.visible) == 6, "panels are missing")
for function in STEPS:
    try:
        function()
        said[function.__name__] = "fine"
    except Exception as error:
        said[function.__name__] = f"{type(error).__name__}: {error}"
        app.unsaved.question = None
        session.panels.messages = session.panels.help = False
        for _ in range(menus()):
            keys("Escape")
immapp.manual_render.tear_down()
print(json.dumps(said))
"""

missing = lacks(*DESKTOP_TOOLS)
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")
NAMES = [part[4:].partition("(")[0] for part in SCRIPT.split("\n@step\n")[1:]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run every step; return its result."""
    folder = tmp_path_factory.mktemp("desktop")
    with x_server() as display, window_manager(display):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder)],
            capture_output=True,
            text=True,
            timeout=900,
            cwd=folder,
            env={
                **{name: value for name, value in os.environ.items() if name != "WAYLAND_DISPLAY"},
                "DISPLAY": display,
                "HOME": str(folder),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_a_person_at_a_desktop(said: dict[str, str], name: str) -> None:
    assert said[name] == "fine"
