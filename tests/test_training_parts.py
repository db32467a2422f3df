"""The trainer's parts: losses, metrics, LPIPS, windows, flat weights, both variants, tuning."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cuda_on_cpu import StandIn, needs_compiler
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import ROOT, arguments, losses, run

from ash_core.commands.train import next_commands
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.checkpoint import read_checkpoint
from ash_core.files.dataset import MaskedCrop
from ash_core.files.released import import_ash
from ash_core.geometry.camera import crop_camera
from ash_core.networks.unet import expected_shapes
from ash_core.records import Image
from ash_core.splat.rasterize import rasterize
from ash_core.training import losses as loss_parts
from ash_core.training.config import LossWeights, TrainConfig
from ash_core.training.flat import Flat
from ash_core.training.loop import Loop
from ash_core.training.losses import FusedSsim, picture_losses, ssim_map
from ash_core.training.lpips import (
    Lpips,
    _alexnet,
    _shift_tolerant,
    _vgg16,
    open_lpips,
    packaged_weights,
)
from ash_core.training.metrics import eroded, psnr, published_window, scores
from ash_core.training.model import learning_rate
from ash_core.training.pictures import Pictures, mask_box
from ash_core.training.setup import TrainingSetup
from ash_core.training.trainer import composed


class Silent:
    """Nobody is told."""

    def note(self, text: str) -> None:
        pass

    def preparing(self, what: str, done: int, count: int) -> None:
        pass

    def training(self, step: int, steps: int, text: str) -> None:
        pass

    def stop(self) -> str:
        return "no"


def blur(planes: torch.Tensor) -> torch.Tensor:
    """The window's weighted mean about each pixel, zeros outside."""
    at = torch.arange(-5, 6, dtype=torch.float64)
    taps = (-(at**2) / 4.5).exp()
    kernel = (taps[:, None] * taps / taps.sum() ** 2).float()[None, None]
    return torch.nn.functional.conv2d(planes[:, None], kernel, padding=5)[:, 0]


def plain_ssim(ours: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """By the definition, with autograd."""
    mean_o, mean_t = blur(ours), blur(truth)
    var_o, var_t = blur(ours**2) - mean_o**2, blur(truth**2) - mean_t**2
    both = blur(ours * truth) - mean_o * mean_t
    top = (2 * mean_o * mean_t + 1e-4) * (2 * both + 9e-4)
    return top / ((mean_o**2 + mean_t**2 + 1e-4) * (var_o + var_t + 9e-4))


@pytest.mark.parametrize("how", [ssim_map, pytest.param(FusedSsim.apply, marks=needs_compiler)])
def test_ssim_has_the_gradient_of_its_definition(
    how: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_parts, "SSIM", StandIn(loss_parts.SSIM))
    torch.manual_seed(0)
    ours, truth = torch.rand(2, 20, 31, 3, requires_grad=True), torch.rand(2, 20, 31, 3)
    weights = torch.rand_like(truth)
    planes = (part.movedim(-1, 1).flatten(0, 1) for part in (ours, truth))
    plain = plain_ssim(*planes).view(2, 3, 20, 31).movedim(1, -1)
    fused = how(ours, truth)
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=0)
    got = torch.autograd.grad((fused * weights).sum(), ours)[0]
    want = torch.autograd.grad((plain * weights).sum(), ours)[0]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_equal_pictures_lose_nothing() -> None:
    rgb, alpha = torch.rand(2, 24, 24, 3), torch.rand(2, 24, 24)
    weights = LossWeights(l1=1.0, dssim=1.0, mask=1.0)
    for name, part in picture_losses(rgb, alpha, rgb, alpha, weights).items():
        assert float(part.abs().max()) < 1e-6, name


def test_scores_look_at_the_person_alone_in_the_published_window() -> None:
    truth = torch.rand(700, 800, 3)
    mask = torch.zeros(700, 800)
    mask[100:500, 50:250] = 1
    assert published_window(mask) == (slice(0, 600), slice(0, 496))
    ours = truth.clone()
    ours[:90] = 0
    found = scores(ours, truth, mask)
    assert found.psnr == 100.0
    assert found.psnr_full == pytest.approx(psnr(ours, truth))
    assert found.psnr_full < 20
    assert int(eroded(mask).sum()) == 398 * 198


# ---- LPIPS ----


PLANS = [_alexnet(), _vgg16(), _shift_tolerant()]


def lpips_files(folder: Path, plan: object) -> list[Path]:
    """Random weights in the two files' layout."""
    torch.manual_seed(1)
    backbone, heads = {}, {}
    for key, _, (c_in, c_out, kernel, _, _) in plan.convolutions():
        scale = (2 / (c_in * kernel**2)) ** 0.5
        backbone[f"{key}.weight"] = torch.randn(c_out, c_in, kernel, kernel) * scale
        backbone[f"{key}.bias"] = torch.zeros(c_out)
    for index, width in enumerate(plan.widths):
        heads[f"lin{index}.model.1.weight"] = torch.rand(1, width, 1, 1)
    torch.save(backbone, folder / "backbone.pth")
    torch.save(heads, folder / "heads.pth")
    return [folder / "backbone.pth", folder / "heads.pth"]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_lpips_by_the_users_weights(tmp_path: Path, plan: object) -> None:
    lpips = Lpips(lpips_files(tmp_path, plan))
    assert lpips.name == plan.name
    assert [tuple(f.shape[1:2]) for f in lpips.features(torch.rand(1, 3, 64, 64))] == [
        (width,) for width in plan.widths
    ]
    truth = torch.rand(40, 48, 3)
    near, far = truth + 0.02 * torch.randn_like(truth), torch.rand(40, 48, 3)
    assert float(lpips(truth, truth)) == 0
    assert 0 < float(lpips(near, truth)) < float(lpips(far, truth))
    assert float(lpips(torch.rand(8, 9, 3), torch.rand(8, 9, 3))) > 0


def test_vgg_layers_are_torchvisions() -> None:
    numbers = [number for _, number, _ in _vgg16().convolutions()]
    assert numbers == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    order = [layer[0] for layer in _vgg16().layers if layer[0] in ("pool", "compare")]
    assert order == ["compare", "pool"] * 4 + ["compare"]
    assert _vgg16().widths == [64, 128, 256, 512, 512]


def test_shift_tolerant_sizes_are_the_authors(tmp_path: Path) -> None:
    """Compare with the sizes that the package's own network gives for 64 x 64 pixels."""
    lpips = Lpips(lpips_files(tmp_path, _shift_tolerant()))
    sizes = [f.shape[-1] for f in lpips.features(torch.rand(1, 3, 64, 64))]
    assert sizes == [30, 15, 8, 8, 8]


@pytest.mark.skipif(not packaged_weights(), reason="no stlpips_pytorch")
def test_the_package_measures_as_its_own_code_does() -> None:
    lpips = open_lpips(())
    assert lpips is not None
    assert lpips.name == "ST-LPIPS"
    y, x = torch.meshgrid(torch.linspace(0, 1, 70), torch.linspace(0, 1, 90), indexing="ij")
    one = torch.stack((x, y, (9 * x * y).sin() ** 2), -1)
    other = torch.stack((y, x, (7 * x).cos() ** 2), -1)
    assert float(lpips(one, other)) == pytest.approx(0.688101, rel=1e-4)


def test_other_weights_than_lpips_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: expected the weights of torchvision"):
        Lpips([tmp_path / "other.pth"])


# ---- windows ----


def crop_of(height: int, width: int, top: int, left: int, size: tuple[int, int]) -> MaskedCrop:
    rgb = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    alpha = np.zeros((size[1], size[0]), np.uint8)
    alpha[top : top + height, left : left + width] = 255
    return MaskedCrop(rgb, alpha, 0, 0, *size)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(8, 50), st.integers(8, 40), st.data())
def test_windows_lie_in_the_picture_and_around_the_box(
    height: int, width: int, across: int, down: int, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, 40 - height)), data.draw(st.integers(0, 50 - width))
    box = mask_box(crop_of(height, width, top, left, (50, 40)))
    pictures = Pictures.__new__(Pictures)
    pictures.sizes = np.array([(50, 40)])
    shape = box.pixels.shape
    pictures.boxes = np.array([[box.left, box.top, shape[1], shape[0]]])
    chance = np.array([[data.draw(st.floats(0, 0.999)), data.draw(st.floats(0, 0.999))]])
    (x, y), *_ = pictures.corners(np.array([0]), chance, (across, down)).tolist()
    assert 0 <= x <= 50 - across
    assert 0 <= y <= 40 - down
    for start, side, at, size in ((x, across, box.left, shape[1]), (y, down, box.top, shape[0])):
        if size <= side:
            assert start <= at
            assert at + size <= start + side
        else:
            assert at <= start
            assert start + side <= at + size


@pytest.mark.parametrize("keep", ["memory", "files"])
def test_windows_are_the_photographs_pixels(footage: Path, keep: str) -> None:
    setup = make_setup(footage, keep=keep)
    pictures, number = setup.footage.pictures, np.array([0, 5])
    corners = np.array([[3, 2], [20, 1]])
    got = pictures.windows(number, corners, (60, 64))
    for at, (n, (x, y)) in enumerate(zip(number, corners, strict=True)):
        box = pictures._read(int(n))
        whole = np.zeros((72, 96, 4), np.uint8)
        h, w = box.pixels.shape[:2]
        whole[box.top : box.top + h, box.left : box.left + w] = box.pixels
        assert np.array_equal(got[at].numpy(), whole[y : y + 64, x : x + 60])
    setup.close()


def test_a_window_shows_what_the_whole_picture_shows(footage: Path) -> None:
    setup = make_setup(footage)
    split = setup.dataset.splits["training"]
    with torch.no_grad():
        gaussians = setup.model.gaussians(setup.poses.mesh(0), setup.poses.windows[0])
        # Twice as near as it was filmed: most lies outside the window, far from its middle.
        whole = replace(split.cameras[0], K=split.cameras[0].K * torch.tensor([[2.0], [2.0], [1]]))
        for backend in ("cpu", "reference"):
            full = rasterize(gaussians, whole, backend=backend)
            part = rasterize(gaussians, crop_camera(whole, 66, 50, 30, 22), backend=backend)
            assert float(part.alpha.max()) > 0.9
            want = full.rgb[50:72, 66:96]
            torch.testing.assert_close(part.rgb, want, atol=2e-5, rtol=0)
    setup.close()


# ---- weights ----


def test_flat_weights_are_the_networks_own() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 1))
    net = net.to(memory_format=torch.channels_last)
    before = {name: part.detach().clone() for name, part in net.named_parameters()}
    flat = Flat(net.named_parameters())
    assert all(p.data_ptr() % 256 == flat.values.data_ptr() % 256 for p in net.parameters())
    picture = torch.rand(1, 3, 8, 8)
    for name, part in flat.named_parts(flat.values).items():
        assert torch.equal(part, before[name])
    net(picture).sum().backward()
    assert all(p.grad.data_ptr() >= flat.grad.data_ptr() for p in net.parameters())
    assert float(flat.grad.norm()) > 0
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    flat.values.zero_()
    assert not net(picture).detach().any()


def make_setup(footage: Path, **more: object) -> TrainingSetup:
    given = {"avatar": footage / "small.safetensors", "views_per_pose": 2, "validate_every": 0}
    config = TrainConfig(footage, footage / "session", **({"device": "cpu"} | given | more))
    device = torch.device("cuda", 0) if config.device == "cuda" else torch.device("cpu")
    return TrainingSetup(config.resolved(), device, Silent())


def steps(setup: TrainingSetup, count: int) -> list[float]:
    """Losses of some steps."""
    batches, found = setup.batches(0), []
    for _ in range(count):
        setup.trainer.run_step([next(batches)])
        found.append(setup.trainer.look()["loss"])
    setup.close()
    return found


@pytest.mark.parametrize(
    ("said", "steps", "step", "seconds", "done"),
    [
        ({}, 20_000, 5_000, 9e9, 0.25),
        ({"variant": "released"}, 2_000_000, 5_000, 9e9, 0.0025),
        ({"minutes": 2.0}, None, 10**6, 30.0, 0.25),  # minutes end no sooner for the usual steps
        ({"minutes": 2.0, "steps": 100}, 100, 50, 30.0, 0.5),
        ({"minutes": 2.0, "steps": 100}, 100, 50, 90.0, 0.75),
    ],
)
def test_minutes_or_steps_end_a_training(
    said: dict[str, Any], steps: int | None, step: int, seconds: float, done: float
) -> None:
    config = TrainConfig(Path("data"), Path("out"), **said).resolved()
    assert config.steps == steps
    loop = Loop.__new__(Loop)
    loop.config, loop.trainer = config, SimpleNamespace(step=step)  # type: ignore[assignment]
    loop.before, loop._started = seconds, time.perf_counter()
    assert loop.done == pytest.approx(done, rel=0.01)
    rates = [learning_rate(config, part, 10**6) for part in (0.0, 0.5, 1.0)]
    assert config.learning_rate == rates[0]
    assert rates[2] == pytest.approx((config.final_rate or 0.0) * rates[0])


def test_released_networks_train_and_leave_the_published_layout(
    footage: Path,
    tmp_path: Path,
) -> None:
    setup = make_setup(
        footage, variant="released", atlas=32, avatar=None, warm_up_steps=3, views_per_pose=1
    )
    trainer, batches, warm = setup.trainer, setup.batches(0), []
    for _ in range(3):
        trainer.run_step([next(batches)])
        warm.append(trainer.look()["warm_up"])
    assert warm[-1] < warm[0]
    before = trainer.flats["decoder"].values.clone()
    trainer.run_step([next(batches)])
    assert "loss" in trainer.look()
    assert not torch.equal(before, trainer.flats["decoder"].values)
    setup.close()
    setup.model.save(tmp_path, trainer.ema, (), trainer.step)
    wanted = {f"unet_{kind}": expected_shapes(kind) for kind in ("geometry", "appearance")}
    stored = read_checkpoint(tmp_path / "gaussian_checkpoints.tar", wanted)
    avatar = load_avatar(tmp_path / "avatar.safetensors")
    assert avatar.variant == "released"
    for name, net in stored.items():
        for key, value in net.items():
            assert torch.equal(value, avatar.networks[name][key]), key
    weight = "outc.conv.weight"
    view = trainer.flats["decoder"].named_parts(trainer.ema["decoder"])
    assert torch.equal(stored["unet_geometry"][weight], view[f"unet_geometry.{weight}"])


def two_train_as_one(footage: Path, folder: Path, device: str, exactly: float) -> None:
    """Losses and lengths of gradients of one process, and of two that share its poses."""
    more = ("--steps", 4, "--poses-per-step", 2, "--views-per-pose", 1)
    more = (*more, "--device", device, "--precision", "float")
    assert run(*arguments(footage, folder / "one", *more)) == 0
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += ["-m", "ash_core.training.train", *arguments(footage, folder / "two", *more)[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("poses, 12 pictures") == 1
    for name, tolerance in (("loss", exactly), ("gradient", 10 * exactly)):
        one, two = (
            [json.loads(line)[name] for line in (folder / n / "log.jsonl").open()]
            for n in ("one", "two")
        )
        assert len(one) == 4
        assert two == pytest.approx(one, rel=tolerance), name


def test_two_processes_train_as_one(footage: Path, tmp_path: Path) -> None:
    two_train_as_one(footage, tmp_path, "cpu", 1e-5)


def test_what_cannot_be_saved_is_told_and_training_goes_on(
    footage: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    assert run(*arguments(footage, tmp_path, "--steps", 3, "--checkpoint-every", 1)) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert "not saved at step 1, training goes on" in errors
    assert max(losses(tmp_path)) == 3


def test_the_character_cache_follows_its_inputs(footage: Path, tmp_path: Path) -> None:
    data, _ = import_ash(footage / "toy.conf")
    setup = make_setup(footage)
    folder = footage / "session" / "cache"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    setup.close()
    make_setup(footage).close()
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    moved = replace(data.template, vertices=data.template.vertices + 0.001)
    small = {"atlas": 48, "width": 8, "sh_degree": 1}
    save_avatar(tmp_path / "moved.safetensors", replace(data, template=moved, decoder=small))
    make_setup(footage, avatar=tmp_path / "moved.safetensors").close()
    assert len(list(folder.iterdir())) == len(before) + 1


@pytest.mark.parametrize(
    "more",
    [
        {"dropout": 0.3},
        {"variant": "released", "atlas": 32, "avatar": None, "warm_up_steps": 3},
    ],
)
def test_what_is_drawn_and_aimed_at_is_the_same_after_a_stop(
    footage: Path, tmp_path: Path, more: dict[str, object]
) -> None:
    """Dropout follows from seed and step; the published first phase goes on in its middle."""
    whole, second = (make_setup(footage, views_per_pose=1, **more) for _ in range(2))
    batches = whole.batches(0)
    for _ in range(2):
        whole.trainer.run_step([next(batches)])
    state = whole.trainer.state(0.0)  # on the CPU it is the weights themselves
    kept = {name: part.clone() for name, part in state.tensors.items()}
    for _ in range(2):
        whole.trainer.run_step([next(batches)])
    second.trainer.load(replace(state, tensors=kept), "there")
    batches = second.batches(2)
    for _ in range(2):
        second.trainer.run_step([next(batches)])
    for setup in (whole, second):
        setup.close()
    want, got = (one.trainer.flats["decoder"].values for one in (whole, second))
    assert torch.equal(want, got)


def test_resume_holds_on_to_what_the_weights_mean(footage: Path) -> None:
    wide = make_setup(footage, offset_mm=300)
    narrow = make_setup(footage)
    for setup in (wide, narrow):
        setup.trainer.run_step([next(setup.batches(0))])
        setup.close()
    with pytest.raises(InputError, match="--offset-mm: expected 300 as in there, got 150"):
        narrow.trainer.load(wide.trainer.state(0.0), "there")


def test_a_soft_mask_s_rim_is_kept_and_mixes_with_any_background() -> None:
    """The box holds every pixel that shows some of the person; truth = rgb a + under (1 - a)."""
    rgb, alpha = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    alpha[18:22, 18:22], alpha[10, 20], rgb[alpha > 0] = 255, 64, 200
    box = mask_box(MaskedCrop(rgb, alpha, 0, 0, 40, 40))
    at = 10 - box.top, 20 - box.left
    assert box.pixels[at].tolist() == [200, 200, 200, 64]
    image = Image(torch.full((40, 40, 3), 0.3), torch.full((40, 40), 0.5), torch.ones(40, 40))
    pixels = torch.from_numpy(np.dstack([rgb, alpha]))[None]
    under = torch.tensor([[1.0, 0.5, 0.0]])
    ours, _, truth, mask = composed([image], pixels, under, 255.0)
    share = 64 / 255
    torch.testing.assert_close(truth[0, 10, 20], 200 / 255 * share + under[0] * (1 - share))
    torch.testing.assert_close(truth[0, 0, 0], under[0])
    torch.testing.assert_close(mask[0, 10, 20], torch.tensor(share))
    torch.testing.assert_close(ours[0, 10, 20], 0.3 + under[0] * 0.5)


def test_next_commands_can_be_pasted() -> None:
    config = TrainConfig(Path("my data"), Path("out"), test_cameras="1,2")
    assert next_commands(config) == [
        "ash-studio view out/avatar.safetensors",
        "ash-studio eval out/avatar.safetensors 'my data' -o out/report --test-cameras 1,2",
    ]
