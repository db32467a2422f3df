"""`ash-studio cameras`: camera files of other programs, converted."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.options import check_range, parse_size
from ash_core.commands.terminal import note, printable, say
from ash_core.conventions import CameraAxes, CameraFormat, Up
from ash_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ash_core.files.cameras.record import StageCamera
    from ash_core.records import Camera

FAR_M = 100.0
"""Distance between cameras beyond which they are likely in millimetres."""


@dataclass(frozen=True)
class Cameras:
    """Convert camera files: metres, world axes (Z up), OpenCV cameras in between.

    Read and written: the published cameras.json, Skeletool .calibration, transforms.json
    (nerfstudio, instant-ngp), COLMAP (text and binary; written as text), OpenCV .yml, EasyMocap
    (intri.yml, extri.yml) and cameras.json of 3D Gaussian Splatting. Flags give what a file lacks.
    Lens distortion is written where the format has a place for it.
    --undistort writes cameras of straightened images; ash-studio extract straightens them.
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Camera file; of COLMAP and EasyMocap the folder, too."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """cameras.json, transforms.json, FILE.calibration, FILE.yml, or a folder with --to colmap or
    --to easymocap. An existing one is replaced."""
    format: Annotated[CameraFormat | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Format of FILE. Default: by its name and content."""
    to: Annotated[CameraFormat | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Format to write. Default: by the name."""
    axes: Annotated[CameraAxes | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Axes of FILE's cameras. Default: its format's own."""
    up: Annotated[Up | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Up axis of FILE's world; y-down is COLMAP's own. Default: z."""
    scale: Annotated[float | None, tyro.conf.arg(metavar="METRES", help_behavior_hint="")] = None
    """Metres in FILE's unit: 0.001 for millimetres. Default: 1; .calibration is in millimetres."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH", help_behavior_hint="")] = None
    """Image size, px, where FILE has none."""
    source_world: bool = False
    """Undo the applied_transform of a transforms.json: cameras in the world of its source."""
    undistort: bool = False
    """Write the cameras of undistorted images where lenses have distortion."""

    def run(self) -> int:
        from ash_core.files.cameras.files import output_format, read_camera_file, write_camera_file
        from ash_core.files.cameras.record import Reading, StageCamera

        kind = self.to or output_format(self.out)
        if self.scale is not None:
            check_range("--scale", self.scale, 1e-6, 1e6, "metres")
        reading = Reading(
            format=self.format,
            axes=self.axes,
            up=self.up or "z",
            scale=self.scale or 1.0,
            size=parse_size(self.size) if self.size else None,
            source_world=self.source_world,
        )
        file = read_camera_file(self.source, reading)
        cameras = file.cameras
        if file.format == "skeletool":
            if self.up is not None:
                raise InputError("--up: expected none: a .calibration has its own, Y")
            self._compare_with_videos([camera for camera, _ in cameras])
        if self.undistort:
            self._note_straightened(cameras)
            cameras = tuple(StageCamera(camera) for camera, _ in cameras)
        notes = (*file.notes, *write_camera_file(self.out, kind, cameras))
        for text in (*notes, *self._doubts(file.format, cameras)):
            note(text)
        _print([camera for camera, _ in cameras])
        say(f"{self.source}: read as {file.format}")
        say(f"{self.out}: {len(cameras)} cameras, {kind}")
        return 0

    def _doubts(self, kind: CameraFormat, cameras: "Sequence[StageCamera]") -> "list[str]":
        """List the assumptions about what the file lacks."""
        from ash_core.files.cameras.files import ARBITRARY
        from ash_core.geometry.camera import camera_position

        texts = []
        if kind in ARBITRARY:
            assumed = [
                text
                for value, text in ((self.scale, "metres (--scale)"), (self.up, "Z up (--up)"))
                if value is None
            ]
            if assumed:
                assumptions = ", ".join(assumed)
                texts.append(f"{self.source} does not say its world: taken are {assumptions}")
        places = [camera_position(camera.viewmat) for camera, _ in cameras]
        span = max(float((place - places[0]).norm()) for place in places)
        if span > FAR_M:
            texts.append(f"cameras are {span:,.0f} m apart: --scale 0.001 reads millimetres")
        return texts

    def _note_straightened(self, cameras: "Sequence[StageCamera]") -> None:
        bent = [camera.name for camera, lens in cameras if not lens.is_straight]
        if bent:
            names = ", ".join(bent[:8]) + (" ..." if len(bent) > 8 else "")
            note(f"{self.out} describes straightened images of cameras {names}: make them with")
            note("ash-studio extract, and keep the calibration beside it")

    def _compare_with_videos(self, cameras: "Sequence[Camera]") -> None:
        """Compare with the sizes of the videos beside the calibration, if there are any."""
        from ash_core.files.dataset import SPLITS, video_path
        from ash_core.files.footage import fits_camera, video_size
        from ash_core.files.io import bad, is_kind

        for number, camera in enumerate(cameras):
            for split in SPLITS:
                path = video_path(self.source.parent, split, number)
                size = (camera.width, camera.height)
                if not is_kind(Path.is_file, path):
                    continue
                width, height = video_size(path)
                if not fits_camera((width, height), size):
                    text = f"expected {size[0]}x{size[1]}, as {self.source.name} says, got"
                    raise bad(path, None, f"{text} {width}x{height}")


def _print(cameras: "Sequence[Camera]") -> None:
    from rich.console import Console
    from rich.table import Table

    from ash_core.geometry.camera import camera_position

    table = Table()
    for title in ("camera", "size, px", "field of view, degrees", "place, m (world)"):
        table.add_column(title)
    for camera in cameras:
        fields = [
            math.degrees(2 * math.atan(side / (2 * float(focal))))
            for side, focal in ((camera.width, camera.K[0, 0]), (camera.height, camera.K[1, 1]))
        ]
        place = camera_position(camera.viewmat).tolist()
        table.add_row(
            printable(camera.name),
            f"{camera.width}x{camera.height}",
            "{:.1f} x {:.1f}".format(*fields),
            ", ".join(f"{value:.2f}" for value in place),
        )
    Console().print(table)
