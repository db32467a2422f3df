"""Fit of posed template and masks, by camera and frame: who is to blame for a low IoU."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from ash_core.footage.inspect.findings import Severity

IOU_WRONG: Final = 0.5
"""IoU under which the template misses the person: a wrong camera, motion or unit."""
IOU_LOOSE: Final = 0.75
"""IoU under which something is off; loose clothes and hair alone cost 0.1 to 0.2."""
IOU_APART: Final = 0.1
"""Distance from the usual IoU that tells one camera or frame from the others."""
MOST_IMAGES: Final = 5
"""Single images that are named."""


class Blame(NamedTuple):
    """Finding about the fit: of a camera, of a frame, of an image, or of all (neither)."""

    severity: Severity
    kind: str
    camera: int | None
    frame: int | None
    text: str


def judge_fit(
    ious: Float[np.ndarray, "C F"], cameras: Sequence[int], frames: Sequence[int]
) -> Iterator[Blame]:
    """Tell faults of one camera, one frame and one image from those of all.

    ious: NaN where a camera has no image or no mask of a frame.
    """
    if not np.isfinite(ious).any():
        return
    usual = float(np.nanmedian(ious))
    by_camera, by_frame = middles(ious)
    # A fault of all hides those of each.
    if usual < IOU_WRONG:
        missed = int((by_camera < IOU_LOOSE).sum())
        text = f"the posed template misses the person in {missed} of {len(cameras)} cameras"
        text = f"{text}: median IoU {usual:.2f}: unit, axes or motion are wrong"
        yield Blame("error", "fit of all", None, None, text)
        return
    # Cameras and frames that differ from the others.
    for camera, iou in zip(cameras, by_camera, strict=True):
        if is_off(iou, usual):
            text = f"IoU {iou:.2f}, the median of all cameras is {usual:.2f}: its calibration"
            severity: Severity = "error" if iou < IOU_WRONG else "warning"
            yield Blame(severity, "fit of a camera", camera, None, f"{text} is wrong")
    for frame, iou in zip(frames, by_frame, strict=True):
        if is_off(iou, usual):
            text = f"IoU {iou:.2f} in all cameras, the median of all frames is {usual:.2f}: the fit"
            yield Blame("warning", "fit of a frame", None, frame, f"{text} of its pose is off")
    # Images whose camera and frame are fine.
    for row, column in _stray_images(ious, by_camera, by_frame, usual)[:MOST_IMAGES]:
        text = f"IoU {ious[row, column]:.2f}, though its camera and its frame fit: mask or timing"
        yield Blame("warning", "fit of an image", cameras[row], frames[column], text)
    if usual < IOU_LOOSE:
        text = f"the posed template fits the person loosely: median IoU {usual:.2f}"
        yield Blame("warning", "fit is loose", None, None, text)


def middles(ious: Float[np.ndarray, "C F"]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the median of each camera and of each frame; NaN where there is no image."""
    rows = [row[np.isfinite(row)] for row in ious]
    columns = [column[np.isfinite(column)] for column in ious.T]
    return tuple(  # type: ignore[return-value]
        np.array([np.median(part) if len(part) else np.nan for part in parts])
        for parts in (rows, columns)
    )


def is_off(iou: float, usual: float) -> bool:
    """Tell whether the median of a camera or a frame is low while others are not; NaN is not."""
    return bool(iou < IOU_WRONG or (iou < IOU_LOOSE and iou < usual - IOU_APART))


def _stray_images(
    ious: np.ndarray, by_camera: np.ndarray, by_frame: np.ndarray, usual: float
) -> list[tuple[int, int]]:
    """List (row, column) of images that miss though their camera and frame fit, worst first."""
    rows, columns = np.nonzero(ious < IOU_WRONG)
    places = [
        (row, column)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if not is_off(by_camera[row], usual) and not is_off(by_frame[column], usual)
    ]
    return sorted(places, key=lambda place: ious[place])
