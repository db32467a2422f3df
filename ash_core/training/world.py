"""The processes that train together, as torchrun starts them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from ash_core.errors import InputError


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def from_environment() -> "World":
        """Read rank and size that torchrun sets."""
        return World(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def share(self, items: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """This process' part of a step's poses."""
        return items[self.rank :: self.size]

    def all_reduce(self, values: Tensor, how: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
        """The sum, say, over all processes, in place. Raises: InputError where one has ended."""
        with self._told_of_ends():
            dist.all_reduce(values, how)

    def broadcast(self, values: Tensor) -> None:
        """The first process' numbers, in place. Raises: InputError where one has ended."""
        with self._told_of_ends():
            dist.broadcast(values, 0)

    @contextmanager
    def _told_of_ends(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = (str(error).splitlines() or [""])[0]
            text = "another process of this training has ended; its own error says why"
            raise InputError(f"process {self.rank}: {text}: {reason}") from error
