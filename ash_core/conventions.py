"""Units, axes, orders and letters: read this first. All shared constants are defined here.

Units     metres, radians, seconds, float32; RGB in [0, 1] as the photographs encode it. Millimetres
          exist inside `files/` and, by name, at the released vertex network's input.
Frames    `body`: Y up (skeleton, meshes, motions). `world`: Z up (cameras, Gaussians). Right-handed
          both; they meet in `R_WORLD_BODY` alone.
Camera    OpenCV: +X right, +Y down, +Z forward. `viewmat` is camera-from-world, 4x4. `K` in pixels;
          the centre of the top-left pixel is (0.5, 0.5).
Rotations quaternions wxyz, unit. `T_a_b`, `R_a_b` take b to a; column vectors.
Images    [h, w, 3], row 0 at the top; networks alone see [b, c, h, w].
Gaussians stored values are activated: means m, scales m, quats unit, opacities 0-1, sh [N, K, 3].
History   newest first: index 0 is the frame itself, the others are earlier ones.
Letters   F frames or faces, J joints, D dofs, B bones, G graph nodes, V vertices, N texels =
          Gaussians, K SH bases, H poses of a window, C cameras.
"""

from typing import Final, Literal

MM_PER_M: Final = 1000.0

R_WORLD_BODY: Final = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
"""World axes are the body's (z, x, y). Source: docs/released_behaviour.md A16."""

Up = Literal["z", "y", "y-down"]
"""Up axis of another program's world; "y-down": COLMAP, and splats trained on its cameras."""

CameraAxes = Literal["opencv", "opengl"]
"""Axes of a camera: +Y down and +Z forward, or +Y up and -Z forward."""
CameraFormat = Literal[
    "published", "skeletool", "nerfstudio", "colmap", "opencv", "easymocap", "graphdeco"
]
"""Files of cameras: cameras.json of the release, .calibration, transforms.json, sparse models,
FileStorage .yml, intri.yml with extri.yml, cameras.json of 3D Gaussian Splatting."""

CaptureLayout = Literal[
    "avatarrex",
    "thuman4",
    "actorshq",
    "zju",
    "easymocap",
    "mvhumannet",
    "dna",
    "nerfstudio",
    "colmap",
    "uma",
]
"""Layouts of multi-view captures. Here, so that --help needs no numpy."""

HISTORY: Final = 3
"""Poses that the graph networks see: one and the two before it."""

FPS: Final = 25.0
"""Frame rate of a motion whose file has none, Hz. Source: DynaCap was captured at 25 Hz."""

MAX_SIDE_PX: Final = 16384
"""Longest side of an image that is decoded or rendered."""

ATLAS_RESOLUTIONS: Final = (16, 4096)
"""Smallest and largest texel atlas, texels a side."""

# The one definition that every rasterizer backend shares. Source: Kerbl et al. 2023.
# numba keeps compiled kernels by the time stamp of splat/cpu.py: touch it after a change here.
BLUR_PX2: Final = 0.3
"""Summand of both diagonal entries of each projected covariance, px^2."""
ALPHA_MIN: Final = 1.0 / 255.0
"""Least alpha with which a Gaussian contributes to a pixel."""
ALPHA_MAX: Final = 0.99
TRANSMITTANCE_MIN: Final = 1e-4
"""Least transmittance: a pixel stops before the Gaussian that would go below it."""
NEAR_M: Final = 0.2
"""Near plane: Gaussians whose view depth is not greater are culled."""
FRUSTUM_CLAMP: Final = 1.3
"""Bound on x/z, y/z in the projection's Jacobian, in half-fields of view."""

SH_C0: Final = 0.28209479177387814
SH_C1: Final = 0.4886025119029199
SH_C2: Final = (
    1.0925484305920792,
    -1.0925484305920792,
    0.31539156525252005,
    -1.0925484305920792,
    0.5462742152960396,
)
SH_C3: Final = (
    -0.5900435899266435,
    2.890611442640554,
    -0.4570457994644658,
    0.3731763325901154,
    -0.4570457994644658,
    1.445305721320277,
    -0.5900435899266435,
)
"""Real spherical harmonics, in the order and signs of 3D Gaussian Splatting."""
OFFSET_MM_MAX = 1000
"""Greatest distance of a native avatar's Gaussian from the skin along an axis, mm."""
