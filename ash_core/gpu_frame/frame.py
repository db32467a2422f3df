"""Whole frames on the GPU: a window of poses and a camera in, an image out, without waiting.

Four stages: pose (character), map (motion map), decode (networks in half precision), raster (skin,
project, blend). Poses, map and decoder, and the raster are each captured once as a CUDA graph.
Poses and decoded windows are cached: turning the camera costs the raster stage alone.
"""

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ash_core.avatar import (
    LOG_SCALE_LIMIT,
    OFFSET_STEP_M,
    OPACITY_LOGIT,
    Avatar,
    NativeAvatar,
    ReleasedAvatar,
)
from ash_core.conventions import HISTORY, R_WORLD_BODY
from ash_core.errors import CudaError, InputError
from ash_core.geometry.motion import pose_keys
from ash_core.geometry.rotations import matrix_to_quat
from ash_core.geometry.texel_frames import STRETCH
from ash_core.gpu.kernels import Program
from ash_core.gpu_frame.character import PoseStage, count_cloth
from ash_core.gpu_frame.convolutions import KERNELS, PACK
from ash_core.gpu_frame.decoders import NativeNetwork, ReleasedNetworks, supports_side
from ash_core.records import AvatarData, Camera, Image, PoseWindow
from ash_core.splat import cuda as splat

_log = logging.getLogger(__name__)

_WORLD: Final = matrix_to_quat(torch.tensor(R_WORLD_BODY)).tolist()
PROGRAM: Final = Program(
    splat.KERNELS / "projected.cu",
    splat.KERNELS / "bin.cu",
    KERNELS / "splat_avatar.cu",
    defines={
        **splat.FORWARD.defines,
        **{f"WORLD_{axis}": value for axis, value in zip("WXYZ", _WORLD, strict=True)},
        "OFFSET_STEP_M": OFFSET_STEP_M,
        "LOG_SCALE_LIMIT": LOG_SCALE_LIMIT,
        "OPACITY_LOGIT": OPACITY_LOGIT,
        "STRETCH_LEAST": STRETCH[0],
        "STRETCH_MOST": STRETCH[1],
    },
)

Colour = tuple[float, float, float]
Output = Literal["float", "rgba8"]
Kind = tuple[tuple[int, int], Output, float]
"""Size, output and rounding of an image."""
STAGES: Final = {"P": "deform", "M": "maps", "D": "decode", "R": "raster"}
"""Letter of each stage, and its name among the timings."""
RINGS: Final = 2
"""Buffers for images in bytes, used in turn: one may be shown while the next is rendered."""


class Frames:
    """Frames of one avatar on one GPU, for one stream.

    Weights are copied now. Raises: CudaError for an avatar that the kernels do not support.
    """

    def __init__(self, avatar: Avatar, device: torch.device) -> None:
        self.device = device
        self.captures = device.type == "cuda"
        """False after a failed capture: stages are then launched one by one."""
        self._inputs = _Inputs(avatar.data, device)
        self._pose = PoseStage(avatar, device, buffers=self._inputs.of_pose)
        self._decoder = _decoder_of(avatar, self._pose, self._inputs, device)
        if device.type == "cuda":
            PROGRAM.load(device)
            splat.FORWARD.load(device)
        self._decoder.warm_up()
        self._pool = torch.cuda.graph_pool_handle() if self.captures else None
        self._capturing = torch.cuda.Stream(device) if self.captures else None
        self._graphs: dict[tuple[str, object], torch.cuda.CUDAGraph] = {}
        self._slots: OrderedDict[bytes, int] = OrderedDict()
        self._decoded: tuple[bytes, ...] | None = None
        self._policy = splat.CapacityPolicy(device)
        self._target: _Target | None = None
        self._turn = 0

    def image(
        self,
        window: PoseWindow,
        camera: Camera,
        background: Colour | None,
        timings: dict[str, float] | None = None,
    ) -> Image:
        """Render an image in floats.

        window: on the CPU. timings: receives the latency of each stage, ms, with a synchronise
        after it.
        """
        target = self._aim(camera, "float", 0.0)
        self._draw(window, background, target, timings)
        return target.image()

    def rgba8(
        self,
        window: PoseWindow,
        camera: Camera,
        background: Colour | None,
        rounding: float = 0.5,
        timings: dict[str, float] | None = None,
    ) -> UInt8[Tensor, "h w 4"]:
        """Render premultiplied colours (value x 255 + rounding, truncated) and coverage in bytes.

        Returns a buffer that the next call but one overwrites.
        """
        target = self._aim(camera, "rgba8", rounding)
        self._draw(window, background, target, timings)
        return target.rgba8()

    def surface(
        self, window: PoseWindow
    ) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "V 3"]] | None:
        """Return vertices (m) and normals of a window's newest pose, body frame, on the GPU.

        None if it is no longer cached. window: on the CPU. Valid until the next frame.
        """
        slot = self._slots.get(_keys(window)[0])
        return None if slot is None else (self._pose.vertices[slot], self._pose.normals[slot])

    def _draw(
        self,
        window: PoseWindow,
        background: Colour | None,
        target: "_Target",
        timings: dict[str, float] | None,
    ) -> None:
        try:
            self._draw_window(window, background, target, timings)
        except BaseException:
            # After an exception no cached state is trusted.
            self._slots.clear()
            self._decoded = self._target = None
            self._graphs = {k: graph for k, graph in self._graphs.items() if "R" not in k[0]}
            raise

    def _draw_window(
        self,
        window: PoseWindow,
        background: Colour | None,
        target: "_Target",
        timings: dict[str, float] | None,
    ) -> None:
        keys = _keys(window)
        missing = [
            i for i, key in enumerate(keys) if key not in self._slots and key not in keys[:i]
        ]
        for i in missing:
            self._slots[keys[i]] = self._free_slot(keys)
        for key in keys:
            self._slots.move_to_end(key)
        slots = [self._slots[key] for key in keys]
        # Poses are launched first: while they run, the longer stages are launched.
        for i in missing[::-1]:
            self._inputs.send(window, i, slots, background)
            self._run("P", target, timings)
        if not missing:
            self._inputs.send(window, 0, slots, background)
        if keys != self._decoded:
            self._decoded = None
            self._run("MD", target, timings)
            self._decoded = keys
        self._run("R", target, timings)

    def _free_slot(self, keys: tuple[bytes, ...]) -> int:
        if len(self._slots) < PoseStage.SLOTS:
            return len(self._slots)
        oldest = next(key for key in self._slots if key not in keys)
        return self._slots.pop(oldest)

    def _aim(self, camera: Camera, output: Output, rounding: float) -> "_Target":
        """Return the bins and buffers for an image: the last frame's where they fit."""
        size = camera.height, camera.width
        self._turn = (self._turn + 1) % RINGS if output == "rgba8" else 0
        views = self._inputs.aim(camera)
        capacity = self._policy.capacity_for(views.tiles, self._decoder.count)
        kind: Kind = size, output, rounding
        target = self._target
        if target is None or target.kind != kind or not target.bins.capacity.covers(capacity):
            self._graphs = {k: graph for k, graph in self._graphs.items() if "R" not in k[0]}
            self._target = target = None  # freed before the next allocation
            count = self._decoder.count
            target = self._target = _Target(kind, views, count, self._policy, self.device)
        target.turn = self._turn
        return target

    def _run(self, stages: str, target: "_Target", timings: dict[str, float] | None) -> None:
        if timings is None:
            self._replay(stages, target)
            return
        for stage in stages:
            torch.cuda.synchronize(self.device)
            start = time.perf_counter()
            self._replay(stage, target)
            torch.cuda.synchronize(self.device)
            name = STAGES[stage]
            timings[name] = timings.get(name, 0.0) + 1e3 * (time.perf_counter() - start)

    def _replay(self, stages: str, target: "_Target") -> None:
        key = stages, target.turn if "R" in stages else None
        graph = self._graphs.get(key)
        if graph is None and self.captures:
            graph = self._capture(stages, target)
            if graph is not None:
                self._graphs[key] = graph
        if graph is None:
            self._launch(stages, target)
        else:
            graph.replay()

    def _capture(self, stages: str, target: "_Target") -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            if "D" in stages:
                self._decoder.run()  # cuDNN chooses its kernels on each thread anew
            options = {"stream": self._capturing, "capture_error_mode": "thread_local"}
            with torch.cuda.graph(graph, pool=self._pool, **options):
                self._launch(stages, target)
        except RuntimeError as error:
            self.captures = False
            _log.warning("frames are not captured as CUDA graphs, and slower: %s", error)
            return None
        return graph

    def _launch(self, stages: str, target: "_Target") -> None:
        for stage in stages:
            if stage == "P":
                self._pose.run()
            elif stage == "M":
                self._pose.motion_map(self._decoder.motion_map)
            elif stage == "D":
                self._decoder.run()
            else:
                self._decoder.splat(target)
                target.blend(self._inputs.background)


class _Inputs:
    """Inputs of a frame from the host, in one copy."""

    def __init__(self, data: AvatarData, device: torch.device) -> None:
        n_dofs, n_poses = len(data.skeleton.dof_names), len(data.history_offsets.frames)
        doubles = (1 + HISTORY) * n_dofs
        # The camera is read in packs of four words.
        n_cloth = count_cloth(data)
        sizes = (2 * doubles, 24, 4, 4, 1, n_poses, 1, 3 * n_cloth)
        words = sum(sizes)
        self._host = torch.zeros(words, dtype=torch.int32)
        self._device = torch.zeros(words, dtype=torch.int32, device=device)
        host = np.frombuffer(self._host.numpy(), np.int32)
        ends = np.cumsum(sizes)
        rows, self._camera, background, root, self._slot, self._window, self._has_cloth, cloth = (
            host[end - size : end] for end, size in zip(ends, sizes, strict=True)
        )
        self._rows = rows.view(np.float64).reshape(1 + HISTORY, n_dofs)
        self._background, self._root = background.view(np.float32), root.view(np.float32)
        self._cloth = cloth.view(np.float32).reshape(n_cloth, 3)
        poses, camera, background, root, slot, window, has_cloth, cloth = self._device.split(sizes)
        rows = poses.view(torch.float64).view(1 + HISTORY, n_dofs)
        self.of_pose = rows, slot, window, cloth.view(torch.float32).view(n_cloth, 3), has_cloth
        self._packed = camera.view(1, 24)
        self.background = background.view(torch.float32)[:3]
        self.root = root.view(torch.float32)[:3]

    def aim(self, camera: Camera) -> splat.Views:
        """Store a camera for the next `send`."""
        words, pixels, tiles = splat.camera_words([camera])
        self._camera[:] = np.frombuffer(words, np.int32)
        return splat.Views(self._packed, ((camera.height, camera.width),), pixels, tiles)

    def send(
        self, window: PoseWindow, pose: int, slots: list[int], background: Colour | None
    ) -> None:
        """Copy one pose of a window and the other inputs of the frame to the device."""
        self._rows[0], self._rows[1:] = window.dofs[pose].numpy(), window.normalised[pose].numpy()
        self._slot[0], self._window[:] = slots[pose], slots
        self._has_cloth[0] = window.cloth is not None
        if window.cloth is not None:
            self._cloth[:] = window.cloth[pose].numpy()
        self._background[:3] = background or (0.0, 0.0, 0.0)
        self._root[:3] = window.dofs[0, :3].numpy()
        # From pageable memory: read before the call returns, and nothing waits.
        self._device.copy_(self._host, non_blocking=True)


class _Target:
    """Tile bins and buffers for images of one size and kind."""

    def __init__(
        self,
        kind: Kind,
        views: splat.Views,
        count: int,
        policy: splat.CapacityPolicy,
        device: torch.device,
    ) -> None:
        self.kind, self.views, self.turn = kind, views, 0
        self.bins = splat.TileBins(views, count, policy, device)
        self._size, output, self._rounding = kind
        self._images = splat.empty_batch(views, device) if output == "float" else None
        bytes_of = (views.pixels, 4)
        self._rgba8 = [
            torch.empty(bytes_of, dtype=torch.uint8, device=device)
            for _ in range(0 if output == "float" else RINGS)
        ]

    def blend(self, background: Tensor) -> None:
        """Blend the bins to this turn's image."""
        rgba8 = self._rgba8[self.turn] if self._rgba8 else None
        splat.blend(self.views, self.bins, background, self._images, rgba8, rounding=self._rounding)

    def image(self) -> Image:
        """Copy the image, which the next frame overwrites."""
        assert self._images is not None
        (image,) = splat.split_batch(self._images, self.views)
        return Image(image.rgb.clone(), image.alpha.clone(), image.depth.clone())

    def rgba8(self) -> UInt8[Tensor, "h w 4"]:
        """Return this turn's buffer."""
        return self._rgba8[self.turn].view(*self._size, 4)


@dataclass(frozen=True)
class _Texels:
    """The atlas in the layout of the kernels."""

    corners: Tensor
    """int32 [N, 4]: vertices of the texel's face, position of its values."""
    weights: Tensor
    """[N, 4]: barycentrics, index of the heaviest."""

    @staticmethod
    def of(avatar: Avatar, places: Tensor, device: torch.device) -> "_Texels":
        atlas = avatar.atlas
        corners = torch.cat((atlas.corners, places.to(atlas.corners)[:, None]), 1)
        heaviest = atlas.barycentrics.argmax(-1, keepdim=True).float()
        return _Texels(
            corners.to(device, torch.int32).contiguous(),
            torch.cat((atlas.barycentrics, heaviest), 1).to(device).contiguous(),
        )


class _ReleasedDecoder:
    """The published networks and the skinning of their output."""

    def __init__(
        self, avatar: ReleasedAvatar, pose: PoseStage, inputs: _Inputs, device: torch.device
    ) -> None:
        side = avatar.atlas.resolution
        if not supports_side(side):
            raise CudaError(f"an atlas of {side} is not a multiple of 32: the plain path takes it")
        self._networks = ReleasedNetworks(
            avatar.geometry,
            avatar.appearance,
            avatar.data.root_translation,
            device,
            side,
            root=inputs.root,
        )
        self.motion_map = self._networks.motion_map.permute(0, 2, 3, 1)
        self._texels = _Texels.of(avatar, avatar.flat, device)
        self.count, self._pose = len(avatar.flat), pose
        self._outputs: tuple[Tensor, Tensor] | None = None

    def warm_up(self) -> None:
        self._networks.warm_up()
        self.run()

    def run(self) -> None:
        geometry, appearance = self._networks.run()
        self._outputs = geometry.permute(0, 2, 3, 1), appearance.permute(0, 2, 3, 1)

    def splat(self, target: _Target) -> None:
        """Splat the values of the networks into a target's tile bins."""
        assert self._outputs is not None
        pose, texels = self._pose, self._texels
        _splat(
            "splat_released", target, self.count,
            self.count, texels.corners, texels.weights, pose.canonical, pose.transforms,
            pose.window, pose.canonical.shape[1], *self._outputs,
        )  # fmt: skip


class _NativeDecoder:
    """Our decoder and the skinning of its output."""

    def __init__(self, avatar: NativeAvatar, pose: PoseStage, device: torch.device) -> None:
        atlas, frames = avatar.atlas, avatar.frames
        if avatar.config.width % PACK:
            raise CudaError(
                f"a decoder of width {avatar.config.width} is not a multiple of {PACK}: the plain "
                "path takes it"
            )
        self._network = NativeNetwork(avatar.decoder, device, atlas.resolution)
        self.motion_map = self._network.motion_map.permute(0, 2, 3, 1)
        u, v = atlas.texels.unbind(1)
        pixels = u // 2 * (atlas.resolution // 2) + v // 2
        self._texels = _Texels.of(avatar, 4 * pixels + u % 2 * 2 + v % 2, device)
        none = torch.zeros_like(frames.scales[:, :1])
        lengths = frames.face_lengths[atlas.faces]
        rows = (
            frames.quats,
            torch.cat((frames.scales, none), 1),
            frames.face_axes[atlas.faces].flatten(1),
            torch.cat((lengths, none, none), 1),
        )
        self._frames = torch.stack(rows, 1).to(device).contiguous()
        self._base_sh = avatar.base_sh.to(device).contiguous()
        self._bases = (avatar.config.sh_degree + 1) ** 2
        self._offset_limit_m = avatar.offset_limit_m
        self.count, self._pose = len(atlas.faces), pose
        self._output: Tensor | None = None

    def warm_up(self) -> None:
        self._network.warm_up()
        self.run()

    def run(self) -> None:
        self._output = self._network.run().permute(0, 2, 3, 1)

    def splat(self, target: _Target) -> None:
        """Splat the values of the network into a target's tile bins."""
        assert self._output is not None
        pose, texels = self._pose, self._texels
        _splat(
            "splat_native", target, self.count,
            self.count, self._bases, self._output.shape[-1], self._offset_limit_m, texels.corners,
            texels.weights, pose.canonical, pose.transforms, pose.window, pose.canonical.shape[1],
            pose.vertices, self._frames, self._base_sh, self._output, self._network.base,
        )  # fmt: skip


def _splat(kernel: str, target: _Target, count: int, *arguments: Tensor | float) -> None:
    bins, views = target.bins, target.views
    blocks, threads, group = splat.binning_grid(count)
    PROGRAM.launch(
        kernel, (blocks, len(views)), threads, *arguments, views.packed, group,
        bins.capacity.bin_entries, bins.projected, views.tiles, bins.state, bins.entries,
    )  # fmt: skip


def _decoder_of(
    avatar: Avatar, pose: PoseStage, inputs: _Inputs, device: torch.device
) -> _ReleasedDecoder | _NativeDecoder:
    if isinstance(avatar, ReleasedAvatar):
        return _ReleasedDecoder(avatar, pose, inputs, device)
    assert isinstance(avatar, NativeAvatar), type(avatar)
    return _NativeDecoder(avatar, pose, device)


def _keys(window: PoseWindow) -> tuple[bytes, ...]:
    """Return a key for each pose of a window."""
    if window.dofs.is_cuda:
        raise InputError("window: expected poses on the CPU, got them on a GPU")
    return pose_keys(window)
