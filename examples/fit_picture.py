"""Fit Gaussians to an image by gradients through the rasterizer: before, after, target."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ash_core as ash

COUNT = 500
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("example"), help="folder for fit.png")
parser.add_argument("--image", type=Path, help="default: a render of the built-in avatar")
parser.add_argument("--steps", type=int, default=200)
options = parser.parse_args()

# Target, 96 x 128 pixels.
if options.image:
    target = np.asarray(Image.open(options.image).convert("RGB").resize((96, 128)))
else:
    scene = ash.open("ida", motion="dance")
    scene.edit("background", background="white")
    target = scene.render(120, 96, 128).to_numpy()
truth = torch.tensor(target / 255, dtype=torch.float32)

# A cloud one to two metres before the camera; every value is free.
torch.manual_seed(0)
camera = ash.Camera.from_arrays(np.eye(4), [[128, 0, 48], [0, 128, 64], [0, 0, 1]], 96, 128)
free = {
    "means": torch.rand(COUNT, 3) - torch.tensor([0.5, 0.5, -1.0]),
    "quats": torch.nn.functional.normalize(torch.randn(COUNT, 4), dim=1),
    "scales": torch.full((COUNT, 3), -4.0),
    "opacities": torch.zeros(COUNT),
    "sh": torch.zeros(COUNT, 1, 3),
}
optimizer = torch.optim.Adam([value.requires_grad_() for value in free.values()], lr=0.02)


def gaussians() -> ash.Gaussians:
    """Squash the free values into their ranges."""
    quats = torch.nn.functional.normalize(free["quats"], dim=1)
    scales, opacities = free["scales"].exp(), free["opacities"].sigmoid()
    return ash.Gaussians(free["means"], quats, scales, opacities, free["sh"])


images, losses = [], []
for step in range(options.steps + 1):
    image = ash.rasterize(gaussians(), camera, background=(1.0, 1.0, 1.0))
    loss = (image.rgb - truth).square().mean()
    losses.append(loss.item())
    if step in (0, options.steps):
        images.append(image.to_numpy())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
options.out.mkdir(parents=True, exist_ok=True)
Image.fromarray(np.concatenate([*images, target], 1)).save(options.out / "fit.png")
print(f"mean square error: {losses[0]:.4f} before, {losses[-1]:.5f} after")
