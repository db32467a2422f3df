"""Template of a capture's character: the nude body, a scan, or a surface fitted to the masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from ash_core.captures.bodies import CaptureBody, mask_of
from ash_core.captures.capture import Capture, CaptureCamera
from ash_core.files.image import read_image
from ash_core.files.obj import ObjMesh, read_obj
from ash_core.importers.body.body_character import (
    BodyCharacter,
    clothed_character,
    make_body_character,
)
from ash_core.importers.body.posing import joint_frames

FIT: Final = "fit"
"""Value of --template for a surface that is fitted to the masks."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Surface:
    """Surface that the user asks for, and its texture coordinates."""

    template: Path | None
    """OBJ file of a scan, fit, or None for the body itself."""
    scan: ObjMesh | None
    uv: Path | None
    """OBJ file with the body's texture coordinates."""


def read_surface(template: Path | None, uv: Path | None) -> Surface:
    """Read the files of a surface: a wrong one is refused before slow work. Raises: InputError."""
    is_scan = template is not None and str(template) != FIT
    scan = read_obj(template, need_uvs=False) if template is not None and is_scan else None
    if uv is not None:
        read_obj(uv)
    return Surface(template, scan, uv)


def make_character(
    surface: Surface,
    capture: Capture,
    cameras: Sequence[CaptureCamera],
    body: CaptureBody,
    R_body_capture: Float[ndarray, "3 3"],
    progress: Progress,
) -> BodyCharacter:
    """Make the character of a capture. Raises: InputError.

    cameras: of the stored images, as they were detected. body: with poses of the rule "pelvis".
    """
    if surface.scan is not None:
        return _scanned(surface.scan, str(surface.template), body, R_body_capture)
    if surface.template is not None:
        return _fitted(capture, cameras, body, R_body_capture, progress)
    return make_body_character(body.model, body.poses, R_body_capture, uv_file=surface.uv)


def _scanned(
    mesh: ObjMesh, name: str, body: CaptureBody, R_body_capture: Float[ndarray, "3 3"]
) -> BodyCharacter:
    """Make the character of a scan near some frame's body. name: its file, in notes."""
    from ash_core.importers.template.transfer import unpose_scan

    scale = body.poses.scale
    scan = unpose_scan(
        mesh.vertices.double().numpy(),
        mesh.faces.numpy(),
        body.vertices * scale,
        body.model.faces,
        body.model.weights,
        body.rest_joints * scale,
        joint_frames(body.poses, body.rest_joints),
    )
    texture: UInt8[ndarray, "h w 3"] | None = None
    if mesh.texture is not None and mesh.texture.is_file():
        texture = read_image(mesh.texture).numpy()
    has_uvs = mesh.corner_uvs is not None and len(mesh.corner_uvs) > 0
    character = clothed_character(
        scan.vertices,
        mesh.faces.numpy(),
        np.asarray(mesh.corner_uvs) if has_uvs else None,
        scan.weights,
        body.model,
        body.poses,
        R_body_capture,
        texture=texture,
    )
    pose = "the rest pose"
    if scan.frame is not None:
        pose = f"the pose of frame {body.poses.frames[scan.frame]}"
    text = f"{name}: a scan in {pose}, {100 * scan.distance_m:.1f} cm from the body on average"
    return replace(character, notes=(text, *character.notes))


def _fitted(
    capture: Capture,
    cameras: Sequence[CaptureCamera],
    body: CaptureBody,
    R_body_capture: Float[ndarray, "3 3"],
    progress: Progress,
) -> BodyCharacter:
    """Make the character of a surface fitted to the masks of some frames."""
    from ash_core.importers.template.fit import fit_clothed_template
    from ash_core.importers.template.parts import HANDS

    def mask(row: int, camera: int) -> UInt8[ndarray, "h w"]:
        alpha = mask_of(capture, row, camera)
        return np.zeros((0, 0), np.uint8) if alpha is None else alpha

    scale = body.poses.scale
    fit = fit_clothed_template(
        body.vertices * scale,
        body.model.faces,
        body.model.weights,
        joint_frames(body.poses, body.rest_joints),
        body.rest_joints * scale,
        cameras,
        mask,
        progress,
    )
    character = clothed_character(
        fit.vertices, fit.faces, None, fit.weights, body.model, body.poses, R_body_capture
    )
    facts = fit.facts
    text = (
        f"template fitted to {facts['images']:.0f} masks of {facts['cameras']:.0f} cameras in "
        f"{facts['frames']:.0f} frames: outlines {facts['refined_gap_mm']:.1f} mm apart (median)"
    )
    lost = [side for side, is_joined in zip(HANDS, fit.joined_hands, strict=True) if not is_joined]
    notes = [f"{side} hand without fingers: its wrist was not found" for side in lost]
    return replace(character, notes=(text, *notes, *character.notes))
