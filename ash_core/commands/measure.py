"""Durations as medians with their spread, and the machine they were taken on."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ash_core.commands.render import Shot
    from ash_core.render import Renderer


@dataclass(frozen=True)
class Spread:
    """Milliseconds of one thing, many times over."""

    median: float
    p25: float
    p75: float
    runs: int

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.p25:.1f}-{self.p75:.1f})"


def spread(milliseconds: Sequence[float]) -> Spread:
    """Median and quartiles of at least one duration."""
    assert len(milliseconds) > 0, milliseconds
    values = [*milliseconds, *milliseconds] if len(milliseconds) == 1 else milliseconds
    p25, median, p75 = (round(q, 3) for q in quantiles(values, n=4, method="inclusive"))
    return Spread(median, p25, p75, len(milliseconds))


def repeat(work: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Durations of `work` in ms: once to warm up, then for `seconds` or at least `least` times."""
    work()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def time_stages(renderer: "Renderer", shots: "Iterable[Shot]") -> dict[str, Spread]:
    """Each stage of a frame, and "pose to pixels" for the whole of it. Poses must differ, or the
    renderer's cache answers. The first shot is rendered once beforehand, untimed."""
    taken: dict[str, list[float]] = defaultdict(list)
    for n, shot in enumerate(shots):
        if n == 0:
            renderer.render(shot.request)
            continue
        start = time.perf_counter()
        renderer.render(shot.request)
        whole = (time.perf_counter() - start) * 1e3
        for stage, milliseconds in renderer.timings.items():
            taken[stage].append(milliseconds)
        taken["pose to pixels"].append(whole)
    return {stage: spread(milliseconds) for stage, milliseconds in taken.items()}


def as_table(spreads: Mapping[str, Spread]) -> dict[str, dict[str, float]]:
    """For JSON."""
    return {name: asdict(value) for name, value in spreads.items()}


def save_json(out: Path, content: object) -> None:
    """Indented, whole or not at all."""
    from ash_core.files.text import write_atomic

    write_atomic(out, (json.dumps(content, indent=2) + "\n").encode())


def machine() -> dict[str, Any]:
    """Hardware and versions, for the head of a table of timings."""
    import platform
    from importlib.metadata import version

    import torch

    from ash_core import __version__
    from ash_core.doctor import examine_system

    hardware = {finding.name: finding.value for finding in examine_system()}
    packages = {name: version(name) for name in ("torch", "numpy", "numba")}
    return {
        "hardware": {name: hardware[name] for name in ("CPU", "cores", "instructions", "memory")},
        "threads": torch.get_num_threads(),
        "versions": {"ash-studio": __version__, "python": platform.python_version(), **packages},
    }
