"""The frozen records that flow through the house. Shapes, units and frames; no behaviour.

Tensors are float32 unless said otherwise, integers int64. See `conventions` for units and letters.
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
    """Lower and upper bound; infinite where the file says nolimits. For sliders, never applied."""
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
    """The published `...RotationNormalized.motion` beside it, if there is one: rows n-2, n-1, n of
    each frame n. Without it they are computed (geometry.motion)."""
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
    """What the character sees of a motion at one frame. float64."""

    dofs: Float[Tensor, "H D"]
    """The newest pose and the earlier ones at the avatar's history offsets."""
    normalised: Float[Tensor, "H 3 D"]
    """For each of those frames n the poses n-2, n-1, n relative to n (geometry.motion)."""


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
    """The newest pose's first three dofs, m: what the published networks see positions from."""


@dataclass(frozen=True)
class Surface:
    """The template as it is posed now: world frame, m."""

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
    """A window of a larger picture: the same projection, only these pixels."""

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
class AvatarData:
    """Everything that one avatar file holds. `avatar.Avatar` turns it into something that runs."""

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


@dataclass(frozen=True)
class SplatData:
    """Static splats, those of a .ply say: no pose moves them, they have no skeleton and no mesh."""

    name: str
    gaussians: Gaussians
    """Already turned: Z is up."""
    box: Float[Tensor, "2 3"]
    """Low and high corner of the box about nearly all of them, m, world: it frames them."""
    up: Up = "z"
    """Up axis of the file, from which they were turned."""
    notes: tuple[str, ...] = ()
    """Remarks on the file for the person who opens it."""
    cameras: tuple[Camera, ...] = ()


DrawableData = AvatarData | SplatData
"""Either kind of data that a `Renderer` can draw."""


Record = TypeVar("Record")


def to_device(record: Record, device: torch.device | str) -> Record:
    """A copy of a record with all its tensors (nested records included) on a device."""

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
