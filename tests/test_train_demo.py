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
from ash_core.commands import train_demo
from ash_core.commands.extract import Extract
from ash_core.commands.train import Train
from ash_core.commands.train_demo import JUDGED, LEAST_GAIN_DB, TrainDemo
from ash_core.errors import INTERRUPTED
from ash_core.files.image import read_image
from ash_core.training.evaluation import LABEL_HEIGHT, LABEL_WIDTH, SHOWN

MINUTES = 0.25
SETTINGS = ("--actor", "actor", "--size", "120x90", "--minutes", str(MINUTES))
"""A tenth of the pixels and a 40th of the time that a user gives it, in processor time."""
SMALLER = {
    "TAKE_FRAMES": 5,
    "TEST_FRAMES": 3,
    "MEASURED_VIEWS": 8,
    "VIDEO_FRAMES": 12,
    "VIDEO_SIZE": "160x120",
}
"""Constants of the command for whoever has less time than its user."""
START = f"""
import sys, time, types
from ash_core import cli
from ash_core.commands import train_demo
from ash_core.training import loop
vars(train_demo).update({SMALLER})
# Minutes of processor time, or a training beside other programs would learn less.
loop.time = types.SimpleNamespace(perf_counter=time.process_time)
sys.exit(cli.main(sys.argv[1:]))
"""

pytestmark = pytest.mark.slow


class Chain(NamedTuple):
    """A folder that the command has filled, and what came of each run."""

    out: Path
    stopped: subprocess.CompletedProcess[str]
    finished: subprocess.CompletedProcess[str]


def command(out: Path) -> dict[str, Any]:
    """What subprocess is to run."""
    words = [sys.executable, "-c", START, "train-demo", "--out", str(out), *SETTINGS]
    # Threads that spin while they wait take the cores from those that work, where others test too.
    return {"args": words, "env": {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}, "text": True}


@pytest.fixture(scope="module")
def compiled(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile the CPU's kernels to the disk, in a checkout's first training.

    That takes longer than the demo's training may, and counts as its time.
    """
    out = tmp_path_factory.mktemp("first") / "out"
    avatar = footage / "small.safetensors"
    words = ["--avatar", str(avatar), "--steps", "1", "--validate-every", "0", "--device", "cpu"]
    assert main(["train", str(footage), "-o", str(out), *words]) == 0


@pytest.fixture(scope="module")
def chain(compiled: None, tmp_path_factory: pytest.TempPathFactory) -> Chain:
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
    column = (after.shape[1] - LABEL_WIDTH) // 3
    assert grid.shape == (LABEL_HEIGHT + after.shape[0], LABEL_WIDTH + 4 * column, 3)
    grid = grid[LABEL_HEIGHT:, LABEL_WIDTH:]
    assert (grid[:, column:] == after[:, LABEL_WIDTH:]).all()
    images = grid.unflatten(0, (3 * SHOWN, -1))[:, LABEL_HEIGHT:]  # each row has its titles
    untrained, trained, truth = (
        images[:, :, n * column : (n + 1) * column].float() / 255 for n in range(3)
    )
    assert (trained - truth).square().mean() < (untrained - truth).square().mean() / 2
    with av.open(str(chain.out / "avatar.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == SMALLER["VIDEO_FRAMES"]
    assert all((frame < 128).any() for frame in frames)  # somebody stands on the white
    assert any((frame != frames[0]).any() for frame in frames)


def test_run_again_it_makes_nothing_anew(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SMALLER.items():
        monkeypatch.setattr(train_demo, name, value)
    for stage in ("_measure", "_render"):  # they always work anew
        monkeypatch.setattr(TrainDemo, stage, lambda *_: 0)
    before = made(chain.out)
    assert main(["train-demo", "--out", str(chain.out), *SETTINGS]) == 0
    printed = capsys.readouterr().out
    assert "training: 0 images filmed" in printed
    assert "\n0 images made" in printed
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


def test_a_training_that_ended_too_early_was_interrupted(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train` alone succeeds after SIGTERM; the time that the training has had tells."""
    for stage in ("_prepare", "_film", "_measure", "_render"):
        monkeypatch.setattr(TrainDemo, stage, lambda *_: 0)
    for command in (Extract, Train):
        monkeypatch.setattr(command, "run", lambda _: 0)
    words = ["train-demo", "--out", str(chain.out), *SETTINGS]
    assert main(words) == 0
    assert main([*words[:-1], "60"]) == INTERRUPTED


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
