"""Make the body one closed surface: fill eyes and mouth, cap the toes, simplify."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from ash_core.studio.actor.body import Body, foot_islands, keep_faces, unit
from ash_core.studio.mesh.simplify import collapse
from ash_core.studio.mesh.surface import boundary_loops

EYE_RINGS = 3
TOE_RINGS = 7


def close_holes(body: Body) -> Body:
    """Fill the mouth slit with a strip and each eye opening with a patch of its eyeball."""
    for loop in sorted(boundary_loops(body.faces), key=lambda loop: loop[0]):
        centre = body.vertices[loop].mean(0)
        near = {side: np.linalg.norm(centre - ball[0]) for side, ball in body.eyeballs.items()}
        side = min(near, key=lambda name: near[name])
        if near[side] < 2.0 * body.eyeballs[side][1]:
            body = _fill_eye(body, loop, side)
        else:
            line = body.vertices[loop][np.argsort(body.vertices[loop, 0])]
            body = replace(_fill_slit(body, loop), mouth=line)
    return body


def _fill_slit(body: Body, loop: np.ndarray) -> Body:
    """Join the lower and the upper edge of a flat loop, without new vertices."""
    x = body.vertices[loop, 0]
    start = int(np.argmin(x))
    loop = np.roll(loop, -start)
    far = int(np.argmax(body.vertices[loop, 0]))
    one, other = list(loop[: far + 1]), [loop[0], *loop[: far - 1 : -1]]
    faces, i, j = [], 0, 0
    while i < len(one) - 1 or j < len(other) - 1:
        step_one = j == len(other) - 1 or (
            i < len(one) - 1 and body.vertices[one[i + 1], 0] <= body.vertices[other[j + 1], 0]
        )
        if step_one:
            faces.append((one[i + 1], one[i], other[j]))
            i += 1
        else:
            faces.append((one[i], other[j], other[j + 1]))
            j += 1
    faces = [face for face in faces if len(set(face)) == 3]
    return _add_faces(body, faces, _uv_of_vertices(body, loop), 0)


def _fill_eye(body: Body, loop: np.ndarray, side: str) -> Body:
    """Fill an eye with rings from the lid's edge inwards, on the eyeball's sphere.

    Corner coordinates are the angles from the gaze axis (+Z): an island of its own.
    """
    centre, radius = body.eyeballs[side]
    rim = body.vertices[loop]
    aim = unit(rim.mean(0) - centre)
    n, first = len(loop), len(body.vertices)
    rings, ids = [], [np.asarray(loop)]
    for k in range(1, EYE_RINGS + 1):
        t = k / (EYE_RINGS + 0.55)
        directions = unit((1 - t) * unit(rim - centre) + t * aim)
        depth = np.linalg.norm(rim - centre, axis=1, keepdims=True)
        reach = radius + (depth - radius) * (1 - t) ** 4
        rings.append(centre + directions * reach)
        ids.append(first + (k - 1) * n + np.arange(n))
    tip = first + EYE_RINGS * n
    faces = []
    for outer, inner in itertools.pairwise(ids):
        for i in range(n):
            j = (i + 1) % n
            faces += [(outer[j], outer[i], inner[i]), (outer[j], inner[i], inner[j])]
    faces += [(ids[-1][(i + 1) % n], ids[-1][i], tip) for i in range(n)]
    points = np.concatenate([*rings, (centre + aim * radius)[None]])
    added = np.zeros((len(points), body.weights.shape[1]))
    added[:, body.bones.index("head")] = 1.0
    body = replace(
        body,
        vertices=np.concatenate([body.vertices, points]),
        weights=np.concatenate([body.weights, added]),
    )
    flat = {}
    for vertex in [*loop, *range(first, tip + 1)]:
        ray = unit(body.vertices[vertex] - centre)
        flat[int(vertex)] = ray[:2] * (0.05 if side == "Left" else -0.05) + (2.0, 2.0)
    return _add_faces(body, faces, flat, 1 if side == "Left" else 2)


def cap_toes(body: Body) -> Body:
    """Cut the toes off in front of their joints and close each foot with one rounded cap."""
    for letter in "LR":
        big, small = body.heads[f"toe1-1.{letter}"], body.heads[f"toe5-1.{letter}"]
        line = (small - big)[[0, 2]]
        forward = np.array([-line[1], line[0]]) / np.linalg.norm(line)
        forward *= np.sign(forward[1])
        ahead = (body.vertices[:, [0, 2]] - big[[0, 2]]) @ forward
        on_side = np.sign(body.vertices[:, 0]) == np.sign(big[0])
        low = body.vertices[:, 1] < 0.12
        cut = on_side & low & (ahead > 0.004)
        tip = body.vertices[cut, 2].max()
        toe = body.faces[cut[body.faces].any(1)]
        island = np.bincount(body.islands[cut[body.faces].all(1)]).argmax()
        assert len(toe), letter
        body = keep_faces(body, ~cut[body.faces].any(1))
        loop = max(boundary_loops(body.faces), key=len)
        body = _fill_toes(body, loop, tip, letter, int(island))
    return body


def _fill_toes(body: Body, loop: np.ndarray, tip: float, letter: str, island: int) -> Body:
    rim = body.vertices[loop]
    centre, n, first = rim.mean(0), len(loop), len(body.vertices)
    rings, ids = [], [np.asarray(loop)]
    for k in range(1, TOE_RINGS + 1):
        t = k / (TOE_RINGS + 0.4)
        ring = centre + (rim - centre) * np.sqrt(1 - t * t) * [1.0, 1.0, 0.0]
        ring[:, 2] = rim[:, 2] * (1 - t) + tip * t
        rings.append(ring)
        ids.append(first + (k - 1) * n + np.arange(n))
    last = first + TOE_RINGS * n
    faces = []
    for outer, inner in itertools.pairwise(ids):
        for i in range(n):
            j = (i + 1) % n
            faces += [(outer[j], outer[i], inner[i]), (outer[j], inner[i], inner[j])]
    faces += [(ids[-1][(i + 1) % n], ids[-1][i], last) for i in range(n)]
    points = np.concatenate([*rings, [[centre[0], centre[1], tip]]])
    toe = np.zeros(body.weights.shape[1])
    toe[body.bones.index(f"toe3-1.{letter}")] = 1.0
    share = np.minimum(np.arange(1, TOE_RINGS + 1) / 3.0, 1.0)[:, None, None]
    added = (1 - share) * body.weights[loop] + share * toe
    added = np.concatenate([added.reshape(-1, len(toe)), toe[None]])
    grown = replace(
        body,
        vertices=np.concatenate([body.vertices, points]),
        weights=np.concatenate([body.weights, added]),
        faces=np.concatenate([body.faces, np.array(faces, np.int64)]),
        corner_uvs=np.concatenate([body.corner_uvs, np.zeros((len(faces), 3, 2))]),
        eyes=np.concatenate([body.eyes, np.zeros(len(faces), np.int64)]),
        islands=np.concatenate([body.islands, np.full(len(faces), island)]),
    )
    return grown


def _uv_of_vertices(body: Body, vertices: Iterable[int]) -> dict[int, np.ndarray]:
    """Return the vertices' texture coordinates in the island with most of their faces."""
    selected, by_vertex = {int(v) for v in vertices}, {}
    touched = np.isin(body.faces, list(selected)).any(1)
    in_island = touched & (body.islands == np.bincount(body.islands[touched]).argmax())
    for face, uvs in zip(body.faces[in_island], body.corner_uvs[in_island], strict=True):
        for vertex, uv in zip(face, uvs, strict=True):
            if int(vertex) in selected:
                by_vertex[int(vertex)] = uv
    return by_vertex


def _add_faces(body: Body, faces: list, uvs: Mapping[int, np.ndarray], eye: int) -> Body:
    corners = np.array([[uvs[int(v)] for v in face] for face in faces])
    touched = np.isin(body.faces, np.array(faces)).any(1)
    island = body.islands.max() + eye if eye else np.bincount(body.islands[touched]).argmax()
    return replace(
        body,
        faces=np.concatenate([body.faces, np.array(faces, np.int64)]),
        corner_uvs=np.concatenate([body.corner_uvs, corners]),
        eyes=np.concatenate([body.eyes, np.full(len(faces), eye)]),
        islands=np.concatenate([body.islands, np.full(len(faces), island)]),
    )


def thin(body: Body, importance: np.ndarray, target: int) -> Body:
    """Reduce the vertices (see `simplify.collapse`); eyes and seams stay, except seams in a foot.

    importance [V]: factor on a vertex's cost.
    """
    feet = np.isin(body.islands, foot_islands(body))
    corners = body.faces.reshape(-1)
    places = np.concatenate(
        [corners[:, None], np.round(body.corner_uvs.reshape(-1, 2) * 1e6).astype(np.int64)], axis=1
    )
    islands = np.stack([corners, np.repeat(body.islands, 3)], axis=1)
    count = lambda rows: np.bincount(np.unique(rows, axis=0)[:, 0], minlength=len(body.vertices))  # noqa: E731
    locked = count(places[~np.repeat(feet, 3)]) > 1
    locked |= count(islands) > 1
    locked[body.faces[body.eyes > 0]] = True
    faces, uvs, ids = collapse(
        body.vertices, body.faces, body.corner_uvs, importance, locked, ~feet, target
    )
    thinner = replace(
        body, faces=faces, corner_uvs=uvs, eyes=body.eyes[ids], islands=body.islands[ids]
    )
    return keep_faces(thinner, np.ones(len(faces), bool))
