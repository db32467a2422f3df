"""Photographs that cannot be used: each is named in one line, and what was trained survives."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from test_training import ROOT, arguments, losses, run, start, wait_for_step

from ash_core.files.dataset import image_path
from ash_core.training.checkpoints import newest_checkpoint

BROKEN = b"\x89PNG\r\n\x1a\nbroken"


@pytest.fixture
def data(footage: Path, tmp_path: Path) -> Path:
    """A copy of the footage, to spoil."""
    return Path(shutil.copytree(footage, tmp_path / "data"))


def png(picture: PillowImage.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def of(path: Path) -> PillowImage.Image:
    return PillowImage.open(path)


def empty(path: Path) -> bytes:
    pixels = np.array(of(path))
    pixels[..., 3] = 0
    return png(PillowImage.fromarray(pixels))


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (lambda path: BROKEN, "expected a .png or .jpg image"),
        (lambda path: path.read_bytes()[:1500], "expected an image, could not decode it"),
        (lambda path: png(of(path).resize((90, 72))), "expected 96 x 72 px as its camera's others"),
        (lambda path: png(of(path).convert("RGB")), "expected RGB with alpha, got no alpha"),
        (lambda path: png(of(path).convert("I;16")), "expected 8 bits a channel, got mode I;16"),
        (lambda path: b"", "expected a .png or .jpg image"),
    ],
    ids=["broken", "truncated", "other size", "no alpha", "16 bits", "no bytes"],
)
def test_an_unusable_image_is_named(
    data: Path, capsys: pytest.CaptureFixture[str], spoiled: Callable[[Path], bytes], said: str
) -> None:
    path = image_path(data, "training", 1, 3)
    path.write_bytes(spoiled(path))
    assert run(*arguments(data, data / "out")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"error: .*/image_c_001_f_000003\.png: {re.escape(said)}.*", last)


def test_missing_and_empty_images_are_listed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_path(data, "training", 1, 3).unlink()
    path = image_path(data, "training", 0, 4)
    path.write_bytes(empty(path))
    assert run(*arguments(data, data / "out", "--steps", 2)) == 0
    notes = capsys.readouterr().err
    assert "training/images: 1 of 12 pictures are missing: image_c_001_f_000003.png\n" in notes
    who = "1 pictures show nobody, their masks are empty: image_c_000_f_000004.png"
    assert f"training/images: {who}\n" in notes


def test_masks_that_are_all_empty_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / "training" / "images").rglob("*.png"):
        path.write_bytes(empty(path))
    assert run(*arguments(data, data / "out", "--test-cameras", "none")) == 2
    assert "expected somebody in it, got an empty mask" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["the image", "its folder"])
def test_an_image_that_may_not_be_read_says_so(footage: Path, tmp_path: Path, closed: str) -> None:
    path = tmp_path / "shelf" / "image_c_001_f_000003.png"
    path.parent.mkdir()
    shutil.copy(image_path(footage, "training", 1, 3), path)
    tmp_path.chmod(0o755)
    (path if closed == "the image" else path.parent).chmod(0)
    code = "import sys, os, pathlib; from ash_core.files.dataset import read_masked_crop as read\n"
    code += "os.chdir(sys.argv[1])\n"
    code += "if os.getuid() == 0: os.setuid(65534)\n"  # root reads everything
    code += "read(pathlib.Path(sys.argv[2]))"
    words = [sys.executable, "-c", code, str(tmp_path), f"shelf/{path.name}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    path.parent.chmod(0o755)
    want = f"InputError: shelf/{path.name}: cannot be read: Permission denied"
    assert done.stderr.splitlines()[-1].endswith(want)


def test_an_image_that_breaks_while_training_leaves_the_state(data: Path) -> None:
    out = data / "out"
    process = start(arguments(data, out, "--steps", 100000, "--keep", "files"))
    wait_for_step(process, out, 2)
    for frame in range(6):
        image_path(data, "training", 1, frame).write_bytes(BROKEN)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert re.search(r"image_c_001_f_00000\d.png: expected", errors)
    found = newest_checkpoint(out / "checkpoints")
    assert found is not None
    # The other process may end between a step and the sum of its losses.
    assert found[1].step - max(losses(out)) in (0, 1)


def test_the_end_of_one_process_leaves_the_state(data: Path) -> None:
    """The first saves what was done when another is gone: killed, or stopped by an image."""
    out = data / "out"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += ["-m", "ash_core.cli", *arguments(data, out, "--steps", 100000)]
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_step(process, out, 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    second = [n for n in children if b"\0RANK=1\0" in Path(f"/proc/{n}/environ").read_bytes()]
    os.kill(int(second[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "error: process 0: another process of this training has ended" in errors
    found = newest_checkpoint(out / "checkpoints")
    assert found is not None
    # The other may end between a step and its line in the log.
    assert found[1].step - max(losses(out)) in (0, 1)
