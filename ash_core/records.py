"""Frozen records shared by all packages. Shapes, units and frames; no behaviour.

Tensors are float32 unless stated otherwise, integers int64. Units and letters: `conventions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ash_core.conventions import FPS, Up
from ash_core.errors import InputError
from ash_core.variants import HistoryOffsets, VariantName

Numbers = Tensor | np.ndarray | Sequence[Any]
"""An array, or nested lists of numbers."""


@dataclass(frozen=True)
class Skeleton:
    """A tree of one-degree-of-freedom joints, driven by dofs through a matrix."""

    joint_names: tuple[str, ...]
    parents: Int[Tensor, "J"]
    """Parent joint, always listed before its child; -1 for the root."""
    is_prismatic: Bool[Tensor, "J"]
    """True: the joint slides along its axis (m); False: it turns about it (rad)."""
    axes: Float[Tensor, "J 3"]
    """Unit axes in the joint's own frame."""
    offsets: Float[Tensor, "J 3"]
    """Joint origin in the parent's frame, m (the file's offset times its scale column)."""
    dof_names: tuple[str, ...]
    dof_limits: Float[Tensor, "D 2"]
    """Lower and upper bound; infinite for `nolimits` in the file. For sliders, never applied."""
    dof_matrix: Float[Tensor, "J D"]
    """Joint values (m for prismatic, rad for revolute joints) = dof_matrix @ dofs."""


@dataclass(frozen=True)
class Skinning:
    """Bones that move each vertex, in the file's order (the first one is the sign reference)."""

    bone_names: tuple[str, ...]
    bone_joints: Int[Tensor, "B"]
    """Joint that carries each bone: the last one whose name before `_` is the bone's."""
    bones: Int[Tensor, "V S"]
    """Bones of each vertex; padded with the vertex's first bone at weight 0."""
    weights: Float[Tensor, "V S"]
    """Weights as the file gives them: they sum to one to its precision, never renormalised."""


@dataclass(frozen=True)
class Template:
    """The textured mesh in its rest pose: body frame, m."""

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    corner_uvs: Float[Tensor, "F 3 2"]
    """float64: texture coordinates of each face corner as in the OBJ file, v up, in [0, 1]."""
    texture: UInt8[Tensor, "h w 3"]
    """RGB, row 0 at the top (v = 1)."""


@dataclass(frozen=True)
class GraphMesh:
    """The embedded graph's own mesh: a coarse copy of the template. Body frame, m."""

    vertices: Float[Tensor, "G 3"]
    faces: Int[Tensor, "E 3"]


@dataclass(frozen=True)
class Motion:
    """A sequence of poses."""

    dofs: Float[Tensor, "F D"]
    """float64 as parsed. The first three are the root's translation in m; then angles in rad."""
    normalised: Float[Tensor, "F 3 D"] | None = None
    """Rows n-2, n-1, n of each frame n, from a published `...RotationNormalized.motion`. None: they
    are computed (geometry.motion)."""
    fps: float = FPS
    name: str = ""

    @classmethod
    def from_arrays(cls, dofs: Numbers, fps: float = FPS, name: str = "") -> "Motion":
        """Make a motion of arrays. dofs: [F, D], m and rad. Raises: InputError.

        >>> ash.Motion.from_arrays(np.zeros((50, 81))).dofs.shape
        torch.Size([50, 81])
        """
        return cls(as_tensor("dofs", dofs, torch.float64), fps=fps, name=name)


@dataclass(frozen=True)
class PoseWindow:
    """Pose and pose history at one frame: input of the character. float64."""

    dofs: Float[Tensor, "H D"]
    """The newest pose and the earlier ones at the avatar's history offsets."""
    normalised: Float[Tensor, "H 3 D"]
    """For each of those frames n the poses n-2, n-1, n relative to n (geometry.motion)."""
    cloth: Float[Tensor, "H W 3"] | None = None
    """float32: places of the cloth's vertices at those poses, body frame, m (cloth.surface). None:
    they are where the skinning has them."""


@dataclass(frozen=True)
class PosePlace:
    """Place of a window's poses in a motion whose training frames are corrected."""

    frames: Int[Tensor, "H 3"]
    """Frames n-2, n-1 and n of each pose, the newest pose first."""
    rows: Int[Tensor, "3"]
    """Training frames before, at and after the newest pose, by their order; at an end it itself."""
    has_bend: Float[Tensor, ""]
    """1 where these three are of one take, 0 elsewhere."""


@dataclass(frozen=True)
class PosedMesh:
    """The deformed character: body frame, m; history newest first."""

    vertices: Float[Tensor, "H V 3"]
    normals: Float[Tensor, "H V 3"]
    """Unit."""
    canonical: Float[Tensor, "V 3"]
    """Deformed but not posed: template + graph deformation + vertex displacement, newest frame."""
    real: Float[Tensor, "V 4"]
    dual: Float[Tensor, "V 4"]
    """Dual quaternion that takes canonical to posed, newest frame; wxyz, translation in m."""
    joints: Float[Tensor, "J 3"]
    root: Float[Tensor, "3"]
    """First three dofs of the newest pose, m: origin of the published networks' positions."""


@dataclass(frozen=True)
class Surface:
    """Posed template: world frame, m."""

    vertices: Float[Tensor, "V 3"]
    normals: Float[Tensor, "V 3"]
    """Unit."""


@dataclass(frozen=True)
class Atlas:
    """The texels of a UV atlas that lie on the mesh: one Gaussian each, u-major order."""

    resolution: int
    texels: Int[Tensor, "N 2"]
    """(iu, iv) of each texel."""
    faces: Int[Tensor, "N"]
    barycentrics: Float[Tensor, "N 3"]
    corners: Int[Tensor, "N 3"]
    """Vertices of the texel's face."""


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians in the world frame; every value activated."""

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    """Unit, wxyz; the rotation that takes the Gaussian's own axes to world."""
    scales: Float[Tensor, "N 3"]
    """Standard deviations, m."""
    opacities: Float[Tensor, "N"]
    sh: Float[Tensor, "N K 3"]
    """Spherical-harmonic colour, K in {1, 4, 9, 16}; rgb = max(0, 0.5 + basis(direction) @ sh)."""

    @classmethod
    def from_arrays(
        cls, means: Numbers, quats: Numbers, scales: Numbers, opacities: Numbers, sh: Numbers
    ) -> "Gaussians":
        """Make Gaussians of arrays, float32; a tensor stays as it is, with its gradients.

        Shapes and units: as the fields'. Raises: InputError.

        >>> one = ash.Gaussians.from_arrays(
        ...     means=np.zeros((1, 3)), quats=[[1, 0, 0, 0]], scales=np.full((1, 3), 0.1),
        ...     opacities=[0.9], sh=np.zeros((1, 1, 3)))
        >>> one.means.dtype
        torch.float32
        """
        return cls(
            means=as_tensor("means", means),
            quats=as_tensor("quats", quats),
            scales=as_tensor("scales", scales),
            opacities=as_tensor("opacities", opacities),
            sh=as_tensor("sh", sh),
        )


@dataclass(frozen=True)
class Camera:
    """A pinhole camera (OpenCV axes: +X right, +Y down, +Z forward)."""

    viewmat: Float[Tensor, "4 4"]
    """Camera from world, m."""
    K: Float[Tensor, "3 3"]
    """Intrinsics, pixels; the centre of the top-left pixel is (0.5, 0.5)."""
    width: int
    height: int
    name: str = ""

    @classmethod
    def from_arrays(
        cls, viewmat: Numbers, K: Numbers, width: int, height: int, name: str = ""
    ) -> "Camera":
        """Make a camera of arrays, float32. Raises: InputError for what is no array.

        viewmat: [4, 4] camera from world, m, OpenCV axes. K: [3, 3], pixels.

        >>> K = [[500, 0, 320], [0, 500, 240], [0, 0, 1]]
        >>> ash.Camera.from_arrays(np.eye(4), K, width=640, height=480).K.dtype
        torch.float32
        """
        return Camera(as_tensor("viewmat", viewmat), as_tensor("K", K), width, height, name)


@dataclass(frozen=True)
class Crop(Camera):
    """Camera of a crop of a larger image: the same projection, only these pixels."""

    whole_width: int = 0
    whole_height: int = 0


@dataclass(frozen=True)
class Image:
    """Result of a rasterizer's backend; the background is already under it.

    >>> grey = torch.full((48, 64), 0.5)
    >>> ash.Image(rgb=grey[..., None].expand(-1, -1, 3), alpha=grey, depth=grey).rgb.shape
    torch.Size([48, 64, 3])
    """

    rgb: Float[Tensor, "h w 3"]
    """Colour; over a transparent background: premultiplied by alpha."""
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    """Alpha-weighted mean view depth, m; 0 where nothing was hit."""


@dataclass(frozen=True)
class ClothConstants:
    """Constants of all points of a cloth. Frequencies are angular, rad/s; rates are 1/s."""

    stretch: float = 400.0
    """Frequency of an edge that is too long."""
    compress: float = 150.0
    """Frequency of an edge that is too short: cloth folds rather than resists."""
    bend: float = 80.0
    """Frequency of a pair of vertices across an edge, either way."""
    air: float = 0.8
    """Rate at which a velocity becomes the wind's."""
    follow: float = 2.0
    """Rate at which a velocity becomes that of the skinned surface."""
    ratio: float = 0.05
    """Damping ratio of the pull to the skinned place; adds to `follow`."""
    hang: float = 0.9
    """Share of its weight that the template carries at rest, in its own shape."""
    margin: float = 0.008
    """Clearance from the colliders, m; less where the template is nearer."""
    girth: float = 1.0
    """Factor on the colliders' radii."""
    friction: float = 0.2
    """Coefficient of friction on colliders."""


@dataclass(frozen=True)
class Cloth:
    """Loose parts of a template, which are simulated (ash_core.cloth). Rest pose, body frame, m."""

    points: Int[Tensor, "P"]
    """Template vertices that are simulated, and their held neighbours."""
    looseness: Float[Tensor, "P"]
    """0: held by the skinning; 1: pulled most softly."""
    places: Float[Tensor, "P 3"]
    carriers: Int[Tensor, "P"]
    """Joint from which each point's piece hangs."""
    carried_down: Float[Tensor, "P 3"]
    """Direction that is down at rest, in the carrier's frame; unit."""
    anchors: Int[Tensor, "P"]
    """Point some edges nearer to the held border, which shows how a point hangs; or itself."""
    links: Int[Tensor, "L 2"]
    """Pairs of points, sorted by colour: links of one colour share no point."""
    colours: Int[Tensor, "K"]
    """First link of each colour, and the number of links."""
    lengths: Float[Tensor, "L"]
    is_bend: Bool[Tensor, "L"]
    """True: a pair across an edge; False: an edge."""
    followers: Int[Tensor, "Q"]
    """Template vertices of linings, which keep their place on a triangle of points."""
    follower_corners: Int[Tensor, "Q 3"]
    follower_weights: Float[Tensor, "Q 3"]
    follower_heights: Float[Tensor, "Q"]
    """Signed distance along the triangle's normal."""
    sphere_joints: Int[Tensor, "M"]
    """Joint that carries each sphere."""
    sphere_centres: Float[Tensor, "M 3"]
    """Centres in the frames of their joints."""
    sphere_radii: Float[Tensor, "M"]
    capsules: Int[Tensor, "C 2"]
    """Pairs of spheres that span the tapered capsules with which the cloth collides."""
    room: Float[Tensor, "P C"]
    """Distance of each point at rest from each capsule's surface."""
    constants: ClothConstants
    passes: int
    """Passes over the links in a tick; more resist compression, so that cloth folds."""
    floor: float | None = None
    """Height of the floor; None: there is none."""

    @property
    def vertices(self) -> Int[Tensor, "W"]:
        """Template vertices that the cloth moves: points, then followers."""
        return torch.cat((self.points, self.followers))


@dataclass(frozen=True)
class AvatarData:
    """Content of one avatar file. `avatar.Avatar` makes it runnable."""

    name: str
    variant: VariantName
    history_offsets: HistoryOffsets
    skeleton: Skeleton
    skinning: Skinning
    template: Template
    graph: GraphMesh
    rest_dofs: Float[Tensor, "D"]
    """float64: the pose in which the template was scanned."""
    root_translation: Float[Tensor, "3"]
    """The published `real_translation.txt`, m; zeros where there is none."""
    atlas_resolution: int
    hand_mask: Bool[Tensor, "V"] | None = None
    networks: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """State dictionaries: spatial_gcn, delta_gcn; unet_geometry, unet_appearance or decoder."""
    decoder: Mapping[str, int] = field(default_factory=dict)
    """Settings of a native decoder (networks.decoder.DecoderConfig)."""
    cameras: tuple[Camera, ...] = ()
    cloth: Cloth | None = None
    """Simulated parts of a native avatar; None: it has none."""


@dataclass(frozen=True)
class SplatData:
    """Static splats, e.g. of a .ply: without poses, skeleton and mesh."""

    name: str
    gaussians: Gaussians
    """Gaussians after the turn to Z up."""
    box: Float[Tensor, "2 3"]
    """Low and high corner of the box about nearly all of them, m, world, for framing."""
    up: Up = "z"
    """Up axis of the file, from which they were turned."""
    notes: tuple[str, ...] = ()
    """Remarks on the file for the person who opens it."""
    cameras: tuple[Camera, ...] = ()


DrawableData = AvatarData | SplatData
"""Either kind of data that a `Renderer` can draw."""


Record = TypeVar("Record")


def to_device(record: Record, device: torch.device | str) -> Record:
    """Copy a record with all its tensors, nested records included, to a device."""

    def move(value: object) -> object:
        if isinstance(value, Tensor):
            return value.to(device)
        if hasattr(value, "__dataclass_fields__"):
            return to_device(value, device)
        return value

    moved = {f.name: move(getattr(record, f.name)) for f in fields(record)}  # type: ignore[arg-type]
    return replace(record, **moved)  # type: ignore[type-var]


def as_tensor(name: str, numbers: Numbers, dtype: torch.dtype = torch.float32) -> Tensor:
    """Copy an array into a tensor; a tensor stays as it is. Raises: InputError."""
    if isinstance(numbers, Tensor):
        return numbers
    try:
        return torch.tensor(np.asarray(numbers), dtype=dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected an array of numbers, got {error}") from None
