"""The trainer on a GPU against the trainer on the CPU; all of it skips without one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_training import arguments, losses, run
from test_training_parts import lpips_files, make_setup, steps, two_train_as_one
from test_training_tuning import TUNED, leaning

from ash_core.training.captured import WARM_UP
from ash_core.training.config import LossWeights
from ash_core.training.lpips import _shift_tolerant
from ash_core.training.setup import TrainingSetup

__all__ = ["leaning"]  # a fixture
pytestmark = pytest.mark.gpu


@pytest.fixture
def full_precision() -> Iterator[None]:
    """No products of ten bits in the convolutions."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def gradient(setup: TrainingSetup, noise: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    """The loss of the first pose and its gradient, at weights that are a little off zero."""
    trainer, flat = setup.trainer, setup.trainer.flats["decoder"]
    for name, part in flat.named_parts(flat.values).items():
        part += noise[name].to(part.device)
    batches = setup.batches(0)
    _, batch = next(batches)
    loss, _ = trainer.pose_loss(batch)
    loss.backward()
    setup.close()
    parts = flat.named_parts(flat.grad)
    return float(loss.detach()), torch.cat([parts[name].flatten().cpu() for name in noise])


def test_a_gradient_is_the_cpus(footage: Path, full_precision: None) -> None:
    generator = torch.Generator().manual_seed(0)
    setup = make_setup(footage)
    flat = setup.trainer.flats["decoder"]
    noise = {
        name: 0.02 * torch.randn(part.shape, generator=generator)
        for name, part in flat.named_parts(flat.values).items()
    }
    wanted_loss, wanted = gradient(setup, noise)
    loss, got = gradient(make_setup(footage, device="cuda", precision="float"), noise)
    assert loss == pytest.approx(wanted_loss, rel=1e-4)
    assert float(wanted.norm()) > 0
    assert float((got - wanted).norm()) <= 1e-3 * float(wanted.norm())


def test_thirty_steps_learn_as_on_the_cpu(footage: Path) -> None:
    """In half, at a rate where rounding does not grow: at 0.005 twins on a CPU part by a tenth."""
    cpu, cuda = (
        steps(make_setup(footage, device=device, learning_rate=1e-3, steps=30), 30)
        for device in ("cpu", "cuda")
    )
    assert cuda == pytest.approx(cpu, rel=0.25)
    assert sum(cuda[-10:]) == pytest.approx(sum(cpu[-10:]), rel=0.05)
    assert sum(cuda[-10:]) < 0.9 * sum(cuda[:10])


def test_captured_steps_are_the_plain_ones(footage: Path, full_precision: None) -> None:
    captured, plain = (
        make_setup(footage, device="cuda", precision="float", learning_rate=1e-3) for _ in range(2)
    )
    plain.trainer._end = None  # nothing is captured without it
    got, want = steps(captured, WARM_UP + 7), steps(plain, WARM_UP + 7)
    assert captured.trainer._pose is not None
    assert captured.trainer._pose._captured._graph is not None
    assert plain.trainer._pose is None
    assert got == pytest.approx(want, rel=1e-4)


def test_captured_patches_are_the_plain_ones_and_the_cpus(
    footage: Path, tmp_path: Path, full_precision: None
) -> None:
    files = tuple(lpips_files(tmp_path, _shift_tolerant()))
    more = {"precision": "float", "learning_rate": 1e-3, "lpips_weights": files}
    more["weights"] = LossWeights(patch_lpips=0.2)
    captured, plain = (make_setup(footage, device="cuda", **more) for _ in range(2))
    plain.trainer._end = None  # nothing is captured without it
    got, want = (steps(setup, WARM_UP + 7) for setup in (captured, plain))
    assert captured.trainer._pose is not None
    assert captured.trainer._pose._captured._graph is not None
    assert got == pytest.approx(want, rel=1e-4)
    assert got[0] == pytest.approx(steps(make_setup(footage, **more), 1)[0], rel=1e-3)


@pytest.mark.parametrize("tuned", TUNED)
@pytest.mark.parametrize("has_networks", [False, True])
def test_captured_tuned_steps_are_the_plain_ones(
    footage: Path, leaning: Path, full_precision: None, tuned: dict[str, bool], has_networks: bool
) -> None:
    """Compared with how far two plain trainings part, whose sums have no fixed order."""
    avatar = leaning if has_networks else footage / "small.safetensors"
    losses_seen, ends = [], []
    for capture in (True, False, False):
        setup = make_setup(
            footage, device="cuda", precision="float", avatar=avatar, learning_rate=1e-3, **tuned
        )
        trainer, batches = setup.trainer, setup.batches(0)
        trainer.rate = 1e-3
        starts = {name: flat.values.clone() for name, flat in trainer.flats.items()}
        if not capture:
            trainer._end = None
        seen = []
        for step in range(2 * WARM_UP + 8):
            if step == WARM_UP + 4:
                trainer.refresh_frames()  # captured steps see the new ones
            trainer.run_step([next(batches)])
            seen.append(trainer.look()["loss"])
        assert (trainer._pose is not None) == capture
        assert trainer._pose is None or trainer._pose._captured._graph is not None
        setup.close()
        losses_seen.append(seen)
        ends.append({name: (flat.values - starts[name]) for name, flat in trainer.flats.items()})
    assert losses_seen[0] == pytest.approx(losses_seen[1], rel=1e-3)
    assert losses_seen[1][-1] != losses_seen[1][0]
    for name, plain in ends[1].items():
        noise = float((ends[2][name] - plain).norm())
        assert float(plain.norm()) > 0, name
        assert float((ends[0][name] - plain).norm()) <= 3 * noise + 0.02 * float(plain.norm()), name


def test_both_published_phases_are_captured(footage: Path, full_precision: None) -> None:
    first, count = WARM_UP + 4, 2 * (WARM_UP + 4)
    found = []
    for capture in (True, False):
        setup = make_setup(
            footage, device="cuda", precision="float", variant="released", atlas=32, avatar=None,
            warm_up_steps=first, views_per_pose=1,
        )  # fmt: skip
        trainer, batches, losses_seen = setup.trainer, setup.batches(0), []
        if not capture:
            trainer._end = None
        for _ in range(count):
            trainer.run_step([next(batches)])
            told = trainer.look()
            losses_seen.append(told.get("warm_up", told.get("loss")))
        assert (trainer._pose is not None) == capture
        setup.close()
        found.append(losses_seen)
    assert found[0][first - 1] < found[0][0]
    assert found[0][:first] == pytest.approx(found[1][:first], rel=1e-3)
    # Sums without order, and Adam that makes a whole step of each one's sign: twins part by 1 %.
    assert found[0][first:] == pytest.approx(found[1][first:], rel=0.05)


def test_dropout_is_drawn_from_seed_and_step(footage: Path) -> None:
    """Captured or not, the same channels are left out."""
    more = {"device": "cuda", "precision": "float", "learning_rate": 1e-3}
    runs = [
        steps(make_setup(footage, dropout=share, **more), WARM_UP + 5) for share in (0.3, 0.3, 0.0)
    ]
    assert runs[0] == pytest.approx(runs[1], rel=1e-3)
    assert runs[0] != pytest.approx(runs[2], rel=1e-3)


def test_a_resumed_training_goes_on_to_the_same_losses(footage: Path, tmp_path: Path) -> None:
    """Nearly: sums in the kernels have no fixed order."""
    more = ("--steps", 16, "--checkpoint-every", 8, "--device", "cuda", "--precision", "float")
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert run(*arguments(footage, whole, *more)) == 0
    shutil.copytree(whole, again)
    (again / "checkpoints" / "step_000000016.safetensors").unlink()
    assert run(*arguments(footage, again, *more, "--resume")) == 0
    assert list(losses(again)) == list(range(1, 17))
    assert losses(again) == pytest.approx(losses(whole), rel=1e-3)
    assert losses(again)[16] != losses(again)[8]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one(footage: Path, tmp_path: Path) -> None:
    two_train_as_one(footage, tmp_path, "cuda", 1e-4)
