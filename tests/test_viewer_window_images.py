"""Images in the real window: avatar, mesh and marks of its view, and files made of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from window_process import NO_EGL, end_window_process, has_egl, use

pytestmark = pytest.mark.skipif(not has_egl(), reason=NO_EGL)


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    end_window_process()


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
