"""Finished images: bytes, files and what a notebook shows; records of NumPy arrays."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from ash_core.errors import InputError
from ash_core.records import Camera, Gaussians, Motion
from ash_core.rendered_image import RenderedImage

RGB = torch.tensor([[[0.25, 0.5, 1.5], [0.1, 0.0, 0.0]]])
ALPHA = torch.tensor([[1.0, 0.5]])


def image(is_transparent: bool = False, rounding: float = 0.5) -> RenderedImage:
    return RenderedImage(RGB, ALPHA, torch.zeros(1, 2), is_transparent, rounding)


def test_an_opaque_image_is_rgb_and_a_transparent_one_straight_rgba() -> None:
    assert image().to_numpy().tolist() == [[[64, 128, 255], [26, 0, 0]]]
    assert image(rounding=0.0).to_numpy().tolist() == [[[63, 127, 255], [25, 0, 0]]]
    assert image(is_transparent=True).to_numpy().tolist() == [
        [[64, 128, 255, 255], [51, 0, 0, 128]]
    ]
    assert np.asarray(image()).dtype == np.uint8
    assert np.asarray(image(), dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize("is_transparent", [False, True])
def test_files_and_notebooks_show_the_same_pixels(tmp_path: Path, is_transparent: bool) -> None:
    shown = image(is_transparent)
    shown.save(tmp_path / "new" / "a.png")
    for source in (tmp_path / "new" / "a.png", io.BytesIO(shown._repr_png_())):
        with PillowImage.open(source) as picture:
            assert np.array_equal(np.asarray(picture), shown.to_numpy())
    with pytest.raises(InputError, match=r"a\.gif: expected a name in \.png"):
        shown.save(tmp_path / "a.gif")


def test_images_with_gradients_have_bytes() -> None:
    rgb = RGB.clone().requires_grad_()
    assert RenderedImage(rgb, ALPHA, ALPHA).to_numpy().shape == (1, 2, 3)


def test_records_take_arrays_and_keep_tensors() -> None:
    array = np.eye(4)
    camera = Camera.from_arrays(array, [[1, 0, 2], [0, 1, 2], [0, 0, 1]], 4, 4)
    array[0, 0] = 9.0  # what they hold is a copy
    assert camera.viewmat.dtype == camera.K.dtype == torch.float32
    assert camera.viewmat.equal(torch.eye(4))
    means = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    rest = np.zeros((2, 4)), np.ones((2, 3)), np.ones(2), np.zeros((2, 1, 3))
    gaussians = Gaussians.from_arrays(means, *rest)
    assert gaussians.means is means
    assert gaussians.quats.dtype == torch.float32
    motion = Motion.from_arrays(np.zeros((5, 7), np.float32))
    assert motion.dofs.dtype == torch.float64
    assert motion.normalised is None


def test_records_refuse_what_is_no_array() -> None:
    with pytest.raises(InputError, match="viewmat: expected an array of numbers"):
        Camera.from_arrays([[1, 2], [3]], np.eye(3), 4, 4)
    with pytest.raises(InputError, match="dofs: expected an array of numbers"):
        Motion.from_arrays("walk.motion")
