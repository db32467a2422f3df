"""A configuration of the published tree as a data set: its cameras, frames, images and poses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ash_core.files.dataset import (
    Dataset,
    Plan,
    Split,
    SplitData,
    images_with_poses,
    picture_size,
    sized_as_images,
    stretch_camera,
)
from ash_core.files.io import bad, is_kind
from ash_core.files.release import Release, clip_frames
from ash_core.files.release_images import list_published
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.records import Camera

SHOWN = 8
"""Number of cameras that a note lists."""


def open_release(release: Release, notes: Sequence[str] = ()) -> Dataset:
    """Open the data set of a configuration. Images need not exist yet. Raises: InputError."""
    character, more = import_ash(release.conf)
    conf = release.conf
    if release.motion is None:
        raise bad(conf, None, "expected dataset.skeleton_angles, a motion, found no such entry")
    for name in ("image_dir", "mask_dir"):
        if getattr(release, name) is None:
            raise bad(conf, None, f"expected dataset.{name}, a folder, found no such entry")
    cameras = _cameras(release, character.cameras)
    motion = read_motion(release.motion, character.skeleton, release.normalised)
    plan, plan_notes = _plan(release, len(cameras), len(motion.dofs))
    split: Split = "testing" if release.is_test_motion else "training"
    images, image_notes = _images(release, split, plan, len(cameras), len(motion.dofs))
    sized = _sized(release, cameras, images)
    if not release.train_cameras:
        train_cameras = sorted({camera for _, camera in images} - set(plan.val_cameras))
        plan = Plan(tuple(train_cameras), plan.val_cameras, plan.train_frames, plan.val_frames)
    every = (*notes, *more, *plan_notes, *image_notes)
    data = SplitData(split, motion, sized, images)
    folder = release.footage if is_kind(Path.is_dir, release.footage) else release.root
    return Dataset(folder, character, cameras, {split: data}, every, release, plan)


def _cameras(release: Release, cameras: tuple[Camera, ...]) -> tuple[Camera, ...]:
    """Check that every number has a camera."""
    if not cameras:
        text = "expected dataset.camera_json_dir, cameras (.json), found no such entry"
        raise bad(release.conf, None, text)
    count = release.camera_count or 0
    if count > len(cameras):
        text = f"dataset.camera_num = {count}: expected so many cameras"
        raise bad(release.conf, None, f"{text}, {release.cameras} has {len(cameras)}")
    for field in ("train_cameras", "val_cameras"):
        last = max(getattr(release, field) or (0,))
        if last >= len(cameras):
            text = f"{release.sources[field]}: expected numbers, 0 to {len(cameras) - 1}"
            raise bad(release.conf, None, f"{text}, of {release.cameras}, got {last}")
    return cameras


def _plan(release: Release, cameras: int, poses: int) -> tuple[Plan, list[str]]:
    """Divide cameras and frames; note frames beyond the motion's end."""
    every = range(0, poses, release.sample_interval)
    train, val = release.train_frames or every, release.val_frames or release.train_frames or every
    notes = []
    for field, frames in (("train_frames", train), ("val_frames", val)):
        entry = release.sources.get(field, "dataset.sample_interval")
        if not clip_frames(frames, poses):
            text = f"{entry}: expected frames with poses, {release.motion} has {poses}"
            raise bad(release.conf, None, f"{text}, the first frame is {frames.start}")
        missing = len(frames) - len(clip_frames(frames, poses)) if frames.stop < 10**9 else 0
        if missing:
            text = f"{release.motion} has {poses} poses: {missing} frames are left out"
            notes.append(f"{release.conf}: {entry}: {text}")
    plan = Plan(
        release.train_cameras or tuple(range(cameras)),
        release.val_cameras or (),
        clip_frames(train, poses),
        clip_frames(val, poses),
    )
    return plan, notes


def _images(
    release: Release, split: Split, plan: Plan, cameras: int, poses: int
) -> tuple[Mapping[tuple[int, int], Path], list[str]]:
    """List the images in the folders that the configuration names.

    If they are missing, those of `ash-studio extract` in our layout, with a note.
    """
    assert release.image_dir is not None
    assert release.mask_dir is not None
    needed = sorted({*plan.train_cameras, *plan.val_cameras})
    frames = {*plan.train_frames, *plan.val_frames}
    if is_kind(Path.is_dir, release.image_dir):
        numbers = needed if release.train_cameras else None
        images = list_published(release.image_dir, release.mask_dir, numbers, frames)
        listed = {camera for _, camera in images}
        without = [camera for camera in release.train_cameras or () if camera not in listed]
        if images and without:
            some = ", ".join(map(str, without[:SHOWN])) + (", ..." if without[SHOWN:] else "")
            text = f"no images of cameras {some} in {release.image_dir}"
            return images, [f"{release.conf}: {release.sources['train_cameras']}: {text}"]
        return images, []
    images = {}
    if is_kind(Path.is_dir, release.footage / split / "images"):
        extracted = images_with_poses(release.footage, split, cameras, poses)
        images = {(f, c): path for (f, c), path in extracted.items() if f in frames and c in needed}
    where = release.footage / split / "images"
    text = f"{release.sources['image_dir']}: not there, images of {where} are taken"
    return images, [f"{release.conf}: {text}"] if images else []


def _sized(
    release: Release, cameras: tuple[Camera, ...], images: Mapping[tuple[int, int], Path]
) -> tuple[Camera, ...]:
    """Size the cameras as in the configuration, which must agree with the images."""
    if release.size is None:
        return sized_as_images(cameras, images)
    first = next(iter(images), None)
    if first is not None:
        image_size = picture_size(images[first])
        if image_size != release.size:
            expected = "{} x {}".format(*release.size)
            text = f"dataset.img_width, dataset.img_height: expected images of {expected} px"
            size = "{} x {}".format(*image_size)
            raise bad(release.conf, None, f"{text}, {images[first]} has {size}")
    return tuple(stretch_camera(camera, *release.size) for camera in cameras)
