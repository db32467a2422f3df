"""A free camera round a target, what mouse and keys do to it, and its path through keys.

World frame: Z up, metres, radians; cameras have OpenCV axes. A view's yaw and pitch say where the
eye stands as seen from the target: yaw 0 on world +X (a character at rest looks there), growing
anticlockwise seen from above; pitch is the height above the horizon. Roll turns the camera
clockwise about its forward axis. Movements in rad and pixels are the mouse's: +x right, +y down.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ash_core.conventions import NEAR_M
from ash_core.errors import InputError
from ash_core.geometry import framing
from ash_core.geometry.camera import camera_from_fov
from ash_core.records import Camera, DrawableData

PITCH_LIMIT_RAD: Final = math.radians(89.0)
"""Orbiting stops here, or turning on would swing the view about."""
DISTANCES_M: Final = (0.05, 500.0)
FOVS_RAD: Final = (math.radians(1.0), math.radians(150.0))
"""Least and greatest vertical field of view that a user can set."""
FARTHEST_M: Final = 1e6
"""Targets stay within this of the origin, along each axis."""
ORTHOGRAPHIC_FOV_RAD: Final = math.radians(0.5)
"""Field of view of an orthographic picture. A person 3 m off is then drawn from 250 m, where
float32 depths still differ by 0.02 mm and a metre in depth changes sizes by 0.4 %."""
MARGIN: Final = 1.1
"""Framed points leave this much room about them, times their size."""

AXIS_VIEWS: Final[Mapping[str, tuple[float, float]]] = {
    "front": (0.0, 0.0),
    "back": (math.pi, 0.0),
    "left": (0.5 * math.pi, 0.0),
    "right": (-0.5 * math.pi, 0.0),
    "top": (0.0, 0.5 * math.pi),
    "bottom": (0.0, -0.5 * math.pi),
}
"""(yaw, pitch) of the views along the axes. Left and right are the character's own."""


@dataclass(frozen=True)
class View:
    """Free camera about a target."""

    target: tuple[float, float, float]
    """The point in the middle of the picture that movements keep to, m."""
    yaw: float
    pitch: float
    roll: float
    distance: float
    """Distance from the eye to the target, m."""
    fov_y: float
    """Vertical field of view, rad."""
    orthographic: bool = False
    """Draw without perspective, at the size that things at the target have with it."""

    @staticmethod
    def of_camera(camera: Camera, distance: float) -> "View":
        """Make the view from a camera, of a target so far ahead of it (m).

        A View has square pixels and its principal point in the middle.
        """
        viewmat = camera.viewmat.double().cpu().numpy()
        rotation, forward = viewmat[:3, :3], viewmat[2, :3] / np.linalg.norm(viewmat[2, :3])
        across = math.hypot(forward[0], forward[1])
        if across > 1e-6:
            yaw = math.atan2(-forward[1], -forward[0])
        else:  # straight down or up: yaw and roll are one turn
            yaw = math.atan2(-rotation[0, 0], rotation[0, 1])
        right = _axes_at(yaw, 0.0, 0.0)[0]
        down = np.cross(forward, right)
        roll = math.atan2(rotation[0] @ down, rotation[0] @ right)
        distance = _clamped(distance, DISTANCES_M)
        return View(
            target=_triple(-rotation.T @ viewmat[:3, 3] + distance * forward),
            yaw=yaw,
            pitch=math.atan2(-forward[2], across),
            roll=roll,
            distance=distance,
            fov_y=2 * math.atan(0.5 * camera.height / float(camera.K[1, 1])),
        )

    @staticmethod
    def front_of(
        data: DrawableData, dofs: Float[Tensor, "*F D"], aspect: float, fov_y: float
    ) -> "View":
        """Stand before a person, whole in every pose; aspect is width over height."""
        poses = torch.atleast_2d(dofs).flatten(0, -2)
        height = 1000
        width = max(1, round(aspect * height))
        camera = framing.front_camera(data, poses, fov_y, width, height)
        middle = framing.motion_middle(data, poses).to(camera.viewmat)
        distance = camera.viewmat[2, :3] @ middle + camera.viewmat[2, 3]
        return View.of_camera(camera, float(distance))

    @property
    def eye(self) -> tuple[float, float, float]:
        """Return the viewpoint, m. Orthographic pictures are drawn from behind it."""
        return _triple(np.array(self.target) - self.distance * self._axes[2])

    @property
    def viewmat(self) -> Float[Tensor, "4 4"]:
        """Return camera from world, as in `camera`."""
        rotation = self._axes
        viewmat = np.eye(4)
        viewmat[:3, :3] = rotation
        viewmat[:3, 3] = -rotation @ np.array(self.target)
        viewmat[2, 3] += self._drawn[1]
        return torch.from_numpy(viewmat).float()

    def camera(self, width: int, height: int) -> Camera:
        """Make the camera that draws this view."""
        return camera_from_fov(self.viewmat, self._drawn[0], width, height)

    def orbit(self, dx_rad: float, dy_rad: float) -> "View":
        """Turn about the target: what is before it follows the mouse. Up to 89 degrees high."""
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        level_x, level_y = cos * dx_rad - sin * dy_rad, sin * dx_rad + cos * dy_rad
        limit = max(PITCH_LIMIT_RAD, abs(self.pitch))  # views from above may turn, too
        pitch = _clamped(self.pitch + level_y, (-limit, limit))
        return replace(self, yaw=_wrapped(self.yaw - level_x), pitch=pitch)

    def look_around(self, dx_rad: float, dy_rad: float) -> "View":
        """Turn the head: the eye stays, the view turns to where the mouse goes."""
        turned = self.orbit(dx_rad, dy_rad)
        return turned._moved(turned.distance * (turned._axes[2] - self._axes[2]))

    def roll_by(self, angle_rad: float) -> "View":
        """Turn the camera clockwise, so the picture anticlockwise."""
        return replace(self, roll=_wrapped(self.roll + angle_rad))

    def pan(self, dx_px: float, dy_px: float, height_px: float) -> "View":
        """Drag the world along in the picture's plane: what is at the target's depth follows
        the mouse exactly."""
        right, down, _ = self._axes
        return self._moved(-self._pixel_m(height_px) * (dx_px * right + dy_px * down))

    def dolly(self, factor: float) -> "View":
        """Stand at so many times the distance."""
        return replace(self, distance=_clamped(self.distance * factor, DISTANCES_M))

    def zoom_at(
        self, factor: float, x_px: float, y_px: float, width: float, height: float
    ) -> "View":
        """Dolly so that the point under the cursor at the target's depth stays under it."""
        nearer = self.dolly(factor)
        right, down, _ = self._axes
        cursor = (x_px - 0.5 * width) * right + (y_px - 0.5 * height) * down
        return nearer._moved((self._pixel_m(height) - nearer._pixel_m(height)) * cursor)

    def fly(self, right: float, up: float, forward: float, dt_s: float, speed_m_s: float) -> "View":
        """Move eye and target for a time; right, up and forward are -1 to 1.

        Up is the world's. Two directions at once are no faster than one.
        """
        across, _, ahead = self._axes
        way = right * across + up * np.array((0.0, 0.0, 1.0)) + forward * ahead
        pushed = max(1.0, math.sqrt(right**2 + up**2 + forward**2))
        return self._moved(dt_s * speed_m_s / pushed * way)

    def with_fov(self, fov_y: float) -> "View":
        """Change the field of view (rad), from where things at the target look as large as before.

        It goes no further than distances allow.
        """
        half = self._half_height
        nearest, furthest = (2 * math.atan(half / distance) for distance in DISTANCES_M)
        fov_y = _clamped(_clamped(fov_y, FOVS_RAD), (furthest, nearest))
        distance = _clamped(half / math.tan(0.5 * fov_y), DISTANCES_M)
        return replace(self, fov_y=fov_y, distance=distance)

    def frame_points(self, points: Float[Tensor, "N 3"] | ndarray, aspect: float) -> "View":
        """Frame all points with a margin from the same direction; aspect is width over height.

        Points that are not finite do not count; without any other the view stays.
        """
        places = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points, float)
        places = places[np.isfinite(places).all(1)]
        if not len(places):
            return self
        target = 0.5 * places.min(0) + 0.5 * places.max(0)
        x, y, z = self._axes @ (places - target).T
        fov, drawn_m = self._drawn
        room = np.maximum(np.abs(y), np.abs(x) / aspect) * MARGIN / math.tan(0.5 * fov)
        needed_m = float((np.maximum(room, NEAR_M) - z).max())
        distance = _clamped(self.distance * needed_m / drawn_m, DISTANCES_M)
        return replace(self, distance=distance, target=(0.0, 0.0, 0.0))._moved(target)

    def as_json(self) -> dict[str, object]:
        """Convert to plain numbers for a session file."""
        entries: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        return entries | {"target": [*self.target]}

    @staticmethod
    def from_json(value: object, where: str = "view") -> "View":
        """Read the inverse of `as_json`. `where` names the value's place in messages."""
        entries = _entries(value, where, [f.name for f in fields(View)])
        target = entries["target"]
        if not isinstance(target, list | tuple) or len(target) != 3:
            raise InputError(f"{where}.target: expected 3 numbers, got {_shown(target)}")
        x, y, z = (
            checked_number(v, f"{where}.target[{i}]", (-FARTHEST_M, FARTHEST_M))
            for i, v in enumerate(target)
        )
        numbers = {
            name: checked_number(entries[name], f"{where}.{name}", RANGES[name]) for name in RANGES
        }
        orthographic = entries["orthographic"]
        if not isinstance(orthographic, bool):
            raise InputError(
                f"{where}.orthographic: expected true or false, got {_shown(orthographic)}"
            )
        return View((x, y, z), **numbers, orthographic=orthographic)

    @cached_property
    def _axes(self) -> ndarray:
        return _axes_at(self.yaw, self.pitch, self.roll)

    @property
    def _half_height(self) -> float:
        """Half of what the picture's height shows at the target, m."""
        return self.distance * math.tan(0.5 * self.fov_y)

    @property
    def _drawn(self) -> tuple[float, float]:
        """(field of view, distance) of the camera that draws."""
        if not self.orthographic:
            return self.fov_y, self.distance
        fov = min(self.fov_y, ORTHOGRAPHIC_FOV_RAD)
        return fov, self._half_height / math.tan(0.5 * fov)

    def _pixel_m(self, height_px: float) -> float:
        """A pixel's size at the target, m."""
        return 2 * self._half_height / height_px

    def _moved(self, way: ndarray) -> "View":
        place = np.clip(np.array(self.target) + way, -FARTHEST_M, FARTHEST_M)
        return replace(self, target=_triple(place))


RANGES: Final = {
    "yaw": (-1000.0, 1000.0),
    "pitch": (-0.5 * math.pi, 0.5 * math.pi),
    "roll": (-1000.0, 1000.0),
    "distance": DISTANCES_M,
    "fov_y": (1e-4, math.pi - 1e-4),
}
"""Limits of the numbers of a view in a file."""
LAST_FRAME: Final = 2**31 - 1

PARTS: Final = (slice(0, 3), *(slice(i, i + 1) for i in range(3, 9)))
"""Columns of a path's rows that belong together."""
STEEPEST: Final = 3.0
"""Source: Fritsch and Carlson 1980: a single coordinate then never turns between its keys."""


@dataclass(frozen=True)
class CameraKey:
    """The view that a path has at a frame."""

    frame: int
    view: View


@dataclass(frozen=True)
class CameraPath:
    """A camera that moves smoothly through keys, no two at one frame.

    Non-uniform Catmull-Rom through a pivot, the angles, the logarithms of the distance and of the
    field of view's tangent. The pivot lies between eye and target: where both keys at hand have it
    least apart. So two keys about one target make an arc and not a chord, and two keys from one
    eye a turn of the head.
    """

    keys: tuple[CameraKey, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.keys, key=lambda key: key.frame))
        frames = [key.frame for key in ordered]
        assert len(set(frames)) == len(frames), frames
        object.__setattr__(self, "keys", ordered)

    def with_key(self, key: CameraKey) -> "CameraPath":
        """Add a key, in the place of another at its frame."""
        return CameraPath((*self.without(key.frame).keys, key))

    def without(self, frame: int) -> "CameraPath":
        """Remove the key at a frame, if there is one."""
        return CameraPath(tuple(key for key in self.keys if key.frame != frame))

    def moved(self, frame: int, to: int) -> "CameraPath":
        """Move the key of one frame, if there is one, to another; it replaces a key there."""
        moving = [key for key in self.keys if key.frame == frame]
        path = self.without(frame)
        for key in moving:
            path = path.with_key(replace(key, frame=to))
        return path

    def at(self, frame: float) -> View | None:
        """Return the view at a frame; before the first key and after the last it stands still."""
        if not self.keys:
            return None
        times, values, slopes = self._spline
        i = bisect_right(times, frame) - 1
        if i < 0:
            return self.keys[0].view
        if i == len(times) - 1 or frame == times[i]:
            return self.keys[i].view
        step = times[i + 1] - times[i]
        u = (frame - times[i]) / step
        row = (
            (1 + 2 * u) * (1 - u) ** 2 * values[i]
            + u**2 * (3 - 2 * u) * values[i + 1]
            + step * u * (1 - u) * ((1 - u) * slopes[i] - u * slopes[i + 1])
        )
        return _view_of_row(row, self.keys[i].view.orthographic)

    def as_json(self) -> list[dict[str, object]]:
        """Convert to plain numbers for a session file."""
        return [{"frame": key.frame, "view": key.view.as_json()} for key in self.keys]

    @staticmethod
    def from_json(value: object, where: str = "camera_path") -> "CameraPath":
        """Read the inverse of `as_json`. `where` names the value's place in messages."""
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}: expected a list of keys, got {_shown(value)}")
        keys: dict[int, CameraKey] = {}
        for i, item in enumerate(value):
            place = f"{where}[{i}]"
            entries = _entries(item, place, ["frame", "view"])
            frame = checked_frame(entries["frame"], f"{place}.frame")
            if frame in keys:
                raise InputError(f"{place}.frame: expected one key a frame, got two at {frame}")
            keys[frame] = CameraKey(frame, View.from_json(entries["view"], f"{place}.view"))
        return CameraPath(tuple(keys.values()))

    @cached_property
    def _spline(self) -> tuple[list[float], ndarray, ndarray]:
        """Times [n], rows [n, 9] at the keys (see `_view_of_row`) and their slopes by frame."""
        views = [key.view for key in self.keys]
        times = [float(key.frame) for key in self.keys]
        angles = [np.array((views[0].yaw, views[0].pitch, views[0].roll))]
        for view in views[1:]:
            angles.append(_nearest(np.array((view.yaw, view.pitch, view.roll)), angles[-1]))
        eyes = np.array([view.eye for view in views])
        arms = np.array([view.target for view in views]) - eyes
        reach = _pivots(eyes, arms)[:, None]
        sizes = np.log([(view.distance, math.tan(0.5 * view.fov_y)) for view in views])
        rows = np.concatenate((eyes + reach * arms, np.array(angles), sizes, reach), 1)
        visible = np.concatenate((eyes, np.array(angles), sizes), 1)
        pauses = np.all(np.abs(np.diff(visible, axis=0)) < 1e-9, axis=1)
        return times, rows, _slopes(np.array(times), rows, pauses)


def _view_of_row(row: ndarray, orthographic: bool) -> View:
    """Make a view of pivot, yaw, pitch, roll, log distance, log tan of half the fov, reach."""
    yaw, pitch, roll, log_distance, log_tangent, reach = row[3:].tolist()
    distance = _clamped(math.exp(log_distance), DISTANCES_M)
    target = row[:3] + (1 - reach) * distance * _axes_at(yaw, pitch, roll)[2]
    target = np.clip(target, -FARTHEST_M, FARTHEST_M)
    pitch = _wrapped(pitch)
    if abs(pitch) > 0.5 * math.pi:  # over the pole
        yaw, pitch, roll = yaw + math.pi, math.copysign(math.pi, pitch) - pitch, roll + math.pi
    fov = _clamped(2 * math.atan(math.exp(log_tangent)), RANGES["fov_y"])
    return View(_triple(target), _wrapped(yaw), pitch, _wrapped(roll), distance, fov, orthographic)


def _pivots(eyes: ndarray, arms: ndarray) -> ndarray:
    """[n] in 0 (the eye) to 1 (the target): the part of each key's arm (target - eye) whose end
    lies nearest to the same part's end at its neighbours."""
    eye_steps, arm_steps = np.diff(eyes, axis=0), np.diff(arms, axis=0)
    ends = ((1, 0), (0, 1))
    towards = sum(np.pad(-(eye_steps * arm_steps).sum(1), end) for end in ends)
    squares = sum(np.pad((arm_steps**2).sum(1), end) for end in ends)
    still = squares < 1e-12
    return np.where(still, 1.0, np.clip(towards / np.where(still, 1.0, squares), 0.0, 1.0))


def _slopes(times: ndarray, rows: ndarray, pauses: ndarray) -> ndarray:
    """Per frame: those of the parabola through each key and its neighbours; at the ends those of a
    natural spline. None is steeper than STEEPEST times the way to either neighbour, or keys of very
    uneven spacing would throw the camera far out; at both keys of a pause [n - 1] all are zero."""
    if len(times) < 2:
        return np.zeros_like(rows)
    steps = np.diff(times)[:, None]
    secants = np.diff(rows, axis=0) / steps
    inner = steps[1:] * secants[:-1] + steps[:-1] * secants[1:]
    inner /= steps[1:] + steps[:-1]
    first, last = secants[0], secants[-1]
    if len(inner):
        first, last = 1.5 * first - 0.5 * inner[0], 1.5 * last - 0.5 * inner[-1]
    slopes = np.concatenate((first[None], inner, last[None]))
    for part in PARTS:
        ways = STEEPEST * np.linalg.norm(secants[:, part], axis=1)
        limits = np.minimum(np.append(ways, np.inf), np.append(np.inf, ways))
        lengths = np.linalg.norm(slopes[:, part], axis=1)
        slopes[:, part] *= np.minimum(1.0, limits / np.maximum(lengths, 1e-12))[:, None]
    slopes[:-1][pauses] = 0.0
    slopes[1:][pauses] = 0.0
    return slopes


def _nearest(angles: ndarray, to: ndarray) -> ndarray:
    """The same orientation as (yaw, pitch, roll), in the angles nearest to others."""
    yaw, pitch, roll = angles
    both = np.array((angles, (yaw + math.pi, math.pi - pitch, roll + math.pi)))
    both -= math.tau * np.round((both - to) / math.tau)
    return both[((both - to) ** 2).sum(1).argmin()]


def _axes_at(yaw: float, pitch: float, roll: float) -> ndarray:
    """Rows: the camera's right, down and forward in the world."""
    sin_y, cos_y, sin_p, cos_p = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    right = np.array((-sin_y, cos_y, 0.0))
    down = np.array((sin_p * cos_y, sin_p * sin_y, -cos_p))
    forward = np.array((-cos_p * cos_y, -cos_p * sin_y, -sin_p))
    cos_r, sin_r = math.cos(roll), math.sin(roll)
    return np.stack((cos_r * right + sin_r * down, cos_r * down - sin_r * right, forward))


def _wrapped(angle: float) -> float:
    return math.remainder(angle, math.tau)


def _clamped(value: float, limits: tuple[float, float]) -> float:
    return min(max(float(value), limits[0]), limits[1])


def _triple(v: ndarray) -> tuple[float, float, float]:
    x, y, z = v.tolist()
    return x, y, z


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _entries(value: object, where: str, names: list[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: expected an object with {', '.join(names)}, got {_shown(value)}"
        )
    for name in names:
        if name not in value:
            raise InputError(f"{where}.{name}: expected a value, got none")
    return value


def checked_number(value: object, where: str, limits: tuple[float, float]) -> float:
    is_number = not isinstance(value, bool)  # and not-a-number is in no range
    if is_number and isinstance(value, int | float) and limits[0] <= value <= limits[1]:
        return float(value)
    raise InputError(
        f"{where}: expected a number from {limits[0]:g} to {limits[1]:g}, got {_shown(value)}"
    )


def checked_frame(value: object, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_FRAME:
        return value
    raise InputError(
        f"{where}: expected a whole number from 0 to {LAST_FRAME}, got {_shown(value)}"
    )
