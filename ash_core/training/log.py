"""Log of a training: log.jsonl, and TensorBoard's logs where it is installed."""

import json
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ash_core.files.io import read_lines, write_text
from ash_core.install import install_command
from ash_core.training.flat import Flat
from ash_core.training.metrics import Scores

_log = logging.getLogger(__name__)


class Record:
    """Two places for the same numbers: a file of JSON lines, and TensorBoard.

    Neither ends a training where it cannot be written, e.g. on a full disk: that is reported once,
    and lines wait until they can be.
    """

    def __init__(self, folder: Path, step: int, note: Callable[[str], None]) -> None:
        """step: where this run begins; later lines of an earlier run are dropped."""
        self.path, self._logs, self._note = folder / "log.jsonl", folder / "logs", note
        earlier_lines = []
        if step and self.path.exists():
            earlier_lines = [line for line in read_lines(self.path) if _step_of(line) <= step]
        write_text(self.path, "".join(f"{line}\n" for line in earlier_lines))
        self._waiting: list[str] = []
        self._is_reported = False
        """True once the user knows that lines wait."""
        self._before = threading.excepthook
        threading.excepthook = self._on_thread_error
        self._board: Any = None
        self._lost_board = False
        self._open_board(step + 1 if step else None)

    def log(self, step: int, means: dict[str, float], seconds: float) -> None:
        """Means of the steps since the last line."""
        self._line({"step": step, "seconds": round(seconds, 3), **means})
        self._scalars("training", means, step)

    def validation(self, step: int, scores_by_kind: dict[str, Scores], seconds: float) -> None:
        """Scores of what is never trained on."""
        for kind, scores in scores_by_kind.items():
            values = {name: value for name, value in asdict(scores).items() if value is not None}
            self._line({"step": step, "seconds": round(seconds, 3), "kind": kind, **values})
            self._scalars(kind, values, step)

    def pictures(self, step: int, folder: Path) -> None:
        """The pictures of a validation."""
        from ash_core.files.image import read_image

        def add(board: Any) -> None:
            for path in sorted(folder.glob(f"*_step_{step:09d}.png")):
                name = path.stem.partition("_step_")[0]
                board.add_image(name, read_image(path).numpy(), step, dataformats="HWC")

        self._on_board(add)

    def weights(self, step: int, flats: dict[str, Flat]) -> None:
        """Histograms of the weights and of the last gradients."""

        def add(board: Any) -> None:
            for part, flat in flats.items():
                for what, vector in (("weights", flat.values), ("gradients", flat.grad)):
                    for name, values in flat.named_parts(vector).items():
                        if name.endswith("weight"):
                            tag = f"{what}/{part}.{name}"
                            board.add_histogram(tag, values.detach().float().cpu().numpy(), step)

        self._on_board(add)

    def disk_has_room(self) -> None:
        """Something was written beside us: what could not be may be tried again."""
        self._write_waiting()
        if self._lost_board:
            self._open_board(None)

    def close(self) -> None:
        """Write what waits."""
        self._write_waiting()
        if self._waiting:
            self._note(f"{self.path}: {len(self._waiting)} lines were never written")
        self._on_board(lambda board: board.close())
        threading.excepthook = self._before

    # ---- log.jsonl ----

    def _line(self, values: dict[str, object]) -> None:
        self._waiting.append(json.dumps(values) + "\n")
        self._write_waiting()

    def _write_waiting(self) -> None:
        """All that waits or nothing: a line cut off would spoil the one after it."""
        data = "".join(self._waiting).encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    while data:
                        data = data[file.write(data) :]
                except OSError:
                    file.truncate(end)
                    raise
            self._waiting, self._is_reported = [], False
        except OSError as error:
            if not self._is_reported:
                self._is_reported = True
                reason = f"cannot be written: {error.strerror}"
                self._note(f"{self.path}: {reason}; its lines wait until there is room")

    # ---- TensorBoard ----

    def _scalars(self, group: str, values: dict[str, float], step: int) -> None:
        def add(board: Any) -> None:
            for name, value in values.items():
                board.add_scalar(f"{group}/{name}", value, step)

        self._on_board(add)

    def _open_board(self, purge_step: int | None) -> None:
        """purge_step: what an earlier run wrote from there on is hidden."""
        try:
            self._board, self._lost_board = _board(self._logs, purge_step), False
        except OSError as error:
            self._lose_board(error)

    def _lose_board(self, error: OSError) -> None:
        if not self._lost_board:
            reason = f"cannot be written: {error.strerror or error}"
            self._note(f"{self._logs}: {reason}; TensorBoard goes on when there is room")
        self._board, self._lost_board = None, True

    def _on_board(self, work: Callable[[Any], None]) -> None:
        if self._board is None:
            return
        try:
            work(self._board)
        except OSError as error:
            self._lose_board(error)

    def _on_thread_error(self, error: threading.ExceptHookArgs) -> None:
        """The writing thread's error reaches `_on_board`, in one line."""
        of_board = type(error.thread).__module__.startswith("tensorboard.")
        if not (of_board and isinstance(error.exc_value, OSError)):
            self._before(error)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line that a kill cut off
        return math.inf


def _board(folder: Path, purge_step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.info("no TensorBoard logs: %s", install_command("train"))
        return None
    return SummaryWriter(str(folder), purge_step=purge_step)
