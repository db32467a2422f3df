"""The texture of an imported template: colours of the images that show it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from made_body import actor_body, write_body_model
from made_capture import made_clip, write_avatarrex

from ash_core.avatar import Avatar
from ash_core.captures.import_capture import ImportSettings, Watch, import_capture
from ash_core.files.dataset import Dataset, open_dataset, read_masked
from ash_core.geometry.motion import pose_window
from ash_core.render import Renderer, RenderRequest

GREY = 190
CAMERAS, FRAMES, SIZE = 4, 4, (144, 192)


def imported(folder: Path) -> Dataset:
    """Import the made clip with the actor's own surface as its body."""
    clip = made_clip(CAMERAS, FRAMES, SIZE)
    write_avatarrex(folder / "source", clip)
    write_body_model(folder / "body.npz", rest_joints=clip.rest_joints, surface=actor_body()[0])
    watch = Watch(
        stage=lambda _text: None,
        images=lambda _done, _total: None,
        detected=lambda _detection: None,
        stopped=lambda: False,
    )
    settings = ImportSettings(folder / "source", folder / "data", folder / "body.npz", test="0")
    assert import_capture(settings, watch) is not None
    return open_dataset(folder / "data")


def errors_of(dataset: Dataset, texture: torch.Tensor) -> list[float]:
    """Return each camera's mean error of an untrained avatar's render where image and render
    show it.
    """
    data = dataset.character
    data = replace(data, template=replace(data.template, texture=texture))
    split = dataset.splits["training"]
    window = pose_window(split.motion, 0, data.skeleton, data.history_offsets)
    renderer = Renderer(Avatar.from_data(data, preset_name="cpu"))
    errors = []
    for number, camera in enumerate(split.cameras):
        image = renderer.render(RenderRequest(window, camera, (0.0, 0.0, 0.0)))
        rgb, alpha = read_masked(split.images[0, number])
        both = (alpha > 200) & (image.alpha.numpy() > 0.8)
        assert both.sum() > 500
        errors.append(float(np.abs(image.rgb.numpy() - rgb / 255.0)[both].mean()))
    return errors


def test_an_untrained_avatar_has_the_colours_of_the_images(tmp_path: Path) -> None:
    dataset = imported(tmp_path)
    painted = dataset.character.template.texture
    assert painted.float().std(dim=(0, 1)).max() > 20
    ours, grey = errors_of(dataset, painted), errors_of(dataset, torch.full_like(painted, GREY))
    assert len(ours) == CAMERAS
    assert all(one < 0.5 * other for one, other in zip(ours, grey, strict=True))
