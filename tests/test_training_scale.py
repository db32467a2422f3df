"""Many photographs: a second start opens none, an unusable one is left out and named."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from test_training import arguments, run
from test_training_parts import make_setup

from ash_core.errors import InputError
from ash_core.files.cameras.published import read_cameras, write_cameras
from ash_core.files.dataset import (
    CAMERAS,
    image_files,
    image_path,
    read_mask_crop,
    read_masked_crop,
)
from ash_core.files.masked_image import Place, write_masked
from ash_core.files.release_images import PublishedImages
from ash_core.training import pictures as pictures_module
from ash_core.training.config import Keep
from ash_core.training.pictures import Box, Pictures, cut, mask_box
from ash_core.training.pixel_store import PixelStore

SIZE = (40, 30)
COUNT = 300
CPU = torch.device("cpu")
TORN = b"\x89PNG\r\n\x1a\ntorn"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred small photographs."""
    folder, rng = tmp_path_factory.mktemp("shelf"), np.random.default_rng(0)
    for number in range(COUNT):
        height, width = (int(side) for side in rng.integers(8, 20, 2))
        pixels = rng.integers(1, 255, (height, width, 4), np.uint8)
        pixels[..., 3] = 255
        left, top = (int(side) for side in rng.integers(0, 10, 2))
        place = Place(left, top, *SIZE)
        path = folder / f"image_c_{number % 7:03d}_f_{number:06d}.png"
        # Some as `extract` leaves them: whole, cropped; in their own file or with a mask beside.
        kind = path if number % 3 else path.with_suffix(".jpg")
        write_masked(kind, pixels, place, whole=number % 2 == 0, quality=95)
    return folder


@pytest.fixture
def photographs(shelf: Path, tmp_path: Path) -> Path:
    """A copy, to spoil; its files have other times."""
    return Path(shutil.copytree(shelf, tmp_path / "photographs", copy_function=shutil.copyfile))


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("image_*"), key=lambda path: path.stem)


class Opened:
    """The images that were opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[Path] = []
        for name in ("read_masked_crop", "read_mask_crop", "stored_box"):
            monkeypatch.setattr(pictures_module, name, self._watch(getattr(pictures_module, name)))

    def _watch(self, read: Callable[[Path], object]) -> Callable[[Path], object]:
        def watched(path: Path) -> object:
            self.paths.append(path)
            return read(path)

        return watched

    def forget(self) -> list[Path]:
        paths, self.paths = sorted(set(self.paths)), []
        return paths


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    return Opened(monkeypatch)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode no photograph before the first step, as if there were very many."""
    monkeypatch.setattr(pictures_module, "READY_PIXELS", 0.0)


def start(folder: Path, index: Path, keep: Keep) -> Pictures:
    paths = images(folder)
    return Pictures(paths, [SIZE] * len(paths), keep, CPU, 2, lambda *_: None, index)


# ---- boxes between two starts ----


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("keep", ["files", "memory"])
def test_a_second_start_opens_no_image(
    shelf: Path, photographs: Path, tmp_path: Path, opened: Opened, keep: Keep
) -> None:
    index = tmp_path / "index.safetensors"
    first = start(shelf, index, keep)
    assert opened.forget() == sorted(images(shelf))
    again = start(photographs, index, keep)  # copied: other folder, other times
    assert opened.forget() == []
    assert np.array_equal(first.boxes, again.boxes)
    assert again.place == keep


def test_boxes_of_headers_and_masks_are_those_of_the_whole_photographs(
    shelf: Path, tmp_path: Path
) -> None:
    pictures = start(shelf, tmp_path / "index.safetensors", "files")
    for path, box in zip(pictures.paths, pictures.boxes.tolist(), strict=True):
        expected = mask_box(read_masked_crop(path))
        height, width = expected.pixels.shape[:2]
        assert box == [expected.left, expected.top, width, height], path.name
        mask = read_mask_crop(path)
        assert np.array_equal(mask.alpha, read_masked_crop(path).alpha)


def test_only_what_changed_is_read_again(photographs: Path, tmp_path: Path, opened: Opened) -> None:
    index = tmp_path / "index.safetensors"
    start(photographs, index, "files")
    opened.forget()
    new, other, gone = images(photographs)[4], images(photographs)[8], images(photographs)[16]
    new.write_bytes(new.read_bytes() + b"\0")
    gone.unlink()
    shutil.copy(other, other.with_name("image_c_001_f_999999.png"))
    start(photographs, index, "files")
    assert opened.forget() == sorted([new, other.with_name("image_c_001_f_999999.png")])
    start(photographs, index, "files")
    assert opened.forget() == []


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_published_layout_has_its_masks_apart(
    tmp_path: Path, opened: Opened, ending: str, mode: str
) -> None:
    """Boxes come from the masks; a mask that changes is seen."""
    rng = np.random.default_rng(0)
    for number in range(30):
        mask = np.zeros(SIZE[::-1], np.uint8)
        left, top = rng.integers(0, 20, 2)
        mask[top : top + 8, left : left + 9] = 255
        rgb = rng.integers(0, 255, (*SIZE[::-1], 3), np.uint8) * (mask[..., None] > 0)
        name = f"7/image_c_7_f_{10 * number}{ending}"
        for folder, pixels in (("images", rgb), ("masks", mask)):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = PillowImage.fromarray(pixels).convert("RGB" if folder == "images" else mode)
            image.save(path, quality=100, subsampling=0)
    frames = {10 * number: ending for number in range(30)}
    listed = PublishedImages(tmp_path / "images", tmp_path / "masks", {7: frames})
    paths = list(listed.values())

    def start() -> Pictures:
        index = tmp_path / "index.safetensors"
        return Pictures(paths, [SIZE] * 30, "files", CPU, 2, lambda *_: None, index)

    boxes = start().boxes
    for path, (left, top, width, height) in zip(paths, boxes.tolist(), strict=True):
        box = mask_box(read_masked_crop(path))
        assert (box.left, box.top, *box.pixels.shape[1::-1]) == (left, top, width, height)
    opened.forget()
    mask = image_files(paths[3])[1]
    assert mask.is_relative_to(tmp_path / "masks")
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert np.array_equal(start().boxes, boxes)
    assert opened.forget() == [paths[3]]


@pytest.mark.parametrize("damage", [b"", b"not an index", "cut"])
def test_a_damaged_index_is_made_anew(
    shelf: Path, tmp_path: Path, opened: Opened, damage: bytes | str
) -> None:
    index = tmp_path / "index.safetensors"
    before = start(shelf, index, "files").boxes
    content = index.read_bytes()
    index.write_bytes(content[:-100] if isinstance(damage, str) else damage)
    opened.forget()
    assert np.array_equal(start(shelf, index, "files").boxes, before)
    assert len(opened.forget()) == COUNT
    assert index.read_bytes() == content


# ---- pixels ----


@pytest.mark.usefixtures("slow")
def test_images_come_into_memory_when_they_are_drawn(
    shelf: Path, tmp_path: Path, opened: Opened
) -> None:
    index = tmp_path / "index.safetensors"
    files = start(shelf, index, "files")
    memory = start(shelf, index, "memory")
    opened.forget()
    rng = np.random.default_rng(1)
    for _ in range(5):
        numbers = rng.integers(0, 20, 8)
        corners = memory.corners(numbers, rng.random((8, 2)), (24, 16))
        shown = memory.windows(numbers, corners, (24, 16))
        expected = files.windows(numbers, corners, (24, 16))
        assert shown is not None
        assert expected is not None
        assert torch.equal(shown, expected)
        opened.forget()
        assert memory.windows(numbers, corners, (24, 16)) is not None
        assert opened.forget() == []  # they lie in memory by now


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12), st.data()
)
def test_a_store_gives_back_what_was_added(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    rng = np.random.default_rng(0)
    boxes = [
        Box(rng.integers(0, 255, (h, w, 4), np.uint8), *rng.integers(0, 5, 2).tolist())
        for w, h in sizes
    ]
    store = PixelStore(len(boxes), data.draw(st.integers(0, 50)), CPU)
    order = data.draw(st.permutations(range(len(boxes))))
    half = len(order) // 2
    for part in (order[:half], order[half:]):
        for number in part:
            store.add(number, boxes[number].pixels, boxes[number].left, boxes[number].top)
        store.flush()
    numbers, corners = np.arange(len(boxes)), rng.integers(-2, 6, (len(boxes), 2))
    shown = store.gather(numbers, corners, (7, 5)).numpy()
    for number, corner in zip(numbers, corners.tolist(), strict=True):
        assert np.array_equal(shown[number], cut(boxes[number], corner, (7, 5)))


# ---- what cannot be used ----


@pytest.mark.parametrize("keep", ["files", "memory"])
def test_a_torn_image_is_left_out(photographs: Path, tmp_path: Path, keep: Keep) -> None:
    torn = images(photographs)[5]
    torn.write_bytes(TORN)
    for _ in range(2):
        pictures = start(photographs, tmp_path / "index.safetensors", keep)
        assert np.flatnonzero(~pictures.usable).tolist() == [5]
        assert len(pictures.unusable) == 1
        assert pictures.unusable[0].startswith(f"{torn}: expected a .png or .jpg image")


def test_too_many_torn_images_are_an_error(photographs: Path, tmp_path: Path) -> None:
    for path in images(photographs)[:16]:
        path.write_bytes(TORN)
    text = r"image_c_000_f_000000\.jpg: expected .* \(16 of 300 cannot be used\)"
    with pytest.raises(InputError, match=text):
        start(photographs, tmp_path / "index.safetensors", "files")


@pytest.fixture
def data(footage: Path, tmp_path: Path) -> Path:
    """Six poses by six cameras: three of them are copies."""
    folder = Path(shutil.copytree(footage, tmp_path / "data"))
    cameras = read_cameras(folder / CAMERAS)
    copies = tuple(replace(camera, name=f"copy {camera.name}") for camera in cameras)
    write_cameras(folder / CAMERAS, cameras + copies)
    for path in sorted((folder / "training" / "images").rglob("*.png")):
        camera, frame = int(path.stem[8:11]), int(path.stem[-6:])
        shutil.copy(path, image_path(folder, "training", camera + 3, frame))
    return folder


@pytest.mark.slow
def test_a_training_goes_on_without_a_torn_image_and_names_it_once(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = image_path(data, "training", 1, 5)
    torn.write_bytes(torn.read_bytes()[:1500])
    image_path(data, "training", 0, 2).unlink()
    words = arguments(data, data / "out", "--steps", 8, "--test-cameras", "none", "--log-every", 2)
    assert run(*words) == 0
    notes = capsys.readouterr().err
    assert notes.count(torn.name) == 1
    assert "note: 1 of 35 pictures cannot be used and are left out: " in notes
    assert "1 of 36 pictures are missing: image_c_000_f_000002.png" in notes


def test_an_image_torn_while_training_is_left_out_from_then_on(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make_setup(data, keep="files", test_cameras="none")
    notes: list[str] = []
    monkeypatch.setattr(setup.reporter, "note", notes.append)
    torn = image_path(data, "training", 2, 3)
    torn.write_bytes(TORN)
    batches = setup.batches(0)
    frames = [next(batches)[1].frame for _ in range(12)]
    setup.name_unusable()
    setup.name_unusable()
    batches.close()  # type: ignore[attr-defined]
    assert sorted(set(frames)) == list(range(6))  # its pose has other cameras
    assert len(notes) == 1
    assert torn.name in notes[0]
    setup.close()


def test_a_torn_image_is_left_out_of_validations(data: Path) -> None:
    setup = make_setup(data, test_cameras="5", validate_every=1)
    validation = setup.validation
    count, torn = len(validation.shots), validation.shots[0][0].view.path
    torn.write_bytes(TORN)
    assert set(validation.run(1)) == {"novel view"}
    assert validation.problem is not None
    assert validation.problem.startswith(f"{torn}: expected")
    validation.run(2)
    assert validation.problem is None
    assert len(validation.shots) == count - 1
    setup.close()


def test_what_is_drawn_does_not_depend_on_when_a_torn_image_was_seen(data: Path) -> None:
    """A resumed training sees what it would have seen."""
    image_path(data, "training", 2, 3).write_bytes(TORN)
    knows = make_setup(data, keep="memory", test_cameras="none", views_per_pose=5)
    later = make_setup(data, keep="files", test_cameras="none", views_per_pose=5)
    later.footage.pictures.usable[:] = True  # as if they had been torn since its start
    later.footage.pictures.unusable.clear()
    for draw in range(20, 26):
        one, other = (s.footage.batch(draw, 3, s.poses)[1] for s in (knows, later))
        assert one.numbers == other.numbers
        assert torch.equal(one.pixels, other.pixels)
        assert 2 not in one.numbers
    for setup in (knows, later):
        setup.close()


def test_a_pose_without_usable_images_gives_way_to_the_next(data: Path) -> None:
    setup = make_setup(data, keep="files", test_cameras="none")
    setup.footage.pictures.usable[setup.footage._of_pose[4]] = False
    assert setup.footage.batch(0, 4, setup.poses)[0] == 5
    setup.close()
