"""`ash-studio import`: characters and motions that others made, to our files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.terminal import note, progress_bar, say, working
from ash_core.errors import InputError

if TYPE_CHECKING:
    from ash_core.capture.retarget.quality import Quality
    from ash_core.records import AvatarData

FPS = 25.0
"""Of `conventions`: .motion files do not say theirs."""


@dataclass(frozen=True)
class ImportAsh:
    """Turn a published configuration and the files it names into one avatar file.

    Missing checkpoints are allowed and said: without the character's the deformation is zero,
    without the Gaussians' the avatar is a native textured one.
    """

    conf: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONF")]
    """Configuration (HOCON .conf), a .character file, or the folder that holds one of them."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """Avatar file to write (.safetensors). An existing one is replaced at the end."""

    def run(self) -> int:
        check_avatar_name(self.out)
        from ash_core.files.released import import_ash

        with working("reading the files, checking every number"):
            data, notes = import_ash(self.conf)
        write_avatar(self.out, data)
        for text in notes:
            note(text)
        return 0


@dataclass(frozen=True)
class ImportBvh:
    """Retarget a .bvh motion to an avatar's skeleton.

    Joints are matched by name (Mixamo, CMU, LAFAN, SMPL, Rokoko, Xsens, Biped, Daz, Unreal ...);
    the pairs are written beside the result as a mapping file that can be edited and given back.
    Exit code 0: every bone within 30 degrees of the file's, save where the avatar's joint limits
    forbid it, and no turn from one frame to the next more than 15 degrees beyond the file's.
    Exit code 1: the motion is written, but the notes name bones beyond that.
    """

    motion: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.bvh")]
    """The motion."""
    avatar: Annotated[str, tyro.conf.arg(metavar="AVATAR")]
    """Who shall move: an avatar file, 'bundled', or a bare .skeleton."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.motion")]
    """Motion file to write; the mapping goes to OUT.mapping.json."""
    mapping: Annotated[Path | None, tyro.conf.arg(metavar="MAP.json", help_behavior_hint="")] = None
    """Mapping file to use instead of guessing from the names."""
    fps: float = FPS
    """Frames a second of the result, by slerp; 0 keeps the file's. .motion files do not hold it:
    everything here plays them at 25 unless told otherwise."""

    def run(self) -> int:
        if self.out.suffix != ".motion":
            raise InputError(f"{self.out}: expected a name that ends in .motion")
        if self.fps != 0 and not 1.0 <= self.fps <= 1000.0:
            raise InputError(f"--fps: expected 0 or 1 to 1000 frames a second, got {self.fps:g}")
        from ash_core.capture.retarget.joint_mapping import write_mapping
        from ash_core.capture.retarget.retarget import read_bvh_motion
        from ash_core.commands.scene import load_avatar_data
        from ash_core.files.skeletool import read_skeleton, write_motion

        is_bare = Path(self.avatar).suffix == ".skeleton"
        data = None if is_bare else load_avatar_data(self.avatar)
        skeleton = read_skeleton(self.avatar) if data is None else data.skeleton
        with progress_bar(counts=False) as progress:
            task = progress.add_task("retargeting", total=1.0)
            found = read_bvh_motion(
                self.motion,
                skeleton,
                mapping=self.mapping,
                fps=self.fps or None,
                avatar=data,
                tell=lambda done: progress.update(task, completed=done),
            )
        write_motion(self.out, found.motion.dofs)
        beside = self.out.with_suffix(".mapping.json")
        write_mapping(beside, found.mapping)
        frames, fps = len(found.motion.dofs), found.motion.fps
        say(
            f"{self.out}: {frames} frames at {fps:g} a second, {len(found.mapping.pairs)} joints "
            f"matched; up is {found.mapping.up} ({found.up.reason})"
        )
        say(f"{beside}: which joint drives which bone")
        report_quality(found.quality)
        if found.mapping.unmatched_source:
            note(f"joints without a bone: {', '.join(found.mapping.unmatched_source)}")
        for text in found.notes:
            note(text)
        return 0 if found.quality.is_good else 1


@dataclass(frozen=True)
class ImportGltf:
    """Turn a rigged .glb or .gltf character into template files, a skeleton and motions.

    Meshes become one, materials one atlas, joints three turns each, animations .motion files at
    25 frames a second; the folder is what 'import ash' reads.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.glb")]
    """The character: metres, Y up, as glTF has it."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for the character's files; made when missing."""
    avatar: Annotated[
        Path | None, tyro.conf.arg(metavar="A.safetensors", help_behavior_hint="")
    ] = None
    """Also write the character as this avatar file."""
    scale: float = 1.0
    """Metres per unit of the file, for files that are not in metres."""

    def run(self) -> int:
        if self.avatar is not None:
            check_avatar_name(self.avatar)
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder")
        if not 1e-6 <= self.scale <= 1e6:
            raise InputError(f"--scale: expected 1e-6 to 1e6 m a unit, got {self.scale:g}")
        from ash_core.capture.gltf.gltf_character import import_gltf
        from ash_core.files.released import import_ash

        with working("reading the character, laying out its atlas and graph"):
            found = import_gltf(self.file, self.out, self.scale)
        motions = {name: len(dofs) for name, dofs in found.actor.motions.items()}
        listed = ", ".join(f"{name} ({count} frames)" for name, count in motions.items())
        say(f"{self.out}: character.conf, motions/: {listed}")
        for text in found.notes:
            note(text)
        if self.avatar is not None:
            with working("importing it"):
                data, _ = import_ash(self.out / "character.conf")
            write_avatar(self.avatar, data)
        return 0


@dataclass(frozen=True)
class Import:
    """Bring in what others made: published characters, .bvh motions, rigged glTF characters."""

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
    from ash_core.capture.retarget.quality import ERROR_BOUND_DEGREES, TURN_BOUND_DEGREES

    error, turn = quality.errors[0], quality.turns[0]
    say(
        f"largest error: {error.degrees:.1f} degrees ({error.bone}, frame {error.frame}); largest "
        f"turn from one frame to the next beyond the file's: {turn.degrees:.1f} degrees "
        f"({turn.bone}, frame {turn.frame})"
    )
    for worst in quality.errors:
        if worst.degrees > ERROR_BOUND_DEGREES:
            why = ", kept off by the avatar's joint limits" if worst.at_limit else ""
            note(
                f"{worst.bone} is up to {worst.degrees:.0f} degrees off the file's {worst.source} "
                f"(frame {worst.frame}{why}); up to {ERROR_BOUND_DEGREES:g} are usual"
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
