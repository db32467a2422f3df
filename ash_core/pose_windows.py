"""Windows of poses that an avatar sees in a motion, with its cloth where it is simulated."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ash_core.character import Character
from ash_core.cloth.gpu import solver_on
from ash_core.cloth.live import LiveCloth
from ash_core.cloth.model import restore_model
from ash_core.cloth.swing import AS_FITTED, Swing
from ash_core.cloth.track import ClothTrack
from ash_core.conventions import FPS, HISTORY, R_WORLD_BODY
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.motion import (
    NO_POSES,
    first_frames,
    normalise_poses,
    pose_frames,
    pose_window,
)
from ash_core.geometry.picking import hit_mesh
from ash_core.records import (
    AvatarData,
    Camera,
    Cloth,
    DrawableData,
    Motion,
    PoseWindow,
    SplatData,
    to_device,
)

PICK_M = 0.06
"""Greatest distance from the surface under a pixel to the loose point that it picks."""
TRACKS = 3
"""Tracks that are kept of one motion: those of the last choices of wind, gravity, stiffness."""
CPU = torch.device("cpu")
_worn: "WeakIdKeyDictionary" = WeakIdKeyDictionary()
"""`_Worn` by device, by the looseness of an avatar's cloth, which belongs to that avatar alone."""
_turn = threading.Lock()


class _Worn:
    """Simulation of one avatar's cloth, and its tracks over motions.

    Tracks are kept by the motion's dofs, then by the swing.
    """

    def __init__(self, data: AvatarData, cloth: Cloth, device: torch.device) -> None:
        """data, cloth: on the CPU; device: where cloth is simulated."""
        character, self.device = Character(data), device
        self._linked = to_device(character.linked_vertices(cloth.points), device)
        self.character, self._points = character.to(device), cloth.points.to(device)
        self._history_fps, self.model = data.history_offsets.fps, restore_model(cloth)
        self.solver = solver_on(device, self.model)
        self.tracks = WeakIdKeyDictionary()

    def track(self, motion: Motion, swing: Swing = AS_FITTED) -> ClothTrack:
        """Return the track over a motion; its states are kept as long as the motion is."""
        tracks: OrderedDict[tuple[float, Swing], ClothTrack] | None
        tracks = self.tracks.get(motion.dofs)
        if tracks is None:
            tracks = self.tracks[motion.dofs] = OrderedDict()
        track = tracks.get((motion.fps, swing))
        if track is None:
            takes = first_frames(motion, self.character.skeleton)
            # Not the motion's own tensor, which would keep the track that it is the key of.
            dofs = motion.dofs.detach().to(self.device, torch.float64, copy=True)
            rate = motion.fps / (self._history_fps or motion.fps)

            def inputs(first: int, stop: int) -> Sequence[Any]:
                rows = [
                    [max(frame - round(n * rate), takes[frame]) for n in reversed(range(HISTORY))]
                    for frame in range(first, stop)
                ]
                poses = dofs[torch.tensor(rows)]
                normalised = normalise_poses(poses, self.character.skeleton)
                return self.posed(poses[:, -1], normalised)

            track = ClothTrack(self.solver, inputs, takes, motion.fps, swing.around)
            tracks[motion.fps, swing] = track
        tracks.move_to_end((motion.fps, swing))
        while len(tracks) > TRACKS:
            tracks.popitem(last=False)
        return track

    @torch.no_grad()
    def posed(self, dofs: torch.Tensor, normalised: torch.Tensor) -> list[Any]:
        """Pose what the cloth hangs on. dofs [b, D], normalised [b, 3, D]."""
        character, points = self.character, self._points
        joints, _, relative = character.bone_transforms(dofs)
        if character.spatial_gcn is None:
            nodes = character.node_transforms(relative)
            rest = character.template_vertices[points].expand(len(dofs), -1, -1)
            goals = dq.apply(*character.blend_links(*nodes, self._linked), rest)
        else:
            goals = character.skinned(dofs, normalised)[1][:, points]
        return self.solver.inputs(goals, joints)


def worn_by(data: AvatarData, device: torch.device = CPU) -> _Worn | None:
    """Return the simulation of an avatar's cloth on a device; None where it has none."""
    if data.cloth is None:
        return None
    key = data.cloth.looseness
    by_device = _worn.get(key)
    if by_device is None:
        by_device = _worn[key] = {}
    if device not in by_device:
        # A copy: a value that holds its own key would stay for ever.
        cpu = to_device(replace(data, cloth=replace(data.cloth, looseness=key.clone())), "cpu")
        assert cpu.cloth is not None
        by_device[device] = _Worn(cpu, cpu.cloth, device)
    return by_device[device]


def window_at(
    data: DrawableData,
    motion: Motion,
    frame: int,
    swing: Swing = AS_FITTED,
    device: torch.device = CPU,
) -> PoseWindow:
    """Make the window that a drawable sees at a frame, on the CPU; static splats see no pose.

    The cloth of a frame is the same whatever was shown before. device: where it is simulated.
    Raises: InputError for a frame that the motion does not have.
    """
    if isinstance(data, SplatData):
        return NO_POSES
    window = pose_window(motion, frame, data.skeleton, data.history_offsets)
    return with_cloth(window, data, motion, frame, swing, device)


def with_cloth(
    window: PoseWindow,
    data: AvatarData,
    motion: Motion,
    frame: int,
    swing: Swing = AS_FITTED,
    device: torch.device = CPU,
) -> PoseWindow:
    """Add the simulated cloth to the window at a frame of a motion; none where it is off."""
    worn = worn_by(data, device) if swing.is_on else None
    if worn is None:
        return window
    frames = pose_frames(motion, frame, data.skeleton, data.history_offsets)
    with _turn:
        places = torch.from_numpy(worn.track(motion, swing).places(frames))
    return replace(window, cloth=places)


def prepare_cloth(
    data: AvatarData,
    motion: Motion,
    frame: int,
    swing: Swing,
    steps: int,
    device: torch.device = CPU,
) -> bool:
    """Take so many steps of a track on the way to a window; True once it takes no more."""
    worn = worn_by(data, device) if swing.is_on else None
    if worn is None:
        return True
    frames = pose_frames(motion, frame, data.skeleton, data.history_offsets)
    with _turn:
        return worn.track(motion, swing).approach(frames, steps)


def pick_cloth(
    data: AvatarData, window: PoseWindow, camera: Camera, x_px: float, y_px: float
) -> tuple[int, tuple[float, float, float]] | None:
    """Find the loose point under a pixel, and its place, m, world; None where there is none.

    What lies before the cloth hides it. A lining is held by the nearest point of the outer layer.
    """
    worn = worn_by(data)
    if worn is None or window.cloth is None:
        return None
    with _turn, torch.no_grad():
        vertices = worn.character(window).vertices[0].numpy() @ np.array(R_WORLD_BODY).T
    hit = hit_mesh(camera, vertices, data.template.faces.cpu().numpy(), x_px, y_px)
    loose = np.flatnonzero(worn.model.looseness > 0)
    if hit is None or not len(loose):
        return None
    points = vertices[worn.model.vertices[loose]]
    distances = np.linalg.norm(points - hit, axis=1)
    nearest = int(distances.argmin())
    if distances[nearest] > PICK_M:
        return None
    x, y, z = points[nearest].tolist()
    return int(loose[nearest]), (x, y, z)


class LiveWindows:
    """Cloth of poses as they are shown: sliders, drags, mocap, at any frame rate.

    On the CPU: a frame at a time, the launches of a pose take longer than its work.
    """

    def __init__(self, data: AvatarData, worn: _Worn, of_motion: _Worn) -> None:
        """worn: on the CPU; of_motion: where the cloth of motions is simulated."""
        offsets = data.history_offsets
        self._worn, self._of_motion, self._fps = worn, of_motion, offsets.fps or FPS
        self._seconds_ago = [frames / self._fps for frames in offsets.frames]
        self._live = LiveCloth(worn.solver, self._seconds_ago[-1])

    @staticmethod
    def of(data: AvatarData, device: torch.device = CPU) -> "LiveWindows | None":
        """Make those of an avatar; None without cloth. device: of the cloth of motions."""
        worn, of_motion = worn_by(data), worn_by(data, device)
        if worn is None or of_motion is None:
            return None
        return LiveWindows(data, worn, of_motion)

    def begin(
        self,
        motion: Motion,
        frame: int,
        time_s: float,
        swing: Swing = AS_FITTED,
        is_paused: bool = False,
    ) -> None:
        """Begin as if a motion had been shown until a frame, which is now.

        is_paused: nothing moves on from there.
        """
        first = first_frames(motion, self._worn.character.skeleton)[frame]
        steps = round(self._seconds_ago[-1] * motion.fps) + 1
        frames = range(max(first, frame - steps), frame + 1)
        with _turn:
            track = self._of_motion.track(motion, swing)
            places, state = track.places(frames), track.solver.on_cpu(track.state(frame))
        if is_paused:
            state = replace(state, velocities=0.0 * state.velocities, drift=0.0 * state.drift)
        times_s = [time_s - (frame - one) / motion.fps for one in frames]
        self._live.begin(state, times_s, places)

    def settle(self, dofs: Float[Tensor, "P D"], time_s: float, swing: Swing = AS_FITTED) -> None:
        """Begin at rest in a pose. dofs: the last poses, the newest last."""
        self._live.settle(self._inputs(dofs), time_s, swing.around)

    def push(
        self,
        dofs: Float[Tensor, "P D"],
        time_s: float,
        swing: Swing = AS_FITTED,
        pull: tuple[int, tuple[float, float, float]] | None = None,
    ) -> None:
        """Advance to a pose and its time. dofs: the last poses, the newest last.

        pull: a loose point, and the place to which it is pulled; m, world.
        """
        around = swing.around
        if pull is not None:
            x, y, z = (np.array(pull[1]) @ np.array(R_WORLD_BODY)).tolist()
            around = replace(around, grab=(pull[0], (x, y, z)))
        self._live.push(self._inputs(dofs), time_s, around)

    def place_of(self, point: int) -> tuple[float, float, float]:
        """Return the present place of a point; m, world."""
        place = self._live.places([0.0])[0, point].astype(np.float64)
        x, y, z = (np.array(R_WORLD_BODY) @ place).tolist()
        return x, y, z

    def _inputs(self, dofs: Float[Tensor, "P D"]) -> Any:
        rows = normalise_poses(dofs[None, -HISTORY:].double(), self._worn.character.skeleton)
        return self._worn.posed(dofs[-1:].double(), rows)[0]

    def places(self) -> Float[Tensor, "H W 3"]:
        """Return the cloth of a window of the poses that were shown, m."""
        return torch.from_numpy(self._live.places(self._seconds_ago))
