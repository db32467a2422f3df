"""Cameras of a capture: cameras.json and Skeletool .calibration.

Pixels: the published renderer projects to fl * x / z + cx - 0.5 with pixel centres at integers.
This is our convention (centre of the first pixel at 0.5) with the same cx.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ash_core.conventions import MM_PER_M, R_WORLD_BODY
from ash_core.files.cameras.checks import (
    MAX_CAMERAS,
    as_number,
    as_object,
    check_rigid,
    make_camera,
)
from ash_core.files.cameras.transforms import NERFSTUDIO_KEYS
from ash_core.files.io import LineReader, bad, read_json, shorten, show, write_text
from ash_core.geometry.lens import Lens
from ash_core.records import Camera

SENSOR_MM = 10
"""Sensor width that we write; no reader uses it."""

_LENS_KEYWORDS = ("radial", "tangential", "distortion")
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


# ---- cameras.json ----


def read_cameras(path: Path | str, is_certain: bool = False) -> tuple[Camera, ...]:
    """Read a published `cameras.json`: world-from-camera matrices in m, OpenCV axes.

    is_certain: the user named this format, although the keys are another's. Raises: InputError.
    """
    path, json_content = Path(path), read_json(path)
    foreign = isinstance(json_content, list)
    foreign = foreign or (isinstance(json_content, dict) and json_content.keys() & NERFSTUDIO_KEYS)
    if foreign and not is_certain:
        kind = "3D Gaussian Splatting" if isinstance(json_content, list) else "nerfstudio"
        text = f"expected a published cameras.json, got one of {kind}"
        raise bad(path, None, f"{text}: ash-studio cameras converts it")
    content = as_object(path, "the file", json_content)
    frames = content.get("frames")
    if not isinstance(frames, list) or not 0 < len(frames) <= MAX_CAMERAS:
        raise bad(path, None, f"expected 'frames', a list of 1 to {MAX_CAMERAS} cameras")
    cameras = tuple(_camera_of_frame(path, n, content, frame) for n, frame in enumerate(frames))
    _check_names(path, cameras)
    return cameras


def _check_names(path: Path | str, cameras: Sequence[Camera]) -> None:
    """Refuse two cameras of one name: a choice by name is ambiguous. Raises: InputError."""
    first: dict[str, int] = {}
    for index, camera in enumerate(cameras):
        if camera.name and camera.name in first:
            pair = f"{first[camera.name]} and {index}"
            text = f"expected cameras of different names, got {show(camera.name)} for {pair}"
            raise bad(path, None, text)
        first[camera.name] = index


def _camera_of_frame(path: Path, index: int, shared: dict[str, object], frame: object) -> Camera:
    place = f"frames[{index}]"
    # The image size is global; ours may be per frame, for cameras that differ.
    values = {**shared, **as_object(path, place, frame)}

    def number(key: str) -> float:
        return as_number(path, f"{place}: {key}", values.get(key))

    for key in _DISTORTION:
        if key in values and number(key) != 0.0:
            text = f"{place}: expected no lens distortion, got {key} = {number(key):g}"
            raise bad(path, None, f"{text}; undistort the images first")
    matrix = values.get("transform_matrix")
    rows = matrix if isinstance(matrix, list) else []
    if [len(row) if isinstance(row, list) else 0 for row in rows] != [4] * 4:
        raise bad(path, None, f"{place}: expected transform_matrix, 4 rows of 4 numbers")
    T_world_camera = np.array(
        [[as_number(path, f"{place}: transform_matrix", value) for value in row] for row in rows]
    )
    check_rigid(path, place, T_world_camera)
    name = values.get("file_path", f"{index:06d}")
    return make_camera(
        path,
        place,
        viewmat=np.linalg.inv(T_world_camera),
        focal=(number("fl_x"), number("fl_y")),
        centre=(number("cx"), number("cy")),
        size=(number("w"), number("h")),
        name=name if isinstance(name, str) else str(index),
    )


def write_cameras(path: Path | str, cameras: Sequence[Camera]) -> None:
    """Write a `cameras.json` in the published layout."""
    sizes = {(camera.width, camera.height) for camera in cameras}
    assert sizes, "no cameras"
    width, height = min(sizes)
    frames = []
    for index, camera in enumerate(cameras):
        K = camera.K.double()
        assert K[0, 1] == 0.0, "the layout has no place for skew"
        frame: dict[str, object] = {
            "file_path": camera.name or f"{index:06d}",
            "camera_angle_x": 2.0 * math.atan(camera.width / (2.0 * K[0, 0].item())),
            "camera_angle_y": 2.0 * math.atan(camera.height / (2.0 * K[1, 1].item())),
            "fl_x": K[0, 0].item(),
            "fl_y": K[1, 1].item(),
            "cx": K[0, 2].item(),
            "cy": K[1, 2].item(),
            "transform_matrix": torch.linalg.inv(camera.viewmat.double()).tolist(),
        }
        if len(sizes) > 1:
            frame |= {"w": camera.width, "h": camera.height}
        frames.append(frame)
    shared = dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0)
    content = {**shared, "w": width, "h": height, "aabb_scale": 16, "frames": frames}
    write_text(path, json.dumps(content, indent=4) + "\n")


# ---- .calibration ----


def read_calibration(path: Path | str) -> tuple[Camera, ...]:
    """Read a Skeletool `.calibration`: camera-from-body matrices in mm, sizes as in the file.

    A distorted lens is refused, since no Camera describes it.
    """
    blocks = _read_blocks(path)
    for block in blocks:
        if block.distortion is not None:
            line, text = block.distortion
            more = "ash-studio cameras --undistort makes cameras.json, extract straight images"
            raise bad(path, line, f"expected no lens distortion, got {show(text)}; {more}")
    return tuple(block.camera() for block in blocks)


def write_calibration(
    path: Path | str, cameras: Sequence[Camera], lenses: Sequence[Lens] | None = None
) -> None:
    """Write a Skeletool `.calibration` of static cameras, by default without distortion."""
    T_world_body = np.eye(4)
    T_world_body[:3, :3] = R_WORLD_BODY
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number, camera in enumerate(cameras):
        K = np.eye(4)
        K[:3, :3] = camera.K.double().cpu().numpy()
        assert K[0, 1] == 0.0, "the layout has no place for skew"
        T_camera_body = camera.viewmat.double().cpu().numpy() @ T_world_body
        T_camera_body[:3, 3] *= MM_PER_M
        lines += [
            f"name          {camera.name or number}",
            f"  sensor      {SENSOR_MM} {SENSOR_MM * camera.height / camera.width:.6g}",
            f"  size        {camera.width} {camera.height}",
            "  animated    0",
            *(
                f"  {name}   " + " ".join(f"{value:.9g}" for value in matrix.flatten())
                for name, matrix in (("intrinsic", K), ("extrinsic", T_camera_body))
            ),
            _lens_line(lenses[number] if lenses else Lens()),
        ]
    write_text(path, "\n".join(lines) + "\n")


def _lens_line(lens: Lens) -> str:
    if lens.is_straight:
        return "  radial      0"
    return "  distortion  " + " ".join(f"{value:.9g}" for value in astuple(lens))


def read_lenses(path: Path | str) -> tuple[tuple[Camera, ...], tuple[Lens, ...]]:
    """Read a Skeletool `.calibration` with each camera's lens; the cameras are undistorted.

    `radial` is read as k1 k2 ... k6 or, where the first number is the count of the others, as that
    count and these; `tangential` as p1 p2; `distortion` as OpenCV orders it: k1 k2 p1 p2 k3 ... k6.
    """
    blocks = _read_blocks(path)
    return tuple(block.camera() for block in blocks), tuple(block.lens() for block in blocks)


def _read_blocks(path: Path | str) -> list["_Block"]:
    reader = LineReader(path)
    reader.header("Skeletool Camera Calibration")
    blocks: list[_Block] = []
    while reader.peek() is not None:
        keyword, *values = reader.next("a camera").split()
        if keyword == "name":
            name = " ".join(values)
            if name and any(block.name == name for block in blocks):
                raise reader.bad(f"expected cameras of different names, got {show(name)} again")
            blocks.append(_Block(reader, name))
            if len(blocks) > MAX_CAMERAS:
                raise reader.bad(f"expected at most {MAX_CAMERAS} cameras")
        elif not blocks:
            raise reader.bad(f"expected 'name', the first line of a camera, got {show(keyword)}")
        else:
            blocks[-1].add(keyword, values)
    if not blocks:
        raise reader.bad("expected at least one camera, found none")
    return blocks


class _Block:
    """Lines of one camera."""

    _counts: ClassVar = {"size": 2, "intrinsic": 16, "extrinsic": 16}

    def __init__(self, reader: LineReader, name: str) -> None:
        self.reader, self.name, self.line = reader, name, reader.line
        self.numbers: dict[str, list[float]] = {}
        self.distortion: tuple[int, str] | None = None
        """Line and text of the first coefficient that is not zero."""

    def add(self, keyword: str, values: list[str]) -> None:
        """Add one line of the camera."""
        if keyword in self.numbers:
            raise self.reader.bad(f"expected one {show(keyword)} per camera, got a second one")
        numbers = [self.reader.number(value, shorten(keyword, 40)) for value in values]
        if keyword in self._counts and len(numbers) != self._counts[keyword]:
            count = self._counts[keyword]
            raise self.reader.bad(f"expected {count} numbers of {keyword}, got {len(numbers)}")
        text = " ".join((keyword, *values))
        if keyword == "animated" and any(numbers):
            raise self.reader.bad(f"expected a camera that stands still, got {show(text)}")
        if keyword in _LENS_KEYWORDS:
            if len(numbers) > 9:
                raise self.reader.bad(f"expected up to 8 coefficients, got {show(text)}")
            if any(numbers):
                self.distortion = self.distortion or (self.reader.line, text)
        self.numbers[keyword] = numbers

    def lens(self) -> Lens:
        """Return the lens; without any entry, one without distortion."""
        radial, tangential, mixed = (self._coefficients(keyword) for keyword in _LENS_KEYWORDS)
        if mixed and (radial or tangential):
            place = f"camera {show(self.name)}"
            raise bad(self.reader.path, self.line, f"{place}: expected one kind of distortion")
        names = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
        if not mixed:
            names = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
            mixed = [*radial[:6], *[0.0] * (6 - len(radial)), *tangential[:2]]
        return Lens(**dict(zip(names, mixed, strict=False)))

    def _coefficients(self, keyword: str) -> list[float]:
        numbers = self.numbers.get(keyword, [])
        counted = len(numbers) > 1 and numbers[0] == len(numbers) - 1
        numbers = numbers[1:] if counted else numbers
        most = {"radial": 6, "tangential": 2, "distortion": 8}[keyword]
        if any(numbers[most:]):
            place = f"camera {show(self.name)}: {keyword}"
            reason = f"expected up to {most} coefficients, got {len(numbers)}"
            raise bad(self.reader.path, self.line, f"{place}: {reason}")
        return numbers if any(numbers) else []

    def camera(self) -> Camera:
        """Return the camera, after all its lines."""
        path, place = Path(self.reader.path), f"camera {show(self.name)}"
        missing = [key for key in self._counts if key not in self.numbers]
        if missing:
            raise bad(path, self.line, f"{place}: expected {', '.join(missing)}, found none")
        K = np.array(self.numbers["intrinsic"]).reshape(4, 4)
        T_camera_body = np.array(self.numbers["extrinsic"]).reshape(4, 4)
        if K[0, 1] != 0.0:
            raise bad(path, self.line, f"{place}: expected no skew, got {K[0, 1]:g}")
        if K[1, 0] != 0.0 or K[2, :3].tolist() != [0.0, 0.0, 1.0]:
            text = f"{place}: expected an intrinsic matrix fx 0 cx 0, 0 fy cy 0, 0 0 1 0, got rows "
            rows = ", ".join(" ".join(f"{value:g}" for value in row) for row in K[1:3])
            raise bad(path, self.line, text + rows)
        check_rigid(path, place, T_camera_body)
        T_camera_body[:3, 3] /= MM_PER_M
        T_body_world = np.eye(4)
        T_body_world[:3, :3] = np.array(R_WORLD_BODY).T
        width, height = self.numbers["size"]
        return make_camera(
            path,
            place,
            viewmat=T_camera_body @ T_body_world,
            focal=(K[0, 0], K[1, 1]),
            centre=(K[0, 2], K[1, 2]),
            size=(width, height),
            name=self.name,
        )
