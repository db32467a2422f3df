"""`ash-studio import`: published files to one avatar file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.terminal import note, say, working
from ash_core.errors import InputError

if TYPE_CHECKING:
    from ash_core.records import AvatarData

"""What `Avatar.from_data` takes for a native avatar without a decoder of its own."""


@dataclass(frozen=True)
class Import:
    """Turn a published configuration and the files it names into one avatar file.

    Missing checkpoints are allowed and said: without the character's the deformation is zero,
    without the Gaussians' the avatar is a native textured one.
    """

    layout: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ash")]
    """Whose layout: 'ash' is that of ASH and DynaCap."""
    conf: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONF")]
    """Configuration (HOCON .conf), a .character file, or the folder that holds one of them."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """Avatar file to write (.safetensors). An existing one is replaced at the end."""

    def run(self) -> int:
        if self.layout != "ash":
            raise InputError(f"import: expected the layout 'ash', got '{self.layout}'")
        check_avatar_name(self.out)
        from ash_core.files.released import import_ash

        with working("reading the files, checking every number"):
            data, notes = import_ash(self.conf)
        write_avatar(self.out, data)
        for text in notes:
            note(text)
        return 0


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
    table = Table(title=data.name, show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def rendered_atlas(data: "AvatarData") -> str:
    """The atlas that `render` uses by default; a native avatar's is its decoder's."""
    from ash_core.networks.decoder import DEFAULT_PRESET, config_of

    native = data.variant == "native"
    side = config_of(data.decoder).atlas if native else data.atlas_resolution
    whose = f" (preset {DEFAULT_PRESET})" if native and not data.decoder else ""
    return f"{side} x {side} texels{whose}"
