"""Share of the cloth's swing that the simulation explains in motions that were never observed.

    python tests/bench/bench_cloth.py DIR... [--cloth newton] [--only none,fitted] [--threads 2]

DIR is an actor's folder (`ash-studio actor --name ida -o DIR`). Training: clips of 25 frames of all
its training motions, as `study.py clips` has them; observations are masks of the true surface from
12 cameras. Testing: clips of 32 frames, and whole motions, that were not observed.

share = 1 - sum |predicted - true|^2 / sum |skinned' - true|^2, over the vertices that swing. Each
prediction, and skinned', has its mean residual over the training frames added, in the skinning's
frame. The ladder: none, no simulation; default, one looseness for all and the default constants;
fitted, a looseness for each piece, and constants.

`--cloth newton` makes the truth with another solver (extra `newton`), 0.25 s a frame.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ash_core.character import Character
from ash_core.cloth import fit
from ash_core.cloth.gpu import solver_on
from ash_core.cloth.model import ClothModel
from ash_core.conventions import FPS, R_WORLD_BODY
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.geometry.rotations import quat_to_matrix
from ash_core.records import AvatarData
from ash_core.silhouettes.distances import BodyCamera, read_silhouettes
from ash_core.studio.film.camera_ring import camera_ring
from ash_core.studio.film.script import find_motions
from ash_core.studio.truth.cloth import ClothName
from ash_core.studio.truth.true_surface import TrueActor

CLIPS = {"training": (25, (0.2, 0.6)), "testing": (32, (0.3,)), "whole": (10**6, (0.0,))}
"""Frames of each clip, and where in its motion it begins; as in study.py, and whole motions."""
SWING_M = 0.008
"""Least true swing (RMS) in training frames of the vertices that are measured."""
CAMERAS, SIZE, EVERY = 12, (643, 470), 3
"""Cameras, their size in px, and every which frame has masks."""
BUDGET_PX = 6_000_000
"""Pixels of a clip's distance images."""

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Truth = Callable[[np.ndarray], np.ndarray]
"""Makes the true places [F, V, 3] of dofs [F, D]."""


@dataclass(frozen=True)
class Clip:
    """Skinning and truth of a clip; body frame, m, float32."""

    skinned: np.ndarray
    """[F, V, 3]"""
    turns: np.ndarray
    """Real part of the skinning, wxyz [F, V, 4]."""
    joints: np.ndarray
    """[F, J, 4, 4]"""
    true: np.ndarray
    """[F, V, 3]"""

    def to_rest(self, offsets: np.ndarray) -> np.ndarray:
        """Turn offsets [F, V, 3] back to the rest pose."""
        matrices = quat_to_matrix(torch.from_numpy(self.turns)).numpy()
        return np.einsum("fvji,fvj->fvi", matrices, offsets)


# ---- truth and observations ----


def studio_truth(folder: Path, cloth: ClothName) -> Truth:
    """Play the studio's true surface, settled in frame 0."""
    actor = TrueActor.load(next(folder.glob("*.conf")), cloth=cloth)
    count = len(actor.template)

    def places(dofs: np.ndarray) -> np.ndarray:
        motion = actor.play(dofs)
        return np.stack([motion.frame(k).vertices[:count] for k in range(len(dofs))])

    return places


def clip_list(folder: Path, data: AvatarData) -> list[tuple[str, np.ndarray]]:
    """List (split, dofs) of all clips of an actor."""
    motions, clips = find_motions(folder), []
    for split, (length, starts) in CLIPS.items():
        for path in motions["training" if split == "training" else "testing"].values():
            dofs = read_motion(path, data.skeleton).dofs.numpy()
            firsts = (int(start * len(dofs)) for start in starts)
            clips += [(split, dofs[first : first + length]) for first in firsts]
    return clips


@torch.no_grad()
def read_clips(folder: Path, data: AvatarData, truth: Truth) -> dict[str, list[Clip]]:
    """Pose and film all clips of an actor, by split."""
    character = Character(data)
    template = data.template.vertices
    clips: dict[str, list[Clip]] = {}
    for split, dofs in clip_list(folder, data):
        parts = []
        for part in torch.from_numpy(dofs).split(32):
            vertices, real, _, _ = character.pose(part, template.expand(len(part), -1, -1))
            parts.append((vertices, real, character.bone_transforms(part)[0].float()))
        skinned, turns, joints = (torch.cat(p).numpy() for p in zip(*parts, strict=True))
        true = truth(dofs).astype(np.float32)
        clips.setdefault(split, []).append(Clip(skinned, turns, joints, true))
    return clips


def film(clips: Sequence[Clip], data: AvatarData, seed: int = 0) -> list[fit.Clip]:
    """Draw masks of the true surface in some frames of each clip."""
    turn = np.array(R_WORLD_BODY)
    seen = np.concatenate([clip.true[::8, ::16].reshape(-1, 3) for clip in clips]) @ turn.T
    cameras = camera_ring(seen, CAMERAS, *SIZE, seed)
    faces, eyes = data.template.faces, [BodyCamera.of(camera) for camera in cameras]
    filmed = []
    for clip in clips:
        frames = np.arange(0, len(clip.true), EVERY)
        worlds = torch.from_numpy((clip.true[frames] @ turn.T).astype(np.float32))

        def mask(row: int, camera: int, worlds: torch.Tensor = worlds) -> np.ndarray:
            return 255 * silhouette(worlds[row], faces, cameras[camera]).numpy().astype(np.uint8)

        silhouettes = read_silhouettes(eyes, range(len(frames)), mask, budget_px=BUDGET_PX)
        filmed.append(fit.Clip(clip.skinned, clip.joints, frames, silhouettes, FPS))
    return filmed


# ---- measuring ----


def posed(model: ClothModel, clip: Clip) -> list:
    """Make the solver's inputs of a clip."""
    goals, joints = clip.skinned[:, model.vertices], clip.joints
    return solver_on(DEVICE, model).inputs(torch.from_numpy(goals), torch.from_numpy(joints))


def predict(model: ClothModel | None, clip: Clip) -> np.ndarray:
    """Simulate a clip that begins settled: places of all vertices [F, V, 3]."""
    if model is None:
        return clip.skinned
    worn = clip.skinned.copy()
    _, places = solver_on(DEVICE, model).play(None, posed(model, clip), 1.0 / FPS)
    worn[:, np.concatenate([model.vertices, model.followers])] = places()
    return worn


def residuals(model: ClothModel | None, clips: Sequence[Clip]) -> np.ndarray:
    """Compute true minus predicted places of all frames, turned back to the rest pose."""
    return np.concatenate([clip.to_rest(clip.true - predict(model, clip)) for clip in clips])


def explain(
    model: ClothModel | None, clips: dict[str, list[Clip]], measured: np.ndarray
) -> dict[str, float]:
    """Measure the share of the swing explained in each split."""
    none, mean = (residuals(m, clips["training"]).mean(0) for m in (None, model))
    shares = {}
    for split, own in clips.items():
        swing = ((residuals(None, own) - none)[:, measured] ** 2).sum()
        error = ((residuals(model, own) - mean)[:, measured] ** 2).sum()
        shares[split] = round(float(1.0 - error / swing), 3)
    return shares


def milliseconds(model: ClothModel, clip: Clip) -> float:
    """Measure the time of a frame."""
    solver, poses = solver_on(DEVICE, model), posed(model, clip)
    state, _ = solver.play(None, poses[:1], 1.0 / FPS)
    start = time.perf_counter()
    _, places = solver.play(state, poses[1:], 1.0 / FPS)
    places()
    return 1e3 * (time.perf_counter() - start) / (len(poses) - 1)


def climb(folder: Path, truth: Truth, rungs: Sequence[str], threads: int) -> None:
    """Measure an actor over the ladder, a line for each rung."""
    data, _ = import_ash(next(folder.glob("*.conf")))
    clips = read_clips(folder, data, truth)
    training = residuals(None, clips["training"])
    measured = np.sqrt(((training - training.mean(0)) ** 2).sum(2).mean(0)) > SWING_M
    filmed = film(clips["training"], data)
    floor_m = min(float(clip.skinned[..., 1].min()) for clip in clips["training"])
    faces = data.template.faces.numpy()
    surfaces = [clip.skinned[clip.frames] for clip in filmed]
    swings, noise_m = fit.find_swinging(
        fit.find_gaps(filmed, surfaces, faces, threads), faces, len(measured)
    )
    found = {
        "found": round(float(swings[measured].mean()), 3),
        "false": round(float((swings & ~measured).sum() / measured.sum()), 3),
        "noise_mm": round(1e3 * noise_m, 1),
    }
    print(json.dumps({"actor": folder.name, "clips": len(filmed)} | found), flush=True)

    for rung in rungs:
        start = time.perf_counter()
        more: dict[str, object] = {}
        if rung == "none":
            model = None
        elif rung == "default":
            model = fit.first_model(data, swings, floor_m)
        else:
            fitted = fit.fit_cloth(data, filmed, floor_m, threads=threads, device=DEVICE)
            model = fitted.model
            more = {"pieces": [(n, round(g, 2)) for n, g in fitted.pieces]}
            more["gaps"] = round(fitted.share, 3)
        if model is not None:
            more |= {
                "fit_s": round(time.perf_counter() - start, 1),
                "points": len(model.vertices),
                "links": len(model.links),
                "ms": round(milliseconds(model, clips["whole"][0]), 3),
                "constants": {k: round(v, 3) for k, v in vars(model.constants).items()},
            }
        line = {"actor": folder.name, "rung": rung, "vertices": int(measured.sum())}
        print(json.dumps(line | explain(model, clips, measured) | more), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--cloth", choices=("springs", "newton"), default="springs")
    parser.add_argument("--only", default="none,default,fitted")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for folder in options.folders:
        climb(
            folder,
            studio_truth(folder, options.cloth),
            options.only.split(","),
            options.threads,
        )


if __name__ == "__main__":
    main()
