"""The whole chain on two processor cores: `ash-studio train-demo`, stopped in the middle once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest

from ash_core.cli import main
from ash_core.commands.train_demo import JUDGED, LEAST_GAIN_DB, VIDEO_FRAMES, TrainDemo
from ash_core.files.image import read_image

SETTINGS = ("--actor", "actor", "--size", "240x180", "--minutes", "0.75")
"""A quarter of the pixels and a seventh of the time that a user gives it."""

pytestmark = pytest.mark.slow


class Chain(NamedTuple):
    """A folder that the command has filled, and what came of each run."""

    out: Path
    stopped: subprocess.CompletedProcess[str]
    finished: subprocess.CompletedProcess[str]


def command(out: Path) -> dict[str, Any]:
    """What subprocess is to run."""
    words = [sys.executable, "-m", "ash_core.cli", "train-demo", "--out", str(out), *SETTINGS]
    # Threads that spin while they wait take the cores from those that work, where others test too.
    return {"args": words, "env": {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}, "text": True}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Ctrl-C while it trains, then to the end."""
    out = tmp_path_factory.mktemp("demo") / "train-demo"
    pipe = subprocess.PIPE
    running = subprocess.Popen(**command(out), stdout=pipe, stderr=pipe)
    try:
        until = time.monotonic() + 300
        while not (out / "trained" / "config.json").exists() and running.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        said, told = running.communicate()
    finally:
        running.kill()
    if "EGL" in told:
        pytest.skip(told)
    stopped = subprocess.CompletedProcess([], running.returncode, said, told)
    finished = subprocess.run(**command(out), capture_output=True)
    return Chain(out, stopped, finished)


def test_stopped_in_the_middle_it_goes_on(chain: Chain) -> None:
    assert chain.stopped.returncode == 130, chain.stopped.stderr
    assert "--resume goes on" in " ".join(chain.stopped.stderr.split())
    assert chain.finished.returncode == 0, chain.finished.stderr
    assert "going on after step" in chain.finished.stderr
    assert "training: 0 images filmed" in chain.finished.stdout
    assert "\n0 images made" in chain.finished.stdout


def test_a_short_training_gains_more_than_it_must(chain: Chain) -> None:
    before, after = (
        json.loads((chain.out / name / "report.json").read_text()) for name in ("before", "after")
    )
    assert before[JUDGED]["cameras"] == [6]
    for name in ("train pose", JUDGED):
        assert after[name]["psnr"] - before[name]["psnr"] > LEAST_GAIN_DB, (name, before, after)
        assert after[name]["ssim"] > before[name]["ssim"], name
    gain = after[JUDGED]["psnr"] - before[JUDGED]["psnr"]
    assert f"{gain:+.2f} dB" in chain.finished.stdout


def test_pictures_and_video_show_the_trained_avatar(chain: Chain) -> None:
    grid, after = (read_image(chain.out / name) for name in ("pictures.png", "after/pictures.png"))
    column = after.shape[1] // 3
    assert grid.shape == (after.shape[0], 4 * column, 3)
    assert (grid[:, column:] == after).all()
    untrained, trained, truth = (
        grid[:, n * column : (n + 1) * column].float() / 255 for n in range(3)
    )
    assert (trained - truth).square().mean() < (untrained - truth).square().mean() / 2
    with av.open(str(chain.out / "avatar.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == VIDEO_FRAMES
    assert all((frame < 128).any() for frame in frames)  # somebody stands on the white
    assert any((frame != frames[0]).any() for frame in frames)


def test_run_again_it_makes_nothing_anew(chain: Chain) -> None:
    before = made(chain.out)
    again = subprocess.run(**command(chain.out), capture_output=True)
    assert again.returncode == 0, again.stderr
    assert "training: 0 images filmed" in again.stdout
    assert "\n0 images made" in again.stdout
    assert made(chain.out) == before


def made(out: Path) -> tuple[dict[Path, tuple[int, int]], bytes]:
    """Identify the videos and images of a chain (replaced, they are others) and its avatar's bytes.

    A training that has had its time writes the same avatar again.
    """
    files = [path for path in (out / "footage").rglob("*.*") if path.suffix in (".mp4", ".png")]
    states = {path: path.stat() for path in files}
    identities = {path: (state.st_ino, state.st_mtime_ns) for path, state in states.items()}
    return identities, (out / "trained" / "avatar.safetensors").read_bytes()


def test_too_little_gained_is_a_failure(
    chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("before", "after"):
        shutil.copytree(chain.out / "before", tmp_path / name)
    assert TrainDemo(tmp_path).conclude() == 1
    assert "novel view: expected a gain of 3 dB or more, got 0.00" in capsys.readouterr().err


def test_sigterm_ends_it_too(chain: Chain) -> None:
    """Of `train` alone it is a success."""
    trained = chain.out / "trained"
    longer = command(chain.out)
    longer["args"] = [*longer["args"][:-1], "60"]
    running = subprocess.Popen(**longer, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 300
        while '"minutes": 60' not in (trained / "config.json").read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        running.terminate()
        assert running.wait(300) == 130
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("--minutes", "0"), "--minutes: expected 0.1 to 1440 minutes, got 0"),
        (("--actor", "nobody"), "nobody: expected an actor's folder"),
        (("--size", "wide"), "--size: expected WIDTHxHEIGHT"),
    ],
)
def test_mistakes_are_told_before_any_work(
    wrong: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train-demo", "--out", str(out), *wrong]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
