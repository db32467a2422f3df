"""Videos as people bring them: turned, oblong pixels, other colours, damaged, with odd names."""

import contextlib
import random
import socket
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error as errors
import numpy as np
import pytest
from small_dataset import FRAMES, HEIGHT, WIDTH, small_dataset, write_video
from test_extract import extract

from ash_core.cli import main
from ash_core.errors import InputError
from ash_core.files.dataset import (
    CALIBRATION,
    CAMERAS,
    image_path,
    images_of,
    mask_video_path,
    read_masked,
    video_path,
)
from ash_core.files.footage import decode_frames, index_video, video_size
from ash_core.footage.extract.cutter import Cutter, ExtractSettings

COLOUR = (180, 60, 90)


def write(
    path: Path,
    frames: np.ndarray,
    rotation: int = 0,
    matrix: list[int] | None = None,
    aspect: tuple[int, int] = (1, 1),
    pixels: str = "yuv420p",
    colorspace: int | None = None,
    spread: int | None = None,
) -> None:
    """Write an H.264 video with other header entries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = pixels, {"crf": "4", "g": "4", "preset": "veryfast"}
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if spread is not None:
            stream.codec_context.color_range = spread
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(
                format=pixels, dst_colorspace=colorspace, dst_color_range=spread
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def corner(width: int = 64, height: int = 48) -> np.ndarray:
    """Paint a bright patch in one corner, another colour in the next one."""
    frames = np.full((3, height, width, 3), 20, np.uint8)
    frames[:, :12, :16] = COLOUR
    frames[:, :12, -16:] = (40, 200, 60)
    return frames


def first(path: Path) -> np.ndarray:
    ((_, picture),) = decode_frames(index_video(path), [0])
    return picture.to_ndarray(format="rgb24")


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv444p"])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_frames_stand_as_a_player_shows_them(tmp_path: Path, quarters: int, pixels: str) -> None:
    upright, path = corner(), tmp_path / "v.mp4"
    stored = np.rot90(upright, -quarters, (1, 2))
    write(path, stored, rotation=90 * quarters, pixels=pixels)
    index = index_video(path)
    assert (index.width, index.height) == video_size(path) == (64, 48)
    assert index.quarters == quarters
    assert np.abs(first(path).astype(int) - upright[0]).mean() < 3


def test_the_turn_is_libav_s(tmp_path: Path) -> None:
    """Counter-clockwise, as the field `rotation` of libav's frames counts."""
    for rotation in (90, 180, 270):
        write(tmp_path / "v.mp4", corner(), rotation=rotation)
        with av.open(str(tmp_path / "v.mp4")) as container:
            assert next(container.decode(video=0)).rotation % 360 == rotation
        assert index_video(tmp_path / "v.mp4").quarters * 90 == rotation


@pytest.mark.parametrize("matrix", ["mirror", "slant"])
def test_other_display_matrices_are_named(tmp_path: Path, matrix: str) -> None:
    if matrix == "slant":
        write(tmp_path / "v.mp4", corner(), rotation=45)
    else:
        write(tmp_path / "v.mp4", corner(), matrix=[-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30])
    with pytest.raises(InputError, match=r"v\.mp4: expected a video that is shown as stored or tu"):
        index_video(tmp_path / "v.mp4")


def without_calibration(folder: Path) -> Path:
    data = small_dataset(folder)
    for name in (CALIBRATION, CAMERAS):
        (data / name).unlink()
    return data


@pytest.mark.parametrize("rotation", [90, 180])
def test_a_turned_video_and_its_upright_mask_make_upright_images(
    tmp_path: Path, rotation: int
) -> None:
    data = without_calibration(tmp_path / "subject")
    upright = np.repeat(corner(WIDTH, HEIGHT)[:1], FRAMES, 0)
    masks = np.zeros_like(upright)
    masks[:, :12, :16] = masks[:, :12, -16:] = 255
    write(video_path(data, "training", 0), np.rot90(upright, -rotation // 90, (1, 2)), rotation)
    write_video(mask_video_path(data, "training", 0), masks)
    text = f"turned counter-clockwise by {rotation} degrees, as its display matrix says"
    assert text in extract(data, ExtractSettings()).notes[0]
    rgb, alpha = read_masked(image_path(data, "training", 0, 2))
    assert np.abs(rgb[2:10, 2:14].astype(int) - COLOUR).mean() < 8
    assert (alpha > 0).sum() == 2 * 12 * 16

    # Masks that are turned themselves stand upright too.
    write(mask_video_path(data, "training", 0), np.rot90(masks, -1, (1, 2)), 90)
    extract(data, ExtractSettings())
    np.testing.assert_array_equal(read_masked(image_path(data, "training", 0, 2))[1], alpha)


def test_sizes_that_differ_by_a_turn_say_so(tmp_path: Path) -> None:
    data = without_calibration(tmp_path / "subject")
    write(video_path(data, "training", 0), np.repeat(corner()[:1], FRAMES, 0), 90)
    with pytest.raises(InputError, match=r"stream000\.mp4 is 48x64 \(turned by 90 degrees, as its"):
        extract(data)


def test_oblong_pixels_are_named_and_stay_as_stored(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "subject")
    write(video_path(data, "training", 0), np.repeat(corner()[:1], FRAMES, 0), aspect=(4, 3))
    assert index_video(video_path(data, "training", 0)).pixel_aspect == Fraction(4, 3)
    text = "its pixels are 4:3 wide; images keep the stored 64x48, which the calibration must"
    assert text in extract(data).notes[0]
    assert read_masked(image_path(data, "training", 0, 0))[1].shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("spread", [1, 2])
@pytest.mark.parametrize(("colorspace", "name"), [(1, "BT.709"), (5, "BT.601")])
def test_colours_are_those_before_encoding(
    tmp_path: Path, pixels: str, spread: int, colorspace: int, name: str
) -> None:
    path = tmp_path / "v.mp4"
    frames = np.full((3, 48, 64, 3), COLOUR, np.uint8)
    write(path, frames, pixels=pixels, colorspace=colorspace, spread=spread)
    index = index_video(path)
    bits = 10 if pixels.endswith("10le") else 8
    assert index.colours == f"{name}, {('limited', 'full')[spread - 1]} range, {bits} bits"
    ((_, picture),) = decode_frames(index, [0])
    cutter = Cutter(ExtractSettings(), None, 64, 48)
    assert np.abs(cutter.colours(picture).astype(int) - COLOUR).max() <= 3


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("spread", [1, 2])
def test_masks_of_any_range_and_depth(tmp_path: Path, pixels: str, spread: int) -> None:
    path, masks = tmp_path / "v.mp4", np.zeros((3, 48, 64, 3), np.uint8)
    masks[:, 8:24, 8:24], masks[:, 8:24, 32:48] = 255, 128
    write(path, masks, pixels=pixels, spread=spread)
    ((_, picture),) = decode_frames(index_video(path), [0])
    alpha = Cutter(ExtractSettings(), None, 64, 48).foreground(picture)
    assert (alpha[10:22, 10:22] == 255).all()
    assert abs(alpha[10:22, 34:46].mean() - 128) < 3
    assert not alpha[28:].any()


# ---- damage ----


def test_a_damaged_file_is_always_an_input_error(tmp_path: Path) -> None:
    """Seeded mutations, bytes flipped and cut out: no other exception, whatever libav says."""
    path = tmp_path / "v.mp4"
    write_video(path, np.repeat(corner()[:1], 4, 0))
    whole, chance = path.read_bytes(), random.Random(0)
    texts: list[str] = []
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 12)):
            at = chance.randrange(len(data))
            kind = chance.randrange(3)
            if kind == 0:
                data[at] = chance.randrange(256)
            elif kind == 1:
                data[at : at + 4] = chance.choice(
                    (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")
                )
            else:
                del data[at : at + chance.randint(1, 64)]
        path.write_bytes(data)
        try:
            index = index_video(path)
            list(decode_frames(index, list(index.times)))
        except InputError as error:
            texts.append(str(error))
    assert 20 < len(texts) < 150
    assert max(map(len, texts)) < 400


@pytest.mark.parametrize("name", ["EOFError", "MemoryError", "PatchWelcomeError"])
def test_what_libav_raises_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "v.mp4"
    write_video(path, corner())

    def refuse(*_: Any, **__: Any) -> Any:
        raise getattr(errors, name)(1, "as libav says")

    with monkeypatch.context() as patch:
        patch.setattr(av, "open", refuse)
        for read in (index_video, video_size):
            with pytest.raises(InputError, match=r"v\.mp4: expected a video, found a file that is"):
                read(path)


def test_a_damaged_video_is_listed_and_the_others_are_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = small_dataset(tmp_path / "subject")
    path = video_path(data, "training", 1)
    content = bytearray(path.read_bytes())
    at = content.find(b"moov")
    content[at + 4 : at + 24] = b"\xff" * 20
    path.write_bytes(content)
    assert main(["extract", str(data), "--frames", ":1", "--workers", "1"]) == 2
    assert "stream001.mp4: expected a video" in " ".join(capfd.readouterr().err.split())
    assert {camera for _, camera, _ in images_of(data, "training")} == {0, 2}


# ---- names ----


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = small_dataset(Path("q:r"))
    assert extract(data).new_images == FRAMES
    render = ["render", "actor", "--frames", ":1", "--size", "32x24", "--device", "cpu"]
    assert main([*render, "--out", "a:b.mp4"]) == 0
    assert video_size(Path("a:b.mp4")) == (32, 24)


def test_a_video_that_names_an_address_reaches_nobody(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.5)
        called: list[Any] = []

        def accept() -> None:
            with contextlib.suppress(TimeoutError):
                called.append(server.accept())

        thread = threading.Thread(target=accept)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        path = tmp_path / "stream000.mp4"
        path.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(InputError):
            index_video(path)
        thread.join()
    assert not called
