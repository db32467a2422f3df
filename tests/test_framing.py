"""Cameras that follow a character must see all of it, from where they promise to stand."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import figure

from ash_core.conventions import R_WORLD_BODY
from ash_core.geometry import framing
from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.records import AvatarData, Camera, Gaussians, Skeleton, SplatData

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


def spots(camera: Camera, data: AvatarData, dofs: torch.Tensor) -> torch.Tensor:
    return project(camera, framing.Figure(data).surface(dofs).reshape(-1, 3))


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
    data = figure(skeleton)
    camera = framing.front_camera(data, walk, FOV, WIDTH, HEIGHT)
    assert_seen(camera, framing.Figure(data).surface(walk).reshape(-1, 3))
    # At rest the left arm is at body +X, up is +Y: ahead is body +Z, which is world +X.
    still = torch.zeros(3, 4, dtype=torch.float64)
    assert framing.facing(data, still).tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    camera = framing.front_camera(data, still, FOV, WIDTH, HEIGHT)
    assert eye(camera)[0] > 1.0


def test_front_camera_is_no_further_than_needed(skeleton: Skeleton, walk: torch.Tensor) -> None:
    data = figure(skeleton)
    pixels = spots(framing.front_camera(data, walk[:1], FOV, WIDTH, HEIGHT), data, walk[:1])
    assert pixels[:, 1].max() - pixels[:, 1].min() > 0.8 * HEIGHT


def test_facing_follows_the_turn(skeleton: Skeleton) -> None:
    turned = torch.tensor([[0.0, 0.0, 0.0, math.pi / 2]], dtype=torch.float64)
    # A quarter turn about body +Y takes +Z to +X, which is world +Y.
    got = framing.facing(figure(skeleton), turned)
    assert got.tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_front_faces_the_person_who_is_turned_in_frame_0(skeleton: Skeleton) -> None:
    """A T-pose the other way round at the start decides nothing; the longest view does."""
    dofs = torch.zeros(60, 4, dtype=torch.float64)
    dofs[0, 3] = math.pi
    dofs[1:, 3] = torch.linspace(-0.2, 0.2, 59, dtype=torch.float64)
    data = figure(skeleton)
    assert framing.facing(data, dofs)[0] > 0.99
    assert eye(framing.front_camera(data, dofs, FOV, WIDTH, HEIGHT))[0] > 1.0
    dofs[:20, 3] = math.pi  # a third of the time
    assert framing.facing(data, dofs)[0] > 0.95
    first = framing.orbit_cameras(data, dofs, FOV, WIDTH, HEIGHT)[0]
    assert eye(first)[0] > 1.0


def one_joint() -> Skeleton:
    """A joint at the feet that turns about the vertical, without names of sides."""
    return Skeleton(
        joint_names=("only",),
        parents=torch.tensor([-1]),
        is_prismatic=torch.tensor([False]),
        axes=torch.tensor([[0.0, 1.0, 0.0]]),
        offsets=torch.zeros(1, 3),
        dof_names=("turn",),
        dof_limits=torch.tensor([[-math.inf, math.inf]]),
        dof_matrix=torch.eye(1),
    )


@pytest.mark.parametrize("height", [0.6, 1.5, 30.0])
def test_a_figure_of_one_joint_is_seen_whole(height: float) -> None:
    """Its only joint, at its feet, says nothing of its size; ahead turns with it."""
    corners = torch.cartesian_prod(*[torch.tensor([-0.2, 0.2])] * 3) * height
    corners[:, 1] = (corners[:, 1] > 0) * height
    data = figure(one_joint(), corners)
    turned = torch.full((4, 1), math.pi / 2, dtype=torch.float64)
    assert framing.facing(data, turned).tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    front = framing.front_camera(data, turned, FOV, WIDTH, HEIGHT)
    for camera in (front, *framing.orbit_cameras(data, turned, FOV, WIDTH, HEIGHT)):
        pixels = spots(camera, data, turned)
        assert_seen(camera, framing.Figure(data).surface(turned).reshape(-1, 3))
        assert pixels[:, 1].max() - pixels[:, 1].min() > 0.7 * HEIGHT
    middle = framing.motion_middle(data, turned)
    assert middle.tolist() == pytest.approx([0, 0, height / 2], abs=1e-5)


def test_a_head_of_half_the_height_is_seen(skeleton: Skeleton) -> None:
    """Joints end at the neck, 0.8 m up; the head reaches to 1.6 m and is 0.9 m wide."""
    ring = torch.linspace(0, math.tau, 40)
    head = torch.stack((0.45 * ring.cos(), 1.2 + 0.4 * ring.sin(), torch.zeros(40)), 1)
    data = figure(skeleton, torch.cat((head, torch.zeros(1, 3))), bone=6)
    dofs = torch.zeros(1, 4, dtype=torch.float64)
    camera = framing.front_camera(data, dofs, FOV, WIDTH, HEIGHT)
    world = head.double() @ torch.tensor(R_WORLD_BODY).double().T
    assert_seen(camera, world)


def test_who_lies_is_seen_from_the_side(skeleton: Skeleton) -> None:
    """The chest points up: the eye stands beside the body, not at its feet."""
    lying = replace(skeleton, axes=skeleton.axes.clone())
    lying.axes[3] = torch.tensor([1.0, 0.0, 0.0])
    dofs = torch.zeros(5, 4, dtype=torch.float64)
    dofs[:, 3] = -math.pi / 2
    tall = figure(lying)
    assert abs(float(framing.Figure(tall).chests(dofs)[0, 2])) > 0.99
    ahead = framing.facing(tall, dofs)
    # Head to feet is the longest way of the joints: body +Z or -Z, world X.
    assert abs(float(ahead[1])) > 0.9


def test_what_a_camera_shows() -> None:
    camera = camera_from_fov(
        look_at(torch.tensor([3.0, 0, 1]), torch.tensor([0.0, 0, 1])), FOV, 64, 48
    )
    inside, beside, behind = ([0.0, 0, 1], [0.0, 9, 1], [6.0, 0, 1])
    assert framing.is_in_picture(camera, torch.tensor([behind, inside]))
    assert not framing.is_in_picture(camera, torch.tensor([beside, behind]))


def test_orbit_goes_round_once_and_sees_every_pose(skeleton: Skeleton, walk: torch.Tensor) -> None:
    data = figure(skeleton)
    cameras = framing.orbit_cameras(data, walk, FOV, WIDTH, HEIGHT)
    for camera, pose in zip(cameras, framing.Figure(data).surface(walk), strict=True):
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
    data = figure(skeleton)
    toe = skeleton.joint_names.index("LeftFootEE")
    heel = skeleton.joint_names.index("LeftFoot_rx")
    ahead = framing.facing(data, motion.dofs[:1])
    assert ahead @ (positions[toe] - positions[heel]) > 0.15


def test_static_splats_are_framed_by_their_box() -> None:
    """The front is the side that avatars look to in every pose, all corners in the image."""
    g = Gaussians(*(torch.zeros(0, n) for n in (3, 4, 3)), torch.zeros(0), torch.zeros(0, 1, 3))
    data = SplatData("box", g, torch.tensor([[0.0, 1.0, 2.0], [1.0, 3.0, 5.0]]))
    dofs = torch.zeros(3, 0).double()
    surface = framing.make_outline(data).surface(dofs)
    assert surface.shape == (3, 8, 3)
    assert torch.equal(surface[0], surface[2])
    assert surface[0].amin(0).tolist() == [0, 1, 2]
    assert surface[0].amax(0).tolist() == [1, 3, 5]
    assert len(surface[0].unique(dim=0)) == 8
    assert framing.facing(data, dofs).tolist() == [1, 0, 0]
    assert_seen(framing.front_camera(data, dofs, FOV, WIDTH, HEIGHT), surface[0])
    for camera in framing.orbit_cameras(data, dofs, FOV, WIDTH, HEIGHT):
        assert_seen(camera, surface[0])
