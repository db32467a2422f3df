"""One atlas for all materials of a character, in which no two triangles share a place.

A texel is one Gaussian on one triangle. Meshes made for games like mirrored halves, tiles and
palettes that share their paint: they would leave half the body bare. If the file's own layout is
one-to-one on one image, it stays. Else its charts are laid side by side, each as large as its
surface, and painted anew.

A chart keeps the file's layout only if it has nearly the surface's own shape. A triangle that is a
sliver there would make a box of many metres: it is laid out by its place in space.

The packer is our own, shelves by falling height, since it must find the largest scale. Libraries
that pack boxes of a given size (rectpack) leave that to the caller. One that makes charts too
(xatlas) would cut the file's own charts, along which artists hide their seams.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from PIL import Image, ImageDraw
from scipy.sparse.csgraph import connected_components

from ash_core.importers.gltf.gltf_paint import Material, Painter, Soup, decode, encode, uv_areas
from ash_core.studio.mesh.surface import face_normals
from ash_core.studio.mesh.texels import Texels, find_texels

OVERLAP = 1.03
"""Largest ratio of the triangles' area to the area they cover in a one-to-one layout."""
EMPTIEST = 0.2
"""Share of its image that a layout must cover to stay."""
PROBE_PX = 2048
SIDES_PX = (512, 1024, 2048)
"""Sides of a repacked texture: the smallest as fine as the file's images is used. The finest preset
has 512 texels a side, so that the largest gives each texel four by four pixels."""
GAP = 1.0 / 256.0
"""Gap between charts, if there is room; a texel of the default atlas."""
FLAT_UV = 1e-9
"""Area in the file's texture below which a triangle has a colour but no paint of its own."""
LONGEST = 3.0
"""Largest size of a triangle's box in a chart, as a multiple of its longest edge in space."""
SMALLEST = 0.2
"""Smallest share of its size in space that a triangle keeps in a chart."""
_LEAST_TEXELS = 12
"""Pixels of a triangle from which an overlap is measurable."""


@dataclass(frozen=True)
class MaterialAtlas:
    """Layout and its texture."""

    corner_uvs: np.ndarray
    """[F, 3, 2] in [0, 1], v up."""
    texture: np.ndarray
    """[h, w, 3] uint8"""
    is_kept: bool
    """True if the layout is the file's own."""
    density_px_m: float
    """Pixels a metre, of the median triangle by area."""
    source_px_m: float
    """Pixels a metre of the file's images; 0 without any."""
    relaid: int
    """Number of triangles with an image whose own layout was a sliver, or had no size."""


@dataclass
class _Chart:
    faces: np.ndarray
    flat: np.ndarray
    """Corners [n, 3, 2], m, with the box at the origin."""


def make_atlas(soup: Soup, materials: list[Material]) -> MaterialAtlas:
    """Lay out all triangles and paint them."""
    used = np.unique(soup.materials)
    whole = materials[used[0]]
    source = _source_density(soup, materials)
    is_plain = soup.colours is None and whole.alpha_mode == "OPAQUE"
    if len(used) == 1 and whole.image is not None and is_plain and is_one_to_one(soup.uvs):
        uvs = soup.uvs.clip(0.0, 1.0)
        corner_uvs = np.stack([uvs[..., 0], 1.0 - uvs[..., 1]], -1)
        return MaterialAtlas(corner_uvs, _tinted(whole), True, source, source, 0)

    # Triangles that a chart overlaps are taken out of it; few files have any.
    loose = np.zeros(len(soup.materials), bool)
    while True:
        charts, relaid = _charts(soup, materials, loose)
        sizes = [chart.flat.reshape(-1, 2).max(0) for chart in charts]
        scale, places = _pack(sizes)
        side = next((s for s in SIDES_PX if s * scale >= source), SIDES_PX[-1])
        side = side if source else SIDES_PX[1]
        layout = np.zeros((len(soup.materials), 3, 2))
        for chart, place in zip(charts, places, strict=True):
            layout[chart.faces] = chart.flat * scale + place
        corner_uvs = np.stack([layout[..., 0], 1.0 - layout[..., 1]], -1)
        texels = find_texels(corner_uvs, side)
        covered = _covered(texels, corner_uvs) & ~loose
        if not covered.any():
            break
        loose |= covered
    density = side * scale
    texture = _paint(soup, materials, texels, corner_uvs)
    return MaterialAtlas(corner_uvs, texture, False, density, source, relaid)


def is_one_to_one(uvs: np.ndarray) -> bool:
    """Return whether triangles [F, 3, 2] in 0 to 1 share no place, cover some, and have an area."""
    if not np.isfinite(uvs).all() or uvs.min() < -1e-3 or uvs.max() > 1.0 + 1e-3:
        return False
    areas = np.abs(uv_areas(uvs))
    if (areas < FLAT_UV).mean() > 0.01:
        return False
    image = Image.new("1", (PROBE_PX, PROBE_PX))
    draw = ImageDraw.Draw(image)
    for corners in (uvs * PROBE_PX).tolist():
        draw.polygon([tuple(corner) for corner in corners], fill=1)
    # The image's polygons include their outline, so that it covers rather more than less.
    covered = float(np.asarray(image).mean())
    return covered >= EMPTIEST and float(areas.sum()) <= OVERLAP * covered


def _tinted(material: Material) -> np.ndarray:
    """Multiply the image by the factor (which is linear)."""
    assert material.image is not None
    image, factor = material.image[..., :3], material.factor[:3]
    if (factor == 1.0).all():
        return image
    linear = decode(np.arange(256) / 255.0)
    table = [np.round(encode(linear * f) * 255).astype(np.uint8) for f in factor]
    return np.stack([table[c][image[..., c]] for c in range(3)], -1)


def _source_density(soup: Soup, materials: list[Material]) -> float:
    """Return pixels a metre of the file's images, of the median triangle by area; 0 without any."""
    pixels = np.array([0 if m.image is None else np.prod(m.image.shape[:2]) for m in materials])
    areas = _metric_areas(soup)
    uvs = np.where(np.isfinite(soup.uvs), soup.uvs, 0.0)
    density = np.sqrt(np.abs(uv_areas(uvs)) * pixels[soup.materials] / np.maximum(areas, 1e-18))
    return _weighted_median(density, areas * (density > 0))


def _metric_areas(soup: Soup) -> np.ndarray:
    return 0.5 * np.linalg.norm(_normals(soup), axis=1)


def _normals(soup: Soup) -> np.ndarray:
    corners = np.arange(3 * len(soup.positions)).reshape(-1, 3)
    return face_normals(soup.positions.reshape(-1, 3), corners)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    if not total[-1] > 0:
        return 0.0
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


# ---- charts ----


def _charts(soup: Soup, materials: list[Material], loose: np.ndarray) -> tuple[list[_Chart], int]:
    """Build connected pieces, in the file's layout or, without one, seen from six sides.

    loose [F]: triangles that are charts of their own.  Returns also the number of triangles with an
    image that do not keep their layout.
    """
    # Group triangles by their own layout, or by the side that they face.
    has_image = np.array([m.image is not None for m in materials])[soup.materials]
    uvs = np.where(np.isfinite(soup.uvs), soup.uvs, 0.0)
    areas = uv_areas(uvs)
    has_layout = has_image & np.isfinite(soup.uvs).all((1, 2)) & (np.abs(areas) > FLAT_UV)
    painted = has_layout & ~loose
    normals = _normals(soup)
    metric = 0.5 * np.linalg.norm(normals, axis=1)
    axis = np.abs(normals).argmax(1)
    facing = np.take_along_axis(normals, axis[:, None], 1)[:, 0] > 0
    size = np.ptp(soup.positions.reshape(-1, 3), axis=0).max() + 1e-12
    corners = np.round(soup.positions / size, 5)
    own = np.flatnonzero(loose)

    # Scale a chart by its median triangle; those whose box is far from their size in space leave
    # it, until none does.
    metres = np.ones(len(areas))
    while True:
        kind = np.where(painted, np.where(areas > 0, 0, 1), 2 + 2 * axis + facing)
        kind[own] = 8 + np.arange(len(own))
        own_uvs = np.where(painted[:, None, None], np.round(soup.uvs, 5), 0.0)
        labels = _components(corners, own_uvs, kind * len(materials) + soup.materials)
        order = np.argsort(labels, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        for faces in groups:
            if painted[faces[0]]:
                scales = np.sqrt(metric[faces] / np.abs(areas[faces]))
                metres[faces] = _weighted_median(scales, metric[faces]) or 1.0
        misshapen = painted & _is_misshapen(soup.positions, uvs, areas, metric, metres)
        if not misshapen.any():
            break
        painted &= ~misshapen
    # Lay each chart flat, from its layout or from its side.
    charts = []
    for faces in groups:
        if painted[faces[0]]:
            flat = uvs[faces] * metres[faces[0]]
        else:
            flat = _seen_from_front(soup.positions[faces], normals[faces], axis[faces[0]])
        flat = _upright(flat)
        charts.append(_Chart(faces, flat - flat.reshape(-1, 2).min(0)))
    return charts, int((has_image & ~painted & ~loose).sum())


def _is_misshapen(
    positions: np.ndarray,
    uvs: np.ndarray,
    areas: np.ndarray,
    metric: np.ndarray,
    metres: np.ndarray,
) -> np.ndarray:
    """Return whether a triangle's place in its chart is far from its size in space: [F]."""
    edge = np.linalg.norm(positions - np.roll(positions, 1, axis=1), axis=-1).max(1)
    box = np.ptp(uvs, axis=1).max(1) * metres
    share = np.sqrt(np.abs(areas)) * metres / np.maximum(np.sqrt(metric), 1e-12)
    return (box > LONGEST * edge) | ((share < SMALLEST) & (metric > 0))


def _seen_from_front(positions: np.ndarray, normals: np.ndarray, axis: int) -> np.ndarray:
    """Project to [n, 3, 2] m: a single triangle to its own plane, several along their common
    axis."""
    if len(positions) > 1:
        return positions[..., np.delete(np.arange(3), axis)]
    a, b, c = positions[0]
    length = np.linalg.norm(b - a)
    along = (b - a) / max(length, 1e-12)
    across = np.cross(normals[0], along)
    across /= max(np.linalg.norm(across), 1e-12)
    return np.array([[[0.0, 0.0], [length, 0.0], [(c - a) @ along, (c - a) @ across]]])


def _upright(flat: np.ndarray) -> np.ndarray:
    """Rotate a layout to its longest direction, lying."""
    points = flat.reshape(-1, 2) - flat.reshape(-1, 2).mean(0)
    _, axes = np.linalg.eigh(points.T @ points)
    best = min((np.eye(2), axes), key=lambda turn: np.ptp(points @ turn, axis=0).prod())
    turned = points @ best
    if np.ptp(turned[:, 1]) > np.ptp(turned[:, 0]):
        turned = turned[:, ::-1]
    return turned.reshape(flat.shape)


def _components(corners: np.ndarray, uvs: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Number the piece [F] of each face.

    Faces are connected at an edge where places, layout and kind are the same on both sides.
    """
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


def _covered(texels: Texels, corner_uvs: np.ndarray) -> np.ndarray:
    """Return whether another triangle covers most of a triangle: [F]."""
    count = np.bincount(texels.faces, minlength=len(corner_uvs))
    expected = np.abs(uv_areas(corner_uvs)) * texels.size**2
    return (expected >= _LEAST_TEXELS) & (count < 0.5 * expected)


# ---- places ----


def _pack(sizes: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """Find the largest scale at which boxes of these sizes fit the unit square, and their places.

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


def _paint(
    soup: Soup, materials: list[Material], texels: Texels, corner_uvs: np.ndarray
) -> np.ndarray:
    """Paint [side, side, 3] uint8: each pixel by its place on the surface, gaps by the nearest
    pixel."""
    colours = np.full((len(texels.faces), 3), 0.5, np.float32)
    is_there = np.zeros(len(texels.faces), bool)
    finite = np.where(np.isfinite(soup.uvs), soup.uvs, 0.0)
    layout = np.maximum(np.abs(uv_areas(corner_uvs)), 1e-18)
    # Side of the area of the file's image that falls on one of our pixels.
    step = np.sqrt(np.abs(uv_areas(finite)) / layout) / texels.size
    of_material = soup.materials[texels.faces]
    for m in np.unique(soup.materials).tolist():
        indices = np.flatnonzero(of_material == m)
        part = replace(
            texels, faces=texels.faces[indices], barycentrics=texels.barycentrics[indices]
        )
        tints = None
        corners = np.arange(3 * len(soup.positions)).reshape(-1, 3)
        if soup.colours is not None:
            tints = part.carry(soup.colours.reshape(-1, 4), corners)
        uvs = part.carry(soup.uvs.reshape(-1, 2), corners)
        rgb, alpha = Painter(materials[m]).colours(uvs, step[part.faces], tints)
        colours[indices] = rgb
        is_there[indices] = alpha >= materials[m].threshold
    if not is_there.any():
        is_there[:] = True
    shown = replace(texels, rows=texels.rows[is_there], columns=texels.columns[is_there])
    return shown.image(colours[is_there])
