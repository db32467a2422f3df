"""Paint of glTF characters, and the notes on their files."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from test_gltf import PAINTED, WHOLE, as_uri, gltf_of, quads

from ash_core import cli
from ash_core.errors import InputError
from ash_core.importers.gltf.gltf_atlas import make_atlas
from ash_core.importers.gltf.gltf_character import Imported, read_gltf_character
from ash_core.importers.gltf.gltf_paint import Material, Painter, Soup, encode, opaque_share
from ash_core.importers.gltf.gltf_traits import describe_rest
from ash_core.studio.mesh.texels import find_texels

Json = dict[str, Any]
UNSIGNED_SHORT, UNSIGNED_INT, FLOAT = 5123, 5125, 5126


def triangle(uvs: list[list[float]], material: int = 0) -> Soup:
    """Make a triangle of 2 cm beside the quads."""
    corners = np.array([[[0.0, 2, 0], [0.02, 2, 0], [0, 2.02, 0]]])
    return Soup(corners, np.array([uvs]), np.array([material]))


def joined(*soups: Soup) -> Soup:
    return Soup(
        np.concatenate([soup.positions for soup in soups]),
        np.concatenate([soup.uvs for soup in soups]),
        np.concatenate([soup.materials for soup in soups]),
    )


def sheared(soup: Soup) -> Soup:
    """Shear the quads: the first one cannot keep its place, which another one has too."""
    return joined(quads([WHOLE, WHOLE], [0, 0]), soup)


# ---- layout ----


@pytest.mark.parametrize(
    "uvs",
    [
        [[0.0, 0.0], [1.0, 1.0], [0.5, 0.500001]],  # a sliver from corner to corner
        [[0.0, 0.0], [1.0, 0.0], [1.0, 1e-6]],
        [[0.3, 0.3], [0.3, 0.3], [0.3, 0.3]],
        [[np.nan, np.nan]] * 3,
        [[-40.0, 0.0], [60.0, 100.0], [10.0, 50.0001]],
    ],
)
def test_a_sliver_does_not_take_the_atlas(uvs: list[list[float]]) -> None:
    fair = sheared(triangle([[0.0, 0.0], [0.02, 0.0], [0.0, 0.02]]))
    want = make_atlas(fair, [PAINTED]).density_px_m
    atlas = make_atlas(sheared(triangle(uvs)), [PAINTED])
    assert atlas.density_px_m == pytest.approx(want, rel=0.02)
    assert atlas.relaid == 1
    box = np.ptp(atlas.corner_uvs[-1], axis=0) * len(atlas.texture) / atlas.density_px_m
    assert 0.01 < box.max() < 0.04


def test_triangles_under_others_in_their_own_chart_are_taken_out() -> None:
    """Two turns of a spiral stair hang together and have one layout."""
    angle = np.arange(17) * np.pi / 4
    rim = np.stack([np.cos(angle), np.sin(angle), 0.1 * angle], 1)
    flat = 0.5 + 0.4 * rim[:, :2]
    axis = np.stack([0 * angle, 0 * angle, 0.1 * angle], 1)
    inner = axis + 0.2 * (rim - axis)
    flat_inner = 0.5 + 0.08 * rim[:, :2]
    corners, uvs = [], []
    for n in range(16):
        corners += [[inner[n], rim[n], rim[n + 1]], [inner[n], rim[n + 1], inner[n + 1]]]
        across = [flat_inner[n], flat[n], flat[n + 1], flat_inner[n + 1]]
        uvs += [across[:3], [across[0], across[2], across[3]]]
    atlas = make_atlas(Soup(np.array(corners), np.array(uvs), np.zeros(32, int)), [PAINTED])
    texels = find_texels(atlas.corner_uvs, 512)
    a, b = (atlas.corner_uvs[:, k] - atlas.corner_uvs[:, 0] for k in (1, 2))
    area = 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) * 512**2
    np.testing.assert_allclose(np.bincount(texels.faces, minlength=32), area, rtol=0.15, atol=8)


def test_a_texture_is_as_fine_as_the_images_are() -> None:
    for side, want in ((64, 512), (300, 1024)):
        image = np.full((side, side, 3), 90, np.uint8)
        atlas = make_atlas(quads([WHOLE, WHOLE], [0, 0]), [Material(image, np.ones(3))])
        assert len(atlas.texture) == want
        assert atlas.source_px_m == pytest.approx(side)


# ---- colours ----


def at_corners(atlas: Any, face: int) -> np.ndarray:
    """Return colours [3, 3] a little inside a face's corners."""
    corners = atlas.corner_uvs[face]
    inside = 0.9 * corners + 0.1 * corners.mean(0)
    side = len(atlas.texture)
    pixels = np.floor(inside * [side, -side] + [0, side]).astype(int)
    return atlas.texture[pixels[:, 1], pixels[:, 0]].astype(int)


def test_vertex_colours_multiply_the_material_in_linear_light() -> None:
    soup = quads([WHOLE], [0])
    colours = np.ones((2, 3, 4))
    colours[0, :, :3] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    colours[1, :, :3] = 0.25
    soup = Soup(soup.positions, np.full_like(soup.uvs, np.nan), soup.materials, colours)
    atlas = make_atlas(soup, [Material(None, np.array([1.0, 1.0, 0.5, 1.0]))])
    near = np.array([[0.933, 0.033, 0.033], [0.033, 0.933, 0.033], [0.033, 0.033, 0.933]])
    want = 255 * encode(near * [1.0, 1.0, 0.5])
    np.testing.assert_allclose(at_corners(atlas, 0), want, atol=6)
    quarter = 255 * encode(np.array([0.25, 0.25, 0.125]))
    np.testing.assert_allclose(at_corners(atlas, 1), np.tile(quarter, (3, 1)), atol=1.5)


def test_images_are_averaged_where_they_are_finer_than_what_is_painted() -> None:
    fine = np.zeros((512, 512, 3), np.uint8)
    fine[::2, ::2] = fine[1::2, 1::2] = 254
    painter = Painter(Material(fine, np.ones(3)))
    uvs = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    rgb, alpha = painter.colours(uvs, np.full(50, 4 / 512), None)
    np.testing.assert_allclose(rgb, 127 / 255, atol=1e-6)
    assert (alpha == 1).all()
    rgb, _ = painter.colours(np.array([[0.5, 2.5], [1.5, 0.5]]) / 512, np.full(2, 1 / 512), None)
    np.testing.assert_allclose(rgb[:, 0], [254 / 255, 0], atol=1e-6)


def hairy(alpha: np.ndarray, mode: Any) -> Material:
    """Paint visible texels red and transparent ones white, as exporters do."""
    image = np.full((*alpha.shape, 4), 255, np.uint8)
    image[alpha > 0.2, :3] = [200, 0, 0]
    image[..., 3] = np.round(255 * alpha)
    return Material(image, np.ones(4), mode, 0.5, "hair")


def test_what_is_not_there_lends_no_colour() -> None:
    alpha = np.zeros((64, 64))
    alpha[:, ::2] = 1.0
    alpha = np.repeat(alpha[:, :16], 4, 1)
    for mode in ("MASK", "BLEND"):
        atlas = make_atlas(quads([WHOLE, WHOLE], [0, 0]), [hairy(alpha, mode)])
        assert (np.abs(atlas.texture.astype(int) - [200, 0, 0]).max(-1) < 3).all()
    atlas = make_atlas(quads([WHOLE, WHOLE], [0, 0]), [hairy(alpha, "OPAQUE")])
    assert (atlas.texture.min(-1) > 200).any()


def test_transparent_share_is_that_of_the_image() -> None:
    alpha = np.zeros((64, 64))
    alpha[:, :32] = 1.0
    left, right = (np.array(WHOLE) * [0.3, 1] + [at, 0] for at in (0.1, 0.6))
    soup = quads([WHOLE, left.tolist(), right.tolist()], [0, 0, 0])
    for mode in ("MASK", "BLEND"):
        share = opaque_share(soup, [hairy(alpha, mode)])
        np.testing.assert_allclose(share[:2].mean(), 0.5, atol=0.03)
        np.testing.assert_allclose(share[2:], [1, 1, 0, 0], atol=1e-6)
    assert (opaque_share(soup, [hairy(alpha, "OPAQUE")]) == 1).all()
    faint = Material(None, np.array([1.0, 1.0, 1.0, 0.1]), "BLEND")
    np.testing.assert_allclose(opaque_share(soup, [faint]), 0.1)


# ---- whole files ----

JOINTS = {
    "Hips": (-1, (0.0, 1.0, 0.0)),
    "Head": (0, (0.0, 0.6, 0.0)),
    "LeftArm": (0, (0.2, 0.45, 0.0)),
    "LeftForeArm": (2, (0.25, 0.0, 0.0)),
    "LeftHand": (3, (0.25, 0.0, 0.0)),
    "RightArm": (0, (-0.2, 0.45, 0.0)),
    "RightForeArm": (5, (-0.25, 0.0, 0.0)),
    "RightHand": (6, (-0.25, 0.0, 0.0)),
}
CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float) - 0.5
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def box(middle: tuple, size: tuple, material: int, joint: int) -> Json:
    """Make a box whose six sides share the whole image."""
    corners = [CUBE[n] * size + middle for side in SIDES for n in side]
    faces = [[4 * s + k for k in order] for s in range(6) for order in ((0, 1, 2), (0, 2, 3))]
    return {
        "positions": np.array(corners), "uvs": np.array(WHOLE * 6), "faces": np.array(faces),
        "material": material, "joint": joint,
    }  # fmt: skip


def png(image: np.ndarray) -> Json:
    data = io.BytesIO()
    PillowImage.fromarray(image).save(data, "PNG")
    return {"uri": as_uri(data.getvalue()).replace("application/octet-stream", "image/png")}


def avatar_of(path: Path, boxes: list[Json], materials: list[Json], images: list[np.ndarray],
              arms_down: float = 0.0, **content: object) -> Path:  # fmt: skip
    """Make a skinned figure with a mesh for each box."""
    cos, sin = np.cos(arms_down), np.sin(arms_down)
    local = [np.array(place) for _, place in JOINTS.values()]
    for side, first in ((1.0, 2), (-1.0, 5)):
        for n in (first + 1, first + 2):
            local[n] = 0.25 * np.array([side * cos, -sin, 0.0])
    places: list[np.ndarray] = []
    for (parent, _), place in zip(JOINTS.values(), local, strict=True):
        places.append(place + (places[parent] if parent >= 0 else 0.0))
    arrays: list[tuple[np.ndarray, Json]] = []

    def add(values: np.ndarray, component: int, kind: str) -> int:
        dtype = {UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4", FLOAT: "<f4"}[component]
        arrays.append((values.astype(dtype), {"componentType": component, "type": kind}))
        return len(arrays) - 1

    nodes: list[Json] = []
    for name, place in zip(JOINTS, local, strict=True):
        names = list(JOINTS)
        children = [n for n, (above, _) in enumerate(JOINTS.values()) if above == names.index(name)]
        nodes.append({"name": name, "translation": place.tolist()})
        nodes[-1] |= {"children": children} if children else {}
    inverse = np.tile(np.eye(4), (len(places), 1, 1))
    inverse[:, :3, 3] = -np.array(places)
    binds = add(inverse.transpose(0, 2, 1).reshape(-1, 16), FLOAT, "MAT4")
    meshes = []
    for part in boxes:
        count = len(part["positions"])
        own = np.tile([part["joint"], 0, 0, 0], (count, 1))
        attributes = {
            "POSITION": add(part["positions"], FLOAT, "VEC3"),
            "JOINTS_0": add(own, UNSIGNED_SHORT, "VEC4"),
            "WEIGHTS_0": add(np.tile([1.0, 0, 0, 0], (count, 1)), FLOAT, "VEC4"),
        }
        if part["uvs"] is not None:
            attributes["TEXCOORD_0"] = add(part["uvs"], FLOAT, "VEC2")
        if part.get("colours") is not None:
            attributes["COLOR_0"] = add(part["colours"], FLOAT, "VEC3")
        indices = add(part["faces"].reshape(-1, 1), UNSIGNED_INT, "SCALAR")
        primitive = {"attributes": attributes, "indices": indices, "material": part["material"]}
        meshes.append({"primitives": [primitive]})
        nodes.append({"mesh": len(meshes) - 1, "skin": 0})
    whole = {
        "nodes": nodes,
        "scenes": [{"nodes": [0, *range(len(JOINTS), len(nodes))]}],
        "meshes": meshes,
        "skins": [{"joints": list(range(len(JOINTS))), "inverseBindMatrices": binds}],
        "materials": materials,
        "textures": [{"source": n} for n in range(len(images))],
        "images": [png(image) for image in images],
        **content,
    }
    gltf_of(path, arrays, **whole)
    return path


def painted(texture: int, **more: object) -> Json:
    return {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}, **more}


FLAT = np.full((16, 16, 3), 200, np.uint8)


def person(path: Path, **content: Any) -> Path:
    boxes = [box((0, 1.2, 0), (0.4, 0.8, 0.2), 0, 0), box((0, 1.7, 0), (0.2, 0.2, 0.2), 0, 1)]
    return avatar_of(path, boxes, [painted(0)], [FLAT], **content)


def said(imported: Imported) -> str:
    return "\n".join((*imported.facts, *imported.notes))


def test_an_avatar_makers_file_is_sharp_and_its_eyelashes_are_gone(tmp_path: Path) -> None:
    """Traits of such files: four meshes, eight materials, blended eyelashes, a sliver."""
    colours = np.random.default_rng(0).integers(40, 255, (7, 3)).astype(np.uint8)
    images: list[np.ndarray] = [np.tile(colour, (64, 64, 1)) for colour in colours]
    images.append(np.zeros((64, 64, 4), np.uint8))  # lashes: nearly all of it is transparent
    images[-1][28:34, :, 3] = 255
    materials = [painted(n, name=f"part {n}") for n in range(7)]
    materials.append(painted(7, name="Lashes", alphaMode="BLEND"))
    body = box((0, 1.2, 0), (0.4, 0.8, 0.2), 0, 0)
    sliver = body["uvs"].copy()
    sliver[:3] = [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5 + 1e-7]]
    boxes = [body | {"uvs": sliver}, box((0, 1.7, 0), (0.2, 0.2, 0.2), 1, 1)]
    boxes += [box((0.2 + 0.1 * n, 1.45, 0), (0.1, 0.1, 0.1), 2 + n, 2) for n in range(5)]
    boxes.append(box((0, 1.72, 0.11), (0.1, 0.02, 0.001), 7, 1))
    imported = read_gltf_character(avatar_of(tmp_path / "maker.gltf", boxes, materials, images))
    assert len(imported.actor.faces) == 7 * 12
    notes = said(imported)
    assert "'Lashes' is blended (alpha): 12 of 12 triangles" in notes
    assert "triangles lie in a sliver or a point" in notes
    # As if there were no sliver; and each part has its colour.
    boxes[0] = body
    fair = read_gltf_character(avatar_of(tmp_path / "fair.gltf", boxes, materials, images))
    actor = imported.actor
    for face in range(0, 84, 5):
        u, v = actor.corner_uvs[face].mean(0)
        side = len(actor.texture)
        want = colours[face // 12]
        np.testing.assert_allclose(actor.texture[int((1 - v) * side), int(u * side)], want, atol=2)
    per_cm = [float(text.split("anew; ")[1].split()[0]) for text in (said(imported), said(fair))]
    assert per_cm[0] > 0.7 * per_cm[1]


def test_vertex_colours_of_a_file_are_in_the_texture(tmp_path: Path) -> None:
    body: Json = box((0, 1.2, 0), (0.4, 0.8, 0.2), 0, 0) | {"uvs": None}
    body["colours"] = np.where(body["positions"][:, 1:2] > 1.2, [[0.0, 0, 1]], [[1.0, 0, 0]])
    imported = read_gltf_character(avatar_of(tmp_path / "a.gltf", [body], [{}], []))
    texture = imported.actor.texture.reshape(-1, 3)
    assert imported.notes == ()
    assert (texture[:, 0] > 240).any()
    assert (texture[:, 2] > 240).any()


def test_most_of_a_character_is_never_left_out_as_transparent(tmp_path: Path) -> None:
    """Some exporters write BLEND and an alpha of zero for all that there is."""
    clear = np.zeros((16, 16, 4), np.uint8)
    boxes = [box((0, 1.2, 0), (0.4, 0.8, 0.2), 0, 0)]
    path = avatar_of(tmp_path / "a.gltf", boxes, [painted(0, alphaMode="BLEND")], [clear])
    imported = read_gltf_character(path)
    assert len(imported.actor.faces) == 12
    assert "drawn opaque" in said(imported)


@pytest.mark.parametrize(
    ("uvs", "says"),
    [
        (None, "12 of 12 triangles have an image but no texture coordinates"),
        (np.full((24, 2), 0.5), "all texture coordinates lie in one point"),
    ],
)
def test_paint_without_a_layout_is_said(tmp_path: Path, uvs: Any, says: str) -> None:
    boxes = [box((0, 1.2, 0), (0.4, 0.8, 0.2), 0, 0) | {"uvs": uvs}]
    imported = read_gltf_character(avatar_of(tmp_path / "a.gltf", boxes, [painted(0)], [FLAT]))
    assert says in said(imported)
    assert (np.abs(imported.actor.texture.astype(int) - 200) < 2).all()


@pytest.mark.parametrize(
    ("down", "says"), [(0.0, "T-pose (arms 0 "), (0.8, "A-pose (arms 46 "), (1.4, "neither")]
)
def test_the_rest_pose_is_named(tmp_path: Path, down: float, says: str) -> None:
    assert says in said(read_gltf_character(person(tmp_path / "a.gltf", arms_down=down)))


def test_a_rest_pose_without_arms_or_with_bent_ones_is_neither() -> None:
    at = {"Hips": np.zeros(3)}
    assert "no arms" in describe_rest(at, {})
    known = {"left upper_arm": [0, 1, 0], "left forearm": [0.3, 1, 0], "left hand": [0.3, 1.3, 0]}
    assert "elbows bent" in describe_rest(at, {part: np.array(p) for part, p in known.items()})


@pytest.mark.parametrize("version", ["0", "1"])
def test_vrm_files_are_gltf_with_springs_that_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    nodes = dict(zip(("leftUpperArm", "leftLowerArm", "leftHand"), (2, 3, 4), strict=True))
    if version == "0":
        bones: Any = [{"bone": name, "node": node} for name, node in nodes.items()]
        springs = {"boneGroups": [{"bones": [1]}]}
        vrm = {"humanoid": {"humanBones": bones}, "secondaryAnimation": springs}
        extensions: Json = {"VRM": vrm}
    else:
        bones = {name: {"node": node} for name, node in nodes.items()}
        extensions = {
            "VRMC_vrm": {"specVersion": "1.0", "humanoid": {"humanBones": bones}},
            "VRMC_springBone": {"springs": [{"joints": [{"node": 1}]}]},
        }
    path = person(tmp_path / "person.gltf", extensions=extensions)
    content = json.loads(path.read_text())
    for n, node in enumerate(content["nodes"][: len(JOINTS)]):
        node["name"] = f"bone{n}"  # the file's own map tells the arms, not their names
    path = tmp_path / "person.vrm"
    path.write_text(json.dumps(content))
    assert cli.main(["import", "gltf", str(path), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "rest pose: T-pose" in out
    assert "atlas: " in out
    assert "texels/cm" in out
    assert "1 spring bone chains stay at rest" in " ".join(err.split())


def with_flat_bind(path: Path, joint: int) -> Path:
    """Replace a joint's inverse bind matrix by zeros."""
    content = json.loads(path.read_text())
    view = content["bufferViews"][0]
    content["buffers"].append({"byteLength": view["byteLength"]})
    matrices = np.tile(np.eye(4, dtype="<f4"), (len(JOINTS), 1, 1))
    matrices[joint] = 0.0
    content["buffers"][1]["uri"] = as_uri(matrices.tobytes())
    content["bufferViews"][0] = {"buffer": 1, "byteLength": matrices.nbytes}
    path.write_text(json.dumps(content))
    return path


def test_a_flat_inverse_bind_matrix_names_its_joint(tmp_path: Path) -> None:
    path = with_flat_bind(person(tmp_path / "a.gltf"), 1)
    with pytest.raises(InputError, match=r"a\.gltf: skins\[0\]: inverseBindMatrices: .*'Head'"):
        read_gltf_character(path)
    # One that moves no vertex is no harm.
    path = with_flat_bind(person(tmp_path / "b.gltf"), 4)
    assert "1 joints that move no vertex" in said(read_gltf_character(path))


def masked_avatar(path: Path) -> Path:
    """Write an avatar with vertex colours, a mask and a VRM extension, for the fuzzer."""
    body = box((0, 1.2, 0), (0.4, 0.8, 0.2), 0, 0)
    body["colours"] = np.full((24, 3), 0.5)
    return avatar_of(
        path, [body], [painted(0, alphaMode="MASK")], [FLAT[:4, :4]],
        extensions={"VRM": {"humanoid": {"humanBones": [{"bone": "leftHand", "node": 4}]}}},
    )  # fmt: skip
