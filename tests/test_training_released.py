"""Training of the published networks begins with, and leaves, the published checkpoint."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_training import arguments, losses, run

ONE_PICTURE = ("--frames", 0, "--test-cameras", "1,2", "--crop", "96x72")
RELEASED = ("--variant", "released", "--atlas", 32, "--views-per-pose", 1, "--warm-up-steps", 0)


def released(footage: Path, out: Path, *more: object) -> list[str]:
    """Every step sees the same picture."""
    return arguments(footage, out, *ONE_PICTURE, *RELEASED, *more)


@pytest.fixture(scope="module")
def short(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two steps of a training. Its files are large."""
    out = tmp_path_factory.mktemp("released")
    assert run(*released(footage, out, "--steps", 2)) == 0
    yield out
    shutil.rmtree(out)


def test_another_training_begins_where_the_checkpoint_ends(
    footage: Path, short: Path, tmp_path: Path
) -> None:
    begun = ("--gaussian-checkpoint", short / "gaussian_checkpoints.tar", "--steps", 1)
    assert run(*released(footage, tmp_path, *begun)) == 0
    assert run(*released(footage, short, "--steps", 3, "--resume")) == 0
    whole = losses(short)
    assert whole[3] < whole[1]
    assert losses(tmp_path)[1] == whole[3]
    shutil.rmtree(tmp_path)


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no checkpoint", "expected a torch checkpoint"),
        (saved({"iter_step": 3}), "missing unet_geometry, unet_appearance"),
        (saved({"unet_geometry": {"inc.weight": torch.zeros(3)}}), "missing unet_appearance"),
        (None, "found no file"),
    ],
    ids=["text", "no networks", "others", "nothing there"],
)
def test_a_wrong_checkpoint_is_told_in_one_line(
    footage: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    said: str,
) -> None:
    path = tmp_path / "wrong.tar"
    if content is not None:
        path.write_bytes(content)
    assert run(*released(footage, tmp_path / "out", "--gaussian-checkpoint", path)) == 2
    last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(last) == 1
    assert str(path) in last[0]
    assert said in last[0]


def test_a_checkpoint_of_the_published_networks_is_refused_by_others(
    footage: Path, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--gaussian-checkpoint", short / "gaussian_checkpoints.tar")
    assert run(*arguments(footage, tmp_path, *more)) == 2
    assert "--gaussian-checkpoint: expected none for the native variant" in capsys.readouterr().err
