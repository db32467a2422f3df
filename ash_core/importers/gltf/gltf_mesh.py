"""Triangles of a glTF scene, all meshes in one list, with their colours and joints."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ash_core.files.gltf import COMPONENTS, Gltf, Node
from ash_core.files.image import decode_image
from ash_core.importers.gltf.gltf_paint import AlphaMode, Material

MAX_VERTICES = 200_000
MAX_FACES = 400_000
MAX_BONES = 8
"""Upper bound on a vertex's bones; the heaviest stay."""
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


@dataclass(frozen=True)
class Part:
    """Primitive of a mesh at a node."""

    node: int
    skin: int | None
    positions: np.ndarray
    """Positions [V, 3] in the mesh's own frame."""
    faces: np.ndarray
    uvs: np.ndarray | None
    """Texture coordinates [V, 2] as in the file: v down."""
    material: int
    """Index into the list of materials; the last one is the default."""
    joints: np.ndarray | None
    """Nodes [V, S]."""
    weights: np.ndarray | None
    colours: np.ndarray | None = None
    """Linear colours [V, 4]; None: all white."""


def read_parts(
    gltf: Gltf, nodes: Sequence[Node], order: Sequence[int]
) -> tuple[list[Part], list[str]]:
    """Read all triangles, and notes on those left out."""
    parts: list[Part] = []
    notes: set[str] = set()
    for n in order:
        mesh = nodes[n].mesh
        if mesh is None:
            continue
        entry = gltf.entries("meshes")[mesh]
        for p, primitive in enumerate(gltf.objects(entry, "primitives", f"meshes[{mesh}]: ")):
            place = f"meshes[{mesh}]: primitives[{p}]"
            if primitive.get("targets"):
                notes.add("morph targets are not carried over")
            part = _part(gltf, nodes, n, primitive, place)
            if part is None:
                notes.add("points and lines are left out")
            else:
                parts.append(part)
            if sum(len(part.positions) for part in parts) > 3 * MAX_FACES:
                raise gltf.bad(place, f"expected at most {3 * MAX_FACES} vertices in all meshes")
    faces = sum(len(part.faces) for part in parts)
    if not faces:
        raise gltf.bad("meshes", "expected triangles in the scene, found none")
    if faces > MAX_FACES:
        raise gltf.bad("meshes", f"expected at most {MAX_FACES} triangles, got {faces}")
    return parts, sorted(notes)


def _part(gltf: Gltf, nodes: Sequence[Node], n: int, primitive: dict, place: str) -> Part | None:
    mode = primitive.get("mode", _TRIANGLES)
    if mode not in (_TRIANGLES, _STRIP, _FAN):
        if isinstance(mode, int) and 0 <= mode <= 3:
            return None
        raise gltf.bad(place, "expected mode 0 to 6")
    if "KHR_draco_mesh_compression" in gltf.child(primitive, "extensions", f"{place}: "):
        raise gltf.bad(place, "expected plain data, got Draco compression; export it without")
    attributes = gltf.child(primitive, "attributes", f"{place}: ")
    positions = gltf.accessor(attributes.get("POSITION"), place, ("VEC3",)).astype(np.float64)
    if len(positions) and np.abs(positions).max() > 1e9:
        raise gltf.bad(place, "expected positions below 1e9")
    if "indices" in primitive:
        indices = gltf.accessor(primitive["indices"], place, ("SCALAR",))[:, 0]
        if indices.dtype.kind != "i" or (len(indices) and indices.min() < 0):
            raise gltf.bad(place, "expected indices of unsigned integers")
        if len(indices) and int(indices.max()) >= len(positions):
            text = f"expected indices 0 to {len(positions) - 1}, got {int(indices.max())}"
            raise gltf.bad(place, text)
    else:
        indices = np.arange(len(positions))
    material = primitive.get("material")
    count = len(gltf.entries("materials"))
    index = count if material is None else gltf.index(material, count, f"{place}: material")
    skin = nodes[n].skin if "JOINTS_0" in attributes else None
    joints, weights = (None, None) if skin is None else _skin(gltf, attributes, skin, place)
    if joints is not None and len(joints) != len(positions):
        raise gltf.bad(place, f"expected {len(positions)} weights, got {len(joints)}")
    return Part(
        node=n,
        skin=skin,
        positions=positions,
        faces=_triangles(indices, int(mode)),
        uvs=_uvs(gltf, attributes, material, len(positions), place),
        material=index,
        joints=joints,
        weights=weights,
        colours=_colours(gltf, attributes, len(positions), place),
    )


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    if mode == _TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == _FAN:
        first = np.full(len(indices) - 2, indices[0])
        return np.stack([first, indices[1:-1], indices[2:]], 1)
    strip = np.stack([indices[:-2], indices[1:-1], indices[2:]], 1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip


def _skin(gltf: Gltf, attributes: dict, skin: int, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes [V, S] and weights [V, S] of all sets, as in the file."""
    listed = skin_joints(gltf, skin)
    joints, weights = [], []
    while (n := len(joints)) < 16 and f"JOINTS_{n}" in attributes:
        numbers = gltf.accessor(attributes[f"JOINTS_{n}"], place, ("VEC4",))
        shares = gltf.accessor(attributes.get(f"WEIGHTS_{n}"), place, ("VEC4",))
        if numbers.dtype.kind != "i" or len(shares) != len(numbers):
            raise gltf.bad(place, f"expected as many WEIGHTS_{n} as JOINTS_{n}, and integers there")
        used = shares > 0
        if used.any() and not 0 <= numbers[used].min() <= numbers[used].max() < len(listed):
            text = f"expected joints 0 to {len(listed) - 1}, got {int(numbers[used].max())}"
            raise gltf.bad(place, text)
        joints.append(np.array(listed)[np.where(used, numbers, 0)])
        weights.append(np.where(used, shares, 0.0))
    return np.concatenate(joints, 1), np.concatenate(weights, 1).astype(np.float64)


def skin_joints(gltf: Gltf, skin: int) -> list[int]:
    """List the nodes of a skin's joints."""
    place = f"skins[{skin}]: joints"
    listed = gltf.entries("skins")[skin].get("joints")
    if not isinstance(listed, list) or not listed:
        raise gltf.bad(place, "expected a list of nodes")
    return [gltf.index(node, len(gltf.entries("nodes")), place) for node in listed]


def _uvs(
    gltf: Gltf, attributes: dict, material: int | None, count: int, place: str
) -> np.ndarray | None:
    """Read the texture coordinates of the material's colour image."""
    info = {} if material is None else _texture_info(gltf, material)
    transform = gltf.child(
        gltf.child(info, "extensions", f"{place}: "), "KHR_texture_transform", f"{place}: "
    )
    number = transform.get("texCoord", info.get("texCoord", 0))
    name = f"TEXCOORD_{number}" if isinstance(number, int) else "TEXCOORD_0"
    if name not in attributes:
        return None
    uvs = gltf.accessor(attributes[name], place, ("VEC2",)).astype(np.float64)
    if len(uvs) != count or (count and np.abs(uvs).max() > 1e4):
        raise gltf.bad(place, f"expected {count} {name} within 1e4, got {len(uvs)}")
    scale = gltf.numbers(transform, "scale", place, [1.0, 1.0])
    offset = gltf.numbers(transform, "offset", place, [0.0, 0.0])
    angle = float(gltf.numbers({"r": [transform.get("rotation", 0.0)]}, "r", place, [0.0])[0])
    cos, sin = np.cos(angle), np.sin(angle)
    # Source: KHR_texture_transform: translation * rotation * scale, v down.
    return (uvs * scale) @ np.array([[cos, -sin], [sin, cos]]) + offset


def _colours(gltf: Gltf, attributes: dict, count: int, place: str) -> np.ndarray | None:
    """Read the vertices' colours [V, 4], linear; None if all are white."""
    if "COLOR_0" not in attributes:
        return None
    colours = gltf.accessor(attributes["COLOR_0"], place, ("VEC3", "VEC4"))
    if len(colours) != count:
        raise gltf.bad(place, f"expected {count} COLOR_0, got {len(colours)}")
    if colours.dtype.kind == "i":  # not marked as normalised: scaled all the same
        kind = gltf.entry("accessors", attributes["COLOR_0"], place)["componentType"]
        colours = colours / np.iinfo(COMPONENTS[kind]).max
    if colours.shape[1] == 3:
        colours = np.concatenate([colours, np.ones((count, 1))], 1)
    colours = colours.clip(0.0, 1.0)
    return None if (colours == 1.0).all() else colours


def _texture_info(gltf: Gltf, material: int) -> dict:
    entry = gltf.entries("materials")[material]
    place = f"materials[{material}]: "
    extensions = gltf.child(entry, "extensions", place)
    old = gltf.child(extensions, "KHR_materials_pbrSpecularGlossiness", place)
    new = gltf.child(entry, "pbrMetallicRoughness", place)
    key = "diffuseTexture" if "diffuseTexture" in old else "baseColorTexture"
    return gltf.child(old if "diffuseTexture" in old else new, key, place)


def read_materials(gltf: Gltf, used: Sequence[int]) -> list[Material]:
    """Read every material; images only of those in use. The last one is the default material."""
    materials = []
    images: dict[int, np.ndarray] = {}
    for m, entry in enumerate(gltf.entries("materials")):
        # Read the colour factor, of the metallic or of the older specular workflow.
        place = f"materials[{m}]"
        old = gltf.child(
            gltf.child(entry, "extensions", f"{place}: "),
            "KHR_materials_pbrSpecularGlossiness",
            f"{place}: ",
        )
        new = gltf.child(entry, "pbrMetallicRoughness", f"{place}: ")
        owner, key = (old, "diffuseFactor") if old else (new, "baseColorFactor")
        factor = gltf.numbers(owner, key, place, [1.0, 1.0, 1.0, 1.0]).clip(0.0, 1.0)
        # Read the transparency.
        mode: AlphaMode = "OPAQUE"
        match entry.get("alphaMode", "OPAQUE"):
            case "OPAQUE" | "MASK" | "BLEND" as found:
                mode = found
            case _:
                raise gltf.bad(place, "expected alphaMode OPAQUE, MASK or BLEND")
        cutoff = gltf.numbers({"c": [entry.get("alphaCutoff", 0.5)]}, "c", place, [0.5])[0]
        # Decode the image, once for all materials that share it.
        info = _texture_info(gltf, m)
        image = None
        if "index" in info and m in used:
            texture = gltf.entry("textures", info["index"], place)
            webp = gltf.child(
                gltf.child(texture, "extensions", f"{place}: "), "EXT_texture_webp", f"{place}: "
            )
            source = texture.get("source", webp.get("source"))
            source = gltf.index(source, len(gltf.entries("images")), f"{place}: images")
            if source not in images:
                data, where = gltf.image(source, place)
                images[source] = decode_image(data, where, alpha=True).numpy()
            image = images[source]
        # Name it, for notes and errors.
        name = entry.get("name")
        name = name if isinstance(name, str) and name else f"material {m}"
        materials.append(Material(image, factor, mode, float(cutoff), name))
    return [*materials, Material(None, np.array([0.8, 0.8, 0.8, 1.0]))]
