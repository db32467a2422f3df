"""Train an avatar on a small made-up data set in a minute, and measure it before and after."""

import argparse
from pathlib import Path

import ash_core as ash

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("example"), help="folder for data and results")
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--views", type=int, default=12, help="images measured of each set")
options = parser.parse_args()

# The built-in actor, filmed in other colours than its character has: they are to be learned.
data = ash.make_toy(options.out / "data")

# Settings are the fields of ash.TrainConfig; progress is any function.
trained = ash.train(
    data,
    options.out / "trained",
    preset="cpu",
    steps=options.steps,
    views_per_pose=2,
    learning_rate=3e-3,
    ema=0.9,
    device="cpu",
    progress=lambda progress: print(f"\r{progress}\033[K", end="", flush=True),
)
print(f"\n{trained.avatar}: {trained.steps} steps in {trained.seconds:.0f} s")

# Quality on images that it was trained on, on a camera and on poses that it never saw.
before = ash.evaluate("actor", data, options.out / "before", views=options.views, preset="cpu")
after = ash.evaluate(trained.avatar, data, options.out / "after", views=options.views)
print(before, after, sep="\n")
gain = after["novel view"].scores.psnr - before["novel view"].scores.psnr
print(f"novel view: {gain:+.1f} dB; {options.out / 'after' / 'pictures.png'}: ours, truth, error")
