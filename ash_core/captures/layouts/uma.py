"""Read a subject of the UMA data set: videos of 40 cameras and a skeletool character.

    Subject_X/training/stream000.mp4                              also testing/
    Subject_X/training/foregroundSegmentation/stream000.mp4
    Subject_X_metadata/cameras.calib                              beside the subject, or in it
    Subject_X_metadata/ddc_character/ddc.character, ddc.motion
    Subject_X_metadata/ddc_character/skeletoolToGTPose/poseAngles.motion      ..._test of testing/
    Subject_X_metadata/smplx_character/smplx_train_merged.npz                 smplx_test_merged.npz

The character moves by its own dofs, as DynaCap's: no body has to be converted. The fits of SMPL-X
are taken too. Source: UMA's README; cameras as DynaCap, mm.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ash_core.captures.capture import Capture, CaptureCamera, ImageRef
from ash_core.captures.images import video_index
from ash_core.captures.layouts.assemble import Extras, Shots, assemble
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.layouts.parts import VIDEO_ENDINGS, list_folder, number_of
from ash_core.conventions import FPS, R_WORLD_BODY
from ash_core.files.body_pose_files import read_body_poses
from ash_core.files.cameras.checks import rigid_matrix
from ash_core.files.cameras.published import read_lenses
from ash_core.files.dataset import NORMALISED_POSES, POSES
from ash_core.files.io import bad, is_kind

CALIBRATION: Final = "cameras.calib"
CHARACTER: Final = "ddc_character"
MASKS: Final = "foregroundSegmentation"
VIDEOS: Final = "videos"


class _Subject(NamedTuple):
    """Places of one split of a subject."""

    split: Path
    metadata: Path

    @property
    def is_testing(self) -> bool:
        return self.split.name == "testing"


def is_uma(folder: Path) -> bool:
    """Return whether a folder is a subject of UMA, one of its splits, or holds both parts."""
    return _find(folder) is not None


def read_uma(folder: Path, choice: Choice) -> Capture:
    """Read the training split of a subject; folder: the subject, or its testing/ for that one.

    `character` and `motion` of the result are the skeletool files. Raises: InputError.
    """
    subject = _find(folder)
    if subject is None:
        raise bad(folder, None, f"expected training/ with videos, and {CALIBRATION} beside it")
    # Videos of all cameras; stream numbers count the calibration's cameras.
    cameras = _cameras(subject.metadata / CALIBRATION)
    shots, rates = [], []
    for number, camera in enumerate(cameras):
        videos = _videos(subject.split) or _videos(subject.split / VIDEOS)
        images, rate = _frames(videos.get(number))
        masks, _ = _frames(_videos(subject.split / MASKS).get(number))
        shots.append(Shots(camera, images, masks))
        rates += [rate] if rate else []
    # The character and its motion, and the poses of SMPL-X where they can be read.
    character, motion = _character(subject)
    notes = [f"{subject.split.name}/ of the subject is read"]
    path = choice.poses or _poses_path(subject)
    has_poses = choice.poses is not None or is_kind(Path.is_file, path)
    poses = read_body_poses(path) if has_poses else None
    extras = Extras(poses=poses, poses_path=path, notes=tuple(notes))
    capture = assemble("uma", folder, shots, choice, rates[0] if rates else FPS, extras)
    return replace(capture, character=character, motion=motion)


def _find(folder: Path) -> _Subject | None:
    """Find the split and the metadata of a subject; None if either is missing."""
    folder = folder.absolute()
    splits = [folder / "training", folder / "testing"]
    if folder.name in ("training", "testing"):
        splits = [folder]
    inner = [folder / name for name in list_folder(folder)[0] if not name.endswith("_metadata")]
    splits += [path / "training" for path in inner if is_kind(Path.is_dir, path / "training")]
    for split in splits:
        subject = split.parent
        places = (
            subject,
            subject / f"{subject.name}_metadata",
            subject.parent / f"{subject.name}_metadata",
            subject / "metadata",
        )
        for place in places:
            has_both = is_kind(Path.is_dir, split) and is_kind(Path.is_file, place / CALIBRATION)
            if has_both:
                return _Subject(split, place)
    return None


def _cameras(path: Path) -> list[CaptureCamera]:
    """Read the calibration, in its order; names are those of the file, else numbers.

    The capture's world has the character's axes, Y up, in which SMPL-X is fitted too.
    """
    T_world_capture = rigid_matrix(np.array(R_WORLD_BODY), np.zeros(3))
    cameras = []
    for number, (camera, lens) in enumerate(zip(*read_lenses(path), strict=True)):
        K, viewmat = camera.K.double().numpy(), camera.viewmat.double().numpy() @ T_world_capture
        name = camera.name or f"{number:03d}"
        cameras.append(CaptureCamera(name, K, viewmat, camera.width, camera.height, lens))
    return cameras


def _videos(folder: Path) -> dict[int, Path]:
    """List the videos stream000.mp4 of a folder by number."""
    videos: dict[int, Path] = {}
    for name in list_folder(folder)[1]:
        number = number_of(name)
        if (
            name.startswith("stream")
            and name.lower().endswith(VIDEO_ENDINGS)
            and number is not None
        ):
            videos.setdefault(number, folder / name)
    return videos


def _frames(path: Path | None) -> tuple[dict[int, ImageRef], float | None]:
    if path is None:
        return {}, None
    index = video_index(path)
    return {number: ImageRef(path, frame=number) for number in index.times}, index.fps


def _character(subject: _Subject) -> tuple[Path | None, Path | None]:
    """Return the character file and the motion of the split, one row a video frame."""
    folder = subject.metadata / CHARACTER
    files = [name for name in list_folder(folder)[1] if name.endswith(".character")]
    character = folder / files[0] if files else None
    shelf, name = Path(POSES).parts
    test = f"{shelf}_test" if subject.is_testing else shelf
    motions = [folder / test / name, folder / test / Path(NORMALISED_POSES).name]
    if not subject.is_testing:
        motions.append(folder / "ddc.motion")
    motion = next((path for path in motions if is_kind(Path.is_file, path)), None)
    return character, motion


def _poses_path(subject: _Subject) -> Path:
    kind = "test" if subject.is_testing else "train"
    return subject.metadata / "smplx_character" / f"smplx_{kind}_merged.npz"
