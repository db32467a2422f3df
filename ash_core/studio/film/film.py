"""Film of an actor on the virtual stage, made a segment of frames at a time.

A kill costs only the frames since the last segment.

    SPLIT/film.json          settings, and whether it is finished (film_record.py)
    SPLIT/.film/             segments, until they are joined to videos (reel.py)
    SPLIT/truth/             ground truth beyond a real stage (film_truth.py)
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float64
from torch import Tensor

from ash_core.conventions import FPS
from ash_core.errors import InputError
from ash_core.files.dataset import (
    NORMALISED_POSES,
    POSES,
    SPLITS,
    Split,
    mask_video_path,
    video_path,
)
from ash_core.files.io import bad, size_text
from ash_core.files.skeletool import write_motion
from ash_core.geometry.motion import normalise_motion
from ash_core.gl.context import GlError, describe_gl, offscreen_context
from ash_core.studio.film.film_pass import FilmPass
from ash_core.studio.film.film_record import (
    SEGMENTS,
    changes,
    footage,
    only_one,
    read_record,
    write_record,
)
from ash_core.studio.film.film_stage import FilmStage, free_bytes
from ash_core.studio.film.film_truth import (
    depth_unit,
    truth_depth,
    truth_mesh,
    write_depth,
    write_surface,
    write_truth,
)
from ash_core.studio.film.reel import CuttingRoom, chunks, join, remove_partials
from ash_core.studio.film.script import Script

CHUNK: Final = 10
"""Frames of a segment, which begins with a key frame."""
BYTES_PER_PIXEL: Final = 0.012
BYTES_OF_DEPTH: Final = 0.05
"""Lower bounds on a pixel's bytes in both videos, and in a depth image: only a disk that is surely
too full is refused."""


@dataclass(frozen=True)
class FilmJob:
    """Settings of a film, and its folder."""

    out: Path
    split: Split
    stage: FilmStage
    script: Script
    frames: range
    """Range of frames in the script; the videos count from 0."""
    truth: bool
    workers: int
    """Number of threads that encode."""

    @property
    def folder(self) -> Path:
        return self.out / self.split

    @property
    def images(self) -> int:
        return len(self.frames) * len(self.stage.cameras)


@dataclass
class FilmReport:
    """Result of filming."""

    new_images: int = 0
    """Number of images that were filmed."""
    old_images: int = 0
    stopped: bool = False
    drawn_by: str = ""
    touching: set[int] = field(default_factory=set)
    """Cameras in whose images the actor touches the border."""


class Film:
    """Film of one split: `check`, `prepare`, `run`."""

    def __init__(self, job: FilmJob) -> None:
        self.job = job
        self._cameras = list(range(len(job.stage.cameras)))
        self._kept = self._frames_kept()
        """Number of frames at the start whose finished videos stay: one segment of any length."""
        rest = [
            range(self._kept + chunk.start, self._kept + chunk.stop)
            for chunk in chunks(range(len(job.frames) - self._kept), CHUNK)
        ]
        self._chunks = [range(self._kept), *rest] if self._kept else rest

    # ---- existing footage ----

    def _record(self) -> dict[str, Any] | None:
        """Read the record of the existing footage."""
        files = footage(self.job.out, self.job.split)
        return read_record(self.job.folder) if files else None

    def _is_longer(self, record: dict[str, Any]) -> bool:
        """Return whether the job asks for the footage of a record and more frames after it."""
        (start, stop), frames = _frames_of(record), self.job.frames
        others = {**record["settings"], "frames": [frames.start, frames.stop]}
        if start != frames.start or not start < stop < frames.stop or others != self._settings():
            return False
        # Videos of only some cameras: the join was interrupted, and the rest is in segments.
        return record.get("finished") is True or not any(map(self._has_videos, self._cameras))

    def _frames_kept(self) -> int:
        record = self._record()
        if record is None:
            return 0
        if self._is_longer(record) and record.get("finished") is True:
            start, stop = _frames_of(record)
            return stop - start
        frames = record.get("kept", 0)
        is_ours = record["settings"] == self._settings() or self._is_longer(record)
        return (
            frames if is_ours and type(frames) is int and 0 <= frames < len(self.job.frames) else 0
        )

    def _take_over(self) -> None:
        """Make segments of a shorter film.

        Videos move before the record is written: until then they are only missing.
        """
        record = self._record()
        if record is None or not self._is_longer(record):
            return
        if record.get("finished") is True:
            for camera in filter(self._has_videos, self._cameras):
                segments = self._segments(camera, self._chunks[0])
                segments[0].parent.mkdir(parents=True, exist_ok=True)
                for kind, segment in zip((video_path, mask_video_path), segments, strict=True):
                    kind(self.job.out, self.job.split, camera).replace(segment)
            return
        # The last segments may be shorter than ours of the same name.
        start, stop = _frames_of(record)
        if over := (stop - start - self._kept) % CHUNK:
            shelf = self.job.folder / SEGMENTS / f"{stop - start - over:06d}"
            shutil.rmtree(shelf, ignore_errors=True)

    def check(self, again: bool, beside: Collection[Split] = ()) -> None:
        """Raise InputError if the split cannot be filmed; nothing is written.

        again: footage of other settings may be removed.  beside: splits filmed in the same run,
        each of which checks its own footage.
        """
        self._check_other_splits(beside)
        if (changed := self._changed()) and not again:
            text = f"holds other footage ({changed})"
            raise bad(self.job.folder, None, f"{text}: choose another folder, or --again")
        self._check_space()

    def prepare(self) -> None:
        """Remove footage of other settings; write the record and the poses."""
        job = self.job
        if self._changed():
            self._remove_footage()
        self._take_over()
        dofs = self._dofs()
        write_motion(job.folder / POSES, dofs)
        rows = normalise_motion(dofs, job.stage.actor.data.skeleton)
        write_motion(job.folder / NORMALISED_POSES, rows.reshape(-1, rows.shape[-1]))
        write_record(job.folder, self._settings(), self.is_finished(), self._kept)

    def _changed(self) -> str:
        """Describe how the existing footage differs from ours; empty for none or equal footage."""
        if not footage(self.job.out, self.job.split):
            return ""
        record = self._record()
        if record is None:
            return "without a record of it"
        if self._is_longer(record):
            return ""
        return ", ".join(changes(record["settings"], self._settings()))

    def is_finished(self) -> bool:
        """Return whether every video exists, and the ground truth if requested."""
        return not any(self._missing(chunk) for chunk in self._chunks) and not any(
            not self._has_videos(camera) for camera in self._cameras
        )

    def _dofs(self) -> Float64[Tensor, "F D"]:
        frames = self.job.frames
        return torch.from_numpy(self.job.script.dofs[frames.start : frames.stop].copy())

    def _settings(self) -> dict[str, Any]:
        frames = self.job.frames
        takes = [[take.name, take.start, take.frames] for take in self.job.script.takes]
        return {
            **self.job.stage.identity,
            "fps": FPS,
            "frames": [frames.start, frames.stop],
            "takes": takes,
            "motion": hashlib.sha256(self.job.script.dofs.tobytes()).hexdigest()[:16],
        }

    def _check_other_splits(self, beside: Collection[Split]) -> None:
        """Check that all splits of a data set share the character and the cameras."""
        for split in SPLITS:
            folder = self.job.out / split
            is_other = split != self.job.split and split not in beside
            record = read_record(folder) if is_other and footage(self.job.out, split) else None
            if record is None:
                continue
            settings, identity = record.get("settings", {}), self.job.stage.identity
            other = {key: settings.get(key) for key in identity}
            if other != identity:
                changed = ", ".join(changes(other, identity))
                text = f"was filmed on another stage ({changed})"
                text += ": one data set has one, choose another folder, or --split both --again"
                raise bad(folder, None, text)

    def _check_space(self) -> None:
        job = self.job
        todo = sum(len(self._missing(chunk)) * len(chunk) for chunk in self._chunks)
        camera = job.stage.cameras[0]
        a_pixel = BYTES_PER_PIXEL + (BYTES_OF_DEPTH if job.truth else 0.0)
        need = int(todo * camera.width * camera.height * a_pixel)
        if job.truth:
            need += len(job.frames) * 24 * len(job.stage.actor.fine.matrix.indptr)
        free = free_bytes(job.out)
        if free < need:
            raise bad(
                job.out, None,
                f"the disk is too full: {todo} images of {camera.width}x{camera.height} need at "
                f"least {size_text(need)}, {size_text(free)} are free",
            )  # fmt: skip

    def _remove_footage(self) -> None:
        for path in footage(self.job.out, self.job.split):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _has_videos(self, camera: int) -> bool:
        out, split = self.job.out, self.job.split
        return all(kind(out, split, camera).is_file() for kind in (video_path, mask_video_path))

    def _segments(self, camera: int, chunk: range) -> tuple[Path, Path]:
        name = f"kept_{chunk.stop:06d}" if chunk.start < self._kept else f"{chunk.start:06d}"
        shelf = self.job.folder / SEGMENTS / name
        return shelf / f"rgb_{camera:03d}.mp4", shelf / f"mask_{camera:03d}.mp4"

    def _unfilmed(self, chunk: range) -> list[int]:
        """List the cameras without this segment."""
        return [
            camera
            for camera in self._cameras
            if not self._has_videos(camera)
            and not all(path.is_file() for path in self._segments(camera, chunk))
        ]

    def _unmeasured(self, chunk: range) -> list[int]:
        """List the cameras without all of its depths."""
        if not self.job.truth:
            return []
        if not all(truth_mesh(self.job.folder, frame).is_file() for frame in chunk):
            return self._cameras
        return [
            camera
            for camera in self._cameras
            if not all(truth_depth(self.job.folder, camera, f).is_file() for f in chunk)
        ]

    def _missing(self, chunk: range) -> list[int]:
        return sorted({*self._unfilmed(chunk), *self._unmeasured(chunk)})

    # ---- filming ----

    def run(self, progress: Callable[[int], None], stopped: Callable[[], bool]) -> FilmReport:
        """Film the missing segments and join them. `progress` takes numbers of finished images.

        Raises: InputError. Images filmed until then stay.
        """
        job, report = self.job, FilmReport()
        with only_one(job.folder / SEGMENTS):
            remove_partials(job.folder)
            todo = [chunk for chunk in self._chunks if self._missing(chunk)]
            report.old_images = job.images - sum(len(c) * len(self._missing(c)) for c in todo)
            progress(report.old_images)
            if todo:
                try:
                    self._film(todo, report, progress, stopped)
                except GlError as error:
                    raise InputError(f"capture: {error}") from error
            if report.stopped:
                return report
            self._join()
            write_record(job.folder, self._settings(), finished=True)
        shutil.rmtree(job.folder / SEGMENTS, ignore_errors=True)
        return report

    def _film(
        self,
        todo: list[range],
        report: FilmReport,
        progress: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> None:
        # Prepare the state of all chunks; encoders run in threads beside the pass.
        job = self.job
        cameras = job.stage.cameras
        motion = job.stage.actor.play(job.script.dofs, FPS)
        if job.truth:
            write_surface(job.folder, job.stage.actor.surface, self._depth_unit())
        with (
            offscreen_context(64, 64),
            ThreadPoolExecutor(job.workers, "encoder") as pool,
            contextlib.closing(CuttingRoom(pool)) as room,
        ):
            report.drawn_by = describe_gl()
            camera = cameras[0]
            film_pass = FilmPass(
                job.stage.actor.surface, camera.width, camera.height, job.stage.reach_m
            )
            for chunk in todo:
                # Select this chunk's cameras without a video or depth.
                film, depth = self._unfilmed(chunk), self._unmeasured(chunk)
                reels = {n: room.open(n, self._segments(n, chunk), cameras[n], FPS) for n in film}
                for frame in chunk:
                    # Shoot every camera of a frame before the next frame.
                    if stopped():
                        report.stopped = True
                        return
                    true = motion.frame(job.frames.start + frame)
                    film_pass.update(true)
                    if depth:
                        pool.submit(write_truth, job.folder, frame, true).result()
                    for number in sorted({*film, *depth}):
                        if number in reels:
                            shot = film_pass.shoot(cameras[number])
                            if shot.touches_border:
                                report.touching.add(number)
                            room.put(number, reels[number].add, shot)
                        if number in depth:
                            distances = film_pass.shoot_depth(cameras[number])
                            path = truth_depth(job.folder, number, frame)
                            room.put(number, write_depth, path, distances, self._depth_unit())
                        progress(1)
                room.finish()
                # A segment that is stopped in the middle leaves no files.
                report.new_images += len(chunk) * len({*film, *depth})

    def _depth_unit(self) -> float:
        stage = self.job.stage
        away = [float(camera.viewmat[:3, 3].norm()) for camera in stage.cameras]
        return depth_unit(max(away) + 2 * stage.reach_m)

    def _join(self) -> None:
        """Join segments to videos; a camera's segments are removed once its videos exist."""
        job = self.job
        for camera in self._cameras:
            segments = [self._segments(camera, chunk) for chunk in self._chunks]
            if not self._has_videos(camera):
                for n, kind in enumerate((video_path, mask_video_path)):
                    join([pair[n] for pair in segments], kind(job.out, job.split, camera), FPS)
            for pair in segments:
                for path in pair:
                    path.unlink(missing_ok=True)


def _frames_of(record: dict[str, Any]) -> tuple[int, int]:
    """Return the first frame and the end, as in a record; an empty range without them."""
    frames = record["settings"].get("frames")
    if not isinstance(frames, list) or [type(n) for n in frames] != [int, int]:
        return 0, 0
    return frames[0], frames[1]
