"""Training of an avatar with cloth: what swings is learned from masks, kept, and trained on."""

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_cloth import cameras, skirt, sway
from test_true_surface import skirted

from ash_core.character import Character
from ash_core.cloth.model import store_model
from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.cameras.published import write_cameras
from ash_core.files.dataset import CAMERAS, POSES, image_path, open_dataset
from ash_core.files.skeletool import read_motion, write_motion
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.pose_windows import window_at
from ash_core.records import AvatarData
from ash_core.resources import resource
from ash_core.training import cloth_learning
from ash_core.training.cloth_learning import LEAST_FRAMES, choose_clips
from ash_core.training.config import TrainConfig
from ash_core.training.setup import CLOTH
from ash_core.training.train import train

CLIP = 24
"""Frames of each take of the motion."""
VIEWS = 6


class Notes:
    """Reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def preparing(self, what: str, done: int, count: int) -> None:
        assert 0 <= done <= count, what

    def training(self, done: int, whole: int, text: str) -> None: ...

    def stop(self) -> str:
        return "no"


def small_avatar() -> AvatarData:
    """Skirted character without cloth, with a small decoder."""
    data = skirted().data
    hands = torch.zeros(len(data.template.vertices), dtype=torch.bool)
    decoder = {"atlas": 48, "width": 8, "sh_degree": 0}
    return replace(data, decoder=decoder, hand_mask=hands)


@cache
def motion_dofs() -> np.ndarray:
    """Four takes of sways, a step to the side apart."""
    takes = []
    for number in range(4):
        take = sway(CLIP, 9.0 - number, 4.0 + 2.0 * number)
        take[:, 2] += 0.7 * (number % 2)
        takes.append(take)
    return np.concatenate(takes)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the skirt as the simulation moves it: grey people with exact masks."""
    folder = tmp_path_factory.mktemp("cloth") / "data"
    shutil.copytree(resource("assets", "actor"), folder, ignore=shutil.ignore_patterns("motions"))
    save_avatar(folder / "skirted.safetensors", small_avatar())
    ring = cameras(VIEWS)
    write_cameras(folder / CAMERAS, ring)
    write_motion(folder / "training" / POSES, torch.from_numpy(motion_dofs()))
    truth = replace(small_avatar(), cloth=store_model(skirt()))
    character, motion = Character(truth), read_motion(folder / "training" / POSES, truth.skeleton)
    with torch.no_grad():
        for frame in range(0, len(motion.dofs), 3):
            surface = character(window_at(truth, motion, frame)).vertices[0]
            world = surface @ torch.tensor(R_WORLD_BODY).T
            for number, camera in enumerate(ring):
                mask = silhouette(world, truth.template.faces, camera).numpy()
                pixels = np.repeat(mask[..., None] * np.array([120, 130, 140], np.uint8), 1, 2)
                rgba = np.dstack([pixels, 255 * mask]).astype(np.uint8)
                path = image_path(folder, "training", number, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rgba).save(path)
    return folder


def config(footage: Path, out: Path, **changes: Any) -> TrainConfig:
    return TrainConfig(
        footage, out, avatar=footage / "skirted.safetensors", cloth=True, device="cpu",
        steps=2, views_per_pose=1, validate_every=0, checkpoint_every=1, **changes,
    )  # fmt: skip


def test_clips_stay_within_takes(footage: Path) -> None:
    split = open_dataset(footage).splits["training"]
    frames = sorted({frame for frame, _ in split.images})
    clips = choose_clips(small_avatar(), split, frames)
    assert len(clips) == 4
    for clip in clips:
        assert len(clip.masked) >= LEAST_FRAMES
        assert clip.start // CLIP == clip.masked[0] // CLIP == clip.masked[-1] // CLIP
        assert list(clip.masked) == sorted({*clip.masked})
        assert {*clip.masked} <= {*frames}
    assert not choose_clips(small_avatar(), split, frames[::8])


@pytest.mark.slow
def test_a_skirt_is_learned_kept_and_trained_on(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloth_learning, "ROUNDS", 1)
    notes = Notes()
    result = train(config(footage, tmp_path / "out"), notes)  # type: ignore[arg-type]
    assert any("vertices swing" in text for text in notes.texts), notes.texts
    trained, learned = load_avatar(result.avatar), load_avatar(tmp_path / "out" / CLOTH)
    assert trained.cloth is not None
    assert learned.cloth is not None
    assert torch.equal(trained.cloth.looseness, learned.cloth.looseness)
    loose = learned.cloth.points[learned.cloth.looseness > 0].numpy()
    assert np.isin(loose, skirted().outer).mean() > 0.9
    assert len(loose) > 0.4 * len(skirted().outer)

    # Going on reads what was learned; the flag is part of the training.
    again = Notes()
    train(config(footage, tmp_path / "out", resume=True), again)  # type: ignore[arg-type]
    assert not any("swing" in text for text in again.texts), again.texts
    off = replace(config(footage, tmp_path / "out", resume=True), cloth=False)
    with pytest.raises(InputError, match="--cloth: expected True"):
        train(off, Notes())  # type: ignore[arg-type]


def test_flags_that_do_not_fit_are_refused(footage: Path, tmp_path: Path) -> None:
    for changes in ({"tune_character": True}, {"tune_poses": True}):
        with pytest.raises(InputError, match="none beside --cloth"):
            config(footage, tmp_path, **changes).resolved()
    with pytest.raises(InputError, match="--cloth: expected none for the released variant"):
        config(footage, tmp_path, variant="released").resolved()
    worn = tmp_path / "worn.safetensors"
    save_avatar(worn, replace(small_avatar(), cloth=store_model(skirt())))
    with pytest.raises(InputError, match="has cloth already"):
        train(replace(config(footage, tmp_path / "out"), avatar=worn), Notes())  # type: ignore[arg-type]
