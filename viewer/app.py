"""Content of the window in each frame: Dear ImGui by imgui-bundle, the picture from a thread.

It follows the session: a frame is requested when its revision or the picture's size is new, and
requests of commands and panels are answered in their order.

Import order: imgui_bundle, glfw, OpenGL; the first tells the second which library to use.
"""

import logging
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from imgui_bundle import hello_imgui, imgui

from ash_core.errors import InputError
from ash_core.files.io import legible
from ash_core.gl.context import describe_gl
from ash_core.scene.path_files import SUFFIX
from ash_core.scene.preferences import VIEW_SIZES, picture_sides
from ash_core.scene.scene_file import SESSION_SUFFIX
from viewer import commands
from viewer.autosave import Autosave
from viewer.composed_view import ComposedView
from viewer.engine import Engine, Frame
from viewer.front_end import Request, RequestKind
from viewer.panels import cloth_pull, dialogs, fonts, look, messages, motions, view
from viewer.panels.atlas import AtlasPanel
from viewer.panels.dock import Dock
from viewer.panels.files import OPENED, PATHS, FileDialogs
from viewer.panels.gizmo import Gizmo
from viewer.panels.pose import PosePanel
from viewer.panels.preferences import PreferencesWindow
from viewer.panels.profiler import Profiler
from viewer.panels.question import QuestionDialog
from viewer.panels.record import RecordDialog
from viewer.panels.theme import DRESS
from viewer.panels.timeline import Timeline
from viewer.panels.topmost import close_topmost
from viewer.present import Presenter, make_presenter
from viewer.saving import (
    Saver,
    copy_picture,
    new_file,
    save_picture,
    save_pose,
    save_splats,
    save_table,
)
from viewer.session import Session
from viewer.sharpness import Sharpness
from viewer.shortcuts import run_pressed
from viewer.unsaved import Unsaved
from viewer.window_events import ChordKeeper, DropTarget

_log = logging.getLogger(__name__)

TITLE: Final = "ASH Studio"
SIZE: Final = (1280, 800)
LEAST_ROOM_PX: Final = 16.0
"""A smaller view, as while panels find their places, frames nothing."""
REST_S: Final = 0.15
"""After the last movement the picture is drawn in full."""
PREPARING: Final = "preparing the first picture (on a new machine kernels are compiled, once)"
INK: Final = (0.85, 0.87, 0.90, 0.8)
INK_ON_WHITE: Final = (0.15, 0.17, 0.20, 0.9)
OVER_PICTURE_ERROR: Final = (0.95, 0.35, 0.30, 1.0)


class App:
    """One window on one session."""

    def __init__(self, session: Session, interop: bool = True, kept_in: Path | None = None) -> None:
        """kept_in: the folder where unsaved edits survive a crash."""
        # Engine, saving jobs and panels.
        self.session = session
        self.engine = Engine(session.renderer)
        self.saver = Saver(session.say)
        self.profiler = Profiler()
        self.sharpness = Sharpness()
        self.palette = dialogs.Palette()
        self.pose = PosePanel()
        self.record = RecordDialog(session.preferences.value)
        self.preferences = PreferencesWindow()
        self.atlas = AtlasPanel()
        self.timeline = Timeline()
        self.gizmo = Gizmo()
        # Picture; its OpenGL objects are made by `_start`.
        self.presenter: Presenter | None = None
        self.composed: ComposedView | None = None
        self.area = view.Rectangle(0, 0, *SIZE)
        self._gl = "-"
        self._renderer = session.renderer
        self._interop = interop
        self._requested: tuple[int, tuple[int, int]] | None = None
        """Revision and size (width, height) of the last frame that the engine was given."""
        self._shown = 0
        self._moved_s = -math.inf
        self._last_s = session.now()
        # Dialogs and unsaved edits.
        self.files = FileDialogs(session)
        self.question = QuestionDialog()
        self.unsaved = Unsaved(session)
        self.autosave = Autosave(session, kept_in)
        self._title = TITLE
        # Handlers of the requests that commands and panels leave to the window.
        self._handlers: dict[RequestKind, Callable[[Request], None]] = {
            "open": lambda request: self.unsaved.open(request.paths),
            "open_dialog": lambda _: self._ask_to_open(),
            "save_dialog": lambda _: self._ask_to_save(),
            "screenshot": lambda _: self._shoot(self._new_picture),
            "screenshot_as": lambda _: self._ask_for_picture(),
            "copy_picture": lambda _: self._copy_picture(),
            "save_pose": lambda _: self._save_pose(),
            "save_splats": lambda _: self._save_splats(),
            "save_times": lambda _: self._save_times(),
            "save_path": lambda _: self._ask_to_save_path(),
            "load_path": lambda _: self.files.open("Load a camera path", PATHS, self._load_path),
            "close": lambda _: close_topmost(self.session),
            "quit": lambda _: self.unsaved.quit(),
        }
        # Hooks into GLFW, and times since the start.
        self._chords: ChordKeeper | None = None
        self._drops: DropTarget | None = None
        self._started_s = time.monotonic()
        self.first_picture_s: float | None = None

    @property
    def settled(self) -> bool:
        """True once the newest request is shown in full and nothing is being drawn."""
        is_full = self._requested is not None and self._requested[1] == self._pixels()
        return self._shown > 0 and is_full and not self.engine.busy

    # ---- the loop ----

    def params(self) -> hello_imgui.RunnerParams:
        """Make the window's parameters for imgui-bundle; kept here, for it keeps no reference."""
        params = self._params = hello_imgui.RunnerParams()
        params.app_window_params.window_title = TITLE
        params.app_window_params.window_geometry.size = SIZE
        params.app_window_params.restore_previous_geometry = True
        params.imgui_window_params.default_imgui_window_type = (
            hello_imgui.DefaultImGuiWindowType.provide_full_screen_dock_space
        )
        params.imgui_window_params.show_menu_bar = True
        params.imgui_window_params.show_menu_app = False
        params.imgui_window_params.show_menu_view = False
        params.imgui_window_params.show_status_bar = True
        params.imgui_window_params.show_status_fps = False
        params.imgui_window_params.remember_theme = False  # the preferences do
        params.imgui_window_params.show_menu_view_themes = False
        params.renderer_backend_options.open_gl_options.anti_aliasing_samples = 0
        params.ini_folder_type = hello_imgui.IniFolderType.app_user_config_folder
        params.ini_filename = "ash-studio/window.ini"
        params.callbacks.load_additional_fonts = fonts.load
        params.callbacks.show_menus = self._draw_menus
        params.callbacks.show_status = self._draw_status
        params.callbacks.show_gui = self._draw_over
        params.callbacks.confirm_exit = self._may_close
        params.callbacks.pre_new_frame = self._before_frame
        params.callbacks.enqueue_post_init(self._start)
        params.callbacks.enqueue_before_exit(self._stop)
        params.docking_params = self._docking()
        return params

    def _docking(self) -> hello_imgui.DockingParams:
        docking = hello_imgui.DockingParams()
        docking.docking_splits = [
            hello_imgui.DockingSplit("MainDockSpace", "bottom", imgui.Dir.down, 0.13),
            hello_imgui.DockingSplit("MainDockSpace", "left", imgui.Dir.left, 0.21),
            hello_imgui.DockingSplit("MainDockSpace", "right", imgui.Dir.right, 0.27),
            hello_imgui.DockingSplit("left", "left_low", imgui.Dir.down, 0.68),
            hello_imgui.DockingSplit("right", "right_low", imgui.Dir.down, 0.42),
        ]
        places: list[tuple[str, str, Callable[[], None]]] = [
            ("View", "MainDockSpace", self._draw_view),
            ("Motions", "left", lambda: motions.draw(self.session)),
            ("Pose", "left_low", lambda: self.pose.draw(self.session)),
            ("Look", "right", lambda: look.draw(self.session)),
            ("Atlas", "right_low", lambda: self.atlas.draw(self.session)),
            ("Profiler", "right_low", lambda: self.profiler.draw(self.session.renderer)),
            ("Timeline", "bottom", lambda: self.timeline.draw(self.session)),
        ]
        docking.dockable_windows = [
            hello_imgui.DockableWindow(label, place, draw) for label, place, draw in places
        ]
        view_window = docking.dockable_windows[0]
        view_window.can_be_closed = False
        view_window.imgui_window_flags = int(
            imgui.WindowFlags_.no_scrollbar | imgui.WindowFlags_.no_scroll_with_mouse
        )
        self.dock = Dock([label for label, _, _ in places[1:]])
        return docking

    def _start(self) -> None:
        import glfw

        window = glfw.get_current_context()
        self._chords = ChordKeeper(glfw, window)
        self._drops = DropTarget(glfw, window, self.drop)
        self.session.clipboard.connect(imgui.get_clipboard_text, imgui.set_clipboard_text)
        self.presenter, reason = make_presenter(self.session.renderer.device, self._interop)
        if reason is not None:
            self.session.say(reason, "error")
        self._gl = describe_gl()
        self.composed = ComposedView(self.session, self.presenter)

    def drop(self, paths: list[str]) -> None:
        """Take files that were dropped on the window: into its dialog, else open them."""
        if self.files.dialog is not None:
            self.files.dialog.take(Path(paths[0]))
        elif self.unsaved.question is None:
            self.session.requests.put("open", tuple(paths))

    def _stop(self) -> None:
        self.record.close()
        self.saver.close()
        self.engine.close()
        self.atlas.close()
        if self.composed is not None:
            self.composed.close()
        if self.presenter is not None:
            self.presenter.close()

    def _before_frame(self) -> None:
        session, now = self.session, self.session.now()
        session.tick()
        self.saver.collect()
        self._follow_renderer()
        self._follow_preferences()
        if self.profiler.follow(session.renderer):
            session.touch()  # the same picture with its stages timed, or without
        self.atlas.follow(session, self.engine.lock)
        params = hello_imgui.get_runner_params()
        busy = (
            session.clock.playing
            or self.engine.busy
            or self.atlas.busy
            or self.saver.busy
            or session.fits
            or session.is_live
            or now - self._moved_s < 2 * REST_S
        )
        params.fps_idling.enable_idling = not (busy or self.record.running)
        params.app_shall_exit = params.app_shall_exit or self.unsaved.ended
        self.autosave.follow()
        self._follow_title()
        self.dock.follow(session.panels.shown)

    def _may_close(self) -> bool:
        """Answer the window's close button: not before the question about unsaved edits."""
        self.unsaved.quit()
        return False

    def _follow_title(self) -> None:
        import glfw

        session = self.session
        title = f"{'*' if session.unsaved else ''}{legible(session.name)} - {TITLE}"
        if title != self._title:
            self._title = title
            glfw.set_window_title(glfw.get_current_context(), title)

    def _follow_preferences(self) -> None:
        store, idling = self.session.preferences, hello_imgui.get_runner_params().fps_idling
        DRESS.wear(store.value)
        idling.fps_idle = store.value.idle_hz
        idling.vsync_to_monitor = store.value.vsync
        store.write()
        problem = store.take_problem()
        if problem is not None:
            self.session.say(problem, "error")

    def _follow_renderer(self) -> None:
        """Another avatar's frames are another renderer's."""
        if self.session.renderer is not self._renderer:
            self._renderer = self.session.renderer
            self.sharpness.forget()
            self.engine.use(self._renderer)

    # ---- the picture ----

    def _draw_view(self) -> None:
        session, now = self.session, self.session.now()
        place, room = imgui.get_cursor_screen_pos(), imgui.get_content_region_avail()
        self.area = view.Rectangle(place.x, place.y, max(room.x, 1.0), max(room.y, 1.0))
        if min(room.x, room.y) >= LEAST_ROOM_PX:
            session.show_in(self.area.width, self.area.height)
        self._take_picture()
        if self.composed is not None and self._shown:
            imgui.image(imgui.ImTextureRef(self.composed.texture), (room.x, room.y))
            imgui.set_cursor_screen_pos(place)
        imgui.set_next_item_allow_overlap()
        imgui.invisible_button(
            "picture",
            (self.area.width, self.area.height),
            int(
                imgui.ButtonFlags_.mouse_button_left
                | imgui.ButtonFlags_.mouse_button_right
                | imgui.ButtonFlags_.mouse_button_middle
            ),
        )
        camera = session.camera(round(self.area.width), round(self.area.height))
        taken = self.gizmo.draw(session, camera, self.area)
        taken = taken or cloth_pull.draw(session, camera, self.area)
        if taken or view.mouse_and_keys(session, self.area, now - self._last_s):
            self._moved_s = now
            camera = session.camera(round(self.area.width), round(self.area.height))
        self._last_s = now
        click = None if taken else view.clicked(self.area)
        if click is not None:
            view.pick_joint(session, camera, click)
            if session.selected_joint is None:
                self.atlas.pick(session, camera, *click)
        view.draw_overlays(session, camera, self.area)
        for place, radius in self.atlas.marked(session):
            view.mark(camera, self.area, place, radius)
        self._draw_corners()
        self._request_frame(now)

    def _draw_corners(self) -> None:
        session, line = self.session, imgui.get_font_size() * 1.2
        ink = INK_ON_WHITE if session.document.background == "white" else INK
        left, top = self.area.x + 10, self.area.y + 8
        name = session.locked_camera or (
            "orthographic" if session.view.orthographic else "perspective"
        )
        if session.along_path:
            name = "along the camera path"
        rows = [(f"{session.data.name}   {session.document.motion}", ink), (name, ink)]
        if self.engine.error is not None:
            rows.append((self.engine.error, OVER_PICTURE_ERROR))
        elif self._shown == 0:
            rows.append((PREPARING, ink))
        for number, (text, colour) in enumerate(rows):
            view.write(session, (left, top + number * line), text, colour)

    def _request_frame(self, now: float) -> None:
        """Give the engine what is shown now, where its revision or its size is new."""
        session, composed = self.session, self.composed
        if composed is None:
            return
        self._follow_renderer()  # a menu of this very frame may have opened an avatar
        if self._is_dragged():
            self._moved_s = now
        size = self._pixels(self._scale(now))
        requested = session.revision, size
        if requested == self._requested or min(self.area.width, self.area.height) < 2:
            return
        try:
            session.advance()
            self.engine.submit(composed.adapt(session.request_shown(*size)), composed.shows_mesh)
            self._requested = requested
        except InputError as error:
            session.say(str(error), "error")

    def _is_dragged(self) -> bool:
        """Check whether a slider, the playhead or a handle is dragged and changes the picture."""
        if self._requested is None or not (imgui.is_mouse_down(0) and imgui.is_any_item_active()):
            return False
        return self.session.revision != self._requested[0]

    def _scale(self, now: float) -> float:
        """Smaller pictures while something is dragged, where full ones are slow."""
        if now - self._moved_s > REST_S or self.session.renderer.device.type == "cuda":
            return 1.0
        return self.sharpness.scale(math.prod(self._pixels()))

    def _pixels(self, scale: float = 1.0) -> tuple[int, int]:
        """(width, height) of the picture's place on the screen."""
        ratio = scale * (imgui.get_io().display_framebuffer_scale.x or 1.0)
        width, height = round(self.area.width * ratio), round(self.area.height * ratio)
        return max(width, 1), max(height, 1)

    def _take_picture(self) -> None:
        frame = self.engine.take()
        if frame is None or self.composed is None:
            return
        start = time.perf_counter()
        if self.composed.show(frame, self._pixels()):
            self._note(frame, 1e3 * (time.perf_counter() - start))

    def _note(self, frame: Frame, present_ms: float) -> None:
        self._shown = frame.number
        if self.first_picture_s is None:
            self.first_picture_s = time.monotonic() - self._started_s
            _log.info("first picture after %.2f s", self.first_picture_s)
        camera = frame.request.camera
        full = math.prod(self._pixels())
        self.sharpness.learn(camera.width * camera.height, full, frame.milliseconds)
        self.profiler.add({"frame": frame.milliseconds, **frame.stages, "present": present_ms})

    # ---- around it ----

    def _draw_over(self) -> None:
        session = self.session
        run_pressed(session)
        self._answer_requests()  # before the palette: what Esc closes is not drawn again
        self.palette.draw(session)
        dialogs.draw_help(session)
        messages.draw_messages(session)
        self.record.draw(session, self.engine.lock, self.files)
        self.preferences.draw(session)
        self._answer_requests()  # of the palette and the windows
        self.files.draw()
        self.question.draw(self.unsaved)
        if not imgui.is_any_item_active():
            commands.run(session, "edit.settle")

    # ---- requests of the session ----

    def _answer_requests(self) -> None:
        """Do what commands and panels have left to the window, in their order."""
        for request in self.session.requests.take():
            self._handlers[request.kind](request)

    def _ask_to_open(self) -> None:
        self.files.open("Open", OPENED, lambda path: self.unsaved.open((path,)))

    def _ask_to_save(self) -> None:
        name, unsaved = str(self.session.file or f"session{SESSION_SUFFIX}"), self.unsaved
        self.files.save("Save the session", name, unsaved.save, (SESSION_SUFFIX,), unsaved.stay)

    def _ask_for_picture(self) -> None:
        self.files.save("Screenshot to", str(self._new_picture()), self._save_picture, (".png",))

    def _ask_to_save_path(self) -> None:
        name = f"camera path{SUFFIX}"
        self.files.save("Save the camera path", name, self._save_path, (SUFFIX,))

    def _save_path(self, path: str) -> None:
        out = path if path.endswith(SUFFIX) else path + SUFFIX
        try:
            self.session.save_path(Path(out))
        except InputError as error:
            self.session.say(str(error), "error")

    def _load_path(self, path: str) -> None:
        commands.run(self.session, "camera.read_path", file=Path(path))

    def _new_picture(self) -> Path:
        return new_file("png", self.session.preferences.value.picture_folder)

    def _save_picture(self, path: str) -> None:
        out = Path(path if path.lower().endswith(".png") else path + ".png")
        self._shoot(lambda: out)

    def _shoot(self, out: Callable[[], Path]) -> None:
        """out: asked when it is written: of two pictures in a second none is lost."""
        renderer, lock = self.session.renderer, self.engine.lock
        shot = self.session.request_shown(*self._size_of_pictures())
        self.saver.start(lambda: save_picture(renderer, shot, out(), lock))

    def _copy_picture(self) -> None:
        renderer, lock = self.session.renderer, self.engine.lock
        copied = self.session.request_shown(*self._size_of_pictures())
        self.saver.start(lambda: copy_picture(renderer, copied, lock))

    def _save_splats(self) -> None:
        renderer, lock = self.session.renderer, self.engine.lock
        frame = self.session.request_shown(4, 4)
        self.saver.start(lambda: save_splats(renderer, frame, new_file("ply"), lock))

    def _save_pose(self) -> None:
        pose = self.session.dofs()
        self.saver.start(lambda: save_pose(new_file("motion"), pose))

    def _save_times(self) -> None:
        table = self.profiler.as_csv()
        self.saver.start(lambda: save_table(new_file("csv"), table))

    def _size_of_pictures(self) -> tuple[int, int]:
        choice = self.session.preferences.value.picture_size
        sides = picture_sides(choice)
        if sides is not None:
            return sides
        factor = VIEW_SIZES[choice]
        width, height = self.area.width * factor, self.area.height * factor
        return max(round(width), 1), max(round(height), 1)

    def _draw_menus(self) -> None:
        if self._chords is not None:  # the first that a frame draws
            self._chords.release_stuck()
        dialogs.draw_menus(self.session)
        hello_imgui.show_view_menu(hello_imgui.get_runner_params())

    def _draw_status(self) -> None:
        session = self.session
        device = session.renderer.device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        shown = "-" if self.presenter is None else self.presenter.name
        parts = [
            (shown, "how frames come to the screen"),
            (f"GL {short_gl(self._gl)}", f"the window is drawn by {self._gl}"),
            (where, f"frames are made on {device}"),
            (f"{session.renderer.drawable.count:,} splats", ""),
            (f"{self.profiler.median('frame'):.1f} ms", "a frame, by the median of the last ones"),
            (f"{hello_imgui.frame_rate():.0f} Hz", "the window's own pictures"),
        ]
        messages.draw_status(session, parts)


def short_gl(described: str) -> str:
    """The device alone, of what `describe_gl` says."""
    device = described.partition(", ")[2].rpartition(", OpenGL")[0] or described
    return re.split(r"/| \(", device)[0]
