"""A capture of another laboratory becomes a data set of ours: detection, character, motion, images.

Everything is made in a folder beside the target, which is renamed at the end: no fault leaves half
a data set.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from ash_core.captures.bodies import ANNY, CaptureBody, read_with_body
from ash_core.captures.capture import Capture, CaptureCamera, Layout
from ash_core.captures.detect import Detection, detect, table_rows
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.paint import paint_texture
from ash_core.captures.read import detect_layout
from ash_core.captures.reading import Overrides
from ash_core.captures.template import Surface, make_character, read_surface
from ash_core.captures.world import UpAxis, WorldTurn, turn_of
from ash_core.captures.write import Written, jobs_of, remove_tree, write_images
from ash_core.errors import InputError
from ash_core.files.cameras.published import write_cameras
from ash_core.files.dataset import CAMERAS, CAPTURE, POSES, Split, stretch_camera
from ash_core.files.io import bad, is_kind, read_json, shorten, write_text, writing
from ash_core.files.skeletool import write_motion
from ash_core.frame_choice import frame_step, parse_frames
from ash_core.importers.body.body_motion import dofs_of_poses
from ash_core.importers.body.posing import FEET, joint_frames
from ash_core.records import Camera
from ash_core.studio.actor.actor import write_actor

FORMAT: Final = "ash-studio capture"
VERSION: Final = 1
PARTIAL: Final = ".partial"
TEST_SHARE: Final = "0.1"
PELVIS, HEAD = 0, 15
"""Joints of all kinds of bodies."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class ImportSettings:
    """Inputs of an import."""

    folder: Path
    out: Path
    body: Path
    """Body model file, a folder of them, or anny."""
    layout: Layout | None = None
    poses: Path | None = None
    uv: Path | None = None
    """OBJ file with the body's texture coordinates."""
    template: Path | None = None
    """OBJ file of the clothed person, or fit; None: the body itself."""
    frames: str = ":"
    cameras: str | None = None
    size: tuple[int, int] | None = None
    test: str = TEST_SHARE
    """Share or number of the last frames, or START:STOP:STEP, that become testing/."""
    fps: float | None = None
    """Frame rate of the capture, 1/s; None: what its files state, else its layout's."""
    up: UpAxis | None = None
    overrides: Overrides = field(default_factory=Overrides)
    workers: int = 1


@dataclass(frozen=True)
class ImportResult:
    """Result of an import."""

    capture: Capture
    detection: Detection
    turn: WorldTurn
    splits: Mapping[Split, tuple[int, ...]]
    """Frame numbers of the capture, by split."""
    written: Written
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Watch:
    """Callbacks of an import."""

    stage: Callable[[str], None]
    """Takes the name of a step without a measure."""
    images: Callable[[int, int], None]
    """Takes (images that were finished since, of how many)."""
    detected: Callable[[Detection], None]
    stopped: Callable[[], bool]


def import_capture(settings: ImportSettings, watch: Watch) -> ImportResult | None:
    """Turn a capture into a data set; None if it was stopped, then nothing is left.

    Raises: InputError, and leaves nothing.
    """
    # Read the capture and the body.
    check_target(settings.out)
    _check_outside(settings.out, settings.folder)
    surface = read_surface(settings.template, settings.uv)
    watch.stage("reading the capture")
    layout = settings.layout or detect_layout(settings.folder)
    choice = Choice(settings.frames, settings.cameras, settings.poses)
    capture, body = read_with_body(settings.folder, layout, choice, settings.body, watch.stage)
    if not capture.masks and not _may_have_alpha(capture):
        raise bad(capture.folder, None, "expected masks of the person, found none")
    capture = replace(capture, fps=(settings.fps or capture.fps) / frame_step(settings.frames))
    splits = split_frames(capture.frames, settings.test)
    # Detect the conventions.
    watch.stage("comparing the body's joints with the masks")
    detection = detect(capture, body.rest_joints, settings.overrides)
    watch.detected(detection)
    body = replace(body, poses=detection.poses or body.poses)
    turn = _turn_of(body, settings.up)
    # Make everything beside the target, then put it in its place.
    with building(settings.out) as partial:
        watch.stage("making the character")
        notes = _write_character(surface, partial, capture, detection, body, turn, splits, watch)
        if watch.stopped():
            raise _Stopped
        cameras = [_camera_of(camera, turn) for camera in detection.cameras]
        if settings.size is not None:
            cameras = [stretch_camera(camera, *settings.size) for camera in cameras]
        write_cameras(partial / CAMERAS, cameras)
        jobs = jobs_of(capture, detection.cameras, splits, partial, settings.size)
        total = sum(len(job.shots) for job in jobs)
        if total == 0:
            raise bad(capture.folder, None, "expected images of the chosen frames, found none")
        written = write_images(
            jobs,
            settings.out,
            settings.workers,
            lambda count: watch.images(count, total),
            watch.stopped,
        )
        if written.stopped or watch.stopped():
            raise _Stopped
        notes = (*capture.notes, *detection.notes, *body.notes, *notes)
        result = ImportResult(capture, detection, turn, splits, written, notes)
        _write_provenance(partial / CAPTURE, settings, result)
        return result
    return None


# ---- capture and frames ----


def _may_have_alpha(capture: Capture) -> bool:
    """Return whether images may hold their masks as alpha."""
    return all(ref.path.suffix.lower() == ".png" for ref in capture.images.values())


def split_frames(frames: Sequence[int], text: str) -> dict[Split, tuple[int, ...]]:
    """Divide frames into training and testing. Raises: InputError.

    text: share of the last frames below 1, a number of them, or START:STOP:STEP counted from 0.
    """
    count = len(frames)
    if ":" in text:
        try:
            chosen = set(parse_frames(text, count))
        except InputError as error:
            raise InputError(str(error).replace("--frames", "--test")) from None
    else:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not (0.0 <= number < 1.0 or (number == int(number) and 0 <= number < count)):
            expected = f"a share below 1, a number of frames below {count} or START:STOP:STEP"
            raise InputError(f"--test: expected {expected}, got '{text}'")
        last = round(number * count) if number < 1.0 else int(number)
        chosen = set(range(count - min(last, count - 1), count))
    training = tuple(frame for number, frame in enumerate(frames) if number not in chosen)
    testing = tuple(frame for number, frame in enumerate(frames) if number in chosen)
    if not training:
        raise InputError(f"--test: expected some of {count} frames left for training, got '{text}'")
    return {"training": training, **({"testing": testing} if testing else {})}


# ---- character, motion, cameras ----


def _turn_of(body: CaptureBody, up: UpAxis | None) -> WorldTurn:
    """Find the up axis and the floor."""
    places = joint_frames(body.poses, body.rest_joints)[1]
    sole = body.rest_joints[list(FEET), 1].min() - body.vertices[:, 1].min()
    uprights = places[:, HEAD] - places[:, PELVIS]
    feet = places[:, list(FEET)].reshape(-1, 3)
    return turn_of(uprights, feet, float(sole) * body.poses.scale, up)


def _write_character(
    surface: Surface,
    folder: Path,
    capture: Capture,
    detection: Detection,
    body: CaptureBody,
    turn: WorldTurn,
    splits: Mapping[Split, Sequence[int]],
    watch: Watch,
) -> tuple[str, ...]:
    """Write the character and the motion of each split; returns notes."""

    def progress(text: str, done: float) -> None:
        if watch.stopped():
            raise _Stopped
        watch.stage(f"{text}, {done:.0%}")

    # The character, in the body frame.
    T = turn.T_body_capture
    character = make_character(
        surface,
        capture,
        detection.cameras,
        body,
        T[:3, :3],
        progress,
    )
    write_actor(folder, character.actor, "character")
    # Rows of the poses are the capture's frames.
    poses = body.poses
    dofs = dofs_of_poses(character.actor.skeleton, poses, body.rest_joints, T)
    rows = {frame: row for row, frame in enumerate(capture.frames)}
    for split, frames in splits.items():
        chosen = dofs[[rows[frame] for frame in frames]]
        write_motion(folder / split / POSES, torch.from_numpy(chosen), capture.fps)
    if character.has_texture:
        return character.notes
    # A surface without colours takes them from the images of the training.
    share = paint_texture(
        folder,
        capture,
        detection.cameras,
        dofs,
        [rows[frame] for frame in splits["training"]],
        np.linalg.inv(T),
        progress,
    )
    text = f"texture painted from the images: cameras see {share:.0%} of it"
    return (*character.notes, text)


def _camera_of(camera: CaptureCamera, turn: WorldTurn) -> Camera:
    """Make the camera of undistorted images in our world."""
    viewmat = camera.viewmat @ np.linalg.inv(turn.T_world_capture)
    # The file's rotations must be rotations to 1e-3; those of calibrations may be rounded.
    left, _, right = np.linalg.svd(viewmat[:3, :3])
    viewmat[:3, :3] = left @ right
    K = camera.K.copy()
    K[0, 1] = 0.0
    return Camera(
        torch.from_numpy(viewmat).float(),
        torch.from_numpy(K).float(),
        camera.width,
        camera.height,
        camera.name,
    )


# ---- the folder ----


_OWN: Final = {
    *("training", "testing", "motions", "hand_segmentation.txt", "inspection.html"),
    *(CAMERAS, CAPTURE),
}
"""Names in a data set beside the character's files, whose names begin with character."""


class _Stopped(Exception):  # noqa: N818
    """Ends an import that was stopped."""


def check_target(out: Path) -> None:
    """Refuse a target that this command did not make. Raises: InputError."""
    for path in (out, _partial_of(out)):
        if not path.exists() or (is_kind(Path.is_dir, path) and not any(path.iterdir())):
            continue
        if not path.is_dir():
            raise bad(path, None, "expected the name of a new folder, found a file")
        if not _is_ours(path):
            raise bad(path, None, "expected a new folder or a data set of import capture")
        names = sorted(entry.name for entry in path.iterdir())
        foreign = [name for name in names if not name.startswith("character") and name not in _OWN]
        if foreign:
            text = (
                "expected a new folder, or one that holds nothing but an earlier import, which is"
            )
            raise bad(path, None, f"{text} replaced; move away {shorten(', '.join(foreign), 80)}")


def _check_outside(out: Path, capture: Path) -> None:
    """Refuse a target inside the capture, whose readers would meet it. Raises: InputError."""
    inner, outer = (Path(os.path.realpath(path)) for path in (out, capture))
    if inner.is_relative_to(outer):
        raise bad(out, None, f"expected a folder outside the capture {capture}, got one in it")


def _is_ours(folder: Path) -> bool:
    """Return whether a folder was made by an import of a capture."""
    path = folder / CAPTURE
    if not path.is_file():
        return False
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _partial_of(out: Path) -> Path:
    target = Path(os.path.abspath(out))
    return target.with_name(target.name + PARTIAL)


@contextlib.contextmanager
def building(out: Path) -> Iterator[Path]:
    """Make a folder beside its target, which it replaces at the end; an error leaves neither."""
    partial = _partial_of(out)
    remove_tree(partial)
    try:
        with writing(partial):
            partial.mkdir(parents=True, exist_ok=True)
        # A killed import leaves this: the next one knows that it may remove it.
        write_text(partial / CAPTURE, json.dumps({"format": FORMAT, "version": VERSION}))
        yield partial
        with writing(out):
            _replace(partial, Path(os.path.abspath(out)))
    except _Stopped:
        pass
    finally:
        remove_tree(partial)


def _replace(partial: Path, target: Path) -> None:
    """Rename a folder to its target; an earlier one is removed after that."""
    old = target.with_name(target.name + ".old" + PARTIAL)
    remove_tree(old)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    remove_tree(old)


def _write_provenance(path: Path, settings: ImportSettings, result: ImportResult) -> None:
    """Write where a data set comes from, and why it was read as it was."""
    trial, turn, capture = result.detection.trial, result.turn, result.capture
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "layout": capture.layout,
        "folder": os.path.abspath(capture.folder),
        "body": str(settings.body)
        if str(settings.body) == ANNY
        else os.path.abspath(settings.body),
        "template": None if settings.template is None else str(settings.template),
        "fps": capture.fps,
        "reading": vars(trial.reading) | {"scale": trial.scale},
        "share_of_joints_in_masks": round(trial.share, 4),
        "pictures": result.detection.pictures,
        "evidence": [list(row) for row in table_rows(result.detection)],
        "up": turn.up,
        "tilt_degrees": round(turn.tilt_degrees, 2),
        "T_world_capture": turn.T_world_capture.tolist(),
        "cameras": [camera.name for camera in capture.cameras],
        "frames": {split: list(frames) for split, frames in result.splits.items()},
        "images": result.written.ways,
        "missing": list(capture.missing),
        "notes": list(result.notes),
    }
    write_text(path, json.dumps(content, indent=1) + "\n")
