"""Rasterizers of one's own: registered, checked, used by name."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ash_core.errors import InputError
from ash_core.records import Camera, Gaussians, Image
from ash_core.splat import rasterize as rasterizing
from ash_core.splat.rasterize import available_backends, rasterize, register_backend

CAMERA = Camera.from_arrays(np.eye(4), [[8, 0, 4], [0, 8, 3], [0, 0, 1]], width=8, height=6)


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterizing, "_BACKENDS", dict(rasterizing._BUILT_IN))


def one_gaussian() -> Gaussians:
    return Gaussians.from_arrays(
        means=np.array([[0, 0, 2]]),
        quats=[[1, 0, 0, 0]],
        scales=np.full((1, 3), 0.1),
        opacities=[0.9],
        sh=np.zeros((1, 1, 3)),
    )


def flat(gaussians: Gaussians, cameras: Sequence[Camera], background: Tensor | None) -> list[Image]:
    level = gaussians.opacities.sum()
    sizes = [(camera.height, camera.width) for camera in cameras]
    return [Image(level.expand(*size, 3), level.expand(size), level.expand(size)) for size in sizes]


def test_a_registered_backend_renders_by_its_name_with_gradients() -> None:
    register_backend("flat", flat)
    assert available_backends()[-1] == "flat"
    opacities = torch.tensor([0.25], requires_grad=True)
    gaussians = replace(one_gaussian(), opacities=opacities)
    one, other = rasterize(gaussians, [CAMERA, CAMERA], backend="flat")
    assert one.rgb.shape == (6, 8, 3)
    assert float(other.alpha[0, 0].detach()) == 0.25
    one.alpha.mean().backward()
    assert opacities.grad is not None
    assert float(opacities.grad) == pytest.approx(1.0)


def test_a_name_may_be_registered_again_but_not_a_built_in_one() -> None:
    register_backend("mine", flat)
    register_backend("mine", flat)
    for name in ("cpu", "reference", "auto", ""):
        with pytest.raises(InputError, match="expected a name of its own"):
            register_backend(name, flat)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], r"backend bad: expected 1 images, one a camera, got 0"),
        (
            [Image(torch.zeros(8, 6, 3), torch.zeros(8, 6), torch.zeros(8, 6))],
            r"backend bad: rgb: expected floats \[6, 8, 3\], got float32 \[8, 6, 3\]",
        ),
    ],
)
def test_what_a_backend_gives_is_checked(images: list[Image], text: str) -> None:
    register_backend("bad", lambda gaussians, cameras, background: images)
    with pytest.raises(InputError, match=text):
        rasterize(one_gaussian(), CAMERA, backend="bad")


def test_backgrounds_are_taken_as_numbers() -> None:
    for background in ((1, 0.5, 0), [1.0, 0.5, 0.0], torch.tensor([1, 0.5, 0])):
        image = rasterize(one_gaussian(), CAMERA, background, backend="cpu")
        assert image.rgb[0, 0].tolist() == [1.0, 0.5, 0.0]
        assert not image.is_transparent


def test_arrays_in_records_are_refused_with_the_cure() -> None:
    arrays = replace(one_gaussian(), means=torch.zeros(1, 3).double())
    object.__setattr__(arrays, "means", np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"means: expected a tensor, got ndarray; from_arrays"):
        rasterize(arrays, CAMERA)
