"""Lie of patterns on a top: metres up its trunk and along its sleeves, as its panels are cut.

Measured with the arms half raised: by height alone stripes are as wide as the armpit, which is
level at rest, and cloth under an arm is small until the arm is raised. Both are a dark smear.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ash_core.studio.actor.body import rotation
from ash_core.studio.actor.regions import Landmarks
from ash_core.studio.mesh.surface import face_normals

RAISED = np.radians(75.0)
"""Angle by which arms are raised from the rest pose."""
SLEEVE = 0.55
"""Share of the arm from which cloth is the sleeve's."""
OVERLAP = 0.2
"""Difference from that share within which both panels are measured."""
HELD = 1e3
"""Weight of a held vertex against a face's gradient."""


@dataclass(frozen=True)
class Panels:
    """Metres on the cloth at vertices [V]."""

    trunk: np.ndarray
    """Up from the waist, where it is the height; the height itself on other parts."""
    sleeve: np.ndarray
    """Metres from the shoulder to the wrist."""


def lay_panels(
    points: np.ndarray, top: np.ndarray, arm: dict[str, np.ndarray], marks: Landmarks, waist: float
) -> Panels:
    """Measure a top's faces [F, 3] at places [V, 3], body frame, m.

    arm: shares of each arm [V]; waist: height below which the trunk's metres are the height, m.
    """
    raised = points.copy()
    axes, along = [], np.zeros(len(points))
    for k, side in enumerate(("left", "right")):
        shoulder = marks.shoulders[k]
        turn = rotation(np.array([0.0, 0.0, 1.0]), RAISED if k == 0 else -RAISED)
        axis = marks.wrists[k] - shoulder
        axis = axis / np.linalg.norm(axis)
        share = arm[f"{side}_arm"]
        raised += share[:, None] * ((points - shoulder) @ turn.T + shoulder - points)
        along = np.where(share > OVERLAP, (points - shoulder) @ axis, along)
        axes.append(turn @ axis)
    share = np.maximum(arm["left_arm"], arm["right_arm"])
    on_trunk = share[top].min(1) < SLEEVE + OVERLAP
    up = np.broadcast_to([0.0, 1.0, 0.0], (int(on_trunk.sum()), 3))
    trunk = fit_field(raised, top[on_trunk], up, points[:, 1], points[:, 1] < waist)
    on_sleeve = share[top].max(1) > SLEEVE - OVERLAP
    sleeves = top[on_sleeve]
    ways = np.where(points[sleeves, 0].mean(1, keepdims=True) > 0, *axes)
    # The end of a sleeve is where its metres are those along the arm.
    ends = np.isin(np.arange(len(points)), _border(top)) & (share > 0.9)
    return Panels(trunk, fit_field(raised, sleeves, ways, along, ends))


def fit_field(
    points: np.ndarray, faces: np.ndarray, ways: np.ndarray, values: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """Return the field [V] that grows by one a metre along the ways [F, 3], by least squares.

    values [V]: of the field where held [V], and away from the faces [F, 3].
    """
    used = np.unique(faces)
    local = np.searchsorted(used, faces)
    a, b, c = (points[faces[:, k]] for k in range(3))
    normals = face_normals(points, faces)
    double = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    normals = normals / double
    target = ways - (ways * normals).sum(1, keepdims=True) * normals
    # Rows: the field's gradient on each face, x, y, z.
    rows, columns, weights = [], [], []
    count = len(faces)
    for k, edge in enumerate((c - b, a - c, b - a)):
        hat = np.cross(normals, edge) / double
        for d in range(3):
            rows.append(np.arange(count) + d * count)
            columns.append(local[:, k])
            weights.append(hat[:, d])
    gradient = sp.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        (3 * count, len(used)),
    )
    areas = sp.diags(np.tile(double[:, 0] / 2, 3))
    hold = sp.diags(HELD * held[used] + 1e-9)
    matrix = gradient.T @ areas @ gradient + hold
    right = gradient.T @ (areas @ target.T.ravel()) + hold @ values[used]
    field = values.astype(float).copy()
    field[used] = spla.spsolve(sp.csc_matrix(matrix), right)
    return field


def _border(faces: np.ndarray) -> np.ndarray:
    """List the vertices on edges of only one face."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[count == 1])
