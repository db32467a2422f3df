"""Cloth of a new avatar, learned from the masks of its footage before anything else."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from ash_core.character import Character
from ash_core.cloth.fit import Clip, fit_cloth
from ash_core.cloth.model import store_model
from ash_core.files.dataset import SplitData, read_mask_crop
from ash_core.geometry.motion import first_frames, pose_window
from ash_core.records import AvatarData
from ash_core.silhouettes.distances import BodyCamera, read_silhouettes

CLIPS: Final = 20
CLIP_S: Final = 1.2
"""Number of clips that are compared, and the time that each has masks of."""
CLIP_FRAMES: Final = 9
LEAST_FRAMES: Final = 4
"""Bounds on a clip's frames with masks."""
CAMERAS: Final = 12
WARM_UP_S: Final = 2.0
"""Time before a clip's masks in which the cloth forgets how it was."""
BUDGET_PX: Final = 100_000_000
"""Pixels of all distance images together."""
ROUNDS: Final = 8
"""Rounds of the search."""
AT_ONCE: Final = 32
"""Poses that are computed together."""

Progress = Callable[[str, int, int], None]


class ClipFrames(NamedTuple):
    """Frames of a clip: the first that is simulated, and those with masks."""

    start: int
    masked: tuple[int, ...]


def learn_cloth(
    data: AvatarData,
    split: SplitData,
    frames: Sequence[int],
    cameras: Sequence[int],
    threads: int,
    progress: Progress,
    device: torch.device,
) -> tuple[AvatarData, str]:
    """Add what swings to an avatar: (avatar, note). Unchanged where no part of it swings.

    frames, cameras: of the footage that may be used. device: of the simulations.
    """
    # Choose clips, and pose them.
    usable = [frame for frame in frames if any((frame, c) in split.images for c in cameras)]
    clips = choose_clips(data, split, usable)
    if not clips:
        text = f"expected {LEAST_FRAMES} frames with masks within {CLIP_S} s, found none"
        return data, f"cloth: nothing swings: {text}"
    chosen = [cameras[k * len(cameras) // CAMERAS] for k in range(CAMERAS)]
    chosen = list(dict.fromkeys(chosen)) if len(cameras) > CAMERAS else list(cameras)
    character = Character(data)
    budget = BUDGET_PX // len(clips)
    prepared = []
    for number, clip in enumerate(clips):
        prepared.append(_read_clip(character, data, split, clip, chosen, threads, budget))
        progress("masks of cloth", number + 1, len(clips))

    # Fit, and say what came of it.
    floor_m = min(float(clip.skinned[..., 1].min()) for clip in prepared)
    fit = fit_cloth(
        data, prepared, floor_m, ROUNDS, threads,
        progress=lambda done: progress("swing of cloth", round(100 * done), 100), device=device,
    )  # fmt: skip
    tried = ", ".join(f"{points} points {100 * gain:.0f} %" for points, gain in fit.pieces)
    if fit.model is None:
        return data, f"cloth: nothing swings{f' (explained: {tried})' if tried else ''}"
    moving = int((fit.model.looseness > 0).sum())
    text = f"cloth: {moving} of {len(data.template.vertices)} vertices swing"
    return replace(data, cloth=store_model(fit.model)), f"{text}; explained in clips kept: {tried}"


def choose_clips(data: AvatarData, split: SplitData, frames: Sequence[int]) -> list[ClipFrames]:
    """Choose the clips that move most, and of them evenly over the motion."""
    motion = split.motion
    span, warm_up = round(CLIP_S * motion.fps), round(WARM_UP_S * motion.fps)
    takes = first_frames(motion, data.skeleton)
    # Cut the frames into clips of one take.
    clips: list[list[int]] = []
    for frame in sorted(frames):
        open_clip = clips[-1] if clips else None
        if open_clip is None or frame - open_clip[0] >= span or takes[frame] != takes[open_clip[0]]:
            clips.append([])
        clips[-1].append(frame)
    clips = [clip for clip in clips if len(clip) >= LEAST_FRAMES]
    # Of the livelier half, evenly.
    dofs = motion.dofs.double().numpy()
    speeds = [np.abs(np.diff(dofs[clip[0] : clip[-1] + 1], axis=0)).sum(1).mean() for clip in clips]
    lively = np.sort(np.argsort(speeds)[::-1][: max(CLIPS, len(clips) // 2)])
    picks = lively[np.linspace(0, len(lively) - 1, min(CLIPS, len(lively))).round().astype(int)]
    chosen = []
    for clip in (clips[pick] for pick in picks):
        rows = np.linspace(0, len(clip) - 1, min(CLIP_FRAMES, len(clip))).round().astype(int)
        start = max(takes[clip[0]], clip[0] - warm_up)
        chosen.append(ClipFrames(start, tuple(clip[row] for row in rows)))
    return chosen


@torch.no_grad()
def _read_clip(
    character: Character,
    data: AvatarData,
    split: SplitData,
    clip: ClipFrames,
    cameras: Sequence[int],
    threads: int,
    budget_px: int,
) -> Clip:
    """Pose a clip's frames and read its masks."""
    # Skinned surfaces of all frames.
    every = range(clip.start, clip.masked[-1] + 1)
    windows = [
        pose_window(split.motion, frame, data.skeleton, data.history_offsets) for frame in every
    ]
    skinned, joints = [], []
    for first in range(0, len(windows), AT_ONCE):
        part = windows[first : first + AT_ONCE]
        dofs = torch.stack([window.dofs[0] for window in part])
        normalised = torch.stack([window.normalised[0] for window in part])
        skinned.append(character.skinned(dofs, normalised)[1].float())
        joints.append(character.bone_transforms(dofs)[0].float())

    # Masks, in the order in which they are asked for.
    eyes = [BodyCamera.of(split.cameras[camera]) for camera in cameras]
    places = [(frame, camera) for frame in clip.masked for camera in cameras]
    with ThreadPoolExecutor(threads) as pool:
        masks = pool.map(partial(_mask, split), places)
        silhouettes = read_silhouettes(
            eyes, clip.masked, lambda _frame, _camera: next(masks), budget_px=budget_px
        )
    rows = np.array(clip.masked) - clip.start
    surfaces = torch.cat(skinned).numpy()
    return Clip(surfaces, torch.cat(joints).numpy(), rows, silhouettes, split.motion.fps)


def _mask(split: SplitData, place: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """Read a mask; one without a person where there is no image."""
    camera = split.cameras[place[1]]
    whole = np.zeros((camera.height, camera.width), np.uint8)
    path = split.images.get(place)
    if path is not None:
        crop = read_mask_crop(path)
        height, width = crop.alpha.shape
        whole[crop.top : crop.top + height, crop.left : crop.left + width] = crop.alpha
    return whole
