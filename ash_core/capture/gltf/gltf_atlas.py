"""One atlas for all materials of a character, in which no two triangles share a place.

A texel of ours is one Gaussian on one triangle: mirrored halves that share their paint, tiles and
palettes, which meshes made for games like, would leave half the body bare. Where the file's own
layout is one-to-one on one image it is kept as it is; else its charts are laid side by side, each
with its piece of paint.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from PIL import Image, ImageDraw
from scipy.ndimage import map_coordinates
from scipy.sparse.csgraph import connected_components

from ash_core.capture.gltf.gltf_mesh import Material
from ash_core.capture.mesh.surface import face_normals

OVERLAP = 1.03
"""Area of the triangles over the area they cover, up to which a layout is one-to-one."""
PROBE_PX = 2048
TEXTURE_PX = (1024, 2048)
"""Side of a repacked texture; the larger one where the sources are."""
GAP = 1.0 / 256.0
"""Between charts, where there is room; a texel of the default atlas."""
FLAT_UV = 1e-9
"""Area in the file's texture below which a triangle has no paint of its own but a colour."""


@dataclass(frozen=True)
class Soup:
    """Triangles with their paint."""

    positions: np.ndarray
    """[F, 3, 3] of the corners, m."""
    uvs: np.ndarray
    """[F, 3, 2] v down; NaN where the file has none."""
    materials: np.ndarray
    """[F]"""


@dataclass
class _Chart:
    faces: np.ndarray
    flat: np.ndarray
    """[n, 3, 2] its corners, at any scale and place."""
    metres: float
    """Per unit of `flat`."""
    is_painted: bool
    """`flat` is the file's own layout, so that its piece of the image can be cut out."""


def make_atlas(soup: Soup, materials: list[Material]) -> tuple[np.ndarray, np.ndarray]:
    """Corner texture coordinates [F, 3, 2] in [0, 1], v up, and the texture [h, w, 3] uint8."""
    used = np.unique(soup.materials)
    whole = materials[used[0]]
    if len(used) == 1 and whole.image is not None and _is_one_to_one(soup):
        uvs = soup.uvs.clip(0.0, 1.0)
        return np.stack([uvs[..., 0], 1.0 - uvs[..., 1]], -1), _tinted(whole)
    charts = _charts(soup, materials)
    images = [materials[m].image for m in used.tolist()]
    largest = max((max(image.shape[:2]) for image in images if image is not None), default=0)
    side = TEXTURE_PX[largest > TEXTURE_PX[0]]
    scale, places = _pack([np.ptp(c.flat.reshape(-1, 2), axis=0) * c.metres for c in charts])
    corner_uvs = np.zeros((len(soup.materials), 3, 2))
    texture = np.zeros((side, side, 3), np.uint8)
    texture[:] = 128
    tinted = {m: _tinted(materials[m]) for m in used.tolist()}
    for chart, place in zip(charts, places, strict=True):
        low = chart.flat.reshape(-1, 2).min(0)
        grow = chart.metres * scale
        corner_uvs[chart.faces] = (chart.flat - low) * grow + place
        image = tinted[int(soup.materials[chart.faces[0]])]
        if chart.is_painted:
            size = np.ptp(chart.flat.reshape(-1, 2), axis=0) * grow
            _copy(texture, image, place, size, low, grow)
    flat = np.concatenate([c.faces for c in charts if not c.is_painted] or [np.zeros(0, int)])
    _fill(texture, corner_uvs[flat], soup, flat, tinted)
    return np.stack([corner_uvs[..., 0], 1.0 - corner_uvs[..., 1]], -1), texture


def _is_one_to_one(soup: Soup) -> bool:
    uvs = soup.uvs
    if not np.isfinite(uvs).all() or uvs.min() < -1e-3 or uvs.max() > 1.0 + 1e-3:
        return False
    areas = np.abs(_areas(uvs))
    if (areas < FLAT_UV).mean() > 0.01:
        return False
    image = Image.new("1", (PROBE_PX, PROBE_PX))
    draw = ImageDraw.Draw(image)
    for corners in (uvs * PROBE_PX).tolist():
        draw.polygon([tuple(corner) for corner in corners], fill=1)
    # The picture's polygons own their outline too, so that it covers rather more than less.
    covered = float(np.asarray(image).mean())
    return float(areas.sum()) <= OVERLAP * covered


def _areas(uvs: np.ndarray) -> np.ndarray:
    a, b = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    return 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def _tinted(material: Material) -> np.ndarray:
    """The image times the factor (which is linear); one pixel without an image."""
    if material.image is None:
        return np.round(_encode(material.factor) * 255).astype(np.uint8)[None, None]
    if (material.factor == 1.0).all():
        return material.image
    table = np.arange(256) / 255.0
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    channels = [
        np.round(_encode(linear * f) * 255).astype(np.uint8)[material.image[..., c]]
        for c, f in enumerate(material.factor)
    ]
    return np.stack(channels, -1)


def _encode(linear: np.ndarray) -> np.ndarray:
    """Linear to sRGB."""
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )


# ---- charts ----


def _charts(soup: Soup, materials: list[Material]) -> list[_Chart]:
    """Pieces that hang together, in the file's layout or, without one, seen from six sides."""
    has_image = np.array([m.image is not None for m in materials])[soup.materials]
    finite = np.isfinite(soup.uvs).all((1, 2))
    areas = np.where(finite, _areas(np.where(np.isfinite(soup.uvs), soup.uvs, 0.0)), 0.0)
    painted = has_image & (np.abs(areas) > FLAT_UV)
    normals = face_normals(soup.positions.reshape(-1, 3), np.arange(len(areas) * 3).reshape(-1, 3))
    axis = np.abs(normals).argmax(1)
    facing = np.take_along_axis(normals, axis[:, None], 1)[:, 0] > 0
    size = np.ptp(soup.positions.reshape(-1, 3), axis=0).max() + 1e-12
    corners = np.round(soup.positions / size, 5)
    # Faces hang together at an edge where all this is the same on both sides.
    kind = np.where(painted, np.where(areas > 0, 0, 1), 2 + 2 * axis + facing)
    own_uvs = np.where(painted[:, None, None], np.round(soup.uvs, 5), 0.0)
    labels = _components(corners, own_uvs, kind * len(materials) + soup.materials)
    charts = []
    order = np.argsort(labels, kind="stable")
    for faces in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        metric = 0.5 * np.linalg.norm(normals[faces], axis=1).sum()
        if painted[faces[0]]:
            flat = soup.uvs[faces]
            shift = np.floor(flat.reshape(-1, 2).mean(0))
            flat = flat - shift
            scale = math.sqrt(metric / np.abs(areas[faces]).sum())
            charts.append(_Chart(faces, flat, scale, True))
        else:
            others = np.delete(np.arange(3), axis[faces[0]])
            flat = soup.positions[faces][..., others]
            charts.append(_Chart(faces, flat, 1.0, False))
    return charts


def _components(corners: np.ndarray, uvs: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """[F] number of the piece each face belongs to."""
    keys = np.concatenate([corners, uvs], -1).reshape(-1, 5)
    _, points = np.unique(keys, axis=0, return_inverse=True)
    points = points.reshape(-1, 3)
    faces = np.arange(len(points))
    edges = np.concatenate([points[:, [0, 1]], points[:, [1, 2]], points[:, [2, 0]]])
    edges = np.concatenate([np.sort(edges, 1), np.tile(kind, 3)[:, None]], 1)
    _, edge = np.unique(edges, axis=0, return_inverse=True)
    edge = edge.reshape(-1)
    count = len(points)
    graph = sp.csr_matrix(
        (np.ones(3 * count), (np.tile(faces, 3), edge)), (count, int(edge.max()) + 1)
    )
    return connected_components(graph @ graph.T, directed=False)[1]


# ---- places ----


def _pack(sizes: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """The largest scale at which boxes of these sizes fit on shelves in the unit square, and where.

    Source: next-fit shelves by falling height; the scale by bisection.
    """
    boxes = np.maximum(np.array(sizes), 1e-9)
    gap = min(GAP, 0.25 / math.sqrt(len(boxes)))
    order = np.argsort(-boxes[:, 1], kind="stable")
    low, high = 0.0, 1.0 / math.sqrt(boxes.prod(1).sum())
    best = None
    for _ in range(40):
        scale = (low + high) / 2
        placed = _shelves(boxes * scale, order, gap)
        if placed is None:
            high = scale
        else:
            low, best = scale, placed
    assert best is not None, len(boxes)
    return low, best


def _shelves(boxes: np.ndarray, order: np.ndarray, gap: float) -> list[np.ndarray] | None:
    places: list[np.ndarray] = [np.zeros(2)] * len(boxes)
    x, y, height = gap, gap, 0.0
    for n in order.tolist():
        w, h = boxes[n]
        if x + w + gap > 1.0:
            x, y, height = gap, y + height + gap, 0.0
        if x + w + gap > 1.0 or y + h + gap > 1.0:
            return None
        places[n] = np.array([x, y])
        x, height = x + w + gap, max(height, h)
    return places


# ---- paint ----


def _copy(
    texture: np.ndarray,
    image: np.ndarray,
    place: np.ndarray,
    size: np.ndarray,
    low: np.ndarray,
    grow: float,
) -> None:
    """A chart's piece of an image, and a little around it, to its place. Images repeat."""
    if grow < 1e-9:  # a chart of no size
        return
    side = len(texture)
    margin = GAP / 2 * side
    first = np.maximum(np.floor(place * side - margin), 0).astype(int)
    last = np.minimum(np.ceil((place + size) * side + margin), side).astype(int)
    height, width = image.shape[:2]
    # Pixels of the image under one of ours: beyond one and a half it is averaged first.
    step = max(width, height) / (grow * side)
    if step > 1.5 and min(width, height) > 8:
        shape = max(int(width / step), 1), max(int(height / step), 1)
        image = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BOX))
        height, width = image.shape[:2]
    u = ((np.arange(first[0], last[0]) + 0.5) / side - place[0]) / grow + low[0]
    v = ((np.arange(first[1], last[1]) + 0.5) / side - place[1]) / grow + low[1]
    at = np.meshgrid(v * height - 0.5, u * width - 0.5, indexing="ij")
    for c in range(3):
        piece = map_coordinates(image[..., c].astype(np.float32), at, order=1, mode="grid-wrap")
        texture[first[1] : last[1], first[0] : last[0], c] = np.round(piece).clip(0, 255)


def _fill(
    texture: np.ndarray, uvs: np.ndarray, soup: Soup, faces: np.ndarray, tinted: dict
) -> None:
    """Faces with one colour each."""
    picture = Image.fromarray(texture)
    draw = ImageDraw.Draw(picture)
    side = len(texture)
    width = max(round(2 * GAP * side), 1)
    for pass_width in (width, 0):  # outlines first, so that none runs over a neighbour's middle
        for face, corners in zip(faces.tolist(), (uvs * side).tolist(), strict=True):
            colour = _colour(soup, face, tinted)
            points = [tuple(corner) for corner in corners]
            if pass_width:
                draw.line([*points, points[0]], fill=colour, width=pass_width)
            else:
                draw.polygon(points, fill=colour, outline=colour)
    texture[:] = np.asarray(picture)


def _colour(soup: Soup, face: int, tinted: dict) -> tuple[int, int, int]:
    image = tinted[int(soup.materials[face])]
    at = soup.uvs[face].mean(0)
    at = np.where(np.isfinite(at), at, 0.5)
    height, width = image.shape[:2]
    row, column = int((at[1] % 1.0) * height) % height, int((at[0] % 1.0) * width) % width
    r, g, b = image[row, column].tolist()
    return r, g, b
