"""Body of a capture: the user's body model file, or anny's body fitted to the person."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from ash_core.captures.capture import Capture, Layout
from ash_core.captures.images import read_alpha, read_mask
from ash_core.captures.layouts.choice import Choice
from ash_core.captures.read import read_capture
from ash_core.files.body_model import BodyModel, read_body_model
from ash_core.files.body_poses import BodyPoses
from ash_core.files.io import bad, is_kind
from ash_core.importers.body.body_motion import expand_hands
from ash_core.records import Camera

ANNY: Final = "anny"
"""Value of --body for a capture without a body model file."""


@dataclass(frozen=True)
class CaptureBody:
    """Body of a capture's person."""

    model: BodyModel
    poses: BodyPoses
    """Poses of this body, with the rotations of its hands."""
    vertices: Float[ndarray, "V 3"]
    """Rest pose of the body's own shape, m, before the poses' scale."""
    rest_joints: Float[ndarray, "J 3"]
    notes: tuple[str, ...] = ()


def read_with_body(
    folder: Path, layout: Layout, choice: Choice, body: Path, report: Callable[[str], None]
) -> tuple[Capture, CaptureBody]:
    """Read a capture and its body. body: file, folder or anny. Raises: InputError."""
    # Of a folder, the poses tell which file it is.
    is_file = str(body) != ANNY and not is_kind(Path.is_dir, body)
    model = read_body_model(body) if is_file else None
    capture = read_capture(folder, layout, choice)
    if str(body) == ANNY:
        return _with_anny(capture, report)
    poses = poses_of(capture)
    if model is None:
        model = read_body_model(body, poses.gender, poses.kind)
    if model.kind != poses.kind:
        text = f"expected a body of the kind {poses.kind}, which the capture's poses are of"
        raise bad(model.path, None, f"{text}, got {model.kind}")
    poses = expand_hands(poses, model)
    count, size = len(poses.betas), model.shape_dirs.shape[-1]
    notes = (f"{count} betas, of which {model.path} knows the first {size}",) * (count > size)
    vertices = model.shaped(poses.betas)
    person = CaptureBody(model, poses, vertices, model.joints(vertices), notes)
    return replace(capture, poses=poses), person


def poses_of(capture: Capture) -> BodyPoses:
    """Return the poses of a capture. Raises: InputError if it has none."""
    if capture.poses is None:
        text = "expected poses of a body, found none: --poses names a file"
        raise bad(capture.folder, None, text)
    return capture.poses


def mask_of(capture: Capture, row: int, camera: int) -> UInt8[ndarray, "h w"] | None:
    """Decode the mask of a frame, by its place among the frames; None if there is none."""
    key = (capture.frames[row], camera)
    if key in capture.masks:
        return read_mask(capture.masks[key])
    return read_alpha(capture.images[key]) if key in capture.images else None


def _with_anny(capture: Capture, report: Callable[[str], None]) -> tuple[Capture, CaptureBody]:
    """Fit anny's body to the keypoints and masks of a capture, or to its masks alone."""
    from ash_core.importers.body.anny_fit import fit_anny
    from ash_core.importers.body.anny_masks import Views

    cameras = tuple(
        Camera.from_arrays(camera.viewmat, camera.K, camera.width, camera.height, camera.name)
        for camera in capture.cameras
    )
    views = Views(cameras, lambda row, camera: mask_of(capture, row, camera))
    fit = fit_anny(poses_of(capture), capture.keypoints, views, report)
    vertices = fit.model.shaped(fit.poses.betas)
    body = CaptureBody(
        fit.model, fit.poses, vertices, np.asarray(fit.model.joints(vertices)), fit.notes
    )
    return replace(capture, poses=fit.poses), body
