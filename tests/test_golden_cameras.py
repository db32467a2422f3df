"""The published cameras: every array of item 12, from both files that describe them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import Arrays, arrays, close

from ash_core.files.cameras.published import read_calibration, read_cameras
from ash_core.geometry.camera import camera_position, resize_camera
from ash_core.records import Camera

SIZE = (1285, 940)
SMALL = (160, 118)
Z_NEAR, Z_FAR = 0.01, 100.0
UNITS = 4 * 2.4e-7
"""Four times float32's rounding at the largest entries of `viewmat`, 2 to 5 m."""


@pytest.mark.parametrize("source", ["cameras.json", "12_synthetic.calibration"])
def test_12_cameras(golden: Path, source: str) -> None:
    read = read_cameras if source.endswith(".json") else read_calibration
    cameras = read(golden / source)
    assert len(cameras) == 3
    if source.endswith(".json"):
        assert [camera.name for camera in cameras] == ["000000", "000001", "000002"]
    with arrays(golden / "12_cameras.npz") as z:
        for number, camera in enumerate(cameras):
            assert (camera.width, camera.height) == SIZE
            _compare_calibration(z, f"cam{number}", camera)
            _compare_matrices(z, f"cam{number}", camera)
            small = stretched(camera, *SMALL)
            _compare_matrices(z, f"cam{number}_160x118", small)
            # Ours keeps pixels square. The width decides: sideways both agree, and upright the
            # picture grows by the 0.96 px that 118 has over 940 * 160 / 1285.
            ours = resize_camera(camera, *SMALL)
            close(ours.K[0], small.K[0].numpy(), 1e-5)
            scale = SMALL[0] / SIZE[0]
            assert float(ours.K[1, 1]) == pytest.approx(float(camera.K[1, 1]) * scale, rel=1e-6)
            middle = float(camera.K[1, 2] - SIZE[1] / 2) * scale + SMALL[1] / 2
            assert float(ours.K[1, 2]) == pytest.approx(middle, rel=1e-6)


def _compare_calibration(z: Arrays, stem: str, camera: Camera) -> None:
    """The release's own reading: R (world from camera), T (camera from world), angles, centre."""
    R_T = torch.cat((camera.viewmat[:3, :3].T, camera.viewmat[:3, 3:]), 1)
    close(R_T, z[f"{stem}_RT"], UNITS)
    fov_x, fov_y = (
        2 * math.atan(side / (2 * float(camera.K[axis, axis])))
        for axis, side in enumerate((camera.width, camera.height))
    )
    centre = camera.K[:2, 2].tolist()
    close(np.array([fov_x, fov_y, *centre]), z[f"{stem}_fov"], 1e-12)


def _compare_matrices(z: Arrays, stem: str, camera: Camera) -> None:
    """The release keeps matrices for row vectors: the transposes of ours."""
    projection = gl_projection(camera)
    close(camera.viewmat.T, z[f"{stem}_world_view"], UNITS)
    close(camera_position(camera.viewmat), z[f"{stem}_center"], UNITS)
    close(projection.T, z[f"{stem}_proj"], 4 * 1.2e-7)
    close(camera.viewmat.double().T @ projection.T, z[f"{stem}_full"], 2 * UNITS)


def gl_projection(camera: Camera) -> torch.Tensor:
    """The release's projection: x and y to -1..1 over the picture, z to 0..1, w = z.

    Source: docs/released_behaviour.md A18.
    """
    K, P = camera.K.double(), torch.zeros(4, 4, dtype=torch.float64)
    for axis, side in enumerate((camera.width, camera.height)):
        P[axis, axis] = 2 * K[axis, axis] / side
        P[axis, 2] = 2 * (K[axis, 2] - side / 2) / side
    P[2, 2] = Z_FAR / (Z_FAR - Z_NEAR)
    P[2, 3] = -Z_FAR * Z_NEAR / (Z_FAR - Z_NEAR)
    P[3, 2] = 1
    return P


def stretched(camera: Camera, width: int, height: int) -> Camera:
    """The release's resize: both angles stay, and each axis of K scales by itself.

    (The published 160 x 118 matrices are the full size's own; so Cx and Cy were scaled by 160/1285
    and 118/940, and pixels are no longer square. Left as they are, Cx and Cy would point elsewhere:
    docs/released_behaviour.md A18.)
    """
    K = camera.K.clone()
    K[0] *= width / camera.width
    K[1] *= height / camera.height
    return replace(camera, K=K, width=width, height=height)
