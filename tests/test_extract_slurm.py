"""`extract --slurm`: a task a camera, on a real Slurm where there is one, else submitit's own."""

import os
import re
import sys
from pathlib import Path

import pytest
from slurm_node import slurm_node
from small_dataset import FRAMES, small_dataset
from test_footage import spoil_middle

from ash_core.cli import main
from ash_core.files.dataset import images_of, video_path

pytest.importorskip("submitit")

OPTIONS = ("--erode", "0", "--slurm", "--slurm-minutes", "5")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A task is a new Python that must find the package as we do.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, sys.path)))
    return small_dataset(tmp_path / "subject")


def check(data: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    """Check all images; a second run makes none."""
    assert main(["extract", str(data), *options]) == 0
    images = [(frame, camera) for frame, camera, _ in images_of(data, "training")]
    assert images == [(frame, camera) for frame in range(FRAMES) for camera in range(3)]
    out = capfd.readouterr().out
    assert "job array" in out
    assert f"{3 * FRAMES} images made, 0 were there" in out
    assert main(["extract", str(data), *options]) == 0
    assert f"0 images made, {3 * FRAMES} were there" in capfd.readouterr().out


def test_on_submitit_s_own_executor(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(data, capfd, (*OPTIONS, "--slurm-executor", "local"))


def test_a_task_that_fails_is_one_line(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil_middle(video_path(data, "training", 1))
    assert main(["extract", str(data), *OPTIONS, "--slurm-executor", "local"]) == 2
    caught = capfd.readouterr()
    assert re.search(r"^error: .*stream001\.mp4: frame \d .* is damaged", caught.err, re.M)
    assert "Traceback" not in caught.err
    images = list(images_of(data, "training"))
    assert sum(camera != 1 for _, camera, _ in images) == 2 * FRAMES


def test_on_a_real_slurm_node(
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "slurm").mkdir()
    with slurm_node(tmp_path / "slurm") as environment:
        monkeypatch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        check(data, capfd, (*OPTIONS, "--slurm-partition", "all", "--slurm-parallel", "2"))
