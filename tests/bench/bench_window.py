"""The viewer's own time: Python code of a frame, a picture's way to the screen, many window sizes.

    python tests/bench/bench_window.py [--no-interop] [--device cuda] [--resizes 500] [--picture X]

Opens a real window where there is a display, else one that nobody sees (GLFW's null platform, whose
largest size is 1920x1080 and whose own memory grows with every size).
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imgui_bundle import hello_imgui, immapp

from viewer import commands, window
from viewer.session import Session

SIZES = ((1280, 800), (1920, 1080), (2560, 1440))
WARM_UP, FRAMES = 30, 300


class Stopwatch:
    """Milliseconds that wrapped functions take within a frame, one inside another counted once."""

    def __init__(self) -> None:
        self.taken = 0.0
        self._depth = 0

    def wrap(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            self._depth += 1
            start = time.perf_counter()
            try:
                return work(*given)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.taken += 1e3 * (time.perf_counter() - start)

        return timed


def median_and_quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def render(count: int, watch: Stopwatch | None = None) -> list[float]:
    """Frames, and the Python milliseconds of each."""
    taken = []
    for _ in range(count):
        if watch is not None:
            watch.taken = 0.0
        immapp.manual_render.render()
        if watch is not None:
            taken.append(watch.taken)
    return taken


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(app: window.App, watch: Stopwatch, resize: Callable[[int, int], None]) -> None:
    session = app.session
    while app.first_picture_s is None:
        immapp.manual_render.render()
    render(WARM_UP)
    assert app.presenter is not None
    print(f"first picture after {app.first_picture_s:.2f} s; {app.presenter.name}")
    if not session.clock.playing:
        commands.run(session, "time.play")
    for size in SIZES:
        resize(*size)
        render(WARM_UP)
        app.profiler.__init__()
        taken = render(FRAMES, watch)
        area = f"{app.area.width:.0f}x{app.area.height:.0f}"
        print(
            f"{size[0]}x{size[1]}, view {area}: Python {median_and_quartiles(taken)} ms a frame, "
            f"of it present {app.profiler.median('present'):.2f}; "
            f"picture {app.profiler.median('frame'):.2f} ms"
        )


def many_sizes(app: window.App, resize: Callable[[int, int], None], count: int) -> None:
    import torch

    def free_mb() -> float:
        return torch.cuda.mem_get_info()[0] / 2**20 if torch.cuda.is_available() else 0.0

    for number in range(count + 200):
        if number == 200:
            before = resident_mb(), free_mb()
        resize(200 + 37 * number % 1100, 120 + 53 * number % 700)
        render(2)
    grown = {"host MB": resident_mb() - before[0], "GPU MB": before[1] - free_mb()}
    print(f"{count} sizes while it plays: {json.dumps(grown)}; error: {app.engine.error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--preset")
    parser.add_argument("--no-interop", action="store_true")
    parser.add_argument("--resizes", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    watch = Stopwatch()
    for name in ("_before_frame", "_draw_view", "_draw_over", "_draw_menus", "_draw_status"):
        setattr(window.App, name, watch.wrap(getattr(window.App, name)))
    docking = window.App._docking

    def timed_panels(app: window.App) -> Any:
        params = docking(app)
        for panel in params.dockable_windows[1:]:
            panel.gui_function = watch.wrap(panel.gui_function)
        return params

    window.App._docking = timed_panels  # type: ignore[method-assign]
    session = Session("actor", device=given.device, preset=given.preset)
    if os.environ.get("DISPLAY"):
        app = window.App(session, interop=not given.no_interop)
        params = app.params()
        params.ini_disable = True
        params.app_window_params.restore_previous_geometry = False
        immapp.manual_render.setup_from_runner_params(params, immapp.AddOnsParams())
    else:
        app = window.open_without_display(session)
    import glfw

    handle = glfw.get_current_context()

    def resize(width: int, height: int) -> None:
        glfw.set_window_size(handle, width, height)

    measure(app, watch, resize)
    if given.resizes:
        many_sizes(app, resize, given.resizes)
        resize(*SIZES[0])
        render(WARM_UP)
    hello_imgui.get_runner_params().app_shall_exit = True
    immapp.manual_render.tear_down()
    if given.picture is not None:
        from PIL import Image

        Image.fromarray(hello_imgui.final_app_window_screenshot()).save(given.picture)


if __name__ == "__main__":
    main()
