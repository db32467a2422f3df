"""Videos frame by frame: numbers are times, damage is named."""

from pathlib import Path

import numpy as np
import pytest
from small_dataset import write_video

from ash_core.errors import InputError
from ash_core.files.footage import declared_frames, decode_frames, index_video


def steps(count: int) -> np.ndarray:
    """Make grey frames, each 10 levels brighter than the one before."""
    return np.repeat(np.arange(count, dtype=np.uint8) * 10 + 40, 64 * 48 * 3).reshape(-1, 48, 64, 3)


def brightness(path: Path, numbers: list[int]) -> list[int]:
    frames = decode_frames(index_video(path), numbers)
    return [round(float(f.to_ndarray(format="rgb24").mean())) for _, f in frames]


@pytest.mark.parametrize("numbers", [[0], [11], [3, 4, 9], [2, 10], list(range(12))])
def test_any_frames_are_exactly_those(tmp_path: Path, numbers: list[int]) -> None:
    write_video(tmp_path / "v.mp4", steps(12))
    got = brightness(tmp_path / "v.mp4", numbers)
    np.testing.assert_allclose(got, [40 + 10 * n for n in numbers], atol=2)


def test_variable_frame_rate_keeps_its_gaps(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", steps(8), ticks=[0, 1, 2, 5, 6, 7, 8, 10])
    index = index_video(tmp_path / "v.mp4")
    assert index.is_variable
    assert index.gaps == [3, 4, 9]
    assert declared_frames(tmp_path / "v.mp4") == (8, 11)
    np.testing.assert_allclose(brightness(tmp_path / "v.mp4", [5, 10]), [70, 110], atol=2)


def test_constant_frame_rate_is_none_of_that(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", steps(8))
    index = index_video(tmp_path / "v.mp4")
    assert (index.is_variable, index.gaps, index.count, index.cut_off) == (False, [], 8, 0)
    assert index.fps == pytest.approx(25)


def cut_off(path: Path, source: np.ndarray, count: int) -> None:
    """Write a video with its index first, without its last bytes."""
    write_video(path, source, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-count])


def test_cut_off_frame_is_left_out(tmp_path: Path) -> None:
    cut_off(tmp_path / "v.mp4", steps(8), 5)
    index = index_video(tmp_path / "v.mp4")
    assert (index.declared, index.cut_off) == (8, 1)
    numbers = list(index.times)
    np.testing.assert_allclose(
        brightness(tmp_path / "v.mp4", numbers), [40 + 10 * n for n in numbers], atol=2
    )


def spoil_middle(path: Path) -> None:
    """Overwrite a part of a video's pictures, sizes of their pieces included.

    (H.264 has no check sums: a few flipped bits may decode to something.)
    """
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    middle = start + length // 2
    data[middle : middle + length // 4] = b"\xff" * (length // 4)
    path.write_bytes(data)


def test_damage_is_named_with_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), np.uint8)
    write_video(path, noise)
    spoil_middle(path)
    with pytest.raises(InputError, match=r"v\.mp4: frame \d+ \(\d\.\d\d s\) is damaged"):
        brightness(path, list(range(8)))


@pytest.mark.parametrize("content", [b"", b"no video at all", None])
def test_no_video_at_all(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"v\.mp4: expected a video"):
        index_video(tmp_path / "v.mp4")
