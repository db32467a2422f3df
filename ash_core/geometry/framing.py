"""Cameras that keep a moving person's surface in the picture: from the front, or round it."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ash_core.conventions import NEAR_M, R_WORLD_BODY
from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.geometry.kinematics import joint_transforms
from ash_core.records import AvatarData, Camera, DrawableData, Skeleton, Skinning, SplatData

MARGIN: Final = 0.08
"""Room about the posed surface, in half its greatest extent: cloth and hair stand off the skin."""

ELEVATION_RAD: Final = math.radians(6.0)
"""The eye stands a little above the middle of the body."""

SIDE_NAMES: Final = (("Left", "Right"), ("left", "right"), ("_L", "_R"), (".L", ".R"), ("L_", "R_"))

MOST_POSES: Final = 250
"""Longer sequences are framed by this many of their poses, evenly spaced."""
POSES_AT_ONCE: Final = 32
"""Bounds the memory of posing."""

UPRIGHT: Final = 0.3
"""Horizontal part of the chest's direction below which a person lies."""
FOCUS: Final = 8.0
"""Concentration of the window of directions, about 20 degrees wide, that is looked in longest."""


def joint_positions(skeleton: Skeleton, dofs: Float[Tensor, "*b D"]) -> Float[Tensor, "*b J 3"]:
    """Joint origins in the world, m."""
    in_body = joint_transforms(skeleton, dofs)[..., :3, 3]
    return in_body @ torch.tensor(R_WORLD_BODY).to(in_body).T


class Figure:
    """The outermost vertices of an avatar's template, posed by its bones alone.

    Graph networks move them by centimetres at most; `MARGIN` has room for that.
    """

    def __init__(self, data: AvatarData) -> None:
        self.skeleton, skinning = data.skeleton, data.skinning
        self._bone_joints = skinning.bone_joints
        rest = joint_transforms(data.skeleton, data.rest_dofs)
        self._rest_inverse = torch.linalg.inv(rest[skinning.bone_joints])
        vertices = data.template.vertices
        chosen = _outermost(vertices, skinning)
        weights = torch.zeros(len(chosen), len(skinning.bone_joints), dtype=torch.float64)
        self._weights = weights.scatter_add(
            1, skinning.bones[chosen], skinning.weights[chosen].double()
        )
        self._points = vertices[chosen].double()
        self._carriers, self._rest_ahead = _rest_facing(data, rest)

    def surface(self, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "F P 3"]:
        """Pose the outermost vertices; world, m."""
        parts = [self._posed(some) for some in dofs.split(POSES_AT_ONCE)]
        return torch.cat(parts) @ torch.tensor(R_WORLD_BODY).to(parts[0]).T

    def _posed(self, dofs: Float[Tensor, "f D"]) -> Float[Tensor, "f P 3"]:
        joints = joint_transforms(self.skeleton, dofs)[:, self._bone_joints]
        moves = (joints @ self._rest_inverse.to(dofs))[:, :, :3]
        # One product blends the bones of all poses: columns x, y, z and translation.
        flat = moves.permute(1, 0, 3, 2).flatten(1)
        blended = (self._weights.to(dofs) @ flat).reshape(-1, len(dofs), 4, 3)
        x, y, z = self._points.to(dofs)[:, None, :, None].unbind(2)
        columns = blended.unbind(2)
        posed = columns[0] * x + columns[1] * y + columns[2] * z + columns[3]
        return posed.transpose(0, 1)

    def chests(self, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "F 3"]:
        """Directions in which the chest points in each pose, world; up to unit length."""
        turned = joint_transforms(self.skeleton, dofs)[:, self._carriers, :3, :3]
        ahead = torch.einsum("fcij,cj->fi", turned, self._rest_ahead.to(dofs))
        return ahead @ torch.tensor(R_WORLD_BODY).to(ahead).T

    def facing(self, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "3"]:
        """Find the horizontal direction in which the chest points longest; see `facing`."""
        chests = self.chests(dofs)[:, :2]
        weights = chests.norm(dim=1)
        if float(weights.max()) < UPRIGHT:
            joints = joint_positions(self.skeleton, dofs[0])
            along = joints[:, :2] - joints[:, :2].mean(0)
            _, _, axes = torch.linalg.svd(along, full_matrices=False)
            return torch.stack((-axes[0, 1], axes[0, 0], torch.zeros_like(axes[0, 0])))
        ways = chests / weights[:, None].clamp_min(1e-9)
        near = weights * ((ways @ ways.T - 1.0) * FOCUS).exp()
        best = int(near.sum(1).argmax())
        middle = (near[best, :, None] * ways).sum(0)
        return torch.cat((middle / middle.norm(), middle.new_zeros(1)))


class Box:
    """The corners of the box about static splats, the same in every pose."""

    def __init__(self, data: SplatData) -> None:
        self._corners = torch.cartesian_prod(*data.box.double().T)

    def surface(self, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "F 8 3"]:
        """Repeat the corners for each pose; world, m."""
        return self._corners.expand(len(dofs), -1, -1)

    def facing(self, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "3"]:
        """Return the direction in which an avatar looks at rest, for want of another."""
        return torch.tensor(R_WORLD_BODY)[:, 2].to(dofs)


def make_outline(data: DrawableData) -> Figure | Box:
    """Make the outline by which either kind is framed."""
    return Box(data) if isinstance(data, SplatData) else Figure(data)


def facing(data: DrawableData, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "3"]:
    """Find the horizontal direction, unit, in which a person looks longest in a motion.

    A pose that is turned by accident, as first frames are, counts no more than others. Who lies all
    the time is seen from the side. Without names of sides the body looks along +Z at rest.
    """
    return make_outline(data).facing(_thinned(dofs))


def front_camera(
    data: DrawableData,
    dofs: Float[Tensor, "F D"],
    fov_y_rad: float,
    width: int,
    height: int,
) -> Camera:
    """Place a still camera before the person that sees all of its surface in every pose."""
    points = make_outline(data).surface(_thinned(dofs)).flatten(0, 1)
    target = _middle(points)
    towards_eye = _raised(facing(data, dofs))
    distance = _distance(points - target, towards_eye, fov_y_rad, width / height)
    viewmat = look_at(target + distance * towards_eye, target).float()
    return camera_from_fov(viewmat, fov_y_rad, width, height)


def orbit_cameras(
    data: DrawableData,
    dofs: Float[Tensor, "F D"],
    fov_y_rad: float,
    width: int,
    height: int,
    smoothing_frames: float = 25.0,
) -> list[Camera]:
    """Place one camera a frame: a full turn about the person, beginning at its front, following it.

    The height stays; the place follows the body's, averaged over `smoothing_frames`.
    """
    count = len(dofs)
    surface = make_outline(data).surface(dofs)
    target = _smoothed((surface.amin(1) + surface.amax(1)) / 2, smoothing_frames)
    target[:, 2] = (surface[..., 2].amin() + surface[..., 2].amax()) / 2
    ahead = facing(data, dofs)
    towards_eye = [_raised(_turned(ahead, math.tau * n / count)) for n in range(count)]
    distance = max(
        _distance(surface[n] - target[n], towards_eye[n], fov_y_rad, width / height)
        for n in range(count)
    )
    viewmats = [
        look_at(target[n] + distance * towards_eye[n], target[n]).float() for n in range(count)
    ]
    return [camera_from_fov(viewmat, fov_y_rad, width, height) for viewmat in viewmats]


def motion_middle(data: DrawableData, dofs: Float[Tensor, "F D"]) -> Float[Tensor, "3"]:
    """Find the middle of the space that the person's surface takes in a motion; world, m."""
    return _middle(make_outline(data).surface(_thinned(dofs)).flatten(0, 1))


def is_in_picture(camera: Camera, points: Float[Tensor, "P 3"]) -> bool:
    """Tell whether any of the points lies before the camera and inside its picture."""
    viewmat = camera.viewmat.to(points)
    in_camera = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    in_camera = in_camera[in_camera[:, 2] > NEAR_M] @ camera.K.to(points).T
    pixels = in_camera[:, :2] / in_camera[:, 2:]
    size = torch.tensor([camera.width, camera.height]).to(points)
    return bool(((pixels > 0) & (pixels < size)).all(1).any())


def _outermost(vertices: Float[Tensor, "V 3"], skinning: Skinning) -> Int[Tensor, "P"]:
    """List the vertices that stand out furthest, along 26 directions, of those of each bone."""
    steps = torch.tensor([-1.0, 0.0, 1.0])
    directions = torch.cartesian_prod(steps, steps, steps)
    directions = directions[directions.abs().sum(1) > 0]
    reach = vertices @ torch.nn.functional.normalize(directions, dim=1).T
    heaviest = skinning.weights.argmax(1, keepdim=True)
    owner = skinning.bones.gather(1, heaviest)[:, 0]
    chosen = [
        rows[reach[rows].argmax(0)]
        for bone in owner.unique()
        if len(rows := torch.nonzero(owner == bone)[:, 0])
    ]
    return torch.cat(chosen).unique()


def _rest_facing(
    data: AvatarData, rest: Float[Tensor, "J 4 4"]
) -> tuple[list[int], Float[Tensor, "C 3"]]:
    """List the joints that carry the chest, and in their frames the direction ahead at rest.

    They are the parents of limbs; up crossed with left-to-right points ahead. Without names of
    sides it is the joint with most of the skin, which looks along the body's +Z.
    """
    across = rest.new_zeros(3)
    widths: dict[int, float] = {}
    for left, right in _limb_starts(data.skeleton):
        between = rest[right, :3, 3] - rest[left, :3, 3]
        across = across + between
        parent = int(data.skeleton.parents[left])
        if parent >= 0:
            widths[parent] = widths.get(parent, 0.0) + float(between.norm())
    ahead = torch.stack((across[2], torch.zeros_like(across[0]), -across[0]))
    if not widths or float(ahead.norm()) < 1e-3:
        skinning = data.skinning
        mass = torch.zeros(len(skinning.bone_joints)).index_add(
            0, skinning.bones.flatten(), skinning.weights.flatten().float()
        )
        widths = {int(skinning.bone_joints[int(mass.argmax())]): 1.0}
        ahead = rest.new_tensor([0.0, 0.0, 1.0])
    # Wide limbs, as hips and shoulders, count more than eyes do.
    carriers = sorted(widths)
    shares = rest.new_tensor([widths[joint] / sum(widths.values()) for joint in carriers])
    turns = rest[carriers, :3, :3]
    return carriers, shares[:, None] * torch.einsum("cij,i->cj", turns, ahead / ahead.norm())


def _limb_starts(skeleton: Skeleton) -> list[tuple[int, int]]:
    """(left, right) joints of the same name and parent: shoulders and hips."""
    names = {name: joint for joint, name in enumerate(skeleton.joint_names)}
    pairs = {
        (joint, names[other])
        for name, joint in names.items()
        for left, right in SIDE_NAMES
        if (other := name.replace(left, right)) in names and other != name
    }
    parents: Sequence[int] = skeleton.parents.tolist()
    return sorted((left, right) for left, right in pairs if parents[left] == parents[right])


def _middle(points: Float[Tensor, "P 3"]) -> Float[Tensor, "3"]:
    return (points.amin(0) + points.amax(0)) / 2


def _distance(
    points: Float[Tensor, "P 3"],
    towards_eye: Float[Tensor, "3"],
    fov_y_rad: float,
    aspect: float,
) -> float:
    """Find the least distance of the eye from the origin that shows the points with a margin, m."""
    viewmat = look_at(towards_eye, torch.zeros_like(towards_eye)).to(points)
    x, y, z = (points @ viewmat[:3, :3].T).unbind(-1)
    margin = MARGIN * float(points.abs().max())
    tangent = math.tan(fov_y_rad / 2)
    across = (x.abs() + margin) / (tangent * aspect) - z
    upright = (y.abs() + margin) / tangent - z
    return max(float(torch.maximum(across, upright).max()), 2 * NEAR_M)


def _thinned(dofs: Float[Tensor, "F D"]) -> Float[Tensor, "f D"]:
    return dofs[:: max(1, math.ceil(len(dofs) / MOST_POSES))]


def _raised(ahead: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    up = torch.tensor([0.0, 0.0, 1.0]).to(ahead)
    return math.cos(ELEVATION_RAD) * ahead + math.sin(ELEVATION_RAD) * up


def _turned(ahead: Float[Tensor, "3"], angle_rad: float) -> Float[Tensor, "3"]:
    """About the world's vertical, anticlockwise seen from above."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return torch.stack((cos * ahead[0] - sin * ahead[1], sin * ahead[0] + cos * ahead[1], ahead[2]))


def _smoothed(track: Float[Tensor, "F 3"], width: float) -> Float[Tensor, "F 3"]:
    """Average over a Gaussian window of the frames that exist."""
    reach = min(math.ceil(3 * width), len(track))
    offsets = torch.arange(-reach, reach + 1).to(track)
    kernel = torch.exp(-0.5 * (offsets / width) ** 2)[None, None]
    rows = torch.cat((track, torch.ones_like(track[:, :1])), 1).T[:, None]
    sums = torch.nn.functional.conv1d(rows, kernel, padding=reach)[:, 0].T
    return sums[:, :3] / sums[:, 3:]
