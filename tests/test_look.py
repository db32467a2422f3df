"""What modes show: laws on a few Gaussians, through the renderer's own path."""

import dataclasses
import math

import pytest
import torch
from test_rasterize_cpu import camera, scene

from ash_core.look import PLAIN, Look, colourise, dress, viridis
from ash_core.records import Gaussians, Image
from ash_core.splat.rasterize import rasterize

WHITE = torch.ones(3)


def shown(gaussians: Gaussians, look: Look) -> Image:
    view = camera()
    picture = rasterize(dress(gaussians, look, view), view, WHITE, backend="cpu")
    return colourise(picture, look, WHITE)


def facing_wall(turn_rad: float = 0.0) -> Gaussians:
    """A thin disc before the camera, turned about the vertical."""
    half = turn_rad / 2
    return Gaussians(
        means=torch.zeros(1, 3),
        quats=torch.tensor([[math.cos(half), 0.0, math.sin(half), 0.0]]),
        scales=torch.tensor([[0.4, 0.4, 0.01]]),
        opacities=torch.tensor([0.9]),
        sh=torch.zeros(1, 4, 3),
    )


def test_the_plain_look_changes_nothing() -> None:
    gaussians = scene("plain", 2)
    assert PLAIN.keeps_gaussians
    assert dress(gaussians, PLAIN, camera()) is gaussians
    picture = rasterize(gaussians, camera(), WHITE, backend="cpu")
    assert colourise(picture, PLAIN, WHITE) is picture


def test_alpha_is_shown_as_grey() -> None:
    image = shown(scene("plain"), Look("alpha"))
    assert torch.equal(image.rgb, image.alpha[..., None].expand(-1, -1, 3))


def test_the_nearest_is_the_brightest() -> None:
    image = shown(scene("opaque", count=400), Look("depth"))
    solid = image.alpha > 0.95
    light = image.rgb.mean(-1)[solid]
    order = image.depth[solid].argsort()
    tenth = len(order) // 10
    assert light[order[:tenth]].mean() > light[order[-tenth:]].mean() + 0.1
    assert torch.allclose(image.rgb[image.alpha == 0], WHITE)


def test_normals_point_at_the_camera_and_turn_with_the_surface() -> None:
    straight, turned = (shown(facing_wall(angle), Look("normals")) for angle in (0.0, 1.0))
    flipped = shown(facing_wall(math.pi), Look("normals"))
    middle = straight.alpha.flatten().argmax()
    first, second, third = (
        image.rgb.reshape(-1, 3)[middle] for image in (straight, turned, flipped)
    )
    assert torch.allclose(first, third, atol=1e-3)  # neither side is the back
    assert (first - second).abs().max() > 0.2


def test_size_and_opacity_scale_the_cover() -> None:
    gaussians = scene("plain")
    plain = float(shown(gaussians, PLAIN).alpha.sum())
    assert float(shown(gaussians, Look(splat_scale=0.5)).alpha.sum()) < 0.6 * plain
    assert float(shown(gaussians, Look(opacity=0.5)).alpha.sum()) < 0.9 * plain
    assert float(shown(gaussians, Look("centres")).alpha.sum()) < plain
    assert float(shown(gaussians, Look(opacity=0.0)).alpha.sum()) == 0


def test_lower_degrees_are_the_fuller_colour_cut_off() -> None:
    gaussians = scene("plain", 3)
    for degree in range(4):
        cut = dataclasses.replace(gaussians, sh=gaussians.sh[:, : (degree + 1) ** 2])
        want = rasterize(cut, camera(), WHITE, backend="cpu")
        assert torch.equal(shown(gaussians, Look(sh_degree=degree)).rgb, want.rgb)
    beyond = shown(scene("plain", 1), Look(sh_degree=3))
    assert torch.equal(beyond.rgb, rasterize(scene("plain", 1), camera(), WHITE).rgb)


def test_ellipsoids_are_solid_and_told_apart() -> None:
    image = shown(scene("plain", count=40), Look("ellipsoids"))
    assert float(image.alpha.max()) > 0.98
    colours = (image.rgb[image.alpha > 0.9] * 12).round().unique(dim=0)
    assert len(colours) > 8


def test_viridis_grows_lighter() -> None:
    light = viridis(torch.linspace(0, 1, 40)) @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert bool((light.diff() > 0).all())
    assert torch.equal(viridis(torch.tensor([-1.0, 2.0])), viridis(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("mode", ["colour", "depth", "alpha", "normals", "ellipsoids", "centres"])
def test_every_mode_takes_nothing(mode: str) -> None:
    image = shown(scene("plain", 1, 0), Look(mode))  # type: ignore[arg-type]
    assert bool(image.rgb.isfinite().all())
