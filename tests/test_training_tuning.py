"""Fitting the deformable character through the rasterizer."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_gpu_frame_character import graph_networks
from test_training_parts import make_setup, steps

from ash_core.character import Character
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.training.config import LossWeights


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


def test_tuned_graph_networks_learn_and_are_saved(footage: Path, tmp_path: Path) -> None:
    """The character begins with networks that lean it aside; photographs pull it back."""
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
    setup = make_setup(
        footage, avatar=path, tune_character=True, learning_rate=2e-3, character_rate=1.0,
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
