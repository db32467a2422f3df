"""Share of the cloth's swing that the simulation explains in motions that were never observed.

    python tests/bench/bench_cloth.py DIR... [--truth FOLDER] [--only none,local] [--threads 2]

DIR is an actor's folder (`ash-studio actor --name ida -o DIR`). Training: clips of 25 frames of all
its training motions, as `study.py clips` has them; observations are the true surface with errors as
of a decoder's offsets. Testing: clips of 32 frames, and whole motions, that were not observed.

share = 1 - sum |predicted - true|^2 / sum |skinned' - true|^2, over the vertices that swing. Each
prediction, and skinned', has its mean residual over the training frames added, in the skinning's
frame. The ladder: no simulation; one looseness for all, with the default constants; one looseness
and constants, fitted; local looseness and constants, fitted.

Another truth is a folder of FOLDER/<clip>.npy, [F, V, 3], body frame, m; a clip is named
<split>-<motion>-<number>, and `--list` prints each clip's motion file, first frame and length.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from ash_core.character import Character
from ash_core.cloth.dynamics import advance, place_inputs, settle
from ash_core.cloth.fit import Observation, find_swinging, first_model, fit_cloth
from ash_core.cloth.model import ClothModel, store_model
from ash_core.cloth.surface import place_followers
from ash_core.conventions import FPS
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.geometry.mesh import vertex_adjacency
from ash_core.geometry.rotations import quat_to_matrix
from ash_core.records import AvatarData
from ash_core.studio.film.script import find_motions
from ash_core.studio.truth.true_surface import TrueActor

CLIPS = {"training": (25, (0.2, 0.6)), "testing": (32, (0.3,)), "whole": (10**6, (0.0,))}
"""Frames of each clip, and where in its motion it begins; as in study.py, and whole motions."""
SWING_M = 0.008
"""Least true swing (RMS) in training frames of the vertices that are measured."""
NOISE_M, SLIDE_M = 0.005, 0.010
"""Errors of observations, RMS: of each coordinate, and of both along the surface beyond that."""
SLIDE = (0.3, 1.0)
"""Share of the true motion along the surface that observations show: it varies over the surface."""
SMOOTHINGS, DRIFT = 6, 0.8
"""Smoothness of errors: over the mesh, and from frame to frame."""

Truth = Callable[[str, np.ndarray], np.ndarray]
"""Makes the true places [F, V, 3] of a clip: its name, and its dofs [F, D]."""


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


def studio_truth(folder: Path) -> Truth:
    """Play the studio's true surface, settled in frame 0."""
    actor = TrueActor.load(next(folder.glob("*.conf")))
    count = len(actor.template)

    def places(name: str, dofs: np.ndarray) -> np.ndarray:
        motion = actor.play(dofs)
        return np.stack([motion.frame(k).vertices[:count] for k in range(len(dofs))])

    return places


def stored_truth(folder: Path) -> Truth:
    """Read the true meshes of another solver."""
    return lambda name, dofs: np.load(folder / f"{name}.npy")[: len(dofs)]


def clip_list(folder: Path, data: AvatarData) -> list[tuple[str, Path, int, np.ndarray]]:
    """List (name, motion file, first frame, dofs) of all clips of an actor."""
    motions, clips = find_motions(folder), []
    for split, (length, starts) in CLIPS.items():
        for name, path in motions["training" if split == "training" else "testing"].items():
            dofs = read_motion(path, data.skeleton).dofs.numpy()
            for number, start in enumerate(starts):
                first = int(start * len(dofs))
                part = dofs[first : first + length]
                clips.append((f"{split}-{name}-{number}", path, first, part))
    return clips


@torch.no_grad()
def read_clips(folder: Path, data: AvatarData, truth: Truth) -> dict[str, list[Clip]]:
    """Pose and film all clips of an actor, by split."""
    character = Character(data)
    template = data.template.vertices
    clips: dict[str, list[Clip]] = {}
    for name, _, _, dofs in clip_list(folder, data):
        parts = []
        for part in torch.from_numpy(dofs).split(32):
            vertices, real, _, _ = character.pose(part, template.expand(len(part), -1, -1))
            parts.append((vertices, real, character.bone_transforms(part)[0].float()))
        skinned, turns, joints = (torch.cat(p).numpy() for p in zip(*parts, strict=True))
        true = truth(name, dofs).astype(np.float32)
        clips.setdefault(name.split("-")[0], []).append(Clip(skinned, turns, joints, true))
    return clips


def observe(clips: Sequence[Clip], data: AvatarData, seed: int = 0) -> list[Observation]:
    """Make observations with errors as of a decoder's offsets."""
    generator = np.random.default_rng(seed)
    count = len(data.template.vertices)
    adjacency = vertex_adjacency(data.template.faces, count).astype(float) + sp.eye(count)
    mean = sp.diags(1.0 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency
    normals = rest_normals(data)

    def smooth(columns: int) -> np.ndarray:
        values = generator.standard_normal((count, columns))
        for _ in range(SMOOTHINGS):
            values = mean @ values
        return values / np.sqrt((values**2).mean(0))

    shown = SLIDE[0] + (SLIDE[1] - SLIDE[0]) * (0.5 + 0.5 * np.clip(smooth(1), -1, 1))
    observations = []
    for clip in clips:
        offsets = clip.to_rest(clip.true - clip.skinned)
        across = (offsets * normals).sum(-1, keepdims=True) * normals
        error = np.zeros((count, 6))
        for frame in range(len(offsets)):
            fresh = smooth(6)
            error = fresh if frame == 0 else DRIFT * error + np.sqrt(1 - DRIFT**2) * fresh
            slide = error[:, 3:] - (error[:, 3:] * normals).sum(-1, keepdims=True) * normals
            along = shown * (offsets[frame] - across[frame]) + SLIDE_M / np.sqrt(2.0) * slide
            offsets[frame] = across[frame] + along + NOISE_M * error[:, :3]
        frames = np.arange(len(offsets))
        observations.append(
            Observation(
                clip.skinned, clip.joints, frames, clip.turns, offsets.astype(np.float32), FPS
            )
        )
    return observations


def rest_normals(data: AvatarData) -> np.ndarray:
    """Compute unit normals [V, 3] of the template."""
    vertices, faces = data.template.vertices.numpy(), data.template.faces.numpy()
    a, b, c = vertices[faces].transpose(1, 0, 2)
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces, np.cross(b - a, c - a)[:, None])
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-20)


# ---- measuring ----


def predict(model: ClothModel | None, clip: Clip) -> np.ndarray:
    """Simulate a clip that begins settled: places of all vertices [F, V, 3]."""
    if model is None:
        return clip.skinned
    poses = [
        place_inputs(model, vertices[model.vertices], joints)
        for vertices, joints in zip(clip.skinned, clip.joints, strict=True)
    ]
    state = settle(model, poses[0])
    places = [state.places.copy()]
    for pose in poses[1:]:
        advance(model, state, pose, 1.0 / FPS)
        places.append(state.shown(model))
    cloth, surface = store_model(model), clip.skinned.copy()
    surface[:, cloth.vertices] = place_followers(cloth, torch.from_numpy(np.stack(places))).numpy()
    return surface


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
    """Measure processor time of a frame."""
    poses = [
        place_inputs(model, vertices[model.vertices], joints)
        for vertices, joints in zip(clip.skinned, clip.joints, strict=True)
    ]
    state = settle(model, poses[0])
    start = time.process_time()
    for pose in poses[1:]:
        advance(model, state, pose, 1.0 / FPS)
    return 1e3 * (time.process_time() - start) / (len(poses) - 1)


def climb(folder: Path, truth: Truth, rungs: Sequence[str], threads: int) -> None:
    """Measure an actor over the ladder, a line for each rung."""
    data, _ = import_ash(next(folder.glob("*.conf")))
    clips = read_clips(folder, data, truth)
    training = residuals(None, clips["training"])
    measured = np.sqrt(((training - training.mean(0)) ** 2).sum(2).mean(0)) > SWING_M
    observations = observe(clips["training"], data)
    floor_m = min(float(clip.skinned[..., 1].min()) for clip in clips["training"])
    swings, _ = find_swinging(observations, data.template.faces.numpy())

    for rung in rungs:
        start, more = time.process_time(), {}
        if rung == "none":
            model = None
        elif rung == "one":
            model = first_model(data, swings, floor_m)
        else:
            fit = fit_cloth(data, observations, floor_m, local=rung == "local", threads=threads)
            model = fit.model
            more = {"pieces": [(n, round(g, 2)) for n, g in fit.pieces]}
            more |= {name: round(share, 3) for name, share in fit.shares.items()}
        if model is not None:
            more |= {
                "fit_s": round(time.process_time() - start, 1),
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
    parser.add_argument("--truth", type=Path, help="folder of true meshes, one .npy for each clip")
    parser.add_argument("--only", default="none,one,constants,local")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the clips that are filmed")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for folder in options.folders:
        if options.list:
            data, _ = import_ash(next(folder.glob("*.conf")))
            for name, path, first, dofs in clip_list(folder, data):
                print(f"{name}\t{path}\t{first}\t{len(dofs)}")
            continue
        truth = stored_truth(options.truth) if options.truth else studio_truth(folder)
        climb(folder, truth, options.only.split(","), options.threads)


if __name__ == "__main__":
    main()
