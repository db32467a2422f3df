"""Masks of several frames as signed distance images, and what they tell about places in space."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from numba import njit
from numpy import ndarray
from scipy.ndimage import distance_transform_edt

from ash_core.conventions import NEAR_M, R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.geometry.lens import Lens, straight_map
from ash_core.records import Camera

BUDGET_PX = 40_000_000
"""Number of pixels of all distance images together, if not said otherwise; larger masks are made
smaller."""
MARGIN = 0.12
"""Margin around a mask's person, as a share of their height."""
LEAST_PX = 16
"""Least number of mask pixels of a person in an image that counts."""

Masks = Callable[[int, int], UInt8[ndarray, "h w"]]
"""Function of (index of the frame, index of the camera): mask, person above 127."""


class MaskCamera(Protocol):
    """Calibrated camera of a capture, such as `captures.capture.CaptureCamera`."""

    @property
    def name(self) -> str: ...
    @property
    def K(self) -> Float[ndarray, "3 3"]: ...  # noqa: N802
    @property
    def viewmat(self) -> Float[ndarray, "4 4"]: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def lens(self) -> Lens: ...


@dataclass(frozen=True)
class BodyCamera:
    """Camera of a data set, whose views are of the body frame."""

    name: str
    K: Float[ndarray, "3 3"]
    viewmat: Float[ndarray, "4 4"]
    width: int
    height: int
    lens: Lens = field(default_factory=Lens)

    @classmethod
    def of(cls, camera: Camera) -> "BodyCamera":
        """Convert a camera of the world."""
        turn = np.eye(4)
        turn[:3, :3] = R_WORLD_BODY
        viewmat = camera.viewmat.double().numpy() @ turn
        K = camera.K.double().numpy()
        return cls(camera.name, K, viewmat, camera.width, camera.height)


@dataclass(frozen=True)
class Silhouettes:
    """Distance images of F frames and C cameras, cut to the person."""

    cameras: Sequence[MaskCamera]
    pixels: Float32[ndarray, "P"]
    """Signed distances of all images, px of the stored masks, negative inside."""
    tables: Int[ndarray, "F C 7"]
    """Start in `pixels`, left, top (px of the small image), width, height of the cut, then width
    and height of the whole small image; start -1: no evidence."""
    scales: Float[ndarray, "F C"]
    """Pixels of the small image for each of the mask."""
    views: Float[ndarray, "C 4 4"]
    Ks: Float[ndarray, "C 3 3"]

    @property
    def is_seen(self) -> Bool[ndarray, "F C"]:
        """Return which masks hold a person."""
        return self.tables[..., 0] >= 0


def read_silhouettes(
    cameras: Sequence[MaskCamera],
    frames: Sequence[int],
    masks: Masks,
    progress: Callable[[float], None] = lambda _done: None,
    budget_px: int = BUDGET_PX,
) -> Silhouettes:
    """Compute distance images of the masks of some frames, which are read in their order.

    Raises: InputError for a mask of another size than its camera's.
    """
    # All images share one buffer: its size is bounded by making larger masks smaller.
    table = np.full((len(frames), len(cameras), 7), -1, np.int64)
    scales = np.ones((len(frames), len(cameras)))
    budget = budget_px / max(1, len(frames) * len(cameras))
    maps = [_straight(camera) for camera in cameras]
    parts, start = [], 0
    # Cut each mask to the person and measure distances to its edge.
    for f, frame in enumerate(frames):
        for c, camera in enumerate(cameras):
            mask = np.asarray(masks(frame, c))
            if mask.shape != (camera.height, camera.width):
                size = " x ".join(str(n) for n in mask.shape[::-1])
                raise InputError(
                    f"template: mask of frame {frame}, camera {camera.name}: expected "
                    f"{camera.width} x {camera.height}, got {size}"
                )
            person = mask > 127
            if maps[c] is not None:
                person = person[maps[c]]
            if person.sum() < LEAST_PX:
                continue
            cut, corner, scale, whole = _cut(person, budget)
            image = _signed_distance(cut) / scale
            table[f, c] = (start, *corner, cut.shape[1], cut.shape[0], *whole)
            scales[f, c] = scale
            parts.append(image.ravel())
            start += image.size
        progress((f + 1) / len(frames))
    pixels = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    views = np.stack([camera.viewmat for camera in cameras]).astype(float)
    Ks = np.stack([camera.K for camera in cameras]).astype(float)
    return Silhouettes(cameras, pixels, table, scales, views, Ks)


def _straight(camera: MaskCamera) -> tuple[ndarray, ndarray] | None:
    """Return rows and columns of the distorted mask for each pixel; None for a straight lens."""
    if camera.lens.is_straight:
        return None
    K = camera.K
    pinhole = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
    places = straight_map(camera.lens, pinhole, camera.width, camera.height)
    columns = np.clip(np.rint(places[..., 0]), 0, camera.width - 1).astype(np.int64)
    rows = np.clip(np.rint(places[..., 1]), 0, camera.height - 1).astype(np.int64)
    return rows, columns


def _cut(
    person: Bool[ndarray, "h w"], budget: float
) -> tuple[Bool[ndarray, "a b"], tuple[int, int], float, tuple[int, int]]:
    """Cut a mask to the person and make it smaller by a whole factor if it is over the budget.

    Returns the cut, its left and top, the scale, and width and height of the whole small image.
    """
    rows, columns = np.flatnonzero(person.any(1)), np.flatnonzero(person.any(0))
    margin = max(4, math.ceil(MARGIN * (rows[-1] - rows[0] + 1)))
    height, width = person.shape
    top, bottom = max(rows[0] - margin, 0), min(rows[-1] + margin + 1, height)
    left, right = max(columns[0] - margin, 0), min(columns[-1] + margin + 1, width)
    factor = max(1, math.ceil(math.sqrt((bottom - top) * (right - left) / budget)))
    if factor == 1:
        return person[top:bottom, left:right], (int(left), int(top)), 1.0, (width, height)
    # Whole blocks only; a block is the person's by majority.
    top, left = top // factor, left // factor
    bottom, right = min(bottom // factor + 1, height // factor), min(
        right // factor + 1, width // factor
    )  # fmt: skip
    block = person[top * factor : bottom * factor, left * factor : right * factor]
    shares = block.reshape(bottom - top, factor, right - left, factor).mean((1, 3))
    whole = (width // factor, height // factor)
    return shares >= 0.5, (int(left), int(top)), 1.0 / factor, whole


def _signed_distance(inside: Bool[ndarray, "a b"]) -> Float32[ndarray, "a b"]:
    """Compute the distance of each pixel's centre to the edge of a mask, px, negative inside."""
    away = np.asarray(distance_transform_edt(~inside), np.float32)
    if inside.all():
        return np.full(inside.shape, -float(max(inside.shape)), np.float32)
    deep = np.asarray(distance_transform_edt(inside), np.float32)
    return np.where(inside, 0.5 - deep, away - 0.5).astype(np.float32)


def hull_distances(
    silhouettes: Silhouettes, frame: int, points: Float[ndarray, "N 3"]
) -> Float32[ndarray, "N"]:
    """Compute how far places in the world lie outside the visual hull of a frame, m.

    Negative: inside all silhouettes that see the place. NaN: fewer than two see it.
    """
    return _hull(
        np.ascontiguousarray(points, np.float64), silhouettes.pixels, silhouettes.tables[frame],
        silhouettes.scales[frame], silhouettes.views, silhouettes.Ks,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def sample(pixels, table, scale, u, v):  # type: ignore[no-untyped-def]
    """Read a distance image at a place of the mask, px; NaN outside of the image."""
    start, left, top, width, height = table[0], table[1], table[2], table[3], table[4]
    x, y = u * scale, v * scale
    if start < 0 or x < 0 or y < 0 or x > table[5] or y > table[6]:
        return np.nan
    x, y = x - left - 0.5, y - top - 0.5
    inner_x, inner_y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    away = math.hypot(x - inner_x, y - inner_y)
    column, row = min(int(inner_x), width - 2), min(int(inner_y), height - 2)
    column, row = max(column, 0), max(row, 0)
    a, b = inner_x - column, inner_y - row
    base = start + row * width + column
    right, down = min(1, width - 1), width * min(1, height - 1)
    above = (1 - a) * pixels[base] + a * pixels[base + right]
    below = (1 - a) * pixels[base + down] + a * pixels[base + down + right]
    return (1 - b) * above + b * below + away / scale


@njit(cache=True, nogil=True)
def _hull(points, pixels, tables, scales, views, Ks):  # type: ignore[no-untyped-def]
    out = np.empty(len(points), np.float32)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        furthest, views_of_it = -np.inf, 0
        for c in range(len(views)):
            V, K = views[c], Ks[c]
            depth = V[2, 0] * x + V[2, 1] * y + V[2, 2] * z + V[2, 3]
            if depth <= NEAR_M:
                continue
            right = (V[0, 0] * x + V[0, 1] * y + V[0, 2] * z + V[0, 3]) / depth
            down = (V[1, 0] * x + V[1, 1] * y + V[1, 2] * z + V[1, 3]) / depth
            u = K[0, 0] * right + K[0, 1] * down + K[0, 2]
            v = K[1, 1] * down + K[1, 2]
            distance = sample(pixels, tables[c], scales[c], u, v)
            if not np.isnan(distance):
                views_of_it += 1
                furthest = max(furthest, distance * depth / (0.5 * (K[0, 0] + K[1, 1])))
        out[i] = furthest if views_of_it >= 2 else np.nan
    return out
