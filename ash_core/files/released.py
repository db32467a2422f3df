"""Import the published ASH / DynaCap layout: a configuration, a `.character` or a folder.

Which file is which is told by its ending, its name and the key that names it, since the keys of the
published configurations are not ours to copy.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree
from torch import Tensor

from ash_core.conventions import ATLAS_RESOLUTIONS, MM_PER_M
from ash_core.files.capture import read_cameras, read_image
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.checks import ATLAS_STEP, check_avatar, network_shapes
from ash_core.files.conf import Value, read_conf
from ash_core.files.obj import ObjMesh, read_obj
from ash_core.files.skeletool import read_character, read_motion, read_skeleton, read_skin
from ash_core.files.text import bad, is_kind, parse_number, read_lines, show
from ash_core.records import AvatarData, GraphMesh, Template

ATLAS_RESOLUTION = 256
"""Texels a side where the configuration does not say. Source: the published atlases."""
GRAPH_REACH_MM = 50.0
"""Farthest that a graph node may lie from the template's nearest vertex."""
PARENTS = 3
"""Folders above the configuration in which its relative names are looked up."""
MAX_FOLDERS = 16
MAX_NAMED_FILES = 512

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
CHECKPOINTS = (".pth", ".pt", ".tar", ".ckpt")

Settings = list[tuple[str, Value]]


def import_ash(path: Path) -> tuple[AvatarData, list[str]]:
    """Read a published character and, where there are any, its trained networks.

    path: a HOCON `.conf`, a `.character`, or a folder that holds exactly one of them.
    Returns the avatar and notes on what is missing. Anything else that is wrong: InputError.
    """
    path = _entry_file(Path(path))
    settings, folders = _settings(path)
    named = _named_files(path, settings, folders)
    files = _find_files(path, settings, folders, named)
    step = ATLAS_STEP if "gaussian_checkpoint" in files else 1
    data = _read_avatar(files, path, _atlas_resolution(path, settings, step))
    check_avatar(data, path, {PARTS[role]: file for role, file in files.items() if role in PARTS})
    is_released = data.variant == "released"
    notes = [
        role.without + _not_there(named[name])
        for name, role in ROLES.items()
        # The root translation is an input of the published decoder alone.
        if role.without and name not in files and (is_released or name != "translation")
    ]
    return data, notes


def character_files(path: Path) -> list[Path]:
    """The configuration (or the `.character`) of a folder and the files that it names, in order.

    Cameras are not among them. Raises: InputError.
    """
    path = _entry_file(Path(path))
    settings, folders = _settings(path)
    files = _find_files(path, settings, folders, _named_files(path, settings, folders))
    files.pop("cameras", None)
    material = Path(f"{files['mesh']}.mtl")
    found = [path.absolute(), *files.values()]
    found += [material] if is_kind(Path.is_file, material) else []
    return sorted(set(found))


# ---- which file is which ----


@dataclass(frozen=True)
class _Role:
    """One file of the layout, and how to know it."""

    what: str
    fits: Callable[[str, str, str], bool]
    """(ending, file name, last part of the key), all in lower case."""
    usual: str | None = None
    """Pattern of its name beside the character."""
    without: str | None = None
    """What is said when it is missing; None: it must be there; empty: found by other means."""


def _says(*words: str) -> Callable[[str, str], bool]:
    return lambda name, key: any(word in name or word in key for word in words)


_gaussian, _graph, _texture = _says("gauss"), _says("graph"), _says("tex", "albedo")
_hand, _camera, _shift = _says("hand"), _says("cam"), _says("translation")
_deform, _rest = _says("deform", "ddc", "character"), _says("rest", "templ", "tpose", "canon")

ROLES: Mapping[str, _Role] = {
    "character": _Role(".character", lambda e, n, k: e == ".character", without=""),
    "skeleton": _Role("skeleton (.skeleton)", lambda e, n, k: e == ".skeleton"),
    "skin": _Role("skinning (.skin)", lambda e, n, k: e == ".skin"),
    "mesh": _Role("template mesh (.obj)", lambda e, n, k: e == ".obj" and not _graph(n, k)),
    "pose": _Role(
        "rest pose (.motion)",
        lambda e, n, k: e == ".motion" and not n.startswith("poseangles"),
    ),
    "graph": _Role(
        "embedded graph (*graph*.obj)",
        lambda e, n, k: e == ".obj" and _graph(n, k),
        usual="*graph*.obj",
    ),
    "texture": _Role("texture image", lambda e, n, k: e in IMAGES and _texture(n, k), without=""),
    "hand_mask": _Role(
        "hand mask",
        lambda e, n, k: e == ".txt" and _hand(n, k),
        usual="*hand*.txt",
        without="no hand mask (hand_segmentation.txt)",
    ),
    "translation": _Role(
        "root translation",
        lambda e, n, k: e == ".txt" and _shift(n, k),
        usual="real_translation.txt",
        without="no real_translation.txt: the root translation is zero",
    ),
    "cameras": _Role(
        "cameras",
        lambda e, n, k: e == ".json" and _camera(n, k),
        usual="cameras.json",
        without="no cameras.json: the avatar brings no cameras",
    ),
    "gaussian_checkpoint": _Role(
        "Gaussian checkpoint",
        lambda e, n, k: (
            e in CHECKPOINTS and (_gaussian(n, k) or (e == ".tar" and not _deform(n, k)))
        ),
        usual="gaussian_checkpoints.tar",
        without="no Gaussian checkpoint (gaussian_checkpoints.tar): "
        "untrained, it shows its texture",
    ),
    "character_checkpoint": _Role(
        "character checkpoint",
        lambda e, n, k: e in CHECKPOINTS and (_deform(n, k) or e != ".ckpt"),
        usual="deformable_character_checkpoint.pth",
        without="no character checkpoint (deformable_character_checkpoint.pth): "
        "the deformation is zero",
    ),
}
"""The first role that fits has the file."""

PARTS: Mapping[str, str] = {
    "skeleton": "skeleton",
    "skin": "skinning",
    "mesh": "template",
    "graph": "graph",
    "cameras": "cameras",
}
"""Role of a file -> the part of the avatar that it holds."""

_OF_CHARACTER = ("skeleton", "mesh", "skin", "pose")


@dataclass(frozen=True)
class _Named:
    """A file that a configuration names."""

    key: str
    value: str
    path: Path | None
    """Where it was found."""


@dataclass(frozen=True)
class _Folders:
    """Where names are looked up."""

    near: list[Path]
    """The configuration's own folder and those that it names."""
    parents: list[Path]
    """Above it: only names with their whole path are looked up here."""


def _entry_file(path: Path) -> Path:
    if is_kind(Path.is_dir, path):
        confs = list(path.glob("*.conf"))
        if len(confs) == 1:  # it says more than the .character: cameras, checkpoints, the atlas
            return confs[0]
        for pattern in ("*.character", "*.conf"):
            found = sorted(path.glob(pattern))
            if len(found) > 1:
                names = ", ".join(show(file.name) for file in found[:4])
                raise bad(path, None, f"expected one {pattern}, got {len(found)}: {names}")
            if found:
                return found[0]
        raise bad(path, None, "expected a folder with one .character or one .conf, found none")
    if path.suffix.lower() not in (".conf", ".character"):
        raise bad(path, None, "expected a .conf, a .character or a folder with one of them")
    return path


def _settings(path: Path) -> tuple[Settings, _Folders]:
    """The configuration's keys and values, and the folders that its names may lie in."""
    own = path.absolute().parent
    if path.suffix.lower() == ".character":
        return [("character", str(path.absolute()))], _Folders([own], [])
    settings = read_conf(path)
    parents = list(own.parents)[:PARENTS]
    near = [own]
    for _, value in settings:
        if isinstance(value, str) and value and len(near) < MAX_FOLDERS:
            tries = (root / value for root in [*near, *parents])
            folder = next((folder for folder in tries if is_kind(Path.is_dir, folder)), None)
            if folder is not None and folder not in near:
                near.append(folder)
    return settings, _Folders(near, parents)


def _named_files(path: Path, settings: Settings, folders: _Folders) -> dict[str, list[_Named]]:
    """What the configuration names, by role."""
    named: dict[str, list[_Named]] = {role: [] for role in ROLES}
    for key, value in settings:
        if not isinstance(value, str):
            continue
        name = value.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
        last = re.sub(r"\.\d+$", "", key).rsplit(".", 1)[-1].lower()
        ending = Path(name).suffix
        role = next((r for r, role in ROLES.items() if role.fits(ending, name, last)), None)
        if role is not None:
            named[role].append(_Named(key, value, _locate(value, folders)))
        if sum(map(len, named.values())) > MAX_NAMED_FILES:
            raise bad(path, None, f"expected at most {MAX_NAMED_FILES} names of files")
    return named


def _locate(value: str, folders: _Folders) -> Path | None:
    """The file that a name means: as it stands, else its last parts in one of the near folders.

    Names in configurations often begin with folders of the machine they were written on.
    """
    name = value.replace("\\", "/")
    parts = Path(name).parts
    tries = [folder / name for folder in (*folders.near, *folders.parents)]
    starts = range(1, min(len(parts), 12))
    tries += [folder.joinpath(*parts[n:]) for n in starts for folder in folders.near]
    return next((file for file in tries if is_kind(Path.is_file, file)), None)


def _find_files(
    path: Path, settings: Settings, folders: _Folders, named: dict[str, list[_Named]]
) -> dict[str, Path]:
    """The file of each role."""
    files: dict[str, Path] = {}
    character = _only(path, "character", named) or _character_beside(folders, named)
    if character is not None:
        files["character"] = character
        _add_character(character, named)
    for role in ROLES:
        if role == "pose":
            named[role] = _rest_poses(named[role], files.get("skeleton"))
        found = _only(path, role, named)
        if found is not None:
            files[role] = found
    home = files.get("character", files.get("mesh", path.absolute())).parent
    for name, role in ROLES.items():
        if name not in files and role.usual is not None:
            beside = _beside(path, role, role.usual, [home, *folders.near])
            if beside is not None:
                files[name] = beside
    lacking = [name for name, role in ROLES.items() if role.without is None and name not in files]
    if lacking:
        wanted = "; ".join(ROLES[name].what + _not_there(named[name]) for name in lacking)
        keys = ", ".join(key if len(key) < 80 else show(key) for key, _ in settings[:40])
        more = f" and {len(settings) - 40} more" if len(settings) > 40 else ""
        raise bad(path, None, f"expected {wanted}; looked at the keys {keys or '(none)'}{more}")
    return files


def _not_there(named: Sequence[_Named]) -> str:
    tried = ", ".join(f"{entry.key} = {show(entry.value)}" for entry in named[:3])
    return f" (not there: {tried})" if tried else ""


def _only(path: Path, role: str, named: Mapping[str, Sequence[_Named]]) -> Path | None:
    """The one file of a role that is there; two different ones are an error."""
    there: dict[str, _Named] = {}
    for entry in named[role]:
        if entry.path is not None:
            there.setdefault(os.path.realpath(entry.path), entry)
    if len(there) > 1:
        listed = ", ".join(f"{entry.key} = {show(entry.value)}" for entry in there.values())
        raise bad(path, None, f"expected one {ROLES[role].what}, got {len(there)}: {listed}")
    return next((entry.path for entry in there.values()), None)


def _character_beside(folders: _Folders, named: Mapping[str, Sequence[_Named]]) -> Path | None:
    """The one `.character` near a configuration that names none, if it leaves a role open."""
    if all(any(entry.path for entry in named[role]) for role in _OF_CHARACTER):
        return None
    found = {
        os.path.realpath(file): file for near in folders.near for file in near.glob("*.character")
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _add_character(character: Path, named: dict[str, list[_Named]]) -> None:
    """Add the files that a `.character` names. Its rest pose stands: motions may be many."""
    content = read_character(character)
    for role in _OF_CHARACTER:
        file: Path = getattr(content, role)
        there = file if is_kind(Path.is_file, file) else None
        entry = _Named(f"{character.name}: {role}", file.name, there)
        named[role] = [entry] if role == "pose" else [*named[role], entry]


def _rest_poses(motions: list[_Named], skeleton: Path | None) -> list[_Named]:
    """Of several motions those that say so, else those with the skeleton's name, else all."""
    says = [entry for entry in motions if _rest(entry.value.lower(), entry.key.lower())]
    like = [entry for entry in motions if skeleton and Path(entry.value).stem == skeleton.stem]
    return says or like or motions


def _beside(path: Path, role: _Role, pattern: str, folders: Sequence[Path]) -> Path | None:
    """A file by its usual name in the folders, or in those right under the first one."""
    for tries in [[folder.glob(pattern)] for folder in folders] + [
        [folders[0].glob(f"*/{pattern}")]
    ]:
        found = sorted(file for files in tries for file in files if is_kind(Path.is_file, file))
        if len(found) > 1:
            names = ", ".join(show(file.name) for file in found[:4])
            raise bad(path, None, f"expected one {role.what} beside it, got {len(found)}: {names}")
        if found:
            return found[0]
    return None


_RESOLUTION_KEYS = (
    re.compile(r"bary"),
    re.compile(r"atlas|(uv|tex).*res|res.*(uv|tex)"),
    re.compile(r"uv.*size|size.*uv"),
    re.compile(r"tex.*size|size.*tex"),
)


def _atlas_resolution(path: Path, settings: Settings, step: int) -> int:
    """Texels a side, a multiple of `step`, from the key that most clearly says so."""
    for pattern in _RESOLUTION_KEYS:
        found = {v: k for k, v in settings if isinstance(v, int) and pattern.search(k.lower())}
        if len(found) > 1:
            listed = ", ".join(f"{key} = {value}" for value, key in found.items())
            raise bad(path, None, f"expected one atlas resolution, got {listed}")
        for value, key in found.items():
            least, most = ATLAS_RESOLUTIONS
            if not least <= value <= most:
                raise bad(path, None, f"{key}: expected {least} to {most} texels, got {value}")
            if value % step:
                text = f"expected a multiple of {step}, which the U-Nets need, got {value}"
                raise bad(path, None, f"{key}: {text}")
            return value
    return ATLAS_RESOLUTION


# ---- reading them ----


def _read_avatar(files: Mapping[str, Path], path: Path, resolution: int) -> AvatarData:
    skeleton = read_skeleton(files["skeleton"])
    mesh = read_obj(files["mesh"])
    graph = read_obj(files["graph"], need_uvs=False)
    _check_graph(files["graph"], graph, mesh)
    n_vertices = len(mesh.vertices)
    shapes = network_shapes(n_vertices, len(graph.vertices))
    networks: dict[str, dict[str, Tensor]] = {}
    for role, names in (
        ("character_checkpoint", ("spatial_gcn", "delta_gcn")),
        ("gaussian_checkpoint", ("unet_geometry", "unet_appearance")),
    ):
        if role in files:
            networks |= read_checkpoint(files[role], {name: shapes[name] for name in names})
    assert mesh.corner_uvs is not None
    hands, shift = files.get("hand_mask"), files.get("translation")
    return AvatarData(
        name=path.absolute().parent.name if path.suffix == ".character" else path.stem,
        variant="released" if "unet_geometry" in networks else "native",
        skeleton=skeleton,
        skinning=read_skin(files["skin"], skeleton, n_vertices),
        template=Template(
            vertices=_metres(mesh.vertices),
            faces=mesh.faces,
            corner_uvs=mesh.corner_uvs,
            texture=read_image(files.get("texture") or _texture_of(files["mesh"], mesh)),
        ),
        graph=GraphMesh(_metres(graph.vertices), graph.faces),
        rest_dofs=read_motion(files["pose"], skeleton).dofs[0].clone(),
        root_translation=_translation(shift) if shift else torch.zeros(3),
        atlas_resolution=resolution,
        hand_mask=_hand_mask(hands, n_vertices) if hands else None,
        networks=networks,
        cameras=read_cameras(files["cameras"]) if "cameras" in files else (),
    )


def _metres(vertices_mm: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
    return (vertices_mm.double() / MM_PER_M).float()


def _texture_of(path: Path, mesh: ObjMesh) -> Path:
    """The image of the mesh's material, else one with the mesh's name beside it."""
    tries = [mesh.texture] if mesh.texture is not None else []
    tries += [path.with_suffix(ending) for ending in IMAGES]
    found = next((file for file in tries if is_kind(Path.is_file, file)), None)
    if found is None:
        named = f"{show(mesh.texture.name)}, named by its material" if mesh.texture else "none"
        text = f"expected a texture: a key, a material or {path.stem}.png; got {named}"
        raise bad(path, None, text)
    return found


def _check_graph(path: Path, graph: ObjMesh, mesh: ObjMesh) -> None:
    """Every node lies on the template."""
    distances, _ = KDTree(mesh.vertices.numpy()).query(graph.vertices.numpy())
    worst = int(distances.argmax())
    if not distances[worst] <= GRAPH_REACH_MM:
        text = f"expected every graph vertex within {GRAPH_REACH_MM:g} mm of the template"
        raise bad(path, None, f"{text}, got vertex {worst + 1} at {distances[worst]:.4g} mm")


def _hand_mask(path: Path, n_vertices: int) -> Bool[Tensor, "V"]:
    """One label a vertex; 0 is not hand."""
    labels: list[bool] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not (word := line.strip()):
            continue
        if not (word.isascii() and word.isdigit()):
            raise bad(path, number, f"expected a label, an integer, got {show(word)}")
        labels.append(word.strip("0") != "")
    if len(labels) != n_vertices:
        raise bad(path, None, f"expected {n_vertices} labels, one a vertex, got {len(labels)}")
    return torch.tensor(labels)


def _translation(path: Path) -> Float[Tensor, "3"]:
    words = " ".join(read_lines(path)).replace(",", " ").split()
    try:
        numbers = [parse_number(word) for word in words[:4]]
    except ValueError as error:
        raise bad(path, 1, f"expected three numbers in metres: {show(str(error))}") from None
    if len(numbers) != 3 or not all(abs(number) < 1e6 for number in numbers):
        raise bad(path, 1, f"expected three finite numbers in metres, got {len(words)}")
    return torch.tensor(numbers)
