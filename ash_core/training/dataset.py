"""Batches of a training: poses with their meshes, the cameras of each, and their order.

Everything that is drawn at random follows from the seed and the step alone, so that a training that
goes on after a kill sees what it would have seen.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ash_core.avatar import Avatar
from ash_core.character import Character
from ash_core.errors import InputError
from ash_core.files.dataset import Plan, SplitData
from ash_core.files.tensors import read_tensors, write_tensors
from ash_core.geometry.camera import crop_camera
from ash_core.geometry.motion import pose_keys
from ash_core.pose_windows import window_at
from ash_core.records import AvatarData, Camera, PosedMesh, PosePlace, PoseWindow, to_device
from ash_core.splat.cuda import Views
from ash_core.training.config import TrainConfig
from ash_core.training.patches import PartPatches
from ash_core.training.pictures import Pictures, Progress
from ash_core.training.warmup import WarmUpTarget

CACHE_VERSION = "2"
"""Changes with what the cache file holds."""
TEST_EACH = 12
"""One camera in so many is kept for testing."""
ROUNDING = 16
"""Sides of windows are multiples of this."""
USUAL = 0.95
"""The part of the boxes that a window holds whole."""


class View(NamedTuple):
    """One photograph."""

    frame: int
    camera: int
    path: Path


@dataclass(frozen=True)
class Batch:
    """One pose and its views, of fixed shapes; tensors on the device."""

    frame: int
    numbers: tuple[int, ...]
    """Numbers of the cameras."""
    mesh: PosedMesh
    window: PoseWindow
    cameras: tuple[Camera, ...]
    pixels: UInt8[Tensor, "v h w 4"]
    backgrounds: Float[Tensor, "v 3"]
    target: WarmUpTarget | None = None
    """Target of the published first phase, while it lasts."""
    corners: Int[Tensor, "v k 2"] | None = None
    """Left and top of each view's patches, px; None: no patches are compared."""
    place: PosePlace | None = None
    """Place among the refined poses, where poses are refined."""
    views: Views | None = None
    """The cameras on a GPU, at a fixed place: a graph is captured around them."""


def test_cameras(choice: str, cameras: Sequence[int], plan: Plan | None) -> tuple[int, ...]:
    """The cameras that are not trained on, of those that have photographs.

    plan: of a configuration, which decides where the choice is left to us.
    """
    if choice == "auto" and plan is not None:
        return tuple(camera for camera in cameras if camera not in plan.train_cameras)
    if choice == "none" or (choice == "auto" and len(cameras) < 3):
        return ()
    if choice == "auto":
        return tuple(cameras[TEST_EACH // 2 :: TEST_EACH]) or (cameras[-1],)
    try:
        chosen = tuple(sorted({int(word) for word in choice.split(",")}))
    except ValueError:
        chosen = (-1,)
    if not set(chosen) <= set(cameras) or set(chosen) == set(cameras):
        held = ",".join(map(str, cameras))
        raise InputError(f"--test-cameras: expected auto, none or some of {held}, got {choice!r}")
    return chosen


def parse_crop(choice: str, boxes: np.ndarray, smallest: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the windows that are compared, at most the smallest picture's."""
    if choice == "auto":
        usual_size = np.quantile(boxes[:, 2:], USUAL, axis=0)
        rounded = (-(-usual_size // ROUNDING) * ROUNDING).astype(int)
    else:
        words = choice.lower().split("x")
        if len(words) != 2 or not all(word.isdigit() and 0 < int(word) < 10**6 for word in words):
            raise InputError(f"--crop: expected auto or WxH such as 512x512, got {choice!r}")
        rounded = np.array([int(word) for word in words])
    width, height = np.minimum(rounded, smallest).tolist()
    return width, height


# ---- meshes ----

OF_POSE = ("vertices", "normals")
"""Fields of a mesh that each pose of a window has; many windows share a pose."""
OF_FRAME = tuple(field.name for field in fields(PosedMesh) if field.name not in OF_POSE)


class Poses:
    """The posed meshes of a split's frames, computed once and kept in a file."""

    def __init__(
        self,
        avatar: Avatar,
        split: SplitData,
        frames: Sequence[int],
        cache: Path,
        progress: Progress,
    ) -> None:
        self.frames = list(frames)
        self.device = avatar.flat.device
        self.windows = [
            window_at(avatar.data, split.motion, frame, device=self.device) for frame in frames
        ]
        key = _key(avatar.data, self.windows)
        path = cache / f"character-{split.name}-{key[:16]}.safetensors"
        stored = _stored(path, key)
        if stored is None:
            stored = _compute(avatar.character, self.windows, progress)
            write_tensors(path, "character cache", stored, {"key": key})
        self._stored = {name: tensor.to(self.device) for name, tensor in stored.items()}
        # The meshes have the cloth.
        self.windows = [
            to_device(replace(window, cloth=None), self.device) for window in self.windows
        ]

    def __len__(self) -> int:
        return len(self.frames)

    def mesh(self, index: int) -> PosedMesh:
        """The mesh of one of the frames."""
        one = {name: self._stored[name][index] for name in OF_FRAME}
        poses = self._stored["poses"][index]
        shared = {name: self._stored[name].index_select(0, poses) for name in OF_POSE}
        return PosedMesh(**one, **shared)


def _key(data: AvatarData, windows: Sequence[PoseWindow]) -> str:
    """A digest of everything that the meshes follow from."""
    digest = hashlib.sha256(CACHE_VERSION.encode())
    records = (data.skeleton, data.skinning, data.template, data.graph)
    tensors = [getattr(record, field.name) for record in records for field in fields(record)]
    tensors += [data.rest_dofs]
    tensors += [part for w in windows for part in (w.dofs, w.normalised, w.cloth)]
    for name in ("spatial_gcn", "delta_gcn"):
        tensors += list(data.networks.get(name, {}).values())
    if data.cloth is not None:
        tensors += [data.cloth.vertices]
    words = [item for item in tensors if item is not None and not isinstance(item, Tensor)]
    digest.update(repr(words).encode())
    digest.update(data.variant.encode())
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _stored(path: Path, key: str) -> dict[str, Tensor] | None:
    """Read an earlier training's meshes; None where there are none, or none whole."""
    if not path.exists():
        return None
    try:
        tensors, about = read_tensors(path, "character cache")
    except InputError:
        return None
    return tensors if about.get("key") == key else None


@torch.no_grad()
def _compute(
    character: Character, windows: Sequence[PoseWindow], progress: Progress
) -> dict[str, Tensor]:
    """Compute each frame's fields, those of each pose, and the poses of each frame's window."""
    device = character.template_vertices.device
    tensors: dict[str, list[Tensor]] = {name: [] for name in (*OF_FRAME, *OF_POSE)}
    numbers: dict[bytes, int] = {}
    poses = []
    for done, window in enumerate(windows, start=1):
        mesh = to_device(character(to_device(window, device)), "cpu")
        for name in OF_FRAME:
            tensors[name].append(getattr(mesh, name).clone())  # not all poses of the window
        for row, key in enumerate(pose_keys(window)):
            if key not in numbers:
                numbers[key] = len(numbers)
                for name in OF_POSE:
                    tensors[name].append(getattr(mesh, name)[row].clone())
            poses.append(numbers[key])
        progress("posed meshes", done, len(windows))
    # Each list goes as its tensor comes: thousands of poses lie in memory little more than once.
    stored = {name: torch.stack(tensors.pop(name)) for name in (*OF_FRAME, *OF_POSE)}
    return stored | {"poses": torch.tensor(poses).reshape(len(windows), -1)}


# ---- what is seen when ----


class Footage:
    """A split's photographs by pose, for training."""

    def __init__(
        self,
        config: TrainConfig,
        split: SplitData,
        frames: Sequence[int],
        cameras: Sequence[int],
        device: torch.device,
        cache: Path,
        progress: Progress,
        patches: PartPatches | None = None,
    ) -> None:
        self.config, self.cameras, self.patches = config, split.cameras, patches
        self.frames = list(frames)
        self.views = views_of(split, frames, cameras)
        self._of_pose: list[list[int]] = [[] for _ in self.frames]
        pose_of = {frame: index for index, frame in enumerate(self.frames)}
        for number, view in enumerate(self.views):
            self._of_pose[pose_of[view.frame]].append(number)
        sizes = [(self.cameras[v.camera].width, self.cameras[v.camera].height) for v in self.views]
        paths = [view.path for view in self.views]
        index = cache / f"images-{split.name}.safetensors"
        self.pictures = Pictures(paths, sizes, config.keep, device, config.workers, progress, index)
        widths, heights = zip(*sizes, strict=True)
        smallest = min(widths), min(heights)
        boxes = self.pictures.boxes[self.pictures.usable]
        self.size = parse_crop(config.crop, boxes, smallest)

    def poses_of(self, step: int, poses_per_step: int) -> list[tuple[int, int]]:
        """(draw, pose) of a step: every pose once, in another order, then again."""
        count, draws = len(self.frames), []
        for draw in range(step * poses_per_step, (step + 1) * poses_per_step):
            epoch, place = divmod(draw, count)
            order = np.random.default_rng((self.config.seed or 0, 0, epoch)).permutation(count)
            draws.append((draw, int(order[place])))
        return draws

    def batch(self, draw: int, pose: int, poses: Poses) -> tuple[int, Batch]:
        """The pose and the views of it that a draw takes; the next pose that has usable ones."""
        while True:
            if not self.pictures.usable[self._of_pose[pose]].any():
                pose = (pose + 1) % len(self.frames)
            elif (batch := self._batch(draw, pose, poses)) is not None:
                return pose, batch

    def _batch(self, draw: int, pose: int, poses: Poses) -> Batch | None:
        """None where a photograph turns out not to be usable: then others are drawn."""
        config, chance = self.config, np.random.default_rng((self.config.seed or 0, 1, draw))
        candidates, count = np.array(self._of_pose[pose]), config.views_per_pose or 1
        # A camera again only when all were taken. All are drawn from, then the unusable are left
        # out: a resumed training, which does not know them yet, ends with the same views.
        usable = int(self.pictures.usable[candidates].sum())
        rounds = [chance.permutation(candidates) for _ in range(-(-count // usable))]
        numbers = np.concatenate([one[self.pictures.usable[one]] for one in rounds])[:count]
        corners = self.pictures.corners(numbers, chance.random((count, 2)), self.size)
        pixels = self.pictures.windows(numbers, corners, self.size)
        if pixels is None:
            return None
        backgrounds = {
            "random": chance.random((count, 3), np.float32),
            "black": np.zeros((count, 3), np.float32),
            "white": np.ones((count, 3), np.float32),
        }[config.background or "black"]
        views = [self.views[number] for number in numbers]
        device, mesh = self.pictures.device, poses.mesh(pose)
        cameras = tuple(
            crop_camera(self.cameras[view.camera], left, top, *self.size)
            for view, (left, top) in zip(views, corners.tolist(), strict=True)
        )
        patch_corners = None
        if self.patches is not None:
            chances = chance.random((count, len(self.patches.names)), np.float32)
            on_device = torch.from_numpy(chances).to(device, non_blocking=True)
            patch_corners = self.patches.corners(mesh, cameras, on_device)
        return Batch(
            frame=self.frames[pose],
            numbers=tuple(view.camera for view in views),
            mesh=mesh,
            window=poses.windows[pose],
            cameras=cameras,
            pixels=pixels,
            backgrounds=torch.from_numpy(backgrounds).to(device, non_blocking=True),
            corners=patch_corners,
        )


def views_of(split: SplitData, frames: Sequence[int], cameras: Sequence[int]) -> list[View]:
    """The photographs of some frames by some cameras, pose by pose."""
    camera_set = set(cameras)
    by_frame: dict[int, list[View]] = {frame: [] for frame in frames}
    for frame, camera in sorted(split.images):
        if frame in by_frame and camera in camera_set:
            by_frame[frame].append(View(frame, camera, split.images[frame, camera]))
    return [view for frame in frames for view in by_frame[frame]]


def cameras_of(split: SplitData) -> list[int]:
    """The cameras that have photographs."""
    return sorted({camera for _, camera in split.images})


def frames_with(split: SplitData, frames: Sequence[int], cameras: Sequence[int]) -> Iterator[int]:
    """Select the frames that have a photograph by one of the cameras."""
    camera_set = set(cameras)
    photographed_frames = {frame for frame, camera in split.images if camera in camera_set}
    return (frame for frame in frames if frame in photographed_frames)
