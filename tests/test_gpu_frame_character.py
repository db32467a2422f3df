"""Poses and motion maps in kernels beside the plain character's, on the CPU and on a GPU."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cuda_on_cpu import emulate, needs_compiler
from published import seeded_weights
from torch import Tensor
from torch.testing import assert_close
from toy import make_toy_character

from ash_core.avatar import Avatar, NativeAvatar
from ash_core.cloth.model import build_model, store_model
from ash_core.errors import CudaError
from ash_core.files.released import import_ash
from ash_core.files.skeletool import read_motion
from ash_core.geometry.motion import heading_joint, heading_matrix, pose_window
from ash_core.gpu_frame import character as fast
from ash_core.gpu_frame.character import PoseStage
from ash_core.networks import graph_net
from ash_core.records import AvatarData, Motion, PosedMesh, PoseWindow
from ash_core.variants import RELEASED

RELEASED_ATLAS = 64
FLOAT_M, HALF_M = 2e-5, 2e-4
"""Largest differences of a vertex. A graph network's displacement of 1 m in half is off by 1e-4."""
SLOTS = (5, 63, 0, 17, 9)
"""Of a window's poses, newest first."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[AvatarData, Motion]:
    files = make_toy_character(tmp_path_factory.mktemp("toy"))
    data, _ = import_ash(files.conf)
    return data, read_motion(files.motion, data.skeleton)


@pytest.fixture(scope="module")
def native(toy) -> Avatar:
    return Avatar.from_data(toy[0], preset_name="cpu")


@pytest.fixture(scope="module")
def released(toy) -> Avatar:
    """Graph networks, the published reference and atlas; without U-Nets."""
    data = dataclasses.replace(
        toy[0],
        variant="released",
        history_offsets=RELEASED.history_offsets,
        networks=graph_networks(toy[0]),
    )
    return Avatar(data, RELEASED_ATLAS).eval()


@pytest.fixture(scope="module")
def on_the_cpu() -> Any:
    return emulate(fast.PROGRAM.text(), fast.PROGRAM.defines)


@pytest.fixture
def emulated(on_the_cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels on the CPU."""
    monkeypatch.setattr(fast, "PROGRAM", on_the_cpu)


def graph_networks(data: AvatarData) -> dict[str, dict[str, Tensor]]:
    """Random ones that move vertices by some centimetres."""
    generator = torch.Generator().manual_seed(0)

    def weight(name: str, shape: tuple[int, ...]) -> Tensor:
        if "running_var" in name:
            return 0.5 + torch.rand(shape, generator=generator)
        if name.startswith("bn") and name.endswith("weight"):
            return 0.5 + torch.rand(shape, generator=generator)
        scale = {"gcnn_0.kernel": 0.1, "final_gcnn.kernel": 0.01}.get(name, 0.2)
        if name == "dense_0_gcnn.kernel":
            scale = 0.3 * shape[0] ** -0.5
        return scale * torch.randn(shape, generator=generator) * (0.1 if "bias" in name else 1)

    networks = {}
    for kind, n in (("spatial", len(data.graph.vertices)), ("delta", len(data.template.vertices))):
        shapes = graph_net.expected_shapes(kind, n)  # type: ignore[arg-type]
        networks[f"{kind}_gcn"] = {
            name: torch.tensor(0) if "tracked" in name else weight(name, shape)
            for name, shape in shapes.items()
        }
    networks["delta_gcn"]["final_gcnn.kernel"] *= 0.01  # its inputs are hundreds of millimetres
    return networks


def fill(stage: PoseStage, window: PoseWindow, slots: tuple[int, ...] = SLOTS) -> None:
    """The poses of a window into slots of the ring."""
    slots = slots[: len(window.dofs)]
    poses = zip(slots, window.dofs, window.normalised, strict=True)
    for row, (slot, dofs, normalised) in enumerate(poses):
        stage.inputs.copy_(torch.cat((dofs[None], normalised)))
        stage.has_cloth.fill_(window.cloth is not None)
        if window.cloth is not None:
            stage.cloth.copy_(window.cloth[row])
        stage.slot.fill_(slot)
        stage.run()
    stage.window.copy_(torch.tensor(slots))


def plain_map(avatar: Avatar, mesh: PosedMesh, window: PoseWindow) -> Tensor:
    """[r, r, 18]"""
    return avatar.motion_map(mesh, window)[0].permute(1, 2, 0)


def compare_poses(stage: PoseStage, avatar: Avatar, window: PoseWindow, tolerance: float) -> None:
    """A filled ring beside the plain character's history."""
    mesh, character = avatar.character(window), avatar.character
    near: dict[str, float] = {"atol": tolerance, "rtol": 0}
    slots = list(SLOTS[: len(window.dofs)])
    assert_close(stage.vertices[slots], mesh.vertices, **near)
    assert_close(stage.normals[slots], mesh.normals, atol=50 * tolerance, rtol=0)
    assert_close(stage.canonical[slots[0]], mesh.canonical, **near)
    assert_close(
        stage.transforms[slots[0]], torch.cat((mesh.real, mesh.dual), -1), atol=2e-5, rtol=0
    )
    root, joint = stage.root[slots[0]], heading_joint(character.skeleton)
    assert_close(root[:3], mesh.root)
    assert_close(root[3:6], mesh.joints[joint])
    turn = heading_matrix(window.dofs[0], character.skeleton).float()
    assert_close(root[6:15].reshape(3, 3), turn)


def compare_maps(stage: PoseStage, avatar: Avatar, window: PoseWindow, tolerance: float) -> None:
    """The map of a filled ring beside the plain one."""
    want = plain_map(avatar, avatar.character(window), window)
    side, native = avatar.atlas.resolution, isinstance(avatar, NativeAvatar)
    shape = (side // 2, side // 2, 72) if native else (side, side, 24)
    out = torch.zeros(shape, dtype=torch.half, device=want.device)
    stage.motion_map(out)
    got = out[..., :18]
    if native:
        got = torch.nn.functional.pixel_shuffle(out.permute(2, 0, 1), 2).permute(1, 2, 0)
    else:
        assert not out[..., 18:].any()
    assert all(part.any() for part in want.split(3, -1))
    # Half: a metre's last bit, and what the poses differ by.
    normals = 15 if native else 9
    near, far = 5e-4 + tolerance, 5e-4 + 50 * tolerance
    assert_close(got[..., :normals].float(), want[..., :normals], atol=near, rtol=1e-3)
    assert_close(got[..., normals:].float(), want[..., normals:], atol=far, rtol=1e-3)


@needs_compiler
@torch.no_grad()
def test_native_poses_and_maps_are_the_characters(toy, native: Avatar, emulated: None) -> None:
    window = pose_window(toy[1], 19, toy[0].skeleton, toy[0].history_offsets)
    stage = PoseStage(native, "cpu")
    fill(stage, window)
    compare_poses(stage, native, window, 2e-6)
    compare_maps(stage, native, window, 2e-6)
    assert torch.equal(stage.canonical[SLOTS[0]], native.character.template_vertices)


@needs_compiler
@pytest.mark.parametrize(("half", "tolerance"), [(False, FLOAT_M), (True, HALF_M)])
@torch.no_grad()
def test_released_poses_and_maps_are_the_characters(
    toy, released: Avatar, emulated: None, half: bool, tolerance: float
) -> None:
    window = pose_window(toy[1], 19, toy[0].skeleton, released.data.history_offsets)
    stage = PoseStage(released, "cpu", half=half)
    fill(stage, window)
    deformation = released.character.deformation(window.normalised)
    assert deformation is not None
    assert 0.01 < deformation.displacements.abs().max() < 1
    assert 0.01 < deformation.node_translations.abs().max() < 1
    compare_poses(stage, released, window, tolerance)
    compare_maps(stage, released, window, tolerance)


@needs_compiler
@torch.no_grad()
def test_cloth_moves_and_turns_with_its_simulation(toy, emulated: None) -> None:
    generator = np.random.default_rng(0)
    looseness = generator.uniform(0.0, 0.9, len(toy[0].template.vertices)).astype(np.float32)
    looseness[::3] = 0.0
    data = dataclasses.replace(toy[0], cloth=store_model(build_model(toy[0], looseness)))
    assert data.cloth is not None
    avatar = Avatar.from_data(data, preset_name="cpu")
    skinned = pose_window(toy[1], 19, data.skeleton, data.history_offsets)
    stage = PoseStage(avatar, "cpu")
    # Without places the cloth lies where the skinning has it.
    fill(stage, skinned)
    compare_poses(stage, avatar, skinned, 1e-6)
    # Places far from the skin, in each pose others.
    mesh = avatar.character(skinned)
    places = mesh.vertices[:, data.cloth.vertices]
    moved = places + 0.05 * torch.from_numpy(generator.normal(size=places.shape)).float()
    window = dataclasses.replace(skinned, cloth=moved)
    fill(stage, window)
    compare_poses(stage, avatar, window, 2e-6)
    compare_maps(stage, avatar, window, 2e-6)
    assert (stage.transforms[SLOTS[0]][:, :4] - mesh.real).abs().max() > 0.1


@needs_compiler
@torch.no_grad()
def test_only_the_named_slot_changes(toy, native: Avatar, emulated: None) -> None:
    stage = PoseStage(native, "cpu")
    fill(stage, pose_window(toy[1], 19, toy[0].skeleton, toy[0].history_offsets))
    rings = (stage.vertices, stage.normals, stage.canonical, stage.transforms, stage.root)
    before = [ring.clone() for ring in rings]
    fill(
        stage, pose_window(toy[1], 12, toy[0].skeleton, toy[0].history_offsets), (7, 8, 10, 11, 12)
    )
    for ring, old in zip(rings, before, strict=True):
        changed = (ring != old).flatten(1).any(1).nonzero()[:, 0]
        assert changed.tolist() == [7, 8, 10, 11, 12]


@needs_compiler
@torch.no_grad()
def test_the_window_names_the_poses_of_a_map(toy, native: Avatar, emulated: None) -> None:
    stage = PoseStage(native, "cpu")
    window = pose_window(toy[1], 19, toy[0].skeleton, toy[0].history_offsets)
    fill(stage, window, (1, 2, 3, 4, 5))
    fill(stage, pose_window(toy[1], 15, toy[0].skeleton, toy[0].history_offsets), (6, 7, 8, 9, 10))
    stage.window.copy_(torch.tensor([1, 2, 3, 4, 5]))
    compare_maps(stage, native, window, 2e-6)


@needs_compiler
@torch.no_grad()
def test_the_bundled_actor(emulated: None) -> None:
    data, _ = import_ash(Path(__file__).parents[1] / "assets" / "actor" / "actor.conf")
    avatar = Avatar.from_data(data, preset_name="cpu")
    angles = torch.randn(33, len(data.rest_dofs), generator=torch.Generator().manual_seed(0))
    # From one random pose to another: poses drawn anew in each frame would be cuts.
    share = torch.linspace(0, 1, 33, dtype=torch.float64)[:, None]
    motion = Motion(data.rest_dofs + 0.1 * torch.lerp(*angles[:2].double(), share))
    window = pose_window(motion, 32, data.skeleton, data.history_offsets)
    stage = PoseStage(avatar, "cpu")
    fill(stage, window)
    compare_poses(stage, avatar, window, 2e-5)  # normals of faces of a few millimetres
    compare_maps(stage, avatar, window, 2e-5)


@needs_compiler
@pytest.mark.slow
@torch.no_grad()
def test_the_published_sample(reference: Path, emulated: None) -> None:
    sample, _ = import_ash(reference / "ddc_sample")
    networks = {name: seeded_weights(name) for name in ("spatial_gcn", "delta_gcn")}
    data = dataclasses.replace(
        sample, variant="released", history_offsets=RELEASED.history_offsets, networks=networks
    )
    avatar = Avatar(data, RELEASED_ATLAS).eval()
    folder = reference / "ddc_sample" / "skeletoolToGTPose"
    motion = read_motion(folder / "poseAngles.motion", data.skeleton)
    window = pose_window(motion, 600, data.skeleton, data.history_offsets)
    stage = PoseStage(avatar, "cpu")
    stage.inputs.copy_(torch.cat((window.dofs[:1], window.normalised[0])))
    stage.run()
    mesh = avatar.character(window)
    assert_close(stage.vertices[0], mesh.vertices[0], atol=2e-5, rtol=0)
    assert_close(stage.normals[0], mesh.normals[0], atol=1e-2, rtol=0)
    assert_close(stage.transforms[0], torch.cat((mesh.real, mesh.dual), -1), atol=2e-6, rtol=0)


@needs_compiler
@torch.no_grad()
def test_what_threads_come_first_changes_nothing(
    toy, released: Avatar, on_the_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernel reads what another of its threads is still to write."""
    window = pose_window(toy[1], 19, toy[0].skeleton, released.data.history_offsets)
    stages = []
    for order in ("forward", "reverse", 3):

        class Ordered:
            def launch(self, *arguments: Any, order: Any = order) -> None:
                on_the_cpu.launch(*arguments, order=order)

        monkeypatch.setattr(fast, "PROGRAM", Ordered())
        stages.append(PoseStage(released, "cpu"))
        fill(stages[-1], window)
    for stage in stages[1:]:
        assert torch.equal(stage.vertices, stages[0].vertices)
        assert torch.equal(stage.normals, stages[0].normals)


def test_a_skeleton_that_does_not_fit_is_refused(toy, native: Avatar) -> None:
    skeleton = native.character.skeleton
    times = fast.MAX_JOINTS // len(skeleton.joint_names) + 1
    crowded = dataclasses.replace(skeleton, joint_names=skeleton.joint_names * times)
    avatar = Avatar.from_data(toy[0], preset_name="cpu")
    avatar.character.skeleton = crowded
    with pytest.raises(CudaError, match="take 256 joints"):
        PoseStage(avatar, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["native", "float", "half"])
@torch.no_grad()
def test_poses_and_maps_on_a_gpu_in_a_graph(toy, kind: str) -> None:
    data, motion = toy
    if kind == "native":
        avatar = Avatar.from_data(data, "cuda", "cpu")
    else:
        data = dataclasses.replace(
            data,
            variant="released",
            history_offsets=RELEASED.history_offsets,
            networks=graph_networks(data),
        )
        avatar = Avatar(data, RELEASED_ATLAS).eval().to("cuda")
    window = pose_window(motion, 19, data.skeleton, data.history_offsets)
    window = PoseWindow(window.dofs.cuda(), window.normalised.cuda())
    stage = PoseStage(avatar, "cuda", half=kind == "half")
    stage.run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stage.run()
    slots = SLOTS[: len(window.dofs)]
    poses = zip(slots, window.dofs, window.normalised, strict=True)
    for row, (slot, dofs, normalised) in enumerate(poses):
        stage.inputs.copy_(torch.cat((dofs[None], normalised)))
        stage.has_cloth.fill_(window.cloth is not None)
        if window.cloth is not None:
            stage.cloth.copy_(window.cloth[row])
        stage.slot.fill_(slot)
        graph.replay()
    stage.window.copy_(torch.tensor(slots))
    tolerance = {"native": 2e-6, "float": FLOAT_M, "half": HALF_M}[kind]
    compare_poses(stage, avatar, window, tolerance)
    compare_maps(stage, avatar, window, tolerance)
