"""Cameras that follow a character must see all of it, from where they promise to stand."""

import math
from pathlib import Path

import pytest
import torch

from ash_core.geometry import framing
from ash_core.records import Camera, Skeleton

WIDTH, HEIGHT, FOV = 640, 480, math.radians(40.0)


@pytest.fixture
def skeleton() -> Skeleton:
    """A T: a root that slides along x, y, z and turns about y; two shoulders, a head, two feet."""
    names = ("tx", "ty", "tz", "ry", "LeftArm", "RightArm", "Head", "LeftLeg", "RightLeg")
    offsets = torch.zeros(9, 3)
    offsets[4:] = torch.tensor(
        [[0.6, 1.4, 0.0], [-0.6, 1.4, 0.0], [0, 1.7, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]]
    )
    axes = torch.eye(3)[[0, 1, 2, 1, 0, 0, 0, 0, 0]]
    return Skeleton(
        joint_names=names,
        parents=torch.tensor([-1, 0, 1, 2, 3, 3, 3, 3, 3]),
        is_prismatic=torch.tensor([True] * 3 + [False] * 6),
        axes=axes,
        offsets=offsets,
        dof_names=("x", "y", "z", "turn"),
        dof_limits=torch.tensor([[-math.inf, math.inf]] * 4),
        dof_matrix=torch.eye(9, 4),
    )


@pytest.fixture
def walk() -> torch.Tensor:
    """Forty frames of a curve with a turn."""
    t = torch.linspace(0, 1, 40, dtype=torch.float64)
    return torch.stack((2 * t, 0.1 * (9 * t).sin(), 1.5 * t**2, 3 * t), 1)


def project(camera: Camera, points: torch.Tensor) -> torch.Tensor:
    in_camera = points.float() @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    assert (in_camera[:, 2] > 0).all()
    on_film = in_camera @ camera.K.T
    return on_film[:, :2] / on_film[:, 2:]


def assert_seen(camera: Camera, points: torch.Tensor) -> None:
    pixels = project(camera, points)
    assert (pixels >= 0).all()
    assert (pixels <= torch.tensor([WIDTH, HEIGHT])).all()


def eye(camera: Camera) -> torch.Tensor:
    return -camera.viewmat[:3, :3].T @ camera.viewmat[:3, 3]


def test_front_camera_sees_every_pose_from_ahead(skeleton: Skeleton, walk: torch.Tensor) -> None:
    camera = framing.front_camera(skeleton, walk, FOV, WIDTH, HEIGHT)
    poses = framing.joint_positions(skeleton, walk)
    assert_seen(camera, poses.reshape(-1, 3))
    # At rest the left arm is at body +X, up is +Y: ahead is body +Z, which is world +X.
    assert framing.facing(skeleton, poses[0]).tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert eye(camera)[0] > poses[..., 0].max()


def test_front_camera_is_no_further_than_needed(skeleton: Skeleton, walk: torch.Tensor) -> None:
    camera = framing.front_camera(skeleton, walk[:1], FOV, WIDTH, HEIGHT)
    pixels = project(camera, framing.joint_positions(skeleton, walk[0]))
    assert pixels[:, 1].max() - pixels[:, 1].min() > 0.6 * HEIGHT


def test_facing_follows_the_turn(skeleton: Skeleton) -> None:
    turned = torch.tensor([0.0, 0.0, 0.0, math.pi / 2], dtype=torch.float64)
    got = framing.facing(skeleton, framing.joint_positions(skeleton, turned))
    # A quarter turn about body +Y takes +Z to +X, which is world +Y.
    assert got.tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_orbit_goes_round_once_and_sees_every_pose(skeleton: Skeleton, walk: torch.Tensor) -> None:
    cameras = framing.orbit_cameras(skeleton, walk, FOV, WIDTH, HEIGHT)
    poses = framing.joint_positions(skeleton, walk)
    for camera, pose in zip(cameras, poses, strict=True):
        assert_seen(camera, pose)
    forward = torch.stack([camera.viewmat[2, :2] for camera in cameras])
    headings = torch.atan2(forward[:, 1], forward[:, 0])
    steps = torch.remainder(headings[1:] - headings[:-1], math.tau)
    torch.testing.assert_close(steps, torch.full((39,), math.tau / 40), atol=1e-4, rtol=0.0)


def test_smoothing_keeps_what_is_still_and_lasts_for_long_tracks() -> None:
    still = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).expand(100_000, 3)
    torch.testing.assert_close(framing._smoothed(still, 25.0), still)
    shaken = still[:50] + torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]], dtype=torch.float64).repeat(
        25, 1
    )
    assert (framing._smoothed(shaken, 5.0) - still[:50]).abs().max() < 0.15


def test_published_character_is_seen_from_the_front(reference: Path) -> None:
    from ash_core.files.skeletool import read_motion, read_skeleton

    skeleton = read_skeleton(reference / "ddc_sample" / "ddc.skeleton")
    motion = read_motion(reference / "ddc_sample" / "ddc.motion", skeleton)
    positions = framing.joint_positions(skeleton, motion.dofs[0])
    toe = skeleton.joint_names.index("LeftFootEE")
    heel = skeleton.joint_names.index("LeftFoot_rx")
    ahead = framing.facing(skeleton, positions)
    assert ahead @ (positions[toe] - positions[heel]) > 0.15
