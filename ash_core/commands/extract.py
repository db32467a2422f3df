"""`ash-studio extract`: videos of a data set to masked images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ash_core.commands.options import check_range, parse_size
from ash_core.commands.terminal import StopRequest, complain, note, progress_bar, say
from ash_core.errors import INTERRUPTED, InputError
from ash_core.frame_choice import parse_frames

if TYPE_CHECKING:
    from ash_core.files.dataset import Split
    from ash_core.files.release import Release
    from ash_core.files.release_images import PublishedFolders
    from ash_core.footage.extract.extract import CameraJob
    from ash_core.footage.extract.extract_jobs import Outcome
    from ash_core.footage.extract.survey import Footage

FAILED = 2


@dataclass(frozen=True)
class Extract:
    """Turn RGB and mask videos into masked images, SPLIT/images/FFFFFF/image_c_CCC_f_FFFFFF.png.

    Masks keep their soft edges; only what their rims show to be backdrop is eroded. Run again, it
    makes what is missing or damaged; with other settings it makes everything again and reports it.
    Images are straightened where the calibration has lens distortion: cameras.json describes them.
    """

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the data set (training/videos, training/foregroundSegmentation, ...), or a
    published configuration (or raw_data/SUBJECT), which sets cameras, frames and size."""
    split: Annotated[
        Literal["training", "testing"] | None, tyro.conf.arg(help_behavior_hint="")
    ] = None
    """Split to extract. Default: both, where they exist."""
    cameras: Annotated[str | None, tyro.conf.arg(metavar="N,N,...", help_behavior_hint="")] = None
    """Numbers of cameras. Default: the configuration's for training and validation, else all of the
    calibration, else all of the videos."""
    frames: Annotated[str, tyro.conf.arg(metavar="START:STOP:STEP")] = ":"
    """Video frames: one number, or a slice as in Python (STOP is left out). Default: all, or
    every sample_interval-th of a configuration."""
    threshold: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Brightness from which a mask is foreground, 1 to 255, with hard edges. Default: soft masks
    stay soft, others take 128."""
    erode: Annotated[int | None, tyro.conf.arg(metavar="PX", help_behavior_hint="")] = None
    """Side of the square that erodes the mask, px; 0: no erosion. Default: as far as its rim shows
    backdrop, at most 0.8 % of the person's height."""
    dilate: int = 0
    """Side of the square that then dilates the mask, px; 0: no dilation."""
    published_masks: bool = False
    """Use the published steps: threshold 128, erode 6, dilate 3 px at 4112 px of width, in
    proportion at others."""
    largest: bool = False
    """Keep only the mask's largest connected component."""
    crop: bool = False
    """Store only the box around the person, with its place in the file. Cameras stay the same:
    ash-studio's readers put the box back."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH", help_behavior_hint="")] = None
    """Size of the images, px. Default: the configuration's, else the camera's."""
    layout: Literal["ours", "published"] = "ours"
    """published: the layout of the published code, metadata/SPLIT/images/C/image_c_C_f_F.png beside
    foregroundSegmentation, or the configuration's folders."""
    kind: Literal["png", "jpg"] = "png"
    """png: colours with the mask as alpha. jpg: the person on black and the mask in a png."""
    quality: int = 95
    """Quality of a jpg, 1 to 100."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS", help_behavior_hint="")] = None
    """Frame rate that numbers the frames, 1/s. Default: each video's own."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processes, one camera each at a time. Default: the machine's cores."""
    slurm: bool = False
    """Submit a Slurm job array, one task a camera, and wait for it (extra 'slurm'). Every node must
    see DIR under the same name."""
    slurm_partition: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = (
        None
    )
    """Partition of the tasks. Default: the cluster's."""
    slurm_minutes: int = 240
    """Time limit of a task, minutes."""
    slurm_cpus: int = 1
    """Processors of a task; the decoder uses one."""
    slurm_parallel: int = 64
    """Most tasks that run at once."""
    slurm_executor: Literal["slurm", "local"] = "slurm"
    """local: submitit's own processes on this machine, to test without a cluster."""

    def run(self) -> int:
        jobs, errors = self._jobs()
        total = sum(len(job.frames) for job in jobs)
        with StopRequest() as stop, progress_bar() as progress:
            task = progress.add_task("extracting", total=total)

            def tell(frames: int) -> None:
                progress.advance(task, frames)

            outcome = self._extract(jobs, tell, lambda: stop.is_set)
        outcome.errors[:0] = errors
        return _report(outcome, total)

    def _extract(
        self,
        jobs: "list[CameraJob]",
        report: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> "Outcome":
        from ash_core.footage.extract.extract_jobs import (
            SlurmOptions,
            run_in_processes,
            run_on_slurm,
        )
        from ash_core.resources import usable_cores

        if not self.slurm:
            return run_in_processes(jobs, self.workers or usable_cores(), report, stopped)
        options = SlurmOptions(
            logs=jobs[0].folder / "slurm",
            partition=self.slurm_partition,
            minutes=self.slurm_minutes,
            cpus=self.slurm_cpus,
            parallel=self.slurm_parallel,
            executor=self.slurm_executor,
        )
        return run_on_slurm(jobs, options, report, stopped, say)

    def _jobs(self) -> "tuple[list[CameraJob], list[str]]":
        """Make a job for each camera and split, and list the errors of those without one.

        Mistakes are reported here, before any work.
        """
        # Check the flags.
        if self.threshold is not None:
            check_range("--threshold", self.threshold, 1, 255, "grey levels")
        if self.erode is not None:
            check_range("--erode", self.erode, 0, 255, "px")
        if self.published_masks and (self.threshold, self.erode, self.dilate) != (None, None, 0):
            text = "expected no --threshold, --erode or --dilate beside it, it sets all three"
            raise InputError(f"--published-masks: {text}")
        check_range("--dilate", self.dilate, 0, 255, "px")
        check_range("--quality", self.quality, 1, 100, "")
        for name in ("workers", "slurm_minutes", "slurm_cpus", "slurm_parallel"):
            value = getattr(self, name)
            if value is not None:
                check_range(f"--{name.replace('_', '-')}", value, 1, 1_000_000, "")
        if self.fps is not None:
            check_range("--fps", self.fps, 1.0, 1000.0, "frames a second")
        from ash_core.files.dataset import data_release
        from ash_core.footage.extract.cutter import ExtractSettings
        from ash_core.footage.extract.extract import CameraJob
        from ash_core.footage.extract.journal import remove_partials
        from ash_core.footage.extract.survey import survey

        if self.crop and self.layout == "published":
            raise InputError("--crop: expected none with --layout published, which has no boxes")
        # Settings of the images.
        release = data_release(self.data)
        size = parse_size(self.size) if self.size else release.size if release else None
        settings = ExtractSettings(
            self.threshold,
            self.erode,
            self.dilate,
            self.published_masks,
            self.largest,
            self.crop,
            size,
            self.kind,
            self.quality,
        )
        # Cameras and frames of the footage.
        cameras = _numbers(self.cameras)
        if release is None:
            footage = survey(self.data.absolute(), self.split, cameras)
        else:
            footage = self._survey_release(release, cameras)
        for text in footage.notes:
            note(text)
        for split in footage.frames:
            folders = self._folders(footage.folder, split, release)
            remove_partials(footage.folder, split, folders)
        # One job for each camera and split.
        jobs = []
        for split, frame_count in footage.frames.items():
            frames = self._frames(release, frame_count)
            if release is None:
                footage.check_motion(split, frames)
            jobs += [
                CameraJob(
                    footage.folder,
                    split,
                    camera,
                    frames,
                    settings,
                    footage.optics.get(camera),
                    self.fps,
                    self._folders(footage.folder, split, release),
                )
                for camera in footage.cameras[split]
            ]
        return jobs, footage.errors

    def _survey_release(self, release: "Release", cameras: list[int] | None) -> "Footage":
        """Look at the videos of the cameras that a configuration names."""
        from ash_core.footage.extract.survey import survey

        if self.data != release.conf:
            note(f"{self.data}: its configuration is {release.conf}")
        if cameras is None:
            named = {*(release.train_cameras or ()), *(release.val_cameras or ())}
            cameras = sorted(named) or None
        split = self.split or ("testing" if release.is_test_motion else "training")
        return survey(release.footage.absolute(), split, cameras, calibrated=False)

    def _frames(self, release: "Release | None", count: int) -> tuple[int, ...]:
        """Choose among `count` video frames."""
        if release is None or self.frames != ":":
            return tuple(sorted(parse_frames(self.frames, count)))
        step = release.sample_interval
        first = release.train_frames.start % step if release.train_frames else 0
        return tuple(range(first, count, step))

    def _folders(
        self, folder: Path, split: "Split", release: "Release | None"
    ) -> "PublishedFolders | None":
        """Name the folders of the published layout; None for ours."""
        from ash_core.files.release import IMAGES, MASKS
        from ash_core.files.release_images import PublishedFolders

        if self.layout == "ours":
            return None
        if release is not None and release.image_dir is not None and release.mask_dir is not None:
            return PublishedFolders(release.image_dir.absolute(), release.mask_dir.absolute())
        home = folder / "metadata" / split
        return PublishedFolders(home / IMAGES, home / MASKS)


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() for word in words):
        raise InputError(f"--cameras: expected numbers such as 0,3,7, got '{text}'")
    return sorted({int(word) for word in words})


def _report(outcome: "Outcome", total: int) -> int:
    """Report the result of extraction; returns the exit code."""
    from ash_core.files.io import shorten

    # Notes of each camera.
    reports = sorted(outcome.reports, key=lambda report: (report.split, report.camera))
    for report in reports:
        for text in report.notes:
            note(text)
        if report.empty:
            some = ", ".join(map(str, report.empty[:8])) + (" ..." if report.empty[8:] else "")
            where = f"{report.split} camera {report.camera}"
            note(f"{where}: no foreground in {len(report.empty)} frames ({some})")
    for text in dict.fromkeys(report.changed for report in reports if report.changed):
        cameras = ", ".join(f"{r.split} {r.camera}" for r in reports if r.changed == text)
        note(f"images of {shorten(cameras, 80)} were made again: {text}")
    # Totals and errors.
    made_count, kept_count = sum(r.new_images for r in reports), sum(r.old_images for r in reports)
    count = made_count + kept_count
    for text in outcome.errors:
        complain(text)
    stopped = any(report.stopped for report in reports)
    if stopped:
        note(f"stopped: {count} of {total} images are there; run it again to go on")
    say(f"{made_count} images made, {kept_count} were there")
    if outcome.errors:
        return FAILED
    return INTERRUPTED if stopped else 0
