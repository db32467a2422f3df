"""Laws of rotations and dual quaternions."""

import torch
from torch.testing import assert_close

from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.rotations import (
    axis_angle_to_matrix,
    euler_to_matrix,
    matrix_to_euler,
    matrix_to_quat,
    quat_conjugate,
    quat_multiply,
    quat_rotate,
    quat_to_matrix,
)


def random_quats(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(*shape, 4, dtype=torch.float64), dim=-1)


def test_quaternions_compose_and_turn_as_their_matrices() -> None:
    a, b = random_quats(2, 50)
    v = torch.randn(50, 3, dtype=torch.float64)
    assert_close(quat_to_matrix(quat_multiply(a, b)), quat_to_matrix(a) @ quat_to_matrix(b))
    assert_close(quat_rotate(a, v), (quat_to_matrix(a) @ v[..., None])[..., 0])
    assert_close(quat_to_matrix(quat_conjugate(a)), quat_to_matrix(a).transpose(-1, -2))


def test_matrix_to_quat_inverts_at_every_half_turn() -> None:
    half_turns = torch.diag_embed(
        torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]])
    )
    matrices = torch.cat((quat_to_matrix(random_quats(100)), half_turns.double()))
    assert_close(quat_to_matrix(matrix_to_quat(matrices)), matrices)


def test_euler_angles_round_trip_and_are_rz_ry_rx() -> None:
    torch.manual_seed(1)
    angles = (torch.rand(100, 3, dtype=torch.float64) - 0.5) * torch.tensor([6.2, 3.1, 6.2])
    assert_close(matrix_to_euler(euler_to_matrix(angles)), angles)
    x, y, z = torch.eye(3, dtype=torch.float64)[:, None].expand(3, 100, 3)
    turn = [axis_angle_to_matrix(axis, angles[:, i]) for i, axis in enumerate((x, y, z))]
    assert_close(euler_to_matrix(angles), turn[2] @ turn[1] @ turn[0])


def random_transforms(n: int) -> torch.Tensor:
    transforms = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    transforms[:, :3, :3] = quat_to_matrix(random_quats(n))
    transforms[:, :3, 3] = torch.randn(n, 3, dtype=torch.float64)
    return transforms


def test_dual_quaternions_move_points_as_their_matrices() -> None:
    transforms = random_transforms(30)
    real, dual = dq.from_matrix(transforms)
    assert_close(dq.to_matrix(real, dual), transforms[:, :3])
    points = torch.randn(30, 3, dtype=torch.float64)
    moved = (transforms[:, :3, :3] @ points[..., None])[..., 0] + transforms[:, :3, 3]
    assert_close(dq.apply(real, dual, points), moved)


def test_blend_is_blind_to_quaternion_sign_and_rigid() -> None:
    real, dual = (part.reshape(10, 3, 4) for part in dq.from_matrix(random_transforms(30)))
    weights = torch.rand(10, 3, dtype=torch.float64)
    weights = weights / weights.sum(-1, keepdim=True)
    flips = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)[:, None]
    want = dq.to_matrix(*dq.blend(real, dual, weights, real[:, 0]))
    got = dq.to_matrix(*dq.blend(real * flips, dual * flips, weights, real[:, 0]))
    assert_close(got, want)
    rotation = want[..., :3]
    assert_close(rotation @ rotation.transpose(-1, -2), torch.eye(3).double().expand(10, 3, 3))


def test_blending_a_transform_with_itself_gives_it_back() -> None:
    transforms = random_transforms(7)
    real, dual = (part[:, None].expand(7, 4, 4) for part in dq.from_matrix(transforms))
    weights = torch.full((7, 4), 0.25, dtype=torch.float64)
    assert_close(dq.to_matrix(*dq.blend(real, dual, weights, real[:, 0])), transforms[:, :3])
