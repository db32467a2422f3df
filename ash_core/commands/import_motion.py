"""`ash-studio import bvh` and `import motion`: motions of other programs, on any avatar."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ash_core.commands.terminal import note, progress_bar, say
from ash_core.errors import InputError

if TYPE_CHECKING:
    from ash_core.importers.motion_file import ForeignMotion
    from ash_core.importers.retarget.joint_mapping import UnknownNamesError
    from ash_core.importers.retarget.quality import Quality
    from ash_core.records import AvatarData, Skeleton

UpChoice = Literal["y", "z", "x", "y-down", "z-down", "x-down"]


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
    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS", help_behavior_hint="")] = None
    """Frame rate of the result, 1/s, by slerp; 0: the file's. Default: the file's, but 25 for an
    avatar of published networks, which count frames."""

    def run(self) -> int:
        motion, avatar, out = self.motion, self.avatar, self.out
        return ImportMotion(motion, avatar, out, mapping=self.mapping, fps=self.fps).run()


@dataclass(frozen=True)
class ImportMotion:
    """Turn a motion of another program into a .motion for an avatar's skeleton.

    Read are .bvh files and poses of SMPL, SMPL-H and SMPL-X bodies: AMASS, AvatarReX and THuman4
    (.npz), AIST++ (.pkl), EasyMocap and MVHumanNet (a folder with a .json a frame).
    An avatar that was made of such a body takes their joint angles as they are. Any avatar takes
    those of a .bvh of its own skeleton, which 'export motion' writes. In all other cases it follows
    the file's figure, see 'import bvh': with a mapping file and the same exit codes.
    """

    motion: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Motion file (.npz, .pkl, .bvh), or a folder of .json files."""
    avatar: Annotated[str, tyro.conf.arg(metavar="AVATAR")]
    """Target of the motion: an avatar file, 'bundled', or a bare .skeleton."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.motion")]
    """Motion file to write; where the motion is retargeted, the mapping goes to
    OUT.mapping.json."""
    body: Annotated[Path | None, tyro.conf.arg(metavar="BODY", help_behavior_hint="")] = None
    """Model file of the file's body (.npz, .pkl), whose proportions are used. Default: a figure of
    usual proportions."""
    mapping: Annotated[Path | None, tyro.conf.arg(metavar="MAP.json", help_behavior_hint="")] = None
    """Mapping file, such as an edited OUT.mapping.json. Default: guessed from the names."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS", help_behavior_hint="")] = None
    """Frame rate of the result, 1/s, by slerp; 0: the file's. Default: the file's, but 25 for an
    avatar of published networks, which count frames."""
    file_fps: Annotated[float | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Frame rate of the file, 1/s. Default: what the file states, else 30."""
    up: Annotated[UpChoice | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Vertical axis of the file. Default: the one along which the body stands."""
    place: Annotated[
        str | None, tyro.conf.arg(metavar="floor|file|DATA", help_behavior_hint="")
    ] = None
    """Place of angles that are kept. floor: the feet stand on y = 0; file: as in the file; DATA: a
    data set of 'import capture', as that capture's own poses. Default: the floor, unless the file
    has it within 2 cm or its skeleton is the avatar's."""

    def run(self) -> int:
        # Check the flags.
        if self.out.suffix != ".motion":
            raise InputError(f"{self.out}: expected a name that ends in .motion")
        if self.fps is not None:
            _check_fps("--fps", self.fps, "0 or ")
        if self.file_fps is not None:
            _check_fps("--file-fps", self.file_fps)
        refuse_fbx(self.motion)
        from ash_core.files.body_model import read_body_model
        from ash_core.files.skeletool import write_motion
        from ash_core.importers.motion_file import read_foreign_motion, usual_fps
        from ash_core.importers.retarget.joint_mapping import UnknownNamesError

        # Skeleton to move; an avatar also has a mesh.
        data, skeleton = load_skeleton(self.avatar)
        body = None if self.body is None else read_body_model(self.body)
        # Convert or retarget; where names are unknown, write a draft of the mapping.
        beside = self.out.with_suffix(".mapping.json")
        with progress_bar(counts=False) as progress:
            task = progress.add_task("retargeting", total=1.0)
            try:
                result = read_foreign_motion(
                    self.motion,
                    skeleton,
                    fps=usual_fps(data) if self.fps is None else self.fps or None,
                    file_fps=self.file_fps,
                    up=self.up,
                    place=self.place,
                    body=body,
                    mapping=self.mapping,
                    avatar=data,
                    progress=lambda done: progress.update(task, completed=done),
                )
            except UnknownNamesError as error:
                raise InputError(f"{error}; {_offer_draft(beside, error, skeleton)}") from None
        # Write the motion; report what came of it.
        write_motion(self.out, result.motion.dofs, result.motion.fps)
        return _report(self.out, beside, result)


def _report(out: Path, beside: Path, result: "ForeignMotion") -> int:
    """Print what was imported, write the mapping of a retargeted motion; returns the exit code."""
    from ash_core.importers.retarget.joint_mapping import write_mapping

    retargeted = result.retargeted
    matched = "joint angles as in the file"
    if retargeted is not None:
        matched = f"{len(retargeted.mapping.pairs)} joints matched"
        write_mapping(beside, retargeted.mapping)
    frames, fps = len(result.motion.dofs), result.motion.fps
    up = f"up is {result.up.axis} ({result.up.reason})"
    say(f"{out}: {frames} frames at {fps:.4g} a second, {matched}; {up}")
    say(f"place: {result.place}")
    if result.deviations is not None:
        rotation, place = result.deviations
        say(
            f"largest error: {rotation.amount:.1f} degrees of the whole rotation ({rotation.bone}, "
            f"frame {rotation.frame}), {1000 * place.amount:.1f} mm ({place.bone}, "
            f"frame {place.frame})"
        )
    if retargeted is not None:
        say(f"{beside}: which joint drives which bone")
        report_quality(retargeted.quality)
        if retargeted.mapping.unmatched_source:
            note(f"joints without a bone: {', '.join(retargeted.mapping.unmatched_source)}")
    for text in result.notes:
        note(text)
    return 0 if retargeted is None or retargeted.quality.is_good else 1


def load_skeleton(avatar: str) -> "tuple[AvatarData | None, Skeleton]":
    """Load an avatar and its skeleton, or a bare .skeleton alone. Raises: InputError."""
    from ash_core.files.skeletool import read_skeleton
    from ash_core.scene.open import load_avatar_data

    if Path(avatar).suffix == ".skeleton":
        return None, read_skeleton(avatar)
    data = load_avatar_data(avatar, report=note)
    return data, data.skeleton


def _check_fps(flag: str, fps: float, zero: str = "") -> None:
    if not (1.0 <= fps <= 1000.0 or (zero and fps == 0)):
        raise InputError(f"{flag}: expected {zero}1 to 1000 frames a second, got {fps:g}")


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


def report_quality(quality: "Quality") -> None:
    """Print where a motion is farthest from its file, and warn of what is beyond bounds."""
    from ash_core.importers.retarget.quality import ERROR_BOUND_DEGREES, TURN_BOUND_DEGREES

    error, whole, turn = quality.errors[0], quality.rotations[0], quality.turns[0]
    say(
        f"largest error: {error.degrees:.1f} degrees of a bone's direction ({error.bone}, frame "
        f"{error.frame}), {whole.degrees:.1f} of its whole rotation ({whole.bone}, frame "
        f"{whole.frame}); largest turn from one frame to the next beyond the file's: "
        f"{turn.degrees:.1f} degrees ({turn.bone}, frame {turn.frame})"
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
