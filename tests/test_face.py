"""Laws of a moving face: gaze, blink, jaw, and the closed surface behind lids and lips."""

import numpy as np
import pytest
from made_face import BALL, SIDES, gap, halves, made_face, rim_of, vertices_of

from ash_core.studio.actor.body import (
    INNER_MOUTH,
    LEFT_EYE,
    RIGHT_EYE,
    SKIN_FACE,
)
from ash_core.studio.actor.face import lip_line
from ash_core.studio.choreography.gaze import BLINK, aim, look
from ash_core.studio.mesh.surface import boundary_loops
from ash_core.studio.mesh.texels import find_texels
from ash_core.studio.mesh.unwrap import Chart, flatten


def test_a_face_is_closed_and_oriented() -> None:
    faces = made_face().body.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert len(np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)) == len(edges)
    assert set(np.unique(made_face().body.eyes)) == set(range(6))
    np.testing.assert_allclose(made_face().body.weights.sum(1), 1.0)


def test_loops_that_touch_are_parted() -> None:
    loops = boundary_loops(np.array([[0, 1, 2], [2, 3, 4]]))
    assert sorted(sorted(loop.tolist()) for loop in loops) == [[0, 1, 2], [2, 3, 4]]


def test_borders_of_a_hole_do_not_cross_when_flattened() -> None:
    # A wall stands around a narrow slit: laid down inwards it would lie over itself.
    around = 2 * np.pi * np.arange(40) / 40
    ring = np.stack([np.cos(around), np.sin(around), 0 * around], 1)
    flat = np.concatenate([ring * [1.0, 0.45, 0.0], ring * [0.85, 0.25, 0.0]])
    inner, outer = np.arange(40) + 40, np.arange(40)
    nexts = np.roll(inner, -1), np.roll(outer, -1)
    local = np.concatenate(
        [np.stack([outer, nexts[1], inner], 1), np.stack([nexts[1], nexts[0], inner], 1)]
    )
    points = flat + np.repeat([[0.0], [0.45]], 40, 0) * [0.0, 0.0, 1.0]
    chart = Chart(np.arange(len(local)), local, np.arange(80), flat[:, :2])
    laid = flatten(points, chart, np.ones(len(local)))
    hole = laid[inner]
    x, y = hole.T
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0
    texels = find_texels((laid - laid.min(0))[local] / np.ptp(laid, axis=0).max(), 256)
    corners = laid[local] / np.ptp(laid, axis=0).max()
    e, f = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = (e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]).sum() / 2
    assert len(texels.rows) / 256**2 == pytest.approx(area, rel=0.01)


def test_new_dofs_come_after_all_others() -> None:
    names = made_face().skeleton.dof_names
    assert names[-7:] == (
        "left_eye_yaw", "left_eye_pitch", "left_blink",
        "right_eye_yaw", "right_eye_pitch", "right_blink", "jaw_open",
    )  # fmt: skip
    assert made_face().skeleton.joint_names[-1] == "Jaw"


@pytest.mark.parametrize("target", [(0.0, 1.6, 2.0), (0.25, 1.45, 0.5), (-0.3, 1.7, 0.8)])
def test_the_iris_points_to_the_target(target: tuple[float, float, float]) -> None:
    face = made_face()
    for side, (ball, _) in SIDES.items():
        centre, _ = face.body.eyeballs[side]
        yaw, pitch = aim(np.eye(3)[None], centre[None], np.array([target]))[0]
        name = side.lower()
        posed = face.posed(**{f"{name}_eye_yaw": yaw, f"{name}_eye_pitch": pitch})
        ids = vertices_of(face, ball)
        pupil = ids[np.argmax(face.body.vertices[ids, 2])]
        gaze, wanted = posed[pupil] - centre, np.array(target) - centre
        cosine = gaze @ wanted / (np.linalg.norm(gaze) * np.linalg.norm(wanted))
        assert np.degrees(np.arccos(min(cosine, 1.0))) < 0.5, side
        # The white turns with the iris; nothing of the other eye moves.
        others = vertices_of(face, RIGHT_EYE if side == "Left" else LEFT_EYE)
        np.testing.assert_allclose(posed[others], face.body.vertices[others], atol=1e-6)


@pytest.mark.parametrize("pitch", [0.0, 0.35, -0.25])
def test_a_blink_closes_the_lids(pitch: float) -> None:
    face = made_face()
    for side, labels in SIDES.items():
        name, (upper, lower) = side.lower(), halves(face, labels)
        look_down = {f"{name}_eye_pitch": pitch}
        is_open = gap(face.posed(**look_down), upper, lower)
        closed = gap(face.posed(**look_down, **{f"{name}_blink": 1.0}), upper, lower)
        assert is_open.max() > 0.006
        closed = closed[10:-10]  # the made head's eyes have blunt corners
        assert closed.max() < 0.001, (side, closed.max())
        assert closed.min() > -0.003, (side, closed.min())


def test_lids_stay_outside_the_eyeball() -> None:
    face = made_face()
    for side in SIDES:
        centre, radius = face.body.eyeballs[side]
        skin = vertices_of(face, SKIN_FACE)
        near = skin[np.linalg.norm(face.body.vertices[skin] - centre, axis=1) < BALL + 0.01]
        assert len(near) > 20
        for blink in np.linspace(0.0, 1.0, 6):
            posed = face.posed(**{f"{side.lower()}_blink": blink})
            away = np.linalg.norm(posed[near] - centre, axis=1)
            assert away.min() > radius, (side, blink, away.min() - radius)


def test_closed_lips_leave_no_gap() -> None:
    face = made_face()
    rim = rim_of(face, INNER_MOUTH)
    points = face.body.vertices[rim]
    is_upper = face.body.weights[rim, face.body.bones.index("jaw")] < 0.5
    along = np.linspace(0.85 * points[:, 0].min(), 0.85 * points[:, 0].max(), 60)
    edges = []
    for side in (is_upper, ~is_upper):
        chain = points[side][np.argsort(points[side, 0])]
        edges.append(np.interp(along, chain[:, 0], chain[:, 1]))
    assert (edges[0] - edges[1]).max() < 1e-4, (edges[0] - edges[1]).round(5)


def test_the_jaw_opens_the_mouth() -> None:
    face = made_face()
    lips = rim_of(face, INNER_MOUTH)
    jaw = face.body.weights[lips, face.body.bones.index("jaw")]
    middle = np.abs(face.body.vertices[lips, 0]) < 0.01
    upper, lower = lips[middle & (jaw < 0.5)], lips[middle & (jaw > 0.5)]
    closed, posed = face.posed(), face.posed(jaw_open=0.3)
    parted = lambda p: p[upper, 1].mean() - p[lower, 1].mean()  # noqa: E731
    assert parted(posed) - parted(closed) > 0.012
    # Upper teeth stay with the head, lower ones follow the jaw.
    inner = vertices_of(face, INNER_MOUTH)
    _, height, ahead = lip_line(face.body.mouth, face.body.vertices[inner, 0])
    back = ahead - face.body.vertices[inner, 2]
    moved = np.linalg.norm(posed - closed, axis=1)[inner]
    up = face.body.vertices[inner, 1] - height
    central = np.abs(face.body.vertices[inner, 0]) < 0.01
    assert moved[central & (up > 0.004) & (back > 0.004)].max() < 1e-6
    assert moved[central & (up < -0.006) & (back > 0.006) & (back < 0.02)].min() > 0.008


def test_eyes_look_somewhere_and_blink() -> None:
    face = made_face()
    skeleton, names = face.skeleton, face.skeleton.dof_names
    dofs = np.zeros((400, len(names)))
    dofs[:, names.index("head_twist")] = 0.4 * np.sin(2 * np.pi * np.arange(400) / 400)
    made = look(skeleton, dofs, 3)
    np.testing.assert_array_equal(made, look(skeleton, dofs, 3))
    assert (made != look(skeleton, dofs, 4)).any()
    np.testing.assert_array_equal(made[:, :-7], dofs[:, :-7])
    limits = skeleton.dof_limits.numpy()
    assert (made >= limits[:, 0] - 1e-9).all()
    assert (made <= limits[:, 1] + 1e-9).all()
    yaw = made[:, [names.index(f"{side}_eye_yaw") for side in ("left", "right")]]
    jumps = np.abs(np.diff(yaw[:, 0])) > 0.05
    assert 5 <= jumps.sum() <= 60
    # Both eyes meet in one place: the left one never looks further to the left.
    assert (yaw[:, 0] - yaw[:, 1]).max() < 1e-6
    blinks = made[:, names.index("left_blink")]
    assert 3 <= (blinks == max(BLINK)).sum() <= 8
    assert blinks[[0, -1]].max() == blinks.min()
