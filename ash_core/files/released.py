"""Import the published ASH

DynaCap layout: a configuration, a `.character` or a folder.

A file's role follows from its ending, its name and its key, since the keys of the published
configurations are not ours to copy.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree
from torch import Tensor

from ash_core.conventions import ATLAS_RESOLUTIONS, MM_PER_M
from ash_core.errors import InputError
from ash_core.files.cameras.published import read_cameras
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.checks import check_avatar, network_shapes
from ash_core.files.conf_entries import Entries, Entry, quoted
from ash_core.files.image import read_image
from ash_core.files.io import bad, is_kind, parse_number, read_lines, show
from ash_core.files.obj import ObjMesh, read_obj
from ash_core.files.release import find_conf, release_of
from ash_core.files.skeletool import read_character, read_motion, read_skeleton, read_skin
from ash_core.records import AvatarData, GraphMesh, Template
from ash_core.variants import RELEASED, VARIANTS, VariantName, variant_of

ATLAS_RESOLUTION = 256
"""Texels of a side, if absent from the configuration. Source: the published atlases."""
GRAPH_REACH_MM = 50.0
"""Largest distance of a graph node from the template's nearest vertex."""
MAX_NAMED_FILES = 512

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
CALIBRATIONS = (".calibration", ".calib")
CHECKPOINTS = (".pth", ".pt", ".tar", ".ckpt")


def notes_worth_showing(variant: VariantName, notes: Sequence[str]) -> list[str]:
    """Leave out the note on missing published networks, if none are named."""
    usual = {ROLES[role].without for role in _MAY_BE_MISSING}
    is_complete_without = not VARIANTS[variant].required_networks
    return [text for text in notes if not (is_complete_without and text in usual)]


def import_ash(path: Path) -> tuple[AvatarData, list[str]]:
    """Read a published character and, if present, its trained networks.

    path: a HOCON `.conf`, a `.character`, a folder that holds exactly one of them, or one of a
    published tree (see `release.find_conf`). Files that a configuration names are used, or refused;
    only a checkpoint may be missing. Returns the avatar and notes on what is missing or was found
    nearby. Raises: InputError for any other fault.
    """
    files = _CharacterFiles(Path(path))
    data = _read_avatar(files)
    parts = {PARTS[role]: file for role, file in files.by_role.items() if role in PARTS}
    check_avatar(data, files.path, parts)
    has_unets = bool(VARIANTS[data.variant].required_networks)
    notes = [
        role.without + _not_there(files.named[name])
        for name, role in ROLES.items()
        # Only the published decoder takes the root translation.
        if role.without and name not in files.by_role and (has_unets or name != "translation")
    ]
    return data, [*files.notes, *notes]


def character_files(path: Path) -> list[Path]:
    """List the configuration (or the `.character`) of a folder and the files that it names.

    Cameras are not among them. Raises: InputError.
    """
    files = _CharacterFiles(Path(path))
    others = {role: file for role, file in files.by_role.items() if role != "cameras"}
    material = Path(f"{others['mesh']}.mtl")
    listed = [files.path.absolute(), *others.values()]
    listed += [material] if is_kind(Path.is_file, material) else []
    return sorted(set(listed))


def named_files(conf: Path) -> list[tuple[str, Path, str]]:
    """List (role, file, entry) of a character; the entry is empty for files found nearby."""
    files = _CharacterFiles(conf)
    return [
        (role.replace("_", " "), file, files.entry_of(role).partition(" = ")[0])
        for role, file in files.by_role.items()
    ]


# ---- roles of files ----


@dataclass(frozen=True)
class _Role:
    """File of the layout, and how to recognise it."""

    what: str
    fits: Callable[[str, str, str], bool]
    """Predicate of (ending, file name, last part of the key), all in lower case."""
    usual: str | None = None
    """Pattern of its usual name beside the character."""
    without: str | None = None
    """Note on its absence; None: it is required; empty: found by other means."""


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
"""Roles in order of priority: the first one that fits takes the file."""

PARTS: Mapping[str, str] = {
    "skeleton": "skeleton",
    "skin": "skinning",
    "mesh": "template",
    "graph": "graph",
    "cameras": "cameras",
}
"""Parts of the avatar by the role of their file."""

_OF_CHARACTER = ("skeleton", "mesh", "skin", "pose")
_MAY_BE_MISSING = ("gaussian_checkpoint", "character_checkpoint")

_ENDS = r"s?(_?(dir|file|path|name))?"
_KEYS: Mapping[str, re.Pattern[str]] = {
    role: re.compile(f"({words}){_ENDS}")
    for role, words in {
        "character": "character(?=_?file)",
        "skeleton": "skeleton",
        "skin": "skin(ning)?",
        "mesh": "(template|ref|rest)?_?(mesh|obj)|template",
        "pose": "(rest_?|base_?)pose|rest_?motion",
        "graph": "(embedded_?)?graph(_?(mesh|obj))?",
        "texture": "texture(_?(map|image))?",
        "hand_mask": "hand(_?(mask|segmentation))",
        "translation": "real_?translation",
        "cameras": "cameras?(_?json)?",
        "gaussian_checkpoint": "gaussian_?(checkpoint|ckpt)",
        "character_checkpoint": "(delta|deform\\w*|ddc|character)_?(checkpoint|ckpt)",
    }.items()
}
"""Keys that request a role, whatever file they name."""


@dataclass(frozen=True)
class _Named:
    """File that a configuration or a `.character` names."""

    entry: str
    """Key and value, as errors show them."""
    value: str
    path: Path | None
    """Path of the file here."""
    key_says: bool = False
    """True if the key requests this role; else the role follows from the file's name."""


class _CharacterFiles:
    """Files of a character: named by its configuration, else found nearby."""

    def __init__(self, path: Path) -> None:
        self.path = _entry_file(path)
        self.notes: list[str] = []
        self.by_role: dict[str, Path] = {}
        """Files by role."""
        self.named: dict[str, list[_Named]] = {role: [] for role in ROLES}
        self.entries: Entries | None = None
        if self.path.suffix.lower() == ".conf":
            self.entries = Entries(self.path)
            release_of(self.entries)  # its other entries must be valid too
            self._add_entries(self.entries)
            self.near = self.entries.near
        else:
            self.near = [self.path.absolute().parent]
            self.named["character"] = [_Named("", self.path.name, self.path.absolute())]
        self._find()
        if self.entries is not None:
            self.notes[:0] = self.entries.notes.values()
        self._say_found(path)

    # ---- named files ----

    def _add_entries(self, entries: Entries) -> None:
        """Sort the entries by role. Raises: InputError for one whose file is missing."""
        count = 0
        for entry in entries.all.values():
            for value in entry.value if isinstance(entry.value, list) else [entry.value]:
                role = self._role_of(entry, value)
                if role is None:
                    continue
                assert isinstance(value, str)
                self.named[role].append(self._look_up(entries, entry, role, value))
                count += 1
                if count > MAX_NAMED_FILES:
                    text = f"expected at most {MAX_NAMED_FILES} names of files"
                    raise bad(self.path, None, text)

    def _role_of(self, entry: Entry, value: object) -> str | None:
        """Return the role of a value: key and file name must not contradict each other."""
        role = next((role for role, key in _KEYS.items() if key.fullmatch(entry.name)), None)
        if not isinstance(value, str):
            if role is not None and not (role == "cameras" and entry.name in ("camera", "cameras")):
                text = f"expected {ROLES[role].what}, the name of a file"
                raise bad(self.path, None, f"{entry.key}: {text}, got {value}")
            return None
        name = value.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
        ending = Path(name).suffix
        implied = next(
            (r for r, role in ROLES.items() if role.fits(ending, name, entry.name)), None
        )
        is_other = role == "cameras" and ending in CALIBRATIONS  # of the videos, not of images
        if role is None or implied == role or is_other:
            return implied
        assert self.entries is not None
        is_folder = self.entries.locate(value, Path.is_dir) is not None
        actual = (
            "a folder" if is_folder else ROLES[implied].what if implied else "another kind of file"
        )
        text = f"expected {ROLES[role].what}, got {actual}: {entry.key} = {quoted(value)}"
        raise bad(self.path, None, text)

    def _look_up(self, entries: Entries, entry: Entry, role: str, value: str) -> _Named:
        shown = f"{entry.key} = {quoted(value)}"
        path = entries.locate(value)
        is_key = _KEYS[role].fullmatch(entry.name) is not None
        if path is None and entries.locate(value, Path.is_dir) is not None:
            text = f"expected {ROLES[role].what}, found a folder: {shown}"
            raise bad(self.path, None, text)
        if path is None and role not in _MAY_BE_MISSING:
            raise bad(self.path, None, f"expected {ROLES[role].what} (not there: {shown})")
        if path is not None:
            entries.named_file(entry, value, ROLES[role].what)
        return _Named(shown, value, path, is_key)

    # ---- files by role ----

    def _find(self) -> None:
        """Choose the file of each role. Raises: InputError if one is missing or ambiguous."""
        character = self._only("character")
        open_roles = [role for role in _OF_CHARACTER if not self.named[role]]
        if character is not None:
            self.by_role["character"] = character
            self._add_character(character, _OF_CHARACTER)
        elif open_roles and (character := self._character_beside()) is not None:
            self._add_character(character, open_roles)
            self.by_role["character"] = character
        for role in ROLES:
            if role == "pose":
                self.named[role] = _rest_poses(self.named[role], self.by_role.get("skeleton"))
            only = self._only(role)
            if only is not None:
                self.by_role[role] = only
        files, path = self.by_role, self.path
        home = files.get("character", files.get("mesh", path.absolute())).parent
        for name, role in ROLES.items():
            if name not in files and role.usual is not None and not self.named[name]:
                beside = _beside(path, role, role.usual, [home, *self.near])
                if beside is not None:
                    files[name] = beside
        lacking = [n for n, role in ROLES.items() if role.without is None and n not in files]
        if lacking:
            missing = "; ".join(ROLES[name].what + _not_there(self.named[name]) for name in lacking)
            keys = [] if self.entries is None else [key for key, _ in self.entries.settings]
            some = ", ".join(key if len(key) < 80 else show(key) for key in keys[:40])
            more = f" and {len(keys) - 40} more" if len(keys) > 40 else ""
            text = f"expected {missing}; looked at the keys {some or '(none)'}{more}"
            raise bad(path, None, text)

    def _only(self, role: str) -> Path | None:
        """Return the only file of a role; two different ones are an error."""
        files: dict[str, _Named] = {}
        for named in self.named[role]:
            if named.path is not None:
                files.setdefault(os.path.realpath(named.path), named)
        if len(files) > 1:
            listed = ", ".join(named.entry for named in files.values())
            what = f"expected one {ROLES[role].what}, got {len(files)}: {listed}"
            raise bad(self.path, None, what)
        return next((named.path for named in files.values()), None)

    def _character_beside(self) -> Path | None:
        """Find the only `.character` near a configuration that leaves a role open."""
        characters = {
            os.path.realpath(file): file for near in self.near for file in near.glob("*.character")
        }
        return next(iter(characters.values())) if len(characters) == 1 else None

    def _add_character(self, character: Path, roles: Sequence[str]) -> None:
        """Add the files that a `.character` names for some roles.

        Its rest pose wins unless a key names a rest pose: there may be many motions.
        """
        content = read_character(character)
        for role in roles:
            file: Path = getattr(content, role)
            existing = file if is_kind(Path.is_file, file) else None
            entry = f"{character.name}: {role} = {show(file.name)}"
            named = _Named(entry, file.name, existing, key_says=True)
            before = [one for one in self.named[role] if role != "pose" or one.key_says]
            self.named[role] = [*before, named]

    def _say_found(self, path: Path) -> None:
        """Note files that no entry names: they were found nearby."""
        if path != self.path and self.path.parent.absolute() != path.absolute():
            self.notes.append(f"{path}: its configuration is {self.path}")
        if path == self.path and self.entries is None:
            return  # a .character, whose format lacks the others' names
        # Our data sets have their cameras beside the configuration, which never names them.
        own = self.path.parent / str(ROLES["cameras"].usual)
        usual = () if self.entries is None else (os.path.realpath(own),)
        names = [
            file.name
            for role, file in self.by_role.items()
            if not any(named.entry for named in self.named[role])
            and os.path.realpath(file) not in usual
        ]
        if names:
            reason = "without a configuration" if self.entries is None else "not named in it"
            self.notes.append(f"{path}: found by looking, {reason}: {', '.join(names)}")

    def entry_of(self, role: str) -> str:
        """Return the entry that names a role's file; empty without one."""
        file = self.by_role[role]
        return next((one.entry for one in self.named[role] if one.path == file), "")

    @contextmanager
    def reading(self, role: str) -> Iterator[Path]:
        """Name the configuration's entry in errors on a role's file."""
        file = self.by_role[role]
        try:
            yield file
        except InputError as error:
            entry = self.entry_of(role)
            if self.entries is None or not entry:
                raise
            raise bad(self.path, None, f"{entry}: {error}") from None


def _entry_file(path: Path) -> Path:
    if is_kind(Path.is_dir, path):
        confs = list(path.glob("*.conf"))
        if len(confs) == 1:  # it has more than the .character: cameras, checkpoints, the atlas
            return confs[0]
        matches = sorted(path.glob("*.character"))
        if len(matches) > 1:
            names = ", ".join(show(file.name) for file in matches[:4])
            raise bad(path, None, f"expected one *.character, got {len(matches)}: {names}")
        conf = None if matches else find_conf(path, "val")
        if matches or conf is not None:
            return matches[0] if conf is None else conf
        raise bad(path, None, "expected a folder with one .character or one .conf, found none")
    if path.suffix.lower() not in (".conf", ".character"):
        raise bad(path, None, "expected a .conf, a .character or a folder with one of them")
    return path


def _not_there(named: Sequence[_Named]) -> str:
    tried = ", ".join(one.entry for one in named[:3])
    return f" (not there: {tried})" if tried else ""


def _rest_poses(motions: list[_Named], skeleton: Path | None) -> list[_Named]:
    """Select rest poses: motions named so, else named like the skeleton, else all."""
    says = [one for one in motions if one.key_says or _rest(one.value.lower(), one.entry.lower())]
    like = [entry for entry in motions if skeleton and Path(entry.value).stem == skeleton.stem]
    return says or like or motions


def _beside(path: Path, role: _Role, pattern: str, folders: Sequence[Path]) -> Path | None:
    """Find a file by its usual name in the folders, or in the first one's subfolders."""
    for tries in [[folder.glob(pattern)] for folder in folders] + [
        [folders[0].glob(f"*/{pattern}")]
    ]:
        matches = sorted(file for files in tries for file in files if is_kind(Path.is_file, file))
        if len(matches) > 1:
            names = ", ".join(show(file.name) for file in matches[:4])
            raise bad(
                path, None, f"expected one {role.what} beside it, got {len(matches)}: {names}"
            )
        if matches:
            return matches[0]
    return None


_RESOLUTION_KEYS = (
    re.compile(r"bary"),
    re.compile(r"atlas|(uv|tex).*res|res.*(uv|tex)"),
    re.compile(r"uv.*size|size.*uv"),
    re.compile(r"tex.*size|size.*tex"),
)


_IS_SIDE = re.compile(r"(bary|atlas|uv|tex)\w*(res|size)|(res|size)\w*(atlas|uv|tex)")


def _atlas_resolution(files: _CharacterFiles) -> int:
    """Read the texels of a side, which U-Nets can halve, from the clearest key."""
    if files.entries is None:
        return ATLAS_RESOLUTION
    path = files.path
    step = RELEASED.atlas_step if "gaussian_checkpoint" in files.by_role else 1
    entries = files.entries.all.values()
    for pattern in _RESOLUTION_KEYS:
        sides: dict[int, str] = {}
        for entry in entries:
            if not pattern.search(entry.key.lower()):
                continue
            if type(entry.value) is int:
                sides[entry.value] = entry.key
            elif _IS_SIDE.search(entry.name):
                raise files.entries.wrong(entry, "a whole number of texels a side")
        if len(sides) > 1:
            listed = ", ".join(f"{key} = {value}" for value, key in sides.items())
            raise bad(path, None, f"expected one atlas resolution, got {listed}")
        for value, key in sides.items():
            least, most = ATLAS_RESOLUTIONS
            if not least <= value <= most:
                raise bad(path, None, f"{key}: expected {least} to {most} texels, got {value}")
            if value % step:
                text = f"expected a multiple of {step}, which the U-Nets need, got {value}"
                raise bad(path, None, f"{key}: {text}")
            return value
    return ATLAS_RESOLUTION


# ---- reading the files ----


def _read_avatar(files: _CharacterFiles) -> AvatarData:
    # Read the parts that every character has.
    path = files.path
    resolution = _atlas_resolution(files)
    with files.reading("skeleton") as file:
        skeleton = read_skeleton(file)
    with files.reading("mesh") as file:
        mesh = read_obj(file)
        texture = files.by_role.get("texture") or _texture_of(file, mesh)
    with files.reading("graph") as file:
        graph = read_obj(file, need_uvs=False)
        _check_graph(file, graph, mesh)
    n_vertices = len(mesh.vertices)
    with files.reading("skin") as file:
        skinning = read_skin(file, skeleton, n_vertices)
    with files.reading("pose") as file:
        rest_dofs = read_motion(file, skeleton).dofs[0].clone()
    with files.reading("texture") if "texture" in files.by_role else nullcontext():
        image = read_image(texture)

    # Read the optional parts.
    hands, shift, cameras = None, torch.zeros(3), ()
    if "hand_mask" in files.by_role:
        with files.reading("hand_mask") as file:
            hands = _hand_mask(file, n_vertices)
    if "translation" in files.by_role:
        with files.reading("translation") as file:
            shift = _translation(file)
    if "cameras" in files.by_role:
        with files.reading("cameras") as file:
            cameras = read_cameras(file)
    # Read the networks whose checkpoints exist.
    shapes = network_shapes(n_vertices, len(graph.vertices))
    networks: dict[str, dict[str, Tensor]] = {}
    for role, names in (
        ("character_checkpoint", ("spatial_gcn", "delta_gcn")),
        ("gaussian_checkpoint", ("unet_geometry", "unet_appearance")),
    ):
        if role in files.by_role:
            with files.reading(role) as file:
                networks |= read_checkpoint(file, {name: shapes[name] for name in names})
    # Build and check the avatar.
    assert mesh.corner_uvs is not None
    variant = variant_of(networks)
    return AvatarData(
        name=path.absolute().parent.name if path.suffix == ".character" else path.stem,
        variant=variant.name,
        history_offsets=variant.history_offsets,
        skeleton=skeleton,
        skinning=skinning,
        template=Template(
            vertices=_metres(mesh.vertices),
            faces=mesh.faces,
            corner_uvs=mesh.corner_uvs,
            texture=image,
        ),
        graph=GraphMesh(_metres(graph.vertices), graph.faces),
        rest_dofs=rest_dofs,
        root_translation=shift,
        atlas_resolution=resolution,
        hand_mask=hands,
        networks=networks,
        cameras=cameras,
    )


def _metres(vertices_mm: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
    return (vertices_mm.double() / MM_PER_M).float()


def _texture_of(path: Path, mesh: ObjMesh) -> Path:
    """Find the image of the mesh's material, else one beside the mesh, of its name."""
    tries = [mesh.texture] if mesh.texture is not None else []
    tries += [path.with_suffix(ending) for ending in IMAGES]
    texture = next((file for file in tries if is_kind(Path.is_file, file)), None)
    if texture is None:
        named = f"{show(mesh.texture.name)}, named by its material" if mesh.texture else "none"
        text = f"expected a texture: a key, a material or {path.stem}.png; got {named}"
        raise bad(path, None, text)
    return texture


def _check_graph(path: Path, graph: ObjMesh, mesh: ObjMesh) -> None:
    """Check that every node lies on the template."""
    distances, _ = KDTree(mesh.vertices.numpy()).query(graph.vertices.numpy())
    worst = int(distances.argmax())
    if not distances[worst] <= GRAPH_REACH_MM:
        text = f"expected every graph vertex within {GRAPH_REACH_MM:g} mm of the template"
        raise bad(path, None, f"{text}, got vertex {worst + 1} at {distances[worst]:.4g} mm")


def _hand_mask(path: Path, n_vertices: int) -> Bool[Tensor, "V"]:
    """Read a mask with one label a vertex; 0 is not hand."""
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
