"""Fitting the deformable character through the rasterizer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_gpu_frame_character import graph_networks
from test_training_parts import make_setup, steps
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ash_core.character import Character
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.training.captured import _copy, _tensors
from ash_core.training.config import LossWeights
from ash_core.training.dataset import Batch

TUNED = [
    {"tune_character": True},
    {"tune_poses": True},
    {"tune_character": True, "tune_poses": True},
]


@pytest.fixture
def leaning(footage: Path, tmp_path: Path) -> Path:
    """Make an avatar with graph networks that lean it 3 cm aside."""
    data = load_avatar(footage / "small.safetensors")
    networks = graph_networks(data)
    networks["delta_gcn"] = {name: part * 0 for name, part in networks["delta_gcn"].items()}
    networks["delta_gcn"]["final_gcnn.bias"] += torch.tensor([0.03, 0.0, 0.0])
    networks["spatial_gcn"] = {
        name: part * (0 if name.startswith("final") else 1)
        for name, part in networks["spatial_gcn"].items()
    }
    path = tmp_path / "leaning.safetensors"
    save_avatar(path, replace(data, networks=networks))
    return path


def test_the_tuned_template_moves_towards_the_photographs(footage: Path, tmp_path: Path) -> None:
    """The character begins 3 cm too wide; photographs and masks pull it back."""
    data = load_avatar(footage / "small.safetensors")
    right = data.template.vertices
    wide = right * torch.tensor([1.2, 1.0, 1.2])
    path = tmp_path / "wide.safetensors"
    save_avatar(path, replace(data, template=replace(data.template, vertices=wide)))
    setup = make_setup(
        footage, avatar=path, tune_character=True, learning_rate=2e-3, character_rate=1.0,
        steps=54, weights=LossWeights(mask=1.0, offset=1.0, smooth=100.0),
    )  # fmt: skip
    losses_seen = steps(setup, 40)
    found = setup.model.avatar_data(setup.trainer.ema, ()).template.vertices
    sides = slice(0, 56)
    before = float((wide - right)[sides].norm(dim=-1).mean())
    after = float((found - right)[sides].norm(dim=-1).mean())
    assert losses_seen[-1] < losses_seen[0]
    assert after < 0.8 * before
    furthest = float((found - wide).norm(dim=-1).max())
    assert furthest < 1.5 * float((wide - right).norm(dim=-1).max())  # no spike: 2.3 at smooth=10


def test_tuned_graph_networks_learn_and_are_saved(
    footage: Path, leaning: Path, tmp_path: Path
) -> None:
    """The character begins with networks that lean it aside; photographs pull it back."""
    data, networks = load_avatar(footage / "small.safetensors"), load_avatar(leaning).networks
    setup = make_setup(
        footage, avatar=leaning, tune_character=True, learning_rate=2e-3, character_rate=1.0,
        steps=25, weights=LossWeights(mask=1.0, offset=1.0), ema=0.0,
    )  # fmt: skip
    trainer = setup.trainer
    assert {name.split(".")[0] for name, _ in trainer.flats["character"].named} == set(networks)
    right = Character(data)
    windows = setup.poses.windows

    def error(character: Character) -> float:
        """Mean distance of the posed vertices from the truth, m."""
        with torch.no_grad():
            both = [(character(window), right(window)) for window in windows]
        return float(
            torch.stack([(a.vertices - b.vertices)[0].norm(dim=-1) for a, b in both]).mean()
        )

    before = error(Character(replace(data, networks=networks)))
    assert before == pytest.approx(0.03, abs=1e-3)
    steps(setup, 25)
    saved = load_avatar(setup.model.save(tmp_path, trainer.ema, (), trainer.step))
    tuned = trainer.flats["character"].named_parts(trainer.flats["character"].values)
    for name, start in networks.items():
        assert set(saved.networks[name]) == set(start)
        for key, part in saved.networks[name].items():
            if f"{name}.{key}" in tuned:
                assert torch.equal(part, tuned[f"{name}.{key}"]), key
            else:
                assert torch.equal(part, start[key]), key
    assert torch.equal(saved.template.vertices, data.template.vertices)
    assert error(Character(saved)) < 0.7 * before


# ---- what a CUDA graph asks for ----


class Trace(TorchDispatchMode):
    """Writes down each operation: shapes, plain numbers, and where the tensors lie that it reads
    and that no operation before it made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[Any, ...]] = []
        self._made: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        line: list[Any] = [str(func)]
        for part in tree_leaves((args, kwargs)):
            if not isinstance(part, Tensor):
                line.append(part if isinstance(part, int | float | bool) else str(part))
            else:
                line.append((tuple(part.shape), part.dtype, self._place(part)))
        self.lines.append(tuple(line))
        result = func(*args, **(kwargs or {}))
        for part in tree_leaves(result):
            if isinstance(part, Tensor) and self._place(part) is not None:
                self._made[self._address(part)] = part  # held: its memory is used by no other
        return result

    def _address(self, part: Tensor) -> int:
        values = part if part.layout == torch.strided else part.values()
        return values.untyped_storage().data_ptr()

    def _place(self, part: Tensor) -> int | None:
        """Address of a tensor that was there before; None for others."""
        address = self._address(part)
        return None if address in self._made else address


@pytest.mark.parametrize("tuned", TUNED)
@pytest.mark.parametrize("has_networks", [False, True])
def test_every_tuned_pose_is_the_same_work_on_other_numbers(
    footage: Path, leaning: Path, tuned: dict[str, bool], has_networks: bool
) -> None:
    """Without that a captured step would repeat another pose, or could not be captured."""
    avatar = leaning if has_networks else footage / "small.safetensors"
    setup = make_setup(footage, avatar=avatar, **tuned)
    model, batches = setup.model, setup.batches(0)

    def next_batch() -> Batch:
        _, batch = next(batches)
        return replace(batch, place=model.place("training", batch.frame))

    def work(batch: Batch) -> None:
        """Do all of a step that tuning changes."""
        window = model.window(batch.window, batch.place)
        mesh = model.mesh(batch.mesh, window)
        gaussians = model.avatar.decode_window(window, mesh=mesh).gaussians
        parts = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.sh]
        if model.tuning is not None:
            parts.append(model.tuning.roughness(mesh, batch.mesh))
        if model.poses is not None and batch.place is not None:
            parts += model.poses.penalties(batch.place).values()
        torch.stack([part.square().sum() for part in parts]).sum().backward()

    fixed = next_batch()
    fixed = replace(
        fixed, mesh=_copy(fixed.mesh), window=_copy(fixed.window),
        place=None if fixed.place is None else _copy(fixed.place),
    )  # fmt: skip
    work(fixed)  # what is made once is there
    traces, gradients = [], []
    for batch in (next_batch(), next_batch()):
        for place, value in zip(_tensors(fixed), _tensors(batch), strict=True):
            place.copy_(value)
        for flat in model.flats.values():
            flat.grad.zero_()
        with Trace() as trace:
            work(fixed)
        traces.append(trace.lines)
        gradients.append({name: flat.grad.clone() for name, flat in model.flats.items()})
    setup.close()
    assert len(traces[0]) > 500
    assert traces[0] == traces[1]
    waits = ("_local_scalar_dense", "lift_fresh", "nonzero", "item", "_to_sparse")
    assert not [line for line in traces[0] if any(name in line[0] for name in waits)]
    for name in model.flats.keys() - {"decoder"}:
        assert not torch.equal(gradients[0][name], gradients[1][name]), name
