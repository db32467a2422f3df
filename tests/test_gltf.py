"""Rigged glTF characters: the file's numbers; what becomes of mesh, paint, joints, motions."""

import base64
import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from ash_core import cli
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar
from ash_core.files.gltf import Gltf, open_gltf
from ash_core.files.skeletool import read_motion
from ash_core.geometry.kinematics import joint_transforms
from ash_core.importers.gltf.gltf_atlas import make_atlas
from ash_core.importers.gltf.gltf_character import read_gltf_character
from ash_core.importers.gltf.gltf_mesh import skin_joints
from ash_core.importers.gltf.gltf_motion import read_animations, world
from ash_core.importers.gltf.gltf_paint import Material, Soup
from ash_core.importers.gltf.gltf_rig import inverse_binds

DATA = Path(__file__).parent / "data"
RIGGED, SKIN = DATA / "rigged_simple.glb", DATA / "simple_skin.gltf"
Json = dict[str, Any]


def as_uri(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def gltf_of(path: Path, arrays: list[tuple[np.ndarray, Json]], **content: object) -> Gltf:
    """Make a file with one buffer view and one accessor for each array."""
    data, views, accessors = b"", [], []
    for array, accessor in arrays:
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        accessors.append({"bufferView": len(views) - 1, "count": len(array), **accessor})
        data += array.tobytes() + b"\0" * (-array.nbytes % 4)
    whole = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": len(data), "uri": as_uri(data)}],
        "bufferViews": views,
        "accessors": accessors,
        **content,
    }
    path.write_text(json.dumps(whole))
    return open_gltf(path)


# ---- numbers ----


def test_normalised_integers_become_fractions(tmp_path: Path) -> None:
    raw = np.array([[0, 255, 51, 102]], np.uint8)
    entry = {"componentType": 5121, "type": "VEC4", "normalized": True}
    gltf = gltf_of(tmp_path / "a.gltf", [(raw, entry)])
    np.testing.assert_allclose(gltf.accessor(0, "x", ("VEC4",)), [[0, 1, 0.2, 0.4]])


def test_interleaved_numbers_are_taken_apart(tmp_path: Path) -> None:
    raw = np.arange(12, dtype="<f4").reshape(2, 6)
    entry = {"componentType": 5126, "type": "VEC3", "byteOffset": 12}
    gltf = gltf_of(tmp_path / "a.gltf", [(raw, entry)])
    gltf.content["bufferViews"][0]["byteStride"] = 24
    np.testing.assert_array_equal(gltf.accessor(0, "x", ("VEC3",)), [[3, 4, 5], [9, 10, 11]])


def test_sparse_numbers_replace_zeros(tmp_path: Path) -> None:
    rows, values = np.array([1, 3], np.uint16), np.array([[1, 2], [3, 4]], "<f4")
    kind = {"componentType": 5126, "type": "VEC2"}
    gltf = gltf_of(tmp_path / "a.gltf", [(rows, kind), (values, kind)])
    gltf.content["accessors"][0] = {
        "count": 4,
        **kind,
        "sparse": {
            "count": 2,
            "indices": {"bufferView": 0, "componentType": 5123},
            "values": {"bufferView": 1},
        },
    }
    got = gltf.accessor(0, "x", ("VEC2",))
    np.testing.assert_array_equal(got, [[0, 0], [1, 2], [0, 0], [3, 4]])
    gltf.content["accessors"][0]["count"] = 3
    with pytest.raises(InputError, match="expected indices 0 to 2, got 3"):
        gltf.accessor(0, "x", ("VEC2",))


# ---- joints ----


@pytest.mark.parametrize("path", [RIGGED, SKIN], ids=lambda path: path.stem)
def test_bones_move_as_the_file_moves_its_joints(path: Path) -> None:
    """Ours takes the template to where the file's matrices take the mesh, every bone and frame."""
    actor = read_gltf_character(path).actor
    gltf = open_gltf(path)
    nodes, order = gltf.nodes()
    animation = read_animations(gltf, nodes, 25.0)[0]
    joints = skin_joints(gltf, 0)
    inverse = inverse_binds(gltf, 0, len(joints))
    assert inverse is not None
    T = world(nodes, order, animation)
    first = min(range(len(joints)), key=lambda i: order.index(joints[i]))
    T_world_mesh = world(nodes, order)[0, joints[first]] @ inverse[first]
    (dofs,) = actor.motions.values()
    posed = joint_transforms(actor.skeleton, torch.from_numpy(dofs)).numpy()
    rest = joint_transforms(actor.skeleton, torch.zeros(dofs.shape[1], dtype=torch.float64)).numpy()
    for i, node in enumerate(joints):
        bone = sorted(joints, key=order.index).index(node)
        joint = int(actor.skinning.bone_joints[bone])
        ours = posed[:, joint] @ np.linalg.inv(rest[joint]) @ T_world_mesh
        theirs = T[:, node] @ inverse[i]
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_dofs_do_not_jump() -> None:
    (dofs,) = read_gltf_character(RIGGED).actor.motions.values()
    assert np.abs(np.diff(dofs, axis=0)).max() < 0.5


# ---- paint ----


def quads(uvs: list[list[list[float]]], materials: list[int]) -> Soup:
    """Make unit squares side by side, two triangles each, with these corners in the image."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    triangles = [[0, 1, 2], [0, 2, 3]]
    positions = [
        (corners + np.array([2 * n, 0, 0]))[triangle]
        for n in range(len(uvs))
        for triangle in triangles
    ]
    own = [np.array(uv)[triangle] for uv in uvs for triangle in triangles]
    return Soup(np.array(positions), np.array(own), np.repeat(materials, 2))


WHOLE = [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
CHECKER = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((8, 8), np.uint8))
PAINTED = Material(np.repeat(CHECKER[..., None], 3, 2), np.ones(3))
PLAIN = Material(None, np.array([1.0, 0.0, 0.0]))


def test_a_clean_layout_is_kept_to_the_pixel() -> None:
    atlas = make_atlas(quads([WHOLE], [0]), [PAINTED])
    uvs, texture = atlas.corner_uvs, atlas.texture
    assert atlas.is_kept
    assert PAINTED.image is not None
    np.testing.assert_array_equal(texture, PAINTED.image)
    np.testing.assert_allclose(uvs[0], [[0, 0], [1, 0], [1, 1]])


@pytest.mark.parametrize(
    ("layout", "materials"),
    [
        ([WHOLE, WHOLE], [0, 0]),  # two that share their paint
        ([WHOLE, [[u[0] + 3, u[1] - 2] for u in WHOLE]], [0, 0]),  # tiles
        ([WHOLE, WHOLE[1::-1] + WHOLE[:1:-1]], [0, 0]),  # a mirrored one
        ([WHOLE, WHOLE], [0, 1]),  # two materials
        ([WHOLE, [[0.5, 0.5]] * 4], [0, 0]),  # a palette's colour
        ([WHOLE, [[np.nan, np.nan]] * 4], [0, 1]),  # no layout
    ],
)
def test_no_two_triangles_share_a_texel(layout: list, materials: list[int]) -> None:
    atlas = make_atlas(quads(layout, materials), [PAINTED, PLAIN])
    uvs, texture = atlas.corner_uvs, atlas.texture
    assert uvs.min() >= 0
    assert uvs.max() <= 1
    boxes = [(corner.min(axis=(0, 1)), corner.max(axis=(0, 1))) for corner in (uvs[:2], uvs[2:])]
    (low_a, high_a), (low_b, high_b) = boxes
    assert ((high_a < low_b) | (high_b < low_a)).any()
    # The first one's checkers are still where they were on it.
    side = len(texture)
    for at, want in (((0.25, 0.75), 0), ((0.75, 0.75), 255), ((0.25, 0.25), 255)):
        u, v = low_a + (high_a - low_a) * np.array(at)
        pixel = texture[int((1 - v) * side), int(u * side)]
        np.testing.assert_allclose(pixel, want, atol=3)


def test_plain_materials_keep_their_colour() -> None:
    atlas = make_atlas(quads([WHOLE, WHOLE], [0, 1]), [PAINTED, PLAIN])
    uvs, texture = atlas.corner_uvs, atlas.texture
    u, v = uvs[2:].mean((0, 1))
    side = len(texture)
    assert texture[int((1 - v) * side), int(u * side)].tolist() == [255, 0, 0]


# ---- files ----


@pytest.fixture
def skin() -> Json:
    return json.loads(SKIN.read_text())


def changed(*keys: object, to: object) -> Callable[[Json], object]:
    def change(content: Json) -> None:
        owner: Any = content
        for key in keys[:-1]:
            owner = owner[key]
        owner[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed("asset", "version", to="1.0"), "version 2"),
        (changed("extensionsRequired", to=["KHR_draco_mesh_compression"]), "Draco"),
        (changed("extensionsRequired", to=["EXT_meshopt_compression"]), "meshopt"),
        (changed("extensionsRequired", to=["ACME_secret"]), "ACME_secret"),
        (changed("accessors", 0, "count", to=10**9), "at most"),
        (changed("accessors", 1, "count", to=10**6), "bytes in its view"),
        (changed("accessors", 0, "count", to=-1), "0 or more"),
        (changed("accessors", 0, "componentType", to=5130), "componentType"),
        (changed("accessors", 1, "type", to="VEC2"), "VEC3"),
        (changed("bufferViews", 0, "byteLength", to=10**9), "in its buffer"),
        (changed("buffers", 0, "byteLength", to=10**9), "expected 1000000000 bytes"),
        (changed("buffers", 0, "uri", to="missing.bin"), "nothing there"),
        (changed("buffers", 0, "uri", to="../../etc/passwd"), "beside this one"),
        (changed("buffers", 0, "uri", to="https://example.org/a.bin"), "beside this one"),
        (changed("buffers", 0, "uri", to="data:;base64,@@@"), "base64"),
        (changed("nodes", 1, "children", to=[0]), "expected roots"),
        (changed("nodes", 2, "children", to=[1]), "expected one parent"),
        (changed("nodes", 1, "children", to=[77]), "index 0 to 2"),
        (changed("nodes", 1, "rotation", to=[0, 0, 0, 0]), "rotation with a length"),
        (changed("nodes", 1, "scale", to=[0, 0, 0]), "scale of zero"),
        (changed("nodes", 1, "translation", to=[1e300, 0, 0]), "finite"),
        (changed("meshes", 0, "primitives", 0, "mode", to=0), "expected triangles"),
        (changed("meshes", 0, "primitives", 0, "mode", to=9), "mode 0 to 6"),
        (changed("meshes", 0, "primitives", 0, "indices", to=1), "SCALAR"),
        (changed("meshes", to={}), "list of objects"),
        (changed("skins", 0, "joints", to=[]), "joints"),
        (changed("skins", 0, "joints", to=[1]), "expected joints 0 to 0"),
        (changed("animations", 0, "samplers", 0, "interpolation", to="MAGIC"), "LINEAR"),
        (changed("animations", 0, "channels", 0, "sampler", to=5), "index"),
    ],
)
def test_damage_is_named(tmp_path: Path, skin: Json, change: Callable, says: str) -> None:
    change(skin)
    path = tmp_path / "damaged.gltf"
    path.write_text(json.dumps(skin))
    with pytest.raises(InputError, match=r"damaged\.gltf") as error:
        read_gltf_character(path)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"glTF",
        RIGGED.read_bytes()[:5000],
        RIGGED.read_bytes()[:12] + struct.pack("<I", 1 << 31) + RIGGED.read_bytes()[16:],
        b"glTF" + struct.pack("<II", 1, 20) + RIGGED.read_bytes()[12:],
        b"[" * 100_000,
        b"{}",
        b"\xff\xfe\x00",
    ],
)
def test_broken_containers_are_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.glb"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"broken\.glb"):
        read_gltf_character(path)


def test_numbers_that_are_none_are_named(tmp_path: Path, skin: Json) -> None:
    uri = skin["buffers"][0]["uri"]
    data = bytearray(base64.b64decode(uri.partition(",")[2]))
    view = skin["bufferViews"][skin["accessors"][1]["bufferView"]]
    struct.pack_into("<f", data, view.get("byteOffset", 0), float("nan"))
    skin["buffers"][0]["uri"] = as_uri(bytes(data))
    path = tmp_path / "nan.gltf"
    path.write_text(json.dumps(skin))
    with pytest.raises(InputError, match="finite numbers, got NaN"):
        read_gltf_character(path)


def test_meshes_that_nothing_moves_are_refused(tmp_path: Path, skin: Json) -> None:
    del skin["skins"], skin["animations"]
    skin["nodes"], skin["scenes"] = [{"mesh": 0}], [{"nodes": [0]}]
    path = tmp_path / "still.gltf"
    path.write_text(json.dumps(skin))
    with pytest.raises(InputError, match=r"still\.gltf: skins: expected a rigged character"):
        read_gltf_character(path)


def test_a_mesh_on_an_animated_node_gets_one_bone(tmp_path: Path, skin: Json) -> None:
    """The mesh stands as its node stands; strips are triangles too."""
    rigid = copy.deepcopy(skin)
    del rigid["skins"]
    rigid["nodes"] = [{"mesh": 0, "translation": [0, 5, 0], "scale": [-1, 1, 1]}]
    rigid["scenes"] = [{"nodes": [0]}]
    for animation in rigid["animations"]:
        for channel in animation["channels"]:
            channel["target"]["node"] = 0
    path = tmp_path / "rigid.gltf"
    path.write_text(json.dumps(rigid))
    imported = read_gltf_character(path)
    assert imported.actor.skinning.bone_names == ("node0",)
    assert any("no skin" in note for note in imported.notes)
    rigged = read_gltf_character(SKIN).actor
    assert imported.actor.vertices[:, 1].min() == pytest.approx(rigged.vertices[:, 1].min() + 5)
    rigid["meshes"][0]["primitives"][0]["mode"] = 5
    path.write_text(json.dumps(rigid))
    assert len(read_gltf_character(path).actor.faces) > 8


# ---- the command ----


def test_command_makes_a_character_that_moves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, avatar = tmp_path / "cylinder", tmp_path / "cylinder.safetensors"
    command = ["import", "gltf", str(RIGGED), "-o", str(out), "--scale", "0.2"]
    assert cli.main([*command, "--avatar", str(avatar)]) == 0
    assert "Anim_0_Armature (167 frames)" in capsys.readouterr().out
    data = load_avatar(avatar)
    motion = out / "motions" / "Anim_0_Armature.motion"
    assert read_motion(motion, data.skeleton).dofs.shape == (167, 15)
    frames = tmp_path / "frames"
    render = ["render", str(avatar), "--motion", str(motion), "--frames", "0:160:80"]
    options = ["--size", "64x64", "--device", "cpu", "--preset", "cpu", "--background", "black"]
    assert cli.main([*render, *options, "--out", str(frames)]) == 0
    first, last = (
        np.asarray(PillowImage.open(path)).astype(int) for path in sorted(frames.glob("*.png"))
    )
    assert (first > 100).any(2).mean() > 0.02
    assert (np.abs(first - last).max(2) > 40).mean() > 0.01
    assert cli.main([*command[:-1], "0"]) == 2
