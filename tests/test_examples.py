"""Examples and the code of docs/library.md run as they are written."""

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ash_core as ash
from ash_core.splat import rasterize as rasterizing

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
LONGEST = 60
"""Lines of an example."""

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example as `python examples/NAME ARGUMENTS` would; returns what it printed."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_examples_are_short_and_listed() -> None:
    listed = re.findall(r"`examples/(\S+)`", (ROOT / "docs" / "library.md").read_text())
    files = [path for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")]
    for path in files:
        assert path.name in listed
        if path.suffix == ".py":
            assert len(path.read_text().splitlines()) <= LONGEST, path


def test_render_frame(run: Run, tmp_path: Path) -> None:
    run("render_frame.py", "--out", tmp_path, "--height", 96)
    assert opened(tmp_path / "colour.png").shape == (96, 72, 3)
    alpha = opened(tmp_path / "transparent.png")[..., 3]
    assert 0.05 < (alpha > 128).mean() < 0.6
    depth = opened(tmp_path / "depth.png")
    assert len(np.unique(depth[alpha > 250], axis=0)) > 20


def test_an_example_runs_from_a_checkout(tmp_path: Path) -> None:
    """One of them by a process of its own, as a person runs it."""
    command = [sys.executable, "examples/render_frame.py", "--out", str(tmp_path), "--height", "48"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": "."})
    assert (tmp_path / "colour.png").exists()


def test_orbit_video(run: Run, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    run("orbit_video.py", "--out", tmp_path, "--frames", 4, "--height", 64)
    with av.open(str(tmp_path / "orbit.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in frames] == [(64, 48, 3)] * 4
    assert np.abs(frames[0].astype(int) - frames[2]).mean() > 2


def test_pose_by_joint(run: Run, tmp_path: Path) -> None:
    run("pose_by_joint.py", "--out", tmp_path, "--height", 64)
    rest, *others = np.split(opened(tmp_path / "poses.png").astype(int), 4, axis=1)
    for pose in others:
        assert np.abs(pose - rest).mean() > 0.5


def test_fit_picture(run: Run, tmp_path: Path) -> None:
    printed = run("fit_picture.py", "--out", tmp_path, "--steps", 80)
    before, after = map(float, re.findall(r"([\d.]+) (?:before|after)", printed))
    assert before > 10 * after
    assert opened(tmp_path / "fit.png").shape == (128, 3 * 96, 3)


def test_train_toy(run: Run, tmp_path: Path) -> None:
    printed = run("train_toy.py", "--out", tmp_path, "--steps", 40, "--views", 3)
    (gain,) = re.findall(r"novel view: ([+-][\d.]+) dB", printed)
    assert float(gain) > 0.5
    assert (tmp_path / "after" / "pictures.png").exists()


def test_own_rasterizer(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws what the definition draws, up to light that its pixels do not stop at."""
    monkeypatch.setattr(rasterizing, "_BACKENDS", dict(rasterizing._BUILT_IN))
    run("own_rasterizer.py", "--out", tmp_path)
    assert opened(tmp_path / "own.png").shape == (96, 72, 3)
    torch.manual_seed(0)
    count = 60
    gaussians = ash.Gaussians(
        torch.randn(count, 3) * 0.3 + torch.tensor([0.0, 0.0, 2.0]),
        torch.nn.functional.normalize(torch.randn(count, 4), dim=1),
        torch.rand(count, 3) * 0.1 + 0.01,
        torch.rand(count),
        torch.randn(count, 1, 3),
    )
    camera = ash.Camera.from_arrays(np.eye(4), [[40, 0, 16], [0, 40, 12], [0, 0, 1]], 32, 24)
    for background in (None, (0.2, 0.4, 0.6)):
        ours, definition = (
            ash.rasterize(gaussians, camera, background, backend=name)
            for name in ("own", "reference")
        )
        for part in ("rgb", "alpha", "depth"):
            assert torch.allclose(getattr(ours, part), getattr(definition, part), atol=2e-3), part


def test_the_notebook_s_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    names: dict[str, Any] = {}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert sum(len(cell["source"]) for cell in code) <= 15
    for cell in code:
        assert cell["outputs"] == []
        *lines, last = "".join(cell["source"]).splitlines()
        exec("\n".join(lines), names)
        value = eval(last, names)
        if isinstance(value, ash.RenderedImage):
            assert value._repr_png_().startswith(b"\x89PNG")
    assert (tmp_path / "ida.mp4").exists()


def test_the_code_of_the_guide_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ten lines, then the blocks after them, which take their names as given."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "library.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    ten = [line for line in blocks[0].splitlines() if line.strip()]
    assert len(ten) == 10
    for block in blocks:
        exec(block.replace("minutes=1", "minutes=0.05").replace("progress=print", ""), names)
    assert opened(tmp_path / "ida.png").shape == (640, 480, 3)
    assert names["depth"].shape == (640, 480)
    assert (tmp_path / "ida.mp4").exists()
    assert (tmp_path / "report" / "report.txt").exists()
