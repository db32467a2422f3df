"""Pose an avatar by the names of its joints and render each pose; edits can be undone."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import ash_core as ash

POSES = {
    "rest": {},
    "wave": {"left_shoulder_z": 1.2, "left_shoulder_twist": -1.5, "left_elbow": 1.2},
    "bow": {"spine_bend": 0.6, "chest_bend": 0.4, "neck_bend": 0.3},
    "look": {"head_twist": 0.8, "chest_twist": 0.4, "spine_twist": 0.4},
}
"""Radians; a joint's name may hold its dofs: {"LeftForeArm": {"left_elbow": 1.9}}."""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("example"), help="folder for poses.png")
parser.add_argument("--height", type=int, default=480, help="pixels")
options = parser.parse_args()

scene = ash.open("ida", motion="stretch")
scene.edit("background", background="white")
print("joints:", ", ".join(node.name for node in scene.tree[:12]), "...")

images = []
for name, pose in POSES.items():
    scene.pose(pose)
    images.append(scene.render(0, options.height * 3 // 4, options.height).to_numpy())
    if pose:
        scene.undo()
    print(f"{name}: {pose}")
options.out.mkdir(parents=True, exist_ok=True)
Image.fromarray(np.concatenate(images, 1)).save(options.out / "poses.png")
