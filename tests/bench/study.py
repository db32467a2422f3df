"""What each part of the trainer is worth: the same data, the same minutes, one part changed.

    python tests/bench/study.py clips ACTOR OUT               motions for a small, varied data set
    python tests/bench/study.py run DATA OUT [--minutes 1.5] [--only whole,no_base]
                                    [--views 96] [--lpips-weights FILE FILE]

`clips` prints the two `ash-studio capture` commands that film them. `run` trains once for each
change, measures the averaged weights on held-out cameras and motions, and adds a line to
OUT/study.jsonl. Trainings of the published networks are the same command: --only released.
"""

import argparse
import functools
import gc
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ash_core import avatar
from ash_core.avatar import NativeAvatar
from ash_core.commands.capture import find_actor
from ash_core.files import checks
from ash_core.files.io import write_text
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion, write_motion
from ash_core.geometry import dual_quaternion as dq
from ash_core.geometry.motion import heading_matrix
from ash_core.geometry.rotations import quat_to_matrix, unit
from ash_core.geometry.texels import texel_transforms
from ash_core.networks import decoder as decoder_module
from ash_core.networks.decoder import PRESETS, Decoder
from ash_core.records import AvatarData, Gaussians, PosedMesh, PoseWindow
from ash_core.studio.film.script import find_motions
from ash_core.training import dataset, setup, validation
from ash_core.training.config import LossWeights, TrainConfig
from ash_core.training.loop import Loop
from ash_core.training.metrics import mean_scores
from ash_core.training.setup import TrainingSetup
from ash_core.variants import HistoryOffsets

CLIPS = {"training": (25, (0.2, 0.6)), "testing": (32, (0.3,))}
"""Frames of each clip, and where in its motion it begins."""
BALANCED = PRESETS["balanced"]


# ---- the data ----


def clips(actor: str, out: Path) -> None:
    """Short pieces of all of an actor's motions."""
    folder = find_actor(actor)
    data, _ = import_ash(next(folder.glob("*.conf")))
    for split, motions in find_motions(folder).items():
        length, starts = CLIPS[split]
        names = []
        for name, path in motions.items():
            dofs = read_motion(path, data.skeleton).dofs
            for number, start in enumerate(starts):
                first = int(start * len(dofs))
                names.append(out / f"{name}_{number}.motion")
                write_motion(names[-1], dofs[first : first + length])
        listed = ",".join(map(str, names))
        print(f"ash-studio capture {actor} -o DATA --split {split} --motions {listed}")


# ---- what is changed ----


def seen_with_lamps(self: NativeAvatar, mesh: PosedMesh, window: PoseWindow) -> Any:
    """The normal as it stands in the room, where the lamps are."""
    places, _ = SEEN(self, mesh, window)
    return places, mesh.normals[:1]


def seen_without_history(self: NativeAvatar, mesh: PosedMesh, window: PoseWindow) -> Any:
    """Nothing moves."""
    places, normals = SEEN(self, mesh, window)
    return torch.cat((places[:1], torch.zeros_like(places[1:]))), normals


def seen_shortly(self: NativeAvatar, mesh: PosedMesh, window: PoseWindow) -> Any:
    """The moves of the last two frames; no more."""
    skeleton = self.character.skeleton
    turn = heading_matrix(window.dofs[0], skeleton).to(mesh.vertices)
    places = mesh.vertices[:1] - mesh.joints[self._heading_joint]
    moves = avatar.MOVE_GAIN * (mesh.vertices[:-1] - mesh.vertices[1:])
    return torch.cat((places, moves, torch.zeros_like(moves))) @ turn, mesh.normals[:1] @ turn


def seen_as_published(self: NativeAvatar, mesh: PosedMesh, window: PoseWindow) -> Any:
    """Places and normals of three frames, in the room's directions."""
    return mesh.vertices - mesh.root, mesh.normals


def without_base(self: Decoder, motion_map: Tensor) -> Tensor:
    """A decoder whose texels have none."""
    nn.init.zeros_(self.base)
    return FORWARD(self, motion_map)


def jittered(self: Decoder, motion_map: Tensor) -> Tensor:
    """While it learns, a decoder sees every pose a little off, smoothly over the atlas."""
    if torch.is_grad_enabled():
        coarse = torch.randn_like(motion_map[..., :8, :8])
        size = motion_map.shape[-2:]
        motion_map = motion_map + 0.1 * nn.functional.interpolate(
            coarse, size=size, mode="bilinear"
        )
    return FORWARD(self, motion_map)


def seen_locally(self: NativeAvatar, mesh: PosedMesh, window: PoseWindow) -> Any:
    """Moves and gravity as the skin feels them."""
    places, _ = SEEN(self, mesh, window)
    turn = quat_to_matrix(unit(mesh.real))
    moves = self._gains * (mesh.vertices[:-1] - mesh.vertices[1:])
    local = torch.einsum("vji,hvj->hvi", turn, moves)
    return torch.cat((places[:1], local)), turn[None, :, 1]


def assemble_freely(self: NativeAvatar, raw: Tensor, mesh: PosedMesh) -> Gaussians:
    """As the published networks: absolute values, no bounds, nothing turns with the skinning."""
    real, dual = texel_transforms(self.atlas, mesh.real, mesh.dual)
    place = self._interpolate @ mesh.canonical + raw[:, 0:3]
    turn = torch.cat((torch.ones_like(raw[:, :1]), raw[:, 3:6]), -1)
    return Gaussians(
        means=dq.apply(real, dual, place) @ self._world.T,  # type: ignore[operator]
        quats=unit(turn),
        scales=(raw[:, 6:9] - 5.5).exp(),
        opacities=raw[:, 9].sigmoid(),
        sh=raw[:, 10:].unflatten(-1, (-1, 3)),
    )


SEEN, FORWARD = NativeAvatar._network_inputs, Decoder.forward
Patch = tuple[Any, str, Any]
FIRST = setup.first_avatar


def first_with_short_history(config: TrainConfig, data: AvatarData) -> AvatarData:
    """Let a native avatar see three frames in a row, which no avatar file may hold."""
    return replace(FIRST(config, data), history_offsets=HistoryOffsets((0, 1, 2)))


SHORT: tuple[Patch, ...] = (
    (setup, "first_avatar", first_with_short_history),
    (checks, "_check_history", lambda *_: None),
)
CHANGES: dict[str, tuple[dict[str, Any], tuple[Patch, ...]]] = {
    "whole": ({}, ()),
    "lamps": ({}, ((NativeAvatar, "_network_inputs", seen_with_lamps),)),
    "no_history": ({}, ((NativeAvatar, "_network_inputs", seen_without_history),)),
    "short_history": ({}, (*SHORT, (NativeAvatar, "_network_inputs", seen_shortly))),
    "published_input": ({}, (*SHORT, (NativeAvatar, "_network_inputs", seen_as_published))),
    "no_base": ({}, ((Decoder, "forward", without_base),)),
    "local": ({}, ((NativeAvatar, "_network_inputs", seen_locally),)),
    "dropout_1": ({"dropout": 0.1}, ()),
    "dropout_2": ({"dropout": 0.2}, ()),
    "offset_50": ({"offset_mm": 50}, ()),
    "offset_300": ({"offset_mm": 300}, ()),
    "jitter": ({}, ((Decoder, "forward", jittered),)),
    "depth_2": ({}, ((decoder_module, "DEPTH", 2),)),
    "no_residuals": ({}, ((NativeAvatar, "assemble", assemble_freely),)),
    "sh_0": ({}, ((avatar, "config_of", lambda *_: replace(BALANCED, sh_degree=0)),)),
    "sh_2": ({}, ((avatar, "config_of", lambda *_: replace(BALANCED, sh_degree=2)),)),
    "atlas_128": ({}, ((avatar, "config_of", lambda *_: replace(BALANCED, atlas=128)),)),
    "atlas_512": ({}, ((avatar, "config_of", lambda *_: replace(BALANCED, atlas=512)),)),
    "cpu": ({"preset": "cpu"}, ()),
    "quality": ({"preset": "quality"}, ()),
    "tuned_character": ({"tune_character": True}, ()),
    "lpips_loss": ({"weights": LossWeights(lpips=0.05)}, ()),
    "released": ({"variant": "released", "preset": None, "views_per_pose": None}, ()),
}
"""Name: other settings, and what is put in whose place."""


# ---- the run ----


class Quiet:
    """Says only what is said once."""

    def note(self, text: str) -> None:
        print(" ", text, flush=True)

    def preparing(self, what: str, done: int, count: int) -> None: ...

    def training(self, done: int, whole: int, text: str) -> None: ...

    def stop(self) -> Literal["no"]:
        return "no"


@torch.no_grad()
def measured(here: TrainingSetup) -> dict[str, dict[str, float | None]]:
    """Mean scores of the averaged weights on every view of the validation."""
    model, trainer = here.model, here.trainer
    for name, flat in model.flats.items():
        flat.values.copy_(trainer.ema[name])
    model.avatar.character.forget()
    found: dict[str, list[Any]] = {}
    for shot, split in here.validation.shots:
        truth = here.validation.read(shot)
        found.setdefault(shot.kind, []).append(here.validation.measure(shot, split, *truth)[1])
    return {kind: asdict(mean_scores(every)) for kind, every in found.items()}


def one(name: str, data: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train with one change and measure."""
    settings, patches = CHANGES[name]
    base: dict[str, Any] = {"preset": options.preset, "views_per_pose": options.views_per_pose}
    config = TrainConfig(
        data,
        out / name,
        frames=options.frames,
        minutes=options.minutes,
        validate_every=10**9,
        validation_views=options.views,
        checkpoint_every=10**9,
        lpips_weights=tuple(options.lpips_weights),
        **(base | settings),
    ).resolved()
    with ExitStack() as stack:
        for target, attribute, value in patches:
            stack.enter_context(patch.object(target, attribute, value))
        here = TrainingSetup(config, torch.device(options.device), Quiet())
        # The loop would measure fewer views once more.
        here.config = replace(here.config, validate_every=0)
        started = time.perf_counter()
        loop = Loop(here)
        loop.run()
        seconds = time.perf_counter() - started
        loop.close()
        result = measured(here)
        step = here.trainer.step
        here.close()
    del here
    gc.collect()
    torch.cuda.empty_cache()
    return {"name": name, "steps": step, "seconds": round(seconds, 1), **result}


def keep_between_trainings() -> None:
    """Photographs are decoded, and characters posed, once for all trainings of this process."""
    make_pictures, make_poses = dataset.Pictures, dataset.Poses
    pictures: list[dataset.Pictures] = []
    poses: dict[tuple[Any, ...], dataset.Poses] = {}

    def kept_pictures(*arguments: Any) -> dataset.Pictures:
        if not pictures:
            pictures.append(make_pictures(*arguments))
            pictures[0].close = lambda: None  # type: ignore[method-assign]
        return pictures[0]

    def kept_poses(avatar: Any, split: Any, frames: Any, *more: Any) -> dataset.Poses:
        key = avatar.data.variant, split.name, avatar.data.history_offsets, tuple(frames)
        if key not in poses:
            poses[key] = make_poses(avatar, split, frames, *more)
        return poses[key]

    validation.read_truth = functools.cache(validation.read_truth)
    dataset.Pictures = kept_pictures  # type: ignore[assignment, misc]
    setup.Poses = validation.Poses = kept_poses  # type: ignore[assignment, misc]


def names(text: str) -> Iterator[str]:
    for name in text.split(","):
        if name not in CHANGES:
            raise SystemExit(f"--only: expected some of {', '.join(CHANGES)}, got {name}")
        yield name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("clips", "run"))
    parser.add_argument("source", help="ACTOR or DATA")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--only", default=",".join(CHANGES))
    parser.add_argument("--views", type=int, default=96)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--views-per-pose", type=int, default=16)
    parser.add_argument("--frames", default=":")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--lpips-weights", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    if options.what == "clips":
        clips(options.source, options.out)
        return
    keep_between_trainings()
    chosen = list(names(options.only))
    if "lpips_loss" in chosen and not options.lpips_weights:
        raise SystemExit("--only: lpips_loss needs --lpips-weights")
    for name in chosen:
        result = one(name, Path(options.source), options.out, options)
        line = json.dumps(result)
        print(line, flush=True)
        before = options.out / "study.jsonl"
        write_text(before, (before.read_text() if before.exists() else "") + line + "\n")


if __name__ == "__main__":
    main()
