"""Real windows on an X server: sizes, large screens, a configuration folder that is closed."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from toy import make_toy_character
from x_server import lacks, x_server

from ash_core.files.avatar_file import save_avatar
from ash_core.files.released import import_ash

pytestmark = pytest.mark.skipif(bool(lacks("Xvfb")), reason="no Xvfb: apt install xvfb")
PATIENCE_S = 120.0


@pytest.fixture
def display(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start a server of this test's own. Its parameter is the screen's size."""
    with x_server(getattr(request, "param", "1280x800")) as number:
        yield number


RESIZED = """
import json, os, sys
from pathlib import Path
import glfw
from imgui_bundle import immapp
from viewer import commands, window
from viewer.session import Session
session = Session(sys.argv[1], sys.argv[2], "cpu")
app = window.App(session, interop=True)
immapp.manual_render.setup_from_runner_params(app.params(), immapp.AddOnsParams())
handle = glfw.get_current_context()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def resize(times):
    seen = set()
    for n in range(times):
        glfw.set_window_size(handle, 160 + 37 * n % 480, 120 + 53 * n % 300)
        for _ in range(2):
            immapp.manual_render.render()
        seen.add(session.clock.frame)
    return seen

commands.run(session, "time.play")
resize(200)
before = resident()
seen = resize(300)
said = {
    "grown_mb": (resident() - before) / 2**20,
    "played": session.clock.playing and len(seen) > 1,
    "error": app.engine.error,
}
immapp.manual_render.tear_down()
print(json.dumps(said))
"""


def said_by(script: str, display: str, folder: Path, *arguments: str) -> dict:
    """What a script with a window on that display prints last."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={
            **os.environ,
            "DISPLAY": display,
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_five_hundred_sizes_while_it_plays(display: str, tmp_path: Path) -> None:
    # Not on GLFW's null platform: there an empty window grows with every size.
    toy = make_toy_character(tmp_path / "toy")
    data = replace(import_ash(toy.conf)[0], decoder={"atlas": 32, "width": 8, "sh_degree": 1})
    save_avatar(tmp_path / "toy.safetensors", data)  # small: each size takes a new image of it
    said = said_by(RESIZED, display, tmp_path, str(tmp_path / "toy.safetensors"), str(toy.motion))
    assert said["played"]
    assert said["error"] is None
    assert said["grown_mb"] < 60, said


LARGE = """
import json, os, sys, time
import glfw
from PIL import ImageGrab
from imgui_bundle import imgui, immapp
from viewer import commands, window
from viewer.session import Session
session = Session("actor", device="cpu", preset="cpu")
session.preferences.change(scale=1.5)
commands.run(session, "window.help")
app = window.App(session, interop=True)
immapp.manual_render.setup_from_runner_params(app.params(), immapp.AddOnsParams())
handle = glfw.get_current_context()
glfw.set_window_pos(handle, 0, 0)
glfw.set_window_size(handle, 2560, 1440)
quiet, end = 0, time.monotonic() + 100
while quiet < 10 and time.monotonic() < end:
    immapp.manual_render.render()
    quiet = quiet + 1 if app.settled else 0
    time.sleep(0.005)
boxes = {}
for name in ("View", "Motions", "Pose", "Look", "Atlas", "Timeline", "Keys and help"):
    its = imgui.internal.find_window_by_name(name)
    boxes[name] = [its.pos.x, its.pos.y, its.pos.x + its.size.x, its.pos.y + its.size.y]
ImageGrab.grab(xdisplay=os.environ["DISPLAY"]).save(sys.argv[1])
immapp.manual_render.tear_down()
print(json.dumps(boxes))
"""


@pytest.mark.parametrize("display", ["2560x1440"], indirect=True)
def test_a_large_screen_is_used_whole(display: str, tmp_path: Path) -> None:
    """With larger text: panels side by side, none over the edge, most of it the picture."""
    boxes = said_by(LARGE, display, tmp_path, str(tmp_path / "large.png"))
    for name, (left, top, right, bottom) in boxes.items():
        assert 0 <= left < right <= 2560, name
        assert 0 <= top < bottom <= 1440, name
        assert right - left > 300, name
    panels = [box for name, box in boxes.items() if name != "Keys and help"]
    for one, other in itertools.combinations(panels, 2):
        across = min(one[2], other[2]) - max(one[0], other[0])
        down = min(one[3], other[3]) - max(one[1], other[1])
        assert min(across, down) <= 0, (one, other)
    left, top, right, bottom = boxes["View"]
    assert (right - left) * (bottom - top) > 0.4 * 2560 * 1440
    picture = np.asarray(PillowImage.open(tmp_path / "large.png").convert("RGB"))
    covered = picture.reshape(24, 60, 40, 64, 3).std((1, 3)).max(-1)  # of 24 x 40 places
    assert (covered.max(1) > 5).all()  # nothing is left black from edge to edge
    assert (covered.max(0) > 5).all()


CLOSED = """
import json
from imgui_bundle import immapp
from viewer import window
from ash_core.scene.preferences import PreferenceStore, preferences_file
from viewer.session import Session
store = PreferenceStore(preferences_file())
session = Session("actor", device="cpu", preset="cpu", preferences=store)
app = window.App(session, kept_in=window.autosave_folder())
params = app.params()
window.keep_layout_if_possible(session, params)
immapp.manual_render.setup_from_runner_params(params, immapp.AddOnsParams())
store.change(theme="light")
for _ in range(5):
    immapp.manual_render.render()
immapp.manual_render.tear_down()
print(json.dumps([message.text for message in session.messages]))
"""


def test_a_closed_configuration_folder_is_reported_once_and_the_window_opens(
    display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "a file"
    closed.write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(closed))
    places, preferences = said_by(CLOSED, display, tmp_path)
    assert places.startswith(f"{closed}/ash-studio: the places of the panels are not kept")
    assert preferences.startswith(f"{closed}/ash-studio/preferences.json: cannot be written")
