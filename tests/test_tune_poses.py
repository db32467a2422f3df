"""Refining the poses of training frames through the rasterizer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training_parts import make_setup
from train_toy import painted

from ash_core.avatar import Avatar
from ash_core.errors import InputError
from ash_core.files.avatar_file import load_avatar, save_avatar
from ash_core.files.dataset import CAPTURE, POSES, open_dataset
from ash_core.files.skeletool import read_motion, write_motion
from ash_core.geometry.framing import joint_positions
from ash_core.geometry.motion import pose_window
from ash_core.records import AvatarData, Motion
from ash_core.render import Renderer
from ash_core.training.checkpoints import write_checkpoint
from ash_core.training.config import LossWeights, TrainConfig
from ash_core.training.evaluation import as_json, evaluate
from ash_core.training.model import learning_rate
from ash_core.training.pose_tuning import (
    MOST_RAD,
    REFINED,
    PoseTuning,
    dof_scales,
    with_refined_poses,
)
from ash_core.training.setup import TrainingSetup

ELBOW = 6
"""Dof that is disturbed: the toy's only limb leans at its spine."""
DISTURBED, ERROR = [1, 4], torch.pi / 30  # 6 degrees
STEPS = 70


@pytest.fixture(scope="module")
def disturbed(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the footage, its poses off in some frames; the avatar has the colours of the images."""
    folder = tmp_path_factory.mktemp("disturbed") / "data"
    shutil.copytree(footage, folder)
    data = load_avatar(folder / "small.safetensors")
    motion = read_motion(folder / "training" / POSES, data.skeleton)
    dofs = motion.dofs.clone()
    dofs[DISTURBED, ELBOW] += ERROR
    write_motion(folder / "training" / POSES, dofs)
    texture = painted(data.template.texture)
    coloured = replace(data, template=replace(data.template, texture=texture))
    save_avatar(folder / "small.safetensors", coloured)
    return folder


@pytest.fixture
def data(disturbed: Path) -> AvatarData:
    return load_avatar(disturbed / "small.safetensors")


def setup_of(folder: Path, **settings: object) -> TrainingSetup:
    """Set up a training that learns poses faster than colours."""
    return make_setup(
        folder, tune_poses=True, learning_rate=1e-3, pose_rate=8.0, test_cameras="none",
        views_per_pose=3, weights=LossWeights(mask=1.0, offset=10.0), **settings,
    )  # fmt: skip


def go(setup: TrainingSetup, count: int) -> None:
    """Train some steps on."""
    batches = setup.batches(setup.trainer.step)
    for _ in range(count):
        done = setup.trainer.step / (setup.config.steps or 1)
        setup.trainer.rate = learning_rate(setup.config, done, setup.trainer.step)
        setup.trainer.run_step([next(batches)])
    setup.trainer.check()
    setup.close()


def tuning_of(data: AvatarData, motion: Motion, frames: list[int]) -> PoseTuning:
    device = torch.device("cpu")
    return PoseTuning(motion, frames, data.skeleton, data.history_offsets, device)


def true_dofs(footage: Path, data: AvatarData) -> torch.Tensor:
    return read_motion(footage / "training" / POSES, data.skeleton).dofs


# ---- what is learned ----


def test_disturbed_poses_are_found_again(
    footage: Path, disturbed: Path, data: AvatarData, tmp_path: Path
) -> None:
    """Joints, not dofs, are compared: on a capsule a turn of the root may stand for the limb's."""
    joints = joint_positions(data.skeleton, true_dofs(footage, data))

    def errors(dofs: torch.Tensor) -> torch.Tensor:
        """Greatest distance of a joint from the truth in each frame, m."""
        return (joint_positions(data.skeleton, dofs) - joints).norm(dim=-1).amax(1)

    setup = setup_of(disturbed, steps=STEPS)
    go(setup, STEPS)
    setup.model.save(tmp_path, setup.trainer.ema, (), setup.trainer.step)
    before = errors(open_dataset(disturbed).splits["training"].motion.dofs)
    after = errors(read_motion(tmp_path / REFINED, data.skeleton).dofs)
    others = [frame for frame in range(len(after)) if frame not in DISTURBED]
    assert float(before[DISTURBED].min()) > 0.03
    assert bool((after[DISTURBED] < 0.5 * before[DISTURBED]).all())
    assert float(after[others].max()) < 0.3 * float(before[DISTURBED].min())


def test_poses_stay_as_given_without_refinement(disturbed: Path, tmp_path: Path) -> None:
    setup = make_setup(disturbed, tune_character=True, steps=2)
    assert setup.model.poses is None
    (tmp_path / REFINED).write_text("of an earlier training\n")
    go(setup, 2)
    setup.model.save(tmp_path, setup.trainer.ema, (), setup.trainer.step)
    assert not (tmp_path / REFINED).exists()


# ---- corrections ----


def test_gradients_are_those_of_finite_differences(disturbed: Path, data: AvatarData) -> None:
    """A pose's correction reaches every Gaussian through kinematics and skinning."""
    motion = open_dataset(disturbed).splits["training"].motion
    tuning, avatar = tuning_of(data, motion, list(range(len(motion.dofs)))), Avatar.from_data(data)
    torch.manual_seed(0)
    tuning.corrections.data = 0.02 * torch.randn_like(tuning.corrections)
    weights = [torch.randn(avatar.count, width) for width in (3, 4)]

    def value() -> torch.Tensor:
        window = tuning.window(tuning.place(3))
        # The decoder's own answer to the pose is left out: float32 hides it.
        mesh = avatar.character(window)
        raw = torch.zeros(avatar.count, len(avatar.raw_channels))
        gaussians = avatar.assemble(raw, mesh)
        parts = zip((gaussians.means, gaussians.quats), weights, strict=True)
        return torch.stack([(part.double() * weight).sum() for part, weight in parts]).sum()

    value().backward()
    gradient = tuning.corrections.grad
    assert gradient is not None
    step = 1e-3
    for dof in range(gradient.shape[1]):
        with torch.no_grad():
            tuning.corrections[3, dof] += step
            after = value()
            tuning.corrections[3, dof] -= 2 * step
            before = value()
            tuning.corrections[3, dof] += step
        numeric = float(after - before) / (2 * step)
        assert numeric == pytest.approx(float(gradient[3, dof]), rel=0.01, abs=0.05), dof
    assert not gradient[[0, 1, 2, 4, 5]].any()  # history has none


def test_without_corrections_windows_are_as_given(disturbed: Path, data: AvatarData) -> None:
    motion = open_dataset(disturbed).splits["training"].motion
    tuning = tuning_of(data, motion, [0, 2, 4])
    for frame in range(len(motion.dofs)):
        given = pose_window(motion, frame, data.skeleton, data.history_offsets)
        window = tuning.window(tuning.place(frame))
        assert torch.equal(window.dofs, given.dofs)
        assert torch.equal(window.normalised, given.normalised)


def test_history_has_the_corrections_of_its_frames(disturbed: Path, data: AvatarData) -> None:
    motion = open_dataset(disturbed).splits["training"].motion
    tuning = tuning_of(data, motion, list(range(len(motion.dofs))))
    torch.manual_seed(0)
    tuning.corrections.data = 0.02 * torch.randn_like(tuning.corrections)
    refined = tuning.refined(tuning.corrections)
    want = pose_window(refined, 5, data.skeleton, data.history_offsets)
    torch.testing.assert_close(
        tuning.window(tuning.place(5)).dofs.detach(), want.dofs, atol=1e-7, rtol=0
    )
    got = tuning.window(tuning.place(5)).normalised.detach()
    torch.testing.assert_close(got, want.normalised, atol=1e-7, rtol=0)


def test_corrections_are_bounded_and_interpolated(disturbed: Path, data: AvatarData) -> None:
    motion = open_dataset(disturbed).splits["training"].motion
    tuning = tuning_of(data, motion, [0, 4])
    scales = dof_scales(data.skeleton)
    tuning.corrections.data[0], tuning.corrections.data[1] = 0.0, 0.01
    moved = tuning.refined(tuning.corrections).dofs - motion.dofs
    shares = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.0]).double()
    torch.testing.assert_close(moved, shares[:, None] * 0.01 * scales, atol=1e-4, rtol=0)
    tuning.corrections.data.fill_(100.0)
    moved = tuning.refined(tuning.corrections).dofs - motion.dofs
    torch.testing.assert_close(moved, (MOST_RAD * scales).expand_as(moved), atol=1e-6, rtol=0)
    joints = moved @ data.skeleton.dof_matrix.double().T
    assert float(joints[:, :3].max()) < 0.06  # m
    assert float(joints[:, 3:6].max()) == pytest.approx(MOST_RAD)  # three radians a dof


def test_penalties_are_of_size_and_of_bends(disturbed: Path, data: AvatarData) -> None:
    motion = open_dataset(disturbed).splits["training"].motion
    tuning = tuning_of(data, motion, list(range(len(motion.dofs))))
    degree = torch.pi / 180
    tuning.corrections.data[:, ELBOW] = degree * torch.arange(len(motion.dofs))
    with torch.no_grad():
        straight = tuning.penalties(tuning.place(2))
    assert float(straight["pose"]) == pytest.approx(4, rel=0.1)
    assert float(straight["pose_change"]) == pytest.approx(0, abs=0.01)
    tuning.corrections.data[2, ELBOW] = 0
    with torch.no_grad():
        assert float(tuning.penalties(tuning.place(2))["pose_change"]) == pytest.approx(16, rel=0.1)
        assert float(tuning.penalties(tuning.place(0))["pose_change"]) == 0


# ---- when it is on ----


@pytest.mark.parametrize("is_capture", [False, True])
def test_it_is_on_by_itself_for_captures_alone(tmp_path: Path, is_capture: bool) -> None:
    if is_capture:
        (tmp_path / CAPTURE).write_text("{}")
    config = TrainConfig(tmp_path, tmp_path / "out")
    assert config.resolved().tune_poses is False
    assert replace(config, tune_character=True).resolved().tune_poses is is_capture
    off = replace(config, tune_character=True, tune_poses=False)
    assert off.resolved().tune_poses is False
    assert replace(config, tune_poses=True).resolved().tune_poses is True


def test_the_published_variant_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--tune-poses: expected none for the released variant"):
        TrainConfig(tmp_path, tmp_path / "out", variant="released", tune_poses=True).resolved()


# ---- files ----


def test_a_resumed_training_goes_on_with_its_corrections(disturbed: Path, tmp_path: Path) -> None:
    whole, first = setup_of(disturbed), setup_of(disturbed)
    go(whole, 6)
    go(first, 3)
    state = first.trainer.state(1.0)
    write_checkpoint(tmp_path, state)
    second = setup_of(disturbed)
    second.trainer.load(state, "checkpoint")
    go(second, 3)
    for vectors in (lambda s: s.trainer.ema, lambda s: {"poses": s.trainer.flats["poses"].values}):
        assert torch.equal(vectors(whole)["poses"], vectors(second)["poses"])


def test_checkpoints_from_before_refinement_are_read(disturbed: Path) -> None:
    setup = make_setup(disturbed, tune_character=True, steps=2)
    go(setup, 1)
    old = setup.trainer.state(1.0)
    del old.settings["tune_poses"]
    again = make_setup(disturbed, tune_character=True, steps=2)
    again.trainer.load(old, "checkpoint")
    assert again.trainer.step == 1
    with pytest.raises(InputError, match="--tune-poses: expected False as in checkpoint, got True"):
        make_setup(disturbed, tune_character=True, tune_poses=True).trainer.load(old, "checkpoint")


def test_refined_poses_of_other_poses_are_not_used(
    disturbed: Path, data: AvatarData, tmp_path: Path
) -> None:
    split = open_dataset(disturbed).splits["training"]
    assert with_refined_poses(tmp_path, split, data.skeleton) is None
    for change, is_used in ((0.5 * MOST_RAD, True), (2 * MOST_RAD, False)):
        dofs = split.motion.dofs.clone()
        dofs[0, ELBOW] += change
        write_motion(tmp_path / REFINED, dofs)
        refined = with_refined_poses(tmp_path, split, data.skeleton)
        assert (refined is not None) is is_used
    write_motion(tmp_path / REFINED, split.motion.dofs[:-1])
    assert with_refined_poses(tmp_path, split, data.skeleton) is None


def test_evaluations_use_refined_poses_for_training_frames(
    footage: Path, disturbed: Path, data: AvatarData, tmp_path: Path
) -> None:
    path = tmp_path / "avatar.safetensors"
    save_avatar(path, data)
    dataset, renderer = open_dataset(disturbed), Renderer(Avatar.from_data(data), "cpu")
    training = dataset.splits["training"]
    off = 0.1 * dof_scales(data.skeleton)
    motion = replace(training.motion, dofs=true_dofs(footage, data) + off)
    splits = {**dataset.splits, "training": replace(training, motion=motion)}
    dataset = replace(dataset, splits=splits)
    given = evaluate(renderer, str(path), dataset, views=1)
    write_motion(tmp_path / REFINED, true_dofs(footage, data))
    out = tmp_path / "report"
    refined = evaluate(renderer, str(path), dataset, out, views=1)
    for name in ("train pose", "novel view"):
        assert refined[name].scores.psnr > given[name].scores.psnr
    assert refined["novel pose"].scores == given["novel pose"].scores
    poses = {name: part["poses"] for name, part in as_json(refined.reports).items()}
    assert poses == {"train pose": "refined", "novel view": "refined", "novel pose": "given"}
    assert json.loads((out / "report.json").read_text())["train pose"]["poses"] == "refined"
    assert "train pose, novel view: with the poses that the training refined" in str(refined)
    assert [note for note in refined.notes if REFINED in note]
    assert not [note for note in given.notes if REFINED in note]
