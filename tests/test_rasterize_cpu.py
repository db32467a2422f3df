"""The numba rasterizer against the definition, in pictures and in gradients."""

import logging
import math
import os
import re
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ash_core.geometry.rotations import quat_to_matrix
from ash_core.records import Camera, Gaussians, Image
from ash_core.splat import cpu
from ash_core.splat.rasterize import rasterize

NAMES = tuple(field.name for field in fields(Gaussians))
FLIPS = 3
"""Pixels in a picture where float32 may decide a threshold otherwise than float64."""


def camera(width: int = 70, height: int = 55, focal: float = 60.0) -> Camera:
    """Off-centre, turned and moved, so that no axis is special."""
    turn, nod = math.radians(20), math.radians(-10)
    about_y = torch.tensor(
        [[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]]
    )
    about_x = torch.tensor(
        [[1, 0, 0], [0, math.cos(nod), -math.sin(nod)], [0, math.sin(nod), math.cos(nod)]]
    )
    view = torch.eye(4)
    view[:3, :3] = about_x @ about_y
    view[:3, 3] = torch.tensor([0.1, -0.2, 3.0])
    K = torch.tensor([[focal, 0, width * 0.45], [0, focal * 1.1, height * 0.55], [0, 0, 1]])
    return Camera(view, K, width, height)


def scene(kind: str, degree: int = 0, count: int = 150, seed: int = 0) -> Gaussians:
    """Random Gaussians about the origin, with the difficulty that `kind` names."""
    random = np.random.default_rng(seed)
    spread, scales, opacities = 0.8, (0.02, 0.15), (0.05, 0.99)
    if kind == "edge":
        spread = 2.5
    elif kind == "behind":
        spread = 5.0
    elif kind == "tiny":
        scales = (1e-6, 5e-3)
    elif kind == "huge":
        scales, count = (0.5, 20.0), 40
    elif kind == "needles":
        scales, opacities = (1e-4, 3.0), (0.05, 0.5)
    elif kind == "faint":
        opacities = (0.0, 0.02)
    elif kind == "opaque":
        opacities, count = (0.95, 1.0), 400
    low, high = np.log(scales)
    values = (
        random.uniform(-spread, spread, (count, 3)),
        random.normal(size=(count, 4)),
        np.exp(random.uniform(low, high, (count, 3))),
        random.uniform(*opacities, count),
        random.normal(0, 0.4, (count, (degree + 1) ** 2, 3)) + 0.2,
    )
    gaussians = Gaussians(*(torch.tensor(v, dtype=torch.float32) for v in values))
    if kind == "flat":
        gaussians.scales[:, 1] = 0
        gaussians.scales[::3] = 0
    return replace(gaussians, quats=torch.nn.functional.normalize(gaussians.quats, dim=1))


KINDS = ("plain", "edge", "behind", "tiny", "huge", "needles", "flat", "faint", "opaque")


def doubled(gaussians: Gaussians) -> Gaussians:
    return Gaussians(*(getattr(gaussians, name).double() for name in NAMES))


def assert_close_but_for_flips(got: Image, want: Image, flips: int = FLIPS) -> None:
    for name, scale in (("rgb", 1.0), ("alpha", 1.0), ("depth", 10.0)):
        a, b = getattr(got, name).double(), getattr(want, name).double()
        error = (a - b).abs()
        error = error.amax(-1) if name == "rgb" else error
        if name == "depth":
            # A float32 alpha, 1 - T, of 1/255 is good to 2e-5 of itself.
            error = error / b.clamp_min(1.0)
        bad = error > 1e-5 * scale
        assert int(bad.sum()) <= flips, (name, int(bad.sum()), float(error.max()))
        assert float(error[~bad].mean() if (~bad).any() else 0.0) < 2e-6 * scale, name


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_the_reference_s(kind: str, degree: int) -> None:
    gaussians, under = scene(kind, degree), torch.tensor([0.3, 0.6, 0.1])
    got = rasterize(gaussians, camera(), under, backend="cpu")
    want = rasterize(doubled(gaussians), camera(), under.double(), backend="reference")
    if kind != "faint":
        assert float(want.alpha.max()) > 0.3
    assert_close_but_for_flips(got, want)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 40),
    kind=st.sampled_from(KINDS),
    degree=st.integers(0, 3),
    width=st.integers(1, 70),
    height=st.integers(1, 40),
    focal=st.floats(5, 500),
)
def test_any_small_scene_is_the_reference_s(
    seed: int, count: int, kind: str, degree: int, width: int, height: int, focal: float
) -> None:
    whole = scene(kind, degree, seed=seed)
    gaussians = Gaussians(*(getattr(whole, name)[:count] for name in NAMES))
    view = camera(width, height, focal)
    got = rasterize(gaussians, view, backend="cpu")
    assert_close_but_for_flips(got, rasterize(doubled(gaussians), view, backend="reference"))


def gradients(
    gaussians: Gaussians, cameras: list[Camera], backend: str, dtype: torch.dtype, parts: str
) -> dict[str, Tensor]:
    """Gradients of a random weighting of the pictures' parts, background included."""
    leaves = {n: getattr(gaussians, n).to(dtype).clone().requires_grad_() for n in NAMES}
    under = torch.tensor([0.2, 0.7, 0.4], dtype=dtype)
    loss = torch.zeros((), dtype=dtype)
    for image in rasterize(Gaussians(**leaves), cameras, under, backend=backend):
        random = np.random.default_rng(image.alpha.numel())
        for part in parts.split():
            value = getattr(image, part)
            weights = torch.tensor(random.normal(size=value.shape), dtype=dtype)
            loss = loss + (weights * value).sum()
    loss.backward()
    # Colour has no gradient at all where no loss is made of it.
    return {n: torch.zeros(()) if x.grad is None else x.grad.double() for n, x in leaves.items()}


@pytest.mark.parametrize(
    ("kind", "parts"),
    [(kind, "rgb alpha depth") for kind in KINDS]
    + [("plain", part) for part in ("rgb", "alpha", "depth")],
)
def test_gradients_are_the_reference_s(kind: str, parts: str) -> None:
    degree = KINDS.index(kind) % 4
    gaussians = scene(kind, degree, seed=3)
    cameras = [camera(50, 41), camera(33, 20, 25.0)]
    got = gradients(gaussians, cameras, "cpu", torch.float32, parts)
    want = gradients(gaussians, cameras, "reference", torch.float64, parts)
    for name in NAMES:
        size = float(want[name].norm())
        error = float((got[name] - want[name]).norm())
        assert error <= 1e-3 * size + 1e-6, (name, error, size)


def test_reference_gradients_are_finite_differences() -> None:
    gaussians, view = doubled(scene("plain", 2, 12, seed=5)), camera(20, 16, 20.0)
    view = replace(view, viewmat=view.viewmat.double(), K=view.K.double())
    weights = torch.tensor(np.random.default_rng(0).normal(size=(16, 20, 5)))

    def loss(**values: Tensor) -> Tensor:
        image = rasterize(Gaussians(**values), view, backend="reference")
        stacked = torch.cat([image.rgb, image.alpha[..., None], image.depth[..., None]], -1)
        return (weights * stacked).sum()

    values = {name: getattr(gaussians, name).clone().requires_grad_() for name in NAMES}
    loss(**values).backward()
    random = np.random.default_rng(1)
    for name in NAMES:
        grad = values[name].grad
        assert grad is not None
        for _ in range(4):
            at = tuple(int(random.integers(0, n)) for n in grad.shape)
            ends = []
            for step in (1e-7, -1e-7):
                moved = {n: v.detach().clone() for n, v in values.items()}
                moved[name][at] += step
                ends.append(float(loss(**moved)))
            slope = (ends[0] - ends[1]) / 2e-7
            assert float(grad[at]) == pytest.approx(slope, rel=2e-4, abs=2e-4), (name, at)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    gaussians = scene("plain")
    gaussians.opacities.requires_grad_()
    image = rasterize(gaussians, camera(), backend="cpu")
    image.alpha.mean().backward()
    assert gaussians.opacities.grad is not None
    assert gaussians.means.grad is None
    with torch.no_grad():
        assert not rasterize(gaussians, camera(), backend="cpu").rgb.requires_grad


def test_the_first_picture_leaves_torch_its_threads() -> None:
    """One that goes on after a kill would else add up in another order than one that was not."""
    code = (
        "import torch; import ash_core.splat.cpu as cpu; before = torch.get_num_threads();"
        "workers = cpu._workers(); assert workers == 2, workers;"
        "assert torch.get_num_threads() == before == 1, (torch.get_num_threads(), before)"
    )
    more = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=os.environ | more,
        check=True,
    )


def test_gradients_repeat_bit_by_bit_on_any_number_of_threads() -> None:
    gaussians, threads = scene("plain", 1, 600), numba.get_num_threads()
    pictures, slopes = [], []
    try:
        for count in (1, threads, threads):
            numba.set_num_threads(count)
            pictures.append(rasterize(gaussians, camera(), backend="cpu"))
            slopes.append(gradients(gaussians, [camera()], "cpu", torch.float32, "rgb depth"))
    finally:
        numba.set_num_threads(threads)
    for picture, slope in zip(pictures[1:], slopes[1:], strict=True):
        assert torch.equal(picture.rgb, pictures[0].rgb)
        assert torch.equal(picture.depth, pictures[0].depth)
        for name in NAMES:
            assert torch.equal(slope[name], slopes[0][name]), name


def test_python_threads_may_all_rasterize_at_once() -> None:
    gaussians = scene("plain", 0, 500)
    want = rasterize(gaussians, camera(), backend="cpu").rgb
    bad: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not torch.equal(rasterize(gaussians, camera(), backend="cpu").rgb, want):
                bad.append(number)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not bad


def test_the_least_threading_layer_survives_two_callers() -> None:
    """numba's `workqueue` kills a process that enters it twice; ours never does."""
    script = (
        "import threading, torch, numba\n"
        "from test_rasterize_cpu import camera, rasterize, scene\n"
        "g = scene('plain')\n"
        "work = lambda: [rasterize(g, camera(), backend='cpu') for _ in range(30)]\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert numba.threading_layer() == 'workqueue', numba.threading_layer()\n"
    )
    here = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=300)


def test_compilation_is_announced_once_and_only_when_it_happens(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu._Announcement, "is_logged", False)
    rasterize(scene("plain"), camera(), backend="cpu")
    with caplog.at_level(logging.INFO, "ash_core"):
        rasterize(scene("plain"), camera(), backend="cpu")
        assert not caplog.records
        fresh = numba.njit(lambda value, workers: value + workers)
        cpu.call_kernel(fresh, 1)
        cpu.call_kernel(fresh, 1.0)
    assert len(caplog.records) == 1
    assert "compiling" in caplog.text


def test_read_only_installations_keep_their_kernels_in_the_user_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu.os, "access", lambda path, mode: str(path).startswith(str(tmp_path)))
    monkeypatch.setattr(cpu.config, "CACHE_DIR", "")
    assert cpu._can_cache()
    assert str(tmp_path / "ash-studio" / "numba") == cpu.config.CACHE_DIR


def test_exp2_is_good_to_float32() -> None:
    t = np.linspace(-20, 0, 20001, dtype=np.float32)
    got = np.array([cpu._exp2(value) for value in t])
    want = np.exp2(t.astype(np.float64))
    assert np.abs(got / want - 1).max() < 1.5e-7


def test_the_inner_loop_is_vectorised() -> None:
    """A stray float64 or an index that may be negative would cost a factor of eight, silently."""
    dtypes = (np.float32, np.bool_, np.int32, np.float64, np.float32)
    shapes = (1, 1, 1, 2, 2)
    arrays = [numba.typeof(np.zeros((1,) * n, d)) for n, d in zip(shapes, dtypes, strict=True)]
    kernel = numba.njit(
        (*arrays, numba.int64, numba.int64, numba.int64),
        fastmath=cpu.KERNEL_OPTIONS["fastmath"],
        error_model="numpy",
    )(cpu._blend_tile.py_func)
    (assembly,) = kernel.inspect_asm().values()
    fused = re.findall(r"v?fn?madd\w*ps\s.*%[yz]mm|fmla\s+v\d+\.4s", assembly)
    if "ymm" not in assembly and "fmla" not in assembly:
        pytest.skip("this machine has no vectors wider than SSE")
    assert len(fused) >= 10, len(fused)


def test_rotation_matrices_turn_as_quaternions_do() -> None:
    quats = torch.nn.functional.normalize(torch.randn(20, 4, dtype=torch.float64), dim=1)
    R = quat_to_matrix(quats)
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    assert float((torch.linalg.det(R) - 1).abs().max()) < 1e-9
    about_z = quat_to_matrix(torch.tensor([[math.sqrt(0.5), 0, 0, math.sqrt(0.5)]]))[0]
    torch.testing.assert_close(about_z @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
