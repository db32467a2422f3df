"""Rotations: quaternions (wxyz), matrices, Euler angles, axis and angle. All batched, any dtype."""

import torch
from jaxtyping import Float
from torch import Tensor

SHORTEST = 1e-12
"""Shorter vectors count as this long: their gradient stays finite."""


def length(v: Float[Tensor, "*b n"]) -> Float[Tensor, "*b 1"]:
    """Length of short vectors; component by component, several times torch's own speed."""
    first, *rest = v.unbind(-1)
    square = first * first
    for part in rest:
        square = square + part * part
    return square.clamp(min=SHORTEST**2).sqrt()[..., None]


def unit(v: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
    """Short vectors at length one; zero stays zero."""
    return v / length(v)


def quat_multiply(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Hamilton product: turning by `b` first, then by `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        -1,
    )


def quat_conjugate(q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """The inverse of a unit quaternion."""
    return torch.cat((q[..., :1], -q[..., 1:]), -1)


def quat_rotate(q: Float[Tensor, "*b 4"], v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Turn vectors by unit quaternions."""
    w, u = q[..., :1], q[..., 1:]
    t = 2 * torch.linalg.cross(u, v)
    return v + w * t + torch.linalg.cross(u, t)


def quat_to_matrix(q: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a unit quaternion."""
    w, x, y, z = q.unbind(-1)
    return torch.stack(
        (
            1 - 2 * (y * y + z * z),
            2 * (x * y - w * z),
            2 * (x * z + w * y),
            2 * (x * y + w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z - w * x),
            2 * (x * z - w * y),
            2 * (y * z + w * x),
            1 - 2 * (x * x + y * y),
        ),
        -1,
    ).reshape(*q.shape[:-1], 3, 3)


def matrix_to_quat(m: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Quaternion of a rotation matrix, through its largest component; the sign is free."""
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    d, e, f = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    # Four times the square of each component; each row is four times that component times q.
    squares = torch.stack(
        (1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22), -1
    )
    rows = torch.stack(
        (
            torch.stack((squares[..., 0], a, b, c), -1),
            torch.stack((a, squares[..., 1], d, e), -1),
            torch.stack((b, d, squares[..., 2], f), -1),
            torch.stack((c, e, f, squares[..., 3]), -1),
        ),
        -2,
    )
    largest = squares.argmax(-1)
    row = rows.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    return unit(row)


def axis_angle_to_matrix(
    axis: Float[Tensor, "*b 3"], angle: Float[Tensor, "*b"]
) -> Float[Tensor, "*b 3 3"]:
    """Rotation about unit axes by angles in rad (Rodrigues)."""
    half = 0.5 * angle[..., None]
    return quat_to_matrix(torch.cat((torch.cos(half), torch.sin(half) * axis), -1))


def euler_to_matrix(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rz(z) Ry(y) Rx(x) from angles (x, y, z) in rad.

    Source: docs/released_behaviour.md A10, the release's order.
    """
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    return torch.stack(
        (
            cz * cy,
            cz * sy * sx - sz * cx,
            cz * sy * cx + sz * sx,
            sz * cy,
            sz * sy * sx + cz * cx,
            sz * sy * cx - cz * sx,
            -sy,
            cy * sx,
            cy * cx,
        ),
        -1,
    ).reshape(*angles.shape[:-1], 3, 3)


def matrix_to_euler(m: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Angles (x, y, z) in rad, the inverse of `euler_to_matrix`; y in [-pi/2, pi/2]."""
    sy = torch.hypot(m[..., 0, 0], m[..., 1, 0])
    return torch.stack(
        (
            torch.atan2(m[..., 2, 1], m[..., 2, 2]),
            torch.atan2(-m[..., 2, 0], sy),
            torch.atan2(m[..., 1, 0], m[..., 0, 0]),
        ),
        -1,
    )
