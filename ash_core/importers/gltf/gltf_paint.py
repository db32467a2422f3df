"""Paint of a glTF surface: an image times a colour times the vertices' colours, and its alpha.

Images repeat, glTF's default. A transparent surface's colour in the image has no meaning: colours
are averaged with their alpha as weight.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

AlphaMode = Literal["OPAQUE", "MASK", "BLEND"]
OPAQUE = 0.5
"""Alpha from which a blended surface counts as visible."""
PROBES = 8
"""Number of points along a triangle's side at which its alpha is sampled."""
_SMALLEST_PX = 4
"""Side down to which images are halved."""


@dataclass(frozen=True)
class Material:
    """Colour of a surface: image, factor and alpha."""

    image: np.ndarray | None
    """Image [h, w, 3 or 4] uint8, encoded for a screen (sRGB)."""
    factor: np.ndarray
    """Linear factor [3 or 4]; the fourth is alpha."""
    alpha_mode: AlphaMode = "OPAQUE"
    cutoff: float = 0.5
    """Alpha from which a masked surface is visible."""
    name: str = ""

    @property
    def threshold(self) -> float:
        """Return the alpha below which the surface counts as absent."""
        return {"OPAQUE": 0.0, "MASK": self.cutoff, "BLEND": OPAQUE}[self.alpha_mode]


@dataclass(frozen=True)
class Soup:
    """Triangles with their paint."""

    positions: np.ndarray
    """Corners [F, 3, 3], m."""
    uvs: np.ndarray
    """Texture coordinates [F, 3, 2], v down; NaN if the file has none."""
    materials: np.ndarray
    """[F]"""
    colours: np.ndarray | None = None
    """Linear colours of the corners [F, 3, 4]; None: all white."""


class Painter:
    """Colours of one material's surfaces."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._levels: list[np.ndarray] = []
        """Image pyramid [h, w, 4] premultiplied, each level half as large as the one before."""
        if material.image is None:
            return
        level = material.image.astype(np.float32) / 255.0
        if level.shape[2] == 3 or material.alpha_mode == "OPAQUE":
            level = np.concatenate([level[..., :3], np.ones_like(level[..., :1])], 2)
        level[..., :3] *= level[..., 3:]
        self._levels.append(level)
        while min(level.shape[:2]) >= 2 * _SMALLEST_PX:
            level = _halved(level)
            self._levels.append(level)

    def colours(
        self, uvs: np.ndarray, step: np.ndarray, tints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sample colours [N, 3], encoded for a screen, and alpha [N].

        uvs [N, 2]; NaN: the image's mean.  step [N]: side of the area of a colour, as a share of
        the image.  tints [N, 4]: linear, of the vertices.
        """
        rgba = self._looked_up(uvs, step)
        alpha = rgba[:, 3]
        rgb = rgba[:, :3] / np.maximum(alpha, 1e-6)[:, None]
        factor = np.append(self._material.factor, 1.0)[:4].astype(np.float32)
        tint = factor[None] if tints is None else factor * tints
        if (tint[:, :3] != 1.0).any():
            rgb = encode(decode(rgb) * tint[:, :3]) if self._levels else encode(rgb * tint[:, :3])
        return rgb, alpha * tint[:, 3] if self._material.alpha_mode != "OPAQUE" else alpha

    def _looked_up(self, uvs: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Sample premultiplied colours [N, 4] of the image; white without one."""
        colours = np.ones((len(uvs), 4), np.float32)
        if not self._levels:
            return colours
        colours[:] = self._levels[-1].mean((0, 1))
        side_px = float(np.sqrt(np.prod(self._levels[0].shape[:2])))
        # Image pixels of one colour: beyond one and a half they are averaged.
        level = np.log2(np.maximum(step * side_px, 1e-9) / 1.5)
        level = np.clip(np.ceil(level), 0, len(self._levels) - 1)
        level[~np.isfinite(uvs).all(1)] = -1
        for n, image in enumerate(self._levels):
            indices = np.flatnonzero(level == n)
            if len(indices):
                colours[indices] = _between_pixels(image, uvs[indices])
        return colours


def opaque_share(soup: Soup, materials: list[Material]) -> np.ndarray:
    """Measure the visible share of each triangle, by its mask or mean alpha: [F]."""
    share = np.ones(len(soup.materials))
    steps = (np.arange(PROBES) + 1 / 3) / PROBES
    first, second = np.meshgrid(steps, steps, indexing="ij")
    inside = first + second < 1
    weights = np.stack([first, second, 1 - first - second], -1)[inside]
    for m in np.unique(soup.materials).tolist():
        material = materials[m]
        if material.alpha_mode == "OPAQUE":
            continue
        faces = np.flatnonzero(soup.materials == m)
        uvs = np.einsum("pk,fkc->fpc", weights, soup.uvs[faces])
        step = np.sqrt(np.abs(uv_areas(soup.uvs[faces]))) / PROBES
        tints = None
        if soup.colours is not None:
            tints = np.einsum("pk,fkc->fpc", weights, soup.colours[faces]).reshape(-1, 4)
        _, alpha = Painter(material).colours(
            uvs.reshape(-1, 2), np.repeat(step, len(weights)), tints
        )
        alpha = alpha.reshape(len(faces), -1)
        masked = material.alpha_mode == "MASK"
        share[faces] = (alpha >= material.cutoff).mean(1) if masked else alpha.mean(1)
    return share


def uv_areas(uvs: np.ndarray) -> np.ndarray:
    """Compute signed areas [F] of triangles [F, 3, 2]."""
    a, b = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    return 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def encode(linear: np.ndarray) -> np.ndarray:
    """Encode linear light for a screen (sRGB)."""
    high = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, high)


def decode(encoded: np.ndarray) -> np.ndarray:
    """Decode sRGB to linear light."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in image.shape[:2])
    even = image[:height, :width]
    return 0.25 * (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2])


def _between_pixels(image: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Interpolate bilinearly [N, c]; the image repeats."""
    height, width = image.shape[:2]
    x, y = uvs[:, 0] * width - 0.5, uvs[:, 1] * height - 0.5
    left, top = np.floor(x), np.floor(y)
    across = (x - left).astype(np.float32)[:, None]
    down = (y - top).astype(np.float32)[:, None]
    columns = [(left.astype(np.int64) + k) % width for k in (0, 1)]
    rows = [(top.astype(np.int64) + k) % height for k in (0, 1)]
    upper = image[rows[0], columns[0]] * (1 - across) + image[rows[0], columns[1]] * across
    lower = image[rows[1], columns[0]] * (1 - across) + image[rows[1], columns[1]] * across
    return upper * (1 - down) + lower * down
