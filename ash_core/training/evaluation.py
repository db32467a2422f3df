"""Quality of any avatar on a data set: train pose, novel view, novel pose."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ash_core.errors import InputError
from ash_core.files.dataset import Dataset, Plan, SplitData, check_fits
from ash_core.files.io import check_folder, write_atomic, write_text
from ash_core.files.released import notes_worth_showing
from ash_core.pose_windows import window_at
from ash_core.render import Renderer, RenderRequest
from ash_core.training.dataset import cameras_of, test_cameras
from ash_core.training.lpips import Lpips, open_lpips
from ash_core.training.metrics import (
    Scores,
    flicker,
    mean_scores,
    published_window,
    scores,
)
from ash_core.training.pose_tuning import REFINED, with_refined_poses
from ash_core.training.validation import ERROR_GAIN, comparison, evenly, read_truth

WHITE = (1.0, 1.0, 1.0)
SHOWN = 3
"""Rows of each set in the picture."""
COLUMNS = ("render", "truth", f"error x{ERROR_GAIN:g}")
LABEL_PX, LABEL_HEIGHT, LABEL_WIDTH, LABEL_MARGIN = 13, 20, 100, 6
"""Height of letters, room for labels above and beside a row, px."""


@dataclass(frozen=True)
class Row:
    """Render, ground truth and error of one view, side by side."""

    camera: int
    frame: int
    pixels: UInt8[Tensor, "h w3 3"]


@dataclass(frozen=True)
class Report:
    """One set's result."""

    name: str
    views: int
    cameras: tuple[int, ...]
    scores: Scores
    flicker: float | None
    """See metrics.flicker; None where no two frames stand beside each other."""
    rows: tuple["Row", ...]
    lpips: str | None = None
    """Weights of `scores.lpips`: alexnet, vgg16, or ST-LPIPS of the package; None where it is."""
    has_refined_poses: bool = False
    """True if the poses are those that the avatar's training refined."""


@dataclass(frozen=True)
class Evaluation:
    """Quality of an avatar on a data set; printed, it is a table.

    `evaluation["novel view"].scores.psnr` is in dB; the sets are those that have images: "train
    pose", "novel view" (or "validation") and "novel pose".

    >>> ash.Evaluation(reports=()).notes
    ()
    """

    reports: tuple["Report", ...]
    notes: tuple[str, ...] = ()
    """Remarks on the data set and on how the avatar fits it."""

    def __getitem__(self, name: str) -> "Report":
        """Return one set's report. Raises: KeyError."""
        return {report.name: report for report in self.reports}[name]

    def __iter__(self) -> Iterator["Report"]:
        return iter(self.reports)

    def __str__(self) -> str:
        return as_text(self.reports).rstrip("\n")

    def save(self, folder: Path | str) -> None:
        """Write report.json, report.txt and pictures.png. Raises: InputError."""
        write_reports(Path(folder), self.reports)


def evaluate(
    renderer: Renderer,
    name: str,
    dataset: Dataset,
    out: Path | None = None,
    *,
    test_cameras: str = "auto",
    views: int | None = None,
    lpips_weights: Sequence[Path] = (),
    progress: Callable[[str, int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure an avatar on every set of a data set.

    name: of the avatar, in notes; beside a file of this name refined poses are looked for, and used
    for the frames of training/. out: folder for the reports. test_cameras: as in the training.
    views: about so many of each set. progress: receives a set's name, and how many of its images
    are done. note: receives remarks before the work. Raises: InputError.
    """
    # Data: poses that the training refined, if there are any.
    notes = notes_worth_showing("native", dataset.notes) if dataset.release is not None else []
    if text := check_fits(renderer.avatar.data, name, dataset):
        notes.append(text)
    original, dataset = dataset, _refined(dataset, Path(name), notes)
    selections = select(dataset, test_cameras, views)
    if note is not None:
        for text in notes:
            note(text)
    # Images of each set.
    if out is not None:
        check_folder(out)  # before the work, not after it
    lpips = open_lpips(lpips_weights)
    if lpips is not None:
        lpips.to(renderer.device)
    report_progress = progress or (lambda name, done, count: None)
    measured = [measure(renderer, one, lpips, report_progress) for one in selections]
    reports = tuple(
        replace(report, has_refined_poses=one.split is not original.splits[one.split.name])
        for report, one in zip(measured, selections, strict=True)
    )
    result = Evaluation(reports, tuple(notes))
    if out is not None:
        result.save(out)
    return result


def _refined(dataset: Dataset, avatar: Path, notes: list[str]) -> Dataset:
    """Take the poses of training/ that the avatar's training refined, if it did; adds a note."""
    training, path = dataset.splits.get("training"), avatar.parent / REFINED
    if training is None or not (avatar.is_file() and path.is_file()):
        return dataset
    refined = with_refined_poses(avatar.parent, training, dataset.character.skeleton)
    if refined is None:
        notes.append(f"{path}: is of other poses than {dataset.folder}'s, not used")
        return dataset
    notes.append(f"{path}: refined poses, used for the frames of training/")
    return replace(dataset, splits={**dataset.splits, "training": refined})


@dataclass(frozen=True)
class Selection:
    """The photographs that a set is measured on."""

    name: str
    split: SplitData
    cameras: tuple[int, ...]
    frames: tuple[int, ...]
    """Measured frames; each one's successor is looked at too, for the flicker."""

    def photographs(self) -> Iterator[tuple[int, int, bool]]:
        """(frame, camera, is measured), frame by frame."""
        measured = set(self.frames)
        for frame in sorted(measured | {frame + 1 for frame in measured}):
            for camera in self.cameras:
                if (frame, camera) in self.split.images:
                    yield frame, camera, frame in measured


def select(dataset: Dataset, choice: str, views: int | None) -> list[Selection]:
    """The sets that a data set has photographs for.

    choice: its test cameras, as in the training. views: about so many of each set.
    """
    sets, plan = [], dataset.plan
    training, testing = (dataset.splits.get(name) for name in ("training", "testing"))
    held: tuple[int, ...] = ()
    if training is not None and training.images:
        numbers = cameras_of(training)
        held = test_cameras(choice, numbers, plan)
        shown_cameras = tuple(camera for camera in numbers if camera not in held)
        sets += [("train pose", training, shown_cameras), ("novel view", training, held)]
        if choice == "auto" and plan is not None and not held:  # it validates on what it trains on
            sets[1] = ("validation", training, tuple(c for c in plan.val_cameras if c in numbers))
    if testing is not None and testing.images:
        numbers = cameras_of(testing)
        chosen = held if plan is None else plan.val_cameras
        cameras = tuple(camera for camera in chosen if camera in numbers) or tuple(numbers)
        sets.append(("novel pose", testing, cameras))
    if not sets:
        where = f"{dataset.folder}: expected images in training/ or testing/"
        if dataset.release is not None:
            where = f"{dataset.release.conf}: dataset.image_dir = {dataset.release.image_dir}"
            where += ": expected images"
        raise InputError(f"{where}, found none")
    return [
        _selection(name, split, cameras, views, _frames_of(name, plan))
        for name, split, cameras in sets
        if cameras
    ]


def _frames_of(name: str, plan: Plan | None) -> range | None:
    """Return the frames that a configuration has for a set."""
    if plan is None:
        return None
    return plan.train_frames if name == "train pose" else plan.val_frames


def _selection(
    name: str,
    split: SplitData,
    cameras: tuple[int, ...],
    views: int | None,
    allowed: range | None,
) -> Selection:
    available = {frame for frame, camera in split.images if camera in cameras}
    frames = sorted(available if allowed is None else available & {*allowed})
    if views is not None:
        frames = [frames[n] for n in evenly(len(frames), max(views // len(cameras), 1))]
    return Selection(name, split, cameras, tuple(frames))


def measure(
    renderer: Renderer,
    selection: Selection,
    lpips: Lpips | None,
    progress: Callable[[str, int, int], None],
) -> Report:
    """Render a set as everybody sees it, and compare."""
    split, work = selection.split, list(selection.photographs())
    before: dict[int, tuple[int, tuple[Tensor, Tensor]]] = {}
    every: list[Scores] = []
    flickers: list[float] = []
    rows: list[Row] = []
    measured = [(frame, camera) for frame, camera, counts in work if counts]
    shown = {measured[n] for n in evenly(len(measured), SHOWN)}
    for done, (frame, camera, counts) in enumerate(work, start=1):
        window = window_at(renderer.avatar.data, split.motion, frame, device=renderer.device)
        render = renderer.render(RenderRequest(window, split.cameras[camera], WHITE)).rgb
        truth, mask = (part.to(render.device) for part in read_truth(split.images[frame, camera]))
        pair = render.clone(), truth
        if counts:
            every.append(scores(*pair, mask, lpips))
        if camera in before and before[camera][0] == frame - 1:
            flickers.append(flicker(before[camera][1], pair, mask))
        before[camera] = frame, pair
        if (frame, camera) in shown:
            window_box = published_window(mask)
            pixels = comparison(render[window_box], truth[window_box]).cpu()
            rows.append(Row(camera, frame, pixels))
        progress(selection.name, done, len(work))
    jitter = sum(flickers) / len(flickers) if flickers else None
    return Report(
        selection.name, len(every), selection.cameras, mean_scores(every), jitter, tuple(rows),
        None if lpips is None else lpips.name,
    )  # fmt: skip


def as_json(reports: Sequence[Report]) -> dict[str, object]:
    """The report as a JSON object."""
    return {
        report.name: {
            "views": report.views,
            "cameras": list(report.cameras),
            **asdict(report.scores),
            "lpips_weights": report.lpips,
            "flicker": report.flicker,
            "poses": "refined" if report.has_refined_poses else "given",
        }
        for report in reports
    }


def as_text(reports: Sequence[Report]) -> str:
    """The report as a table."""
    head = (
        "",
        "views",
        "PSNR dB",
        "SSIM",
        "LPIPS",
        "PSNR full",
        "SSIM full",
        "LPIPS full",
        "flicker",
    )
    lines = ["  ".join(f"{word:>10}" for word in head)]
    for report in reports:
        s = report.scores
        cells = [report.name, str(report.views), f"{s.psnr:.2f}", f"{s.ssim:.4f}", _four(s.lpips)]
        cells += [f"{s.psnr_full:.2f}", f"{s.ssim_full:.4f}", _four(s.lpips_full)]
        cells.append("-" if report.flicker is None else f"{report.flicker:.2f}")
        lines.append("  ".join(f"{cell:>10}" for cell in cells))
    if weights := [report.lpips for report in reports if report.lpips]:
        lines.append(f"LPIPS: by the weights {weights[0]}")
    if names := [report.name for report in reports if report.has_refined_poses]:
        lines.append(f"{', '.join(names)}: with the poses that the training refined")
    return "\n".join(lines) + "\n"


def _four(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def picture(reports: Sequence[Report]) -> UInt8[Tensor, "h w 3"]:
    """Put the rows of all sets under each other, each with its set, camera, frame and columns."""
    from PIL import Image, ImageDraw, ImageFont

    # A page with room for the labels, above each row and at its left.
    rows = [(report.name, row) for report in reports for row in report.rows]
    width = LABEL_WIDTH + max(row.pixels.shape[1] for _, row in rows)
    height = sum(row.pixels.shape[0] + LABEL_HEIGHT for _, row in rows)
    page = Image.new("RGB", (width, max(height, 1)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LABEL_PX)
    # Rows with their labels.
    top = 0
    for name, row in rows:
        top += LABEL_HEIGHT
        page.paste(Image.fromarray(row.pixels.numpy()), (LABEL_WIDTH, top))
        third = row.pixels.shape[1] / 3
        centres = {title: LABEL_WIDTH + (k + 0.5) * third for k, title in enumerate(COLUMNS)}
        page.paste(Image.fromarray(draw_titles(width, centres).numpy()), (0, top - LABEL_HEIGHT))
        text = f"{name}\ncamera {row.camera}\nframe {row.frame}"
        pen.multiline_text((LABEL_MARGIN, top), text, "black", font)
        top += row.pixels.shape[0]
    return torch.from_numpy(np.array(page))


def draw_titles(width: int, centres: Mapping[str, float]) -> UInt8[Tensor, "h w 3"]:
    """Draw a line of titles over a picture, each around its column, px."""
    from PIL import Image, ImageDraw, ImageFont

    band = Image.new("RGB", (width, LABEL_HEIGHT), "white")
    pen, font = ImageDraw.Draw(band), ImageFont.load_default(LABEL_PX)
    for title, centre in centres.items():
        pen.text((centre, LABEL_HEIGHT / 2), title, "black", font, "mm")
    return torch.from_numpy(np.array(band))


def write_reports(folder: Path, reports: Sequence[Report]) -> None:
    """report.json, report.txt and pictures.png."""
    import json

    from ash_core.files.image import encode_png

    write_text(folder / "report.json", json.dumps(as_json(reports), indent=2) + "\n")
    write_text(folder / "report.txt", as_text(reports))
    write_atomic(folder / "pictures.png", encode_png(picture(reports)))
