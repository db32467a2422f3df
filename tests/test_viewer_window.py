"""The real window on a software OpenGL without a display: used by mouse and keys, looked at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from window_process import NO_EGL, end_window_process, has_egl, use

pytestmark = pytest.mark.skipif(not has_egl(), reason=NO_EGL)


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    end_window_process()


def test_the_check_that_users_send(tmp_path: Path) -> None:
    out = tmp_path / "check.png"
    command = [sys.executable, "-m", "ash_core.cli", "view", "--headless-check", str(out)]
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    picture = np.asarray(PillowImage.open(out).convert("RGB")).astype(int)
    assert picture.shape == (800, 1280, 3)
    view = picture[60:640, 300:980]
    skin = (view[..., 0] > view[..., 2] + 40) & (view[..., 0] > 150)
    assert skin.sum() > 500  # somebody is there


def test_an_old_opengl_is_one_line_and_the_doctor_agrees(tmp_path: Path) -> None:
    old = {**os.environ, "MESA_GL_VERSION_OVERRIDE": "2.1"}
    out = tmp_path / "check.png"
    check = ["-m", "ash_core.cli", "view", "actor", "--headless-check", str(out)]
    done = subprocess.run([sys.executable, *check], capture_output=True, text=True, env=old)
    if done.returncode == 0:
        pytest.skip("the driver here is not Mesa")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "EGL gives no OpenGL 3.3" in line
    script = "from ash_core.doctor import examine_gl; print(examine_gl()[0])"
    finding = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=old
    ).stdout
    assert "EGL gives no OpenGL 3.3" in finding
    assert "'missing'" in finding


def test_mouse_and_keys_move_what_they_should(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        start = session.view
        x, y = middle()
        mouse(x, y); mouse(x, y, 0); mouse(x + 60, y + 20, 0); mouse(x + 60, y + 20)
        said["orbited"] = session.view.yaw != start.yaw and session.view.target == start.target
        turned = session.view
        mouse(x, y); mouse(x, y, 2); mouse(x + 30, y, 2); mouse(x + 30, y)
        said["panned"] = session.view.target != turned.target and session.view.yaw == turned.yaw
        imgui.get_io().add_mouse_wheel_event(0, 2); draw(3)
        said["nearer"] = session.view.distance < turned.distance
        key("right_arrow"); key("right_arrow")
        said["frame"] = session.clock.frame
        key("space"); said["playing"] = session.clock.playing
        time.sleep(0.3); draw(3); said["moved"] = session.clock.frame
        key("space")
        key("s"); said["skeleton"] = session.document.overlays.skeleton
        key("h"); said["home"] = session.view == start
        from ash_core.geometry.projected_lines import project
        head = next(node for node in session.tree if node.name == "Head")
        camera = session.camera(round(app.area.width), round(app.area.height))
        places = project(camera, session.joints().numpy())[0] + (app.area.x, app.area.y)
        x, y = places[head.joints[0]]
        mouse(x, y); mouse(x, y, 0); mouse(x, y)
        settle()
        said["picked"] = session.selected_joint in head.joint_names
        """,
    )
    assert said["orbited"]
    assert said["panned"]
    assert said["nearer"]
    assert said["frame"] == 2
    assert said["playing"]
    assert said["moved"] > 4
    assert said["skeleton"]
    assert said["home"]
    assert said["picked"]


def test_the_profiler_makes_the_renderer_wait_while_it_is_seen(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        def seen(label):
            hello_imgui.get_runner_params().docking_params.focus_dockable_window(label)
            draw(4)
            return session.renderer.profile

        said["profile"] = [seen("Atlas"), seen("Profiler"), seen("Atlas")]
        """,
    )
    assert said == {"profile": [False, True, False]}


def test_a_dragged_playhead_is_drawn_small_and_then_in_full(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        full, sizes = app._pixels(), []
        for _ in range(9):  # whatever this machine takes: pictures are slow
            app.sharpness.learn(full[0] * full[1], full[0] * full[1], 400.0)
        import viewer.app
        rest, viewer.app.REST_S = viewer.app.REST_S, 60.0  # this hand never rests, however slow
        x, y = app.timeline.track.x + 100, app.timeline.track.y + app.timeline.track.height / 2
        mouse(x, y); mouse(x, y, 0)
        for step in range(12):
            mouse(x + 20 * step, y, 0)
            sizes.append(app._requested[1])
        said["small"] = all(2 * width < full[0] for width, _ in sizes[2:])
        viewer.app.REST_S = rest
        mouse(x, y)
        time.sleep(0.4)
        settle()
        said["full"] = app._requested[1] == full
        """,
    )
    assert said == {"small": True, "full": True}


def test_the_timeline_is_zoomed_and_its_range_dragged(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        import glfw
        line = app.timeline
        low, middle = line.track.y + 0.8 * line.track.height, line.track.x + line.track.width / 2
        mouse(middle, low)
        under = line.frame_at(session, middle)
        imgui.get_io().add_mouse_wheel_event(0, 3); draw(3)
        first, last = session.panels.span
        said["zoomed"] = last - first < 0.6 * session.clock.frames
        said["about the cursor"] = abs(line.frame_at(session, middle) - under) < 0.01
        said["on the track"] = abs(line.place(session, under) - middle) < 0.01
        key("l"); said["on"] = session.clock.playing and not session.clock.backwards
        key("j"); said["back"] = session.clock.playing and session.clock.backwards
        key("k"); said["paused"] = not session.clock.playing
        commands.run(session, "time.fit"); draw(2)
        said["fits"] = line.span(session) == (0.0, session.clock.frames - 1.0)
        session.clock.seek(5)
        end = session.clock.frames - 1
        x = line.place(session, end)
        mouse(x, low); mouse(x, low, 0); mouse(x - 50, low, 0); mouse(x - 100, low, 0)
        mouse(x - 100, low)
        said["out"] = session.clock.last == round(line.frame_at(session, x - 100))
        x = line.place(session, 0)
        mouse(x, low); mouse(x, low, 0); mouse(x + 50, low, 0); mouse(x + 80, low, 0)
        mouse(x + 80, low)
        said["in"] = session.clock.first == round(line.frame_at(session, x + 80))
        said["playhead stays"] = session.clock.frame == 5
        commands.run(session, "time.fit_range"); commands.run(session, "time.unit"); draw(3)
        said["range"] = line.span(session) == (session.clock.first, session.clock.last)
        from viewer.panels.timeline import label_step
        said["labels"] = [label_step(240, 10), label_step(9, 10), label_step(1e5, 10)]
        """,
    )
    assert said.pop("labels") == [50, 1, 10000]
    assert all(said.values()), said


def test_a_long_message_is_cut_where_the_bar_ends_and_whole_in_its_window(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        from viewer.panels import widgets
        session.say("a long way to /" + "folder/" * 40 + "file.motion: no such file", "error")
        draw(2)
        text, room = session.messages[-1].text, 200.0
        cut = widgets.fitting(text, room)
        said["cut"] = cut.endswith("...") and text.startswith(cut[:-3]) and len(cut) > 8
        said["fits"] = imgui.calc_text_size(cut).x <= room
        said["whole"] = widgets.fitting("short", room)
        said["end"] = widgets.fitting(text, room, end=True)
        from viewer.panels import fonts
        said["fonts"] = len(fonts.installed_fonts())
        said["kanji"] = imgui.get_font().is_glyph_in_font(ord("\u65e5"))
        commands.run(session, "window.messages")
        draw(3)
        from viewer.app import short_gl
        said["gl"] = short_gl(app._gl)
        """,
    )
    assert said["cut"]
    assert said["fits"]
    assert said["whole"] == "short"
    assert said["kanji"] == (said["fonts"] > 0)  # names of files are read where a font is installed
    assert said["end"].startswith("...")
    assert said["end"].endswith("file.motion: no such file")
    assert said["gl"] not in ("", "-")


def test_fonts_are_those_that_fontconfig_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from viewer.panels.fonts import installed_fonts

    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_fonts() == []
    (tmp_path / "a.ttf").write_bytes(b"")
    tool = tmp_path / "fc-list"
    tool.write_text(f"#!/bin/sh\necho {tmp_path}/missing.ttf\necho {tmp_path}/a.ttf\necho x.pcf\n")
    tool.chmod(0o755)
    assert installed_fonts() == [tmp_path / "a.ttf"]


def test_a_file_s_name_is_shown_whole() -> None:
    from viewer.panels.widgets import label

    for name in ("a##b.motion", "a###b.motion"):
        assert label(name, "1").partition("##")[0].replace(" ", "") == name
    assert label("a", "1") != label("a", "2")


def test_a_joint_is_turned_by_its_handle_and_undone_at_once(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        from viewer.gizmo import handles
        from ash_core.geometry.projected_lines import project
        from ash_core.scene.joint_tree import joint_tree
        skeleton = session.data.skeleton
        node = next(n for n in joint_tree(skeleton) if n.depth > 2 and n.dofs)
        session.selected_joint = node.joint_names[0]
        settle()
        camera = session.camera(round(app.area.width), round(app.area.height))
        handle = handles(skeleton, session.dofs(), node, camera)[0]
        x, y = project(camera, handle.points)[0][5] + (app.area.x, app.area.y)
        view = session.view
        mouse(x, y); mouse(x, y, 0); mouse(x + 15, y + 9, 0); mouse(x + 30, y + 18, 0)
        said["edited"] = list(session.document.edit.values) == [handle.dof]
        mouse(x + 30, y + 18)
        said["still"] = session.view == view
        said["selected"] = session.selected_joint == node.joint_names[0]
        settle()
        commands.run(session, "edit.undo")
        said["undone"] = dict(session.document.edit.values) == {}
        """,
    )
    assert said == {"edited": True, "still": True, "selected": True, "undone": True}


def test_every_panel_and_dialog_draws(tmp_path: Path) -> None:
    """Palette, help, recording and every look, one after the other, without an exception."""
    picture, said = use(
        tmp_path,
        """
        asked = []
        for command in commands.COMMANDS:
            if command.name != "file.quit":
                command.run(session)
                draw(2)
            if app.files.dialog is not None:
                asked.append(app.files.dialog.title)
                commands.run(session, "window.close")
                draw(2)
        said["asked"] = asked
        said["left"] = app.files.dialog is None
        for name in ("help", "palette", "record_dialog"):
            setattr(session.panels, name, True)
            draw(3)
        said["shown"] = [session.panels.help, session.panels.palette, session.panels.record_dialog]
        session.panels.palette = session.panels.record_dialog = session.panels.help = False
        session.panels.shown = True
        commands.run(session, "look.plain")
        settle()
        until(lambda: app.atlas._known is not None)
        app.atlas._channel, channels = "decoder", []
        for name in session.renderer.avatar.raw_channels:
            app.atlas._raw_channel = name
            draw(2)
            channels.append(app.atlas._drawn[1][1])
        said["channels"] = channels == list(session.renderer.avatar.raw_channels)
        said["error"] = app.engine.error
        """,
    )
    assert said.pop("asked") == [
        *("Open", "Save the session", "Screenshot to"),
        *("Save the camera path", "Load a camera path"),
    ]
    assert said == {"left": True, "shown": [True, True, True], "channels": True, "error": None}
    assert picture.std() > 20


def test_a_window_that_is_resized_while_playing(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        def resident_mb():
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

        commands.run(session, "time.play")
        sizes = [(1280, 800), (700, 500), (1600, 900), (420, 300)]
        for n in range(24):
            hello_imgui.change_window_size(sizes[n % len(sizes)])
            draw(3)
            if n == 8:
                before = resident_mb()
        commands.run(session, "time.play")
        hello_imgui.change_window_size((1280, 800))
        settle()
        said["grown_mb"] = resident_mb() - before
        said["error"] = app.engine.error
        """,
    )
    assert said["error"] is None
    assert said["grown_mb"] < 300
