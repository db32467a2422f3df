"""docs/train.sbatch on a real Slurm: told to end it saves, waits in the queue, and goes on."""

import os
import subprocess
import sys
import time
from pathlib import Path

from slurm_node import slurm_node
from test_training import ROOT, arguments, losses

from ash_core.training.checkpoints import newest_checkpoint

SCRIPT = ROOT / "docs" / "train.sbatch"
PATIENCE = 120.0


def test_the_script_is_one() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def until(true: object, what: str, log: Path) -> None:
    """Wait; what was waited for and the job's log are in the error."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError(f"{what}: {log.read_text() if log.exists() else 'no log'}")


def newest(out: Path) -> int:
    """The step of the newest checkpoint."""
    found = newest_checkpoint(out / "checkpoints")
    return 0 if found is None else found[1].step


def last_step(out: Path) -> int:
    try:
        return max(losses(out), default=0)
    except (OSError, ValueError):
        return 0


def test_a_job_that_is_told_to_end_saves_and_goes_on(footage: Path, tmp_path: Path) -> None:
    slurm, out, log = tmp_path / "slurm", tmp_path / "out", tmp_path / "job.log"
    slurm.mkdir()
    with slurm_node(slurm) as environment:
        environment |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), environment.get("PYTHONPATH", "")))
        _, data, _, _, *options = arguments(footage, out, "--steps", 60)
        words = ["sbatch", "--parsable", "--partition=all", f"--output={log}", str(SCRIPT)]
        job = subprocess.run(
            [*words, data, str(out), *options], env=environment, capture_output=True, text=True
        )
        assert job.returncode == 0, job.stderr
        number = job.stdout.strip()
        until(lambda: last_step(out) >= 3, "no third step", log)
        told = ["scancel", "--batch", "--signal=TERM", number]
        subprocess.run(told, env=environment, check=True)
        until(lambda: newest(out) > 0, "nothing saved", log)
        saved = newest(out)
        assert saved < 60
        until(lambda: newest(out) == 60, "not gone on", log)
        assert f"going on after step {saved}" in log.read_text()
        assert list(losses(out)) == list(range(1, 61))
