"""Train and evaluate avatars from Python: the same settings and results as the command line."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from ash_core.avatar import Avatar
from ash_core.errors import InputError
from ash_core.render import Renderer
from ash_core.scene import open as opening
from ash_core.training.config import TrainConfig
from ash_core.training.evaluation import Evaluation
from ash_core.training.setup import Stop
from ash_core.training.train import Trained

Settings = ParamSpec("Settings")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """Progress of a training or an evaluation.

    >>> print(ash.Progress("training", done=50, count=200, text="loss 0.02"))
    training 50/200 loss 0.02
    """

    what: str
    """Kind of work, e.g. "training" or "novel view"; "note" for a remark."""
    done: int = 0
    """Steps, seconds or images done, of `count`."""
    count: int = 0
    text: str = ""

    def __str__(self) -> str:
        amount = f" {self.done}/{self.count}" if self.count else ""
        return f"{self.what}{amount} {self.text}".rstrip()


@dataclass(frozen=True)
class TrainSettings(TrainConfig):
    """Fields of `TrainConfig`, paths also as text, and a function that shows progress."""

    data: Path | str  # type: ignore[assignment]
    out: Path | str | None = None  # type: ignore[assignment]
    avatar: Path | str | None = None  # type: ignore[assignment]
    gaussian_checkpoint: Path | str | None = None  # type: ignore[assignment]
    progress: Callable[[Progress], object] | None = None


def _called_with(
    settings: Callable[Settings, object],
) -> Callable[[Callable[..., Result]], Callable[Settings, Result]]:
    """Give a function the parameters of another callable, for editors and `help`."""

    def give(function: Callable[..., Result]) -> Callable[Settings, Result]:
        signature = inspect.signature(settings).replace(return_annotation=Trained)
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return give


@_called_with(TrainSettings)
def train(*args: Any, **settings: Any) -> Trained:
    """Train an avatar from footage into a folder: `ash.train(data, out, minutes=5)`.

    data: folder as `ash-studio extract` leaves it, or a published configuration. out: folder of
    the result. Settings are the fields of `ash.TrainConfig`, which are the flags of
    `ash-studio train`. progress: called with `Progress` now and then, e.g. `print`; an exception
    that it raises ends the training; the newest checkpoint stays.
    Raises: InputError, e.g. for a folder that holds a training already (`resume=True` goes on).

    >>> data = ash.make_toy(folder / "toy")
    >>> trained = ash.train(data, folder / "out", steps=2, preset="cpu", device="cpu")
    >>> trained.steps, trained.avatar.name, sorted(trained.scores)
    (2, 'avatar.safetensors', ['novel pose', 'novel view'])
    """
    from ash_core.training.train import train as run

    options = TrainSettings(*args, **settings)
    values = {field.name: getattr(options, field.name) for field in fields(TrainConfig)}
    for name in ("data", "out", "avatar", "gaussian_checkpoint"):
        if values[name] is not None:
            values[name] = opening.avatar_path(str(values[name]))
    with _named_as_in_python():
        _check_choices(values)
        return run(TrainConfig(**values), _Report(options.progress))


def evaluate(
    avatar: Avatar | Path | str,
    data: Path | str,
    out: Path | str | None = None,
    *,
    test_cameras: str = "auto",
    views: int | None = None,
    lpips_weights: Sequence[Path | str] = (),
    device: opening.Device = "auto",
    backend: str = "auto",
    preset: opening.Preset | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Evaluation:
    """Measure an avatar against the images of a data set: PSNR, SSIM, LPIPS, flicker.

    avatar: from `load_avatar`, a file or a built-in name. out: folder for report.json, report.txt
    and pictures.png. test_cameras: as in `train`. views: about so many images of each
    set; None: all. lpips_weights: files with LPIPS' weights; default: those of the package
    stlpips_pytorch, without which LPIPS is None.
    Raises: InputError.

    >>> data = ash.make_toy(folder / "measured")
    >>> result = ash.evaluate("actor", data, views=1, preset="cpu", device="cpu")
    >>> 5 < result["novel view"].scores.psnr < 40
    True
    """
    from ash_core.files.dataset import open_dataset
    from ash_core.training.evaluation import evaluate as measure

    # An avatar object is measured as it is, a name or a file is loaded.
    with _named_as_in_python():
        if views is not None and views < 1:
            raise InputError(f"views: expected 1 or more, got {views}")
        dataset = open_dataset(Path(data))
        if isinstance(avatar, Avatar):
            name = avatar.data.name
            renderer = Renderer(avatar, backend, opening.choose_device(device, backend))
        else:
            name = str(avatar)
            loaded = opening.load_avatar_data(name)
            renderer = opening.make_renderer(loaded, device, backend, preset)
        show, weights = _Report(progress), [Path(path) for path in lpips_weights]
        return measure(
            renderer,
            name,
            dataset,
            None if out is None else Path(out),
            test_cameras=test_cameras,
            views=views,
            lpips_weights=weights,
            progress=show.preparing,
            note=show.note,
        )


class _Report:
    """Progress and notes of a work as calls of one function."""

    def __init__(self, progress: Callable[[Progress], object] | None) -> None:
        self.progress = progress or (lambda progress: None)

    def note(self, text: str) -> None:
        self.progress(Progress("note", text=text))

    def preparing(self, what: str, done: int, count: int) -> None:
        self.progress(Progress(what, done, count))

    def training(self, done: int, whole: int, text: str) -> None:
        self.progress(Progress("training", done, whole, text))

    def stop(self) -> Stop:
        return "no"


@contextmanager
def _named_as_in_python() -> Iterator[None]:
    """Name parameters in errors as Python does: `learning_rate` for `--learning-rate`."""
    try:
        yield
    except InputError as error:
        text = re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), str(error))
        raise InputError(text) from error


def _check_choices(values: dict[str, Any]) -> None:
    """Check settings that are choices, as the command line does. Raises: InputError."""
    for field in fields(TrainConfig):
        value, choices = values[field.name], _choices(field.type)
        if choices and value is not None and value not in choices:
            raise InputError(f"{field.name}: expected {', '.join(choices)}, got {value!r}")


def _choices(kind: Any) -> tuple[str, ...]:
    """List the texts that a field's type allows; none where it allows any."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(choice for part in get_args(kind) for choice in _choices(part))
