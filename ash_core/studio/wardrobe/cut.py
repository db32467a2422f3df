"""Cut a body's surface along lines where a field is zero: seams, hems, the hairline."""

from dataclasses import replace

import numpy as np

from ash_core.studio.actor.body import Body
from ash_core.studio.mesh.surface import edges_of

SNAP = 0.14
"""Share of an edge within which a vertex moves onto the line, against slivers."""


def cut(body: Body, field: np.ndarray, carried: list) -> tuple[Body, list[np.ndarray]]:
    """Cut the body's edges along field [V] = 0.

    Returns the body and, at its vertices, the `carried` fields, then this one: exactly 0 on the
    line.
    """
    body, field = _snap(body, field)
    edges = edges_of(body.faces)
    crossed = edges[field[edges].prod(1) < 0]
    t = field[crossed[:, 0]] / (field[crossed[:, 0]] - field[crossed[:, 1]])
    count = len(body.vertices)
    middle = {tuple(edge): count + k for k, edge in enumerate(crossed.tolist())}
    share = dict(zip(middle, t.tolist(), strict=True))

    def mix(values: np.ndarray) -> np.ndarray:
        w = t.reshape(-1, *([1] * (values.ndim - 1)))
        return np.concatenate([values, (1 - w) * values[crossed[:, 0]] + w * values[crossed[:, 1]]])

    faces, uvs, parents = [], [], []
    for f, face in enumerate(body.faces.tolist()):
        for ids, corners in _pieces(face, body.corner_uvs[f], middle, share):
            faces.append(ids)
            uvs.append(corners)
            parents.append(f)
    result = replace(
        body,
        vertices=mix(body.vertices),
        weights=mix(body.weights),
        faces=np.array(faces),
        corner_uvs=np.array(uvs),
        eyes=body.eyes[parents],
        islands=body.islands[parents],
    )
    return result, [*map(mix, carried), np.concatenate([field, np.zeros(len(crossed))])]


def _snap(body: Body, field: np.ndarray) -> tuple[Body, np.ndarray]:
    """Move vertices close to the line onto it, along the edge with the nearest crossing."""
    vertices, field = body.vertices.copy(), field.copy()
    edges = edges_of(body.faces)
    both = np.concatenate([edges, edges[:, ::-1]])
    a, b = both[field[both].prod(1) < 0].T
    t = field[a] / (field[a] - field[b])
    order = np.argsort(t)
    done = np.zeros(len(field), bool)
    for k in order[t[order] < SNAP]:
        i, j = a[k], b[k]
        if not done[i] and not done[j]:
            vertices[i] = body.vertices[i] + t[k] * (body.vertices[j] - body.vertices[i])
            done[i] = True
    field[done] = 0.0
    return replace(body, vertices=vertices), field


def _pieces(face: list[int], uvs: np.ndarray, middle: dict, share: dict):
    """Split a face into one, two or three faces: (vertices, corners)."""
    ring: list[tuple[int, np.ndarray]] = []
    new = []
    for k in range(3):
        a, b = face[k], face[(k + 1) % 3]
        ring.append((a, uvs[k]))
        key = (min(a, b), max(a, b))
        if key in middle:
            t = share[key] if a < b else 1.0 - share[key]
            new.append(len(ring))
            ring.append((middle[key], (1 - t) * uvs[k] + t * uvs[(k + 1) % 3]))
    if not new:
        parts = [(0, 1, 2)]
    elif len(new) == 1:  # the line runs through the opposite corner
        n = new[0]
        parts = [(n, (n + 1) % 4, (n + 2) % 4), (n, (n + 2) % 4, (n + 3) % 4)]
    else:
        # The single corner is between the two new ones.
        first, second = new if new[1] - new[0] == 2 else (new[1], new[0])
        corner = lambda k: (second + k) % 5  # noqa: E731
        parts = [
            (first, (first + 1) % 5, second),
            (second, corner(1), corner(2)),
            (second, corner(2), first),
        ]
    return [([ring[k][0] for k in p], [ring[k][1] for k in p]) for p in parts]
