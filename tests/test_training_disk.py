"""A training whose disk fills up: it says so, goes on, and saves when there is room again."""

import errno
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_training import arguments, losses, start

from ash_core.files.avatar_file import load_avatar
from ash_core.training.checkpoints import newest_checkpoint

ROOM = 24 << 20
SMALL = 4096
"""Bytes of the longest file that a limit leaves."""
EVERY = ("--steps", 100000, "--checkpoint-every", 5, "--validate-every", 5)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, of ROOM bytes."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"mount: {error.strerror}")
    if mounted.returncode:
        pytest.skip(f"a disk of our own needs root: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Told:
    """What a process says on stderr, while it runs."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process, self.path = process, path

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def wait(self, pattern: str, after: int = 0) -> None:
        """Until a line says it, after the first so many."""
        self.until(lambda: any(re.search(pattern, line) for line in self.lines[after:]))

    def until(self, true: Callable[[], bool]) -> None:
        """Until something is so."""
        for _ in range(3000):
            if true():
                return
            assert self.process.poll() is None, self.path.read_text()
            time.sleep(0.02)
        raise AssertionError(self.path.read_text())


def newest(out: Path) -> int:
    """The step of the newest whole checkpoint."""
    found = newest_checkpoint(out / "checkpoints")
    return -1 if found is None else found[1].step


def check_survival(
    footage: Path, out: Path, errors: Path, fill: Callable[[int], None], free: Callable[[int], None]
) -> None:
    """Full, free, and full at the end. fill and free are told the process' number."""
    with errors.open("w") as file:
        process = start(arguments(footage, out, *EVERY), stderr=file)
    told = Told(process, errors)
    try:
        told.until(lambda: newest(out) >= 10)  # the avatar of the first is there too
        fill(process.pid)
        told.wait("not saved at step")
        told.wait("not saved at step", after=len(told.lines))
        before = newest(out)
        assert before >= 10
        load_avatar(out / "avatar.safetensors")
        free(process.pid)
        told.until(lambda: newest(out) > before)
        told.until(lambda: max(losses(out)) > before)
        every = list(losses(out))
        assert every == list(range(1, len(every) + 1))
        said = "\n".join(told.lines)
        assert re.search(r"not saved at step \d+, training goes on: .*: cannot be written: ", said)
        assert (
            len(re.findall(r"log\.jsonl: cannot be written: .* wait until there is room", said)) < 2
        )
        assert re.search(r"training goes on: .*validations_fine.*\.png: cannot be written", said)
        assert "Traceback" not in said

        at = len(told.lines)
        fill(process.pid)
        told.wait("not saved at step", after=at)
        process.terminate()
        process.wait(60)
        assert process.returncode == 2
        last = told.lines[-1]
        assert re.fullmatch(r"error: .*step_\d+\.safetensors: cannot be written: .*", last)
        assert "Traceback" not in errors.read_text()
        assert newest(out) > before
        assert not list(out.rglob("*.part"))
    finally:
        process.kill()
        process.wait()


def test_a_full_disk_is_told_and_survived(footage: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:

        def fill(pid: int) -> None:
            with (disk / "ballast").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"0" * 4096)
                except OSError:
                    pass

        def free(pid: int) -> None:
            (disk / "ballast").unlink()

        check_survival(footage, disk / "out", tmp_path / "errors", fill, free)
        assert "No space left on device" in (tmp_path / "errors").read_text()


def test_files_that_may_not_grow_are_told_and_survived(footage: Path, tmp_path: Path) -> None:
    """The same by a limit on the length of files, which needs no disk of its own."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limit(pid: int, length: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (length, hard))

    check_survival(
        footage, tmp_path / "out", tmp_path / "errors",
        lambda pid: limit(pid, SMALL), lambda pid: limit(pid, hard),
    )  # fmt: skip
    assert os.strerror(errno.EFBIG) in (tmp_path / "errors").read_text()
