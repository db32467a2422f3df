"""What the optional backends hand to their packages and get back. The packages are fakes."""

import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ash_core.records import Camera, Gaussians, Image
from ash_core.splat import gsplat_adapter, inria_adapter

WIDTH, HEIGHT = 8, 6
ALPHA = 0.25
NAMES = tuple(field.name for field in fields(Gaussians))
ADAPTERS = pytest.mark.parametrize("adapter", [gsplat_adapter, inria_adapter])


def camera(width: int = WIDTH) -> Camera:
    """Moved, turned a quarter about its axis, its principal point off the middle."""
    viewmat = torch.tensor([[0.0, -1, 0, 0.1], [1, 0, 0, -0.2], [0, 0, 1, 3], [0, 0, 0, 1]])
    K = torch.tensor([[10.0, 0, 3], [0, 12, 3.5], [0, 0, 1]])
    return Camera(viewmat, K, width, HEIGHT)


def gaussians(count: int = 5, bases: int = 4, kind: torch.dtype = torch.float32) -> Gaussians:
    torch.manual_seed(0)
    values = (
        torch.randn(count, 3),
        torch.nn.functional.normalize(torch.randn(count, 4), dim=-1),
        torch.rand(count, 3),
        torch.rand(count),
        torch.randn(count, bases, 3),
    )
    return Gaussians(*(value.to(kind).requires_grad_() for value in values))


class FakeGsplat:
    """Colour: the mean's sum; alpha: ALPHA; depth: the first opacity."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def rasterization(self, **given: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.calls.append(given)
        shape = (1, given["height"], given["width"])
        colour = (given["means"].sum() + given["colors"].sum()).expand(*shape, 3)
        depth = (given["opacities"][0] + given["quats"].sum() + given["scales"].sum()).expand(
            *shape, 1
        )
        alpha = torch.full((*shape, 1), ALPHA)
        return torch.cat([colour, depth], -1), alpha, {}


OLD = (
    "image_height image_width tanfovx tanfovy bg scale_modifier viewmatrix projmatrix sh_degree "
    "campos prefiltered debug"
)


class FakeInria:
    """A picture of the mean colour, ALPHA thick, over the background."""

    def __init__(self, newer: bool) -> None:
        self.newer = newer
        self.calls: list[tuple[Any, dict[str, Any]]] = []
        names = f"{OLD} antialiasing" if newer else OLD
        self.GaussianRasterizationSettings = namedtuple("GaussianRasterizationSettings", names)

    def GaussianRasterizer(self, raster_settings: Any) -> Any:  # noqa: N802
        def draw(**given: Any) -> tuple[Tensor, ...]:
            self.calls.append((raster_settings, given))
            colour = given["shs"][:, 0] if "shs" in given else given["colors_precomp"]
            shaped = given["opacities"].sum() + given["scales"].sum() + given["rotations"].sum()
            picture = ALPHA * colour.mean(0) + (1 - ALPHA) * raster_settings.bg + 0 * shaped
            size = raster_settings.image_height, raster_settings.image_width
            rest = (torch.ones(5), torch.ones(size)) if self.newer else (torch.ones(5),)
            return (picture[:, None, None].expand(3, *size), *rest)

        return draw


@pytest.fixture
def gsplat(monkeypatch: pytest.MonkeyPatch) -> FakeGsplat:
    fake = FakeGsplat()
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=fake.rasterization))
    return fake


@pytest.fixture(params=[False, True], ids=["older", "newer"])
def inria(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeInria]:
    fake = FakeInria(request.param)
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", fake)
    return fake


def check(image: Image) -> None:
    assert image.rgb.shape == (HEIGHT, WIDTH, 3)
    assert image.alpha.shape == image.depth.shape == (HEIGHT, WIDTH)
    assert torch.allclose(image.alpha, torch.tensor(ALPHA).to(image.alpha))


# ---- gsplat ----


def test_gsplat_is_given_our_definition(gsplat: FakeGsplat) -> None:
    given, background = gaussians(), torch.tensor([0.1, 0.2, 0.3])
    images = gsplat_adapter.render(given, [camera(), camera()], background)
    assert len(images) == len(gsplat.calls) == 2
    check(images[0])
    call = gsplat.calls[0]
    numbers = ("width", "height", "near_plane", "radius_clip", "eps2d", "sh_degree", "packed")
    assert [call[name] for name in numbers] == [WIDTH, HEIGHT, 0.2, 0.0, 0.3, 1, False]
    assert (call["render_mode"], call["rasterize_mode"]) == ("RGB+ED", "classic")
    ours = camera()
    assert torch.equal(call["viewmats"], ours.viewmat[None])
    assert torch.equal(call["Ks"], ours.K[None])
    assert torch.equal(call["backgrounds"], background[None])
    for name, there in zip(NAMES, ("means", "quats", "scales", "opacities", "colors"), strict=True):
        assert torch.equal(call[there], getattr(given, name))


def test_gsplat_pictures_come_apart(gsplat: FakeGsplat) -> None:
    given = gaussians(bases=16)
    image = gsplat_adapter.render(given, [camera()], None)[0]
    call = gsplat.calls[0]
    assert call["sh_degree"] == 3
    assert torch.equal(call["backgrounds"], torch.zeros(1, 3))
    want = given.opacities[0] + given.quats.sum() + given.scales.sum()
    assert torch.allclose(image.depth, want.expand(HEIGHT, WIDTH))
    assert torch.allclose(image.rgb, (given.means.sum() + given.sh.sum()).expand(HEIGHT, WIDTH, 3))


# ---- inria ----


@pytest.mark.usefixtures("inria")
def test_inria_takes_world_points_to_the_right_pixels(inria: FakeInria) -> None:
    """The matrices as the package reads them: row vectors, pixels from -1..1 over the edges."""
    given, ours = gaussians(), camera()
    inria_adapter.render(given, [ours], None)
    settings, call = inria.calls[0]
    points = torch.cat([call["means3D"], torch.ones(len(call["means3D"]), 1)], -1)
    view = points @ settings.viewmatrix
    assert torch.allclose(view[:, :3], (points @ ours.viewmat.T)[:, :3], atol=1e-5)
    clip = points @ settings.projmatrix
    assert torch.allclose(clip[:, 3], view[:, 2], atol=1e-5)
    size = torch.tensor([WIDTH, HEIGHT])
    pixels = (clip[:, :2] / clip[:, 3:] + 1) / 2 * size
    want = view @ torch.nn.functional.pad(ours.K, (0, 1)).T
    assert torch.allclose(pixels, want[:, :2] / want[:, 2:], atol=1e-4)
    assert torch.allclose(settings.campos, -ours.viewmat[:3, :3].T @ ours.viewmat[:3, 3])
    assert (settings.tanfovx, settings.tanfovy) == (WIDTH / 20, HEIGHT / 24)
    assert settings.viewmatrix.is_contiguous()
    assert settings.projmatrix.is_contiguous()


def test_inria_draws_colour_then_alpha_and_depth(inria: FakeInria) -> None:
    given, background = gaussians(), torch.tensor([0.1, 0.2, 0.3])
    image = inria_adapter.render(given, [camera()], background)[0]
    check(image)
    (colour, first), (second, again) = inria.calls
    assert torch.equal(colour.bg, background)
    assert torch.equal(second.bg, torch.zeros(3))
    numbers = (colour.image_width, colour.image_height, colour.sh_degree, colour.scale_modifier)
    assert numbers == (WIDTH, HEIGHT, 1, 1.0)
    assert not any((colour.prefiltered, colour.debug, getattr(colour, "antialiasing", False)))
    assert torch.equal(first["shs"], given.sh)
    assert first["opacities"].shape == (5, 1)
    assert torch.equal(first["rotations"], given.quats)
    assert "shs" not in again
    assert torch.allclose(again["colors_precomp"][:, 1], given.means[:, 2] + 3)
    assert torch.allclose(image.depth, (given.means[:, 2] + 3).mean().expand(HEIGHT, WIDTH))
    want = ALPHA * given.sh[:, 0].mean(0) + (1 - ALPHA) * background
    assert torch.allclose(image.rgb, want.expand(HEIGHT, WIDTH, 3))


# ---- both ----


@ADAPTERS
@pytest.mark.usefixtures("gsplat", "inria")
def test_gradients_come_through(adapter: Any) -> None:
    given = gaussians()
    image = adapter.render(given, [camera()], None)[0]
    (image.rgb.sum() + image.depth.sum()).backward()
    assert all(getattr(given, name).grad is not None for name in NAMES)


@ADAPTERS
@pytest.mark.usefixtures("gsplat", "inria")
def test_other_precision_goes_in_as_float32_and_comes_back(adapter: Any) -> None:
    image = adapter.render(gaussians(kind=torch.float64), [camera()], None)[0]
    assert {image.rgb.dtype, image.alpha.dtype, image.depth.dtype} == {torch.float64}


@ADAPTERS
def test_nothing_to_draw_needs_no_package(adapter: Any) -> None:
    background = torch.tensor([0.1, 0.2, 0.3])
    image = adapter.render(gaussians(count=0), [camera()], background)[0]
    assert torch.equal(image.rgb, background.expand(HEIGHT, WIDTH, 3))
    assert not image.alpha.any()
    assert not image.depth.any()
    assert adapter.render(gaussians(), [camera(width=0)], None)[0].rgb.shape == (HEIGHT, 0, 3)
