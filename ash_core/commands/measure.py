"""Timings as medians with their spread, and the machine they were measured on."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ash_core.render import Renderer
    from ash_core.scene.record import Shot


GPU_BATCH: Final = 10
"""Number of runs between two synchronisations with the GPU."""


@dataclass(frozen=True)
class Spread:
    """Statistics of repeated timings of one work, ms."""

    median: float
    p25: float
    p75: float
    runs: int

    def __str__(self) -> str:
        digits = 1 if self.median >= 10 else 2 if self.median >= 1 else 3
        return f"{self.median:.{digits}f} ({self.p25:.{digits}f}-{self.p75:.{digits}f})"


def spread(milliseconds: Sequence[float]) -> Spread:
    """Compute median and quartiles of at least one duration, ms."""
    assert len(milliseconds) > 0, milliseconds
    values = [*milliseconds, *milliseconds] if len(milliseconds) == 1 else milliseconds
    p25, median, p75 = (round(q, 4) for q in quantiles(values, n=4, method="inclusive"))
    return Spread(median, p25, p75, len(milliseconds))


def repeat(work: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Time `work`, ms: once to warm up, then for `seconds` or at least `least` times."""
    work()
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < least or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        durations.append((time.perf_counter() - start) * 1e3)
    return durations


def repeat_on_gpu(work: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Time `work` on torch's current stream by CUDA events, ms.

    Three runs warm up, then it is timed for `seconds` or at least `least` times. The host waits for
    the GPU only after each batch: launch time counts only where the GPU runs dry.
    """
    import torch

    for _ in range(3):
        work()
    torch.cuda.synchronize()
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < least or time.perf_counter() < end:
        marks = [torch.cuda.Event(enable_timing=True)]
        marks[0].record()
        for _ in range(GPU_BATCH):
            work()
            marks.append(torch.cuda.Event(enable_timing=True))
            marks[-1].record()
        torch.cuda.synchronize()
        durations += [start.elapsed_time(stop) for start, stop in pairwise(marks)]
    return durations


def time_stages(renderer: "Renderer", shots: "Iterable[Shot]") -> dict[str, Spread]:
    """Time each stage of a frame, and the whole of it as "pose to pixels".

    Poses must differ, or the renderer's cache answers. The first shot warms up, untimed.
    """
    durations: dict[str, list[float]] = defaultdict(list)
    renderer.profile = True
    for n, shot in enumerate(shots):
        if n == 0:
            renderer.render(shot.request)
            continue
        start = time.perf_counter()
        renderer.render(shot.request)
        whole = (time.perf_counter() - start) * 1e3
        for stage, milliseconds in renderer.timings.items():
            durations[stage].append(milliseconds)
        durations["pose to pixels"].append(whole)
    renderer.profile = False
    return {stage: spread(milliseconds) for stage, milliseconds in durations.items()}


def for_seconds(shots: "Sequence[Shot]", seconds: float, least: int = 4) -> "Iterator[Shot]":
    """Yield the shots over and over until the time is up, but at least `least`."""
    end = time.perf_counter() + seconds
    count = 0
    while count < least or time.perf_counter() < end:
        yield shots[count % len(shots)]
        count += 1


def print_table(title: str, columns: Mapping[str, Mapping[str, object]]) -> None:
    """Print one row for each work, one column for each setting."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", title=title)
    for name in columns:
        table.add_column(name, justify="right")
    rows = list(dict.fromkeys(row for lines in columns.values() for row in lines))
    for row in rows:
        cells = [str(lines[row]) if row in lines else "-" for lines in columns.values()]
        table.add_row(row, *cells)
    Console().print(table)


def as_table(spreads: Mapping[str, Spread]) -> dict[str, dict[str, float]]:
    """Convert timings for JSON."""
    return {name: asdict(value) for name, value in spreads.items()}


def save_json(out: Path, content: object) -> None:
    """Write indented JSON, whole or not at all."""
    from ash_core.files.io import write_atomic

    write_atomic(out, (json.dumps(content, indent=2) + "\n").encode())


def machine() -> dict[str, Any]:
    """Collect hardware and versions, for the head of a table of timings."""
    import platform
    from importlib.metadata import version

    import torch

    from ash_core import __version__
    from ash_core.doctor import examine_system

    values = {finding.name: finding.value for finding in examine_system()}
    hardware = {name: values[name] for name in ("CPU", "cores", "instructions", "memory")}
    packages = {name: version(name) for name in ("torch", "numpy", "numba")}
    if torch.cuda.is_available():
        hardware["GPU"] = torch.cuda.get_device_name()
        packages["cuda"] = str(torch.version.cuda)
    return {
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "versions": {"ash-studio": __version__, "python": platform.python_version(), **packages},
    }
