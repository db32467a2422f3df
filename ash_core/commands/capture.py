"""`ash-studio capture`: film an actor on a virtual stage."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import tyro

from ash_core.commands.actor import Actor
from ash_core.commands.options import check_range, parse_size
from ash_core.commands.terminal import StopRequest, note, progress_bar, say, working
from ash_core.errors import INTERRUPTED, InputError
from ash_core.frame_choice import parse_frames
from ash_core.resources import cache_folder, resource, usable_cores
from ash_core.scene.open import ACTOR

if TYPE_CHECKING:
    from ash_core.files.dataset import Split
    from ash_core.studio.film.film import FilmJob, FilmReport

Name = Literal["ida", "otto", "mira"]
NAMES: Final[tuple[Name, ...]] = ("ida", "otto", "mira")
"""Built-in actors with clothes of their own."""


@dataclass(frozen=True)
class Capture:
    """Film an actor on a virtual stage: videos, masks, calibration and poses of a data set.

    Needs EGL; an NVIDIA GPU is used where there is one. Run again, it goes on where it was stopped.
    If more frames are asked for, it films only those that are missing.
    """

    actor: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ACTOR")]
    """Folder that `ash-studio actor` made, or a name: actor, ida, otto, mira."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder of the data set; made when missing."""
    cameras: int = 24
    """Cameras in rings and a dome around the actor, 1 to 256."""
    frames: Annotated[str, tyro.conf.arg(metavar="START:STOP")] = ":"
    """Frames of the split's motions, one after the other, as a slice in Python (STOP is left out),
    at 25 frames a second."""
    size: Annotated[str, tyro.conf.arg(metavar="WxH")] = "1285x940"
    """Size of the images, px."""
    split: Literal["training", "testing", "both"] = "training"
    """Split to film. Testing has motions that training never sees: unseen_* and retarget_*, or else
    the last one by name."""
    motions: Annotated[
        str | None, tyro.conf.arg(metavar="NAME,NAME,...", help_behavior_hint="")
    ] = None
    """Motions to play, by name or as .motion files, in this order; with --split both in training.
    Default: all of the split's."""
    seed: int = 0
    """Random seed of the cameras' differences and of the cloth's folds."""
    cloth: Literal["springs", "newton"] = "springs"
    """Solver of swinging cloth and hair. springs: our masses and springs; newton: another truth,
    with real gravity and friction (extra 'newton')."""
    truth: bool = False
    """Also write ground truth to SPLIT/truth: the surface's mesh of every frame and the depth of
    every image."""
    again: bool = False
    """Replace existing footage of other settings. Default: refuse."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Encoder threads. Default: the machine's cores."""

    def run(self) -> int:
        from ash_core.studio.film.film import Film

        jobs, write_shared = self._jobs()
        films = [Film(job) for job in jobs]
        for film in films:
            film.check(self.again, [job.split for job in jobs])
        write_shared()
        for film in films:
            film.prepare()
        with StopRequest() as stop, progress_bar(speed="images") as progress:
            for film, job in zip(films, jobs, strict=True):
                task = progress.add_task(f"filming {job.split}", total=job.images)

                def tell(images: int, task: int = task) -> None:
                    progress.advance(task, images)  # type: ignore[arg-type]

                report = film.run(tell, lambda: stop.is_set)
                progress.refresh()
                if code := _report(job, report):
                    return code
        return 0

    def _jobs(self) -> "tuple[list[FilmJob], Callable[[], None]]":
        """Make a job for each split, and the function that writes their shared files.

        Mistakes are reported here, before any work.
        """
        from ash_core.studio.film.camera_ring import CAMERAS_MAX, LEAST_SIDE_PX, MOST_SIDE_PX

        # Check the flags.
        check_range("--cameras", self.cameras, 1, CAMERAS_MAX, "cameras")
        check_range("--seed", self.seed, 0, 2**31 - 1, "")
        width, height = parse_size(self.size)
        for side in (width, height):
            check_range("--size", side, LEAST_SIDE_PX, MOST_SIDE_PX, "px a side")
        if self.workers is not None:
            check_range("--workers", self.workers, 1, 1024, "threads")
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder")
        if self.cloth == "newton":
            from ash_core.studio.truth.newton_cloth import import_newton

            import_newton()  # the error, before an actor is made
        folder = find_actor(self.actor)
        if self.out.resolve() == folder.resolve():
            text = "expected another folder than the actor's, whose files would mix with footage"
            raise InputError(f"{self.out}: {text}")
        from ash_core.files.dataset import SPLITS
        from ash_core.studio.film.film import FilmJob
        from ash_core.studio.film.film_stage import (
            build_stage,
            read_actor,
            stage_as_filmed,
            write_stage,
        )
        from ash_core.studio.film.script import find_motions, motion_file, read_script

        # The actor, and a script of motions for each split.
        with working("dressing the actor"):
            paths_by_split = find_motions(folder)
            actor = read_actor(folder, self.seed, self.cloth)
        splits: list[Split] = ["training", "testing"] if self.split == "both" else [self.split]
        scripts = {}
        for split, paths in paths_by_split.items():
            chosen = list(paths.values())
            if split == splits[0] and self.motions is not None:
                chosen = [motion_file(folder, name.strip()) for name in self.motions.split(",")]
            if chosen:
                scripts[split] = read_script(chosen, actor.data.skeleton)
        for split in splits:
            if split not in scripts:
                text = f"expected a motion for {split}, found none: --motions names one"
                raise InputError(f"{folder / 'motions'}: {text}")
        # The stage, the same as in footage that stays.
        frames = {split: _frames(self.frames, len(scripts[split].dofs)) for split in splits}
        with working("placing the cameras"):
            motions = [script.dofs for script in scripts.values()]
            size = (width, height)
            stage = build_stage(folder, actor, motions, self.cameras, size, self.seed)
            refilmed = splits if self.again else []
            staying: list[Split] = [split for split in SPLITS if split not in refilmed]
            stage = stage_as_filmed(stage, self.out, staying)
        # One job for each split.
        workers = self.workers or usable_cores()
        jobs = [
            FilmJob(self.out, split, stage, scripts[split], frames[split], self.truth, workers)
            for split in splits
        ]
        return jobs, lambda: write_stage(self.out, folder, stage.cameras)


def find_actor(name: str) -> Path:
    """Find an actor's folder; a built-in clothed one is made first. Raises: InputError."""
    folder = Path(name)
    if folder.is_dir():
        return folder
    if name == ACTOR:
        return resource("assets", "actor")
    if name in NAMES:
        return _make_actor(name)
    names = ", ".join((ACTOR, *NAMES))
    text = f"expected an actor's folder ('ash-studio actor -o DIR' makes one) or one of {names}"
    raise InputError(f"{folder}: {text}, found none")


def _make_actor(name: Name) -> Path:
    """Find a built-in actor in the user's cache folder, or make it there, whole or not at all."""
    shelf = cache_folder() / "actors"
    folder = shelf / f"{name}-{_recipe()}"
    if folder.is_dir():
        return folder
    making = shelf / f".{folder.name}.{os.getpid()}"
    note(f"making {name}, which takes a few minutes, once; it is kept in {folder}")
    try:
        Actor(making, name=name).run()
        with contextlib.suppress(FileExistsError):  # another process was faster
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _recipe() -> str:
    """Hash the source code that makes actors: other code makes other actors."""
    package = Path(__file__).parent.parent
    mark = hashlib.sha256()
    for part in ("studio", "geometry"):
        for path in sorted((package / part).rglob("*.py")):
            mark.update(path.read_bytes())
    return mark.hexdigest()[:12]


def _frames(text: str, count: int) -> range:
    frames = parse_frames(text, count)
    if frames != list(range(frames[0], frames[0] + len(frames))):
        raise InputError(f"--frames: expected START:STOP, every frame of it, got '{text}'")
    return range(frames[0], frames[-1] + 1)


def _report(job: "FilmJob", report: "FilmReport") -> int:
    """Report the result of filming; returns the exit code."""
    if report.touching:
        cameras = ", ".join(map(str, sorted(report.touching)))
        note(f"the actor reaches the border of images of cameras {cameras}")
    if report.stopped:
        count = report.old_images + report.new_images
        note(f"stopped after {count} of {job.images} images; run it again to go on")
        return INTERRUPTED
    by = f" by {report.drawn_by}" if report.drawn_by else ""
    say(f"{job.folder}: {report.new_images} images filmed{by}, {report.old_images} were there")
    return 0
