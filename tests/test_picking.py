"""Laws of what a pixel shows of a mesh."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.geometry.picking import hit_mesh, place_beside
from ash_core.geometry.projected_lines import project

CAMERA = camera_from_fov(look_at(torch.tensor([3.0, 0.5, 1.0]), torch.zeros(3)), 0.7, 160, 120)
FACES = np.array([[0, 1, 2], [3, 4, 5]])
NEAR_AND_FAR = np.array(
    [[1.0, -1, -1], [1, 1, -1], [1, 0, 1], [-1, -1, -1], [-1, 1, -1], [-1, 0, 1]]
)


@given(shares=st.tuples(*[st.floats(0.01, 1.0)] * 3))
def test_the_nearest_triangle_is_hit_where_the_pixel_shows_it(
    shares: tuple[float, float, float],
) -> None:
    place = np.array(shares) @ NEAR_AND_FAR[:3] / sum(shares)
    ((x, y),), _ = project(CAMERA, place[None])
    for faces in (FACES, FACES[::-1], FACES[:, ::-1]):
        hit = hit_mesh(CAMERA, NEAR_AND_FAR, faces, float(x), float(y))
        assert hit is not None
        assert np.allclose(hit, place, atol=1e-6)
    behind = hit_mesh(CAMERA, NEAR_AND_FAR, FACES[1:], float(x), float(y))
    assert behind is None or behind[0] == pytest.approx(-1.0)


def test_nothing_is_hit_beside_a_mesh_behind_the_camera_or_on_edge() -> None:
    assert hit_mesh(CAMERA, NEAR_AND_FAR, FACES, -500.0, 60.0) is None
    assert hit_mesh(CAMERA, NEAR_AND_FAR + np.array([9.0, 0, 0]), FACES, 80.0, 60.0) is None
    assert hit_mesh(CAMERA, np.zeros((6, 3)), FACES, 80.0, 60.0) is None
    assert hit_mesh(CAMERA, NEAR_AND_FAR, FACES[:0], 80.0, 60.0) is None


@given(x=st.floats(-1e4, 1e4), y=st.floats(-1e4, 1e4))
def test_a_place_goes_to_a_pixel_at_its_own_depth(x: float, y: float) -> None:
    moved = np.array(place_beside(CAMERA, (0.3, -0.2, 0.4), x, y))
    ((across, down),), _ = project(CAMERA, moved[None])
    assert np.allclose((across, down), (x, y), atol=1e-3)
    ahead = CAMERA.viewmat.double().numpy()[2, :3]
    assert ahead @ moved == pytest.approx(ahead @ (0.3, -0.2, 0.4), abs=1e-4)
