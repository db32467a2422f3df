"""Laws of the paint of hands, on a left hand of points. None needs anny."""

import numpy as np

from ash_core.studio.actor.body import Body
from ash_core.studio.actor.brushes import Paper
from ash_core.studio.actor.hands import NAIL_GLOSS, paint_hands
from ash_core.studio.actor.regions import Landmarks

PALM, AHEAD, ACROSS = np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), np.array([0, 0, 1.0])
"""Directions in which the palm faces, the fingers point, and the thumb lies."""
RADIUS = 0.007


def hand() -> Body:
    """Make the bones of a hand that hangs down, and a vertex at each fingertip."""
    heads = {"wrist.L": np.zeros(3)}
    tips = []
    for k in range(1, 6):
        start = AHEAD * (0.03 if k == 1 else 0.09) + ACROSS * (0.06 - 0.02 * k)
        for i in range(3):
            curl = PALM * 0.003 * i**2
            heads[f"finger{k}-{i + 1}.L"] = start + AHEAD * 0.028 * i + curl
        tips.append(heads[f"finger{k}-3.L"] + AHEAD * 0.024 + PALM * 0.008)
    bones = tuple(heads)
    weights = np.zeros((5, len(bones)))
    for k in range(5):
        weights[k, bones.index(f"finger{k + 1}-3.L")] = 1.0
    none = np.zeros((0, 3), int)
    return Body(
        np.array(tips), none, np.zeros((0, 3, 2)), weights, bones, heads,
        np.zeros(0, int), {}, np.zeros((0, 3)), np.zeros(0, int),
    )  # fmt: skip


def paper(places: np.ndarray, normals: np.ndarray) -> Paper:
    count = len(places)
    share = {"left_hand": np.ones(count), "right_hand": np.zeros(count)}
    nowhere = np.zeros(3)
    pair = np.zeros((2, 3))
    marks = Landmarks(nowhere, nowhere, nowhere, nowhere, pair, pair, pair, pair, pair, pair)
    return Paper(places, places, normals, np.zeros(count), share, {}, marks)


def around(body: Body, finger: int, back_from_tip: float) -> tuple[np.ndarray, np.ndarray]:
    """Return places and normals on the last bone of a finger: its back, its palm side."""
    start = body.heads[f"finger{finger}-3.L"]
    tip = body.vertices[finger - 1]
    way = (tip - start) / np.linalg.norm(tip - start)
    back = -PALM + way * (PALM @ way)
    back /= np.linalg.norm(back)
    normals = np.stack([back, -back])
    return tip - back_from_tip * way + RADIUS * normals, normals


def test_a_nail_is_on_the_back_of_a_fingertip_alone() -> None:
    body = hand()
    skin = np.tile([0.8, 0.6, 0.5], (2, 1))
    for finger in range(2, 6):
        on_nail = paint_hands(skin, paper(*around(body, finger, 0.005)), body)
        assert on_nail.gloss[0] > 0.9 * NAIL_GLOSS, finger
        assert on_nail.gloss[1] < 0.3 * NAIL_GLOSS, finger
        behind = paint_hands(skin, paper(*around(body, finger, 0.020)), body)
        assert behind.gloss.max() < 0.3 * NAIL_GLOSS, finger


def test_joints_are_creased_and_bones_between_them_are_not() -> None:
    body = hand()
    for finger in range(2, 6):
        joint, after = (body.heads[f"finger{finger}-{i}.L"] for i in (2, 3))
        way = (after - joint) / np.linalg.norm(after - joint)
        steps = np.linspace(-0.012, 0.012, 97)
        places = joint + steps[:, None] * way + RADIUS * PALM
        painted = paint_hands(
            np.tile([0.8, 0.6, 0.5], (97, 1)), paper(places, np.tile(PALM, (97, 1))), body
        )
        deepest = steps[painted.relief.argmin()]
        assert abs(deepest) < 0.003, (finger, deepest)
        assert np.ptp(painted.relief[np.abs(steps) > 0.008]) < 0.5 * np.ptp(painted.relief)


def test_what_is_no_hand_keeps_its_paint() -> None:
    body = hand()
    sheet = paper(np.zeros((3, 3)), np.tile(PALM, (3, 1)))
    sheet.share["left_hand"][:] = 0.0
    skin = np.full((3, 3), 0.5)
    painted = paint_hands(skin, sheet, body)
    np.testing.assert_array_equal(painted.colour, skin)
    np.testing.assert_array_equal(painted.relief, 0.0)
