"""A training's settings out of a published configuration, and a record of what came from where."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ash_core.files.dataset import data_release
from ash_core.files.io import bad, is_kind
from ash_core.files.release import Release
from ash_core.training.config import TrainConfig
from ash_core.variants import VARIANTS

SHOWN: Final = 12
"""Numbers of cameras that a row lists."""
SCHEDULE: Final = {
    "steps": "steps",
    "learning_rate": "learning_rate",
    "checkpoint_every": "save_every",
    "validate_every": "validate_every",
    "seed": "random_seed",
}
"""Flag -> field of the configuration's schedule."""
WEIGHTS: Final = {"l1": "color_weight", "dssim": "ssim_weight"}


@dataclass(frozen=True)
class Taken:
    """One setting of a training and where it is from."""

    item: str
    value: str
    source: str
    """An entry of the configuration, or a flag."""


def take_release(config: TrainConfig) -> tuple[TrainConfig, Release | None]:
    """Fill in what a published configuration says and no flag does.

    Settings that were filled in stay as they are. Raises: InputError.
    """
    release = data_release(config.data)
    if release is None:
        return config, None
    if config.avatar is None and release.character_checkpoint is not None:
        path = release.character_checkpoint
        if not is_kind(Path.is_file, path):
            key = release.sources["character_checkpoint"]
            text = f"{key} = {path}: expected the character's networks, found nothing there"
            raise bad(release.conf, None, text)
    by_flag: dict[str, object] = {name: _configured(config, release, name) for name in SCHEDULE}
    factors = {name: getattr(release.schedule, field) for name, field in WEIGHTS.items()}
    factors = {n: v for n, v in factors.items() if getattr(config.weights, n) is None}
    if config.background is None and VARIANTS[config.variant].follows_configuration:
        white = release.is_white_background
        by_flag["background"] = None if white is None else "white" if white else "black"
    if config.out is None:
        by_flag["out"] = release.output_dir
    fields = {name: value for name, value in by_flag.items() if value is not None}
    filled = {name: value for name, value in factors.items() if value is not None}
    weights = replace(config.weights, **filled)
    return replace(config, **fields, weights=weights), release  # type: ignore[arg-type]


def _configured(config: TrainConfig, release: Release, flag: str) -> float | None:
    """Return what the configuration says for a flag that is not given."""
    value = getattr(release.schedule, SCHEDULE[flag])
    if getattr(config, flag) is not None or (flag == "steps" and config.minutes is not None):
        return None
    return None if flag == "seed" and value == -1 else value  # -1: none is fixed


def taken(flags: TrainConfig, resolved: TrainConfig, release: Release) -> list[Taken]:
    """List what a training takes from a configuration. flags: of the command line alone."""
    rows = [*_files(release), *_views(flags, release)]
    sources = release.sources
    for flag, field in SCHEDULE.items():
        by_flag = getattr(flags, flag) is not None or (flag == "steps" and flags.minutes)
        source = sources.get(field, "")
        if field == "random_seed" and release.schedule.random_seed == -1:
            source = f"default; {source} = -1 fixes none"
        name = "--minutes" if by_flag and flag == "steps" and flags.steps is None else _flag(flag)
        value = flags.minutes if name == "--minutes" else getattr(resolved, flag)
        rows.append(Taken(flag.replace("_", " "), f"{value:,}", name if by_flag else source))
    for weight, field in WEIGHTS.items():
        by_flag = getattr(flags.weights, weight) is not None
        source = _flag(f"weights.{weight}") if by_flag else sources.get(field, "")
        rows.append(Taken(f"weight of {weight}", f"{getattr(resolved.weights, weight):g}", source))
    follows = VARIANTS[flags.variant].follows_configuration
    source = sources.get("is_white_background", "") if follows else ""
    source = _flag("background") if flags.background is not None else source
    rows.append(Taken("background", str(resolved.background), source))
    source = _flag("out") if flags.out is not None else sources.get("output_dir", "")
    rows.append(Taken("results", _short(release, resolved.folder), source))
    return [replace(row, source=row.source or "default") for row in rows]


def _files(release: Release) -> list[Taken]:
    """List the files and folders that a configuration names."""
    from ash_core.files.released import named_files

    rows = [
        Taken(what, _short(release, file), source or "found by looking")
        for what, file, source in named_files(release.conf)
    ]
    for what, field in (
        ("motion", "motion"),
        ("normalised motion", "normalised"),
        ("images", "image_dir"),
        ("masks", "mask_dir"),
    ):
        path = getattr(release, field)
        if path is not None:
            rows.append(Taken(what, _short(release, path), release.sources[field]))
    return rows


def _views(flags: TrainConfig, release: Release) -> list[Taken]:
    """List cameras, frames and sizes."""
    by_flag = "" if flags.test_cameras == "auto" else _flag("test_cameras")
    rows = []
    for what, cameras, field in (
        ("cameras trained on", release.train_cameras, "train_cameras"),
        ("cameras validated on", release.val_cameras, "val_cameras"),
    ):
        if by_flag:
            rows.append(Taken(what, f"all but {flags.test_cameras}", by_flag))
        elif cameras is not None:
            some = ", ".join(map(str, cameras[:SHOWN])) + (", ..." if cameras[SHOWN:] else "")
            rows.append(Taken(what, f"{len(cameras)}: {some}", release.sources[field]))
    for what, frames, names in (
        ("frames trained on", release.train_frames, "start_frame, end_frame, sample_interval"),
        (
            "frames validated on",
            release.val_frames,
            "val_frame_start, val_frame_end, val_sample_interval",
        ),
    ):
        if what == "frames trained on" and flags.frames != ":":
            rows.append(Taken(what, flags.frames, _flag("frames")))
        elif frames is not None:
            text = f"{frames.start} to {frames[-1]}, every {frames.step}"
            rows.append(Taken(what, f"{len(frames):,}: {text}", f"dataset.{names}"))
    if release.size is not None:
        width, height = release.size
        rows.append(Taken("size", f"{width} x {height} px", "dataset.img_width, img_height"))
    follows = VARIANTS[flags.variant].follows_configuration
    if release.atlas_resolution is not None and follows:
        source = _flag("atlas") if flags.atlas is not None else release.sources["atlas_resolution"]
        side = flags.atlas or release.atlas_resolution
        rows.append(Taken("atlas", f"{side} x {side} texels", source))
    return rows


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _short(release: Release, path: object) -> str:
    """Show a path from the tree's root."""
    text, root = str(path), f"{release.root}/"
    return text.removeprefix(root)
