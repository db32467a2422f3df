"""The published tree in small: the toy character, filmed by our own renderer.

Names, numbers and places are the published ones: cameras with holes in their numbers, frames of
the training every tenth, 4:3 videos larger than the images. It is made once a session and copied.
"""

import functools
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as PillowImage
from small_dataset import write_video
from torch import Tensor
from toy import make_toy_character, toy_dofs
from train_toy import painted

from ash_core.avatar import Avatar
from ash_core.files.cameras.published import write_cameras
from ash_core.files.checks import network_shapes
from ash_core.files.dataset import POSES, mask_video_path, stretch_camera, video_path
from ash_core.files.released import import_ash
from ash_core.files.skeletool import write_motion
from ash_core.geometry.camera import camera_from_fov, look_at
from ash_core.geometry.motion import normalise_motion, pose_window
from ash_core.records import AvatarData, Camera, Motion
from ash_core.render import Renderer, RenderRequest
from ash_core.variants import NATIVE

SUBJECT = "Subject0099"
VIDEO = (160, 120)
IMAGE = (86, 64)
"""Width and height, px; not quite of the videos' shape, as the published ones."""
CAMERAS_COUNT = 8
TRAIN_CAMERAS = (0, 2, 3, 6)
VAL_CAMERAS = (4,)
FRAMES = 42
"""Frames of the videos and of the training motion."""
HELD = 5
"""Video frames that show one pose: filming is slow, and none but every tenth is trained on."""
STEP = 10
TRAIN_FRAMES = (10, 20, 30, 40)
"""start_frame = 10, end_frame = 40, inclusive."""
VAL_FRAMES = (20, 40)
"""val_frame_start = 20, val_frame_end = 41, exclusive, every twentieth."""
TEST_FRAMES = 12
BACKDROP = (0.25, 0.45, 0.3)


@dataclass(frozen=True)
class ReleaseTree:
    """Paths of a published tree."""

    root: Path

    @property
    def train_conf(self) -> Path:
        return self.root / "confs" / SUBJECT / "subject0099_train.conf"

    @property
    def val_conf(self) -> Path:
        return self.root / "confs" / SUBJECT / "subject0099_val.conf"

    @property
    def meta(self) -> Path:
        return self.root / "meta_data" / SUBJECT

    @property
    def raw(self) -> Path:
        return self.root / "raw_data" / SUBJECT

    @property
    def images(self) -> Path:
        """Return the folder of the published extraction's images: a folder a camera."""
        return self.raw / "metadata" / "training" / "images"

    @property
    def masks(self) -> Path:
        return self.raw / "metadata" / "training" / "foregroundSegmentation"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoints" / SUBJECT / "deformable_character_checkpoint.pth"

    def edit(self, before: str, after: str, conf: Path | None = None) -> Path:
        """Change the training configuration, or another; returns it."""
        path = conf or self.train_conf
        text = path.read_text()
        assert before in text, before
        path.write_text(text.replace(before, after))
        return path


def release_tree(folder: Path, footage: bool = True) -> ReleaseTree:
    """Copy the tree, for tests that damage it. footage: with the videos."""
    tree = ReleaseTree(folder)
    left_out = None if footage else shutil.ignore_patterns("raw_data")
    shutil.copytree(_made(), folder, ignore=left_out, dirs_exist_ok=True)
    return tree


@functools.cache
def _made() -> Path:
    tree = ReleaseTree(Path(tempfile.mkdtemp(prefix="release_tree_")))
    data = _write_character(tree)
    ring = ring_of_cameras()
    write_cameras(tree.meta / "cameras.json", ring)
    for conf, text in ((tree.train_conf, TRAIN_CONF), (tree.val_conf, VAL_CONF)):
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.write_text(text)
    dofs = slow_dofs(FRAMES)
    for name, rows in (
        ("skeletoolToGTPose", dofs),
        ("skeletoolToGTPoseTest", toy_dofs()[:TEST_FRAMES]),
        ("skeletoolToGTPoseRetarget", toy_dofs().flip(0)[:TEST_FRAMES]),
    ):
        folder = tree.meta / name
        write_motion(folder / Path(POSES).name, rows)
        threes = normalise_motion(rows, data.skeleton).flatten(0, 1)
        write_motion(folder / "poseAnglesRotationNormalized.motion", threes)
    _film(tree, data, dofs, ring)
    return tree.root


def slow_dofs(count: int) -> Tensor:
    """Resample the toy's walk to more frames."""
    walk = toy_dofs().T[None]
    return torch.nn.functional.interpolate(walk, count, mode="linear", align_corners=True)[0].T


def ring_of_cameras() -> list[Camera]:
    """Place cameras of the images' size around the toy."""
    ring = []
    for number in range(CAMERAS_COUNT):
        angle = torch.tensor(2 * torch.pi * number / CAMERAS_COUNT)
        eye = torch.stack((2.6 * angle.cos(), 2.6 * angle.sin(), torch.tensor(0.8)))
        view = look_at(eye, torch.tensor([0.0, 0.0, 0.6]))
        ring.append(camera_from_fov(view, 0.7, *IMAGE, f"{number:06d}"))
    return ring


def _write_character(tree: ReleaseTree) -> AvatarData:
    """Write the toy under the published names, with an identity checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        toy = make_toy_character(Path(name))
        data, _ = import_ash(toy.conf)
        tree.meta.mkdir(parents=True)
        for path in toy.folder.iterdir():
            if path.suffix in (".conf", ".character") or not path.is_file():
                continue
            new = path.name.replace("toy.rest", "ddc").replace("toy", "ddc")
            content = path.read_bytes()
            if path.suffix in (".obj", ".mtl"):
                content = content.replace(b"toy", b"ddc")
            (tree.meta / new).write_bytes(content)
    (tree.meta / "real_translation.txt").write_text("0.0 0.5 0.0\n")
    shapes = network_shapes(58, 18)
    nets = {
        net: {key: torch.full(shape, float("var" in key)) for key, shape in shapes[net].items()}
        for net in ("spatial_gcn", "delta_gcn")
    }
    tree.checkpoint.parent.mkdir(parents=True)
    torch.save(nets, tree.checkpoint)
    return data


def _film(tree: ReleaseTree, data: AvatarData, dofs: Tensor, ring: Sequence[Camera]) -> None:
    """Film the training and validation cameras; videos of others were never published."""
    texture = painted(data.template.texture)
    truth = replace(
        data,
        variant="native",
        history_offsets=NATIVE.history_offsets,
        template=replace(data.template, texture=texture),
        decoder={"atlas": 64, "width": 8, "sh_degree": 0},
    )
    renderer = Renderer(Avatar.from_data(truth))
    motion = Motion(dofs)
    shown = {number: stretch_camera(ring[number], *VIDEO) for number in TRAIN_CAMERAS + VAL_CAMERAS}
    pictures: dict[int, list[np.ndarray]] = {number: [] for number in shown}
    masks: dict[int, list[np.ndarray]] = {number: [] for number in shown}
    for frame in range(0, FRAMES, HELD):
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        for number, camera in shown.items():
            image = renderer.render(RenderRequest(window, camera, BACKDROP))
            pictures[number].append((image.rgb.clamp(0, 1) * 255 + 0.5).byte().numpy())
            mask = (image.alpha > 0.5).byte()[..., None] * 255
            masks[number].append(mask.expand(-1, -1, 3).numpy())
    nearest = [(frame + HELD // 2) // HELD for frame in range(FRAMES)]
    for number in shown:
        for path, kept in ((video_path, pictures[number]), (mask_video_path, masks[number])):
            write_video(path(tree.raw, "training", number), np.stack(kept)[nearest])


# ---- images as the published extraction leaves them ----


def frame_of(path: Path, number: int) -> UInt8[np.ndarray, "h w 3"]:
    """Decode one frame of a video."""
    with av.open(str(path)) as container:
        for at, frame in enumerate(container.decode(video=0)):
            if at == number:
                return frame.to_ndarray(format="rgb24")
    raise AssertionError(f"{path}: no frame {number}")


def extract_by_hand(
    tree: ReleaseTree,
    cameras: Sequence[int] = TRAIN_CAMERAS + VAL_CAMERAS,
    frames: Sequence[int] = range(0, FRAMES, STEP),
    kind: str = "png",
) -> None:
    """Mask at the video's size, then resize; the mask apart, 0 or 255."""
    for camera in cameras:
        for frame in frames:
            rgb = frame_of(video_path(tree.raw, "training", camera), frame)
            mask = frame_of(mask_video_path(tree.raw, "training", camera), frame)[..., 0] >= 128
            name = f"{camera}/image_c_{camera}_f_{frame}"
            image = PillowImage.fromarray(rgb * mask[..., None])
            small = PillowImage.fromarray(mask.astype(np.uint8) * np.uint8(255))
            for picture, folder in ((image, tree.images), (small, tree.masks)):
                resample = PillowImage.Resampling.BILINEAR if picture is image else 0
                path = folder / f"{name}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.resize(IMAGE, resample).save(path)


# ---- the configurations ----

_SHARED = """
dataset {
    skeleton_dir = "./meta_data/Subject0099/ddc.skeleton"
    skin_dir = "./meta_data/Subject0099/ddc.skin"
    mesh_dir = "./meta_data/Subject0099/ddc.obj"
    rest_pose_dir = "./meta_data/Subject0099/ddc.motion"
    graph_dir = "./meta_data/Subject0099/ddc_graph.obj"
    camera_json_dir = "./meta_data/Subject0099/cameras.json"
    camera_num = 8
    train_camera = [
        0, 2, 3,
        6
    ]
    val_camera = [4]
    img_width = 86
    img_height = 64
    barycentric_tex_size = 32
    global_scale = 2.5
"""
TRAIN_CONF = (
    """# a training configuration in the published form
general {
    output_dir = "./dump_results/Subject0099/"
    device = "cuda"
}
"""
    + _SHARED
    + """
    skeleton_angles = "./meta_data/Subject0099/skeletoolToGTPose/poseAngles.motion"
    # three rows a frame
    skeleton_angles_rotation_normalized = "./meta_data/Subject0099/skeletoolToGTPose/poseAnglesRotationNormalized.motion"
    image_dir = "./raw_data/Subject0099/metadata/training/images"
    mask_dir = "./raw_data/Subject0099/metadata/training/foregroundSegmentation"
    start_frame = 10
    end_frame = 40
    sample_interval = 10
    val_frame_start = 20
    val_frame_end = 41
    val_sample_interval = 20
    is_white_background = False
}
train {
    learning_rate = 5e-4
    end_iter = 2000000
    save_freq = 10000
    val_freq = 5000
    color_weight = 0.85
    ssim_weight = 0.15
    random_seed = -1
    delta_checkpoint_dir = "./checkpoints/Subject0099/deformable_character_checkpoint.pth"
}
"""  # noqa: E501
)
VAL_CONF = (
    """# a configuration of the published inference
general {
    output_dir = "./dump_results/Subject0099_test/"
    device = "cuda"
}
"""
    + _SHARED
    + """
    skeleton_angles = "./meta_data/Subject0099/skeletoolToGTPoseTest/poseAngles.motion"
    skeleton_angles_rotation_normalized = "./meta_data/Subject0099/skeletoolToGTPoseTest/poseAnglesRotationNormalized.motion"
    image_dir = "./raw_data/Subject0099/metadata/testing/images"
    mask_dir = "./raw_data/Subject0099/metadata/testing/foregroundSegmentation"
    val_frame_start = 0
    val_frame_end = 9
    val_sample_interval = 4
    is_white_background = True
}
train {
    delta_checkpoint_dir = "./checkpoints/Subject0099/deformable_character_checkpoint.pth"
}
"""  # noqa: E501
)
