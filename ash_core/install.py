"""Commands that install what is missing into the environment that runs, for errors and `doctor`."""

import importlib.metadata
import json
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

NAME: Final = "ash-studio"
_ROOT: Final = Path(__file__).resolve().parent.parent


def install_command(extra: str = "") -> str:
    """Return the command that installs our requirements, with those of an extra.

    The name alone does it for a checkout, a wheel and an index alike: pip takes the installed
    version's own list and asks an index for the missing packages only. A checkout that runs
    without being installed is named by its folder.
    """
    suffix = f"[{extra}]" if extra else ""
    if _distribution() is None:
        return pip_install("-e", f"{_ROOT}{suffix}")
    return pip_install(f"{NAME}{suffix}")


def reinstall_command() -> str:
    """Return the command that replaces a damaged installation by a new one from the same source."""
    distribution = _distribution()
    source = json.loads((distribution and distribution.read_text("direct_url.json")) or "{}")
    if distribution is None or source.get("dir_info", {}).get("editable"):
        root = Path(_local_path(source["url"])) if source else _ROOT
        if Path(sys.prefix) == root / ".venv":  # `make` made it, with pinned packages
            return f"rm -r {shlex.quote(sys.prefix)} && make -C {shlex.quote(str(root))} setup"
        return pip_install("--force-reinstall", "-e", str(root))
    if "vcs_info" in source:
        return pip_install("--force-reinstall", f"{source['vcs_info']['vcs']}+{source['url']}")
    return pip_install("--force-reinstall", _local_path(source["url"]) if source else NAME)


def pip_install(*arguments: str) -> str:
    """Return a shell command for the pip of the running environment, whichever pip is first."""
    python = Path(sys.executable)
    if find_spec("pip") is None:
        program = ["uv", "pip", "install", "--python", str(python)]
    elif Path(shutil.which("pip") or "").parent == python.parent:
        program = ["pip", "install"]
    else:
        program = [str(python), "-m", "pip", "install"]
    return shlex.join([*program, *arguments])


def _distribution() -> importlib.metadata.Distribution | None:
    """Return what pip knows of us; None where the code runs without being installed."""
    try:
        return importlib.metadata.distribution(NAME)
    except importlib.metadata.PackageNotFoundError:
        return None


def _local_path(url: str) -> str:
    """Return the path that a file URL names; other URLs as they are."""
    return unquote(urlsplit(url).path) if url.startswith("file:") else url
