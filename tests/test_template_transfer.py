"""Laws of carrying skin weights from a body to a scan, and of bringing a scan to rest."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ash_core.errors import InputError
from ash_core.importers.template.closest import ClosestSurface
from ash_core.importers.template.linear_skinning import bone_moves, place_points
from ash_core.importers.template.transfer import (
    cotangent_laplacian,
    transfer_weights,
    unpose_scan,
)

RINGS, SIDES = 31, 24


def tube(radius: float, low: float = 0.0, high: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Make an open tube about the Y axis; faces point outwards."""
    height = np.linspace(low, high, RINGS)
    angle = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)
    y, a = np.meshgrid(height, angle, indexing="ij")
    vertices = np.stack([radius * np.sin(a), y, radius * np.cos(a)], -1).reshape(-1, 3)
    i, k = np.meshgrid(np.arange(RINGS - 1), np.arange(SIDES), indexing="ij")
    corner = lambda di, dk: ((i + di) * SIDES + (k + dk) % SIDES).ravel()  # noqa: E731
    faces = np.concatenate(
        [
            np.stack([corner(0, 0), corner(0, 1), corner(1, 1)], 1),
            np.stack([corner(0, 0), corner(1, 1), corner(1, 0)], 1),
        ]
    )
    return vertices, faces


def weights_of(vertices: np.ndarray) -> np.ndarray:
    """Return weights of two bones that meet in the middle of the tube."""
    upper = np.clip((vertices[:, 1] - 0.35) / 0.3, 0.0, 1.0)
    return np.stack([1 - upper, upper], 1)


BODY, FACES = tube(0.10)
WEIGHTS = weights_of(BODY)
JOINTS = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.0]])


def bent(angles: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return turns and places of both bones in frames that bend the upper one."""
    turns = np.tile(np.eye(3), (len(angles), 2, 1, 1))
    turns[:, 1] = Rotation.from_rotvec([[0, 0, angle] for angle in angles]).as_matrix()
    return turns, np.tile(JOINTS + np.array([0.4, 0.0, 0.0]), (len(angles), 1, 1))


def test_the_closest_place_is_the_exact_one() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = np.array([[0.2, 0.2, 0.5], [2, 0, 0], [-1, -1, 0], [1, 1, 0], [0.5, -1, -0.1]])
    closest = ClosestSurface(vertices, np.array([[0, 1, 2]])).query(points)
    places = [[0.2, 0.2, 0], [1, 0, 0], [0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0]]
    assert closest.places == pytest.approx(np.array(places))
    assert closest.signed[0] == pytest.approx(0.5)
    assert closest.signed[4] < 0


def test_the_body_itself_gets_its_own_weights() -> None:
    weights = transfer_weights(BODY, FACES, BODY, FACES, WEIGHTS)
    assert weights == pytest.approx(WEIGHTS, abs=1e-6)


def test_a_close_scan_takes_the_nearest_weights() -> None:
    vertices, faces = tube(0.11, 0.01, 0.99)
    weights = transfer_weights(vertices, faces, BODY, FACES, WEIGHTS)
    assert weights.sum(1) == pytest.approx(1.0)
    assert weights == pytest.approx(weights_of(vertices), abs=0.03)


def test_weights_of_a_bulge_are_filled_in_from_its_edge() -> None:
    vertices, faces = tube(0.101)
    away = np.exp(-(((vertices[:, 1] - 0.5) / 0.12) ** 2))[:, None] * [1, 0, 1]
    bulge = vertices * (1 + 3 * away)
    weights = transfer_weights(bulge, faces, BODY, FACES, WEIGHTS)
    assert weights.sum(1) == pytest.approx(1.0)
    assert weights.min() >= 0
    middle = np.abs(vertices[:, 1] - 0.5) < 0.01
    assert weights[middle, 1] == pytest.approx(0.5, abs=0.05)
    rising = weights[:, 1].reshape(RINGS, SIDES).mean(1)
    assert (np.diff(rising) > -0.02).all()


def test_vertices_at_one_place_get_equal_weights() -> None:
    vertices, faces = tube(0.16)
    split = np.concatenate([vertices, vertices[faces[::2].ravel()]])
    split_faces = faces.copy()
    split_faces[::2] = len(vertices) + np.arange(3 * len(faces[::2])).reshape(-1, 3)
    weights = transfer_weights(split, split_faces, BODY, FACES, WEIGHTS)
    assert (weights[len(vertices) :] == weights[faces[::2].ravel()]).all()
    whole = transfer_weights(vertices, faces, BODY, FACES, WEIGHTS)
    assert weights[: len(vertices)] == pytest.approx(whole, abs=1e-6)


def test_a_piece_far_from_the_body_takes_the_nearest_weights() -> None:
    buckle = np.array([[0.5, 0.9, 0.0], [0.5, 0.95, 0.0], [0.5, 0.9, 0.05]])
    vertices = np.concatenate([BODY, buckle])
    faces = np.concatenate([FACES, [[len(BODY), len(BODY) + 1, len(BODY) + 2]]])
    weights = transfer_weights(vertices, faces, BODY, FACES, WEIGHTS)
    assert weights[-3:] == pytest.approx(np.array([[0.0, 1.0]] * 3))


def test_slivers_keep_the_laplacian_finite_and_its_rows_zero() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 1e-14, 0], [0.5, 0.5, 0], [0.5, 0, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [2, 1, 3], [0, 4, 1]])
    laplacian, areas = cotangent_laplacian(vertices, faces)
    assert np.isfinite(laplacian.data).all()
    assert (areas > 0).all()
    assert np.abs(laplacian @ np.ones(5)).max() < 1e-6 * np.abs(laplacian.data).max()


def test_a_scan_is_brought_back_from_the_frame_it_was_made_in() -> None:
    frames = bent([0.0, 0.4, 0.8])
    rest, faces = tube(0.12, 0.02, 0.98)
    move = bone_moves(frames, JOINTS)[2]
    scan = place_points(rest, weights_of(rest), move)
    result = unpose_scan(scan, faces, BODY, FACES, WEIGHTS, JOINTS, frames)
    assert result.frame == 2
    assert np.median(np.linalg.norm(result.vertices - rest, axis=1)) < 0.004
    again = place_points(result.vertices, result.weights, move)
    assert again == pytest.approx(scan, abs=1e-6)


def test_a_scan_at_rest_stays_as_it_is() -> None:
    rest, faces = tube(0.12)
    result = unpose_scan(rest, faces, BODY, FACES, WEIGHTS, JOINTS, bent([0.5, 0.9]))
    assert result.frame is None
    assert (result.vertices == rest).all()


def test_a_scan_in_millimetres_is_refused() -> None:
    with pytest.raises(InputError, match=r"template: expected a scan, m, .* cm from the body"):
        unpose_scan(1000 * BODY, FACES, BODY, FACES, WEIGHTS, JOINTS, bent([0.5]))


def test_a_mesh_without_faces_is_refused() -> None:
    with pytest.raises(InputError, match=r"template: expected a mesh .* 0 faces"):
        transfer_weights(BODY, np.zeros((0, 3), int), BODY, FACES, WEIGHTS)
