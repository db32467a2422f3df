"""Find `assets/` and `shaders/`, in a checkout and in an installed wheel alike."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(kind: str, name: str = "") -> Path:
    """Path of a bundled file or folder; kind is "assets" or "shaders".

    A wheel carries both folders inside the package (`_assets`, `_shaders`); a checkout has them
    beside it.
    """
    assert kind in ("assets", "shaders"), kind
    installed = _PACKAGE / f"_{kind}"
    base = installed if installed.is_dir() else _PACKAGE.parent / kind
    return base / name if name else base


def cache_folder() -> Path:
    """The user's cache folder for compiled kernels (XDG_CACHE_HOME or ~/.cache)."""
    import os

    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ash-studio"
