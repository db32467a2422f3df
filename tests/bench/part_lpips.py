"""LPIPS of crops around face, hands and cloth, beside PSNR in the same crops.

    python tests/bench/part_lpips.py DATA AVATAR [AVATAR ...] [--parts AVATAR] [--views 96]
                                     [--test-cameras auto] [--lpips-weights FILE FILE]

A crop is the box around a part's vertices that face the camera, with a margin; sides are at least
those of a patch of the loss. `--parts` names the avatar that says which vertices are cloth, where
the others have none. One line of JSON an avatar and set.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import torch
from jaxtyping import Bool
from torch import Tensor

from ash_core.avatar import Avatar
from ash_core.files.avatar_file import load_avatar
from ash_core.files.dataset import open_dataset
from ash_core.pose_windows import window_at
from ash_core.records import Camera, PosedMesh, to_device
from ash_core.render import Renderer, RenderRequest
from ash_core.training.evaluation import WHITE, select
from ash_core.training.lpips import how_to_measure, open_lpips
from ash_core.training.metrics import psnr
from ash_core.training.patches import PATCH, _projections, part_masks
from ash_core.training.validation import read_truth

MARGIN_PX = 8
LEAST_VERTICES = 10
"""Vertices that must face the camera, for a part to count in a view."""


def part_box(
    mesh: PosedMesh, camera: Camera, mask: Bool[Tensor, "V"]
) -> tuple[slice, slice] | None:
    """Rows and columns of the crop around a part; None where it does not show."""
    places, normals = mesh.vertices[0, mask].cpu(), mesh.normals[0, mask].cpu()
    (matrix,), (centre,) = _projections([camera], torch.device("cpu"))
    projected = places @ matrix[:, :3].T + matrix[:, 3]
    size = torch.tensor([camera.width, camera.height])
    points = projected[:, :2] / projected[:, 2:] * size
    visible = ((points >= 0) & (points < size)).all(1) & (projected[:, 2] > 0)
    visible &= ((centre - places) * normals).sum(1) > 0
    if int(visible.sum()) < LEAST_VERTICES:
        return None
    low, high = points[visible].amin(0), points[visible].amax(0)
    half = ((high - low) / 2 + MARGIN_PX).clamp(min=PATCH / 2)
    first = ((low + high) / 2 - half).floor().clamp(min=0).int().tolist()
    last = ((low + high) / 2 + half).ceil().int().tolist()
    return slice(first[1], last[1]), slice(first[0], last[0])


@torch.no_grad()
def measure(renderer: Renderer, masks: dict[str, Tensor], options: argparse.Namespace) -> None:
    """Print each set's means."""
    lpips = open_lpips(options.lpips_weights)
    if lpips is None:
        raise SystemExit(how_to_measure())
    lpips.to(renderer.device)
    avatar = renderer.avatar
    for one in select(open_dataset(options.data), options.test_cameras, options.views):
        scores: dict[str, list[float]] = defaultdict(list)
        for frame, number, counts in one.photographs():
            if not counts:
                continue
            window = window_at(avatar.data, one.split.motion, frame)
            camera = one.split.cameras[number]
            mesh = avatar.character(to_device(window, avatar.device))
            image = renderer.render(RenderRequest(window, camera, WHITE)).rgb
            truth = read_truth(one.split.images[frame, number])[0].to(image.device)
            for name, mask in masks.items():
                if (box := part_box(mesh, camera, mask)) is not None:
                    scores[f"{name} LPIPS"].append(float(lpips(image[box], truth[box])))
                    scores[f"{name} dB"].append(psnr(image[box], truth[box]))
        means = {name: round(mean(values), 4) for name, values in scores.items()}
        print(json.dumps({"avatar": str(options.avatar), "set": one.name, **means}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("avatars", type=Path, nargs="+")
    parser.add_argument("--parts", type=Path)
    parser.add_argument("--views", type=int, default=96)
    parser.add_argument("--test-cameras", default="auto")
    parser.add_argument("--lpips-weights", type=Path, nargs="*", default=())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    for path in options.avatars:
        data, options.avatar = load_avatar(path), path
        masks = part_masks(data if options.parts is None else load_avatar(options.parts))
        measure(Renderer(Avatar.from_data(data, options.device)), masks, options)


if __name__ == "__main__":
    main()
