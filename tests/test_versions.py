"""Files of every version stay readable: one of each is kept, with the numbers of its own code.

data/README.md says how they were made. A new version adds a file; none is ever made again.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import make_toy_character, toy_cameras, toy_dofs

from ash_core.avatar import Avatar
from ash_core.cloth.swing import AS_FITTED, Swing
from ash_core.errors import InputError
from ash_core.files.avatar_file import VERSION, load_avatar
from ash_core.files.tensors import read_tensors, write_tensors
from ash_core.geometry.motion import pose_window
from ash_core.pose_windows import window_at
from ash_core.records import AvatarData, Motion, PoseWindow
from ash_core.render import Renderer, RenderRequest
from ash_core.scene.scene_file import SESSION_VERSION
from ash_core.training import checkpoints
from ash_core.training.checkpoints import newest_checkpoint
from ash_core.training.config import TrainConfig
from ash_core.training.model import Model, first_avatar
from ash_core.training.trainer import Trainer
from ash_core.training.world import World
from ash_core.variants import NATIVE
from viewer.session import Session

HERE = Path(__file__).resolve().parent / "data" / "versions"
FRAME = 40
BACKGROUND = (0.2, 0.4, 0.6)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """Numbers of the code that wrote version 1."""
    with np.load(HERE / "expected.npz") as arrays:
        return dict(arrays)


def window_of(data: AvatarData) -> PoseWindow:
    motion = Motion(toy_dofs().repeat(3, 1))
    return pose_window(motion, FRAME, data.skeleton, data.history_offsets)


def near(ours: torch.Tensor, theirs: np.ndarray) -> None:
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_avatars(version: int, expected: dict[str, np.ndarray]) -> None:
    data = load_avatar(HERE / f"avatar_{version}.safetensors")
    assert data.history_offsets == NATIVE.history_offsets
    assert data.decoder == {"atlas": 16, "width": 1, "sh_degree": 0, "offset_mm": 150}
    renderer, window = Renderer(Avatar.from_data(data)), window_of(data)
    near(renderer.gaussians(window).means, expected["means"])
    near(renderer.gaussians(window).opacities, expected["opacities"])
    front = toy_cameras()[0]
    K = front.K * torch.tensor([[0.25], [0.25], [1.0]])
    request = RenderRequest(window, replace(front, K=K, width=40, height=30), BACKGROUND)
    picture = renderer.render(request).rgb8().int()
    assert (picture - torch.from_numpy(expected["rgb"]).int()).abs().max() <= 1
    # From version 3 on an avatar may have cloth, simulated to the same places.
    if version >= 3:
        cloth = window_at(data, Motion(toy_dofs().repeat(3, 1)), FRAME).cloth
        assert cloth is not None
        torch.testing.assert_close(cloth, torch.from_numpy(expected["cloth"]), atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("version", range(1, checkpoints.VERSION + 1))
def test_checkpoints(version: int, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Version 2 is that of a training without an average of the weights, which is smaller."""
    shutil.copy(HERE / f"checkpoint_{version}.safetensors", tmp_path / "step_000000002.safetensors")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    ema = None if version == 1 else 0.0
    config = TrainConfig(
        tmp_path, tmp_path, views_per_pose=1, test_cameras="1", poses_per_step=1, ema=ema
    ).resolved()
    settings = {"atlas": 16, "width": 1, "sh_degree": 0}
    data = replace(load_avatar(HERE / "avatar_1.safetensors"), networks={}, decoder=settings)
    model = Model(config, first_avatar(config, data), torch.device("cpu"))
    trainer = Trainer(config, model, World.from_environment())
    trainer.load(found[1], str(found[0]))
    assert trainer.step == 2
    gaussians = Avatar.from_data(model.avatar_data(trainer.ema, ()))(window_of(data))
    prefix = "checkpoint" if version == 1 else f"checkpoint_{version}"
    near(gaussians.means, expected[f"{prefix}_means"])
    near(gaussians.sh, expected[f"{prefix}_sh"])


def test_a_checkpoint_of_a_later_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "step_000000002.safetensors"
    tensors, about = read_tensors(HERE / "checkpoint_1.safetensors", checkpoints.KIND)
    write_tensors(path, checkpoints.KIND, tensors, {**about, "version": 99})
    with pytest.raises(InputError, match="expected checkpoint version 2 or older, got '99'"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("version", range(1, SESSION_VERSION + 1))
def test_sessions(version: int, tmp_path: Path) -> None:
    make_toy_character(tmp_path)
    shutil.copy(HERE / "avatar_1.safetensors", tmp_path)
    name = f"session_{version}.ash-session"
    text = (HERE / name).read_text().replace("FOLDER", str(tmp_path))
    (tmp_path / name).write_text(text)
    session = Session(file=tmp_path / name, device="cpu")
    assert session.document.motion == ("toy" if version == 1 else "toy @ 7")
    assert len(session.document.path.keys) == 1
    assert session.document.overlays.mesh == ("none" if version == 1 else "wire")
    assert session.document.up is None
    expected = AS_FITTED if version < 4 else Swing(False, 2.0, 0.5, 4.0, 1.5)
    assert session.document.swing == expected
    assert set(session.cameras) >= {"front", "side"} or version == 1
    assert len(session.renderer.gaussians(session.request_shown(40, 30).window).means) == 220


def test_the_kept_files_are_small() -> None:
    assert sum(path.stat().st_size for path in HERE.iterdir()) < 500_000
