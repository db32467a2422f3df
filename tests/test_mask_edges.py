"""Rims of masks: soft ones stay soft with the person's own colours, wide ones are eroded as far as
the pictures say."""

from pathlib import Path

import av
import numpy as np
import pytest
from scipy import ndimage
from small_dataset import FRAMES, HEIGHT, WIDTH, small_dataset, write_video

from ash_core.cli import main
from ash_core.files.dataset import image_path, mask_video_path, read_masked, video_path
from ash_core.footage.extract.cutter import ExtractSettings
from ash_core.footage.extract.edges import measure_edge
from ash_core.footage.extract.masks import clean_mask, mask_levels, published_sides
from ash_core.footage.extract.unmix import unmix

PERSON, BACKDROP = np.array([200.0, 120.0, 90.0]), np.array([40.0, 140.0, 60.0])
FINE = 8


def shape(width: int, height: int) -> np.ndarray:
    """Return the coverage [h, w] of a body with two fingers of two pixels, in [0, 1]."""
    y, x = (np.mgrid[: height * FINE, : width * FINE] + 0.5) / FINE
    body = ((x - width / 2) / (0.3 * width)) ** 2 + ((y - height / 2) / (0.4 * height)) ** 2 < 1
    for finger in (0.30, 0.38):
        body |= (abs(x - width / 2) < 0.45 * width) & (abs(y - finger * height) < 1.0)
    return body.reshape(height, FINE, width, FINE).mean((1, 3))


def photograph(coverage: np.ndarray) -> np.ndarray:
    mixed = coverage[..., None] * PERSON + (1 - coverage[..., None]) * BACKDROP
    return (mixed + 0.5).astype(np.uint8)


def as_bytes(coverage: np.ndarray) -> np.ndarray:
    return (coverage * 255 + 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    return shape(320, 480)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("wide", [0, 1, 2])
def test_a_mask_is_eroded_as_far_as_it_shows_backdrop(
    large: np.ndarray, wide: int, soft: bool
) -> None:
    alpha = as_bytes(large) if soft else as_bytes(large > 0.5)
    alpha = ndimage.grey_dilation(alpha, (2 * wide + 1, 2 * wide + 1))
    edge = measure_edge([(photograph(large), alpha)])
    assert edge.erode_px == wide
    assert edge.is_soft == soft
    # What erosion leaves is the mask before it grew.
    left, _ = clean_mask(alpha, edge.side, 0, largest=False)
    assert np.abs(left / 255 - large).mean() < 0.002


def test_erosion_is_bounded_by_the_height_of_the_person(large: np.ndarray) -> None:
    alpha = ndimage.grey_dilation(as_bytes(large), (21, 21))
    assert measure_edge([(photograph(large), alpha)]).erode_px <= 0.008 * 480


def test_a_person_of_the_backdrop_s_colour_is_not_eroded(large: np.ndarray) -> None:
    grey = np.full((*large.shape, 3), 90, np.uint8)
    assert measure_edge([(grey, as_bytes(large))]).erode_px == 0


def test_unmixed_colours_are_the_person_s(large: np.ndarray) -> None:
    alpha = as_bytes(large)
    rgba = np.dstack([photograph(large), np.full_like(alpha, 255)])
    rim = (alpha > 40) & (alpha < 250)
    unmixed = unmix(rgba, alpha, halved=False)
    error = [np.abs(p[rim][:, :3] - PERSON).mean() for p in (rgba, unmixed)]
    assert error[0] > 20
    assert error[1] < 2
    np.testing.assert_array_equal(unmixed[alpha == 255], rgba[alpha == 255])


def test_chroma_of_the_backdrop_leaves_covered_pixels_too(large: np.ndarray) -> None:
    """Four pixels of a video have one chroma: beside the backdrop a finger turns green."""
    alpha = as_bytes(large)
    video = av.VideoFrame.from_ndarray(photograph(large), format="rgb24").reformat(format="yuv420p")
    rgba = video.reformat(format="rgba").to_ndarray()
    solid = (alpha == 255) & (ndimage.grey_erosion(alpha, (3, 3)) < 255)
    error = [
        np.abs(p[solid][:, :3] - PERSON).mean()
        for p in (rgba, unmix(rgba, alpha, halved=False), unmix(rgba, alpha, halved=True))
    ]
    assert error[0] > 5
    assert error[2] < 0.6 * error[0]


def test_noise_of_compression_is_no_coverage() -> None:
    for full, black, white in ((True, 0, 255), (False, 16, 235)):
        levels = mask_levels(full, None)
        assert set(levels[black : black + 20]) == {0}
        assert set(levels[white - 20 : white + 1]) == {255}
        assert abs(int(levels[(black + white) // 2]) - 127) <= 1
        assert set(mask_levels(full, 128)) == {0, 255}


def test_published_squares_are_those_of_footage_of_4k() -> None:
    assert published_sides(4112) == (6, 3)
    assert published_sides(1285) == (2, 1)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    assert clean_mask(mask, *published_sides(1285), largest=False)[0].sum() == 81


# ---- through videos ----


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a data set of one static image with a soft mask."""
    folder = small_dataset(tmp_path / "subject")
    coverage = shape(WIDTH, HEIGHT)
    for path, picture in (
        (video_path(folder, "training", 0), photograph(coverage)),
        (mask_video_path(folder, "training", 0), np.repeat(as_bytes(coverage)[..., None], 3, -1)),
    ):
        write_video(path, np.repeat(picture[None], FRAMES, 0))
    return folder


def over_white(folder: Path) -> np.ndarray:
    rgb, alpha = read_masked(image_path(folder, "training", 0, 2))
    share = alpha[..., None] / 255.0
    return rgb * share + 255 * (1 - share)


def extract(folder: Path, *options: str) -> int:
    return main(["extract", str(folder), "--cameras", "0", "--workers", "1", *options])


def test_soft_masks_give_the_person_over_any_background(data: Path) -> None:
    coverage = shape(WIDTH, HEIGHT)[..., None]
    truth = coverage * PERSON + 255 * (1 - coverage)
    error = {}
    for name, options in (("soft", ()), ("hard", ("--threshold", "128", "--erode", "0"))):
        assert extract(data, *options) == 0
        error[name] = np.abs(over_white(data) - truth).mean()
    assert error["soft"] < 0.6 * error["hard"]
    assert extract(data) == 0
    rgb, alpha = read_masked(image_path(data, "training", 0, 2))
    assert len(np.unique(alpha)) > 8
    assert not rgb[alpha == 0].any()
    assert np.abs(alpha / 255 - coverage[..., 0]).mean() < 0.01


def test_rims_are_measured_where_the_person_is(data: Path) -> None:
    """Nobody in most frames, damage in none: masks are soft all the same."""
    mask = np.repeat(as_bytes(shape(WIDTH, HEIGHT))[..., None], 3, -1)
    masks = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    masks[FRAMES - 4] = mask
    write_video(mask_video_path(data, "training", 0), masks)
    assert extract(data) == 0
    alpha = read_masked(image_path(data, "training", 0, FRAMES - 4))[1]
    assert len(np.unique(alpha)) > 8


def test_published_masks_are_hard(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert extract(data, "--published-masks") == 0
    assert set(np.unique(read_masked(image_path(data, "training", 0, 2))[1])) == {0, 255}
    assert extract(data, "--published-masks", "--erode", "3") == 2
    assert "--published-masks: expected no --threshold" in capfd.readouterr().err
    settings = ExtractSettings(published=True)
    assert (settings.threshold, settings.erode) == (None, None)


def test_resized_soft_masks_keep_their_sum(data: Path) -> None:
    assert extract(data, "--size", "32x24") == 0
    _, alpha = read_masked(image_path(data, "training", 0, 2))
    want = shape(WIDTH, HEIGHT).reshape(24, 2, 32, 2).mean((1, 3))
    assert np.abs(alpha / 255 - want).mean() < 0.02


def test_inspect_says_what_edges_are(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(data), "-o", str(data / "page.html"), "--samples", "1"])
    printed = " ".join(capfd.readouterr().out.split())
    assert "mask edges are soft (cameras: 0)" in printed
    assert "mask edges are hard (cameras: 1, 2): 0." in printed
    assert "no wider than the person, nothing is eroded" in printed
    assert "colours of the videos (cameras: all): no colour matrix, read as BT.601" in printed
