"""Shared fixtures. Shapes written in annotations are checked while the tests run."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

if "PYTEST_XDIST_WORKER" in os.environ:
    # Read when torch is loaded: a process for each core, so no threads beside it that wait awake.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

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


# ---- which tests, in which order ----

OUTSIDE: Final = {
    "cuda_on_cpu",
    "gl_process",
    "multiprocessing",
    "release_tree",
    "small_dataset",
    "subprocess",
    "train_toy",
    "window_process",
    "x_server",
}
"""Modules that start processes, open windows, film or train: tests of a file with one are not
quick, and neither are those that train on the fixture `footage`."""
QUICK_SECONDS: Final = 2.0
"""Processor time above which a quick test is reported."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests where kernels cannot run, mark quick ones, begin with the longest files."""
    reason = kernels.missing()
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    long_files = {item.path for item in items if not is_quick(item)}
    for item in items:
        if reason is not None and item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
        if is_quick(item):
            item.add_marker("quick")
    items.sort(key=lambda item: (item.path not in slow_files, item.path not in long_files))


def is_quick(item: pytest.Item) -> bool:
    """Tell whether a test belongs to `make quick`: by its markers and its file's imports."""
    assert isinstance(item, pytest.Function), item
    marked = any(item.get_closest_marker(name) for name in ("gpu", "slow"))
    if marked or "footage" in item.fixturenames:
        return False
    imported = {
        thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
        for thing in vars(item.module).values()
    }
    return imported.isdisjoint(OUTSIDE)


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note the processor time of a test, which other programs hardly change."""
    before = processor_seconds()
    try:
        return (yield)
    finally:
        item.user_properties.append(("processor seconds", processor_seconds() - before))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Report tests that `make quick` runs and should not."""
    if config.option.markexpr != "quick":
        return
    for report in terminalreporter.stats.get("passed", ()):
        seconds = dict(report.user_properties).get("processor seconds", 0.0)
        if seconds > QUICK_SECONDS:
            terminalreporter.write_line(f"mark as slow, {seconds:.1f} s: {report.nodeid}")
