"""Surface during sewing: parts of the body, pulled apart along cuts and joined by cloth.

Where two parts meet, a chain of rings joins them: out, down over the other part, around the hem and
back inside. So hems, sleeves, skirts and collars are geometry, and the surface stays closed.
"""

from dataclasses import dataclass, field

import numpy as np

from ash_core.studio.actor.body import Body
from ash_core.studio.mesh.surface import boundary_loops


@dataclass
class Sheet:
    """Growing mesh."""

    bare: np.ndarray
    """Place on the undressed body [V, 3], m; an added ring's own place."""
    points: np.ndarray
    """Dressed place [V, 3], m."""
    weights: np.ndarray
    faces: np.ndarray
    corner_uvs: np.ndarray
    eyes: np.ndarray
    islands: np.ndarray
    parts: np.ndarray
    """Part of the outfit [F]: its materials and its charts."""
    loose: np.ndarray
    partner: np.ndarray
    inset: np.ndarray
    along: np.ndarray
    """Metres around and down from the cut [V, 2], on added rings; elsewhere 0."""
    added: np.ndarray
    """Mask [V] of vertices on added rings."""


@dataclass
class Ring:
    """Ring of a chain, with as many points as the loop that it starts from."""

    points: np.ndarray
    weights: np.ndarray
    part: int
    """Part of the strip that ends at this ring."""
    loose: np.ndarray = field(default_factory=lambda: np.zeros(0))
    partner: int = -1
    """Index of the ring in the chain that this one lines; -1: none."""
    inset: float | np.ndarray = 0.0
    """Depth under that ring, m: one, or one a point [n]."""
    down: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Metres around and down [n, 2], for patterns."""


def split(body: Body, parts: np.ndarray, placed: dict[int, np.ndarray]) -> Sheet:
    """Give each part vertices of its own. placed: dressed places [V, 3] of its vertices by part."""
    count = len(body.vertices)
    keys = (parts[:, None] * count + body.faces).ravel()
    unique, local = np.unique(keys, return_inverse=True)
    part, vertex = np.divmod(unique, count)
    points = np.stack([placed[int(p)][v] for p, v in zip(part, vertex, strict=True)])
    n = len(unique)
    return Sheet(
        body.vertices[vertex], points, body.weights[vertex], local.reshape(-1, 3),
        body.corner_uvs.copy(), body.eyes.copy(), body.islands.copy(), parts.copy(),
        np.zeros(n), np.full(n, -1), np.zeros(n), np.zeros((n, 2)), np.zeros(n, bool),
    )  # fmt: skip


def seams(sheet: Sheet, one: int, other: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """List loops where two parts meet, in the first part's orientation.

    Returns the first part's vertices and the other part's at the same places.
    """
    loops = []
    twins_by_place = {tuple(p): int(v) for v in np.unique(sheet.faces[sheet.parts == other])
          for p in [np.round(sheet.bare[v], 9).tolist()]}  # fmt: skip
    for loop in boundary_loops(sheet.faces[sheet.parts == one]):
        twins = [twins_by_place.get(tuple(np.round(sheet.bare[v], 9).tolist())) for v in loop]
        if all(twin is not None for twin in twins):
            loops.append((loop, np.array(twins)))
        else:
            assert not any(t is not None for t in twins) or one == other, (one, other, len(loop))
    return loops


def keep_faces(sheet: Sheet, keep: np.ndarray) -> None:
    """Remove the faces that are not in `keep` [F]."""
    for name in ("faces", "corner_uvs", "eyes", "islands", "parts"):
        setattr(sheet, name, getattr(sheet, name)[keep])


def weld(sheet: Sheet, start: np.ndarray, end: np.ndarray) -> None:
    """Make each of `start` one vertex with its twin in `end`; faces without an area are removed."""
    one = np.arange(len(sheet.points))
    one[start] = end
    sheet.faces = one[sheet.faces]
    a, b, c = sheet.faces.T
    keep_faces(sheet, (a != b) & (b != c) & (c != a))


def join(
    sheet: Sheet, start: np.ndarray, rings: list[Ring], end: np.ndarray | None, part: int
) -> None:
    """Sew a chain from a loop to another of equal length, with a last strip of `part`.

    Without `end` the last ring is filled with a fan of `part`.
    """
    first, n = len(sheet.points), len(start)
    ids = [start]
    for k, ring in enumerate(rings):
        ids.append(first + k * n + np.arange(n))
        partner = np.full(n, -1)
        if ring.partner >= 0:
            partner = first + ring.partner * n + np.arange(n)
        sheet.bare = np.concatenate([sheet.bare, ring.points])
        sheet.points = np.concatenate([sheet.points, ring.points])
        sheet.weights = np.concatenate([sheet.weights, ring.weights])
        sheet.loose = np.concatenate([sheet.loose, ring.loose if len(ring.loose) else np.zeros(n)])
        sheet.partner = np.concatenate([sheet.partner, partner])
        sheet.inset = np.concatenate([sheet.inset, np.broadcast_to(ring.inset, n)])
        sheet.along = np.concatenate(
            [sheet.along, ring.down if len(ring.down) else np.zeros((n, 2))]
        )
        sheet.added = np.concatenate([sheet.added, np.ones(n, bool)])
    parts = [ring.part for ring in rings]
    if end is not None:
        ids.append(end)
        parts.append(part)
    for a, b, name in zip(ids[:-1], ids[1:], parts, strict=True):
        _add_faces(sheet, _strip(a, b, sheet.points), name)
    if end is None:
        _close(sheet, ids[-1], part)


def _close(sheet: Sheet, loop: np.ndarray, part: int) -> None:
    """Fill a loop with a fan around its middle."""
    tip = len(sheet.points)
    mean = lambda values: np.concatenate([values, values[loop].mean(0, keepdims=True)])  # noqa: E731
    sheet.bare, sheet.points = mean(sheet.bare), mean(sheet.points)
    sheet.weights, sheet.loose = mean(sheet.weights), mean(sheet.loose)
    sheet.along = mean(sheet.along)
    sheet.partner = np.append(sheet.partner, -1)
    sheet.inset, sheet.added = np.append(sheet.inset, 0.0), np.append(sheet.added, True)
    fan = np.stack([np.roll(loop, -1), loop, np.full(len(loop), tip)], 1)
    _add_faces(sheet, fan, part)


def _strip(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Add two triangles between each pair of neighbours, along the shorter diagonal.

    `a` runs along the border of the part that it ends, so the strip runs against it.
    """
    a1, b1 = np.roll(a, -1), np.roll(b, -1)
    one = np.linalg.norm(points[a1] - points[b], axis=1)
    other = np.linalg.norm(points[a] - points[b1], axis=1)
    short = (one <= other)[:, None]
    first = np.where(short, np.stack([a1, a, b], 1), np.stack([a1, a, b1], 1))
    second = np.where(short, np.stack([a1, b, b1], 1), np.stack([a, b, b1], 1))
    return np.concatenate([first, second])


def _add_faces(sheet: Sheet, faces: np.ndarray, part: int) -> None:
    n = len(faces)
    sheet.faces = np.concatenate([sheet.faces, faces])
    sheet.corner_uvs = np.concatenate([sheet.corner_uvs, np.zeros((n, 3, 2))])
    sheet.eyes = np.concatenate([sheet.eyes, np.zeros(n, np.int64)])
    sheet.islands = np.concatenate([sheet.islands, np.full(n, -1)])
    sheet.parts = np.concatenate([sheet.parts, np.full(n, part)])
