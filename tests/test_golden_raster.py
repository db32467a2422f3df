"""The published rasterizer: every array of item 13, its two pictures, and its bytes."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from published import Arrays, arrays, close
from torch import Tensor
from toy import make_toy_character

from ash_core.avatar import Avatar, NativeAvatar, ReleasedAvatar
from ash_core.conventions import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from ash_core.files.checks import network_shapes
from ash_core.files.released import import_ash
from ash_core.records import AvatarData, Camera, Gaussians
from ash_core.render import Renderer
from ash_core.rendered_image import RenderedImage
from ash_core.splat.rasterize import rasterize
from ash_core.splat.reference import Projected, project
from ash_core.variants import RELEASED

WIDTH, HEIGHT = 160, 118
TILE = 16
EXACT = 1e-12
"""Float64 against float64, the same formula."""
XY_PX = 1e-5
"""Their centres go through a float32 projection matrix."""
PICTURE = 4e-6
"""What such centres do to a picture that is float64 otherwise."""
COLOUR = 4 * 3e-6
"""Four times the float32 noise of the official rasterizer.
Source: docs/released_behaviour.md A23."""
FLIPS = 3
"""Pixels of a float32 picture where a threshold may be decided otherwise than in float64."""
STRADDLING = 5
"""Bytes of a picture that float noise may take over an integer."""
OFFICIAL_FLIPS = 1
"""Such pixels in the official float32 pictures.
Source: docs/released_behaviour.md A23, 1 of 18,880."""


@pytest.fixture(scope="module")
def camera(golden: Path) -> Camera:
    """Camera 0 at 160 x 118, from the published matrices in float64.

    Their pixel centres stand at integers and their picture at cx - 0.5: together that is ours.
    """
    values = np.load(golden / "12_cameras.npz")
    projection = values["cam0_160x118_proj"].astype(np.float64)
    K = np.eye(3)
    for axis, size in enumerate((WIDTH, HEIGHT)):
        K[axis, axis] = size / 2 / np.tan(values["cam0_fov"][axis] / 2)
        K[axis, 2] = size / 2 * (1 + projection[2, axis])
    viewmat = values["cam0_160x118_world_view"].astype(np.float64).T.copy()
    return Camera(torch.tensor(viewmat), torch.tensor(K), WIDTH, HEIGHT)


def published_gaussians(reference: Path, mode: str, degree: int) -> Gaussians:
    """Item 10's Gaussians of frame 1, as float32."""
    values = np.load(reference / "golden" / "10_gaussians_64.npz")
    means, quats, scales, opacities, sh = (
        torch.tensor(values[f"{mode}_1_{key}"])
        for key in ("xyz", "rot", "scales", "opacity", "shs")
    )
    return Gaussians(means, quats, scales, opacities[:, 0], sh[:, : (degree + 1) ** 2])


def doubled(gaussians: Gaussians) -> Gaussians:
    return Gaussians(*(getattr(gaussians, f.name).double() for f in fields(gaussians)))


def close_but_for(
    got: Tensor | np.ndarray, want: np.ndarray, tolerance: float, flips: int, largest: float = 0.01
) -> None:
    """Compare pictures; `flips` pixels may be off by more than the tolerance, though not much."""
    got = got.double().numpy() if isinstance(got, Tensor) else got
    assert got.shape == want.shape, (got.shape, want.shape)
    error = np.abs(got - want.astype(np.float64)).reshape(HEIGHT, WIDTH, -1).max(-1)
    assert float(np.median(error)) < 1e-6
    assert float(error.max()) < largest
    assert int((error > tolerance).sum()) <= flips, np.sort(error, axis=None)[-flips - 3 :]


Pictures = dict[tuple[str, str, int], RenderedImage]
"""By backend, mode of the published batch norms, and SH degree."""
UNDER = {("train", 0): 1.0, ("train", 3): 0.0, ("eval", 0): 0.0, ("eval", 3): 0.0}
"""The background's grey; the two PNGs are the first two of these."""


@pytest.fixture(scope="module")
def pictures(reference: Path, camera: Camera) -> Pictures:
    """Each backend's, once. The reference, in float64, is slow and leaves one out."""
    made: Pictures = {}
    for (mode, degree), grey in UNDER.items():
        gaussians, under = published_gaussians(reference, mode, degree), torch.full((3,), grey)
        made["cpu", mode, degree] = rasterize(gaussians, camera, under, backend="cpu")
        if (mode, degree) != ("eval", 0):
            image = rasterize(doubled(gaussians), camera, under, backend="reference")
            made["reference", mode, degree] = image
    return made


# ---- item 13 ----


@pytest.mark.slow
def test_13_raster(reference: Path, camera: Camera, pictures: Pictures) -> None:
    with arrays(reference / "golden" / "13_raster.npz") as z:
        trained = {d: doubled(published_gaussians(reference, "train", d)) for d in (0, 3)}
        seen = {degree: project(gaussians, camera) for degree, gaussians in trained.items()}
        for degree in (0, 3):
            _compare_projection(z, degree, seen[degree])
        rects = _compare_tile_rects(z, seen[0])
        _compare_walk(z, walk(trained, camera))
        _compare_tiled(z, walk(trained, camera, rects))
        evaluated = {d: doubled(published_gaussians(reference, "eval", d)) for d in (0, 3)}
        for degree, rgb in walk(evaluated, camera).pictures.items():
            close(rgb, z[f"eval_cam0_deg{degree}_black"], PICTURE)
        _compare_backends(z, pictures)


def _compare_projection(z: Arrays, degree: int, got: Projected) -> None:
    assert bool(got.visible.all())
    close(got.means2d, z["train_cam0_xy"] + 0.5, XY_PX)
    close(got.cov2d, z["train_cam0_cov2d"], EXACT)
    close(got.conics, z["train_cam0_conic"], EXACT)
    close(got.depths, z["train_cam0_depth"], EXACT)
    # The direction of view is from their camera centre, which is float32.
    close(got.rgb, z[f"train_cam0_deg{degree}_rgb"], 5e-7)


def _compare_tile_rects(z: Arrays, got: Projected) -> np.ndarray:
    """[N, 4] tiles x0, y0, x1, y1, ends exclusive. Nothing of it is in our rasterizers."""
    xx, xy, yy = got.cov2d.numpy().T
    mean = (xx + yy) / 2
    # The larger eigenvalue, but that of nearly round Gaussians is taken a little too large: without
    # the 0.1, which is 3DGS's, 69 of the 1574 radii would be 1 less than published.
    largest = mean + np.sqrt(np.maximum(0.1, mean * mean - (xx * yy - xy * xy)))
    radius = np.ceil(3 * np.sqrt(largest))[:, None]
    centre = got.means2d.numpy() - 0.5
    tiles = np.ceil(np.array([WIDTH, HEIGHT]) / TILE)
    first = np.clip(np.floor((centre - radius) / TILE), 0, tiles)
    end = np.clip(np.floor((centre + radius + TILE - 1) / TILE), 0, tiles)
    rects = np.concatenate([first, end], -1)
    close(radius[:, 0], z["train_cam0_radius"], 0)
    close(rects, z["train_cam0_rect"], 0)
    return rects


def _compare_walk(z: Arrays, got: "Walk") -> None:
    assert (got.blended == z["train_cam0_deg0_n"]).all()
    assert (got.done == z["train_cam0_deg0_done"]).all()
    close(got.left, z["train_cam0_deg0_T"], PICTURE)
    for degree, rgb in got.pictures.items():
        close(rgb, z[f"train_cam0_deg{degree}_black"], PICTURE)
        close(rgb + got.left[..., None], z[f"train_cam0_deg{degree}_white"], PICTURE)


def _compare_tiled(z: Arrays, got: "Walk") -> None:
    for degree, rgb in got.pictures.items():
        stem = f"train_cam0_deg{degree}"
        close(rgb, z[f"{stem}_tiled_black"], PICTURE)
        close_but_for(rgb, z[f"{stem}_official_fp32_black"], COLOUR, OFFICIAL_FLIPS)
        # The oddity itself (A23): the tiles cut Gaussians off where they still show.
        cut = np.abs(rgb - z[f"{stem}_black"]).max(-1)
        assert 50 < int((cut > 1e-3).sum()) < 100
        assert 0.02 < float(cut.max()) < 0.044


def _compare_backends(z: Arrays, pictures: Pictures) -> None:
    for (backend, mode, degree), image in pictures.items():
        tolerance, flips = (COLOUR, FLIPS) if backend == "cpu" else (PICTURE, 0)
        stem, left = f"{mode}_cam0_deg{degree}", 1 - image.alpha
        black = image.rgb - UNDER[mode, degree] * left[..., None]
        close_but_for(black, z[f"{stem}_black"], tolerance, flips)
        if mode == "train":
            close_but_for(left, z["train_cam0_deg0_T"], tolerance, flips)
            close_but_for(black + left[..., None], z[f"{stem}_white"], tolerance, flips)


@dataclass(frozen=True)
class Walk:
    """What a walk from front to back leaves in each pixel."""

    pictures: dict[int, np.ndarray]
    """By SH degree: [H, W, 3] over black."""
    left: np.ndarray
    """[H, W] transmittance."""
    blended: np.ndarray
    """[H, W] number of Gaussians."""
    done: np.ndarray
    """[H, W] stopped before the last Gaussian."""


def walk(gaussians: dict[int, Gaussians], camera: Camera, rects: np.ndarray | None = None) -> Walk:
    """Blend by the definition's rule, in numpy. `gaussians` differ in their SH degree only.

    rects: the published rasterizer's tiles, [N, 4]; each tile then sees its own Gaussians only.
    """
    opacities = gaussians[0].opacities.numpy()
    colours = np.concatenate([project(gaussians[d], camera).rgb.numpy() for d in (0, 3)], -1)
    projected = project(gaussians[0], camera)
    means, conics = projected.means2d.numpy(), projected.conics.numpy()
    order = np.argsort(projected.depths.numpy().astype(np.float32), kind="stable")
    rgb = np.zeros((HEIGHT, WIDTH, 6))
    left = np.ones((HEIGHT, WIDTH))
    blended = np.zeros((HEIGHT, WIDTH), int)
    done = np.zeros((HEIGHT, WIDTH), bool)
    for y in range(0, HEIGHT, TILE):
        for x in range(0, WIDTH, TILE):
            here = order
            if rects is not None:
                x0, y0, x1, y1 = rects[order].T * TILE
                here = order[(x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)]
            tile = np.s_[y : min(y + TILE, HEIGHT), x : min(x + TILE, WIDTH)]
            ys, xs = np.mgrid[tile]
            dx, dy = xs[..., None] + 0.5 - means[here, 0], ys[..., None] + 0.5 - means[here, 1]
            a, b, c = conics[here].T
            falloff = np.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
            alpha = np.minimum(opacities[here] * falloff, ALPHA_MAX)
            alpha[alpha < ALPHA_MIN] = 0
            stopped = np.cumprod(1 - alpha, -1) < TRANSMITTANCE_MIN
            alpha[stopped] = 0
            after = np.cumprod(1 - alpha, -1)
            before = np.concatenate([np.ones((*after.shape[:2], 1)), after], -1)
            rgb[tile] = (alpha * before[..., :-1]) @ colours[here]
            left[tile], blended[tile] = before[..., -1], (alpha > 0).sum(-1)
            done[tile] = stopped.any(-1)
    return Walk({0: rgb[..., :3], 3: rgb[..., 3:]}, left, blended, done)


# ---- bytes ----


@pytest.fixture(scope="module")
def native_data(tmp_path_factory: pytest.TempPathFactory) -> AvatarData:
    return import_ash(make_toy_character(tmp_path_factory.mktemp("toy")).entry)[0]


@pytest.fixture(scope="module")
def released(native_data: AvatarData) -> Renderer:
    shapes = network_shapes(len(native_data.template.vertices), len(native_data.graph.vertices))
    networks = {
        name: {key: torch.zeros(shape) for key, shape in keys.items()}
        for name, keys in shapes.items()
    }
    avatar = Avatar.from_data(
        replace(
            native_data,
            variant="released",
            history_offsets=RELEASED.history_offsets,
            networks=networks,
        )
    )
    assert isinstance(avatar, ReleasedAvatar)
    return Renderer(avatar)


@pytest.fixture(scope="module")
def native(native_data: AvatarData) -> Renderer:
    avatar = Avatar.from_data(native_data, preset_name="cpu")
    assert isinstance(avatar, NativeAvatar)
    return Renderer(avatar)


def test_bytes_are_cut_off_for_released_avatars_and_rounded_for_native_ones(
    released: Renderer, native: Renderer
) -> None:
    values = torch.tensor([-0.5, 0.0, 0.4, 0.6, 99.0, 99.9, 254.4, 254.6, 255.0, 300.0]) / 255
    parts = values[None, :, None].expand(1, -1, 3), torch.ones(1, 10), torch.ones(1, 10)
    cut = [0, 0, 0, 0, 99, 99, 254, 254, 255, 255]
    rounded = [0, 0, 0, 1, 99, 100, 254, 255, 255, 255]
    for renderer, want in ((released, cut), (native, rounded)):
        got = RenderedImage(*parts, rounding=renderer.rounding).rgb8()
        assert got.dtype == torch.uint8
        assert got[0].tolist() == [[value] * 3 for value in want]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("degree", "under"), [(0, "white"), (3, "black")])
def test_13_pictures(
    reference: Path, released: Renderer, pictures: Pictures, degree: int, under: str, backend: str
) -> None:
    """A released avatar's bytes are the published picture's, enlarged by four."""
    enlarged = np.asarray(
        PillowImage.open(reference / "golden" / f"13_train_cam0_deg{degree}_{under}.png")
    )
    want = enlarged[::4, ::4].astype(int)
    assert (enlarged == want.repeat(4, 0).repeat(4, 1)).all()
    got = replace(pictures[backend, "train", degree], rounding=released.rounding).rgb8()
    error = np.abs(got.int().numpy() - want)
    # Noise of 1e-6 before the cut takes a few of 56640 values over an integer.
    assert int(error.max()) <= 1
    assert int((error > 0).sum()) <= STRADDLING, int((error > 0).sum())
