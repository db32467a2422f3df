"""Fit of a cloth's looseness and constants to observed surfaces.

Observations are offsets of the template's vertices from their skinned places, e.g. of a decoder
that was trained without cloth. They may be wrong by a constant per vertex, and along the surface.
The simulation is fitted by Levenberg-Marquardt; derivatives are differences of simulations.
Looseness is a sum of smooth local functions over each piece of cloth.
Source: Marquardt 1963, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters".
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float32, Int64
from scipy.sparse.csgraph import connected_components, dijkstra

from ash_core.cloth.dynamics import ClothInputs, ClothState, advance, calm, place_inputs, settle
from ash_core.cloth.model import (
    HELD,
    ClothModel,
    build_model,
    vertex_normals,
    with_looseness,
)
from ash_core.geometry.mesh import vertex_adjacency
from ash_core.geometry.rotations import quat_to_matrix
from ash_core.records import AvatarData, ClothConstants

logger = logging.getLogger("ash_core")

SWING_M = 0.006
"""Least swing (RMS beyond the noise) of a vertex that may be cloth."""
LEAST_PIECE = 24
"""Vertices of the smallest piece of cloth."""
LEAST_GAIN = 0.2
"""Least share of its swing, beyond noise, that a piece explains in clips kept for validation."""
HELD_OUT = 4
"""Every fourth clip is kept for validation, if there are at least as many."""
ALONG = 0.35
"""Weight of residuals along the surface; 1 across it."""
POINTS_PER_FUNCTION = 40
MAX_FUNCTIONS = 32
FIRST_LOOSENESS = 0.6
BOUNDS = {
    "stretch": (50.0, 2000.0),
    "compress": (3.0, 1000.0),
    "bend": (3.0, 1000.0),
    "air": (0.05, 8.0),
    "follow": (0.05, 20.0),
    "ratio": (0.003, 1.0),
    "hang": (0.0, 1.1),
    "margin": (0.001, 0.04),
    "girth": (0.6, 1.25),
    "friction": (0.01, 1.5),
}
"""Bounds on the constants."""
LINEAR = ("hang",)
"""Constants that are fitted as they are; the others by their logarithm."""
CALM_TICKS = 80
"""Ticks in which a settled start adapts to slightly changed parameters."""
MAX_RESIDUALS = 1_500_000
"""Bound on the numbers that are compared; beyond, a share of the points is."""


@dataclass(frozen=True)
class Observation:
    """Surfaces observed in a clip, whose cloth is at rest in its first frame. m, float32."""

    skinned: Float32[np.ndarray, "F V 3"]
    """Posed template of every frame, body frame."""
    joints: Float32[np.ndarray, "F J 4 4"]
    """Joint transforms of every frame."""
    frames: Int64[np.ndarray, "n"]
    """Frames that were observed."""
    turns: Float32[np.ndarray, "n V 4"]
    """Real part of each vertex's skinning there, wxyz: takes offsets to the body frame."""
    offsets: Float32[np.ndarray, "n V 3"]
    """Observed places minus skinned ones, turned back to the rest pose."""
    fps: float


@dataclass(frozen=True)
class ClothFit:
    """Result of a fit."""

    model: ClothModel | None
    """None: no part of the template swings."""
    shares: dict[str, float]
    """Shares of the observed swing explained, by stage; noise counts as unexplained."""
    pieces: tuple[tuple[int, float], ...]
    """(Points, gain in validation) of each piece that was tried."""


def fit_cloth(
    data: AvatarData,
    observations: Sequence[Observation],
    floor_m: float = -np.inf,
    local: bool = True,
    rounds: int = 5,
    threads: int = 1,
) -> ClothFit:
    """Find what swings, and how.

    local: looseness varies over the cloth. rounds: of each stage of the search.
    """
    faces = data.template.faces.numpy()
    swings, noise_m = find_swinging(observations, faces)
    model = first_model(data, swings, floor_m)
    if model is None:
        return ClothFit(None, {}, ())
    held_out = observations[HELD_OUT - 1 :: HELD_OUT]
    fitted = [o for o in observations if not any(o is other for other in held_out)]

    # One looseness for all, then local functions.
    normals = vertex_normals(data.template.vertices.numpy().astype(np.float64), faces)
    search = Search(model, fitted, normals, threads)
    one = np.where(model.looseness > 0, 1.0, 0.0)[:, None].astype(np.float32)
    values = pack(np.array([FIRST_LOOSENESS]), model.constants)
    values, share = search.minimise(one, values, rounds)
    shares, functions = {"one looseness": share}, one
    if local:
        functions = smooth_functions(model)
        values = np.concatenate([np.full(functions.shape[1], values[0]), values[1:]])
        values, shares["local looseness"] = search.minimise(functions, values, rounds)
    model = unpack(model, functions, values)

    # Drop the pieces that explain nothing in clips that were not fitted.
    labels, gains = judge_pieces(model, held_out or fitted, normals, noise_m, threads)
    useful = np.isin(labels, np.flatnonzero(gains >= LEAST_GAIN)) & (model.looseness > 0)
    sizes = np.bincount(labels[model.looseness > 0], minlength=len(gains))
    pieces = tuple((int(n), float(g)) for n, g in zip(sizes, gains, strict=True) if n)
    if not useful.all():
        model = keep_points(data, model, useful)
    return ClothFit(model, shares, pieces)


def first_model(
    data: AvatarData, swings: Bool[np.ndarray, "V"], floor_m: float = -np.inf
) -> ClothModel | None:
    """Build a model of equal looseness; pieces of few points are left out. None: nothing swings."""
    first = np.where(swings, FIRST_LOOSENESS, 0.0).astype(np.float32)
    model = build_model(data, first, floor_m=floor_m)
    labels = pieces_of(model.looseness > 0, edge_graph(model))
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    return keep_points(data, model, (labels >= 0) & (sizes[labels] >= LEAST_PIECE))


def keep_points(data: AvatarData, model: ClothModel, chosen: np.ndarray) -> ClothModel | None:
    """Build the model anew with fewer moving points, and the linings that follow them."""
    if not chosen.any():
        return None
    looseness = np.zeros(len(data.template.vertices), np.float32)
    looseness[model.vertices[chosen]] = model.looseness[chosen]
    looseness[model.followers[chosen[model.follower_corners].all(1)]] = FIRST_LOOSENESS
    return build_model(data, looseness, model.constants, model.floor_m)


def find_swinging(
    observations: Sequence[Observation], faces: np.ndarray
) -> tuple[Bool[np.ndarray, "V"], float]:
    """Find the vertices that move beyond the noise: (mask, noise in m).

    Most of a body is tight: its median motion is the noise.
    """
    offsets = np.concatenate([o.offsets for o in observations])
    square = ((offsets - offsets.mean(0)) ** 2).sum(2).mean(0).astype(np.float64)
    adjacency = vertex_adjacency(torch.from_numpy(faces), len(square)).astype(np.float64)
    around = adjacency + sp.eye(len(square))
    mean = sp.diags(1.0 / np.asarray(around.sum(1)).ravel()) @ around
    noise = float(np.median(square))
    swings = mean @ (mean @ square) > noise + SWING_M**2
    labels = pieces_of(swings, adjacency)
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    return swings & (sizes[labels] >= LEAST_PIECE), float(np.sqrt(noise))


def pieces_of(mask: np.ndarray, adjacency: sp.csr_matrix) -> Int64[np.ndarray, "V"]:
    """Number the connected pieces of a mask; -1 outside."""
    labels = np.full(len(mask), -1, np.int64)
    inside = np.flatnonzero(mask)
    if len(inside):
        labels[inside] = connected_components(adjacency[inside][:, inside], directed=False)[1]
    return labels


def edge_graph(model: ClothModel) -> sp.csr_matrix:
    """Build the symmetric matrix [P, P] of edge lengths."""
    links, count = model.links[~model.is_bend], len(model.vertices)
    lengths = np.maximum(model.lengths[~model.is_bend], 1e-6).astype(np.float64)
    half = sp.coo_matrix((lengths, (links[:, 0], links[:, 1])), (count, count)).tocsr()
    return half + half.T


def smooth_functions(model: ClothModel) -> Float32[np.ndarray, "P K"]:
    """Make local functions that sum to one at the moving points.

    Their centres are spread over each piece by geodesic distance, in order of size of the gaps.
    """
    moving = model.looseness > 0
    graph = edge_graph(model)
    labels = pieces_of(moving, graph)
    count = int(np.clip(moving.sum() / POINTS_PER_FUNCTION, labels.max() + 1, MAX_FUNCTIONS))
    centres = [int(np.flatnonzero(labels == k)[0]) for k in range(labels.max() + 1)]
    distance = dijkstra(graph, indices=centres)
    while len(centres) < count:
        gap = np.where(moving, distance.min(0), -1.0)
        centres.append(int(np.where(np.isfinite(gap), gap, -1.0).argmax()))
        distance = np.concatenate([distance, dijkstra(graph, indices=[centres[-1]])])
    # The width of a place's functions is the distance to its third centre.
    third = np.sort(np.where(np.isfinite(distance), distance, 1.0), axis=0)[min(2, count - 1)]
    weights = np.exp(-((distance / (0.6 * np.maximum(third, 1e-3))) ** 2))
    weights = np.where(moving, weights, 0.0)
    return (weights / np.maximum(weights.sum(0), 1e-12)).T.astype(np.float32)


def pack(looseness: np.ndarray, constants: ClothConstants) -> np.ndarray:
    """Write looseness and constants into one vector: constants by logarithm, but `LINEAR`."""
    numbers = [getattr(constants, f.name) for f in fields(constants)]
    kinds = [f.name in LINEAR for f in fields(constants)]
    logs = [n if linear else np.log(n) for n, linear in zip(numbers, kinds, strict=True)]
    return np.concatenate([looseness, logs])


def unpack(model: ClothModel, functions: np.ndarray, values: np.ndarray) -> ClothModel:
    """Read looseness and constants from one vector."""
    count = functions.shape[1]
    numbers = {
        f.name: float(v if f.name in LINEAR else np.exp(v))
        for f, v in zip(fields(ClothConstants), values[count:], strict=True)
    }
    looseness = functions @ values[:count].astype(np.float32)
    return replace(with_looseness(model, looseness), constants=ClothConstants(**numbers))


def bounds_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    """List lowest and highest values of a vector with so many functions."""
    rows = [
        BOUNDS[f.name] if f.name in LINEAR else np.log(BOUNDS[f.name])
        for f in fields(ClothConstants)
    ]
    low, high = np.array(rows, float).T
    return np.append(np.full(count, HELD), low), np.append(np.ones(count), high)


class Search:
    """Least squares of simulated against observed clips."""

    def __init__(
        self,
        model: ClothModel,
        observations: Sequence[Observation],
        normals: np.ndarray,
        threads: int = 1,
    ) -> None:
        self.model, self.threads = model, threads
        moving = np.flatnonzero(model.looseness > 0)
        numbers = 3 * len(moving) * sum(len(o.frames) for o in observations)
        self.points = moving[:: max(1, -(-numbers // MAX_RESIDUALS))]
        self.clips = [PreparedClip.of(model, o, self.points) for o in observations]
        self._normals = normals[model.vertices[self.points]].astype(np.float32)
        self.observed = np.concatenate([clip.offsets for clip in self.clips])

    def simulate(
        self, model: ClothModel, starts: Sequence[ClothState] | None
    ) -> tuple[np.ndarray, list[ClothState]]:
        """Simulate all clips: (offsets from the skinned places [n, p, 3], settled starts)."""

        def one(number: int) -> tuple[np.ndarray, ClothState]:
            start = None if starts is None else starts[number]
            return self.clips[number].simulate(model, self.points, start)

        if self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                results = list(pool.map(one, range(len(self.clips))))
        else:
            results = [one(number) for number in range(len(self.clips))]
        return np.concatenate([offsets for offsets, _ in results]), [s for _, s in results]

    def residuals(self, offsets: np.ndarray) -> Float32[np.ndarray, "r"]:
        """Compare with the observed offsets, up to a constant per point; weighted."""
        return self._weighted(self.observed - offsets)

    def _weighted(self, errors: np.ndarray) -> np.ndarray:
        errors = errors - errors.mean(0)
        across = (errors * self._normals).sum(-1, keepdims=True) * self._normals
        return (across + np.float32(ALONG) * (errors - across)).reshape(-1)

    def minimise(
        self, functions: np.ndarray, values: np.ndarray, rounds: int
    ) -> tuple[np.ndarray, float]:
        """Fit a vector of values: (values, share of the observed swing explained)."""
        count = functions.shape[1]
        low, high = bounds_of(count)
        steps = np.where(np.arange(len(values)) < count, 0.05, 0.12)
        reach = np.where(np.arange(len(values)) < count, 0.25, 0.7)
        values, prior = np.clip(values, low, high), np.clip(values, low, high)
        whole = float((self._weighted(self.observed) ** 2).sum())
        offsets, starts = self.simulate(unpack(self.model, functions, values), None)
        rest = self.residuals(offsets)
        error, damping = float(rest @ rest), 1e-2
        for number in range(rounds):
            # Derivatives by differences, away from the bounds.
            slopes = np.empty((len(values), len(rest)), np.float32)
            for k in range(len(values)):
                step = steps[k] if values[k] + steps[k] <= high[k] else -steps[k]
                moved = values + step * (np.arange(len(values)) == k)
                offsets, _ = self.simulate(unpack(self.model, functions, moved), starts)
                slopes[k] = (self.residuals(offsets) - rest) / step
            curvature = (slopes @ slopes.T).astype(np.float64)
            tie = 1e-3 * error / len(values)
            gradient = slopes @ rest + tie * (values - prior)
            curvature += tie * np.eye(len(values))

            # The best of three steps.
            before, best = error, (values, rest, starts, damping * 30.0)
            for strength in (damping * 0.1, damping, damping * 10.0):
                scale = np.diag(curvature) + 1e-6 * np.diag(curvature).max()
                move = -np.linalg.solve(curvature + strength * np.diag(scale), gradient)
                trial = np.clip(values + np.clip(move, -reach, reach), low, high)
                offsets, ends = self.simulate(unpack(self.model, functions, trial), starts)
                other = self.residuals(offsets)
                if float(other @ other) < error:
                    error = float(other @ other)
                    best = trial, other, ends, strength
            values, rest, starts, damping = best
            logger.info("cloth, round %d: explains %.3f", number + 1, 1.0 - error / whole)
            if 0.0 < before - error < 1e-3 * before:
                break
        return values, 1.0 - error / whole


@dataclass(frozen=True)
class PreparedClip:
    """Observation of some points of a model."""

    inputs: list[ClothInputs]
    frames: Int64[np.ndarray, "n"]
    matrices: Float32[np.ndarray, "n p 3 3"]
    offsets: Float32[np.ndarray, "n p 3"]
    fps: float

    @classmethod
    def of(cls, model: ClothModel, clip: Observation, points: np.ndarray) -> "PreparedClip":
        """Select what the points of a model need."""
        goals = clip.skinned[:, model.vertices]
        inputs = [place_inputs(model, *pose) for pose in zip(goals, clip.joints, strict=True)]
        vertices = model.vertices[points]
        turns = quat_to_matrix(torch.from_numpy(clip.turns[:, vertices])).numpy()
        return cls(inputs, clip.frames, turns, clip.offsets[:, vertices], clip.fps)

    def simulate(
        self, model: ClothModel, points: np.ndarray, start: ClothState | None
    ) -> tuple[Float32[np.ndarray, "n p 3"], ClothState]:
        """Simulate until the last observed frame: (offsets as observed ones, settled start)."""
        if start is None:
            state = settle(model, self.inputs[0])
        else:
            state = start.copy()
            calm(model, state, None, CALM_TICKS)
        settled = state.copy()
        rows = {int(frame): row for row, frame in enumerate(self.frames)}
        away = np.empty((len(self.frames), len(points), 3), np.float32)
        for frame, inputs in enumerate(self.inputs[: int(self.frames.max()) + 1]):
            if frame:
                advance(model, state, inputs, 1.0 / self.fps)
            if frame in rows:
                away[rows[frame]] = (state.places - inputs.goals)[points]
        return np.einsum("npji,npj->npi", self.matrices, away), settled


def judge_pieces(
    model: ClothModel,
    observations: Sequence[Observation],
    normals: np.ndarray,
    noise_m: float,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure what each piece gains in some clips: (piece of each point, gain of each piece).

    Gains are shares of the swing beyond the noise.
    """
    search = Search(model, observations, normals, threads)
    labels = pieces_of(model.looseness > 0, edge_graph(model))
    offsets, _ = search.simulate(model, None)
    own = labels[search.points]
    gains = np.zeros(int(labels.max()) + 1)
    observed = search.observed
    for piece in range(len(gains)):
        inside = own == piece
        swing = deviation(observed[:, inside])
        error = deviation(observed[:, inside] - offsets[:, inside])
        floor = inside.sum() * len(observed) * noise_m**2
        gains[piece] = (swing - error) / max(swing - floor, 0.1 * swing, 1e-12)
    return labels, gains


def deviation(offsets: np.ndarray) -> float:
    """Sum the squared deviations from each point's mean."""
    return float(((offsets - offsets.mean(0)) ** 2).sum())
