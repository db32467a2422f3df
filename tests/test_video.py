"""Written files are read back: frames, size, colour and alpha must be what went in."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from ash_core.errors import InputError
from ash_core.files import video
from ash_core.records import Image
from ash_core.rendered_image import straight_colour


def read_video(path: Path, pixel_format: str = "rgb24") -> np.ndarray:
    """Decode all frames, [F, h, w, c]; VP9 through libvpx, whose decoder alone keeps alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if path.suffix == ".webm":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            packets = list(container.demux(stream))
            frames = [f for packet in packets for f in decoder.decode(packet)]
        else:
            frames = list(container.decode(stream))
        return np.stack([frame.to_ndarray(format=pixel_format) for frame in frames])


def moving_square(frames: int, width: int, height: int, channels: int) -> np.ndarray:
    """Make a warm square that moves over cold ground; alpha is 255 inside, 0 outside."""
    picture = np.zeros((frames, height, width, channels), np.uint8)
    picture[..., :3] = (30, 90, 140)
    for n in range(frames):
        picture[n, 8:24, 4 + 2 * n : 20 + 2 * n, :3] = (200, 120, 40)
        if channels == 4:
            picture[n, 8:24, 4 + 2 * n : 20 + 2 * n, 3] = 255
    return picture


def write_all(out: Path, frames: np.ndarray) -> None:
    height, width, channels = frames.shape[1:]
    with video.open_writer(out, width, height, 25.0, alpha=channels == 4) as writer:
        for frame in frames:
            writer.write(frame)


def write_and_raise(out: Path, frames: np.ndarray, error: BaseException) -> None:
    with video.open_writer(out, frames.shape[2], frames.shape[1]) as writer:
        for frame in frames:
            writer.write(frame)
        raise error


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov"])
def test_opaque_video_keeps_count_size_and_colour(tmp_path: Path, suffix: str) -> None:
    sent = moving_square(7, 64, 48, 3)
    write_all(tmp_path / f"a{suffix}", sent)
    got = read_video(tmp_path / f"a{suffix}")
    assert got.shape == sent.shape
    for pixel in ((16, 20), (40, 50)):  # well inside the square and the ground
        assert np.abs(got[:, *pixel].astype(int) - sent[:, *pixel]).max() <= 6
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(("suffix", "tolerance"), [(".webm", 8), (".mov", 3)])
def test_transparent_video_keeps_alpha(tmp_path: Path, suffix: str, tolerance: int) -> None:
    sent = moving_square(5, 64, 48, 4)
    write_all(tmp_path / f"a{suffix}", sent)
    got = read_video(tmp_path / f"a{suffix}", "rgba")
    assert got.shape == sent.shape
    assert np.abs(got[..., 3].astype(int) - sent[..., 3]).mean() <= 1.5
    assert np.abs(got[:, 16, 20].astype(int) - sent[:, 16, 20]).max() <= tolerance


def test_video_carries_rate_and_colour_tags(tmp_path: Path) -> None:
    write_all(tmp_path / "a.mp4", moving_square(5, 64, 48, 3))
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert container.streams.video[0].average_rate == 25
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_odd_size_is_padded_to_even_by_repetition(tmp_path: Path) -> None:
    sent = moving_square(3, 65, 47, 3)
    write_all(tmp_path / "a.mp4", sent)
    got = read_video(tmp_path / "a.mp4")
    assert got.shape == (3, 48, 66, 3)
    assert np.abs(got[:, -1, -1].astype(int) - sent[:, -1, -1]).max() <= 6


def test_folder_files_are_named_by_frame_and_exact(tmp_path: Path) -> None:
    sent = moving_square(2, 20, 30, 4)
    with video.open_writer(tmp_path / "new" / "pictures", 20, 30, 25.0, alpha=True) as writer:
        writer.write(sent[0], 5)
        writer.write(sent[1], 123)
    names = sorted(p.name for p in (tmp_path / "new" / "pictures").iterdir())
    assert names == ["frame_000005.png", "frame_000123.png"]
    with PillowImage.open(tmp_path / "new" / "pictures" / names[1]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), sent[1])


def test_interrupt_completes_the_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(tmp_path / "a.mp4", moving_square(4, 64, 48, 3), KeyboardInterrupt())
    assert len(read_video(tmp_path / "a.mp4")) == 4


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    old = tmp_path / "a.mp4"
    old.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_and_raise(old, moving_square(1, 64, 48, 3), ZeroDivisionError())
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


class PatientEncoder(video.PngEncoder):
    """Encoder that takes half a second for each frame, and signals when it begins."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.begun = threading.Event()
        self.log: list[str] = []

    def encode(self, frame: video.Pixels, number: int) -> None:
        self.begun.set()
        time.sleep(0.5)
        super().encode(frame, number)
        self.log.append(f"frame {number}")

    def discard(self) -> None:
        super().discard()
        self.log.append("discarded")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_second_interrupt_while_completing_leaves_nothing(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        _interrupt_while_completing(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt_while_completing(tmp_path: Path) -> None:
    encoder = PatientEncoder(tmp_path / "a.png")
    writer = video.FrameWriter(tmp_path / "a.png", encoder, 64, 48, alpha=False)
    main = threading.main_thread().ident
    assert main is not None
    for frame in moving_square(4, 64, 48, 3):
        writer.write(frame)
    assert encoder.begun.wait(10)
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    # The frame at hand is finished first, those behind it are not begun.
    assert encoder.log == ["frame 0", "discarded"]
    assert not list(tmp_path.iterdir())


def test_one_process_writes_many_files_of_one_stem(tmp_path: Path) -> None:
    sent = moving_square(3, 64, 48, 3)
    names = ["a.mov", "a.mp4", "a.webm"]
    writers = [video.open_writer(tmp_path / name, 64, 48) for name in (*names, "a.mp4")]
    assert len(list(tmp_path.iterdir())) == 4
    for frame in sent:
        for writer in writers:
            writer.write(frame)
    for writer in writers:
        writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(len(read_video(tmp_path / name)) == 3 for name in names)


def test_longest_name_can_be_written(tmp_path: Path) -> None:
    out = tmp_path / ("\u00e4" * 124 + "a.png")  # 253 bytes, of 255
    write_all(out, moving_square(1, 64, 48, 3))
    assert list(tmp_path.iterdir()) == [out]


def test_name_too_long_is_known_before_the_work(tmp_path: Path) -> None:
    for name in ("a" * 300, "a" * 300 + ".mp4", "a" * 300 + "/a.png"):
        with pytest.raises(InputError, match="cannot be written: File name too long"):
            video.check_output(tmp_path / name, alpha=False)
        video.check_space(tmp_path / name, 64, 48, 1)


def test_no_frame_no_file(tmp_path: Path) -> None:
    with video.open_writer(tmp_path / "a.webm", 64, 48):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.avi", "a.jpg", "a.mp4.txt"])
def test_unknown_extension_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"unknown extension '\.\w+', expected \.mp4, \.webm"):
        video.open_writer(tmp_path / name, 64, 48)


def test_alpha_in_mp4_names_the_formats_that_have_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.mp4 has no transparency, choose \.webm, \.mov"):
        video.open_writer(tmp_path / "a.mp4", 64, 48, alpha=True)


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "pictures"])
def test_unwritable_place_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written: (Not a directory|File exists)"):
        video.open_writer(tmp_path / "file" / name, 64, 48)


def test_space_is_checked_before_the_work(tmp_path: Path) -> None:
    video.check_space(tmp_path / "a.mp4", 640, 480, 100)
    with pytest.raises(InputError, match=r"too full: 1000000000 frames of 4096x4096 need"):
        video.check_space(tmp_path / "new" / "a.mov", 4096, 4096, 10**9)


def test_straight_colour_divides_by_alpha() -> None:
    colour = torch.tensor([0.8, 0.4, 0.2])
    alpha = torch.tensor([[1.0, 0.5, 0.1, 0.0]])
    image = Image(rgb=colour * alpha[..., None], alpha=alpha, depth=torch.zeros(1, 4))
    got = straight_colour(image)
    torch.testing.assert_close(got[0, :3], colour.expand(3, 3), atol=1e-6, rtol=0.0)
    assert got[0, 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "frames"])
def test_what_a_killed_run_left_goes_unless_a_process_holds_it(tmp_path: Path, name: str) -> None:
    """A second process is at work on the same place; a third was killed there."""
    out = tmp_path / name
    code = f"""
import os, signal, sys
from pathlib import Path
from ash_core.files.video import open_writer
writer = open_writer(Path({str(out)!r}), 64, 48)
print("at work", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""
    begin = [sys.executable, "-c", code]
    with subprocess.Popen(begin, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"at work\n"
        write_all(out, moving_square(2, 64, 48, 3)[: 1 if name == "a.png" else 2])
        assert len(list(tmp_path.rglob(".*.partial"))) == 1  # the other one's
        other.stdin.close()
        other.wait()
    assert len(list(tmp_path.rglob(".*.partial"))) == 1  # left by a kill
    write_all(out, moving_square(2, 64, 48, 3)[: 1 if name == "a.png" else 2])
    assert not list(tmp_path.rglob(".*.partial"))


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_a_link_is_written_through(tmp_path: Path, suffix: str) -> None:
    target, link = tmp_path / f"target{suffix}", tmp_path / f"link{suffix}"
    target.write_bytes(b"old")
    link.symlink_to(target.name)
    write_all(link, moving_square(1, 64, 48, 3))
    assert link.is_symlink()
    assert target.stat().st_size > 100
    assert {path.name for path in tmp_path.iterdir()} == {target.name, link.name}
