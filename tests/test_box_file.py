"""Images with a mask beside them are decoded once; then their boxes wait in a file of the disk."""

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ash_core.files.dataset import mask_path, read_masked_crop
from ash_core.files.masked_image import Place, write_masked
from ash_core.files.release_images import PublishedImages
from ash_core.training import box_file as box_file_module
from ash_core.training import pictures as pictures_module
from ash_core.training.box_file import Box, BoxFile
from ash_core.training.pictures import Pictures, mask_box

SIZE = (60, 40)
CPU = torch.device("cpu")


def scene(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw a person before a backdrop: RGB and mask [h, w, 4]."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    middle = width * (0.35 + 0.02 * (number % 10)), height * 0.5
    mask = ((x - middle[0]) / width / 0.16) ** 2 + ((y - middle[1]) / height / 0.4) ** 2 < 1
    rgb = np.random.default_rng(number).normal(120, 10, (height, width, 3))
    rgb += 40 * np.sin(x / 9 + number)[..., None]
    return np.concatenate((rgb.clip(0, 255), 255.0 * mask[..., None]), -1).astype(np.uint8)


def write_pair(path: Path, pixels: np.ndarray, mask_kind: str = "PNG") -> Path:
    """Write a JPEG with its backdrop, and its mask beside it."""
    Image.fromarray(pixels[..., :3]).save(path, "JPEG", quality=95)
    Image.fromarray(pixels[..., 3]).save(mask_path(path), mask_kind)
    return path


def write_alone(path: Path, pixels: np.ndarray) -> Path:
    """Write a PNG as `extract` does."""
    pixels = pixels * (pixels[..., 3:] > 0)
    place = Place(0, 0, pixels.shape[1], pixels.shape[0])
    write_masked(path, pixels, place, whole=True, quality=95)
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> list[Path]:
    """JPEGs with masks of both kinds."""
    names = [tmp_path / f"image_c_{number:03d}_f_000000.jpg" for number in range(12)]
    return [
        write_pair(path, scene(number), "PNG" if number % 2 else "JPEG")
        for number, path in enumerate(names)
    ]


class Decoded:
    """The images that were decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._paths: list[Path] = []
        monkeypatch.setattr(pictures_module, "read_masked_crop", self._read)

    def _read(self, path: Path) -> object:
        self._paths.append(path)
        return read_masked_crop(path)

    def forget(self) -> list[Path]:
        paths, self._paths = sorted(self._paths), []
        return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    return Decoded(monkeypatch)


def start(paths: list[Path], cache: Path, size: tuple[int, int] = SIZE) -> Pictures:
    index = cache / "images.safetensors"
    return Pictures(paths, [size] * len(paths), "files", CPU, 2, lambda *_: None, index)


def show(pictures: Pictures, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    """Show a window of every image."""
    numbers = np.arange(len(pictures.paths))
    corners = pictures.corners(numbers, np.full((len(numbers), 2), 0.5), size)
    windows = pictures.windows(numbers, corners, size)
    assert windows is not None
    return windows.numpy()


def decode(path: Path) -> Box:
    return mask_box(read_masked_crop(path))


def never() -> Box:
    raise AssertionError("decoded again")


def same(one: Box, other: Box) -> bool:
    is_place = (one.left, one.top) == (other.left, other.top)
    return is_place and np.array_equal(one.pixels, other.pixels)


# ---- what is read ----


def test_later_passes_decode_no_pair_and_show_the_same(
    pairs: list[Path], tmp_path: Path, decoded: Decoded
) -> None:
    alone = write_alone(tmp_path / "image_c_099_f_000000.png", scene(99))
    pictures = start([*pairs, alone], tmp_path / "cache")
    first = show(pictures)
    assert first[..., 3].any((1, 2)).all()
    assert decoded.forget() == [*pairs, alone]
    for _ in range(2):
        assert np.array_equal(show(pictures), first)
        assert decoded.forget() == [alone]  # its own file is read as fast


def test_boxes_are_those_of_the_image(pairs: list[Path], tmp_path: Path) -> None:
    boxes = BoxFile(tmp_path / "cache", 10**9)
    for number, path in enumerate(pairs):
        expected = decode(path)
        assert same(boxes.read(number, path, lambda path=path: decode(path)), expected)
        assert same(boxes.read(number, path, never), expected)


def test_an_empty_mask_keeps_one_pixel(tmp_path: Path) -> None:
    pixels = scene(0)
    pixels[..., 3] = 0
    path = write_pair(tmp_path / "image_c_000_f_000000.jpg", pixels)
    boxes = BoxFile(tmp_path / "cache", 10**9)
    expected = boxes.read(0, path, lambda: decode(path))
    assert same(boxes.read(0, path, never), expected)
    assert not expected.pixels.any()


def test_published_images_are_decoded_once(tmp_path: Path, decoded: Decoded) -> None:
    for number in range(4):
        pixels = scene(number)
        for folder, part in (("images", pixels[..., :3]), ("masks", pixels[..., 3])):
            path = tmp_path / folder / f"7/image_c_7_f_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part * (pixels[..., 3:] > 0) if part.ndim == 3 else part).save(path)
    frames = {7: dict.fromkeys(range(4), ".png")}
    listed = PublishedImages(tmp_path / "images", tmp_path / "masks", frames)
    pictures = start(list(listed.values()), tmp_path / "cache")
    first = show(pictures)
    assert len(decoded.forget()) == 4
    assert np.array_equal(show(pictures), first)
    assert decoded.forget() == []


# ---- images that change ----


def change_bytes(path: Path) -> None:
    write_pair(path, scene(77))


def change_mask(path: Path) -> None:
    pixels = np.array(Image.open(mask_path(path)))
    pixels[: len(pixels) // 2] = 0
    Image.fromarray(pixels).save(mask_path(path), "PNG")


def change_time(path: Path) -> None:
    """Replace the pixels by as many bytes: only the time tells."""
    size = path.stat().st_size
    Image.fromarray(scene(77)[..., :3]).save(path, "JPEG", quality=70)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    assert path.stat().st_size == size
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize("change", [change_bytes, change_mask, change_time])
def test_what_changes_is_decoded_again(
    pairs: list[Path], tmp_path: Path, decoded: Decoded, change: Callable[[Path], None]
) -> None:
    pictures = start(pairs, tmp_path / "cache")
    before = show(pictures)
    decoded.forget()
    change(pairs[5])
    after = show(pictures)
    assert decoded.forget() == [pairs[5]]
    changed = [n for n in range(len(pairs)) if not np.array_equal(before[n], after[n])]
    assert changed == [5]
    assert np.array_equal(show(pictures), after)
    assert decoded.forget() == []


def test_what_changes_while_it_is_decoded_is_not_kept(pairs: list[Path], tmp_path: Path) -> None:
    boxes, path = BoxFile(tmp_path / "cache", 10**9), pairs[0]

    def decode_late() -> Box:
        box = decode(path)
        change_time(path)
        return box

    old = boxes.read(0, path, decode_late)
    new = boxes.read(0, path, lambda: decode(path))
    assert same(new, decode(path))
    assert not same(new, old)


@pytest.mark.parametrize("loss", ["torn", "gone"])
def test_a_pair_torn_between_passes_is_left_out(
    pairs: list[Path], tmp_path: Path, loss: str
) -> None:
    others = [write_pair(tmp_path / f"image_c_{n:03d}_f_000001.jpg", scene(n)) for n in range(20)]
    pictures = start([*pairs, *others], tmp_path / "cache")
    show(pictures)
    if loss == "torn":
        pairs[3].write_bytes(b"torn")
    else:
        mask_path(pairs[3]).unlink()
    numbers = np.arange(len(pairs))
    assert pictures.windows(numbers, pictures.boxes[numbers, :2], (32, 24)) is None
    assert np.flatnonzero(~pictures.usable).tolist() == [3]


# ---- the disk ----


def test_the_file_has_no_name_and_trainings_share_nothing(
    pairs: list[Path], tmp_path: Path, decoded: Decoded
) -> None:
    cache = tmp_path / "cache"
    one, other = start(pairs, cache), start(pairs, cache)
    first = show(one)
    decoded.forget()
    assert np.array_equal(show(other), first)
    assert decoded.forget() == pairs
    assert os.listdir(cache) == ["images.safetensors"]
    before = len(os.listdir("/proc/self/fd"))
    one.close()
    other.close()
    assert len(os.listdir("/proc/self/fd")) <= before - 2


def test_the_first_stay_within_the_bound(pairs: list[Path], tmp_path: Path) -> None:
    expected = [decode(path) for path in pairs]
    whole = BoxFile(tmp_path / "cache", 10**9)
    for number, path in enumerate(pairs):
        whole.read(number, path, lambda number=number: expected[number])
    assert len(whole) == len(pairs)
    most = whole.size // 2
    half = BoxFile(tmp_path / "cache", most)
    for _ in range(2):
        for number, path in enumerate(pairs):
            box = half.read(number, path, lambda number=number: expected[number])
            assert same(box, expected[number])
    assert 0 < len(half) < len(pairs)
    assert 0 < half.size <= most


def test_as_much_stays_free_as_the_file_takes(
    pairs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = decode(pairs[0])
    disk = SimpleNamespace(f_bavail=10**6, f_frsize=1)
    monkeypatch.setattr(box_file_module.os, "fstatvfs", lambda descriptor: disk)
    boxes = BoxFile(tmp_path / "cache", 10**9)
    boxes.read(0, pairs[0], lambda: box)
    assert len(boxes) == 1
    disk.f_bavail = 2 * boxes.size
    assert same(boxes.read(1, pairs[1], lambda: box), box)
    assert len(boxes) == 1


@pytest.mark.parametrize("fault", ["full", "short"])
def test_a_full_disk_ends_writing_alone(
    pairs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    calls: list[int] = []

    def refuse(descriptor: int, data: bytes, start: int) -> int:
        calls.append(start)
        if fault == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data) - 1

    monkeypatch.setattr(box_file_module.os, "pwrite", refuse)
    boxes = BoxFile(tmp_path / "cache", 10**9)
    for _ in range(2):
        for number, path in enumerate(pairs):
            expected = decode(path)
            assert same(boxes.read(number, path, lambda expected=expected: expected), expected)
    assert calls == [0]
    assert len(boxes) == 0


@pytest.mark.parametrize("fault", ["refused", "zeros"])
def test_what_the_disk_loses_is_decoded_again(
    pairs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    expected = decode(pairs[0])
    boxes = BoxFile(tmp_path / "cache", 10**9)
    boxes.read(0, pairs[0], lambda: expected)

    def lose(descriptor: int, size: int, start: int) -> bytes:
        if fault == "refused":
            raise OSError(errno.EIO, "Input/output error")
        return bytes(size)

    monkeypatch.setattr(box_file_module.os, "pread", lose)
    with pytest.raises(AssertionError, match="decoded again"):
        boxes.read(0, pairs[0], never)
    assert same(boxes.read(0, pairs[0], lambda: decode(pairs[0])), expected)


def test_threads_read_what_others_write(pairs: list[Path], tmp_path: Path) -> None:
    expected = [decode(path) for path in pairs]
    boxes = BoxFile(tmp_path / "cache", 10**9)

    def read(number: int) -> bool:
        box = boxes.read(number, pairs[number], lambda: expected[number])
        return same(box, expected[number])

    numbers = np.random.default_rng(0).integers(0, len(pairs), 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, numbers))
    assert len(boxes) == len(set(numbers))


# ---- speed ----


def test_later_passes_of_pairs_take_no_longer_than_those_of_pngs(tmp_path: Path) -> None:
    """Compare processor times; the bound is nine tenths of the rate of `extract`'s whole images."""
    size, seconds = (1000, 1366), dict.fromkeys(("jpg", "png"), float("inf"))
    readers = {}
    for kind, write in (("jpg", write_pair), ("png", write_alone)):
        names = [tmp_path / f"image_c_{number:03d}_f_000000.{kind}" for number in range(2)]
        paths = [write(path, scene(number, size)) for number, path in enumerate(names)]
        readers[kind] = start(paths, tmp_path / kind, size)
        show(readers[kind], (320, 672))
    for _ in range(5):
        for kind, pictures in readers.items():
            begin = time.process_time()
            show(pictures, (320, 672))
            seconds[kind] = min(seconds[kind], time.process_time() - begin)
    assert seconds["jpg"] <= seconds["png"] / 0.9
