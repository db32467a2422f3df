"""`ash-studio import`: characters and motions of other programs, converted to our files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.terminal import note, printable, progress_bar, say, working
from ash_core.errors import InputError

if TYPE_CHECKING:
    from ash_core.importers.retarget.joint_mapping import UnknownNamesError
    from ash_core.importers.retarget.quality import Quality
    from ash_core.records import AvatarData, Skeleton

FPS = 25.0
"""Rate of `conventions`, 1/s: .motion files hold none."""


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
class ImportBvh:
    """Retarget a .bvh motion to an avatar's skeleton.

    Joints are matched by name (Mixamo, CMU, LAFAN, SMPL, Rokoko, Xsens, Biped, Daz, Unreal ...).
    The pairs are written beside the result as a mapping file, to be edited and given back:
    {"up": "y", "joints": {"JOINT_IN_THE_FILE": "BONE", ...}}, see docs/retargeting.md.
    Where names are unknown, a mapping file to complete is written instead.
    Exit code 0: every bone is within 30 degrees of the file's, or at a joint limit, and no turn
    from one frame to the next is more than 15 degrees beyond the file's.
    Exit code 1: the motion is written, and warnings name the bones beyond that.
    """

    motion: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.bvh")]
    """Motion file (.bvh)."""
    avatar: Annotated[str, tyro.conf.arg(metavar="AVATAR")]
    """Target of the motion: an avatar file, 'bundled', or a bare .skeleton."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.motion")]
    """Motion file to write; the mapping goes to OUT.mapping.json."""
    mapping: Annotated[Path | None, tyro.conf.arg(metavar="MAP.json", help_behavior_hint="")] = None
    """Mapping file, such as an edited OUT.mapping.json. Default: guessed from the names."""
    fps: float = FPS
    """Frame rate of the result, 1/s, by slerp; 0 keeps the file's. .motion files hold none: they
    play at 25 by default."""

    def run(self) -> int:
        # Check the flags.
        if self.out.suffix != ".motion":
            raise InputError(f"{self.out}: expected a name that ends in .motion")
        if self.fps != 0 and not 1.0 <= self.fps <= 1000.0:
            raise InputError(f"--fps: expected 0 or 1 to 1000 frames a second, got {self.fps:g}")
        refuse_fbx(self.motion)
        from ash_core.files.skeletool import read_skeleton, write_motion
        from ash_core.importers.retarget.joint_mapping import UnknownNamesError, write_mapping
        from ash_core.importers.retarget.retarget import read_bvh_motion
        from ash_core.scene.open import load_avatar_data

        # Skeleton to retarget to; an avatar also has a mesh.
        is_bare = Path(self.avatar).suffix == ".skeleton"
        data = None if is_bare else load_avatar_data(self.avatar, report=note)
        skeleton = read_skeleton(self.avatar) if data is None else data.skeleton
        # Retarget; where names are unknown, write a draft of the mapping.
        beside = self.out.with_suffix(".mapping.json")
        with progress_bar(counts=False) as progress:
            task = progress.add_task("retargeting", total=1.0)
            try:
                result = read_bvh_motion(
                    self.motion,
                    skeleton,
                    mapping=self.mapping,
                    fps=self.fps or None,
                    avatar=data,
                    progress=lambda done: progress.update(task, completed=done),
                )
            except UnknownNamesError as error:
                raise InputError(f"{error}; {_offer_draft(beside, error, skeleton)}") from None
        # Write the motion and its mapping, then report their quality.
        write_motion(self.out, result.motion.dofs)
        write_mapping(beside, result.mapping)
        frames, fps = len(result.motion.dofs), result.motion.fps
        say(
            f"{self.out}: {frames} frames at {fps:g} a second, {len(result.mapping.pairs)} joints "
            f"matched; up is {result.mapping.up} ({result.up.reason})"
        )
        say(f"{beside}: which joint drives which bone")
        report_quality(result.quality)
        if result.mapping.unmatched_source:
            note(f"joints without a bone: {', '.join(result.mapping.unmatched_source)}")
        for text in result.notes:
            note(text)
        return 0 if result.quality.is_good else 1


def _offer_draft(path: Path, error: "UnknownNamesError", skeleton: "Skeleton") -> str:
    """Write a mapping to be completed, unless one exists; returns the advice to print."""
    from ash_core.importers.retarget.joint_mapping import write_draft

    if path.exists():
        return f"{path} is there already and was left as it is"
    write_draft(path, error.draft, skeleton)
    return f"{path} was written to begin with"


def refuse_fbx(path: Path) -> None:
    """Raise `InputError` for an FBX file, which needs Autodesk's library."""
    is_fbx = path.suffix.lower() == ".fbx"
    if not is_fbx and path.is_file():
        with path.open("rb") as file:
            is_fbx = file.read(18).startswith((b"Kaydara FBX Binary", b"; FBX"))
    if is_fbx:
        raise InputError(
            f"{path}: FBX is not read: Blender turns it into .bvh or .glb (File > Import > FBX, "
            "then File > Export), and FBX2glTF into .glb (FBX2glTF -b -i FILE.fbx)"
        )


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
    """Import published characters, .bvh motions and rigged glTF characters."""

    what: Annotated[
        Annotated[ImportAsh, tyro.conf.subcommand(name="ash")]
        | Annotated[ImportBvh, tyro.conf.subcommand(name="bvh")]
        | Annotated[ImportGltf, tyro.conf.subcommand(name="gltf")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        return self.what.run()


def report_quality(quality: "Quality") -> None:
    """Print where a motion is farthest from its file, and warn of what is beyond bounds."""
    from ash_core.importers.retarget.quality import ERROR_BOUND_DEGREES, TURN_BOUND_DEGREES

    error, turn = quality.errors[0], quality.turns[0]
    say(
        f"largest error: {error.degrees:.1f} degrees ({error.bone}, frame {error.frame}); largest "
        f"turn from one frame to the next beyond the file's: {turn.degrees:.1f} degrees "
        f"({turn.bone}, frame {turn.frame})"
    )
    for worst in quality.errors:
        if worst.degrees > ERROR_BOUND_DEGREES:
            reason = ", as far as the avatar's joints go" if worst.at_limit else ""
            note(
                f"{worst.bone} is up to {worst.degrees:.0f} degrees off the file's {worst.source} "
                f"(frame {worst.frame}{reason}); up to {ERROR_BOUND_DEGREES:g} are usual"
            )
    for worst in quality.turns:
        if worst.degrees > TURN_BOUND_DEGREES:
            note(
                f"{worst.bone} turns {worst.degrees:.0f} degrees farther than the file's "
                f"{worst.source} from frame {worst.frame - 1} to {worst.frame}; up to "
                f"{TURN_BOUND_DEGREES:g} are usual"
            )


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
