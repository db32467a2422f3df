"""`ash-studio import capture`: multi-view captures of other laboratories to a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ash_core.commands.options import check_range, parse_size
from ash_core.commands.terminal import StopRequest, note, progress_bar, say, show_table
from ash_core.conventions import CaptureLayout
from ash_core.errors import INTERRUPTED, InputError

if TYPE_CHECKING:
    from ash_core.captures.detect import Detection
    from ash_core.captures.import_capture import ImportResult
    from ash_core.captures.reading import Overrides

LayoutFlag = Literal["auto", CaptureLayout]


@dataclass(frozen=True)
class ImportCapture:
    """Turn multi-view images with SMPL, SMPL-H or SMPL-X poses into a data set for training.

    What the cameras' numbers mean is detected: every reading is tried, and the one that puts the
    body's joints into the masks is taken. The shares are printed. Two readings that fit equally are
    refused, and the flag that decides is named. Images are linked; they are made anew, straightened
    and cut out, only for lenses with distortion, videos, .smc files and --size.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the capture."""
    body: Annotated[Path, tyro.conf.arg(metavar="FILE|FOLDER|anny")]
    """Body model of the poses, your own SMPL, SMPL-H or SMPL-X file (.npz or .pkl), or the folder
    that holds it. anny: a free body, fitted to the person (extra 'studio')."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DATA")]
    """Folder of the data set to make. One that this command made is replaced at the end."""
    layout: LayoutFlag = "auto"
    """Layout of the folder. auto: by its files."""
    poses: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Pose file, instead of the capture's own: .npz, .pkl or .json of AMASS, SMPL or SMPL-X."""
    template: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.obj|fit", help_behavior_hint="")
    ] = None
    """Surface of the clothed person: a scan (.obj, m) near the body of any frame or at rest; fit: a
    surface fitted to the masks. Default: the body itself."""
    uv: Annotated[Path | None, tyro.conf.arg(metavar="FILE.obj", help_behavior_hint="")] = None
    """Texture coordinates of the body. Default: an atlas of our own, dense on face and hands."""
    frames: Annotated[str, tyro.conf.arg(metavar="START:STOP:STEP")] = ":"
    """Frames of the capture, counted from 0: one number, or a slice as in Python."""
    cameras: Annotated[str | None, tyro.conf.arg(metavar="NAME,...", help_behavior_hint="")] = None
    """Names or numbers of cameras. Default: all."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH", help_behavior_hint="")] = None
    """Size of the images, px; they are made anew. Default: as stored."""
    test: Annotated[str, tyro.conf.arg(metavar="SHARE|FRAMES")] = "0.1"
    """Frames that become testing/: a share of the last ones, their number, or START:STOP:STEP; 0:
    none."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS", help_behavior_hint="")] = None
    """Frame rate of the capture, 1/s. Default: what its files state, else the layout's usual one.
    The motions of the data set keep it, divided by the STEP of --frames."""
    up: Annotated[
        Literal["auto", "z", "y", "x", "z-down", "y-down", "x-down"],
        tyro.conf.arg(metavar="AXIS"),
    ] = "auto"
    """Up axis of the capture's world. auto: from the body's pelvis to its head."""
    extrinsics: Literal["auto", "world-to-camera", "camera-to-world"] = "auto"
    """Direction of the cameras' rotations and translations in the file."""
    camera_axes: Literal["auto", "opencv", "opengl"] = "auto"
    """Axes of a camera: opencv +Y down, +Z forward; opengl +Y up, -Z forward."""
    units: Literal["auto", "m", "cm", "mm"] = "auto"
    """Unit of the cameras' translations in the file."""
    intrinsics: Literal["auto", "1", "0.5", "2"] = "auto"
    """Size of the images that the intrinsics describe, in sizes of the stored images."""
    root: Literal["auto", "pelvis", "origin"] = "auto"
    """Point about which the root's rotation turns the body before it is moved."""
    scale: Annotated[float | None, tyro.conf.arg(metavar="M", help_behavior_hint="")] = None
    """Metres in a unit of cameras that have none (COLMAP, Nerfstudio). Default: by the masks."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processes that make images, one camera each at a time. Default: the machine's cores."""

    def run(self) -> int:
        # Check the flags before slow imports.
        size = parse_size(self.size) if self.size else None
        if self.scale is not None:
            check_range("--scale", self.scale, 1e-6, 1e6, "m a unit")
        if self.fps is not None:
            check_range("--fps", self.fps, 1.0, 1000.0, "frames a second")
        if self.workers is not None:
            check_range("--workers", self.workers, 1, 1_000_000, "")
        if str(self.body) != "anny" and not self.body.exists():
            text = "expected a body model file or its folder, found nothing there"
            raise InputError(f"--body: {self.body}: {text}")
        if self.template is not None and str(self.template) != "fit":
            _check_obj("--template", self.template, "fit or an .obj file")
        if self.uv is not None:
            _check_obj("--uv", self.uv, "an .obj file")
        # Settings of the import.
        from ash_core.captures.import_capture import ImportSettings, Watch, import_capture
        from ash_core.resources import usable_cores

        settings = ImportSettings(
            folder=self.folder,
            out=self.out,
            body=self.body,
            layout=None if self.layout == "auto" else self.layout,
            poses=self.poses,
            uv=self.uv,
            template=self.template,
            frames=self.frames,
            cameras=self.cameras,
            size=size,
            test=self.test,
            fps=self.fps,
            up=None if self.up == "auto" else self.up,
            overrides=self._overrides(),
            workers=self.workers or usable_cores(),
        )
        # Import, with a bar for the images.
        with StopRequest() as stop, progress_bar() as progress:
            step = progress.add_task("starting", total=None)
            task = progress.add_task("images", total=None, visible=False)

            def images(count: int, total: int) -> None:
                progress.update(step, visible=False)
                progress.update(task, total=total, advance=count, visible=True)

            watch = Watch(
                stage=lambda text: progress.update(step, description=text),
                images=images,
                detected=_show_detection,
                stopped=lambda: stop.is_set,
            )
            result = import_capture(settings, watch)
        # Report the result.
        if result is None:
            note("stopped: nothing was written")
            return INTERRUPTED
        _report(self.out, result)
        return 0

    def _overrides(self) -> "Overrides":
        """Collect the parts of the reading that flags decide."""
        from ash_core.captures.reading import Overrides

        return Overrides(
            extrinsics=None if self.extrinsics == "auto" else self.extrinsics,
            axes=None if self.camera_axes == "auto" else self.camera_axes,
            units=None if self.units == "auto" else self.units,
            intrinsics=None if self.intrinsics == "auto" else float(self.intrinsics),
            root=None if self.root == "auto" else self.root,
            scale=self.scale,
        )


def _check_obj(flag: str, path: Path, expected: str) -> None:
    """Refuse a file that is no .obj by its name. Raises: InputError."""
    if path.suffix.lower() != ".obj":
        raise InputError(f"{flag}: {path}: expected {expected}, got {path.suffix or path.name}")
    if not path.is_file():
        raise InputError(f"{flag}: {path}: expected {expected}, found nothing there")


def _show_detection(detection: "Detection") -> None:
    """Print the share of joints in masks of each reading."""
    from ash_core.captures.detect import table_rows
    from ash_core.captures.reading import describe_changes

    title = f"Joints inside the masks, {detection.pictures} pictures"
    show_table(title, ("part", "reading", "share"), table_rows(detection))
    chosen, own = detection.trial.reading, detection.own
    if chosen != own.reading:
        changes = describe_changes(chosen, own.reading)
        note(f"{changes} as the layout says, which puts {own.share:.1%} of the joints into masks")


def _report(out: Path, result: "ImportResult") -> None:
    """Print what was made."""
    capture, turn, trial = result.capture, result.turn, result.detection.trial
    ways = ", ".join(f"{count} {way}" for way, count in result.written.ways.items())
    frames = ", ".join(
        f"{name} {len(numbers)} frame{'s' * (len(numbers) != 1)}"
        for name, numbers in result.splits.items()
    )
    rate = f"{capture.fps:.4g} frames a second"
    cameras = f"{len(capture.cameras)} cameras"
    say(f"{out}: {capture.layout}, {cameras}, {frames} at {rate}; images: {ways}")
    scale = f"; {trial.scale:.4g} m in a unit of the cameras" if trial.scale != 1.0 else ""
    say(f"up is {turn.up} (the body leans {turn.tilt_degrees:.0f} degrees on average){scale}")
    if capture.missing:
        note(f"{len(capture.missing)} images are missing, as the capture itself lists")
    for text in result.notes:
        note(text)
