"""Forward splatting on the CPU beside a hand-vectorised C++ peer, in one run.

    python tests/bench/bench_raster.py [--threads 2] [--frames 41]

Prints medians and quartiles in ms. The peer is `raster_peer.cpp`, the same design written by hand
with vector types, compiled by g++ -O3 -march=native -ffast-math -fopenmp; without g++ it is left
out. The two take turns, frame by frame, so that a busy machine slows both. "wall" is what a user
waits; "cpu" is one thread's processor time, the figure to trust on a machine that others share.
"""

import argparse
import ctypes
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

import numba  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image as Picture  # noqa: E402

from ash_core.records import Camera, Gaussians, Image  # noqa: E402
from ash_core.splat.rasterize import rasterize  # noqa: E402

CAPSULES = (
    # from (m), to (m), radius (m): a person of 1.8 m with arms held out a little; Z up
    ((0.0, 0.0, 1.62), (0.0, 0.0, 1.69), 0.105),
    ((0.0, 0.0, 1.42), (0.0, 0.0, 1.55), 0.06),
    ((0.0, -0.10, 1.35), (0.0, 0.10, 1.35), 0.13),
    ((0.0, 0.0, 0.98), (0.0, 0.0, 1.32), 0.16),
    ((0.0, -0.20, 1.42), (0.0, -0.52, 1.06), 0.055),
    ((0.0, 0.20, 1.42), (0.0, 0.52, 1.06), 0.055),
    ((0.0, -0.52, 1.06), (0.0, -0.72, 0.80), 0.045),
    ((0.0, 0.52, 1.06), (0.0, 0.72, 0.80), 0.045),
    ((0.0, -0.10, 0.95), (0.0, -0.15, 0.50), 0.085),
    ((0.0, 0.10, 0.95), (0.0, 0.15, 0.50), 0.085),
    ((0.0, -0.15, 0.50), (0.0, -0.17, 0.06), 0.06),
    ((0.0, 0.15, 0.50), (0.0, 0.17, 0.06), 0.06),
)


def body(count: int, degree: int = 0, seed: int = 0) -> Gaussians:
    """`count` Gaussians spread evenly over a capsule person, sigma 0.7 texel in its surface."""
    random = np.random.default_rng(seed)
    ends = [(np.array(a), np.array(b), r) for a, b, r in CAPSULES]
    areas = np.array([2 * np.pi * r * (np.linalg.norm(b - a) + 2 * r) for a, b, r in ends])
    shares = np.floor(count * areas / areas.sum()).astype(int)
    shares[3] += count - shares.sum()
    means, normals, tints = [], [], []
    for (a, b, r), share in zip(ends, shares, strict=True):
        # A golden-angle spiral along the axis is an even cover of a capsule.
        length = np.linalg.norm(b - a)
        axis = (b - a) / length
        side = np.cross(axis, (1.0, 0.0, 0.0) if abs(axis[0]) < 0.9 else (0.0, 1.0, 0.0))
        side /= np.linalg.norm(side)
        s = (np.arange(share) + 0.5) / share * (length + 2 * r) - r
        over = np.where(s < 0, s, np.where(s > length, s - length, 0.0))
        ring = np.sqrt(np.maximum(r * r - over * over, 0.0))
        angle = np.arange(share) * (np.pi * (3 - np.sqrt(5)))
        out = (
            ring[:, None] * np.cos(angle)[:, None] * side
            + ring[:, None] * np.sin(angle)[:, None] * np.cross(axis, side)
            + over[:, None] * axis
        )
        means.append(a + np.clip(s, 0, length)[:, None] * axis + out)
        normals.append(out / r)
        tints.append(np.broadcast_to(random.uniform(0.2, 0.9, 3), (share, 3)))
    points, normal = np.concatenate(means), np.concatenate(normals)
    # The quaternion that takes +Z to the normal, then a random turn about it.
    w = np.maximum(1 + normal[:, 2], 1e-6)
    to_normal = np.stack([w, -normal[:, 1], normal[:, 0], np.zeros(count)], -1)
    to_normal /= np.linalg.norm(to_normal, axis=1, keepdims=True)
    half = random.uniform(0, np.pi, count)
    c, s = np.cos(half), np.sin(half)
    qw, qx, qy, qz = to_normal.T
    quats = np.stack([qw * c - qz * s, qx * c + qy * s, qy * c - qx * s, qz * c + qw * s], -1)
    texel = np.sqrt(areas.sum() / count)
    scales = texel * np.array([0.7, 0.7, 0.1]) * random.uniform(0.8, 1.25, (count, 3))
    stripes = 0.15 * np.sin(points * 60).sum(-1, keepdims=True) / 3
    sh = np.zeros((count, (degree + 1) ** 2, 3))
    sh[:, 0] = (np.concatenate(tints) + stripes - 0.5) / 0.28209479177387814
    sh[:, 1:] = random.normal(0, 0.05, sh[:, 1:].shape)
    opacities = random.uniform(0.7, 0.99, count)
    # An atlas lists texels in an order that depth knows nothing of.
    mixed = random.permutation(count)
    values = (points, quats, scales, opacities, sh)
    return Gaussians(*(torch.tensor(v[mixed], dtype=torch.float32) for v in values))


def camera(width: int, height: int) -> Camera:
    """In front of the person, who fills 93 % of the height."""
    viewmat = torch.tensor(
        [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.9], [-1.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0]]
    )
    turn = np.deg2rad(20.0)
    about_up = torch.eye(4)
    about_up[:2, :2] = torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    focal = 0.93 * height * 3.0 / 1.8
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(viewmat @ about_up, K, width, height)


Peer = Callable[[Gaussians, Camera, int, dict[str, np.ndarray]], None]


def peer(folder: Path) -> Peer | None:
    """The C++ rasterizer as a function that fills rgb, alpha and depth; None without g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    library = folder / "raster_peer.so"
    flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC", "-std=c++17"]
    subprocess.run(
        [compiler, *flags, str(HERE / "raster_peer.cpp"), "-o", str(library)], check=True
    )
    function = ctypes.CDLL(str(library)).render
    function.restype = None

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def render(
        gaussians: Gaussians, view: Camera, threads: int, out: dict[str, np.ndarray]
    ) -> None:
        tensors = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities)
        inputs = [t.numpy() for t in tensors] + [gaussians.sh[:, 0].contiguous().numpy()]
        K = view.K.numpy()
        lens = np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], np.float32)
        matrix = np.ascontiguousarray(view.viewmat.numpy(), np.float32)
        function(
            ctypes.c_int(len(inputs[0])),
            *map(pointer, inputs),
            pointer(matrix),
            pointer(lens),
            ctypes.c_int(view.width),
            ctypes.c_int(view.height),
            ctypes.c_int(threads),
            *(pointer(out[name]) for name in ("rgb", "alpha", "depth")),
        )

    return render


def peer_frame(function: Peer, gaussians: Gaussians, view: Camera, threads: int) -> None:
    function(gaussians, view, threads, blank(view))


def blank(view: Camera) -> dict[str, np.ndarray]:
    """Pictures for the peer, from the system untouched: as ours are made."""
    size = (view.height, view.width)
    return {
        "rgb": np.zeros((*size, 3), np.float32),
        "alpha": np.zeros(size, np.float32),
        "depth": np.zeros(size, np.float32),
    }


def timed(action: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    action()
    return (clock() - start) * 1e3


def spread(times: list[float]) -> str:
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:7.2f} ({low:6.2f} - {high:6.2f})"


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object] | None,
    frames: int,
    clock: Callable[[], float],
) -> str:
    """Columns of one measurement, turn by turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(frames):
        times[0].append(timed(ours, clock))
        if theirs is not None:
            times[1].append(timed(theirs, clock))
    if theirs is None:
        return spread(times[0])
    ratio = statistics.median(times[0]) / statistics.median(times[1])
    return f"{spread(times[0])}  {spread(times[1])}  {ratio:5.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    parser.add_argument("--frames", type=int, default=41, help="frames of each measurement")
    parser.add_argument("--picture", type=Path, help="write what was timed to this PNG")
    arguments = parser.parse_args()
    scenes = [
        (count, *size, 0) for count in (25_000, 101_000) for size in ((1285, 940), (640, 480))
    ]
    print(f"median (quartiles) of {arguments.frames} frames, ms")
    head = f"{'ours':<25}  {'C++':<25}  ratio  max difference"
    print(f"{'N':>7} {'size':>10} {'hit':>6} SH  {'clock':<14} {head}")
    with tempfile.TemporaryDirectory() as folder:
        other = peer(Path(folder))
        for count, width, height, degree in [*scenes, (25_000, 1285, 940, 3)]:
            gaussians, view = body(count, degree), camera(width, height)
            image: Image = rasterize(gaussians, view)
            hit = float((image.alpha > 0).float().mean())
            line = f"{count:>7} {width:>5}x{height:<4} {hit:6.1%} {degree:>2}"
            for threads, name, clock in (
                (arguments.threads, "wall", time.perf_counter),
                (1, "cpu", time.process_time),
            ):
                numba.set_num_threads(threads)
                torch.set_num_threads(threads)
                difference, theirs = "", None
                if other is not None and degree == 0:
                    out = blank(view)
                    other(gaussians, view, threads, out)
                    difference = f"  {np.abs(out['rgb'] - image.rgb.numpy()).max():.1e}"
                    theirs = partial(peer_frame, other, gaussians, view, threads)
                ours = partial(rasterize, gaussians, view)
                columns = compare(ours, theirs, arguments.frames, clock)
                print(f"{line}  {name:<4} {threads:>2} thr.  {columns}{difference}")
            if arguments.picture is not None and (count, width, degree) == (25_000, 1285, 0):
                pixels = (image.rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
                Picture.fromarray(pixels).save(arguments.picture)


if __name__ == "__main__":
    main()
