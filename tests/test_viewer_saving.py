"""Files and pictures made beside the window: right, told, and never waited for."""

import dataclasses
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from toy import make_toy_character

from ash_core.errors import InputError
from ash_core.files.avatar_file import save_avatar
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.files.splats import read_splats
from viewer import saving
from viewer.session import Session

DECODER = {"atlas": 32, "width": 8, "sh_degree": 1}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    toy = make_toy_character(tmp_path_factory.mktemp("toy"))
    data, _ = import_ash(toy.conf)
    save_avatar(toy.folder / "toy.safetensors", dataclasses.replace(data, decoder=DECODER))
    return Session(str(toy.folder / "toy.safetensors"), str(toy.motion), "cpu")


@pytest.mark.parametrize("background", ["white", "transparent"])
def test_a_screenshot_is_the_request_s_picture(
    session: Session, tmp_path: Path, background: str
) -> None:
    session.edit("background", background=background)
    out, request = tmp_path / "a.png", session.request_shown(90, 70)
    said = saving.save_picture(session.renderer, request, out, threading.Lock())
    assert said.startswith(f"{out}: 90x70")
    with PillowImage.open(out) as picture:
        assert picture.size == (90, 70)
        assert picture.mode == ("RGBA" if background == "transparent" else "RGB")
        pixels = np.asarray(picture).copy()
    want = session.renderer.render(request)
    if background == "white":
        assert np.array_equal(pixels, want.to_numpy())
    else:
        assert np.abs(pixels[..., 3] / 255 - want.alpha.numpy()).max() < 0.01


def test_splats_and_poses_are_read_again(session: Session, tmp_path: Path) -> None:
    session.clock.seek(3)
    request, lock = session.request_shown(4, 4), threading.Lock()
    saving.save_splats(session.renderer, request, tmp_path / "a.ply", lock)
    want = session.renderer.gaussians(request.window)
    torch.testing.assert_close(read_splats(tmp_path / "a.ply").gaussians.means, want.means)
    saving.save_pose(tmp_path / "a.motion", session.dofs())
    dofs = read_motion(tmp_path / "a.motion", session.data.skeleton).dofs
    torch.testing.assert_close(dofs, session.dofs()[None], atol=1e-8, rtol=0.0)


def test_new_files_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        names.append(saving.new_file("txt"))
        names[-1].write_text("")
    assert len(set(names)) == 3


def test_who_asks_does_not_wait_and_is_told() -> None:
    """In the order asked; of errors one line; nothing is said before it is collected."""
    said: list[tuple[str, str]] = []
    saver = saving.Saver(lambda text, severity: said.append((text, severity)))
    gate = threading.Event()

    def slow() -> str:
        assert gate.wait(30)
        return "done"

    def wrong() -> str:
        raise RuntimeError("no room\nand much more")

    saver.start(slow)
    saver.start(wrong)  # neither waits: the gate is shut
    saver.collect()
    assert saver.busy
    assert said == []
    gate.set()
    saver.close()
    assert said == [("done", "info"), ("no room", "error")]
    assert not saver.busy


def test_without_a_tool_there_is_one_line(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(InputError, match="install wl-copy or xclip"):
        saving.copy_picture(session.renderer, session.request_shown(8, 8), threading.Lock())


@pytest.fixture
def display() -> Iterator[str]:
    ours, its = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(its), "-screen", "0", "64x64x24", "-nolisten", "tcp"],
        pass_fds=[its],
        stderr=subprocess.DEVNULL,
    )
    os.close(its)
    try:
        yield f":{os.read(ours, 16).decode().strip()}"
    finally:
        os.close(ours)
        server.terminate()
        server.wait(30)


@pytest.mark.skipif(
    not (shutil.which("xclip") and shutil.which("Xvfb")), reason="apt install xclip xvfb"
)
def test_a_picture_is_pasted_by_another_program(
    session: Session, display: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    session.edit("background", background="transparent")
    request = session.request_shown(90, 70)
    said = saving.copy_picture(session.renderer, request, threading.Lock())
    assert said == "picture copied: 90x70"
    paste = ["xclip", "-selection", "clipboard", "-t", "image/png", "-o"]
    content = subprocess.run(paste, capture_output=True, check=True, timeout=30).stdout
    want = saving.picture_of(session.renderer, request, threading.Lock())
    assert content == saving.encode_png(torch.from_numpy(want))
