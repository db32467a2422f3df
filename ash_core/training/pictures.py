"""The photographs of a training: boxes around the masks, kept as bytes where there is room.

`Pictures` answers one question: the pixels of some windows of some photographs. They wait on the
GPU, in memory, or in their files; threads decode them.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.dataset import MaskedCrop, read_masked_crop
from ash_core.training.config import Keep

MASKED = 128
"""A pixel belongs to the person from this alpha on."""
SEEN = 8
"""A pixel shows some of the person from this alpha on; below it is noise of a soft mask."""
MARGIN = 4
"""Pixels around a mask's box that are kept too."""
PROBED = 32
"""Photographs that are decoded before it is decided where all will wait."""
SHARE = {"gpu": 0.5, "memory": 0.4}
"""The part of the free memory that photographs may take."""
BYTES = 4
"""Of a pixel: RGB and mask."""
MAX_WORKERS = 16

_log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[str, int, int], None]
"""Told of progress: what, how many are done, how many there are."""


@dataclass(frozen=True)
class Box:
    """The part of a photograph that is kept."""

    pixels: UInt8[np.ndarray, "h w 4"]
    left: int
    top: int


def mask_box(crop: MaskedCrop) -> Box:
    """Cut out the box around the mask, soft rim and margin; one pixel where there is no mask."""
    person = crop.alpha >= SEEN
    rows, columns = np.flatnonzero(person.any(1)), np.flatnonzero(person.any(0))
    if len(rows) == 0:
        rows = columns = np.zeros(1, np.int64)
    top, bottom = max(rows[0] - MARGIN, 0), rows[-1] + 1 + MARGIN
    left, right = max(columns[0] - MARGIN, 0), columns[-1] + 1 + MARGIN
    rgb, alpha = crop.rgb[top:bottom, left:right], crop.alpha[top:bottom, left:right]
    pixels = np.concatenate((rgb, alpha[..., None]), -1)
    return Box(pixels, int(crop.left + left), int(crop.top + top))


def threads(count: int) -> int:
    """How many threads decode."""
    return count or min(os.cpu_count() or 1, MAX_WORKERS)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Results in order, with a bounded number under way: `pool.map` would start all at once."""
    left = iter(items)
    waiting = [pool.submit(work, item) for item in islice(left, ahead)]
    while waiting:
        result = waiting.pop(0).result()
        waiting += [pool.submit(work, item) for item in islice(left, 1)]
        yield result


class Pictures:
    """Photographs by number."""

    def __init__(
        self,
        paths: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
        keep: Keep,
        device: torch.device,
        workers: int,
        tell: Tell,
    ) -> None:
        """sizes: (width, height) that each whole photograph must have."""
        self.paths, self.sizes = list(paths), list(sizes)
        self.device = device
        self._pool = ThreadPoolExecutor(threads(workers), "photographs")
        self._tell = tell
        self.boxes: Int[np.ndarray, "n 4"] = np.zeros((len(paths), 4), np.int64)
        """left, top, width, height of what is kept of each."""
        self.empty: list[Path] = []
        """Those on which there is nobody."""
        self.place = self._load(keep)

    def _read(self, number: int) -> Box:
        path = self.paths[number]
        crop = read_masked_crop(path)
        if (crop.width, crop.height) != self.sizes[number]:
            wanted = "{} x {}".format(*self.sizes[number])
            found = f"{crop.width} x {crop.height}"
            raise InputError(f"{path}: expected {wanted} px as its camera's others, got {found}")
        return mask_box(crop)

    def _load(self, keep: Keep) -> Keep:
        """Decode all once: for their boxes, and to keep them."""
        count, place, kept, size = len(self.paths), keep, [], 0
        offsets = np.zeros(count, np.int64)
        ahead = 2 * threads(0)
        for number, box in enumerate(in_order(self._pool, self._read, range(count), ahead)):
            height, width = box.pixels.shape[:2]
            self.boxes[number] = box.left, box.top, width, height
            if not (box.pixels[..., 3] >= MASKED).any():
                self.empty.append(self.paths[number])
            offsets[number] = size
            size += height * width
            if place != "files":
                kept.append(torch.from_numpy(box.pixels).view(torch.int32).flatten())
            if number + 1 == min(count, PROBED):
                place = _where(keep, self.device, size * BYTES * count // (number + 1))
                kept = [] if place == "files" else kept
            self._tell("photographs", number + 1, count)
        if len(self.empty) == count:
            raise InputError(
                f"{self.paths[0]}: expected somebody in it, got an empty mask, as in all"
            )
        self.pixels = self._offsets = None
        if place != "files":
            home = self.device if place == "gpu" else torch.device("cpu")
            self.pixels = torch.empty(size, dtype=torch.int32, device=home)
            for at, part in zip(offsets.tolist(), kept, strict=True):
                self.pixels[at : at + len(part)] = part
            self._offsets = torch.from_numpy(offsets).to(home)
            self._boxes = torch.from_numpy(self.boxes).to(home)
        return place

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def windows(
        self, numbers: Int[np.ndarray, "n"], corners: Int[np.ndarray, "n 2"], size: tuple[int, int]
    ) -> UInt8[Tensor, "n h w 4"]:
        """Windows of a (width, height) at given left and top corners; zero outside the boxes."""
        if self.pixels is not None:
            home = self.pixels.device
            where = torch.from_numpy(np.concatenate((numbers[:, None], corners), 1))
            return self._gather(where.to(home, non_blocking=True), size).to(self.device)
        work = [(int(n), tuple(c), size) for n, c in zip(numbers, corners.tolist(), strict=True)]
        return torch.stack(list(self._pool.map(self._window, work))).to(self.device)

    def _gather(self, where: Int[Tensor, "n 3"], size: tuple[int, int]) -> UInt8[Tensor, "n h w 4"]:
        assert self.pixels is not None
        assert self._offsets is not None
        number, left, top = where.unbind(1)
        x0, y0, width, height = (part[:, None, None] for part in self._boxes[number].unbind(1))
        home = where.device
        x = torch.arange(size[0], device=home) + left[:, None, None] - x0
        y = torch.arange(size[1], device=home)[:, None] + top[:, None, None] - y0
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        at = self._offsets[number][:, None, None] + y * width + x
        found = self.pixels[torch.where(inside, at, 0)]
        return torch.where(inside, found, 0)[..., None].view(torch.uint8)

    def _window(self, work: tuple[int, tuple[int, int], tuple[int, int]]) -> UInt8[Tensor, "h w 4"]:
        number, (left, top), (width, height) = work
        box = self._read(number)
        out = np.zeros((height, width, 4), np.uint8)
        h, w = box.pixels.shape[:2]
        x0, y0 = max(box.left, left), max(box.top, top)
        x1, y1 = min(box.left + w, left + width), min(box.top + h, top + height)
        if x0 < x1 and y0 < y1:
            part = box.pixels[y0 - box.top : y1 - box.top, x0 - box.left : x1 - box.left]
            out[y0 - top : y1 - top, x0 - left : x1 - left] = part
        return torch.from_numpy(out)

    def corners(
        self, numbers: Int[np.ndarray, "n"], chance: np.ndarray, size: tuple[int, int]
    ) -> Int[np.ndarray, "n 2"]:
        """Where windows of a size lie: around their boxes, or in them where those are larger.

        chance: [n, 2] in [0, 1), which of the possible places.
        """
        boxes = self.boxes[numbers]
        slack = boxes[:, 2:] - np.array(size)
        low = np.minimum(boxes[:, :2], boxes[:, :2] + slack)
        found = low + np.floor(chance * (np.abs(slack) + 1)).astype(np.int64)
        room = np.array([self.sizes[number] for number in numbers]) - np.array(size)
        return np.clip(found, 0, room)


def _where(keep: Keep, device: torch.device, size: int) -> Keep:
    """The first place that has room for so many bytes."""
    if keep == "gpu" and device.type != "cuda":
        raise InputError("--keep: expected memory or files without a GPU, got gpu")
    if keep != "auto":
        return keep
    if device.type == "cuda" and size < SHARE["gpu"] * torch.cuda.mem_get_info(device)[0]:
        return "gpu"
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size * processes < SHARE["memory"] * free:
        return "memory"
    _log.info("%.1f GB of photographs: they stay in their files", size / 1e9)
    return "files"
