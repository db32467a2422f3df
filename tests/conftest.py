"""Shared fixtures. Shapes written in annotations are checked while the tests run."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook(
    ["ash_core.geometry", "ash_core.networks", "ash_core.records"], "beartype.beartype"
)

from published import reference_folder  # noqa: E402

from ash_core.gpu import kernels  # noqa: E402

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder with the published code's numbers (`golden/`) and its sample (`ddc_sample/`)."""
    folder = reference_folder()
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference numbers at {folder} (set ASH_REFERENCE)")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The published code's numbers that contain nothing of its sample."""
    return HERE / "golden"


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set to train on, and `small.safetensors`, an untrained avatar of a small decoder
    to begin with. Not to be spoiled.
    """
    from train_toy import toy_footage

    return toy_footage(tmp_path_factory.mktemp("footage"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where kernels cannot run."""
    reason = kernels.missing()
    for item in items:
        if reason is not None and item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
