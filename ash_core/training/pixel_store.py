"""Pixels of many boxes side by side in one tensor, on the GPU or in memory."""

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

PENDING_PIXELS = 1 << 24
"""Pixels that wait to be moved together: 64 MB."""
GROWTH = 1.25


class PixelStore:
    """Boxes by number. It may be filled in any order and little by little."""

    def __init__(self, count: int, capacity: int, device: torch.device) -> None:
        """count: of images. capacity: of pixels; more are made room for."""
        self._pixels = torch.empty(max(capacity, 1), dtype=torch.int32, device=device)
        self._rows = torch.zeros((count, 5), dtype=torch.int64, device=device)
        """First pixel of each box in `_pixels`, then its left, top, width and height."""
        self.has: Bool[np.ndarray, "n"] = np.zeros(count, bool)
        """True for images that are kept; shown from the next `flush` on."""
        self._end = self._moved = 0
        self._pending: list[Tensor] = []
        self._new_rows: list[tuple[int, int, int, int, int, int]] = []

    @property
    def device(self) -> torch.device:
        return self._pixels.device

    def add(self, number: int, pixels: UInt8[np.ndarray, "h w 4"], left: int, top: int) -> None:
        """Keep a box. `flush` makes it visible."""
        height, width = pixels.shape[:2]
        self._new_rows.append((number, self._end, left, top, width, height))
        self._pending.append(torch.from_numpy(pixels).view(torch.int32).flatten())
        self._end += height * width
        self.has[number] = True
        if self._end - self._moved > PENDING_PIXELS:
            self._move()

    def flush(self) -> None:
        """Let `gather` see what was added."""
        if self._pending:
            self._move()

    def _move(self) -> None:
        if self._end > len(self._pixels):
            larger = torch.empty(
                int(self._end * GROWTH), dtype=torch.int32, device=self._pixels.device
            )
            larger[: self._moved] = self._pixels[: self._moved]
            self._pixels = larger
        self._pixels[self._moved : self._end] = torch.cat(self._pending)
        rows = torch.tensor(self._new_rows, dtype=torch.int64).to(self.device)
        self._rows[rows[:, 0]] = rows[:, 1:]
        self._moved, self._pending, self._new_rows = self._end, [], []

    def gather(
        self, numbers: Int[np.ndarray, "n"], corners: Int[np.ndarray, "n 2"], size: tuple[int, int]
    ) -> UInt8[Tensor, "n h w 4"]:
        """Windows of a (width, height) at given left and top corners; zero outside the boxes."""
        device = self.device
        places = torch.from_numpy(np.concatenate((numbers[:, None], corners), 1))
        number, left, top = places.to(device, non_blocking=True).unbind(1)
        start, x0, y0, width, height = (
            part[:, None, None] for part in self._rows[number].unbind(1)
        )
        x = torch.arange(size[0], device=device) + left[:, None, None] - x0
        y = torch.arange(size[1], device=device)[:, None] + top[:, None, None] - y0
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        words = self._pixels[torch.where(inside, start + y * width + x, 0)]
        return torch.where(inside, words, 0)[..., None].view(torch.uint8)
