"""Where the milliseconds go: the last frames' stages, plotted, and written to a table."""

from collections import deque
from typing import Final

import numpy as np
from imgui_bundle import imgui

KEPT: Final = 240


class Profiler:
    """A ring of the last frames' times."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, float]] = deque(maxlen=KEPT)

    def add(self, stages: dict[str, float]) -> None:
        """Milliseconds by stage of one frame."""
        self.rows.append(stages)

    def columns(self) -> list[str]:
        """All stages that occur, in their order."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def median(self, stage: str) -> float:
        """Of the frames that have it, ms."""
        return float(np.median([row[stage] for row in self.rows if stage in row] or [0.0]))

    def as_csv(self) -> str:
        """A row a frame, ms; empty where a stage was cached."""
        names = self.columns()
        lines = [",".join(names)]
        lines += [
            ",".join(f"{row[name]:.3f}" if name in row else "" for name in names)
            for row in self.rows
        ]
        return "\n".join(lines) + "\n"

    def draw(self) -> None:
        """A line and a plot for each stage."""
        width = imgui.get_content_region_avail().x
        for name in self.columns():
            values = np.array([row.get(name, 0.0) for row in self.rows], np.float32)
            most = float(values.max(initial=0.0))
            imgui.text(f"{name}")
            imgui.same_line(imgui.get_font_size() * 6)
            imgui.text_disabled(f"{self.median(name):6.2f} ms, at most {most:.2f}")
            imgui.plot_lines(
                f"##{name}",
                values,
                scale_min=0.0,
                scale_max=max(most, 0.01),
                graph_size=(width, imgui.get_font_size() * 2.2),
            )
