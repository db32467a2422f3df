"""Detection of a capture's conventions by its masks, and of its world's up axis."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_capture import (
    MadeClip,
    as_smpl,
    cut,
    long_clip,
    write_actorshq,
    write_avatarrex,
    write_easymocap,
    write_zju,
)
from made_capture_more import write_colmap, write_nerfstudio
from scipy.spatial.transform import Rotation

from ash_core.captures.capture import Capture, Layout
from ash_core.captures.detect import Detection, detect
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.read import detect_layout, read_capture
from ash_core.captures.reading import OWN, Overrides
from ash_core.captures.world import UP_AXES, axis_vector, turn_of, up_rotation
from ash_core.errors import InputError

CAMERAS, FRAMES = 4, 6
WRITERS: dict[Layout, Callable[[Path, MadeClip], None]] = {
    "actorshq": write_actorshq,
    "zju": write_zju,
    "easymocap": write_easymocap,
    "colmap": write_colmap,
    "nerfstudio": write_nerfstudio,
}
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


@pytest.fixture(scope="module")
def clip() -> MadeClip:
    return long_clip("own", CAMERAS, FRAMES)


@pytest.fixture(scope="module")
def straight() -> MadeClip:
    return long_clip("none", CAMERAS, FRAMES)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, clip: MadeClip) -> Path:
    """Capture in the layout of AvatarReX, with lenses."""
    home = tmp_path_factory.mktemp("capture")
    write_avatarrex(home / "source", clip)
    return home


def capture_of(shelf: Path) -> Capture:
    return read_capture(shelf / "source", "avatarrex", Choice())


def with_viewmats(capture: Capture, viewmats: list[np.ndarray]) -> Capture:
    pairs = zip(capture.cameras, viewmats, strict=True)
    return replace(capture, cameras=tuple(replace(c, viewmat=v) for c, v in pairs))


def assert_same_cameras(detection: Detection, clip: MadeClip, atol: float = 1e-6) -> None:
    for camera, truth in zip(detection.cameras, clip.cameras, strict=True):
        np.testing.assert_allclose(camera.viewmat, truth.viewmat, atol=atol)
        np.testing.assert_allclose(camera.K, truth.K, rtol=1e-6)


@pytest.mark.parametrize("layout", list(WRITERS))
def test_each_layouts_own_reading_fits_its_masks(
    straight: MadeClip, tmp_path: Path, layout: Layout
) -> None:
    clip = cut(straight, 2)
    clip = as_smpl(clip) if layout in ("zju", "easymocap") else clip
    WRITERS[layout](tmp_path / "source", clip)
    assert detect_layout(tmp_path / "source") == layout
    capture = read_capture(tmp_path / "source", layout, Choice())
    detection = detect(capture, clip.rest_joints, Overrides())
    assert detection.trial.reading == OWN[layout]
    assert detection.trial.share > 0.95
    assert max(trial.share for trial in detection.others) < 0.5


@pytest.mark.parametrize(
    "fault", ["none", "mm", "cm", "inverse", "opengl", "both", "double", "half"]
)
def test_a_wrong_convention_is_found_and_put_right(shelf: Path, clip: MadeClip, fault: str) -> None:
    capture = capture_of(shelf)
    viewmats = [camera.viewmat.copy() for camera in capture.cameras]
    factor = {"mm": 1000.0, "cm": 100.0}.get(fault, 1.0)
    for viewmat in viewmats:
        viewmat[:3, 3] *= factor
    if fault in ("opengl", "both"):
        viewmats = [FLIP @ viewmat for viewmat in viewmats]
    if fault in ("inverse", "both"):
        viewmats = [np.linalg.inv(viewmat) for viewmat in viewmats]
    capture = with_viewmats(capture, viewmats)
    size = {"double": 2.0, "half": 0.5}.get(fault, 1.0)
    scale = np.diag([size, size, 1.0])
    cameras = tuple(replace(camera, K=scale @ camera.K) for camera in capture.cameras)
    detection = detect(replace(capture, cameras=cameras), clip.rest_joints, Overrides())
    reading = detection.trial.reading
    assert reading.units == (fault if fault in ("mm", "cm") else "m")
    assert (reading.extrinsics == "camera-to-world") == (fault in ("inverse", "both"))
    assert (reading.axes == "opengl") == (fault in ("opengl", "both"))
    assert reading.intrinsics == size
    assert_same_cameras(detection, clip)


def test_the_roots_rule_is_found(shelf: Path, clip: MadeClip) -> None:
    capture = capture_of(shelf)
    assert capture.poses is not None
    turned = Rotation.from_rotvec(capture.poses.rotations[:, 0]).apply(clip.rest_joints[0])
    places = capture.poses.translations + clip.rest_joints[0] - turned
    poses = replace(capture.poses, translations=places)
    detection = detect(replace(capture, poses=poses), clip.rest_joints, Overrides())
    assert detection.trial.reading.root == "origin"
    assert detection.poses is not None
    np.testing.assert_allclose(detection.poses.translations, clip.poses.translations, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_the_scale_of_cameras_without_a_unit_is_found(
    shelf: Path, clip: MadeClip, scale: float
) -> None:
    viewmats = [camera.viewmat.copy() for camera in clip.cameras]
    for viewmat in viewmats:
        viewmat[:3, 3] /= scale
    capture = replace(with_viewmats(capture_of(shelf), viewmats), layout="colmap")
    detection = detect(capture, clip.rest_joints, Overrides())
    assert detection.trial.scale == pytest.approx(scale, rel=1e-9 if scale == 1.0 else 0.05)
    assert detection.trial.reading == OWN["colmap"]


def test_poses_that_fit_no_mask_are_refused(shelf: Path, clip: MadeClip) -> None:
    capture = capture_of(shelf)
    assert capture.poses is not None
    moved = replace(
        capture.poses, translations=capture.poses.translations + np.array([1.1, -0.9, 0.7])
    )
    with pytest.raises(InputError, match=r"only .*% of the body's joints lie in the masks"):
        detect(replace(capture, poses=moved), clip.rest_joints, Overrides())


def test_a_flag_decides_instead_of_the_masks(shelf: Path, clip: MadeClip) -> None:
    capture = capture_of(shelf)
    with pytest.raises(InputError, match="--extrinsics"):
        detect(capture, clip.rest_joints, Overrides(extrinsics="camera-to-world"))
    detection = detect(capture, clip.rest_joints, Overrides(units="m"))
    assert {trial.reading.units for trial in detection.others} == {"m"}


# ---- the world ----


@pytest.mark.parametrize("up", UP_AXES)
def test_up_is_found_by_a_body_and_the_floor_by_its_feet(up: str) -> None:
    axis = axis_vector(up)  # type: ignore[arg-type]
    lean = np.random.default_rng(3).normal(0, 0.1, (50, 3))
    feet = axis * 0.7 + np.cross(np.random.default_rng(4).normal(0, 1, (50, 3)), axis)
    turn = turn_of(0.6 * axis + lean, feet, 0.02, None)
    assert turn.up == up
    R = up_rotation(up)  # type: ignore[arg-type]
    np.testing.assert_allclose(R @ axis, (0, 0, 1), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1.0)
    np.testing.assert_allclose(feet @ R[2] + turn.T_world_capture[2, 3], 0.02, atol=1e-9)


def test_a_world_that_is_not_level_is_levelled() -> None:
    axis = np.array([0.0, -0.8, 0.6])
    turn = turn_of(np.tile(axis, (5, 1)), np.zeros((5, 3)), 0.0, None)
    np.testing.assert_allclose(turn.T_world_capture[:3, :3] @ axis, (0, 0, 1), atol=1e-12)
