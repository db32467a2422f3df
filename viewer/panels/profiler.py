"""Profile of the last frames: a plot of each stage, and a table."""

from collections import deque
from pathlib import Path
from typing import Final

import numpy as np
import torch
from imgui_bundle import imgui

from ash_core.render import Renderer

KEPT: Final = 240
MIB: Final = 1 << 20
ORDER: Final = ("frame", "deform", "maps", "decode", "assemble", "raster", "mesh", "present")
"""Order of the known stages; others follow them."""
ON_GPU: Final = ("deform", "maps", "decode", "assemble", "raster")
"""Stages that run on the renderer's device."""
WAITS: Final = (
    "On a GPU the stages are timed while this panel is visible: the renderer then waits\n"
    "for the GPU after each of them, and a frame takes longer than it does otherwise.\n"
    "GPU: until the GPU is through with the stage. CPU: by the wall's clock, with waiting."
)


class Profiler:
    """Timings of the last frames."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, float]] = deque(maxlen=KEPT)
        self._visible = False

    def follow(self, renderer: Renderer) -> bool:
        """Time the stages only while the panel is visible. Returns True when that has changed.

        Called once a frame, before all drawing.
        """
        changed = renderer.profile != self._visible
        renderer.profile, self._visible = self._visible, False
        return changed

    def add(self, stages: dict[str, float]) -> None:
        """Add the stages of one frame, ms."""
        self.rows.append(stages)

    def columns(self) -> list[str]:
        """List all stages that occur, in their order."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [*(name for name in ORDER if name in names), *(n for n in names if n not in ORDER)]

    def median(self, stage: str) -> float:
        """Compute the median over the frames that have a stage, ms."""
        return float(np.median([row[stage] for row in self.rows if stage in row] or [0.0]))

    def as_csv(self) -> str:
        """Write one row for each frame, ms; empty where a stage was cached."""
        names = self.columns()
        lines = [",".join(names)]
        lines += [
            ",".join(f"{row[name]:.3f}" if name in row else "" for name in names)
            for row in self.rows
        ]
        return "\n".join(lines) + "\n"

    def draw(self, renderer: Renderer) -> None:
        """Draw splats and memory, then a line and a plot for each stage."""
        self._visible = True
        imgui.text(f"{renderer.drawable.count:,} splats   {memory(renderer.device)}")
        imgui.set_item_tooltip(WAITS)
        width = imgui.get_content_region_avail().x
        for name in self.columns():
            values = np.array([row.get(name, 0.0) for row in self.rows], np.float32)
            most = float(values.max(initial=0.0))
            imgui.text(f"{name}")
            imgui.same_line(imgui.get_font_size() * 5)
            where = unit(name, renderer.device)
            imgui.text_disabled(f"{self.median(name):.2f} {where}, to {most:.2f}")
            imgui.set_item_tooltip(WAITS)
            imgui.plot_lines(
                f"##{name}",
                values,
                scale_min=0.0,
                scale_max=max(most, 0.01),
                graph_size=(width, imgui.get_font_size() * 2.2),
            )


def unit(stage: str, device: torch.device) -> str:
    """Return the unit of a stage's times."""
    return "GPU ms" if device.type == "cuda" and stage in ON_GPU else "CPU ms"


def memory(device: torch.device) -> str:
    """Describe the memory in use, of the machine and of the GPU."""
    parts = []
    resident = resident_bytes()
    if resident is not None:
        parts.append(f"{resident / MIB:,.0f} MiB")
    if device.type == "cuda":
        parts.append(f"{torch.cuda.memory_allocated(device) / MIB:,.0f} MiB on the GPU")
    return ", ".join(parts)


def resident_bytes() -> int | None:
    """Read the resident memory of this process, bytes; None on systems other than Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words[0] == "VmRSS:"), None)
