"""What splatting must obey, whatever the backend: each law on every one of our own."""

import copy
import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from ash_core.conventions import ALPHA_MIN, BLUR_PX2, SH_C0, TRANSMITTANCE_MIN
from ash_core.errors import InputError
from ash_core.records import Camera, Gaussians, Image
from ash_core.splat.rasterize import available_backends, rasterize

BACKENDS = ("reference", "cpu", pytest.param("cuda", marks=pytest.mark.gpu))
pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def front_camera(width: int = 48, height: int = 40, focal: float = 50.0) -> Camera:
    """At the world's origin, looking along +Z."""
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Camera(torch.eye(4), K, width, height)


def scene(count: int, bases: int = 1, seed: int = 0) -> Gaussians:
    """Random overlapping Gaussians in front of `front_camera`."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=random)

    means = torch.cat([uniform(-1.2, 1.2, count, 2), uniform(2.0, 4.0, count, 1)], 1)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=random), dim=1)
    sh = torch.randn(count, bases, 3, generator=random) * 0.4
    return Gaussians(
        means, quats, uniform(0.02, 0.2, count, 3), uniform(0.1, 0.99, count), sh + 0.3
    )


def select(gaussians: Gaussians, rows: Tensor | slice) -> Gaussians:
    return Gaussians(*(getattr(gaussians, f.name)[rows] for f in fields(gaussians)))


def assert_same(got: Image, want: Image, atol: float = 2e-6) -> None:
    for field in fields(Image):
        a, b = getattr(got, field.name), getattr(want, field.name)
        torch.testing.assert_close(a, b, atol=atol, rtol=0.0, check_dtype=False)


def one_gaussian(x: float, y: float, opacity: float = 0.6) -> Gaussians:
    return Gaussians(
        torch.tensor([[x, y, 2.0]]),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([[0.1, 0.05, 0.02]]),
        torch.tensor([opacity]),
        torch.tensor([[[0.5, -0.2, 1.0]]]),
    )


def test_one_gaussian_has_its_analytic_value(backend: str) -> None:
    camera = front_camera()
    # Pixel (24, 20) has its centre at (24.5, 20.5); the principal point is (24, 20).
    image = rasterize(one_gaussian(0.5 * 2 / 50, 0.5 * 2 / 50), camera, backend=backend)
    colour = 0.5 + SH_C0 * torch.tensor([0.5, -0.2, 1.0])
    torch.testing.assert_close(image.rgb[20, 24], 0.6 * colour, atol=1e-6, rtol=0)
    assert float(image.alpha[20, 24]) == pytest.approx(0.6, abs=1e-6)
    assert float(image.depth[20, 24]) == pytest.approx(2.0, abs=1e-5)
    # Three pixels to the right: sigma is 0.1 * 50 / 2 px, blurred; the Jacobian's slope is ~1e-2.
    falloff = math.exp(-0.5 * 3**2 / (2.5**2 + BLUR_PX2))
    assert float(image.alpha[20, 27]) == pytest.approx(0.6 * falloff, rel=1e-4)


def test_support_is_exactly_where_alpha_reaches_the_minimum(backend: str) -> None:
    image = rasterize(one_gaussian(0.0, 0.0, 0.99), front_camera(), backend=backend)
    xs = torch.arange(48) + 0.5 - 24
    row = 0.99 * torch.exp(-0.5 * (xs**2 / (2.5**2 + BLUR_PX2) + 0.25 / (1.25**2 + BLUR_PX2)))
    assert torch.equal(image.alpha[20] > 0, row >= ALPHA_MIN)
    assert float(image.alpha[image.alpha > 0].min()) >= ALPHA_MIN - 1e-6
    assert torch.equal(image.depth == 0, image.alpha == 0)


def test_transmittance_stops_above_its_minimum(backend: str) -> None:
    count = 30
    wall = select(one_gaussian(0.0, 0.0, 0.9), torch.zeros(count, dtype=torch.long))
    wall.means[:, 2] += torch.arange(count) * 0.01
    alpha = rasterize(wall, front_camera(), backend=backend).alpha
    assert 1 - float(alpha.max()) >= TRANSMITTANCE_MIN - 1e-7
    assert 1 - float(alpha.max()) < TRANSMITTANCE_MIN * 20


def test_order_of_the_inputs_does_not_matter(backend: str) -> None:
    gaussians = scene(200)
    shuffled = select(gaussians, torch.randperm(200, generator=torch.Generator().manual_seed(1)))
    camera = front_camera()
    assert_same(
        rasterize(shuffled, camera, backend=backend), rasterize(gaussians, camera, backend=backend)
    )


def test_equal_depths_are_drawn_by_index(backend: str) -> None:
    pair = select(one_gaussian(0.0, 0.0, 0.8), torch.tensor([0, 0]))
    pair.sh[1] = -1.0
    first = rasterize(pair, front_camera(), backend=backend).rgb[20, 24]
    second = rasterize(select(pair, torch.tensor([1, 0])), front_camera(), backend=backend)
    assert float(first[2]) > float(second.rgb[20, 24, 2]) + 0.1


def test_background_shows_through_what_is_left(backend: str) -> None:
    gaussians, camera, under = scene(100), front_camera(), torch.tensor([0.2, 0.5, 1.0])
    bare = rasterize(gaussians, camera, backend=backend)
    over = rasterize(gaussians, camera, under, backend=backend)
    want = replace(bare, rgb=bare.rgb + (1 - bare.alpha)[..., None] * under)
    assert_same(over, want)


def test_several_cameras_are_as_many_single_calls(backend: str) -> None:
    gaussians = scene(100)
    cameras = [front_camera(), front_camera(17, 65, 30.0)]
    together = rasterize(gaussians, cameras, backend=backend)
    assert [image.alpha.shape for image in together] == [(40, 48), (65, 17)]
    for image, camera in zip(together, cameras, strict=True):
        assert_same(image, rasterize(gaussians, camera, backend=backend), atol=0)
    assert rasterize(gaussians, [], backend=backend) == []


def test_moving_the_principal_point_shifts_the_picture(backend: str) -> None:
    gaussians, camera = scene(100), front_camera()
    K = camera.K.clone()
    K[0, 2] += 5
    K[1, 2] -= 3
    moved = rasterize(gaussians, replace(camera, K=K), backend=backend)
    still = rasterize(gaussians, camera, backend=backend)
    torch.testing.assert_close(moved.rgb[:-3, 5:], still.rgb[3:, :-5], atol=1e-5, rtol=0)


def test_view_dependence_turns_with_the_camera(backend: str) -> None:
    """A quarter turn of scene, coefficients and camera about Z leaves the picture as it was."""
    gaussians, camera = scene(60, 4), front_camera(40, 40)
    half = math.sqrt(0.5)
    w, x, y, z = gaussians.quats.unbind(1)
    turned = Gaussians(
        gaussians.means @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
        half * torch.stack([w - z, x - y, x + y, w + z], 1),
        gaussians.scales,
        gaussians.opacities,
        # Degree one is (-y, z, -x): the new x is the old -y, the new y the old x.
        torch.stack(
            [gaussians.sh[:, 0], gaussians.sh[:, 3], gaussians.sh[:, 2], -gaussians.sh[:, 1]], 1
        ),
    )
    view = torch.eye(4)
    view[:2, :2] = torch.tensor([[0.0, 1], [-1, 0]])
    got = rasterize(turned, replace(camera, viewmat=view), backend=backend)
    assert_same(got, rasterize(gaussians, camera, backend=backend), atol=5e-5)


@pytest.mark.parametrize("under", [None, torch.tensor([0.25, 0.5, 0.75])])
def test_nothing_to_draw_is_the_background(backend: str, under: Tensor | None) -> None:
    behind = select(scene(5), slice(None))
    behind.means[:, 2] = -3.0
    faint = replace(scene(5), opacities=torch.full((5,), 0.0039))
    for gaussians in (select(scene(5), slice(0, 0)), behind, faint):
        image = rasterize(gaussians, front_camera(), under, backend=backend)
        colour = torch.zeros(3) if under is None else under
        assert torch.equal(image.rgb, colour.expand(40, 48, 3))
        assert float(image.alpha.abs().max()) == float(image.depth.abs().max()) == 0


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 9), (9, 0), (1, 1)])
def test_pictures_without_pixels(backend: str, width: int, height: int) -> None:
    camera = replace(front_camera(), width=width, height=height)
    gaussians = scene(10)
    gaussians.means.requires_grad_()
    image = rasterize(gaussians, camera, torch.ones(3), backend=backend)
    assert image.rgb.shape == (height, width, 3)
    assert image.alpha.shape == image.depth.shape == (height, width)


@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "sh"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_named(backend: str, field: str, value: float) -> None:
    gaussians = scene(9)
    getattr(gaussians, field)[4].view(-1)[-1] = value
    getattr(gaussians, field)[7] = value
    with pytest.raises(InputError, match=rf"^gaussians\.{field}\[4[],].*finite.*{value}") as error:
        rasterize(gaussians, front_camera(), backend=backend)
    assert "\n" not in str(error.value)


def test_large_sums_are_not_taken_for_infinities(backend: str) -> None:
    gaussians = scene(4)
    gaussians.means[:2, 0] = 3e38
    rasterize(gaussians, front_camera(), backend="cpu")


def spoiled(record: Gaussians | Camera, field: str, value: Tensor) -> Gaussians | Camera:
    """A copy with one field that does not fit, past the records' own checks in tests."""
    bad = copy.copy(record)
    object.__setattr__(bad, field, value)
    return bad


def test_wrong_shapes_types_and_names_are_input_errors(backend: str) -> None:
    good, camera = scene(4), front_camera()
    wrong = {
        r"gaussians\.means": spoiled(good, "means", good.means[:, :2]),
        r"gaussians\.quats.*\[N, 4\] with N = 4.*\[3, 4\]": spoiled(good, "quats", good.quats[:3]),
        r"gaussians\.scales.*int64": spoiled(good, "scales", good.scales.long()),
        r"gaussians\.opacities": spoiled(good, "opacities", good.opacities[:, None]),
        r"gaussians\.sh.*1, 4, 9, 16.*\[4, 2, 3\]": spoiled(good, "sh", torch.zeros(4, 2, 3)),
    }
    for message, gaussians in wrong.items():
        with pytest.raises(InputError, match=message):
            rasterize(gaussians, camera, backend=backend)
    with pytest.raises(InputError, match=r"cameras\[1\]\.K"):
        rasterize(good, [camera, spoiled(camera, "K", torch.eye(4))], backend=backend)
    view = torch.eye(4)
    view[0, 3] = math.nan
    with pytest.raises(InputError, match=r"camera\.viewmat\[0, 3\]"):
        rasterize(good, replace(camera, viewmat=view), backend=backend)
    with pytest.raises(InputError, match="focal"):
        rasterize(good, replace(camera, K=-camera.K), backend=backend)
    with pytest.raises(InputError, match="size"):
        rasterize(good, replace(camera, width=-1), backend=backend)
    with pytest.raises(InputError, match="background"):
        rasterize(good, camera, torch.ones(4), backend=backend)
    with pytest.raises(InputError, match=r"backend.*auto.*'metal'"):
        rasterize(good, camera, backend="metal")
    assert backend in available_backends()


def test_any_strides_and_precisions_are_taken(backend: str) -> None:
    gaussians, camera = scene(50), front_camera()
    strided = Gaussians(
        gaussians.means.T.contiguous().T,
        gaussians.quats.flip(1).flip(1),
        gaussians.scales.repeat_interleave(2, 0)[::2],
        gaussians.opacities.double(),
        gaussians.sh.transpose(1, 2).contiguous().transpose(1, 2),
    )
    if backend == "reference":
        strided = replace(strided, opacities=gaussians.opacities)
    assert_same(
        rasterize(strided, camera, backend=backend), rasterize(gaussians, camera, backend=backend)
    )
