"""Laws of how patterns lie on a top. None needs anny."""

import numpy as np

from ash_core.studio.wardrobe.lie import fit_field


def sheet(along: int = 25, wide: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bend a strip: 20 cm of wall, then 20 cm of roof outwards. Returns its arc length too."""
    arc = np.repeat(np.linspace(0, 0.4, along), wide)
    z = np.tile(np.linspace(0, 0.1, wide), along)
    points = np.stack([np.maximum(arc - 0.2, 0), np.minimum(arc, 0.2), z], 1)
    corner = (np.arange(along - 1)[:, None] * wide + np.arange(wide - 1)).ravel()
    one = np.stack([corner, corner + 1, corner + wide], 1)
    other = np.stack([corner + 1, corner + wide + 1, corner + wide], 1)
    return points, np.concatenate([one, other]), arc


def test_metres_on_the_cloth_go_round_a_bend() -> None:
    points, faces, arc = sheet()
    on_roof = points[faces].mean(1)[:, 1:2] > 0.199
    ways = np.where(on_roof, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    heights = points[:, 1]
    field = fit_field(points, faces, ways, heights, arc < 0.05)
    np.testing.assert_allclose(field, arc, atol=0.004)


def test_where_no_face_is_the_values_stay() -> None:
    points, faces, arc = sheet()
    lower = faces[(arc[faces] < 0.1).all(1)]
    ways = np.broadcast_to([0.0, 1.0, 0.0], (len(lower), 3))
    field = fit_field(points, lower, ways, points[:, 1], arc < 0.05)
    away = np.setdiff1d(np.arange(len(points)), lower)
    np.testing.assert_array_equal(field[away], points[away, 1])
