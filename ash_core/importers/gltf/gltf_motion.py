"""Transforms of a glTF scene's nodes: at rest, and over the frames of its animations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ash_core.files.gltf import Gltf, Node

MAX_TRANSFORMS = 2_000_000
"""Upper bound on nodes times frames of an animation: 256 MB of matrices, 40 minutes of 33 nodes."""
_WIDTH = {"translation": 3, "rotation": 4, "scale": 3}


@dataclass(frozen=True)
class Animation:
    """Animation with its name."""

    name: str
    tracks: dict[tuple[int, str], np.ndarray]
    """Tracks [F, 3 or 4] by (node, translation, rotation or scale)."""
    frames: int
    has_morphs: bool


def world(
    nodes: Sequence[Node], order: Sequence[int], animation: Animation | None = None
) -> np.ndarray:
    """Compute T_world_node [F, N, 4, 4]; F is 1 without an animation."""
    frames = animation.frames if animation else 1
    tracks = animation.tracks if animation else {}
    T = np.broadcast_to(np.eye(4), (frames, len(nodes), 4, 4)).copy()
    for n in order:
        node = nodes[n]
        moves = any((n, path) in tracks for path in _WIDTH)
        if node.matrix is not None and not moves:
            own = np.broadcast_to(node.matrix, (frames, 4, 4))
        else:
            place = tracks.get((n, "translation"), node.translation[None])
            turn = tracks.get((n, "rotation"), node.rotation[None])
            scale = tracks.get((n, "scale"), node.scale[None])
            own = np.broadcast_to(np.eye(4), (frames, 4, 4)).copy()
            own[:, :3, :3] = Rotation.from_quat(turn).as_matrix() * scale[:, None, :]
            own[:, :3, 3] = place
        T[:, n] = T[:, node.parent] @ own if node.parent >= 0 else own
    return T


def read_animations(gltf: Gltf, nodes: Sequence[Node], fps: float) -> list[Animation]:
    """Read all animations, sampled at a rate."""
    animations = []
    for a, entry in enumerate(gltf.entries("animations")):
        place = f"animations[{a}]"
        samplers = gltf.objects(entry, "samplers", f"{place}: ")
        curves: dict[tuple[int, str], tuple[np.ndarray, np.ndarray, str]] = {}
        has_morphs = False
        for c, channel in enumerate(gltf.objects(entry, "channels", f"{place}: ")):
            where = f"{place}: channels[{c}]"
            target = gltf.child(channel, "target", f"{where}: ")
            path = target.get("path")
            has_morphs |= path == "weights"
            if path not in _WIDTH or "node" not in target:
                continue
            node = gltf.index(target["node"], len(nodes), f"{where}: node")
            sampler = gltf.index(channel.get("sampler"), len(samplers), f"{where}: sampler")
            curves[node, path] = _curve(gltf, samplers[sampler], path, where)
        if not curves:
            continue
        end = max(float(times[-1]) for times, _, _ in curves.values())
        frames = math.floor(end * fps + 1e-4) + 1
        if frames * len(nodes) > MAX_TRANSFORMS:
            text = f"expected at most {MAX_TRANSFORMS // len(nodes)} frames, got {frames}"
            raise gltf.bad(place, text)
        moments = np.arange(frames) / fps
        tracks = {key: _sample(*curve, key[1], moments) for key, curve in curves.items()}
        name = entry.get("name")
        animations.append(
            Animation(
                name if isinstance(name, str) else f"animation{a}", tracks, frames, has_morphs
            )
        )
    return animations


def _curve(gltf: Gltf, sampler: dict, path: str, place: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Read times [K], values [K, w] or for splines [K, 3, w], and the interpolation."""
    kind = sampler.get("interpolation", "LINEAR")
    if kind not in ("LINEAR", "STEP", "CUBICSPLINE"):
        raise gltf.bad(place, "expected interpolation LINEAR, STEP or CUBICSPLINE")
    times = gltf.accessor(sampler.get("input"), place, ("SCALAR",))[:, 0].astype(np.float64)
    width = _WIDTH[path]
    values = gltf.accessor(sampler.get("output"), place, (f"VEC{width}",)).astype(np.float64)
    per_key = 3 if kind == "CUBICSPLINE" else 1
    if not len(times) or len(values) != per_key * len(times):
        raise gltf.bad(
            place, f"expected {per_key} values a key, got {len(values)} for {len(times)}"
        )
    if not (np.diff(times) >= 0).all() or times[0] < 0 or times[-1] > 1e6:
        raise gltf.bad(place, "expected times that rise from 0")
    if kind == "CUBICSPLINE":
        values = values.reshape(-1, 3, width)
    if path == "rotation":
        keys = values[:, 1] if kind == "CUBICSPLINE" else values
        if not (np.linalg.norm(keys, axis=1) > 1e-6).all():
            raise gltf.bad(place, "expected rotations with a length, got zero")
    return times, values, kind


def _sample(
    times: np.ndarray, values: np.ndarray, kind: str, path: str, moments: np.ndarray
) -> np.ndarray:
    """Sample a curve [F, w]; constant beyond its ends."""
    is_spline = kind == "CUBICSPLINE"
    if len(times) == 1:
        samples = np.repeat(values[:, 1] if is_spline else values, len(moments), axis=0)
    else:
        low = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(times) - 2)
        span = np.maximum(times[low + 1] - times[low], 1e-9)
        share = np.clip((moments - times[low]) / span, 0.0, 1.0)[:, None]
        if is_spline:
            samples = _hermite(values, low, share, span[:, None])
        elif kind == "STEP":
            samples = values[np.where(share[:, 0] >= 1.0, low + 1, low)]
        elif path == "rotation":
            samples = _slerp(values[low], values[low + 1], share)
        else:
            samples = values[low] * (1 - share) + values[low + 1] * share
    if path == "rotation":
        samples = samples / np.maximum(np.linalg.norm(samples, axis=1, keepdims=True), 1e-12)
    return samples


def _hermite(values: np.ndarray, low: np.ndarray, t: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Interpolate a cubic spline.

    Source: glTF 2.0, appendix C: in-tangent, value, out-tangent at each key.
    """
    p0, m0 = values[low, 1], span * values[low, 2]
    p1, m1 = values[low + 1, 1], span * values[low + 1, 0]
    t2, t3 = t * t, t * t * t
    return (
        (2 * t3 - 3 * t2 + 1) * p0 + (t3 - 2 * t2 + t) * m0
        + (3 * t2 - 2 * t3) * p1 + (t3 - t2) * m1
    )  # fmt: skip


def _slerp(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    cosine = (a * b).sum(1, keepdims=True)
    b, cosine = np.where(cosine < 0, -b, b), np.abs(cosine)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    near = angle < 1e-4
    sine = np.where(near, 1.0, np.sin(angle))
    first = np.where(near, 1 - share, np.sin((1 - share) * angle) / sine)
    return first * a + np.where(near, share, np.sin(share * angle) / sine) * b
