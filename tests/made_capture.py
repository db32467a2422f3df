"""A made-up multi-view capture, and a writer for each layout in which laboratories publish theirs.

The bundled actor dances before a ring of cameras. Its bones stand for the joints of SMPL-X, so
that projected joints lie inside its masks. The clip is the ground truth of every reader.
"""

import atexit
import functools
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from ash_core.captures.capture import CaptureCamera
from ash_core.character import Character
from ash_core.conventions import R_WORLD_BODY
from ash_core.files.body_poses import BODY_JOINTS, BODY_PARENTS, BodyPoses
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.geometry.camera import look_at
from ash_core.geometry.kinematics import joint_transforms
from ash_core.geometry.lens import Lens, distort
from ash_core.geometry.motion import pose_window
from ash_core.importers.body.posing import joint_frames
from ash_core.records import AvatarData, Camera, Motion
from ash_core.resources import resource

SIZE = (96, 128)
"""Width and height of the images, px."""
FPS = 30.0
START, STEP = 60, 5
"""First frame of the bundled motion, and frames from one of ours to the next at most."""
DISTANCE_M = 3.2
BACKDROP = (0.25, 0.45, 0.3)
MARGIN = 0.08
"""Width of the rendered rim around an image, in image sizes: a lens may look beyond the edge."""
FINER = 2
"""Rendered pixels a pixel of the images, along a side: splats blur by half a pixel."""
MARKERS = (15, 20, 11)
"""Joints that marker images show in red, green, blue: head, left wrist, right foot."""
MARKER_PX = 1.8
"""Standard deviation of a marker's spot."""
SPOT_PX = 10
"""Half the side of the window that holds a spot."""
SMALL, FAR_M = (60, 80), 5.2
"""Size of the images of the long clip, and its cameras' distance: the dance needs room."""
T_CAPTURE_WORLD = np.array(
    [[1.0, 0.0, 0.0, 0.15], [0.0, 0.0, -1.0, 0.9], [0.0, 1.0, 0.0, 0.4], [0.0, 0.0, 0.0, 1.0]]
)
"""World of the capture from the studio's: Y down, as in calibrations that follow a camera."""
LENSES = {1: Lens(-0.12, 0.03, 1.2e-3, -8e-4, 0.01), 3: Lens(0.08, -0.02, -9e-4, 6e-4)}
"""Lenses of some cameras; all others are straight."""
Pixels = UInt8[np.ndarray, "h w *c"]


class Rows(Sequence[tuple[Pixels, ...]]):
    """Images by frame and camera that are drawn when they are asked for."""

    def __init__(self, draw: Callable[[int], tuple[Pixels, ...]], frames: Sequence[int]) -> None:
        self.draw, self.frames = draw, frames

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, place: int) -> tuple[Pixels, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> "Rows": ...
    def __getitem__(self, place: int | slice) -> "tuple[Pixels, ...] | Rows":
        if isinstance(place, slice):
            return Rows(self.draw, self.frames[place])
        return self.draw(self.frames[place])


@dataclass(frozen=True)
class MadeClip:
    """Capture of one person with everything that a reader should find."""

    cameras: tuple[CaptureCamera, ...]
    images: Sequence[tuple[Pixels, ...]]
    """RGB [h, w, 3] by frame and camera, distorted by the camera's lens."""
    masks: Sequence[tuple[Pixels, ...]]
    """0 or 255, [h, w], by frame and camera."""
    poses: BodyPoses
    """SMPL-X, rule "pelvis", in the capture's world (Y down); shape coefficients 0."""
    rest_joints: Float[np.ndarray, "55 3"]
    """Joints of the rest pose, m: Y up, the pelvis away from the origin."""
    markers: tuple[int, ...] = MARKERS
    """Joints of `marker_clip`, one a colour channel."""
    fps: float = FPS

    def projected(self, frame: int, camera: int) -> Float[np.ndarray, "55 2"]:
        """Project the joints of a frame to px of the stored image."""
        places = joint_frames(self.poses, self.rest_joints)[1][frame]
        return project(self.cameras[camera], places)


def project(camera: CaptureCamera, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """Project points of the world through a camera and its lens, px."""
    local = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    bent = distort(camera.lens, local[:, :2] / local[:, 2:])
    return bent * np.diag(camera.K)[:2] + camera.K[:2, 2]


@functools.cache
def made_clip(
    cameras: int = 8, frames: int = 60, size: tuple[int, int] = SIZE, lenses: bool = True
) -> MadeClip:
    """Make the clip; processes of one test session share the renders.

    lenses: False for layouts that hold no distortion: all cameras are straight.
    """
    placed, poses, rest_joints, renders = _filmed(cameras, frames, size)
    if not lenses:
        placed = tuple(replace(camera, lens=Lens()) for camera in placed)
    images, masks = [], []
    for row in renders:
        pairs = [_photograph(pixels, camera) for pixels, camera in zip(row, placed, strict=True)]
        images.append(tuple(image for image, _ in pairs))
        masks.append(tuple(mask for _, mask in pairs))
    return MadeClip(placed, tuple(images), tuple(masks), poses, rest_joints)


def bare_clip(cameras: int = 2, frames: int = 2, size: tuple[int, int] = SIZE) -> MadeClip:
    """Make a clip of black images with full masks and straight cameras: nothing is rendered."""
    poses, rest_joints = _body_poses(*_actor(frames))
    placed = _cameras(cameras, size, joint_frames(poses, rest_joints)[1])
    placed = tuple(replace(camera, lens=Lens()) for camera in placed)
    image = np.zeros((size[1], size[0], 3), np.uint8)
    images = ((image,) * cameras,) * frames
    masks = ((np.full_like(image[..., 0], 255),) * cameras,) * frames
    return MadeClip(placed, images, masks, poses, rest_joints)


def marker_clip(clip: MadeClip) -> MadeClip:
    """Replace the images by black ones with a spot at each marker, a joint a colour channel."""
    places = joint_frames(clip.poses, clip.rest_joints)[1][:, list(clip.markers)]

    def draw(frame: int) -> tuple[Pixels, ...]:
        return tuple(_spots(camera, project(camera, places[frame])) for camera in clip.cameras)

    return replace(clip, images=Rows(draw, range(len(places))))


def _spots(camera: CaptureCamera, places: Float[np.ndarray, "3 2"]) -> Pixels:
    """Draw a spot in each colour channel of a black image."""
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    for channel, place in enumerate(places):
        left, top = np.maximum(np.floor(place).astype(int) - SPOT_PX, 0)
        window = image[top : top + 2 * SPOT_PX, left : left + 2 * SPOT_PX, channel]
        rows, columns = (np.arange(count) + 0.5 for count in window.shape)
        spread = -2 * MARKER_PX**2
        across = np.exp((left + columns - place[0]) ** 2 / spread)
        along = np.exp((top + rows - place[1]) ** 2 / spread)
        window[:] = np.round(250 * along[:, None] * across)
    return image


def marker_places(image: Pixels) -> Float[np.ndarray, "3 2"]:
    """Find the centre of each marker's spot in a decoded marker image, px."""
    places = []
    for channel in np.ascontiguousarray(np.moveaxis(image, -1, 0)):
        row, column = divmod(int(channel.argmax()), channel.shape[1])
        top, left = max(row - SPOT_PX, 0), max(column - SPOT_PX, 0)
        window = channel[top : row + SPOT_PX, left : column + SPOT_PX]
        weights = np.where(window > 25, window, 0).astype(float)
        x = weights.sum(0) @ (np.arange(weights.shape[1]) + 0.5 + left)
        y = weights.sum(1) @ (np.arange(weights.shape[0]) + 0.5 + top)
        places.append(np.array([x, y]) / weights.sum())
    return np.stack(places)


def with_shape(clip: MadeClip, seed: int = 3, count: int = 10, size: float = 1.0) -> MadeClip:
    """Give the poses shape coefficients of some size, so that a reader can lose them."""
    betas = np.random.default_rng(seed).normal(0, size, count)
    return replace(clip, poses=replace(clip.poses, betas=betas))


def cut(clip: MadeClip, frames: int) -> MadeClip:
    """Keep the first frames of a clip."""
    poses = clip.poses
    kept = replace(
        poses,
        rotations=poses.rotations[:frames],
        translations=poses.translations[:frames],
        frames=poses.frames[:frames],
        expressions=None if poses.expressions is None else poses.expressions[:frames],
    )
    return replace(clip, images=clip.images[:frames], masks=clip.masks[:frames], poses=kept)


# ---- the long clip ----


@functools.cache
def long_clip(lens: Literal["own", "none"] = "own", cameras: int = 8, frames: int = 60) -> MadeClip:
    """Make a long clip of small images at little cost: markers, and silhouettes of the actor.

    lens: "own" lenses, or "none".
    """
    poses, rest_joints = _body_poses(*_actor(frames))
    placed = _cameras(cameras, SMALL, joint_frames(poses, rest_joints)[1], FAR_M)
    if lens == "none":
        placed = tuple(replace(camera, lens=Lens()) for camera in placed)
    return sketched(MadeClip(placed, (), (), poses, rest_joints))


def sketched(clip: MadeClip) -> MadeClip:
    """Draw the actor's silhouettes and the markers as the clip's cameras see them."""
    frames = len(clip.poses.rotations)
    surfaces, faces = _surfaces(frames)
    drawn: dict[int, list[tuple[Pixels, tuple[int, ...]]]] = {}

    def draw(frame: int) -> tuple[Pixels, ...]:
        # Kept as bits: those of MVHumanNet are large.
        if frame not in drawn:
            masks = [_silhouette(surfaces[frame], faces, camera) for camera in clip.cameras]
            drawn[frame] = [(np.packbits(mask), mask.shape) for mask in masks]
        pairs = drawn[frame]
        bits = (np.unpackbits(b, count=math.prod(shape)).reshape(shape) for b, shape in pairs)
        return tuple(mask * np.uint8(255) for mask in bits)

    return marker_clip(replace(clip, masks=Rows(draw, range(frames))))


@functools.cache
def _surfaces(frames: int) -> tuple[Float[np.ndarray, "F V 3"], torch.Tensor]:
    """Pose the actor's surface in each frame, in the capture's world, m; with its triangles."""
    data, motion = _actor(frames)
    character = Character(data)
    R = T_CAPTURE_WORLD[:3, :3] @ np.array(R_WORLD_BODY)
    surfaces = []
    for frame in range(frames):
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        with torch.no_grad():
            vertices = character(window).vertices[0].double().numpy()
        surfaces.append(vertices @ R.T + T_CAPTURE_WORLD[:3, 3])
    return np.stack(surfaces), data.template.faces


def _silhouette(
    vertices: Float[np.ndarray, "V 3"], faces: torch.Tensor, camera: CaptureCamera
) -> Bool[np.ndarray, "h w"]:
    """Draw a surface as a camera sees it through its lens."""
    local = vertices @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    local[:, :2] = distort(camera.lens, local[:, :2] / local[:, 2:]) * local[:, 2:]
    straight = Camera.from_arrays(np.eye(4), camera.K, camera.width, camera.height)
    return silhouette(torch.from_numpy(local), faces, straight).numpy()


# ---- making the clip ----


@functools.lru_cache(maxsize=1)
def _filmed(
    count: int, frames: int, size: tuple[int, int]
) -> tuple[
    tuple[CaptureCamera, ...],
    BodyPoses,
    Float[np.ndarray, "55 3"],
    UInt8[np.ndarray, "F C H W 4"],
]:
    """Place the cameras and render what they see, without their lenses."""
    data, motion = _actor(frames)
    poses, rest_joints = _body_poses(data, motion)
    placed = _cameras(count, size, joint_frames(poses, rest_joints)[1])
    return placed, poses, rest_joints, _rendered(data, motion, placed)


def _actor(frames: int) -> tuple[AvatarData, Motion]:
    """Read the bundled actor and the frames of its dance."""
    folder = Path(tempfile.mkdtemp(prefix="made_capture_"))
    actor = resource("assets", "actor")
    for path in actor.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)
    data, _ = import_ash(folder)
    shutil.rmtree(folder)
    motion = read_motion(actor / "motions" / "dance.motion", data.skeleton)
    step = max(1, min(STEP, (len(motion.dofs) - START) // frames))
    dofs = motion.dofs[START : START + frames * step : step]
    assert len(dofs) == frames, "the bundled motion is too short"
    return data, Motion(dofs, fps=FPS)


_BONES = {
    **{"pelvis": "Root", "spine1": "Spine1", "spine2": "Spine3", "spine3": "Chest"},
    **{"neck": "Neck1", "head": "Head"},
}
_LIMBS = {
    **{"hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "foot": "Toe", "collar": "Shoulder"},
    **{"shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand"},
    **{f"{finger}{n}": f"{finger.title()}{n}" for n in (1, 2, 3) for finger in
       ("index", "middle", "pinky", "ring", "thumb")},
}  # fmt: skip
_FACE_M = {"jaw": (0, 0.01, 0.02), "left_eye": (0.03, 0.07, 0.07), "right_eye": (-0.03, 0.07, 0.07)}
"""Joints that the actor has not, from its head."""


def _bone(joint: str) -> str:
    side, _, part = joint.partition("_")
    return _BONES.get(joint) or side.title() + _LIMBS[part]


def _body_poses(data: AvatarData, motion: Motion) -> tuple[BodyPoses, Float[np.ndarray, "55 3"]]:
    """Turn the actor's bones into joints of SMPL-X: poses, and places at rest."""
    skeleton, names = data.skeleton, BODY_JOINTS["smplx"]
    dofs = torch.cat((torch.zeros_like(motion.dofs[:1]), motion.dofs))
    T_body_joint = joint_transforms(skeleton, dofs).numpy()
    frames = len(motion.dofs)
    turns, rest = np.empty((frames, len(names), 3, 3)), np.empty((len(names), 3))
    roots = np.empty((frames, 3))
    for joint, name in enumerate(names):
        if name in _FACE_M:
            head = names.index("head")
            turns[:, joint] = turns[:, head]
            rest[joint] = rest[head] + _FACE_M[name]
            continue
        # A bone is a row of joints with one degree of freedom: ..._rx, ..._ry, then ...Roll.
        chain = [
            number
            for number, own in enumerate(skeleton.joint_names)
            if own.removesuffix("Roll").split("_")[0] == _bone(name)
        ]
        turns[:, joint] = T_body_joint[1:, chain[-1], :3, :3]
        # The root's first joints slide; at its last one they have.
        place = chain[-1] if joint == 0 else chain[0]
        rest[joint] = T_body_joint[0, place, :3, 3]
        if joint == 0:
            roots = T_body_joint[1:, place, :3, 3]

    # Take all orientations to the capture's world, then relative to their parents.
    R_capture_body = T_CAPTURE_WORLD[:3, :3] @ np.array(R_WORLD_BODY)
    turns = R_capture_body @ turns
    own = turns.copy()
    for joint, parent in enumerate(BODY_PARENTS["smplx"]):
        if parent >= 0:
            own[:, joint] = np.swapaxes(turns[:, parent], -1, -2) @ turns[:, joint]
    rotations = Rotation.from_matrix(own.reshape(-1, 3, 3)).as_rotvec().reshape(frames, -1, 3)
    rotations[:, names.index("jaw"), 0] = 0.1 + 0.1 * np.sin(np.arange(frames))
    places = roots @ R_capture_body.T + T_CAPTURE_WORLD[:3, 3]
    poses = BodyPoses(
        "smplx",
        rotations,
        places - rest[0],
        "pelvis",
        np.zeros(10),
        tuple(range(frames)),
        fps=FPS,
        expressions=np.random.default_rng(5).normal(0, 0.5, (frames, 10)),
    )
    return poses, rest


def _cameras(
    count: int,
    size: tuple[int, int],
    places: Float[np.ndarray, "F 55 3"],
    distance_m: float = DISTANCE_M,
) -> tuple[CaptureCamera, ...]:
    """Place cameras around the person, at several heights, with focal lengths of their own."""
    T_world_capture = np.linalg.inv(T_CAPTURE_WORLD)
    joints = places.reshape(-1, 3) @ T_world_capture[:3, :3].T + T_world_capture[:3, 3]
    centre = (joints.min(0) + joints.max(0)) / 2
    width, height = size
    cameras = []
    for number in range(count):
        angle = 2 * math.pi * number / count + 0.2
        direction = (math.cos(angle), math.sin(angle), (0.05, 0.35, -0.1, 0.2)[number % 4])
        eye = torch.tensor(centre + distance_m * np.array(direction))
        # look_at gives float32; a rotation that is one to the last bit makes the truth exact.
        viewmat = look_at(eye, torch.tensor(centre)).double().numpy()
        viewmat[:3, :3] = Rotation.from_matrix(viewmat[:3, :3]).as_matrix()
        focal = height * (1.4 + 0.02 * number)
        K = np.array(
            [
                [focal, 0.0, width * (0.5 + 0.01 * (number % 3))],
                [0.0, focal * 1.01, height * (0.5 - 0.008 * (number % 4))],
                [0.0, 0.0, 1.0],
            ]
        )
        name = f"cam {number}" if number == 2 else f"cam{number:02d}"
        lens = LENSES.get(number, Lens())
        cameras.append(CaptureCamera(name, K, viewmat @ T_world_capture, width, height, lens))
    return tuple(cameras)


def _wide(camera: CaptureCamera) -> Camera:
    """Return the straight camera that is rendered: finer, with a rim."""
    rim = math.ceil(MARGIN * max(camera.width, camera.height))
    K = camera.K.copy()
    K[:2, 2] += rim
    K[:2] *= FINER
    return Camera.from_arrays(
        viewmat=camera.viewmat @ T_CAPTURE_WORLD,
        K=K,
        width=FINER * (camera.width + 2 * rim),
        height=FINER * (camera.height + 2 * rim),
    )


def _rendered(
    data: AvatarData, motion: Motion, cameras: Sequence[CaptureCamera]
) -> UInt8[np.ndarray, "F C H W 4"]:
    """Render all frames, or take what another process of this test session has rendered."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    wide = [_wide(camera) for camera in cameras]
    if session is None:
        return _render(data, motion, wide)
    parts = [motion.dofs.numpy(), *(array.numpy() for c in wide for array in (c.K, c.viewmat))]
    digest = hashlib.sha256(session.encode() + b"".join(part.tobytes() for part in parts))
    path = Path(tempfile.gettempdir()) / f"made_capture_{digest.hexdigest()[:24]}.npy"
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}.npy")
        np.save(temporary, _render(data, motion, wide))
        temporary.replace(path)
        atexit.register(path.unlink, missing_ok=True)
    return np.load(path)


def _render(
    data: AvatarData, motion: Motion, wide: Sequence[Camera]
) -> UInt8[np.ndarray, "F C H W 4"]:
    from ash_core.avatar import Avatar
    from ash_core.render import Renderer, RenderRequest

    renderer = Renderer(Avatar.from_data(data, preset_name="cpu"))
    height, width = wide[0].height, wide[0].width
    pixels = np.empty((len(motion.dofs), len(wide), height, width, 4), np.uint8)
    for frame in range(len(motion.dofs)):
        window = pose_window(motion, frame, data.skeleton, data.history_offsets)
        for number, camera in enumerate(wide):
            image = renderer.render(RenderRequest(window, camera, BACKDROP))
            both = torch.cat((image.rgb.clamp(0, 1), image.alpha[..., None]), -1)
            pixels[frame, number] = (both * 255 + 0.5).byte().numpy()
    return pixels


def _photograph(pixels: UInt8[np.ndarray, "H W 4"], camera: CaptureCamera) -> tuple[Pixels, Pixels]:
    """Look at a wide render through a camera's lens: image and mask."""
    places = _wide_places(camera)
    both = np.stack(
        [map_coordinates(pixels[..., c], places, np.float32, order=1) for c in range(4)], -1
    )
    shape = (camera.height, FINER, camera.width, FINER, 4)
    both = both.reshape(shape).mean((1, 3))
    return np.round(both[..., :3]).astype(np.uint8), (both[..., 3] > 127.5).astype(np.uint8) * 255


@functools.lru_cache(maxsize=32)
def _places_of(key: tuple[Any, ...]) -> Float[np.ndarray, "2 H W"]:
    fx, fy, cx, cy, width, height, lens = key
    grid = [(np.arange(FINER * n) + 0.5) / FINER for n in (width, height)]
    u, v = np.meshgrid(*grid)
    bent = np.stack(((u - cx) / fx, (v - cy) / fy), -1)
    straight = bent
    for _ in range(0 if lens.is_straight else 50):
        straight = straight + (bent - distort(lens, straight))
    rim = math.ceil(MARGIN * max(width, height))
    x, y = straight[..., 0] * fx + cx + rim, straight[..., 1] * fy + cy + rim
    return np.stack((y * FINER - 0.5, x * FINER - 0.5))


def _wide_places(camera: CaptureCamera) -> Float[np.ndarray, "2 H W"]:
    """Map sub-pixels of an image to (row, column) of the wide render."""
    K = camera.K
    return _places_of(
        (K[0, 0], K[1, 1], K[0, 2], K[1, 2], camera.width, camera.height, camera.lens)
    )


# ---- writing it ----

Keys = Collection[tuple[int, int]]
"""(frame, camera index)."""


def _save(path: Path, pixels: Pixels) -> None:
    """Write a .png, or a .jpg whose colours keep the images' size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_jpeg = path.suffix == ".jpg"
    options = {"quality": 98, "subsampling": 0} if is_jpeg else {"compress_level": 1}
    Image.fromarray(pixels).save(path, **options)


def _save_all(
    clip: MadeClip,
    image_path: Callable[[int, CaptureCamera], Path],
    mask_path: Callable[[int, CaptureCamera], Path],
    no_image: Keys,
    no_mask: Keys,
    person: int = 255,
) -> None:
    """Write images and masks. person: value of the mask's pixels inside."""
    for frame, (images, masks) in enumerate(zip(clip.images, clip.masks, strict=True)):
        for number, camera in enumerate(clip.cameras):
            paths = image_path(frame, camera), mask_path(frame, camera)
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            if (frame, number) not in no_image:
                _save(paths[0], images[number])
            if (frame, number) not in no_mask:
                _save(paths[1], masks[number] // 255 * np.uint8(person))


def _opencv_intrinsics(camera: CaptureCamera) -> Float[np.ndarray, "3 3"]:
    """Return K as OpenCV counts pixels: from the centre of the first one."""
    K = camera.K.copy()
    K[:2, 2] -= 0.5
    return K


def _rt_json(clip: MadeClip, unit: float, lens: bool) -> dict[str, dict[str, list[float]]]:
    """Return the calibration of AvatarReX and THuman4.0."""
    entries = {}
    for camera in clip.cameras:
        assert lens or camera.lens.is_straight, "this layout holds no distortion"
        entries[camera.name] = {
            "K": _opencv_intrinsics(camera).flatten().tolist(),
            "R": camera.viewmat[:3, :3].flatten().tolist(),
            "T": (camera.viewmat[:3, 3] * unit).tolist(),
            "imgSize": [camera.width, camera.height],
        }
        if lens:
            bends = camera.lens
            numbers = [bends.k1, bends.k2, bends.p1, bends.p2, bends.k3]
            entries[camera.name]["distCoeff"] = numbers
    return entries


def write_smplx_npz(path: Path, poses: BodyPoses) -> None:
    """Write smpl_params.npz of AvatarReX, THuman4.0 and ActorsHQ."""
    assert poses.kind == "smplx"
    assert poses.root_rule == "pelvis"
    flat = poses.rotations.reshape(len(poses.rotations), -1)
    assert poses.expressions is not None
    np.savez(
        path,
        betas=poses.betas[None],
        global_orient=flat[:, :3],
        transl=poses.translations,
        body_pose=flat[:, 3:66],
        jaw_pose=flat[:, 66:69],
        expression=poses.expressions,
        left_hand_pose=flat[:, 75:120],
        right_hand_pose=flat[:, 120:165],
    )


def _write_texts(
    folder: Path, clip: MadeClip, name: str, calibration: object, listed: Sequence[str]
) -> None:
    """Write calibration, list of missing images and poses of AvatarReX and THuman4.0."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(calibration))
    (folder / "missing_img_files.txt").write_text("".join(f"{line}\n" for line in listed))
    write_smplx_npz(folder / "smpl_params.npz", clip.poses)


def write_avatarrex(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1.0,
    no_image: Keys = (),
    no_mask: Keys = (),
    listed: Sequence[str] = (),
) -> None:
    """Write the layout of AvatarReX.

    unit: numbers of T a metre (1000: millimetres, which no reader can notice). no_image, no_mask:
    files left out. listed: lines of missing_img_files.txt.
    """
    _save_all(
        clip,
        lambda frame, camera: folder / camera.name / f"{frame:08d}.jpg",
        lambda frame, camera: folder / camera.name / "mask" / "pha" / f"{frame:08d}.jpg",
        no_image,
        no_mask,
    )
    _write_texts(folder, clip, "calibration_full.json", _rt_json(clip, unit, lens=True), listed)


def write_thuman4(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1.0,
    no_image: Keys = (),
    no_mask: Keys = (),
    listed: Sequence[str] = (),
) -> None:
    """Write the layout of THuman4.0, of cameras without distortion; faults as for AvatarReX."""
    _save_all(
        clip,
        lambda frame, camera: folder / "images" / camera.name / f"{frame:08d}.jpg",
        lambda frame, camera: folder / "masks" / camera.name / f"{frame:08d}.jpg",
        no_image,
        no_mask,
    )
    _write_texts(folder, clip, "calibration.json", _rt_json(clip, unit, lens=False), listed)


def write_actorshq(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1.0,
    no_image: Keys = (),
    no_mask: Keys = (),
    size: str = "4x",
    poses: bool = True,
) -> None:
    """Write a sequence of ActorsHQ in one size. poses: with smpl_params.npz beside it.

    unit: numbers of the camera centres a metre. Lenses must be radial.
    """
    home = folder / size
    home.mkdir(parents=True, exist_ok=True)
    _save_all(
        clip,
        lambda frame, camera: home / "rgbs" / camera.name / f"{camera.name}_rgb{frame:06d}.jpg",
        lambda frame, camera: home / "masks" / camera.name / f"{camera.name}_mask{frame:06d}.png",
        no_image,
        no_mask,
    )
    lines = ["name,w,h,rx,ry,rz,tx,ty,tz,fx,fy,px,py,k1,k2,k3"]
    for camera in clip.cameras:
        w, h, K, bends = camera.width, camera.height, camera.K, camera.lens
        assert bends.p1 == bends.p2 == 0, "this layout holds no tangential distortion"
        T_world_camera = np.linalg.inv(camera.viewmat)
        turn = Rotation.from_matrix(T_world_camera[:3, :3]).as_rotvec()
        numbers = [*turn, *T_world_camera[:3, 3] * unit]
        numbers += [K[0, 0] / w, K[1, 1] / h, K[0, 2] / w, K[1, 2] / h]
        numbers += [bends.k1, bends.k2, bends.k3]
        lines.append(f"{camera.name},{w},{h}," + ",".join(f"{number:.17g}" for number in numbers))
    (home / "calibration.csv").write_text("\n".join(lines) + "\n")
    if poses:
        write_smplx_npz(folder / "smpl_params.npz", clip.poses)


def to_origin_rule(poses: BodyPoses, rest_joints: Float[np.ndarray, "J 3"]) -> BodyPoses:
    """Return Rh and Th: translations after a turn about the model's origin."""
    turned = Rotation.from_rotvec(poses.rotations[:, 0]).apply(rest_joints[0])
    places = poses.translations + rest_joints[0] - turned
    return replace(poses, translations=places, root_rule="origin")


def with_hand_pca(clip: MadeClip) -> MadeClip:
    """Give the hands six coefficients a side and no rotations, as EasyMocap's SMPL-X has them."""
    poses, frames = clip.poses, len(clip.images)
    rotations = poses.rotations.copy()
    rotations[:, 25:] = 0
    pca = np.random.default_rng(7).normal(0, 1, (frames, 2, 6))
    return replace(clip, poses=replace(poses, rotations=rotations, hand_pca=pca))


def as_smpl(clip: MadeClip) -> MadeClip:
    """Reduce the body to SMPL's 24 joints; the hands' joints stay at rest."""
    poses = clip.poses
    rotations = np.zeros((len(poses.rotations), 24, 3))
    rotations[:, :22] = poses.rotations[:, :22]
    names = BODY_JOINTS["smplx"]
    hands = [names.index(f"{side}_middle1") for side in ("left", "right")]
    rest_joints = np.concatenate([clip.rest_joints[:22], clip.rest_joints[hands]])
    poses = replace(poses, kind="smpl", rotations=rotations, expressions=None)
    return replace(clip, poses=poses, rest_joints=rest_joints)


def _matrix_yml(key: str, rows: int, values: Float[np.ndarray, "..."]) -> str:
    """Format a matrix as OpenCV's FileStorage does."""
    flat = values.ravel()
    data = ", ".join(f"{value:.17g}" for value in flat)
    head = f"{key}: !!opencv-matrix\n   rows: {rows}\n   cols: {len(flat) // rows}\n   dt: d\n"
    return f"{head}   data: [{data}]\n"


def _lens_numbers(lens: Lens) -> Float[np.ndarray, "5"]:
    return np.array([lens.k1, lens.k2, lens.p1, lens.p2, lens.k3])


def write_easymocap(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1.0,
    no_image: Keys = (),
    no_mask: Keys = (),
    sizes: bool = True,
    keypoints: bool = True,
) -> None:
    """Write the layout of EasyMocap; the clip is of `with_hand_pca` or `as_smpl`.

    sizes: with H_ and W_ of each camera. keypoints: with keypoints3d, the body's joints that
    BODY_25 shares with SMPL.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save_all(
        clip,
        lambda frame, camera: folder / "images" / camera.name / f"{frame:06d}.jpg",
        lambda frame, camera: folder / "mask" / camera.name / f"{frame:06d}.png",
        no_image,
        no_mask,
    )
    # Cameras.
    head = "%YAML:1.0\n---\nnames:\n" + "".join(f'  - "{c.name}"\n' for c in clip.cameras)
    intri, extri = head, head
    for camera in clip.cameras:
        R, t = camera.viewmat[:3, :3], camera.viewmat[:3, 3] * unit
        intri += _matrix_yml(f"K_{camera.name}", 3, _opencv_intrinsics(camera))
        intri += _matrix_yml(f"dist_{camera.name}", 1, _lens_numbers(camera.lens))
        if sizes:
            intri += f"H_{camera.name}: {camera.height}\nW_{camera.name}: {camera.width}\n"
        extri += _matrix_yml(f"R_{camera.name}", 3, Rotation.from_matrix(R).as_rotvec())
        extri += _matrix_yml(f"Rot_{camera.name}", 3, R)
        extri += _matrix_yml(f"T_{camera.name}", 3, t)
    (folder / "intri.yml").write_text(intri)
    (folder / "extri.yml").write_text(extri)

    # Fits and keypoints, a file a frame.
    poses = to_origin_rule(clip.poses, clip.rest_joints)
    for frame in range(len(clip.images)):
        _write_json(folder / "smpl" / f"{frame:06d}.json", [_easymocap_entry(poses, frame)])
        if keypoints:
            entry = {"id": 0, "keypoints3d": body25(clip)[frame].tolist()}
            _write_json(folder / "keypoints3d" / f"{frame:06d}.json", [entry])


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _easymocap_entry(poses: BodyPoses, frame: int) -> dict[str, Any]:
    """Return one frame's fit: Rh, Th, and poses whose first three numbers are zero."""
    own = poses.rotations[frame].copy()
    own[0] = 0
    entry: dict[str, Any] = {
        "id": 0,
        "Rh": [poses.rotations[frame, 0].tolist()],
        "Th": [poses.translations[frame].tolist()],
        "shapes": [poses.betas.tolist()],
    }
    if poses.kind == "smpl":
        return entry | {"poses": [own.ravel().tolist()]}
    assert poses.hand_pca is not None, "with_hand_pca makes what this layout holds"
    assert poses.expressions is not None
    numbers = [*own[:22].ravel(), *poses.hand_pca[frame].ravel(), *own[22:25].ravel()]
    entry["expression"] = [poses.expressions[frame].tolist()]
    return entry | {"poses": [[float(number) for number in numbers]]}


BODY25_JOINTS = {8: 0, 9: 2, 10: 5, 11: 8, 12: 1, 13: 4, 14: 7, 4: 21, 7: 20, 2: 17, 5: 16}
"""Joints of SMPL by their place in BODY_25: pelvis, legs, wrists, shoulders."""


def body25(clip: MadeClip) -> Float[np.ndarray, "F 25 4"]:
    """Return places and confidences of the joints that BODY_25 shares; others are not seen."""
    places = joint_frames(clip.poses, clip.rest_joints)[1]
    points = np.zeros((len(places), 25, 4))
    for place, joint in BODY25_JOINTS.items():
        points[:, place, :3], points[:, place, 3] = places[:, joint], 0.9
    return points


def write_zju(
    folder: Path,
    clip: MadeClip,
    *,
    unit: float = 1000.0,
    no_image: Keys = (),
    no_mask: Keys = (),
    long_names: bool = False,
    person: int = 5,
) -> None:
    """Write the layout of ZJU-MoCap; the clip is of `as_smpl`.

    unit: numbers of T a metre (1: metres, against the layout). long_names: folders and files as in
    the sequences 313 and 315, which count from 1. person: label of the masks' inside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = 1 if long_names else 0

    def relative(frame: int, camera: CaptureCamera) -> str:
        number = f"{frame + start:06d}"
        if not long_names:
            return f"{camera.name}/{number}"
        shown = f"Camera_({clip.cameras.index(camera) + 1})"
        name = f"CoreView_313_{shown}_{frame + start:04d}_2019-08-23_16-08-50.592"
        return f"{shown.replace('_', ' ')}/{name}"

    _save_all(
        clip,
        lambda frame, camera: folder / f"{relative(frame, camera)}.jpg",
        lambda frame, camera: folder / "mask_cihp" / f"{relative(frame, camera)}.png",
        no_image,
        no_mask,
        person,
    )
    # Cameras and paths, in an array that holds one dictionary.
    cameras = clip.cameras
    annotations = {
        "cams": {
            "K": [_opencv_intrinsics(camera).tolist() for camera in cameras],
            "D": [_lens_numbers(camera.lens)[:, None].tolist() for camera in cameras],
            "R": [camera.viewmat[:3, :3] for camera in cameras],
            "T": [camera.viewmat[:3, 3:] * unit for camera in cameras],
        },
        "ims": [
            {"ims": [f"{relative(frame, camera)}.jpg" for camera in cameras]}
            for frame in range(len(clip.images))
        ],
    }
    np.save(folder / "annots.npy", annotations, allow_pickle=True)

    # A file a frame, named by the number in the images' names.
    (folder / "new_params").mkdir(exist_ok=True)
    poses = to_origin_rule(clip.poses, clip.rest_joints)
    for frame in range(len(clip.images)):
        fit = {key: np.array(v) for key, v in _easymocap_entry(poses, frame).items() if key != "id"}
        np.save(folder / "new_params" / f"{frame + start}.npy", fit, allow_pickle=True)
