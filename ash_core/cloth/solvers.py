"""Solvers that play cloth through poses: on the CPU here, on a GPU in gpu.py."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ash_core.cloth.dynamics import (
    ClothInputs,
    ClothState,
    Surroundings,
    advance,
    calm,
    place_inputs,
    settle,
)
from ash_core.cloth.model import ClothModel, store_model
from ash_core.cloth.surface import place_followers

Places = Float32[np.ndarray, "n W 3"]
"""Points and linings as they are shown in some frames, body frame, m."""


class ClipInputs(NamedTuple):
    """A clip in a solver's terms."""

    inputs: Sequence[Any]
    """Inputs of the frames from the first on, in which the cloth settles."""
    frames: Sequence[int]
    """Frames whose places are asked for; ascending."""
    fps: float


class Solver(Protocol):
    """Simulation of one cloth. States and inputs are a solver's own."""

    @property
    def model(self) -> ClothModel:
        """The cloth."""
        ...

    ahead: ClassVar[int]
    """Frames that are best played together."""

    def inputs(self, goals: Float[Tensor, "n P 3"], joints: Float[Tensor, "n J 4 4"]) -> list[Any]:
        """Make the inputs of frames from skinned points and joint transforms, m."""
        ...

    def play(
        self,
        state: Any | None,
        inputs: Sequence[Any],
        seconds: float,
        around: Surroundings | None = None,
    ) -> tuple[Any, Callable[[], Places]]:
        """Play a state, or None at rest in the first pose, through poses so many seconds apart.

        Returns the last state, a new one, and what waits for the places of all frames.
        """
        ...

    def on_cpu(self, state: Any) -> ClothState:
        """Copy a state to the CPU."""
        ...

    def play_clips(
        self, models: Sequence[ClothModel], clips: Sequence[ClipInputs], starts: Any = None
    ) -> Iterator[tuple[list[Places], Any]]:
        """Play models of one shape, which differ in looseness and constants, through clips.

        starts: settled states of another model, which settle anew from there; None: in the pose.
        Yields for each model the places in each clip's frames, and the settled states.
        """
        ...


class CpuSolver:
    """Simulation on the CPU (dynamics.py)."""

    ahead: ClassVar[int] = 1

    def __init__(self, model: ClothModel, threads: int = 1) -> None:
        """threads: of `play_clips`."""
        self.model, self._cloth, self._threads = model, store_model(model), threads

    def inputs(
        self, goals: Float[Tensor, "n P 3"], joints: Float[Tensor, "n J 4 4"]
    ) -> list[ClothInputs]:
        """Make the inputs of frames from skinned points and joint transforms, m."""
        poses = zip(goals.cpu().numpy(), joints.cpu().numpy(), strict=True)
        return [place_inputs(self.model, *pose) for pose in poses]

    def play(
        self,
        state: ClothState | None,
        inputs: Sequence[ClothInputs],
        seconds: float,
        around: Surroundings | None = None,
    ) -> tuple[ClothState, Callable[[], Places]]:
        """Play a state through poses; see `Solver`."""
        places = []
        for pose in inputs:
            if state is None:
                state = settle(self.model, pose, around)
            else:
                state = state.copy()
                advance(self.model, state, pose, seconds, around)
            places.append(state.shown(self.model))
        assert state is not None
        shown = self._with_linings(places)
        return state, lambda: shown

    def play_clips(
        self, models: Sequence[ClothModel], clips: Sequence[ClipInputs], starts: Any = None
    ) -> Iterator[tuple[list[Places], list[ClothState]]]:
        """Play models through clips; see `Solver`."""

        def one(model: ClothModel, number: int) -> tuple[Places, ClothState]:
            clip = clips[number]
            if starts is None:
                state = settle(model, clip.inputs[0])
            else:
                state = starts[number].copy()
                calm(model, state)
                state.velocities[:] = 0.0
            settled, places = state.copy(), []
            for frame, pose in enumerate(clip.inputs[: clip.frames[-1] + 1]):
                if frame:
                    advance(model, state, pose, 1.0 / clip.fps)
                if frame in clip.frames:
                    places.append(state.shown(model))
            return self._with_linings(places), settled

        with ThreadPoolExecutor(self._threads) as pool:
            for model in models:
                results = list(pool.map(partial(one, model), range(len(clips))))
                yield [places for places, _ in results], [settled for _, settled in results]

    def _with_linings(self, places: Sequence[np.ndarray]) -> Places:
        return place_followers(self._cloth, torch.from_numpy(np.stack(places))).numpy()

    def on_cpu(self, state: ClothState) -> ClothState:
        """Copy a state."""
        return state.copy()
