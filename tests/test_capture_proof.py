"""One clip of 8 cameras and 60 frames, with a body model file, out of every layout the same."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass

import numpy as np
import pytest
from made_capture import MadeClip, marker_places, project
from made_layouts import LAYOUTS, made_layout

from ash_core.captures.capture import LAYOUTS as EVERY
from ash_core.captures.capture import Capture, ImageRef, Layout
from ash_core.captures.images import read_images, read_masks
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.read import detect_layout, read_capture
from ash_core.files.body_model import BodyModel
from ash_core.importers.body.body_motion import expand_hands
from ash_core.importers.body.posing import joint_frames, to_pelvis_rule

CAMERAS, FRAMES = 8, 60
MARKER_PX = 0.1
pytest.importorskip("h5py", reason="the extra 'capture' is not installed")


@dataclass(frozen=True)
class Read:
    """The clip, and the capture that a reader made of its files."""

    layout: Layout
    clip: MadeClip
    body: BodyModel
    capture: Capture

    @property
    def order(self) -> list[int]:
        """Return the clip's number of each camera: COLMAP and nerfstudio sort them by name."""
        names = LAYOUTS[self.layout].names
        own = [c.name if names is None else names(n) for n, c in enumerate(self.clip.cameras)]
        return [own.index(camera.name) for camera in self.capture.cameras]

    @property
    def frames(self) -> tuple[int, ...]:
        """Return the number of each frame."""
        return tuple(LAYOUTS[self.layout].frame(row) for row in range(FRAMES))

    def pictures(self, refs: Mapping[tuple[int, int], ImageRef]) -> list[tuple[int, int, ImageRef]]:
        """List (row, camera, image): those of a video are neighbours."""
        return [
            (row, camera, refs[frame, camera])
            for camera in range(CAMERAS)
            for row, frame in enumerate(self.frames)
        ]


@pytest.fixture(scope="module", params=LAYOUTS)
def read(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Read]:
    """Write the clip in a layout and read it; its files are removed after the layout's tests."""
    home = tmp_path_factory.mktemp(request.param)
    clip, folder, body = made_layout(request.param, home, CAMERAS, FRAMES)
    assert detect_layout(folder) == request.param
    yield Read(request.param, clip, body, read_capture(folder, request.param, Choice()))
    shutil.rmtree(home)


def test_every_layout_is_proven() -> None:
    assert set(LAYOUTS) == set(EVERY)


def test_cameras_are_those_of_the_clip(read: Read) -> None:
    assert sorted(read.order) == list(range(CAMERAS))
    has_space = any(" " in camera.name for camera in read.capture.cameras)
    assert has_space or LAYOUTS[read.layout].names is not None
    for camera, number in zip(read.capture.cameras, read.order, strict=True):
        truth = read.clip.cameras[number]
        np.testing.assert_allclose(camera.K, truth.K, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(camera.viewmat, truth.viewmat, atol=1e-5)
        assert (camera.width, camera.height) == (truth.width, truth.height)
        np.testing.assert_allclose(astuple(camera.lens), astuple(truth.lens), atol=1e-9)


def test_joint_angles_are_those_of_the_clip(read: Read) -> None:
    assert read.capture.poses is not None
    assert read.capture.poses.frames == read.capture.frames == read.frames
    poses, truth = (expand_hands(p, read.body) for p in (read.capture.poses, read.clip.poses))
    assert poses.kind == truth.kind == read.body.kind
    np.testing.assert_allclose(poses.betas, truth.betas, atol=1e-9)
    np.testing.assert_allclose(poses.rotations, truth.rotations, atol=1e-5)
    poses = to_pelvis_rule(poses, read.clip.rest_joints)
    np.testing.assert_allclose(poses.translations, truth.translations, atol=1e-5)


def test_masks_are_those_of_the_clip(read: Read) -> None:
    truths = list(read.clip.masks)
    pictures = read.pictures(read.capture.masks)
    assert len(pictures) == len(read.capture.masks)
    is_exact = LAYOUTS[read.layout].is_lossless and pictures[0][2].path.suffix != ".jpg"
    masks = read_masks(ref for _, _, ref in pictures)
    for (row, camera, _), mask in zip(pictures, masks, strict=True):
        same = (mask > 127) == (truths[row][read.order[camera]] > 127)
        assert same.all() if is_exact else same.mean() > 0.99


def test_a_marker_lands_on_its_joint(read: Read) -> None:
    """Through the reader's cameras, poses and images, and the joints of the body file."""
    poses = read.capture.poses
    assert poses is not None
    rest_joints = read.body.joints(read.body.shaped(poses.betas))
    joints = joint_frames(expand_hands(poses, read.body), rest_joints)[1]
    joints = joints[:, list(read.clip.markers)]
    pictures = read.pictures(read.capture.images)
    images, worst = read_images(ref for _, _, ref in pictures), 0.0
    for (row, camera, _), image in zip(pictures, images, strict=True):
        off = project(read.capture.cameras[camera], joints[row]) - marker_places(image)
        worst = max(worst, float(np.linalg.norm(off, axis=1).max()))
    assert worst < MARKER_PX
