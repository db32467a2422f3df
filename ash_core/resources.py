"""Find `assets/` and `shaders/`, in a checkout and in an installed wheel alike."""

import os
from pathlib import Path
from typing import Final

KINDS: Final = ("assets", "shaders")
"""Folders beside the package; pyproject.toml puts each of them into the wheel."""

_PACKAGE = Path(__file__).resolve().parent


def resource(kind: str, name: str = "") -> Path:
    """Find a bundled file or folder; kind is one of KINDS.

    A wheel carries them inside the package (`_assets`, `_shaders`), a checkout beside it.
    """
    assert kind in KINDS, kind
    installed = _PACKAGE / f"_{kind}"
    base = installed if installed.is_dir() else _PACKAGE.parent / kind
    return base / name if name else base


def cache_folder() -> Path:
    """Return the user's cache folder for compiled kernels (XDG_CACHE_HOME or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ash-studio"


def usable_cores() -> int:
    """Count the cores that scheduler and control group allow, at least one."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    try:
        quota = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except OSError:
        quota = []
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, round(int(quota[0]) / int(quota[1])))
    return max(cores, 1)
