"""What a training leaves to look at: log.jsonl, and TensorBoard's logs where it is installed."""

import json
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ash_core.files.text import read_lines, write_text
from ash_core.training.flat import Flat
from ash_core.training.metrics import Scores

_log = logging.getLogger(__name__)


class Record:
    """Two places for the same numbers: a file of JSON lines, and TensorBoard."""

    def __init__(self, folder: Path, step: int) -> None:
        """step: where this run begins; later lines of an earlier run are dropped."""
        self.path = folder / "log.jsonl"
        kept = []
        if step and self.path.exists():
            kept = [line for line in read_lines(self.path) if _step_of(line) <= step]
        write_text(self.path, "".join(f"{line}\n" for line in kept))
        self.board = _board(folder / "logs", step)

    def log(self, step: int, means: dict[str, float], seconds: float) -> None:
        """Means of the steps since the last line."""
        self._line({"step": step, "seconds": round(seconds, 3), **means})
        if self.board is not None:
            for name, value in means.items():
                self.board.add_scalar(f"training/{name}", value, step)

    def validation(self, step: int, found: dict[str, Scores], seconds: float) -> None:
        """Scores of what is never trained on."""
        for kind, scores in found.items():
            values = {name: value for name, value in asdict(scores).items() if value is not None}
            self._line({"step": step, "seconds": round(seconds, 3), "kind": kind, **values})
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(f"{kind}/{name}", value, step)

    def pictures(self, step: int, folder: Path) -> None:
        """The pictures of a validation."""
        if self.board is None:
            return
        from ash_core.files.capture import read_image

        for path in sorted(folder.glob(f"*_step_{step:09d}.png")):
            name = path.stem.partition("_step_")[0]
            self.board.add_image(name, read_image(path).numpy(), step, dataformats="HWC")

    def weights(self, step: int, flats: dict[str, Flat]) -> None:
        """Histograms of the weights and of the last gradients."""
        if self.board is None:
            return
        for part, flat in flats.items():
            for what, vector in (("weights", flat.values), ("gradients", flat.grad)):
                for name, values in flat.named_parts(vector).items():
                    if name.endswith("weight"):
                        tag = f"{what}/{part}.{name}"
                        self.board.add_histogram(tag, values.detach().float().cpu().numpy(), step)

    def _line(self, values: dict[str, object]) -> None:
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            _log.warning("%s: %s", self.path, error.strerror)

    def close(self) -> None:
        """Write what waits."""
        if self.board is not None:
            self.board.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line that a kill cut off
        return math.inf


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.info("no TensorBoard logs: pip install 'ash-studio[train]'")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
