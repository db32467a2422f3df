"""Videos to images: what is in them, what is said of bad ones, what a kill leaves."""

import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from small_dataset import FRAMES, HEIGHT, WIDTH, calibration_text, small_dataset, write_video
from test_footage import cut_off, spoil_middle

from ash_core.cli import main
from ash_core.errors import InputError
from ash_core.files.cameras.published import read_cameras
from ash_core.files.dataset import (
    CALIBRATION,
    CAMERAS,
    POSES,
    image_path,
    images_of,
    mask_path,
    mask_video_path,
    open_dataset,
    read_masked,
    read_masked_crop,
    video_path,
)
from ash_core.files.footage import decode_frames, index_video
from ash_core.files.release_images import PublishedFolders
from ash_core.footage.extract.cutter import Cutter, ExtractSettings, Optics
from ash_core.footage.extract.extract import CameraJob, CameraReport, extract_camera
from ash_core.footage.extract.journal import journal_path, remove_partials
from ash_core.footage.extract.masks import Box
from ash_core.footage.extract.survey import survey
from ash_core.geometry.lens import Lens

THIN = ExtractSettings(erode=0, dilate=0)
"""The actor is ten pixels wide: six of erosion would leave nothing."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_dataset(tmp_path / "subject")


def extract(
    folder: Path, settings: ExtractSettings = THIN, stop_after: int = 10**9, camera: int = 0
) -> CameraReport:
    """Extract camera 0 in this process."""
    done = []
    job = job_of(folder, camera, settings)
    return extract_camera(job, done.append, lambda: len(done) > stop_after)


def job_of(folder: Path, camera: int, settings: ExtractSettings = THIN) -> CameraJob:
    """Describe all training frames of a camera."""
    footage = survey(folder, None, [camera])
    frames = tuple(range(footage.frames["training"]))
    footage.check_motion("training", frames)
    optics = footage.optics.get(camera)
    return CameraJob(folder, "training", camera, frames, settings, optics, None)


def raw(path: Path, frame: int) -> np.ndarray:
    ((_, picture),) = decode_frames(index_video(path), [frame])
    return picture.to_ndarray(format="rgb24")


def tree(folder: Path) -> dict[str, bytes]:
    """Read all images, by name."""
    paths = sorted((folder / "training" / "images").rglob("*.[pj][np]g"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_an_image_is_its_frame_under_its_mask(data: Path) -> None:
    extract(data)
    for frame in (0, 5):
        rgb, alpha = read_masked(image_path(data, "training", 0, frame))
        mask = raw(mask_video_path(data, "training", 0), frame)[..., 0] >= 128
        np.testing.assert_array_equal(alpha, mask * 255)
        want = raw(video_path(data, "training", 0), frame) * mask[..., None]
        np.testing.assert_array_equal(rgb, want)


def test_pillow_and_our_reader_see_the_same(data: Path) -> None:
    extract(data)
    path = image_path(data, "training", 0, 3)
    rgb, alpha = read_masked(path)
    want = np.array(PillowImage.open(path))
    np.testing.assert_array_equal(np.dstack([rgb, alpha]), want)


def test_the_box_of_a_crop_is_put_back(data: Path) -> None:
    extract(data)
    whole = read_masked(image_path(data, "training", 0, 4))
    extract(data, ExtractSettings(erode=0, dilate=0, crop=True))
    path = image_path(data, "training", 0, 4)
    crop = read_masked_crop(path)
    assert crop.rgb.shape[0] < HEIGHT
    assert (crop.width, crop.height) == (WIDTH, HEIGHT)
    for got, want in zip(read_masked(path), whole, strict=True):
        np.testing.assert_array_equal(got, want)
    assert open_dataset(data).splits["training"].cameras[0].width == WIDTH


@pytest.mark.parametrize("crop", [False, True])
def test_jpg_shows_the_person_on_black_beside_its_mask(data: Path, crop: bool) -> None:
    extract(data)
    rgb, alpha = read_masked(image_path(data, "training", 0, 2))
    extract(data, ExtractSettings(erode=0, dilate=0, crop=crop, kind="jpg", quality=100))
    path = image_path(data, "training", 0, 2, "jpg")
    got_rgb, got_alpha = read_masked(path)
    np.testing.assert_array_equal(got_alpha, alpha)
    assert np.abs(got_rgb.astype(int) - rgb).mean() < 3
    assert mask_path(path).is_file()
    assert not image_path(data, "training", 0, 2).exists()  # the .png of the other settings


def test_resized_images_move_the_cameras_along(data: Path) -> None:
    extract(data)
    _, alpha = read_masked(image_path(data, "training", 0, 2))
    extract(data, ExtractSettings(erode=0, dilate=0, size=(32, 12)))
    rgb, small = read_masked(image_path(data, "training", 0, 2))
    want = alpha.reshape(12, 4, 32, 2).mean((1, 3))
    assert np.abs(small - want).mean() < 12
    assert rgb[small > 0].mean() > 30
    dataset = open_dataset(data)
    before, after = dataset.cameras[0], dataset.splits["training"].cameras[0]
    np.testing.assert_allclose(
        after.K[:2], before.K[:2].numpy() * np.array([[0.5], [0.25]]), rtol=1e-6
    )
    assert dataset.splits["training"].cameras[1].width == WIDTH  # without images yet


def test_again_makes_only_what_is_missing_or_damaged(data: Path) -> None:
    assert extract(data).new_images == FRAMES
    before = tree(data)
    image_path(data, "training", 0, 1).unlink()
    spoilt = image_path(data, "training", 0, 6)
    spoilt.write_bytes(spoilt.read_bytes()[:-20])
    report = extract(data)
    assert (report.new_images, report.old_images) == (2, FRAMES - 2)
    assert tree(data) == before


def test_other_settings_are_told_and_made_again(data: Path) -> None:
    extract(data)
    report = extract(data, ExtractSettings(erode=0, dilate=0, threshold=90))
    assert report.changed == 'threshold: "by the rim" -> 90'
    assert report.new_images == FRAMES
    write_video(video_path(data, "training", 0), np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8))
    report = extract(data, ExtractSettings(erode=0, dilate=0, threshold=90))
    assert report.changed == "video: its content is another"
    assert report.new_images == FRAMES


def test_a_stop_leaves_whole_images_and_goes_on(data: Path, tmp_path: Path) -> None:
    report = extract(data, stop_after=3)
    assert report.stopped
    assert 0 < report.new_images < FRAMES
    extract(data)
    whole = small_dataset(tmp_path / "other")
    extract(whole)
    assert tree(data) == tree(whole)


def test_a_journal_line_that_a_kill_cut_off_is_no_line(data: Path) -> None:
    extract(data)
    before = tree(data)
    journal = data / "training" / "images" / "extract_c_000.jsonl"
    journal.write_bytes(journal.read_bytes()[:-4])
    assert extract(data).new_images == 1
    assert extract(data).new_images == 0
    assert tree(data) == before


def test_a_copy_of_a_data_set_is_not_made_again(data: Path, tmp_path: Path) -> None:
    """`cp -r` gives all files other times; another content of the same size and time is seen."""
    extract(data)
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, copy_function=shutil.copyfile)
    assert (extract(copy).new_images, extract(copy).changed) == (0, "")
    path = video_path(copy, "training", 0)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)
    assert extract(copy).changed.startswith("video: ")


def test_in_a_closed_folder_images_that_are_there_suffice(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(data)
    journal = data / "training" / "images" / "extract_c_000.jsonl"
    opened = Path.open

    def closed(path: Path, mode: str = "r", **more: Any) -> Any:
        if path.name.endswith((".jsonl", ".part")) and mode.strip("b") != "r":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, mode, **more)

    monkeypatch.setattr(Path, "open", closed)
    before = journal.read_bytes()
    report = extract(data)
    assert (report.new_images, report.old_images) == (0, FRAMES)
    with pytest.raises(
        InputError, match=r"000\.jsonl: cannot be written, and .*threshold: .* -> 90"
    ):
        extract(data, ExtractSettings(erode=0, dilate=0, threshold=90))
    image_path(data, "training", 0, 1).unlink()
    with pytest.raises(InputError, match=r"cannot be written"):
        extract(data)
    assert journal.read_bytes() == before


def test_half_written_images_of_killed_runs_go_unless_a_run_holds_them(data: Path) -> None:
    extract(data)
    shelf = data / "training" / "images" / "000002"
    ours, theirs = (shelf / f".image_c_00{n}_f_000002.png.part" for n in range(2))
    for path in (ours, theirs):
        path.write_bytes(b"half")
    with journal_path(data, "training", 1).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_partials(data, "training")
        assert (ours.exists(), theirs.exists()) == (False, True)
    remove_partials(data, "training")
    assert not theirs.exists()


def test_half_written_images_of_the_published_layout_go_too(tmp_path: Path) -> None:
    folders = PublishedFolders(tmp_path / "images", tmp_path / "masks")
    left = [path.with_name(f".{path.name}.part") for path in folders.files(12, 30, ".png")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    remove_partials(tmp_path, "training", folders)
    assert not any(path.exists() for path in left)


# ---- bad input ----


def test_missing_camera(data: Path) -> None:
    video_path(data, "training", 1).unlink()
    found = survey(data, None, None)
    assert found.cameras == {"training": [0, 2]}
    assert "stream001.mp4: expected a video, found nothing" in found.errors[0]
    with pytest.raises(InputError, match=r"stream001\.mp4: expected a video, found nothing"):
        survey(data, None, [1])
    assert survey(data, None, [0, 2]).cameras == {"training": [0, 2]}
    with pytest.raises(InputError, match=r"--cameras: expected numbers in 0\.\.2"):
        survey(data, None, [7])


def test_a_video_without_a_calibrated_camera(data: Path) -> None:
    shutil.copy(video_path(data, "training", 0), video_path(data, "training", 3))
    with pytest.raises(InputError, match=r"stream003\.mp4: expected a camera for it among 3"):
        survey(data, None, None)


def test_corrupt_video_names_the_frame_and_keeps_what_is_whole(data: Path) -> None:
    spoil_middle(video_path(data, "training", 0))
    with pytest.raises(InputError, match=r"stream000\.mp4: frame \d+ .* is damaged"):
        extract(data)
    for _, _, image in images_of(data, "training"):
        read_masked(image)


def test_truncated_last_frame_is_told_and_left_out(data: Path) -> None:
    path = video_path(data, "training", 0)
    frames = np.stack([raw(path, n) for n in range(FRAMES)])
    cut_off(path, frames, 5)
    report = extract(data)
    assert report.new_images == FRAMES - 1
    assert "cut off, the last frame is left out, 7 are whole" in report.notes[0]


def test_variable_frame_rate_numbers_images_by_time(data: Path) -> None:
    ticks = [0, 1, 2, 4, 5, 6, 7, 9]
    for path in (video_path(data, "training", 0), mask_video_path(data, "training", 0)):
        write_video(path, np.stack([raw(path, n) for n in range(FRAMES)]), ticks)
    with pytest.raises(
        InputError, match=r"000\.mp4: variable frame rate: its last frame is number 9"
    ):
        extract(data)
    poses = data / "training" / POSES
    lines = poses.read_text().splitlines()
    poses.write_text("\n".join([*lines, *lines[-2:]]) + "\n")
    report = extract(data)
    assert "variable frame rate" in report.notes[0]
    assert [frame for frame, _, _ in images_of(data, "training")] == ticks


def test_a_gap_in_one_video_alone(data: Path) -> None:
    path = mask_video_path(data, "training", 0)
    write_video(path, np.stack([raw(path, n) for n in range(FRAMES)]), [0, 1, 2, 3, 4, 6, 7, 8])
    (data / "training" / POSES).unlink()
    with pytest.raises(InputError, match=r"Segmentation.stream000\.mp4: expected a frame 5, which"):
        extract(data)


def test_fewer_masks_than_frames(data: Path) -> None:
    path = mask_video_path(data, "training", 1)
    write_video(path, np.stack([raw(path, n) for n in range(FRAMES - 1)]))
    with pytest.raises(InputError, match=r"videos/stream001.mp4 has 8, .*tation/stream001.mp4 7"):
        survey(data, None, [1])


def test_masks_without_foreground(data: Path) -> None:
    path = mask_video_path(data, "training", 0)
    masks = np.stack([raw(path, n) for n in range(FRAMES)])
    masks[2:4] = 0
    write_video(path, masks)
    assert extract(data).empty == [2, 3]
    assert read_masked(image_path(data, "training", 0, 2))[1].max() == 0
    write_video(path, np.zeros_like(masks))
    for _ in range(2):  # and again when it is run again
        with pytest.raises(InputError, match=r"found no foreground in any of 8 frames"):
            extract(data)
    assert not tree(data)
    extract(data, stop_after=3)
    assert len(tree(data)) == 3
    with pytest.raises(InputError, match=r"found no foreground in any of 8 frames \(darker than"):
        extract(data)  # goes on, and knows what the first run saw
    assert not tree(data)


def test_erosion_that_eats_the_person_is_told(data: Path) -> None:
    assert not extract(data, ExtractSettings(erode=2, dilate=2)).notes
    (text,) = extract(data, ExtractSettings(erode=6, dilate=3)).notes
    assert re.search(r"stream000\.mp4: --erode 6 and --dilate 3 take [3-9]\d% of the mask", text)
    with pytest.raises(InputError, match=r"no foreground .*--erode 40 takes all of the mask"):
        extract(data, ExtractSettings(erode=40))


def test_rgb_and_mask_of_different_size(data: Path) -> None:
    masks = np.zeros((FRAMES, 50, 64, 3), np.uint8)
    write_video(mask_video_path(data, "training", 0), masks)
    with pytest.raises(InputError, match=r"stream000\.mp4 is 64x48, .*stream000\.mp4 64x50"):
        extract(data)


def test_videos_of_another_size_than_their_camera(data: Path) -> None:
    cameras = [type(c)(c.viewmat, c.K, 80, 60, c.name) for c in read_cameras(data / CAMERAS)]
    (data / CALIBRATION).write_text(calibration_text(cameras))
    with pytest.raises(InputError, match=r"expected 80x60, its camera's size, got 64x48"):
        extract(data)


def test_padding_of_an_odd_picture_is_cut(data: Path) -> None:
    cameras = [type(c)(c.viewmat, c.K, 63, 47, c.name) for c in read_cameras(data / CAMERAS)]
    (data / CALIBRATION).write_text(calibration_text(cameras))
    extract(data)
    assert read_masked(image_path(data, "training", 0, 0))[1].shape == (47, 63)


def test_singular_calibration(data: Path) -> None:
    text = (data / CALIBRATION).read_text()
    line = next(line for line in text.splitlines() if "extrinsic" in line)
    (data / CALIBRATION).write_text(text.replace(line, "extrinsic " + "0 " * 15 + "1", 1))
    with pytest.raises(InputError, match=r"camera '0': expected a rotation"):
        survey(data, None, None)


def test_motion_shorter_than_video(data: Path) -> None:
    poses = data / "training" / POSES
    poses.write_text("\n".join(poses.read_text().splitlines()[:-3]) + "\n")
    with pytest.raises(InputError, match=r"expected a pose for each of 8 frames .*, got 5; --fra"):
        extract(data)


def test_full_disk(data: Path) -> None:
    """A limit on the size of files acts as a full disk does: the write fails half-way."""
    extract(data, stop_after=2)
    before = tree(data)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(InputError, match=r"cannot be written: File too large"):
            extract(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tree(data) == before
    assert not list((data / "training" / "images").rglob("*.part"))
    assert extract(data).new_images == FRAMES - len(before)


def test_lens_distortion_is_straightened(data: Path) -> None:
    cameras = read_cameras(data / CAMERAS)
    (data / CALIBRATION).write_text(calibration_text(cameras, "  radial  -0.8 0.1\n"))
    footage = survey(data, None, None)
    assert footage.optics[0].lens == Lens(k1=-0.8, k2=0.1)
    assert "3 cameras have lens distortion" in footage.notes[0]
    extract(data)
    straight = read_masked(image_path(data, "training", 0, 0))[1]
    job = CameraJob(
        data, "training", 0, (0,), THIN, Optics(64, 48, footage.optics[0].pinhole), None
    )
    extract_camera(job, lambda n: None, lambda: False)
    bent = read_masked(image_path(data, "training", 0, 0))[1]
    assert 0 < (bent != straight).sum() < straight.size / 4


# ---- the command ----


def test_the_command_extracts_all_cameras(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mask_video_path(data, "training", 1).write_bytes(b"")
    options = ["--erode", "2", "--frames", "1:8:3", "--cameras", "0,2", "--workers", "2"]
    assert main(["extract", str(data), *options]) == 0
    images = [(frame, camera) for frame, camera, _ in images_of(data, "training")]
    assert images == [(frame, camera) for frame in (1, 4, 7) for camera in (0, 2)]
    assert "6 images made, 0 were there" in capfd.readouterr().out


def test_one_unreadable_video_stops_no_other(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = video_path(data, "training", 1)
    path.write_bytes(path.read_bytes()[:400])
    assert main(["extract", str(data), "--erode", "0", "--frames", ":2", "--workers", "1"]) == 2
    images = [(frame, camera) for frame, camera, _ in images_of(data, "training")]
    assert images == [(0, 0), (0, 2), (1, 0), (1, 2)]
    said = capfd.readouterr()
    text = " ".join(said.err.split())
    assert "stream001.mp4: expected a video, found a file that is damaged, cut off or" in text
    assert "Errno" not in text
    assert "4 images made" in said.out


def test_killed_half_way_it_goes_on_to_the_same(data: Path, tmp_path: Path) -> None:
    """SIGKILL while it runs; then run again."""
    command = [sys.executable, "-m", "ash_core.cli", "extract", str(data), "--erode", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not tree(data):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert main(command[3:]) == 0
    whole = small_dataset(tmp_path / "other")
    for camera in range(3):
        extract(whole, ExtractSettings(erode=0), camera=camera)
    assert tree(data) == tree(whole)
    assert not list((data / "training").rglob("*.part"))


KILLED_WITH_IDLE_WORKERS = """
import multiprocessing, os, signal, sys
from pathlib import Path
from ash_core.footage.extract.extract_jobs import run_in_processes
from test_extract import job_of

jobs = [job_of(Path(sys.argv[1]), camera) for camera in range(3)]
missing = sum(len(job.frames) for job in jobs)

def tell(frames):
    global missing
    missing -= frames
    if missing == 0:
        workers = [str(child.pid) for child in multiprocessing.active_children()]
        Path(sys.argv[2]).write_text(" ".join(workers))
        os.kill(os.getpid(), signal.SIGKILL)

run_in_processes(jobs, 2, tell, lambda: False)
"""


def test_idle_workers_end_with_their_killed_parent(data: Path, tmp_path: Path) -> None:
    """The operating system sends them nothing, and they ignore SIGTERM."""
    written = tmp_path / "workers"
    command = [sys.executable, "-c", KILLED_WITH_IDLE_WORKERS, str(data), str(written)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    parent = subprocess.run(command, env=environment)
    assert parent.returncode == -signal.SIGKILL
    workers = [int(word) for word in written.read_text().split()]
    assert len(workers) == 2
    until = time.monotonic() + 60.0
    try:
        while any(map(is_alive, workers)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(map(is_alive, workers))
    finally:
        for worker in filter(is_alive, workers):
            os.kill(worker, signal.SIGKILL)


HUNG_UP_AT_THE_START = """
import os, signal, sys
from pathlib import Path
from ash_core.footage.extract.extract_jobs import run_in_processes
from ash_core.commands.terminal import StopRequest
from test_extract import job_of

def stopped():
    if not stop.is_set:
        os.killpg(0, signal.SIGHUP)
    return True

with StopRequest() as stop:
    jobs = [job_of(Path(sys.argv[1]), camera) for camera in range(3)]
    outcome = run_in_processes(jobs, 2, lambda frames: None, stopped)
assert not outcome.errors, outcome.errors
assert [report.stopped for report in outcome.reports] == [True] * 3
"""


def test_a_hang_up_while_workers_start_kills_none(data: Path) -> None:
    """A closed terminal, or Ctrl-C, signals every process of it, those that import too."""
    command = [sys.executable, "-c", HUNG_UP_AT_THE_START, str(data)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    run = subprocess.run(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    assert (run.returncode, run.stderr.decode()) == (0, "")


def is_alive(process: int) -> bool:
    """Return whether a process runs; one without a waiting parent has no command line."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize("width", [64, 70, 86])
def test_any_box_of_a_frame_has_the_frame_s_colours(tmp_path: Path, width: int) -> None:
    """Converting the box alone gives what converting the whole frame gives, to the byte."""
    noise = np.random.default_rng(0).integers(0, 255, (1, 50, width, 3), np.uint8)
    write_video(tmp_path / "v.mp4", noise)
    ((_, frame),) = decode_frames(index_video(tmp_path / "v.mp4"), [0])
    whole = frame.to_ndarray(format="rgb24")
    cutter = Cutter(THIN, None, width, 50)
    for left, right in ((0, 1), (3, 20), (15, 17), (33, width), (width - 1, width), (0, width)):
        for top, bottom in ((0, 50), (7, 8), (49, 50)):
            got = cutter.colours(frame, Box(left, top, right, bottom))
            np.testing.assert_array_equal(got, whole[top:bottom, left:right])
