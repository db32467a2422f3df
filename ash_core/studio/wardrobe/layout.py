"""UV atlas of a sewn surface: the body's charts, cut along the outfit, and one per sewn piece."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph

from ash_core.studio.actor.atlas_layout import FREE, body_density, body_labels
from ash_core.studio.actor.body import Body
from ash_core.studio.mesh.pack import pack
from ash_core.studio.mesh.unwrap import cut_charts, flatten
from ash_core.studio.wardrobe.fit import Fitted, bodily
from ash_core.studio.wardrobe.outfits import (
    BELT,
    BODY,
    CUFF,
    INSIDE,
    LOCKS,
    SCALP,
    SKIRT,
    TAIL,
)

SEWN_DENSITY = {INSIDE: 0.32, LOCKS: 1.4, SKIRT: 1.0, TAIL: 1.0, CUFF: 1.1, BELT: 1.2}
SCALP_DENSITY = 1.9
"""Density of hair on the head: a strand is a texel wide."""
HIDDEN_DENSITY = 0.3
"""Density of skin under the skirt."""


def layout(fitted: Fitted) -> np.ndarray:
    """Lay out corner texture coordinates [F, 3, 2] in [0, 1], v up, without overlapping faces."""
    sheet = fitted.sheet
    old = sheet.islands >= 0
    body = bodily(sheet, fitted.body)
    base = _of_faces(body, old)
    labels = np.zeros(len(sheet.faces), np.int64)
    marked = body_labels(base, sheet.points)
    labels[old] = marked + 100 * sheet.parts[old]
    labels[~old] = 10_000 + sheet.parts[~old]
    labels, free = _pieces(sheet.faces, sheet.corner_uvs, labels, old)
    density = np.ones(len(sheet.faces))
    density[old] = body_density(base, marked)
    density[old & (sheet.parts == SCALP)] = SCALP_DENSITY
    for part, value in SEWN_DENSITY.items():
        density[~old & (sheet.parts == part)] = value
    density[_hidden(fitted)] = HIDDEN_DENSITY
    charts = cut_charts(sheet.faces, sheet.corner_uvs, labels, free)
    flats = [flatten(sheet.points[c.vertices], c, density[c.faces]) for c in charts]
    packed = pack([(flat, c.local) for flat, c in zip(flats, charts, strict=True)])
    corner_uvs = np.zeros((len(sheet.faces), 3, 2))
    for chart, flat in zip(charts, packed, strict=True):
        corner_uvs[chart.faces] = flat[chart.local]
    return corner_uvs


def _of_faces(body: Body, keep: np.ndarray) -> Body:
    return replace(
        body, faces=body.faces[keep], corner_uvs=body.corner_uvs[keep], eyes=body.eyes[keep],
        islands=body.islands[keep],
    )  # fmt: skip


def _hidden(fitted: Fitted) -> np.ndarray:
    """Return the mask [F] of skin that the skirt covers."""
    sheet = fitted.sheet
    skirt = sheet.faces[sheet.parts == SKIRT]
    if not len(skirt):
        return np.zeros(len(sheet.faces), bool)
    low = sheet.points[skirt][..., 1].min() + 0.12
    leg = sheet.parts == BODY
    middle = sheet.points[sheet.faces].mean(1)
    return leg & (middle[:, 1] > low) & (np.abs(middle[:, 0]) < 0.22) & (middle[:, 1] < 1.0)


def _pieces(
    faces: np.ndarray, corner_uvs: np.ndarray, labels: np.ndarray, old: np.ndarray
) -> tuple[np.ndarray, set[int]]:
    """Label each connected piece; return the labels without an initial layout too."""
    sewn = ~old | np.isin(labels % 100 // 10 * 10, FREE)
    places = np.round(corner_uvs * 1e6).astype(np.int64) * ~sewn[:, None, None]
    keys = np.concatenate(
        [np.repeat(labels, 3)[:, None], faces.reshape(-1, 1), places.reshape(-1, 2)], axis=1
    )
    _, corner = np.unique(keys, axis=0, return_inverse=True)
    corner = corner.reshape(-1, 3)
    pairs = np.concatenate([corner[:, :2], corner[:, 1:]])
    count = int(corner.max()) + 1
    graph = sp.coo_matrix((np.ones(len(pairs)), pairs.T), (count, count))
    piece = csgraph.connected_components(graph, directed=False)[1][corner[:, 0]]
    return piece, {int(p) for p in np.unique(piece[sewn])}
