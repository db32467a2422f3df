"""`ash-studio import`: characters and motions of other programs, converted to our files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.import_capture import ImportCapture
from ash_core.commands.import_motion import ImportBvh, ImportMotion, refuse_fbx
from ash_core.commands.terminal import note, printable, say, working
from ash_core.errors import InputError

if TYPE_CHECKING:
    from ash_core.records import AvatarData


@dataclass(frozen=True)
class ImportAsh:
    """Turn a published configuration and the files it names into one avatar file.

    Missing checkpoints are allowed, with a warning where the configuration names them. Without the
    character's the deformation is zero; without the Gaussians' the avatar is native and textured.
    """

    conf: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONF")]
    """Configuration (HOCON .conf), .character file, or the folder that holds one of them."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """Avatar file to write (.safetensors). An existing one is replaced at the end."""

    def run(self) -> int:
        check_avatar_name(self.out)
        from ash_core.files.released import import_ash, notes_worth_showing

        with working("reading the files, checking every number"):
            data, notes = import_ash(self.conf)
        write_avatar(self.out, data)
        for text in notes_worth_showing(data.variant, notes):
            note(text)
        return 0


@dataclass(frozen=True)
class ImportGltf:
    """Turn a rigged .glb, .gltf or .vrm character into template files, a skeleton and motions.

    Meshes become one mesh, materials one atlas (vertex colours included), joints three turns each,
    animations .motion files at 25 frames a second. 'import ash' reads the folder. Mostly
    transparent triangles are left out; a VRM file's spring bones stay at rest.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.glb")]
    """Character file: metres, Y up, as in glTF."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for the character's files; made when missing."""
    avatar: Annotated[
        Path | None, tyro.conf.arg(metavar="A.safetensors", help_behavior_hint="")
    ] = None
    """Avatar file to write as well."""
    scale: float = 1.0
    """Metres per unit of the file."""

    def run(self) -> int:
        if self.avatar is not None:
            check_avatar_name(self.avatar)
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder")
        if not 1e-6 <= self.scale <= 1e6:
            raise InputError(f"--scale: expected 1e-6 to 1e6 m a unit, got {self.scale:g}")
        refuse_fbx(self.file)
        from ash_core.files.released import import_ash
        from ash_core.importers.gltf.gltf_character import import_gltf

        with working("reading the character, laying out its atlas and graph"):
            character = import_gltf(self.file, self.out, self.scale)
        motions = {name: len(dofs) for name, dofs in character.actor.motions.items()}
        listed = ", ".join(f"{name} ({count} frames)" for name, count in motions.items())
        say(f"{self.out}: character.conf, motions/: {listed}")
        for text in character.facts:
            say(text)
        for text in character.notes:
            note(text)
        if self.avatar is not None:
            with working("importing it"):
                data, _ = import_ash(self.out / "character.conf")
            write_avatar(self.avatar, data)
        return 0


@dataclass(frozen=True)
class Import:
    """Import published characters, captures, motions and rigged glTF characters."""

    what: Annotated[
        Annotated[ImportAsh, tyro.conf.subcommand(name="ash")]
        | Annotated[ImportBvh, tyro.conf.subcommand(name="bvh")]
        | Annotated[ImportMotion, tyro.conf.subcommand(name="motion")]
        | Annotated[ImportGltf, tyro.conf.subcommand(name="gltf")]
        | Annotated[ImportCapture, tyro.conf.subcommand(name="capture")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        return self.what.run()


def check_avatar_name(out: Path) -> None:
    """Raise `InputError` for a name that could not be read again."""
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: expected a name that ends in .safetensors")
    if out.is_dir():
        raise InputError(f"{out}: is a folder, expected the name of a file")


def write_avatar(out: Path, data: "AvatarData") -> None:
    """Save an avatar and print what is in it."""
    from rich.console import Console
    from rich.table import Table

    from ash_core.files.avatar_file import save_avatar

    with working("writing the avatar file"):
        save_avatar(out, data)
    rows = {
        "variant": data.variant,
        "vertices": f"{len(data.template.vertices):,}",
        "triangles": f"{len(data.template.faces):,}",
        "joints": str(len(data.skeleton.joint_names)),
        "dofs": str(len(data.skeleton.dof_names)),
        "graph nodes": f"{len(data.graph.vertices):,}",
        "atlas": rendered_atlas(data),
        "texture": "{1} x {0} pixels".format(*data.template.texture.shape[:2]),
        "networks": ", ".join(data.networks) or "none",
        "cameras": str(len(data.cameras)),
    }
    table = Table(title=printable(data.name), show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def rendered_atlas(data: "AvatarData") -> str:
    """Describe the atlas that `render` uses by default; a native avatar's is its decoder's."""
    from ash_core.networks.decoder import DEFAULT_PRESET, config_of
    from ash_core.variants import VARIANTS

    has_presets = VARIANTS[data.variant].has_presets
    side = config_of(data.decoder).atlas if has_presets else data.atlas_resolution
    preset = f" (preset {DEFAULT_PRESET})" if has_presets and not data.decoder else ""
    return f"{side} x {side} texels{preset}"
