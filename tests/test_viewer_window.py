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


def test_a_frame_is_drawn_once_for_each_revision(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        def number(*names, **arguments):
            for name in names:
                commands.run(session, name, **arguments)
            draw(3)
            settle()
            return app.engine.take().number

        first = number()
        said["rests"] = number() - first
        said["overlay"] = number("look.skeleton", "camera.add_key") - first
        said["view"] = number("camera.orbit", dx_rad=0.2, dy_rad=0.0) - first
        said["frame"] = number("time.next_frame") - first
        """,
    )
    assert said == {"rests": 0, "overlay": 0, "view": 1, "frame": 2}


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


def test_a_clicked_splat_is_marked_in_its_own_pose_of_its_own_avatar(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        x, y = middle()
        mouse(x, y); mouse(x, y, 0); mouse(x, y)
        said["picked"] = until(lambda: app.atlas.splat is not None)
        first = app.atlas.splat
        said["marked"] = [place for place, _ in app.atlas.marked(session)] == [first.mean]
        session.clock.seek(100)
        said["not where it was"] = app.atlas.marked(session) == []
        said["followed"] = until(lambda: app.atlas.marked(session) != [])
        said["moved"] = app.atlas.splat.index == first.index and app.atlas.splat.mean != first.mean
        def fails(window):
            raise RuntimeError("no room")

        session.renderer.decoded = fails
        session.clock.seek(50)
        said["told"] = until(lambda: session.messages and "no room" in session.messages[-1].text)
        session.open("bundled")
        draw(2)
        said["gone"] = app.atlas.splat is None
        settle()
        said["drawn"] = app.engine.error is None and session.renderer is app._renderer
        """,
    )
    assert all(said.values()), said


def test_a_frame_and_its_times_become_files(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        for name in ("file.splats", "file.times", "file.screenshot", "pose.save"):
            commands.run(session, name)
        draw(2)
        commands.run(session, "file.screenshot")
        draw(2)
        until(lambda: not app.saver.busy)
        said["pictures"] = len(list(Path.cwd().glob("ash-studio-*.png")))
        files = {path.suffix: path for path in Path.cwd().glob("ash-studio-*")}
        said["kinds"] = sorted(files)
        head = files[".ply"].read_bytes()[:200].decode("latin1")
        said["splats"] = f"vertex {session.renderer.avatar.count}" in head
        said["times"] = files[".csv"].read_text().startswith("frame,")
        """,
    )
    assert said == {
        "pictures": 2,
        "kinds": [".csv", ".motion", ".ply", ".png"],
        "splats": True,
        "times": True,
    }


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


def test_a_recording_from_the_window_is_the_command_s(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        session.clock.first, session.clock.last = 3, 6
        app.record.name, app.record.kind = str(out.parent / "pictures"), 3
        app.record.size = [64, 48]
        app.record._begin(session, app.engine.lock)
        until(lambda: not app.record.running)
        said["message"] = session.messages[-1].text
        """,
    )
    assert "4 frames" in said["message"]
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"frame_{n:06d}.png" for n in range(3, 7)]


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


def test_the_mesh_lies_on_the_body_and_the_floor_behind_it(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        import numpy as np
        from ash_core.gl.texture import read_texture
        from dataclasses import replace

        def picture(*names):
            for name in names:
                commands.run(session, name)
            settle()
            return read_texture(app.composed.texture, app._pixels())[..., :3].numpy().astype(int)

        session.clock.seek(40)
        settle()
        with_floor = picture()
        without = picture("look.grid")
        request = session.request_shown(*app._pixels())
        alpha = session.renderer.render(replace(request, background=None)).alpha.numpy()
        solid, free = alpha > 0.97, alpha < 0.001
        floor = np.abs(with_floor - without).max(-1)
        said["floor in the open"] = int((floor[free] > 20).sum()) > 500
        said["floor through the body"] = int(floor[alpha > 0.999].max()) <= 1
        shaded = picture("look.mesh_shaded")
        changed = np.abs(shaded - without).max(-1) > 3
        said["mesh outside"] = float((changed & free).sum() / changed.sum())
        said["body covered"] = float(changed[solid].mean())
        wire = picture("look.mesh_wire")
        lines = np.abs(wire - without).max(-1) > 3
        said["wire outside"] = float((lines & ~changed).sum() / lines.sum())
        textured = picture("look.mesh_textured")
        said["texture off by"] = float(np.abs(textured - without)[solid].mean())
        under = picture("look.mesh_shaded", "look.mesh_under")
        said["seen under"] = int(np.abs(under - without)[alpha > 0.999].max())
        frames = app.engine._number
        commands.run(session, "look.mesh_less"); draw(3)
        said["frames for opacity"] = app.engine._number - frames
        """,
    )
    assert said["floor in the open"]
    assert said["floor through the body"]
    assert said["mesh outside"] < 0.01
    assert said["body covered"] > 0.9
    assert said["wire outside"] < 0.02
    assert said["texture off by"] < 12
    assert said["seen under"] <= 1
    assert said["frames for opacity"] == 0


def test_without_a_compositor_the_window_shows_the_avatar(tmp_path: Path) -> None:
    picture, said = use(
        tmp_path,
        """
        def broken(*_):
            raise RuntimeError("no framebuffer")

        app.composed._compositor.draw = broken
        for name in ("look.mesh_wire", "look.background", "look.background", "look.background"):
            commands.run(session, name)
            settle()
        said["plain"] = app.composed.texture == app.presenter.texture
        said["told"] = [m.text for m in session.messages if m.severity == "error"]
        """,
    )
    assert said["plain"]
    assert len(said["told"]) == 1
    assert "no framebuffer" in said["told"][0]
    view = picture[60:640, 300:980].astype(int)
    assert ((view[..., 0] > view[..., 2] + 40) & (view[..., 0] > 150)).sum() > 500


def test_a_texel_under_the_cursor_marks_its_splat(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        until(lambda: app.atlas._known is not None and app.atlas._presenter is not None)
        draw(2)
        side = app.atlas.picture.width
        avatar = session.renderer.avatar
        u, v = avatar.atlas.texels[avatar.count // 2].tolist()
        place = app.atlas.picture
        resolution = avatar.atlas.resolution
        x = place.x + (u + 0.5) / resolution * side
        y = place.y + (resolution - v - 0.5) / resolution * side
        mouse(x, y); draw(3)
        found = app.atlas.hovered.texel  # the cursor stands on whole pixels
        said["hovered"] = abs(found[0] - u) <= 1 and abs(found[1] - v) <= 1
        places = [at for at, _ in app.atlas.marked(session)]
        said["marked"] = places == [app.atlas.hovered.mean]
        said["not chosen"] = app.atlas.splat is None
        mouse(*middle()); draw(3)
        said["gone"] = app.atlas.marked(session) == []
        """,
    )
    assert all(said.values()), said


def test_screenshots_have_the_preferred_size_and_place(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        from PIL import Image
        (out.parent / "shots").mkdir()
        session.preferences.change(picture_size="96x64", picture_folder=str(out.parent / "shots"))
        commands.run(session, "file.screenshot"); draw(2)
        app._save_picture(str(out.parent / "chosen"))
        until(lambda: not app.saver.busy)
        pictures = [*(out.parent / "shots").iterdir(), out.parent / "chosen.png"]
        said["sizes"] = [Image.open(picture).size for picture in pictures]
        session.preferences.change(picture_size="view")
        said["view"] = app._size_of_pictures() == (round(app.area.width), round(app.area.height))
        session.panels.preferences = True; draw(3)
        """,
    )
    assert said == {"sizes": [[96, 64], [96, 64]], "view": True}


def test_the_view_follows_the_path_until_the_camera_is_moved(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        commands.run(session, "camera.add_key"); draw(3)  # one key: seen as it is
        session.clock.seek(60)
        commands.run(session, "camera.right")
        commands.run(session, "camera.add_key")
        commands.run(session, "camera.top"); draw(3)
        commands.run(session, "camera.along_path")
        follows = []
        for frame in (0, 20, 40, 60):
            session.clock.seek(frame); draw(2)
            follows.append(session.view == session.document.path.at(frame))
        said["follows"] = all(follows)
        commands.run(session, "time.play"); time.sleep(0.2); draw(3)
        said["plays"] = session.view == session.document.path.at(session.clock.frame)
        commands.run(session, "time.play")
        commands.run(session, "camera.front"); draw(3)
        said["left"] = not session.along_path
        here = session.view
        session.clock.seek(20); draw(3)
        said["stays"] = session.view == here
        app._save_path(str(out.parent / "way"))
        commands.run(session, "camera.remove_key")
        path = session.document.path
        session.edit("none", path=type(path)())
        app._load_path(str(out.parent / "way.json"))
        said["read"] = session.document.path == path
        app._load_path(str(out.parent / "missing.json"))
        said["told"] = session.messages[-1].severity == "error"
        """,
    )
    assert all(said.values()), said


def test_a_cancelled_recording_says_what_is_kept(tmp_path: Path) -> None:
    _, said = use(
        tmp_path,
        """
        app.record.take_name(str(out.parent / "clip.MP4"))
        said["once"] = app.record.out.name
        app.record.name = "a.webm"
        said["other"] = app.record.out.name
        app.record.name, app.record.kind = str(out.parent / "frames"), 3
        app.record.size, app.record.step = [64, 48], 5
        app.record._begin(session, app.engine.lock)
        said["fps"] = app.record._recorder.settings.fps * 5 == session.clock.fps
        draw(3)
        app.record._recorder.cancel()
        until(lambda: not app.record.running)
        said["message"] = session.messages[-1].text
        said["kept"] = len(list((out.parent / "frames").glob("*.png")))
        """,
    )
    assert said["once"] == "clip.mp4"
    assert said["other"] == "a.mp4"
    assert said["fps"]
    kept = f"cancelled: {said['kept']} of "
    assert kept in said["message"], said
    assert said["message"].endswith("frames kept")


def test_names_of_joints_do_not_lie_on_each_other(tmp_path: Path) -> None:
    picture, said = use(
        tmp_path,
        """
        from viewer.panels import view
        drawn = []
        write = view.write
        def kept(session, place, text, colour):
            drawn.append(view.Label.of(text, *place))
            write(session, place, text, colour)

        view.write = kept
        for name in ("look.skeleton", "look.joint_names"):
            commands.run(session, name)
        for _ in range(3):
            commands.run(session, "look.background")
        draw(2)
        drawn.clear()
        draw()
        names = [node.name for node in session.tree]
        shown = [label for label in drawn if label.text in names]
        said["some"] = len(shown)
        said["bare"] = not any(label.text.endswith(("_ry", "_rx", "_rz")) for label in drawn)
        said["apart"] = not any(
            a.overlaps(b) for n, a in enumerate(shown) for b in shown[:n]
        )
        for _ in range(2):
            commands.run(session, "look.background")
        assert session.document.background == "white"
        settle()
        drawn.clear()
        draw()
        shown = [label for label in drawn if label.text in names]
        said["boxes"] = [(a.x, a.y, a.x + a.width, a.y + a.height) for a in shown]
        view.write = write
        """,
    )
    assert said["some"] > 10
    assert said["bare"]
    assert said["apart"]
    # Each has a dark rim: over white cloth before white, bright names alone cannot be read.
    for left, top, right, bottom in said["boxes"]:
        name = picture[round(top) : round(bottom), round(left) : round(right)]
        assert (name.max(-1) < 80).mean() > 0.1
