"""Texture of a capture's template, from its own images: an untrained avatar already looks alike.

Each texel takes the colours of the cameras that see it, weighted towards those that face it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from scipy.ndimage import binary_erosion, map_coordinates
from scipy.spatial import KDTree

from ash_core.captures.bodies import mask_of
from ash_core.captures.capture import Capture, CaptureCamera
from ash_core.captures.images import read_images
from ash_core.character import Character
from ash_core.conventions import NEAR_M
from ash_core.files.image import encode_png
from ash_core.files.io import write_atomic
from ash_core.files.released import import_ash
from ash_core.geometry.lens import distort
from ash_core.geometry.motion import pose_window
from ash_core.records import Motion
from ash_core.splat.triangle_fill import fill_depths
from ash_core.studio.mesh.surface import vertex_normals
from ash_core.studio.mesh.texels import find_texels

SIDE: Final = 1024
"""Side of the texture, px."""
FRAMES: Final = 8
"""Frames whose images are used."""
FACING: Final = 4
"""Power of the cosine between normal and view that weighs a camera."""
LEAST_COSINE: Final = 0.2
TOLERANCE_M: Final = 0.012
"""Distance behind the nearest surface at which a texel still counts as seen."""
RIM_PX: Final = 2
"""Width of the masks' rims that is left out: backdrop shines through there."""
MASKED: Final = 200
"""Alpha from which a pixel shows the person alone."""
SEEN: Final = 1e-3
"""Weight from which a texel has a colour of its own."""


def paint_texture(
    folder: Path,
    capture: Capture,
    cameras: Sequence[CaptureCamera],
    dofs: Float[ndarray, "F D"],
    rows: Sequence[int],
    T_capture_body: Float[ndarray, "4 4"],
    progress: Callable[[str, float], None],
) -> float:
    """Replace the texture of a character's folder; returns the share of texels that were seen.

    dofs: of every frame of the capture. rows: frames that may be used, by their place. cameras: of
    the stored images, as they were detected. T_capture_body: from the body frame, m.
    """
    # The character, and the surface's place in some spread frames.
    data, _ = import_ash(folder / "character.conf")
    character = Character(data)
    faces = data.template.faces.numpy()
    texels = find_texels(data.template.corner_uvs.numpy(), SIDE)
    chosen = [rows[n] for n in np.unique(np.linspace(0, len(rows) - 1, FRAMES).astype(int))]
    motion = Motion(torch.from_numpy(dofs))
    surfaces = []
    with torch.no_grad():
        for row in chosen:
            window = pose_window(motion, row, data.skeleton, data.history_offsets)
            posed = character(window).vertices[0].double().numpy()
            vertices = posed @ T_capture_body[:3, :3].T + T_capture_body[:3, 3]
            normals = texels.carry(vertex_normals(vertices, faces), faces)
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
            points = texels.carry(vertices, faces)
            surfaces.append(_Surface(vertices, faces, points, normals))

    # Colours of all cameras that see a texel.
    sums, weights = np.zeros((len(texels.faces), 3)), np.zeros(len(texels.faces))
    for number, camera in enumerate(cameras):
        progress("painting the texture", number / len(cameras))
        keys = [(capture.frames[row], number) for row in chosen]
        photographed = [place for place, key in enumerate(keys) if key in capture.images]
        images = read_images(capture.images[keys[place]] for place in photographed)
        for place, image in zip(photographed, images, strict=True):
            alpha = mask_of(capture, chosen[place], number)
            if alpha is not None and alpha.shape == image.shape[:2]:
                person = binary_erosion(alpha >= MASKED, iterations=RIM_PX)
                _add_view(surfaces[place], camera, image, person, sums, weights)

    # Texels that nobody sees take the colour of their nearest neighbour at rest.
    is_seen = weights > SEEN
    if not is_seen.any():
        return 0.0
    colours = sums / np.maximum(weights, SEEN)[:, None]
    places = texels.carry(data.template.vertices.double().numpy(), faces)
    _, nearest = KDTree(places[is_seen]).query(places[~is_seen])
    colours[~is_seen] = colours[is_seen][nearest]
    picture = texels.image(colours / 255)
    write_atomic(folder / "character.png", encode_png(torch.from_numpy(picture)))
    return float(is_seen.mean())


@dataclass(frozen=True)
class _Surface:
    """Posed template in the capture's world, m."""

    vertices: Float[ndarray, "V 3"]
    faces: Int[ndarray, "F 3"]
    points: Float[ndarray, "N 3"]
    """Places of the texels."""
    normals: Float[ndarray, "N 3"]
    """Unit."""


def _add_view(
    surface: _Surface,
    camera: CaptureCamera,
    image: UInt8[ndarray, "h w 3"],
    person: Bool[ndarray, "h w"],
    sums: Float[ndarray, "N 3"],
    weights: Float[ndarray, "N"],
) -> None:
    """Add one image's colours to the texels that it shows, in place."""
    # Depth of the nearest surface.
    pixels, depths = _project(camera, surface.vertices)
    if depths.min() <= NEAR_M:
        return
    nearest = np.full(image.shape[:2], np.inf)
    fill_depths(pixels, depths, surface.faces, nearest)

    # Texels that face the camera and that nothing hides.
    eye = -camera.viewmat[:3, :3].T @ camera.viewmat[:3, 3]
    views = eye - surface.points
    cosines = (views * surface.normals).sum(1) / np.linalg.norm(views, axis=1)
    pixels, depths = _project(camera, surface.points)
    columns, rows = np.floor(pixels).astype(np.int64).T
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    rows, columns = np.where(inside, rows, 0), np.where(inside, columns, 0)
    visible = inside & (cosines > LEAST_COSINE) & person[rows, columns]
    visible &= depths < nearest[rows, columns] + TOLERANCE_M

    # Their colours.
    where = np.flatnonzero(visible)
    grid = pixels[where].T[::-1] - 0.5
    weight = cosines[where] ** FACING
    weights[where] += weight
    for channel in range(3):
        values = map_coordinates(image[..., channel], grid, np.float64, order=1, mode="nearest")
        sums[where, channel] += weight * values


def _project(
    camera: CaptureCamera, points: Float[ndarray, "n 3"]
) -> tuple[Float[ndarray, "n 2"], Float[ndarray, "n"]]:
    """Project points of the capture's world to px of the stored image, and return their depths."""
    local = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    depths = local[:, 2]
    bent = distort(camera.lens, local[:, :2] / np.where(depths == 0, 1, depths)[:, None])
    return bent * np.diag(camera.K)[:2] + camera.K[:2, 2], depths
