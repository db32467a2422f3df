"""The CUDA rasterizer against the definition and the CPU's, on a GPU and on its stand-in."""

import functools
import importlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch
from cuda_on_cpu import StandIn, needs_compiler
from test_rasterize_cpu import (
    KINDS,
    NAMES,
    assert_close_but_for_flips,
    camera,
    doubled,
    gradients,
    scene,
)
from torch.utils._python_dispatch import TorchDispatchMode

from ash_core.records import Gaussians, Image, to_device
from ash_core.splat import cuda
from ash_core.splat.rasterize import available_backends, rasterize

rasterizing = importlib.import_module("ash_core.splat.rasterize")

stand_in = functools.cache(StandIn)
ON_A_GPU = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=[pytest.param("cpu", marks=needs_compiler), ON_A_GPU])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where the kernels run: on a GPU, or on the CPU by their stand-in."""
    if request.param == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    for name in ("FORWARD", "BACKWARD", "DETERMINISTIC_BACKWARD"):
        monkeypatch.setattr(cuda, name, stand_in(getattr(cuda, name)))
    ours = rasterizing._Entry(rasterizing._module("cuda"), None)
    monkeypatch.setitem(rasterizing._BACKENDS, "cuda", ours)
    return torch.device("cpu")


@pytest.fixture(params=["overflow", "search"])
def policy(
    request: pytest.FixtureRequest, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> Iterator[cuda.CapacityPolicy]:
    """Bins of eight entries: every scene overflows, into the buffer or into one of no size."""
    small = cuda.CapacityPolicy(device)
    small.capacity = cuda.Capacity(8, cuda.MIN_OVERFLOW_UNITS if request.param == "overflow" else 1)
    monkeypatch.setattr(cuda, "OVERFLOW_PER_GAUSSIAN", 0)
    monkeypatch.setattr(cuda, "CapacityPolicy", lambda _: small)
    for kept in (cuda._splatter, cuda.shared_policy):
        kept.cache_clear()
    yield small
    for kept in (cuda._splatter, cuda.shared_policy):
        kept.cache_clear()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("device")
def test_pictures_are_the_reference_s(kind: str, degree: int) -> None:
    gaussians, under = scene(kind, degree), torch.tensor([0.3, 0.6, 0.1])
    got = rasterize(gaussians, camera(), under, backend="cuda")
    want = rasterize(doubled(gaussians), camera(), under.double(), backend="reference")
    # Far out on a needle large terms of its exponent cancel.
    assert_close_but_for_flips(got, want, 20 if kind == "needles" else 3)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [(kind, "rgb alpha depth") for kind in KINDS]
    + [("plain", part) for part in ("rgb", "alpha", "depth")],
)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.usefixtures("device")
def test_gradients_are_the_reference_s(kind: str, parts: str, exact: bool) -> None:
    gaussians = scene(kind, KINDS.index(kind) % 4, seed=3)
    cameras = [camera(50, 41), camera(33, 20, 25.0)]
    try:
        torch.use_deterministic_algorithms(exact)
        got = gradients(gaussians, cameras, "cuda", torch.float32, parts)
    finally:
        torch.use_deterministic_algorithms(False)
    want = gradients(gaussians, cameras, "reference", torch.float64, parts)
    for name in NAMES:
        size = float(want[name].norm())
        error = float((got[name] - want[name]).norm())
        assert error <= 1e-3 * size + 1e-6, (name, error, size)


def test_bins_that_overflow_are_complete_and_then_grow(policy: cuda.CapacityPolicy) -> None:
    gaussians, view = scene("plain", 1, 3000), camera()
    want, small = rasterize(gaussians, view, backend="cpu"), policy.capacity
    first = rasterize(gaussians, view, backend="cuda")
    assert_close_but_for_flips(first, want)
    entries, units = policy.demand.tolist()
    assert entries > small.bin_entries
    assert (units > small.overflow_units) == (small.overflow_units == 1)
    second = rasterize(gaussians, view, backend="cuda")
    assert policy.capacity.bin_entries >= entries
    assert torch.equal(first.rgb, second.rgb)


def test_a_tile_beyond_the_largest_capacity(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All Gaussians on one tile: drawn whole, and again when memory has grown."""
    count = 5000 if device.type == "cpu" else 1_000_000
    if device.type == "cpu":
        monkeypatch.setattr(cuda, "OVERFLOW_PER_GAUSSIAN", 0)  # searched for, at first
    gaussians = scene("faint", 0, count)
    gaussians.opacities.fill_(0.005)
    gaussians.scales.fill_(1e-3)
    gaussians.means.mul_(1e-2)
    gaussians = to_device(gaussians, device)
    view = camera(24, 24, 10.0)
    splatter = cuda.Splatter(device)
    splatter._policy.capacity = cuda.Capacity(
        cuda.INITIAL_CAPACITY, 1 if device.type == "cpu" else cuda.MIN_OVERFLOW_UNITS
    )
    first, second = (splatter.draw(gaussians, [view])[0] for _ in range(2))
    want = rasterize(to_device(gaussians, "cpu"), view, backend="cpu")
    assert splatter._policy.demand[0] > cuda.MAX_CAPACITY
    assert float(want.alpha.max()) > 0.9
    for got in (first, second):
        assert isinstance(got, Image)
        assert_close_but_for_flips(to_device(got, "cpu"), want)


def test_several_cameras_are_those_one_by_one(device: torch.device) -> None:
    """Sizes that share no tile; one picture empty; frame after frame in the same memory."""
    gaussians = to_device(scene("plain", 2, 300), device)
    away = replace(camera(40, 30), viewmat=torch.diag(torch.tensor([-1.0, 1, -1, 1])))
    away.viewmat[2, 3] = -50.0
    cameras = [camera(50, 41), away, camera(33, 20, 25.0), camera(8, 8)]
    under = torch.tensor([0.2, 0.7, 0.4], device=device)
    splatter = cuda.Splatter(device)
    for _ in range(3):
        together = splatter.draw(gaussians, cameras, under)
        for view, image in zip(cameras, together, strict=True):
            alone = cuda.Splatter(device).draw(gaussians, [view], under)[0]
            assert isinstance(image, Image)
            assert isinstance(alone, Image)
            for field in fields(Image):
                assert torch.equal(getattr(image, field.name), getattr(alone, field.name))
    assert isinstance(together[1], Image)
    assert not together[1].alpha.any()
    assert torch.equal(together[1].rgb, under.expand(30, 40, 3))


@pytest.mark.usefixtures("device")
def test_pictures_without_gaussians_or_pixels() -> None:
    nothing, under = scene("plain", 1, 0), torch.tensor([0.1, 0.2, 0.3])
    leaves = Gaussians(*(getattr(nothing, name).requires_grad_() for name in NAMES))
    for given in (nothing, leaves):
        image, none = rasterize(given, [camera(9, 9), camera(0, 5)], under, backend="cuda")
        assert torch.equal(image.rgb, under.expand(9, 9, 3))
        assert not image.alpha.any()
        assert none.rgb.shape == (5, 0, 3)
    image.rgb.sum().backward()
    assert leaves.means.grad is not None
    assert leaves.means.grad.shape == (0, 3)


@pytest.mark.usefixtures("policy")
def test_gradients_of_bins_that_overflow() -> None:
    gaussians = scene("plain", 1, 1500)
    got = gradients(gaussians, [camera()], "cuda", torch.float32, "rgb alpha depth")
    want = gradients(gaussians, [camera()], "cpu", torch.float32, "rgb alpha depth")
    for name in NAMES:
        assert float((got[name] - want[name]).norm()) <= 1e-3 * float(want[name].norm()), name


@pytest.mark.parametrize("count", [250, 257, 1000, 5000, 20_000])
@pytest.mark.usefixtures("device")
def test_overflow_tiles(count: int) -> None:
    """Everything in a few tiles, more than a window or a bin holds, many at equal depths."""
    gaussians = scene("faint", 0, count)
    gaussians.means[:, 2] = (gaussians.means[:, 2] * 20).round() / 20
    view = camera(20, 20, 4.0)
    got = rasterize(gaussians, view, backend="cuda")
    want = rasterize(gaussians, view, backend="cpu")
    assert_close_but_for_flips(got, want)


@pytest.mark.usefixtures("device")
def test_deterministic_gradients_repeat_bit_by_bit() -> None:
    gaussians = scene("plain", 1, 1000)
    try:
        torch.use_deterministic_algorithms(True)
        slopes = [
            gradients(gaussians, [camera()], "cuda", torch.float32, "rgb depth") for _ in range(4)
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    for slope in slopes[1:]:
        for name in NAMES:
            assert torch.equal(slope[name], slopes[0][name]), name


class Operators(TorchDispatchMode):
    """Names of torch's operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("deterministic", [False, True])
def test_only_the_deterministic_pass_scales_its_gradients(
    deterministic: bool, device: torch.device
) -> None:
    gaussians = to_device(scene("plain", 1, 50), device)
    gaussians.means.requires_grad_()
    rgb = rasterize(gaussians, [camera()], backend="cuda")[0].rgb
    assert isinstance(rgb, torch.Tensor)
    try:
        torch.use_deterministic_algorithms(deterministic)
        with Operators() as ran:
            rgb.backward(torch.ones_like(rgb))
    finally:
        torch.use_deterministic_algorithms(False)
    assert ("amax" in ran.names) == deterministic, ran.names


def test_bytes_are_the_picture_rounded(device: torch.device) -> None:
    gaussians, under = to_device(scene("plain", 1, 500), device), torch.tensor([0.1, 0.2, 0.3])
    splatter = cuda.Splatter(device)
    (image,) = splatter.draw(gaussians, [camera()], under)
    assert isinstance(image, Image)
    for rounding in (0.5, 0.0):
        (got,) = splatter.draw(gaussians, [camera()], under, "rgba8", rounding)
        assert isinstance(got, torch.Tensor)
        want = (image.rgb.clamp(0, 1) * 255 + rounding).floor().to(torch.uint8)
        assert int((got[..., :3].int() - want.int()).abs().max()) <= 1
        assert float((got[..., :3] != want).float().mean()) < 1e-3
        assert torch.equal(got[..., 3], (image.alpha * 255 + 0.5).floor().to(torch.uint8))


@pytest.mark.gpu
def test_gradients_in_a_graph_are_those_outside() -> None:
    gaussians, view = to_device(scene("plain", 3, 500), "cuda"), camera()
    leaves = Gaussians(*(getattr(gaussians, name).requires_grad_() for name in NAMES))

    def slopes() -> tuple[torch.Tensor, ...]:
        rgb = rasterize(leaves, view, backend="cuda").rgb
        return torch.autograd.grad(rgb.square().sum(), list(vars(leaves).values()))

    with torch.cuda.stream(torch.cuda.Stream()):
        want = slopes()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = slopes()
    for _ in range(3):
        graph.replay()
    for a, b in zip(got, want, strict=True):
        assert float((a - b).norm()) <= 1e-5 * float(b.norm())


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_every_gpu_draws_the_same() -> None:
    """Kernels run where the Gaussians are, whichever device is current."""
    given, view = scene("plain", 2, 800), camera()
    pictures, slopes = [], []
    for index in range(torch.cuda.device_count()):
        gaussians = to_device(given, f"cuda:{index}")
        pictures.append(rasterize(gaussians, view, backend="cuda"))
        leaves = Gaussians(*(getattr(gaussians, name).requires_grad_() for name in NAMES))
        rasterize(leaves, view, backend="cuda").rgb.sum().backward()
        assert leaves.means.grad is not None
        slopes.append(leaves.means.grad)
        assert pictures[-1].rgb.device == leaves.means.grad.device == gaussians.means.device
    for picture, slope in zip(pictures[1:], slopes[1:], strict=True):
        assert torch.equal(picture.rgb.cpu(), pictures[0].rgb.cpu())
        torch.testing.assert_close(slope.cpu(), slopes[0].cpu(), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["gsplat", "inria"])
def test_other_packages_draw_nearly_the_same(backend: str) -> None:
    if backend not in available_backends():
        pytest.skip(f"{backend} is not installed")
    gaussians, under = to_device(scene("plain", 3, 2000), "cuda"), torch.tensor([0.3, 0.6, 0.1])
    view = camera(320, 240, 260.0)
    ours = rasterize(gaussians, view, under, backend="cuda")
    theirs = rasterize(gaussians, view, under, backend=backend)
    error = (ours.rgb.clamp(0, 1) - theirs.rgb.clamp(0, 1)).square().mean()
    assert -10 * math.log10(float(error)) > (50 if backend == "gsplat" else 30)


@pytest.mark.gpu
def test_strided_and_other_types_are_taken() -> None:
    gaussians, view = to_device(scene("plain", 1, 400), "cuda"), camera()
    want = rasterize(gaussians, view, backend="cuda")
    odd = Gaussians(*(strided(getattr(gaussians, name)) for name in NAMES))
    assert not odd.means.is_contiguous()
    assert torch.equal(rasterize(odd, view, backend="cuda").rgb, want.rgb)
    padded = torch.cat((torch.zeros(1, device="cuda"), gaussians.quats.flatten()))
    shifted = replace(gaussians, quats=padded[1:].view(-1, 4))  # off a multiple of 16 bytes
    assert torch.equal(rasterize(shifted, view, backend="cuda").rgb, want.rgb)
    doubled_ones = rasterize(doubled(gaussians), view, backend="cuda")
    torch.testing.assert_close(doubled_ones.rgb.float(), want.rgb)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same values with gaps between them."""
    spread = tensor.new_zeros((2 * len(tensor), *tensor.shape[1:]))
    spread[::2] = tensor
    return spread[::2]


@pytest.mark.gpu
def test_other_streams_and_other_sizes_in_turn() -> None:
    gaussians = to_device(scene("plain", 0, 800), "cuda")
    views = [camera(), camera(200, 90, 100.0)]
    want = [rasterize(gaussians, view, backend="cuda").rgb.clone() for view in views]
    streams = [torch.cuda.Stream() for _ in range(3)]
    got = []
    torch.cuda.synchronize()
    for turn in range(12):
        with torch.cuda.stream(streams[turn % 3]):
            got.append(rasterize(gaussians, views[turn % 2], backend="cuda").rgb)
    torch.cuda.synchronize()
    for turn, picture in enumerate(got):
        assert torch.equal(picture, want[turn % 2])


@pytest.mark.gpu
def test_a_frame_is_captured_in_a_graph() -> None:
    gaussians = to_device(scene("plain", 0, 800), "cuda")
    splatter, view = cuda.Splatter("cuda"), camera()
    views = cuda.pack_cameras([view], "cuda")
    bins = splatter.reserve_bins(views, len(gaussians.means))
    parts = cuda._parts(gaussians, gaussians.means.device)
    pictures = cuda.empty_batch(views, gaussians.means.device)
    cuda.FORWARD.load()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cuda.project(parts, views, bins)
        cuda.blend(views, bins, None, pictures)
    for _ in range(3):
        graph.replay()
    want = rasterize(gaussians, view, backend="cuda")
    assert torch.equal(pictures.rgb.view_as(want.rgb), want.rgb)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e20])
@pytest.mark.parametrize("name", NAMES)
def test_no_value_that_is_not_finite_spoils_the_rest(
    name: str, value: float, device: torch.device
) -> None:
    gaussians = to_device(scene("plain", 1), device)
    want = draw_unchecked(gaussians)
    spoiled = Gaussians(*(torch.cat([getattr(gaussians, f.name)] * 2) for f in fields(gaussians)))
    count = len(gaussians.means)
    drawable = name in ("sh", "opacities") and value == 1e20  # large as it is, it is a number
    getattr(spoiled, name)[count:] = value
    got = draw_unchecked(spoiled)
    assert bool(got.rgb.isfinite().all())
    if not drawable:
        torch.testing.assert_close(got.rgb, want.rgb, atol=1e-6, rtol=0)


def draw_unchecked(gaussians: Gaussians) -> Image:
    """By the kernels, without `rasterize`'s look at values on the CPU."""
    (image,) = cuda.Splatter(gaussians.means.device).draw(gaussians, [camera()])
    assert isinstance(image, Image)
    return image


@pytest.mark.parametrize("size", [1e-8, 1e8])
@pytest.mark.usefixtures("device")
def test_deterministic_gradients_of_any_size(size: float) -> None:
    gaussians = scene("plain", 1)

    def slopes(backend: str, exact: bool) -> list[torch.Tensor]:
        leaves = [getattr(gaussians, name).clone().requires_grad_() for name in NAMES]
        try:
            torch.use_deterministic_algorithms(exact)
            image = rasterize(Gaussians(*leaves), camera(), backend=backend)
            return list(torch.autograd.grad(size * image.rgb.square().sum(), leaves))
        finally:
            torch.use_deterministic_algorithms(False)

    for got, want in zip(slopes("cuda", True), slopes("cpu", False), strict=True):
        assert float((got - want).norm()) <= 1e-3 * float(want.norm())


def test_threads_that_share_a_device(device: torch.device) -> None:
    scenes = [to_device(scene("plain", 0, 60, seed), device) for seed in range(4)]
    view = camera(24, 20, 20.0)
    want = [rasterize(gaussians, view, backend="cuda").rgb for gaussians in scenes]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda g: rasterize(g, view, backend="cuda").rgb, scenes * 5))
    for number, picture in enumerate(got):
        assert torch.equal(picture, want[number % len(want)])


@needs_compiler
@pytest.mark.parametrize(
    "capacity", [cuda.Capacity(512, 4096), cuda.Capacity(8, 4096), cuda.Capacity(8, 1)]
)
def test_what_threads_come_first_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capacity: cuda.Capacity
) -> None:
    """No kernel reads values that another of its threads still writes: bins, overflow, search."""
    gaussians, cameras = scene("plain", 1, 700), [camera(40, 33, 30.0), camera(17, 9, 12.0)]
    monkeypatch.setattr(cuda, "OVERFLOW_PER_GAUSSIAN", 0)
    program, pictures = stand_in(cuda.FORWARD), []
    for order in ("forward", "reverse", 3, 4):

        class Ordered:
            def launch(self, *arguments: object, order: str | int = order) -> None:
                program.launch(*arguments, order=order)

        monkeypatch.setattr(cuda, "FORWARD", Ordered())
        splatter = cuda.Splatter("cpu")
        splatter._policy.capacity = capacity
        pictures.append([image for _ in range(2) for image in splatter.draw(gaussians, cameras)])
    for others in pictures[1:]:
        for one, other in zip(pictures[0], others, strict=True):
            assert isinstance(one, Image)
            assert isinstance(other, Image)
            assert torch.equal(one.rgb, other.rgb)
            assert torch.equal(one.depth, other.depth)
