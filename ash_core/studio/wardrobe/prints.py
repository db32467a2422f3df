"""Woven and printed patterns, in metres on the cloth: stripes, checks, twill, herringbone, text."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ash_core.studio.actor.regions import step

EDGE = 0.0006
"""Softness of a printed edge, m."""
LETTERS_PX = 160


def band(x: np.ndarray, half: float) -> np.ndarray:
    """Return 1 within `half` of 0, m, with a soft edge."""
    return step(half - np.abs(x), -EDGE, EDGE)


def every(x: np.ndarray, period: float) -> np.ndarray:
    """Return the signed distance from the nearest multiple of a period."""
    return (x + period / 2) % period - period / 2


def twill(a: np.ndarray, b: np.ndarray, period: float = 0.0046) -> np.ndarray:
    """Weave fine diagonal ribs, -1 to 1."""
    return np.sin(2 * np.pi * (a + b) / period)


def herringbone(a: np.ndarray, b: np.ndarray, column: float = 0.026) -> np.ndarray:
    """Weave ribs that change direction from column to column, -1 to 1."""
    zigzag = np.abs(every(a, 2 * column))
    return np.sin(2 * np.pi * (zigzag + b) / 0.0085)


def tartan(
    a: np.ndarray, b: np.ndarray, sett: float, colours: tuple[tuple[float, float, np.ndarray], ...],
    ground: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Weave bands across and along: each thread shows on every other rib of the twill.

    colours: (middle, half width) of each band as shares of the sett, and its colour.
    """
    layers = []
    for x in (a, b):
        layer = np.broadcast_to(ground, (len(a), 3))
        for middle, half, colour in colours:
            inside = step(half * sett - np.abs(every(x - middle * sett, sett)), -EDGE, EDGE)
            layer = layer + inside[:, None] * (colour - layer)
        layers.append(layer)
    warp = (0.5 + 0.42 * np.sign(twill(a, b)))[:, None]
    return layers[0] * warp + layers[1] * (1 - warp)


def houndstooth(a: np.ndarray, b: np.ndarray, size: float) -> np.ndarray:
    """Weave the classic tooth of four by four threads, 0 or 1."""
    i = np.floor(a / size * 8).astype(int) % 8
    j = np.floor(b / size * 8).astype(int) % 8
    warp, weft = i < 4, j < 4
    over = (i + j) % 4 < 2
    return np.where(over, warp, weft).astype(float)


def letters(text: str, a: np.ndarray, b: np.ndarray, height: float) -> np.ndarray:
    """Return the share [N] of each place (right, up of the text's middle, m) that a letter
    covers."""
    font = ImageFont.load_default(LETTERS_PX)
    box = font.getbbox(text)
    width, tall = int(box[2] - box[0]) + 8, int(box[3] - box[1]) + 8
    image = Image.new("L", (width, tall))
    ImageDraw.Draw(image).text((4 - box[0], 4 - box[1]), text, font=font, fill=255,
                               stroke_width=4, stroke_fill=255)  # fmt: skip
    picture = np.asarray(image) / 255.0
    scale = tall / height
    column, row = a * scale + width / 2, tall / 2 - b * scale
    inside = (column >= 0) & (column < width - 1) & (row >= 0) & (row < tall - 1)
    x, y = np.where(inside, column, 0), np.where(inside, row, 0)
    i, j = x.astype(int), y.astype(int)
    u, v = x - i, y - j
    value = (picture[j, i] * (1 - u) + picture[j, i + 1] * u) * (1 - v) + (
        picture[j + 1, i] * (1 - u) + picture[j + 1, i + 1] * u
    ) * v
    return np.where(inside, value, 0.0)
