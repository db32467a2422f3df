"""Render one frame of an avatar as colour, as depth and on nothing: three .png files."""

import argparse
from pathlib import Path

import ash_core as ash

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("example"), help="folder for the images")
parser.add_argument("--avatar", default="ida", help="file or name")
parser.add_argument("--frame", type=int, default=120, help="frame of the dance")
parser.add_argument("--height", type=int, default=480, help="pixels")
options = parser.parse_args()

# What is drawn: an avatar, and the poses of one frame of a motion.
avatar = ash.load_avatar(options.avatar)
motion = ash.load_motion("dance", avatar)
window = ash.pose_window(motion, options.frame, avatar)

# From where: a camera before the person that sees the whole motion.
camera = ash.front_camera(avatar, motion, options.height * 3 // 4, options.height)

# How: on white, on nothing, as depth. The avatar's networks run once for all three.
renderer = ash.Renderer(avatar)
requests = {
    "colour": ash.RenderRequest(window, camera, background=(1.0, 1.0, 1.0)),
    "transparent": ash.RenderRequest(window, camera),
    "depth": ash.RenderRequest(window, camera, (1.0, 1.0, 1.0), ash.Look(mode="depth")),
}
for name, request in requests.items():
    image = renderer.render(request)
    image.save(options.out / f"{name}.png")
    print(f"{options.out / name}.png: {image.to_numpy().shape}, depth to {image.depth.max():.2f} m")
