"""Laws of the wardrobe's tools: cutting, sewing, printing, choreography. None needs anny."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ash_core.files.avatar_file import load_avatar
from ash_core.records import AvatarData
from ash_core.resources import resource
from ash_core.studio.actor.body import Body
from ash_core.studio.choreography.posing import Score
from ash_core.studio.choreography.stage import Stage
from ash_core.studio.mesh.surface import boundary_loops, face_normals
from ash_core.studio.wardrobe.borrow import retarget
from ash_core.studio.wardrobe.cut import cut
from ash_core.studio.wardrobe.hang import Cut, axis_of, hang
from ash_core.studio.wardrobe.outfits import OUTFITS
from ash_core.studio.wardrobe.prints import every, houndstooth, letters, tartan
from ash_core.studio.wardrobe.routines import FRAMES, make_routines, slower
from ash_core.studio.wardrobe.sheet import Ring, join, seams, split, weld


@cache
def avatar() -> AvatarData:
    return load_avatar(resource("assets", "actor.safetensors"))


@cache
def body() -> Body:
    """Load the bundled character's surface as a bare body."""
    template = avatar().template
    faces = template.faces.numpy()
    vertices = template.vertices.numpy().astype(float)
    return Body(
        vertices, faces, template.corner_uvs.numpy(), np.ones((len(vertices), 1)), ("root",), {},
        np.zeros(len(faces), int), {}, np.zeros((0, 3)), np.zeros(len(faces), int),
    )  # fmt: skip


def area(vertices: np.ndarray, faces: np.ndarray) -> float:
    return float(np.linalg.norm(face_normals(vertices, faces), axis=1).sum() / 2)


def is_closed(faces: np.ndarray) -> bool:
    """Return whether each edge is in two faces, once in each direction."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    return len(np.unique(edges, axis=0)) == len(edges) == len(np.unique(both, axis=0))


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1) for _ in range(3)]).filter(lambda n: np.linalg.norm(n) > 0.1),
    st.floats(0.2, 1.6),
)
def test_no_face_crosses_a_cut(normal: tuple[float, ...], height: float) -> None:
    field = (body().vertices - [0.0, height, 0.0]) @ (np.array(normal) / np.linalg.norm(normal))
    made, (line,) = cut(body(), field, [])
    signs = np.sign(line[made.faces])
    assert not ((signs.max(1) > 0) & (signs.min(1) < 0)).any()
    assert is_closed(made.faces)
    assert area(made.vertices, made.faces) == pytest.approx(area(*_mesh()), rel=0.01)
    np.testing.assert_allclose(made.weights.sum(1), 1.0)
    flat = made.corner_uvs
    e, g = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    e0, g0 = (body().corner_uvs[:, k] - body().corner_uvs[:, 0] for k in (1, 2))
    cross = lambda a, b: a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]  # noqa: E731
    assert cross(e, g).min() >= 0
    assert cross(e, g).sum() == pytest.approx(cross(e0, g0).sum(), rel=1e-6)


def _mesh() -> tuple[np.ndarray, np.ndarray]:
    return body().vertices, body().faces


def test_sewing_keeps_the_surface_closed() -> None:
    made, (line,) = cut(body(), body().vertices[:, 1] - 1.05, [])
    parts = (line[made.faces].sum(1) > 0).astype(int)
    sheet = split(made, parts, {0: made.vertices, 1: made.vertices * [1.1, 1.0, 1.1]})
    assert len(boundary_loops(sheet.faces)) == 2 * len(seams(sheet, 1, 0))
    axis = axis_of(np.array([0.0, 1.05, 0.0]), np.array([0.0, -1.0, 0.0]))
    for loop, twin in seams(sheet, 1, 0):
        np.testing.assert_allclose(sheet.bare[loop], sheet.bare[twin])
        places = hang(sheet.points[loop], axis, Cut(0.1, 0.03, 0.0), np.zeros((0, 3)))
        weights = sheet.weights[loop]
        rings = [Ring(p, weights, 2) for p in places]
        join(sheet, loop, [*rings, Ring(places[-1], weights, 3, partner=2, inset=0.004)], twin, 3)
    assert is_closed(sheet.faces)
    lining = sheet.partner >= 0
    np.testing.assert_array_equal(sheet.points[lining], sheet.points[sheet.partner[lining]])


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_weld_closes_the_surface_without_a_step(share: float) -> None:
    made, (line,) = cut(body(), body().vertices[:, 1] - 1.05, [])
    parts = (line[made.faces].sum(1) > 0).astype(int)
    sheet = split(made, parts, {0: made.vertices, 1: made.vertices * [1.1, 1.0, 1.1]})
    for loop, twin in seams(sheet, 1, 0):
        flat = np.arange(len(loop)) < share * len(loop)
        first = len(sheet.points)
        join(sheet, loop, [Ring(sheet.points[loop], sheet.weights[loop], 2)], twin, 3)
        weld(sheet, first + np.flatnonzero(flat), twin[flat])
        weld(sheet, loop[flat], twin[flat])
    assert is_closed(sheet.faces)
    a, b, c = np.sort(sheet.faces, 1).T
    assert ((a < b) & (b < c)).all()
    assert (len(sheet.faces) == len(made.faces)) == (share == 1.0)
    assert len(sheet.faces) == len(sheet.parts) == len(sheet.corner_uvs) == len(sheet.eyes)


def test_hanging_cloth_clears_what_is_under_it() -> None:
    angle = 2 * np.pi * np.arange(60) / 60
    axis = axis_of(np.zeros(3), np.array([0.0, -1.0, 0.0]))
    loop = axis.place(angle, np.zeros(60), np.full(60, 0.1))
    rng = np.random.default_rng(0)
    around = rng.uniform(-np.pi, np.pi, 4000)
    low = rng.uniform(0, 0.5, 4000)
    under = axis.place(around, low, 0.14 + 0.04 * np.sin(12 * low))
    rings = hang(loop, axis, Cut(0.5, 0.03, 0.01, 0.1, 9, 0.02), under)
    for ring in rings[2:]:
        _, down, radius = axis.seen(ring)
        near = np.abs(low - down.mean()) < 0.01
        assert radius.min() > np.hypot(*under[near][:, [0, 2]].T).max()
    assert (np.diff(axis.seen(rings.reshape(-1, 3))[1].reshape(len(rings), -1), axis=0) > 0).all()


def test_prints() -> None:
    x = np.linspace(-0.2, 0.2, 400)
    a, b = (grid.ravel() for grid in np.meshgrid(x, x))
    tooth = houndstooth(a, b, 0.05)
    assert 0.45 < tooth.mean() < 0.55
    assert (tooth != houndstooth(a + 0.05, b - 0.05, 0.05)).mean() < 0.01  # rounding at threads
    word = letters("ASH", a, b, 0.08)
    assert word.min() >= 0.0
    assert word.max() == pytest.approx(1.0)
    assert 0.01 < word.mean() < 0.2
    assert not word[np.abs(b) > 0.05].any()
    red, white = np.array([1.0, 0.0, 0.0]), np.ones(3)
    check = tartan(a, b, 0.08, ((0.0, 0.2, white),), red)
    np.testing.assert_allclose(check[:, 0], 1.0)
    assert 0.3 < check[:, 1].mean() < 0.5
    assert np.abs(every(x, 0.03)).max() <= 0.015 + 1e-12


def test_outfits_name_a_material_for_every_part() -> None:
    assert set(OUTFITS) == {"ida", "otto", "mira"}
    for outfit in OUTFITS.values():
        assert set(range(12)) - set(outfit.materials) <= {5, 11}, outfit.name
        assert outfit.skirt is None or 5 in outfit.materials


@cache
def routine(name: str) -> np.ndarray:
    data = avatar()
    made = make_routines(data.skeleton, data.skinning, body().vertices, (name,))
    return (dict(made["training"]) | dict(made["unseen"]))[name]


def lowest(dofs: np.ndarray, data: AvatarData) -> np.ndarray:
    score = Score(data.skeleton, len(dofs))
    score.dofs = dofs
    stage = Stage(data.skeleton, data.skinning, data.template.vertices.double().numpy())
    return np.array(stage.lowest(score))


@pytest.mark.parametrize("name", ["twist", "march"])
def test_a_routine_lasts_20_s_and_stands_on_the_floor(name: str) -> None:
    dofs, limits = routine(name), avatar().skeleton.dof_limits.numpy()
    assert len(dofs) == FRAMES
    assert (dofs >= limits[:, 0] - 1e-6).all()
    assert (dofs <= limits[:, 1] + 1e-6).all()
    steps = np.diff(np.concatenate([dofs, dofs[:1]]), axis=0)
    steps[:, 3] = np.angle(np.exp(1j * steps[:, 3]))
    assert np.abs(steps[:, 3:]).max() < 0.45
    low = lowest(dofs, avatar())
    assert low.min() > -0.005, low.min()
    assert low.min(0).max() < 0.010, low.min(0).max()


def test_a_slower_loop_is_the_same_loop() -> None:
    phase = 2 * np.pi * np.arange(40) / 40
    dofs = np.stack([np.sin(phase), np.cos(phase), 0 * phase, phase], 1)
    slow = slower(dofs, 50)
    want = 2 * np.pi * np.arange(50) / 50
    np.testing.assert_allclose(slow[:, 0], np.sin(want), atol=1e-3)
    np.testing.assert_allclose(slow[:, 3], want, atol=1e-9)


def test_a_borrowed_motion_stands_on_our_floor() -> None:
    ours = avatar()
    theirs = replace(ours.skeleton, offsets=ours.skeleton.offsets * 1.15)
    dofs = routine("march")[:100].copy()
    dofs[:, :3] *= 1.15
    got = retarget(dofs, theirs, ours.skeleton, ours.skinning, body().vertices)
    np.testing.assert_allclose(got[:, 3:], dofs[:, 3:], atol=1e-6)
    np.testing.assert_allclose(got[:, [0, 2]], dofs[:, [0, 2]] / 1.15)
    low = lowest(got, ours).min(0)
    assert np.abs(low).max() < 0.02
