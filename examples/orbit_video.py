"""Record a video of a dancing avatar while the camera goes once round it."""

import argparse
from pathlib import Path

import ash_core as ash

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("example"), help="folder for orbit.mp4")
parser.add_argument("--frames", type=int, default=100, help="frames, 25 a second")
parser.add_argument("--height", type=int, default=480, help="pixels")
options = parser.parse_args()

scene = ash.open("ida", motion="dance")
scene.edit("background", background="white")

# One camera a frame, following the person through these frames of the motion.
frames = range(100, 100 + options.frames)
width, height = options.height * 3 // 4, options.height
part = ash.Motion(scene.motion.dofs[frames.start : frames.stop], fps=scene.fps)
cameras = ash.orbit_cameras(scene.renderer.avatar, part, width, height)

recorded = scene.record(
    options.out / "orbit.mp4",
    frames,
    width,
    height,
    cameras,
    progress=lambda done, count: print(f"\r{done}/{count}", end="", flush=True),
)
print(f"\n{options.out / 'orbit.mp4'}: {recorded.frames} frames")
