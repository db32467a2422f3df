"""Laws of anny's body in place of a body model file. Most need anny, loaded once."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from actor_joints import NAMES, actor_frames, actor_rest_joints, poses_of_actor
from scipy.spatial.transform import Rotation

from ash_core.errors import InputError
from ash_core.files.body_model import read_body_model
from ash_core.files.body_poses import BodyPoses
from ash_core.files.skeletool import read_motion, read_skeleton
from ash_core.footage.inspect.silhouette import silhouette
from ash_core.importers.body import anny_body, anny_fit, anny_joints, anny_masks
from ash_core.importers.body.posing import joint_frames
from ash_core.records import Camera
from ash_core.resources import resource
from ash_core.studio.actor.body import load_anny
from ash_core.studio.mesh.surface import boundary_loops

FRAMES = 40
TRUTH = {
    "gender": 0.2, "age": 0.7, "muscle": 0.7, "weight": 0.35, "height": 0.6, "proportions": 0.3,
}  # fmt: skip
PELVIS = np.array([0.02, -0.33, 0.01])
"""Rest pelvis of the capture's own body model, unlike anny's."""


@dataclass(frozen=True)
class Places:
    """Keypoints of a capture."""

    names: tuple[str, ...]
    places: np.ndarray
    confidences: np.ndarray


@pytest.fixture(scope="module")
def source() -> anny_body.AnnySource:
    pytest.importorskip("anny")
    return anny_body.anny_source()


def at(joints: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return joints[..., [NAMES.index(name) for name in names], :]


def random_poses(count: int = FRAMES, arms: float = 0.6) -> BodyPoses:
    rng = np.random.default_rng(3)
    size = np.full((len(NAMES), 1), 0.1)
    size[[NAMES.index(f"{s}_{j}") for s in ("left", "right") for j in ("shoulder", "hip")]] = arms
    rotations = rng.normal(size=(count, len(NAMES), 3)) * size
    rotations[:, 0] = np.array([0.0, 1.0, 0.0]) * rng.uniform(-3, 3, (count, 1))
    translations = rng.normal(size=(count, 3)) * 0.2 + [0.0, 1.0, 0.0] - PELVIS
    return BodyPoses("smplx", rotations, translations, "pelvis", np.zeros(10), tuple(range(count)))


def true_rest(source: anny_body.AnnySource) -> np.ndarray:
    rest = anny_body.t_pose(source.joints(source.coefficients(TRUTH)))
    return rest - rest[0] + PELVIS


# ---- the studio's actors as SMPL-X ----


def test_poses_of_an_actor_keep_its_joints() -> None:
    folder = resource("assets", "actor")
    skeleton = read_skeleton(folder / "actor.skeleton")
    motion = read_motion(folder / "motions" / "dance.motion", skeleton)
    dofs = motion.dofs[::20].numpy()
    rest = actor_rest_joints(skeleton)
    places = joint_frames(poses_of_actor(skeleton, dofs), rest)[1]
    assert np.abs(places - actor_frames(skeleton, dofs)[1]).max() < 5e-4


def test_nude_body_under_an_actor_has_the_actors_joints(tmp_path: Path) -> None:
    pytest.importorskip("anny")
    from studio_body import smplx_like_body, write_body_npz

    model, skeleton = smplx_like_body(resource("assets", "actor"))
    write_body_npz(tmp_path / "SMPLX_NEUTRAL.npz", model)
    read = read_body_model(tmp_path / "SMPLX_NEUTRAL.npz")
    assert read.kind == "smplx"
    joints = read.joints(read.shaped(np.zeros(10)))
    np.testing.assert_allclose(joints, actor_rest_joints(skeleton), atol=1e-6)
    assert len(boundary_loops(read.faces)) == 0
    np.testing.assert_allclose(read.weights.sum(1), 1.0, atol=1e-6)


# ---- T-pose ----


def test_body_stands_in_a_t_pose(source: anny_body.AnnySource) -> None:
    model = anny_body.anny_model(TRUTH)
    joints = model.joints(model.template)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        arm = at(joints, [f"{side}_{name}" for name in ("shoulder", "elbow", "wrist", "middle1")])
        assert np.ptp(arm[:, 1]) < 1e-6
        assert np.ptp(arm[:, 2]) < 1e-6
        assert (sign * np.diff(arm[:, 0]) > 0.05).all()
        leg = at(joints, [f"{side}_{name}" for name in ("hip", "knee", "ankle")])
        assert np.ptp(leg[:, [0, 2]], axis=0).max() < 1e-6
        assert (np.diff(leg[:, 1]) < -0.3).all()
        index, pinky, thumb = at(joints, [f"{side}_{f}1" for f in ("index", "pinky", "thumb")])
        assert index[2] > pinky[2] + 0.03
        assert thumb[1] < arm[2, 1]
    # Fingertips reach as far as the hands, so that the flesh went with the joints.
    assert np.abs(model.template[:, 0]).max() > np.abs(joints[:, 0]).max()
    assert model.template[:, 1].min() == pytest.approx(0.0, abs=1e-9)
    assert len(boundary_loops(model.faces)) == 0


def test_flesh_stays_where_joints_stay(source: anny_body.AnnySource) -> None:
    coefficients = source.coefficients(TRUTH)
    joints, vertices = source.joints(coefficients), source.vertices(coefficients)
    moved = anny_body.moves_between(joints, joints).apply(vertices, source.weights)
    np.testing.assert_allclose(moved, vertices, atol=1e-6)


# ---- joints and keypoints ----


@pytest.mark.parametrize("rule", ["pelvis", "origin"])
def test_joints_of_the_fits_give_the_lengths_back(source: anny_body.AnnySource, rule: str) -> None:
    rest, poses = true_rest(source), random_poses()
    places = joint_frames(poses, rest)[1]
    if rule == "origin":
        turned = Rotation.from_rotvec(poses.rotations[:, 0]).apply(rest[0])
        poses = replace(
            poses, root_rule="origin", translations=poses.translations + rest[0] - turned
        )
    fit = anny_fit.fit_anny(poses, Places(NAMES, places, np.ones(places.shape[:2])))
    assert fit.proportions_loss_m is not None
    assert fit.proportions_loss_m < 0.01
    assert fit.phenotypes["height"] == pytest.approx(TRUTH["height"], abs=0.05)
    joints = fit.model.joints(fit.model.template)
    np.testing.assert_allclose(joint_frames(fit.poses, joints)[1], places, atol=1e-3)


def test_noisy_keypoints_give_the_joints_within_a_centimetre(
    source: anny_body.AnnySource,
) -> None:
    rest, poses = true_rest(source), random_poses()
    truth = joint_frames(poses, rest)[1]
    limbs = [f"{s}_{j}" for s in ("left", "right") for j in anny_joints._LIMBS]
    places = at(truth, limbs) + np.random.default_rng(0).normal(size=(FRAMES, 12, 3)) * 0.015
    places[3, 4] += 1.0
    confidences = np.ones(places.shape[:2])
    places[5:10, 3], confidences[5:10, 3] = np.nan, 0.0
    fit = anny_fit.fit_anny(poses, Places(tuple(limbs), places, confidences))
    joints = joint_frames(fit.poses, fit.model.joints(fit.model.template))[1]
    off = np.linalg.norm(at(joints, limbs) - at(truth, limbs), axis=-1)
    assert np.median(off) < 0.01
    assert "cm" in fit.notes[-1]


# ---- silhouettes ----


def ring(count: int, size: int = 200) -> tuple[Camera, ...]:
    cameras = []
    for angle in np.arange(count) * 2 * np.pi / count:
        centre = np.array([3 * np.sin(angle), 1.3, 3 * np.cos(angle)])
        ahead = np.array([0.0, 1.0, 0.0]) - centre
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        T = np.eye(4)
        T[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
        T[:3, 3] = -T[:3, :3] @ centre
        K = [[1.1 * size, 0, size / 2], [0, 1.1 * size, size / 2], [0, 0, 1]]
        cameras.append(Camera.from_arrays(T, K, size, size, f"{angle:.2f}"))
    return tuple(cameras)


@dataclass(frozen=True)
class Scene:
    """A person in a ring of cameras, by a body model that anny does not know."""

    poses: BodyPoses
    places: np.ndarray
    views: anny_masks.Views
    height_m: float


@pytest.fixture
def scene(source: anny_body.AnnySource, monkeypatch: pytest.MonkeyPatch) -> Scene:
    for name, value in (("TRIALS", 40), ("VIEW_FRAMES", 2), ("VIEW_CAMERAS", 3)):
        monkeypatch.setattr(anny_masks, name, value)
    poses, cameras = random_poses(5, arms=0.3), ring(3)
    rest = anny_body.t_pose(source.joints(source.coefficients(TRUTH)))
    model = anny_body.body_of_rest(TRUTH, 1.0, rest)
    own = model.joints(model.template)
    there = replace(poses, translations=poses.translations + PELVIS - own[0])
    turns, places = joint_frames(there, own)
    faces, weights = torch.from_numpy(model.faces), sp.csr_matrix(model.weights)

    def mask(frame: int, camera: int) -> np.ndarray:
        goals = places[frame]
        posed = anny_body.Moves(turns[frame], own, goals).apply(model.template, weights)
        drawn = silhouette(torch.from_numpy(posed), faces, cameras[camera])
        return drawn.numpy().astype(np.uint8) * 255

    height = float(np.ptp(model.template[:, 1]))
    return Scene(poses, places, anny_masks.Views(cameras, mask), height)


@pytest.mark.slow
def test_masks_alone_place_the_body(scene: Scene) -> None:
    fit = anny_fit.fit_anny(scene.poses, None, scene.views)
    assert fit.overlap is not None
    assert fit.overlap > 0.85
    assert np.ptp(fit.model.template[:, 1]) == pytest.approx(scene.height_m, abs=0.05)
    joints = joint_frames(fit.poses, fit.model.joints(fit.model.template))[1]
    assert np.linalg.norm(joints - scene.places, axis=-1)[:, 0].max() < 0.02


@pytest.mark.slow
def test_masks_beside_joints_give_the_build(scene: Scene) -> None:
    keypoints = Places(NAMES, scene.places, np.ones(scene.places.shape[:2]))
    alone = anny_fit.fit_anny(scene.poses, keypoints)
    fit = anny_fit.fit_anny(scene.poses, keypoints, scene.views)
    assert fit.overlap is not None
    assert fit.overlap > 0.95
    error = {name: abs(f.phenotypes["weight"] - TRUTH["weight"])
             for name, f in (("alone", alone), ("views", fit))}  # fmt: skip
    assert error["views"] < max(error["alone"], 0.1)
    joints = joint_frames(fit.poses, fit.model.joints(fit.model.template))[1]
    np.testing.assert_allclose(joints, scene.places, atol=2e-3)


# ---- faults ----


def test_poses_are_needed() -> None:
    with pytest.raises(InputError, match="--body anny: expected rotations of SMPL-X"):
        anny_fit.fit_anny(None)


def test_evidence_is_needed(source: anny_body.AnnySource) -> None:
    with pytest.raises(InputError, match="expected keypoints or masks"):
        anny_fit.fit_anny(random_poses(3))


def test_without_anny_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    monkeypatch.setattr(anny_body, "load_anny", load_anny.__wrapped__)
    with pytest.raises(
        InputError, match=r"--body anny: expected the package anny .*studio"
    ) as info:
        anny_fit.fit_anny(random_poses(3))
    assert "\n" not in str(info.value)
