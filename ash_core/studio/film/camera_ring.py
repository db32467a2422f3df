"""Cameras of a virtual stage: rings around the actor and a dome above.

Each is a little different, as real ones are. All see the whole person in every pose.
"""

import math
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from ash_core.geometry.camera import look_at
from ash_core.records import Camera

CAMERAS_MAX: Final = 256
LEAST_SIDE_PX: Final = 48
MOST_SIDE_PX: Final = 4096
DISTANCE_M: Final = 3.4
CLEARANCE_M: Final = 2.1
"""Distance from the actor's outermost place, if larger."""
FLOOR_M: Final = 0.3
"""Lowest height of a camera."""
MARGIN: Final = 0.03
"""Share of the image, on each side, that stays free of the actor."""
WORST_ZOOM: Final = 1.15
"""Upper bound on a focal length over the shortest one: all lenses are of one kind."""
RINGS: Final = ((0.6, (-4.0, 9.0)), (0.25, (27.0, 33.0)), (0.15, (52.0, 58.0)))
"""Rows of (share of the cameras, alternating elevations in degrees): ring, ring, dome."""


def camera_ring(
    points: Float[np.ndarray, "P 3"], count: int, width: int, height: int, seed: int
) -> list[Camera]:
    """Place cameras that see all points (world, m): every place of the surface in every pose."""
    random = np.random.default_rng((seed, 0xCA3))
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    radius = float(np.linalg.norm((points - middle)[:, :2], axis=1).max())
    cameras = []
    for number, (azimuth, elevation) in enumerate(_directions(count)):
        azimuth += random.uniform(-2.0, 2.0)
        elevation += random.uniform(-1.5, 1.5)
        away = max(DISTANCE_M, radius + CLEARANCE_M) * random.uniform(0.95, 1.08)
        a, e = math.radians(azimuth), math.radians(elevation)
        towards = np.array([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        eye = middle + away * towards
        eye[2] = max(eye[2], FLOOR_M)
        shift = random.uniform(-0.008, 0.008, 2) * (width, height)
        squeeze = random.uniform(0.9985, 1.0015)
        cameras.append(_aimed(points, eye, width, height, shift, squeeze, f"{number:03d}"))
    shortest = min(camera.K[0, 0].item() for camera in cameras)
    return [
        _zoomed(camera, min(1.0, WORST_ZOOM * shortest / camera.K[0, 0].item())
                * random.uniform(0.97, 1.0))
        for camera in cameras
    ]  # fmt: skip


def _directions(count: int) -> list[tuple[float, float]]:
    """Return the (azimuth, elevation) of each camera, degrees."""
    counts = [round(share * count) for share, _ in RINGS]
    counts[0] = count - counts[1] - counts[2]
    directions = []
    for ring, (number, (_, elevations)) in enumerate(zip(counts, RINGS, strict=True)):
        for n in range(number):
            turn = (n + 0.5 * (ring % 2)) / number
            directions.append((360.0 * turn, elevations[n % 2]))
    return directions


def _aimed(
    points: Float[np.ndarray, "P 3"],
    eye: Float[np.ndarray, "3"],
    width: int,
    height: int,
    shift: Float[np.ndarray, "2"],
    squeeze: float,
    name: str,
) -> Camera:
    """Choose the longest lens at a place that sees all points, aimed so that they fill the image.

    shift: offset of the principal point from the centre, px.  squeeze: ratio of its pixels' height
    to width.
    """
    centre = np.array([width, height]) / 2 + shift
    target, viewmat, focal = points.mean(0), torch.eye(4), 1.0
    for _ in range(4):
        viewmat = look_at(torch.from_numpy(eye), torch.from_numpy(target))
        view = viewmat.double().numpy()
        local = points @ view[:3, :3].T + view[:3, 3]
        slopes = local[:, :2] / local[:, 2:]
        low, high = slopes.min(0), slopes.max(0)
        room = np.array([width, height]) * (0.5 - MARGIN)
        # The visible points' centre in the image's centre gives both sides the same room.
        focal = float((room * 2 / (high - low)).min())
        off = (low + high) / 2 - (np.array([width, height]) / 2 - centre) / focal
        depth = float(np.median(local[:, 2]))
        target = eye + view[:3, :3].T @ np.array([off[0] * depth, off[1] * depth, depth])
    K = torch.tensor([[focal, 0.0, centre[0]], [0.0, focal * squeeze, centre[1]], [0.0, 0.0, 1.0]])
    camera = Camera(viewmat, K.float(), width, height, name)
    return _zoomed(camera, _fit(camera, points))


def _fit(camera: Camera, points: Float[np.ndarray, "P 3"]) -> float:
    """Return the factor on the focal lengths at which all points are just within the margin."""
    view, K = camera.viewmat.double().numpy(), camera.K.double().numpy()
    local = points @ view[:3, :3].T + view[:3, 3]
    slopes = local[:, :2] / local[:, 2:]
    size = np.array([camera.width, camera.height])
    room_high, room_low = size * (1 - MARGIN) - K[:2, 2], K[:2, 2] - size * MARGIN
    focals = np.array([K[0, 0], K[1, 1]])
    high = (slopes.max(0) * focals).clip(1e-6)
    low = (-slopes.min(0) * focals).clip(1e-6)
    return float(min((room_high / high).min(), (room_low / low).min()))


def _zoomed(camera: Camera, factor: float) -> Camera:
    K = camera.K.clone()
    K[0, 0] *= factor
    K[1, 1] *= factor
    return replace(camera, K=K)
