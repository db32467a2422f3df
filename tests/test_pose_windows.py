"""Laws of the cloth in windows of poses: a toy whose front is loose, with a lining."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gpu_frame_character import graph_networks
from torch import Tensor
from torch.testing import assert_close
from toy import RINGS, SIDES, make_toy_character

from ash_core.avatar import Avatar
from ash_core.character import Character
from ash_core.cloth.model import attach, build_model, store_model
from ash_core.cloth.surface import place_followers, surface_table
from ash_core.conventions import FPS, HISTORY, R_WORLD_BODY
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.released import import_ash
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.motion import first_frames, live_poses, pose_keys, pose_window, poses_until
from ash_core.geometry.rotations import axis_angle_to_matrix, matrix_to_quat, quat_multiply, unit
from ash_core.pose_windows import LiveWindows, window_at, with_cloth
from ash_core.records import AvatarData, Cloth, Motion, PosedMesh, PoseWindow
from ash_core.render import Renderer

FRAMES = 60
FRONT = [ring * SIDES + side for ring in range(2, RINGS) for side in (0, 1, 2, 3)]
"""Vertices that are loose."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> AvatarData:
    """Make the toy without cloth."""
    return import_ash(make_toy_character(tmp_path_factory.mktemp("toy")).conf)[0]


@pytest.fixture(scope="module")
def clothed(plain: AvatarData) -> AvatarData:
    """Make the toy with a loose front, and two vertices beside it that follow it."""
    return dressed(plain, FRONT, followers=True)


def dressed(data: AvatarData, loose: list[int], followers: bool = False) -> AvatarData:
    looseness = np.zeros(len(data.template.vertices), np.float32)
    looseness[loose] = 0.6
    cloth = store_model(build_model(data, looseness))
    if followers:
        others = np.setdiff1d(np.arange(len(looseness)), cloth.points.numpy())[-2:]
        vertices = data.template.vertices.numpy().astype(np.float64)
        rows = np.full(len(vertices), -1)
        rows[cloth.points.numpy()] = np.arange(len(cloth.points))
        faces = rows[data.template.faces.numpy()]
        faces = faces[(faces >= 0).all(1)]
        parts = attach(vertices[others], cloth.places.numpy().astype(np.float64), faces)
        corners, weights, heights = map(torch.from_numpy, parts)
        cloth = replace(
            cloth,
            followers=torch.from_numpy(others),
            follower_corners=corners.long(),
            follower_weights=weights,
            follower_heights=heights,
        )
    return replace(data, cloth=cloth)


def cloth_of(data: AvatarData) -> Cloth:
    assert data.cloth is not None
    return data.cloth


def swing(plain: AvatarData, fps: float = FPS) -> Motion:
    """Sway and bend for some seconds, without a cut."""
    t = torch.arange(FRAMES, dtype=torch.float64)[:, None] / fps
    rate = torch.tensor([0.5, 0, 0.7, 0.3, 0.1, 0.1, 1.0, 1.5, 0.6, 1.0], dtype=torch.float64)
    scale = torch.tensor([0.3, 0, 0.3, 0.1, 0.1, 0.1, 0.4, 0.5, 0.3, 0.2], dtype=torch.float64)
    motion = Motion((2 * torch.pi * rate * t).cos() * scale, fps=fps)
    assert max(first_frames(motion, plain.skeleton)) == 0
    return motion


@pytest.fixture(scope="module")
def motion(plain: AvatarData) -> Motion:
    return swing(plain)


def at_places(window: PoseWindow, places: Tensor | None) -> PoseWindow:
    return replace(window, cloth=places)


# ---- the surface ----


@torch.no_grad()
def test_skinned_places_are_the_skinned_mesh(clothed: AvatarData, motion: Motion) -> None:
    character = Character(clothed)
    window = pose_window(motion, 30, clothed.skeleton, clothed.history_offsets)
    skinned = character(window)
    places = skinned.vertices[:, cloth_of(clothed).vertices]
    mesh = character(at_places(window, places))
    assert torch.equal(mesh.vertices, skinned.vertices)
    assert torch.equal(mesh.normals, skinned.normals)
    assert torch.equal(mesh.canonical, skinned.canonical)
    assert_close(mesh.real, skinned.real, atol=1e-5, rtol=0)
    assert_close(mesh.dual, skinned.dual, atol=1e-4, rtol=0)


@torch.no_grad()
def test_dual_quaternions_take_canonical_to_the_places(clothed: AvatarData, motion: Motion) -> None:
    character, cloth = Character(clothed), cloth_of(clothed)
    window = pose_window(motion, 30, clothed.skeleton, clothed.history_offsets)
    skinned = character(window)
    noise = torch.randn(skinned.vertices.shape, generator=torch.Generator().manual_seed(0))
    places = (skinned.vertices + 0.1 * noise)[:, cloth.vertices]
    mesh = character(at_places(window, places))
    assert torch.equal(mesh.vertices[:, cloth.vertices], places)
    assert_close(
        dq.apply(mesh.real, mesh.dual, mesh.canonical), mesh.vertices[0], atol=1e-5, rtol=0
    )
    assert_close(mesh.real.norm(dim=-1), torch.ones(len(mesh.real)), atol=1e-5, rtol=0)
    # Real and dual stay perpendicular, else the pair is no rigid move.
    assert (mesh.real * mesh.dual).sum(-1)[cloth.vertices].abs().max() < 1e-6
    # What is no cloth stays as it was.
    others = torch.ones(len(mesh.real), dtype=torch.bool)
    others[cloth.vertices] = False
    for name in ("real", "dual", "canonical"):
        assert torch.equal(getattr(mesh, name)[others], getattr(skinned, name)[others]), name
    assert torch.equal(mesh.vertices[:, others], skinned.vertices[:, others])


def turned_mesh(
    character: Character, window: PoseWindow, axis: Tensor, angle: Tensor
) -> tuple[PosedMesh, PosedMesh, PoseWindow, Tensor]:
    """Turn a character that is cloth all over: (skinned, turned, its window, matrix)."""
    assert character.drape is not None
    skinned = character(window)
    turn = axis_angle_to_matrix(axis, angle)
    places = (skinned.vertices @ turn.T)[:, character.drape.vertices]
    moved = at_places(window, places)
    return skinned, character(moved), moved, turn


def assert_same_turns(one: Tensor, other: Tensor, atol: float) -> None:
    """Compare quaternions up to their signs."""
    sign = torch.sign((one * other).sum(-1, keepdim=True))
    assert_close(one * sign, other, atol=atol, rtol=0)


@settings(max_examples=15, deadline=None)
@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: sum(x * x for x in v) > 0.1),
    angle=st.floats(-3.1, 3.1),
)
@torch.no_grad()
def test_a_turn_of_all_cloth_turns_the_surface(
    plain: AvatarData, motion: Motion, axis: tuple[float, ...], angle: float
) -> None:
    data = dressed(plain, list(range(len(plain.template.vertices))))
    character = Character(data)
    window = pose_window(motion, 12, data.skeleton, data.history_offsets)
    skinned, mesh, _, turn = turned_mesh(
        character, window, unit(torch.tensor(axis)), torch.tensor(angle)
    )
    assert_close(mesh.normals, skinned.normals @ turn.T, atol=1e-5, rtol=0)
    expected = quat_multiply(matrix_to_quat(turn).expand_as(skinned.real), skinned.real)
    assert_same_turns(mesh.real, expected, 1e-4)
    assert_close(
        dq.apply(mesh.real, mesh.dual, mesh.canonical), mesh.vertices[0], atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_a_turn_of_all_cloth_turns_the_gaussians(plain: AvatarData, motion: Motion) -> None:
    data = dressed(plain, list(range(len(plain.template.vertices))))
    avatar = Avatar.from_data(data, preset_name="cpu")
    window = pose_window(motion, 12, data.skeleton, data.history_offsets)
    axis = unit(torch.tensor([0.3, 1.0, -0.5]))
    _, _, moved, turn = turned_mesh(avatar.character, window, axis, torch.tensor(2.0))
    before, after = avatar(window), avatar(moved)
    world = torch.tensor(R_WORLD_BODY)
    turn = world @ turn @ world.T
    assert_close(after.means, before.means @ turn.T, atol=1e-4, rtol=0)
    expected = quat_multiply(matrix_to_quat(turn).expand_as(before.quats), before.quats)
    assert_same_turns(after.quats, expected, 1e-4)
    assert_close(after.scales, before.scales, atol=1e-6, rtol=1e-3)
    assert_close(after.opacities, before.opacities)


@torch.no_grad()
def test_a_collapsed_surface_keeps_the_skinned_turn(clothed: AvatarData, motion: Motion) -> None:
    character, cloth = Character(clothed), cloth_of(clothed)
    window = pose_window(motion, 30, clothed.skeleton, clothed.history_offsets)
    skinned = character(window)
    points = torch.zeros_like(skinned.vertices[:, cloth.vertices])
    mesh = character(at_places(window, points))
    for name in ("vertices", "normals", "real", "dual"):
        assert getattr(mesh, name).isfinite().all(), name
    # A vertex amid others at the same place.
    inner = 4 * SIDES + 2
    assert_close(mesh.real[inner], skinned.real[inner], atol=1e-6, rtol=0)


def test_tangents_lie_along_the_surface_at_rest(clothed: AvatarData) -> None:
    template, cloth = clothed.template, cloth_of(clothed)
    table = surface_table(template, cloth)
    assert np.array_equal(table.corners[:, 0], cloth.vertices.numpy()[table.rows])
    assert (np.diff(table.rows) >= 0).all()
    assert set(table.rows) == set(range(len(cloth.vertices)))
    # Each face is there once for each of its corners that is cloth, in its own order.
    faces = template.faces.numpy()
    assert len(table.rows) == np.isin(faces, cloth.vertices.numpy()).sum()
    cycles = {tuple(np.roll(face, -k)) for face in faces for k in range(3)}
    assert {tuple(row) for row in table.corners} <= cycles
    # A tangent's neighbours count by how far they lie in one direction, at most fully.
    places = template.vertices.double().numpy()[table.corners]
    edges = places[:, 1:] - places[:, :1]
    reach = np.abs(table.weights) * np.linalg.norm(edges, axis=-1)
    assert (reach <= 1 + 1e-6).all()


@torch.no_grad()
def test_followers_keep_their_place_on_their_triangle(clothed: AvatarData) -> None:
    cloth = cloth_of(clothed)
    assert len(cloth.followers) == 2
    everything = place_followers(cloth, cloth.places)
    rest = clothed.template.vertices
    assert_close(everything[: len(cloth.points)], rest[cloth.points])
    generator = torch.Generator().manual_seed(1)
    places = cloth.places + 0.05 * torch.randn(4, *cloth.places.shape, generator=generator)
    moved = place_followers(cloth, places)
    assert torch.equal(moved[:, : len(cloth.points)], places)
    a, b, c = (places[:, cloth.follower_corners[:, k]] for k in range(3))
    normals = unit(torch.linalg.cross(b - a, c - a))
    away = ((moved[:, len(cloth.points) :] - a) * normals).sum(-1)
    assert_close(away, cloth.follower_heights.expand_as(away), atol=1e-5, rtol=0)
    # They turn with it, whatever the turn.
    turn = axis_angle_to_matrix(unit(torch.tensor([1.0, 2.0, 3.0])), torch.tensor(1.0))
    assert_close(place_followers(cloth, places @ turn.T), moved @ turn.T, atol=1e-5, rtol=0)


def test_without_followers_places_are_as_they_are(plain: AvatarData) -> None:
    cloth = cloth_of(dressed(plain, FRONT))
    assert place_followers(cloth, cloth.places) is cloth.places


# ---- the character ----


@torch.no_grad()
def test_links_of_some_vertices_blend_as_those_of_all(plain: AvatarData, motion: Motion) -> None:
    character = Character(plain)
    nodes = character.node_transforms(character.bone_transforms(motion.dofs[::7])[2])
    everything = character.blend_links(*nodes)
    chosen = torch.tensor([40, 3, 57, 0, 21])
    some = character.blend_links(*nodes, character.linked_vertices(chosen))
    for whole, part in zip(everything, some, strict=True):
        assert_close(part, whole[:, chosen], atol=1e-6, rtol=0)
    again = character.blend_links(*nodes, character.linked_vertices(None))
    assert all(torch.equal(one, other) for one, other in zip(everything, again, strict=True))


@torch.no_grad()
def test_cached_poses_know_their_cloth(clothed: AvatarData, motion: Motion) -> None:
    character, cloth = Character(clothed), cloth_of(clothed)
    window = pose_window(motion, 20, clothed.skeleton, clothed.history_offsets)
    skinned = character(window)
    lifted = at_places(window, skinned.vertices[:, cloth.vertices] + 0.1)
    lowered = at_places(window, skinned.vertices[:, cloth.vertices] - 0.1)
    fresh = Character(clothed)
    for one in (lifted, lowered, window, lifted):
        assert torch.equal(character(one).vertices, fresh(one).vertices)
        fresh.forget()
    # Poses whose dofs are equal and whose cloth is not: the history of a swing that ends.
    still = pose_window(Motion(motion.dofs[:1]), 0, clothed.skeleton, clothed.history_offsets)
    places = character(still).vertices[:, cloth.vertices]
    waving = at_places(still, places + 0.01 * torch.arange(len(places))[:, None, None])
    vertices = character(waving).vertices[:, cloth.vertices]
    assert waving.cloth is not None
    assert torch.equal(vertices, waving.cloth)


@settings(max_examples=20, deadline=None)
@given(pose=st.integers(0, 4), vertex=st.integers(0, 9), step=st.sampled_from([1e-6, 1.0, -1e-6]))
def test_keys_differ_where_cloth_does(pose: int, vertex: int, step: float) -> None:
    dofs, rows = torch.zeros(5, 4).double(), torch.zeros(5, 3, 4).double()
    window = PoseWindow(dofs, rows, torch.zeros(5, 10, 3))
    other = replace(window, cloth=torch.zeros(5, 10, 3))
    assert pose_keys(window) == pose_keys(other)
    assert other.cloth is not None
    other.cloth[pose, vertex, 1] = step
    differ = [one != two for one, two in zip(pose_keys(window), pose_keys(other), strict=True)]
    assert differ == [row == pose for row in range(5)]
    assert not {*pose_keys(window)} & {*pose_keys(at_places(window, None))}


def test_the_renderer_tells_windows_by_their_cloth(clothed: AvatarData, motion: Motion) -> None:
    renderer = Renderer(Avatar.from_data(clothed, preset_name="cpu"))
    window = window_at(clothed, motion, 30)
    assert window.cloth is not None
    same = replace(window, cloth=window.cloth.clone())
    other = replace(window, cloth=window.cloth + 0.05)
    first = renderer.gaussians(window)
    assert renderer.gaussians(same) is first
    moved = renderer.gaussians(other)
    assert moved is not first
    assert (moved.means - first.means).abs().max() > 0.01
    assert renderer.gaussians(at_places(window, None)) is not moved
    skinned = renderer.gaussians(at_places(window, None))
    assert (skinned.means - first.means).abs().max() > 1e-3
    assert torch.equal(renderer.gaussians(window).means, first.means)


# ---- windows of a motion ----


@torch.no_grad()
def test_an_avatar_without_cloth_is_as_before(plain: AvatarData, motion: Motion) -> None:
    character = Character(plain)
    assert LiveWindows.of(plain) is None
    for frame in (0, 1, 30):
        window = window_at(plain, motion, frame)
        expected = pose_window(motion, frame, plain.skeleton, plain.history_offsets)
        assert window.cloth is None
        assert torch.equal(window.dofs, expected.dofs)
        assert torch.equal(window.normalised, expected.normalised)
        assert with_cloth(expected, plain, motion, frame) is expected
        # Places for cloth that it does not have move nothing.
        stray = at_places(expected, torch.zeros(len(expected.dofs), 3, 3))
        assert torch.equal(character(stray).vertices, character(expected).vertices)


def test_a_frame_is_the_same_in_any_order(
    clothed: AvatarData, motion: Motion, tmp_path: Path
) -> None:
    save_avatar(tmp_path / "a.safetensors", clothed)
    loaded = load_avatar(tmp_path / "a.safetensors")
    again = Motion(motion.dofs.clone())
    order = (50, 3, 49, 59, 0, 20)
    for frame in order:
        window = window_at(clothed, motion, frame)
        assert window.cloth is not None
        fresh = window_at(loaded, again, frame)
        assert fresh.cloth is not None
        assert torch.equal(window.cloth, fresh.cloth), frame
        again = Motion(motion.dofs.clone())  # forgets what was simulated
    for frame in sorted(order):
        window, fresh = window_at(clothed, motion, frame), window_at(loaded, again, frame)
        assert window.cloth is not None
        assert fresh.cloth is not None
        assert torch.equal(window.cloth, fresh.cloth), frame


@torch.no_grad()
def test_cloth_swings_and_its_border_does_not(clothed: AvatarData, motion: Motion) -> None:
    """Windows hold the places of their own poses, newest first."""
    cloth, character = cloth_of(clothed), Character(clothed)
    window = window_at(clothed, motion, 40)
    assert window.cloth is not None
    assert window.cloth.shape == (5, len(cloth.vertices), 3)
    skinned = character(at_places(window, None)).vertices[:, cloth.vertices]
    away = (window.cloth - skinned).norm(dim=-1)[:, : len(cloth.points)]
    held = cloth.looseness == 0
    assert away[:, held].max() < 1e-6
    assert away[:, ~held].max() > 0.01
    for row, back in enumerate(clothed.history_offsets.frames):
        earlier = window_at(clothed, motion, 40 - back).cloth
        assert earlier is not None
        assert torch.equal(window.cloth[row], earlier[0])


@pytest.mark.parametrize("fps", [FPS, 2 * FPS])
@torch.no_grad()
def test_the_border_of_graph_networks_is_the_surface_s(plain: AvatarData, fps: float) -> None:
    """The networks see the same poses for the simulation as for the mesh: at a start, at a cut."""
    data = replace(dressed(plain, FRONT), networks=graph_networks(plain))
    first = swing(plain, fps).dofs[:30]
    second = first + torch.tensor([3.0, 0, 0, 0.5] + 6 * [0.0]).double()
    motion = Motion(torch.cat((first, second)), fps=fps)
    assert {*first_frames(motion, data.skeleton)} == {0, 30}
    cloth, character = cloth_of(data), Character(data)
    held = cloth.looseness == 0
    for frame in (0, 1, 29, 30, 31, 40):
        window = window_at(data, motion, frame)
        assert window.cloth is not None
        skinned = character(at_places(window, None)).vertices[:, cloth.vertices]
        away = (window.cloth - skinned).norm(dim=-1)[:, held]
        assert away.max() < 1e-5, (frame, away.max(1).values)


def test_a_closed_avatar_takes_its_simulation_with_it(plain: AvatarData, motion: Motion) -> None:
    data = dressed(plain, FRONT)
    window_at(data, motion, 3)
    watch = weakref.ref(cloth_of(data).looseness)
    del data
    gc.collect()
    assert watch() is None


def test_a_closed_motion_takes_its_states_with_it(clothed: AvatarData, motion: Motion) -> None:
    dofs = motion.dofs.clone()
    window_at(clothed, Motion(dofs), 3)
    watch = weakref.ref(dofs)
    del dofs
    gc.collect()
    assert watch() is None


# ---- live windows ----


def live_from(data: AvatarData, motion: Motion, frame: int) -> LiveWindows:
    live = LiveWindows.of(data)
    assert live is not None
    live.begin(motion, frame, frame / motion.fps)
    return live


@pytest.mark.parametrize("first", [0, 5, 45])
def test_live_poses_of_a_motion_swing_as_it_does(
    clothed: AvatarData, motion: Motion, first: int
) -> None:
    live = live_from(clothed, motion, first)
    for frame in range(first, first + 12):
        if frame > first:
            poses = poses_until(motion, frame, clothed.skeleton, clothed.history_offsets)
            assert len(poses) == live_poses(clothed.history_offsets)
            live.push(poses, frame / motion.fps)
        expected = window_at(clothed, motion, frame).cloth
        assert expected is not None
        # Times of a window are sums of fractions of a second: float64 rounds them.
        assert_close(live.places(), expected, atol=2e-5, rtol=0)


def test_a_pose_that_is_held_comes_to_rest(clothed: AvatarData, motion: Motion) -> None:
    live = live_from(clothed, motion, 45)
    moving = live.places()
    poses = motion.dofs[45].expand(HISTORY, -1)
    for step in range(1, 400):
        live.push(poses, 45 / FPS + step / FPS)
    places = live.places()
    # The history spans more than a second: no move is left in it.
    assert (places - places[:1]).abs().max() < 2e-3
    assert (moving - moving[:1]).abs().max() > 0.01
