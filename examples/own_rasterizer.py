"""Render with a rasterizer of one's own, in plain torch and differentiable."""

import argparse
from pathlib import Path

import torch

import ash_core as ash


def render(g: ash.Gaussians, camera: ash.Camera, background: torch.Tensor | None) -> ash.Image:
    """Splat by the textbook: project ellipsoids, sort by depth, blend front to back."""
    R, t = camera.viewmat[:3, :3], camera.viewmat[:3, 3]
    (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
    x, y, z = (g.means @ R.T + t).unbind(-1)

    # Covariance in the image, blurred by 0.3 px^2: J R (axes of the ellipsoid).
    w, i, j, k = g.quats.unbind(-1)
    columns = (1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j),
               2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i),
               2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j))  # fmt: skip
    axes = torch.stack(columns, -1).unflatten(-1, (3, 3)) * g.scales[:, None]
    o = torch.zeros_like(z)
    jacobian = torch.stack((fx / z, o, -fx * x / z**2, o, fy / z, -fy * y / z**2), -1)
    flat = jacobian.unflatten(-1, (2, 3)) @ R @ axes
    conic = torch.linalg.inv(flat @ flat.mT + 0.3 * torch.eye(2))

    # Nearest first; one row of pixels at a time bounds the memory.
    order = z.argsort()[z.sort().values > 0.01]
    rgb = (0.5 + 0.28209479 * g.sh[order, 0]).clamp_min(0)
    rows = []
    for v in range(camera.height):
        du = torch.arange(camera.width)[:, None] + 0.5 - (fx * x / z + cx)[order]
        offset = torch.stack((du, (v + 0.5 - (fy * y / z + cy)[order]).expand_as(du)), -1)
        power = torch.einsum("pni,nij,pnj->pn", offset, conic[order], offset)
        alpha = (g.opacities[order] * (-0.5 * power).exp()).clamp_max(0.99)
        alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
        after = (1 - alpha).cumprod(-1)
        weight = alpha * torch.cat((torch.ones_like(after[:, :1]), after[:, :-1]), -1)
        rows.append(torch.cat((weight @ rgb, weight.sum(-1, True), weight @ z[order, None]), -1))
    colour, alpha, depth = torch.stack(rows).split((3, 1, 1), -1)
    if background is not None:
        colour = colour + (1 - alpha) * background
    return ash.Image(colour, alpha[..., 0], (depth / alpha.clamp_min(1e-6))[..., 0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("example"), help="folder for own.png")
    out = parser.parse_args().out
    ash.register_backend(
        "own", lambda g, cameras, background: [render(g, c, background) for c in cameras]
    )
    scene = ash.open("ida", motion="dance", backend="own")
    scene.edit("background", background="white")
    image = scene.render(frame=120, width=72, height=96)
    image.save(out / "own.png")
    print(f"{out / 'own.png'}: rendered by {ash.available_backends()[-1]}")
