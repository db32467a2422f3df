"""Laws of fitting a clothed template to masks: a man of capsules in a skirt that is a cone."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from ash_core.captures.capture import CaptureCamera
from ash_core.errors import InputError
from ash_core.files.body_poses import BODY_JOINTS, BodyPoses
from ash_core.geometry.camera import look_at
from ash_core.importers.body.posing import joint_frames
from ash_core.importers.template.closest import ClosestSurface
from ash_core.importers.template.face import split_faces
from ash_core.importers.template.fit import FittedTemplate, choose_frames, fit_clothed_template
from ash_core.importers.template.linear_skinning import bone_moves, place_points
from ash_core.importers.template.surface_nets import surface_nets
from ash_core.importers.template.thin import thin
from ash_core.splat.triangle_fill import fill_triangles
from ash_core.studio.mesh.surface import vertex_normals

NAMES = BODY_JOINTS["smplx"]
CELL_M, FIT_CELL_M = 0.015, 0.02
SIZE = (200, 150)
PLACES = {
    "pelvis": (0, 0.95, 0), "spine1": (0, 1.05, 0), "spine2": (0, 1.15, 0),
    "spine3": (0, 1.25, 0), "neck": (0, 1.42, 0), "head": (0, 1.55, 0), "hip": (0.10, 0.90, 0),
    "knee": (0.10, 0.5, 0), "ankle": (0.10, 0.1, 0), "foot": (0.10, 0.05, 0.08),
    "collar": (0.08, 1.38, 0), "shoulder": (0.17, 1.38, 0), "elbow": (0.42, 1.38, 0),
    "wrist": (0.66, 1.38, 0),
}  # fmt: skip
FINGERS = {"index": 0.05, "middle": 0.0, "ring": -0.05}
BONES = [
    ("pelvis", "spine3", 0.13), ("spine3", "neck", 0.09), ("neck", "head", 0.06),
    ("head", "head", 0.11), ("hip", "knee", 0.07), ("knee", "ankle", 0.055),
    ("ankle", "foot", 0.045), ("collar", "shoulder", 0.06), ("shoulder", "elbow", 0.045),
    ("elbow", "wrist", 0.04), ("wrist", "middle1", 0.04),
] + [(f"{finger}1", f"{finger}3", 0.019) for finger in FINGERS]  # fmt: skip
"""Capsules: joint at the start, which moves it, joint at the end, radius."""


@cache
def rest_joints() -> np.ndarray:
    joints = np.zeros((len(NAMES), 3))
    for j, name in enumerate(NAMES):
        side, _, stem = name.partition("_")
        place = PLACES.get(stem) or PLACES.get(name)
        if place is None and stem.rstrip("123") in FINGERS:
            number = int(stem[-1])
            place = (0.74 + 0.035 * (number - 1), 1.38, FINGERS[stem.rstrip("123")])
        place = np.array(place or PLACES["head"], float)
        joints[j] = place * ([-1, 1, 1] if side == "right" else [1, 1, 1])
    return joints


def capsules(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to all capsules [N, C], and the joint that moves each [C]."""
    joints, distances, owners = rest_joints(), [], []
    for start, end, radius in BONES:
        for side in ("left_", "right_") if start not in NAMES else ("",):
            a = joints[NAMES.index(side + start)]
            b = joints[NAMES.index(side + end)]
            along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-9), 0, 1)
            distances.append(np.linalg.norm(points - a - along[:, None] * (b - a), axis=1) - radius)
            owners.append(NAMES.index(side + start))
    return np.stack(distances, 1), np.array(owners)


def skirt(points: np.ndarray) -> np.ndarray:
    """Return distances to a solid cone from the waist to below the knees."""
    radius = 0.15 + (0.98 - points[:, 1]) * 0.25
    beside = (np.hypot(points[:, 0], points[:, 2]) - radius) / np.hypot(1, 0.25)
    return np.maximum(beside, np.maximum(points[:, 1] - 0.98, 0.42 - points[:, 1]))


def mesh_of(field) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    origin = np.array([-0.92, -0.03, -0.36])
    shape = tuple(np.ceil(np.array([1.84, 1.75, 0.72]) / CELL_M).astype(int).tolist())
    nodes = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    return surface_nets(field(origin + CELL_M * nodes).reshape(shape), origin, CELL_M)


@dataclass(frozen=True)
class Man:
    """Nude body, clothed body, poses, cameras and masks."""

    body: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray
    clothed: tuple[np.ndarray, np.ndarray]
    clothed_weights: np.ndarray
    frames: tuple[np.ndarray, np.ndarray]
    cameras: list[CaptureCamera]
    masks: np.ndarray


def skin(points: np.ndarray) -> np.ndarray:
    distances, owners = capsules(points)
    share = np.exp(-(distances - distances.min(1, keepdims=True)) / 0.01)
    weights = np.zeros((len(points), len(NAMES)))
    for column, owner in enumerate(owners):
        weights[:, owner] += share[:, column]
    return weights / weights.sum(1, keepdims=True)


def poses(count: int) -> BodyPoses:
    rotations = np.zeros((count, len(NAMES), 3))
    time = np.linspace(0, 2 * np.pi, count, endpoint=False)
    rotations[:, 0, 1] = time / 2
    for side, sign in (("left", 1), ("right", -1)):
        rotations[:, NAMES.index(f"{side}_hip"), 0] = 0.25 * sign * np.sin(time)
        rotations[:, NAMES.index(f"{side}_shoulder"), 2] = -sign * (0.5 + 0.4 * np.cos(time))
    return BodyPoses("smplx", rotations, np.zeros((count, 3)), "pelvis", np.zeros(10),
                     tuple(range(count)))  # fmt: skip


@cache
def man() -> Man:
    body = mesh_of(lambda p: capsules(p)[0].min(1))
    clothed = mesh_of(lambda p: np.minimum(capsules(p)[0].min(1), skirt(p)))
    weights = skin(clothed[0])
    of_skirt = skirt(clothed[0]) < capsules(clothed[0])[0].min(1)
    weights[of_skirt] = np.eye(len(NAMES))[0]
    frames = joint_frames(poses(6), rest_joints())
    cameras = []
    for k in range(8):
        angle = 2 * np.pi * k / 8 + 0.1
        eye = np.array([3.2 * np.sin(angle), 1.2 + 0.5 * (k % 2), 3.2 * np.cos(angle)])
        view = look_at(torch.from_numpy(eye), torch.tensor([0.0, 0.85, 0.0]), torch.eye(3)[1])
        K = np.array([[210.0, 0, SIZE[0] / 2], [0, 210.0, SIZE[1] / 2], [0, 0, 1]])
        cameras.append(CaptureCamera(f"{k}", K, view.double().numpy(), *SIZE))
    masks = np.zeros((6, 8, SIZE[1], SIZE[0]), np.bool_)
    for f, move in enumerate(bone_moves(frames, rest_joints())):
        posed = place_points(clothed[0], weights, move)
        for c, camera in enumerate(cameras):
            local = posed @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
            pixels = (local / local[:, 2:]) @ camera.K.T
            fill_triangles(pixels[:, :2], clothed[1], masks[f, c])
    return Man(body, skin(body[0]), clothed, weights, frames, cameras,
               255 * masks.astype(np.uint8))  # fmt: skip


def fit(handed: Man, **options) -> FittedTemplate:  # type: ignore[no-untyped-def]
    return fit_clothed_template(
        *handed.body, handed.weights, handed.frames, rest_joints(), handed.cameras,
        lambda frame, camera: handed.masks[frame, camera],
        **{"cell_m": FIT_CELL_M, "target": 3500, **options},
    )  # fmt: skip


@cache
def fitted() -> FittedTemplate:
    """Fit the man; a frame and a camera have no mask, as where images are missing."""
    masks = man().masks.copy()
    masks[2], masks[:, 3] = 0, 0
    return fit(replace(man(), masks=masks))


@pytest.mark.slow
def test_the_surface_lies_near_the_true_one() -> None:
    to_true = ClosestSurface(*man().clothed).query(fitted().vertices).distances
    assert np.median(to_true) < 0.5 * FIT_CELL_M
    to_fitted = ClosestSurface(fitted().vertices, fitted().faces).query(man().clothed[0]).distances
    assert np.median(to_fitted) < 0.5 * FIT_CELL_M
    assert np.percentile(to_fitted, 90) < 2 * FIT_CELL_M


@pytest.mark.slow
def test_the_skirt_is_one_surface_and_the_whole_is_closed() -> None:
    vertices, faces = fitted().vertices, fitted().faces
    assert is_closed(faces)
    # A ray between the legs, above the hem, starts inside the cloth.
    between = ClosestSurface(vertices, faces).query(np.array([[0.0, 0.6, 0.0]]))
    assert between.signed[0] < -0.1


@pytest.mark.slow
def test_weights_sum_to_one_and_are_not_negative() -> None:
    assert fitted().weights.shape == (len(fitted().vertices), len(NAMES))
    assert fitted().weights.min() >= 0
    assert fitted().weights.sum(1) == pytest.approx(1.0)


@pytest.mark.slow
def test_fingers_are_the_bodys_own() -> None:
    assert fitted().joined_hands == (True, True)
    fingers = np.abs(fitted().vertices[:, 0]) > 0.75
    distances, _ = KDTree(man().body[0]).query(fitted().vertices[fingers])
    assert fingers.sum() > 50
    assert distances.max() < 1e-9


@pytest.mark.slow
def test_images_with_an_empty_mask_do_not_count() -> None:
    assert fitted().facts["images"] == 5 * 7


def is_closed(faces: np.ndarray) -> bool:
    """Return whether each edge is in two faces, once in each direction."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    return len(np.unique(edges, axis=0)) == len(edges) == len(np.unique(both, axis=0))


def ball(cells: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-1, 1, cells)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    values = np.linalg.norm(grid, axis=-1) - 0.7
    return surface_nets(values, np.full(3, -1.0), 2 / (cells - 1))


def test_a_balls_surface_has_its_radius() -> None:
    vertices, faces = ball(24)
    assert is_closed(faces)
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(0.7, abs=0.01)
    assert vertex_normals(vertices, faces) == pytest.approx(vertices / 0.7, abs=0.1)


def test_the_surface_of_any_set_of_cells_is_a_closed_manifold() -> None:
    values = np.random.default_rng(0).normal(size=(9, 10, 11))
    vertices, faces = surface_nets(values, np.zeros(3), 1.0)
    assert is_closed(faces)
    assert np.isfinite(vertices).all()


def test_thinning_keeps_a_ball_closed_and_round() -> None:
    vertices, faces = ball(24)
    thinned = thin(vertices, faces, np.ones(len(vertices)), 300)
    assert is_closed(thinned)
    assert len(np.unique(thinned)) <= 320
    middles = vertices[thinned].mean(1)
    assert np.linalg.norm(middles, axis=1) == pytest.approx(0.68, abs=0.04)


def test_splitting_some_triangles_keeps_a_ball_closed() -> None:
    vertices, faces = ball(12)
    places, split = split_faces(vertices, faces, vertices[faces[:, 0], 2] > 0.2)
    assert is_closed(split)
    assert len(places) == len(np.unique(split)) > len(vertices)


def test_frames_of_different_poses_are_chosen() -> None:
    turns = np.tile(np.eye(3), (9, 55, 1, 1))
    turns[4, 16] = Rotation.from_rotvec([0, 0, 1.2]).as_matrix()
    turns[7, 1] = Rotation.from_rotvec([1.0, 0, 0]).as_matrix()
    assert {4, 7} < set(choose_frames(turns, 3))
    assert choose_frames(turns[:2], 5) == [0]


def test_empty_masks_are_refused() -> None:
    empty = replace(man(), masks=np.zeros_like(man().masks))
    with pytest.raises(InputError, match=r"template: expected masks with a person .* got 0 masks"):
        fit(empty)


def test_one_camera_is_refused() -> None:
    with pytest.raises(InputError, match="template: expected masks of at least 2 cameras, got 1"):
        fit(replace(man(), cameras=man().cameras[:1]))


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="frame 0, camera 0: expected 200 x 150, got 100 x 150"):
        fit(replace(man(), masks=man().masks[..., :100]))
