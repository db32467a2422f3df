"""Patches of the loss: they lie on face, hands and cloth, and the gradient stays within them."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from test_cloth import skirt
from test_training import arguments, run
from test_training_parts import lpips_files, make_setup
from test_true_surface import skirted
from toy import figure, toy_skeleton

from ash_core.cloth.model import store_model
from ash_core.conventions import R_WORLD_BODY
from ash_core.errors import InputError
from ash_core.geometry.camera import camera_from_fov, camera_position, crop_camera, look_at
from ash_core.geometry.motion import pose_window
from ash_core.records import AvatarData, Camera, PosedMesh
from ash_core.scene.open import BUNDLED, load_avatar_data, load_motion, make_renderer
from ash_core.training.config import LossWeights
from ash_core.training.lpips import _shift_tolerant
from ash_core.training.patches import PATCH, PartPatches, cut_patches, part_masks

WIDTH, HEIGHT = 420, 560
CPU = torch.device("cpu")


def bare() -> AvatarData:
    """Load ida without her cloth."""
    return replace(load_avatar_data(BUNDLED), cloth=None)


@cache
def posed() -> PosedMesh:
    data = bare()
    motion = load_motion(None, BUNDLED, data)
    window = pose_window(motion, 60, data.skeleton, data.history_offsets)
    return make_renderer(data, "cpu", "auto", None).avatar.character(window)


def around(count: int = 6) -> list[Camera]:
    """Cameras around the posed mesh; each is a window of a larger image."""
    middle = posed().vertices[0].mean(0) @ torch.tensor(R_WORLD_BODY).T
    ring = []
    for number in range(count):
        angle = torch.tensor(2 * torch.pi * number / count)
        eye = middle + 4 * torch.stack((angle.cos(), angle.sin(), torch.tensor(0.1)))
        camera = camera_from_fov(look_at(eye, middle), 0.6, 640, 640, str(number))
        ring.append(crop_camera(camera, 110, 40, WIDTH, HEIGHT))
    return ring


def project(points: torch.Tensor, camera: Camera) -> torch.Tensor:
    """Pixels of points in the body frame."""
    world = points @ torch.tensor(R_WORLD_BODY).T
    eye = (world - camera_position(camera.viewmat)) @ camera.viewmat[:3, :3].T
    image = eye @ camera.K.T
    return image[:, :2] / image[:, 2:]


def test_parts_are_the_face_the_hands_and_what_swings() -> None:
    data = bare()
    masks = part_masks(data)
    assert list(masks) == ["face", "hands"]
    assert data.hand_mask is not None
    assert int((masks["hands"] ^ data.hand_mask).sum()) < 0.1 * int(data.hand_mask.sum())
    # The face: above everything else's middle, and in front of as much of the head.
    vertices, face = data.template.vertices, masks["face"]
    chin = vertices[face, 1].min()
    rest = (vertices[:, 1] > chin) & ~face
    assert chin > vertices[:, 1].max() - 0.35
    assert vertices[face, 2].min() >= vertices[rest & (vertices[:, 2] < 0), 2].max()
    # Cloth: what is not held by the skinning.
    dressed = replace(skirted().data, cloth=store_model(skirt()))
    assert dressed.cloth is not None
    cloth = part_masks(dressed)["cloth"]
    assert 0 < int(cloth.sum()) < len(dressed.cloth.points)
    assert int(cloth.sum()) == int((dressed.cloth.looseness > 0).sum())


def test_patches_lie_on_their_parts() -> None:
    data, mesh, ring = bare(), posed(), around()
    patches, masks = PartPatches(data, CPU), part_masks(data)
    assert patches.names == ("face", "hands")
    chances = torch.rand(40, len(ring), 2, generator=torch.Generator().manual_seed(0))
    corners = torch.stack([patches.corners(mesh, ring, draw) for draw in chances])
    assert corners.amin() >= 0
    assert (corners <= torch.tensor([WIDTH - PATCH, HEIGHT - PATCH])).all()
    assert len(corners[:, 0, 1].unique(dim=0)) > 20
    eyes = torch.tensor(R_WORLD_BODY).T
    for view, camera in enumerate(ring):
        centre = eyes @ camera_position(camera.viewmat)
        faces = ((centre - mesh.vertices[0]) * mesh.normals[0]).sum(-1) > 0
        points = project(mesh.vertices[0], camera)
        for part, name in enumerate(patches.names):
            shown = points[faces & masks[name]]
            shown = shown if len(shown) else points[faces & masks["hands"]]
            middles = corners[:, view, part] + PATCH / 2
            gaps = (middles[:, None] - shown).abs().amax(-1).amin(1)
            assert float(gaps.max()) <= 0.51, (name, camera.name)


def test_a_part_that_does_not_show_leaves_its_patch_to_another() -> None:
    data, mesh = bare(), posed()
    patches, masks = PartPatches(data, CPU), part_masks(data)
    # A window of the hands alone, far below the face.
    hand = project(mesh.vertices[0][masks["hands"]], around()[0])
    left, top = hand.amin(0).floor().int().tolist()
    side = 80
    whole = around()[0]
    camera = crop_camera(whole, left - 8, top - 8, side, side)
    points = project(mesh.vertices[0][masks["face"]], camera)
    assert not ((points >= 0) & (points < side)).all(1).any()
    corners = patches.corners(mesh, [camera], torch.full((1, 2), 0.4))
    assert torch.equal(corners[0, 0], corners[0, 1])
    # A window of nobody: any place in it.
    nobody = crop_camera(whole, 0, HEIGHT - 40, 40, 40)
    assert patches.corners(mesh, [nobody], torch.zeros(1, 2)).tolist() == [[[0, 0]] * 2]


def test_a_patch_is_a_piece_of_its_image_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 90, 70, 3, requires_grad=True)
    corners = torch.tensor([[[0, 0], [6, 26]], [[3, 10], [5, 12]]])
    patches = cut_patches(images, corners)
    inside = torch.zeros(2, 90, 70, dtype=torch.bool)
    for number, (left, top) in enumerate(corners.view(-1, 2).tolist()):
        part = number // 2, slice(top, top + PATCH), slice(left, left + PATCH)
        assert torch.equal(patches[number], images[part])
        inside[part] = True
    assert not inside.all()
    (gradient,) = torch.autograd.grad(patches.square().sum(), images)
    assert torch.equal(gradient.abs().sum(-1) > 0, inside)
    # Two patches of the second image overlap: theirs add up.
    torch.testing.assert_close(gradient[1, 20, 20], 4 * images[1, 20, 20].detach())
    assert cut_patches(images[:, :40, :30], corners[:, :1] * 0).shape == (2, 40, 30, 3)


def test_a_step_compares_patches_and_resumes_to_the_same_bits(
    footage: Path, tmp_path: Path
) -> None:
    files = tuple(lpips_files(tmp_path, _shift_tolerant()))
    more = {"weights": LossWeights(patch_lpips=0.2), "lpips_weights": files}
    whole, second, plain = (make_setup(footage, **some) for some in (more, more, {}))
    # The loss of the same pose without patches, and theirs.
    batches = whole.batches(0)
    first = next(batches)
    assert first[1].corners is not None
    assert first[1].corners.shape == (2, 1, 2)  # the toy has a head alone
    with torch.no_grad():
        parts = whole.trainer.pose_loss(first[1])[1]
        rest = plain.trainer.pose_loss(next(plain.batches(0))[1])[1]
    assert (parts["patch_lpips"] > 0).all()
    torch.testing.assert_close(parts["loss"], rest["loss"] + 0.2 * parts["patch_lpips"].mean())
    # Two steps, a stop, two more.
    for batch in (first, next(batches)):
        whole.trainer.run_step([batch])
    state = whole.trainer.state(0.0)
    kept = {name: part.clone() for name, part in state.tensors.items()}
    second.trainer.load(replace(state, tensors=kept), "there")
    resumed = second.batches(2)
    for _ in range(2):
        whole.trainer.run_step([next(batches)])
        second.trainer.run_step([next(resumed)])
    for setup in (whole, second, plain):
        setup.close()
    want, got = (one.trainer.flats["decoder"].values for one in (whole, second))
    assert torch.equal(want, got)


def test_patches_need_weights_and_parts(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments(footage, tmp_path / "out", "--weights.patch-lpips", 0.1)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--weights.patch-lpips: LPIPS is missing" in said
    bare = figure(toy_skeleton(), torch.rand(3, 3))
    with pytest.raises(InputError, match=r"expected an avatar with a head, hands or cloth, got"):
        PartPatches(bare, CPU)
