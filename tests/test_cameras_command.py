"""`ash-studio cameras`: a calibration becomes the cameras.json that describes the same."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_dataset import calibration_text, write_video
from toy import toy_cameras

from ash_core.cli import main
from ash_core.files.cameras.published import read_cameras, read_lenses
from ash_core.files.dataset import video_path
from ash_core.geometry.lens import Lens


def convert(folder: Path, text: str, *options: str) -> int:
    (folder / "c.calibration").write_text(text)
    out = folder / "cameras.json"
    return main(["cameras", str(folder / "c.calibration"), "-o", str(out), *options])


def test_round_trip(tmp_path: Path) -> None:
    cameras = toy_cameras()
    assert convert(tmp_path, calibration_text(cameras)) == 0
    for want, got in zip(cameras, read_cameras(tmp_path / "cameras.json"), strict=True):
        torch.testing.assert_close(got.viewmat, want.viewmat, atol=1e-5, rtol=0)
        torch.testing.assert_close(got.K, want.K, atol=1e-4, rtol=1e-6)
        assert (got.width, got.height, got.name) == (want.width, want.height, want.name)


def test_field_of_view_is_of_the_real_size(tmp_path: Path) -> None:
    cameras = toy_cameras()
    assert convert(tmp_path, calibration_text(cameras)) == 0
    content = json.loads((tmp_path / "cameras.json").read_text())
    for camera, frame in zip(cameras, content["frames"], strict=True):
        want = 2 * math.atan(camera.width / (2 * float(camera.K[0, 0])))
        assert frame["camera_angle_x"] == pytest.approx(want, rel=1e-6)


def test_distortion_is_refused_or_straightened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = calibration_text(toy_cameras(), "  radial  0.1 -0.02\n  tangential 0.001 0.002\n")
    assert convert(tmp_path, text) == 2
    assert (
        "published has no place for its lens distortion (k1 0.1, k2 -0.02, p1 0.001"
        in capfd.readouterr().err
    )
    assert not (tmp_path / "cameras.json").exists()
    assert convert(tmp_path, text, "--undistort") == 0
    assert "straightened images" in capfd.readouterr().err
    _, lenses = read_lenses(tmp_path / "c.calibration")
    assert lenses[0] == Lens(k1=0.1, k2=-0.02, p1=0.001, p2=0.002)


def test_lens_lines_may_count_or_mix(tmp_path: Path) -> None:
    for line, want in (
        ("radial 2 0.1 0.2", Lens(k1=0.1, k2=0.2)),
        ("radial 0", Lens()),
        ("distortion 0.1 0.2 0.3 0.4 0.5", Lens(0.1, 0.2, 0.3, 0.4, 0.5)),
    ):
        (tmp_path / "c.calibration").write_text(calibration_text(toy_cameras(), f"  {line}\n"))
        assert read_lenses(tmp_path / "c.calibration")[1][0] == want


@pytest.mark.parametrize(
    ("row", "message"),
    [("extrinsic", "expected a rotation"), ("intrinsic", "expected an intrinsic matrix")],
)
def test_singular_matrix(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], row: str, message: str
) -> None:
    text = calibration_text(toy_cameras())
    line = next(line for line in text.splitlines() if row in line)
    assert convert(tmp_path, text.replace(line, f"  {row} " + "0 " * 15 + "1", 1)) == 2
    assert message in capfd.readouterr().err


def test_videos_beside_it_have_its_sizes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_video(video_path(tmp_path, "training", 0), np.zeros((2, 10, 12, 3), np.uint8))
    assert convert(tmp_path, calibration_text(toy_cameras())) == 2
    assert "as c.calibration says, got 12x10" in capfd.readouterr().err
