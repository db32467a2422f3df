"""The trainer as its user meets it: it learns, it survives, it says what is wrong."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image as PillowImage

from ash_core import cli
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.dataset import image_path
from ash_core.training.checkpoints import newest_checkpoint
from ash_core.training.evaluation import LABEL_HEIGHT, LABEL_WIDTH

WHOLE = ("--steps", 60, "--checkpoint-every", 20, "--learning-rate", 0.005)
ROOT = Path(__file__).resolve().parent.parent


def arguments(footage: Path, out: Path, *more: object) -> list[str]:
    """A training that takes seconds."""
    fixed = ["train", footage, "-o", out, "--avatar", footage / "small.safetensors"]
    fixed += ["--views-per-pose", 2, "--log-every", 1, "--validate-every", 0, "--device", "cpu"]
    return [str(word) for word in (*fixed, *more)]


def run(*words: object) -> int:
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)


def losses(out: Path) -> dict[int, float]:
    """Loss by step."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def numbers(out: Path) -> list[dict[str, float]]:
    """Everything in the log but times."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    timed = {"seconds", "views_per_second"}
    return [{name: line[name] for name in line if name not in timed} for line in lines]


def start(words: list[str], stderr: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ash_core.cli", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=stderr,
        stdout=subprocess.PIPE,
        text=True,
    )


FORKING = """
import json, os, sys
from ash_core import cli
from ash_core.training import train  # slow to import, once for all commands
for line in sys.stdin:
    words, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = cli.main(words)
        assert "torch._dynamo" not in sys.modules, "torch's compiler was imported, for a second"
        sys.exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """A process that has imported the trainer and forks a child for each command, one at a time."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", FORKING],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, words: list[str], errors: Path) -> int:
        """Begin a command whose output goes to a file; returns the number of its process."""
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps([words, str(errors)]) + "\n")
        self.parent.stdin.flush()
        return self._number()

    def wait(self) -> int:
        """Return the command's exit code, negative for a signal."""
        return self._number()

    @staticmethod
    def kill(number: int) -> None:
        """Kill a command that may have ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)

    def _number(self) -> int:
        assert self.parent.stdout is not None
        return int(self.parent.stdout.readline())


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.parent.communicate(timeout=300)


def finish(process: subprocess.Popen[str]) -> None:
    """Until it ends well."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def wait_for_step(process: subprocess.Popen[str], out: Path, step: int) -> None:
    """Wait until the log has a step."""
    while process.poll() is None:
        if last_step(out) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


def last_step(out: Path) -> int:
    """Return the last step in a log that may end within a line."""
    log = out / "log.jsonl"
    done = re.findall(r'"step": (\d+),', log.read_text() if log.exists() else "")
    return max(map(int, done), default=0)


def wait_for_fork(number: int, errors: Path, out: Path, step: int) -> None:
    """Wait until the log of a forked command has a step."""
    while last_step(out) < step:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            raise AssertionError(errors.read_text()) from None
        time.sleep(0.02)


@pytest.fixture(scope="session")
def trained(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole training of 60 steps."""
    out = tmp_path_factory.mktemp("trained")
    finish(start(arguments(footage, out, *WHOLE)))
    return out


def test_training_learns_what_was_filmed(
    footage: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = losses(trained)
    assert sum(every[n] for n in range(51, 61)) < 0.6 * sum(every[n] for n in range(1, 11))
    reports = []
    for avatar in (footage / "small.safetensors", trained / "avatar.safetensors"):
        assert run("eval", avatar, footage, "-o", tmp_path / "report", "--device", "cpu") == 0
        reports.append(json.loads((tmp_path / "report" / "report.json").read_text()))
    assert "LPIPS is missing" in capsys.readouterr().err
    before, after = reports
    assert set(after) == {"train pose", "novel view", "novel pose"}
    assert after["novel view"]["cameras"] == [2]
    for kind in after:
        assert after[kind]["psnr"] > before[kind]["psnr"] + 3.0, kind
        assert after[kind]["ssim"] > before[kind]["ssim"], kind
        assert after[kind]["lpips"] is None
        assert after[kind]["flicker"] < before[kind]["flicker"]


def test_eval_leaves_text_json_and_pictures(footage: Path, trained: Path, tmp_path: Path) -> None:
    more = ("-o", tmp_path, "--views", 2, "--device", "cpu")
    assert run("eval", trained / "avatar.safetensors", footage, *more) == 0
    text = (tmp_path / "report.txt").read_text()
    for kind, values in json.loads((tmp_path / "report.json").read_text()).items():
        assert re.search(rf"{kind} +{values['views']} +{values['psnr']:.2f} ", text)
    picture = np.array(PillowImage.open(tmp_path / "pictures.png"))
    labels, rows = picture[:, :LABEL_WIDTH], picture[:, LABEL_WIDTH:]
    width, step = rows.shape[1] // 3, 72 + LABEL_HEIGHT
    assert len(rows) % step == 0
    assert width == 96
    for top in range(0, len(rows), step):
        titles = rows[top : top + LABEL_HEIGHT]
        assert all((titles[:, n * width : (n + 1) * width] < 128).any() for n in range(3))
        assert (labels[top + LABEL_HEIGHT : top + step] < 128).any()
    shown = np.concatenate([rows[top + LABEL_HEIGHT :][:72] for top in range(0, len(rows), step)])
    ours, truth, error = (shown[:, n * width : (n + 1) * width] for n in range(3))
    assert np.abs(ours.astype(int) - truth).mean() < 20
    where = np.abs(ours.astype(int) - truth).mean(-1)
    assert (error[..., 0] < 255)[where > 10].all()


def test_mistakes_in_flags_and_data_leave_no_folder(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    out = tmp_path / "out"
    assert run("train", tmp_path / "other", "-o", out, "--device", "cpu") == 2
    assert run("train", footage, "-o", out, "--frames", "9999", "--device", "cpu") == 2
    assert run("train", footage, "-o", out, "--avatar", tmp_path / "no.safetensors") == 2
    assert capsys.readouterr().err.count("error: ") == 3
    assert not out.exists()


def test_another_body_and_a_closed_folder_are_told(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = load_avatar(footage / "small.safetensors")
    taller = replace(small.skeleton, offsets=1.1 * small.skeleton.offsets)
    save_avatar(tmp_path / "taller.safetensors", replace(small, skeleton=taller))
    for name, noted in (("taller", True), ("small", False)):
        avatar = (tmp_path if noted else footage) / f"{name}.safetensors"
        assert run("eval", avatar, footage, "-o", avatar / "x", "--device", "cpu") == 2
        said = capsys.readouterr().err
        assert ("another body?" in said) == noted
        assert "x: cannot be written" in said


def test_trained_avatar_is_rendered_by_the_usual_command(
    footage: Path, trained: Path, tmp_path: Path
) -> None:
    assert load_avatar(trained / "avatar.safetensors").cameras[0].width == 96
    motion = footage / "training" / "skeletoolToGTPose" / "poseAngles.motion"
    out = tmp_path / "frame.png"
    more = ("--motion", motion, "--frames", 0, "--camera", "avatar:0", "--out", out)
    assert run("render", trained / "avatar.safetensors", *more, "--device", "cpu") == 0
    ours = np.array(PillowImage.open(out).convert("RGB")).astype(int)
    truth = np.array(PillowImage.open(image_path(footage, "training", 0, 0)))
    person = truth[..., 3] > 250
    assert np.abs(ours - truth[..., :3])[person].mean() < 25


def test_a_training_killed_ten_times_goes_on_to_the_same_numbers(
    footage: Path, trained: Path, tmp_path: Path, forks: Forks
) -> None:
    """To the last bit: what a step follows from is in the checkpoint, seed and step."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    steps = sorted(random.sample(range(1, 58), 10))
    words = arguments(footage, out, *WHOLE, "--checkpoint-every", 2)
    print("killed after steps", steps)
    for step in steps:
        number = forks.start([*words, "--resume"] if out.exists() else words, errors)
        wait_for_fork(number, errors, out, step)
        time.sleep(random.uniform(0, 0.05))  # in the middle of something
        forks.kill(number)
        assert forks.wait() in (-signal.SIGKILL, 0), errors.read_text()
    forks.start([*words, "--resume"], errors)
    assert forks.wait() == 0, errors.read_text()
    assert numbers(out) == numbers(trained)
    assert not list(out.rglob("*.part"))
    one, other = ((folder / "avatar.safetensors").read_bytes() for folder in (trained, out))
    assert one == other


@pytest.mark.parametrize(
    ("number", "times", "code"),
    [(signal.SIGTERM, 3, 0), (signal.SIGHUP, 1, 0), (signal.SIGINT, 1, 130)],
)
def test_signals_save_and_end(
    footage: Path, tmp_path: Path, forks: Forks, number: int, times: int, code: int
) -> None:
    """SIGTERM comes from Slurm, and once more from torchrun."""
    errors = tmp_path / "errors"
    process = forks.start(arguments(footage, tmp_path, "--steps", 100000), errors)
    wait_for_fork(process, errors, tmp_path, 2)
    for _ in range(times):
        os.kill(process, number)
        time.sleep(0.02)
    assert forks.wait() == code, errors.read_text()
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert found[1].step == max(losses(tmp_path))
    assert "--resume goes on" in errors.read_text()
    load_avatar(tmp_path / "avatar.safetensors")


def test_numbers_that_are_not_finite_name_frame_and_camera(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--steps", 9, "--checkpoint-every", 1, "--learning-rate", 1e30, "--clip", 1e30)
    assert run(*arguments(footage, tmp_path, *more)) == 2
    assert re.search(r"step \d, frame \d, camera [\d,]+: expected finite", capsys.readouterr().err)
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert all(bool(part.isfinite().all()) for part in found[1].tensors.values())


def test_what_diverged_is_not_kept(
    footage: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever was saved on the way: the advice that is given can be followed."""
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    before = load_avatar(out / "avatar.safetensors").networks["decoder"]
    wild = ("--resume", "--steps", 80, "--learning-rate", 1e4, "--checkpoint-every", 100)
    assert run(*arguments(footage, out, *wild)) == 2
    assert "--resume with a lower --learning-rate goes on from step 60" in capsys.readouterr().err
    found = newest_checkpoint(out / "checkpoints")
    assert found is not None
    assert found[1].step == 60
    after = load_avatar(out / "avatar.safetensors").networks["decoder"]
    assert all(np.array_equal(before[name], after[name]) for name in before)
    tame = ("--resume", "--steps", 62, "--learning-rate", 1e-3)
    assert run(*arguments(footage, out, *tame)) == 0
    assert losses(out)[62] < 1
    assert run(*arguments(footage, out, "--resume", "--variant", "released")) == 2
    assert "--variant: expected native as in" in capsys.readouterr().err


def test_an_avatar_is_written_where_its_checkpoint_has_no_room(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, checkpoint: object) -> Path:
        raise InputError(f"{folder}: cannot be written: no room")

    monkeypatch.setattr("ash_core.training.loop.write_checkpoint", refuse)
    assert run(*arguments(footage, tmp_path, "--steps", 2)) == 2
    load_avatar(tmp_path / "avatar.safetensors")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--seed", "-1"), "--seed: expected 0 or more"),
        (("--weights.l1", "0", "--weights.dssim", "0"), "--weights: expected one of l1, dssim"),
        (("--crop", "12"), "--crop: expected auto or WxH"),
        (("--frames", "a:b"), "--frames: expected N or START"),
        (("--frames", ""), "--frames: expected N or START"),
        (("--frames", "90:99"), "--frames: expected frames in 0..5, '90:99' selects none"),
        (("--test-cameras", "7"), "--test-cameras: expected auto, none or some of 0,1,2"),
        (("--test-cameras", "0,1,2"), "--test-cameras: expected auto, none or some of 0,1,2"),
        (("--keep", "gpu"), "--keep: expected memory or files without a GPU"),
        (("--weights.lpips", "0.1"), "--weights.lpips: LPIPS is missing"),
        (("--weights.l1", "nan"), "--weights.l1: expected a number"),
        (("--steps", "0"), "--steps: expected more than 0"),
        (("--ema", "1"), "--ema: expected 0 to below 1"),
        (("--variant", "released", "--tune-character"), "--tune-character: expected none"),
    ],
)
def test_mistakes_in_flags_are_one_line(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple, said: str
) -> None:
    assert run(*arguments(footage, tmp_path, *more)) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_training_is_never_overwritten(
    footage: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in trained.rglob("*"))
    assert run(*arguments(footage, trained, "--steps", 60)) == 2
    assert "holds a training" in capsys.readouterr().err
    assert run(*arguments(footage, trained, "--resume", "--seed", 3)) == 2
    assert "--seed: expected 0 as in" in capsys.readouterr().err
    assert before == sorted((path, path.stat().st_mtime_ns) for path in trained.rglob("*"))


def test_a_damaged_checkpoint_is_passed_over(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(trained / "checkpoints", folder)
    newest = max(folder.iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    found = newest_checkpoint(folder)
    assert found is not None
    assert found[1].step == 40
