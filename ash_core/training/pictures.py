"""The photographs of a training: boxes around the masks, kept as bytes where there is room.

`Pictures` answers one question: the pixels of some windows of some photographs. They wait on the
GPU, in memory, or in their files; threads decode them. Photographs with a mask beside them are
decoded once: then their boxes wait on the disk. A photograph that cannot be used is left out.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.dataset import MaskedCrop, read_mask_crop, read_masked_crop, stored_box
from ash_core.training.box_file import MOST_DISK, Box, BoxFile
from ash_core.training.config import Keep
from ash_core.training.image_index import ImageIndex
from ash_core.training.pixel_store import PixelStore

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
MOST_MEMORY = 12e9
"""Bytes of the host's memory that photographs take unless --keep memory asks for more."""
SLACK = 1.1
"""Capacity over what the probed photographs promise."""
BYTES = 4
"""Bytes of a pixel: RGB and mask."""
MAX_WORKERS = 16
MOST_UNUSABLE = 0.05
"""Part of the photographs that may be unusable before the training is refused."""
READY_PIXELS = 3e8
"""Per thread: where this many are decoded in a few seconds, all are before the first step."""
FILE_PIXELS = 20_000
"""Pixels that take as long to decode as a file takes to be opened."""
PROGRESS_EACH = 64

_log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""Receives progress: what is prepared, how many are done, how many there are."""


class Extent(NamedTuple):
    """Place of the kept part of a photograph, px."""

    left: int
    top: int
    width: int
    height: int
    whole_width: int
    whole_height: int
    shows_somebody: bool


def mask_box(crop: MaskedCrop) -> Box:
    """Cut out the box around the mask, soft rim and margin; one pixel where there is no mask."""
    person = crop.alpha >= SEEN
    rows, columns = np.flatnonzero(person.any(1)), np.flatnonzero(person.any(0))
    if len(rows) == 0:
        rows = columns = np.zeros(1, np.int64)
    top, bottom = max(rows[0] - MARGIN, 0), rows[-1] + 1 + MARGIN
    left, right = max(columns[0] - MARGIN, 0), columns[-1] + 1 + MARGIN
    inside = slice(top, bottom), slice(left, right)
    if crop.pixels is not None:
        pixels = np.ascontiguousarray(crop.pixels[inside])
    else:
        pixels = np.concatenate((crop.rgb[inside], crop.alpha[inside][..., None]), -1)
    return Box(pixels, int(crop.left + left), int(crop.top + top))


def threads(count: int) -> int:
    """Choose the number of decoding threads."""
    return count or min(os.cpu_count() or 1, MAX_WORKERS)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Results in order, with a bounded number under way: `pool.map` would start all at once."""
    remaining_items = iter(items)
    waiting = [pool.submit(work, item) for item in islice(remaining_items, ahead)]
    while waiting:
        result = waiting.pop(0).result()
        waiting += [pool.submit(work, item) for item in islice(remaining_items, 1)]
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
        progress: Progress,
        index: Path,
    ) -> None:
        """sizes: (width, height) that each whole photograph must have. index: file of their boxes,
        read where an earlier training left it.
        """
        self.paths = list(paths)
        self.sizes: Int[np.ndarray, "n 2"] = np.asarray(sizes, np.int32).reshape(-1, 2)
        self.device = device
        self._threads = threads(workers)
        self._pool = ThreadPoolExecutor(self._threads, "photographs")
        self._progress = progress
        self.boxes: Int[np.ndarray, "n 4"] = np.zeros((len(paths), 4), np.int32)
        """left, top, width, height of what is kept of each."""
        self._shows: Bool[np.ndarray, "n"] = np.zeros(len(paths), bool)
        """True for photographs that show somebody."""
        self.usable: Bool[np.ndarray, "n"] = np.ones(len(paths), bool)
        self.unusable: list[str] = []
        """Errors of photographs that cannot be used, in the order of their discovery."""
        self._store: PixelStore | None = None
        self._box_file: BoxFile | None = None
        self.place = self._load(keep, ImageIndex(index, self.paths, self._pool))
        if self.place == "files":
            self._box_file = BoxFile(index.parent, int(MOST_DISK) // _processes())

    @property
    def empty(self) -> list[Path]:
        """Paths of images whose mask is empty."""
        return [self.paths[n] for n in np.flatnonzero(self.usable & ~self._shows)]

    @property
    def is_resident(self) -> bool:
        """Tell whether every photograph lies on the GPU: nothing is left to wait for."""
        return (
            self.place == "gpu"
            and self._store is not None
            and bool((self._store.has | ~self.usable).all())
        )

    # ---- before the first step ----

    def _load(self, keep: Keep, index: ImageIndex) -> Keep:
        """Find all boxes, of the index or of the photographs; decode all where that is quick."""
        is_known, rows = index.read()
        is_known &= (rows[:, 4:6] == self.sizes).all(1)
        self.boxes[is_known], self._shows[is_known] = rows[is_known, :4], rows[is_known, 6] > 0
        place, pixels = self._choose_place(keep, is_known)
        if place != "files":
            home = self.device if place == "gpu" else torch.device("cpu")
            self._store = PixelStore(len(self.paths), pixels, home)

        # Where all lie in files, or would take long, those that are known are left for later.
        cost = int(self.sizes.prod(1, dtype=np.int64).sum()) + FILE_PIXELS * len(self.paths)
        reads_all = place != "files" and cost < READY_PIXELS * self._threads
        todo = np.arange(len(self.paths)) if reads_all else np.flatnonzero(~is_known)
        work = self._try_extent if place == "files" else self._try_box
        ahead = 2 * self._threads
        results = in_order(self._pool, work, todo.tolist(), ahead)
        for done, (number, result) in enumerate(zip(todo.tolist(), results, strict=True), start=1):
            self._take(number, result)
            if done % PROGRESS_EACH == 0 or done == len(todo):
                self._progress("photographs", done, len(todo))
        if self._store is not None:
            self._store.flush()

        if not self._shows[self.usable].any():
            raise InputError(
                f"{self.paths[0]}: expected somebody in it, got an empty mask, as in all"
            )
        if not is_known[self.usable].all():
            shows = self._shows[:, None].astype(np.int32)
            index.write(self.usable, np.concatenate((self.boxes, self.sizes, shows), 1))
        return place

    def _choose_place(self, keep: Keep, is_known: Bool[np.ndarray, "n"]) -> tuple[Keep, int]:
        """Choose a place for all photographs; count their pixels by the index, else by a few."""
        if keep == "files":
            return keep, 0
        areas = self.boxes[is_known, 2:].prod(1, dtype=np.int64)
        pixels, unknown = float(areas.sum()), np.flatnonzero(~is_known)
        if len(unknown):
            spread = unknown[np.linspace(0, len(unknown) - 1, PROBED).astype(int)]
            probed = self._pool.map(self._try_box, np.unique(spread).tolist())
            sizes = [box.pixels[..., 0].size for box in probed if isinstance(box, Box)]
            pixels += SLACK * len(unknown) * sum(sizes) / max(len(sizes), 1)
        return _where(keep, self.device, int(pixels) * BYTES), int(pixels)

    def _take(self, number: int, result: "Box | Extent | InputError") -> None:
        """Remember a photograph's box, its pixels, or that it cannot be used."""
        if isinstance(result, InputError):
            self._leave_out(number, result)
        elif isinstance(result, Box):
            height, width = result.pixels.shape[:2]
            self.boxes[number] = result.left, result.top, width, height
            self._shows[number] = bool((result.pixels[..., 3] >= MASKED).any())
            if self._store is not None:
                self._store.add(number, result.pixels, result.left, result.top)
        else:
            self.boxes[number] = result[:4]
            self._shows[number] = result.shows_somebody

    def _leave_out(self, number: int, error: InputError) -> None:
        self.usable[number] = False
        self.unusable.append(str(error))
        count = len(self.unusable)
        if count > MOST_UNUSABLE * len(self.paths):
            others = f" ({count} of {len(self.paths)} cannot be used)" if count > 1 else ""
            raise InputError(f"{self.unusable[0]}{others}")

    def close(self) -> None:
        """End the threads and give back the disk's room."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._box_file = None

    # ---- reading, in threads ----

    def _read(self, number: int) -> Box:
        box_file = self._box_file
        if box_file is None:
            return self._decode(number)
        return box_file.read(number, self.paths[number], partial(self._decode, number))

    def _decode(self, number: int) -> Box:
        crop = read_masked_crop(self.paths[number])
        self._check_size(number, crop.width, crop.height)
        return mask_box(crop)

    def _try_box(self, number: int) -> Box | InputError:
        try:
            return self._read(number)
        except InputError as error:
            return error

    def _try_extent(self, number: int) -> Extent | InputError:
        """The box alone: of a cropped file's header, else of its mask."""
        path = self.paths[number]
        try:
            stored = stored_box(path)
            if stored is not None and stored[2] * stored[3] > 1:
                self._check_size(number, *stored[4:])
                return Extent(*stored, shows_somebody=True)
            crop = read_mask_crop(path)
            self._check_size(number, crop.width, crop.height)
            box = mask_box(crop)
            height, width = box.pixels.shape[:2]
            shows = bool((box.pixels[..., 3] >= MASKED).any())
            return Extent(box.left, box.top, width, height, crop.width, crop.height, shows)
        except InputError as error:
            return error

    def _check_size(self, number: int, width: int, height: int) -> None:
        if (width, height) != tuple(self.sizes[number]):
            expected = "{} x {} px".format(*self.sizes[number])
            text = f"expected {expected} as its camera's others, got {width} x {height}"
            raise InputError(f"{self.paths[number]}: {text}")

    # ---- while training ----

    def windows(
        self, numbers: Int[np.ndarray, "n"], corners: Int[np.ndarray, "n 2"], size: tuple[int, int]
    ) -> UInt8[Tensor, "n h w 4"] | None:
        """Windows of a (width, height) at given left and top corners; zero outside the boxes.

        None where one of the photographs turns out not to be usable: from then on it is marked so.
        """
        todo = np.unique(numbers)
        if self._store is not None:
            todo = todo[~self._store.has[todo]]
        read = dict(zip(todo.tolist(), self._pool.map(self._try_box, todo.tolist()), strict=True))
        boxes = {number: box for number, box in read.items() if isinstance(box, Box)}
        for number, error in read.items():
            if isinstance(error, InputError):
                self._leave_out(number, error)
        if self._store is not None:
            for number, box in boxes.items():
                self._store.add(number, box.pixels, box.left, box.top)
            self._store.flush()
        if len(boxes) < len(read):
            return None
        if self._store is not None:
            return self._store.gather(numbers, corners, size).to(self.device)
        parts = [
            cut(boxes[number], corner, size)
            for number, corner in zip(numbers.tolist(), corners.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(parts)).to(self.device)

    def corners(
        self, numbers: Int[np.ndarray, "n"], chance: np.ndarray, size: tuple[int, int]
    ) -> Int[np.ndarray, "n 2"]:
        """Place windows of a size: around their boxes, or in them where those are larger.

        chance: [n, 2] in [0, 1), which of the possible places.
        """
        boxes = self.boxes[numbers].astype(np.int64)
        slack = boxes[:, 2:] - np.array(size)
        low = np.minimum(boxes[:, :2], boxes[:, :2] + slack)
        positions = low + np.floor(chance * (np.abs(slack) + 1)).astype(np.int64)
        return np.clip(positions, 0, self.sizes[numbers] - np.array(size))


def cut(box: Box, corner: Sequence[int], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 4"]:
    """A window of a (width, height) at a left and top corner; zero outside the box."""
    (left, top), (width, height) = corner, size
    out = np.zeros((height, width, 4), np.uint8)
    h, w = box.pixels.shape[:2]
    x0, y0 = max(box.left, left), max(box.top, top)
    x1, y1 = min(box.left + w, left + width), min(box.top + h, top + height)
    if x0 < x1 and y0 < y1:
        part = box.pixels[y0 - box.top : y1 - box.top, x0 - box.left : x1 - box.left]
        out[y0 - top : y1 - top, x0 - left : x1 - left] = part
    return out


def _where(keep: Keep, device: torch.device, size: int) -> Keep:
    """The first place that has room for so many bytes."""
    if keep == "gpu" and device.type != "cuda":
        raise InputError("--keep: expected memory or files without a GPU, got gpu")
    if keep != "auto":
        return keep
    if device.type == "cuda" and size < SHARE["gpu"] * torch.cuda.mem_get_info(device)[0]:
        return "gpu"
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size * _processes() < min(SHARE["memory"] * free, MOST_MEMORY):
        return "memory"
    _log.info("%.1f GB of photographs: they stay in their files", size / 1e9)
    return "files"


def _processes() -> int:
    """Count this training's processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
