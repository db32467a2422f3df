"""`ash-studio cameras`: a stage's calibration to cameras.json."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ash_core.commands.terminal import note, printable, say
from ash_core.errors import InputError

if TYPE_CHECKING:
    from ash_core.records import Camera


@dataclass(frozen=True)
class Cameras:
    """Turn a Skeletool .calibration into the published cameras.json: metres, world axes (Z up).

    Fields of view and principal points hold for the calibration's own picture sizes, which are
    compared with the videos beside it. Lens distortion is refused or, with --undistort, left to
    ash-studio extract, which straightens the images by the same file.
    """

    calibration: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.calibration")]
    """The calibration."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="cameras.json")]
    """File to write. An existing one is replaced."""
    undistort: bool = False
    """Write the cameras of straightened images where lenses bend."""

    def run(self) -> int:
        if self.out.suffix != ".json":
            raise InputError(f"{self.out}: expected a name that ends in .json")
        from ash_core.files.capture import read_calibration, read_lenses, write_cameras

        if self.undistort:
            cameras, lenses = read_lenses(self.calibration)
            bent = [c.name for c, lens in zip(cameras, lenses, strict=True) if not lens.is_straight]
            if bent:
                some = ", ".join(bent[:8]) + (" ..." if len(bent) > 8 else "")
                note(f"{self.out} describes straightened images of cameras {some}: make them with")
                note("ash-studio extract, and keep the calibration beside it")
        else:
            cameras = read_calibration(self.calibration)
        self._compare_with_videos(cameras)
        write_cameras(self.out, cameras)
        _print(cameras)
        say(f"{self.out}: {len(cameras)} cameras")
        return 0

    def _compare_with_videos(self, cameras: "tuple[Camera, ...]") -> None:
        """The sizes of the videos beside the calibration, if there are any."""
        from ash_core.files.dataset import SPLITS, video_path
        from ash_core.files.footage import fits_camera, video_size
        from ash_core.files.text import bad, is_kind

        for number, camera in enumerate(cameras):
            for split in SPLITS:
                path = video_path(self.calibration.parent, split, number)
                size = (camera.width, camera.height)
                if is_kind(Path.is_file, path) and not fits_camera(found := video_size(path), size):
                    text = f"expected {size[0]}x{size[1]}, as {self.calibration.name} says, got"
                    raise bad(path, None, f"{text} {found[0]}x{found[1]}")


def _print(cameras: "tuple[Camera, ...]") -> None:
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
