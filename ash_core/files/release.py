"""The published tree, as one configuration of it describes it.

    ROOT/
      confs/SUBJECT/subject_train.conf, subject_val.conf      names in them are relative to ROOT
      meta_data/SUBJECT/                                      character, cameras, motions
        skeletoolToGTPose/, ...Test/, ...Retarget/            poseAngles.motion of each motion
      checkpoints/SUBJECT/                                    trained networks
      raw_data/SUBJECT/training/videos/streamCCC.mp4          footage
      raw_data/SUBJECT/metadata/training/images/C/            what the published extraction makes

`read_release` reads the configuration and looks up what it names; images and videos are not
listed. Every entry is checked: an `InputError` names the entry and what it leads to.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final, Literal

from ash_core.conventions import ATLAS_RESOLUTIONS, MAX_SIDE_PX
from ash_core.files.conf_entries import CONFS, Entries
from ash_core.files.dataset import NORMALISED_POSES, POSES
from ash_core.files.io import bad, is_kind, show

MAX_CAMERAS: Final = 4096
MAX_FRAME: Final = 10**8
MAX_STEPS: Final = 10**9
POSE_ANGLES: Final = PurePath(POSES).name
NORMALISED_ANGLES: Final = PurePath(NORMALISED_POSES).name
MOTION_FOLDERS: Final = "skeletoolToGTPose*"
IMAGES: Final = "images"
MASKS: Final = "foregroundSegmentation"

Purpose = Literal["train", "val"]
"""Purpose of a subject's configuration, whose name ends in _train or _val."""


@dataclass(frozen=True)
class Schedule:
    """Options of the published trainer; None: absent from the configuration."""

    learning_rate: float | None
    steps: int | None
    """`end_iter`."""
    save_every: int | None
    """Steps between checkpoints; `save_freq`."""
    validate_every: int | None
    """Steps between validations; `val_freq`."""
    color_weight: float | None
    """Weight of the mean absolute difference of colours."""
    ssim_weight: float | None
    """Weight of 1 - SSIM."""
    random_seed: int | None
    """Seed; -1: not fixed."""


@dataclass(frozen=True)
class Release:
    """Configuration of the published tree; None: absent from the configuration.

    Files exist; folders of images may be missing until the extraction.
    """

    conf: Path
    root: Path
    """Folder above confs/; names in the configuration are relative to it."""
    subject: str
    """Name of its folder under confs/."""
    motion: Path | None
    """Path of `skeleton_angles`."""
    normalised: Path | None
    """Path of `skeleton_angles_rotation_normalized`: three rows a frame."""
    motions: Mapping[str, Path]
    """Path of poseAngles.motion by its folder: the configuration's own motion first, then those
    beside it."""
    cameras: Path | None
    """Path of `camera_json_dir`."""
    camera_count: int | None
    train_cameras: tuple[int, ...] | None
    """Numbers in cameras.json, with gaps."""
    val_cameras: tuple[int, ...] | None
    train_frames: range | None
    """Rows of the motion, including the published inclusive end; see `clip_frames`."""
    val_frames: range | None
    sample_interval: int
    """Step between extracted video frames."""
    size: tuple[int, int] | None
    """Width and height of images and renders, px."""
    is_white_background: bool | None
    atlas_resolution: int | None
    """Texels of a side; `barycentric_tex_size`."""
    global_scale: float | None
    image_dir: Path | None
    mask_dir: Path | None
    footage: Path
    """Folder with training/videos, which may be missing."""
    character_checkpoint: Path | None
    """Path of `delta_checkpoint_dir`, which may be missing."""
    schedule: Schedule
    output_dir: Path | None
    device: str | None
    sources: Mapping[str, str]
    """Dotted keys of the entries by field."""
    notes: tuple[str, ...]
    """Notes on files from another machine that were found here."""

    @property
    def is_training_data(self) -> bool:
        """Return whether it names images or poses of a capture, not only a character."""
        return self.image_dir is not None or self.motion is not None

    @property
    def is_test_motion(self) -> bool:
        """Return whether its motion is unseen by the training."""
        return self.motion is not None and self.motion.parent.name.lower().endswith("test")


def clip_frames(frames: range, count: int) -> range:
    """Leave out frames beyond a motion of so many poses."""
    return range(frames.start, min(frames.stop, count), frames.step)


# ---- finding the configuration ----


def find_conf(path: Path, purpose: Purpose = "train") -> Path | None:
    """Find the configuration of a folder of the tree; None without one.

    path: confs/SUBJECT, meta_data/SUBJECT, raw_data/SUBJECT, checkpoints/SUBJECT, or the root with
    one subject. A configuration is its own. Of several, the one named for the purpose.
    Raises: InputError for an ambiguous choice.
    """
    if not is_kind(Path.is_dir, path):
        return path if path.suffix.lower() == ".conf" else None
    folder = path.absolute()
    shelf, subject = folder / CONFS, folder.parent.parent / CONFS / folder.name
    if confs := sorted(folder.glob("*.conf")):
        return _choose(path, confs, purpose)
    if is_kind(Path.is_dir, shelf):
        subjects = {conf.parent: None for conf in sorted(shelf.glob("*/*.conf"))}
        if len(subjects) > 1:
            names = ", ".join(show(one.name) for one in [*subjects][:6])
            text = f"expected one subject in {CONFS}, got {len(subjects)}: {names}"
            raise bad(path, None, f"{text}; name the folder of one of them")
        confs = sorted(shelf.glob("*/*.conf")) or sorted(shelf.glob("*.conf"))
    elif is_kind(Path.is_dir, subject):
        confs = sorted(subject.glob("*.conf"))
    return _choose(path, confs, purpose) if confs else None


def _choose(path: Path, confs: list[Path], purpose: Purpose) -> Path:
    named = [conf for conf in confs if purpose in conf.stem.lower()]
    chosen = confs if len(confs) == 1 else named
    if len(chosen) != 1:
        names = ", ".join(show(conf.name) for conf in confs[:6])
        text = f"expected one configuration with '{purpose}' in its name, got {names}"
        raise bad(path, None, text)
    return chosen[0]


# ---- reading it ----


def read_release(path: Path | str, purpose: Purpose = "train") -> Release:
    """Read the configuration of a published tree.

    path: see `find_conf`. Raises: InputError.
    """
    path = Path(path)
    conf = find_conf(path, purpose)
    if conf is None:
        text = "expected a .conf, or a folder of a published tree with confs/SUBJECT/*.conf"
        raise bad(path, None, text)
    return release_of(Entries(conf))


def release_of(entries: Entries) -> Release:
    """Resolve the files of a configuration and check every value. Raises: InputError."""
    # Name the subject by the folder below confs, else by the file.
    conf, root = entries.path.absolute(), entries.root
    below = conf.relative_to(root).parts[1:-1] if conf.is_relative_to(root) else ()
    subject = below[0] if below else re.sub(r"_(train|val)$", "", conf.stem)
    # Read the entries that others depend on.
    motion = entries.file("dataset.skeleton_angles", f"a motion ({POSE_ANGLES})")
    count = entries.whole("dataset.camera_num", 1, MAX_CAMERAS)
    last = (count or MAX_CAMERAS) - 1
    width = entries.whole("dataset.img_width", 1, MAX_SIDE_PX)
    height = entries.whole("dataset.img_height", 1, MAX_SIDE_PX)
    image_dir = entries.folder("dataset.image_dir")
    # Read the other entries, each checked on the way.
    release = Release(
        conf=entries.path,
        root=root,
        subject=subject,
        motion=motion,
        normalised=entries.file(
            "dataset.skeleton_angles_rotation_normalized", f"a motion ({NORMALISED_ANGLES})"
        ),
        motions=_motions(motion),
        cameras=entries.file("dataset.camera_json_dir", "cameras (.json)"),
        camera_count=count,
        train_cameras=entries.numbers("dataset.train_camera", last),
        val_cameras=entries.numbers("dataset.val_camera", last),
        train_frames=_train_frames(entries),
        val_frames=_val_frames(entries),
        sample_interval=entries.whole("dataset.sample_interval", 1, MAX_FRAME) or 1,
        size=(width, height) if width is not None and height is not None else None,
        is_white_background=entries.flag("dataset.is_white_background"),
        atlas_resolution=entries.whole("dataset.barycentric_tex_size", *ATLAS_RESOLUTIONS),
        global_scale=entries.number("dataset.global_scale", 1e-6, 1e6),
        image_dir=image_dir,
        mask_dir=entries.folder("dataset.mask_dir"),
        footage=_footage(root, subject, image_dir),
        character_checkpoint=_checkpoint(entries),
        schedule=_schedule(entries),
        output_dir=entries.folder("general.output_dir"),
        device=entries.text("general.device"),
        sources=_sources(entries),
        notes=tuple(entries.notes.values()),
    )
    _check_pair(entries, release)
    return release


_KEYS: Final = {
    "motion": "dataset.skeleton_angles",
    "normalised": "dataset.skeleton_angles_rotation_normalized",
    "cameras": "dataset.camera_json_dir",
    "camera_count": "dataset.camera_num",
    "train_cameras": "dataset.train_camera",
    "val_cameras": "dataset.val_camera",
    "train_frames": "dataset.end_frame",
    "val_frames": "dataset.val_frame_start",
    "sample_interval": "dataset.sample_interval",
    "size": "dataset.img_width",
    "is_white_background": "dataset.is_white_background",
    "atlas_resolution": "dataset.barycentric_tex_size",
    "global_scale": "dataset.global_scale",
    "image_dir": "dataset.image_dir",
    "mask_dir": "dataset.mask_dir",
    "character_checkpoint": "train.delta_checkpoint_dir",
    "learning_rate": "train.learning_rate",
    "steps": "train.end_iter",
    "save_every": "train.save_freq",
    "validate_every": "train.val_freq",
    "color_weight": "train.color_weight",
    "ssim_weight": "train.ssim_weight",
    "random_seed": "train.random_seed",
    "output_dir": "general.output_dir",
    "device": "general.device",
}
"""Entries by field."""


def _sources(entries: Entries) -> dict[str, str]:
    by_field = {field: entries.find(key) for field, key in _KEYS.items()}
    return {field: entry.key for field, entry in by_field.items() if entry is not None}


def _train_frames(entries: Entries) -> range | None:
    """List the training frames; the published end is inclusive."""
    start = entries.whole("dataset.start_frame", 0, MAX_FRAME)
    end = entries.whole("dataset.end_frame", 0, MAX_FRAME)
    step = entries.whole("dataset.sample_interval", 1, MAX_FRAME)
    if start is None and end is None:
        return None
    if end is not None and end < (start or 0):
        text = f"dataset.end_frame: expected at least dataset.start_frame, {start}, got {end}"
        raise bad(entries.path, None, text)
    return range(start or 0, sys.maxsize if end is None else end + 1, step or 1)


def _val_frames(entries: Entries) -> range | None:
    """List the validation frames; the published end is exclusive."""
    start = entries.whole("dataset.val_frame_start", 0, MAX_FRAME)
    end = entries.whole("dataset.val_frame_end", 0, MAX_FRAME)
    step = entries.whole("dataset.val_sample_interval", 1, MAX_FRAME)
    if start is None and end is None:
        return None
    if end is not None and end <= (start or 0):
        text = f"dataset.val_frame_end: expected more than dataset.val_frame_start, {start or 0}"
        raise bad(entries.path, None, f"{text}, got {end}: the end is left out")
    return range(start or 0, sys.maxsize if end is None else end, step or 1)


def _schedule(entries: Entries) -> Schedule:
    return Schedule(
        learning_rate=entries.number("train.learning_rate", 1e-12, 1e3),
        steps=entries.whole("train.end_iter", 1, MAX_STEPS),
        save_every=entries.whole("train.save_freq", 1, MAX_STEPS),
        validate_every=entries.whole("train.val_freq", 0, MAX_STEPS),
        color_weight=entries.number("train.color_weight", 0.0, 1e6),
        ssim_weight=entries.number("train.ssim_weight", 0.0, 1e6),
        random_seed=entries.whole("train.random_seed", -1, 2**32 - 1),
    )


def _motions(motion: Path | None) -> dict[str, Path]:
    """List the motions beside the configuration's own: training, test and retarget."""
    if motion is None:
        return {}
    home = motion.parent
    beside = sorted(file.parent for file in home.parent.glob(f"{MOTION_FOLDERS}/{POSE_ANGLES}"))
    others = {folder.name: folder / POSE_ANGLES for folder in beside if folder != home}
    return {home.name: motion, **others}


def _footage(root: Path, subject: str, image_dir: Path | None) -> Path:
    """Return the folder of the videos: above the metadata/ of the extracted images."""
    above = [] if image_dir is None else image_dir.absolute().parents
    home = next((folder.parent for folder in above if folder.name == "metadata"), None)
    return home or root / "raw_data" / subject


def _checkpoint(entries: Entries) -> Path | None:
    """Name the file of the character's networks; `released` reports a missing one."""
    name = entries.text("train.delta_checkpoint_dir")
    return None if name is None else entries.locate(name) or entries.root / name


def _check_pair(entries: Entries, release: Release) -> None:
    """Check entries that depend on each other."""
    size = ("dataset.img_width", "dataset.img_height")
    present = [name for name in size if entries.find(name) is not None]
    if len(present) == 1:
        text = f"expected {' and '.join(size)} together, got {present[0]} alone"
        raise bad(entries.path, None, text)
    for name, cameras in (
        ("dataset.train_camera", release.train_cameras),
        ("dataset.val_camera", release.val_cameras),
    ):
        if cameras == ():
            raise bad(entries.path, None, f"{name}: expected numbers of cameras, got none")
