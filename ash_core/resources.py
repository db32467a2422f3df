"""Find `assets/` and `shaders/`, in a checkout and in an installed wheel alike."""

import os
from pathlib import Path
from typing import Final

KINDS: Final = ("assets", "shaders")
"""Folders beside the package; pyproject.toml puts each of them into the wheel."""

_PACKAGE = Path(__file__).resolve().parent


def resource(kind: str, name: str = "") -> Path:
    """Path of a bundled file or folder; kind is one of KINDS.

    A wheel carries the folders inside the package (`_assets`, `_shaders`); a checkout has them beside it.
    """
    assert kind in KINDS, kind
    installed = _PACKAGE / f"_{kind}"
    base = installed if installed.is_dir() else _PACKAGE.parent / kind
    return base / name if name else base


def cache_folder() -> Path:
    """The user's cache folder for compiled kernels (XDG_CACHE_HOME or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ash-studio"
