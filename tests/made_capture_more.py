"""Writers of more layouts for the made-up capture: DNA-Rendering, MVHumanNet, COLMAP, nerfstudio,
UMA."""

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import small_dataset
from jaxtyping import Float
from made_capture import (
    Keys,
    MadeClip,
    Pixels,
    _easymocap_entry,
    _opencv_intrinsics,
    _save,
    _save_all,
    _write_json,
    body25,
    sketched,
    to_origin_rule,
    write_smplx_npz,
)
from PIL import Image
from scipy.spatial.transform import Rotation

from ash_core.captures.capture import CaptureCamera
from ash_core.geometry.lens import Lens
from ash_core.importers.body.posing import joint_frames

FULL_SIZE = (2448, 2048)
"""Size of the calibration of most captures of MVHumanNet, px."""
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
DISC_PX = 6
"""Radius of the mask around each joint, where no person is rendered."""


def with_cameras(clip: MadeClip, cameras: tuple[CaptureCamera, ...]) -> MadeClip:
    """Give a clip other cameras: black images, and masks of discs around the joints."""
    changed = replace(clip, cameras=cameras)
    images, masks = [], []
    for frame in range(len(clip.images)):
        row = []
        for number, camera in enumerate(cameras):
            x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
            mask = np.zeros((camera.height, camera.width), np.uint8)
            for place in changed.projected(frame, number)[:22]:
                mask[(x - place[0]) ** 2 + (y - place[1]) ** 2 < DISC_PX**2] = 255
            row.append(mask)
        masks.append(tuple(row))
        images.append(tuple(np.repeat(mask[..., None] // 2, 3, -1) for mask in row))
    return replace(changed, images=tuple(images), masks=tuple(masks))


def with_lenses(clip: MadeClip, lens: Lens) -> MadeClip:
    """Give all cameras a lens, for layouts that hold fewer coefficients than the clip has."""
    return with_cameras(clip, tuple(replace(camera, lens=lens) for camera in clip.cameras))


def with_one_lens(clip: MadeClip, scale: float = 0.25) -> MadeClip:
    """Give all cameras the same straight lens, at a part of MVHumanNet's full size."""
    width, height = (int(side * scale) for side in FULL_SIZE)
    K = np.array([[1.1 * width, 0, 0.51 * width], [0, 1.1 * width, 0.47 * height], [0, 0, 1.0]])
    cameras = [
        CaptureCamera(camera.name, K, camera.viewmat, width, height) for camera in clip.cameras
    ]
    return sketched(replace(clip, cameras=tuple(cameras)))


# ---- DNA-Rendering ----


def _encoded(pixels: Pixels, kind: str) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, kind, **({"quality": 96, "subsampling": 0} if kind == "JPEG" else {})
    )
    return np.frombuffer(buffer.getvalue(), np.uint8)


def write_dna(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1.0,
    no_image: Keys = (),
    no_mask: Keys = (),
    large: int = 1,
    person: int = 255,
    change: Callable[[Any, Any], None] | None = None,
) -> None:
    """Write the two files of DNA-Rendering, 0001_02.smc and 0001_02_annots.smc.

    unit: numbers of RT a metre. large: cameras in the group of 12 MP. person: value of the masks.
    change: edits both files before they are closed.
    """
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    count = len(clip.cameras)
    with (
        h5py.File(folder / "0001_02.smc", "w") as main,
        h5py.File(folder / "0001_02_annots.smc", "w") as annotations,
    ):
        main.attrs["gender"] = np.bytes_(b"female")
        for number, camera in enumerate(clip.cameras):
            group = "Camera_12mp" if number >= count - large else "Camera_5mp"
            for frame in range(len(clip.images)):
                if (frame, number) not in no_image:
                    data = _encoded(clip.images[frame][number], "JPEG")
                    main[f"{group}/{number}/color/{frame}"] = data
                if (frame, number) not in no_mask:
                    mask = clip.masks[frame][number] // 255 * np.uint8(person)
                    annotations[f"Mask/{number}/mask/{frame}"] = _encoded(mask, "PNG")
            T_world_camera = np.linalg.inv(camera.viewmat)
            T_world_camera[:3, 3] *= unit
            lens = camera.lens
            place = f"Camera_Parameter/{number:02d}"
            annotations[f"{place}/K"] = _opencv_intrinsics(camera)
            annotations[f"{place}/RT"] = T_world_camera
            annotations[f"{place}/D"] = np.array([lens.k1, lens.k2, lens.p1, lens.p2, lens.k3])
            annotations[f"{place}/Color_Calibration"] = np.eye(3)
        poses, frames = clip.poses, len(clip.images)
        annotations["SMPLx/fullpose"] = poses.rotations
        annotations["SMPLx/transl"] = poses.translations
        annotations["SMPLx/betas"] = np.repeat(poses.betas[None], frames, 0)
        annotations["SMPLx/expression"] = poses.expressions
        annotations["SMPLx/scale"] = 1.0
        places = joint_frames(poses, clip.rest_joints)[1]
        points = np.concatenate([places, np.full((frames, 55, 1), 0.8)], -1)
        annotations["Keypoints_3D/keypoints3d"] = points
        if change is not None:
            change(main, annotations)


# ---- MVHumanNet ----


def write_mvhumannet(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1000.0,
    scale: float = 100 / 65,
    no_image: Keys = (),
    no_mask: Keys = (),
    suffix: str = "",
) -> None:
    """Write one outfit of MVHumanNet; the clip is of `with_one_lens` and `with_hand_pca`.

    unit: numbers of T a metre, before the scale. suffix: "_lr" as some releases name the folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save_all(
        clip,
        lambda frame, c: folder / f"images{suffix}" / c.name / f"{5 * frame + 5:04d}_img.jpg",
        lambda frame, c: folder / f"fmask{suffix}" / c.name / f"{5 * frame + 5:04d}_img_fmask.png",
        no_image,
        no_mask,
    )
    first = clip.cameras[0]
    K = first.K.copy()
    K[:2] *= FULL_SIZE[0] / first.width
    K[:2, 2] -= 0.5
    _write_json(folder / "camera_intrinsics.json", {"intrinsics": K.tolist(), "dist": []})
    entries = {}
    for number, camera in enumerate(clip.cameras):
        R, t = camera.viewmat[:3, :3], camera.viewmat[:3, 3] * unit / scale
        x, y, z, w = Rotation.from_matrix(R).as_quat()
        entries[f"{number % 2}_{camera.name}.png"] = {
            "focal_length": [K[0, 0], K[1, 1]],
            "image_center": [K[0, 2], K[1, 2]],
            "translation": t.tolist(),
            "camera_pos": (-R.T @ t).tolist(),
            "quaternion": [w, x, y, z],
            "rotation": R.tolist(),
        }
    _write_json(folder / "camera_extrinsics.json", entries)
    (folder / "camera_scale.pkl").write_bytes(pickle.dumps(scale))
    poses = to_origin_rule(clip.poses, clip.rest_joints)
    for frame in range(len(clip.images)):
        name = f"{frame:06d}.json"
        _write_json(folder / "smplx" / "smpl" / name, [_easymocap_entry(poses, frame)])
        entry = {"id": 0, "keypoints3d": body25(clip)[frame].tolist()}
        _write_json(folder / "smplx" / "keypoints3d" / name, [entry])


# ---- COLMAP and nerfstudio ----

Names = Callable[[int, CaptureCamera], str]
"""Path of an image by frame and camera, without its ending."""


def by_camera(frame: int, camera: CaptureCamera) -> str:
    """Name an image CAMERA/FRAME."""
    return f"{camera.name}/{frame:06d}"


def by_frame(frame: int, camera: CaptureCamera) -> str:
    """Name an image FRAME/CAMERA."""
    return f"{frame:06d}/{camera.name}"


def flat(frame: int, camera: CaptureCamera) -> str:
    """Name an image of one frame CAMERA."""
    return camera.name


def write_images(
    folder: Path,
    clip: MadeClip,
    names: Names,
    no_image: Keys = (),
    no_mask: Keys = (),
    mask_ending: str = ".png",
) -> None:
    """Write images/ and masks/ of COLMAP and nerfstudio, and the poses."""
    _save_all(
        clip,
        lambda frame, camera: folder / "images" / f"{names(frame, camera)}.jpg",
        lambda frame, camera: folder / "masks" / f"{names(frame, camera)}{mask_ending}",
        no_image,
        no_mask,
    )
    write_smplx_npz(folder / "smpl_params.npz", clip.poses)


def write_videos(folder: Path, clip: MadeClip) -> None:
    """Write videos/CAMERA.mp4, masks/CAMERA.mp4 and the poses."""
    for number, camera in enumerate(clip.cameras):
        write_video(folder / "videos" / f"{camera.name}.mp4", clip, number, clip.fps)
        write_video(folder / "masks" / f"{camera.name}.mp4", clip, number, clip.fps, masks=True)
    write_smplx_npz(folder / "smpl_params.npz", clip.poses)


def write_video(path: Path, clip: MadeClip, camera: int, fps: float, masks: bool = False) -> None:
    """Write the frames of one camera as a video."""
    frames = np.stack([row[camera] for row in (clip.masks if masks else clip.images)])
    if masks:
        frames = np.repeat(frames[..., None], 3, -1)
    small_dataset.write_video(path, frames, fps=round(fps), crf=6)


def write_colmap(
    folder: Path,
    clip: MadeClip,
    *,
    names: Names = by_camera,
    listed: Names | None = None,
    listed_frames: int = 1,
    unit: float = 1.0,
    model: str = "sparse/0",
    videos: bool = False,
    no_image: Keys = (),
    no_mask: Keys = (),
    mask_ending: str = ".png",
) -> None:
    """Write a sparse model as text, images, masks and poses.

    listed: names of the images in the model; None: as on the disk. listed_frames: frames of each
    camera in the model. unit: numbers of T a metre.
    """
    if videos:
        write_videos(folder, clip)
    else:
        write_images(folder, clip, names, no_image, no_mask, mask_ending)
    cameras, images = ["# cameras"], ["# images"]
    for number, camera in enumerate(clip.cameras, start=1):
        K, lens = camera.K, camera.lens
        numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], lens.k1, lens.k2, lens.p1, lens.p2]
        numbers += [lens.k3, lens.k4, lens.k5, lens.k6]
        shown = " ".join(f"{value:.17g}" for value in numbers)
        cameras.append(f"{number} FULL_OPENCV {camera.width} {camera.height} {shown}")
        x, y, z, w = Rotation.from_matrix(camera.viewmat[:3, :3]).as_quat()
        pose = [w, x, y, z, *camera.viewmat[:3, 3] * unit]
        shown = " ".join(f"{value:.17g}" for value in pose)
        for frame in range(listed_frames):
            name = (listed or names)(frame, camera)
            key = frame * len(clip.cameras) + number
            images += [f"{key} {shown} {number} {name}.jpg", "1.5 2.5 -1"]
    place = folder / model
    place.mkdir(parents=True, exist_ok=True)
    (place / "cameras.txt").write_text("\n".join(cameras) + "\n")
    (place / "images.txt").write_text("\n".join(images) + "\n")


def write_nerfstudio(
    folder: Path,
    clip: MadeClip,
    *,
    names: Names = by_camera,
    listed_frames: int | None = None,
    unit: float = 1.0,
    indices: bool = False,
    mask_paths: bool = False,
    no_image: Keys = (),
    no_mask: Keys = (),
    change: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Write a transforms.json, images, masks and poses; the lenses have k1, k2, p1, p2, k3.

    listed_frames: frames of each camera in the file; None: all. indices: with timestep_index and
    camera_index as VHAP. mask_paths: with mask_path. change: edits the content.
    """
    write_images(folder, clip, names, no_image, no_mask)
    frames = []
    for frame in range(len(clip.images) if listed_frames is None else listed_frames):
        for number, camera in enumerate(clip.cameras):
            T_world_camera = np.linalg.inv(camera.viewmat) @ OPENGL
            T_world_camera[:3, 3] *= unit
            K, lens = camera.K, camera.lens
            entry: dict[str, Any] = {
                "file_path": f"images/{names(frame, camera)}.jpg",
                "transform_matrix": T_world_camera.tolist(),
                "fl_x": K[0, 0],
                "fl_y": K[1, 1],
                "cx": K[0, 2],
                "cy": K[1, 2],
                "w": camera.width,
                "h": camera.height,
                **{key: getattr(lens, key) for key in ("k1", "k2", "p1", "p2", "k3")},
            }
            if indices:
                entry |= {"timestep_index": frame, "camera_index": number}
            if mask_paths:
                entry["mask_path"] = f"masks/{names(frame, camera)}.png"
            frames.append(entry)
    content: dict[str, Any] = {"camera_model": "OPENCV", "frames": frames}
    if change is not None:
        change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


# ---- UMA ----


def write_uma(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1000.0,
    poses: bool = True,
    inner: bool = False,
    splits: tuple[str, ...] = ("training",),
) -> Path:
    """Write a subject of UMA and its metadata; return the subject's folder.

    unit: numbers of the cameras' translations a metre. inner: metadata inside the subject.
    """
    subject = folder / "Subject_0"
    metadata = (subject if inner else folder) / "Subject_0_metadata"
    for split in splits:
        for number in range(len(clip.cameras)):
            name = f"stream{number:03d}.mp4"
            write_video(subject / split / name, clip, number, clip.fps)
            masks = subject / split / "foregroundSegmentation" / name
            write_video(masks, clip, number, clip.fps, masks=True)
    lines = ["Skeletool Camera Calibration File V1.0"]
    for camera in clip.cameras:
        K, viewmat = np.eye(4), camera.viewmat.copy()
        K[:3, :3] = camera.K
        viewmat[:3, 3] *= unit
        lens = camera.lens
        bends = [lens.k1, lens.k2, lens.p1, lens.p2, lens.k3, 0, 0, 0]
        lines += [
            f"name {camera.name}",
            "  sensor 10 7.5",
            f"  size {camera.width} {camera.height}",
            "  animated 0",
            "  intrinsic " + _numbers(K),
            "  extrinsic " + _numbers(viewmat),
            "  radial 0" if lens.is_straight else "  distortion " + _numbers(np.array(bends)),
        ]
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "cameras.calib").write_text("\n".join(lines) + "\n")
    character = metadata / "ddc_character"
    motions = character / "skeletoolToGTPose"
    motions.mkdir(parents=True, exist_ok=True)
    (character / "ddc.character").write_text("skeletool character\n")
    (motions / "poseAngles.motion").write_text("Skeletool Motion File V1.0\n")
    if poses:
        (metadata / "smplx_character").mkdir(exist_ok=True)
        write_smplx_npz(metadata / "smplx_character" / "smplx_train_merged.npz", clip.poses)
    return subject


def _numbers(values: Float[np.ndarray, "..."]) -> str:
    return " ".join(f"{value:.17g}" for value in values.ravel())


def damaged_image(path: Path, width: int, height: int) -> None:
    """Replace an image by one of another size."""
    _save(path, np.zeros((height, width, 3), np.uint8))
