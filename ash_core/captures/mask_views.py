"""Masks of some pictures of a capture, and how a body's joints lie in them by a reading."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.ndimage import distance_transform_edt

from ash_core.captures.capture import Capture, CaptureCamera
from ash_core.captures.images import image_size, read_alphas
from ash_core.captures.reading import METRES, OWN, Reading
from ash_core.errors import InputError
from ash_core.files.body_poses import RootRule
from ash_core.files.io import bad, show
from ash_core.geometry.lens import distort

PAIRS: Final = 60
"""Pictures that are looked at."""
FRAMES: Final = 15
MOST_LISTED: Final = 3
"""Cameras with empty masks that are named."""
SIDE_PX: Final = 384
"""Longest side of the masks that readings are tried on."""
TOLERANCE: Final = 0.006
"""Distance from a mask, of its longest side, at which a joint still counts as inside."""
NEAR_M: Final = 0.05
JOINTS: Final = 22
"""Joints of the body without fingers and face, which small errors move out of the mask."""
LEAST_SEEN: Final = 0.25
"""Share of the joints that must be in the picture: cameras may show a part of the person."""
KEPT: Final = 0.01
"""The layout's own reading is taken if it is as good as the best but for this share."""
EQUAL: Final = 0.02
"""Difference of shares up to which two readings fit equally."""
HOPELESS: Final = 0.4
"""Share at some scales, 13 % apart, below which none fits."""
FLAT: Final = 1.3
"""Ratio of the largest to the smallest scale that fits, from which a scale is not known."""
WIDEST_RAY: Final = 3.0
"""Largest x/z, y/z at which a lens is taken to distort as its coefficients say."""


class Body(NamedTuple):
    """Places of a body's joints under each rule of its root, m, in the capture's world."""

    places: Mapping[RootRule, Float[ndarray, "F J 3"]]
    is_seen: Bool[ndarray, "F J"]


class Trial(NamedTuple):
    """One reading and how it fits."""

    reading: Reading
    share: float
    """Mean share of the joints in a picture that are inside its mask."""
    scale: float
    """Metres in a unit of the cameras' world as read; 1 where the unit is known."""
    scales: tuple[float, float] | None = None
    """Least and largest scale that fit equally, where the masks do not decide."""


class MaskViews:
    """Masks of some pictures, and the joints that should be inside."""

    def __init__(self, capture: Capture, body: Body) -> None:
        self.capture, self.body = capture, body
        self.own = OWN[capture.layout]
        keys = _sample(capture)
        fields_px, sizes, shown = [], [], []
        # A camera's pictures are neighbours: a video is decoded in one pass.
        for camera, group in itertools.groupby(keys, key=lambda key: key[1]):
            frames = [frame for frame, _ in group]
            for frame, (alpha, size) in zip(frames, _masks(capture, frames, camera), strict=True):
                if (alpha >= 128).any():
                    shown.append((frame, camera))
                    fields_px.append(_signed_distance(alpha))
                    sizes.append(size)
        if not shown:
            frame, camera = keys[0]
            first = f"first camera {show(capture.cameras[camera].name)}, frame {frame}"
            text = f"expected a person in the masks, found {len(keys)} empty ones ({first})"
            raise bad(capture.folder, None, text)
        self.keys = shown
        self.notes = _empty_masks(capture, keys, shown)
        # All distances in one array: a look-up for all pictures at once.
        heights, widths = zip(*(field.shape for field in fields_px), strict=True)
        self._distances = np.full((len(shown), max(heights), max(widths)), -1e6, np.float32)
        for number, field in enumerate(fields_px):
            self._distances[number, : field.shape[0], : field.shape[1]] = field
        self._size = np.array([(field.shape[1], field.shape[0]) for field in fields_px])
        self._persons = np.array([_extent(field) for field in fields_px])
        self._centres = np.array([_centre(field) for field in fields_px])
        cameras = [capture.cameras[camera] for _, camera in shown]
        declared = np.array([(camera.width, camera.height) for camera in cameras], np.float64)
        self._to_mask = self._size / declared
        self._sizes = dict(zip((camera for _, camera in shown), sizes, strict=True))
        self._cameras = cameras
        self._K = np.array([camera.K for camera in cameras])
        self._viewmats = np.array([camera.viewmat for camera in cameras])
        rows = {frame: row for row, frame in enumerate(capture.frames)}
        self._rows = np.array([rows[frame] for frame, _ in shown])
        self._frames = np.unique(self._rows, return_inverse=True)[1]
        self._seen = body.is_seen[self._rows]
        self._tolerance = TOLERANCE * self._size.max(1)[:, None]

    def viewmats(self, reading: Reading, viewmats: Float[ndarray, "n 4 4"]) -> ndarray:
        """Compute camera-from-world matrices [n, 4, 4] of a reading."""
        flip = np.diag([1.0, -1.0, -1.0, 1.0])
        matrices = flip @ viewmats if self.own.axes == "opengl" else viewmats
        if reading.extrinsics != self.own.extrinsics:
            matrices = np.linalg.inv(matrices)
        if reading.axes == "opengl":
            matrices = flip @ matrices
        matrices = matrices.copy()
        matrices[:, :3, 3] *= METRES[reading.units] / METRES[self.own.units]
        return matrices

    def project(
        self, reading: Reading, scale: float
    ) -> tuple[Float[ndarray, "n J 2"], Bool[ndarray, "n J"]]:
        """Project the joints to mask pixels, and tell which are in front of the camera."""
        matrices = self.viewmats(reading, self._viewmats)
        places = self.body.places[reading.root][self._rows]
        local = np.einsum("nij,nkj->nki", matrices[:, :3, :3], places)
        local += scale * matrices[:, None, :3, 3]
        depth = local[..., 2]
        ahead = depth > NEAR_M
        rays = local[..., :2] / np.where(ahead, depth, 1.0)[..., None]
        for number, camera in enumerate(self._cameras):
            if not camera.lens.is_straight:
                wide = np.abs(rays[number]).max(-1) > WIDEST_RAY
                ahead[number] &= ~wide
                rays[number] = distort(camera.lens, np.where(wide[:, None], 0.0, rays[number]))
        K = self._K / reading.intrinsics
        pixels = np.einsum("nij,nkj->nki", K[:, :2, :2], rays) + K[:, None, :2, 2]
        return pixels * self._to_mask[:, None], ahead

    def distances(self, reading: Reading, scale: float) -> Float[ndarray, "n J"]:
        """Look up the joints' distances to the masks' rims, inside positive; NaN out of view."""
        pixels, ahead = self.project(reading, scale)
        inside = ahead & (pixels >= 0).all(-1) & (pixels < self._size[:, None]).all(-1)
        columns, rows = np.where(inside[..., None], pixels, 0).astype(int).transpose(2, 0, 1)
        values = self._distances[np.arange(len(self.keys))[:, None], rows, columns]
        return np.where(inside & self._seen, values, np.nan)

    def share(self, reading: Reading, scale: float) -> float:
        """Compute the mean share of joints inside the masks; frames weigh equally."""
        distances = self.distances(reading, scale)
        in_view = np.isfinite(distances)
        with np.errstate(invalid="ignore"):
            hits = (distances >= -self._tolerance).sum(1)
        least = np.maximum(LEAST_SEEN * self._seen.sum(1), 1.0)
        shares = hits / np.maximum(in_view.sum(1), least)
        counts = np.bincount(self._frames)
        return float((np.bincount(self._frames, shares) / counts).mean())

    def try_one(self, reading: Reading) -> Trial:
        """Try a reading whose unit is known."""
        return Trial(reading, self.share(reading, 1.0), 1.0)

    def distance(self, one: Trial, other: Trial) -> float:
        """Compute the median distance of the joints in two readings, of the person's height."""
        first, ahead = self.project(one.reading, one.scale)
        second, also = self.project(other.reading, other.scale)
        both = ahead & also & self._seen
        if both.sum() < 0.5 * self._seen.sum():
            return np.inf
        apart = np.linalg.norm(first - second, axis=-1) / self._persons[:, None]
        return float(np.median(apart[both]))

    # ---- cameras without a unit ----

    def try_scales(self, reading: Reading, scale_m: float | None) -> Trial:
        """Try a reading of cameras without a unit, at the scale that fits it best."""
        if scale_m is not None:
            return Trial(reading, self.share(reading, scale_m), scale_m)
        start = self._first_scale(reading)
        if not 1e-6 < start < 1e6:
            return Trial(reading, 0.0, 1.0)
        # Most readings fit at no scale: a few tell.
        few = [self.share(reading, scale) for scale in start * np.geomspace(0.6, 1.6, 9)]
        if max(few) < HOPELESS:
            return Trial(reading, max(few), start)
        scales = start * np.geomspace(0.6, 1.6, 61)
        shares = np.array([self.share(reading, scale) for scale in scales])
        fits = np.flatnonzero(shares >= shares.max() - EQUAL)
        low, high = float(scales[fits[0]]), float(scales[fits[-1]])
        if high > FLAT * low:
            return Trial(reading, float(shares.max()), start, (low, high))
        # Within the scales that fit, limbs should lie in the middle of their masks.
        finer = np.geomspace(low, high, 41)
        depths = [self._depth(reading, scale) for scale in finer]
        scale = float(finer[int(np.argmax(depths))])
        # Poses that were fitted in the cameras' own world need none.
        if low <= 1.0 <= high and self.share(reading, 1.0) >= shares.max() - KEPT:
            scale = 1.0
        return Trial(reading, self.share(reading, scale), scale)

    def _depth(self, reading: Reading, scale: float) -> float:
        """Compute how deep joints lie in the masks, of the person's height."""
        depths = self.distances(reading, scale) / self._persons[:, None]
        return float(np.nan_to_num(depths, nan=-0.1).clip(-0.1).mean())

    def _first_scale(self, reading: Reading) -> float:
        """Solve for the scale that puts the joints' mean on the ray of each mask's centre."""
        matrices = self.viewmats(reading, self._viewmats)
        centres = self._centres / self._to_mask
        K = self._K / reading.intrinsics
        rays = np.ones((len(centres), 3))
        rays[:, :2] = (centres - K[:, :2, 2]) / np.stack((K[:, 0, 0], K[:, 1, 1]), -1)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        middle = self.body.places[reading.root][self._rows].mean(1)
        turned = np.einsum("nij,nj->ni", matrices[:, :3, :3], middle)
        across, along = np.cross(rays, matrices[:, :3, 3]), np.cross(rays, turned)
        below = float((across**2).sum())
        return -float((across * along).sum()) / below if below > 0.0 else 0.0

    def camera(self, index: int, reading: Reading, scale: float) -> CaptureCamera:
        """Return a camera as read in this way, of its stored images' size."""
        camera = self.capture.cameras[index]
        width, height = self._sizes.get(index) or _stored_size(self.capture, index)
        viewmat = self.viewmats(reading, camera.viewmat[None])[0]
        viewmat[:3, 3] *= scale
        K = camera.K / reading.intrinsics
        K[0] *= width / camera.width
        K[1] *= height / camera.height
        K[2] = 0.0, 0.0, 1.0
        return replace(camera, K=K, viewmat=viewmat, width=width, height=height)


def _sample(capture: Capture) -> list[tuple[int, int]]:
    """Choose pictures all over the capture, by camera and then by frame."""
    cameras: dict[int, list[int]] = {}
    for frame, camera in capture.images:
        cameras.setdefault(frame, []).append(camera)
    frames = sorted(cameras)
    places = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    each = -(-PAIRS // len(places))
    chosen: set[tuple[int, int]] = set()
    for number, place in enumerate(np.unique(places).tolist()):
        frame = frames[place]
        shown = sorted(cameras[frame])
        first = number * each % len(shown)
        turned = (*shown[first:], *shown[:first])
        chosen |= {(frame, camera) for camera in turned[:each]}
    return sorted(chosen, key=lambda key: (key[1], key[0]))


def _empty_masks(
    capture: Capture, keys: Sequence[tuple[int, int]], shown: Collection[tuple[int, int]]
) -> tuple[str, ...]:
    """Report the cameras with empty masks. keys: pictures by camera; shown: those with a person."""
    notes = []
    for camera, group in itertools.groupby(keys, key=lambda key: key[1]):
        frames = [frame for frame, _ in group]
        empty = [frame for frame in frames if (frame, camera) not in shown]
        if empty:
            name = f"camera {show(capture.cameras[camera].name)}"
            count = f"all {len(empty)}" if empty == frames else f"{len(empty)} of {len(frames)}"
            notes.append(f"{name}: {count} masks that were looked at are empty, frame {empty[0]}")
    if len(notes) > MOST_LISTED:
        notes[MOST_LISTED:] = [f"empty masks in {len(notes) - MOST_LISTED} more cameras"]
    return tuple(notes)


def _masks(
    capture: Capture, frames: Sequence[int], camera: int
) -> list[tuple[ndarray, tuple[int, int]]]:
    """Decode masks [h, w] of one camera, and the sizes of their images."""
    keys = [(frame, camera) for frame in frames]
    sizes = [image_size(capture.images[key]) for key in keys]
    for key, size in zip(keys, sizes, strict=True):
        _check_size(capture, key, size)
    alphas = read_alphas((capture.images[key], capture.masks.get(key)) for key in keys)
    return list(zip(map(_smaller, alphas), sizes, strict=True))


def _check_size(capture: Capture, key: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse an image whose shape is not its camera's."""
    camera, (width, height) = capture.cameras[key[1]], size
    off = abs(width * camera.height - height * camera.width)
    if off > max(camera.width, camera.height, width, height):
        shape = f"{camera.width} x {camera.height} px or that shape, as camera {camera.name}"
        place = capture.images[key].place
        raise bad(place, None, f"expected {shape}, got {width} x {height}")


def _stored_size(capture: Capture, camera: int) -> tuple[int, int]:
    """Read the size of a camera's first image."""
    refs = (capture.images[key] for key in sorted(capture.images) if key[1] == camera)
    ref = next(refs, None)
    if ref is None:
        name = capture.cameras[camera].name
        raise InputError(f"{capture.folder}: camera {name}: expected images, found none")
    return image_size(ref)


def _smaller(mask: ndarray) -> ndarray:
    """Take every n-th pixel of a mask, so that its longest side is at most SIDE_PX."""
    step = -(-max(mask.shape) // SIDE_PX)
    return mask[step // 2 :: step, step // 2 :: step]


def _signed_distance(alpha: ndarray) -> Float[ndarray, "h w"]:
    """Compute each pixel's distance to the mask's rim, px; positive inside."""
    inside = alpha >= 128
    depth, height = (np.asarray(distance_transform_edt(part)) for part in (inside, ~inside))
    return (depth - height).astype(np.float32)


def _extent(distances: ndarray) -> float:
    """Measure the height of a person in the picture, px."""
    rows = np.flatnonzero((distances > 0).any(1))
    columns = np.flatnonzero((distances > 0).any(0))
    return float(max(np.ptp(rows), np.ptp(columns)) + 1)


def _centre(distances: ndarray) -> Float[ndarray, "2"]:
    """Compute the centre (x, y) of a mask, px."""
    rows, columns = np.nonzero(distances > 0)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])
