"""`ash-studio bench` on a GPU: our rasterizer beside others', then whole frames.

Times are CUDA events on torch's default stream, the one stream that all packages share.
"""

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ash_core.commands.measure import (
    Spread,
    as_table,
    for_seconds,
    print_table,
    repeat_on_gpu,
    spread,
    time_stages,
)
from ash_core.commands.terminal import note, progress_bar
from ash_core.conventions import NEAR_M, R_WORLD_BODY
from ash_core.geometry.camera import camera_from_fov, camera_position, look_at
from ash_core.geometry.framing import facing, front_camera
from ash_core.geometry.rotations import matrix_to_quat, quat_multiply
from ash_core.geometry.spherical_harmonics import rgb_to_sh
from ash_core.geometry.texel_frames import texel_colours, texel_frames
from ash_core.geometry.texels import build_atlas, interpolation_matrix
from ash_core.records import AvatarData, Camera, Gaussians, Motion, to_device
from ash_core.scene.open import (
    ACTOR,
    Backend,
    Preset,
    load_avatar_data,
    load_motion,
    make_avatar,
)
from ash_core.scene.record import Shot, make_shots
from ash_core.variants import VARIANTS

if TYPE_CHECKING:
    from ash_core.render import Renderer

DEVICE: Final = "cuda"
SIZE: Final = (1285, 940)
"""Width and height of the published pictures."""
FOV_RAD: Final = math.radians(40.0)
ATLASES: Final = (256, 512, 1024)
"""Atlas sizes of a given body: 25, 101 and 404 thousand Gaussians for the published sample."""
ACTOR_ATLASES: Final = (200, 400, 800)
"""Sizes with as many Gaussians on the actor's template, which fills more of its atlas."""
DEGREES: Final = (3, 0)
BODY_HEIGHT: Final = 0.95
"""Share of the image's height that the body fills."""
OPACITIES: Final = (0.8, 0.95)
NORMAL_SIGMA: Final = 0.2
"""Deviation across the surface, as a share of the smaller one along it."""
SH_NOISE: Final = 0.05
"""Deviation of the coefficients above degree 0."""
BACKGROUND: Final = (1.0, 1.0, 1.0)
MOST_POSES: Final = 250
SWAY_RAD: Final = 0.1
SWAY_FRAMES: Final = 50
FAR_M: Final = 1e10

Columns = dict[str, dict[str, Spread]]
"""Timings: a column for each setting, by name."""


@dataclass(frozen=True)
class Workload:
    """Input of every rasterizer: Gaussians on the GPU, the camera on the CPU."""

    gaussians: Gaussians
    camera: Camera
    background: Float[Tensor, "3"]


@dataclass(frozen=True)
class Peer:
    """One rasterizer, ready to run on one workload."""

    forward: Callable[[], Tensor]
    """Its picture, [h, w, 3] floats."""
    training: Callable[[], object]
    """Forward and the gradients of all its own parameters."""


def run_on_gpu(body: str | None, backend: Backend, seconds: float) -> dict[str, object]:
    """Time everything, print the tables, and return them for JSON.

    body: an avatar file whose mesh is rasterized and whose own frames are timed as well.
    """
    # Bodies, atlases and degrees to time.
    subject = load_avatar_data(body or ACTOR, report=note)
    raster: Columns = {}
    agreement: dict[str, dict[str, float]] = {}
    frames: Columns = {}
    memory: dict[str, dict[str, float]] = {}
    atlases = ACTOR_ATLASES if body is None else ATLASES
    settings = [(atlas, degree) for degree in DEGREES for atlas in atlases]
    avatars = list(frame_subjects(subject, body is not None))
    # Rasterizers alone, then whole frames.
    with progress_bar() as progress:
        task = progress.add_task("timing", total=len(settings) + len(avatars))
        for atlas, degree in settings:
            workload = body_workload(subject, atlas, degree)
            name = f"atlas {atlas}, {len(workload.gaussians.means):,} Gaussians"
            lines = time_rasterizers(workload, seconds)
            raster.setdefault(name, {}).update(
                {f"SH {degree}: {line}": value for line, value in lines.items()}
            )
            agreement.setdefault(name, {}).update(
                {f"SH {degree}: {peer}": value for peer, value in compare(workload).items()}
            )
            progress.advance(task)
        for name, data, preset, motion in avatars:
            frames[name], memory[name] = time_frames(data, preset, motion, backend, seconds)
            progress.advance(task)
    # Tables and the record.
    width, height = SIZE
    print_table(f"rasterizer at {width}x{height}, ms: median (quartiles)", raster)
    print_table("pictures against ours in float32, dB", agreement)
    print_table(f"one frame at {width}x{height}, ms: median (quartiles)", frames)
    print_table("a playing motion", memory)
    return {
        "milliseconds": {
            "rasterizer": {name: as_table(lines) for name, lines in raster.items()},
            f"frame {width}x{height}": {name: as_table(lines) for name, lines in frames.items()},
        },
        "decibels": agreement,
        "playing": memory,
    }


# ---- the rasterizers ----


def body_workload(data: AvatarData, resolution: int, degree: int) -> Workload:
    """Make a workload: the template in its rest pose, a Gaussian for each texel, from the front."""
    published = VARIANTS[data.variant].uses_published_atlas
    atlas = build_atlas(data.template, resolution, published=published)
    frames = texel_frames(data.template, atlas)
    world = torch.tensor(R_WORLD_BODY)
    means = interpolation_matrix(atlas, len(data.template.vertices)) @ data.template.vertices
    means = means @ world.T
    across = NORMAL_SIGMA * frames.scales[:, :2].amin(-1, keepdim=True)
    random = torch.Generator().manual_seed(0)
    low, high = OPACITIES
    opacities = low + (high - low) * torch.rand(len(means), generator=random)
    sh = SH_NOISE * torch.randn(len(means), (degree + 1) ** 2, 3, generator=random)
    sh[:, 0] = rgb_to_sh(texel_colours(data.template.texture, atlas))
    gaussians = Gaussians(
        means=means,
        quats=quat_multiply(matrix_to_quat(world).expand_as(frames.quats), frames.quats),
        scales=torch.cat((frames.scales[:, :2], across), -1),
        opacities=opacities,
        sh=sh,
    )
    ahead = facing(data, data.rest_dofs[None]).float()
    return Workload(
        to_device(gaussians, DEVICE),
        filling_camera(means, ahead),
        torch.tensor(BACKGROUND, device=DEVICE),
    )


def filling_camera(points: Float[Tensor, "N 3"], ahead: Float[Tensor, "3"]) -> Camera:
    """Place a camera straight ahead that the points fill to BODY_HEIGHT, or to its width."""
    width, height = SIZE
    target = (points.amin(0) + points.amax(0)) / 2
    towards_eye = ahead.to(points)
    view = look_at(towards_eye, torch.zeros(3)).to(points)
    x, y, z = ((points - target) @ view[:3, :3].T).unbind(-1)
    reach = BODY_HEIGHT * math.tan(FOV_RAD / 2)
    distance = torch.maximum(y.abs() / reach - z, x.abs() * height / (reach * width) - z).max()
    viewmat = look_at(target + distance * towards_eye, target)
    return camera_from_fov(viewmat, FOV_RAD, width, height)


def time_rasterizers(workload: Workload, seconds: float) -> dict[str, Spread]:
    """Time ours in every form, then the others, forward and forward + backward."""
    works = dict(our_works(workload))
    for name, peer in peers(workload):
        works[f"{name}: forward"] = peer.forward
        works[f"{name}: forward + backward"] = peer.training
    return {name: spread(repeat_on_gpu(work, seconds)) for name, work in works.items()}


def our_works(workload: Workload) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield name and work of our own rasterizer's lines."""
    from ash_core.splat.cuda import Splatter

    splatter = Splatter(DEVICE)
    scene, cameras, background = workload.gaussians, [workload.camera], workload.background

    def to_bytes() -> object:
        return splatter.draw(scene, cameras, background, "rgba8")

    yield "ours: forward, RGBA8, CUDA graph", in_a_graph(to_bytes)
    yield "ours: forward, RGBA8", to_bytes
    yield "ours: forward, float", lambda: splatter.draw(scene, cameras, background, "float")
    train = our_training(workload)
    yield "ours: forward + backward, CUDA graph", in_a_graph(train)
    yield "ours: forward + backward", train


def in_a_graph(work: Callable[[], object]) -> Callable[[], object]:
    """Capture the work in a CUDA graph, as viewers and trainers run it."""
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):  # lists grow to their final length
            work()
            torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = work()

    def replay() -> object:
        graph.replay()
        return output

    return replay


def our_training(workload: Workload) -> Callable[[], object]:
    """Make our forward and backward pass, as training calls it."""
    from ash_core.splat.rasterize import rasterize

    leaves = as_leaves(workload.gaussians)

    def picture() -> Tensor:
        return rasterize(leaves, workload.camera, workload.background, backend="cuda").rgb

    return training(picture, list(vars(leaves).values()))


def training(picture: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], object]:
    """Make a pass that computes gradients of an image, with equal weight for every pixel."""
    ones: list[Tensor] = []

    def work() -> object:
        rgb = picture()
        if not ones:
            ones.append(torch.ones_like(rgb))
        return torch.autograd.grad(rgb, leaves, ones[0])

    return work


def as_leaves(gaussians: Gaussians) -> Gaussians:
    """Copy Gaussians to differentiate."""
    parts = (getattr(gaussians, field.name) for field in fields(gaussians))
    return Gaussians(*(part.detach().clone().requires_grad_() for part in parts))


def peers(workload: Workload) -> Iterator[tuple[str, Peer]]:
    """Yield the other rasterizers that are installed."""
    makers = {
        "gsplat": ("gsplat", gsplat_peer),
        "Faster-GS": ("FasterGSCudaBackend", faster_gs_peer),
        "diff-gaussian-rasterization": ("diff_gaussian_rasterization", inria_peer),
    }
    for name, (module, make) in makers.items():
        if find_spec(module) is None:
            continue
        try:
            peer = make(workload)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            note(f"{name} is installed but does not work: {error}")
            continue
        yield name, peer


def gsplat_peer(workload: Workload) -> Peer:
    """Call gsplat for colours alone, unlike our adapter, which asks for depth as well."""
    from ash_core.splat.gsplat_adapter import arguments

    rasterization = importlib.import_module("gsplat").rasterization
    leaves = as_leaves(workload.gaussians)
    inputs = arguments(leaves, workload.camera, workload.background)

    def picture() -> Tensor:
        return rasterization(**inputs)[0][0]

    return Peer(torch.no_grad()(picture), training(picture, list(vars(leaves).values())))


def faster_gs_peer(workload: Workload) -> Peer:
    """Call Faster-GS, which activates inside its kernels: logarithms, logits, split colours."""
    # Camera and settings.
    package = importlib.import_module("FasterGSCudaBackend.torch_bindings")
    scene, camera = workload.gaussians, workload.camera
    K = camera.K.double()
    settings = package.RasterizerSettings(
        w2c=camera.viewmat.to(DEVICE),
        cam_position=camera_position(camera.viewmat).to(DEVICE),
        bg_color=workload.background,
        active_sh_bases=scene.sh.shape[1],
        width=camera.width,
        height=camera.height,
        focal_x=float(K[0, 0]),
        focal_y=float(K[1, 1]),
        center_x=float(K[0, 2]),
        center_y=float(K[1, 2]),
        near_plane=NEAR_M,
        far_plane=FAR_M,
        proper_antialiasing=False,
    )
    # Parameters before activation; copies of them take the gradients.
    raw = {
        "means": scene.means,
        "scales": scene.scales.log(),
        "rotations": scene.quats,
        "opacities": scene.opacities.logit()[:, None],
        "sh_coefficients_0": scene.sh[:, :1],
        "sh_coefficients_rest": scene.sh[:, 1:],
    }
    raw = {name: part.detach().clone().contiguous() for name, part in raw.items()}
    leaves = {name: part.clone().requires_grad_() for name, part in raw.items()}
    no_statistics = torch.empty(0)

    # Calls to measure.
    def inference() -> Tensor:
        return package.rasterize(**raw, rasterizer_settings=settings, to_chw=False)

    def picture() -> Tensor:
        return package.diff_rasterize(
            **leaves, densification_info=no_statistics, rasterizer_settings=settings
        )

    return Peer(inference, training(picture, list(leaves.values())))


def inria_peer(workload: Workload) -> Peer:
    """Call the package for one image, unlike our adapter, which also draws alpha and depth."""
    from ash_core.splat.inria_adapter import draw, make_rasterizer

    leaves = as_leaves(workload.gaussians)
    bases = leaves.sh.shape[1]
    rasterizer = make_rasterizer(workload.camera, workload.background, bases)

    def picture() -> Tensor:
        return draw(rasterizer, leaves, shs=leaves.sh)

    def inference() -> Tensor:
        with torch.no_grad():
            return picture().permute(1, 2, 0)

    return Peer(inference, training(picture, list(vars(leaves).values())))


def compare(workload: Workload) -> dict[str, float]:
    """Compute PSNR of the others' images and of the CPU backend's against ours, dB."""
    from ash_core.splat.cuda import Splatter
    from ash_core.splat.rasterize import rasterize

    scene, camera, background = workload.gaussians, workload.camera, workload.background
    drawn: Any = Splatter(DEVICE).draw(scene, [camera], background, "float")[0]
    own = drawn.rgb.clamp(0, 1)
    pictures = {name: peer.forward() for name, peer in peers(workload)}
    pictures["cpu backend"] = rasterize(scene, camera, background, backend="cpu").rgb
    return {name: decibels(picture, own) for name, picture in pictures.items()}


def decibels(picture: Float[Tensor, "h w 3"], other: Float[Tensor, "h w 3"]) -> float:
    """Compute the peak signal-to-noise ratio of colours in [0, 1]; at most 200."""
    error = (picture.detach().clamp(0, 1).double() - other.double()).square().mean()
    return round(-10 * math.log10(max(float(error), 1e-20)), 1)


# ---- whole frames ----


def frame_subjects(
    subject: AvatarData, own: bool
) -> Iterator[tuple[str, AvatarData, Preset | None, Motion]]:
    """Yield name, avatar, preset and motion: the actor in every preset, then the user's own."""
    actor = load_avatar_data(ACTOR)
    motion = load_motion(None, ACTOR, actor)
    for preset in get_args(Preset):
        yield preset, actor, preset, motion
    if own:
        yield f"{subject.name} ({subject.variant})", subject, None, swaying(subject)


def swaying(data: AvatarData) -> Motion:
    """Make a motion for any skeleton: the rest pose with every angle swaying."""
    phase = 2 * math.pi * torch.arange(2 * SWAY_FRAMES, dtype=torch.float64) / SWAY_FRAMES
    sway = SWAY_RAD * torch.sin(phase[:, None] + torch.arange(len(data.rest_dofs)))
    sway[:, :3] = 0.0  # the root's place
    return Motion(data.rest_dofs + sway)


def time_frames(
    data: AvatarData, preset: Preset | None, motion: Motion, backend: Backend, seconds: float
) -> tuple[dict[str, Spread], dict[str, float]]:
    """Time stages and "pose to pixels"; measure frames a second and memory of a playing motion."""
    from ash_core.render import Renderer

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    avatar = make_avatar(data, "cpu", preset)
    renderer = Renderer(avatar, backend=backend, device=DEVICE, may_leave_gpu=False)
    camera = front_camera(data, motion.dofs, FOV_RAD, *SIZE)
    poses = list(range(min(len(motion.dofs), MOST_POSES)))
    shots = list(make_shots(data, motion, poses, [camera] * len(poses), BACKGROUND))
    stages = time_stages(renderer, for_seconds(shots, seconds))
    stages["pose to pixels"] = spread(time_shots(renderer, for_seconds(shots, seconds)))
    playing = {
        "frames a second": round(play(renderer, for_seconds(shots, seconds)), 1),
        "peak GPU memory, MB": round((torch.cuda.max_memory_allocated() - before) / 1e6, 1),
    }
    return stages, playing


def time_shots(renderer: "Renderer", shots: Iterator[Shot]) -> list[float]:
    """Time each frame by CUDA events, ms, from the request to the image on the GPU.

    The GPU is idle at each start, so that the host's work counts.
    """
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    durations = []
    for shot in shots:
        torch.cuda.synchronize()
        start.record()
        renderer.draw(shot.request)
        stop.record()
        stop.synchronize()
        durations.append(start.elapsed_time(stop))
    return durations


def play(renderer: "Renderer", shots: Iterator[Shot]) -> float:
    """Measure frames a second of a motion, one frame after the other without waiting."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    count = 0
    start.record()
    for shot in shots:
        renderer.draw(shot.request)
        count += 1
    stop.record()
    stop.synchronize()
    return 1e3 * count / start.elapsed_time(stop)
