"""What is open, what is edited, where the clock stands: all that a front end shows, no toolkit.

The view, the clock and the selection are no edits of the document. Every change goes through
`viewer.commands`. The window draws frames from `Session.request`, a recording from
`Session.recorded`.
"""

import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

import torch

from ash_core.commands.scene import (
    BUNDLED,
    COMES_WITH_US,
    STILL_FRAMES,
    Backend,
    Device,
    Preset,
    find_release,
    load_drawable,
    load_motion,
    make_renderer,
    motion_file,
    release_motions,
    still_motion,
)
from ash_core.conventions import Up
from ash_core.errors import CudaError, InputError
from ash_core.files.cameras.files import is_camera_file, read_straight
from ash_core.files.cameras.record import Reading
from ash_core.files.dataset import stretch_camera
from ash_core.files.io import bad, legible, show, write_text
from ash_core.files.skeletool import read_motion
from ash_core.files.splats import is_splats, turn_splats
from ash_core.geometry.axes import UPS, turn_camera, world_rotation
from ash_core.geometry.camera import resize_camera
from ash_core.geometry.framing import is_in_picture, joint_positions, make_outline
from ash_core.geometry.motion import NO_POSES, live_window
from ash_core.importers.retarget.retarget import Retargeted, read_bvh_motion
from ash_core.records import AvatarData, Camera, DrawableData, Motion, PoseWindow, SplatData
from ash_core.render import Renderer, RenderRequest
from ash_core.resources import resource
from ash_core.variants import VARIANTS, HistoryOffsets
from viewer.camera_controls import CameraPath, View, checked_frame, checked_number
from viewer.clock import SPEEDS, Clock, LoopMode, Place
from viewer.document import BACKGROUNDS, Document, History, Overlays
from viewer.front_end import Clipboard, Message, Panels, RequestQueue, Severity
from viewer.pose import (
    LARGEST,
    PoseEdit,
    PoseHistory,
    edited_until,
    joint_tree,
    sliders,
    window_of,
)
from viewer.preferences import PreferenceStore
from viewer.recorder import RecordSettings
from viewer.revision import Drawn
from viewer.session_file import (
    SESSION_FORMAT,
    SESSION_VERSION,
    is_number,
    look_from_json,
    read_session,
)

_log = logging.getLogger(__name__)

FOV_RAD: Final = math.radians(40.0)
ASPECT: Final = 4 / 3
"""Width over height of the picture for which an avatar is framed where no window shows it."""
REST_FRAMES: Final = 5
EASE_S: Final = 0.5
"""For so long the poses before this one turn from a hand's, which rests, into the motion's."""
NOTHING_TO_MOVE: Final = "these are splats of a file: no pose moves them"
NOW_ALONE: Final = HistoryOffsets((0,))
"""History of what no pose moves."""
MESSAGES: Final = 200
SESSION_SUFFIX: Final = ".ash-session"
OF_A_FILE: Final = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    OSError,
)
"""What a damaged session may raise where no check of ours has found it before."""

Work = tuple[PoseEdit, CameraPath, tuple[tuple[str, tuple[float, ...]], ...], Up | None]
"""Pose, camera path, kept poses by name, up axis of splats."""


class Session:
    """One avatar with its motions, seen by one person.

    Raises: InputError for an avatar or a motion that cannot be opened at the start; later ones
    become messages, and what was open stays open.
    """

    def __init__(
        self,
        avatar: str = BUNDLED,
        motion: str | None = None,
        device: Device = "auto",
        backend: Backend = "auto",
        preset: Preset | None = None,
        now: Callable[[], float] = time.monotonic,
        file: Path | None = None,
        preferences: PreferenceStore | None = None,
        usual_preset: Preset | None = None,
        up: Up | None = None,
    ) -> None:
        """file: a saved session to reopen instead of an avatar. up: axis of a file of splats.

        preset: asked for, it goes before any session's own. usual_preset: of avatars that are
        opened without a session, which says itself what it was drawn with.
        """
        self.now = now
        self.messages: deque[Message] = deque(maxlen=MESSAGES)
        self.preferences = PreferenceStore() if preferences is None else preferences
        self.revision = 0
        self.panels = Panels()
        self.requests = RequestQueue()
        self.clipboard = Clipboard()
        self.selected_joint: str | None = None
        self.follows_root = False
        self.locked_camera = None
        self.along_path = False
        self.aspect = ASPECT
        self._keyed: View | None = None
        self._moved_by_hand = False
        self._device: Device = device
        self._fitting: list[tuple[str, AvatarData, Future[Retargeted]]] = []
        self._backend: Backend = backend
        self._asked_preset: Preset | None = preset
        self._usual_preset: Preset | None = usual_preset
        if file is None:
            self._open(avatar, motion, usual_preset, up)
        else:
            self.load(file)
        if preset is not None and not _takes_preset(self.data):
            text = f"{self.avatar} has a decoder of its own"
            raise InputError(f"--preset: expected none, got {preset}: {text}")

    # ---- what is open ----

    avatar: str
    """Where the avatar came from: a file, or what comes with us by its name."""
    data: DrawableData
    renderer = Drawn[Renderer]()
    preset: Preset | None
    """Of its decoder; None: as its file has it."""
    motions = Drawn[dict[str, Motion]]()
    files: list[str]
    """Of motions and cameras that were opened for this avatar."""
    stills: dict[str, torch.Tensor]
    """Motions that are one pose, made here."""
    file: Path | None
    """File of this session; None until it is saved."""
    _saved: Work
    cameras = Drawn[dict[str, Camera]]()
    """Of the capture stage, by name."""
    history = Drawn[History]()
    clock = Drawn[Clock]()
    _timed: str
    """The motion that the clock is set to."""
    _places: dict[str, Place]
    """Where the clock stood in the others."""
    view = Drawn[View](by_value=True)
    locked_camera = Drawn[str | None](by_value=True)
    """Name of the capture camera that is looked through; None: the view."""
    follows_root = Drawn[bool](by_value=True)
    """The view goes along with the character."""
    along_path: bool
    """The view is that of the camera path, until somebody moves the camera by other means."""
    revision: int
    """Count of the changes that alter a frame: a frame of this revision stays as it is."""
    _hand: PoseHistory
    _moved_s: float
    _moved: tuple[str, int, PoseEdit] | None
    """What a hand has moved last: when, and what it made of which frame."""
    _home: tuple[str, View, float]
    """Of which motion, what `home` made of it, and for which aspect."""

    def _open(
        self, avatar: str, motion: str | None, preset: Preset | None, up: Up | None = None
    ) -> None:
        # Avatar and its motions; the configuration's own motion comes first.
        release = find_release(avatar)
        data = load_drawable(avatar if release is None else str(release.conf), up, self.say)
        splats = data if isinstance(data, SplatData) else None
        if isinstance(data, AvatarData) and avatar in COMES_WITH_US:
            motions = bundled_motions(data)
        else:
            motions = release_motions(release, data)
        own = next(iter(motions), None) if release is not None else None
        files: list[str] = []
        if motion is not None:
            chosen = load_motion(motion, avatar, data, release)
            name = chosen.name or Path(motion).stem
            if name not in motions and Path(motion).exists():
                files.append(str(motion_file(Path(motion)).resolve()))
            motions[name] = chosen
        elif own is not None:
            name = own
        elif motions:
            name = "dance" if "dance" in motions else next(iter(motions))
        else:
            name = "still" if splats else "rest"
            motions[name] = still_motion(data, STILL_FRAMES if splats else REST_FRAMES)
        preset = (self._asked_preset or preset) if _takes_preset(data) else None
        # From here on nothing can fail: a refused file leaves everything as it was.
        self.renderer = make_renderer(data, self._device, self._backend, preset)
        self.preset = preset
        self.avatar = avatar if avatar in COMES_WITH_US else str(Path(avatar).resolve())
        self.data, self.motions, self.files, self.stills = data, motions, files, {}
        if isinstance(data, AvatarData):
            self.tree = joint_tree(data.skeleton)
            self.sliders = sliders(data.skeleton, data.rest_dofs)
            self._hand = PoseHistory(data.history_offsets)
        else:
            self.tree, self.sliders, self._hand = (), (), PoseHistory(NOW_ALONE)
        # Cameras, in the size of the configuration's images.
        size = release.size if release is not None else None
        cameras = [stretch_camera(c, *size) for c in data.cameras] if size else data.cameras
        self.cameras = {c.name or str(n): c for n, c in enumerate(cameras)}
        if up is not None and splats is None:
            raise InputError(f"{avatar}: --up: expected splats: an avatar is Z up")
        self.history = History(Document(name, up=splats.up if splats else None))
        self.file, self._saved = None, self.work
        # Clock, pose history and view.
        self.clock = Clock(self.motion.fps, len(self.motion.dofs), self.touch)
        if own is not None:
            self.clock.play()
        self._timed, self._places = name, {}
        self._moved_s, self._moved = -math.inf, None
        self.locked_camera, self.selected_joint = None, None
        self.home()
        self._remember(self.avatar)

    def open(self, path: str) -> None:
        """An avatar, a motion, cameras or a session. Whatever goes wrong becomes a message, and
        everything stays as it was.
        """
        try:
            with self._all_or_nothing():
                self._open_any(path)
        except Exception as error:  # a window must outlive any file
            said = str(error).split("\n")[0] or type(error).__name__
            if not isinstance(error, (InputError, OSError, CudaError, torch.OutOfMemoryError)):
                _log.warning("%s: cannot be opened: %s", path, said, exc_info=error)
            ours = isinstance(error, (InputError, OSError))
            self.say(said if ours else f"{path}: cannot be opened: {said}", "error")

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _open_any(self, path: str) -> None:
        suffix = Path(path).suffix.lower()
        if suffix == ".motion":
            self._add_motion(path)
        elif suffix == ".bvh":
            self._fit(path)
        elif is_camera_file(Path(path)) and not is_splats(Path(path)):
            self._add_cameras(path)
        elif suffix == SESSION_SUFFIX:
            self.load(path)
        elif (
            suffix in (".safetensors", ".conf", ".character")
            or is_splats(Path(path))
            or path in COMES_WITH_US
            or Path(path).is_dir()
        ):
            self._open(path, None, self._usual_preset)
            count = f"{self.renderer.drawable.count:,} splats"
            kind = count if self.is_static else self.character.variant
            self.say(f"{path}: {self.data.name}, {kind}")
        else:
            raise InputError(
                f"{path}: expected an avatar (.safetensors, .conf), splats (.ply, .spz, .sog), "
                "a motion (.motion, .bvh), cameras (.json, .calibration, .yml, a COLMAP folder) "
                f"or a session ({SESSION_SUFFIX})"
            )

    def _add_motion(self, path: str) -> None:
        self._check_moves(path)
        if Path(path).suffix.lower() == ".bvh":
            motion = read_bvh_motion(path, self.character.skeleton, avatar=self.character).motion
        else:
            motion = read_motion(Path(path), self.character.skeleton)
        self._take_motion(path, motion)

    def _fit(self, path: str) -> None:
        """Another skeleton's motion, on a thread: that takes seconds. `collect` takes it."""
        self._check_moves(path)
        data, coming = self.character, Future[Retargeted]()
        self.say(f"{path}: being fitted to {data.name}")

        def work() -> None:
            try:
                coming.set_result(read_bvh_motion(path, data.skeleton, avatar=data))
            except Exception as error:  # told by collect
                coming.set_exception(error)

        threading.Thread(target=work, name="retarget", daemon=True).start()
        self._fitting.append((path, data, coming))

    @property
    def fits(self) -> bool:
        """Whether motions are on their way."""
        return bool(self._fitting)

    def collect(self) -> None:
        """Take the motions that have been fitted since."""
        for entry in [entry for entry in self._fitting if entry[2].done()]:
            self._fitting.remove(entry)
            path, data, coming = entry
            error = coming.exception()
            if error is not None:
                self.say(str(error), "error")
            elif data is self.data:  # else another avatar was opened meanwhile
                found = coming.result()
                for text in found.notes:
                    self.say(text)
                self._take_motion(path, found.motion)

    def _check_moves(self, path: str) -> None:
        if self.is_static:
            raise InputError(f"{path}: {self.avatar} holds splats, which no motion moves")

    def _take_motion(self, path: str, motion: Motion) -> None:
        name = motion.name or Path(path).stem
        self.motions = {**self.motions, name: motion}
        self.choose_motion(name)
        self._keep(path)
        self.say(f"{path}: {len(motion.dofs)} frames")

    def _add_cameras(self, path: str) -> None:
        up = self.data.up if isinstance(self.data, SplatData) else "z"  # splats' cameras turn, too
        file = read_straight(path, Reading(up=up))
        for text in file.notes:
            self.say(text)
        cameras = [camera for camera, _ in file.cameras]
        named = {c.name or str(n): c for n, c in enumerate(cameras)}
        self.cameras = {**self.cameras, **named}  # another one: it may have to be undone
        self._keep(path)
        self.say(f"{path}: {len(cameras)} cameras")

    def _keep(self, path: str) -> None:
        """A session file names what was opened, from wherever it is reopened."""
        whole = str(Path(path).resolve())
        self.files = [*(other for other in self.files if other != whole), whole]
        self._remember(whole)

    def keep_still(self) -> None:
        """The pose that is shown becomes a motion of its own."""
        name = f"{self.document.motion} @ {self.clock.frame}"
        self._add_still(name, self.pose())
        self.choose_motion(name)

    def _add_still(self, name: str, dofs: torch.Tensor) -> None:
        self.stills = {**self.stills, name: dofs}
        self.motions = {**self.motions, name: Motion(dofs[None].repeat(REST_FRAMES, 1), name=name)}

    @property
    def recent(self) -> tuple[str, ...]:
        """Files that were opened, the last one first."""
        return self.preferences.value.recent

    def _remember(self, path: str) -> None:
        if path not in COMES_WITH_US:
            self.preferences.remember(path)

    @property
    def name(self) -> str:
        """Return the name of the session's file, else the avatar's, as titles show it."""
        return self.data.name if self.file is None else self.file.name

    @property
    def work(self) -> Work:
        """All that a person made and that no other file holds."""
        stills = tuple((name, tuple(pose.tolist())) for name, pose in self.stills.items())
        return self.document.edit, self.document.path, stills, self.document.up

    @property
    def unsaved(self) -> bool:
        """Tell whether there is work that the session's file, if there is one, does not hold."""
        return self.work != self._saved

    @property
    def is_static(self) -> bool:
        """Tell whether static splats are open: nothing but the camera moves then."""
        return isinstance(self.data, SplatData)

    @property
    def character(self) -> AvatarData:
        """Return the avatar that poses move; an error where static splats are open."""
        assert isinstance(self.data, AvatarData), self.data.name
        return self.data

    # ---- edits ----

    @property
    def document(self) -> Document:
        return self.history.document

    @property
    def motion(self) -> Motion:
        return self.motions[self.document.motion]

    def edit(self, label: str, merge: str | None = None, **changes: Any) -> None:
        """Change parts of the document: undoably, but for how it is shown."""
        with self._watching():
            self.history.apply(label, replace(self.document, **changes), merge)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Raise the revision where the document's frame changes meanwhile."""
        before = self.document.drawn
        yield
        if self.document.drawn != before:
            self.touch()

    def show_dof(self, dof: int, value: float) -> None:
        """Pose by hand: a dof is to be seen at a value, m or rad."""
        if self._rested_s >= 0.0:
            self._hand.begin(self._past(), self.now())
        name = self.character.skeleton.dof_names[dof]
        moving = float(self.motion.dofs[self.clock.frame, dof])
        posed = self.document.edit.showing(dof, value, moving)
        self.edit(f"pose {name}", merge=name, edit=posed)
        self._moved_s, self._moved = self.now(), self._moment

    @property
    def hand_moves(self) -> bool:
        """Whether the poses before this one are, or just were, a hand's and not the motion's."""
        return self._rested_s < EASE_S

    @property
    def _moment(self) -> tuple[str, int, PoseEdit]:
        return self.document.motion, self.clock.frame, self.document.edit

    @property
    def _rested_s(self) -> float:
        """Since a hand's moves count no more; negative: they count. They never do once the motion
        plays or anything else was chosen, sought or undone.
        """
        if self.clock.playing or self._moved != self._moment:
            return math.inf
        return self.now() - self._moved_s - self._hand.reach_s

    def _past(self) -> torch.Tensor:
        """[P, D] the poses until now, the newest last: the hand's, the motion's, or on the way from
        those to these.
        """
        rested = self._rested_s / EASE_S
        if rested <= 0.0:
            return self._hand.poses(self.now())
        name, frame, edit = self._moment
        skeleton, offsets = self.character.skeleton, self.character.history_offsets
        past = edited_until(self.motions[name], frame, edit, skeleton, offsets)
        if rested >= 1.0:
            return past
        return torch.lerp(self._hand.poses(self.now()), past, rested * rested * (3 - 2 * rested))

    def choose_motion(self, name: str) -> None:
        """Play another of the open motions."""
        if name not in self.motions:
            raise InputError(f"motion: expected one of {', '.join(self.motions)}, got {name!r}")
        self.edit(f"motion {name}", motion=name)
        self._follow_document()

    def choose_up(self, up: Up) -> None:
        """Turn the splats, and the cameras of their scene, so that an axis of their file is up."""
        if not self.is_static:
            self.say("only splats have an up axis to choose: an avatar stands upright")
            return
        self.edit(f"up axis {up}", up=up)
        self._follow_document()

    def undo(self) -> None:
        """Take back the last edit."""
        with self._watching():
            label = self.history.undo()
        self.say("nothing to undo" if label is None else f"undone: {label}")
        self._follow_document()

    def redo(self) -> None:
        """Do what was taken back once more."""
        with self._watching():
            label = self.history.redo()
        self.say("nothing to redo" if label is None else f"redone: {label}")
        self._follow_document()

    def _follow_document(self) -> None:
        """The clock goes on with the motion that is chosen, from where that one stood last."""
        up = self.document.up
        if isinstance(self.data, SplatData) and up is not None and up != self.data.up:
            self._turn(self.data, up)
        name, motion = self.document.motion, self.motion
        timing = motion.fps, len(motion.dofs)
        if name != self._timed:
            self._places = {**self._places, self._timed: self.clock.place}
            self._timed = name
            self.clock.set_motion(*timing, self._places.get(name))
        elif timing != (self.clock.fps, self.clock.frames):  # read again from a file
            self.clock.set_motion(*timing)

    def _turn(self, splats: SplatData, up: Up) -> None:
        rotation = world_rotation(up, before=splats.up)
        self.cameras = {name: turn_camera(c, rotation) for name, c in self.cameras.items()}
        self.data = turn_splats(splats, up)
        self.renderer = make_renderer(self.data, self._device, self._backend, self.preset)
        self.home()

    # ---- where we look from ----

    def home(self) -> None:
        """Before the character, all of it in the picture at every time."""
        self.view = View.front_of(self.data, self.motion.dofs, self.aspect, FOV_RAD)
        self.locked_camera = None
        if self.is_static:  # of any size
            self.frame_character()
        self._home = self.document.motion, self.view, self.aspect

    def frame_character(self) -> None:
        """The character as it stands now, filling the picture."""
        self.locked_camera = None
        self.view = self.view.frame_points(self.surface(), self.aspect)

    def look_through(self, name: str | None) -> None:
        """Look through a capture camera, or by the free view; warn of an empty picture."""
        self.locked_camera = name
        if name is not None and not is_in_picture(self.cameras[name], self.surface()):
            self.say(f"camera {name}: nothing of the avatar is in its picture", "error")

    def show_in(self, width: float, height: float) -> None:
        """Every frame, the shape of the picture's place: a view that nobody has moved since `home`
        is framed anew as soon as the shape stays, for that takes a fraction of a second.
        """
        stays, self.aspect = width / height == self.aspect, width / height
        motion, view, aspect = self._home
        untouched = (self.document.motion, self.view) == (motion, view)
        if stays and untouched and aspect != self.aspect and self.locked_camera is None:
            self.home()

    def surface(self) -> torch.Tensor:
        """Outermost points [P, 3] of the pose that is shown; m, world."""
        return make_outline(self.data).surface(self.pose()[None])[0]

    def joints(self) -> torch.Tensor:
        """[J, 3] m, world: of the pose that is shown."""
        return joint_positions(self.character.skeleton, self.pose())

    def pose(self) -> torch.Tensor:
        """[D] float64: the dofs that are shown."""
        return self.document.edit.apply(self.motion.dofs[self.clock.frame])

    def camera(self, width: int, height: int, frame: int | None = None) -> Camera:
        """The camera of a picture. frame: of a recording along the camera path."""
        if frame is not None and (keyed := self.document.path.at(frame)) is not None:
            return keyed.camera(width, height)
        if self.locked_camera is not None:
            return resize_camera(self.cameras[self.locked_camera], width, height)
        return self._followed(frame).camera(width, height)

    def _followed(self, frame: int | None) -> View:
        if not self.follows_root or self.is_static:
            return self.view
        shown = self.motion.dofs[self.clock.frame if frame is None else frame]
        root = joint_positions(self.character.skeleton, shown)[0]
        start = joint_positions(self.character.skeleton, self.motion.dofs[0])[0]
        x, y, z = self.view.target
        moved = (root - start).tolist()
        return replace(self.view, target=(x + moved[0], y + moved[1], z))

    # ---- frames ----

    def touch(self) -> None:
        """Raise the revision: what a frame is drawn of has changed."""
        self.revision += 1

    def tick(self) -> None:
        """Bring up to now, once a frame, what changes by time: clock, camera path, a drag."""
        self.clock.tick(self.now())
        self.collect()
        self._follow_path()
        moves = self.hand_moves
        if moves or self._moved_by_hand:  # the last poses then change by themselves
            self.touch()
        self._moved_by_hand = moves

    def _follow_path(self) -> None:
        """Look along the camera path, until somebody moves the camera by other means."""
        keyed = self.document.path.at(self.clock.frame) if self.along_path else None
        moved = self._keyed is not None and self.view != self._keyed
        if keyed is None or moved or self.locked_camera is not None:
            self.along_path, self._keyed = False, None
        else:
            self.view = self._keyed = keyed

    def request(self, width: int, height: int) -> RenderRequest:
        """The frame that is shown now.

        While a hand moves the character, the poses before this one are those that were shown.
        Otherwise, and in recordings always, they are the motion's: the same at any time. A
        character that a hand leaves as it is comes back to them softly.
        """
        camera = self.camera(width, height)
        if not self.hand_moves:
            return self._request(self.clock.frame, camera)
        self._hand.push(self.pose(), self.now())
        character = self.character
        return self._asked_for(
            live_window(self._past(), character.skeleton, character.history_offsets), camera
        )

    def recorded(self, frame: int, width: int, height: int) -> RenderRequest:
        """A frame of a recording: from the camera path where there is one."""
        return self._request(frame, self.camera(width, height, frame))

    def _request(self, frame: int, camera: Camera) -> RenderRequest:
        if self.is_static:
            return self._asked_for(NO_POSES, camera)
        edit, character = self.document.edit, self.character
        window = window_of(self.motion, frame, edit, character.skeleton, character.history_offsets)
        return self._asked_for(window, camera)

    def _asked_for(self, window: PoseWindow, camera: Camera) -> RenderRequest:
        background = BACKGROUNDS[self.document.background]
        return RenderRequest(window, camera, background, self.document.look)

    def size_of_recording(self) -> tuple[int, int]:
        """Where nobody says, in the window and for `render --session`: the own one of the capture
        camera that is looked through, else the preferred one (1280x960 if nobody prefers any).
        """
        if self.locked_camera is None or self.document.path.keys:
            return self.preferences.value.record_size
        camera = self.cameras[self.locked_camera]
        return camera.width, camera.height

    def recording(
        self, out: Path, width: int, height: int, step: int = 1
    ) -> tuple[RecordSettings, Iterator[tuple[int, RenderRequest]]]:
        """The clock's range as a recording: its settings, its frames one by one."""
        frames = range(self.clock.first, self.clock.last + 1, step)
        settings = RecordSettings(
            out=out,
            first=frames[0],
            last=frames[-1],
            step=step,
            width=width,
            height=height,
            fps=self.clock.fps,
            background=BACKGROUNDS[self.document.background],
        )
        # Made now: what is edited while it runs is not in it.
        requests = [(frame, self.recorded(frame, width, height)) for frame in frames]
        return settings, iter(requests)

    # ---- messages and files ----

    def say(self, text: str, severity: Severity = "info") -> None:
        """A line for the person."""
        self.messages.append(Message(legible(text), severity, self.now()))

    def content(self) -> dict[str, Any]:
        """Everything that reopens this, for a file of JSON."""
        document = self.document
        return {
            "format": SESSION_FORMAT,
            "version": SESSION_VERSION,
            "avatar": self.avatar,
            "preset": self.preset,
            "files": self.files,
            "stills": {name: pose.tolist() for name, pose in self.stills.items()},
            "motion": document.motion,
            "frame": self.clock.frame,
            "range": [self.clock.first, self.clock.last],
            "speed": self.clock.speed,
            "loop": self.clock.loop,
            "view": self.view.as_json(),
            "camera": self.locked_camera,
            "follows root": self.follows_root,
            "edit": document.edit.as_json(),
            "path": document.path.as_json(),
            "look": vars(document.look),
            "overlays": vars(document.overlays),
            "background": document.background,
            "up": document.up,
        }

    def save(self, path: str | Path) -> None:
        """Write a session file, whole or not at all. Raises: InputError."""
        write_text(Path(path), json.dumps(self.content(), indent=1) + "\n")
        self.file, self._saved = Path(path).resolve(), self.work
        self._remember(str(self.file))
        self.say(f"{path}: session saved")

    def load(self, path: str | Path) -> None:
        """Reopen a saved session. Raises: InputError, and everything stays as it was."""
        self.restore(path)
        self.file, self._saved = Path(path).resolve(), self.work
        self._remember(str(self.file))

    def restore(self, path: str | Path) -> None:
        """Take a session's content as unsaved work. Raises: InputError, and nothing changes."""
        content = read_session(Path(path))
        with self._all_or_nothing():
            try:
                self._restore(content)
            except InputError as error:
                raise bad(path, None, str(error)) from error
            except OF_A_FILE as error:
                raise bad(path, None, f"expected a session of this program ({error})") from error

    def _restore(self, content: dict[str, Any]) -> None:
        _check_choice("preset", content["preset"], (None, *get_args(Preset)))
        _check_choice("up", content["up"], (None, *UPS))
        self._open(content["avatar"], None, content["preset"], content["up"])
        self.clock.pause()
        for name in map(str, content["files"]):
            if name.lower().endswith((".motion", ".bvh")):
                self._add_motion(name)
            else:
                self._add_cameras(name)
        self._restore_stills(content["stills"])
        _check_choice("motion", content["motion"], tuple(self.motions))
        _check_choice("background", content["background"], tuple(BACKGROUNDS))
        self.history = History(
            Document(
                motion=content["motion"],
                edit=self._edit_from(content["edit"]),
                path=CameraPath.from_json(content["path"]),
                look=look_from_json(content["look"]),
                overlays=Overlays.from_json(content["overlays"]),
                background=content["background"],
                up=self.document.up,
            )
        )
        self._follow_document()
        self._restore_clock(content)
        self.view = View.from_json(content["view"])
        self.follows_root = content["follows root"]
        if content["camera"] in self.cameras:
            self.locked_camera = content["camera"]

    def _edit_from(self, content: object) -> PoseEdit:
        edit = PoseEdit.from_json(content, None if self.is_static else self.character.skeleton)
        if self.is_static and edit.values:
            raise InputError(f"edit: expected no values: {NOTHING_TO_MOVE}")
        return edit

    def _restore_clock(self, content: dict[str, Any]) -> None:
        if len(content["range"]) != 2:
            found = show(str(content["range"]))
            raise InputError(f"range: expected a first and a last frame, got {found}")
        first, last = (checked_frame(frame, "range") for frame in content["range"])
        _check_choice("loop", content["loop"], get_args(LoopMode))
        self.clock.last, self.clock.first = last, first
        self.clock.speed = checked_number(content["speed"], "speed", SPEEDS)
        self.clock.loop = content["loop"]
        self.clock.seek(checked_frame(content["frame"], "frame"))

    def _restore_stills(self, stills: dict[str, Any]) -> None:
        count = self.motion.dofs.shape[1]
        for name, values in stills.items():
            numbers = values if isinstance(values, list) else []
            if len(numbers) != count or not all(is_number(v, -LARGEST, LARGEST) for v in numbers):
                raise InputError(f"stills: {show(name)}: expected {count} finite numbers")
            self._add_still(name, torch.tensor(numbers, dtype=torch.float64))


def _check_choice(where: str, found: object, choices: tuple[object, ...]) -> None:
    if found not in choices:
        listed = ", ".join("null" if choice is None else str(choice) for choice in choices)
        raise InputError(f"{where}: expected one of {listed}, got {show(str(found))}")


def _takes_preset(data: DrawableData) -> bool:
    """Tell whether the decoder is ours to choose."""
    if isinstance(data, SplatData) or not VARIANTS[data.variant].has_presets:
        return False
    return "decoder" not in data.networks


def bundled_motions(data: AvatarData) -> dict[str, Motion]:
    """The motions that come with us, by name."""
    found = sorted(resource("assets").rglob("motions/*.motion"))
    return {path.stem: read_motion(path, data.skeleton) for path in found}
