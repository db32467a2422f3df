"""UV atlas of the actor: the parts that become charts, and their density."""

import numpy as np

from ash_core.studio.actor.body import Body, foot_islands
from ash_core.studio.actor.regions import landmarks, shares, step
from ash_core.studio.mesh.pack import pack
from ash_core.studio.mesh.surface import face_normals
from ash_core.studio.mesh.unwrap import clean_labels, cut_charts, flatten

TORSO, ARM, HAND, LEG, UPPER, SOLE, HEAD, EYE, LINING, MOUTH = range(0, 100, 10)
"""Labels of parts; plus 1 for the left part, 2 for the right."""
DENSITY = {
    TORSO: 1.0,
    ARM: 1.1,
    HAND: 3.1,
    LEG: 0.92,
    UPPER: 1.15,
    SOLE: 0.7,
    HEAD: 1.25,
    EYE: 6.0,
    LINING: 3.0,
    MOUTH: 2.0,
}
"""Texels per metre, relative."""
FREE = (UPPER, SOLE, LINING, MOUTH)
"""Parts that are not laid out as in the body model."""
FACE_DENSITY = 4.0
"""Relative density in the middle of the face."""


def layout(body: Body, dressed: np.ndarray) -> np.ndarray:
    """Lay out corner texture coordinates [F, 3, 2] in [0, 1], v up, without overlapping faces."""
    labels = body_labels(body, dressed)
    free = {part + side for part in FREE for side in (0, 1, 2)}
    charts = cut_charts(body.faces, body.corner_uvs, labels, free)
    density = body_density(body, labels)
    flats = [flatten(dressed[c.vertices], c, density[c.faces]) for c in charts]
    packed = pack([(flat, c.local) for flat, c in zip(flats, charts, strict=True)])
    corner_uvs = np.zeros((len(body.faces), 3, 2))
    for chart, flat in zip(charts, packed, strict=True):
        corner_uvs[chart.faces] = flat[chart.local]
    return corner_uvs


def body_labels(body: Body, dressed: np.ndarray) -> np.ndarray:
    """Label [F] the part of each face of a whole body."""
    share = shares(body)
    mean = lambda values: values[body.faces].mean(1)  # noqa: E731
    side = np.where(mean(body.vertices[:, 0]) > 0, 1, 2)
    labels = np.full(len(body.faces), TORSO)
    for name, label, threshold in (("arm", ARM, 0.5), ("leg", LEG, 0.6)):
        part = mean(np.maximum(share[f"left_{name}"], share[f"right_{name}"])) > threshold
        labels = np.where(part, label + side, labels)
    islands = body.islands
    hands = np.isin(islands, np.unique(islands[mean(_either(share, "hand")) > 0.9]))
    labels = np.where(hands, HAND + side, labels)
    head = np.isin(islands, np.unique(islands[mean(share["ear"]) > 0.5]))
    labels = np.where(head, HEAD, labels)
    feet = np.isin(islands, foot_islands(body))
    normals = face_normals(dressed, body.faces)
    down = -normals[:, 1] / np.maximum(np.linalg.norm(normals, axis=1), 1e-12)
    flat_sole = (down > 0.5) & (mean(dressed[:, 1]) < 0.008)
    labels = np.where(feet, np.where(flat_sole, SOLE, UPPER) + side, labels)
    inner = np.array([0, EYE + 1, EYE + 2, LINING + 1, LINING + 2, MOUTH])
    labels = np.where(body.eyes > 0, inner[body.eyes], labels)
    fixed = ~feet & ((labels == HEAD) | hands | (body.eyes > 0))
    cleaned = clean_labels(body.faces, labels)
    return np.where(fixed | np.isin(cleaned, labels[fixed]), labels, cleaned)


def _either(share: dict, limb: str) -> np.ndarray:
    return np.maximum(share[f"left_{limb}"], share[f"right_{limb}"])


def body_density(body: Body, labels: np.ndarray) -> np.ndarray:
    """Return the texels per metre of each face [F], relative."""
    density = np.array([DENSITY[label // 10 * 10] for label in labels.tolist()])
    marks = landmarks(body)
    centres = body.vertices[body.faces].mean(1)
    middle = marks.eyes + np.array([0.0, -0.03, 0.0])
    away = np.linalg.norm((centres - middle) * [1.0, 0.8, 0.7], axis=1)
    face = (1.0 - step(away, 0.045, 0.125)) * (labels == HEAD)
    return density + face * (FACE_DENSITY - DENSITY[HEAD])
