"""Hints on installing: the right pip, and what it can find, for each way of having ash-studio."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from ash_core import cli, install

ROOT = Path(__file__).resolve().parent.parent


class Installed:
    """Pip's record of an installation: its origin, unless that is an index."""

    def __init__(self, **source: object) -> None:
        self.source = source

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return json.dumps(self.source) if self.source else None


INDEX = Installed()
WHEEL = Installed(url="file:///a%20b/ash_studio-1.whl", archive_info={})
CHECKOUT = Installed(url="file:///code/ash", dir_info={"editable": True})
GIT = Installed(url="https://host/ash", vcs_info={"vcs": "git", "commit_id": "1"})


@pytest.fixture(autouse=True)
def activated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pip on the path is that of the running Python."""
    monkeypatch.setattr(sys, "executable", "/env/bin/python")
    monkeypatch.setattr(sys, "prefix", "/env")
    monkeypatch.setattr(shutil, "which", lambda _: "/env/bin/pip")


def came_from(monkeypatch: pytest.MonkeyPatch, source: Installed | None) -> None:
    monkeypatch.setattr(install, "_distribution", lambda: source)


@pytest.mark.parametrize("source", [INDEX, WHEEL, CHECKOUT, GIT])
def test_what_is_installed_goes_by_its_name(
    monkeypatch: pytest.MonkeyPatch, source: Installed
) -> None:
    came_from(monkeypatch, source)
    assert install.install_command("gui") == "pip install 'ash-studio[gui]'"
    assert install.install_command() == "pip install ash-studio"


def test_what_is_not_installed_goes_by_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    came_from(monkeypatch, None)
    assert install.install_command("gui") == f"pip install -e '{ROOT}[gui]'"
    assert install.reinstall_command() == f"pip install --force-reinstall -e {ROOT}"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (INDEX, "ash-studio"),
        (WHEEL, "'/a b/ash_studio-1.whl'"),
        (CHECKOUT, "-e /code/ash"),
        (GIT, "git+https://host/ash"),
    ],
)
def test_a_new_installation_comes_from_where_the_old_one_came(
    monkeypatch: pytest.MonkeyPatch, source: Installed, target: str
) -> None:
    came_from(monkeypatch, source)
    assert install.reinstall_command() == f"pip install --force-reinstall {target}"


def test_what_make_installed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    came_from(monkeypatch, CHECKOUT)
    monkeypatch.setattr(sys, "prefix", "/code/ash/.venv")
    assert install.reinstall_command() == "rm -r /code/ash/.venv && make -C /code/ash setup"


def test_the_pip_is_that_of_the_running_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/pip")
    assert install.pip_install("gsplat") == "/env/bin/python -m pip install gsplat"
    monkeypatch.setattr(install, "find_spec", lambda _: None)
    assert install.pip_install("gsplat") == "uv pip install --python /env/bin/python gsplat"


def test_a_requirement_that_is_gone_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'av'", name="av")

    came_from(monkeypatch, WHEEL)
    monkeypatch.setattr("ash_core.commands.render.load_drawable", fail)
    assert cli.main(["render", "actor", "--out", str(tmp_path / "a.mp4")]) == 2
    assert capsys.readouterr().err == (
        "error: the package av is not installed: pip install ash-studio\n"
    )
