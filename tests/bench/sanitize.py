"""Every kernel on small scenes: what NVIDIA's compute-sanitizer watches.

    compute-sanitizer --tool memcheck --report-api-errors no python tests/bench/sanitize.py
    compute-sanitizer --tool racecheck python tests/bench/sanitize.py --few

API errors are left out: cuda-bindings asks an older driver for functions that it lacks. --few
leaves out the published networks, whose convolutions are not ours.
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from published import seeded_weights  # noqa: E402
from test_gpu_frame import DECODER, small_camera, trained  # noqa: E402
from test_gpu_frame_character import RELEASED_ATLAS, fill, graph_networks  # noqa: E402
from test_rasterize_cpu import camera, scene  # noqa: E402
from toy import make_toy_character  # noqa: E402

from ash_core.avatar import Avatar  # noqa: E402
from ash_core.files.released import import_ash  # noqa: E402
from ash_core.files.skeletool import read_motion  # noqa: E402
from ash_core.geometry.motion import pose_window  # noqa: E402
from ash_core.gpu_frame.character import PoseStage  # noqa: E402
from ash_core.gpu_frame.decoders import ReleasedNetworks  # noqa: E402
from ash_core.gpu_frame.frame import Frames  # noqa: E402
from ash_core.networks.loading import with_weights  # noqa: E402
from ash_core.networks.unet import UNet  # noqa: E402
from ash_core.records import AvatarData, Gaussians, Motion, PoseWindow, to_device  # noqa: E402
from ash_core.splat import cuda  # noqa: E402
from ash_core.splat.rasterize import rasterize  # noqa: E402
from ash_core.variants import RELEASED  # noqa: E402

DEVICE = torch.device("cuda", 0)


def rasterizer() -> None:
    """Forward and both kinds of backward, lists that fit, overflow and are searched."""
    for kind, count in (("plain", 600), ("huge", 20), ("opaque", 300), ("needles", 100)):
        given = to_device(scene(kind, 3 if kind == "plain" else 1, count), DEVICE)
        leaves = Gaussians(*(part.requires_grad_() for part in vars(given).values()))
        for exact in (False, True):
            torch.use_deterministic_algorithms(exact)
            images = rasterize(leaves, [camera(), camera(33, 20, 25.0)], backend="cuda")
            sum(image.rgb.sum() + image.depth.sum() for image in images).backward()  # type: ignore[union-attr]
            torch.use_deterministic_algorithms(False)
    cuda.ARENA_EACH = 0  # type: ignore[misc]
    crowd = to_device(scene("faint", 1, 600), DEVICE)
    for room in (cuda.Room(8, 1), cuda.Room(8, 4096)):
        splatter = cuda.Splatter(DEVICE)
        splatter._growth.room = room
        for _ in range(2):
            splatter.draw(crowd, [camera(24, 24, 10.0)], None, "rgba8")


def frames(data: AvatarData, motion: Motion) -> None:
    """A native avatar's whole frames."""
    frames = Frames(trained(dataclasses.replace(data, decoder=DECODER)), DEVICE)
    for number in (9, 10, 9):
        window = pose_window(motion, number, data.skeleton, data.history_offsets)
        frames.rgba8(window, small_camera(), (0.0, 1.0, 0.0))
        frames.image(window, small_camera(), None)


def poses(data: AvatarData, motion: Motion) -> None:
    """The graph networks, in half and in float."""
    data = dataclasses.replace(
        data,
        variant="released",
        history_offsets=RELEASED.history_offsets,
        networks=graph_networks(data),
    )
    avatar, window = (
        Avatar(data, RELEASED_ATLAS).eval(),
        pose_window(motion, 9, data.skeleton, data.history_offsets),
    )
    for half in (True, False):
        stage = PoseStage(avatar, DEVICE, half=half)
        fill(stage, PoseWindow(window.dofs.cuda(), window.normalised.cuda()), (5, 63, 0))
        side = RELEASED_ATLAS
        stage.motion_map(torch.zeros(side, side, 24, dtype=torch.half, device=DEVICE))


def published_networks() -> None:
    """What stands between cuDNN's convolutions."""
    nets = [
        with_weights(lambda kind=kind: UNet(kind), seeded_weights(f"unet_{kind}"))
        for kind in ("geometry", "appearance")
    ]
    networks = ReleasedNetworks(nets[0], nets[1], torch.zeros(3), DEVICE, 64)
    networks.motion_map.normal_()
    networks.warm_up()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", action="store_true")
    few = parser.parse_args().few
    files = make_toy_character(Path(tempfile.mkdtemp()))
    data, _ = import_ash(files.conf)
    motion = read_motion(files.motion, data.skeleton)
    rasterizer()
    with torch.no_grad():
        frames(data, motion)
        poses(data, motion)
        if not few:
            published_networks()
    torch.cuda.synchronize()
    print("every kernel ran")


if __name__ == "__main__":
    main()
