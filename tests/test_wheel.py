"""The built wheel outside the checkout: what it requires is enough for its first runs.

The environment has the wheel and links to the packages that it requires, not one more, so that a
test costs no download. `make test-wheel` runs the same tests in an environment made by pip alone,
whose `ash-studio` is named by ASH_WHEEL.
"""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image as PillowImage
from PIL import ImageGrab
from test_cli import interrupt, read_frames
from x_server import lacks, x_server

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300.0

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Environment:
    """An environment with the wheel in it, and an empty folder to work in."""

    program: Path
    """Its `ash-studio`."""
    folder: Path
    packages: Path | None
    """Folder of its packages, to be linked; None where pip installs them."""

    def run(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *words],
            cwd=self.folder,
            env=self.variables() | changes,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def variables(self) -> dict[str, str]:
        """Nothing leads back to the checkout or to a display, and HOME is new."""
        hidden = ("PYTHONPATH", "DISPLAY", "WAYLAND_DISPLAY", "XDG_CONFIG_HOME", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        path = os.pathsep.join((str(self.program.parent), kept["PATH"]))
        return kept | {"HOME": str(self.folder / "home"), "PATH": path}


def link_requirements(packages: Path, extra: str = "") -> None:
    """Link what ash-studio requires, and what that requires, from the environment of the tests."""
    (ours,) = importlib.metadata.distributions(name="ash-studio", path=[str(packages)])
    waiting, seen = [(ours, extra)], set()
    while waiting:
        distribution, extra = waiting.pop()
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            for name in {"", *requirement.extras}:
                if (requirement.name, name) not in seen:
                    seen.add((requirement.name, name))
                    waiting.append((importlib.metadata.distribution(requirement.name), name))
        if distribution is not ours:
            link_distribution(distribution, packages)


def link_distribution(distribution: importlib.metadata.Distribution, packages: Path) -> None:
    """Link a package's folders and modules beside the wheel; folders of scripts are left out."""
    for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        link = packages / name
        if not link.exists():
            link.symlink_to(Path(str(distribution.locate_file(name))))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Install the wheel without extras."""
    folder = tmp_path_factory.mktemp("wheel")
    work = folder / "work"
    (work / "home").mkdir(parents=True)
    if "ASH_WHEEL" in os.environ:
        return Environment(Path(os.environ["ASH_WHEEL"]), work, None)
    python = folder / "env" / "bin" / "python"
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    name = check(sys.executable, "-c", build, str(folder), cwd=ROOT).split()[-1]
    check(sys.executable, "-m", "venv", "--without-pip", str(folder / "env"))
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet")
    check(*pip, "--no-deps", "--no-index", str(folder / name))
    packages = Path(
        check(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    link_requirements(packages)
    return Environment(python.parent / "ash-studio", work, packages)


def check(*command: str, **options: Any) -> str:
    """Run a command that must not fail; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def refusal(bare: Environment) -> subprocess.CompletedProcess[str]:
    """Ask for the window before its extra is installed."""
    return bare.run("view", "--headless-check", "refused.png")


@pytest.fixture(scope="module")
def windowed(bare: Environment, refusal: subprocess.CompletedProcess[str]) -> Environment:
    """Install the extra of the window: run the command that the refusal names."""
    if bare.packages is None:
        command = refusal.stderr.split(" is not installed: ")[-1]
        check("bash", "-c", command, env=bare.variables())
    else:
        link_requirements(bare.packages, "gui")
    return bare


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a run that a user's mistake ended."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_demo_writes_video_contact_sheet_and_timings(bare: Environment) -> None:
    done = bare.run("demo", "--seconds", "4")
    assert done.returncode == 0, done.stderr
    demo = bare.folder / "demo"
    names = sorted(path.name for path in demo.iterdir())
    assert names == ["avatar.mp4", "contact_sheet.png", "timings.json"]
    # Somebody is there all the time.
    frames = read_frames(demo / "avatar.mp4")
    assert frames.shape == (100, 480, 640, 3)
    assert frames.std(axis=(1, 2, 3)).min() > 5
    for frame in frames[::20]:
        assert_shows_somebody(frame)
    sheet = np.asarray(PillowImage.open(demo / "contact_sheet.png").convert("RGB"))
    assert sheet.shape[1] > 4 * 320
    assert sheet.shape[0] > 3 * 240
    assert_shows_somebody(sheet)
    # Every stage of a frame has its time.
    timings = json.loads((demo / "timings.json").read_text())
    assert (timings["frames"], timings["size"]) == (100, [640, 480])
    stages = {"deform", "maps", "decode", "assemble", "raster"}
    assert set(timings["milliseconds"]) == stages | {"pose to pixels"}
    medians = {name: spread["median"] for name, spread in timings["milliseconds"].items()}
    assert min(medians.values()) > 0
    assert max(medians[stage] for stage in stages) < medians["pose to pixels"]


def assert_shows_somebody(picture: np.ndarray) -> None:
    """Neither black nor empty: ida's red skirt and dark hair are on a light ground."""
    picture = picture.astype(int)
    assert picture.mean() > 60
    red = picture[..., 0] > picture[..., 2] + 60
    assert 0.002 < red.mean() < 0.2
    assert (picture.max(-1) < 90).mean() > 0.002


def test_the_code_is_the_wheels(bare: Environment) -> None:
    python = str(bare.program.parent / "python")
    script = "import ash_core, viewer; print(ash_core.__file__, viewer.__file__)"
    printed = check(python, "-c", script, cwd=bare.folder, env=bare.variables())
    assert printed.count("site-packages") == 2, printed


def test_the_window_names_its_extra(
    bare: Environment, refusal: subprocess.CompletedProcess[str]
) -> None:
    line = one_error(refusal)
    assert "imgui_bundle is not installed: " in line
    assert "install" in line
    assert "'ash-studio[gui]'" in line
    assert not (bare.folder / "refused.png").exists()


def test_an_unknown_option_and_an_unknown_avatar_are_one_line(bare: Environment) -> None:
    wrong_option = one_error(bare.run("render", "actor", "--sizes", "2"))
    assert "unrecognized options: --sizes" in wrong_option
    wrong_name = one_error(bare.run("render", "nobody", "--out", "a.mp4"))
    assert "nobody: no such avatar file" in wrong_name


def test_ctrl_c_leaves_a_playable_file(bare: Environment) -> None:
    words = ("render", "actor", "--motion", "dance", "--out", "a.mp4", "--size", "160x120")
    out = bare.folder / "a.mp4"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [bare.program, *words],
            cwd=bare.folder,
            env=bare.variables(),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    interrupt(start, out, signal.SIGINT)
    assert len(read_frames(out)) > 0


def test_headless_check(windowed: Environment) -> None:
    done = windowed.run("view", "--device", "cpu", "--headless-check", "window.png")
    assert done.returncode == 0, done.stderr
    picture = np.asarray(PillowImage.open(windowed.folder / "window.png").convert("RGB"))
    assert picture.shape == (800, 1280, 3)
    assert skirt(picture) > 2000


def skirt(picture: np.ndarray) -> int:
    """Pixels of ida's skirt in the middle of the window."""
    view = picture[60:640, 300:980].astype(int)
    return int((view[..., 0] > view[..., 2] + 60).sum())


def test_without_a_display_there_is_one_line(windowed: Environment) -> None:
    line = one_error(windowed.run("view", "--device", "cpu"))
    assert re.search("display", line, re.IGNORECASE), line


@pytest.mark.skipif(bool(lacks("Xvfb")), reason="no Xvfb: apt install xvfb")
def test_the_window_shows_the_avatar_and_ends_by_ctrl_c(windowed: Environment) -> None:
    with x_server() as display:
        running = subprocess.Popen(
            [windowed.program, "view", "--device", "cpu"],
            cwd=windowed.folder,
            env=windowed.variables() | {"DISPLAY": display},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            seen, end = 0, time.monotonic() + PATIENCE_S
            while seen < 2000 and time.monotonic() < end and running.poll() is None:
                time.sleep(0.2)
                seen = skirt(np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB")))
            assert running.poll() is None, running.communicate()[1]
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=PATIENCE_S)
        finally:
            running.kill()
    assert seen >= 2000
    assert running.returncode == 130, errors
    assert "Traceback" not in errors
