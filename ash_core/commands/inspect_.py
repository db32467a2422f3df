"""`ash-studio inspect`: check of a data set before training on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ash_core.commands.options import check_range
from ash_core.commands.terminal import progress_bar, say, working
from ash_core.errors import InputError

FAULTY = 1
"""Exit code where a finding is an error."""


@dataclass(frozen=True)
class Inspect:
    """Check a data set and write its findings to one HTML page: run this first on your own data.

    It checks counts and sizes, RGB against masks, light and masks of each camera, and the motion's
    limits and jumps. The posed template and skeleton over the images check cameras and poses: IoU
    by camera and frame. Exit code 1: a finding is an error, and the page is written all the same.
    Exit code 2: the data cannot be read.
    """

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the data set, or a published configuration (or raw_data/SUBJECT)."""
    out: Annotated[
        Path | None, tyro.conf.arg(aliases=["-o"], metavar="X.html", help_behavior_hint="")
    ] = None
    """Page to write. Default: inspection.html in the folder, or beside a configuration's videos."""
    samples: int = 5
    """Number of frames to check of each camera, spread over the motion."""

    def run(self) -> int:
        check_range("--samples", self.samples, 1, 1000, "frames")
        if self.out is not None and self.out.suffix != ".html":
            raise InputError(f"{self.out}: expected a name that ends in .html")
        from ash_core.files.dataset import open_dataset
        from ash_core.files.io import write_text
        from ash_core.footage.inspect.inspection import inspect_dataset
        from ash_core.footage.inspect.inspection_page import inspection_page
        from ash_core.resources import usable_cores

        with working("reading the data set"):
            dataset = open_dataset(self.data)
        out = self.out or dataset.folder / "inspection.html"
        with progress_bar() as progress:
            task = progress.add_task("looking at cameras", total=None)

            def tell(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            inspection = inspect_dataset(dataset, self.samples, usable_cores(), tell)
        # The page first: a reader of the output that leaves early (`| head`) ends the command.
        write_text(out, inspection_page(inspection))
        for finding in inspection.sorted_findings():
            say(f"{finding.severity:8} {finding.where}: {finding.text}")
        count = len({look.camera for look in inspection.cameras})
        say(f"{out}: {count} cameras, {out.stat().st_size / 1e6:.1f} MB")
        return FAULTY if any(finding.severity == "error" for finding in inspection.findings) else 0
