"""Every change of the session as a named command: panels, menus, shortcuts and tests run these.

`COMMANDS` need no arguments: they are in the menus and the palette, and alone have shortcuts.
`CONTROLS` take the value of a panel's control, of a dialog or of the mouse.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

from ash_core.cloth.swing import AS_FITTED, LIMITS
from ash_core.conventions import Up
from ash_core.errors import InputError
from ash_core.look import PLAIN, Look, Mode
from ash_core.records import Camera
from ash_core.scene.document import BACKGROUNDS, MESH_STYLES, MeshPlace, MeshStyle
from ash_core.scene.joint_tree import node_of
from ash_core.scene.playback import LOOPS
from ash_core.scene.pose_edit import PoseEdit, pose_from_text, pose_to_text
from ash_core.scene.scene import NOTHING_TO_MOVE
from ash_core.scene.view import AXIS_VIEWS, CameraKey, View
from viewer.front_end import RequestKind
from viewer.session import Session

SPEED_STEP: Final = 1.25
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
CLOSE: Final = "window.close"
"""Runs while somebody types, too."""
GROUPS: Final = ("File", "Edit", "Time", "Pose", "Cloth", "Camera", "Look", "Record", "Window")
OFF: Final = "swing is off: Cloth, Swing on or off"


KEY_CAPTIONS: Final = {
    "Escape": "Esc",
    "RightArrow": "Right",
    "LeftArrow": "Left",
    "UpArrow": "Up",
    "DownArrow": "Down",
    "RightBracket": "]",
    "LeftBracket": "[",
    "Backslash": "\\",
    "Comma": ",",
    "Period": ".",
}
"""Captions of keys that a menu does not call by their names."""


@dataclass(frozen=True)
class Command:
    """One action."""

    name: str
    """`group.action`, for tests, scripts and session logs."""
    title: str
    run: Callable[..., None]
    """Take the session, and of a control its arguments by name."""
    shortcut: str = ""
    """Keys joined by +, e.g. "Ctrl+Shift+Z"; letters in capitals."""

    @property
    def group(self) -> str:
        return self.name.partition(".")[0].capitalize()

    @property
    def keys(self) -> str:
        """Shortcut as a menu shows it; empty without one."""
        *modifiers, key = self.shortcut.split("+")
        return "+".join((*modifiers, KEY_CAPTIONS.get(key, key)))


def run(session: Session, name: str, /, **arguments: Any) -> None:
    """Run a command by its name. Raises: KeyError for an unknown one, and what the command does."""
    BY_NAME[name].run(session, **arguments)


def search(text: str) -> tuple[Command, ...]:
    """Commands whose group and title hold the text's words, the best first.

    A word counts if its letters come in this order somewhere; in a row is better, at the beginning
    of a word better still.
    """
    words = text.lower().split()
    scored = []
    for number, command in enumerate(COMMANDS):
        scores = [_score(word, f"{command.group} {command.title}".lower()) for word in words]
        if all(score > 0 for score in scores):
            scored.append((-sum(scores), number, command))
    return tuple(command for _, _, command in sorted(scored, key=lambda entry: entry[:2]))


def _score(word: str, text: str) -> float:
    if f" {word}" in f" {text}":
        return 3.0
    if word in text:
        return 2.0
    rest = iter(text)
    return 1.0 if all(letter in rest for letter in word) else 0.0


# ---- time ----


def _step(count: int) -> Callable[[Session], None]:
    return lambda session: session.clock.step(count)


def _speed(factor: float) -> Callable[[Session], None]:
    def change(session: Session) -> None:
        session.clock.speed = session.clock.speed * factor

    return change


def _normal_speed(session: Session) -> None:
    session.clock.speed = 1.0


def _next_loop(session: Session) -> None:
    session.clock.loop = LOOPS[(LOOPS.index(session.clock.loop) + 1) % len(LOOPS)]


def _play_towards(sense: int) -> Callable[[Session], None]:
    return lambda session: session.clock.play(session.now(), backwards=sense < 0)


def _set_speed(session: Session, speed: float) -> None:
    session.clock.speed = speed


def _seek(session: Session, frame: int) -> None:
    session.clock.seek(frame)


def _see(session: Session, span: tuple[float, float] | None) -> None:
    session.panels.span = span


def _fit_timeline(session: Session) -> None:
    _see(session, None)


def _fit_range(session: Session) -> None:
    first, last = session.clock.first, session.clock.last
    _see(session, (float(first), float(max(last, first + 1))))


def _set_in(session: Session, frame: int | None = None) -> None:
    session.clock.first = session.clock.frame if frame is None else frame


def _set_out(session: Session, frame: int | None = None) -> None:
    session.clock.last = session.clock.frame if frame is None else frame


def _whole_range(session: Session) -> None:
    session.clock.first, session.clock.last = 0, session.clock.frames - 1


def _next_motion(session: Session) -> None:
    names = list(session.motions)
    _choose_motion(session, names[(names.index(session.document.motion) + 1) % len(names)])


def _choose_motion(session: Session, name: str) -> None:
    session.choose_motion(name)


# ---- pose ----


def _posing(change: Callable[[Session], None]) -> Callable[[Session], None]:
    """Guard a change of the pose: where there is none, a message says so."""

    def pose(session: Session) -> None:
        if session.is_static:
            session.say(NOTHING_TO_MOVE)
        else:
            change(session)

    return pose


@_posing
def _reset_pose(session: Session) -> None:
    session.edit("reset pose", edit=PoseEdit())


@_posing
def _reset_joint(session: Session) -> None:
    node = node_of(session.tree, session.selected_joint or "")
    if node is None:
        session.say("no joint is selected: click one in the view or the tree")
        return
    session.edit(f"reset {node.name}", edit=session.document.edit.without_joint(node))


@_posing
def _mirror_pose(session: Session) -> None:
    session.edit("mirror pose", edit=session.document.edit.mirrored(session.character.skeleton))


@_posing
def _rest_pose(session: Session) -> None:
    values = {
        dof: float(value) for dof, value in enumerate(session.character.rest_dofs) if dof >= 3
    }
    session.edit("rest pose", edit=PoseEdit(values))


@_posing
def _copy_pose(session: Session) -> None:
    session.clipboard.write(pose_to_text(session.dofs(), session.character.skeleton))
    session.say("pose copied")


@_posing
def _paste_pose(session: Session) -> None:
    try:
        dofs = pose_from_text(session.clipboard.read(), session.character.skeleton)
    except InputError as error:
        session.say(str(error), "error")
        return
    values = {dof: float(value) for dof, value in enumerate(dofs)}
    session.edit("paste pose", edit=PoseEdit(values))


@_posing
def _hold_pose(session: Session) -> None:
    values = {dof: float(value) for dof, value in enumerate(session.dofs())}
    session.edit("hold this pose", edit=PoseEdit(values))


def _select_joint(session: Session, joint: str | None) -> None:
    session.selected_joint = joint


def _show_dof(session: Session, dof: int, value: float) -> None:
    session.show_dof(dof, value)


def _reset_dof(session: Session, dof: int) -> None:
    name = session.sliders[dof].name
    session.edit(f"reset {name}", edit=session.document.edit.without_dof(dof))


def _blend(session: Session, blend: float) -> None:
    session.edit("blend", merge="blend", edit=replace(session.document.edit, blend=blend))


# ---- cloth ----


def _with_cloth(needs_swing: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Guard what needs loose cloth, or cloth that swings: without, a message says why."""

    def guard(change: Callable[..., None]) -> Callable[..., None]:
        def handle(session: Session, **arguments: Any) -> None:
            reason = session.no_cloth
            if reason is None and needs_swing and not session.document.swing.is_on:
                reason = OFF
            if reason is None:
                change(session, **arguments)
            else:
                session.say(reason)

        return handle

    return guard


@_with_cloth(needs_swing=False)
def _other_swing(session: Session) -> None:
    swing = session.document.swing
    label = "swing off" if swing.is_on else "swing on"
    session.edit(label, swing=replace(swing, is_on=not swing.is_on))


@_with_cloth(needs_swing=False)
def _change_swing(session: Session, **changes: float) -> None:
    """Change numbers of the swing, within their limits: stiffness, gravity, wind, wind_yaw."""
    values = {
        name: min(max(value, LIMITS[name][0]), LIMITS[name][1])
        for name, value in changes.items()
        if math.isfinite(value)
    }
    titles = {"wind_yaw": "direction of the wind", "gravity": "gravity on cloth"}
    label = ", ".join(titles.get(name, name) for name in values)
    session.edit(label, merge=f"swing {label}", swing=replace(session.document.swing, **values))


@_with_cloth(needs_swing=False)
def _swing_as_fitted(session: Session) -> None:
    session.edit("cloth as fitted", swing=AS_FITTED)


@_with_cloth(needs_swing=True)
def _other_live_cloth(session: Session) -> None:
    session.let_live(not session.live_cloth)


@_with_cloth(needs_swing=True)
def _settle_cloth(session: Session) -> None:
    session.settle_cloth()


@_with_cloth(needs_swing=True)
def _grab_cloth(session: Session, camera: Camera, x_px: float, y_px: float) -> None:
    session.grab_cloth(camera, x_px, y_px)


def _pull_cloth(session: Session, camera: Camera, x_px: float, y_px: float) -> None:
    session.pull_cloth(camera, x_px, y_px)


def _release_cloth(session: Session) -> None:
    session.release_cloth()


# ---- camera ----


def _move(name: str) -> Callable[..., None]:
    """Move the camera by a method of its view, from where it stands."""

    def move(session: Session, **arguments: float) -> None:
        if session.locked_camera is not None:  # move on from the capture camera
            camera = session.cameras[session.locked_camera]
            session.view = View.of_camera(camera, session.view.distance)
            session.locked_camera = None
        session.view = getattr(session.view, name)(**arguments)

    return move


def _set_fov(session: Session, fov_y: float) -> None:
    session.view = session.view.with_fov(fov_y)


def _look_through(session: Session, name: str | None) -> None:
    session.look_through(name)


def _load_path(session: Session, file: Path) -> None:
    try:
        session.load_path(file)
    except InputError as error:
        session.say(str(error), "error")


def _home(session: Session) -> None:
    session.home()


def _frame(session: Session) -> None:
    session.frame_character()


def _axis(name: str) -> Callable[[Session], None]:
    def look(session: Session) -> None:
        yaw, pitch = AXIS_VIEWS[name]
        session.locked_camera = None
        session.view = replace(session.view, yaw=yaw, pitch=pitch, roll=0.0)

    return look


def _orthographic(session: Session) -> None:
    session.view = replace(session.view, orthographic=not session.view.orthographic)


def _roll(angle_rad: float) -> Callable[[Session], None]:
    def turn(session: Session) -> None:
        session.view = session.view.roll_by(angle_rad)

    return turn


def _follow(session: Session) -> None:
    session.follows_root = not session.follows_root


def _next_camera(step: int) -> Callable[[Session], None]:
    def jump(session: Session) -> None:
        names = [None, *session.cameras]
        if len(names) == 1:
            session.say("no capture cameras are open: open a cameras.json")
            return
        place = names.index(session.locked_camera)
        _look_through(session, names[(place + step) % len(names)])

    return jump


def _leave_camera(session: Session) -> None:
    session.locked_camera = None


def _add_key(session: Session) -> None:
    frame = session.clock.frame
    key = CameraKey(frame, session.view)
    session.edit(f"camera key at {frame}", path=session.document.path.with_key(key))


def _remove_key(session: Session) -> None:
    frame = session.clock.frame
    session.edit(f"remove camera key at {frame}", path=session.document.path.without(frame))


def _look_along_path(session: Session) -> None:
    keyed = session.document.path.at(session.clock.frame)
    if keyed is None:
        session.say("the camera path has no keys yet: Camera, Add key")
        return
    session.along_path = not session.along_path
    if session.along_path:
        session.locked_camera, session.view = None, keyed
        session.say("looking along the camera path: whatever moves the camera leaves it")


# ---- look ----


def _mode(mode: Mode) -> Callable[[Session], None]:
    def show(session: Session) -> None:
        session.edit(f"show {mode}", look=replace(session.document.look, mode=mode))

    return show


def _change_look(session: Session, **changes: Any) -> None:
    """Change values of the look: splat_scale, opacity, sh_degree."""
    titles = {"splat_scale": "splat size", "opacity": "opacity", "sh_degree": "SH degree"}
    label = ", ".join(title for name, title in titles.items() if name in changes)
    session.edit(label, merge="look", look=replace(session.document.look, **changes))


def _plain_look(session: Session) -> None:
    session.edit("plain look", look=PLAIN)


def _degree(step: int) -> Callable[[Session], None]:
    def change(session: Session) -> None:
        look = session.document.look
        degree = 3 if look.sh_degree is None else look.sh_degree
        new_degree = min(max(degree + step, 0), 3)
        changed = Look(
            look.mode, look.splat_scale, look.opacity, None if new_degree == 3 else new_degree
        )
        session.edit(f"SH degree {new_degree}", look=changed)

    return change


def _overlay(name: str) -> Callable[[Session], None]:
    def toggle(session: Session) -> None:
        overlays = session.document.overlays
        shown = not getattr(overlays, name)
        title = name.replace("_", " ")
        session.edit(
            f"{'show' if shown else 'hide'} {title}", overlays=replace(overlays, **{name: shown})
        )

    return toggle


def _mesh(style: MeshStyle) -> Callable[[Session], None]:
    def show(session: Session) -> None:
        label = "hide mesh" if style == "none" else f"{style} mesh"
        session.edit(label, overlays=replace(session.document.overlays, mesh=style))

    return show


def _next_mesh(session: Session) -> None:
    place = MESH_STYLES.index(session.document.overlays.mesh) + 1
    _mesh(MESH_STYLES[place % len(MESH_STYLES)])(session)


def _mesh_place(place: MeshPlace) -> Callable[[Session], None]:
    def put(session: Session) -> None:
        overlays = replace(session.document.overlays, mesh_place=place)
        session.edit(f"mesh {place} the splats", overlays=overlays)

    return put


def _other_mesh_place(session: Session) -> None:
    over = session.document.overlays.mesh_place == "over"
    _mesh_place("under" if over else "over")(session)


def _more_mesh_opacity(step: float) -> Callable[[Session], None]:
    def change(session: Session) -> None:
        opacity = session.document.overlays.mesh_opacity + step
        _set_mesh_opacity(session, round(min(max(opacity, 0.0), 1.0), 3))

    return change


def _set_mesh_opacity(session: Session, opacity: float) -> None:
    overlays = replace(session.document.overlays, mesh_opacity=opacity)
    session.edit(f"mesh opacity {opacity:.2f}", merge="mesh opacity", overlays=overlays)


def _next_background(session: Session) -> None:
    names = list(BACKGROUNDS)
    _show_background(session, names[(names.index(session.document.background) + 1) % len(names)])


def _show_background(session: Session, name: str) -> None:
    session.edit(f"background {name}", background=name)


def _up(axis: Up) -> Callable[[Session], None]:
    return lambda session: session.choose_up(axis)


# ---- files ----


def _read(session: Session, path: str) -> None:
    session.open(path)


def _write(session: Session, path: str) -> None:
    session.save(path)


def _restore(session: Session, path: Path, file: Path | None) -> None:
    """Take a kept session's content as unsaved work of its own file. Raises: InputError."""
    session.restore(path)
    session.file = file


# ---- windows ----


def _request(kind: RequestKind) -> Callable[[Session], None]:
    """Leave work to the front end."""
    return lambda session: session.requests.put(kind)


def _toggle_panel(name: str) -> Callable[[Session], None]:
    def toggle(session: Session) -> None:
        _show_panel(session, name, not getattr(session.panels, name))

    return toggle


def _show_panel(session: Session, name: str, shown: bool) -> None:
    setattr(session.panels, name, shown)


def _other_theme(session: Session) -> None:
    light = session.preferences.value.theme == "light"
    _prefer(session, theme="dark" if light else "light")


def _prefer(session: Session, **changes: Any) -> None:
    session.preferences.change(**changes)


def _play(session: Session) -> None:
    session.clock.toggle(session.now())


def _undo(session: Session) -> None:
    session.undo()


def _redo(session: Session) -> None:
    session.redo()


def _settle(session: Session) -> None:
    session.history.settle()


@_posing
def _still(session: Session) -> None:
    """The motion's present pose as a motion of its own."""
    session.keep_still()


COMMANDS: Final[tuple[Command, ...]] = (
    Command("file.open", "Open...", _request("open_dialog"), "Ctrl+O"),
    Command("file.save", "Save the session...", _request("save_dialog"), "Ctrl+S"),
    Command("file.screenshot", "Screenshot", _request("screenshot"), "F12"),
    Command("file.screenshot_as", "Screenshot to...", _request("screenshot_as"), "Shift+F12"),
    Command("file.copy", "Copy the picture", _request("copy_picture"), "Ctrl+Shift+C"),
    Command("file.splats", "Save this frame's splats as .ply", _request("save_splats")),
    Command("file.times", "Save the profiler's times as .csv", _request("save_times")),
    Command("file.quit", "Quit", _request("quit"), "Ctrl+Q"),
    Command("edit.undo", "Undo", _undo, "Ctrl+Z"),
    Command("edit.redo", "Redo", _redo, "Ctrl+Shift+Z"),
    Command("time.play", "Play or pause", _play, "Space"),
    Command("time.next_frame", "Next frame", _step(1), "RightArrow"),
    Command("time.previous_frame", "Previous frame", _step(-1), "LeftArrow"),
    Command("time.next_ten", "Ten frames on", _step(10), "Shift+RightArrow"),
    Command("time.previous_ten", "Ten frames back", _step(-10), "Shift+LeftArrow"),
    Command("time.first", "Go to the in point", lambda s: s.clock.go_to_first(), "Home"),
    Command("time.last", "Go to the out point", lambda s: s.clock.go_to_last(), "End"),
    Command("time.set_in", "Set the in point", _set_in, "I"),
    Command("time.set_out", "Set the out point", _set_out, "O"),
    Command("time.whole", "Whole motion", _whole_range, "Shift+I"),
    Command("time.faster", "Faster", _speed(SPEED_STEP), "RightBracket"),
    Command("time.slower", "Slower", _speed(1 / SPEED_STEP), "LeftBracket"),
    Command("time.normal_speed", "Normal speed", _normal_speed, "Backslash"),
    Command("time.back", "Play backwards", _play_towards(-1), "J"),
    Command("time.pause", "Pause", lambda s: s.clock.pause(), "K"),
    Command("time.forward", "Play forwards", _play_towards(1), "L"),
    Command("time.loop", "Loop, once or ping-pong", _next_loop, "Shift+L"),
    Command("time.fit", "Timeline: the whole motion", _fit_timeline, "Shift+F"),
    Command("time.fit_range", "Timeline: from in to out point", _fit_range),
    Command("time.unit", "Timeline in frames or seconds", _toggle_panel("seconds")),
    Command("time.next_motion", "Next motion", _next_motion, "Ctrl+M"),
    Command("pose.reset", "Reset the pose", _reset_pose, "Ctrl+R"),
    Command("pose.reset_joint", "Reset the selected joint", _reset_joint, "R"),
    Command("pose.mirror", "Mirror the edit left and right", _mirror_pose, "M"),
    Command("pose.rest", "Rest pose", _rest_pose),
    Command("pose.hold", "Hold this pose", _hold_pose, "Shift+H"),
    Command("pose.copy", "Copy the pose", _copy_pose, "Ctrl+C"),
    Command("pose.paste", "Paste a pose", _paste_pose, "Ctrl+V"),
    Command("pose.save", "Save the pose as .motion", _posing(_request("save_pose"))),
    Command("pose.still", "This pose as a motion of its own", _still),
    Command("cloth.swing", "Swing on or off", _other_swing, "Shift+S"),
    Command("cloth.live", "Live: in real time", _other_live_cloth, "Shift+V"),
    Command("cloth.settle", "Settle under the present pose", _settle_cloth, "Shift+X"),
    Command("cloth.reset", "As fitted, in calm air", _swing_as_fitted),
    Command("camera.home", "Home", _home, "H"),
    Command("camera.frame", "Frame the character", _frame, "F"),
    Command("camera.front", "From the front", _axis("front"), "1"),
    Command("camera.right", "From the right", _axis("right"), "2"),
    Command("camera.back", "From behind", _axis("back"), "3"),
    Command("camera.left", "From the left", _axis("left"), "4"),
    Command("camera.top", "From above", _axis("top"), "5"),
    Command("camera.orthographic", "Orthographic or perspective", _orthographic, "P"),
    Command("camera.roll_left", "Roll left", _roll(-math.radians(5)), "Comma"),
    Command("camera.roll_right", "Roll right", _roll(math.radians(5)), "Period"),
    Command("camera.follow", "Follow the character", _follow, "T"),
    Command("camera.next", "Next capture camera", _next_camera(1), "PageDown"),
    Command("camera.previous", "Previous capture camera", _next_camera(-1), "PageUp"),
    Command("camera.free", "Leave the capture camera", _leave_camera),
    Command("camera.add_key", "Add a key to the camera path", _add_key, "Shift+K"),
    Command("camera.remove_key", "Remove the camera key here", _remove_key, "Ctrl+Shift+K"),
    Command("camera.along_path", "Look along the camera path", _look_along_path, "Ctrl+K"),
    Command("camera.save_path", "Save the camera path...", _request("save_path")),
    Command("camera.load_path", "Load a camera path...", _request("load_path")),
    *(
        Command(f"look.{mode}", f"Show {mode}", _mode(mode), f"Shift+{n}")
        for n, mode in enumerate(MODES, 1)
    ),
    Command("look.plain", "Plain look", _plain_look),
    Command("look.more_sh", "One SH degree more", _degree(1)),
    Command("look.less_sh", "One SH degree less", _degree(-1)),
    Command("look.skeleton", "Skeleton", _overlay("skeleton"), "S"),
    Command("look.joint_names", "Joint names", _overlay("joint_names"), "N"),
    Command("look.grid", "Floor grid", _overlay("grid"), "G"),
    Command("look.cameras", "Capture cameras", _overlay("cameras"), "C"),
    Command("look.camera_path", "Camera path", _overlay("camera_path"), "Shift+C"),
    Command("look.mesh_next", "Mesh: wire, shaded, textured or none", _next_mesh, "W"),
    Command("look.mesh_none", "Hide the mesh", _mesh("none")),
    Command("look.mesh_wire", "Mesh as a wire", _mesh("wire")),
    Command("look.mesh_shaded", "Mesh shaded", _mesh("shaded")),
    Command("look.mesh_textured", "Mesh with its texture", _mesh("textured")),
    Command("look.mesh_place", "Mesh under or over the splats", _other_mesh_place, "Shift+W"),
    Command("look.mesh_under", "Mesh under the splats", _mesh_place("under")),
    Command("look.mesh_over", "Mesh over the splats", _mesh_place("over")),
    Command("look.mesh_more", "Mesh more opaque", _more_mesh_opacity(0.1), "Ctrl+UpArrow"),
    Command("look.mesh_less", "Mesh less opaque", _more_mesh_opacity(-0.1), "Ctrl+DownArrow"),
    Command("look.up_z", "Splats: Z is up", _up("z")),
    Command("look.up_y", "Splats: Y is up", _up("y")),
    Command("look.up_y_down", "Splats: Y points down (COLMAP)", _up("y-down")),
    Command("look.background", "Next background", _next_background, "B"),
    Command("record.video", "Record...", _toggle_panel("record_dialog"), "Ctrl+E"),
    Command("window.panels", "Show or hide the panels", _toggle_panel("shown"), "Tab"),
    Command("window.palette", "Find a command", _toggle_panel("palette"), "Ctrl+P"),
    Command("window.preferences", "Preferences...", _toggle_panel("preferences"), "Ctrl+Comma"),
    Command("window.messages", "Messages", _toggle_panel("messages"), "Ctrl+Shift+M"),
    Command(CLOSE, "Close what is on top", _request("close"), "Escape"),
    Command("window.theme", "Dark or light", _other_theme),
    Command("window.help", "Keys and help", _toggle_panel("help"), "F1"),
)  # fmt: skip
CONTROLS: Final[tuple[Command, ...]] = (
    Command("file.read", "Read a file", _read),
    Command("file.write", "Write the session", _write),
    Command("file.restore", "Restore unsaved edits", _restore),
    Command("edit.settle", "End a drag: the next edit is one of its own", _settle),
    Command("time.choose_motion", "Choose a motion", _choose_motion),
    Command("time.seek", "Go to a frame", _seek),
    Command("time.speed", "Set the speed", _set_speed),
    Command("time.see", "Timeline: see some frames", _see),
    Command("pose.select", "Select a joint, or none", _select_joint),
    Command("pose.show_dof", "Pose a dof", _show_dof),
    Command("pose.reset_dof", "Reset a dof", _reset_dof),
    Command("pose.blend", "Blend motion and edit", _blend),
    Command("cloth.change", "Change stiffness, gravity or wind", _change_swing),
    Command("cloth.grab", "Grab the cloth under a pixel", _grab_cloth),
    Command("cloth.pull", "Pull the grabbed cloth to a pixel", _pull_cloth),
    Command("cloth.release", "Let go of the cloth", _release_cloth),
    Command("camera.orbit", "Turn about the target", _move("orbit")),
    Command("camera.look_around", "Look around", _move("look_around")),
    Command("camera.pan", "Shift the view", _move("pan")),
    Command("camera.zoom_at", "Come nearer to a point", _move("zoom_at")),
    Command("camera.fly", "Fly", _move("fly")),
    Command("camera.fov", "Set the field of view", _set_fov),
    Command("camera.look_through", "Look through a capture camera, or by the view", _look_through),
    Command("camera.read_path", "Read a camera path", _load_path),
    Command("look.change", "Change values of the look", _change_look),
    Command("look.show_background", "Choose a background", _show_background),
    Command("look.mesh_opacity", "Set the mesh's opacity", _set_mesh_opacity),
    Command("window.show", "Show or hide a window", _show_panel),
    Command("window.prefer", "Change preferences", _prefer),
)  # fmt: skip
BY_NAME: Final = {command.name: command for command in (*COMMANDS, *CONTROLS)}
