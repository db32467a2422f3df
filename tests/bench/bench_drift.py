"""Drift of a trained surface from the studio's true surface, at the same material points.

    python tests/bench/bench_drift.py DATA OUT [--spoil 10] [--only fixed,tuned] [--steps 4000]
                                      [--seeds 0,1,2] [--preset balanced] [--views 96]
                                      [--lpips-weights A H]

DATA is filmed with `--truth` and extracted. `--spoil` displaces the template by a smooth error of
so many mm (RMS), before the training. Of each training, on frames of training/ and testing/:

surface    distance of the posed mesh from the true surface, at the template's vertices, mm
gaussians  distance of the decoder's Gaussians from it, at their texels, weighted by opacity, mm

`firm` are places that do not swing, `loose` the others. Linings, which no camera sees, are left
out. A line of JSON each; OUT/drift.jsonl keeps them.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study import Quiet, keep_between_trainings, measured
from torch import Tensor

from ash_core.conventions import MM_PER_M, R_WORLD_BODY
from ash_core.files.avatar_file import save_avatar
from ash_core.files.dataset import SplitData, open_dataset
from ash_core.files.io import write_text
from ash_core.geometry.mesh import sparse_product
from ash_core.pose_windows import window_at
from ash_core.records import AvatarData, to_device
from ash_core.studio.film.film_truth import truth_mesh
from ash_core.studio.truth.dressing import FILE, Dressing, load_dressing, plain_dressing
from ash_core.training import trainer
from ash_core.training.config import LossWeights, TrainConfig
from ash_core.training.loop import Loop
from ash_core.training.setup import TrainingSetup


@dataclass(frozen=True)
class Case:
    """Settings of a training."""

    is_tuned: bool = False
    """The character is tuned."""
    offset: float = 0.01
    """`--weights.offset`."""
    carry: float = 0.0
    """Weight of the mean offset around each vertex, which the template should carry."""
    anchor: float = 0.0
    """Weight of colours that differ from the texture's otherwise than their surroundings do."""


CASES = {
    "fixed": Case(),
    "stiff": Case(offset=1.0),
    "anchored": Case(anchor=0.1),
    "tuned": Case(True),
    "tuned_stiff": Case(True, offset=1.0),
    "carried": Case(True, carry=1.0),
    "carried_anchored": Case(True, carry=1.0, anchor=0.1),
}
FRAMES = 40
"""Frames of each split that are measured."""
WAVES, WAVE_M = 8, (0.3, 0.8)
"""Plane waves of the template's error along each axis, and their lengths."""
SWINGING = 0.05
"""Least looseness of a vertex that swings."""


def spoil(data: AvatarData, rms_mm: float) -> AvatarData:
    """Displace the template by a smooth random error."""
    chance = np.random.default_rng(0)
    vertices = data.template.vertices.numpy().astype(float)
    error = np.zeros_like(vertices)
    for axis in range(3):
        for _ in range(WAVES):
            way = chance.normal(size=3)
            way *= 2 * np.pi / chance.uniform(*WAVE_M) / np.linalg.norm(way)
            error[:, axis] += np.sin(vertices @ way + chance.uniform(0, 2 * np.pi))
    error *= rms_mm / MM_PER_M / np.sqrt((error**2).sum(1).mean())
    moved = torch.from_numpy(vertices + error).float()
    return replace(data, template=replace(data.template, vertices=moved))


@torch.no_grad()
def drift(here: TrainingSetup, split: SplitData, dressing: Dressing) -> dict[str, Any]:
    """Measure the averaged weights, which are in place; mm."""
    model, avatar = here.model, here.model.avatar
    device = model.device
    turn = torch.tensor(R_WORLD_BODY, device=device)
    seen = torch.from_numpy(dressing.partner < 0).to(device)
    loose = torch.from_numpy(dressing.loose > SWINGING).to(device)
    shown = avatar.at_texels(torch.stack((seen, loose), -1).float()[None].expand(1, -1, 2))
    texels_seen, texels_loose = shown[:, 0] > 0.5, shown[:, 1] > 0.5
    count = len(dressing.loose)
    found: dict[str, list[Tensor]] = {}
    for frame in np.linspace(0, len(split.motion.dofs) - 1, FRAMES).round().astype(int).tolist():
        given = to_device(window_at(avatar.data, split.motion, frame), device)
        window = model.window(given, model.place(split.name, frame))
        mesh = model.mesh(avatar.character(window), window)
        gaussians = avatar.decode_window(window, model.stage, mesh=mesh).gaussians
        with np.load(truth_mesh(here.config.data / split.name, frame)) as file:
            true = torch.from_numpy(file["vertices"][:count]).to(device)
        off = MM_PER_M * (mesh.vertices[0] - true).norm(dim=-1)
        away = MM_PER_M * (gaussians.means @ turn - avatar.at_texels(true[None])).norm(dim=-1)
        for name, chosen, texels in (
            ("firm", seen & ~loose, texels_seen & ~texels_loose),
            ("loose", seen & loose, texels_seen & texels_loose),
        ):
            share = gaussians.opacities[texels]
            found.setdefault(f"surface {name}", []).append(off[chosen].mean())
            mean = (share * away[texels]).sum() / share.sum()
            found.setdefault(f"gaussians {name}", []).append(mean)
    return {name: round(float(torch.stack(every).mean()), 2) for name, every in found.items()}


def bound(here: TrainingSetup, case: Case) -> None:
    """Add to the penalty of offsets: what the template should carry, and where colours belong."""
    avatar, config = here.model.avatar, here.config
    each = avatar._interpolate.to_dense().T
    near = (each / each.sum(1, keepdim=True).clamp(min=1e-6)).to_sparse_csr()

    def losses(raw: Tensor, offset_limit_m: float) -> dict[str, Tensor]:
        parts = PLAIN(raw, offset_limit_m)
        means = sparse_product(near, torch.cat((raw[:, :3], raw[:, 10:13]), 1))
        own = raw[:, 10:13] - avatar.at_texels(means[None, :, 3:])
        more = case.carry * means[:, :3].square().mean() + case.anchor * own.square().mean()
        return parts | {"offset": parts["offset"] + more / config.weights.offset}

    trainer.bounds_losses = losses


PLAIN = trainer.bounds_losses


def one(name: str, seed: int, given: argparse.Namespace) -> Any:
    """Train and measure."""
    case = CASES[name]
    config = TrainConfig(
        given.data, given.out / f"{name}_{seed}", avatar=given.avatar, preset=given.preset,
        steps=given.steps, views_per_pose=given.views_per_pose, seed=seed, validate_every=10**9,
        validation_views=given.views, checkpoint_every=10**9,
        lpips_weights=tuple(given.lpips_weights), tune_character=case.is_tuned,
        weights=LossWeights(offset=case.offset),
    ).resolved()  # fmt: skip
    here = TrainingSetup(config, torch.device(given.device), Quiet())
    here.config = replace(here.config, validate_every=0)  # the loop would measure once more
    bound(here, case)
    loop = Loop(here)
    loop.run()
    seconds = loop.seconds
    loop.close()
    scores = measured(here)
    dataset = open_dataset(given.data)
    character = dataset.character
    dressing = load_dressing(given.data / FILE, character) or plain_dressing(character)
    drifts = {name: drift(here, split, dressing) for name, split in dataset.splits.items()}
    here.close()
    return {"name": name, "seed": seed, "spoil": given.spoil, "steps": here.trainer.step,
            "seconds": round(seconds, 1), **drifts, **scores}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--spoil", type=float, default=0.0)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--views-per-pose", type=int, default=8)
    parser.add_argument("--views", type=int, default=96)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--lpips-weights", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    given.avatar = None
    if given.spoil:
        given.avatar = given.out / "spoilt.safetensors"
        save_avatar(given.avatar, spoil(open_dataset(given.data).character, given.spoil))
    keep_between_trainings()
    lines = given.out / "drift.jsonl"
    for seed in map(int, given.seeds.split(",")):
        for name in given.only.split(","):
            result = json.dumps(one(name, seed, given))
            print(result, flush=True)
            write_text(lines, (lines.read_text() if lines.exists() else "") + result + "\n")


if __name__ == "__main__":
    main()
