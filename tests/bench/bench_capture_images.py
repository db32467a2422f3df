"""Rate of the training's image windows: JPEG scenes with JPEG masks beside extract's PNGs.

    python tests/bench/bench_capture_images.py [--count N] [--size WxH] [--threads N]

The same pictures three times: whole PNGs as `extract` makes them, JPEG scenes with JPEG masks as
`import capture` links them, and these from memory. By processor time, all threads together. The
first pass of a training decodes every JPEG, later ones find its box on the disk.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ash_core.files.dataset import mask_path
from ash_core.files.masked_image import Place, write_masked
from ash_core.training.config import Keep
from ash_core.training.pictures import Pictures

ROUNDS = 5
QUALITY = 95


def scene(number: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a studio with a person of textured cloth: colours [h, w, 3] and mask [h, w]."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    backdrop = 120 + 40 * x / width + 20 * y / height
    x, y = (x - width * (0.5 + 0.02 * random.normal())) / width, y / height
    head = (x / 0.06) ** 2 + ((y - 0.16) / 0.06) ** 2 < 1
    body = (x / 0.13) ** 2 + ((y - 0.4) / 0.22) ** 2 < 1
    legs = (np.abs(np.abs(x) - 0.06) < 0.045) & (y > 0.5) & (y < 0.93)
    mask = head | body | legs
    cloth = 128 + 60 * np.sin(90 * x + number) * np.sin(70 * y)
    grey = np.where(mask, cloth, backdrop)[..., None] + random.normal(0, 4, (height, width, 3))
    return grey.clip(0, 255).astype(np.uint8), mask.astype(np.uint8) * 255


def write(folder: Path, count: int, width: int, height: int) -> tuple[list[Path], list[Path]]:
    """Write the pictures in both forms."""
    pngs, jpgs = [], []
    for number in range(count):
        rgb, mask = scene(number, width, height)
        pngs.append(folder / "png" / f"image_c_{number:03d}_f_000000.png")
        jpgs.append(folder / "jpg" / f"image_c_{number:03d}_f_000000.jpg")
        pixels = np.concatenate((rgb * (mask > 0)[..., None], mask[..., None]), -1)
        write_masked(pngs[-1], pixels, Place(0, 0, width, height), whole=True, quality=QUALITY)
        jpgs[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(rgb).save(jpgs[-1], quality=QUALITY)
        Image.fromarray(mask).save(mask_path(jpgs[-1]), "JPEG", quality=QUALITY)
    return pngs, jpgs


def rates(
    paths: list[Path], keep: Keep, size: tuple[int, int], threads: int, home: Path
) -> tuple[float, float]:
    """Measure windows a second of processor time: of the first pass, the best of later ones."""
    index = home / f"{keep}-{paths[0].suffix}.safetensors"
    pictures = Pictures(
        paths, [size] * len(paths), keep, torch.device("cpu"), threads, lambda *_: None, index
    )
    numbers = np.arange(len(paths))
    window = (size[0] // 3 // 16 * 16, size[1] // 2 // 16 * 16)
    passes = []
    for _ in range(1 + ROUNDS):
        corners = pictures.corners(numbers, np.full((len(paths), 2), 0.5), window)
        start = time.process_time()
        for first in range(0, len(paths), 8):
            part = slice(first, first + 8)
            assert pictures.windows(numbers[part], corners[part], window) is not None
        passes.append(len(paths) / (time.process_time() - start))
    pictures.close()
    return passes[0], max(passes[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--size", default="1500x2048")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    folder = Path(tempfile.mkdtemp())
    try:
        pngs, jpgs = write(folder, options.count, width, height)
        keeps: tuple[Keep, ...] = ("files", "memory")
        for keep in keeps:
            (_, png), (first, later) = (
                rates(paths, keep, (width, height), options.threads, folder)
                for paths in (pngs, jpgs)
            )
            print(
                f"--keep {keep}: PNG {png:.1f} windows/s, JPEG + mask {first:.1f} in the first "
                f"pass ({first / png - 1:+.0%}), then {later:.1f} ({later / png - 1:+.0%})"
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
