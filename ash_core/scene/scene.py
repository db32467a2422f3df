"""A scene: one avatar with its motions and cameras, its edits, and any frame of it as a request.

No window, clock or terminal: notes go to a callable that is handed in. Frames of a window, of a
recording and of a notebook come from `Scene` alone.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.cloth.swing import Swing
from ash_core.conventions import Up
from ash_core.errors import InputError
from ash_core.files.cameras.files import is_camera_file, read_straight
from ash_core.files.cameras.record import Reading
from ash_core.files.dataset import stretch_camera
from ash_core.files.io import bad, show, write_text
from ash_core.files.skeletool import read_motion
from ash_core.files.splats import is_splats, turn_splats
from ash_core.geometry.axes import UPS, turn_camera, world_rotation
from ash_core.geometry.camera import cameras_by_name, resize_camera
from ash_core.geometry.framing import joint_positions, make_outline
from ash_core.geometry.motion import NO_POSES, check_frame
from ash_core.look import Mode
from ash_core.pose_windows import with_cloth
from ash_core.records import AvatarData, Camera, DrawableData, Motion, PoseWindow, SplatData
from ash_core.render import Renderer, RenderRequest
from ash_core.rendered_image import RenderedImage
from ash_core.scene.document import BACKGROUNDS, Document, History, Overlays
from ash_core.scene.joint_tree import JointNode, joint_tree
from ash_core.scene.open import (
    BUILT_IN,
    BUNDLED,
    FIRST_MOTION,
    FITTED_SUFFIXES,
    STILL_FRAMES,
    Device,
    Preset,
    Report,
    bundled_motions,
    find_release,
    fit_motion,
    load_drawable,
    load_motion,
    log_note,
    make_renderer,
    motion_file,
    release_motions,
    still_motion,
)
from ash_core.scene.path_files import read_path, write_path
from ash_core.scene.playback import Playback
from ash_core.scene.pose_edit import LARGEST, PoseEdit, dofs_by_name, window_of
from ash_core.scene.record import DEFAULT_SIZE, Recorded, RecordSettings, Shot, record
from ash_core.scene.revision import Drawn
from ash_core.scene.scene_file import (
    DAMAGE,
    SESSION_FORMAT,
    SESSION_SUFFIX,
    SESSION_VERSION,
    check_choice,
    is_number,
    look_from_json,
    read_session,
    swing_from_json,
)
from ash_core.scene.view import CameraPath, View
from ash_core.variants import VARIANTS

FOV_RAD: Final = math.radians(40.0)
ASPECT: Final = 4 / 3
"""Width over height of the image for which an avatar is framed where no window shows it."""
NOTHING_TO_MOVE: Final = "these are splats of a file: no pose moves them"
REST_FRAMES: Final = 5
"""Frames of a motion that is one pose."""
MOTION_SUFFIXES: Final = (".motion", *FITTED_SUFFIXES)

Work = tuple[PoseEdit, CameraPath, Swing, tuple[tuple[str, tuple[float, ...]], ...], Up | None]
"""Pose, camera path, swing of cloth, kept poses by name, up axis of splats."""


class Scene:
    """One avatar with its motions and cameras, the edits of it, and its frames.

    Raises: InputError for what cannot be opened; everything then stays as it was.

    >>> scene = ash.Scene("ida")
    >>> scene.choose_motion("walk")
    >>> scene.pose({"left_elbow": 1.2})
    >>> scene.render(frame=10, width=64, height=48).rgb.shape
    torch.Size([48, 64, 3])
    >>> scene.undo()
    'pose'
    """

    avatar: str
    """File of the avatar, or the name of a built-in one."""
    data: DrawableData
    renderer = Drawn[Renderer]()
    preset: Preset | None
    """Decoder that was chosen; None: as the avatar's file has it."""
    motions = Drawn[dict[str, Motion]]()
    """Open motions by name."""
    cameras = Drawn[dict[str, Camera]]()
    """Capture cameras by name."""
    files: list[str]
    """Files of motions and cameras that were opened for this avatar."""
    stills: dict[str, Float[Tensor, "D"]]
    """Motions of one pose that were made here."""
    tree: tuple[JointNode, ...]
    """Lines of joints, as `pose` names them."""
    history = Drawn[History]()
    file: Path | None
    """Session file; None until it is saved."""
    view = Drawn[View](by_value=True)
    """Free view."""
    locked_camera = Drawn[str | None](by_value=True)
    """Name of the capture camera that is looked through; None: the free view."""
    follows_root = Drawn[bool](by_value=True)
    """True if the free view moves along with the character."""
    revision: int
    """Count of the changes that alter a frame: a frame of this revision stays as it is."""
    aspect: float = ASPECT
    """Width over height that `home` frames for."""
    _saved: Work

    def __init__(
        self,
        avatar: str = BUNDLED,
        motion: str | None = None,
        device: Device = "auto",
        backend: str = "auto",
        preset: Preset | None = None,
        *,
        file: Path | None = None,
        usual_preset: Preset | None = None,
        up: Up | None = None,
        report: Report = log_note,
    ) -> None:
        """Open an avatar by name, or the session of `file` instead.

        preset: asked for, it goes before any session's own. usual_preset: of avatars that are
        opened without a session, which names its own. up: up axis of a file of splats.
        report: receives notes on what is opened, one line each.
        """
        self.report, self.revision = report, 0
        self._device: Device = device
        self._backend = backend
        self._asked_preset: Preset | None = preset
        self._usual_preset: Preset | None = usual_preset
        self.follows_root, self.locked_camera = False, None
        self._edited: tuple[Motion, PoseEdit, Motion] | None = None
        if file is None:
            self._open_avatar(avatar, motion, usual_preset, up)
        else:
            self.reopen(file)
        if preset is not None and not _takes_preset(self.data):
            text = f"{self.avatar} has a decoder of its own"
            raise InputError(f"--preset: expected none, got {preset}: {text}")

    @staticmethod
    def load(
        path: str | Path,
        device: Device = "auto",
        backend: str = "auto",
        preset: Preset | None = None,
        report: Report = log_note,
    ) -> "Scene":
        """Open a saved session. Raises: InputError."""
        return Scene(file=Path(path), device=device, backend=backend, preset=preset, report=report)

    # ---- what is open ----

    def open(self, path: str) -> None:
        """Open an avatar, a motion, cameras or a session; the file's name says which.

        Raises: InputError, and everything stays as it was.
        """
        with self._all_or_nothing():
            self._open_any(path)

    def add_motion(self, path: str | Path) -> str:
        """Read a .motion, or fit a motion of another program (.bvh, .npz, .pkl; seconds), and play
        it; returns its name."""
        self._check_moves(path)
        if Path(path).suffix.lower() in FITTED_SUFFIXES:
            return self._take_motion(path, fit_motion(path, self.character, self.report))
        return self._take_motion(path, read_motion(Path(path), self.character.skeleton))

    def add_cameras(self, path: str | Path) -> tuple[str, ...]:
        """Read capture cameras of any known format; returns their names. Raises: InputError.

        >>> scene.add_cameras(folder / "cameras.json")
        ('front', 'side')
        """
        up = self.data.up if isinstance(self.data, SplatData) else "z"  # splats' cameras turn, too
        file = read_straight(path, Reading(up=up))
        for text in file.notes:
            self.report(text)
        named = cameras_by_name(camera for camera, _ in file.cameras)
        self.cameras = {**self.cameras, **named}  # another one: it may have to be undone
        self._keep(path)
        self.report(f"{path}: {len(file.cameras)} cameras")
        return tuple(named)

    def keep_still(self) -> None:
        """Make the present pose a motion of its own, and choose it.

        >>> scene.keep_still()
        >>> scene.document.motion, scene.frame_count
        ('dance @ 0', 5)
        >>> scene.undo()
        'motion dance @ 0'
        """
        name = f"{self.document.motion} @ {self.frame}"
        self._add_still(name, self.dofs())
        self.choose_motion(name)

    @property
    def name(self) -> str:
        """Name of the session's file, else of the avatar, as titles show it."""
        return self.data.name if self.file is None else self.file.name

    @property
    def is_static(self) -> bool:
        """True for static splats, which no pose moves: only the camera can be moved."""
        return isinstance(self.data, SplatData)

    @property
    def character(self) -> AvatarData:
        """Avatar that poses move. Raises: InputError where static splats are open."""
        if not isinstance(self.data, AvatarData):
            raise InputError(f"{self.avatar}: expected an avatar: {NOTHING_TO_MOVE}")
        return self.data

    @property
    def work(self) -> Work:
        """Edits that no other file holds."""
        stills = tuple((name, tuple(pose.tolist())) for name, pose in self.stills.items())
        document = self.document
        return document.edit, document.path, document.swing, stills, document.up

    @property
    def unsaved(self) -> bool:
        """True if there are edits that the session's file, if there is one, does not hold."""
        return self.work != self._saved

    def _open_any(self, path: str) -> None:
        suffix = Path(path).suffix.lower()
        if suffix in MOTION_SUFFIXES:
            self._open_motion(path)
        elif is_camera_file(Path(path)) and not is_splats(Path(path)):
            self.add_cameras(path)
        elif suffix == SESSION_SUFFIX:
            self.reopen(path)
        elif (
            suffix in (".safetensors", ".conf", ".character")
            or is_splats(Path(path))
            or path in BUILT_IN
            or Path(path).is_dir()
        ):
            self._open_avatar(path, None, self._usual_preset)
            count = f"{self.renderer.drawable.count:,} splats"
            kind = count if self.is_static else self.character.variant
            self.report(f"{path}: {self.data.name}, {kind}")
        else:
            raise InputError(
                f"{path}: expected an avatar (.safetensors, .conf), splats (.ply, .spz, .sog), "
                "a motion (.motion, .bvh, .npz, .pkl), cameras (.json, .calibration, .yml, a "
                f"COLMAP folder) or a session ({SESSION_SUFFIX})"
            )

    def _open_motion(self, path: str) -> None:
        """Open a motion; a window retargets on a thread instead."""
        self.add_motion(path)

    def _open_avatar(
        self, avatar: str, motion: str | None, preset: Preset | None, up: Up | None = None
    ) -> None:
        # Avatar and its motions; the configuration's own motion comes first.
        release = find_release(avatar)
        name = avatar if release is None else str(release.conf)
        data = load_drawable(name, up, self.report)
        splats = data if isinstance(data, SplatData) else None
        is_built_in = avatar in BUILT_IN
        if isinstance(data, AvatarData) and is_built_in:
            motions = bundled_motions(data)
        else:
            motions = release_motions(release, data)
        own = next(iter(motions), None) if release is not None else None
        files: list[str] = []
        if motion is not None:
            read = load_motion(motion, avatar, data, release, self.report)
            chosen = read.name or Path(motion).stem
            if chosen not in motions and Path(motion).exists():
                files.append(str(motion_file(Path(motion)).resolve()))
            motions[chosen] = read
        elif own is not None:
            chosen = own
        elif motions:
            chosen = FIRST_MOTION if FIRST_MOTION in motions else next(iter(motions))
        else:
            chosen = "still" if splats else "rest"
            motions[chosen] = still_motion(data, STILL_FRAMES if splats else REST_FRAMES)
        if up is not None and splats is None:
            raise InputError(f"{avatar}: --up: expected splats: an avatar is Z up")

        # From here on nothing can fail: a refused file leaves everything as it was.
        preset = (self._asked_preset or preset) if _takes_preset(data) else None
        self.renderer = make_renderer(data, self._device, self._backend, preset, self.report)
        self.preset = preset
        self.avatar = avatar if is_built_in else str(Path(avatar).resolve())
        self.data, self.motions, self.files, self.stills = data, motions, files, {}
        self.tree = joint_tree(data.skeleton) if isinstance(data, AvatarData) else ()

        # Cameras, in the size of the configuration's images.
        size = release.size if release is not None else None
        cameras = [stretch_camera(c, *size) for c in data.cameras] if size else data.cameras
        self.cameras = cameras_by_name(cameras)
        self.history = History(Document(chosen, up=splats.up if splats else None))
        self.file, self._saved = None, self.work
        self.locked_camera = None
        self._begin(plays=own is not None)
        self.home()
        self._remember(self.avatar)

    def _begin(self, plays: bool) -> None:
        """Start anew with another avatar. plays: the motion is a configuration's own."""
        self._timed = self.document.motion
        self._playback = Playback(last=self.frame_count - 1)

    def _remember(self, path: str) -> None:
        """Take note of a file that was opened or saved: a window lists the recent ones."""

    def _check_moves(self, path: str | Path) -> None:
        if self.is_static:
            raise InputError(f"{path}: {self.avatar} holds splats, which no motion moves")

    def _take_motion(self, path: str | Path, motion: Motion) -> str:
        name = motion.name or Path(path).stem
        self.motions = {**self.motions, name: motion}
        self.choose_motion(name)
        self._keep(path)
        self.report(f"{path}: {len(motion.dofs)} frames")
        return name

    def _keep(self, path: str | Path) -> None:
        """Name a file in the session, from wherever it is reopened."""
        whole = str(Path(path).resolve())
        self.files = [*(other for other in self.files if other != whole), whole]
        self._remember(whole)

    def _add_still(self, name: str, dofs: Float[Tensor, "D"]) -> None:
        self.stills = {**self.stills, name: dofs}
        self.motions = {**self.motions, name: Motion(dofs[None].repeat(REST_FRAMES, 1), name=name)}

    # ---- edits ----

    @property
    def document(self) -> Document:
        """Edits in force, one frozen value."""
        return self.history.document

    @property
    def motion(self) -> Motion:
        """Motion that is chosen; set it by its name."""
        return self.motions[self.document.motion]

    @motion.setter
    def motion(self, name: str) -> None:
        self.choose_motion(name)

    def edit(self, label: str, merge: str | None = None, **changes: Any) -> None:
        """Change fields of the document; look, overlays and background without an undo step.

        merge: edits in a row of the same name are one to undo.
        Raises: InputError for an unknown field, background or look.
        """
        names = {field.name for field in fields(Document)}
        if unknown := sorted(changes.keys() - names):
            listed = ", ".join(sorted(names))
            raise InputError(f"edit: expected fields among {listed}, got {', '.join(unknown)}")
        if "background" in changes:
            check_choice("background", changes["background"], tuple(BACKGROUNDS))
        if "look" in changes:
            check_choice("look.mode", changes["look"].mode, get_args(Mode))
        with self._watching():
            self.history.apply(label, replace(self.document, **changes), merge)

    def pose(self, values: Mapping[str, float | Mapping[str, float]]) -> None:
        """Hold dofs at values, m or rad, over every frame of the motion, undoably.

        values: of a dof by its name, or of a joint's dofs: `{"left_elbow": 1.2}` or
        `{"LeftArm": {"left_shoulder_x": 0.3}}`. Raises: InputError for an unknown name.
        """
        held = dofs_by_name(values, self.tree, self.character.skeleton)
        edit = self.document.edit
        self.edit("pose", edit=replace(edit, values={**edit.values, **held}))

    def choose_motion(self, name: str) -> None:
        """Play another of the open motions. Raises: InputError for an unknown name."""
        if name not in self.motions:
            raise InputError(f"motion: expected one of {', '.join(self.motions)}, got {name!r}")
        self.edit(f"motion {name}", motion=name)
        self._follow_document()

    def choose_up(self, up: Up) -> None:
        """Turn splats, and the cameras of their scene, so that an axis of their file is up."""
        if not self.is_static:
            raise InputError("up: expected splats: an avatar stands upright")
        self.edit(f"up axis {up}", up=up)
        self._follow_document()

    def undo(self) -> str | None:
        """Take back the last edit; returns its label, None if there is none.

        >>> scene.pose({"left_elbow": 1.2})
        >>> scene.undo()
        'pose'
        """
        with self._watching():
            label = self.history.undo()
        self._follow_document()
        return label

    def redo(self) -> str | None:
        """Redo what was taken back; returns its label, None if there is nothing.

        >>> scene.pose({"left_elbow": 1.2})
        >>> scene.undo(), scene.redo(), scene.undo()
        ('pose', 'pose', 'pose')
        """
        with self._watching():
            label = self.history.redo()
        self._follow_document()
        return label

    def save_path(self, out: Path) -> None:
        """Write the camera path to a file of its own. Raises: InputError."""
        path = self.document.path
        write_path(out, path)
        self.report(f"{out}: {len(path.keys)} camera keys")

    def load_path(self, file: Path) -> None:
        """Put a file's camera path in the place of the present one. Raises: InputError."""
        path = read_path(file)
        self.edit("load the camera path", path=path)
        beyond = sum(key.frame >= self.frame_count for key in path.keys)
        rest = f", {beyond} behind the motion's end" if beyond else ""
        self.report(f"{file}: {len(path.keys)} camera keys{rest}")

    def touch(self) -> None:
        """Raise the revision: what a frame is drawn of has changed."""
        self.revision += 1

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Raise the revision where the document's frame changes meanwhile."""
        before = self.document.drawn
        yield
        if self.document.drawn != before:
            self.touch()

    def _follow_document(self) -> None:
        """Bring data and playback in line with the document."""
        up = self.document.up
        if isinstance(self.data, SplatData) and up is not None and up != self.data.up:
            self._turn(self.data, up)
        self._follow_motion()

    def _follow_motion(self) -> None:
        """Put another motion's playback at its beginning; speed and loop mode stay."""
        name, playback = self.document.motion, self._playback
        if name != self._timed:
            playback = replace(playback, frame=0, first=0, last=self.frame_count - 1)
        self._timed, self._playback = name, playback.within(self.frame_count)

    def _turn(self, splats: SplatData, up: Up) -> None:
        rotation = world_rotation(up, before=splats.up)
        self.cameras = {name: turn_camera(c, rotation) for name, c in self.cameras.items()}
        self.data = turn_splats(splats, up)
        self.renderer = make_renderer(
            self.data, self._device, self._backend, self.preset, self.report
        )
        self.home()

    # ---- time ----

    @property
    def playback(self) -> Playback:
        """Playhead, in and out points; a window's clock holds them instead."""
        return self._playback

    @playback.setter
    def playback(self, playback: Playback) -> None:
        self._playback = playback.within(self.frame_count)

    @property
    def frame(self) -> int:
        """Frame that is shown where none is named."""
        return self.playback.frame

    @property
    def frame_count(self) -> int:
        """Number of frames of the chosen motion."""
        return len(self.motion.dofs)

    @property
    def fps(self) -> float:
        """Frames a second of the chosen motion."""
        return self.motion.fps

    # ---- where we look from ----

    def home(self) -> None:
        """Look from the front, all of the character in the picture at every time.

        >>> scene.home()
        """
        self.view = View.front_of(self.data, self.motion.dofs, self.aspect, FOV_RAD)
        self.locked_camera = None
        if self.is_static:  # of any size
            self.frame_character()

    def frame_character(self) -> None:
        """Fill the picture with the character as it stands now.

        >>> scene.frame_character()
        """
        self.locked_camera = None
        self.view = self.view.frame_points(self.surface(), self.aspect)

    def look_through(self, name: str | None) -> None:
        """Look through a capture camera, or by the free view. Raises: InputError.

        >>> scene.add_cameras(folder / "cameras.json")
        ('front', 'side')
        >>> scene.look_through("side")
        >>> scene.camera_at(0, 64, 48).name
        'side'
        >>> scene.look_through(None)
        """
        if name is not None:
            self._named_camera(name)
        self.locked_camera = name

    def dofs(self, frame: int | None = None) -> Float[Tensor, "D"]:
        """Return the edited dofs of a frame, float64; m and rad.

        Raises: InputError for a frame that the motion does not have.

        >>> scene.dofs(120).shape == motion.dofs[120].shape
        True
        """
        frame = self.frame if frame is None else frame
        check_frame(frame, self.frame_count, self.document.motion)
        return self.document.edit.apply(self.motion.dofs[frame])

    def surface(self, frame: int | None = None) -> Float[Tensor, "P 3"]:
        """Return the outermost points of a frame's pose; m, world.

        >>> scene.surface(120).shape[1]
        3
        """
        return make_outline(self.data).surface(self.dofs(frame)[None])[0]

    def joints(self, frame: int | None = None) -> Float[Tensor, "J 3"]:
        """Return the joints of a frame's pose; m, world.

        >>> len(scene.joints(120)) == len(scene.character.skeleton.joint_names)
        True
        """
        return joint_positions(self.character.skeleton, self.dofs(frame))

    def camera_at(
        self, frame: int, width: int, height: int, choice: str | Camera | View | None = None
    ) -> Camera:
        """Make the camera of a frame; by default the recording's camera.

        A recording's is the camera path's where it has keys, else the capture camera that is
        looked through, else the free view's. choice: a view, a camera or a capture camera's name.

        >>> scene.camera_at(0, 64, 48, camera).height
        48
        """
        if isinstance(choice, View):
            return choice.camera(width, height)
        if choice is not None:
            camera = self._named_camera(choice) if isinstance(choice, str) else choice
            return resize_camera(camera, width, height)
        keyed = self.document.path.at(frame)
        return self._seen_by(frame, width, height) if keyed is None else keyed.camera(width, height)

    def _named_camera(self, name: str) -> Camera:
        if name not in self.cameras:
            names = ", ".join(self.cameras) or "none"
            raise InputError(f"camera: expected one of the cameras ({names}), got {name!r}")
        return self.cameras[name]

    def _seen_by(self, frame: int, width: int, height: int) -> Camera:
        """Make the camera of the capture camera that is looked through, else of the free view."""
        if self.locked_camera is not None:
            return resize_camera(self.cameras[self.locked_camera], width, height)
        return self._followed(frame).camera(width, height)

    def _followed(self, frame: int) -> View:
        """Move the free view along with the root, from where it stands at the first frame."""
        if not self.follows_root or self.is_static:
            return self.view
        root, start = (
            joint_positions(self.character.skeleton, self.motion.dofs[n])[0] for n in (frame, 0)
        )
        x, y, z = self.view.target
        moved = (root - start).tolist()
        return replace(self.view, target=(x + moved[0], y + moved[1], z))

    # ---- frames ----

    def request(
        self,
        frame: int | None = None,
        width: int = 640,
        height: int = 480,
        camera: str | Camera | View | None = None,
    ) -> RenderRequest:
        """Make the request of a frame of the edited motion, as recordings show it.

        frame: by default the playhead's. camera: see `camera_at`. Raises: InputError.

        >>> scene.request(120, 64, 48).camera.width
        64
        """
        frame = self.frame if frame is None else frame
        return self._request_of(self._window(frame), self.camera_at(frame, width, height, camera))

    def render(
        self,
        frame: int | None = None,
        width: int = 640,
        height: int = 480,
        camera: str | Camera | View | None = None,
    ) -> RenderedImage:
        """Render a frame; arguments as in `request`.

        >>> scene.render(120, 64, 48).to_numpy().shape
        (48, 64, 3)
        """
        return self.renderer.render(self.request(frame, width, height, camera))

    def record(
        self,
        out: str | Path,
        frames: Iterable[int] | None = None,
        width: int | None = None,
        height: int | None = None,
        camera: str | Camera | View | Sequence[Camera] | None = None,
        fps: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Recorded:
        """Write a video (.mp4, .webm, .mov), one image (.png) or a folder of PNGs.

        frames: by default from the in point to the out point. camera: one for every frame, as in
        `request`, or a list with one for each. progress: called with the frames
        done and their number. Raises: InputError for a place or a size that cannot be.

        >>> recorded = scene.record(folder / "ida.mp4", range(100, 103), width=64, height=48)
        >>> recorded.frames, recorded.empty
        (3, 0)
        """
        # Settings; the requests name what is checked against them.
        numbers = list(self._range(1) if frames is None else frames)
        if not numbers:
            raise InputError("frames: expected at least one, got none")
        usual_width, usual_height = self.recording_size()
        size = width or usual_width, height or usual_height
        settings = self._settings(Path(out), range(min(numbers), max(numbers) + 1), *size)
        settings = replace(settings, fps=fps or settings.fps)

        # Progress counts finished frames.
        done = 0

        def count(shot: Shot, pixels: object) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, len(numbers))

        # One camera for each frame.
        if isinstance(camera, Sequence) and not isinstance(camera, str):
            cameras: list[str | Camera | View | None] = [*camera]
        else:
            cameras = [camera] * len(numbers)
        if len(cameras) != len(numbers):
            raise InputError(f"camera: expected {len(numbers)}, one a frame, got {len(cameras)}")

        # The one recording loop.
        shots = [Shot(n, self.request(n, *size, c)) for n, c in zip(numbers, cameras, strict=True)]
        return record(self.renderer, shots, settings.open(len(numbers)), after=count)

    def recording(
        self, out: Path, width: int, height: int, step: int = 1
    ) -> tuple[RecordSettings, list[Shot]]:
        """Prepare a recording from the in point to the out point: its settings and its shots.

        The shots are made now: what is edited while it runs is not in it.
        """
        frames = self._range(step)
        shots = [Shot(frame, self.request(frame, width, height)) for frame in frames]
        return self._settings(out, frames, width, height), shots

    def recording_size(self, preferred: tuple[int, int] | None = None) -> tuple[int, int]:
        """Choose a recording's size: that of the capture camera looked through, else preferred.

        preferred: (width, height) where no capture camera says; by default 1280x960.
        """
        if self.locked_camera is None or self.document.path.keys:
            return preferred or DEFAULT_SIZE
        camera = self.cameras[self.locked_camera]
        return camera.width, camera.height

    def _range(self, step: int) -> range:
        playback = self.playback
        return range(playback.first, playback.last + 1, step)

    def _settings(self, out: Path, frames: range, width: int, height: int) -> RecordSettings:
        return RecordSettings(
            out=out,
            first=frames[0],
            last=frames[-1],
            step=frames.step,
            width=width,
            height=height,
            fps=self.fps,
            background=BACKGROUNDS[self.document.background],
        )

    def _window(self, frame: int) -> PoseWindow:
        if self.is_static:
            return NO_POSES
        edit, character = self.document.edit, self.character
        skeleton, offsets = character.skeleton, character.history_offsets
        window = window_of(self.motion, frame, edit, skeleton, offsets)
        if character.cloth is None:
            return window
        motion, swing = self._edited_motion(), self.document.swing
        return with_cloth(window, character, motion, frame, swing, self.renderer.device)

    def _edited_motion(self) -> Motion:
        """Return the whole motion as edited: the cloth of a frame depends on those before it."""
        motion, edit = self.motion, self.document.edit
        if edit.changes_nothing:
            return motion
        if self._edited is None or self._edited[0] is not motion or self._edited[1] != edit:
            self._edited = motion, edit, replace(motion, dofs=edit.apply(motion.dofs))
        return self._edited[2]

    def _request_of(self, window: PoseWindow, camera: Camera) -> RenderRequest:
        background = BACKGROUNDS[self.document.background]
        return RenderRequest(window, camera, background, self.document.look)

    # ---- the session file ----

    def content(self) -> dict[str, Any]:
        """Return everything that reopens this, for a file of JSON."""
        document = self.document
        return {
            "format": SESSION_FORMAT,
            "version": SESSION_VERSION,
            "avatar": self.avatar,
            "preset": self.preset,
            "files": self.files,
            "stills": {name: pose.tolist() for name, pose in self.stills.items()},
            "motion": document.motion,
            **self.playback.as_json(),
            "view": self.view.as_json(),
            "camera": self.locked_camera,
            "follows root": self.follows_root,
            "edit": document.edit.as_json(),
            "path": document.path.as_json(),
            "swing": vars(document.swing),
            "look": vars(document.look),
            "overlays": vars(document.overlays),
            "background": document.background,
            "up": document.up,
        }

    def save(self, path: str | Path) -> None:
        """Write a session file, whole or not at all. Raises: InputError."""
        write_text(Path(path), json.dumps(self.content(), indent=1) + "\n")
        self._mark_saved(path)
        self.report(f"{path}: session saved")

    def reopen(self, path: str | Path) -> None:
        """Reopen a saved session here. Raises: InputError, and everything stays as it was."""
        self.restore(path)
        self._mark_saved(path)

    def restore(self, path: str | Path) -> None:
        """Take a session's content as unsaved work. Raises: InputError, and nothing changes."""
        content = read_session(Path(path))
        with self._all_or_nothing():
            try:
                self._restore(content)
            except InputError as error:
                raise bad(path, None, str(error)) from error
            except DAMAGE as error:
                raise bad(path, None, f"expected a session of this program ({error})") from error

    def _mark_saved(self, path: str | Path) -> None:
        self.file, self._saved = Path(path).resolve(), self.work
        self._remember(str(self.file))

    def _restore(self, content: dict[str, Any]) -> None:
        # Avatar, motions, cameras and kept poses.
        check_choice("preset", content["preset"], (None, *get_args(Preset)))
        check_choice("up", content["up"], (None, *UPS))
        self._open_avatar(content["avatar"], None, content["preset"], content["up"])
        for name in map(str, content["files"]):
            if name.lower().endswith(MOTION_SUFFIXES):
                self.add_motion(name)
            else:
                self.add_cameras(name)
        self._restore_stills(content["stills"])

        # Document.
        check_choice("motion", content["motion"], tuple(self.motions))
        check_choice("background", content["background"], tuple(BACKGROUNDS))
        self.history = History(
            Document(
                motion=content["motion"],
                edit=self._edit_from(content["edit"]),
                path=CameraPath.from_json(content["path"]),
                swing=swing_from_json(content["swing"]),
                look=look_from_json(content["look"]),
                overlays=Overlays.from_json(content["overlays"]),
                background=content["background"],
                up=self.document.up,
            )
        )
        self._follow_document()

        # Playback and view.
        self.playback = Playback.from_json(content)
        self.view = View.from_json(content["view"])
        self.follows_root = content["follows root"]
        if content["camera"] in self.cameras:
            self.locked_camera = content["camera"]

    def _edit_from(self, content: object) -> PoseEdit:
        edit = PoseEdit.from_json(content, None if self.is_static else self.character.skeleton)
        if self.is_static and edit.values:
            raise InputError(f"edit: expected no values: {NOTHING_TO_MOVE}")
        return edit

    def _restore_stills(self, stills: dict[str, Any]) -> None:
        count = self.motion.dofs.shape[1]
        for name, values in stills.items():
            numbers = values if isinstance(values, list) else []
            if len(numbers) != count or not all(is_number(v, -LARGEST, LARGEST) for v in numbers):
                raise InputError(f"stills: {show(name)}: expected {count} finite numbers")
            self._add_still(name, torch.tensor(numbers, dtype=torch.float64))

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Undo every assignment to a field where something fails."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise


def open_scene(
    name: str | Path,
    motion: str | None = None,
    device: Device = "auto",
    backend: str = "auto",
    preset: Preset | None = None,
    up: Up | None = None,
    report: Report = log_note,
) -> Scene:
    """Open an avatar, splats, a configuration's folder or a session by name.

    name: of a built-in avatar, or a file: .safetensors, .conf, .character, .ply, .spz, .sog,
    .ash-session. motion: file or name, by default the avatar's own. Raises: InputError.

    >>> scene = ash.open("ida", motion="dance")
    >>> scene.fps, scene.request(frame=120, width=64, height=48).camera.width
    (25.0, 64)
    """
    name = str(name)
    if not name.endswith(SESSION_SUFFIX):
        return Scene(name, motion, device, backend, preset, up=up, report=report)
    if motion is not None or up is not None:
        raise InputError(f"{name}: expected no motion and no up axis: a session has its own")
    return Scene.load(name, device, backend, preset, report)


def _takes_preset(data: DrawableData) -> bool:
    """Tell whether the decoder is ours to choose."""
    if isinstance(data, SplatData) or not VARIANTS[data.variant].has_presets:
        return False
    return "decoder" not in data.networks
