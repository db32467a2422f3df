"""A step's work as CUDA graphs: Python launches it once, then it is replayed."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Final

import torch
from torch import Tensor

from ash_core.records import Record
from ash_core.splat import cuda as splat
from ash_core.training.dataset import Batch

WARM_UP: Final = 3
"""Times that work runs before it is captured: lists grow, cuDNN chooses."""


class Captured:
    """Work on tensors that stay where they are. It runs plainly at first, then as a graph."""

    def __init__(self, work: Callable[[], None], device: torch.device) -> None:
        self._work, self._device = work, device
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._runs = 0

    def run(self) -> None:
        """The work, on the current stream's turn."""
        if self._graph is None and self._runs >= WARM_UP:
            graph = torch.cuda.CUDAGraph()
            # A thread may be copying the next batch meanwhile: that is no part of the graph.
            mode = "thread_local"
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode=mode):
                self._work()
            self._graph = graph
        if self._graph is not None:
            self._graph.replay()
            return
        self._runs += 1
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._work()
        current.wait_stream(self._stream)

    def forget(self) -> None:
        """Capture anew at the next run."""
        self._graph, self._runs = None, WARM_UP - 1


class CapturedPose:
    """Work on each pose, for batches of one shape. Its inputs are copied into place."""

    def __init__(self, work: Callable[[Batch], None], example: Batch, count: int) -> None:
        """count: Gaussians of a pose, whose lists may have to grow."""
        words, pixels, tiles = splat.camera_words(example.cameras)
        device = example.pixels.device
        packed = torch.empty(len(words) // 4, dtype=torch.int32, device=device)
        sizes = tuple((camera.height, camera.width) for camera in example.cameras)
        views = splat.Views(packed.view(len(sizes), -1), sizes, pixels, tiles)
        self._batch = replace(
            example,
            views=views,
            mesh=_copy(example.mesh),
            window=_copy(example.window),
            target=None if example.target is None else _copy(example.target),
            place=None if example.place is None else _copy(example.place),
            pixels=example.pixels.clone(),
            backgrounds=example.backgrounds.clone(),
            corners=None if example.corners is None else example.corners.clone(),
        )
        self._packed, self._count, self._device = packed, count, device
        self._places = _tensors(self._batch)
        self._captured = Captured(lambda: work(self._batch), device)
        self._capacity = self._capacity_now()

    def run(self, batch: Batch) -> None:
        """Do it with this batch."""
        words, _, _ = splat.camera_words(batch.cameras)
        # From pageable memory: taken before the call returns.
        host_words = torch.frombuffer(bytearray(words), dtype=torch.int32)
        self._packed.copy_(host_words, non_blocking=True)
        for place, value in zip(self._places, _tensors(batch), strict=True):
            place.copy_(value, non_blocking=True)
        self._captured.run()

    def follow_capacity(self) -> None:
        """Capture anew if the rasterizer's capacity has to grow; without, it is slow."""
        capacity = self._capacity_now()
        if not self._capacity.covers(capacity):
            self._capacity = capacity
            self._captured.forget()

    def _capacity_now(self) -> splat.Capacity:
        assert self._batch.views is not None
        return splat.capacity_with_gradients(self._batch.views, self._count, self._device)


def _copy(record: Record) -> Record:
    """Copy a batch to tensors of its own."""
    parts = {f.name: getattr(record, f.name) for f in fields(record)}  # type: ignore[arg-type]
    tensors = {name: part.clone() for name, part in parts.items() if part is not None}
    return replace(record, **tensors)  # type: ignore[type-var]


def _tensors(batch: Batch) -> list[Tensor]:
    """List the tensors that differ from batch to batch on the device."""
    optional = (batch.mesh, batch.window, batch.target, batch.place)
    records = [part for part in optional if part is not None]
    parts = [getattr(record, field.name) for record in records for field in fields(record)]
    parts += [batch.pixels, batch.backgrounds, batch.corners]
    return [part for part in parts if part is not None]
