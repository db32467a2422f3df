"""The public library: names, types, imports, and the examples in its docstrings."""

import ast
import dataclasses
import doctest
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ash_core as ash
from ash_core.files.cameras.published import write_cameras

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_EXAMPLE = {
    "InputError",  # raised, not made
    "LossWeights",  # shown with TrainConfig
    "PoseWindow",  # made by pose_window
    "TrainConfig",  # its docstring is the command's help
    "Trained",  # returned by train
    "View",  # returned by Scene.view
    "__version__",
}


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, ash_core; print(*sorted({'torch', 'numpy', 'numba', 'PIL'} & {*sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def seconds(code: str) -> float:
        start = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == ""
        return time.perf_counter() - start

    pairs = [(seconds(code), seconds("pass")) for _ in range(5)]
    assert min(ours for ours, _ in pairs) < 4 * min(bare for _, bare in pairs)


def test_public_names_are_the_same_for_editors_and_at_run_time() -> None:
    tree = ast.parse((ROOT / "ash_core" / "__init__.py").read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and not n.orelse)
    typed = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert [*typed] == [
        alias.asname for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names
    ]
    assert {*typed, "__version__"} == {*ash.__all__} <= {*dir(ash)}
    for name, (module, original) in typed.items():
        assert getattr(ash, name) is getattr(sys.modules[str(module)], original)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ash.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_both_packages_are_typed() -> None:
    assert (ROOT / "ash_core" / "py.typed").exists()
    assert (ROOT / "viewer" / "py.typed").exists()


def test_library_is_documented_with_an_example_each() -> None:
    for name in {*ash.__all__} - {"__version__"}:
        thing = getattr(ash, name)
        assert thing.__doc__, name
        text = f"{thing.__doc__} {getattr(thing, 'from_arrays', thing).__doc__}"
        assert name in WITHOUT_EXAMPLE or ">>>" in text, (
            f"ash.{name}: give its docstring an example"
        )


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Names that the examples of docstrings use."""
    avatar = ash.load_avatar("ida")
    camera = ash.look_at((3, 0, 1), (0, 0, 1), width=64, height=48)
    folder = tmp_path_factory.mktemp("examples")
    sides = [dataclasses.replace(camera, name=name) for name in ("front", "side")]
    write_cameras(folder / "cameras.json", sides)
    return {
        "ash": ash,
        "np": np,
        "torch": torch,
        "dataclasses": dataclasses,
        "avatar": avatar,
        "motion": ash.load_motion("dance", avatar),
        "camera": camera,
        "scene": ash.open("ida", motion="dance"),
        "gaussians": ash.Gaussians.from_arrays(
            np.array([[0, 0, 1]]), [[1, 0, 0, 0]], np.full((1, 3), 0.1), [0.9], np.zeros((1, 1, 3))
        ),
        "folder": folder,
    }


@pytest.mark.parametrize("name", [name for name in ash.__all__ if name != "__version__"])
def test_examples_in_docstrings_run(
    name: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line of an example gives what stands below it."""
    thing = getattr(ash, name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in finder.find(thing, f"ash.{name}", module=False, globs=names):
        runner.run(test)
    assert runner.tries > 0 or name in WITHOUT_EXAMPLE
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"variant": "mine"}, "variant: expected native, released, got 'mine'"),
        ({"preset": "huge"}, "preset: expected cpu, light, balanced, quality, got 'huge'"),
        ({"learning_rate": -1.0}, "learning_rate: expected more than 0, got -1.0"),
        ({"minutes": 0.0}, "minutes: expected more than 0, got 0.0"),
    ],
)
def test_wrong_settings_of_a_training_are_named_as_in_python(
    settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ash.InputError) as error:
        ash.train(tmp_path, tmp_path / "out", **settings)
    assert str(error.value) == text


def test_progress_of_a_training_reaches_a_function(tmp_path: Path) -> None:
    data = ash.make_toy(tmp_path / "toy", cameras=3, frames=2, width=64, height=64)
    seen: list[ash.Progress] = []
    ash.train(
        data, tmp_path / "out", steps=2, log_every=1, preset="cpu", device="cpu",
        progress=seen.append,
    )  # fmt: skip
    assert {"training", "note"} <= {one.what for one in seen}
    with pytest.raises(ash.InputError, match="resume goes on from it"):
        ash.train(data, tmp_path / "out", steps=2, device="cpu")
    with pytest.raises(ash.InputError, match="expected a new folder"):
        ash.make_toy(data)


def test_mistakes_are_input_errors(names: dict[str, Any], tmp_path: Path) -> None:
    avatar = names["avatar"]
    mistakes = [
        (lambda: ash.open("nobody"), "nobody: no such avatar"),
        (lambda: ash.load_avatar("a.ply"), "a.ply: no such file"),
        (lambda: ash.load_motion("nobody", avatar), "no such motion"),
        (lambda: ash.look_at((0, 0), (0, 0, 1)), r"eye: expected x, y, z, got an array \[2\]"),
        (lambda: ash.look_at((0, 0, 1), (0, 0, 1)), "expected eye and target apart"),
        (lambda: ash.pose_window(np.zeros((3, 4)), 0, avatar), r"dofs \[F, 99\], got \[3, 4\]"),
        (lambda: ash.pose_window(names["motion"], 10**6, avatar), "frame: expected 0 to"),
        (lambda: ash.evaluate("ida", tmp_path), "expected"),
        (lambda: ash.evaluate("ida", tmp_path, views=0), "views: expected 1 or more, got 0"),
    ]
    for call, text in mistakes:
        with pytest.raises(ash.InputError, match=text):
            call()
