"""Laws of the true surface: wrinkles, loose cloth, repeatability.

On the bundled character in a skirt that is sewn by the wardrobe's own tools, without anny.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.skeletool import read_motion
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.skinning import blend_bones as reference_blend
from ash_core.records import AvatarData, Skinning
from ash_core.resources import resource
from ash_core.studio.mesh.subdivide import subdivide
from ash_core.studio.mesh.surface import face_normals
from ash_core.studio.truth.dressing import (
    COTTON,
    FLAT,
    LINING,
    Dressing,
    load_dressing,
    save_dressing,
)
from ash_core.studio.truth.folds import DEPTH
from ash_core.studio.truth.skinned import blend_bones, blend_matrices, normals_of
from ash_core.studio.truth.true_surface import TrueActor, TrueFrame
from ash_core.studio.wardrobe.hang import Cut, axis_of, hang
from ash_core.studio.wardrobe.sheet import Ring, Sheet, join

COLUMNS = 48


@cache
def plain() -> AvatarData:
    return load_avatar(resource("assets", "actor.safetensors"))


@dataclass(frozen=True)
class Skirted:
    data: AvatarData
    dressing: Dressing
    outer: np.ndarray
    """Vertices of the outer layer, ring after ring."""


@cache
def skirted() -> Skirted:
    """Sew a loose skirt, open below, around the bundled character's hips."""
    data = plain()
    body = data.template.vertices.numpy().astype(float)
    skin, names = data.skinning, data.skinning.bone_names
    weights = np.zeros((len(body), len(names)))
    rows = np.arange(len(body))[:, None]
    np.add.at(weights, (rows, skin.bones.numpy()), skin.weights.numpy())
    n, zeros = len(body), np.zeros(len(body))
    faces = data.template.faces.numpy()
    sheet = Sheet(
        body, body, weights, faces, data.template.corner_uvs.numpy(),
        np.zeros(len(faces), int), np.zeros(len(faces), int), np.zeros(len(faces), int),
        zeros, np.full(n, -1), zeros, np.zeros((n, 2)), np.zeros(n, bool),
    )  # fmt: skip
    axis = axis_of(np.array([0.0, 1.02, 0.01]), np.array([0.0, -1.0, 0.0]))
    angle = 2 * np.pi * np.arange(COLUMNS) / COLUMNS
    top = axis.place(angle, np.zeros(COLUMNS), np.full(COLUMNS, 0.20))
    legs = body[(np.abs(body[:, 0]) < 0.25) & (body[:, 1] < 1.02)]
    rings = []
    root = np.eye(len(names))[names.index("Root")]
    held = np.broadcast_to(root, (COLUMNS, len(names)))
    cut = Cut(0.50, 0.04, 0.010, 0.25, 8, 0.02)
    layers = [top, *hang(top, axis, cut, legs)]
    for k, points in enumerate(layers):
        loose = np.full(COLUMNS, min(1.0, max(0.0, (k - 1) / 7)))
        rings.append(Ring(points, held, 1, loose))
    last = len(layers)
    rings += [Ring(layers[k], held, 2, rings[k].loose, k, 0.004) for k in range(last - 1, 0, -2)]
    # A ring to start and to end at, under the first one, closes the piece.
    start = len(sheet.points) + np.arange(COLUMNS)
    below = top - [0.0, 0.004, 0.0]
    for name in ("loose", "inset"):
        setattr(sheet, name, np.append(getattr(sheet, name), np.zeros(COLUMNS)))
    sheet.partner = np.append(sheet.partner, np.full(COLUMNS, -1))
    sheet.added = np.append(sheet.added, np.ones(COLUMNS, bool))
    sheet.along = np.concatenate([sheet.along, np.zeros((COLUMNS, 2))])
    sheet.weights = np.concatenate([sheet.weights, held])
    sheet.bare = sheet.points = np.concatenate([sheet.points, below])
    join(sheet, start, rings, start, 2)
    order = np.argsort(-sheet.weights, axis=1, kind="stable")[:, :6]
    made = replace(
        data,
        template=replace(
            data.template,
            vertices=torch.tensor(sheet.points, dtype=torch.float32),
            faces=torch.from_numpy(sheet.faces),
            corner_uvs=torch.from_numpy(sheet.corner_uvs),
        ),
        skinning=Skinning(
            names, skin.bone_joints, torch.from_numpy(order),
            torch.tensor(np.take_along_axis(sheet.weights, order, 1), dtype=torch.float32),
        ),
    )  # fmt: skip
    materials = np.where(sheet.parts == 2, LINING, COTTON)
    dressing = Dressing(
        sheet.loose.astype(np.float32), sheet.partner, sheet.inset.astype(np.float32),
        ~sheet.added, np.ones(len(sheet.points), np.float32), materials.astype(np.int32),
        np.zeros((2, 2), np.uint8),
    )  # fmt: skip
    outer = n + COLUMNS + np.arange(last * COLUMNS)
    return Skirted(made, dressing, outer)


@cache
def actor(seed: int = 0) -> TrueActor:
    return TrueActor(skirted().data, skirted().dressing, seed)


def poses(frames: int, **dofs: np.ndarray | float) -> np.ndarray:
    """Make dofs [F, D], zero but for some."""
    names = plain().skeleton.dof_names
    found = np.zeros((frames, len(names)))
    for name, values in dofs.items():
        found[:, names.index(name)] = values
    return found


@cache
def walk() -> np.ndarray:
    path = resource("assets", "actor") / "motions" / "walk.motion"
    return read_motion(path, plain().skeleton).dofs.numpy()


def same(one: TrueFrame, other: TrueFrame) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name))
               for name in ("vertices", "normals", "occlusion", "creases"))  # fmt: skip


@pytest.mark.slow
def test_without_motion_the_settled_surface_is_the_template() -> None:
    player = actor()
    frame = player.play(poses(1)).frame(0)
    away = np.linalg.norm(frame.vertices - player.fine.matrix @ player.template, axis=1)
    assert away.max() < 0.010, away.max()
    assert away.mean() < 0.001, away.mean()


def test_a_twist_makes_the_hem_lag() -> None:
    time = np.arange(12) / 25
    turn = poses(12, rotate_y=1.2 * np.sin(np.pi * time / 0.96) ** 2)
    frame = actor().play(turn).frame(6)
    hem = skirted().outer[-COLUMNS:]
    skinned = actor().skinned(actor().moves(turn[6]))[hem]
    truly = frame.vertices[hem]
    angle = lambda p: np.unwrap(np.arctan2(p[:, 0], p[:, 2]))  # noqa: E731
    lag = np.angle(np.exp(1j * (angle(skinned) - angle(truly)))).mean()
    assert lag > 0.05, lag


def test_the_hem_swings_on_when_the_body_stops() -> None:
    slide = np.minimum(np.arange(30), 15) * 0.04
    motion = actor().play(poses(30, translate_x=slide))
    hem = skirted().outer[-COLUMNS:]
    ahead = [motion.frame(k).vertices[hem, 0].mean() - slide[k] for k in (15, 18, 29)]
    assert ahead[0] < -0.02, ahead  # behind while the body moves
    assert ahead[1] > ahead[0] + 0.02, ahead
    assert abs(ahead[2]) < abs(ahead[0]), ahead


def test_wrinkles_grow_with_the_bend() -> None:
    player = TrueActor(plain())
    elbow = plain().skeleton.joint_names.index("LeftForeArm")
    at = joint_transforms(plain().skeleton, plain().rest_dofs.double())[elbow, :3, 3].numpy()
    near = np.linalg.norm(player.fine.matrix @ player.template - at, axis=1) < 0.10
    heights, creases = [], []
    for bend in (0.0, 0.5, 1.2, 2.2):
        frame = player.play(poses(1, left_elbow=bend)).frame(0)
        smooth = player.fine.matrix @ player.skinned(player.moves(poses(1, left_elbow=bend)[0]))
        heights.append(np.linalg.norm(frame.vertices - smooth, axis=1)[near].mean())
        creases.append(frame.creases[near].sum(1).mean())
    assert (np.diff(heights) > 0).all(), heights
    assert (np.diff(creases) > 0).all(), creases
    assert heights[0] < 1e-4
    assert heights[-1] < DEPTH


@pytest.mark.parametrize("dof", ["right_knee", "spine_lean", "left_shoulder_z"])
def test_every_joint_wrinkles(dof: str) -> None:
    player = TrueActor(plain())
    calm = player.play(poses(1)).frame(0).creases
    bent = player.play(poses(1, **{dof: 0.6})).frame(0).creases
    assert bent.max() > 0.2
    assert calm.max() < 1e-3


def test_legs_stay_inside_the_skirt_on_a_walk() -> None:
    """Allow small errors: legs are round to the cloth."""
    motion, player = actor().play(walk()[:60]), actor()
    outer = skirted().outer
    bones = [plain().skinning.bone_names.index(f"{side}{bone}")
             for side in ("Left", "Right") for bone in ("UpLegRoll", "Leg")]  # fmt: skip
    legs = np.isin(plain().skinning.bones[:, 0].numpy(), bones)
    legs = np.flatnonzero(np.concatenate([legs, np.zeros(len(player.template) - len(legs), bool)]))
    worst = []
    for k in range(0, 60, 6):
        vertices = motion.frame(k).vertices
        cloth, leg = vertices[outer].reshape(-1, COLUMNS, 3), vertices[legs]
        normals = normals_of(vertices, player.surface.faces)[outer]
        low = cloth[-1, :, 1].max()
        leg = leg[(leg[:, 1] > low) & (leg[:, 1] < cloth[3, :, 1].min())]
        away = np.linalg.norm(leg[:, None] - vertices[outer][None], axis=2)
        nearest = away.argmin(1)
        out = ((leg - vertices[outer][nearest]) * normals[nearest]).sum(1)
        worst.append(out.max())
    assert max(worst) < 0.012, worst


@pytest.mark.slow
def test_the_same_whatever_was_asked_before() -> None:
    one, other = actor().play(walk()[:106]), actor().play(walk()[:106])
    late = one.frame(104)
    for k in (3, 40, 102):
        other.frame(k)
    assert same(late, other.frame(104))
    assert same(one.frame(40), other.frame(40))  # back again
    assert same(late, one.frame(104))


def test_the_past_matters_and_the_future_does_not() -> None:
    dofs = walk()[:40]
    shorter, straight = actor().play(dofs[:31]), actor().play(dofs)
    assert same(shorter.frame(30), straight.frame(30))
    fresh = actor().play(dofs[30:]).frame(0)
    hem = skirted().outer[-COLUMNS:]
    assert np.abs(fresh.vertices[hem] - straight.frame(30).vertices[hem]).max() > 0.01


def test_the_seed_moves_the_folds() -> None:
    bent = poses(1, left_elbow=1.5)
    again = TrueActor(skirted().data, skirted().dressing, 0).play(bent).frame(0)
    assert same(actor().play(bent).frame(0), again)
    other = actor(1).play(bent).frame(0)
    away = np.linalg.norm(other.vertices - again.vertices, axis=1)
    assert 1e-3 < away.max() < 2 * DEPTH


def test_a_raised_knee_darkens_the_belly() -> None:
    player = TrueActor(plain())
    calm = player.play(poses(1)).frame(0).occlusion
    near = player.play(poses(1, left_hip_x=2.0, left_knee=1.6)).frame(0).occlusion
    places = player.fine.matrix @ player.template
    belly = (places[:, 2] > 0.08) & (np.abs(places[:, 1] - 1.08) < 0.06) & (places[:, 0] > 0)
    belly &= np.abs(places[:, 0]) < 0.12
    assert near[belly].mean() < calm[belly].mean() - 0.05
    assert calm.min() >= 0.0
    assert calm.max() <= 1.0


def test_skinning_agrees_with_the_house() -> None:
    skin = plain().skinning
    player = TrueActor(plain())
    moves = player.moves(walk()[17])[skin.bone_joints]
    real, dual = dq.from_matrix(moves)
    shape = (player.template, skin.bones.numpy(), skin.weights.numpy())
    want = dq.apply(
        *reference_blend(real, dual, skin.bones, skin.weights.double()),
        torch.from_numpy(player.template),
    )
    np.testing.assert_allclose(blend_bones(*shape, real.numpy(), dual.numpy()), want, atol=1e-9)
    rigid = blend_matrices(*shape, np.broadcast_to(moves[0].numpy(), moves.shape).copy())
    turned = player.template @ moves[0, :3, :3].numpy().T + moves[0, :3, 3].numpy()
    np.testing.assert_allclose(rigid, turned, atol=1e-5)


def test_subdivision_keeps_planes_and_uvs() -> None:
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    corners = np.array([r * 5 + c for r in range(4) for c in range(4)])[:, None]
    cells = np.concatenate([corners + np.array([0, 1, 6]), corners + np.array([0, 6, 5])])
    fine = subdivide(cells, grid[cells], len(grid))
    flat = fine.matrix @ np.concatenate([grid, np.full((25, 1), 2.0)], 1)
    np.testing.assert_allclose(flat[:, 2], 2.0, atol=1e-12)
    assert (face_normals(flat, fine.faces)[:, 2] > 0).all()
    assert len(fine.faces) == 4 * len(cells)
    assert fine.corner_uvs.min() == 0.0
    assert fine.corner_uvs.max() == 4.0


def test_a_dressing_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "dressing.safetensors"
    save_dressing(path, skirted().dressing)
    got = load_dressing(path, skirted().data)
    assert got is not None
    for name in ("loose", "partner", "inset", "solid", "open", "materials", "gloss", "relief"):
        np.testing.assert_array_equal(getattr(got, name), getattr(skirted().dressing, name))
    assert load_dressing(tmp_path / "none.safetensors", plain()) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loose": np.zeros(3, np.float32)}, "expected loose of length"),
        ({"materials": np.full(len(skirted().dressing.materials), 99, np.int32)}, "materials from"),
        ({"partner": np.full(len(skirted().dressing.partner), 10**7)}, "partner within"),
        ({"gloss": np.zeros(4, np.uint8)}, "gloss"),
        ({"relief": np.zeros((0, 4), np.uint8)}, "relief"),
        ({"loose": np.full(len(skirted().dressing.loose), np.nan, np.float32)}, "finite"),
    ],
)
def test_a_bad_dressing_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "dressing.safetensors"
    save_dressing(path, replace(skirted().dressing, **change))
    with pytest.raises(InputError, match=message):
        load_dressing(path, skirted().data)


def test_a_dressing_of_an_earlier_version_is_flat(tmp_path: Path) -> None:
    path = tmp_path / "dressing.safetensors"
    save_dressing(path, skirted().dressing)
    tensors = load_file(path)
    del tensors["relief"]
    save_file(tensors, path)
    got = load_dressing(path, skirted().data)
    assert got is not None
    assert (got.relief == FLAT).all()


def test_a_torn_dressing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dressing.safetensors"
    save_dressing(path, skirted().dressing)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="expected a safetensors file"):
        load_dressing(path, skirted().data)


def test_a_character_without_a_dressing_plays() -> None:
    player = TrueActor.load(resource("assets", "actor") / "actor.conf")
    frame = player.play(walk()[:2]).frame(1)
    assert np.isfinite(frame.vertices).all()
    assert len(player.fabric.points) == 0
    assert len(frame.vertices) == len(frame.normals) == int(player.surface.faces.max()) + 1
