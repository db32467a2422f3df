"""Masks and lenses: the published morphology to the pixel, straight pictures from bent ones."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ash_core.footage.extract.masks import Box, box_of, clean_mask, largest_piece
from ash_core.footage.extract.remap import remap
from ash_core.geometry.lens import Lens, distort, straight_map


def by_definition(mask: np.ndarray, side: int, eroding: bool) -> np.ndarray:
    """Filter as OpenCV does: the square's anchor is at side // 2; the border is neutral."""
    if side <= 1:
        return mask
    padding = (side // 2, side - 1 - side // 2)
    padded = np.pad(mask, (padding, padding), constant_values=eroding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return windows.all((2, 3)) if eroding else windows.any((2, 3))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 8), st.integers(0, 8), st.randoms())
def test_morphology_is_the_published_one(
    height: int, width: int, erode: int, dilate: int, random: object
) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    mask = np.repeat(np.repeat(rng.random((8, 8)) < 0.6, 5, 0), 5, 1)[:height, :width]
    want = by_definition(by_definition(mask, erode, True), dilate, False)
    got, box = clean_mask(mask, erode, dilate, largest=False)
    np.testing.assert_array_equal(got, want)
    assert box == box_of(want)


def test_largest_piece_alone_stays() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:5, 2:5] = mask[8:18, 8:18] = True
    want = mask.copy()
    want[:6] = False
    np.testing.assert_array_equal(largest_piece(mask), want)
    assert clean_mask(mask, 0, 0, largest=True)[1] == Box(8, 8, 18, 18)


def test_straightened_picture_is_the_straight_one() -> None:
    """A smooth picture seen through a lens, then straightened, is the picture."""
    lens, pinhole = Lens(k1=-0.2, k2=0.05, p1=0.003, p2=-0.002), (70.0, 72.0, 31.0, 25.0)

    def scene(points: np.ndarray) -> np.ndarray:
        return 128 + 60 * np.sin(4 * points[..., 0]) + 50 * np.cos(5 * points[..., 1])

    v, u = np.mgrid[:48, :64] + 0.5
    straight = np.stack(((u - 31.0) / 70.0, (v - 25.0) / 72.0), -1)
    places = straight_map(lens, pinhole, 64, 48)
    # The bent picture's pixel shows the straight direction that the lens bends there.
    direction = straight.copy()
    for _ in range(50):
        direction += straight - distort(lens, direction)
    bent = scene(direction).round().astype(np.uint8)[..., None]
    got = remap(bent, places)[..., 0]
    inside = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(got[inside], scene(straight)[inside], atol=1.5)
