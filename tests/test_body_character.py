"""Characters made of body models: their atlas, their skin, their files, one frame of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_body import actor_body, tube, write_body_model
from scipy.spatial.transform import Rotation

from ash_core.avatar import Avatar
from ash_core.errors import InputError
from ash_core.files.body_model import BodyModel, read_body_model
from ash_core.files.body_poses import BODY_JOINTS, BodyKind, BodyPoses
from ash_core.files.obj import ObjMesh, write_obj
from ash_core.files.released import import_ash
from ash_core.geometry.framing import front_camera
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.body.body_character import (
    MARGIN_DEGREES,
    BodyCharacter,
    clothed_character,
    make_body_character,
)
from ash_core.importers.body.body_motion import (
    body_kind_of,
    bone_name,
    dofs_of_poses,
    rest_joints_of,
)
from ash_core.importers.body.body_parts import lay_out_body
from ash_core.importers.body.posing import joint_frames
from ash_core.importers.gltf.gltf_atlas import is_one_to_one
from ash_core.pose_windows import window_at
from ash_core.records import AvatarData, Motion
from ash_core.render import Renderer, RenderRequest
from ash_core.studio.actor.actor import write_actor
from ash_core.studio.mesh.patches import lay_out
from ash_core.studio.mesh.surface import face_normals
from ash_core.studio.mesh.texels import find_texels

COUNT = 1300
FRAMES = 6
R = Rotation.from_euler("x", -90, degrees=True).as_matrix()
"""Body frame from a capture with Z up."""


def poses_of(kind: BodyKind = "smpl", scale: float = 1.0, size: float = 0.2) -> BodyPoses:
    rng = np.random.default_rng(0)
    rotations = size * rng.normal(size=(FRAMES, len(BODY_JOINTS[kind]), 3))
    rotations[:, 0] = Rotation.from_matrix(R.T).as_rotvec()
    places = 0.1 * rng.normal(size=(FRAMES, 3))
    return BodyPoses(
        kind,
        rotations,
        places,
        "pelvis",
        rng.normal(size=10),
        tuple(range(FRAMES)),
        scale=scale,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    path = tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.npz"
    return read_body_model(write_body_model(path, "smpl", vertices=COUNT, with_uvs=True))


@pytest.fixture(scope="module")
def made(model: BodyModel) -> BodyCharacter:
    """Character with the texture coordinates of the body file."""
    return make_body_character(model, poses_of(scale=1.1), R, name="anna")


def signed_areas(corner_uvs: np.ndarray) -> np.ndarray:
    e, f = corner_uvs[:, 1] - corner_uvs[:, 0], corner_uvs[:, 2] - corner_uvs[:, 0]
    return (e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]) / 2


def assert_no_overlap(corner_uvs: np.ndarray) -> None:
    """Every face has area, and each fine pixel in a face belongs to it alone."""
    areas = signed_areas(np.round(corner_uvs, 6))
    assert areas.min() > 0.0
    assert corner_uvs.min() >= 0.0
    assert corner_uvs.max() <= 1.0
    size = 2048
    covered = len(find_texels(corner_uvs, size).faces) / size**2
    assert covered == pytest.approx(areas.sum(), rel=2e-3)


# ---- shape and skeleton ----


def test_the_template_is_the_shape_of_the_betas(model: BodyModel, made: BodyCharacter) -> None:
    poses = poses_of(scale=1.1)
    shaped = model.shaped(poses.betas)
    np.testing.assert_allclose(made.actor.vertices, 1.1 * shaped)
    rest = rest_joints_of(made.actor.skeleton)
    np.testing.assert_allclose(rest, 1.1 * model.joints(shaped), atol=1e-6)


def test_limits_leave_room_beyond_the_data(made: BodyCharacter) -> None:
    skeleton = made.actor.skeleton
    dofs = dofs_of_poses(skeleton, poses_of(scale=1.1), T_body_capture=_capture())
    low, high = skeleton.dof_limits.double().numpy().T
    margin = np.radians(MARGIN_DEGREES) - 1e-6
    assert (dofs.min(0)[6:] - margin >= low[6:]).all()
    assert (dofs.max(0)[6:] + margin <= high[6:]).all()
    assert np.isinf(low[:6]).all()
    assert ((low < 0.0) & (high > 0.0)).all()


def _capture() -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = R
    return T


def test_weights_follow_the_body_file(model: BodyModel, made: BodyCharacter) -> None:
    skinning = made.actor.skinning
    bones = [bone_name(joint) for joint in BODY_JOINTS["smpl"]]
    assert set(skinning.bone_names) == set(bones)
    dense = np.zeros((COUNT, len(bones)))
    columns = np.array([bones.index(name) for name in skinning.bone_names])
    rows = np.arange(COUNT)
    for slot in range(skinning.bones.shape[1]):
        np.add.at(dense, (rows, columns[skinning.bones[:, slot]]), skinning.weights[:, slot])
    np.testing.assert_allclose(dense, model.weights, atol=3e-3)
    np.testing.assert_allclose(skinning.weights.sum(1), 1.0, atol=1e-6)


def test_vertices_of_hands_are_in_the_hand_mask(model: BodyModel, made: BodyCharacter) -> None:
    names = BODY_JOINTS["smpl"]
    owner = np.array(names)[model.weights.argmax(1)]
    sure = model.weights.max(1) > 0.9
    hands = np.isin(owner, ["left_wrist", "right_wrist", "left_hand", "right_hand"])
    np.testing.assert_array_equal(made.actor.hands[sure], hands[sure])


# ---- files ----


@pytest.fixture(scope="module")
def data(made: BodyCharacter, tmp_path_factory: pytest.TempPathFactory) -> AvatarData:
    """The character, written and opened again."""
    folder = tmp_path_factory.mktemp("character")
    write_actor(folder, made.actor, "character")
    return import_ash(folder)[0]


def test_bones_carry_the_surface_as_the_body_file_does(
    model: BodyModel, made: BodyCharacter, data: AvatarData
) -> None:
    """Linear blending by the file's own rule; small weights are left out of ours."""
    poses = poses_of(scale=1.1)
    dofs = torch.from_numpy(dofs_of_poses(data.skeleton, poses, T_body_capture=_capture()))
    T = joint_transforms(data.skeleton, torch.cat((torch.zeros_like(dofs[:1]), dofs)))
    T = T[:, data.skinning.bone_joints]
    moves = (T[1:] @ torch.linalg.inv(T[:1])).numpy()
    weights = data.skinning.weights.double().numpy()
    blended = np.einsum("vs,fvsab->fvab", weights, moves[:, data.skinning.bones.numpy()])
    template = data.template.vertices.double().numpy()
    posed = np.einsum("fvab,vb->fva", blended[..., :3, :3], template) + blended[..., :3, 3]
    rest = model.joints(model.shaped(poses.betas))
    turns, places = joint_frames(poses, rest)
    offset = made.actor.vertices[:, None] - 1.1 * rest
    bones = np.einsum("fjab,vjb->fvja", turns, offset) + places[:, None]
    expected = (model.weights[..., None] * bones).sum(2) @ R.T
    error = np.linalg.norm(posed - expected, axis=2)
    stiff = model.weights.max(1) > 1.0 - 1e-9
    assert stiff.mean() > 0.3
    assert error[:, stiff].max() < 1e-5
    assert error.max() < 3e-3


def test_the_written_character_renders(data: AvatarData) -> None:
    assert body_kind_of(data.skeleton) == "smpl"
    dofs = torch.from_numpy(dofs_of_poses(data.skeleton, poses_of(scale=1.1)))
    camera = front_camera(data, dofs, 0.6, 48, 64)
    window = window_at(data, Motion(dofs), 3)
    avatar = Avatar.from_data(data, preset_name="cpu")
    image = Renderer(avatar).render(RenderRequest(window, camera))
    assert float(image.alpha.max()) > 0.9
    assert bool(torch.isfinite(image.rgb).all())


def test_notes_tell_what_is_left_out(made: BodyCharacter) -> None:
    assert any("pose" in note and "left out" in note for note in made.notes)
    assert any("limits" in note for note in made.notes)


def test_poses_of_another_body_are_refused(model: BodyModel) -> None:
    with pytest.raises(InputError, match="smplx"):
        make_body_character(model, poses_of("smplx"), R)


# ---- texture coordinates ----


def test_texture_coordinates_of_the_body_file_stay(model: BodyModel, made: BodyCharacter) -> None:
    np.testing.assert_array_equal(made.actor.corner_uvs, model.corner_uvs)


def test_a_file_of_texture_coordinates_is_used_in_any_order(
    model: BodyModel, tmp_path: Path
) -> None:
    assert model.corner_uvs is not None
    rng = np.random.default_rng(0)
    order = rng.permutation(len(model.faces))
    turned = (np.arange(3) + rng.integers(0, 3, len(order))[:, None]) % 3
    faces = np.take_along_axis(model.faces[order], turned, 1)
    uvs = np.take_along_axis(model.corner_uvs[order], turned[..., None], 1)
    mesh = ObjMesh(torch.from_numpy(model.template), torch.from_numpy(faces), torch.from_numpy(uvs))
    write_obj(tmp_path / "uv.obj", mesh)
    bare = replace(model, corner_uvs=None)
    character = make_body_character(bare, poses_of(), R, uv_file=tmp_path / "uv.obj")
    np.testing.assert_allclose(character.actor.corner_uvs, model.corner_uvs, atol=1e-6)


def test_texture_coordinates_of_other_triangles_are_refused(
    model: BodyModel, tmp_path: Path
) -> None:
    assert model.corner_uvs is not None
    for faces, uvs in ((model.faces[1:], model.corner_uvs[1:]),
                       (model.faces[:, ::-1].copy(), model.corner_uvs)):  # fmt: skip
        mesh = ObjMesh(
            torch.from_numpy(model.template), torch.from_numpy(faces), torch.from_numpy(uvs)
        )
        write_obj(tmp_path / "uv.obj", mesh)
        with pytest.raises(InputError, match="triangles of the body file"):
            make_body_character(model, poses_of(), R, uv_file=tmp_path / "uv.obj")


def test_triangles_that_share_places_are_laid_out_anew(model: BodyModel) -> None:
    assert model.corner_uvs is not None
    mirrored = model.corner_uvs.copy()
    mirrored[1::2] = mirrored[::2][: len(mirrored[1::2])]
    character = make_body_character(replace(model, corner_uvs=mirrored), poses_of(), R)
    assert any("laid out anew" in note for note in character.notes)
    assert_no_overlap(character.actor.corner_uvs)


# ---- the layout ----


def test_a_body_falls_into_few_charts_without_overlap() -> None:
    """The plain actor: parts as charts, hands and face denser than legs."""
    (vertices, faces, weights), joints = actor_body()
    names = BODY_JOINTS["smplx"]
    corner_uvs = lay_out_body(vertices, faces, weights, names, joints)
    assert_no_overlap(corner_uvs)
    assert is_one_to_one(corner_uvs)
    assert signed_areas(corner_uvs).sum() > 0.4
    metric = np.linalg.norm(face_normals(vertices, faces), axis=1) / 2
    owner = np.array(names)[weights[faces].sum(1).argmax(1)]
    density = {}
    for part, words in {"leg": ("knee",), "hand": ("index", "middle", "wrist")}.items():
        part_faces = np.array([any(word in name for word in words) for name in owner])
        density[part] = np.sqrt(
            signed_areas(corner_uvs)[part_faces].sum() / metric[part_faces].sum()
        )
    middles = vertices[faces].mean(1)
    nose = middles[np.flatnonzero(owner == "head")[middles[owner == "head", 2].argmax()]]
    face = (np.linalg.norm(middles - nose, axis=1) < 0.04) & (owner == "head")
    density["face"] = np.sqrt(signed_areas(corner_uvs)[face].sum() / metric[face].sum())
    assert density["hand"] > 2.0 * density["leg"]
    assert density["face"] > 2.0 * density["leg"]


def grid(rows: int, columns: int, closed: tuple[bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    """A tube (closed one way) or a ring (both ways) of squares."""
    a = 2 * np.pi * np.arange(columns) / columns
    b = 2 * np.pi * np.arange(rows)[:, None] / rows
    ring, rise = (1.0 + 0.4 * np.cos(b), 0.4 * np.sin(b)) if closed[0] else (1.0 + 0 * b, b)
    places = np.stack([ring * np.cos(a), ring * np.sin(a), rise + 0 * a], -1)
    index = np.arange(rows * columns).reshape(rows, columns)
    last = rows if closed[0] else rows - 1
    faces = []
    for r in range(last):
        for c in range(columns):
            p, q = index[r, c], index[r, (c + 1) % columns]
            s, t = index[(r + 1) % rows, c], index[(r + 1) % rows, (c + 1) % columns]
            faces += [(p, q, t), (p, t, s)]
    return places.reshape(-1, 3), np.array(faces)


SURFACES = {
    "closed tube": lambda: tube(np.zeros(3), np.ones(3), 6)[:2],
    "ring with a handle": lambda: grid(12, 20, (True, True)),
    "open tube": lambda: grid(12, 16, (False, True)),
    "three faces at an edge": lambda: (
        np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]]),
        np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]]),
    ),
    "two faces at a vertex": lambda: (
        np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]]),
        np.array([[0, 1, 2], [0, 3, 4]]),
    ),
    "a face without area": lambda: (
        np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 1, 0], [0, 0, 0]]),
        np.array([[0, 1, 3], [1, 2, 3], [0, 2, 1], [4, 4, 3]]),
    ),
}


@pytest.mark.parametrize("name", SURFACES)
def test_any_surface_can_be_laid_out(name: str) -> None:
    vertices, faces = SURFACES[name]()
    labels = np.zeros(len(faces), np.int64)
    hidden = {0: np.array([0.0, 0.0, -1.0])}
    corner_uvs = lay_out(vertices, faces, labels, np.ones(len(faces)), hidden)
    assert_no_overlap(corner_uvs)


def test_an_open_tube_is_one_chart() -> None:
    """Cut lengthwise, it keeps its size: width and height of one rectangle."""
    vertices, faces = grid(12, 16, (False, True))
    labels = np.zeros(len(faces), np.int64)
    corner_uvs = lay_out(
        vertices, faces, labels, np.ones(len(faces)), {0: np.array([0.0, -1.0, 0.0])}
    )
    edges = np.linalg.norm(corner_uvs - np.roll(corner_uvs, 1, axis=1), axis=-1)
    metric = np.linalg.norm(vertices[faces] - np.roll(vertices[faces], 1, axis=1), axis=-1)
    ratio = edges / metric
    assert ratio.max() / ratio.min() < 1.1


# ---- clothes ----


def test_a_clothed_surface_has_the_same_skeleton(model: BodyModel) -> None:
    poses = poses_of(scale=1.1)
    body = make_body_character(model, poses, R)
    texture = np.zeros((8, 8, 3), np.uint8)
    wider = body.actor.vertices * [1.02, 1.0, 1.02]
    clothed = clothed_character(
        wider, model.faces, model.corner_uvs, model.weights, model, poses, R, texture=texture
    )
    for name in ("joint_names", "dof_names"):
        assert getattr(clothed.actor.skeleton, name) == getattr(body.actor.skeleton, name)
    torch.testing.assert_close(clothed.actor.skeleton.offsets, body.actor.skeleton.offsets)
    np.testing.assert_array_equal(clothed.actor.vertices, wider)
    np.testing.assert_array_equal(clothed.actor.texture, texture)
