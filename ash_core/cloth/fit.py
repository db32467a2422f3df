"""Fit of a cloth's looseness and constants to the outlines of masks.

Where a surface is on its own outline in an image, the mask tells how far it is off. These gaps may
be wrong by a smooth function of the surface: how the cloth truly hangs is the decoder's to learn.
The simulation is fitted by Levenberg-Marquardt; derivatives are differences of simulations.
Each piece of cloth has one looseness: local ones explained no more of unseen motions.
The search begins twice: with cloth that keeps its shape, and with cloth that hangs by its weight
alone and folds. Clips that were not fitted decide between them.
Source: Marquardt 1963, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters".
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from numba import njit
from scipy.sparse.csgraph import connected_components, dijkstra

from ash_core.cloth.gpu import solver_on
from ash_core.cloth.model import (
    HELD,
    ClothModel,
    build_model,
    vertex_normals,
    with_looseness,
)
from ash_core.cloth.solvers import ClipInputs, Places
from ash_core.geometry.mesh import vertex_adjacency
from ash_core.records import AvatarData, ClothConstants
from ash_core.silhouettes.distances import Silhouettes
from ash_core.silhouettes.outline import find_rim, measure_gaps

logger = logging.getLogger("ash_core")

SURE_M, SWING_M = 0.010, 0.003
"""Deviations of the gaps beyond the noise: of vertices that surely are cloth, and of those around
them that are cloth with them."""
TAIL = 0.15
"""Share of the gaps on each side that the deviation ignores: other limbs' outlines."""
OFTEN = 0.2
"""Least number of gaps that tell of a vertex, as a share of the median of all: what clothes hide is
seldom on an outline, and then wrongly."""
MAX_GAPS = 200_000
"""Bound on the gaps that are compared; beyond, a share of them is."""
LEAST_PIECE = 24
"""Vertices of the smallest piece of cloth."""
LEAST_GAIN = 0.1
"""Least share of its swing, beyond noise, that a piece explains in clips kept for validation. Gaps
are bounded: of a tail of hair that swings by 13 cm they saw 13 % of what was 95 %."""
HELD_OUT = 4
"""Every fourth clip is kept for validation, if there are at least as many."""
FURTHEST_M = 0.2
"""Larger gaps are another limb's outline, and do not count."""
ROBUST_M = 0.03
"""Gap from which its weight falls: half of it at this."""
POINTS_PER_BIAS = 12
MAX_BIASES = 96
"""Functions of what gaps may be wrong by, and bound on their number."""


class Start(NamedTuple):
    """Start of a search."""

    looseness: float
    passes: int
    constants: ClothConstants


STARTS = (
    Start(0.4, 1, ClothConstants()),
    Start(
        0.9, 5,
        ClothConstants(
            stretch=2000.0, compress=600.0, bend=1.0, air=3.0, follow=0.3, ratio=0.1, hang=0.0,
            margin=0.01, girth=1.1, friction=0.1,
        ),
    ),
)  # fmt: skip
"""Cloth that keeps its shape (from looser starts the search ended in worse valleys); and cloth that
hangs by its weight, nearly inextensible, and folds: so Newton's falls."""
BOUNDS = {
    "stretch": (50.0, 4000.0),
    "compress": (3.0, 2000.0),
    "bend": (0.5, 1000.0),
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
LEVELS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
"""Values of looseness that are tried for each piece."""
DAMPINGS, SINGLE = (0.1, 1.0, 10.0), 4
"""Factors on the damping of a step of all values; number of values that are changed one by one
where no step of all lowers the error."""
CLIPPED_M = 0.08
"""Bound on gaps in the spread that is reported."""


class Clip(NamedTuple):
    """Poses of a clip, whose cloth is at rest in its first frame, and masks of some frames."""

    skinned: Float32[np.ndarray, "F V 3"]
    """Posed template of every frame without cloth, body frame, m."""
    joints: Float32[np.ndarray, "F J 4 4"]
    """Joint transforms of every frame."""
    frames: Int64[np.ndarray, "n"]
    """Frames that have masks; ascending."""
    silhouettes: Silhouettes
    """Masks of these frames; views of the body frame."""
    fps: float


class Gaps(NamedTuple):
    """Gaps at rim vertices of all clips, m."""

    clips: Int64[np.ndarray, "s"]
    rows: Int64[np.ndarray, "s"]
    """Place among the clip's frames that have masks."""
    cameras: Int64[np.ndarray, "s"]
    vertices: Int64[np.ndarray, "s"]
    own: Float32[np.ndarray, "s"]
    """`Rim.own` of each."""
    gaps: Float32[np.ndarray, "s"]


@dataclass(frozen=True)
class ClothFit:
    """Result of a fit."""

    model: ClothModel | None
    """None: no part of the template swings."""
    share: float
    """Share of the gaps' spread that is explained; noise counts as unexplained."""
    pieces: tuple[tuple[int, float], ...]
    """(Points, gain in validation) of each piece that was tried."""


def fit_cloth(
    data: AvatarData,
    clips: Sequence[Clip],
    floor_m: float = -np.inf,
    rounds: int = 8,
    threads: int = 1,
    progress: Callable[[float], None] = lambda _done: None,
    device: torch.device | str = "cpu",
) -> ClothFit:
    """Find what swings, and how.

    rounds: of the search. device: of the simulations. progress: receives the part that is done.
    """
    faces = data.template.faces.numpy()
    held_out = clips[HELD_OUT - 1 :: HELD_OUT]
    fitted = [clip for clip in clips if not any(clip is other for other in held_out)]
    gaps = find_gaps(clips, [clip.skinned[clip.frames] for clip in clips], faces, threads)
    swings, noise_m = find_swinging(gaps, faces, len(data.template.vertices))
    model = first_model(data, swings, floor_m)
    progress(0.1)
    if model is None:
        return ClothFit(None, 0.0, ())

    # A looseness for each piece, and constants for all: the better of a few rounds from each start.
    how = faces, threads, torch.device(device)
    search = Search(model, fitted, *how)
    judge = Search(model, held_out, *how) if held_out else search
    labels = pieces_of(model.looseness > 0, edge_graph(model))
    pieces = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float32)
    best, least, trials = model, np.inf, rounds // 4
    for number, start in enumerate(STARTS):
        part = partial(_part, progress, 0.1 + 0.15 * number, 0.15)
        trial = search.minimise(search.scan(begin(model, start), pieces), pieces, trials, part)
        # The surface that lies nearer leaves less to the decoder: no gap is forgiven here.
        gaps_now = np.clip(judge.rims(next(judge.simulate([trial]))[0]).gaps, -CLIPPED_M, CLIPPED_M)
        error = mean(gaps_now**2)
        logger.info("cloth, %d passes: gaps of %.1f mm", start.passes, 1e3 * np.sqrt(error))
        if error < least:
            best, least = trial, error
    best = search.scan(best, pieces)
    model = search.minimise(best, pieces, rounds - trials, partial(_part, progress, 0.4, 0.5))
    share = search.share(model)

    # Drop the pieces that explain nothing in clips that were not fitted.
    gains = judge_pieces(judge, model, labels, noise_m)
    useful = np.isin(labels, np.flatnonzero(gains >= LEAST_GAIN)) & (model.looseness > 0)
    sizes = np.bincount(labels[model.looseness > 0], minlength=len(gains))
    judged = tuple((int(n), float(g)) for n, g in zip(sizes, gains, strict=True) if n)
    if not useful.all():
        model = keep_points(data, model, useful)
    progress(1.0)
    return ClothFit(model, share, judged)


def _part(progress: Callable[[float], None], first: float, share: float, done: float) -> None:
    """Report a part of the work."""
    progress(first + share * done)


def first_model(
    data: AvatarData, swings: Bool[np.ndarray, "V"], floor_m: float = -np.inf
) -> ClothModel | None:
    """Build a model of equal looseness; pieces of few points are left out. None: nothing swings."""
    first = np.where(swings, STARTS[0].looseness, 0.0).astype(np.float32)
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
    looseness[model.followers[chosen[model.follower_corners].all(1)]] = STARTS[0].looseness
    return build_model(data, looseness, model.constants, model.floor_m, model.passes)


def begin(model: ClothModel, start: Start) -> ClothModel:
    """Put a start's looseness, constants and passes into a model."""
    looseness = np.full(len(model.vertices), start.looseness, np.float32)
    model = with_looseness(model, looseness)
    return replace(model, constants=start.constants, passes=start.passes)


def find_gaps(
    clips: Sequence[Clip], surfaces: Sequence[np.ndarray], faces: np.ndarray, threads: int = 1
) -> Gaps:
    """Find the gaps of surfaces [n, V, 3], one for each frame that has masks; m."""

    def of_frame(number: int, row: int) -> list[tuple]:
        clip, places = clips[number], surfaces[number][row].astype(np.float64)
        normals = vertex_normals(places, faces)
        parts = []
        for camera in np.flatnonzero(clip.silhouettes.is_seen[row]).tolist():
            rim = find_rim(places, normals, faces, clip.silhouettes, row, camera)
            keep = np.abs(rim.gaps) < FURTHEST_M
            vertices, count = rim.vertices[keep], int(keep.sum())
            places_of = (np.full(count, n) for n in (number, row, camera))
            parts.append((*places_of, vertices, rim.own[keep], rim.gaps[keep]))
        return parts

    frames = [(n, row) for n, clip in enumerate(clips) for row in range(len(clip.frames))]
    with ThreadPoolExecutor(threads) as pool:
        parts = [
            part for parts in pool.map(lambda place: of_frame(*place), frames) for part in parts
        ]
    empty = (*(np.zeros(0, np.int64),) * 4, *(np.zeros(0, np.float32),) * 2)
    return Gaps(*map(np.concatenate, zip(*parts or [empty], strict=True)))


def find_swinging(gaps: Gaps, faces: np.ndarray, count: int) -> tuple[Bool[np.ndarray, "V"], float]:
    """Find the vertices whose gaps vary beyond the noise: (mask, noise in m).

    gaps: of the skinned surface. Most of a body is tight: its median deviation is the noise.
    """
    adjacency = vertex_adjacency(torch.from_numpy(faces), count).astype(np.float64)
    near = (adjacency + sp.eye(count)).tocsr()
    order = np.argsort(gaps.vertices, kind="stable")
    starts = np.searchsorted(gaps.vertices[order], np.arange(count + 1))
    counts = np.diff(starts)
    often = OFTEN * np.median(counts[counts > 0]) if counts.any() else 0.0
    spread = _spread_around(starts, gaps.gaps[order], near.indptr, near.indices, often, TAIL)
    is_seen = np.isfinite(spread)
    if not is_seen.any():
        return np.zeros(count, bool), 0.0
    noise = float(np.median(spread[is_seen]))
    swings, sure = (is_seen & (spread**2 > noise**2 + least**2) for least in (SWING_M, SURE_M))
    labels = pieces_of(swings, adjacency)
    sizes = np.bincount(labels[sure], minlength=max(1, int(labels.max()) + 1))
    return swings & (sizes[labels] >= LEAST_PIECE), noise


@njit(cache=True, nogil=True)
def _spread_around(starts, gaps, near_starts, near, often, tail):  # type: ignore[no-untyped-def]
    """Estimate the standard deviation of the gaps around each vertex by two quantiles; or NaN."""
    normal = 2.0 * 1.036433  # distance of a normal distribution's quantiles at 0.15 and 0.85
    out = np.full(len(starts) - 1, np.nan)
    for i in range(len(out)):
        count = 0
        for k in range(near_starts[i], near_starts[i + 1]):
            count += starts[near[k] + 1] - starts[near[k]]
        if count == 0 or count < often * (near_starts[i + 1] - near_starts[i]):
            continue
        values, n = np.empty(count), 0
        for k in range(near_starts[i], near_starts[i + 1]):
            for g in range(starts[near[k]], starts[near[k] + 1]):
                values[n] = gaps[g]
                n += 1
        out[i] = (np.quantile(values, 1.0 - tail) - np.quantile(values, tail)) / normal
    return out


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
    count = int(np.clip(moving.sum() / POINTS_PER_BIAS, labels.max() + 1, MAX_BIASES))
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
    """Least squares of a simulated surface's outlines against those of masks."""

    def __init__(
        self,
        model: ClothModel,
        clips: Sequence[Clip],
        faces: np.ndarray,
        threads: int = 1,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self.clips, self.faces, self.threads = clips, faces, threads
        self._solver = solver_on(device, model, threads)
        self._inputs = [self._prepare(clip) for clip in clips]
        self._biases = smooth_functions(model)
        self._worn = np.concatenate([model.vertices, model.followers])
        moving = np.flatnonzero(model.looseness > 0)
        self._point = np.full(clips[0].skinned.shape[1], -1)
        self._point[model.vertices[moving]] = moving

    def simulate(
        self, models: Sequence[ClothModel], starts: Any = None
    ) -> Iterator[tuple[list[Places], Any]]:
        """Simulate all clips with each model: (places in frames with masks, settled starts)."""
        return self._solver.play_clips(models, self._inputs, starts)

    def _prepare(self, clip: Clip) -> ClipInputs:
        goals = torch.from_numpy(clip.skinned[:, self._solver.model.vertices])
        inputs = self._solver.inputs(goals, torch.from_numpy(clip.joints))
        return ClipInputs(inputs, clip.frames.tolist(), clip.fps)

    def rims(self, places: Sequence[np.ndarray] | None) -> Gaps:
        """Find the gaps at points that move. places: simulated; None: as they are skinned."""
        surfaces = [clip.skinned[clip.frames] for clip in self.clips]
        if places is not None:
            for surface, own in zip(surfaces, places, strict=True):
                surface[:, self._worn] = own
        gaps = find_gaps(self.clips, surfaces, self.faces, self.threads)
        points = self._point[gaps.vertices]
        keep = np.flatnonzero(points >= 0)
        keep = keep[:: max(1, -(-len(keep) // MAX_GAPS))]
        return Gaps(*(part[keep] for part in gaps))._replace(vertices=points[keep])

    def measure(self, rims: Gaps, places: Sequence[np.ndarray]) -> Float32[np.ndarray, "s"]:
        """Measure the gaps anew where the points are now; bounded."""
        out = np.zeros(len(rims.gaps), np.float32)
        for number, clip in enumerate(self.clips):
            own = rims.clips == number
            rows = rims.rows[own]
            out[own] = measure_gaps(
                clip.silhouettes, rows, rims.cameras[own],
                places[number][rows, rims.vertices[own]], rims.own[own],
            )  # fmt: skip
        return np.clip(np.nan_to_num(out, nan=FURTHEST_M), -FURTHEST_M, FURTHEST_M)

    def residuals(self, rims: Gaps) -> "Residuals":
        """Prepare residuals that leave out what gaps may be wrong by."""
        functions = self._biases[rims.vertices]
        swing = np.abs(rims.gaps - np.median(rims.gaps) if len(rims.gaps) else rims.gaps)
        return Residuals(functions, 1.0 / (1.0 + (swing / ROBUST_M) ** 2))

    def scan(self, model: ClothModel, pieces: Float32[np.ndarray, "P K"]) -> ClothModel:
        """Choose the best of some values of looseness for each piece.

        All pieces take a value at once: they barely touch. A tail of hair is explained at 0.7 and
        not at 0.4, and no slope leads from there to here.
        """
        own, labels = looseness_of(model, pieces), pieces.argmax(1)
        values = np.stack([own, *(np.full(len(own), level) for level in LEVELS)]).astype(np.float32)
        models = [with_looseness(model, pieces @ looseness) for looseness in values]
        errors = [
            piece_means(labels, len(own), *self.squares(places))
            for places, _ in self.simulate(models)
        ]
        chosen = values[np.argmin(errors, 0), np.arange(len(own))]
        logger.info("cloth, looseness of the pieces: %s", chosen.round(2))
        return with_looseness(model, pieces @ chosen)

    def minimise(
        self,
        model: ClothModel,
        functions: np.ndarray,
        rounds: int,
        progress: Callable[[float], None] = lambda _done: None,
    ) -> ClothModel:
        """Fit a model's constants, and its looseness as a sum of functions [P, K]."""
        count = functions.shape[1]
        values = pack(looseness_of(model, functions), model.constants)
        low, high = bounds_of(count)
        steps = np.where(np.arange(len(values)) < count, 0.05, 0.12)
        reach = np.where(np.arange(len(values)) < count, 0.25, 0.7)
        values, prior = np.clip(values, low, high), np.clip(values, low, high)
        places, starts = next(self.simulate([unpack(model, functions, values)]))
        damping = 1e-2
        for number in range(rounds):
            # The rims of this round, and derivatives by differences, away from the bounds.
            rims = self.rims(places)
            residuals = self.residuals(rims)
            rest = residuals(rims.gaps)
            error = float(rest @ rest)
            slopes = np.empty((len(values), len(rest)), np.float32)
            changes = np.where(values + steps <= high, steps, -steps)
            moved = [unpack(model, functions, row) for row in values + np.diag(changes)]
            for k, (other, _) in enumerate(self.simulate(moved, starts)):
                slopes[k] = (residuals(self.measure(rims, other)) - rest) / changes[k]
                progress((number + k / len(values)) / rounds)
            curvature = (slopes @ slopes.T).astype(np.float64)
            tie = 1e-3 * error / len(values)
            gradient = slopes @ rest + tie * (values - prior)
            curvature += tie * np.eye(len(values))

            # The best of three steps. Folding cloth is not smooth: else a step of one value.
            before, best = error, (values, places, starts, damping * 30.0)
            moves = []
            scale = np.diag(curvature) + 1e-6 * np.diag(curvature).max()
            for strength in (damping * factor for factor in DAMPINGS):
                move = -np.linalg.solve(curvature + strength * np.diag(scale), gradient)
                moves.append((np.clip(move, -reach, reach), strength))
            for k in np.argsort(-np.abs(gradient * steps))[:SINGLE]:
                move = -np.sign(gradient[k]) * steps[k] * (np.arange(len(values)) == k)
                moves.append((move, damping))
            for tried, (move, strength) in enumerate(moves):
                if tried >= len(DAMPINGS) and error < before:
                    break
                trial = np.clip(values + move, low, high)
                other, ends = next(self.simulate([unpack(model, functions, trial)], starts))
                rest = residuals(self.measure(rims, other))
                if float(rest @ rest) < error:
                    error = float(rest @ rest)
                    best = trial, other, ends, strength
            values, places, starts, damping = best
            logger.info("cloth, round %d: gaps fall to %.3f", number + 1, error / before)
            # Little is gained, or nothing by short steps either.
            if before - error < 1e-3 * before and (error < before or damping > 1.0):
                break
        return unpack(model, functions, values)

    def share(self, model: ClothModel) -> float:
        """Compute the share of the gaps' spread that a model explains."""
        places, _ = next(self.simulate([model]))
        return 1.0 - mean(self.squares(places)[1]) / mean(self.squares(None)[1])

    def squares(
        self, places: Sequence[np.ndarray] | None
    ) -> tuple[Int64[np.ndarray, "s"], Float32[np.ndarray, "s"]]:
        """Compute the squares of the gaps, bounded: (point, m^2) of each."""
        rims = self.rims(places)
        gaps = Residuals(self._biases[rims.vertices], np.ones(len(rims.gaps)))(rims.gaps)
        return rims.vertices, np.clip(gaps, -CLIPPED_M, CLIPPED_M) ** 2


class Residuals:
    """Weighted gaps without their best approximation by smooth functions of the surface."""

    def __init__(self, functions: Float32[np.ndarray, "s K"], weights: np.ndarray) -> None:
        self._root = np.sqrt(weights).astype(np.float32)
        self._weighted = self._root[:, None] * functions
        square = (self._weighted.T @ self._weighted).astype(np.float64)
        self._inverse = np.linalg.inv(square + 1e-3 * np.eye(len(square)))

    def __call__(self, gaps: Float32[np.ndarray, "s"]) -> Float32[np.ndarray, "s"]:
        weighted = self._root * gaps
        biases = self._inverse @ (self._weighted.T @ weighted).astype(np.float64)
        return weighted - self._weighted @ biases.astype(np.float32)


def mean(values: np.ndarray) -> float:
    """Compute the mean; 0 of none."""
    return float(values.mean()) if len(values) else 0.0


def judge_pieces(
    judge: Search, model: ClothModel, labels: Int64[np.ndarray, "P"], noise_m: float
) -> Float64[np.ndarray, "K"]:
    """Measure what each piece gains in the clips of a search; labels: piece of each point.

    Gains are shares of the gaps' spread beyond the noise.
    """
    count = int(labels.max()) + 1
    before, after = (
        piece_means(labels, count, *judge.squares(places))
        for places in (None, next(judge.simulate([model]))[0])
    )
    return (before - after) / np.maximum.reduce(
        [before - noise_m**2, 0.1 * before, np.full(count, 1e-12)]
    )


def piece_means(
    labels: Int64[np.ndarray, "P"],
    count: int,
    points: Int64[np.ndarray, "s"],
    values: Float32[np.ndarray, "s"],
) -> Float64[np.ndarray, "K"]:
    """Average values at points over each piece; 0 where it has none."""
    sizes, sums = (np.bincount(labels[points], w, minlength=count) for w in (None, values))
    return sums / np.maximum(sizes, 1)


def looseness_of(
    model: ClothModel, functions: Float32[np.ndarray, "P K"]
) -> Float32[np.ndarray, "K"]:
    """Average a model's looseness over each function, such as a piece."""
    return model.looseness @ (functions / np.maximum(functions.sum(0), 1e-9))
